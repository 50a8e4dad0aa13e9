"""Networks inside the couplings, and the bank that prepares the shared conditions for all of them at once.

The conditions of a frame are encoded once into tokens. One matrix product turns them into the keys, values and offsets of
every coupling; a coupling then only embeds its half of the features, attends to the tokens and passes through its
feed-forward layers. That is what keeps sampling, one frame after another through all couplings, fast on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class CouplingConditions:
    """What one coupling sees of the conditions of a frame.

    Attributes:
        keys: (B, T, heads, width / heads, n) transposed keys of the n condition tokens of each layer, one entry per layer.
        values: (B, T, heads, n, width / heads), one entry per layer.
        offset: (B, T, width) projection of the summary token.
    """

    keys: list[Tensor]
    values: list[Tensor]
    offset: Tensor


class ConditionBank(nn.Module):
    """Keys, values and offsets of all couplings from the shared condition tokens.

    Args:
        couplings: K.
        layers: Attention layers of each coupling; 0 when the couplings do not attend (LSTM).
        width: Width of tokens and couplings.
        heads: Attention heads.
    """

    def __init__(self, couplings: int, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.couplings, self.layers, self.width, self.heads = couplings, layers, width, heads
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, couplings * layers * 2 * width) if layers else None
        self.offset = nn.Linear(width, couplings * width)

    def forward(self, tokens: Tensor) -> list[CouplingConditions]:
        """(B, T, n, width) tokens, the summary first -> one entry per coupling."""
        tokens = self.norm(tokens)
        batch, frames, n, width = tokens.shape
        offsets = self.offset(tokens[:, :, 0]).view(batch, frames, self.couplings, width).unbind(2)
        if self.key_value is None:
            return [CouplingConditions([], [], offset) for offset in offsets]
        both = self.key_value(tokens).view(batch, frames, n, self.couplings, self.layers, 2, self.heads, width // self.heads)
        keys, values = both.unbind(5)
        keys = keys.permute(3, 4, 0, 1, 5, 6, 2)
        values = values.permute(3, 4, 0, 1, 5, 2, 6)
        return [CouplingConditions(list(keys[k].unbind(0)), list(values[k].unbind(0)), offsets[k]) for k in range(self.couplings)]


class _CrossLayer(nn.Module):
    """Pre-norm attention of one token per frame to the condition tokens, then a feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.hidden, self.back = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, token: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        batch, frames, width = token.shape
        query = self.query(self.norm_query(token)).view(batch, frames, self.heads, 1, width // self.heads)
        attention = torch.softmax(query @ keys * (width // self.heads) ** -0.5, -1)
        token = token + self.out((attention @ values).reshape(batch, frames, width))
        return token + self.back(F.silu(self.hidden(self.norm_hidden(token))))


class TransformerCoupling(nn.Module):
    """Transformer over the token of the kept features and the shared condition tokens; the last layer starts at zero.

    Args:
        kept: Number of kept features.
        moved: Number of features that are shifted and scaled.
        width: Width.
        heads: Attention heads.
        layers: Attention layers.
    """

    def __init__(self, kept: int, moved: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(kept, width)
        self.layers = nn.ModuleList(_CrossLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 2 * moved)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, kept: Tensor, conditions: CouplingConditions, state: None = None) -> tuple[Tensor, None]:
        """(B, T, kept) -> ((B, T, 2 * moved), no state: the past is among the conditions)."""
        token = self.embed(kept) + conditions.offset
        for layer, keys, values in zip(self.layers, conditions.keys, conditions.values, strict=True):
            token = layer(token, keys, values)
        return self.out(self.norm(token)), None


class LstmCoupling(nn.Module):
    """MoGlow's coupling (https://arxiv.org/abs/1905.06598): an LSTM along the frames; the last layer starts at zero.

    Args:
        kept: Number of kept features.
        moved: Number of features that are shifted and scaled.
        width: Width of embedding and LSTM.
        layers: LSTM layers.
    """

    def __init__(self, kept: int, moved: int, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(kept, width)
        self.lstm = nn.LSTM(width, width, num_layers=layers, batch_first=True)
        self.out = nn.Linear(width, 2 * moved)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, kept: Tensor, conditions: CouplingConditions, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, T, kept) and the state behind the frames before -> ((B, T, 2 * moved), state behind the last frame)."""
        hidden, state = self.lstm(F.silu(self.embed(kept) + conditions.offset), state)
        return self.out(hidden), state
