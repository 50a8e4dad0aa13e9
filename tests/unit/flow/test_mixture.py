"""The conditional mixture in front of the flow steps: exact both ways, and two hills where affine couplings have one."""

import numpy as np
import pytest
import torch
from scipy import stats

from flowvqtalker.flow.mixture import ConditionalMixture


def make(features=2, dtype=torch.float64):
    torch.manual_seed(0)
    mixture = ConditionalMixture(features, 16, 4, 2).to(dtype)
    for parameter in mixture.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return mixture


def frames(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = 2 * torch.randn(2, 7, 2, generator=generator, dtype=dtype)
    x[0, 0], x[0, 1] = 6.0, -6.0  # far from every component
    x[1, 0], x[1, 1] = 150.0, -60.0  # so far that no component has any share there
    return x, torch.randn(2, 7, 4, 16, generator=generator, dtype=dtype)


@torch.no_grad()
def test_round_trip():
    for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        x, tokens = frames(dtype)
        mixture = make(dtype=dtype)
        scores, _ = mixture(x, tokens)
        assert (mixture.inverse(scores, tokens) - x).abs().max() < bound
        wanted = torch.linspace(-4, 4, 28, dtype=dtype).view(2, 7, 2)
        assert (mixture(mixture.inverse(wanted, tokens), tokens)[0] - wanted).abs().max() < 10 * bound


def test_log_determinant_is_the_jacobians():
    x, tokens = frames()
    mixture = make()
    for t in (0, 3):
        token = tokens[:1, t : t + 1]
        jacobian = torch.autograd.functional.jacobian(lambda v, token=token: mixture(v.view(1, 1, -1), token)[0].flatten(), x[0, t])
        assert mixture(x[:1, t : t + 1], token)[1].item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-8)


def test_scores_are_scipys():
    x, tokens = frames()
    mixture = make(features=1)
    x = x.clamp(-10, 10)
    scores, _ = mixture(x[..., :1], tokens)
    means, scales, weights = (part.detach().numpy() for part in mixture._parameters_of(0, mixture._seen(tokens), []))
    assert np.exp(weights).sum(-1) == pytest.approx(np.ones((2, 7)))
    share = (np.exp(weights) * stats.norm.cdf(x[..., :1].numpy(), means, np.exp(scales))).sum(-1)
    np.testing.assert_allclose(scores[..., 0].detach().numpy(), stats.norm.ppf(share), atol=1e-6)


def test_far_values_have_finite_gradients():
    x, tokens = frames(torch.float32)
    mixture = make(dtype=torch.float32)
    scores, log_det = mixture(x, tokens)
    (0.5 * scores.square().sum(-1) - log_det).mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in mixture.parameters())
    nearer = mixture(x - torch.tensor([1.0, 0.0]), tokens)[0]
    assert (scores - nearer)[1, 0, 0].item() == pytest.approx(1.0, abs=1e-3)


def test_the_last_token_is_never_dropped():
    x, tokens = frames(torch.float32)
    mixture = ConditionalMixture(2, 16, 4, 2, dropout=0.999999).train()
    for parameter in mixture.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    first, again = mixture(x, tokens)[0], mixture(x, tokens)[0]
    assert torch.allclose(first, again)
    other = tokens.clone()
    other[:, :, -1] += 1
    assert not torch.allclose(mixture(x, other)[0], first)


def test_learns_two_hills():
    torch.manual_seed(2)
    mixture = ConditionalMixture(1, 8, 2, 2)
    optimizer = torch.optim.Adam(mixture.parameters(), lr=2e-2)
    tokens = torch.zeros(1, 512, 2, 8)

    def loss(x):
        e, log_det = mixture(x, tokens)
        return (0.5 * e[..., 0].square() + 0.919 - log_det).mean()

    def draw():
        return (torch.where(torch.rand(1, 512, 1) < 0.3, 2.0, -1.0) + 0.3 * torch.randn(1, 512, 1)) / 1.4

    for _ in range(150):
        optimizer.zero_grad()
        value = loss(draw())
        value.backward()
        optimizer.step()
    with torch.no_grad():
        x = draw()
        one_hill = 0.5 * x.var().log() + 1.419  # the best single normal
        assert loss(x) < one_hill - 0.4
        made = mixture.inverse(torch.randn(1, 512, 1), tokens)
        assert ((made > 0.2) & (made < 0.8)).float().mean() < 0.05


def test_refuses_one_component():
    with pytest.raises(ValueError, match="at least 2"):
        ConditionalMixture(1, 8, 2, 1)
