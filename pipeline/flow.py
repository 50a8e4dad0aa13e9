"""Train ExpFlow and PoseFlow, or the regression baseline, of one variant."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from flowvqtalker.constants import EMOTIONS, N_EMOTIONS, intensity_of
from flowvqtalker.flow.corruption import corrupt_expressions
from flowvqtalker.flow.diagnostics import rollout_metrics
from flowvqtalker.flow.model import motion_state
from flowvqtalker.flow.motionflow import FlowConfig
from flowvqtalker.flow.stack import StackConfig
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.seeding import derive_seed
from flowvqtalker.train.flow import FlowTraining, HeldOutLatents, clip_bits, fit_motion, held_out_latents
from flowvqtalker.train.loop import LoopConfig
from flowvqtalker.train.replicates import replicate_seed
from pipeline.clipstage import locked
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import file_sha256, ok_rows, read_index, read_npz, text_sha256, write_npz
from pipeline.params.flow import FlowLoopParams, FlowParams
from pipeline.training import TrainingFolder, main

POSE_MIN_SD = 0.0
#: Most frames of test clips whose latents are kept for the report.
LATENT_FRAMES = 4096


def read_clips(ctx: Context) -> tuple[list[MotionClip], list[MotionClip], list[MotionClip]]:
    """Training, validation and test clips that are fitted and have sound, with the source frame of their identity.

    Test clips are those of the test split that are talked, every take; they are scored once, after the training.

    The source expression is that of the identity's enrolment clip (first frame), or the clip's own where there is none. The source pose
    is always the clip's own first: a rollout moves on from where the source looks, and a fitted pose also holds the crop. Without a
    validation split every tenth clip (at least one) validates; a single clip validates itself.
    """
    crop = ok_rows(read_index(ctx.reads["crop"], "crop"))
    files: dict[str, pd.Series] = {
        name: ok_rows(read_index(ctx.reads[name], name)).set_index("clip")["file"] for name in ("fit3dmm", "audio")
    }
    crop = crop[(crop["kind"] != "stills") & (crop["audio_status"] == "ok")]
    crop = crop[crop["clip"].isin(files["fit3dmm"].index) & crop["clip"].isin(files["audio"].index)]
    crop = crop[
        [("flow" if split != "test" else "test") in re.findall(r"[a-z]+", uses) for split, uses in zip(crop["split"], crop["uses"])]
    ]
    fits = {clip: read_npz(ctx.reads["fit3dmm"].parent / files["fit3dmm"][clip]) for clip in crop["clip"]}
    sources = {row.identity: fits[row.clip] for row in crop[crop["role"] == "enrol"].itertuples()}
    by_split: dict[str, list[MotionClip]] = {"train": [], "val": [], "test": []}
    wanted = crop["split"].isin(["train", "val"]) | ((crop["split"] == "test") & (crop["role"] != "enrol"))
    for row in crop[wanted].sort_values("clip").itertuples():
        fit, audio = fits[row.clip], read_npz(ctx.reads["audio"].parent / files["audio"][row.clip])
        source = sources.get(row.identity, fit)
        frames = min(len(fit["beta"]), len(audio["start"]))
        level = 0 if pd.isna(row.level) else int(row.level)
        by_split[row.split].append(
            MotionClip(
                name=row.clip, identity=row.identity, mel=torch.from_numpy(audio["mel"]), start=torch.from_numpy(audio["start"][:frames]),
                beta=torch.from_numpy(fit["beta"][:frames]).float(), pose=torch.from_numpy(fit["pose"][:frames]).float(),
                beta0=torch.from_numpy(source["beta"][0]).float(), pose0=torch.from_numpy(fit["pose"][0]).float(),
                emotion=EMOTIONS.index(row.emotion) if row.emotion else -1,
                # A rollout without a label draws one; at intensity 0 every label would be neutral.
                intensity=intensity_of(row.emotion, level) if row.emotion else 1.0,
            )
        )  # fmt: skip
    train, val, test = (by_split[split] for split in ("train", "val", "test"))
    if not train:
        raise PipelineError(
            f"{ctx.reads['crop']}: no training clip has status ok, sound, a fit and the use 'flow'",
            "look at the columns status, audio_status, split and uses of that table, and at corpus.sources[].use in params.yaml",
        )
    if not val:
        val = train[::10]
        train = [clip for clip in train if clip not in val] or train
        ctx.log.warning("no validation clip: %d of the training clips validate instead", len(val))
    return train, val, test


def loop_config(params: FlowLoopParams) -> LoopConfig:
    """Settings of the shared loop from the parameters."""
    return LoopConfig(
        params.steps, params.lr, params.warmup_steps, params.final_lr_share, params.grad_clip, params.ema_decay,
        params.validate_every, params.validate_every, "loss", params.patience,
    )  # fmt: skip


def flow_config(cfg: FlowParams, kind: str, coefficients: int, seed: int) -> FlowConfig:
    """Shape of ExpFlow or PoseFlow from the parameters."""
    pose = kind == "pose"
    part = cfg.pose if pose else cfg
    stack = StackConfig(
        features=coefficients, labels=N_EMOTIONS, steps=part.flow_steps, width=part.width, heads=part.heads, coupling=cfg.coupling,
        coupling_layers=cfg.coupling_layers, scale_bound=cfg.scale_bound, actnorm="shared" if pose else cfg.actnorm,
        prior="gaussian" if pose else cfg.prior, nu=cfg.nu, separation=cfg.separation,
        mixture=0 if pose else cfg.lids.mixture, mixture_dropout=cfg.lids.dropout,
    )  # fmt: skip
    return FlowConfig(
        kind="pose" if pose else "expression", model=cfg.model, coefficients=coefficients, stack=stack, tau=cfg.tau,
        frames_per_token=cfg.frames_per_token, long_frames=0 if pose else cfg.long_frames, long_stride=cfg.long_stride, long_dims=(),
        audio_width=cfg.audio_width, conditioner_width=cfg.conditioner.width, conditioner_dropout=cfg.conditioner.dropout,
        conditioners=0 if pose or not cfg.residual else cfg.conditioner.folds,
        encoder_layers=cfg.encoder_layers, dropout=cfg.dropout, order=part.order, marginals=cfg.marginals and cfg.model == "flow", latent_rho=part.latent_rho,
        clamp=cfg.innovation_clamp, seed=seed,
    )  # fmt: skip


def flow_training(cfg: FlowParams, kind: str) -> FlowTraining:
    """How ExpFlow ("expression") or PoseFlow ("pose") is trained, from the parameters."""
    part = cfg.pose if kind == "pose" else cfg
    return FlowTraining(
        batch=part.training.batch, window=cfg.window, conditioner_batch=cfg.conditioner.training.batch, history_dropout=cfg.history_dropout,
        history_dropout_share=cfg.history_dropout_share, history_noise=part.history_noise, dequantisation=cfg.dequantisation,
        weight_decay=part.training.weight_decay, conditioner_weight_decay=cfg.conditioner.training.weight_decay,
        motion_weight=cfg.conditioner.motion_weight, mel_gain=cfg.mel_gain, mel_shift=cfg.mel_shift, mel_noise=cfg.mel_noise,
        min_sd=POSE_MIN_SD if kind == "pose" else cfg.min_sd, calibration_rounds=cfg.calibration_rounds,
        lid_batch=cfg.lids.training.batch, lid_weight_decay=cfg.lids.training.weight_decay, lid_astray=cfg.lids.astray,
    )  # fmt: skip


def run(ctx: Context, folder: TrainingFolder) -> None:
    """Train and publish the models of one variant."""
    cfg: FlowParams = ctx.cfg
    train, val, test = read_clips(ctx)
    train = corrupt_expressions(train, cfg.corrupted_share, derive_seed(ctx.seed, "flow corrupted"))
    ctx.log.info("%d training and %d validation clips, %d frames", len(train), len(val), sum(len(clip.beta) for clip in train))
    files: dict[str, Any] = {}
    metrics: dict[str, float] = {"n_train_clips": len(train), "n_val_clips": len(val)}
    for kind in ("expression",) if cfg.model == "regression" else ("expression", "pose"):
        part, settings = cfg.pose if kind == "pose" else cfg, flow_training(cfg, kind)
        seed = replicate_seed(cfg.replicate, ctx.seed, "flow", kind)
        coefficients = train[0].beta.shape[1] if kind == "expression" else train[0].pose.shape[1]
        trained = fit_motion(
            flow_config(cfg, kind, coefficients, seed % 2**31), train, val, settings, conditioner_loop=loop_config(cfg.conditioner.training),
            flow_loop=loop_config(part.training), lid_loop=loop_config(cfg.lids.training), seed=seed, hooks=PhaseHooks(folder, conditioner_folder(ctx)),
        )  # fmt: skip
        name = {"expression": "expflow", "pose": "poseflow"}[kind] if cfg.model == "flow" else "regression"
        files[f"{name}.pt"] = motion_state(trained.flow)
        metrics |= {f"{name}_{key}": value for key, value in (trained.metrics | rollout_metrics(trained.flow, val, seed)).items()}
        if name == "expflow" and test:
            bits = clip_bits(trained.flow, test, cfg.window, settings)
            files["held_out.json"] = {clip.name: {"identity": clip.identity, "bits_per_dim": value} for clip, value in zip(test, bits)}
            files |= latents_file(held_out_latents(trained.flow, test, cfg.window, settings, LATENT_FRAMES), folder.path / "latents.npz")
    ctx.log.info("%s", {name: round(value, 3) for name, value in metrics.items()})
    folder.publish({**files, "metrics.json": metrics})


def latents_file(latents: HeldOutLatents, path: Path) -> dict[str, Path]:
    """Write the latents that the report draws, and name the file; nothing without a labelled frame.

    Half precision is finer than a dot of the figure, and halves the file.
    """
    if not len(latents.z):
        return {}
    arrays = {
        "z": latents.z.half(), "emotion": latents.emotion.to(torch.int8), "intensity": latents.intensity.half(), "means": latents.means,
    }  # fmt: skip
    write_npz(path, {name: values.numpy() for name, values in arrays.items()})
    return {path.name: path}


#: Parameters of this stage that the conditioners depend on. Variants that share them share the trained conditioners.
CONDITIONER_PARAMS = ("conditioner", "window", "mel_gain", "mel_shift", "mel_noise", "min_sd", "replicate", "corrupted_share")


def conditioner_folder(ctx: Context) -> Path:
    """Where the conditioners of all variants with the same data, seed, code and CONDITIONER_PARAMS are trained and kept."""
    values = ctx.cfg.model_dump()
    known = json.dumps([ctx.stamp["code"], ctx.seed, {name: values[name] for name in CONDITIONER_PARAMS}], sort_keys=True)
    checksums = [f"{name}={file_sha256(path)}" for name, path in sorted(ctx.reads.items())]
    return ctx.cache / "train" / f"flow-conditioner-{text_sha256(known, *checksums)[:24]}"


class PhaseHooks:
    """Resume, checkpoint, history and progress of each phase of the training, by the phase's name.

    Conditioners live in a folder of their own, which one variant at a time may hold: the second one finds them trained.

    Args:
        folder: of this training.
        conditioners: of the conditioners.
    """

    def __init__(self, folder: TrainingFolder, conditioners: Path) -> None:
        self.folder, self.conditioners = folder, conditioners
        self._held = ExitStack()

    def __call__(self, phase: str) -> dict[str, Any]:
        """Keyword arguments of the loop; leaving the conditioners lets other variants at them."""
        if phase.startswith("conditioner_"):
            return self._shared(phase)
        self._held.close()
        return {
            "resume": self.folder.load_checkpoint(phase),
            "save": lambda state: self.folder.save_checkpoint(phase, state),
            "log": lambda step, split, values: self.folder.log_history(step, f"{phase}_{split}", values),
            "progress": phase,
        }

    def _shared(self, phase: str) -> dict[str, Any]:
        if phase == "conditioner_0":
            self._held.enter_context(locked(self.conditioners.with_suffix(".lock")))
        shared = TrainingFolder(self.conditioners)
        self.folder.add_history(shared, f"{phase}_")

        def log(step: int, split: str, values: dict[str, float]) -> None:
            for folder in (shared, self.folder):
                folder.log_history(step, f"{phase}_{split}", values)

        save = partial(shared.save_checkpoint, phase)
        return {"resume": shared.load_checkpoint(phase), "save": save, "log": log, "progress": phase}


if __name__ == "__main__":
    main(run)
