"""Frames of the crops in memory for the trainings of codebook and imagegen, and the grids of pictures they publish."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from flowvqtalker.image.data import FrameSet
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import ok_rows, read_index, read_npz
from pipeline.media import read_frames


def clip_rows(ctx: Context, split: str, use: str) -> pd.DataFrame:
    """Usable crops of a split; with ``use``, only those whose ``uses`` name it (the test split is never restricted).

    Columns ``fit`` (path of the fitted coefficients) when the stage reads fit3dmm: clips without a fit are left out.
    """
    rows = ok_rows(read_index(ctx.reads["crop"], "crop"))
    named = np.array([use in re.findall(r"[a-z0-9]+", uses) for uses in rows["uses"]], dtype=bool)
    rows = rows[(rows["split"] == split) & (named | (split == "test"))]
    if "fit3dmm" in ctx.reads:
        fits = ok_rows(read_index(ctx.reads["fit3dmm"], "fit3dmm"))
        rows = rows.merge(pd.DataFrame({"clip": fits["clip"], "fit": fits["file"]}), on="clip", how="inner")
    return rows.sort_values(by=["clip"]).reset_index(drop=True)


def load_frames(ctx: Context, split: str, use: str, max_frames: int) -> FrameSet | None:
    """Read the frames of a split.

    Args:
        ctx: of a stage that reads crop, and fit3dmm when motion is wanted.
        split: "train", "val" or "test".
        use: see ``clip_rows``.
        max_frames: when the split has more, every clip gives the same share of its frames, chosen evenly.

    Returns:
        The frames, or None when the split has none with a face.
    """
    rows = clip_rows(ctx, split, use)
    crops = ctx.reads["crop"].parent
    tracks = [read_npz(crops / row.landmarks) for row in rows.itertuples()]
    seen = [np.flatnonzero(np.isfinite(track["landmarks_px"]).all((1, 2))) for track in tracks]
    total = sum(len(frames) for frames in seen)
    if total == 0:
        return None
    identities = {name: i for i, name in enumerate(sorted(rows["identity"].unique()))}
    images, landmarks, motion = [], [], []
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("identity", "is_still", "is_enrolment", "row", "first", "last")}
    offset = 0
    for row, track, frames in zip(rows.itertuples(), tracks, seen, strict=True):
        coefficients = _coefficients(ctx, row)
        n_rows = len(coefficients) if coefficients is not None else 0
        if coefficients is not None:
            frames = frames[frames < n_rows]
        n = len(frames) if total <= max_frames else max(1, len(frames) * max_frames // total)
        if len(frames) == 0:
            continue
        frames = frames[np.linspace(0, len(frames) - 1, n).round().astype(int)]
        is_still = row.kind == "stills"
        pictures = track["frames"][frames] if is_still else read_frames(crops / row.video, frames)
        images.append(torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))))
        landmarks.append(torch.from_numpy(track["landmarks_px"][frames].astype(np.float32)))
        place = offset + frames if n_rows else np.full(n, -1)
        ends = (place, place) if is_still or not n_rows else (np.full(n, offset), np.full(n, offset + n_rows - 1))
        values = (np.full(n, identities[row.identity]), np.full(n, is_still), np.full(n, row.role == "enrol"), place, *ends)
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
        if coefficients is not None:
            motion.append(torch.from_numpy(coefficients))
        offset += n_rows
    bank = torch.cat(motion) if motion else torch.zeros(0, 6)
    if not images:
        return None
    ctx.log.info("%s: %d frames of %d clips and %d identities", split, sum(map(len, images)), len(rows), len(identities))
    return FrameSet(
        torch.cat(images), torch.cat(landmarks), coefficients=bank, **{k: torch.from_numpy(np.concatenate(v)) for k, v in columns.items()}
    )


def _coefficients(ctx: Context, row) -> np.ndarray | None:
    """(T, E + 6) float32 fitted expression and pose of a clip, or None when the stage does not read fits."""
    if "fit3dmm" not in ctx.reads:
        return None
    fit = read_npz(ctx.reads["fit3dmm"].parent / row.fit)
    return np.concatenate([fit["beta"], fit["pose"]], 1).astype(np.float32)


def training_frames(
    ctx: Context, use: str, max_frames: int, validation_frames: int, test_frames: int
) -> tuple[FrameSet, FrameSet, FrameSet | None]:
    """Frames of the training, validation and test split; without validation clips, training frames are validated and the log says so.

    Raises:
        PipelineError: no training frame.
    """
    train = load_frames(ctx, "train", use, max_frames)
    if train is None:
        raise PipelineError(
            f"stage '{ctx.stage}': {ctx.reads['crop']} has no training frame with a face for the use '{use}'",
            "look at the columns status, split and uses of that table, and at corpus.sources[].use in params.yaml",
        )
    validation = load_frames(ctx, "val", use, validation_frames)
    if validation is None:
        ctx.log.warning("no validation clips: the numbers called val are of training frames")
        validation = train
    return train, validation, load_frames(ctx, "test", use, test_frames)


def picture_grid(rows: Sequence[Tensor], gap_px: int = 2) -> bytes:
    """PNG of rows of pictures, each (n, 3, S, S) in [0, 1], on white."""
    from PIL import Image

    size = rows[0].shape[-1]
    width = max(len(row) for row in rows)
    canvas = np.full((len(rows) * (size + gap_px) - gap_px, width * (size + gap_px) - gap_px, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate((row.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()):
            canvas[i * (size + gap_px) : i * (size + gap_px) + size, j * (size + gap_px) : j * (size + gap_px) + size] = picture
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def read_squeezenet(path: str) -> dict[str, Tensor]:
    """State dict of torchvision's squeezenet1_1 from a file named in the parameters."""
    from pipeline.io import read_torch

    if not Path(path).exists():
        raise PipelineError(
            f"codebook.perceptual.weights: {path} does not exist", "give the file of squeezenet1_1's weights, or set network: own"
        )
    return read_torch(path)
