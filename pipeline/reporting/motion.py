"""Motion of test clips as the figures need it: coefficients by method, eye closure, blinks in seconds, power spectra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.metrics.blinks import blink_events
from pipeline.io import read_npz
from pipeline.reporting.results import Results

__all__ = [
    "EXPRESSIVE", "blink_marks", "closure", "coefficients_of", "curve_clips", "curves_of", "has_named_shapes", "power_spectrum", "shared_clips",
    "spectrum_window",
]  # fmt: skip

_MAX_CLIPS = 4
#: Coefficients that neither blink nor look around: the two that lids and gaze move on their own, whatever the expression.
EXPRESSIVE = tuple(index for name, index in EXPRESSION_INDEX.items() if not name.startswith(("eyeBlink", "eyeLook")))
#: Spectra are taken over windows as long as this quantile of the clips' lengths, within bounds: shorter clips are left out.
_LENGTH_QUANTILE = 0.1
_WINDOW_FRAMES = (16, 50)


def has_named_shapes(beta: np.ndarray) -> bool:
    """Whether coefficients (..., E) are those of the named shapes, so that lids and lips can be told from the rest (BFM's are unnamed)."""
    return beta.shape[-1] == len(EXPRESSIONS)


def closure(beta: np.ndarray) -> np.ndarray:
    """Eye closure [0, 1] of expression coefficients (..., E): mean of both lids."""
    return beta[..., [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]].mean(axis=-1)


def blink_marks(beta: np.ndarray, blink_on: float, blink_off: float) -> np.ndarray:
    """Start and end [s] of every blink (n, 2) of one clip's expression coefficients (T, E).

    Args:
        beta: coefficients at 25 Hz.
        blink_on: eye closure at which a blink starts [1].
        blink_off: eye closure below which it ends [1].
    """
    return blink_events(closure(beta), blink_on, blink_off) / FPS_HZ


def coefficients_of(table: pd.DataFrame, column: str, folder: Path | None, clip: str) -> dict[str, np.ndarray] | None:
    """Coefficients of one clip by its index row, or None."""
    if folder is None or table.empty or column not in table:
        return None
    rows = table[table["clip"] == clip]
    if rows.empty or not rows.iloc[0][column]:
        return None
    path = folder / str(rows.iloc[0][column])
    return read_npz(path) if path.is_file() else None


def curve_clips(results: Results) -> list[str]:
    """Clips whose real and freely generated coefficients both exist, of different emotions as far as possible."""
    both = shared_clips(results)
    emotion = {row["clip"]: row["emotion"] for row in results.crops.to_dict("records")}
    first: dict[str, str] = {}
    for clip in both:
        first.setdefault(emotion.get(clip, ""), clip)
    chosen = list(first.values()) + [clip for clip in both if clip not in first.values()]
    return chosen[:_MAX_CLIPS]


def shared_clips(results: Results) -> list[str]:
    """All clips whose real and freely generated coefficients both exist, sorted."""
    if "flowvqtalker_free" not in results.generated or results.fits.empty:
        return []
    return sorted(set(results.generated["flowvqtalker_free"]["clip"]) & set(results.fits["clip"]))


def curves_of(results: Results, clip: str, methods: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Coefficients of a clip by name: "real" as fitted, then the methods; what does not exist is left out."""
    found = {"real": coefficients_of(results.fits, "file", results.folders.get("fit3dmm"), clip)}
    for method in methods:
        table = results.generated.get(method, pd.DataFrame())
        found[method] = coefficients_of(table, "coefficients", results.folders.get("generate"), clip)
    return {name: arrays for name, arrays in found.items() if arrays is not None}


def spectrum_window(lengths: list[int]) -> int:
    """Frames of the window that all spectra are taken with: what nine clips in ten fill, within 16 and 50 frames."""
    low, high = _WINDOW_FRAMES
    return int(np.clip(np.quantile(lengths, _LENGTH_QUANTILE, method="lower"), low, high))


def power_spectrum(signal: np.ndarray, window_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Power spectral density of motion at 25 Hz by Welch's method: Hann windows that overlap by half, each without its mean.

    Args:
        signal: (T, C) one clip's channels, T >= ``window_frames``; their densities are averaged.
        window_frames: frames of a window; the frequencies lie 25 / ``window_frames`` Hz apart.

    Returns:
        Frequencies (F,) [Hz] above 0 and below half the frame rate, and the density (F,) [unit of the signal squared per Hz]. The two ends
        are left out: the mean that was taken away held the one, and the other counts half.

    Source: scipy.signal.welch.
    """
    from scipy.signal import welch  # here: it takes long to import, and only this figure needs it

    frequency, density = welch(signal, FPS_HZ, "hann", window_frames, detrend="constant", axis=0)
    inside = (frequency > 0) & (frequency < FPS_HZ / 2)
    return frequency[inside], density.mean(axis=1)[inside]
