"""Figures of the report as PNG files: learning curves, head pose and eye opening over time, blink intervals, confusions, latents.

Every function returns a figure or None when its data are absent; `save_figures` writes those that exist with fixed metadata, so equal
results give equal bytes.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.metrics.blinks import OFF_CLOSURE, ON_CLOSURE, BlinkStatistics
from pipeline.io import read_npz, write_bytes
from pipeline.reporting.results import Results, Training

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["closure", "downsample", "make_figures", "save_figures", "series_of"]

#: Colours of methods in every figure; the page uses the same ones.
COLOURS = {
    "real": "#444b54",
    "flowvqtalker_free": "#c2410c",
    "flowvqtalker_paired": "#0f766e",
    "regression": "#6d28d9",
}
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "svg.hashsalt": "flowvqtalker",
}
_MAX_CLIPS = 4


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
        found["pose_curves"] = _pose_figure(results)
        found["eye_opening"] = _eye_figure(results)
        found["blink_intervals"] = _blink_figure(results, blink_on, blink_off)
        found["emotion_confusion"] = _confusion_figure(results)
        for training in results.trainings:
            if training.latents is not None:
                found[f"latents_{training.name.replace('/', '_')}"] = _latent_figure(training.latents)
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


def closure(beta: np.ndarray) -> np.ndarray:
    """Eye closure [0, 1] of expression coefficients (..., E): mean of both lids."""
    return beta[..., [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]].mean(axis=-1)


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


def _coefficients(table: pd.DataFrame, column: str, folder: Path | None, clip: str) -> dict[str, np.ndarray] | None:
    """Coefficients of one clip by its index row, or None."""
    if folder is None or table.empty or column not in table:
        return None
    rows = table[table["clip"] == clip]
    if rows.empty or not rows.iloc[0][column]:
        return None
    path = folder / str(rows.iloc[0][column])
    return read_npz(path) if path.is_file() else None


def _curve_clips(results: Results) -> list[str]:
    """Clips whose real and freely generated coefficients both exist, of different emotions as far as possible."""
    if "flowvqtalker_free" not in results.generated or results.fits.empty:
        return []
    both = sorted(set(results.generated["flowvqtalker_free"]["clip"]) & set(results.fits["clip"]))
    emotion = {row["clip"]: row["emotion"] for row in results.crops.to_dict("records")}
    first: dict[str, str] = {}
    for clip in both:
        first.setdefault(emotion.get(clip, ""), clip)
    chosen = list(first.values()) + [clip for clip in both if clip not in first.values()]
    return chosen[:_MAX_CLIPS]


def _curves(results: Results, clip: str, methods: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    found = {"real": _coefficients(results.fits, "file", results.folders.get("fit3dmm"), clip)}
    for method in methods:
        found[method] = _coefficients(results.generated.get(method, pd.DataFrame()), "coefficients", results.folders.get("generate"), clip)
    return {name: arrays for name, arrays in found.items() if arrays is not None}


def _pose_figure(results: Results) -> Figure | None:
    import matplotlib.pyplot as plt

    clips = _curve_clips(results)
    if not clips:
        return None
    figure, axes = plt.subplots(
        3, len(clips), figsize=(3.1 * len(clips), 5.2), squeeze=False, sharex="col", sharey="row", layout="constrained"
    )
    for column, clip in enumerate(clips):
        for name, arrays in _curves(results, clip, ("flowvqtalker_free",)).items():
            pose = np.rad2deg(arrays["pose"][..., :3].reshape(-1, arrays["pose"].shape[-2], 3)[0])
            for row in range(3):
                axes[row, column].plot(np.arange(len(pose)) / FPS_HZ, pose[:, row], color=COLOURS[name], lw=1.2, label=name)
        axes[0, column].set_title(clip, fontsize=8)
        axes[2, column].set_xlabel("time [s]")
    for row, label in enumerate(("nod rx [deg]", "turn ry [deg]", "tilt rz [deg]")):
        axes[row, 0].set_ylabel(label)
    axes[0, 0].legend(fontsize=7)
    figure.suptitle("Head rotation: fitted to the real clip, and one free sample for the same sound", fontsize=10)
    return figure


def _eye_figure(results: Results) -> Figure | None:
    import matplotlib.pyplot as plt

    clips = _curve_clips(results)
    if not clips:
        return None
    figure, axes = plt.subplots(
        2, len(clips), figsize=(3.1 * len(clips), 3.8), squeeze=False, sharex="col", sharey="row", layout="constrained"
    )
    for column, clip in enumerate(clips):
        for name, arrays in _curves(results, clip, ("flowvqtalker_free", "regression")).items():
            beta = arrays["beta"].reshape(-1, *arrays["beta"].shape[-2:])[0]
            seconds = np.arange(len(beta)) / FPS_HZ
            axes[0, column].plot(seconds, closure(beta), color=COLOURS[name], lw=1.2, label=name)
            axes[1, column].plot(seconds, beta[:, EXPRESSION_INDEX["jawOpen"]], color=COLOURS[name], lw=1.2, label=name)
        axes[0, column].set_title(clip, fontsize=8)
        axes[1, column].set_xlabel("time [s]")
    for axis in axes.flat:
        axis.set_ylim(-0.03, 1.03)  # coefficients live in [0, 1]: a fixed scale keeps small ripples small
    axes[0, 0].set_ylabel("eye closure")
    axes[1, 0].set_ylabel("jaw opening")
    axes[0, 0].legend(fontsize=7)
    figure.suptitle("Lids are one-to-many (a sample need not match), the jaw follows the sound", fontsize=10)
    return figure


def _windows(curves: list[np.ndarray], length: int) -> list[np.ndarray]:
    return [curve[start : start + length] for curve in curves for start in range(0, len(curve) - length + 1, length)]


def _blink_figure(results: Results, blink_on: float, blink_off: float) -> Figure | None:
    """Real clips are a few seconds long and cut off long pauses, so generated rollouts are cut into windows of the same length."""
    import matplotlib.pyplot as plt

    folder = results.folders.get("fit3dmm")
    if folder is None or results.fits.empty:
        return None
    talk = set(results.crops.loc[results.crops["role"] != "enrol", "clip"]) if "role" in results.crops else set(results.fits["clip"])
    real = [
        read_npz(folder / str(file))["beta"] for clip, file in zip(results.fits["clip"], results.fits["file"], strict=True) if clip in talk
    ]
    curves = {"real": [closure(beta) for beta in real if len(beta)]}
    if not curves["real"]:
        return None
    length = int(np.median([len(curve) for curve in curves["real"]]))
    for method in ("flowvqtalker_free", "flowvqtalker_paired", "regression"):
        beta = read_npz(results.long[method]).get("beta") if method in results.long else None
        if beta is not None and beta.size:
            curves[method] = list(closure(beta.reshape(-1, *beta.shape[-2:]).astype(np.float32)))
    if len(curves) < 2:
        return None
    numbers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, closures in curves.items():
        blinks = BlinkStatistics(FPS_HZ, blink_on, blink_off)
        for window in _windows(closures, length):
            blinks.update(window)
        numbers[name] = (np.array(blinks.intervals_s), np.array(blinks.durations_s))
    if not any(len(shut) for _, shut in numbers.values()):
        return None
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.0), layout="constrained")
    for axis, which, edges in ((axes[0], 0, np.arange(0, length / FPS_HZ + 0.2, 0.2)), (axes[1], 1, np.arange(0, 0.84, 0.04))):
        for name, pair in numbers.items():
            values = pair[which]
            weights = np.full(len(values), 1 / max(len(values), 1))
            axis.hist(values, bins=edges, weights=weights, histtype="step", lw=1.5, color=COLOURS[name], label=f"{name} (n={len(values)})")
        axis.legend(fontsize=7)
    axes[0].set_xlabel("from one closing to the next [s]")
    axes[1].set_xlabel("eyes closed [s]")
    axes[0].set_ylabel("share of blinks")
    figure.suptitle(f"Blinks in windows of {length / FPS_HZ:.1f} s", fontsize=10)
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


def _latent_figure(path: Path) -> Figure | None:
    """First two principal axes of held-out latents z (n, D), coloured by emotion (n,) as the flow's own training wrote them."""
    import matplotlib.pyplot as plt

    arrays: dict[str, Any] = read_npz(path)
    if not {"z", "emotion"} <= set(arrays) or len(arrays["z"]) < 3:
        return None
    z, emotion = arrays["z"].astype(float), arrays["emotion"].astype(int)
    centred = z - z.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]  # the sign of a singular vector is arbitrary: fix it
    flat = centred @ axes[:2].T
    figure, axis = plt.subplots(figsize=(5.0, 4.2), layout="constrained")
    for index, name in enumerate(EMOTIONS):
        points = flat[emotion == index]
        if len(points):
            axis.scatter(points[:, 0], points[:, 1], s=6, alpha=0.6, label=name, color=f"C{index}")
    axis.legend(fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axis.set_xlabel("first principal axis")
    axis.set_ylabel("second principal axis")
    figure.suptitle("Latent space of held-out frames by emotion", fontsize=10)
    return figure
