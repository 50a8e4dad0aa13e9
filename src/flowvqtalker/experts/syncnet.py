"""SyncNet: do these lips belong to this sound? Two embeddings that lie close when five frames and 0.2 s of sound belong together.

After Chung and Zisserman, "Out of time" (ACCV-W 2016), trained by contrast as in Wav2Lip's expert, but ours: the picture part runs once a frame and
joins five frames by a temporal convolution, so that a clip costs T pictures instead of 5 T, and negatives are the other moments of the same clip.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowvqtalker.checks import check_shape
from flowvqtalker.experts.layers import N_ORIENTATIONS, conv_block, edge_energy, to_float

#: Picture frames that one embedding sees, centred.
WINDOW_FRAMES = 5


def lip_maps(mouths: Tensor) -> Tensor:
    """What the picture part sees: edges by direction and the colours of the picture without its mean and contrast, at half the resolution.

    Args:
        mouths: (N, 3, s, s) float [-1, 1].

    Returns:
        (N, 11, s / 2, s / 2).
    """
    plain = mouths - mouths.mean(dim=(2, 3), keepdim=True)
    plain = plain / (plain.std(dim=(1, 2, 3), keepdim=True) + 0.02)
    return torch.cat([edge_energy(mouths, cell_px=2), F.avg_pool2d(plain, 2)], dim=1)


class SyncNet(nn.Module):
    """Picture and sound embeddings of every frame of a clip.

    Args:
        size_px: Side of the mouth cuts, divisible by 16.
        width: Channels of the first layer.
        dim: Size of the embeddings.
    """

    def __init__(self, size_px: int, width: int, dim: int) -> None:
        super().__init__()
        if size_px % 16:
            raise ValueError(f"size_px: must be divisible by 16, got {size_px}")
        self.size_px = size_px
        channels = [N_ORIENTATIONS + 3, 2 * width, 3 * width, 4 * width]
        self.picture = nn.Sequential(*(conv_block(a, b) for a, b in itertools.pairwise(channels)))
        self.picture_out = nn.Linear(4 * width * (size_px // 16) ** 2, 2 * dim)
        self.join = nn.Conv1d(2 * dim, dim, WINDOW_FRAMES, padding=WINDOW_FRAMES // 2)
        # Sound windows are (16 steps, 80 bands): halve the bands first, then both.
        self.sound = nn.Sequential(
            conv_block(1, width, (1, 2)),
            conv_block(width, 2 * width, (2, 2)),
            conv_block(2 * width, 3 * width, (2, 2)),
            conv_block(3 * width, 4 * width, (2, 2)),
        )
        self.sound_out = nn.Sequential(nn.Linear(4 * width * 2 * 5, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
        self.log_temperature = nn.Parameter(torch.tensor(2.3))

    def embed_video(self, mouths: Tensor) -> Tensor:
        """Embeddings of the picture windows centred at each frame.

        Args:
            mouths: (B, T, 3, size_px, size_px) uint8, or float [-1, 1].

        Returns:
            (B, T, D) unit vectors; at the ends the missing frames are zeros.
        """
        check_shape("mouths", mouths, (None, None, 3, self.size_px, self.size_px))
        features = self.picture_out(self.picture(lip_maps(to_float(mouths.flatten(0, 1)))).flatten(1))
        series = F.silu(features).view(*mouths.shape[:2], -1).transpose(1, 2)
        return F.normalize(self.join(series).transpose(1, 2), dim=-1)

    def embed_audio(self, mel: Tensor) -> Tensor:
        """Embeddings of the sound window of each frame.

        Args:
            mel: (B, T, 16, 80) in [-4, 4].

        Returns:
            (B, T, D) unit vectors.
        """
        check_shape("mel", mel, (None, None, 16, 80))
        features = self.sound(mel.flatten(0, 1).unsqueeze(1) / 4.0).flatten(1)
        return F.normalize(self.sound_out(features).view(*mel.shape[:2], -1), dim=-1)


def contrastive_loss(video: Tensor, audio: Tensor, log_temperature: Tensor) -> Tensor:
    """Each moment must find its own sound among all moments of its clip and all of a second clip, and the reverse.

    Cross-entropy over cosine similarities times ``exp(log_temperature)``, both directions (InfoNCE).

    Args:
        video: (B, T, D) unit vectors, B at least 2.
        audio: (B, T, D) unit vectors.
        log_temperature: Scalar.

    Returns:
        Scalar loss in nats.
    """
    scale = log_temperature.clamp(max=4.0).exp()
    other = audio.roll(1, dims=0)
    target = torch.arange(video.shape[1], device=video.device).expand(video.shape[0], -1)
    by_video = scale * torch.cat([video @ audio.transpose(1, 2), video @ other.transpose(1, 2)], dim=2)
    by_audio = scale * torch.cat([audio @ video.transpose(1, 2), audio @ video.roll(1, dims=0).transpose(1, 2)], dim=2)
    return 0.5 * (F.cross_entropy(by_video.flatten(0, 1), target.flatten()) + F.cross_entropy(by_audio.flatten(0, 1), target.flatten()))
