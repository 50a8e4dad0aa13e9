"""What all accumulating metrics share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self


class Accumulator(ABC):
    """A metric that sees the data clip by clip: ``update`` many times, ``compute`` once.

    Subclasses keep sums, never the data, unless their docstring says so; two accumulators of the same kind can be merged,
    so that clips may be spread over processes in any way.
    """

    @abstractmethod
    def reset(self) -> None:
        """Forget everything seen so far."""

    @abstractmethod
    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take in one clip (or one batch of frames)."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in all that ``other`` has seen."""

    @abstractmethod
    def compute(self) -> float:
        """Value over everything seen; NaN when nothing was."""


class MeanAccumulator(Accumulator):
    """Mean over items of equal weight (usually frames): sum of values over number of values. NaN values are left out and counted."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total = 0.0
        self.count = 0
        self.left_out = 0

    def add(self, values: Any) -> None:
        """Add an array of per-item values (any shape)."""
        import numpy as np

        flat = np.asarray(values, dtype=np.float64).ravel()
        known = flat[~np.isnan(flat)]
        self.total += float(known.sum())
        self.count += known.size
        self.left_out += flat.size - known.size

    def update(self, values: Any) -> None:
        self.add(values)

    def merge(self, other: MeanAccumulator) -> None:
        self.total += other.total
        self.count += other.count
        self.left_out += other.left_out

    def compute(self) -> float:
        return self.total / self.count if self.count else float("nan")
