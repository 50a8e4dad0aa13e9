"""Optional speech features of self-supervised networks (wav2vec 2.0, HuBERT), aligned to video frames.

Both networks (arXiv 2006.11477, 2106.07447) begin with seven strided convolutions: a step every 320 samples that sees 400, so two steps
fall into each frame of 25 Hz. Step k is centred at sample ``320 k + 199.5``; a frame gets the mean of the steps centred in its own 40 ms.
The package transformers is imported here only, and nothing is downloaded: weights come in as tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.constants import SAMPLES_PER_FRAME

Kind = Literal["wav2vec2", "hubert"]

#: Kernels and strides of the convolutions of both base models.
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
#: Frames computed at once and their margin on each side, so that memory does not grow with the sound [frames].
BLOCK_FRAMES, MARGIN_FRAMES = 500, 50


def receptive_field(kernels: Sequence[int] = KERNELS, strides: Sequence[int] = STRIDES) -> tuple[int, int]:
    """Samples that one step sees, and samples between two steps, of a stack of unpadded convolutions."""
    field, hop = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    return field, hop


def step_centres(n_steps: int, field: int, hop: int) -> np.ndarray:
    """(n_steps,) float64 samples: the middle of what each step sees; step 0 begins at sample 0."""
    return np.arange(n_steps) * hop + (field - 1) / 2


def steps_to_frames(steps: np.ndarray, centres: np.ndarray, n_frames: int) -> np.ndarray:
    """Mean of the steps centred in each frame's own 40 ms.

    Args:
        steps: (N, D) features.
        centres: (N,) samples at 16 kHz, rising.
        n_frames: T.

    Returns:
        (T, D) of the dtype of ``steps``; a frame without a step repeats the nearest one.

    Raises:
        ValueError: no steps, or another number of centres.
    """
    if steps.ndim != 2 or not len(steps) or centres.shape != (len(steps),):
        raise ValueError(f"steps: expected (N, D) with N > 0 centres, got {steps.shape} and {centres.shape}")
    frame = np.floor(centres / SAMPLES_PER_FRAME).astype(np.int64)
    result = np.empty((n_frames, steps.shape[1]), dtype=steps.dtype)
    for index in range(n_frames):
        here = np.flatnonzero(frame == index)
        if not len(here):
            here = np.array([np.abs(centres - (index + 0.5) * SAMPLES_PER_FRAME).argmin()])
        result[index] = steps[here].mean(0)
    return result


def load_speech_model(kind: Kind, state: Mapping[str, Tensor] | None) -> Any:
    """Base model of the published architecture, frozen.

    Args:
        kind: "wav2vec2" (facebook/wav2vec2-base-960h) or "hubert" (facebook/hubert-base-ls960).
        state: the checkpoint's tensors, with or without a head on top; None for random weights (tests of alignment).

    Raises:
        MissingWeightsError: transformers is not installed, or the checkpoint is of another architecture.
    """
    try:
        from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model
    except ImportError as error:
        raise MissingWeightsError(f"speech features need the package transformers ({error}): pip install transformers") from error
    # The defaults of both configurations are the base models'.
    config, network = (Wav2Vec2Config(), Wav2Vec2Model) if kind == "wav2vec2" else (HubertConfig(), HubertModel)
    model = network(config)
    if state is not None:
        own = {_current_name(name.removeprefix(f"{kind}.")): tensor for name, tensor in state.items()}
        missing, _ = model.load_state_dict(own, strict=False)
        # The vector that masks spans in pre-training is never used here, and fine-tuned checkpoints may lack it.
        missing = [name for name in missing if name != "masked_spec_embed"]
        if missing:
            raise MissingWeightsError(f"{kind}: the checkpoint lacks {len(missing)} of the base model's tensors, first {missing[0]}")
    return model.eval().requires_grad_(False)


def _current_name(name: str) -> str:
    """Names of a weight-normalised convolution as torch has them now; checkpoints keep those of older versions."""
    for old, new in (("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1")):
        if name.endswith(f".conv.{old}"):
            return name.removesuffix(old) + new
    return name


@torch.no_grad()
def speech_features(model: Any, samples: np.ndarray, n_frames: int, *, layer: int = -1) -> np.ndarray:
    """Features of each video frame.

    Args:
        model: result of :func:`load_speech_model`.
        samples: (S,) float mono at 16 kHz in [-1, 1]; cut or padded with silence to the frames' length.
        n_frames: T.
        layer: hidden layer, 0 is the input of the Transformer, -1 its output.

    Returns:
        (T, D) float32. Sounds longer than 22 s are computed in blocks with margins; the blocks' own statistics make a small difference
        at their borders, never a shift.

    Raises:
        ValueError: not one-dimensional or not finite.
    """
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"samples: expected finite mono (S,), got shape {samples.shape}")
    field, hop = receptive_field()
    wanted = np.zeros(n_frames * SAMPLES_PER_FRAME, dtype=np.float32)
    length = min(len(wanted), len(samples))
    wanted[:length] = samples[:length]
    # Zero mean and unit variance over the clip, as both models were trained.
    wanted = (wanted - wanted.mean()) / np.sqrt(wanted.var() + 1e-7)
    wanted = np.append(wanted, np.zeros(field - hop, dtype=np.float32))  # so that the last frame has both of its steps
    result: list[np.ndarray] = []
    for start in range(0, n_frames, BLOCK_FRAMES):
        stop = min(start + BLOCK_FRAMES, n_frames)
        first, last = max(0, start - MARGIN_FRAMES), min(n_frames, stop + MARGIN_FRAMES)
        part = torch.from_numpy(wanted[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME + field - hop])[None]
        hidden = model(part, output_hidden_states=True).hidden_states[layer][0].float().numpy()
        frames = steps_to_frames(hidden, step_centres(len(hidden), field, hop), last - first)
        result.append(frames[start - first : stop - first])
    return np.concatenate(result)
