"""Faces of a recording: found in parts, followed, chosen; shots told apart; crops that follow."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from flowvqtalker.landmarks import faces, moving, schema, shots
from flowvqtalker.landmarks.face_alignment import FaceAlignmentLandmarker


def box(u: float, v: float, size: float = 20) -> np.ndarray:
    return np.array([u - size / 2, v - size / 2, u + size / 2, v + size / 2], np.float32)


def sights(*per_frame: list[np.ndarray], every: int = 5) -> list[tuple[int, np.ndarray]]:
    return [(k * every, np.array(found, np.float32).reshape(-1, 4)) for k, found in enumerate(per_frame)]


# ------------------------------------------------------------------------------------------------------------------------ shots


def scene(seed: int, shift: int = 0) -> np.ndarray:
    """A soft random picture, 96 x 128, moved by some pixels."""
    noise = np.random.default_rng(seed).normal(size=(120, 160, 3))
    soft = np.stack([ndimage.gaussian_filter(noise[..., channel], 5) for channel in range(3)], -1)
    soft = 128 + 60 * soft / soft.std()
    return soft.clip(0, 255).astype(np.uint8)[10:106, 10 + shift : 138 + shift]


def test_a_cut_is_found_and_motion_flash_fade_and_shake_are_none():
    still = [scene(1)] * 12
    assert shots.find_cuts(shots.thumbnails(np.stack([*still, *[scene(2)] * 12])), min_change=7) == [12]
    pan = np.stack([scene(1, shift) for shift in (0, 1, 2, 4, 6, 9, 9, 9, 13, 14)])
    assert shots.find_cuts(shots.thumbnails(pan), min_change=7) == []
    flash = np.stack([*still, np.full_like(scene(1), 255), *still])
    assert shots.find_cuts(shots.thumbnails(flash), min_change=7) == []
    fade = np.stack([(scene(1) * (1 - k / 24) + scene(2) * (k / 24)).astype(np.uint8) for k in range(25)])
    assert shots.find_cuts(shots.thumbnails(fade), min_change=7) == []
    shake = np.stack([scene(k) for k in range(12)])
    assert shots.find_cuts(shots.thumbnails(shake), min_change=7) == [], "noise at every frame is no list of shots"
    popping = np.stack(still + still)
    popping[12:, 20:50, 30:60] = 255
    assert shots.find_cuts(shots.thumbnails(popping), min_change=7) == []
    assert shots.find_cuts(shots.thumbnails(np.stack([*still, *[scene(2)] * 12])), min_change=0) == []


def test_a_cut_is_found_at_the_edges_of_a_recording():
    for first in (1, 2, 22, 23):
        frames = np.stack([scene(1)] * first + [scene(2)] * (24 - first))
        assert shots.find_cuts(shots.thumbnails(frames), min_change=7) == [first]


# ------------------------------------------------------------------------------------------------------------------------ paths


def test_two_people_are_two_paths_and_each_rule_takes_its_own():
    left_small, right_large = [box(30, 50, 20)] * 10, [box(90, 50, 30)] * 4
    found = sights(*[[left_small[k], *([right_large[k]] if k < 4 else [])] for k in range(10)])
    paths = faces.link_faces(found, [], 50, 25)
    assert sorted(len(path.frames) for path in paths) == [4, 10]
    assert [path.size_px for path in faces.choose_paths(paths, "largest")] == [30]
    assert [path.size_px for path in faces.choose_paths(paths, "persistent")] == [20]
    assert [path.size_px for path in faces.choose_paths(paths, "chosen", point=(95, 50))] == [30]
    assert len(faces.choose_paths(paths, "all")) == 2
    with pytest.raises(ValueError, match="point"):
        faces.choose_paths(paths, "chosen")
    with pytest.raises(ValueError, match="nearest"):
        faces.choose_paths(paths, "nearest")


def test_a_path_ends_where_the_face_left_at_a_cut_and_after_a_long_gap():
    found = sights([], [], [box(50, 50)], [box(52, 50)], [], [], [box(51, 50)])
    (one,) = faces.link_faces(found, [], 35, 25)
    assert (one.first, one.last, one.frames) == (6, 34, [10, 15, 30])
    first, second = faces.link_faces(found, [], 35, 10)
    assert (first.last, second.first) == (19, 26)
    first, second = faces.link_faces(sights(*[[box(50, 50)]] * 4), [10], 20, 25)
    assert (first.first, first.last, second.first, second.last) == (0, 9, 10, 19)


def test_a_face_is_not_confused_with_one_of_another_size_or_place():
    assert len(faces.link_faces(sights([box(50, 50, 20)], [box(50, 50, 60)]), [], 10, 25)) == 2
    assert len(faces.link_faces(sights([box(30, 50, 20)], [box(90, 50, 20)]), [], 10, 25)) == 2
    swapped = sights([box(30, 50), box(60, 50)], [box(59, 50), box(31, 50)])
    assert {len(path.frames) for path in faces.link_faces(swapped, [], 10, 25)} == {2}


def test_faces_that_follow_each_other_share_no_frame():
    found = sights([box(30, 50)], [box(30, 50)], [box(90, 50)], [box(90, 50)])
    chosen = faces.choose_paths(faces.link_faces(found, [], 20, 25), "persistent")
    expected, segment, crowded = faces.lane_of(chosen, chosen, 20)
    assert segment.tolist() == [0] * 10 + [1] * 10 and np.isfinite(expected).all() and not crowded.any()


def test_boxes_in_between_are_interpolated_and_neighbours_are_known():
    found = sights([box(30, 50), box(70, 50)], [box(40, 50), box(70, 50)], [box(50, 50), box(70, 50)])
    paths = faces.link_faces(found, [], 15, 25)
    chosen = faces.choose_paths(paths, "chosen", point=(40, 50))
    expected, _, crowded = faces.lane_of(chosen, paths, 15)
    assert faces.centre_of(expected)[:11, 0] == pytest.approx(np.linspace(30, 50, 11)) and crowded.all()


def test_parts_of_the_picture_cover_it_and_small_faces_get_large_in_them():
    for width, height in ((1080, 1920), (640, 360), (64, 64)):
        covered = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in faces.tiles(width, height):
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and x1 - x0 == y1 - y0
            if x1 - x0 < min(width, height):
                covered[y0:y1, x0:x1] = True
        assert covered.all()
    boxes = np.repeat(box(200, 1500, 60)[None], 40, 0)
    ((start, stop, part),) = faces.windows_of(boxes, np.zeros(40, int), 1080, 1920)
    assert (start, stop) == (0, 40) and 60 <= part[2] - part[0] <= 200
    walking = np.stack([box(100 + 9 * k, 500, 60) for k in range(100)])
    windows = faces.windows_of(walking, np.zeros(100, int), 1920, 1080)
    assert len(windows) >= 2 and windows[0][0] == 0 and windows[-1][1] == 100
    assert all(
        faces.windows_of(np.repeat(box(320, 180, 300)[None], 5, 0), np.zeros(5, int), 640, 360)[0][2] == (0, 0, 640, 360) for _ in "a"
    )
    assert faces.windows_of(boxes, np.full(40, -1), 1080, 1920) == []


class Bright:
    """Finds bright squares that fill at least a tenth of the picture's side: a detector with a small input."""

    def find_faces(self, pictures, max_faces):
        for picture in pictures:
            parts, _ = ndimage.label(picture.min(axis=-1) > 200)
            places = ndimage.find_objects(parts)
            boxes = [
                (p[1].start, p[0].start, p[1].stop - 1, p[0].stop - 1)
                for p in places
                if min(one.stop - one.start for one in p) >= 0.1 * max(picture.shape)
            ]
            yield np.array(boxes[:max_faces], np.float32).reshape(-1, 4)


def test_a_small_face_in_a_tall_picture_is_found_part_by_part_once():
    picture = np.full((960, 540, 3), 30, np.uint8)
    picture[700:740, 60:100] = 255
    assert len(next(Bright().find_faces([picture], 4))) == 0
    found = faces.search_tiles(Bright(), picture, 4)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, [[60, 700, 99, 739]])


# ----------------------------------------------------------------------------------------------------------------------- moving


def walk(count: int = 200, jitter: float = 0.0) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(68, 2)) * 8
    centre = np.stack([40 + 0.8 * np.arange(count), np.full(count, 60.0)], -1)
    noise = np.random.default_rng(1).normal(0, jitter, (count, 1, 2))
    return (points + centre[:, None] + noise).astype(np.float32)


def test_moving_boxes_follow_a_walk_hold_the_face_and_do_not_shake():
    points = walk(jitter=1.5)
    points[50:60] = np.nan
    boxes = moving.moving_boxes(points, scale=1.4, shift_up_share=0.05, sd_frames=25)
    side = boxes[:, 2] - boxes[:, 0]
    assert np.ptp(side) < 1e-9 and np.allclose(boxes[:, 3] - boxes[:, 1], side)
    seen = schema.has_face(points)
    inside = (points[seen] > boxes[seen, None, :2] - 0.5) & (points[seen] < boxes[seen, None, 2:] - 0.5)
    assert inside.all(axis=(1, 2)).mean() >= 0.98
    step = np.diff(boxes[:, 0])
    assert np.abs(step - 0.8).max() < 0.2, "a steady walk, also at both ends"
    assert np.abs(np.diff(step)).max() < 0.02


def test_moving_crops_agree_with_the_fixed_ones_and_move_by_fractions():
    frames = np.random.default_rng(0).integers(0, 255, (1, 60, 80, 3)).astype(np.uint8)
    from flowvqtalker.landmarks.boxes import crop_frames, to_crop

    fixed = crop_frames(frames, (10, 5, 42, 37), 64)
    free = moving.crop_moving(frames, np.array([[10.0, 5, 42, 37]]), 64)
    assert np.abs(fixed.astype(int) - free)[:, 4:-4, 4:-4].mean() < 3
    ramp = np.repeat(np.arange(80, dtype=np.uint8)[None, :] * 2, 60, 0)[None, ..., None].repeat(3, -1)
    half = moving.crop_moving(np.repeat(ramp, 2, 0), np.array([[10.0, 5, 42, 37], [10.5, 5, 42.5, 37]]), 32).astype(int)
    assert (half[1] - half[0])[:, 4:-4].mean() == pytest.approx(1, abs=0.1)
    points = np.random.default_rng(2).normal(20, 5, (1, 68, 2))
    np.testing.assert_allclose(moving.to_moving_crop(points, np.array([[10.0, 5, 42, 37]]), 64), to_crop(points, (10, 5, 42, 37), 64))
    beyond = moving.crop_moving(frames, np.array([[-20.0, -20, 30, 30]]), 32)
    assert (beyond[0, :8, :8] == beyond[0, 0, 0]).mean() > 0.9


# ---------------------------------------------------------------------------------------------------------------- face_alignment


class GridFan(nn.Module):
    """In place of FAN: the maps peak at 68 different cells about the centre of the crop."""

    def __init__(self, _size: int) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = torch.zeros(len(x), 68, 64, 64)
        maps[:, range(68), [20 + k % 24 for k in range(68)], [20 + k // 3 for k in range(68)]] = 1
        return maps


@pytest.fixture
def fan(monkeypatch):
    """The back end with stand-ins for its networks: the detector finds bright squares and counts its calls."""
    import face_alignment
    import face_alignment.models

    calls: list[tuple[int, int]] = []

    class Detector:
        reference_scale = 195

        def detect_from_image(self, picture):
            calls.append(picture.shape[:2])
            found = next(Bright().find_faces([picture], 9))
            return [np.array([*one, 0.9]) for one in found]

    monkeypatch.setattr(face_alignment.models, "FAN", GridFan)
    original = face_alignment.FaceAlignment.__init__

    def start(self, kind, **options):
        assert options["compile"] is False
        options.update(face_detector="folder", face_detector_kwargs={})
        original(self, kind, **options)
        self.face_detector = Detector()

    monkeypatch.setattr(face_alignment.FaceAlignment, "__init__", start)
    weights = io.BytesIO()
    torch.save(GridFan(4).state_dict(), weights)
    return FaceAlignmentLandmarker(weights.getvalue(), b"", b"", detect_every=5), calls


def video(centres: list[tuple[int, int] | None]) -> np.ndarray:
    frames = np.full((len(centres), 120, 160, 3), 30, np.uint8)
    for frame, centre in zip(frames, centres, strict=True):
        if centre is not None:
            frame[centre[1] - 15 : centre[1] + 16, centre[0] - 15 : centre[0] + 16] = 255
    return frames


def test_fan_detects_every_few_frames_and_follows_in_between(fan):
    finder, calls = fan
    frames = video([(60 + k, 60) for k in range(20)])
    expected = np.stack([box(60 + k, 60, 30) for k in range(20)])
    found = finder.follow([frames[:7], frames[7:]], expected, np.zeros(20, int), np.zeros(20, bool))
    assert found.present.all() and len(calls) == 4
    assert max(calls) < (120, 160), "only around the face"
    on_detection = found.landmarks_px[[0, 5, 10, 15]].mean(axis=1)
    assert np.diff(on_detection[:, 0]) == pytest.approx(5, abs=1.1)


def test_fan_takes_back_what_it_named_after_the_face_had_left(fan):
    finder, _ = fan
    frames = video([(60, 60)] * 8 + [None] * 12)
    expected = np.repeat(box(60, 60, 30)[None], 20, 0)
    found = finder.follow([frames[:6], frames[6:]], expected, np.zeros(20, int), np.zeros(20, bool))
    assert found.present[:6].all() and not found.present[6:].any()


def test_fan_follows_the_expected_one_of_two(fan):
    finder, _ = fan
    frames = video([(40, 60)] * 6)
    frames[:, 45:76, 100:131] = 255
    expected = np.repeat(box(115, 60, 30)[None], 6, 0)
    found = finder.follow([frames], expected, np.zeros(6, int), np.ones(6, bool))
    assert (found.landmarks_px[:, :, 0].mean(axis=1) > 85).all()
    assert [len(one) for one in finder.find_faces([frames[0], np.zeros((50, 50, 3), np.uint8)], 5)] == [2, 0]
