"""Accuracy of an emotion judge's verdicts: pooled, balanced, per emotion, per level, with the confusion matrix."""

from __future__ import annotations

import numpy as np

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.base import Accumulator


def confusion_matrix(truth: np.ndarray, verdict: np.ndarray, n_classes: int) -> np.ndarray:
    """(n_classes, n_classes) counts: row = true emotion, column = judge's verdict. Labels below 0 (unlabelled) are left out."""
    truth, verdict = np.asarray(truth, dtype=np.int64), np.asarray(verdict, dtype=np.int64)
    if truth.shape != verdict.shape or truth.ndim != 1:
        raise ShapeError(f"labels: expected two arrays (N,), got {tuple(truth.shape)} and {tuple(verdict.shape)}")
    known = truth >= 0
    return np.bincount(truth[known] * n_classes + verdict[known], minlength=n_classes**2).reshape(n_classes, n_classes)


def per_class_accuracy_pct(confusion: np.ndarray) -> np.ndarray:
    """(n_classes,) share of each true class that was named rightly [%]; NaN for classes that do not occur."""
    totals = confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(totals > 0, 100.0 * np.diag(confusion) / np.maximum(totals, 1), np.nan)


class EmotionAccuracy(Accumulator):
    """Share of clips whose emotion the judge names as intended, ``100 right / all`` (``compute`` = micro: all clips alike). Higher is better.

    Unit: % of clips.
    Source: Acc_emo of EAT and EDTalk (a video-level classifier).
    Pitfalls: means nothing without the judge's own accuracy on real clips;
    a generator of caricatures beats reality; micro and macro differ when classes are uneven.
    """

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self.reset()

    def reset(self) -> None:
        self.by_level: dict[int, np.ndarray] = {}

    def update(self, truth: np.ndarray, verdict: np.ndarray, level: np.ndarray) -> None:
        """Add clips: (N,) true labels, (N,) verdicts, (N,) levels (0 = neutral)."""
        for value in np.unique(level):
            chosen = np.asarray(level) == value
            matrix = confusion_matrix(np.asarray(truth)[chosen], np.asarray(verdict)[chosen], self.n_classes)
            self.by_level[int(value)] = self.by_level.get(int(value), 0) + matrix

    def merge(self, other: EmotionAccuracy) -> None:
        for level, matrix in other.by_level.items():
            self.by_level[level] = self.by_level.get(level, 0) + matrix

    def confusion(self) -> np.ndarray:
        """(n_classes, n_classes) counts over all levels."""
        return sum(self.by_level.values(), np.zeros((self.n_classes, self.n_classes), dtype=np.int64))

    def compute(self) -> float:
        matrix = self.confusion()
        return 100.0 * np.trace(matrix) / matrix.sum() if matrix.sum() else float("nan")

    def macro_pct(self) -> float:
        """Mean of the per-emotion accuracies [%], over emotions that occur."""
        values = per_class_accuracy_pct(self.confusion())
        return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

    def per_level_pct(self) -> dict[int, float]:
        """Accuracy of each level [%]."""
        return {level: 100.0 * np.trace(matrix) / matrix.sum() for level, matrix in sorted(self.by_level.items()) if matrix.sum()}
