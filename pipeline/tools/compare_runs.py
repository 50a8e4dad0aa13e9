"""Do two runs of one configuration tell the same? ``python -m pipeline.tools.compare_runs OTHER [--root .]``.

OTHER and ``--root`` are folders of runs (a second clone, or ``runs/<name>``). What is not trained must be equal: every file of the corpus by its
checksum. What is trained repeats exactly at a fixed number of threads on one kind of processor, and nearly so elsewhere, since sums are rounded
in another order: a number of the table agrees when it differs by no more than half of its own interval, or by ``SHARE`` where it has none.
Exits with 1 when anything disagrees.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.context import guarded
from pipeline.errors import PipelineError
from pipeline.io import read_index, read_json

#: Relative difference that a number without an interval may have.
SHARE = 0.1
#: Differences below this are nothing, whatever the interval: a value may be 0 and its interval empty.
LEAST = 1e-9


def allowance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Largest difference of two cells of the table that still counts as agreement."""
    widths = [(cell["ci"][1] - cell["ci"][0]) / 2 for cell in (one, other) if cell.get("ci")]
    largest = max(abs(one["value"]), abs(other["value"]))
    return max(LEAST, max(widths) if widths else SHARE * largest)


def compare_cells(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, float]:
    """How two cells ({value, ci, ...}) agree: "equal", "agrees", "differs" or "missing", and their difference over the allowance."""
    left, right = one.get("value"), other.get("value")
    if left is None and right is None:
        return "equal", 0.0
    if left is None or right is None:
        return "missing", math.inf
    if left == right or (math.isnan(left) and math.isnan(right)):
        return "equal", 0.0
    share = abs(left - right) / allowance(one, other)
    return ("agrees" if share <= 1 else "differs"), share


def corpus_checksums(root: Path) -> dict[str, str]:
    """Checksum of every file of a run's corpus, by clip."""
    table = read_index(root / "data" / "corpus" / "index.csv", "corpus")
    return {str(row["clip"]): str(row["sha256"]) for row in table.to_dict("records")}


def compare(root: Path, other: Path) -> tuple[list[str], bool]:
    """Lines to print, and whether the runs agree.

    Raises:
        PipelineError: a run has no table, or no corpus.
    """
    files = [folder / "reports" / "evaluate" / "metrics.json" for folder in (root, other)]
    for path in [*files, *(folder / "data" / "corpus" / "index.csv" for folder in (root, other))]:
        if not path.exists():
            raise PipelineError(f"{path}: there is no such file", "name the folder of a finished run")
    ours, theirs = (corpus_checksums(folder) for folder in (root, other))
    changed = sorted(clip for clip in ours.keys() | theirs.keys() if ours.get(clip) != theirs.get(clip))
    lines = [f"corpus: {len(ours)} clips, {len(changed)} differ" + (f", first {changed[0]}" if changed else "")]
    left, right = (read_json(path)["methods"] for path in files)
    counts = {"equal": 0, "agrees": 0, "differs": 0, "missing": 0}
    worst = []
    for method in sorted(left.keys() | right.keys()):
        for column in sorted(left.get(method, {}).keys() | right.get(method, {}).keys()):
            cells = left.get(method, {}).get(column, {}), right.get(method, {}).get(column, {})
            verdict, share = compare_cells(*cells)
            counts[verdict] += 1
            if share > 0:
                worst.append(
                    (
                        share,
                        f"{verdict}: {method} {column}: {cells[0].get('value')} and {cells[1].get('value')}, {share:.2f} of what is allowed",
                    )
                )
    lines.append("table: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    lines += [line for _, line in sorted(worst, reverse=True)[:10]]
    return lines, not changed and not counts["differs"] and not counts["missing"]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other run")
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of this run")
    args = parser.parse_args()

    def action() -> None:
        lines, agree = compare(args.root, args.other)
        print("\n".join(lines))
        if not agree:
            raise SystemExit(1)

    guarded(action)


if __name__ == "__main__":
    main()
