"""Guards at public edges: shape, range, finiteness. Messages name the argument, what was expected and what came."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class ShapeError(ValueError):
    """An array has another shape than the docstring promises."""


class MissingWeightsError(RuntimeError):
    """Weights or an asset that the chosen configuration needs are not there."""


def check_shape(name: str, array: Any, shape: tuple[int | None, ...]) -> None:
    """Raise ShapeError unless ``array.shape`` equals ``shape``; None stands for any size."""
    actual = tuple(array.shape)
    if len(actual) != len(shape) or any(want is not None and want != got for want, got in zip(shape, actual, strict=True)):
        expected = tuple("*" if size is None else size for size in shape)
        raise ShapeError(f"{name}: expected shape {expected}, got {actual}")


def check_finite(name: str, array: Any) -> None:
    """Raise ValueError when a value is NaN or infinite."""
    finite = torch.isfinite(array).all().item() if isinstance(array, torch.Tensor) else np.isfinite(array).all()
    if not finite:
        raise ValueError(f"{name}: contains NaN or infinite values")


def check_image(name: str, image: torch.Tensor) -> None:
    """Raise unless ``image`` is (B, 3, H, W) float in [0, 1] (a tolerance of 1e-3 for rounding)."""
    check_shape(name, image, (None, 3, None, None))
    low, high = image.min().item(), image.max().item()
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(f"{name}: expected values in [0, 1], got [{low:.3g}, {high:.3g}]")
