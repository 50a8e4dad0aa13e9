"""docs/metrics.md has exactly one entry for each registered metric, with its unit and direction, and every entry's function exists."""

import importlib
import re
from pathlib import Path

import pytest

from flowvqtalker import metrics
from flowvqtalker.metrics.base import Accumulator, MeanAccumulator
from flowvqtalker.metrics.registry import BY_NAME, MAIN_COLUMNS, METRICS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def entries() -> dict[str, str]:
    parts = re.split(r"^### `(\w+)`\s*$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_page_and_registry_name_the_same_metrics():
    assert sorted(entries()) == sorted(metric.name for metric in METRICS)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_entry_is_complete(name):
    text = entries()[name]
    for field in ("Definition", "Unit", "Better", "Source", "Pitfalls"):
        assert re.search(rf"^- {field}: \S", text, flags=re.MULTILINE), f"{name} lacks {field}"
    metric = BY_NAME[name]
    assert f"- Unit: {metric.unit or 'none'}" in text
    assert f"- Better: {metric.direction.replace('_', ' ')}" in text
    assert f"`{metric.function}`" in text


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_function_exists_and_is_documented(metric):
    module, name = metric.function.rsplit(".", 1)
    function = getattr(importlib.import_module(f"flowvqtalker.metrics.{module}"), name)
    assert function.__doc__


def accumulators() -> list[type]:
    found = []
    for path in sorted(Path(metrics.__file__).parent.glob("*.py")):
        module = importlib.import_module(f"flowvqtalker.metrics.{path.stem}")
        found += [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
    return [value for value in found if issubclass(value, Accumulator) and value not in (Accumulator, MeanAccumulator)]


@pytest.mark.parametrize("kind", accumulators(), ids=lambda kind: kind.__name__)
def test_every_accumulating_class_is_on_the_page_and_documented(kind):
    assert f"`{kind.__name__}`" in PAGE.read_text(encoding="utf-8") or f".{kind.__name__}`" in PAGE.read_text(encoding="utf-8")
    assert kind.__doc__
    assert not getattr(kind, "__abstractmethods__", None)


def test_what_the_page_names_exists():
    for module, name in re.findall(r"`(\w+)\.(\w+)`", PAGE.read_text(encoding="utf-8")):
        if (Path(metrics.__file__).parent / f"{module}.py").exists():
            assert hasattr(importlib.import_module(f"flowvqtalker.metrics.{module}"), name), f"{module}.{name}"


def test_names_are_unique_and_the_main_table_is_the_design_s():
    assert len(BY_NAME) == len(METRICS)
    assert MAIN_COLUMNS[0] == "psnr_db" and MAIN_COLUMNS[-2:] == ("n_scored", "n_expected") and len(MAIN_COLUMNS) == 18
