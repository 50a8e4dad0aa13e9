"""Ours against pytorch3d, where it is installed: rotations, cameras, visibility, weights, depth, gradients, and a whole refinement."""

import math

import numpy as np
import pytest
import torch

from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import Camera, crop_camera
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.face.pose import euler_to_matrix, matrix_to_euler, rotation_angle, transform
from flowvqtalker.fit.photometric import PhotometricConfig, refine_photometric, render_sh
from flowvqtalker.fit.solver import Fit
from flowvqtalker.render.pytorch3d import PyTorch3DRasterizer, is_available
from flowvqtalker.render.torchraster import TorchRasterizer, to_screen

pytorch3d = pytest.importorskip("pytorch3d", reason="pytorch3d is not installed (`make pytorch3d` builds it)")
needs_renderer = pytest.mark.skipif(not is_available(), reason="pytorch3d is installed without its compiled renderer")


def angles(n: int = 200) -> torch.Tensor:
    return torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2


def heads(size: tuple[int, int] = (80, 96), n: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Camera]:
    """Screen (n, V, 3) float32, triangles, world points, pose and camera of talking clay heads in a picture that is not square."""
    model = make_face_model("clay")
    beta = torch.zeros(n, 53)
    beta[:, EXPRESSION_INDEX["jawOpen"]] = torch.linspace(0.1, 0.6, n)
    pose = torch.zeros(n, 6)
    pose[:, 1], pose[:, 0], pose[:, 3], pose[:, 5] = torch.linspace(-0.4, 0.5, n), 0.15, 1.0, -3.0
    height, width = size
    camera = Camera(focal_px=2.6 * height, cx=(width - 1) / 2 + 3.0, cy=(height - 1) / 2 - 2.0, distance_cm=60.0)
    vertices = model.vertices(torch.zeros(model.n_identity), beta)
    triangles = torch.as_tensor(model.triangles, dtype=torch.int64)
    return to_screen(vertices, pose, camera), triangles, transform(vertices, pose), pose, camera


def test_rotations_are_the_same_matrices_and_angles():
    from pytorch3d import transforms

    ours = euler_to_matrix(angles())
    torch.testing.assert_close(ours, transforms.euler_angles_to_matrix(angles().flip(-1), "ZYX"), atol=1e-12, rtol=0)
    torch.testing.assert_close(matrix_to_euler(ours), transforms.matrix_to_euler_angles(ours, "ZYX").flip(-1), atol=1e-10, rtol=0)
    torch.testing.assert_close(rotation_angle(ours), transforms.matrix_to_axis_angle(ours).norm(dim=-1), atol=1e-9, rtol=0)
    assert float(rotation_angle(ours).max()) > math.radians(60)


@needs_renderer
def test_our_pixels_are_those_of_its_mesh_rasterizer_behind_its_own_camera():
    """The whole chain on their side: their camera from our numbers, their MeshRasterizer; no conversion of ours takes part."""
    from pytorch3d.renderer import MeshRasterizer, PerspectiveCameras, RasterizationSettings
    from pytorch3d.structures import Meshes

    height, width = 80, 96
    screen, triangles, world, _, camera = heads((height, width))
    # Their camera looks along +z with +x left and +y up, their pixel centres lie at half-integers.
    turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))[None].expand(2, -1, -1)
    cameras = PerspectiveCameras(
        focal_length=((camera.focal_px, camera.focal_px),), principal_point=((camera.cx + 0.5, camera.cy + 0.5),),
        R=turn, T=torch.tensor([[0.0, 0.0, camera.distance_cm]]).expand(2, -1), image_size=((height, width),), in_ndc=False,
    )  # fmt: skip
    settings = RasterizationSettings(image_size=(height, width), blur_radius=0.0, faces_per_pixel=1, perspective_correct=True)
    theirs = MeshRasterizer(cameras, settings)(Meshes(verts=world, faces=triangles[None].expand(2, -1, -1)))
    ours = TorchRasterizer()(screen, triangles, (height, width))
    face = torch.where(theirs.pix_to_face < 0, -1, theirs.pix_to_face % len(triangles))[..., 0]
    same = face == ours.pix_to_face
    assert same.double().mean() > 0.998 and 0.2 < (face >= 0).double().mean() < 0.95
    same &= face >= 0
    torch.testing.assert_close(ours.zbuf[same], theirs.zbuf[..., 0][same], atol=2e-3, rtol=0)
    assert (ours.bary[same] - theirs.bary_coords[..., 0, :][same]).abs().mean() < 1e-3


@needs_renderer
def test_the_adapter_answers_like_the_torch_rasteriser():
    screen, triangles, *_ = heads()
    ours, theirs = TorchRasterizer()(screen, triangles, (80, 96)), PyTorch3DRasterizer()(screen, triangles, (80, 96))
    same = ours.pix_to_face == theirs.pix_to_face
    assert same.double().mean() > 0.998
    assert ((theirs.bary == 0).all(-1) == (theirs.pix_to_face < 0)).all() and ((theirs.zbuf == -1) == (theirs.pix_to_face < 0)).all()
    same &= ours.pix_to_face >= 0
    torch.testing.assert_close(ours.zbuf[same], theirs.zbuf[same], atol=2e-3, rtol=0)
    assert (ours.bary[same] - theirs.bary[same]).abs().mean() < 1e-3


@needs_renderer
def test_gradients_of_depth_agree():
    screen, triangles, *_ = heads(n=1)
    weight = torch.rand(1, 80, 96, generator=torch.Generator().manual_seed(1))
    gradients = []
    same = TorchRasterizer()(screen, triangles, (80, 96)).pix_to_face == PyTorch3DRasterizer()(screen, triangles, (80, 96)).pix_to_face
    for rasterize in (TorchRasterizer(), PyTorch3DRasterizer()):
        leaf = screen.clone().requires_grad_()
        fragments = rasterize(leaf, triangles, (80, 96))
        (fragments.zbuf * weight * (same & (fragments.pix_to_face >= 0))).sum().backward()
        gradients.append(leaf.grad)
    ours, theirs = gradients
    assert ours is not None and theirs is not None
    assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


@needs_renderer
def test_double_precision_and_what_lies_behind_the_camera():
    screen, triangles, *_ = heads(n=1)
    double = PyTorch3DRasterizer()(screen.double(), triangles, (80, 96))
    assert double.bary.dtype == double.zbuf.dtype == torch.float64
    behind = torch.tensor([[[10.0, 10.0, -5.0], [40.0, 10.0, -5.0], [10.0, 40.0, -5.0]]])
    for rasterize in (TorchRasterizer(), PyTorch3DRasterizer()):
        assert (rasterize(behind, torch.tensor([[0, 1, 2]]), (80, 96)).pix_to_face == -1).all()


@needs_renderer
def test_photometric_refinement_is_the_same_with_either_rasteriser():
    model, frames, camera = make_face_model("clay"), 2, crop_camera(64)
    alpha, beta, pose = torch.zeros(model.n_identity), torch.zeros(frames, 53), torch.zeros(frames, 6)
    pose[:, 1] = torch.tensor([-0.2, 0.2])
    gamma = torch.zeros(frames, 3, 9)
    gamma[:, :, 0], gamma[:, :, 3] = 2.0, 0.4
    albedo = 0.5 + 0.25 * torch.sin(torch.as_tensor(model.mean) * 1.3)
    triangles = torch.as_tensor(model.triangles, dtype=torch.int64)
    image, _ = render_sh(model.vertices(alpha, beta), pose, triangles, albedo, gamma.flatten(1), camera, 64, TorchRasterizer())
    pictures = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    off = pose.numpy() + np.array([0, 0.05, 0, 0, 0, 0], np.float32)
    start = Fit(alpha.numpy(), beta.numpy(), off, np.zeros(frames, np.float32), 0.0)
    config = PhotometricConfig(steps=4, lr=0.004, landmark_weight=0.0, batch=frames)
    ours, theirs = (
        refine_photometric(model, start, pictures, gamma.flatten(1).numpy(), camera, config, rasterize)
        for rasterize in (TorchRasterizer(), PyTorch3DRasterizer())
    )
    moved = np.abs(ours.pose - off).max()
    assert moved > 1e-3
    assert np.abs(ours.pose - theirs.pose).max() < 0.1 * moved
