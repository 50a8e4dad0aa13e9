"""Photometric refinement on pictures rendered by the same light model, from a start that is off."""

import numpy as np
import torch

from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import crop_camera
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.fit.agreement import rotation_error_deg
from flowvqtalker.fit.light import SkinPatches, estimate_light, sh_basis
from flowvqtalker.fit.photometric import PhotometricConfig, refine_photometric, render_sh
from flowvqtalker.fit.solver import Fit
from flowvqtalker.render.torchraster import TorchRasterizer

SIZE, N = 64, 4
CAMERA = crop_camera(SIZE)


def pictures():
    """A head that turns: frames (N, S, S, 3) uint8, light (N, 27), beta (N, 53), pose (N, 6)."""
    model = make_face_model("clay")
    beta = torch.zeros(N, 53)
    beta[:, EXPRESSION_INDEX["jawOpen"]] = torch.linspace(0.1, 0.4, N)
    pose = torch.zeros(N, 6)
    pose[:, 1] = torch.linspace(-0.25, 0.25, N)
    gamma = torch.zeros(N, 3, 9)
    gamma[:, :, 0], gamma[:, :, 2], gamma[:, :, 3] = 2.0, 0.5, 0.4
    mean = torch.as_tensor(model.mean)
    albedo = 0.5 + 0.25 * torch.sin(mean * 1.3)  # a coloured pattern, so that a shift is seen
    triangles = torch.as_tensor(model.triangles, dtype=torch.int64)
    vertices = model.vertices(torch.zeros(model.n_identity), beta)
    image, mask = render_sh(vertices, pose, triangles, albedo, gamma.flatten(1), CAMERA, SIZE, TorchRasterizer())
    assert 0.2 < mask.mean() < 0.9
    frames = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return model, frames, gamma.flatten(1).numpy(), beta.numpy(), pose.numpy()


def test_refinement_turns_a_head_back():
    model, frames, light, beta, pose = pictures()
    off = pose.copy()
    off[:, 1] += np.radians([3, -3, 3, -3], dtype=np.float32)
    start = Fit(np.zeros(model.n_identity, np.float32), beta, off, np.zeros(N, np.float32), 0.0)
    config = PhotometricConfig(steps=25, lr=0.004, landmark_weight=0.0, batch=N)
    refined = refine_photometric(model, start, frames, light, CAMERA, config, TorchRasterizer())
    before, after = rotation_error_deg(off, pose).mean(), rotation_error_deg(refined.pose, pose).mean()
    assert after < 0.7 * before
    assert refined.beta.min() >= 0 and refined.beta.max() <= 1
    rest = np.setdiff1d(np.arange(53), [EXPRESSION_INDEX["jawOpen"]])
    assert (refined.beta[:, rest] == 0).all()


def test_light_of_a_grey_head_is_read_from_its_skin():
    model, *_ = pictures()
    gamma = torch.zeros(1, 3, 9)
    gamma[:, :, 0], gamma[:, :, 3], gamma[:, :, 2] = 1.8, 0.35, 0.3
    triangles = torch.as_tensor(model.triangles, dtype=torch.int64)
    alpha, beta, pose = torch.zeros(model.n_identity), torch.zeros(1, 53), torch.zeros(1, 6)
    white = torch.ones(model.n_vertices, 3)
    image, _ = render_sh(model.vertices(alpha, beta), pose, triangles, white, gamma.flatten(1), crop_camera(128), 128, TorchRasterizer())
    found = estimate_light(image, SkinPatches.of(model), alpha, beta, pose, crop_camera(128)).reshape(3, 9)
    # Visible normals do not tell all bands apart (x from x z, say), but the light that falls on them has to be right.
    turn = torch.linspace(-0.9, 0.9, 7)
    normals = torch.stack([turn.sin(), torch.zeros(7), turn.cos()], -1)
    torch.testing.assert_close(sh_basis(normals) @ found.T, sh_basis(normals) @ gamma[0].T, atol=0.05, rtol=0)
