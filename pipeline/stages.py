"""The registry: what each stage reads, writes and depends on. Snakemake rules, dvc.yaml and stamps are derived from it.

Paths are relative to the folder of the run. ``{variant}`` stands for a named overlay of the stage's parameters.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.codehash import code_files, code_hash
from pipeline.methods import models_of, named_variants
from pipeline.params import canonical, resolve_variant


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: the one word for stage, params section, rule, module, DVC stage, folder and tag.
        out: hand-over file that proves the stage complete, written last.
        reads: names of the stages read; "flow" and "imagegen" mean the variants that the parameters choose.
        rules: Snakemake rules that belong to the stage.
        params: sections of params.yaml tracked besides the stage's own and the seed.
        fan: "variant" when there is one model per named overlay.
        kind: "clips" (sharded), "training", "methods" or "plain".
    """

    name: str
    out: str
    reads: tuple[str, ...]
    rules: tuple[str, ...]
    kind: str
    params: tuple[str, ...] = ()
    fan: str = ""

    @property
    def module(self) -> str:
        return f"pipeline.{self.name}"

    @property
    def folder(self) -> str:
        return str(Path(self.out).parent)


def _clip_stage(name: str, reads: tuple[str, ...], params: tuple[str, ...] = ()) -> Stage:
    return Stage(name, f"data/{name}/index.csv", reads, (f"{name}_shard", name), "clips", params)


def _training(name: str, reads: tuple[str, ...], params: tuple[str, ...] = (), fan: str = "") -> Stage:
    folder = f"models/{name}/{{variant}}" if fan else f"models/{name}"
    return Stage(name, f"{folder}/index.json", reads, (name,), "training", params, fan)


_ALL = (
    _clip_stage("corpus", ()),
    _training("landmarker", ("corpus",), ("landmarks", "crop")),
    _clip_stage("crop", ("corpus", "landmarker"), ("landmarks", "corpus", "footage")),
    _clip_stage("fit3dmm", ("crop",)),
    _clip_stage("audio", ("crop",)),
    _training("experts", ("crop", "audio", "fit3dmm"), ("audio", "corpus")),
    _training("codebook", ("crop",)),
    _training("flow", ("crop", "fit3dmm", "audio"), ("fit3dmm", "audio"), fan="variant"),
    _training("imagegen", ("crop", "fit3dmm", "codebook"), ("fit3dmm", "codebook"), fan="variant"),
    Stage(
        "generate", "data/generate/index.csv", ("crop", "fit3dmm", "audio", "codebook", "flow", "imagegen"),
        ("generate_method", "generate_long", "generate"), "methods", ("fit3dmm", "audio", "crop"),
    ),
    Stage(
        "evaluate", "reports/evaluate/metrics.json", ("generate", "experts", "crop", "fit3dmm", "audio", "corpus", "landmarker"),
        ("evaluate_method", "evaluate"), "methods", ("landmarks", "crop", "fit3dmm", "generate", "corpus", "audio"),
    ),
    Stage("report", "reports/index.html", ("evaluate", "generate", "crop", "fit3dmm", "landmarker", "experts", "codebook", "flow", "imagegen"), ("report",), "plain", ("generate", "evaluate")),
)  # fmt: skip
STAGES: dict[str, Stage] = {stage.name: stage for stage in _ALL}


def run_root(config: Mapping[str, Any]) -> Path:
    """Folder of a configuration's run, relative to the repository."""
    return Path(".") if config["name"] == "default" else Path("runs") / config["name"]


def variants(config: Mapping[str, Any], stage: str) -> list[str]:
    """Variants of a fanned stage, sorted; [""] for any other stage."""
    return sorted(config[stage].get("variants", {})) if STAGES[stage].fan else [""]


def used_variants(config: Mapping[str, Any], stage: str, reader: str) -> list[str]:
    """Variants of ``stage`` that ``reader`` reads: those chosen by generate.*_variant and those that rows name (the report reads the same)."""
    if not STAGES[stage].fan:
        return [""]
    chosen = {"flow": ("flow_variant", "regression_variant"), "imagegen": ("imagegen_variant",)}[stage]
    named = named_variants(config["generate"].get("methods", ()), stage)
    return sorted({config["generate"][key] for key in chosen if config["generate"].get(key)} | named)


def is_read(config: Mapping[str, Any], stage: str, reader: str) -> bool:
    """Whether ``reader`` reads ``stage`` in this configuration: a table without pictures of the codebook's does without the codebook."""
    if stage != "codebook" or reader not in ("generate", "report"):
        return True
    generate = config["generate"]
    return bool(generate.get("imagegen_variant")) or any("codebook" in models_of(row) for row in generate.get("methods", ()))


def reads_of(config: Mapping[str, Any], name: str) -> dict[str, str]:
    """Hand-over files a stage reads: {"crop": ..., "flow_full": ...}, relative to the run's folder."""
    files: dict[str, str] = {}
    for upstream in (stage for stage in STAGES[name].reads if is_read(config, stage, name)):
        for variant in used_variants(config, upstream, name):
            files[f"{upstream}_{variant}" if variant else upstream] = STAGES[upstream].out.format(variant=variant)
    return files


def stamp_path(name: str, variant: str = "") -> str:
    """Stamp of a stage, relative to the run's folder."""
    return f".stamps/{name}.{variant}.json" if variant else f".stamps/{name}.json"


def stamp_text(config: Mapping[str, Any], name: str, variant: str = "") -> str:
    """Parameters and code hash of a stage: what its result depends on beside its input files."""
    sections = {section: dict(config[section]) for section in dict.fromkeys((name, *STAGES[name].params))}
    for section, values in sections.items():
        if section == name and variant:
            sections[section] = resolve_variant(values, name, variant)
    stamp = {
        "stage": name,
        "variant": variant,
        "name": config["name"],
        "seed": config["seed"],
        "params": sections,
        "code": code_hash(STAGES[name].module),
    }
    return stamp_json(stamp)


def stamp_json(stamp: Mapping[str, Any]) -> str:
    """Text of a stamp."""
    return json.dumps(json.loads(canonical(stamp)), sort_keys=True, indent=1) + "\n"


def write_stamps(config: Mapping[str, Any]) -> None:
    """Write every stage's stamp where its text changed. A rule that lists the stamp as input reruns exactly then."""
    root = run_root(config)
    for name in STAGES:
        for variant in variants(config, name):
            path, text = root / stamp_path(name, variant), stamp_text(config, name, variant)
            if not path.exists() or path.read_text() != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_suffix(f".{os.getpid()}.tmp")
                temporary.write_text(text)
                os.replace(temporary, path)


def stage_code_files(name: str) -> list[str]:
    """Source files whose statements change the stage's result, for DVC: the import closure, the rules and the parameters' class."""
    return sorted({*code_files(STAGES[name].module), f"pipeline/{name}.smk"})
