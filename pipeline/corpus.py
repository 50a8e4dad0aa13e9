"""Step `corpus`: the index of all clips, made here (embedded corpus) or found in folders of the user's, with their truth where it is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.adapters import ADAPTERS
from pipeline.adapters.leakage import check_leakage
from pipeline.clipstage import ClipStage, Item, main
from pipeline.context import Context


def make_items(ctx: Context) -> list[Item]:
    """Items of every source, marked with source and adapter.

    Raises:
        PipelineError: a person or a recording lies in two splits.
    """
    items = [
        replace(item, row={**item.row, "source": source.name, "adapter": source.adapter})
        for source in ctx.cfg.sources
        for item in ADAPTERS[source.adapter]().make_items(ctx, source)
    ]
    check_leakage(items)
    return unique_ids(items)


def unique_ids(items: list[Item]) -> list[Item]:
    """The items; where two sources give the same clip id, the source's name goes before it."""
    owners: dict[str, set[str]] = {}
    for item in items:
        owners.setdefault(item.clip, set()).add(item.row["source"])
    return [replace(item, clip=f"{item.row['source']}_{item.clip}") if len(owners[item.clip]) > 1 else item for item in items]


def set_up(ctx: Context) -> dict[str, Any]:
    """What each adapter in use loads once per process."""
    modules = {source.adapter: ADAPTERS[source.adapter]() for source in ctx.cfg.sources}
    return {name: module.setup(ctx) if hasattr(module, "setup") else None for name, module in modules.items()}


def process(item: Item, loaded: dict[str, Any], ctx: Context, folder: Path) -> list[dict[str, Any]]:
    """Make or read one clip: video with sound, truth where it is known, and its index row."""
    adapter = item.row["adapter"]
    rows = ADAPTERS[adapter]().process(item, loaded[adapter], ctx, folder)
    return [{**row, "source": item.row["source"]} for row in rows]


STAGE = ClipStage(name="corpus", items=make_items, setup=set_up, process=process)

if __name__ == "__main__":
    main(STAGE)
