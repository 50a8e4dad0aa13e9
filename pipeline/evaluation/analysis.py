"""What one video says by itself, whoever made it: landmarks, sharpness, flicker, features, the judges' answers. Shared by the step and the command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from flowvqtalker.audio.mel import mel_windows
from flowvqtalker.experts.crops import FACE, MOUTH, cut, face_points
from flowvqtalker.experts.emotion import UsualFace
from flowvqtalker.experts.tasks import emotion_logits, picture_features
from flowvqtalker.metrics.compensated import compensated_flicker
from flowvqtalker.metrics.identity import mean_face
from flowvqtalker.metrics.sharpness import cpbd, flicker, luminance, mouth_sharpness
from flowvqtalker.metrics.sync import sync_score, window_offsets

#: Side of the face cuts where no emotion judge asks for another [px].
FACE_PX = 64


def analyse_frames(
    frames: np.ndarray,
    landmarks_px: np.ndarray,
    networks: Mapping[str, Any],
    usual: Callable[[], UsualFace] | None,
    every: int,
) -> dict[str, np.ndarray]:
    """Everything that is measured on one video alone.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        landmarks_px: (T, 68, 2) px, NaN without a face.
        networks: judges by kind (``syncnet``, ``emotion``, ``features``); any may be absent.
        usual: gives the person's usual face for the emotion judge; None when nobody is known.
        every: CPBD and compensated flicker look at every n-th frame only.

    Returns:
        landmarks_px (T, 68, 2), cpbd, mouth_sharpness (T,), flicker (T - 2,), flicker_compensated, and where they can be had features (T, D),
        face (192,), emotion (n_emotions,) logits, sync (T, D') lip embeddings.
    """
    grey = luminance(frames)
    result = {
        "landmarks_px": landmarks_px.astype(np.float32),
        "cpbd": np.array([cpbd(np.rint(one)) for one in grey[::every]]) if min(frames.shape[1:3]) >= 64 else np.zeros(0),
        "mouth_sharpness": mouth_sharpness(frames, landmarks_px, grey),
        "flicker": flicker(frames, grey) if len(frames) > 2 else np.zeros(0),
        "flicker_compensated": compensated_flicker(grey, every=every) if len(frames) > 1 else np.zeros(0),
    }
    if "features" in networks:
        result["features"] = picture_features(networks["features"], frames)
    if np.isnan(landmarks_px).any(axis=(1, 2)).all():
        return result
    faces = cut(frames, landmarks_px, FACE, networks["emotion"].size_px if "emotion" in networks else FACE_PX)
    result["face"] = mean_face(faces)
    if "emotion" in networks and usual is not None:
        result["emotion"] = emotion_logits(networks["emotion"], faces, face_points(landmarks_px), usual())
    if "syncnet" in networks:
        mouths = torch.from_numpy(cut(frames, landmarks_px, MOUTH, networks["syncnet"].size_px))
        with torch.inference_mode():
            result["sync"] = networks["syncnet"].embed_video(mouths[None])[0].numpy()
    return result


def sync_numbers(network: Any, lips: np.ndarray, mel: np.ndarray) -> dict[str, float | int]:
    """LSE-D, LSE-C, offset and the count of 1 s windows within a frame, from (T, D) lip embeddings and the (steps, 80) log-mel of the sound."""
    with torch.inference_mode():
        sound = network.embed_audio(torch.from_numpy(mel_windows(mel, len(lips)))[None])[0].numpy()
    score = sync_score(lips, sound)
    offsets = window_offsets(lips, sound)
    return {
        "lse_d": score.lse_d, "lse_c": score.lse_c, "av_offset_frames": score.offset_frames,
        "av_windows": len(offsets), "av_windows_within_1": int((np.abs(offsets) <= 1).sum()),
    }  # fmt: skip


def mean_of(values: np.ndarray) -> float:
    """Mean of the values that are known; NaN without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
