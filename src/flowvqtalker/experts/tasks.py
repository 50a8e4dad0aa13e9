"""What the shared trainer needs to train a judge: batches, losses, validation. The layer above (train) must not be imported here, so these classes only look like its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowvqtalker.experts.emotion import N_POINTS, EmotionNet, UsualFace, usual_face
from flowvqtalker.experts.features import FeatureNet, damage_pictures
from flowvqtalker.experts.layers import CELL_PX, N_ORIENTATIONS, augment, mirrored_edges, to_float
from flowvqtalker.experts.syncnet import SyncNet, contrastive_loss
from flowvqtalker.landmarks.schema import FLIP
from flowvqtalker.metrics.sync import window_offsets
from flowvqtalker.precision import autocast


@dataclass(frozen=True)
class Clip:
    """What judges learn from one clip or one identity's stills.

    Attributes:
        mouths: (T, 3, s, s) uint8 mouth cuts, None for stills.
        faces: (T, 3, s, s) uint8 face cuts.
        mel: (T, 16, 80) float32 sound windows, None without sound.
        emotion: (T,) int64 labels, -1 unlabelled; equal within a clip.
        level: (T,) int64, 0 for neutral, -1 unknown.
        is_stills: Whether frames are independent pictures.
        identity: Name.
        beta: (T, E) float32 fitted expression coefficients, or None.
        points: (T, 68, 2) float32 landmarks in the face's own frame (``crops.face_points``); None serves other judges than that of emotions.
        usual: the person's usual face, or None while it is not known (see ``with_usual_faces``).
    """

    mouths: np.ndarray | None
    faces: np.ndarray
    mel: np.ndarray | None
    emotion: np.ndarray
    level: np.ndarray
    is_stills: bool
    identity: str
    beta: np.ndarray | None = None
    points: np.ndarray | None = None
    usual: UsualFace | None = None


#: Frames of a clip are much alike; a usual face takes every n-th.
USUAL_EVERY_FRAMES = 5


@dataclass(frozen=True)
class Seen:
    """What is known of a person's face from one clip or one set of stills.

    Attributes:
        faces: (T, 3, s, s) uint8 face cuts.
        points: (T, 68, 2) landmarks in the face's own frame.
        is_stills: Whether frames are independent pictures.
    """

    faces: np.ndarray
    points: np.ndarray
    is_stills: bool = False


def _points_of(clip: Clip) -> np.ndarray:
    if clip.points is None:
        raise ValueError("clips: the judge of emotions needs their landmarks (points)")
    return clip.points


def with_usual_faces(clips: list[Clip]) -> list[Clip]:
    """The same clips, each with the usual face of its person over all of them."""
    of_person: dict[str, list[Clip]] = {}
    for clip in clips:
        of_person.setdefault(clip.identity, []).append(clip)
    usual = {name: person_face([Seen(clip.faces, _points_of(clip), clip.is_stills) for clip in own]) for name, own in of_person.items()}
    return [replace(clip, usual=usual[clip.identity]) for clip in clips]


@torch.inference_mode()
def person_face(items: list[Seen]) -> UsualFace:
    """Usual face from all that is known of one person."""
    every = [1 if item.is_stills else USUAL_EVERY_FRAMES for item in items]
    edges = usual_face([torch.from_numpy(np.ascontiguousarray(item.faces[::n])) for item, n in zip(items, every, strict=True)])
    points = np.mean([item.points.mean(axis=0) for item in items], axis=0)
    return UsualFace(edges.numpy(), points.astype(np.float32))


def _choose(n: int, size: int, generator: torch.Generator) -> list[int]:
    return torch.randint(n, (size,), generator=generator).tolist() if size else []


class _JudgeTask:
    """Common parts: one network, one AdamW, an averaged copy; ``precision`` is that of the networks' convolutions in training, losses are float32."""

    def __init__(self, network: nn.Module, lr: float, weight_decay: float, precision: str) -> None:
        self.precision = precision
        self.modules: dict[str, nn.Module] = {"network": network}
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "network": torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98), fused=True)
        }
        self.ema_names: tuple[str, ...] = ("network",)

    def _autocast(self, like: Tensor) -> AbstractContextManager:
        return autocast(like.device, self.precision)


class SyncTask(_JudgeTask):
    """Train a SyncNet by contrast over segments of clips with sound.

    Args:
        network: SyncNet.
        train: Clips with sound, at least ``segment`` frames each.
        val: Clips of other identities.
        lr: Learning rate.
        batch: Segments a step.
        segment: Frames of a segment.
        precision: "fp32" or "bf16".
    """

    def __init__(
        self, network: SyncNet, train: list[Clip], val: list[Clip], lr: float, batch: int, segment: int, precision: str = "fp32"
    ) -> None:
        super().__init__(network, lr, 0.02, precision)
        self.network, self.batch, self.segment = network, batch, segment
        self.train = [clip for clip in train if clip.mel is not None and clip.mouths is not None and len(clip.mouths) >= segment]
        self.val = [clip for clip in val if clip.mel is not None and clip.mouths is not None]
        if not self.train:
            raise ValueError(f"no training clip with sound has {segment} frames or more")

    def draw(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mouths, mels = [], []
        for index in _choose(len(self.train), self.batch, generator):
            clip = self.train[index]
            assert clip.mouths is not None and clip.mel is not None
            start = int(torch.randint(len(clip.mouths) - self.segment + 1, (1,), generator=generator))
            mouths.append(torch.from_numpy(clip.mouths[start : start + self.segment]))
            mels.append(torch.from_numpy(clip.mel[start : start + self.segment]))
        pictures = augment(to_float(torch.stack(mouths)), generator, shift_px=3.0, zoom=0.1, turn_rad=0.08, soften=0.4)
        sound = torch.stack(mels)
        sound = (
            sound + 0.6 * (torch.rand(len(sound), 1, 1, 1, generator=generator) - 0.5) + 0.1 * torch.randn(sound.shape, generator=generator)
        )
        return pictures, sound

    def losses(self, batch: tuple[Tensor, Tensor], step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        with self._autocast(batch[0]):
            video, audio = self.network.embed_video(batch[0]), self.network.embed_audio(batch[1])
        loss = contrastive_loss(video.float(), audio.float(), self.network.log_temperature)
        yield "network", loss, {"sync_loss": float(loss.detach())}

    def validate(self, step: int) -> dict[str, float]:
        return sync_accuracy(self.network, self.val) if self.val else {}


@torch.inference_mode()
def sync_embeddings(network: SyncNet, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Picture and sound embeddings of a whole clip, (T, D) each."""
    assert clip.mouths is not None and clip.mel is not None
    video = network.embed_video(torch.from_numpy(clip.mouths)[None])[0]
    return video.numpy(), network.embed_audio(torch.from_numpy(clip.mel)[None])[0].numpy()


def sync_accuracy(network: SyncNet, clips: list[Clip]) -> dict[str, float]:
    """Share of 1 s windows with an offset within one frame and exactly right, and the mean loss over the clips (to select by)."""
    offsets, losses = [], []
    for clip in clips:
        video, audio = sync_embeddings(network, clip)
        offsets.append(window_offsets(video, audio))
        similarity = torch.from_numpy(video @ audio.T) * float(network.log_temperature.detach().exp())
        losses.append(float(F.cross_entropy(similarity, torch.arange(len(video)))))
    found = np.concatenate(offsets) if offsets else np.zeros(0)
    return {
        "sync_within_1_pct": 100.0 * float(np.mean(np.abs(found) <= 1)) if found.size else float("nan"),
        "sync_exact_pct": 100.0 * float(np.mean(found == 0)) if found.size else float("nan"),
        "sync_windows": float(found.size),
        "sync_loss": float(np.mean(losses)) if losses else float("nan"),
    }


def mirrored_expressions(names: tuple[str, ...]) -> np.ndarray:
    """(E,) order of expression names after mirroring a face: left and right change places."""

    def mirror(name: str) -> str:
        for one, other in (("_L", "_R"), ("_R", "_L"), ("Left", "Right"), ("Right", "Left")):
            if name.endswith(one):
                return name.removesuffix(one) + other
        return name

    return np.array([names.index(mirror(name)) for name in names])


@dataclass(frozen=True)
class _Faces:
    """A batch for the emotion judge.

    (N, T, 3, s, s) pictures, (N, T, 68, 2) points, (N, 8, s / 4, s / 4) and (N, 68, 2) usual faces, (N,) labels, (N, T, E) standardised
    expressions (NaN unknown).
    """

    pictures: Tensor
    points: Tensor
    usual_edges: Tensor
    usual_points: Tensor
    labels: Tensor
    expressions: Tensor


def mirrored_points(points: np.ndarray) -> np.ndarray:
    """Landmarks (..., 68, 2) of the mirrored face, in the face's own frame: u -> -u, left and right change places."""
    turned = points[..., list(FLIP), :].copy()
    turned[..., 0] *= -1.0
    return turned


class EmotionTask(_JudgeTask):
    """Train the emotion judge on clips (several frames each) and stills (single frames), emotions drawn evenly, half of the items mirrored.

    Args:
        network: EmotionNet.
        train: Labelled clips and stills.
        val: Labelled clips of other identities.
        names: Names of the expression coefficients of the clips, in order.
        lr: Learning rate.
        clips, frames: Clips a step and frames of each.
        stills: Single pictures a step.
        expression_weight: Weight of telling the expression coefficients.
        precision: "fp32" or "bf16".
    """

    def __init__(
        self,
        network: EmotionNet,
        train: list[Clip],
        val: list[Clip],
        names: tuple[str, ...],
        lr: float,
        clips: int,
        frames: int,
        stills: int,
        expression_weight: float,
        precision: str = "fp32",
    ) -> None:
        super().__init__(network, lr, 0.05, precision)
        if any(clip.usual is None for clip in [*train, *val]):
            raise ValueError("clips: give them their persons' usual faces first (with_usual_faces)")
        self.network, self.clips, self.frames, self.stills, self.weight = network, clips, frames, stills, expression_weight
        self.val = [clip for clip in val if not clip.is_stills and clip.emotion[0] >= 0]
        known = [clip.beta for clip in train if clip.beta is not None and clip.beta.shape[1] == len(names)]
        self.swap = mirrored_expressions(names)
        every = np.concatenate(known) if known else np.zeros((1, len(names)), np.float32)
        # Shapes that hardly move in this corpus would only add noise.
        spread = np.nanstd(every, axis=0)
        self.mean, self.sd = np.nanmean(every, axis=0), np.where(spread > 0.01, spread, np.inf)
        labels = range(network.frame_verdict.out_features)
        self.clips_of = [[(clip, -1) for clip in train if not clip.is_stills and clip.emotion[0] == label] for label in labels]
        pictures = [clip for clip in train if clip.is_stills]
        self.stills_of = [[(clip, int(index)) for clip in pictures for index in np.flatnonzero(clip.emotion == label)] for label in labels]

    def _take(self, groups: list[list[tuple[Clip, int]]], count: int, frames: int, generator: torch.Generator) -> _Faces:
        """``count`` items, emotions drawn evenly; of a clip one frame from each of ``frames`` equal parts, so that a draw sees its whole length."""
        size, n = self.network.size_px, len(self.swap)
        present = [label for label, found in enumerate(groups) if found]
        faces, points, usual, labels, expressions = [], [], [], [], []
        for pick in _choose(len(present), count if present else 0, generator):
            clip, index = groups[present[pick]][_choose(len(groups[present[pick]]), 1, generator)[0]]
            parts = torch.linspace(0, len(clip.faces), frames + 1)
            inside = (
                (parts[:-1] + torch.rand(frames, generator=generator) * (parts[1:] - parts[:-1]))
                .long()
                .clamp(max=len(clip.faces) - 1)
                .numpy()
            )
            places = inside if index < 0 else np.array([index])
            beta = (
                (clip.beta[places] - self.mean) / self.sd
                if clip.beta is not None and clip.beta.shape[1] == n
                else np.full((frames, n), np.nan)
            )
            mirror = bool(torch.rand(1, generator=generator) < 0.5)
            picture = torch.from_numpy(clip.faces[places])
            faces.append(picture.flip(-1) if mirror else picture)
            places_of = _points_of(clip)[places]
            points.append(torch.from_numpy(mirrored_points(places_of) if mirror else places_of))
            assert clip.usual is not None
            edges = torch.from_numpy(clip.usual.edges)
            usual.append(
                (
                    mirrored_edges(edges) if mirror else edges,
                    torch.from_numpy(mirrored_points(clip.usual.points) if mirror else clip.usual.points),
                )
            )
            expressions.append(torch.from_numpy((beta[:, self.swap] if mirror else beta).astype(np.float32)))
            labels.append(present[pick])
        if not faces:
            cell = size // CELL_PX
            return _Faces(
                torch.zeros(0, frames, 3, size, size),
                torch.zeros(0, frames, N_POINTS, 2),
                torch.zeros(0, N_ORIENTATIONS, cell, cell),
                torch.zeros(0, N_POINTS, 2),
                torch.zeros(0, dtype=torch.long),
                torch.zeros(0, frames, n),
            )
        pictures = augment(to_float(torch.stack(faces)), generator, shift_px=1.0, zoom=0.03, turn_rad=0.04, soften=0.4)
        return _Faces(
            pictures,
            torch.stack(points),
            torch.stack([edges for edges, _ in usual]),
            torch.stack([places for _, places in usual]),
            torch.tensor(labels),
            torch.stack(expressions),
        )

    def draw(self, step: int, generator: torch.Generator) -> tuple[_Faces, _Faces]:
        return self._take(self.clips_of, self.clips, self.frames, generator), self._take(self.stills_of, self.stills, 1, generator)

    def losses(self, batch: tuple[_Faces, _Faces], step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        videos, stills = batch
        frames = videos.pictures.shape[1]

        def flat(name: str) -> Tensor:
            return torch.cat([getattr(videos, name).flatten(0, 1), getattr(stills, name).flatten(0, 1)])

        def usual(name: str) -> Tensor:
            return torch.cat([getattr(videos, name).repeat_interleave(frames, dim=0), getattr(stills, name)])

        pictures = flat("pictures")
        with self._autocast(pictures):
            features = self.network.features(pictures, flat("points"), usual("usual_edges"), usual("usual_points")).float()
        labels = usual("labels")
        per_frame = self.network.frame_verdict(features)
        loss = F.cross_entropy(per_frame, labels, label_smoothing=0.05)
        logs = {"emotion_frame_acc_pct": 100.0 * float((per_frame.argmax(1) == labels).float().mean())}
        wanted = flat("expressions")
        known = ~torch.isnan(wanted).any(dim=1)
        if self.network.expression is not None and self.weight > 0 and known.any():
            told = F.smooth_l1_loss(self.network.expression(features[known]), wanted[known])
            loss = loss + self.weight * told
            logs["emotion_expression_loss"] = float(told.detach())
        if len(videos.labels):
            verdict = self.network.clip_logits(features[: labels.numel() - len(stills.labels)].view(*videos.pictures.shape[:2], -1))
            loss = loss + F.cross_entropy(verdict, videos.labels, label_smoothing=0.05)
            logs["emotion_clip_acc_pct"] = 100.0 * float((verdict.argmax(1) == videos.labels).float().mean())
        yield "network", loss, {"emotion_loss": float(loss.detach()), **logs}

    def validate(self, step: int) -> dict[str, float]:
        return emotion_accuracy(self.network, self.val) if self.val else {}


@torch.inference_mode()
def emotion_logits(network: EmotionNet, faces: np.ndarray, points: np.ndarray, usual: UsualFace) -> np.ndarray:
    """Verdict on a whole clip.

    Args:
        network: The judge.
        faces: (T, 3, s, s) uint8 cuts.
        points: (T, 68, 2) landmarks of the same frames in the face's own frame.
        usual: the person's usual face.

    Returns:
        (n_emotions,) logits.
    """
    edges, places = (torch.from_numpy(part)[None] for part in usual)
    features = []
    for start in range(0, len(faces), 64):
        part = torch.from_numpy(faces[start : start + 64])
        n = len(part)
        features.append(
            network.features(part, torch.from_numpy(points[start : start + n]), edges.expand(n, -1, -1, -1), places.expand(n, -1, -1))
        )
    return network.clip_logits(torch.cat(features)[None])[0].numpy()


def emotion_accuracy(network: EmotionNet, clips: list[Clip]) -> dict[str, float]:
    """Clip accuracy [%], pooled and by level, and the mean cross-entropy (to select by)."""
    if not clips:
        return {}
    usual = [clip.usual for clip in clips if clip.usual is not None]
    if len(usual) < len(clips):
        raise ValueError("clips: give them their persons' usual faces first (with_usual_faces)")
    logits = torch.from_numpy(
        np.stack([emotion_logits(network, clip.faces, _points_of(clip), face) for clip, face in zip(clips, usual, strict=True)])
    )
    labels = torch.tensor([int(clip.emotion[0]) for clip in clips])
    levels = np.array([int(clip.level[0]) for clip in clips])
    right = (logits.argmax(1) == labels).numpy()
    values = {
        "emotion_clip_acc_pct": 100.0 * float(right.mean()),
        "emotion_loss": float(F.cross_entropy(logits, labels)),
        "emotion_clips": float(len(clips)),
    }
    values |= {f"emotion_level_{level}_acc_pct": 100.0 * float(right[levels == level].mean()) for level in np.unique(levels) if level >= 0}
    return values


@dataclass(frozen=True)
class Pictures:
    """Whole crops for the feature network.

    Attributes:
        frames: (N, 3, S, S) uint8.
        landmarks: (N, 136) float32, shares of the crop's side, centred at 0.5; NaN unknown.
        emotion: (N,) int64, -1 unlabelled.
        identity: (N,) int64, -1 unknown to the network.
    """

    frames: np.ndarray
    landmarks: np.ndarray
    emotion: np.ndarray
    identity: np.ndarray

    @staticmethod
    def join(parts: list[Pictures], size_px: int) -> Pictures:
        """All pictures of several parts; an empty list gives an empty set of ``size_px`` pictures."""
        empty = Pictures(
            np.zeros((0, 3, size_px, size_px), np.uint8), np.zeros((0, 136), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)
        )
        every = [empty, *parts]
        return Pictures(
            *(np.concatenate([getattr(part, name) for part in every]) for name in ("frames", "landmarks", "emotion", "identity"))
        )


def pictures_of(frames: np.ndarray, landmarks_px: np.ndarray, emotion: np.ndarray, identity: int, size_px: int) -> Pictures:
    """Pictures of one clip: (N, S, S, 3) uint8 crops, (N, 68, 2) px, (N,) labels and one identity number, resized to ``size_px``."""
    side = frames.shape[1]
    pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    if side != size_px:
        pictures = (
            F.interpolate(pictures.float(), size=(size_px, size_px), mode="bilinear", antialias=True, align_corners=False)
            .round()
            .clamp(0, 255)
            .byte()
        )
    places = ((landmarks_px.reshape(len(frames), 136) + 0.5) / side).astype(np.float32)
    return Pictures(pictures.contiguous().numpy(), places, emotion.astype(np.int64), np.full(len(frames), identity, np.int64))


class FeatureTask(_JudgeTask):
    """Train the feature network on single crops: identity, emotion, landmarks, damage."""

    def __init__(self, network: FeatureNet, train: Pictures, val: Pictures, lr: float, batch: int, precision: str = "fp32") -> None:
        super().__init__(network, lr, 0.05, precision)
        self.network, self.train, self.val, self.batch = network, train, val, batch

    def draw(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        chosen = torch.randint(len(self.train.frames), (self.batch,), generator=generator).numpy()
        pictures, amount = damage_pictures(to_float(torch.from_numpy(self.train.frames[chosen])), generator)
        return {
            "pictures": pictures,
            "damage": amount,
            "landmarks": torch.from_numpy(self.train.landmarks[chosen]),
            "emotion": torch.from_numpy(self.train.emotion[chosen]),
            "identity": torch.from_numpy(self.train.identity[chosen]),
        }

    def _terms(self, batch: dict[str, Tensor], features: Tensor) -> dict[str, Tensor]:
        known = ~torch.isnan(batch["landmarks"]).any(dim=1)
        terms = {
            "damage": F.mse_loss(self.network.damage(features), batch["damage"]),
            "landmarks": F.smooth_l1_loss(self.network.landmarks(features)[known], batch["landmarks"][known] - 0.5, beta=0.01)
            if known.any()
            else features.sum() * 0,
        }
        for name, head in (("emotion", self.network.emotion), ("identity", self.network.identity)):
            labelled = batch[name] >= 0
            terms[name] = F.cross_entropy(head(features)[labelled], batch[name][labelled]) if labelled.any() else features.sum() * 0
        return terms

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor, dict[str, float]]]:
        with self._autocast(batch["pictures"]):
            features = self.network(batch["pictures"]).float()
        terms = self._terms(batch, features)
        loss = 4.0 * terms["damage"] + 10.0 * terms["landmarks"] + terms["emotion"] + 0.5 * terms["identity"]
        yield "network", loss, {f"features_{name}": float(value.detach()) for name, value in terms.items()}

    def validate(self, step: int) -> dict[str, float]:
        if not len(self.val.frames):
            return {}
        generator = torch.Generator().manual_seed(0)
        pictures, amount = damage_pictures(to_float(torch.from_numpy(self.val.frames)), generator)
        batch: dict[str, Any] = {
            "pictures": pictures,
            "damage": amount,
            "landmarks": torch.from_numpy(self.val.landmarks),
            "emotion": torch.from_numpy(self.val.emotion),
            "identity": torch.full((len(self.val.frames),), -1),
        }
        terms = self._terms(batch, self.network(pictures))
        loss = 4.0 * terms["damage"] + 10.0 * terms["landmarks"] + terms["emotion"]
        return {
            "features_loss": float(loss.detach()),
            **{f"features_{name}": float(terms[name].detach()) for name in ("damage", "landmarks", "emotion")},
        }


@torch.inference_mode()
def picture_features(network: FeatureNet, frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) uint8 crops -> (T, D) float32 features, in blocks."""
    pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    return torch.cat([network(pictures[start : start + 64]) for start in range(0, len(pictures), 64)]).numpy()
