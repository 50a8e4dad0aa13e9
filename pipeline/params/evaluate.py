"""Parameters of the `evaluate` stage."""

from __future__ import annotations

from pydantic import model_validator

from pipeline.params.base import Field, Section

__all__ = ["EvaluateParams"]


class EvaluateParams(Section):
    """How numbers are pooled and counted."""

    interval: float = Field(gt=0.5, lt=1, description="coverage of every interval [1]")
    bootstrap_resamples: int = Field(ge=50, le=100_000, description="resamples of identities for means and medians")
    distance_resamples: int = Field(ge=20, le=10_000, description="resamples of identities for FID and KID")
    cpbd_every_frames: int = Field(ge=1, le=1000, description="CPBD is taken on every n-th frame [frames]")
    blink_on: float = Field(gt=0, le=1, description="closure of the lids at which a blink starts [1]")
    blink_off: float = Field(gt=0, le=1, description="closure below which it ends [1]")

    @model_validator(mode="after")
    def _hysteresis(self) -> EvaluateParams:
        if self.blink_off > self.blink_on:
            raise ValueError("blink_off must not exceed blink_on")
        return self
