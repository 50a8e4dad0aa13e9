"""The torch rasteriser against geometry with known answers, and against the other rasterisers."""

import numpy as np
import pytest
import torch

from flowvqtalker.face.camera import crop_camera, project
from flowvqtalker.face.pose import transform
from flowvqtalker.render.pytorch3d import is_available, make_rasterizer
from flowvqtalker.render.torchraster import TorchRasterizer, interpolate_attributes, to_screen


def sphere(n_rings: int = 24, n_sides: int = 48, radius_cm: float = 9.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices (V, 3) and counter-clockwise triangles (F, 3) of a ball."""
    polar, turn = np.meshgrid(np.linspace(0, np.pi, n_rings + 1), np.arange(n_sides) * 2 * np.pi / n_sides, indexing="ij")
    vertices = radius_cm * np.stack([np.sin(polar) * np.sin(turn), np.cos(polar), np.sin(polar) * np.cos(turn)], -1).reshape(-1, 3)
    at = np.arange((n_rings + 1) * n_sides).reshape(n_rings + 1, n_sides)
    a, b, c, d = at[:-1], np.roll(at, -1, 1)[:-1], at[1:], np.roll(at, -1, 1)[1:]
    faces = np.concatenate([np.stack([a, c, d], -1).reshape(-1, 3), np.stack([a, d, b], -1).reshape(-1, 3)])
    return torch.tensor(vertices), torch.tensor(faces)


def scene():
    vertices, triangles = sphere()
    pose = torch.tensor([[0.1, 0.4, -0.2, 1.0, -2.0, 3.0], [0, -0.3, 0, 0, 0, 0]], dtype=torch.float64)
    return to_screen(vertices.expand(2, -1, -1), pose, crop_camera(96)), triangles, vertices, pose


def test_one_triangle_covers_the_pixels_whose_centres_it_holds():
    screen = torch.tensor([[[0.5, 0.5, 10.0], [6.5, 0.5, 10.0], [0.5, 6.5, 10.0]]], dtype=torch.float64)
    faces = TorchRasterizer()(screen, torch.tensor([[0, 1, 2]]), (8, 8)).pix_to_face[0]
    v, u = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    expected = (u >= 1) & (v >= 1) & (u + v <= 7)
    assert torch.equal(faces >= 0, expected)


def test_the_nearer_triangle_hides_the_other():
    corners = [[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]]
    screen = torch.tensor([[[u, v, 12.0] for u, v in corners] + [[u, v, 9.0] for u, v in corners]])
    fragments = TorchRasterizer()(screen, torch.tensor([[0, 1, 2], [5, 4, 3]]), (10, 10))
    assert (fragments.pix_to_face == 1).all() and torch.allclose(fragments.zbuf, torch.tensor(9.0))


def test_weights_reproduce_world_points_and_project_back_to_their_pixels():
    screen, triangles, vertices, pose = scene()
    fragments = TorchRasterizer()(screen, triangles, (96, 96))
    hit = fragments.pix_to_face >= 0
    assert 0.3 < hit.double().mean() < 0.9
    torch.testing.assert_close(fragments.bary.sum(-1)[hit], torch.ones(int(hit.sum()), dtype=torch.float64))
    assert (fragments.bary[~hit] == 0).all() and (fragments.zbuf[~hit] == -1).all()
    world = interpolate_attributes(fragments, triangles, transform(vertices.expand(2, -1, -1), pose))
    uv = project(world[hit], crop_camera(96))
    _, v, u = hit.nonzero(as_tuple=True)
    torch.testing.assert_close(uv, torch.stack([u, v], -1).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(60.0 - world[..., 2][hit], fragments.zbuf[hit])
    # Every visible point lies on the near side of the ball, up to the flatness of its facets.
    outwards = interpolate_attributes(
        fragments, triangles, transform(vertices.expand(2, -1, -1), torch.cat([pose[:, :3], 0 * pose[:, 3:]], 1))
    )
    to_camera = torch.tensor([0, 0, 60.0], dtype=torch.float64) - world
    assert ((outwards * to_camera).sum(-1)[hit] > -0.05 * 9 * 60).all()


def test_gradient_of_depth_equals_finite_differences():
    screen, triangles, _, _ = scene()
    screen = screen[:1].clone().requires_grad_()
    rasterize = TorchRasterizer()
    fragments = rasterize(screen, triangles, (96, 96))
    weight = torch.rand(fragments.zbuf.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * (fragments.zbuf > 0)
    (fragments.zbuf * weight).sum().backward()
    vertex = int(triangles[fragments.pix_to_face[0, 48, 48], 0])
    for axis in range(3):
        moved = []
        for step in (1e-5, -1e-5):
            other = screen.detach().clone()
            other[0, vertex, axis] += step
            again = rasterize(other, triangles, (96, 96))
            assert torch.equal(again.pix_to_face, fragments.pix_to_face)
            moved.append((again.zbuf * weight).sum())
        assert screen.grad[0, vertex, axis].item() == pytest.approx(((moved[0] - moved[1]) / 2e-5).item(), rel=1e-4, abs=1e-6)


def test_what_lies_outside_the_picture_or_behind_the_camera_is_not_drawn():
    screen = torch.tensor(
        [[[-50.0, -50.0, 5.0], [-40.0, -50.0, 5.0], [-50.0, -40.0, 5.0], [0.0, 0.0, -5.0], [20.0, 0.0, -5.0], [0.0, 20.0, -5.0]]]
    )
    fragments = TorchRasterizer()(screen, torch.tensor([[0, 1, 2], [3, 4, 5]]), (8, 8))
    assert (fragments.pix_to_face == -1).all()


def test_make_rasterizer_names_what_it_knows():
    assert isinstance(make_rasterizer("auto"), TorchRasterizer)
    with pytest.raises(ValueError, match="torch, pytorch3d or auto"):
        make_rasterizer("vulkan")
    if not is_available():
        with pytest.raises(ImportError, match="pytorch3d"):
            make_rasterizer("pytorch3d")


@pytest.mark.skipif(not is_available(), reason="pytorch3d with its compiled renderer is not installed")
def test_pytorch3d_answers_alike():
    screen, triangles, _, _ = scene()
    ours = TorchRasterizer()(screen.float(), triangles, (96, 96))
    theirs = make_rasterizer("pytorch3d")(screen.float(), triangles, (96, 96))
    assert (ours.pix_to_face == theirs.pix_to_face).double().mean() > 0.999
    same = (ours.pix_to_face == theirs.pix_to_face) & (ours.pix_to_face >= 0)
    torch.testing.assert_close(ours.bary[same], theirs.bary[same], atol=1e-3, rtol=0)


def test_rotations_equal_pytorch3d():
    transforms = pytest.importorskip("pytorch3d.transforms", reason="pytorch3d is the reference of the rotations and is not installed")
    angles = torch.tensor([[0.3, -0.5, 0.2], [-0.1, 0.7, 1.0]], dtype=torch.float64)
    from flowvqtalker.face.pose import euler_to_matrix

    torch.testing.assert_close(euler_to_matrix(angles), transforms.euler_angles_to_matrix(angles.flip(-1), "ZYX"))


def test_numba_rasteriser_answers_alike():
    from flowvqtalker.render.raster import rasterize

    screen, triangles, vertices, pose = scene()
    ours = TorchRasterizer()(screen.float(), triangles, (96, 96))
    world = transform(vertices.expand(2, -1, -1), pose).float().numpy()
    for index in range(2):
        theirs = rasterize(world[index], triangles.numpy().astype(np.int32), crop_camera(96), (96, 96))
        same = ours.pix_to_face[index].numpy() == theirs.triangle
        assert same.mean() > 0.998  # pixels whose centre lies on an edge may go to either side
        same &= theirs.triangle >= 0
        np.testing.assert_allclose(ours.zbuf[index].numpy()[same], theirs.depth[same], atol=1e-2)
        np.testing.assert_allclose(ours.bary[index].numpy()[same], theirs.barycentric[same], atol=5e-3)
