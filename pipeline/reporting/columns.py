"""What the result table contains: its rows and columns, their order, direction, precision and meaning.

The order of `COLUMNS` and `METHODS` is the order of `reports/tables/quantitative.csv`. A method or a column that the evaluation adds
is appended after them, so an experiment never loses a number because the report did not know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["COLUMNS", "COUNTS", "METHODS", "PUBLISHED", "Column", "Direction", "Group", "Method", "Published", "column_of", "method_of"]


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


COLUMNS: tuple[Column, ...] = (
    Column("psnr_db", "PSNR [dB]", Direction.HIGHER, 2, "Peak signal-to-noise ratio of whole frames against the real clip."),
    Column("psnr_face_db", "PSNR face [dB]", Direction.HIGHER, 2, "The same inside the face mask only."),
    Column("ssim", "SSIM", Direction.HIGHER, 4, "Structural similarity of whole frames, Gaussian window 11, sigma 1.5."),
    Column(
        "fid_expert", "FID (own features)", Direction.LOWER, 3, "Fréchet distance of image features from this project's own feature judge."
    ),
    Column("kid_expert", "KID (own features)", Direction.LOWER, 5, "Kernel distance of the same features."),
    Column(
        "m_lmd_centred_px",
        "M-LMD centred [px]",
        Direction.LOWER,
        3,
        "Mean Euclidean mouth landmark distance, both sets centred, at 256 px.",
    ),
    Column(
        "m_lmd_raw_px",
        "M-LMD raw [px]",
        Direction.LOWER,
        3,
        "Mean absolute mouth landmark difference per coordinate, not centred, at 256 px.",
    ),
    Column("f_lmd_centred_px", "F-LMD centred [px]", Direction.LOWER, 3, "As M-LMD centred, over all 68 landmarks."),
    Column("f_lmd_raw_px", "F-LMD raw [px]", Direction.LOWER, 3, "As M-LMD raw, over all 68 landmarks."),
    Column(
        "lse_d",
        "LSE-D (own judge)",
        Direction.LOWER,
        3,
        "Smallest mean distance of lip and speech embeddings over the shifts, own SyncNet.",
    ),
    Column("lse_c", "LSE-C (own judge)", Direction.HIGHER, 3, "Median minus smallest distance over the shifts, own SyncNet."),
    Column(
        "av_offset_frames", "AV offset [frames]", Direction.ZERO, 2, "Shift at the smallest distance; positive means the sound is late."
    ),
    Column(
        "emotion_acc_pct", "Emotion acc. [%]", Direction.HIGHER, 2, "Share of clips whose emotion this project's own video judge names."
    ),
    Column(
        "blinks_per_s", "Blinks [1/s]", Direction.REAL, 3, "Blinks per second, counted on eye closure over long rollouts where they exist."
    ),
    Column("pose_over_time_deg", "Pose over time [deg]", Direction.REAL, 3, "Standard deviation of head rotation along a clip."),
    Column(
        "pose_over_seeds_deg",
        "Pose over seeds [deg]",
        Direction.REAL,
        3,
        "Mean distance in head rotation between two samples for the same sound.",
    ),
)

COUNTS: tuple[Column, ...] = (
    Column("n_scored", "n scored", Direction.NONE, 0, "Clips that were scored."),
    Column("n_expected", "n expected", Direction.NONE, 0, "Clips that should have been scored."),
)

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

PUBLISHED: tuple[Published, ...] = (
    Published(
        "FlowVQTalker, MEAD",
        {"SSIM": 0.689, "FID": 16.553, "M-LMD": 1.939, "F-LMD": 2.061, "CPBD": 0.181, "Emotion acc. [%]": 71.53},
        "Tan, Ji and Pan, CVPR 2024",
    ),
    Published("FlowVQTalker, HDTF", {"FID": 15.165, "CPBD": 0.268}, "Tan, Ji and Pan, CVPR 2024"),
)

PUBLISHED_NOTE = (
    "Published numbers are not measured here and must not be compared with the rows above: other data (MEAD and HDTF, real people), another resolution, "
    "Inception features for FID, another emotion classifier, and a landmark distance whose convention the accessible text does not state. "
    "They are quoted second-hand from a public note about the paper; cells that are empty were not found."
)

_COLUMNS = {column.name: column for column in (*COLUMNS, *COUNTS)}
_METHODS = {method.name: method for method in METHODS}


def column_of(name: str) -> Column:
    """The declared column of that name, or a neutral one for a metric that the evaluation added."""
    return _COLUMNS.get(name) or Column(name, name.replace("_", " "), Direction.NONE, 4, "Added by the evaluation; see docs/metrics.md.")


def method_of(name: str) -> Method:
    """The declared row of that name, or a generated one for a variant that the evaluation added."""
    return _METHODS.get(name) or Method(name, Group.GENERATED, "A variant added by the configuration.")
