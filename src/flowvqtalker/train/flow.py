"""Training of ExpFlow, PoseFlow and the regression: cross-fitted conditioners first, then the flow on what they leave over."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flowvqtalker.audio.mel import N_MELS
from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.flow.conditioner import AudioEncoder, Conditioner, emotion_weights
from flowvqtalker.flow.diagnostics import request_of
from flowvqtalker.flow.expflow import lid_positions, moving_dims
from flowvqtalker.flow.mixture import ConditionalMixture
from flowvqtalker.flow.motionflow import FlowConfig, HistoryNoise, MotionFlow, Window, stable_prediction
from flowvqtalker.flow.sampling import plan_around, rollout
from flowvqtalker.flow.stack import FlowStack
from flowvqtalker.flow.windows import MotionClip, drop_mask, mel_windows, window_starts
from flowvqtalker.seeding import derive_seed
from flowvqtalker.train.loop import LoopConfig, Task, run

Hooks = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class FlowTraining:
    """How the flows are trained; values come from the parameters of the stage.

    Attributes:
        batch: Windows per step of the flow.
        window: Frames per window.
        conditioner_batch: Windows per step of a conditioner.
        history_dropout: Probability that a history frame is zeroed, in windows with dropout.
        history_dropout_share: Share of windows with dropout.
        history_noise: Standard deviation of the noise on the history, in standardised units.
        dequantisation: Standard deviation of the noise on what is modelled, in standardised units.
        weight_decay: Decoupled weight decay of the flow.
        conditioner_weight_decay: Decoupled weight decay of a conditioner.
        motion_weight: Weight of the error within a window against the error of its mean, in the conditioner's loss.
        mel_gain: Largest change of a clip's level in training, in mel units.
        mel_shift: Largest shift of a clip's mel bins in training.
        mel_noise: Standard deviation of noise on the mel in training.
        min_sd: Dimensions with a smaller standard deviation over the training frames are dropped.
        calibration_rounds: Rounds of ``calibrate``; 0 samples the likelihood model as it is.
        lid_batch: Frames per step of the lids' mixture, where it is trained further.
        lid_weight_decay: Decoupled weight decay of the same.
        lid_astray: Windows of the lids' further training in which the lids have gone astray, as a share of all others (``lid_frames``).
    """

    batch: int
    window: int
    conditioner_batch: int
    history_dropout: float
    history_dropout_share: float
    history_noise: float
    dequantisation: float
    weight_decay: float
    conditioner_weight_decay: float
    motion_weight: float
    mel_gain: float
    mel_shift: int
    mel_noise: float
    min_sd: float
    calibration_rounds: int
    lid_batch: int = 1024
    lid_weight_decay: float = 0.0
    lid_astray: float = 0.0


def disturb_mel(windows: Tensor, settings: FlowTraining, generator: torch.Generator) -> Tensor:
    """Other levels and vocal tracts, cheaply: shift of the bins, gain per window sequence, noise; (B, T, 16, 80) -> same."""
    batch = len(windows)
    shift = torch.randint(-settings.mel_shift, settings.mel_shift + 1, (batch, 1), generator=generator)
    gain = (2 * torch.rand(batch, 1, 1, 1, generator=generator) - 1) * settings.mel_gain
    noise = torch.randn(windows.shape, generator=generator) * settings.mel_noise
    bins = (torch.arange(N_MELS) + shift).clamp(0, N_MELS - 1)
    shifted = windows.gather(3, bins.view(batch, 1, 1, N_MELS).expand_as(windows))
    return (shifted + gain + noise).clamp(-4, 4)


class AudioBank:
    """Mel windows of any frames of many clips, with silence beyond the edges."""

    def __init__(self, clips: Sequence[MotionClip], context: int) -> None:
        self.clips, self.context = clips, context
        self.lengths = [len(clip.start) for clip in clips]

    def take(self, clip: int, first: int, frames: int) -> Tensor:
        """(frames + 2 * context, 16, 80) around the frames ``first`` to ``first + frames``."""
        c, length = self.clips[clip], self.lengths[clip]
        low, high = first - self.context, first + frames + self.context
        start = c.start[max(low, 0) : min(high, length)]
        return mel_windows(c.mel, start, max(-low, 0), max(high - length, 0))


def draw_places(lengths: Sequence[int], count: int, window: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Random (clip, first frame); every frame of every long enough clip is equally likely to be within a window's start."""
    usable = [clip for clip, frames in enumerate(lengths) if frames >= window]
    if not usable:
        raise ValueError(f"no clip has the {window} frames of a training window; the longest has {max(lengths, default=0)}")
    room = torch.tensor([lengths[clip] - window + 1 for clip in usable])
    ends = room.cumsum(0)
    picks = torch.randint(int(ends[-1]), (count,), generator=generator)
    which = torch.searchsorted(ends, picks, right=True)
    return [(usable[w], int(p - (ends[w] - room[w]))) for w, p in zip(which.tolist(), picks, strict=True)]


class ConditionerTask(Task):
    """Squared error of standardised coefficients given audio, source and emotion."""

    def __init__(
        self,
        net: Conditioner,
        clips: Sequence[MotionClip],
        targets: Sequence[Tensor],
        sources: Tensor,
        weights: Tensor,
        train: Sequence[int],
        held_out: Sequence[int],
        settings: FlowTraining,
        lr: float,
    ) -> None:
        self.net, self.settings, self.targets, self.sources, self.weights = net, settings, targets, sources, weights
        self.audio = AudioBank(clips, net.context)
        self.train_clips, self.held_out = list(train), list(held_out)
        self.modules = {"conditioner": net}
        self.optimizers = {"adam": torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=settings.conditioner_weight_decay, fused=True)}
        self.ema_names = ("conditioner",)

    def draw(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        s = self.settings
        lengths = [self.audio.lengths[clip] for clip in self.train_clips]
        window = min(s.window, max(lengths))
        places = [(self.train_clips[c], f) for c, f in draw_places(lengths, s.conditioner_batch, window, generator)]
        audio = disturb_mel(torch.stack([self.audio.take(c, f, window) for c, f in places]), s, generator)
        rows = torch.tensor([c for c, _ in places])
        target = torch.stack([self.targets[c][f : f + window] for c, f in places])
        return audio, self.sources[rows], self.weights[rows], target

    def losses(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        audio, source, weights, target = batch
        error = self.net(audio, source, weights) - target
        still = error.mean(1, keepdim=True)
        # What moves within a window is what the audio can tell; the level of a face is mostly its owner's and would rule the loss.
        moving, level = (error - still).square().mean(), still.square().mean()
        yield "adam", self.settings.motion_weight * moving + level, {"moving": float(moving.detach()), "level": float(level.detach())}

    def validate(self, step: int) -> dict[str, float]:
        moving = level = frames = 0.0
        for clip in self.held_out:
            error = self.predict(clip) - self.targets[clip]
            still = error.mean(0)
            moving += float((error - still).square().sum())
            level += float(still.square().sum()) * len(error)
            frames += error.numel()
        moving, level = moving / frames, level / frames
        return {"loss": self.settings.motion_weight * moving + level, "moving": moving, "level": level}

    @torch.no_grad()
    def predict(self, clip: int) -> Tensor:
        """Prediction (T, D) for a whole clip."""
        audio = self.audio.take(clip, 0, self.audio.lengths[clip]).unsqueeze(0)
        return self.net(audio, self.sources[clip : clip + 1], self.weights[clip : clip + 1])[0]


class MotionData:
    """Residuals, plans, sources and audio of clips as one flow models them.

    Args:
        flow: Gives standardisation, residual scale and lead.
        clips: The clips.
        plans: (T, D) plan of each clip.
        emotions: Labels and intensities may be replaced (shuffled) for diagnostics.
    """

    def __init__(self, flow: MotionFlow, clips: Sequence[MotionClip], plans: Sequence[Tensor]) -> None:
        self.flow, self.clips = flow, clips
        self.audio = AudioBank(clips, flow.context)
        self.lengths = self.audio.lengths
        self.x0 = torch.stack([flow.standardise(source_of(flow, clip)) for clip in clips])
        self.known = torch.tensor([clip.emotion >= 0 for clip in clips])
        self.weights = clip_weights(clips, flow.config.stack.labels)
        self.around = [plan_around(plan) for plan in plans] if flow.config.conditioners else None
        self.past = []
        for clip, plan in zip(clips, plans, strict=True):
            r = (flow.standardise(target_of(flow, clip)) - plan) / flow.r_sd
            self.past.append(torch.cat([r.new_zeros(flow.lead, r.shape[1]), r]))

    def take(self, places: Sequence[tuple[int, int]], frames: int) -> Window:
        """Windows of ``frames`` frames at (clip, first frame)."""
        rows = torch.tensor([clip for clip, _ in places])
        lead = self.flow.lead
        around = self.around
        plan = torch.stack([around[c][f : f + frames] for c, f in places]) if around is not None else torch.zeros(len(places), frames, 0)
        return Window(
            past=torch.stack([self.past[c][f : f + lead + frames] for c, f in places]),
            plan=plan,
            x0=self.x0[rows],
            weights=self.weights[rows],
            known=self.known[rows],
            audio=torch.stack([self.audio.take(c, f, frames) for c, f in places]),
        )


def source_of(flow: MotionFlow, clip: MotionClip) -> Tensor:
    """The source frame's coefficients of the flow's kind."""
    return clip.beta0 if flow.config.kind == "expression" else clip.pose0


def target_of(flow: MotionFlow, clip: MotionClip) -> Tensor:
    """The clip's coefficients of the flow's kind, (T, C)."""
    return clip.beta if flow.config.kind == "expression" else clip.pose


def clip_weights(clips: Sequence[MotionClip], labels: int) -> Tensor:
    """Emotion weights (clips, E)."""
    return emotion_weights(torch.tensor([c.emotion for c in clips]), torch.tensor([c.intensity for c in clips]), labels)


class MotionTask(Task):
    """Negative log-likelihood of teacher-forced windows (or squared error, for the regression)."""

    def __init__(self, flow: MotionFlow, train: MotionData, held_out: MotionData, settings: FlowTraining, lr: float) -> None:
        self.flow, self.train_data, self.held_out, self.settings = flow, train, held_out, settings
        self.window = min(settings.window, max(train.lengths))
        self.modules = {"flow": flow}
        parameters = [p for p in flow.parameters() if p.requires_grad]
        self.optimizers = {"adam": torch.optim.AdamW(parameters, lr=lr, weight_decay=settings.weight_decay, fused=True)}
        self.ema_names = ("flow",)
        self.bits = flow.config.stack.features * math.log(2)

    def draw(self, step: int, generator: torch.Generator) -> tuple[Window, HistoryNoise, Tensor]:
        s, flow = self.settings, self.flow
        batch = self.train_data.take(draw_places(self.train_data.lengths, s.batch, self.window, generator), self.window)
        batch = replace(batch, audio=disturb_mel(batch.audio, s, generator))
        rows, frames = len(batch.x0), self.window
        noise = torch.randn(rows, flow.lead + frames, flow.history_features, generator=generator) * s.history_noise
        kept = drop_mask((rows, frames, flow.config.tau), s.history_dropout, s.history_dropout_share, generator)
        dequantisation = torch.randn(rows, frames, flow.config.stack.features, generator=generator) * s.dequantisation
        return batch, HistoryNoise(noise, kept), dequantisation

    def losses(self, batch: tuple[Window, HistoryNoise, Tensor], step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        window, disturb, dequantisation = batch
        if self.flow.config.model == "regression":
            loss = self.flow.squared_error(window, disturb).mean()
        else:
            loss = -self.flow.log_prob(window, disturb, dequantisation).mean() / self.bits
        yield "adam", loss, {"loss": float(loss.detach())}

    def validate(self, step: int) -> dict[str, float]:
        return {"loss": held_out_loss(self.flow, self.held_out, self.window, self.settings)}


#: Frames whose condition tokens are kept for the lids' training at most; a larger corpus gives as many, evenly chosen windows.
LID_FRAMES = 32_768
#: How far lids that have gone astray are more closed than real ones, and the share of it that is left a frame later. A blink opens as fast.
ASTRAY, ASTRAY_LEFT = (0.1, 0.6), 0.5


class LidTask(Task):
    """Negative log-likelihood of the lids alone, given the condition tokens of a trained flow.

    The lids' factor of the density is a small network and sees few blinks: it goes on learning long after the steps would overfit. Its
    conditions do not change any more, so they are computed once, without noise and dropout on the history.
    """

    def __init__(
        self, mixture: ConditionalMixture, train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], settings: FlowTraining, lr: float
    ) -> None:
        self.mixture, self.train_frames, self.held_out, self.settings = mixture, train, held_out, settings
        self.modules = {"mixture": mixture}
        self.optimizers = {"adam": torch.optim.AdamW(mixture.parameters(), lr=lr, weight_decay=settings.lid_weight_decay, fused=True)}
        self.ema_names = ("mixture",)

    def draw(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        tokens, lids = self.train_frames
        rows = torch.randint(len(lids), (self.settings.lid_batch,), generator=generator)
        return tokens[rows], lids[rows]

    def _loss(self, tokens: Tensor, lids: Tensor) -> Tensor:
        """Mean negative log-density [nats] of (N, L) lids given (N, n, width) tokens."""
        scores, log_det = self.mixture(lids.unsqueeze(0), tokens.unsqueeze(0))
        return (0.5 * (scores.square() + math.log(2 * math.pi)).sum(-1) - log_det).mean()

    def losses(self, batch: tuple[Tensor, Tensor], step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        loss = self._loss(*batch)
        yield "adam", loss, {"loss": float(loss.detach())}

    def validate(self, step: int) -> dict[str, float]:
        pieces = [(float(self._loss(tokens, lids)), len(lids)) for tokens, lids in zip(*(part.split(4096) for part in self.held_out))]
        return {"loss": sum(loss * count for loss, count in pieces) / sum(count for _, count in pieces)}


@torch.no_grad()
def lid_frames(flow: MotionFlow, data: MotionData, window: int, batch: int, astray: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Condition tokens (N, n, width) and lids (N, L) of at most LID_FRAMES frames, each in its own clip and under its own label.

    Windows without a label are left out: their lids have a density under every emotion.

    In a long rollout a lid can come to hover half closed. No clip holds such a past, so nothing tells the way back from it (decision 0027).
    Windows gone astray hold it: all of the past lids are more closed by one amount, and the frame itself is on its way back to the real one.

    Args:
        flow: Trained flow in eval mode.
        data: Clips.
        window: Frames of a window.
        batch: Windows at once.
        astray: Windows that are taken once more with lids gone astray, as a share of all.
        seed: Seed of which windows, and how far.
    """
    assert isinstance(flow.core, FlowStack)
    window = min(window, max(data.lengths))
    apart = list(flow.config.stack.apart)
    places = [place for place in window_starts(data.lengths, window) if bool(data.known[place[0]])]
    chosen = [places[i] for i in _even_choice(len(places), max(1, int(LID_FRAMES / window / (1 + astray))))]
    if not chosen:
        return flow.mean.new_zeros(0, 1, flow.config.stack.width), flow.mean.new_zeros(0, len(apart))
    generator = torch.Generator().manual_seed(seed % 2**63)
    again = torch.randint(len(chosen), (round(astray * len(chosen)),), generator=generator).tolist()
    low, high = ASTRAY
    closure = torch.cat([torch.zeros(len(chosen)), low + (high - low) * torch.rand(len(again), generator=generator)]).to(flow.mean)
    chosen = chosen + [chosen[i] for i in again]
    tokens, lids = [], []
    for first in range(0, len(chosen), batch):
        part = data.take(chosen[first : first + batch], window)
        offset = torch.zeros(len(part.x0), 1, part.past.shape[-1]).to(part.past)
        offset[..., apart] = closure[first : first + batch, None, None] / (flow.sd[flow.kept] * flow.r_sd)[apart]
        past = part.past + offset
        static = flow.static_tokens(flow.audio(part.audio), part.plan, part.x0, part.weights)
        tokens.append(flow.tokens(static, past).flatten(0, 1))
        u = (part.past[:, flow.lead :] + ASTRAY_LEFT * offset - flow.predicted(past)) / flow.u_sd
        lids.append(flow.to_normal(u)[0][..., apart].flatten(0, 1))
    return torch.cat(tokens), torch.cat(lids)


@torch.no_grad()
def held_out_loss(flow: MotionFlow, data: MotionData, window: int, settings: FlowTraining, shuffle: str = "") -> float:
    """Bits per dimension of u (or squared error) over windows that cover the clips, without history noise or dropout.

    Args:
        flow: Model in eval mode.
        data: Clips.
        window: Frames per window.
        settings: Gives the declared dequantisation noise, drawn from a fixed seed.
        shuffle: ``audio``, ``emotion`` or ``history``: that condition comes from another window (windows half the set apart).
    """
    window = min(window, max(data.lengths))
    places = window_starts(data.lengths, window)
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    other_of = {place: places[(i + len(places) // 2) % len(places)] for i, place in enumerate(places)}
    for first in range(0, len(places), settings.batch):
        chosen = places[first : first + settings.batch]
        batch = data.take(chosen, window)
        past = None
        if shuffle:
            other = data.take([other_of[place] for place in chosen], window)
            if shuffle == "audio":
                batch = replace(batch, audio=other.audio, plan=other.plan)
            elif shuffle == "emotion":
                batch = replace(batch, weights=other.weights, known=other.known)
            else:
                past = other.past
        if flow.config.model == "regression":
            total += float(flow.squared_error(batch, history=past).sum())
        else:
            noise = torch.randn(len(chosen), window, flow.config.stack.features, generator=generator) * settings.dequantisation
            total -= float(flow.log_prob(batch, noise=noise, history=past).sum()) / (flow.config.stack.features * math.log(2))
    return total / len(places)


def folds_of(clips: Sequence[MotionClip], folds: int) -> list[list[int]]:
    """Clip indices in ``folds`` groups that never split an identity; clips are the groups when identities are too few."""
    keys = [clip.identity for clip in clips]
    if len(set(keys)) < folds:
        keys = [clip.name for clip in clips]
    order = {key: i for i, key in enumerate(sorted(set(keys)))}
    count = max(1, min(folds, len(order)))
    return [[i for i, key in enumerate(keys) if order[key] % count == fold] for fold in range(count)]


def fit_standardisation(flow: MotionFlow, clips: Sequence[MotionClip], kept: Tensor) -> None:
    """Set mean, sd and bounds from the training clips; a rollout's expressions are clamped to values seen in training."""
    frames = torch.cat([target_of(flow, clip) for clip in clips])
    flow.mean.copy_(frames.mean(0))
    flow.sd.copy_(frames.std(0).clamp_min(1e-6))
    flow.kept = kept.to(flow.kept)
    if flow.config.kind == "expression":
        flow.low.copy_(frames.amin(0))
        flow.high.copy_(frames.amax(0))


def fit_residual_scale(flow: MotionFlow, clips: Sequence[MotionClip], plans: Sequence[Tensor]) -> None:
    """Set the scales of residuals, of the linear prediction's innovations and of velocities from training residuals."""
    residuals = [flow.standardise(target_of(flow, clip)) - plan for clip, plan in zip(clips, plans, strict=True)]
    flow.r_sd.copy_(torch.cat(residuals).square().mean(0).sqrt().clamp_min(1e-3))
    series = [r / flow.r_sd for r in residuals]
    flow.phi.copy_(stable_prediction(series, flow.config.order))
    past = [torch.cat([s.new_zeros(flow.lead, s.shape[1]), s]).unsqueeze(0) for s in series]
    flow.u_sd.fill_(1.0)
    # The first frames lean on the lead-in's zeros; they would dominate the scale of a smooth motion.
    innovations = torch.cat([flow.innovations(p)[0, flow.config.order :] for p in past])
    flow.u_sd.copy_(innovations.square().mean(0).sqrt().clamp_min(1e-4))
    if flow.marginals is not None:
        flow.marginals.fit(innovations / flow.u_sd)
    flow.v_sd.copy_(torch.cat([s.diff(dim=0) for s in series]).square().mean(0).sqrt().clamp_min(1e-4))


@dataclass(frozen=True)
class Phase:
    """One call of the training loop: its length and its name in the history."""

    name: str
    config: LoopConfig
    seed: int
    hooks: Hooks

    def run(self, task: Task) -> dict[str, Any]:
        """Train and leave the best weights in the task's modules."""
        result = run(task, self.config, seed=self.seed, **self.hooks(self.name))
        for name, module in task.modules.items():
            module.load_state_dict(result["best"][name])
            module.eval()
        return result


@torch.no_grad()
def reset_conditioner(net: Conditioner, seed: int) -> None:
    """Draw the initial weights from their own seed, so that flows of any shape begin, and end, with the same conditioners."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = dict(net.fresh().named_parameters())
    for name, parameter in net.named_parameters():
        parameter.copy_(fresh[name])


def fit_conditioners(
    flow: MotionFlow, clips: Sequence[MotionClip], settings: FlowTraining, config: LoopConfig, seed: int, hooks: Hooks
) -> list[Tensor]:
    """Train one conditioner per fold of identities; returns the cross-fitted plan (T, D) of each training clip.

    Each clip's plan comes from the conditioner that has not seen its identity. With a single fold (one clip) the plan is the fit
    itself, and its residuals are too small: there is nobody else to learn from.
    """
    targets = [flow.standardise(clip.beta) for clip in clips]
    sources = torch.stack([flow.standardise(clip.beta0) for clip in clips])
    weights = clip_weights(clips, flow.config.stack.labels)
    folds = folds_of(clips, flow.config.conditioners)
    plans: list[Tensor] = [torch.empty(0)] * len(clips)
    for index, held_out in enumerate(folds):
        train = [i for i in range(len(clips)) if i not in set(held_out)] or held_out
        net = flow.conditioners[index].requires_grad_(True)
        assert isinstance(net, Conditioner)
        reset_conditioner(net, derive_seed(seed, "conditioner", index))
        task = ConditionerTask(net, clips, targets, sources, weights, train, held_out, settings, config.lr)
        Phase(f"conditioner_{index}", config, seed + index, hooks).run(task)
        net.requires_grad_(False)
        for clip in held_out:
            plans[clip] = task.predict(clip)
    return plans


@torch.no_grad()
def plans_of(flow: MotionFlow, clips: Sequence[MotionClip]) -> list[Tensor]:
    """Plans (T, D) of clips that no conditioner has seen: the mean of all of them, as in a rollout."""
    bank = AudioBank(clips, flow.context)
    weights = clip_weights(clips, flow.config.stack.labels)
    plans = []
    for i, clip in enumerate(clips):
        x0 = flow.standardise(source_of(flow, clip)).unsqueeze(0)
        plans.append(flow.plan(bank.take(i, 0, len(clip.start)).unsqueeze(0), x0, weights[i : i + 1])[0])
    return plans


def make_flow(config: FlowConfig, clips: Sequence[MotionClip], min_sd: float) -> MotionFlow:
    """Build a flow whose kept dimensions come from the clips, and set its standardisation."""
    frames = torch.cat([clip.beta if config.kind == "expression" else clip.pose for clip in clips])
    kept = moving_dims(frames, min_sd)
    watched = lid_positions(kept, config.coefficients) if config.kind == "expression" else ()
    long_frames = config.long_frames if watched else 0
    folds = len(folds_of(clips, config.conditioners)) if config.conditioners else 0
    # Without lids of its own a face model has nothing that needs two hills.
    lids = watched if config.coefficients == len(EXPRESSIONS) else ()
    stack = replace(config.stack, features=len(kept), mixture_dims=lids, mixture=config.stack.mixture if lids else 0)
    config = replace(config, stack=stack, long_dims=watched, long_frames=long_frames, conditioners=folds)
    torch.manual_seed(config.seed)
    flow = MotionFlow(config)
    fit_standardisation(flow, clips, kept)
    mel = torch.cat([clip.mel for clip in clips])
    for module in flow.modules():
        if isinstance(module, AudioEncoder):
            module.fit(mel)
    return flow


#: Training clips that the calibration rolls out.
CALIBRATION_CLIPS = 192
#: Closure at which a lid counts as closed when blinks are counted, the fewest blinks that say anything, and the bounds of the lids' gain.
_CLOSED, _FEWEST_BLINKS, _LID_GAIN = 0.5, 20, (0.8, 1.25)


@torch.no_grad()
def calibrate(flow: MotionFlow, clips: Sequence[MotionClip], rounds: int, seed: int) -> None:
    """Scale the innovations of rollouts so that generated residuals vary within a clip as much as real ones, dimension by dimension.

    Teacher forcing shows the flow real histories only; in a rollout its own small errors add up, and motion comes out too wide (or
    too narrow). Each round rolls out training clips and moves the gain towards the real standard deviation within clips, by how much that
    answered to the round before: a smooth motion integrates its innovations, half the gain may leave a fifth of it. What a real
    clip keeps from its first frame to its last, as a person's habit or an error of the fit, is no motion: counted in, it makes
    rollouts wander (measured: 1.8 times the real spread over time instead of 1.3). The likelihood is untouched.

    Lids with a factor of their own are counted instead: their gain scales their latents, and moves until they close as often as in all clips.

    Args:
        flow: Trained flow of kind expression or pose.
        clips: Training clips; an even choice of CALIBRATION_CLIPS of them is used.
        rounds: Number of rounds.
        seed: Seed of the rollouts.
    """
    chosen = list(clips[:: -(-len(clips) // CALIBRATION_CLIPS)])
    plans = plans_of(flow, chosen)
    real = _spread_within(_residuals(flow, [target_of(flow, clip) for clip in chosen], plans))
    log_gain, log_made, elasticity = None, None, torch.full_like(flow.gain, 2.0)
    apart = list(flow.config.stack.apart)
    often = (
        closures(flow, [target_of(flow, clip) for clip in clips])
        * sum(len(clip.start) for clip in chosen)
        / sum(len(clip.start) for clip in clips)
    )
    # A normal beyond 2.2 (a blink begins in 1.3 % of the frames) becomes five times as much more frequent as it becomes wider.
    lid_gain, lid_elasticity, before = 0.0, 5.0, None
    for _ in range(rounds):
        # The same draws in every round: what changes is owed to the gain.
        requests = [request_of(clip, derive_seed(seed, "calibrate", clip.name) % 2**31) for clip in chosen]
        drawn = list(rollout(flow, requests))
        made, shut = _spread_within(_residuals(flow, drawn, plans)), closures(flow, drawn)
        now, spread = flow.gain.log(), made.clamp_min(1e-3).log()
        if log_gain is not None and log_made is not None:
            change = now - log_gain
            measured = ((spread - log_made) / change.where(change.abs() > 0.02, torch.ones_like(change))).clamp(1.0, 6.0)
            elasticity = measured.where(change.abs() > 0.02, elasticity)
        log_gain, log_made = now, spread
        wanted = real.clamp_min(1e-3).log() - spread
        flow.gain.copy_((now + (wanted / elasticity).clamp(-1.0, 1.0)).exp().clamp(0.2, 2.0))
        if apart and often >= _FEWEST_BLINKS:
            count = math.log(max(shut, 1))
            if before is not None and abs(lid_gain - before[0]) > 0.01:
                lid_elasticity = min(max((count - before[1]) / (lid_gain - before[0]), 2.0), 10.0)
            before = (lid_gain, count)
            lid_gain += (math.log(often) - count) / lid_elasticity
            lid_gain = min(max(lid_gain, math.log(_LID_GAIN[0])), math.log(_LID_GAIN[1]))
        flow.gain[apart] = math.exp(lid_gain)


def closures(flow: MotionFlow, sequences: Sequence[Tensor]) -> int:
    """How often the features with a factor of their own, in the mean over them, close in coefficients (T, C); 0 without such features."""
    columns = flow.kept[list(flow.config.stack.apart)]
    if not len(columns):
        return 0
    lids = [c.to(flow.mean)[:, columns].mean(1) > _CLOSED for c in sequences]
    return sum(int((one[1:] & ~one[:-1]).sum()) for one in lids)


def _spread_within(residuals: Sequence[Tensor]) -> Tensor:
    """(C,) standard deviation within a clip, mean over the clips; the first frame, where a rollout starts from the source, is left out.

    A mean of variances would be that of the few clips that move most, in which rollouts differ more than real ones.
    """
    return torch.stack([r[1:].std(0, unbiased=False) for r in residuals if len(r) > 2]).mean(0)


def _residuals(flow: MotionFlow, sequences: Sequence[Tensor], plans: Sequence[Tensor]) -> list[Tensor]:
    return [(flow.standardise(c.to(flow.mean)) - plan) / flow.r_sd for c, plan in zip(sequences, plans, strict=True)]


@dataclass(frozen=True)
class Trained:
    """A trained model with what its training knows about it.

    Attributes:
        flow: In eval mode, with the best weights.
        metrics: Flat numbers.
        held_out: The validation data as the flow models it.
    """

    flow: MotionFlow
    metrics: dict[str, float]
    held_out: MotionData


def fit_motion(
    config: FlowConfig,
    train: Sequence[MotionClip],
    held_out: Sequence[MotionClip],
    settings: FlowTraining,
    *,
    conditioner_loop: LoopConfig,
    flow_loop: LoopConfig,
    seed: int,
    hooks: Hooks,
    lid_loop: LoopConfig | None = None,
) -> Trained:
    """Fit standardisation, conditioners, flow and, further, the mixture of the lids, in this order.

    Args:
        config: Shape; the number of kept dimensions is filled in from the data.
        train: Training clips.
        held_out: Validation clips of other identities.
        settings: How to train.
        conditioner_loop: Loop of each conditioner.
        flow_loop: Loop of the flow.
        seed: Seed of weights and draws.
        lid_loop: Loop of the lids' mixture behind the flow's; None leaves it as the flow's training left it.
        hooks: From the name of a phase to the keyword arguments ``resume``, ``save``, ``log`` and ``progress`` of the loop.
    """
    flow = make_flow(config, train, settings.min_sd)
    if flow.config.conditioners:
        plans = fit_conditioners(flow, train, settings, conditioner_loop, seed, hooks)
    else:
        plans = plans_of(flow, train)
    fit_residual_scale(flow, train, plans)
    train_data, held_out_data = MotionData(flow, train, plans), MotionData(flow, held_out, plans_of(flow, held_out))
    generator = torch.Generator().manual_seed(seed)
    window = min(settings.window, max(train_data.lengths))
    flow.initialise(train_data.take(draw_places(train_data.lengths, 4 * settings.batch, window, generator), window))
    task = MotionTask(flow, train_data, held_out_data, settings, flow_loop.lr)
    result = Phase(config.kind, flow_loop, seed, hooks).run(task)
    if lid_loop is not None and isinstance(flow.core, FlowStack) and flow.core.mixture is not None:
        seen = lid_frames(flow, train_data, window, settings.batch, settings.lid_astray, derive_seed(seed, "astray"))
        unseen = lid_frames(flow, held_out_data, window, settings.batch)
        if len(seen[1]) and len(unseen[1]):
            lids_task = LidTask(flow.core.mixture, seen, unseen, settings, lid_loop.lr)
            Phase("lids", lid_loop, derive_seed(seed, "lids"), hooks).run(lids_task)
    if flow.config.model == "flow":
        calibrate(flow, train, settings.calibration_rounds, seed)
    metrics = {
        "gain_mean": float(flow.gain.mean()),
        "parameters": float(sum(p.numel() for p in flow.parameters())),
        "kept_dims": float(flow.config.stack.features),
        "best_step": float(result["step"]),
        "bad_steps": float(result["bad_steps"]),
    } | diagnose(flow, held_out_data, window, settings)
    return Trained(flow, metrics, held_out_data)


def diagnose(flow: MotionFlow, data: MotionData, window: int, settings: FlowTraining) -> dict[str, float]:
    """Held-out likelihood in standardised coefficients, and how much it loses when a condition is shuffled.

    A gap of zero means that the flow does not listen to that condition. In residual mode the audio that is shuffled
    includes the conditioner's plan as a condition, while the residual itself keeps the true plan.
    """
    name = "squared_error" if flow.config.model == "regression" else "bits_per_dim"
    base, change = held_out_loss(flow, data, window, settings), _change_of_units(flow)
    values = {f"held_out_{name}": base + change}
    for condition in ("audio", "emotion", "history") if flow.config.kind == "expression" else ("audio", "history"):
        values[f"gap_{condition}_{name}"] = held_out_loss(flow, data, window, settings, condition) - base
    return values


def _change_of_units(flow: MotionFlow) -> float:
    """Bits per dimension from u to standardised x, so that variants with other residuals compare; a squared error has no such change."""
    return flow.log_scale() / (flow.config.stack.features * math.log(2)) if flow.config.model == "flow" else 0.0


def clip_bits(flow: MotionFlow, clips: Sequence[MotionClip], window: int, settings: FlowTraining) -> list[float]:
    """Held-out bits per dimension of each clip in standardised coefficients, as :func:`diagnose` gives them for all clips together.

    Args:
        flow: Trained flow in eval mode.
        clips: Clips of people whom the flow has not seen.
        window: Frames of a teacher-forced window.
        settings: Gives the declared dequantisation noise.
    """
    plans = plans_of(flow, clips)
    data = [MotionData(flow, [clip], [plan]) for clip, plan in zip(clips, plans, strict=True)]
    return [held_out_loss(flow, one, window, settings) + _change_of_units(flow) for one in data]


@dataclass(frozen=True)
class HeldOutLatents:
    """Latents of single frames of clips that the flow has not seen, and where its prior expects them.

    Attributes:
        z: (N, D) float32 latents, each under the emotion and intensity of its own clip.
        emotion: (N,) int64 label of the frame's clip.
        intensity: (N,) float32 intensity of the frame's clip [0, 1].
        means: (E, D) float32 component means of the prior; a frame of intensity i is expected at (1 - i) means[0] + i means[emotion].
    """

    z: Tensor
    emotion: Tensor
    intensity: Tensor
    means: Tensor


@torch.no_grad()
def held_out_latents(flow: MotionFlow, clips: Sequence[MotionClip], window: int, settings: FlowTraining, most: int) -> HeldOutLatents:
    """Teacher-forced latents of labelled clips without noise or dropout; nothing is drawn, so what is trained next does not notice.

    Every emotion gets the same number of windows at most, evenly spread over its clips: the cost does not grow with the test split.

    Args:
        flow: Trained flow in eval mode.
        clips: Clips of people whom the flow has not seen; unlabelled ones have no emotion of their own and are left out.
        window: Frames of a teacher-forced window; windows do not overlap.
        settings: Gives the batch.
        most: Most frames to keep.
    """
    if not isinstance(flow.core, FlowStack):
        raise TypeError("a regression has no latents")
    window = min(window, max(len(clip.start) for clip in clips))
    by_label: list[list[tuple[int, int]]] = [[] for _ in range(flow.config.stack.labels)]
    for index, clip in enumerate(clips):
        if clip.emotion >= 0:
            by_label[clip.emotion] += [(index, first) for first in range(0, len(clip.start) - window + 1, window)]
    spoken = [places for places in by_label if places]
    share = max(1, most // (window * max(len(spoken), 1)))
    chosen = [places[i] for places in spoken for i in _even_choice(len(places), share)]
    used = {index: position for position, index in enumerate(sorted({index for index, _ in chosen}))}
    kept = [clips[index] for index in used]
    parts = [flow.mean.new_zeros(0, window, flow.config.stack.features)]
    if kept:
        data = MotionData(flow, kept, plans_of(flow, kept))
        for start in range(0, len(chosen), settings.batch):
            batch = data.take([(used[index], first) for index, first in chosen[start : start + settings.batch]], window)
            static = flow.static_tokens(flow.audio(batch.audio), batch.plan, batch.x0, batch.weights)
            g, _ = flow.to_normal(flow.innovations(batch.past))
            parts.append(flow.core(g, flow.tokens(static, batch.past), batch.weights.unsqueeze(1))[0])
    return HeldOutLatents(
        z=torch.cat(parts).flatten(0, 1),
        emotion=torch.tensor([clips[index].emotion for index, _ in chosen], dtype=torch.int64).repeat_interleave(window),
        intensity=torch.tensor([clips[index].intensity for index, _ in chosen]).repeat_interleave(window),
        means=flow.core.prior.means,
    )


def _even_choice(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of the numbers below ``count``, evenly spread, rising."""
    return torch.linspace(0, count - 1, min(count, wanted), dtype=torch.float64).round().long().tolist()
