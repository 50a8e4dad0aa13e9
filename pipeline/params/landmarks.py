"""Parameters of the landmark back end, shared by the steps `landmarker`, `crop` and `evaluate`."""

from __future__ import annotations

from typing import Literal

from pipeline.params.base import Field, Section

__all__ = ["LandmarksParams"]


class LandmarksParams(Section):
    """Which back end finds the 68 points, and how its output is taken."""

    backend: Literal["trained", "mediapipe", "face_alignment"] = Field(
        description="trained: learnt from the embedded corpus; mediapipe: 478 points and blendshapes; face_alignment: 2D-FAN"
    )
    min_score: float = Field(ge=0.05, le=0.95, description="confidence below which a frame has no face [1]")
    smooth_sd_frames: float = Field(
        ge=0, le=1, description="Gaussian smoothing of the points over time; 0.5 keeps 89 % of a short blink's depth [frames]"
    )
    fan_flip: bool = Field(description="face_alignment only: average with the mirrored picture, at twice the time")
    precision: Literal["fp32", "bf16"] = Field(
        description="trained only: number format of the networks' convolutions when they look for points; bf16: bfloat16 where the device has arithmetic for it, else fp32"
    )
