"""Writers are atomic and byte-stable; readers name what is broken."""

import errno
import os

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import ContractError, PipelineError
from pipeline.io import atomic_path, read_index, read_json, read_npz, write_index, write_json, write_npz, write_text, write_torch

ROW = {"clip": "a", "file": "clips/a.npz", "n_frames": 5, "status": "ok", "reason": ""}


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "x.txt"
    write_text(target, "old")

    def crash():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        crash()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_a_full_disk_is_a_clear_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PipelineError, match=r"table\.json: no space left"):
        write_json(tmp_path / "table.json", {"a": 1})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("compress", [False, True])
def test_npz_bytes_depend_on_the_arrays_alone(tmp_path, compress):
    arrays = {"b": np.arange(5), "a": np.ones((2, 3), np.float32)}
    write_npz(tmp_path / "1.npz", arrays, compress)
    write_npz(tmp_path / "2.npz", dict(reversed(arrays.items())), compress)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    assert set(read_npz(tmp_path / "1.npz")) == {"a", "b"}


def test_checkpoint_bytes_are_stable(tmp_path):
    import torch

    value = {"w": torch.arange(6.0).reshape(2, 3), "step": 3}
    write_torch(tmp_path / "1.pt", value)
    write_torch(tmp_path / "2.pt", value)
    assert (tmp_path / "1.pt").read_bytes() == (tmp_path / "2.pt").read_bytes()


def test_broken_files_name_themselves(tmp_path):
    (tmp_path / "x.json").write_text("{")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(PipelineError, match=r"x\.json"):
        read_json(tmp_path / "x.json")
    with pytest.raises(PipelineError, match=r"x\.npz"):
        read_npz(tmp_path / "x.npz")


def test_nan_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError, match=r"[Oo]ut of range"):
        write_json(tmp_path / "x.json", {"a": float("nan")})


def test_index_round_trip_sorts_and_checks(tmp_path):
    path = tmp_path / "index.csv"
    write_index(path, [{**ROW, "clip": "b"}, ROW], "audio")
    table = read_index(path, "audio")
    assert list(table["clip"]) == ["a", "b"]
    assert table["n_frames"].dtype == float
    assert (table["reason"] == "").all()


@pytest.mark.parametrize(
    ("change", "match"),
    [({"clip": "A b"}, "clip"), ({"status": "done"}, "status"), ({"n_frames": -1}, "n_frames")],
)
def test_a_breach_names_table_column_and_stage(tmp_path, change, match):
    with pytest.raises(ContractError, match=match):
        write_index(tmp_path / "index.csv", [{**ROW, **change}], "audio")


def test_duplicate_clips_are_refused(tmp_path):
    with pytest.raises(ContractError, match="clip"):
        write_index(tmp_path / "index.csv", [ROW, ROW], "audio")


def test_a_missing_table_says_how_to_make_it(tmp_path):
    with pytest.raises(PipelineError, match="snakemake"):
        read_index(tmp_path / "index.csv", "crop")


def test_numbers_keep_their_meaning_through_text(tmp_path):
    write_index(tmp_path / "index.csv", pd.DataFrame([{**ROW, "n_frames": None}]), "audio")
    assert read_index(tmp_path / "index.csv", "audio")["n_frames"].isna().all()
