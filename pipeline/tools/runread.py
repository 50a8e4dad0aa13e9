"""What tools read of a finished run that its steps read too: clips of the flow stage and its trained models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flowvqtalker.flow.model import load_motion
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.windows import MotionClip
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.flow import read_clips
from pipeline.io import ok_rows, read_index, read_json, read_torch
from pipeline.params import validate_section
from pipeline.params.flow import FlowParams
from pipeline.stages import STAGES, stamp_json

#: Files of the two flows by their kind.
FLOW_FILES = {"expression": "expflow.pt", "pose": "poseflow.pt"}


@dataclass(frozen=True)
class RunClips:
    """Clips of a run with the parameters that a flow was trained with.

    Attributes:
        code: Hash of the code that made the models.
        params: Section ``flow`` of the model.
        train, val, test: As the stage ``flow`` reads them.
        sentences: Sentence of each clip by name; the name itself where a clip has none.
    """

    code: str
    params: FlowParams
    train: list[MotionClip]
    val: list[MotionClip]
    test: list[MotionClip]
    sentences: dict[str, str]


def read_run(root: Path, variant: str) -> RunClips:
    """Clips and parameters from a run's folder, read only.

    Args:
        root: Folder of the run.
        variant: Trained variant of ``flow``, whose stamp holds the parameters.

    Raises:
        PipelineError: the variant has no stamp, or a table is missing.
    """
    path = root / ".stamps" / f"flow.{variant}.json"
    if not path.is_file():
        raise PipelineError(f"{path}: no stamp of this variant", "name the folder of a finished run with --root")
    stamp = read_json(path)
    params = validate_section("flow", stamp["params"]["flow"])
    assert isinstance(params, FlowParams)
    reads = {name: root / STAGES[name].out for name in ("crop", "fit3dmm", "audio")}
    ctx = Context("flow", variant, stamp_json(stamp), root, root / "unused", reads, 1, {"flow": params})
    train, val, test = read_clips(ctx)
    table: pd.DataFrame = ok_rows(read_index(reads["crop"], "crop"))
    sentences = {str(clip): str(sentence) or str(clip) for clip, sentence in zip(table["clip"], table["sentence"], strict=True)}
    return RunClips(stamp["code"], params, train, val, test, sentences)


def read_flow(folder: Path, kind: str) -> MotionFlow:
    """Trained flow of a kind (``expression`` or ``pose``) in eval mode."""
    return load_motion(read_torch(folder / FLOW_FILES[kind]))
