"""Motion on a person of the embedded corpus, drawn by the corpus' own renderer: pictures that differ in nothing but the motion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flowvqtalker.checks import check_shape
from flowvqtalker.corpus.make import Person, make_person, posed_vertices
from flowvqtalker.face.camera import Camera, crop_camera
from flowvqtalker.face.model import FaceModel
from flowvqtalker.render.background import make_background
from flowvqtalker.render.shade import Light, render_frame, sample_light
from flowvqtalker.seeding import numpy_generator


@dataclass(frozen=True, eq=False)
class Studio:
    """Everything about a drawn clip but its motion.

    Attributes:
        person: geometry and looks.
        light: the person's own light in the corpus.
        background: (S, S, 3) uint8 RGB, in the person's own style.
        camera: the camera of all crops, in which fitted poses are given.
    """

    person: Person
    light: Light
    background: np.ndarray
    camera: Camera


def make_studio(identity: str, model: FaceModel, seed: int, size_px: int) -> Studio:
    """The person of a name in their own light, seen by the crop camera; the same for every clip and method.

    Args:
        identity: name in the corpus.
        model: the clay head.
        seed: of the run that made the corpus.
        size_px: side S of the crops.
    """
    return Studio(
        make_person(identity, model, seed),
        sample_light(numpy_generator(seed, identity, "studio", "light")),
        make_background(numpy_generator(seed, identity, "studio", "background"), (size_px, size_px)),
        crop_camera(size_px),
    )


def draw_motion(studio: Studio, model: FaceModel, beta: np.ndarray, pose: np.ndarray) -> Iterator[np.ndarray]:
    """Frames one by one, (S, S, 3) uint8 RGB each.

    Args:
        studio: who is drawn.
        model: the clay head.
        beta: (T, E) expression.
        pose: (T, 6) in the crop camera [rad, cm].
    """
    check_shape("pose", pose, (len(beta), 6))
    size = studio.background.shape[:2]
    for expression, head in zip(beta, pose, strict=True):
        vertices = posed_vertices(model, studio.person, expression, head)
        yield render_frame(model, vertices, expression, studio.person.appearance, studio.camera, size, studio.light, studio.background)
