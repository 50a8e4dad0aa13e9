"""Train one variant of the image generator VQIG (stage II) on the frozen codebook."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from flowvqtalker.image.codebook import load_codebook
from flowvqtalker.image.data import FrameSet, fixed_pairs
from flowvqtalker.image.layers import channels_last
from flowvqtalker.image.perceptual import load_perceptual
from flowvqtalker.image.vqig import POSE_DIM, VQIG, VQIGConfig, save_vqig
from flowvqtalker.precision import autocast
from flowvqtalker.train.blend import sharpen_blend
from flowvqtalker.train.imagegen import ImagegenLosses, ImagegenTask, measure_imagegen
from flowvqtalker.train.loop import LoopConfig
from flowvqtalker.train.loop import run as train
from flowvqtalker.train.mouth import fit_mouth
from flowvqtalker.train.ratio import fit_ratio
from flowvqtalker.train.replicates import replicate_seed
from pipeline.context import Context
from pipeline.frames import picture_grid, training_frames
from pipeline.io import read_torch
from pipeline.params.codebook import TrainingParams
from pipeline.training import TrainingFolder, main

GRID_COLUMNS = 10


@torch.no_grad()
def make_grid(model: VQIG, frames: FrameSet, precision: str) -> bytes:
    """Rows: source, target, warped source, generated frame, target through the codebook."""
    source, target = fixed_pairs(frames, GRID_COLUMNS)
    image, goal = frames.batch(source), frames.batch(target)
    with autocast(image.device, precision):
        output = model(image, frames.motion(target, source, model.config.window))
        ceiling = model.codebook(goal)[0]
    return picture_grid([image, goal, output.warped.float(), output.image, ceiling])


def loop_config(p: TrainingParams) -> LoopConfig:
    """Settings of the shared loop. The averaged weights of the last step are kept: the best PSNR is reached before the codes are sharp."""
    return LoopConfig(p.steps, p.lr, p.warmup_steps, p.final_lr_share, p.grad_clip, p.ema_decay, p.validate_every, p.checkpoint_every, None)


def log_part(folder: TrainingFolder, part: str, step: int, split: str, values: dict[str, float]) -> None:
    """History of a part under its own split: warp_train, warp_val, codes_train, codes_val."""
    folder.log_history(step, f"{part}_{split}", values)


def run(ctx: Context, folder: TrainingFolder) -> None:
    """Train and publish one variant."""
    cfg = ctx.cfg
    frames, validation, test = training_frames(ctx, "imagegen", cfg.max_frames, cfg.validation_frames, cfg.test_frames)
    payload = read_torch(ctx.model_folder("codebook") / "model.pt")
    codebook = channels_last(load_codebook(payload))
    features = channels_last(load_perceptual(read_torch(ctx.model_folder("codebook") / "perceptual.pt")))
    seed = replicate_seed(cfg.replicate, ctx.seed, "imagegen")
    torch.manual_seed(seed)
    model = VQIG(VQIGConfig(expression_dim=frames.coefficients.shape[1] - POSE_DIM, **cfg.model.model_dump()), codebook)
    model = channels_last(model)
    mean, std = frames.normaliser()
    model.psi.mean.copy_(mean)
    model.psi.std.copy_(std)
    if model.ratio is not None:
        explained = fit_ratio(model.ratio, frames, cfg.ratio_ridge, cfg.ratio_gain)
        ctx.log.info("expression ratio: %.3f of the variance within persons explained", explained)
    if model.mouth is not None:
        explained = fit_mouth(model.mouth, frames, cfg.mouth_ridge, cfg.mouth_gain)
        ctx.log.info("inside of the mouth: %.3f of the colours' variance explained", explained)
    shares = {name: int(getattr(cfg, f"{name}_share") * cfg.training.steps) for name in ("entropy_from", "image_from", "gan_from")}
    result: dict[str, Any] = {}
    for part, p in (("warp", cfg.warp_training), ("codes", cfg.training)):
        if part == "warp" and model.warp is None:
            continue
        task = ImagegenTask(
            model, features, frames, validation, ImagegenLosses(**cfg.losses.model_dump(), **shares), part=part, lr=p.lr,
            weight_decay=p.weight_decay, batch=p.batch, stills_share=cfg.stills_share, enrolment_share=cfg.enrolment_share,
            discriminator_width=cfg.discriminator_width, validation_pairs=cfg.validation_pairs, precision=cfg.precision,
        )  # fmt: skip
        result = train(
            task, loop_config(p), seed=seed, resume=folder.load_checkpoint(part), save=partial(folder.save_checkpoint, part),
            log=partial(log_part, folder, part), progress=f"imagegen {ctx.variant} {part}",
        )  # fmt: skip
        model.load_state_dict(result["best"]["vqig"])
    sharpen_blend(model, cfg.blend_gain, cfg.blend_shift)
    model.eval()
    shown = test if test is not None else validation
    metrics = measure_imagegen(model, shown, *fixed_pairs(shown, cfg.test_frames), cfg.precision)
    metrics |= {
        f"val_{k}": v
        for k, v in measure_imagegen(model, validation, *fixed_pairs(validation, cfg.validation_frames), cfg.precision).items()
    }
    metrics |= {
        "best_step": result["step"],
        "bad_steps": result["bad_steps"],
        "train_frames": len(frames),
        "is_test_split": float(test is not None),
    }
    # metrics.json holds numbers only: the frozen codebook's hash enters as its first 12 hex digits (48 bits, exact in a float).
    metrics["codebook_sha256_48bit"] = int(payload["sha256"][:12], 16)
    ctx.log.info(
        "%.2f dB, copying the source %.2f dB, ceiling %.2f dB", metrics["psnr_db"], metrics["copy_psnr_db"], metrics["ceiling_psnr_db"]
    )
    folder.publish({"model.pt": save_vqig(model), "metrics.json": metrics, "grid.png": make_grid(model, shown, cfg.precision)})


if __name__ == "__main__":
    main(run)
