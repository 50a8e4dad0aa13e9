"""Motion drawn by the corpus' own renderer: the same person and light whatever moves them, seen as the crop camera sees them."""

import numpy as np
import pytest
import torch

from flowvqtalker.checks import ShapeError
from flowvqtalker.corpus.make import make_person, posed_vertices
from flowvqtalker.corpus.redraw import draw_motion, make_studio
from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import crop_camera, project
from flowvqtalker.face.expressions import EXPRESSION_INDEX

SIZE = 64


@pytest.fixture(scope="module")
def model():
    return make_face_model("clay")


def draw(model, beta, pose, identity="te01", seed=1):
    return np.stack(list(draw_motion(make_studio(identity, model, seed, SIZE), model, beta, pose)))


def test_only_the_motion_differs(model):
    beta, pose = np.zeros((2, model.n_expression), np.float32), np.zeros((2, 6), np.float32)
    beta[1, EXPRESSION_INDEX["jawOpen"]] = 0.8
    frames = draw(model, beta, pose)
    assert frames.shape == (2, SIZE, SIZE, 3) and frames.dtype == np.uint8
    np.testing.assert_array_equal(draw(model, beta, pose), frames)
    changed = np.abs(frames[1].astype(int) - frames[0]).max(-1) > 8
    assert 0.005 < changed.mean() < 0.3
    points = posed_vertices(model, make_person("te01", model, 1), beta[0], pose[0])[model.landmarks68]
    places = project(torch.from_numpy(points), crop_camera(SIZE)).numpy()
    mouth = places[48:68]
    rows, columns = np.nonzero(changed)
    assert np.median(rows) > places[30, 1] and abs(np.median(columns) - mouth[:, 0].mean()) < 6  # below the nose, at the mouth
    assert changed[: int(places[27, 1])].mean() < 0.02  # nothing moves above the eyes


def test_another_person_or_another_corpus_looks_otherwise(model):
    beta, pose = np.zeros((1, model.n_expression), np.float32), np.zeros((1, 6), np.float32)
    one = draw(model, beta, pose).astype(int)
    assert np.abs(draw(model, beta, pose, "te02") - one).mean() > 5
    assert np.abs(draw(model, beta, pose, seed=2) - one).mean() > 5


def test_poses_and_expressions_belong_together(model):
    with pytest.raises(ShapeError, match="pose"):
        draw(model, np.zeros((3, model.n_expression), np.float32), np.zeros((2, 6), np.float32))
