"""Declared distributions of the nonverbal motion: what the generator draws from and what evaluation compares against.

The numbers are frozen: they were chosen from the literature and from real coefficients before any judge was trained
(docs/data_card.md says which), and are not tuned to please a metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from flowvqtalker.constants import EMOTIONS


def _frozen(**values: float) -> Mapping[str, float]:
    return MappingProxyType(values)


@dataclass(frozen=True)
class Distributions:
    """Parameters of every random process of the motion generator.

    Blinks: onsets are a renewal process; the interval from onset to onset is ``blink_refractory_s`` plus a Gamma variable of shape
    ``blink_gamma_shape`` whose mean makes the rate. The duration (lid leaves its place until it is back) is log-normal, redrawn until
    it lies in ``blink_duration_range_s``. Rates lie in the band of talking people, 0.28 to 0.45 a second (Bentivoglio et al. 1997:
    0.43/s in conversation, https://moh-it.pure.elsevier.com/en/publications/analysis-of-blink-rate-patterns-in-normal-subjects).
    """

    blink_rate_hz: Mapping[str, float] = field(
        default_factory=lambda: _frozen(
            neutral=0.36, angry=0.30, contempt=0.33, disgusted=0.38, fear=0.43, happy=0.40, sad=0.34, surprised=0.29
        )
    )
    blink_style_range: tuple[float, float] = (0.85, 1.15)  # an identity's own factor on the rate, uniform, mean 1
    blink_refractory_s: float = 0.5
    blink_gamma_shape: float = 1.6
    blink_duration_median_s: float = 0.22
    blink_duration_log_sd: float = 0.25
    blink_duration_range_s: tuple[float, float] = (0.12, 0.40)
    blink_closing_share: float = 0.28  # of the time that is not fully closed
    blink_closed_share: float = 0.20  # of the duration, at least one frame
    blink_depth_range: tuple[float, float] = (0.92, 1.0)  # uniform

    saccade_refractory_s: float = 0.25
    saccade_interval_mean_s: float = 1.3  # refractory + exponential
    gaze_sd_deg: tuple[float, float] = (4.0, 2.5)  # horizontal, vertical; around the camera
    gaze_limit_deg: float = 12.0
    gaze_return_probability: float = 0.45  # of looking back into the camera
    gaze_full_deg: tuple[float, float] = (32.0, 26.0)  # eyeLook coefficient 1, as face.model turns the eyeballs
    lid_follows_down: float = 0.25  # eyeBlink per unit of eyeLookDown
    lid_follows_up: float = 0.20  # eyeWide per unit of eyeLookUp

    brow_flash_probability: float = 0.16  # per stressed syllable
    brow_flash_amplitude: tuple[float, float] = (0.12, 0.35)  # uniform
    brow_flash_duration_s: tuple[float, float] = (0.28, 0.60)  # uniform

    head_clip_sd_deg: tuple[float, float, float] = (2.5, 5.0, 2.0)  # mean pose of a clip: pitch, yaw, roll; cut at 2 sd
    head_drift_sd_deg: tuple[float, float, float] = (1.6, 2.2, 1.2)  # stationary
    head_drift_time_s: tuple[float, float, float] = (1.0, 1.4, 1.4)
    head_translation_sd_cm: tuple[float, float, float] = (0.25, 0.15, 0.35)
    head_translation_time_s: float = 1.8
    nod_probability: float = 0.55  # per stressed syllable
    nod_amplitude_deg: tuple[float, float] = (0.8, 3.0)  # uniform, downwards
    nod_duration_s: tuple[float, float] = (0.24, 0.46)  # uniform

    emotion_start_share: tuple[float, float] = (0.55, 0.95)  # of the peak, at the clip's first frame
    emotion_onset_s: tuple[float, float] = (0.2, 0.7)
    emotion_fluctuation_sd: float = 0.09
    emotion_fluctuation_time_s: float = 0.8
    emotion_clip_log_sd: float = 0.22  # strength of a clip against its level
    emotion_shape_log_sd: float = 0.35  # strength of each shape in a clip
    emotion_absent_probability: float = 0.12  # a shape of the target does not take part in this clip
    emotion_blend_range: tuple[float, float] = (0.0, 0.22)  # share of a second emotion mixed in
    spontaneous_sd: float = 0.04  # a clip's own faces that belong to no emotion, on every shape the emotions use
    rest_sd: float = 0.05  # an identity's own resting face
    tremor_sd: float = 0.012  # slow aimless motion of every shape
    tremor_time_s: float = 0.5

    take_gain_log_sd: float = 0.12  # each phoneme's amplitude from take to take
    take_strength_log_sd: float = 0.10  # emotion's strength from take to take

    def __post_init__(self) -> None:
        if tuple(self.blink_rate_hz) != EMOTIONS:
            raise ValueError("blink_rate_hz must name the eight emotions in order")
        fastest = max(self.blink_rate_hz.values()) * self.blink_style_range[1]
        if 1 / fastest <= self.blink_refractory_s:
            raise ValueError("blink_refractory_s is longer than the mean interval")
        if self.blink_duration_range_s[1] > self.blink_refractory_s:
            raise ValueError("a blink could start before the last one ended")


DECLARED = Distributions()
