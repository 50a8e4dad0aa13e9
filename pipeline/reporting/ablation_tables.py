"""The tables and the figure of an ablation grid. All are byte-stable: fixed decimals, fixed order, no dates."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from flowvqtalker.metrics.bootstrap import MIN_CLUSTERS, Estimate
from pipeline.reporting.ablation_grids import BASELINE, Measure
from pipeline.reporting.ablations import Ablation, ClaimResult, SideResult, VariantResult
from pipeline.reporting.style import STYLE
from pipeline.reporting.tables import format_number, md_row, tex_escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ablation_csv", "ablation_figure", "ablation_md", "ablation_tex"]

_MD_ARROWS = {"higher": " ↑", "lower": " ↓", "near_real": " ≈real", "none": ""}
_TEX_ARROWS = {"higher": " $\\uparrow$", "lower": " $\\downarrow$", "near_real": " $\\approx$ real", "none": ""}
_VERDICT_COLOURS = {"better": "#0f766e", "worse": "#c2410c"}
_OTHER_COLOUR = "#6b7280"


def _number(value: float, decimals: int) -> str:
    return format_number(value, decimals) if math.isfinite(value) else ""


def _interval(estimate: Estimate, decimals: int) -> str:
    return "" if estimate.ci is None else f"[{', '.join(format_number(bound, decimals) for bound in estimate.ci)}]"


def _cell(estimate: Estimate | None, decimals: int) -> str:
    """Number with its interval; where there is no number, nothing."""
    if estimate is None or not math.isfinite(estimate.value):
        return ""
    return " ".join(part for part in (format_number(estimate.value, decimals), _interval(estimate, decimals)) if part)


def _difference(result: VariantResult, measure: Measure) -> str:
    text = _cell(result.differences.get(measure.name), measure.decimals)
    word = result.verdicts.get(measure.name, "")
    return f"{text} {word}".strip() if text else ""


def _name(result: VariantResult) -> str:
    return f"{result.name} ({len(result.replicates)})"


def _compared(ablation: Ablation) -> list[Measure]:
    """Numbers that get paired differences."""
    return [measure for measure in ablation.grid.measures if measure.source == "clips"]


def _others(ablation: Ablation) -> list[VariantResult]:
    """Variants with a difference to the baseline that means something: those of a second condition have a table of their own."""
    second = {found.side.second for found in ablation.sides}
    return [result for result in ablation.variants if result.name != BASELINE and result.name not in second]


def _reference_name(ablation: Ablation, row: str) -> str:
    return f"{row} (real)" if row == ablation.grid.real else row


def _judged(ablation: Ablation) -> list[Measure]:
    """Numbers that some claim is judged by."""
    names = {name for found in ablation.claims for name in found.by_measure}
    return [measure for measure in ablation.grid.measures if measure.name in names]


def _primary_numbers(found: ClaimResult, measures: tuple[Measure, ...]) -> str:
    """What decided a claim: each primary number with its contrasts."""
    decimals = {measure.name: measure.decimals for measure in measures}
    return "; ".join(
        f"{name}: {' and '.join(_cell(one, decimals[name]) or 'none' for one in found.estimates[name])}" for name in found.claim.primary
    )


def _reading(ablation: Ablation) -> str:
    percent = f"{100 * ablation.level:g} %"
    trainings = sorted({len(result.replicates) for result in ablation.variants})
    text = (
        f"In parentheses: trainings with seeds of their own. Brackets: {percent} bootstrap interval over identities"
        f"{' and trainings' if trainings[-1] > 1 else ''}; none below {MIN_CLUSTERS} identities. "
        f"Differences are to {BASELINE} on the same clips and trainings of the same numbers; for a number that is best where it is real they are differences "
        "of the distance to the real value. A verdict says that the interval excludes 0, and on which side; undecided is not equal. "
        "No correction is made for looking at many numbers."
    )
    if ablation.references:
        text += (
            " Rows without parentheses are no variants: real clips, ceilings and controls by the same judges; a cell is empty where the number has no "
            "meaning for the row."
        )
    if trainings[-1] == 1:
        text += " With one training a variant, intervals do not hold what another seed would change."
    return " ".join([text, *ablation.notes])


_CSV = (
    "kind", "variant", "trainings", "measure", "value", "ci_low", "ci_high", "sd_trainings", "n", "compared_to", "difference",
    "difference_low", "difference_high", "n_paired", "verdict",
)  # fmt: skip


def _csv_value(estimate: Estimate | None, digits: int) -> list[str]:
    """Value, interval."""
    if estimate is None:
        return ["", "", ""]
    return [
        _number(estimate.value, digits),
        *([""] * 2 if estimate.ci is None else [format_number(bound, digits) for bound in estimate.ci]),
    ]


def ablation_csv(ablation: Ablation) -> str:
    """One line for every variant and number: value, interval, spread over trainings, paired difference and verdict. Empty where there is none.

    ``kind`` is "variant", "reference" (a row that is no variant), "loss" (second condition minus first, beside ``compared_to``) or
    "loss_beyond" (that loss minus the loss of the variant in ``compared_to``).
    """
    lines = [",".join(_CSV)]
    for result in ablation.variants:
        for measure in ablation.grid.measures:
            value, apart = result.values[measure.name], result.differences.get(measure.name)
            digits = measure.decimals + 1
            lines.append(
                ",".join(
                    [
                        "variant", result.name, str(len(result.replicates)), measure.name, *_csv_value(value, digits),
                        _number(result.spreads.get(measure.name, math.nan), digits), str(value.n), BASELINE if apart else "",
                        *_csv_value(apart, digits), str(apart.n) if apart else "", result.verdicts.get(measure.name, ""),
                    ]
                )
            )  # fmt: skip
    for row, values in ablation.references.items():
        for measure in ablation.grid.measures:
            value = values.get(measure.name)
            cells = _csv_value(value, measure.decimals + 1)
            lines.append(",".join(["reference", row, "", measure.name, *cells, "", str(value.n) if value else "0", *[""] * 6]))
    for found in ablation.sides:
        for kind, estimates in (("loss", found.losses), ("loss_beyond", found.beyond)):
            other = found.side.first if kind == "loss" else ablation.grid.side_against
            for measure in (m for m in ablation.grid.measures if m.name in estimates):
                apart = estimates[measure.name]
                word = found.verdicts.get(measure.name, "") if kind == "loss_beyond" else ""
                cells = [
                    kind,
                    found.side.second,
                    "",
                    measure.name,
                    *[""] * 5,
                    other,
                    *_csv_value(apart, measure.decimals + 1),
                    str(apart.n),
                    word,
                ]
                lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def _side_heads(ablation: Ablation) -> list[str]:
    first, second = ablation.grid.side_words
    return ["latent", f"trained {first}", f"trained {second}", f"{second} - {first}", f"the same beyond {ablation.grid.side_against}"]


def _side_cells(ablation: Ablation, found: SideResult, measure: Measure) -> list[str]:
    """Value of both conditions, loss, loss beyond that of the variant it is compared with."""
    values = {result.name: result.values[measure.name] for result in ablation.variants}
    cells = [_cell(values[name], measure.decimals) for name in (found.side.first, found.side.second)]
    beyond = _cell(found.beyond.get(measure.name), measure.decimals)
    return [*cells, _cell(found.losses[measure.name], measure.decimals), f"{beyond} {found.verdicts.get(measure.name, '')}".strip()]


def _side_measures(ablation: Ablation) -> list[Measure]:
    names = {name for found in ablation.sides for name in found.losses}
    return [measure for measure in ablation.grid.measures if measure.name in names]


def ablation_md(ablation: Ablation) -> str:
    """GitHub Markdown: values of variants and references, conditions side by side, differences to the baseline, claims."""
    grid = ablation.grid
    heads = [measure.label + _MD_ARROWS[measure.direction] for measure in grid.measures]
    rows = f"Rows `{grid.method}__<variant>` of one run" if grid.method else "Trainings of one run"
    lines = [f"# {grid.title}", "", f"{rows}, scored on the test identities.", ""]
    lines += [md_row(["variant (trainings)", *heads]), md_row(["---", *["---:"] * len(heads)])]
    for result in ablation.variants:
        lines.append(
            md_row([f"`{result.name}` ({len(result.replicates)})", *(_cell(result.values[m.name], m.decimals) for m in grid.measures)])
        )
    for row, values in ablation.references.items():
        name = f"`{row}`" + (" (real)" if row == grid.real else "")
        lines.append(md_row([name, *(_cell(values.get(m.name), m.decimals) for m in grid.measures)]))
    for measure in _side_measures(ablation):
        first, second = grid.side_words
        lines += ["", f"## {measure.label}: {first} and {second}", "", md_row(_side_heads(ablation)), md_row(["---", *["---:"] * 4])]
        lines += [md_row([found.side.label, *_side_cells(ablation, found, measure)]) for found in ablation.sides]
    compared = _compared(ablation)
    heads = [measure.label + _MD_ARROWS[measure.direction] for measure in compared]
    lines += ["", f"## Differences to `{BASELINE}`", "", md_row(["variant", *heads]), md_row(["---", *["---:"] * len(heads)])]
    lines += [md_row([f"`{result.name}`", *(_difference(result, m) for m in compared)]) for result in _others(ablation)]
    lines += ["", _reading(ablation), "", "## Claims", ""]
    judged = _judged(ablation)
    heads = ["claim", "of the paper", "verdict", "decided by", *(measure.label for measure in judged)]
    lines += [md_row(heads), md_row(["---"] * len(heads))]
    for found in ablation.claims:
        words = [_word(found, measure) for measure in judged]
        primary = _primary_numbers(found, grid.measures)
        lines.append(md_row([found.claim.text, "yes" if found.claim.of_paper else "no", f"**{found.verdict}**", primary, *words]))
    lines += ["", _CLAIMS]
    return "\n".join(lines) + "\n"


def _word(found: ClaimResult, measure: Measure) -> str:
    word = found.by_measure.get(measure.name, "")
    return f"**{word}**" if measure.name in found.claim.primary else word


_CLAIMS = (
    "The verdict is that of the numbers named under 'decided by', declared before the runs: confirmed where all of them show the claim, refuted where one "
    "shows the opposite, undecided otherwise. They are differences, without the part minus with it, or differences of such differences. The other "
    "columns are verdicts of further numbers, which decide nothing. A claim over several parts needs each of them. All at this scale, on this "
    "corpus, by this project's own judges."
)


def ablation_tex(ablation: Ablation) -> str:
    """Tables for the booktabs and graphicx packages."""
    grid = ablation.grid
    lines = ["% Written by `make ablation`; needs \\usepackage{booktabs,graphicx}."]
    rows = [[tex_escape(_name(result)), *(_tex(result.values[m.name], m) for m in grid.measures)] for result in ablation.variants]
    rows += [
        [tex_escape(_reference_name(ablation, row)), *(_tex(values.get(m.name), m) for m in grid.measures)]
        for row, values in ablation.references.items()
    ]
    lines += _tex_table(f"{grid.title}. {_reading(ablation)}", f"ablation-{grid.name}", _heads(grid.measures), rows)
    for measure in _side_measures(ablation):
        rows = [[tex_escape(found.side.label), *map(tex_escape, _side_cells(ablation, found, measure))] for found in ablation.sides]
        caption = f"{grid.title}: {measure.label}."
        lines += _tex_table(
            caption, f"ablation-{grid.name}-sides-{measure.name.replace('_', '-')}", list(map(tex_escape, _side_heads(ablation)[1:])), rows
        )
    rows = []
    compared = _compared(ablation)
    for result in _others(ablation):
        cells = [f"{_tex(result.differences.get(m.name), m)} {result.verdicts.get(m.name, '')}".strip() for m in compared]
        rows.append([tex_escape(result.name), *cells])
    lines += _tex_table(f"{grid.title}: differences to {BASELINE}.", f"ablation-{grid.name}-differences", _heads(compared), rows)
    rows = []
    judged = _judged(ablation)
    for found in ablation.claims:
        words = [
            f"\\textbf{{{found.by_measure[m.name]}}}" if m.name in found.claim.primary else found.by_measure.get(m.name, "") for m in judged
        ]
        rows.append([tex_escape(found.claim.text), "yes" if found.claim.of_paper else "no", f"\\textbf{{{found.verdict}}}", *words])
    heads = ["Of the paper", "Verdict", *(tex_escape(measure.label) for measure in judged)]
    lines += _tex_table(f"{grid.title}: claims. {_CLAIMS} Bold: numbers that decide.", f"ablation-{grid.name}-claims", heads, rows, "Claim")
    return "\n".join(lines)


def _heads(measures: list[Measure] | tuple[Measure, ...]) -> list[str]:
    return [tex_escape(measure.label) + _TEX_ARROWS[measure.direction] for measure in measures]


def _tex(estimate: Estimate | None, measure: Measure) -> str:
    if estimate is None or not math.isfinite(estimate.value):
        return ""
    interval = _interval(estimate, measure.decimals)
    return format_number(estimate.value, measure.decimals) + (f"\\,{{\\tiny {interval}}}" if interval else "")


def _tex_table(caption: str, label: str, heads: list[str], rows: list[list[str]], first: str = "Variant") -> list[str]:
    return [
        "\\begin{table*}", "\\centering", f"\\caption{{{tex_escape(caption)}}}", f"\\label{{tab:{label}}}", "\\resizebox{\\textwidth}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * len(heads)}}}", "\\toprule", " & ".join([first, *heads]) + " \\\\", "\\midrule",
        *(" & ".join(row) + " \\\\" for row in rows), "\\bottomrule", "\\end{tabular}}", "\\end{table*}", "",
    ]  # fmt: skip


#: A dot with its interval in the figure: name, estimate, verdict.
_Dot = tuple[str, Estimate, str]


def _panels(ablation: Ablation) -> list[tuple[str, list[_Dot]]]:
    """Title and dots of each panel: differences to the baseline, then what the second condition costs."""
    panels = []
    for measure in (m for m in _compared(ablation) if m.direction != "none"):
        distance = "|distance to real|: " if measure.direction == "near_real" else ""
        dots = [(result.name, result.differences[measure.name], result.verdicts[measure.name]) for result in _others(ablation)]
        panels.append((f"{distance}{measure.label}{_MD_ARROWS['lower' if distance else measure.direction]}", dots))
    for measure in _side_measures(ablation):
        first, second = ablation.grid.side_words
        dots = [(found.side.label, found.losses[measure.name], found.verdicts.get(measure.name, "")) for found in ablation.sides]
        panels.append((f"{measure.label}\n{second} - {first}, colours: against {ablation.grid.side_against}", dots))
    return panels


def ablation_figure(ablation: Ablation) -> bytes:
    """PNG: for every number with a direction, the paired difference of each variant to the baseline with its interval, coloured by its verdict.

    A grid with two conditions has one more panel for each such number: what the second condition costs.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels = _panels(ablation)
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    most = max(len(dots) for _, dots in panels)
    with mpl.rc_context(STYLE):
        size = (max(2.9 * columns, 6.5), 0.9 + (0.8 + 0.3 * most) * rows)
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=not ablation.sides)
        for panel, (title, dots) in zip(axes.flat, panels, strict=False):
            _draw_dots(panel, title, dots)
        for panel in list(axes.flat)[len(panels) :]:
            panel.set_visible(False)
        figure.suptitle(
            f"{ablation.grid.title}:\ndifference to {BASELINE}, {100 * ablation.level:g} % interval (green: better, orange: worse)"
        )
        figure.tight_layout()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
        plt.close(figure)
    return buffer.getvalue()


def _draw_dots(panel: Axes, title: str, dots: list[_Dot]) -> None:
    for place, (_, apart, word) in enumerate(dots):
        if not math.isfinite(apart.value):
            continue
        colour = _VERDICT_COLOURS.get(word, _OTHER_COLOUR)
        low, high = apart.ci or (apart.value, apart.value)
        panel.plot([low, high], [place, place], color=colour, linewidth=1.6)
        panel.plot([apart.value], [place], "o", color=colour, markersize=4)
    panel.axvline(0.0, color="#444b54", linewidth=0.8)
    panel.locator_params(axis="x", nbins=4)
    panel.set_yticks(range(len(dots)), [name for name, _, _ in dots])
    panel.set_ylim(len(dots) - 0.5, -0.5)
    panel.set_title(title, fontsize=8)
