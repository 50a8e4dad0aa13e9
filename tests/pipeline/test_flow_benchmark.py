"""The benchmark of the flows' sampler: what it samples, how it judges, and its files, at a size that takes seconds."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import flow as bench


@pytest.fixture
def tiny(monkeypatch):
    """Flows of two steps and width 16 in place of the configurations'."""
    shape = bench.shape

    def small(configuration, kind):
        config = shape(configuration, kind)
        return replace(
            config, stack=replace(config.stack, steps=2, width=16, heads=4, coupling_layers=1), audio_width=16, conditioner_width=16
        )

    monkeypatch.setattr(bench, "shape", small)
    monkeypatch.setattr(bench, "STEPS", (1, 2))
    monkeypatch.setattr(bench, "TAUS", (5, 10))
    yield
    torch.set_num_threads(1)


def test_shapes_are_those_of_the_parameters():
    default, paper = bench.shape("default", "expression"), bench.shape("paper-size", "expression")
    assert (default.stack.steps, default.stack.features, default.tau) == (6, 53, 10)
    assert (paper.stack.steps, paper.stack.width, paper.stack.features) == (16, 256, 64)
    assert bench.shape("paper-size", "pose").stack.steps == 16
    assert bench.shape("default", "pose").coefficients == 6


def test_both_flows_are_the_sum_and_the_faster_threads_count(tiny, monkeypatch):
    times = iter([0.0, 2.0, 1.0, 0.0, 0.5, 3.0])  # a warm-up, one and two threads; ExpFlow, then PoseFlow
    asked = []
    monkeypatch.setattr(bench, "work_seconds", lambda flow, requests, rounds: asked.append(len(requests[0].windows)) or next(times))
    exp, pose, both = bench.speeds("default", 32, 50, 1)
    assert asked == [3, 50, 50] * 2
    assert (exp.threads, exp.seconds, exp.real_time_factor, exp.asked) == (2, 1.0, 64.0, 60.0)
    assert (pose.threads, pose.seconds) == (1, 0.5)
    assert (both.threads, both.by_threads, both.real_time_factor) == (1, {"1": 2.5, "2": 4.0}, 32 * 2.0 / 2.5)


def test_cost_is_that_of_the_frames_alone(tiny, monkeypatch):
    monkeypatch.setattr(bench, "work_seconds", lambda flow, requests, rounds: 7.0 + 0.004 * len(requests[0].windows) * len(requests))
    found = bench.costs(20, 1)
    assert {(row.steps, row.tau, row.clips) for row in found} == {(k, tau, n) for k, tau in ((1, 10), (2, 10), (2, 5)) for n in (1, 32)}
    assert all(row.ms == pytest.approx(4.0 * row.clips) for row in found)


def test_the_command_writes_its_files(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "LENGTHS", {("default", 1): 0.2})
    monkeypatch.setattr(bench, "MEMORY_OF", (0.2, 2.0))
    figure = tmp_path / "flow_cost.png"
    monkeypatch.setattr(
        sys, "argv", ["benchmarks.flow", "--rounds", "1", "--scale", "0.1", "--out", str(tmp_path), "--figure", str(figure)]
    )
    bench.main()
    results = json.loads((tmp_path / "flow.json").read_text())
    page = (tmp_path / "flow.md").read_text()
    assert [row["flow"] for row in results["speeds"]] == ["ExpFlow", "PoseFlow", "both"]
    assert all(row["seconds"] > 0 and row["real_time_factor"] > 0 for row in results["speeds"])
    assert [row["clip_s"] for row in results["memory"]] == [0.2, 0.2]
    assert all(row["peak_mb"] >= row["before_mb"] > row["input_mb"] for row in results["memory"])
    assert figure.stat().st_size > 1000
    assert results["hardware"]["cpu"] in page and "load before" in page and str(tmp_path) not in page
    assert page in capsys.readouterr().out


def test_a_failed_process_says_why(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError):
        bench.memory(1.0)


def test_the_page_says_whether_what_was_asked_is_met():
    row = {"configuration": "default", "flow": "both", "clips": 1, "clip_s": 10.0, "by_threads": {"1": 1.0, "2": 2.0}}
    speeds = [row | {"real_time_factor": 9.99, "asked": 10.0}, row | {"real_time_factor": 10.0, "asked": 10.0}]
    machine = {"cpu": "C", "cores_usable": 2, "python": "3", "torch": "2"}
    page = bench.to_markdown({"hardware": machine, "load": [0.0, 1.0], "rounds": 3, "speeds": speeds, "memory": [], "costs": []})
    assert page.count("| 10 | no |") == 1 and page.count("| 10 | yes |") == 1
