"""Adapters: how each kind of source becomes clips of the corpus.

An adapter is a module with ``make_items(ctx, source) -> list[Item]``, ``process(item, loaded, ctx, folder) -> list[dict]`` and optionally
``setup(ctx) -> Any``, called once per process, whose result is ``loaded``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def _synthetic() -> ModuleType:
    from pipeline.adapters import synthetic

    return synthetic


def _folder() -> ModuleType:
    from pipeline.adapters import folder

    return folder


#: Name in ``corpus.sources[].adapter`` -> the adapter's module, imported when used.
ADAPTERS: dict[str, Callable[[], ModuleType]] = {"synthetic": _synthetic, "folder": _folder}
