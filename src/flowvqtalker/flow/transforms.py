"""The three invertible maps of one flow step, each with forward, inverse and log-determinant.

Order within a step, from data to latent: multi-actnorm, invertible 1x1 convolution, affine coupling (FlowVQTalker,
Fig. 2b; Glow, https://arxiv.org/abs/1807.03039, section 3). All maps act on the last axis of (B, T, D) tensors; every
frame is transformed on its own, so a "1x1 convolution" is a matrix. Log-determinants have shape (B, T).
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from flowvqtalker.checks import check_shape


class MultiActNorm(nn.Module):
    """y = (x + b_e) * exp(s_e), with scale and bias chosen by the emotion.

    The emotion comes as weights w (.., E) that sum to one, and s_e = w @ S, b_e = w @ B: a one-hot row picks one emotion,
    anything between moves scale and bias along with the label embedding and the latent mean. A ``shared`` layer has a
    single row, as Glow's.

    Args:
        features: D.
        labels: E, number of emotions.
        shared: One scale and bias for all emotions.
    """

    initialised: Tensor

    def __init__(self, features: int, labels: int, *, shared: bool = False) -> None:
        super().__init__()
        self.shared = shared
        rows = 1 if shared else labels
        self.log_scale = nn.Parameter(torch.zeros(rows, features))
        self.bias = nn.Parameter(torch.zeros(rows, features))
        self.register_buffer("initialised", torch.tensor(False))

    def _rows(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        if self.shared:
            return self.log_scale, self.bias
        return weights @ self.log_scale, weights @ self.bias

    @torch.no_grad()
    def initialise(self, x: Tensor, weights: Tensor) -> None:
        """Set scale and bias from data: zero mean and unit variance within each emotion.

        With one-hot weights these are the plain moments of each emotion's frames. With weights between emotions they are
        the least-squares moments, linear in the weights; an emotion without frames gets the moments of all frames.

        Args:
            x: (N, D) frames as they arrive at this layer.
            weights: (N, E) emotion weights of the frames.
        """
        check_shape("x", x, (None, self.bias.shape[1]))
        if self.shared:
            weights = x.new_ones(len(x), 1)
        mean = x.mean(0)
        gram = weights.T @ weights
        # The tiny ridge only decides emotions that no frame has; they fall back to the moments of all frames.
        gram = gram + 1e-9 * len(x) * torch.eye(gram.shape[0], dtype=x.dtype, device=x.device)
        means = mean + torch.linalg.solve(gram, weights.T @ (x - mean))
        squares = (x - weights @ means).square()
        overall = squares.mean(0)
        variances = overall + torch.linalg.solve(gram, weights.T @ (squares - overall))
        variances = torch.maximum(variances, 0.01 * overall).clamp_min(1e-12)
        self.bias.copy_(-means)
        self.log_scale.copy_(-0.5 * variances.log())
        self.initialised.fill_(True)

    def forward(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Data to latent: (B, T, D) and weights (B, 1 or T, E) -> (y, log-determinant (B, T))."""
        log_scale, bias = self._rows(weights)
        return (x + bias) * log_scale.exp(), log_scale.sum(-1).expand(x.shape[:-1])

    def inverse(self, y: Tensor, weights: Tensor) -> Tensor:
        """Latent to data."""
        log_scale, bias = self._rows(weights)
        return y * (-log_scale).exp() - bias


class InvertibleLinear(nn.Module):
    """y = W x with W = P L (U + diag(sign * exp(log_s))): the log-determinant is the sum of log_s (Glow, section 3.2).

    W starts as a random rotation; P and the signs are fixed, L, U and log_s are learned.

    Args:
        features: D.
        generator: Source of the rotation.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, features: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(features, features, generator=generator, dtype=torch.float64))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        dtype = torch.get_default_dtype()
        self.register_buffer("permutation", permutation.to(dtype))
        self.register_buffer("sign", diagonal.sign().to(dtype))
        self.lower = nn.Parameter(lower.tril(-1).to(dtype))
        self.upper = nn.Parameter(upper.triu(1).to(dtype))
        self.log_diagonal = nn.Parameter(diagonal.abs().log().to(dtype))

    def _factors(self) -> tuple[Tensor, Tensor]:
        lower = self.lower.tril(-1) + torch.eye(self.lower.shape[0], dtype=self.lower.dtype, device=self.lower.device)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())
        return lower, upper

    def matrix(self) -> Tensor:
        """W (D, D)."""
        lower, upper = self._factors()
        return self.permutation @ lower @ upper

    def inverse_matrix(self) -> Tensor:
        """The inverse of W (D, D), by two triangular solves; samplers ask once and keep it."""
        lower, upper = self._factors()
        inner = torch.linalg.solve_triangular(lower, self.permutation.T, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, inner, upper=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data to latent: (B, T, D) -> (y, log-determinant (B, T))."""
        return x @ self.matrix().T, self.log_diagonal.sum().expand(x.shape[:-1])

    def inverse(self, y: Tensor, inverse_matrix: Tensor | None = None) -> Tensor:
        """Latent to data."""
        matrix = self.inverse_matrix() if inverse_matrix is None else inverse_matrix
        return y @ matrix.T


class CouplingNet(Protocol):
    """What a coupling asks: from the untouched half and the conditions to shift and raw scale of the other half."""

    def __call__(self, kept: Tensor, conditions: Any, state: Any) -> tuple[Tensor, Any]:
        """(B, T, D1), conditions, state of the frames before -> ((B, T, 2 * D2), state)."""
        ...


class AffineCoupling(nn.Module):
    """The second half is shifted and scaled by a network of the first half and the conditions.

    y2 = (x2 + shift) * exp(bound * tanh(h / bound)). The bound keeps the inverse from exploding in a rollout: with Glow's
    sigmoid scale a likelihood-trained flow of motion diverges (docs/decisions on the flow).

    Args:
        features: D; the first D // 2 features are kept.
        net: The network; it must start at zero so that the coupling starts as the identity.
        bound: Largest absolute log-scale.
    """

    def __init__(self, features: int, net: nn.Module, bound: float) -> None:
        super().__init__()
        self.kept = features // 2
        self.net = net
        self.bound = bound

    def _shift_and_log_scale(self, kept: Tensor, conditions: Any, state: Any) -> tuple[Tensor, Tensor, Any]:
        out, state = self.net(kept, conditions, state)
        shift, raw = out.chunk(2, dim=-1)
        return shift, self.bound * torch.tanh(raw / self.bound), state

    def forward(self, x: Tensor, conditions: Any, state: Any = None) -> tuple[Tensor, Tensor, Any]:
        """Data to latent: (B, T, D) -> (y, log-determinant (B, T), state)."""
        kept, moved = x[..., : self.kept], x[..., self.kept :]
        shift, log_scale, state = self._shift_and_log_scale(kept, conditions, state)
        return torch.cat([kept, (moved + shift) * log_scale.exp()], -1), log_scale.sum(-1), state

    def inverse(self, y: Tensor, conditions: Any, state: Any = None) -> tuple[Tensor, Any]:
        """Latent to data."""
        kept, moved = y[..., : self.kept], y[..., self.kept :]
        shift, log_scale, state = self._shift_and_log_scale(kept, conditions, state)
        return torch.cat([kept, moved * (-log_scale).exp() - shift], -1), state
