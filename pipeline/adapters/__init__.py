"""Adapters: how each kind of source becomes clips of the corpus.

An adapter is a module with ``make_items(ctx, source) -> list[Item]``, ``process(item, loaded, ctx, folder) -> list[dict]`` and optionally
``setup(ctx) -> Any``, called once per process, whose result is ``loaded``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from pipeline.errors import PipelineError
from pipeline.params.corpus import CorpusParams


def _synthetic() -> ModuleType:
    from pipeline.adapters import synthetic

    return synthetic


def _folder() -> ModuleType:
    from pipeline.adapters import folder

    return folder


def _mead() -> ModuleType:
    from pipeline.adapters import mead

    return mead


def _hdtf() -> ModuleType:
    from pipeline.adapters import hdtf

    return hdtf


def _cremad() -> ModuleType:
    from pipeline.adapters import cremad

    return cremad


def _ravdess() -> ModuleType:
    from pipeline.adapters import ravdess

    return ravdess


def _grid() -> ModuleType:
    from pipeline.adapters import grid

    return grid


def _voxceleb() -> ModuleType:
    from pipeline.adapters import voxceleb

    return voxceleb


def _ffhq() -> ModuleType:
    from pipeline.adapters import ffhq

    return ffhq


#: Name in ``corpus.sources[].adapter`` -> the adapter's module, imported when used (and written out, so that the code hash finds it).
ADAPTERS: dict[str, Callable[[], ModuleType]] = {
    "synthetic": _synthetic, "folder": _folder, "mead": _mead, "hdtf": _hdtf, "cremad": _cremad, "ravdess": _ravdess, "grid": _grid,
    "voxceleb": _voxceleb, "ffhq": _ffhq,
}  # fmt: skip


def resolve_source(corpus: CorpusParams, file: str, corpus_folder: Path) -> Path:
    """Path of a file named in the corpus index.

    Args:
        corpus: section `corpus` of the parameters.
        file: "<source>:<path below that source's root>" for the user's own files, else a path below the index's folder.
        corpus_folder: folder of the corpus index.

    Returns:
        The path; it need not exist.

    Raises:
        PipelineError: the index names a source that the parameters do not have.
    """
    name, colon, below = file.partition(":")
    if not colon:
        return corpus_folder / file
    for source in corpus.sources:
        if source.name == name:
            return Path(source.root).expanduser() / below
    raise PipelineError(
        f"'{file}': the corpus index names source '{name}', which corpus.sources does not have",
        "run the stage `corpus` again, or put the source back into the parameters",
    )
