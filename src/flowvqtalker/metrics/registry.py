"""Every number that a result table may hold: name, unit, direction and the function that defines it.

``docs/metrics.md`` has one entry for each (a test compares both), table code takes order and direction from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "near_real", "near_zero", "none"]


@dataclass(frozen=True)
class Metric:
    """One column of the result table.

    Attributes:
        name: Column name, with its unit as suffix where it has one.
        unit: Unit in words, "" for a pure number.
        direction: What is better: ``higher``, ``lower``, ``near_real`` (compare with ``ground_truth``), ``near_zero``, or ``none``.
        function: Dotted name below ``flowvqtalker.metrics`` of the defining function or class.
        main: Whether it stands in the main table (else only in the wide one).
    """

    name: str
    unit: str
    direction: Direction
    function: str
    main: bool = True


METRICS: tuple[Metric, ...] = (
    Metric("psnr_db", "dB", "higher", "pixels.psnr_db"),
    Metric("psnr_face_db", "dB", "higher", "pixels.psnr_db"),
    Metric("ssim", "", "higher", "pixels.ssim"),
    Metric("fid_expert", "squared feature units of our judge", "lower", "distribution.fid"),
    Metric("kid_expert", "kernel units of our judge", "lower", "distribution.kid"),
    Metric("m_lmd_centred_px", "px at 256 px", "lower", "landmarks.lmd_centred_px"),
    Metric("m_lmd_raw_px", "px at 256 px", "lower", "landmarks.lmd_raw_px"),
    Metric("f_lmd_centred_px", "px at 256 px", "lower", "landmarks.lmd_centred_px"),
    Metric("f_lmd_raw_px", "px at 256 px", "lower", "landmarks.lmd_raw_px"),
    Metric("lse_d", "embedding distance of our judge", "lower", "sync.sync_score"),
    Metric("lse_c", "embedding distance of our judge", "higher", "sync.sync_score"),
    Metric("av_offset_frames", "frames, positive = sound late", "near_zero", "sync.sync_score"),
    Metric("emotion_acc_pct", "% of clips", "higher", "emotion.EmotionAccuracy"),
    Metric("blinks_per_s", "1/s", "near_real", "blinks.BlinkStatistics"),
    Metric("pose_over_time_deg", "deg", "near_real", "diversity.pose_over_time_deg"),
    Metric("pose_over_seeds_deg", "deg", "none", "diversity.pose_over_seeds_deg"),
    Metric("n_scored", "clips", "none", "registry.Metric"),
    Metric("n_expected", "clips", "none", "registry.Metric"),
    Metric("av_within_1_pct", "% of 1 s windows", "higher", "sync.window_offsets", main=False),
    Metric("emotion_macro_pct", "%", "higher", "emotion.EmotionAccuracy", main=False),
    Metric("emotion_level_1_pct", "% of clips", "higher", "emotion.EmotionAccuracy", main=False),
    Metric("emotion_level_2_pct", "% of clips", "higher", "emotion.EmotionAccuracy", main=False),
    Metric("emotion_level_3_pct", "% of clips", "higher", "emotion.EmotionAccuracy", main=False),
    Metric("lip_correlation", "", "higher", "landmarks.lip_correlation", main=False),
    Metric("cpbd", "share of edges", "near_real", "sharpness.cpbd", main=False),
    Metric("mouth_sharpness", "grey levels", "near_real", "sharpness.mouth_sharpness", main=False),
    Metric("flicker", "grey levels", "near_real", "sharpness.flicker", main=False),
    Metric("flicker_compensated", "grey levels", "near_real", "compensated.compensated_flicker", main=False),
    Metric("identity_similarity", "cosine of mean faces", "higher", "identity.identity_similarity", main=False),
    Metric("blink_duration_s", "s", "near_real", "blinks.BlinkStatistics", main=False),
    Metric("blink_interval_s", "s", "near_real", "blinks.BlinkStatistics", main=False),
    Metric("blink_complete_pct", "% of blinks", "near_real", "blinks.BlinkStatistics", main=False),
    Metric("blink_interval_distance_s", "s", "lower", "blinks.interval_distance_s", main=False),
    Metric("expression_over_time", "coefficient units", "near_real", "diversity.expression_over_time", main=False),
    Metric("expression_over_seeds", "coefficient units", "near_real", "diversity.seed_distance", main=False),
    Metric("beat_alignment", "", "near_real", "diversity.beat_alignment", main=False),
    Metric("faces_found_pct", "% of frames", "higher", "landmarks.faces_found_pct", main=False),
)

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}
MAIN_COLUMNS: tuple[str, ...] = tuple(metric.name for metric in METRICS if metric.main)
