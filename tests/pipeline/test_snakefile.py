"""What a user sees from Snakemake before anything runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]


def snakemake(*options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}",
    }
    command = ["snakemake", "--dry-run", "--cores", "1", *options]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("overlay", "named"),
    [
        ({"crop": {"size_pixels": 64}}, "crop.size_pixels"),
        ({"flow": {"history_noise": -1.0}}, "flow.history_noise"),
        ({"flwo": {"prior": "gmm"}}, "flwo"),
        ({"landmarks": {"backend": "guess"}}, "landmarks.backend"),
    ],
)
def test_a_bad_parameter_stops_before_the_dag_and_is_named(tmp_path, overlay, named):
    path = tmp_path / "overlay.yaml"
    path.write_text(yaml.safe_dump(overlay))
    done = snakemake("--configfile", str(path), "--", "all")
    assert done.returncode != 0
    assert named in done.stdout + done.stderr
    assert "fix:" in done.stdout + done.stderr


def test_another_configuration_never_writes_into_the_default_folders(tmp_path):
    path = tmp_path / "overlay.yaml"
    path.write_text(yaml.safe_dump({"name": "elsewhere"}))
    try:
        done = snakemake("--quiet", "host", "--configfile", str(path), "--", "all")
        assert done.returncode == 0, done.stdout + done.stderr
        outputs = [line.split(":", 1)[1] for line in done.stdout.splitlines() if line.strip().startswith("output:")]
        assert outputs
        assert all(name.strip().startswith("runs/elsewhere/") for line in outputs for name in line.split(","))
    finally:
        import shutil

        shutil.rmtree(REPOSITORY / "runs" / "elsewhere", ignore_errors=True)


def test_a_missing_folder_of_videos_is_a_clear_error(tmp_path):
    command = [sys.executable, "-m", "pipeline.cli.clips", "--root", str(tmp_path / "nothing here")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "no such folder" in done.stderr
