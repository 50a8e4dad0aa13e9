"""What fitting needs of a face model: a linear basis at the 68 landmarks, bounds, and how much to trust each shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from flowvqtalker.face.expressions import EXPRESSIONS

#: Shapes that 68 landmarks see well or hardly at all; the factor scales the prior's standard deviation. Measured on nothing but the
#: geometry: a shape whose landmark motion others imitate (cheek, roll, shrug, press) has to earn its place.
_PRIOR_FACTORS: tuple[tuple[str, float], ...] = (
    ("eyeBlink", 2.0), ("jawOpen", 2.0), ("mouthSmile", 1.3), ("mouthFrown", 1.2), ("mouthPucker", 1.2), ("mouthFunnel", 1.0),
    ("brow", 1.2), ("eyeWide", 1.0), ("mouthStretch", 0.8), ("mouthUpperUp", 0.8), ("mouthLowerDown", 0.8), ("mouthClose", 0.8),
    ("noseSneer", 0.6), ("mouthLeft", 0.6), ("mouthRight", 0.6), ("jaw", 0.4), ("mouthDimple", 0.4), ("mouthPress", 0.5),
    ("mouthRoll", 0.5), ("mouthShrug", 0.4), ("eyeSquint", 0.5), ("cheek", 0.2),
)  # fmt: skip

#: Shapes that move within a frame or two: blinks last 100-400 ms, phonemes 50-100 ms. They get the weaker smoothness.
_FAST = ("eyeBlink", "jaw", "mouth")


class FaceModelLike(Protocol):
    """The part of the face model's interface (``flowvqtalker.face``) that fitting uses."""

    def landmarks(self, alpha: Any, beta: Any) -> Any:
        """68 landmarks (..., 68, 3) in cm, head frame."""
        ...


@dataclass(frozen=True)
class LandmarkBasis:
    """Linear model of the 68 landmarks: ``points = mean + alpha . identity + beta . expression`` [cm, head frame].

    Attributes:
        mean: (68, 3).
        identity: (A, 68, 3).
        expression: (E, 68, 3).
        names: E shape names.
        lower, upper: (E,) bounds of beta.
        sd_factor: (E,) factor of the expression prior's standard deviation; 0 keeps a shape at rest.
        fast: (E,) bool, shapes with the weaker smoothness.
    """

    mean: Tensor
    identity: Tensor
    expression: Tensor
    names: tuple[str, ...]
    lower: Tensor
    upper: Tensor
    sd_factor: Tensor
    fast: Tensor

    @property
    def n_identity(self) -> int:
        return self.identity.shape[0]

    @property
    def n_expression(self) -> int:
        return self.expression.shape[0]

    def points(self, alpha: Tensor, beta: Tensor) -> Tensor:
        """Points of alpha (A,), beta (T, E) -> (T, 68, 3) cm."""
        rest = self.mean + torch.einsum("a,alc->lc", alpha, self.identity)
        return rest + torch.einsum("te,elc->tlc", beta, self.expression)


def make_basis(
    mean: np.ndarray | Tensor, identity: np.ndarray | Tensor, expression: np.ndarray | Tensor, names: tuple[str, ...]
) -> LandmarkBasis:
    """Basis with the priors that belong to the shapes' names.

    ARKit-named shapes live in [0, 1]; the gaze shapes stay at rest because lids alone do not show where the eye looks, and shapes that do
    not move any landmark by 0.1 mm stay at rest too. Other names (a PCA basis) are unbounded standard-normal coefficients.
    """
    mean, identity, expression = (torch.as_tensor(np.asarray(x), dtype=torch.float64) for x in (mean, identity, expression))
    named = set(names) <= set(EXPRESSIONS)
    factors = torch.ones(len(names), dtype=torch.float64)
    if named:
        for index, name in enumerate(names):
            factors[index] = next((factor for prefix, factor in _PRIOR_FACTORS if name.startswith(prefix)), 0.0)
        moves = expression.norm(dim=-1).amax(dim=-1) > 0.01
        factors = factors * moves
    ones = torch.ones(len(names), dtype=torch.float64)
    fast = torch.tensor([name.startswith(_FAST) or not named for name in names])
    return LandmarkBasis(
        mean, identity, expression, tuple(names), lower=0 * ones if named else -5 * ones, upper=ones if named else 5 * ones,
        sd_factor=factors, fast=fast,
    )  # fmt: skip


def linearise(model: FaceModelLike, n_identity: int, names: tuple[str, ...], alpha: np.ndarray | None = None) -> LandmarkBasis:
    """Landmark basis of a face model around an identity, by differences of unit coefficients.

    Exact for linear models; for a model whose expressions depend on the face (lids that close whatever the eye) the expressions are those
    of the given identity.

    Args:
        model: any face model.
        n_identity: A.
        names: the model's expression names.
        alpha: (A,) identity to linearise at; None for the mean face.
    """
    n_expression = len(names)
    at = np.zeros(n_identity) if alpha is None else np.asarray(alpha, dtype=np.float64)

    def landmarks(alphas: np.ndarray, betas: np.ndarray) -> np.ndarray:
        # One identity at a time: a model may take one alpha per call.
        rows = [
            np.asarray(model.landmarks(a.astype(np.float32), b[None].astype(np.float32)), dtype=np.float64)[0]
            for a, b in zip(alphas, betas)
        ]
        return np.stack(rows)

    rest = landmarks(at[None], np.zeros((1, n_expression)))[0]
    faces = landmarks(at[None] + np.eye(n_identity), np.zeros((n_identity, n_expression))) if n_identity else np.zeros((0, *rest.shape))
    shapes = np.asarray(model.landmarks(at.astype(np.float32), np.eye(n_expression, dtype=np.float32)), dtype=np.float64)
    identity = faces - rest
    return make_basis(rest - np.einsum("a,alc->lc", at, identity), identity, shapes - rest, names)
