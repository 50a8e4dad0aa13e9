"""The one training loop of every model: schedule, EMA, gradient clip, NaN guard, selection and exact resume.

Randomness belongs to the step, not to the process: the batch of step ``i`` is drawn from a generator derived from
``(seed, i)`` and everything else (dropout, noise) from the global generator seeded with ``(seed, i)``. A run that
stops and goes on therefore makes the same numbers as one that never stopped (bit for bit on a CPU at a fixed number
of threads). Several optimizers may take turns within a step, as adversarial training needs.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowvqtalker.seeding import derive_seed, torch_generator
from flowvqtalker.train import distributed

State = dict[str, Any]
Weights = dict[str, dict[str, Tensor]]


class TrainingDivergedError(RuntimeError):
    """Too many steps in a row had a non-finite loss or gradient; the modules hold the last good checkpoint again."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        steps: Number of optimisation steps.
        lr: Peak learning rate. A parameter group with the key ``lr_scale`` gets ``lr * lr_scale``.
        warmup_steps: Steps of linear warm-up from ``lr / warmup_steps``.
        final_lr_share: Share of ``lr`` at the last step, in [0, 1]; a cosine leads there.
        grad_clip: Largest L2 norm of all gradients of one optimizer, or None.
        ema_decay: Decay of the exponential moving average of the weights named in ``Task.ema_names``, or None.
            It grows from 0.1 as (1 + step) / (10 + step), so that short trainings are not tied to their start.
        validate_every: Steps between validations (one more follows the last step).
        checkpoint_every: Steps between checkpoints.
        select: Name of the validation value to minimise for "best"; None keeps the last weights.
        patience: Stop after this many validations without a better ``select``; None never stops early.
        max_bad_steps: Non-finite steps in a row that are skipped before the training gives up.
    """

    steps: int
    lr: float
    warmup_steps: int
    final_lr_share: float
    grad_clip: float | None
    ema_decay: float | None
    validate_every: int
    checkpoint_every: int
    select: str | None
    patience: int | None = None
    max_bad_steps: int = 20

    def __post_init__(self) -> None:
        if self.steps < 1 or self.validate_every < 1 or self.checkpoint_every < 1:
            raise ValueError("steps, validate_every and checkpoint_every must be at least 1")
        if self.patience is not None and self.select is None:
            raise ValueError("patience needs select: without a value to minimise nothing can stop early")


class Task(ABC):
    """One training: its modules, its optimizers, its batches and its losses. Subclass it.

    Attributes:
        modules: Everything with state, by name; also what is returned. A module whose parameters are all frozen
            stays in eval mode.
        optimizers: By name; ``losses`` names the one whose turn it is.
        ema_names: Names of the modules that get an averaged copy, which is what validation and the result use.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    ema_names: tuple[str, ...] = ()

    @abstractmethod
    def draw(self, step: int, generator: torch.Generator) -> Any:
        """Make the batch of this step from the generator alone (derived from seed and step)."""

    @abstractmethod
    def losses(self, batch: Any, step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        """Yield (optimizer name, scalar loss, values to log); the optimizer has stepped when the generator goes on."""

    def validate(self, step: int) -> dict[str, float]:
        """Return validation values by name. Runs without gradients, in eval mode, with the averaged weights in place."""
        return {}


def lr_factor(step: int, config: LoopConfig) -> float:
    """Share of the peak learning rate at ``step`` (counted from 0): linear warm-up, then a cosine to the final share."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    rest = max(config.steps - config.warmup_steps - 1, 1)
    progress = min((step - config.warmup_steps) / rest, 1.0)
    return config.final_lr_share + (1 - config.final_lr_share) * 0.5 * (1 + math.cos(math.pi * progress))


def copy_weights(modules: Mapping[str, nn.Module]) -> Weights:
    """Detached copies on the CPU of the state of every module."""
    return {name: {key: value.detach().to("cpu", copy=True) for key, value in m.state_dict().items()} for name, m in modules.items()}


class Ema:
    """Exponential moving averages of the weights of some modules; buffers are copied, not averaged."""

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self.modules = dict(modules)
        self.average = {name: {k: v.detach().clone() for k, v in m.state_dict().items()} for name, m in modules.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the present weights; ``step`` counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, module in self.modules.items():
            parameters = {key for key, _ in module.named_parameters(remove_duplicate=False)}
            for key, value in module.state_dict().items():
                kept = self.average[name][key]
                if key in parameters and value.is_floating_point():
                    kept.lerp_(value, 1 - decay)
                else:
                    kept.copy_(value)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Put the averages into the modules and take them out again, whatever happens inside."""
        kept = {name: {k: v.detach().clone() for k, v in m.state_dict().items()} for name, m in self.modules.items()}
        try:
            for name, module in self.modules.items():
                module.load_state_dict(self.average[name])
            yield
        finally:
            for name, module in self.modules.items():
                module.load_state_dict(kept[name])


def _check_learning_rates(task: Task, lr: float) -> None:
    """A rate given to an optimizer's constructor would silently be replaced by ``config.lr``: refuse it instead."""
    for name, optimizer in task.optimizers.items():
        for group in optimizer.param_groups:
            if "lr_scale" not in group and not math.isclose(float(group["lr"]), lr, rel_tol=1e-9):
                raise ValueError(
                    f"optimizer {name!r}: its lr is {group['lr']} but LoopConfig.lr is {lr}; "
                    "give it the same lr, or a parameter group with lr_scale"
                )


def _set_train_mode(modules: Mapping[str, nn.Module]) -> None:
    for module in modules.values():
        parameters = list(module.parameters())
        module.train(not parameters or any(p.requires_grad for p in parameters))


def _state_is_finite(modules: Mapping[str, nn.Module]) -> bool:
    return all(bool(torch.isfinite(v).all()) for m in modules.values() for v in m.state_dict().values() if v.is_floating_point())


class _Run:
    """The moving parts of one call of ``run``; kept apart so that the loop itself reads like a page."""

    def __init__(self, task: Task, config: LoopConfig, seed: int) -> None:
        self.task, self.config, self.seed = task, config, seed
        self.step = 0
        self.bad_total = 0
        self.bad_in_a_row = 0
        self.stale = 0
        self.stopped = False
        self.best: Weights | None = None
        self.best_step = 0
        self.best_value = math.inf
        self.sums: dict[str, list[float]] = {}
        decay = config.ema_decay
        self.ema = Ema({name: task.modules[name] for name in task.ema_names}, decay) if decay is not None and task.ema_names else None

    def state(self) -> State:
        """Everything that a resume needs, on the CPU."""
        return {
            "seed": self.seed,
            "step": self.step,
            "modules": copy_weights(self.task.modules),
            "optimizers": {name: copy.deepcopy(o.state_dict()) for name, o in self.task.optimizers.items()},
            "ema": copy.deepcopy(self.ema.average) if self.ema else None,
            "best": copy.deepcopy(self.best),
            "best_step": self.best_step,
            "best_value": self.best_value,
            "stale": self.stale,
            "stopped": self.stopped,
            "bad_total": self.bad_total,
            "sums": copy.deepcopy(self.sums),
        }

    def load(self, state: State) -> None:
        """Go on from ``state``."""
        if state["seed"] != self.seed:
            raise ValueError(f"resume: the checkpoint was made with seed {state['seed']}, this run has seed {self.seed}")
        for name, module in self.task.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimizer in self.task.optimizers.items():
            optimizer.load_state_dict(copy.deepcopy(state["optimizers"][name]))
        if self.ema:
            for name, average in self.ema.average.items():
                for key, value in average.items():
                    value.copy_(state["ema"][name][key])
        self.step, self.best, self.best_step = state["step"], copy.deepcopy(state["best"]), state["best_step"]
        self.best_value, self.stale, self.stopped = state["best_value"], state["stale"], state["stopped"]
        self.bad_total, self.bad_in_a_row, self.sums = state["bad_total"], 0, copy.deepcopy(state["sums"])

    def set_rates(self) -> None:
        factor = self.config.lr * lr_factor(self.step, self.config)
        for optimizer in self.task.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = factor * group.get("lr_scale", 1.0)

    def train_step(self) -> bool:
        """One step; False when a loss or gradient was not finite (that optimizer and the ones after it did not step)."""
        rank = distributed.rank()
        place = (self.seed, "step", self.step) if rank == 0 else (self.seed, "step", self.step, rank)
        torch.manual_seed(derive_seed(*place))
        batch = self.task.draw(self.step, torch_generator(*place, "draw"))
        for name, loss, logs in self.task.losses(batch, self.step):
            optimizer = self.task.optimizers[name]
            optimizer.zero_grad(set_to_none=True)
            if not distributed.all_agree(bool(torch.isfinite(loss.detach()).all()), loss.device):
                return False
            loss.backward()
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            distributed.average_gradients(parameters)
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.grad_clip or math.inf)
            if not bool(torch.isfinite(norm)):
                optimizer.zero_grad(set_to_none=True)
                return False
            optimizer.step()
            for key, value in (logs | {f"grad_norm_{name}": float(norm)}).items():
                total = self.sums.setdefault(key, [0.0, 0.0])
                total[0] += float(value)
                total[1] += 1.0
        if self.ema:
            self.ema.update(self.step)
        return True

    @contextmanager
    def result_weights(self) -> Iterator[None]:
        if self.ema is None:
            yield
        else:
            with self.ema.swapped_in():
                yield

    def validate(self) -> dict[str, float]:
        """Validation values with the averaged weights; keeps them when they are the best so far."""
        torch.manual_seed(derive_seed(self.seed, "validate", self.step))
        for module in self.task.modules.values():
            module.eval()
        with self.result_weights(), torch.no_grad():
            values = {name: float(value) for name, value in self.task.validate(self.step).items()}
            if self.config.select is None:
                return values
            if self.config.select not in values:
                raise KeyError(f"select: the validation has no value {self.config.select!r}, only {sorted(values)}")
            value = distributed.from_first(values[self.config.select])
            if value < self.best_value:
                self.best, self.best_step, self.best_value, self.stale = copy_weights(self.task.modules), self.step, value, 0
            else:
                self.stale += 1
        if self.config.patience is not None and self.stale >= self.config.patience:
            self.stopped = True
        return values

    def take_sums(self) -> dict[str, float]:
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means


def run(
    task: Task,
    config: LoopConfig,
    *,
    seed: int,
    resume: State | None = None,
    save: Callable[[State], None] | None = None,
    log: Callable[[int, str, dict[str, float]], None] | None = None,
    progress: str | None = None,
) -> dict[str, Any]:
    """Train ``task``.

    Args:
        task: What to train.
        config: How long and how fast.
        seed: All draws derive from it and the step.
        resume: A state that ``save`` was given; the training goes on behind it.
        save: Gets the state every ``checkpoint_every`` steps and at the end.
        log: Gets (number of finished steps, "train" | "val", values by name).
        progress: Label of the progress bar; None or no terminal shows none.

    Returns:
        ``best`` and ``last``: state dicts by module name (averaged weights where ``ema_names`` says so), ``step`` of the
        best, its ``value`` (NaN without ``select``), ``steps`` done and ``bad_steps`` skipped.

    Raises:
        TrainingDivergedError: More than ``max_bad_steps`` non-finite steps in a row; modules and the saved state are the last
            good checkpoint.
        ValueError: An optimizer's learning rate contradicts ``config.lr``, or ``resume`` has another seed.
        KeyError: ``select`` is not among the validation values.
    """
    if resume is None:
        _check_learning_rates(task, config.lr)
    current = _Run(task, config, seed)
    if resume is not None:
        current.load(resume)
    distributed.broadcast_modules(task.modules)
    first = distributed.rank() == 0
    log_every = max(1, config.steps // 100)
    with torch.random.fork_rng(devices=[]):
        good = current.state()
        bar = tqdm(total=config.steps, initial=current.step, desc=progress, disable=None if progress and first else True, leave=False)
        while current.step < config.steps and not current.stopped:
            _set_train_mode(task.modules)
            current.set_rates()
            if current.train_step():
                current.bad_in_a_row = 0
            else:
                current.bad_total += 1
                current.bad_in_a_row += 1
            if current.bad_in_a_row > config.max_bad_steps:
                at, in_a_row, total = current.step, current.bad_in_a_row, current.bad_total
                current.load(good)
                if save is not None and first:
                    save(good)
                raise TrainingDivergedError(
                    f"step {at}: {in_a_row} steps in a row had a non-finite loss or gradient ({total} in all). The modules are back at "
                    f"the last good checkpoint (step {good['step']}). Lower the learning rate or the gradient clip, or look at the data."
                )
            current.step += 1
            bar.update()
            end = current.step == config.steps
            if log is not None and first and (end or current.step % log_every == 0) and current.sums:
                log(current.step, "train", current.take_sums())
            if end or current.step % config.validate_every == 0:
                values = current.validate()
                if log is not None and first and values:
                    log(current.step, "val", values)
            due = end or current.stopped or current.step % config.checkpoint_every == 0
            if due and current.bad_in_a_row == 0 and _state_is_finite(task.modules):
                good = current.state()
                if save is not None and first:
                    save(good)
        bar.close()
        with current.result_weights():
            last = copy_weights(task.modules)
    best = current.best if current.best is not None else last
    value = current.best_value if current.best is not None else math.nan
    step = current.best_step if current.best is not None else current.step
    return {"best": best, "last": last, "step": step, "value": value, "steps": current.step, "bad_steps": current.bad_total}
