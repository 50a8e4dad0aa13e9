"""The deterministic baseline: the flow's conditions and networks of equal size, predicting the expected frame."""

from __future__ import annotations

from torch import Tensor, nn

from flowvqtalker.flow.coupling import ConditionBank, LstmCoupling, TransformerCoupling
from flowvqtalker.flow.stack import StackConfig


class RegressionCore(nn.Module):
    """K coupling networks in a row that refine one prediction, each from the first half of it and the conditions.

    The networks are those of the flow's couplings; what is missing is the noise, the inverse and the likelihood.

    Args:
        config: The flow's shape; prior and actnorm have no meaning here.
    """

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        kept, moved = config.features // 2, config.features - config.features // 2
        transformer = config.coupling == "transformer"
        self.bank = ConditionBank(config.steps, config.coupling_layers if transformer else 0, config.width, config.heads)
        self.nets = nn.ModuleList(
            TransformerCoupling(kept, moved, config.width, config.heads, config.coupling_layers)
            if transformer
            else LstmCoupling(kept, moved, config.width, config.coupling_layers)
            for _ in range(config.steps)
        )
        self.kept, self.features = kept, config.features

    def forward(self, tokens: Tensor) -> Tensor:
        """Condition tokens (B, T, n, width) -> prediction (B, T, D)."""
        return self.step(tokens, [None] * len(self.nets))[0]

    def step(self, tokens: Tensor, states: list) -> tuple[Tensor, list]:
        """The same with the states of recurrent networks, for rollouts."""
        x = tokens.new_zeros(*tokens.shape[:2], self.features)
        after = []
        for net, condition, state in zip(self.nets, self.bank(tokens), states, strict=True):
            out, state = net(x[..., : self.kept], condition, state)
            # Both halves of the output are used and the features rotate, so every dimension is refined.
            x = (x + out[..., : self.features]).roll(self.kept, -1)
            after.append(state)
        shift = (self.kept * len(self.nets)) % self.features
        return x.roll(-shift, -1), after
