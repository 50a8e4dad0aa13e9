"""Mathematics of the flow: inverses, log-determinants, initialisation, densities, mixtures."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flowvqtalker.flow.conditioner import cosine_basis, emotion_weights
from flowvqtalker.flow.coupling import TransformerCoupling
from flowvqtalker.flow.marginals import MarginalMap
from flowvqtalker.flow.priors import Prior, component_means
from flowvqtalker.flow.stack import FlowStack, StackConfig
from flowvqtalker.flow.transforms import AffineCoupling, InvertibleLinear, MultiActNorm

CONFIG = StackConfig(
    features=7, labels=4, steps=3, width=16, heads=4, coupling="transformer", coupling_layers=1, scale_bound=0.8, actnorm="multi",
    prior="smm", nu=50.0, separation=5.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _double_precision():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def shake(module, size=0.3):
    """Move every parameter away from its start, so that zero-initialised layers take part."""
    for parameter in module.parameters():
        parameter.data += size * torch.randn_like(parameter) / math.sqrt(parameter.shape[-1] if parameter.dim() else 1)
    return module


def replaced(**changes):
    return StackConfig(**(CONFIG.__dict__ | changes))


def inputs(config, batch=3, frames=4, n=5):
    x = torch.randn(batch, frames, config.features)
    tokens = torch.randn(batch, frames, n, config.width)
    weights = emotion_weights(torch.randint(config.labels, (batch,)), torch.rand(batch), config.labels).unsqueeze(1)
    return x, tokens, weights


@pytest.mark.parametrize("coupling", ["transformer", "lstm"])
@pytest.mark.parametrize("actnorm", ["multi", "shared"])
def test_stack_round_trip(coupling, actnorm):
    config = replaced(coupling=coupling, actnorm=actnorm)
    stack = shake(FlowStack(config, 1))
    x, tokens, weights = inputs(config)
    z, _ = stack(x, tokens, weights)
    assert (stack.inverse(z, tokens, weights)[0] - x).abs().max() < 1e-10
    stack = stack.float()
    z, _ = stack(x.float(), tokens.float(), weights.float())
    assert (stack.inverse(z, tokens.float(), weights.float())[0] - x.float()).abs().max() < 1e-4


def test_a_stack_with_lids_apart_is_exact():
    config = replaced(mixture_dims=(2, 5), mixture=3)
    stack = shake(FlowStack(config, 1))
    x, tokens, weights = inputs(config)
    z, log_det = stack(x, tokens, weights)
    assert (stack.inverse(z, tokens, weights)[0] - x).abs().max() < 1e-10
    for row, frame in ((0, 0), (2, 3)):
        one = (tokens[row : row + 1, frame : frame + 1], weights[row : row + 1])
        jacobian = torch.autograd.functional.jacobian(lambda v, one=one: stack(v.view(1, 1, -1), *one)[0].flatten(), x[row, frame])
        assert log_det[row, frame].item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-8)
    # Lids do not depend on the others; the others do on the lids.
    other = x.clone()
    other[..., 0] += 1
    assert torch.equal(stack(other, tokens, weights)[0][..., [2, 5]], z[..., [2, 5]])
    other = x.clone()
    other[..., 2] += 1
    assert not torch.allclose(stack(other, tokens, weights)[0][..., 0], z[..., 0])


@pytest.mark.parametrize("kind", ["smm", "gmm", "gaussian"])
def test_dimensions_apart_are_standard_normal(kind):
    prior = Prior(kind, 7, 4, 5.0, 5.0, torch.Generator().manual_seed(1), apart=(2, 5))
    alone = Prior(kind, 5, 4, 5.0, 5.0, torch.Generator().manual_seed(1))
    z, weights = 3 * torch.randn(2, 6, 7), torch.eye(4)[[1, 3]].unsqueeze(1)
    rest = [0, 1, 3, 4, 6]
    expected = alone.log_prob(z[..., rest], weights).numpy() + stats.norm.logpdf(z[..., [2, 5]].numpy()).sum(-1)
    np.testing.assert_allclose(prior.log_prob(z, weights).numpy(), expected, atol=1e-9)


@given(seed=st.integers(0, 2**31), features=st.integers(2, 9), bound=st.floats(0.1, 2.0))
@settings(max_examples=15, deadline=None)
def test_each_map_inverts_and_its_log_determinant_is_the_jacobians(seed, features, bound):
    torch.manual_seed(seed)
    x = torch.randn(1, 1, features)
    weights = torch.softmax(torch.randn(1, 1, 3), -1)
    norm, linear = shake(MultiActNorm(features, 3), 1.0), shake(InvertibleLinear(features))
    net = shake(TransformerCoupling(features // 2, features - features // 2, 8, 2, 1), 1.0)
    coupling = AffineCoupling(features, net, bound)
    stack = FlowStack(replaced(features=features, width=8, heads=2), seed)
    condition = shake(stack).bank(torch.randn(1, 1, 3, 8))[0]
    maps = [
        (lambda v: norm(v, weights), lambda v: norm.inverse(v, weights)),
        (linear, linear.inverse),
        (lambda v: coupling(v, condition)[:2], lambda v: coupling.inverse(v, condition)[0]),
    ]
    for forward, inverse in maps:
        y, log_det = forward(x)
        assert torch.allclose(inverse(y), x, atol=1e-9)
        jacobian = torch.autograd.functional.jacobian(lambda v: forward(v.view(1, 1, -1))[0].flatten(), x.flatten())  # noqa: B023
        assert log_det.item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-8)


def test_log_determinant_of_the_stack_is_the_jacobians():
    stack = shake(FlowStack(CONFIG, 3))
    x, tokens, weights = inputs(CONFIG, 1, 1)
    _, log_det = stack(x, tokens, weights)
    jacobian = torch.autograd.functional.jacobian(lambda v: stack(v.view(1, 1, -1), tokens, weights)[0].flatten(), x.flatten())
    assert log_det.item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-8)


def test_couplings_start_as_the_identity_and_keep_their_bound():
    stack = FlowStack(CONFIG, 0)
    x, tokens, _ = inputs(CONFIG)
    condition = stack.bank(tokens)[0]
    y, log_det, _ = stack.steps[0].coupling(x, condition)
    assert torch.equal(y, x)
    assert log_det.abs().max() == 0
    wild = shake(stack, 50.0).steps[0].coupling
    y, log_det, _ = wild(x, stack.bank(tokens)[0])
    assert log_det.abs().max() <= CONFIG.scale_bound * 4 + 1e-12


def test_actnorm_starts_with_zero_mean_and_unit_variance_per_emotion():
    labels = torch.arange(4).repeat_interleave(200)
    x = torch.randn(800, 7) * (0.5 + labels.unsqueeze(1)) + 3.0 * labels.unsqueeze(1)
    weights = emotion_weights(labels, torch.ones(800), 4)
    norm = MultiActNorm(7, 4)
    norm.initialise(x, weights)
    y, _ = norm(x.unsqueeze(1), weights.unsqueeze(1))
    for label in range(4):
        part = y[labels == label, 0]
        assert part.mean(0).abs().max() < 1e-6
        assert (part.var(0, unbiased=False) - 1).abs().max() < 1e-6
    shared = MultiActNorm(7, 4, shared=True)
    shared.initialise(x, weights)
    y, _ = shared(x.unsqueeze(1), weights.unsqueeze(1))
    assert y.mean((0, 1)).abs().max() < 1e-6
    assert y[labels == 0].mean().abs() > 0.5


def test_actnorm_gives_an_emotion_without_frames_the_moments_of_all():
    x = torch.randn(300, 7) * 2 + 1
    norm = MultiActNorm(7, 4)
    norm.initialise(x, emotion_weights(torch.zeros(300, dtype=torch.int64), torch.zeros(300), 4))
    assert torch.allclose(norm.bias[3], -x.mean(0), atol=1e-6)
    assert torch.allclose(norm.log_scale[3], -0.5 * x.var(0, unbiased=False).log(), atol=1e-6)
    assert torch.isfinite(norm.bias).all()


def test_every_actnorm_of_a_stack_is_initialised_in_turn():
    stack = FlowStack(CONFIG, 5)
    labels = torch.arange(4).repeat_interleave(60)
    x = torch.randn(240, 5, 7) * 3 + labels.view(-1, 1, 1)
    weights = emotion_weights(labels, torch.ones(240), 4).unsqueeze(1)
    tokens = torch.randn(240, 5, 3, 16)
    stack.initialise(x, tokens, weights)
    for step in stack.steps:
        x, _ = step.actnorm(x, weights)
        for label in range(4):
            part = x[labels == label].reshape(-1, 7)
            assert part.mean(0).abs().max() < 1e-6
            assert (part.std(0, unbiased=False) - 1).abs().max() < 1e-6
        x, _ = step.linear(x)


@pytest.mark.parametrize("nu", [2.5, 50.0])
def test_student_t_prior_is_scipys(nu):
    prior = Prior("smm", 5, 3, nu, 4.0)
    z = 3 * torch.randn(6, 4, 5)
    for label in range(3):
        weights = torch.eye(3)[label].view(1, 1, 3)
        expected = stats.multivariate_t(prior.means[label].numpy(), np.eye(5), df=nu).logpdf(z.numpy())
        assert np.allclose(prior.log_prob(z, weights).numpy(), expected, atol=1e-9)


def test_gaussian_priors_are_scipys_and_one_gaussian_ignores_the_emotion():
    z = torch.randn(6, 4, 5)
    mixture, single = Prior("gmm", 5, 3, 50.0, 4.0), Prior("gaussian", 5, 3, 50.0, 4.0)
    for label in range(3):
        weights = torch.eye(3)[label].view(1, 1, 3)
        expected = stats.multivariate_normal(mixture.means[label].numpy(), np.eye(5)).logpdf(z.numpy())
        assert np.allclose(mixture.log_prob(z, weights).numpy(), expected)
        assert np.allclose(single.log_prob(z, weights).numpy(), stats.multivariate_normal(np.zeros(5), np.eye(5)).logpdf(z.numpy()))


def test_means_have_the_declared_separation():
    means = component_means(8, 45, 5.0)
    distances = torch.cdist(means, means)
    assert torch.allclose(distances[~torch.eye(8, dtype=torch.bool)], torch.tensor(5.0))
    few = torch.cdist(component_means(8, 6, 5.0), component_means(8, 6, 5.0))
    assert few.isfinite().all()
    means = component_means(8, 6, 5.0)
    squares = torch.cdist(means, means)[~torch.eye(8, dtype=torch.bool)].square()
    assert squares.mean().sqrt().item() == pytest.approx(5.0)


def test_latents_follow_their_distribution():
    rng = np.random.default_rng(0)
    nu, n = 8.0, 40_000
    prior = Prior("smm", 3, 2, nu, 4.0)
    weights = torch.tensor([[0.0, 1.0]])
    z = prior.latent(torch.from_numpy(rng.standard_normal((n, 3))), torch.from_numpy(rng.chisquare(nu, n)), weights, 1.0)
    centred = z - prior.means[1]
    # The squared radius of a multivariate t over D is F-distributed with (D, nu) degrees of freedom.
    assert stats.kstest((centred.square().sum(1) / 3).numpy(), stats.f(3, nu).cdf).pvalue > 1e-3
    assert stats.kstest(centred[:, 0].numpy(), stats.t(nu).cdf).pvalue > 1e-3
    cold = prior.latent(torch.randn(5, 3), torch.ones(5), weights, 0.0)
    assert torch.allclose(cold, prior.means[1].expand(5, 3))


def test_unlabelled_log_density_is_the_brute_force_mixture():
    stack = shake(FlowStack(CONFIG, 2))
    x, _, _ = inputs(CONFIG)
    tokens_of = [torch.randn(3, 4, 5, 16) for _ in range(4)]
    found = stack.log_prob_unlabelled(x, tokens_of)
    for row in range(3):
        total = 0.0
        for label in range(4):
            weights = torch.eye(4)[label].view(1, 1, 4)
            log_density = 0.0
            for t in range(4):
                tokens = tokens_of[label][row : row + 1, t : t + 1]
                z, log_det = stack(x[row : row + 1, t : t + 1], tokens, weights)
                t_density = stats.multivariate_t(stack.prior.means[label].numpy(), np.eye(7), df=50.0).logpdf(z[0, 0].detach().numpy())
                log_density += t_density + log_det.item()
            total += math.exp(log_density) / 4
        assert found[row].item() == pytest.approx(math.log(total), abs=1e-8)


def test_density_of_a_stack_integrates_to_one():
    config = replaced(features=2, width=8, heads=2, steps=2, prior="gmm", separation=1.0)
    stack = shake(FlowStack(config, 0), 0.2)
    grid = torch.linspace(-14, 14, 281)
    x = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).view(1, -1, 2)
    tokens = torch.randn(1, 1, 3, 8).expand(1, x.shape[1], 3, 8)
    weights = torch.tensor([[[0.3, 0.7, 0.0, 0.0]]])
    with torch.no_grad():
        mass = stack.log_prob(x, tokens, weights).exp().sum() * 0.1**2
    assert mass.item() == pytest.approx(1.0, abs=2e-3)


@given(intensity=st.floats(0, 1), label=st.integers(0, 7))
@settings(max_examples=30, deadline=None)
def test_emotion_weights_lie_between_neutral_and_the_emotion(intensity, label):
    weights = emotion_weights(torch.tensor([label, -1]), torch.tensor([intensity, intensity]), 8)
    assert weights[0].sum().item() == pytest.approx(1.0)
    assert weights[0, label].item() == pytest.approx(1.0 if label == 0 else intensity)
    assert not weights[1].any()


def test_cosine_basis_is_orthonormal():
    basis = cosine_basis(80, 26)
    assert torch.allclose(basis.T @ basis, torch.eye(26), atol=1e-12)


def test_marginal_map_makes_data_normal_inverts_and_knows_its_derivative():
    rng = np.random.default_rng(0)
    spiky = np.where(rng.random((20_000, 1)) < 0.5, 0.0, rng.exponential(size=(20_000, 1)))
    u = torch.from_numpy(np.concatenate([spiky, rng.standard_normal((20_000, 1)) ** 3], 1)) + 1e-3 * torch.randn(20_000, 2)
    marginal = MarginalMap(2, straight=0.02)
    marginal.fit(u)
    g, _ = marginal.to_normal(u)
    assert torch.allclose(marginal.from_normal(g), u, atol=1e-10)
    assert stats.kstest(g[:, 1].numpy(), "norm").statistic < 0.05
    assert g.std(0).tolist() == pytest.approx([1, 1], abs=0.2)
    far = torch.tensor([[50.0, -80.0], [0.3, 0.1]])
    assert torch.allclose(marginal.from_normal(marginal.to_normal(far)[0]), far, atol=1e-9)
    point = far[1].clone()
    jacobian = torch.autograd.functional.jacobian(lambda v: marginal.to_normal(v)[0], point)
    assert marginal.to_normal(point)[1].item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-8)
