"""Emotion judge: a network on single upright faces, whose features are pooled over a clip.

A frame is ambiguous while somebody speaks; the mean and the spread of its features over the clip are not. Stills of many identities teach the
frame network what people have in common (a judge that saw few faces learns these faces: docs/decisions and calibration measurements).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowvqtalker.checks import check_shape
from flowvqtalker.experts.layers import conv_block, to_float


class EmotionNet(nn.Module):
    """Logits of emotions for clips (or stills: clips of one frame).

    Args:
        size_px: Side of the face cuts, divisible by 16.
        width: Channels of the first layer.
        dim: Size of the frame features.
        n_emotions: Number of classes.
        dropout: Dropout before the verdict, in [0, 1).
    """

    def __init__(self, size_px: int, width: int, dim: int, n_emotions: int, dropout: float) -> None:
        super().__init__()
        if size_px % 16:
            raise ValueError(f"size_px: must be divisible by 16, got {size_px}")
        self.size_px = size_px
        self.frame = nn.Sequential(
            conv_block(3, width, 2),
            conv_block(width, 2 * width, 2),
            conv_block(2 * width, 2 * width, 1),
            conv_block(2 * width, 4 * width, 2),
            conv_block(4 * width, 4 * width, 1),
            conv_block(4 * width, 4 * width, 2),
        )
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * width * (size_px // 16) ** 2, dim), nn.LayerNorm(dim), nn.SiLU())
        self.frame_verdict = nn.Linear(dim, n_emotions)
        self.clip_verdict = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * dim, n_emotions))

    def features(self, faces: Tensor) -> Tensor:
        """(N, 3, size_px, size_px) uint8 or float [-1, 1] -> (N, D)."""
        check_shape("faces", faces, (None, 3, self.size_px, self.size_px))
        return self.out(self.frame(to_float(faces)).flatten(1))

    def clip_logits(self, features: Tensor) -> Tensor:
        """(B, T, D) frame features -> (B, n_emotions): mean of the frame verdicts plus a verdict on mean and spread of the features."""
        spread = features.std(dim=1, unbiased=False) if features.shape[1] > 1 else torch.zeros_like(features[:, 0])
        return self.frame_verdict(features).mean(dim=1) + self.clip_verdict(torch.cat([features.mean(dim=1), spread], dim=1))

    def forward(self, faces: Tensor) -> Tensor:
        """Logits of clips: (B, T, 3, size_px, size_px) -> (B, n_emotions)."""
        return self.clip_logits(self.features(faces.flatten(0, 1)).view(*faces.shape[:2], -1))
