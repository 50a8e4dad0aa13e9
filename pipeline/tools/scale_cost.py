"""What a configuration costs, by arithmetic: ``python -m pipeline.tools.scale_cost`` writes the tables of docs/paper_scale.md.

An estimate. Counted exactly: operations of one forward pass of the real modules at the configuration's sizes, bytes of what the code keeps
in memory. Taken from the data sets' authors: how many clips there are. Assumed: how fast a GPU is, and what a backward pass costs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flowvqtalker.constants import FPS_HZ, N_EMOTIONS, SAMPLES_PER_FRAME
from flowvqtalker.flow.motionflow import PLAN_OFFSETS, MotionFlow, Window
from flowvqtalker.image.adversarial import PatchDiscriminator
from flowvqtalker.image.codebook import Codebook, CodebookConfig
from flowvqtalker.image.perceptual import OwnFeatures, SqueezeFeatures
from flowvqtalker.image.vqig import POSE_DIM, VQIG, Motion, VQIGConfig
from pipeline.flow import flow_config
from pipeline.io import write_text
from pipeline.params import read_config, validate

PAGE = Path("docs/paper_scale.md")
BEGIN, END = "<!-- cost: begin (written by python -m pipeline.tools.scale_cost) -->", "<!-- cost: end -->"
#: Assumed: what one data-centre GPU sustains in bf16 training [FLOP/s].
SUSTAINED = 40e12
#: Coefficients of the face models: Deep3DFaceRecon's layout of bfm, the ICT names else.
EXPRESSIONS = {"bfm": 64, "ict": 53, "clay": 53}

# What the data sets hold: clips of the published lists of MEAD's front camera, hours of HDTF's five-second pieces (paper-facts 4.2).
MEAD_CLIPS, MEAD_TRAIN_CLIPS, HDTF_HOURS, FFHQ_PICTURES = 28_040, 25_747, 14.4, 70_000
#: Mean of the 12 MEAD clips of the sample folder [frames].
MEAD_FRAMES = 95.5
#: Measured on the sample folder: bytes a frame of the four 1080p MEAD clips cut to 256 px and written as the step crop writes (crf 14), and
#: of the one HDTF clip of 512 px written as a piece (crf 12).
CROP_BYTES, PIECE_BYTES = 2285, 18_056
#: Mean of the four original MEAD clips [bytes].
MEAD_CLIP_BYTES = 903_359
#: Measured: 2D-FAN without flip on two CPU threads [s a face]; detection comes on top.
FAN_S = 0.137
FFHQ_BYTES = 89.1e9


def count(model: Callable[..., Any], *inputs: Any) -> float:
    """Operations of a call (a multiplication and an addition are two)."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return float(counter.get_total_flops())


def parameters(model: nn.Module) -> int:
    """Numbers that a model learns or keeps frozen."""
    return sum(value.numel() for value in model.parameters())


def training_rows(p: dict[str, Any]) -> list[tuple[str, int, float, float]]:
    """(training, parameters, operations of one step, steps) of every large training of a configuration."""
    size, cb, im, fl = p["crop"].size_px, p["codebook"], p["imagegen"], p["flow"]
    image = torch.rand(1, 3, size, size)
    codebook = Codebook(CodebookConfig(**cb.model.model_dump())).freeze()
    forward_codebook = count(codebook, image)
    if cb.perceptual.network == "squeezenet":
        from torchvision.models import squeezenet1_1

        features: nn.Module = SqueezeFeatures(squeezenet1_1(weights=None).state_dict())
    else:
        features = OwnFeatures(cb.perceptual.width)
    forward_features = count(features, image)

    def judge(width: int, weight: float, share: float) -> float:
        return 8 * count(PatchDiscriminator(width), image) * (1 - share) if weight else 0.0

    step = cb.training.batch * (
        3 * forward_codebook + 3 * forward_features + judge(cb.discriminator_width, cb.losses.gan, cb.gan_from_share)
    )
    rows = [("codebook", parameters(codebook), step, cb.training.steps)]
    expressions = EXPRESSIONS[p["fit3dmm"].model]
    vqig = VQIG(VQIGConfig(expression_dim=expressions, **im.model.model_dump()), codebook).eval()
    width = expressions + POSE_DIM
    motion = Motion(torch.randn(1, 2 * im.model.window + 1, width), torch.randn(1, width), torch.rand(1, 68, 2))
    warp = count(lambda: vqig(image, motion, phase="warp"))
    rows.append(
        (
            "imagegen, the warp",
            parameters(vqig),
            im.warp_training.batch * (3 * warp + 5 * forward_features),
            im.warp_training.steps,
        )
    )
    # behind the warp gradients end: it only runs forward
    forward = 3 * count(vqig, image, motion) - 2 * warp + forward_codebook + 3 * forward_features
    step = im.training.batch * (forward + judge(im.discriminator_width, im.losses.gan, im.gan_from_share))
    rows.append(("imagegen, one variant", parameters(vqig), step, im.training.steps))
    unlabelled = any(source.unlabelled == "none" for source in p["corpus"].sources)
    for kind, size, part in (("expression", expressions, fl), ("pose", POSE_DIM, fl.pose)):
        config = flow_config(fl, kind, size, 0)
        # without named lids (bfm) there is no long history; with them it is one token more
        flow = MotionFlow(replace(config, long_frames=0)).eval()
        window = Window(
            torch.randn(1, flow.lead + fl.window, size), torch.randn(1, fl.window, len(PLAN_OFFSETS) * size if config.conditioners else 0),
            torch.randn(1, size), torch.eye(N_EMOTIONS)[:1], torch.ones(1, dtype=torch.bool), torch.randn(1, fl.window + 2 * flow.context, 16, 80),
        )  # fmt: skip
        operations = count(flow.log_prob, window)
        if unlabelled and kind == "expression":
            window.known[:] = False
            operations += count(flow.log_prob, window)
        if config.conditioners:
            each = count(flow.plan, window.audio, window.x0, window.weights) / config.conditioners
            training = fl.conditioner.training
            name = f"conditioners, {config.conditioners} of them"
            rows.append((name, parameters(flow.conditioners), 3 * training.batch * each, training.steps * config.conditioners))
        name = {"expression": "ExpFlow", "pose": "PoseFlow"}[kind]
        rows.append((f"{name}, one variant", parameters(flow), 3 * part.training.batch * operations, part.training.steps))
    return rows


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def gigabytes(value: float) -> str:
    """Bytes as GB (10^9)."""
    return f"{value / 1e9:.1f}"


def report(p: dict[str, Any]) -> str:
    """The tables of a configuration that reads FFHQ, MEAD and HDTF."""
    pixels = 3 * p["crop"].size_px ** 2
    mead, hdtf = MEAD_CLIPS * MEAD_FRAMES, HDTF_HOURS * 3600 * FPS_HZ
    frames = mead + hdtf
    counted = training_rows(p)
    trainings = [
        (
            name,
            f"{numbers / 1e6:.1f}",
            f"{step / 1e12:.2f}",
            f"{steps:,}",
            f"{step * steps / 1e18:.1f}",
            f"{step * steps / SUSTAINED / 3600:.0f}",
        )
        for name, numbers, step, steps in counted
    ]
    total = sum(step * steps for _, _, step, steps in counted)
    trainings.append(("all of them", "", "", "", f"{total / 1e18:.1f}", f"{total / SUSTAINED / 3600:.0f}"))
    cb, im, ex = p["codebook"], p["imagegen"], p["experts"]
    cuts = 3 * (ex.syncnet.mouth_px**2 + ex.emotion.face_px**2)
    stills = next((source.stills for source in p["corpus"].sources if source.stills), None)
    memory = [
        ("stills, all read before any is chosen", f"{FFHQ_PICTURES:,} x {pixels:,} B", gigabytes(FFHQ_PICTURES * pixels)),
        ("codebook, its frames", f"{cb.max_frames:,} x {pixels:,} B", gigabytes(cb.max_frames * pixels)),
        ("imagegen, its frames", f"{im.max_frames:,} x {pixels:,} B", gigabytes(im.max_frames * pixels)),
        ("experts, cuts of all training clips", f"{MEAD_TRAIN_CLIPS:,} x {MEAD_FRAMES} x {cuts:,} B", gigabytes(MEAD_TRAIN_CLIPS * MEAD_FRAMES * cuts)),
        ("flow, mel of all clips", f"{frames:,.0f} x {80 / FPS_HZ * 80 * 4:,.0f} B", gigabytes(frames * 80 / FPS_HZ * 80 * 4)),
    ]  # fmt: skip
    beside = 2 * SAMPLES_PER_FRAME + 68 * 2 * 4 + 1
    disk = [
        ("FFHQ as downloaded (authors)", "", gigabytes(FFHQ_BYTES)),
        ("MEAD, front camera", f"{MEAD_CLIPS:,} x {MEAD_CLIP_BYTES:,} B", gigabytes(MEAD_CLIPS * MEAD_CLIP_BYTES)),
        ("HDTF, pieces", f"{hdtf:,.0f} frames x ({PIECE_BYTES:,} + {2 * SAMPLES_PER_FRAME:,}) B", gigabytes(hdtf * (PIECE_BYTES + 2 * SAMPLES_PER_FRAME))),
        ("corpus, stills before compression", f"{FFHQ_PICTURES:,} x {3 * stills.size_px**2:,} B" if stills else "", gigabytes(FFHQ_PICTURES * 3 * stills.size_px**2 if stills else 0)),
        ("crop, stills", f"{FFHQ_PICTURES:,} x {pixels:,} B", gigabytes(FFHQ_PICTURES * pixels)),
        ("crop, video, sound and landmarks", f"{frames:,.0f} frames x ({CROP_BYTES:,} + {beside:,}) B", gigabytes(frames * (CROP_BYTES + beside))),
        ("fit3dmm", f"{frames:,.0f} frames x {4 * (EXPRESSIONS[p['fit3dmm'].model] + 6 + 27 + 1)} B", gigabytes(frames * 4 * (EXPRESSIONS[p["fit3dmm"].model] + 34))),
    ]  # fmt: skip
    parts = [
        f"Frames: MEAD {MEAD_CLIPS:,} x {MEAD_FRAMES} = {mead:,.0f}; HDTF {HDTF_HOURS} h x 3600 x {FPS_HZ} = {hdtf:,.0f}; together {frames:,.0f}.",
        "### Trainings",
        table(
            ("training", "parameters [M]", "a step [TFLOP]", "steps", "all steps [EFLOP]", f"hours at {SUSTAINED / 1e12:.0f} TFLOP/s"),
            trainings,
        ),
        "### Memory of the host",
        table(("what", "arithmetic", "GB"), memory),
        "### Disk",
        table(("what", "arithmetic", "GB"), disk),
        "### Landmarks",
        f"2D-FAN on the CPU: {frames:,.0f} frames x {FAN_S} s = {frames * FAN_S / 3600:,.0f} hours of two threads (measured rate; faces have to be found "
        "on top). On a GPU: not measured.",
    ]
    return "\n\n".join(parts)


def page(text: str, made: str) -> str:
    """The page with the tables between its marks."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", default="configs/paper.yaml")
    args = parser.parse_args()
    torch.manual_seed(0)
    made = report(validate(read_config("params.yaml", args.configfile)))
    print(made)
    if args.configfile == "configs/paper.yaml":
        write_text(PAGE, page(PAGE.read_text(), made))


if __name__ == "__main__":
    main()
