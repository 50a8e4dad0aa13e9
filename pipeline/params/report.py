"""Parameters of the `report` step."""

from __future__ import annotations

from pipeline.params.base import Field, Section

__all__ = ["ReportParams"]


class ReportParams(Section):
    """What the page shows and how large it may grow."""

    gallery_methods: tuple[str, ...] = Field(
        min_length=1, description="videos side by side in the gallery, left to right; a method that was not generated is left out"
    )
    gallery_clips_per_emotion: int = Field(ge=0, le=20, description="clips shown for each emotion [clips]")
    gallery_seconds: float = Field(gt=0, le=60, description="longest part of a clip that is shown [s]")
    gallery_height_px: int = Field(
        ge=32, le=512, multiple_of=2, description="height of a gallery video; larger frames are reduced to it [px]"
    )
    gallery_crf: int = Field(ge=0, le=51, description="x264 quality of gallery videos; smaller is better and larger [1]")
    page_limit_mb: float = Field(gt=0, le=200, description="largest size of the page; gallery clips that do not fit are left out [MB]")
    curve_points: int = Field(ge=10, le=5000, description="most points drawn of one learning curve [points]")
