"""Held-out likelihood of a flow in bits per dimension, and whether it listens to its conditions."""

from __future__ import annotations

import math

import numpy as np

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.base import Accumulator


def bits_per_dim(log_prob_nats: np.ndarray, n_dims: int) -> np.ndarray:
    """Negative log-likelihood per modelled number: ``-log p / (D ln 2)``. Lower is better; only differences between models of the same data mean anything.

    Args:
        log_prob_nats: (...) log-density of one frame [nats] in standardised units.
        n_dims: D, numbers modelled in a frame after near-constant ones were dropped.

    Returns:
        (...) bits; may be negative, as densities have no upper bound.

    Source: Theis, van den Oord and Bethge, "A note on the evaluation of generative models", ICLR 2016.
    Pitfalls: scaling the data moves it, so units, dropped dimensions and the dequantisation noise have to be the same for all models compared.
    """
    if n_dims < 1:
        raise ShapeError(f"n_dims: expected at least 1, got {n_dims}")
    return -np.asarray(log_prob_nats, dtype=np.float64) / (n_dims * math.log(2.0))


def listening_gap(matched: np.ndarray, shuffled: np.ndarray) -> float:
    """Bits per dimension that a condition is worth: mean of shuffled minus matched over the same frames. Above 0: the model listens; 0: it does not.

    Args:
        matched: (N,) bits per dimension with the clip's own condition (sound, emotion or history).
        shuffled: (N,) the same frames under another clip's condition.
    """
    a, b = np.asarray(matched, np.float64), np.asarray(shuffled, np.float64)
    if a.shape != b.shape:
        raise ShapeError(f"gap: the same frames are needed on both sides, got {a.shape} and {b.shape}")
    return float(np.mean(b - a)) if a.size else float("nan")


class HeldOutLikelihood(Accumulator):
    """Bits per dimension over all held-out frames (``compute``): total nats over total dimensions, so that long clips weigh more. Lower is better."""

    def __init__(self, n_dims: int) -> None:
        self.n_dims = n_dims
        self.reset()

    def reset(self) -> None:
        self.nats = 0.0
        self.frames = 0

    def update(self, log_prob_nats: np.ndarray) -> None:
        """Add the (T,) log-densities of one clip's frames."""
        values = np.asarray(log_prob_nats, dtype=np.float64).ravel()
        self.nats -= float(values.sum())
        self.frames += values.size

    def merge(self, other: HeldOutLikelihood) -> None:
        if other.n_dims != self.n_dims:
            raise ValueError(f"likelihoods over {self.n_dims} and {other.n_dims} dimensions cannot be mixed")
        self.nats += other.nats
        self.frames += other.frames

    def compute(self) -> float:
        return self.nats / (self.frames * self.n_dims * math.log(2.0)) if self.frames else float("nan")
