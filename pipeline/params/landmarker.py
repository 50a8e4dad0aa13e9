"""Parameters of the `landmarker` step: the networks of the `trained` back end and their training."""

from __future__ import annotations

from typing import Literal

from pipeline.params.base import Field, Section

__all__ = ["LandmarkerParams", "NetworkTraining"]


class NetworkTraining(Section):
    """One of the three networks."""

    size_px: int = Field(ge=32, le=256, multiple_of=16, description="side of the network's input [px]")
    channels: tuple[int, ...] = Field(min_length=2, max_length=3, description="widths by resolution; multiples of 32 are fast in bf16")
    steps: int = Field(ge=1, le=100_000, description="optimisation steps")
    batch: int = Field(ge=2, le=512, description="samples of a step")
    lr: float = Field(gt=0, le=0.1, description="peak learning rate")
    warmup_steps: int = Field(ge=0, le=10_000, description="steps of linear warm-up")
    final_lr_share: float = Field(ge=0, le=1, description="share of the learning rate at the end of the cosine [1]")
    weight_decay: float = Field(ge=0, le=1, description="AdamW weight decay")
    grad_clip: float = Field(gt=0, le=100, description="largest norm of the gradients")
    ema_decay: float = Field(ge=0, lt=1, description="decay of the averaged weights")
    validate_every: int = Field(ge=1, description="steps between validations")


class LandmarkerParams(Section):
    """Training of presence, box, 68 points and blendshapes on the corpus' training split and its truth."""

    video_frames_per_clip: int = Field(ge=1, le=1000, description="frames taken of each talking clip, evenly spread")
    stills_per_clip: int = Field(ge=1, le=1000, description="pictures taken of each clip of stills")
    faceless: int = Field(ge=0, le=10_000, description="rendered backgrounds without a face, beside those cut out of the frames")
    validation_samples: int = Field(ge=1, le=10_000, description="samples of the validation split that choose nothing but are watched")
    precision: Literal["fp32", "bf16"] = Field(
        description="number format of the training's convolutions; bf16: bfloat16 where the device has arithmetic for it, else fp32"
    )
    map_weight: float = Field(ge=0, le=10, description="weight of the maps' cross-entropy beside the points' error")
    gap_weight: float = Field(ge=0, le=10, description="weight of the lid and lip gaps' error")
    score_weight: float = Field(ge=0, le=10, description="weight of the blendshape scores' error beside the points' error")
    finder: NetworkTraining
    points: NetworkTraining
    refiner: NetworkTraining
