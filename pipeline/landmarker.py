"""Step `landmarker`: train presence, box, 68 points and blendshapes on the corpus' training split and its truth.

Reads data/corpus; writes models/landmarker/{model.pt, history.csv, metrics.json}. Nothing is trained, and the model says so, when
``landmarks.backend`` is another than ``trained``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.fit.blendshapes import beta_to_blendshapes
from flowvqtalker.landmarks import align, network, samples, schema
from flowvqtalker.precision import autocast
from flowvqtalker.render.background import make_background
from flowvqtalker.seeding import numpy_generator, torch_generator
from flowvqtalker.train import loop
from pipeline import media
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import read_index, read_npz
from pipeline.params.landmarker import NetworkTraining
from pipeline.training import TrainingFolder, main

Pictures = tuple[np.ndarray, np.ndarray, np.ndarray]


class FinderTask(loop.Task):
    """FaceFinder on whole pictures, half of them faceless."""

    def __init__(self, net: network.FaceFinder, train: samples.Samples, val: samples.Samples, ctx: Context) -> None:
        self.net, self.train, self.val, self.cfg, self.setup = net, train, val, ctx.cfg, ctx.cfg.finder
        self.modules: dict[str, nn.Module] = {"net": net}
        self.optimizers = {"net": torch.optim.AdamW(net.parameters(), lr=self.setup.lr, weight_decay=self.setup.weight_decay)}
        self.ema_names = ("net",)

    def draw(self, step: int, generator: torch.Generator) -> Any:
        return samples.draw_pictures(self.train, self.setup.batch, self.net.size_px, generator)

    def losses(self, batch: Any, step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        with autocast(batch[0].device, self.cfg.precision):
            output = self.net(batch[0])
        yield "net", *network.face_loss(output, *batch[1:])

    def validate(self, step: int) -> dict[str, float]:
        batch = samples.draw_pictures(self.val, self.cfg.validation_samples, self.net.size_px, torch_generator("landmarker", "validate"))
        loss, logs = network.face_loss(self.net(batch[0]), *batch[1:])
        return {**logs, "loss": float(loss)}


class PointsTask(loop.Task):
    """PointNet on crops around faces."""

    def __init__(self, net: network.PointNet, train: samples.Samples, val: samples.Samples, ctx: Context) -> None:
        self.net, self.train, self.val, self.cfg, self.setup = net, train, val, ctx.cfg, ctx.cfg.points
        self.modules: dict[str, nn.Module] = {"net": net}
        self.optimizers = {"net": torch.optim.AdamW(net.parameters(), lr=self.setup.lr, weight_decay=self.setup.weight_decay)}
        self.ema_names = ("net",)

    def draw(self, step: int, generator: torch.Generator) -> Any:
        return samples.draw_crops(self.train, self.setup.batch, self.net.size_px, generator)

    def losses(self, batch: Any, step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        with autocast(batch[0].device, self.cfg.precision):
            maps = self.net.maps(batch[0])
        yield "net", *network.point_loss(maps, batch[1], map_weight=self.cfg.map_weight, gap_weight=self.cfg.gap_weight)

    def validate(self, step: int) -> dict[str, float]:
        batch = samples.draw_crops(self.val, self.cfg.validation_samples, self.net.size_px, torch_generator("landmarker", "validate"))
        loss, logs = network.point_loss(self.net.maps(batch[0]), batch[1], map_weight=self.cfg.map_weight, gap_weight=self.cfg.gap_weight)
        return {**logs, "loss": float(loss)}


class RefinerTask(loop.Task):
    """Refiner on aligned faces."""

    def __init__(self, net: network.Refiner, train: samples.Samples, val: samples.Samples, ctx: Context) -> None:
        self.net, self.train, self.val, self.cfg, self.setup = net, train, val, ctx.cfg, ctx.cfg.refiner
        self.modules: dict[str, nn.Module] = {"net": net}
        self.optimizers = {"net": torch.optim.AdamW(net.parameters(), lr=self.setup.lr, weight_decay=self.setup.weight_decay)}
        self.ema_names = ("net",)
        net.template.copy_(align.mean_shape(train.points))

    def draw(self, step: int, generator: torch.Generator) -> Any:
        return samples.draw_aligned(self.train, self.net.template, self.setup.batch, self.net.size_px, generator)

    def losses(self, batch: Any, step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        with autocast(batch[0].device, self.cfg.precision):
            points, scores = self.net(batch[0])
        yield "net", *self.loss(points, scores, batch)

    def loss(self, points: Tensor, scores: Tensor, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Loss of the points plus that of the scores."""
        loss, logs = network.point_error(points, batch[1], gap_weight=self.cfg.gap_weight)
        score_loss, score_logs = network.score_loss(scores, batch[2])
        return loss + self.cfg.score_weight * score_loss, {**logs, **score_logs}

    def validate(self, step: int) -> dict[str, float]:
        generator = torch_generator("landmarker", "validate")
        batch = samples.draw_aligned(self.val, self.net.template, self.cfg.validation_samples, self.net.size_px, generator)
        points, scores = self.net(batch[0])
        loss, logs = self.loss(points, scores, batch)
        return {**logs, "loss": float(loss)}


def spread(count: int, wanted: int) -> np.ndarray:
    """At most ``wanted`` indices of ``count``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int))


def read_pictures(row: pd.Series, root: Path, wanted: int | None) -> Pictures:
    """Frames, true landmarks and true blendshape scores of one corpus row, at most ``wanted`` evenly spread frames of it."""
    truth = read_npz(root / (row.file if row.kind == "stills" else row.truth))
    count = len(truth["landmarks_px"])
    index = np.arange(count) if wanted is None else spread(count, wanted)
    frames = truth["frames"][index] if row.kind == "stills" else media.read_frames(root / row.file, index)
    return frames, truth["landmarks_px"][index].astype(np.float32), beta_to_blendshapes(truth["beta"][index], EXPRESSIONS)


def rows_of(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Clips of a split that have truth (stills carry theirs) and may serve the landmarker."""
    serves = [
        row.status == "ok" and (row.truth != "" or row.kind == "stills") and "landmarker" in re.findall(r"[a-z]+", row.uses)
        for row in table.itertuples()
    ]
    return table.loc[np.array(serves, bool) & (table["split"] == split)]


def gather(ctx: Context, table: pd.DataFrame, split: str) -> samples.Samples:
    """Samples of a split, with rendered backgrounds as faceless pictures."""
    root, cfg = ctx.reads["corpus"].parent, ctx.cfg
    rows = [row for _, row in rows_of(table, split).iterrows()]
    wanted = [cfg.stills_per_clip if row.kind == "stills" else cfg.video_frames_per_clip for row in rows]
    # Decoders and zlib leave the interpreter alone while they work.
    with ThreadPoolExecutor(max(1, ctx.threads)) as readers:
        pictures = list(readers.map(read_pictures, rows, [root] * len(rows), wanted))
    if not pictures:
        raise PipelineError(
            f"{ctx.reads['corpus']}: no clip of split '{split}' has truth and serves 'landmarker'",
            "landmarks.backend 'trained' needs the embedded corpus; for other data set it to mediapipe or face_alignment",
        )
    size = pictures[0][0].shape[1:3]
    empty = [
        make_background(numpy_generator(ctx.seed, "landmarker", "faceless", split, index), size)[None] for index in range(cfg.faceless)
    ]
    return samples.make_samples(pictures, empty)


def train(task: loop.Task, name: str, setup: NetworkTraining, ctx: Context, folder: TrainingFolder) -> dict[str, Tensor]:
    """Averaged weights of one network after its training; resumes from the folder's checkpoint."""
    config = loop.LoopConfig(
        steps=setup.steps, lr=setup.lr, warmup_steps=setup.warmup_steps, final_lr_share=setup.final_lr_share, grad_clip=setup.grad_clip,
        ema_decay=setup.ema_decay, validate_every=setup.validate_every, checkpoint_every=setup.validate_every, select=None,
    )  # fmt: skip
    result = loop.run(
        task,
        config,
        seed=ctx.seed,
        resume=folder.load_checkpoint(name),
        save=lambda state: folder.save_checkpoint(name, state),
        log=lambda step, split, values: folder.log_history(step, split, {f"{name}_{key}": value for key, value in values.items()}),
        progress=name,
    )
    return result["last"]["net"]


def measure(finder: network.TrainedLandmarker, ctx: Context, table: pd.DataFrame) -> dict[str, float]:
    """Errors on whole clips of the validation identities, as `crop` will meet them, and on faceless pictures."""
    root = ctx.reads["corpus"].parent
    found, truth, scored, scores = [], [], [], []
    for _, row in rows_of(table, "val").iterrows():
        frames, points, shapes = read_pictures(row, root, None)
        seen = finder.detect(frames, video=row.kind == "video")
        found.append(seen.landmarks_px)
        truth.append(points)
        scored.append(seen.blendshapes)
        scores.append(shapes)
    points, right = np.concatenate(found), np.concatenate(truth)
    seen = schema.has_face(points)
    size = (ctx.cfg.finder.size_px * 2, ctx.cfg.finder.size_px * 2)
    empty = np.stack([make_background(numpy_generator(ctx.seed, "landmarker", "faceless", "measure", index), size) for index in range(64)])
    values = {
        "recall_pct": 100.0 * float(seen.mean()),
        "false_alarms_pct": 100.0 * float(finder.detect(empty, video=False).present.mean()),
        "n_frames": float(len(seen)),
    }
    if seen.any():
        values["error_pct"] = 100.0 * float(schema.landmark_error(points[seen], right[seen]).mean())
    pair = np.stack([np.concatenate(scored)[seen], np.concatenate(scores)[seen]])
    if seen.any():
        values["score_rmse"] = float(np.sqrt(np.square(pair[0] - pair[1]).mean()))
    for name in ("jawOpen", "eyeBlinkLeft", "browInnerUp", "browDownLeft", "mouthSmileLeft", "mouthFrownLeft", "noseSneerLeft"):
        both = pair[:, :, schema.BLENDSHAPES.index(name)]
        if both.shape[1] > 2 and (both.std(axis=1) > 0).all():
            values[f"{name}_correlation"] = float(np.corrcoef(both)[0, 1])
    for name, measured in (("eye", lambda shape: schema.eye_openness(shape).mean(axis=-1)), ("lip", schema.lip_aperture)):
        pair = np.stack([measured(points[seen]), measured(right[seen])])
        if pair.shape[1] > 2 and (pair.std(axis=1) > 0).all():
            values[f"{name}_correlation"] = float(np.corrcoef(pair)[0, 1])
    return values


def run(ctx: Context, folder: TrainingFolder) -> None:
    """Train the landmark networks on the corpus' truth."""
    landmarks: Any = ctx.params["landmarks"]
    if landmarks.backend != "trained":
        folder.publish({"model.pt": {"skipped": True, "backend": landmarks.backend}, "metrics.json": {"skipped": 1}})
        return
    table = read_index(ctx.reads["corpus"], "corpus")
    torch.manual_seed(ctx.seed)
    finder = network.channels_last(network.FaceFinder(ctx.cfg.finder.size_px, ctx.cfg.finder.channels))
    points = network.channels_last(network.PointNet(ctx.cfg.points.size_px, ctx.cfg.points.channels))
    refiner = network.channels_last(network.Refiner(ctx.cfg.refiner.size_px, ctx.cfg.refiner.channels))
    data, held_out = gather(ctx, table, "train"), gather(ctx, table, "val")
    ctx.log.info("%d faces to learn from, %d to watch", len(data), len(held_out))
    weights = {
        "points": train(PointsTask(points, data, held_out, ctx), "points", ctx.cfg.points, ctx, folder),
        "finder": train(FinderTask(finder, data, held_out, ctx), "finder", ctx.cfg.finder, ctx, folder),
        "refiner": train(RefinerTask(refiner, data, held_out, ctx), "refiner", ctx.cfg.refiner, ctx, folder),
    }
    for name, net in (("finder", finder), ("points", points), ("refiner", refiner)):
        net.load_state_dict(weights[name])
    landmarker = network.TrainedLandmarker(finder, points, refiner, min_score=landmarks.min_score, precision=landmarks.precision)
    metrics = measure(landmarker, ctx, table)
    ctx.log.info("held-out identities: %s", {name: round(value, 3) for name, value in metrics.items()})
    folder.publish({"model.pt": network.pack(weights, like=landmarker), "metrics.json": metrics})


if __name__ == "__main__":
    main(run)
