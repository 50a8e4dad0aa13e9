"""Puts the clay head together: skin, lids, eyeballs, mouth, ears, hair, clothes, their shapes, contacts and landmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from flowvqtalker.face.clay import surface
from flowvqtalker.face.clay.identity import NAMES, identity_fields
from flowvqtalker.face.clay.loft import LAST_LEVEL, frontal_to_chart, loft
from flowvqtalker.face.clay.shapes import Chart, close_mouth, jaw_weight, lid_ring_weights, lip_ring_weights, lip_side, make_expressions
from flowvqtalker.face.clay.surface import PARTS, Parts, bump, smoothstep
from flowvqtalker.face.clay.topology import (
    BORDER_RING,
    EYE_COLUMNS,
    EYE_RADIUS,
    EYE_RINGS,
    EYE_X,
    EYE_Z,
    LIP_RINGS,
    MOUTH_COLUMNS,
    MOUTH_Y,
    Skin,
    _rings_to_triangles,
    column_angles,
    make_skin,
)  # fmt: skip
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.face.model import Contact, FaceModel, Shell

Array = NDArray[np.float64]
Index = NDArray[np.int32]


def chart_to_uv(theta: Array, level: Array) -> Array:
    """Texture coordinates (n, 2) in [0, 1] of the skin: five sixths of the width for the front, the same for crown to under the chin."""
    degrees = np.degrees(theta)
    u = np.interp(degrees, [-180, -85, 85, 180], [0.0, 0.08, 0.92, 1.0])
    v = np.interp(level, [0.0, 2.2, 10.5, LAST_LEVEL], [0.0, 0.08, 0.92, 1.0])
    return np.stack([u, v], axis=-1)


def vertex_normals(points: Array, triangles: Index) -> Array:
    """Area-weighted unit normals (n, 3)."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for k in range(3):
        np.add.at(normals, triangles[:, k], face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _shell_of(skin: Skin, points: Array, triangles: Index, thickness: Array) -> tuple[Array, Index, Index]:
    """A copy of the skin where ``thickness`` is not NaN, moved out by it: points, triangles, skin vertex of each."""
    keep = np.isfinite(thickness)
    used = keep[triangles].all(1)
    source = np.unique(triangles[used])
    local = np.full(len(points), -1)
    local[source] = np.arange(len(source))
    normals = vertex_normals(points, triangles)[source]
    away = points[source] - np.array([0.0, 0.5, -0.5])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    outward = normals + away
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    return points[source] + outward * thickness[source][:, None], local[triangles[used]].astype(np.int32), source.astype(np.int32)


def _hair_thickness(skin: Skin) -> tuple[Array, Array]:
    """Thickness [cm] of the hair over each skin vertex (NaN where none grows) and its share of the full thickness."""
    height = skin.y - surface.hair_line(skin.theta)
    grown = smoothstep(height, 0.0, 2.6)
    thickness = np.where(height > -0.45, -0.10 + 0.95 * grown, np.nan)
    return thickness, np.where(height > 0, grown, 0.0)


def _long_hair() -> tuple[Array, Index]:
    """Hair that falls behind the ears to the shoulders: an open sheet round the back, thick enough to be seen from the front."""
    rows, columns = 9, 31
    turn = np.radians(np.linspace(-262.0, -98.0, columns))
    height = np.linspace(5.5, -15.5, rows)
    t, h = np.meshgrid(turn, height, indexing="ij")
    swell = np.interp(h, [-16, -10, -4, 2, 6], [7.6, 8.2, 8.3, 8.2, 7.4])
    x = swell * np.sin(t)
    z = -1.0 + np.interp(h, [-16, -8, 0, 6], [7.8, 8.6, 9.0, 8.0]) * np.cos(t)
    outer = np.stack([x, h, z], -1)
    inner = np.stack([x * 0.86, h, -1.0 + (z + 1.0) * 0.86], -1)
    grid = np.concatenate([outer, inner[::-1]], axis=0)
    points = grid.reshape(-1, 3)
    triangles = surface.grid_triangles(2 * columns, rows, closed=False)[:, ::-1].copy()
    return points, triangles


def _long_hair_uv(points: Array) -> Array:
    """Texture coordinates of the long hair: its strands borrow the crown of the skin's chart, which is hair all round."""
    turn = np.arctan2(points[:, 0], -points[:, 2] - 1.0)
    return np.stack([0.5 + turn / (2 * np.pi), np.interp(points[:, 1], [-16.0, 6.0], [0.075, 0.005])], axis=-1)


def make_clay() -> FaceModel:
    """Build the clay head (about two seconds; deterministic, nothing is read from disk)."""
    skin = make_skin()
    skin_points = surface.skin_points(skin)
    parts = Parts()
    skin_index = parts.add("skin", skin_points, skin.triangles, chart_to_uv(skin.theta, skin.level))
    n_skin = len(skin_index)

    # Attributes of Chart, filled piece by piece in the order of the pieces.
    lid_weights = lid_ring_weights()
    lip_weights = lip_ring_weights()
    side = lip_side()
    lip = np.zeros(n_skin)
    red = np.zeros(n_skin)
    for ring in range(len(LIP_RINGS) + 1):
        lip[skin.mouth[ring]] = side
        red[skin.mouth[ring]] = lip_weights[ring]
    near_mouth = np.zeros(n_skin)
    near_mouth[skin.mouth] = np.interp(np.arange(len(LIP_RINGS) + 1), [0, BORDER_RING, len(LIP_RINGS)], [1.0, 0.75, 0.0])[:, None]
    lid_upper, lid_lower, lid_gap = np.zeros(n_skin), np.zeros(n_skin), np.zeros(n_skin)
    phi = column_angles(EYE_COLUMNS)
    # At the corners the columns belong to neither lid.
    share_up, share_low = np.maximum(np.sin(phi), 0) ** 0.1, np.maximum(-np.sin(phi), 0) ** 0.1
    for eye in range(2):
        margin = skin_points[skin.eye[eye, 0]]
        gap = np.abs(margin[:, 1] - margin[(-np.arange(EYE_COLUMNS)) % EYE_COLUMNS, 1])
        for ring in range(len(EYE_RINGS)):
            lid_upper[skin.eye[eye, ring]] = lid_weights[ring] * share_up
            lid_lower[skin.eye[eye, ring]] = lid_weights[ring] * share_low
            lid_gap[skin.eye[eye, ring]] = gap
    front = smoothstep(np.cos(skin.theta), 0.0, 0.25)
    jaw = jaw_weight(skin.x, skin.y, skin_points[:, 2], skin.level, lip, near_mouth)
    columns: dict[str, list[Array]] = {
        "x": [skin.x], "y": [skin.y], "skin": [np.ones(n_skin)], "front": [front], "jaw": [jaw], "lip": [lip], "red": [red],
        "lid_upper": [lid_upper], "lid_lower": [lid_lower], "lid_gap": [lid_gap], "ear": [np.zeros(n_skin)], "hair": [np.zeros(n_skin)],
    }  # fmt: skip
    mirror = [skin.mirror.astype(np.int64)]

    def describe(n: int, **given: Array | float) -> None:
        for key, column in columns.items():
            column.append(np.broadcast_to(np.asarray(given.get(key, 0.0), np.float64), (n,)).copy())

    def mirror_of(points: Array, other: Array, other_start: int) -> None:
        mirror.append(other_start + cKDTree(other).query(points * np.array([-1.0, 1.0, 1.0]))[1])

    # ---- inside of the lids: a copy of the margin first, so that its shading does not bleed into the skin
    inside_index, inside_rows = [], []
    for eye, sign in ((0, -1.0), (1, 1.0)):
        rows = np.concatenate([skin_points[skin.eye[eye, 0]][None], surface.lid_inside(skin_points, skin.eye[eye], sign)])
        inside_rows.append(rows)
        order = np.arange(rows.shape[0] * EYE_COLUMNS, dtype=np.int32).reshape(rows.shape[0], EYE_COLUMNS)
        strip = order[::-1] if sign > 0 else order[::-1][:, (-np.arange(EYE_COLUMNS)) % EYE_COLUMNS]
        inside_index.append(parts.add("lid_inside", rows.reshape(-1, 3), np.array(_rings_to_triangles(strip))).reshape(rows.shape[:2]))
        fade = np.repeat([1.0, 1.0, 0.75, 0.0], EYE_COLUMNS)
        tile = np.tile(skin.eye[eye, 0], 4)
        describe(
            len(tile),
            x=skin.x[tile],
            y=skin.y[tile],
            skin=fade,
            front=front[tile],
            jaw=jaw[tile] * fade,
            lid_upper=lid_upper[tile] * fade,
            lid_lower=lid_lower[tile] * fade,
            lid_gap=lid_gap[tile],
        )
    mirror.extend(inside_index[1 - eye].ravel().astype(np.int64) for eye in range(2))
    # ---- eyeballs
    ball_index = []
    for sign, name in ((-1.0, "eyeball_r"), (1.0, "eyeball_l")):
        points, triangles, uv = surface.eyeball(sign)
        ball_index.append(parts.add(name, points, triangles, uv))
        describe(len(points), x=sign * EYE_X)
    for eye in range(2):
        own, other = (np.concatenate(parts.points)[ball_index[k]] for k in (eye, 1 - eye))
        mirror_of(own, other, int(ball_index[1 - eye][0]))
    # ---- mouth
    points, triangles = surface.cavity(skin_points, skin.mouth)
    cavity_index = parts.add("mouth_cavity", points, triangles)
    n_rows = (len(points) - 1) // MOUTH_COLUMNS
    fade = np.concatenate([np.repeat([1.0, 0.95, 0.7, 0.25, 0.05, 0.0, 0.0][:n_rows], MOUTH_COLUMNS), [0.0]])
    tile = np.concatenate([np.tile(skin.mouth[0], n_rows), skin.mouth[0][:1]])
    lower_share = np.concatenate([np.tile(0.5 * (1 - side), n_rows), [0.4]])
    lower_share[:MOUTH_COLUMNS] = jaw[skin.mouth[0]]
    describe(
        len(points), x=skin.x[tile], y=skin.y[tile], skin=fade, front=front[tile], jaw=lower_share, lip=lip[tile] * (fade > 0), red=fade
    )
    mirror_of(points, points, int(cavity_index[0]))
    first_margin = cavity_index[:MOUTH_COLUMNS]
    mirror[-1][:MOUTH_COLUMNS] = first_margin[(MOUTH_COLUMNS // 2 - np.arange(MOUTH_COLUMNS)) % MOUTH_COLUMNS]
    for upper in (True, False):
        points, triangles = surface.gums(upper=upper)
        start = parts.add("gums", points, triangles)[0]
        describe(len(points), y=MOUTH_Y, jaw=0.0 if upper else 1.0)
        mirror_of(points, points, int(start))
        points, triangles, uv = surface.teeth(upper=upper)
        start = parts.add("teeth_upper" if upper else "teeth_lower", points, triangles, uv)[0]
        describe(len(points), y=MOUTH_Y, jaw=0.0 if upper else 1.0)
        mirror_of(points, points, int(start))
    points, triangles = surface.tongue()
    start = parts.add("tongue", points, triangles)[0]
    describe(len(points), y=MOUTH_Y, jaw=0.92)
    mirror_of(points, points, int(start))
    # ---- ears, hair, clothes
    ears = [surface.ear(sign) for sign in (-1.0, 1.0)]
    starts = [int(parts.add("ears", points, triangles)[0]) for points, triangles in ears]
    for eye, (points, _) in enumerate(ears):
        describe(len(points), x=points[:, 0], y=points[:, 1], ear=1.0)
        mirror_of(points, ears[1 - eye][0], starts[1 - eye])
    thickness, grown = _hair_thickness(skin)
    points, triangles, source = _shell_of(skin, skin_points, skin.triangles, thickness)
    start = int(parts.add("hair", points, triangles, chart_to_uv(skin.theta[source], skin.level[source]))[0])
    describe(len(points), x=skin.x[source], y=skin.y[source], skin=1.0, front=front[source], hair=grown[source])
    mirror.append(start + np.searchsorted(source, skin.mirror[source]))
    points, triangles = surface.torso()
    start = parts.add("cloth", points, triangles)[0]
    describe(len(points), x=points[:, 0], y=points[:, 1])
    mirror_of(points, points, int(start))
    points, triangles = _long_hair()
    start = parts.add("long_hair", points, triangles, _long_hair_uv(points))[0]
    describe(len(points), x=points[:, 0], y=points[:, 1])
    mirror_of(points, points, int(start))

    all_points = np.concatenate(parts.points)
    triangles = np.concatenate(parts.triangles)
    part = np.concatenate(parts.part)
    column = {key: np.concatenate(value) for key, value in columns.items()}
    mirror_all = np.concatenate(mirror).astype(np.int64)
    chart = Chart(
        all_points, *(column[key] for key in ("x", "y", "skin", "front", "jaw", "lip", "red", "lid_upper", "lid_lower", "lid_gap"))
    )
    expression = make_expressions(chart, mirror_all)
    lips = [(skin.mouth[ring], float(share)) for ring, share in enumerate(lip_weights)]
    lips += [(cavity_index[row * MOUTH_COLUMNS : (row + 1) * MOUTH_COLUMNS], share) for row, share in enumerate((1.0, 1.0, 0.7))]
    close_mouth(expression, lips)
    identity, centre_identity = _identity(all_points, column, part, skin, ball_index, inside_index, cavity_index)

    return FaceModel(
        name="clay",
        mean=all_points.astype(np.float32),
        identity=identity.astype(np.float32),
        identity_std=np.ones(len(NAMES), np.float32),
        identity_names=NAMES,
        expression=np.where(np.abs(expression) < 2e-4, 0.0, expression).astype(np.float32),
        triangles=triangles,
        vertex_part=part,
        part_names=PARTS,
        uv=np.concatenate(parts.uv).astype(np.float32),
        landmarks68=_landmarks(skin, skin_points),
        eyeball_centres=np.array([[-EYE_X, 0.0, EYE_Z], [EYE_X, 0.0, EYE_Z]], np.float32),
        eyeball_centre_identity=centre_identity.astype(np.float32),
        eyeball_vertices=(ball_index[0], ball_index[1]),
        occlusion=_occlusion(all_points, column, part, n_skin, n_rows, cavity_index).astype(np.float32),
        contacts=_contacts(skin, inside_index, cavity_index),
        shell=_shell(skin, all_points, inside_index),
        limits=((EXPRESSION_INDEX["mouthClose"], EXPRESSION_INDEX["jawOpen"]),),
        expression_names=EXPRESSIONS,
    )


def _identity(
    points: Array, column: dict[str, Array], part: Index, skin: Skin, balls: list[Index], inside: list[Index], cavity: Index
) -> tuple[Array, Array]:
    fields = identity_fields(points, column["x"], column["y"], column["front"], column["lip"], column["red"], column["ear"], column["hair"])
    centres = np.zeros((len(fields), 2, 3))
    for eye in range(2):
        # An eyeball goes where the surroundings of its eye go on average.
        shift = fields[:, skin.eye[eye, 2:4].ravel()].mean(1)
        centres[:, eye] = shift
        fields[:, balls[eye]] = shift[:, None]
        follow = fields[:, skin.eye[eye, 0]]
        for row, share in enumerate((1.0, 1.0, 0.6, 0.0)):
            fields[:, inside[eye][row]] = share * follow + (1 - share) * shift[:, None]
    shift = fields[:, skin.mouth[0]].mean(1)
    for name in ("gums", "teeth_upper", "teeth_lower", "tongue"):
        fields[:, part == PARTS.index(name)] = shift[:, None]
    follow = fields[:, skin.mouth[0]]
    for row in range((len(cavity) - 1) // MOUTH_COLUMNS):
        share = max(1.0 - 0.25 * row, 0.0)
        fields[:, cavity[row * MOUTH_COLUMNS : (row + 1) * MOUTH_COLUMNS]] = share * follow + (1 - share) * shift[:, None]
    fields[:, cavity[-1]] = shift
    return fields, centres


def _contacts(skin: Skin, inside: list[Index], cavity: Index) -> tuple[Contact, ...]:
    axis = np.array([0.0, 1.0, 0.0], np.float32)

    def make(n: int, rings: list[tuple[Index, float]]) -> Contact:
        pairs = np.arange(1, n // 2)
        margin = rings[0][0]
        follower, column, weight = [], [], []
        for ring, share in rings:
            for sign, at in ((1.0, pairs), (-1.0, n - pairs)):
                follower.append(ring[at])
                column.append(np.arange(len(pairs)))
                weight.append(np.full(len(pairs), sign * share))
        as_index = [np.concatenate(values).astype(np.int32) for values in (follower, column)]
        return Contact(
            margin[pairs].copy(), margin[n - pairs].copy(), axis, as_index[0], as_index[1], np.concatenate(weight).astype(np.float32)
        )

    lips = [(skin.mouth[r], w) for r, w in enumerate((1.0, 0.95, 0.85, 0.72, 0.6, 0.42, 0.2))]
    lips += [(cavity[:MOUTH_COLUMNS], 1.0), (cavity[MOUTH_COLUMNS : 2 * MOUTH_COLUMNS], 0.8)]
    contacts = [make(MOUTH_COLUMNS, lips)]
    for eye in range(2):
        lids = [(skin.eye[eye, r], w) for r, w in enumerate((1.0, 0.95, 0.85, 0.6, 0.3, 0.1))]
        lids += [(inside[eye][0], 1.0), (inside[eye][1], 1.0), (inside[eye][2], 0.6)]
        contacts.append(make(EYE_COLUMNS, lids))
    return tuple(contacts)


def _shell(skin: Skin, points: Array, inside: list[Index]) -> Shell:
    vertex, eye_of, radius = [], [], []
    for eye, sign in ((0, -1.0), (1, 1.0)):
        centre = np.array([sign * EYE_X, 0.0, EYE_Z])
        rows = [(skin.eye[eye, r], surface.LID_RADIUS + 0.02 * r) for r in range(5)]
        rows += [(inside[eye][0], surface.LID_RADIUS), (inside[eye][1], EYE_RADIUS + 0.02), (inside[eye][2], EYE_RADIUS + 0.01)]
        for vertices, least in rows:
            distance = np.linalg.norm(points[vertices] - centre, axis=1)
            vertex.append(vertices)
            eye_of.append(np.full(len(vertices), eye))
            radius.append(np.minimum(distance, least))
    return Shell(
        np.concatenate(vertex).astype(np.int32), np.concatenate(eye_of).astype(np.int32), np.concatenate(radius).astype(np.float32)
    )


def _landmarks(skin: Skin, points: Array) -> Index:
    """Vertex of each of the 68 points: fixed vertices, also along the jaw."""
    found = np.zeros(68, np.int64)
    tree = cKDTree(points[: len(skin.x)])
    # Jaw: from beside the ear down the jaw's edge to the chin.
    turn = np.radians([-86, -84, -80, -74, -65, -53, -38, -20, 0])
    level = np.array([4.95, 5.6, 6.4, 7.2, 7.9, 8.4, 8.7, 8.85, 8.95])
    where = loft(turn, level)
    where[:, 2] += surface.relief(where[:, 0], where[:, 1]) * smoothstep(np.cos(turn), 0.02, 0.30)
    found[:9] = tree.query(where)[1]
    found[9:17] = skin.mirror[found[:8][::-1]]

    def frontal(xs: list[float], ys: list[float]) -> Index:
        x, y = np.array(xs), np.array(ys)
        theta, lev = frontal_to_chart(x, y)
        place = loft(theta, lev)
        place[:, 2] += surface.relief(x, y)
        return tree.query(place)[1]

    found[17:22] = frontal([-5.1, -4.4, -3.4, -2.3, -1.2], [1.75, 2.2, 2.35, 2.15, 1.8])
    found[22:27] = skin.mirror[found[17:22][::-1]]
    found[27:31] = frontal([0.0, 0.0, 0.0, 0.0], [0.1, -1.25, -2.6, -3.95])
    found[31:34] = frontal([-1.25, -0.62, 0.0], [-4.85, -5.0, -5.05])
    found[34:36] = skin.mirror[found[31:33][::-1]]
    quarter = EYE_COLUMNS // 4
    third = int(np.argmin(np.abs(np.cos(column_angles(EYE_COLUMNS)[: quarter + 1]) - 0.36)))
    right, left = skin.eye[0, 0], skin.eye[1, 0]
    ups = [2 * quarter - third, third]
    found[36:42] = right[[0, ups[1], ups[0], 2 * quarter, EYE_COLUMNS - ups[0], EYE_COLUMNS - ups[1]]]
    found[42:48] = left[[2 * quarter, ups[0], ups[1], 0, EYE_COLUMNS - ups[1], EYE_COLUMNS - ups[0]]]
    border, margin = skin.mouth[BORDER_RING], skin.mouth[0]

    def at(across: float, *, upper: bool) -> int:
        column = int(np.argmin(np.abs(np.cos(column_angles(MOUTH_COLUMNS)[: MOUTH_COLUMNS // 2 + 1]) - across)))
        return column if upper else (MOUTH_COLUMNS - column) % MOUTH_COLUMNS

    outer = [at(u, upper=True) for u in (-1.0, -0.62, -0.26, 0.0, 0.26, 0.62, 1.0)] + [
        at(u, upper=False) for u in (0.62, 0.30, 0.0, -0.30, -0.62)
    ]
    found[48:60] = border[outer]
    inner = [at(u, upper=True) for u in (-0.97, -0.42, 0.0, 0.42, 0.97)] + [at(u, upper=False) for u in (0.42, 0.0, -0.42)]
    found[60:68] = margin[inner]
    return found.astype(np.int32)


def _occlusion(points: Array, column: dict[str, Array], part: Index, n_skin: int, rows: int, cavity: Index) -> Array:
    """Ambient light that reaches each vertex, written by hand where a face is known to be dark."""
    x, y = np.abs(column["x"]), column["y"]
    px, py, pz = points.T
    light = np.ones(len(points))
    face = np.zeros(len(points))
    face[:n_skin] = column["front"][:n_skin]
    light -= face * (
        0.30 * bump(x, y, 1.75, 0.1, 0.7, 0.9)
        + 0.16 * bump(x, y, 3.0, 0.95, 1.5, 0.35)
        + 0.42 * bump(x, y, 0.6, -4.95, 0.75, 0.25)
        + 0.18 * bump(x, y, 1.75, -4.4, 0.3, 0.6)
    )
    light -= face * (0.20 * bump(x, y, 0.0, -8.6, 1.5, 0.35) + 0.30 * bump(x, y, 2.6, MOUTH_Y, 0.35, 0.3))
    light[:n_skin] *= (1 - 0.45 * smoothstep(py, -10.0, -13.0))[:n_skin]
    light[part == PARTS.index("lid_inside")] = 0.55
    depth = np.concatenate([np.repeat([0.6, 0.36, 0.20, 0.12, 0.07, 0.05, 0.04][:rows], MOUTH_COLUMNS), [0.04]])
    light[cavity] = depth
    for name, near, far in (("teeth_upper", 0.88, 0.25), ("teeth_lower", 0.74, 0.2), ("gums", 0.5, 0.15), ("tongue", 0.55, 0.10)):
        chosen = part == PARTS.index(name)
        light[chosen] = np.interp(pz[chosen], [5.5, 9.0], [far, near])
    chosen = part == PARTS.index("ears")
    light[chosen] = np.interp(np.abs(px[chosen]), [6.6, 7.6], [0.45, 1.0])
    return np.clip(light, 0.03, 1.0)
