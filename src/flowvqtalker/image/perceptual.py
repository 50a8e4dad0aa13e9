"""Perceptual networks and the feature distance they define. No judge is ever used here.

``own`` is a small network trained inside the codebook stage on two auxiliary tasks of its own: the 68 landmarks of the
face and the clean colours of a noisy, blurred and recoloured picture. ``squeezenet`` takes the user's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.image.layers import conv3, group_norm

N_LANDMARKS = 68


class OwnFeatures(nn.Module):
    """Four stages of stride-2 convolutions; a stage's output is one feature map of the distance.

    Args:
        width: channels of the first stage; the others have 2, 3 and 4 times as many.
    """

    kind = "own"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        channels = [3, width, 2 * width, 3 * width, 4 * width]
        self.stages = nn.ModuleList(nn.Sequential(conv3(a, b, stride=2), group_norm(b), nn.SiLU()) for a, b in pairwise(channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (B, 3, H, W) in [0, 1] -> maps at 1/2, 1/4, 1/8 and 1/16 of the size."""
        maps, h = [], image * 2 - 1
        for stage in self.stages:
            h = stage(h)
            maps.append(h)
        return maps


class AuxiliaryHeads(nn.Module):
    """Heads of the auxiliary tasks of ``OwnFeatures``: landmarks from the last map, colours from the second."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.landmarks = nn.Sequential(nn.Conv2d(4 * width, 2 * width, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
                                       nn.Linear(32 * width, 2 * N_LANDMARKS))  # fmt: skip
        self.colours = nn.Sequential(conv3(2 * width + 4 * width, 4 * width), nn.SiLU(), conv3(4 * width, 48), nn.PixelShuffle(4))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps of ``OwnFeatures`` -> landmarks (B, 68, 2) in [-1, 1] of the picture's span, colours (B, 3, H, W)."""
        points = self.landmarks(maps[3]).float().unflatten(1, (N_LANDMARKS, 2))
        deep = F.interpolate(maps[3], size=maps[1].shape[-2:], mode="bilinear", align_corners=False)
        return points, 0.5 + 0.5 * self.colours(torch.cat([maps[1], deep], 1)).float()


def damage(image: Tensor, noise_sd: float) -> Tensor:
    """Noisy, half of them blurred, with random brightness per channel; draws from torch's global generator.

    Args:
        image: (B, 3, H, W) in [0, 1].
        noise_sd: standard deviation of the noise [share of the range].
    """
    b = len(image)
    blurred = F.interpolate(F.avg_pool2d(image, 4), scale_factor=4, mode="bilinear", align_corners=False)
    image = torch.where(torch.rand(b, 1, 1, 1, device=image.device) < 0.5, blurred, image)
    gain = 1 + 0.15 * torch.randn(b, 3, 1, 1, device=image.device)
    return (image * gain + noise_sd * torch.randn_like(image)).clamp(0, 1)


def auxiliary_loss(
    features: OwnFeatures, heads: AuxiliaryHeads, image: Tensor, landmarks: Tensor, noise_sd: float
) -> tuple[Tensor, dict[str, float]]:
    """Loss of the auxiliary tasks on one batch.

    Args:
        features: the network that learns.
        heads: its heads.
        image: (B, 3, H, W) in [0, 1].
        landmarks: (B, 68, 2) px; rows with NaN take no part in the landmark task.
        noise_sd: see ``damage``.

    Returns:
        Scalar loss and the values to log (landmark error in px, colour error).
    """
    size = image.shape[-1]
    points, colours = heads(features(damage(image, noise_sd)))
    colour = F.l1_loss(colours, image)
    target = (landmarks + 0.5) / size * 2 - 1
    is_known = torch.isfinite(target).all(-1).all(-1)
    error = (points - torch.nan_to_num(target)).abs().mean((1, 2)) * is_known
    landmark = error.sum() / is_known.sum().clamp_min(1)
    return 4 * colour + landmark, {
        "perceptual_landmark_px": float(landmark.detach()) * size / 2,
        "perceptual_colour": float(colour.detach()),
    }


class SqueezeFeatures(nn.Module):
    """Feature maps of SqueezeNet 1.1 after the layers that LPIPS uses (arXiv 1801.03924), with weights given by the user."""

    kind = "squeezenet"
    mean: Tensor
    std: Tensor
    taps = (1, 4, 7, 9, 10, 11, 12)

    def __init__(self, state: dict[str, Tensor] | None) -> None:
        super().__init__()
        if state is None:
            raise MissingWeightsError("squeezenet: the perceptual network needs the weights of torchvision's squeezenet1_1")
        from torchvision.models import squeezenet1_1

        model = squeezenet1_1(weights=None)
        model.load_state_dict(state)
        self.features = model.features
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (B, 3, H, W) in [0, 1] -> seven feature maps."""
        maps, h = [], (image - self.mean) / self.std
        for index, layer in enumerate(self.features):
            h = layer(h)
            if index in self.taps:
                maps.append(h)
        return maps


def save_perceptual(features: OwnFeatures | SqueezeFeatures) -> dict[str, Any]:
    """Payload for ``torch.save``."""
    config = {"width": features.width} if isinstance(features, OwnFeatures) else {}
    return {"kind": features.kind, "config": config, "state": features.state_dict()}


def load_perceptual(payload: dict[str, Any]) -> OwnFeatures | SqueezeFeatures:
    """Frozen perceptual network of a payload made by ``save_perceptual``."""
    if payload["kind"] == "own":
        features: OwnFeatures | SqueezeFeatures = OwnFeatures(**payload["config"])
        features.load_state_dict(payload["state"])
    elif payload["kind"] == "squeezenet":
        state = {name: value for name, value in payload["state"].items() if name.startswith("features.")}
        from torchvision.models import squeezenet1_1

        features = SqueezeFeatures(squeezenet1_1(weights=None).state_dict() | state)
    else:
        raise ValueError(f"perceptual network: unknown kind {payload['kind']!r}")
    features.requires_grad_(False)
    return features.eval()


def perceptual_distance(maps: Sequence[Tensor], target: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
    """Mean over maps of the squared distance between unit-length feature vectors (LPIPS without its learned weights).

    Args:
        maps: feature maps (B, C, h, w) of the generated picture.
        target: the same of the real picture; no gradient flows into them.
        weight: (B, 1, H, W) weight of each place, resized to each map, or None.

    Returns:
        Scalar >= 0, at most 4.
    """
    total = maps[0].new_zeros((), dtype=torch.float32)
    for a, b in zip(maps, target, strict=True):
        a, b = F.normalize(a.float(), dim=1, eps=1e-3), F.normalize(b.detach().float(), dim=1, eps=1e-3)
        distance = (a - b).square().sum(1, keepdim=True)
        if weight is not None:
            distance = distance * F.adaptive_avg_pool2d(weight, (distance.shape[-2], distance.shape[-1]))
        total = total + distance.mean()
    return total / len(maps)
