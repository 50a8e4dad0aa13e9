from __future__ import annotations

import pytest
import torch

from flowvqtalker.checks import ShapeError
from flowvqtalker.constants import GAP_PAIRS
from flowvqtalker.image.geometry import gaussian_sides, identity_grid, spread_shift, unit_points, warp_image
from flowvqtalker.image.layers import AdaIN, Attention
from flowvqtalker.image.vqig import (
    EYES,
    LEAST_GAPS,
    Motion,
    Refined,
    closing_lids,
    keep_apart,
    load_vqig,
    make_windows,
    recolour,
    save_vqig,
)
from flowvqtalker.train.blend import sharpen_blend
from tests.unit.image.conftest import SIZE, E, make_codebook, make_frames, make_generator

LANDMARKS = SIZE * torch.rand(68, 2, generator=torch.Generator().manual_seed(6))

VARIANTS = {
    "full": {},
    "no_warp": {"warp": False},
    "no_phi": {"phi": False},
    "no_mhca": {"mhca": False},
    "no_codebook": {"codes": False},
    "w_only": {"phi": False, "mhca": False, "codes": False},
    "w_phi": {"mhca": False, "codes": False},
    "no_recolour": {"recolour": False},
    "no_blend": {"blend": False},
    "no_points": {"points": False},
}


def random_motion(b: int, reach: int = 2) -> Motion:
    generator = torch.Generator().manual_seed(3)
    window, source = torch.randn(b, 2 * reach + 1, E + 6, generator=generator), torch.randn(b, E + 6, generator=generator)
    return Motion(window, source, 2 * torch.rand(b, 68, 2, generator=generator) - 1)


def shake(model: torch.nn.Module) -> None:
    """Give zero-initialised branches something to do."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def test_adain_sets_mean_and_standard_deviation():
    torch.manual_seed(0)
    layer = AdaIN(6, 4)
    shake(layer)
    x, sigma = 3 + 2 * torch.randn(2, 6, 16, 16), torch.randn(2, 4)
    gamma, beta = layer.mlp(sigma).chunk(2, dim=1)
    y = layer(x, sigma)
    torch.testing.assert_close(y.mean((2, 3)), beta, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(y.std((2, 3), unbiased=False), (1 + gamma).abs(), atol=1e-3, rtol=1e-3)


def test_zero_flow_is_identity_and_a_shift_is_a_shift():
    image = torch.rand(2, 3, SIZE, SIZE)
    torch.testing.assert_close(warp_image(image, torch.zeros(2, 2, SIZE // 4, SIZE // 4)), image, atol=1e-5, rtol=0)
    flow = torch.zeros(2, 2, SIZE, SIZE)
    flow[:, 0] = 3 * 2 / SIZE
    torch.testing.assert_close(warp_image(image, flow)[..., : SIZE - 3], image[..., 3:], atol=1e-4, rtol=0)


def test_identity_grid_holds_pixel_centres():
    grid = identity_grid(2, 4, torch.device("cpu"))
    torch.testing.assert_close(grid[0, 0, :, 0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))


def test_windows_repeat_the_edges():
    windows = make_windows(torch.arange(4.0)[:, None], 2)[..., 0]
    assert windows.tolist() == [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3]]


def test_attention_matches_the_textbook():
    torch.manual_seed(0)
    layer = Attention(8, 2, context_dim=8)
    shake(layer)
    x, context = torch.randn(1, 5, 8), torch.randn(1, 7, 8)
    k, v = layer.keys_values(context)
    q = layer.to_q(layer.norm(x)).reshape(1, 5, 2, 4).transpose(1, 2)
    expected = torch.softmax(q @ k.transpose(-1, -2) / 2, -1) @ v
    torch.testing.assert_close(layer(x, (k, v)), x + layer.out(expected.transpose(1, 2).reshape(1, 5, 8)))


@pytest.mark.parametrize("merge", [1, 2])
def test_untrained_generator_shows_the_source_through_the_codebook(codebook, merge):
    model = make_generator(codebook, merge).eval()
    image = torch.rand(2, 3, SIZE, SIZE)
    motion = random_motion(2)
    output = model(image, motion)
    tokens = output.vectors.shape[-1]
    coded = recolour(codebook(image)[0], image, torch.full((2, 1, tokens, tokens), 0.5))
    mask = 0.5 * (1 - closing_lids(motion.points, output.points, (SIZE // 2, SIZE // 2)))
    expected = torch.lerp(coded, image, torch.nn.functional.interpolate(mask, size=(SIZE, SIZE), mode="bilinear"))
    torch.testing.assert_close(output.image, expected, atol=1e-4, rtol=1e-4)


def test_recolouring_takes_over_mean_colours_and_keeps_detail():
    torch.manual_seed(0)
    detail = 0.1 * torch.randn(1, 3, SIZE, SIZE)
    frame, reference = 0.2 + detail, torch.full((1, 3, SIZE, SIZE), 0.7)
    moved = recolour(frame, reference, torch.ones(1, 1, 8, 8))
    assert abs(moved.mean().item() - 0.7) < 0.01
    assert torch.corrcoef(torch.stack([(moved - moved.mean()).flatten(), detail.flatten()]))[0, 1] > 0.95
    torch.testing.assert_close(recolour(frame, reference, torch.zeros(1, 1, 8, 8)), frame)


def test_the_mask_lays_the_warped_picture_over_the_decoded_one(codebook):
    model = make_generator(codebook).eval()
    image, warped = torch.rand(1, 3, SIZE, SIZE), torch.rand(1, 3, SIZE, SIZE)
    vectors = codebook.encode(image).values
    mask = torch.zeros(1, 1, SIZE // 2, SIZE // 2)
    mask[..., : SIZE // 4, :] = 1
    alone, both = model.decode(Refined(vectors, None, None), warped), model.decode(Refined(vectors, None, mask), warped)
    torch.testing.assert_close(both[..., : SIZE // 2 - 1, :], warped[..., : SIZE // 2 - 1, :])
    torch.testing.assert_close(both[..., SIZE // 2 + 1 :, :], alone[..., SIZE // 2 + 1 :, :])


def test_closing_lids_are_left_to_the_codes_and_nothing_else_is(codebook):
    source = torch.zeros(2, 68, 2)
    for corner, other, pairs in EYES:
        centre = -0.4 if corner == 36 else 0.4
        source[:, corner], source[:, other] = torch.tensor([centre - 0.2, -0.2]), torch.tensor([centre + 0.2, -0.2])
        for high, low in pairs:
            source[:, high], source[:, low] = torch.tensor([centre, -0.3]), torch.tensor([centre, -0.1])
    moved = source.clone()
    for high, low in EYES[0][2]:  # one eye closes in the first frame, a squint in the second
        moved[0, high, 1], moved[0, low, 1] = -0.19, -0.18
        moved[1, high, 1], moved[1, low, 1] = -0.28, -0.12
    share = closing_lids(source, moved, (32, 32))
    row, left, right = round(16 * 0.8 - 0.5), round(16 * 0.6 - 0.5), round(16 * 1.4 - 0.5)
    assert share[0, 0, row, left] > 0.95 and share[0, 0, row, right] < 1e-6 and share[0, 0, -8:].max() < 1e-3 and share[1].max() == 0
    model = make_generator(codebook).eval()
    codes, sigma = codebook.encode(torch.rand(2, 3, SIZE, SIZE)).values, torch.randn(2, 16)
    refined = model.refine(torch.rand(2, 3, SIZE, SIZE), codes, model._source_keys(codes), sigma, moved, source)
    torch.testing.assert_close(refined.blend, 0.5 * (1 - closing_lids(source, moved, (SIZE // 2, SIZE // 2))))


def test_sharpening_acts_on_the_masks_logits_and_on_nothing_else(codebook):
    model = make_generator(codebook).eval()
    shake(model)
    sigma, codes = torch.randn(1, 16), codebook.encode(torch.rand(1, 3, SIZE, SIZE)).values
    image, points = torch.rand(1, 3, SIZE, SIZE), 2 * torch.rand(1, 68, 2) - 1
    before = model.refine(image, codes, model._source_keys(codes), sigma, points)
    sharpen_blend(model, 3.0, -0.5)
    after = model.refine(image, codes, model._source_keys(codes), sigma, points)
    torch.testing.assert_close(after.blend, torch.sigmoid(3 * torch.logit(before.blend) - 0.5), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(after.blend, before.blend, atol=0.01)
    torch.testing.assert_close(after.vectors, before.vectors)
    torch.testing.assert_close(after.gate, before.gate)
    sharpen_blend(make_generator(codebook, blend=False), 3.0, 0.0)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_gives_gradients_to_all_it_trains_and_none_to_the_frozen(codebook, name):
    model = make_generator(codebook, **VARIANTS[name])
    shake(model)
    before = {key: value.clone() for key, value in codebook.state_dict().items()}
    image, motion = torch.rand(2, 3, SIZE, SIZE), random_motion(2)
    output = model(image, motion)
    loss = output.image.square().mean() + model(image, motion, phase="warp").warped.square().mean()
    if model.config.codes:
        loss = loss + model.code_logits(output.vectors.permute(0, 2, 3, 1).flatten(0, 2)).logsumexp(1).mean()
    loss.backward()
    assert all(p.grad is None for p in model.encoder.parameters())  # E_w is frozen
    trained = [(key, p) for key, p in model.named_parameters() if not key.startswith("encoder.")]
    silent = [key for key, p in trained if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == ([] if model.config.codes else ["log_temperature"])
    assert all(p.grad is None for p in codebook.parameters())
    assert all(torch.equal(before[key], value) for key, value in codebook.state_dict().items())
    assert (model.warp is None) == (name == "no_warp")


def test_logits_rank_codes_by_distance(codebook):
    model = make_generator(codebook)
    vectors = torch.randn(50, 8)
    assert torch.equal(model.code_logits(vectors).argmax(1), codebook.quantizer.nearest(vectors))


def test_render_depends_neither_on_batch_nor_on_neighbours_outside_the_window(codebook):
    model = make_generator(codebook).eval()
    shake(model)
    generator = torch.Generator().manual_seed(5)
    beta, pose = torch.rand(11, E, generator=generator), torch.randn(11, 6, generator=generator)
    source = model.prepare_source(torch.rand(3, SIZE, SIZE, generator=generator), beta[0], pose[0], LANDMARKS, precision="fp32")
    whole = model.render_clip(source, beta, pose, batch_size=4, precision="fp32")
    assert whole.shape == (11, SIZE, SIZE, 3) and whole.dtype == torch.uint8
    one_by_one = model.render_clip(source, beta, pose, batch_size=1, precision="fp32")
    assert (whole.int() - one_by_one.int()).abs().max() <= 1
    tail = model.render_clip(source, beta[3:], pose[3:], batch_size=4, precision="fp32")
    assert (whole[5:].int() - tail[2:].int()).abs().max() <= 1


def test_render_equals_the_training_pass(codebook):
    model = make_generator(codebook).eval()
    shake(model)
    motion = random_motion(3)
    image = torch.rand(1, 3, SIZE, SIZE)
    source = model.prepare_source(image, motion.source[0, :E], motion.source[0, E:], LANDMARKS, precision="fp32")
    rendered = model.render(source, motion.window[..., :E], motion.window[..., E:], precision="fp32")
    output = model(
        image.expand(3, -1, -1, -1), Motion(motion.window, motion.source[:1].expand(3, -1), unit_points(LANDMARKS, SIZE).expand(3, -1, -1))
    )
    torch.testing.assert_close(rendered, output.image.detach().clamp(0, 1), atol=1e-4, rtol=1e-4)


def test_bad_arguments_are_named(codebook):
    model = make_generator(codebook)
    with pytest.raises(ShapeError, match="beta"):
        model.prepare_source(torch.rand(3, SIZE, SIZE), torch.rand(E + 1), torch.rand(6), LANDMARKS)
    with pytest.raises(ValueError, match="image"):
        model.prepare_source(2 * torch.rand(3, SIZE, SIZE) + 1, torch.rand(E), torch.rand(6), LANDMARKS)
    with pytest.raises(ValueError, match="frozen"):
        make_generator(make_codebook())


def test_payload_round_trip_refuses_another_codebook(codebook):
    model = make_generator(codebook).eval()
    shake(model)
    payload = save_vqig(model)
    image, motion = torch.rand(2, 3, SIZE, SIZE), random_motion(2)
    torch.testing.assert_close(load_vqig(payload, codebook)(image, motion).image, model(image, motion).image)
    with pytest.raises(ValueError, match="trained on"):
        load_vqig(payload, make_codebook(seed=9).freeze())


def test_spread_shift_meets_known_shifts_and_fades():
    """At each place the flow is its shift, also where a near place moves the other way; far from all places it is zero."""
    grid = identity_grid(32, 32, torch.device("cpu"))
    place = grid[:, 8, 8][:, None]
    field = spread_shift(32, 32, place, torch.tensor([[[0.3, -0.1]]]), radii=(0.1,), ridge=0.0)
    torch.testing.assert_close(field[0, :, 8, 8], torch.tensor([0.3, -0.1]))
    assert field[0, :, 31, 31].abs().max() < 1e-6
    places = torch.stack([grid[0, 8, 8], grid[0, 10, 8]])[None]
    shifts = torch.tensor([[[0.0, 0.2], [0.0, -0.2]]])
    field = spread_shift(32, 32, places, shifts, radii=(0.3, 0.05))
    assert field[0, 1, 8, 8] > 0.19 and field[0, 1, 10, 8] < -0.19
    together = spread_shift(32, 32, places[:, :1].expand(-1, 2, -1), shifts, radii=(0.3, 0.05))
    assert together[0, 1, 8, 8].abs() < 1e-3  # one place cannot move both ways


def test_means_of_wide_radii_move_what_lies_between_alike():
    """Places that all move alike carry what lies between them with them, as far as the weight of no shift allows."""
    grid = identity_grid(32, 32, torch.device("cpu"))
    places = torch.stack([grid[0, 8, 8], grid[0, 8, 24], grid[0, 24, 8], grid[0, 24, 24]])[None]
    field = spread_shift(32, 32, places, torch.full((1, 4, 2), 0.1), radii=(0.5, 0.05))
    assert 0.08 < field[0, 0, 16, 16] < 0.1


def test_factors_of_gaussians_multiply_to_gaussians_and_their_sums_agree_with_brute_force():
    """exp(-|p - c|^2 / 2 r^2) at every cell; the first radius of spread_shift adds the weighted mean of the shifts."""
    generator = torch.Generator().manual_seed(1)
    places, shifts = 2 * torch.rand(2, 5, 2, generator=generator) - 1, torch.randn(2, 5, 2, generator=generator)
    grid = identity_grid(6, 8, torch.device("cpu"))[0]
    weight = torch.exp(-(grid - places[:, :, None, None]).square().sum(-1) / (2 * 0.2**2))
    rows, columns = gaussian_sides(places, 6, 8, 0.2)
    torch.testing.assert_close(rows[..., :, None] * columns[..., None, :], weight)
    mean = (weight[:, :, None] * shifts[..., None, None]).sum(1) / (weight.sum(1)[:, None] + 0.05)
    # a last radius far below a cell adds nothing between the places
    torch.testing.assert_close(spread_shift(6, 8, places, shifts, radii=(0.2, 1e-4)), mean)


def test_the_transformer_sees_where_lips_went(codebook):
    """The same warped picture and motion give other vectors when the marked landmarks lie elsewhere, and they are marked only near it."""
    model = make_generator(codebook).eval()
    shake(model)
    image, sigma = torch.rand(1, 3, SIZE, SIZE), torch.randn(1, model.config.descriptor_dim)
    codes = codebook.encode(image).values
    moved = torch.full((1, 68, 2), 9.0)  # far outside: no marks at all
    moved[:, 48:68] = torch.tensor([0.0, 0.9])
    apart = moved.clone()
    apart[:, 60:64] = torch.tensor([0.0, 0.6])
    seen = []
    model.fine.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    vectors = [model.refine(image, codes, None, sigma, points)[0] for points in (moved, apart)]
    change = (seen[0] - seen[1]).abs().sum(1)[0]
    assert change.max() > 0.1
    assert change[0].max() < 1e-2  # the top row of tokens is far from the mouth
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3


def test_moved_landmarks_carry_the_picture_with_them():
    """With every landmark moved alike and no other flow, the warp shows around each landmark what was at its old place."""
    model = make_generator(make_codebook().freeze(), head=False).eval()
    image = torch.rand(1, 3, SIZE, SIZE)
    motion = random_motion(1)
    shift = torch.tensor([4.0, -2.0]) * (2 / SIZE)  # px
    with torch.no_grad():
        model.point_motion.linear.bias.copy_(shift.repeat(68))
        _, flow, _, moved = model.warp_source(image, motion)
    torch.testing.assert_close(moved, motion.points + shift)
    near = torch.nn.functional.grid_sample(flow, moved[:, None].clamp(-0.95, 0.95), align_corners=False)[:, :, 0].transpose(1, 2)
    inside = (moved.abs() < 0.9).all(-1)
    torch.testing.assert_close(near[inside], (-shift).expand(int(inside.sum()), 2), atol=0.2 * float(shift.abs().max()), rtol=0)


def test_outside_of_the_head_the_picture_stays():
    """With every landmark moved alike, the middle of the face moves along and the corners of the picture do not; without a mask all moves."""
    motion = random_motion(1)
    motion = motion._replace(points=0.25 * motion.points.clamp(-1, 1))
    shift = torch.tensor([4.0, -2.0]) * (2 / SIZE)
    found = {}
    for head in (True, False):
        model = make_generator(make_codebook().freeze(), head=head).eval()
        with torch.no_grad():
            model.warp.affine.bias.copy_(torch.tensor([0.0, 0.0, -shift[0], 0.0, 0.0, -shift[1]]))
            model.point_motion.linear.bias.copy_(shift.repeat(68))
            found[head] = model.warp_source(torch.rand(1, 3, SIZE, SIZE), motion)[1][0]
        middle = found[head][:, SIZE // 4, SIZE // 4]
        torch.testing.assert_close(
            middle, -shift, atol=0.3 * float(shift.abs().max()), rtol=0
        )  # lids and lips of random points are kept apart
    assert found[True][:, 0, 0].abs().max() < 0.05 * float(shift.abs().max())
    torch.testing.assert_close(found[False][:, 0, 0], -shift, atol=0.05 * float(shift.abs().max()), rtol=0)


def test_lids_and_lips_meet_and_never_cross():
    generator = torch.Generator().manual_seed(7)
    source = torch.rand(3, 68, 2, generator=generator) * 0.2
    upper, lower = (list(side) for side in zip(*GAP_PAIRS, strict=True))
    source[:, lower, 1] = source[:, upper, 1] + 0.1
    assert torch.equal(keep_apart(source, source), source)
    closed = source.clone()
    closed[:, upper, 1] += 0.25  # far below the lower lids and lips
    met = keep_apart(closed, source)
    gaps = met[:, lower, 1] - met[:, upper, 1]
    torch.testing.assert_close(gaps, torch.tensor(LEAST_GAPS).expand(3, -1), atol=1e-6, rtol=0)
    middle = (closed[:, lower, 1] + closed[:, upper, 1]) / 2
    torch.testing.assert_close((met[:, lower, 1] + met[:, upper, 1]) / 2, middle)
    others = [point for point in range(68) if point not in (*upper, *lower)]
    assert torch.equal(met[:, others], closed[:, others])
    # A source whose detected lids lie nearer than that, or cross, is shown as it is.
    source[:, lower, 1] = source[:, upper, 1] - 0.01
    assert torch.equal(keep_apart(source, source), source)


def test_the_expression_ratio_changes_the_warped_picture_in_training_and_in_use(codebook):
    model = make_generator(codebook)
    frames = make_frames()
    source, target = torch.tensor([0, 1]), torch.tensor([3, 4])
    motion = frames.motion(target, source, 2)
    image = frames.batch(source)
    plain = model.warp_source(image, motion)[2]
    assert model.ratio is not None
    model.ratio.face.copy_(motion.points[0] / motion.points[0].abs().max())
    model.ratio.maps.normal_(std=0.2)
    changed = model.warp_source(image, motion)[2]
    assert (changed - plain).abs().max() > 0.01
    # Nothing changes in a frame with the source's own coefficients.
    still = Motion(motion.source[:, None].expand(-1, 5, -1), motion.source, motion.points)
    torch.testing.assert_close(model.warp_source(image, still)[2], image, atol=1e-4, rtol=0)
    again = load_vqig(save_vqig(model), codebook)
    assert again.ratio is not None
    torch.testing.assert_close(again.ratio.maps, model.ratio.maps)
