"""Certify outputs between the two engines.

``python -m pipeline.record``: after ``snakemake all``, write dvc.lock, but only if Snakemake says that nothing is to be done and
that no provenance is missing; otherwise a partial build, or old data under new parameters, would be certified.
``python -m pipeline.record --sync``: after ``dvc pull``, tell Snakemake that the outputs are the recorded ones, but only if DVC
says that they are.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from pipeline import context as house
from pipeline.errors import PipelineError


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _snakemake(configfile: str, *options: str) -> list[str]:
    return ["snakemake", *options, *(["--configfile", configfile] if configfile else []), "--", "all"]


def record(configfile: str = "", dvcfile: str = "dvc.yaml") -> None:
    """Write dvc.lock from finished outputs.

    Raises:
        PipelineError: something is to be done, or provenance is missing, or DVC refuses.
    """
    dry = _run(*_snakemake(configfile, "--dry-run", "--quiet", "host"))
    text = dry.stdout + dry.stderr
    if dry.returncode != 0:
        raise PipelineError(f"snakemake cannot plan:\n{text[-2000:]}", "mend what it says")
    if "Nothing to be done" not in text:
        raise PipelineError("the outputs are not complete or not up to date; nothing was recorded", "run `snakemake --cores all all` first")
    if "missing provenance" in text:
        raise PipelineError(
            "Snakemake does not know how these outputs were made; nothing was recorded",
            "run `make sync` if they came from `dvc pull`, else `snakemake --cores all --forceall all`",
        )
    committed = _run("dvc", "commit", "--force", "--quiet", dvcfile)
    if committed.returncode != 0:
        raise PipelineError(f"dvc commit failed:\n{committed.stderr[-2000:]}", "mend what it says")
    print("recorded in dvc.lock; commit it together with params.yaml and reports/")


def sync(configfile: str = "", dvcfile: str = "dvc.yaml") -> None:
    """Write Snakemake's metadata for outputs that DVC vouches for.

    Raises:
        PipelineError: an output differs from dvc.lock.
    """
    checkout = _run("dvc", "checkout", "--quiet")
    status = _run("dvc", "status", "--quiet", dvcfile)
    if checkout.returncode != 0 or status.returncode != 0:
        detail = _run("dvc", "status", dvcfile).stdout
        raise PipelineError(
            f"the outputs here are not the ones in dvc.lock; nothing was certified\n{detail[-2000:]}",
            "record them (`make record`), rebuild them (`dvc repro`), or drop them (`dvc checkout --force`)",
        )
    touched = _run(*_snakemake(configfile, "--touch", "--forceall", "--cores", "1"))
    if touched.returncode != 0:
        raise PipelineError(f"snakemake --touch failed:\n{(touched.stdout + touched.stderr)[-2000:]}", "mend what it says")
    print("Snakemake and DVC agree")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sync", action="store_true", help="certify DVC's outputs to Snakemake instead")
    parser.add_argument("--configfile", default="", help="configs/<name>.yaml of another configuration")
    parser.add_argument("--dvcfile", default="dvc.yaml")
    args = parser.parse_args()
    house.guarded(lambda: (sync if args.sync else record)(args.configfile, args.dvcfile))


if __name__ == "__main__":
    sys.exit(main())
