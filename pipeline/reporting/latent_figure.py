"""Latents of test frames and the prior's components, seen along the directions in which emotions differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowvqtalker.constants import EMOTIONS
from pipeline.io import read_npz

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["emotion_axes", "latent_figure", "own_component_share"]

_MAX_PANELS = 3
#: Radius of the circles around component means, in scales of a component.
_SCALES = 2.0


def emotion_axes(z: np.ndarray, emotion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes of the emotions' mean latents: the orthonormal directions along which emotions differ most.

    Distances in the projection are distances in latent space (an LDA would stretch axes by the spread within emotions).

    Args:
        z: (N, D) latents.
        emotion: (N,) labels.

    Returns:
        Axes (K, D), one less than there are emotions, and the share (K,) of the variance between emotion means along each, falling.
    """
    means = np.stack([z[emotion == label].mean(axis=0) for label in np.unique(emotion)])
    _, sizes, axes = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    axes, sizes = axes[: len(means) - 1], sizes[: len(means) - 1]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]  # the sign of a singular vector is arbitrary: fix it
    return axes, sizes**2 / max(float((sizes**2).sum()), 1e-12)


def own_component_share(z: np.ndarray, emotion: np.ndarray, intensity: np.ndarray, means: np.ndarray) -> tuple[float, int]:
    """Share of frames whose nearest component mean is that of their own emotion, and the number of frames.

    Only neutral frames and those of full intensity count: the prior expects the others between two means.

    Args:
        z: (N, D) latents.
        emotion: (N,) labels.
        intensity: (N,) [0, 1].
        means: (E, D) component means.
    """
    full = (emotion == 0) | (intensity > 0.99)
    if not full.any():
        return float("nan"), 0
    distance = ((z[full, None] - means) ** 2).sum(axis=2)
    return float((distance.argmin(axis=1) == emotion[full]).mean()), int(full.sum())


def latent_figure(path: Path) -> Figure | None:
    """Latents as the training of the flow wrote them: z (N, D), emotion (N,), intensity (N,) and the prior's means (E, D)."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle

    arrays: dict[str, Any] = read_npz(path)
    if not {"z", "emotion", "intensity", "means"} <= set(arrays) or len(np.unique(arrays["emotion"])) < 3:
        return None
    z, means = arrays["z"].astype(float), arrays["means"].astype(float)
    emotion, intensity = arrays["emotion"].astype(int), arrays["intensity"].astype(float)
    axes, shares = emotion_axes(z, emotion)
    panels = min(_MAX_PANELS, len(axes) // 2)
    flat, centres, mixture = z @ axes.T, means @ axes.T, len(np.unique(means, axis=0)) > 1
    # Drawn in one order that mixes emotions, so that none lies on top of the others.
    order = np.argsort(np.arange(len(z)) * 0.6180339887 % 1, kind="stable")
    figure, drawn = plt.subplots(1, panels, figsize=(3.9 * panels, 4.5), squeeze=False, layout="constrained")
    for panel, axis in enumerate(drawn.flat):
        first, second = 2 * panel, 2 * panel + 1
        colours = np.array([f"C{label}" for label in emotion])
        axis.scatter(flat[order, first], flat[order, second], s=5, alpha=0.35, c=colours[order], lw=0)
        for label in np.unique(emotion) if mixture else [0]:
            x, y = centres[label, [first, second]]
            colour = f"C{label}" if mixture else "black"
            axis.add_patch(Circle((x, y), _SCALES, fill=False, color=colour, lw=1.1))
            axis.plot(x, y, marker="X", ms=7, color=colour, markeredgecolor="white", markeredgewidth=0.7)
        axis.set_aspect("equal", adjustable="datalim")
        axis.set_xlabel(f"axis {first + 1} ({100 * shares[first]:.0f} %)")
        axis.set_ylabel(f"axis {second + 1} ({100 * shares[second]:.0f} %)")
    handles = [
        Line2D([], [], marker="o", ls="", ms=5, color=f"C{label}", label=f"{EMOTIONS[label]} (n={int((emotion == label).sum())})")
        for label in np.unique(emotion)
    ]
    handles.append(
        Line2D([], [], marker="X", ls="", ms=7, color="#444444", label=f"component{'s' * mixture} of the prior, circle: {_SCALES:g} scales")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8)
    share, counted = own_component_share(z, emotion, intensity, means)
    nearest = (
        f"; {100 * share:.1f} % of {counted} neutral and level-3 frames lie nearest to their own component" if mixture and counted else ""
    )
    figure.suptitle(
        "Latents of test frames, each under its own emotion, along the principal axes of the emotions' means\n"
        f"the axes drawn hold {100 * shares[: 2 * panels].sum():.0f} % of the variance between emotions{nearest}",
        fontsize=10,
    )
    return figure
