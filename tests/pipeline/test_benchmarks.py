"""The benchmark command: reading Snakemake's measurements, measuring a job, and the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import metrics
from benchmarks import run as bench

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def _run_folder(root: Path) -> Path:
    (root / "logs/crop").mkdir(parents=True)
    (root / "logs/crop/0.benchmark.tsv").write_text(HEADER + "10.0\t0:00:10\t200.5\t0\t0\t0\t0\t0\t90\t9.0\n")
    (root / "logs/crop/1.benchmark.tsv").write_text(HEADER + "30.0\t0:00:30\t300.0\t0\t0\t0\t0\t0\t90\t27.0\n")
    (root / "logs/flow/full").mkdir(parents=True)
    (root / "logs/flow/full/flow.benchmark.tsv").write_text(HEADER + "5.0\t0:00:05\tNA\tNA\tNA\tNA\tNA\tNA\t-\tNA\n")
    (root / "data/crop").mkdir(parents=True)
    (root / "data/crop/index.csv").write_text("clip,status,n_frames\na,ok,150\nb,ok,50\nc,failed,1000\n")
    return root


def test_recorded_sums_jobs_and_counts_usable_frames(tmp_path: Path) -> None:
    crop, flow = bench.read_recorded(_run_folder(tmp_path))
    assert (crop.stage, crop.jobs, crop.job_seconds, crop.cpu_seconds, crop.peak_mb) == ("crop", 2, 40.0, 36.0, 300.0)
    assert crop.frames == 200
    assert crop.frames_per_s == pytest.approx(5.0)
    assert (flow.stage, flow.frames, flow.frames_per_s, flow.peak_mb, flow.cpu_seconds) == ("flow", None, None, None, None)


def test_a_job_is_timed_and_its_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "job_of_test.py"
    table = tmp_path / "index.csv"
    script.write_text(
        "import os, pathlib, time\n"
        "assert os.environ['OMP_NUM_THREADS'] == '1'\n"
        "cache = pathlib.Path(os.environ['FVQT_CACHE']) / 'done'\n"
        "if not cache.exists():\n"
        "    time.sleep(0.5); cache.parent.mkdir(parents=True); cache.touch()\n"
        f"pathlib.Path({str(table)!r}).write_text('clip,status,n_frames\\na,ok,100\\n')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    live = bench.measure("toy", ["job_of_test"], table, tmp_path / "cache")
    assert live.frames == 100
    assert 0.5 <= live.seconds < 20
    assert live.frames_per_s < 100 / 0.2
    assert live.real_time_factor == pytest.approx(live.seconds / 4.0)
    assert live.peak_mb > 1
    script.write_text("raise SystemExit('broken on purpose')")
    with pytest.raises(RuntimeError, match="broken on purpose"):
        bench.run_job(["job_of_test"], tmp_path / "cache")


def test_page_names_hardware_load_and_what_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _run_folder(tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["benchmarks.run", "--root", str(root), "--out", str(tmp_path / "out")])
    bench.main()
    page = (tmp_path / "out/results.md").read_text()
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["hardware"]["cpu"] in page
    assert "Load over" in page
    assert "crop: no stamp" in page
    assert "| crop | 2 | 40.0 | 36.0 | 200 | 5.0 | 300 |" in page
    assert str(tmp_path) not in page
    monkeypatch.setattr(sys, "argv", ["benchmarks.run", "--root", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="nothing could be measured"):
        bench.main()


def test_a_duel_refuses_to_time_different_work() -> None:
    result = metrics.duel("sum", "python", lambda: 3.0, lambda: 3.0, rounds=3, tolerance=0.0)
    assert result.ratio > 0
    assert result.largest_difference == 0
    with pytest.raises(ValueError, match="differ by 1"):
        metrics.duel("sum", "python", lambda: 3.0, lambda: 4.0, rounds=3, tolerance=0.5)


def test_ours_and_the_references_agree_on_fid() -> None:
    duels = metrics.distances(rounds=1)
    assert [row.reference for row in duels] == ["SciPy sqrtm", "TorchMetrics"] * 2
    results = {
        "hardware": bench.hardware(),
        "load": [0.0, 0.0],
        "rounds": 1,
        "duels": [vars(row) for row in duels],
    }
    assert "FID statistics" in metrics.to_markdown(results)
