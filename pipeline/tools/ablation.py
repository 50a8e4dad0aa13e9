"""Run an ablation grid and write its tables: ``python -m pipeline.tools.ablation flow|prior|imagegen [--cores N] [--tables-only]``.

Snakemake makes what is missing of the run that configs/ablation_<grid>.yaml describes; an interrupted grid goes on where it stopped, and a variant
whose parameters, code and inputs are unchanged is not trained again. Then the tables go to reports/tables/ablation_<grid>.{csv,md,tex} and the
figure to docs/figures/ablation_<grid>.png.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

from pipeline.context import guarded
from pipeline.io import write_bytes, write_text
from pipeline.params import read_config, validate
from pipeline.reporting.ablation_grids import GRIDS
from pipeline.reporting.ablation_tables import ablation_csv, ablation_figure, ablation_md, ablation_tex
from pipeline.reporting.ablations import Ablation, compare, grid_trainings, read_tables
from pipeline.stages import STAGES, run_root


def grid_config(name: str) -> Path:
    """Overlay of a grid."""
    return Path("configs") / f"ablation_{name}.yaml"


def command_of(name: str, cores: str) -> list[str]:
    """Snakemake's command line for a grid, up to its scores, or up to its trainings where no clips are generated."""
    overlay, grid = str(grid_config(name)), GRIDS[name]
    config = read_config("params.yaml", overlay)
    outs = [STAGES["evaluate"].out] if grid.method else [STAGES[grid.stage].out.format(variant=one) for one in grid_trainings(grid, config)]
    return ["snakemake", "--cores", cores, "--configfile", overlay, "--", *(str(run_root(config) / out) for out in outs)]


def summarise(name: str) -> Ablation:
    """All numbers of a finished grid.

    Raises:
        PipelineError: it is not finished, or its configuration holds two equal trainings.
    """
    config = read_config("params.yaml", grid_config(name))
    sections = validate(config)
    grid, evaluate = GRIDS[name], sections["evaluate"].model_dump()
    run = read_tables(run_root(config), grid, config)
    return compare(grid, run, seed=config["seed"], resamples=evaluate["bootstrap_resamples"], level=evaluate["interval"])


def write_tables(ablation: Ablation, tables: Path, figures: Path) -> list[Path]:
    """Write csv, md, tex and the figure, and return their paths."""
    stem = f"ablation_{ablation.grid.name}"
    texts = {"csv": ablation_csv(ablation), "md": ablation_md(ablation), "tex": ablation_tex(ablation)}
    for suffix, text in texts.items():
        write_text(tables / f"{stem}.{suffix}", text)
    write_bytes(figures / f"{stem}.png", ablation_figure(ablation))
    return [*(tables / f"{stem}.{suffix}" for suffix in texts), figures / f"{stem}.png"]


def run(name: str, cores: str, tables_only: bool) -> None:
    """Make the grid, unless only its tables are wanted, and write them."""
    if not tables_only:
        started = time.monotonic()
        code = subprocess.run(command_of(name, cores), check=False).returncode
        if code:
            raise SystemExit(code)
        print(f"grid {name}: {(time.monotonic() - started) / 60:.1f} min of wall time")
    ablation = summarise(name)
    for found in ablation.claims:
        print(f"{found.verdict:12s} {found.claim.text}")
    for path in write_tables(ablation, Path("reports/tables"), Path("docs/figures")):
        print(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=sorted(GRIDS))
    parser.add_argument("--cores", default="all")
    parser.add_argument("--tables-only", action="store_true", help="of a finished grid")
    args = parser.parse_args()
    guarded(lambda: run(args.grid, args.cores, args.tables_only))


if __name__ == "__main__":
    main()
