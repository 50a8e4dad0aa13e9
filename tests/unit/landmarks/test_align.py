"""Alignment to a template: exact on similarities, and a mirror image is a mirror image."""

from __future__ import annotations

import math

import torch

from flowvqtalker.landmarks import align


def make_points(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 68, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_similarity_recovers_a_known_one():
    points = make_points(4, 0)
    angle = torch.tensor([0.3, -0.2, 1.0, 3.0], dtype=torch.float64)
    turn = 1.7 * torch.stack([torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1)
    known = torch.cat([turn, torch.tensor([0.2, -0.4], dtype=torch.float64).expand(4, 2)[:, :, None]], 2)
    found = align.similarity(points, align.apply(known, points))
    torch.testing.assert_close(found, known)
    torch.testing.assert_close(align.apply_inverse(found, align.apply(known, points)), points)


def test_similarity_is_the_least_squares_one():
    """No small change of angle, scale or place makes the weighted error smaller."""
    source, target = make_points(1, 1), make_points(1, 2)
    best = align.similarity(source, target)

    def error(matrix: torch.Tensor) -> torch.Tensor:
        return ((align.apply(matrix, source) - target).square().sum(-1) * align.RIGID_WEIGHTS).sum()

    for step in (1e-3, -1e-3):
        cos, sin = math.cos(step), math.sin(step)
        turned = torch.tensor([[[cos, -sin, 0], [sin, cos, 0]]], dtype=torch.float64)
        scaled = torch.tensor([[[1 + step, 0, 0], [0, 1 + step, 0]]], dtype=torch.float64)
        moved = torch.tensor([[[1, 0, step], [0, 1, 0]]], dtype=torch.float64)
        for change in (turned, scaled, moved):
            assert error(align.compose(change, best)) > error(best)


def test_template_is_symmetric_and_fits_the_picture():
    template = align.mean_shape(make_points(30, 3))
    torch.testing.assert_close(align.mirror_points(template[None])[0], template, atol=1e-9, rtol=0)
    assert template.abs().max() < 0.75


def test_look_shows_where_the_matrix_points():
    picture = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    picture[0, 16, 40] = 255  # (u, v) = (40.5, 16.5) / 32 - 1
    place = torch.tensor([40.5 / 32 - 1, 16.5 / 32 - 1])
    matrix = torch.tensor([[[0.5, 0.0, place[0]], [0.0, 0.5, place[1]]]])
    seen = align.look(picture, matrix, 64)[0, 0]
    v, u = divmod(int(seen.argmax()), 64)
    assert abs(u - 31.5) <= 1.5 and abs(v - 31.5) <= 1.5
