"""The 53 expression shapes of the clay head, as displacement fields over its chart.

Every shape is written once for the subject's left side and mirrored. Amplitudes are in cm at coefficient 1. Lids and lips get their
motion ring by ring, everything else as Gaussians over the frontal coordinates; slopes of the fields stay below 1 so that no
single shape can fold the skin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowvqtalker.face.clay.surface import bump, smoothstep
from flowvqtalker.face.clay.topology import EYE_RINGS, EYE_X, LIP_RINGS, MOUTH_COLUMNS, MOUTH_Y, column_angles
from flowvqtalker.face.expressions import EXPRESSIONS

Array = NDArray[np.float64]

JAW_AXIS = np.array([0.0, -1.8, 1.2])
JAW_OPEN_RAD = np.radians(20.0)


@dataclass(frozen=True)
class Chart:
    """What a vertex is told about its place.

    Attributes:
        points: (n, 3) resting position.
        x, y: (n,) frontal coordinates that the fields use (a lid's inside has those of its margin).
        skin: (n,) 1 where skin fields act, 0 inside the head and on eyeballs, teeth, tongue, cloth.
        front: (n,) 1 on the face, 0 behind the ears.
        jaw: (n,) share of the jaw's motion.
        lip: (n,) +1 upper lip, -1 lower lip, fading outwards and at the corners.
        red: (n,) 1 at the lip margin, falling to 0 at the outermost mouth ring.
        lid_upper, lid_lower: (n,) 1 at a lid's margin, falling to 0 at the outermost eye ring (sign tells nothing; both sides).
        lid_gap: (n,) height [cm] between the open margins in this vertex' column.
    """

    points: Array
    x: Array
    y: Array
    skin: Array
    front: Array
    jaw: Array
    lip: Array
    red: Array
    lid_upper: Array
    lid_lower: Array
    lid_gap: Array


def jaw_weight(x: Array, y: Array, z: Array, level: Array, lip: Array, near_mouth: Array) -> Array:
    """Share in [0, 1] of the jaw's motion for skin at frontal (x, y), depth z and loft level."""
    # The line from the mouth's corner to the joint in front of the ear parts what follows the jaw from what stays.
    line = np.interp(z, [1.0, 8.6], [-2.6, MOUTH_Y])
    away = 0.5 * (1 - np.tanh((y - line) / np.interp(z, [2.0, 8.5], [2.6, 1.7])))
    close = 0.5 * (1 - lip)
    weight = near_mouth * close + (1 - near_mouth) * away
    weight = weight * smoothstep(level, 12.6, 9.2) * smoothstep(z, -2.0, 3.5)
    return weight * np.where(np.abs(x) < 9, 1.0, 0.0)


def _vector(amount: Array, x: float, y: float, z: float) -> Array:
    return amount[:, None] * np.array([x, y, z])


def _jaw_turn(points: Array, angle: float) -> Array:
    y, z = points[:, 1] - JAW_AXIS[1], points[:, 2] - JAW_AXIS[2]
    cosine, sine = np.cos(angle), np.sin(angle)
    # Opening lowers what lies in front of the axis: a positive turn about +x.
    out = np.zeros_like(points)
    out[:, 1] = cosine * y - sine * z - y
    out[:, 2] = sine * y + cosine * z - z
    return out


def left_shapes(chart: Chart) -> dict[str, Array]:
    """Displacement (n, 3) of each shape: names without side are whole, names ending in ``_L`` act on the subject's left only."""
    x, y, skin = chart.x, chart.y, chart.skin * chart.front
    left = smoothstep(x, -0.35, 0.9)
    upper, lower = np.maximum(chart.lip, 0.0), np.maximum(-chart.lip, 0.0)
    #: Lip motion fades towards the corners by itself (lip is 0 there) and from the red outwards.
    lip_band = chart.red

    def g(cx: float, cy: float, sx: float, sy: float | Array) -> Array:
        return skin * bump(x, y, cx, cy, sx, sy)

    s: dict[str, Array] = {}
    # What lids do beside closing dies out towards the corners faster than the gap itself.
    widest = max(float(chart.lid_gap.max()), 1e-6)
    lid_move = chart.lid_gap**3 / widest**2
    # ---- brows
    # Below, the fields reach further than above: the fold over the eye has to take up the whole way of the brow.
    low = np.where(y < 1.8, 1.42, 1.0)
    s["browDown_L"] = (
        _vector(g(1.5, 1.75, 1.5, 1.05 * low), -0.20, -0.48, 0.10)
        + _vector(g(3.7, 1.85, 1.5, 1.0 * low), -0.05, -0.27, 0.05)
        + _vector(g(2.0, 4.2, 2.4, 1.8), 0.0, -0.22, 0.0)
    )
    s["browInnerUp_L"] = _vector(g(1.25, 1.95, 1.5, 1.35), 0.05, 0.92, 0.10) + _vector(g(1.6, 4.6, 2.2, 1.8), 0.0, 0.35, 0.0)
    s["browOuterUp_L"] = _vector(g(4.1, 1.95, 1.6, 1.3), 0.03, 0.88, 0.0) + _vector(g(3.9, 4.4, 2.0, 1.8), 0.0, 0.35, 0.0)
    # ---- cheeks and nose
    s["cheekPuff_L"] = _vector(g(4.3, -6.0, 1.9, 2.2), 0.65, 0.05, 0.75) + _vector(g(1.7, -6.6, 1.6, 1.6) * (1 - chart.red), 0.1, 0.0, 0.25)
    s["cheekSquint_L"] = _vector(g(3.9, -2.2, 1.8, 1.25), 0.02, 0.50, 0.22) + _vector(chart.lid_lower * lid_move * left, 0.0, 0.10, 0.0)
    s["noseSneer_L"] = (
        _vector(g(1.25, -4.1, 0.85, 1.05), 0.12, 0.29, 0.05)
        + _vector(g(1.1, -1.6, 1.0, 1.4), 0.05, 0.28, 0.16)
        + _vector(upper * lip_band * skin * bump(x, 0 * y, 1.3, 0.0, 1.1, 1.0), 0.0, 0.28, 0.05)
        + _vector(g(2.6, -3.4, 1.2, 1.4), 0.0, 0.25, 0.12)
    )
    # ---- lids: margins meet just above where the lower lid lies, a little beyond, so that the contact seals them
    # In the middle the upper lid does the work; towards the corners the lids meet half way, so that the seam runs into the corner.
    cornered = (1.0 - chart.lid_gap / widest) ** 2
    close_low = np.minimum(0.15 + 0.60 * cornered, np.where(np.abs(x) > EYE_X, 0.50, 0.28))
    close_up = 1.05 - close_low
    s["eyeBlink_L"] = left[:, None] * (
        _vector(chart.lid_upper * chart.lid_gap * close_up, 0.0, -1.0, 0.0)
        + _vector(chart.lid_lower * chart.lid_gap * close_low, 0.0, 1.0, 0.0)
    ) + _vector(g(3.2, 1.5, 1.5, 0.8), 0, -0.06, 0)
    s["eyeWide_L"] = left[:, None] * (
        _vector(chart.lid_upper * lid_move, 0.0, 0.22, 0.02) + _vector(chart.lid_lower * lid_move, 0.0, -0.08, 0.0)
    )
    s["eyeSquint_L"] = left[:, None] * (
        _vector(chart.lid_upper * lid_move, 0.0, -0.20, 0.0) + _vector(chart.lid_lower * lid_move, 0.0, 0.30, 0.0)
    ) + _vector(g(3.5, -1.3, 1.5, 0.8), 0.0, 0.16, 0.06)
    s["eyeLookDown_L"] = left[:, None] * (
        _vector(chart.lid_upper * lid_move, 0.0, -0.42, 0.0) + _vector(chart.lid_lower * lid_move, 0.0, -0.10, 0.0)
    )
    s["eyeLookUp_L"] = left[:, None] * (
        _vector(chart.lid_upper * lid_move, 0.0, 0.11, 0.0) + _vector(chart.lid_lower * lid_move, 0.0, 0.06, 0.0)
    )
    s["eyeLookIn_L"] = left[:, None] * _vector((chart.lid_upper + chart.lid_lower) * lid_move, -0.06, 0.0, 0.0)
    s["eyeLookOut_L"] = left[:, None] * _vector((chart.lid_upper + chart.lid_lower) * lid_move, 0.06, 0.0, 0.0)
    # ---- jaw
    open_field = chart.jaw[:, None] * _jaw_turn(chart.points, JAW_OPEN_RAD)
    hollow = _vector(g(4.6, -6.2, 1.5, 2.6) + g(-4.6, -6.2, 1.5, 2.6), 0.0, 0.0, -0.25)
    hollow[:, 0] = -0.25 * np.sign(x) * (g(4.6, -6.2, 1.5, 2.6) + g(-4.6, -6.2, 1.5, 2.6))
    s["jawOpen"] = open_field + hollow + _vector(upper * lip_band * skin, 0.0, 0.12, 0.0)
    s["jawForward"] = _vector(chart.jaw, 0.0, -0.05, 0.75)
    s["jawLeft"] = _vector(chart.jaw, 0.75, -0.05, 0.0)
    # ---- mouth, whole
    near = skin * np.exp(-(((x / 2.9) ** 2 + ((y - MOUTH_Y) / 1.9) ** 2) ** 1.5))
    ring = skin * lip_band
    s["mouthFunnel"] = (
        _vector(ring, 0.0, 0.0, 0.62) + _vector(near * (1 - lip_band), 0.0, 0.0, 0.30)
        + _vector(ring * upper, 0.0, 0.34, 0.0) + _vector(ring * lower, 0.0, -0.40, 0.0) + _vector(near * -np.tanh(x / 2.2), 0.55, 0.0, 0.0)
    )  # fmt: skip
    s["mouthPucker"] = (
        _vector(near * -np.tanh(x / 2.2), 1.0, 0.0, 0.0)
        + _vector(ring * bump(x, 0 * y, 0.0, 0.0, 2.4, 1.0), 0.0, 0.0, 0.72)
        + _vector(near, 0.0, 0.0, 0.18)
    )
    s["mouthLeft"] = _vector(near, 0.75, 0.0, 0.0) + _vector(skin * bump(x, y, 2.8, MOUTH_Y, 1.2, 1.2), 0.05, 0.10, 0.0)
    s["mouthRollLower"] = _vector(ring * lower, 0.0, 0.30, -0.34) + _vector(g(0.0, -8.6, 2.0, 0.8), 0.0, 0.10, 0.05)
    s["mouthRollUpper"] = _vector(ring * upper, 0.0, -0.26, -0.32)
    s["mouthShrugLower"] = _vector(ring * lower, 0.0, 0.34, 0.24) + _vector(g(0.0, -9.4, 1.9, 1.5), 0.0, 0.42, 0.12)
    s["mouthShrugUpper"] = _vector(ring * upper, 0.0, 0.28, 0.22) + _vector(ring * lower, 0.0, 0.20, 0.12)
    # ---- mouth, sided
    corner = skin * bump(x, y, 2.7, MOUTH_Y, 1.55, 1.35)
    cheek = g(4.0, -4.2, 1.7, 1.7)
    s["mouthSmile_L"] = (
        _vector(corner, 0.72, 0.78, -0.38)
        + _vector(cheek, 0.12, 0.42, 0.30)
        + _vector(g(0.6, MOUTH_Y + 0.4, 1.4, 0.8) * left, 0.05, 0.10, -0.10)
    )
    s["mouthFrown_L"] = (
        _vector(skin * bump(x, y, 2.5, MOUTH_Y - 0.1, 1.3, 1.2), 0.12, -0.68, -0.10)
        + _vector(g(2.9, -8.6, 1.2, 1.0), 0.08, -0.20, 0.12)
        + _vector(ring * lower * left, 0.0, 0.08, 0.06)
    )
    s["mouthDimple_L"] = _vector(skin * bump(x, y, 2.7, MOUTH_Y, 1.3, 1.2), 0.50, 0.06, -0.45)
    s["mouthStretch_L"] = _vector(skin * bump(x, y, 2.6, MOUTH_Y - 0.2, 1.6, 1.4), 0.78, -0.38, -0.22) + _vector(
        ring * lower * left, 0.05, -0.14, 0.0
    )
    half = bump(x, 0 * y, 1.35, 0.0, 1.25, 1.0)
    s["mouthLowerDown_L"] = _vector(ring * lower * half, 0.06, -0.58, 0.02) + _vector(g(1.4, -8.7, 1.3, 0.9), 0.03, -0.15, 0.0)
    s["mouthUpperUp_L"] = _vector(ring * upper * half, 0.04, 0.48, 0.05) + _vector(g(2.0, -5.0, 1.2, 1.1), 0.0, 0.20, 0.08)
    s["mouthPress_L"] = left[:, None] * (_vector(ring * upper, 0.0, -0.10, -0.16) + _vector(ring * lower, 0.0, 0.13, -0.16)) + _vector(
        corner, 0.06, 0.05, -0.12
    )
    return s


def make_expressions(chart: Chart, mirror: NDArray[np.intp]) -> Array:
    """(53, n, 3) displacement of every expression; ``mirror`` (n,) maps each vertex to its mirror image."""
    left = left_shapes(chart)
    flip = np.array([-1.0, 1.0, 1.0])
    out = np.zeros((len(EXPRESSIONS), *chart.points.shape))
    for number, name in enumerate(EXPRESSIONS):
        if name == "mouthClose":
            continue  # needs pairs of vertices: see close_mouth
        if name in left:
            out[number] = left[name]
        elif name.endswith("_R"):
            out[number] = left[f"{name[:-2]}_L"][mirror] * flip
        else:
            out[number] = left[f"{name.removesuffix('Right')}Left"][mirror] * flip
    return out


def close_mouth(expression: Array, rings: list[tuple[NDArray[np.integer], float]]) -> None:
    """Write mouthClose: what lips must do, pair by pair, to meet over a jaw that is open at 1.

    Args:
        expression: (53, n, 3), all other shapes filled; changed in place.
        rings: (columns,) vertices of each mouth ring, margin first, and their share of the lips' motion.
    """
    close, jaw_open = expression[EXPRESSIONS.index("mouthClose")], expression[EXPRESSIONS.index("jawOpen")]
    margin = rings[0][0]
    half = MOUTH_COLUMNS // 2
    upper = np.arange(1, half)
    lower = MOUTH_COLUMNS - upper
    parted = jaw_open[margin[lower]] - jaw_open[margin[upper]]
    # Two in a hundred too far: the contact of the lips takes it back and the seal holds for every face.
    # Right at the corners only the margin itself goes all the way: the rings behind it have no room.
    corner = np.clip(1.0 - np.minimum(upper, half - upper) / 3.0, 0.0, 1.0)[:, None]
    for number, (vertices, share) in enumerate(rings):
        way = 1.02 * share * parted * (1.0 - (0.25 * corner if 0 < number < len(LIP_RINGS) else 0.0))
        close[vertices[lower]] = -0.80 * way
        close[vertices[upper]] = 0.20 * way


def lid_ring_weights() -> Array:
    """Share of a lid's motion for each eye ring, margin first, outermost last."""
    return np.interp(EYE_RINGS, [0.0, 0.09, 0.2, 0.33, 0.5, 0.72, 1.0], [1.0, 0.94, 0.83, 0.68, 0.48, 0.24, 0.0])


def lip_ring_weights() -> Array:
    """Share of the lips' motion for each mouth ring, margin first, outermost last."""
    return np.array([1.0, 0.98, 0.91, 0.82, 0.73, 0.59, 0.35, 0.0])[: len(LIP_RINGS) + 1]


def lip_side() -> Array:
    """(columns,) +1 on the upper lip, -1 on the lower, running through 0 at the corners."""
    sine = np.sin(column_angles(MOUTH_COLUMNS))
    return np.sign(sine) * np.abs(sine) ** 1.6


__all__ = [
    "EYE_X",
    "Chart",
    "close_mouth",
    "jaw_weight",
    "left_shapes",
    "lid_ring_weights",
    "lip_ring_weights",
    "lip_side",
    "make_expressions",
]
