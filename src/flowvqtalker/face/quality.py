"""Does an expression damage the skin? Counts triangles that fold over, turn round or collapse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowvqtalker.face.model import FaceModel

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Damage:
    """Numbers of damaged skin triangles of one frame.

    Attributes:
        folded: the normal points against the mean normal of the triangles across its edges.
        turned: the normal has turned by more than 120 degrees from rest.
        collapsed: less than a hundredth of the resting area is left.
    """

    folded: int
    turned: int
    collapsed: int

    @property
    def total(self) -> int:
        """All kinds together."""
        return self.folded + self.turned + self.collapsed


class SkinCheck:
    """Checks the skin of one model; the neighbourhood table is built once."""

    def __init__(self, model: FaceModel) -> None:
        parts = [index for index, name in enumerate(model.part_names) if name in ("skin", "face")]
        self.triangles = model.triangles[np.isin(model.triangle_part, parts)].astype(np.int64)
        n = len(self.triangles)
        edges = np.sort(self.triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=-1).reshape(-1, 2)
        owner = np.repeat(np.arange(n), 3)
        order = np.lexsort((edges[:, 1], edges[:, 0]))
        same = (edges[order][1:] == edges[order][:-1]).all(1)
        first, second = order[:-1][same], order[1:][same]
        #: Triangle across each edge; n stands for none.
        self.across = np.full(3 * n, n, np.int64)
        self.across[first], self.across[second] = owner[second], owner[first]
        self.across = self.across.reshape(n, 3)

    def normals(self, vertices: Array) -> Array:
        """(F, 3) normals of the skin's triangles, twice the area long."""
        a, b, c = (vertices[self.triangles[:, k]].astype(np.float64) for k in range(3))
        return np.cross(b - a, c - a)

    def damage(self, vertices: Array, neutral: Array) -> Damage:
        """Damage of a frame against the same person at rest.

        Args:
            vertices: (V, 3) the frame, head frame [cm].
            neutral: (V, 3) the same identity with all expressions 0 (``model.frame(alpha, zeros)``).
        """
        return self.compare(self.normals(vertices), self.normals(neutral))

    def compare(self, normal: Array, rest: Array) -> Damage:
        """Like :meth:`damage`, from normals computed by :meth:`normals`."""
        area, area_rest = np.linalg.norm(normal, axis=1), np.linalg.norm(rest, axis=1)
        padded = np.concatenate([normal, np.zeros((1, 3))])
        around = padded[self.across].sum(1)
        folded = (normal * around).sum(1) < 0
        turned = (normal * rest).sum(1) < -0.5 * area * area_rest
        collapsed = area < 0.01 * area_rest
        return Damage(int(folded.sum()), int((turned & ~folded).sum()), int((collapsed & ~folded & ~turned).sum()))
