"""Step `generate`: videos and coefficients of the test clips by every method of the result table, and long motion for statistics."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from flowvqtalker.audio import mel_windows
from flowvqtalker.constants import FPS_HZ
from flowvqtalker.corpus.redraw import Studio, draw_motion, make_studio
from flowvqtalker.face import FaceModel
from flowvqtalker.flow.sampling import MotionRequest
from flowvqtalker.seeding import derive_seed
from pipeline import context as house
from pipeline.clipstage import ClipCache, ClipError, ClipStage, Item, link_or_copy, process_item
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.facemodel import load_face_model
from pipeline.io import file_sha256, read_index, read_npz, write_index, write_npz
from pipeline.media import probe, read_sound, read_video_at, write_video
from pipeline.methods import Method, check_row, chosen_variant, method_of_row, models_of
from pipeline.scoredclips import SEEDS, Row, ScoredClip, fitted, scored_clips, source_picture
from pipeline.synthesis import Models, check_length, render_frames, sample_motion, through_codebook, write_synthetic

#: Method that the long motion is sampled by.
LONG_METHOD = "flowvqtalker_free"


def model_folders(ctx: Context, row: str) -> dict[str, Path | None]:
    """Folder of each model that a row and the parameters choose; None where none is chosen."""
    chosen = {
        model: (stage, chosen_variant(ctx.cfg.model_dump(), row, model))
        for model, stage in (("flow", "flow"), ("regression", "flow"), ("imagegen", "imagegen"))
    }
    names = {model: f"{stage}_{variant}" if variant else "" for model, (stage, variant) in chosen.items()} | {"codebook": "codebook"}
    return {model: ctx.model_folder(name) if name in ctx.reads else None for model, name in names.items()}


@dataclass
class Work:
    """One row of the table at work on all scored clips."""

    ctx: Context
    row: str
    clips: dict[str, ScoredClip]
    studios: dict[str, Studio] = field(default_factory=dict)

    @property
    def method(self) -> Method:
        """What drives and draws the row."""
        return method_of_row(self.row)

    @cached_property
    def models(self) -> Models:
        """Trained models, loaded when first used."""
        return Models(**model_folders(self.ctx, self.row))

    @cached_property
    def head(self) -> FaceModel:
        """The head of the embedded corpus, for rows that its renderer draws."""
        return load_face_model("clay", "")

    def draw_clay(self, clip: ScoredClip, beta: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Frames (T, S, S, 3) uint8 of the clip's person as the embedded corpus draws them, moved by beta (T, E) and pose (T, 6)."""
        identity = clip.row["identity"]
        if identity not in self.studios:
            self.studios[identity] = make_studio(identity, self.head, self.ctx.seed, int(clip.row["size_px"]))
        return np.stack(list(draw_motion(self.studios[identity], self.head, beta, pose)))

    def driving_sound(self, clip: ScoredClip) -> Row | None:
        """Row of the clip whose sound the model hears; None when that does not exist."""
        row = clip.foreign if self.method.heard == "foreign" else clip.row
        return row if row is not None and row["mel"] else None

    def requests(self, clips: list[ScoredClip], sample: int = 0) -> list[MotionRequest]:
        """What the flow is asked for; every rollout starts from the source picture's coefficients. Sample 0 has the clip's own seed."""
        made = []
        for clip in clips:
            row = self.driving_sound(clip)
            assert row is not None
            mel = read_npz(self.ctx.reads["audio"].parent / row["mel"])["mel"]
            source, _ = source_picture(self.ctx, clip)
            label, intensity = clip.label
            windows = torch.from_numpy(mel_windows(mel, clip.n_frames))
            seed = derive_seed(self.ctx.seed, "generate sample", clip.clip, sample) % SEEDS if sample else clip.seed
            made.append(MotionRequest(windows, torch.from_numpy(source.beta), torch.from_numpy(source.pose), label, intensity, seed))
        return made

    def sample(self, kind: str, requests: list[MotionRequest]) -> list[np.ndarray]:
        """Coefficients of every request by "expflow", "poseflow" or "regression"."""
        cfg = self.ctx.cfg
        temperature = cfg.pose_temperature if kind == "poseflow" else cfg.temperature
        return sample_motion(
            getattr(self.models, kind), requests, temperature=temperature, guidance=cfg.emotion_guidance, batch=cfg.rollout_batch
        )

    def roll_out(self, clips: list[ScoredClip]) -> dict[str, dict[str, np.ndarray]]:
        """Sampled beta and pose of clips, batched; what the method does not sample is missing."""
        clips = [clip for clip in clips if self.driving_sound(clip) is not None]
        sources = (("beta", self.method.expression), ("pose", self.method.pose))
        wanted = [(name, kind) for name, kind in sources if kind in ("expflow", "poseflow", "regression")]
        motion: dict[str, dict[str, np.ndarray]] = {clip.clip: {} for clip in clips}
        if not clips or not wanted:
            return motion
        requests = self.requests(clips)
        for name, kind in wanted:
            for clip, row in zip(clips, self.sample(kind, requests), strict=True):
                motion[clip.clip][name] = row
        if self.method.drawn == "clay" and self.method.expression == "expflow":
            self.add_samples(clips, motion)
        return motion

    def add_samples(self, clips: list[ScoredClip], motion: dict[str, dict[str, np.ndarray]]) -> None:
        """Several samples of expression and head for each clip, as beta_samples (S, T, E) and pose_samples (S, T, 6), the drawn expression first.

        Rows that clay draws compare flows, and a flow is compared on what it samples: blinks, spread, how far seeds lie apart.
        """
        rounds = [self.requests(clips, sample) for sample in range(self.ctx.cfg.long_seeds)]
        betas = [self.sample("expflow", requests) for requests in rounds[1:]]
        poses = [self.sample("poseflow", requests) for requests in rounds]
        for index, clip in enumerate(clips):
            own = motion[clip.clip]
            own["beta_samples"] = np.stack([own["beta"], *(rows[index] for rows in betas)])
            own["pose_samples"] = np.stack([rows[index] for rows in poses])


def make_clip(item: Item, work: Work, ctx: Context, folder: Path) -> list[dict[str, Any]]:
    """Make one clip by one method: video with the real sound, coefficients, index row."""
    clip, method, cfg = item.row["scored"], work.row, ctx.cfg
    expression, pose_kind, heard, drawn = work.method
    crops = ctx.reads["crop"].parent
    if heard and work.driving_sound(clip) is None:
        raise ClipError("no sound" if heard == "own" else "no other test sentence with sound", rejected=True)
    shown = clip.other if method == "other_take" else clip.row
    if shown is None:
        raise ClipError("there is no other take of this sentence", rejected=True)
    fit = fitted(ctx, shown)
    beta, pose = fit["beta"], fit["pose"]
    sound = read_sound(crops / shown["sound"]) if shown["sound"] else None
    protocol, samples = f"expression={expression} pose={pose_kind}", {}
    if expression == "real":
        frames = read_video_at(crops / shown["video"])[: len(beta)]
        if method == "other_take":
            protocol += f" take={shown['clip']}"
        if drawn == "codebook":
            frames = through_codebook(work.models.codebook, frames, batch=cfg.render_batch, precision=cfg.precision)
    else:
        source, number = source_picture(ctx, clip)
        protocol += f" source={clip.source_kind}:{clip.source_row['clip']}:{number}"
        if expression == "still":
            beta, pose = (np.repeat(value[None], clip.n_frames, 0) for value in (source.beta, source.pose))
            frames = np.repeat(source.image[None], clip.n_frames, 0)
        else:
            motion = item.row["motion"]
            beta, pose = motion.get("beta", beta)[: clip.n_frames], motion.get("pose", pose)[: clip.n_frames]
            samples = {name: value.astype(np.float32) for name, value in motion.items() if name.endswith("_samples")}
            if drawn == "clay":
                protocol += " drawn=clay"
                frames = work.draw_clay(clip, beta, pose)
            else:
                frames = render_frames(work.models.vqig, source, beta, pose, batch=cfg.render_batch, precision=cfg.precision)
    if heard:
        protocol += f" driven_by={work.driving_sound(clip)['clip']}"
    video = folder / f"{clip.clip}.mp4"
    if method in ("ground_truth", "other_take"):
        # A re-encoded recording keeps what its source says of itself: the embedded corpus is synthetic, a user's clip is not.
        comment = probe(crops / shown["video"]).metadata.get("comment", "")
        write_video(video, frames, sound=sound, crf=cfg.crf, metadata={"comment": comment})
        check_length(video, len(frames))
    else:
        write_synthetic(video, frames, sound, crf=cfg.crf, by=f"flowvqtalker, method {method}")
    write_npz(folder / f"{clip.clip}.npz", {"beta": beta.astype(np.float32), "pose": pose.astype(np.float32), **samples})
    seed = clip.seed if heard else ""
    return [
        {
            "clip": clip.clip,
            "method": method,
            "protocol": protocol,
            "seed": seed,
            "n_frames": len(frames),
            "video": video.name,
            "coefficients": f"{clip.clip}.npz",
        }
    ]


def items_of(ctx: Context, method: str, clips: list[ScoredClip]) -> list[Item]:
    """One item a clip, keyed by all that its result depends on."""
    folders = model_folders(ctx, method)
    missing = [model for model in models_of(method) if folders[model] is None]
    if missing:
        raise PipelineError(
            f"generate.methods names '{method}', but no {missing[0]} variant is chosen",
            f"set generate.{missing[0]}_variant, or take '{method}' out of generate.methods",
        )
    models = tuple(file_sha256(folders[model] / "index.json") for model in models_of(method))
    items = []
    for clip in clips:
        rows = [row for row in (clip.row, clip.source_row, clip.other, clip.foreign) if row is not None]
        inputs = [str(row[key]) for row in rows for key in ("clip", "sha256", "fit_sha256", "mel_sha256")]
        items.append(Item(clip.clip, (method, *models, *inputs), {"scored": clip, "n_frames": clip.n_frames}))
    return items


def run_method(ctx: Context, method: str) -> None:
    """Make all clips of a method and write its table; clips that are in the cache are not made again."""
    clips = scored_clips(ctx)
    work = Work(ctx, method, {clip.clip: clip for clip in clips})
    cache, stage = ClipCache(ctx, method), ClipStage("generate", items=lambda _: [], setup=lambda _: work, process=make_clip)
    items = items_of(ctx, method, clips)
    new = [item for item in items if cache.get(item) is None]
    motion = work.roll_out([item.row["scored"] for item in new])
    for item in new:
        item.row["motion"] = motion.get(item.clip, {})
    folder, records, kept = ctx.out.parent, [], {ctx.out}
    ctx.out.unlink(missing_ok=True)  # the old table must not vouch for files that are being replaced
    for item in tqdm(items, desc=method, disable=None, mininterval=2):
        for row in process_item(stage, item, lambda: work, ctx, cache):
            # Rows from the cache come with sorted keys, new ones as they were made; the table's bytes must not tell which.
            row = {"protocol": "", **dict(sorted(row.items())), "method": method}
            for column in ("video", "coefficients") if row["status"] == "ok" else ():
                target = folder / "clips" / row[column]
                link_or_copy(cache.entry(item) / row[column], target)
                kept.add(target)
                row[column] = str(target.relative_to(folder))
            records.append(row)
    for stray in sorted(path for path in folder.rglob("*") if path.is_file() and path not in kept):
        stray.unlink()
    failed = [row for row in records if row["status"] == "failed"]
    ctx.log.info(
        "%s: %d clips ok, %d rejected, %d failed",
        method,
        sum(r["status"] == "ok" for r in records),
        sum(r["status"] == "rejected" for r in records),
        len(failed),
    )
    if len(failed) > ctx.cfg.max_failed_share * len(records):
        raise PipelineError(
            f"stage 'generate': method '{method}' failed on {len(failed)} of {len(records)} clips; first: {failed[0]['clip']}: {failed[0]['reason']}",
            "mend those clips or raise generate.max_failed_share",
        )
    write_index(ctx.out, records, "generate")


def long_rows(clips: list[ScoredClip], count: int) -> list[list[ScoredClip]]:
    """Clips whose sounds, one after the other, make each long row: one person with one emotion and level, emotions by turns.

    Each row goes to the person who has had the fewest so far, from a person onwards that is another one for each emotion. So all test people
    appear as soon as there are rows enough: statistics of long rows are clustered by person, and a few people always drawn first by name are no
    sample of them. The choice depends on the names alone, not on the order of the clips.

    Args:
        clips: the scored clips.
        count: number of rows, fewer only when no clip has sound.
    """
    groups: dict[tuple, list[ScoredClip]] = {}
    for clip in sorted(clips, key=lambda clip: clip.clip):
        if clip.row["mel"]:
            groups.setdefault((clip.row["emotion"], clip.row["source"], clip.row["identity"], str(clip.row["level"])), []).append(clip)
    emotions = sorted({key[0] for key in groups})
    people = sorted({key[1:3] for key in groups})
    had = dict.fromkeys(people, 0)
    left: dict[str, list[tuple]] = {emotion: [] for emotion in emotions}
    rows: list[list[ScoredClip]] = []
    while emotions and len(rows) < count:
        turn = len(rows) % len(emotions)
        emotion = emotions[turn]
        # No group comes twice before every one of its emotion has come once.
        left[emotion] = left[emotion] or sorted(key for key in groups if key[0] == emotion)
        chosen = min(left[emotion], key=lambda key, first=turn: (had[key[1:3]], (people.index(key[1:3]) - first) % len(people), key))
        left[emotion].remove(chosen)
        had[chosen[1:3]] += 1
        rows.append(groups[chosen])
    return rows


def run_long(ctx: Context) -> None:
    """Sample many minutes of motion: beta (N, S, T, E), pose (N, S, T, 6) float16, emotion (N,) label, clip (N,) whose person and label it is."""
    cfg = ctx.cfg
    if not cfg.flow_variant:
        write_npz(ctx.out, {"beta": np.zeros((0, cfg.long_seeds, 0, 0), np.float16), "pose": np.zeros((0, cfg.long_seeds, 0, 6), np.float16),
                            "emotion": np.zeros(0, np.int64), "clip": np.zeros(0, "U1")})  # fmt: skip
        return
    clips = scored_clips(ctx)
    work = Work(ctx, LONG_METHOD, {clip.clip: clip for clip in clips})
    n_frames = max(1, round(cfg.long_row_s * FPS_HZ))
    count = int(np.ceil(cfg.long_minutes * 60 / (cfg.long_row_s * cfg.long_seeds)))
    rows = long_rows(clips, count)
    if not rows:
        raise PipelineError(
            "stage 'generate': no test clip has sound, so no motion can be sampled", "empty generate.flow_variant, or give the clips sound"
        )
    requests = []
    for index, row in enumerate(rows):
        windows = [mel_windows(read_npz(ctx.reads["audio"].parent / clip.row["mel"])["mel"], clip.n_frames) for clip in row]
        whole = torch.from_numpy(np.concatenate(windows))
        speech = whole.repeat(-(-n_frames // len(whole)), 1, 1)[:n_frames]
        source, _ = source_picture(ctx, row[0])
        label, intensity = row[0].label
        for sample in range(cfg.long_seeds):
            seed = derive_seed(ctx.seed, "generate long", index, row[0].clip, sample) % SEEDS
            requests.append(MotionRequest(speech, torch.from_numpy(source.beta), torch.from_numpy(source.pose), label, intensity, seed))
    batch = max(cfg.rollout_batch, 1)
    beta = sample_motion(work.models.expflow, requests, temperature=cfg.temperature, guidance=cfg.emotion_guidance, batch=batch)
    pose = sample_motion(work.models.poseflow, requests, temperature=cfg.pose_temperature, batch=batch)
    shape = (len(rows), cfg.long_seeds, n_frames, -1)
    arrays = {
        "beta": np.stack(beta).astype(np.float16).reshape(shape), "pose": np.stack(pose).astype(np.float16).reshape(shape),
        "emotion": np.array([row[0].label[0] for row in rows], dtype=np.int64), "clip": np.array([row[0].clip for row in rows]),
    }  # fmt: skip
    write_npz(ctx.out, arrays, compress=True)


def run_merge(ctx: Context, tables: list[Path]) -> None:
    """Join the methods' tables into the stage's, with file names relative to its folder; folders of dropped methods go."""
    records: list[dict[str, Any]] = []
    for path in tables:
        for row in read_index(path, "generate").to_dict("records"):
            for column in ("video", "coefficients"):
                row[column] = f"{path.parent.name}/{row[column]}" if row[column] else ""
            records.append(row)
    wanted = {path.parent.name for path in tables} | {"long"}
    for stray in sorted(path for path in ctx.out.parent.iterdir() if path.is_dir() and path.name not in wanted):
        shutil.rmtree(stray)
    write_index(ctx.out, records, "generate")


def main() -> None:
    """Entry point: ``python -m pipeline.generate method --method M ...``, ``... long ...``, ``... merge --from a.csv b.csv ...``."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("method", parents=[house.base_parser("")], add_help=False).add_argument("--method", required=True, type=check_row)
    verbs.add_parser("long", parents=[house.base_parser("")], add_help=False)
    verbs.add_parser("merge", parents=[house.base_parser("")], add_help=False).add_argument(
        "--from", dest="tables", type=Path, nargs="+", required=True
    )
    args = parser.parse_args()
    house.set_up_logging()
    house.limit_threads(args.threads)

    def action() -> None:
        ctx = house.make_context(args)
        if args.verb == "method":
            run_method(ctx, args.method)
        elif args.verb == "long":
            run_long(ctx)
        else:
            run_merge(ctx, args.tables)

    house.guarded(action)


if __name__ == "__main__":
    main()
