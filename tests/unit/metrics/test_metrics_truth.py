"""Metrics that start from landmarks, against the truth of the embedded corpus' own motion: blink events, landmark distances."""

import numpy as np
import pytest
import torch

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import crop_camera, project
from flowvqtalker.face.pose import transform
from flowvqtalker.metrics.blinks import BlinkF1, blink_events, closure_from_landmarks, match_events
from flowvqtalker.metrics.landmarks import EQUIVALENT_SIZE_PX, REGIONS, lmd_centred_px, lmd_raw_px
from flowvqtalker.motion import Generators, draw_style, generate_motion
from flowvqtalker.speech.espeak import synthesize
from flowvqtalker.speech.sentences import SENTENCES


@pytest.fixture(scope="module")
def clips():
    """24 clips of as many people: (T, 68, 2) true landmarks px at 128, (n, 2) blinks [s]."""
    model, camera, found = make_face_model("clay"), crop_camera(128), []
    speeches = [synthesize(text, "en-us+m3").placed(0.15, 6.0) for text in SENTENCES["test"][:4]]
    for number in range(24):
        style = draw_style(np.random.default_rng(number))
        motion = generate_motion(speeches[number % len(speeches)], EMOTIONS[number % 8], 0.67, style, Generators(number, f"clip{number}"))
        alpha = torch.as_tensor(model.sample_identity(np.random.default_rng(number)), dtype=torch.float64)
        points = model.landmarks(alpha, torch.as_tensor(motion.beta, dtype=torch.float64))
        placed = transform(points, torch.as_tensor(motion.pose, dtype=torch.float64))
        found.append((project(placed, camera).numpy(), np.asarray(motion.blinks, dtype=np.float64).reshape(-1, 2)))
    return found


def add(score: BlinkF1, points: np.ndarray, blinks: np.ndarray) -> None:
    """Score a clip; a blink of which it shows less than two frames may be found or not, neither counts."""
    cut = (blinks[:, 0] >= (len(points) - 2) / FPS_HZ) | (blinks[:, 1] <= 2 / FPS_HZ)
    found = blink_events(closure_from_landmarks(points)) / FPS_HZ
    score.update(np.array([event for event in found if not match_events(event[None], blinks[cut]).hits]), blinks[~cut])


def test_blink_events_from_true_landmarks_are_the_true_ones(clips):
    score = BlinkF1(1 / FPS_HZ)
    for points, blinks in clips:
        add(score, points, blinks)
    assert score.match.hits >= 30
    assert score.compute() >= 0.99, score.match


def test_blink_events_survive_the_error_of_found_landmarks(clips):
    """Noise of 1.2 % of the outer-eye distance a point and frame, the error that the trained back end has."""
    score, generator = BlinkF1(1 / FPS_HZ), np.random.default_rng(0)
    for points, blinks in clips:
        eyes = np.linalg.norm(points[:, 36] - points[:, 45], axis=-1)[:, None, None]
        noisy = points + 0.012 / np.sqrt(2) * eyes * generator.normal(size=points.shape)
        add(score, noisy, blinks)
    assert score.compute() >= 0.90, score.match


@pytest.mark.parametrize("region", ["mouth", "face"])
def test_landmark_distances_equal_their_definition_written_out(clips, region):
    (a, _), (b, _) = clips[0], clips[8]
    count = min(len(a), len(b), 10)
    a, b, chosen = a[:count], b[:count], range(*REGIONS[region].indices(68))
    scale = EQUIVALENT_SIZE_PX / 128
    for t in range(count):
        centre_a, centre_b = (np.mean([side[t, k] for k in chosen], axis=0) for side in (a, b))
        centred = np.mean([np.hypot(*((a[t, k] - centre_a) - (b[t, k] - centre_b))) for k in chosen]) * scale
        raw = np.mean([abs(a[t, k, axis] - b[t, k, axis]) for k in chosen for axis in (0, 1)]) * scale
        assert lmd_centred_px(a, b, region, 128)[t] == pytest.approx(centred)
        assert lmd_raw_px(a, b, region, 128)[t] == pytest.approx(raw)
