"""Everything the report shows, read from files once: scores, checks, judges, per-clip tables, training histories, videos.

A missing file is never an error here: real-video corpora have no emotion judge, a partial configuration has no image generator, and
such a run deserves a report too. What is absent stays an empty dictionary or table, and the page says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.errors import PipelineError
from pipeline.io import ok_rows, read_index, read_json
from pipeline.reporting.columns import COLUMNS, COUNTS, FURTHER, METHODS

if TYPE_CHECKING:
    from pipeline.reporting.differences import Difference

__all__ = ["Results", "Score", "Training", "read_results"]

NOT_MEASURED = "not measured in this run"
#: Stages whose index tables are read; every other upstream but `evaluate` is a training.
_INDICES = ("crop", "fit3dmm", "generate")


@dataclass(frozen=True)
class Score:
    """One cell of the result table.

    Attributes:
        value: the number, None where the metric has no meaning or could not be computed.
        ci: 95 % bootstrap interval clustered by identity, None where it was not computed.
        n: clips (or frames, see the metric) behind the number.
        reason: why the cell is empty, or a remark on its interval; "" otherwise.
    """

    value: float | None
    ci: tuple[float, float] | None = None
    n: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Training:
    """A finished training: its name (folder below models/), learning curves, last metrics and sample grids."""

    name: str
    history: pd.DataFrame
    metrics: dict[str, float]
    grids: tuple[Path, ...]
    latents: Path | None


@dataclass(frozen=True)
class Results:
    """All inputs of a report.

    Attributes:
        scores: method -> column -> score; every declared method and column is there, the counts of clips included.
        judges, floors: what `evaluate` says about its judges and about scores that chance or another take reaches.
        checks: list of {name, value, ci, n, target, pass}.
        data_sha256: hash of the data that was scored.
        per_clip: method -> table, one row a clip.
        trainings: in the order of the stages.
        crops, fits: indices of the crops and of the fitted coefficients, empty when absent; files lie relative to `folders[<stage>]`.
        generated: method -> its rows of the index of generated clips; files lie relative to `folders["generate"]`.
        long: method -> npz with coefficients over many minutes.
        differences: of every row to `flowvqtalker_paired` (pipeline/reporting/differences.py), with intervals of coverage `interval`.
    """

    scores: dict[str, dict[str, Score]]
    judges: dict[str, Any] = field(default_factory=dict)
    floors: dict[str, Any] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    data_sha256: str = ""
    per_clip: dict[str, pd.DataFrame] = field(default_factory=dict)
    trainings: list[Training] = field(default_factory=list)
    crops: pd.DataFrame = field(default_factory=pd.DataFrame)
    fits: pd.DataFrame = field(default_factory=pd.DataFrame)
    generated: dict[str, pd.DataFrame] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    long: dict[str, Path] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    interval: float = 0.95

    @property
    def further(self) -> list[str]:
        """Metrics beside the main table that this run measured: registered ones in their order, then others by name."""
        measured = {name for row in self.scores.values() for name in row}
        registered = [column.name for column in FURTHER if column.name in measured]
        return registered + sorted(measured - set(registered) - {column.name for column in (*COLUMNS, *COUNTS)})


def read_results(reads: Mapping[str, Path]) -> Results:
    """Collects the report's inputs from the hand-over files of the stages before it.

    Args:
        reads: `evaluate` -> metrics.json (required), `generate` -> index of the generated videos, `crop` -> index of the crops,
            `fit3dmm` -> index of the fits, anything else -> a file in the folder of a training.

    Raises:
        PipelineError: metrics.json is absent or is not the document that docs/architecture.md describes.
    """
    metrics_path = Path(reads["evaluate"])
    document = _read_metrics(metrics_path)
    scores = _scores(document["methods"])
    tables = {stage: read_index(reads[stage], stage) for stage in _INDICES if stage in reads and Path(reads[stage]).is_file()}
    folders = {stage: Path(reads[stage]).parent for stage in tables}
    generated = ok_rows(tables["generate"]) if "generate" in tables else pd.DataFrame({"method": []})
    long = sorted((folders["generate"] / "long").glob("*.npz")) if "generate" in folders else []
    return Results(
        scores=scores,
        judges=document.get("judges") or {},
        floors=document.get("floors") or {},
        checks=_read_optional_json(metrics_path.with_name("checks.json"), []),
        data_sha256=str(document.get("data_sha256") or ""),
        per_clip={method: table for method in scores if not (table := _read_csv(metrics_path.with_name(f"{method}.csv"))).empty},
        trainings=_trainings(reads),
        crops=ok_rows(tables["crop"]) if "crop" in tables else pd.DataFrame(),
        fits=ok_rows(tables["fit3dmm"]) if "fit3dmm" in tables else pd.DataFrame(),
        generated={str(method): rows.reset_index(drop=True) for method, rows in generated.groupby("method", sort=True)},
        folders=folders,
        long={path.stem: path for path in long},
    )


def _read_metrics(path: Path) -> dict[str, Any]:
    hint = "Run `snakemake --cores all evaluate` first; the report only shows what the evaluation wrote."
    if not path.is_file():
        raise PipelineError(f"{path}: no results to report", hint)
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("methods"), dict):
        raise PipelineError(f"{path}: has no 'methods'", hint)
    return document


def _read_optional_json(path: Path, default: Any) -> Any:
    return read_json(path) if path.is_file() else default


def _read_csv(path: Path) -> pd.DataFrame:
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame()
    return pd.read_csv(path)


def _scores(methods: dict[str, Any]) -> dict[str, dict[str, Score]]:
    declared = [method.name for method in METHODS]
    scores: dict[str, dict[str, Score]] = {}
    for method in declared + sorted(set(methods) - set(declared)):
        cells = methods.get(method) or {}
        row = {column.name: Score(None, reason=NOT_MEASURED) for column in COLUMNS} | {column.name: Score(None) for column in COUNTS}
        row.update({name: _score(cell) for name, cell in sorted(cells.items())})
        scores[method] = row
    return scores


def _score(cell: Any) -> Score:
    if not isinstance(cell, dict):
        cell = {"value": cell}
    value = _finite(cell.get("value"))
    reason = str(cell.get("reason") or "")
    if value is None and not reason:
        reason = NOT_MEASURED if cell.get("value") is None else f"not a finite number ({cell['value']})"
    ci = cell.get("ci")
    bounds = tuple(_finite(bound) for bound in ci) if isinstance(ci, (list, tuple)) and len(ci) == 2 else (None, None)
    interval = None if value is None or bounds[0] is None or bounds[1] is None else (bounds[0], bounds[1])
    return Score(value, interval, int(cell.get("n") or 0), reason)


def _finite(value: Any) -> float | None:
    if isinstance(value, (int, float, np.floating, np.integer)) and math.isfinite(value):
        return float(value)
    return None


#: Order of the trainings on the page; anything else follows by name.
_TRAINING_ORDER = ("landmarker", "experts", "codebook", "flow", "imagegen")


def _trainings(reads: Mapping[str, Path]) -> list[Training]:
    folders = sorted({Path(path).parent for name, path in reads.items() if name not in {"evaluate", *_INDICES}})
    found = []
    for folder in folders:
        history = _read_csv(folder / "history.csv")
        if history.empty and not (folder / "metrics.json").is_file():
            continue
        metrics = {
            name: number
            for name, value in sorted(_read_optional_json(folder / "metrics.json", {}).items())
            if (number := _finite(value)) is not None
        }
        latents = folder / "latents.npz"
        found.append(
            Training(_training_name(folder), history, metrics, tuple(sorted(folder.glob("*.png"))), latents if latents.is_file() else None)
        )
    rank = {name: index for index, name in enumerate(_TRAINING_ORDER)}
    return sorted(found, key=lambda training: (rank.get(training.name.split("/")[0], len(rank)), training.name))


def _training_name(folder: Path) -> str:
    parts = folder.parts
    return "/".join(parts[len(parts) - parts[::-1].index("models") :]) if "models" in parts else folder.name
