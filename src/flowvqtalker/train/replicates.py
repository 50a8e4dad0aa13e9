"""Several trainings of one variant that differ by their seed alone."""

from __future__ import annotations

from flowvqtalker.seeding import derive_seed


def replicate_seed(replicate: int, *parts: object) -> int:
    """63-bit seed of one training.

    Args:
        replicate: 0 for the first training, whose seed is that of the parts alone; every other number gives a seed of its own.
        parts: what the training's seed derives from.
    """
    return derive_seed(*parts, *(("replicate", replicate) if replicate else ()))
