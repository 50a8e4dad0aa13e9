"""Textured backgrounds, so that finding and cropping a face is real work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def smooth_noise(generator: np.random.Generator, size: tuple[int, int], cells: int | tuple[int, int]) -> NDArray[np.float32]:
    """Value noise (H, W) float32 in [-1, 1] with ``cells`` cells along the longer side, or (rows, columns) of cells."""
    height, width = size
    longer = max(height, width)
    rows, columns = cells if isinstance(cells, tuple) else (round(cells * height / longer), round(cells * width / longer))
    rows, columns = max(2, rows + 1), max(2, columns + 1)
    grid = generator.uniform(-1.0, 1.0, (rows, columns)).astype(np.float32)
    y, x = np.linspace(0, rows - 1, height, dtype=np.float32), np.linspace(0, columns - 1, width, dtype=np.float32)
    i, j = np.minimum(y.astype(int), rows - 2), np.minimum(x.astype(int), columns - 2)
    fy, fx = (y - i)[:, None], (x - j)[None]
    fy, fx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
    a, b = grid[i][:, j], grid[i][:, j + 1]
    c, d = grid[i + 1][:, j], grid[i + 1][:, j + 1]
    return (a * (1 - fy) + c * fy) * (1 - fx) + (b * (1 - fy) + d * fy) * fx


def make_background(generator: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A random background: a wall, a soft gradient, stripes, panels or blurred blobs, with grain.

    Args:
        generator: where the draw comes from.
        size: (H, W) [px].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = size
    kind = int(generator.integers(5))
    # Walls and rooms are mostly greyish: pull each colour half way to its mean.
    base = generator.uniform(35, 205, 3).astype(np.float32)
    base = 0.3 * base + 0.7 * base.mean()
    other = base + generator.normal(0, 32) + generator.normal(0, 14, 3)
    other = np.clip(other, 15, 240).astype(np.float32)
    y, x = np.meshgrid(np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32), indexing="ij")
    angle = generator.uniform(0, np.pi)
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    if kind == 0:
        mix = 0.5 + 0.5 * along
    elif kind == 1:
        mix = 0.5 + 0.5 * np.tanh(6 * np.sin(along * generator.uniform(5, 14) + generator.uniform(0, 6)))
    elif kind == 2:
        columns, rows = generator.integers(2, 6, 2)
        cells = generator.uniform(0, 1, (rows, columns)).astype(np.float32)
        mix = cells[np.minimum(((y + 1) / 2 * rows).astype(int), rows - 1), np.minimum(((x + 1) / 2 * columns).astype(int), columns - 1)]
    elif kind == 3:
        mix = np.zeros(size, np.float32)
        for _ in range(7):
            cx, cy, radius = generator.uniform(-1, 1), generator.uniform(-1, 1), generator.uniform(0.08, 0.45)
            mix += generator.uniform(0.2, 0.8) / (1 + np.exp(np.clip((np.hypot(x - cx, y - cy) - radius) * 40, -30, 30)))
        mix = np.minimum(mix, 1.2)
    else:
        mix = 0.5 + 0.5 * smooth_noise(generator, size, 5)
    mix = mix + 0.20 * smooth_noise(generator, size, 14) + 0.08 * smooth_noise(generator, size, 60)
    image = base + (other - base) * mix[..., None]
    image += generator.normal(0, 3.0, size).astype(np.float32)[..., None]
    # In C order: the compiled shader would be compiled again for another layout.
    return np.clip(image + 0.5, 0, 255).astype(np.uint8, order="C")
