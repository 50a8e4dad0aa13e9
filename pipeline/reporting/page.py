"""The self-contained page: everything inline, nothing from the network (its content security policy forbids it)."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from pipeline.reporting.blocks import blocks
from pipeline.reporting.charts import line_chart
from pipeline.reporting.columns import column_of, method_of
from pipeline.reporting.figures import series_of
from pipeline.reporting.gallery import GalleryClip
from pipeline.reporting.page_script import SCRIPT
from pipeline.reporting.page_style import STYLE
from pipeline.reporting.page_template import TEMPLATE
from pipeline.reporting.results import Results, Training
from pipeline.reporting.tables import READING, Cell, cells, footnotes, main_columns, notes_of_judges

__all__ = ["check_rows", "flatten", "render_page"]

#: What each figure shows; training figures are drawn as curves on the page itself.
CAPTIONS = {
    "emotion_grid": "Test identities (rows) under every emotion that the test split holds of them (columns): real frame, and the one generated for "
    "the same sound and label with the real head pose, at the real clip's frame of strongest expression (brows, cheeks, nose, smile, frown) in which neither blinks. Empty: the split has no such clip.",
    "pose_curves": "Head rotation of test clips: fitted to the real video, and one free sample for the same sound.",
    "eye_opening": "Eye closure and jaw opening of test clips, and the lids of a longer free sample; bars mark blinks. Lids are one-to-many, the jaw "
    "follows the sound.",
    "blink_intervals": "Time between blinks and duration of blinks, real against generated, in windows of equal length.",
    "motion_spectrum": "Power spectral density of motion, real against generated, over the same test clips and windows of equal length (Welch). "
    "A curve below the real one is motion that is missing at that speed, one above it is motion too much.",
    "emotion_confusion": "Labelled emotion (rows) against the judge's answer (columns).",
}
#: The same for figures of which there is one per training, by the first word of the stem.
TRAINING_CAPTIONS = {
    "latents": "Latents of test frames ({training}), each mapped under its own label, with the components of the prior. The picture shows whether frames of "
    "unseen people land where the prior expects them; it is no evidence that a frame tells its emotion without the label.",
}
#: Letters of a SHA-256; printed short.
HASH_LENGTH = 64
GRID_CAPTIONS = {"grid": "Sample grid as the training wrote it."}


def render_page(
    results: Results,
    *,
    name: str,
    seed: int,
    gallery: list[GalleryClip],
    left_out: int,
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
    curve_points: int,
) -> str:
    """The page as one HTML text.

    Args:
        results: what `read_results` gives.
        name: the configuration's name.
        seed: the configuration's seed.
        gallery: encoded clips in page order.
        left_out: clips that did not fit the size limit.
        figures: PNG bytes by file stem.
        settings: parameter sections by name, plain values.
        curve_points: most points drawn of one learning curve.
    """
    printed = cells(results)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(TEMPLATE).render(
        name=name,
        seed=seed,
        data_sha256=results.data_sha256,
        style=STYLE,
        script=SCRIPT,
        tiles=_tiles(results),
        reading=READING,
        tables=[("main", _table(printed, main_columns())), *([("further", _table(printed, results.further))] if results.further else [])],
        methods=[method_of(method) for method in printed],
        columns=[column_of(column) for column in (*main_columns(), *results.further)],
        notes=footnotes(results),
        judge_notes=notes_of_judges(results),
        blocks=blocks(results),
        checks=check_rows(results.checks),
        gallery=_gallery_groups(gallery),
        left_out=left_out,
        trainings=[_training(training, curve_points) for training in results.trainings],
        figures=[
            {"caption": _caption(stem), "data": _base64(content)} for stem, content in figures.items() if not stem.startswith("training_")
        ],
        facts=[("Judges", flatten(results.judges)), ("Floors", flatten(results.floors))],
        settings=[(section, _flat_entries("", values)) for section, values in settings.items()],
    )


def _caption(stem: str) -> str:
    kind, _, training = stem.partition("_")
    if kind in TRAINING_CAPTIONS:
        return TRAINING_CAPTIONS[kind].format(training=training.replace("_", "/", 1))
    return CAPTIONS.get(stem, stem.replace("_", " ").capitalize() + ".")


def _table(printed: Mapping[str, Mapping[str, Cell]], columns: list[str]) -> dict[str, Any]:
    rows = [{"method": method_of(method), "cells": [row.get(column, Cell("")) for column in columns]} for method, row in printed.items()]
    return {"columns": [column_of(column) for column in columns], "rows": rows}


def check_rows(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Checks as text: one that could not be measured, or that only shows a number, is neither passed nor failed."""
    rows = []
    for check in checks:
        passed = check.get("pass")
        open_word = "not measured" if check.get("value") is None else "no target"
        kind, word = ("open", open_word) if passed is None else ("pass", "pass") if passed else ("fail", "fail")
        ci = check.get("ci")
        rows.append(
            {
                "name": check.get("name", ""),
                "value": _text(check.get("value")),
                "ci": f"[{_text(ci[0])}, {_text(ci[1])}]" if isinstance(ci, (list, tuple)) and len(ci) == 2 else "",
                "n": _text(check.get("n")),
                "target": _text(check.get("target")),
                "reason": check.get("reason") or "",
                "kind": kind,
                "word": word,
            }
        )
    return rows


def flatten(tree: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A nested document as groups of dotted names and printed values, one group per top-level key that holds more than a value."""
    loose = [(name, _text(value)) for name, value in sorted(tree.items()) if not isinstance(value, (dict, list))]
    groups = [("", loose)] if loose else []
    nested = [(name, _flat_entries("", value)) for name, value in sorted(tree.items()) if isinstance(value, dict)]
    return groups + [(name, entries) for name, entries in nested if entries]


def _flat_entries(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and "value" in value and set(value) <= {"value", "ci", "n", "reason"}:
        ci = value.get("ci")
        interval = f" [{_text(ci[0])}, {_text(ci[1])}]" if isinstance(ci, (list, tuple)) and len(ci) == 2 else ""
        number = _text(value["value"]) or str(value.get("reason") or "")
        return [(prefix, number + interval + (f" (n={value['n']})" if value.get("n") else ""))]
    if isinstance(value, list) and any(isinstance(part, list) for part in value):
        return []  # a matrix: the figures show it
    if isinstance(value, Mapping):
        return [
            entry for name in sorted(value, key=str) for entry in _flat_entries(f"{prefix}.{name}" if prefix else str(name), value[name])
        ]
    return [(prefix or "value", _text(value))]


def _text(value: Any) -> str:
    """A value for people: four significant digits, words for truth values, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    text = str(value)
    return f"{text[:12]}…" if len(text) == HASH_LENGTH and set(text) <= set("0123456789abcdef") else text


def _tiles(results: Results) -> list[dict[str, str]]:
    measured = [check for check in results.checks if check.get("pass") is not None]
    passed = sum(bool(check["pass"]) for check in measured)
    scored, expected = (
        [int(value) for row in results.scores.values() if (value := row[name].value)] for name in ("n_scored", "n_expected")
    )
    tiles = [{"value": f"{passed} / {len(measured)}", "label": "checks passed, of those measured"}] if measured else []
    tiles.append({"value": str(len(scored)), "label": "methods with scores"})
    tiles.append(
        {"value": f"{max(scored, default=0)}" + (f" / {max(expected)}" if expected else ""), "label": "test clips scored / expected"}
    )
    tiles.append({"value": str(len(results.trainings)), "label": "trainings"})
    return tiles


def _gallery_groups(gallery: list[GalleryClip]) -> list[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for clip in gallery:
        entry = {name: getattr(clip, name) for name in ("clip", "level", "identity", "methods", "has_sound")}
        groups.setdefault(clip.emotion, []).append({**entry, "data": _base64(clip.mp4), "poster": _base64(clip.poster)})
    return list(groups.items())


def _training(training: Training, curve_points: int) -> dict[str, Any]:
    return {
        "name": training.name,
        "charts": [line_chart(value, splits) for value, splits in series_of(training.history, curve_points).items()],
        "metrics": [(name, _text(value)) for name, value in training.metrics.items()],
        "grids": [_picture(path) for path in training.grids],
    }


def _picture(path: Path) -> dict[str, str]:
    caption = GRID_CAPTIONS.get(path.stem, path.stem.replace("_", " ").capitalize() + ".")
    return {"mime": "image/png", "data": _base64(path.read_bytes()), "caption": caption}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
