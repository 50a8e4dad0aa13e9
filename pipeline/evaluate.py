"""Stage `evaluate`: score every generated method against the real test clips, pool with intervals, check the declared targets.

Reads: data/generate (videos, coefficients), data/crop (real clips), data/fit3dmm, data/audio, data/corpus (truth), models/experts, models/landmarker.
Writes: reports/evaluate/<method>.csv per clip, checks.json, metrics.json (last).
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import context as house
from pipeline import tracking
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.evaluation.checks import all_checks
from pipeline.evaluation.clips import Scorer, score_method
from pipeline.evaluation.pooled import Pool
from pipeline.io import file_sha256, read_index, text_sha256, write_json, write_text


def score(ctx: Context, method: str) -> None:
    """Per-clip table of one method."""
    rows = read_index(ctx.reads["generate"], "generate")
    rows = rows[rows["method"] == method]
    if rows.empty:
        raise PipelineError(
            f"{ctx.reads['generate']}: has no row of method '{method}'",
            "run stage 'generate' again, or take the method out of generate.methods",
        )
    table = score_method(Scorer(ctx), rows)
    failed = table[table["status"] != "ok"]
    ctx.log.info("%s: %d of %d clips scored", method, len(table) - len(failed), len(table))
    for row in failed.itertuples():
        ctx.log.warning("%s: %s: %s", method, row.clip, row.reason)
    write_text(ctx.out, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def read_table(path: Path) -> pd.DataFrame:
    """A per-clip table; text columns keep empty strings."""
    table = pd.read_csv(io.StringIO(path.read_text()), dtype={"clip": str, "identity": str, "sentence": str, "emotion": str, "reason": str})
    return table.fillna({"reason": "", "emotion": "", "identity": "", "sentence": ""})


def merge(ctx: Context, paths: list[Path]) -> None:
    """Pool the tables of all methods into metrics.json and checks.json."""
    generated = read_index(ctx.reads["generate"], "generate")
    long = {path.stem: path for path in sorted((ctx.reads["generate"].parent / "long").glob("*.npz"))}
    pool = Pool(Scorer(ctx), {path.stem: read_table(path) for path in paths}, long, generated)
    methods = {path.stem: pool.row(path.stem) for path in paths}
    floors: dict[str, Any] = (
        {"other_take": {name: cell["value"] for name, cell in methods["other_take"].items()}} if "other_take" in methods else {}
    )
    floors["fid_noise"] = pool.fid_noise()
    data = text_sha256(*(f"{name}={file_sha256(path)}" for name, path in sorted(ctx.reads.items())))
    checks = all_checks(pool, methods)
    for check in checks:
        ctx.log.info(
            "%s %s: %s (%s)", {True: "pass", False: "FAIL", None: "    "}[check["pass"]], check["name"], check["value"], check["target"]
        )
    write_json(ctx.out.with_name("checks.json"), checks)
    write_json(ctx.out, {"methods": methods, "judges": pool.judges(), "floors": floors, "data_sha256": data})
    tracking.project_evaluation(ctx)


def main() -> None:
    """Verbs ``method`` and ``merge``."""
    parser = argparse.ArgumentParser(description="Score generated clips.", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("method", parents=[house.base_parser("")], add_help=False)
    one.add_argument("--method", required=True, help="row of the result table")
    one.add_argument("--generated", type=Path, required=True, help="table of the method's clips")
    every = verbs.add_parser("merge", parents=[house.base_parser("")], add_help=False)
    every.add_argument("--from", dest="tables", type=Path, nargs="+", required=True, help="per-clip tables")
    args = parser.parse_args()
    house.set_up_logging()
    house.limit_threads(args.threads)

    def action() -> None:
        if args.verb == "method":
            score(house.make_context(args, generate=args.generated), args.method)
        else:
            merge(house.make_context(args), args.tables)

    house.guarded(action)


if __name__ == "__main__":
    main()
