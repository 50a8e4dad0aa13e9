"""How much the generated heads and faces move, against recordings (docs/data_card.md holds the same numbers)."""

from __future__ import annotations

import numpy as np
import pytest

from flowvqtalker.constants import EMOTIONS, intensity_of
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.motion import Generators, draw_style, generate_motion
from flowvqtalker.speech.espeak import synthesize
from flowvqtalker.speech.sentences import SENTENCES
from flowvqtalker.speech.voices import VOICES, prosody_of


@pytest.fixture(scope="module")
def spread() -> dict[str, np.ndarray]:
    """Standard deviations within clips: shapes (n, 53), head angles (n, 3) [deg]."""
    shapes, heads = [], []
    for number in range(96):
        emotion, level = EMOTIONS[number % 8], 1 + number // 8 % 3
        level = 0 if emotion == "neutral" else level
        generators = Generators(0, f"range{number}")
        prosody = prosody_of(emotion, intensity_of(emotion, level), generators.shared("prosody"))
        speech = synthesize(SENTENCES["train"][number % 42], VOICES[number % 36], prosody).placed(0.12, 2.4)
        motion = generate_motion(speech, emotion, intensity_of(emotion, level), draw_style(np.random.default_rng(number % 36)), generators)
        shapes.append(motion.beta.std(0))
        heads.append(np.degrees(motion.pose[:, :3].std(0)))
    return {"shapes": np.array(shapes), "heads": np.array(heads)}


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [  # 10th and 90th percentile of mediapipe's coefficients in 21 windows of 12 recordings
        ("jawOpen", 0.080, 0.174),
        ("mouthPucker", 0.006, 0.348),
        ("mouthSmile_L", 0.004, 0.175),
        ("browInnerUp_L", 0.002, 0.050),
        ("browOuterUp_L", 0.010, 0.080),
        ("browDown_L", 0.000, 0.076),
        ("eyeBlink_L", 0.005, 0.187),
    ],
)
def test_shapes_move_as_much_as_in_recordings(spread, shape, low, high):
    assert low <= spread["shapes"][:, EXPRESSION_INDEX[shape]].mean() <= high


def test_heads_move_as_much_as_in_recordings(spread):
    """Middle clip between the 10th and 90th percentile of 56 recorded windows; the constants let it run without the recordings."""
    low, high = np.array([0.76, 0.46, 0.38]), np.array([3.66, 4.20, 3.51])
    middle = np.median(spread["heads"], axis=0)
    assert (middle >= low).all() and (middle <= high).all()


@pytest.mark.shared
def test_the_recorded_range_of_heads_is_what_the_data_card_says(shared_folder):
    from scipy.io import loadmat

    files = sorted((shared_folder / "media").rglob("*.mat"))
    if not files:
        pytest.skip(f"no .mat files of 3DMM coefficients under {shared_folder}/media")
    windows = []
    for path in files:
        angles = np.degrees(
            loadmat(path)["coeff"][:, 224:227]
        )  # Deep3DFaceRecon layout: 80 id, 64 exp, 80 tex, 3 angles, 27 light, 3 shift
        windows += [angles[start : start + 60].std(0) for start in range(0, len(angles) - 59, 60)]
    low, middle, high = np.percentile(windows, [10, 50, 90], axis=0)
    assert len(windows) == 56
    assert low == pytest.approx([0.76, 0.46, 0.38], abs=0.01)
    assert middle == pytest.approx([1.96, 1.77, 1.19], abs=0.01)
    assert high == pytest.approx([3.66, 4.20, 3.51], abs=0.01)
