"""Latent distributions: Student's-t mixture (SMM), Gaussian mixture, one Gaussian.

The mixtures have one isotropic, unit-scale component per emotion with fixed means (FlowGMM, https://arxiv.org/abs/1912.13025);
a labelled clip is scored by its own component and sampled from it. Student's t after Studentising flows
(https://arxiv.org/abs/2006.06599): its fat tails make the gradient of an outlier bounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

PriorKind = Literal["smm", "gmm", "gaussian"]


def component_means(labels: int, features: int, separation: float, generator: torch.Generator | None = None) -> Tensor:
    """Means (E, D) whose pairwise distance is ``separation`` exactly, or as near as D < E allows.

    Orthonormal directions times separation / sqrt(2). With fewer dimensions than emotions the directions are random unit
    vectors, and the distance is ``separation`` only in the root mean square.
    """
    if features >= labels:
        directions = torch.linalg.qr(torch.randn(features, labels, generator=generator, dtype=torch.float64))[0].T
    else:
        directions = torch.randn(labels, features, generator=generator, dtype=torch.float64)
        directions = directions / directions.norm(dim=1, keepdim=True)
        distances = torch.cdist(directions, directions).square().sum() / max(labels * (labels - 1), 1)
        directions = directions * (math.sqrt(2.0) / distances.sqrt().clamp_min(1e-6))
    return (directions * separation / math.sqrt(2.0)).to(torch.get_default_dtype())


def student_t_log_density(squared_distance: Tensor, features: int, nu: float) -> Tensor:
    """Log-density of the isotropic multivariate Student's t with unit scale, from the squared distance to its centre."""
    constant = math.lgamma((nu + features) / 2) - math.lgamma(nu / 2) - features / 2 * math.log(math.pi * nu)
    return constant - (nu + features) / 2 * torch.log1p(squared_distance / nu)


def gaussian_log_density(squared_distance: Tensor, features: int) -> Tensor:
    """Log-density of the standard normal from the squared distance to its centre."""
    return -0.5 * (squared_distance + features * math.log(2 * math.pi))


class Prior(nn.Module):
    """Latent distribution given emotion weights.

    Args:
        kind: ``smm``, ``gmm`` or ``gaussian`` (one component at zero, whatever the emotion).
        features: D.
        labels: E.
        nu: Degrees of freedom of the Student's t.
        separation: Distance between two component means, in units of a component's scale.
        generator: Source of the directions of the means.
        apart: Dimensions that are standard normal whatever the emotion, apart from the component, and no part of a temperature: they are
            normal scores, and a factor on a score would change how often something happens, not how strongly.
    """

    means: Tensor
    scores: Tensor
    spread: Tensor

    def __init__(
        self,
        kind: PriorKind,
        features: int,
        labels: int,
        nu: float,
        separation: float,
        generator: torch.Generator | None = None,
        apart: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if kind not in ("smm", "gmm", "gaussian"):
            raise ValueError(f"prior: expected smm, gmm or gaussian, got {kind!r}")
        if nu <= 0:
            raise ValueError(f"nu: expected a positive number, got {nu}")
        self.kind, self.features, self.nu = kind, features, nu
        spread = [d for d in range(features) if d not in apart]
        means = torch.zeros(labels, features)
        if kind != "gaussian":
            means[:, spread] = component_means(labels, len(spread), separation, generator)
        self.register_buffer("means", means)
        self.register_buffer("scores", torch.tensor(list(apart), dtype=torch.int64), persistent=False)
        self.register_buffer("spread", torch.tensor(spread), persistent=False)

    def mean(self, weights: Tensor) -> Tensor:
        """Centre (.., D) for emotion weights (.., E); weights between emotions lie between their means."""
        return weights @ self.means

    def log_prob(self, z: Tensor, weights: Tensor) -> Tensor:
        """Log-density (B, T) of latents (B, T, D) under the component that the weights (B, 1 or T, E) name."""
        squares = (z - self.mean(weights)).square()
        count = len(self.spread)
        squared = squares[..., self.spread].sum(-1) if len(self.scores) else squares.sum(-1)
        density = student_t_log_density(squared, count, self.nu) if self.kind == "smm" else gaussian_log_density(squared, count)
        if len(self.scores):
            density = density + gaussian_log_density(squares[..., self.scores].sum(-1), len(self.scores))
        return density

    def latent(self, normal: Tensor, chi_square: Tensor, weights: Tensor, temperature: float) -> Tensor:
        """Turn draws into a latent: centre + temperature * noise.

        Args:
            normal: (.., D) standard normal draws.
            chi_square: (..,) draws with ``nu`` degrees of freedom, one for all dimensions of a frame; used by the SMM only.
            weights: (.., E).
            temperature: Factor of the noise; 1 samples the distribution, 0 gives its mode (dimensions apart are drawn all the same).
        """
        noise = temperature * (normal * (self.nu / chi_square).sqrt().unsqueeze(-1) if self.kind == "smm" else normal)
        if len(self.scores):
            noise = noise.clone()
            noise[..., self.scores] = normal[..., self.scores]
        return self.mean(weights) + noise
