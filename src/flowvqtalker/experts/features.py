"""Feature network of FID and KID: at most 64 numbers a picture that know who, how and how sharp.

It learns four things at once from training pictures: the identity, the emotion, the 68 landmarks and how much the picture was softened or disturbed.
The last one makes the features answer to blur and noise, which a network that never saw either may ignore.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowvqtalker.checks import check_shape
from flowvqtalker.experts.layers import conv_block, to_float


class FeatureNet(nn.Module):
    """Features of whole crops.

    Args:
        size_px: Side at which pictures are seen (others are resized), divisible by 32.
        width: Channels of the first layer.
        dim: Size of the features, at most 64.
        n_identities: Identities of the training split.
        n_emotions: Number of emotions.
    """

    def __init__(self, size_px: int, width: int, dim: int, n_identities: int, n_emotions: int) -> None:
        super().__init__()
        if dim > 64 or size_px % 32:
            raise ValueError(f"dim must be at most 64 and size_px divisible by 32, got {dim} and {size_px}")
        self.size_px, self.dim = size_px, dim
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(2),
            conv_block(12, width, 1),
            conv_block(width, 2 * width, 2),
            conv_block(2 * width, 3 * width, 2),
            conv_block(3 * width, 4 * width, 2),
            conv_block(4 * width, 4 * width, 2),
        )
        self.out = nn.Linear(4 * width * (size_px // 32) ** 2, dim)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.identity = nn.Linear(dim, n_identities)
        self.emotion = nn.Linear(dim, n_emotions)
        self.landmarks = nn.Linear(dim, 136)
        self.damage = nn.Linear(dim, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features.

        Args:
            pictures: (N, 3, H, W) uint8 [0, 255], or float [-1, 1]; square crops.

        Returns:
            (N, D) float32, zero mean and unit variance over the D numbers of a picture.
        """
        check_shape("pictures", pictures, (None, 3, None, None))
        x = to_float(pictures)
        if x.shape[-1] != self.size_px or x.shape[-2] != self.size_px:
            x = F.interpolate(x, size=(self.size_px, self.size_px), mode="bilinear", align_corners=False, antialias=True)
        return self.norm(self.out(self.trunk(x).flatten(1)))


def damage_pictures(pictures: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Soften and disturb pictures by random amounts.

    Args:
        pictures: (N, 3, H, W) float [-1, 1].
        generator: Source of the draws.

    Returns:
        Pictures of the same shape, and (N, 2) amounts of blur and noise in [0, 1]; about half of each are 0.
    """
    n = len(pictures)
    amount = torch.rand(n, 2, generator=generator) * (torch.rand(n, 2, generator=generator) < 0.5)
    small = F.avg_pool2d(pictures, 4)
    blurred = F.interpolate(small, size=pictures.shape[-2:], mode="bilinear", align_corners=False)
    result = torch.lerp(pictures, blurred, amount[:, 0].view(-1, 1, 1, 1))
    return result + 0.25 * amount[:, 1].view(-1, 1, 1, 1) * torch.randn(result.shape, generator=generator), amount
