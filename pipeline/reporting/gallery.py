"""The video gallery: for each emotion a few test clips, the methods side by side in one short video with the real sound.

One video a clip keeps real and generated pictures in step, whatever the browser does.
"""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from flowvqtalker.constants import EMOTIONS, FPS_HZ, SAMPLE_RATE_HZ
from pipeline.media import read_sound, read_video_at, synthetic_metadata, write_video
from pipeline.params.report import ReportParams
from pipeline.reporting.results import Results

__all__ = ["GalleryClip", "choose_clips", "level_of", "make_gallery"]

REAL = "ground_truth"


@dataclass(frozen=True)
class GalleryClip:
    """One gallery video: the mp4's bytes, a JPEG of its middle frame, and which method is where, left to right."""

    clip: str
    emotion: str
    level: int
    identity: str
    methods: tuple[str, ...]
    mp4: bytes
    poster: bytes
    has_sound: bool


def choose_clips(results: Results, per_emotion: int) -> list[dict[str, Any]]:
    """Rows of the crop index to show, by emotion in the usual order (unlabelled last).

    Within an emotion strong levels come first and identities alternate; a clip qualifies when at least one method generated it.
    """
    if results.crops.empty:
        return []
    made = {clip for table in results.generated.values() for clip in table["clip"]}
    rows = [{str(name): value for name, value in row.items()} for row in results.crops.to_dict("records")]
    rows = sorted((row for row in rows if row["clip"] in made), key=lambda row: (-level_of(row), row["clip"]))
    turns: Counter[tuple[str, str]] = Counter()
    ranked = []
    for row in rows:
        person = (row["emotion"], row["identity"])
        ranked.append((turns[person], row))
        turns[person] += 1
    ranked.sort(key=lambda item: item[0])  # stable: within a turn strong levels stay first
    return [row for emotion in (*EMOTIONS, "") for row in [row for _, row in ranked if row["emotion"] == emotion][:per_emotion]]


def level_of(row: Mapping[str, Any]) -> int:
    """Level of an index row, 0 where there is none (the cell may be empty or NaN)."""
    level = row.get("level")
    return int(level) if isinstance(level, (int, float)) and level == level else 0


def make_gallery(results: Results, params: ReportParams, limit_bytes: int) -> tuple[list[GalleryClip], int]:
    """Encodes the gallery.

    Args:
        results: what `read_results` gives.
        params: sizes, methods and quality.
        limit_bytes: what all clips may add to the page; clips that do not fit are left out, later ones of an emotion first.

    Returns:
        Clips in page order, and how many were left out for size.
    """
    chosen = choose_clips(results, params.gallery_clips_per_emotion)
    rank: dict[str, int] = {}
    by_rank: list[tuple[int, int, dict]] = []
    for position, row in enumerate(chosen):
        rank[row["emotion"]] = rank.get(row["emotion"], -1) + 1
        by_rank.append((rank[row["emotion"]], position, row))
    kept: list[tuple[int, GalleryClip]] = []
    used, left_out = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for _, position, row in sorted(by_rank, key=lambda item: item[:2]):
            clip = _encode(results, row, params, Path(folder) / "clip.mp4")
            if clip is None:
                continue
            cost = _page_bytes(clip)
            if used + cost > limit_bytes:
                left_out += 1
                continue
            used += cost
            kept.append((position, clip))
    return [clip for _, clip in sorted(kept, key=lambda item: item[0])], left_out


def _page_bytes(clip: GalleryClip) -> int:
    """Upper bound of what a clip adds to the page: base64 of video and poster, and its markup."""
    texts = 4 * (len(clip.clip) + len(clip.identity) + len(clip.emotion)) + 60 * len(clip.methods)
    return 4 * (len(clip.mp4) // 3 + len(clip.poster) // 3 + 2) + texts + 800


def _encode(results: Results, row: dict, params: ReportParams, path: Path) -> GalleryClip | None:
    videos = {method: video for method in params.gallery_methods if (video := _video_path(results, row, method)) is not None}
    if not videos:
        return None
    length = round(params.gallery_seconds * FPS_HZ)
    strips = {method: _fit_height(read_video_at(video)[:length], params.gallery_height_px) for method, video in videos.items()}
    n_frames = len(strips[REAL]) if REAL in strips else max(len(strip) for strip in strips.values())
    sound = _sound(results, row, n_frames)
    frames = np.stack(list(_side_by_side(list(strips.values()), n_frames)))
    poster = io.BytesIO()
    Image.fromarray(frames[n_frames // 2]).save(poster, format="JPEG", quality=80)
    write_video(
        path,
        frames,
        sound=sound,
        crf=params.gallery_crf,
        metadata=synthetic_metadata(
            "the FlowVQTalker pipeline, report step",
            title=str(row["clip"]),
            description=f"Left to right: {', '.join(strips)}. Only {REAL} is a recording (or a rendered one, in the embedded corpus).",
        ),
    )
    return GalleryClip(
        str(row["clip"]),
        str(row["emotion"]),
        level_of(row),
        str(row["identity"]),
        tuple(strips),
        path.read_bytes(),
        poster.getvalue(),
        sound is not None,
    )


def _video_path(results: Results, row: dict, method: str) -> Path | None:
    if method == REAL:
        path = results.folders["crop"] / str(row["video"]) if row.get("video") else None
    else:
        table = results.generated.get(method, pd.DataFrame({"clip": []}))
        files = table.loc[table["clip"] == row["clip"], "video"].tolist() if len(table) else []
        path = results.folders["generate"] / str(files[0]) if files and files[0] else None
    return path if path is not None and path.is_file() else None


def _sound(results: Results, row: dict, n_frames: int) -> np.ndarray | None:
    path = results.folders["crop"] / str(row["sound"]) if row.get("sound") else None
    sound = read_sound(path) if path is not None and path.is_file() else None
    return None if sound is None else sound[: n_frames * SAMPLE_RATE_HZ // FPS_HZ]


def _fit_height(frames: np.ndarray, height: int) -> np.ndarray:
    """Frames (T, H, W, 3) no higher than `height`, even sides; smaller videos stay as they are."""
    _, h, w, _ = frames.shape
    if h <= height:
        return frames[:, : h - h % 2, : w - w % 2]
    width = max(2, round(w * height / h / 2) * 2)
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)) for frame in frames])


def _side_by_side(strips: list[np.ndarray], n_frames: int) -> Iterator[np.ndarray]:
    """Frames of all videos beside each other; a video that is too short rests on its last frame."""
    height = max(strip.shape[1] for strip in strips)
    for frame in range(n_frames):
        parts = [strip[min(frame, len(strip) - 1)] for strip in strips]
        yield np.concatenate([np.pad(part, ((0, height - part.shape[0]), (0, 0), (0, 0))) for part in parts], axis=1)
