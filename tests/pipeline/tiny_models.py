"""Untrained but working models, as the trainings publish them: for tests of what uses them."""

from dataclasses import replace
from pathlib import Path

import torch
import yaml

from flowvqtalker.flow.model import motion_state
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.image.codebook import Codebook, CodebookConfig, save_codebook
from flowvqtalker.image.vqig import VQIG, VQIGConfig, save_vqig
from pipeline.flow import flow_config
from pipeline.io import write_json, write_torch
from pipeline.params import validate_section

SIZE, E = 64, 53
#: What makes the models of params.yaml small; whatever else they have comes from there.
FLOW = {
    "flow_steps": 2,
    "width": 16,
    "heads": 4,
    "tau": 4,
    "frames_per_token": 2,
    "long_frames": 8,
    "long_stride": 4,
    "audio_width": 16,
    "residual": False,
}
CODEBOOK = {"downsample": 8, "width": 16, "blocks": 1, "codes": 32, "dim": 8}
IMAGEGEN = {"window": 2, "descriptor_dim": 16, "warp_width": 16, "width": 32, "heads": 2, "layers": 2}


def _flow(values: dict, kind: str, **changes) -> MotionFlow:
    section = (
        values["flow"] | FLOW | changes | {"pose": values["flow"]["pose"] | {name: FLOW[name] for name in ("flow_steps", "width", "heads")}}
    )
    cfg = validate_section("flow", section)
    config = flow_config(cfg, kind, {"expression": E, "pose": 6}[kind], 3)
    if kind == "expression":  # the training finds the lids among the dimensions that move
        config = replace(config, long_dims=(0, 1))
    flow = MotionFlow(config)
    flow.low.fill_(0.0 if kind == "expression" else -0.3)
    flow.high.fill_(1.0 if kind == "expression" else 0.3)
    for parameter in flow.core.parameters():  # couplings start at zero, where no condition (sound, emotion) would move anything
        parameter.data += 0.03 * torch.randn_like(parameter)
    return flow.eval()


def write_models(models: Path) -> dict[str, Path]:
    """Untrained but working models, as the trainings publish them."""
    torch.manual_seed(0)
    values = yaml.safe_load(Path("params.yaml").read_text())
    flows = {
        "full/expflow": _flow(values, "expression"),
        "full/poseflow": _flow(values, "pose"),
        "regression/regression": _flow(values, "expression", model="regression"),
    }
    for name, flow in flows.items():
        write_torch(models / f"flow/{name}.pt", motion_state(flow))
    section = validate_section("codebook", values["codebook"] | {"model": values["codebook"]["model"] | CODEBOOK}).model.model_dump()
    codebook = Codebook(CodebookConfig(**{name: section[name] for name in CodebookConfig.__dataclass_fields__})).train()
    codebook(torch.rand(8, 3, SIZE, SIZE))
    codebook.freeze()
    write_torch(models / "codebook/model.pt", save_codebook(codebook))
    section = validate_section("imagegen", values["imagegen"] | {"model": values["imagegen"]["model"] | IMAGEGEN})
    shape = VQIGConfig(expression_dim=E, **section.model.model_dump())
    generator = VQIG(shape, codebook).eval()
    for parameter in generator.parameters():  # its branches start at zero, where motion would not show
        parameter.data += 0.1 * torch.randn_like(parameter)
    write_torch(models / "imagegen/full/model.pt", save_vqig(generator))
    indexes = {"codebook": "codebook", "flow_full": "flow/full", "flow_regression": "flow/regression", "imagegen_full": "imagegen/full"}
    for folder in indexes.values():
        write_json(models / folder / "index.json", {"files": {}})
    return {name: models / folder / "index.json" for name, folder in indexes.items()}
