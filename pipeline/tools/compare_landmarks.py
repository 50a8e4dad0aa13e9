"""Agreement of two landmark back ends on the same clips.

Usage: python -m pipeline.tools.compare_landmarks --first mediapipe --second face_alignment [--config configs/clips.yaml] [--clips 8] [--out table.csv]

Every crop of the run that was made by the step `crop` is given to both back ends; the table has one row a clip and the median of all
(flowvqtalker/landmarks/agreement.py says what the columns mean). Crops, not sources: both see the same pixels and the same single face.
On the embedded corpus, where the truth is known, use the landmarker's own metrics.json instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from flowvqtalker.landmarks.agreement import agreement
from flowvqtalker.landmarks.schema import Landmarker
from pipeline import context as house
from pipeline import media
from pipeline.backends import ASSETS, make_landmarker
from pipeline.errors import PipelineError
from pipeline.io import ok_rows, read_index, write_text
from pipeline.params import read_config, validate
from pipeline.params.landmarks import LandmarksParams
from pipeline.stages import STAGES, run_root

SHOWN = ("clip", "both", "only_first", "only_second", "distance_pct", "jaw_pct", "right_eye_pct", "left_eye_pct", "outer_lips_pct", "rest_pct", "shake_first_pct", "shake_second_pct")  # fmt: skip


def compare(folder: Path, rows: list[dict], first: Landmarker, second: Landmarker) -> pd.DataFrame:
    """One row a clip, then the median over the clips under the name "median"."""
    table = []
    for row in rows:
        frames = media.read_video_at(folder / row["video"])
        table.append({"clip": row["clip"], "n_frames": len(frames)} | agreement(first.detect(frames), second.detect(frames)))
    made = pd.DataFrame(table)
    middle = {name: float(np.nanmedian(made[name].to_numpy(np.float64))) for name in made.columns if name != "clip"}
    return pd.DataFrame([*table, {"clip": "median", **middle}])


def run(config: str, names: tuple[str, str], count: int, out: Path | None) -> None:
    """Read the run's crops, compare, print and write."""
    values = read_config("params.yaml", config) if config else read_config("params.yaml")
    root = run_root(values)
    params = cast(LandmarksParams, validate(values)["landmarks"])
    crops = ok_rows(read_index(root / STAGES["crop"].out, "crop"))
    rows = crops.loc[crops["kind"] == "video"].to_dict("records")
    if not rows:
        raise PipelineError(f"{root / STAGES['crop'].out}: has no usable video", "run the stage `crop` first")
    rows = rows[:: max(1, len(rows) // count)][:count] if count else rows
    # the trained one reads a model of its run; `default` has it, other runs do not
    models = Path(STAGES["landmarker"].folder)
    first, second = (make_landmarker(params.model_copy(update={"backend": name}), models) for name in names)
    table = compare(root / STAGES["crop"].folder, rows, first, second)
    print(f"first = {names[0]}, second = {names[1]}")
    print(table[list(SHOWN)].round(3).to_string(index=False))
    if out is not None:
        write_text(out, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", choices=sorted(ASSETS), required=True)
    parser.add_argument("--second", choices=sorted(ASSETS), required=True)
    parser.add_argument("--config", default="configs/clips.yaml", help="run whose crops are looked at; empty: the default run")
    parser.add_argument("--clips", type=int, default=8, help="clips, spread over the table; 0: all")
    parser.add_argument("--out", type=Path, help="csv with every column")
    args = parser.parse_args()
    house.guarded(lambda: run(args.config, (args.first, args.second), args.clips, args.out))
    house.leave()


if __name__ == "__main__":
    main()
