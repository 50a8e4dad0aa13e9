"""After the trainings of stage II: the mask by which the warped picture is laid over the decoded one decides more than it was trained to."""

from __future__ import annotations

import torch

from flowvqtalker.image.vqig import VQIG


@torch.no_grad()
def sharpen_blend(model: VQIG, gain: float, shift: float) -> None:
    """Replace the mask's logits by ``gain * logit + shift``, in place; nothing happens to a model without a mask.

    Under mean absolute errors a mask hedges: half of one picture and half of the other is the safest guess and softer than either. Above 1 the
    gain makes it choose, above 0 the shift prefers the warped picture, which holds more detail (docs/decisions/0032).

    Args:
        model: trained.
        gain: factor on the logits, at least 0.
        shift: added to the logits behind it.
    """
    if model.blend is None:
        return
    model.blend.weight.mul_(gain)
    if model.blend.bias is not None:
        model.blend.bias.mul_(gain).add_(shift)
