"""Stage I: encoder E_h, codebook C and decoder D_h (a vector-quantised autoencoder), trained alone and then frozen.

Layout after VQGAN (arXiv 2012.09841) and CodeFormer (arXiv 2206.11253), made for a CPU: a pixel-unshuffle stem works at a
quarter of the resolution at once, and the decoder ends in pixel shuffles.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowvqtalker.image.layers import ResBlock, conv3, group_norm, zero_init
from flowvqtalker.image.quantize import Quantised, VectorQuantizer

STEM = 4


@dataclass(frozen=True)
class CodebookConfig:
    """Shape of the autoencoder.

    Attributes:
        downsample: side of the square of pixels that one code covers [px]: 4, 8 or 16.
        width: channels at a quarter of the resolution; doubled once at an eighth, then kept.
        blocks: residual blocks per resolution.
        codes: K, size of the codebook.
        dim: D, dimensions of a code.
        decay: decay of the codes' moving averages per step.
        dead_below: codes with a smaller moving count are revived.
    """

    downsample: int
    width: int
    blocks: int
    codes: int
    dim: int
    decay: float
    dead_below: float

    def __post_init__(self) -> None:
        if self.downsample not in (4, 8, 16):
            raise ValueError(f"downsample: expected 4, 8 or 16, got {self.downsample}")


def _levels(config: CodebookConfig) -> list[int]:
    """Channels at each resolution from a quarter down to the tokens."""
    n = {4: 1, 8: 2, 16: 3}[config.downsample]
    return [config.width * min(2**level, 2) for level in range(n)]


def patch_basis(size_px: int, dim: int) -> Tensor:
    """Orthonormal rows that describe a colour patch by its lowest frequencies.

    A two-dimensional cosine transform (DCT-II) of brightness and two colour differences; colour counts as two frequencies higher,
    since it varies more slowly.

    Args:
        size_px: side n of the patch.
        dim: number of rows D.

    Returns:
        (D, 3 n^2) float32 in the channel order of ``pixel_unshuffle``; rows beyond 3 n^2 are zero.
    """
    n = size_px
    place, frequency = torch.arange(n, dtype=torch.float64), torch.arange(n, dtype=torch.float64)[:, None]
    cosine = torch.cos(torch.pi * (place + 0.5) * frequency / n) * (2 / n) ** 0.5
    cosine[0] /= 2**0.5
    colour = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
    colour = colour / colour.norm(dim=1, keepdim=True)
    order = sorted((u + v + (2 if c else 0), c, u, v) for c in range(3) for u in range(n) for v in range(n))[:dim]
    rows = [torch.einsum("c,y,x->cyx", colour[c], cosine[u], cosine[v]).reshape(-1) for _, c, u, v in order]
    rows += [torch.zeros(3 * n * n, dtype=torch.float64)] * (dim - len(rows))
    return torch.stack(rows).float()


class Encoder(nn.Module):
    """E_h: picture -> feature map of D channels, one vector per token.

    The sum of a linear map of the token's own patch, which starts as a cosine transform, and of a network that sees its surroundings
    and starts at zero: training starts from plain vector quantisation of patches, which is already a fair picture, and not from noise.
    With ``downsample`` 4 an hourglass at half the token resolution gives each token its surroundings.
    """

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__()
        levels = _levels(config)
        self.stem = conv3(3 * STEM**2, levels[0])
        stages: list[nn.Module] = []
        for level, channels in enumerate(levels):
            if level:
                stages.append(conv3(levels[level - 1], channels, stride=2))
            stages += [ResBlock(channels) for _ in range(config.blocks)]
        self.stages = nn.Sequential(*stages)
        self.context = Context(levels[-1], config.blocks) if len(levels) == 1 else nn.Identity()
        self.head = nn.Sequential(group_norm(levels[-1]), nn.SiLU(), zero_init(nn.Conv2d(levels[-1], config.dim, 1)))
        self.patch = nn.Conv2d(3 * config.downsample**2, config.dim, 1, bias=False)
        self.patch.weight.data.copy_(patch_basis(config.downsample, config.dim)[:, :, None, None])

    def forward(self, image: Tensor) -> Tensor:
        """Image (B, 3, H, W) in [0, 1] -> (B, D, H / downsample, W / downsample)."""
        image = image * 2 - 1
        patches = F.pixel_unshuffle(image, STEM)
        h = self.head(self.context(self.stages(self.stem(patches))))
        downsample = image.shape[-1] // h.shape[-1]
        return h + self.patch(patches if downsample == STEM else F.pixel_unshuffle(image, downsample))


class Context(nn.Module):
    """Residual detour at half the resolution: stride-2 convolution, blocks, bilinear growth, added back."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.down = conv3(channels, 2 * channels, stride=2)
        self.blocks = nn.Sequential(*(ResBlock(2 * channels) for _ in range(blocks)))
        self.up = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape."""
        h = self.up(self.blocks(self.down(x)))
        return x + F.interpolate(h, size=x.shape[-2:], mode="bilinear", align_corners=False)


class Decoder(nn.Module):
    """D_h: map of codes -> picture.

    The sum of a linear map from code to patch, which starts as the inverse cosine transform, and of a network that starts at zero and
    ends with a convolution at half the resolution, so that tokens leave no block edges.
    """

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__()
        levels = _levels(config)[::-1]
        self.enter = conv3(config.dim, levels[0])
        self.context = Context(levels[0], config.blocks) if len(levels) == 1 else nn.Identity()
        stages: list[nn.Module] = []
        for level, channels in enumerate(levels):
            if level:
                stages += [nn.Upsample(scale_factor=2, mode="nearest"), conv3(levels[level - 1], channels)]
            stages += [ResBlock(channels) for _ in range(config.blocks)]
        self.stages = nn.Sequential(*stages)
        half = max(config.width // 2, 8)
        self.grow = nn.Sequential(group_norm(config.width), nn.SiLU(), conv3(config.width, 4 * half), nn.PixelShuffle(2), nn.SiLU())
        self.last = zero_init(conv3(half, 12))
        self.patch = nn.Conv2d(config.dim, 3 * config.downsample**2, 1, bias=False)
        self.patch.weight.data.copy_(patch_basis(config.downsample, config.dim).t()[:, :, None, None])
        self.downsample = config.downsample

    def forward(self, codes: Tensor) -> Tensor:
        """Codes (B, D, h, w) -> picture (B, 3, h * downsample, w * downsample); near [0, 1], not clamped."""
        h = self.grow(self.stages(self.context(self.enter(codes))))
        patches = F.pixel_shuffle(self.patch(codes).float(), self.downsample)
        return 0.5 + 0.5 * (patches + F.pixel_shuffle(self.last(h).float(), 2))


class Codebook(nn.Module):
    """E_h, C and D_h together."""

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = VectorQuantizer(config.codes, config.dim, config.decay, config.dead_below)
        self.decoder = Decoder(config)

    def encode(self, image: Tensor) -> Quantised:
        """Codes of image (B, 3, H, W) in [0, 1]; H and W must be multiples of ``downsample`` (of 8 when it is 4)."""
        return self.quantizer(self.encoder(image))

    def decode(self, values: Tensor) -> Tensor:
        """Picture (B, 3, H, W) float32, not clamped, of code vectors (B, D, h, w)."""
        return self.decoder(values)

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Picture (B, 3, H, W) of code indices (B, h, w)."""
        return self.decode(self.quantizer.lookup(indices))

    def forward(self, image: Tensor) -> tuple[Tensor, Quantised]:
        """Reconstruction (B, 3, H, W), not clamped, and the codes it was made of."""
        quantised = self.encode(image)
        return self.decode(quantised.values), quantised

    def freeze(self) -> Codebook:
        """Stop all learning for good: no gradients, evaluation mode. Returns itself."""
        self.requires_grad_(False)
        return self.eval()


def state_sha256(state: dict[str, Tensor]) -> str:
    """Hash of a state dict: names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_codebook(codebook: Codebook) -> dict[str, Any]:
    """Payload for ``torch.save``: configuration, state dict and its hash."""
    state = {name: value.detach().cpu().contiguous() for name, value in codebook.state_dict().items()}
    return {"config": asdict(codebook.config), "state": state, "sha256": state_sha256(state)}


def load_codebook(payload: dict[str, Any]) -> Codebook:
    """Frozen codebook of a payload made by ``save_codebook``."""
    codebook = Codebook(CodebookConfig(**payload["config"]))
    codebook.load_state_dict(payload["state"])
    return codebook.freeze()
