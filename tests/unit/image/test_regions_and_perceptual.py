from __future__ import annotations

import pytest
import torch

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.image.perceptual import OwnFeatures, SqueezeFeatures, load_perceptual, perceptual_distance, save_perceptual
from flowvqtalker.image.regions import box_mask, brows_mask, eyes_mask, face_mask, loss_weight, mouth_mask


def face_points(size: int = 64) -> torch.Tensor:
    """A rough iBUG face in the middle of a picture."""
    t = torch.linspace(0, torch.pi, 17)
    jaw = torch.stack([-0.35 * t.cos(), 0.1 + 0.35 * t.sin()], 1)
    brows = torch.stack([torch.linspace(-0.25, 0.25, 10), torch.full((10,), -0.15)], 1)
    nose = torch.stack([torch.zeros(9), torch.linspace(-0.08, 0.1, 9)], 1)
    circle = torch.linspace(0, 2 * torch.pi, 7)[:-1]
    eye = torch.stack([0.06 * circle.cos(), 0.03 * circle.sin()], 1)
    ring = torch.linspace(0, 2 * torch.pi, 21)[:-1]
    mouth = torch.stack([0.12 * ring.cos(), 0.22 + 0.05 * ring.sin()], 1)
    points = torch.cat([jaw, brows, nose, eye + torch.tensor([-0.13, -0.05]), eye + torch.tensor([0.13, -0.05]), mouth])
    return (0.5 + points)[None] * size - 0.5


def test_box_mask_known_answer():
    points = torch.tensor([[[2.0, 3.0], [4.0, 5.0]]])
    mask = box_mask(points, 8, 0.0, 0.0)[0, 0]
    assert mask.sum() == 9 and mask[3:6, 2:5].all()


def test_regions_lie_where_the_landmarks_are():
    points = face_points()
    face, mouth, eyes = face_mask(points, 64), mouth_mask(points, 64), eyes_mask(points, 64)
    assert face[0, 0, 32, 32] == 1 and face[0, 0, 0, 0] == 0 and 0.2 < face.mean() < 0.7
    assert mouth[0, 0, int(0.72 * 64), 32] == 1 and eyes[0, 0, int(0.45 * 64), int(0.37 * 64)] == 1
    assert (mouth * eyes).sum() == 0
    brows = brows_mask(points, 64)
    assert (brows * mouth).sum() == 0 and all(brows[0, 0, int(v), int(u)] == 1 for u, v in points[0, 17:27].round())
    inside = points[0].round().long()
    assert face[0, 0, inside[:, 1], inside[:, 0]].float().mean() > 0.85


def test_weights_have_mean_one_and_favour_the_mouth():
    points = face_points()
    heavier = loss_weight(points, 64, 0.0, 0.0, brows=2.0, face=1.0)
    both = (brows_mask(points, 64) * face_mask(points, 64)).bool()
    face_only = (face_mask(points, 64) - brows_mask(points, 64)) > 0
    assert both.any() and face_only.any()
    torch.testing.assert_close(heavier[both], 4 * heavier[0, 0, 0, 0].expand(int(both.sum())))
    torch.testing.assert_close(heavier[face_only], 2 * heavier[0, 0, 0, 0].expand(int(face_only.sum())))
    weight = loss_weight(points, 64, 3.0, 1.0)
    assert weight.mean().item() == pytest.approx(1, abs=1e-5)
    assert weight[0, 0, 46, 32] == 4 * weight[0, 0, 0, 0]
    assert torch.equal(loss_weight(points * torch.nan, 64, 3.0, 1.0), torch.ones(1, 1, 64, 64))


def test_distance_is_zero_for_equal_pictures_and_grows_with_blur():
    torch.manual_seed(0)
    net, image = OwnFeatures(8), torch.rand(2, 3, 64, 64)
    blur = [torch.nn.functional.avg_pool2d(image, k, 1, k // 2) for k in (1, 3, 7)]
    distances = [perceptual_distance(net(b), net(image)).item() for b in blur]
    assert distances[0] == pytest.approx(0, abs=1e-6) and distances[0] < distances[1] < distances[2]


def test_own_network_round_trip_and_missing_weights():
    net = OwnFeatures(8)
    loaded = load_perceptual(save_perceptual(net))
    image = torch.rand(1, 3, 32, 32)
    for a, b in zip(loaded(image), net(image), strict=True):
        torch.testing.assert_close(a, b)
    assert not any(p.requires_grad for p in loaded.parameters())
    with pytest.raises(MissingWeightsError, match="squeezenet1_1"):
        SqueezeFeatures(None)
    with pytest.raises(ValueError, match="unknown kind"):
        load_perceptual({"kind": "judge", "config": {}, "state": {}})
