"""Stage `experts`: train the judges on the training split, stop early on the validation split, say how good they are on the test split.

Reads: data/crop (videos, landmarks, stills), data/audio (mel), data/fit3dmm (expressions that the emotion judge also learns to tell).
Writes: models/experts/{syncnet,emotion,features}.pt (those that the corpus can teach), skipped.json (why others are absent), metrics.json, history.csv.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from flowvqtalker.audio.mel import mel_windows
from flowvqtalker.constants import EMOTIONS
from flowvqtalker.experts import judge
from flowvqtalker.experts.crops import FACE, MOUTH, cut, face_points
from flowvqtalker.experts.emotion import EmotionNet
from flowvqtalker.experts.features import FeatureNet
from flowvqtalker.experts.syncnet import SyncNet
from flowvqtalker.experts.tasks import (
    Clip,
    EmotionTask,
    FeatureTask,
    Pictures,
    SyncTask,
    emotion_accuracy,
    pictures_of,
    sync_accuracy,
    with_usual_faces,
)
from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.train.loop import LoopConfig, Task
from flowvqtalker.train.loop import run as train
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import ok_rows, read_index, read_npz
from pipeline.media import read_video
from pipeline.training import TrainingFolder, main


def read_clip(
    row: Any, folder: Path, mel: Path | None, fit: Path | None, mouth_px: int, face_px: int
) -> tuple[Clip, np.ndarray, np.ndarray]:
    """One crop as judges see it: (cuts and sound, whole frames (T, S, S, 3), landmarks (T, 68, 2))."""
    arrays = read_npz(folder / row.landmarks)
    landmarks, stills = arrays["landmarks_px"], row.kind == "stills"
    frames = arrays["frames"] if stills else read_video(folder / row.video)[0]
    count = min(len(frames), len(landmarks))
    frames, landmarks = frames[:count], landmarks[:count]
    beta = read_npz(fit)["beta"].astype(np.float32)[:count] if fit else None
    beta = beta if beta is not None and len(beta) == count else None
    if stills:
        # Stills are independent pictures: cut one by one, so that nothing is smoothed over them; those without a face cannot be cut.
        seen = np.flatnonzero(~np.isnan(landmarks).any(axis=(1, 2)))
        frames, landmarks = frames[seen], landmarks[seen]
        faces = np.concatenate([cut(frames[i : i + 1], landmarks[i : i + 1], FACE, face_px) for i in range(len(frames))])
        emotion = arrays["emotion"].astype(np.int64)[seen]
        level = np.rint(3 * arrays["intensity"]).astype(np.int64)[seen]
        points = np.concatenate([face_points(landmarks[i : i + 1]) for i in range(len(frames))])
        return Clip(None, faces, None, emotion, level, True, row.identity, None if beta is None else beta[seen], points), frames, landmarks
    sound = mel_windows(read_npz(mel)["mel"], count) if mel else None
    label = EMOTIONS.index(row.emotion) if row.emotion else -1
    level_value = int(row.level) if row.level == row.level else -1
    mouths = cut(frames, landmarks, MOUTH, mouth_px) if mel else None
    faces = cut(frames, landmarks, FACE, face_px)
    points = face_points(landmarks)
    return (
        Clip(mouths, faces, sound, np.full(count, label), np.full(count, level_value), False, row.identity, beta, points),
        frames,
        landmarks,
    )


def read_split(
    ctx: Context, table: pd.DataFrame, mels: dict[str, Path], fits: dict[str, Path], split: str, names: list[str] | None
) -> tuple[list[Clip], Pictures, list[str]]:
    """All clips of a split that judges may see, and pictures for the feature network."""
    use = "test" if split == "test" else "judges"
    # Enrolments of validation and test serve their persons' usual faces only.
    rows = table[(table["split"] == split) & (table["uses"].str.contains(use) | (table["role"] == "enrol"))]
    names = sorted(set(rows["identity"])) if names is None else names
    cfg, clips, pictures = ctx.cfg, [], []
    for row in rows.itertuples():
        clip, frames, landmarks = read_clip(
            row, ctx.reads["crop"].parent, mels.get(str(row.clip)), fits.get(str(row.clip)), cfg.syncnet.mouth_px, cfg.emotion.face_px
        )
        clips.append(clip)
        chosen = (
            np.arange(len(frames))
            if clip.is_stills
            else np.unique(np.linspace(0, len(frames) - 1, cfg.features.frames_per_clip).astype(int))
        )
        identity = names.index(clip.identity) if clip.identity in names else -1
        pictures.append(pictures_of(frames[chosen], landmarks[chosen], clip.emotion[chosen], identity, cfg.features.picture_px))
    scored = [split == "train" or role != "enrol" for role in rows["role"]]
    return (
        [clip for clip, keep in zip(with_usual_faces(clips), scored, strict=True) if keep],
        Pictures.join(pictures, cfg.features.picture_px),
        names,
    )


def fit(ctx: Context, folder: TrainingFolder, name: str, task: Any, cfg: Any, select: str | None) -> None:
    """Train one judge in place with the shared loop; it ends with its best weights."""
    config = LoopConfig(
        steps=cfg.steps, lr=cfg.lr, warmup_steps=min(cfg.warmup_steps, cfg.steps), final_lr_share=0.02, grad_clip=1.0, ema_decay=0.99,
        validate_every=cfg.validate_every, checkpoint_every=max(1, cfg.steps // 3), select=select,
    )  # fmt: skip
    result = train(
        cast(Task, task), config, seed=ctx.seed, resume=folder.load_checkpoint(name), progress=name,
        save=lambda state: folder.save_checkpoint(name, state), log=lambda step, split, values: folder.log_history(step, split, {k: v for k, v in values.items() if v == v}),
    )  # fmt: skip
    network: nn.Module = task.modules["network"]
    network.load_state_dict(result["best" if select else "last"]["network"])
    network.eval()


def run(ctx: Context, folder: TrainingFolder) -> None:
    """Train the judges that this corpus can teach."""
    cfg = ctx.cfg
    torch.manual_seed(ctx.seed)
    table = ok_rows(read_index(ctx.reads["crop"], "crop"))
    sounds = ok_rows(read_index(ctx.reads["audio"], "audio"))
    mels = {row.clip: ctx.reads["audio"].parent / row.file for row in sounds.itertuples()}
    fitted = ok_rows(read_index(ctx.reads["fit3dmm"], "fit3dmm"))
    fits = {row.clip: ctx.reads["fit3dmm"].parent / row.file for row in fitted.itertuples()}
    train_clips, train_pictures, names = read_split(ctx, table, mels, fits, "train", None)
    if not train_clips:
        raise PipelineError("no clip of the training split may be used for judges", "give a source of corpus.sources the use 'judges'")
    val_clips, val_pictures, _ = read_split(ctx, table, mels, fits, "val", names)
    test_clips, test_pictures, _ = read_split(ctx, table, mels, fits, "test", names)
    ctx.log.info("judges see %d training, %d validation and %d test items", len(train_clips), len(val_clips), len(test_clips))
    domain = judge.domain_of(ctx.params["corpus"].sources)  # type: ignore[attr-defined]
    files: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    skipped: dict[str, str] = {}

    def keep(name: str, kind: str, network: nn.Module, sizes: dict[str, Any], values: dict[str, float]) -> None:
        files[f"{name}.pt"] = judge.pack(kind, network, sizes, domain)
        metrics.update({f"test_{key}": value for key, value in values.items() if value == value})

    if any(clip.mel is not None and len(clip.mel) >= cfg.syncnet.segment_frames for clip in train_clips):
        sizes = {"size_px": cfg.syncnet.mouth_px, "width": cfg.syncnet.width, "dim": cfg.syncnet.dim}
        sync = SyncTask(
            SyncNet(**sizes), train_clips, val_clips, cfg.syncnet.lr, cfg.syncnet.batch, cfg.syncnet.segment_frames, cfg.precision
        )
        fit(ctx, folder, "syncnet", sync, cfg.syncnet, "sync_loss" if sync.val else None)
        keep("syncnet", "syncnet", sync.network, sizes, sync_accuracy(sync.network, [clip for clip in test_clips if clip.mel is not None]))
    else:
        skipped["syncnet"] = f"no training clip with sound has {cfg.syncnet.segment_frames} frames or more"
    emotions = {int(label) for clip in train_clips for label in clip.emotion if label >= 0}
    if len(emotions) > 1:
        sizes = {
            "size_px": cfg.emotion.face_px,
            "width": cfg.emotion.width,
            "dim": cfg.emotion.dim,
            "n_emotions": len(EMOTIONS),
            "n_expressions": len(EXPRESSIONS),
            "dropout": cfg.emotion.dropout,
        }
        feeling = EmotionTask(
            EmotionNet(**sizes),
            train_clips,
            val_clips,
            EXPRESSIONS,
            cfg.emotion.lr,
            cfg.emotion.clips,
            cfg.emotion.frames,
            cfg.emotion.stills,
            cfg.emotion.expression_weight,
            cfg.precision,
        )
        fit(ctx, folder, "emotion", feeling, cfg.emotion, "emotion_loss" if feeling.val else None)
        keep(
            "emotion",
            "emotion",
            feeling.network,
            sizes,
            emotion_accuracy(feeling.network, [clip for clip in test_clips if not clip.is_stills and clip.emotion[0] >= 0]),
        )
    else:
        only = EMOTIONS[emotions.pop()] if emotions else "no label at all"
        skipped["emotion"] = f"the training split has one emotion only ({only}); a judge of emotions needs at least two"
        ctx.log.warning("no emotion judge: %s", skipped["emotion"])
    sizes = {
        "size_px": cfg.features.picture_px,
        "width": cfg.features.width,
        "dim": cfg.features.dim,
        "n_identities": max(1, len(names)),
        "n_emotions": len(EMOTIONS),
    }
    look = FeatureTask(FeatureNet(**sizes), train_pictures, val_pictures, cfg.features.lr, cfg.features.batch, cfg.precision)
    fit(ctx, folder, "features", look, cfg.features, "features_loss" if len(val_pictures.frames) else None)
    look.val = replace(test_pictures)
    with torch.no_grad():
        keep("features", "features", look.network, sizes, look.validate(cfg.features.steps))
    for name, value in sorted(metrics.items()):
        ctx.log.info("%s: %.4g", name, value)
    folder.publish({**files, "metrics.json": metrics, "skipped.json": skipped})


if __name__ == "__main__":
    main(run)
