"""How one clip of the embedded corpus is made: person, speech, motion, camera, light, picture, truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.corpus.plan import ClipSpec
from flowvqtalker.face.camera import Camera, project
from flowvqtalker.face.model import FaceModel
from flowvqtalker.motion import Generators, Motion, Style, draw_still, draw_style, generate_motion
from flowvqtalker.motion.nonverbal import rotation_matrices
from flowvqtalker.render.background import make_background
from flowvqtalker.render.shade import Light, render_frame, sample_light
from flowvqtalker.render.texture import Appearance, sample_appearance
from flowvqtalker.seeding import numpy_generator
from flowvqtalker.speech.espeak import Speech, synthesize
from flowvqtalker.speech.voices import VOICES, prosody_of

#: Height of the middle of a face below the head frame's origin [cm]: there the frame's middle points, give or take.
_FACE_MIDDLE_CM = -3.0
_ENROL_LEAD_S = 0.32
_SHORTEST_SILENCE = 1 / FPS_HZ


@dataclass(frozen=True)
class Recipe:
    """What all clips share.

    Attributes:
        seed: of the run.
        size_px: side of the raw frames.
        face_share: least and most width of the face, ear to ear, as a share of the frame's width.
        rate_wpm: speaking rate of a neutral voice [words a minute].
        lead_s: silence before the sentence.
        tail_s: silence after it.
        max_clip_s: longest clip.
    """

    seed: int
    size_px: int
    face_share: tuple[float, float]
    rate_wpm: int
    lead_s: float
    tail_s: float
    max_clip_s: float


@dataclass(frozen=True, eq=False)
class Person:
    """One identity: geometry, looks, way of moving.

    Attributes:
        alpha: (A,) float32 identity coefficients.
        neutral: (V, 3) float32 head without expression [cm].
        appearance: colours and texture.
        style: way of moving.
        face_width_cm: distance between the landmarks before the ears.
    """

    alpha: np.ndarray
    neutral: np.ndarray
    appearance: Appearance
    style: Style
    face_width_cm: float


def make_person(identity: str, model: FaceModel, seed: int) -> Person:
    """The person of a name; the same whichever clip asks."""
    alpha = model.sample_identity(numpy_generator(seed, identity, "alpha"))
    neutral = model.neutral(alpha)
    ears = neutral[model.landmarks68[[0, 16]]]
    return Person(
        alpha=alpha,
        neutral=neutral,
        appearance=sample_appearance(numpy_generator(seed, identity, "appearance"), model),
        style=draw_style(numpy_generator(seed, identity, "style")),
        face_width_cm=float(np.linalg.norm(ears[0] - ears[1])),
    )


def draw_camera(generator: np.random.Generator, face_width_cm: float, recipe: Recipe) -> Camera:
    """A camera that shows the face at the wanted size, somewhere off the middle.

    The optical axis passes through the head and the picture is cut off-centre round it, so that a crop round the face sees it straight on:
    an off-axis camera would turn the head in every crop by up to 3 degrees, and the crop camera of docs/conventions.md cannot know.
    """
    distance = generator.uniform(52.0, 70.0)
    share = generator.uniform(*recipe.face_share)
    focal = share * recipe.size_px * distance / face_width_cm
    middle = (recipe.size_px - 1) / 2
    room = max(0.5 - share * 0.72, 0.02) * recipe.size_px  # keeps ears and chin inside
    right, down = generator.uniform(-1, 1, 2) * room * (0.75, 0.5)
    return Camera(
        focal_px=float(focal),
        cx=float(middle + right),
        cy=float(middle + down + focal * _FACE_MIDDLE_CM / distance),
        distance_cm=float(distance),
    )


def posed_vertices(model: FaceModel, person: Person, beta: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """World positions (V, 3) float32 [cm] of one frame."""
    rotation = rotation_matrices(np.asarray(pose[None, :3], float))[0].astype(np.float32)
    return model.frame(person.alpha, beta, person.neutral) @ rotation.T + np.asarray(pose[3:], np.float32)


def project_landmarks(model: FaceModel, person: Person, beta: np.ndarray, pose: np.ndarray, camera: Camera) -> np.ndarray:
    """The 68 landmarks of every frame as they are drawn, (T, 68, 2) float32 px in the raw frame.

    Args:
        model: face model.
        person: whose face it is.
        beta: (T, E) expression.
        pose: (T, 6).
        camera: the clip's camera.
    """
    points = np.stack([posed_vertices(model, person, b, p)[model.landmarks68] for b, p in zip(beta, pose, strict=True)])
    with torch.no_grad():
        return project(torch.from_numpy(points), camera).numpy().astype(np.float32)


@dataclass(frozen=True, eq=False)
class Talk:
    """Everything about a talking clip but its pictures.

    Attributes:
        speech: the sound, as long as the clip, with phonemes.
        motion: coefficients, pose, blinks.
        camera: the identity's camera.
        person: who talks.
        light: the identity's light.
        background: (size, size, 3) uint8.
    """

    speech: Speech
    motion: Motion
    camera: Camera
    person: Person
    light: Light
    background: np.ndarray

    @property
    def n_frames(self) -> int:
        """Number of frames T."""
        return len(self.motion.beta)


def make_talk(spec: ClipSpec, person: Person, recipe: Recipe) -> Talk:
    """Speech and motion of a talking or enrolment clip.

    The sentence, its prosody and the performance of the emotion are shared by all takes; see ``Generators``. Camera, light and background
    belong to the identity, one studio a person as in MEAD: they are no driving coefficients, so a generator that sees the enrolment frame
    could not know another clip's (docs/decisions/0011).
    """
    studio = partial(numpy_generator, recipe.seed, spec.identity, "studio")
    generators = Generators(recipe.seed, spec.performance, spec.take)
    prosody = prosody_of(spec.emotion, spec.intensity, generators.shared("prosody"), rate_wpm=recipe.rate_wpm)
    said = synthesize(spec.text, VOICES[spec.number % len(VOICES)], prosody)
    lead_s = max(_ENROL_LEAD_S if spec.role == "enrol" else recipe.lead_s, 0.0)
    wanted_s = min(lead_s + said.duration_s + recipe.tail_s, recipe.max_clip_s)
    n_frames = max(int(np.ceil(wanted_s * FPS_HZ - 1e-9)), int(np.ceil((lead_s + _SHORTEST_SILENCE) * FPS_HZ)))
    speech = said.placed(lead_s, n_frames / FPS_HZ)
    motion = generate_motion(
        speech, spec.emotion, spec.intensity, person.style, generators, n_frames=n_frames, neutral_start=spec.role == "enrol"
    )
    return Talk(
        speech=speech,
        motion=motion,
        camera=draw_camera(studio("camera"), person.face_width_cm, recipe),
        person=person,
        light=sample_light(studio("light")),
        background=make_background(studio("background"), (recipe.size_px, recipe.size_px)),
    )


def render_talk(talk: Talk, model: FaceModel) -> Iterator[np.ndarray]:
    """Frames of a clip one by one, (H, W, 3) uint8 RGB each, so that memory does not grow with its length."""
    for beta, pose in zip(talk.motion.beta, talk.motion.pose, strict=True):
        yield _render(model, talk.person, beta, pose, talk.camera, talk.light, talk.background)


def _render(
    model: FaceModel, person: Person, beta: np.ndarray, pose: np.ndarray, camera: Camera, light: Light, background: np.ndarray
) -> np.ndarray:
    vertices = posed_vertices(model, person, beta, pose)
    return render_frame(model, vertices, beta, person.appearance, camera, background.shape[:2], light, background)


def truth_of(talk: Talk, model: FaceModel) -> dict[str, np.ndarray]:
    """Arrays of ``truth/<clip>.npz`` as docs/architecture.md lists them."""
    motion, camera = talk.motion, talk.camera
    return {
        "alpha": talk.person.alpha,
        "beta": motion.beta,
        "pose": motion.pose,
        "landmarks_px": project_landmarks(model, talk.person, motion.beta, motion.pose, camera),
        "camera": np.array([camera.focal_px, camera.cx, camera.cy], np.float32),
        "distance_cm": np.array(camera.distance_cm, np.float32),
        "blinks": motion.blinks,
        "strength": motion.strength,
        "seal": motion.seal,
        "phonemes": np.array([p.symbol for p in talk.speech.phonemes], dtype="U8"),
        "phoneme_times_s": np.array([(p.start_s, p.end_s) for p in talk.speech.phonemes], np.float32).reshape(-1, 2),
    }


#: Pictures of a still identity that share a background (turned and mirrored), since drawing one costs as much as rendering a face.
_STILLS_PER_BACKGROUND = 4


def make_stills(spec: ClipSpec, count: int, person: Person, recipe: Recipe, model: FaceModel) -> dict[str, np.ndarray]:
    """Single pictures of one person, each at its own moment, camera and light.

    Returns:
        frames (n, H, W, 3) uint8, landmarks_px (n, 68, 2), alpha (A,), beta (n, E), pose (n, 6), camera (n, 4) [focal_px, cx, cy,
        distance_cm], emotion (n,) int64 index into EMOTIONS, intensity (n,) float32.
    """
    frames, marks, betas, poses, cameras, emotions, intensities = [], [], [], [], [], [], []
    background = np.zeros((recipe.size_px, recipe.size_px, 3), np.uint8)
    for number in range(count):
        generator = numpy_generator(recipe.seed, spec.clip, "still", number)
        turn = number % _STILLS_PER_BACKGROUND
        if turn == 0:
            background = make_background(generator, (recipe.size_px, recipe.size_px))
        behind = np.ascontiguousarray(np.rot90(background, 2 * (turn // 2))[:, :: 1 - 2 * (turn % 2)])
        beta, pose, emotion, intensity = draw_still(generator, person.style)
        camera, light = draw_camera(generator, person.face_width_cm, recipe), sample_light(generator)
        frames.append(_render(model, person, beta, pose, camera, light, behind))
        marks.append(project_landmarks(model, person, beta[None], pose[None], camera)[0])
        betas.append(beta)
        poses.append(pose)
        cameras.append([camera.focal_px, camera.cx, camera.cy, camera.distance_cm])
        emotions.append(EMOTIONS.index(emotion))
        intensities.append(intensity)
    return {
        "frames": np.stack(frames),
        "landmarks_px": np.stack(marks).astype(np.float32),
        "alpha": person.alpha,
        "beta": np.stack(betas),
        "pose": np.stack(poses),
        "camera": np.array(cameras, np.float32),
        "emotion": np.array(emotions, np.int64),
        "intensity": np.array(intensities, np.float32),
    }
