"""Ways of fitting the same test clips of the embedded corpus, against their truth, and the cross-model figure.

Usage: python -m pipeline.tools.fit_arms [--clips 8] [--frames 60] [--figure docs/figures/cross_model.png] [--out reports/fit_arms.csv]

Arms: `landmarks` (clay, as the stage fits it), `photometric` (clay, refined by its pixels), `ict` (another head than the one that was rendered; needs its asset).
Columns: correlation of the coefficient with the true one for jaw, blinks and the mean over all shapes that move in truth; mean absolute error
of the coefficients; head rotation error (same model only: another model's axes are its own); distance of the fitted surface's vertices from the true
ones in the head frame, each about its own mean [mm] (same model only); frames a second, the process's threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from flowvqtalker.face.camera import crop_camera
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.face.model import FaceModel
from flowvqtalker.face.pose import transform
from flowvqtalker.fit.agreement import correlation, rotation_error_deg
from flowvqtalker.fit.basis import basis_of
from flowvqtalker.fit.light import SkinPatches
from flowvqtalker.fit.solver import Fit, fit_clip, fit_identity_of_clip
from flowvqtalker.landmarks.boxes import to_crop
from pipeline import context as house
from pipeline.errors import PipelineError
from pipeline.evaluation.checks import true_pose
from pipeline.facemodel import load_face_model
from pipeline.fit3dmm import expected_beta, light_of, refined
from pipeline.io import atomic_path, ok_rows, read_index, read_npz, write_text
from pipeline.media import read_video_at
from pipeline.params import read_config, validate
from pipeline.params.fit3dmm import Fit3dmmParams
from pipeline.stages import STAGES, run_root
from pipeline.tools.clip_sheets import draw_mesh

#: A shape moves when its true standard deviation over the clips reaches this.
MOVES = 0.03
#: Rows of the figure, and the coefficients whose curves it shows.
FIGURE_CLIPS, CURVES = 3, ("jawOpen", "eyeBlink_L")


@dataclass(frozen=True)
class TrueClip:
    """A test clip with its truth in the crop's frame.

    Attributes:
        row: of the crop's table.
        arrays: of the landmark file.
        frames: (T, H, W, 3) uint8.
        beta, alpha: the truth, (T, E) and (A,).
        pixels: (T, 68, 2) true landmarks in the crop.
    """

    row: dict[str, Any]
    arrays: dict[str, np.ndarray]
    frames: np.ndarray
    beta: np.ndarray
    alpha: np.ndarray
    pixels: np.ndarray


def read_clips(root: Path, count: int, frames: int) -> list[TrueClip]:
    """At most ``count`` test clips, one a person as far as there are, cut to ``frames`` frames."""
    truths = {row["clip"]: row["truth"] for row in ok_rows(read_index(root / STAGES["corpus"].out, "corpus")).to_dict("records")}
    crops = ok_rows(read_index(root / STAGES["crop"].out, "crop")).to_dict("records")
    rows = [
        row
        for row in crops
        if row["split"] == "test" and row["kind"] == "video" and row["role"] != "enrol" and truths.get(row["source_clip"])
    ]
    if not rows:
        raise PipelineError(f"{root}: has no test clip with a truth", "run the stages up to `crop` on the embedded corpus first")
    people: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: str(row["clip"])):
        people.setdefault(str(row["identity"]), []).append(row)
    in_turn = [own[k] for k in range(max(map(len, people.values()))) for own in people.values() if k < len(own)]
    clips = []
    for row in in_turn[:count]:
        truth = read_npz(root / STAGES["corpus"].folder / truths[row["source_clip"]])
        arrays = read_npz(root / STAGES["crop"].folder / row["landmarks"])
        pictures = read_video_at(root / STAGES["crop"].folder / row["video"])
        first = int(row["start_frame"])
        n = min(frames, len(pictures), len(arrays["landmarks_px"]), len(truth["beta"]) - first)
        pixels = to_crop(truth["landmarks_px"][first : first + n], arrays["box"], int(row["size_px"]))
        kept = {name: value[:n] for name, value in arrays.items() if name in ("landmarks_px", "blendshapes")}
        clips.append(TrueClip(row, kept, pictures[:n], truth["beta"][first : first + n], truth["alpha"], pixels))
    return clips


def fit_landmarks(clip: TrueClip, model: FaceModel, params: Fit3dmmParams) -> Fit:
    """The stage's fit of one clip, with an identity of its own."""
    basis, camera, points = basis_of(model), crop_camera(int(clip.row["size_px"])), clip.arrays["landmarks_px"]
    prior = expected_beta(clip.arrays, basis.names)
    config = params.fit_config()
    alpha = fit_identity_of_clip(basis, points, camera, config, count=params.identity_frames, neutral=False, prior_mean=prior)
    return fit_clip(basis, alpha, points, camera, config, prior_mean=prior)


def refine(clip: TrueClip, fit: Fit, model: FaceModel, params: Fit3dmmParams) -> Fit:
    """The photometric term on top."""
    camera = crop_camera(int(clip.row["size_px"]))
    return refined(clip.frames, fit, light_of(clip.frames, fit, SkinPatches.of(model), camera), model, camera, params.photometric)


def surface_mm(model: FaceModel, alpha: np.ndarray, beta: np.ndarray, true_alpha: np.ndarray, true_beta: np.ndarray) -> float:
    """Mean distance [mm] of corresponding vertices in the head frame, what a clip's identity shifts as a whole taken off."""
    with torch.inference_mode():
        one, two = (
            model.vertices(torch.as_tensor(a).float(), torch.as_tensor(b).float()).numpy()
            for a, b in ((alpha, beta), (true_alpha, true_beta))
        )
    apart = (one - one.mean(-2, keepdims=True)) - (two - two.mean(-2, keepdims=True))
    return float(10 * np.linalg.norm(apart, axis=-1).mean())


def shape_correlations(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Correlation of fitted and true coefficients (T, E) over all clips, for every shape that moves in truth."""
    fitted, truth = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return {name: correlation(fitted[:, k], truth[:, k]) for k, name in enumerate(EXPRESSIONS) if truth[:, k].std() >= MOVES}


def measure(name: str, clips: list[TrueClip], fits: list[Fit], model: FaceModel, seconds: float) -> dict[str, Any]:
    """One row of the table."""
    shapes = shape_correlations([(fit.beta, clip.beta) for fit, clip in zip(fits, clips, strict=True)])
    moving = [EXPRESSION_INDEX[shape] for shape in shapes]
    row: dict[str, Any] = {
        "arm": name, "n_clips": len(clips), "n_frames": sum(len(clip.beta) for clip in clips), "jaw": shapes.get("jawOpen", np.nan),
        "blink": np.mean([shapes.get(f"eyeBlink_{side}", np.nan) for side in "LR"]), "all_shapes": np.mean(list(shapes.values())),
        "coefficient_error": np.mean([np.abs(fit.beta - clip.beta)[:, moving].mean() for fit, clip in zip(fits, clips, strict=True)]),
    }  # fmt: skip
    if model.name == "clay":
        basis, turns = basis_of(model), []
        for fit, clip in zip(fits, clips, strict=True):
            head = true_pose(
                basis, {"true_alpha": clip.alpha, "true_beta": clip.beta, "true_px": clip.pixels}, crop_camera(int(clip.row["size_px"]))
            )
            turns.append(np.nanmean(rotation_error_deg(fit.pose, head)))
        row["rotation_deg"] = np.mean(turns)
        row["surface_mm"] = np.mean([surface_mm(model, f.alpha, f.beta, c.alpha, c.beta) for f, c in zip(fits, clips, strict=True)])
    return row | {"frames_per_s": row["n_frames"] / seconds, "threads": torch.get_num_threads()}


def timed(make: Callable[[], list[Fit]]) -> tuple[list[Fit], float]:
    """Result and wall time."""
    start = time.perf_counter()
    return make(), time.perf_counter() - start


def draw(path: Path, clips: list[TrueClip], heads: dict[str, tuple[FaceModel, list[Fit]]]) -> None:
    """Pictures with both meshes over them, and curves of two coefficients beside the truth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = min(FIGURE_CLIPS, len(clips))
    widths = [1.0] * (1 + len(heads)) + [2.4] * len(CURVES)
    figure, axes = plt.subplots(
        rows, len(widths), figsize=(2.1 * sum(widths), 2.2 * rows), width_ratios=widths, squeeze=False, layout="constrained"
    )
    for line, (clip, panels) in enumerate(zip(clips, axes, strict=False)):
        moment = int(clip.beta[:, EXPRESSION_INDEX["jawOpen"]].argmax())
        panels[0].imshow(clip.frames[moment])
        for panel, (name, (model, fits)) in zip(panels[1:], heads.items(), strict=False):
            fit = fits[line]
            with torch.inference_mode():
                points = model.vertices(torch.as_tensor(fit.alpha), torch.as_tensor(fit.beta[moment]))
                vertices = transform(points[None], torch.as_tensor(fit.pose[moment])[None])[0].numpy()
            panel.imshow(draw_mesh(clip.frames[moment], model, vertices))
            panel.set_title(name if line == 0 else "", fontsize=9)
        for panel in panels[: 1 + len(heads)]:
            panel.set_axis_off()
        for panel, shape in zip(panels[1 + len(heads) :], CURVES, strict=True):
            panel.plot(clip.beta[:, EXPRESSION_INDEX[shape]], color="black", lw=1.5, label="truth")
            for name, (_, fits) in heads.items():
                panel.plot(fits[line].beta[:, EXPRESSION_INDEX[shape]], lw=1.2, label=name)
            panel.set(ylim=(-0.05, 1.05), title=shape if line == 0 else "", xlabel="frame" if line == rows - 1 else "")
    axes[0, -1].legend(fontsize=8, loc="upper right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90, format="png")
    plt.close(figure)


def run(count: int, frames: int, figure: Path | None, out: Path | None) -> None:
    """Fit, print, draw and write."""
    values = read_config("params.yaml")
    params = cast(Fit3dmmParams, validate(values)["fit3dmm"])
    clips = read_clips(run_root(values), count, frames)
    clay = load_face_model("clay", "")
    fit_landmarks(clips[0], clay, params)  # warm
    plain, seconds = timed(lambda: [fit_landmarks(clip, clay, params) for clip in clips])
    refined, more = timed(lambda: [refine(clip, fit, clay, params) for clip, fit in zip(clips, plain, strict=True)])
    rows = [measure("landmarks", clips, plain, clay, seconds), measure("photometric", clips, refined, clay, seconds + more)]
    heads = {"clay": (clay, plain)}
    try:
        ict = load_face_model("ict", "")
    except PipelineError as error:
        print(f"ict is left out: {error}")
    else:
        found, seconds = timed(lambda: [fit_landmarks(clip, ict, params) for clip in clips])
        rows.append(measure("ict", clips, found, ict, seconds))
        heads["ICT"] = (ict, found)
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    for name, (_, fits) in heads.items():
        shapes = shape_correlations([(fit.beta, clip.beta) for fit, clip in zip(fits, clips, strict=True)])
        print(f"{name}: " + ", ".join(f"{shape} {value:.2f}" for shape, value in sorted(shapes.items(), key=lambda item: -item[1])))
    if figure is not None:
        draw(figure, clips, heads)
    if out is not None:
        write_text(out, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8, help="test clips, of as many people as there are")
    parser.add_argument("--frames", type=int, default=60, help="frames of each clip")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--figure", type=Path, help="png of both heads over the pictures")
    parser.add_argument("--out", type=Path, help="csv of the table")
    args = parser.parse_args()
    house.limit_threads(args.threads)
    house.guarded(lambda: run(args.clips, args.frames, args.figure, args.out))


if __name__ == "__main__":
    main()
