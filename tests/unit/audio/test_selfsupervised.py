"""Speech features land in the right frame: by geometry, by real convolutions, and by the real networks with random weights."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from flowvqtalker.audio import selfsupervised
from flowvqtalker.audio.selfsupervised import (
    KERNELS,
    STRIDES,
    load_speech_model,
    receptive_field,
    speech_features,
    step_centres,
    steps_to_frames,
)
from flowvqtalker.checks import MissingWeightsError

FRAMES = 30


def click(frame: int, offset: int = 320, n_frames: int = FRAMES) -> np.ndarray:
    sound = np.zeros(n_frames * 640, dtype=np.float32)
    sound[frame * 640 + offset] = 1.0
    return sound


def test_the_receptive_field_is_that_of_real_convolutions():
    field, hop = receptive_field()
    assert (field, hop) == (400, 320)
    stack = nn.Sequential(*(nn.Conv1d(1, 1, kernel, stride, bias=False) for kernel, stride in zip(KERNELS, STRIDES, strict=True)))
    for layer in stack:
        nn.init.ones_(layer.weight)
    sound = torch.zeros(1, 1, 640 * 6, requires_grad=True)
    steps = stack(sound)
    assert steps.shape[-1] == (640 * 6 - field) // hop + 1
    (gradient,) = torch.autograd.grad(steps[0, 0, 3], sound)
    seen = gradient[0, 0].nonzero()[:, 0]
    assert (int(seen.min()), int(seen.max())) == (3 * hop, 3 * hop + field - 1)
    assert step_centres(4, field, hop)[3] == (seen.min() + seen.max()) / 2


@pytest.mark.parametrize("frame", [0, 7, FRAMES - 1])
def test_a_click_moves_only_the_steps_of_its_frame(frame):
    field, hop = receptive_field()
    stack = nn.Sequential(*(nn.Conv1d(1, 1, kernel, stride, bias=False) for kernel, stride in zip(KERNELS, STRIDES, strict=True)))
    for layer in stack:
        nn.init.ones_(layer.weight)
    padded = np.append(click(frame), np.zeros(field - hop, np.float32))
    steps = stack(torch.from_numpy(padded)[None, None])[0].T.detach().numpy()
    assert len(steps) == 2 * FRAMES
    frames = steps_to_frames(steps, step_centres(len(steps), field, hop), FRAMES)
    assert np.flatnonzero(frames[:, 0]).tolist() == [frame]


def test_frames_are_means_of_their_steps_and_late_frames_repeat_the_last():
    steps = np.arange(8, dtype=np.float32)[:, None] * np.array([1, 10], np.float32)
    frames = steps_to_frames(steps, step_centres(8, 400, 320), 6)
    np.testing.assert_allclose(frames[:, 0], [0.5, 2.5, 4.5, 6.5, 7, 7])
    np.testing.assert_allclose(frames[:, 1], 10 * frames[:, 0])
    with pytest.raises(ValueError, match="steps"):
        steps_to_frames(np.zeros((0, 3)), np.zeros(0), 2)


def test_without_transformers_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from flowvqtalker.audio.selfsupervised import load_speech_model\n"
        "try: load_speech_model('wav2vec2', None)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120).stdout
    assert said.startswith("MissingWeightsError") and "pip install transformers" in said


def test_bad_samples_are_refused():
    with pytest.raises(ValueError, match="samples"):
        speech_features(None, np.array([0.0, np.nan]), 1)


@pytest.fixture(scope="module", params=["wav2vec2", "hubert"])
def model(request):
    pytest.importorskip("transformers", reason="transformers is not installed (optional speech features)")
    torch.manual_seed(0)
    return load_speech_model(request.param, None)


@pytest.mark.parametrize("frame", [3, 14, FRAMES - 2])
def test_an_impulse_lands_in_its_frame_of_the_real_network(model, frame):
    murmur = 0.01 * np.random.default_rng(0).standard_normal(FRAMES * 640).astype(np.float32)
    quiet, loud = (speech_features(model, murmur + sound, FRAMES) for sound in (0 * click(0), click(frame)))
    assert quiet.shape == (FRAMES, 768) and quiet.dtype == np.float32
    # The normalisation over the clip moves all frames a little; the frame that holds the impulse moves most.
    moved = np.linalg.norm(loud - quiet, axis=1)
    assert int(moved.argmax()) == frame
    assert moved[frame] > 1.5 * np.median(moved)


def test_blocks_do_not_shift_a_long_sound(model, monkeypatch):
    murmur = 0.01 * np.random.default_rng(1).standard_normal(FRAMES * 640).astype(np.float32)
    whole = speech_features(model, murmur + click(12), FRAMES)
    monkeypatch.setattr(selfsupervised, "BLOCK_FRAMES", 11)
    monkeypatch.setattr(selfsupervised, "MARGIN_FRAMES", 4)
    blocks = speech_features(model, murmur + click(12), FRAMES)
    quiet = speech_features(model, murmur, FRAMES)
    assert blocks.shape == whole.shape
    assert int(np.linalg.norm(blocks - quiet, axis=1).argmax()) == 12


def test_checkpoints_load_with_and_without_a_head_and_strangers_are_refused(model):
    kind = "hubert" if "Hubert" in type(model).__name__ else "wav2vec2"
    state = model.state_dict()
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v"): value
        for name, value in state.items()
    }
    assert any(name.endswith("weight_g") for name in old)
    for variant in (state, old, {**{f"{kind}.{name}": value for name, value in old.items()}, "lm_head.weight": torch.zeros(2, 768)}):
        again = load_speech_model(kind, variant).state_dict()
        assert all(torch.equal(again[name], value) for name, value in state.items())
    with pytest.raises(MissingWeightsError, match="lacks"):
        load_speech_model(kind, {"something.else": torch.zeros(1)})
