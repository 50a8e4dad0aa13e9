"""`flowvqtalker doctor`: what a configuration needs, what of it is here, and how to get the rest."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.assets import asset_folders
from pipeline.errors import PipelineError
from pipeline.needs import Finding, check, needs_of
from pipeline.params import read_config, validate
from pipeline.stages import run_root


def examine(configfiles: list[Path]) -> list[Finding]:
    """Findings of a configuration: params.yaml with the overlays merged over it.

    Raises:
        PipelineError: the configuration itself is not valid.
    """
    return [check(need) for need in needs_of(validate(read_config("params.yaml", *configfiles)))]


def report(findings: list[Finding]) -> str:
    """Text of the findings: what is here in a line each, what is not with source, size and cure."""
    lines = []
    width = max(len(finding.need.name) for finding in findings)
    for finding in findings:
        lines.append(f"{finding.word:8} {finding.need.kind:8} {finding.need.name:{width}}  {finding.detail}")
        if finding.word != "ok":
            lines += [f"{'':18}asked for by {finding.need.because}", f"{'':18}get it: {finding.fix}"]
    return "\n".join(lines)


def run(args: argparse.Namespace) -> None:
    """Print the findings; an error that counts what is not there makes the command exit non-zero."""
    named = ", ".join(str(path) for path in args.configfile) or "params.yaml"
    print(f"configuration: {named} (writes to {run_root(read_config('params.yaml', *args.configfile))}/)")
    print(f"asset folders: {', '.join(str(folder) for folder in asset_folders())}")
    findings = examine(args.configfile)
    print(report(findings))
    bad = [finding for finding in findings if finding.word != "ok"]
    if bad:
        raise PipelineError(
            f"{named} cannot run here: {', '.join(f'{finding.need.name} ({finding.word})' for finding in bad)}",
            "each line above says where it comes from and how to get it",
        )
    print(f"{named} can run here")


def add_parser(subparsers: Any) -> None:
    """Add `doctor` to the console script."""
    parser = subparsers.add_parser("doctor", help="what a configuration needs, what is missing, how to get it", description=__doc__)
    parser.add_argument("--configfile", type=Path, nargs="*", default=[], help="overlays, e.g. configs/clips.yaml; the default without")
    parser.set_defaults(run=run)
