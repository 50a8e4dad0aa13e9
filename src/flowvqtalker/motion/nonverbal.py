"""Random processes of the face that speech does not determine: blinks, gaze, brow flashes, head motion.

Every function takes its own generator, so that a change in one process never moves another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.motion.distributions import DECLARED, Distributions

#: About which point the head turns, in the head frame [cm] (docs/conventions.md).
NECK_PIVOT_CM = np.array([0.0, -6.0, -3.0])


def smooth_noise(
    generator: np.random.Generator, n_frames: int, sd: float | Sequence[float] | np.ndarray, time_s: float, *, smoothing_frames: float = 2.0
) -> np.ndarray:
    """Stationary slow motion: an Ornstein-Uhlenbeck process, smoothed so that its speed is finite, with an exact standard deviation.

    Args:
        generator: source of the noise.
        n_frames: T.
        sd: stationary standard deviation, one per column.
        time_s: correlation time of the process [s].
        smoothing_frames: standard deviation of the Gaussian smoother [frames].

    Returns:
        (T, n) float64 with mean 0.
    """
    sds = np.atleast_1d(np.asarray(sd, float))
    radius = int(np.ceil(4 * smoothing_frames))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(smoothing_frames, 1e-6)) ** 2)
    kernel /= kernel.sum()
    rho = np.exp(-1 / (FPS_HZ * time_s))
    lags = np.abs(np.subtract.outer(np.arange(len(kernel)), np.arange(len(kernel))))
    scale = 1 / np.sqrt(kernel @ rho**lags @ kernel)
    noise = generator.standard_normal((n_frames + 2 * radius, len(sds)))
    noise[1:] *= np.sqrt(1 - rho**2)
    for frame in range(1, len(noise)):
        noise[frame] += rho * noise[frame - 1]
    smooth = np.stack([np.convolve(column, kernel, "valid") for column in noise.T], 1)
    return smooth * scale * sds


def blink_events(
    generator: np.random.Generator, duration_s: float, rate_hz: float, *, declared: Distributions = DECLARED, open_until_s: float = 0.0
) -> np.ndarray:
    """Blinks of a stretch of time, in equilibrium: the stretch is cut from a process that has run for long.

    Args:
        generator: source of the draws.
        duration_s: length of the stretch [s].
        rate_hz: blinks a second.
        declared: interval and duration distributions.
        open_until_s: blinks that overlap the first so many seconds are left out (for a clip that must begin with open eyes).

    Returns:
        (n, 2) float64 start and end [s], sorted, clipped to the stretch; onset to onset is never less than the refractory time.
    """
    refractory = declared.blink_refractory_s
    mean_extra = 1 / rate_hz - refractory
    if mean_extra <= 0:
        raise ValueError(f"rate_hz {rate_hz}: the mean interval is shorter than the refractory time of {refractory} s")
    shape = declared.blink_gamma_shape
    time = -25 / rate_hz * generator.uniform(0.8, 1.2)
    events = []
    low, high = declared.blink_duration_range_s
    while time < duration_s:
        length = 0.0
        while not low <= length <= high:
            length = declared.blink_duration_median_s * np.exp(declared.blink_duration_log_sd * generator.standard_normal())
        if time + length > open_until_s and time + length > 0 and (time >= open_until_s or open_until_s <= 0):
            events.append((max(time, 0.0), min(time + length, duration_s)))
        time += refractory + generator.gamma(shape, mean_extra / shape)
    return np.array(events, float).reshape(-1, 2)


def blink_closure(generator: np.random.Generator, events: np.ndarray, n_frames: int, *, declared: Distributions = DECLARED) -> np.ndarray:
    """Lid closure of blinks, (T,) in [0, 1]: fast down, at least one frame closed, slower up (smooth steps).

    A blink cut by the clip's edge is drawn from its remaining part.
    """
    times = np.arange(n_frames) / FPS_HZ
    closure = np.zeros(n_frames)
    for start, end in events:
        depth = generator.uniform(*declared.blink_depth_range)
        closed = max(declared.blink_closed_share * (end - start), 1 / FPS_HZ)
        moving = max(end - start - closed, 1e-3)
        down_s = declared.blink_closing_share * moving
        up_s = moving - down_s
        down = np.clip((times - start) / down_s, 0, 1)
        up = np.clip((end - times) / up_s, 0, 1)
        closure = np.maximum(closure, depth * np.minimum(down * down * (3 - 2 * down), up * up * (3 - 2 * up)))
    return closure


def gaze_deg(
    generator: np.random.Generator, n_frames: int, *, declared: Distributions = DECLARED, start_at_camera: bool = False
) -> np.ndarray:
    """Gaze direction against the head, (T, 2) float64 [deg]: to the subject's left, up.

    Fixations end after ``refractory + exponential`` seconds; the eyes then jump within one frame back to the camera or to a normal
    draw around it; larger jumps take two frames.
    """
    times = np.arange(n_frames) / FPS_HZ
    sd = np.asarray(declared.gaze_sd_deg)
    target = np.zeros(2) if start_at_camera else _gaze_target(generator, sd, declared)
    gaze = np.empty((n_frames, 2))
    change, previous = 0.0, target
    mean = declared.saccade_interval_mean_s - declared.saccade_refractory_s
    following = declared.saccade_refractory_s + generator.exponential(mean) if start_at_camera else generator.exponential(mean)
    for frame, time in enumerate(times):
        if time >= following:
            previous, target, change = target, _gaze_target(generator, sd, declared), following
            following += declared.saccade_refractory_s + generator.exponential(mean)
        length_s = 0.021 + 0.0022 * float(np.linalg.norm(target - previous))  # main sequence of saccades
        share = float(np.clip((time - change) / length_s, 0, 1)) if change > 0 else 1.0
        gaze[frame] = previous + (target - previous) * share
    return gaze


def _gaze_target(generator: np.random.Generator, sd: np.ndarray, declared: Distributions) -> np.ndarray:
    draw = generator.standard_normal(2) * sd
    if generator.uniform() < declared.gaze_return_probability:
        draw *= 0.15
    return np.clip(draw, -declared.gaze_limit_deg, declared.gaze_limit_deg)


def gaze_to_shapes(gaze: np.ndarray, *, declared: Distributions = DECLARED) -> np.ndarray:
    """EyeLook coefficients of both eyes for gaze (T, 2) [deg], with the lids following: (T, 53) in [0, 1]."""
    beta = np.zeros((len(gaze), len(EXPRESSIONS)))
    amount = np.clip(gaze / np.asarray(declared.gaze_full_deg), -1, 1)
    left, right = np.maximum(amount[:, 0], 0), np.maximum(-amount[:, 0], 0)
    up, down = np.maximum(amount[:, 1], 0), np.maximum(-amount[:, 1], 0)
    columns = {
        "eyeLookOut_L": left, "eyeLookIn_R": left, "eyeLookIn_L": right, "eyeLookOut_R": right,
        "eyeLookUp_L": up, "eyeLookUp_R": up, "eyeLookDown_L": down, "eyeLookDown_R": down,
        "eyeBlink_L": declared.lid_follows_down * down, "eyeBlink_R": declared.lid_follows_down * down,
        "eyeWide_L": declared.lid_follows_up * up, "eyeWide_R": declared.lid_follows_up * up,
    }  # fmt: skip
    for name, values in columns.items():
        beta[:, EXPRESSION_INDEX[name]] = values
    return beta


def bump(times: np.ndarray, centre_s: float, length_s: float) -> np.ndarray:
    """A smooth rise and fall of height 1 around a moment, zero beyond half its length (raised cosine)."""
    phase = np.clip((times - centre_s) / length_s, -0.5, 0.5)
    return 0.5 * (1 + np.cos(2 * np.pi * phase))


def brow_flashes(
    generator: np.random.Generator, stressed_s: Sequence[float], n_frames: int, *, declared: Distributions = DECLARED
) -> np.ndarray:
    """Brow raises on stressed syllables, (T,) in [0, 1]."""
    times = np.arange(n_frames) / FPS_HZ
    raised = np.zeros(n_frames)
    for moment in stressed_s:
        chosen, height, length = generator.uniform(size=3)
        if chosen < declared.brow_flash_probability:
            low, high = declared.brow_flash_amplitude
            short, long = declared.brow_flash_duration_s
            raised = np.maximum(raised, (low + (high - low) * height) * bump(times, moment, short + (long - short) * length))
    return raised


def rotation_matrices(angles: np.ndarray) -> np.ndarray:
    """R = Rz(rz) Ry(ry) Rx(rx) for angles (T, 3) [rad], (T, 3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles).T, np.sin(angles).T
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def head_pose(
    generator: np.random.Generator,
    stressed_s: Sequence[float],
    n_frames: int,
    *,
    liveliness: float = 1.0,
    offset_deg: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
    declared: Distributions = DECLARED,
) -> np.ndarray:
    """Head pose of a clip, (T, 6) float64 (rx, ry, rz [rad], tx, ty, tz [cm]): a clip's own mean, slow drift, nods on stress.

    The head turns about the neck, so a rotation also moves the face.

    Args:
        generator: source of the draws.
        stressed_s: moments of stressed syllables [s].
        n_frames: T.
        liveliness: factor on drift and nods.
        offset_deg: added to the clip's mean (pitch, yaw, roll), e.g. a sad head hangs.
        declared: sizes and times of drift and nods.
    """
    times = np.arange(n_frames) / FPS_HZ
    mean = np.clip(generator.standard_normal(3), -2, 2) * np.asarray(declared.head_clip_sd_deg) + np.asarray(offset_deg)
    drift = np.concatenate(
        [
            smooth_noise(generator, n_frames, sd, time_s, smoothing_frames=3.0)
            for sd, time_s in zip(declared.head_drift_sd_deg, declared.head_drift_time_s)
        ],
        axis=1,
    )
    nods = np.zeros(n_frames)
    for moment in stressed_s:
        chosen, height, length, side = generator.uniform(size=4)
        if chosen < declared.nod_probability:
            low, high = declared.nod_amplitude_deg
            short, long = declared.nod_duration_s
            nods += (low + (high - low) * height) * bump(times, moment + 0.04 * (side - 0.5), short + (long - short) * length)
    degrees = mean + liveliness * drift
    degrees[:, 0] += liveliness * nods
    angles = np.radians(degrees)
    shift = (
        smooth_noise(generator, n_frames, declared.head_translation_sd_cm, declared.head_translation_time_s, smoothing_frames=4.0)
        * liveliness
    )
    shift = shift + NECK_PIVOT_CM - rotation_matrices(angles) @ NECK_PIVOT_CM
    return np.concatenate([angles, shift], 1)
