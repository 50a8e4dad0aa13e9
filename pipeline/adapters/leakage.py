"""No person and no recording in two splits: checked over all sources at once, before anything is made."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.adapters.folder import NOT_DISJOINT
from pipeline.clipstage import Item
from pipeline.errors import PipelineError


def check_leakage(items: Iterable[Item]) -> None:
    """Raise where a person or a recording lies in two splits.

    Clips that a folder splits by their hash are marked as not disjoint in their reason, and a source may accept shared people
    (``shared_identities``): both are left alone.

    Raises:
        PipelineError: names the person or recording, its splits and one file of each.
    """
    seen: dict[tuple[str, str], dict[str, str]] = {}
    for item in items:
        row = item.row
        if not row.get("split") or row.get("shared") or NOT_DISJOINT in str(row.get("reason", "")):
            continue
        for what in ("recording", "identity"):
            name = str(row.get(what) or "")
            if not name:
                continue
            places = seen.setdefault((what, name), {})
            places.setdefault(str(row["split"]), str(row.get("file") or item.clip))
            if len(places) > 1:
                where = ", ".join(f"{split} ({file})" for split, file in sorted(places.items()))
                raise PipelineError(
                    f"{what} '{name}' is in more than one split: {where}",
                    "give all its clips one split (index.csv, split_lists), or accept it with `shared_identities: true` at the source",
                )
