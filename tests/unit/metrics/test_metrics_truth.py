"""Metrics that start from landmarks, against the truth of the embedded corpus' own motion: blink events, landmark distances, head turns."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import crop_camera, project
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.face.pose import transform
from flowvqtalker.metrics.blinks import BlinkF1, blink_events, closure_from_landmarks, shown_events
from flowvqtalker.metrics.diversity import pose_over_seeds_deg, pose_over_time_deg
from flowvqtalker.metrics.landmarks import EQUIVALENT_SIZE_PX, REGIONS, lmd_centred_px, lmd_raw_px
from flowvqtalker.motion import Generators, draw_style, generate_motion
from flowvqtalker.speech.espeak import synthesize
from flowvqtalker.speech.sentences import SENTENCES


class Clip(NamedTuple):
    """(T, 68, 2) true landmarks px at 128, (T, 68, 3) the same points in the head's frame [cm], (T, 6) pose, (T,) closure, (n, 2) blinks [s]."""

    points_px: np.ndarray
    points_cm: np.ndarray
    pose: np.ndarray
    closure: np.ndarray
    blinks: np.ndarray


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """24 clips of as many people of the embedded corpus."""
    model, camera, found = make_face_model("clay"), crop_camera(128), []
    speeches = [synthesize(text, "en-us+m3").placed(0.15, 6.0) for text in SENTENCES["test"][:4]]
    for number in range(24):
        style = draw_style(np.random.default_rng(number))
        motion = generate_motion(speeches[number % len(speeches)], EMOTIONS[number % 8], 0.67, style, Generators(number, f"clip{number}"))
        alpha = torch.as_tensor(model.sample_identity(np.random.default_rng(number)), dtype=torch.float64)
        points = model.landmarks(alpha, torch.as_tensor(motion.beta, dtype=torch.float64))
        placed = transform(points, torch.as_tensor(motion.pose, dtype=torch.float64))
        lids = motion.beta[:, [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]].mean(axis=1)
        blinks = np.asarray(motion.blinks, dtype=np.float64).reshape(-1, 2)
        found.append(Clip(project(placed, camera).numpy(), points.numpy(), np.asarray(motion.pose, np.float64), lids, blinks))
    return found


def add(score: BlinkF1, clip: Clip, points: np.ndarray) -> None:
    """Score a clip; a blink that an end of the clip cuts off before the lids close may be found or not, neither counts."""
    score.update(blink_events(closure_from_landmarks(points)) / FPS_HZ, clip.blinks, shown_events(clip.blinks, clip.closure, FPS_HZ))


def test_blink_events_from_true_landmarks_are_the_true_ones(clips):
    score = BlinkF1(1 / FPS_HZ)
    for clip in clips:
        add(score, clip, clip.points_px)
    assert score.match.hits >= 30
    assert score.compute() >= 0.99, score.match


def test_blink_events_survive_the_error_of_found_landmarks(clips):
    """Noise of 1.2 % of the outer-eye distance a point and frame, the error that the trained back end has; its own landmarks: test_metric_sweeps."""
    score, generator = BlinkF1(1 / FPS_HZ), np.random.default_rng(0)
    for clip in clips:
        points = clip.points_px
        eyes = np.linalg.norm(points[:, 36] - points[:, 45], axis=-1)[:, None, None]
        add(score, clip, points + 0.012 / np.sqrt(2) * eyes * generator.normal(size=points.shape))
    assert score.compute() >= 0.90, score.match


def test_only_blinks_that_a_frame_shows_are_judged(clips):
    """Every blink inside a clip is shown: what is left out lies at an end of the clip and is short."""
    total, left_out = 0, 0
    for clip in clips:
        shown, end = shown_events(clip.blinks, clip.closure, FPS_HZ), len(clip.closure) / FPS_HZ
        total += len(shown)
        for start, stop in clip.blinks[~shown]:
            left_out += 1
            assert (start < 0.01 or stop > end - 0.01) and stop - start < 0.12
    assert 0 < left_out <= 0.1 * total
    closure = np.zeros(100)
    closure[10:13] = 0.9
    events = np.array([[0.36, 0.5], [2.0, 2.2], [3.96, 4.0]])
    assert shown_events(events, closure, 25).tolist() == [True, False, False]
    score = BlinkF1()
    score.update(events[[0, 2]], events, np.array([True, True, False]))
    assert (score.match.hits, score.match.misses, score.match.false_alarms, score.unjudged) == (1, 1, 0, 1)
    score.update(np.array([[1.0, 1.2]]), events, np.array([True, True, False]))
    assert score.match.false_alarms == 1


def test_head_turns_equal_those_that_opencv_finds_in_the_true_landmarks(clips):
    """OpenCV's solvePnP knows nothing of our poses: its rotations of the true points give the same numbers as the true poses."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is the reference of the head pose")
    from scipy.spatial.transform import Rotation

    camera = crop_camera(128)
    matrix = np.array([[camera.focal_px, 0, camera.cx], [0, camera.focal_px, camera.cy], [0, 0, 1.0]])
    flip = np.diag([1.0, -1.0, -1.0])  # OpenCV looks along +z with v down, our camera along -z with v up
    for clip in clips[:6]:
        found = []
        for head, pixels in zip(clip.points_cm, clip.points_px, strict=True):
            good, turn, move = cv2.solvePnP(head, pixels, matrix, None, flags=cv2.SOLVEPNP_SQPNP)
            assert good
            turn, move = cv2.solvePnPRefineLM(head, pixels, matrix, None, turn, move)
            angles = Rotation.from_matrix(flip @ cv2.Rodrigues(turn)[0]).as_euler("xyz")
            found.append([*angles, *(flip @ move[:, 0] + (0, 0, camera.distance_cm))])
        found = np.array(found)
        np.testing.assert_allclose(found[:, :3], clip.pose[:, :3], atol=1e-4)
        np.testing.assert_allclose(found[:, 3:], clip.pose[:, 3:], atol=1e-2)
        assert pose_over_time_deg(found) == pytest.approx(pose_over_time_deg(clip.pose), rel=1e-3)
    count = min(len(clip.pose) for clip in clips[:6])
    samples = np.stack([clip.pose[:count] for clip in clips[:6]])
    by_hand = [np.degrees(np.std([sample[t, k] for sample in samples], ddof=1)) for t in range(count) for k in range(3)]
    assert pose_over_seeds_deg(samples) == pytest.approx(np.mean(by_hand))


@pytest.mark.parametrize("region", ["mouth", "face"])
def test_landmark_distances_equal_scipy_and_torchmetrics(clips, region):
    from scipy.spatial.distance import cdist
    from torchmetrics.functional import mean_absolute_error

    a, b = clips[0].points_px, clips[8].points_px
    count, chosen, scale = min(len(a), len(b)), REGIONS[region], EQUIVALENT_SIZE_PX / 128
    a, b = a[:count], b[:count]
    centred = [np.diag(cdist(x - x.mean(0), y - y.mean(0))).mean() * scale for x, y in zip(a[:, chosen], b[:, chosen], strict=True)]
    np.testing.assert_allclose(lmd_centred_px(a, b, region, 128), centred, rtol=1e-9)
    sides = [torch.from_numpy(np.ascontiguousarray(side[:, chosen])) for side in (a, b)]
    raw = [float(mean_absolute_error(x, y)) * scale for x, y in zip(*sides, strict=True)]
    np.testing.assert_allclose(lmd_raw_px(a, b, region, 128), raw, rtol=1e-6)


def test_landmark_distances_of_a_head_that_moves_are_what_the_camera_says(clips):
    """A head moved sideways by d cm moves each point by focal d / depth px: the true depth of every point is known."""
    camera, shift_cm = crop_camera(128), 0.3
    clip = clips[3]
    pose = torch.as_tensor(clip.pose)
    world = transform(torch.from_numpy(clip.points_cm), pose)
    moved = project(world + torch.tensor([shift_cm, 0.0, 0.0], dtype=torch.float64), camera).numpy()
    u_px = (camera.focal_px * shift_cm / (camera.distance_cm - world[..., 2])).numpy()
    for region, chosen in REGIONS.items():
        part = u_px[:, chosen] * EQUIVALENT_SIZE_PX / 128
        np.testing.assert_allclose(lmd_raw_px(moved, clip.points_px, region, 128), part.mean(1) / 2, rtol=1e-9)
        spread = np.abs(part - part.mean(1, keepdims=True)).mean(1)
        np.testing.assert_allclose(lmd_centred_px(moved, clip.points_px, region, 128), spread, rtol=1e-6, atol=1e-12)
        assert (spread < 0.1 * part.mean(1)).all()  # centring takes nearly all of it


@pytest.mark.parametrize("region", ["mouth", "face"])
def test_landmark_distances_equal_their_definition_written_out(clips, region):
    a, b = clips[0].points_px, clips[8].points_px
    count = min(len(a), len(b), 10)
    a, b, chosen = a[:count], b[:count], range(*REGIONS[region].indices(68))
    scale = EQUIVALENT_SIZE_PX / 128
    for t in range(count):
        centre_a, centre_b = (np.mean([side[t, k] for k in chosen], axis=0) for side in (a, b))
        centred = np.mean([np.hypot(*((a[t, k] - centre_a) - (b[t, k] - centre_b))) for k in chosen]) * scale
        raw = np.mean([abs(a[t, k, axis] - b[t, k, axis]) for k in chosen for axis in (0, 1)]) * scale
        assert lmd_centred_px(a, b, region, 128)[t] == pytest.approx(centred)
        assert lmd_raw_px(a, b, region, 128)[t] == pytest.approx(raw)
