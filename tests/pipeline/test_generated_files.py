"""Files that are generated equal what the generator says now."""

from pathlib import Path

import yaml

from pipeline.dvcfile import dvc_dict, dvc_text
from pipeline.params import merge, read_config
from pipeline.stages import STAGES

REPOSITORY = Path(__file__).resolve().parents[2]


def test_dvc_yaml_is_in_sync():
    text = dvc_text(read_config(REPOSITORY / "params.yaml"))
    assert (REPOSITORY / "dvc.yaml").read_text() == text, "run `make generate` and commit dvc.yaml"


def test_every_dependency_in_dvc_yaml_exists_or_is_made():
    stages = dvc_dict(read_config(REPOSITORY / "params.yaml"))["stages"]
    assert list(stages) == list(STAGES)
    for name, stage in stages.items():
        for path in stage["deps"]:
            assert (REPOSITORY / path).exists() or path.startswith(("data/", "models/", "reports/evaluate")), f"{name}: {path}"


def test_another_configuration_lives_in_its_own_folder():
    config = merge(read_config(REPOSITORY / "params.yaml"), {"name": "other"})
    stages = dvc_dict(config)["stages"]
    assert all(stage["wdir"] == "../.." for stage in stages.values())
    assert stages["crop"]["outs"] == ["runs/other/data/crop"]
    assert "runs/other/data/corpus" in stages["crop"]["deps"]
    assert "--configfile runs/other/params.yaml" in stages["crop"]["cmd"]
    assert "runs/other/params.yaml" in stages["crop"]["params"][0]


def test_a_new_variant_touches_no_other_variant():
    config = read_config(REPOSITORY / "params.yaml")
    before = dvc_dict(config)["stages"]["flow"]
    config["flow"]["variants"] = {**config["flow"]["variants"], "gmm": {"prior": "gmm"}}
    after = dvc_dict(config)["stages"]["flow"]
    assert set(after["matrix"]["variant"]) - set(before["matrix"]["variant"]) == {"gmm"}
    assert after["params"] == before["params"]
    assert "flow.variants" not in after["params"], "the whole list as a parameter would retrain every variant"


def test_snakefile_declares_the_rules_of_the_registry():
    text = "".join((REPOSITORY / f"pipeline/{name}.smk").read_text() for name in STAGES)
    declared = {line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith("rule ")}
    assert declared == {rule for stage in STAGES.values() for rule in stage.rules}
    for name in STAGES:
        rules = (REPOSITORY / f"pipeline/{name}.smk").read_text().split("\nrule ")
        assert all("log:" in rule and "stamp=stamp(" in rule for rule in rules if "shell:" in rule)


def test_params_yaml_holds_no_machine_values():
    config = yaml.safe_load((REPOSITORY / "params.yaml").read_text())

    def keys(value, prefix=""):
        for key, inner in value.items():
            yield f"{prefix}{key}"
            if isinstance(inner, dict):
                yield from keys(inner, f"{prefix}{key}.")

    machine = {"threads", "workers", "device", "shards", "cores", "num_workers", "batch_workers"}
    assert not [key for key in keys(config) if key.rsplit(".", 1)[-1] in machine]
