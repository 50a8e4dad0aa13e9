"""The conditional mixture in front of the flow steps: exact both ways, and two hills where affine couplings have one."""

import pytest
import torch

from flowvqtalker.flow.mixture import ConditionalMixture


def make(dims=(1, 3), dtype=torch.float64):
    torch.manual_seed(0)
    mixture = ConditionalMixture(dims, 16, 4, 2).to(dtype)
    for parameter in mixture.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return mixture


def frames(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = 2 * torch.randn(2, 7, 5, generator=generator, dtype=dtype)
    x[0, 0], x[0, 1] = 6.0, -6.0  # far from every component
    return x, torch.randn(2, 7, 4, 16, generator=generator, dtype=dtype)


@torch.no_grad()
def test_round_trip():
    for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        x, tokens = frames(dtype)
        mixture = make(dtype=dtype)
        y, _ = mixture(x, tokens)
        assert (mixture.inverse(y, tokens) - x).abs().max() < bound
        assert torch.equal(y[..., [0, 2, 4]], x[..., [0, 2, 4]]) and not torch.allclose(y[..., 1], x[..., 1])


def test_log_determinant_is_the_jacobians():
    x, tokens = frames()
    mixture = make()
    for t in (0, 3):
        token = tokens[:1, t : t + 1]
        jacobian = torch.autograd.functional.jacobian(lambda v, token=token: mixture(v.view(1, 1, -1), token)[0].flatten(), x[0, t])
        assert mixture(x[:1, t : t + 1], token)[1].item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-8)


def test_learns_two_hills():
    torch.manual_seed(2)
    mixture = ConditionalMixture((0,), 8, 2, 2)
    optimizer = torch.optim.Adam(mixture.parameters(), lr=2e-2)
    tokens = torch.zeros(1, 512, 1, 8)

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
        ConditionalMixture((0,), 8, 2, 1)
