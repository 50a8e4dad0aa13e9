"""MLflow as a projection of the files in models/ and reports/: rebuildable at any time, source of nothing.

Runs are keyed by the hash of parameters, code and inputs, so projecting twice changes nothing. The database lives at the
repository's root also when a step runs in a temporary DVC experiment folder. ``FVQT_TRACK=0`` switches tracking off; a failing
tracker is reported in the log and never stops a stage, since the files stay and ``make track`` projects them again.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io import read_json, text_sha256

if TYPE_CHECKING:
    from pipeline.context import Context

#: Most parameters that MLflow takes in one call; more are refused as a whole.
PARAMS_A_CALL = 100
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_\-. /]")


def repository_root() -> Path:
    """Root of the checkout that owns the database: the one above .dvc/tmp when a DVC experiment runs in a copy."""
    here = Path.cwd()
    for parent in (here, *here.parents):
        if parent.name == "tmp" and parent.parent.name == ".dvc":
            return parent.parent.parent
    try:
        top = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        return Path(top)
    except (subprocess.SubprocessError, FileNotFoundError):
        return here


def is_on() -> bool:
    """Whether steps project their results."""
    return os.environ.get("FVQT_TRACK", "1") != "0"


def connect() -> Any:
    """The mlflow module, pointed at an absolute URI whose schema exists. Call it under the lock."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    import mlflow

    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{repository_root() / 'mlflow.db'}"
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        raise ValueError(
            f"MLFLOW_TRACKING_URI={uri} is relative: runs of DVC experiments would be lost; use sqlite:////absolute/path/mlflow.db"
        )
    mlflow.set_tracking_uri(uri)
    return mlflow


def _lock_path() -> Path:
    return repository_root() / ".cache" / "mlflow.lock"


def _flatten(prefix: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict) and value:
        return {
            key: text for name, inner in value.items() for key, text in _flatten(f"{prefix}.{name}" if prefix else str(name), inner).items()
        }
    return {prefix: str(value)[:5999]}


def _metric_name(name: str) -> str:
    return _NOT_ALLOWED.sub("_", name)


def _finite(values: dict[str, Any]) -> dict[str, float]:
    return {_metric_name(key): float(value) for key, value in values.items() if isinstance(value, int | float) and math.isfinite(value)}


def _read_history(path: Path) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = defaultdict(dict)
    if path.exists():
        with open(path, newline="") as handle:
            for row in csv.DictReader(handle):
                steps[int(row["step"])][_metric_name(f"{row['split']}/{row['name']}")] = float(row["value"])
    return steps


def _project(
    experiment: str,
    run_name: str,
    stamp: dict[str, Any],
    fingerprint: str,
    metrics: dict[str, float],
    history: Path,
    artifacts: list[Path],
    tables: dict[str, Any],
) -> None:
    from pipeline.clipstage import locked

    with locked(_lock_path()):
        mlflow = connect()
        from mlflow.entities import Metric, Param, RunTag

        client = mlflow.MlflowClient()
        found = client.get_experiment_by_name(experiment)
        root = repository_root()
        experiment_id = (
            found.experiment_id
            if found
            else client.create_experiment(experiment, artifact_location=(root / "mlartifacts" / experiment).as_uri())
        )
        if client.search_runs([experiment_id], filter_string=f"tags.fingerprint = '{fingerprint}'", max_results=1):
            return
        run = client.create_run(experiment_id, run_name=run_name)
        tags = {
            "stage": stamp["stage"],
            "variant": stamp["variant"],
            "fingerprint": fingerprint,
            "configuration": stamp["name"],
            "code": stamp["code"],
        }
        tags |= {name: value for name, value in (("row", stamp.get("row")), ("replicate", _replicate(stamp))) if value is not None}
        tags |= {
            f"dvc_{name.lower()}": os.environ[variable]
            for name, variable in (("exp", "DVC_EXP_NAME"), ("baseline", "DVC_EXP_BASELINE_REV"))
            if os.environ.get(variable)
        }
        params = {"seed": str(stamp["seed"]), **_flatten("", stamp["params"])}
        client.log_batch(run.info.run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])
        entries = [Param(key, value) for key, value in params.items()]
        for start in range(0, len(entries), PARAMS_A_CALL):
            client.log_batch(run.info.run_id, params=entries[start : start + PARAMS_A_CALL])
        client.log_dict(run.info.run_id, stamp["params"], "params.json")
        points = [
            Metric(name, value, 0, step)
            for step, values in sorted(_read_history(history).items())
            for name, value in values.items()
            if math.isfinite(value)
        ]
        points += [Metric(name, value, 0, 0) for name, value in metrics.items()]
        for start in range(0, len(points), 1000):
            client.log_batch(run.info.run_id, metrics=points[start : start + 1000])
        for path in artifacts:
            client.log_artifact(run.info.run_id, str(path), "videos" if path.suffix == ".mp4" else "")
        for name, table in tables.items():
            client.log_table(run.info.run_id, table, name)
        if stamp["stage"] in ("flow", "imagegen", "codebook"):
            _register(client, stamp, run.info.run_id, fingerprint)
        client.set_terminated(run.info.run_id)


def _replicate(stamp: dict[str, Any]) -> int | None:
    """Number of the training among those of its variant; None for a stage that has no replicates."""
    return stamp["replicate"] if "replicate" in stamp else stamp["params"].get(stamp["stage"], {}).get("replicate")


def _register(client: Any, stamp: dict[str, Any], run_id: str, fingerprint: str) -> None:
    """A version of the registered model; its source is the DVC-tracked folder, no second copy of the weights."""
    from mlflow.exceptions import MlflowException

    from pipeline.stages import run_root

    name = "-".join(filter(None, (stamp["stage"], stamp["variant"])))
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = (repository_root() / run_root(stamp) / "models" / stamp["stage"] / stamp["variant"]).as_uri()
    client.create_model_version(name, source=source, run_id=run_id, tags={"fingerprint": fingerprint})


def project_training(ctx: Context) -> None:
    """Show a finished training: parameters, curves, final numbers, grids."""
    if not is_on():
        return
    folder = ctx.out.parent
    metrics = read_json(folder / "metrics.json") if (folder / "metrics.json").exists() else {}
    fingerprint = text_sha256(ctx.stamp_text, ctx.out.read_text())[:24]
    name = "-".join(filter(None, (ctx.variant or ctx.stage, os.environ.get("DVC_EXP_NAME", ""), fingerprint[:8])))
    artifacts = [*sorted(folder.glob("*.png")), *sorted(folder.glob("*.json"))]
    _attempt(ctx, ctx.stage, name, fingerprint, _finite(metrics), folder / "history.csv", artifacts, {})


def project_evaluation(ctx: Context) -> None:
    """Show an evaluation: pooled metrics by method, checks, per-clip tables, example videos, figures."""
    if not is_on():
        return
    import pandas as pd

    folder = ctx.out.parent
    methods = read_json(ctx.out)["methods"]
    metrics = {
        f"{method}/{column}": cell["value"]
        for method, cells in methods.items()
        for column, cell in cells.items()
        if isinstance(cell, dict) and cell.get("value") is not None
    }
    fingerprint = text_sha256(ctx.stamp_text, ctx.out.read_text())[:24]
    tables = {f"per_clip/{path.stem}.json": pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
    videos = [video for method in sorted(methods) for video in sorted((ctx.root / "data" / "generate" / method).glob("clips/*.mp4"))[:1]]
    artifacts = [*sorted(folder.glob("*.json")), *videos]
    _attempt(
        ctx,
        "evaluate",
        f"evaluate-{os.environ.get('DVC_EXP_NAME', '') or fingerprint[:8]}",
        fingerprint,
        _finite(metrics),
        Path("/nonexistent"),
        artifacts,
        tables,
    )
    _project_rows(ctx, methods)


def _project_rows(ctx: Context, methods: dict[str, Any]) -> None:
    """A run of its own for every row that names a variant: its scores, with tags row, variant and replicate and the parameters of its training.

    So variants compare by filter and chart.
    """
    from pipeline.methods import split_row, variant_stage
    from pipeline.stages import stamp_path

    for row, cells in sorted(methods.items()):
        variant, stage = split_row(row)[1], variant_stage(row)
        if not variant:
            continue
        path = ctx.root / stamp_path(stage, variant)
        params = read_json(path)["params"][stage] if path.exists() else {}
        stamp = {**ctx.stamp, "variant": variant, "row": row, "replicate": params.get("replicate"), "params": {stage: params}}
        metrics = {column: cell["value"] for column, cell in cells.items() if isinstance(cell, dict) and cell.get("value") is not None}
        fingerprint = text_sha256(ctx.stamp_text, ctx.out.read_text(), row)[:24]
        _attempt(ctx, "evaluate", row, fingerprint, _finite(metrics), Path("/nonexistent"), [], {}, stamp=stamp)


def _attempt(ctx: Context, *args: Any, stamp: dict[str, Any] | None = None) -> None:
    experiment, run_name, fingerprint, metrics, history, artifacts, tables = args
    try:
        _project(experiment, run_name, stamp or ctx.stamp, fingerprint, metrics, history, artifacts, tables)
    except Exception as error:  # the files are the truth; a tracker that fails must not cost a training
        ctx.log.warning("not shown in MLflow (%s: %s); `make track` projects the files again", type(error).__name__, error)


def main() -> None:
    """Project everything that lies in models/ and reports/ again: ``python -m pipeline.tracking [--root runs/<name>]``."""
    from pipeline import context as house
    from pipeline.stages import STAGES, stamp_path

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", type=Path, default=Path("."))
    args = parser.parse_args()
    house.set_up_logging()
    for stage in STAGES.values():
        if stage.kind != "training" and stage.name != "evaluate":
            continue
        for out in sorted(args.root.glob(stage.out.format(variant="*"))):
            variant = out.parent.name if stage.fan else ""
            stamp = args.root / stamp_path(stage.name, variant)
            if not stamp.exists():
                continue
            ctx = house.make_context(argparse.Namespace(stamp=stamp, root=args.root, out=out, threads=1))
            (project_training if stage.kind == "training" else project_evaluation)(ctx)
            print(f"projected {out}")


if __name__ == "__main__":
    main()
