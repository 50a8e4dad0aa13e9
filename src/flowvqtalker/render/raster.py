"""Numba scanline rasteriser with a z-buffer: deterministic, one thread, no system libraries.

Coordinates follow docs/conventions.md: integer pixel values are pixel centres. A sample belongs to a triangle when it lies inside or on an
edge, so that neighbours never leave a crack; where two triangles are equally near, the lower index wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowvqtalker.face.camera import Camera

Array = NDArray[np.float32]
Index = NDArray[np.int32]


@dataclass(frozen=True)
class Buffers:
    """What a frame's samples see.

    Attributes:
        triangle: (H, W) int32 triangle index, -1 where nothing is hit.
        depth: (H, W) float32 distance from the camera plane [cm], infinite where nothing is hit.
        barycentric: (H, W, 3) float32 perspective-correct weights of the triangle's corners, 0 where nothing is hit.
    """

    triangle: Index
    depth: Array
    barycentric: Array


@njit(cache=True)
def project_points(points, focal, cx, cy, distance, out):
    """Write (u, v, depth) of world points (V, 3) into ``out`` (V, 3)."""
    for i in range(points.shape[0]):
        depth = distance - points[i, 2]
        scale = focal / max(depth, np.float32(1e-3))
        out[i, 0] = cx + scale * points[i, 0]
        out[i, 1] = cy - scale * points[i, 1]
        out[i, 2] = depth


@njit(cache=True)
def compute_normals(points, triangles, drawn, out):
    """Area-weighted unit normals of the vertices into ``out`` (V, 3); triangles with ``drawn`` 0 count too."""
    out[:] = 0.0
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        e0, e1, e2 = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        g0, g1, g2 = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        n0, n1, n2 = e1 * g2 - e2 * g1, e2 * g0 - e0 * g2, e0 * g1 - e1 * g0
        for v in (a, b, c):
            out[v, 0] += n0
            out[v, 1] += n1
            out[v, 2] += n2
    for i in range(points.shape[0]):
        length = np.sqrt(out[i, 0] * out[i, 0] + out[i, 1] * out[i, 1] + out[i, 2] * out[i, 2])
        if length > 1e-12:
            out[i, 0] /= length
            out[i, 1] /= length
            out[i, 2] /= length


@njit(cache=True, error_model="numpy")
def fill(projected, triangles, drawn, scale, triangle_out, depth_out):
    """Rasterise projected triangles into (H, W) buffers, ``scale`` samples per pixel and axis; back faces are skipped.

    Args:
        projected: (V, 3) u, v [px], depth [cm].
        triangles: (F, 3).
        drawn: (F,) uint8, 0 skips a triangle.
        scale: samples per pixel along each axis; the buffers have ``scale`` times the image's size.
        triangle_out: (H, W) int32, must be -1.
        depth_out: (H, W) float32, must be infinite.
    """
    height, width = triangle_out.shape
    half = 0.5
    for f in range(triangles.shape[0]):
        if drawn[f] == 0:
            continue
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        x0, y0 = (projected[a, 0] + half) * scale - half, (projected[a, 1] + half) * scale - half
        x1, y1 = (projected[b, 0] + half) * scale - half, (projected[b, 1] + half) * scale - half
        x2, y2 = (projected[c, 0] + half) * scale - half, (projected[c, 1] + half) * scale - half
        # v points down, so a counter-clockwise (front) triangle has a negative area here.
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area >= -1e-9 or projected[a, 2] <= 0.1 or projected[b, 2] <= 0.1 or projected[c, 2] <= 0.1:
            continue
        low_x, high_x = min(x0, x1, x2), max(x0, x1, x2)
        low_y, high_y = min(y0, y1, y2), max(y0, y1, y2)
        if high_x < 0 or high_y < 0 or low_x > width - 1 or low_y > height - 1:
            continue
        column0, column1 = max(int(np.ceil(low_x)), 0), min(int(np.floor(high_x)), width - 1)
        row0, row1 = max(int(np.ceil(low_y)), 0), min(int(np.floor(high_y)), height - 1)
        inverse = 1.0 / area
        # Inverse depth is linear on the screen.
        q0, q1, q2 = 1.0 / projected[a, 2], 1.0 / projected[b, 2], 1.0 / projected[c, 2]
        step0, step1, step2 = (y1 - y2) * inverse, (y2 - y0) * inverse, (y0 - y1) * inverse
        for row in range(row0, row1 + 1):
            start = column0
            w0 = ((x2 - x1) * (row - y1) - (y2 - y1) * (start - x1)) * inverse
            w1 = ((x0 - x2) * (row - y2) - (y0 - y2) * (start - x2)) * inverse
            w2 = ((x1 - x0) * (row - y0) - (y1 - y0) * (start - x0)) * inverse
            inside = False
            for column in range(start, column1 + 1):
                if w0 >= -1e-6 and w1 >= -1e-6 and w2 >= -1e-6:
                    inside = True
                    depth = np.float32(1.0 / (w0 * q0 + w1 * q1 + w2 * q2))
                    if depth < depth_out[row, column]:
                        depth_out[row, column] = depth
                        triangle_out[row, column] = f
                elif inside:
                    break  # each weight only falls or only rises along a row: what was left is not entered again
                w0 += step0
                w1 += step1
                w2 += step2


@njit(cache=True)
def fill_barycentric(projected, triangles, triangle_map, scale, out):
    """Perspective-correct barycentrics (H, W, 3) of the samples of ``fill``."""
    for row in range(triangle_map.shape[0]):
        for column in range(triangle_map.shape[1]):
            f = triangle_map[row, column]
            if f < 0:
                out[row, column] = 0.0
                continue
            u, v = (column + 0.5) / scale - 0.5, (row + 0.5) / scale - 0.5
            a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            x0, y0, x1, y1, x2, y2 = projected[a, 0], projected[a, 1], projected[b, 0], projected[b, 1], projected[c, 0], projected[c, 1]
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            w0 = ((x2 - x1) * (v - y1) - (y2 - y1) * (u - x1)) / area / projected[a, 2]
            w1 = ((x0 - x2) * (v - y2) - (y0 - y2) * (u - x2)) / area / projected[b, 2]
            w2 = ((x1 - x0) * (v - y0) - (y1 - y0) * (u - x0)) / area / projected[c, 2]
            w0, w1, w2 = max(w0, 0.0), max(w1, 0.0), max(w2, 0.0)
            total = w0 + w1 + w2
            out[row, column, 0], out[row, column, 1], out[row, column, 2] = w0 / total, w1 / total, w2 / total


def rasterize(
    points_world: Array, triangles: Index, camera: Camera, size: tuple[int, int], drawn: NDArray[np.uint8] | None = None, samples: int = 1
) -> Buffers:
    """Which triangle each sample of an image sees.

    Args:
        points_world: (V, 3) float32 world points [cm].
        triangles: (F, 3) int32, counter-clockwise seen from the front; back faces are not drawn.
        camera: the camera.
        size: (H, W) of the image [px].
        drawn: (F,) uint8, 0 leaves a triangle out; all are drawn when None.
        samples: samples per pixel along each axis; buffers have the shape (H * samples, W * samples).

    Returns:
        Triangle, depth and barycentrics per sample.
    """
    points = np.ascontiguousarray(points_world, np.float32)
    projected = np.empty_like(points)
    project_points(
        points, np.float32(camera.focal_px), np.float32(camera.cx), np.float32(camera.cy), np.float32(camera.distance_cm), projected
    )
    shape = (size[0] * samples, size[1] * samples)
    triangle = np.full(shape, -1, np.int32)
    depth = np.full(shape, np.inf, np.float32)
    mask = np.ones(len(triangles), np.uint8) if drawn is None else drawn
    fill(projected, triangles, mask, float(samples), triangle, depth)
    barycentric = np.empty((*shape, 3), np.float32)
    fill_barycentric(projected, triangles, triangle, float(samples), barycentric)
    return Buffers(triangle, depth, barycentric)
