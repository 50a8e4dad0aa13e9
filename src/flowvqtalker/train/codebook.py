"""Trainings of stage I: the perceptual network of the losses, then the codebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowvqtalker.image.adversarial import PatchDiscriminator, adaptive_weight, hinge_discriminator_loss, hinge_generator_loss
from flowvqtalker.image.codebook import Codebook
from flowvqtalker.image.data import FrameSet, Sampler
from flowvqtalker.image.perceptual import AuxiliaryHeads, OwnFeatures, SqueezeFeatures, auxiliary_loss, perceptual_distance
from flowvqtalker.image.quantize import usage
from flowvqtalker.image.regions import eyes_mask, face_mask, loss_weight, mouth_mask
from flowvqtalker.precision import autocast
from flowvqtalker.train.loop import Task

VALIDATION_BATCH = 32


def psnr_db(image: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio (B,) dB of pictures (B, 3, H, W) in [0, 1], over the places that ``weight`` (B, 1, H, W) marks."""
    error = (image.float().clamp(0, 1) - target).square().mean(1, keepdim=True)
    weight = torch.ones_like(error) if weight is None else weight
    mse = (error * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1e-6)
    return -10 * mse.clamp_min(1e-10).log10()


def region_psnr(image: Tensor, target: Tensor, landmarks: Tensor) -> dict[str, Tensor]:
    """PSNR (B,) dB of the whole picture, the face mask, the mouth's box and the eyes' boxes; NaN where there is no face."""
    size = target.shape[-1]
    values = {"psnr_db": psnr_db(image, target)}
    is_face = torch.isfinite(landmarks).all(-1).all(-1)
    for name, mask in (("face", face_mask), ("mouth", mouth_mask), ("eyes", eyes_mask)):
        value = psnr_db(image, target, mask(landmarks, size))
        values[f"psnr_{name}_db"] = torch.where(is_face, value, torch.full_like(value, torch.nan))
    return values


class PerceptualTask(Task):
    """Trains ``OwnFeatures`` on its auxiliary tasks."""

    def __init__(
        self, features: OwnFeatures, frames: FrameSet, *, lr: float, batch: int, noise_sd: float, stills_share: float, precision: str
    ) -> None:
        self.features, self.heads = features, AuxiliaryHeads(features.width)
        self.modules = {"features": features, "heads": self.heads}
        parameters = [*features.parameters(), *self.heads.parameters()]
        self.optimizers = {"all": torch.optim.AdamW(parameters, lr=lr, weight_decay=1e-3, fused=True)}
        self.frames, self.sampler = frames, Sampler(frames, stills_share)
        self.batch_size, self.noise_sd, self.precision = batch, noise_sd, precision

    def draw(self, step: int, generator: torch.Generator) -> Tensor:
        """Frame indices of the batch."""
        return self.sampler.draw(self.batch_size, generator)

    def losses(self, batch: Tensor, step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        """Landmarks and clean colours of damaged pictures."""
        image = self.frames.batch(batch)
        with autocast(image.device, self.precision):
            loss, logs = auxiliary_loss(self.features, self.heads, image, self.frames.landmarks[batch], self.noise_sd)
        yield "all", loss, logs


@dataclass(frozen=True)
class CodebookLosses:
    """Weights of the losses of stage I and when they act.

    Attributes:
        l1, l2: weights of mean absolute and mean squared error of colours in [0, 1].
        perceptual: weight of the feature distance.
        commitment: weight of the distance of the encoder's vectors to their codes.
        mouth, eyes: extra weight of these regions (0: none).
        gan: factor on the adaptive adversarial weight; 0 trains no discriminator.
        gan_from: step from which the adversarial loss acts.
        quantise_from: step from which vectors are quantised; before it encoder and decoder learn alone.
    """

    l1: float
    l2: float
    perceptual: float
    commitment: float
    mouth: float
    eyes: float
    gan: float
    gan_from: int
    quantise_from: int


class CodebookTask(Task):
    """Trains E_h, C and D_h by self-reconstruction."""

    ema_names = ("codebook",)

    def __init__(
        self,
        codebook: Codebook,
        features: OwnFeatures | SqueezeFeatures,
        frames: FrameSet,
        validation: FrameSet,
        weights: CodebookLosses,
        *,
        lr: float,
        weight_decay: float,
        batch: int,
        stills_share: float,
        discriminator_width: int,
        validation_frames: int,
        precision: str,
    ) -> None:
        self.codebook, self.features, self.weights, self.precision = codebook, features, weights, precision
        self.modules = {"codebook": codebook}
        self.optimizers = {
            "codebook": torch.optim.AdamW(codebook.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)
        }
        self.discriminator = PatchDiscriminator(discriminator_width) if weights.gan > 0 else None
        if self.discriminator is not None:
            self.modules["discriminator"] = self.discriminator
            self.optimizers["discriminator"] = torch.optim.AdamW(
                self.discriminator.parameters(), lr=lr, betas=(0.5, 0.9), weight_decay=0, fused=True
            )
        self.frames, self.sampler = frames, Sampler(frames, stills_share)
        self.validation, self.validation_index = validation, validation.evenly(validation_frames)
        self.batch_size = batch

    def draw(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Frame indices of the batch and which of them are mirrored."""
        return self.sampler.draw(self.batch_size, generator), torch.rand(self.batch_size, generator=generator) < 0.5

    def losses(self, batch: tuple[Tensor, Tensor], step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        """Reconstruction, perceptual, commitment and adversarial losses; then the discriminator's turn."""
        index, mirrored = batch
        weights = self.weights
        image = self.frames.batch(index)
        weight = loss_weight(self.frames.landmarks[index], self.frames.size_px, weights.mouth, weights.eyes)
        image = torch.where(mirrored[:, None, None, None], image.flip(3), image).contiguous(memory_format=torch.channels_last)
        weight = torch.where(mirrored[:, None, None, None], weight.flip(3), weight)
        logs: dict[str, float] = {}
        with autocast(image.device, self.precision):
            if step < weights.quantise_from:
                made, commitment = self.codebook.decode(self.codebook.encoder(image)), image.new_zeros(())
            else:
                made, quantised = self.codebook(image)
                commitment = quantised.commitment
                used, perplexity = usage(torch.bincount(quantised.indices.reshape(-1), minlength=self.codebook.config.codes))
                logs |= {"batch_codes_used": used, "batch_perplexity": perplexity}
            difference = made - image
            l1, l2 = (weight * difference.abs()).mean(), (weight * difference.square()).mean()
            perceptual = _distance(self.features, made, image, weight) if weights.perceptual else l1.new_zeros(())
            reconstruction = weights.l1 * l1 + weights.l2 * l2 + weights.perceptual * perceptual
            loss = reconstruction + weights.commitment * commitment
            if self.discriminator is not None and step >= weights.gan_from:
                self.discriminator.requires_grad_(False)
                adversarial = hinge_generator_loss(self.discriminator(made))
                factor = weights.gan * adaptive_weight(reconstruction, adversarial, self.codebook.decoder.last.weight)
                loss = loss + factor * adversarial
                self.discriminator.requires_grad_(True)
                logs |= {"adversarial": float(adversarial.detach()), "adversarial_weight": float(factor)}
        logs |= {
            "loss": float(loss.detach()),
            "l1": float(l1.detach()),
            "perceptual": float(perceptual.detach()),
            "commitment": float(commitment.detach()),
        }
        logs["psnr_db"] = float(psnr_db(made.detach(), image).mean())
        yield "codebook", loss, logs
        if self.discriminator is not None and step >= weights.gan_from:
            with autocast(image.device, self.precision):
                real, fake = self.discriminator(image), self.discriminator(made.detach())
                loss = hinge_discriminator_loss(real, fake)
            yield (
                "discriminator",
                loss,
                {
                    "discriminator": float(loss.detach()),
                    "logit_real": float(real.detach().mean()),
                    "logit_fake": float(fake.detach().mean()),
                },
            )

    def validate(self, step: int) -> dict[str, float]:
        """Reconstruction of validation frames; before ``quantise_from`` the codes mean nothing and nothing is said."""
        if step < self.weights.quantise_from:
            return {"mse": 1.0}
        values = measure_codebook(self.codebook, self.validation, self.validation_index, self.precision)
        return values | {"mse": 10 ** (-values["psnr_db"] / 10)}


def _distance(features: OwnFeatures | SqueezeFeatures, made: Tensor, image: Tensor, weight: Tensor | None) -> Tensor:
    with torch.no_grad():
        target = features(image)
    return perceptual_distance(features(made.contiguous(memory_format=torch.channels_last)), target, weight)


@torch.no_grad()
def measure_codebook(codebook: Codebook, frames: FrameSet, index: Tensor, precision: str) -> dict[str, float]:
    """Reconstruction quality of frames ``index`` through the codes, and how the codes are used.

    Returns:
        ``psnr_db``, ``psnr_face_db``, ``psnr_mouth_db``, ``psnr_eyes_db`` (means over frames), ``codes_used``, ``usage`` (share of the
        codes used at least once), ``perplexity``.
    """
    codebook.eval()
    values: dict[str, list[Tensor]] = {}
    counts = torch.zeros(codebook.config.codes)
    for part in index.split(VALIDATION_BATCH):
        image = frames.batch(part)
        with autocast(image.device, precision):
            made, quantised = codebook(image)
        counts += torch.bincount(quantised.indices.reshape(-1), minlength=len(counts)).float()
        for name, value in region_psnr(made, image, frames.landmarks[part]).items():
            values.setdefault(name, []).append(value)
    used, perplexity = usage(counts)
    return mean_values(values) | {"codes_used": used, "usage": used / len(counts), "perplexity": perplexity}


def mean_values(values: dict[str, list[Tensor]]) -> dict[str, float]:
    """Mean over all frames of each list of per-frame values, NaN left out."""
    return {name: float(torch.cat(parts).double().nanmean()) for name, parts in values.items()}


@torch.no_grad()
def reconstruct(codebook: Codebook, image: Tensor, precision: str) -> Any:
    """Pictures (B, 3, H, W) in [0, 1] of pictures through the codes."""
    codebook.eval()
    with autocast(image.device, precision):
        return codebook(image)[0].clamp(0, 1)
