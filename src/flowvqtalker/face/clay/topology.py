"""Which vertices the clay skin has and how they are joined.

Round each eye and round the mouth lie concentric rings of equal column count (margin, lid or lip, surroundings); the rest of the head is
filled with points whose spacing follows :func:`spacing`, relaxed like springs and joined by the convex hull on the sphere, which is the
Delaunay triangulation there. Left and right are mirror images. Every float that decides a connection is rounded first, so that
the last bits of a machine's libm cannot change the mesh.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from flowvqtalker.face.clay.loft import LAST_LEVEL, chart_to_direction, direction_to_chart, frontal_to_chart, loft
from flowvqtalker.seeding import numpy_generator

Array = NDArray[np.float64]
Index = NDArray[np.int32]

EYE_COLUMNS = 36
MOUTH_COLUMNS = 48
EYE_X, EYE_Z, EYE_RADIUS = 3.15, 6.75, 1.45
MOUTH_Y = -6.95

#: How far each eye ring lies on the way from the lid margin (0) to the outermost ring (1).
EYE_RINGS = (0.0, 0.09, 0.2, 0.33, 0.5, 0.72, 1.0)
EYE_OUTER = (2.05, 1.42, 0.08)  # half width, half height, centre's height of the outermost ring [cm]
MOUTH_OUTER = (3.7, 1.72, 1.95)  # half width, height above, height below the mouth line of the outermost ring [cm]


@dataclass(frozen=True)
class Skin:
    """The skin's vertices in chart coordinates and its triangles.

    Vertices come in this order: right-eye rings (outermost last), left-eye rings, mouth rings, then the filling.
    ``eye`` is (2, rings, columns) and ``mouth`` (rings, columns): vertex indices. Column 0 of an eye is its outer corner, of the mouth the
    left corner; a quarter turn on is the middle of the upper margin.
    """

    x: Array
    y: Array
    theta: Array
    level: Array
    triangles: Index
    eye: Index
    mouth: Index
    mirror: Index


def column_angles(columns: int) -> Array:
    """Angle [rad] of each ring column: between even in angle (bunched at the corners) and even in width, so that no corner triangle is tiny."""
    phi = 2 * np.pi * np.arange(columns) / columns
    even = 1 - 2 * np.minimum(phi, 2 * np.pi - phi) / np.pi
    angle = np.arccos(np.clip(0.4 * np.cos(phi) + 0.6 * even, -1.0, 1.0))
    return np.where(phi > np.pi, 2 * np.pi - angle, angle)


def eye_contour(columns: int = EYE_COLUMNS) -> tuple[Array, Array]:
    """Margin of the left eye's open lids relative to the eyeball's centre: x, y (columns,) [cm], outer corner first, upper lid next."""
    phi = column_angles(columns)
    across = np.cos(phi)
    arch = np.abs(np.sin(phi)) ** 1.35
    corner = np.where(across > 0, 0.07 * across, 0.17 * across)
    # The upper lid peaks a little towards the nose, the lower lid sags a little outwards.
    upper = 0.66 * arch * (1 - 0.10 * across)
    lower = -0.52 * arch * (1 + 0.12 * across)
    return 1.42 * across, corner + np.where(np.sin(phi) >= 0, upper, lower)


def eye_ring_points(fraction: float) -> tuple[Array, Array]:
    """Frontal offsets of one left-eye ring from the eyeball's centre [cm]."""
    phi = column_angles(EYE_COLUMNS)
    x, y = eye_contour()
    half_width, half_height, centre = EYE_OUTER
    return x + fraction * (half_width * np.cos(phi) - x), y + fraction * (centre + half_height * np.sin(phi) - y)


#: Lip rings from the margin outwards: height of the upper and lower lip's middle over the mouth line, half width [cm].
LIP_RINGS = np.array([
    # upper, lower, half width
    [0.012, 0.012, 2.34],
    [0.13, 0.16, 2.41],
    [0.37, 0.46, 2.49],
    [0.60, 0.76, 2.57],
    [0.76, 0.94, 2.66],  # border of the red
    [0.92, 1.14, 2.80],
    [1.18, 1.42, 3.10],
])  # fmt: skip
BORDER_RING = 4


def mouth_ring_points(ring: int) -> tuple[Array, Array]:
    """Frontal x and height over the mouth line of one lip ring [cm]; ring ``len(LIP_RINGS)`` is the outermost."""
    phi = column_angles(MOUTH_COLUMNS)
    across, sine = np.cos(phi), np.sin(phi)
    upper = sine >= 0
    if ring == len(LIP_RINGS):
        width, above, below = MOUTH_OUTER
        return width * across, np.where(upper, above, below) * sine
    above, below, width = LIP_RINGS[ring]
    # Lips are lenses with pointed corners; further out the rings grow round. The upper border has the bow's dip in its middle.
    roundness = np.interp(ring, [0, BORDER_RING, len(LIP_RINGS)], [1.6, 1.35, 1.0])
    lens = np.abs(sine) ** roundness
    bow = 1 - 0.16 * np.exp(-((across / 0.13) ** 2)) + 0.07 * np.exp(-(((np.abs(across) - 0.26) / 0.12) ** 2))
    strength = np.interp(ring, [0, 2, BORDER_RING, len(LIP_RINGS)], [0.0, 0.4, 1.0, 0.2])
    height = np.where(upper, above * lens * (1 + strength * (bow - 1)), -below * lens)
    return width * across, height


def spacing(x: Array, y: Array, theta: Array) -> Array:
    """Wanted edge length [cm] of the filling at frontal (x, y) and turn theta."""
    x = np.abs(x)
    front = np.clip((np.cos(theta) - 0.05) / 0.5, 0.0, 1.0)
    face = front * np.clip((8.5 - y) / 3.0, 0.0, 1.0) * np.clip((y + 14.0) / 2.5, 0.0, 1.0)
    size = 1.2 + face * (0.66 - 1.2)
    for cx, cy, sx, sy, want in (
        (3.15, 0.4, 2.6, 2.3, 0.42),
        (0.0, -4.0, 2.1, 1.5, 0.25),
        (0.0, -6.9, 4.3, 2.6, 0.42),
        (0.9, 0.6, 1.2, 1.6, 0.40),
    ):
        near = np.exp(-((((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) ** 1.5)) * (np.cos(theta) > 0)
        size = size + near * np.minimum(want - size, 0.0)
    return size


@njit(cache=True)
def _throw_darts(points, sizes, fixed_points, fixed_sizes):
    """Indices of candidates kept greedily: none closer to another than about the wanted spacing."""
    kept = np.empty(points.shape[0], np.int64)
    n = 0
    for i in range(points.shape[0]):
        free = True
        # Left of the midline lives the mirror image: half a spacing keeps the two sides apart.
        if points[i, 0] < 0.5 * sizes[i]:
            free = False
        for j in range(fixed_points.shape[0]):
            if not free:
                break
            reach = 0.40 * (sizes[i] + fixed_sizes[j])
            d0, d1, d2 = points[i, 0] - fixed_points[j, 0], points[i, 1] - fixed_points[j, 1], points[i, 2] - fixed_points[j, 2]
            if d0 * d0 + d1 * d1 + d2 * d2 < reach * reach:
                free = False
        for k in range(n):
            if not free:
                break
            j = kept[k]
            reach = 0.40 * (sizes[i] + sizes[j])
            d0, d1, d2 = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1], points[i, 2] - points[j, 2]
            if d0 * d0 + d1 * d1 + d2 * d2 < reach * reach:
                free = False
        if free:
            kept[n] = i
            n += 1
    return kept[:n]


def _round(values: Array) -> Array:
    return np.round(values, 7)


def _rings_to_triangles(rings: Index) -> list[tuple[int, int, int]]:
    """Join consecutive rings (R, N), innermost first and columns counter-clockwise seen from outside, by quads cut symmetrically."""
    triangles = []
    n = rings.shape[1]
    for inner, outer in itertools.pairwise(rings):
        for k in range(n):
            a, b, c, d = inner[k], inner[(k + 1) % n], outer[(k + 1) % n], outer[k]
            # Columns 0 and N/2 lie on the mirror axis of the margins: flip the diagonal from one quadrant to the next.
            if (4 * k // n) % 2 == 0:
                triangles += [(a, d, c), (a, c, b)]
            else:
                triangles += [(a, d, b), (d, c, b)]
    return [(int(i), int(j), int(k)) for i, j, k in triangles]


def _marched_midline() -> tuple[Array, Array]:
    """Chart points on the midline, front and back, spaced as :func:`spacing` wants, outside the mouth's outermost ring."""
    points: list[tuple[float, float]] = []
    for theta in (0.0, np.pi):
        levels = np.linspace(0.0, LAST_LEVEL - 0.05, 4001)
        line = loft(np.full_like(levels, theta), levels)
        # The nose will stand out from the loft; what counts there is the length along the nose.
        wanted = spacing(line[:, 0], line[:, 1], np.full_like(levels, theta))
        steps = np.linalg.norm(np.diff(line, axis=0), axis=1) / wanted[1:]
        travelled = np.concatenate([[0.0], np.cumsum(steps)])
        count = int(np.floor(travelled[-1]))
        for number in range(1, count + 1):
            level = float(np.interp(number * travelled[-1] / (count + 0.5), travelled, levels))
            _x, y, _ = loft(np.array(theta), np.array(level))
            inside = theta == 0.0 and -MOUTH_OUTER[2] - 0.2 < y - MOUTH_Y < MOUTH_OUTER[1] + 0.2
            if not inside:
                points.append((theta, level))
    points.append((0.0, 0.0))
    return np.array([p[0] for p in points]), np.array([p[1] for p in points])


def make_skin() -> Skin:
    """Vertices and triangles of the skin (about a second; deterministic)."""
    eye_rings = [eye_ring_points(fraction) for fraction in EYE_RINGS]
    mouth_rings = [mouth_ring_points(ring) for ring in range(len(LIP_RINGS) + 1)]
    left_x = np.concatenate([EYE_X + x for x, _ in eye_rings])
    left_y = np.concatenate([y for _, y in eye_rings])
    mouth_x = np.concatenate([x for x, _ in mouth_rings])
    mouth_y = np.concatenate([MOUTH_Y + y for _, y in mouth_rings])
    n_eye, n_mouth = len(left_x), len(mouth_x)
    eye = np.stack([np.arange(n_eye), n_eye + np.arange(n_eye)]).reshape(2, len(EYE_RINGS), EYE_COLUMNS).astype(np.int32)
    mouth = (2 * n_eye + np.arange(n_mouth)).reshape(len(LIP_RINGS) + 1, MOUTH_COLUMNS).astype(np.int32)
    ring_x, ring_y = np.concatenate([-left_x, left_x, mouth_x]), np.concatenate([left_y, left_y, mouth_y])
    ring_theta, ring_level = frontal_to_chart(ring_x, ring_y)
    n_rings = len(ring_x)

    mid_theta, mid_level = _marched_midline()
    neck_theta = np.linspace(0, np.pi, 13)[1:-1]
    rim = np.concatenate([[0.0, np.pi], neck_theta])
    fixed_theta = np.concatenate([ring_theta, mid_theta, rim])
    fixed_level = np.concatenate([ring_level, mid_level, np.full(len(rim), LAST_LEVEL)])
    fixed = loft(fixed_theta, fixed_level)
    outermost = np.concatenate([eye[1, -1], mouth[-1]])
    walls = np.concatenate([fixed[outermost], fixed[n_rings:]])

    def size_of(points: Array, theta: Array) -> Array:
        return spacing(points[:, 0], points[:, 1], theta)

    generator = numpy_generator("clay", "skin", 1)
    n_candidates = 26000
    theta = np.pi * generator.random(n_candidates) ** 1.7
    level = LAST_LEVEL * generator.random(n_candidates)
    # A second helping where the face is fine.
    x_face, y_face = 4.5 * generator.random(14000), 3.0 - 13.0 * generator.random(14000)
    theta_face, level_face = frontal_to_chart(x_face, y_face, iterations=12)
    theta, level = _round(np.concatenate([theta_face, theta])), _round(np.concatenate([level_face, level]))
    points = loft(theta, level)
    front = np.cos(theta) > 0
    half_width, half_height, centre = EYE_OUTER
    in_eye = ((points[:, 0] - EYE_X) / half_width) ** 2 + ((points[:, 1] - centre) / half_height) ** 2 < 1.0
    rise = points[:, 1] - MOUTH_Y
    in_mouth = (points[:, 0] / MOUTH_OUTER[0]) ** 2 + (rise / np.where(rise > 0, MOUTH_OUTER[1], MOUTH_OUTER[2])) ** 2 < 1.0
    allowed = ~(front & (in_eye | in_mouth))
    theta, level, points = theta[allowed], level[allowed], points[allowed]
    kept = _throw_darts(
        _round(points), _round(size_of(points, theta)), _round(walls), _round(size_of(walls, np.arctan2(walls[:, 0], walls[:, 2])))
    )
    free = chart_to_direction(theta[kept], level[kept])

    middle = chart_to_direction(mid_theta, mid_level)
    rim_directions = chart_to_direction(rim, np.full(len(rim), LAST_LEVEL))
    flip = np.array([-1.0, 1.0, 1.0])
    outer_right, outer_left = eye[0, -1], eye[1, -1]
    ring_directions = chart_to_direction(ring_theta, ring_level)
    # Order of the hull's points: outermost rings, midline, rim (both halves), free left, free right.
    frame = np.concatenate(
        [
            ring_directions[outer_right],
            ring_directions[outer_left],
            ring_directions[mouth[-1]],
            middle,
            rim_directions,
            rim_directions[2:] * flip,
        ]
    )
    n_frame = len(frame)
    n_free = len(free)
    triangles = np.zeros((0, 3), np.int64)
    for iteration in range(28):
        directions = _round(np.concatenate([frame, free, free * flip]))
        hull = ConvexHull(directions)
        triangles = hull.simplices.astype(np.int64)
        if iteration == 27:
            break
        edges = np.unique(np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1), axis=0)
        chart = direction_to_chart(directions)
        where = loft(*chart)
        size = size_of(where, chart[0])
        i, j = edges.T
        length = np.linalg.norm(where[i] - where[j], axis=1)
        push = np.maximum(1.12 * 0.5 * (size[i] + size[j]) - length, 0.0) / np.maximum(length, 1e-3)
        shift = (directions[i] - directions[j]) * np.minimum(push, 1.0)[:, None] * 0.18
        moved = np.zeros_like(directions)
        np.add.at(moved, i, shift)
        np.add.at(moved, j, -shift)
        # Left and right see mirrored neighbours up to ties of the triangulation: averaging them keeps the symmetry exact.
        mean = 0.5 * (moved[n_frame : n_frame + n_free] + moved[n_frame + n_free :] * flip)
        free = free + mean
        free[:, 0] = np.maximum(free[:, 0], 0.004)
        free = _round(free / np.linalg.norm(free, axis=1, keepdims=True))

    # Outward orientation, then cut the holes: what lies inside an outermost ring or under the rim of the neck.
    a, b, c = (directions[triangles[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c) < 0
    triangles[inward] = triangles[inward][:, ::-1]
    group = np.full(len(directions), -1)
    group[:EYE_COLUMNS], group[EYE_COLUMNS : 2 * EYE_COLUMNS] = 0, 1
    group[2 * EYE_COLUMNS : 2 * EYE_COLUMNS + MOUTH_COLUMNS] = 2
    group[2 * EYE_COLUMNS + MOUTH_COLUMNS + len(middle) : n_frame] = 3
    corner_groups = group[triangles]
    hole = (corner_groups[:, 0] >= 0) & (corner_groups[:, 0] == corner_groups[:, 1]) & (corner_groups[:, 0] == corner_groups[:, 2])
    triangles = triangles[~hole]

    # Hull numbering to skin numbering: rings first, then everything else.
    n_walls = 2 * EYE_COLUMNS + MOUTH_COLUMNS
    to_skin = np.concatenate([outer_right, outer_left, mouth[-1], n_rings + np.arange(len(directions) - n_walls)])
    filled = to_skin[triangles]
    right_rings, left_rings = eye[0], eye[1]
    # The right eye's columns run clockwise seen from outside (they mirror the left's): reverse them for the orientation.
    strips = (
        _rings_to_triangles(left_rings)
        + _rings_to_triangles(right_rings[:, (-np.arange(EYE_COLUMNS)) % EYE_COLUMNS])
        + _rings_to_triangles(mouth)
    )
    all_triangles = np.concatenate([np.array(strips), filled]).astype(np.int32)

    rest_theta, rest_level = direction_to_chart(directions[n_walls:])
    theta_all, level_all = np.concatenate([ring_theta, rest_theta]), np.concatenate([ring_level, rest_level])
    where = loft(theta_all, level_all)
    x_all, y_all = where[:, 0].copy(), where[:, 1].copy()
    x_all[:n_rings], y_all[:n_rings] = ring_x, ring_y
    n_rest = len(directions) - n_walls
    mirror = np.arange(n_rings + n_rest)
    mirror[eye[0].ravel()], mirror[eye[1].ravel()] = eye[1].ravel(), eye[0].ravel()
    mirror[mouth.ravel()] = mouth[:, (MOUTH_COLUMNS // 2 - np.arange(MOUTH_COLUMNS)) % MOUTH_COLUMNS].ravel()
    start = n_rings + (n_frame - n_walls)
    mirror[start : start + n_free], mirror[start + n_free :] = (
        np.arange(start + n_free, start + 2 * n_free),
        np.arange(start, start + n_free),
    )
    rim_left = n_rings + len(middle) + 2 + np.arange(len(neck_theta))
    rim_right = rim_left + len(neck_theta)
    mirror[rim_left], mirror[rim_right] = rim_right, rim_left
    return Skin(x_all, y_all, theta_all, level_all, all_triangles, eye, mouth, mirror.astype(np.int32))
