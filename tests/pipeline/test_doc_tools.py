"""The commands that write the README's table and the figure of the stages, and what the documents promise."""

from __future__ import annotations

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
from pipeline.tools.readme_table import BEGIN, END, MAIN_COLUMNS, NO_RUN, replace_between, table_text

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

    readme, table = committed("README.md"), committed("reports/tables/quantitative.csv")
    if readme is None:
        pytest.skip("not a git checkout")
    if table is not None:
        (tmp_path / "quantitative.csv").write_text(table)
    assert replace_between(readme, table_text(tmp_path / "quantitative.csv")) == readme, "run `python -m pipeline.tools.readme_table`"


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "docs/adding_a_stage.md", "docs/outside_parts.md", "docs/responsible_use.md"]
)
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
