"""The step `corpus` through the house's harness: shards do not matter, metadata, contract, labels of sources."""

from __future__ import annotations

import copy
import json
from typing import get_args

import numpy as np
import pytest
import yaml

from flowvqtalker.constants import EMOTIONS
from pipeline import clipstage
from pipeline.adapters import ADAPTERS
from pipeline.codehash import REPOSITORY
from pipeline.context import Context
from pipeline.corpus import STAGE
from pipeline.errors import PipelineError
from pipeline.io import read_index, read_npz
from pipeline.media import probe, read_sound
from pipeline.params import validate_section
from pipeline.params.corpus import Source

TINY = {
    "train_identities": 2, "val_identities": 1, "test_identities": 2, "train_clips": 2, "val_clips": 1, "test_clips": 1, "test_takes": 2,
    "still_identities": 2, "stills_per_identity": 3, "still_val_share": 0.5, "raw_size_px": 96, "max_clip_s": 0.48,
}  # fmt: skip


def section(**changes):
    values = copy.deepcopy(yaml.safe_load((REPOSITORY / "params.yaml").read_text())["corpus"])
    values["sources"] = [
        {"name": "clay", "adapter": "synthetic", "root": "", "uses": ["codebook", "flow", "imagegen", "judges", "landmarker", "test"]}
    ]
    values["synthetic"].update(TINY)
    values.update(changes)
    return values


def build(folder, monkeypatch, shards):
    monkeypatch.setenv("FVQT_CACHE", str(folder / "cache"))
    out = folder / "data" / "corpus" / "index.csv"
    out.parent.mkdir(parents=True)
    stamp = json.dumps({"stage": "corpus", "seed": 3, "params": {}})
    ctx = Context("corpus", "", stamp, folder, out, {}, 1, {"corpus": validate_section("corpus", section())})
    tables = []
    for shard in range(shards):
        tables.append(folder / f"{shard}.csv")
        clipstage.run_shard(STAGE, ctx, shard, shards, tables[-1])
    clipstage.run_merge(ctx, tables, out)
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return build(tmp_path_factory.mktemp("one"), patch, 1)


def test_index_does_not_depend_on_the_number_of_shards(built, tmp_path, monkeypatch):
    assert build(tmp_path, monkeypatch, 3).read_bytes() == built.read_bytes()


def test_index_keeps_the_contract(built):
    table = read_index(built, "corpus")
    assert (table["status"] == "ok").all() and (table["source"] == "clay").all()
    assert dict(table["role"].value_counts()) == {"talk": 9, "enrol": 5, "stills": 2}
    for row in table.to_dict("records"):
        assert (built.parent / row["file"]).is_file()
        assert len(row["sha256"]) == 64
        if row["kind"] == "stills":
            arrays = read_npz(built.parent / row["file"])
            assert arrays["frames"].shape == (3, 96, 96, 3) and row["file"].startswith("stills/")
            assert arrays["emotion"].max() < len(EMOTIONS)
        else:
            truth = read_npz(built.parent / row["truth"])
            assert len(truth["beta"]) == row["n_frames"] and row["seconds"] == pytest.approx(row["n_frames"] / 25)
    assert len(set(table["sha256"])) == len(table)


def test_videos_have_sound_and_say_that_they_are_synthetic(built):
    row = next(row for row in read_index(built, "corpus").to_dict("records") if row["role"] == "talk" and row["split"] == "train")
    path = built.parent / row["file"]
    info = probe(path)
    sound = read_sound(path)
    assert sound is not None and np.abs(sound).max() > 0.05
    assert info.fps_hz == pytest.approx(25) and (info.width_px, info.height_px) == (96, 96)
    assert "ynthetic" in info.metadata["comment"] and "flowvqtalker" in info.metadata["comment"]


def test_a_source_may_serve_less():
    values = section(sources=[{"name": "clay", "adapter": "synthetic", "root": "", "uses": ["codebook"]}])
    ctx = Context("corpus", "", '{"seed": 3}', REPOSITORY, REPOSITORY, {}, 1, {"corpus": validate_section("corpus", values)})
    items = STAGE.items(ctx)
    assert items and {item.row["uses"] for item in items} == {"codebook"}
    assert {item.row["split"] for item in items} == {"train", "val"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": []}, "sources"),
        ({"sources": [{"name": "clips", "adapter": "folder", "root": "", "uses": ["flow"]}]}, "needs a root"),
        ({"sources": [{"name": "x", "adapter": "synthetic", "root": "", "uses": ["flow"]}] * 2}, "same name"),
        ({"sources": [{"name": "x", "adapter": "camera", "root": "", "uses": ["flow"]}]}, "adapter"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_bad_parameters_are_named(changes, message):
    with pytest.raises(PipelineError, match=message):
        validate_section("corpus", section(**changes))


def test_every_adapter_of_the_parameters_is_registered():
    assert set(ADAPTERS) == set(get_args(Source.model_fields["adapter"].annotation))
    assert all(callable(load().make_items) and callable(load().process) for load in ADAPTERS.values())
