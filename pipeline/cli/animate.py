"""`flowvqtalker animate`: one portrait, speech and an emotion in, a talking face out. The same functions as the step `generate`."""

from __future__ import annotations

import argparse
import warnings
import wave
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from flowvqtalker.constants import EMOTIONS, FPS_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from flowvqtalker.face.camera import crop_camera
from flowvqtalker.face.pose import euler_to_matrix, matrix_to_euler
from flowvqtalker.fit.basis import LandmarkBasis, basis_of, has_scores
from flowvqtalker.fit.blendshapes import blendshapes_to_beta
from flowvqtalker.fit.solver import calibrate, fit_clip, fit_identity_of_clip
from flowvqtalker.flow.blinkrate import MOST_BLINKS, closure_of, donor_seed, donors_needed, find_blinks, lid_columns, scale_blinks
from flowvqtalker.flow.control import EmotionTrack, one_emotion
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.sampling import CHUNK_FRAMES, MOST_INTENSE
from flowvqtalker.flow.streaming import Smoother, StreamRow, WindowStream, stream
from flowvqtalker.flow.transfer import Reading, Reference, read_emotion
from flowvqtalker.image.vqig import SourceState
from flowvqtalker.landmarks import boxes
from flowvqtalker.landmarks.schema import Landmarker
from pipeline.backends import make_landmarker
from pipeline.cli.controls import mended, wished_track
from pipeline.errors import PipelineError
from pipeline.facemodel import load_face_model
from pipeline.footage import iterate_footage, open_footage
from pipeline.media import read_frames, read_sound
from pipeline.params import read_config, validate
from pipeline.stages import reads_of, run_root
from pipeline.synthesis import Models, Source, speech_windows, write_synthetic

#: Frames that are rendered and handed to the encoder before the next ones are begun: memory does not grow with the speech.
PIECE_FRAMES = 128
#: Frames of a reference clip that are looked at: its likelihood is computed at once.
MOST_REFERENCE_FRAMES = 20 * FPS_HZ
#: Frames with a face that a neutral video needs: of one frame alone the fit keeps the landmark back end's error of that frame.
FEWEST_NEUTRAL_FRAMES = 10
#: What ``pose`` may say besides the name of a video.
SAMPLED, STILL = "sampled", "still"
#: A larger picture is read smaller: the face is cut down to the crop anyway, and memory does not grow with the camera.
MOST_PORTRAIT_PX = 4096
#: Largest face, as a share of the picture's larger side: a close-up is cut at chin and forehead.
MOST_OF_PICTURE = 1.25
#: How much of the sound that a wav's header promises may be missing [s]: recorders that were stopped write a header of a moment later.
MOST_MISSING_S = 0.1
#: Factor of the motion's randomness that may be asked for.
MOST_TEMPERATURE = 3.0
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
#: A wav that was written to a pipe says about the largest size [bytes] that its header can hold, which means nothing.
_UNKNOWN_SIZE = 2**31 - 2**16
_NO_FIT = "use a picture that shows the face from the front, or models trained on pictures of this kind"


@dataclass(frozen=True)
class Studio:
    """A finished run with everything that turns a portrait into a talking face.

    Attributes:
        config: merged configuration of the run.
    """

    config: Mapping[str, Any]

    @cached_property
    def params(self) -> dict[str, Any]:
        """Typed sections."""
        return validate(self.config)

    def folder(self, stage: str) -> Path:
        """Folder of a stage's result."""
        paths = {**reads_of(self.config, "generate"), **reads_of(self.config, "crop")}
        path = run_root(self.config) / paths[stage]
        if not path.exists():
            raise PipelineError(f"no trained model: {path} does not exist", "train first: `make all`, or `dvc pull` for a published run")
        return path.parent

    @cached_property
    def models(self) -> Models:
        """Trained flows, generator and codebook."""
        generate = self.params["generate"]
        return Models(
            flow=self.folder(f"flow_{generate.flow_variant}"), imagegen=self.folder(f"imagegen_{generate.imagegen_variant}"),
            codebook=self.folder("codebook"),
        )  # fmt: skip

    @cached_property
    def landmarker(self) -> Landmarker:
        """Landmark back end of the run."""
        return make_landmarker(self.params["landmarks"], self.folder("landmarker"))

    @cached_property
    def basis(self) -> LandmarkBasis:
        """Landmark basis of the run's face model."""
        fit = self.params["fit3dmm"]
        return basis_of(load_face_model(fit.model, fit.asset))


def read_portrait(path: Path) -> np.ndarray:
    """Picture (H, W, 3) uint8 RGB of an image file, or the first frame of a video.

    A picture is turned as its EXIF says, what is transparent is laid on white, and a side of more than MOST_PORTRAIT_PX is read smaller.

    Raises:
        PipelineError: the file is missing, or neither a picture nor a video.
    """
    if not path.exists():
        raise PipelineError(f"{path}: no such file", "name a picture or a video with --source")
    if path.suffix.lower() not in _PICTURES:
        try:
            return read_frames(path, [0])[0]
        except PipelineError as error:
            raise PipelineError(
                f"no picture to animate: {error.message}", "name a picture (png, jpeg, webp, bmp, tiff) or a video with --source"
            ) from error
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice as large ones are refused below
            with Image.open(path) as image:
                image.thumbnail((MOST_PORTRAIT_PX, MOST_PORTRAIT_PX))
                return np.array(_opaque(ImageOps.exif_transpose(image)))  # a copy that may be written to
    except Image.DecompressionBombError as error:
        raise PipelineError(
            f"{path}: the picture is too large ({error})", f"save it with sides of at most {MOST_PORTRAIT_PX} px"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise PipelineError(f"{path}: not a readable picture ({error})", "save it again as png or jpeg") from error


def _opaque(image: Any) -> Any:
    """A picture of any mode of Pillow's as 8-bit RGB; transparent parts on white, 16-bit grey scaled instead of clipped."""
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image, dtype=np.int64) // 256).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def read_speech(path: Path) -> np.ndarray:
    """Speech (S,) float32 mono at 16 kHz of a sound file or a video.

    Raises:
        PipelineError: the file is missing, unreadable, without sound, or a wav that was cut off.
    """
    try:
        sound = read_sound(path)
    except PipelineError as error:
        raise PipelineError(error.message, "name a sound file (wav, flac, mp3, m4a, ogg), or a video with sound, with --audio") from error
    if sound is None or len(sound) == 0:
        raise PipelineError(f"{path}: the file holds no sound", "name a sound file, or a video with sound, with --audio")
    try:
        with wave.open(str(path), "rb") as file:
            size, promised_s = file.getnframes() * file.getnchannels() * file.getsampwidth(), file.getnframes() / file.getframerate()
    except (wave.Error, EOFError, ZeroDivisionError, OSError):
        return sound  # no wav, or a kind of wav whose header says nothing
    if promised_s - len(sound) / SAMPLE_RATE_HZ > MOST_MISSING_S and size < _UNKNOWN_SIZE:
        raise PipelineError(
            f"{path}: the file is cut off: its header says {promised_s:.2f} s, {len(sound) / SAMPLE_RATE_HZ:.2f} s are there",
            "copy it again, or save what is there as a new sound file",
        )
    return sound


def find_face(studio: Studio, portrait: np.ndarray, name: str) -> np.ndarray:
    """Landmarks (68, 2) px of the only face of a picture.

    Raises:
        PipelineError: no face, one below crop.min_face_px, or a second one at least half as large.
    """
    points = studio.landmarker.detect(portrait[None], video=False).landmarks_px[0]
    low, high = points.min(0), points.max(0)
    size, sides, least = high - low, np.array(portrait.shape[1::-1]), studio.params["crop"].min_face_px
    # Not a number where there is no face; points around or far beyond the picture are what a network says of something else.
    middle = (low + high) / 2
    if not ((middle > 0) & (middle < sides)).all() or size.max() > MOST_OF_PICTURE * sides.max():
        raise PipelineError(f"{name}: no face found", "use a picture that shows one face from the front, at least 64 px wide")
    if size.max() < least:
        raise PipelineError(f"{name}: the face is {size.max():.0f} px wide, {least:g} are needed", "use a larger picture of the face")
    # A back end reports its best face only: cover it and look again.
    covered = portrait.copy()
    left, top = np.maximum((low - 0.4 * size).astype(int), 0)
    right, bottom = np.maximum((high + 0.4 * size).astype(int), 1)
    covered[top:bottom, left:right] = np.median(portrait, axis=(0, 1)).astype(np.uint8)
    second = studio.landmarker.detect(covered[None], video=False).landmarks_px[0]
    u, v = (second.min(0) + second.max(0)) / 2
    # What a network makes of the cover itself, with hair and neck around it, is no second face.
    apart = not (left <= u < right and top <= v < bottom)
    if np.isfinite(second).all() and apart and np.ptp(second, axis=0).max() >= 0.5 * size.max():
        raise PipelineError(
            f"{name}: several faces found (the second near column {u:.0f}, row {v:.0f})", "cut the picture down to one face"
        )
    return points


def prepare_source(studio: Studio, portrait: np.ndarray, name: str = "portrait") -> Source:
    """Crop and fit a portrait as the pipeline crops and fits a frame.

    Args:
        studio: the finished run.
        portrait: (H, W, 3) uint8 RGB.
        name: how messages call the picture.

    Raises:
        PipelineError: not one face, or one that no head can be fitted to.
    """
    crop, fit = studio.params["crop"], studio.params["fit3dmm"]
    points = find_face(studio, portrait, name)
    box = boxes.static_box(points[None], scale=crop.scale, shift_up_share=crop.shift_up_share)
    picture = boxes.crop_frames(portrait[None], box, crop.size_px)[0]
    camera, config = crop_camera(crop.size_px), fit.fit_config()
    # The back end looks again at the crop: its blendshapes, where it has some, belong to what is fitted.
    found = studio.landmarker.detect(picture[None], video=False)
    landmarks = found.landmarks_px if found.present.all() else boxes.to_crop(points, box, crop.size_px)[None]
    names, scores = studio.basis.names, found.blendshapes
    prior = None if scores is None or not has_scores(names) else blendshapes_to_beta(scores, names)
    try:
        alpha = fit_identity_of_clip(studio.basis, landmarks, camera, config, count=1, neutral=False, prior_mean=prior)
        result = fit_clip(studio.basis, alpha, landmarks, camera, config, prior_mean=prior, is_sequence=False)
    except (ValueError, torch.linalg.LinAlgError) as error:
        raise PipelineError(f"{name}: no head fits the face that was found ({error})", _NO_FIT) from error
    if not (np.isfinite(result.beta).all() and np.isfinite(result.pose).all()):
        raise PipelineError(f"{name}: no head fits the face that was found", _NO_FIT)
    return Source(picture, result.beta[0], result.pose[0], landmarks[0])


def crop_landmarks(studio: Studio, path: Path, option: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Landmarks of a video of one face, in the crop that the pipeline would cut.

    Args:
        studio: the finished run, whose landmark back end is used.
        path: the video, of any size and frame rate.
        option: which option named it, for messages.

    Returns:
        (T, 68, 2) px at 25 fps, NaN where there is no face, and the expected expressions (T, E) where the back end gives scores, else None.

    Raises:
        PipelineError: the file cannot be read or shows no face.
    """
    crop = studio.params["crop"]
    found = studio.landmarker.detect_pieces(frames for frames, _ in iterate_footage(open_footage(path)))
    if not found.present.any():
        raise PipelineError(f"{path}: no face found in any frame", f"name a video that shows one face with {option}")
    box = boxes.static_box(found.landmarks_px, scale=crop.scale, shift_up_share=crop.shift_up_share)
    landmarks = np.stack([boxes.to_crop(points, box, crop.size_px) for points in found.landmarks_px])
    names, scores = studio.basis.names, found.blendshapes
    return landmarks, None if scores is None or not has_scores(names) else blendshapes_to_beta(scores, names)


def read_head_motion(studio: Studio, path: Path) -> np.ndarray:
    """Head motion of somebody else, as the change since their first frame with a face.

    Args:
        studio: the finished run, whose landmark back end and face model are used.
        path: a video with one face; any size and frame rate.

    Returns:
        (T, 6) at 25 fps: Euler angles [rad] of the rotation since the first frame, and the translation [cm].

    Raises:
        PipelineError: the video cannot be read or shows no face.
    """
    crop, fit = studio.params["crop"], studio.params["fit3dmm"]
    landmarks, _ = crop_landmarks(studio, path, "--pose")
    camera, config = crop_camera(crop.size_px), fit.fit_config()
    alpha = fit_identity_of_clip(studio.basis, landmarks, camera, config, count=fit.identity_frames, neutral=False)
    pose = torch.from_numpy(fit_clip(studio.basis, alpha, landmarks, camera, config).pose).double()
    rotation = euler_to_matrix(pose[:, :3])
    turned = matrix_to_euler(rotation @ rotation[:1].transpose(-1, -2))
    return torch.cat([turned, pose[:, 3:] - pose[:1, 3:]], 1).float().numpy()


def read_reference(studio: Studio, path: Path, neutral: Path) -> Reading:
    """Emotion of a video of somebody else, and its latents; nobody says what the emotion is.

    The neutral video does what an enrolment does in the pipeline: it tells the person's own face, and what the landmark back end makes of it,
    from the expression. Its first frame is the source that the reference is read against.

    Args:
        studio: the finished run.
        path: a video of one talking face with sound; its first MOST_REFERENCE_FRAMES are looked at.
        neutral: a video of the same person with a neutral face.

    Raises:
        PipelineError: a file cannot be read, shows no face, has no sound, or is too short.
    """
    for file, option in ((path, "--emotion-from"), (neutral, "--emotion-neutral")):
        if not file.exists():
            raise PipelineError(f"{file}: no such file", f"name a video of one face with {option}")
    sound = read_sound(path)
    if sound is None or len(sound) < SAMPLES_PER_FRAME:
        raise PipelineError(
            f"{path}: the file holds no sound",
            "name a video with speech with --emotion-from: what a face shows is read against what it says",
        )
    fit = studio.params["fit3dmm"]
    camera, config, basis = crop_camera(studio.params["crop"].size_px), fit.fit_config(), studio.basis
    calm, expected = crop_landmarks(studio, neutral, "--emotion-neutral")
    seen = int(np.isfinite(calm).all((1, 2)).sum())
    if seen < FEWEST_NEUTRAL_FRAMES:
        raise PipelineError(
            f"{neutral}: {seen} frames show a face, {FEWEST_NEUTRAL_FRAMES} are needed",
            "name a longer neutral video with --emotion-neutral",
        )
    landmarks, prior = crop_landmarks(studio, path, "--emotion-from")
    alpha = fit_identity_of_clip(basis, calm, camera, config, count=fit.identity_frames, neutral=True, prior_mean=expected)
    offset = calibrate(basis, alpha, calm, camera, config, prior_mean=expected)
    beta0 = fit_clip(basis, alpha, calm, camera, config, offset=offset, prior_mean=expected).beta[0]
    beta = fit_clip(basis, alpha, landmarks, camera, config, offset=offset, prior_mean=prior).beta
    frames = min(len(beta), -(-len(sound) // SAMPLES_PER_FRAME), MOST_REFERENCE_FRAMES)
    motion, source = (torch.from_numpy(values).float() for values in (beta[:frames], beta0))
    return read_emotion(studio.models.expflow, Reference(speech_windows(sound, frames), motion, source))


def follow_head(source_pose: np.ndarray, motion: np.ndarray, n_frames: int) -> np.ndarray:
    """The source's head moved as another one moved.

    Args:
        source_pose: (6,) pose of the source [rad, cm].
        motion: (M, 6) of ``read_head_motion``; a motion that is too short runs back and forth, so that it never jumps.
        n_frames: frames wanted.

    Returns:
        (n_frames, 6) float32; where the motion stands at its beginning, the source's own pose.
    """
    period = max(1, 2 * len(motion) - 2)
    place = np.arange(n_frames) % period
    moved = torch.from_numpy(motion[np.where(place < len(motion), place, period - place)]).double()
    source = torch.from_numpy(source_pose).double()
    angles = matrix_to_euler(euler_to_matrix(moved[:, :3]) @ euler_to_matrix(source[None, :3]))
    return torch.cat([angles, source[3:] + moved[:, 3:]], 1).float().numpy()


@dataclass(frozen=True)
class Performance:
    """A portrait with the motion that it is about to make.

    Attributes:
        source: the fitted portrait.
        beta: (T, E) float32 expression.
        pose: (T, 6) float32 pose [rad, cm].
        notes: what was decided or changed on the way, for people.
    """

    source: Source
    beta: np.ndarray
    pose: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.beta)


def windows_of(sound: np.ndarray) -> Iterator[torch.Tensor]:
    """Mel windows (n, 16, 80) of a sound, piece by piece."""
    running, block = WindowStream(), CHUNK_FRAMES * SAMPLES_PER_FRAME
    for start in range(0, len(sound), block):
        yield running.push(sound[start : start + block])
    yield running.finish()


def _sample(flow: MotionFlow, row: StreamRow, sound: np.ndarray, temperature: float, guidance: float = 1.0, smooth: int = 0) -> np.ndarray:
    pieces = stream(flow, row, windows_of(sound), temperature=temperature, guidance=guidance, smooth=smooth)
    return torch.cat(list(pieces)).numpy()


def perform(
    studio: Studio, portrait: np.ndarray, sound: np.ndarray, *, emotion: str = "neutral", intensity: float | None = None, seed: int = 0,
    temperature: float | None = None, pose: str | Path = SAMPLED, name: str = "portrait", track: EmotionTrack | None = None,
    emotion_from: Path | None = None, emotion_neutral: Path | None = None, replay: bool = True, blink_rate: float = 1.0, pose_seed: int | None = None,
    blink_seed: int | None = None, smooth_pose: int = 0,
) -> Performance:  # fmt: skip
    """Decide how a portrait moves.

    Face, head and changes of the blink rate draw from seeds of their own: changing one leaves the others as they are, bit for bit.

    Args:
        studio: the finished run.
        portrait: (H, W, 3) uint8 RGB picture with one face.
        sound: (S,) float32 mono at 16 kHz in [-1, 1], at least one frame (40 ms).
        emotion: one of EMOTIONS; not looked at beside ``track`` or ``emotion_from``.
        intensity: [0, 1.5], up to 1 as learnt; neutral ignores it; None means 1, or the reference's own beside ``emotion_from``.
        seed: of the face, and of everything that has no seed of its own; the same seeds give the same video.
        temperature: factor of the latent noise of the expression; None takes the run's.
        pose: "sampled" draws head motion from PoseFlow, "still" keeps the source's pose, a path takes the head motion of that video.
        name: how messages call the picture.
        track: emotions over time.
        emotion_from: a video whose emotion is inferred and shown.
        emotion_neutral: a neutral video of the person in ``emotion_from``; belongs to it.
        replay: beside ``emotion_from``, whether its latents are played back as far as they go; behind them, and without, the seed draws.
        blink_rate: factor of the sampled blink rate, [0, 3]; see ``flow.blinkrate``.
        pose_seed: of the head; None takes ``seed``.
        blink_seed: of a changed blink rate; None takes ``seed``.
        smooth_pose: frames of the Savitzky-Golay smoothing of a sampled head motion; 0 for none.

    Returns:
        T = ceil(S / 640) frames of motion at 25 fps.

    Raises:
        PipelineError: no face, several faces, no sound, no trained model, or a face model without lids to change.
        ValueError: unknown emotion, or a value out of range.
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion: expected one of {', '.join(EMOTIONS)}, got {emotion!r}")
    if intensity is not None and not 0 <= intensity <= MOST_INTENSE:
        raise ValueError(f"intensity: expected [0, {MOST_INTENSE}], got {intensity}")
    if not 0 <= blink_rate <= MOST_BLINKS:
        raise ValueError(f"blink rate: expected a factor in [0, {MOST_BLINKS:g}], got {blink_rate}")
    Smoother(smooth_pose)  # refuses before anything is computed
    n_frames = -(-len(sound) // SAMPLES_PER_FRAME)
    if n_frames == 0:
        raise PipelineError("the sound is empty", "use at least 40 ms of speech")
    cfg, models, notes = studio.params["generate"], studio.models, []
    if blink_rate != 1:
        mended(lambda: lid_columns(models.expflow.config.coefficients), "", "leave out --blink-rate, or use models of the clay or ICT head")
    source, latents = prepare_source(studio, portrait, name), None
    if emotion_from is not None and emotion_neutral is None:
        raise PipelineError(
            f"{emotion_from}: nothing tells the person's own face from the emotion",
            "name a neutral video of the same person with --emotion-neutral",
        )
    if emotion_from is not None and emotion_neutral is not None:
        reading = read_reference(studio, emotion_from, emotion_neutral)
        emotion, latents = reading.emotion, reading.latents if replay else None
        track = one_emotion(emotion, reading.intensity if intensity is None else intensity)
        sure = float(reading.posterior[EMOTIONS.index(emotion)])
        played = f"{min(len(reading.latents), n_frames)} of {n_frames} frames played back" if replay else "its latents not played back"
        notes.append(f"{emotion_from}: read as {emotion} at {reading.intensity:.2g} (probability {sure:.2f}), {played}, the rest drawn")
    if track is None:
        track = one_emotion(emotion, 1.0 if intensity is None else intensity)
    warmth = cfg.temperature if temperature is None else temperature
    row = StreamRow(torch.from_numpy(source.beta), track, seed, latents)
    beta = _sample(models.expflow, row, sound, warmth, cfg.emotion_guidance)
    if blink_rate != 1:
        # Further samples of the same conditions, drawn apart from the first one: it comes out as it would alone.
        own = seed if blink_seed is None else blink_seed
        rows = [StreamRow(row.source, track, donor_seed(own, number)) for number in range(donors_needed(blink_rate))]
        donors = [_sample(models.expflow, donor, sound, warmth, cfg.emotion_guidance) for donor in rows]
        scaled = scale_blinks(beta, donors, blink_rate, own)
        before, after = (len(find_blinks(closure_of(motion))) for motion in (beta, scaled))
        notes.append(f"blinks: {before} sampled, {after} shown (rate x {blink_rate:g})")
        beta = scaled
    if pose == SAMPLED:
        moving = StreamRow(torch.from_numpy(source.pose), track, seed if pose_seed is None else pose_seed)
        head = _sample(models.poseflow, moving, sound, cfg.pose_temperature, smooth=smooth_pose)
    elif pose == STILL:
        head = np.repeat(source.pose[None], n_frames, 0)
    else:
        head = follow_head(source.pose, read_head_motion(studio, Path(pose)), n_frames)
    return Performance(source, beta, head, tuple(notes))


def source_state(studio: Studio, source: Source) -> SourceState:
    """What the generator makes of the source picture alone; once per performance, whatever its length."""
    image = torch.from_numpy(np.ascontiguousarray(source.image)).permute(2, 0, 1).float() / 255
    known = (torch.from_numpy(np.ascontiguousarray(part)) for part in (source.beta, source.pose, source.landmarks_px))
    return studio.models.vqig.prepare_source(image, *known, precision=studio.params["generate"].precision)


def render(studio: Studio, performance: Performance) -> Iterator[np.ndarray]:
    """Frames of a performance, piece by piece: (n, S, S, 3) uint8 RGB, n at most PIECE_FRAMES.

    Each piece is rendered with the neighbours that its first and last windows look at, so that a frame does not depend on where a piece ends.
    The frames are those of ``synthesis.render_frames``, without its work on the source for every piece.
    """
    cfg, vqig = studio.params["generate"], studio.models.vqig
    reach, state = vqig.config.window, source_state(studio, performance.source)
    for start in range(0, len(performance), PIECE_FRAMES):
        stop = min(start + PIECE_FRAMES, len(performance))
        seen = slice(max(0, start - reach), min(len(performance), stop + reach))
        beta, pose = (torch.from_numpy(part[seen]) for part in (performance.beta, performance.pose))
        frames = vqig.render_clip(state, beta, pose, batch_size=cfg.render_batch, precision=cfg.precision).numpy()
        yield frames[start - seen.start : stop - seen.start]


def animate(studio: Studio, portrait: np.ndarray, sound: np.ndarray, **wishes: Any) -> np.ndarray:
    """Make a portrait speak: :func:`perform` and :func:`render` in one call.

    Returns:
        (T, S, S, 3) uint8 RGB at 25 fps, T = ceil(len(sound) / 640).
    """
    return np.concatenate(list(render(studio, perform(studio, portrait, sound, **wishes))))


def check_out(out: Path, *inputs: Path | None) -> None:
    """Raise unless a video can be written to ``out`` without writing over what it is made from."""
    if out.is_dir():
        raise PipelineError(f"{out}: this is a folder", "name the mp4 to write with --out")
    for path in inputs:
        if path is not None and out.exists() and path.exists() and out.samefile(path):
            raise PipelineError(f"{out}: --out is also what the video is made from", "name another file with --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PipelineError(f"{out}: its folder cannot be made ({error.strerror})", "name another file with --out") from error


def run(args: argparse.Namespace) -> None:
    """The subcommand."""
    make_video(Studio(read_config("params.yaml", *args.config)), args)


def make_video(studio: Studio, args: argparse.Namespace) -> Performance:
    """What the subcommand does with a finished run: read, decide, render and write.

    Args:
        studio: the finished run.
        args: parsed options of the subcommand.

    Returns:
        The motion that the video shows.

    Raises:
        PipelineError: an option or a file cannot be used; names it and the cure.
    """
    driver = None if args.pose in (SAMPLED, STILL) else Path(args.pose)
    check_out(args.out, args.source, args.audio, args.emotion_from, args.emotion_neutral, driver)
    sound = read_speech(args.audio)
    if args.emotion_neutral is not None and args.emotion_from is None:
        raise PipelineError(f"--emotion-neutral {args.emotion_neutral} belongs to no reference", "name the reference with --emotion-from")
    track = wished_track(args.emotion, args.intensity, args.blend, args.blend_share, args.schedule, args.emotion_from)
    portrait = read_portrait(args.source)
    # Loaded before anything is computed: a run that lacks its generator is told of at once.
    mended(lambda: studio.models.vqig, "the run's generator does not load: ", "make the run again: `make all`")
    performance = perform(
        studio, portrait, sound, intensity=args.intensity, seed=args.seed, temperature=args.temperature, pose=args.pose,
        name=str(args.source), track=track, emotion_from=args.emotion_from,
        emotion_neutral=args.emotion_neutral, replay=args.transfer == "latents", blink_rate=args.blink_rate,
        pose_seed=args.pose_seed, blink_seed=args.blink_seed, smooth_pose=args.smooth_pose,
    )  # fmt: skip
    for note in performance.notes:
        print(note)

    def pictures() -> Iterator[np.ndarray]:
        with tqdm(total=len(performance), desc=args.out.name, unit="frame", disable=None) as progress:
            for piece in render(studio, performance):
                yield from piece
                progress.update(len(piece))

    by = f"flowvqtalker animate, {_said(args)}, seed {args.seed}"
    write_synthetic(args.out, pictures(), sound, crf=studio.params["generate"].crf, by=by)
    print(f"{args.out}: {len(performance)} frames, {len(performance) / FPS_HZ:.2f} s; its metadata says that it is synthetic")
    return performance


def _said(args: argparse.Namespace) -> str:
    """What was asked for, for the video's metadata."""
    strength = "" if args.intensity is None else f" at {args.intensity:g}"
    if args.schedule is not None:
        shown = f"schedule {args.schedule.name}"
    elif args.emotion_from is not None:
        shown = f"emotion of {args.emotion_from.name}{strength}"
    elif args.blend is not None:
        share = 0.5 if args.blend_share is None else args.blend_share
        shown = f"emotion {args.emotion or EMOTIONS[0]} with {share:g} {args.blend}{strength or ' at 1'}"
    else:
        shown = f"emotion {args.emotion or EMOTIONS[0]}{strength or ' at 1'}"
    return shown if args.blink_rate == 1 else f"{shown}, blink rate x {args.blink_rate:g}"


def _in_range(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected a number in [{low:g}, {high:g}], got {text}")
        return value

    return number


def _odd(text: str) -> int:
    try:
        value = int(text)
        Smoother(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected 0 or an odd number of frames from 3 on, got {text}") from None
    return value


def add_parser(subparsers: Any) -> None:
    """Add `animate` to the console script."""
    parser = subparsers.add_parser("animate", help="a talking face from one portrait, speech and an emotion", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="picture with one face, or a video (its first frame)")
    parser.add_argument("--audio", type=Path, required=True, help="speech: a sound file or a video with sound")
    parser.add_argument("--out", type=Path, required=True, help="mp4 to write")
    parser.add_argument("--emotion", choices=EMOTIONS, help="what the face shows; neutral when nothing is said")
    parser.add_argument(
        "--intensity", type=_in_range(0, MOST_INTENSE), help="strength of the emotion in [0, 1.5]; level 1, 2, 3 are 1/3, 2/3, 1; default 1"
    )
    parser.add_argument("--blend", choices=EMOTIONS, help="second emotion; the face lies between the two")
    parser.add_argument("--blend-share", type=_in_range(0, 1), help="share of the second emotion in [0, 1]; default 0.5")
    parser.add_argument("--schedule", type=Path, help="CSV of emotions over time: second,emotion,intensity (docs/control.md)")
    parser.add_argument("--emotion-from", type=Path, help="video with sound of somebody talking, whose emotion is inferred and shown")
    parser.add_argument(
        "--emotion-neutral",
        type=Path,
        help="needed with --emotion-from: a neutral video of the same person",
    )
    parser.add_argument(
        "--transfer", choices=("latents", "label"), default="latents",
        help="with --emotion-from: play the video's latents back as far as they go, or take over emotion and intensity only",
    )  # fmt: skip
    parser.add_argument(
        "--blink-rate", type=_in_range(0, MOST_BLINKS), default=1.0,
        help="factor of how often the sampled face blinks, in [0, 3]: 0 for never, 1 as sampled; only the lids change",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another motion for the same speech")
    parser.add_argument("--pose-seed", type=int, help="seed of the head motion alone; --seed when not given")
    parser.add_argument("--blink-seed", type=int, help="seed of what --blink-rate draws; --seed when not given")
    parser.add_argument(
        "--temperature",
        type=_in_range(0, MOST_TEMPERATURE),
        help="factor of the motion's randomness in [0, 3]; the run's own when not given",
    )
    parser.add_argument(
        "--pose", default=SAMPLED, help="sampled (from the speech), still (as in the portrait), or a video whose head motion is followed"
    )
    parser.add_argument(
        "--smooth-pose", type=_odd, default=0, help="frames of Savitzky-Golay smoothing of a sampled head motion; 0, the default: none"
    )
    parser.add_argument(
        "--config", type=Path, nargs="*", default=[], help="overlays of the run whose models are used, e.g. configs/clips.yaml"
    )
    parser.set_defaults(run=run)
