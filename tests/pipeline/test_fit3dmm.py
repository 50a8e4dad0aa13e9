"""Steps fit3dmm and audio on a small folder of crops with known coefficients, through the harness that the rules call."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import crop_camera, project
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.face.pose import transform
from flowvqtalker.fit.agreement import correlation, rotation_error_deg
from flowvqtalker.fit.basis import basis_of
from flowvqtalker.fit.blendshapes import blendshapes_to_beta
from flowvqtalker.fit.solver import fit_clip, fit_identity_of_clip
from flowvqtalker.landmarks import boxes
from pipeline import audio, fit3dmm
from pipeline.backends import make_landmarker
from pipeline.clipstage import run_merge, run_shard
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.facemodel import load_face_model
from pipeline.io import read_index, read_npz, text_sha256, write_index, write_npz
from pipeline.media import read_video_at, write_sound, write_video
from pipeline.params import validate_section

SIZE = 64
N = 40


def _talk(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    beta = np.zeros((N, 53))
    beta[:, EXPRESSION_INDEX["jawOpen"]] = 0.25 + 0.2 * np.sin(np.arange(N) / 2.5)
    for side in "LR":
        beta[20:24, EXPRESSION_INDEX[f"eyeBlink_{side}"]] = (0.5, 1.0, 0.9, 0.4)
    pose = np.c_[0.1 * np.sin(np.arange(N)[:, None] / (9 + np.arange(3))), rng.normal(0, 0.3, (1, 3)).repeat(N, 0)]
    return beta, pose


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> dict:
    """Crop folder with an enrolment, a talking clip, a faceless one, one without sound, and stills."""
    folder = tmp_path_factory.mktemp("run") / "data" / "crop"
    model, rng = make_face_model("clay"), np.random.default_rng(0)
    alpha = torch.tensor(model.sample_identity(rng), dtype=torch.float64)
    beta, pose = _talk(rng)
    rest = np.zeros_like(beta)
    rows = []
    for clip, role, coefficients in (
        ("p1_enrol", "enrol", rest),
        ("p1_talk", "talk", beta),
        ("p1_mute", "talk", beta),
        ("p1_gone", "talk", None),
    ):
        points = np.full((N, 68, 2), np.nan)
        if coefficients is not None:
            points = project(transform(model.landmarks(alpha, torch.tensor(coefficients)), torch.tensor(pose)), crop_camera(SIZE)).numpy()
        write_npz(folder / f"clips/{clip}.npz", {"landmarks_px": points.astype(np.float32), "present": np.isfinite(points).all((1, 2))})
        write_video(folder / f"clips/{clip}.mp4", np.full((N, SIZE, SIZE, 3), (200, 150, 120), np.uint8))
        sound = ""
        if clip != "p1_mute":
            sound = f"clips/{clip}.wav"
            write_sound(folder / sound, np.sin(np.arange(N * 640) / 5).astype(np.float32) * 0.3)
        rows.append(
            {
                "clip": clip,
                "role": role,
                "kind": "video",
                "video": f"clips/{clip}.mp4",
                "sound": sound,
                "audio_status": "ok" if sound else "none",
            }
        )
    frames = np.full((6, SIZE, SIZE, 3), 128, np.uint8)
    points = read_npz(folder / "clips/p1_talk.npz")["landmarks_px"][::7]
    write_npz(folder / "clips/p2_stills.npz", {"landmarks_px": points, "frames": frames, "present": np.ones(6, bool)})
    rows.append({"clip": "p2_stills", "role": "stills", "kind": "stills", "audio_status": "none", "n_frames": 6, "identity": "p2"})
    for row in rows:
        row |= {
            "landmarks": f"clips/{row['clip']}.npz",
            "size_px": SIZE,
            "sha256": text_sha256(row["clip"]),
            "status": "ok",
            "reason": "",
            "split": "test",
        }
        row.setdefault("identity", "p1")
        row.setdefault("n_frames", N)
        row |= {"emotion": "neutral" if row["role"] == "enrol" else "", "source": "toy"}
    write_index(folder / "index.csv", rows, "crop")
    return {"folder": folder, "beta": beta, "pose": pose}


def context(stage: str, crops: dict, tmp_path: Path, **changes) -> Context:
    values = yaml.safe_load(Path("params.yaml").read_text())[stage] | {"max_failed_share": 1.0} | changes
    out = crops["folder"].parent / tmp_path.name / "index.csv"
    stamp = json.dumps({"seed": 1, "stage": stage, "params": {stage: changes}})
    return Context(
        stage,
        "",
        stamp,
        tmp_path,
        out,
        {"crop": crops["folder"] / "index.csv"},
        1,
        {stage: validate_section(stage, values)},
    )


def run(module, ctx: Context, tmp_path: Path, monkeypatch, shards: int = 2, stage=None):
    monkeypatch.setenv("FVQT_CACHE", str(tmp_path / "cache"))
    tables = [tmp_path / f"{shard}.csv" for shard in range(shards)]
    for shard, table in enumerate(tables):
        run_shard(stage or module.STAGE, ctx, shard, shards, table)
    run_merge(ctx, tables, ctx.out)
    return read_index(ctx.out, ctx.stage).set_index("clip")


def test_fits_every_crop_and_names_the_faceless_one(crops, tmp_path, monkeypatch):
    ctx = context("fit3dmm", crops, tmp_path)
    table = run(fit3dmm, ctx, tmp_path, monkeypatch)
    assert table.loc["p1_gone", "status"] == "rejected" and "no frame has landmarks" in table.loc["p1_gone", "reason"]
    assert set(table[table["status"] == "ok"].index) == {"p1_enrol", "p1_talk", "p1_mute", "p2_stills"}
    assert (table.loc[["p1_enrol", "p1_talk"], "landmark_error_pct"] < 2.0).all()
    fit = read_npz(ctx.out.parent / table.loc["p1_talk", "file"])
    assert fit["beta"].shape == (N, 53) and fit["pose"].shape == (N, 6) and fit["light"].shape == (N, 27) and fit["error_px"].shape == (N,)
    for name, least in (("jawOpen", 0.97), ("eyeBlink_L", 0.95)):
        assert correlation(fit["beta"][:, EXPRESSION_INDEX[name]], crops["beta"][:, EXPRESSION_INDEX[name]]) > least
    assert rotation_error_deg(fit["pose"], crops["pose"]).mean() < 2.0
    # Uniform pictures are lit by a constant: the mean colour in the first band of each channel, nothing in the others.
    bands = fit["light"].reshape(N, 3, 9)
    np.testing.assert_allclose(bands[:, :, 0].mean(0) * 0.282095 * 255, (200, 150, 120), rtol=0.06)
    assert np.abs(bands[:, :, 1:]).max() < 0.2
    stills = read_npz(ctx.out.parent / table.loc["p2_stills", "file"])
    assert stills["beta"].shape == (6, 53)


def test_clips_of_a_person_share_the_enrolled_identity(crops, tmp_path, monkeypatch):
    ctx = context("fit3dmm", crops, tmp_path, light=False)
    table = run(fit3dmm, ctx, tmp_path, monkeypatch)
    alphas = [read_npz(ctx.out.parent / table.loc[clip, "file"])["alpha"] for clip in ("p1_enrol", "p1_talk", "p1_mute")]
    np.testing.assert_array_equal(alphas[0], alphas[1])
    np.testing.assert_array_equal(alphas[0], alphas[2])


def test_sharding_changes_nothing_and_finished_clips_are_not_fitted_again(crops, tmp_path, monkeypatch):
    ctx = context("fit3dmm", crops, tmp_path, light=False)
    first = run(fit3dmm, ctx, tmp_path, monkeypatch, shards=1)

    def process(item, *rest):
        assert item.clip == "p1_gone", "a finished clip was fitted again"  # the faceless one is tried anew each time
        return fit3dmm.process(item, *rest)

    idle = replace(fit3dmm.STAGE, process=process)
    second = run(fit3dmm, ctx, tmp_path, monkeypatch, shards=3, stage=idle)
    made = first["status"] == "ok"
    assert (first["sha256"] == second["sha256"])[made].all() and (second["status"][made] == "ok").all()


def test_audio_has_a_mel_window_for_every_frame_and_rejects_silence_of_the_file(crops, tmp_path, monkeypatch):
    ctx = context("audio", crops, tmp_path)
    table = run(audio, ctx, tmp_path, monkeypatch)
    assert "p2_stills" not in table.index
    assert table.loc["p1_mute", "status"] == "rejected" and table.loc["p1_mute", "reason"] == "no sound"
    arrays = read_npz(ctx.out.parent / table.loc["p1_talk", "file"])
    assert arrays["mel"].shape == (1 + N * 640 // 200, 80) and arrays["mel"].dtype == np.float32
    assert arrays["start"].tolist()[:3] == [-7, -4, 0] and len(arrays["start"]) == N


def test_missing_face_model_names_file_and_cure(crops, tmp_path):
    ctx = context("fit3dmm", crops, tmp_path, model="bfm")
    with pytest.raises(PipelineError, match=r"fit3dmm\.asset"):
        fit3dmm.make_items(ctx)


def test_unreadable_landmarks_become_a_row(crops, tmp_path, monkeypatch, caplog):
    ctx = context("fit3dmm", crops, tmp_path, light=False)
    broken = crops["folder"] / "clips/p1_mute.npz"
    content = broken.read_bytes()
    try:
        broken.write_bytes(content[:200])
        with caplog.at_level(logging.WARNING):
            table = run(fit3dmm, ctx, tmp_path, monkeypatch)
    finally:
        broken.write_bytes(content)
    assert table.loc["p1_mute", "status"] == "failed" and "not a readable npz" in table.loc["p1_mute", "reason"]
    assert table.loc["p1_talk", "status"] == "ok"


@pytest.mark.shared
def test_real_video_agrees_with_mediapipes_own_scores():
    """ICT fitted to mediapipe's landmarks of a GRID clip opens jaw and closes lids when mediapipe's blendshapes do."""
    shared = Path(os.environ.get("FVQT_SHARED", Path(__file__).parents[2].parent / "shared"))
    videos = sorted(path for path in (shared / "media/grid").rglob("*") if path.suffix in (".mpg", ".mp4")) if shared.exists() else []
    if not videos or not (shared / "assets/ict/ict_facekit_7k.npz").exists():
        pytest.skip(f"sample media and assets not found under {shared}")
    values = yaml.safe_load(Path("params.yaml").read_text())
    found = make_landmarker(validate_section("landmarks", values["landmarks"] | {"backend": "mediapipe"}), Path()).detect(
        read_video_at(videos[0]), video=True
    )
    landmarks = boxes.to_crop(found.landmarks_px, boxes.static_box(found.landmarks_px, scale=1.6), 128)
    basis, config = basis_of(load_face_model("ict", "")), validate_section("fit3dmm", values["fit3dmm"]).fit_config()
    alpha = fit_identity_of_clip(basis, landmarks, crop_camera(128), config, count=16, neutral=False)
    fit = fit_clip(basis, alpha, landmarks, crop_camera(128), config)
    scores = blendshapes_to_beta(found.blendshapes, basis.names)
    for name, least in (("jawOpen", 0.8), ("eyeBlink_L", 0.9)):
        assert correlation(fit.beta[:, EXPRESSION_INDEX[name]], scores[:, EXPRESSION_INDEX[name]]) > least
    assert np.abs(np.degrees(fit.pose[:, :3])).max() < 20
