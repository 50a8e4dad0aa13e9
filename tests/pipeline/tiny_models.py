"""Untrained but working models, as the trainings publish them: for tests of what uses them."""

from dataclasses import asdict
from pathlib import Path

import torch

from flowvqtalker.flow.model import motion_state
from flowvqtalker.flow.motionflow import FlowConfig, MotionFlow
from flowvqtalker.flow.stack import StackConfig
from flowvqtalker.image.codebook import Codebook, CodebookConfig, save_codebook
from flowvqtalker.image.vqig import VQIG, VQIGConfig, save_vqig
from pipeline.io import write_json, write_torch

SIZE, E = 64, 53
STACK = StackConfig(
    features=E, labels=8, steps=2, width=16, heads=4, coupling="transformer", coupling_layers=1, scale_bound=0.8, actnorm="multi", prior="smm",
    nu=50.0, separation=5.0,
)  # fmt: skip
FLOW = FlowConfig(
    kind="expression", model="flow", coefficients=E, stack=STACK, tau=4, frames_per_token=2, long_frames=8, long_stride=4, long_dims=(0, 1),
    audio_width=16, conditioner_width=16, conditioner_dropout=0.0, conditioners=0, encoder_layers=1, dropout=0.0, order=0, latent_rho=0.3,
    clamp=6.0, seed=3,
)  # fmt: skip


def write_models(models: Path) -> dict[str, Path]:
    """Untrained but working models, as the trainings publish them."""
    torch.manual_seed(0)
    pose_stack = StackConfig(**(asdict(STACK) | {"features": 6, "actnorm": "shared", "prior": "gaussian"}))
    pose = asdict(FLOW) | {"kind": "pose", "coefficients": 6, "stack": pose_stack, "long_frames": 0, "long_dims": ()}
    flows = {
        "full/expflow": MotionFlow(FLOW), "full/poseflow": MotionFlow(FlowConfig(**pose)),
        "regression/regression": MotionFlow(FlowConfig(**(asdict(FLOW) | {"stack": STACK, "model": "regression"}))),
    }  # fmt: skip
    for name, flow in flows.items():
        flow.low.fill_(0.0 if "pose" not in name else -0.3)
        flow.high.fill_(1.0 if "pose" not in name else 0.3)
        write_torch(models / f"flow/{name}.pt", motion_state(flow.eval()))
    codebook = Codebook(CodebookConfig(downsample=8, width=16, blocks=1, codes=32, dim=8, decay=0.9, dead_below=0.2)).train()
    codebook(torch.rand(8, 3, SIZE, SIZE))
    codebook.freeze()
    write_torch(models / "codebook/model.pt", save_codebook(codebook))
    switches = dict.fromkeys(("warp", "phi", "mhca", "codes"), True)
    shape = VQIGConfig(
        expression_dim=E, window=2, descriptor_dim=16, warp_width=16, warp_blocks=1, width=32, heads=2, layers=2, merge=1, **switches
    )
    generator = VQIG(shape, codebook).eval()
    for parameter in generator.parameters():  # its branches start at zero, where motion would not show
        parameter.data += 0.1 * torch.randn_like(parameter)
    write_torch(models / "imagegen/full/model.pt", save_vqig(generator))
    indexes = {"codebook": "codebook", "flow_full": "flow/full", "flow_regression": "flow/regression", "imagegen_full": "imagegen/full"}
    for folder in indexes.values():
        write_json(models / folder / "index.json", {"files": {}})
    return {name: models / folder / "index.json" for name, folder in indexes.items()}
