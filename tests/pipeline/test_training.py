"""The training harness: published once, resumed after a crash, never stale."""

from pathlib import Path

import pytest

from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.flow import PhaseHooks, conditioner_folder
from pipeline.io import read_json
from pipeline.params import validate_section
from pipeline.stages import stamp_json
from pipeline.training import TrainingFolder, train_and_publish


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVQT_CACHE", str(tmp_path / "cache"))


def context(tmp_path: Path, stamp: str = '{"seed": 1}') -> Context:
    return Context("codebook", "", stamp, tmp_path, tmp_path / "models/codebook/index.json", {}, 1, {})


def test_a_finished_training_is_never_repeated(tmp_path):
    calls = []

    def run(ctx, folder):
        calls.append(1)
        folder.log_history(1, "train", {"loss": 0.5})
        folder.publish({"model.pt": {"step": 3}, "metrics.json": {"a": 1.0}})

    ctx = context(tmp_path)
    train_and_publish(run, ctx)
    files = {path.name: path.read_bytes() for path in ctx.out.parent.iterdir()}
    assert set(files) == {"model.pt", "metrics.json", "history.csv", "index.json"}
    for path in ctx.out.parent.iterdir():
        path.unlink()
    train_and_publish(run, ctx)
    assert {path.name: path.read_bytes() for path in ctx.out.parent.iterdir()} == files
    assert len(calls) == 1
    train_and_publish(run, context(tmp_path, '{"seed": 2}'))
    assert len(calls) == 2


def test_a_crash_keeps_the_checkpoint_and_history(tmp_path):
    seen = []

    def run(ctx, folder):
        state = folder.load_checkpoint("loop")
        seen.append(state)
        if state is None:
            folder.log_history(1, "train", {"loss": 0.5})
            folder.save_checkpoint("loop", {"step": 7})
            raise RuntimeError("killed")
        folder.log_history(2, "train", {"loss": 0.25})
        folder.publish({"model.pt": state})

    ctx = context(tmp_path)
    with pytest.raises(RuntimeError, match="killed"):
        train_and_publish(run, ctx)
    assert not ctx.out.exists()
    train_and_publish(run, ctx)
    assert seen == [None, {"step": 7}]
    assert (ctx.out.parent / "history.csv").read_text().splitlines() == ["step,split,name,value", "1,train,loss,0.5", "2,train,loss,0.25"]
    assert read_json(ctx.out)["files"].keys() == {"model.pt", "history.csv"}


def test_a_damaged_result_is_dropped_and_said(tmp_path):
    def run(ctx, folder):
        folder.publish({"model.pt": {"step": 3}})

    ctx = context(tmp_path)
    train_and_publish(run, ctx)
    stored = next((tmp_path / "cache/train").glob("*/result/model.pt"))
    stored.unlink()
    stored.write_bytes(b"damaged")
    with pytest.raises(PipelineError, match="damaged"):
        train_and_publish(run, ctx)
    train_and_publish(run, ctx)
    assert ctx.out.exists()


def test_a_step_that_publishes_nothing_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="without publishing"):
        train_and_publish(lambda ctx, folder: None, context(tmp_path))


def test_a_run_of_another_name_finds_the_training_finished(tmp_path):
    calls = []

    def run(ctx, folder):
        calls.append(1)
        folder.publish({"model.pt": {"step": 3}})

    for name in ("default", "ablation"):
        stamp = {"stage": "codebook", "variant": "", "name": name, "seed": 1, "params": {}, "code": "abc"}
        ctx = Context("codebook", "", stamp_json(stamp), tmp_path, tmp_path / name / "index.json", {}, 1, {})
        train_and_publish(run, ctx)
        assert (ctx.out.parent / "model.pt").exists()
    assert len(calls) == 1


def flow_context(tmp_path: Path, **changes) -> Context:
    import yaml

    values = {**yaml.safe_load(Path("params.yaml").read_text())["flow"], **changes}
    params = {"flow": validate_section("flow", values)}
    return Context("flow", "full", '{"seed": 1, "code": "abc"}', tmp_path, tmp_path / "models/flow/full/index.json", {}, 1, params)


def test_variants_with_the_same_conditioner_find_it_trained(tmp_path):
    """The second variant resumes from the first one's finished conditioner and shows its curve; own phases stay apart."""
    shared = conditioner_folder(flow_context(tmp_path))
    assert shared == conditioner_folder(flow_context(tmp_path, model="regression", prior="gaussian", width=128))
    assert shared != conditioner_folder(flow_context(tmp_path, window=16))
    again = conditioner_folder(flow_context(tmp_path, replicate=1))
    assert again not in (shared, conditioner_folder(flow_context(tmp_path, replicate=2)))
    assert again == conditioner_folder(flow_context(tmp_path, replicate=1, prior="gmm", history_dropout=0.0, coupling="lstm"))
    assert shared != conditioner_folder(flow_context(tmp_path, corrupted_share=0.05))
    first, second = TrainingFolder(tmp_path / "first"), TrainingFolder(tmp_path / "second")
    hooks = PhaseHooks(first, shared)
    loop = hooks("conditioner_0")
    assert loop["resume"] is None
    loop["log"](5, "train", {"loss": 0.5})
    loop["save"]({"step": 5})
    own = hooks("expression")
    own["save"]({"step": 9})
    again = PhaseHooks(second, shared)
    assert again("conditioner_0")["resume"] == {"step": 5}
    assert again("expression")["resume"] is None
    second.write_history()
    assert (tmp_path / "second/history.csv").read_text().splitlines()[1:] == ["5,conditioner_0_train,loss,0.5"]


def test_one_variant_at_a_time_trains_the_conditioners(tmp_path):
    """A second variant waits while the first one holds the conditioners; it gets them when the first goes on to its own phase."""
    import threading

    shared = conditioner_folder(flow_context(tmp_path))
    first, got = PhaseHooks(TrainingFolder(tmp_path / "first"), shared), threading.Event()
    first("conditioner_0")

    def second() -> None:
        PhaseHooks(TrainingFolder(tmp_path / "second"), shared)("conditioner_0")
        got.set()

    waiting = threading.Thread(target=second)
    waiting.start()
    assert not got.wait(0.3)
    first("expression")
    assert got.wait(10)
    waiting.join()
