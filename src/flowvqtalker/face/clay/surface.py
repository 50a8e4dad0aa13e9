"""Where the clay head's vertices lie at rest: features on the loft, lids, lips, and the parts inside and around the skin."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flowvqtalker.face.clay.loft import loft
from flowvqtalker.face.clay.topology import (
    EYE_COLUMNS,
    EYE_RADIUS,
    EYE_RINGS,
    EYE_X,
    EYE_Z,
    LIP_RINGS,
    MOUTH_COLUMNS,
    MOUTH_Y,
    Skin,
    column_angles,
)

Array = NDArray[np.float64]
Index = NDArray[np.int32]

PARTS = (
    "skin",
    "lid_inside",
    "eyeball_r",
    "eyeball_l",
    "mouth_cavity",
    "gums",
    "teeth_upper",
    "teeth_lower",
    "tongue",
    "ears",
    "hair",
    "cloth",
    "long_hair",
)
LID_THICKNESS = 0.10
#: Least distance of the lids' skin from the eyeball's centre [cm].
LID_RADIUS = EYE_RADIUS + 0.09


def bump(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float | Array) -> Array:
    """Gaussian of height 1 at (cx, cy) with spreads sx, sy [cm]."""
    return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)


def both(x: Array, y: Array, cx: float, cy: float, sx: float, sy: float) -> Array:
    """The sum of a :func:`bump` and its mirror image."""
    return bump(x, y, cx, cy, sx, sy) + bump(x, y, -cx, cy, sx, sy)


def smoothstep(value: Array, low: float, high: float) -> Array:
    """0 below low, 1 above high, smooth between (low > high turns it round)."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def relief(x: Array, y: Array) -> Array:
    """Height [cm] along +z that nose, brows, sockets, cheeks, muzzle and chin add to the front of the loft at frontal (x, y)."""
    z = 0.30 * both(x, y, 2.5, 1.75, 1.9, 0.75) + 0.22 * bump(x, y, 0.0, 1.4, 1.3, 0.8)
    z = z - 0.80 * both(x, y, 2.7, 0.1, 1.55, 1.0) - 0.25 * both(x, y, 4.9, 0.0, 1.0, 1.0)
    z = z + 0.42 * both(x, y, 4.4, -2.3, 1.5, 1.3) - 0.12 * both(x, y, 3.4, -4.8, 1.0, 1.4)
    z = z + 0.80 * bump(x, y, 0.0, -6.7, 2.7, 2.1)
    z = z + 0.75 * bump(x, y, 0.0, -10.3, 1.7, 1.1) - 0.33 * bump(x, y, 0.0, -8.75, 1.9, 0.45)
    z = z - 0.10 * bump(x, y, 0.0, -5.65, 0.2, 0.55) + 0.05 * both(x, y, 0.42, -5.65, 0.2, 0.6)
    return z + nose(x, y)


def nose(x: Array, y: Array) -> Array:
    """The nose alone: a ridge that rises from the root to the tip, the wings beside it, and the step to the lip below."""
    profile = np.interp(
        y, [-5.6, -5.05, -4.75, -4.35, -3.9, -3.2, -2.0, -0.8, 0.3, 1.3], [0.0, 0.25, 1.35, 2.18, 2.30, 1.95, 1.45, 0.95, 0.42, 0.0]
    )
    # Smoothing by three samples rounds the corners of the profile without losing the step under the tip.
    for shift in (0.12, -0.12):
        shifted = np.interp(
            y + shift,
            [-5.6, -5.05, -4.75, -4.35, -3.9, -3.2, -2.0, -0.8, 0.3, 1.3],
            [0.0, 0.25, 1.35, 2.18, 2.30, 1.95, 1.45, 0.95, 0.42, 0.0],
        )
        profile = profile + shifted
    profile = profile / 3.0
    width = np.interp(y, [-5.5, -4.4, -3.8, -2.5, -0.8, 0.8], [0.98, 0.98, 0.95, 0.74, 0.60, 0.80])
    ridge = profile * np.exp(-((np.abs(x) / width) ** 2.2))
    wings = 0.95 * both(x, y, 1.22, -4.28, 0.50, 0.52)
    return ridge + wings


@dataclass
class Parts:
    """Growing list of vertices and triangles with one part index per vertex."""

    points: list[Array] = field(default_factory=list)
    triangles: list[Index] = field(default_factory=list)
    part: list[Index] = field(default_factory=list)
    uv: list[Array] = field(default_factory=list)
    count: int = 0

    def add(self, part: str, points: Array, triangles: Index, uv: Array | None = None) -> Index:
        """Append a piece whose triangles count from 0; returns the indices its vertices got."""
        index = np.arange(self.count, self.count + len(points), dtype=np.int32)
        self.points.append(np.asarray(points, np.float64))
        self.triangles.append((np.asarray(triangles, np.int64) + self.count).astype(np.int32))
        self.part.append(np.full(len(points), PARTS.index(part), np.int32))
        self.uv.append(np.zeros((len(points), 2)) if uv is None else uv)
        self.count += len(points)
        return index


def grid_triangles(rows: int, columns: int, *, closed: bool) -> Index:
    """Triangles of a grid numbered row by row; ``closed`` joins the last column to the first."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    a, b = (i * columns + j).ravel(), (i * columns + (j + 1) % columns).ravel()
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, c, d], 1), np.stack([a, d, b], 1)]).astype(np.int32)


def skin_points(skin: Skin) -> Array:
    """(n, 3) [cm] resting position of every skin vertex."""
    points = loft(skin.theta, skin.level)
    front = np.cos(skin.theta)
    points[:, 0], points[:, 1] = skin.x, skin.y
    points[:, 2] += relief(skin.x, skin.y) * smoothstep(front, 0.02, 0.30)
    for side, rings in ((-1.0, skin.eye[0]), (1.0, skin.eye[1])):
        _shape_lids(points, rings, side)
    _shape_lips(points, skin.mouth)
    return points


def lid_depth(dx: Array, dy: Array, radius: float) -> Array:
    """Z [cm] of a point of the lids at frontal offset (dx, dy) from the eyeball's centre: on the sphere, levelling off beyond it."""
    inside = radius**2 - dx**2 - dy**2
    floor = 0.55
    return EYE_Z + np.where(inside > floor**2, np.sqrt(np.maximum(inside, 1e-9)), floor * np.exp((inside - floor**2) / (2 * floor**2)))


def _shape_lids(points: Array, rings: Index, side: float) -> None:
    phi = column_angles(EYE_COLUMNS)
    upper = np.maximum(np.sin(phi), 0.0)
    for ring, fraction in enumerate(EYE_RINGS):
        vertices = rings[ring]
        dx, dy = (points[vertices, 0] * side - EYE_X), points[vertices, 1]
        on_ball = lid_depth(dx, dy, LID_RADIUS + 0.03 + 0.05 * min(fraction * 4, 1.0))
        weight = np.interp(fraction, [0.0, 0.20, 0.33, 0.5, 0.72, 1.0], [1.0, 1.0, 0.86, 0.5, 0.16, 0.0])
        blended = weight * on_ball + (1 - weight) * points[vertices, 2]
        # The fold above the upper lid: a groove that the open lid slides into.
        crease = -0.05 * upper**0.8 * np.exp(-(((fraction - 0.33) / 0.09) ** 2)) + 0.06 * upper * np.exp(-(((fraction - 0.62) / 0.18) ** 2))
        points[vertices, 2] = blended + crease


def _shape_lips(points: Array, rings: Index) -> None:
    phi = column_angles(MOUTH_COLUMNS)
    upper = np.sin(phi) >= 0
    belly = np.abs(np.sin(phi)) ** 0.8
    corner = np.exp(-((np.sin(phi) / 0.35) ** 2))
    tubercle = np.exp(-((np.cos(phi) / 0.2) ** 2))
    #                      margin  ->  border -> outside
    lift_upper = np.array([-0.10, 0.22, 0.36, 0.30, 0.14, 0.02, 0.0])
    lift_lower = np.array([-0.10, 0.20, 0.40, 0.34, 0.08, -0.05, -0.03])
    for ring in range(len(LIP_RINGS)):
        lift = np.where(upper, lift_upper[ring] + 0.04 * tubercle, lift_lower[ring])
        sunk = np.interp(ring, [0, 4, len(LIP_RINGS)], [0.30, 0.14, 0.0])
        points[rings[ring], 2] += lift * belly - sunk * corner
    # The mouth line is one line: both margins take their common middle.
    paired = rings[0][(-np.arange(MOUTH_COLUMNS)) % MOUTH_COLUMNS]
    points[rings[0], 2] = 0.5 * (points[rings[0], 2] + points[paired, 2].copy())


def lid_inside(points: Array, rings: Index, side: float) -> Array:
    """(3, columns, 3): the lid's thickness, its inner face, and a ring hidden inside the eyeball, so that no gap can be seen."""
    margin = points[rings[0]]
    centre = np.array([side * EYE_X, 0.0, EYE_Z])
    offset = margin - centre
    out = []
    for scale, radius in ((1.03, EYE_RADIUS + 0.015), (1.18, EYE_RADIUS + 0.0), (1.25, EYE_RADIUS - 0.30)):
        wide = offset * np.array([scale, scale, 1.0])
        wide[:, 2] = np.minimum(wide[:, 2], offset[:, 2] - 0.04)
        length = np.linalg.norm(wide, axis=1, keepdims=True)
        flat = wide * (radius / length)
        # At the corners the lids lie off the ball: there the inside only recedes.
        out.append(centre + flat)
    return np.stack(out)


def eyeball(side: float, rings: int = 15, columns: int = 24) -> tuple[Array, Index, Array]:
    """Front two thirds of an eyeball with a slight cornea: points, triangles, uv = (polar angle / pi, turn / 2 pi)."""
    polar = np.linspace(0.0, np.radians(118.0), rings + 1)[1:]
    turn = 2 * np.pi * np.arange(columns) / columns
    grid_polar, grid_turn = np.meshgrid(polar, turn, indexing="ij")
    cornea = 0.05 * np.exp(-((grid_polar / 0.33) ** 2))
    radius = EYE_RADIUS - 0.01 + cornea
    points = (
        np.stack([np.sin(grid_polar) * np.cos(grid_turn), np.sin(grid_polar) * np.sin(grid_turn), np.cos(grid_polar)], -1)
        * radius[..., None]
    )
    points = np.concatenate([[[0.0, 0.0, EYE_RADIUS + 0.04]], points.reshape(-1, 3)])
    triangles = [[0, 1 + k, 1 + (k + 1) % columns] for k in range(columns)]
    strip = grid_triangles(rings, columns, closed=True) + 1
    uv = np.concatenate([[[0.0, 0.0]], np.stack([grid_polar.ravel() / np.pi, grid_turn.ravel() / (2 * np.pi)], -1)])
    return points + np.array([side * EYE_X, 0.0, EYE_Z]), np.concatenate([np.array(triangles), strip]).astype(np.int32), uv


def cavity(points: Array, rings: Index) -> tuple[Array, Index]:
    """Lining of the mouth behind the lip margins: (rows, columns, 3) points ring by ring with a closing point, and triangles.

    The first ring is a copy of the lips' margin.
    """
    margin = points[rings[0]]
    phi = column_angles(MOUTH_COLUMNS)
    across, sine = np.cos(phi), np.sin(phi)
    lens = np.sign(sine) * np.abs(sine) ** 0.55
    rows = [margin]
    #        half width, height up, height down, z offset from the margin at the middle
    for width, up, down, depth in (
        (2.44, 0.10, 0.14, -0.22),
        (2.55, 0.75, 0.85, -0.50),
        (2.85, 1.55, 1.65, -0.95),
        (2.75, 1.75, 2.0, -3.2),
        (2.2, 1.3, 1.7, -5.2),
        (1.2, 0.7, 1.0, -6.0),
    ):
        row = np.empty_like(margin)
        row[:, 0] = width * across
        row[:, 1] = MOUTH_Y + np.where(sine >= 0, up, down) * lens
        keep = np.clip(1 + depth / 6.0, 0.0, 1.0)
        row[:, 2] = margin[:, 2] * keep + (1 - keep) * margin[:, 2].max() + depth - 0.35 * (1 - np.abs(sine)) * keep
        rows.append(row)
    end = rows[-1].mean(0, keepdims=True) + np.array([[0.0, 0.0, -0.2]])
    n = MOUTH_COLUMNS
    last = (len(rows) - 1) * n
    fan = np.array([[last + k, last + (k + 1) % n, len(rows) * n] for k in range(n)])
    strip = grid_triangles(len(rows), n, closed=True)[:, ::-1]
    return np.concatenate([*rows, end]), np.concatenate([strip, fan]).astype(np.int32)


def dental_arch(s: Array, half_width: float, depth: float, front_z: float) -> tuple[Array, Array]:
    """X and z [cm] along an arch, s in [-1, 1] from the subject's right molars to the left."""
    angle = s * np.radians(82.0)
    return half_width * np.sin(angle), front_z - depth + depth * np.cos(angle)


def teeth(*, upper: bool) -> tuple[Array, Index, Array]:
    """A row of twelve teeth: points, triangles, uv = (place within the tooth 0..1, height from gum 0 to edge 1)."""
    widths = np.array([0.62, 0.66, 0.62, 0.66, 0.68, 0.86] if upper else [0.62, 0.64, 0.60, 0.60, 0.54, 0.50])
    edges = np.concatenate([[0.0], np.cumsum(widths[::-1])])
    edges = edges / (edges[-1] * 1.02)
    bounds = np.concatenate([-edges[::-1], edges[1:]])
    half_width, depth, front_z = (2.55, 3.0, 9.15) if upper else (2.35, 2.8, 8.72)
    gum, tip = (MOUTH_Y + 0.70, MOUTH_Y - 0.24) if upper else (MOUTH_Y - 0.95, MOUTH_Y - 0.20)
    steps = np.array([0.0, 0.12, 0.5, 0.88])
    s = np.concatenate([left + (right - left) * steps for left, right in itertools.pairwise(bounds)] + [[bounds[-1]]])
    within = np.concatenate([np.tile(steps, len(bounds) - 1), [1.0]])
    crown = 1 - np.abs(2 * within - 1) ** 4
    x, z = dental_arch(s, half_width, depth, front_z)
    angle = s * np.radians(82.0)
    normal = np.stack([np.sin(angle) / half_width, np.cos(angle) / depth], -1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    rows, uv = [], []
    #        share of the height, outward
    for share, outward, edge in (
        (0.0, 0.02, 0.0),
        (0.25, 0.10, 0.0),
        (0.6, 0.09, 0.0),
        (0.9, 0.03, 1.0),
        (1.0, -0.10, 1.0),
        (0.85, -0.30, 1.0),
        (0.0, -0.40, 0.0),
    ):
        push = outward - 0.07 * (1 - crown) * (outward > 0)
        height = gum + (tip - gum) * share
        scallop = edge * (1 - crown) * 0.10 * (1.0 if upper else -1.0)
        rows.append(np.stack([x + normal[:, 0] * push, np.full_like(x, height) + scallop, z + normal[:, 1] * push], -1))
        uv.append(np.stack([within, np.full_like(x, share)], -1))
    triangles = grid_triangles(len(rows), len(s), closed=False)
    if not upper:
        triangles = triangles[:, ::-1]
    return np.concatenate(rows), triangles, np.concatenate(uv)


def gums(*, upper: bool) -> tuple[Array, Index]:
    """The band of gum from which a row of teeth grows."""
    s = np.linspace(-1.0, 1.0, 25)
    half_width, depth, front_z = (2.55, 3.0, 9.15) if upper else (2.35, 2.8, 8.72)
    x, z = dental_arch(s, half_width, depth, front_z)
    angle = s * np.radians(82.0)
    sign = 1.0 if upper else -1.0
    low = MOUTH_Y + 0.62 if upper else MOUTH_Y - 0.87
    rows = []
    for height, outward in ((0.0, 0.06), (0.12, 0.15), (0.55, 0.16), (0.95, -0.15), (0.95, -0.7), (0.0, -0.55)):
        rows.append(np.stack([x + np.sin(angle) * outward, np.full_like(x, low + sign * height), z + np.cos(angle) * outward], -1))
    triangles = grid_triangles(len(rows), len(s), closed=False)
    if upper:
        triangles = triangles[:, ::-1]
    return np.concatenate(rows), triangles


def tongue() -> tuple[Array, Index]:
    """A tongue at rest on the floor of the mouth."""
    rows, columns = 9, 14
    polar = np.linspace(0.0, np.pi, rows + 2)[1:-1]
    turn = 2 * np.pi * np.arange(columns) / columns
    p, t = np.meshgrid(polar, turn, indexing="ij")
    x, y, z = 1.75 * np.sin(p) * np.cos(t), 0.62 * np.sin(p) * np.sin(t), 2.6 * np.cos(p)
    y = y - 0.12 * np.exp(-((x / 0.3) ** 2)) * (np.sin(t) > 0)
    points = np.stack([x, y + MOUTH_Y - 0.85, z + 5.9], -1).reshape(-1, 3)
    tip, root = len(points), len(points) + 1
    points = np.concatenate([points, [[0.0, MOUTH_Y - 0.85, 8.5], [0.0, MOUTH_Y - 0.85, 3.3]]])
    fan = [[tip, k, (k + 1) % columns] for k in range(columns)]
    last = (rows - 1) * columns
    fan += [[root, last + (k + 1) % columns, last + k] for k in range(columns)]
    return points, np.concatenate([grid_triangles(rows, columns, closed=True), np.array(fan)]).astype(np.int32)


def ear(side: float) -> tuple[Array, Index]:
    """An ear: an egg-shaped dish with a raised rim, its hollow, the fold inside and a closed back."""
    columns = 26
    turn = 2 * np.pi * np.arange(columns) / columns
    # Outline in the ear's own plane: u backwards, v up; narrow lobe below.
    half_width = 1.55 + 0.35 * np.sin(turn) - 0.1 * np.cos(2 * turn)
    outline_u, outline_v = half_width * np.cos(turn), 3.05 * np.sin(turn)
    front = np.maximum(-np.cos(turn), 0.0)
    rows = []
    #       share of the outline, height of the surface outside, inside rows first
    for share, height in (
        (0.0, -0.55),
        (0.22, -0.55),
        (0.42, -0.25),
        (0.56, 0.18),
        (0.70, 0.06),
        (0.84, 0.10),
        (0.95, 0.34),
        (1.0, 0.20),
        (0.96, -0.05),
        (0.75, -0.35),
        (0.5, -0.9),
    ):
        concha = 1 - 0.5 * np.maximum(np.sin(turn), 0) * (share < 0.5)
        lobe = np.clip(-np.sin(turn) - 0.75, 0, 1) * 4.0
        h = height * concha * (1 - 0.6 * front * (height > 0)) * (1 - 0.6 * np.clip(lobe, 0, 1))
        rows.append(np.stack([outline_u * share + 0.15 * (1 - share), outline_v * share - 0.25 * (1 - share), h + np.zeros_like(turn)], -1))
    local = np.concatenate(rows)
    # The dish stands off the head at its back edge.
    swing, lean = np.radians(26.0), np.radians(10.0)
    u, v, h = local.T
    u, v = u * np.cos(lean) + v * np.sin(lean), v * np.cos(lean) - u * np.sin(lean)
    outward = u * np.sin(swing) + h * np.cos(swing)
    backward = u * np.cos(swing) - h * np.sin(swing)
    points = np.stack([side * (7.28 + outward), v - 1.7, 0.1 - backward], -1)
    triangles = grid_triangles(len(rows), columns, closed=True)
    if side < 0:
        triangles = triangles[:, ::-1].copy()
    return points, triangles


def hair_line(theta: Array) -> Array:
    """Height [cm] above which hair grows at a turn theta: over the forehead, down the temples, round the ears, to the nape."""
    degrees = np.abs(np.degrees(theta))
    return np.interp(
        degrees,
        [0, 22, 38, 50, 60, 70, 77, 84, 92, 104, 118, 135, 180],
        [6.4, 6.6, 6.0, 4.2, 1.9, 0.4, -1.2, -0.6, 1.2, 0.4, -4.6, -7.0, -7.8],
    )


def torso() -> tuple[Array, Index]:
    """Shoulders under a round collar."""
    columns = 36
    turn = 2 * np.pi * np.arange(columns) / columns
    rows = []
    #     half width, front z, back z, height in front, height behind
    for width, front, back, high, behind in (
        (5.05, 2.5, -7.2, -16.2, -13.4), (5.5, 3.3, -7.8, -15.9, -13.2), (6.3, 4.0, -8.4, -16.4, -13.6), (9.5, 5.2, -9.0, -17.8, -15.2), (15.0, 6.0, -9.4, -19.6, -17.4),
        (19.5, 6.6, -9.6, -22.5, -20.5), (20.5, 7.4, -9.8, -28.0, -27.0), (20.5, 7.6, -9.8, -40.0, -40.0),
    ):  # fmt: skip
        c, s = np.cos(turn), np.sin(turn)
        middle, depth = (front + back) / 2, (front - back) / 2
        share = (c + 1) / 2
        height = behind + (high - behind) * share
        rows.append(np.stack([width * s, height, middle + depth * c], -1))
    return np.concatenate(rows), grid_triangles(len(rows), columns, closed=True)
