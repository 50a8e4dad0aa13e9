"""Step `crop`: face tracks as square clips at 25 fps with 16 kHz sound and landmarks.

Reads data/corpus and models/landmarker; writes data/crop/{index.csv, clips/<clip>.mp4, .wav, .npz}. Landmarks are found in the
source's own frames and mapped into the crop. Stills become one npz per clip, each picture with its own box. The user's own recordings,
which may be anything, go through pipeline/footagecrop.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from flowvqtalker.constants import FPS_HZ, SAMPLES_PER_FRAME
from flowvqtalker.landmarks import boxes, quality
from flowvqtalker.landmarks.faces import FaceFinder
from flowvqtalker.landmarks.schema import Detections, Landmarker
from pipeline import media
from pipeline.adapters import resolve_source
from pipeline.backends import backend_checksums, make_landmarker
from pipeline.clipstage import ClipError, ClipStage, Item, main
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.footagecrop import crop_recording
from pipeline.io import read_index, read_npz, write_npz
from pipeline.params.corpus import CorpusParams
from pipeline.params.footage import FootageParams
from pipeline.params.landmarks import LandmarksParams

LABELS = ("source", "kind", "identity", "emotion", "level", "sentence", "take", "split", "uses", "role")
#: Decoded videos up to this size are kept in memory between finding the face and cutting it out; longer ones are decoded twice.
KEEP_BYTES = 200_000_000
#: Frames looked at for the column `blur`.
BLUR_FRAMES = 12


def params_of(ctx: Context) -> tuple[LandmarksParams, CorpusParams]:
    """The two shared sections that this step depends on."""
    return cast(LandmarksParams, ctx.params["landmarks"]), cast(CorpusParams, ctx.params["corpus"])


def make_items(ctx: Context) -> list[Item]:
    """One item per usable clip of the corpus."""
    table = read_index(ctx.reads["corpus"], "corpus")
    landmarks, corpus = params_of(ctx)
    folders = [source.name for source in corpus.sources if source.adapter != "synthetic"]
    if landmarks.backend == "trained" and folders:
        raise PipelineError(
            f"landmarks.backend 'trained' knows the embedded corpus only, and source '{folders[0]}' is a folder of videos",
            "set landmarks.backend to mediapipe or face_alignment",
        )
    weights = backend_checksums(landmarks, ctx.model_folder("landmarker"))
    return [Item(row["clip"], (str(row["sha256"]), *weights), row) for row in table.to_dict("records") if row["status"] == "ok"]


def load_models(ctx: Context) -> Landmarker:
    """The landmark back end."""
    footage = cast(FootageParams, ctx.params["footage"])
    return make_landmarker(params_of(ctx)[0], ctx.model_folder("landmarker"), footage.look_every_frames)


def crop_clip(item: Item, loaded: Landmarker, ctx: Context, folder: Path) -> list[dict[str, Any]]:
    """Rows and files of one clip."""
    row, corpus = item.row, params_of(ctx)[1]
    labels = {name: row[name] for name in LABELS} | {"source_clip": item.clip, "source_sha256": row["sha256"], "size_px": ctx.cfg.size_px}
    root = ctx.reads["corpus"].parent
    if row["kind"] == "stills":
        return [labels | crop_stills(item.clip, read_npz(root / row["file"]), loaded, ctx.cfg, folder)]
    path = resolve_source(corpus, row["file"], root)
    sidecar = resolve_source(corpus, row["sidecar"], root) if row["sidecar"] else None
    if ":" in row["file"]:  # a source of the user's
        made, refused = crop_recording(item.clip, path, sidecar, cast(FaceFinder, loaded), ctx, folder)
        return [labels | {**one, "reason": "; ".join(refused)} for one in made]
    pieces = open_pieces(path)
    found = loaded.detect_pieces(pieces())
    count = len(found.score)
    tracks, refused = usable_tracks(found, count, ctx.cfg)
    if not tracks:
        raise ClipError(refused[0], rejected=True)
    if refused:
        ctx.log.info("%s: left out: %s", item.clip, "; ".join(refused))
    sound = media.read_sound(sidecar or path, n_frames=count)
    rows = []
    for number, track in enumerate(tracks):
        clip = item.clip if len(tracks) == 1 and track.start == 0 else f"{item.clip}_{number}_{track.start}"
        comment = f"{media.probe(path).metadata.get('comment', '')} Cropped to the face by FlowVQTalker's step crop.".strip()
        rows.append(labels | crop_track(clip, track, found, pieces, sound, comment, ctx, folder) | {"reason": "; ".join(refused)})
    return rows


def open_pieces(path: Path) -> Callable[[], Iterator[np.ndarray]]:
    """A function that yields the video at 25 fps in pieces, as often as needed; a short video is decoded only once."""
    kept: list[np.ndarray] = []
    size = 0
    for piece in media.iterate_video_at(path, FPS_HZ):
        kept.append(piece)
        size += piece.nbytes
        if size > KEEP_BYTES:
            return lambda: media.iterate_video_at(path, FPS_HZ)
    return lambda: iter(kept)


def usable_tracks(found: Detections, count: int, cfg: Any) -> tuple[list[boxes.Track], list[str]]:
    """Tracks that are long and large enough, and in words why the others are not (or why there is none)."""
    tracks = boxes.split_tracks(found.landmarks_px, max_gap_frames=cfg.max_gap_frames, max_jump_share=cfg.max_jump_share)
    usable, refused = [], []
    for track in tracks:
        points = found.landmarks_px[track.start : track.stop]
        size = float(np.nanmedian(boxes.extent_of(points)[1]))
        present = float(found.present[track.start : track.stop].mean())
        where = f"frames {track.start} to {track.stop - 1}"
        if len(track) < cfg.min_frames:
            refused.append(f"{where}: the face stays for {len(track)} frames only, fewer than crop.min_frames {cfg.min_frames}")
        elif size < cfg.min_face_px:
            refused.append(f"{where}: the face is {size:.0f} px, smaller than crop.min_face_px {cfg.min_face_px:g}")
        elif present < cfg.min_present_share:
            refused.append(f"{where}: a face in {present:.0%} of the frames, less than crop.min_present_share {cfg.min_present_share:g}")
        else:
            usable.append(track)
    return usable, refused or ([] if tracks else [f"no face found in any of {count} frames"])


def crop_track(
    clip: str, track: boxes.Track, found: Detections, pieces: Callable[[], Iterator[np.ndarray]], sound: np.ndarray | None, comment: str, ctx: Context, folder: Path
) -> dict[str, Any]:  # fmt: skip
    """Write mp4, wav and npz of one track; its part of the row."""
    cfg = ctx.cfg
    part = slice(track.start, track.stop)
    points = found.landmarks_px[part]
    box = boxes.static_box(points, scale=cfg.scale, shift_up_share=cfg.shift_up_share)
    sharp: list[float] = []
    every = max(1, len(track) // BLUR_FRAMES)

    def crops() -> Iterator[np.ndarray]:
        done = 0
        for piece in pieces():
            low, high = max(track.start - done, 0), min(track.stop - done, len(piece))
            if low < high:
                cut = boxes.crop_frames(piece[low:high], box, cfg.size_px)
                sharp.extend(quality.sharpness(cut[::every]).tolist())
                yield from cut
            done += len(piece)

    media.write_video(folder / f"{clip}.mp4", crops(), crf=cfg.crf, metadata={"comment": comment})
    smooth = boxes.smooth_landmarks(points, params_of(ctx)[0].smooth_sd_frames)
    in_crop = boxes.to_crop(smooth, box, cfg.size_px).astype(np.float32)
    arrays = {"landmarks_px": in_crop, "box": np.array(box, np.int64), "present": found.present[part]}
    if found.blendshapes is not None:
        arrays["blendshapes"] = found.blendshapes[part]
    if found.points478 is not None:
        arrays["points478"] = boxes.to_crop(found.points478[part], box, cfg.size_px).astype(np.float32)
    write_npz(folder / f"{clip}.npz", arrays)
    status = "none"
    if sound is not None:
        samples = sound[track.start * SAMPLES_PER_FRAME : track.stop * SAMPLES_PER_FRAME]
        media.write_sound(folder / f"{clip}.wav", samples)
        status = "ok" if loudest_db(samples) > cfg.silent_db else "silent"
    return {
        "clip": clip,
        "video": f"{clip}.mp4",
        "sound": f"{clip}.wav" if sound is not None else "",
        "landmarks": f"{clip}.npz",
        "n_frames": len(track),
        "start_frame": track.start,
        "face_share": min(1.0, float(np.nanmedian(quality.face_share(in_crop, cfg.size_px)))),
        "blur": round(float(np.median(sharp)), 3),
        "yaw_deg": round(float(np.nanmedian(quality.yaw_deg(in_crop))), 2),
        "audio_status": status,
    }


def loudest_db(samples: np.ndarray) -> float:
    """Level of the loudest 40 ms [dB of full scale]; -inf for digital silence."""
    frames = samples[: len(samples) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME)
    rms = float(np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1)).max(initial=0.0))
    return 20 * np.log10(rms) if rms > 0 else -np.inf


def crop_stills(clip: str, truth: dict[str, np.ndarray], loaded: Landmarker, cfg: Any, folder: Path) -> dict[str, Any]:
    """Write the npz of a clip of stills; its part of the row. Pictures without a face are left out."""
    frames = truth["frames"]
    found = loaded.detect(frames, video=False)
    seen = np.flatnonzero(found.present)
    if len(seen) == 0:
        raise ClipError(f"no face found in any of {len(frames)} pictures", rejected=True)
    crops, points, places = [], [], []
    for index in seen:
        box = boxes.static_box(found.landmarks_px[index : index + 1], scale=cfg.scale, shift_up_share=cfg.shift_up_share)
        crops.append(boxes.crop_frames(frames[index : index + 1], box, cfg.size_px)[0])
        points.append(boxes.to_crop(found.landmarks_px[index], box, cfg.size_px).astype(np.float32))
        places.append(box)
    pictures, in_crop = np.stack(crops), np.stack(points)
    arrays = {"frames": pictures, "landmarks_px": in_crop, "box": np.array(places, np.int64), "present": np.ones(len(seen), bool)}
    write_npz(folder / f"{clip}.npz", arrays | {name: truth[name][seen] for name in ("emotion", "intensity")})
    return {
        "clip": clip,
        "landmarks": f"{clip}.npz",
        "n_frames": len(seen),
        "start_frame": 0,
        "face_share": min(1.0, float(np.median(quality.face_share(in_crop, cfg.size_px)))),
        "blur": round(float(np.median(quality.sharpness(pictures))), 3),
        "yaw_deg": round(float(np.median(quality.yaw_deg(in_crop))), 2),
        "audio_status": "none",
        "reason": "" if len(seen) == len(frames) else f"{len(frames) - len(seen)} of {len(frames)} pictures without a face left out",
    }


STAGE = ClipStage(name="crop", items=make_items, setup=load_models, process=crop_clip)

if __name__ == "__main__":
    main(STAGE)
