"""Loaders of outside judges with random weights of the published shapes: parameter names, sizes of what comes out, refusals."""

import numpy as np
import pytest
import torch

from flowvqtalker.checks import MissingWeightsError, ShapeError
from flowvqtalker.experts.official import LPIPS, InceptionFeatures, OfficialSyncNet, _Patched, mfcc

#: Shapes of some tensors of the published syncnet_v2.model, by name.
SYNCNET = {
    "netcnnaud.0.weight": (64, 1, 3, 3), "netcnnaud.4.weight": (192, 64, 3, 3), "netcnnaud.8.weight": (384, 192, 3, 3),
    "netcnnaud.11.weight": (256, 384, 3, 3), "netcnnaud.14.weight": (256, 256, 3, 3), "netcnnaud.18.weight": (512, 256, 5, 4),
    "netfcaud.0.weight": (512, 512), "netfcaud.3.weight": (1024, 512), "netfclip.3.weight": (1024, 512),
    "netcnnlip.0.weight": (96, 3, 5, 7, 7), "netcnnlip.4.weight": (256, 96, 1, 5, 5), "netcnnlip.8.weight": (256, 256, 1, 3, 3),
    "netcnnlip.14.weight": (256, 256, 1, 3, 3), "netcnnlip.18.weight": (512, 256, 1, 6, 6),
}  # fmt: skip


def syncnet_state() -> dict:
    from flowvqtalker.experts import official

    torch.manual_seed(0)
    network = torch.nn.Module()
    network.netcnnaud, network.netfcaud = official._stack(1, official._SOUND_LAYERS), official._head()
    network.netcnnlip, network.netfclip = official._stack(3, official._LIP_LAYERS), official._head()
    return network.state_dict()


def test_syncnet_has_the_published_names_and_shapes_and_gives_offsets():
    state = syncnet_state()
    assert {name: tuple(state[name].shape) for name in SYNCNET} == SYNCNET
    judge = OfficialSyncNet(state)
    frames = np.random.default_rng(0).integers(0, 256, size=(14, 64, 64, 3)).astype(np.uint8)
    lips = judge.lips(frames)
    sound = np.random.default_rng(1).uniform(-0.3, 0.3, 14 * 640).astype(np.float32)
    assert lips.shape == (10, 1024) and judge.sound(sound, 10).shape == (9, 1024)
    scores = judge.sync(lips, sound)
    assert set(scores) == {"lse_d_syncnet", "lse_c_syncnet", "av_offset_syncnet_frames"} and scores["lse_d_syncnet"] > 0
    assert judge.lips(frames[:4]).shape == (0, 1024)
    with pytest.raises(MissingWeightsError, match="syncnet_python"):
        OfficialSyncNet({"fc.bias": torch.zeros(3)})


def test_mfcc_of_a_tone_and_of_silence():
    time = np.arange(16000) / 16000
    tone = mfcc(np.round(10000 * np.sin(2 * np.pi * 500 * time)))
    assert tone.shape == (1 + int(np.ceil((16000 - 400) / 160)), 13)
    # Energy of a sine after pre-emphasis: |1 - 0.97 e^(-iw)|^2 A^2 / 2 over 400 samples; the one-sided spectrum of 512 points holds half of it.
    gain = abs(1 - 0.97 * np.exp(-2j * np.pi * 500 / 16000)) ** 2
    assert tone[5, 0] == pytest.approx(np.log(0.5 * gain * 10000**2 / 2 * 400), abs=0.05)
    assert np.isfinite(mfcc(np.zeros(1600))).all()


@pytest.mark.parametrize("classes", [1000, 1008])
def test_inception_features(classes):
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    state = inception_v3(weights=None, init_weights=False, aux_logits=False, num_classes=classes).state_dict()
    network = InceptionFeatures(state)
    assert network.name == ("inception" if classes == 1008 else "inception_torchvision")
    assert isinstance(network.network.Mixed_7c, _Patched) == (classes == 1008)
    frames = np.random.default_rng(0).integers(0, 256, size=(2, 80, 80, 3)).astype(np.uint8)
    features = network.features(frames)
    assert features.shape == (2, 2048) and np.isfinite(features).all() and not np.allclose(features[0], features[1], atol=0)
    with pytest.raises(MissingWeightsError, match="pytorch-fid"):
        InceptionFeatures({"conv.weight": torch.zeros(3)})


def test_the_pooling_of_the_patched_block_leaves_out_the_border():
    class Block(torch.nn.Module):
        branch_pool = torch.nn.Identity()

        def _forward(self, x):
            return [x, torch.zeros_like(x)]

    ones = torch.ones(1, 2, 4, 4)
    assert torch.equal(_Patched(Block(), False)(ones), torch.ones(1, 4, 4, 4))
    spike = torch.zeros(1, 1, 4, 4)
    spike[0, 0, 0, 0] = 4.0
    assert _Patched(Block(), True)(spike)[0, 1, :2, :2].tolist() == [[4.0, 4.0], [4.0, 4.0]]


@pytest.mark.parametrize(("kind", "name", "sizes"), [
    ("alex", "alexnet", (64, 192, 384, 256, 256)), ("vgg", "vgg16", (64, 128, 256, 512, 512)),
    ("squeeze", "squeezenet1_1", (64, 128, 256, 384, 384, 512, 512)),
])  # fmt: skip
def test_lpips_is_a_distance_that_grows(kind, name, sizes):
    from torchvision import models

    torch.manual_seed(0)
    backbone = getattr(models, name)(weights=None).state_dict()
    heads = {f"lin{k}.model.1.weight": torch.rand(1, size, 1, 1) for k, size in enumerate(sizes)}
    metric = LPIPS(backbone, heads)
    assert metric.kind == kind
    generator = np.random.default_rng(0)
    real = generator.integers(60, 190, size=(2, 64, 64, 3)).astype(np.uint8)
    noise = generator.normal(size=real.shape)
    values = [metric.distance(np.clip(real + sigma * noise, 0, 255).astype(np.uint8), real).mean() for sigma in (0, 5, 20, 60)]
    assert values[0] == 0 and np.all(np.diff(values) > 0)
    with pytest.raises(ShapeError):
        metric.distance(real, real[:1])
    with pytest.raises(MissingWeightsError, match="PerceptualSimilarity"):
        LPIPS(backbone, {"lin0.model.1.weight": torch.rand(1, 7, 1, 1)})
    with pytest.raises(MissingWeightsError, match="lpips"):
        LPIPS({"features.0.weight": torch.zeros(1)}, heads)


@pytest.mark.parametrize("kind", ["alex", "vgg", "squeeze"])
def test_the_published_heads_are_recognised(shared_folder, kind):
    from torchvision import models

    path = shared_folder / "assets" / "lpips" / "v0.1" / f"{kind}.pth"
    if not path.is_file():
        pytest.skip(f"no published heads at {path}")
    heads = torch.load(path, map_location="cpu", weights_only=True)
    backbone = {"alex": models.alexnet, "vgg": models.vgg16, "squeeze": models.squeezenet1_1}[kind](weights=None).state_dict()
    assert LPIPS(backbone, heads).kind == kind
