"""Rollouts: the same numbers whatever batch and chunk, bounded, reproducible, free of target frames."""

import dataclasses

import pytest
import torch

from flowvqtalker.flow import sampling
from flowvqtalker.flow.motionflow import PLAN_OFFSETS, FlowConfig, MotionFlow
from flowvqtalker.flow.sampling import MotionRequest, rollout
from flowvqtalker.flow.stack import StackConfig

STACK = StackConfig(5, 8, 3, 16, 4, "transformer", 1, 0.8, "multi", "smm", 50.0, 5.0)
CONFIG = FlowConfig("expression", "flow", 5, STACK, 4, 2, 8, 4, (0, 1), 16, 16, 0.0, 2, 1, 0.0, 0, True, 0.3, 6.0, 3)


def make(**changes):
    torch.manual_seed(0)
    stack = dataclasses.replace(STACK, **changes.pop("stack", {}))
    flow = MotionFlow(dataclasses.replace(CONFIG, stack=stack, **changes)).double()
    for parameter in flow.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    flow.low.fill_(-2.0)
    flow.high.fill_(2.0)
    return flow.eval()


def ask(frames, seed, emotion=3, pose=False):
    generator = torch.Generator().manual_seed(seed)
    windows = torch.rand(frames, 16, 80, generator=generator) * 8 - 4
    return MotionRequest(windows, torch.rand(5, generator=generator), torch.zeros(6), emotion, 0.7, seed)


MIXTURE = {"mixture_dims": (1, 3), "mixture": 2}


@pytest.mark.parametrize(
    "changes", [{}, {"stack": MIXTURE}, {"model": "regression"}, {"stack": {"coupling": "lstm"}}, {"order": 2, "conditioners": 0}]
)
def test_batch_and_chunk_change_nothing(changes):
    flow = make(**changes)
    requests = [ask(12, 1), ask(7, 2), ask(12, 3)]
    alone = list(rollout(flow, requests, batch=1))
    together = list(rollout(flow, requests, batch=3))
    chunked = list(rollout(flow, requests, batch=2, chunk=5))
    assert [len(row) for row in together] == [12, 7, 12]
    for one, three, pieces in zip(alone, together, chunked, strict=True):
        assert torch.allclose(one, three, atol=1e-6)
        assert torch.allclose(one, pieces, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"stack": MIXTURE}, {"model": "regression"}])
def test_a_traced_step_makes_the_same_frames_and_is_used_again(changes, monkeypatch):
    flow, requests = make(**changes), [ask(30, 1), ask(30, 2)]
    plain = list(rollout(flow, requests))
    monkeypatch.setattr(sampling, "WORTH_TRACING", 7)
    traced = []
    monkeypatch.setattr(torch.jit, "trace", lambda *args, real=torch.jit.trace, **options: traced.append(1) or real(*args, **options))
    for made in (rollout(flow, requests), rollout(flow, [ask(5, 1), ask(30, 2)]), rollout(flow, requests, chunk=4)):
        made = list(made)
        for one, other in zip(plain, made, strict=True):
            assert torch.allclose(one[: len(other)], other, atol=1e-6) or len(other) == 5
    assert traced == [1]
    list(rollout(flow, [ask(5, 1)]))
    assert traced == [1], "five frames of one row are not worth it"
    list(rollout(flow, [ask(3, 1)]))
    assert traced == [1, 1], "together with three more they are"


def test_a_step_is_traced_anew_when_weights_change(monkeypatch):
    monkeypatch.setattr(sampling, "WORTH_TRACING", 3)
    flow = make()
    before = next(rollout(flow, [ask(9, 1)]))
    with torch.no_grad():
        for parameter in flow.core.parameters():
            parameter.add_(0.1)
    after = next(rollout(flow, [ask(9, 1)]))
    assert not torch.allclose(before, after)
    monkeypatch.setattr(sampling, "WORTH_TRACING", 1000)
    fresh = MotionFlow(flow.config).double().eval()
    fresh.load_state_dict(flow.state_dict())
    assert torch.allclose(after, next(rollout(fresh, [ask(9, 1)])), atol=1e-6)


def test_recurrent_couplings_and_training_are_not_traced(monkeypatch):
    monkeypatch.setattr(sampling, "WORTH_TRACING", 3)
    monkeypatch.setattr(torch.jit, "trace", None)
    assert len(next(rollout(make(stack={"coupling": "lstm"}), [ask(8, 1)]))) == 8
    assert len(next(rollout(make().train(), [ask(8, 1)]))) == 8


def test_temperature_is_no_matter_of_the_lids():
    flow = make(stack=MIXTURE)
    weights = torch.zeros(1, 1, 8, dtype=torch.float64)
    normal, chi_square = torch.ones(1, 1, 5, dtype=torch.float64), torch.full((1, 1), 50.0, dtype=torch.float64)
    cold = flow.core.prior.latent(normal, chi_square, weights, 0.5)[0, 0]
    assert cold.tolist() == [0.5, 1.0, 0.5, 1.0, 0.5]


def test_a_longer_clip_starts_like_a_shorter_one():
    flow, long = make(), ask(40, 5)
    short = dataclasses.replace(long, windows=long.windows[:24])
    first, second = next(rollout(flow, [long])), next(rollout(flow, [short]))
    # Audio context and plan look ahead, so only frames whose outlook lies within both clips can agree.
    agree = 24 - flow.context - max(PLAN_OFFSETS)
    assert agree > 8
    assert torch.allclose(first[:agree], second[:agree])
    assert not torch.allclose(first[:24], second)


def test_seeds_temperature_and_emotion_matter_and_repeat():
    flow = make()
    first, again, other = (next(rollout(flow, [r])) for r in (ask(10, 1), ask(10, 1), dataclasses.replace(ask(10, 1), seed=2)))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    cold = [next(rollout(flow, [dataclasses.replace(ask(10, 1), seed=s)], temperature=0.0)) for s in (1, 2)]
    assert torch.equal(cold[0], cold[1])
    sad = next(rollout(flow, [dataclasses.replace(ask(10, 1), emotion=6)]))
    assert not torch.allclose(first, sad)


@pytest.mark.parametrize("model", ["flow", "regression"])
def test_guidance_adds_the_emotions_part_of_the_plan_and_nothing_else(model):
    flow, request = make(model=model), ask(10, 1)
    flow.low.fill_(-100.0)
    flow.high.fill_(100.0)
    plain, guided = (next(rollout(flow, [request], guidance=guidance)).double() for guidance in (1.0, 1.8))
    assert torch.equal(plain.float(), next(rollout(flow, [request])))
    silence = request.windows.new_full((flow.context, 16, 80), -4.0)
    windows, x0 = (
        torch.cat([silence, request.windows, silence]).double().unsqueeze(0),
        flow.standardise(request.beta0.double()).unsqueeze(0),
    )
    weights = torch.zeros(2, 8).double()
    weights[0, 0] = weights[1, 0] = 1
    weights[1, 0], weights[1, 3] = 0.3, 0.7
    part = flow.plan(windows, x0, weights[1:]) - flow.plan(windows, x0, weights[:1])
    assert part.abs().max() > 1e-3
    assert torch.allclose(guided - plain, 0.8 * part[0] * flow.sd, atol=1e-6)


def test_neutral_knows_no_guidance_and_intensities_above_one_are_guidance():
    flow, request = make(), ask(10, 1)
    calm = dataclasses.replace(request, emotion=0, intensity=0.0)
    assert torch.equal(*(next(rollout(flow, [calm], guidance=guidance)) for guidance in (1.0, 1.8)))
    full, more = (dataclasses.replace(request, intensity=intensity) for intensity in (1.0, 1.5))
    assert torch.equal(next(rollout(flow, [full], guidance=1.5)), next(rollout(flow, [more])))
    with pytest.raises(ValueError, match="intensity"):
        dataclasses.replace(request, intensity=1.6)


def test_regression_is_deterministic():
    flow = make(model="regression")
    first, other = (next(rollout(flow, [dataclasses.replace(ask(10, 1), seed=s)])) for s in (1, 2))
    assert torch.equal(first, other)


def test_correlated_noise_is_smoother_with_the_same_spread():
    flow = make(stack={"prior": "gaussian"})
    flow.clamp = 100.0
    flow.low.fill_(-100)
    flow.high.fill_(100)
    rough, smooth = (torch.stack(list(rollout(flow, [ask(400, 1)], latent_rho=rho)))[0] for rho in (0.0, 0.8))
    assert smooth.diff(dim=0).abs().mean() < 0.8 * rough.diff(dim=0).abs().mean()


def test_an_unknown_emotion_is_drawn_from_the_mixture():
    flow = make()
    rows = list(rollout(flow, [dataclasses.replace(ask(4, 1), emotion=-1, seed=s) for s in range(12)], temperature=0.0))
    assert len({tuple(row[0].tolist()) for row in rows}) > 2


def test_rollouts_stay_within_bounds_and_finite_for_long():
    flow = make()
    for parameter in flow.core.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    made = next(rollout(flow, [ask(600, 1)]))
    assert torch.isfinite(made).all()
    assert made.abs().max() <= 2


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="windows"):
        MotionRequest(torch.zeros(3, 80, 16), torch.zeros(5), torch.zeros(6), 0, 0.0, 1)
    with pytest.raises(ValueError, match="NaN"):
        MotionRequest(torch.full((3, 16, 80), float("nan")), torch.zeros(5), torch.zeros(6), 0, 0.0, 1)
    with pytest.raises(ValueError, match="no frame"):
        MotionRequest(torch.zeros(0, 16, 80), torch.zeros(5), torch.zeros(6), 0, 0.0, 1)
