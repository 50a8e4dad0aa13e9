"""Parameters of the `fit3dmm` step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.params.base import Field, Section

if TYPE_CHECKING:
    from flowvqtalker.fit.solver import FitConfig

__all__ = ["Fit3dmmParams"]


class PhotometricParams(Section):
    """Refinement by pixels; slow, and not needed for the targets."""

    enabled: bool = Field(description="refine beta and pose by the clip's colours")
    rasterizer: Literal["auto", "torch", "pytorch3d"] = Field(description="visibility; auto takes pytorch3d on CUDA when installed")
    steps: int = Field(ge=1, le=500, description="Adam steps a batch [steps]")
    lr: float = Field(gt=0, le=0.1, description="step size [coefficient, rad, 0.1 cm]")
    landmark_weight: float = Field(ge=0, le=10, description="weight of staying at the landmarks [1/px^2]")
    batch: int = Field(ge=1, le=64, description="frames refined together [frames]")


class Fit3dmmParams(Section):
    """Energy of the landmark fit (src/flowvqtalker/fit/solver.py)."""

    model: Literal["clay", "ict", "bfm"] = Field(description="face model that is fitted")
    asset: str = Field(description="file of the face model, or its name in the asset folders; empty for clay and for the default of ict")
    landmark_sd_pct: float = Field(gt=0, le=20, description="landmark noise [% of the outer-eye distance]")
    jaw_line_weight: float = Field(gt=0, le=1, description="weight of points 0-16, which slide along the face [1]")
    gap_weight: float = Field(ge=0, le=10, description="weight of lid and lip gaps relative to points [1]")
    expression_sd: float = Field(gt=0, le=5, description="prior spread of an expression coefficient before its shape's factor [1]")
    blendshape_sd: float = Field(gt=0, le=5, description="the same around the blendshape scores of a landmark back end that gives them [1]")
    asymmetry_sd: float = Field(gt=0, le=5, description="prior spread of left-right differences before the shape's factor [1]")
    identity_sd: float = Field(gt=0, le=10, description="prior spread of identity coefficients relative to people's [1]")
    smooth_sd: float = Field(gt=0, le=5, description="ordinary change of slow shapes between frames [1]")
    smooth_fast_sd: float = Field(gt=0, le=5, description="ordinary change of blinks, jaw and mouth between frames [1]")
    smooth_angle_rad: float = Field(gt=0, le=1, description="ordinary turn of the head between frames [rad]")
    smooth_shift_cm: float = Field(gt=0, le=10, description="ordinary shift of the head between frames [cm]")
    smooth_gain: float = Field(ge=0, le=100, description="further ordinary change in motion [low-passed change a frame]")
    smooth_fast_gain: float = Field(ge=0, le=100, description="the same for blinks, jaw and mouth")
    neutral_sd_share: float = Field(gt=0, le=1, description="factor on expression_sd for the identity's neutral enrolment frames [1]")
    identity_frames: int = Field(ge=1, le=200, description="frames that decide the identity [frames]")
    iterations: int = Field(ge=1, le=100, description="Gauss-Newton steps of the frames [steps]")
    identity_iterations: int = Field(ge=1, le=100, description="Gauss-Newton steps of the identity [steps]")
    light: bool = Field(description="fit spherical-harmonic light to the skin's colours; zeros otherwise")
    photometric: PhotometricParams
    max_failed_share: float = Field(ge=0, le=1, description="largest share of clips that may fail or be rejected [1]")

    def fit_config(self) -> FitConfig:
        """The library's settings."""
        from flowvqtalker.fit.solver import FitConfig  # here, so that reading parameters does not load torch

        return FitConfig(**{name: getattr(self, name) for name in FitConfig.__dataclass_fields__})
