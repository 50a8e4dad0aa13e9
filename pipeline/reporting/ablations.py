"""The ablation grids at work: what their runs left on disk, and what it says about each claim.

A grid (`pipeline.reporting.ablation_grids`) is one run of a configuration (configs/ablation_<grid>.yaml) whose table has a row
``<method>__<variant>`` for every training, or whose trainings alone are compared. Variants whose overlays differ by ``replicate`` alone are
trainings of one variant. The statistics are those of `flowvqtalker.metrics.ablation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowvqtalker.metrics.ablation import Scores, Verdict, all_hold, claim_verdict, contrast, pooled, spread
from flowvqtalker.metrics.bootstrap import Estimate, verdict
from flowvqtalker.seeding import numpy_generator
from pipeline.errors import PipelineError
from pipeline.io import read_json, read_torch
from pipeline.methods import split_row
from pipeline.params import canonical, resolve_variant
from pipeline.reporting.ablation_grids import BASELINE, BITS, GRIDS, Claim, Contrast, Grid, Measure, Side, larger_loss, lost_without
from pipeline.reporting.results import Results, Score
from pipeline.reporting.tables import fid_note
from pipeline.stages import STAGES

__all__ = [
    "GRIDS",
    "Ablation",
    "ClaimResult",
    "RunTables",
    "SideResult",
    "VariantResult",
    "compare",
    "grid_trainings",
    "group_variants",
    "read_tables",
]

#: Per clip likelihoods that the training of a flow leaves beside its model, and the model of which they are.
HELD_OUT, EXPFLOW = "held_out.json", "expflow.pt"


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


@dataclass(frozen=True)
class RunTables:
    """What a finished grid left on disk.

    Attributes:
        trainings: variant -> replicate -> table of scored clips, by clip; numbers without a value for a single clip are in its ``attrs``
            as cells {value, ci, n, reason}.
        references: row -> table of scored clips, with ``attrs`` alike and, under "empty", the metrics that have no meaning for the row.
        notes: sentences that belong under the tables of this very run.
    """

    trainings: Tables
    references: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def grid_trainings(grid: Grid, config: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Named overlay -> variant of the grid and replicate, of the trainings that the grid compares: those of its rows, or where it has no rows all flows.

    Raises:
        PipelineError: two overlays are equal, or no row belongs to the grid.
    """
    members = group_variants(config[grid.stage], grid.stage)
    if not grid.method:
        models = {name: resolve_variant(config[grid.stage], grid.stage, name).get("model", "flow") for name in members}
        return {name: found for name, found in members.items() if models[name] == "flow"}
    rows = [split_row(row) for row in config["generate"]["methods"]]
    found = {variant: members[variant] for method, variant in rows if method == grid.method and variant}
    if not found:
        raise PipelineError(f"generate.methods has no row {grid.method}__<variant>", f"use configs/ablation_{grid.name}.yaml")
    return found


def read_tables(root: Path, grid: Grid, config: Mapping[str, Any]) -> RunTables:
    """Per-clip tables of a finished grid.

    Args:
        root: folder of the run.
        grid: which grid.
        config: its configuration.

    Raises:
        PipelineError: a table is not there, or no row belongs to the grid.
    """
    members = grid_trainings(grid, config)
    document = read_json(_present(root / STAGES["evaluate"].out)) if grid.method else {"methods": {}}
    cells = document["methods"]
    tables: Tables = {}
    for variant, (group, replicate) in members.items():
        folder = (root / STAGES[grid.stage].out.format(variant=variant)).parent
        row = f"{grid.method}__{variant}"
        table = _scored(root, row) if grid.method else _held_out(folder)
        if grid.method and (folder / HELD_OUT).exists():
            # Likelihoods are known of every take, rows score one take of each sentence.
            held_out = _held_out(folder)
            table = table.join(held_out[[BITS]], how="outer")
            table["identity"] = table["identity"].fillna(held_out["identity"])
        table.attrs = {measure.name: cells[row][measure.name] for measure in grid.measures if measure.source == "row"}
        if any(measure.source == "training" for measure in grid.measures):
            metrics = read_json(_present(folder / "metrics.json"))
            known = [measure for measure in grid.measures if measure.source == "training"]
            table.attrs |= {m.name: {"value": metrics.get(m.column), "ci": None, "n": 0, "reason": "no interval"} for m in known}
        tables.setdefault(group, {})[replicate] = table
    if grid.sides:
        _to_units_of_the_baseline(root, grid, members, tables)
    references = {row: _scored(root, row) for row in grid.references if row in config["generate"]["methods"]}
    for row, table in references.items():
        table.attrs = {measure.name: cells[row][measure.name] for measure in grid.measures if measure.source == "row"}
        table.attrs["empty"] = [name for name, cell in cells[row].items() if cell["value"] is None]
    notes = [grid.note] if grid.note else []
    if any(measure.name == "fid_expert" for measure in grid.measures):
        notes.append(_fid_note(document))
    return RunTables(tables, references, tuple(filter(None, notes)))


def _present(path: Path) -> Path:
    if not path.exists():
        raise PipelineError(f"{path}: there is no such file", f"run the grid: make ablation GRID=<{'|'.join(GRIDS)}>")
    return path


def _scored(root: Path, row: str) -> pd.DataFrame:
    path = _present((root / STAGES["evaluate"].out).with_name(f"{row}.csv"))
    table = pd.read_csv(path, dtype={"clip": str, "identity": str})
    return table[table["status"] == "ok"].set_index("clip").sort_index()


def _held_out(folder: Path) -> pd.DataFrame:
    """Likelihood of each test clip under a trained flow, with its identity, by clip."""
    table = pd.DataFrame.from_dict(read_json(_present(folder / HELD_OUT)), orient="index", columns=["identity", BITS])
    return table.rename_axis("clip").sort_index()


def _units(folder: Path) -> tuple[tuple[int, ...], float]:
    """Coefficients that a flow models, and the mean of log2 of the standard deviations that they are divided by: bits per dimension less in its units."""
    weights = read_torch(_present(folder / EXPFLOW))["weights"]
    kept = weights["kept"]
    return tuple(kept.tolist()), float(weights["sd"][kept].double().log2().mean())


def _to_units_of_the_baseline(root: Path, grid: Grid, members: Mapping[str, tuple[str, int]], tables: Tables) -> None:
    """Give all likelihoods in the standardised units of the baseline.

    A flow standardises by its own training frames. Corrupted frames widen them, and in wider units the same density counts as fewer bits, which
    would hide what the corruption costs.
    """
    units = {name: _units((root / STAGES[grid.stage].out.format(variant=name)).parent) for name in members}
    kept, base = units[next(name for name, (group, _) in members.items() if group == BASELINE)]
    for name, (group, replicate) in members.items():
        if units[name][0] != kept:
            raise PipelineError(
                f"{grid.stage}.variants.{name} models {len(units[name][0])} coefficients and {BASELINE} {len(kept)}, so their bits do not compare",
                f"choose {grid.stage}.min_sd so that both keep the same ones",
            )
        tables[group][replicate][BITS] += units[name][1] - base


def _fid_note(document: Mapping[str, Any]) -> str:
    """How noisy FID is on this run's clips, in the words of the result table."""
    floor = document["methods"].get("other_take", {}).get("fid_expert", {}).get("value")
    return fid_note(Results({"other_take": {"fid_expert": Score(floor)}}, floors=document.get("floors") or {}))


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
    """A claim with its verdict, the verdict by measure, and by measure the contrasts that gave it."""

    claim: Claim
    verdict: Verdict
    by_measure: dict[str, Verdict]
    estimates: dict[str, list[Estimate]]


@dataclass(frozen=True)
class SideResult:
    """A line of the table with two conditions side by side, by measure.

    Attributes:
        side: which line.
        losses: second condition minus first.
        beyond: that, minus the same of the variant which losses are compared with; empty for itself.
        verdicts: better where less is lost than by that variant.
    """

    side: Side
    losses: dict[str, Estimate]
    beyond: dict[str, Estimate] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """Everything that the tables and the figure of a grid show.

    Attributes:
        grid: which grid.
        variants: the baseline first.
        claims: verdicts.
        references: row -> measure -> value, of rows that are no variants; a measure without a meaning for a row is not there.
        sides: the table with two conditions side by side.
        notes: sentences under the tables.
        level: coverage of every interval.
    """

    grid: Grid
    variants: list[VariantResult]
    claims: list[ClaimResult]
    references: dict[str, dict[str, Estimate]]
    sides: list[SideResult]
    notes: tuple[str, ...]
    level: float


class _Comparison:
    """The numbers of a grid as arrays over the same clips."""

    def __init__(self, grid: Grid, run: RunTables, seed: int, resamples: int, level: float) -> None:
        self.grid, self.tables, self.references, self.seed, self.options = grid, run.trainings, run.references, seed, (resamples, level)
        self.clips = sorted({clip for trainings in self.tables.values() for table in trainings.values() for clip in table.index})

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
        """Real values (1, N) of a near-real number; None for any other."""
        if measure.direction != "near_real":
            return None
        if self.grid.real not in self.references:
            raise PipelineError(f"generate.methods has no row {self.grid.real}", f"use configs/ablation_{self.grid.name}.yaml")
        column, per = measure.real
        return self._scores([self.references[self.grid.real]], column, per, measure.scale)

    def reference(self, row: str, measure: Measure) -> Estimate | None:
        """Value of a reference row; None where the measure has no meaning for it.

        Numbers of sampled motion are a row's own where it samples any; a row that takes real motion over shows that of near-real numbers.
        """
        table = self.references[row]
        if measure.source == "row":
            return _of_cells([table.attrs[measure.name]])
        sampled = measure.column.startswith("sampled_")
        if not sampled and measure.name in table.attrs["empty"]:
            return None
        column, per = measure.column or measure.name, measure.per
        if sampled and column not in table:
            column, per = measure.real
        if not column or column not in table:
            return None
        found = pooled(self._scores([table], column, per, measure.scale), self.people, self.generator(measure.name, row), *self.options)
        return found if np.isfinite(found.value) else None

    def value(self, variant: str, measure: Measure) -> Estimate:
        trainings = self.tables[variant]
        if measure.source != "clips":
            return _of_cells([trainings[number].attrs[measure.name] for number in sorted(trainings)])
        scores = self.scores(variant, measure, sorted(trainings))
        return pooled(scores, self.people, self.generator(measure.name, variant), *self.options)

    def spread(self, variant: str, measure: Measure) -> float:
        """Standard deviation over the trainings of a variant; NaN with fewer than two."""
        trainings = self.tables[variant]
        if measure.source == "clips":
            return spread(self.scores(variant, measure, sorted(trainings)))
        values = [table.attrs[measure.name]["value"] for table in trainings.values()]
        return spread(Scores(np.array([[np.nan if value is None else value] for value in values], dtype=float)))

    def contrast(self, terms: Contrast, measure: Measure) -> Estimate:
        """Weighted sum of variants over the trainings of the same numbers; the draws do not depend on the order of the terms or their signs."""
        names = [name for name, _ in terms]
        common = sorted(set.intersection(*(set(self.tables[name]) for name in names)))
        if measure.source != "clips" or not common:
            reason = "no training of the same number" if measure.source == "clips" else "no value for single clips"
            return Estimate(float("nan"), None, 0, 0, reason)
        sides = [(weight, self.scores(name, measure, common)) for name, weight in terms]
        return contrast(sides, self.people, self.generator(measure.name, *sorted(names)), *self.options, real=self.real(measure))


def _of_cells(cells: list[dict[str, Any]]) -> Estimate:
    """Mean over trainings of numbers that have no value for a single clip; with the interval of a single training, where it has one."""
    known = [cell["value"] for cell in cells if cell["value"] is not None]
    ci = tuple(cells[0]["ci"]) if len(cells) == 1 and cells[0]["ci"] else None
    return Estimate(float(np.mean(known)) if known else float("nan"), ci, cells[0]["n"], 0, cells[0]["reason"])


def compare(grid: Grid, run: RunTables, *, seed: int, resamples: int, level: float) -> Ablation:
    """All numbers of a grid.

    Args:
        grid: which grid.
        run: what it left on disk.
        seed: of the resamples.
        resamples: number of resamples.
        level: coverage.

    Raises:
        PipelineError: the baseline is not among the variants, or the row of real values not among the rows.
    """
    tables = run.trainings
    if BASELINE not in tables:
        raise PipelineError(f"the grid has no variant '{BASELINE}' to compare with", f"known: {', '.join(tables)}")
    work = _Comparison(grid, run, seed, resamples, level)
    results = []
    for name in [BASELINE, *(name for name in tables if name != BASELINE)]:
        values = {measure.name: work.value(name, measure) for measure in grid.measures}
        spreads = {measure.name: work.spread(name, measure) for measure in grid.measures}
        result = VariantResult(name, tuple(sorted(tables[name])), values, spreads)
        for measure in grid.measures if name != BASELINE else ():
            difference = result.differences[measure.name] = work.contrast(lost_without(name), measure)
            if measure.direction != "none" and measure.source == "clips":
                result.verdicts[measure.name] = verdict(difference, measure.direction == "higher")
        results.append(result)
    claims = [_judge(work, claim) for claim in grid.claims if {name for terms in claim.contrasts for name, _ in terms} <= set(tables)]
    references = {
        row: {measure.name: found for measure in grid.measures if (found := work.reference(row, measure)) is not None}
        for row in run.references
    }
    sides = [_side(work, side) for side in grid.sides if {side.first, side.second} <= set(tables)]
    return Ablation(grid, results, claims, references, sides, run.notes, level)


def _judge(work: _Comparison, claim: Claim) -> ClaimResult:
    """The primary numbers decide, all of them; secondary ones get a verdict of their own."""
    by_measure: dict[str, Verdict] = {}
    estimates: dict[str, list[Estimate]] = {}
    for measure in work.grid.measures:
        if measure.name in (*claim.primary, *claim.secondary):
            found = estimates[measure.name] = [work.contrast(terms, measure) for terms in claim.contrasts]
            by_measure[measure.name] = all_hold(claim_verdict(one, measure.direction == "higher") for one in found)
    return ClaimResult(claim, all_hold(by_measure[name] for name in claim.primary), by_measure, estimates)


def _side(work: _Comparison, side: Side) -> SideResult:
    result = SideResult(side, {})
    against = next((other for other in work.grid.sides if other.first == work.grid.side_against), None)
    for measure in (m for m in work.grid.measures if m.source == "clips" and m.direction != "none"):
        loss = lost_without(side.second, having=side.first)
        result.losses[measure.name] = work.contrast(loss, measure)
        if against is not None and against != side and {against.first, against.second} <= set(work.tables):
            beyond = work.contrast(larger_loss(loss, lost_without(against.second, having=against.first)), measure)
            result.beyond[measure.name] = beyond
            result.verdicts[measure.name] = verdict(beyond, measure.direction == "higher")
    return result
