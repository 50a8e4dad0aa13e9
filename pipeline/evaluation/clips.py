"""Scores of single clips. What is learnt about one video is kept in the cache by the hash of its bytes, so no method pays twice for the same real clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowvqtalker.audio.mel import mel_windows
from flowvqtalker.checks import ShapeError
from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.experts import judge
from flowvqtalker.experts.crops import FACE, cut, face_points
from flowvqtalker.experts.emotion import UsualFace
from flowvqtalker.experts.tasks import Seen, person_face
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.flow.diagnostics import correlation, lip_opening
from flowvqtalker.landmarks.boxes import smooth_landmarks
from flowvqtalker.landmarks.schema import Landmarker
from flowvqtalker.metrics.blinks import blink_events
from flowvqtalker.metrics.diversity import (
    audio_beats,
    beat_alignment,
    expression_over_time,
    motion_beats,
    pose_over_seeds_deg,
    pose_over_time_deg,
    seed_distance,
)
from flowvqtalker.metrics.landmarks import lip_correlation, lmd_centred_px, lmd_raw_px
from flowvqtalker.metrics.pixels import face_mask, psnr_db, ssim
from pipeline.backends import backend_checksums, make_landmarker
from pipeline.context import Context
from pipeline.evaluation.analysis import analyse_frames, mean_of, sync_numbers
from pipeline.io import file_sha256, ok_rows, read_index, read_json, read_npz, read_torch, text_sha256, write_npz
from pipeline.media import read_video
from pipeline.params.landmarks import LandmarksParams

_KINDS = ("syncnet", "emotion", "features")


@dataclass(frozen=True)
class Judges:
    """The trained judges of this run.

    Attributes:
        networks: by kind; a kind that is absent has a reason.
        reasons: why a kind is absent.
        hashes: SHA-256 of each judge's file.
        domain: domain of the corpus.
        metrics: the judges' own scores on real test clips.
    """

    networks: dict[str, Any]
    reasons: dict[str, str]
    hashes: dict[str, str]
    domain: str
    metrics: dict[str, float]


def load_judges(ctx: Context) -> Judges:
    """Judges of ``models/experts``; one that was trained on another domain is refused with its reason."""
    folder = ctx.model_folder("experts")
    domain = judge.domain_of(ctx.params["corpus"].sources)  # type: ignore[attr-defined]
    skipped = read_json(folder / "skipped.json") if (folder / "skipped.json").exists() else {}
    networks, reasons, hashes = {}, {}, {}
    for kind in _KINDS:
        path = folder / f"{kind}.pt"
        if not path.exists():
            reasons[kind] = f"no {kind} judge: {skipped.get(kind, 'it was not trained')}"
            continue
        try:
            networks[kind] = judge.load(read_torch(path), kind, domain)
            hashes[kind] = file_sha256(path)
        except judge.DomainError as error:
            reasons[kind] = str(error)
    return Judges(networks, reasons, hashes, domain, read_json(folder / "metrics.json"))


def blink_closure(beta: np.ndarray) -> np.ndarray | None:
    """(..., E) expression -> (...) closure of the eyes, mean of both lids; None for a face model without named lids."""
    if beta.shape[-1] != len(EXPRESSIONS):
        return None
    return 0.5 * (beta[..., EXPRESSION_INDEX["eyeBlink_L"]] + beta[..., EXPRESSION_INDEX["eyeBlink_R"]])


class Scorer:
    """Scores generated clips against the real ones of the same id.

    Args:
        ctx: Context of the stage.
    """

    def __init__(self, ctx: Context) -> None:
        self.ctx, self.cfg = ctx, ctx.cfg
        self.judges = load_judges(ctx)
        self._finder: Landmarker | None = None
        self._videos: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
        self.landmarks: LandmarksParams = ctx.params["landmarks"]  # type: ignore[assignment]
        self.finder_key = text_sha256(*backend_checksums(self.landmarks, ctx.model_folder("landmarker")), str(self.landmarks))
        self.crops: dict[str, dict[str, Any]] = {
            row["clip"]: row for row in ok_rows(read_index(ctx.reads["crop"], "crop")).to_dict("records")
        }
        self.sounds: dict[str, str] = {
            row["clip"]: row["file"] for row in ok_rows(read_index(ctx.reads["audio"], "audio")).to_dict("records")
        }

    @cached_property
    def fits(self) -> dict[str, str]:
        """File of the fitted coefficients of each clip."""
        return {row["clip"]: row["file"] for row in ok_rows(read_index(self.ctx.reads["fit3dmm"], "fit3dmm")).to_dict("records")}

    def _kept(self, name: str, key: tuple[str, ...], make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Arrays from the cache, or made and kept there. The key holds everything that they depend on, this file's code included by its stamp."""
        path = self.ctx.cache / "evaluate" / f"{name}-{text_sha256(self.ctx.stamp['code'], *key)[:32]}.npz"
        if path.exists():
            return read_npz(path)
        arrays = make()
        write_npz(path, arrays)
        return arrays

    def video_path(self, row: Mapping[str, Any]) -> Path:
        """A generated video."""
        return self.ctx.reads["generate"].parent / row["video"]

    def real_path(self, clip: str) -> Path:
        """The real crop of a clip."""
        return self.ctx.reads["crop"].parent / self.crops[clip]["video"]

    def usual_face(self, identity: str) -> UsualFace:
        """Usual face of a person over all their real videos, which the emotion judge compares with."""
        rows = self._videos_of(identity)
        size = self.judges.networks["emotion"].size_px

        def make() -> dict[str, np.ndarray]:
            items = []
            for row in rows:
                landmarks = read_npz(self.ctx.reads["crop"].parent / row["landmarks"])["landmarks_px"]
                frames = read_video(self.real_path(row["clip"]))[0][: len(landmarks)]
                if not np.isnan(landmarks).any(axis=(1, 2)).all():
                    landmarks = landmarks[: len(frames)]
                    items.append(Seen(cut(frames, landmarks, FACE, size), face_points(landmarks)))
            return person_face(items)._asdict()

        return UsualFace(**self._kept("usual", (str(size), *(row["sha256"] for row in rows)), make))

    def _videos_of(self, identity: str) -> list[dict[str, Any]]:
        return [row for _, row in sorted(self.crops.items()) if row["identity"] == identity and row["kind"] == "video"]

    def real(self, clip: str) -> dict[str, np.ndarray]:
        """:meth:`analyse` of a real clip."""
        return self.analyse(self.real_path(clip), self.crops[clip]["identity"])

    def generated(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """:meth:`analyse` of a generated clip."""
        return self.analyse(self.video_path(row), self.crops[str(row["clip"])]["identity"])

    def analyse(self, path: Path, identity: str) -> dict[str, np.ndarray]:
        """All that a video of a person says; the arrays of :func:`pipeline.evaluation.analysis.analyse_frames`."""
        usual = (row["sha256"] for row in self._videos_of(identity))
        key = (file_sha256(path), *usual, self.finder_key, *sorted(self.judges.hashes.values()), str(self.cfg.cpbd_every_frames))
        if key not in self._videos:
            self._videos[key] = self._kept("video", key, lambda: self._analyse(path, identity))
        return self._videos[key]

    def _analyse(self, path: Path, identity: str) -> dict[str, np.ndarray]:
        frames = read_video(path)[0]
        if self._finder is None:
            self._finder = make_landmarker(self.landmarks, self.ctx.model_folder("landmarker"))
        landmarks = smooth_landmarks(self._finder.detect(frames).landmarks_px, self.landmarks.smooth_sd_frames)
        return analyse_frames(frames, landmarks, self.judges.networks, lambda: self.usual_face(identity), self.cfg.cpbd_every_frames)

    def compare(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """A generated clip frame by frame against the real one: psnr_db, psnr_face_db, ssim, each (T,), T the shorter length."""
        clip, generated = str(row["clip"]), self.video_path(row)
        key = (file_sha256(generated), file_sha256(self.real_path(clip)), self.finder_key)
        return self._kept("pair", key, lambda: self._compare(generated, clip))

    def _compare(self, generated: Path, clip: str) -> dict[str, np.ndarray]:
        left, right = read_video(generated)[0], read_video(self.real_path(clip))[0]
        if left.shape[1:] != right.shape[1:]:
            raise ShapeError(
                f"{generated.name}: frames of {left.shape[2]} x {left.shape[1]} px, the real clip has {right.shape[2]} x {right.shape[1]}"
            )
        count = min(len(left), len(right))
        left, right = left[:count], right[:count]
        mask = self._mask(clip, right.shape[1], right.shape[2])[:count]
        return {"psnr_db": psnr_db(left, right), "psnr_face_db": psnr_db(left, right, mask), "ssim": ssim(left, right)}

    def _mask(self, clip: str, height: int, width: int) -> np.ndarray:
        """(T, height, width) bool face mask of a real clip; every method needs it."""

        def make() -> dict[str, np.ndarray]:
            mask = face_mask(self.real(clip)["landmarks_px"], height, width)
            return {"bits": np.packbits(mask), "shape": np.array(mask.shape)}

        kept = self._kept("mask", (file_sha256(self.real_path(clip)), self.finder_key), make)
        return np.unpackbits(kept["bits"], count=int(kept["shape"].prod())).reshape(kept["shape"]).astype(bool)

    def sound_of(self, clip: str) -> np.ndarray | None:
        """Log-mel (steps, 80) of a clip's own sound, or None."""
        return read_npz(self.ctx.reads["audio"].parent / self.sounds[clip])["mel"] if clip in self.sounds else None

    def score(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """One row of the per-clip table. ``row`` is of the table of generated clips; NaN where a number has no meaning."""
        clip, crop = str(row["clip"]), self.crops[str(row["clip"])]
        generated, real, pair = self.generated(row), self.real(clip), self.compare(row)
        count, size = len(pair["psnr_db"]), int(crop["size_px"])
        points, truth = generated["landmarks_px"][:count], real["landmarks_px"][:count]
        result: dict[str, Any] = {name: mean_of(pair[name]) for name in ("psnr_db", "psnr_face_db", "ssim")}
        for short, region in (("m", "mouth"), ("f", "face")):
            result[f"{short}_lmd_centred_px"] = mean_of(lmd_centred_px(points, truth, region, size))
            result[f"{short}_lmd_raw_px"] = mean_of(lmd_raw_px(points, truth, region, size))
        result["lip_correlation"] = lip_correlation(points, truth)
        result["faces_found_pct"] = 100.0 * float((~np.isnan(generated["landmarks_px"]).any(axis=(1, 2))).mean())
        for name in ("cpbd", "mouth_sharpness", "flicker", "flicker_compensated"):
            result[name] = mean_of(generated[name])
        mel = self.sound_of(clip)
        if mel is not None and "sync" in generated:
            result |= sync_numbers(self.judges.networks["syncnet"], generated["sync"], mel)
        if "emotion" in generated and crop["emotion"]:
            verdict = int(generated["emotion"].argmax())
            result |= {"emotion_verdict": EMOTIONS[verdict], "emotion_right": float(EMOTIONS[verdict] == crop["emotion"])}
        if row["coefficients"]:
            motion = read_npz(self.ctx.reads["generate"].parent / str(row["coefficients"]))
            result["pose_over_time_deg"] = float(pose_over_time_deg(motion["pose"]))
            result["expression_over_time"] = float(expression_over_time(motion["beta"]))
            if mel is not None:
                loudness = mel_windows(mel, len(motion["pose"]))[:, 7:10].mean(axis=(1, 2))
                result["beat_alignment"] = beat_alignment(motion_beats(motion["pose"]), audio_beats(loudness))
            closure = blink_closure(motion["beta"])
            if closure is not None:
                events = blink_events(closure, self.cfg.blink_on, self.cfg.blink_off)
                result |= {"blinks": len(events), "blink_frames": int((events[:, 1] - events[:, 0]).sum())}
            result["seconds"] = len(motion["pose"]) / FPS_HZ
            if "beta_samples" in motion:
                result |= self.sample_numbers(motion["beta_samples"], motion["pose_samples"], clip)
        return {**self.labels(row), "n_compared": count, **result}

    def sample_numbers(self, beta: np.ndarray, pose: np.ndarray, clip: str) -> dict[str, float]:
        """What samples of motion for one clip say by their coefficients, pictures apart.

        Args:
            beta: (S, T, E) expression.
            pose: (S, T, 6).
            clip: the real clip, for the lips.

        Returns:
            Columns ``sampled_*`` of the per-clip table; those of lips and lids only for a face model with named shapes.
        """
        numbers = {
            "sampled_expression_over_time": float(expression_over_time(beta).mean()), "sampled_expression_over_seeds": seed_distance(beta),
            "sampled_pose_over_time_deg": float(pose_over_time_deg(pose).mean()), "sampled_pose_over_seeds_deg": float(pose_over_seeds_deg(pose)),
        }  # fmt: skip
        closure = blink_closure(beta)
        if closure is not None:
            numbers["sampled_blinks"] = float(sum(len(blink_events(one, self.cfg.blink_on, self.cfg.blink_off)) for one in closure))
            numbers["sampled_seconds"] = closure.size / FPS_HZ
            real = lip_opening(read_npz(self.ctx.reads["fit3dmm"].parent / self.fits[clip])["beta"])
            count = min(len(real), beta.shape[1])
            numbers["sampled_lip_correlation"] = float(np.mean([correlation(lip_opening(one[:count]), real[:count]) for one in beta]))
        return numbers

    def labels(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a row of the per-clip table says about its clip, whether it could be scored or not."""
        crop = self.crops.get(str(row["clip"]), {})
        kept = {name: crop.get(name, "") for name in ("identity", "emotion", "level", "sentence")}
        return {
            "clip": row["clip"],
            "method": row["method"],
            "status": row["status"],
            "reason": row["reason"],
            **kept,
            "sha256": row.get("sha256", ""),
        }


def score_method(scorer: Scorer, rows: pd.DataFrame) -> pd.DataFrame:
    """Per-clip table of one method; a clip that cannot be scored keeps its row with the reason."""
    scored = []
    # Every method needs the same real clips. In orders of their own, methods that are scored at the same time find in the cache what others made.
    for row in sorted(rows.to_dict("records"), key=lambda row: text_sha256(str(row["method"]), str(row["clip"]))):
        if row["status"] != "ok":
            scored.append(scorer.labels(row))
            continue
        if row["clip"] not in scorer.crops:
            scored.append({**scorer.labels(row), "status": "failed", "reason": "the real clip is not in data/crop any more"})
            continue
        try:
            scored.append(scorer.score(row))
        except (ShapeError, ValueError) as error:
            scored.append({**scorer.labels(row), "status": "failed", "reason": f"cannot be scored: {error}"})
    return pd.DataFrame(sorted(scored, key=lambda row: str(row["clip"])))
