"""Identity space of the clay head: named proportions plus a few smooth random modes, all as displacement fields.

Coefficient 1 is one standard deviation over people. Inside the head (eyeballs, teeth, tongue) a mode acts as a translation of the organ,
so eyeballs stay round and teeth keep their shape.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowvqtalker.face.clay.surface import both, bump, smoothstep
from flowvqtalker.face.clay.topology import EYE_X, MOUTH_Y
from flowvqtalker.seeding import numpy_generator

Array = NDArray[np.float64]

NAMES: tuple[str, ...] = (
    "head_width", "head_height", "head_depth", "face_length", "jaw_width", "chin_length", "chin_forward", "cheekbones", "cheek_fullness",
    "nose_length", "nose_width", "nose_projection", "nose_bridge", "nose_tip_up", "nose_crooked",
    "eye_size", "eye_spacing", "eye_tilt", "eye_depth", "upper_lip", "lower_lip", "mouth_width", "mouth_height", "lips_forward",
    "brow_ridge", "brow_height", "forehead_slope", "temple_width", "ear_size", "ear_angle", "neck_width", "hair_volume",
    "smooth_1", "smooth_2", "smooth_3", "smooth_4",
)  # fmt: skip


def identity_fields(points: Array, x: Array, y: Array, front: Array, lip: Array, red: Array, ear: Array, hair: Array) -> Array:
    """Displacements (A, n, 3) [cm] at coefficient 1.

    Args:
        points: (n, 3) resting positions.
        x: (n,) frontal coordinate.
        y: (n,) frontal coordinate.
        front: (n,) 1 on the face, 0 behind the ears.
        lip: (n,) +1 upper, -1 lower lip.
        red: (n,) 1 at the lips' margin, 0 outside the mouth.
        ear: (n,) 1 on ears.
        hair: (n,) share of the hair's thickness at the vertex, 0 elsewhere.
    """
    px, py, pz = points.T
    n = len(points)
    side = np.tanh(px / 0.8)
    zero = np.zeros(n)
    below = smoothstep(py, -0.5, -8.0)
    skull = smoothstep(py, -12.5, -9.0)

    def field(dx: Array | float = 0.0, dy: Array | float = 0.0, dz: Array | float = 0.0) -> Array:
        return np.stack([zero + dx, zero + dy, zero + dz], axis=-1)

    def f(cx: float, cy: float, sx: float, sy: float) -> Array:
        return front * bump(x, y, cx, cy, sx, sy)

    def f2(cx: float, cy: float, sx: float, sy: float) -> Array:
        return front * both(x, y, cx, cy, sx, sy)

    nose_ridge = f(0.0, -2.8, 0.95, 2.2)
    tip = f(0.0, -4.2, 1.3, 1.0)
    eye_near = f2(EYE_X, 0.05, 1.9, 1.25)
    eye_side = np.tanh(x / 0.7)
    ex = x - EYE_X * np.sign(x)
    modes = {
        "head_width": field(0.045 * px * skull),
        "head_height": field(dy=0.045 * np.maximum(py, 0.0)),
        "head_depth": field(dz=0.045 * np.minimum(pz, 0.0) * skull),
        "face_length": field(dy=-0.50 * below),
        "jaw_width": field(0.36 * side * np.exp(-(((py + 7.2) / 3.2) ** 2)) * smoothstep(np.abs(px), 1.5, 5.0) * smoothstep(pz, -4.0, 1.5)),
        "chin_length": field(dy=-0.34 * f(0.0, -10.8, 2.6, 2.0)),
        "chin_forward": field(dz=0.45 * f(0.0, -10.2, 2.4, 1.7)),
        "cheekbones": field(0.16 * f2(4.9, -1.9, 1.8, 1.6) * side, 0.05 * f2(4.6, -1.9, 1.6, 1.4), 0.26 * f2(4.4, -1.9, 1.7, 1.4)),
        "cheek_fullness": field(0.30 * f2(5.2, -5.2, 2.0, 2.4) * side, 0.0, 0.30 * f2(4.2, -5.2, 2.0, 2.2)),
        "nose_length": field(dy=-0.24 * f(0.0, -4.3, 1.9, 1.5)),
        "nose_width": field(0.17 * side * f2(1.15, -4.1, 0.95, 1.2)),
        "nose_projection": field(dz=0.24 * nose_ridge + 0.10 * tip),
        "nose_bridge": field(dz=0.22 * f(0.0, -1.2, 0.85, 1.3)),
        "nose_tip_up": field(dy=0.15 * tip, dz=0.08 * tip),
        "nose_crooked": field(0.10 * f(0.0, -3.0, 1.2, 1.8)),
        "eye_size": field(0.045 * ex * eye_near, 0.09 * y * eye_near),
        "eye_spacing": field(0.15 * eye_side * front * np.exp(-(((y - 0.3) / 2.4) ** 2)) * smoothstep(np.abs(x), 7.0, 4.2)),
        "eye_tilt": field(dy=0.075 * ex * eye_side * front * both(x, y, EYE_X, 0.4, 2.3, 1.9)),
        "eye_depth": field(dz=-0.14 * front * both(x, y, EYE_X, 0.2, 2.2, 1.7)),
        "upper_lip": field(
            dy=0.11 * np.maximum(lip, 0) * np.sin(np.pi * np.clip(1.0 - red, 0, 1)) * front, dz=0.08 * np.maximum(lip, 0) * red * front
        ),
        "lower_lip": field(
            dy=-0.13 * np.maximum(-lip, 0) * np.sin(np.pi * np.clip(1.0 - red, 0, 1)) * front, dz=0.09 * np.maximum(-lip, 0) * red * front
        ),
        "mouth_width": field(0.15 * np.tanh(x / 2.0) * f(0.0, MOUTH_Y, 4.2, 1.9)),
        "mouth_height": field(dy=0.15 * f(0.0, MOUTH_Y, 3.8, 1.8)),
        "lips_forward": field(dz=0.18 * f(0.0, MOUTH_Y, 2.8, 1.9)),
        "brow_ridge": field(dz=0.16 * (f2(2.5, 1.7, 1.9, 0.9) + f(0.0, 1.5, 1.2, 0.8))),
        "brow_height": field(dy=0.09 * (f2(2.6, 2.0, 2.4, 1.3))),
        "forehead_slope": field(dz=-0.35 * smoothstep(py, 2.0, 8.0) * smoothstep(pz, 1.0, 6.0)),
        "temple_width": field(0.22 * side * np.exp(-(((py - 3.0) / 2.6) ** 2)) * smoothstep(pz, -3.0, 3.0)),
        "ear_size": field(0.0, 0.09 * (py + 1.7) * ear, -0.09 * (0.1 - pz) * ear),
        "ear_angle": field(0.30 * side * ear * smoothstep(pz, 0.8, -2.2), 0.0, 0.0),
        "neck_width": field(
            0.35 * side * smoothstep(py, -9.5, -12.5) * smoothstep(np.abs(px), 0.5, 4.0) * smoothstep(py, -22.0, -17.0), 0.0, 0.0
        ),
        "hair_volume": 0.22 * hair[:, None] * _outward(points),
    }
    generator = numpy_generator("clay", "identity", 1)
    for number in range(1, 5):
        modes[f"smooth_{number}"] = _smooth_mode(points, front, generator, odd=number == 4)
    return np.stack([modes[name] for name in NAMES])


def _outward(points: Array) -> Array:
    away = points - np.array([0.0, 0.5, -0.5])
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)


def _smooth_mode(points: Array, front: Array, generator: np.random.Generator, *, odd: bool) -> Array:
    """A long-waved random displacement of the face, mirror-symmetric unless ``odd``."""
    px, py, pz = points.T
    out = np.zeros_like(points)
    for _ in range(4):
        wave = generator.normal(size=2) / np.array([6.0, 5.0])
        phase = generator.uniform(0, 2 * np.pi)
        direction = generator.normal(size=3) * np.array([0.4, 0.5, 1.0])
        shape = np.cos(wave[0] * px) * np.cos(wave[1] * py + phase)
        if odd:
            shape = np.sin(wave[0] * px) * np.cos(wave[1] * py + phase) * 0.6
        x_part = shape * (np.tanh(px / 2.0) if not odd else np.ones_like(px))
        out += 0.11 * np.stack([direction[0] * x_part, direction[1] * shape, direction[2] * shape], axis=-1)
    return out * (front * smoothstep(py, -13.0, -10.5) * smoothstep(pz, -1.0, 4.0))[:, None]
