"""Coefficients and head pose of a talking, feeling face: speech and emotion decide a part, chance the rest.

What belongs to what: speech and the performance of the emotion come from generators shared by all takes of a clip; blinks, gaze, brows,
head and small changes of amplitude come from the take's own generators. Two takes therefore say the same words with nearly the same lips
while eyes and head go their own way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.motion import nonverbal
from flowvqtalker.motion.distributions import DECLARED, Distributions
from flowvqtalker.motion.emotions import MIRROR, emotion_vector
from flowvqtalker.motion.visemes import VISEMES, close_lips, lip_motion, seal_curve
from flowvqtalker.seeding import numpy_generator
from flowvqtalker.speech.espeak import Speech

_MOUTH = np.array([name.startswith(("mouth", "jaw", "cheekPuff")) for name in EXPRESSIONS])
_FELT = np.stack([emotion_vector(emotion) for emotion in EMOTIONS]).max(0) > 0
_FELT[[EXPRESSION_INDEX[name] for name in ("jawOpen", "eyeBlink_L", "eyeBlink_R")]] = False
_LOOK = np.array([name.startswith("eyeLook") for name in EXPRESSIONS])
_LID = np.array([name.startswith("eyeBlink") for name in EXPRESSIONS])
_BROW_RAISE = [EXPRESSION_INDEX[f"{name}_{side}"] for name in ("browInnerUp", "browOuterUp") for side in "LR"]
_BLINK = [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]
_WIDE = [EXPRESSION_INDEX["eyeWide_L"], EXPRESSION_INDEX["eyeWide_R"]]
_ROUND = [EXPRESSION_INDEX["mouthPucker"], EXPRESSION_INDEX["mouthFunnel"]]
_SPREADING = [EXPRESSION_INDEX[f"{name}_{side}"] for name in ("mouthSmile", "mouthStretch", "mouthDimple", "mouthFrown") for side in "LR"]

#: While a person talks, speech leaves this share of the mouth to the emotion.
_EMOTION_IN_TALK = 0.9
#: How strongly speech moves the mouth in each emotion at full intensity.
_ARTICULATION = {
    "neutral": 1.0, "angry": 1.15, "contempt": 0.92, "disgusted": 1.0, "fear": 1.05, "happy": 1.1, "sad": 0.85, "surprised": 1.1
}  # fmt: skip
_LIVELINESS = {
    "neutral": 1.0, "angry": 1.2, "contempt": 0.9, "disgusted": 1.0, "fear": 1.1, "happy": 1.2, "sad": 0.75, "surprised": 1.1
}  # fmt: skip
#: Mean head pose against neutral at full intensity: pitch (down), yaw, roll [deg]. Small: people differ more than emotions do.
_HEAD_OFFSET_DEG = {"angry": (1.5, 0.0, 0.0), "contempt": (-2.0, 0.0, 1.0), "fear": (-1.0, 0.0, 0.0), "sad": (3.0, 0.0, 0.0)}


@dataclass(frozen=True)
class Style:
    """How one identity moves.

    Attributes:
        articulation: factor on lip motion.
        expressivity: factor on emotional expressions.
        blink_factor: factor on the declared blink rate.
        liveliness: factor on head motion.
        shape_gain: (53,) factor per shape, with a little asymmetry between the sides.
        rest: (53,) resting face, coefficients in [0, 1].
        mirrored: shows contempt on the right.
    """

    articulation: float
    expressivity: float
    blink_factor: float
    liveliness: float
    shape_gain: np.ndarray
    rest: np.ndarray
    mirrored: bool


def draw_style(generator: np.random.Generator, *, declared: Distributions = DECLARED) -> Style:
    """Draw an identity's way of moving."""
    symmetric = generator.standard_normal(len(EXPRESSIONS))
    symmetric = (symmetric + symmetric[MIRROR]) / np.sqrt(2)
    gain = np.exp(0.16 * symmetric + 0.05 * generator.standard_normal(len(EXPRESSIONS)))
    rest = generator.standard_normal(len(EXPRESSIONS))
    rest = np.maximum(0.8 * (rest + rest[MIRROR]) / np.sqrt(2) + 0.2 * rest, 0) * declared.rest_sd
    rest[_LOOK] = 0
    rest[EXPRESSION_INDEX["jawOpen"]] = rest[EXPRESSION_INDEX["mouthClose"]] = 0
    rest[EXPRESSION_INDEX["mouthFunnel"]] *= 0.3
    return Style(
        articulation=float(np.clip(1 + 0.10 * generator.standard_normal(), 0.75, 1.25)),
        expressivity=float(np.clip(1 + 0.12 * generator.standard_normal(), 0.7, 1.3)),
        blink_factor=float(generator.uniform(*declared.blink_style_range)),
        liveliness=float(np.clip(np.exp(0.25 * generator.standard_normal()), 0.55, 1.7)),
        shape_gain=gain,
        rest=rest,
        mirrored=bool(generator.uniform() < 0.5),
    )


@dataclass(frozen=True)
class Generators:
    """Random generators of one take, derived from names, so that neither order nor sharding matters.

    Attributes:
        seed: the run's seed.
        clip: the clip's name without its take.
        take: 1, 2, ...
    """

    seed: int
    clip: str
    take: int = 1

    def shared(self, what: str) -> np.random.Generator:
        """The same in every take of the clip."""
        return numpy_generator(self.seed, self.clip, what)

    def own(self, what: str) -> np.random.Generator:
        """Of one take alone."""
        return numpy_generator(self.seed, self.clip, "take", self.take, what)


@dataclass(frozen=True)
class Motion:
    """Motion of one clip.

    Attributes:
        beta: (T, 53) float32 in [0, 1], names in ``face.expressions.EXPRESSIONS``.
        pose: (T, 6) float32 (rx, ry, rz [rad], tx, ty, tz [cm]).
        blinks: (n, 2) float32 start and end [s].
        strength: (T,) float32, the emotion's strength over time.
        seal: (T,) float32 in [0, 1], 1 where the lips are pressed together.
    """

    beta: np.ndarray
    pose: np.ndarray
    blinks: np.ndarray
    strength: np.ndarray
    seal: np.ndarray = field(repr=False)


def performed_emotion(
    generator: np.random.Generator, emotion: str, intensity: float, style: Style, *, declared: Distributions = DECLARED
) -> np.ndarray:
    """How this person shows this emotion this time, (53,) in [0, 1]: the target varied as people vary, so that classes overlap.

    A clip's strength and each shape's strength are log-normal, some shapes do not take part, a little of another emotion mixes in, and small
    movements that belong to no emotion are added; those do not grow with intensity, which is what makes level 1 hard.
    """
    target = emotion_vector(emotion, mirrored=style.mirrored)
    other = EMOTIONS[int(generator.integers(1, len(EMOTIONS)))]
    blend = generator.uniform(*declared.emotion_blend_range)
    symmetric = generator.standard_normal(len(EXPRESSIONS))
    symmetric = 0.85 * (symmetric + symmetric[MIRROR]) / np.sqrt(2) + 0.5 * generator.standard_normal(len(EXPRESSIONS))
    absent = generator.uniform(size=len(EXPRESSIONS))
    absent = np.minimum(absent, absent[MIRROR]) < declared.emotion_absent_probability / 2
    strength = np.exp(declared.emotion_clip_log_sd * generator.standard_normal())
    shape = np.exp(declared.emotion_shape_log_sd * symmetric) * style.shape_gain * np.where(absent, 0.15, 1.0)
    mixed = intensity * style.expressivity * strength * target * shape
    # The second emotion is as strong as a weak expression; a neutral face is never quite empty either.
    mixed = mixed * (1 - 0.5 * blend) + 0.5 * blend * emotion_vector(other, mirrored=style.mirrored) * shape
    aimless = generator.standard_normal(len(EXPRESSIONS))
    aimless = np.maximum(0.8 * (aimless + aimless[MIRROR]) / np.sqrt(2) + 0.2 * aimless, 0) * declared.spontaneous_sd
    return np.clip(mixed + np.where(_FELT, aimless, 0.0), 0, 1)


def _strength_over_time(generators: Generators, n_frames: int, declared: Distributions) -> np.ndarray:
    shared, own = generators.shared("onset"), generators.own("strength")
    start, length = shared.uniform(*declared.emotion_start_share), shared.uniform(*declared.emotion_onset_s)
    rise = np.clip(np.arange(n_frames) / FPS_HZ / length, 0, 1)
    envelope = start + (1 - start) * rise * rise * (3 - 2 * rise)
    slow = nonverbal.smooth_noise(own, n_frames, declared.emotion_fluctuation_sd, declared.emotion_fluctuation_time_s)[:, 0]
    return np.maximum(envelope * np.exp(declared.take_strength_log_sd * own.standard_normal()) * (1 + slow), 0)


def generate_motion(
    speech: Speech,
    emotion: str,
    intensity: float,
    style: Style,
    generators: Generators,
    *,
    n_frames: int | None = None,
    neutral_start: bool = False,
    declared: Distributions = DECLARED,
) -> Motion:
    """Motion of a talking clip.

    Args:
        speech: the sound as it lies in the clip (time 0 = frame 0); see ``Speech.placed``.
        emotion: one of the eight.
        intensity: [0, 1]; neutral has 0.
        style: the identity's way of moving.
        generators: of this clip and take.
        n_frames: T; default as long as the speech.
        neutral_start: the first frames look into the camera with open eyes and closed mouth (enrolment clips).
        declared: the distributions to draw from.

    Returns:
        Coefficients, pose and blinks; the same for the same arguments whatever else was generated before.

    Raises:
        ValueError: unknown emotion or an intensity outside [0, 1].
    """
    if emotion not in EMOTIONS or not 0 <= intensity <= 1:
        raise ValueError(f"generate_motion: emotion {emotion!r} with intensity {intensity} (expected one of {EMOTIONS}, 0 to 1)")
    n_frames = round(speech.duration_s * FPS_HZ) if n_frames is None else n_frames
    stressed = [(p.start_s + p.end_s) / 2 for p in speech.phonemes if p.stress == 2]
    seal = seal_curve(speech.phonemes, n_frames)

    articulation = style.articulation * (1 + (_ARTICULATION[emotion] - 1) * intensity)
    gains = np.exp(declared.take_gain_log_sd * generators.own("phonemes").standard_normal(len(speech.phonemes)))
    lips = lip_motion(speech, n_frames, articulation=articulation, gains=gains)

    strength = _strength_over_time(generators, n_frames, declared)
    performed = performed_emotion(generators.shared("emotion"), emotion, intensity, style, declared=declared)
    feeling = strength[:, None] * performed
    feeling[:, _MOUTH] *= _EMOTION_IN_TALK
    # Rounded lips cannot smile at the same time.
    feeling[:, _SPREADING] *= (1 - 0.5 * np.clip(lips[:, _ROUND].sum(1), 0, 1))[:, None]

    tremor = nonverbal.smooth_noise(
        generators.own("tremor"), n_frames, np.where(_LOOK | _LID, 0.0, declared.tremor_sd), declared.tremor_time_s
    )
    beta = style.rest + lips + feeling + tremor
    beta[:, _BROW_RAISE] += nonverbal.brow_flashes(generators.own("brows"), stressed, n_frames, declared=declared)[:, None]

    gaze = nonverbal.gaze_deg(generators.own("gaze"), n_frames, declared=declared, start_at_camera=neutral_start)
    beta += nonverbal.gaze_to_shapes(gaze, declared=declared)
    rate_hz = declared.blink_rate_hz["neutral"] + (declared.blink_rate_hz[emotion] - declared.blink_rate_hz["neutral"]) * (intensity > 0)
    blinks = nonverbal.blink_events(
        generators.own("blinks"),
        n_frames / FPS_HZ,
        rate_hz * style.blink_factor,
        declared=declared,
        open_until_s=0.3 if neutral_start else 0.0,
    )
    closure = nonverbal.blink_closure(generators.own("lids"), blinks, n_frames, declared=declared)
    if neutral_start:
        _calm_start(beta, style.rest)
    beta = close_lips(np.clip(beta, 0, 1), seal)
    beta[:, _BLINK] = np.maximum(beta[:, _BLINK], closure[:, None])
    beta[:, _WIDE] *= (1 - closure)[:, None]

    offset = np.asarray(_HEAD_OFFSET_DEG.get(emotion, (0.0, 0.0, 0.0))) * intensity
    if style.mirrored:
        offset = offset * (1, -1, -1)
    pose = nonverbal.head_pose(
        generators.own("head"),
        stressed,
        n_frames,
        liveliness=style.liveliness * (1 + (_LIVELINESS[emotion] - 1) * intensity),
        offset_deg=offset,
        declared=declared,
    )
    if neutral_start:
        pose *= 0.5
    return Motion(
        beta=np.clip(beta, 0, 1).astype(np.float32),
        pose=pose.astype(np.float32),
        blinks=blinks.astype(np.float32),
        strength=strength.astype(np.float32),
        seal=seal.astype(np.float32),
    )


def _calm_start(beta: np.ndarray, rest: np.ndarray, *, n_hold: int = 2, n_ramp: int = 4) -> None:
    """Fade the first frames in from the resting face, in place: mouth closed, eyes open and ahead."""
    share = np.clip((np.arange(len(beta)) - n_hold + 1) / n_ramp, 0, 1)[:, None]
    beta[:] = share * beta + (1 - share) * rest


def draw_still(
    generator: np.random.Generator, style: Style, *, declared: Distributions = DECLARED
) -> tuple[np.ndarray, np.ndarray, str, float]:
    """One frame of a face at a random moment, for corpora of single pictures.

    Emotion and level are uniform (neutral as often as any other emotion), the mouth is between two random visemes, sealed or at rest,
    one picture in eight has lids on their way, head and gaze are wider spread than within a clip.

    Returns:
        beta (53,) float32, pose (6,) float32, emotion, intensity.
    """
    emotion = EMOTIONS[int(generator.integers(len(EMOTIONS)))]
    intensity = 0.0 if emotion == "neutral" else float(generator.integers(1, 4)) / 3
    feeling = performed_emotion(generator, emotion, intensity, style, declared=declared)
    strength = float(np.exp(declared.take_strength_log_sd * generator.standard_normal()))
    letters = list(VISEMES)
    first, second = (VISEMES[letters[int(generator.integers(len(letters)))]] for _ in range(2))
    share, amount, talking, sealed, lids = generator.uniform(size=5)
    mouth = (share * first + (1 - share) * second) * style.articulation * (0.6 + 0.5 * amount)
    is_talking = talking < 0.85
    mouth = mouth if is_talking else mouth * 0.0
    feeling[_MOUTH] *= _EMOTION_IN_TALK if is_talking else 1.0
    beta = (
        style.rest
        + mouth
        + strength * feeling
        + declared.tremor_sd * np.where(_LOOK | _LID, 0, generator.standard_normal(len(EXPRESSIONS)))
    )
    spread = np.asarray(declared.gaze_sd_deg) * 1.5
    gaze = np.clip(generator.standard_normal(2) * spread, -declared.gaze_limit_deg, declared.gaze_limit_deg)
    beta += nonverbal.gaze_to_shapes(gaze[None], declared=declared)[0]
    beta = close_lips(np.clip(beta, 0, 1)[None], np.array([1.0 if sealed < 0.12 else 0.0]))[0]
    if lids < 0.125:
        closure = np.sqrt(generator.uniform())
        beta[_BLINK] = np.maximum(beta[_BLINK], closure)
        beta[_WIDE] *= 1 - closure
    angles = np.radians(generator.standard_normal(3) * np.hypot(declared.head_clip_sd_deg, declared.head_drift_sd_deg) * (1.3, 1.5, 1.3))
    shift = generator.standard_normal(3) * 0.4
    shift += nonverbal.NECK_PIVOT_CM - nonverbal.rotation_matrices(angles[None])[0] @ nonverbal.NECK_PIVOT_CM
    return np.clip(beta, 0, 1).astype(np.float32), np.concatenate([angles, shift]).astype(np.float32), emotion, intensity
