"""params.yaml is typed, bounded and knows every key."""

import copy
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.params import SECTIONS, merge, read_config, resolve_variant, section_class, validate
from pipeline.params.base import Section

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def config():
    return read_config(REPOSITORY / "params.yaml")


def test_the_committed_parameters_are_valid(config):
    assert set(validate(config)) == set(SECTIONS)


@pytest.mark.parametrize(
    "overlay", [*sorted((REPOSITORY / "configs").glob("*.yaml")), REPOSITORY / "tests/smoke/config.yaml"], ids=lambda path: path.stem
)
def test_every_overlay_is_valid(overlay):
    validate(read_config(REPOSITORY / "params.yaml", overlay))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("crop", "size_pixels", 128), ("flow", "prior", "smmm"), ("flow", "steps", -1), ("crop", "size_px", 7), ("codebook", "lr", "fast")],
)
def test_a_wrong_value_is_named_with_its_dotted_key(config, section, key, value):
    config[section][key] = value
    with pytest.raises(PipelineError, match=rf"{section}\.{key}"):
        validate(config)


def test_unknown_and_missing_sections_are_named(config):
    with pytest.raises(PipelineError, match="flwo"):
        validate({**config, "flwo": {}})
    config.pop("crop")
    with pytest.raises(PipelineError, match="crop"):
        validate(config)


@pytest.mark.parametrize("seed", [-1, 1.5, "one", 2**31])
def test_seed_is_bounded(config, seed):
    with pytest.raises(PipelineError, match="seed"):
        validate({**config, "seed": seed})


def test_trained_landmarks_refuse_a_folder_of_videos(config):
    config["corpus"]["sources"] = [{"name": "mine", "adapter": "folder", "root": "videos", "uses": ["flow"]}]
    with pytest.raises(PipelineError, match=r"landmarks\.backend"):
        validate(config)


def test_variants_overlay_the_base(config):
    config["flow"]["variants"]["gmm"] = {"prior": "gmm"}
    base = copy.deepcopy(config["flow"])
    assert resolve_variant(config["flow"], "flow", "gmm")["prior"] == "gmm"
    assert config["flow"] == base
    with pytest.raises(PipelineError, match="nothere"):
        resolve_variant(config["flow"], "flow", "nothere")


def test_merge_is_deep_and_replaces_lists():
    assert merge({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}}


def leaf_fields(section_type, prefix):
    """Dotted names and fields of a section and the sections inside it."""
    for name, field in section_type.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            assert inner.__doc__, f"{prefix}.{name}: {inner.__name__} has no docstring"
            assert field.is_required()
            yield from leaf_fields(inner, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", field


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_has_a_description_and_no_default(section):
    for name, field in leaf_fields(section_class(section), section):
        assert field.description, f"{name} has no description"
        assert field.is_required(), f"{name} has a default; values live in params.yaml only"
