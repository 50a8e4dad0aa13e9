"""The face model that the parameters name, built by code or loaded from an asset file."""

from __future__ import annotations

from pathlib import Path

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.face import make_face_model
from flowvqtalker.face.model import FaceModel
from pipeline.assets import find_asset
from pipeline.errors import PipelineError


def face_model_file(name: str, asset: str) -> Path | None:
    """File of a face model; None for clay, which needs none.

    Args:
        name: "clay", "ict" or "bfm".
        asset: path of the file, or its name within the asset folders (e.g. "ict/ict_facekit_7k.npz").

    Raises:
        PipelineError: no file is named, or it is not there; the message names its source.
    """
    if name == "clay":
        return None
    if not asset and name == "bfm":
        raise PipelineError(
            "fit3dmm.model 'bfm' needs fit3dmm.asset", "the Basel Face Model 2009 is licensed to each user: see https://faces.dmi.unibas.ch"
        )
    asset = asset or "ict/ict_facekit_7k.npz"
    return Path(asset) if Path(asset).is_file() else find_asset(asset)


def load_face_model(name: str, asset: str) -> FaceModel:
    """Face model by name; see ``face_model_file``."""
    path = face_model_file(name, asset)
    if path is None:
        return make_face_model("clay")
    try:
        if name == "ict":
            from flowvqtalker.face.ict import load_ict

            with path.open("rb") as file:
                return load_ict(file)
        from flowvqtalker.face.bfm import load_bfm

        with path.open("rb") as file:
            return load_bfm(file)
    except (ValueError, KeyError, OSError, MissingWeightsError) as error:
        raise PipelineError(f"{path}: not a face model '{name}' ({error})", "name the right file in fit3dmm.asset") from error
