"""Parameters of the `crop` step: tracks, boxes and what counts as a usable clip."""

from __future__ import annotations

from pipeline.params.base import Field, Section

__all__ = ["CropParams"]


class CropParams(Section):
    """One static square per face track, resized to one size for all clips."""

    size_px: int = Field(ge=32, le=1024, multiple_of=16, description="side of the crops [px]")
    scale: float = Field(ge=1, le=4, description="side of the box over the face's size (larger side of the landmarks' box) [1]")
    shift_up_share: float = Field(ge=-0.3, le=0.3, description="the box moves up by this share of its side: landmarks end at the brows [1]")
    max_gap_frames: int = Field(ge=0, le=250, description="a face lost for longer ends its track [frames at 25 Hz]")
    max_jump_share: float = Field(
        gt=0, le=5, description="a move between frames of more than this share of the face's size ends the track [1]"
    )
    min_frames: int = Field(ge=1, le=10_000, description="shorter tracks are rejected [frames at 25 Hz]")
    min_face_px: float = Field(ge=1, le=1000, description="smaller faces are rejected: size in the source [px]")
    min_present_share: float = Field(ge=0, le=1, description="tracks with a face in a smaller share of their frames are rejected [1]")
    silent_db: float = Field(ge=-120, le=0, description="sound whose loudest 40 ms stay below is called silent [dB of full scale]")
    crf: float = Field(ge=0, le=51, description="x264 quality of the crops; lower is better")
    max_failed_share: float = Field(ge=0, le=1, description="largest share of clips that may fail or be rejected [1]")
