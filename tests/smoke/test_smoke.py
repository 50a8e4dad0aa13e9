"""The whole DAG at smoke size, and the division of work between Snakemake, DVC and MLflow.

The tests of this file build on one another, in order, over one copy of the working tree: build, record, push, clone, change.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.params import read_config

REPOSITORY = Path(__file__).resolve().parents[2]
METHODS = [
    "ground_truth",
    "other_take",
    "codebook_ceiling",
    "vqig_on_fitted",
    "flowvqtalker_paired",
    "flowvqtalker_free",
    "regression",
    "copy_source",
    "shuffled_audio",
]
COLUMNS = [
    "method",
    "psnr_db",
    "psnr_face_db",
    "ssim",
    "fid_expert",
    "kid_expert",
    "m_lmd_centred_px",
    "m_lmd_raw_px",
    "f_lmd_centred_px",
    "f_lmd_raw_px",
    "lse_d",
    "lse_c",
    "av_offset_frames",
    "emotion_acc_pct",
    "blinks_per_s",
    "pose_over_time_deg",
    "pose_over_seeds_deg",
    "n_scored",
    "n_expected",
]

pytestmark = pytest.mark.smoke


class Checkout:
    """A copy of the repository with smoke-size parameters and its own environment."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *command: str, check: bool = True, timeout: int = 900) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "FVQT_", "DVC_", "PYTEST"))}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}", "PYTHONPATH": f"{self.path / 'src'}:{self.path}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.path.parent}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1",
            "HF_HUB_OFFLINE": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_NAME": "smoke", "GIT_AUTHOR_EMAIL": "smoke@example.org",
            "GIT_COMMITTER_NAME": "smoke", "GIT_COMMITTER_EMAIL": "smoke@example.org",
        }  # fmt: skip
        done = subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        text = done.stdout + done.stderr
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} exited {done.returncode}:\n{text[-6000:]}")
        return text

    def snakemake(self, *options: str, check: bool = True) -> str:
        return self.run("snakemake", "--cores", "2", *options, check=check)

    def planned(self) -> set[str]:
        """Rules that Snakemake would run now."""
        text = self.snakemake("--dry-run", "--quiet", "host", "--", "all")
        if "Nothing to be done" in text:
            return set()
        lines = text[text.index("Job stats") :].splitlines()[3:]
        return {line.split()[0] for line in lines if len(line.split()) == 2 and line.split()[1].isdigit()} - {"total", "all"}

    def set_parameter(self, section: str, key: str, value: object) -> None:
        path = self.path / "params.yaml"
        config = yaml.safe_load(path.read_text())
        config[section][key] = value
        path.write_text(yaml.safe_dump(config, sort_keys=False))

    def flow_runs(self) -> int:
        script = "import mlflow,sys; c=mlflow.MlflowClient(sys.argv[1]); e=c.get_experiment_by_name('flow'); print('runs', len(c.search_runs([e.experiment_id])))"
        return int(self.run(sys.executable, "-c", script, f"sqlite:///{self.path.parent}/mlflow.db").split("runs ")[-1].split()[0])


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Checkout:
    base = tmp_path_factory.mktemp("smoke")
    checkout = Checkout(base / "first")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    for name in filter(None, files):
        if (
            (REPOSITORY / name).is_file()
            and name != "dvc.lock"
            and not name.startswith(("reports/tables", "reports/figures", "reports/evaluate", "reports/summary"))
        ):
            target = checkout.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target)
    config = read_config(REPOSITORY / "params.yaml", REPOSITORY / "tests/smoke/config.yaml")
    (checkout.path / "params.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    profile = checkout.path / "profiles/default/config.yaml"
    profile.write_text(profile.read_text().replace("shards=4", "shards=2"))
    checkout.run("git", "init", "--quiet", "--initial-branch", "main")
    checkout.run(sys.executable, "-m", "pipeline.dvcfile")
    checkout.run("git", "add", "--all")
    checkout.run("git", "commit", "--quiet", "--message", "smoke")
    return checkout


def test_the_whole_dag_ends_in_a_table_and_a_report(first):
    first.snakemake("all")
    table = pd.read_csv(first.path / "reports/tables/quantitative.csv")
    assert list(table["method"]) == METHODS
    assert list(table.columns[: len(COLUMNS)]) == COLUMNS
    assert (table["n_scored"] == table["n_expected"]).all()
    assert (table["n_scored"] > 0).all()
    checks = json.loads((first.path / "reports/evaluate/checks.json").read_text())
    assert {"name", "value", "ci", "n", "target", "pass"} <= set(checks[0])
    assert json.loads((first.path / "models/flow/full/held_out.json").read_text())
    page = (first.path / "reports/index.html").read_text()
    assert "<video" in page
    assert (first.path / "reports/tables/quantitative.tex").exists()


def test_every_generated_video_says_that_it_is_synthetic(first):
    from pipeline.media import probe

    videos = sorted((first.path / "data/generate").glob("*/clips/*.mp4"))
    assert len(videos) >= len(METHODS)
    for video in videos:
        comment = " ".join(str(value) for value in probe(video).metadata.values()).lower()
        assert "synthetic" in comment, video
        assert "flowvqtalker" in comment, video


def test_a_second_run_has_nothing_to_do(first):
    assert first.planned() == set()


def test_recording_leaves_both_engines_idle(first):
    assert "up to date" not in first.run("dvc", "status")
    first.run(sys.executable, "-m", "pipeline.record")
    assert "up to date" in first.run("dvc", "repro")
    assert first.planned() == set()


def test_push_clone_pull_leaves_both_engines_idle(first):
    first.run("dvc", "remote", "add", "--force", "--default", "folder", str(first.path.parent / "remote"))
    first.run("dvc", "push")
    first.run("git", "add", "--all")
    first.run("git", "commit", "--quiet", "--message", "recorded")
    clone = Checkout(first.path.parent / "second")
    first.run("git", "clone", "--quiet", str(first.path), str(clone.path))
    clone.run("dvc", "pull")
    refused = clone.run(sys.executable, "-m", "pipeline.record", check=False)
    assert "nothing was recorded" in refused, "without provenance nothing may be recorded"
    clone.run(sys.executable, "-m", "pipeline.record", "--sync")
    assert clone.planned() == set()
    assert "up to date" in clone.run("dvc", "status")
    same = (clone.path / "reports/tables/quantitative.csv").read_text()
    assert same == (first.path / "reports/tables/quantitative.csv").read_text()


def test_changed_outputs_are_not_certified(first):
    clone = Checkout(first.path.parent / "second")
    victim = next((clone.path / "data/audio/clips").glob("*.npz"))
    victim.unlink()
    victim.write_bytes(b"tampered")
    refused = clone.run(sys.executable, "-m", "pipeline.record", "--sync", check=False)
    assert "nothing was certified" in refused


def test_stale_data_is_never_taken_under_new_parameters(first):
    """Without Snakemake's memory and with every file in order, a new parameter still reruns its stage (the stamp is an input)."""
    clone = Checkout(first.path.parent / "second")
    shutil.rmtree(clone.path / ".snakemake")
    config = yaml.safe_load((clone.path / "params.yaml").read_text())
    clone.set_parameter("crop", "size_px", config["crop"]["size_px"] + 16)
    planned = clone.planned()
    assert {"crop_shard", "crop", "report"} <= planned
    assert "corpus_shard" not in planned


def test_a_partial_build_is_not_certified(first):
    config = yaml.safe_load((first.path / "params.yaml").read_text())
    old = config["flow"]["history_noise"]
    first.set_parameter("flow", "history_noise", old / 2)
    first.snakemake("models/flow/full/index.json")
    refused = first.run(sys.executable, "-m", "pipeline.record", check=False)
    assert "nothing was recorded" in refused


def test_a_changed_flow_parameter_reruns_flow_and_what_follows(first):
    """The parameter was changed by the test before; DVC runs flow and later stages only, and MLflow shows further flow runs."""
    before = first.flow_runs()
    text = first.run("dvc", "repro", timeout=1200)
    ran = {line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")}
    assert {name.split("@")[0] for name in ran} == {"flow", "generate", "evaluate", "report"}
    assert first.flow_runs() > before >= 2
    assert first.planned() == set()


def test_an_interrupted_run_goes_on_where_it_stopped(first):
    """A stage killed in the middle leaves no hand-over file; the next call goes on and uses what was finished."""
    crop = first.path / "data/audio"
    index = (crop / "index.csv").read_text()
    (crop / "index.csv").unlink()
    text = first.snakemake("data/audio/index.csv")
    assert (crop / "index.csv").read_text() == index, text[-2000:]
