"""Small tables beneath the main ones, as plain texts that Markdown, LaTeX and the page print alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.reporting.columns import BASELINE, PAPER_COLUMNS, PUBLISHED, PUBLISHED_NOTE, column_of
from pipeline.reporting.differences import design_sentence
from pipeline.reporting.results import Results, Score

__all__ = ["Block", "blocks", "differences_csv", "format_number"]


@dataclass(frozen=True)
class Block:
    """A table of texts.

    Attributes:
        label: short name, for anchors and references.
        title: heading.
        note: how to read it.
        head: headings; the first is that of the rows' names.
        rows: one tuple of texts a row, as long as the heading.
        code: whether rows are named by identifiers.
    """

    label: str
    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    code: bool = True


def format_number(value: float, decimals: int) -> str:
    """Fixed number of decimals, without a negative zero.

    Example:
        >>> format_number(-0.0004, 2), format_number(27.3051, 2)
        ('0.00', '27.31')
    """
    text = f"{value:.{decimals}f}"
    return text[1:] if text.startswith("-") and float(text) == 0 else text


def blocks(results: Results) -> list[Block]:
    """What stands beneath the tables: differences, the paper's columns, and last what the paper published."""
    found = [differences_block(results), paper_block(results), published_block()]
    return [block for block in found if block.rows]


def differences_block(results: Results) -> Block:
    """Paired differences to `flowvqtalker_paired`, one row a method."""
    columns = list(dict.fromkeys(one.column for one in results.differences))
    methods = list(dict.fromkeys(one.method for one in results.differences))
    cells = {(one.method, one.column): one for one in results.differences}
    rows = []
    for method in methods:
        texts, counts = [], []
        for column in columns:
            one = cells.get((method, column))
            if one is None:
                texts.append("")
                continue
            counts.append(one.estimate.n)
            texts.append(" ".join(part for part in (*_numbers(one.estimate.value, one.estimate.ci, column), one.word) if part))
        spread = sorted(set(counts))
        rows.append((method, *texts, str(spread[0]) if len(spread) == 1 else f"{spread[0]}-{spread[-1]}"))
    level = f"{100 * results.interval:g} %"
    note = (
        f"Each row minus {BASELINE} on the same clips, with its {level} bootstrap interval clustered by identity, and in words what that means for "
        "the row: better, worse, or undecided (the interval holds 0, which is not the same as equal: equal means that no resample differs). AV offset: difference of absolute values, "
        "mean over clips. Blinks: difference of the distances to the real rate, all on the test clips, so below 0 is closer to real. FID and KID "
        f"compare sets and have no value of a clip; the head motion of {BASELINE} is that of the real clip. "
        f"{design_sentence(results)} No correction is made for the number of comparisons."
    )
    return Block(
        "differences", f"Differences to {BASELINE}", note, ("method", *(_heading(name) for name in columns), "n clips"), tuple(rows)
    )


def differences_csv(results: Results) -> str:
    """The same in long form with plain numbers: one line a row and column, LF line ends."""
    lines = ["method,column,n,n_identities,difference,ci_low,ci_high,verdict"]
    for one in results.differences:
        estimate, decimals = one.estimate, column_of(one.column).decimals
        value = format_number(estimate.value, decimals) if math.isfinite(estimate.value) else ""
        low, high = ("", "") if estimate.ci is None else (format_number(bound, decimals) for bound in estimate.ci)
        lines.append(f"{one.method},{one.column},{estimate.n},{estimate.n_clusters},{value},{low},{high},{one.word}")
    return "\n".join(lines) + "\n"


def paper_block(results: Results) -> Block:
    """Our rows in the paper's columns and their order."""
    rows = []
    for method, row in results.scores.items():
        texts = [" / ".join(part for name in names if (part := _value(row.get(name), name))) for _, _, names in PAPER_COLUMNS]
        if any(texts):
            rows.append((method, *texts))
    head = ("method", *(f"{group}: {title}" for group, title, _ in PAPER_COLUMNS))
    note = (
        "The columns of the paper's tables in their order, measured by this run on its own test clips with its own judges. A run has one test set, so "
        "its FID and CPBD stand in both groups. Landmark distances: raw (mean absolute difference per coordinate) / centred (mean Euclidean "
        "distance), since the paper's convention is not known. CPBD depends on the picture's size and background: read it against ground_truth."
    )
    return Block("paper-columns", "In the paper's columns", note, head, tuple(rows))


def published_block() -> Block:
    """The paper's own numbers."""
    names = list(dict.fromkeys(name for entry in PUBLISHED for name in entry.values))
    rows = tuple(
        (entry.name, *("" if entry.values.get(name) is None else f"{entry.values[name]:g}" for name in names), entry.source)
        for entry in PUBLISHED
    )
    return Block(
        "published", "Published by the paper, not measured here", PUBLISHED_NOTE, ("published for", *names, "source"), rows, code=False
    )


def _heading(column: str) -> str:
    spec = column_of(column)
    return f"{spec.label} {spec.direction.arrow}".strip()


def _numbers(value: float, ci: tuple[float, float] | None, column: str) -> tuple[str, str]:
    decimals = column_of(column).decimals
    text = format_number(value, decimals) if math.isfinite(value) else ""
    return text, "" if ci is None else f"[{format_number(ci[0], decimals)}, {format_number(ci[1], decimals)}]"


def _value(score: Score | None, column: str) -> str:
    return "" if score is None or score.value is None else format_number(score.value, column_of(column).decimals)
