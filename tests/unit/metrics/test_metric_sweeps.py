"""The committed sweeps of a whole run (docs/figures/metric_sweeps.csv) show the known answers; `python -m pipeline.tools.metric_sweeps` writes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

TABLE = Path(__file__).resolve().parents[3] / "docs" / "figures" / "metric_sweeps.csv"


@pytest.fixture(scope="module")
def sweeps() -> pd.DataFrame:
    return pd.read_csv(TABLE)


def part(sweeps: pd.DataFrame, name: str) -> pd.DataFrame:
    rows = sweeps[sweeps["sweep"] == name]
    assert len(rows), f"{TABLE.name} has no sweep {name!r}"
    return rows.sort_values("amount") if rows["amount"].notna().all() else rows


def test_every_delay_is_found_for_95_percent_of_the_clips(sweeps):
    delays = part(sweeps, "delay")
    assert delays["clip"].nunique() >= 20
    by_shift = (delays["found"] == delays["shift"]).groupby(delays["shift"]).mean()
    assert list(by_shift.index) == list(range(-10, 11))
    assert (by_shift >= 0.95).all(), by_shift[by_shift < 0.95]


@pytest.mark.parametrize(
    ("sweep", "falling", "rising"),
    [
        ("noise", ["psnr_db", "ssim"], ["fid_expert", "kid_expert", "flicker_compensated"]),
        ("blur", ["psnr_db", "ssim", "cpbd", "mouth_sharpness", "flicker_compensated"], ["fid_expert", "kid_expert"]),
        ("late", ["lip_correlation"], ["m_lmd_centred_px", "m_lmd_raw_px", "f_lmd_centred_px", "f_lmd_raw_px"]),
        ("soft", ["lip_correlation"], ["m_lmd_centred_px", "m_lmd_raw_px", "f_lmd_centred_px", "f_lmd_raw_px"]),
    ],
)
def test_damage_moves_the_metrics_one_way(sweeps, sweep, falling, rising):
    rows = part(sweeps, sweep)
    assert len(rows) >= 5 and rows["amount"].iloc[0] == 0
    for name, sign in [*((name, -1) for name in falling), *((name, 1) for name in rising)]:
        values = rows[name].to_numpy()
        assert np.all(sign * (values[1:] - values[:-1]) > 0), (name, values)


@pytest.mark.parametrize(("landmarks", "least"), [("true landmarks", 0.99), ("found landmarks", 0.90)])
def test_blink_events_from_landmarks(sweeps, landmarks, least):
    rows = part(sweeps, "blinks")
    rows = rows[rows["landmarks"] == landmarks]
    assert set(rows["split"]) == {"train", "val", "test"}
    hits, misses, false_alarms = (rows[name] for name in ("hits", "misses", "false_alarms"))
    np.testing.assert_allclose(rows["f1"], 2 * hits / (2 * hits + misses + false_alarms), rtol=1e-5)
    assert (rows["f1"] >= least).all(), rows[["split", "f1", "hits", "misses", "false_alarms"]]
    # Blinks that no frame shows stay a few: a truth that lost many would make the score easy.
    assert (rows["unjudged"] <= 0.06 * (hits + misses) + 1).all()


def test_landmarks_and_poses_of_test_clips_lie_near_the_truth(sweeps):
    rows = part(sweeps, "truth")
    assert rows["clip"].nunique() >= 20
    assert rows["rotation_error_deg"].mean() <= 3
    # What the fitted head sways is what the true head sways, clip by clip.
    assert np.corrcoef(rows["pose_over_time_deg"], rows["pose_over_time_true_deg"])[0, 1] >= 0.9
    assert rows["pose_over_time_deg"].mean() == pytest.approx(rows["pose_over_time_true_deg"].mean(), rel=0.15)
    assert rows["lip_correlation"].mean() >= 0.9
