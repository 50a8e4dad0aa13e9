"""docs/metrics.md has exactly one entry for each registered metric, with its unit and direction; what it names exists and does what it says."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from flowvqtalker import metrics
from flowvqtalker.metrics.base import Accumulator, MeanAccumulator
from flowvqtalker.metrics.registry import BY_NAME, MAIN_COLUMNS, METRICS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"

#: How a docstring says what is better.
DIRECTIONS = {
    "higher": ("higher is better", "higher lse-c is better", "higher f1 is better"),
    "lower": ("lower is better", "lower lse-d is better"),
    "near_real": ("real value", "real video"),
    "near_zero": ("near zero is better",),
    "none": ("neither more nor less is better",),
}


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
    if metric.function == "registry.Metric":  # a count of rows, nothing to define
        return
    text = " ".join(function.__doc__.split())
    for word in ("Unit: ", "Source: ", "Pitfalls: "):
        assert word in text, f"{metric.function} lacks {word!r}"
    # The first sentence defines the number; a mere title would be shorter.
    assert len(text.split(". ")[0]) >= 40, text.split(". ")[0]
    assert any(words in text.lower() for words in DIRECTIONS[metric.direction]), f"{metric.function} does not say what is better"


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
    modules = {path.stem for path in Path(metrics.__file__).parent.glob("*.py")}
    names = re.findall(r"`([a-z_0-9]+)\.(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(names) > 50
    parameters = yaml.safe_load((PAGE.parents[1] / "params.yaml").read_text(encoding="utf-8"))["evaluate"]
    for module, name in names:
        if name in ("json", "csv", "pt"):  # a file
            continue
        if module == "evaluate":  # a parameter of the stage
            assert name in parameters, f"{module}.{name}"
            continue
        assert module in modules, f"{module}.{name}"
        assert callable(getattr(importlib.import_module(f"flowvqtalker.metrics.{module}"), name, None)), f"{module}.{name}"


def test_commands_and_links_of_the_page_exist():
    text, root = PAGE.read_text(encoding="utf-8"), PAGE.parents[1]
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (PAGE.parent / link).exists(), link
    for module in re.findall(r"python -m ([a-z0-9_.]+)", text):
        assert (root / module.replace(".", "/")).with_suffix(".py").is_file(), module


def test_the_classes_that_the_page_calls_accumulating_are_exactly_those():
    line = re.search(r"^- \*\*Classes that accumulate\*\*:(.*?)`update` takes", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert line
    assert sorted(re.findall(r"`(\w+)`", line[1])) == sorted(kind.__name__ for kind in accumulators())


def clip_of(seed: int) -> dict[str, np.ndarray]:
    """One random clip: what any metric may ask for."""
    generator = np.random.default_rng(seed)
    real = generator.integers(0, 256, size=(4, 64, 64, 3)).astype(np.uint8)
    points = generator.uniform(10, 50, size=(4, 68, 2))
    return {
        "frames": np.clip(real + generator.normal(size=real.shape) * 9, 0, 255).astype(np.uint8), "real": real,
        "points": points, "real_points": points + generator.normal(size=points.shape),
        "features": generator.normal(size=(6, 3)), "real_features": generator.normal(size=(6, 3)) + 0.5,
        "pose": generator.normal(size=(3, 40, 6)), "beta": generator.normal(size=(3, 40, 5)), "loudness": generator.uniform(size=40),
        "video": generator.normal(size=(40, 4)), "audio": generator.normal(size=(40, 4)), "closure": (generator.uniform(size=40) > 0.8) * 0.9,
        "truth": generator.integers(0, 3, size=9), "verdict": generator.integers(0, 3, size=9), "level": generator.integers(0, 4, size=9),
        "events": np.sort(generator.uniform(0, 4, size=4)).reshape(2, 2), "true_events": np.sort(generator.uniform(0, 4, size=4)).reshape(2, 2),
        "nats": generator.normal(size=40), "grey": real[..., 0],
        "eyes": generator.uniform(size=40), "threshold": 0.5, "closed_at": 0.8, "open_at": 0.3,
    }  # fmt: skip


#: Class -> how to make one, and what `update` takes of a clip.
RECIPES: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {
    "PSNR": ((), ("frames", "real")), "SSIM": ((), ("frames", "real")), "CPBD": ((), ("frames",)), "Flicker": ((), ("frames",)),
    "MouthSharpness": ((), ("frames", "points")), "CompensatedFlicker": ((), ("grey",)),
    "FID": ((3, "judge"), ("features", "real_features")), "KID": ((3, "judge"), ("features", "real_features")),
    "LMD": (("mouth", "raw", 64), ("points", "real_points")), "LipCorrelation": ((), ("points", "real_points")),
    "LipSync": ((), ("video", "audio")), "EmotionAccuracy": ((3,), ("truth", "verdict", "level")),
    "ClosedLids": ((), ("eyes", "closure", "threshold", "closed_at", "open_at")),
    "BlinkStatistics": ((25,), ("closure",)), "BlinkF1": ((), ("events", "true_events")),
    "PoseOverTime": ((), ("pose",)), "PoseOverSeeds": ((), ("pose",)), "ExpressionOverTime": ((), ("beta",)),
    "ExpressionOverSeeds": ((), ("beta",)), "BeatAlignment": ((), ("video", "loudness")),
    "IdentitySimilarity": (("mean face",), ("nats", "loudness")), "HeldOutLikelihood": ((3,), ("nats",)),
}  # fmt: skip


@pytest.mark.parametrize("kind", accumulators(), ids=lambda kind: kind.__name__)
def test_update_takes_clips_merge_takes_parts_and_compute_gives_the_whole(kind):
    made, taken = RECIPES[kind.__name__]
    clips = [clip_of(seed) for seed in range(3)]
    assert np.isnan(kind(*made).compute())
    whole, first, second = (kind(*made) for _ in range(3))
    for clip in clips:
        whole.update(*(clip[name] for name in taken))
    first.update(*(clips[0][name] for name in taken))
    alone = first.compute()
    for clip in clips[1:]:
        second.update(*(clip[name] for name in taken))
    first.merge(second)
    assert np.isfinite(whole.compute())
    assert first.compute() == pytest.approx(whole.compute(), rel=1e-9)
    assert first.compute() != alone or kind.__name__ == "CPBD"  # random grain is sharp everywhere
    first.reset()
    assert np.isnan(first.compute())
    first.update(*(clips[0][name] for name in taken))
    assert first.compute() == pytest.approx(alone, rel=1e-12)


def test_names_are_unique_and_the_main_table_is_the_design_s():
    assert len(BY_NAME) == len(METRICS)
    assert MAIN_COLUMNS[0] == "psnr_db" and MAIN_COLUMNS[-2:] == ("n_scored", "n_expected") and len(MAIN_COLUMNS) == 18
