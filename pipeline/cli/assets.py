"""Bring assets into ./assets, checked: ``make assets [CONFIG=configs/<name>.yaml] [MIRROR=<folder>]``.

Downloads what the configuration needs (the one for a folder of videos when none is named) from the official sources, goes on where an
interrupted download stopped, and lays a file down only when its checksum holds. A mirror is a folder with MANIFEST.csv (columns file,
bytes, sha256, source, licence, what); its files are copied and what it has is not downloaded.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from pipeline import context as house
from pipeline.assetlist import ASSETS, BY_NAME
from pipeline.assets import download, how_to_get
from pipeline.clipstage import link_or_copy
from pipeline.errors import PipelineError
from pipeline.io import file_sha256
from pipeline.needs import Need, asset_of, check, needs_of
from pipeline.params import read_config, validate

FOLDER = Path("assets")


def copy_from_mirror(mirror: Path, target: Path = FOLDER) -> list[str]:
    """Copy every file of the mirror's manifest whose checksum holds.

    Returns:
        Names of the files that lie in ``target`` afterwards.

    Raises:
        PipelineError: no manifest, a file of the mirror is missing or damaged, or the mirror names another file than our manifest.
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
        known = BY_NAME.get(row["file"])
        if known and not row["sha256"].startswith(known.sha256):
            raise PipelineError(
                f"{source}: the mirror's manifest names another file than pipeline/assetlist.py", f"get it from {known.source}"
            )
        if final.is_file() and file_sha256(final) == row["sha256"]:
            continue
        if not source.is_file() or file_sha256(source) != row["sha256"]:
            state = "damaged" if source.is_file() else "missing"
            raise PipelineError(f"{source}: {state} in the mirror", f"get it again from its source: {row['source']}")
        link_or_copy(source, final)
    return [row["file"] for row in rows]


def wanted_assets(configfile: Path | None, everything: bool) -> list[Need]:
    """Files of the manifest that a configuration needs, or all of them."""
    if everything:
        return [Need("asset", asset.name, asset.needed_by) for asset in ASSETS]
    overlays = [configfile] if configfile else []
    needs = needs_of(validate(read_config("params.yaml", *overlays)))
    return [need for need in needs if asset_of(need)]


def run(mirror: Path | None, configfile: Path | None, everything: bool = False, target: Path = FOLDER) -> None:
    """Copy from the mirror, download the rest, and say what only a person can get.

    Raises:
        PipelineError: something that was asked for is still missing; every file is tried first.
    """
    if mirror is not None:
        print(f"{len(copy_from_mirror(mirror, target))} files of the mirror checked in {target}/")
    failed = []
    for need in wanted_assets(configfile, everything):
        found, asset = check(need), asset_of(need)
        if asset is None or found.word == "ok":
            print(f"present  {need.name}  {found.detail}")
            continue
        if asset.kind != "download":
            print(f"missing  {asset.name}  {asset.size_text}, {asset.source}\n         {how_to_get(asset)}")
            failed.append(asset.name)
            continue
        print(f"download {asset.name}  {asset.size_text}, {asset.source}", flush=True)
        try:
            # A file lies where the parameters say; an asset in our folder of them.
            download(asset, Path(need.name) if need.kind == "file" else target / asset.name)
        except PipelineError as error:
            print(f"failed   {asset.name}  {error.message}")
            failed.append(asset.name)
            continue
        if (again := check(need)).word != "ok":
            print(f"{again.word:8} {asset.name}  {again.detail}: it is found first, delete it")
            failed.append(asset.name)
    if failed:
        raise PipelineError(
            f"not here: {', '.join(failed)}",
            "run again to go on with interrupted downloads, use MIRROR=<folder>, or follow the lines above; `flowvqtalker doctor` tells which configuration needs which",
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, default=None)
    parser.add_argument("--configfile", type=Path, default=None)
    parser.add_argument("--all", action="store_true", help="every file of the manifest")
    args = parser.parse_args()
    house.guarded(lambda: run(args.mirror, args.configfile, args.all))


if __name__ == "__main__":
    main()
