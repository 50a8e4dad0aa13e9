"""Lips follow phonemes: ranges, seals, shapes of single sounds."""

from __future__ import annotations

import numpy as np
import pytest

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.motion.visemes import BILABIALS, VISEMES, lip_motion, phoneme_letters, seal_curve
from flowvqtalker.speech.espeak import Phoneme, Speech, synthesize
from flowvqtalker.speech.sentences import SENTENCES
from flowvqtalker.speech.voices import VOICES

JAW, CLOSE = EXPRESSION_INDEX["jawOpen"], EXPRESSION_INDEX["mouthClose"]
LOWER, UPPER = EXPRESSION_INDEX["mouthLowerDown_L"], EXPRESSION_INDEX["mouthUpperUp_L"]


def spoken(*symbols: str, each_s: float = 0.16) -> Speech:
    phonemes = tuple(Phoneme(s, i * each_s, (i + 1) * each_s) for i, s in enumerate(symbols))
    return Speech(np.zeros(int(len(symbols) * each_s * 16000), np.float32), phonemes, "", "")


def test_viseme_targets_are_coefficients():
    for letter, target in VISEMES.items():
        assert target.min() >= 0 and target.max() <= 1 and target.max() > 0, letter


def test_every_phoneme_of_every_accent_has_a_viseme():
    for voice in VOICES[:12]:
        for text in SENTENCES["train"][:6]:
            unknown = [p.symbol for p in synthesize(text, voice).phonemes if p.symbol.strip("ʲː") and not phoneme_letters(p.symbol)]
            assert not unknown, (voice, unknown)


def test_lips_seal_on_every_bilabial():
    for text in SENTENCES["test"]:
        speech = synthesize(text, "en-us+m3").placed(0.15, 3.2)
        beta = lip_motion(speech, 80)
        assert beta.min() >= 0 and beta.max() <= 1
        bilabials = [p for p in speech.phonemes if p.symbol[:1] in BILABIALS]
        assert bilabials
        for p in bilabials:
            frame = round((p.start_s + min(p.end_s, p.start_s + 0.16)) / 2 * FPS_HZ)
            assert beta[frame, CLOSE] == pytest.approx(beta[frame, JAW])
            assert beta[frame, LOWER] == beta[frame, UPPER] == 0


def test_open_vowels_open_and_rounded_vowels_round():
    open_vowel, rounded = lip_motion(spoken("t", "ɑː", "t"), 12)[6], lip_motion(spoken("t", "uː", "t"), 12)[6]
    pucker = EXPRESSION_INDEX["mouthPucker"]
    assert open_vowel[JAW] > 0.4 > 0.2 > rounded[JAW]
    assert rounded[pucker] > 0.3 > 0.05 > open_vowel[pucker]


def test_rounding_spreads_into_a_consonant_that_does_not_care():
    pucker = EXPRESSION_INDEX["mouthPucker"]
    rounded, spread = lip_motion(spoken("uː", "t", "uː"), 12)[6], lip_motion(spoken("iː", "t", "iː"), 12)[6]
    assert rounded[pucker] > 5 * max(spread[pucker], 0.02)


def test_diphthong_moves_from_its_first_to_its_second_part():
    beta = lip_motion(spoken("aɪ", each_s=0.4), 10)
    assert beta[2, JAW] > 1.5 * beta[8, JAW]


def test_silence_is_a_closed_mouth_at_rest():
    beta = lip_motion(Speech(np.zeros(16000, np.float32), (), "", ""), 25)
    assert np.abs(beta).max() == 0
    assert seal_curve((), 25).max() == 0
