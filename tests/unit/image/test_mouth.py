"""The inside of the mouth: the contour, the fit against a known inside, and what the layer leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from flowvqtalker.image.data import FrameSet
from flowvqtalker.image.geometry import identity_grid, unit_points
from flowvqtalker.image.mouth import INNER_LIPS, LOWER_LIP, UPPER_LIP, MouthLayer, between
from flowvqtalker.train.mouth import fit_mouth

E, SIZE = 4, 64


def face_points(gap: torch.Tensor, roll: torch.Tensor) -> torch.Tensor:
    """(n, 68, 2) landmarks of one face, its inner lips apart by ``gap`` (n,), turned by ``roll`` (n,) [rad] and in different places."""
    shape = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    shape[36], shape[45] = torch.tensor([-0.45, -0.2]), torch.tensor([0.45, -0.2])
    shape[8], shape[0], shape[16] = torch.tensor([0.0, 0.7]), torch.tensor([-0.6, 0.0]), torch.tensor([0.6, 0.0])
    points = shape.repeat(len(gap), 1, 1)
    across = torch.linspace(-0.3, 0.3, 5)
    for landmarks, side in ((UPPER_LIP, -0.5), (LOWER_LIP, 0.5)):
        for k, u in zip(landmarks, across, strict=True):
            points[:, k, 0] = u
            points[:, k, 1] = 0.3 + side * gap * (1 - (u / 0.3) ** 2)
    turn = torch.polar(torch.full_like(roll, 0.9), roll)[:, None]
    return torch.view_as_real(turn * torch.view_as_complex(points)) + 0.05


def inside_colour(gap: torch.Tensor) -> torch.Tensor:
    """The darker, the wider open."""
    return torch.stack([0.6 - gap, 0.3 - 0.5 * gap, 0.2 + 0 * gap], -1)


def curved_colour(gap: torch.Tensor) -> torch.Tensor:
    """Dark at a middling gap, light at a small and at a wide one: a line in the gap tells little."""
    return (0.2 + 15 * (gap - 0.2) ** 2)[:, None].expand(-1, 3)


def drawn(n: int = 200, colour: Callable[[torch.Tensor], torch.Tensor] = inside_colour) -> FrameSet:
    """Grey faces; between the lips, where they are parted, the colour follows the gap."""
    generator = torch.Generator().manual_seed(1)
    gap = 0.4 * torch.rand(n, generator=generator)
    points = face_points(gap, 0.2 * torch.randn(n, generator=generator))
    images = torch.full((n, 3, SIZE, SIZE), 0.8)
    model = MouthLayer(16)
    model.face.copy_(points[0])
    a, b = model.to_face(points)
    cells = torch.view_as_complex(identity_grid(SIZE, SIZE, torch.device("cpu"))[0].contiguous())
    inside = model.inside(model.contour(points, a, b), torch.view_as_real(a[..., None] * cells + b[..., None]))
    images = torch.where(inside[:, None] > -0.02, colour(gap)[:, :, None, None], images)
    order, still = torch.arange(n), torch.zeros(n, dtype=torch.bool)
    landmarks = (points + 1) * (SIZE / 2) - 0.5
    return FrameSet((255 * images).round().byte(), landmarks, order % 5, still, still, order, order, order, torch.randn(n, E + 6))


def test_inside_is_the_distance_to_the_nearer_curve():
    at = torch.tensor([[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]])
    upper, lower = torch.tensor([[0.0, -1.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    u, v = torch.tensor([[1.0, 0.5, 1.0, 3.0, -1.0]]), torch.tensor([[0.2, 0.0, 2.0, 0.0, 0.5]])
    torch.testing.assert_close(between(at, upper, lower, u, v), torch.tensor([[0.8, 0.5, -1.0, 0.0, -0.5]]))


def test_the_fit_finds_the_inside_and_paints_it_into_people_not_seen():
    frames, model = drawn(), MouthLayer(24)
    assert fit_mouth(model, frames, 1e-3, 1.0) > 0.9
    gap = torch.tensor([0.3, 0.2])
    points = face_points(gap, torch.tensor([0.3, -0.2]))
    source = face_points(torch.zeros(2), torch.zeros(2))
    image = torch.full((2, 3, SIZE, SIZE), 0.5)
    painted = model(image, source, points, torch.zeros(2, 3))
    middle = points[:, list(INNER_LIPS)].mean(1)
    seen = torch.nn.functional.grid_sample(painted, middle[:, None, None], align_corners=False)[:, :, 0, 0]
    torch.testing.assert_close(seen, inside_colour(gap), atol=0.03, rtol=0)
    changed = (painted - image).abs().amax(1) > 1e-6
    far = (identity_grid(SIZE, SIZE, image.device)[0] - middle[:, None, None]).norm(dim=-1) > 0.4
    assert changed.any(2).any(1).all() and not changed[far].any()


def test_colours_that_bend_with_the_gap_are_followed():
    frames, model = drawn(400, curved_colour), MouthLayer(16)
    assert fit_mouth(model, frames, 1e-3, 1.0) > 0.98, "a fit that is linear in the contour explains 0.74"
    gap = torch.tensor([0.1, 0.2, 0.35])
    points, image = face_points(gap, torch.zeros(3)), torch.full((3, 3, SIZE, SIZE), 0.5)
    painted = model(image, face_points(torch.zeros(3), torch.zeros(3)), points, torch.zeros(3, 3))
    middle = points[:, list(INNER_LIPS)].mean(1)
    seen = torch.nn.functional.grid_sample(painted, middle[:, None, None], align_corners=False)[:, :, 0, 0]
    torch.testing.assert_close(seen, curved_colour(gap), atol=0.06, rtol=0)


def teeth(n: int, seed: int) -> FrameSet:
    """People whose mouths, with the edge of their teeth, lie at different heights (n people, 12 frames each).

    Each person's first six frames are the calm enrolment clip, in the others the lower lip has sunk and bares white above and black below.
    """
    generator = torch.Generator().manual_seed(seed)
    height = 0.2 * torch.rand(n, generator=generator) - 0.1
    person = torch.arange(n).repeat_interleave(12)
    calm = torch.arange(12).repeat(n) < 6
    points = face_points(torch.zeros(len(person)), torch.zeros(len(person)))
    scale = 0.9
    points[:, list(INNER_LIPS), 1] += scale * height[person][:, None]
    opened = torch.where(calm, 0.0, 0.25 + 0.1 * torch.rand(len(person), generator=generator))
    for k in (65, 66, 67):
        points[:, k, 1] += scale * opened
    grid = identity_grid(SIZE, SIZE, torch.device("cpu"))[0]
    edge = 0.05 + scale * (0.3 + height[person] + 0.1)
    inside = torch.where(grid[..., 1] < edge[:, None, None], 0.9, 0.1)
    images = torch.where(opened[:, None, None] > 0, inside, 0.5)[:, None].repeat(1, 3, 1, 1)
    order, still = torch.arange(len(person)), torch.zeros(len(person), dtype=torch.bool)
    landmarks = (points + 1) * (SIZE / 2) - 0.5
    return FrameSet((255 * images).round().byte(), landmarks, person, still, calm, order, order, order, torch.zeros(len(person), E + 6))


def test_teeth_hang_where_the_persons_own_lip_rests():
    frames = teeth(40, 0)
    model = MouthLayer(24)
    assert fit_mouth(model, frames, 1e-3, 1.0) > 0.92, "0.86 in a frame that knows nothing of the person"
    points, grey, none = unit_points(frames.landmarks, SIZE), torch.full((1, 3, SIZE, SIZE), 0.5), torch.zeros(1, 3)
    closed, opened = points[:1], points[6:7]
    painted = model(grey, closed, opened, none)
    assert (painted != 0.5).any()
    for part in (closed, opened):
        part[:, list(INNER_LIPS), 1] += 4 * 2 / SIZE
    torch.testing.assert_close(model(grey, closed, opened, none), painted.roll(4, 2), atol=1e-3, rtol=0)


def test_the_gain_widens_the_colours_about_their_mean():
    one, more = MouthLayer(16), MouthLayer(16)
    frames = drawn(60)
    assert fit_mouth(one, frames, 1e-3, 1.0) == fit_mouth(more, frames, 1e-3, 1.5)
    torch.testing.assert_close(more.maps[1:], 1.5 * one.maps[1:])
    mean = (1.5 * one.maps[0] - more.maps[0]) / 0.5
    torch.testing.assert_close(mean, mean[:, :1, :1].expand_as(mean), atol=1e-4, rtol=0)


def test_closed_lips_and_what_the_source_shows_stay():
    model = MouthLayer(24)
    image = torch.rand(1, 3, SIZE, SIZE)
    closed, opened = face_points(torch.zeros(1), torch.zeros(1)), face_points(torch.full((1,), 0.3), torch.zeros(1))
    assert model(image, closed, opened, torch.zeros(1, 3)) is image, "not fitted"
    fit_mouth(model, drawn(), 1e-3, 1.0)
    torch.testing.assert_close(model(image, opened, closed, torch.zeros(1, 3)), image)
    torch.testing.assert_close(model(image, opened, opened, torch.zeros(1, 3)), image)
    half = model(image, face_points(torch.full((1,), 0.15), torch.zeros(1)), opened, torch.zeros(1, 3))
    whole = model(image, closed, opened, torch.zeros(1, 3))
    torch.testing.assert_close(half - image, (whole - image) / 2, atol=0.02, rtol=0)


@pytest.mark.parametrize("change", ["no landmarks", "all closed"])
def test_without_parted_lips_nothing_is_laid(change):
    frames = drawn(20)
    if change == "no landmarks":
        frames.landmarks.fill_(torch.nan)
    else:
        frames.landmarks.copy_((face_points(torch.zeros(20), torch.zeros(20)) + 1) * (SIZE / 2) - 0.5)
    model = MouthLayer(24)
    assert fit_mouth(model, frames, 1e-3, 1.0) == 0
    assert not model.is_fitted


def test_unit_points_are_the_frames_own():
    frames = drawn(4)
    points = unit_points(frames.landmarks, SIZE)
    model = MouthLayer(16)
    model.face.copy_(points[0])
    contour = model.contour(points, *model.to_face(points))
    assert contour.shape == (4, 8, 2)
    torch.testing.assert_close(contour[0], points[0, list(INNER_LIPS)], atol=1e-5, rtol=0)
