"""How far the fit of recordings can be trusted: points it has not seen, calm, blinks, bounds, and what emotions do to the coefficients.

Usage: python -m pipeline.tools.fit_quality [--config configs/clips.yaml] [--no-scores] [--out reports/fit.csv]

Reads crop and fit3dmm of a run whose landmark back end gives dense points (`mediapipe`). Columns:
held_out_pct       median distance of the dense points that the fit has not seen to the fitted surface [% of the outer-eye distance, points 36-45];
                   where they lie on the surface is learnt from the clips of other people, so at least two are needed.
seen_pct           the same for the 68 landmarks the fit was given.
still_frames       frames in which nine tenths of the 68 landmarks rest.
shake_raw, shake_fit  root mean square second difference over time of the 68 landmarks in those frames, as detected and of the fitted head [same unit].
calmer             shake_raw / shake_fit.
calmer_points      the same over single points that rest, whatever the rest of the face does (a mouth that talks moves what hangs on it).
blinks, blink_height  blinks in the detected landmarks, and the median share of their depth that the fitted head keeps.
at_bound           share of the coefficients that lie at their bound.
With a neutral clip of the same person a second table follows: mean coefficients by emotion, in standard deviations of the neutral clip above it.

--no-scores fits once more without the back end's blendshape scores, from the 68 landmarks alone.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face.camera import crop_camera, project
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.face.model import FaceModel
from flowvqtalker.face.pose import transform
from flowvqtalker.fit.basis import basis_of
from flowvqtalker.fit.solver import fit_clip, fit_identity_of_clip, pick_frames
from flowvqtalker.landmarks.mediapipe import MESH_OF_68
from flowvqtalker.metrics.fit import (
    above_neutral,
    acceleration_pct,
    blink_heights,
    match_surface,
    point_errors_pct,
    still_frames,
    still_points,
)
from pipeline import context as house
from pipeline.errors import PipelineError
from pipeline.facemodel import load_face_model
from pipeline.io import ok_rows, read_index, read_npz, write_text
from pipeline.params import read_config, validate
from pipeline.params.fit3dmm import Fit3dmmParams
from pipeline.stages import STAGES, run_root

#: Points of the iris lie on the eyeballs; the other dense points are skin.
N_SKIN = 468
#: Frames of a clip that say where the dense points lie on the surface, and that their distance is measured on.
MATCH_FRAMES, ERROR_FRAMES = 10, 60
#: Bound of the low-passed speed of a point at rest [% of the outer-eye distance per frame].
REST_SPEED_PCT = 0.25
#: Fewer still frames of a clip say nothing.
LEAST_STILL = 6
#: Coefficients of the second table, left and right averaged.
SHOWN = ("mouthSmile", "jawOpen", "browInnerUp", "browOuterUp", "browDown", "eyeWide", "eyeSquint", "noseSneer", "mouthFrown", "mouthStretch")  # fmt: skip


@dataclass(frozen=True)
class FittedClip:
    """One clip: what was detected and what the fitted head shows; frames without a face are left out.

    Attributes:
        row: of the crop's table.
        emotion: of the table, or of a name like ``M030_front_happy_level3_001``.
        dense: (F, 478, 2) px detected points.
        alpha, beta, pose: the fit; beta (F, E), pose (F, 6).
        at_bound: share of coefficients at their bound.
    """

    row: dict[str, Any]
    emotion: str
    dense: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    pose: np.ndarray
    at_bound: float

    def project(self, model: FaceModel, frames: np.ndarray, vertices: bool) -> np.ndarray:
        """(F, V, 2) px of the model's vertices, or of its 68 landmarks, in some frames."""
        shape = model.vertices if vertices else model.landmarks
        with torch.inference_mode():
            points = shape(torch.from_numpy(self.alpha).double(), torch.from_numpy(self.beta[frames]).double())
            moved = transform(points, torch.from_numpy(self.pose[frames]).double())
            return project(moved, crop_camera(int(self.row["size_px"]))).numpy()


def emotion_of(row: dict[str, Any]) -> str:
    """Emotion of a clip; names of MEAD, as several projects share its clips, say it where the table does not."""
    said = re.search(rf"_({'|'.join(EMOTIONS)})_level\d", row["clip"])
    return said[1] if said else str(row["emotion"])


def read_clips(root: Path, model: FaceModel, params: Fit3dmmParams, with_scores: bool) -> list[FittedClip]:
    """Every clip of the run with dense points and a fit."""
    crops, fits = (ok_rows(read_index(root / STAGES[name].out, name)) for name in ("crop", "fit3dmm"))
    by_clip = {row["clip"]: row for row in fits.to_dict("records")}
    basis, clips = basis_of(model), []
    for row in crops.to_dict("records"):
        if row["kind"] != "video" or row["clip"] not in by_clip:
            continue
        arrays = read_npz(root / STAGES["crop"].folder / row["landmarks"])
        if "points478" not in arrays:
            raise PipelineError(f"{row['clip']}: has no dense points", "make the run with landmarks.backend: mediapipe")
        fit = read_npz(root / STAGES["fit3dmm"].folder / by_clip[row["clip"]]["file"])
        alpha, beta, pose, bound = fit["alpha"], fit["beta"], fit["pose"], float(by_clip[row["clip"]]["at_bound_share"])
        if not with_scores:
            camera, points = crop_camera(int(row["size_px"])), arrays["landmarks_px"]
            identity = fit_identity_of_clip(basis, points, camera, params.fit_config(), count=params.identity_frames, neutral=False)
            again = fit_clip(basis, identity, points, camera, params.fit_config())
            alpha, beta, pose, bound = again.alpha, again.beta, again.pose, again.at_bound_share
        seen = np.isfinite(arrays["points478"]).all((1, 2)) & np.isfinite(fit["error_px"])
        clips.append(FittedClip(row, emotion_of(row), arrays["points478"][seen], alpha, beta[seen], pose[seen], bound))
    return clips


def visible_skin(model: FaceModel) -> np.ndarray:
    """Triangles of the parts that landmarks lie on and that look forward at rest."""
    corners = model.mean[model.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    parts = np.unique(model.vertex_part[model.landmarks68])
    return model.triangles[np.isin(model.triangle_part, parts) & (normals[:, 2] > 0)]


def measure(clips: list[FittedClip], model: FaceModel) -> pd.DataFrame:
    """The first table: one row a clip and the median of all."""
    held_out = np.setdiff1d(np.arange(N_SKIN), MESH_OF_68)
    triangles = visible_skin(model)
    known: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    people: dict[str, str] = {}
    for clip in clips:
        frames = pick_frames(len(clip.dense), MATCH_FRAMES)
        unit = np.linalg.norm(clip.dense[frames][:, MESH_OF_68[36]] - clip.dense[frames][:, MESH_OF_68[45]], axis=-1)[:, None, None]
        known[clip.row["clip"]] = clip.project(model, frames, True) / unit, clip.dense[frames][:, held_out] / unit
        people[clip.row["clip"]] = str(clip.row["identity"])
    places = {}
    for person in set(people.values()):
        others = [known[name] for name, other in people.items() if other != person]
        if others:
            vertices, points = (np.concatenate(part) for part in zip(*others, strict=True))
            places[person] = match_surface(vertices, points, triangles)
    rows = []
    for clip in clips:
        frames = pick_frames(len(clip.dense), ERROR_FRAMES)
        raw, fitted = clip.dense[:, MESH_OF_68], clip.project(model, np.arange(len(clip.dense)), False)
        place = places.get(people[clip.row["clip"]])
        errors = np.full(1, np.nan)
        if place is not None:
            errors = point_errors_pct(place.of(clip.project(model, frames, True)), clip.dense[frames][:, held_out], raw[frames])
        rest, still = still_points(raw, REST_SPEED_PCT), still_frames(raw, REST_SPEED_PCT)
        everywhere = np.repeat(still[:, None], rest.shape[1], 1) if still.sum() >= LEAST_STILL else np.zeros_like(rest)
        shake = [acceleration_pct(points, everywhere) for points in (raw, fitted)]
        single = [acceleration_pct(points, rest) for points in (raw, fitted)]
        heights = blink_heights(raw, fitted)
        rows.append(
            {
                "clip": clip.row["clip"], "n_frames": len(raw), "held_out_pct": np.median(errors), "held_out_p90_pct": np.quantile(errors, 0.9),
                "seen_pct": np.median(point_errors_pct(fitted[frames], raw[frames], raw[frames])), "still_frames": still.sum(),
                "shake_raw": shake[0], "shake_fit": shake[1], "calmer": shake[0] / shake[1], "calmer_points": single[0] / single[1], "blinks": len(heights),
                "blink_height": np.median(heights) if len(heights) else np.nan, "at_bound": clip.at_bound,
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    middle = {name: float(np.nanmedian(table[name].to_numpy(np.float64))) for name in table.columns if name not in ("clip", "blinks")}
    return pd.DataFrame([*rows, {"clip": "median", "blinks": table["blinks"].sum(), **middle}])


def emotions_above_neutral(clips: list[FittedClip]) -> pd.DataFrame | None:
    """The second table: a row for each emotion of each person with a neutral clip; None without any."""
    rows = []
    for person in sorted({str(clip.row["identity"]) for clip in clips}):
        own = {clip.emotion: clip for clip in clips if str(clip.row["identity"]) == person}
        if "neutral" not in own or len(own) < 2:
            continue
        for emotion in EMOTIONS:
            if emotion in own:
                values = {name: (side_mean(own[emotion].beta, name), side_mean(own["neutral"].beta, name)) for name in SHOWN}
                rows.append({"person": person, "emotion": emotion} | {name: above_neutral(*pair) for name, pair in values.items()})
    return pd.DataFrame(rows) if rows else None


def side_mean(beta: np.ndarray, name: str) -> np.ndarray:
    """(F,) a coefficient, or the mean of its left and right."""
    if name in EXPRESSION_INDEX:
        return beta[:, EXPRESSION_INDEX[name]]
    return 0.5 * (beta[:, EXPRESSION_INDEX[f"{name}_L"]] + beta[:, EXPRESSION_INDEX[f"{name}_R"]])


def run(config: str, with_scores: bool, out: Path | None) -> None:
    """Read, measure, print and write."""
    values = read_config("params.yaml", config)
    root = run_root(values)
    params = cast(Fit3dmmParams, validate(values)["fit3dmm"])
    model = load_face_model(params.model, params.asset)
    clips = read_clips(root, model, params, with_scores)
    if not clips:
        raise PipelineError(f"{root}: has no fitted video", "run `make clips ROOT=<folder> TARGET=fit3dmm` first")
    table = measure(clips, model)
    print(table.round(3).to_string(index=False))
    moods = emotions_above_neutral(clips)
    if moods is not None:
        print("\nMean over the clip, in standard deviations of the same person's neutral clip above it:")
        print(moods.round(1).to_string(index=False))
    if out is not None:
        write_text(out, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/clips.yaml", help="run whose fits are looked at")
    parser.add_argument("--no-scores", action="store_true", help="fit again from the 68 landmarks alone")
    parser.add_argument("--out", type=Path, help="csv of the first table")
    args = parser.parse_args()
    house.guarded(lambda: run(args.config, not args.no_scores, args.out))


if __name__ == "__main__":
    main()
