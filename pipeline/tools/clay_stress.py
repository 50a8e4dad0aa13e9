"""Stress test of the clay head's skin: no triangle may fold, turn over or collapse.

Checks every single shape and every pair of shapes (both sides at once) at 1/2 and 1 on the mean head, the documented pairs on drawn
identities, and frames of the corpus' motion generator on drawn identities. Prints counts; exit code 1 when a triangle is damaged.

Usage: python -m pipeline.tools.clay_stress [--frames 10000]
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator

import numpy as np

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face import make_face_model
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.face.quality import SkinCheck
from flowvqtalker.motion import Generators, draw_still, draw_style, generate_motion
from flowvqtalker.seeding import numpy_generator
from flowvqtalker.speech.espeak import synthesize

#: Pairs that talking and feeling faces really make, both at full strength.
DOCUMENTED_PAIRS = (
    ("eyeBlink", "eyeSquint"), ("eyeBlink", "cheekSquint"), ("eyeBlink", "eyeLookDown"), ("eyeBlink", "browDown"), ("eyeWide", "eyeLookUp"),
    ("eyeWide", "browInnerUp"), ("jawOpen", "mouthFunnel"), ("jawOpen", "mouthPucker"), ("jawOpen", "mouthClose"), ("jawOpen", "mouthSmile"),
    ("jawOpen", "mouthStretch"), ("jawOpen", "mouthUpperUp"), ("jawOpen", "mouthLowerDown"), ("jawOpen", "mouthRollLower"), ("jawOpen", "mouthFrown"),
    ("mouthSmile", "cheekSquint"), ("mouthSmile", "mouthUpperUp"), ("mouthPress", "mouthSmile"), ("mouthPress", "mouthFrown"),
    ("mouthShrugLower", "mouthFrown"), ("mouthPucker", "mouthFunnel"), ("noseSneer", "mouthUpperUp"), ("noseSneer", "browDown"),
    ("browInnerUp", "browOuterUp"), ("mouthRollLower", "mouthRollUpper"), ("cheekPuff", "mouthPucker"),
)  # fmt: skip
_SENTENCE = "Bob and Mary moved five very warm blue boats; they chose a quiet shore, far from the noisy village."


def bilateral_names() -> list[str]:
    """Names of shapes without their side."""
    return sorted({name[:-2] if name.endswith(("_L", "_R")) else name for name in EXPRESSIONS})


def coefficients(values: dict[str, float]) -> np.ndarray:
    """(53,) float32; a name without its side means both."""
    beta = np.zeros(len(EXPRESSIONS), np.float32)
    for name, value in values.items():
        for full in (name,) if name in EXPRESSION_INDEX else (f"{name}_L", f"{name}_R"):
            beta[EXPRESSION_INDEX[full]] = value
    return beta


def grid_cases() -> Iterator[tuple[str, np.ndarray]]:
    """Single shapes at quarters of their range, and all pairs."""
    for name in EXPRESSIONS:
        for value in (0.25, 0.5, 0.75, 1.0):
            yield f"{name} {value}", coefficients({name: value})
    for first, second in itertools.combinations(bilateral_names(), 2):
        for value in (0.5, 1.0):
            yield f"{first} + {second} {value}", coefficients({first: value, second: value})


def motion_frames(count: int, seed: int) -> Iterator[tuple[str, int, np.ndarray]]:
    """Frames of the corpus' generator: label, person, coefficients. Half of talking clips, half of stills."""
    speech = synthesize(_SENTENCE)
    made, clip = 0, 0
    while made < count // 2:
        emotion = EMOTIONS[clip % len(EMOTIONS)]
        style = draw_style(numpy_generator(seed, clip, "style"))
        motion = generate_motion(
            speech, emotion, 0.0 if emotion == "neutral" else (clip % 3 + 1) / 3, style, Generators(seed, f"stress{clip}")
        )
        for beta in motion.beta[: count // 2 - made]:
            yield f"clip {clip} {emotion}", clip, np.asarray(beta, np.float32)
            made += 1
        clip += 1
    style_generator = numpy_generator(seed, "stills")
    for number in range(count - made):
        beta, _, emotion, _ = draw_still(style_generator, draw_style(numpy_generator(seed, "still", number // 20)))
        yield f"still {number} {emotion}", 100_000 + number // 20, beta


def run(frames: int, people: int, seed: int, *, grid: bool = True) -> tuple[int, int, list[str]]:
    """Run the checks.

    Args:
        frames: frames of the motion generator.
        people: drawn identities for the documented pairs.
        seed: of identities and motion.
        grid: also every single shape and every pair on the mean head.

    Returns:
        Frames checked, damaged triangles, and a line for each damaged frame.
    """
    model = make_face_model("clay")
    check = SkinCheck(model)
    zero = np.zeros(model.n_expression, np.float32)
    lines: list[str] = []
    checked = damaged = 0
    person = object()
    alpha, neutral, rest = np.zeros(model.n_identity, np.float32), None, None

    def look(label: str, who: object, beta: np.ndarray) -> None:
        nonlocal checked, damaged, person, alpha, neutral, rest
        if who != person or rest is None:
            person = who
            alpha = np.zeros(model.n_identity, np.float32) if who == "mean" else model.sample_identity(numpy_generator(seed, "person", who))
            neutral = model.neutral(alpha)
            rest = check.normals(model.frame(alpha, zero, neutral))
        found = check.compare(check.normals(model.frame(alpha, beta, neutral)), rest)
        checked += 1
        if found.total:
            damaged += found.total
            lines.append(f"{label}: {found.folded} folded, {found.turned} turned, {found.collapsed} collapsed")

    if grid:
        for label, beta in grid_cases():
            look(label, "mean", beta)
    for number in range(people):
        look(f"person {number} at rest", number, zero)
        for first, second in DOCUMENTED_PAIRS:
            look(f"person {number}: {first} + {second}", number, coefficients({first: 1.0, second: 1.0}))
    for label, who, beta in motion_frames(frames, seed):
        look(label, who, beta)
    return checked, damaged, lines


def main() -> int:
    """Print what was checked and what was damaged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000, help="frames of the motion generator")
    parser.add_argument("--people", type=int, default=30, help="identities for the documented pairs")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    checked, damaged, lines = run(args.frames, args.people, args.seed)
    for line in lines[:40]:
        print(line)
    print(f"{checked} frames checked, {len(lines)} with damage, {damaged} damaged triangles of the skin")
    return 1 if damaged else 0


if __name__ == "__main__":
    sys.exit(main())
