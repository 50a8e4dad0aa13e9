"""What lies between parted lips: teeth, tongue and the dark, as a layer of its own.

A warp stretches what the source shows: where its lips are closed, an open mouth is filled with lip. What is behind the lips hardly depends on
whose they are, and where the inner contour of the lips lies is known from the moved landmarks. The layer is a small picture of the mouth's inside
in a frame that is fixed to nose and eyes (upper teeth stand still in it, lower teeth follow the lower lip) and hangs at the height at which this
person's upper lip rests, since teeth do; each cell's colour is linear in that contour and the head's rotation, in their squares and in their products
with the lips' gap. It is fitted in closed form over many people (``flowvqtalker.train.mouth``) and laid into the contour.

Source: ours (docs/decisions/0030); a layer of the mouth of its own is common in model-based reenactment (Thies et al., Face2Face, CVPR 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowvqtalker.checks import check_shape
from flowvqtalker.constants import LIP_PAIRS
from flowvqtalker.image.geometry import identity_grid
from flowvqtalker.image.ratio import ROTATION_DIM, similarity

#: Landmarks that do not follow the jaw or the lids: bridge and tip of the nose, outer and inner corners of the eyes.
STILL_POINTS = (27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45)
#: Inner contour of the lips from the right corner to the left one, above and below.
UPPER_LIP, LOWER_LIP = (60, 61, 62, 63, 64), (60, 67, 66, 65, 64)
INNER_LIPS = (60, 61, 62, 63, 64, 65, 66, 67)
#: Where a flat contour (u, v of each of INNER_LIPS) keeps v of the middle of the upper and of the lower lip.
_UPPER_V, _LOWER_V = 2 * INNER_LIPS.index(62) + 1, 2 * INNER_LIPS.index(66) + 1
#: Inner upper lip between the corners: where it rests, the person's upper teeth are.
REST_LIP = (61, 62, 63)
#: Half width of the layer in half widths of the mean mouth, its height over its width, and how far below the middle of the mean lips it is centred.
HALF_WIDTH, ASPECT, BELOW = 1.4, 0.8, 0.35
#: Cells of the layer over its height for every cell over its width are ASPECT; width of the contour's soft edge in pixels of the picture.
EDGE_PX = 1.0
#: Lips count as parted from this share of the mean mouth's width on; from twice as far the layer is there fully.
PARTED = 0.04


def between(curve_u: Tensor, upper_v: Tensor, lower_v: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """How far places lie inside a region between two curves over one axis: the smaller of the distances along v, negative outside.

    Args:
        curve_u: (B, 2, n) places along u of the points of the upper and the lower curve, rising.
        upper_v: (B, n) of the upper curve's points.
        lower_v: (B, n) of the lower curve's points.
        u: (B, ...) places.
        v: (B, ...) places; v points down.

    Returns:
        (B, ...); beyond the ends of a curve its end counts.
    """
    shape = u.shape
    u, v = u.flatten(1), v.flatten(1)

    def height(at: Tensor, values: Tensor) -> Tensor:
        steps = (at[:, 1:] - at[:, :-1]).clamp_min(1e-4)
        share = ((u[:, None] - at[:, :-1, None]) / steps[..., None]).clamp(0, 1)
        return values[:, :1] + ((values[:, 1:] - values[:, :-1])[..., None] * share).sum(1)

    upper, lower = height(curve_u[:, 0], upper_v), height(curve_u[:, 1], lower_v)
    return torch.minimum(v - upper, lower - v).view(shape)


class MouthLayer(nn.Module):
    """Lays the mouth's inside between parted lips.

    Starts as nothing (``is_fitted`` false); ``flowvqtalker.train.mouth.fit_mouth`` fills it once, before anything is trained behind it.

    Args:
        width_px: cells over the layer's width; 0.8 of it over its height.
    """

    face: Tensor
    mean: Tensor
    spread: Tensor
    maps: Tensor
    is_fitted: Tensor

    def __init__(self, width_px: int) -> None:
        super().__init__()
        known = 2 * len(INNER_LIPS) + ROTATION_DIM
        self.register_buffer("face", torch.zeros(68, 2))
        self.register_buffer("mean", torch.zeros(known))
        self.register_buffer("spread", torch.ones(known))
        self.register_buffer("maps", torch.zeros(1 + 3 * known, 3, round(width_px * ASPECT), width_px))
        self.register_buffer("is_fitted", torch.zeros((), dtype=torch.bool))

    @property
    def size(self) -> tuple[int, int]:
        """Cells (height, width) of the layer."""
        return self.maps.shape[-2], self.maps.shape[-1]

    def box(self) -> tuple[Tensor, Tensor]:
        """Centre (2,) and half sides (2,) of the layer in the aligned face."""
        lips = self.face[list(INNER_LIPS)]
        half = (lips[4, 0] - lips[0, 0]) / 2 * HALF_WIDTH
        centre = lips.mean(0) + torch.stack([torch.zeros_like(half), BELOW * half])
        return centre, torch.stack([half, half * ASPECT])

    def places(self) -> Tensor:
        """Places (h, w, 2) of the layer's cells in the aligned face."""
        centre, half = self.box()
        return identity_grid(*self.size, self.face.device)[0] * half + centre

    def to_face(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity (complex a, b, (B, 1) each) that brings landmarks (B, 68, 2) into the aligned face by what does not move with jaw and lids."""
        still = list(STILL_POINTS)
        return similarity(points[:, still], self.face[still].expand(len(points), -1, -1))

    def contour(self, points: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Inner contour (B, 8, 2) of the lips of landmarks (B, 68, 2) in the aligned face."""
        lips = torch.view_as_complex(points[:, list(INNER_LIPS)].contiguous())
        return torch.view_as_real(a * lips + b)

    def resting(self, contour: Tensor) -> Tensor:
        """How far (B, 2) the upper lip of contours (B, 8, 2) lies from the mean face's, in the aligned face.

        Of a calm face it tells where the person's teeth are: people's teeth do not lie at one height between nose and chin.
        """
        return contour[:, [INNER_LIPS.index(k) for k in REST_LIP]].mean(1) - self.face[list(REST_LIP)].mean(0)

    def inside(self, contour: Tensor, places: Tensor) -> Tensor:
        """How far inside the contour (B, 8, 2) places (B, ..., 2) lie, in units of the aligned face; negative outside."""

        def pick(landmarks: tuple[int, ...]) -> Tensor:
            return contour[:, [INNER_LIPS.index(k) for k in landmarks]]

        upper, lower = pick(UPPER_LIP), pick(LOWER_LIP)
        return between(torch.stack([upper[..., 0], lower[..., 0]], 1), upper[..., 1], lower[..., 1], places[..., 0], places[..., 1])

    @staticmethod
    def gap(contour: Tensor) -> Tensor:
        """Mean distance (B,) of the inner lips along v."""
        pairs = [(INNER_LIPS.index(upper), INNER_LIPS.index(lower)) for upper, lower in LIP_PAIRS]
        return torch.stack([(contour[:, lower, 1] - contour[:, upper, 1]).clamp_min(0) for upper, lower in pairs]).mean(0)

    def features(self, contour: Tensor, rotation: Tensor) -> Tensor:
        """(B, F) of a constant, the standardised contour (B, 8, 2) and rotation (B, 3) [rad], their squares and their products with the gap.

        The edge of the teeth is where they end, and not where the lips do: as a mouth opens it crosses a cell once, which a line in the contour
        cannot follow. The gap is that of the standardised middle of the lips.
        """
        known = ((torch.cat([contour.flatten(1), rotation], 1) - self.mean) / self.spread).clamp(-3, 3)
        gap = known[:, _LOWER_V : _LOWER_V + 1] - known[:, _UPPER_V : _UPPER_V + 1]
        return torch.cat([torch.ones_like(gap), known, known.square() - 1, known * gap], 1)

    def forward(self, image: Tensor, source: Tensor, points: Tensor, rotation: Tensor) -> Tensor:
        """Lay the layer into a picture, as far as the source's lips were closer together: what the source shows is carried by the warp.

        The source also tells where the upper lip rests; one that laughs or talks shows it a little too high.

        Args:
            image: (B, 3, H, W) in [0, 1], the face already moved.
            source: (B, 68, 2) landmarks of the source, from -1 to 1 between the picture's edges.
            points: (B, 68, 2) landmarks of the moved face, likewise.
            rotation: (B, 3) rotation of the moved face [rad].

        Returns:
            (B, 3, H, W) float32 in [0, 1].
        """
        check_shape("points", points, (len(image), 68, 2))
        if not bool(self.is_fitted):
            return image
        with torch.autocast(image.device.type, enabled=False):
            image, points, source = image.float(), points.detach().float(), source.float()
            closed = self.contour(source, *self.to_face(source))
            rest = self.resting(closed)
            a, b = self.to_face(points)
            b = b - torch.view_as_complex(rest.contiguous())[:, None]
            contour, closed = self.contour(points, a, b), closed - rest[:, None]
            gap = self.gap(contour)
            new = ((gap - self.gap(closed)) / gap.clamp_min(1e-4)).clamp(0, 1)
            width = (self.face[64, 0] - self.face[60, 0]).clamp_min(1e-4)
            share = new * (gap / (PARTED * width) - 1).clamp(0, 1)
            layer = torch.einsum("bf,fchw->bchw", self.features(contour, rotation.float()), self.maps)
            cells = torch.view_as_complex(identity_grid(image.shape[-2], image.shape[-1], image.device)[0].contiguous())
            places = torch.view_as_real(a[..., None] * cells + b[..., None])
            # A pixel of the picture in units of the aligned face.
            edge = EDGE_PX * 2 / image.shape[-1] * a.abs()[..., None]
            alpha = (self.inside(contour, places) / edge).clamp(0, 1) * share[:, None, None]
            centre, half = self.box()
            seen = torch.nn.functional.grid_sample(layer, (places - centre) / half, padding_mode="border", align_corners=False)
            return torch.lerp(image, seen.clamp(0, 1), alpha[:, None])
