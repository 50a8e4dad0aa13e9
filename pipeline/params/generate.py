"""Parameters of the `generate` step and of `flowvqtalker animate`."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from pipeline.methods import check_row
from pipeline.params.base import Field, Section

__all__ = ["GenerateParams"]


class GenerateParams(Section):
    """Which rows of the table are made, by which models, and how motion is sampled."""

    methods: tuple[str, ...] = Field(
        min_length=1, description="rows of the result table: <method>, or <method>__<variant> of its model (pipeline/methods.py)"
    )
    flow_variant: str = Field(description="variant of `flow` that talks; empty leaves its rows out")
    regression_variant: str = Field(description="variant of `flow` that is the regression baseline; empty leaves its row out")
    imagegen_variant: str = Field(description="variant of `imagegen` that draws")
    temperature: float = Field(ge=0, le=2, description="factor of the latent noise of ExpFlow [1]")
    pose_temperature: float = Field(ge=0, le=2, description="factor of the latent noise of PoseFlow [1]")
    emotion_guidance: float = Field(
        ge=0, le=3, description="factor of what the expression owes to the emotion; above 1 it is shown more than it was learnt [1]"
    )
    crf: int = Field(ge=0, le=51, description="x264 quality of every video, real or generated [1]")
    rollout_batch: int = Field(ge=1, le=4096, description="clips rolled out together [clips]")
    render_batch: int = Field(ge=1, le=512, description="frames rendered together [frames]")
    precision: Literal["bf16", "fp32"] = Field(
        description="arithmetic of the image generator; bf16: bfloat16 where the device has arithmetic for it, else fp32"
    )
    long_minutes: float = Field(gt=0, le=6000, description="motion sampled for statistics, all rows and seeds together [min]")
    long_row_s: float = Field(gt=0, le=3600, description="length of one long row [s]")
    long_seeds: int = Field(ge=2, le=64, description="samples of every long row [1]")
    max_failed_share: float = Field(ge=0, le=1, description="largest share of test clips that may fail [1]")

    @field_validator("methods")
    @classmethod
    def _rows_are_known(cls, rows: tuple[str, ...]) -> tuple[str, ...]:
        for row in rows:
            check_row(row)
        return rows
