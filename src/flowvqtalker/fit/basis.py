"""What fitting needs of a face model: its 68 landmarks with a linear basis, bounds, and how much to trust each shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.face.model import FaceModel

#: Shapes that 68 landmarks see well or hardly at all; the factor scales the prior's standard deviation. Measured on nothing but the
#: geometry: a shape whose landmark motion others imitate (cheek, roll, shrug, press) has to earn its place.
_PRIOR_FACTORS: tuple[tuple[str, float], ...] = (
    ("eyeBlink", 3.0), ("jawOpen", 2.0), ("mouthSmile", 1.3), ("mouthFrown", 1.2), ("mouthPucker", 1.2), ("mouthFunnel", 1.0),
    ("brow", 1.2), ("eyeWide", 0.7), ("mouthStretch", 0.8), ("mouthUpperUp", 0.8), ("mouthLowerDown", 0.8), ("mouthClose", 0.6),
    ("noseSneer", 0.6), ("mouthLeft", 0.6), ("mouthRight", 0.6), ("jaw", 0.4), ("mouthDimple", 0.4), ("mouthPress", 0.5),
    ("mouthRoll", 0.5), ("mouthShrug", 0.4), ("eyeSquint", 1.0), ("cheek", 0.2),
)  # fmt: skip

#: How alike the two sides of a face move, as a factor of the asymmetry's standard deviation: lids blink together, mouths are often crooked.
_ASYMMETRY_FACTORS: tuple[tuple[str, float], ...] = (("eye", 0.5), ("cheek", 0.5), ("brow", 1.0), ("mouth", 1.5), ("nose", 1.0))

#: Shapes that move within a frame or two: blinks last 100-400 ms, phonemes 50-100 ms. They get the weaker smoothness.
_FAST = ("eyeBlink", "jaw", "mouth")


@dataclass(frozen=True)
class LandmarkBasis:
    """The 68 landmarks as a function of coefficients [cm, head frame], with derivatives, bounds and priors.

    Attributes:
        mean: (68, 3).
        identity: (A, 68, 3) derivative by alpha.
        expression: (E, 68, 3) derivative by beta.
        names: E shape names.
        identity_sd: (A,) spread of each identity coefficient over people.
        lower: (E,) bounds of beta.
        upper: (E,).
        sd_factor: (E,) factor of the expression prior's standard deviation; 0 keeps a shape at the prior's mean: at rest without scores.
        fast: (E,) bool, shapes with the weaker smoothness.
        asymmetry: (P, E) rows that measure a left-right difference, divided by the factor of its standard deviation.
        exact: the model's own landmarks (alpha (A,), beta (T, E)) -> (T, 68, 3) where it is not linear (contacts of lips and lids);
            None for a linear model. The derivatives stay those of the linear part: they only steer the iterations.
    """

    mean: Tensor
    identity: Tensor
    expression: Tensor
    names: tuple[str, ...]
    identity_sd: Tensor
    lower: Tensor
    upper: Tensor
    sd_factor: Tensor
    fast: Tensor
    asymmetry: Tensor
    exact: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def n_identity(self) -> int:
        """Number of identity coefficients A."""
        return self.identity.shape[0]

    @property
    def n_expression(self) -> int:
        """Number of expression coefficients E."""
        return self.expression.shape[0]

    def points(self, alpha: Tensor, beta: Tensor) -> Tensor:
        """Landmarks of alpha (A,) and beta (T, E): (T, 68, 3) cm."""
        if self.exact is not None:
            return self.exact(alpha, beta)
        rest = self.mean + torch.einsum("a,alc->lc", alpha, self.identity)
        return rest + torch.einsum("te,elc->tlc", beta, self.expression)


def expression_bounds(names: tuple[str, ...]) -> tuple[float, float]:
    """Least and largest value of a coefficient: [0, 1] for ARKit-named shapes, five standard deviations each way for a PCA basis."""
    return (0.0, 1.0) if set(names) <= set(EXPRESSIONS) else (-5.0, 5.0)


def has_scores(names: tuple[str, ...]) -> bool:
    """Whether blendshape scores say anything about a model's coefficients: not for a PCA basis, whose coefficients have no such names."""
    return any(name in EXPRESSIONS for name in names)


def make_basis(
    mean: np.ndarray, identity: np.ndarray, expression: np.ndarray, names: tuple[str, ...], identity_sd: np.ndarray | None = None
) -> LandmarkBasis:
    """Linear basis with the priors that belong to the shapes' names.

    ARKit-named shapes live in [0, 1]; the gaze shapes stay at the prior's mean (rest, or the back end's score) because lids alone do not
    show where the eye looks, and so do shapes that do not move any landmark by 0.1 mm. Other names (a PCA basis) are coefficients in [-5, 5].

    Args:
        mean: (68, 3) cm.
        identity: (A, 68, 3) cm.
        expression: (E, 68, 3) cm.
        names: E shape names.
        identity_sd: (A,) spread over people; None for one each.
    """
    mean64, identity64, expression64 = (torch.as_tensor(np.asarray(x, dtype=np.float64)) for x in (mean, identity, expression))
    named = set(names) <= set(EXPRESSIONS)
    low, high = expression_bounds(tuple(names))
    ones = torch.ones(len(names), dtype=torch.float64)
    factors = ones.clone()
    if named:
        factors = torch.tensor([next((f for prefix, f in _PRIOR_FACTORS if name.startswith(prefix)), 0.0) for name in names]).double()
        factors = factors * (expression64.norm(dim=-1).amax(dim=-1) > 0.01)
    pairs = [(names.index(name), names.index(f"{name[:-2]}_R")) for name in names if name.endswith("_L") and f"{name[:-2]}_R" in names]
    asymmetry = torch.zeros(len(pairs), len(names), dtype=torch.float64)
    for row, (left, right) in enumerate(pairs):
        factor = next((f for prefix, f in _ASYMMETRY_FACTORS if names[left].startswith(prefix)), 1.0)
        asymmetry[row, left], asymmetry[row, right] = 1 / factor, -1 / factor
    sd = np.ones(len(identity64)) if identity_sd is None else np.asarray(identity_sd, dtype=np.float64)
    return LandmarkBasis(
        mean=mean64,
        identity=identity64,
        expression=expression64,
        names=tuple(names),
        identity_sd=torch.as_tensor(sd).clamp_min(1e-6),
        lower=low * ones,
        upper=high * ones,
        sd_factor=factors,
        fast=torch.tensor([name.startswith(_FAST) or not named for name in names]),
        asymmetry=asymmetry,
    )


def basis_of(model: FaceModel) -> LandmarkBasis:
    """Landmark basis of a face model; the model's own contacts and eyeballs are kept in ``exact``."""
    at = model.landmarks68
    linear = make_basis(model.mean[at], model.identity[:, at], model.expression[:, at], model.expression_names, model.identity_std)
    return replace(linear, exact=model.landmarks) if model.contacts or len(model.shell.vertex) else linear
