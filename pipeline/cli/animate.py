"""`flowvqtalker animate`: one portrait, speech and an emotion in, a talking face out. The same functions as the step `generate`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from flowvqtalker.constants import EMOTIONS, FPS_HZ, SAMPLES_PER_FRAME
from flowvqtalker.face.camera import crop_camera
from flowvqtalker.face.pose import euler_to_matrix, matrix_to_euler
from flowvqtalker.fit.basis import LandmarkBasis, basis_of, has_scores
from flowvqtalker.fit.blendshapes import blendshapes_to_beta
from flowvqtalker.fit.solver import fit_clip, fit_identity_of_clip
from flowvqtalker.flow.sampling import MOST_INTENSE, MotionRequest
from flowvqtalker.landmarks import boxes
from flowvqtalker.landmarks.schema import Landmarker
from pipeline.backends import make_landmarker
from pipeline.errors import PipelineError
from pipeline.facemodel import load_face_model
from pipeline.footage import iterate_footage, open_footage
from pipeline.media import read_frames, read_sound
from pipeline.params import read_config, validate
from pipeline.stages import reads_of, run_root
from pipeline.synthesis import Models, Source, render_frames, sample_motion, speech_windows, write_synthetic

#: Frames that are rendered and handed to the encoder before the next ones are begun: memory does not grow with the speech.
PIECE_FRAMES = 128
#: What ``pose`` may say besides the name of a video.
SAMPLED, STILL = "sampled", "still"
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


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

    Raises:
        PipelineError: the file is missing or not a picture.
    """
    if not path.exists():
        raise PipelineError(f"{path}: no such file", "name a picture or a video with --source")
    if path.suffix.lower() not in _PICTURES:
        return read_frames(path, [0])[0]
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise PipelineError(f"{path}: not a readable picture ({error})", "save it again as png or jpeg") from error


def find_face(studio: Studio, portrait: np.ndarray, name: str) -> np.ndarray:
    """Landmarks (68, 2) px of the only face of a picture.

    Raises:
        PipelineError: no face, or a second one at least half as large.
    """
    points = studio.landmarker.detect(portrait[None], video=False).landmarks_px[0]
    if not np.isfinite(points).all():
        raise PipelineError(f"{name}: no face found", "use a picture that shows one face from the front, at least 64 px wide")
    # A back end reports its best face only: cover it and look again.
    low, high = points.min(0), points.max(0)
    size = high - low
    covered = portrait.copy()
    left, top = np.maximum((low - 0.4 * size).astype(int), 0)
    right, bottom = np.maximum((high + 0.4 * size).astype(int), 1)
    covered[top:bottom, left:right] = np.median(portrait, axis=(0, 1)).astype(np.uint8)
    second = studio.landmarker.detect(covered[None], video=False).landmarks_px[0]
    if np.isfinite(second).all() and np.ptp(second, axis=0).max() >= 0.5 * size.max():
        u, v = (int(value) for value in second.mean(0))
        raise PipelineError(f"{name}: several faces found (the second near column {u}, row {v})", "cut the picture down to one face")
    return points


def prepare_source(studio: Studio, portrait: np.ndarray, name: str = "portrait") -> Source:
    """Crop and fit a portrait as the pipeline crops and fits a frame.

    Args:
        studio: the finished run.
        portrait: (H, W, 3) uint8 RGB.
        name: how messages call the picture.
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
    alpha = fit_identity_of_clip(studio.basis, landmarks, camera, config, count=1, neutral=False, prior_mean=prior)
    result = fit_clip(studio.basis, alpha, landmarks, camera, config, prior_mean=prior, is_sequence=False)
    return Source(picture, result.beta[0], result.pose[0], landmarks[0])


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
    found = studio.landmarker.detect_pieces(frames for frames, _ in iterate_footage(open_footage(path)))
    if not found.present.any():
        raise PipelineError(f"{path}: no face found in any frame", "name a video that shows one face with --pose, or use sampled or still")
    box = boxes.static_box(found.landmarks_px, scale=crop.scale, shift_up_share=crop.shift_up_share)
    landmarks = np.stack([boxes.to_crop(points, box, crop.size_px) for points in found.landmarks_px])
    camera, config = crop_camera(crop.size_px), fit.fit_config()
    alpha = fit_identity_of_clip(studio.basis, landmarks, camera, config, count=fit.identity_frames, neutral=False)
    pose = torch.from_numpy(fit_clip(studio.basis, alpha, landmarks, camera, config).pose).double()
    rotation = euler_to_matrix(pose[:, :3])
    turned = matrix_to_euler(rotation @ rotation[:1].transpose(-1, -2))
    return torch.cat([turned, pose[:, 3:] - pose[:1, 3:]], 1).float().numpy()


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
    """

    source: Source
    beta: np.ndarray
    pose: np.ndarray

    def __len__(self) -> int:
        return len(self.beta)


def perform(
    studio: Studio, portrait: np.ndarray, sound: np.ndarray, *, emotion: str = "neutral", intensity: float = 1.0, seed: int = 0,
    temperature: float | None = None, pose: str | Path = SAMPLED, name: str = "portrait",
) -> Performance:  # fmt: skip
    """Decide how a portrait moves.

    Args:
        studio: the finished run.
        portrait: (H, W, 3) uint8 RGB picture with one face.
        sound: (S,) float32 mono at 16 kHz in [-1, 1], at least one frame (40 ms).
        emotion: one of EMOTIONS.
        intensity: [0, 1.5], up to 1 as learnt; neutral ignores it.
        seed: of everything that is drawn; the same seed gives the same video.
        temperature: factor of the latent noise of the expression; None takes the run's.
        pose: "sampled" draws head motion from PoseFlow, "still" keeps the source's pose, a path takes the head motion of that video.
        name: how messages call the picture.

    Returns:
        T = ceil(S / 640) frames of motion at 25 fps.

    Raises:
        PipelineError: no face, several faces, no sound, or no trained model.
        ValueError: unknown emotion, or intensity out of range.
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion: expected one of {', '.join(EMOTIONS)}, got {emotion!r}")
    if not 0 <= intensity <= MOST_INTENSE:
        raise ValueError(f"intensity: expected [0, {MOST_INTENSE}], got {intensity}")
    n_frames = -(-len(sound) // SAMPLES_PER_FRAME)
    if n_frames == 0:
        raise PipelineError("the sound is empty", "use at least 40 ms of speech")
    cfg, models = studio.params["generate"], studio.models
    source = prepare_source(studio, portrait, name)
    strength = 0.0 if emotion == "neutral" else intensity
    request = MotionRequest(
        speech_windows(sound, n_frames),
        torch.from_numpy(source.beta),
        torch.from_numpy(source.pose),
        EMOTIONS.index(emotion),
        strength,
        seed,
    )
    warmth = cfg.temperature if temperature is None else temperature
    beta = sample_motion(models.expflow, [request], temperature=warmth, guidance=cfg.emotion_guidance, batch=1)[0]
    if pose == SAMPLED:
        return Performance(source, beta, sample_motion(models.poseflow, [request], temperature=cfg.pose_temperature, batch=1)[0])
    if pose == STILL:
        return Performance(source, beta, np.repeat(source.pose[None], n_frames, 0))
    return Performance(source, beta, follow_head(source.pose, read_head_motion(studio, Path(pose)), n_frames))


def render(studio: Studio, performance: Performance) -> Iterator[np.ndarray]:
    """Frames of a performance, piece by piece: (n, S, S, 3) uint8 RGB, n at most PIECE_FRAMES.

    Each piece is rendered with the neighbours that its first and last windows look at, so that a frame does not depend on where a piece ends.
    """
    cfg, vqig = studio.params["generate"], studio.models.vqig
    reach = vqig.config.window
    for start in range(0, len(performance), PIECE_FRAMES):
        stop = min(start + PIECE_FRAMES, len(performance))
        seen = slice(max(0, start - reach), min(len(performance), stop + reach))
        frames = render_frames(
            vqig, performance.source, performance.beta[seen], performance.pose[seen], batch=cfg.render_batch, precision=cfg.precision
        )
        yield frames[start - seen.start : stop - seen.start]


def animate(studio: Studio, portrait: np.ndarray, sound: np.ndarray, **wishes: Any) -> np.ndarray:
    """Make a portrait speak: :func:`perform` and :func:`render` in one call.

    Returns:
        (T, S, S, 3) uint8 RGB at 25 fps, T = ceil(len(sound) / 640).
    """
    return np.concatenate(list(render(studio, perform(studio, portrait, sound, **wishes))))


def run(args: argparse.Namespace) -> None:
    """The subcommand."""
    studio = Studio(read_config("params.yaml", *args.config))
    sound = read_sound(args.audio)
    if sound is None:
        raise PipelineError(f"{args.audio}: the file holds no sound", "name a sound file, or a video with sound, with --audio")
    performance = perform(
        studio, read_portrait(args.source), sound, emotion=args.emotion, intensity=args.intensity, seed=args.seed,
        temperature=args.temperature, pose=args.pose, name=str(args.source),
    )  # fmt: skip

    def pictures() -> Iterator[np.ndarray]:
        with tqdm(total=len(performance), desc=args.out.name, unit="frame", disable=None) as progress:
            for piece in render(studio, performance):
                yield from piece
                progress.update(len(piece))

    by = f"flowvqtalker animate, emotion {args.emotion} at {args.intensity:g}, seed {args.seed}"
    write_synthetic(args.out, pictures(), sound, crf=studio.params["generate"].crf, by=by)
    print(f"{args.out}: {len(performance)} frames, {len(performance) / FPS_HZ:.2f} s; its metadata says that it is synthetic")


def _intensity(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MOST_INTENSE:
        raise argparse.ArgumentTypeError(f"expected a number in [0, {MOST_INTENSE}], got {text}")
    return value


def add_parser(subparsers: Any) -> None:
    """Add `animate` to the console script."""
    parser = subparsers.add_parser("animate", help="a talking face from one portrait, speech and an emotion", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="picture with one face, or a video (its first frame)")
    parser.add_argument("--audio", type=Path, required=True, help="speech: a sound file or a video with sound")
    parser.add_argument("--out", type=Path, required=True, help="mp4 to write")
    parser.add_argument("--emotion", choices=EMOTIONS, default="neutral")
    parser.add_argument(
        "--intensity", type=_intensity, default=1.0, help="strength of the emotion in [0, 1.5]; level 1, 2, 3 are 1/3, 2/3, 1"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another motion for the same speech")
    parser.add_argument("--temperature", type=float, help="factor of the motion's randomness; the run's own when not given")
    parser.add_argument(
        "--pose", default=SAMPLED, help="sampled (from the speech), still (as in the portrait), or a video whose head motion is followed"
    )
    parser.add_argument(
        "--config", type=Path, nargs="*", default=[], help="overlays of the run whose models are used, e.g. configs/clips.yaml"
    )
    parser.set_defaults(run=run)
