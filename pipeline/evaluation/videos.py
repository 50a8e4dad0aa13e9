"""Scores of videos that someone else made: one real and one generated file at a time, kept in the result folder by the hash of both."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from flowvqtalker.audio.mel import compute_mel, mel_windows
from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.experts.crops import FACE, cut, face_points
from flowvqtalker.experts.emotion import UsualFace
from flowvqtalker.experts.tasks import Seen, person_face
from flowvqtalker.face.camera import Camera
from flowvqtalker.fit.basis import basis_of
from flowvqtalker.fit.solver import fit_pose
from flowvqtalker.landmarks import boxes
from flowvqtalker.landmarks.schema import Landmarker
from flowvqtalker.metrics.blinks import blink_events, closure_from_landmarks
from flowvqtalker.metrics.diversity import audio_beats, beat_alignment, motion_beats, pose_over_time_deg
from flowvqtalker.metrics.landmarks import lip_correlation, lmd_centred_px, lmd_raw_px
from flowvqtalker.metrics.pixels import face_mask, psnr_db, ssim
from pipeline.crop import loudest_db
from pipeline.errors import PipelineError
from pipeline.evaluation.analysis import analyse_frames, mean_of, sync_numbers
from pipeline.evaluation.pairs import Pair
from pipeline.facemodel import load_face_model
from pipeline.io import file_sha256, read_json, read_npz, text_sha256, write_json, write_npz
from pipeline.media import MediaInfo, probe, read_sound, read_video_at

#: Generated pictures of another size are scored at the real one's size when the proportions differ by less than this share.
ASPECT_TOLERANCE = 0.02
#: Columns that are means over a clip's frames of one video alone.
ALONE = ("cpbd", "mouth_sharpness", "flicker", "flicker_compensated")
PAIRED = ("psnr_db", "psnr_face_db", "ssim")
OK = "ok"


class UnscoredError(Exception):
    """A clip that cannot be scored; ``status`` is one word for the table."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Policy:
    """What is done with files that differ from each other; printed on every result page.

    Attributes:
        min_share: a generated clip shorter than this share of the real one is not scored.
        crop: cut both videos to the face of the real one before scoring.
        crop_size_px: side of that cut.
        silent_db: below this level of its loudest 40 ms a sound counts as silence [dB of full scale].
        sound: whose sound the lips are judged with: the generated file's ``own``, or the ``real`` one's.
        every: CPBD and compensated flicker look at every n-th frame.
    """

    min_share: float = 0.9
    crop: bool = False
    crop_size_px: int = 256
    silent_db: float = -50.0
    sound: str = "own"
    every: int = 5

    def sentences(self) -> list[str]:
        """The policy in words."""
        return [
            f"Both videos are read at {FPS_HZ} frames/s: each tick shows the frame nearest in time.",
            f"Frames are compared from the first on; a generated clip shorter than {self.min_share:.0%} of the real one is not scored, "
            "a longer one is cut at the real one's end.",
            "A generated picture of another size is resized to the real one's (bicubic); other proportions are not scored.",
            f"Both are cut to the face of the real video, {self.crop_size_px} px."
            if self.crop
            else "Pictures are scored whole, as they are.",
            "Lips are judged with the generated file's own sound (or that of a wav of its name beside it); without sound, or below "
            f"{self.silent_db:g} dB, the lip-sync cells of that clip stay empty and count as missing."
            if self.sound == "own"
            else "Lips are judged with the real clip's sound.",
            f"CPBD and motion-compensated flicker look at every {self.every}th frame.",
            "Blinks and head angles come from landmarks: eye aspect ratio over the clip's own open eyes, rigid fit of a mean face.",
        ]


@dataclass(frozen=True)
class Tools:
    """What videos are judged with.

    Attributes:
        networks: own judges by kind.
        hashes: SHA-256 of every judge's file, by kind.
        reasons: why a kind of judge, or ``landmarks``, is absent.
        warnings: what has to stand beside every number.
        make_finder: makes the landmark back end, None for none.
        finder_key: hash of the back end's files and settings.
        smooth_sd_frames: smoothing of its landmarks.
        outside: networks of ``flowvqtalker.experts.official`` by name: those with ``features`` make an FID, with ``distance`` a column, with ``lips``
            and ``sync`` lip-sync columns.
        own_test: what the run's judges reached on their own test clips: the metrics.json beside their weights, empty where there is none.
    """

    networks: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    make_finder: Callable[[], Landmarker] | None = None
    finder_key: str = ""
    smooth_sd_frames: float = 0.4
    outside: Mapping[str, Any] = field(default_factory=dict)
    own_test: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def finder(self) -> Landmarker | None:
        """The landmark back end, made at first use."""
        return self.make_finder() if self.make_finder else None


class VideoScorer:
    """Scores pairs; results lie in ``folder`` under the hash of all they depend on, so that any run goes on where another stopped.

    Args:
        folder: where to keep results.
        tools: judges and back end.
        policy: see Policy.
        pairs: all expected clips (the emotion judge compares with a person's other real clips).
        code: hash of the code, part of every key.
    """

    def __init__(self, folder: Path, tools: Tools, policy: Policy, pairs: list[Pair], code: str) -> None:
        self.folder, self.tools, self.policy, self.pairs = folder, tools, policy, pairs
        self.base = text_sha256(code, str(policy), tools.finder_key, *(f"{kind}={value}" for kind, value in sorted(tools.hashes.items())))
        self._sha: dict[Path, str] = {}

    def sha256(self, path: Path) -> str:
        """Hash of a file, computed once."""
        if path not in self._sha:
            self._sha[path] = file_sha256(path)
        return self._sha[path]

    # ------------------------------------------------------------------------------------------------------------- single videos

    def _media(self, path: Path, role: str) -> tuple[MediaInfo, np.ndarray]:
        try:
            return probe(path), read_video_at(path, FPS_HZ)
        except PipelineError as error:
            raise UnscoredError("unreadable", f"unreadable {role} video: {error.message}") from error

    def _landmarks(self, frames: np.ndarray) -> np.ndarray:
        if self.tools.finder is None:
            return np.full((len(frames), 68, 2), np.nan, np.float32)
        return boxes.smooth_landmarks(self.tools.finder.detect(frames).landmarks_px, self.tools.smooth_sd_frames)

    def _sound(self, path: Path, n_frames: int) -> tuple[np.ndarray | None, str]:
        """Samples of a file's sound, or of the wav of the same name beside a file without; None and why."""
        sidecar = path.with_suffix(".wav")
        try:
            samples = read_sound(path, n_frames=n_frames)
            if samples is None and sidecar.is_file() and sidecar != path:
                samples = read_sound(sidecar, n_frames=n_frames)
        except PipelineError as error:
            return None, f"sound cannot be read: {error.message}"
        if samples is None:
            return None, "no sound"
        if loudest_db(samples) < self.policy.silent_db:
            return None, f"silent (loudest 40 ms below {self.policy.silent_db:g} dB)"
        return samples, ""

    def real_arrays(self, pair: Pair) -> dict[str, np.ndarray]:
        """Analysis of a pair's real video, from the folder or made now; with ``box`` (4,) where it is cut to the face, ``size`` (height, width) as scored."""
        assert pair.real is not None
        friends = self._friends(pair) if "emotion" in self.tools.networks else []
        path = self._entry("real", pair, self.sha256(pair.real), pair.identity, *(self.sha256(path) for path in friends))
        if path.exists():
            return read_npz(path)
        frames, box = self._media(pair.real, "real")[1], None
        if self.policy.crop:
            box = self._face_box(frames)
            frames = boxes.crop_frames(frames, box, self.policy.crop_size_px)
        arrays = analyse_frames(frames, self._landmarks(frames), self.tools.networks, self._usual(pair), self.policy.every)
        arrays |= self._outside(frames)
        arrays |= {"box": np.array(box if box is not None else [], np.int64), "size": np.array(frames.shape[1:3])}
        write_npz(path, arrays)
        return arrays

    def _face_box(self, frames: np.ndarray) -> boxes.Box:
        found = self._landmarks(frames)
        if np.isnan(found).any(axis=(1, 2)).all():
            raise UnscoredError("no_face", "no face in the real video, so nothing can be cut to it")
        return boxes.static_box(found, scale=1.35, shift_up_share=0.05)

    def _outside(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        made = {}
        for name, network in self.tools.outside.items():
            if hasattr(network, "features"):
                made[f"outside_{name}"] = network.features(frames)
            if hasattr(network, "lips"):
                made[f"lips_{name}"] = network.lips(frames)
        return made

    def _friends(self, pair: Pair) -> list[Path]:
        """All real videos of the pair's person."""
        return sorted({one.real for one in self.pairs if one.identity == pair.identity and one.real is not None})

    def _usual(self, pair: Pair) -> Callable[[], UsualFace] | None:
        if "emotion" not in self.tools.networks:
            return None

        def make() -> UsualFace:
            size, items = self.tools.networks["emotion"].size_px, []
            for path in self._friends(pair):
                try:
                    frames = self._media(path, "real")[1]
                except UnscoredError:
                    continue  # its own row tells why
                landmarks = self._landmarks(frames)
                if not np.isnan(landmarks).any(axis=(1, 2)).all():
                    items.append(Seen(cut(frames, landmarks, FACE, size), face_points(landmarks)))
            return person_face(items)

        def kept() -> UsualFace:
            path = self._entry("usual", pair, pair.identity, *(self.sha256(friend) for friend in self._friends(pair)))
            if not path.exists():
                write_npz(path, make()._asdict())
            return UsualFace(**read_npz(path))

        return kept

    def _entry(self, kind: str, pair: Pair, *key: str) -> Path:
        return self.folder / f"{kind}-{text_sha256(self.base, *key)[:32]}.npz"

    # ------------------------------------------------------------------------------------------------------------- pairs

    def score(self, pair: Pair) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Rows of a pair: of the generated video, and of the real one by itself (None when it cannot be read).

        A row always holds clip, identity, emotion, level, seed, status and reason. Nothing is raised for a bad file.
        """
        labels = {"clip": pair.clip, "identity": pair.identity, "emotion": pair.emotion, "level": pair.level, "seed": pair.seed}
        real_row: dict[str, Any] | None = None
        try:
            if pair.real is None:
                raise UnscoredError("missing", pair.reason)
            real = self.real_arrays(pair)
            real_row = {
                **labels,
                "status": OK,
                "reason": "",
                "sha256": self.sha256(pair.real),
                **self._alone(pair, real, pair.real, real["size"]),
            }
            if pair.generated is None:
                raise UnscoredError(pair.reason.split(":")[0] or "missing", pair.reason)
            return {**labels, **self._pair_row(pair, real)}, real_row
        except UnscoredError as problem:
            row = {**labels, "status": problem.status, "reason": " ".join(problem.reason.split())}
            if real_row is not None:
                row["real_sha256"] = real_row["sha256"]
            return row, real_row

    def _pair_row(self, pair: Pair, real: dict[str, np.ndarray]) -> dict[str, Any]:
        assert pair.real is not None and pair.generated is not None
        hashes = self.sha256(pair.real), self.sha256(pair.generated)
        # A person's other clips count where the emotion judge compares with them; the label decides whether its verdict is right.
        friends = [self.sha256(path) for path in self._friends(pair)] if "emotion" in self.tools.networks else []
        done = self._entry("pair", pair, *hashes, pair.identity, pair.emotion, *friends).with_suffix(".json")
        if done.exists():
            return read_json(done)
        row, arrays = self._score_pair(pair, real)
        write_npz(done.with_suffix(".npz"), arrays)
        row = {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}
        row |= {"real_sha256": hashes[0], "sha256": hashes[1], "arrays": done.with_suffix(".npz").name}
        # An infinite PSNR has no JSON number; the table says it in words.
        row = {name: "inf" if value == float("inf") else value for name, value in row.items()}
        write_json(done, row)
        return row

    def pair_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Analysis of a scored pair's generated video, by the name in its row."""
        return read_npz(self.folder / name)

    def _score_pair(self, pair: Pair, real: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        assert pair.real is not None and pair.generated is not None
        info, frames = self._media(pair.generated, "generated")
        n_real, n_generated, notes = len(real["landmarks_px"]), len(frames), []
        if n_generated < self.policy.min_share * n_real:
            raise UnscoredError("short", f"short: {n_generated} frames at {FPS_HZ} frames/s, the real clip has {n_real}")
        if n_generated > n_real:
            notes.append(f"cut from {n_generated} to {n_real} frames")
        if abs(info.fps_hz - FPS_HZ) > 0.01:
            notes.append(f"{info.fps_hz:.3g} frames/s read at {FPS_HZ}")
        truth = self._media(pair.real, "real")[1]
        frames, resized = _to_size(frames[:n_real], (truth.shape[1], truth.shape[2]))
        notes += [f"resized from {info.width_px} x {info.height_px}"] if resized else []
        if self.policy.crop:
            x0, y0, x1, y1 = (int(edge) for edge in real["box"])
            frames, truth = (boxes.crop_frames(side, (x0, y0, x1, y1), self.policy.crop_size_px) for side in (frames, truth))
        count = len(frames)
        arrays = analyse_frames(frames, self._landmarks(frames), self.tools.networks, self._usual(pair), self.policy.every)
        arrays |= self._outside(frames)
        truth, points, wanted = truth[:count], arrays["landmarks_px"], real["landmarks_px"][:count]
        mask = face_mask(wanted, *truth.shape[1:3])
        compared = {"psnr_db": psnr_db(frames, truth), "psnr_face_db": psnr_db(frames, truth, mask), "ssim": ssim(frames, truth)}
        for name, network in self.tools.outside.items():
            if hasattr(network, "distance"):
                compared[name] = network.distance(frames, truth)
        row: dict[str, Any] = {name: mean_of(values) for name, values in compared.items()}
        for short, region in (("m", "mouth"), ("f", "face")):
            row[f"{short}_lmd_centred_px"] = mean_of(lmd_centred_px(points, wanted, region, frames.shape[2]))  # type: ignore[arg-type]
            row[f"{short}_lmd_raw_px"] = mean_of(lmd_raw_px(points, wanted, region, frames.shape[2]))  # type: ignore[arg-type]
        row["lip_correlation"] = lip_correlation(points, wanted)
        speaker = pair.generated if self.policy.sound == "own" else pair.real
        row |= self._alone(pair, arrays, speaker, real["size"])
        heads = {"status": OK, "reason": "", "n_frames_real": n_real, "n_frames_generated": n_generated, "n_compared": count}
        return {**heads, "fps_hz": info.fps_hz, "notes": "; ".join(notes), **row}, arrays

    def _alone(self, pair: Pair, arrays: dict[str, np.ndarray], speaker: Path, size: np.ndarray) -> dict[str, Any]:
        """Numbers of one video by itself; ``speaker`` is the file whose sound counts, ``size`` (height, width) as scored."""
        points = arrays["landmarks_px"]
        count = len(points)
        row: dict[str, Any] = {name: mean_of(arrays[name]) for name in ALONE}
        row["seconds"] = count / FPS_HZ
        samples, silence = self._sound(speaker, count)
        mel = None if samples is None else compute_mel(samples)
        for name, network in self.tools.outside.items():
            if hasattr(network, "sync") and samples is not None and len(arrays[f"lips_{name}"]):
                row |= network.sync(arrays[f"lips_{name}"], samples)
        if "sync" in arrays and mel is not None:
            row |= sync_numbers(self.tools.networks["syncnet"], arrays["sync"], mel)
        row["sync_reason"] = silence
        if self.tools.finder is None:
            return row
        row["faces_found_pct"] = 100.0 * float((~np.isnan(points).any(axis=(1, 2))).mean())
        if "face" not in arrays:
            row["sync_reason"] = silence or "no face"
            return row
        if "emotion" in arrays and pair.emotion:
            verdict = EMOTIONS[int(arrays["emotion"].argmax())]
            row |= {"emotion_verdict": verdict, "emotion_right": float(verdict == pair.emotion)}
        events = blink_events(closure_from_landmarks(points))
        row |= {"blinks": len(events), "blink_frames": int((events[:, 1] - events[:, 0]).sum())}
        pose = head_pose(points, int(size[0]), int(size[1]))
        row["pose_over_time_deg"] = float(pose_over_time_deg(pose))
        if mel is not None:
            row["beat_alignment"] = beat_alignment(motion_beats(pose), audio_beats(mel_windows(mel, count)[:, 7:10].mean(axis=(1, 2))))
        return row


def _to_size(frames: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Frames at a size (height, width), and whether they had to be resized."""
    height, width = frames.shape[1:3]
    if (height, width) == tuple(size):
        return frames, False
    if abs((width / height) / (size[1] / size[0]) - 1.0) > ASPECT_TOLERANCE:
        raise UnscoredError("other_shape", f"pictures of {width} x {height} px cannot be laid over the real {size[1]} x {size[0]} px")
    result = np.empty((len(frames), *size, 3), np.uint8)
    for start in range(0, len(frames), 64):
        part = torch.from_numpy(np.ascontiguousarray(frames[start : start + 64])).permute(0, 3, 1, 2)
        part = functional.interpolate(part, size=tuple(size), mode="bicubic", align_corners=False, antialias=True)
        result[start : start + 64] = part.permute(0, 2, 3, 1).numpy()
    return result, True


def head_pose(landmarks_px: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T, 6) rigid pose of a mean face fitted to landmarks, frames without a face taken from the nearest one with.

    The mean face is the procedural head's, whoever is seen: good for how much a head moves, not for its true angles.
    """
    known = np.flatnonzero(~np.isnan(landmarks_px).any(axis=(1, 2)))
    nearest = known[np.abs(np.arange(len(landmarks_px))[:, None] - known[None]).argmin(axis=1)]
    # The jaw line (0-16) slides along the cheek and the mouth (48-67) speaks: brows, nose and eyes are nearly rigid.
    rigid = slice(17, 48)
    side = max(height, width)
    camera = Camera(focal_px=3.0 * side, cx=(width - 1) / 2, cy=(height - 1) / 2, distance_cm=60.0)
    points = _mean_face()[rigid]
    return fit_pose(points[None].repeat(len(nearest), axis=0), landmarks_px[nearest][:, rigid].astype(np.float64), camera)


@functools.cache
def _mean_face() -> np.ndarray:
    """(68, 3) cm."""
    return basis_of(load_face_model("clay", "")).mean.numpy()
