"""Emotion tracks: weights per frame, blends, schedules, and what they refuse."""

import pytest
import torch

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.flow.conditioner import emotion_weights
from flowvqtalker.flow.control import EmotionTrack, blend, one_emotion, schedule

HAPPY, SAD = EMOTIONS.index("happy"), EMOTIONS.index("sad")


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("intensity", [0.0, 1 / 3, 0.7, 1.0, 1.5])
def test_one_emotion_has_the_weights_of_a_label_and_an_intensity_bit_for_bit(emotion, intensity):
    weights, strength = one_emotion(emotion, intensity).at(7, 3)
    asked = 0.0 if emotion == "neutral" else intensity
    want = emotion_weights(torch.tensor([EMOTIONS.index(emotion)]), torch.tensor([asked]), len(EMOTIONS))
    assert torch.equal(weights, want.expand(3, -1)) and torch.equal(strength, torch.tensor([asked] * 3))


def test_a_blend_shares_the_intensity_between_two_emotions():
    weights, strength = blend("happy", "sad", 0.4, 0.5).at(0, 1)
    assert weights[0, [HAPPY, SAD, 0]].tolist() == pytest.approx([0.3, 0.2, 0.5]) and strength.item() == pytest.approx(0.5)
    beyond, strength = blend("happy", "sad", 0.25, 1.2).at(0, 1)
    assert beyond[0, [HAPPY, SAD, 0]].tolist() == pytest.approx([0.75, 0.25, 0.0], abs=1e-6) and strength.item() == pytest.approx(1.2)
    for share, alone in ((0.0, "happy"), (1.0, "sad")):
        assert torch.equal(blend("happy", "sad", share, 0.8).at(0, 1)[0], one_emotion(alone, 0.8).at(0, 1)[0])
    towards_neutral = blend("happy", "neutral", 0.5).at(0, 1)[0]
    assert torch.equal(towards_neutral, one_emotion("happy", 0.5).at(0, 1)[0])


def test_a_schedule_is_linear_between_rows_and_constant_outside():
    track = schedule([(1.0, "happy", 1.0), (2.0, "sad", 0.5)])
    weights, intensity = track.at(0, 75)
    assert torch.equal(weights[0], weights[25]) and weights[0, HAPPY] == 1
    assert weights[-1, SAD] == 0.5 and weights[-1, 0] == 0.5
    share = torch.arange(26) / 25
    torch.testing.assert_close(weights[25:51, HAPPY], 1 - share)
    torch.testing.assert_close(weights[25:51, SAD], 0.5 * share)
    torch.testing.assert_close(intensity[25:51], 1 - 0.5 * share)
    torch.testing.assert_close(weights.sum(1), torch.ones(75))


def test_frames_of_a_track_do_not_depend_on_where_a_chunk_begins():
    track = schedule([(0.2, "angry", 1.5), (1.1, "neutral", 1.0), (1.6, "fear", 0.4)])
    whole = track.at(0, 60)
    for first in (0, 13, 41):
        for part, all_of_it in zip(track.at(first, 9), whole, strict=True):
            assert torch.equal(part, all_of_it[first : first + 9])


def test_rows_of_one_second_add_up():
    both = schedule([(0.0, "happy", 0.6), (0.0, "sad", 0.4), (1.0, "neutral", 1.0)])
    torch.testing.assert_close(both.at(0, 1)[0], blend("happy", "sad", 0.4).at(0, 1)[0])
    assert both.at(25, 1)[0][0, 0] == 1 and not both.is_constant and one_emotion("sad").is_constant


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: one_emotion("bored"), "expected one of neutral, angry"),
        (lambda: one_emotion("sad", 1.6), r"\[0, 1.5\], got 1.6"),
        (lambda: one_emotion("sad", float("nan")), r"\[0, 1.5\], got nan"),
        (lambda: blend("sad", "happy", 1.1), "share: expected"),
        (lambda: schedule([]), "at least one row"),
        (lambda: schedule([(0, "sad", 1), (2, "sad", 1), (1, "sad", 1)]), "rising times, got 1 after 2; a jump is two points 0.04 s apart"),
        (lambda: schedule([(0, "sad", 1), (0, "happy", 0.6)]), "sum in"),
        (lambda: schedule([(-1, "sad", 1)]), "from 0 on"),
        (lambda: schedule([(float("nan"), "sad", 1)]), "finite"),
        (lambda: EmotionTrack((0.0,), ((1.0, 0.0),)), "8 emotions"),
        (lambda: EmotionTrack((), ()), "at least one"),
    ],
)
def test_bad_tracks_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
