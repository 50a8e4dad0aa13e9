"""Parameters of the stage ``codebook``."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pipeline.params.base import Field, Section


class TrainingParams(Section):
    """Length and speed of one training."""

    steps: int = Field(ge=1, le=10_000_000, description="optimisation steps")
    batch: int = Field(ge=1, le=4096, description="pictures or pairs per step")
    lr: float = Field(gt=0, le=0.1, description="peak learning rate (AdamW)")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    final_lr_share: float = Field(ge=0, le=1, description="share of the peak rate at the end of the cosine")
    weight_decay: float = Field(ge=0, le=1, description="AdamW weight decay")
    grad_clip: float = Field(gt=0, description="largest L2 norm of the gradients")
    ema_decay: float = Field(ge=0, lt=1, description="decay of the averaged weights per step")
    validate_every: int = Field(ge=1, description="steps between validations")
    checkpoint_every: int = Field(ge=1, description="steps between checkpoints")


class CodebookModelParams(Section):
    """Shape of E_h, C and D_h."""

    downsample: Literal[4, 8, 16] = Field(description="side of the square that one code covers [px]")
    width: int = Field(ge=8, le=512, description="channels at a quarter of the resolution")
    blocks: int = Field(ge=1, le=8, description="residual blocks per resolution")
    codes: int = Field(ge=2, le=65_536, description="size K of the codebook (paper: 1024)")
    dim: int = Field(ge=2, le=1024, description="dimensions D of a code (paper: 256)")
    decay: float = Field(ge=0, lt=1, description="decay of the codes' moving averages per step")
    dead_below: float = Field(ge=0, description="codes whose moving count falls below this are revived [vectors per step]")


class PerceptualParams(Section):
    """The perceptual network of the losses of codebook and imagegen."""

    network: Literal["own", "squeezenet"] = Field(
        description="own: trained here, offline; squeezenet: torchvision's squeezenet1_1 with the weights below"
    )
    weights: str = Field(description="squeezenet only: file with its state dict, relative to the repository")
    width: int = Field(ge=4, le=256, description="own only: channels of the first stage")
    steps: int = Field(ge=1, description="own only: optimisation steps")
    batch: int = Field(ge=1, description="own only: pictures per step")
    lr: float = Field(gt=0, le=0.1, description="own only: peak learning rate")
    noise_sd: float = Field(ge=0, le=1, description="own only: noise of the damaged pictures [share of the range]")

    @model_validator(mode="after")
    def _weights_belong_to_squeezenet(self) -> PerceptualParams:
        if (self.network == "squeezenet") != bool(self.weights):
            raise ValueError("weights: give a file for squeezenet, and the empty string for own")
        return self


class CodebookLossParams(Section):
    """Weights of the losses of stage I."""

    l1: float = Field(ge=0, description="mean absolute error of colours in [0, 1]")
    l2: float = Field(ge=0, description="mean squared error of colours in [0, 1]")
    perceptual: float = Field(ge=0, description="feature distance")
    commitment: float = Field(ge=0, description="distance of the encoder's vectors to their codes")
    mouth: float = Field(ge=0, description="extra weight of the mouth's box")
    eyes: float = Field(ge=0, description="extra weight of the eyes' boxes")
    gan: float = Field(ge=0, description="factor on the adaptive adversarial weight; 0 trains no discriminator")


class CodebookParams(Section):
    """Stage I of the image generator."""

    max_frames: int = Field(ge=1, description="frames kept in memory for training, chosen evenly")
    validation_frames: int = Field(ge=1, description="frames of the validation identities")
    test_frames: int = Field(ge=1, description="frames of the test identities for the printed ceiling")
    stills_share: float = Field(ge=0, le=1, description="share of the draws that come from stills, where there are any")
    precision: Literal["bf16", "fp32"] = Field(
        description="of convolutions and products in training; bf16: bfloat16 where the device has arithmetic for it, else fp32"
    )
    model: CodebookModelParams
    perceptual: PerceptualParams
    losses: CodebookLossParams
    discriminator_width: int = Field(ge=4, le=256, description="channels of the discriminator's first layer")
    quantise_from_share: float = Field(ge=0, lt=1, description="share of the steps before vectors are quantised")
    gan_from_share: float = Field(ge=0, le=1, description="share of the steps before the adversarial loss acts")
    training: TrainingParams
