"""Parameters of the `corpus` step: where clips come from, and how large the embedded corpus is."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pipeline.params.base import Field, Section

__all__ = ["CorpusParams", "FolderSource", "SegmentParams", "Source", "StillsParams", "SyntheticCorpus"]

Use = Literal["codebook", "flow", "imagegen", "judges", "landmarker", "test"]
Range = tuple[float, float]


class SegmentParams(Section):
    """Long recordings are cut into pieces of equal length when the corpus is indexed."""

    seconds: float = Field(ge=1, le=600, description="length of a piece [s]")
    min_seconds: float = Field(ge=0.04, le=600, description="a shorter rest at the end is left out [s]")
    crf: float = Field(ge=0, le=51, description="x264 quality of the pieces; lower is better")


class StillsParams(Section):
    """Single pictures: how they are kept."""

    size_px: int = Field(ge=64, le=1024, description="side to which the pictures are resized [px]")
    per_clip: int = Field(ge=1, le=1000, description="pictures in one row of the index")


class Source(Section):
    """One place where clips come from. The optional keys are features that a source uses or not; which adapter takes which is checked."""

    name: str = Field(pattern=r"^[a-z0-9]+$", description="name of the source; column `source` of the index")
    adapter: Literal["synthetic", "folder", "mead", "hdtf", "cremad", "ravdess", "grid", "voxceleb", "ffhq"] = Field(
        description="synthetic: made here; folder: any videos; the others read a data set's own tree (docs/datasets.md)"
    )
    root: str = Field(description="folder with the files; empty for synthetic")
    uses: tuple[Use, ...] = Field(min_length=1, description="what its clips may serve")
    views: tuple[Literal["front", "top", "down", "left_30", "left_60", "right_30", "right_60"], ...] = Field(
        default=(), description="mead: cameras that are read"
    )
    unlabelled: Literal["none", "neutral", ""] = Field(
        default="", description="hdtf, voxceleb, which have no emotion labels: leave clips unlabelled, or call them neutral"
    )
    segment: SegmentParams | None = Field(default=None, description="hdtf: cut clips into pieces; whole clips when absent")
    stills: StillsParams | None = Field(default=None, description="ffhq: size and grouping of the pictures")
    split_lists: dict[Literal["train", "val", "test"], str] = Field(
        default_factory=dict,
        description="files that list the clips of a published split (JSON list or one name a line); others are left out",
    )
    shared_identities: bool = Field(default=False, description="accept that people occur in several splits; rows say so")
    checksums: str = Field(default="", description="CSV with columns path, sha256: every file must be listed and agree")
    labels: str = Field(default="", description="folder: CSV of labels outside the root; index.csv in the root when empty")

    @model_validator(mode="after")
    def _keys_belong_to_the_adapter(self) -> Source:
        if (self.adapter == "synthetic") == bool(self.root):
            raise ValueError(f"source '{self.name}': adapter '{self.adapter}' needs a root, 'synthetic' takes none")
        needed = {"views": ("mead",), "unlabelled": ("hdtf", "voxceleb"), "stills": ("ffhq",)}
        readers = ("mead", "hdtf", "cremad", "ravdess", "grid", "voxceleb")
        allowed = needed | {
            "segment": ("hdtf",),
            "split_lists": readers,
            "checksums": readers,
            "labels": ("folder",),
            "shared_identities": (*readers, "folder"),
        }
        for key, adapters in allowed.items():
            given = bool(getattr(self, key))
            if given and self.adapter not in adapters:
                raise ValueError(f"source '{self.name}': '{key}' belongs to {', '.join(adapters)}, not to adapter '{self.adapter}'")
            if not given and self.adapter in needed.get(key, ()):
                raise ValueError(f"source '{self.name}': adapter '{self.adapter}' needs '{key}'")
        if self.adapter == "ffhq" and set(self.uses) != {"codebook"}:
            raise ValueError(f"source '{self.name}': stills of strangers without labels serve the codebook only: uses: [codebook]")
        return self


class FolderSource(Section):
    """Shares where no split is published: of the clips of a folder, of the people of a data set; by hash, so adding one never moves another."""

    val_share: float = Field(ge=0, lt=1, description="share of the clips or people for validation [1]")
    test_share: float = Field(ge=0, lt=1, description="share of the clips or people for testing [1]")


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
