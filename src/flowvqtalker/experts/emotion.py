"""Emotion judge: a network on single upright faces and their landmarks, whose features are pooled over a clip.

It sees how a face differs from that person's usual face (the mean over all their real pictures), in its edges and in its landmarks: is this brow raised, or is it this person's brow?
A person in one picture is ambiguous; speaker normalisation is as old as emotion recognition from voices, and here it is worth some ten points (measured).

A frame is ambiguous while somebody speaks; the mean and the spread of its features over the clip are not. Stills of many identities teach the
frame network what people have in common (a judge that saw few faces learns these faces, not their emotions). Emotion labels alone teach such a network
next to nothing within minutes (measured: chance after 1100 steps); telling the fitted expression coefficients beside them makes it look at the right places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from flowvqtalker.checks import check_shape
from flowvqtalker.experts.layers import CELL_PX, N_ORIENTATIONS, conv_block, edge_energy, to_float


class UsualFace(NamedTuple):
    """A person's usual face, over all that is known of them, each clip counting once.

    Attributes:
        edges: (8, s / 4, s / 4) float32 mean edge maps, see :func:`usual_face`.
        points: (68, 2) float32 mean landmarks in the face's own frame, see ``crops.face_points``.
    """

    edges: np.ndarray
    points: np.ndarray


def usual_face(faces: Sequence[Tensor], every: int = 1) -> Tensor:
    """A person's usual face: the mean edge maps of all that is known of them, each clip counting once.

    Args:
        faces: One (T, 3, s, s) uint8 array of cuts a clip.
        every: Take every n-th frame.

    Returns:
        (8, s / 4, s / 4) float32.
    """
    return torch.stack([edge_energy(to_float(clip[::every])).mean(dim=0) for clip in faces]).mean(dim=0)


#: Landmarks of a face, and about how far they move with emotions [outer-eye distances].
N_POINTS, POINT_SPREAD = 68, 0.05
#: Size of what is made of the landmarks.
POINT_WIDTH = 128


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
        self.points = nn.Sequential(
            nn.Linear(4 * N_POINTS, POINT_WIDTH), nn.LayerNorm(POINT_WIDTH), nn.SiLU(), nn.Linear(POINT_WIDTH, POINT_WIDTH), nn.SiLU()
        )
        self.out = nn.Sequential(
            nn.Linear(4 * width * (size_px // (4 * CELL_PX)) ** 2 + POINT_WIDTH, dim), nn.LayerNorm(dim), nn.SiLU(), nn.Dropout(dropout)
        )
        self.frame_verdict = nn.Linear(dim, n_emotions)
        self.clip_verdict = nn.Linear(2 * dim, n_emotions)
        self.expression = nn.Linear(dim, n_expressions) if n_expressions else None

    def features(self, faces: Tensor, points: Tensor, usual_edges: Tensor, usual_points: Tensor) -> Tensor:
        """Frame features.

        Args:
            faces: (N, 3, size_px, size_px) uint8, or float [-1, 1].
            points: (N, 68, 2) landmarks of these faces in the face's own frame (``crops.face_points``).
            usual_edges: (N, 8, size_px / 4, size_px / 4) edge maps of each person's usual face.
            usual_points: (N, 68, 2) landmarks of each person's usual face.

        Returns:
            (N, D).
        """
        check_shape("faces", faces, (None, 3, self.size_px, self.size_px))
        check_shape("points", points, (len(faces), N_POINTS, 2))
        check_shape("usual_edges", usual_edges, (len(faces), N_ORIENTATIONS, self.size_px // CELL_PX, self.size_px // CELL_PX))
        check_shape("usual_points", usual_points, (len(faces), N_POINTS, 2))
        maps = edge_energy(to_float(faces))
        seen = self.frame(torch.cat([maps, 2.0 * (maps - usual_edges)], dim=1)).flatten(1)
        moved = (points - usual_points) / POINT_SPREAD
        placed = self.points(torch.cat([usual_points.flatten(1), moved.flatten(1)], dim=1))
        return self.out(torch.cat([seen, placed.to(seen.dtype)], dim=1))

    def clip_logits(self, features: Tensor) -> Tensor:
        """(B, T, D) frame features -> (B, n_emotions): mean of the frame verdicts plus a verdict on mean and spread of the features."""
        spread = features.std(dim=1, unbiased=False) if features.shape[1] > 1 else torch.zeros_like(features[:, 0])
        return self.frame_verdict(features).mean(dim=1) + self.clip_verdict(torch.cat([features.mean(dim=1), spread], dim=1))

    def forward(self, faces: Tensor, points: Tensor, usual_edges: Tensor, usual_points: Tensor) -> Tensor:
        """Logits of clips (B, n_emotions): (B, T, ...) faces and points, (B, ...) usual faces, as in :meth:`features`."""
        frames = faces.shape[1]
        features = self.features(
            faces.flatten(0, 1),
            points.flatten(0, 1),
            usual_edges.repeat_interleave(frames, dim=0),
            usual_points.repeat_interleave(frames, dim=0),
        )
        return self.clip_logits(features.view(*faces.shape[:2], -1))
