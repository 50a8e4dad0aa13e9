"""Numbers of the comparison of fits: known heads, known coefficients."""

from __future__ import annotations

import numpy as np
import pytest

from flowvqtalker.face import make_face_model
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from pipeline.tools.fit_arms import shape_correlations, surface_mm


def test_distance_of_surfaces_is_that_of_the_vertices_in_mm():
    model = make_face_model("clay")
    rng = np.random.default_rng(0)
    alpha, other = model.sample_identity(rng), model.sample_identity(rng)
    rest = np.zeros((3, len(EXPRESSIONS)), np.float32)
    assert surface_mm(model, alpha, rest, alpha, rest) == 0
    one, two = (model.neutral(each) for each in (alpha, other))
    apart = (one - one.mean(0)) - (two - two.mean(0))
    assert surface_mm(model, alpha, rest, other, rest) == pytest.approx(10 * np.linalg.norm(apart, axis=-1).mean(), rel=0.05)
    opened = rest.copy()
    opened[:, EXPRESSION_INDEX["jawOpen"]] = 1
    assert 0 < surface_mm(model, alpha, opened, alpha, rest) < surface_mm(model, alpha, opened, other, rest)


def test_only_shapes_that_move_are_correlated():
    rng = np.random.default_rng(1)
    truth = np.zeros((50, len(EXPRESSIONS)))
    truth[:, EXPRESSION_INDEX["jawOpen"]] = rng.uniform(0, 1, 50)
    truth[:, EXPRESSION_INDEX["mouthPucker"]] = 0.01 * rng.uniform(0, 1, 50)
    fitted = 0.5 * truth + 0.1
    found = shape_correlations([(fitted[:20], truth[:20]), (fitted[20:], truth[20:])])
    assert set(found) == {"jawOpen"} and found["jawOpen"] == pytest.approx(1)
