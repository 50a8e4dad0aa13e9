"""Look of the report's figures: colours of methods and matplotlib's settings."""

from __future__ import annotations

from typing import Any

__all__ = ["COLOURS", "STYLE"]

#: Colours of methods in every figure; the page uses the same ones.
COLOURS = {
    "real": "#444b54",
    "flowvqtalker_free": "#c2410c",
    "flowvqtalker_paired": "#0f766e",
    "regression": "#6d28d9",
}
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "svg.hashsalt": "flowvqtalker",
}
