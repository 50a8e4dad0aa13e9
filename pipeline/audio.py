"""Step `audio`: log-mel spectrogram of every crop's sound, with the window of steps of each frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowvqtalker.audio import compute_mel, window_starts
from pipeline.clipstage import ClipError, ClipStage, Item, main
from pipeline.context import Context
from pipeline.io import ok_rows, read_index, write_npz
from pipeline.media import read_sound


def make_items(ctx: Context) -> list[Item]:
    """One item for each talking crop; stills have no sound and no row."""
    crops = ok_rows(read_index(ctx.reads["crop"], "crop"))
    return [Item(row["clip"], (row["sha256"],), row) for row in crops[crops["kind"] == "video"].to_dict("records")]


def process(item: Item, folder_in: Path, ctx: Context, folder: Path) -> list[dict[str, Any]]:
    """Mel spectrogram of one clip; a clip without sound is rejected with the reason "no sound"."""
    n_frames, status = int(item.row["n_frames"]), item.row["audio_status"]
    row = {"clip": item.clip, "n_frames": n_frames, "audio_status": status}
    if status == "none" or not item.row["sound"]:
        raise ClipError("no sound", rejected=True)
    samples = read_sound(folder_in / item.row["sound"], n_frames=n_frames)
    if samples is None or not len(samples):
        raise ClipError(f"{item.row['sound']}: the file holds no sound", rejected=True)
    write_npz(folder / f"{item.clip}.npz", {"mel": compute_mel(samples), "start": window_starts(n_frames)})
    return [{**row, "file": f"{item.clip}.npz"}]


STAGE = ClipStage(name="audio", items=make_items, setup=lambda ctx: ctx.reads["crop"].parent, process=process)

if __name__ == "__main__":
    main(STAGE)
