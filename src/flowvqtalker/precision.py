"""In which number format networks compute: bfloat16 where the device has arithmetic for it, float32 elsewhere."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = ("bf16", "fp32")


@functools.cache
def computes_bf16(device_type: str) -> bool:
    """Whether a device has arithmetic for bfloat16: any GPU, and CPUs with AVX-512 BF16, AMX or Arm's BF16 extension.

    Elsewhere oneDNN emulates it: on a processor with AVX2 only, a training step of the landmark networks took 9 to 12 times as long as in
    float32 (docs/decisions/0023).

    Args:
        device_type: ``torch.device.type``.
    """
    if device_type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name, False)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Context that runs convolutions and matrix products in the given precision.

    Args:
        device: where the tensors live.
        precision: "bf16" (bfloat16 where the device computes in it, else float32) or "fp32".

    Raises:
        ValueError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {PRECISIONS}, got {precision!r}")
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" and computes_bf16(device.type) else nullcontext()
