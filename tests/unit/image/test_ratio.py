"""Expression ratio images: alignment, the fit against a known ratio, and what the ratio leaves alone."""

from __future__ import annotations

import pytest
import torch

from flowvqtalker.image.data import FrameSet
from flowvqtalker.image.geometry import identity_grid, unit_points
from flowvqtalker.image.ratio import ExpressionRatio, face_map, mean_face, similarity
from flowvqtalker.train.ratio import fit_ratio

E, SIZE = 4, 48


def face_points(n: int, generator: torch.Generator) -> torch.Tensor:
    """(n, 68, 2) landmarks of one face shape with slightly different places, sizes and rolls; outer eye corners level in the shape itself."""
    shape = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    shape[36], shape[45] = torch.tensor([-0.45, -0.2]), torch.tensor([0.45, -0.2])
    shape[8], shape[0], shape[16] = torch.tensor([0.0, 0.55]), torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 0.0])
    angle = 0.2 * torch.randn(n, 1, generator=generator)
    scale = torch.polar(1 + 0.1 * torch.rand(n, 1, generator=generator), angle)
    place = 0.05 * torch.randn(n, 1, 2, generator=generator)
    return torch.view_as_real(scale * torch.view_as_complex(shape)[None]) + place


def drawn_people(n_people: int, n_frames: int, seed: int = 0) -> tuple[FrameSet, torch.Tensor]:
    """Faces whose brightness is a person's own, times exp(coefficient 0 x a bump beside the nose); and the bump's true map."""
    generator = torch.Generator().manual_seed(seed)
    n = n_people * n_frames
    identity = torch.arange(n_people).repeat_interleave(n_frames)
    coefficients = torch.randn(n, E + 6, generator=generator)
    points = face_points(n, generator)
    model = ExpressionRatio(E, 32)
    model.face.copy_(mean_face(points))
    cells = identity_grid(32, 32, torch.device("cpu"))[0]
    bump = torch.exp(-((cells[..., 0] - 0.3).square() + (cells[..., 1] - 0.2).square()) / (2 * 0.15**2))
    place = face_map((SIZE, SIZE), points, model.face.expand_as(points))
    seen = torch.nn.functional.grid_sample(bump.expand(n, 1, -1, -1), place, align_corners=False)
    skin = 0.3 + 0.2 * torch.rand(n_people, 3, 1, 1, generator=generator)[identity]
    images = ((skin + 0.08) * torch.exp(0.4 * coefficients[:, :1, None, None] * seen) - 0.08).clamp(0, 1)
    order = torch.arange(n)
    still = torch.zeros(n, dtype=torch.bool)
    landmarks = (points + 1) * (SIZE / 2) - 0.5
    return FrameSet((255 * images).round().byte(), landmarks, identity, still, still, order, order, order, coefficients), 0.4 * bump


def test_similarity_is_exact_for_similar_points():
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(3, 68, 2, generator=generator, dtype=torch.float64)
    a, b = (
        torch.polar(torch.tensor([[0.7]]), torch.tensor([[0.4]])).to(torch.complex128),
        torch.complex(torch.tensor(0.1), torch.tensor(-0.3)),
    )
    moved = torch.view_as_real(a * torch.view_as_complex(points) + b)
    found_a, found_b = similarity(points, moved)
    torch.testing.assert_close(found_a, a.expand(3, 1), atol=1e-7, rtol=0)
    torch.testing.assert_close(found_b, b.to(torch.complex128).expand(3, 1), atol=1e-7, rtol=0)


def test_the_map_between_faces_meets_the_landmarks():
    generator = torch.Generator().manual_seed(2)
    grid = torch.stack(torch.meshgrid(torch.linspace(-0.6, 0.6, 9), torch.linspace(-0.6, 0.6, 9), indexing="xy"), -1).flatten(0, 1)[:68]
    source = grid[None] + 0.01 * torch.randn(2, 68, 2, generator=generator)
    target = 0.8 * source.flip(0) + 0.02 * torch.randn(2, 68, 2, generator=generator)
    places = face_map((64, 64), source, target).permute(0, 3, 1, 2)
    met = torch.nn.functional.grid_sample(places, source[:, None], align_corners=False)[:, :, 0].transpose(1, 2)
    assert (met - target).abs().mean() < 0.006


def test_the_mean_face_is_level_and_inside_the_picture():
    points = face_points(20, torch.Generator().manual_seed(3))
    face = mean_face(points)
    assert abs(float(face[45, 1] - face[36, 1])) < 1e-5 and float(face[45, 0]) > float(face[36, 0])
    assert float(face.abs().max()) < 1


def test_a_model_that_was_not_fitted_changes_nothing():
    image, points = torch.rand(2, 3, SIZE, SIZE), face_points(2, torch.Generator().manual_seed(4))
    torch.testing.assert_close(ExpressionRatio(E, 16)(image, torch.randn(2, E + 6), points), image)


def test_the_fit_finds_a_known_ratio_and_does_not_touch_other_coefficients():
    frames, bump = drawn_people(12, 25)
    model = ExpressionRatio(E, 32)
    share = fit_ratio(model, frames, 0.001, 1.0)
    assert 0.8 < share <= 1
    found = model.maps[0].mean(0) / model.spread[0]
    inside = model.mask > 0.9
    assert torch.corrcoef(torch.stack([found[inside], bump[inside]]))[0, 1] > 0.97
    assert float(model.maps[1:].abs().amax()) < 0.1 * float(model.maps[0].abs().amax())


def test_the_ratio_turns_one_expression_of_a_person_into_another():
    train, _ = drawn_people(12, 25)
    test, _ = drawn_people(3, 4, seed=9)
    model = ExpressionRatio(E, 32)
    fit_ratio(model, train, 0.001, 1.0)
    # The same picture with another coefficient 0: landmarks stay, so the only change is the ratio.
    source, points = test.batch(torch.arange(12)), unit_points(test.landmarks, SIZE)
    change = torch.zeros(12, E + 6)
    change[:, 0] = 1.0
    seen = model(source, change, points)
    back = model(seen, -change, points)
    assert (seen - source).abs().amax() > 0.05
    assert (back - source).abs().mean() < 0.002


def test_frames_without_motion_are_refused():
    frames, _ = drawn_people(2, 3)
    empty = FrameSet(
        frames.images, frames.landmarks, frames.identity, frames.is_still, frames.is_enrolment, -torch.ones(6, dtype=torch.long),
        frames.first, frames.last, frames.coefficients,
    )  # fmt: skip
    with pytest.raises(ValueError, match="landmarks and coefficients"):
        fit_ratio(ExpressionRatio(E, 16), empty, 0.1, 1.0)


def test_no_gradient_flows_into_the_landmarks():
    points = face_points(1, torch.Generator().manual_seed(5)).requires_grad_()
    model = ExpressionRatio(E, 16)
    model.maps.normal_(std=0.1)
    image = torch.rand(1, 3, SIZE, SIZE, requires_grad=True)
    model(image, torch.ones(1, E + 6), points).sum().backward()
    assert points.grad is None and image.grad is not None
