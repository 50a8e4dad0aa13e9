"""When two runs count as the same."""

import pytest

from pipeline.errors import PipelineError
from pipeline.io import write_index, write_json
from pipeline.tools.compare_runs import compare, compare_cells


def write_run(folder, psnr=30.0, sha="a" * 64, **cells):
    rows = [{"clip": "te00", "status": "ok", "reason": "", "file": "videos/te00.mp4", "sha256": sha, "kind": "video"}]
    write_index(folder / "data" / "corpus" / "index.csv", rows, "corpus")
    table = {"psnr_db": {"value": psnr, "ci": [29.0, 31.0]}, "fid": {"value": 2.0, "ci": None}, "lse_d": {"value": None, "ci": None}}
    write_json(folder / "reports" / "evaluate" / "metrics.json", {"methods": {"full": table | cells}})


def test_cells():
    cell = {"value": 30.0, "ci": [29.0, 31.0]}
    assert compare_cells(cell, dict(cell)) == ("equal", 0.0)
    assert compare_cells(cell, cell | {"value": 30.5}) == ("agrees", 0.5)
    assert compare_cells(cell, cell | {"value": 32.0})[0] == "differs"
    assert compare_cells({"value": 1.0}, {"value": 1.05})[0] == "agrees" and compare_cells({"value": 1.0}, {"value": 1.3})[0] == "differs"
    assert compare_cells({"value": None}, {"value": None}) == ("equal", 0.0) and compare_cells({"value": None}, cell)[0] == "missing"
    assert compare_cells({"value": 0.0}, {"value": 0.0}) == ("equal", 0.0)


def test_runs(tmp_path):
    write_run(tmp_path / "one")
    write_run(tmp_path / "near", psnr=30.9)
    write_run(tmp_path / "far", psnr=33.0)
    write_run(tmp_path / "other_corpus", sha="b" * 64)
    write_run(tmp_path / "more", kid={"value": 1.0})
    assert compare(tmp_path / "one", tmp_path / "one") == (
        ["corpus: 1 clips, 0 differ", "table: 3 equal, 0 agrees, 0 differs, 0 missing"],
        True,
    )
    assert compare(tmp_path / "one", tmp_path / "near")[1]
    lines, same = compare(tmp_path / "one", tmp_path / "far")
    assert not same and "full psnr_db: 30.0 and 33.0" in lines[-1]
    lines, same = compare(tmp_path / "one", tmp_path / "other_corpus")
    assert not same and "1 differ, first te00" in lines[0]
    assert not compare(tmp_path / "one", tmp_path / "more")[1]
    with pytest.raises(PipelineError, match="no such file"):
        compare(tmp_path / "one", tmp_path / "none")
