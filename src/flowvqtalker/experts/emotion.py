"""Emotion judge: a network on single upright faces, whose features are pooled over a clip.

It sees how a face differs from that person's usual face (the mean over all their real pictures): is this brow raised, or is it this person's brow?
A person in one picture is ambiguous; speaker normalisation is as old as emotion recognition from voices, and here it is worth some ten points (measured).

A frame is ambiguous while somebody speaks; the mean and the spread of its features over the clip are not. Stills of many identities teach the
frame network what people have in common (a judge that saw few faces learns these faces, not their emotions). Emotion labels alone teach such a network
next to nothing within minutes (measured: chance after 1100 steps); telling the fitted expression coefficients beside them makes it look at the right places.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowvqtalker.checks import check_shape
from flowvqtalker.experts.layers import CELL_PX, N_ORIENTATIONS, conv_block, edge_energy, to_float


def usual_face(faces: Sequence[Tensor], every: int = 1) -> Tensor:
    """A person's usual face: the mean edge maps of all that is known of them, each clip counting once.

    Args:
        faces: One (T, 3, s, s) uint8 array of cuts a clip.
        every: Take every n-th frame.

    Returns:
        (8, s / 4, s / 4) float32.
    """
    return torch.stack([edge_energy(to_float(clip[::every])).mean(dim=0) for clip in faces]).mean(dim=0)


class EmotionNet(nn.Module):
    """Logits of emotions for clips (or stills: clips of one frame).

    Args:
        size_px: Side of the face cuts, divisible by 16.
        width: Channels of the first layer.
        dim: Size of the frame features.
        n_emotions: Number of classes.
        n_expressions: Expression coefficients that the features are also trained to tell (0: none).
        dropout: Dropout of the frame features, in [0, 1).
    """

    def __init__(self, size_px: int, width: int, dim: int, n_emotions: int, n_expressions: int, dropout: float) -> None:
        super().__init__()
        if size_px % 16:
            raise ValueError(f"size_px: must be divisible by 16, got {size_px}")
        self.size_px = size_px
        self.frame = nn.Sequential(
            conv_block(2 * N_ORIENTATIONS, 2 * width, 1),
            conv_block(2 * width, 4 * width, 2),
            conv_block(4 * width, 4 * width, 1),
            conv_block(4 * width, 4 * width, 2),
        )
        self.out = nn.Sequential(
            nn.Linear(4 * width * (size_px // (4 * CELL_PX)) ** 2, dim), nn.LayerNorm(dim), nn.SiLU(), nn.Dropout(dropout)
        )
        self.frame_verdict = nn.Linear(dim, n_emotions)
        self.clip_verdict = nn.Linear(2 * dim, n_emotions)
        self.expression = nn.Linear(dim, n_expressions) if n_expressions else None

    def features(self, faces: Tensor, usual: Tensor) -> Tensor:
        """Frame features.

        Args:
            faces: (N, 3, size_px, size_px) uint8, or float [-1, 1].
            usual: (N, 8, size_px / 4, size_px / 4) each person's :func:`usual_face`.

        Returns:
            (N, D).
        """
        check_shape("faces", faces, (None, 3, self.size_px, self.size_px))
        check_shape("usual", usual, (len(faces), N_ORIENTATIONS, self.size_px // CELL_PX, self.size_px // CELL_PX))
        maps = edge_energy(to_float(faces))
        return self.out(self.frame(torch.cat([maps, 2.0 * (maps - usual)], dim=1)).flatten(1))

    def clip_logits(self, features: Tensor) -> Tensor:
        """(B, T, D) frame features -> (B, n_emotions): mean of the frame verdicts plus a verdict on mean and spread of the features."""
        spread = features.std(dim=1, unbiased=False) if features.shape[1] > 1 else torch.zeros_like(features[:, 0])
        return self.frame_verdict(features).mean(dim=1) + self.clip_verdict(torch.cat([features.mean(dim=1), spread], dim=1))

    def forward(self, faces: Tensor, usual: Tensor) -> Tensor:
        """Logits of clips: (B, T, 3, size_px, size_px) faces and (B, 8, size_px / 4, size_px / 4) usual faces -> (B, n_emotions)."""
        features = self.features(faces.flatten(0, 1), usual.repeat_interleave(faces.shape[1], dim=0))
        return self.clip_logits(features.view(*faces.shape[:2], -1))
