"""Lay assets from a mirror into ./assets, checked: ``make assets MIRROR=<folder>``.

A mirror is a folder with MANIFEST.csv (columns file, bytes, sha256, source, licence, what). Without a mirror the command lists what
is needed and where each file officially comes from; nothing is downloaded behind your back.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from pipeline import context as house
from pipeline.assets import SOURCES, find_asset
from pipeline.clipstage import link_or_copy
from pipeline.errors import PipelineError
from pipeline.io import file_sha256


def copy_from_mirror(mirror: Path, target: Path = Path("assets")) -> list[str]:
    """Copy every file of the mirror's manifest whose checksum holds.

    Returns:
        Names of the files that lie in ``target`` afterwards.

    Raises:
        PipelineError: no manifest, or a file of the mirror is missing or damaged.
    """
    manifest = mirror / "MANIFEST.csv"
    if not manifest.is_file():
        raise PipelineError(
            f"{manifest}: no such manifest", "a mirror holds MANIFEST.csv with the columns file, bytes, sha256, source, licence, what"
        )
    with open(manifest, newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        source, final = mirror / row["file"], target / row["file"]
        if final.is_file() and file_sha256(final) == row["sha256"]:
            continue
        if not source.is_file() or file_sha256(source) != row["sha256"]:
            state = "damaged" if source.is_file() else "missing"
            raise PipelineError(f"{source}: {state} in the mirror", f"get it again from its source: {row['source']}")
        link_or_copy(source, final)
    return [row["file"] for row in rows]


def run(mirror: Path | None) -> None:
    """Copy from the mirror, or say what is missing."""
    if mirror is not None:
        names = copy_from_mirror(mirror)
        print(f"{len(names)} files checked in assets/")
    for name, origin in SOURCES.items():
        try:
            print(f"present  {name}  {find_asset(name)}")
        except PipelineError:
            print(f"missing  {name}  {origin}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, default=None)
    args = parser.parse_args()
    house.guarded(lambda: run(args.mirror))


if __name__ == "__main__":
    main()
