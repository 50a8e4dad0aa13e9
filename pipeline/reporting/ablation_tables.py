"""The tables and the figure of an ablation grid. All are byte-stable: fixed decimals, fixed order, no dates."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from flowvqtalker.metrics.bootstrap import MIN_CLUSTERS, Estimate
from pipeline.reporting.ablations import BASELINE, Ablation, Measure, VariantResult
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
    return [measure for measure in ablation.grid.measures if not measure.pooled]


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
    return text if trainings[-1] > 1 else f"{text} With one training a variant, intervals do not hold what another seed would change."


def ablation_csv(ablation: Ablation) -> str:
    """One line for every variant and number: value, interval, spread over trainings, paired difference and verdict. Empty where there is none."""
    lines = ["variant,trainings,measure,value,ci_low,ci_high,sd_trainings,n,difference,difference_low,difference_high,n_paired,verdict"]
    for result in ablation.variants:
        for measure in ablation.grid.measures:
            value, apart = result.values[measure.name], result.differences.get(measure.name)
            digits = measure.decimals + 1

            def bounds(estimate: Estimate | None, digits: int = digits) -> list[str]:
                return ["", ""] if estimate is None or estimate.ci is None else [format_number(bound, digits) for bound in estimate.ci]

            lines.append(
                ",".join(
                    [
                        result.name, str(len(result.replicates)), measure.name, _number(value.value, digits), *bounds(value),
                        _number(result.spreads.get(measure.name, math.nan), digits), str(value.n),
                        _number(apart.value, digits) if apart else "", *bounds(apart), str(apart.n) if apart else "",
                        result.verdicts.get(measure.name, ""),
                    ]
                )
            )  # fmt: skip
    return "\n".join(lines) + "\n"


def ablation_md(ablation: Ablation) -> str:
    """GitHub Markdown: values, differences to the baseline, claims."""
    grid = ablation.grid
    heads = [measure.label + _MD_ARROWS[measure.direction] for measure in grid.measures]
    lines = [f"# {grid.title}", "", f"Rows `{grid.method}__<variant>` of one run, scored on the test identities.", ""]
    lines += [md_row(["variant", *heads]), md_row(["---", *["---:"] * len(heads)])]
    for result in ablation.variants:
        lines.append(
            md_row([f"`{result.name}` ({len(result.replicates)})", *(_cell(result.values[m.name], m.decimals) for m in grid.measures)])
        )
    if ablation.real:
        lines.append(md_row([f"real (`{grid.real}`)", *(_cell(ablation.real.get(m.name), m.decimals) for m in grid.measures)]))
    compared = _compared(ablation)
    heads = [measure.label + _MD_ARROWS[measure.direction] for measure in compared]
    lines += ["", f"## Differences to `{BASELINE}`", "", md_row(["variant", *heads]), md_row(["---", *["---:"] * len(heads)])]
    lines += [
        md_row([f"`{result.name}`", *(_difference(result, m) for m in compared)]) for result in ablation.variants if result.name != BASELINE
    ]
    lines += ["", _reading(ablation), "", "## Claims", ""]
    lines += [md_row(["claim", "of the paper", "verdict", "by number"]), md_row(["---"] * 4)]
    for found in ablation.claims:
        words = "; ".join(f"{name}: {word}" for name, word in found.by_measure.items())
        lines.append(md_row([found.claim.text, "yes" if found.claim.of_paper else "no", f"**{found.verdict}**", words]))
    lines += ["", _CLAIMS]
    return "\n".join(lines) + "\n"


_CLAIMS = (
    "Confirmed: at least one of the numbers shows the claim and none shows the opposite; refuted: the reverse; undecided: neither, or both. "
    "A claim over several parts needs each of them. All at this scale, on this corpus, by this project's own judges."
)


def ablation_tex(ablation: Ablation) -> str:
    """Tables for the booktabs and graphicx packages."""
    grid = ablation.grid
    lines = ["% Written by `make ablation`; needs \\usepackage{booktabs,graphicx}."]
    rows = [[tex_escape(_name(result)), *(_tex(result.values[m.name], m) for m in grid.measures)] for result in ablation.variants]
    if ablation.real:
        rows.append(["real", *(_tex(ablation.real.get(m.name), m) for m in grid.measures)])
    lines += _tex_table(f"{grid.title}. {_reading(ablation)}", f"ablation-{grid.name}", grid.measures, rows)
    rows = []
    for result in ablation.variants[1:]:
        cells = [f"{_tex(result.differences.get(m.name), m)} {result.verdicts.get(m.name, '')}".strip() for m in _compared(ablation)]
        rows.append([tex_escape(result.name), *cells])
    lines += _tex_table(f"{grid.title}: differences to {BASELINE}.", f"ablation-{grid.name}-differences", tuple(_compared(ablation)), rows)
    lines += ["\\begin{table}", "\\centering", f"\\caption{{{tex_escape(grid.title)}: claims. {tex_escape(_CLAIMS)}}}"]
    lines += [
        f"\\label{{tab:ablation-{grid.name}-claims}}",
        "\\begin{tabular}{lll}",
        "\\toprule",
        "Claim & Of the paper & Verdict \\\\",
        "\\midrule",
    ]
    lines += [f"{tex_escape(f.claim.text)} & {'yes' if f.claim.of_paper else 'no'} & {f.verdict} \\\\" for f in ablation.claims]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def _tex(estimate: Estimate | None, measure: Measure) -> str:
    if estimate is None or not math.isfinite(estimate.value):
        return ""
    interval = _interval(estimate, measure.decimals)
    return format_number(estimate.value, measure.decimals) + (f"\\,{{\\tiny {interval}}}" if interval else "")


def _tex_table(caption: str, label: str, measures: tuple[Measure, ...], rows: list[list[str]]) -> list[str]:
    heads = [tex_escape(measure.label) + _TEX_ARROWS[measure.direction] for measure in measures]
    return [
        "\\begin{table*}", "\\centering", f"\\caption{{{tex_escape(caption)}}}", f"\\label{{tab:{label}}}", "\\resizebox{\\textwidth}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * len(heads)}}}", "\\toprule", " & ".join(["Variant", *heads]) + " \\\\", "\\midrule",
        *(" & ".join(row) + " \\\\" for row in rows), "\\bottomrule", "\\end{tabular}}", "\\end{table*}", "",
    ]  # fmt: skip


def ablation_figure(ablation: Ablation) -> bytes:
    """PNG: for every number with a direction, the paired difference of each variant to the baseline with its interval, coloured by its verdict."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    measures = [measure for measure in _compared(ablation) if measure.direction != "none"]
    others = [result for result in ablation.variants if result.name != BASELINE]
    columns = min(len(measures), 4)
    rows = -(-len(measures) // columns)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(2.9 * columns, 0.7 + (0.8 + 0.3 * len(others)) * rows), squeeze=False, sharey=True
        )
        for panel, measure in zip(axes.flat, measures, strict=False):
            _draw_differences(panel, measure, others)
        for panel in list(axes.flat)[len(measures) :]:
            panel.set_visible(False)
        figure.suptitle(
            f"{ablation.grid.title}: difference to {BASELINE}, {100 * ablation.level:g} % interval (green: better, orange: worse)"
        )
        figure.tight_layout()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
        plt.close(figure)
    return buffer.getvalue()


def _draw_differences(panel: Axes, measure: Measure, results: list[VariantResult]) -> None:
    for place, result in enumerate(results):
        apart = result.differences[measure.name]
        if not math.isfinite(apart.value):
            continue
        colour = _VERDICT_COLOURS.get(result.verdicts[measure.name], _OTHER_COLOUR)
        low, high = apart.ci or (apart.value, apart.value)
        panel.plot([low, high], [place, place], color=colour, linewidth=1.6)
        panel.plot([apart.value], [place], "o", color=colour, markersize=4)
    panel.axvline(0.0, color="#444b54", linewidth=0.8)
    panel.set_yticks(range(len(results)), [result.name for result in results])
    panel.set_ylim(len(results) - 0.5, -0.5)
    distance = "|distance to real|: " if measure.direction == "near_real" else ""
    panel.set_title(f"{distance}{measure.label}{_MD_ARROWS['lower' if distance else measure.direction]}", fontsize=8)
