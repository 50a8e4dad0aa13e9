"""The exactness checks of docs/flow_exact.md on small and on full-size flows: they pass where the maths is right, and see where it is not."""

import dataclasses

import pytest
import torch

from flowvqtalker.flow import exactness, motionflow
from flowvqtalker.flow.chain import conditions_of, from_latents, residuals, target_x, to_latents
from flowvqtalker.flow.exactness import (
    PRIORS,
    actnorm_start,
    in_format,
    log_determinant,
    mixture_error,
    prior_error,
    randomised,
    round_trip,
)
from flowvqtalker.flow.motionflow import FlowConfig, MotionFlow
from flowvqtalker.flow.stack import StackConfig
from flowvqtalker.flow.transforms import InvertibleLinear
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.train.flow import FlowTraining, fit_motion
from flowvqtalker.train.loop import LoopConfig

STACK = StackConfig(53, 8, 2, 16, 4, "transformer", 1, 0.8, "multi", "smm", 50.0, 5.0)
CONFIG = FlowConfig("expression", "flow", 53, STACK, 4, 2, 8, 4, (), 16, 16, 0.0, 2, 1, 0.0, 1, True, 0.0, 6.0, 3)
POSE = dataclasses.replace(
    CONFIG, kind="pose", coefficients=6, conditioners=0, order=2, long_frames=0,
    stack=dataclasses.replace(STACK, features=6, actnorm="shared", prior="gaussian"),
)  # fmt: skip
SETTINGS = FlowTraining(4, 8, 4, 0.5, 0.5, 0.2, 1e-3, 0.01, 0.01, 4.0, 0.3, 1, 0.05, 1e-3, 0)
LOOP = LoopConfig(12, 3e-3, 1, 0.1, 1.0, 0.5, 6, 6, "loss")
#: As in params.yaml: K 6, D 53, width 64, lids apart.
FULL = dataclasses.replace(
    CONFIG, stack=dataclasses.replace(STACK, steps=6, width=64, mixture_dims=(9, 10), mixture=3), tau=10, frames_per_token=5, long_frames=48, long_stride=8, long_dims=(9, 10),
    audio_width=48, conditioner_width=96, conditioners=3,
)  # fmt: skip


def make_clip(number, frames=24, emotion=None):
    rng = torch.Generator().manual_seed(number)
    beta = torch.rand(frames, 53, generator=rng).cumsum(0) / frames
    pose = torch.randn(frames, 6, generator=rng).cumsum(0) * 0.01
    mel = torch.rand(80, 80, generator=rng) * 8 - 4
    start = 80 * (torch.arange(frames) - 2) // 25
    emotion = number % 3 if emotion is None else emotion
    return MotionClip(f"c{number}", f"id{number % 4}", mel, start, beta, pose, beta[0], pose[0], emotion, 1.0 if emotion else 0.0)


CLIPS = [make_clip(i) for i in range(8)]


def fit(config):
    return fit_motion(config, CLIPS, CLIPS[:2], SETTINGS, conditioner_loop=LOOP, flow_loop=LOOP, seed=1, hooks=lambda _: {}).flow


@pytest.fixture(scope="module")
def trained():
    return {"expression": fit(CONFIG), "pose": fit(POSE)}


@pytest.fixture(scope="module")
def full():
    """Full size, every learned number random; standardised by what the clips hold, as a training would."""
    torch.manual_seed(0)
    flow = MotionFlow(FULL).eval().requires_grad_(False)
    frames = torch.cat([clip.beta for clip in CLIPS])
    flow.mean.copy_(frames.mean(0))
    flow.sd.copy_(frames.std(0))
    return randomised(flow, 0.1, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["expression", "pose"])
@pytest.mark.parametrize("size", [0.0, 0.1])
def test_trained_flows_invert_and_know_their_jacobians(trained, kind, size):
    flow = randomised(trained[kind], size, torch.Generator().manual_seed(2))
    double = in_format(flow, torch.float64)
    trip = round_trip(double, CLIPS[:3])
    assert trip.given_past <= 1e-10 and trip.frames == 72
    assert round_trip(in_format(flow, torch.float32), CLIPS[:3]).given_past <= 1e-4
    det = log_determinant(double, CLIPS[:1], 5, 2)
    assert det.frame_error <= 1e-8 and det.window_error <= 1e-8
    assert det.acausal == 0


@pytest.mark.parametrize("kind", ["expression", "pose"])
def test_trained_flows_come_back_from_their_own_frames(trained, kind):
    assert round_trip(in_format(trained[kind], torch.float64), CLIPS[:2]).own_past <= 1e-10
    assert round_trip(trained[kind], CLIPS[:2]).own_past <= 1e-4


def test_a_flow_of_full_size_inverts_and_knows_its_jacobian(full):
    assert (full.config.stack.steps, full.config.stack.features) == (6, 53)
    double = in_format(full, torch.float64)
    assert round_trip(double, CLIPS[:2]).given_past <= 1e-10
    assert round_trip(full, CLIPS[:2]).given_past <= 1e-4
    det = log_determinant(double, CLIPS[:1], 9, 2)
    assert det.frame_error <= 1e-8 and det.window_error <= 1e-8 and det.acausal == 0
    assert det.condition >= 1


def test_lstm_couplings_carry_their_state_through_the_inverse():
    stack = dataclasses.replace(STACK, coupling="lstm")
    torch.manual_seed(0)
    flow = randomised(
        MotionFlow(dataclasses.replace(CONFIG, stack=stack, long_dims=(9, 10))).eval().requires_grad_(False),
        0.2,
        torch.Generator().manual_seed(0),
    )
    trip = round_trip(in_format(flow, torch.float64), CLIPS[:1])
    assert trip.given_past <= 1e-10 and trip.own_past <= 1e-6


@pytest.mark.parametrize(("kind", "nu"), PRIORS)
@pytest.mark.parametrize("features", [6, 53])
def test_priors_are_scipys(kind, nu, features):
    assert {nu for kind, nu in PRIORS if kind == "smm"} >= {2.0, 5.0, 50.0}
    assert prior_error(kind, nu, features, 8, 5.0, torch.Generator().manual_seed(0)) <= 1e-9


@pytest.mark.parametrize("prior", ["smm", "gmm", "gaussian"])
@pytest.mark.parametrize("nu", [2.0, 5.0])
def test_unlabelled_windows_are_the_mixture_term_by_term(prior, nu):
    stack = dataclasses.replace(STACK, prior=prior, nu=nu)
    torch.manual_seed(0)
    flow = MotionFlow(dataclasses.replace(CONFIG, stack=stack, long_dims=(9, 10))).eval().requires_grad_(False)
    flow = in_format(randomised(flow, 0.2, torch.Generator().manual_seed(3)), torch.float64)
    assert mixture_error(flow, CLIPS[1], 2) <= 1e-8


def test_actnorms_start_with_zero_mean_and_unit_variance_per_emotion(trained, full):
    for flow, emotions in ((trained["expression"], 3), (full, 3), (trained["pose"], 1)):
        start = actnorm_start(in_format(flow, torch.float64), [*CLIPS, make_clip(99, emotion=-1)])
        assert (start.emotions, start.frames) == (emotions, 8 * 24)
        assert start.mean_error <= 1e-6 and start.variance_error <= 1e-6


def test_a_wrong_log_determinant_is_seen(trained, monkeypatch):
    forward = InvertibleLinear.forward
    monkeypatch.setattr(InvertibleLinear, "forward", lambda self, x: (forward(self, x)[0], forward(self, x)[1] + 1e-6))
    det = log_determinant(in_format(trained["pose"], torch.float64), CLIPS[:1], 5, 2)
    assert det.frame_error == pytest.approx(2e-6, rel=1e-3)
    assert det.window_error == pytest.approx(4e-6, rel=1e-3)


def test_a_wrong_inverse_is_seen(trained, monkeypatch):
    inverse = InvertibleLinear.inverse_matrix
    monkeypatch.setattr(InvertibleLinear, "inverse_matrix", lambda self: inverse(self) * (1 + 1e-7))
    monkeypatch.setattr(
        InvertibleLinear, "inverse", lambda self, y, matrix=None: y @ (self.inverse_matrix() if matrix is None else matrix).T
    )
    trip = round_trip(in_format(trained["pose"], torch.float64), CLIPS[:1])
    assert trip.given_past > 1e-10 and trip.own_past > 1e-10


def test_a_look_ahead_is_seen(trained, monkeypatch):
    history_of = motionflow.history_of
    monkeypatch.setattr(motionflow, "history_of", lambda padded, lead, tau: history_of(padded.roll(-2, 1), lead, tau))
    flow = in_format(randomised(trained["pose"], 0.3, torch.Generator().manual_seed(0)), torch.float64)
    assert log_determinant(flow, CLIPS[:1], 5, 3).acausal > 1e-6


def test_a_wrong_mixture_is_seen(trained, monkeypatch):
    flow = in_format(randomised(trained["expression"], 0.2, torch.Generator().manual_seed(0)), torch.float64)
    right = mixture_error(flow, CLIPS[1], 2)
    log_prob = exactness.FlowStack.log_prob_unlabelled
    monkeypatch.setattr(exactness.FlowStack, "log_prob_unlabelled", lambda self, x, tokens_of: log_prob(self, x, tokens_of[:-1]))
    assert right <= 1e-8 < mixture_error(flow, CLIPS[1], 2)


def test_a_float64_copy_needs_its_knots_laid_anew(trained):
    flow = trained["expression"]
    cast = in_format(flow, torch.float64)
    assert flow.mean.dtype == torch.float32 and cast.mean.dtype == torch.float64
    assert cast.marginals is not None and flow.marginals is not None
    assert (cast.marginals.knots.diff() - cast.marginals.knots.diff()[0]).abs().max() < 1e-15
    assert (flow.marginals.knots.double().diff() - flow.marginals.knots.double().diff()[0]).abs().max() > 1e-9


def test_the_chain_takes_another_past_and_noise(trained):
    flow = in_format(trained["pose"], torch.float64)
    x, conditions = target_x(flow, CLIPS[0]), conditions_of(flow, CLIPS[0])
    z, log_det = to_latents(flow, x, conditions)
    past = residuals(flow, x, conditions.plan)
    same = to_latents(flow, x, conditions, shown=past, predict_from=past, noise=torch.zeros_like(x))
    assert torch.equal(same[0], z) and torch.equal(same[1], log_det)
    other = past + torch.randn_like(past)
    assert not torch.allclose(to_latents(flow, x, conditions, shown=other)[0], z)
    assert not torch.allclose(to_latents(flow, x, conditions, predict_from=other)[0], z)
    # A window from the middle of a clip, with its true past in front, has the latents of the whole clip.
    part = to_latents(flow, x[:, 7:10], conditions.frames(7, 3), before=past[:, 7 : 7 + flow.lead])
    assert torch.allclose(part[0], z[:, 7:10]) and torch.allclose(part[1], log_det[:, 7:10])
    # Two latents of one clip are inverted together.
    both = from_latents(flow, torch.cat([z, z.flip(1)]), conditions)
    assert torch.allclose(both[:1], x)
