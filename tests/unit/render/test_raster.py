"""The rasteriser against brute force, and renders that never change."""

import numpy as np
import pytest
import torch

from flowvqtalker.checks import ShapeError
from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import Camera, crop_camera
from flowvqtalker.face.pose import transform
from flowvqtalker.render.background import make_background, smooth_noise
from flowvqtalker.render.raster import rasterize
from flowvqtalker.render.shade import default_light, render_frame, render_frame_with_buffers, sample_light
from flowvqtalker.render.texture import TEXTURE_SIZE, WRINKLES, sample_appearance, wrinkle_maps, wrinkle_weights

torch.set_num_threads(1)


def _brute_force(
    points: np.ndarray, triangles: np.ndarray, camera: Camera, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ray against plane for every pixel and triangle, in 3D: no shared code, no screen-space formulas."""
    found = np.full(size, -1)
    depth = np.full(size, np.inf)
    weights = np.zeros((*size, 3))
    eye = np.array([0.0, 0.0, camera.distance_cm])
    for row in range(size[0]):
        for column in range(size[1]):
            ray = np.array([(column - camera.cx) / camera.focal_px, -(row - camera.cy) / camera.focal_px, -1.0])
            for f, (a, b, c) in enumerate(points[triangles].astype(np.float64)):
                normal = np.cross(b - a, c - a)
                if normal @ ray >= 0:
                    continue
                t = normal @ (a - eye) / (normal @ ray)
                hit = eye + t * ray
                w = np.array([normal @ np.cross(c - b, hit - b), normal @ np.cross(a - c, hit - c), normal @ np.cross(b - a, hit - a)]) / (
                    normal @ normal
                )
                if (w >= -1e-9).all() and 0 < t < depth[row, column] - 1e-9:
                    found[row, column], depth[row, column], weights[row, column] = f, t, w
    return found, depth, weights


def test_against_ray_casting() -> None:
    generator = np.random.default_rng(0)
    camera = Camera(focal_px=60.0, cx=15.7, cy=14.2, distance_cm=60.0)
    points = generator.normal(0, 9, (40, 3)).astype(np.float32)
    triangles = generator.integers(0, 40, (30, 3)).astype(np.int32)
    triangles = triangles[
        (triangles[:, 0] != triangles[:, 1]) & (triangles[:, 1] != triangles[:, 2]) & (triangles[:, 0] != triangles[:, 2])
    ]
    buffers = rasterize(points, triangles, camera, (28, 32))
    found, depth, weights = _brute_force(points, triangles, camera, (28, 32))
    same = buffers.triangle == found
    assert same.mean() > 0.998  # float32 against float64 may differ on an edge
    hit = same & (found >= 0)
    assert hit.sum() > 100
    np.testing.assert_allclose(buffers.depth[hit], depth[hit], rtol=1e-4)
    np.testing.assert_allclose(buffers.barycentric[hit], weights[hit], atol=2e-3)
    assert (buffers.barycentric[buffers.triangle < 0] == 0).all()


def test_neighbours_leave_no_crack() -> None:
    """A fan of thin triangles over the whole image covers every sample, though many edges run through pixel centres."""
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    points = np.concatenate([[[0, 0, 0]], np.stack([80 * np.cos(angles), 80 * np.sin(angles), 0 * angles], 1)]).astype(np.float32)
    triangles = np.array([[0, 1 + k, 1 + (k + 1) % 90] for k in range(90)], np.int32)
    buffers = rasterize(points, triangles, crop_camera(64), (64, 64), samples=2)
    assert (buffers.triangle >= 0).all()


def test_back_faces_and_hidden_triangles_are_left_out() -> None:
    points = np.array([[-5, -5, 0], [5, -5, 0], [0, 5, 0]], np.float32)
    camera = crop_camera(32)
    assert (rasterize(points, np.array([[0, 1, 2]], np.int32), camera, (32, 32)).triangle >= 0).any()
    assert (rasterize(points, np.array([[0, 2, 1]], np.int32), camera, (32, 32)).triangle < 0).all()
    assert (rasterize(points, np.array([[0, 1, 2]], np.int32), camera, (32, 32), drawn=np.zeros(1, np.uint8)).triangle < 0).all()


@pytest.fixture(scope="module")
def scene():
    model = make_face_model("clay")
    generator = np.random.default_rng(4)
    appearance = sample_appearance(generator, model)
    background = make_background(generator, (96, 96))
    return model, appearance, background


def _render(scene, beta: np.ndarray, **changes):
    model, appearance, background = scene
    points = transform(
        torch.from_numpy(model.frame(np.zeros(model.n_identity), beta)), torch.tensor([0.0, 0.1, 0.0, 0.0, 3.0, 0.0])
    ).numpy()
    arguments = {"camera": crop_camera(96), "size": (96, 96), "light": default_light(), "background": background} | changes
    return render_frame(model, points, beta, appearance, **arguments)


def test_renders_are_bit_identical(scene) -> None:
    beta = np.zeros(53, np.float32)
    beta[[0, 26, 45]] = 0.5
    first = _render(scene, beta)
    _render(scene, np.zeros(53, np.float32))  # something else in between must leave no trace
    assert np.array_equal(first, _render(scene, beta))
    assert first.dtype == np.uint8
    assert first.shape == (96, 96, 3)


def test_background_is_kept_where_nothing_is_drawn(scene) -> None:
    model, appearance, background = scene
    far = model.mean + np.array([500.0, 0.0, 0.0], np.float32)
    image = render_frame(model, far, np.zeros(53), appearance, crop_camera(96), (96, 96), default_light(), background)
    assert np.array_equal(image, background)


def test_shapes_are_checked(scene) -> None:
    with pytest.raises(ShapeError, match="background"):
        _render(scene, np.zeros(53, np.float32), size=(64, 64))


def test_light_brightens_and_direction_matters(scene) -> None:
    beta = np.zeros(53, np.float32)
    base = default_light()
    left = type(base)(np.array([-0.8, 0.0, 0.6], np.float32), base.colour, base.sky * 0.4, base.ground * 0.4)
    right = type(base)(np.array([0.8, 0.0, 0.6], np.float32), base.colour, base.sky * 0.4, base.ground * 0.4)
    lit_left, lit_right = (_render(scene, beta, light=light)[30:70].astype(float) for light in (left, right))
    assert lit_left[:, 25:45].mean() > lit_right[:, 25:45].mean() + 10
    assert lit_right[:, 52:72].mean() > lit_left[:, 52:72].mean() + 10


def test_open_mouth_shows_dark_cavity_and_light_teeth(scene) -> None:
    model, appearance, _background = scene
    beta = np.zeros(53, np.float32)
    beta[model.expression_names.index("jawOpen")] = 0.6
    points = transform(torch.from_numpy(model.frame(np.zeros(model.n_identity), beta)), torch.tensor([0.0, 0, 0, 0, 3, 0])).numpy()
    image, buffers = render_frame_with_buffers(
        model, points, beta, appearance, crop_camera(128), (128, 128), default_light(), np.zeros((128, 128, 3), np.uint8)
    )
    part = np.where(buffers.triangle >= 0, model.triangle_part[np.maximum(buffers.triangle, 0)], -1)[::2, ::2]
    teeth = image[np.isin(part, [model.part("teeth_upper"), model.part("teeth_lower")])]
    dark = image[part == model.part("mouth_cavity")]
    assert len(teeth) >= 20
    assert len(dark) >= 20
    assert teeth.mean() > dark.mean() + 50
    assert np.isfinite(buffers.depth[buffers.triangle >= 0]).all()


def test_appearances_are_people(scene) -> None:
    model, _, _ = scene
    one, again, other = (sample_appearance(np.random.default_rng(seed), model) for seed in (1, 1, 2))
    assert np.array_equal(one.texture, again.texture)
    assert not np.array_equal(one.texture, other.texture)
    assert one.texture.shape == (*TEXTURE_SIZE, 4)
    assert one.part_colour.shape == (len(model.part_names), 3)
    assert (one.part_colour >= 0).all()
    assert (one.part_colour <= 1).all()


def test_wrinkles_answer_their_expressions() -> None:
    index = {name: k for k, (name, _) in enumerate(WRINKLES)}
    model = make_face_model("clay")
    beta = np.zeros(53, np.float32)
    assert wrinkle_weights(beta).max() == 0
    beta[[model.expression_names.index(f"browDown_{s}") for s in "LR"]] = 1.0
    weights = wrinkle_weights(beta)
    assert weights[index["frown"]] == pytest.approx(1.0)
    assert weights[index["forehead"]] == 0
    assert wrinkle_maps().min() < -0.2
    assert wrinkle_maps().min() > -1.0


def test_lights_and_noise_are_drawn_from_the_generator_alone() -> None:
    one, two = (sample_light(np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one.direction, two.direction)
    assert np.linalg.norm(one.direction) == pytest.approx(1.0, abs=1e-5)
    noise = smooth_noise(np.random.default_rng(0), (50, 70), 9)
    assert noise.shape == (50, 70)
    assert np.abs(noise).max() <= 1.0
