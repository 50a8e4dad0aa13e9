"""Parameters of the `experts` stage: sizes and training of the three judges."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pipeline.params.base import Field, Section

__all__ = ["ExpertsParams", "JudgeTraining"]


class JudgeTraining(Section):
    """Training of one judge."""

    steps: int = Field(ge=1, le=2_000_000, description="optimisation steps")
    lr: float = Field(gt=0, le=0.1, description="peak learning rate of AdamW [1]")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    validate_every: int = Field(ge=1, description="steps between validations; the best validation wins")
    width: int = Field(ge=4, le=256, multiple_of=4, description="channels of the first layer")
    dim: int = Field(ge=4, le=1024, description="size of the embedding or features")


class SyncJudge(JudgeTraining):
    """SyncNet."""

    mouth_px: int = Field(ge=32, le=256, multiple_of=16, description="side of the mouth cuts [px]")
    batch: int = Field(ge=2, le=1024, description="clip segments a step")
    segment_frames: int = Field(ge=8, le=200, description="length of a segment; its other moments are the negatives [frames]")


class EmotionJudge(JudgeTraining):
    """Emotion classifier of clips."""

    face_px: int = Field(ge=32, le=256, multiple_of=16, description="side of the face cuts [px]")
    dropout: float = Field(ge=0, lt=1, description="dropout before the verdict [1]")
    clips: int = Field(ge=1, le=1024, description="clips a step")
    frames: int = Field(ge=1, le=100, description="frames drawn of each clip")
    expression_weight: float = Field(ge=0, le=100, description="weight of telling the fitted expression coefficients [1]")
    stills: int = Field(ge=0, le=4096, description="stills a step")


class FeatureJudge(JudgeTraining):
    """Feature network of FID and KID."""

    picture_px: int = Field(ge=32, le=512, multiple_of=32, description="side at which pictures are seen [px]")
    batch: int = Field(ge=2, le=4096, description="pictures a step")
    frames_per_clip: int = Field(ge=1, le=1000, description="frames of each training clip that it may see")

    @model_validator(mode="after")
    def _small(self) -> FeatureJudge:
        if self.dim > 64:
            raise ValueError("features.dim must be at most 64, or FID needs more frames than a test split has")
        return self


class ExpertsParams(Section):
    """The judges."""

    syncnet: SyncJudge
    emotion: EmotionJudge
    features: FeatureJudge
    precision: Literal["fp32", "bf16"] = Field(
        description="number format of the convolutions in training; bf16: bfloat16 where the device has arithmetic for it, else fp32; judges always judge in fp32"
    )
