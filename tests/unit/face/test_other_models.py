"""ICT and BFM behind the same interface."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.face.bfm import load_bfm
from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.face.ict import convert_ict, fit_sphere, load_ict, parse_obj

SHARED = Path(os.environ.get("FVQT_SHARED", Path(__file__).resolve().parents[3] / ".." / "shared"))


def _asset(name: str) -> Path:
    path = SHARED / "assets" / "ict" / name
    if not path.is_file():
        pytest.skip(f"no {name} under FVQT_SHARED ({SHARED})")
    return path


def test_sphere_fit_is_exact_on_a_sphere() -> None:
    directions = np.random.default_rng(0).normal(size=(30, 3))
    points = np.array([1.0, -2.0, 3.0]) + 1.7 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    centre, radius = fit_sphere(points)
    np.testing.assert_allclose(centre, [1, -2, 3], atol=1e-9)
    assert radius == pytest.approx(1.7)


def test_obj_quads_become_triangles() -> None:
    parsed = parse_obj(["v 0 0 0", "v 1 0 0", "v 1 1 0", "v 0 1 0", "vt 0 0", "f 1/1 2/1 3/1 4/1"])
    assert parsed["f"].tolist() == [[0, 1, 2], [0, 2, 3]]
    with pytest.raises(ValueError, match="no vertices"):
        parse_obj([])


def test_converter_takes_differences_and_refuses_other_meshes() -> None:
    files = {
        "generic_neutral_mesh.obj": ["v 0 0 0", "v 1 0 0", "v 0 1 0", "f 1 2 3"],
        "identity000.obj": ["v 0 0 1", "v 1 0 0", "v 0 1 0", "f 1 2 3"],
        "jawOpen.obj": ["v 0 -2 0", "v 1 0 0", "v 0 1 0", "f 1 2 3"],
        "bad.obj": ["v 0 0 0"],
    }
    made = convert_ict(files.__getitem__, ["jawOpen"], identities=1)
    assert made["identity"][0, 0].tolist() == [0, 0, 1]
    assert made["expression"][0, 0].tolist() == [0, -2, 0]
    with pytest.raises(ValueError, match=r"bad\.obj"):
        convert_ict(files.__getitem__, ["bad"], identities=0)


def test_ict_refuses_strangers() -> None:
    with pytest.raises(ValueError, match="keys missing"):
        load_ict({"mean": np.zeros((3, 3))})


@pytest.mark.shared
def test_ict_follows_the_interface() -> None:
    with _asset("ict_facekit_7k.npz").open("rb") as file:
        model = load_ict(file)
    assert model.expression_names == EXPRESSIONS
    eyes = model.eyeball_centres
    assert abs(eyes[:, 1].mean()) < 1e-3
    assert eyes[0, 0] < -2.5
    assert eyes[1, 0] > 2.5
    alpha, beta = torch.zeros(model.n_identity), torch.zeros(53)
    beta[EXPRESSIONS.index("eyeLookOut_L")] = 1.0
    moved = model.vertices(alpha, beta) - torch.from_numpy(model.mean)
    ball = model.eyeball_vertices[1]
    front = ball[np.argmax(model.mean[ball, 2])]
    assert moved[front, 0] > 0.4
    np.testing.assert_allclose(model.frame(alpha.numpy(), beta.numpy()), model.vertices(alpha, beta).numpy(), atol=2e-4)
    # Our texture lands where it should: the lips of both models have the same texture coordinates.
    from flowvqtalker.face import make_face_model

    clay = make_face_model("clay")
    apart = np.linalg.norm(model.uv[model.landmarks68[17:]] - clay.uv[clay.landmarks68[17:]], axis=1)
    assert apart.max() < 0.03


@pytest.mark.shared
def test_converter_agrees_with_the_ready_made_file() -> None:
    archive = zipfile.ZipFile(_asset("upstream_sample.zip"))

    def read(name: str) -> list[str]:
        return io.TextIOWrapper(archive.open(f"FaceXModel/{name}"), encoding="utf-8").readlines()

    made = convert_ict(read, ["jawOpen"], identities=1)
    ready = np.load(_asset("ict_facekit_7k.npz"))
    at = ready["original_vertex"]
    np.testing.assert_allclose(made["mean"][at], ready["mean"], atol=2e-3)
    np.testing.assert_allclose(made["expression"][0][at], ready["expression"][EXPRESSIONS.index("jawOpen")].astype(np.float32), atol=4e-3)
    np.testing.assert_allclose(made["identity"][0][at], ready["identity"][0].astype(np.float32), atol=4e-3)


def _fake_bfm(n: int = 90) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    points = generator.uniform(-0.9, 0.9, (n, 3))
    return {
        "meanshape": points.reshape(1, -1), "idBase": generator.normal(0, 0.01, (3 * n, 80)), "exBase": generator.normal(0, 0.01, (3 * n, 64)),
        "tri": generator.integers(1, n + 1, (50, 3)), "keypoints": np.arange(1, 69)[None],
    }  # fmt: skip


def test_bfm_layout_and_units() -> None:
    data = _fake_bfm()
    model = load_bfm(data)
    assert (model.n_identity, model.n_expression, model.n_vertices) == (80, 64, 90)
    assert abs(model.mean[model.landmarks68[36:48], 1].mean()) < 1e-4
    alpha, beta = torch.zeros(80), torch.zeros(64)
    beta[3] = 1.0
    expected = 10.0 * data["exBase"][:, 3].reshape(-1, 3)
    np.testing.assert_allclose((model.vertices(alpha, beta).numpy() - model.mean), expected, atol=1e-5)
    np.testing.assert_allclose(model.frame(alpha.numpy(), beta.numpy()), model.vertices(alpha, beta).numpy(), atol=1e-5)


@pytest.mark.parametrize("break_it", ["idBase", "keypoints", "meanshape"])
def test_bfm_says_how_to_get_the_file(break_it: str) -> None:
    data = _fake_bfm()
    data[break_it] = data[break_it][:, :-1]
    with pytest.raises(MissingWeightsError, match="licence"):
        load_bfm(data)
    with pytest.raises(MissingWeightsError, match="BFM_model_front"):
        load_bfm(io.BytesIO(b"not a mat file"))
