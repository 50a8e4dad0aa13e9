"""The benchmark of the image generator: what it renders, how it splits the time, and its files, at a size that takes seconds."""

import itertools
import json
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import render as bench
from flowvqtalker.image import vqig as vqig_module
from flowvqtalker.image.vqig import Motion, make_windows
from pipeline.errors import PipelineError

SIZE, FRAMES = 32, 5
CASE = bench.Case("default", bench.FULL, SIZE, 2, FRAMES)


@pytest.fixture
def tiny(monkeypatch):
    """A generator of width 16 in place of the configurations'."""
    codebook, vqig = bench.shape("default")
    codebook = replace(codebook, width=16, codes=32, dim=8)
    vqig = replace(vqig, descriptor_dim=16, warp_width=16, width=16, heads=2, layers=2, ratio_px=16, mouth_px=16)
    monkeypatch.setattr(bench, "shape", lambda configuration: (codebook, vqig))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(bench.torch, "set_num_threads", lambda count: None)  # two threads of a busy machine wait for each other
    yield
    monkeypatch.undo()
    torch.set_num_threads(threads)


def clip():
    return bench.clay_clip(SIZE, 53, FRAMES)


def frames_of(vqig, source=None):
    shown = clip()
    return vqig.render_clip(source or bench.prepared(vqig, shown, "fp32"), shown.beta, shown.pose, batch_size=2, precision="fp32")


def test_shapes_are_those_of_the_parameters():
    (codebook, vqig), (paper_codebook, paper) = bench.shape("default"), bench.shape("paper-size")
    assert (codebook.codes, codebook.downsample, vqig.width, vqig.expression_dim, vqig.ratio_px) == (1024, 4, 96, 53, 80)
    assert (paper_codebook.dim, paper.width, paper.layers, paper.expression_dim, paper.ratio_px) == (256, 512, 9, 64, 0)


def test_a_stopwatch_charges_the_innermost_call():
    ticks = iter([0.0, 1.0, 3.0, 7.0])  # outer opens, inner opens, inner closes, outer closes
    watch = bench.Stopwatch(lambda: next(ticks))
    inner = watch.around("inner", lambda: 5)
    assert watch.around("outer", lambda: inner() + 1)() == 6
    assert watch.seconds == {"outer": 1.0 + 4.0, "inner": 2.0}


def test_the_parts_cover_the_frame_and_change_nothing(tiny):
    vqig = bench.random_generator("default", bench.FULL, clip())
    source, ticks = bench.prepared(vqig, clip(), "fp32"), itertools.count()
    plain = frames_of(vqig, source)
    with bench.watched(vqig, lambda: float(next(ticks))) as watch:
        assert torch.equal(frames_of(vqig, source), plain)
    assert set(watch.seconds) == {name for _, _, name in bench.part_calls(vqig)}
    # every tick between the first call's start and the last one's end is charged to exactly one part
    assert sum(watch.seconds.values()) == next(ticks) - 1
    assert not any("forward" in module.__dict__ for module in vqig.modules()) and "render" not in vqig.__dict__
    assert vqig_module.warp_image.__name__ == "warp_image" and not hasattr(vqig_module.warp_image, "__wrapped__")


def test_the_frames_move_and_a_variant_is_what_its_name_says(tiny):
    shown = clip()
    full, no_codebook, warp = (bench.random_generator("default", name, shown) for name in (bench.FULL, bench.NO_CODEBOOK, bench.WARP))
    made = frames_of(full)
    assert made.shape == (FRAMES, SIZE, SIZE, 3) and not torch.equal(made[0], made[-1])
    assert not torch.equal(frames_of(no_codebook), made)
    windows = make_windows(torch.cat([shown.beta, shown.pose], 1), full.config.window)
    motion = Motion(
        windows, windows[:1, full.config.window].expand(FRAMES, -1), bench.prepared(full, shown, "fp32").points.expand(FRAMES, -1, -1)
    )
    with torch.inference_mode():
        warped = full.warp_source(shown.image.expand(FRAMES, -1, -1, -1), motion)[2]
    assert (frames_of(warp).float() / 255 - warped.permute(0, 2, 3, 1).clamp(0, 1)).abs().max() < 1.5 / 255
    counted = [bench.parameters_of(vqig, name) for vqig, name in ((warp, bench.WARP), (no_codebook, bench.NO_CODEBOOK), (full, bench.FULL))]
    assert counted[0] < counted[1] and counted[2] - counted[1] == full.codebook.quantizer.embedding.numel()


def test_threads_take_turns_and_the_least_time_counts(monkeypatch):
    order, wall, cpu = [], iter([0.0, 4.0, 0.0, 3.0, 0.0, 2.0, 0.0, 5.0]), iter([0.0, 1.0, 0.0, 2.0, 0.0, 6.0, 0.0, 1.5])
    monkeypatch.setattr(bench.torch, "set_num_threads", order.append)
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(bench.time, "process_time", lambda: next(cpu))
    assert bench.fastest(lambda: None, 2, (1, 2)) == ({"1": 2.0, "2": 3.0}, {"1": 1.0, "2": 1.5})
    assert order == [1, 2, 1, 2]


ROW = {
    "model": "other", "size_px": SIZE, "batch": 4, "precision": "fp32", "frames": 8, "parameters": 2_000_000,
    "by_threads": {"1": 4.0, "2": 2.0}, "cpu_by_threads": {"1": 3.9, "2": 4.2},
}  # fmt: skip
PEER = {"source": "owner/name at 123abc", "how": "Its whole generator.", "load": [0.5, 1.0], "rows": [ROW]}


def test_the_faster_threads_count():
    row = bench.speed_row("peer", "cpu", ROW, None)
    assert (row.threads, row.frames_per_s, row.configuration, row.model) == (2, 4.0, "peer", "other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        (json.dumps({k: v for k, v in PEER.items() if k != "how"}), "'how'"),
        (json.dumps(PEER | {"rows": [ROW, {k: v for k, v in ROW.items() if k not in ("frames", "batch")}]}), "row 1 has no batch, frames"),
    ],
)
def test_a_peer_that_lacks_something_is_refused(tmp_path, text, said):
    path = tmp_path / "peer.json"
    path.write_text(text)
    with pytest.raises(PipelineError, match=said):
        bench.read_peer(path)
    with pytest.raises(PipelineError, match=r"none\.json"):
        bench.read_peer(tmp_path / "none.json")


def test_the_command_writes_its_files(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "CASES", (CASE, replace(CASE, model=bench.WARP, rounds=1)))
    monkeypatch.setattr(bench, "PARTS_OF", CASE)
    monkeypatch.setattr(bench, "ASKED", {("default", bench.FULL, SIZE, 2): 1e9})
    monkeypatch.setattr(bench, "precisions", lambda: ("fp32",))
    for name, value in {"MEMORY_OF": ((SIZE, 2),), "MEMORY_FRAMES": 4, "ENCODED_PX": (SIZE,), "ENCODED_FRAMES": 6}.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "memory", bench.memory_here)
    monkeypatch.setattr(bench.torch.cuda, "is_available", lambda: False)
    peer = tmp_path / "peer.json"
    peer.write_text(json.dumps(PEER))
    monkeypatch.setattr(sys, "argv", ["benchmarks.render", "--rounds", "2", "--out", str(tmp_path), "--peer", str(peer)])
    bench.main()
    results, page = json.loads((tmp_path / "render.json").read_text()), (tmp_path / "render.md").read_text()
    assert [row["model"] for row in results["speeds"]] == [bench.FULL, bench.WARP, "other"]
    assert all(row["frames_per_s"] > 0 for row in results["speeds"])
    assert [row["asked"] for row in results["speeds"]] == [1e9, None, None] and "| 1e+09 | no |" in page
    assert [row["threads"] for row in results["parts"]] == [1, 2]
    assert all(min(row["ms"].values()) > 0 and row["source_ms"] > 0 for row in results["parts"])
    (held,) = results["memory"]
    assert held["peak_mb"] >= held["before_mb"] and held["output_mb"] == 4 * SIZE * SIZE * 3 / 2**20
    assert results["encoder"][0]["kb_per_s"] > 0
    assert results["hardware"]["cpu"] in page and "load before" in page and str(tmp_path) not in page
    assert (
        "owner/name at 123abc" in page
        and "| peer | other | cpu | fp32 | 2.00 | 32 | 4 | 500.0 | 487.5 | 250.0 | 4.00 | 2.05 |" in page
        and "Not measured: bf16" in page
    )
    assert page in capsys.readouterr().out


def test_a_failed_process_says_why(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError):
        bench.memory(SIZE, 1, "fp32")


def test_the_page_says_whether_what_was_asked_is_met():
    made = [bench.speed_row("default", "cpu", ROW | {"by_threads": {"1": seconds}}, 25.0) for seconds in (8 / 24.9, 8 / 25.0)]
    lines = bench._speed_lines([vars(row) for row in made])
    assert lines[-2].endswith("| 25 | no |") and lines[-1].endswith("| 25 | yes |")
