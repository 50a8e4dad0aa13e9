"""The few collective operations that the loop needs; each does nothing when no process group exists.

Launch with ``torchrun``: every rank draws its own batch, gradients are averaged, so the weights stay equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist


def is_active() -> bool:
    """True inside an initialised process group of at least two ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Rank of this process; 0 without a process group."""
    return dist.get_rank() if is_active() else 0


def all_agree(flag: bool, device: torch.device | str = "cpu") -> bool:
    """True when the flag is true on every rank, so that all ranks skip the same steps."""
    if not is_active():
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MIN)
    return bool(value.item() > 0.5)


def from_first(value: float) -> float:
    """The value of rank 0 on every rank."""
    if not is_active():
        return value
    held: list[float | None] = [value]
    dist.broadcast_object_list(held, src=0)
    return float(held[0])  # type: ignore[arg-type]


def broadcast_modules(modules: Mapping[str, nn.Module]) -> None:
    """Give every rank the parameters and buffers of rank 0."""
    if is_active():
        for module in modules.values():
            for value in module.state_dict().values():
                dist.broadcast(value, src=0)


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace each gradient by its mean over the ranks.

    A parameter that no rank used keeps no gradient; one that only some ranks used counts as zero on the others.
    """
    if not is_active() or not parameters:
        return
    world = dist.get_world_size()
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    dist.all_reduce(used)
    for parameter, count in zip(parameters, used.tolist(), strict=True):
        if count:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= world
