"""The training loop: schedule, exact resume, EMA, selection, NaN guard and averaged gradients."""

import itertools
import math
import os

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from flowvqtalker.train import distributed
from flowvqtalker.train.loop import Ema, LoopConfig, Task, TrainingDivergedError, lr_factor, run

CONFIG = LoopConfig(
    steps=4, lr=1e-2, warmup_steps=2, final_lr_share=0.1, grad_clip=1.0, ema_decay=0.9, validate_every=2, checkpoint_every=2, select="loss"
)


class TwoPlayers(Task):
    """A toy adversarial pair with dropout: two optimizers in turn, one of them averaged."""

    def __init__(self, bad_steps=(), bad_gradient=False):
        torch.manual_seed(0)
        self.modules = {
            "maker": nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 2)),
            "judge": nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)),
        }
        self.optimizers = {
            "maker": torch.optim.Adam(self.modules["maker"].parameters(), lr=1e-2),
            "judge": torch.optim.AdamW(self.modules["judge"].parameters(), lr=1e-2),
        }
        self.ema_names = ("maker",)
        self.bad_steps, self.bad_gradient = set(bad_steps), bad_gradient
        self.seen = []

    def draw(self, step, generator):
        return torch.randn(16, 3, generator=generator)

    def losses(self, batch, step):
        self.seen.append(float(batch.sum()))
        made = self.modules["maker"](batch)
        loss = (made - batch[:, :2]).square().mean() - self.modules["judge"](made).mean()
        if step in self.bad_steps:
            loss = (loss * 0).sqrt() if self.bad_gradient else loss * float("nan")
        yield "maker", loss, {"maker_loss": float(loss.detach())}
        with torch.no_grad():
            again = self.modules["maker"](batch)
        yield "judge", self.modules["judge"](again).square().mean(), {}

    def validate(self, step):
        assert not self.modules["maker"].training
        return {"loss": float((self.modules["maker"](torch.ones(4, 3)) - 1).square().mean())}


def equal(first, second):
    return all(torch.equal(first[name][key], second[name][key]) for name in first for key in first[name])


def test_two_plus_two_steps_equal_four():
    whole = run(TwoPlayers(), CONFIG, seed=7)
    states = []
    run(TwoPlayers(), CONFIG, seed=7, save=states.append)
    torch.manual_seed(999)  # the state of the process must not matter
    fresh = TwoPlayers()
    for parameter in fresh.modules["maker"].parameters():
        nn.init.zeros_(parameter)
    resumed = run(fresh, CONFIG, seed=7, resume=states[0])
    assert states[0]["step"] == 2
    assert len(fresh.seen) == 2
    assert equal(whole["last"], resumed["last"])
    assert equal(whole["best"], resumed["best"])
    assert whole["value"] == resumed["value"]


def test_another_seed_gives_other_weights_and_is_refused_on_resume():
    states = []
    first = run(TwoPlayers(), CONFIG, seed=1, save=states.append)
    second = run(TwoPlayers(), CONFIG, seed=2)
    assert not equal(first["last"], second["last"])
    with pytest.raises(ValueError, match="seed"):
        run(TwoPlayers(), CONFIG, seed=2, resume=states[0])


def test_run_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    task = TwoPlayers()
    torch.manual_seed(5)
    run(task, CONFIG, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_schedule_warms_up_and_ends_at_its_share():
    config = LoopConfig(100, 1.0, 10, 0.05, None, None, 10, 10, None)
    factors = [lr_factor(step, config) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == pytest.approx(1.0)
    assert factors[99] == pytest.approx(0.05)
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[10:]))


def test_group_scale_and_contradicting_rates():
    task = TwoPlayers()
    task.optimizers["judge"].param_groups[0]["lr_scale"] = 0.25
    run(task, CONFIG, seed=0)
    ratio = task.optimizers["judge"].param_groups[0]["lr"] / task.optimizers["maker"].param_groups[0]["lr"]
    assert ratio == pytest.approx(0.25)
    task = TwoPlayers()
    task.optimizers["judge"].param_groups[0]["lr"] = 0.5
    with pytest.raises(ValueError, match="judge"):
        run(task, CONFIG, seed=0)


def test_ema_is_the_weighted_mean_and_swaps_back():
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    ema = Ema({"m": module}, decay=0.05)  # below the growing start value from the second step on
    expected = 0.0
    for step, value in enumerate((1.0, 5.0, -2.0)):
        module.weight.data.fill_(value)
        ema.update(step)
        decay = min(0.05, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with ema.swapped_in():
        assert module.weight.item() == pytest.approx(expected)
    assert module.weight.item() == -2.0
    with pytest.raises(RuntimeError, match="inside"), ema.swapped_in():
        raise RuntimeError("inside")
    assert module.weight.item() == -2.0


class Scripted(TwoPlayers):
    """Validation values from a list; remembers the weights that were validated."""

    def __init__(self, values):
        super().__init__()
        self.values, self.validated = list(values), []

    def validate(self, step):
        self.validated.append({k: v.clone() for k, v in self.modules["maker"].state_dict().items()})
        return {"loss": self.values[len(self.validated) - 1]}


def test_selection_keeps_the_best_averaged_weights_and_patience_stops():
    config = LoopConfig(8, 1e-2, 0, 1.0, None, 0.9, 1, 1, "loss", patience=3)
    task = Scripted([3.0, 1.0, 2.0, math.nan, 5.0, 0.0, 0.0, 0.0])
    result = run(task, config, seed=3)
    assert (result["step"], result["value"], result["steps"]) == (2, 1.0, 5)
    assert equal({"maker": result["best"]["maker"]}, {"maker": task.validated[1]})
    assert not equal({"maker": result["best"]["maker"]}, {"maker": result["last"]["maker"]})


def test_unknown_selection_names_what_there_is():
    with pytest.raises(KeyError, match="loss"):
        run(TwoPlayers(), LoopConfig(1, 1e-2, 0, 1.0, None, None, 1, 1, "missing"), seed=0)


@pytest.mark.parametrize("bad_gradient", [False, True])
def test_a_bad_step_is_skipped_and_counted(bad_gradient):
    result = run(TwoPlayers({1}, bad_gradient), CONFIG, seed=0)
    assert result["bad_steps"] == 1
    assert all(torch.isfinite(value).all() for state in result["last"].values() for value in state.values())


def test_a_row_of_bad_steps_goes_back_to_the_last_good_checkpoint():
    config = LoopConfig(10, 1e-2, 0, 1.0, None, 0.9, 5, 2, None, max_bad_steps=2)
    saved, reference = [], []
    run(TwoPlayers(), LoopConfig(10, 1e-2, 0, 1.0, None, 0.9, 5, 2, None), seed=0, save=reference.append)
    task = TwoPlayers(range(4, 10))
    with pytest.raises(TrainingDivergedError, match="last good checkpoint \\(step 4\\)"):
        run(task, config, seed=0, save=saved.append)
    assert saved[-1]["step"] == 4
    assert equal({name: module.state_dict() for name, module in task.modules.items()}, reference[1]["modules"])


class Watched(TwoPlayers):
    """Notes in which mode its extra modules are while it trains."""

    def __init__(self):
        super().__init__()
        self.modules["frozen"] = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).requires_grad_(False)
        self.modules["counter"] = nn.BatchNorm1d(2, affine=False)
        self.modes = []

    def losses(self, batch, step):
        self.modes.append((self.modules["frozen"].training, self.modules["counter"].training, self.modules["maker"].training))
        yield from super().losses(batch, step)


def test_frozen_modules_stay_in_eval_mode_and_buffers_only_modules_train():
    task = Watched()
    run(task, LoopConfig(2, 1e-2, 0, 1.0, None, None, 1, 5, None), seed=0)
    assert task.modes == [(False, True, True)] * 2


def test_logs_have_means_of_training_and_validation():
    rows = []
    run(TwoPlayers(), CONFIG, seed=0, log=lambda step, split, values: rows.append((step, split, set(values))))
    assert (4, "train", {"maker_loss", "grad_norm_maker", "grad_norm_judge"}) in rows
    assert [row[0] for row in rows if row[1] == "val"] == [2, 4]


def _average(rank, world, meeting_point, queue):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=world)
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad = torch.full((2,), float(rank))
    if rank == 1:
        parameters[1].grad = torch.full((2,), 4.0)
    distributed.average_gradients(parameters)
    grads = [None if p.grad is None else p.grad.tolist() for p in parameters]
    queue.put((rank, grads, distributed.all_agree(rank == 0), distributed.from_first(float(rank))))
    torch.distributed.destroy_process_group()


def test_gradients_are_averaged_over_two_ranks(tmp_path):
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    processes = [context.Process(target=_average, args=(rank, 2, tmp_path / "meet", queue)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    for _ in processes:
        _, grads, agree, first = queue.get()
        assert grads == [[0.5, 0.5], [2.0, 2.0], None]
        assert agree is False
        assert first == 0.0
