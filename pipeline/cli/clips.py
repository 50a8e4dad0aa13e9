"""Run a folder of ordinary talking-head videos: ``make clips ROOT=<folder> [TARGET=<stage>]``.

Writes the folder's path into runs/<name>/config.yaml (an overlay that stays out of git) and calls Snakemake on it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import yaml

from pipeline import context as house
from pipeline.errors import PipelineError
from pipeline.io import write_text
from pipeline.params import read_config, validate
from pipeline.stages import STAGES, run_root, variants


def targets_of(config: dict, target: str) -> list[str]:
    """Snakemake targets of "all", or of one stage; of the per-clip stages also those before it, so that `audio` comes with fitted faces."""
    if target == "all":
        return ["all"]
    if target not in STAGES:
        raise PipelineError(f"TARGET={target} is no stage", f"stages: all, {', '.join(STAGES)}")
    names = list(STAGES)
    before = [name for name in names[: names.index(target)] if STAGES[name].kind == "clips" == STAGES[target].kind]
    return [
        str(run_root(config) / STAGES[name].out.format(variant=variant)) for name in [*before, target] for variant in variants(config, name)
    ]


def run(root: Path, target: str, cores: str, configfile: str) -> None:
    """Check the folder, write the overlay, run Snakemake."""
    if not root.is_dir():
        raise PipelineError(f"{root}: no such folder", "name a folder that holds videos: make clips ROOT=<folder>")
    config = read_config("params.yaml", configfile)
    folders = [source["name"] for source in config["corpus"]["sources"] if source["adapter"] != "synthetic"]
    if len(folders) > 1:
        raise PipelineError(
            f"{configfile} has several folders ({', '.join(folders)}), and ROOT names one", "give their roots in an overlay of your own"
        )
    sources = [
        {**source, "root": os.path.relpath(root)} if source["adapter"] != "synthetic" else source for source in config["corpus"]["sources"]
    ]
    config["corpus"]["sources"] = sources
    validate(config)
    overlay = run_root(config) / "config.yaml"
    write_text(overlay, yaml.safe_dump({"corpus": {"sources": sources}}))
    command = ["snakemake", "--cores", cores, "--configfile", configfile, str(overlay), "--", *targets_of(config, target)]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise SystemExit(code)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--target", default="all")
    parser.add_argument("--cores", default="all")
    parser.add_argument("--configfile", default="configs/clips.yaml")
    args = parser.parse_args()
    house.guarded(lambda: run(args.root, args.target, args.cores, args.configfile))


if __name__ == "__main__":
    main()
