"""Contract of every index table: columns, types, ranges. Reader and writer both check, so a bad table stops where it is made.

Text columns use the empty string for "not known"; optional numbers may be empty (NaN). Every clip table has
``clip, status, reason`` and is sorted by clip with unique ids.
"""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

from flowvqtalker.constants import EMOTIONS
from pipeline.errors import ContractError

CLIP_PATTERN = r"^[a-z0-9_]+$"
STATUSES = ("ok", "rejected", "failed")
SPLITS = ("train", "val", "test")
USES = ("codebook", "flow", "imagegen", "judges", "landmarker", "test")


def _text(**kwargs) -> pa.Column:
    return pa.Column(str, coerce=True, **kwargs)


def _choice(*values: str) -> pa.Column:
    return pa.Column(str, pa.Check.isin(list(values)), coerce=True)


def _count(nullable: bool = True) -> pa.Column:
    return pa.Column(float, pa.Check.ge(0), nullable=nullable, coerce=True)


def _number(low: float | None = None, high: float | None = None) -> pa.Column:
    checks = ([pa.Check.ge(low)] if low is not None else []) + ([pa.Check.le(high)] if high is not None else [])
    return pa.Column(float, checks, nullable=True, coerce=True)


_BASE = {
    "clip": pa.Column(str, pa.Check.str_matches(CLIP_PATTERN), unique=True, coerce=True),
    "status": _choice(*STATUSES),
    "reason": _text(),
}
_LABELS = {
    "kind": _choice("video", "stills", ""),
    "identity": _text(),
    "emotion": _choice("", *EMOTIONS),
    "level": _number(0, 3),
    "sentence": _text(),
    "take": _number(0),
    "split": _choice(*SPLITS, ""),
    "uses": _text(),
    "role": _choice("talk", "enrol", "stills", ""),
}

SCHEMAS: dict[str, pa.DataFrameSchema] = {
    "corpus": pa.DataFrameSchema(
        {
            **_BASE,
            **_LABELS,
            "source": _text(),
            "file": _text(),
            "sidecar": _text(),
            "truth": _text(),
            "n_frames": _count(),
            "fps_hz": _number(0),
            "seconds": _number(0),
        }
    ),
    "crop": pa.DataFrameSchema(
        {
            **_BASE,
            **_LABELS,
            "source_clip": _text(),
            "video": _text(),
            "sound": _text(),
            "landmarks": _text(),
            "n_frames": _count(),
            "start_frame": _count(),
            "size_px": _count(),
            "face_share": _number(0, 1),
            "audio_status": _choice("ok", "none", "silent", ""),
        }
    ),
    "fit3dmm": pa.DataFrameSchema(
        {**_BASE, "file": _text(), "n_frames": _count(), "landmark_error_pct": _number(0), "at_bound_share": _number(0, 1)}
    ),
    "audio": pa.DataFrameSchema({**_BASE, "file": _text(), "n_frames": _count()}),
    "generate": pa.DataFrameSchema(
        {
            **{name: column for name, column in _BASE.items() if name != "clip"},
            "clip": pa.Column(str, pa.Check.str_matches(CLIP_PATTERN), coerce=True),
            "method": _text(),
            "protocol": _text(),
            "seed": _number(),
            "video": _text(),
            "coefficients": _text(),
            "n_frames": _count(),
        },
        unique=["method", "clip"],
    ),
}


def check_table(table: pd.DataFrame, stage: str, where: str) -> pd.DataFrame:
    """Typed, sorted copy of a stage's table; extra columns are kept as text.

    Args:
        table: rows as read or made.
        stage: name of the contract.
        where: file named in the message.

    Raises:
        ContractError: every breach at once, with column, row and the stage to run again.
    """
    schema = SCHEMAS[stage]
    table = table.copy()
    if table.empty:
        table = pd.DataFrame({name: pd.Series(dtype=object) for name in schema.columns})
    for name, column in schema.columns.items():
        if name not in table and name not in _BASE:
            table[name] = "" if str(column.dtype).startswith("str") else float("nan")
    for name in table.columns:
        column = schema.columns.get(name)
        if column is not None and str(column.dtype).startswith("float"):
            table[name] = pd.to_numeric(table[name].replace("", float("nan")), errors="coerce")
        elif column is not None or table[name].dtype == object:
            table[name] = (
                table[name]
                .map(lambda value: "" if value is None or (isinstance(value, float) and value != value) else str(value))
                .astype(object)
            )
    try:
        table = schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases[["column", "check", "failure_case", "index"]].head(8).to_string(index=False)
        raise ContractError(
            f"{where}: the table of stage '{stage}' breaks its contract:\n{cases}",
            f"run stage '{stage}' again; if it persists, its code is wrong",
        ) from error
    keys = ["method", "clip"] if "method" in schema.columns else ["clip"]
    return table.sort_values(keys, kind="stable").reset_index(drop=True)
