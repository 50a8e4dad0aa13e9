"""Parameters of the `audio` step. The spectrogram's settings are Wav2Lip's and fixed (docs/conventions.md)."""

from __future__ import annotations

from pipeline.params.base import Field, Section

__all__ = ["AudioParams"]


class AudioParams(Section):
    """Which sounds are accepted."""

    max_failed_share: float = Field(ge=0, le=1, description="largest share of clips that may fail or have no sound [1]")
