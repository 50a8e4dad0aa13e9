"""Parameters of the `corpus` step: where clips come from, and how large the embedded corpus is."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pipeline.params.base import Field, Section

__all__ = ["CorpusParams", "FolderSource", "Source", "SyntheticCorpus"]

Use = Literal["codebook", "flow", "imagegen", "judges", "landmarker", "test"]
Range = tuple[float, float]


class Source(Section):
    """One place where clips come from."""

    name: str = Field(pattern=r"^[a-z0-9]+$", description="name of the source; column `source` of the index")
    adapter: Literal["synthetic", "folder"] = Field(description="synthetic: made here; folder: videos of the user's")
    root: str = Field(description="folder with the videos; empty for synthetic")
    uses: tuple[Use, ...] = Field(min_length=1, description="what its clips may serve")

    @model_validator(mode="after")
    def _root_belongs_to_folders(self) -> Source:
        if (self.adapter == "folder") != bool(self.root):
            raise ValueError(f"source '{self.name}': adapter 'folder' needs a root, 'synthetic' takes none")
        return self


class FolderSource(Section):
    """How a folder of videos is split; by the hash of the clip id, so adding a clip never moves another."""

    val_share: float = Field(ge=0, lt=1, description="share of the clips for validation [1]")
    test_share: float = Field(ge=0, lt=1, description="share of the clips for testing [1]")


class SyntheticCorpus(Section):
    """The embedded corpus; meanings of the numbers of people and clips: flowvqtalker.corpus.plan.CorpusSize."""

    train_identities: int = Field(ge=1, le=10_000, description="people of the training split")
    val_identities: int = Field(ge=1, le=1000, description="people of the validation split")
    test_identities: int = Field(ge=2, le=1000, description="people of the test split")
    train_clips: int = Field(ge=1, le=1000, description="talking clips of each training person")
    val_clips: int = Field(ge=1, le=1000, description="talking clips of each validation person")
    test_clips: int = Field(ge=1, le=1000, description="scored talking clips of each test person")
    test_takes: int = Field(ge=2, le=10, description="takes of each test clip; the first is scored, the second is the row other_take")
    still_identities: int = Field(ge=0, le=10_000, description="further people who are seen in single pictures only")
    stills_per_identity: int = Field(ge=1, le=1000, description="pictures of each of them")
    still_val_share: float = Field(ge=0, lt=1, description="share of these people in the validation split [1]")
    raw_size_px: int = Field(ge=64, le=1024, multiple_of=2, description="side of the raw frames [px]")
    face_share: Range = Field(description="width of the face between the ears, as a share of the frame's width; least and most [1]")
    rate_wpm: int = Field(ge=80, le=300, description="speaking rate of a neutral voice [words a minute]")
    lead_s: float = Field(ge=0, le=2, description="silence before the sentence [s]")
    tail_s: float = Field(ge=0, le=2, description="silence after the sentence [s]")
    max_clip_s: float = Field(ge=0.4, le=60, description="longest clip; a longer sentence is cut off [s]")
    crf: float = Field(ge=0, le=51, description="x264 quality of the raw videos; lower is better")

    @model_validator(mode="after")
    def _face_fits(self) -> SyntheticCorpus:
        low, high = self.face_share
        if not 0.2 <= low <= high <= 0.75:
            raise ValueError("face_share: expected 0.2 <= least <= most <= 0.75")
        return self


class CorpusParams(Section):
    """Sources of clips."""

    sources: tuple[Source, ...] = Field(min_length=1, description="where clips come from")
    max_failed_share: float = Field(ge=0, le=1, description="largest share of clips that may fail [1]")
    folder: FolderSource
    synthetic: SyntheticCorpus

    @model_validator(mode="after")
    def _names_are_unique(self) -> CorpusParams:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("sources: two have the same name")
        return self
