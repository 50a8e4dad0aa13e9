"""The 68 points (iBUG 300-W order) and what a landmark back end returns.

Left and right are the subject's; 0-16 run along the jaw from the subject's right ear, i.e. from the left side of the picture.
Order: Sagonas et al., "300 Faces in-the-Wild Challenge", 2013 (https://ibug.doc.ic.ac.uk/resources/300-W/).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flowvqtalker.constants import LEFT_LID_PAIRS, LIP_PAIRS, RIGHT_LID_PAIRS
from flowvqtalker.face.expressions import BLENDSHAPE_FLIP as BLENDSHAPE_FLIP
from flowvqtalker.face.expressions import BLENDSHAPES as BLENDSHAPES

N_LANDMARKS = 68

JAW = tuple(range(17))
RIGHT_BROW = tuple(range(17, 22))
LEFT_BROW = tuple(range(22, 27))
NOSE = tuple(range(27, 36))
RIGHT_EYE = tuple(range(36, 42))
LEFT_EYE = tuple(range(42, 48))
OUTER_LIPS = tuple(range(48, 60))
INNER_LIPS = tuple(range(60, 68))
MOUTH = OUTER_LIPS + INNER_LIPS
EYES = RIGHT_EYE + LEFT_EYE
GROUPS: dict[str, tuple[int, ...]] = {
    "jaw": JAW,
    "right_brow": RIGHT_BROW,
    "left_brow": LEFT_BROW,
    "nose": NOSE,
    "right_eye": RIGHT_EYE,
    "left_eye": LEFT_EYE,
    "outer_lips": OUTER_LIPS,
    "inner_lips": INNER_LIPS,
}

#: ``points[..., FLIP, :]`` are the points of the mirrored picture in the usual order (after u -> W - 1 - u).
FLIP = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)


def has_face(landmarks_px: np.ndarray) -> np.ndarray:
    """(T,) bool: frames whose landmarks (T, 68, 2) are all finite."""
    return np.asarray(np.isfinite(landmarks_px).all(axis=(1, 2)))


@dataclass(frozen=True)
class Detections:
    """Landmarks of a run of T frames.

    Attributes:
        landmarks_px: (T, 68, 2) float32, (u, v) in pixels of the given frames, integer = pixel centre; all NaN without a face.
        score: (T,) float32 in [0, 1], the back end's own confidence that there is a face.
        blendshapes: (T, 52) float32 in [0, 1] in ``BLENDSHAPES`` order, NaN without a face; None when the back end has none.
        points478: (T, 478, 2) float32 px, the back end's own dense points; None when it has none.
    """

    landmarks_px: np.ndarray
    score: np.ndarray
    blendshapes: np.ndarray | None = None
    points478: np.ndarray | None = None

    @property
    def present(self) -> np.ndarray:
        """(T,) bool: frames with a face."""
        return has_face(self.landmarks_px)


def join_detections(parts: list[Detections]) -> Detections:
    """Detections of consecutive pieces of a video as one."""

    def joined(name: str) -> np.ndarray | None:
        arrays = [getattr(part, name) for part in parts]
        return None if not arrays or any(array is None for array in arrays) else np.concatenate(arrays)

    if not parts:
        return Detections(np.zeros((0, N_LANDMARKS, 2), np.float32), np.zeros(0, np.float32))
    return Detections(*(joined(name) for name in ("landmarks_px", "score", "blendshapes", "points478")))  # type: ignore[arg-type]


class Landmarker(Protocol):
    """A landmark back end. Every call starts afresh: results never depend on the videos seen before."""

    def detect(self, frames: np.ndarray, *, video: bool = True) -> Detections:
        """Find the largest face in each frame.

        Args:
            frames: (T, H, W, 3) uint8 RGB.
            video: True when the frames follow each other at 25 fps, False for pictures that have nothing to do with each other.
        """
        ...

    def detect_pieces(self, pieces: Iterable[np.ndarray]) -> Detections:
        """The same for a video that comes in pieces; memory does not grow with its length."""
        ...


def check_frames(frames: np.ndarray) -> None:
    """Raise ValueError unless ``frames`` is (T, H, W, 3) uint8."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames: expected uint8 (T, H, W, 3), got {frames.dtype} {frames.shape}")


def outer_eye_distance(points: np.ndarray) -> np.ndarray:
    """|p36 - p45|, the length that landmark errors are measured in.

    Args:
        points: (..., 68, 2).

    Returns:
        (...,) in the unit of the points.
    """
    return np.linalg.norm(points[..., 36, :] - points[..., 45, :], axis=-1)


def landmark_error(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean distance over the points in units of the truth's outer-eye distance (NME of 300-W).

    Args:
        found: (..., 68, 2) px.
        truth: (..., 68, 2) in the same pixels.

    Returns:
        (...,) share; 0.03 means 3 %. NaN where a point is NaN.
    """
    return np.linalg.norm(found - truth, axis=-1).mean(axis=-1) / outer_eye_distance(truth)


def _pair_gap(points: np.ndarray, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    return np.mean([np.linalg.norm(points[..., a, :] - points[..., b, :], axis=-1) for a, b in pairs], axis=0)


def eye_openness(points: np.ndarray) -> np.ndarray:
    """Eye aspect ratio of both eyes: lid gap over eye width (Soukupova and Cech 2016, "Real-time eye blink detection").

    Args:
        points: (..., 68, 2).

    Returns:
        (..., 2) right eye, left eye; about 0.3 open, 0.1 or less closed.
    """
    right = _pair_gap(points, RIGHT_LID_PAIRS) / np.linalg.norm(points[..., 36, :] - points[..., 39, :], axis=-1)
    left = _pair_gap(points, LEFT_LID_PAIRS) / np.linalg.norm(points[..., 42, :] - points[..., 45, :], axis=-1)
    return np.stack([right, left], axis=-1)


def lip_aperture(points: np.ndarray) -> np.ndarray:
    """Gap between the inner lips (mean of three pairs) in units of the outer-eye distance; (...,)."""
    return _pair_gap(points, LIP_PAIRS) / outer_eye_distance(points)


def pieces_of(frames: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut a video into runs of at most ``size`` frames."""
    for start in range(0, len(frames), size):
        yield frames[start : start + size]
