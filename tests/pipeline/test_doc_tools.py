"""The commands that write the README's table and the figure of the stages, and what the documents promise."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.errors import PipelineError
from pipeline.stages import STAGES
from pipeline.tools import dag_figure
from pipeline.tools.dag_figure import layers, reduced_edges, render
from pipeline.tools.readme_table import BEGIN, END, MAIN_COLUMNS, NO_RUN, checks_text, replace_between, table_text

REPOSITORY = Path(__file__).resolve().parents[2]


def _reads() -> dict[str, list[str]]:
    return {name: list(stage.reads) for name, stage in STAGES.items()}


def test_reduction_keeps_every_path_and_no_shortcut() -> None:
    reads = _reads()
    edges = reduced_edges(reads)

    def reachable(name: str) -> set[str]:
        direct = {upstream for upstream, stage in edges if stage == name}
        return direct.union(*(reachable(upstream) for upstream in direct))

    for name, upstreams in reads.items():
        assert set(upstreams) <= reachable(name)
    for edge in edges:
        others = [other for other in edges if other != edge]
        direct = {upstream for upstream, stage in others if stage == edge[1]}
        assert edge[0] not in set().union(*(reachable(upstream) for upstream in direct))


def test_every_arrow_points_right() -> None:
    depth = layers(_reads())
    assert all(depth[upstream] < depth[name] for upstream, name in reduced_edges(_reads()))


def test_committed_figure_shows_the_registry() -> None:
    files = render()
    assert files == render()
    svg = files["svg"].decode()
    assert all(f">{name}<" in svg for name in STAGES)
    committed = REPOSITORY / dag_figure.TARGET.with_suffix(".svg")
    assert committed.read_bytes() == files["svg"], "run `python -m pipeline.tools.dag_figure`"


def test_table_text_follows_the_csv(tmp_path: Path) -> None:
    path = tmp_path / "quantitative.csv"
    assert table_text(path) == NO_RUN
    path.write_text("method," + ",".join(MAIN_COLUMNS) + "\nground_truth,," + ",".join("7" for _ in MAIN_COLUMNS[1:]) + "\n")
    lines = table_text(path).splitlines()
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert lines[2].startswith("| `ground_truth` |  | 7 |")
    path.write_text("method,psnr_db\nground_truth,1\n")
    with pytest.raises(PipelineError, match="psnr_face_db"):
        table_text(path)


def test_only_the_text_between_the_markers_changes() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replace_between(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert replace_between(replace_between(text, "new"), "new") == replace_between(text, "new")
    for broken in ("no markers", f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"):
        with pytest.raises(PipelineError, match="markers"):
            replace_between(broken, "new")


def test_committed_readme_shows_the_committed_table(tmp_path: Path) -> None:
    """What is committed counts: a run in this checkout measures its own numbers, and does not make the README wrong."""

    def committed(path: str) -> str | None:
        done = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None

    readme = committed("README.md")
    if readme is None:
        pytest.skip("not a git checkout")
    for path in (
        "reports/tables/quantitative.csv",
        "reports/tables/differences.csv",
        "reports/evaluate/metrics.json",
        "reports/evaluate/checks.json",
    ):
        if (text := committed(path)) is not None:
            (tmp_path / Path(path).name).write_text(text)
    shown = table_text(tmp_path / "quantitative.csv", tmp_path)
    assert replace_between(readme, shown) == readme, "run `python -m pipeline.tools.readme_table`"


def test_the_readme_names_what_falls_short_and_how_good_the_judges_are(tmp_path: Path) -> None:
    (tmp_path / "quantitative.csv").write_text("method," + ",".join(MAIN_COLUMNS) + "\nground_truth" + ",7" * len(MAIN_COLUMNS) + "\n")
    assert "checks" not in table_text(tmp_path / "quantitative.csv", tmp_path)
    own_test = {"test_emotion_clip_acc_pct": 72.5, "test_emotion_clips": 40.0}
    (tmp_path / "metrics.json").write_text(json.dumps({"judges": {"sha256": {"emotion": "ab"}, "own_test": own_test}}))
    check = {"ci": None, "n": 40, "reason": ""}
    checks = [
        {"name": "good", "value": 1.0, "target": "> 0", "pass": True, **check},
        {"name": "emotion_judge_on_all_test_clips_pct", "value": 72.5, "target": ">= 85", "pass": False, **check},
        {"name": "printed", "value": 3.0, "target": "printed", "pass": None, **check},
        {"name": "absent", "value": None, "target": "> 0", "pass": None, **check},
    ]
    (tmp_path / "checks.json").write_text(json.dumps(checks))
    text = table_text(tmp_path / "quantitative.csv", tmp_path)
    assert "1 of 2 checks with a target pass. What falls short: `emotion_judge_on_all_test_clips_pct` is 72.5, the target is >= 85." in text
    assert "Not measured: `absent`." in text
    assert "Emotion judge: 72.5 % of 40 clips named rightly; the aim of 85 % is missed." in text
    assert "falls short" not in checks_text([checks[0]])
    assert "clip by clip" not in text
    head = "method,column,n,n_identities,difference,ci_low,ci_high,verdict\n"
    rows = "ground_truth,psnr_db,9,9,1,1,1,better\nregression,psnr_db,9,9,1,1,1,better\nregression,ssim,9,9,1,1,1,better\nregression,lse_d,9,9,1,1,1,worse\n"
    (tmp_path / "differences.csv").write_text(head + rows)
    better = table_text(tmp_path / "quantitative.csv", tmp_path).splitlines()[-1]
    assert better == "Better than `flowvqtalker_paired` clip by clip, with an interval that excludes 0: `regression` in PSNR [dB], SSIM."


DOCUMENTS = (
    "README.md", "CONTRIBUTING.md", "docs/adding_a_stage.md", "docs/outside_parts.md", "docs/responsible_use.md", "docs/experiments.md",
    "docs/evaluate.md", "docs/metrics.md",
)  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_only_what_exists(document: str) -> None:
    path = REPOSITORY / document
    text = path.read_text()
    targets = set(re.findall(r"^([a-z0-9]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    used = set(re.findall(r"(?:`|^|\|\s|&& )make ([a-z0-9]+)", text, flags=re.MULTILINE))
    assert used <= targets, used - targets
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        if not link.startswith("reports/"):
            assert (path.parent / link).exists(), link
    for module in re.findall(r"python -m ([a-z0-9_.]+)", text):
        assert (REPOSITORY / module.replace(".", "/")).with_suffix(".py").is_file(), module
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for section, key in re.findall(r"`([a-z0-9]+)\.([a-z_]+)(?:`|: )", text):
        module = (
            REPOSITORY / "src/flowvqtalker/metrics" / f"{section}.py"
        )  # docs/metrics.md names functions, by modules that may be called like a section
        if (
            section in params
            and key not in ("py", "smk", "md", "pt", "csv", "npz")
            and not (module.is_file() and key in module.read_text())
        ):
            assert key in params[section], f"{section}.{key}"


def test_each_document_is_one_that_the_check_can_find_fault_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("`evaluate.cpbd_every_third`", "[x](nowhere.md)", "`make nothing`", "`python -m pipeline.tools.nothing`"):
        (tmp_path / "wrong.md").write_text(wrong)
        for name in ("Makefile", "params.yaml"):
            (tmp_path / name).write_text((REPOSITORY / name).read_text())
        monkeypatch.setitem(globals(), "REPOSITORY", tmp_path)
        with pytest.raises(AssertionError):
            test_documents_name_only_what_exists("wrong.md")
        monkeypatch.undo()


def test_citation_is_valid_yaml_and_names_the_paper() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == "MIT"
    assert citation["references"][0]["year"] == 2024
    assert "MIT License" in (REPOSITORY / "LICENSE").read_text()


def test_sweeps_delay_the_sound_by_whole_frames() -> None:
    from pipeline.tools.metric_sweeps import shifted

    sound = np.arange(1, 640 * 4 + 1, dtype=np.float32)
    late, early = shifted(sound, 1), shifted(sound, -2)
    assert late.shape == early.shape == sound.shape
    assert not late[:640].any()
    assert np.array_equal(late[640:], sound[:-640])
    assert np.array_equal(early[:1280], sound[1280:])
    assert not early[1280:].any()
    assert np.array_equal(shifted(sound, 0), sound)
