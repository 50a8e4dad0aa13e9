"""The ablation grids: which variants of a model are compared by which numbers, and what that says about each claim.

A grid is one run of a configuration (configs/ablation_<grid>.yaml) whose table has a row ``<method>__<variant>`` for every training. Variants
whose overlays differ by ``replicate`` alone are trainings of one variant. The statistics are those of `flowvqtalker.metrics.ablation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from flowvqtalker.metrics.ablation import Scores, Verdict, all_hold, any_shows, claim_verdict, paired, pooled, spread
from flowvqtalker.metrics.bootstrap import Estimate, verdict
from flowvqtalker.seeding import numpy_generator
from pipeline.errors import PipelineError
from pipeline.io import read_json
from pipeline.methods import split_row
from pipeline.params import canonical, resolve_variant
from pipeline.stages import STAGES

__all__ = ["GRIDS", "Ablation", "Claim", "ClaimResult", "Grid", "Measure", "VariantResult", "compare", "group_variants", "read_tables"]

BASELINE = "full"
#: Per clip likelihoods that the training of a flow leaves beside its model, and the column that they become.
HELD_OUT, BITS = "held_out.json", "bits_per_dim"


@dataclass(frozen=True)
class Measure:
    """One number that variants are compared by.

    Attributes:
        name: in the csv, with its unit as suffix where it has one.
        label: heading for people.
        decimals: digits after the point.
        direction: what is better; ``near_real`` compares distances to the real value, ``none`` gives no verdict.
        column: of the per-clip tables; "" stands for the name.
        per: column that ``column`` is divided by and weighted with (seconds, for a rate); "" for a plain mean over clips.
        real: the column and the divisor in the table of the real row, for ``near_real``.
        scale: factor on the column.
        pooled: the number is read from metrics.json, since it has no value for a single clip: it gets no paired difference.
    """

    name: str
    label: str
    decimals: int
    direction: Literal["higher", "lower", "near_real", "none"]
    column: str = ""
    per: str = ""
    real: tuple[str, str] = ("", "")
    scale: float = 1.0
    pooled: bool = False


@dataclass(frozen=True)
class Claim:
    """What is said about a part, as comparisons of the variant with it and the variant without it.

    Attributes:
        text: the claim.
        pairs: (with, without); the claim needs every pair.
        measures: names of the numbers that can show it.
        of_paper: whether the paper claims it; else it is a design choice that the grid looks at.
    """

    text: str
    pairs: tuple[tuple[str, str], ...]
    measures: tuple[str, ...]
    of_paper: bool = True


@dataclass(frozen=True)
class Grid:
    """One grid.

    Attributes:
        name: "flow" or "imagegen", also the stage whose variants it holds.
        title: of its tables.
        method: the method of its rows.
        real: row that near-real numbers are compared with.
        measures, claims: in the order of the tables.
    """

    name: str
    title: str
    method: str
    real: str
    measures: tuple[Measure, ...]
    claims: tuple[Claim, ...]


_LIPS_AND_JUDGES = ("bits_per_dim", "lip_correlation", "emotion_acc_pct", "lse_d")
_FIDELITY = ("psnr_face_db", "ssim", "m_lmd_centred_px")
_SHARPNESS = ("cpbd", "mouth_sharpness")
_PARTS = {"no_warp": "warp W", "no_phi": "modulation phi", "no_mhca": "cross-attention MHCA", "no_codebook": "codebook C"}

GRIDS: dict[str, Grid] = {
    grid.name: grid
    for grid in (
        Grid(
            "flow",
            "Ablation of ExpFlow and PoseFlow",
            "clay_paired",
            "clay_on_fitted",
            (
                Measure("bits_per_dim", "Held-out bits per dimension", 3, "lower"),
                Measure("lip_correlation", "Lip correlation", 3, "higher", "sampled_lip_correlation"),
                Measure("emotion_acc_pct", "Emotion acc. [%]", 1, "higher", "emotion_right", scale=100.0),
                Measure("lse_d", "LSE-D (own judge)", 3, "lower"),
                Measure("blinks_per_s", "Blinks [1/s]", 3, "near_real", "sampled_blinks", "sampled_seconds", ("blinks", "seconds")),
                Measure(
                    "expression_over_time", "Expression over time", 4, "near_real", "sampled_expression_over_time",
                    real=("expression_over_time", ""),
                ),
                Measure(
                    "pose_over_time_deg", "Pose over time [deg]", 3, "near_real", "sampled_pose_over_time_deg", real=("pose_over_time_deg", "")
                ),
                Measure("expression_over_seeds", "Expression over seeds", 4, "none", "sampled_expression_over_seeds"),
                Measure("pose_over_seeds_deg", "Pose over seeds [deg]", 3, "none", "sampled_pose_over_seeds_deg"),
            ),
            (
                Claim("Student's-t mixture (SMM) over Gaussian mixture (GMM)", ((BASELINE, "gmm"),), _LIPS_AND_JUDGES),
                Claim("Data dropout helps", ((BASELINE, "no_dropout"),), _LIPS_AND_JUDGES),
                Claim("SMM over one Gaussian", ((BASELINE, "gaussian"),), _LIPS_AND_JUDGES, of_paper=False),
                Claim("Actnorm per emotion over shared actnorm", ((BASELINE, "shared_actnorm"),), _LIPS_AND_JUDGES, of_paper=False),
                Claim("Transformer over LSTM in the couplings", ((BASELINE, "lstm"),), _LIPS_AND_JUDGES, of_paper=False),
            ),
        ),
        Grid(
            "imagegen",
            "Ablation of VQIG",
            "vqig_on_fitted",
            "ground_truth",
            (
                Measure("psnr_face_db", "PSNR face [dB]", 2, "higher"),
                Measure("ssim", "SSIM", 4, "higher"),
                Measure("m_lmd_centred_px", "M-LMD centred [px]", 3, "lower"),
                Measure("lip_correlation", "Lip correlation", 3, "higher"),
                Measure("emotion_acc_pct", "Emotion acc. [%]", 1, "higher", "emotion_right", scale=100.0),
                Measure("lse_d", "LSE-D (own judge)", 3, "lower"),
                Measure("cpbd", "CPBD", 4, "near_real", real=("cpbd", "")),
                Measure("mouth_sharpness", "Mouth sharpness", 3, "near_real", real=("mouth_sharpness", "")),
                Measure("fid_expert", "FID (own features)", 3, "lower", pooled=True),
            ),
            (
                *(Claim(f"The {part} helps", ((BASELINE, variant),), (*_FIDELITY, *_SHARPNESS)) for variant, part in _PARTS.items()),
                Claim(
                    "Order of gains: the codebook C gives the largest gain in fidelity and sharpness",
                    tuple((variant, "no_codebook") for variant in _PARTS if variant != "no_codebook"),
                    (*_FIDELITY, *_SHARPNESS),
                ),
            ),
        ),
    )
}  # fmt: skip


def group_variants(section: Mapping[str, Any], stage: str) -> dict[str, tuple[str, int]]:
    """Variant of the grid and replicate of every named overlay.

    Overlays that differ by ``replicate`` alone are trainings of one variant, which has the name of the one with the smallest number.

    Args:
        section: values of the stage, with its variants.
        stage: "flow" or "imagegen".

    Raises:
        PipelineError: two overlays are equal, so that one training would count twice.
    """
    groups: dict[str, dict[int, str]] = {}
    for name in section["variants"]:
        values = resolve_variant(section, stage, name)
        replicate = values.pop("replicate")
        trainings = groups.setdefault(canonical(values), {})
        if replicate in trainings:
            raise PipelineError(
                f"params: {stage}.variants: '{trainings[replicate]}' and '{name}' are the same training",
                "give one of them another replicate",
            )
        trainings[replicate] = name
    return {name: (trainings[min(trainings)], number) for trainings in groups.values() for number, name in trainings.items()}


Tables = dict[str, dict[int, pd.DataFrame]]


def read_tables(root: Path, grid: Grid, config: Mapping[str, Any]) -> tuple[Tables, pd.DataFrame]:
    """Per-clip tables of a finished grid.

    Args:
        root: folder of the run.
        grid: which grid.
        config: its configuration.

    Returns:
        variant -> replicate -> table of scored clips, by clip; and the table of the real row.

    Raises:
        PipelineError: a table is not there, or no row belongs to the grid.
    """
    members = group_variants(config[grid.name], grid.name)
    cells = read_json(_present(root / STAGES["evaluate"].out))["methods"]
    pooled_names = [measure.name for measure in grid.measures if measure.pooled]
    tables: Tables = {}
    for row in config["generate"]["methods"]:
        method, variant = split_row(row)
        if method != grid.method or not variant:
            continue
        group, replicate = members[variant]
        table = _scored(root, row)
        held_out = (root / STAGES[grid.name].out.format(variant=variant)).with_name(HELD_OUT)
        if held_out.exists():
            bits = {clip: entry["bits_per_dim"] for clip, entry in read_json(held_out).items()}
            table[BITS] = table.index.map(bits)
        table.attrs = {name: cells[row][name] for name in pooled_names}
        tables.setdefault(group, {})[replicate] = table
    if not tables:
        raise PipelineError(f"generate.methods has no row {grid.method}__<variant>", f"use configs/ablation_{grid.name}.yaml")
    return tables, _scored(root, grid.real)


def _present(path: Path) -> Path:
    if not path.exists():
        raise PipelineError(f"{path}: there is no such file", "run the grid: make ablation GRID=flow (or imagegen)")
    return path


def _scored(root: Path, row: str) -> pd.DataFrame:
    path = _present((root / STAGES["evaluate"].out).with_name(f"{row}.csv"))
    table = pd.read_csv(path, dtype={"clip": str, "identity": str})
    return table[table["status"] == "ok"].set_index("clip").sort_index()


@dataclass(frozen=True)
class VariantResult:
    """One variant: how many trainings, pooled values, their standard deviation over trainings, paired differences to the baseline and verdicts."""

    name: str
    replicates: tuple[int, ...]
    values: dict[str, Estimate]
    spreads: dict[str, float]
    differences: dict[str, Estimate] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its verdict, by measure and over all."""

    claim: Claim
    verdict: Verdict
    by_measure: dict[str, Verdict]


@dataclass(frozen=True)
class Ablation:
    """Everything that the tables and the figure of a grid show.

    Attributes:
        grid: which grid.
        variants: the baseline first.
        claims: verdicts.
        real: value of real clips for near-real measures.
        level: coverage of every interval.
    """

    grid: Grid
    variants: list[VariantResult]
    claims: list[ClaimResult]
    real: dict[str, Estimate]
    level: float


class _Comparison:
    """The numbers of a grid as arrays over the same clips."""

    def __init__(self, grid: Grid, tables: Tables, real: pd.DataFrame, seed: int, resamples: int, level: float) -> None:
        self.grid, self.tables, self.real_table, self.seed, self.options = grid, tables, real, seed, (resamples, level)
        self.clips = sorted({clip for trainings in tables.values() for table in trainings.values() for clip in table.index})

    @cached_property
    def people(self) -> list[str]:
        known: dict[str, str] = {}
        for trainings in self.tables.values():
            for table in trainings.values():
                known |= dict(table["identity"])
        return [known[clip] for clip in self.clips]

    def generator(self, *parts: str) -> np.random.Generator:
        return numpy_generator(self.seed, "ablation", self.grid.name, *parts)

    def _scores(self, tables: list[pd.DataFrame], column: str, per: str, scale: float) -> Scores:
        def stacked(name: str) -> np.ndarray:
            rows = [pd.to_numeric(t[name]).reindex(self.clips) if name in t else pd.Series(np.nan, self.clips) for t in tables]
            return np.stack([row.to_numpy(dtype=float) for row in rows])

        values = scale * stacked(column)
        if not per:
            return Scores(values)
        weights = stacked(per)
        return Scores(np.divide(values, weights, out=np.full_like(values, np.nan), where=weights > 0), weights)

    def scores(self, variant: str, measure: Measure, replicates: list[int]) -> Scores:
        tables = [self.tables[variant][number] for number in replicates]
        return self._scores(tables, measure.column or measure.name, measure.per, measure.scale)

    def real(self, measure: Measure) -> Scores | None:
        if measure.direction != "near_real":
            return None
        column, per = measure.real
        return self._scores([self.real_table], column, per, measure.scale)

    def value(self, variant: str, measure: Measure) -> Estimate:
        trainings = self.tables[variant]
        if measure.pooled:
            cells = [trainings[number].attrs[measure.name] for number in sorted(trainings)]
            known = [cell["value"] for cell in cells if cell["value"] is not None]
            ci = tuple(cells[0]["ci"]) if len(cells) == 1 and cells[0]["ci"] else None
            return Estimate(float(np.mean(known)) if known else float("nan"), ci, cells[0]["n"], 0, cells[0]["reason"])
        scores = self.scores(variant, measure, sorted(trainings))
        return pooled(scores, self.people, self.generator(measure.name, variant), *self.options)

    def difference(self, variant: str, baseline: str, measure: Measure) -> Estimate:
        """Variant minus baseline over the trainings of the same numbers."""
        common = sorted(set(self.tables[variant]) & set(self.tables[baseline]))
        if measure.pooled or not common:
            reason = "no value for single clips" if measure.pooled else "no training of the same number"
            return Estimate(float("nan"), None, 0, 0, reason)
        this, other = (self.scores(name, measure, common) for name in (variant, baseline))
        return paired(this, other, self.people, self.generator(measure.name, variant, baseline), *self.options, real=self.real(measure))


def compare(grid: Grid, tables: Tables, real: pd.DataFrame, *, seed: int, resamples: int, level: float) -> Ablation:
    """All numbers of a grid.

    Args:
        grid: which grid.
        tables: variant -> replicate -> per-clip table.
        real: per-clip table of the real row.
        seed: of the resamples.
        resamples: number of resamples.
        level: coverage.

    Raises:
        PipelineError: the baseline is not among the variants.
    """
    if BASELINE not in tables:
        raise PipelineError(f"the grid has no variant '{BASELINE}' to compare with", f"known: {', '.join(tables)}")
    work = _Comparison(grid, tables, real, seed, resamples, level)
    results = []
    for name in [BASELINE, *(name for name in tables if name != BASELINE)]:
        values = {measure.name: work.value(name, measure) for measure in grid.measures}
        spreads = {m.name: spread(work.scores(name, m, sorted(tables[name]))) for m in grid.measures if not m.pooled}
        result = VariantResult(name, tuple(sorted(tables[name])), values, spreads)
        for measure in grid.measures if name != BASELINE else ():
            difference = result.differences[measure.name] = work.difference(name, BASELINE, measure)
            if measure.direction != "none" and not measure.pooled:
                result.verdicts[measure.name] = verdict(difference, measure.direction == "higher")
        results.append(result)
    claims = [_judge(work, claim) for claim in grid.claims if {name for pair in claim.pairs for name in pair} <= set(tables)]
    reals = {
        m.name: pooled(found, work.people, work.generator(m.name, "real"), *work.options) for m in grid.measures if (found := work.real(m))
    }
    return Ablation(grid, results, claims, reals, level)


def _judge(work: _Comparison, claim: Claim) -> ClaimResult:
    by_measure: dict[str, Verdict] = {}
    for measure in work.grid.measures:
        if measure.name in claim.measures:
            pairs = [work.difference(without, having, measure) for having, without in claim.pairs]
            by_measure[measure.name] = all_hold(claim_verdict(pair, measure.direction == "higher") for pair in pairs)
    return ClaimResult(claim, any_shows(by_measure.values()), by_measure)
