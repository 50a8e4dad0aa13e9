"""Perspective projection of a posed head with analytic derivatives, and a closed-form first pose.

Frames and signs are those of docs/conventions.md: ``v_world = R v + t`` with ``R = Rz Ry Rx``, camera at (0, 0, distance) looking along
-z, ``u = cx + f X / (d - Z)``, ``v = cy - f Y / (d - Z)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowvqtalker.face.camera import Camera
from flowvqtalker.face.pose import matrix_to_euler


def rotation_with_derivatives(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation of Euler angles (rx, ry, rz) and its three partial derivatives.

    Args:
        angles: (T, 3) rad.

    Returns:
        R (T, 3, 3) with ``R = Rz Ry Rx`` and dR (T, 3, 3, 3), where ``dR[:, k]`` is the derivative by angle k.
    """
    cos, sin = torch.cos(angles), torch.sin(angles)
    zero, one = torch.zeros_like(cos[:, 0]), torch.ones_like(cos[:, 0])

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, dim=-1).reshape(-1, 3, 3)

    (cx, cy, cz), (sx, sy, sz) = cos.unbind(-1), sin.unbind(-1)
    rot_x, d_x = matrix(one, zero, zero, zero, cx, -sx, zero, sx, cx), matrix(zero, zero, zero, zero, -sx, -cx, zero, cx, -sx)
    rot_y, d_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy), matrix(-sy, zero, cy, zero, zero, zero, -cy, zero, -sy)
    rot_z, d_z = matrix(cz, -sz, zero, sz, cz, zero, zero, zero, one), matrix(-sz, -cz, zero, cz, -sz, zero, zero, zero, zero)
    zy, yx = rot_z @ rot_y, rot_y @ rot_x
    return zy @ rot_x, torch.stack([zy @ d_x, rot_z @ d_y @ rot_x, d_z @ yx], dim=1)


def project_with_jacobian(points: Tensor, pose: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Projection with its derivatives by pose and by the head-frame point.

    Args:
        points: (T, L, 3) cm.
        pose: (T, 6) rad and cm.
        camera: the camera.

    Returns:
        uv (T, L, 2) px; J_pose (T, L, 2, 6) px per rad or cm; J_point (T, L, 2, 3) px per cm.
    """
    rotation, derivatives = rotation_with_derivatives(pose[:, :3])
    world = points @ rotation.transpose(1, 2) + pose[:, None, 3:]
    depth = camera.distance_cm - world[..., 2]
    scale = camera.focal_px / depth
    zero = torch.zeros_like(scale)
    x_slope, y_slope = scale * world[..., 0] / depth, scale * world[..., 1] / depth
    j_world = torch.stack([torch.stack([scale, zero, x_slope], -1), torch.stack([zero, -scale, -y_slope], -1)], -2)
    uv = torch.stack([camera.cx + scale * world[..., 0], camera.cy - scale * world[..., 1]], -1)
    moved = points[:, None] @ derivatives.transpose(2, 3)  # (T, 3, L, 3): velocity of each point under each angle
    j_angles = j_world @ moved.permute(0, 2, 3, 1)
    return uv, torch.cat([j_angles, j_world], -1), j_world @ rotation[:, None]


def first_pose(points: Tensor, landmarks: Tensor, weights: Tensor, camera: Camera) -> Tensor:
    """Closed-form pose from an affine camera: least squares, orthogonalise, read scale as distance.

    The classical "pose from orthography and scaling" start; perspective is left to the iterations that follow.

    Args:
        points: (T, L, 3) or (L, 3) cm.
        landmarks: (T, L, 2) px, finite.
        weights: (L,) weight of each point.
        camera: the camera.

    Returns:
        (T, 6) pose in rad and cm.
    """
    n_frames = landmarks.shape[0]
    points = points.expand(n_frames, -1, -1)
    share = (weights / weights.sum())[None, :, None]
    centre3, centre2 = (points * share).sum(1), (landmarks * share).sum(1)
    a = (points - centre3[:, None]) * share.sqrt()
    b = (landmarks - centre2[:, None]) * share.sqrt()
    # A ridge keeps a nearly flat set of points solvable.
    gram = a.transpose(1, 2) @ a
    gram = gram + 1e-4 * gram.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None] * torch.eye(3, dtype=gram.dtype, device=gram.device)
    affine = torch.linalg.solve(gram, a.transpose(1, 2) @ b).transpose(1, 2)  # (T, 2, 3) px per cm
    affine = affine * affine.new_tensor([1.0, -1.0])[None, :, None]  # image v grows downwards
    u, s, vt = torch.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    rotation = torch.cat([rows, torch.linalg.cross(rows[:, 0], rows[:, 1])[:, None]], 1)
    scale = s.mean(-1).clamp_min(1e-6)
    depth = camera.focal_px / scale
    middle = torch.stack([(centre2[:, 0] - camera.cx) / scale, -(centre2[:, 1] - camera.cy) / scale, camera.distance_cm - depth], -1)
    translation = middle - (rotation @ centre3[..., None])[..., 0]
    return torch.cat([matrix_to_euler(rotation), translation], -1)
