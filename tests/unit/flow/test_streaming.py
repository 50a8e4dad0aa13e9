"""Streams: the same motion as a rollout of the whole, whatever the pieces; flat memory; per-frame emotions."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_flow import make, windows

from flowvqtalker.audio import compute_mel, mel_windows
from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face import make_face_model
from flowvqtalker.flow.control import one_emotion, schedule
from flowvqtalker.flow.sampling import MotionRequest, rollout
from flowvqtalker.flow.streaming import MotionStream, Smoother, StreamRow, WindowStream, stream, stream_batch

SOURCE = torch.tensor([0.1, 0.2, 0.0, -0.1, 0.3])
RAMP = schedule([(0.2, "happy", 1.0), (0.8, "sad", 1.4)])


def pieces(values, sizes):
    first = 0
    for size in sizes:
        yield values[first : first + size]
        first += size
    yield values[first:]


def row(emotion="happy", intensity=0.7, seed=1, **changes):
    return StreamRow(SOURCE, one_emotion(emotion, intensity), seed, **changes)


def request(heard, emotion="happy", intensity=0.7, seed=1):
    return MotionRequest(heard, SOURCE, torch.zeros(6), EMOTIONS.index(emotion), intensity, seed)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stack": {"mixture_dims": (1, 3), "mixture": 2}},
        {"model": "regression"},
        {"stack": {"coupling": "lstm"}},
        {"order": 2, "conditioners": 0},
    ],
)
@pytest.mark.parametrize("intensity", [0.7, 1.3])
def test_a_stream_in_pieces_equals_the_rollout_of_the_whole(changes, intensity):
    flow, heard = make(**changes), windows(40, 1)
    whole = next(rollout(flow, [request(heard, intensity=intensity)], guidance=1.6))
    for sizes in ((), (1,) * 30, (3, 0, 20, 1), (40,)):
        made = torch.cat(list(stream(flow, row(intensity=intensity), pieces(heard, sizes), guidance=1.6)))
        torch.testing.assert_close(made, whole, atol=1e-6, rtol=0)


def test_rows_of_any_batch_and_length_equal_their_rollouts():
    flow = make()
    asked = [(31, "happy", 0.7), (12, "angry", 1.0), (20, "neutral", 1.0), (31, "fear", 1.5)]
    heard = [windows(frames, seed) for seed, (frames, _, _) in enumerate(asked)]
    rows = [row(emotion, intensity, seed) for seed, (_, emotion, intensity) in enumerate(asked)]
    requests = [request(w, e, 0.0 if e == "neutral" else i, s) for s, (w, (_, e, i)) in enumerate(zip(heard, asked, strict=True))]
    whole = list(rollout(flow, requests, guidance=1.6))
    for batch, chunk in ((1, 256), (4, 5), (3, 12), (2, 1)):
        made = list(stream_batch(flow, rows, heard, guidance=1.6, batch=batch, chunk=chunk))
        assert [len(one) for one in made] == [31, 12, 20, 31]
        for one, other in zip(made, whole, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_pieces_move_no_vertex_by_more_than_a_hundredth_of_a_millimetre():
    flow, heard = make(features=53, dtype=torch.float32, bound=1.0), windows(60, 2)
    flow.low.fill_(0.0)
    asked = StreamRow(torch.full((53,), 0.1), RAMP, 4)
    whole = torch.cat(list(stream(flow, asked, [heard])))
    cut = torch.cat(list(stream(flow, asked, pieces(heard, (7, 1, 1, 30)))))
    batched = next(iter(stream_batch(flow, [asked, dataclasses.replace(asked, seed=5)], [heard, heard], chunk=9)))
    assert whole.std(0).max() > 0.05  # something moves
    model = make_face_model("clay")
    faces = [model.vertices(torch.zeros(model.n_identity), motion[::6]) for motion in (whole, cut, batched)]
    assert max((faces[0] - face).norm(dim=-1).max().item() for face in faces[1:]) <= 1e-3


def test_coefficients_come_as_soon_as_their_sound_is_there():
    flow, heard = make(), windows(40, 1)
    running = MotionStream(flow, [row()])
    assert running.lookahead == 11
    made = [running.push([heard[i : i + 1]]).shape[1] for i in range(40)]
    assert made == [0] * 11 + [1] * 29 and running.finish().shape[1] == 11


def test_what_a_stream_keeps_does_not_grow():
    flow, running = make(), MotionStream(make(), [row()])
    sizes = []
    for number in range(6):
        running.push([windows(100, number)])
        own = running.conditions[0]
        sizes.append([len(part) for part in (own.windows, own.features, own.plan, own.guided)] + [running.past.shape[1]])
    assert sizes[0] == sizes[-1] and max(sizes[0]) <= 4 * flow.context


def test_a_jump_in_the_track_changes_nothing_before_the_plan_can_see_it():
    flow, heard = make(), windows(60, 3)
    still = StreamRow(SOURCE, one_emotion("happy", 1.0), 2)
    jump = StreamRow(SOURCE, schedule([(0.0, "happy", 1.0), (1.2, "happy", 1.0), (1.24, "sad", 1.0)]), 2)
    first, second = (torch.cat(list(stream(flow, asked, [heard]))) for asked in (still, jump))
    seen = 31 - 4  # frame 31 is the first sad one; a frame sees the plan of four frames ahead
    torch.testing.assert_close(first[:seen], second[:seen], atol=1e-6, rtol=0)
    assert (first[31:] - second[31:]).abs().max() > 1e-2


def test_each_frame_of_a_ramp_has_the_plan_of_a_clip_with_its_own_weights():
    """Without noise, couplings' conditions or residuals what comes out is the plan: compare it with whole clips at each frame's weights."""
    flow, heard = make(model="regression"), windows(30, 4)
    for parameter in flow.core.parameters():
        parameter.data.zero_()
    flow.low.fill_(-100.0)
    flow.high.fill_(100.0)
    made = torch.cat(list(stream(flow, StreamRow(SOURCE, RAMP, 0), pieces(heard, (11, 3)), guidance=1.6)))
    weights, intensity = RAMP.at(0, 30)
    silence = heard.new_full((flow.context, 16, 80), -4.0)
    audio, x0 = torch.cat([silence, heard, silence]).double().unsqueeze(0), flow.standardise(SOURCE.double()).unsqueeze(0)
    neutral = flow.plan(audio, x0, one_emotion("neutral").at(0, 1)[0].double())[0]
    for frame in range(30):
        plan = flow.plan(audio, x0, weights[frame : frame + 1].double())[0, frame]
        want = plan + (1.6 * intensity[frame].clamp_min(1).double() - 1) * (plan - neutral[frame])
        torch.testing.assert_close(made[frame].double(), want * flow.sd + flow.mean, atol=1e-5, rtol=0)


def test_pose_does_not_hear_of_emotions_and_moves_by_its_own_seed_only():
    flow, heard = make(features=6, kind="pose", conditioners=0, stack={"actnorm": "shared", "prior": "gaussian"}), windows(30, 1)
    asked = [StreamRow(torch.zeros(6), track, seed) for track, seed in ((RAMP, 1), (one_emotion("fear"), 1), (RAMP, 2))]
    first, other_emotion, other_seed = (torch.cat(list(stream(flow, one, [heard]))) for one in asked)
    assert torch.equal(first, other_emotion) and not torch.allclose(first, other_seed)


@pytest.mark.parametrize("samples", [1, 639, 641, 16_000, 12_345])
@pytest.mark.parametrize("block", [1, 200, 333, 5_000, 100_000])
def test_windows_of_blocks_of_sound_equal_those_of_the_whole(samples, block):
    if samples // block > 4_000:
        block = 37
    sound = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    running = WindowStream()
    made = torch.cat([running.push(sound[i : i + block]) for i in range(0, samples, block)] + [running.finish()])
    whole = mel_windows(compute_mel(sound), -(-samples // 640))
    np.testing.assert_allclose(made.numpy(), whole, atol=2e-4)


def test_sound_in_blocks_is_forgotten():
    running = WindowStream()
    kept = []
    for _ in range(20):
        running.push(np.full(16_000, 0.01, np.float32))
        kept.append((len(running._samples), len(running._mel)))
    assert max(kept) == max(kept[:3]) and max(kept)[0] < 2_000 and max(k for _, k in kept) < 40


def test_smoothing_is_a_polynomial_fit_in_any_pieces_and_off_by_default():
    from scipy.signal import savgol_filter

    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).cumsum(0)
    want = savgol_filter(values.numpy(), 13, 2, axis=0, mode="nearest")
    for sizes in ((), (1,) * 40, (5, 0, 30)):
        smoother = Smoother(13)
        made = torch.cat([*(smoother.push(piece) for piece in pieces(values, sizes)), smoother.finish()])
        np.testing.assert_allclose(made.numpy(), want, atol=1e-4)
    plain = Smoother(0)
    assert torch.equal(torch.cat([plain.push(values), plain.finish()]), values)
    short = Smoother(13)
    assert len(torch.cat([short.push(values[:2]), short.finish()])) == 2
    for frames in (4, 1, -3):
        with pytest.raises(ValueError, match="odd number of frames above 2"):
            Smoother(frames)


def test_bad_streams_are_refused():
    flow = make()
    with pytest.raises(ValueError, match="source"):
        MotionStream(flow, [StreamRow(torch.zeros(4), RAMP, 1)])
    running = MotionStream(flow, [row()])
    with pytest.raises(ValueError, match="one piece for each of 1 rows, got 2"):
        running.push([windows(2, 1), windows(2, 1)])
    with pytest.raises(ValueError, match="NaN"):
        running.push([torch.full((2, 16, 80), float("nan"))])
    with pytest.raises(ValueError, match="no frame to make"):
        running.finish()
