"""Deep3DFaceRecon's 257-d files: exact round trips, all layouts, and the same picture as their own formulas."""

import io
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from flowvqtalker.checks import ShapeError
from flowvqtalker.face.bfm import load_bfm
from flowvqtalker.face.camera import project
from flowvqtalker.face.deep3d import (
    COLUMNS,
    DEEP3D_CAMERA,
    N_COEFFICIENTS,
    Deep3DCoefficients,
    deep3d_to_pose,
    make_deep3d,
    pose_to_deep3d,
    read_deep3d,
    write_deep3d,
)  # fmt: skip
from flowvqtalker.face.pose import transform

MEDIA = Path(os.environ.get("FVQT_SHARED", Path(__file__).resolve().parents[3] / ".." / "shared")) / "media"


def coefficients(n_frames: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, (n_frames, N_COEFFICIENTS)).astype(np.float32)


def written(values: Deep3DCoefficients) -> bytes:
    buffer = io.BytesIO()
    write_deep3d(buffer, values)
    return buffer.getvalue()


def test_the_parts_cover_the_257_columns_in_order():
    edges = [(columns.start, columns.stop) for columns in COLUMNS.values()]
    assert [stop - start for start, stop in edges] == [80, 64, 80, 3, 27, 3]
    assert edges[0][0] == 0 and edges[-1][1] == N_COEFFICIENTS and all(a[1] == b[0] for a, b in itertools.pairwise(edges))


@pytest.mark.parametrize("has_crop", [True, False])
def test_round_trip_is_exact_to_the_bit(has_crop):
    array = coefficients()
    crop = np.random.default_rng(1).uniform(0, 256, (7, 5)).astype(np.float32) if has_crop else None
    made = Deep3DCoefficients.from_array(array, crop)
    data = written(made)
    again = read_deep3d(io.BytesIO(data))
    assert again.to_array().dtype == np.float32 and again.to_array().tobytes() == array.tobytes()
    assert (again.transform_params is None) == (crop is None)
    if crop is not None and again.transform_params is not None:
        assert again.transform_params.tobytes() == crop.tobytes()
    assert written(again) == data and written(Deep3DCoefficients.from_array(array, crop)) == data
    # Other projects read it with nothing but scipy.
    assert np.array_equal(loadmat(io.BytesIO(data))["coeff"], array)


def test_all_layouts_say_the_same():
    array = coefficients(1)
    npy, official, renamed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, array)
    names = ("id", "exp", "tex", "angle", "gamma", "trans")
    savemat(
        official, {name: array[:, columns] for name, columns in zip(names, COLUMNS.values(), strict=True)} | {"lm68": np.zeros((1, 68, 2))}
    )
    savemat(renamed, {"coeff_3dmm": array})
    for buffer in (npy, official, renamed):
        buffer.seek(0)
        assert np.array_equal(read_deep3d(buffer).to_array(), array)


@pytest.mark.parametrize("content", [b"", b"no mat file at all", b"x" * 400])
def test_strangers_are_refused_in_words(content):
    with pytest.raises(ValueError, match=r"neither a \.npy nor a readable \.mat"):
        read_deep3d(io.BytesIO(content))


def test_a_mat_file_of_version_73_is_refused_with_a_cure():
    """Such files are HDF5 behind a text header of 116 bytes, 8 bytes of offset, the version 0x0200 and "IM"."""
    header = b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(512)
    with pytest.raises(ValueError, match=r"version 7\.3.*-v7"):
        read_deep3d(io.BytesIO(header))


def test_wrong_shapes_are_refused():
    buffer = io.BytesIO()
    savemat(buffer, {"landmarks": np.zeros((3, 2))})
    buffer.seek(0)
    with pytest.raises(ValueError, match="the file holds landmarks"):
        read_deep3d(buffer)
    with pytest.raises(ValueError, match=r"expected \(T, 257\)"):
        Deep3DCoefficients.from_array(np.zeros((4, 73)))
    with pytest.raises(ShapeError, match="transform_params"):
        Deep3DCoefficients.from_array(coefficients(), np.zeros((3, 5)))
    bad = coefficients()
    bad[0, 200] = np.nan
    with pytest.raises(ValueError, match="texture"):
        Deep3DCoefficients.from_array(bad)


def _basel_like(n: int = 90) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "meanshape": generator.uniform(-0.9, 0.9, (1, 3 * n)), "idBase": generator.normal(0, 0.01, (3 * n, 80)),
        "exBase": generator.normal(0, 0.01, (3 * n, 64)), "tri": generator.integers(1, n + 1, (50, 3)), "keypoints": np.arange(1, 69)[None],
    }  # fmt: skip


def _their_landmarks(data: dict[str, np.ndarray], values: Deep3DCoefficients) -> np.ndarray:
    """(T, 68, 2) px by the formulas of Deep3DFaceRecon, written out from its description: row vectors, decimetres, rows from the bottom."""
    mean = data["meanshape"].reshape(-1, 3)
    mean = mean - mean.mean(0)
    result = []
    for identity, expression, (x, y, z), shift in zip(
        values.identity, values.expression, values.angles.astype(np.float64), values.translation, strict=True
    ):
        shape = mean + (data["idBase"] @ identity + data["exBase"] @ expression).reshape(-1, 3)
        rot_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
        rot_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        rot_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
        seen = shape @ (rot_z @ rot_y @ rot_x).T + shift
        depth = 10.0 - seen[:, 2]
        u, v = 112 + 1015 * seen[:, 0] / depth, 112 + 1015 * seen[:, 1] / depth
        result.append(np.stack([u, 224 - 1 - v], -1)[:68])
    return np.stack(result)


def test_our_pose_and_camera_show_the_same_landmarks():
    data = _basel_like()
    model = load_bfm(data)
    values = Deep3DCoefficients.from_array(coefficients())
    pose = torch.as_tensor(deep3d_to_pose(model, values))
    alpha, beta = (torch.as_tensor(x.astype(np.float64)) for x in (values.identity, values.expression))
    ours = project(transform(model.landmarks(alpha, beta), pose), DEEP3D_CAMERA).numpy()
    np.testing.assert_allclose(ours, _their_landmarks(data, values), atol=2e-3)


def test_pose_goes_there_and_back():
    model = load_bfm(_basel_like())
    values = Deep3DCoefficients.from_array(coefficients())
    angles, translation = pose_to_deep3d(model, deep3d_to_pose(model, values))
    np.testing.assert_allclose(angles, values.angles, atol=1e-12)
    np.testing.assert_allclose(translation, values.translation, atol=1e-12)
    made = make_deep3d(model, values.identity[0], values.expression, deep3d_to_pose(model, values))
    np.testing.assert_allclose(made.translation, values.translation, atol=1e-6)
    assert np.array_equal(made.expression, values.expression) and made.to_array().dtype == np.float32
    assert (made.identity == values.identity[0]).all() and not made.texture.any() and not made.light.any()


def test_another_face_model_is_refused():
    from flowvqtalker.face import make_face_model

    with pytest.raises(ValueError, match="not to 'clay'"):
        deep3d_to_pose(make_face_model("clay"), Deep3DCoefficients.from_array(coefficients()))


def _real_files() -> list[Path]:
    return sorted([*MEDIA.rglob("*.mat"), *MEDIA.rglob("*.npy")]) if MEDIA.is_dir() else []


@pytest.mark.shared
def test_real_files_round_trip_to_the_bit():
    files = _real_files()
    if not files:
        pytest.skip(f"no Deep3D coefficient files under {MEDIA} (set FVQT_SHARED)")
    for path in files:
        with path.open("rb") as file:
            values = read_deep3d(file)
        theirs = loadmat(path) if path.suffix == ".mat" else {"coeff": np.load(path)}
        again = read_deep3d(io.BytesIO(written(values)))
        assert again.to_array().tobytes() == np.ascontiguousarray(theirs["coeff"]).tobytes(), path.name
        if "transform_params" in theirs:
            assert again.transform_params is not None
            assert again.transform_params.tobytes() == np.ascontiguousarray(theirs["transform_params"]).tobytes(), path.name
        # Talking heads: they face the camera, near the middle of the crop, at about the reference distance.
        assert np.abs(np.degrees(values.angles)).max() < 60, path.name
        assert np.abs(values.translation).max() < 3, path.name
