"""Agreement of two back ends: known offsets, known noise, who sees what."""

import numpy as np
import pytest

from flowvqtalker.landmarks.agreement import agreement, shake_pct
from flowvqtalker.landmarks.schema import GROUPS, Detections


def face(count: int = 40) -> np.ndarray:
    """A face of outer-eye distance 100 that drifts evenly."""
    points = np.random.default_rng(0).normal(100, 30, (68, 2))
    points[36], points[45] = (50, 100), (150, 100)
    return (points + np.arange(count)[:, None, None] * 0.5).astype(np.float32)


def found(points: np.ndarray) -> Detections:
    return Detections(points, np.isfinite(points).all(axis=(1, 2)).astype(np.float32))


def test_equal_points_agree_and_a_steady_drift_does_not_shake():
    result = agreement(found(face()), found(face()))
    assert result["both"] == 1 and result["distance_pct"] == 0 == result["rest_pct"]
    assert result["shake_first_pct"] == pytest.approx(0, abs=1e-3)


def test_a_constant_offset_is_a_habit_and_noise_is_the_rest():
    moved = face()
    moved[:, list(GROUPS["jaw"])] += (3, 4)
    result = agreement(found(face()), found(moved))
    assert result["jaw_pct"] == pytest.approx(5, rel=1e-3) and result["nose_pct"] == 0
    assert result["distance_pct"] == pytest.approx(5 * 17 / 68, rel=1e-3) == result["habit_pct"]
    assert result["rest_pct"] == pytest.approx(0, abs=1e-3)
    noisy = face() + np.random.default_rng(1).normal(0, 2, (40, 68, 2)).astype(np.float32)
    result = agreement(found(face()), found(noisy))
    assert result["rest_pct"] == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.06)
    # the second difference of white noise has 1 + 4 + 1 times its variance, on two axes
    assert result["shake_second_pct"] == pytest.approx(2 * np.sqrt(6 * 2), rel=0.06)


def test_who_sees_what_and_nobody():
    one, two = face(10), face(10)
    one[:3], two[2:5] = np.nan, np.nan
    result = agreement(found(one), found(two))
    assert [result[name] for name in ("both", "only_first", "only_second", "neither")] == pytest.approx([0.5, 0.2, 0.2, 0.1])
    nobody = agreement(found(np.full((4, 68, 2), np.nan, np.float32)), found(face(4)))
    assert np.isnan(nobody["distance_pct"]) and nobody["only_second"] == 1 and np.isnan(shake_pct(face(2)))
    with pytest.raises(ValueError, match="equally many"):
        agreement(found(face(3)), found(face(4)))
