"""The face model interface that every part of the project speaks: identity and expression bases plus three geometric corrections.

A vertex is ``mean + alpha . identity + beta . expression`` [cm], corrected in this order:

1. **contacts**: the two lips, and the two lids of an eye, never pass through each other. Each contact is a row of vertex pairs;
   where a pair has crossed, both sides are pushed back to their common middle, and the skin behind them follows with a falloff.
   This is what seals lips and closes lids for any identity and any mixture of coefficients.
2. **shells**: lid vertices stay outside their eyeball's sphere, so that a lid that moves along a straight line (all a linear
   shape can do) slides over the eyeball instead of cutting through it.
3. **eyeballs** turn about their centres by the eyeLook coefficients.

All three are differentiable almost everywhere and vanish where nothing collides.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowvqtalker.checks import check_finite, check_shape
from flowvqtalker.face import kernels
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS

Array = NDArray[np.float32]
Index = NDArray[np.int32]

#: Turn of an eyeball at coefficient 1, horizontally and vertically [rad].
GAZE_YAW_RAD = math.radians(32.0)
GAZE_PITCH_RAD = math.radians(26.0)


@dataclass(frozen=True, eq=False)
class Contact:
    """A row of vertex pairs that must not cross.

    Attributes:
        upper: (n,) vertex indices of the upper side.
        lower: (n,) vertex indices of the lower side.
        axis: (3,) unit vector that points from lower to upper in the head frame.
        follower: (m,) vertices that are moved, the pairs themselves included.
        column: (m,) the pair each follower belongs to.
        weight: (m,) share of the pair's push along ``axis``, in [-1, 1]; positive moves up.
    """

    upper: Index
    lower: Index
    axis: Array
    follower: Index
    column: Index
    weight: Array


@dataclass(frozen=True, eq=False)
class Shell:
    """Vertices that stay outside a sphere round an eyeball.

    Attributes:
        vertex: (n,) vertex indices.
        eye: (n,) 0 = the subject's right eye, 1 = left.
        radius: (n,) least distance from the eyeball's centre [cm].
    """

    vertex: Index
    eye: Index
    radius: Array


@dataclass(frozen=True, eq=False)
class FaceModel:
    """A linear 3D morphable face with named expressions; all lengths in cm in the head frame of docs/conventions.md.

    Attributes:
        name: "clay", "ict", "bfm".
        mean: (V, 3) float32.
        identity: (A, V, 3) float32, displacement at coefficient 1.
        identity_std: (A,) float32, spread of each identity coefficient over people.
        identity_names: (A,) a word for each identity coefficient.
        expression: (E, V, 3) float32, displacement at coefficient 1, in the order of EXPRESSIONS.
        triangles: (F, 3) int32, counter-clockwise seen from outside.
        vertex_part: (V,) int32 index into part_names.
        part_names: names of the parts.
        uv: (V, 2) float32 in [0, 1]: skin in the chart of ``flowvqtalker.render.texture``, eyeballs as (polar angle / pi, turn / 2 pi).
        landmarks68: (68,) int32 vertex indices, iBUG order.
        eyeball_centres: (2, 3) float32 at the mean: the subject's right eye, then the left.
        eyeball_centre_identity: (A, 2, 3) float32, how identity moves the centres.
        eyeball_vertices: vertex indices of the right and the left eyeball.
        occlusion: (V,) float32 in [0, 1], baked ambient light that reaches a vertex.
        contacts: rows of lips and lids that must not cross.
        shell: lids that stay outside the eyeballs.
        limits: pairs (i, j) of expressions where i has effect only up to the value of j: lips can only close what the jaw opened.
        expression_names: EXPRESSIONS for every model of this project.
    """

    name: str
    mean: Array
    identity: Array
    identity_std: Array
    identity_names: tuple[str, ...]
    expression: Array
    triangles: Index
    vertex_part: Index
    part_names: tuple[str, ...]
    uv: Array
    landmarks68: Index
    eyeball_centres: Array
    eyeball_centre_identity: Array
    eyeball_vertices: tuple[Index, Index]
    occlusion: Array
    contacts: tuple[Contact, ...] = ()
    shell: Shell = field(default_factory=lambda: Shell(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)))
    limits: tuple[tuple[int, int], ...] = ()
    expression_names: tuple[str, ...] = EXPRESSIONS

    def __post_init__(self) -> None:
        n_vertices, n_identity = self.mean.shape[0], self.identity.shape[0]
        check_shape("mean", self.mean, (None, 3))
        check_shape("identity", self.identity, (None, n_vertices, 3))
        check_shape("identity_std", self.identity_std, (n_identity,))
        check_shape("expression", self.expression, (len(self.expression_names), n_vertices, 3))
        check_shape("triangles", self.triangles, (None, 3))
        check_shape("vertex_part", self.vertex_part, (n_vertices,))
        check_shape("uv", self.uv, (n_vertices, 2))
        check_shape("landmarks68", self.landmarks68, (68,))
        check_shape("eyeball_centre_identity", self.eyeball_centre_identity, (n_identity, 2, 3))
        check_shape("occlusion", self.occlusion, (n_vertices,))
        for label, array in (("mean", self.mean), ("identity", self.identity), ("expression", self.expression), ("uv", self.uv)):
            check_finite(f"{self.name} face model, {label}", array)
        if self.triangles.min() < 0 or self.triangles.max() >= n_vertices:
            raise ValueError(f"{self.name} face model: triangles name vertices outside 0..{n_vertices - 1}")

    @property
    def n_vertices(self) -> int:
        """Number of vertices V."""
        return self.mean.shape[0]

    @property
    def n_identity(self) -> int:
        """Number of identity coefficients A."""
        return self.identity.shape[0]

    @property
    def n_expression(self) -> int:
        """Number of expression coefficients E."""
        return self.expression.shape[0]

    def part(self, name: str) -> int:
        """Index of a part by name; KeyError names the parts there are."""
        if name not in self.part_names:
            raise KeyError(f"{self.name} face model has no part {name!r}; it has {', '.join(self.part_names)}")
        return self.part_names.index(name)

    @functools.cached_property
    def triangle_part(self) -> Index:
        """(F,) part of each triangle: that of its first vertex (no triangle spans parts, except along lid and lip seams)."""
        return np.ascontiguousarray(self.vertex_part[self.triangles[:, 0]])

    @functools.cached_property
    def _everything(self) -> _Subset:
        return _Subset(self, np.arange(self.n_vertices, dtype=np.int32))

    @functools.cached_property
    def _landmark_subset(self) -> _Subset:
        return _Subset(self, self.landmarks68)

    def vertices(self, alpha: Tensor, beta: Tensor) -> Tensor:
        """Vertices of faces in the head frame.

        Args:
            alpha: (..., A) identity, float32 or float64; leading dimensions broadcast against those of ``beta``.
            beta: (..., E) expression in [0, 1] (values outside are not clipped), same dtype.

        Returns:
            (..., V, 3) [cm], differentiable in both.
        """
        return self._everything(alpha, beta)

    def landmarks(self, alpha: Tensor, beta: Tensor) -> Tensor:
        """The 68 landmarks alone, equal to ``vertices(alpha, beta)[..., landmarks68, :]`` at a hundredth of the cost.

        Args:
            alpha: (..., A) identity.
            beta: (..., E) expression.

        Returns:
            (..., 68, 3) [cm] in the head frame.
        """
        return self._landmark_subset(alpha, beta)

    def neutral(self, alpha: NDArray[np.floating]) -> Array:
        """Linear part of one identity, (V, 3) float32 [cm]: compute once per person, then call :meth:`frame` per frame."""
        check_shape("alpha", alpha, (self.n_identity,))
        flat = self.identity.reshape(self.n_identity, -1)
        return (self.mean.reshape(-1) + np.asarray(alpha, np.float32) @ flat).reshape(-1, 3)

    def frame(self, alpha: NDArray[np.floating], beta: NDArray[np.floating], neutral: Array | None = None) -> Array:
        """One frame without torch: the vertices of :meth:`vertices` within float32 rounding.

        Args:
            alpha: (A,) identity.
            beta: (E,) expression.
            neutral: ``self.neutral(alpha)`` when the caller has it already.

        Returns:
            (V, 3) float32 [cm] in the head frame.
        """
        check_shape("beta", beta, (self.n_expression,))
        out = (self.neutral(alpha) if neutral is None else neutral).copy()
        beta32 = np.array(beta, np.float32)
        for limited, by in self.limits:
            beta32[limited] = min(beta32[limited], beta32[by])
        starts, index, delta = self._sparse
        kernels.add_shapes(out, beta32, starts, index, delta)
        for contact in self.contacts:
            kernels.resolve_contact(out, contact.upper, contact.lower, contact.axis, contact.follower, contact.column, contact.weight)
        centres = (self.eyeball_centres + np.tensordot(np.asarray(alpha, np.float32), self.eyeball_centre_identity, axes=1)).astype(
            np.float32
        )
        kernels.push_out(out, self.shell.vertex, self.shell.eye, self.shell.radius, centres)
        turns = gaze_rotations(torch.from_numpy(beta32)).numpy()
        for eye in range(2):
            kernels.turn(out, self.eyeball_vertices[eye], centres[eye], turns[eye])
        return out

    @functools.cached_property
    def _sparse(self) -> tuple[NDArray[np.int64], Index, Array]:
        """Non-zero rows of every expression shape: (E + 1,) starts, (n,) vertices, (n, 3) displacements."""
        moved = np.abs(self.expression).max(-1) > 0
        starts = np.concatenate([[0], np.cumsum(moved.sum(1))]).astype(np.int64)
        return starts, np.nonzero(moved)[1].astype(np.int32), np.ascontiguousarray(self.expression[moved], dtype=np.float32)

    def sample_identity(self, generator: np.random.Generator) -> Array:
        """Draw a person: (A,) float32, normal with ``identity_std`` and cut off at 2.2 standard deviations."""
        draw = generator.standard_normal(self.n_identity)
        # Folding the tails back instead of clipping them keeps people apart even at the edge of the range.
        draw = np.where(np.abs(draw) > 2.2, np.sign(draw) * (4.4 - np.minimum(np.abs(draw), 4.4)), draw)
        return (draw * self.identity_std).astype(np.float32)


def gaze_rotations(beta: Tensor) -> Tensor:
    """Rotations of the eyeballs by the eyeLook coefficients.

    Args:
        beta: (..., E) expression.

    Returns:
        (..., 2, 3, 3): the subject's right eye, then the left; ``Ry(yaw) @ Rx(pitch)``.
    """

    def value(name: str) -> Tensor:
        return beta[..., EXPRESSION_INDEX[name]]

    # Out turns an eye away from the nose: towards -x for the right eye, +x for the left.
    yaw = torch.stack([value("eyeLookIn_R") - value("eyeLookOut_R"), value("eyeLookOut_L") - value("eyeLookIn_L")], dim=-1) * GAZE_YAW_RAD
    pitch = torch.stack([value(f"eyeLookDown_{s}") - value(f"eyeLookUp_{s}") for s in "RL"], dim=-1) * GAZE_PITCH_RAD
    cos_y, sin_y, cos_p, sin_p = torch.cos(yaw), torch.sin(yaw), torch.cos(pitch), torch.sin(pitch)
    zero = torch.zeros_like(yaw)
    rows = ((cos_y, sin_y * sin_p, sin_y * cos_p), (zero, cos_p, -sin_p), (-sin_y, cos_y * sin_p, cos_y * cos_p))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


class _Subset:
    """The model restricted to some vertices, with whatever else their contacts need; tensors cached per dtype and device."""

    def __init__(self, model: FaceModel, wanted: Index) -> None:
        self.model = model
        needed = [wanted]
        self.contacts: list[tuple[Contact, NDArray[np.intp]]] = []
        for contact in model.contacts:
            kept = np.nonzero(np.isin(contact.follower, wanted))[0]
            if len(kept):
                self.contacts.append((contact, kept))
                needed += [contact.upper[contact.column[kept]], contact.lower[contact.column[kept]], contact.follower[kept]]
        self.vertex = np.unique(np.concatenate(needed))
        self.whole = len(self.vertex) == len(wanted) and bool(np.array_equal(self.vertex, wanted))
        self.pick = np.searchsorted(self.vertex, wanted)
        self._cache: dict[tuple[torch.dtype, torch.device], dict[str, Tensor]] = {}

    def _local(self, vertex: NDArray) -> Tensor:
        return torch.from_numpy(np.searchsorted(self.vertex, vertex).astype(np.int64))

    def _tensors(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        key = (dtype, device)
        if key not in self._cache:
            model, vertex = self.model, self.vertex

            def tensor(array: NDArray) -> Tensor:
                return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)

            found = {
                "mean": tensor(model.mean[vertex].reshape(-1)),
                "identity": tensor(model.identity[:, vertex].reshape(model.n_identity, -1)),
                "expression": tensor(model.expression[:, vertex].reshape(model.n_expression, -1)),
                "centres": tensor(model.eyeball_centres.reshape(-1)),
                "centre_identity": tensor(model.eyeball_centre_identity.reshape(model.n_identity, -1)),
                "pick": torch.from_numpy(self.pick.astype(np.int64)).to(device),
            }
            for number, (contact, kept) in enumerate(self.contacts):
                column = contact.column[kept]
                found[f"upper{number}"] = self._local(contact.upper[column]).to(device)
                found[f"lower{number}"] = self._local(contact.lower[column]).to(device)
                found[f"follower{number}"] = self._local(contact.follower[kept]).to(device)
                found[f"axis{number}"] = tensor(contact.axis)
                found[f"weight{number}"] = tensor(contact.weight[kept])
            inside = np.isin(model.shell.vertex, vertex)
            found["shell"] = self._local(model.shell.vertex[inside]).to(device)
            found["shell_eye"] = torch.from_numpy(model.shell.eye[inside].astype(np.int64)).to(device)
            found["shell_radius"] = tensor(model.shell.radius[inside])
            for eye in range(2):
                ball = model.eyeball_vertices[eye]
                found[f"ball{eye}"] = self._local(ball[np.isin(ball, vertex)]).to(device)
            self._cache[key] = found
        return self._cache[key]

    def __call__(self, alpha: Tensor, beta: Tensor) -> Tensor:
        check_shape("alpha's last dimension", alpha[(0,) * (alpha.ndim - 1)], (self.model.n_identity,))
        check_shape("beta's last dimension", beta[(0,) * (beta.ndim - 1)], (self.model.n_expression,))
        t = self._tensors(beta.dtype, beta.device)
        for limited, by in self.model.limits:
            lower = torch.minimum(beta[..., limited], beta[..., by])
            beta = torch.cat([beta[..., :limited], lower[..., None], beta[..., limited + 1 :]], dim=-1)
        lead = np.broadcast_shapes(alpha.shape[:-1], beta.shape[:-1])  # torch's own first imports sympy: a second in every process
        points = (t["mean"] + alpha @ t["identity"] + beta @ t["expression"]).expand(*lead, -1).reshape(*lead, -1, 3)
        for number in range(len(self.contacts)):
            axis = t[f"axis{number}"]
            gap = (points[..., t[f"upper{number}"], :] - points[..., t[f"lower{number}"], :]) @ axis
            push = torch.relu(-gap) * (0.5 * t[f"weight{number}"])
            points = points.index_add(-2, t[f"follower{number}"], push[..., None] * axis)
        centres = (t["centres"] + alpha @ t["centre_identity"]).expand(*lead, -1).reshape(*lead, 2, 3)
        if len(t["shell"]):
            centre = centres[..., t["shell_eye"], :]
            offset = points[..., t["shell"], :] - centre
            scale = torch.clamp(t["shell_radius"] / torch.linalg.vector_norm(offset, dim=-1).clamp_min(1e-3), min=1.0)
            points = points.index_copy(-2, t["shell"], centre + offset * scale[..., None])
        if any(len(t[f"ball{eye}"]) for eye in range(2)):
            turns = gaze_rotations(beta).expand(*lead, 2, 3, 3)
            for eye in range(2):
                ball, centre = t[f"ball{eye}"], centres[..., eye : eye + 1, :]
                points = points.index_copy(-2, ball, (points[..., ball, :] - centre) @ turns[..., eye, :, :].transpose(-1, -2) + centre)
        return points if self.whole else points[..., t["pick"], :]
