"""Training of stage II: first the warp, then the codes, then the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowvqtalker.image.adversarial import PatchDiscriminator, hinge_discriminator_loss, hinge_generator_loss
from flowvqtalker.image.data import FrameSet, Sampler, fixed_pairs
from flowvqtalker.image.geometry import unit_points
from flowvqtalker.image.perceptual import OwnFeatures, SqueezeFeatures, perceptual_distance
from flowvqtalker.image.regions import loss_weight
from flowvqtalker.image.vqig import VQIG, Output
from flowvqtalker.precision import autocast
from flowvqtalker.train.codebook import VALIDATION_BATCH, mean_values, psnr_db, region_psnr
from flowvqtalker.train.loop import Task


@dataclass(frozen=True)
class ImagegenLosses:
    """Weights of the losses of stage II and when they act.

    Attributes:
        warp_l1: of the warped source.
        warp_perceptual: of the warped source, in the first phase.
        landmarks: of the distance [share of half the picture's side] between where the flow sends the target's landmarks and the source's, and
            of that between the moved landmarks and the target's.
        smooth: of the squared differences of neighbouring flow vectors, in half-resolution pixels.
        code: cross-entropy of the code logits. It sharpens what is already near; at first its gradient is mostly noise.
        code_tokens_share: share of the tokens, drawn anew in each step, that enter the cross-entropy.
        feature: squared distance of the vectors to the target's codes, in units of the codes' mean variance.
        l1, perceptual: of the frame.
        gan: of the adversarial loss; 0 trains no discriminator.
        mouth, eyes, brows, face: extra weight of these regions in every loss.
        entropy_from, image_from, gan_from: steps of T's training from which the code, picture and adversarial losses act.
    """

    warp_l1: float
    warp_perceptual: float
    landmarks: float
    smooth: float
    code: float
    code_tokens_share: float
    feature: float
    l1: float
    perceptual: float
    gan: float
    mouth: float
    eyes: float
    brows: float
    face: float
    entropy_from: int
    image_from: int
    gan_from: int


class ImagegenTask(Task):
    """Trains one part of the VQIG on pairs of frames of one identity; E_h, C and D_h stay frozen.

    Args:
        part: "warp" trains psi and the warp, "codes" all that comes behind them (and psi, where there is no warp).
    """

    ema_names = ("vqig",)

    def __init__(
        self,
        model: VQIG,
        features: OwnFeatures | SqueezeFeatures,
        frames: FrameSet,
        validation: FrameSet,
        weights: ImagegenLosses,
        *,
        lr: float,
        part: str,
        weight_decay: float,
        batch: int,
        stills_share: float,
        enrolment_share: float,
        discriminator_width: int,
        validation_pairs: int,
        precision: str,
    ) -> None:
        self.model, self.features, self.weights, self.precision = model, features, weights, precision
        self.modules = {"vqig": model}
        self.part = part
        self.optimizers = {"vqig": torch.optim.AdamW(self._trained(), lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)}
        self.discriminator = PatchDiscriminator(discriminator_width) if weights.gan > 0 and part == "codes" else None
        if self.discriminator is not None:
            self.modules["discriminator"] = self.discriminator
            self.optimizers["discriminator"] = torch.optim.AdamW(
                self.discriminator.parameters(), lr=lr, betas=(0.5, 0.9), weight_decay=0, fused=True
            )
        self.frames, self.sampler = frames, Sampler(frames, stills_share, enrolment_share)
        self.validation, self.validation_pairs = validation, fixed_pairs(validation, validation_pairs)
        self.batch_size = batch
        self._regions = (weights.mouth, weights.eyes, weights.brows, weights.face)
        self.code_variance = float(model.codebook.quantizer.embedding.var(0, unbiased=False).mean().clamp_min(1e-6))

    def _trained(self) -> list[nn.Parameter]:
        """Parameters of this part."""
        first = [part for part in (self.model.psi, self.model.warp, self.model.point_motion) if part is not None]
        own = {id(p) for part in first for p in part.parameters()} if self.model.warp is not None else set()
        is_warp = self.part == "warp"
        return [p for p in self.model.parameters() if p.requires_grad and (id(p) in own) == is_warp]

    def phase(self, step: int) -> str:
        """How far the forward pass goes at a step: "warp", "codes" or "image"."""
        if self.part == "warp":
            return "warp"
        return "codes" if step < self.weights.image_from else "image"

    def draw(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Frame indices of sources and targets."""
        return self.sampler.draw_pairs(self.batch_size, generator)

    def losses(self, batch: tuple[Tensor, Tensor], step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        """Losses of the phase; then the discriminator's turn."""
        source, target_index = batch
        image, target = self.frames.batch(source), self.frames.batch(target_index)
        motion = self.frames.motion(target_index, source, self.model.config.window)
        weight = loss_weight(self.frames.landmarks[target_index], self.frames.size_px, *self._regions)
        discriminator = self.discriminator if self.part == "codes" and step >= self.weights.gan_from else None
        with autocast(image.device, self.precision):
            output = self.model(image, motion, phase=self.phase(step))
            loss, logs = self._reconstruction(output, target, weight, step)
            if output.flow.requires_grad:
                known, size = (self.frames.landmarks[source], self.frames.landmarks[target_index]), self.frames.size_px
                miss = landmark_miss(output.flow, *known, size)
                loss, logs["landmark_miss_px"] = loss + self.weights.landmarks * miss, float(miss.detach()) * size / 2
                if output.points is not None:
                    error = landmark_error(output.points - unit_points(known[1], size))
                    loss, logs["point_error_px"] = loss + self.weights.landmarks * error, float(error.detach()) * size / 2
            if output.image is not None and discriminator is not None:
                discriminator.requires_grad_(False)
                adversarial = hinge_generator_loss(discriminator(output.image))
                discriminator.requires_grad_(True)
                loss, logs["adversarial"] = loss + self.weights.gan * adversarial, float(adversarial.detach())
        logs |= {"loss": float(loss.detach()), "psnr_warped_db": float(psnr_db(output.warped.detach(), target).mean())}
        yield "vqig", loss, logs
        if output.image is not None and discriminator is not None:
            with autocast(image.device, self.precision):
                loss = hinge_discriminator_loss(discriminator(target), discriminator(output.image.detach()))
            yield "discriminator", loss, {"discriminator": float(loss.detach())}

    def _reconstruction(self, output: Output, target: Tensor, weight: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        w, logs = self.weights, {}
        with torch.no_grad():
            target_maps = self.features(target) if output.vectors is None or output.image is not None else []
        loss = target.new_zeros(())
        if output.flow.requires_grad:
            l1 = (weight * (output.warped - target).abs()).mean()
            distance = perceptual_distance(self.features(output.warped.contiguous(memory_format=torch.channels_last)), target_maps, weight)
            shift = output.flow * (output.flow.shape[-1] / 2)
            smooth = (shift[..., 1:] - shift[..., :-1]).square().mean() + (shift[..., 1:, :] - shift[..., :-1, :]).square().mean()
            loss = loss + w.warp_l1 * l1 + w.warp_perceptual * distance + w.smooth * smooth
            logs |= {"warp_l1": float(l1.detach()), "warp_perceptual": float(distance.detach()), "flow_roughness": float(smooth.detach())}
        if output.vectors is not None:
            loss = loss + self._codes(output.vectors, target, weight, step, logs)
        if output.image is not None:
            l1 = (weight * (output.image - target).abs()).mean()
            distance = perceptual_distance(self.features(output.image.contiguous(memory_format=torch.channels_last)), target_maps, weight)
            loss = loss + w.l1 * l1 + w.perceptual * distance
            logs |= {
                "l1": float(l1.detach()),
                "perceptual": float(distance.detach()),
                "psnr_db": float(psnr_db(output.image.detach(), target).mean()),
            }
        return loss, logs

    def _codes(self, vectors: Tensor, target: Tensor, weight: Tensor, step: int, logs: dict[str, float]) -> Tensor:
        """Cross-entropy and feature distance to the codes of the target."""
        with torch.no_grad():
            quantised = self.model.codebook.encode(target)
        token_weight = F.adaptive_avg_pool2d(weight, (vectors.shape[-2], vectors.shape[-1]))
        goal = quantised.values
        feature = (token_weight * (vectors - goal).square()).mean() / self.code_variance
        logs["feature"] = float(feature.detach())
        loss = self.weights.feature * feature
        if self.model.config.codes and step >= self.weights.entropy_from:
            # A random share of the tokens is enough for a gradient; K logits for each of them are the dearest tensor of a step.
            n_tokens = quantised.indices.numel()
            chosen = torch.randperm(n_tokens)[: max(1, int(n_tokens * self.weights.code_tokens_share))]
            logits = self.model.code_logits(vectors.permute(0, 2, 3, 1).flatten(0, 2)[chosen])
            indices = quantised.indices.reshape(-1)[chosen]
            entropy = (token_weight.reshape(-1)[chosen] * F.cross_entropy(logits, indices, reduction="none")).mean()
            logs |= {"cross_entropy": float(entropy.detach()), "code_accuracy": float((logits.argmax(1) == indices).float().mean())}
            loss = loss + self.weights.code * entropy
        return loss

    def validate(self, step: int) -> dict[str, float]:
        """Frames of unseen identities from their enrolment frame; of the warp the warped picture is what counts."""
        values = measure_imagegen(self.model, self.validation, *self.validation_pairs, self.precision)
        return values | {"mse": 10 ** (-values["psnr_warped_db" if self.part == "warp" else "psnr_db"] / 10)}


def landmark_miss(flow: Tensor, source: Tensor, target: Tensor, size_px: int) -> Tensor:
    """Mean distance by which a backward flow misses the source's landmarks when it starts from the target's.

    A few dozen known correspondences teach lips and lids much faster than colours do, whose gradient ends a pixel away. Lips, lids and
    brows count three times.

    Args:
        flow: (B, 2, h, w) displacement (u, v) in half sides of the picture.
        source: (B, 68, 2) px.
        target: (B, 68, 2) px.
        size_px: side of the picture.

    Returns:
        Scalar, in half sides (absolute, mean of u and v); pictures with NaN take no part.
    """
    source, target = unit_points(source, size_px), unit_points(target, size_px)
    place = torch.nan_to_num(target)[:, None].to(flow.dtype)
    moved = F.grid_sample(flow, place, padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)
    return landmark_error(target + moved - source)


def landmark_error(difference: Tensor) -> Tensor:
    """Mean absolute difference of landmarks (B, 68, 2); lips, lids and brows count three times, pictures with NaN not at all."""
    is_known = torch.isfinite(difference).all(-1).all(-1).float()
    weight = torch.ones(difference.shape[1], device=difference.device)
    weight[17:27] = weight[36:68] = 3.0
    error = (torch.nan_to_num(difference).abs().mean(-1) * weight).mean(1) / weight.mean()
    return (error * is_known).sum() / is_known.sum().clamp_min(1)


@torch.no_grad()
def measure_imagegen(model: VQIG, frames: FrameSet, source: Tensor, target: Tensor, precision: str) -> dict[str, float]:
    """Quality of generated frames beside the floor and the ceiling.

    Returns:
        Means over pairs, in dB: ``psnr_db`` and face, mouth, eyes; ``psnr_warped_db``; ``copy_psnr_db`` (the source as it is) and its
        regions; ``ceiling_psnr_db`` (the target through the codebook) and its regions; ``code_accuracy``.
    """
    model.eval()
    values: dict[str, list[Tensor]] = {}
    for part_source, part_target in zip(source.split(VALIDATION_BATCH), target.split(VALIDATION_BATCH), strict=True):
        image, goal = frames.batch(part_source), frames.batch(part_target)
        landmarks = frames.landmarks[part_target]
        with autocast(image.device, precision):
            output = model(image, frames.motion(part_target, part_source, model.config.window))
            ceiling, quantised = model.codebook(goal)
            nearest = model.codebook.quantizer.nearest(output.vectors.permute(0, 2, 3, 1))
        for prefix, picture in (("", output.image), ("copy_", image), ("ceiling_", ceiling)):
            for name, value in region_psnr(picture, goal, landmarks).items():
                values.setdefault(prefix + name, []).append(value)
        values.setdefault("psnr_warped_db", []).append(psnr_db(output.warped, goal))
        values.setdefault("code_accuracy", []).append((nearest == quantised.indices).float().mean((1, 2)))
    return mean_values(values)
