"""Lids, teeth and what a label changes: drawn faces with known answers."""

import numpy as np
import pytest

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.change import aligned_mean, change_correlation, change_energy, fine_change, to_unit
from flowvqtalker.metrics.lids import ClosedLids, balanced_accuracy, closed_threshold, eye_contrast
from flowvqtalker.metrics.sharpness import luminance
from flowvqtalker.metrics.teeth import inner_mouth_pixels, lip_gap, teeth_contrast, teeth_correlation

SIZE = 64


def face(shift=(0.0, 0.0)) -> np.ndarray:
    """(68, 2) px: eyes 12 px wide, inner lips 16 px wide and 8 px apart."""
    points = np.zeros((68, 2))
    points[:, 0], points[:, 1] = np.linspace(8, 56, 68), 6 + 4 * np.sin(np.arange(68))
    for first, left in ((36, 12.0), (42, 40.0)):
        points[first : first + 6] = [[left, 24], [left + 4, 21], [left + 8, 21], [left + 12, 24], [left + 8, 27], [left + 4, 27]]
    points[27:31] = [[32, 24], [32, 28], [32, 32], [32, 36]]
    points[60:68] = [[24, 48], [28, 45], [32, 44], [36, 45], [40, 48], [36, 51], [32, 52], [28, 51]]
    return points + np.array(shift)


def picture(points: np.ndarray, *, shut: bool = False, teeth: float = 230.0) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8: grey skin, white eyes with a dark iris, a dark mouth whose upper half is teeth."""
    v, u = np.mgrid[:SIZE, :SIZE]
    image = np.full((SIZE, SIZE), 150.0)
    for a, b in ((36, 39), (42, 45)):
        centre = (points[a] + points[b]) / 2
        inside = ((u - centre[0]) / 6) ** 2 + ((v - centre[1]) / 3) ** 2 <= 1
        if not shut:
            image[inside] = 240
            image[inside & (np.abs(u - centre[0]) < 2)] = 20
    middle = points[60:68].mean(0)
    mouth = ((u - middle[0]) / 8) ** 2 + ((v - middle[1]) / 4) ** 2 <= 1
    image[mouth] = 30
    image[mouth & (v < middle[1])] = teeth
    return np.repeat(image[..., None], 3, -1).round().astype(np.uint8)


def test_open_eyes_have_contrast_and_lids_have_none():
    points = face()
    frames = np.stack([picture(points), picture(points, shut=True)])
    contrast = eye_contrast(frames, np.stack([points, points]))
    assert contrast[0] > 50
    assert contrast[1] == pytest.approx(0)


def test_contrast_follows_the_eyes_and_knows_no_face():
    points, other = face(), face((3.0, -2.0))
    frames = np.stack([picture(points), picture(other), picture(points)])
    contrast = eye_contrast(frames, np.stack([points, other, np.full((68, 2), np.nan)]))
    assert contrast[1] == pytest.approx(contrast[0], rel=1e-6)
    assert np.isnan(contrast[2])


def test_threshold_lies_between_closed_and_open():
    values, closed = np.array([0.1, 0.2, 0.9, 1.0, np.nan]), np.array([True, True, False, False, True])
    threshold = closed_threshold(values, closed)
    assert 0.2 < threshold <= 0.9
    assert balanced_accuracy(values, closed, threshold) == 1.0
    with pytest.raises(ValueError, match="both kinds"):
        closed_threshold(values, np.zeros(5, bool))


def test_threshold_beats_every_other():
    generator = np.random.default_rng(3)
    closed = generator.random(200) < 0.2
    values = np.round(generator.normal(np.where(closed, 0.4, 0.8), 0.2), 2)
    best = balanced_accuracy(values, closed, closed_threshold(values, closed))
    assert best == pytest.approx(max(balanced_accuracy(values, closed, cut) for cut in np.arange(-1, 2, 0.005)))


def test_closed_lids_count_closed_and_open_frames_only():
    lids = ClosedLids()
    closure = np.array([1.0, 0.9, 0.5, 0.1, 0.0, 0.0])
    lids.update(np.array([0.1, 0.9, 0.1, 0.1, 0.9, np.nan]), closure, 0.5, 0.8, 0.3)
    assert lids.compute() == 0.5
    assert lids.false_closures() == pytest.approx(1 / 3)
    twice = ClosedLids()
    twice.merge(lids)
    twice.merge(lids)
    assert (twice.closed, twice.compute()) == (4, 0.5)
    assert np.isnan(ClosedLids().compute())


def test_lip_gap_is_a_share_of_the_eyes():
    points = face()
    assert lip_gap(points) == pytest.approx((6 + 8 + 6) / 3 / 40)
    assert lip_gap(2 * points) == pytest.approx(lip_gap(points))


def test_teeth_are_light_against_dark():
    points = face()[None]
    seen, faint, blank = (luminance(picture(points[0], teeth=level)[None]) for level in (230.0, 80.0, 30.0))
    assert teeth_contrast(seen, points)[0] == pytest.approx(200)
    assert teeth_contrast(faint, points)[0] == pytest.approx(50)
    assert teeth_contrast(blank, points)[0] == pytest.approx(0)
    assert teeth_correlation(seen, seen, points)[0] == pytest.approx(1)
    assert teeth_correlation(faint, seen, points)[0] == pytest.approx(1)  # fainter, but in its place
    assert teeth_correlation(blank, seen, points)[0] == 0
    assert np.isnan(teeth_correlation(seen, blank, points)[0])


def test_lower_teeth_for_upper_ones_correlate_negatively():
    points = face()[None]
    real = luminance(picture(points[0])[None])
    swapped = np.where(real == 230, 30, np.where(real == 30, 230, real))
    assert teeth_correlation(swapped, real, points)[0] < -0.9


def test_closed_lips_show_no_teeth():
    points = face()
    points[60:68, 1] = 48
    assert inner_mouth_pixels(np.zeros((1, SIZE, SIZE)), points[None])[0].size == 0
    assert np.isnan(teeth_contrast(np.zeros((1, SIZE, SIZE)), points[None])[0])


def test_aligned_mean_undoes_the_head_s_motion():
    moves = [(0.0, 0.0), (5.0, 3.0), (-4.0, 2.0)]
    frames, points = np.stack([picture(face(move)) for move in moves]), np.stack([face(move) for move in moves])
    still = aligned_mean(frames[:1], points[:1], to_unit(face(), SIZE))
    moved = aligned_mean(frames, points, to_unit(face(), SIZE))
    assert still == pytest.approx(luminance(frames[0]), abs=0.5)
    assert moved[12:58, 12:52] == pytest.approx(still[12:58, 12:52], abs=0.5)  # whole pixels: nothing is blurred
    assert np.abs(frames.mean((0, 3)) - still)[12:58, 12:52].max() > 50


def test_aligned_mean_leaves_out_frames_without_a_face():
    frames, points = np.stack([picture(face()), np.zeros((SIZE, SIZE, 3), np.uint8)]), np.stack([face(), np.full((68, 2), np.nan)])
    assert aligned_mean(frames, points, to_unit(face(), SIZE)) == pytest.approx(luminance(frames[0]), abs=0.5)
    assert np.isnan(aligned_mean(frames, np.full((2, 68, 2), np.nan), to_unit(face(), SIZE))).all()
    with pytest.raises(ShapeError):
        aligned_mean(frames[:, :, :32], points, to_unit(face(), SIZE))


def test_change_is_measured_in_its_region():
    change, mask = np.zeros((8, 8)), np.zeros((8, 8), bool)
    mask[2:4] = True
    change[2], change[3], change[7] = 4.0, -2.0, 100.0
    assert change_energy(change, mask) == pytest.approx(3)
    assert change_correlation(0.1 * change, change, mask) == pytest.approx(1)
    assert change_correlation(-change, change, mask) == pytest.approx(-1)
    assert change_correlation(np.zeros((8, 8)), change, mask) == 0
    assert np.isnan(change_correlation(change, np.zeros((8, 8)), mask))
    assert np.isnan(change_energy(change, np.zeros((8, 8), bool)))


def test_fine_change_keeps_creases_and_drops_shade():
    u = np.mgrid[:32, :32][1].astype(float)
    shade, crease = 0.5 * u, 10.0 * (u == 16)
    assert np.abs(fine_change(shade, 2.0)[:, 8:24]).max() < 0.05
    assert fine_change(crease + shade, 2.0)[:, 16] == pytest.approx(8.0, abs=0.2)
