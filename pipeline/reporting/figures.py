"""Figures of the report as PNG files: all of them in the order of the page, and those of learning curves and confusions.

Every function returns a figure or None when its data are absent; `save_figures` writes those that exist with fixed metadata, so equal
results give equal bytes.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.metrics.blinks import OFF_CLOSURE, ON_CLOSURE
from pipeline.io import write_bytes
from pipeline.reporting.grid_figure import emotion_grid_figure
from pipeline.reporting.latent_figure import latent_figure
from pipeline.reporting.motion_figures import blink_figure, eye_figure, pose_figure, spectrum_figure
from pipeline.reporting.results import Results, Training
from pipeline.reporting.style import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["downsample", "make_figures", "save_figures", "series_of"]


def make_figures(results: Results, curve_points: int, *, blink_on: float = ON_CLOSURE, blink_off: float = OFF_CLOSURE) -> dict[str, Figure]:
    """Figures by file stem, in the order of the page.

    Args:
        results: what `read_results` gives.
        curve_points: most points drawn of one learning curve.
        blink_on: eye closure at which a blink starts [1].
        blink_off: eye closure at which it ends [1].
    """
    import matplotlib as mpl

    mpl.use("Agg")
    found: dict[str, Figure | None] = {}
    with mpl.rc_context(STYLE):
        for training in results.trainings:
            found[f"training_{training.name.replace('/', '_')}"] = _training_figure(training, curve_points)
        found["emotion_grid"] = emotion_grid_figure(results)
        found["pose_curves"] = pose_figure(results)
        found["eye_opening"] = eye_figure(results, blink_on, blink_off)
        found["blink_intervals"] = blink_figure(results, blink_on, blink_off)
        found["motion_spectrum"] = spectrum_figure(results)
        found["emotion_confusion"] = _confusion_figure(results)
        for training in results.trainings:
            if training.latents is not None:
                found[f"latents_{training.name.replace('/', '_')}"] = latent_figure(training.latents)
    return {stem: figure for stem, figure in found.items() if figure is not None}


def save_figures(figures: dict[str, Figure], folder: Path) -> dict[str, bytes]:
    """Writes `<stem>.png` files, removes older ones that are no longer made, and returns the bytes for the page."""
    import matplotlib.pyplot as plt

    written: dict[str, bytes] = {}
    for stem, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
        plt.close(figure)
        written[stem] = buffer.getvalue()
        write_bytes(folder / f"{stem}.png", written[stem])
    for path in sorted(folder.glob("*.png")):
        if path.stem not in written:
            path.unlink()
    return written


def series_of(history: pd.DataFrame, curve_points: int) -> dict[str, dict[str, np.ndarray]]:
    """Learning curves by value name and split: name -> split -> (n, 2) array of step and value, finite values only.

    A split such as `perceptual_train` (a second network trained by the same stage) becomes the split `train` of `perceptual: <name>`.
    """
    if history.empty or not {"step", "split", "name", "value"} <= set(history.columns):
        return {}
    found: dict[str, dict[str, np.ndarray]] = {}
    ordered = history.sort_values("step", kind="stable")
    names, splits = ordered["name"].astype(str).to_numpy(), ordered["split"].astype(str).to_numpy()
    points = np.stack([ordered["step"].to_numpy(float), ordered["value"].to_numpy(float)], axis=1)
    for split, name in sorted(set(zip(splits, names, strict=True))):
        network, _, plain = split.rpartition("_")
        curve = points[(splits == split) & (names == name)]
        curve = curve[np.isfinite(curve).all(axis=1)]
        if len(curve):
            found.setdefault(f"{network}: {name}" if network else name, {})[plain] = downsample(curve, curve_points)
    return dict(sorted(found.items()))


def downsample(curve: np.ndarray, n_points: int) -> np.ndarray:
    """Means of neighbouring points, so that a curve of any length is drawn with at most `n_points`; (n, 2) -> (<= n_points, 2).

    Example:
        >>> downsample(np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 5.0], [3.0, 7.0]]), 2).tolist()
        [[0.5, 2.0], [2.5, 6.0]]
    """
    if len(curve) <= n_points:
        return curve
    return np.stack([part.mean(axis=0) for part in np.array_split(curve, n_points)])


def _training_figure(training: Training, curve_points: int) -> Figure | None:
    import matplotlib.pyplot as plt

    series = series_of(training.history, curve_points)
    moving = {name: splits for name, splits in series.items() if any(len(np.unique(curve[:, 1])) > 1 for curve in splits.values())}
    if not moving:
        return None
    still, series = len(series) - len(moving), moving
    columns = min(4, len(series))
    rows = -(-len(series) // columns)
    width, height = 3.1 * columns, 2.2 * rows + 0.3
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    # Dozens of equal panels: margins in inches, since an automatic layout takes longer than all the drawing.
    figure.subplots_adjust(left=0.55 / width, right=1 - 0.1 / width, bottom=0.3 / height, top=1 - 0.6 / height, wspace=0.3, hspace=0.4)
    for axis, (name, splits) in zip(axes.flat, series.items(), strict=False):
        for split, curve in splits.items():
            train = split == "train"
            axis.plot(
                curve[:, 0], curve[:, 1], color="#2563eb" if train else "#c2410c", lw=1.1, marker=None if train else ".", ms=4, label=split
            )
        axis.set_title(name, fontsize=9)
        axis.legend(fontsize=7)
    for axis in axes.flat[len(series) :]:
        axis.set_visible(False)
    title = f"{training.name}, over steps" + (
        f"; left out: {still} {'value that never changes' if still == 1 else 'values that never change'}" if still else ""
    )
    figure.suptitle(title, fontsize=10, y=1 - 0.15 / height)
    return figure


#: Column of a per-clip table with the judge's answer.
_PREDICTED = "emotion_verdict"


def _confusion(table: pd.DataFrame) -> np.ndarray | None:
    if not {"emotion", _PREDICTED} <= set(table.columns):
        return None
    counts = np.zeros((len(EMOTIONS), len(EMOTIONS)))
    for true, guess in zip(table["emotion"], table[_PREDICTED], strict=True):
        if true in EMOTIONS and guess in EMOTIONS:
            counts[EMOTIONS.index(true), EMOTIONS.index(guess)] += 1
    return counts if counts.any() else None


def _confusion_figure(results: Results) -> Figure | None:
    import matplotlib.pyplot as plt

    wanted = ("ground_truth", "codebook_ceiling", "flowvqtalker_paired", "flowvqtalker_free")
    tables = {method: counts for method in wanted if (counts := _confusion(results.per_clip.get(method, pd.DataFrame()))) is not None}
    if not tables:
        return None
    figure, axes = plt.subplots(1, len(tables), figsize=(3.3 * len(tables) + 0.6, 3.6), squeeze=False, layout="constrained")
    for axis, (method, counts) in zip(axes.flat, tables.items(), strict=True):
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
        axis.grid(visible=False)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axis.text(
                    column,
                    row,
                    f"{int(count)}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if share[row, column] > 0.5 else "black",
                )
        axis.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=60, ha="right", fontsize=7)
        axis.set_yticks(range(len(EMOTIONS)), EMOTIONS if axis is axes[0, 0] else [""] * len(EMOTIONS), fontsize=7)
        axis.set_title(f"{method}  (n={int(counts.sum())})", fontsize=8)
    axes[0, 0].set_ylabel("labelled")
    figure.suptitle("Labelled emotion (rows),\njudge's answer (columns)", fontsize=10)
    return figure
