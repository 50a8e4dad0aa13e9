"""The face model that the parameters name, built by code or loaded from the user's file."""

from __future__ import annotations

from pathlib import Path

from flowvqtalker.face import make_face_model
from flowvqtalker.face.model import FaceModel
from pipeline.errors import PipelineError

_SOURCES = {
    "ict": "run `make assets`, or convert ICT-FaceKit (https://github.com/ICT-VGL/ICT-FaceKit) as docs/ say",
    "bfm": "the Basel Face Model 2009 is licensed to each user: ask for it at https://faces.dmi.unibas.ch and name its file",
}


def load_face_model(name: str, asset: str) -> FaceModel:
    """Face model by name.

    Args:
        name: "clay" (built by code), "ict" or "bfm".
        asset: file of the model; unused for clay.

    Raises:
        PipelineError: the file is not named or not there; the message names its source.
    """
    if name == "clay":
        return make_face_model("clay")
    if not asset or not Path(asset).exists():
        raise PipelineError(f"face model '{name}': {asset or 'no file named'}{' does not exist' if asset else ''}", _SOURCES[name])
    if name == "ict":
        from flowvqtalker.face.ict import load_ict

        return load_ict(asset)
    from flowvqtalker.face.bfm import load_bfm

    return load_bfm(asset)
