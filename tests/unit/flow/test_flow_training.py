"""Training data, data dropout, cross-fitting and the whole fit of a tiny flow."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from flowvqtalker.flow.conditioner import AudioEncoder
from flowvqtalker.flow.diagnostics import blinks, correlation, lip_opening, request_of, rollout_metrics
from flowvqtalker.flow.expflow import lid_positions, moving_dims
from flowvqtalker.flow.model import load_motion, motion_state
from flowvqtalker.flow.motionflow import FlowConfig, HistoryNoise, stable_prediction
from flowvqtalker.flow.sampling import Rollout, rollout
from flowvqtalker.flow.stack import StackConfig
from flowvqtalker.flow.windows import MotionClip, drop_mask, history_of, long_history_of, mel_windows, window_starts
from flowvqtalker.train import flow as flow_training
from flowvqtalker.train.flow import (
    FlowTraining,
    MotionData,
    _spread_within,
    calibrate,
    clip_bits,
    closures,
    diagnose,
    fit_motion,
    folds_of,
    held_out_latents,
    lid_frames,
    make_flow,
    plans_of,
)
from flowvqtalker.train.loop import LoopConfig

STACK = StackConfig(53, 8, 2, 16, 4, "transformer", 1, 0.8, "multi", "smm", 50.0, 5.0)
CONFIG = FlowConfig("expression", "flow", 53, STACK, 4, 2, 8, 4, (), 16, 16, 0.0, 2, 1, 0.0, 0, True, 0.3, 6.0, 3)
POSE = dataclasses.replace(
    CONFIG,
    kind="pose",
    coefficients=6,
    conditioners=0,
    order=2,
    long_frames=0,
    stack=dataclasses.replace(STACK, actnorm="shared", prior="gaussian"),
)
SETTINGS = FlowTraining(4, 8, 4, 0.5, 0.5, 0.2, 1e-3, 0.01, 0.01, 4.0, 0.3, 1, 0.05, 1e-3, 1)
LOOP = LoopConfig(3, 1e-3, 1, 0.1, 1.0, 0.9, 2, 2, "loss")


def make_clip(number, identity, emotion=0, frames=20):
    rng = torch.Generator().manual_seed(number)
    beta = torch.rand(frames, 53, generator=rng).cumsum(0) / frames
    beta[:, 5] = 0.25  # a dimension that never moves
    pose = torch.randn(frames, 6, generator=rng).cumsum(0) * 0.01
    mel = torch.rand(70, 80, generator=rng) * 8 - 4
    start = 80 * (torch.arange(frames) - 2) // 25
    return MotionClip(f"c{number}", identity, mel, start, beta, pose, beta[0], pose[0], emotion, 1.0 if emotion > 0 else 0.0)


CLIPS = [make_clip(i, f"id{i % 4}", i % 3) for i in range(8)]


def no_hooks(name):
    return {}


def fit(config, clips=CLIPS, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return fit_motion(config, clips, clips[:2], settings, conditioner_loop=LOOP, flow_loop=LOOP, seed=1, hooks=no_hooks)


@pytest.fixture(scope="module")
def trained():
    return fit(CONFIG)


def test_fit_gives_finite_metrics_and_the_declared_dimensions(trained):
    assert trained.flow.config.stack.features == 52
    assert 5 not in trained.flow.kept.tolist()
    assert trained.flow.config.long_dims == (9, 10)  # eyeBlink_L and _R, one place down because dimension 5 is dropped
    assert set(trained.metrics) >= {
        "held_out_bits_per_dim",
        "gap_audio_bits_per_dim",
        "gap_emotion_bits_per_dim",
        "gap_history_bits_per_dim",
    }
    assert all(math.isfinite(value) for value in trained.metrics.values())
    assert all(math.isfinite(value) for value in rollout_metrics(trained.flow, CLIPS[:2], 0).values())


def test_fit_is_reproducible(trained):
    again = fit(CONFIG)
    for name, value in trained.flow.state_dict().items():
        assert torch.equal(value, again.flow.state_dict()[name]), name


def test_flows_of_other_shapes_end_with_the_same_conditioners(trained):
    """Variants share their trained conditioners, so nothing but the conditioners' own settings may enter them."""
    stack = dataclasses.replace(STACK, width=32, steps=3, coupling="lstm", prior="gaussian")
    for config in (dataclasses.replace(CONFIG, stack=stack, audio_width=24), dataclasses.replace(CONFIG, model="regression")):
        other = fit(config).flow.conditioners.state_dict()
        assert other.keys() == trained.flow.conditioners.state_dict().keys()
        for name, value in trained.flow.conditioners.state_dict().items():
            assert torch.equal(value, other[name]), name


def test_bits_of_single_clips_average_to_those_of_all(trained):
    silent = dataclasses.replace(SETTINGS, dequantisation=0.0)  # else each clip has draws of its own
    before = torch.get_rng_state()
    single = clip_bits(trained.flow, CLIPS[:3], 8, silent)
    assert torch.equal(torch.get_rng_state(), before)  # what is trained next does not notice
    data = MotionData(trained.flow, CLIPS[:3], plans_of(trained.flow, CLIPS[:3]))
    assert len(set(single)) == 3
    assert np.mean(single) == pytest.approx(diagnose(trained.flow, data, 8, silent)["held_out_bits_per_dim"], rel=1e-4)


def test_latents_are_those_that_the_likelihood_scores(trained):
    seen = []
    hook = trained.flow.core.register_forward_hook(lambda core, args, result: seen.append(result[0]))
    data = MotionData(trained.flow, CLIPS[:3], plans_of(trained.flow, CLIPS[:3]))
    trained.flow.log_prob(data.take([(0, 0), (0, 8), (1, 0), (1, 8), (2, 0), (2, 8)], 8))
    hook.remove()
    before = torch.get_rng_state()
    found = held_out_latents(trained.flow, [*CLIPS[:3], make_clip(9, "x", -1)], 8, SETTINGS, 1000)
    assert torch.equal(torch.get_rng_state(), before)  # what is trained next does not notice
    assert found.z.shape == (48, 52) and not found.z.requires_grad
    assert torch.allclose(found.z, seen[0].flatten(0, 1), atol=1e-5)
    assert found.emotion.tolist() == [0] * 16 + [1] * 16 + [2] * 16  # the unlabelled clip is left out
    assert found.intensity.tolist() == [0.0] * 16 + [1.0] * 32
    assert torch.equal(found.means, trained.flow.core.prior.means)


def test_latents_are_bounded_and_shared_out_evenly_among_the_emotions(trained):
    found = held_out_latents(trained.flow, CLIPS, 8, SETTINGS, 50)
    assert torch.bincount(found.emotion).tolist() == [16, 16, 16]
    assert torch.equal(found.z, held_out_latents(trained.flow, CLIPS, 8, SETTINGS, 50).z)
    unlabelled = held_out_latents(trained.flow, [make_clip(9, "x", -1)], 8, SETTINGS, 50)
    assert unlabelled.z.shape == (0, 52) and len(unlabelled.emotion) == len(unlabelled.intensity) == 0
    with pytest.raises(TypeError, match="no latents"):
        held_out_latents(make_flow(dataclasses.replace(CONFIG, model="regression"), CLIPS, 1e-3), CLIPS, 8, SETTINGS, 50)


def test_a_saved_flow_is_the_same_flow(trained, tmp_path):
    torch.save(motion_state(trained.flow), tmp_path / "expflow.pt")
    state = torch.load(tmp_path / "expflow.pt", weights_only=True)
    loaded = load_motion(state)
    assert loaded.config == trained.flow.config
    window = trained.held_out.take([(0, 0), (1, 3)], 8)
    assert torch.equal(loaded.log_prob(window), trained.flow.log_prob(window))
    with pytest.raises(RuntimeError, match="format"):
        load_motion({"format": "something else"})


@pytest.mark.parametrize("changes", [{"model": "regression"}, {"conditioners": 0}, {"conditioners": 5, "long_frames": 0}])
def test_variants_train(changes):
    result = fit(dataclasses.replace(CONFIG, **changes))
    assert all(math.isfinite(value) for value in result.metrics.values())


def test_lids_train_further_alone():
    config = dataclasses.replace(CONFIG, stack=dataclasses.replace(STACK, mixture=2, mixture_dropout=0.3))
    loop = dataclasses.replace(LOOP, steps=60, validate_every=20, patience=None, lr=1e-2)
    values = {}

    def hooks(phase):
        return {"log": lambda step, split, found: values.setdefault(f"{phase} {split}", []).append(found.get("loss"))}

    settings = dataclasses.replace(SETTINGS, lid_batch=64, lid_astray=0.3)
    both = [
        fit_motion(config, CLIPS, CLIPS[:2], settings, conditioner_loop=LOOP, flow_loop=LOOP, lid_loop=lids, seed=1, hooks=hooks).flow
        for lids in (None, loop)
    ]
    assert both[0].config.stack.apart == (9, 10)
    own = [name for name, value in both[0].state_dict().items() if not torch.equal(value, both[1].state_dict()[name])]
    assert own and all(name.startswith("core.mixture") or name == "gain" for name in own)
    assert values["lids val"][-1] < values["lids val"][0]
    assert all(flow.gain[[9, 10]].tolist() == [1.0, 1.0] for flow in both)
    assert len(next(rollout(load_motion(motion_state(both[1])), [request_of(CLIPS[0], 3)]))) == len(CLIPS[0].beta)


def test_calibration_makes_lids_close_as_often_as_real_ones(monkeypatch):
    """Blinks answer to the gain of their latents by a known law; three rounds find the gain that gives the real number."""
    flow = fit(dataclasses.replace(CONFIG, stack=dataclasses.replace(STACK, mixture=2))).flow
    apart = list(flow.config.stack.apart)

    def counted(flow, sequences):
        is_real = torch.equal(sequences[0], CLIPS[0].beta)
        return 150 if is_real else round(100 * float(flow.gain[apart[0]]) ** 4)

    monkeypatch.setattr(flow_training, "closures", counted)
    calibrate(flow, CLIPS, 3, 1)
    assert flow.gain[apart].tolist() == pytest.approx([1.5 ** (1 / 4)] * 2, rel=0.01)
    running = Rollout(flow, [request_of(CLIPS[0], 3)], 1.0)
    plain, gain = running._latents(4, running.weights.unsqueeze(1))
    assert gain[..., apart].eq(1).all() and not gain.eq(1).all()
    flow.gain[apart] = 1.0
    running = Rollout(flow, [request_of(CLIPS[0], 3)], 1.0)
    torch.testing.assert_close(
        running._latents(4, running.weights.unsqueeze(1))[0][..., apart] * 1.5 ** (1 / 4), plain[..., apart], rtol=0.01, atol=1e-6
    )


def test_closures_are_counted_at_their_start():
    flow = make_flow(dataclasses.replace(CONFIG, stack=dataclasses.replace(STACK, mixture=2)), CLIPS, 0.01)
    beta = torch.zeros(20, 53)
    left, right = flow.kept[list(flow.config.stack.apart)].tolist()
    beta[3:5, [left, right]] = beta[9, [left, right]] = 0.9
    beta[15, left] = 0.9  # one lid alone
    assert closures(flow, [beta, beta]) == 4
    assert closures(make_flow(CONFIG, CLIPS, 0.01), [beta]) == 0


def test_lids_gone_astray_are_shown_the_way_back():
    """In the windows taken once more the past is more closed, and the innovation leads half of the way back to the real frame."""
    config = dataclasses.replace(CONFIG, marginals=False, stack=dataclasses.replace(STACK, mixture=2))
    fitted = fit(config)
    flow, data = fitted.flow, fitted.held_out
    apart = list(flow.config.stack.apart)
    seen, unit = {}, (flow.sd[flow.kept] * flow.r_sd)[apart]
    take, tokens = data.take, flow.tokens
    data.take = lambda places, window: seen.setdefault("real", []).append(take(places, window).past) or take(places, window)
    flow.tokens = lambda static, past: seen.setdefault("past", []).append(past) or tokens(static, past)
    plain = lid_frames(flow, data, 8, 4)
    n = len(seen["real"])
    both = lid_frames(flow, data, 8, 4, astray=1.0, seed=3)
    assert len(both[1]) == 2 * len(plain[1]) and all(torch.equal(a, b[: len(a)]) for a, b in zip(plain, both, strict=True))
    real, past = torch.cat(seen["real"][n:]), torch.cat(seen["past"][n:])
    closed = ((past - real)[..., apart] * unit)[len(real) // 2 :, :1]
    assert 0.1 <= float(closed.min()) <= float(closed.max()) <= 0.6 and torch.allclose(past[..., 0], real[..., 0])
    u = both[1].view(len(real), 8, -1)[len(real) // 2 :] * flow.u_sd[apart]
    reached = flow.predicted(past)[len(real) // 2 :, :, apart] + u
    torch.testing.assert_close(reached, real[len(real) // 2 :, flow.lead :, apart] + 0.5 * closed / unit, atol=1e-4, rtol=1e-4)
    again = lid_frames(flow, data, 8, 4, astray=1.0, seed=3)
    assert torch.equal(both[1], again[1])


@pytest.mark.parametrize("prior", ["gmm", "gaussian"])
def test_priors_lstm_and_shared_actnorm_train(prior):
    stack = dataclasses.replace(STACK, prior=prior, actnorm="shared", coupling="lstm")
    assert math.isfinite(fit(dataclasses.replace(CONFIG, stack=stack, conditioners=0)).metrics["held_out_bits_per_dim"])


def test_poseflow_trains_without_emotion():
    result = fit(POSE)
    assert "gap_emotion_bits_per_dim" not in result.metrics
    window = result.held_out.take([(0, 0), (1, 3)], 8)
    other = dataclasses.replace(window, weights=window.weights.flip(0).roll(1, 1))
    assert torch.equal(result.flow.log_prob(window), result.flow.log_prob(other))


def test_one_clip_and_unlabelled_clips_train_without_a_special_case():
    assert math.isfinite(fit(CONFIG, [make_clip(0, "a", -1)]).metrics["held_out_bits_per_dim"])
    mixed = [make_clip(i, f"id{i}", -1 if i % 2 else 4) for i in range(4)]
    assert math.isfinite(fit(CONFIG, mixed).metrics["held_out_bits_per_dim"])


def test_unlabelled_windows_get_the_mixture_of_their_emotions(trained):
    flow, window = trained.flow, trained.held_out.take([(0, 0)], 6)
    unknown = dataclasses.replace(window, known=torch.tensor([False]))
    each = [flow.log_prob(dataclasses.replace(window, weights=torch.eye(8)[label : label + 1])).item() * 6 for label in range(8)]
    expected = (torch.logsumexp(torch.tensor(each, dtype=torch.float64), 0) - math.log(8)) / 6
    assert flow.log_prob(unknown).item() == pytest.approx(expected.item(), rel=1e-4)


def test_windows_shorter_than_asked_are_used_and_none_is_an_error():
    short = [make_clip(i, f"id{i}", frames=6) for i in range(3)]
    assert math.isfinite(fit(dataclasses.replace(CONFIG, conditioners=0), short).metrics["held_out_bits_per_dim"])


def test_data_dropout_zeroes_whole_history_frames_only():
    generator = torch.Generator().manual_seed(0)
    kept = drop_mask((400, 5, 4), 0.5, 0.5, generator)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    touched = (kept == 0).any((1, 2)).double().mean().item()
    assert touched == pytest.approx(0.5, abs=0.1)
    assert (kept == 0).double().mean().item() == pytest.approx(0.25, abs=0.05)
    assert drop_mask((10, 5, 4), 0.9, 0.0, generator).all()
    assert not drop_mask((10, 5, 4), 1.0, 1.0, generator).any()


def test_dropped_history_cannot_reach_the_likelihood_but_audio_and_emotion_can(trained):
    flow = trained.flow
    config = dataclasses.replace(flow.config, long_frames=0, long_dims=())
    torch.manual_seed(0)
    flow = load_motion({**motion_state(type(flow)(config))})
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    window = MotionData(flow, CLIPS[:2], plans_of(flow, CLIPS[:2])).take([(0, 6), (1, 6)], 6)
    dropped = HistoryNoise(torch.zeros(2, flow.lead + 6, 104), torch.zeros(2, 6, 4))
    other = window.past + torch.randn_like(window.past)
    assert torch.equal(flow.log_prob(window, dropped), flow.log_prob(window, dropped, history=other))
    assert not torch.equal(flow.log_prob(window), flow.log_prob(window, history=other))
    deaf = dataclasses.replace(window, audio=window.audio.flip(0))
    assert not torch.equal(flow.log_prob(window, dropped), flow.log_prob(deaf, dropped))
    numb = dataclasses.replace(window, weights=window.weights.flip(0))
    assert not torch.equal(flow.log_prob(window, dropped), flow.log_prob(numb, dropped))


def test_histories_are_the_frames_before():
    padded = torch.arange(9.0).view(1, 9, 1)  # lead of 4, then the frames 4 to 8
    history = history_of(padded, 4, 3)
    assert history[0, :, :, 0].tolist() == [[1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6], [5, 6, 7]]
    long = long_history_of(torch.cat([padded, -padded], 2), 4, 4, 2, torch.tensor([0, 1]))
    assert long[0, 0].tolist() == [1, 0, 3, -2]
    assert long[0, 4].tolist() == [5, -4, 7, -6]


def test_past_is_silent_before_the_first_frame(trained):
    data = trained.held_out
    window = data.take([(0, 0)], 5)
    assert not window.past[:, : trained.flow.lead].any()
    later = data.take([(0, 3)], 5)
    assert torch.equal(later.past[:, trained.flow.lead - 3 : trained.flow.lead], window.past[:, trained.flow.lead : trained.flow.lead + 3])


def test_windows_cover_every_frame_once_at_least():
    places = window_starts([20, 5, 8], 8)
    covered = {(clip, first + i) for clip, first in places for i in range(8)}
    assert covered == {(0, i) for i in range(20)} | {(2, i) for i in range(8)}


def test_folds_never_split_an_identity():
    folds = folds_of(CLIPS, 3)
    assert sorted(i for fold in folds for i in fold) == list(range(8))
    for fold in folds:
        inside = {CLIPS[i].identity for i in fold}
        assert not inside & {CLIPS[i].identity for i in range(8) if i not in fold}
    assert len(folds_of(CLIPS, 7)) == 7  # four identities only: clips are the groups
    assert folds_of(CLIPS[:1], 3) == [[0]]


def test_mel_windows_agree_with_the_audio_stage():
    from flowvqtalker.audio.mel import mel_windows as reference
    from flowvqtalker.audio.mel import window_starts as starts

    mel = torch.rand(40, 80)
    expected = reference(mel.numpy(), 17)
    found = mel_windows(mel, torch.from_numpy(starts(17)), before=2, after=1)
    assert np.array_equal(found[2:-1].numpy(), expected)
    assert (found[:2] == -4).all()
    assert (found[-1] == -4).all()


def test_audio_features_of_a_frame_do_not_depend_on_the_cut():
    torch.manual_seed(0)
    encoder = AudioEncoder(8, (1, 2), 0, 0.0).eval()
    windows = torch.randn(1, 20, 16, 80)
    whole = encoder(windows)
    part = encoder(windows[:, 5:16])
    assert whole.shape == (1, 14, 8)
    assert torch.allclose(whole[:, 5:10], part, atol=1e-6)


def test_near_constant_dimensions_are_dropped_but_two_stay():
    frames = torch.randn(100, 4) * torch.tensor([1.0, 1e-4, 0.5, 0.0])
    assert moving_dims(frames, 0.01).tolist() == [0, 2]
    assert moving_dims(frames * 1e-3, 0.01).tolist() == [0, 2]
    assert lid_positions(torch.arange(4), 4) == (0, 1, 2, 3)


def test_dropped_dimensions_are_filled_and_bounds_hold():
    flow = make_flow(CONFIG, CLIPS, 1e-3)
    x = torch.randn(3, 52) * 20
    coefficients = flow.coefficients(x)
    frames = torch.cat([clip.beta for clip in CLIPS])
    assert torch.allclose(coefficients[:, 5], torch.full((3,), 0.25))
    assert (coefficients >= frames.amin(0)).all()
    assert (coefficients <= frames.amax(0)).all()
    inside = frames[:7]
    assert torch.allclose(flow.coefficients(flow.standardise(inside)), inside, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_linear_prediction_is_stable_and_finds_a_known_process(order):
    rng = np.random.default_rng(0)
    x = np.zeros((4000, 1))
    for t in range(2, 4000):
        x[t] = 1.6 * x[t - 1] - 0.7 * x[t - 2] + rng.standard_normal()
    phi = stable_prediction([torch.from_numpy(x)], order)
    if order == 2:
        assert phi[:, 0].tolist() == pytest.approx([1.6, -0.7], abs=0.05)
    walk = torch.from_numpy(np.cumsum(rng.standard_normal((300, 3)), 0))
    phi = stable_prediction([walk, walk.flip(0)], order)
    for dim in range(3):
        roots = np.roots([1, *(-phi[:, dim]).tolist()])
        assert np.abs(roots).max() < 1


def test_diagnostics_have_known_answers():
    beta = np.zeros((30, 53))
    beta[5:9, 10:12] = 0.9
    beta[9, 10:12] = 0.4  # not open yet
    beta[20:22, 10] = 0.9  # a wink
    assert blinks(beta) == [5]
    assert correlation(np.arange(5.0), -2 * np.arange(5.0)) == pytest.approx(-1)
    assert correlation(np.ones(5), np.arange(5.0)) == 0
    closed = np.zeros(53)
    closed[[26, 28]] = 1
    assert lip_opening(closed) == 0


def test_what_a_clip_keeps_from_end_to_end_is_no_motion_to_the_calibration():
    generator = torch.Generator().manual_seed(3)
    moving = [torch.randn(50, 3, generator=generator) for _ in range(40)]
    offset = [r + 5.0 * torch.randn(1, 3, generator=generator) for r in moving]
    torch.testing.assert_close(_spread_within(offset), _spread_within(moving), rtol=1e-4, atol=1e-4)
    assert (_spread_within(moving) - 1).abs().max() < 0.1
