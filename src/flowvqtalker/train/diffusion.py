"""Training of the diffusion baseline on a trained flow's residuals: same clips, same cross-fitted plans, same disturbances of the sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flowvqtalker.flow.diffusion import NOISE, Denoiser, DiffusionConfig, add_noise
from flowvqtalker.flow.motionflow import MotionFlow, Window
from flowvqtalker.flow.windows import MotionClip, window_starts
from flowvqtalker.train.flow import (
    AudioBank,
    FlowTraining,
    MotionData,
    clip_weights,
    disturb_mel,
    draw_places,
    folds_of,
    plans_of,
    source_of,
)
from flowvqtalker.train.loop import LoopConfig, Task, run

#: Noise levels at which each held-out window is scored.
LEVELS = 2


@torch.no_grad()
def cross_fitted_plans(flow: MotionFlow, clips: Sequence[MotionClip]) -> list[Tensor]:
    """Plan (T, D) of each training clip from the conditioner that has not seen its identity, as when the flow was trained.

    Args:
        flow: Trained flow.
        clips: The very clips that it was trained on: which conditioner has not seen an identity follows from all of them.
    """
    if not flow.config.conditioners:
        return plans_of(flow, clips)
    bank, weights = AudioBank(clips, flow.context), clip_weights(clips, flow.config.stack.labels)
    plans: list[Tensor] = [torch.empty(0)] * len(clips)
    for conditioner, fold in zip(flow.conditioners, folds_of(clips, flow.config.conditioners), strict=True):
        for i in fold:
            x0 = flow.standardise(source_of(flow, clips[i])).unsqueeze(0)
            plans[i] = conditioner(bank.take(i, 0, bank.lengths[i]).unsqueeze(0), x0, weights[i : i + 1])[0]
    return plans


@dataclass
class NoisyWindows:
    """A batch of windows at drawn noise levels.

    Attributes:
        window: Clean residuals with their past and conditions.
        noise: (B, T, D) standard normal.
        angle: (B,) noise levels [rad].
        past: (B, history, D) what the network is shown of the past.
        present: (B,) bool, whether it is shown.
    """

    window: Window
    noise: Tensor
    angle: Tensor
    past: Tensor
    present: Tensor


def spread_levels(count: int, generator: torch.Generator) -> Tensor:
    """Noise levels (count,) [rad], one drawn in each of ``count`` equal parts of (0, pi/2), in random order: less noise in the loss."""
    part = torch.randperm(count, generator=generator)
    return NOISE * (part + torch.rand(count, generator=generator)) / count


class DiffusionTask(Task):
    """Squared error of the velocity of residuals within windows.

    Args:
        denoiser: What is trained.
        train: Training clips as the flow models them.
        held_out: Validation clips.
        settings: Gives batch, disturbance of sound and history, weight decay.
        absent_share: Share of windows whose past is not shown, as at the start of a clip.
        lr: Peak learning rate.
    """

    def __init__(
        self, denoiser: Denoiser, train: MotionData, held_out: MotionData, settings: FlowTraining, absent_share: float, lr: float
    ) -> None:
        self.denoiser, self.train_data, self.held_out = denoiser, train, held_out
        self.settings, self.absent_share = settings, absent_share
        self.modules = {"denoiser": denoiser}
        self.optimizers = {"adam": torch.optim.AdamW(denoiser.parameters(), lr=lr, weight_decay=settings.weight_decay, fused=True)}
        self.ema_names = ("denoiser",)

    def draw(self, step: int, generator: torch.Generator) -> NoisyWindows:
        settings, config = self.settings, self.denoiser.config
        places = draw_places(self.train_data.lengths, settings.batch, config.window, generator)
        batch = self._noisy(self.train_data, places, spread_levels(len(places), generator), generator)
        disturbed = torch.randn(batch.past.shape, generator=generator) * settings.history_noise
        shown = torch.rand(len(places), generator=generator) >= self.absent_share
        window = replace(batch.window, audio=disturb_mel(batch.window.audio, settings, generator))
        return replace(batch, window=window, past=batch.past + disturbed, present=batch.present & shown)

    def _noisy(self, data: MotionData, places: Sequence[tuple[int, int]], angle: Tensor, generator: torch.Generator) -> NoisyWindows:
        config, lead = self.denoiser.config, data.flow.lead
        window = data.take(places, config.window)
        noise = torch.randn(len(places), config.window, config.features, generator=generator)
        # In a rollout the past is whole or, before the first frame, absent; so it is here.
        present = torch.tensor([first >= config.history for _, first in places])
        return NoisyWindows(window, noise, angle, window.past[:, lead - config.history : lead], present)

    def _error(self, batch: NoisyWindows) -> Tensor:
        net, window = self.denoiser, batch.window
        noisy, velocity = add_noise(window.past[:, -net.config.window :], batch.noise, batch.angle)
        conditions = net.conditions(net.audio(window.audio), window.plan, window.x0, window.weights)
        return (net(noisy, batch.angle, batch.past, batch.present, conditions) - velocity).square().mean()

    def losses(self, batch: NoisyWindows, step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        loss = self._error(batch)
        yield "adam", loss, {"loss": float(loss.detach())}

    def validate(self, step: int) -> dict[str, float]:
        """Error over windows that cover the held-out clips, at noise levels and noise from a fixed seed, without disturbances."""
        places = window_starts(self.held_out.lengths, self.denoiser.config.window) * LEVELS
        generator = torch.Generator().manual_seed(0)
        angles = spread_levels(len(places), generator)
        total = 0.0
        for first in range(0, len(places), self.settings.batch):
            part = places[first : first + self.settings.batch]
            total += float(self._error(self._noisy(self.held_out, part, angles[first : first + len(part)], generator))) * len(part)
        return {"loss": total / len(places)}


@dataclass(frozen=True)
class TrainedDiffusion:
    """A trained denoiser.

    Attributes:
        denoiser: In eval mode, with the best weights.
        metrics: Flat numbers of the training.
    """

    denoiser: Denoiser
    metrics: dict[str, float]


def fit_diffusion(
    config: DiffusionConfig, flow: MotionFlow, train: Sequence[MotionClip], held_out: Sequence[MotionClip], settings: FlowTraining, *,
    absent_share: float, loop: LoopConfig, seed: int, log: Callable[[int, str, dict[str, float]], None] | None = None, **hooks: Any,
) -> TrainedDiffusion:  # fmt: skip
    """Train a denoiser beside a trained flow.

    Args:
        config: Shape; ``config_for`` gives one of the flow's size.
        flow: Trained flow of kind expression, for standardisation and plans; it is not changed.
        train: The clips that the flow was trained on.
        held_out: Validation clips of other identities, at least one of ``config.window`` frames.
        settings: How to train.
        absent_share: Share of training windows without a past.
        loop: Length and rate.
        seed: Seed of weights and draws.
        log: As in the loop.
        **hooks: ``resume``, ``save`` and ``progress`` of the loop.
    """
    if flow.config.kind != "expression":
        raise ValueError(f"flow: expected kind expression, got {flow.config.kind}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = Denoiser(config)
    denoiser.audio.cepstra_mean.copy_(flow.audio.cepstra_mean)
    denoiser.audio.cepstra_sd.copy_(flow.audio.cepstra_sd)
    data = MotionData(flow, train, cross_fitted_plans(flow, train))
    task = DiffusionTask(denoiser, data, MotionData(flow, held_out, plans_of(flow, held_out)), settings, absent_share, loop.lr)
    result = run(task, loop, seed=seed, log=log, **hooks)
    denoiser.load_state_dict(result["best"]["denoiser"])
    denoiser.eval().requires_grad_(False)
    numbers = {
        "parameters": float(sum(p.numel() for p in denoiser.parameters())), "steps": float(result["steps"]), "best_step": float(result["step"]),
        "held_out_squared_error": result["value"], "bad_steps": float(result["bad_steps"]),
    }  # fmt: skip
    return TrainedDiffusion(denoiser, numbers)
