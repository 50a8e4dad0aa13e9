"""Assets that are not part of the repository: where they may lie, whether they are whole, and how they are brought here."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.assetlist import BY_NAME, Asset
from pipeline.errors import PipelineError
from pipeline.io import file_sha256

#: Bytes read at once while downloading.
_BLOCK = 1 << 20
#: Seconds without an answer after which a download is given up; run again to go on where it stopped.
_PATIENCE_S = 30.0


def asset_folders() -> list[Path]:
    """Folders searched, in order: FVQT_ASSETS, ./assets, FVQT_SHARED/assets (../shared/assets)."""
    named = os.environ.get("FVQT_ASSETS")
    shared = Path(os.environ.get("FVQT_SHARED", Path("..") / "shared"))
    return [*([Path(named)] if named else []), Path("assets"), shared / "assets"]


def how_to_get(asset: Asset) -> str:
    """One line: what a person does to have the file."""
    if asset.kind == "download":
        return "`make assets` downloads it (CONFIG=configs/<name>.yaml takes all that a configuration needs), or copy it from a mirror"
    return asset.obtain


def find_asset(name: str) -> Path:
    """Path of an asset.

    Args:
        name: path within the asset folder, e.g. "mediapipe/face_landmarker.task".

    Returns:
        The first file found.

    Raises:
        PipelineError: none of the folders has it; the message names the file, its official source and the command that fetches it.
    """
    for folder in asset_folders():
        if (folder / name).is_file():
            return folder / name
    asset = BY_NAME.get(name)
    origin = f"it comes from {asset.source} ({asset.licence}, {asset.size_text}); " if asset else ""
    looked = ", ".join(str(folder) for folder in asset_folders())
    steps = asset.obtain if asset and asset.obtain else "run `make assets`"
    raise PipelineError(
        f"asset '{name}' is missing (looked in {looked})",
        f"{origin}{steps}, put the file into ./assets/{Path(name).parent}/, or set FVQT_ASSETS to a folder that has it",
    )


def is_whole(asset: Asset, path: Path) -> bool:
    """Whether a file is the one the manifest names, by size (where exact) and checksum (where there is one)."""
    if not asset.is_about and path.stat().st_size != asset.n_bytes:
        return False
    return not asset.sha256 or file_sha256(path).startswith(asset.sha256)


@dataclass(frozen=True)
class State:
    """What was found of an asset.

    Attributes:
        word: "present", "missing" or "damaged".
        path: the file found; None when missing.
    """

    word: Literal["present", "missing", "damaged"]
    path: Path | None = None


def state_of(asset: Asset) -> State:
    """Look for an asset as a stage would (the first folder wins) and check it."""
    for folder in asset_folders():
        path = folder / asset.name
        if path.is_file():
            return State("present" if is_whole(asset, path) else "damaged", path)
    return State("missing")


def download(asset: Asset, target: Path) -> None:
    """Download a file, going on where an earlier attempt stopped, and lay it down only when its checksum holds.

    Args:
        asset: what; its kind must be "download".
        target: where the file shall lie. What has come so far waits beside it under the name ``<target>.part``.

    Raises:
        PipelineError: no network, the server refuses, or what came is not the file; the message names address and cure.
    """
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    if have >= asset.n_bytes and not asset.is_about and not is_whole(asset, part):
        part.unlink()
        have = 0
    try:
        if not (have and is_whole(asset, part)):
            _fetch(asset.source, part, have)
    except (urllib.error.URLError, OSError, ValueError) as error:
        kept = part.stat().st_size if part.exists() else 0
        raise PipelineError(
            f"{asset.source}: {getattr(error, 'reason', error)} ({kept:,} of {asset.n_bytes:,} bytes are here)",
            f"run the same command again to go on; without network copy {asset.name} into the asset folder, or use `make assets MIRROR=<folder>`",
        ) from error
    if not is_whole(asset, part):
        size = part.stat().st_size
        if not asset.is_about and size < asset.n_bytes:
            raise PipelineError(
                f"{asset.source}: the download ended early ({size:,} of {asset.n_bytes:,} bytes)", "run the same command again to go on"
            )
        part.unlink()
        raise PipelineError(
            f"{asset.source}: what came is not {asset.name} (size or checksum differ)",
            "try again later; when it happens twice the file has changed at its source: say so in an issue",
        )
    os.replace(part, target)


def _fetch(address: str, part: Path, have: int) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": "flowvqtalker"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    # 206 sends the rest; a server that ignores the range sends all, so the file starts anew.
    with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer, part.open("ab" if answer.status == 206 else "wb") as handle:
        while block := answer.read(_BLOCK):
            handle.write(block)
