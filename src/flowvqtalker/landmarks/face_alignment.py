"""2D-FAN as a back end, through the ``face_alignment`` package.

Bulat and Tzimiropoulos, "How far are we from solving the 2D & 3D Face Alignment problem?", ICCV 2017
(https://github.com/1adrianb/face-alignment). The weights come in as bytes: the package would else try to download them.
The only module that imports face_alignment.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import torch

from flowvqtalker.checks import MissingWeightsError
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

    Raises:
        MissingWeightsError: a file is not what it should be.
    """

    def __init__(
        self, fan: bytes, detector: bytes, anchors: bytes, *, min_score: float = 0.5, device: str = "cpu", flip: bool = False
    ) -> None:
        import face_alignment
        from face_alignment.models import FAN

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
            boxes = self._fan.face_detector.detect_from_image(frame.copy())
            if len(boxes) == 0:
                continue
            box = max(boxes, key=lambda one: (one[2] - one[0]) * (one[3] - one[1]))
            found = self._fan.get_landmarks_from_image(frame.copy(), detected_faces=[box])
            if found:
                landmarks[index] = found[0]
                score[index] = min(1.0, float(box[4]))
        return Detections(landmarks, score)

    def detect_pieces(self, pieces: Iterable[np.ndarray]) -> Detections:
        """See ``schema.Landmarker.detect_pieces``."""
        return join_detections([self.detect(piece) for piece in pieces])
