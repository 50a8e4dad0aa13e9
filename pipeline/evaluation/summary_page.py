"""The page of ``flowvqtalker evaluate``: one self-contained file with the pooled table, coverage, policy and every clip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jinja2

from pipeline.reporting.columns import column_of
from pipeline.reporting.judges import NOT_KNOWN
from pipeline.reporting.page_script import SCRIPT
from pipeline.reporting.page_style import STYLE
from pipeline.reporting.tables import format_number

__all__ = ["render", "table_text"]

_TEMPLATE = """<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation of {{ method }}</title>
<link rel="icon" href="data:,">
<style>{{ style | safe }}</style>
</head>
<body>
<header class="top"><strong>flowvqtalker evaluate</strong><a href="#results">Results</a><a href="#coverage">Coverage</a>
<a href="#clips">Clips</a><a href="#policy">How it was scored</a><button id="theme" type="button" aria-label="Switch between light and dark">Light / dark</button></header>
<main>
<h1>{{ method }}</h1>
<div class="tiles">
<div class="tile"><b>{{ coverage.n_scored }} / {{ coverage.n_expected }}</b><span>clips scored / expected</span></div>
<div class="tile"><b>{{ "complete" if coverage.complete else "incomplete" }}</b><span>coverage</span></div>
<div class="tile"><b>{{ coverage.extra_files | length }}</b><span>files that nothing asked for</span></div>
</div>
{% for warning in warnings %}<p><span class="pill fail">warning</span> {{ warning }}</p>{% endfor %}
<section id="results"><h2>Results</h2>
<div class="scroll"><table class="results sortable"><thead><tr><th><button type="button">column</button></th>{% for name in methods %}<th>{{ name }}</th>{% endfor %}
<th><button type="button">n / expected</button></th>{% if differences %}<th>minus baseline</th><th>verdict</th>{% endif %}<th>remark</th></tr></thead>
<tbody>{% for row in rows %}<tr><td title="{{ row.meaning }}">{{ row.label }}</td>{% for cell in row.cells %}<td data-v="{{ cell.text }}">{{ cell.text }}{% if cell.interval %}<small>{{ cell.interval }}</small>{% endif %}</td>{% endfor %}
<td>{{ row.coverage }}</td>{% if differences %}<td>{{ row.difference }}</td><td>{{ row.verdict }}</td>{% endif %}<td style="text-align:left;white-space:normal">{{ row.reason }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="note">Brackets: 95 % bootstrap interval, clustered by person; &ldquo;n too small&rdquo; with fewer than 8 persons. A difference is paired clip by clip.
{{ noise }}</p></section>
<section id="coverage"><h2>Coverage</h2>
{% if coverage.not_scored %}<div class="scroll"><table class="text sortable"><thead><tr><th><button type="button">clip</button></th><th><button type="button">status</button></th><th>reason</th></tr></thead>
<tbody>{% for row in coverage.not_scored %}<tr><td><code>{{ row.clip }}</code></td><td>{{ row.status }}</td><td>{{ row.reason }}</td></tr>{% endfor %}</tbody></table></div>
{% else %}<p>Every expected clip was scored.</p>{% endif %}
{% if coverage.incomplete_columns %}<h3>Numbers that not every clip is behind</h3><ul>{% for name, text in coverage.incomplete_columns.items() %}<li><code>{{ name }}</code>: {{ text }}</li>{% endfor %}</ul>{% endif %}
{% if coverage.extra_files %}<h3>Files that nothing asked for, not scored</h3><ul>{% for name in coverage.extra_files %}<li><code>{{ name }}</code></li>{% endfor %}</ul>{% endif %}
</section>
<section id="clips"><h2>Clips</h2>
<div class="scroll"><table class="sortable"><thead><tr>{% for name in clip_columns %}<th><button type="button">{{ name }}</button></th>{% endfor %}</tr></thead>
<tbody>{% for row in clips %}<tr>{% for value in row %}<td data-v="{{ value }}">{{ value }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div></section>
<section id="policy"><h2>How it was scored</h2><ul>{% for line in policy %}<li>{{ line }}</li>{% endfor %}</ul>
<h3>Judges</h3><ul>{% for kind, value in judges.sha256.items() %}<li>{{ kind }}: SHA-256 <code>{{ value[:12] }}…</code>{% if kind in accuracy %}; {{ accuracy[kind] }}{% endif %}</li>{% endfor %}
{% for kind, reason in judges.absent.items() %}<li>{{ kind }}: not used; {{ reason }}</li>{% endfor %}
{% if judges.identity_auc_on_real is not none %}<li>mean faces tell the real persons apart with an area under the ROC curve of {{ "%.3f" | format(judges.identity_auc_on_real) }} (0.5 is chance)</li>{% endif %}</ul>
<p class="note">Definitions and pitfalls of every column: <code>docs/metrics.md</code>.</p></section>
</main>
<script>{{ script | safe }}</script>
</body>
</html>
"""
_CLIP_COLUMNS = (
    "clip", "seed", "identity", "status", "reason", "notes", "n_compared", "psnr_db", "ssim", "m_lmd_centred_px", "lse_d", "av_offset_frames", "sync_reason",
    "emotion_verdict", "cpbd", "flicker_compensated", "blinks",
)  # fmt: skip


def render(result: Mapping[str, Any], clips: list[dict[str, Any]]) -> str:
    """The page as one HTML text.

    Args:
        result: what ``summary.document`` gives, with ``against`` where there is a baseline.
        clips: rows of the per-clip table.
    """
    methods = list(result["methods"])
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    shown = [name for name in _CLIP_COLUMNS if any(row.get(name) not in (None, "") for row in clips)]
    return environment.from_string(_TEMPLATE).render(
        style=STYLE, script=SCRIPT, method=methods[-1], methods=methods, coverage=result["coverage"], policy=result["policy"], judges=result["judges"],
        warnings=result["judges"]["warnings"], accuracy=_accuracies(result["judges"]["own_accuracy"]),
        rows=_rows(result), differences=bool(result.get("against")), noise=noise_sentence(result),
        clip_columns=shown, clips=[[_short(row.get(name)) for name in shown] for row in clips],
    )  # fmt: skip


def _accuracies(own: Mapping[str, str]) -> dict[str, str]:
    """What stands beside each judge's name."""
    return {kind: text if text == NOT_KNOWN else f"on the real test clips of its own domain {text}" for kind, text in own.items()}


def noise_sentence(result: Mapping[str, Any]) -> str:
    """How noisy FID is on these real clips; "" when not measured."""
    noise = result.get("fid_noise") or {}
    if not noise:
        return ""
    own = noise.get("own_half_width")
    return (
        f"FID of two halves of the {noise['clips']} real clips against each other: {noise['halves_mean']:.3f} "
        f"[{noise['halves_low']:.3f}, {noise['halves_high']:.3f}] (the same people, other sentences and emotions)"
        + ("." if own is None else f"; half the width of this method's own interval: {own:.3f}.")
    )


def _rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    methods = list(result["methods"].values())
    names = [
        name for name in methods[-1] if any(cells[name]["value"] is not None or cells[name]["reason"] for cells in methods if name in cells)
    ]
    rows = []
    for name in names:
        column, mine = column_of(name), methods[-1][name]
        cells = []
        for method in methods:
            cell = method.get(name) or {}
            text = _number(cell.get("value"), column.decimals)
            interval = _interval(cell.get("ci"), column.decimals)
            cells.append({"text": text, "interval": interval})
        gap = (result.get("against") or {}).get(name) or {}
        difference = f"{_number(gap.get('value'), column.decimals)} {_interval(gap.get('ci'), column.decimals)}".strip()
        rows.append(
            {"label": f"{column.label} {column.direction.arrow}".strip(), "meaning": column.meaning, "cells": cells, "reason": mine["reason"],
             "coverage": f"{mine['n']} / {mine['n_expected']}" if mine["n_expected"] else "", "difference": difference, "verdict": gap.get("verdict", "")}
        )  # fmt: skip
    return rows


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else format_number(value, decimals)


def _interval(ci: Any, decimals: int) -> str:
    return f"[{format_number(ci[0], decimals)}, {format_number(ci[1], decimals)}]" if ci else ""


def table_text(result: Mapping[str, Any]) -> str:
    """The pooled table for a terminal."""
    methods = list(result["methods"])
    lines = [f"{'column':<28}" + "".join(f"{name[:22]:>24}" for name in methods) + f"{'n/expected':>12}  remark"]
    for row in _rows(result):
        numbers = "".join(f"{(cell['text'] + ' ' + cell['interval']).strip():>24}" for cell in row["cells"])
        tail = row["reason"] + (f" | minus baseline {row['difference']}: {row['verdict']}" if row["verdict"] else "")
        lines.append(f"{row['label'][:27]:<28}{numbers}{row['coverage'].replace(' ', ''):>12}  {tail}".rstrip())
    return "\n".join([*lines, *([noise_sentence(result)] if noise_sentence(result) else [])])


def _short(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
