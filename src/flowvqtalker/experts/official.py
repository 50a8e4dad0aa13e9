"""The field's own judges, for users who have their weights: official SyncNet, Inception for FID, LPIPS.

Nothing is downloaded and no weights are part of this project. Each loader takes a state dict, checks that it is the right one, and names the
official source when it is not. The layer tables say what the published checkpoints contain; parameter names are theirs, the code is ours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct
from torch import Tensor, nn

from flowvqtalker.checks import MissingWeightsError, ShapeError
from flowvqtalker.constants import SAMPLE_RATE_HZ
from flowvqtalker.metrics.sync import sync_score

SOURCES = {
    "syncnet": "syncnet_v2.model of https://github.com/joonson/syncnet_python",
    "inception": "pt_inception-2015-12-05-6726825d.pth of https://github.com/mseitzer/pytorch-fid",
    "lpips": "a torchvision alexnet, vgg16 or squeezenet1_1 checkpoint, and v0.1/<network>.pth of https://github.com/richzhang/PerceptualSimilarity",
}


def _load(network: nn.Module, state: Mapping[str, Any], name: str) -> nn.Module:
    """Network with a published state dict, in eval mode, without gradients."""
    try:
        network.load_state_dict(OrderedDict(state))
    except (RuntimeError, AttributeError, TypeError) as error:
        first = str(error).splitlines()
        raise MissingWeightsError(f"these are not the weights of {name} ({' '.join(first[:2])}); they come as {SOURCES[name]}") from error
    return network.eval().requires_grad_(False)


def _frames(frames: np.ndarray) -> Tensor:
    """(T, H, W, 3) uint8 -> (T, 3, H, W) float32 [0, 255]."""
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ShapeError(f"frames: expected (T, H, W, 3), got {tuple(frames.shape)}")
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()


# ------------------------------------------------------------------------------------------------------------------------- SyncNet

#: (out channels, kernel, stride, padding, pooling or None) of each convolution; pooling is (kernel, stride, padding).
_SOUND_LAYERS = (
    (64, (3, 3), 1, 1, ((1, 1), (1, 1), 0)), (192, (3, 3), 1, 1, ((3, 3), (1, 2), 0)), (384, (3, 3), 1, 1, None), (256, (3, 3), 1, 1, None),
    (256, (3, 3), 1, 1, ((3, 3), (2, 2), 0)), (512, (5, 4), 1, 0, None),
)  # fmt: skip
_LIP_LAYERS = (
    (96, (5, 7, 7), (1, 2, 2), 0, ((1, 3, 3), (1, 2, 2), 0)), (256, (1, 5, 5), (1, 2, 2), (0, 1, 1), ((1, 3, 3), (1, 2, 2), (0, 1, 1))),
    (256, (1, 3, 3), 1, (0, 1, 1), None), (256, (1, 3, 3), 1, (0, 1, 1), None), (256, (1, 3, 3), 1, (0, 1, 1), ((1, 3, 3), (1, 2, 2), 0)),
    (512, (1, 6, 6), 1, 0, None),
)  # fmt: skip


def _stack(inputs: int, layers: tuple[Any, ...]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for outputs, kernel, stride, padding, pooling in layers:
        flat = len(kernel) == 2
        parts.append((nn.Conv2d if flat else nn.Conv3d)(inputs, outputs, kernel, stride, padding))
        parts += [(nn.BatchNorm2d if flat else nn.BatchNorm3d)(outputs), nn.ReLU()]
        if pooling:
            parts.append((nn.MaxPool2d if flat else nn.MaxPool3d)(*pooling))
        inputs = outputs
    return nn.Sequential(*parts)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


def mfcc(samples: np.ndarray) -> np.ndarray:
    """13 cepstral coefficients every 10 ms, as python_speech_features computes them by default (what the official SyncNet was trained on).

    Pre-emphasis 0.97, windows of 25 ms without taper, 512-point power spectrum, 26 triangular bands on the HTK mel scale from 0 to 8 kHz, log, DCT-II
    (orthonormal), lifter 22, the first coefficient replaced by the log energy.

    Args:
        samples: (S,) mono 16 kHz; int16 levels (the original feeds integers, and the log energy depends on it).

    Returns:
        (N, 13) float64, N = 1 + ceil((S - 400) / 160) for S above 400.
    """
    signal = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1]).astype(np.float64)
    count = 1 if len(signal) <= 400 else 1 + int(np.ceil((len(signal) - 400) / 160))
    signal = np.pad(signal, (0, max(0, (count - 1) * 160 + 400 - len(signal))))
    windows = np.lib.stride_tricks.sliding_window_view(signal, 400)[::160][:count]
    power = np.square(np.abs(np.fft.rfft(windows, 512))) / 512
    energy = power.sum(axis=1)
    corners = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700), 28)
    bins = np.floor(513 * 700 * (10 ** (corners / 2595) - 1) / SAMPLE_RATE_HZ)
    steps = np.arange(257)
    rising = (steps - bins[:-2, None]) / np.maximum(bins[1:-1, None] - bins[:-2, None], 1e-9)
    falling = (bins[2:, None] - steps) / np.maximum(bins[2:, None] - bins[1:-1, None], 1e-9)
    bank = np.where((steps >= bins[:-2, None]) & (steps < bins[1:-1, None]), rising, 0.0)
    bank = np.where((steps >= bins[1:-1, None]) & (steps < bins[2:, None]), falling, bank)
    floor = np.finfo(float).eps
    bands = np.log(np.maximum(power @ bank.T, floor))
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    cepstra = np.asarray(dct(bands, type=2, axis=1, norm="ortho"))[:, :13] * lifter
    cepstra[:, 0] = np.log(np.maximum(energy, floor))
    return cepstra


class OfficialSyncNet:
    """The public SyncNet: 1024 numbers for five frames at 224 px and for 0.2 s of sound.

    Args:
        state: its state dict.

    Pitfalls: pictures have to be framed like its training data (a face cut with about 1.4 times the face); its numbers share no column with those of
    other judges; the mean over a shift is taken over windows that exist, where the original pads with zeros.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        network = nn.Module()
        network.netcnnaud, network.netfcaud = _stack(1, _SOUND_LAYERS), _head()
        network.netcnnlip, network.netfclip = _stack(3, _LIP_LAYERS), _head()
        self.network: Any = _load(network, state, "syncnet")

    @torch.inference_mode()
    def lips(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB face cuts at 25 frames/s -> (T - 4, 1024), the window of frames i to i + 4."""
        pictures = F.interpolate(_frames(frames), size=(224, 224), mode="bilinear", align_corners=False, antialias=True).flip(1)
        result = []
        for start in range(0, len(pictures) - 4, 8):
            windows = torch.stack([pictures[i : i + 5] for i in range(start, min(start + 8, len(pictures) - 4))]).transpose(1, 2)
            result.append(self.network.netfclip(self.network.netcnnlip(windows).flatten(1)))
        return torch.cat(result).numpy() if result else np.zeros((0, 1024), np.float32)

    @torch.inference_mode()
    def sound(self, samples: np.ndarray, n_windows: int) -> np.ndarray:
        """(S,) float mono 16 kHz in [-1, 1] -> (n, 1024), n at most ``n_windows``: 20 steps of 10 ms from 4 steps a frame on."""
        steps = mfcc(np.round(np.asarray(samples, np.float64) * 32767)).T.astype(np.float32)
        count = max(0, min(n_windows, (steps.shape[1] - 20) // 4 + 1))
        windows = [torch.from_numpy(np.ascontiguousarray(steps[None, :, 4 * i : 4 * i + 20])) for i in range(count)]
        parts = [torch.stack(windows[start : start + 64]) for start in range(0, count, 64)]
        embedded = [self.network.netfcaud(self.network.netcnnaud(part).flatten(1)) for part in parts]
        return torch.cat(embedded).numpy() if embedded else np.zeros((0, 1024), np.float32)

    def sync(self, lips: np.ndarray, samples: np.ndarray) -> dict[str, float]:
        """LSE-D, LSE-C and AV offset (positive = sound late) from :meth:`lips` and the sound."""
        sound = self.sound(samples, len(lips))
        score = sync_score(lips[: len(sound)], sound)
        return {"lse_d_syncnet": score.lse_d, "lse_c_syncnet": score.lse_c, "av_offset_syncnet_frames": float(score.offset_frames)}


# ----------------------------------------------------------------------------------------------------------------------- Inception


class _Patched(nn.Module):
    """An Inception block whose pooling branch pools as the original TensorFlow network does: borders do not count, or the maximum is taken."""

    def __init__(self, block: Any, take_maximum: bool) -> None:
        super().__init__()
        self.block, self.take_maximum = block, take_maximum

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, 3, 1, 1) if self.take_maximum else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return torch.cat([*self.block._forward(x)[:-1], self.block.branch_pool(pooled)], dim=1)


class InceptionFeatures:
    """2048 Inception features a picture, for FID as the field prints it.

    Args:
        state: state dict; 1008 classes are the network that FID was defined with (pytorch-fid's port), 1000 classes torchvision's own. The two are
            different networks, and ``name`` says which one it is.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        from torchvision.models import inception_v3

        classes = len(state["fc.bias"]) if "fc.bias" in state else 0
        if classes not in (1000, 1008):
            raise MissingWeightsError(f"these are not the weights of inception; they come as {SOURCES['inception']}")
        self.name = "inception" if classes == 1008 else "inception_torchvision"
        network: Any = inception_v3(weights=None, init_weights=False, aux_logits=False, num_classes=classes, transform_input=False)
        kept = {name: value for name, value in state.items() if not name.startswith("AuxLogits")}
        network = _load(network, kept, "inception")
        if classes == 1008:
            for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c"):
                setattr(network, f"Mixed_{name}", _Patched(getattr(network, f"Mixed_{name}"), name == "7c"))
        network.fc, network.dropout = nn.Identity(), nn.Identity()
        self.network = network.eval()

    @torch.inference_mode()
    def features(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB -> (T, 2048) float32; resized to 299 px (bilinear, no antialias: pytorch-fid's way)."""
        result = []
        for start in range(0, len(frames), 16):
            pictures = F.interpolate(_frames(frames[start : start + 16]) / 255.0, size=(299, 299), mode="bilinear", align_corners=False)
            result.append(self.network(2.0 * pictures - 1.0))
        return torch.cat(result).numpy()


# --------------------------------------------------------------------------------------------------------------------------- LPIPS

#: Layers of torchvision's ``features`` after which each network is tapped.
_TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29), "squeeze": (1, 4, 7, 9, 10, 11, 12)}


class LPIPS:
    """Learned perceptual distance of two pictures (Zhang et al., CVPR 2018, version 0.1). Lower is better, 0 for equal pictures.

    Args:
        backbone: torchvision state dict of alexnet, vgg16 or squeezenet1_1.
        heads: linear heads of the same network.
    """

    def __init__(self, backbone: Mapping[str, Any], heads: Mapping[str, Any]) -> None:
        from torchvision import models

        sizes = [int(heads[f"lin{k}.model.1.weight"].shape[1]) for k in range(len(heads)) if f"lin{k}.model.1.weight" in heads]
        self.kind = {(64, 192, 384, 256, 256): "alex", (64, 128, 256, 512, 512): "vgg", (64, 128, 256, 384, 384, 512, 512): "squeeze"}.get(
            tuple(sizes), ""
        )
        if not self.kind or len(sizes) != len(heads):
            raise MissingWeightsError(f"these are not the heads of lpips; they come as {SOURCES['lpips']}")
        make = {"alex": models.alexnet, "vgg": models.vgg16, "squeeze": models.squeezenet1_1}[self.kind]
        layers: Any = make(weights=None).features
        own = {name.removeprefix("features."): value for name, value in backbone.items() if name.startswith("features.")}
        self.layers = _load(layers, own, "lpips")
        self.heads = [heads[f"lin{k}.model.1.weight"].detach().float() for k in range(len(sizes))]

    def _maps(self, pictures: Tensor) -> list[Tensor]:
        x = (pictures / 127.5 - 1.0 - torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(
            1, 3, 1, 1
        )
        maps = []
        for index, layer in enumerate(self.layers.children()):
            x = layer(x)
            if index in _TAPS[self.kind]:
                maps.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
                # In-place activations that follow must not change what was tapped.
                x = x.clone()
        return maps

    @torch.inference_mode()
    def distance(self, frames: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Two (T, H, W, 3) uint8 RGB videos of one size -> (T,) float64."""
        if frames.shape != real.shape:
            raise ShapeError(f"lpips: expected equal shapes, got {tuple(frames.shape)} and {tuple(real.shape)}")
        result = []
        for start in range(0, len(frames), 16):
            pairs = zip(
                self._maps(_frames(frames[start : start + 16])), self._maps(_frames(real[start : start + 16])), self.heads, strict=True
            )
            result.append(sum(F.conv2d((a - b).square(), head).mean(dim=(1, 2, 3)) for a, b, head in pairs))
        return torch.cat(result).double().numpy() if result else np.zeros(0)
