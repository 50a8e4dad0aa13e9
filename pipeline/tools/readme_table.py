"""Put the measured result table into README.md: `python -m pipeline.tools.readme_table [--check]`.

The text between the two markers is replaced by the main columns of reports/tables/quantitative.csv, how good the judges are and which checks
fail (reports/evaluate), or, as long as no run has been recorded, by a sentence that says so. `--check` exits 1 when the README shows
something else.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.io import read_json, write_text
from pipeline.reporting.columns import BASELINE, Group, column_of, method_of
from pipeline.reporting.judges import judge_note

__all__ = ["BEGIN", "END", "checks_text", "replace_between", "table_text"]

BEGIN = "<!-- results: begin (written by python -m pipeline.tools.readme_table) -->"
END = "<!-- results: end -->"
#: Columns of the short table; the full one is reports/tables/quantitative.md.
MAIN_COLUMNS = (
    "psnr_db", "psnr_face_db", "ssim", "fid_expert", "m_lmd_centred_px", "lse_d", "lse_c", "av_offset_frames", "emotion_acc_pct",
    "blinks_per_s", "pose_over_seeds_deg", "n_scored",
)  # fmt: skip
NO_RUN = "No run of the default configuration has been recorded yet: `make all` measures the table and `reports/tables/` keeps it."
SOURCE = (
    "Measured by `make all` on the test identities of the embedded (rendered) corpus; main columns of "
    "[`reports/tables/quantitative.md`](reports/tables/quantitative.md), which adds intervals, paired differences, reasons for empty cells and the paper's own numbers."
)


def checks_text(checks: Sequence[Mapping[str, Any]]) -> str:
    """Which checks a run fails, with value and target, and which it could not measure; "" for a run without checks."""
    measured = [check for check in checks if check["pass"] is not None]
    failed = [f"`{check['name']}` is {check['value']:.4g}, the target is {check['target']}" for check in measured if not check["pass"]]
    open_ones = [f"`{check['name']}`" for check in checks if check["pass"] is None and check["value"] is None]
    if not checks:
        return ""
    text = f"{len(measured) - len(failed)} of {len(measured)} checks with a target pass."
    if failed:
        text += f" What falls short: {'; '.join(failed)}."
    return text + (f" Not measured: {', '.join(open_ones)}." if open_ones else "")


def better_text(path: Path) -> str:
    """Which generated rows and controls are better than `flowvqtalker_paired`, and in what; "" where none is or the file is absent.

    Args:
        path: reports/tables/differences.csv.
    """
    if not path.is_file():
        return ""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = [
            row for row in csv.DictReader(handle) if row["verdict"] == "better" and method_of(row["method"]).group is not Group.REFERENCE
        ]
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["method"], []).append(column_of(row["column"]).label)
    if not found:
        return ""
    words = "; ".join(f"`{method}` in {', '.join(labels)}" for method, labels in found.items())
    return f"Better than `{BASELINE}` clip by clip, with an interval that excludes 0: {words}."


def table_text(csv_path: Path, evaluate: Path | None = None) -> str:
    """Markdown for between the markers.

    Args:
        csv_path: reports/tables/quantitative.csv; it need not exist.
        evaluate: reports/evaluate of the same run, with metrics.json and checks.json; what is not there is left out.

    Raises:
        PipelineError: the file lacks one of the main columns.
    """
    if not csv_path.is_file():
        return NO_RUN
    with csv_path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    missing = [column for column in ("method", *MAIN_COLUMNS) if not rows or column not in rows[0]]
    if missing:
        raise PipelineError(f"{csv_path}: has no column {missing[0]}", "run `snakemake --cores all report` to write it again")
    labels = [f"{column_of(name).label} {column_of(name).direction.arrow}".strip() for name in MAIN_COLUMNS]
    lines = ["| method | " + " | ".join(labels) + " |", "|---|" + "---:|" * len(labels)]
    lines += [f"| `{row['method']}` | " + " | ".join(row[column] for column in MAIN_COLUMNS) + " |" for row in rows]
    notes = [SOURCE]
    if evaluate is not None and (evaluate / "metrics.json").is_file():
        notes.append(judge_note(read_json(evaluate / "metrics.json").get("judges") or {}))
    if evaluate is not None and (evaluate / "checks.json").is_file():
        notes.append(checks_text(read_json(evaluate / "checks.json")))
    notes.append(better_text(csv_path.with_name("differences.csv")))
    return "\n".join(lines) + "".join(f"\n\n{note}" for note in notes if note)


def replace_between(text: str, inner: str) -> str:
    """The document with `inner` between the markers.

    Raises:
        PipelineError: the markers are not there exactly once and in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise PipelineError("README.md: the markers of the result table are damaged", f"put these two lines back: {BEGIN} and {END}")
    return text[: text.index(BEGIN) + len(BEGIN)] + f"\n{inner}\n" + text[text.index(END) :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    args = parser.parse_args()
    readme = Path("README.md")
    try:
        before = readme.read_text(encoding="utf-8")
        after = replace_between(before, table_text(Path("reports/tables/quantitative.csv"), Path("reports/evaluate")))
    except PipelineError as error:
        sys.exit(f"error: {error}")
    if args.check:
        if before != after:
            sys.exit(
                "README.md does not show reports/tables/quantitative.csv and reports/evaluate: run `python -m pipeline.tools.readme_table`"
            )
        return
    write_text(readme, after)


if __name__ == "__main__":
    main()
