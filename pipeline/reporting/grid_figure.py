"""Faces by person and emotion: a real frame beside the generated one, for every pair that the test split holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.metrics.blinks import ON_CLOSURE
from pipeline.media import read_frames
from pipeline.reporting.gallery import level_of
from pipeline.reporting.motion import closure, coefficients_of, has_named_shapes
from pipeline.reporting.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["chosen_cells", "emotion_grid_figure", "strongest_frame"]

METHOD = "flowvqtalker_paired"
#: Shapes whose strength picks the frame: those of emotions that speech moves little or not at all. Over all shapes a clip's widest vowel would win.
_EMOTIVE = [
    index
    for name, index in EXPRESSION_INDEX.items()
    if name.startswith(("brow", "cheek", "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown", "mouthSmile", "noseSneer"))
]
_MAX_PEOPLE = 8
#: Size of a face in the figure, cut from the middle of the crop, and the room around faces [px].
_WIDE_PX, _HIGH_PX, _GAP_PX = 48, 60, 4
_MARGIN_PX = {"left": 46, "right": 4, "top": 58, "bottom": 4}
_DPI = 110


def strongest_frame(beta: np.ndarray, other: np.ndarray | None = None) -> int:
    """Frame of strongest expression: the largest sum of the coefficients that emotions raise, among frames with open eyes.

    Frames in a blink count only when there are no others: closed lids say nothing about the emotion.

    Args:
        beta: (T, E) coefficients of the real clip. Of unnamed ones, which have signs, the frame farthest from the mean face is taken.
        other: (T, E) coefficients of the generated clip, whose eyes should be open too; its expression does not matter.
    """
    if not has_named_shapes(beta):
        return int(np.square(beta).sum(axis=1).argmax())
    shut = closure(beta) >= ON_CLOSURE
    if other is not None:
        shut |= closure(other) >= ON_CLOSURE
    return int(np.where(shut & ~shut.all(), -np.inf, beta[:, _EMOTIVE].sum(axis=1)).argmax())


def chosen_cells(results: Results) -> dict[tuple[str, str], dict[str, Any]]:
    """Index row of the crop for each (identity, emotion): of its generated clips the strongest level, then the first name."""
    if results.crops.empty or METHOD not in results.generated:
        return {}
    made = set(results.generated[METHOD]["clip"])
    rows = [{str(name): value for name, value in row.items()} for row in results.crops.to_dict("records")]
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (-level_of(row), row["clip"])):
        if row["clip"] in made and row["emotion"] in EMOTIONS:
            cells.setdefault((row["identity"], row["emotion"]), row)
    count = {person: sum(person == other for other, _ in cells) for person, _ in cells}
    people = sorted(count, key=lambda person: (-count[person], person))[:_MAX_PEOPLE]
    return {(person, emotion): row for (person, emotion), row in cells.items() if person in people}


def _face(path: Path, frame: int) -> np.ndarray:
    """Middle of a frame (_HIGH_PX, _WIDE_PX, 3) uint8: the face, without most of the background beside it."""
    picture = Image.fromarray(read_frames(path, [frame])[0])
    wide = picture.height * _WIDE_PX / _HIGH_PX
    box = ((picture.width - wide) / 2, 0, (picture.width + wide) / 2, picture.height)
    return np.asarray(picture.resize((_WIDE_PX, _HIGH_PX), Image.Resampling.LANCZOS, box=box))


def _pair(results: Results, row: dict[str, Any]) -> np.ndarray | None:
    """Real and generated face beside each other (_HIGH_PX, 2 * _WIDE_PX, 3) uint8, or None where a file is missing."""
    table, clip = results.generated[METHOD], row["clip"]
    made = table[table["clip"] == clip].iloc[0]
    fit = coefficients_of(results.fits, "file", results.folders.get("fit3dmm"), clip)
    sample = coefficients_of(table, "coefficients", results.folders.get("generate"), clip)
    real, generated = results.folders["crop"] / str(row["video"]), results.folders["generate"] / str(made["video"])
    if fit is None or sample is None or not row["video"] or not made["video"] or not (real.is_file() and generated.is_file()):
        return None
    count = min(len(fit["beta"]), len(sample["beta"]), int(made["n_frames"]))
    frame = strongest_frame(fit["beta"][:count], sample["beta"][:count])
    return np.concatenate([_face(real, frame), _face(generated, frame)], axis=1)


def emotion_grid_figure(results: Results) -> Figure | None:
    """Rows: test identities, columns: emotions; in each cell the real frame of strongest expression and the generated one of that time."""
    import matplotlib.pyplot as plt

    cells = {key: (row, pair) for key, row in chosen_cells(results).items() if (pair := _pair(results, row)) is not None}
    if not cells:
        return None
    people = sorted({person for person, _ in cells})
    emotions = [emotion for emotion in EMOTIONS if any(emotion == other for _, other in cells)]
    step_x, step_y = 2 * _WIDE_PX + 2 * _GAP_PX, _HIGH_PX + _GAP_PX
    canvas = np.full((step_y * len(people), step_x * len(emotions), 3), 255, np.uint8)
    for (person, emotion), (_, pair) in cells.items():
        top, left = step_y * people.index(person), step_x * emotions.index(emotion)
        canvas[top : top + _HIGH_PX, left : left + 2 * _WIDE_PX] = pair
    height, width = canvas.shape[:2]
    total_x, total_y = width + _MARGIN_PX["left"] + _MARGIN_PX["right"], height + _MARGIN_PX["top"] + _MARGIN_PX["bottom"]
    figure = plt.figure(figsize=(total_x / _DPI, total_y / _DPI), dpi=_DPI)
    # A pixel of the canvas is a pixel of the file: no second resampling.
    axis = figure.add_axes((_MARGIN_PX["left"] / total_x, _MARGIN_PX["bottom"] / total_y, width / total_x, height / total_y))
    axis.imshow(canvas, interpolation="nearest", extent=(0, width, height, 0), aspect="auto")
    axis.set_axis_off()
    for column, emotion in enumerate(emotions):
        axis.text(step_x * column + _WIDE_PX, -5, emotion, ha="center", va="bottom", fontsize=9)
    for index, person in enumerate(people):
        axis.text(-6, step_y * index + _HIGH_PX / 2, person, ha="right", va="center", fontsize=9)
    for (person, emotion), (row, _) in cells.items():
        if level_of(row):
            top, left = step_y * people.index(person), step_x * emotions.index(emotion)
            axis.text(
                left + 3,
                top + 2,
                str(level_of(row)),
                ha="left",
                va="top",
                fontsize=6,
                color="white",
                bbox={"fc": "#00000066", "ec": "none", "pad": 1},
            )
    figure.text(
        0.5, 1 - 5 / total_y, f"In each cell: real (left) and {METHOD} (right), at the real clip's frame of strongest expression; corner: level",
        ha="center", va="top", fontsize=10,
    )  # fmt: skip
    return figure
