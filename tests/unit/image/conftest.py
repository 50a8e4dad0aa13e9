"""Small codebooks, generators and frames for the tests of the image package."""

from __future__ import annotations

import pytest
import torch

from flowvqtalker.image.codebook import Codebook, CodebookConfig
from flowvqtalker.image.data import FrameSet
from flowvqtalker.image.vqig import VQIG, VQIGConfig

E, SIZE = 5, 32


def make_codebook(downsample: int = 8, seed: int = 0) -> Codebook:
    torch.manual_seed(seed)
    codebook = Codebook(CodebookConfig(downsample, 16, 1, 32, 8, 0.9, 0.2)).train()
    codebook(torch.rand(8, 3, SIZE, SIZE))
    return codebook


def make_generator(codebook: Codebook, merge: int = 1, **flags: bool | int) -> VQIG:
    torch.manual_seed(1)
    switches = {
        "points": True,
        "ratio_px": 16,
        "mouth_px": 16,
        "head": True,
        "warp": True,
        "phi": True,
        "mhca": True,
        "codes": True,
        "recolour": True,
        "blend": True,
    } | flags
    return VQIG(VQIGConfig(E, 2, 16, 16, 1, 32, 2, 2, merge, **switches), codebook)


def make_frames(n: int = 12, identities: int = 3) -> FrameSet:
    """Discs whose place follows the pose and whose colour follows the identity."""
    generator = torch.Generator().manual_seed(2)
    identity = torch.arange(n) % identities
    coefficients = torch.randn(n, E + 6, generator=generator)
    axis = torch.arange(SIZE, dtype=torch.float32)
    centre = 16 + 3 * coefficients[:, E : E + 2]
    radius = (axis[None, None, :] - centre[:, 0, None, None]) ** 2 + (axis[None, :, None] - centre[:, 1, None, None]) ** 2
    disc = torch.sigmoid((50 - radius) / 10)[:, None]
    colour = torch.rand(identities, 3, generator=generator)[identity][:, :, None, None]
    images = (255 * (0.2 + 0.8 * disc * colour)).to(torch.uint8)
    landmarks = centre[:, None] + 8 * torch.rand(1, 68, 2, generator=generator) - 4  # the same marks on every disc
    order = torch.arange(n)
    return FrameSet(images, landmarks, identity, order % 4 == 0, order < identities, order, order, order, coefficients)


@pytest.fixture
def codebook() -> Codebook:
    return make_codebook().freeze()
