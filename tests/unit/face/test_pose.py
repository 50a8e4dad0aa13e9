"""Pose algebra against scipy and against itself."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from flowvqtalker.face.camera import Camera, crop_camera, project
from flowvqtalker.face.pose import euler_to_matrix, inverse_transform, matrix_to_euler, rotation_angle, transform


def _angles(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([-math.pi, -math.pi / 2, -math.pi], dtype=torch.float64)
    return low + torch.rand(count, 3, generator=generator, dtype=torch.float64) * (-2 * low)


def test_matrix_equals_scipy_extrinsic_xyz() -> None:
    angles = _angles(200, 0)
    expected = Rotation.from_euler("xyz", angles.numpy()).as_matrix()
    np.testing.assert_allclose(euler_to_matrix(angles).numpy(), expected, atol=1e-12)


def test_round_trip_of_angles() -> None:
    angles = _angles(500, 1)
    np.testing.assert_allclose(matrix_to_euler(euler_to_matrix(angles)).numpy(), angles.numpy(), atol=1e-6)


@pytest.mark.parametrize("ry", [math.pi / 2, -math.pi / 2])
def test_gimbal_lock_gives_the_same_rotation_and_finite_gradients(ry: float) -> None:
    angles = torch.tensor([0.4, ry, -0.9], dtype=torch.float64)
    matrix = euler_to_matrix(angles).requires_grad_()
    again = matrix_to_euler(matrix)
    np.testing.assert_allclose(euler_to_matrix(again).detach().numpy(), matrix.detach().numpy(), atol=1e-6)
    again.sum().backward()
    assert torch.isfinite(matrix.grad).all()


def test_gradients_against_finite_differences() -> None:
    points = torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    pose = torch.tensor([0.3, -0.2, 0.1, 1.0, 2.0, -3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: transform(points, p), (pose,))
    assert torch.autograd.gradcheck(lambda p: matrix_to_euler(euler_to_matrix(p)), (pose[:3].detach().requires_grad_(),))


def test_directions_follow_the_conventions() -> None:
    nose = torch.tensor([[0.0, 0.0, 10.0]], dtype=torch.float64)
    down = transform(nose, torch.tensor([0.2, 0, 0, 0, 0, 0], dtype=torch.float64))[0]
    left = transform(nose, torch.tensor([0, 0.2, 0, 0, 0, 0], dtype=torch.float64))[0]
    top = transform(torch.tensor([[0.0, 10.0, 0.0]], dtype=torch.float64), torch.tensor([0, 0, 0.2, 0, 0, 0], dtype=torch.float64))[0]
    assert down[1] < 0  # rx > 0 nods
    assert left[0] > 0  # ry > 0 turns to the subject's left
    assert project(top, crop_camera(128))[0] < 63.5  # rz > 0 tilts the crown to the viewer's left


def test_inverse_and_angle() -> None:
    points = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pose = torch.randn(5, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    np.testing.assert_allclose(inverse_transform(transform(points, pose), pose).numpy(), points.numpy(), atol=1e-12)
    expected = Rotation.from_matrix(euler_to_matrix(pose[:, :3]).numpy()).magnitude()
    np.testing.assert_allclose(rotation_angle(euler_to_matrix(pose[:, :3])).numpy(), expected, atol=1e-9)


def test_projection_known_answers() -> None:
    camera = Camera(focal_px=300.0, cx=50.0, cy=40.0, distance_cm=60.0)
    points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 10.0]])
    expected = np.array([[50.0, 40.0], [55.0, 40.0], [50.0, 28.0]])
    np.testing.assert_allclose(project(points, camera).numpy(), expected, atol=1e-5)
    assert crop_camera(128) == Camera(384.0, 63.5, 63.5, 60.0)
    with pytest.raises(ValueError, match="positive"):
        Camera(focal_px=-1.0, cx=0, cy=0, distance_cm=60)
