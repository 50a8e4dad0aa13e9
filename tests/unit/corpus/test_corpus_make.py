"""Clips of the embedded corpus: deterministic, in the frame, true to their truth."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from flowvqtalker.constants import FPS_HZ, SAMPLE_RATE_HZ
from flowvqtalker.corpus.make import Recipe, make_person, make_stills, make_talk, render_talk, truth_of
from flowvqtalker.corpus.plan import ClipSpec, CorpusSize, make_plan
from flowvqtalker.face import make_face_model
from flowvqtalker.speech.espeak import synthesize

PLAN = make_plan(CorpusSize(3, 1, 2, 9, 2, 4, 2, 2, 4, 0.0), 7)
RECIPE = Recipe(seed=7, size_px=96, face_share=(0.45, 0.6), rate_wpm=170, lead_s=0.12, tail_s=0.16, max_clip_s=0.6)
MODEL = make_face_model()


def spec_named(part: str) -> ClipSpec:
    return next(spec for spec in PLAN if part in spec.clip)


def digest_of(part: str) -> str:
    """Hash of everything about a clip: sound, truth, pictures."""
    spec = spec_named(part)
    talk = make_talk(spec, make_person(spec.identity, MODEL, 7), RECIPE)
    parts = [talk.speech.samples, *(array for _, array in sorted(truth_of(talk, MODEL).items())), *render_talk(talk, MODEL)]
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def test_the_same_clip_has_the_same_bytes_in_another_process_and_order():
    child = (
        f"import sys; sys.path.insert(0, {str(__file__).rsplit('/', 1)[0]!r}); import test_corpus_make as t; print(t.digest_of('te01_'))"
    )
    there = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout.strip()
    digest_of("tr00_")
    assert digest_of("te01_") == there
    assert digest_of("te01_") == there


def test_truth_has_the_shapes_of_the_contract():
    spec = spec_named("tr01_")
    talk = make_talk(spec, make_person(spec.identity, MODEL, 7), replace(RECIPE, max_clip_s=2.8))
    truth, n = truth_of(talk, MODEL), talk.n_frames
    assert truth["alpha"].shape == (MODEL.n_identity,) and truth["beta"].shape == (n, 53) and truth["pose"].shape == (n, 6)
    assert truth["landmarks_px"].shape == (n, 68, 2) and truth["landmarks_px"].dtype == np.float32
    assert truth["camera"].shape == (3,) and truth["distance_cm"].shape == ()
    assert len(truth["phonemes"]) == len(truth["phoneme_times_s"]) > 10
    assert (np.diff(truth["phoneme_times_s"][:, 0]) > 0).all() and truth["phoneme_times_s"].max() <= n / FPS_HZ
    assert len(talk.speech.samples) == n * SAMPLE_RATE_HZ // FPS_HZ


def test_faces_are_inside_the_frame_off_centre_and_of_the_wanted_size():
    centres, widths = [], []
    for spec in [spec for spec in PLAN if spec.kind == "video"][::3]:
        talk = make_talk(spec, make_person(spec.identity, MODEL, 7), RECIPE)
        marks = truth_of(talk, MODEL)["landmarks_px"]
        assert marks.min() > 0 and marks.max() < RECIPE.size_px - 1, spec.clip
        assert abs(talk.camera.distance_cm - 61) <= 9
        centres.append(marks.mean((0, 1)) / RECIPE.size_px)
        widths.append(np.median(np.ptp(marks[..., 0], axis=1)) / RECIPE.size_px)
    assert np.ptp(np.array(centres)[:, 0]) > 0.1
    assert min(widths) > 0.42 and max(widths) < 0.66


def test_landmarks_lie_where_the_picture_shows_the_head():
    """Against a background of one colour, the head's silhouette reaches from ear to ear of the truth."""
    spec = spec_named("tr02_enrol")
    talk = make_talk(spec, make_person(spec.identity, MODEL, 7), RECIPE)
    flat = np.zeros_like(talk.background)
    flat[..., 1] = 255
    frame = next(render_talk(replace(talk, background=flat), MODEL)).astype(int)
    head = np.abs(frame - flat[0, 0]).sum(-1) > 60
    marks = truth_of(talk, MODEL)["landmarks_px"][0]
    inside = [head[round(float(v)), round(float(u))] for u, v in marks[17:]]
    assert all(inside)
    row = head[round(float(marks[[0, 16], 1].mean()))].nonzero()[0]
    assert row.min() <= marks[0, 0] + 2 and row.max() >= marks[16, 0] - 2
    assert row.max() - row.min() < 1.35 * (marks[16, 0] - marks[0, 0])


def test_takes_share_sound_and_scene_and_differ_in_head():
    first = next(spec for spec in PLAN if spec.split == "test" and spec.role == "talk" and spec.take == 1)
    second = next(spec for spec in PLAN if spec.performance == first.performance and spec.take == 2)
    person = make_person(first.identity, MODEL, 7)
    one, two = make_talk(first, person, RECIPE), make_talk(second, person, RECIPE)
    assert np.array_equal(one.speech.samples, two.speech.samples) and one.camera == two.camera
    assert np.array_equal(one.background, two.background)
    assert not np.array_equal(one.motion.pose, two.motion.pose)


def test_enrolment_starts_neutral_and_people_differ():
    alphas = []
    for spec in [spec for spec in PLAN if spec.role == "enrol"]:
        person = make_person(spec.identity, MODEL, 7)
        talk = make_talk(spec, person, RECIPE)
        assert talk.motion.beta[0] == pytest.approx(person.style.rest, abs=1e-6)
        alphas.append(person.alpha)
    assert min(np.abs(a - b).max() for i, a in enumerate(alphas) for b in alphas[:i]) > 0.5


def test_long_sentences_are_cut_and_short_ones_are_not():
    spec = spec_named("tr00_")
    spec = next(s for s in PLAN if s.identity == "tr00" and s.role == "talk") if spec.role == "enrol" else spec
    person = make_person(spec.identity, MODEL, 7)
    assert make_talk(spec, person, RECIPE).n_frames == 15
    whole = make_talk(spec, person, replace(RECIPE, max_clip_s=9.0))
    assert whole.speech.phonemes[-1].end_s <= whole.n_frames / FPS_HZ - RECIPE.tail_s + 1e-6
    assert len(synthesize(spec.text).samples) > 15 * 640


def test_stills_vary_and_carry_their_truth():
    spec = next(spec for spec in PLAN if spec.kind == "stills")
    stills = make_stills(spec, 4, make_person(spec.identity, MODEL, 7), RECIPE, MODEL)
    assert stills["frames"].shape == (4, 96, 96, 3) and stills["frames"].dtype == np.uint8
    assert stills["landmarks_px"].shape == (4, 68, 2) and stills["emotion"].shape == stills["intensity"].shape == (4,)
    assert ((stills["intensity"] == 0) == (stills["emotion"] == 0)).all()
    differences = np.abs(stills["frames"][1:].astype(int) - stills["frames"][:-1]).mean((1, 2, 3))
    assert differences.min() > 3
