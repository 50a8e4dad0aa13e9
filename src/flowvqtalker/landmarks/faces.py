"""Which face is whose, from a few looked-at frames: search in parts of the picture, paths of faces through a shot, and the choice among them.

A face is a box ``(x0, y0, x1, y1)`` in pixel edges around its 68 landmarks. Frames between two sightings get the box in between.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from flowvqtalker.landmarks.schema import Detections, Landmarker

#: Sides of the search squares over the shorter side of the picture, and their overlap. A detector of 128 px input that finds faces from
#: about a tenth of its input on so finds faces down to about 4 % of the shorter side.
TILE_SIDES = (1.0, 0.45)
TILE_OVERLAP = 0.4
#: Two boxes that share more than this of their union, or of the smaller one, are the same face.
SAME_FACE_SHARE = 0.35


class FaceFinder(Landmarker, Protocol):
    """A landmark back end that also tells all faces of a picture and follows one of several."""

    def find_faces(self, pictures: Iterable[np.ndarray], max_faces: int) -> Iterator[np.ndarray]:
        """Boxes of the faces in unrelated pictures.

        Args:
            pictures: (H, W, 3) uint8 RGB each, of any sizes.
            max_faces: at most as many are told.

        Yields:
            (n, 4) float32 boxes of each picture, the back end's surest first.
        """
        ...

    def follow(self, pieces: Iterable[np.ndarray], boxes: np.ndarray, segment: np.ndarray, crowded: np.ndarray) -> Detections:
        """Landmarks of one face in every frame of a video that comes in pieces.

        Args:
            pieces: (n, H, W, 3) uint8 RGB each, consecutive, at 25 fps.
            boxes: (T, 4) where the face is expected [px]; NaN: do not look.
            segment: (T,) int, frames of one number belong together (a shot); -1 where there is nothing to look for.
            crowded: (T,) bool, whether other faces are near.
        """
        ...


def box_of(points: np.ndarray) -> np.ndarray:
    """(..., L, 2) px -> (..., 4) box around the points."""
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1).astype(np.float32)


def centre_of(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) -> (..., 2)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def size_of(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) -> (...,) the larger of width and height."""
    return (boxes[..., 2:] - boxes[..., :2]).max(axis=-1)


def widen(box: np.ndarray, by_share: float, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole-pixel box larger by ``by_share`` of its size on every side, within the picture."""
    by = by_share * float(size_of(box))
    x0, y0 = max(0, int(np.floor(box[0] - by))), max(0, int(np.floor(box[1] - by)))
    return x0, y0, max(x0 + 1, min(width, int(np.ceil(box[2] + by)))), max(y0 + 1, min(height, int(np.ceil(box[3] + by))))


def tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Overlapping squares that cover a picture, large ones first: where to look for faces too small for the whole picture.

    >>> tiles(100, 100)[0]
    (0, 0, 100, 100)
    """
    found = []
    for share in TILE_SIDES:
        side = max(16, round(share * min(width, height)))
        if side > min(width, height):
            continue
        for y in _starts(height, side):
            found.extend((x, y, x + side, y + side) for x in _starts(width, side))
    return found


def _starts(length: int, side: int) -> list[int]:
    count = 1 + int(np.ceil((length - side) / (side * (1 - TILE_OVERLAP)))) if length > side else 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def overlap_share(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Shared area of a box (4,) with others (n, 4) over the area of the smaller; (n,) in [0, 1]."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=-1)
    areas = np.minimum((box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=-1))
    return shared / np.maximum(areas, 1e-6)


def distinct(boxes: np.ndarray) -> np.ndarray:
    """(n, 4) boxes without those that cover a face named before."""
    kept: list[np.ndarray] = []
    for box in boxes:
        if not kept or overlap_share(box, np.stack(kept)).max() <= SAME_FACE_SHARE:
            kept.append(box)
    return np.stack(kept) if kept else np.zeros((0, 4), np.float32)


@dataclass
class FacePath:
    """One face through one shot.

    Attributes:
        shot: number of the shot.
        frames: looked-at frames in which it was seen, rising.
        boxes: its box in each of them.
        first, last: frames in which it may be: the shot's, cut where another sighting says that it was not there yet or any more.
    """

    shot: int
    frames: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    first: int = 0
    last: int = 0

    @property
    def weight(self) -> float:
        """Size times sightings: a large face for long."""
        return float(size_of(np.stack(self.boxes)).sum())

    @property
    def size_px(self) -> float:
        return float(np.median(size_of(np.stack(self.boxes))))

    def box_at(self, frames: np.ndarray) -> np.ndarray:
        """(n, 4) box at any frames, in between and beyond its sightings."""
        boxes = np.stack(self.boxes)
        return np.stack([np.interp(frames, self.frames, boxes[:, side]) for side in range(4)], axis=-1)


def link_faces(sightings: list[tuple[int, np.ndarray]], cuts: list[int], n_frames: int, max_gap_frames: int) -> list[FacePath]:
    """Paths of faces through the shots of a video.

    Args:
        sightings: (frame, boxes (n, 4)) of the looked-at frames, rising, also of those without a face.
        cuts: first frames of the shots after the first.
        n_frames: frames of the video.
        max_gap_frames: a face that is not seen for longer is a new path when it comes back.

    Returns:
        Paths by first frame. A face belongs to the path whose last box is nearest, if nearer than its size and of at most twice or half
        its size.
    """
    edges = [0, *cuts, n_frames]
    done: list[FacePath] = []
    for shot, (start, stop) in enumerate(itertools.pairwise(edges)):
        here = [(frame, boxes) for frame, boxes in sightings if start <= frame < stop]
        paths: list[FacePath] = []
        for frame, boxes in here:
            open_paths = [path for path in paths if frame - path.frames[-1] <= max_gap_frames]
            pairs = sorted(
                (float(np.linalg.norm(centre_of(box) - centre_of(path.boxes[-1])) / size_of(path.boxes[-1])), k, i)
                for k, path in enumerate(open_paths)
                for i, box in enumerate(boxes)
                if 0.5 <= size_of(box) / max(size_of(path.boxes[-1]), 1e-6) <= 2
            )
            used_path, used_box = set(), set()
            for distance, k, i in pairs:
                # far apart in time it may have moved further
                if distance > min(2.0, 0.5 + 0.1 * (frame - open_paths[k].frames[-1])) or k in used_path or i in used_box:
                    continue
                used_path.add(k)
                used_box.add(i)
                open_paths[k].frames.append(frame)
                open_paths[k].boxes.append(boxes[i])
            paths.extend(FacePath(shot, [frame], [box]) for i, box in enumerate(boxes) if i not in used_box)
        looked = [frame for frame, _ in here]
        for path in paths:
            before = [frame for frame in looked if frame < path.frames[0]]
            after = [frame for frame in looked if frame > path.frames[-1]]
            path.first = before[-1] + 1 if before else start
            path.last = after[0] - 1 if after else stop - 1
        done.extend(paths)
    return sorted(done, key=lambda path: (path.first, -path.weight))


def choose_paths(paths: list[FacePath], rule: str, *, point: tuple[float, float] | None = None) -> list[FacePath]:
    """The faces to keep.

    Args:
        paths: faces of a video.
        rule: "largest": of faces that are there at the same time the largest; "persistent": the one with the largest size times
            sightings; "chosen": the one nearest to ``point``; "all": every face.
        point: (u, v) px; needed by "chosen".

    Returns:
        Paths that never share a frame, unless the rule is "all".
    """
    if rule == "all":
        return list(paths)
    if rule == "chosen":
        if point is None:
            raise ValueError("rule 'chosen' needs a point")
        place = np.array(point)
        order = sorted(paths, key=lambda path: float(np.median(np.linalg.norm(centre_of(np.stack(path.boxes)) - place, axis=-1))))
    elif rule == "largest":
        order = sorted(paths, key=lambda path: -path.size_px)
    elif rule == "persistent":
        order = sorted(paths, key=lambda path: -path.weight)
    else:
        raise ValueError(f"rule: expected largest, persistent, chosen or all, got {rule!r}")
    kept: list[FacePath] = []
    for path in order:
        if all(path.frames[-1] < other.frames[0] or path.frames[0] > other.frames[-1] for other in kept):
            kept.append(path)
    kept.sort(key=lambda path: path.frames[0])
    for one, two in itertools.pairwise(kept):  # in the frames between two sightings the earlier face may still be there
        one.last = min(one.last, two.frames[0] - 1)
        two.first = max(two.first, one.last + 1)
    return kept


def lane_of(paths: list[FacePath], everyone: list[FacePath], n_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ``FaceFinder.follow`` needs for faces that never share a frame.

    Args:
        paths: faces to follow.
        everyone: all faces of the video.
        n_frames: T.

    Returns:
        boxes (T, 4) float64, NaN where no face is expected; segment (T,) int64; crowded (T,) bool.
    """
    boxes, segment, crowded = np.full((n_frames, 4), np.nan), np.full(n_frames, -1, np.int64), np.zeros(n_frames, bool)
    for number, path in enumerate(paths):
        frames = np.arange(path.first, path.last + 1)
        boxes[frames], segment[frames] = path.box_at(frames), number
        for other in everyone:
            if other is path:
                continue
            both = np.arange(max(path.first, other.first), min(path.last, other.last) + 1)
            if len(both):
                near = np.linalg.norm(centre_of(path.box_at(both)) - centre_of(other.box_at(both)), axis=-1)
                crowded[both] |= near < 2 * (size_of(path.box_at(both)) + size_of(other.box_at(both)))
    return boxes, segment, crowded


def windows_of(
    boxes: np.ndarray, segment: np.ndarray, width: int, height: int, *, margin_share: float = 0.75, max_ratio: float = 4.0
) -> list[tuple[int, int, tuple[int, int, int, int]]]:  # fmt: skip
    """Parts of the picture to look at, each over a run of frames.

    Args:
        boxes: (T, 4) expected boxes.
        segment: (T,) runs that belong together.
        width: of the picture [px].
        height: of the picture [px].
        margin_share: room around the union of the boxes, as a share of the union's size.
        max_ratio: where the union is larger than this times the face, the run is halved (down to a second).

    Returns:
        (start, stop, part) with part = (x0, y0, x1, y1); the whole picture where the part would be most of it anyway.
    """
    found: list[tuple[int, int, tuple[int, int, int, int]]] = []

    def add(start: int, stop: int) -> None:
        here = boxes[start:stop]
        union = np.concatenate([here[:, :2].min(axis=0), here[:, 2:].max(axis=0)])
        face = float(np.median(size_of(here)))
        if size_of(union) > max_ratio * face and stop - start > 50:
            middle = (start + stop) // 2
            add(start, middle)
            add(middle, stop)
            return
        centre, half = centre_of(union), float(size_of(union)) / 2
        part = widen(np.concatenate([centre - half, centre + half]), margin_share * face / max(float(2 * half), 1e-6), width, height)
        most = (part[2] - part[0]) * (part[3] - part[1]) > 0.6 * width * height
        found.append((start, stop, (0, 0, width, height) if most else part))

    edges = np.flatnonzero(np.diff(segment, prepend=-2, append=-2))
    for start, stop in itertools.pairwise(edges):
        if segment[start] >= 0:
            add(int(start), int(stop))
    return found


def nearest_to(box: np.ndarray, faces: np.ndarray, max_share: float = 0.75) -> int | None:
    """Which of the faces (n, 4) is at the expected box, None when none is within ``max_share`` of its size."""
    if len(faces) == 0:
        return None
    away = np.linalg.norm(centre_of(faces) - centre_of(box), axis=-1) / max(float(size_of(box)), 1e-6)
    best = int(away.argmin())
    return best if away[best] <= max_share else None


def search_tiles(finder: FaceFinder, picture: np.ndarray, max_faces: int) -> np.ndarray:
    """(n, 4) boxes of faces too small to be seen in the whole picture, found part by part; the largest first."""
    height, width = picture.shape[:2]
    parts = tiles(width, height)
    views = (picture[y0:y1, x0:x1] for x0, y0, x1, y1 in parts)
    found = [
        boxes + np.array([x0, y0, x0, y0], np.float32)
        for (x0, y0, _, _), boxes in zip(parts, finder.find_faces(views, max_faces), strict=True)
    ]
    every = np.concatenate(found)
    return distinct(every[np.argsort(-size_of(every), kind="stable")])[:max_faces]
