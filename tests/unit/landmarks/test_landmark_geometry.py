"""Boxes, tracks, schema and quality signs against known answers."""

from __future__ import annotations

import numpy as np
import pytest

from flowvqtalker.landmarks import boxes, quality, schema


def make_face(centre: tuple[float, float] = (100, 90), size: float = 60, yaw: float = 0.0) -> np.ndarray:
    """A crude but symmetric 68-point face turned by ``yaw`` radians (orthographic), (68, 2)."""
    points = np.zeros((68, 3))
    angle = np.linspace(-1.45, 1.45, 17)
    points[:17] = np.stack([np.sin(angle) * 0.5, np.cos(angle) * 0.6 - 0.1, -0.25 * np.ones(17)], -1)
    points[17:22] = [[-0.35 + 0.06 * i, -0.35, 0] for i in range(5)]
    points[27:31] = [[0, -0.25 + 0.1 * i, 0.05 * i] for i in range(4)]
    points[31:36] = [[-0.08 + 0.04 * i, 0.08, 0.05] for i in range(5)]
    points[36:42] = [[-0.3, -0.22, 0], [-0.25, -0.26, 0], [-0.18, -0.26, 0], [-0.12, -0.22, 0], [-0.18, -0.18, 0], [-0.25, -0.18, 0]]
    ring = np.linspace(0, 2 * np.pi, 13)[:12]
    points[48:60] = np.stack([-0.18 * np.cos(ring), 0.28 - 0.08 * np.sin(ring), np.zeros(12)], -1)
    ring = np.linspace(0, 2 * np.pi, 9)[:8]
    points[60:68] = np.stack([-0.12 * np.cos(ring), 0.28 - 0.03 * np.sin(ring), np.zeros(8)], -1)
    flip = np.array(schema.FLIP)
    for left in (*range(22, 27), *range(42, 48)):
        points[left] = points[flip[left]] * [-1, 1, 1]
    points[30, 2] = 0.3
    turned = points[:, 0] * np.cos(yaw) + points[:, 2] * np.sin(yaw)
    return np.stack([turned, points[:, 1]], -1) * size + centre


def test_flip_is_an_involution_that_keeps_groups():
    flip = np.array(schema.FLIP)
    np.testing.assert_array_equal(flip[flip], np.arange(68))
    assert set(flip[list(schema.RIGHT_EYE)]) == set(schema.LEFT_EYE)
    assert set(flip[list(schema.OUTER_LIPS)]) == set(schema.OUTER_LIPS)
    assert sorted(index for group in schema.GROUPS.values() for index in group) == list(range(68))


def test_mirrored_symmetric_face_is_itself():
    face = make_face((50, 50))
    mirrored = face[list(schema.FLIP)] * [-1, 1] + [100, 0]
    np.testing.assert_allclose(mirrored, face, atol=1e-9)


def test_error_is_in_eye_distances():
    face = make_face()
    assert schema.landmark_error(face, face) == 0
    assert schema.landmark_error(face + np.array([3.0, 4.0]), face) == pytest.approx(5.0 / schema.outer_eye_distance(face))


def test_openness_follows_lids_and_lips_whatever_the_size():
    face = make_face()
    np.testing.assert_allclose(schema.eye_openness(face * 3 + 7), schema.eye_openness(face))
    shut = face.copy()
    shut[[37, 38]] = shut[[41, 40]]
    right, left = schema.eye_openness(shut)
    assert right == 0 and left == pytest.approx(schema.eye_openness(face)[1])
    wide = face.copy()
    wide[[65, 66, 67], 1] += 5
    assert schema.lip_aperture(wide) > schema.lip_aperture(face)


@pytest.mark.parametrize("yaw", [-40, -15, 0, 15, 40])
def test_yaw_is_that_of_the_turned_face(yaw):
    assert quality.yaw_deg(make_face(yaw=np.radians(yaw))) == pytest.approx(yaw, abs=3)


def test_blur_lowers_sharpness():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (1, 32, 32, 3)).astype(np.uint8)
    soft = ((frame[:, :-1].astype(int) + frame[:, 1:]) // 2).astype(np.uint8)
    assert quality.sharpness(frame) > 1.2 * quality.sharpness(soft)
    assert quality.sharpness(np.full((1, 8, 8, 3), 9, np.uint8)) == pytest.approx(0, abs=1e-4)


def test_box_and_points_map_back_and_forth():
    box = (-7, 12, 93, 112)
    points = np.random.default_rng(0).uniform(0, 100, (5, 68, 2))
    np.testing.assert_allclose(boxes.from_crop(boxes.to_crop(points, box, 128), box, 128), points, atol=1e-9)
    np.testing.assert_allclose(boxes.to_crop(np.array([[-7.5, 11.5], [92.5, 111.5]]), box, 128), [[-0.5, -0.5], [127.5, 127.5]])


@pytest.mark.parametrize("size", [40, 64, 200])
def test_crop_moves_pixels_as_to_crop_moves_points(size):
    """A bright blob is found in the crop where its centre maps to."""
    rows, columns = np.mgrid[:120, :160]
    blob = np.exp(-((columns - 60) ** 2 + (rows - 40) ** 2) / 30)
    frames = np.repeat((blob * 255).astype(np.uint8)[None, :, :, None], 3, -1)
    box = (10, -5, 110, 95)
    crop = boxes.crop_frames(frames, box, size)[0, :, :, 0].astype(float)
    found = (crop * np.mgrid[:size, :size][1]).sum() / crop.sum(), (crop * np.mgrid[:size, :size][0]).sum() / crop.sum()
    np.testing.assert_allclose(found, boxes.to_crop(np.array([60.0, 40.0]), box, size), atol=0.15 * size / 100 + 0.05)


def test_outside_the_picture_the_border_is_repeated():
    frames = np.random.default_rng(0).integers(0, 255, (2, 20, 30, 3)).astype(np.uint8)
    crop = boxes.crop_frames(frames, (-4, -4, 24, 24), 28)
    np.testing.assert_array_equal(crop[:, 4:24, 4:], frames[:, :, :24])
    np.testing.assert_array_equal(crop[:, 0, 4:], frames[:, 0, :24])
    np.testing.assert_array_equal(crop[:, 27, 0], frames[:, 19, 0])


def test_static_box_is_square_centred_and_robust():
    face = make_face()
    clip = np.repeat(face[None], 100, 0)
    clip[3] += 80  # one wild frame must not blow the box up
    clip[5] = np.nan
    x0, y0, x1, y1 = boxes.static_box(clip, scale=1.5)
    centre, size = boxes.extent_of(face)
    assert x1 - x0 == y1 - y0 == int(np.ceil(1.5 * size))
    np.testing.assert_allclose([(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2], centre, atol=1.0)
    up = boxes.static_box(clip, scale=1.5, shift_up_share=0.1)
    assert y0 - up[1] == pytest.approx(0.1 * 1.5 * size, abs=1)
    with pytest.raises(ValueError, match="no frame"):
        boxes.static_box(clip[5:6], scale=1.5)


def test_static_box_holds_a_swaying_head():
    sway = 40 * np.sin(np.linspace(0, 20, 200))
    clip = np.stack([make_face((100 + shift, 90)) for shift in sway])
    x0, _, x1, _ = boxes.static_box(clip, scale=1.2)
    inside = ((clip[..., 0] > x0 - 0.5) & (clip[..., 0] < x1 - 0.5)).all(axis=1)
    assert inside.mean() >= 0.97


def test_tracks_split_at_gaps_and_jumps():
    clip = np.stack([make_face() for _ in range(60)])
    clip[10:12] = np.nan  # short: bridged
    clip[20:30] = np.nan  # long: splits
    clip[45:] += 90  # a cut
    clip[58:] = np.nan
    tracks = boxes.split_tracks(clip, max_gap_frames=3, max_jump_share=0.5)
    assert [(track.start, track.stop) for track in tracks] == [(0, 20), (30, 45), (45, 58)]
    assert boxes.split_tracks(np.full((5, 68, 2), np.nan), max_gap_frames=3, max_jump_share=0.5) == []


def test_smoothing_keeps_lines_and_blinks():
    line = np.linspace(0, 1, 40)[:, None, None] * np.ones((40, 68, 2))
    np.testing.assert_allclose(boxes.smooth_landmarks(line, 0.5)[3:-3], line[3:-3], atol=1e-9)
    blink = np.zeros((21, 68, 2))
    blink[8:13] = np.array([0.5, 1, 1, 1, 0.5])[:, None, None]
    assert boxes.smooth_landmarks(blink, 0.5).max() > 0.95
    holed = line.copy()
    holed[7] = np.nan
    smooth = boxes.smooth_landmarks(holed, 0.5)
    assert np.isnan(smooth[7]).all() and np.isfinite(np.delete(smooth, 7, 0)).all()
    noise = np.random.default_rng(0).normal(size=(500, 68, 2))
    assert boxes.smooth_landmarks(noise, 0.5).std() < 0.85


def test_boxes_beyond_the_picture_repeat_its_border_wherever_they_lie():
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 255, (2, 40, 50, 3)).astype(np.uint8)
    for _ in range(300):
        side, x0, y0 = int(rng.integers(1, 90)), int(rng.integers(-120, 80)), int(rng.integers(-120, 80))
        rows, columns = np.clip(np.arange(y0, y0 + side), 0, 39), np.clip(np.arange(x0, x0 + side), 0, 49)
        expected = frames[:, rows[:, None], columns[None]]
        np.testing.assert_array_equal(boxes.crop_frames(frames, (x0, y0, x0 + side, y0 + side), side), expected)
