"""Crops of the user's recordings: faces found, tracks split, squares cut out, sound laid beside them, and what is doubtful flagged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from flowvqtalker.constants import FPS_HZ, SAMPLES_PER_FRAME
from flowvqtalker.landmarks import boxes, moving, quality
from flowvqtalker.landmarks.faces import FaceFinder
from pipeline import media
from pipeline.clipstage import ClipError
from pipeline.context import Context
from pipeline.facetracks import FoundFaces, Lane, find_faces, split_lane
from pipeline.footage import open_footage, read_footage_sound, sound_level, write_footage_sound
from pipeline.io import write_npz
from pipeline.params.crop import CropParams
from pipeline.params.footage import FlagParams, FootageParams
from pipeline.params.landmarks import LandmarksParams

#: Frames looked at for sharpness and brightness.
LOOKED_AT = 12


def crop_recording(
    clip: str, path: Path, sidecar: Path | None, finder: FaceFinder, ctx: Context, folder: Path
) -> tuple[list[dict[str, Any]], list[str]]:  # fmt: skip
    """Files and rows of every usable track of one recording.

    Args:
        clip: id of the recording in the corpus.
        path: the recording.
        sidecar: sound file that serves instead of its own sound.
        finder: landmark back end.
        ctx: the step's context.
        folder: where the files go.

    Returns:
        Rows without labels, and in words why the other tracks were left out.

    Raises:
        ClipError: no track is usable; the words say why.
        PipelineError: the file cannot be read.
    """
    cfg, params = cast(CropParams, ctx.cfg), cast(FootageParams, ctx.params["footage"])
    footage = open_footage(path)
    faces = find_faces(footage, finder, params, clip)
    usable: list[tuple[Lane, boxes.Track]] = []
    refused: list[str] = []
    for lane in faces.lanes:
        for track in split_lane(lane, max_gap_frames=cfg.max_gap_frames, max_jump_share=cfg.max_jump_share):
            why = why_not(lane, track, cfg)
            usable.extend([(lane, track)] if not why else [])
            refused.extend([why] if why else [])
    if not usable:
        raise ClipError("; ".join(refused) or f"no face found in any of {faces.n_frames} frames", rejected=True)
    usable.sort(key=lambda one: one[1].start)
    scratch = folder / ".sound"
    sound = read_footage_sound(sidecar or path, faces.n_frames, scratch, None if sidecar else footage.zero_s)
    comment = f"{media.probe(path).metadata.get('comment', '')} Cropped to the face by FlowVQTalker's step crop.".strip()
    found_frames = int(sum(lane.found.present.sum() for lane in faces.lanes))
    about = {"source_frames": faces.n_frames, "source_face_frames": found_frames, "shots": len(faces.cuts) + 1}
    rows = []
    for number, (lane, track) in enumerate(usable):
        name = clip if len(usable) == 1 and track.start == 0 else f"{clip}_{number}_{track.start}"
        row = crop_face_track(name, lane, track, faces, sound, comment, ctx, folder)
        if row["blur"] < params.min_sharpness:
            for column in ("video", "sound", "landmarks"):
                if row[column]:
                    (folder / row[column]).unlink()
            refused.append(
                f"frames {track.start} to {track.stop - 1}: the face is out of focus, sharpness {row['blur']:.1f} is below footage.min_sharpness "
                f"{params.min_sharpness:g}"
            )
            continue
        rows.append(about | row)
    del sound
    scratch.unlink(missing_ok=True)
    if not rows:
        raise ClipError("; ".join(refused), rejected=True)
    return rows, refused


def why_not(lane: Lane, track: boxes.Track, cfg: CropParams) -> str:
    """In words why a track cannot be used; "" when it can."""
    points = lane.found.landmarks_px[track.start : track.stop]
    size = float(np.nanmedian(boxes.extent_of(points)[1]))
    present = float(lane.found.present[track.start : track.stop].mean())
    where = f"frames {track.start} to {track.stop - 1}"
    if len(track) < cfg.min_frames:
        return f"{where}: the face stays for {len(track)} frames only, fewer than crop.min_frames {cfg.min_frames}"
    if size < cfg.min_face_px:
        return f"{where}: the face is {size:.0f} px, smaller than crop.min_face_px {cfg.min_face_px:g}"
    if present < cfg.min_present_share:
        return f"{where}: a face in {present:.0%} of the frames, less than crop.min_present_share {cfg.min_present_share:g}"
    return ""


def place_boxes(points: np.ndarray, cfg: CropParams, params: FootageParams) -> tuple[np.ndarray, bool]:
    """Boxes of a track (T, 4) float64 and whether they move: one square for all frames unless the face wanders too far for it."""
    fixed = boxes.static_box(points, scale=cfg.scale, shift_up_share=cfg.shift_up_share)
    own = cfg.scale * float(np.nanpercentile(boxes.extent_of(points)[1], 95))
    if fixed[2] - fixed[0] <= params.wander_ratio * own:
        return np.repeat(np.array(fixed, np.float64)[None], len(points), axis=0), False
    follow = moving.moving_boxes(points, scale=cfg.scale, shift_up_share=cfg.shift_up_share, sd_frames=params.follow_sd_s * FPS_HZ)
    return follow, True


def crop_face_track(
    name: str, lane: Lane, track: boxes.Track, faces: FoundFaces, sound: np.ndarray | None, comment: str, ctx: Context, folder: Path
) -> dict[str, Any]:  # fmt: skip
    """Write mp4, wav and npz of one track; its part of the row."""
    cfg, params = cast(CropParams, ctx.cfg), cast(FootageParams, ctx.params["footage"])
    part = slice(track.start, track.stop)
    points, found = lane.found.landmarks_px[part], lane.found
    places, follows = place_boxes(points, cfg, params)
    sharp: list[float] = []
    light: list[float] = []
    every = max(1, len(track) // LOOKED_AT)

    def crops() -> Iterator[np.ndarray]:
        done = 0
        for piece in faces.pieces():
            low, high = max(track.start - done, 0), min(track.stop - done, len(piece))
            if low < high:
                here = places[done + low - track.start : done + high - track.start]
                if follows:
                    cut = moving.crop_moving(piece[low:high], here, cfg.size_px)
                else:
                    cut = boxes.crop_frames(
                        piece[low:high], (int(here[0, 0]), int(here[0, 1]), int(here[0, 2]), int(here[0, 3])), cfg.size_px
                    )
                looked = cut[-(done + low - track.start) % every :: every]
                sharp.extend(quality.sharpness(looked).tolist())
                light.extend(_brightness(looked))
                yield from cut
            done += len(piece)
            if done >= track.stop:
                return

    media.write_video(folder / f"{name}.mp4", crops(), crf=cfg.crf, metadata={"comment": comment})
    smooth = boxes.smooth_landmarks(points, cast(LandmarksParams, ctx.params["landmarks"]).smooth_sd_frames)
    in_crop = moving.to_moving_crop(smooth, places, cfg.size_px).astype(np.float32)
    arrays = {"landmarks_px": in_crop, "box": places if follows else places[0].astype(np.int64), "present": found.present[part]}
    if found.blendshapes is not None:
        arrays["blendshapes"] = found.blendshapes[part]
    if found.points478 is not None:
        arrays["points478"] = moving.to_moving_crop(found.points478[part], places, cfg.size_px).astype(np.float32)
    write_npz(folder / f"{name}.npz", arrays)
    row: dict[str, Any] = {
        "clip": name,
        "video": f"{name}.mp4",
        "sound": f"{name}.wav" if sound is not None else "",
        "landmarks": f"{name}.npz",
        "n_frames": len(track),
        "start_frame": track.start,
        "face_share": min(1.0, float(np.nanmedian(quality.face_share(in_crop, cfg.size_px)))),
        "blur": round(float(np.median(sharp)), 3),
        "yaw_deg": round(float(np.nanmedian(quality.yaw_deg(in_crop))), 2),
        "audio_status": "none",
        "face_px": round(float(np.nanmedian(boxes.extent_of(points)[1])), 1),
        "present_share": round(float(found.present[part].mean()), 4),
        "brightness": round(float(np.median(light)), 1),
        "upscaled": round(cfg.size_px / float(places[0, 2] - places[0, 0]), 3),
        "faces_seen": int(faces.faces_seen[part].max(initial=0)),
        "box_follows": "yes" if follows else "no",
    }
    if sound is not None:
        samples = sound[track.start * SAMPLES_PER_FRAME : track.stop * SAMPLES_PER_FRAME]
        write_footage_sound(folder / f"{name}.wav", samples)
        level = sound_level(samples)
        row["audio_status"] = "ok" if level.loudest_db > cfg.silent_db else "silent"
        row["sound_db"] = round(max(level.loudest_db, -200.0), 1)
        row["sound_clipped_share"] = round(level.clipped_share, 5)
    return row | {"flags": "+".join(flags_of(row, params.flags))}


def _brightness(crops: np.ndarray) -> list[float]:
    """Median luminance of the middle of each crop (T, S, S, 3), where the face is [grey levels]."""
    quarter = crops.shape[1] // 4
    middle = crops[:, quarter:-quarter, quarter:-quarter].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.median(middle, axis=(1, 2)).tolist() if len(crops) else []


def flags_of(row: dict[str, Any], limits: FlagParams) -> list[str]:
    """What is doubtful about a crop, in single words."""
    doubts = {
        "blurred": row["blur"] < limits.blurred_below,
        "upscaled": row["upscaled"] > limits.upscaled_above,
        "turned": abs(row["yaw_deg"]) > limits.turned_above_deg,
        "dark": row["brightness"] < limits.dark_below,
        "bright": row["brightness"] > limits.bright_above,
        "patchy": row["present_share"] < limits.patchy_below,
        "several_faces": row["faces_seen"] > 1,
        "follows": row["box_follows"] == "yes",
        "no_sound": row["audio_status"] == "none",
        "silent": row["audio_status"] == "silent",
        "clipped": row.get("sound_clipped_share", 0.0) > limits.clipped_above,
    }
    return [word for word, doubtful in doubts.items() if doubtful]
