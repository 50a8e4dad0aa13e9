"""Figures of motion over time: head pose, lids and jaw with blinks, blink intervals, spectra; each is None when its data are absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.flow.diagnostics import lip_opening
from flowvqtalker.metrics.blinks import BlinkStatistics
from pipeline.io import read_npz
from pipeline.methods import METHODS
from pipeline.reporting.motion import (
    EXPRESSIVE,
    blink_marks,
    closure,
    curve_clips,
    curves_of,
    has_named_shapes,
    power_spectrum,
    shared_clips,
    spectrum_window,
)
from pipeline.reporting.results import Results
from pipeline.reporting.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["blink_figure", "eye_figure", "pose_figure", "spectrum_figure"]

#: Seconds of a long free sample in the figure of the eyes: test clips are too short for more than a blink or two.
_LONG_SECONDS = 30
#: Share of clips outside a spectrum's band, at either end.
_BAND = 0.1
#: Expression is drawn up to here: its panel is about the slow motion of a face; lips and lids, which are fast, are shown on their own.
_EXPRESSION_HZ = 5.0


def pose_figure(results: Results) -> Figure | None:
    """Head rotation over time of some test clips, fitted to the real video and sampled freely."""
    import matplotlib.pyplot as plt

    clips = curve_clips(results)
    if not clips:
        return None
    figure, axes = plt.subplots(
        3, len(clips), figsize=(3.1 * len(clips), 5.2), squeeze=False, sharex="col", sharey="row", layout="constrained"
    )
    for column, clip in enumerate(clips):
        for name, arrays in curves_of(results, clip, ("flowvqtalker_free",)).items():
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


def eye_figure(results: Results, blink_on: float, blink_off: float) -> Figure | None:
    """Eye closure with its blinks and jaw opening over time of some test clips, and the lids of half a minute of a free sample."""
    import matplotlib.pyplot as plt

    clips = [
        clip for clip in curve_clips(results) if all(has_named_shapes(curve["beta"]) for curve in curves_of(results, clip, ()).values())
    ]
    if not clips:
        return None
    long = _long_beta(results, "flowvqtalker_free")
    rows = 2 if long is None else 3
    figure = plt.figure(figsize=(3.1 * len(clips), 1.9 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, len(clips))
    lids = [figure.add_subplot(grid[0, column]) for column in range(len(clips))]
    jaws = [figure.add_subplot(grid[1, column], sharex=lids[column]) for column in range(len(clips))]
    for lid, jaw, clip in zip(lids, jaws, clips, strict=True):
        for place, (name, arrays) in enumerate(curves_of(results, clip, ("flowvqtalker_free", "regression")).items()):
            beta = arrays["beta"].reshape(-1, *arrays["beta"].shape[-2:])[0]
            _lid_curve(lid, beta, name, place, blink_on, blink_off)
            jaw.plot(np.arange(len(beta)) / FPS_HZ, beta[:, EXPRESSION_INDEX["jawOpen"]], color=COLOURS[name], lw=1.2)
        lid.set_title(clip, fontsize=8)
        lid.tick_params(labelbottom=False)
        jaw.set_xlabel("time [s]")
        jaw.set_ylim(-0.03, 1.03)  # coefficients live in [0, 1]: a fixed scale keeps small ripples small
    if long is not None:
        axis = figure.add_subplot(grid[2, :])
        beta = long[0, : _LONG_SECONDS * FPS_HZ]
        _lid_curve(axis, beta, "flowvqtalker_free", 1, blink_on, blink_off)
        axis.set_xlim(0, len(beta) / FPS_HZ)
        axis.set_xlabel("time of a longer free sample [s]")
        lids.append(axis)
    for axis in lids:
        axis.set_ylim(-0.03, 1.36)
        axis.set_yticks([0, 0.5, 1])
        for level in (blink_on, blink_off):
            axis.axhline(level, color="#888888", lw=0.6, ls=":")
    for axis in (lids[0], *lids[len(clips) :]):
        axis.set_ylabel("eye closure")
    jaws[0].set_ylabel("jaw opening")
    for axes in (lids[1 : len(clips)], jaws[1:]):
        for axis in axes:
            axis.tick_params(labelleft=False)
    figure.legend(*lids[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(
        f"Lids are one-to-many (a sample need not match), the jaw follows the sound\nbars: blinks, from a closure of {blink_on:g} "
        f"until below {blink_off:g}",
        fontsize=10,
    )
    return figure


def _lid_curve(axis: Axes, beta: np.ndarray, name: str, place: int, blink_on: float, blink_off: float) -> None:
    """Eye closure of (T, E) coefficients, with a bar over the curves for each blink; bars of several curves lie above each other."""
    axis.plot(np.arange(len(beta)) / FPS_HZ, closure(beta), color=COLOURS[name], lw=1.2, label=name)
    marks = blink_marks(beta, blink_on, blink_off)
    # Events end with the first open frame, so that a blink of one frame still has a length.
    axis.hlines(np.full(len(marks), 1.08 + 0.1 * place), marks[:, 0], marks[:, 1], color=COLOURS[name], lw=3)


def _long_beta(results: Results, method: str) -> np.ndarray | None:
    """Expressions (N, T, E) float32 of a method's long samples, or None."""
    beta = read_npz(results.long[method]).get("beta") if method in results.long else None
    return beta.reshape(-1, *beta.shape[-2:]).astype(np.float32) if beta is not None and beta.size else None


def _windows(curves: list[np.ndarray], length: int) -> list[np.ndarray]:
    return [curve[start : start + length] for curve in curves for start in range(0, len(curve) - length + 1, length)]


def blink_figure(results: Results, blink_on: float, blink_off: float) -> Figure | None:
    """Real clips are a few seconds long and cut off long pauses, so generated rollouts are cut into windows of the same length."""
    import matplotlib.pyplot as plt

    folder = results.folders.get("fit3dmm")
    if folder is None or results.fits.empty:
        return None
    talk = set(results.crops.loc[results.crops["role"] != "enrol", "clip"]) if "role" in results.crops else set(results.fits["clip"])
    real = [
        read_npz(folder / str(file))["beta"] for clip, file in zip(results.fits["clip"], results.fits["file"], strict=True) if clip in talk
    ]
    curves = {"real": [closure(beta) for beta in real if len(beta) and has_named_shapes(beta)]}
    if not curves["real"]:
        return None
    length = int(np.median([len(curve) for curve in curves["real"]]))
    for method in ("flowvqtalker_free", "flowvqtalker_paired", "regression"):
        beta = _long_beta(results, method)
        if beta is not None:
            curves[method] = list(closure(beta))
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


def _rotation(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.rad2deg(arrays["pose"][:, :3])


def _expression(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return arrays["beta"][:, EXPRESSIVE] if has_named_shapes(arrays["beta"]) else arrays["beta"]


def _lips(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return lip_opening(arrays["beta"])[:, None]


#: Title, unit, channels of one clip, and the highest frequency drawn of every panel of the spectra.
_SIGNALS: tuple[tuple[str, str, Callable[[dict[str, np.ndarray]], np.ndarray], float], ...] = (
    ("head rotation, mean of 3 angles", "deg$^2$ / Hz", _rotation, FPS_HZ / 2),
    ("expression without lids and gaze, mean", "1 / Hz", _expression, _EXPRESSION_HZ),
    ("opening of the lips", "1 / Hz", _lips, FPS_HZ / 2),
)


def spectrum_figure(results: Results) -> Figure | None:
    """Power spectral density of head, expression and lips of the same test clips, real, sampled freely and by the regression."""
    import matplotlib.pyplot as plt

    clips = [curves_of(results, clip, ("flowvqtalker_free", "regression")) for clip in shared_clips(results)]
    clips = [curves for curves in clips if {"real", "flowvqtalker_free"} <= curves.keys()]
    if not clips:
        return None
    window = spectrum_window([len(arrays["beta"]) for curves in clips for arrays in curves.values()])
    figure, axes = plt.subplots(1, 3, figsize=(11.4, 3.6), layout="constrained")
    drawn = False
    for axis, (title, unit, channels, highest_hz) in zip(axes, _SIGNALS, strict=True):
        for name in ("real", "flowvqtalker_free", "regression"):
            if channels is _rotation and name in METHODS and METHODS[name].pose == "fitted":
                continue  # its head is the real one
            spectra = [
                power_spectrum(channels(curves[name]), window)
                for curves in clips
                if name in curves
                and len(curves[name]["beta"]) >= window
                and (channels is not _lips or has_named_shapes(curves[name]["beta"]))
            ]
            if not spectra:
                continue
            frequency = spectra[0][0]
            shown = frequency <= highest_hz
            density = np.stack([values for _, values in spectra])[:, shown]
            low, middle, high = np.quantile(density, (_BAND, 0.5, 1 - _BAND), axis=0)
            axis.fill_between(frequency[shown], low, high, color=COLOURS[name], alpha=0.16, lw=0)
            axis.plot(frequency[shown], middle, color=COLOURS[name], lw=1.5, marker=".", ms=4, label=f"{name} (n={len(spectra)})")
            drawn = True
        if not axis.get_lines():
            axis.set_visible(False)
            continue
        axis.set_xscale("log")
        axis.set_yscale("log")
        ticks = [tick for tick in (0.5, 1, 2, 5, 10) if tick <= highest_hz]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("frequency [Hz]")
        axis.set_ylabel(f"power spectral density [{unit}]")
        axis.legend(fontsize=7)
    if not drawn:
        plt.close(figure)
        return None
    figure.suptitle(
        f"Spectrum of motion over windows of {window / FPS_HZ:.2f} s: median of the test clips, band from the {100 * _BAND:.0f}th to the "
        f"{100 * (1 - _BAND):.0f}th percentile",
        fontsize=10,
    )
    return figure
