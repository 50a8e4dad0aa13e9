"""`flowvqtalker evaluate`: score videos that any method made against real ones, with coverage, intervals and reasons.

Exit code 0: every expected clip and number is there. 3: something is missing, and the result says what and why. 2: the command itself is wrong.
Finished clips are kept in OUT/clips, so the same command goes on where it stopped; --shard k/n does a part and writes no table.
"""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.experts import judge
from flowvqtalker.experts.domain import Domain, admit
from flowvqtalker.experts.official import LPIPS, SOURCES, InceptionFeatures, OfficialSyncNet
from flowvqtalker.landmarks.schema import Landmarker
from pipeline.backends import backend_checksums, make_landmarker
from pipeline.codehash import code_hash
from pipeline.errors import PipelineError
from pipeline.evaluation.pairs import Pair, match
from pipeline.evaluation.summary import Summary, document, read_clip_table, write_clip_table
from pipeline.evaluation.summary_page import render, table_text
from pipeline.evaluation.videos import OK, Policy, Tools, VideoScorer
from pipeline.io import file_sha256, read_json, read_torch, text_sha256, write_json, write_text
from pipeline.params import read_config, validate
from pipeline.params.landmarks import LandmarksParams
from pipeline.stages import STAGES, run_root

INCOMPLETE = 3
KINDS = ("syncnet", "emotion", "features")
log = logging.getLogger("flowvqtalker.evaluate")


def load_tools(args: argparse.Namespace) -> Tools:
    """Judges and landmark back end as the options ask for, each absent one with its reason.

    Raises:
        PipelineError: an option contradicts itself, or a named file is missing.
    """
    config = read_config("params.yaml", *args.config)
    params = validate(config)
    root = run_root(config)
    try:
        domain = Domain.parse(args.domain or f"folder:{args.real.resolve().name.replace('+', '_').replace(':', '_')}")
    except ValueError as error:
        raise PipelineError(str(error), "name what the videos show, e.g. --domain clay or --domain folder:mead") from error
    folder = args.experts or root / Path(STAGES["experts"].out).parent
    networks, hashes, reasons, warnings = {}, {}, {}, []
    for kind in KINDS:
        path = folder / f"{kind}.pt"
        if args.no_judges or not path.is_file():
            reasons[kind] = "not asked for (--no-judges)" if args.no_judges else f"no judge: {path} does not exist"
            continue
        try:
            networks[kind], warning = admit(read_torch(path), kind, domain, allow_other=args.allow_other_domain)
        except judge.DomainError as error:
            reasons[kind] = f"{error} (or pass --allow-other-domain, and never publish the numbers)"
            continue
        hashes[kind] = file_sha256(path)
        warnings += [warning] if warning else []
    landmarks, finder, why = _landmarks(args, domain, params["landmarks"], root)
    if landmarks is None:
        reasons["landmarks"] = why
        networks = {kind: network for kind, network in networks.items() if kind == "features"}
    elif why:
        warnings.append(why)
    key = "" if landmarks is None else text_sha256(*backend_checksums(landmarks, finder), str(landmarks))
    if landmarks is not None:
        hashes["landmarks"] = key
    return Tools(
        networks, hashes, reasons, tuple(warnings), None if landmarks is None else (lambda: _finder(landmarks, finder)), key,
        landmarks.smooth_sd_frames if landmarks else 0.0, load_outside(args, hashes), own_test(folder) if networks else {},
    )  # fmt: skip


def own_test(folder: Path) -> dict[str, float]:
    """What the judges of a folder reached on their own test clips, from the metrics.json that the stage `experts` leaves beside them; else empty."""
    path = folder / "metrics.json"
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise PipelineError(f"{path}: holds no numbers by name", "put the file of the stage `experts` there, or none")
    return {str(name): float(value) for name, value in found.items() if isinstance(value, (int, float)) and math.isfinite(value)}


def load_outside(args: argparse.Namespace, hashes: dict[str, str]) -> dict[str, Any]:
    """Networks whose weights the user has; their hashes join ``hashes``."""
    files = {
        "syncnet_official": args.syncnet,
        "inception": args.inception,
        "lpips": args.lpips_heads,
        "lpips_backbone": args.lpips_backbone,
    }
    if bool(args.lpips_heads) != bool(args.lpips_backbone):
        raise PipelineError("LPIPS needs two files", f"give --lpips-heads and --lpips-backbone: {SOURCES['lpips']}")
    outside: dict[str, Any] = {}
    try:
        if args.syncnet:
            outside["syncnet_official"] = OfficialSyncNet(read_torch(args.syncnet))
        if args.inception:
            network = InceptionFeatures(read_torch(args.inception))
            outside[network.name] = network
        if args.lpips_heads:
            outside["lpips"] = LPIPS(read_torch(args.lpips_backbone), read_torch(args.lpips_heads))
    except MissingWeightsError as error:
        raise PipelineError(str(error), "name the right file") from error
    hashes |= {name: file_sha256(path) for name, path in files.items() if path}
    return outside


def _finder(settings: LandmarksParams, folder: Path) -> Landmarker:
    try:
        return make_landmarker(settings, folder)
    except KeyError as error:
        raise PipelineError(
            f"{folder}: this landmark model was trained by other code (it lacks {error})", "train it again: `make all`"
        ) from error


def _landmarks(args: argparse.Namespace, domain: Domain, params: Any, root: Path) -> tuple[LandmarksParams | None, Path, str]:
    """Settings of the back end and its model folder; None with the reason, or settings with a warning."""
    folder = args.landmarker or root / Path(STAGES["landmarker"].out).parent
    clay = Domain.parse("clay")
    wanted = args.landmarks
    if wanted == "auto":
        wanted = "trained" if clay.covers(domain) else "mediapipe"
    if wanted == "none":
        return None, folder, "not asked for (--landmarks none)"
    warning = ""
    if wanted == "trained" and not clay.covers(domain):
        if not args.allow_other_domain:
            return None, folder, f"landmarks 'trained' know 'clay' only and say nothing about '{domain}'"
        warning = f"landmarks 'trained' were learnt from 'clay', not from '{domain}': numbers that rest on them are not to be trusted"
    settings = params.model_copy(update={"backend": wanted})
    try:
        backend_checksums(settings, folder)
    except (PipelineError, FileNotFoundError) as error:
        if args.landmarks != "auto":
            raise (
                error if isinstance(error, PipelineError) else PipelineError(f"{error.filename}: no landmark model", "train it: `make all`")
            ) from error
        return None, folder, f"no landmark back end: {getattr(error, 'message', error)}"
    return settings, folder, warning


def part_of(pairs: list[Pair], shard: str) -> list[Pair]:
    """Pairs of shard ``k/n`` (k from 0), by turn; all of them without one."""
    if not shard:
        return pairs
    try:
        number, count = (int(part) for part in shard.split("/"))
    except ValueError as error:
        raise PipelineError(f"--shard {shard}: expected k/n, e.g. 0/4", "k runs from 0 to n - 1") from error
    if not 0 <= number < count:
        raise PipelineError(f"--shard {shard}: k must lie between 0 and n - 1", "e.g. 0/4 to 3/4")
    return pairs[number::count]


def run(args: argparse.Namespace) -> None:
    """The subcommand."""
    matching = match(args.real, args.generated, args.index)
    for option in ("real", "generated"):
        if args.out.resolve() == getattr(args, option).resolve():
            raise PipelineError(f"--out {args.out} is the folder of the {option} videos", "name another folder")
    policy = Policy(args.min_share, args.crop == "face", args.size, sound=args.sound)
    tools = load_tools(args)
    for warning in tools.warnings:
        log.warning("%s", warning)
    scorer = VideoScorer(args.out / "clips", tools, policy, matching.pairs, code_hash("pipeline.evaluation.videos"))
    generated, real = [], {}
    for pair in tqdm(part_of(matching.pairs, args.shard), desc="evaluate", disable=None, mininterval=2):
        row, truth = scorer.score(pair)
        generated.append(row)
        if truth is not None:
            real.setdefault(pair.clip, truth)
        if row["status"] != OK:
            log.warning("%s: %s", pair.clip, row["reason"])
    if args.shard:
        print(f"shard {args.shard}: {len(generated)} of {len(matching.pairs)} clips done; the tables come from a run without --shard")
        return
    columns = ["clip", "seed", "identity", "emotion", "level", "status", "reason"]
    tables = [
        pd.DataFrame(rows, columns=sorted({name for row in rows for name in row} | set(columns)))
        for rows in (generated, list(real.values()))
    ]
    summary = Summary(scorer, *tables, resamples=args.resamples)
    result = document(summary, matching.extra, matching.notes, args.method or args.generated.resolve().name)
    if args.baseline:
        result["against"] = compare(summary, args.baseline)
    write_text(args.out / "per_clip.csv", write_clip_table(generated))
    if real:
        write_text(args.out / "per_clip_real.csv", write_clip_table(list(real.values())))
    write_text(args.out / "index.html", render(result, sorted(generated, key=lambda row: (row["clip"], row["seed"]))))
    write_json(args.out / "metrics.json", result)
    print(table_text(result))
    coverage = result["coverage"]
    print(f"\n{coverage['n_scored']} of {coverage['n_expected']} clips scored; page: {args.out / 'index.html'}")
    for row in coverage["not_scored"]:
        print(f"  not scored: {row['clip']}: {row['reason']}")
    for name in coverage["extra_files"]:
        print(f"  not asked for: {name}")
    if not coverage["complete"]:
        raise SystemExit(INCOMPLETE)


def compare(summary: Summary, baseline: Path) -> dict[str, Any]:
    """Paired differences against the result folder of another run of this command."""
    for name in ("per_clip.csv", "metrics.json"):
        if not (baseline / name).is_file():
            raise PipelineError(f"{baseline / name}: no such file", "--baseline names the --out folder of another `flowvqtalker evaluate`")
    other = read_json(baseline / "metrics.json")
    return summary.against(read_clip_table(baseline / "per_clip.csv"), other["judges"]["sha256"])


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number in (0, 1], got {text}")
    return value


def add_parser(subparsers: Any) -> None:
    """Add `evaluate` to the console script."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score any method's videos against real ones",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--real", type=Path, required=True, help="folder of real videos; every one of them is expected")
    parser.add_argument("--generated", type=Path, required=True, help="folder of generated videos of the same names")
    parser.add_argument("--index", type=Path, help="csv with real, generated and where known clip, identity, emotion, level, seed")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for per_clip.csv, metrics.json and index.html; finished clips are kept there"
    )
    parser.add_argument("--method", default="", help="name of the row; the generated folder's when not given")
    parser.add_argument("--baseline", type=Path, help="--out folder of another run: paired differences against it")
    parser.add_argument("--domain", default="", help="what the videos show: clay, or folder:<name>; a judge of another domain is refused")
    parser.add_argument(
        "--allow-other-domain", action="store_true", help="use judges of another domain all the same; a warning stands in the result"
    )
    parser.add_argument("--experts", type=Path, help="folder of judges; the run's own when not given")
    parser.add_argument("--no-judges", action="store_true", help="picture and landmark metrics only")
    parser.add_argument("--syncnet", type=Path, help=f"weights of the official SyncNet ({SOURCES['syncnet']}): columns lse_*_syncnet")
    parser.add_argument(
        "--inception", type=Path, help=f"weights of Inception ({SOURCES['inception']}): columns fid_inception, kid_inception"
    )
    parser.add_argument("--lpips-backbone", type=Path, help=f"with --lpips-heads, column lpips: {SOURCES['lpips']}")
    parser.add_argument("--lpips-heads", type=Path)
    parser.add_argument("--landmarks", choices=("auto", "none", "trained", "mediapipe", "face_alignment"), default="auto")
    parser.add_argument("--landmarker", type=Path, help="folder of the trained landmarker; the run's own when not given")
    parser.add_argument("--crop", choices=("none", "face"), default="none", help="face: cut both videos to the real one's face first")
    parser.add_argument("--size", type=int, default=256, help="side of that cut [px]")
    parser.add_argument("--sound", choices=("own", "real"), default="own", help="whose sound the lips are judged with")
    parser.add_argument("--min-share", type=_share, default=0.9, help="a clip shorter than this share of the real one is not scored")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples")
    parser.add_argument("--shard", default="", help="k/n: score every n-th clip from the k-th on and write no table")
    parser.add_argument(
        "--config", type=Path, nargs="*", default=[], help="overlays of the run whose judges are used, e.g. configs/clips.yaml"
    )
    parser.set_defaults(run=run)
