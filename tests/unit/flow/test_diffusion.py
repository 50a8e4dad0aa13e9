"""The diffusion baseline: the sampler against closed forms, draws that belong to a clip, a budget like the flow's, a training that learns."""

import dataclasses
import itertools
import math
from pathlib import Path

import pytest
import torch
import yaml

from flowvqtalker.flow.diagnostics import request_of, rollout_metrics
from flowvqtalker.flow.diffusion import (
    Denoiser,
    DiffusionConfig,
    add_noise,
    config_for,
    ddim,
    diffuse,
    diffusion_state,
    load_diffusion,
)
from flowvqtalker.flow.motionflow import FlowConfig, MotionFlow
from flowvqtalker.flow.sampling import MotionRequest, rollout
from flowvqtalker.flow.schedulers import diffusers_ddim
from flowvqtalker.flow.stack import StackConfig
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.seeding import derive_seed
from flowvqtalker.train.diffusion import DiffusionTask, cross_fitted_plans, fit_diffusion, spread_levels
from flowvqtalker.train.flow import FlowTraining, MotionData, fit_conditioners, fit_residual_scale, make_flow, plans_of
from flowvqtalker.train.loop import LoopConfig
from pipeline.flow import flow_config
from pipeline.params import validate_section
from pipeline.tools.diffusion import motion_numbers, parameters

STACK = StackConfig(5, 8, 2, 16, 4, "transformer", 1, 0.8, "multi", "smm", 50.0, 5.0)
FLOW = FlowConfig("expression", "flow", 5, STACK, 4, 2, 8, 4, (0, 1), 16, 16, 0.0, 2, 1, 0.0, 1, True, 0.0, 6.0, 3)
SHAPE = DiffusionConfig(5, 8, True, 8, 4, 16, (1, 2), 16, 0.0)
SETTINGS = FlowTraining(4, 8, 4, 0.5, 0.5, 0.2, 1e-3, 0.01, 0.01, 4.0, 0.3, 1, 0.05, 1e-3, 1)


def gaussian_velocity(mean, sd):
    """Velocity of the best denoiser of data N(mean, sd^2): E[cos(phi) noise - sin(phi) x0 | x]."""

    def velocity(x, angle):
        a, s = math.cos(angle), math.sin(angle)
        residue = (x - a * mean) / (a * a * sd * sd + s * s)
        return a * s * residue - s * (mean + a * sd * sd * residue)

    return velocity


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 50])
def test_steps_are_those_of_ddim_with_the_best_denoiser_of_a_gaussian(steps):
    """One linear map a step: x_0 hat and noise hat put together at the next level, written out with variances in place of angles."""
    mean, sd = torch.tensor([0.5, -2.0, 0.0]).double(), torch.tensor([0.3, 1.0, 2.0]).double()
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()
    kept = torch.cos(torch.linspace(1, 0, steps + 1).double() * math.pi / 2).square()  # alpha bar from pure noise to data
    x = noise
    for now, after in itertools.pairwise(kept):
        clean = mean + now.sqrt() * sd**2 * (x - now.sqrt() * mean) / (now * sd**2 + 1 - now)
        x = after.sqrt() * clean + (1 - after).sqrt() * (x - now.sqrt() * clean) / (1 - now).sqrt()
    assert torch.allclose(ddim(gaussian_velocity(mean, sd), noise, steps), x, atol=1e-12)


def test_many_steps_carry_noise_exactly_onto_a_gaussian():
    """The limit in closed form: x = mean + sd noise, point by point, with an error that shrinks like 1 / steps."""
    mean, sd = torch.tensor([0.5, -2.0, 0.0]).double(), torch.tensor([0.3, 1.0, 2.0]).double()
    noise = torch.randn(64, 3, generator=torch.Generator().manual_seed(1)).double()
    errors = [float((ddim(gaussian_velocity(mean, sd), noise, steps) - (mean + sd * noise)).abs().max()) for steps in (1000, 4000)]
    assert errors[1] < 3e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_one_step_is_the_mean_and_a_perfect_velocity_is_undone_in_any_number():
    mean = torch.tensor([0.5, -2.0])
    assert torch.allclose(ddim(gaussian_velocity(mean, 1.0), torch.randn(3, 2), 1), mean.expand(3, 2), atol=1e-6)
    clean, noise = torch.randn(2, 6, 3).double(), torch.randn(2, 6, 3).double()
    angle = torch.tensor([0.3, 1.2]).double()
    noisy, velocity = add_noise(clean, noise, angle)
    a, s = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    assert torch.allclose(a * noisy - s * velocity, clean)
    assert torch.allclose(s * noisy + a * velocity, noise)
    for steps in (1, 3):
        known = ddim(lambda x, angle: math.cos(angle) * noise - math.sin(angle) * clean, noise, steps)
        assert torch.allclose(known, clean)
    with pytest.raises(ValueError, match="steps"):
        ddim(lambda x, angle: x, noise, 0)


def test_the_sampler_is_that_of_a_library():
    pytest.importorskip("diffusers", reason="diffusers is not installed: the comparison with its scheduler is left out")
    mean, sd = torch.tensor([0.5, -2.0, 0.0]), torch.tensor([0.3, 1.0, 2.0])
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 3, 5, 10, 20, 50):
        velocity = gaussian_velocity(mean, sd)
        assert torch.allclose(ddim(velocity, noise, steps), diffusers_ddim(velocity, noise, steps), atol=1e-4), steps
    flow, denoiser = make_pair()
    own, library = (next(diffuse(denoiser, flow, [ask(20, 1)], steps=5, sampler=sampler)) for sampler in (ddim, diffusers_ddim))
    assert torch.allclose(own, library, atol=1e-3)


def make_pair():
    """A flow and a denoiser with random weights, in which every condition matters."""
    torch.manual_seed(0)
    flow, denoiser = MotionFlow(FLOW).double(), Denoiser(SHAPE).double()
    for parameter in [*flow.parameters(), *denoiser.parameters()]:
        parameter.data += 0.1 * torch.randn_like(parameter)
    flow.low.fill_(-3.0)
    flow.high.fill_(3.0)
    return flow.eval(), denoiser.eval()


def ask(frames, seed, emotion=3):
    generator = torch.Generator().manual_seed(seed)
    windows = torch.rand(frames, 16, 80, generator=generator) * 8 - 4
    return MotionRequest(windows, torch.rand(5, generator=generator), torch.zeros(6), emotion, 0.7, seed)


def test_batch_changes_nothing_and_clips_may_have_any_length():
    flow, denoiser = make_pair()
    requests = [ask(20, 1), ask(3, 2), ask(16, 3, emotion=-1)]
    alone = list(diffuse(denoiser, flow, requests, steps=3, batch=1))
    together = list(diffuse(denoiser, flow, requests, steps=3))
    turned = list(diffuse(denoiser, flow, requests[::-1], steps=3, batch=2))[::-1]
    assert [tuple(made.shape) for made in together] == [(20, 5), (3, 5), (16, 5)]
    for one, three, two in zip(alone, together, turned, strict=True):
        assert one.dtype == torch.float32
        assert torch.allclose(one, three, atol=1e-6)
        assert torch.allclose(one, two, atol=1e-6)


def test_seeds_reproduce_and_every_condition_is_heard():
    flow, denoiser = make_pair()
    request = ask(20, 1)
    first, again = (next(diffuse(denoiser, flow, [request], steps=3)) for _ in range(2))
    assert torch.equal(first, again)
    others = {
        "seed": dataclasses.replace(request, seed=2),
        "emotion": dataclasses.replace(request, emotion=5),
        "source": dataclasses.replace(request, beta0=request.beta0 + 0.5),
        "sound": dataclasses.replace(request, windows=-request.windows),
    }
    for name, other in others.items():
        assert not torch.allclose(first, next(diffuse(denoiser, flow, [other], steps=3)), atol=1e-3), name
    cold = [next(diffuse(denoiser, flow, [r], steps=3, temperature=0.0)) for r in (request, others["seed"])]
    assert torch.equal(cold[0], cold[1])


def test_a_window_goes_on_from_the_one_before_and_knows_when_there_is_none():
    _, denoiser = make_pair()
    noisy, past = torch.randn(2, 8, 5).double(), torch.randn(2, 4, 5).double()
    conditions = denoiser.conditions(torch.randn(2, 8, 16).double(), torch.randn(2, 8, 20).double(), past[:, 0], torch.eye(8)[:2].double())
    angle, yes, no = torch.full((2,), 0.7).double(), torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)
    shown, other = (denoiser(noisy, angle, value, yes, conditions) for value in (past, past + 1))
    assert not torch.allclose(shown, other, atol=1e-3)
    hidden, other = (denoiser(noisy, angle, value, no, conditions) for value in (past, past + 1))
    assert torch.equal(hidden, other)
    assert not torch.allclose(shown, hidden, atol=1e-3)


def test_motion_stays_within_the_flows_bounds_for_long():
    flow, denoiser = make_pair()
    for parameter in denoiser.parameters():
        parameter.data *= 3
    made = next(diffuse(denoiser, flow, [ask(300, 1)], steps=2))
    assert torch.isfinite(made).all()
    assert made.abs().max() <= 3


def test_intensities_above_one_widen_the_emotions_part_of_the_plan():
    flow, denoiser = make_pair()
    full, more, neutral = (dataclasses.replace(ask(8, 1, emotion), intensity=i) for emotion, i in ((3, 1.0), (3, 1.5), (0, 1.0)))
    parts = []
    for request in (full, more, neutral):
        flow.low.fill_(-100.0)
        flow.high.fill_(100.0)
        parts.append(next(diffuse(denoiser, flow, [request], steps=2)))
    assert not torch.allclose(parts[0], parts[1], atol=1e-4)
    calm = next(diffuse(denoiser, flow, [dataclasses.replace(ask(8, 1, 0), intensity=1.5)], steps=2))
    assert torch.allclose(parts[2], calm, atol=1e-6)


def test_a_saved_denoiser_is_the_same(tmp_path):
    flow, denoiser = make_pair()
    flow, denoiser = flow.float(), denoiser.float()
    torch.save(diffusion_state(denoiser), tmp_path / "denoiser.pt")
    loaded = load_diffusion(torch.load(tmp_path / "denoiser.pt", weights_only=True))
    assert loaded.config == SHAPE
    assert torch.equal(*(next(diffuse(net, flow, [ask(9, 1)], steps=2)) for net in (denoiser, loaded)))
    with pytest.raises(RuntimeError, match="format"):
        load_diffusion({"format": "flowvqtalker motion 1"})


@pytest.mark.parametrize("features", [40, 51, 53])
def test_the_budget_is_that_of_the_default_flow(features):
    """Within 10 %, with the shared conditioners and without them."""
    cfg = validate_section("flow", yaml.safe_load(Path("params.yaml").read_text())["flow"])
    config = flow_config(cfg, "expression", 53, 0)
    flow = MotionFlow(dataclasses.replace(config, stack=dataclasses.replace(config.stack, features=features), long_dims=(0, 1)))
    denoiser = Denoiser(config_for(flow, 0.1))
    shared = parameters(flow.conditioners)
    assert parameters(denoiser) + shared == pytest.approx(parameters(flow), rel=0.1)
    assert parameters(denoiser) == pytest.approx(parameters(flow) - shared, rel=0.1)


def make_clip(number, identity, frames=20):
    rng = torch.Generator().manual_seed(number)
    beta = torch.rand(frames, 53, generator=rng).cumsum(0) / frames
    mel = torch.rand(70, 80, generator=rng) * 8 - 4
    start = 80 * (torch.arange(frames) - 2) // 25
    return MotionClip(f"c{number}", identity, mel, start, beta, torch.zeros(frames, 6), beta[0], torch.zeros(6), number % 3, 1.0)


CLIPS = [make_clip(i, f"id{i % 4}") for i in range(8)]


@pytest.fixture(scope="module")
def fitted():
    """A flow whose conditioners are trained, and the plans that its own training had."""
    config = dataclasses.replace(FLOW, coefficients=53, conditioners=2, long_dims=(), stack=dataclasses.replace(STACK, features=53))
    flow = make_flow(config, CLIPS, 1e-3)
    plans = fit_conditioners(flow, CLIPS, SETTINGS, LoopConfig(3, 1e-3, 1, 0.1, 1.0, 0.9, 2, 2, "loss"), 1, lambda name: {})
    fit_residual_scale(flow, CLIPS, plans)
    return flow.eval(), plans


def test_plans_are_those_that_the_flow_was_trained_around(fitted):
    flow, plans = fitted
    again = cross_fitted_plans(flow, CLIPS)
    for one, other, mean in zip(plans, again, plans_of(flow, CLIPS), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
        assert not torch.allclose(one, mean, atol=1e-3)


def task_of(flow, **changes):
    torch.manual_seed(0)
    net = Denoiser(dataclasses.replace(SHAPE, features=53))
    data = MotionData(flow, CLIPS, cross_fitted_plans(flow, CLIPS))
    return DiffusionTask(net, data, data, dataclasses.replace(SETTINGS, **changes), 0.5, 1e-3)


def test_draws_belong_to_the_step_and_a_past_is_whole_or_not_shown(fitted):
    task = task_of(fitted[0], batch=64)
    first, again, other = (task.draw(0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.noise, again.noise) and torch.equal(first.past, again.past) and torch.equal(first.angle, again.angle)
    assert not torch.equal(first.noise, other.noise)
    assert 0 < int(first.present.sum()) < 64
    clean = task_of(fitted[0], batch=64, history_noise=0.0).draw(0, torch.Generator().manual_seed(1))
    lead = fitted[0].lead
    assert torch.equal(clean.past, clean.window.past[:, lead - 4 : lead])
    assert clean.past[clean.present].abs().sum(2).min() > 0  # no lead-in zeros where a past is shown
    levels = spread_levels(8, torch.Generator().manual_seed(0))
    assert sorted((levels / (math.pi / 16)).long().tolist()) == list(range(8))


def test_training_learns_reproduces_and_leaves_the_flow_alone(fitted):
    flow = fitted[0]
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    loop = LoopConfig(60, 5e-3, 4, 0.1, 1.0, 0.9, 60, 60, "loss")
    shape = dataclasses.replace(config_for(flow, 0.0), window=8, history=4, width=64, dilations=(1, 2))
    data = MotionData(flow, CLIPS[:2], plans_of(flow, CLIPS[:2]))
    nothing = DiffusionTask(Denoiser(shape), data, data, SETTINGS, 0.2, 1e-3).validate(0)["loss"]  # untrained, the velocity is zero
    one, two = (fit_diffusion(shape, flow, CLIPS, CLIPS[:2], SETTINGS, absent_share=0.2, loop=loop, seed=3) for _ in range(2))
    for name, value in one.denoiser.state_dict().items():
        assert torch.equal(value, two.denoiser.state_dict()[name]), name
    assert one.metrics["held_out_squared_error"] < 0.8 * nothing
    assert all(torch.equal(value, flow.state_dict()[name]) for name, value in before.items())
    assert torch.equal(one.denoiser.audio.cepstra_mean, flow.audio.cepstra_mean)
    assert not any(p.requires_grad for p in one.denoiser.parameters())


def test_numbers_of_samples_are_those_of_the_flows_diagnostics(fitted):
    flow, clips = fitted[0], CLIPS[:3]
    requests = [[request_of(clip, derive_seed(7, clip.name, number) % 2**31) for clip in clips] for number in range(2)]
    numbers = motion_numbers([[m.numpy() for m in rollout(flow, one)] for one in requests], clips, flow)
    known = rollout_metrics(flow, clips, 7)
    assert set(numbers) <= set(known)
    for name, value in numbers.items():
        assert value == pytest.approx(known[name], rel=1e-5), name
