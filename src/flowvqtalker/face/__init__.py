"""Face models: identity and expression to vertices, pose algebra, camera. See docs/architecture.md and docs/conventions.md."""

from __future__ import annotations

import functools

from flowvqtalker.face.model import FaceModel


@functools.cache
def make_face_model(name: str = "clay") -> FaceModel:
    """The face model that needs no file; built once per process.

    Args:
        name: "clay". The models "ict" and "bfm" come from files the user has: ``face.ict.load_ict``, ``face.bfm.load_bfm``.

    Returns:
        The model; treat it as read-only, every caller gets the same one.
    """
    if name != "clay":
        raise ValueError(f"face model {name!r} is not built by code; load it with face.ict.load_ict or face.bfm.load_bfm")
    from flowvqtalker.face.clay.build import make_clay

    return make_clay()


__all__ = ["FaceModel", "make_face_model"]
