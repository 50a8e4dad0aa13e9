"""2D-FAN as a back end, through the ``face_alignment`` package.

Bulat and Tzimiropoulos, "How far are we from solving the 2D & 3D Face Alignment problem?", ICCV 2017
(https://github.com/1adrianb/face-alignment). The weights come in as bytes: the package would else try to download them.
The only module that imports face_alignment.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.landmarks.faces import box_of, centre_of, nearest_to, size_of, widen
from flowvqtalker.landmarks.schema import N_LANDMARKS, Detections, check_frames, join_detections


class FaceAlignmentLandmarker:
    """2D-FAN on the box of a BlazeFace detector, frame by frame.

    Args:
        fan: content of ``2DFAN4-11f355bf06.pth.tar`` (a state dict).
        detector: content of ``blazeface.pth``.
        anchors: content of ``anchors.npy``.
        min_score: detector confidence below which there is no face, [0, 1].
        device: torch device.
        flip: average with the mirrored picture, twice the time for a little accuracy.
        detect_every: frames between two runs of the detector when a face is followed; 1 runs it on every frame.

    Raises:
        MissingWeightsError: a file is not what it should be.
    """

    def __init__(
        self,
        fan: bytes,
        detector: bytes,
        anchors: bytes,
        *,
        min_score: float = 0.5,
        device: str = "cpu",
        flip: bool = False,
        detect_every: int = 1,
    ) -> None:
        import face_alignment
        from face_alignment.models import FAN

        self._detect_every = detect_every

        try:
            state = torch.load(io.BytesIO(fan), map_location="cpu", weights_only=True)
        except Exception as error:
            raise MissingWeightsError(f"2DFAN4-11f355bf06.pth.tar is not a readable checkpoint ({error})") from error

        class Given(face_alignment.FaceAlignment):
            """Takes the weights it is given instead of downloading them."""

            def _load_native(self, network_name, network_size, device, dtype):
                net = FAN(network_size)
                net.load_state_dict(state)
                return net.to(device, dtype=dtype).eval()

        # compile=False: compiling costs a minute once and gains nothing on a CPU (measured)
        self._fan = Given(
            face_alignment.LandmarksType.TWO_D,
            device=device,
            flip_input=flip,
            compile=False,
            face_detector="blazeface",
            face_detector_kwargs={
                "path_to_detector": io.BytesIO(detector),
                "path_to_anchor": io.BytesIO(anchors),
                "min_score_thresh": min_score,
            },
        )

    def detect(self, frames: np.ndarray, *, video: bool = True) -> Detections:
        """See ``schema.Landmarker.detect``; frames are looked at one by one in videos too."""
        check_frames(frames)
        landmarks = np.full((len(frames), N_LANDMARKS, 2), np.nan, np.float32)
        score = np.zeros(len(frames), np.float32)
        for index, frame in enumerate(frames):
            boxes = self._boxes(frame)
            if len(boxes) == 0:
                continue
            box = max(boxes, key=lambda one: (one[2] - one[0]) * (one[3] - one[1]))
            found = self._points(frame, box)
            if found is not None:
                landmarks[index] = found
                score[index] = min(1.0, float(box[4]))
        return Detections(landmarks, score)

    def detect_pieces(self, pieces: Iterable[np.ndarray]) -> Detections:
        """See ``schema.Landmarker.detect_pieces``."""
        return join_detections([self.detect(piece) for piece in pieces])

    def find_faces(self, pictures: Iterable[np.ndarray], max_faces: int) -> Iterator[np.ndarray]:
        """See ``faces.FaceFinder.find_faces``; the detector's own boxes, by score."""
        for picture in pictures:
            boxes = self._boxes(picture)
            yield boxes[np.argsort(-boxes[:, 4], kind="stable"), :4][:max_faces].astype(np.float32)

    def follow(self, pieces: Iterable[np.ndarray], boxes: np.ndarray, segment: np.ndarray, crowded: np.ndarray) -> Detections:
        """See ``faces.FaceFinder.follow``.

        The detector costs as much as the network, so it runs every few frames. In between the box moves with the landmarks, whose place
        relative to the detector's box is remembered. Frames since the last detection are taken back when the next one finds nothing: the
        network names 68 points in any picture, also where no face is any more.
        """
        parts: list[Detections] = []
        held: tuple[np.ndarray, np.ndarray] | None = None  # the detector's box in units of the landmarks' box, and the last landmarks
        since, done, run = 0, 0, -1
        for frames in pieces:
            check_frames(frames)
            height, width = frames.shape[1:3]
            landmarks = np.full((len(frames), N_LANDMARKS, 2), np.nan, np.float32)
            score = np.zeros(len(frames), np.float32)
            parts.append(Detections(landmarks, score))
            for index, frame in enumerate(frames):
                now = done + index
                if segment[now] != run:
                    held, run = None, int(segment[now])
                if run < 0:
                    continue
                if held is None or since >= self._detect_every:
                    x0, y0, x1, y1 = widen(boxes[now], 0.75, width, height)
                    seen = self._boxes(frame[y0:y1, x0:x1])
                    seen[:, :4] += np.array([x0, y0, x0, y0])
                    which = nearest_to(boxes[now], seen[:, :4])
                    points = None if which is None else self._points(frame, seen[which])
                    if which is None or points is None:
                        if held is not None:
                            _forget(parts, now, since)
                        held = None
                        continue
                    around = box_of(points)
                    held = (np.concatenate([seen[which, :4] - np.tile(centre_of(around), 2)]) / size_of(around), points)
                    landmarks[index], score[index], since = points, min(1.0, float(seen[which, 4])), 1
                    continue
                around = box_of(held[1])
                box = np.append(held[0] * size_of(around) + np.tile(centre_of(around), 2), 1.0)
                points = self._points(frame, box)
                if points is None or nearest_to(boxes[now], box_of(points)[None]) is None:
                    held = None
                    continue
                held = (held[0], points)
                landmarks[index], score[index], since = points, 1.0, since + 1
            done += len(frames)
        return join_detections(parts)

    def _boxes(self, frame: np.ndarray) -> np.ndarray:
        """(n, 5) float64 detector boxes with their scores."""
        found = self._fan.face_detector.detect_from_image(np.ascontiguousarray(frame).copy())
        return np.array([np.asarray(one, np.float64)[:5] for one in found]).reshape(-1, 5)

    def _points(self, frame: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        """(68, 2) landmarks in the detector's box, or None."""
        found = self._fan.get_landmarks_from_image(np.ascontiguousarray(frame).copy(), detected_faces=[box])
        return np.asarray(found[0], np.float32) if found else None


def _forget(parts: list[Detections], now: int, count: int) -> None:
    """Take back the ``count`` - 1 frames before frame ``now``, over the borders of the pieces."""
    stop = sum(len(part.score) for part in parts[:-1])
    for part in reversed(parts):
        start = stop if part is parts[-1] else stop - len(part.score)
        stop = start
        for frame in range(max(now - count + 1, start), min(now, start + len(part.score))):
            part.landmarks_px[frame - start] = np.nan
            part.score[frame - start] = 0
