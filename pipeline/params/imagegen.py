"""Parameters of the stage ``imagegen``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from pipeline.params.base import Field, Section
from pipeline.params.codebook import TrainingParams


class ImagegenModelParams(Section):
    """Shape of the generator; the four switches make the paper's ablations."""

    window: int = Field(ge=0, le=50, description="frames on each side that the motion descriptor sees")
    descriptor_dim: int = Field(ge=8, le=1024, description="dimensions of sigma")
    warp_width: int = Field(ge=8, le=512, description="channels of the warp network at a quarter of the resolution")
    warp_blocks: int = Field(ge=1, le=8, description="AdaIN blocks per resolution of the warp network")
    width: int = Field(ge=8, le=2048, description="channels of the Transformer")
    heads: int = Field(ge=1, le=64, description="attention heads; divides width")
    layers: int = Field(ge=1, le=48, description="Transformer layers")
    merge: int = Field(ge=1, le=4, description="tokens of a merge x merge square share one Transformer vector")
    points: bool = Field(description="move the source's landmarks by the motion and let the flow follow them")
    ratio_px: int = Field(ge=0, le=512, description="side of the aligned face in which the expression ratio is kept [px]; 0 for none")
    mouth_px: int = Field(ge=0, le=512, description="cells over the width of the mouth's inside laid between parted lips [px]; 0 for none")
    head: bool = Field(description="a soft mask of the head, outside of which the warp leaves the picture where it is")
    warp: bool = Field(description="warp the source (variant no_warp: false)")
    phi: bool = Field(description="modulate the warped features with the source's codes (no_phi: false)")
    mhca: bool = Field(description="cross-attention to the source's codes (no_mhca: false)")
    codes: bool = Field(description="decode nearest codes (no_codebook: false)")
    recolour: bool = Field(description="move the frame's local mean colours towards the warped source's, by a learned gate")
    blend: bool = Field(description="lay the warped source over the decoded frame, by a learned mask")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ImagegenModelParams:
        if self.width % (4 * self.heads) or self.width % 4:
            raise ValueError(f"width ({self.width}) must be a multiple of 4 x heads ({self.heads})")
        return self


class ImagegenLossParams(Section):
    """Weights of the losses of stage II."""

    warp_l1: float = Field(ge=0, description="mean absolute error of the warped source")
    warp_perceptual: float = Field(ge=0, description="feature distance of the warped source")
    landmarks: float = Field(ge=0, description="distance between where the flow sends the target's landmarks and the source's")
    smooth: float = Field(ge=0, description="roughness of the flow [(half-resolution px)^2]")
    code: float = Field(ge=0, description="cross-entropy of the code logits (CodeFormer: 0.5)")
    code_tokens_share: float = Field(gt=0, le=1, description="share of the tokens that enter the cross-entropy in each step")
    feature: float = Field(ge=0, description="distance of the vectors to the target's codes (CodeFormer: 1)")
    l1: float = Field(ge=0, description="mean absolute error of the frame")
    perceptual: float = Field(ge=0, description="feature distance of the frame")
    gan: float = Field(ge=0, description="adversarial loss; 0 trains no discriminator")
    mouth: float = Field(ge=0, description="extra weight of the mouth's box")
    eyes: float = Field(ge=0, description="extra weight of the eyes' boxes")
    brows: float = Field(ge=0, description="extra weight of the brows' box")
    face: float = Field(ge=0, description="extra weight of the face")


class ImagegenParams(Section):
    """Stage II of the image generator (VQIG). ``variants`` maps a name to an overlay of this section."""

    replicate: int = Field(
        ge=0, le=1000, description="number of the training among several that differ by their seed alone; 0 is the first"
    )
    max_frames: int = Field(ge=1, description="frames kept in memory for training, chosen evenly")
    validation_frames: int = Field(ge=1, description="frames of the validation identities kept in memory")
    validation_pairs: int = Field(ge=1, description="pairs measured at each validation")
    test_frames: int = Field(ge=1, description="pairs of the test identities measured at the end")
    stills_share: float = Field(ge=0, le=1, description="share of the targets that are fitted stills, where there are any")
    enrolment_share: float = Field(ge=0, le=1, description="share of the sources that are enrolment frames, where there are any")
    precision: Literal["bf16", "fp32"] = Field(
        description="of convolutions and products in training; bf16: bfloat16 where the device has arithmetic for it, else fp32"
    )
    model: ImagegenModelParams
    losses: ImagegenLossParams
    discriminator_width: int = Field(ge=4, le=256, description="channels of the discriminator's first layer")
    ratio_ridge: float = Field(gt=0, le=10, description="ridge of the expression ratio's fit, as a share of the number of frames")
    ratio_gain: float = Field(
        ge=0, le=3, description="factor on the fitted expression ratio; above 1 against the shrinkage of least squares"
    )
    mouth_ridge: float = Field(gt=0, le=10, description="ridge of the mouth's inside, as a share of the frames that show a cell")
    mouth_gain: float = Field(
        ge=0,
        le=3,
        description="factor on how the mouth's inside differs from its mean colour; above 1 against the shrinkage of least squares",
    )
    blend_gain: float = Field(ge=0, le=10, description="factor on the trained mask's logits; above 1 it chooses instead of hedging")
    blend_shift: float = Field(ge=-5, le=5, description="added to the mask's logits; above 0 prefers the warped source")
    warp_training: TrainingParams
    entropy_from_share: float = Field(ge=0, le=1, description="share of T's steps before the cross-entropy of the codes acts")
    image_from_share: float = Field(ge=0, le=1, description="share of T's steps before the picture losses act")
    gan_from_share: float = Field(ge=0, le=1, description="share of T's steps before the adversarial loss acts")
    training: TrainingParams
    variants: dict[str, dict[str, Any]] = Field(
        description="named overlays: full is the base; no_warp, no_phi, no_mhca, no_codebook are the ablations"
    )

    @model_validator(mode="after")
    def _phases_follow_each_other(self) -> ImagegenParams:
        if not self.image_from_share <= self.gan_from_share:
            raise ValueError("image_from_share <= gan_from_share must hold")
        return self
