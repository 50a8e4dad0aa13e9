"""py-feat as a feature file: fast errors without weights, nothing imported early, and its real networks with random weights."""

import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from flowvqtalker.checks import ShapeError
from flowvqtalker.experts import pyfeat
from pipeline.cli import fex
from pipeline.errors import PipelineError
from pipeline.media import write_video
from pipeline.needs import Need, check

REPOSITORY = Path(__file__).resolve().parents[2]


def python(code: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"}
    environment.pop("OMP_NUM_THREADS", None)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=120)


def test_no_command_imports_feat_before_it_is_needed():
    result = python(
        "import os, sys; import pipeline.cli.fex, pipeline.cli.doctor, pipeline.needs, flowvqtalker.experts.pyfeat as p;"
        "print('feat' in sys.modules, os.environ.get('OMP_NUM_THREADS'))"
    )
    assert result.stdout.split() == ["False", "None"], result.stderr


def test_missing_weights_are_named_within_a_moment(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.needs._pyfeat_files", list)
    began = time.monotonic()
    with pytest.raises(PipelineError, match=r"py-feat/retinaface_r34.*py-feat/face_multitask_v2") as error:
        fex.require_weights()
    assert time.monotonic() - began < 10
    assert "Detectorv2" in error.value.hint and "huggingface.co/py-feat/face_multitask_v2" in error.value.message


def test_weights_are_found_where_the_hub_lays_them():
    files = ["models--py-feat--retinaface_r34/snapshots/abc/retinaface_r34.safetensors", "au_to_mesh_pls_v4.npz"]
    assert pyfeat.missing_weights(files) == ["py-feat/face_multitask_v2"]
    files.append("models--py-feat--face_multitask_v2/snapshots/def/face_multitask_v28.safetensors")
    assert pyfeat.missing_weights(files) == []
    # A half-finished download lies among the blobs, not in a snapshot.
    assert pyfeat.missing_weights(["models--py-feat--retinaface_r34/blobs/model.safetensors"]) == list(pyfeat.WEIGHTS)


def test_doctor_sees_the_package_and_its_weights(monkeypatch):
    monkeypatch.setattr("pipeline.needs._pyfeat_files", lambda: ["models--py-feat--retinaface_r34/snapshots/a/model.safetensors"])
    words = {name: check(Need("pyfeat", name, "outside.judges: pyfeat", "copy it")).word for name in pyfeat.WEIGHTS}
    assert words == {"py-feat/retinaface_r34": "ok", "py-feat/face_multitask_v2": "missing"}


def test_frames_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match="frames"):
        pyfeat.fex_table(None, np.zeros((4, 8, 8), np.uint8))


@pytest.fixture(scope="module")
def detector():
    """py-feat's own second detector with random weights; the whole frame is the face, since a random detector finds none."""
    pytest.importorskip("feat", reason="py-feat is not installed")
    from feat import detector_v2
    from feat.multitask import inference

    config = inference.ModelV2Config(pretrained=False)
    torch.manual_seed(0)
    state = inference.MEGraphAUv2(config).state_dict()
    settings = {name: getattr(config, name) for name in config.__dataclass_fields__}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference.MultitaskModel, "_resolve_weights", staticmethod(lambda _: "random"))
        patch.setattr(inference, "_load_multitask_weights", lambda _: (settings, state))
        patch.setattr(detector_v2, "Retinaface", functools.partial(detector_v2.Retinaface, pretrained="none"))
        made = pyfeat.load_detector()
    made.detect_faces = lambda images, face_detection_threshold=0.5: made.crop_faces_from_boxes(
        images, [torch.tensor([[2.0, 2.0, 61.0, 61.0]])] * len(images)
    )
    return made


def test_a_video_becomes_a_fex_table_that_feat_reads(detector, tmp_path, monkeypatch):
    from feat.utils.io import read_feat

    frames = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", frames)
    threads = torch.get_num_threads()
    monkeypatch.setattr(fex, "CHUNK_FRAMES", 2)
    table = fex.write_fex(tmp_path / "clip.mp4", tmp_path / "clip.csv", detector)
    assert torch.is_grad_enabled() and torch.get_num_threads() == threads
    assert table["frame"].tolist() == [0, 1, 2, 3, 4] and set(table["input"]) == {"clip.mp4"}
    assert not [column for column in table.columns if column.startswith("Identity")]
    again = read_feat(str(tmp_path / "clip.csv"))
    assert len(again) == 5 and {"AU01", "AU12", "AU43"} <= set(again.columns)
    units = again[[column for column in again.columns if column.startswith("AU")]].to_numpy(float)
    assert np.isfinite(units).all() and (units >= 0).all() and (units <= 1).all()


def test_units_and_emotions_per_frame(detector):
    frames = np.random.default_rng(1).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    units, emotions = pyfeat.action_units(detector, frames), pyfeat.emotion_probabilities(detector, frames)
    assert {"AU06", "AU12"} <= set(units) and all(values.shape == (2,) for values in units.values())
    np.testing.assert_allclose(sum(emotions.values()), 1.0, atol=1e-5)
    scores = pyfeat.emotion_scores(units)
    assert scores["happy"] == pytest.approx(np.mean([units["AU06"].mean(), units["AU12"].mean()]))
    assert torch.is_grad_enabled()
