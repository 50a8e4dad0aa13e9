"""Put the measured result table into README.md: `python -m pipeline.tools.readme_table [--check]`.

The text between the two markers is replaced by the main columns of reports/tables/quantitative.csv, or, as long as no run has been
recorded, by a sentence that says so. `--check` exits 1 when the README shows something else.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.io import write_text
from pipeline.reporting.columns import column_of

__all__ = ["BEGIN", "END", "replace_between", "table_text"]

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
    "[`reports/tables/quantitative.md`](reports/tables/quantitative.md), which adds intervals, reasons for empty cells and the paper's own numbers."
)


def table_text(csv_path: Path) -> str:
    """Markdown for between the markers.

    Args:
        csv_path: reports/tables/quantitative.csv; it need not exist.

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
    return "\n".join([*lines, "", SOURCE])


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
        after = replace_between(before, table_text(Path("reports/tables/quantitative.csv")))
    except PipelineError as error:
        sys.exit(f"error: {error}")
    if args.check:
        if before != after:
            sys.exit("README.md does not show reports/tables/quantitative.csv: run `python -m pipeline.tools.readme_table`")
        return
    write_text(readme, after)


if __name__ == "__main__":
    main()
