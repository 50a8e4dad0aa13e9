"""Assets that are not part of the repository: where they may lie and where they come from."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import PipelineError

#: Official source of each asset that a stage may ask for.
SOURCES = {
    "mediapipe/face_landmarker.task": "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker (float16, Apache-2.0)",
    "face_alignment/2DFAN4-11f355bf06.pth.tar": "https://www.adrianbulat.com/downloads/python-fan/2DFAN4-11f355bf06.pth.tar (BSD-3-Clause)",
    "blazeface/blazeface.pth": "https://github.com/hollance/BlazeFace-PyTorch (Apache-2.0)",
    "blazeface/anchors.npy": "https://github.com/hollance/BlazeFace-PyTorch (Apache-2.0)",
    "ict/ict_facekit_7k.npz": "https://github.com/ICT-VGL/ICT-FaceKit (MIT), converted",
    "ict/ict_facekit.npz": "https://github.com/ICT-VGL/ICT-FaceKit (MIT), converted",
}


def asset_folders() -> list[Path]:
    """Folders searched, in order: FVQT_ASSETS, ./assets, FVQT_SHARED/assets (../shared/assets)."""
    named = os.environ.get("FVQT_ASSETS")
    shared = Path(os.environ.get("FVQT_SHARED", Path("..") / "shared"))
    return [*([Path(named)] if named else []), Path("assets"), shared / "assets"]


def find_asset(name: str) -> Path:
    """Path of an asset.

    Args:
        name: path within the asset folder, e.g. "mediapipe/face_landmarker.task".

    Returns:
        The first file found.

    Raises:
        PipelineError: none of the folders has it; the message names the file, its official source and the command that fetches it.
    """
    for folder in asset_folders():
        if (folder / name).is_file():
            return folder / name
    source = SOURCES.get(name)
    origin = f"it comes from {source}; " if source else ""
    looked = ", ".join(str(folder) for folder in asset_folders())
    raise PipelineError(
        f"asset '{name}' is missing (looked in {looked})",
        f"{origin}run `make assets`, put the file into ./assets/{Path(name).parent}/, or set FVQT_ASSETS to a folder that has it",
    )
