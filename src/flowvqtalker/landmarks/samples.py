"""Training samples of the trained back end: patches around faces, small pictures, faceless pictures, and their random changes.

All random numbers come from the generator of the step, so that a training can be resumed exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flowvqtalker.landmarks import align, boxes, schema
from flowvqtalker.landmarks.align import PATCH_MARGIN, PATCH_PX
from flowvqtalker.landmarks.network import POINT_CROP_SCALE, patch_box, to_unit, whole_box

SMALL_PX = 128


@dataclass(frozen=True)
class Samples:
    """Faces with their truth, and pictures without a face.

    Attributes:
        patches: (N, PATCH_PX, PATCH_PX, 3) uint8 around each face.
        points: (N, 68, 2) float32 in [-1, 1] of the patch.
        scores: (N, 52) float32 blendshape scores of each face in [0, 1], in the order of ``schema.BLENDSHAPES``.
        small: (N, SMALL_PX, SMALL_PX, 3) uint8, the whole pictures (squared by repeating their border).
        faces: (N, 3) float32: centre in [-1, 1] of ``small`` and face size over its side.
        faceless: (M, SMALL_PX, SMALL_PX, 3) uint8 pictures without a face; M may be 0.
    """

    patches: Tensor
    points: Tensor
    scores: Tensor
    small: Tensor
    faces: Tensor
    faceless: Tensor

    def __len__(self) -> int:
        return len(self.patches)


def make_samples(pictures: list[tuple[np.ndarray, np.ndarray, np.ndarray]], faceless: list[np.ndarray]) -> Samples:
    """Cut samples out of labelled pictures.

    Args:
        pictures: runs of (frames (T, H, W, 3) uint8, landmarks_px (T, 68, 2), scores (T, 52)); frames without finite landmarks are left out.
        faceless: runs of frames (T, H, W, 3) uint8 without a face.

    Returns:
        Samples, in the order given.
    """
    patches, points, scores, small, faces = [], [], [], [], []
    for frames, truth, shapes in pictures:
        box = whole_box(*frames.shape[1:3])
        side = box[2] - box[0]
        seen = np.flatnonzero(schema.has_face(truth))
        centres, sizes = boxes.extent_of(truth[seen])
        scores.append(shapes[seen])
        small.append(boxes.crop_frames(frames[seen], box, SMALL_PX))
        faces.append(np.concatenate([to_unit(centres - np.array(box[:2]), side), sizes[:, None] / side], axis=1))
        for index in seen:
            around = patch_box(truth[index])
            patches.append(boxes.crop_frames(frames[index : index + 1], around, PATCH_PX))
            points.append(to_unit(boxes.to_crop(truth[index].astype(np.float64), around, PATCH_PX), PATCH_PX))
    if not patches:
        raise ValueError("pictures: no frame has a face")
    empty = [boxes.crop_frames(frames, whole_box(*frames.shape[1:3]), SMALL_PX) for frames in faceless]
    return Samples(
        torch.from_numpy(np.concatenate(patches)),
        torch.from_numpy(np.stack(points).astype(np.float32)),
        torch.from_numpy(np.concatenate(scores).astype(np.float32)),
        torch.from_numpy(np.concatenate(small)),
        torch.from_numpy(np.concatenate(faces).astype(np.float32)),
        torch.from_numpy(np.concatenate(empty) if empty else np.zeros((0, SMALL_PX, SMALL_PX, 3), np.uint8)),
    )


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _recolour(image: Tensor, generator: torch.Generator) -> Tensor:
    """Random light, tint, grey, blur and grain, as cameras and codecs give them; changes ``image`` in place."""
    count = len(image)
    gain = _uniform(count, 0.65, 1.35, generator)[:, None] * (1 + 0.12 * torch.randn(count, 3, generator=generator))
    lift = 0.5 - 0.5 * gain + 0.08 * torch.randn(count, 1, generator=generator)
    image.mul_(gain[:, :, None, None]).add_(lift[:, :, None, None])
    grey, soft, grainy = (torch.rand(count, generator=generator) < share for share in (0.1, 0.3, 0.3))
    image[grey] = image[grey].mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    image[soft] = functional.avg_pool2d(image[soft], 3, 1, 1, count_include_pad=False)
    grain = _uniform(int(grainy.sum()), 0.0, 0.05, generator)[:, None, None, None]
    image[grainy] += grain * torch.randn((len(grain), *image.shape[1:]), generator=generator)
    return image.clamp_(0.0, 1.0).contiguous(memory_format=torch.channels_last)


def _similarity(scale: Tensor, angle: Tensor, shift: Tensor, mirror: Tensor) -> Tensor:
    """Matrices (B, 2, 3): output to input, input = scale * R(angle) (mirror * u, v) + shift."""
    cos, sin = scale * angle.cos(), scale * angle.sin()
    return torch.stack([torch.stack([cos * mirror, -sin, shift[:, 0]], dim=1), torch.stack([sin * mirror, cos, shift[:, 1]], dim=1)], dim=1)


def draw_crops(samples: Samples, count: int, size_px: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch for PointNet: crops as a slightly wrong FaceFinder would cut them, mirrored half the time.

    Args:
        samples: faces.
        count: batch size.
        size_px: side of the crops.
        generator: of this step.

    Returns:
        images (B, 3, size_px, size_px) in [0, 1]; points (B, 68, 2) in [-1, 1].
    """
    chosen = torch.randint(len(samples), (count,), generator=generator)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    matrix = _similarity(
        torch.exp(0.08 * torch.randn(count, generator=generator).clamp(-2, 2)) / PATCH_MARGIN,
        0.12 * torch.randn(count, generator=generator).clamp(-2.5, 2.5),
        0.05 * torch.randn(count, 2, generator=generator).clamp(-2, 2),
        mirror,
    )
    points = align.apply_inverse(matrix, samples.points[chosen])
    points = torch.where((mirror < 0)[:, None, None], points[:, list(schema.FLIP)], points)
    return _recolour(align.look(samples.patches[chosen], matrix, size_px), generator), points


def draw_aligned(samples: Samples, template: Tensor, count: int, size_px: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A batch for Refiner: faces aligned to the template as by a slightly wrong PointNet, mirrored half the time.

    Args:
        samples: faces.
        template: (68, 2) in [-1, 1].
        count: batch size.
        size_px: side of the aligned pictures.
        generator: of this step.

    Returns:
        images (B, 3, size_px, size_px) in [0, 1]; points (B, 68, 2) in [-1, 1]; blendshape scores (B, 52).
    """
    chosen = torch.randint(len(samples), (count,), generator=generator)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    is_mirrored = mirror < 0
    points, scores = samples.points[chosen], samples.scores[chosen]
    points = torch.where(is_mirrored[:, None, None], align.mirror_points(points), points)
    scores = torch.where(is_mirrored[:, None], scores[:, list(schema.BLENDSHAPE_FLIP)], scores)
    wrong = points + 0.005 * torch.randn(points.shape, generator=generator)
    jitter = _similarity(
        torch.exp(0.02 * torch.randn(count, generator=generator)),
        0.02 * torch.randn(count, generator=generator),
        0.012 * torch.randn(count, 2, generator=generator),
        torch.ones(count),
    )
    matrix = align.compose(align.similarity(template[None].expand(count, -1, -1), wrong), jitter)
    seen = matrix * torch.stack([mirror, torch.ones(count)], 1)[:, :, None]
    return _recolour(align.look(samples.patches[chosen], seen, size_px), generator), align.apply_inverse(matrix, points), scores


def _windows_beside(faces: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Half sides (B,) and centres (B, 2) of windows that miss the face, and whether they do (B,); best of eight draws."""
    count, tries = len(faces), 8
    half = 0.12 + 0.28 * torch.rand(count, tries, generator=generator)
    centre = (2 * torch.rand(count, tries, 2, generator=generator) - 1) * (1 - half[..., None])
    reach = half + 1.1 * faces[:, None, 2]  # half the window plus half the face (size over side = half extent in [-1, 1]) and a margin
    apart = (centre - faces[:, None, :2]).abs().amax(dim=-1) - reach
    best = apart.argmax(dim=1, keepdim=True)
    pick = lambda values: values.gather(1, best)[:, 0]  # noqa: E731
    return pick(half), torch.stack([pick(centre[..., 0]), pick(centre[..., 1])], dim=1), pick(apart) > 0


def draw_pictures(samples: Samples, count: int, size_px: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch for FaceFinder, half of it without a face.

    Faceless pictures are: given ones, windows beside the face blown up, and pictures whose tiles are shuffled (skin and hair, but no face).

    Args:
        samples: faces and faceless pictures.
        count: batch size.
        size_px: side of the pictures.
        generator: of this step.

    Returns:
        images (B, 3, size_px, size_px) in [0, 1]; present (B,) 0 or 1; centre (B, 2) in [-1, 1]; log size (B,).
    """
    chosen = torch.randint(len(samples), (count,), generator=generator)
    faces, pictures = samples.faces[chosen], samples.small[chosen].clone()
    present = torch.arange(count) % 2 == 0
    kind = torch.randint(3, (count,), generator=generator)
    half, beside, clear = _windows_beside(faces, generator)
    window = ~present & (kind == 0) & clear
    given = ~present & (kind == 1) & (len(samples.faceless) > 0)
    shuffled = ~present & ~window & ~given
    if len(samples.faceless):
        pictures[given] = samples.faceless[torch.randint(len(samples.faceless), (int(given.sum()),), generator=generator)]
    tiles = 8
    step = SMALL_PX // tiles
    for index in torch.nonzero(shuffled)[:, 0].tolist():
        order = torch.randperm(tiles * tiles, generator=generator)
        cut = pictures[index].view(tiles, step, tiles, step, 3).permute(0, 2, 1, 3, 4).reshape(tiles * tiles, step, step, 3)[order]
        pictures[index] = cut.view(tiles, tiles, step, step, 3).permute(0, 2, 1, 3, 4).reshape(SMALL_PX, SMALL_PX, 3)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    scale = torch.exp(_uniform(count, -0.35, 0.25, generator))
    # a closer look must keep the face inside: not below twice its size
    scale = torch.maximum(scale, 1.25 * faces[:, 2])
    room = (scale - faces[:, 2]).clamp_min(0.0)[:, None]
    aim = faces[:, :2] + (2 * torch.rand(count, 2, generator=generator) - 1) * torch.minimum(room, torch.tensor(0.6))
    aim = torch.where(window[:, None], beside, aim)
    scale = torch.where(window, half, scale)
    matrix = _similarity(scale, 0.1 * torch.randn(count, generator=generator).clamp(-2, 2), aim, mirror)
    images = _recolour(align.look(pictures, matrix, size_px), generator)
    centre = align.apply_inverse(matrix, faces[:, None, :2])[:, 0]
    return images, present.float(), centre, (faces[:, 2] / scale).log()


__all__ = [
    "PATCH_MARGIN",
    "PATCH_PX",
    "POINT_CROP_SCALE",
    "SMALL_PX",
    "Samples",
    "draw_aligned",
    "draw_crops",
    "draw_pictures",
    "make_samples",
]
