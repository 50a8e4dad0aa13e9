"""What the flows listen to: audio encoder, audio-to-expression conditioner, and the tokens of all conditions.

Emotion enters everywhere as weights (E,): with intensity i the weights are (1 - i) at neutral and i at the emotion, so that
label embedding, actnorm and latent mean move together from neutral to the full emotion. A clip without a label has zero
weights here and is scored by the mixture over emotions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowvqtalker.audio.mel import N_MELS, WINDOW_STEPS
from flowvqtalker.checks import check_shape


def emotion_weights(labels: Tensor, intensity: Tensor, n_labels: int) -> Tensor:
    """Weights (B, E) from labels (B,) int64 (-1 = unknown: all zero) and intensities (B,) in [0, 1]."""
    known = (labels >= 0).unsqueeze(1)
    chosen = F.one_hot(labels.clamp_min(0), n_labels).to(intensity.dtype)
    neutral = torch.zeros_like(chosen)
    neutral[:, 0] = 1
    i = intensity.clamp(0, 1).unsqueeze(1)
    return torch.where(known, (1 - i) * neutral + i * chosen, torch.zeros_like(chosen))


#: Cepstral coefficients that an encoder hears of a mel step: the envelope without the fine structure of the voice.
N_CEPSTRA = 26


def cosine_basis(bins: int, count: int) -> Tensor:
    """Orthonormal DCT-II basis (bins, count): log-mel @ basis gives cepstra."""
    place = (torch.arange(bins, dtype=torch.float64) + 0.5) / bins
    basis = torch.cos(math.pi * place.unsqueeze(1) * torch.arange(count)) * math.sqrt(2 / bins)
    basis[:, 0] /= math.sqrt(2)
    return basis.to(torch.get_default_dtype())


class AudioEncoder(nn.Module):
    """Mel windows to one feature per frame with some frames of context on both sides.

    Standardised cepstra instead of raw mel make the encoder learn several times faster (docs/decisions on the flow). Convolutions along the steps of each window, then residual dilated convolutions along the frames. The frame convolutions
    are "valid": callers give ``context`` extra frames on both sides (silence beyond the clip), so a frame's feature never depends
    on how a clip was cut.

    Args:
        width: Width of the features.
        dilations: Dilations of the frame convolutions (kernel 3).
        condition: Size of a static condition that is added before the frame convolutions; 0 for none.
        dropout: Dropout between the layers.
    """

    basis: Tensor
    cepstra_mean: Tensor
    cepstra_sd: Tensor

    def __init__(self, width: int, dilations: Sequence[int], condition: int, dropout: float) -> None:
        super().__init__()
        narrow = max(width // 2, 8)
        self.register_buffer("basis", cosine_basis(N_MELS, N_CEPSTRA), persistent=False)
        self.register_buffer("cepstra_mean", torch.zeros(N_CEPSTRA))
        self.register_buffer("cepstra_sd", torch.ones(N_CEPSTRA))
        self.window = nn.Sequential(
            nn.Conv1d(N_CEPSTRA, narrow, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv1d(narrow, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(width * WINDOW_STEPS // 4, width),
        )
        self.condition = nn.Linear(condition, width) if condition else None
        self.dilations = tuple(dilations)
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in self.dilations)
        self.wide = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=d) for d in self.dilations)
        self.back = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in self.dilations)
        self.dropout = nn.Dropout(dropout)

    @property
    def context(self) -> int:
        """Frames needed on each side."""
        return sum(self.dilations)

    @torch.no_grad()
    def fit(self, mel: Tensor) -> None:
        """Set the standardisation of the cepstra from training mel (steps, 80)."""
        cepstra = mel.to(self.basis) @ self.basis
        self.cepstra_mean.copy_(cepstra.mean(0))
        self.cepstra_sd.copy_(cepstra.std(0).clamp_min(1e-3))

    def forward(self, windows: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, T + 2 * context, 16, 80) mel in [-4, 4], condition (B, C) -> (B, T, width)."""
        check_shape("windows", windows, (None, None, WINDOW_STEPS, N_MELS))
        batch, frames = windows.shape[:2]
        cepstra = (windows.reshape(batch * frames, WINDOW_STEPS, N_MELS) @ self.basis - self.cepstra_mean) / self.cepstra_sd
        x = self.window(cepstra.transpose(1, 2))
        x = x.view(batch, frames, -1).transpose(1, 2)
        if self.condition is not None and condition is not None:
            x = x + self.condition(condition).unsqueeze(2)
        for dilation, norm, wide, back in zip(self.dilations, self.norms, self.wide, self.back, strict=True):
            # Group norm over the frames would tie a frame to the whole clip: normalise each frame over its channels.
            normed = norm(x.transpose(1, 2).reshape(-1, x.shape[1], 1)).view(batch, -1, x.shape[1]).transpose(1, 2)
            x = x[:, :, dilation : x.shape[2] - dilation] + back(self.dropout(F.silu(wide(normed))))
        return x.transpose(1, 2)


class Conditioner(nn.Module):
    """Audio, source expression and emotion to the expected expression: a regression that is trained before the flow.

    A flow that is trained by likelihood for minutes hardly hears the audio; modelling what this regression leaves over is what
    makes it listen. The regressions that make the training residuals are cross-fitted (each has not seen the identities it
    predicts), otherwise the residuals of new voices would be larger than those the flow has learned.

    Args:
        features: D, standardised coefficients.
        labels: E.
        width: Width.
        dropout: Dropout.
    """

    def __init__(self, features: int, labels: int, width: int, dropout: float) -> None:
        super().__init__()
        self._shape = (features, labels, width, dropout)
        self.audio = AudioEncoder(width, (1, 2, 4), features + labels, dropout)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, features)
        self.skip = nn.Linear(features + labels, features)
        nn.init.zeros_(self.skip.weight)
        nn.init.zeros_(self.out.weight)

    def fresh(self) -> Conditioner:
        """An untrained conditioner of the same shape."""
        return Conditioner(*self._shape)

    @property
    def context(self) -> int:
        """Frames of audio needed on each side."""
        return self.audio.context

    def forward(self, windows: Tensor, x0: Tensor, weights: Tensor) -> Tensor:
        """(B, T + 2 * context, 16, 80) mel, (B, D) source coefficients, (B, E) emotion weights -> (B, T, D)."""
        static = torch.cat([x0, weights], -1)
        return self.out(F.silu(self.norm(self.audio(windows, static)))) + self.skip(static).unsqueeze(1)


class _SelfLayer(nn.Module):
    """Pre-norm self-attention over the condition tokens of a frame, then a feed-forward layer."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in, self.norm_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden, self.back = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        n, count, width = tokens.shape
        q, k, v = self.qkv(self.norm_in(tokens)).view(n, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5, -1) @ v
        tokens = tokens + self.dropout(self.out(mixed.transpose(1, 2).reshape(n, count, width)))
        return tokens + self.dropout(self.back(F.silu(self.hidden(self.norm_hidden(tokens)))))


class ConditionEncoder(nn.Module):
    """All conditions of a frame as tokens, encoded once and shared by all couplings.

    Static tokens (known before a rollout: a summary, the source, the emotion, audio, plan) and history tokens (made frame by
    frame) are embedded apart, so that a rollout embeds the static ones only once.

    Args:
        static_sizes: Sizes of the static parts, in order.
        history_size: Size of what one history token embeds.
        history_tokens: Number of tokens of recent history.
        long_size: Size of the long history; 0 for none.
        width: Width of a token.
        heads: Attention heads.
        layers: Self-attention layers over the tokens.
        dropout: Dropout.
    """

    def __init__(
        self,
        static_sizes: Sequence[int],
        history_size: int,
        history_tokens: int,
        long_size: int,
        width: int,
        heads: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.static = nn.ModuleList(nn.Linear(size, width) for size in static_sizes)
        self.summary = nn.Parameter(torch.randn(width) * 0.02)
        self.history = nn.Linear(history_size, width)
        self.long = nn.Linear(long_size, width) if long_size else None
        # What token it is; one row per history token (its age), then one for the long history.
        self.place = nn.Parameter(torch.randn(history_tokens + 1, width) * 0.02)
        self.layers = nn.ModuleList(_SelfLayer(width, heads, dropout) for _ in range(layers))

    def embed_static(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts (B, T, size) -> (B, T, 1 + number of parts, width); the first token is the summary."""
        tokens = [embed(part) for embed, part in zip(self.static, parts, strict=True)]
        summary = self.summary.expand_as(tokens[0])
        return torch.stack([summary, *tokens], 2)

    def forward(self, static: Tensor, history: Tensor, long: Tensor | None) -> Tensor:
        """Static tokens (B, T, m, width), history (B, T, tokens, size), long history (B, T, size) -> (B, T, n, width)."""
        past = self.history(history) + self.place[:-1]
        parts = [static, past]
        if self.long is not None and long is not None:
            parts.append((self.long(long) + self.place[-1]).unsqueeze(2))
        tokens = torch.cat(parts, 2)
        batch, frames, count, width = tokens.shape
        flat = tokens.view(batch * frames, count, width)
        for layer in self.layers:
            flat = layer(flat)
        return flat.view(batch, frames, count, width)
