"""Whole clips: emotions, takes, independence of order, ranges."""

from __future__ import annotations

import numpy as np
import pytest

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.motion import DECLARED, EMOTION_TARGETS, Generators, draw_still, draw_style, generate_motion
from flowvqtalker.motion.emotions import MIRROR, emotion_vector
from flowvqtalker.motion.generate import performed_emotion
from flowvqtalker.speech.espeak import synthesize
from flowvqtalker.speech.sentences import SENTENCES

INDEX = EXPRESSION_INDEX
STYLE = draw_style(np.random.default_rng(4))


def aperture(beta: np.ndarray) -> np.ndarray:
    return (
        beta[:, INDEX["jawOpen"]]
        - beta[:, INDEX["mouthClose"]]
        + 0.5 * (beta[:, INDEX["mouthLowerDown_L"]] + beta[:, INDEX["mouthUpperUp_L"]])
    )


@pytest.fixture(scope="module")
def speeches():
    return [synthesize(text, "en-us+m3").placed(0.15, 2.8) for text in SENTENCES["test"]]


def test_targets_name_shapes_within_range():
    assert tuple(EMOTION_TARGETS) == EMOTIONS
    for targets in EMOTION_TARGETS.values():
        assert set(targets) <= set(EXPRESSIONS)
        assert all(0 < value <= 1 for value in targets.values())
    assert emotion_vector("neutral").max() == 0


def test_only_contempt_is_one_sided():
    for emotion in EMOTIONS:
        vector = emotion_vector(emotion)
        assert np.array_equal(vector, vector[MIRROR]) == (emotion != "contempt")
    assert np.array_equal(MIRROR[MIRROR], np.arange(len(EXPRESSIONS)))
    assert np.array_equal(emotion_vector("contempt", mirrored=True)[MIRROR], emotion_vector("contempt"))


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_motion_is_valid_and_repeats(emotion, speeches):
    arguments = (speeches[0], emotion, 0.0 if emotion == "neutral" else 1.0, STYLE)
    motion = generate_motion(*arguments, Generators(1, "a", 1))
    generate_motion(speeches[1], "fear", 1.0, STYLE, Generators(1, "b", 1))
    again = generate_motion(*arguments, Generators(1, "a", 1))
    assert motion.beta.shape == (70, 53) and motion.beta.dtype == np.float32 and motion.pose.shape == (70, 6)
    assert motion.beta.min() >= 0 and motion.beta.max() <= 1
    assert (
        np.array_equal(motion.beta, again.beta) and np.array_equal(motion.pose, again.pose) and np.array_equal(motion.blinks, again.blinks)
    )
    other = generate_motion(*arguments, Generators(2, "a", 1))
    assert not np.array_equal(motion.beta, other.beta)


def test_lips_stay_sealed_under_every_emotion(speeches):
    jaw, close = INDEX["jawOpen"], INDEX["mouthClose"]
    parting = [INDEX[f"{name}_{side}"] for name in ("mouthLowerDown", "mouthUpperUp") for side in "LR"]
    for emotion in EMOTIONS:
        motion = generate_motion(speeches[2], emotion, 1.0, STYLE, Generators(0, "seal", 1))
        sealed = motion.seal >= 1
        assert sealed.any()
        assert np.allclose(motion.beta[sealed, jaw], motion.beta[sealed, close], atol=1e-6)
        assert motion.beta[sealed][:, parting].max() == 0


def test_two_takes_share_lips_but_not_head_nor_blinks(speeches):
    lips, heads, blinks = [], [], []
    for number, speech in enumerate(speeches):
        one, two = (generate_motion(speech, "happy", 2 / 3, STYLE, Generators(0, f"c{number}", take)) for take in (1, 2))
        lips.append(np.corrcoef(aperture(one.beta), aperture(two.beta))[0, 1])
        heads.append(np.corrcoef(one.pose[:, 1], two.pose[:, 1])[0, 1])
        blinks.append(one.blinks.shape == two.blinks.shape and np.array_equal(one.blinks, two.blinks) and len(one.blinks) > 0)
    assert 0.93 < np.mean(lips) < 0.995 and min(lips) > 0.85
    assert abs(np.mean(heads)) < 0.4
    assert not any(blinks)


def test_neutral_start_is_calm():
    speech = synthesize(SENTENCES["enrol"][0]).placed(0.3, 1.8)
    for number in range(20):
        motion = generate_motion(speech, "neutral", 0.0, STYLE, Generators(0, f"e{number}", 1), neutral_start=True)
        first = motion.beta[0]
        assert first == pytest.approx(STYLE.rest, abs=1e-6)
        assert first[[INDEX["eyeBlink_L"], INDEX["jawOpen"]]].max() < 0.15
        assert not len(motion.blinks) or motion.blinks[0, 0] >= 0.3


def test_generated_blink_rate_is_the_declared_one_times_the_style(speeches):
    onsets, seconds = 0, 0.0
    for number in range(250):
        motion = generate_motion(speeches[number % 14], "happy", 1.0, STYLE, Generators(0, f"r{number}", 1), n_frames=70)
        onsets += int((motion.blinks[:, 0] > 0).sum())
        seconds += 70 / FPS_HZ
    expected = DECLARED.blink_rate_hz["happy"] * STYLE.blink_factor * seconds
    assert abs(onsets - expected) < 4 * np.sqrt(expected)


def test_levels_grow_and_classes_overlap_at_level_one():
    """One classifier for all levels (the nearest target at level 2) names level 3 far more often than level 1."""
    targets = np.stack([emotion_vector(e) for e in EMOTIONS] + [emotion_vector("contempt", mirrored=True)])
    hits = {}
    for level in (1, 3):
        right = []
        for number in range(400):
            rng = np.random.default_rng(number)
            style = draw_style(rng)
            emotion = EMOTIONS[1 + number % 7]
            shown = performed_emotion(rng, emotion, level / 3, style) + style.rest
            nearest = int(np.argmin(((targets * 2 / 3 - shown) ** 2).sum(1)))
            right.append(EMOTIONS[nearest if nearest < 8 else 2] == emotion)
        hits[level] = np.mean(right)
    assert hits[3] > 0.9
    assert 0.3 < hits[1] < hits[3] - 0.1


def test_stills_are_valid_varied_faces():
    rng = np.random.default_rng(0)
    draws = [draw_still(rng, STYLE) for _ in range(400)]
    beta, pose = np.stack([d[0] for d in draws]), np.stack([d[1] for d in draws])
    assert beta.min() >= 0 and beta.max() <= 1 and beta.dtype == np.float32 and pose.shape == (400, 6)
    assert {d[2] for d in draws} == set(EMOTIONS)
    assert all((d[3] == 0) == (d[2] == "neutral") for d in draws)
    assert 0.02 < (beta[:, INDEX["eyeBlink_L"]] > 0.5).mean() < 0.25
    assert beta[:, INDEX["jawOpen"]].std() > 0.1
    assert 4 < np.degrees(pose[:, 1]).std() < 15


def test_bad_labels_are_refused(speeches):
    with pytest.raises(ValueError, match="bored"):
        generate_motion(speeches[0], "bored", 1.0, STYLE, Generators(0, "x"))
    with pytest.raises(ValueError, match="intensity"):
        generate_motion(speeches[0], "happy", 1.5, STYLE, Generators(0, "x"))
