"""Our flow steps against zuko's with the same weights: same latents, log-determinants, inverses and densities."""

import math

import pytest
import torch

from flowvqtalker.flow.conditioner import emotion_weights
from flowvqtalker.flow.stack import FlowStack, StackConfig

zuko = pytest.importorskip("zuko", reason="zuko is not installed: the comparison with a flow library is left out")

D, E = 9, 4
CONFIG = StackConfig(D, E, 3, 16, 4, "transformer", 1, 0.8, "multi", "gmm", 50.0, 4.0)


@pytest.fixture(autouse=True)
def _double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def affine(shift, log_scale):
    """zuko's f(v) = exp(a) v + b over whole vectors, with its soft clip of a undone."""
    a = log_scale / (1 - log_scale.abs() / abs(math.log(1e-3)))
    return zuko.transforms.DependentTransform(zuko.transforms.MonotonicAffineTransform(shift, a), 1)


def actnorm(norm, weights):
    log_scale, bias = norm._rows(weights)
    return affine(bias * log_scale.exp(), log_scale)


def linear(layer):
    """P L (U + diag(d)) as zuko's L' U' with a unit upper U' = U / d and L' = L d, then the permutation."""
    lower, upper = layer._factors()
    diagonal = upper.diagonal()
    packed = (lower * diagonal).tril() + (upper / diagonal.unsqueeze(1)).triu(1)
    order = layer.permutation.argmax(1)
    return zuko.transforms.ComposedTransform(zuko.transforms.LULinearTransform(packed), zuko.transforms.PermutationTransform(order))


def coupling(layer, condition):
    def meta(kept):
        shift, log_scale, _ = layer._shift_and_log_scale(kept, condition, None)
        return affine(shift * log_scale.exp(), log_scale)

    return zuko.transforms.CouplingTransform(meta, torch.arange(D) < layer.kept)


@pytest.fixture
def case():
    torch.manual_seed(0)
    stack = FlowStack(CONFIG, 1)
    for parameter in stack.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    weights = emotion_weights(torch.randint(E, (3,)), torch.rand(3), E).unsqueeze(1)
    return stack, torch.randn(3, 5, D), torch.randn(3, 5, 4, CONFIG.width), weights


def test_each_step_is_the_librarys(case):
    stack, x, tokens, weights = case
    for step, condition in zip(stack.steps, stack.bank(tokens), strict=True):
        for ours, theirs in (
            (step.actnorm(x, weights), actnorm(step.actnorm, weights)),
            (step.linear(x), linear(step.linear)),
            (step.coupling(x, condition)[:2], coupling(step.coupling, condition)),
        ):
            y, log_det = theirs.call_and_ladj(x)
            assert (ours[0] - y).abs().max() < 1e-12
            assert (ours[1] - log_det).abs().max() < 1e-12
        inverse = step.linear.inverse(x)
        assert (inverse - linear(step.linear).inv(x)).abs().max() < 1e-12
        x = step.linear(x)[0]


def test_the_whole_stack_is_the_librarys_flow(case):
    stack, x, tokens, weights = case
    parts = []
    for step, condition in zip(stack.steps, stack.bank(tokens), strict=True):
        parts += [actnorm(step.actnorm, weights), linear(step.linear), coupling(step.coupling, condition)]
    transform = zuko.transforms.ComposedTransform(*parts)
    z, log_det = stack(x, tokens, weights)
    y, other = transform.call_and_ladj(x)
    assert (z - y).abs().max() < 1e-12 and (log_det - other).abs().max() < 1e-12
    assert (stack.inverse(z, tokens, weights)[0] - transform.inv(z)).abs().max() < 1e-10
    mean = stack.prior.mean(weights)
    base = zuko.distributions.DiagNormal(mean, torch.ones_like(mean))
    density = zuko.distributions.NormalizingFlow(transform, base).log_prob(x)
    assert (stack.log_prob(x, tokens, weights) - density).abs().max() < 1e-10
