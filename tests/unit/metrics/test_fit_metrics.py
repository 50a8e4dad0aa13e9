"""Metrics of fitted heads on made-up surfaces and motions whose answers are known."""

import numpy as np
import pytest

from flowvqtalker.metrics.fit import (
    SurfacePoints,
    above_neutral,
    acceleration_pct,
    blink_heights,
    match_surface,
    point_errors_pct,
    still_frames,
    still_points,
)


def dome(side: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (side², 3) of a dome over a square, and its triangles."""
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    vertices = np.stack([x, y, 1 - 0.3 * (x**2 + y**2)], -1).reshape(-1, 3)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    triangles = np.concatenate(
        [np.stack([corner, corner + 1, corner + side], 1), np.stack([corner + 1, corner + side + 1, corner + side], 1)]
    )
    return vertices, triangles


def turned(vertices: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Orthographic pictures (F, V, 2) of the dome turned about the vertical axis."""
    return np.stack([np.stack([np.cos(a) * vertices[:, 0] + np.sin(a) * vertices[:, 2], vertices[:, 1]], -1) for a in angles])


def face(n_frames: int) -> np.ndarray:
    """(F, 68, 2) a face at rest: only the eyes have a shape, 100 px between their outer corners."""
    points = np.random.default_rng(0).uniform(0, 200, (68, 2))
    for first, left in ((36, 50.0), (42, 120.0)):
        x = left + 30 * np.array([0, 0.33, 0.67, 1, 0.67, 0.33])
        y = 80 + np.array([0, -5, -5, 0, 5, 5])
        points[first : first + 6] = np.stack([x, y], -1)
    return np.repeat(points[None], n_frames, 0)


def with_blinks(points: np.ndarray, depth: float) -> np.ndarray:
    """Lids that close by a share ``depth`` three times, over five frames."""
    made = points.copy()
    for start in (20, 50, 80):
        for step, share in enumerate((0.4, 0.9, 1.0, 0.9, 0.4)):
            for first in (36, 42):
                for point, side in ((1, 1), (2, 1), (4, -1), (5, -1)):
                    made[start + step, first + point, 1] += side * 5 * share * depth
    return made


def test_points_of_a_surface_are_found_where_they_lie():
    vertices, triangles = dome()
    rng = np.random.default_rng(1)
    chosen = triangles[rng.integers(0, len(triangles), 25)]
    weights = rng.dirichlet((1, 1, 1), 25)
    truth = SurfacePoints(chosen, weights)
    angles = np.linspace(-0.5, 0.5, 7)
    seen = turned(vertices, angles)
    found = match_surface(seen, truth.of(seen), triangles)
    assert np.allclose(found.weights.sum(1), 1)
    # Another view than those that the places were learnt from; a lattice step is a sixth of an edge of 0.25.
    other = turned(vertices, np.array([0.8]))
    assert np.linalg.norm(found.of(other) - truth.of(other), axis=-1).max() < 0.25 / 6


def test_places_are_only_looked_for_on_the_given_triangles():
    vertices, triangles = dome()
    seen = turned(vertices, np.array([-0.2, 0.2]))
    lower = triangles[(vertices[triangles][..., 1] > 0).all(1)]
    found = match_surface(seen, seen[:, :1], lower)
    assert set(found.corners.ravel().tolist()) <= set(np.unique(lower).tolist())


def test_errors_are_in_per_cent_of_the_outer_eye_distance():
    landmarks = face(3)
    points = np.zeros((3, 4, 2))
    errors = point_errors_pct(points + np.array([3.0, 4.0]), points, landmarks)
    assert errors.shape == (3, 4) and np.allclose(errors, 5.0)


def test_a_turning_head_is_not_at_rest_and_a_noisy_one_is():
    rest = face(60)
    noise = 0.2 * np.random.default_rng(2).standard_normal(rest.shape)
    assert still_points(rest + noise, 0.25).mean() > 0.95
    moving = rest + np.arange(60)[:, None, None] * np.array([0.5, 0.0])
    assert not still_points(moving + noise, 0.25).any()


def test_acceleration_of_noise_is_root_six_of_its_deviation():
    noise = 0.4 * np.random.default_rng(3).standard_normal((400, 68, 2))
    points = face(400) + noise
    where = np.ones((398, 68), bool)
    assert acceleration_pct(points, where) == pytest.approx(0.4 * np.sqrt(6) * np.sqrt(2), rel=0.03)
    assert np.isnan(acceleration_pct(points, ~where))


def test_blinks_of_half_the_depth_are_half_as_high():
    raw = with_blinks(face(110), 0.9)
    assert np.allclose(blink_heights(raw, raw), 1) and len(blink_heights(raw, raw)) == 3
    assert np.allclose(blink_heights(raw, with_blinks(face(110), 0.45)), 0.5)
    assert np.allclose(blink_heights(raw, face(110)), 0)
    assert len(blink_heights(face(110), raw)) == 0


def test_above_neutral_counts_in_the_neutral_clips_own_deviations():
    neutral = np.array([0.1, 0.3, 0.1, 0.3])
    assert above_neutral(np.array([0.5, 0.7]), neutral) == pytest.approx(4.0)


def test_a_face_is_still_when_nearly_all_of_it_rests():
    landmarks = np.repeat(np.random.default_rng(0).uniform(20, 100, (1, 68, 2)), 80, 0)
    landmarks[:, 36], landmarks[:, 45] = (40, 50), (80, 50)
    assert still_frames(landmarks, 0.25).all()
    moved = landmarks.copy()
    moved[40:, 48:68] += np.arange(40)[:, None, None]  # a mouth of 20 points
    assert still_frames(moved, 0.25)[:25].all() and not still_frames(moved, 0.25)[45:].any()
    assert still_points(moved, 0.25)[45:, :17].all()
