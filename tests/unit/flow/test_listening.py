"""Scores of clips under the conditions of other clips: against the trainer's own numbers, and with flows that are deaf on purpose."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from flowvqtalker.flow.listening import CONDITIONS, REACHES, Listener, exchanged, listen, partners
from flowvqtalker.flow.motionflow import FlowConfig
from flowvqtalker.flow.stack import StackConfig
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.train.flow import FlowTraining, MotionData, clip_bits, diagnose, fit_motion, plans_of
from flowvqtalker.train.loop import LoopConfig

STACK = StackConfig(53, 8, 2, 16, 4, "transformer", 1, 0.8, "multi", "smm", 50.0, 5.0)
CONFIG = FlowConfig("expression", "flow", 53, STACK, 4, 2, 8, 4, (), 16, 16, 0.0, 2, 1, 0.0, 1, True, 0.0, 6.0, 3)
POSE = dataclasses.replace(
    CONFIG,
    kind="pose",
    coefficients=6,
    conditioners=0,
    order=2,
    long_frames=0,
    stack=dataclasses.replace(STACK, actnorm="shared", prior="gaussian"),
)
SETTINGS = FlowTraining(4, 8, 4, 0.5, 0.5, 0.2, 0.0, 0.01, 0.01, 4.0, 0.3, 1, 0.05, 1e-3, 0)
LOOP = LoopConfig(6, 3e-3, 1, 0.1, 1.0, 0.5, 3, 3, "loss")


def make_clip(number, frames=20):
    rng = torch.Generator().manual_seed(number)
    beta = torch.rand(frames, 53, generator=rng).cumsum(0) / frames
    pose = torch.randn(frames, 6, generator=rng).cumsum(0) * 0.01
    mel = torch.rand(70 + number, 80, generator=rng) * 8 - 4
    start = 80 * (torch.arange(frames) - 2) // 25
    emotion = number % 3
    return MotionClip(f"c{number}", f"id{number % 4}", mel, start, beta, pose, beta[0], pose[0], emotion, 1.0 if emotion else 0.0)


CLIPS = [make_clip(i, 16 + i) for i in range(8)]


@pytest.fixture(scope="module")
def flows():
    fits = [
        fit_motion(config, CLIPS, CLIPS[:2], SETTINGS, conditioner_loop=LOOP, flow_loop=LOOP, seed=1, hooks=lambda _: {})
        for config in (CONFIG, POSE)
    ]
    return {fit.flow.config.kind: fit.flow.requires_grad_(False) for fit in fits}


def test_matched_bits_are_those_that_the_stage_records(flows):
    listener = Listener(flows["expression"], 0.0)
    for clip in CLIPS[:3]:
        assert listener.matched(clip) == pytest.approx(clip_bits(flows["expression"], [clip], len(clip.start), SETTINGS)[0], abs=1e-4)


def test_network_only_sound_and_history_are_the_trainers_diagnosis(flows):
    flow, pair = flows["expression"], [dataclasses.replace(CLIPS[0], name="a"), dataclasses.replace(make_clip(5, 16), name="b")]
    pair[1] = dataclasses.replace(
        pair[1], start=pair[0].start, mel=pair[1].mel[: len(pair[0].mel)], beta0=pair[0].beta0, emotion=0, intensity=0.0
    )
    found = diagnose(flow, MotionData(flow, pair, plans_of(flow, pair)), 16, SETTINGS)
    listener = Listener(flow, 0.0)
    for condition in ("audio", "history"):
        gaps = [listener.shuffled(a, b, condition)["network"] - listener.matched(a) for a, b in (pair, pair[::-1])]
        assert np.mean(gaps) == pytest.approx(found[f"gap_{condition}_bits_per_dim"], abs=2e-4)


def test_complete_means_the_density_under_the_other_clips_condition(flows):
    flow = flows["expression"]
    for condition in ("audio", "emotion", "source"):
        as_if_own = Listener(flow, 0.01).matched(exchanged(CLIPS[1], CLIPS[2], condition))
        assert Listener(flow, 0.01).shuffled(CLIPS[1], CLIPS[2], condition)["complete"] == as_if_own
        assert as_if_own != Listener(flow, 0.01).matched(CLIPS[1])


def test_a_deaf_network_has_no_gap_of_its_own(flows):
    flow = copy.deepcopy(flows["pose"])
    flow.encoder.history.weight.zero_()
    listener = Listener(flow, 0.0)
    found = listener.shuffled(CLIPS[1], CLIPS[2], "history")
    assert found["network"] == listener.matched(CLIPS[1]) != found["complete"]
    flow.phi.zero_()
    assert Listener(flow, 0.0).shuffled(CLIPS[1], CLIPS[2], "history")["complete"] == Listener(flow, 0.0).matched(CLIPS[1])
    for parameter in flow.audio.parameters():
        parameter.zero_()
    assert set(Listener(flow, 0.0).shuffled(CLIPS[1], CLIPS[2], "audio").values()) == {Listener(flow, 0.0).matched(CLIPS[1])}
    assert set(Listener(flow, 0.0).shuffled(CLIPS[1], CLIPS[2], "source").values()) != {Listener(flow, 0.0).matched(CLIPS[1])}


def test_poseflow_is_given_no_emotion(flows):
    assert "emotion" not in CONDITIONS["pose"]
    assert set(Listener(flows["pose"], 0.0).shuffled(CLIPS[1], CLIPS[2], "emotion").values()) == {
        Listener(flows["pose"], 0.0).matched(CLIPS[1])
    }


def test_partners_have_another_key_and_belong_to_the_clip():
    keys = ["a", "a", "b", "c", "c", "c", "c", "c"]
    found = partners(CLIPS, keys, 2, "seed")
    assert all(len(set(others)) == 2 and all(keys[i] != key for i in others) for others, key in zip(found, keys, strict=True))
    assert found == partners(CLIPS, keys, 2, "seed") != partners(CLIPS, keys, 2, "other seed")
    assert partners(CLIPS, ["same"] * 8, 2, "seed") == [[]] * 8
    assert [len(others) for others in partners(CLIPS, keys, 9, "seed")] == [6, 6, 7, 3, 3, 3, 3, 3]


def test_exchanged_sound_has_the_clips_own_length():
    long, short = exchanged(CLIPS[0], CLIPS[7], "audio"), exchanged(CLIPS[7], CLIPS[0], "audio")
    assert torch.equal(long.mel, CLIPS[7].mel[:70])
    assert torch.equal(short.mel, torch.cat([CLIPS[0].mel, CLIPS[0].mel[:7]]))
    assert torch.equal(short.beta, CLIPS[7].beta)
    with pytest.raises(ValueError, match="condition"):
        exchanged(CLIPS[0], CLIPS[1], "history")


@pytest.mark.parametrize("kind", ["expression", "pose"])
def test_listen_scores_every_condition_and_leaves_out_what_has_no_partner(flows, kind):
    found = listen(flows[kind], CLIPS[:4], ["one sentence"] * 4, 0.001, 2)
    assert found.matched.shape == (4,) and np.isfinite(found.matched).all()
    assert set(found.shuffled) == {(condition, reach) for condition in CONDITIONS[kind] for reach in REACHES}
    for (condition, _), values in found.shuffled.items():
        assert np.isnan(values).all() if condition == "audio" else np.isfinite(values).all()
