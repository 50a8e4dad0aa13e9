"""Landmark distances (LMD) in both conventions of the field, and what the lips do."""

from __future__ import annotations

from typing import Literal

import numpy as np

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.base import MeanAccumulator

#: Pictures are scored as if they were this wide [px], whatever the crop's size.
EQUIVALENT_SIZE_PX = 256
REGIONS = {"mouth": slice(48, 68), "face": slice(0, 68)}
Region = Literal["mouth", "face"]


def _select(generated_px: np.ndarray, real_px: np.ndarray, region: Region) -> tuple[np.ndarray, np.ndarray]:
    if generated_px.shape != real_px.shape or generated_px.ndim != 3 or generated_px.shape[1:] != (68, 2):
        raise ShapeError(f"landmarks: expected two arrays (T, 68, 2), got {tuple(generated_px.shape)} and {tuple(real_px.shape)}")
    return generated_px[:, REGIONS[region]].astype(np.float64), real_px[:, REGIONS[region]].astype(np.float64)


def lmd_centred_px(generated_px: np.ndarray, real_px: np.ndarray, region: Region, size_px: int) -> np.ndarray:
    """Landmark distance of each frame after subtracting each frame's own mean of the same points: mean Euclidean distance. Lower is better.

    Args:
        generated_px: (T, 68, 2) px of a ``size_px`` wide crop, NaN without a face.
        real_px: (T, 68, 2) px of the real frame, same crop.
        region: ``mouth`` (48-67) or ``face`` (all 68).
        size_px: Width of the crop; the result is scaled to a width of 256.

    Returns:
        (T,) px at 256 px; NaN where either side has no face.

    Unit: px at a width of 256 px.
    Source: the EAT evaluation (https://github.com/yuangan/evaluation_eat), without its dlib alignment.
    Pitfalls: blind to a shifted head by construction; not blind to a turned one.
    """
    generated, real = _select(generated_px, real_px, region)
    difference = (generated - generated.mean(axis=1, keepdims=True)) - (real - real.mean(axis=1, keepdims=True))
    return np.linalg.norm(difference, axis=-1).mean(axis=1) * (EQUIVALENT_SIZE_PX / size_px)


def lmd_raw_px(generated_px: np.ndarray, real_px: np.ndarray, region: Region, size_px: int) -> np.ndarray:
    """Landmark distance of each frame: mean absolute difference over points and over x and y, neither centred nor normalised. Lower is better.

    Arguments and result as :func:`lmd_centred_px`.

    Unit: px at a width of 256 px.
    Source: the ViCo challenge scripts (https://github.com/dc3ea9f/vico_challenge_baseline), which this paper's group names as its evaluation.
    Pitfalls: a per-coordinate value is 1.41 to 2 times smaller than the Euclidean one; head pose dominates it.
    """
    generated, real = _select(generated_px, real_px, region)
    return np.abs(generated - real).mean(axis=(1, 2)) * (EQUIVALENT_SIZE_PX / size_px)


def faces_found_pct(landmarks_px: np.ndarray) -> float:
    """Share of frames in which a face was found: ``100 known / T``. Higher is better; every number from landmarks rests on these frames only.

    Args:
        landmarks_px: (T, 68, 2) px, NaN without a face.

    Returns:
        In [0, 100]; NaN for an empty clip.

    Unit: % of frames.
    Source: ours.
    Pitfalls: a detector may find faces where people would not, and a method whose bad frames show no face is judged by its good ones.
    """
    points = np.asarray(landmarks_px)
    return 100.0 * float((~np.isnan(points).any(axis=(1, 2))).mean()) if len(points) else float("nan")


class LMD(MeanAccumulator):
    """Mean over all frames seen of one landmark distance [px at 256]; frames without a face are left out and counted in ``left_out``.

    Lower is better.
    """

    def __init__(self, region: Region, convention: Literal["centred", "raw"], size_px: int) -> None:
        self.region: Region = region
        self.function = lmd_centred_px if convention == "centred" else lmd_raw_px
        self.size_px = size_px
        super().__init__()

    def update(self, generated_px: np.ndarray, real_px: np.ndarray) -> None:
        self.add(self.function(generated_px, real_px, self.region, self.size_px))


def lip_aperture(landmarks_px: np.ndarray) -> np.ndarray:
    """Opening of the lips: mean of the three inner-lip distances (61-67, 62-66, 63-65) over the outer-eye distance.

    Args:
        landmarks_px: (..., 68, 2) px.

    Returns:
        (...) share of |p36 - p45|, 0 for closed lips.
    """
    points = np.asarray(landmarks_px, dtype=np.float64)
    opening = np.linalg.norm(points[..., [61, 62, 63], :] - points[..., [67, 66, 65], :], axis=-1).mean(axis=-1)
    return opening / np.linalg.norm(points[..., 36, :] - points[..., 45, :], axis=-1)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two equally long series; frames that are NaN in either are left out; NaN when one of them does not move."""
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    if a.shape != b.shape:
        raise ShapeError(f"correlation: series of {a.size} and {b.size} values")
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known] - a[known].mean() if known.any() else a[known], b[known] - b[known].mean() if known.any() else b[known]
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 1e-12 else float("nan")


def lip_correlation(generated_px: np.ndarray, real_px: np.ndarray) -> float:
    """Pearson correlation over time between the lip apertures (:func:`lip_aperture`) of a generated and a real clip. Higher is better.

    Args:
        generated_px: (T, 68, 2) px, NaN without a face.
        real_px: (T, 68, 2) px of the real clip.

    Returns:
        In [-1, 1]; NaN where one of the mouths does not move or no frame has both faces. Two real takes of a sentence reach about 0.97 on true
        landmarks.

    Unit: none.
    Source: ours.
    Pitfalls: blind to how far the mouth opens; a constant delay lowers it as a wrong mouth does.
    """
    return correlation(lip_aperture(generated_px), lip_aperture(real_px))


class LipCorrelation(MeanAccumulator):
    """Mean over clips of :func:`lip_correlation`."""

    def update(self, generated_px: np.ndarray, real_px: np.ndarray) -> None:
        self.add(lip_correlation(generated_px, real_px))
