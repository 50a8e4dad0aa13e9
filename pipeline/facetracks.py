"""The faces of a recording: what is there, whose landmarks are taken, and where the tracks begin and end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.landmarks import boxes, faces, shots
from flowvqtalker.landmarks.schema import Detections
from pipeline.footage import Footage, iterate_footage
from pipeline.params.footage import FootageParams

log = logging.getLogger(__name__)

#: Decoded pictures up to this size are kept between finding the face and cutting it out; longer recordings are decoded again.
KEEP_BYTES = 200_000_000
#: A face not seen for so many searches is a new one when it comes back.
LOST_SEARCHES = 5
#: Frames between two searches of the whole picture in parts, where nothing was found in one go.
TILES_EVERY = FPS_HZ


@dataclass(frozen=True)
class Lane:
    """Landmarks of faces that never share a frame.

    Attributes:
        found: T frames; frames that stand still have no face.
        edges: first frames of runs that must not be joined (shots, another face), 0 and T included.
    """

    found: Detections
    edges: list[int]


@dataclass(frozen=True)
class FoundFaces:
    """What was found in a recording.

    Attributes:
        n_frames: T at 25 fps.
        lanes: one, or one for each face where every face is kept.
        cuts: first frames of the shots after the first.
        faces_seen: (T,) number of faces at the same time, as the searches tell.
        pieces: yields the recording's pictures again.
    """

    n_frames: int
    lanes: list[Lane]
    cuts: list[int]
    faces_seen: np.ndarray
    pieces: Callable[[], Iterator[np.ndarray]]


class _Search:
    """Looks for all faces every few frames while the pictures pass by, and notes what the later steps need."""

    def __init__(self, finder: faces.FaceFinder, params: FootageParams) -> None:
        self.finder, self.params = finder, params
        self.sightings: list[tuple[int, np.ndarray]] = []
        self.small: list[np.ndarray] = []
        self.fresh: list[np.ndarray] = []
        self.kept: list[np.ndarray] | None = []
        self.easy = True
        self.size = (0, 0)
        self._bytes = self._done = 0
        self._tiles_at = -(10**9)
        self._waiting: list[np.ndarray] = []
        self._found = finder.find_faces(self._feed(), params.max_faces)

    def _feed(self) -> Iterator[np.ndarray]:
        while self._waiting:
            yield self._waiting.pop()

    def _look(self, picture: np.ndarray) -> np.ndarray:
        self._waiting.append(picture)
        return next(self._found)

    def pass_by(self, footage: Footage) -> Iterator[np.ndarray]:
        """The pictures of the recording, looked at on their way."""
        for frames, fresh in iterate_footage(footage, FPS_HZ, self.params.max_hold_s):
            self.size = (frames.shape[2], frames.shape[1])
            self.small.append(shots.thumbnails(frames))
            self.fresh.append(fresh)
            if self.kept is not None:
                self._bytes += frames.nbytes
                self.kept = [*self.kept, frames] if self._bytes <= KEEP_BYTES else None
            for index in range(-self._done % self.params.look_every_frames, len(frames), self.params.look_every_frames):
                self.sightings.append((self._done + index, self._search(self._done + index, frames[index])))
            self._done += len(frames)
            yield frames
        self._found.close()  # type: ignore[attr-defined]  # a generator

    def _search(self, number: int, picture: np.ndarray) -> np.ndarray:
        found = self._look(picture)
        if len(found) > 1:
            self.easy = False
        everyone = self.params.faces in ("chosen", "all")
        last = next((boxes_ for frame, boxes_ in reversed(self.sightings) if len(boxes_) and number - frame <= TILES_EVERY), None)
        if len(found) == 0 and last is not None:
            near = []
            for box in last:
                x0, y0, x1, y1 = faces.widen(box, 1.5, *self.size)
                near.extend(self._look(np.ascontiguousarray(picture[y0:y1, x0:x1])) + np.array([x0, y0, x0, y0], np.float32))
            found = faces.distinct(np.array(near, np.float32).reshape(-1, 4))
            self.easy &= len(found) == 0
        if (len(found) == 0 or everyone) and number - self._tiles_at >= TILES_EVERY:
            self._tiles_at = number
            found = faces.distinct(np.concatenate([found, faces.search_tiles(self.finder, picture, self.params.max_faces)]))
            self.easy &= len(found) == 0 or (everyone and len(found) == 1)
        return found[: self.params.max_faces]


def find_faces(footage: Footage, finder: faces.FaceFinder, params: FootageParams, clip: str) -> FoundFaces:
    """Search a recording and take the landmarks of the wanted faces.

    Most recordings show one face, large, in one shot: their landmarks are taken in the same pass as the search. The others are passed once
    more for every lane, in the part of the picture where the face is.
    """
    search = _Search(finder, params)
    found = finder.detect_pieces(search.pass_by(footage))
    fresh = np.concatenate(search.fresh)
    count = len(fresh)
    kept = search.kept
    pieces: Callable[[], Iterator[np.ndarray]]
    if kept is not None:
        pieces = lambda: iter(kept)  # noqa: E731
    else:
        pieces = lambda: (frames for frames, _ in iterate_footage(footage, FPS_HZ, params.max_hold_s))  # noqa: E731
    cuts = shots.find_cuts(np.concatenate(search.small), min_change=params.cut_change)
    gap = LOST_SEARCHES * params.look_every_frames
    everyone = faces.link_faces(search.sightings, cuts, count, gap)
    seen = np.zeros(count, np.int64)
    for frame, boxes_ in search.sightings:
        seen[frame : frame + params.look_every_frames] = len(boxes_)
    rule = "persistent" if params.faces == "chosen" and clip not in params.chosen else params.faces
    width, height = search.size
    point = (params.chosen[clip][0] * width, params.chosen[clip][1] * height) if rule == "chosen" else None
    if search.easy and not cuts:
        lanes = [Lane(_without(found, ~fresh), [0, count])]
    else:
        chosen = faces.choose_paths(everyone, rule, point=point)
        lanes = [_follow(paths, everyone, finder, pieces, fresh) for paths in ([[path] for path in chosen] if rule == "all" else [chosen])]
        log.debug("%s: %d shot(s), %d face path(s), %d kept", footage.path, len(cuts) + 1, len(everyone), len(chosen))
    return FoundFaces(count, lanes, cuts, seen, pieces)


def _follow(
    paths: list[faces.FacePath], everyone: list[faces.FacePath], finder: faces.FaceFinder, pieces: Callable[[], Iterator[np.ndarray]], fresh: np.ndarray
) -> Lane:  # fmt: skip
    count = len(fresh)
    if not paths:
        nothing = Detections(np.full((count, 68, 2), np.nan, np.float32), np.zeros(count, np.float32))
        return Lane(nothing, [0, count])
    expected, segment, crowded = faces.lane_of(paths, everyone, count)
    found = finder.follow(pieces(), expected, segment, crowded)
    edges = sorted({0, count, *(int(frame) for frame in np.flatnonzero(np.diff(segment)) + 1)})
    return Lane(_without(found, ~fresh), edges)


def _without(found: Detections, frames: np.ndarray) -> Detections:
    """The same without faces in some frames (T,) bool."""
    if not frames.any():
        return found

    def blank(values: Any, by: float) -> Any:
        if values is None:
            return None
        return np.where(frames.reshape(-1, *[1] * (values.ndim - 1)), np.float32(by), values)

    return replace(
        found, landmarks_px=blank(found.landmarks_px, np.nan), score=blank(found.score, 0), blendshapes=blank(found.blendshapes, np.nan),
        points478=blank(found.points478, np.nan),
    )  # fmt: skip


def split_lane(lane: Lane, *, max_gap_frames: int, max_jump_share: float) -> list[boxes.Track]:
    """Tracks of a lane: ended by its edges, by long gaps and by jumps."""
    tracks = []
    for start, stop in zip(lane.edges[:-1], lane.edges[1:], strict=True):
        for track in boxes.split_tracks(lane.found.landmarks_px[start:stop], max_gap_frames=max_gap_frames, max_jump_share=max_jump_share):
            tracks.append(boxes.Track(start + track.start, start + track.stop))  # noqa: PERF401
    return tracks
