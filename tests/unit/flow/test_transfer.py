"""Emotion transfer: likelihood against the definition, exact replay, and a flow that knows emotions apart."""

import dataclasses

import pytest
import torch
from tiny_flow import make, windows

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.flow.control import one_emotion
from flowvqtalker.flow.sampling import MotionRequest, rollout
from flowvqtalker.flow.streaming import StreamRow, stream
from flowvqtalker.flow.transfer import HYPOTHESES, Reading, Reference, latents_of, likelihoods, read_emotion

SOURCE = torch.tensor([0.1, 0.2, 0.0, -0.1, 0.3])


def speak(flow, emotion="sad", intensity=1.0, seed=3, frames=40):
    heard = windows(frames, seed)
    asked = MotionRequest(heard, SOURCE, torch.zeros(6), EMOTIONS.index(emotion), intensity, seed)
    return Reference(heard, next(rollout(flow, [asked])), SOURCE)


def wide(**changes):
    flow = make(bound=1e6, **changes)
    flow.clamp = 1e6
    return flow


@pytest.mark.parametrize("changes", [{}, {"stack": {"coupling": "lstm"}}, {"conditioners": 0, "order": 2}])
def test_latents_played_back_under_their_own_conditions_give_the_reference(changes):
    flow = wide(**changes)
    flow.gain.fill_(0.7)  # a calibrated rollout; measured latents must not be scaled by it
    reference = speak(flow, "sad", 2 / 3)
    reference = dataclasses.replace(reference, beta=reference.beta + 0.1 * torch.randn(reference.beta.shape))
    latents = latents_of(flow, reference, "sad", 2 / 3)
    asked = StreamRow(SOURCE, one_emotion("sad", 2 / 3), 99, latents)
    made = torch.cat(list(stream(flow, asked, [reference.windows[:9], reference.windows[9:]])))
    torch.testing.assert_close(made, reference.beta, atol=1e-5, rtol=0)


def test_behind_the_reference_the_draws_are_those_of_the_seed():
    flow = wide()
    flow.core.prior.means.zero_()
    noise = torch.full((10, 5), 0.3).double()
    heard = windows(30, 1)
    given = StreamRow(SOURCE, one_emotion("sad"), 5, noise)
    with_latents, fresh = (torch.cat(list(stream(flow, asked, [heard]))) for asked in (given, dataclasses.replace(given, latents=None)))
    other = torch.cat(list(stream(flow, dataclasses.replace(given, seed=6), [heard])))
    assert torch.equal(with_latents[:10], other[:10]) and not torch.allclose(with_latents[:10], fresh[:10])
    assert not torch.allclose(with_latents[10:], other[10:])
    # The same draws from there on: what the beginning left behind fades away.
    assert (with_latents[26:] - fresh[26:]).abs().mean() < 0.2 * (other[26:] - fresh[26:]).abs().mean()


def test_the_likelihood_is_that_of_the_coefficients_under_the_emotions_own_plan():
    """Against brute force: the change of variables from standardised coefficients, frame by frame, with the full Jacobian."""
    flow = make()
    reference = speak(flow, frames=6)
    guess = ("fear", 1 / 3)

    def latent(x_frame, frame):
        beta = reference.beta.double().clone()
        beta[frame] = x_frame * flow.sd + flow.mean
        centred = latents_of(flow, dataclasses.replace(reference, beta=beta), *guess)[frame]
        return centred

    x = flow.standardise(reference.beta.double())
    total = 0.0
    for frame in range(6):
        step, jacobian = 1e-6, torch.zeros(5, 5).double()
        for d in range(5):
            move = torch.zeros(5).double()
            move[d] = step
            jacobian[:, d] = (latent(x[frame] + move, frame) - latent(x[frame] - move, frame)) / (2 * step)
        weights = one_emotion(*guess).at(0, 1)[0].double()
        z = latent(x[frame], frame) + flow.core.prior.mean(weights)[0]
        total += float(flow.core.prior.log_prob(z.view(1, 1, -1), weights.unsqueeze(1))) + float(torch.linalg.slogdet(jacobian)[1])
    constant = 6 * flow.log_scale()
    assert float(likelihoods(flow, reference, [guess])) - constant == pytest.approx(total, abs=1e-4)


def test_a_flow_whose_emotions_lie_apart_names_its_own_samples():
    flow = wide()
    with torch.no_grad():
        for step in flow.core.steps:
            step.actnorm.bias += 0.5 * torch.randn_like(step.actnorm.bias)
    hits = 0
    for seed, emotion in enumerate(EMOTIONS):
        reading = read_emotion(flow, speak(flow, emotion, 0.0 if emotion == "neutral" else 1.0, seed))
        hits += reading.emotion == emotion
        assert reading.posterior.sum().item() == pytest.approx(1) and reading.log_likelihood.argmax() == EMOTIONS.index(reading.emotion)
        assert reading.latents.shape == (40, 5)
    assert hits >= 7


def test_levels_are_averaged_and_the_label_is_never_asked_for():
    flow = make()
    reference = speak(flow, "happy")
    each, reading = likelihoods(flow, reference), read_emotion(flow, reference)
    angry = [i for i, (emotion, _) in enumerate(HYPOTHESES) if emotion == "angry"]
    assert len(HYPOTHESES) == 22 and len(angry) == 3
    want = torch.logsumexp(each[angry], 0) - torch.log(torch.tensor(3.0))
    torch.testing.assert_close(reading.log_likelihood[EMOTIONS.index("angry")], want)
    assert {field.name for field in dataclasses.fields(Reference)} == {"windows", "beta", "beta0"}
    assert Reading("sad", 1.0, want, want).track == one_emotion("sad", 1.0)


def test_what_cannot_be_read_is_refused():
    with pytest.raises(TypeError, match="ExpFlow"):
        read_emotion(make(model="regression"), Reference(windows(3, 1), torch.zeros(3, 5), SOURCE))
    with pytest.raises(ValueError, match="windows"):
        Reference(windows(3, 1), torch.zeros(4, 5), SOURCE)
    with pytest.raises(ValueError, match="beta"):
        Reference(windows(3, 1), torch.zeros(3, 4), SOURCE)
    with pytest.raises(ValueError, match="NaN"):
        Reference(windows(3, 1), torch.full((3, 5), float("nan")), SOURCE)
