"""The three face models behind one interface: each is fitted to the same landmarks by the same step, with pixels and without."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.io import savemat

from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import crop_camera, project
from flowvqtalker.face.expressions import BLENDSHAPES, EXPRESSION_INDEX
from flowvqtalker.face.pose import transform
from flowvqtalker.fit.agreement import rotation_error_deg
from flowvqtalker.fit.basis import basis_of, expression_bounds
from flowvqtalker.fit.light import SkinPatches, estimate_light
from flowvqtalker.fit.photometric import PhotometricConfig, refine_photometric, render_sh
from flowvqtalker.fit.solver import Fit
from flowvqtalker.render.torchraster import TorchRasterizer
from pipeline import fit3dmm
from pipeline.clipstage import run_merge, run_shard
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.facemodel import load_face_model
from pipeline.io import read_index, read_npz, text_sha256, write_index, write_npz
from pipeline.media import write_video
from pipeline.params import validate_section

SIZE, N = 96, 30
SIZES = {"clay": 53, "ict": 53, "bfm": 64}


@pytest.fixture(scope="module")
def basel_file(tmp_path_factory) -> Path:
    """A file in the layout of BFM_model_front.mat, made of the clay head's face: 80 and 64 mixtures of its shapes, in decimetres."""
    clay, rng = make_face_model("clay"), np.random.default_rng(3)
    points = clay.mean[clay.landmarks68]
    face = (
        (clay.mean[:, 1] > points[8, 1] - 0.5)
        & (clay.mean[:, 1] < points[17:27, 1].max() + 4)
        & (clay.mean[:, 2] > points[[0, 16], 2].min())
    )
    face |= np.isin(np.arange(clay.n_vertices), clay.landmarks68)
    number = np.cumsum(face) - 1  # new index of each kept vertex
    mean, triangles = clay.mean[face], number[clay.triangles[face[clay.triangles].all(1)]]

    def mixtures(shapes: np.ndarray, count: int, sd: float) -> np.ndarray:
        mix = rng.normal(0, sd / np.sqrt(len(shapes)), (count, len(shapes)))
        return np.tensordot(mix, shapes[:, face].astype(np.float64), 1).reshape(count, -1).T / 10

    content = {
        "meanshape": mean.reshape(1, -1) / 10, "meantex": np.full((1, mean.size), 150.0),
        "idBase": mixtures(clay.identity * clay.identity_std[:, None, None], 80, 1.0), "exBase": mixtures(clay.expression, 64, 0.5),
        "texBase": np.zeros((mean.size, 80)), "tri": triangles + 1, "keypoints": number[clay.landmarks68][None] + 1,
    }  # fmt: skip
    path = tmp_path_factory.mktemp("assets") / "bfm" / "BFM_model_front.mat"
    path.parent.mkdir()
    savemat(path, {name: np.asarray(value, np.float32 if value.dtype.kind == "f" else np.int32) for name, value in content.items()})
    return path


@pytest.fixture
def asset_of(basel_file, monkeypatch, request):
    """Name of a model's asset as it stands in the parameters; the generated Basel file lies in an asset folder."""
    monkeypatch.setenv("FVQT_ASSETS", str(basel_file.parent.parent))

    def find(name: str) -> str:
        if name == "ict":
            shared = request.getfixturevalue("shared_folder")
            monkeypatch.setenv("FVQT_SHARED", str(shared))
            if not (shared / "assets/ict/ict_facekit_7k.npz").is_file():
                pytest.skip(f"no ict/ict_facekit_7k.npz under {shared}/assets")
        return {"clay": "", "ict": "ict/ict_facekit_7k.npz", "bfm": "bfm/BFM_model_front.mat"}[name]

    return find


def truth(model) -> tuple[np.ndarray, np.ndarray]:
    """A head of the model that turns and moves: alpha and pose, with the mean expression."""
    pose = np.zeros((N, 6))
    pose[:, 0], pose[:, 1] = 0.1 * np.sin(np.arange(N) / 5), 0.25 * np.sin(np.arange(N) / 7)
    return 0.5 * model.sample_identity(np.random.default_rng(1)).astype(np.float64), pose


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    """One crop of a talking clay head with blendshape scores, as mediapipe would give them."""
    folder = tmp_path_factory.mktemp("run") / "data" / "crop"
    clay = make_face_model("clay")
    alpha, pose = truth(clay)
    beta = np.zeros((N, 53))
    beta[:, EXPRESSION_INDEX["jawOpen"]] = 0.3 + 0.25 * np.sin(np.arange(N) / 2.5)
    points = project(transform(clay.landmarks(torch.tensor(alpha), torch.tensor(beta)), torch.tensor(pose)), crop_camera(SIZE)).numpy()
    scores = np.zeros((N, len(BLENDSHAPES)), np.float32)
    scores[:, BLENDSHAPES.index("jawOpen")] = beta[:, EXPRESSION_INDEX["jawOpen"]]
    write_npz(folder / "clips/talk.npz", {"landmarks_px": points.astype(np.float32), "present": np.ones(N, bool), "blendshapes": scores})
    write_video(folder / "clips/talk.mp4", np.full((N, SIZE, SIZE, 3), (200, 150, 120), np.uint8))
    row = {
        "clip": "talk", "role": "talk", "kind": "video", "video": "clips/talk.mp4", "sound": "", "audio_status": "none", "identity": "p1",
        "landmarks": "clips/talk.npz", "size_px": SIZE, "sha256": text_sha256("talk"), "status": "ok", "reason": "", "split": "test",
        "n_frames": N, "emotion": "", "source": "toy",
    }  # fmt: skip
    write_index(folder / "index.csv", [row], "crop")
    return folder


def fit(crops: Path, tmp_path: Path, monkeypatch, name: str, asset: str, **changes) -> dict[str, np.ndarray]:
    """Run the step on the crop; gives the clip's arrays and, under "row", its row."""
    values = yaml.safe_load(Path("params.yaml").read_text())["fit3dmm"] | {"model": name, "asset": asset, "max_failed_share": 1.0}
    if name == "bfm":
        values |= {"expression_sd": 1.0}  # its coefficients are in standard deviations
    values |= changes
    monkeypatch.setenv("FVQT_CACHE", str(tmp_path / "cache"))
    ctx = Context(
        "fit3dmm", "", json.dumps({"seed": 1, "stage": "fit3dmm", "params": {"fit3dmm": values}}), tmp_path, tmp_path / "fit" / "index.csv",
        {"crop": crops / "index.csv"}, 1, {"fit3dmm": validate_section("fit3dmm", values)},
    )  # fmt: skip
    run_shard(fit3dmm.STAGE, ctx, 0, 1, tmp_path / "0.csv")
    run_merge(ctx, [tmp_path / "0.csv"], ctx.out)
    row = read_index(ctx.out, "fit3dmm").iloc[0]
    assert row["status"] == "ok", row["reason"]
    return {**read_npz(ctx.out.parent / row["file"]), "row": row}


@pytest.mark.parametrize("name", ["clay", pytest.param("ict", marks=pytest.mark.shared), "bfm"])
def test_each_model_is_fitted_by_the_same_step(name, crops, asset_of, tmp_path, monkeypatch):
    found = fit(crops, tmp_path, monkeypatch, name, asset_of(name))
    model = load_face_model(name, asset_of(name))
    low, high = expression_bounds(model.expression_names)
    assert found["alpha"].shape == (model.n_identity,) and found["beta"].shape == (N, SIZES[name])
    assert found["beta"].min() >= low and found["beta"].max() <= high
    assert float(found["row"]["landmark_error_pct"]) < 3.0
    _, pose = truth(make_face_model("clay"))
    # A head of another shape may stand a little differently; it has to turn alike.
    turned = found["pose"][:, 1] - found["pose"][:, 1].mean()
    assert np.corrcoef(turned, pose[:, 1])[0, 1] > 0.98
    assert np.isfinite(found["light"]).all() and found["light"].any()
    # Its own landmarks open the mouth when the true mouth opens.
    alpha, beta = torch.as_tensor(found["alpha"]), torch.as_tensor(found["beta"])
    lips = model.landmarks(alpha, beta).numpy()
    gap = lips[:, 62, 1] - lips[:, 66, 1]
    assert np.corrcoef(gap, np.sin(np.arange(N) / 2.5))[0, 1] > 0.95


def test_scores_of_named_shapes_do_not_hold_a_pca_basis_at_rest(crops, asset_of, tmp_path, monkeypatch):
    tight = fit(crops, tmp_path, monkeypatch, "bfm", asset_of("bfm"), blendshape_sd=1e-3)
    assert np.abs(tight["beta"]).max() > 0.1


@pytest.mark.parametrize("name", ["clay", pytest.param("ict", marks=pytest.mark.shared), "bfm"])
def test_pixels_turn_each_model_back(name, asset_of):
    model = load_face_model(name, asset_of(name))
    camera, frames = crop_camera(64), 4
    low, _ = expression_bounds(model.expression_names)
    alpha = torch.zeros(model.n_identity)
    beta = torch.zeros(frames, model.n_expression)
    beta[:, 0] = -0.6 if low < 0 else 0.2
    pose = torch.zeros(frames, 6)
    pose[:, 1] = torch.linspace(-0.25, 0.25, frames)
    gamma = torch.zeros(frames, 3, 9)
    gamma[:, :, 0], gamma[:, :, 2], gamma[:, :, 3] = 2.0, 0.5, 0.4
    albedo = 0.5 + 0.25 * torch.sin(torch.as_tensor(model.mean) * 1.3)
    triangles = torch.as_tensor(model.triangles, dtype=torch.int64)
    image, _ = render_sh(model.vertices(alpha, beta), pose, triangles, albedo, gamma.flatten(1), camera, 64, TorchRasterizer())
    pictures = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    off = pose.numpy().copy()
    off[:, 1] += np.radians([3, -3, 3, -3], dtype=np.float32)
    start = Fit(alpha.numpy(), beta.numpy(), off, np.zeros(frames, np.float32), 0.0)
    config = PhotometricConfig(steps=20, lr=0.004, landmark_weight=0.0, batch=frames)
    refined = refine_photometric(model, start, pictures, gamma.flatten(1).numpy(), camera, config, TorchRasterizer())
    assert rotation_error_deg(refined.pose, pose.numpy()).mean() < 0.75 * rotation_error_deg(off, pose.numpy()).mean()
    if low < 0:  # a negative coefficient of a PCA basis is not rest: it neither jumps to zero nor is left out
        assert (refined.beta[:, 0] < -0.4).all() and (refined.beta[:, 0] != start.beta[:, 0]).any()
    light = estimate_light(torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 255, SkinPatches.of(model), alpha, beta, pose, camera)
    assert light.shape == (frames, 27)


def test_a_basis_of_another_kind_says_when_it_is_at_its_bounds():
    assert expression_bounds(("bfm_expression_00",)) == (-5.0, 5.0) and expression_bounds(("jawOpen",)) == (0.0, 1.0)
    basis = basis_of(make_face_model("clay"))
    assert (basis.lower == 0).all() and (basis.upper == 1).all()


@pytest.mark.parametrize(("name", "content"), [("bfm", b"no mat file"), ("ict", b"no npz either")])
def test_a_file_of_another_kind_is_named_in_two_lines(name, content, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"file\.bin: not a face model") as error:
        load_face_model(name, str(path))
    assert "fit3dmm.asset" in error.value.hint


def test_fits_leave_and_enter_as_deep3d_files(asset_of, tmp_path):
    from flowvqtalker.face.deep3d import DEEP3D_CAMERA
    from pipeline.tools import deep3d

    model, rng = load_face_model("bfm", asset_of("bfm")), np.random.default_rng(2)
    pose = np.c_[rng.normal(0, 0.15, (6, 3)), rng.normal(0, 1.0, (6, 3))].astype(np.float32)
    mine = {"alpha": rng.normal(0, 0.5, 80).astype(np.float32), "beta": rng.normal(0, 0.5, (6, 64)).astype(np.float32), "pose": pose}
    write_npz(tmp_path / "fit.npz", mine)
    assert deep3d.write(tmp_path / "fit.npz", tmp_path / "fit.mat", model, 96) == 6
    first = (tmp_path / "fit.mat").read_bytes()
    deep3d.write(tmp_path / "fit.npz", tmp_path / "fit.mat", model, 96)
    assert (tmp_path / "fit.mat").read_bytes() == first
    assert deep3d.read(tmp_path / "fit.mat", tmp_path / "back.npz", model) == 6
    back = read_npz(tmp_path / "back.npz")
    np.testing.assert_allclose(back["alpha"], mine["alpha"], atol=1e-6)
    assert np.array_equal(back["beta"], mine["beta"])
    points = model.landmarks(torch.as_tensor(mine["alpha"]), torch.as_tensor(mine["beta"]))
    ours = (project(transform(points, torch.as_tensor(pose)), crop_camera(96)).numpy() + 0.5) * 224 / 96 - 0.5
    theirs = project(transform(points, torch.as_tensor(back["pose"])), DEEP3D_CAMERA).numpy()
    # Another distance is another perspective: the landmarks agree to a few pixels of 224, and the head turns alike.
    assert np.abs(ours - theirs).mean() < 2.0
    assert rotation_error_deg(back["pose"], pose).mean() < 3.0
    with pytest.raises(PipelineError, match="257"):
        deep3d.read(tmp_path / "fit.npz", tmp_path / "no.npz", model)
    write_npz(tmp_path / "clay.npz", {**mine, "beta": np.zeros((6, 53), np.float32)})
    with pytest.raises(PipelineError, match="53 expression coefficients"):
        deep3d.write(tmp_path / "clay.npz", tmp_path / "no.mat", model, 96)
