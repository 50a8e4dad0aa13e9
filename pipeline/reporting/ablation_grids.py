"""The ablation grids, declared: which variants are compared by which numbers, which number decides each claim, which rows stand beside them.

What decides a claim is written here before anything is run; docs/experiments.md says why that number and no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BASELINE", "BITS", "GRIDS", "Claim", "Contrast", "Grid", "Measure", "Side", "larger_loss", "lost_without"]

BASELINE = "full"
#: Column of the held-out likelihoods, which the training of a flow leaves beside its model.
BITS = "bits_per_dim"


@dataclass(frozen=True)
class Measure:
    """One number that variants are compared by.

    Attributes:
        name: in the csv, with its unit as suffix where it has one.
        label: heading for people.
        decimals: digits after the point.
        direction: what is better; ``near_real`` compares distances to the real value, ``none`` gives no verdict.
        column: of the per-clip tables, or of the model's metrics.json; "" stands for the name.
        per: column that ``column`` is divided by and weighted with (seconds, for a rate); "" for a plain mean over clips.
        real: the column and the divisor in the tables of rows that take real motion over.
        scale: factor on the column.
        source: "clips", the per-clip tables; "row", the row's cell in the evaluation's metrics.json, and "training", the model's own
            metrics.json: those two have no value for a single clip, and so no paired difference.
    """

    name: str
    label: str
    decimals: int
    direction: Literal["higher", "lower", "near_real", "none"]
    column: str = ""
    per: str = ""
    real: tuple[str, str] = ("", "")
    scale: float = 1.0
    source: Literal["clips", "row", "training"] = "clips"


#: Weighted sum of variants that lies on the worse side of 0 where a claim holds.
Contrast = tuple[tuple[str, float], ...]


def lost_without(variant: str, having: str = BASELINE) -> Contrast:
    """What a variant without a part loses against one that has it."""
    return ((variant, 1.0), (having, -1.0))


def larger_loss(first: Contrast, second: Contrast) -> Contrast:
    """How much more is lost by the first than by the second: a difference of differences."""
    weights: dict[str, float] = {}
    for sign, contrast in ((1.0, first), (-1.0, second)):
        for variant, weight in contrast:
            weights[variant] = weights.get(variant, 0.0) + sign * weight
    return tuple(weights.items())


@dataclass(frozen=True)
class Claim:
    """What is said about a part, as contrasts of variants.

    Attributes:
        text: the claim.
        contrasts: the claim needs every one.
        primary: names of the numbers that decide, all of which have to show it; declared before anything is run.
        secondary: names of further numbers, whose verdicts are printed and decide nothing.
        of_paper: whether the paper claims it; else it is a design choice that the grid looks at.
    """

    text: str
    contrasts: tuple[Contrast, ...]
    primary: tuple[str, ...]
    secondary: tuple[str, ...] = ()
    of_paper: bool = True


@dataclass(frozen=True)
class Side:
    """One line of a table with two conditions side by side: the variants of one model under the first and under the second."""

    label: str
    first: str
    second: str


@dataclass(frozen=True)
class Grid:
    """One grid.

    Attributes:
        name: of its configuration.
        stage: whose variants it holds, "flow" or "imagegen".
        title: of its tables.
        measures, claims: in the order of the tables.
        method: of the rows of its variants; "" where no clips are generated, and trainings are compared by what they leave themselves.
        real: row that near-real numbers are compared with.
        references: rows that are no variants and stand beside them: real clips, ceilings, controls.
        note: sentences under the tables on how to read this grid.
        sides: lines of the table with two conditions side by side.
        side_words: what the two conditions are.
        side_against: variant under the first condition whose loss the other losses are compared with.
    """

    name: str
    stage: Literal["flow", "imagegen"]
    title: str
    measures: tuple[Measure, ...]
    claims: tuple[Claim, ...]
    method: str = ""
    real: str = ""
    references: tuple[str, ...] = ()
    note: str = ""
    sides: tuple[Side, ...] = ()
    side_words: tuple[str, str] = ("", "")
    side_against: str = ""


_LIKELIHOOD = Measure(BITS, "Held-out bits per dimension", 3, "lower")
#: Numbers of rollouts that a likelihood under the real past does not see.
_ROLLOUT = ("lip_correlation", "emotion_acc_pct", "lse_d")

_FLOW = Grid(
    name="flow",
    stage="flow",
    # The likelihood is ExpFlow's alone; of PoseFlow only the spread of its samples is in the table, and no variant changes its latent.
    title="Ablation of ExpFlow",
    method="clay_paired",
    real="clay_on_fitted",
    references=("ground_truth", "clay_on_fitted", "clay_shuffled"),
    measures=(
        _LIKELIHOOD,
        Measure("lip_correlation", "Lip correlation", 3, "higher", "sampled_lip_correlation"),
        Measure("emotion_acc_pct", "Emotion acc. [%]", 1, "higher", "emotion_right", scale=100.0),
        Measure("lse_d", "LSE-D (own judge)", 3, "lower"),
        Measure("blinks_per_s", "Blinks [1/s]", 3, "near_real", "sampled_blinks", "sampled_seconds", ("blinks", "seconds")),
        Measure(
            "expression_over_time",
            "Expression over time",
            4,
            "near_real",
            "sampled_expression_over_time",
            real=("expression_over_time", ""),
        ),
        Measure(
            "pose_over_time_deg", "Pose over time [deg]", 3, "near_real", "sampled_pose_over_time_deg", real=("pose_over_time_deg", "")
        ),
        Measure("expression_over_seeds", "Expression over seeds", 4, "none", "sampled_expression_over_seeds"),
        Measure("pose_over_seeds_deg", "Pose over seeds [deg]", 3, "none", "sampled_pose_over_seeds_deg"),
    ),
    claims=(
        # The paper's words are overfitting and outliers: how likely clips of unseen people are.
        Claim("Student's-t mixture (SMM) over Gaussian mixture (GMM)", (lost_without("gmm"),), (BITS,), _ROLLOUT),
        # Dropout takes the real past away, which the likelihood is taken under; what it is for shows where the flow meets its own past.
        Claim("Data dropout helps", (lost_without("no_dropout"),), ("lip_correlation",), (BITS, "emotion_acc_pct", "lse_d")),
        Claim(
            "Protecting the history, dropout and noise together, helps",
            (lost_without("clean_history"),),
            ("lip_correlation",),
            (BITS, "emotion_acc_pct", "lse_d"),
            of_paper=False,
        ),
        Claim("SMM over one Gaussian", (lost_without("gaussian"),), (BITS,), _ROLLOUT, of_paper=False),
        Claim("Actnorm per emotion over shared actnorm", (lost_without("shared_actnorm"),), (BITS,), _ROLLOUT, of_paper=False),
        Claim("Transformer over LSTM in the couplings", (lost_without("lstm"),), (BITS,), _ROLLOUT, of_paper=False),
    ),
)

#: Priors of the grid of priors: what they are called, and the variant trained on clean data. Those of the flow grid keep their names there,
#: since a variant's name is part of its training's key: their trainings are the same ones.
_PRIORS = (
    ("SMM, nu 2", "nu2"), ("SMM, nu 5", "nu5"), ("SMM, nu 50", BASELINE), ("GMM", "gmm"), ("one Gaussian", "gaussian"),
)  # fmt: skip


def _corrupted(variant: str) -> str:
    return f"{variant}_corrupted"


def _corruption_loss(variant: str) -> Contrast:
    return lost_without(_corrupted(variant), having=variant)


def _claims_of_priors() -> tuple[Claim, ...]:
    """The paper does not give nu: the value of the default configuration, 50, carries its claim, the other two are a sweep of ours."""
    claims: list[Claim] = []
    mixtures = [(label, variant) for label, variant in _PRIORS if label.startswith("SMM")]
    for text, contrast_of in (
        ("{} over GMM on clean data", lambda variant: lost_without("gmm", having=variant)),
        (
            "{} loses less through corrupted frames than GMM",
            lambda variant: larger_loss(_corruption_loss("gmm"), _corruption_loss(variant)),
        ),
        ("{} over GMM, both trained on corrupted data", lambda variant: lost_without(_corrupted("gmm"), having=_corrupted(variant))),
    ):
        of_paper = "both" not in text
        claims += [
            Claim(text.format(label), (contrast_of(variant),), (BITS,), of_paper=of_paper and variant == BASELINE)
            for label, variant in mixtures
        ]
    return tuple(claims)


_PRIOR = Grid(
    name="prior",
    stage="flow",
    title="Latents of ExpFlow, trained on clean data and on data with corrupted frames",
    measures=(
        _LIKELIHOOD,
        Measure("rollout_lip_correlation", "Lip correlation (validation)", 3, "higher", "expflow_lip_correlation", source="training"),
        Measure("rollout_jitter_ratio", "Jitter, sampled over real (validation)", 3, "none", "expflow_jitter_ratio", source="training"),
        Measure("rollout_spread_ratio", "Spread, sampled over real (validation)", 3, "none", "expflow_spread_ratio", source="training"),
    ),
    claims=_claims_of_priors(),
    sides=tuple(Side(label, variant, _corrupted(variant)) for label, variant in _PRIORS),
    side_words=("clean", "corrupted"),
    side_against="gmm",
    note=(
        "Corrupted: flow.corrupted_share of the training frames have a random expression, the same frames and values for every latent. Test clips "
        "are clean. Likelihoods are of ExpFlow on every take of the test clips, all in the standardised units of the clean data; the other numbers are of rollouts of "
        "the validation clips, means over trainings. No clips are rendered for this grid. The loss through corruption also holds what corrupted frames do to "
        "the audio conditioner and to the map of each coefficient to a normal one, which are alike for all latents: between latents the loss "
        "beyond that of GMM compares."
    ),
)

_PARTS = {"no_phi": "modulation phi", "no_mhca": "cross-attention MHCA", "no_codebook": "codebook C"}
_SECONDARY_PICTURES = ("ssim", "m_lmd_centred_px")
#: Of the codebook the paper says both: fidelity and sharpness.
_FIDELITY_AND_SHARPNESS = ("psnr_face_db", "mouth_sharpness")


def _part_claim(text: str, contrasts: tuple[Contrast, ...], *, codebook: bool, of_paper: bool = True) -> Claim:
    if codebook:
        return Claim(text, contrasts, _FIDELITY_AND_SHARPNESS, _SECONDARY_PICTURES, of_paper)
    return Claim(text, contrasts, ("psnr_face_db",), (*_SECONDARY_PICTURES, "mouth_sharpness"), of_paper)


def _picture_claims(prefix: str, whole: str, words: str, *, of_paper: bool) -> tuple[Claim, ...]:
    """What is said about the parts behind the warp, of the arms whose names begin with ``prefix``; ``whole`` has all of them."""

    def lost(variant: str, having: str | None = None) -> Contrast:
        return lost_without(prefix + variant, whole if having is None else prefix + having)

    the, order, built = ("the", "order", "built up:") if words else ("The", "Order", "Built up:")
    return (
        *(
            _part_claim(
                f"{words}{the} {part} helps",
                (lost(variant),),
                codebook=variant == "no_codebook",
                of_paper=of_paper and variant == "no_codebook",
            )
            for variant, part in _PARTS.items()
        ),
        _part_claim(
            f"{words}{order} of gains behind the warp, one part left out: the codebook C gives the largest gain in fidelity and sharpness",
            tuple(lost("no_codebook", having=variant) for variant in _PARTS if variant != "no_codebook"),
            codebook=True,
            of_paper=False,
        ),
        # The paper's own order. Its last step, C on all before it, is "The codebook C helps" above.
        _part_claim(f"{words}{built} phi on W helps", (lost("w_only", having="w_phi"),), codebook=False, of_paper=of_paper),
        _part_claim(f"{words}{built} MHCA on W and phi helps", (lost("w_phi", having="no_codebook"),), codebook=False, of_paper=of_paper),
        _part_claim(
            f"{words}{order} of gains, built up: the step to the codebook C is larger in fidelity and sharpness than those to phi and MHCA",
            (
                larger_loss(lost("no_codebook"), lost("w_only", having="w_phi")),
                larger_loss(lost("no_codebook"), lost("w_phi", having="no_codebook")),
            ),
            codebook=True,
            of_paper=of_paper,
        ),
    )


_IMAGEGEN = Grid(
    name="imagegen",
    stage="imagegen",
    title="Ablation of VQIG",
    method="vqig_on_fitted",
    real="ground_truth",
    references=("ground_truth", "other_take", "codebook_ceiling", "copy_source"),
    # No CPBD: it looks at whole blocks of 64 px, so a 64 px picture is one block, which one threshold on its edges lets in or leaves out.
    measures=(
        Measure("psnr_face_db", "PSNR face [dB]", 2, "higher"),
        Measure("ssim", "SSIM", 4, "higher"),
        Measure("m_lmd_centred_px", "M-LMD centred [px]", 3, "lower"),
        Measure("lip_correlation", "Lip correlation", 3, "higher"),
        Measure("emotion_acc_pct", "Emotion acc. [%]", 1, "higher", "emotion_right", scale=100.0),
        Measure("lse_d", "LSE-D (own judge)", 3, "lower"),
        Measure("mouth_sharpness", "Mouth sharpness", 3, "near_real", real=("mouth_sharpness", "")),
        Measure("fid_expert", "FID (own features)", 3, "lower", source="row"),
    ),
    claims=(
        *_picture_claims("no_blend_", "no_blend", "", of_paper=True),
        _part_claim("With the mask: the warp W helps", (lost_without("no_warp"),), codebook=False, of_paper=False),
        *_picture_claims("", BASELINE, "With the mask: ", of_paper=False),
    ),
    note=(
        "Arms no_warp, no_phi, no_mhca and no_codebook leave one part out of the whole. The paper adds parts in the order W, phi, MHCA, C: those arms are "
        "w_only, w_phi, no_codebook (W, phi and MHCA) and full. What W adds to nothing is in neither: no_warp keeps what follows W. "
        "Arms no_blend_* have the same parts without the mask that lays the warped picture over the decoded one (docs/decisions/0032), beside no_blend, "
        "which is whole but for the mask. The paper has no mask, so they decide what it claims; with the mask most of a face does not go through phi, MHCA and C at all."
    ),
)

GRIDS: dict[str, Grid] = {grid.name: grid for grid in (_FLOW, _PRIOR, _IMAGEGEN)}
