"""Random generators that belong to an item, not to an order: sharding, batch and cores never change a draw."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive_seed(*parts: object) -> int:
    """63-bit seed from any printable parts, equal on every machine and Python version."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_generator(*parts: object) -> np.random.Generator:
    """NumPy generator for one item, e.g. ``numpy_generator(seed, clip, "blinks")``."""
    return np.random.default_rng(derive_seed(*parts))


def torch_generator(*parts: object, device: str = "cpu") -> torch.Generator:
    """Torch generator for one item."""
    generator = torch.Generator(device=device)
    generator.manual_seed(derive_seed(*parts))
    return generator
