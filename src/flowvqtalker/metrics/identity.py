"""Does the generated face stay the same person? Cosine of face descriptors, named by what made them."""

from __future__ import annotations

import numpy as np

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.base import MeanAccumulator

#: Cells along a side of :func:`mean_face`.
CELLS = 8


def mean_face(faces: np.ndarray) -> np.ndarray:
    """A person's look in 192 numbers: the mean over time of upright face cuts, averaged to 8 x 8 cells of three colours. Nothing is trained.

    Args:
        faces: (T, 3, s, s) uint8 cuts at the place of the rigid face (``experts.crops.cut``), s divisible by 8.

    Returns:
        (192,) float64 in [0, 1].

    Source: ours. A descriptor without training knows every domain alike and cannot have learnt the generator's mistakes; on our rendered people it
    tells persons apart better than features trained on them (docs/metrics.md has the measured share).
    """
    if faces.ndim != 4 or faces.shape[1] != 3 or faces.shape[2] != faces.shape[3] or faces.shape[2] % CELLS or not len(faces):
        raise ShapeError(f"faces: expected (T, 3, s, s) with s divisible by {CELLS} and T at least 1, got {tuple(faces.shape)}")
    cell = faces.shape[2] // CELLS
    return faces.mean(axis=0, dtype=np.float64).reshape(3, CELLS, cell, CELLS, cell).mean(axis=(2, 4)).ravel() / 255.0


def identity_similarity(generated: np.ndarray, real: np.ndarray, centre: np.ndarray | None = None) -> float:
    """Cosine between the face descriptors of two clips (CSIM): ``a . b / (|a| |b|)`` with a, b less the mean descriptor of all real people.

    Args:
        generated: (D,) descriptor or embedding of the generated clip.
        real: (D,) of a real clip of the person that is meant.
        centre: (D,) mean over real persons; without it all faces look alike, since all are faces.

    Returns:
        In [-1, 1]; 1 for the same picture. NaN when either side has no direction. Higher is better.

    Unit: none (a cosine).
    Source: CSIM of the field (there on ArcFace features, Deng et al., CVPR 2019); here the descriptor is the caller's and belongs beside the number.
    Pitfalls: skin, light and framing count as identity; a copied still reaches the greatest value; read it against ``other_take`` and against
    how well it tells real persons apart (:func:`verification_auc`).
    """
    a, b = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ShapeError(f"identity: expected two descriptors (D,), got {tuple(a.shape)} and {tuple(b.shape)}")
    if centre is not None:
        a, b = a - centre, b - centre
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 0 else float("nan")


def verification_auc(same: np.ndarray, different: np.ndarray) -> float:
    """How well a similarity tells pairs of one person from pairs of two: P(same > different) + P(equal) / 2, the area under the ROC curve.

    Args:
        same: (N,) similarities of pairs of clips of one person.
        different: (M,) similarities of pairs of two persons.

    Returns:
        In [0, 1]; 0.5 is chance, 1 never errs. NaN without pairs. It is the own accuracy of whatever ``identity_similarity`` rests on.
    """
    left, right = np.asarray(same, np.float64).ravel(), np.sort(np.asarray(different, np.float64).ravel())
    if not left.size or not right.size:
        return float("nan")
    below = np.searchsorted(right, left, side="left") + np.searchsorted(right, left, side="right")
    return float(below.mean() / (2.0 * right.size))


def pairwise_auc(descriptors: np.ndarray, persons: np.ndarray, centre: np.ndarray | None = None) -> float:
    """:func:`verification_auc` over all pairs of (N, D) descriptors with (N,) names of their persons."""
    rows = np.asarray(descriptors, np.float64) - (0.0 if centre is None else centre)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    first, second = np.triu_indices(len(rows), 1)
    similarity, alike = (rows @ rows.T)[first, second], np.asarray(persons)[first] == np.asarray(persons)[second]
    return verification_auc(similarity[alike], similarity[~alike])


class IdentitySimilarity(MeanAccumulator):
    """Mean over clips of :func:`identity_similarity`; ``descriptor`` names what is compared and stands in every report."""

    def __init__(self, descriptor: str, centre: np.ndarray | None = None) -> None:
        self.descriptor, self.centre = descriptor, centre
        super().__init__()

    def update(self, generated: np.ndarray, real: np.ndarray) -> None:
        self.add(identity_similarity(generated, real, self.centre))

    def merge(self, other: IdentitySimilarity) -> None:
        if other.descriptor != self.descriptor:
            raise ValueError(f"descriptors {self.descriptor} and {other.descriptor} cannot be mixed")
        super().merge(other)
