"""Parameters of how other people's recordings are read: whose face is kept, where a shot ends, what is flagged. Used by the step `crop`."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pipeline.params.base import Field, Section

__all__ = ["FootageParams"]

Share = float


class FlagParams(Section):
    """From where on a clip is flagged. Flags reject nothing: they are columns to choose by."""

    blurred_below: float = Field(ge=0, le=255, description="sharpness of the crop (spread of its Laplacian) [grey levels]")
    upscaled_above: float = Field(ge=1, le=100, description="side of the crop over the side of its box in the source [1]")
    turned_above_deg: float = Field(ge=0, le=90, description="median head turn to either side [deg]")
    dark_below: float = Field(ge=0, le=255, description="median luminance of the face [grey levels]")
    bright_above: float = Field(ge=0, le=255, description="median luminance of the face [grey levels]")
    patchy_below: float = Field(ge=0, le=1, description="share of the track's frames with a face [1]")
    clipped_above: float = Field(ge=0, le=1, description="share of the sound's samples at full scale [1]")


class FootageParams(Section):
    """Which faces of a recording become clips, and how their crops move."""

    faces: Literal["largest", "persistent", "chosen", "all"] = Field(
        description="of faces seen at the same time: the largest; the one with the largest size times sightings; the one at `chosen`; every one"
    )
    chosen: dict[str, tuple[Share, Share]] = Field(
        description="clip id of the corpus -> place of its face as shares of the picture's width and height; clips not named here: persistent"
    )
    max_faces: int = Field(ge=1, le=32, description="faces told apart in one picture")
    look_every_frames: int = Field(ge=1, le=50, description="every so many frames all faces are searched [frames at 25 Hz]")
    cut_change: float = Field(
        ge=0, le=255, description="a new shot: so much of a frame is nowhere near in the one before; 0: never [grey levels]"
    )
    max_hold_s: float = Field(
        gt=0, le=10, description="a picture shown for longer than this beyond its time has no face: frozen or damaged [s]"
    )
    min_sharpness: float = Field(
        ge=0, le=255, description="tracks whose crops are less sharp (spread of the Laplacian) are left out [grey levels]"
    )
    wander_ratio: float = Field(
        ge=1,
        le=100,
        description="where one square for the whole track is larger than this times the face's own, the crop follows the face [1]",
    )
    follow_sd_s: float = Field(gt=0, le=60, description="how slowly it follows: standard deviation of the smoothing of its path [s]")
    flags: FlagParams

    @model_validator(mode="after")
    def _places_lie_in_the_picture(self) -> FootageParams:
        for clip, (u, v) in self.chosen.items():
            if not (0 <= u <= 1 and 0 <= v <= 1):
                raise ValueError(f"chosen: '{clip}': expected two shares between 0 and 1, got {u}, {v}")
        if self.chosen and self.faces != "chosen":
            raise ValueError("chosen: names clips, but faces is not 'chosen'")
        return self
