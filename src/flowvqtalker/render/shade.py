"""From world vertices to a picture: materials, light and a compiled shader over the rasteriser's samples.

Visibility is sampled 2 x 2 per pixel. A pixel whose samples all see one material at about one depth is shaded once, in its middle; only
silhouettes and borders between materials are shaded per sample. All arithmetic is sequential float32: the same input gives the same
bytes.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowvqtalker.checks import check_shape
from flowvqtalker.face.camera import Camera
from flowvqtalker.face.model import FaceModel
from flowvqtalker.render.raster import Buffers, compute_normals, fill, fill_barycentric, project_points
from flowvqtalker.render.texture import Appearance, wrinkle_maps, wrinkle_weights

Array = NDArray[np.float32]

SKIN, EYE, TEETH, HAIR, CLOTH, WET, PLAIN_SKIN = range(7)
_MATERIALS = {
    "skin": SKIN, "face": SKIN, "head_neck": SKIN, "eyeball_r": EYE, "eyeball_l": EYE, "teeth_upper": TEETH, "teeth_lower": TEETH, "teeth": TEETH,
    "hair": HAIR, "long_hair": HAIR, "cloth": CLOTH, "mouth_cavity": WET, "mouth_socket": WET, "gums": WET, "gums_tongue": WET, "tongue": WET,
    "ears": PLAIN_SKIN, "lid_inside": PLAIN_SKIN, "eye_socket_r": PLAIN_SKIN, "eye_socket_l": PLAIN_SKIN,
}  # fmt: skip
SAMPLES = 2


@dataclass(frozen=True)
class Light:
    """One soft key light and a sky-to-ground ambient; colours are linear RGB.

    Attributes:
        direction: (3,) unit vector towards the light, world frame.
        colour: (3,) radiance of the key light.
        sky: (3,) ambient from above.
        ground: (3,) ambient from below.
        exposure: factor on the final linear colour, > 0.
    """

    direction: Array
    colour: Array
    sky: Array
    ground: Array
    exposure: float = 1.0


def default_light() -> Light:
    """A neutral studio light from the upper left of the picture."""
    direction = np.array([-0.35, 0.45, 0.82], np.float32)
    as_float = functools.partial(np.array, dtype=np.float32)
    return Light(
        direction / np.float32(np.linalg.norm(direction)),
        as_float([0.82, 0.80, 0.77]),
        as_float([0.38, 0.39, 0.41]),
        as_float([0.22, 0.20, 0.19]),
    )


def sample_light(generator: np.random.Generator) -> Light:
    """Draw a light: key from the front half, ambient of varied strength, colour temperature from warm to cool."""
    yaw, pitch = math.radians(generator.uniform(-55, 55)), math.radians(generator.uniform(5, 50))
    direction = np.array([math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)], np.float32)
    warmth = float(generator.normal(0.0, 0.06))
    white = np.array([1.0 + warmth, 1.0, 1.0 - warmth], np.float32)
    ambient = float(generator.uniform(0.26, 0.50))
    key = float(generator.uniform(0.55, 0.95)) * (1.15 - 0.6 * ambient)
    bounce = np.float32(ambient * generator.uniform(0.4, 0.75))
    return Light(direction, white * np.float32(key), white[::-1] * np.float32(ambient), white * bounce, float(generator.uniform(0.9, 1.12)))


@functools.cache
def _gamma_table() -> NDArray[np.uint8]:
    """4096-entry table from linear light in [0, 1] (with a soft shoulder above 0.8) to sRGB bytes."""
    x = np.arange(4096) / 4095.0 * 1.6
    x = np.where(x < 0.7, x, 0.7 + 0.3 * (1 - np.exp(-(x - 0.7) / 0.3)))
    return np.clip(255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055) + 0.5, 0, 255).astype(np.uint8)


@functools.cache
def _gamma_inverse() -> Array:
    """Linear light of each sRGB byte (256,), the inverse of the table above on [0, 0.99]."""
    table = _gamma_table().astype(np.float64)
    return np.interp(np.arange(256), table, np.arange(4096) / 4095.0 * 1.6).astype(np.float32)


@njit(cache=True, error_model="numpy", inline="always")
def _texel(u, v, height, width):
    """Upper left texel and the fractions to its neighbours for u, v in [0, 1], clamped at the border."""
    x = min(max(u * np.float32(width) - np.float32(0.5), np.float32(0.0)), np.float32(width) - np.float32(1.001))
    y = min(max(v * np.float32(height) - np.float32(0.5), np.float32(0.0)), np.float32(height) - np.float32(1.001))
    j, i = np.int32(x), np.int32(y)
    return np.uintp(i), np.uintp(j), y - np.float32(i), x - np.float32(j)


@njit(cache=True, error_model="numpy", inline="always")
def _bilinear(texture, u, v, out):
    """Bilinear look-up of a (H, W, 4) uint8 texture as values in [0, 1]."""
    i, j, fy, fx = _texel(u, v, texture.shape[0], texture.shape[1])
    one = np.float32(1.0)
    scale = np.float32(1.0 / 255.0)
    a, b, c, d = (one - fx) * (one - fy) * scale, fx * (one - fy) * scale, (one - fx) * fy * scale, fx * fy * scale
    for k in range(4):
        out[k] = (
            a * np.float32(texture[i, j, k]) + b * np.float32(texture[i, j + np.uintp(1), k])
            + c * np.float32(texture[i + np.uintp(1), j, k]) + d * np.float32(texture[i + np.uintp(1), j + np.uintp(1), k])
        )  # fmt: skip


@njit(cache=True, error_model="numpy", inline="always")
def _bilinear_one(image, u, v):
    """Bilinear look-up of a (H, W) float32 image."""
    i, j, fy, fx = _texel(u, v, image.shape[0], image.shape[1])
    one = np.float32(1.0)
    return (image[i, j] * (one - fx) + image[i, j + 1] * fx) * (one - fy) + (image[i + 1, j] * (one - fx) + image[i + 1, j + 1] * fx) * fy


@njit(cache=True, error_model="numpy")
def _mix_wrinkles(maps, weights, out):
    """Sum of the wrinkle maps (K, H, W) with weights (K,) into (H, W)."""
    out[:] = 0.0
    for k in range(maps.shape[0]):
        w = weights[k]
        if w > 0.003:
            for i in range(maps.shape[1]):
                for j in range(maps.shape[2]):
                    out[i, j] += w * maps[k, i, j]


@njit(cache=True, error_model="numpy", inline="always")
def _shade_point(
    f, u, v, projected, world, normals, triangles, uv, occlusion, material, part, part_colour, texture, wrinkle, has_wrinkle, iris,
    light_dir, light_colour, sky, ground, camera_z, lid_shadow, scratch, colour,
):  # fmt: skip
    """Linear colour of triangle ``f`` at pixel (u, v) into ``colour`` (3,)."""
    # Unsigned indices spare the test for negative ones at every access.
    a, b, c = np.uintp(triangles[f, 0]), np.uintp(triangles[f, 1]), np.uintp(triangles[f, 2])
    x0, y0, x1, y1, x2, y2 = projected[a, 0], projected[a, 1], projected[b, 0], projected[b, 1], projected[c, 0], projected[c, 1]
    # Perspective-correct weights are areas over depths; multiplied by all three depths they need one division instead of nine. A front face has a
    # negative area here, see ``fill``.
    z0, z1, z2 = projected[a, 2], projected[b, 2], projected[c, 2]
    w0 = max((y2 - y1) * (u - x1) - (x2 - x1) * (v - y1), np.float32(0.0)) * (z1 * z2)
    w1 = max((y0 - y2) * (u - x2) - (x0 - x2) * (v - y2), np.float32(0.0)) * (z0 * z2)
    w2 = max((y1 - y0) * (u - x0) - (x1 - x0) * (v - y0), np.float32(0.0)) * (z0 * z1)
    total = np.float32(1.0) / max(w0 + w1 + w2, np.float32(1e-30))
    w0, w1, w2 = w0 * total, w1 * total, w2 * total
    nx = w0 * normals[a, 0] + w1 * normals[b, 0] + w2 * normals[c, 0]
    ny = w0 * normals[a, 1] + w1 * normals[b, 1] + w2 * normals[c, 1]
    nz = w0 * normals[a, 2] + w1 * normals[b, 2] + w2 * normals[c, 2]
    norm = np.float32(1.0) / max(np.sqrt(nx * nx + ny * ny + nz * nz), np.float32(1e-6))
    nx, ny, nz = nx * norm, ny * norm, nz * norm
    px = w0 * world[a, 0] + w1 * world[b, 0] + w2 * world[c, 0]
    py = w0 * world[a, 1] + w1 * world[b, 1] + w2 * world[c, 1]
    pz = w0 * world[a, 2] + w1 * world[b, 2] + w2 * world[c, 2]
    tu = w0 * uv[a, 0] + w1 * uv[b, 0] + w2 * uv[c, 0]
    tv = w0 * uv[a, 1] + w1 * uv[b, 1] + w2 * uv[c, 1]
    ambient_share = w0 * occlusion[a] + w1 * occlusion[b] + w2 * occlusion[c]

    vx, vy, vz = -px, -py, camera_z - pz
    norm = np.float32(1.0) / np.sqrt(vx * vx + vy * vy + vz * vz)
    vx, vy, vz = vx * norm, vy * norm, vz * norm
    facing = nx * light_dir[0] + ny * light_dir[1] + nz * light_dir[2]
    hx, hy, hz = vx + light_dir[0], vy + light_dir[1], vz + light_dir[2]
    norm = np.float32(1.0) / np.sqrt(hx * hx + hy * hy + hz * hz)
    half = max((nx * hx + ny * hy + nz * hz) * norm, np.float32(0.0))
    up = np.float32(0.5) + np.float32(0.5) * ny
    # Powers by squaring: pow() would cost as much as everything else here.
    half4 = half * half * half * half
    half16 = half4 * half4 * half4 * half4
    half64 = half16 * half16 * half16 * half16
    kind = material
    shine = np.float32(0.0)
    wrap = np.float32(0.0)
    red, green, blue = part_colour[part, 0], part_colour[part, 1], part_colour[part, 2]
    key = np.float32(1.0)
    if kind == 0:  # skin
        _bilinear(texture, tu, tv, scratch)
        red, green, blue = scratch[0] * scratch[0], scratch[1] * scratch[1], scratch[2] * scratch[2]
        if has_wrinkle:
            fold = np.float32(1.0) + _bilinear_one(wrinkle, tu, tv)
            red, green, blue = red * np.sqrt(fold), green * fold, blue * fold
        shine = np.float32(0.16) * scratch[3] * half16 + np.float32(0.10) * scratch[3] * half64
        wrap = np.float32(0.22)
        key = np.float32(0.35) + np.float32(0.65) * ambient_share
    elif kind == 1:  # eye: tu = polar angle / pi, tv = turn / 2 pi
        polar = tu * np.float32(math.pi)
        turn = tv * np.float32(2 * math.pi)
        if polar < 0.455:
            fibre = (
                np.float32(0.82) + np.float32(0.18) * np.sin(turn * 23 + 3 * np.sin(turn * 7)) + np.float32(0.12) * np.sin(turn * 41 + 1.3)
            )
            ring = np.float32(0.75) + np.float32(0.75) * np.exp(-(((polar - np.float32(0.24)) / np.float32(0.09)) ** 2))
            limbus = np.float32(1.0) - np.float32(0.80) * min(
                max((polar - np.float32(0.36)) / np.float32(0.09), np.float32(0.0)), np.float32(1.0)
            )
            pupil = min(max((polar - np.float32(0.155)) / np.float32(0.03), np.float32(0.0)), np.float32(1.0))
            amount = fibre * ring * limbus
            red, green, blue = iris[0] * amount * pupil, iris[1] * amount * pupil, iris[2] * amount * pupil
            red, green, blue = red + np.float32(0.004), green + np.float32(0.004), blue + np.float32(0.004)
        else:
            edge = min(max((polar - np.float32(0.455)) / np.float32(0.05), np.float32(0.0)), np.float32(1.0))
            vein = min(max((polar - np.float32(0.70)) / np.float32(0.5), np.float32(0.0)), np.float32(1.0))
            base = np.float32(0.34) + np.float32(0.50) * edge
            red, green, blue = (
                base * np.float32(0.93),
                base * (np.float32(0.90) - np.float32(0.20) * vein),
                base * (np.float32(0.88) - np.float32(0.22) * vein),
            )
        shine = np.float32(0.9) * half64 * half64 * half64 * half64 + np.float32(0.10) * half16 * half16
        wrap = np.float32(0.25)
        shadow = np.float32(0.42) + np.float32(0.58) * lid_shadow
        key = shadow
        ambient_share = ambient_share * shadow
        shine = shine * shadow
    elif kind == 2:  # teeth: tu = place within the tooth, tv = height
        gap = min(tu, np.float32(1.0) - tu)
        dark = np.float32(1.0) - np.float32(0.5) * np.exp(-((gap / np.float32(0.045)) ** 2))
        warm = np.float32(1.0) - np.float32(0.15) * (np.float32(1.0) - tv)
        red, green, blue = red * dark, green * dark * warm, blue * dark * warm * warm
        shade = np.float32(0.35) + np.float32(0.65) * lid_shadow
        ambient_share = ambient_share * shade
        key = ambient_share
        shine = np.float32(0.20) * half64 * ambient_share
    elif kind == 3:  # hair
        _bilinear(texture, tu, tv, scratch)
        # How much lighter than the hair's plain colour this strand is: the highlight runs along the light strands.
        red_t, green_t, blue_t = scratch[0] * scratch[0], scratch[1] * scratch[1], scratch[2] * scratch[2]
        band = min(max(green_t / max(green, np.float32(1e-4)) - np.float32(0.6), np.float32(0.0)), np.float32(1.0))
        red, green, blue = red_t, green_t, blue_t
        shine = np.float32(0.07) * half16 * band
        wrap = np.float32(0.15)
    elif kind == 4:  # cloth
        weave = np.float32(0.95) + np.float32(0.05) * np.sin(px * 9) * np.sin(py * 9)
        red, green, blue = red * weave, green * weave, blue * weave
    elif kind == 5:  # wet insides
        key = ambient_share
        shine = np.float32(0.25) * half16 * half16 * ambient_share
        wrap = np.float32(0.2)
    else:  # plain skin
        wrap = np.float32(0.22)
        shine = np.float32(0.05) * half16
        key = np.float32(0.35) + np.float32(0.65) * ambient_share

    # Light bleeds further round the edge of skin in red than in blue.
    lit_r = max((facing + wrap * np.float32(1.35)) / (np.float32(1.0) + wrap * np.float32(1.35)), np.float32(0.0)) * key
    lit_g = max((facing + wrap) / (np.float32(1.0) + wrap), np.float32(0.0)) * key
    lit_b = max((facing + wrap * np.float32(0.75)) / (np.float32(1.0) + wrap * np.float32(0.75)), np.float32(0.0)) * key
    colour[0] = red * (lit_r * light_colour[0] + (ground[0] + (sky[0] - ground[0]) * up) * ambient_share) + shine * light_colour[0]
    colour[1] = green * (lit_g * light_colour[1] + (ground[1] + (sky[1] - ground[1]) * up) * ambient_share) + shine * light_colour[1]
    colour[2] = blue * (lit_b * light_colour[2] + (ground[2] + (sky[2] - ground[2]) * up) * ambient_share) + shine * light_colour[2]


@njit(cache=True, error_model="numpy")
def _shade_image(
    triangle_map, depth_map, projected, world, normals, triangles, triangle_part, triangle_material, uv, occlusion, part_colour, texture, wrinkle, has_wrinkle,
    iris, light_dir, light_colour, sky, ground, camera_z, pixel_per_cm, exposure, background, gamma, inverse_gamma, out,
):  # fmt: skip
    height, width = out.shape[0], out.shape[1]
    scratch = np.empty(4, np.float32)
    colour = np.empty(3, np.float32)
    total = np.empty(3, np.float32)
    ids = np.empty(4, np.int32)
    # How far [samples] the shadow of lids and lips reaches over what lies behind them.
    eye_reach = np.float32(max(0.42 * pixel_per_cm * 2, 1.5))
    teeth_reach = np.float32(max(0.30 * pixel_per_cm * 2, 1.5))
    for row in range(height):
        for column in range(width):
            ids[0], ids[1] = triangle_map[2 * row, 2 * column], triangle_map[2 * row, 2 * column + 1]
            ids[2], ids[3] = triangle_map[2 * row + 1, 2 * column], triangle_map[2 * row + 1, 2 * column + 1]
            if ids[0] < 0 and ids[1] < 0 and ids[2] < 0 and ids[3] < 0:
                for c in range(3):
                    out[row, column, c] = background[row, column, c]
                continue
            uniform = ids[0] >= 0
            near, far = np.float32(1e9), np.float32(0.0)
            for s in range(4):
                if ids[s] < 0 or triangle_part[ids[s]] != triangle_part[ids[0]]:
                    uniform = False
                    break
                depth = depth_map[2 * row + s // 2, 2 * column + s % 2]
                near, far = min(near, depth), max(far, depth)
            if far - near > 0.8:
                uniform = False
            total[:] = 0.0
            count = 1 if uniform else 4
            share = np.float32(1.0) if uniform else np.float32(0.25)
            for s in range(count):
                f = ids[s]
                if f < 0:
                    for c in range(3):
                        total[c] += inverse_gamma[background[row, column, c]] / exposure
                    continue
                if count == 1:
                    u, v = np.float32(column), np.float32(row)
                else:
                    u, v = np.float32(column + (s % 2) * 0.5 - 0.25), np.float32(row + (s // 2) * 0.5 - 0.25)
                material = triangle_material[f]
                lid_shadow = np.float32(1.0)
                if material == 1 or material == 2:
                    reach = eye_reach if material == 1 else teeth_reach
                    r0, c0 = 2 * row + (s // 2 if count == 4 else 0), 2 * column + (s % 2 if count == 4 else 0)
                    lid_shadow = np.float32(1.0)
                    for step in range(1, int(reach) + 1):
                        if r0 - step < 0:
                            break
                        other = triangle_map[r0 - step, c0]
                        if other >= 0 and triangle_material[other] != material:
                            if material == 1 or triangle_material[other] == 0 or triangle_material[other] == 5:
                                lid_shadow = np.float32(step - 1) / reach
                            break
                _shade_point(
                    f, u, v, projected, world, normals, triangles, uv, occlusion, material, triangle_part[f], part_colour, texture, wrinkle, has_wrinkle,
                    iris, light_dir, light_colour, sky, ground, camera_z, lid_shadow, scratch, colour,
                )  # fmt: skip
                for c in range(3):
                    total[c] += colour[c]
            for c in range(3):
                value = total[c] * share * exposure
                out[row, column, c] = gamma[min(int(value * np.float32(4095.0 / 1.6) + np.float32(0.5)), 4095)]


@functools.lru_cache(maxsize=8)
def _model_tables(model: FaceModel) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Part and material of every triangle."""
    materials = np.array([_MATERIALS.get(name, PLAIN_SKIN) for name in model.part_names], np.int32)
    part = model.triangle_part.astype(np.int32)
    return part, materials[part]


class _Workspace:
    """Buffers reused from frame to frame, one set per model and size."""

    def __init__(self, model: FaceModel, size: tuple[int, int]) -> None:
        self.projected = np.empty((model.n_vertices, 3), np.float32)
        self.normals = np.empty((model.n_vertices, 3), np.float32)
        self.triangle = np.empty((size[0] * SAMPLES, size[1] * SAMPLES), np.int32)
        self.depth = np.empty((size[0] * SAMPLES, size[1] * SAMPLES), np.float32)
        self.wrinkle = np.empty(wrinkle_maps().shape[1:], np.float32)


@functools.lru_cache(maxsize=8)
def _workspace(model: FaceModel, size: tuple[int, int]) -> _Workspace:
    return _Workspace(model, size)


@functools.lru_cache(maxsize=32)
def _drawn(model: FaceModel, hidden: tuple[str, ...]) -> NDArray[np.uint8]:
    drawn = np.ones(len(model.triangles), np.uint8)
    for name in hidden:
        if name in model.part_names:
            drawn[model.triangle_part == model.part(name)] = 0
    return drawn


def _draw(
    model: FaceModel,
    vertices: Array,
    beta: NDArray[np.floating],
    appearance: Appearance,
    camera: Camera,
    size: tuple[int, int],
    light: Light,
    background: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], _Workspace]:
    check_shape("vertices", vertices, (model.n_vertices, 3))
    check_shape("background", background, (*size, 3))
    points = np.ascontiguousarray(vertices, np.float32)
    work = _workspace(model, size)
    drawn = _drawn(model, appearance.hidden_parts)
    project_points(
        points, np.float32(camera.focal_px), np.float32(camera.cx), np.float32(camera.cy), np.float32(camera.distance_cm), work.projected
    )
    compute_normals(points, model.triangles, drawn, work.normals)
    work.triangle.fill(-1)
    work.depth.fill(np.inf)
    fill(work.projected, model.triangles, drawn, float(SAMPLES), work.triangle, work.depth)
    weights = wrinkle_weights(beta) * np.float32(appearance.wrinkles)
    has_wrinkle = bool(weights.max() > 0.003)
    if has_wrinkle:
        _mix_wrinkles(wrinkle_maps(), weights, work.wrinkle)
    part, material = _model_tables(model)
    out = np.empty((*size, 3), np.uint8)
    head_depth = camera.distance_cm - float(points[:, 2].mean())
    _shade_image(
        work.triangle, work.depth, work.projected, points, work.normals, model.triangles, part, material, model.uv, model.occlusion, appearance.part_colour,
        appearance.texture, work.wrinkle, has_wrinkle, appearance.iris, light.direction, light.colour, light.sky, light.ground,
        np.float32(camera.distance_cm), np.float32(camera.focal_px / max(head_depth, 1.0)), np.float32(light.exposure), background, _gamma_table(), _gamma_inverse(), out,
    )  # fmt: skip
    return out, work


def render_frame(
    model: FaceModel,
    vertices: Array,
    beta: NDArray[np.floating],
    appearance: Appearance,
    camera: Camera,
    size: tuple[int, int],
    light: Light,
    background: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Render one frame.

    Args:
        model: the face model.
        vertices: (V, 3) float32 vertices in the world [cm], i.e. after the pose.
        beta: (53,) the expression of this frame; it only draws wrinkles here, the geometry is in ``vertices``.
        appearance: the person's looks.
        camera: the camera.
        size: (H, W) [px].
        light: the light.
        background: (H, W, 3) uint8 RGB behind the head.

    Returns:
        (H, W, 3) uint8 RGB, equal bytes for equal input.
    """
    return _draw(model, vertices, beta, appearance, camera, size, light, background)[0]


def render_frame_with_buffers(
    model: FaceModel,
    vertices: Array,
    beta: NDArray[np.floating],
    appearance: Appearance,
    camera: Camera,
    size: tuple[int, int],
    light: Light,
    background: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], Buffers]:
    """Like :func:`render_frame`, with triangle, depth and barycentrics of every sample (SAMPLES per pixel and axis)."""
    image, work = _draw(model, vertices, beta, appearance, camera, size, light, background)
    barycentric = np.empty((*work.triangle.shape, 3), np.float32)
    fill_barycentric(work.projected, model.triangles, work.triangle, float(SAMPLES), barycentric)
    return image, Buffers(work.triangle.copy(), work.depth.copy(), barycentric)
