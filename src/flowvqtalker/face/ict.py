"""ICT-FaceKit light as a face model: 100 identity modes and the 53 expressions, with our texture and our turning eyes.

Source: https://github.com/ICT-VGL/ICT-FaceKit (MIT). Read from an ``npz`` with the keys listed at :func:`load_ict`; the asset mirror has one
ready-made, :func:`convert_ict` makes one from the upstream OBJ files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

from flowvqtalker.checks import check_shape
from flowvqtalker.face.clay.loft import frontal_to_chart
from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.face.model import FaceModel

Array = NDArray[np.float64]

_KEYS = ("mean", "identity", "expression", "expression_names", "triangles", "landmarks68", "part_names")
#: Depth of the eyeball's front in the head frame [cm]: where the clay head has it, so that poses of both models mean the same.
_EYE_FRONT_Z = 8.2


def load_ict(source: IO[bytes] | Mapping[str, Any]) -> FaceModel:
    """Build the model from a converted ICT-FaceKit.

    Args:
        source: an open binary file of the ``npz``, or a mapping with its arrays: mean (V, 3) cm, identity (A, V, 3), expression
            (53, V, 3), expression_names, triangles (F, 3), landmarks68 (68,), part_names, and vertex_part (V,) or
            part_vertex_ranges (P, 2).

    Returns:
        The model in our head frame (origin at the eyeballs' height). It has no contacts: lips and lids are as linear as upstream's.

    Raises:
        ValueError: a key is missing or the expressions are not the 53 in order.
    """
    data: Mapping[str, Any] = source if isinstance(source, Mapping) else np.load(source, allow_pickle=False)
    missing = [key for key in _KEYS if key not in data]
    if missing or ("vertex_part" not in data and "part_vertex_ranges" not in data):
        raise ValueError(
            f"ICT face model: keys missing: {', '.join(missing or ['vertex_part or part_vertex_ranges'])}; is this the npz of make assets?"
        )
    names = tuple(str(name) for name in data["expression_names"])
    if names != EXPRESSIONS:
        raise ValueError("ICT face model: expression_names differ from face.expressions.EXPRESSIONS in names or order")
    mean = np.asarray(data["mean"], np.float64)
    part_names = tuple(str(name) for name in data["part_names"])
    part = _vertex_parts(data, len(mean))
    balls = tuple(np.nonzero(part == part_names.index(name))[0].astype(np.int32) for name in ("eyeball_r", "eyeball_l"))
    centres = np.stack([fit_sphere(mean[ball])[0] for ball in balls])
    front = float(np.mean([mean[ball][:, 2].max() for ball in balls]))
    shift = np.array([0.0, -centres[:, 1].mean(), _EYE_FRONT_Z - front])
    mean, centres = mean + shift, centres + shift
    identity = np.asarray(data["identity"], np.float32)
    expression = np.array(data["expression"], np.float32)
    check_shape("ICT identity", identity, (None, len(mean), 3))
    centre_identity = np.stack([identity[:, ball].astype(np.float64).mean(1) for ball in balls], axis=1)
    for eye, ball in enumerate(balls):
        # We turn the eyeballs; no expression may bend them, and identity only carries them along.
        expression[:, ball] = 0.0
        identity[:, ball] = centre_identity[:, eye, None]
    landmarks = np.asarray(data["landmarks68"], np.int32)
    return FaceModel(
        name="ict",
        mean=mean.astype(np.float32),
        identity=identity,
        identity_std=np.ones(len(identity), np.float32),
        identity_names=tuple(f"identity{number:03d}" for number in range(len(identity))),
        expression=expression,
        triangles=np.ascontiguousarray(data["triangles"], dtype=np.int32),
        vertex_part=part,
        part_names=part_names,
        uv=_uv(mean, part, part_names, landmarks, balls, centres),
        landmarks68=landmarks,
        eyeball_centres=centres.astype(np.float32),
        eyeball_centre_identity=centre_identity.astype(np.float32),
        eyeball_vertices=(balls[0], balls[1]),
        occlusion=_occlusion(mean, part, part_names),
    )


def fit_sphere(points: Array) -> tuple[Array, float]:
    """Least-squares sphere through points (n, 3): centre (3,) and radius."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
    solution = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.sqrt(solution[3] + centre @ centre))


def _vertex_parts(data: Mapping[str, Any], n_vertices: int) -> NDArray[np.int32]:
    if "vertex_part" in data:
        return np.asarray(data["vertex_part"], np.int32)
    part = np.zeros(n_vertices, np.int32)
    for number, (first, last) in enumerate(np.asarray(data["part_vertex_ranges"])):
        part[int(first) : int(last)] = number
    return part


def _uv(mean: Array, part: NDArray, names: tuple[str, ...], landmarks: NDArray, balls: tuple, centres: Array) -> NDArray[np.float32]:
    """Texture coordinates in the clay head's chart: the frontal plane is warped so that the 68 landmarks coincide."""
    from flowvqtalker.face import make_face_model
    from flowvqtalker.face.clay.build import chart_to_uv

    clay = make_face_model("clay")
    target = clay.mean[clay.landmarks68][:, :2].astype(np.float64)
    here = mean[landmarks][:, :2]
    # Lips and lids meet in single lines on both models; a little smoothing keeps the warp from folding there.
    warp = RBFInterpolator(here, target, kernel="thin_plate_spline", smoothing=0.02)
    frontal = warp(mean[:, :2])
    # The warp knows nothing of the back of the head: there the frontal place only scales.
    far = np.clip((2.5 - mean[:, 2]) / 3.0, 0.0, 1.0)[:, None]
    frontal = (1 - far) * frontal + far * mean[:, :2] * np.array([0.97, 0.9])
    theta, level = frontal_to_chart(frontal[:, 0], frontal[:, 1])
    behind = mean[:, 2] < 0.3
    theta = np.where(behind, np.sign(mean[:, 0]) * np.pi - theta, theta)
    turned = np.arctan2(mean[:, 0], mean[:, 2] - 0.3)
    side = np.abs(turned) > np.radians(70)
    theta = np.where(side, turned, theta)
    uv = chart_to_uv(theta, level)
    for eye, ball in enumerate(balls):
        offset = mean[ball] - centres[eye]
        polar = np.arccos(np.clip(offset[:, 2] / np.linalg.norm(offset, axis=1), -1.0, 1.0))
        uv[ball] = np.stack([polar / np.pi, np.mod(np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi), 1.0)], axis=-1)
    uv[part == names.index("teeth")] = 0.5
    return np.clip(uv, 0.0, 1.0).astype(np.float32)


def _occlusion(mean: Array, part: NDArray, names: tuple[str, ...]) -> NDArray[np.float32]:
    light = np.ones(len(mean))
    for name, near, far in (
        ("mouth_socket", 0.5, 0.05),
        ("teeth", 0.85, 0.25),
        ("gums_tongue", 0.5, 0.1),
        ("eye_socket_l", 0.6, 0.4),
        ("eye_socket_r", 0.6, 0.4),
    ):
        chosen = part == names.index(name)
        light[chosen] = np.interp(mean[chosen, 2], [5.0, 9.0], [far, near])
    return light.astype(np.float32)


def parse_obj(lines: Iterable[str]) -> dict[str, NDArray]:
    """Vertices ``v`` (V, 3), texture coordinates ``vt`` (n, 2) and triangles ``f`` (F, 3), ``ft`` (F, 3) of a Wavefront OBJ.

    Quads are cut in two along their first diagonal; indices count from 0 in the result.
    """
    v: list[list[float]] = []
    vt: list[list[float]] = []
    f: list[list[int]] = []
    ft: list[list[int]] = []
    for line in lines:
        if line.startswith("v "):
            v.append([float(x) for x in line.split()[1:4]])
        elif line.startswith("vt "):
            vt.append([float(x) for x in line.split()[1:3]])
        elif line.startswith("f "):
            corners = [corner.split("/") for corner in line.split()[1:]]
            for k in range(1, len(corners) - 1):
                chosen = (corners[0], corners[k], corners[k + 1])
                f.append([int(c[0]) - 1 for c in chosen])
                ft.append([int(c[1]) - 1 if len(c) > 1 and c[1] else -1 for c in chosen])
    if not v:
        raise ValueError("OBJ: no vertices found")
    return {
        "v": np.array(v),
        "vt": np.array(vt).reshape(-1, 2),
        "f": np.array(f, np.int32).reshape(-1, 3),
        "ft": np.array(ft, np.int32).reshape(-1, 3),
    }


def convert_ict(
    read: Callable[[str], Iterable[str]], expressions: Iterable[str] = EXPRESSIONS, identities: int = 100
) -> dict[str, NDArray]:
    """Bases from the upstream OBJ files, as differences to the neutral head.

    Args:
        read: gives the lines of an upstream file by its name, e.g. ``"generic_neutral_mesh.obj"``, ``"identity000.obj"``.
        expressions: names of the expression files to read.
        identities: how many identity files to read, from 000 on.

    Returns:
        mean (V, 3), triangles (F, 3), uv (n, 2), triangles_uv (F, 3), identity (A, V, 3), expression (E, V, 3), expression_names (E,).
        V counts all upstream vertices.

    Raises:
        ValueError: a file has another number of vertices than the neutral head.
    """
    neutral = parse_obj(read("generic_neutral_mesh.obj"))

    def difference(name: str) -> Array:
        vertices = parse_obj(read(f"{name}.obj"))["v"]
        if vertices.shape != neutral["v"].shape:
            raise ValueError(f"ICT converter: {name}.obj has {len(vertices)} vertices, the neutral head {len(neutral['v'])}")
        return vertices - neutral["v"]

    names = list(expressions)
    empty = np.zeros((0, *neutral["v"].shape))
    return {
        "mean": neutral["v"].astype(np.float32),
        "triangles": neutral["f"],
        "uv": neutral["vt"].astype(np.float32),
        "triangles_uv": neutral["ft"],
        "identity": (np.stack([difference(f"identity{number:03d}") for number in range(identities)]) if identities else empty).astype(
            np.float32
        ),
        "expression": (np.stack([difference(name) for name in names]) if names else empty).astype(np.float32),
        "expression_names": np.array(names),
    }


__all__ = ["convert_ict", "fit_sphere", "load_ict", "parse_obj"]
