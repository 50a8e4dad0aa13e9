"""What the result table contains: its rows and columns, their order, direction, precision and meaning.

Names, order and direction of the columns are those of `flowvqtalker.metrics.registry`; here they get headings, decimals and a sentence
for readers. A method or a column that the evaluation adds is appended, so an experiment never loses a number because the report did not
know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flowvqtalker.metrics.registry import METRICS
from pipeline.methods import split_row

__all__ = [
    "BASELINE",
    "COLUMNS",
    "COUNTS",
    "FURTHER",
    "METHODS",
    "PAPER_COLUMNS",
    "PUBLISHED",
    "Column",
    "Direction",
    "Group",
    "Method",
    "Published",
    "column_of",
    "method_of",
]


class Direction(StrEnum):
    """Which value of a column is the best one."""

    HIGHER = "higher is better"
    LOWER = "lower is better"
    ZERO = "closest to zero is best"
    REAL = "closest to real video is best"
    NONE = "no best value"

    @property
    def arrow(self) -> str:
        """Short sign for a table heading."""
        return {"HIGHER": "↑", "LOWER": "↓", "ZERO": "→0", "REAL": "≈real", "NONE": ""}[self.name]


class Group(StrEnum):
    """How a row is to be read. Only `GENERATED` and `CONTROL` rows compete for the best mark."""

    REFERENCE = "real video and ceilings"
    GENERATED = "generated"
    CONTROL = "controls"


@dataclass(frozen=True)
class Column:
    """One column of the result table.

    Attributes:
        name: column name in `metrics.json` and in the csv; the unit is its suffix.
        label: heading for people.
        direction: which value is best.
        decimals: digits after the point in every table, so that files are byte-stable.
        meaning: one sentence.
    """

    name: str
    label: str
    direction: Direction
    decimals: int
    meaning: str


@dataclass(frozen=True)
class Method:
    """One row of the result table: its name in the files, its group and what it is."""

    name: str
    group: Group
    meaning: str


@dataclass(frozen=True)
class Published:
    """One line of numbers that the paper reports, with where they were read."""

    name: str
    values: dict[str, float]
    source: str


#: Heading, decimals and one sentence for each registered metric; one without an entry gets its own name and four decimals.
_WORDS: dict[str, tuple[str, int, str]] = {
    "psnr_db": ("PSNR [dB]", 2, "Peak signal-to-noise ratio of whole frames against the real clip."),
    "psnr_face_db": ("PSNR face [dB]", 2, "The same inside the face mask only."),
    "ssim": ("SSIM", 4, "Structural similarity of whole frames."),
    "fid_expert": ("FID (own features)", 3, "Fréchet distance of image features from this project's own feature judge."),
    "kid_expert": ("KID (own features)", 5, "Kernel distance of the same features."),
    "m_lmd_centred_px": ("M-LMD centred [px]", 3, "Mean Euclidean mouth landmark distance, each set centred, at 256 px."),
    "m_lmd_raw_px": ("M-LMD raw [px]", 3, "Mean absolute mouth landmark difference per coordinate, not centred, at 256 px."),
    "f_lmd_centred_px": ("F-LMD centred [px]", 3, "As M-LMD centred, over all 68 landmarks."),
    "f_lmd_raw_px": ("F-LMD raw [px]", 3, "As M-LMD raw, over all 68 landmarks."),
    "lse_d": ("LSE-D (own judge)", 3, "Smallest mean distance of lip and speech embeddings over the shifts, own SyncNet."),
    "lse_c": ("LSE-C (own judge)", 3, "Median minus smallest distance over the shifts, own SyncNet."),
    "av_offset_frames": ("AV offset [frames]", 2, "Shift at the smallest distance; positive means the sound is late."),
    "emotion_acc_pct": ("Emotion acc. [%]", 2, "Share of clips whose emotion this project's own video judge names."),
    "blinks_per_s": ("Blinks [1/s]", 3, "Blinks per second: all blinks over all seconds."),
    "pose_over_time_deg": ("Pose over time [deg]", 3, "How much the head turns along a clip."),
    "pose_over_seeds_deg": ("Pose over seeds [deg]", 3, "How far two samples for the same sound lie apart in head rotation."),
    "n_scored": ("n scored", 0, "Clips that were scored."),
    "n_expected": ("n expected", 0, "Clips that should have been scored."),
    "av_within_1_pct": ("Within 1 frame [%]", 2, "Share of one-second windows whose offset is at most one frame."),
    "emotion_macro_pct": ("Emotion acc. macro [%]", 2, "Mean over emotions of the share of clips named rightly."),
    "emotion_level_1_pct": ("Emotion acc. level 1 [%]", 2, "Emotion accuracy on clips of level 1 (weakest)."),
    "emotion_level_2_pct": ("Emotion acc. level 2 [%]", 2, "Emotion accuracy on clips of level 2."),
    "emotion_level_3_pct": ("Emotion acc. level 3 [%]", 2, "Emotion accuracy on clips of level 3 (strongest)."),
    "lip_correlation": ("Lip correlation", 3, "Correlation of lip opening with the real clip."),
    "cpbd": ("CPBD", 4, "Share of edges without visible blur, on the generated frames."),
    "mouth_sharpness": ("Mouth sharpness", 3, "Local contrast inside the mouth region."),
    "flicker": ("Flicker", 3, "Change from frame to frame."),
    "flicker_compensated": (
        "Flicker, motion compensated",
        3,
        "Change from frame to frame that moving blocks of the picture do not explain.",
    ),
    "identity_similarity": ("Identity similarity", 3, "Cosine between the mean upright faces of the clip and of the real clip."),
    "blink_complete_pct": ("Complete blinks [%]", 1, "Share of blinks in which the lids close to 0.8 or more."),
    "blink_interval_distance_s": (
        "Blink interval distance [s]",
        3,
        "Earth mover's distance of the times between blinks to those of real clips.",
    ),
    "expression_over_time": ("Expression over time", 4, "How much the face moves along a clip, in expression coefficients."),
    "blink_duration_s": ("Blink duration [s]", 3, "Mean time from closing to opening."),
    "blink_interval_s": ("Blink interval [s]", 3, "Median time from one blink to the next."),
    "expression_over_seeds": ("Expression over seeds", 4, "How far two samples for the same sound lie apart in expression."),
    "beat_alignment": ("Beat alignment", 4, "How close beats of the head lie to beats of the speech."),
    "faces_found_pct": ("Faces found [%]", 2, "Share of frames in which a face was found."),
}
_DIRECTIONS = {
    "higher": Direction.HIGHER,
    "lower": Direction.LOWER,
    "near_zero": Direction.ZERO,
    "near_real": Direction.REAL,
    "none": Direction.NONE,
}
_COUNT_NAMES = ("n_scored", "n_expected")


def _columns(*, main: bool) -> tuple[Column, ...]:
    found = []
    for metric in METRICS:
        if metric.main == main:
            label, decimals, meaning = _WORDS.get(
                metric.name, (metric.name.replace("_", " "), 4, f"See docs/metrics.md; unit: {metric.unit or 'none'}.")
            )
            found.append(Column(metric.name, label, _DIRECTIONS[metric.direction], decimals, meaning))
    return tuple(found)


#: Metrics of the main table, the two counts that end it, and further metrics that follow.
COLUMNS: tuple[Column, ...] = tuple(column for column in _columns(main=True) if column.name not in _COUNT_NAMES)
COUNTS: tuple[Column, ...] = tuple(column for column in _columns(main=True) if column.name in _COUNT_NAMES)
FURTHER: tuple[Column, ...] = _columns(main=False)

METHODS: tuple[Method, ...] = (
    Method("ground_truth", Group.REFERENCE, "The real test clips, encoded like every other row."),
    Method("other_take", Group.REFERENCE, "Another real take of the same sentence: the floor for everything that is one-to-many."),
    Method("codebook_ceiling", Group.REFERENCE, "Real frames through the frozen codebook: what the decoder can show at all."),
    Method("vqig_on_fitted", Group.REFERENCE, "The image generator driven by coefficients fitted to the real clip."),
    Method("flowvqtalker_paired", Group.GENERATED, "Expression sampled by ExpFlow, head pose fitted to the real clip."),
    Method("flowvqtalker_free", Group.GENERATED, "Expression and head pose both sampled."),
    Method("regression", Group.GENERATED, "Deterministic model of equal size under the same conditions, with the fitted pose."),
    Method("copy_source", Group.CONTROL, "The enrolment frame, still."),
    Method("shuffled_audio", Group.CONTROL, "Ours driven by another test sentence, scored against the original sound."),
)

#: The row that paired differences are taken to.
BASELINE = "flowvqtalker_paired"

#: Rows that only some configurations have: motion drawn by the renderer of the embedded corpus.
_FURTHER_METHODS = {
    method.name: method
    for method in (
        Method("clay_on_fitted", Group.REFERENCE, "Coefficients fitted to the real clip, drawn by the corpus' renderer."),
        Method(
            "clay_paired",
            Group.GENERATED,
            "Expression sampled by ExpFlow, head pose fitted to the real clip, drawn by the corpus' renderer.",
        ),
        Method("clay_regression", Group.GENERATED, "The deterministic model, drawn by the corpus' renderer."),
        Method("clay_shuffled", Group.CONTROL, "ExpFlow driven by another test sentence, drawn by the corpus' renderer."),
    )
}

#: The paper's columns in its order: data set, heading, and the columns of this project that measure the like.
PAPER_COLUMNS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("MEAD-style", "SSIM ↑", ("ssim",)),
    ("MEAD-style", "FID (own features) ↓", ("fid_expert",)),
    ("MEAD-style", "M-LMD raw / centred [px] ↓", ("m_lmd_raw_px", "m_lmd_centred_px")),
    ("MEAD-style", "F-LMD raw / centred [px] ↓", ("f_lmd_raw_px", "f_lmd_centred_px")),
    ("MEAD-style", "CPBD ≈real", ("cpbd",)),
    ("MEAD-style", "Emotion acc. [%] ↑", ("emotion_acc_pct",)),
    ("HDTF-style", "FID (own features) ↓", ("fid_expert",)),
    ("HDTF-style", "CPBD ≈real", ("cpbd",)),
)

_SECOND_HAND = "Tan, Ji and Pan, CVPR 2024, as a public note about the paper quotes it"
PUBLISHED: tuple[Published, ...] = (
    Published(
        "FlowVQTalker, MEAD",
        {"SSIM ↑": 0.689, "FID ↓": 16.553, "M-LMD ↓": 1.939, "F-LMD ↓": 2.061, "CPBD ↑": 0.181, "Emotion acc. [%] ↑": 71.53},
        _SECOND_HAND,
    ),
    Published("FlowVQTalker, HDTF", {"FID ↓": 15.165, "CPBD ↑": 0.268}, _SECOND_HAND),
    Published(
        "FlowVQTalker, user study",
        {"Lip sync [1 to 5] ↑": 4.03, "Image quality [1 to 5] ↑": 4.25, "Emotion named by people [%] ↑": 60.6},
        _SECOND_HAND,
    ),
)

PUBLISHED_NOTE = (
    "Other data, other crops, other judges: not comparable. Published numbers are not measured here and must not be compared with the rows above: "
    "MEAD and HDTF show real people, at another resolution, with Inception features for FID, another emotion classifier, and a landmark distance "
    "whose convention the accessible text does not state; nobody was asked about the videos of this project. "
    "The numbers are quoted second-hand from a public note about the paper; cells that are empty were not found."
)

_COLUMNS = {column.name: column for column in (*COLUMNS, *COUNTS, *FURTHER)}
_METHODS = {method.name: method for method in METHODS}


def column_of(name: str) -> Column:
    """The declared column of that name, or a neutral one for a metric that the evaluation added."""
    return _COLUMNS.get(name) or Column(
        name, name.replace("_", " "), Direction.NONE, 4, "Added by the evaluation; not in the registry of metrics."
    )


def method_of(name: str) -> Method:
    """The row of that name; a row with a variant is of its method's group, any other is generated."""
    method, variant = split_row(name)
    known = _METHODS.get(method) or _FURTHER_METHODS.get(method)
    if known is None:
        return Method(name, Group.GENERATED, "A row added by the configuration.")
    return Method(name, known.group, f"{known.meaning} With variant {variant} of its model.") if variant else known
