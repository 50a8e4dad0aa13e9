"""The flat headline numbers of a run, and that DVC shows them and nothing else as metrics."""

import json

import pandas as pd

from pipeline.context import Context
from pipeline.dvcfile import dvc_dict
from pipeline.io import write_json, write_text
from pipeline.params import read_config, validate
from pipeline.report import run
from pipeline.reporting.columns import METHODS
from pipeline.reporting.results import Results, Score, Training
from pipeline.reporting.summary import HEADLINES, headline_numbers


def training(name: str, bits: float) -> Training:
    metrics = {"expflow_held_out_bits_per_dim": bits, "expflow_parameters": 9.0}
    return Training(name, pd.DataFrame(), metrics, (), None)


def test_numbers_are_those_of_the_table_and_of_the_chosen_flow():
    scores = {
        "flowvqtalker_paired": {"lse_d": Score(7.5, (7.0, 8.0), 48), "psnr_face_db": Score(None, reason="no face")},
        "ground_truth": {"lse_d": Score(6.25)},
    }
    checks = [{"name": "a", "pass": True}, {"name": "b", "pass": False}, {"name": "c", "pass": None}]
    results = Results(scores, trainings=[training("flow/other", 9.0), training("flow/full", -2.5)], checks=checks)
    assert headline_numbers(results, "full") == {"expflow_bits": -2.5, "paired_lse_d": 7.5, "real_lse_d": 6.25, "checks_failed": 1.0}
    assert headline_numbers(Results({}), "") == {}


def test_headlines_are_few_and_of_known_rows():
    rows = {method.name for method in METHODS}
    assert {row for row, _ in HEADLINES.values()} <= rows <= set(read_config("params.yaml")["generate"]["methods"])
    assert len(HEADLINES) <= 15


def test_the_report_leaves_them_flat_beside_its_page(tmp_path):
    cell = {"value": 6.5, "ci": [6.0, 7.0], "n": 48, "reason": ""}
    write_json(tmp_path / "reports/evaluate/metrics.json", {"methods": {"flowvqtalker_paired": {"lse_d": cell}}})
    write_json(tmp_path / "models/flow/gmm/metrics.json", {"expflow_held_out_bits_per_dim": 0.75})
    write_text(tmp_path / "models/flow/gmm/history.csv", "step,split,name,value\n0,train,loss,1.0\n1,train,loss,0.5\n")
    write_json(tmp_path / "models/flow/gmm/index.json", {})
    config = read_config("params.yaml")
    sections = validate({**config, "flow": {**config["flow"], "variants": {"gmm": {"prior": "gmm"}, "regression": {"model": "regression"}}}, "generate": {**config["generate"], "flow_variant": "gmm"}})  # fmt: skip
    reads = {"evaluate": tmp_path / "reports/evaluate/metrics.json", "flow_gmm": tmp_path / "models/flow/gmm/index.json"}
    stamp = json.dumps({"stage": "report", "variant": "", "name": "default", "seed": 7, "params": {}, "code": "0"})
    params = {name: sections[name] for name in ("report", "generate", "evaluate")}
    run(Context("report", "", stamp, tmp_path, tmp_path / "reports/index.html", reads, 1, params))
    assert json.loads((tmp_path / "reports/summary.json").read_text()) == {"expflow_bits": 0.75, "paired_lse_d": 6.5}


def test_the_summary_is_the_one_metrics_file_of_dvc():
    stages = dvc_dict(read_config("params.yaml"))["stages"]
    assert {name: list(stage["metrics"][0]) for name, stage in stages.items() if "metrics" in stage} == {"report": ["reports/summary.json"]}
    assert {"reports/evaluate/metrics.json": {"cache": False}} in stages["evaluate"]["outs"]
    assert "reports/evaluate/metrics.json" in stages["report"]["deps"]
