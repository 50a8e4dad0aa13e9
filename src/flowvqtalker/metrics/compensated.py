"""Temporal flicker that motion does not explain: the difference to the frame before after block matching."""

from __future__ import annotations

import numpy as np
from numba import njit

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.base import MeanAccumulator

#: Side of a block and largest motion searched for; at 128 px and 25 fps a talking head moves less than this between frames.
BLOCK_PX = 8
REACH_PX = 4


@njit(cache=True)
def _residuals(grey, second, block, reach, out):
    """Write into ``out`` the mean absolute difference of each frame of ``second`` to the one before, each block moved to where it fits best."""
    _, height, width = grey.shape
    for index in range(second.shape[0]):
        t = second[index]
        total, pixels = 0, 0
        for top in range(0, height - block + 1, block):
            for left in range(0, width - block + 1, block):
                best = np.int64(1 << 60)
                # Standing still is tried first: of equal matches the nearest stays.
                for k in range((2 * reach + 1) * (2 * reach + 1) + 1):
                    if k == 0:
                        dy, dx = 0, 0
                    else:
                        dy, dx = (k - 1) // (2 * reach + 1) - reach, (k - 1) % (2 * reach + 1) - reach
                    if top + dy < 0 or left + dx < 0 or top + dy + block > height or left + dx + block > width:
                        continue
                    error = np.int64(0)
                    for row in range(block):
                        for column in range(block):
                            error += abs(grey[t, top + row, left + column] - grey[t - 1, top + dy + row, left + dx + column])
                        if error >= best:
                            break
                    if error < best:
                        best = error
                        if best == 0:
                            break
                total += best
                pixels += block * block
        out[index] = total / max(pixels, 1)


def compensated_flicker(grey: np.ndarray, block_px: int = BLOCK_PX, reach_px: int = REACH_PX, every: int = 1) -> np.ndarray:
    """Motion-compensated temporal difference: ``mean_p |x_t(p) - x_(t-1)(p + v(p))|``, v the motion of p's block that makes it least. Compare with the real video.

    What moves rigidly by up to ``reach_px`` whole pixels costs nothing; what changes its brightness or boils does.

    Args:
        grey: (T, H, W) grey values [0, 255], any real type (rounded to whole levels), T at least 2; both sides at least ``block_px``.
        block_px: Side of the blocks; a ragged border is left out.
        reach_px: Largest shift searched, in whole pixels, each way.
        every: Look at every n-th pair of neighbouring frames only.

    Returns:
        (ceil((T - 1) / every),) float64 grey levels; 0 for a still.

    Raises:
        ShapeError: other shape.

    Unit: grey levels [0, 255].
    Source: full-search block matching as in video coding (ITU-T H.261); the residual as flicker is ours.
    Pitfalls: half-pixel motion and uncovered background leave a residual in real video too, so 0 (a still) is not the aim; it depends on the
    picture's size, on the codec and on film grain: compare at one size and one encoder setting only.
    """
    if grey.ndim != 3 or len(grey) < 2 or min(grey.shape[1:]) < block_px:
        raise ShapeError(f"grey: expected (T, H, W) with T at least 2 and sides of at least {block_px} px, got {tuple(grey.shape)}")
    levels = np.ascontiguousarray(np.clip(np.rint(grey), 0, 255).astype(np.int16))
    second = np.arange(1, len(levels), every)
    result = np.empty(len(second))
    _residuals(levels, second, block_px, reach_px, result)
    return result


class CompensatedFlicker(MeanAccumulator):
    """Mean of :func:`compensated_flicker` over all pairs of frames seen [grey levels]."""

    def update(self, grey: np.ndarray) -> None:
        self.add(compensated_flicker(grey))
