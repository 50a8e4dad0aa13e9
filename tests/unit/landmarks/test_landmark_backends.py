"""The published back ends: weights that are none, and what the adapters make of their libraries' output."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.landmarks import mediapipe, schema
from flowvqtalker.landmarks.face_alignment import FaceAlignmentLandmarker


def test_mesh_indices_are_unique_points_of_the_mesh():
    assert len(mediapipe.MESH_OF_68) == 68 == len(set(mediapipe.MESH_OF_68))
    assert min(mediapipe.MESH_OF_68) >= 0 and max(mediapipe.MESH_OF_68) < mediapipe.N_POINTS
    assert len(set(mediapipe.BLENDSHAPES)) == 52


def test_bytes_that_are_no_weights_are_named():
    with pytest.raises(MissingWeightsError, match="not a MediaPipe task bundle"):
        mediapipe.MediapipeLandmarker(b"<html>not found</html>")
    with pytest.raises(MissingWeightsError, match="2DFAN4"):
        FaceAlignmentLandmarker(b"<html>not found</html>", b"", b"")


class CentreFan(nn.Module):
    """In place of FAN: every map peaks at the centre of the crop."""

    def __init__(self, _size: int) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = torch.zeros(len(x), 68, 64, 64)
        maps[:, :, 32, 32] = 1
        return maps


@pytest.mark.shared
def test_fan_runs_on_given_weights_and_its_points_lie_on_the_face(shared_folder, monkeypatch):
    """With a stand-in for the network, all points fall on the middle of the detected face; a blank picture has none."""
    import face_alignment.models

    folder = shared_folder / "assets" / "blazeface"
    if not (folder / "blazeface.pth").is_file():
        pytest.skip(f"no {folder}/blazeface.pth")
    from pipeline import media

    monkeypatch.setattr(face_alignment.models, "FAN", CentreFan)
    weights = io.BytesIO()
    torch.save(CentreFan(4).state_dict(), weights)
    finder = FaceAlignmentLandmarker(weights.getvalue(), (folder / "blazeface.pth").read_bytes(), (folder / "anchors.npy").read_bytes())
    frame = media.read_frames(shared_folder / "media" / "grid" / "sbwe5n.mpg", [20])
    found = finder.detect(np.concatenate([frame, np.full_like(frame, 90)]))
    assert found.present.tolist() == [True, False] and found.score[1] == 0 and 0.5 < found.score[0] <= 1
    model = (shared_folder / "assets" / "mediapipe" / "face_landmarker.task").read_bytes()
    truth = mediapipe.MediapipeLandmarker(model).detect(frame, video=False)
    nose = truth.landmarks_px[0, list(schema.NOSE)].mean(axis=0)
    assert np.linalg.norm(found.landmarks_px[0].mean(axis=0) - nose) < schema.outer_eye_distance(truth.landmarks_px[0])


@pytest.mark.shared
def test_mediapipe_answers_alike_in_pieces_and_finds_nothing_in_nothing(shared_folder):
    from pipeline import media

    model = shared_folder / "assets" / "mediapipe" / "face_landmarker.task"
    if not model.is_file():
        pytest.skip(f"no {model}")
    finder = mediapipe.MediapipeLandmarker(model.read_bytes())
    frames = media.read_frames(shared_folder / "media" / "grid" / "sbwe5n.mpg", np.arange(12))
    whole, parts = finder.detect(frames), finder.detect_pieces([frames[:5], frames[5:]])
    np.testing.assert_array_equal(whole.landmarks_px, parts.landmarks_px)
    assert whole.present.all() and np.isfinite(whole.blendshapes).all() and whole.points478.shape == (12, 478, 2)
    right, left = whole.landmarks_px[0, 36], whole.landmarks_px[0, 45]
    assert right[0] < left[0], "the subject's right eye is on the picture's left"
    nothing = finder.detect(np.full((2, 100, 100, 3), 80, np.uint8))
    assert not nothing.present.any() and np.isnan(nothing.blendshapes).all()
