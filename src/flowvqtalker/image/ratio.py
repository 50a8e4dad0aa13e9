"""Expression ratio images: what a face's skin does when it moves, beyond moving.

A warp carries pixels along; it cannot make a fold beside the nose, wrinkles of the forehead, or the dark and the teeth between lips that
were closed in the source. Between two pictures of one person, aligned by their landmarks, these appear as a ratio of brightness that
hardly depends on who it is. The logarithm of that ratio is taken to be linear in the change of the motion coefficients, one map of the
aligned face for each coefficient, fitted in closed form over many people.

Source: expression ratio images, Liu, Shan and Zhang, SIGGRAPH 2001; the linear model and its fit are ours (docs/decisions/0019).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowvqtalker.checks import check_shape
from flowvqtalker.image.geometry import POINT_RADII, identity_grid, spread_shift

#: Added to brightness in [0, 1] before the logarithm, so that black pixels do not weigh most.
DARK = 0.08
#: Room around the mean face in the aligned picture, as a share of half the face's longer side; the face sits a little low, for the forehead.
MARGIN, DROP = 0.12, 0.06
#: Half axes and centre of the soft ellipse that keeps hair and background out, in half sides of the aligned picture.
ELLIPSE, ELLIPSE_V, ELLIPSE_EDGE = (0.92, 1.05), 0.02, 8.0
OUTER_EYES = (36, 45)
ROTATION_DIM = 3


def similarity(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Similarity transform that brings points nearest to others, in the least squares sense.

    Args:
        source: (B, L, 2).
        target: (B, L, 2).

    Returns:
        Complex (a, b), (B, 1) each: a point z = u + iv goes to ``a z + b``.
    """
    p, q = torch.view_as_complex(source.contiguous()), torch.view_as_complex(target.contiguous())
    p_mean, q_mean = p.mean(-1, keepdim=True), q.mean(-1, keepdim=True)
    a = ((q - q_mean) * (p - p_mean).conj()).sum(-1, keepdim=True) / (p - p_mean).abs().square().sum(-1, keepdim=True).clamp_min(1e-8)
    return a, q_mean - a * p_mean


def face_map(size: tuple[int, int], source: Tensor, target: Tensor, radii: tuple[float, ...] = POINT_RADII) -> Tensor:
    """Where every cell of a picture lies in another picture of the face.

    A similarity of the landmarks, and around them what it leaves over (``spread_shift``).

    Args:
        size: (H, W) cells.
        source: (B, L, 2) landmarks in the first picture, from -1 to 1 between its edges.
        target: (B, L, 2) the same landmarks in the second picture.
        radii: see ``spread_shift``.

    Returns:
        (B, H, W, 2) places in the second picture, as ``grid_sample`` takes them.
    """
    a, b = similarity(source, target)
    cells = torch.view_as_complex(identity_grid(*size, source.device)[0].contiguous())
    rigid = torch.view_as_real(a[..., None] * cells + b[..., None])
    left = target - torch.view_as_real(a * torch.view_as_complex(source.contiguous()) + b)
    return rigid + spread_shift(*size, source, left, radii).permute(0, 2, 3, 1)


def mean_face(points: Tensor, rounds: int = 3) -> Tensor:
    """Mean of faces after removing place, size and roll (Procrustes), eyes level, scaled into the aligned picture.

    Args:
        points: (N, 68, 2) landmarks.
        rounds: alternations of aligning and averaging.

    Returns:
        (68, 2) from -1 to 1 between the aligned picture's edges.
    """
    face = points[0]
    for _ in range(rounds):
        a, b = similarity(points, face.expand_as(points))
        face = torch.view_as_real(a * torch.view_as_complex(points.contiguous()) + b).mean(0)
    z = torch.view_as_complex(face.contiguous())
    across = z[OUTER_EYES[1]] - z[OUTER_EYES[0]]
    face = torch.view_as_real(z * across.conj() / across.abs())
    low, high = face.amin(0), face.amax(0)
    face = (face - (low + high) / 2) / ((high - low).max() / 2 * (1 + MARGIN))
    return face + face.new_tensor([0.0, DROP])


class ExpressionRatio(nn.Module):
    """Multiplies a warped face by the ratio that its change of coefficients asks for.

    Starts as nothing (all maps zero); ``flowvqtalker.train.ratio.fit_ratio`` fills it once, before anything is trained behind it.

    Args:
        expression_dim: E.
        size_px: side of the aligned picture.
    """

    face: Tensor
    spread: Tensor
    maps: Tensor
    mask: Tensor

    def __init__(self, expression_dim: int, size_px: int) -> None:
        super().__init__()
        features = expression_dim + ROTATION_DIM
        self.register_buffer("face", torch.zeros(68, 2))
        self.register_buffer("spread", torch.ones(features))
        self.register_buffer("maps", torch.zeros(features, 3, size_px, size_px))
        u, v = identity_grid(size_px, size_px, self.face.device)[0].unbind(-1)
        inside = 1 - (u / ELLIPSE[0]).square() - ((v - ELLIPSE_V) / ELLIPSE[1]).square()
        self.register_buffer("mask", torch.sigmoid(ELLIPSE_EDGE * inside), persistent=False)

    @property
    def size_px(self) -> int:
        """Side of the aligned picture."""
        return self.maps.shape[-1]

    def forward(self, image: Tensor, change: Tensor, points: Tensor) -> Tensor:
        """Apply the ratio.

        Args:
            image: (B, 3, H, W) in [0, 1], the face already moved.
            change: (B, E + 6) coefficients of the frame minus the source's; translations are not used.
            points: (B, 68, 2) landmarks of the moved face, from -1 to 1 between the picture's edges.

        Returns:
            (B, 3, H, W) float32 in [0, 1].
        """
        check_shape("points", points, (len(image), 68, 2))
        with torch.autocast(image.device.type, enabled=False):
            image, points = image.float(), points.detach().float()
            used = change[:, : len(self.spread)].float() / self.spread
            log_ratio = torch.einsum("bf,fchw->bchw", used, self.maps) * self.mask
            # The face's own motion is smooth: half the resolution is enough to say where a pixel lies in the aligned face.
            coarse = face_map((image.shape[-2] // 2, image.shape[-1] // 2), points, self.face.expand_as(points))
            place = F.interpolate(coarse.permute(0, 3, 1, 2), size=image.shape[-2:], mode="bilinear", align_corners=False)
            seen = F.grid_sample(log_ratio, place.permute(0, 2, 3, 1), padding_mode="zeros", align_corners=False)
            return ((image + DARK) * seen.exp() - DARK).clamp(0, 1)

    @torch.no_grad()
    def align(self, images: Tensor, points: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] with landmarks (B, 68, 2) from -1 to 1 -> aligned pictures (B, 3, size_px, size_px)."""
        size = (self.size_px, self.size_px)
        return F.grid_sample(images, face_map(size, self.face.expand_as(points), points), padding_mode="border", align_corners=False)
