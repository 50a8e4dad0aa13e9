"""Patch discriminator, hinge losses and the adaptive weight of VQGAN (arXiv 2012.09841, section 3.1)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """Scores overlapping patches (a receptive field of 46 px) with spectral normalisation; three stride-2 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [3, width, 2 * width, 4 * width]
        self.convs = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 4, 2, 1)) for a, b in pairwise(channels))
        self.score = nn.Conv2d(channels[-1], 1, 4, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, 3, H, W), H and W at least 32, in [0, 1] -> logits (B, 1, H / 8 - 1, W / 8 - 1)."""
        h = image * 2 - 1
        for conv in self.convs:
            h = F.leaky_relu(conv(h), 0.2)
        return self.score(h).float()


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """0.5 * (mean relu(1 - real) + mean relu(1 + fake)) of logits."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """-mean of the logits of generated pictures."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor, limit: float = 1.0) -> Tensor:
    """Weight that gives the adversarial loss the same gradient norm at the decoder's last layer as the reconstruction loss.

    Args:
        reconstruction: scalar loss.
        adversarial: scalar loss.
        last: weight of the last layer; both losses must depend on it.
        limit: largest weight.

    Returns:
        Scalar without gradient, in [0, limit].
    """
    wanted = torch.autograd.grad(reconstruction, last, retain_graph=True)[0].norm()
    present = torch.autograd.grad(adversarial, last, retain_graph=True)[0].norm()
    return (wanted / (present + 1e-4)).clamp(0, limit).detach()
