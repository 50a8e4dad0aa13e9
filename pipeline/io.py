"""Files between stages: atomic, byte-stable, checked.

Every writer makes a temporary file in the target's folder and moves it into place, so a reader never sees half a file and a
full disk never leaves one behind. Writing the same content twice gives the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import PipelineError


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Temporary path beside ``target`` that replaces it when the block ends well; removed otherwise.

    Raises:
        PipelineError: no space left on the device, naming the file.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem[:40]}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise PipelineError(
                f"{target}: no space left while writing", "free space on this disk and run again; finished work is kept"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write bytes atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically, with line feeds as line ends."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON with sorted keys and a final newline; NaN is refused (use null)."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_to_plain) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a broken one names itself."""
    try:
        return json.loads(Path(path).read_text())
    except json.JSONDecodeError as error:
        raise PipelineError(f"{path}: not valid JSON ({error})", "delete the file and run the stage that writes it again") from error


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def write_npz(path: Path | str, arrays: Mapping[str, np.ndarray], compress: bool = False) -> None:
    """Write arrays as npz, sorted by name (the zip stores a fixed time, so the bytes depend on the arrays alone).

    Compression is the fastest one: pictures get 4 % larger than by NumPy's own default, in half the time.
    """
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind, compresslevel=1) as archive:
        for name in sorted(arrays):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(arrays[name]), allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def read_npz(path: Path | str) -> dict[str, np.ndarray]:
    """All arrays of an npz file, closed afterwards; a damaged file names itself."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise
    except Exception as error:
        raise PipelineError(f"{path}: not a readable npz file ({error})", "delete it and run the stage that writes it again") from error


def write_torch(path: Path | str, value: Any) -> None:
    """Write a checkpoint of tensors and plain values; readable with ``weights_only=True``."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_bytes(path, buffer.getvalue())


def read_torch(path: Path | str) -> Any:
    """Read a checkpoint on the CPU without running code from it."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise PipelineError(
            f"{path}: no such model file", "run the stage that trains it, for example `snakemake --cores all all`"
        ) from error
    except Exception as error:
        raise PipelineError(f"{path}: not a readable checkpoint ({error})", "delete it and train again") from error


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes as hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def text_sha256(*parts: str) -> str:
    """SHA-256 of several texts, separated so that ("ab", "c") differs from ("a", "bc")."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def write_index(path: Path | str, rows: list[dict[str, Any]] | pd.DataFrame, stage: str) -> pd.DataFrame:
    """Check a stage's table against its contract, sort it by clip and write it as CSV, atomically."""
    from pipeline.contracts import check_table

    table = check_table(pd.DataFrame(rows), stage, str(path))
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    return table


def read_index(path: Path | str, stage: str) -> pd.DataFrame:
    """Read and check a stage's table; missing text is the empty string.

    Raises:
        PipelineError: the table is not there. ContractError: it breaks its contract.
    """
    from pipeline.contracts import check_table

    path = Path(path)
    if not path.exists():
        raise PipelineError(f"{path}: the table of stage '{stage}' is missing", f"run `snakemake --cores all {path}`")
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values={}, dtype=str)
    except pd.errors.EmptyDataError as error:
        raise PipelineError(f"{path}: empty table", f"delete it and run stage '{stage}' again") from error
    return check_table(table, stage, str(path))


def ok_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows whose status is ok, re-numbered."""
    return table[table["status"] == "ok"].reset_index(drop=True)
