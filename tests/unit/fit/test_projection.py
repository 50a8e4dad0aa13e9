"""Analytic derivatives against autograd, and the closed-form first pose."""

import math

import torch

from flowvqtalker.face.camera import Camera, crop_camera, project
from flowvqtalker.face.pose import euler_to_matrix, transform
from flowvqtalker.fit.projection import first_pose, project_with_jacobian, rotation_with_derivatives


def _poses(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 6, dtype=torch.float64, generator=generator) * torch.tensor([0.3, 0.4, 0.2, 2.0, 2.0, 4.0], dtype=torch.float64)


def test_rotation_is_the_house_rotation_and_its_derivatives_are_right():
    angles = _poses(7)[:, :3]
    rotation, derivatives = rotation_with_derivatives(angles)
    torch.testing.assert_close(rotation, euler_to_matrix(angles))
    jacobian = torch.autograd.functional.jacobian(lambda a: euler_to_matrix(a).sum(0), angles).permute(2, 3, 0, 1)
    torch.testing.assert_close(derivatives, jacobian)


def test_projection_jacobians_equal_autograd(basis):
    camera = crop_camera(128)
    pose, points = _poses(3), basis.mean[None].repeat(3, 1, 1)
    uv, j_pose, j_point = project_with_jacobian(points, pose, camera)
    torch.testing.assert_close(uv, project(transform(points, pose), camera))
    by_pose = torch.autograd.functional.jacobian(lambda q: project(transform(points, q), camera).sum(0), pose).permute(2, 0, 1, 3)
    torch.testing.assert_close(j_pose, by_pose)
    by_point = torch.autograd.functional.jacobian(lambda p: project(transform(p, pose), camera).sum((0, 1)), points).permute(1, 2, 0, 3)
    torch.testing.assert_close(j_point, by_point)


def test_first_pose_is_exact_for_a_distant_camera_and_close_for_ours(basis):
    pose = _poses(20)
    weights = torch.ones(68, dtype=torch.float64)
    far = Camera(focal_px=64000.0, cx=63.5, cy=63.5, distance_cm=10000.0)
    for camera, degrees in ((far, 1.0), (crop_camera(128), 12.0)):
        landmarks = project(transform(basis.mean, pose), camera)
        found = first_pose(basis.mean, landmarks, weights, camera)
        turn = euler_to_matrix(found[:, :3]).transpose(1, 2) @ euler_to_matrix(pose[:, :3])
        angle = torch.acos(((turn.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2).clamp(-1, 1))
        assert math.degrees(angle.max()) < degrees
        assert (found[:, 3:5] - pose[:, 3:5]).abs().max() < 1.5
