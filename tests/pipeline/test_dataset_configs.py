"""configs/mead.yaml, hdtf.yaml and paper.yaml on generated trees: the DAG holds together, and their corpus section reads the trees; the cost page is current."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dataset_trees as trees
import pytest
import yaml

from pipeline import clipstage, corpus
from pipeline.context import Context
from pipeline.io import read_index
from pipeline.params import read_config, validate

REPOSITORY = Path(__file__).resolve().parents[2]
SPLITS = {"mead": {"train", "val", "test"}, "hdtf": {"train", "val", "test"}, "ffhq": {"train", "val"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    video = trees.make_video(folder / "tiny.mp4", n_frames=30)
    trees.mead_tree(folder / "MEAD", video, ("M003", "M005", "M007", "W011"))
    trees.hdtf_tree(folder / "HDTF", video)
    trees.ffhq_tree(folder / "FFHQ")
    return folder


def overlay_of(name, data, folder):
    """A second overlay, as a user writes it: the same sources, with the folders where they lie here."""
    config = read_config(REPOSITORY / "params.yaml", REPOSITORY / "configs" / f"{name}.yaml")
    sources = [source | {"root": str(data / Path(source["root"]).name)} for source in config["corpus"]["sources"]]
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": f"treetest_{name}", "corpus": {"sources": sources}}))
    return path


@pytest.mark.parametrize("name", ["mead", "hdtf", "paper"])
def test_dry_run_on_a_generated_tree(name, data, tmp_path):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}",
    }  # fmt: skip
    files = [f"configs/{name}.yaml", str(overlay_of(name, data, tmp_path))]
    command = ["snakemake", "--dry-run", "--cores", "1", "--quiet", "host", "--configfile", *files, "--", "all"]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        outputs = [
            part.strip()
            for line in done.stdout.splitlines()
            if line.strip().startswith("output:")
            for part in line.split(":", 1)[1].split(",")
        ]
        assert f"runs/treetest_{name}/reports/index.html" in outputs and all(part.startswith(f"runs/treetest_{name}/") for part in outputs)
    finally:
        shutil.rmtree(REPOSITORY / "runs" / f"treetest_{name}", ignore_errors=True)


@pytest.mark.parametrize("name", ["mead", "hdtf", "paper"])
def test_the_corpus_of_the_configuration_reads_the_tree(name, data, tmp_path, monkeypatch):
    monkeypatch.setenv("FVQT_CACHE", str(tmp_path / "cache"))
    params = validate(read_config(REPOSITORY / "params.yaml", REPOSITORY / "configs" / f"{name}.yaml", overlay_of(name, data, tmp_path)))
    out = tmp_path / "data" / "corpus" / "index.csv"
    out.parent.mkdir(parents=True)
    ctx = Context(
        "corpus", "", json.dumps({"stage": "corpus", "seed": 1, "params": {}}), tmp_path, out, {}, 1, {"corpus": params["corpus"]}
    )
    clipstage.run_shard(corpus.STAGE, ctx, 0, 1, tmp_path / "0.csv")
    clipstage.run_merge(ctx, [tmp_path / "0.csv"], out)
    table = read_index(out, "corpus")
    assert (table["status"] == "ok").all()
    for source in params["corpus"].sources:
        rows = table[table["source"] == source.name]
        wanted = SPLITS[source.adapter] - (set() if "test" in source.uses else {"test"})
        assert set(rows["split"]) == wanted, source.name
        assert all(set(uses.split("+")) <= set(source.uses) for uses in rows["uses"])


def test_the_page_of_costs_shows_what_the_configuration_says_now():
    import torch

    from pipeline.tools import scale_cost

    torch.manual_seed(0)
    text = (REPOSITORY / scale_cost.PAGE).read_text()
    made = scale_cost.report(validate(read_config(REPOSITORY / "params.yaml", REPOSITORY / "configs" / "paper.yaml")))
    assert text == scale_cost.page(text, made), "run `python -m pipeline.tools.scale_cost` and commit docs/paper_scale.md"
    assert text.count(scale_cost.BEGIN) == text.count(scale_cost.END) == 1
    codebook = next(line for line in made.splitlines() if line.startswith("| codebook |"))
    assert "1,600,000" in codebook


def test_a_linear_layer_costs_two_operations_a_product():
    import torch

    from pipeline.tools import scale_cost

    assert scale_cost.count(torch.nn.Linear(30, 50, bias=False), torch.rand(4, 30)) == 2 * 4 * 30 * 50


def test_one_root_does_not_serve_several_sources(tmp_path):
    from pipeline.cli import clips
    from pipeline.errors import PipelineError

    with pytest.raises(PipelineError, match=r"several folders \(ffhq, mead, hdtf\)"):
        clips.run(tmp_path, "corpus", "1", str(REPOSITORY / "configs" / "paper.yaml"))
