"""Adapter `synthetic`: the embedded corpus, rendered clip by clip from the seed."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from flowvqtalker.constants import FPS_HZ
from flowvqtalker.corpus.make import Person, Recipe, make_person, make_stills, make_talk, render_talk, truth_of
from flowvqtalker.corpus.plan import ClipSpec, CorpusSize, make_plan
from flowvqtalker.face import FaceModel, make_face_model
from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.io import write_npz
from pipeline.media import synthetic_metadata, write_video
from pipeline.params.corpus import Source

_MADE_BY = "flowvqtalker, embedded corpus (clay head, espeak-ng speech)"


def make_items(ctx: Context, source: Source) -> list[Item]:
    """One item per clip of the plan whose uses the source allows."""
    numbers = ctx.cfg.synthetic
    size = CorpusSize(**{name: getattr(numbers, name) for name in CorpusSize.__dataclass_fields__})
    items = []
    for spec in make_plan(size, ctx.seed):
        uses = tuple(use for use in spec.uses if use in source.uses)
        if uses:
            items.append(Item(spec.clip, (), {**asdict(spec), "uses": "+".join(uses), "spec": spec}))
    return items


def setup(ctx: Context) -> FaceModel:
    """The head that everybody wears."""
    return make_face_model("clay")


def process(item: Item, model: FaceModel, ctx: Context, folder: Path) -> list[dict[str, Any]]:
    """Make one clip: ``videos/<clip>.mp4`` with ``truth/<clip>.npz``, or ``stills/<clip>.npz``."""
    numbers, spec = ctx.cfg.synthetic, item.row["spec"]
    recipe = Recipe(
        seed=ctx.seed, size_px=numbers.raw_size_px, face_share=numbers.face_share, rate_wpm=numbers.rate_wpm,
        lead_s=numbers.lead_s, tail_s=numbers.tail_s, max_clip_s=numbers.max_clip_s,
    )  # fmt: skip
    person = _person(spec.identity, model, ctx.seed)
    row = _labels(item, spec)
    if spec.kind == "stills":
        name, count = f"stills/{spec.clip}.npz", numbers.stills_per_identity
        (folder / "stills").mkdir()
        write_npz(folder / name, make_stills(spec, count, person, recipe, model), compress=True)
        return [{**row, "file": name, "n_frames": count}]
    talk = make_talk(spec, person, recipe)
    video, truth = f"videos/{spec.clip}.mp4", f"truth/{spec.clip}.npz"
    (folder / "videos").mkdir()
    (folder / "truth").mkdir()
    write_npz(folder / truth, truth_of(talk, model))
    tags = synthetic_metadata(_MADE_BY, title=spec.clip)
    write_video(folder / video, render_talk(talk, model), fps_hz=FPS_HZ, sound=talk.speech.samples, crf=numbers.crf, metadata=tags)
    return [{**row, "file": video, "truth": truth, "n_frames": talk.n_frames, "fps_hz": FPS_HZ, "seconds": talk.n_frames / FPS_HZ}]


@lru_cache(maxsize=2)
def _person(identity: str, model: FaceModel, seed: int) -> Person:
    """Clips of one identity follow each other, and painting a face takes as long as rendering ten frames."""
    return make_person(identity, model, seed)


def _labels(item: Item, spec: ClipSpec) -> dict[str, Any]:
    names = ("clip", "kind", "identity", "emotion", "level", "sentence", "take", "split", "role", "text")
    return {**{name: getattr(spec, name) for name in names}, "uses": item.row["uses"], "sidecar": ""}
