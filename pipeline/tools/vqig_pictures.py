"""Figures of the image generator's acceptance: eyes, mouths and faces in rows, and what each emotion changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage.morphology import convex_hull_image

from pipeline.io import atomic_path

CELL_PX, GAP_PX, HEAD_PX, SIDE_PX = 112, 2, 14, 14
#: Half side of the part of a face that a close-up shows, in distances of the outer corners of the eyes.
_CLOSE = {"mouth": 0.45, "eyes": 0.65}
_POINTS = {"mouth": slice(48, 68), "eyes": slice(36, 48)}


@dataclass(frozen=True)
class Picture:
    """One column of the figure.

    Attributes:
        clip: id.
        frame: its number.
        part: "face", "mouth" or "eyes": the whole picture or a close-up.
        title: above the column.
    """

    clip: str
    frame: int
    part: str
    title: str


def close_up(picture: np.ndarray, points_px: np.ndarray, part: str) -> Image.Image:
    """A picture (S, S, 3), or the square round its mouth or eyes, at ``CELL_PX``."""
    image = Image.fromarray(picture)
    if part == "face":
        return image.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
    own = points_px[_POINTS[part]]
    u, v = (own.min(0) + own.max(0)) / 2
    half = _CLOSE[part] * float(np.linalg.norm(points_px[36] - points_px[45]))
    return image.resize((CELL_PX, CELL_PX), Image.Resampling.BICUBIC, box=_inside((u - half, v - half, u + half, v + half), image.size))


def _inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box (pixel centres) in pixel edges, pushed into the picture."""
    side = min(box[2] - box[0], *size)
    left = min(max(box[0] + 0.5, 0.0), size[0] - side)
    top = min(max(box[1] + 0.5, 0.0), size[1] - side)
    return left, top, left + side, top + side


def faces_figure(path: Path, cells: Sequence[tuple[Picture, np.ndarray, Sequence[np.ndarray]]], rows: Sequence[str]) -> None:
    """Columns of (picture, true points (68, 2), frames of the rows); titles above, names of the rows at the side."""
    step = CELL_PX + GAP_PX
    canvas = Image.new("RGB", (SIDE_PX + step * len(cells), HEAD_PX + step * len(rows)), "white")
    pen = ImageDraw.Draw(canvas)
    for column, (picture, points, frames) in enumerate(cells):
        pen.text((SIDE_PX + column * step + CELL_PX / 2, HEAD_PX / 2), picture.title, fill="black", anchor="mm")
        for row, frame in enumerate(frames):
            canvas.paste(close_up(frame, points, picture.part), (SIDE_PX + column * step, HEAD_PX + row * step))
    for row, name in enumerate(rows):
        label = Image.new("RGB", (CELL_PX, SIDE_PX), "white")
        ImageDraw.Draw(label).text((CELL_PX / 2, SIDE_PX / 2), name, fill="black", anchor="mm")
        canvas.paste(label.rotate(90, expand=True), (0, HEAD_PX + row * step))
    with atomic_path(path) as temporary:
        canvas.quantize(256, dither=Image.Dither.NONE).save(temporary, format="png", optimize=True)


def maps_figure(path: Path, maps: Mapping[str, Mapping[str, np.ndarray]], masks: Mapping[str, np.ndarray], method: str) -> None:
    """Mean absolute change [grey levels] by role (rows) and emotion (columns) inside the regions' hull, one scale for all, regions outlined."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    emotions = list(next(iter(maps.values())))
    inside = np.any(list(masks.values()), axis=0)
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    box = (slice(max(rows[0] - 3, 0), rows[-1] + 4), slice(max(columns[0] - 3, 0), columns[-1] + 4))
    hull = convex_hull_image(inside)[box]
    highest = float(np.quantile(np.concatenate([one[inside] for role in maps.values() for one in role.values()]), 0.99))
    drawn, axes = plt.subplots(
        len(maps), len(emotions), figsize=(1.25 * len(emotions) + 0.8, 1.5 * len(maps)), constrained_layout=True, squeeze=False
    )
    shown = None
    for row, (role, own) in enumerate(maps.items()):
        for column, emotion in enumerate(emotions):
            axis = axes[row, column]
            shown = axis.imshow(np.where(hull, own[emotion][box], np.nan), cmap="magma", vmin=0.0, vmax=highest, interpolation="nearest")
            for mask in masks.values():
                axis.contour(mask[box].astype(float), levels=[0.5], colors="white", linewidths=0.4)
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(emotion, fontsize=8)
            if column == 0:
                axis.set_ylabel(method if role == "made" else role, fontsize=8)
    assert shown is not None
    bar = drawn.colorbar(shown, ax=axes, shrink=0.8, pad=0.01)
    bar.set_label("grey levels", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    with atomic_path(path) as temporary:
        drawn.savefig(temporary, dpi=100, format="png", metadata={"Software": None})
    plt.close(drawn)
