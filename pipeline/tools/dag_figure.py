"""Draw the graph of stages from the registry: `python -m pipeline.tools.dag_figure [--check]` writes docs/figures/dag.{svg,png}.

An arrow means "reads". An arrow that a longer path already implies is left out, else the report alone would draw nine.
`--check` compares the drawing's content with the committed svg and exits 1 when stages.py has moved on.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.io import write_bytes
from pipeline.stages import STAGES, Stage

__all__ = ["layers", "reduced_edges", "render"]

TARGET = Path("docs/figures/dag")
#: What one job of each kind of stage is, and its colour.
KINDS = {
    "clips": ("per clip, in shards", "#d9efec", "#0f766e"),
    "training": ("training", "#fde8d8", "#c2410c"),
    "methods": ("per method", "#e7e5fb", "#5b4bc4"),
    "plain": ("one job", "#eceef0", "#4b5563"),
}


def layers(reads: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Column of each stage: the longest path from a stage that reads nothing.

    Example:
        >>> layers({"a": [], "b": ["a"], "c": ["a", "b"]})
        {'a': 0, 'b': 1, 'c': 2}
    """
    depth: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((of(upstream) for upstream in reads[name]), default=-1)
        return depth[name]

    return {name: of(name) for name in reads}


def reduced_edges(reads: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Edges (upstream, stage) that no longer path implies (transitive reduction), in the order of the registry.

    Example:
        >>> reduced_edges({"a": [], "b": ["a"], "c": ["a", "b"]})
        [('a', 'b'), ('b', 'c')]
    """
    above: dict[str, set[str]] = {}

    def of(name: str) -> set[str]:
        if name not in above:
            above[name] = set(reads[name]).union(*(of(upstream) for upstream in reads[name]))
        return above[name]

    return [
        (upstream, name)
        for name, upstreams in reads.items()
        for upstream in upstreams
        if not any(upstream in of(other) for other in upstreams if other != upstream)
    ]


def _rows(reads: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Height of each stage inside its column: near the mean height of what it reads, evenly spaced."""
    depth = layers(reads)
    height: dict[str, float] = {}
    for column in range(max(depth.values()) + 1):
        names = [name for name in reads if depth[name] == column]
        wish = {name: sum(height[upstream] for upstream in reads[name]) / max(len(reads[name]), 1) for name in names}
        order = sorted(names, key=lambda name: (-wish[name], list(reads).index(name)))
        for position, name in enumerate(order):
            height[name] = (len(order) - 1) / 2 - position
    return height


def render(stages: Mapping[str, Stage] = STAGES) -> dict[str, bytes]:
    """The figure as `svg` and `png` bytes; equal registries give equal bytes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
    from matplotlib.path import Path as MplPath

    reads = {name: [upstream for upstream in stage.reads if upstream in stages] for name, stage in stages.items()}
    column, row = layers(reads), _rows(reads)
    x = {name: 2.05 * column[name] for name in reads}
    y = {name: 1.0 * row[name] for name in reads}
    width, height = 1.5, 0.62
    style: dict[Any, Any] = {"font.family": "DejaVu Sans", "svg.fonttype": "none", "svg.hashsalt": "flowvqtalker"}
    with mpl.rc_context(style):
        figure, axis = plt.subplots(figsize=(1.08 * (max(x.values()) + 2), 1.05 * (max(y.values()) - min(y.values()) + 1.9)))
        for upstream, name in reduced_edges(reads):
            start, end = (x[upstream] + width / 2 + 0.03, y[upstream]), (x[name] - width / 2 - 0.03, y[name])
            between = [other for other in reads if column[upstream] < column[other] < column[name]]
            lane = start[1]
            while any(abs(y[other] - lane) < height for other in between):  # a long arrow keeps clear of the boxes that it passes
                lane += 0.25
            corners = [(max(x[other] for other in between) + width / 2, lane)] if between else []
            path = MplPath([start, *corners, end])
            axis.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=9, color="#6b7280", lw=1.0, zorder=1))
        for name, stage in stages.items():
            _, face, edge = KINDS[stage.kind]
            axis.add_patch(
                FancyBboxPatch(
                    (x[name] - width / 2, y[name] - height / 2), width, height, boxstyle="round,pad=0.0,rounding_size=0.09",
                    facecolor=face, edgecolor=edge, lw=1.3, zorder=2,
                )
            )  # fmt: skip
            axis.text(x[name], y[name] + 0.08, name, ha="center", va="center", fontsize=10.5, color="#111827", zorder=3)
            under = "one model per variant" if stage.fan else stage.folder + "/"
            axis.text(x[name], y[name] - 0.17, under, ha="center", va="center", fontsize=6.3, color="#4b5563", zorder=3)
        handles = [Patch(facecolor=face, edgecolor=edge, label=label) for label, face, edge in KINDS.values()]
        axis.legend(handles=handles, loc="lower left", ncols=4, fontsize=7.5, frameon=False, bbox_to_anchor=(0.0, -0.02))
        axis.set_xlim(-0.9, max(x.values()) + 0.9)
        axis.set_ylim(min(y.values()) - 1.0, max(y.values()) + 0.55)
        axis.set_aspect("equal")
        axis.axis("off")
        files = {}
        for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150, bbox_inches="tight", facecolor="white", metadata=metadata)
            files[kind] = buffer.getvalue()
        plt.close(figure)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="compare with the committed figure instead of writing it")
    args = parser.parse_args()
    files = render()
    if args.check:
        path = TARGET.with_suffix(".svg")
        if not path.is_file() or path.read_bytes() != files["svg"]:
            sys.exit(f"{path} does not show pipeline/stages.py as it is: run `python -m pipeline.tools.dag_figure`")
        return
    for kind, content in files.items():
        write_bytes(TARGET.with_suffix(f".{kind}"), content)


if __name__ == "__main__":
    main()
