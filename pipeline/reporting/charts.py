"""Learning curves as inline SVG for the page: they follow its light and dark colours, and a pointer shows their values.

Drawn here rather than by a library in the browser, so that the page needs nothing from the network and shows curves without scripts.
"""

from __future__ import annotations

import json
import math
from html import escape
from typing import Any

import numpy as np

__all__ = ["line_chart", "ticks"]

WIDTH, HEIGHT = 320, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 10, 26
#: A positive curve that spans more than this factor is drawn on a logarithmic scale.
LOG_RATIO = 60.0


def ticks(low: float, high: float, n: int = 4) -> list[float]:
    """Round numbers inside [low, high], about `n` of them, at steps of 1, 2 or 5 times a power of ten.

    Example:
        >>> ticks(0.0, 1.0)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    raw = span / n
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = min((factor * magnitude for factor in (1, 2, 5, 10)), key=lambda candidate: abs(candidate - raw))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(title: str, curves: dict[str, np.ndarray]) -> str:
    """An SVG figure with one line per split.

    Args:
        title: name of the value, shown above.
        curves: split -> (n, 2) array of step and value, finite, sorted by step.

    Returns:
        Markup; the split "train" gets the class `train`, all others `val`.
    """
    steps = np.concatenate([curve[:, 0] for curve in curves.values()])
    values = np.concatenate([curve[:, 1] for curve in curves.values()])
    is_log = bool(values.min() > 0 and values.max() / values.min() > LOG_RATIO)
    scaled = np.log10(values) if is_log else values
    low, high = float(scaled.min()), float(scaled.max())
    pad = 0.05 * (high - low) or max(abs(high) * 0.05, 0.5)
    low, high = low - pad, high + pad
    first, last = float(steps.min()), float(max(steps.max(), steps.min() + 1))

    def to_x(step: Any) -> Any:
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def to_y(value: Any) -> Any:
        height = np.log10(value) if is_log else value
        return HEIGHT - BOTTOM - (height - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    marks = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)] if is_log else ticks(low, high)
    for mark in marks or [float(10**low), float(10**high)]:
        y = to_y(mark)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{_short(mark)}</text>')
    parts += [
        f'<text class="tick" x="{to_x(mark):.1f}" y="{HEIGHT - 9}" text-anchor="middle">{_short(mark)}</text>'
        for mark in ticks(first, last, 3)
    ]
    data = {}
    for split, curve in curves.items():
        kind = "train" if split == "train" else "val"
        xs, ys = to_x(curve[:, 0]), to_y(curve[:, 1])
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
        parts.append(f'<polyline class="{kind}" points="{points}"/>')
        if kind == "val" and len(curve) <= 40:
            parts += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>' for x, y in zip(xs, ys, strict=True)]
        data[split] = [[_number(x), _number(step), _number(value)] for x, (step, value) in zip(xs, curve, strict=True)]
    payload = escape(json.dumps(data, separators=(",", ":")), quote=True)
    last_words = ", ".join(f"{split} ends at {_short(float(curve[-1, 1]))}" for split, curve in curves.items())
    note = " (log scale)" if is_log else ""
    return (
        f'<figure class="chart" data-curves="{payload}"><figcaption>{escape(title)}{note}<output></output></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}: {escape(last_words, quote=True)}">'
        f'{"".join(parts)}<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="-9" x2="-9"/></svg></figure>'
    )


def _short(value: float) -> str:
    """At most four significant digits, thousands as k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"


def _number(value: float) -> float:
    return float(f"{float(value):.5g}")
