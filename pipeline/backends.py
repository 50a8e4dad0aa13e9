"""The landmark back end that the parameters choose, with its weights read from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.landmarks.schema import Landmarker
from pipeline.assets import find_asset
from pipeline.errors import PipelineError
from pipeline.io import file_sha256, read_torch
from pipeline.params.landmarks import LandmarksParams

#: Files that a back end needs, by its argument; "trained" reads the model of the stage `landmarker` instead.
ASSETS: dict[str, dict[str, str]] = {
    "trained": {},
    "mediapipe": {"model": "mediapipe/face_landmarker.task"},
    "face_alignment": {
        "fan": "face_alignment/2DFAN4-11f355bf06.pth.tar",
        "detector": "blazeface/blazeface.pth",
        "anchors": "blazeface/anchors.npy",
    },
}


def backend_files(params: LandmarksParams, model_folder: Path) -> dict[str, Path]:
    """Files that decide the back end's output, by argument name.

    Raises:
        PipelineError: an asset is missing.
    """
    if params.backend == "trained":
        return {"model": model_folder / "model.pt"}
    return {argument: find_asset(name) for argument, name in ASSETS[params.backend].items()}


def backend_checksums(params: LandmarksParams, model_folder: Path) -> tuple[str, ...]:
    """Checksums of those files, for the key of everything that is computed with them."""
    return tuple(f"{argument}={file_sha256(path)}" for argument, path in sorted(backend_files(params, model_folder).items()))


def make_landmarker(params: LandmarksParams, model_folder: Path, detect_every: int = 1) -> Landmarker:
    """Back end ready to use.

    Args:
        params: section `landmarks`.
        model_folder: folder of the stage `landmarker` (used by the back end "trained" only).
        detect_every: frames between two runs of the detector where a face is followed (used by "face_alignment" only).

    Raises:
        PipelineError: a file is missing or is not what it should be; an optional package does not import.
    """
    files = backend_files(params, model_folder)
    try:
        if params.backend == "trained":
            from flowvqtalker.landmarks.network import TrainedLandmarker

            return TrainedLandmarker.from_state(read_torch(files["model"]), min_score=params.min_score, precision=params.precision)
        content: dict[str, Any] = {argument: path.read_bytes() for argument, path in files.items()}
        if params.backend == "mediapipe":
            from flowvqtalker.landmarks.mediapipe import MediapipeLandmarker

            return MediapipeLandmarker(**content, min_score=params.min_score)
        from flowvqtalker.landmarks.face_alignment import FaceAlignmentLandmarker

        return FaceAlignmentLandmarker(**content, min_score=params.min_score, flip=params.fan_flip, detect_every=detect_every)
    except (MissingWeightsError, ValueError) as error:
        named = ", ".join(str(path) for path in files.values())
        raise PipelineError(
            f"landmarks.backend '{params.backend}': {error} ({named})", "fetch the files again with `make assets`, or train anew"
        ) from error
    except ImportError as error:
        raise PipelineError(f"landmarks.backend '{params.backend}': {error}", "install the lock: `make venv`") from error
