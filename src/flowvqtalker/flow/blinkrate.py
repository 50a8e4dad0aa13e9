"""How often a sampled face blinks: an operation on the lids of sampled coefficients, and on nothing else.

The flow draws blinks together with the rest of the face, so a rate is not one of its conditions. It is scaled afterwards, and says so:
below 1 each blink is kept with that probability, above 1 blinks of another sample under the same conditions are added. Shapes and
lengths of added blinks are therefore the flow's own. The columns of the lids change during blinks; every other value stays bit for bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowvqtalker.checks import check_shape
from flowvqtalker.constants import FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.flow.expflow import BLINK_NAMES
from flowvqtalker.metrics.blinks import OFF_CLOSURE, ON_CLOSURE, blink_events
from flowvqtalker.seeding import derive_seed, numpy_generator

#: Largest factor that can be asked for: three times a talking person's rate leaves just enough room between blinks.
MOST_BLINKS = 3.0
#: A closure that lasts longer is a lowered lid (an emotion's, a glance down), no blink: it is neither taken out nor copied [frames].
LONGEST_BLINK = round(0.8 * FPS_HZ)
#: Share of a blink's height above the resting lid below which the lid counts as back.
_BACK = 0.1
#: Frames that the walk from a closed lid to its rest may take on each side.
_REACH = 10
#: Open frames that an added blink leaves on both sides where there is room (people do not blink again at once), and where there is not.
_GAPS = (8, 3)


@dataclass(frozen=True)
class Blink:
    """One blink of a clip.

    Attributes:
        first, last: Frames [first, last) in which the lids are away from their place.
        peak: Frame of the greatest closure.
    """

    first: int
    last: int
    peak: int


def lid_columns(coefficients: int) -> list[int]:
    """Columns of the lids.

    Raises:
        ValueError: the face model has no coefficients of its own for the lids.
    """
    if coefficients != len(EXPRESSIONS):
        raise ValueError(f"blink rate: needs a face model with the {len(EXPRESSIONS)} ARKit expressions, got {coefficients} coefficients")
    return [EXPRESSION_INDEX[name] for name in BLINK_NAMES]


def donors_needed(rate: float) -> int:
    """Samples beside the first one that a factor of the blink rate draws from."""
    return max(0, math.ceil(rate) - 1)


def donor_seed(seed: int, number: int) -> int:
    """Seed of a further sample, so that it does not depend on the first one's."""
    return derive_seed(seed, "blink donor", number) % 2**31


def closure_of(beta: np.ndarray) -> np.ndarray:
    """Closure (T,) of coefficients (T, 53): mean of both lids."""
    return beta[:, lid_columns(beta.shape[1])].mean(1)


def find_blinks(closure: np.ndarray) -> list[Blink]:
    """Blinks of a clip, from where the lids leave their place until they are back.

    A blink is an event of ``metrics.blinks.blink_events`` of at most LONGEST_BLINK frames. From its closed frames the walk goes outward
    until the lid is back at its rest (the median of the open frames within two seconds), stops falling, or meets another blink.

    Args:
        closure: (T,) closure of the lids, higher = more closed.
    """
    events = [(int(a), int(b)) for a, b in blink_events(closure, ON_CLOSURE, OFF_CLOSURE)]
    closed = np.zeros(len(closure), bool)
    for start, end in events:
        closed[start:end] = True
    found = []
    for start, end in events:
        if end - start > LONGEST_BLINK:
            continue
        peak = start + int(closure[start:end].argmax())
        near = slice(max(0, start - 2 * FPS_HZ), end + 2 * FPS_HZ)
        open_frames = closure[near][~closed[near]]
        rest = float(np.median(open_frames)) if len(open_frames) else 0.0
        back = rest + _BACK * (float(closure[peak]) - rest)
        found.append(Blink(_walk(closure, closed, start, -1, back), _walk(closure, closed, end - 1, 1, back) + 1, peak))
    # Two blinks may share the frames between them: the earlier one gives way.
    return [Blink(b.first, min(b.last, after.first), b.peak) for b, after in itertools.pairwise(found)] + found[-1:]


def _walk(closure: np.ndarray, closed: np.ndarray, edge: int, step: int, back: float) -> int:
    """Outermost frame of a blink on one side of its closed frames."""
    for _ in range(_REACH):
        after = edge + step
        if not 0 <= after < len(closure) or closed[after] or closure[after] <= back or closure[after] > closure[edge]:
            break
        edge = after
    return edge


def _without(lids: np.ndarray, blink: Blink) -> np.ndarray | None:
    """Lids (n, 2) of a blink's frames if it had not happened: a straight line between its neighbours; None without any neighbour."""
    before, after = blink.first - 1, blink.last
    if before < 0 and after >= len(lids):
        return None
    left = lids[before] if before >= 0 else lids[after]
    right = lids[after] if after < len(lids) else left
    share = (np.arange(blink.first, blink.last) - before)[:, None] / (after - before)
    return ((1 - share) * left + share * right).astype(lids.dtype)


def _place(wanted: int, length: int, taken: np.ndarray) -> int | None:
    """First frame, as near as can be to the wanted one, of a stretch that leaves a gap to everything taken; None if there is none."""
    blocked = np.concatenate([[0], np.cumsum(taken)])
    starts = np.arange(1, len(taken) - length)  # not at the clip's edges: a blink there would be cut
    for gap in _GAPS:
        low, high = np.maximum(starts - gap, 0), np.minimum(starts + length + gap, len(taken))
        free = starts[blocked[high] == blocked[low]]
        if len(free):
            return int(free[np.abs(free - wanted).argmin()])
    return None


def scale_blinks(beta: np.ndarray, donors: Sequence[np.ndarray], rate: float, seed: int) -> np.ndarray:
    """Change how often a sampled face blinks.

    Below 1 every blink is kept when its own uniform draw is below ``rate``, else the lids pass straight from where they were to where they
    will be; with the same seed a smaller rate keeps a part of what a larger one keeps. Above 1 the blinks of the donors are added, all of
    the first ``rate - 1`` of them, of the last one each when its draw is below the remainder. An added blink moves the lids from where they
    are to the donor's greatest closure, as far at each frame as the donor's blink has come. Where its place is taken it moves to the nearest free one; without any it is left out.

    Args:
        beta: (T, 53) sampled coefficients.
        donors: (T, 53) further samples of the same conditions under their own seeds; ``donors_needed(rate)`` of them.
        rate: Factor of the sampled rate, [0, MOST_BLINKS]; 1 changes nothing.
        seed: Of the draws.

    Returns:
        (T, 53) of beta's dtype; a new array that differs from ``beta`` in the lids only.
    """
    if not 0 <= rate <= MOST_BLINKS:
        raise ValueError(f"blink rate: expected a factor in [0, {MOST_BLINKS:g}], got {rate}")
    if len(donors) < donors_needed(rate):
        raise ValueError(f"donors: expected {donors_needed(rate)} for a blink rate of {rate}, got {len(donors)}")
    check_shape("beta", beta, (None, None))
    columns, made = lid_columns(beta.shape[1]), beta.copy()
    blinks = find_blinks(closure_of(beta))
    if rate < 1:
        for blink, draw in zip(blinks, numpy_generator(seed, "blinks", "thin").uniform(size=len(blinks)), strict=True):
            calm = _without(made[:, columns], blink)
            if draw >= rate and calm is not None:
                made[blink.first : blink.last, columns] = calm
        return made
    taken = closure_of(beta) >= OFF_CLOSURE  # lowered lids leave no room either
    for blink in blinks:
        taken[blink.first : blink.last] = True
    for number in range(donors_needed(rate)):
        donor = donors[number]
        check_shape("donor", donor, beta.shape)
        lids, share = donor[:, columns], min(1.0, rate - 1 - number)
        events = find_blinks(closure_of(donor))
        for blink, draw in zip(events, numpy_generator(seed, "blinks", "add", number).uniform(size=len(events)), strict=True):
            calm, length = _without(lids, blink), blink.last - blink.first
            start = _place(blink.first, length, taken) if draw < share and calm is not None else None
            if start is None or calm is None:
                continue
            shown = lids[blink.first : blink.last]
            height = (shown - calm).mean(1)
            way = np.clip(height / max(float(height.max()), 1e-6), 0, 1)[:, None].astype(beta.dtype)
            part = made[start : start + length, columns]
            # To the donor's greatest closure, not to its frame: a way of half a blink is half a blink here too, whatever the lids' rest.
            made[start : start + length, columns] = (1 - way) * part + way * shown[height.argmax()]
            taken[start : start + length] = True
    return made
