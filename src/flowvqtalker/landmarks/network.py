"""The trained back end: is there a face, where, its 68 points and its blendshapes. Small enough to learn in minutes of one core.

Three convolutional networks. ``FaceFinder`` sees the whole picture, small, and gives presence and box. ``PointNet`` sees the crop and gives
one probability map per point, whose mean is the point (soft-argmax; Nibali et al. 2018, "Numerical coordinate regression with convolutional
neural networks"). ``Refiner`` sees the face aligned to a template by those points, at a higher resolution, and gives the points again, now
with less error (docs/decisions/0016), and, as MediaPipe's landmarker does, blendshape scores. All begin with a pixel-unshuffle, so that all convolutions
run on a quarter of the resolution.
Coordinates inside the networks run from -1 to 1 between the edges of the input.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from flowvqtalker.constants import GAP_PAIRS
from flowvqtalker.landmarks import align, boxes, schema
from flowvqtalker.landmarks.schema import N_LANDMARKS, Detections
from flowvqtalker.precision import autocast

_Net = TypeVar("_Net", bound=nn.Module)

#: Side over face size of the crop that PointNet sees.
POINT_CROP_SCALE = 1.45
#: Frames of one forward pass; keeps the activations in the processor's cache.
BATCH_FRAMES = 16


def channels_last(net: _Net) -> _Net:
    """The network with its weights laid out for fast convolutions on CPUs."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fused(net: _Net) -> _Net:
    """The network, for inference only, with every batch normalisation folded into the convolution before it: the same numbers, a tenth faster."""
    for part in net.modules():
        if isinstance(part, nn.Sequential) and len(part) > 1:
            conv, norm = part[0], part[1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[0], part[1] = fuse_conv_bn_eval(conv.eval(), norm.eval()), nn.Identity()
    return net


def _check_size(size_px: int) -> None:
    if size_px % 16:
        raise ValueError(f"size_px: expected a multiple of 16, got {size_px}")


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x + self.second(self.first(x)))


def _mean_position(weights: Tensor) -> Tensor:
    """Mean position of maps that sum to one; (B, L, h, w) -> (B, L, 2) as (u, v) in [-1, 1]."""
    height, width = weights.shape[-2:]
    u = (torch.arange(width, device=weights.device, dtype=weights.dtype) + 0.5) * (2 / width) - 1
    v = (torch.arange(height, device=weights.device, dtype=weights.dtype) + 0.5) * (2 / height) - 1
    return torch.stack([(weights.sum(dim=-2) * u).sum(dim=-1), (weights.sum(dim=-1) * v).sum(dim=-1)], dim=-1)


class FaceFinder(nn.Module):
    """Presence, centre and size of the largest face.

    Args:
        size_px: side of the square input, a multiple of 16.
        channels: width at a quarter and at an eighth of the input.
    """

    def __init__(self, size_px: int = 96, channels: tuple[int, int] = (32, 64)) -> None:
        super().__init__()
        _check_size(size_px)
        first, second = channels
        self.size_px = size_px
        self.stem = _conv(48, first)
        self.down = nn.Sequential(_conv(first, second, 2), _Residual(second))
        self.context = nn.Sequential(_conv(second, second, 2), _Residual(second))
        self.merge = _conv(second, second)
        self.heat = nn.Conv2d(second, 1, 1)
        self.size = nn.Linear(second, 1)
        self.presence = nn.Linear(2 * second, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Args: image (B, 3, size_px, size_px) in [0, 1].

        Returns:
            presence logit (B,); centre (B, 2) in [-1, 1]; natural log of (face size / input side) (B,).
        """
        x = self.down(self.stem(functional.pixel_unshuffle(image - 0.5, 4)))
        x = self.merge(x + functional.interpolate(self.context(x), scale_factor=2.0))
        weights = self.heat(x).float().flatten(2).softmax(dim=-1)
        features = x.float().flatten(2)
        focus = (features * weights).sum(dim=-1)
        centre = _mean_position(weights.view(len(x), 1, *x.shape[-2:]))[:, 0]
        presence = self.presence(torch.cat([focus, features.mean(dim=-1)], dim=1))[:, 0]
        return presence, centre, self.size(focus)[:, 0] - 0.7


class PointNet(nn.Module):
    """68 points in a crop around the face.

    Args:
        size_px: side of the square input, a multiple of 16.
        channels: width at a quarter, an eighth and a sixteenth of the input.
    """

    def __init__(self, size_px: int = 96, channels: tuple[int, int, int] = (64, 64, 128)) -> None:
        super().__init__()
        _check_size(size_px)
        first, second, third = channels
        self.size_px = size_px
        self.stem = _conv(48, first)
        self.down = nn.Sequential(_conv(first, second, 2), _Residual(second))
        self.deep = nn.Sequential(_conv(second, third, 2), _Residual(third))
        self.up = nn.Conv2d(third, second, 1)
        self.merge = _conv(second, second)
        self.lift = nn.Conv2d(second, first, 1)
        self.fine = _conv(first, first)
        self.heat = nn.Conv2d(first, N_LANDMARKS, 1)

    def maps(self, image: Tensor) -> Tensor:
        """Logits of the points' maps: (B, 3, S, S) in [0, 1] -> (B, 68, S/4, S/4) float32."""
        quarter = self.stem(functional.pixel_unshuffle(image - 0.5, 4))
        eighth = self.down(quarter)
        eighth = self.merge(eighth + functional.interpolate(self.up(self.deep(eighth)), scale_factor=2.0))
        quarter = self.fine(quarter + functional.interpolate(self.lift(eighth), scale_factor=2.0))
        return self.heat(quarter).float()

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> points (B, 68, 2) in [-1, 1]."""
        maps = self.maps(image)
        return _mean_position(maps.flatten(2).softmax(dim=-1).view_as(maps))


class Refiner(nn.Module):
    """68 points and 52 blendshape scores of an aligned face.

    In an aligned face each point moves little, so plain regression from all features is exact where maps of a few cells are not, and knows
    which faces exist. The scores are read from the points, which carry most of them, and from the features (wrinkles, teeth).

    Args:
        size_px: side of the square input, a multiple of 16.
        channels: width at a quarter and at an eighth of the input.
        hidden: width of the dense layers.
    """

    template: Tensor

    def __init__(self, size_px: int = 128, channels: tuple[int, int] = (32, 64), hidden: int = 256) -> None:
        super().__init__()
        _check_size(size_px)
        first, second = channels
        self.size_px = size_px
        self.stem = _conv(48, first)
        self.down = nn.Sequential(_conv(first, second, 2), _Residual(second))
        self.deep = nn.Sequential(_conv(second, second, 2), _Residual(second))
        self.narrow = _conv(second, 16)
        self.mix = nn.Sequential(
            nn.Linear(16 * (size_px // 8) ** 2 + second * (size_px // 16) ** 2, hidden), nn.LayerNorm(hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
        )  # fmt: skip
        self.shift = nn.Linear(hidden, 2 * N_LANDMARKS)
        self.scores = nn.Sequential(nn.Linear(hidden + 2 * N_LANDMARKS, 128), nn.SiLU(), nn.Linear(128, len(schema.BLENDSHAPES)))
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)
        self.register_buffer("template", torch.zeros(N_LANDMARKS, 2))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) in [0, 1] -> points (B, 68, 2) in [-1, 1] and blendshape scores (B, 52), not clamped, both float32."""
        eighth = self.down(self.stem(functional.pixel_unshuffle(image - 0.5, 4)))
        hidden = self.mix(torch.cat([self.narrow(eighth).flatten(1), self.deep(eighth).flatten(1)], 1))
        shift = self.shift(hidden)
        scores = self.scores(torch.cat([hidden, shift.to(hidden.dtype)], 1))
        return self.template + _SHIFT_SCALE * shift.float().unflatten(1, (N_LANDMARKS, 2)), scores.float()


#: Unit of Refiner's shifts: an ordinary move of a point in an aligned face.
_SHIFT_SCALE = 0.1


def to_unit(points_px: Any, size_px: float) -> Any:
    """Pixels (integer = centre) of a square picture of side ``size_px`` to [-1, 1] between its edges."""
    return (points_px + 0.5) * (2.0 / size_px) - 1.0


def from_unit(points: Any, size_px: float) -> Any:
    """Inverse of ``to_unit``."""
    return (points + 1.0) * (size_px / 2.0) - 0.5


# ------------------------------------------------------------------------------------------------------------------------ losses

#: Lids and lips count more: blinks and speech live there, within a pixel or two.
_POINT_WEIGHTS = np.ones(N_LANDMARKS, np.float32)
_POINT_WEIGHTS[list(schema.EYES)] = 2.0
_POINT_WEIGHTS[list(schema.MOUTH)] = 2.0
_POINT_WEIGHTS[list(schema.JAW)] = 0.5


def point_error(points: Tensor, truth: Tensor, *, gap_weight: float) -> tuple[Tensor, dict[str, float]]:
    """Mean distance in outer-eye distances (lids and lips twice, jaw half), plus ``gap_weight`` times the error of lid and lip gaps, which
    blinks and speech are read from.

    Args:
        points: (B, 68, 2).
        truth: (B, 68, 2) in the same frame.
        gap_weight: weight of the gaps.

    Returns:
        scalar loss; {"error": mean distance as a share of the outer-eye distance, "gap": ...}.
    """
    unit = (truth[:, 36] - truth[:, 45]).norm(dim=-1).clamp_min(1e-3)[:, None]
    weights = torch.as_tensor(_POINT_WEIGHTS, device=points.device)
    distance = (points - truth).square().sum(dim=-1).add(1e-8).sqrt() / unit
    first, second = (list(side) for side in zip(*GAP_PAIRS, strict=True))
    gap = ((points[:, first] - points[:, second]) - (truth[:, first] - truth[:, second])).norm(dim=-1) / unit
    loss = (distance * weights).sum(dim=1).mean() / weights.sum() + gap_weight * gap.mean()
    return loss, {"error": float(distance.detach().mean()), "gap": float(gap.detach().mean())}


def point_loss(maps: Tensor, truth: Tensor, *, map_weight: float, gap_weight: float) -> tuple[Tensor, dict[str, float]]:
    """Loss of PointNet: ``point_error`` plus ``map_weight`` times the cross-entropy to a Gaussian of one cell, which tells a young network
    where to look at all.

    Args:
        maps: (B, 68, h, w) logits.
        truth: (B, 68, 2) in [-1, 1].
        map_weight: weight of the maps' cross-entropy.
        gap_weight: weight of the gaps.

    Returns:
        scalar loss; {"error": mean distance as a share of the outer-eye distance, "gap": ..., "map": ...}.
    """
    error, logs = point_error(_mean_position(maps.flatten(2).softmax(dim=-1).view_as(maps)), truth, gap_weight=gap_weight)
    height, width = maps.shape[-2:]
    u = torch.arange(width, device=maps.device) + 0.5
    v = torch.arange(height, device=maps.device) + 0.5
    cell = (truth + 1) / 2 * torch.tensor([width, height], device=maps.device)
    near_u = (-0.5 * (u - cell[..., :1]).square()).softmax(dim=-1)
    near_v = (-0.5 * (v - cell[..., 1:]).square()).softmax(dim=-1)
    # the target is a product of rows and columns that sums to one: cross-entropy = log-sum-exp - near_v^T maps near_u
    inside = ((maps @ near_u[..., None])[..., 0] * near_v).sum(dim=-1)
    cross = (maps.flatten(2).logsumexp(dim=-1) - inside).mean()
    return error + map_weight * cross, {**logs, "map": float(cross.detach())}


def score_loss(scores: Tensor, truth: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Mean squared error of blendshape scores (B, 52), each in units of a typical spread of 0.2; {"score": root mean square error}."""
    square = (scores - truth).square().mean()
    return square / 0.2**2, {"score": float(square.detach().sqrt())}


def face_loss(output: tuple[Tensor, Tensor, Tensor], present: Tensor, centre: Tensor, log_size: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Loss of FaceFinder: cross-entropy of presence, centre error in face sizes and error of log size where there is a face.

    Args:
        output: what FaceFinder returned.
        present: (B,) float, 1 with a face.
        centre: (B, 2) in [-1, 1].
        log_size: (B,) natural log of face size over input side.

    Returns:
        scalar loss; {"presence": ..., "centre": mean distance in face sizes, "size": mean |log ratio|}.
    """
    logit, found_centre, found_size = output
    presence = functional.binary_cross_entropy_with_logits(logit, present)
    count = present.sum().clamp_min(1.0)
    off = (found_centre - centre).norm(dim=-1) / (2 * log_size.exp())
    centre_error = (off * present).sum() / count
    size_error = ((found_size - log_size).abs() * present).sum() / count
    logs = {"presence": float(presence.detach()), "centre": float(centre_error.detach()), "size": float(size_error.detach())}
    return presence + 2 * centre_error + size_error, logs


# --------------------------------------------------------------------------------------------------------------------- inference


def whole_box(height: int, width: int) -> boxes.Box:
    """The square around a whole picture; beyond its border pixels are repeated."""
    side = max(height, width)
    x0, y0 = (width - side) // 2, (height - side) // 2
    return x0, y0, x0 + side, y0 + side


def to_batch(frames: np.ndarray) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32 in [0, 1], channels last in memory."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).to(torch.float32).div_(255.0).contiguous(memory_format=torch.channels_last)


def _running_median(values: np.ndarray, present: np.ndarray, reach: int) -> np.ndarray:
    """Median over the present frames within ``reach`` frames; (T, n)."""
    result = values.copy()
    for index in np.flatnonzero(present):
        near = slice(max(0, index - reach), index + reach + 1)
        result[index] = np.median(values[near][present[near]], axis=0)
    return result


class TrainedLandmarker:
    """The networks as a landmark back end.

    Args:
        finder: trained FaceFinder.
        points: trained PointNet.
        refiner: trained Refiner.
        min_score: presence below which there is no face, [0, 1].
        precision: "fp32", or "bf16" for the networks' convolutions and matrix products: a quarter faster where the processor has them;
            points then differ by 0.03 % of the outer-eye distance on average.
    """

    def __init__(self, finder: FaceFinder, points: PointNet, refiner: Refiner, *, min_score: float = 0.5, precision: str = "fp32") -> None:
        self.finder = channels_last(finder.eval())
        self.points = channels_last(points.eval())
        self.refiner = channels_last(refiner.eval())
        self.min_score = min_score
        self.precision = precision

    def _run(self, network: nn.Module, batch: Tensor) -> tuple[Tensor, ...]:
        """Outputs of a network in float32, computed in ``precision``."""
        with autocast(batch.device, self.precision):
            found = network(batch)
        return tuple(part.float() for part in (found if isinstance(found, tuple) else (found,)))

    @classmethod
    def from_state(cls, state: dict[str, Any], *, min_score: float = 0.5, precision: str = "fp32") -> TrainedLandmarker:
        """Rebuild from what ``pack`` made, for inference.

        Raises:
            ValueError: the state is that of a pipeline whose back end is not ``trained``.
        """
        if "finder" not in state:
            raise ValueError("this model was not trained: landmarks.backend was another one when the stage 'landmarker' ran")
        finder = FaceFinder(int(state["finder_size_px"]), tuple(state["finder_channels"]))
        points = PointNet(int(state["points_size_px"]), tuple(state["points_channels"]))
        refiner = Refiner(int(state["refiner_size_px"]), tuple(state["refiner_channels"]), int(state["refiner_hidden"]))
        finder.load_state_dict(state["finder"])
        points.load_state_dict(state["points"])
        refiner.load_state_dict(state["refiner"])
        return cls(fused(finder), fused(points), fused(refiner), min_score=min_score, precision=precision)

    @torch.inference_mode()
    def find(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Presence and box by frame.

        Args:
            frames: (T, H, W, 3) uint8 RGB.

        Returns:
            score (T,) in [0, 1]; (T, 3) centre u, v and size in px of the frames.
        """
        box = whole_box(*frames.shape[1:3])
        side = box[2] - box[0]
        scores, places = [], []
        for piece in schema.pieces_of(frames, BATCH_FRAMES):
            logit, centre, log_size = self._run(self.finder, to_batch(boxes.crop_frames(piece, box, self.finder.size_px)))
            scores.append(logit.sigmoid().numpy())
            corner = np.array(box[:2], np.float32)
            places.append(np.concatenate([from_unit(centre.numpy(), side) + corner, log_size.exp().numpy()[:, None] * side], axis=1))
        return np.concatenate(scores), np.concatenate(places)

    @torch.inference_mode()
    def _locate(self, frames: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 68, 2) px of the frames and (N, 52) blendshape scores from rough (centre, size)."""
        found, shapes = [], []
        for start in range(0, len(frames), BATCH_FRAMES):
            some = slice(start, start + BATCH_FRAMES)
            rough = [crop_box(*place) for place in places[some]]
            (seen,) = self._run(self.points, to_batch(_cut(frames[some], rough, self.points.size_px)))
            points = from_unit(seen.numpy(), self.points.size_px)
            points = [boxes.from_crop(one, box, self.points.size_px) for one, box in zip(points, rough, strict=True)]
            around = [patch_box(one) for one in points]
            patches = torch.from_numpy(_cut(frames[some], around, align.PATCH_PX))
            coarse = np.stack([boxes.to_crop(one, box, align.PATCH_PX) for one, box in zip(points, around, strict=True)])
            fine, scores = self.refine(patches, torch.from_numpy(to_unit(coarse, align.PATCH_PX)).float())
            fine = from_unit(fine.numpy(), align.PATCH_PX)
            found.extend(boxes.from_crop(one, box, align.PATCH_PX) for one, box in zip(fine, around, strict=True))
            shapes.append(scores.numpy())
        return np.stack(found), np.concatenate(shapes)

    def refine(self, patches: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Better points and blendshape scores.

        Args:
            patches: (B, S, S, 3) uint8 around faces.
            coarse: (B, 68, 2) in [-1, 1] of the patches.

        Returns:
            points (B, 68, 2) in [-1, 1] of the patches; scores (B, 52) in [0, 1].
        """
        matrix = align.similarity(self.refiner.template[None].expand(len(coarse), -1, -1), coarse)
        image = align.look(patches, matrix, self.refiner.size_px).contiguous(memory_format=torch.channels_last)
        points, scores = self._run(self.refiner, image)
        return align.apply(matrix, points), scores.clamp(0, 1)

    def detect(self, frames: np.ndarray, *, video: bool = True) -> Detections:
        """See ``schema.Landmarker.detect``.

        In a video the rough box is a running median over five frames, so that the crop, and with it the points, do not jitter.
        """
        schema.check_frames(frames)
        landmarks = np.full((len(frames), N_LANDMARKS, 2), np.nan, np.float32)
        if len(frames) == 0:
            return Detections(landmarks, np.zeros(0, np.float32), np.zeros((0, len(schema.BLENDSHAPES)), np.float32))
        shapes = np.full((len(frames), len(schema.BLENDSHAPES)), np.nan, np.float32)
        score, places = self.find(frames)
        present = score >= self.min_score
        if present.any():
            if video:
                places = _running_median(places, present, 2)
            landmarks[present], shapes[present] = self._locate(frames[present], places[present])
        return Detections(landmarks, score.astype(np.float32), shapes)

    def detect_pieces(self, pieces: Iterable[np.ndarray]) -> Detections:
        """See ``schema.Landmarker.detect_pieces``; the median of the boxes does not cross from one piece to the next."""
        return schema.join_detections([self.detect(piece) for piece in pieces])


def crop_box(u: float, v: float, size: float) -> boxes.Box:
    """Square box that PointNet sees, from the face's centre and size in px."""
    side = max(8, round(POINT_CROP_SCALE * float(size)))
    x0, y0 = round(float(u) + 0.5 - side / 2), round(float(v) + 0.5 - side / 2)
    return x0, y0, x0 + side, y0 + side


def patch_box(points: np.ndarray) -> boxes.Box:
    """Square box of the patch around points (68, 2) px."""
    centre, size = boxes.extent_of(points)
    return crop_box(float(centre[0]), float(centre[1]), float(size) * align.PATCH_MARGIN)


def _cut(frames: np.ndarray, around: list[boxes.Box], size_px: int) -> np.ndarray:
    """(N, size_px, size_px, 3) uint8: each frame's own box."""
    return np.concatenate([boxes.crop_frames(frame[None], box, size_px) for frame, box in zip(frames, around, strict=True)])


def pack(weights: dict[str, dict[str, Tensor]], *, like: TrainedLandmarker) -> dict[str, Any]:
    """State to store: the weights of "finder", "points" and "refiner" and the sizes needed to rebuild the networks (tensors and plain values only)."""
    finder, points, refiner = like.finder, like.points, like.refiner
    return {
        **weights,
        "finder_size_px": finder.size_px,
        "points_size_px": points.size_px,
        "refiner_size_px": refiner.size_px,
        "finder_channels": [finder.stem[0].out_channels, finder.merge[0].out_channels],
        "points_channels": [points.stem[0].out_channels, points.merge[0].out_channels, points.up.in_channels],
        "refiner_channels": [refiner.stem[0].out_channels, refiner.narrow[0].in_channels],
        "refiner_hidden": refiner.shift.in_features,
    }
