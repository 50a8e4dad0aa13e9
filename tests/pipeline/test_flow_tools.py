"""The commands that measure exactness and listening of trained flows, on a run of two tiny flows; their pages and their exit codes."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_models import write_models

from flowvqtalker.audio import compute_mel, window_starts
from flowvqtalker.flow.listening import CONDITIONS, REACHES, Listening
from pipeline.errors import PipelineError
from pipeline.io import read_json, write_index, write_json, write_npz
from pipeline.params import read_config, validate_section
from pipeline.tools import flow_exact, flow_listen
from pipeline.tools.runread import read_flow, read_run

E, FRAMES = 53, 26


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A run of three test clips of two people, and one training clip."""
    root, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    rows: dict[str, list[dict]] = {"crop": [], "fit3dmm": [], "audio": []}
    clips = {
        "tr0_a": ("tr0", "train", "happy", "x"),
        "te0_a": ("te0", "test", "happy", "a"),
        "te0_b": ("te0", "test", "angry", "b"),
        "te1_a": ("te1", "test", "fear", "c"),
        "te1_u": ("te1", "test", "", ""),
    }
    for clip, (identity, split, emotion, sentence) in clips.items():
        sound = np.sin(np.arange(FRAMES * 640) * rng.uniform(0.1, 0.4)).astype(np.float32) * 0.3
        beta = (np.abs(rng.normal(0.2, 0.1, (FRAMES, E))).cumsum(0) / FRAMES).astype(np.float32)
        write_npz(root / f"data/fit3dmm/{clip}.npz", {"beta": beta, "pose": rng.normal(0, 0.05, (FRAMES, 6)).cumsum(0).astype(np.float32)})
        write_npz(root / f"data/audio/{clip}.npz", {"mel": compute_mel(sound), "start": window_starts(FRAMES)})
        labels = {"clip": clip, "status": "ok", "reason": "", "file": f"{clip}.npz", "n_frames": FRAMES, "sha256": clip}
        rows["fit3dmm"].append(labels)
        rows["audio"].append(labels)
        rows["crop"].append({
            **labels, "kind": "video", "identity": identity, "role": "talk", "emotion": emotion, "level": 3 if emotion else None, "sentence": sentence, "take": 1,
            "split": split, "uses": "flow" if split == "train" else "test", "source": "toy", "video": "", "sound": "", "landmarks": "", "size_px": 64, "audio_status": "ok",
        })  # fmt: skip
    for stage, table in rows.items():
        write_index(root / f"data/{stage}/index.csv", table, stage)
    write_models(root / "models")
    params = {"flow": validate_section("flow", read_config("params.yaml")["flow"]).model_dump()}
    write_json(
        root / ".stamps/flow.full.json", {"seed": 1, "stage": "flow", "variant": "full", "name": "default", "code": "abc", "params": params}
    )
    return root


def test_a_run_is_read_as_its_flow_stage_reads_it(root):
    read = read_run(root, "full")
    assert [clip.name for clip in read.test] == ["te0_a", "te0_b", "te1_a", "te1_u"]
    assert read.sentences["te0_b"] == "b" and read.sentences["te1_u"] == "te1_u"
    assert read.params.dequantisation == 0.001
    assert read_flow(root / "models/flow/full", "pose").config.kind == "pose"
    with pytest.raises(PipelineError, match="no stamp"):
        read_run(root, "absent")


def test_exactness_page_lists_every_check_and_a_failure_ends_the_command(root, tmp_path, monkeypatch, capsys):
    flow_exact.run(root, "full", None, 2, 1, tmp_path / "exact")
    checks = read_json(tmp_path / "exact.json")
    assert all(check["passed"] for check in checks) and all(math.isfinite(check["error"]) for check in checks)
    page = (tmp_path / "exact.md").read_text()
    assert page == capsys.readouterr().out[:-1]
    for words in ("nu 2 ", "nu 5 ", "PoseFlow, trained", "randomised 0.3", "term by term", "freshly initialised"):
        assert words in page
    assert str(root) not in page and "ABOVE" not in page
    wrong = flow_exact.Check("log-determinant", "ExpFlow", "float64", 4, 2e-8, flow_exact.LOG_DETERMINANT)
    monkeypatch.setattr(flow_exact, "checks_of", lambda *_: [wrong, replace(wrong, error=float("nan")), replace(wrong, limit=None)])
    with pytest.raises(SystemExit, match="2 of 3 checks are above their limit"):
        flow_exact.run(root, "full", None, 2, 1, tmp_path / "strict")
    assert (tmp_path / "strict.md").read_text().count("ABOVE") == 2


def test_listening_page_says_too_few_people(root, tmp_path, capsys):
    flow_listen.run(root, [root / "models/flow/full"], 1, 100, 50, 0.95, tmp_path / "listen")
    found = read_json(tmp_path / "listen.json")
    assert {entry["clip"] for entry in found["clips"]} == {"te0_a", "te0_b", "te1_a"}
    assert {(row["flow"], row["condition"], row["reach"]) for row in found["rows"]} == {
        (kind, condition, reach)
        for kind, names in CONDITIONS.items()
        for condition, reach in [("", ""), *((c, r) for c in names for r in REACHES)]
    }
    page = (tmp_path / "listen.md").read_text()
    assert "n too small" in page and "1 test clips without an emotion label" in capsys.readouterr().out


def test_intervals_resample_people_and_trainings_are_averaged():
    clips = [SimpleNamespace(name=f"c{i:02}", identity=f"p{i // 2}") for i in range(16)]
    matched = np.arange(16.0)
    gaps = [np.full(16, 0.1), np.full(16, 0.3)]
    gaps[0][3] = gaps[1][3] = np.nan
    found = [Listening(matched, {(c, r): matched + gap for c in CONDITIONS["pose"] for r in REACHES}) for gap in gaps]
    rows = flow_listen.rows_of("pose", found, clips, 200, 0.95)
    assert rows[0].condition == "" and rows[0].estimate.value == pytest.approx(7.5) and rows[0].spread == pytest.approx(0)
    gap = rows[1]
    assert gap.estimate.value == pytest.approx(0.2) and (gap.estimate.n, gap.estimate.n_clusters) == (15, 8)
    assert gap.estimate.ci == pytest.approx((0.2, 0.2)) and gap.spread == pytest.approx(math.sqrt(0.02))
    page = flow_listen.to_markdown(rows, 2, 3, 0.95, "abc")
    assert "| PoseFlow | sound of another sentence | complete | 0.200 | 0.200 to 0.200 | 0.141 | yes |" in page
    worse = flow_listen.rows_of(
        "pose", [Listening(matched, {key: 2 * matched - value for key, value in found[0].shuffled.items()})], clips, 200, 0.95
    )
    assert "no: it is worse off" in flow_listen.to_markdown(worse, 1, 3, 0.95, "abc")


def test_models_are_loaded_without_gradients(root):
    assert not any(parameter.requires_grad for parameter in read_flow(root / "models/flow/full", "expression").parameters())
    assert torch.get_default_dtype() == torch.float32
