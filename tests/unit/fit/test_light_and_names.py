"""Spherical harmonics against their defining integrals, light against known light, and the names of blendshapes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from flowvqtalker.face.expressions import BLENDSHAPE_FLIP, BLENDSHAPES, EXPRESSIONS
from flowvqtalker.fit.agreement import correlation, rotation_error_deg
from flowvqtalker.fit.blendshapes import arkit_name, beta_to_blendshapes, blendshapes_to_beta
from flowvqtalker.fit.light import fit_light, sample_bilinear, sh_basis, vertex_normals


def _sphere(n: int) -> torch.Tensor:
    """n nearly uniform directions (Fibonacci)."""
    k = torch.arange(n, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * k / n, k * (np.pi * (3 - np.sqrt(5)))
    r = (1 - z * z).sqrt()
    return torch.stack([r * turn.cos(), r * turn.sin(), z], -1)


def test_harmonics_are_orthonormal_on_the_sphere():
    basis = sh_basis(_sphere(20000))
    torch.testing.assert_close(4 * np.pi * basis.T @ basis / len(basis), torch.eye(9, dtype=torch.float64), atol=2e-4, rtol=0)


def test_light_is_recovered():
    normals = _sphere(400)[None]
    gamma = torch.randn(1, 27, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    colours = torch.einsum("tnk,tck->tnc", sh_basis(normals), gamma.reshape(1, 3, 9))
    torch.testing.assert_close(fit_light(colours, normals, torch.ones(1, 400, dtype=torch.float64), ridge=1e-9), gamma, atol=1e-5, rtol=0)
    hidden = torch.zeros(1, 400, dtype=torch.float64)
    hidden[:, :200] = 1
    spoiled = colours.clone()
    spoiled[:, 200:] = 7.0  # what is hidden does not count
    torch.testing.assert_close(fit_light(spoiled, normals, hidden, ridge=1e-9), gamma, atol=1e-3, rtol=0)


def test_bilinear_sampling_reads_pixel_centres():
    image = torch.arange(3 * 4 * 5, dtype=torch.float64).reshape(1, 3, 4, 5)
    uv = torch.tensor([[[2.0, 1.0], [2.5, 1.0], [0.0, 3.0]]], dtype=torch.float64)
    expected = torch.stack([image[0, :, 1, 2], (image[0, :, 1, 2] + image[0, :, 1, 3]) / 2, image[0, :, 3, 0]])[None]
    torch.testing.assert_close(sample_bilinear(image, uv), expected)


def test_vertex_normals_of_a_tetrahedron_point_outwards():
    vertices = torch.tensor([[1.0, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]])[None]
    triangles = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    normals = vertex_normals(vertices, triangles)
    torch.testing.assert_close(normals, torch.nn.functional.normalize(vertices, dim=-1))


def test_every_shape_has_a_mediapipe_score():
    assert len(BLENDSHAPES) == 52
    assert {arkit_name(name) for name in EXPRESSIONS} == set(BLENDSHAPES) - {"_neutral"}


@pytest.mark.shared
def test_names_equal_the_asset_table():
    path = Path(os.environ.get("FVQT_SHARED", Path(__file__).parents[3].parent / "shared")) / "assets/ict/mediapipe_to_ict.json"
    if not path.exists():
        pytest.skip(f"asset mirror not found: {path}")
    table = json.loads(path.read_text())
    assert {name: arkit_name(name) for name in EXPRESSIONS} == {name: table[name] for name in EXPRESSIONS}


def test_order_is_that_of_the_landmark_back_end():
    from flowvqtalker.landmarks.mediapipe import BLENDSHAPES

    assert tuple(BLENDSHAPES) == BLENDSHAPES


def test_scores_are_reordered():
    scores = np.zeros((2, 52), dtype=np.float32)
    scores[0, BLENDSHAPES.index("jawOpen")] = 0.7
    scores[0, BLENDSHAPES.index("browInnerUp")] = 0.4
    scores[1] = np.nan
    beta = blendshapes_to_beta(scores, EXPRESSIONS)
    assert beta[0, EXPRESSIONS.index("jawOpen")] == pytest.approx(0.7)
    assert beta[0, EXPRESSIONS.index("browInnerUp_L")] == beta[0, EXPRESSIONS.index("browInnerUp_R")] == pytest.approx(0.4)
    assert (beta[1] == 0).all() and beta[0].sum() == pytest.approx(1.5)
    with pytest.raises(ValueError, match="52"):
        blendshapes_to_beta(scores[:, :50], EXPRESSIONS)


def test_agreement_measures():
    angles = np.zeros((4, 6))
    turned = angles.copy()
    turned[:, 1] = np.radians(5)
    np.testing.assert_allclose(rotation_error_deg(turned, angles), 5.0, atol=1e-6)
    x = np.arange(10.0)
    assert correlation(x, -2 * x) == pytest.approx(-1)
    assert np.isnan(correlation(x, np.ones(10)))


def test_scores_of_coefficients_come_back_as_the_same_coefficients():
    rng = np.random.default_rng(3)
    beta = rng.uniform(0, 1, (5, len(EXPRESSIONS))).astype(np.float32)
    for shared in ("browInnerUp", "cheekPuff"):  # one score for both sides
        beta[:, EXPRESSIONS.index(f"{shared}_R")] = beta[:, EXPRESSIONS.index(f"{shared}_L")]
    beta[:, [EXPRESSIONS.index(f"eyeLookDown_{side}") for side in "LR"]] = 0  # fades under a closing lid
    np.testing.assert_allclose(blendshapes_to_beta(beta_to_blendshapes(beta, EXPRESSIONS), EXPRESSIONS), beta, atol=1e-6)
    assert (np.array(BLENDSHAPE_FLIP)[np.array(BLENDSHAPE_FLIP)] == np.arange(52)).all()
