"""espeak-ng: the same bytes in any order and process, phonemes in order, refused voices."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from flowvqtalker.constants import SAMPLE_RATE_HZ
from flowvqtalker.speech.espeak import Prosody, Speech, SpeechError, synthesize
from flowvqtalker.speech.sentences import SENTENCES
from flowvqtalker.speech.voices import VOICES, prosody_of

TEXT = "The brown bag moved past five wet shoes."
_CHILD = (
    "import hashlib, sys; from flowvqtalker.speech.espeak import synthesize; "
    "print(hashlib.sha256(synthesize(sys.argv[1], sys.argv[2]).samples.tobytes()).hexdigest())"
)


def digest(speech: Speech) -> str:
    return hashlib.sha256(speech.samples.tobytes()).hexdigest()


def test_bytes_depend_on_nothing_spoken_before():
    first = {voice: synthesize(TEXT, voice) for voice in ("en-us+m3", "en-us+f3", "en-gb-scotland+f5")}
    libc = ctypes.CDLL(None)
    for voice in reversed(list(first)):
        synthesize("Something quite different was said in between.", "en-029+m7")
        libc.rand()  # breathy voices draw from the C library's generator
        again = synthesize(TEXT, voice)
        assert digest(again) == digest(first[voice])
        assert again.phonemes == first[voice].phonemes


@pytest.mark.parametrize("voice", ["en-gb-x-rp+f5"])
def test_bytes_equal_in_another_process(voice):
    synthesize(TEXT, "en-us+m1")
    there = subprocess.run([sys.executable, "-c", _CHILD, TEXT, voice], capture_output=True, text=True, check=True).stdout.strip()
    assert there == digest(synthesize(TEXT, voice))


def test_phoneme_times_rise_within_the_sound():
    for text in SENTENCES["test"]:
        speech = synthesize(text, "en-gb-x-rp+m3")
        starts = np.array([p.start_s for p in speech.phonemes])
        ends = np.array([p.end_s for p in speech.phonemes])
        assert len(starts) > 10
        assert (starts >= 0).all() and (ends > starts).all() and (ends <= speech.duration_s).all()
        assert (starts[1:] >= ends[:-1] - 1e-9).all()
        assert any(p.stress == 2 for p in speech.phonemes)


def test_loud_phonemes_are_where_the_events_say():
    speech = synthesize("Papa.", "en-us+m3")
    level = {
        kind: np.concatenate(
            [
                speech.samples[int(p.start_s * SAMPLE_RATE_HZ) : int(p.end_s * SAMPLE_RATE_HZ)]
                for p in speech.phonemes
                if (p.symbol == "p") == kind
            ]
        )
        for kind in (True, False)
    }
    assert np.sqrt((level[False] ** 2).mean()) > 3 * np.sqrt((level[True] ** 2).mean())


def test_an_unknown_voice_is_refused():
    with pytest.raises(SpeechError, match="does not know"):
        synthesize(TEXT, "en-nowhere+x9")


def test_empty_text_and_bad_prosody_are_refused():
    with pytest.raises(SpeechError):
        synthesize("  ")
    with pytest.raises(ValueError, match="pitch"):
        Prosody(pitch=120)


def test_rate_and_volume_do_what_they_say():
    plain, slow = synthesize(TEXT, prosody=Prosody()), synthesize(TEXT, prosody=Prosody(rate_wpm=120))
    loud = synthesize(TEXT, prosody=Prosody(volume=100))
    assert slow.duration_s > 1.2 * plain.duration_s
    assert np.abs(loud.samples).mean() > 1.1 * np.abs(plain.samples).mean()


def test_placed_shifts_pads_and_cuts():
    speech = synthesize(TEXT)
    longer = speech.placed(0.2, 4.0)
    n = round(0.2 * SAMPLE_RATE_HZ)
    assert len(longer.samples) == 4 * SAMPLE_RATE_HZ
    assert np.array_equal(longer.samples[n : n + len(speech.samples)], speech.samples)
    assert longer.phonemes[0].start_s == pytest.approx(speech.phonemes[0].start_s + 0.2)
    cut = speech.placed(0.1, 1.2)
    assert cut.duration_s == pytest.approx(1.2)
    assert max(p.end_s for p in cut.phonemes) <= 1.2
    assert len(cut.phonemes) < len(speech.phonemes)
    with pytest.raises(ValueError):
        speech.placed(2.0, 1.0)


def test_every_voice_speaks_and_is_another():
    assert len(set(VOICES)) == len(VOICES) == 72
    assert len({digest(synthesize("A moment.", voice)) for voice in VOICES}) == len(VOICES)


def test_sentences_are_disjoint_and_of_the_planned_length():
    texts = [text for part in SENTENCES.values() for text in part]
    assert len(set(texts)) == len(texts) >= 60
    lengths = [synthesize(text).duration_s for part in ("train", "val", "test") for text in SENTENCES[part]]
    assert min(lengths) > 1.5 and max(lengths) < 2.8 and 1.9 < np.mean(lengths) < 2.3


def test_prosody_scales_with_intensity():
    rng = np.random.default_rng
    fear = [prosody_of("fear", level, rng(3)).pitch for level in (1 / 3, 2 / 3, 1.0)]
    assert fear[0] < fear[1] < fear[2]
    assert prosody_of("sad", 1.0, rng(3)).rate_wpm < prosody_of("neutral", 0.0, rng(3)).rate_wpm
