"""The result table as csv (plain numbers), Markdown and LaTeX (intervals, best marks, footnotes).

All three are byte-stable: fixed decimals per column, fixed order, no dates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.reporting.blocks import Block, blocks, format_number
from pipeline.reporting.columns import COLUMNS, COUNTS, Direction, Group, column_of, method_of
from pipeline.reporting.judges import judge_note
from pipeline.reporting.results import Results

__all__ = [
    "Cell",
    "best_methods",
    "cells",
    "fid_note",
    "footnotes",
    "format_number",
    "notes_of_judges",
    "quantitative_csv",
    "quantitative_md",
    "quantitative_tex",
]

TITLE = "Quantitative results on the test identities"
READING = (
    "Brackets: 95 % bootstrap interval, clustered by identity. Bold: best of the generated rows and controls in a column "
    "(real video, ceilings and the row driven by fitted coefficients do not compete). Arrows: direction. "
    "Judges and image features are this project's own, trained on the same corpus' training identities; "
    "their numbers cannot be compared with numbers from other judges."
)


@dataclass(frozen=True)
class Cell:
    """A cell ready to print: number and interval as text ("" when absent), whether it is the best, footnote number or 0."""

    text: str
    interval: str = ""
    best: bool = False
    note: int = 0


def best_methods(results: Results, column: str) -> set[str]:
    """Rows with the best value of a column among generated rows and controls; ties at the printed precision are all best.

    A column whose best value is the real one needs a real value (`ground_truth`, else `other_take`); without one nothing is marked,
    and neither is anything when fewer than two rows compete or all are equal.
    """
    spec = column_of(column)
    values = {
        method: float(format_number(score.value, spec.decimals))
        for method, row in results.scores.items()
        if method_of(method).group is not Group.REFERENCE and (score := row.get(column)) is not None and score.value is not None
    }
    if len(values) < 2 or spec.direction is Direction.NONE:
        return set()
    if spec.direction is Direction.HIGHER:
        badness = {method: -value for method, value in values.items()}
    elif spec.direction is Direction.LOWER:
        badness = dict(values)
    elif spec.direction is Direction.ZERO:
        badness = {method: abs(value) for method, value in values.items()}
    else:
        real = next((value for name in ("ground_truth", "other_take") if (value := _value(results, name, column)) is not None), None)
        if real is None:
            return set()
        target = float(format_number(real, spec.decimals))
        badness = {method: round(abs(value - target), spec.decimals) for method, value in values.items()}
    least = min(badness.values())
    if least == max(badness.values()):
        return set()  # no row is better than another
    return {method for method, value in badness.items() if value == least}


def fid_note(results: Results) -> str:
    """One sentence on how noisy FID is on this data; "" when the run did not measure it."""
    noise = results.floors.get("fid_noise") or {}
    if noise.get("halves_mean") is None:
        return ""
    decimals = column_of("fid_expert").decimals
    mean, low, high = (format_number(noise[name], decimals) for name in ("halves_mean", "halves_low", "halves_high"))
    floor = results.scores.get("other_take", {}).get("fid_expert")
    text = (
        f"How noisy FID is here: two halves of the {noise['clips']} real clips ({noise['people']} people, the same in both halves) lie "
        f"{mean} apart [{low}, {high}]"
    )
    if floor is not None and floor.value is not None:
        text += f", another take of every sentence {format_number(floor.value, decimals)}"
    told = noise.get("smallest_difference")
    if told is None:
        return f"{text}; the smallest difference that this table can tell is not known: {noise.get('reason') or 'not measured'}."
    return (
        f"{text}; rows that differ by less than {format_number(told, decimals)} (half the interval of a paired difference, median over rows) "
        "cannot be told apart."
    )


def notes_of_judges(results: Results) -> list[str]:
    """What has to stand beside the judges' numbers: how good the judges are, and how noisy FID is."""
    return [note for note in (judge_note(results.judges), fid_note(results)) if note]


def footnotes(results: Results) -> list[str]:
    """Reasons of empty cells and remarks on others, each once, in the order of the table."""
    found: list[str] = []
    for row in results.scores.values():
        for column in _metrics(results):
            score = row.get(column)
            if score is not None and score.reason and score.reason not in found:
                found.append(score.reason)
    return found


def cells(results: Results) -> dict[str, dict[str, Cell]]:
    """Method -> column -> printed cell, counts included."""
    notes = {reason: number for number, reason in enumerate(footnotes(results), start=1)}
    best = {column: best_methods(results, column) for column in _metrics(results)}
    printed: dict[str, dict[str, Cell]] = {}
    for method, row in results.scores.items():
        printed[method] = {}
        for column in _metrics(results):
            score, decimals = row.get(column), column_of(column).decimals
            if score is None:
                printed[method][column] = Cell("")
                continue
            text = "" if score.value is None else format_number(score.value, decimals)
            interval = "" if score.ci is None else f"[{format_number(score.ci[0], decimals)}, {format_number(score.ci[1], decimals)}]"
            printed[method][column] = Cell(text, interval, method in best[column], notes.get(score.reason, 0))
    return printed


def main_columns() -> list[str]:
    """Columns of the main table after `method`."""
    return [column.name for column in (*COLUMNS, *COUNTS)]


def quantitative_csv(results: Results) -> str:
    """Plain numbers with a point, empty cells where there is none, one row a method, LF line ends; further metrics follow the main ones."""
    printed, columns = cells(results), [*main_columns(), *results.further]
    lines = [",".join(["method", *columns])]
    lines += [",".join([method, *(row[column].text if column in row else "" for column in columns)]) for method, row in printed.items()]
    return "\n".join(lines) + "\n"


def quantitative_md(results: Results) -> str:
    """GitHub Markdown: the table, its footnotes, how to read it, further metrics, differences, and the paper's own numbers in a block of their own."""
    printed = cells(results)
    lines = [f"# {TITLE}", "", *_md_table(printed, main_columns())]
    lines += ["", READING, ""]
    for note in notes_of_judges(results):
        lines += [note, ""]
    lines += [f"<sup>{number}</sup> {sentence(reason)}  " for number, reason in enumerate(footnotes(results), start=1)]
    lines += ["", "## Further metrics", "", *_md_table(printed, results.further)] if results.further else []
    for block in blocks(results):
        lines += ["", f"## {block.title}", "", block.note, "", *_md_block(block)]
    return "\n".join(lines) + "\n"


def quantitative_tex(results: Results) -> str:
    """Tables for the booktabs and graphicx packages; intervals stand small behind the number."""
    printed = cells(results)
    lines = [
        "% Written by the report step; needs \\usepackage{booktabs,graphicx}.",
        "\\begin{table*}",
        "\\centering",
        f"\\caption{{{TITLE}. {tex_escape(READING)}}}",
        "\\label{tab:quantitative}",
        *_tex_tabular(printed, main_columns()),
    ]
    notes = [f"\\textsuperscript{{{number}}}~{tex_escape(sentence(reason))}" for number, reason in enumerate(footnotes(results), start=1)]
    notes += [tex_escape(note) for note in notes_of_judges(results)]
    lines += [f"\\\\[2pt]{{\\footnotesize {' '.join(notes)}}}"] if notes else []
    lines += ["\\end{table*}", ""]
    if results.further:
        lines += ["\\begin{table*}", "\\centering", "\\caption{Further metrics.}", "\\label{tab:further}"]
        lines += [*_tex_tabular(printed, results.further), "\\end{table*}", ""]
    for block in blocks(results):
        lines += _tex_block(block)
    return "\n".join(lines) + "\n"


def _md_table(printed: Mapping[str, Mapping[str, Cell]], columns: list[str]) -> list[str]:
    labels = [f"{column_of(name).label} {column_of(name).direction.arrow}".strip() for name in columns]
    lines = [md_row(["method", *labels]), md_row(["---", *(["---:"] * len(labels))])]
    return lines + [md_row([f"`{method}`", *(_md_cell(row.get(column)) for column in columns)]) for method, row in printed.items()]


def _md_block(block: Block) -> list[str]:
    """A block as a Markdown table."""
    align = ["---", *(["---:"] * (len(block.head) - 1))]
    rows = [((f"`{row[0]}`" if block.code else row[0]), *row[1:]) for row in block.rows]
    return [md_row(list(block.head)), md_row(align), *(md_row(list(row)) for row in rows)]


def _tex_block(block: Block) -> list[str]:
    """A block as a LaTeX table, shrunk to the width of the page."""
    rows = []
    for row in block.rows:
        name = f"\\texttt{{{tex_escape(row[0])}}}" if block.code else tex_escape(row[0])
        rows.append(" & ".join([name, *(tex_escape(text) for text in row[1:])]) + " \\\\")
    return [
        "\\begin{table*}",
        "\\centering",
        f"\\caption{{{tex_escape(block.title)}. {tex_escape(block.note)}}}",
        f"\\label{{tab:{block.label}}}",
        "\\resizebox{\\textwidth}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * (len(block.head) - 1)}}}",
        "\\toprule",
        " & ".join(tex_escape(name) for name in block.head) + " \\\\",
        "\\midrule",
        *rows,
        "\\bottomrule",
        "\\end{tabular}}",
        "\\end{table*}",
        "",
    ]


def _tex_tabular(printed: Mapping[str, Mapping[str, Cell]], columns: list[str]) -> list[str]:
    heads = [tex_escape(column_of(name).label) + _TEX_ARROWS[column_of(name).direction] for name in columns]
    lines = [
        "\\resizebox{\\textwidth}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        " & ".join(["Method", *heads]) + " \\\\",
        "\\midrule",
    ]
    previous = None
    for method, row in printed.items():
        group = method_of(method).group
        if previous not in (None, group):
            lines.append("\\midrule")
        previous = group
        lines.append(" & ".join([f"\\texttt{{{tex_escape(method)}}}", *(_tex_cell(row.get(column)) for column in columns)]) + " \\\\")
    return [*lines, "\\bottomrule", "\\end{tabular}}"]


def _metrics(results: Results) -> list[str]:
    return [*main_columns(), *results.further]


def _value(results: Results, method: str, column: str) -> float | None:
    score = results.scores.get(method, {}).get(column)
    return None if score is None else score.value


def md_row(parts: list[str]) -> str:
    return "| " + " | ".join(part.replace("|", "\\|") for part in parts) + " |"


def _md_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    text = f"**{cell.text}**" if cell.best else cell.text
    note = f"<sup>{cell.note}</sup>" if cell.note else ""
    return " ".join(part for part in (text + note, cell.interval) if part)


def sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


_TEX_ARROWS = {
    Direction.HIGHER: " $\\uparrow$",
    Direction.LOWER: " $\\downarrow$",
    Direction.ZERO: " $\\to 0$",
    Direction.REAL: " $\\approx$ real",
    Direction.NONE: "",
}
_TEX_SPECIAL = {
    "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "é": "\\'e",
    "↑": "$\\uparrow$", "↓": "$\\downarrow$", "→": "$\\to$", "≈": "$\\approx$",
}  # fmt: skip


def tex_escape(text: str) -> str:
    return "".join(_TEX_SPECIAL.get(letter, letter) for letter in text)


def _tex_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    text = f"\\textbf{{{cell.text}}}" if cell.best else cell.text
    note = f"\\textsuperscript{{{cell.note}}}" if cell.note else ""
    interval = f"\\,{{\\tiny {cell.interval}}}" if cell.interval else ""
    return text + note + interval
