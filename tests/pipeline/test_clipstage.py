"""The clip harness: cache, failures as rows, interrupts, merge."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.clipstage import ClipError, ClipStage, Item, run_merge, run_shard
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import read_index


class Cfg:
    max_failed_share = 0.5


def context(tmp_path: Path, stamp: str = '{"seed": 1}') -> Context:
    ctx = Context("audio", "", stamp, tmp_path, tmp_path / "data/audio/index.csv", {}, 1, {})
    ctx.params["audio"] = Cfg()  # type: ignore[assignment]
    return ctx


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVQT_CACHE", str(tmp_path / "cache"))


def make_stage(calls: list, fail: tuple = (), clips: tuple = ("a", "b", "c", "d")) -> ClipStage:
    def process(item, loaded, ctx, folder):
        calls.append(item.clip)
        if item.clip in fail:
            raise fail_with
        (folder / f"{item.clip}.npz").write_bytes(item.clip.encode())
        return [{"clip": item.clip, "file": f"{item.clip}.npz", "n_frames": 1}]

    fail_with = ClipError("no sound", rejected=True)
    return ClipStage("audio", lambda ctx: [Item(clip, ("1",)) for clip in clips], lambda ctx: None, process)


def run(stage, ctx, shards=2):
    tables = [ctx.root / f"{shard}.csv" for shard in range(shards)]
    for shard, table in enumerate(tables):
        run_shard(stage, ctx, shard, shards, table)
    run_merge(ctx, tables, ctx.out)
    return read_index(ctx.out, "audio")


def test_shards_do_not_change_the_result_and_nothing_is_made_twice(tmp_path):
    calls: list = []
    ctx = context(tmp_path)
    first = run(make_stage(calls), ctx, shards=2)
    text = ctx.out.read_text()
    assert sorted(calls) == ["a", "b", "c", "d"]
    run(make_stage(calls), ctx, shards=3)
    assert len(calls) == 4
    assert ctx.out.read_text() == text
    assert [(ctx.out.parent / name).read_text() for name in first["file"]] == ["a", "b", "c", "d"]


def test_other_parameters_never_meet_the_old_cache(tmp_path):
    calls: list = []
    run(make_stage(calls), context(tmp_path))
    run(make_stage(calls), context(tmp_path, '{"seed": 2}'))
    assert len(calls) == 8


def test_a_bad_clip_is_a_row_with_status_and_reason(tmp_path):
    table = run(make_stage([], fail=("b",)), context(tmp_path)).set_index("clip")
    assert table.loc["b", "status"] == "rejected"
    assert table.loc["b", "reason"] == "no sound"
    assert (table.drop("b")["status"] == "ok").all()


def test_an_unexpected_error_in_one_clip_is_a_row_too(tmp_path):
    def process(item, loaded, ctx, folder):
        if item.clip == "b":
            raise ValueError("singular matrix")
        return [{"clip": item.clip}]

    stage = ClipStage("audio", lambda ctx: [Item("a"), Item("b")], lambda ctx: None, process)
    table = run(stage, context(tmp_path)).set_index("clip")
    assert table.loc["b", "status"] == "failed"
    assert "singular matrix" in table.loc["b", "reason"]


def test_too_many_failures_stop_the_stage_without_an_index(tmp_path):
    ctx = context(tmp_path)
    with pytest.raises(PipelineError, match="3 of 4"):
        run(make_stage([], fail=("a", "b", "c")), ctx)
    assert not ctx.out.exists()


def test_an_interrupt_keeps_finished_clips(tmp_path):
    ctx, calls = context(tmp_path), []
    stage = make_stage(calls)

    def interrupted(item, loaded, ctx, folder):
        if item.clip == "c":
            raise KeyboardInterrupt
        return stage.process(item, loaded, ctx, folder)

    with pytest.raises(KeyboardInterrupt):
        run_shard(ClipStage("audio", stage.items, stage.setup, interrupted), ctx, 0, 1, tmp_path / "0.csv")
    assert not (tmp_path / "0.csv").exists()
    assert calls == ["a", "b"]
    run(stage, ctx)
    assert calls == ["a", "b", "c", "d"]


def test_a_clip_that_vanished_leaves_no_file(tmp_path):
    ctx = context(tmp_path)
    run(make_stage([]), ctx)
    run(make_stage([], clips=("a", "b")), ctx)
    assert sorted(path.name for path in (ctx.out.parent / "clips").iterdir()) == ["a.npz", "b.npz"]


def test_the_same_id_twice_is_refused(tmp_path):
    stage = make_stage([])
    double = ClipStage("audio", lambda ctx: [Item("a", ("1",)), Item("x", ("2",))], stage.setup, lambda item, *_: [{"clip": "a"}])
    with pytest.raises(PipelineError, match="'a' is made twice"):
        run(double, context(tmp_path))


def test_a_full_disk_stops_the_stage(tmp_path):
    def process(item, loaded, ctx, folder):
        raise PipelineError("x.npz: no space left while writing", "free space")

    stage = ClipStage("audio", lambda ctx: [Item("a")], lambda ctx: None, process)
    with pytest.raises(PipelineError, match="no space left"):
        run_shard(stage, context(tmp_path), 0, 1, tmp_path / "0.csv")


_KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]
import test_clipstage as t
ctx = t.context(Path({root!r}))

def process(item, loaded, ctx, folder):
    if item.clip == "c":
        Path({root!r}, "working").write_text("c")
        time.sleep(60)
    (folder / f"{{item.clip}}.npz").write_bytes(item.clip.encode())
    return [{{"clip": item.clip, "file": f"{{item.clip}}.npz", "n_frames": 1}}]

items = lambda ctx: [t.Item(clip, ("1",)) for clip in "abcd"]
t.run_shard(t.ClipStage("audio", items, lambda ctx: None, process), ctx, 0, 1, Path({root!r}, "0.csv"))
"""


def test_a_killed_worker_keeps_what_is_done_and_a_clip_that_kills_is_left_out(tmp_path):
    """SIGKILL, as by the kernel when memory is short; the second death on the same clip makes it a row, and the others go on."""
    repository = Path(__file__).resolve().parents[2]
    code = _KILLED.format(tests=str(Path(__file__).parent), root=str(tmp_path))
    path = f"{repository / 'src'}:{repository}"
    for _ in range(2):
        worker = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, cwd=repository, stderr=subprocess.PIPE
        )
        until = time.monotonic() + 400
        while not (tmp_path / "working").exists() and time.monotonic() < until:
            time.sleep(0.05)
        (tmp_path / "working").unlink()
        worker.kill()
        worker.wait()
        assert not (tmp_path / "0.csv").exists()
    calls: list = []
    table = run(make_stage(calls), context(tmp_path), shards=1)
    assert calls == ["d"], "a and b were kept, c is not tried a third time"
    row = table.set_index("clip").loc["c"]
    assert row["status"] == "failed" and "died 2 times" in row["reason"]
    note = Path(row["reason"].rsplit(" ", 1)[1])
    note.unlink()
    assert run(make_stage(calls), context(tmp_path), shards=1)["status"].tolist() == ["ok"] * 4


def test_a_python_error_or_an_interrupt_is_no_death(tmp_path):
    ctx = context(tmp_path)
    run(make_stage([], fail=("b",)), ctx)
    assert not list(tmp_path.rglob("*.deaths"))


def test_a_finished_step_does_not_wait_for_exit_handlers(tmp_path):
    code = (
        "import sys, types, atexit, time; sys.modules['mediapipe'] = types.ModuleType('mediapipe');"
        "atexit.register(lambda: time.sleep(30)); from pipeline.context import leave; print('done'); leave()"
    )
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=25, cwd=repository,
        env={**os.environ, "PYTHONPATH": f"{repository / 'src'}:{repository}"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done\n")
