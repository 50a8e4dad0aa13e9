"""Contact sheet of the clay head: six people x eight emotions, then closed eyes, sealed lips, open jaw, profile and speech shapes.

Usage: python -m pipeline.tools.clay_sheet --out docs/figures/clay.png
       python -m pipeline.tools.clay_sheet --out blind.png --size 256 --people 3 --shuffle 7    # lettered columns; prints the key
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import Camera
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.face.pose import transform
from flowvqtalker.motion.emotions import emotion_vector
from flowvqtalker.render.shade import default_light, render_frame, sample_light
from flowvqtalker.render.texture import sample_appearance
from flowvqtalker.seeding import numpy_generator

#: Rows below the emotions: label, coefficients, pose (rx, ry, rz [rad]).
EXTRAS = (
    ("closed eyes", {"eyeBlink": 1.0}, (0.0, 0.0, 0.0)),
    (
        "sealed lips (m)",
        {"mouthPress": 0.5, "mouthRollLower": 0.3, "mouthRollUpper": 0.2, "jawOpen": 0.08, "mouthClose": 0.08},
        (0.0, 0.0, 0.0),
    ),
    ("open jaw", {"jawOpen": 0.85, "mouthUpperUp": 0.3, "mouthLowerDown": 0.3}, (0.0, 0.0, 0.0)),
    ("profile", {}, (0.0, 1.35, 0.0)),
    ("looking aside", {"eyeLookOut_L": 0.8, "eyeLookIn_R": 0.8}, (0.0, 0.45, 0.0)),
    ("looking down", {"eyeLookDown": 0.8}, (0.1, -0.3, 0.05)),
    ("oo", {"mouthPucker": 0.8, "mouthFunnel": 0.3, "jawOpen": 0.1}, (0.0, -0.45, 0.0)),
    ("f", {"mouthRollLower": 0.6, "mouthUpperUp": 0.35, "jawOpen": 0.06}, (0.0, 0.2, 0.0)),
)


def coefficients(values: dict[str, float]) -> np.ndarray:
    """(53,) float32 from names; a name without its side means both sides."""
    beta = np.zeros(len(EXPRESSIONS), np.float32)
    for name, value in values.items():
        for full in (name,) if name in EXPRESSION_INDEX else (f"{name}_L", f"{name}_R"):
            beta[EXPRESSION_INDEX[full]] = value
    return beta


def make_sheet(*, size: int, people: int, seed: int, labels: bool) -> np.ndarray:
    """The sheet as (H, W, 3) uint8: one row a person over the emotions, and one row of extras."""
    model = make_face_model("clay")
    camera = Camera(focal_px=2.45 * size, cx=(size - 1) / 2, cy=(size - 1) / 2 - 0.03 * size, distance_cm=60.0)
    rows, extras = [], []
    for person in range(people):
        generator = numpy_generator(seed, "sheet", person)
        alpha = model.sample_identity(generator)
        appearance = sample_appearance(generator, model)
        light = default_light() if person % 2 == 0 else sample_light(generator)
        # Plain walls leave the palette of the file to the faces.
        background = np.full((size, size, 3), 128 - 12 * (person % 3), np.uint8)
        neutral = model.neutral(alpha)

        def draw(
            beta: np.ndarray, turn: tuple[float, float, float], who: tuple = (alpha, neutral, appearance, light, background)
        ) -> np.ndarray:
            pose = torch.tensor([*turn, 0.0, 0.0, 0.0])
            vertices = transform(torch.from_numpy(model.frame(who[0], beta, who[1])), pose).numpy()
            return render_frame(model, vertices, beta, who[2], camera, (size, size), who[3], who[4])

        rows.append([draw(emotion_vector(emotion).astype(np.float32), (0.0, 0.12 * (person % 3 - 1), 0.0)) for emotion in EMOTIONS])
        if person in (1, 4):
            extras.append([draw(coefficients(values), turn) for _, values, turn in EXTRAS])
    rows += extras
    names = [list(EMOTIONS)] * people + [[label for label, _, _ in EXTRAS]] * len(extras)
    sheet = Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))
    if labels:
        pen = ImageDraw.Draw(sheet)
        for i, row in enumerate(names):
            for j, name in enumerate(row):
                pen.text((j * size + 4, i * size + 2), name, fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    return np.asarray(sheet)


def make_blind_sheet(*, size: int, people: int, seed: int, shuffle: int) -> tuple[np.ndarray, dict[str, str]]:
    """The emotions alone, their columns in a random order under letters, and which letter is which: a test for fresh eyes."""
    order = np.random.default_rng(shuffle).permutation(len(EMOTIONS))
    sheet = make_sheet(size=size, people=people, seed=seed, labels=False)[: people * size]
    picture = Image.fromarray(np.concatenate([sheet[:, column * size : (column + 1) * size] for column in order], axis=1))
    pen, letters = ImageDraw.Draw(picture), "ABCDEFGH"
    for i, letter in enumerate(letters):
        pen.text((i * size + 8, 6), letter, fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(picture), {letter: EMOTIONS[column] for letter, column in zip(letters, order, strict=True)}


def main() -> None:
    """Write the sheet as a PNG with a palette, small enough for git."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/clay.png"))
    parser.add_argument("--size", type=int, default=150, help="side of one picture [px]")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--no-labels", dest="labels", action="store_false")
    parser.add_argument("--shuffle", type=int, help="seed of a random order of the emotions, under letters and without names")
    args = parser.parse_args()
    if args.shuffle is not None:
        sheet, key = make_blind_sheet(size=args.size, people=args.people, seed=args.seed, shuffle=args.shuffle)
        Image.fromarray(sheet).save(args.out)
        print(" ".join(f"{letter}={emotion}" for letter, emotion in key.items()))
        return
    sheet = make_sheet(size=args.size, people=args.people, seed=args.seed, labels=args.labels)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # A palette keeps the file below a megabyte; dithering hides its steps.
    Image.fromarray(sheet).quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(args.out, optimize=True)
    print(f"{args.out}: {sheet.shape[1]} x {sheet.shape[0]} px, {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
