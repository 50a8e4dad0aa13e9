"""params.yaml, typed: one class per section, no defaults (values live only in the YAML), no unknown keys.

A configuration is params.yaml with an overlay from configs/ merged over it. ``name`` decides the folder of the run:
"default" writes to the repository's own data/, models/ and reports/, any other name to runs/<name>/.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.errors import PipelineError
from pipeline.methods import method_of_row, split_row, variant_stage, varied_model
from pipeline.params.base import Section

#: Sections in the order of params.yaml; each is the class <Name>Params in pipeline/params/<name>.py.
SECTIONS = (
    "corpus",
    "footage",
    "landmarks",
    "landmarker",
    "crop",
    "fit3dmm",
    "audio",
    "experts",
    "codebook",
    "flow",
    "imagegen",
    "generate",
    "evaluate",
    "report",
    "outside",
)
_NAME_PATTERN = "abcdefghijklmnopqrstuvwxyz0123456789_"


def section_class(name: str) -> type[Section]:
    """The typed class of a section."""
    return getattr(importlib.import_module(f"pipeline.params.{name}"), f"{name.capitalize()}Params")


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge of two configurations; a list or value in the overlay replaces the base's."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def read_config(*paths: Path | str) -> dict[str, Any]:
    """Merged, unvalidated configuration from YAML files."""
    config: dict[str, Any] = {}
    for path in paths:
        try:
            content = yaml.safe_load(Path(path).read_text())
        except FileNotFoundError as error:
            raise PipelineError(f"{path}: no such configuration file", "see configs/ for the ones that exist") from error
        except yaml.YAMLError as error:
            raise PipelineError(f"{path}: not valid YAML: {error}", "mend the line named above") from error
        config = merge(config, content or {})
    return config


def _sentence(section: str, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join([section, *(str(part) for part in problem["loc"])])
        lines.append(f"{where}: {problem['msg']}" + ("" if problem["type"] == "missing" else f" (got {problem['input']!r})"))
    return "\n  ".join(lines)


def validate_section(name: str, values: Any) -> Section:
    """One section as a typed object; every problem is named with its dotted key."""
    try:
        return section_class(name).model_validate(values)
    except ValidationError as error:
        raise PipelineError(
            f"params: {_sentence(name, error)}",
            "mend params.yaml or the overlay in configs/; bounds and meanings stand in pipeline/params/",
        ) from error


def resolve_variant(section: Mapping[str, Any], name: str, variant: str) -> dict[str, Any]:
    """Values of one variant: the section's base with the named overlay merged over it, without the list of variants."""
    variants = section.get("variants", {})
    if variant not in variants:
        raise PipelineError(f"params: {name}.variants has no '{variant}'", f"known: {', '.join(variants) or 'none'}")
    base = {key: value for key, value in section.items() if key != "variants"}
    return {**merge(base, variants[variant] or {}), "variants": {}}


def validate(config: Mapping[str, Any]) -> dict[str, Section]:
    """Check a whole configuration: sections, variants, and what must agree between sections.

    Returns:
        Typed sections by name.

    Raises:
        PipelineError: unknown, missing or out-of-range values, each with its dotted key.
    """
    unknown = set(config) - set(SECTIONS) - {"name", "seed"}
    missing = {"name", "seed", *SECTIONS} - set(config)
    if unknown or missing:
        parts = [f"unknown key(s) {', '.join(sorted(unknown))}"] if unknown else []
        parts += [f"missing key(s) {', '.join(sorted(missing))}"] if missing else []
        raise PipelineError(f"params: {'; '.join(parts)}", f"the sections are: name, seed, {', '.join(SECTIONS)}")
    if not isinstance(config["seed"], int) or not 0 <= config["seed"] < 2**31:
        raise PipelineError(f"params: seed: expected a whole number in [0, 2^31), got {config['seed']!r}", "set seed in params.yaml")
    if not isinstance(config["name"], str) or not config["name"] or set(config["name"]) - set(_NAME_PATTERN):
        raise PipelineError(f"params: name: expected [a-z0-9_]+, got {config['name']!r}", "it becomes a folder under runs/")
    sections = {name: validate_section(name, config[name]) for name in SECTIONS}
    for name in SECTIONS:
        for variant in config[name].get("variants", {}):
            validate_section(name, resolve_variant(config[name], name, variant))
    _check_between(config)
    return sections


def _check_between(config: Mapping[str, Any]) -> None:
    folders = [source["name"] for source in config["corpus"]["sources"] if source["adapter"] != "synthetic"]
    if folders and config["landmarks"]["backend"] == "trained":
        raise PipelineError(
            f"params: landmarks.backend 'trained' learns from the embedded corpus' truth and cannot read source '{folders[0]}'",
            "set landmarks.backend to mediapipe or face_alignment",
        )
    for key, section in (("flow_variant", "flow"), ("regression_variant", "flow"), ("imagegen_variant", "imagegen")):
        wanted = config["generate"].get(key)
        if wanted and wanted not in config[section]["variants"]:
            raise PipelineError(
                f"params: generate.{key}: '{wanted}' is not in {section}.variants", f"known: {', '.join(config[section]['variants'])}"
            )
    for row in config["generate"]["methods"]:
        _check_row(config, row)


def _check_row(config: Mapping[str, Any], row: str) -> None:
    """A row's variant exists and is of the kind that the row needs; rows drawn by the corpus' renderer have a corpus that it made."""
    variant, stage = split_row(row)[1], variant_stage(row)
    if variant and variant not in config[stage]["variants"]:
        raise PipelineError(
            f"params: generate.methods: '{row}': '{variant}' is not in {stage}.variants", f"known: {', '.join(config[stage]['variants'])}"
        )
    wanted = varied_model(row)
    if variant and stage == "flow" and resolve_variant(config[stage], stage, variant)["model"] != wanted:
        raise PipelineError(
            f"params: generate.methods: '{row}' needs a variant with model '{wanted}', and flow.variants.{variant} is of another",
            "name another variant",
        )
    others = [source["name"] for source in config["corpus"]["sources"] if source["adapter"] != "synthetic"]
    if method_of_row(row).drawn == "clay" and (others or config["fit3dmm"]["model"] != "clay"):
        why = f"source '{others[0]}' is not the embedded corpus" if others else f"fit3dmm.model is '{config['fit3dmm']['model']}'"
        raise PipelineError(
            f"params: generate.methods: '{row}' is drawn by the renderer of the embedded corpus on the clay head, and {why}",
            "take the row out, or use the embedded corpus with fit3dmm.model clay",
        )


def canonical(value: Any) -> str:
    """JSON text of plain values that does not depend on key order."""
    return json.dumps(value, sort_keys=True, indent=1)
