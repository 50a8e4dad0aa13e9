"""Compiled inner loops of the face model's one-frame path; the torch path in model.py is their reference."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def add_shapes(points, beta, starts, index, delta):
    """Add every expression shape with a non-zero coefficient to ``points`` (V, 3) in place."""
    for shape in range(beta.shape[0]):
        weight = beta[shape]
        if weight != 0.0:
            for row in range(starts[shape], starts[shape + 1]):
                vertex = index[row]
                points[vertex, 0] += weight * delta[row, 0]
                points[vertex, 1] += weight * delta[row, 1]
                points[vertex, 2] += weight * delta[row, 2]


@njit(cache=True)
def resolve_contact(points, upper, lower, axis, follower, column, weight):
    """Push crossed pairs of one contact back to their middle, in place; see ``model.Contact``."""
    push = np.zeros(upper.shape[0], np.float32)
    for pair in range(upper.shape[0]):
        gap = np.float32(0.0)
        for k in range(3):
            gap += (points[upper[pair], k] - points[lower[pair], k]) * axis[k]
        push[pair] = max(-gap, np.float32(0.0)) * np.float32(0.5)
    for row in range(follower.shape[0]):
        amount = push[column[row]] * weight[row]
        if amount != 0.0:
            for k in range(3):
                points[follower[row], k] += amount * axis[k]


@njit(cache=True)
def push_out(points, vertex, eye, radius, centres):
    """Move the vertices of a shell out to their least distance from the eyeball's centre, in place."""
    for row in range(vertex.shape[0]):
        v, e = vertex[row], eye[row]
        dx, dy, dz = points[v, 0] - centres[e, 0], points[v, 1] - centres[e, 1], points[v, 2] - centres[e, 2]
        length = max(np.sqrt(dx * dx + dy * dy + dz * dz), np.float32(1e-3))
        if length < radius[row]:
            scale = radius[row] / length
            points[v, 0] = centres[e, 0] + dx * scale
            points[v, 1] = centres[e, 1] + dy * scale
            points[v, 2] = centres[e, 2] + dz * scale


@njit(cache=True)
def turn(points, vertex, centre, rotation):
    """Turn vertices about a centre, in place."""
    for row in range(vertex.shape[0]):
        v = vertex[row]
        dx, dy, dz = points[v, 0] - centre[0], points[v, 1] - centre[1], points[v, 2] - centre[2]
        for k in range(3):
            points[v, k] = centre[k] + rotation[k, 0] * dx + rotation[k, 1] * dy + rotation[k, 2] * dz
