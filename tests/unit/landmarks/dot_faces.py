"""Drawn faces with known landmarks: enough picture for a landmark network to learn from, made in a millisecond."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from flowvqtalker.landmarks import schema

_UP = 3  # drawn larger, then shrunk: edges are antialiased


def make_points(rng: np.random.Generator, size_px: int, *, blink: float | None = None, jaw: float | None = None, centre=None) -> np.ndarray:
    """A random face in a picture of side ``size_px``; (68, 2) px."""
    blink = float(rng.random() < 0.2) * rng.random() if blink is None else blink
    jaw = rng.random() * 0.7 if jaw is None else jaw
    width, eye, mouth = rng.uniform(0.42, 0.55), rng.uniform(0.18, 0.24), rng.uniform(0.14, 0.2)
    points = np.zeros((68, 2))
    angle = np.linspace(-1.5, 1.5, 17)
    points[:17] = np.stack([np.sin(angle) * width, np.cos(angle) * (0.62 + 0.12 * jaw) - 0.1], -1)
    points[17:22] = np.stack([np.linspace(-0.36, -0.1, 5), -0.32 - 0.05 * np.sin(np.linspace(0.3, 2.8, 5))], -1)
    points[27:31] = np.stack([np.zeros(4), np.linspace(-0.2, 0.08, 4)], -1)
    points[31:36] = np.stack([np.linspace(-0.08, 0.08, 5), 0.13 + 0.02 * np.sin(np.linspace(0, 3.14, 5))], -1)
    lid = 0.05 * (1 - blink)
    points[36:42] = [[-eye - 0.09, -0.18], [-eye - 0.03, -0.18 - lid], [-eye + 0.03, -0.18 - lid], [-eye + 0.09, -0.18], [0, 0], [0, 0]]
    points[[41, 40]] = points[[37, 38]] * [1, 0] + [0, -0.18 + 0.02]
    if blink == 1:
        points[[37, 38]] = points[[41, 40]]
    flip = np.array(schema.FLIP)
    for left in (*range(22, 27), *range(42, 48)):
        points[left] = points[flip[left]] * [-1, 1]
    ring = np.linspace(0, 2 * np.pi, 13)[:12]
    lower = np.sin(ring) < -1e-9
    points[48:60] = np.stack([-mouth * np.cos(ring), 0.3 - 0.06 * np.sin(ring) + lower * 0.16 * jaw], -1)
    ring = np.linspace(0, 2 * np.pi, 9)[:8]
    lower = np.sin(ring) < -1e-9
    points[60:68] = np.stack([-0.8 * mouth * np.cos(ring), 0.3 + lower * 0.16 * jaw], -1)
    roll, scale = 0.12 * rng.standard_normal(), size_px * rng.uniform(0.4, 0.55)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    centre = size_px * (0.5 + 0.06 * rng.standard_normal(2)) if centre is None else np.asarray(centre)
    return points @ turn.T * scale + centre


def draw_face(points: np.ndarray | None, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Picture (size_px, size_px, 3) uint8 of a face, or of the background alone."""
    colours = rng.integers(40, 220, (3, 3))
    image = Image.new("RGB", (size_px * _UP, size_px * _UP), tuple(int(c) for c in colours[0]))
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        corner = rng.integers(0, size_px * _UP, 2)
        pen.rectangle([*corner.tolist(), *(corner + rng.integers(20, 100, 2)).tolist()], fill=tuple(rng.integers(0, 255, 3).tolist()))
    if points is not None:
        at = (points + 0.5) * _UP

        def shape(indices, colour) -> None:
            pen.polygon([tuple(at[i]) for i in indices], fill=tuple(int(c) for c in colour))

        skin = np.array([rng.integers(120, 250), rng.integers(90, 190), rng.integers(70, 160)])
        middle, crown = at[:17].mean(axis=0), at[27] + 1.3 * (at[27] - at[8]) * 0.6
        pen.polygon(
            [*(tuple(p) for p in at[:17]), tuple(at[16] + crown - middle), tuple(crown), tuple(at[0] + crown - middle)],
            fill=tuple(skin.tolist()),
        )
        for brow in (schema.RIGHT_BROW, schema.LEFT_BROW):
            pen.line([tuple(at[i]) for i in brow], fill=(40, 25, 15), width=size_px * _UP // 60)
        pen.line([tuple(at[i]) for i in range(27, 31)], fill=tuple((skin * 0.8).astype(int).tolist()), width=4)
        pen.line([tuple(at[i]) for i in range(31, 36)], fill=tuple((skin * 0.6).astype(int).tolist()), width=4)
        for eye in (schema.RIGHT_EYE, schema.LEFT_EYE):
            shape(eye, (240, 240, 240))
            pen.line([tuple(at[i]) for i in (*eye, eye[0])], fill=(50, 30, 25), width=3)
        shape(schema.OUTER_LIPS, (170, 60, 70))
        shape(schema.INNER_LIPS, (40, 10, 15))
    small = np.asarray(image.resize((size_px, size_px), Image.Resampling.BOX)).astype(float)
    return (small + rng.normal(0, 3, small.shape)).clip(0, 255).astype(np.uint8)


def make_pictures(count: int, size_px: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random faces: frames (count, S, S, 3) uint8 and landmarks (count, 68, 2) px."""
    rng = np.random.default_rng(seed)
    points = [make_points(rng, size_px) for _ in range(count)]
    return np.stack([draw_face(one, size_px, rng) for one in points]), np.stack(points)
