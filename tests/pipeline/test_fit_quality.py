"""The table of fit quality on clips whose dense points are made from a known head."""

from __future__ import annotations

import numpy as np
import pytest

from flowvqtalker.face import make_face_model
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.face.model import FaceModel
from flowvqtalker.landmarks.mediapipe import MESH_OF_68, N_POINTS
from pipeline.tools.fit_quality import FittedClip, emotion_of, emotions_above_neutral, measure, visible_skin

FRAMES = 40


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return make_face_model("clay")


def made_clip(model: FaceModel, person: str, emotion: str, seed: int, shift_px: float = 0.0, smile: float = 0.0) -> FittedClip:
    """A clip whose dense points are fixed vertices of the head itself, all moved ``shift_px`` to the right but for the 68 landmarks."""
    rng = np.random.default_rng(seed)
    beta = np.zeros((FRAMES, len(EXPRESSION_INDEX)), np.float32)
    beta[:, EXPRESSION_INDEX["jawOpen"]] = 0.2 + 0.2 * np.sin(np.arange(FRAMES) / 5)
    for side in "LR":
        beta[:, EXPRESSION_INDEX[f"mouthSmile_{side}"]] = smile + 0.02 * rng.standard_normal(FRAMES)
    pose = np.zeros((FRAMES, 6), np.float32)
    pose[:, :3] = 0.15 * np.sin(np.arange(FRAMES)[:, None] / (7, 9, 11) + seed)
    alpha = model.sample_identity(rng)
    row = {"clip": f"{person}_{emotion}_level3_001", "identity": person, "emotion": "neutral", "size_px": 128}
    clip = FittedClip(row, emotion, np.zeros((FRAMES, N_POINTS, 2)), alpha, beta, pose, 0.0)
    vertices = np.random.default_rng(0).choice(np.unique(visible_skin(model)), N_POINTS)
    vertices[list(MESH_OF_68)] = model.landmarks68
    clip.dense[:] = clip.project(model, np.arange(FRAMES), True)[:, vertices]
    others = np.setdiff1d(np.arange(N_POINTS), MESH_OF_68)
    clip.dense[:, others, 0] += shift_px
    return clip


def test_points_of_the_head_itself_are_met_and_moved_ones_are_not(model):
    clips = [made_clip(model, name, "neutral", seed) for seed, name in enumerate(("ada", "bo", "cy"))]
    table = measure(clips, model).set_index("clip")
    assert table.loc["median", "held_out_pct"] < 0.5 and table.loc["median", "seen_pct"] < 1e-4
    # Seen a little beside where the other people's points are: that much is the error.
    moved = [*clips[:2], made_clip(model, "cy", "neutral", 2, shift_px=2.0)]
    eyes = np.median(np.linalg.norm(moved[2].dense[:, MESH_OF_68[36]] - moved[2].dense[:, MESH_OF_68[45]], axis=-1))
    found = measure(moved, model).set_index("clip").loc["cy_neutral_level3_001", "held_out_pct"]
    assert found == pytest.approx(200 / eyes, rel=0.15)


def test_one_person_alone_has_no_held_out_error(model):
    table = measure([made_clip(model, "ada", "neutral", 0)], model).set_index("clip")
    assert np.isnan(table.loc["median", "held_out_pct"]) and table.loc["median", "seen_pct"] < 1e-4


def test_emotions_stand_over_the_same_persons_neutral_clip(model):
    clips = [made_clip(model, "ada", "neutral", 0), made_clip(model, "ada", "happy", 1, smile=0.5), made_clip(model, "bo", "happy", 2)]
    table = emotions_above_neutral(clips)
    assert table is not None and set(table["person"]) == {"ada"}
    table = table.set_index("emotion")
    assert table.loc["happy", "mouthSmile"] > 10 and abs(table.loc["happy", "browDown"]) < 1e-6
    assert emotions_above_neutral(clips[1:]) is None


def test_names_of_mead_say_the_emotion():
    assert emotion_of({"clip": "M030_front_disgusted_level3_001", "emotion": "neutral"}) == "disgusted"
    assert emotion_of({"clip": "interview_happy", "emotion": "sad"}) == "sad"
