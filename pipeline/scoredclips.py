"""The test clips that are scored, with everything a method may use: fitted coefficients, sound, source picture, other takes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowvqtalker.constants import EMOTIONS, intensity_of
from flowvqtalker.seeding import derive_seed, numpy_generator
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import ok_rows, read_index, read_npz
from pipeline.media import read_frames
from pipeline.synthesis import Source

Row = dict[str, Any]
#: Seeds stay below this, so that a table shows all their digits and `flowvqtalker animate --seed` can repeat one.
SEEDS = 1_000_000


@dataclass(frozen=True)
class ScoredClip:
    """One clip to score.

    Attributes:
        row: of the crop table, with ``fit`` and ``fit_sha256``, ``mel`` and ``mel_sha256`` (empty without sound).
        source_row: the crop whose frame is the source picture.
        source_kind: "enrolment", "other_clip" or "own_first_frame".
        other: row of another take of the same sentence, or None.
        foreign: row of another test sentence whose sound drives ``shuffled_audio``, or None.
        seed: of everything drawn for this clip, the same for every method, so that methods differ by what drives them.
    """

    row: Row
    source_row: Row
    source_kind: str
    other: Row | None
    foreign: Row | None
    seed: int

    @property
    def clip(self) -> str:
        """Clip id."""
        return self.row["clip"]

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return int(self.row["n_frames"])

    @property
    def label(self) -> tuple[int, float]:
        """Emotion label and intensity; (-1, 1) for an unlabelled clip."""
        emotion, level = self.row["emotion"], self.row["level"]
        if not emotion:
            return -1, 1.0
        return EMOTIONS.index(emotion), intensity_of(emotion, int(level) if level == level else 3)


def scored_clips(ctx: Context) -> list[ScoredClip]:
    """First takes of the talking test crops that were fitted, sorted by clip.

    Raises:
        PipelineError: there is none.
    """
    crops = ok_rows(read_index(ctx.reads["crop"], "crop"))
    fits = ok_rows(read_index(ctx.reads["fit3dmm"], "fit3dmm"))[["clip", "file", "sha256"]]
    sounds = ok_rows(read_index(ctx.reads["audio"], "audio")).reindex(columns=["clip", "file", "sha256"])
    table = crops[crops["kind"] == "video"].merge(fits.rename(columns={"file": "fit", "sha256": "fit_sha256"}), on="clip")
    table = table.merge(sounds.rename(columns={"file": "mel", "sha256": "mel_sha256"}), on="clip", how="left")
    rows = table.fillna({"mel": "", "mel_sha256": ""}).sort_values("clip").to_dict("records")
    enrolments = {_person(row): row for row in reversed(rows) if row["role"] == "enrol"}
    takes: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        if row["split"] == "test" and row["role"] != "enrol":
            takes[_utterance(row)].append(row)
    first: list[Row] = []
    other: dict[str, Row | None] = {}
    for group in takes.values():
        group.sort(key=lambda row: (_number(row["take"]), row["clip"]))
        own = [row for row in group if _number(row["take"]) == _number(group[0]["take"])]
        rest = [row for row in group if row not in own]
        for index, row in enumerate(own):
            first.append(row)
            other[row["clip"]] = rest[index] if index < len(rest) else None
    if not first:
        raise PipelineError(
            "stage 'generate': no talking test clip was cropped and fitted", f"look at split, role and status in {ctx.reads['crop']}"
        )
    first.sort(key=lambda row: row["clip"])
    clips = []
    for row in first:
        mates = [mate for mate in first if _person(mate) == _person(row) and mate is not row]
        if _person(row) in enrolments:
            source, kind = enrolments[_person(row)], "enrolment"
        else:
            source, kind = (mates[0], "other_clip") if mates else (row, "own_first_frame")
        seed = derive_seed(ctx.seed, "generate", row["clip"]) % SEEDS
        clips.append(ScoredClip(row, source, kind, other[row["clip"]], _foreign(row, first, ctx.seed), seed))
    return clips


def _person(row: Row) -> tuple:
    return row["source"], row["identity"]


def _number(value: Any) -> float:
    return float(value) if value == value and value != "" else 0.0


def _utterance(row: Row) -> tuple:
    """What all takes of a clip share; a clip of unknown sentence has no other take."""
    return (*_person(row), row["emotion"], _number(row["level"]), row["sentence"] or row["clip"])


def _foreign(row: Row, clips: list[Row], seed: int) -> Row | None:
    """Another test sentence with sound: at least as long where there is one, then in the same voice where there is one."""
    others = [c for c in clips if c["clip"] != row["clip"] and c["mel"] and (c["sentence"] != row["sentence"] or not c["sentence"])]
    others = [c for c in others if c["n_frames"] >= row["n_frames"]] or others
    others = [c for c in others if _person(c) == _person(row)] or others
    return others[int(numpy_generator(seed, row["clip"], "foreign sound").integers(len(others)))] if others else None


def fitted(ctx: Context, row: Row) -> dict[str, np.ndarray]:
    """Fitted coefficients of a crop: beta (T, E), pose (T, 6), error_px (T,) and the rest."""
    return read_npz(ctx.reads["fit3dmm"].parent / row["fit"])


def source_picture(ctx: Context, clip: ScoredClip) -> tuple[Source, int]:
    """Source picture with its coefficients, and its frame number.

    Of an enrolment the calmest frame with a face (least expression, so eyes open and mouth at rest); else the first one with a face.
    """
    fit = fitted(ctx, clip.source_row)
    seen = np.flatnonzero(np.isfinite(fit["error_px"]))
    frame = int(seen[fit["beta"][seen].sum(1).argmin()] if clip.source_kind == "enrolment" else seen[0])
    picture = read_frames(ctx.reads["crop"].parent / clip.source_row["video"], [frame])[0]
    landmarks = read_npz(ctx.reads["crop"].parent / clip.source_row["landmarks"])["landmarks_px"]
    return Source(picture, fit["beta"][frame], fit["pose"][frame], landmarks[frame]), frame
