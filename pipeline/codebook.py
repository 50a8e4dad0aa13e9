"""Train the perceptual network of the losses, then E_h, C and D_h (stage I); publish them frozen, with their ceiling."""

from __future__ import annotations

import torch

from flowvqtalker.image.codebook import Codebook, CodebookConfig, save_codebook
from flowvqtalker.image.data import FrameSet
from flowvqtalker.image.layers import channels_last
from flowvqtalker.image.perceptual import OwnFeatures, SqueezeFeatures, save_perceptual
from flowvqtalker.seeding import derive_seed
from flowvqtalker.train.codebook import CodebookLosses, CodebookTask, PerceptualTask, measure_codebook, reconstruct
from flowvqtalker.train.loop import LoopConfig
from flowvqtalker.train.loop import run as train
from pipeline.context import Context
from pipeline.frames import picture_grid, read_squeezenet, training_frames
from pipeline.params.codebook import TrainingParams
from pipeline.training import TrainingFolder, main

GRID_COLUMNS = 10


def loop_config(params: TrainingParams, select: str | None) -> LoopConfig:
    """Settings of the shared loop from the parameters."""
    return LoopConfig(
        params.steps, params.lr, params.warmup_steps, params.final_lr_share, params.grad_clip, params.ema_decay,
        params.validate_every, params.checkpoint_every, select,
    )  # fmt: skip


def make_perceptual(ctx: Context, folder: TrainingFolder, frames: FrameSet) -> OwnFeatures | SqueezeFeatures:
    """The frozen perceptual network: trained on its own tasks with its own seed, or the user's."""
    cfg = ctx.cfg.perceptual
    if cfg.network == "squeezenet":
        features: OwnFeatures | SqueezeFeatures = SqueezeFeatures(read_squeezenet(cfg.weights))
    else:
        seed = derive_seed(ctx.seed, "perceptual")
        torch.manual_seed(seed)
        features = OwnFeatures(cfg.width)
        precision = ctx.cfg.precision
        task = PerceptualTask(
            features, frames, lr=cfg.lr, batch=cfg.batch, noise_sd=cfg.noise_sd, stills_share=ctx.cfg.stills_share, precision=precision
        )
        loop = LoopConfig(cfg.steps, cfg.lr, min(20, cfg.steps), 0.05, 1.0, None, cfg.steps, max(cfg.steps // 2, 1), None)
        result = train(
            task, loop, seed=seed, resume=folder.load_checkpoint("perceptual"), save=lambda state: folder.save_checkpoint("perceptual", state),
            log=lambda step, split, values: folder.log_history(step, f"perceptual_{split}", values), progress="perceptual network",
        )  # fmt: skip
        features.load_state_dict(result["last"]["features"])
    features.requires_grad_(False)
    return channels_last(features.eval())


def run(ctx: Context, folder: TrainingFolder) -> None:
    """Train and publish the codebook."""
    cfg = ctx.cfg
    frames, validation, test = training_frames(ctx, "codebook", cfg.max_frames, cfg.validation_frames, cfg.test_frames)
    features = make_perceptual(ctx, folder, frames)
    seed = derive_seed(ctx.seed, "codebook")
    torch.manual_seed(seed)
    codebook = channels_last(Codebook(CodebookConfig(**cfg.model.model_dump())))
    steps = cfg.training.steps
    weights = CodebookLosses(
        **cfg.losses.model_dump(), gan_from=int(cfg.gan_from_share * steps), quantise_from=int(cfg.quantise_from_share * steps)
    )
    task = CodebookTask(
        codebook, features, frames, validation, weights, lr=cfg.training.lr, weight_decay=cfg.training.weight_decay, batch=cfg.training.batch,
        stills_share=cfg.stills_share, discriminator_width=cfg.discriminator_width, validation_frames=cfg.validation_frames, precision=cfg.precision,
    )  # fmt: skip
    result = train(
        task, loop_config(cfg.training, "mse"), seed=seed, resume=folder.load_checkpoint("codebook"),
        save=lambda state: folder.save_checkpoint("codebook", state), log=folder.log_history, progress="codebook",
    )  # fmt: skip
    codebook.load_state_dict(result["best"]["codebook"])
    codebook.freeze()
    shown = test if test is not None else validation
    measured = measure_codebook(codebook, shown, shown.evenly(cfg.test_frames), cfg.precision)
    metrics = measured | {
        f"val_{k}": v for k, v in measure_codebook(codebook, validation, validation.evenly(cfg.validation_frames), cfg.precision).items()
    }
    metrics |= {f"train_{k}": v for k, v in measure_codebook(codebook, frames, frames.evenly(cfg.validation_frames), cfg.precision).items()}
    metrics |= {
        "best_step": result["step"],
        "bad_steps": result["bad_steps"],
        "train_frames": len(frames),
        "is_test_split": float(test is not None),
    }
    ctx.log.info("ceiling: %.2f dB, face %.2f dB, %d codes used", metrics["psnr_db"], metrics["psnr_face_db"], metrics["codes_used"])
    image = shown.batch(shown.evenly(GRID_COLUMNS))
    made = reconstruct(codebook, image, cfg.precision)
    grid = picture_grid([image, made, (made - image).abs() * 4])
    files = {"model.pt": save_codebook(codebook), "perceptual.pt": save_perceptual(features), "metrics.json": metrics, "grid.png": grid}
    folder.publish(files)


if __name__ == "__main__":
    main(run)
