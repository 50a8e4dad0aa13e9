"""Step `fit3dmm`: identity, expression, pose and light of every crop, from its landmarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowvqtalker.face.camera import Camera, crop_camera
from flowvqtalker.face.model import FaceModel
from flowvqtalker.fit.basis import LandmarkBasis, basis_of, has_scores
from flowvqtalker.fit.blendshapes import blendshapes_to_beta
from flowvqtalker.fit.light import SkinPatches, estimate_light
from flowvqtalker.fit.photometric import PhotometricConfig, refine_photometric
from flowvqtalker.fit.solver import Fit, FitConfig, calibrate, fit_clip, fit_identity_of_clip, outer_eye_distance_px, present_frames
from flowvqtalker.render.pytorch3d import make_rasterizer
from pipeline.clipstage import ClipError, ClipStage, Item, main
from pipeline.context import Context
from pipeline.facemodel import face_model_file, load_face_model
from pipeline.io import file_sha256, ok_rows, read_index, read_npz, write_npz
from pipeline.media import read_video_at
from pipeline.params.fit3dmm import PhotometricParams

#: Frames of a long clip handled at once when pixels are needed.
CHUNK_FRAMES = 250


@dataclass(frozen=True)
class Loaded:
    """What one process needs for all its clips."""

    model: FaceModel
    basis: LandmarkBasis
    skin: SkinPatches
    config: FitConfig
    folder_in: Path
    enrolments: dict[str, dict[str, Any]]
    people: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def _enrolments(crops: Any) -> dict[str, dict[str, Any]]:
    """First neutral enrolment crop of each identity, by source and identity."""
    rows = crops[(crops["role"] == "enrol") & (crops["emotion"].isin(["neutral", ""]))]
    return {f"{row['source']}/{row['identity']}": row for row in reversed(rows.to_dict("records"))}


def make_items(ctx: Context) -> list[Item]:
    """One item a crop; its result also depends on the identity's enrolment."""
    crops = ok_rows(read_index(ctx.reads["crop"], "crop"))
    known, items = _enrolments(crops), []
    path = face_model_file(ctx.cfg.model, ctx.cfg.asset)
    asset = file_sha256(path) if path else ""
    for row in crops.to_dict("records"):
        enrolment = known.get(f"{row['source']}/{row['identity']}")
        items.append(Item(row["clip"], (row["sha256"], enrolment["sha256"] if enrolment else "", asset), row))
    return items


def set_up(ctx: Context) -> Loaded:
    """Face model and where the crops lie."""
    model = load_face_model(ctx.cfg.model, ctx.cfg.asset)
    crops = ok_rows(read_index(ctx.reads["crop"], "crop"))
    return Loaded(model, basis_of(model), SkinPatches.of(model), ctx.cfg.fit_config(), ctx.reads["crop"].parent, _enrolments(crops))


def expected_beta(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    """(T, E) blendshape scores of the landmark back end where it gives them and the model has such shapes, else None."""
    return blendshapes_to_beta(arrays["blendshapes"], names) if "blendshapes" in arrays and has_scores(names) else None


def process(item: Item, loaded: Loaded, ctx: Context, folder: Path) -> list[dict[str, Any]]:
    """Fit one crop. The identity comes from the person's neutral enrolment where there is one, so that all clips of a person agree."""
    row, basis, config = item.row, loaded.basis, loaded.config
    arrays = read_npz(loaded.folder_in / row["landmarks"])
    camera = crop_camera(int(row["size_px"]))
    landmarks, prior = arrays["landmarks_px"], expected_beta(arrays, basis.names)
    enrolment = loaded.enrolments.get(f"{row['source']}/{row['identity']}")
    if not present_frames(landmarks).any():
        raise ClipError("no frame has landmarks", rejected=True)
    offset = None
    if enrolment is not None:
        alpha, offset = enrolled_person(enrolment, loaded, ctx.cfg.identity_frames)
    else:
        alpha = fit_identity_of_clip(basis, landmarks, camera, config, count=ctx.cfg.identity_frames, neutral=False, prior_mean=prior)
    stills = row["kind"] == "stills"
    fit = fit_clip(basis, alpha, landmarks, camera, config, offset=offset, prior_mean=prior, is_sequence=not stills)
    light = np.zeros((len(landmarks), 27), dtype=np.float32)
    if ctx.cfg.light or ctx.cfg.photometric.enabled:
        frames = arrays["frames"] if stills else read_video_at(loaded.folder_in / row["video"])
        frames = frames[: len(landmarks)]
        light[: len(frames)] = light_of(frames, fit, loaded.skin, camera)
        if ctx.cfg.photometric.enabled:
            fit = refined(frames, fit, light, loaded.model, camera, ctx.cfg.photometric)
    eyes_px = float(outer_eye_distance_px(torch.as_tensor(landmarks[present_frames(landmarks)])))
    arrays_out = {"alpha": fit.alpha, "beta": fit.beta, "pose": fit.pose, "light": light, "error_px": fit.error_px}
    write_npz(folder / f"{item.clip}.npz", arrays_out)
    error_pct = 100 * float(np.nanmean(fit.error_px)) / max(eyes_px, 1e-6)
    return [
        {
            "clip": item.clip,
            "file": f"{item.clip}.npz",
            "n_frames": len(landmarks),
            "landmark_error_pct": error_pct,
            "at_bound_share": fit.at_bound_share,
        }
    ]


def light_of(frames: np.ndarray, fit: Fit, skin: SkinPatches, camera: Camera) -> np.ndarray:
    """(F, 27) light of frames (F, H, W, 3) uint8 under a fit of at least as many, some at a time."""
    light = np.zeros((len(frames), 27), dtype=np.float32)
    for start in range(0, len(frames), CHUNK_FRAMES):
        part = slice(start, min(start + CHUNK_FRAMES, len(frames)))
        pixels = torch.as_tensor(frames[part]).permute(0, 3, 1, 2).float() / 255
        coefficients = (torch.as_tensor(x) for x in (fit.alpha, fit.beta[part], fit.pose[part]))
        light[part] = estimate_light(pixels, skin, *coefficients, camera).numpy()
    return light


def refined(frames: np.ndarray, fit: Fit, light: np.ndarray, model: FaceModel, camera: Camera, params: PhotometricParams) -> Fit:
    """The fit after its photometric term."""
    config = PhotometricConfig(**params.model_dump(exclude={"enabled", "rasterizer"}))
    return refine_photometric(model, fit, frames, light, camera, config, make_rasterizer(params.rasterizer))


def enrolled_person(row: dict[str, Any], loaded: Loaded, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Identity and landmark offsets from a neutral enrolment crop, kept for the next clips of the same person."""
    if row["clip"] not in loaded.people:
        arrays = read_npz(loaded.folder_in / row["landmarks"])
        landmarks, prior, camera = arrays["landmarks_px"], expected_beta(arrays, loaded.basis.names), crop_camera(int(row["size_px"]))
        alpha = fit_identity_of_clip(loaded.basis, landmarks, camera, loaded.config, count=count, neutral=True, prior_mean=prior)
        loaded.people[row["clip"]] = alpha, calibrate(loaded.basis, alpha, landmarks, camera, loaded.config, prior_mean=prior)
    return loaded.people[row["clip"]]


STAGE = ClipStage(name="fit3dmm", items=make_items, setup=set_up, process=process)

if __name__ == "__main__":
    main(STAGE)
