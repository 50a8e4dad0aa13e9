"""`flowvqtalker fex`: py-feat's action units and emotion probabilities of a video, as a Fex table that `feat.utils.read_feat` reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.experts.pyfeat import emotion_scores, fex_table, load_detector
from pipeline.errors import PipelineError
from pipeline.io import atomic_path
from pipeline.media import iterate_video_at
from pipeline.needs import check, pyfeat_needs

#: Frames read and detected at once: memory does not grow with the video.
CHUNK_FRAMES = 64


def require_weights() -> None:
    """Say within a moment what is missing; py-feat itself would be imported first and then search the network for a minute.

    Raises:
        PipelineError: the package or its weights are not here.
    """
    bad = [finding for finding in map(check, pyfeat_needs("flowvqtalker fex")) if finding.word != "ok"]
    if bad:
        missing = "; ".join(f"{finding.need.name}: {finding.detail}" for finding in bad)
        raise PipelineError(f"py-feat cannot run here ({missing})", bad[-1].fix)


def write_fex(video: Path, out: Path, detector: Any) -> Any:
    """Detect a video piece by piece at 25 frames per second and write one CSV.

    Args:
        video: any video.
        out: CSV to write: one row a face and frame, columns as py-feat names them.
        detector: result of ``load_detector``.

    Returns:
        The table (``feat.Fex``).

    Raises:
        PipelineError: the video cannot be read or holds no frame.
    """
    import pandas as pd

    tables, n_frames = [], 0
    for frames in iterate_video_at(video, chunk_frames=CHUNK_FRAMES):
        tables.append(fex_table(detector, frames, name=video.name, first_frame=n_frames))
        n_frames += len(frames)
    if not tables:
        raise PipelineError(f"{video}: no frames", "name another video")
    table = pd.concat(tables, ignore_index=True)
    with atomic_path(out) as temporary:
        table.to_csv(temporary, index=False)
    return table


def run(args: argparse.Namespace) -> None:
    """The subcommand."""
    require_weights()
    try:
        detector = load_detector()
    except MissingWeightsError as error:
        raise PipelineError(str(error), "see `flowvqtalker doctor` with outside.judges: [pyfeat]") from error
    table = write_fex(args.video, args.out, detector)
    seen = table.dropna(subset=["FaceRectX"])
    print(f"{args.out}: {table['frame'].nunique()} frames, {len(seen)} faces")
    scores = emotion_scores({str(name): table[name].to_numpy(dtype=float) for name in table.aus.columns})
    print("action units by emotion: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))


def add_parser(subparsers: Any) -> None:
    """Add `fex` to the console script."""
    parser = subparsers.add_parser("fex", help="py-feat's action units and emotions of a video, as a CSV", description=__doc__)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    parser.set_defaults(run=run)
