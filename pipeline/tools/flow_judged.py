"""What the emotion judge says of generated motion drawn by the corpus' renderer: emotions, transferred emotions, intensities.

Usage: python -m pipeline.tools.flow_judged [--root .] [--seeds 3] [--targets 1] [--swap] [--note "..."] [--out docs/flow_judged]

Needs the finished stages corpus, landmarker, crop, fit3dmm, audio, experts and flow of a run below --root and trains nothing. The scored
test clips (talked, with a label and sound) are drawn as `clay_paired` of the table of results draws them: the same person, light and
camera, the head pose fitted to the clip, the frames written as H.264 with the run's crf and read again. The judge reads such a clip as
`evaluate` does: landmarks of the run's back end on the decoded frames, smoothed over time, the face cut from every frame, the person's
usual face from all their real videos, one verdict a clip.

1. Emotion: samples of ExpFlow (temperature and guidance of `generate`) against true and fitted coefficients, all drawn in the same way.
2. Transfer: the emotion of a test clip read without its label, shown by another test person who says another sentence.
3. Intensity: seven emotions at six intensities with the same seed; beside it the corpus' own performance of the same sentence at
   the intensities from 0 to 1, which is what a sweep can be at best.
--swap draws true coefficients with one region of the face replaced by the fit, and tells where the judge loses what the fit loses.

Verdicts are kept in `.cache/flow_judged` by all they depend on: an interrupted command goes on where it stopped. Writes <out>.json,
<out>.md and figures/<name of out>.png beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.corpus.make import Recipe, make_person, make_talk
from flowvqtalker.corpus.plan import CorpusSize, make_plan
from flowvqtalker.experts.crops import FACE, cut, face_points
from flowvqtalker.experts.emotion import UsualFace
from flowvqtalker.experts.tasks import emotion_logits
from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import crop_camera
from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.fit.basis import basis_of
from flowvqtalker.flow.motionflow import MotionFlow
from flowvqtalker.flow.sampling import MotionRequest
from flowvqtalker.flow.streaming import StreamRow, stream_batch
from flowvqtalker.flow.transfer import Reading, Reference, read_emotion
from flowvqtalker.flow.windows import MotionClip, mel_windows
from flowvqtalker.landmarks.boxes import smooth_landmarks, to_crop
from flowvqtalker.motion.generate import Generators, generate_motion
from flowvqtalker.seeding import derive_seed
from pipeline.backends import make_landmarker
from pipeline.context import Context, guarded, limit_threads
from pipeline.errors import PipelineError
from pipeline.evaluation.checks import true_pose
from pipeline.evaluation.clips import Scorer
from pipeline.generate import Work
from pipeline.io import file_sha256, ok_rows, read_index, read_json, read_npz, text_sha256, write_json, write_text
from pipeline.media import read_video, write_video
from pipeline.params import validate_section
from pipeline.scoredclips import SEEDS, ScoredClip, fitted, scored_clips
from pipeline.stages import STAGES, reads_of, stamp_json, stamp_path
from pipeline.tools import flow_judged_page as page
from pipeline.tools.flow_judged_page import Pair, Shift, Sweep, Verdict
from pipeline.tools.runread import read_run

#: Intensities of a sweep: the grid that the issue names, and one beyond what training knows.
GRID, BEYOND = (0.0, 0.25, 0.5, 0.75, 1.0), 1.5
#: Where an emotion can be read against: the person's neutral clip, as in training, or the clip's own first frame.
SOURCES = ("neutral clip", "own first frame")
#: Regions of the face by the beginnings of the coefficients' names.
REGIONS = {"brows": ("brow",), "eyes": ("eye",), "cheeks and nose": ("cheek", "nose"), "mouth and jaw": ("mouth", "jaw")}
#: A test clip drawn with these coefficients (T, 53) and poses (T, 6), as the judge answers: logits of the emotions.
Read = Callable[[ScoredClip, np.ndarray, np.ndarray], np.ndarray]


def stage_context(root: Path, stage: str, needed: Iterable[str]) -> Context:
    """What a step of a finished run knew, from its stamp; nothing is written below ``root``.

    Raises:
        PipelineError: no stamp, or a stage that is needed is not finished.
    """
    path = root / stamp_path(stage)
    if not path.is_file():
        raise PipelineError(f"{path}: no stamp of the stage {stage}", "name the folder of a run with --root")
    stamp = read_json(path)
    params = {name: validate_section(name, values) for name, values in stamp["params"].items()}
    config = {**stamp["params"], "name": stamp["name"], "seed": stamp["seed"]}
    reads = {name: root / place for name, place in reads_of(config, stage).items()}
    for name in needed:
        if name not in reads or not reads[name].exists():
            missing = reads.get(name, f"{root}: {name}")
            raise PipelineError(
                f"{missing}: there is no such file", f"finish the stage {name.split('_')[0]} first, for example with `make all`"
            )
    return Context(stage, "", stamp_json(stamp), root, root / "unused", reads, 1, params)


class Screen:
    """Draws motion as `generate` does and asks the judge as `evaluate` does.

    Args:
        generate, evaluate: contexts of these stages.
        work: the row ``clay_paired`` at work.
    """

    def __init__(self, generate: Context, evaluate: Context, work: Work) -> None:
        self.generate, self.evaluate, self.work = generate, evaluate, work
        self.scorer = Scorer(evaluate)
        judges = self.scorer.judges
        if "emotion" not in judges.networks:
            raise PipelineError(judges.reasons["emotion"], "use a corpus with labels of several emotions")
        self.network = judges.networks["emotion"]
        self.usual: dict[str, UsualFace] = {}
        self.base = text_sha256(
            generate.stamp["code"],
            evaluate.stamp["code"],
            str(generate.seed),
            str(generate.cfg.crf),
            self.scorer.finder_key,
            judges.hashes["emotion"],
        )

    @cached_property
    def finder(self) -> Any:
        """The run's landmark back end."""
        return make_landmarker(self.scorer.landmarks, self.evaluate.model_folder("landmarker"))

    def drawn(self, clip: ScoredClip, beta: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Logits (E,) of the clip's person moved by beta (T, 53) and pose (T, 6); NaN where no face is found."""
        beta, pose = np.ascontiguousarray(beta, np.float32), np.ascontiguousarray(pose, np.float32)
        key = (str(clip.row["size_px"]), str(len(beta)), beta.tobytes().hex(), pose.tobytes().hex())
        return self._kept(clip, key, lambda: self.work.draw_clay(clip, beta, pose))

    def real(self, clip: ScoredClip) -> np.ndarray:
        """Logits (E,) of the real clip, written and read once more as the row ``ground_truth`` is."""
        path = self.generate.reads["crop"].parent / clip.row["video"]
        return self._kept(clip, ("real", str(clip.row["sha256"])), lambda: read_video(path)[0][: clip.n_frames])

    def _kept(self, clip: ScoredClip, key: tuple[str, ...], frames: Callable[[], np.ndarray]) -> np.ndarray:
        path = self.evaluate.cache / "flow_judged" / f"{text_sha256(self.base, str(clip.row['identity']), *key)[:32]}.json"
        if path.exists():
            return np.array([np.nan if value is None else value for value in read_json(path)])
        logits = self.judge(frames(), str(clip.row["identity"]))
        write_json(path, [float(value) if np.isfinite(value) else None for value in logits])
        return logits

    def judge(self, frames: np.ndarray, identity: str) -> np.ndarray:
        """Logits (E,) of frames (T, S, S, 3) uint8 of a person, through a video file as every clip of the table goes."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            write_video(path, frames, crf=self.generate.cfg.crf)
            decoded = read_video(path)[0]
        landmarks = smooth_landmarks(self.finder.detect(decoded).landmarks_px, self.scorer.landmarks.smooth_sd_frames)
        if np.isnan(landmarks).any(axis=(1, 2)).all():
            return np.full(len(EMOTIONS), np.nan)
        if identity not in self.usual:
            self.usual[identity] = self.scorer.usual_face(identity)
        faces = cut(decoded, landmarks, FACE, self.network.size_px)
        return emotion_logits(self.network, faces, face_points(landmarks), self.usual[identity])


def label_of(clip: ScoredClip) -> tuple[str, int]:
    """Emotion and level (0 for neutral) of a labelled clip."""
    emotion = str(clip.row["emotion"])
    return emotion, 0 if emotion == "neutral" else int(clip.row["level"])


def verdict_of(row: str, clip: ScoredClip, seed: int, logits: np.ndarray) -> Verdict:
    """What the judge said of one drawing of a clip, with the clip's true label."""
    emotion, level = label_of(clip)
    said = EMOTIONS[int(logits.argmax())] if np.isfinite(logits).all() else ""
    return Verdict(row, clip.clip, str(clip.row["identity"]), emotion, level, seed, said, probability_of(logits, emotion))


def probability_of(logits: np.ndarray, emotion: str) -> float:
    """The judge's probability of an emotion; NaN without a face."""
    parts = np.exp(logits - logits.max())
    return float(parts[EMOTIONS.index(emotion)] / parts.sum())


# Part 1: emotions of samples, of true and of fitted coefficients.


@dataclass(frozen=True)
class Motions:
    """Coefficients of a test clip, as long as the crop.

    Attributes:
        clip: the clip.
        beta, pose: fitted, (T, 53) and (T, 6).
        true_beta, true_pose: of the corpus; the pose as the crop's camera sees it.
    """

    clip: ScoredClip
    beta: np.ndarray
    pose: np.ndarray
    true_beta: np.ndarray
    true_pose: np.ndarray


def read_motions(ctx: Context, corpus: Path, basis: Any, clip: ScoredClip) -> Motions:
    """Fitted and true motion of a test clip.

    Raises:
        PipelineError: the corpus does not know the clip's truth.
    """
    fit, rows = fitted(ctx, clip.row), ok_rows(read_index(corpus, "corpus")).set_index("clip")
    name = clip.row["source_clip"]
    if name not in rows.index or not rows.loc[name, "truth"]:
        raise PipelineError(f"{corpus}: no truth of the clip {name}", "use a run of the embedded corpus")
    truth = read_npz(corpus.parent / str(rows.loc[name, "truth"]))
    start = int(clip.row["start_frame"])
    part = slice(start, start + clip.n_frames)
    box = read_npz(ctx.reads["crop"].parent / clip.row["landmarks"])["box"]
    size = int(clip.row["size_px"])
    known = {"true_alpha": truth["alpha"], "true_beta": truth["beta"][part], "true_px": to_crop(truth["landmarks_px"][part], box, size)}
    head = true_pose(basis, known, crop_camera(size))
    beta, pose = (fit[key][: clip.n_frames].astype(np.float32) for key in ("beta", "pose"))
    return Motions(clip, beta, pose, known["true_beta"].astype(np.float32), head.astype(np.float32))


def judge_references(motions: Sequence[Motions], read: Read, real: Callable[[ScoredClip], np.ndarray]) -> list[Verdict]:
    """Verdicts on the real videos, on true coefficients with the true and with the fitted head pose, and on fitted coefficients."""
    verdicts = []
    for one in tqdm(motions, desc="real, true and fitted", disable=None):
        clip = one.clip
        verdicts.append(verdict_of("real", clip, 0, real(clip)))
        verdicts.append(verdict_of("truth_head", clip, 0, read(clip, one.true_beta, one.true_pose)))
        verdicts.append(verdict_of("truth", clip, 0, read(clip, one.true_beta, one.pose)))
        verdicts.append(verdict_of("fitted", clip, 0, read(clip, one.beta, one.pose)))
    return verdicts


def swapped(true_beta: np.ndarray, beta: np.ndarray, region: str) -> np.ndarray:
    """True coefficients (T, 53) with those of one region taken from the fit."""
    mixed = true_beta.copy()
    columns = [index for index, name in enumerate(EXPRESSIONS) if name.startswith(REGIONS[region])]
    mixed[:, columns] = beta[:, columns]
    return mixed


def judge_swaps(motions: Sequence[Motions], read: Read) -> list[Verdict]:
    """Verdicts on true coefficients with one region from the fit, by region (rows ``swap <region>``)."""
    return [
        verdict_of(f"swap {region}", one.clip, 0, read(one.clip, swapped(one.true_beta, one.beta, region), one.pose))
        for one in tqdm(motions, desc="regions", disable=None)
        for region in REGIONS
    ]


def shifts_of(motions: Sequence[Motions]) -> list[Shift]:
    """How far the fit's mean coefficients lie from the true ones, by emotion, left and right averaged."""
    names = list(dict.fromkeys(name.removesuffix("_L").removesuffix("_R") for name in EXPRESSIONS))
    sides = np.array([[name in (shape, f"{shape}_L", f"{shape}_R") for name in EXPRESSIONS] for shape in names], float)
    sides /= sides.sum(1, keepdims=True)
    found = []
    for emotion in EMOTIONS:
        own = [one for one in motions if label_of(one.clip)[0] == emotion]
        if own:
            true, fit = (
                np.mean([sides @ part.mean(0) for part in parts], 0) for parts in zip(*((m.true_beta, m.beta) for m in own), strict=True)
            )
            found += [Shift(emotion, name, float(t), float(f)) for name, t, f in zip(names, true, fit, strict=True)]
    return found


def judge_samples(work: Work, motions: Sequence[Motions], read: Read, seeds: int) -> list[Verdict]:
    """Verdicts on samples of ExpFlow for each clip's own sound, source and label (rows ``flow``); sample 0 is that of `generate`."""
    verdicts = []
    for seed in range(seeds):
        made = work.sample("expflow", work.requests([one.clip for one in motions], seed))
        for one, beta in tqdm(list(zip(motions, made, strict=True)), desc=f"samples {seed}", disable=None):
            verdicts.append(verdict_of("flow", one.clip, seed, read(one.clip, beta, one.pose)))
    return verdicts


# Part 2: transfer.


def pairs_of(clips: Sequence[ScoredClip]) -> list[tuple[ScoredClip, ScoredClip]]:
    """Each clip as a reference, with a target: a clip of another person who says another sentence.

    The targets of a person's clips go through the other people by turns, and within a person the least used sentence is next, so no target
    serves much more often than others. References without any such clip are left out.
    """
    people = sorted({str(clip.row["identity"]) for clip in clips})
    number = dict.fromkeys(people, 0)
    used = dict.fromkeys((clip.clip for clip in clips), 0)
    pairs = []
    for reference in sorted(clips, key=lambda clip: clip.clip):
        own = str(reference.row["identity"])
        others = [clip for clip in clips if str(clip.row["identity"]) != own and clip.row["sentence"] != reference.row["sentence"]]
        if not others:
            continue
        first = people.index(own) + 1 + number[own] % max(1, len(people) - 1)
        number[own] += 1
        target = min(others, key=lambda clip: ((people.index(str(clip.row["identity"])) - first) % len(people), used[clip.clip], clip.clip))
        used[target.clip] += 1
        pairs.append((reference, target))
    return pairs


def read_references(flow: MotionFlow, clips: Sequence[MotionClip]) -> dict[str, dict[str, Reading]]:
    """Emotion and latents of clips by source and clip; no label is looked at."""
    found: dict[str, dict[str, Reading]] = {source: {} for source in SOURCES}
    for clip in tqdm(clips, desc="reading references", disable=None):
        windows = mel_windows(clip.mel, clip.start)
        for source, beta0 in zip(SOURCES, (clip.beta0, clip.beta[0]), strict=True):
            found[source][clip.name] = read_emotion(flow, Reference(windows, clip.beta, beta0))
    return found


@dataclass(frozen=True)
class Sampler:
    """ExpFlow with what `generate` asks of it.

    Attributes:
        flow: the model.
        temperature, guidance: of the run.
        batch: rows rolled out together.
        request: what the run asks for a test clip.
    """

    flow: MotionFlow
    temperature: float
    guidance: float
    batch: int
    request: Callable[[ScoredClip], MotionRequest]

    def shown(self, targets: Sequence[ScoredClip], readings: Sequence[Reading], replay: bool) -> list[np.ndarray]:
        """Coefficients (T, 53) of targets that show the emotion of a reading; with its latents played back, or its label only."""
        asked = [self.request(target) for target in targets]
        rows = [
            StreamRow(one.beta0, reading.track, one.seed, reading.latents if replay else None)
            for one, reading in zip(asked, readings, strict=True)
        ]
        made = stream_batch(
            self.flow, rows, [one.windows for one in asked], temperature=self.temperature, guidance=self.guidance, batch=self.batch
        )
        return [beta.numpy() for beta in made]


def judge_transfers(
    sampler: Sampler,
    pairs: Sequence[tuple[ScoredClip, ScoredClip]],
    readings: dict[str, dict[str, Reading]],
    pose: dict[str, np.ndarray],
    read: Read,
) -> list[Pair]:
    """What becomes of the references' emotions on their targets, with latents played back and with the label only."""
    chosen = readings[SOURCES[0]]
    targets, own = [target for _, target in pairs], [chosen[reference.clip] for reference, _ in pairs]
    found: dict[bool, list[np.ndarray]] = {}
    for replay in (True, False):
        made = sampler.shown(targets, own, replay)
        found[replay] = [
            read(target, beta, pose[target.clip])
            for target, beta in tqdm(list(zip(targets, made, strict=True)), desc="transfer", disable=None)
        ]
    result = []
    for index, (reference, target) in enumerate(pairs):
        emotion, level = label_of(reference)
        inferred = {source: readings[source][reference.clip].emotion for source in SOURCES}
        said = {way: found[replay][index] for way, replay in ((page.LATENTS, True), (page.LABEL, False))}
        names = {way: EMOTIONS[int(logits.argmax())] if np.isfinite(logits).all() else "" for way, logits in said.items()}
        result.append(
            Pair(
                reference.clip, target.clip, str(reference.row["identity"]), emotion, level, inferred,
                chosen[reference.clip].intensity, names,
            )
        )  # fmt: skip
    return result


# Part 3: intensity.


def targets_of(clips: Sequence[ScoredClip], each: int, seed: int) -> list[ScoredClip]:
    """``each`` clips of every person, drawn by name."""
    people: dict[str, list[ScoredClip]] = {}
    for clip in clips:
        people.setdefault(str(clip.row["identity"]), []).append(clip)
    return [
        clip for _, own in sorted(people.items()) for clip in sorted(own, key=lambda one: derive_seed(seed, "flow judged", one.clip))[:each]
    ]


def judge_sweeps(
    sample: Callable[[list[MotionRequest]], list[np.ndarray]],
    targets: Sequence[ScoredClip],
    request: Callable[[ScoredClip], MotionRequest],
    pose: dict[str, np.ndarray],
    read: Read,
    bounds: tuple[np.ndarray, np.ndarray],
) -> list[Sweep]:
    """Every emotion at every intensity, for each target with one seed; intensity 0 is the same face for all emotions and drawn once.

    Args:
        sample: makes coefficients of requests.
        targets: whose source, sound and head pose are used.
        request: what is asked for a target; label, intensity and seed are replaced.
        pose: fitted head poses by clip.
        read: the judge.
        bounds: least and largest value (53,) of each coefficient in the training clips.
    """
    low, high = bounds
    sweeps = []
    for target in tqdm(targets, desc="intensities", disable=None):
        asked = replace(request(target), seed=derive_seed(request(target).seed, "flow judged sweep") % SEEDS)
        wanted = [(emotion, intensity) for emotion in EMOTIONS[1:] for intensity in (*GRID[1:], BEYOND)]
        requests = [replace(asked, emotion=1, intensity=GRID[0])]
        requests += [replace(asked, emotion=EMOTIONS.index(emotion), intensity=intensity) for emotion, intensity in wanted]
        made = sample(requests)
        logits = [read(target, beta, pose[target.clip]) for beta in made]
        for emotion in EMOTIONS[1:]:
            own = [0, *(index + 1 for index, (name, _) in enumerate(wanted) if name == emotion)]
            beta = made[own[-1]]
            over = np.maximum(beta - high, low - beta)
            edge = np.minimum(high - beta, beta - low)[:, high > low]
            sweeps.append(
                Sweep(
                    target.clip, str(target.row["identity"]), emotion, asked.seed,
                    [probability_of(logits[index], emotion) for index in own],
                    EMOTIONS[int(logits[own[-1]].argmax())], bool(np.isfinite(beta).all()), float(over.max()), float(np.abs(beta).max()),
                    float(np.abs(made[own[-2]]).max()), float((edge <= 1e-6).mean()),
                )
            )  # fmt: skip
    return sweeps


def perform_sweep(root: Path, corpus: Context, clip: ScoredClip, read: Read, pose: np.ndarray) -> list[Sweep]:
    """Every emotion at the intensities from 0 to 1 as the corpus itself performs them: the clip's sound, its take's random draws, true coefficients.

    Raises:
        PipelineError: the clip is not one of the embedded corpus.
    """
    numbers = corpus.cfg.synthetic
    size = CorpusSize(**{name: getattr(numbers, name) for name in CorpusSize.__dataclass_fields__})
    recipe = Recipe(
        seed=corpus.seed, size_px=numbers.raw_size_px, face_share=numbers.face_share, rate_wpm=numbers.rate_wpm,
        lead_s=numbers.lead_s, tail_s=numbers.tail_s, max_clip_s=numbers.max_clip_s,
    )  # fmt: skip
    specs = {spec.clip: spec for spec in make_plan(size, corpus.seed)}
    if clip.row["source_clip"] not in specs:
        raise PipelineError(f"{root}: the embedded corpus has no clip {clip.row['source_clip']}", "use a run of the embedded corpus")
    spec = specs[clip.row["source_clip"]]
    model = make_face_model("clay")
    person = make_person(spec.identity, model, corpus.seed)
    talk = make_talk(spec, person, recipe)
    generators = Generators(corpus.seed, spec.performance, spec.take)
    start = int(clip.row["start_frame"])

    def logits(emotion: str, intensity: float) -> np.ndarray:
        made = generate_motion(talk.speech, emotion, intensity, person.style, generators, n_frames=talk.n_frames)
        return read(clip, made.beta[start : start + clip.n_frames], pose)

    calm = logits(EMOTIONS[1], GRID[0])
    sweeps = []
    for emotion in EMOTIONS[1:]:
        seen = [calm, *(logits(emotion, intensity) for intensity in GRID[1:])]
        probability = [probability_of(one, emotion) for one in seen]
        sweeps.append(Sweep(clip.clip, str(clip.row["identity"]), emotion, 0, probability, "", True, 0.0, 1.0, 1.0, 0.0))
    return sweeps


# The command.


def agreement(evaluate: Context, verdicts: Sequence[Verdict]) -> dict[str, tuple[int, int]]:
    """How many clips have the verdict that the run's own evaluation gave, by row of its table: (equal, all).

    Rows are compared where the evaluation is that of the same data and judges, by the hash that it wrote.
    """
    folder = evaluate.root / Path(STAGES["evaluate"].out).parent
    if not (folder / "metrics.json").exists() or not all(path.exists() for path in evaluate.reads.values()):
        return {}
    data = text_sha256(*(f"{name}={file_sha256(path)}" for name, path in sorted(evaluate.reads.items())))
    if read_json(folder / "metrics.json").get("data_sha256") != data:
        return {}
    found = {}
    for method, row in (("ground_truth", "real"), ("clay_on_fitted", "fitted")):
        if (folder / f"{method}.csv").exists():
            said = pd.read_csv(folder / f"{method}.csv", keep_default_na=False).set_index("clip")["emotion_verdict"]
            own = [one for one in verdicts if one.row == row and one.clip in said.index]
            found[method] = (sum(one.said == said[one.clip] for one in own), len(own))
    return found


def train_bounds(clips: Sequence[MotionClip]) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value (53,) of each coefficient in clips."""
    frames = torch.cat([clip.beta for clip in clips])
    return frames.amin(0).numpy(), frames.amax(0).numpy()


def run(root: Path, variant: str, seeds: int, targets: int, most: int, swap: bool, note: str, out: Path) -> None:
    """Draw, judge, print and write."""
    generate = stage_context(root, "generate", ("crop", "fit3dmm", "audio"))
    variant = variant or generate.cfg.flow_variant
    evaluate = stage_context(root, "evaluate", ("experts", "crop", "audio", "corpus", "landmarker"))
    folder = root / f"models/flow/{variant}/index.json"
    if not folder.exists():
        raise PipelineError(f"{folder}: there is no such file", "finish the stage flow first, or name a trained variant with --variant")
    generate = replace(generate, reads=generate.reads | {f"flow_{variant}": folder})
    clips = [clip for clip in scored_clips(generate) if clip.row["emotion"] and clip.row["mel"]]
    clips = clips[:: max(1, -(-len(clips) // most))]
    if not clips:
        raise PipelineError(f"{root}: no scored test clip has a label and sound", "use the embedded corpus")
    work = Work(generate, f"clay_paired__{variant}", {clip.clip: clip for clip in clips})
    screen = Screen(generate, evaluate, work)
    basis = basis_of(work.head)
    motions = [read_motions(generate, evaluate.reads["corpus"], basis, clip) for clip in clips]
    pose = {one.clip.clip: one.pose for one in motions}
    verdicts = judge_references(motions, screen.drawn, screen.real)
    verdicts += judge_swaps(motions, screen.drawn) if swap else []
    verdicts += judge_samples(work, motions, screen.drawn, seeds)

    flow, cfg, trained = work.models.expflow, generate.cfg, read_run(root, variant)
    request = lambda clip: work.requests([clip])[0]  # noqa: E731
    sampler = Sampler(flow, cfg.temperature, cfg.emotion_guidance, cfg.rollout_batch, request)
    named = {clip.name: clip for clip in trained.test}
    pairs = [pair for pair in pairs_of(clips) if pair[0].clip in named]
    readings = read_references(flow, [named[reference.clip] for reference, _ in pairs])
    transfers = judge_transfers(sampler, pairs, readings, pose, screen.drawn)
    sweeps = judge_sweeps(
        lambda requests: work.sample("expflow", requests), targets_of(clips, targets, generate.seed), request, pose, screen.drawn,
        train_bounds(trained.train),
    )  # fmt: skip
    corpus = stage_context(root, "corpus", ())
    own = [
        sweep
        for clip in tqdm(targets_of(clips, targets, generate.seed), desc="own performances", disable=None)
        for sweep in perform_sweep(root, corpus, clip, screen.drawn, pose[clip.clip])
    ]
    about = {
        "note": note, "variant": variant, "code": trained.code, "seeds": seeds, "clips": len(clips), "temperature": cfg.temperature,
        "guidance": cfg.emotion_guidance, "crf": cfg.crf, "identities": len({clip.row["identity"] for clip in clips}),
        "frames": sum(clip.n_frames for clip in clips), "judge": screen.scorer.judges.metrics.get("test_emotion_clip_acc_pct"),
        "agreement": agreement(evaluate, verdicts),
    }  # fmt: skip
    picture = out.parent / "figures" / f"{out.name}.png"
    page.figure(picture, verdicts, sweeps)
    text = page.markdown(about, verdicts, transfers, sweeps, own, shifts_of(motions), f"figures/{picture.name}")
    write_json(out.with_suffix(".json"), page.plain(about, verdicts, transfers, sweeps, own))
    write_text(out.with_suffix(".md"), text)
    print(text)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of a finished run")
    parser.add_argument("--variant", default="", help="variant of the flow; the one that generates when not given")
    parser.add_argument("--seeds", type=int, default=3, help="samples of every test clip")
    parser.add_argument("--targets", type=int, default=1, help="sentences of every test person whose intensities are swept; 0 for none")
    parser.add_argument("--clips", type=int, default=1000, help="test clips that take part at most, evenly by name")
    parser.add_argument("--swap", action="store_true", help="also draw the truth with one region of the face from the fit")
    parser.add_argument("--note", default="", help="sentence about the run, for the page")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--out", type=Path, default=Path("docs/flow_judged"), help="path of the page without suffix")
    args = parser.parse_args()
    limit_threads(args.threads)
    torch.set_grad_enabled(False)
    guarded(lambda: run(args.root, args.variant, args.seeds, args.targets, args.clips, args.swap, args.note, args.out))


if __name__ == "__main__":
    main()
