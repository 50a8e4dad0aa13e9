from __future__ import annotations

import pytest
import torch
from torch import nn

from flowvqtalker.image.adversarial import PatchDiscriminator, adaptive_weight, hinge_discriminator_loss
from flowvqtalker.image.codebook import Codebook, CodebookConfig, load_codebook, patch_basis, save_codebook, state_sha256
from flowvqtalker.image.quantize import VectorQuantizer, usage
from tests.unit.image.conftest import SIZE, make_codebook


def test_values_are_the_codes_of_the_indices():
    quantizer = VectorQuantizer(16, 4, 0.9, 0.1).eval()
    quantised = quantizer(torch.randn(2, 4, 3, 5))
    torch.testing.assert_close(quantised.values, quantizer.lookup(quantised.indices))
    assert quantised.values.shape == (2, 4, 3, 5) and quantised.indices.shape == (2, 3, 5)


def test_nearest_of_a_code_is_itself_and_agrees_with_brute_force():
    quantizer = VectorQuantizer(64, 6, 0.9, 0.1).eval()
    assert torch.equal(quantizer.nearest(quantizer.embedding), torch.arange(64))
    x = torch.randn(700, 6)  # more than one piece of LOOKUP_ROWS
    brute = (x[:, None] - quantizer.embedding[None]).square().sum(-1).argmin(1)
    assert torch.equal(quantizer.nearest(x), brute)


def test_gradient_passes_straight_through_and_the_commitment_pulls_to_the_code():
    quantizer = VectorQuantizer(16, 4, 0.9, 0.0).train()
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    quantizer(x)
    quantised = quantizer(x)
    probe = torch.randn_like(x)
    (quantised.values * probe).sum().backward()
    torch.testing.assert_close(x.grad, probe)
    x.grad = None
    code = quantizer.embedding.clone()
    quantised = quantizer(x)
    quantised.commitment.backward()
    expected = 2 * (x.detach() - code[quantised.indices].permute(0, 3, 1, 2)) / x.numel()
    torch.testing.assert_close(x.grad, expected)


def test_moving_averages_reach_the_cluster_means_and_dead_codes_come_back():
    torch.manual_seed(0)
    centres = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0], [0.0, -4.0]])
    quantizer = VectorQuantizer(16, 2, 0.8, 0.5).train()
    quantizer(torch.full((1, 2, 4, 4), 100.0))
    assert quantizer.embedding.min() > 90
    for _ in range(60):
        x = centres[torch.randint(4, (256,))] + 0.05 * torch.randn(256, 2)
        quantizer(x.t().reshape(1, 2, 16, 16))
    found = quantizer.embedding[quantizer.nearest(centres)]
    torch.testing.assert_close(found, centres, atol=0.1, rtol=0)


def test_evaluation_mode_changes_no_code():
    quantizer = VectorQuantizer(16, 4, 0.9, 0.1).eval()
    before = quantizer.embedding.clone()
    quantizer(torch.randn(2, 4, 3, 3))
    assert torch.equal(quantizer.embedding, before)


def test_usage_of_even_and_single_counts():
    assert usage(torch.ones(8))[0] == 8
    assert usage(torch.ones(8))[1] == pytest.approx(8)
    assert usage(torch.tensor([5, 0, 0]))[1] == pytest.approx(1)


@pytest.mark.parametrize(("downsample", "tokens"), [(4, 8), (8, 4), (16, 2)])
def test_sizes(downsample, tokens):
    codebook = make_codebook(downsample).eval()
    image, quantised = codebook(torch.rand(2, 3, SIZE, SIZE))
    assert image.shape == (2, 3, SIZE, SIZE) and quantised.indices.shape == (2, tokens, tokens)
    torch.testing.assert_close(codebook.decode_indices(quantised.indices), image)


@pytest.mark.parametrize(("size", "dim"), [(4, 32), (8, 64), (4, 60)])
def test_patch_basis_is_orthonormal_and_keeps_smooth_pictures(size, dim):
    basis = patch_basis(size, dim)
    n = min(dim, 3 * size**2)
    torch.testing.assert_close(basis @ basis.t(), torch.diag((torch.arange(dim) < n).float()), atol=1e-5, rtol=0)
    ramp = torch.linspace(0, 1, 2 * size)[None, None].expand(3, 2 * size, -1)[None]
    patches = torch.nn.functional.pixel_unshuffle(ramp, size).permute(0, 2, 3, 1)
    torch.testing.assert_close(patches @ basis.t() @ basis, patches, atol=0.02, rtol=0)


def test_untrained_autoencoder_is_the_transform_and_its_inverse():
    torch.manual_seed(0)
    codebook = Codebook(CodebookConfig(4, 16, 1, 32, 48, 0.9, 0.2)).eval()
    image = torch.rand(2, 3, SIZE, SIZE)
    torch.testing.assert_close(codebook.decode(codebook.encoder(image)), image, atol=1e-4, rtol=0)


def test_payload_round_trip_and_hash():
    codebook = make_codebook().eval()
    payload = save_codebook(codebook)
    loaded = load_codebook(payload)
    x = torch.rand(2, 3, SIZE, SIZE)
    torch.testing.assert_close(loaded(x)[0], codebook(x)[0])
    assert state_sha256(loaded.state_dict()) == payload["sha256"]
    assert not any(p.requires_grad for p in loaded.parameters())
    loaded.quantizer.embedding[0, 0] += 1e-3
    assert state_sha256(loaded.state_dict()) != payload["sha256"]


def test_adaptive_weight_equals_the_ratio_of_gradient_norms():
    last = nn.Parameter(torch.tensor([1.0, 2.0]))
    reconstruction, adversarial = (last * torch.tensor([3.0, 4.0])).sum(), (last * torch.tensor([0.0, 20.0])).sum()
    assert adaptive_weight(reconstruction, adversarial, last).item() == pytest.approx(0.25, rel=1e-3)
    assert adaptive_weight(10 * reconstruction, adversarial, last, limit=1.0).item() == 1.0


def test_discriminator_learns_to_tell_two_kinds_apart():
    torch.manual_seed(0)
    net = PatchDiscriminator(8)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    real, fake = torch.rand(8, 3, SIZE, SIZE), torch.rand(8, 3, SIZE, SIZE) * 0.2
    first = hinge_discriminator_loss(net(real), net(fake)).item()
    for _ in range(20):
        optimizer.zero_grad()
        loss = hinge_discriminator_loss(net(real), net(fake))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first
