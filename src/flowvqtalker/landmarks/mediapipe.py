"""MediaPipe Face Landmarker as a back end: 478 points and 52 blendshapes.

Source: MediaPipe Tasks, Face Landmarker (https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker). The blendshapes are ARKit's names.
The only module that imports mediapipe.
"""

from __future__ import annotations

import io
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.constants import FPS_HZ
from flowvqtalker.face.expressions import BLENDSHAPES
from flowvqtalker.landmarks.faces import box_of, distinct, nearest_to, windows_of
from flowvqtalker.landmarks.schema import Detections, check_frames, join_detections

#: Which of the 478 points stands for each of the 68. The jaw is the mesh's face contour; inner lips and lids are its rings.
MESH_OF_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)

N_POINTS = 478
#: Faces asked for where others are near the one that is followed.
CROWD = 4


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Silence the C++ library's own lines on file descriptor 2; Python's errors still travel as exceptions."""
    sys.stderr.flush()
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


class MediapipeLandmarker:
    """Face Landmarker in VIDEO mode: a new tracker per video, closed after it.

    Args:
        model: content of ``face_landmarker.task``.
        min_score: detection, presence and tracking confidence below which there is no face, [0, 1].

    Raises:
        MissingWeightsError: the bytes are not a task bundle.
    """

    def __init__(self, model: bytes, *, min_score: float = 0.5) -> None:
        if not zipfile.is_zipfile(io.BytesIO(model)):  # what a task bundle is
            raise MissingWeightsError("face_landmarker.task is not a MediaPipe task bundle")
        self._model = model
        self._min_score = min_score

    def detect(self, frames: np.ndarray, *, video: bool = True) -> Detections:
        """See ``schema.Landmarker.detect``."""
        return self._run([frames], video)

    def detect_pieces(self, pieces: Iterable[np.ndarray]) -> Detections:
        """See ``schema.Landmarker.detect_pieces``."""
        return self._run(pieces, True)

    def find_faces(self, pictures: Iterable[np.ndarray], max_faces: int) -> Iterator[np.ndarray]:
        """See ``faces.FaceFinder.find_faces``."""
        with _quiet_stderr():
            finder = self._open(video=False, faces=max_faces)
        try:
            for picture in pictures:
                with _quiet_stderr():
                    found = _collect_all(finder.detect(_image(picture)), *picture.shape[:2])
                yield distinct(box_of(found)) if len(found) else np.zeros((0, 4), np.float32)
        finally:
            with _quiet_stderr():
                finder.close()

    def follow(self, pieces: Iterable[np.ndarray], boxes: np.ndarray, segment: np.ndarray, crowded: np.ndarray) -> Detections:
        """See ``faces.FaceFinder.follow``; the tracker starts afresh in every part of the picture."""
        found: list[Detections] = []
        windows: list[tuple[int, int, tuple[int, int, int, int]]] | None = None
        finder: Any = None
        current, done = -1, 0
        try:
            for frames in pieces:
                check_frames(frames)
                height, width = frames.shape[1:3]
                if windows is None:
                    windows = windows_of(boxes, segment, width, height)
                part = _empty(len(frames))
                for index, frame in enumerate(frames):
                    now = done + index
                    number = next((k for k, (start, stop, _) in enumerate(windows) if start <= now < stop), -1)
                    if number < 0:
                        continue
                    start, stop, (x0, y0, x1, y1) = windows[number]
                    alone = not crowded[start:stop].any()
                    with _quiet_stderr():
                        if number != current:
                            if finder is not None:
                                finder.close()
                            finder, current = self._open(video=True, faces=1 if alone else CROWD), number
                        result = finder.detect_for_video(_image(frame[y0:y1, x0:x1]), round((now - start) * 1000 / FPS_HZ))
                    points = _collect_all(result, y1 - y0, x1 - x0) + np.array([x0, y0], np.float32)
                    which = (0 if len(points) else None) if alone else nearest_to(boxes[now], box_of(points)) if len(points) else None
                    if which is not None:
                        _put(part, index, points[which], result.face_blendshapes[which])
                found.append(part)
                done += len(frames)
        finally:
            if finder is not None:
                with _quiet_stderr():
                    finder.close()
        return join_detections(found)

    def _open(self, *, video: bool, faces: int) -> Any:
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=self._model),
            running_mode=vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE,
            num_faces=faces,
            min_face_detection_confidence=self._min_score,
            min_face_presence_confidence=self._min_score,
            min_tracking_confidence=self._min_score,
            output_face_blendshapes=True,
        )
        return vision.FaceLandmarker.create_from_options(options)

    def _run(self, pieces: Iterable[np.ndarray], video: bool) -> Detections:
        with _quiet_stderr():
            finder = self._open(video=video, faces=1)

            def look(picture: Any, index: int) -> Any:
                return finder.detect_for_video(picture, round(index * 1000 / FPS_HZ)) if video else finder.detect(picture)

            try:
                parts: list[Detections] = []
                done = 0
                for frames in pieces:
                    check_frames(frames)
                    pictures = (_image(frame) for frame in frames)
                    parts.append(_collect([look(picture, done + index) for index, picture in enumerate(pictures)], *frames.shape[1:3]))
                    done += len(frames)
            finally:
                finder.close()
        return join_detections(parts)


def _image(frame: np.ndarray) -> Any:
    import mediapipe as mp

    return mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(frame))


def _collect_all(result: Any, height: int, width: int) -> np.ndarray:
    """(n, 478, 2) float32 px of all faces of one picture."""
    # the model's coordinates run from 0 to 1 between the picture's edges; ours are pixel centres
    faces = [[(point.x * width - 0.5, point.y * height - 0.5) for point in face] for face in result.face_landmarks]
    return np.array(faces, np.float32).reshape(-1, N_POINTS, 2)


def _empty(count: int) -> Detections:
    """No face in any of some frames."""
    dense = np.full((count, N_POINTS, 2), np.nan, np.float32)
    shapes = np.full((count, len(BLENDSHAPES)), np.nan, np.float32)
    return Detections(dense[:, list(MESH_OF_68)], np.zeros(count, np.float32), shapes, dense)


def _put(found: Detections, index: int, points: np.ndarray, shapes: Any) -> None:
    """Enter one face (478, 2) with the library's blendshape scores."""
    assert found.blendshapes is not None and found.points478 is not None  # as made by _empty
    found.points478[index] = points
    found.landmarks_px[index] = points[list(MESH_OF_68)]
    given = {shape.category_name: shape.score for shape in shapes}
    found.blendshapes[index] = [given.get(name, np.nan) for name in BLENDSHAPES]
    found.score[index] = 1.0  # the library hides its presence score; a face that it returns has passed ``min_score``


def _collect(results: list[Any], height: int, width: int) -> Detections:
    """The library's results for pictures of one size as arrays."""
    found = _empty(len(results))
    for index, result in enumerate(results):
        if result.face_landmarks:
            _put(found, index, _collect_all(result, height, width)[0], result.face_blendshapes[0])
    return found
