"""Where a recording is cut: what one frame shows is nowhere near in the frame before, and stays so.

Frames are compared as small pictures in blocks, and every block may come from a little way off: a moving head, a panning camera or a crop that
jumps by a few pixels is no cut, another camera is, also when it shows a face at the same place.
"""

from __future__ import annotations

import numpy as np

#: Cells of a side of the small pictures, of a block in them, and how far a block may have moved.
GRID, BLOCK, MOVE = 48, 8, 4
#: A block counts for no more grey levels than this: something that appears at one place is no cut, however bright.
MOST = 30.0
#: Frames on each side that tell how much change is ordinary here.
REACH = 6


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) uint8 -> (T, GRID, GRID, 3) uint8, means over at most 2 x 2 samples of each cell."""
    height, width = frames.shape[1:3]

    def places(length: int) -> np.ndarray:
        return ((np.arange(GRID * 2) + 0.5) * length / (GRID * 2)).astype(np.int64)

    sampled = frames[:, places(height)[:, None], places(width)[None, :]].astype(np.uint16)
    return (sampled.reshape(len(frames), GRID, 2, GRID, 2, 3).sum(axis=(2, 4)) // 4).astype(np.uint8)


def unexplained(one: np.ndarray, two: np.ndarray) -> float:
    """Mean difference of two small pictures when each block of the second is taken from its best place near by in the first [grey levels]."""
    first, second = one.astype(np.int16), two.astype(np.int16)
    padded = np.pad(first, ((MOVE, MOVE), (MOVE, MOVE), (0, 0)), mode="edge")
    blocks = GRID // BLOCK
    best = np.full((blocks, blocks), np.inf)
    for y in range(2 * MOVE + 1):
        for x in range(2 * MOVE + 1):
            away = np.abs(padded[y : y + GRID, x : x + GRID] - second).mean(axis=-1)
            best = np.minimum(best, away.reshape(blocks, BLOCK, blocks, BLOCK).mean(axis=(1, 3)))
    return float(np.minimum(best, MOST).mean())


def find_cuts(small: np.ndarray, *, min_change: float, ratio: float = 3.0) -> list[int]:
    """First frames of new shots.

    Frame t begins a shot when at least ``min_change`` grey levels of it are unexplained by frame t - 1, when its plain change is ``ratio`` times
    the median change of the frames around (a shaking camera is not cut at every frame), and when the change lasts: frame t + 1 is as far from
    t - 1, and t from t - 2 (a flash and a damaged frame are not cuts).

    Args:
        small: (T, GRID, GRID, 3) pictures of ``thumbnails``.
        min_change: grey levels; 0 finds no cuts.
        ratio: how far a cut stands out from the motion around it.

    Returns:
        Frame numbers, rising.
    """
    if len(small) < 2 or min_change <= 0:
        return []
    flat = small.reshape(len(small), -1)
    change = np.array([np.abs(flat[t].astype(np.int16) - flat[t - 1]).mean() for t in range(1, len(flat))])
    cuts: list[int] = []
    for before in np.flatnonzero(change >= min_change):
        around = np.concatenate([change[max(0, before - REACH) : before], change[before + 1 : before + 1 + REACH]])
        if len(around) and change[before] < ratio * np.median(around):
            continue
        if change[before] < change[max(0, before - 3) : before + 4].max():  # the frames after a cut are still being built up by the codec
            continue
        pairs = {(before, before + 1), (before, min(before + 2, len(small) - 1)), (max(before - 1, 0), before + 1)}
        if min(unexplained(small[one], small[two]) for one, two in pairs) >= min_change:
            cuts.append(int(before) + 1)
    return cuts
