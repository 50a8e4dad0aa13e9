"""MLflow shows what the files say, once, and never stops a stage."""

import json
import logging

import pytest

from pipeline import tracking
from pipeline.context import Context
from pipeline.io import write_json, write_text


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.setenv("FVQT_TRACK", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(tracking, "repository_root", lambda: tmp_path)
    out = tmp_path / "models/codebook/index.json"
    write_json(out, {"stage": "codebook", "files": {}})
    write_json(out.parent / "metrics.json", {"psnr_db": 26.5, "note": "text", "bad": None})
    write_text(out.parent / "history.csv", "step,split,name,value\n1,train,loss,0.5\n2,train,loss,0.25\n")
    stamp = {
        "stage": "codebook",
        "variant": "",
        "name": "default",
        "seed": 1,
        "code": "abc",
        "params": {"codebook": {"lr": 0.1, "deep": {"n": 3}}},
    }
    return Context("codebook", "", json.dumps(stamp), tmp_path, out, {}, 1, {})


def test_a_training_becomes_one_run_however_often_it_is_projected(trained, tmp_path):
    import mlflow

    tracking.project_training(trained)
    tracking.project_training(trained)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("codebook")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1
    run = runs[0]
    assert run.data.params == {"seed": "1", "codebook.lr": "0.1", "codebook.deep.n": "3"}
    assert run.data.metrics["psnr_db"] == 26.5
    assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "train/loss")] == [(1, 0.5), (2, 0.25)]
    assert run.data.tags["code"] == "abc"
    assert run.info.status == "FINISHED"
    assert client.get_registered_model("codebook").name == "codebook"


def test_every_parameter_arrives_however_many_there_are(trained, tmp_path):
    import mlflow

    many = {f"p{number:03d}": number for number in range(249)}
    stamp = {**trained.stamp, "params": {"codebook": many}}
    tracking.project_training(Context("codebook", "", json.dumps(stamp), tmp_path, trained.out, {}, 1, {}))
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.search_runs([client.get_experiment_by_name("codebook").experiment_id])[0]
    assert run.data.params == {"seed": "1"} | {f"codebook.{name}": str(value) for name, value in many.items()}
    assert len(run.data.params) == 250
    assert run.info.status == "FINISHED"


def test_a_failing_tracker_is_said_and_does_not_raise(trained, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///relative.db")
    with caplog.at_level(logging.WARNING):
        tracking.project_training(trained)
    assert "make track" in caplog.text


def test_off_means_off(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("FVQT_TRACK", "0")
    tracking.project_training(trained)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_replicate_is_a_tag_of_its_training(trained, tmp_path):
    import mlflow

    stamp = {
        **trained.stamp,
        "stage": "flow",
        "variant": "gmm_r1",
        "name": "ablation_flow",
        "params": {"flow": {"prior": "gmm", "replicate": 1}},
    }
    out = tmp_path / "runs/ablation_flow/models/flow/gmm_r1/index.json"
    write_json(out, {"stage": "flow", "files": {}})
    ctx = Context("flow", "gmm_r1", json.dumps(stamp), tmp_path / "runs/ablation_flow", out, {}, 1, {})
    tracking.project_training(ctx)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("flow")
    found = client.search_runs([experiment.experiment_id], filter_string="tags.variant LIKE 'gmm%' and tags.replicate = '1'")
    assert [run.data.tags["configuration"] for run in found] == ["ablation_flow"]
    version = client.search_model_versions("name = 'flow-gmm_r1'")[0]
    assert version.source.endswith("runs/ablation_flow/models/flow/gmm_r1")


def test_rows_of_variants_are_runs_that_compare_by_filter(trained, tmp_path):
    import mlflow

    root = tmp_path / "runs/ablation_flow"
    for variant, replicate in (("gmm", 0), ("gmm_r1", 1)):
        write_json(root / f".stamps/flow.{variant}.json", {"stage": "flow", "params": {"flow": {"prior": "gmm", "replicate": replicate}}})
    out = root / "reports/evaluate/metrics.json"
    cells = {
        f"clay_paired{name}": {"lse_d": {"value": value}, "ssim": {"value": None}}
        for name, value in (("__gmm", 0.5), ("__gmm_r1", 0.6), ("", 0.7))
    }
    write_json(out, {"methods": cells})
    stamp = {**trained.stamp, "stage": "evaluate", "name": "ablation_flow", "params": {"evaluate": {"interval": 0.95}}}
    ctx = Context("evaluate", "", json.dumps(stamp), root, out, {}, 1, {})
    for _ in range(2):
        tracking.project_evaluation(ctx)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("evaluate")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 3  # the evaluation as a whole, and each row of a variant
    found = client.search_runs(
        [experiment.experiment_id], filter_string="tags.variant LIKE 'gmm%' and metrics.lse_d > 0.55 and params.`flow.prior` = 'gmm'"
    )
    assert [(run.info.run_name, run.data.tags["replicate"], run.data.metrics) for run in found] == [
        ("clay_paired__gmm_r1", "1", {"lse_d": 0.6})
    ]
