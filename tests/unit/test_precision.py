"""bfloat16 only where the device has arithmetic for it."""

import pytest
import torch

from flowvqtalker import precision


def result_dtype(wanted: str) -> torch.dtype:
    with precision.autocast(torch.device("cpu"), wanted):
        return torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"architecture": "aarch64", "bf16": True}, True),
        ({"architecture": "aarch64", "neon": True}, False),
    ],
)
def test_a_processor_without_bf16_arithmetic_computes_in_fp32(monkeypatch, capabilities, expected):
    """Bug: on a processor with AVX2 only, bf16 was emulated and a training step took six to ten times as long."""
    precision.computes_bf16.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    try:
        assert precision.computes_bf16("cpu") is expected
        assert result_dtype("bf16") == (torch.bfloat16 if expected else torch.float32)
        assert result_dtype("fp32") == torch.float32
        assert precision.computes_bf16("cuda") is True
    finally:
        precision.computes_bf16.cache_clear()


def test_unknown_precisions_are_named():
    with pytest.raises(ValueError, match="precision"):
        precision.autocast(torch.device("cpu"), "fp8")
