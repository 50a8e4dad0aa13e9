"""The clay head: closed, symmetric, obedient to its coefficients, and undamaged by them."""

import numpy as np
import pytest
import torch

from flowvqtalker.face import make_face_model
from flowvqtalker.face.clay.loft import frontal_to_chart, loft
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.face.quality import SkinCheck
from flowvqtalker.seeding import numpy_generator
from pipeline.tools.clay_stress import DOCUMENTED_PAIRS, coefficients

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clay():
    return make_face_model("clay")


def _points(clay, **values: float) -> np.ndarray:
    return clay.frame(np.zeros(clay.n_identity, np.float32), coefficients(values))


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="load_ict"):
        make_face_model("ict")


def test_chart_inverts_the_loft() -> None:
    x, y = np.array([0.0, 2.0, -4.0, 3.0]), np.array([4.0, 0.0, -5.0, -9.0])
    where = loft(*frontal_to_chart(x, y))
    np.testing.assert_allclose(where[:, 0], x, atol=0.02)
    np.testing.assert_allclose(where[:, 1], y, atol=0.02)


def test_sizes_and_names(clay) -> None:
    assert clay.expression_names == EXPRESSIONS
    assert 5_000 <= clay.n_vertices <= 9_000
    assert 9_000 <= len(clay.triangles) <= 18_000
    assert len(np.unique(clay.landmarks68)) >= 66
    assert clay.mean.dtype == clay.identity.dtype == clay.expression.dtype == np.float32
    moved = np.abs(clay.expression).max((1, 2))
    assert moved.min() > 0.03, clay.expression_names[int(moved.argmin())]


def test_skin_is_one_surface_with_holes_only_at_eyes_mouth_and_neck(clay) -> None:
    triangles = clay.triangles[clay.triangle_part == clay.part("skin")]
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=-1).reshape(-1, 2)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    assert counts.max() == 2
    border = unique[counts == 1]
    ends, uses = np.unique(border, return_counts=True)
    assert (uses == 2).all()  # closed loops
    used = len(np.unique(triangles))
    # Euler's formula: a sphere with four holes.
    assert used - len(unique) + len(triangles) == 2 - 4
    assert len(ends) == 36 + 36 + 48 + 24


def test_seams_are_tight(clay) -> None:
    """What continues behind a margin starts exactly where the skin ends, in any expression."""
    from scipy.spatial import cKDTree

    for values in ({}, {"jawOpen": 1.0}, {"eyeBlink": 1.0, "eyeSquint": 1.0}, {"mouthPress": 1.0, "mouthSmile": 1.0}):
        points = _points(clay, **values)
        skin = points[clay.vertex_part == clay.part("skin")]
        for name, count in (("lid_inside", 36), ("mouth_cavity", 48)):
            mean = clay.mean[clay.vertex_part == clay.part(name)]
            at_rest = cKDTree(clay.mean[clay.vertex_part == clay.part("skin")]).query(mean)[0] < 1e-6
            assert at_rest.sum() >= count
            inside = points[clay.vertex_part == clay.part(name)][at_rest]
            assert cKDTree(skin).query(inside)[0].max() < 2e-3, (name, values)


def test_mirror_symmetry(clay) -> None:
    """The face with left coefficients is the mirror image of the face with right ones."""
    from scipy.spatial import cKDTree

    skin = clay.vertex_part == clay.part("skin")
    for name in ("mouthSmile", "browDown", "eyeBlink", "eyeLookOut", "noseSneer"):
        left, right = _points(clay, **{f"{name}_L": 1.0})[skin], _points(clay, **{f"{name}_R": 1.0})[skin]
        assert cKDTree(left * [-1, 1, 1]).query(right)[0].max() < 2e-3


def test_one_frame_path_equals_torch_and_landmarks_equal_vertices(clay) -> None:
    generator = np.random.default_rng(0)
    for _ in range(3):
        alpha = clay.sample_identity(generator)
        beta = (generator.random(53) * (generator.random(53) < 0.4)).astype(np.float32)
        vertices = clay.vertices(torch.from_numpy(alpha), torch.from_numpy(beta))
        np.testing.assert_allclose(clay.frame(alpha, beta), vertices.numpy(), atol=2e-4)
        landmarks = clay.landmarks(torch.from_numpy(alpha), torch.from_numpy(beta))
        np.testing.assert_allclose(landmarks.numpy(), vertices[clay.landmarks68].numpy(), atol=2e-5)


def test_batches_broadcast(clay) -> None:
    alpha = torch.zeros(1, clay.n_identity, dtype=torch.float64)
    beta = torch.rand(5, 53, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = clay.landmarks(alpha, beta)
    assert together.shape == (5, 68, 3)
    np.testing.assert_allclose(together[3].numpy(), clay.landmarks(alpha[0], beta[3]).numpy(), atol=1e-9)
    with pytest.raises(ValueError, match="beta"):
        clay.landmarks(alpha, beta[:, :50])


def test_gradients_of_landmarks(clay) -> None:
    alpha = torch.full((clay.n_identity,), 0.1, dtype=torch.float64, requires_grad=True)
    beta = torch.full((53,), 0.2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(68, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = (clay.landmarks(alpha, beta) * weight).sum()
    loss.backward()
    for tensor, index in ((alpha, 3), (beta, EXPRESSION_INDEX["browInnerUp_L"]), (beta, EXPRESSION_INDEX["mouthSmile_R"])):
        step = torch.zeros_like(tensor)
        step[index] = 1e-5
        values = [
            (clay.landmarks(*((alpha + s * step, beta) if tensor is alpha else (alpha, beta + s * step))) * weight).sum() for s in (1, -1)
        ]
        assert float((values[0] - values[1]).detach() / 2e-5) == pytest.approx(float(tensor.grad[index]), rel=1e-4, abs=1e-6)


def test_eyeballs_turn_about_their_centres(clay) -> None:
    ball = clay.eyeball_vertices[1]
    rest, turned = _points(clay)[ball], _points(clay, eyeLookOut_L=1.0)[ball]
    centre = clay.eyeball_centres[1]
    np.testing.assert_allclose(np.linalg.norm(rest - centre, axis=1), np.linalg.norm(turned - centre, axis=1), atol=1e-4)
    assert turned[0, 0] - rest[0, 0] > 0.5  # the left eye looks out towards +x
    assert _points(clay, eyeLookDown=1.0)[ball][0, 1] < rest[0, 1] - 0.4


def test_closed_lids_meet_and_stay_outside_the_eyeball(clay) -> None:
    for person in range(4):
        alpha = np.zeros(clay.n_identity, np.float32) if person == 0 else clay.sample_identity(numpy_generator("lids", person))
        for closure in (0.25, 0.5, 0.75, 1.0):
            points = clay.frame(alpha, coefficients({"eyeBlink": closure, "eyeSquint": 0.3}))
            shell = clay.shell
            centres = clay.eyeball_centres + np.tensordot(alpha, clay.eyeball_centre_identity, axes=1)
            distance = np.linalg.norm(points[shell.vertex] - centres[shell.eye], axis=1)
            assert (distance > shell.radius - 1e-3).all()
        for lids in clay.contacts[1:]:
            gap = points[lids.upper, 1] - points[lids.lower, 1]
            assert np.abs(gap).max() < 0.12


def test_lips_seal_and_never_cross(clay) -> None:
    lips = clay.contacts[0]
    for values in ({"jawOpen": 1.0, "mouthClose": 1.0}, {"jawOpen": 0.3, "mouthClose": 0.3}, {"mouthPress": 1.0}, {"mouthShrugLower": 1.0}):
        points = _points(clay, **values)
        gap = points[lids := lips.upper, 1] - points[lips.lower, 1]
        assert gap.min() > -1e-4, values
        assert gap.max() < 0.05, values
        assert len(lids) == 23
    opened = _points(clay, jawOpen=1.0)
    middle = len(lips.upper) // 2
    assert opened[lips.upper[middle], 1] - opened[lips.lower[middle], 1] > 2.0
    # Closing lips over a closed jaw changes nothing.
    np.testing.assert_allclose(_points(clay, mouthClose=1.0), _points(clay), atol=1e-6)


def test_identities_differ_and_stay_in_range(clay) -> None:
    alphas = np.stack([clay.sample_identity(numpy_generator("people", k)) for k in range(60)])
    assert np.abs(alphas).max() <= 2.2 * clay.identity_std.max() + 1e-6
    faces = np.stack([clay.neutral(a)[clay.landmarks68] for a in alphas])
    pairs = np.linalg.norm(faces[:-1] - faces[1:], axis=-1).mean(-1)
    assert pairs.min() > 0.15  # cm between two people's landmarks


def test_no_triangle_is_damaged_by_single_shapes_and_documented_pairs(clay) -> None:
    check = SkinCheck(clay)
    cases = [coefficients({name: 1.0}) for name in EXPRESSIONS]
    cases += [coefficients({first: 1.0, second: 1.0}) for first, second in DOCUMENTED_PAIRS]
    for alpha in (np.zeros(clay.n_identity, np.float32), clay.sample_identity(numpy_generator("stress", 1))):
        rest = clay.frame(alpha, np.zeros(53, np.float32))
        for beta in cases:
            damage = check.damage(clay.frame(alpha, beta), rest)
            assert damage.total == 0, [EXPRESSIONS[k] for k in np.nonzero(beta)[0]]


def test_check_sees_damage(clay) -> None:
    check = SkinCheck(clay)
    rest = clay.mean.copy()
    broken = rest.copy()
    triangle = check.triangles[500]
    # Pulling a corner through the opposite edge turns the triangle over.
    broken[triangle[0]] = broken[triangle[1]] + broken[triangle[2]] - broken[triangle[0]]
    assert check.damage(broken, rest).total > 0
    assert check.damage(rest, rest).total == 0
