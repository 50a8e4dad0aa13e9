"""Weights of others that a configuration uses beside what it trains itself; read by `doctor` and by whatever runs those networks."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pipeline.params.base import Field, Section

__all__ = ["OutsideParams"]

Judge = Literal["syncnet", "inception", "lpips", "pyfeat"]


class OutsideParams(Section):
    """Networks trained elsewhere. None of them is ever a training loss.

    ``judges`` says which weights `flowvqtalker doctor` and `make assets` ask for; it switches nothing on: `flowvqtalker evaluate` takes the files
    by its own flags, `flowvqtalker fex` runs py-feat (docs/outside_parts.md).
    """

    judges: tuple[Judge, ...] = Field(
        description="syncnet: the official LSE-D and LSE-C; inception: FID of the literature; lpips: LPIPS of VGG-16; pyfeat: action units"
    )
    speech: Literal["none", "wav2vec2", "hubert"] = Field(
        description="speech features that `flowvqtalker speech` makes of every crop, beside the mel spectrogram"
    )

    @model_validator(mode="after")
    def _once_each(self) -> OutsideParams:
        if len(set(self.judges)) != len(self.judges):
            raise ValueError("judges: one is named twice")
        return self
