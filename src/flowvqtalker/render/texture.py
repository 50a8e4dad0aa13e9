"""How a person looks: procedural skin, lips, brows, stubble, freckles, eyes, hair and clothes, and the wrinkles that expressions draw.

Skin is a texture over the clay head's chart (``face.clay.build.chart_to_uv``), which every face model's ``uv`` uses. Texels know their
frontal place (x, y) [cm] on the mean head, and all patterns are written in those.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowvqtalker.face.clay.loft import LAST_LEVEL, loft
from flowvqtalker.face.clay.surface import both, bump, hair_line, smoothstep
from flowvqtalker.face.clay.topology import BORDER_RING, EYE_X, MOUTH_Y, eye_contour, mouth_ring_points
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.face.model import FaceModel
from flowvqtalker.render.background import smooth_noise

Array = NDArray[np.float32]

TEXTURE_SIZE = (384, 448)
WRINKLE_SIZE = (256, 288)


def srgb_to_linear(colour: Array | tuple[float, ...]) -> Array:
    """SRGB in [0, 255] to linear light in [0, 1]."""
    c = np.asarray(colour, np.float64) / 255.0
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Appearance:
    """Everything about a person's looks that is not geometry; colours are linear RGB in [0, 1].

    Attributes:
        texture: (H, W, 4) uint8: the square root of skin albedo, and gloss, both times 255, over the chart.
        part_colour: (P, 3) float32 albedo of each part of the model (unused for skin and ears, which take the texture and ``skin``).
        skin: (3,) plain skin albedo, for ears and the insides of the lids.
        iris: (3,) colour of the iris.
        hair: (3,) colour of the hair.
        wrinkles: strength of expression wrinkles, 0 (child) to about 1.5.
        hidden_parts: names of parts that this person does not have (``hair``, ``long_hair``).
        word: what was drawn, for logs and tests.
    """

    texture: NDArray[np.uint8]
    part_colour: Array
    skin: Array
    iris: Array
    hair: Array
    wrinkles: float
    hidden_parts: tuple[str, ...]
    word: str


@functools.cache
def texel_places(size: tuple[int, int] = TEXTURE_SIZE) -> tuple[Array, Array, Array, Array]:
    """Frontal x, y [cm], front share and turn theta [rad] of every texel, each (H, W) float32."""
    rows, columns = size
    v, u = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
    theta = np.radians(np.interp(u, [0.0, 0.08, 0.92, 1.0], [-180, -85, 85, 180]))
    level = np.interp(v, [0.0, 0.08, 0.92, 1.0], [0.0, 2.2, 10.5, LAST_LEVEL])
    grid_level, grid_theta = np.meshgrid(level, theta, indexing="ij")
    points = loft(grid_theta, grid_level)
    front = smoothstep(np.cos(grid_theta), 0.0, 0.2)
    return points[..., 0].astype(np.float32), points[..., 1].astype(np.float32), front.astype(np.float32), grid_theta.astype(np.float32)


def _brow_mask(x: Array, y: Array, thickness: float, arch: float, height: float) -> Array:
    """Density of brow hair, 0..1, before it is broken into strokes."""
    across = np.abs(x)
    centre = np.interp(across, [0.9, 2.2, 3.6, 4.6, 5.5], [1.95, 2.08, 2.20 + arch, 2.02 + arch, 1.62 + 0.5 * arch]) + height
    half = np.interp(across, [0.7, 1.0, 1.6, 3.6, 4.8, 5.6], [0.16, 0.25, 0.32, 0.26, 0.15, 0.03]) * thickness
    inside = np.exp(-(np.maximum(np.abs(y - centre) / half, 0.0) ** 3.0))
    return inside * smoothstep(across, 0.62, 1.35) * smoothstep(across, 5.7, 5.1)


def _lip_masks(x: Array, y: Array) -> tuple[Array, Array]:
    """Red of the lips (0..1, soft border) and closeness to the mouth line."""
    bx, by = mouth_ring_points(BORDER_RING)
    n = len(bx)
    upper = np.argsort(bx[: n // 2 + 1])
    top = np.interp(x, bx[: n // 2 + 1][upper], by[: n // 2 + 1][upper])
    low_columns = np.r_[n // 2 : n, 0]
    lower = np.argsort(bx[low_columns])
    bottom = np.interp(x, bx[low_columns][lower], by[low_columns][lower])
    rise = y - MOUTH_Y
    inside = smoothstep(top - rise, -0.05, 0.08) * smoothstep(rise - bottom, -0.06, 0.12) * smoothstep(np.abs(x), 2.72, 2.55)
    line = np.exp(-((rise / 0.06) ** 2)) * smoothstep(np.abs(x), 2.95, 2.6)
    return inside, line


def _eye_masks(x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """Upper lash line, lower lash line, wet rim inside the margins, and shade of the lid."""
    ex, ey = eye_contour()
    half = len(ex) // 2
    dx = np.abs(x) - EYE_X
    top = np.interp(dx, ex[: half + 1][::-1], ey[: half + 1][::-1])
    low = np.interp(dx, ex[np.r_[half : len(ex), 0]], ey[np.r_[half : len(ex), 0]])
    within = smoothstep(np.abs(dx), 1.52, 1.36)
    upper = np.exp(-(((y - top - 0.05) / 0.075) ** 2)) * within
    # Lashes sweep out past the outer corner.
    upper = np.maximum(
        upper, 0.8 * np.exp(-(((y - 0.18 - 0.5 * (dx - 1.4)) / 0.05) ** 2)) * smoothstep(dx, 1.25, 1.35) * smoothstep(dx, 1.75, 1.5)
    )
    lower = np.exp(-(((y - low + 0.04) / 0.05) ** 2)) * within * smoothstep(dx, -1.2, 0.6)
    rim = smoothstep(np.maximum(top, low) + 0.02 - y, 0.0, 0.04) * smoothstep(y - low + 0.02, 0.0, 0.04) * within
    lid = smoothstep(y - top, 0.0, 0.1) * smoothstep(y - top, 0.75, 0.25) * smoothstep(np.abs(dx), 1.7, 1.1)
    return upper, lower, rim, lid


@functools.cache
def _fixed_masks() -> dict[str, Array]:
    x, y, front, theta = texel_places()
    lips, line = _lip_masks(x, y)
    upper, lower, rim, lid = _eye_masks(x, y)
    nostril = both(x, y, 0.60, -4.93, 0.27, 0.085) + 0.5 * both(x, y, 0.85, -4.93, 0.15, 0.08)
    beard = smoothstep(y, -5.0, -5.5) * smoothstep(y, -13.0, -11.5) * (1 - 0.95 * np.minimum(lips * 1.3, 1.0))
    edge = np.interp(np.abs(np.degrees(theta)), [0, 25, 40, 60, 75, 90], [-5.4, -5.3, -7.2, -6.2, -3.0, 0.0])
    beard = np.minimum(beard, 1.0) * smoothstep(edge - y, -0.5, 0.6) * front
    beard = np.maximum(
        beard,
        front * smoothstep(y, -5.3, -5.6) * smoothstep(np.abs(x), 3.4, 2.8) * smoothstep(y, -6.8, -6.3) * (1 - np.minimum(lips * 1.3, 1)),
    )
    flush = 0.9 * both(x, y, 4.2, -2.8, 1.7, 1.4) + 0.7 * bump(x, y, 0.0, -4.0, 1.1, 0.8) + 0.35 * bump(x, y, 0.0, -10.2, 1.3, 0.9)
    socket = both(x, y, 2.9, -0.75, 1.2, 0.35) + 0.7 * both(x, y, 1.9, 0.2, 0.4, 0.6)
    masks = {
        "lips": lips * front, "line": line * front, "lash": upper * front, "lash_low": lower * front, "rim": rim * front, "lid": lid * front,
        "nostril": np.minimum(nostril, 1.0) * front, "beard": beard, "flush": flush * front, "socket": socket * front, "freckle": front * np.exp(-(((np.abs(x) - 2.4) / 2.6) ** 2) - ((y + 2.4) / 2.0) ** 2),
    }  # fmt: skip
    return {key: value.astype(np.float32) for key, value in masks.items()}


#: sRGB skin from very light to very dark.
_SKIN = np.array(
    [[244, 212, 194], [234, 192, 166], [220, 172, 140], [196, 144, 108], [164, 112, 80], [126, 82, 58], [92, 58, 42]], np.float64
)
_IRIS = ((92, 60, 36), (70, 44, 26), (58, 38, 26), (110, 84, 44), (88, 104, 72), (84, 116, 140), (104, 122, 132))
_HAIR = ((26, 20, 18), (38, 28, 22), (62, 42, 28), (92, 62, 36), (142, 100, 54), (186, 150, 92), (120, 54, 28), (150, 146, 142))


def sample_appearance(generator: np.random.Generator, model: FaceModel) -> Appearance:
    """Draw a person's looks.

    Args:
        generator: where the draw comes from.
        model: the face model whose parts are coloured.

    Returns:
        A complete appearance (about 20 ms).
    """
    tone = float(generator.uniform(0.0, len(_SKIN) - 1.0))
    skin_srgb = np.array([np.interp(tone, np.arange(len(_SKIN)), _SKIN[:, c]) for c in range(3)]) + generator.normal(0, [4, 5, 6])
    skin = srgb_to_linear(np.clip(skin_srgb, 30, 250))
    dark = tone / (len(_SKIN) - 1.0)
    # One draw for how masculine a face is painted (stubble, brow, lips, hair); it says nothing about geometry.
    masculine = float(generator.uniform())
    # Light eyes and light hair go with light skin.
    light_share = 1.0 - smoothstep(np.array(tone), 1.2, 3.0)
    iris = _IRIS[int(generator.integers(len(_IRIS)))] if generator.uniform() < light_share else _IRIS[int(generator.integers(3))]
    grey = generator.uniform() < 0.12
    hair_srgb = (
        _HAIR[7]
        if grey
        else _HAIR[int(generator.integers(7))]
        if generator.uniform() < 0.15 + 0.85 * light_share
        else _HAIR[int(generator.integers(3))]
    )
    hair = srgb_to_linear(np.clip(np.array(hair_srgb) * generator.uniform(0.8, 1.2), 8, 230))
    age = float(generator.uniform())
    wrinkles = 0.65 + 0.55 * age

    m = _fixed_masks()
    x, y, _, _ = texel_places()
    size = TEXTURE_SIZE
    tint = np.ones((*size, 3), np.float32)
    blotch = (
        0.035 * smooth_noise(generator, size, 10) + 0.03 * smooth_noise(generator, size, 40) + 0.03 * smooth_noise(generator, size, 150)
    )
    tint *= (1.0 + blotch)[..., None]
    flush = generator.uniform(0.08, 0.26) * (1 - 0.5 * dark)
    tint *= 1.0 - (flush * m["flush"])[..., None] * np.array([-0.25, 0.75, 0.7], np.float32)
    tint *= 1.0 - (generator.uniform(0.08, 0.28) * m["socket"])[..., None] * np.array([0.8, 1.0, 0.85], np.float32)
    albedo = skin * tint
    if generator.uniform() < 0.25 * (1.2 - dark):
        dots = np.clip(smooth_noise(generator, size, 190) * 1.6 - 0.75, 0, 1)
        albedo *= 1.0 - (generator.uniform(0.3, 0.7) * dots * m["freckle"])[..., None] * np.array([0.6, 0.9, 1.0], np.float32)
    # Stubble and beards: bluish shade first, hair colour for the full ones.
    if masculine > 0.5:
        strength = float(generator.uniform(0.0, 0.55))
        full = generator.uniform() < 0.28
        grain = 0.75 + 0.35 * smooth_noise(generator, size, 220)
        cover = np.clip(m["beard"] * grain * (0.85 if full else 0.5 * strength), 0, 0.93)[..., None]
        albedo = albedo * (1 - cover) + cover * (hair * 0.9 if full else skin * np.array([0.35, 0.38, 0.42], np.float32))
    # Lips: redder and darker than the skin, now and then painted.
    painted = masculine < 0.35 and generator.uniform() < 0.6
    # On dark skin the red of the lips is lighter than the skin, on light skin darker.
    natural = skin * np.array([0.80, 0.46, 0.46], np.float32) * (1 - 0.6 * dark) + 0.6 * dark * np.array([0.26, 0.10, 0.095], np.float32)
    paint = srgb_to_linear(np.clip(np.array([178, 62, 70]) + generator.normal(0, [18, 16, 18]), 40, 220)) * (1.0 - 0.35 * dark)
    lip_colour = 0.35 * natural + 0.65 * paint if painted else natural
    lip_noise = 1.0 + 0.12 * smooth_noise(generator, size, 240) * m["lips"]
    cover = (m["lips"] * (0.95 if painted else 0.85))[..., None]
    albedo = albedo * (1 - cover) + cover * lip_colour * lip_noise[..., None]
    albedo *= 1.0 - 0.55 * m["line"][..., None]
    albedo *= 1.0 - 0.90 * m["nostril"][..., None]
    # Eyes: lash line, wet rim, shade on the lid.
    albedo *= 1.0 - (generator.uniform(0.06, 0.2 + 0.25 * painted) * m["lid"])[..., None] * np.array([0.8, 1.0, 0.9], np.float32)
    cover = m["rim"][..., None] * 0.6
    albedo = albedo * (1 - cover) + cover * (skin * np.array([0.85, 0.6, 0.6], np.float32))
    lash = np.clip(m["lash"] * (1.0 if masculine < 0.5 else 0.85) + m["lash_low"] * (0.45 if masculine < 0.5 else 0.3), 0, 0.95)[..., None]
    albedo = albedo * (1 - lash) + lash * np.array([0.012, 0.009, 0.008], np.float32)
    # Brows: hair colour, darker than blond hair, broken into slanted strokes.
    brow = _brow_mask(
        x,
        y,
        float(generator.uniform(0.75, 1.05) + 0.35 * masculine),
        float(generator.uniform(-0.15, 0.3)),
        float(generator.uniform(-0.12, 0.12)),
    )
    strokes = 0.5 + 0.5 * np.sin((np.abs(x) * 0.9 - y * 0.55) * 36.0 + 4.0 * smooth_noise(generator, size, 110))
    brow = (np.clip(brow * (0.72 + 0.38 * strokes), 0, 1) * generator.uniform(0.78, 0.95)).astype(np.float32)[..., None]
    # Brows are darker than the hair and never as light as grey or blond.
    brow_colour = np.minimum(hair * 0.6, 0.085 * (1.15 - 0.8 * dark)) * np.array([1.0, 0.85, 0.72], np.float32) + 0.003
    albedo = albedo * (1 - brow) + brow * brow_colour
    # Scalp under the hair.
    bald = masculine > 0.6 and generator.uniform() < 0.16
    _, _, _, theta = texel_places()
    ragged = y - hair_line(theta) + 0.16 * smooth_noise(generator, size, (14, 210)) - float(generator.uniform(-0.5, 0.1)) * np.cos(theta)
    cover = (smoothstep(ragged, -0.18, 0.22) * (0.30 if bald else 0.98)).astype(np.float32)[..., None]
    strands = (
        0.30 * smooth_noise(generator, size, (9, 340))
        + 0.22 * smooth_noise(generator, size, (5, 130))
        + 0.16 * smooth_noise(generator, size, (6, 36))
    )
    grown = hair * (1.0 + strands)[..., None]
    albedo = albedo * (1 - cover) + cover * (grown if not bald else 0.5 * hair + 0.5 * skin * 0.7)

    gloss = np.full(size, 0.35, np.float32) + 0.55 * m["lips"] * (1.3 if painted else 1.0) + 0.2 * m["flush"]
    gloss *= (1 - 0.8 * cover[..., 0]) * (1 - 0.8 * brow[..., 0])
    # Square roots spread 8 bits evenly over what the eye sees; the shader squares after interpolation.
    texture = np.concatenate([np.sqrt(np.clip(albedo, 0.0, 1.0)), np.clip(gloss, 0.0, 1.0)[..., None]], -1)
    texture = np.round(texture * 255.0).astype(np.uint8)

    long = not bald and generator.uniform() < 0.9 - masculine * 1.1
    hidden = (() if long else ("long_hair",)) + (("hair",) if bald else ())
    cloth = srgb_to_linear(generator.uniform(25, 205, 3))
    colours = {
        "mouth_cavity": skin * 0.0 + np.array([0.22, 0.045, 0.045]), "gums": (0.42, 0.13, 0.13), "tongue": (0.46, 0.15, 0.15),
        "teeth_upper": np.array([0.80, 0.76, 0.66]) * generator.uniform(0.88, 1.06), "hair": hair, "long_hair": hair, "cloth": cloth,
        "mouth_socket": np.array([0.22, 0.045, 0.045]), "gums_tongue": (0.42, 0.13, 0.13), "lid_inside": skin * np.array([0.85, 0.55, 0.55]), "ears": skin,
    }  # fmt: skip
    colours["teeth_lower"] = np.asarray(colours["teeth_upper"]) * 0.96
    colours["teeth"] = colours["teeth_upper"]
    part_colour = np.array([np.asarray(colours.get(name, skin), np.float64) for name in model.part_names]).astype(np.float32)
    word = f"tone {tone:.1f}, masculine {masculine:.2f}, {'bald' if bald else 'long hair' if long else 'short hair'}"
    return Appearance(texture, part_colour, skin, srgb_to_linear(iris), hair, float(wrinkles), hidden, word)


# ---------------------------------------------------------------------------------------------------------------- wrinkles
#: Each wrinkle pattern and the expressions that draw it: (name, weight) summed, then clipped to [0, 1].
WRINKLES: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = (
    ("forehead", (("browOuterUp_L", 0.5), ("browOuterUp_R", 0.5), ("browInnerUp_L", 0.2), ("browInnerUp_R", 0.2))),
    ("forehead_inner", (("browInnerUp_L", 0.5), ("browInnerUp_R", 0.5))),
    ("frown", (("browDown_L", 0.5), ("browDown_R", 0.5))),
    ("fold_r", (("mouthSmile_R", 0.9), ("noseSneer_R", 0.7), ("mouthUpperUp_R", 0.5), ("mouthDimple_R", 0.4))),
    ("fold_l", (("mouthSmile_L", 0.9), ("noseSneer_L", 0.7), ("mouthUpperUp_L", 0.5), ("mouthDimple_L", 0.4))),
    ("crow_r", (("cheekSquint_R", 0.8), ("eyeSquint_R", 0.4), ("mouthSmile_R", 0.2))),
    ("crow_l", (("cheekSquint_L", 0.8), ("eyeSquint_L", 0.4), ("mouthSmile_L", 0.2))),
    ("nose", (("noseSneer_L", 0.6), ("noseSneer_R", 0.6))),
    ("chin", (("mouthShrugLower", 0.9), ("mouthFrown_L", 0.2), ("mouthFrown_R", 0.2))),
    ("corner_r", (("mouthFrown_R", 0.8), ("mouthStretch_R", 0.5), ("mouthDimple_R", 0.5), ("mouthPress_R", 0.3))),
    ("corner_l", (("mouthFrown_L", 0.8), ("mouthStretch_L", 0.5), ("mouthDimple_L", 0.5), ("mouthPress_L", 0.3))),
)


def _crease(x: Array, y: Array, line: list[tuple[float, float]], width: float, depth: float) -> Array:
    """A dark line with a light flank along a polyline of frontal points, fading at both ends."""
    points = np.array(line)
    dense = np.linspace(0, 1, 40)
    along = np.linspace(0, 1, len(points))
    px, py = np.interp(dense, along, points[:, 0]), np.interp(dense, along, points[:, 1])
    best = np.full(x.shape, 1e9, np.float64)
    at = np.zeros(x.shape)
    for step, (qx, qy) in enumerate(zip(px, py)):
        distance = (x - qx) ** 2 + (y - qy) ** 2
        nearer = distance < best
        best = np.where(nearer, distance, best)
        at = np.where(nearer, step / 39, at)
    distance = np.sqrt(best)
    fade = np.sin(np.pi * np.clip(at, 0.06, 0.94)) ** 0.5
    return depth * fade * (-np.exp(-((distance / width) ** 2)) + 0.35 * np.exp(-(((distance - 2.1 * width) / width) ** 2)))


@functools.cache
def wrinkle_maps() -> Array:
    """(K, H, W) float32: relative change of the albedo at full strength for each entry of WRINKLES, in about [-0.6, 0.3]."""
    x, y, front, _ = (a.astype(np.float64) for a in texel_places(WRINKLE_SIZE))
    maps: dict[str, Array] = {}
    maps["forehead"] = sum(
        _crease(x, y, [(-4.0, h - 0.25), (-1.8, h + 0.15), (0, h - 0.05), (1.8, h + 0.15), (4.0, h - 0.25)], 0.12, d)
        for h, d in ((3.35, 0.40), (4.2, 0.45), (5.05, 0.36))
    )
    maps["forehead_inner"] = sum(
        _crease(x, y, [(-1.9, h - 0.35), (-0.8, h), (0, h + 0.05), (0.8, h), (1.9, h - 0.35)], 0.12, d)
        for h, d in ((3.0, 0.45), (3.8, 0.42), (4.6, 0.3))
    )
    maps["frown"] = sum(_crease(x, y, [(s * 0.38, 0.75), (s * 0.48, 1.5), (s * 0.62, 2.5)], 0.12, 0.60) for s in (-1, 1)) + _crease(
        x, y, [(-0.6, 0.35), (0.6, 0.35)], 0.10, 0.30
    )
    maps["nose"] = sum(
        _crease(x, y, [(s * 0.15, h), (s * 0.75, h - 0.15), (s * 1.15, h - 0.6)], 0.11, 0.42) for s in (-1, 1) for h in (-0.1, -0.6, -1.1)
    )
    maps["chin"] = 0.42 * np.exp(-(((x / 1.5) ** 2 + ((y + 10.0) / 1.0) ** 2) ** 1.5)) * smooth_noise(
        np.random.default_rng(1), WRINKLE_SIZE, 90
    ) + _crease(x, y, [(-1.4, -8.95), (0, -8.75), (1.4, -8.95)], 0.16, 0.30)
    for s, name in ((-1, "r"), (1, "l")):
        maps[f"fold_{name}"] = _crease(x, y, [(s * 1.55, -4.3), (s * 2.35, -5.0), (s * 3.05, -6.1), (s * 3.35, -7.3)], 0.17, 0.58)
        maps[f"crow_{name}"] = sum(
            _crease(x, y, [(s * 4.75, 0.05 + 0.25 * k), (s * 5.2, 0.0 + 0.5 * k), (s * 5.75, -0.05 + 0.8 * k)], 0.085, 0.42)
            for k in (-1, 0, 1)
        ) + _crease(x, y, [(s * 2.1, -0.75), (s * 3.2, -0.98), (s * 4.3, -0.65)], 0.12, 0.34)
        maps[f"corner_{name}"] = _crease(x, y, [(s * 2.95, -6.7), (s * 3.15, -7.4), (s * 3.05, -8.4)], 0.14, 0.46)
    return np.stack([np.asarray(maps[name]) * front for name, _ in WRINKLES]).astype(np.float32)


@functools.cache
def _wrinkle_matrix() -> Array:
    matrix = np.zeros((len(WRINKLES), len(EXPRESSION_INDEX)), np.float32)
    for row, (_, causes) in enumerate(WRINKLES):
        for shape, weight in causes:
            matrix[row, EXPRESSION_INDEX[shape]] = weight
    return matrix


def wrinkle_weights(beta: NDArray[np.floating]) -> Array:
    """Strength (K,) in [0, 1] of every wrinkle pattern for one frame's coefficients (53,)."""
    return np.clip(_wrinkle_matrix() @ np.asarray(beta, np.float32), 0.0, 1.0)
