"""Print the result table for a terminal: ``python -m pipeline.tools.show_table [reports/tables/quantitative.csv]``."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd


def table_text(path: Path) -> str:
    """The table turned on its side (metrics as rows, methods as columns), which fits a terminal."""
    table = pd.read_csv(path, index_col="method").T
    return table.map(lambda value: "" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else str(value)).to_string()


if __name__ == "__main__":
    print(table_text(Path(sys.argv[1] if len(sys.argv) > 1 else "reports/tables/quantitative.csv")))
