"""Head pose: six numbers to a rigid motion and back, as docs/conventions.md settles it.

A pose is ``(rx, ry, rz [rad], tx, ty, tz [cm])``; a column vector v of the head frame goes to the world by ``R v + t`` with
``R = Rz(rz) @ Ry(ry) @ Rx(rx)``, each a right-hand rotation about its axis.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def euler_to_matrix(angles: Tensor) -> Tensor:
    """Rotation matrices of Euler angles.

    Args:
        angles: (..., 3) rx, ry, rz [rad], any real value.

    Returns:
        (..., 3, 3) rotation matrices ``Rz @ Ry @ Rx`` of the same dtype.
    """
    (cx, cy, cz), (sx, sy, sz) = torch.cos(angles).unbind(-1), torch.sin(angles).unbind(-1)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_euler(matrix: Tensor) -> Tensor:
    """Euler angles of rotation matrices; the inverse of :func:`euler_to_matrix` for |ry| < pi/2.

    Args:
        matrix: (..., 3, 3) rotation matrices.

    Returns:
        (..., 3) rx, ry, rz [rad], ry in [-pi/2, pi/2]. At |ry| = pi/2 only rx - rz (or rx + rz) is determined: rz is 0 there.
        The gradient stays finite everywhere: the sine of ry is clipped a hair inside [-1, 1].
    """
    limit = 1.0 - (1e-7 if matrix.dtype == torch.float32 else 1e-14)
    ry = torch.asin((-matrix[..., 2, 0]).clamp(-limit, limit))
    locked = matrix[..., 2, 0].abs() >= limit
    # At the lock the entries below vanish; a constant stands in so that atan2 never sees (0, 0), whose gradient is NaN.
    one, zero = torch.ones_like(ry), torch.zeros_like(ry)
    rx_free = torch.atan2(torch.where(locked, zero, matrix[..., 2, 1]), torch.where(locked, one, matrix[..., 2, 2]))
    rz_free = torch.atan2(torch.where(locked, zero, matrix[..., 1, 0]), torch.where(locked, one, matrix[..., 0, 0]))
    rx_lock = torch.atan2(torch.where(locked, -matrix[..., 1, 2], zero), torch.where(locked, matrix[..., 1, 1], one))
    return torch.stack([torch.where(locked, rx_lock, rx_free), ry, torch.where(locked, zero, rz_free)], dim=-1)


def transform(vertices: Tensor, pose: Tensor) -> Tensor:
    """Move points of the head frame into the world.

    Args:
        vertices: (..., N, 3) points [cm].
        pose: (..., 6) poses; leading dimensions broadcast against those of ``vertices``.

    Returns:
        (..., N, 3) world points [cm].
    """
    return vertices @ euler_to_matrix(pose[..., :3]).transpose(-1, -2) + pose[..., None, 3:]


def inverse_transform(points_world: Tensor, pose: Tensor) -> Tensor:
    """Undo :func:`transform`: world points (..., N, 3) [cm] back into the head frame."""
    return (points_world - pose[..., None, 3:]) @ euler_to_matrix(pose[..., :3])


def rotation_angle(matrix: Tensor) -> Tensor:
    """Angle [rad] in [0, pi] of the rotations (..., 3, 3), by atan2 so that small angles keep their digits."""
    skew = torch.stack(
        [matrix[..., 2, 1] - matrix[..., 1, 2], matrix[..., 0, 2] - matrix[..., 2, 0], matrix[..., 1, 0] - matrix[..., 0, 1]], dim=-1
    )
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(torch.linalg.vector_norm(skew, dim=-1), trace - 1.0).clamp(0.0, math.pi)
