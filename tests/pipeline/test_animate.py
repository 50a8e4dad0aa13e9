"""The command that animates a portrait: what it makes, and what it says when it cannot."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_models import SIZE, write_models

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import Camera, project
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.fit.basis import basis_of
from flowvqtalker.flow.control import one_emotion, schedule
from flowvqtalker.flow.sampling import MotionRequest
from flowvqtalker.landmarks.schema import Detections, join_detections
from pipeline.cli import animate as cli
from pipeline.errors import PipelineError
from pipeline.media import probe, read_video, write_sound, write_video
from pipeline.params import validate_section
from pipeline.synthesis import Models, check_length, sample_motion, speech_windows, write_synthetic

#: A coloured disc stands for a face; its colour tells the landmarker below where a face is.
FACE = (210, 160, 130)


class DiscLandmarker:
    """Finds the largest disc of face colour and lays clay's landmarks over it."""

    def __init__(self) -> None:
        model = make_face_model("clay")
        points = model.landmarks(torch.zeros(model.n_identity), torch.zeros(1, 53))
        self.shape = project(points, Camera(640.0, 0.0, 0.0, 60.0))[0].numpy()
        self.shape = (self.shape - self.shape.mean(0)) / np.ptp(self.shape, axis=0).max()

    def detect(self, frames: np.ndarray, video: bool) -> Detections:
        from scipy.ndimage import find_objects, label

        points = np.full((len(frames), 68, 2), np.nan, np.float32)
        for index, frame in enumerate(frames):
            parts, count = label((np.abs(frame.astype(int) - FACE) < 12).all(-1))
            boxes = sorted(find_objects(parts), key=lambda box: box[0].stop - box[0].start)
            if count and boxes[-1][0].stop - boxes[-1][0].start >= 8:
                rows, columns = boxes[-1]
                centre = ((columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2)
                points[index] = centre + self.shape * 0.8 * (rows.stop - rows.start)
        return Detections(points, np.isfinite(points).all((1, 2)).astype(np.float32))

    def detect_pieces(self, pieces):
        return join_detections([self.detect(piece, video=True) for piece in pieces])


def portrait(*discs: tuple[int, int, int]) -> np.ndarray:
    picture = np.full((160, 240, 3), 40, np.uint8)
    v, u = np.mgrid[:160, :240]
    for centre_u, centre_v, radius in discs:
        picture[(u - centre_u) ** 2 + (v - centre_v) ** 2 < radius**2] = FACE
    return picture


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> cli.Studio:
    folders = {name: path.parent for name, path in write_models(tmp_path_factory.mktemp("models")).items()}
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["crop"]["size_px"], values["generate"]["precision"] = SIZE, "fp32"
    made = cli.Studio(values)
    ready = {
        "params": {name: validate_section(name, values[name]) for name in ("crop", "fit3dmm", "generate")},
        "landmarker": DiscLandmarker(),
        "models": Models(flow=folders["flow_full"], imagegen=folders["imagegen_full"], codebook=folders["codebook"]),
        "basis": basis_of(make_face_model("clay")),
    }
    made.__dict__.update(ready)  # in place of what the properties would load from a finished run
    return made


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return (0.3 * np.sin(np.arange(640 * 10 + 100) * 0.2)).astype(np.float32)


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(studio, speech):
    picture = portrait((120, 80, 50))
    first, again, other = (cli.animate(studio, picture, speech, emotion="happy", seed=seed) for seed in (3, 3, 4))
    assert first.shape == (11, SIZE, SIZE, 3) and first.dtype == np.uint8  # ten whole frames of sound and a started one
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_still_head_keeps_the_pose_of_the_portrait(studio, speech):
    made = cli.perform(studio, portrait((120, 80, 50)), speech, pose=cli.STILL)
    sampled = cli.perform(studio, portrait((120, 80, 50)), speech)
    assert np.ptp(made.pose, axis=0).max() == 0 and np.array_equal(made.pose[0], made.source.pose)
    assert np.array_equal(made.beta, sampled.beta)  # head and face are drawn apart


def test_motion_is_that_of_the_step_generate(studio, speech):
    """What the command streams and what the pipeline rolls out in one go are the same face, so that a row of a table can be repeated."""
    made = cli.perform(studio, portrait((120, 80, 50)), speech, emotion="fear", intensity=0.5, seed=9)
    start = (torch.from_numpy(part) for part in (made.source.beta, made.source.pose))
    cfg, request = studio.params["generate"], MotionRequest(speech_windows(speech, 11), *start, 4, 0.5, 9)
    beta = sample_motion(studio.models.expflow, [request], temperature=cfg.temperature, guidance=cfg.emotion_guidance, batch=1)[0]
    pose = sample_motion(studio.models.poseflow, [request], temperature=cfg.pose_temperature, batch=1)[0]
    np.testing.assert_allclose(made.beta, beta, atol=1e-4)
    np.testing.assert_allclose(made.pose, pose, atol=1e-4)


def test_sources_of_motion_do_not_touch_each_other(studio, monkeypatch):
    """Blinks, head and emotion are asked for apart: each changes its own coefficients, the others stay bit for bit."""
    spread = studio.models.expflow.r_sd.clone()
    spread[[EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]] = 0.2  # an untrained flow blinks all the time: leave room
    monkeypatch.setitem(studio.models.expflow._buffers, "r_sd", spread)
    picture, sound = portrait((120, 80, 50)), (0.3 * np.sin(np.arange(640 * 150) * 0.2)).astype(np.float32)
    lids = [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]
    others = [i for i in range(53) if i not in lids]
    first = cli.perform(studio, picture, sound, emotion="happy", seed=1)
    for rate in (0.0, 2.0):
        made = cli.perform(studio, picture, sound, emotion="happy", seed=1, blink_rate=rate)
        again = cli.perform(studio, picture, sound, emotion="happy", seed=1, blink_rate=rate)
        assert np.array_equal(made.beta[:, others], first.beta[:, others]) and np.array_equal(made.pose, first.pose)
        assert not np.array_equal(made.beta, first.beta) and np.array_equal(made.beta, again.beta)
        assert made.notes[0].startswith("blinks: ") and not first.notes
    other_draws = cli.perform(studio, picture, sound, emotion="happy", seed=1, blink_rate=2.0, blink_seed=5)
    assert np.array_equal(other_draws.beta[:, others], first.beta[:, others]) and not np.array_equal(other_draws.beta, made.beta)
    head = cli.perform(studio, picture, sound, emotion="happy", seed=1, pose_seed=2)
    assert np.array_equal(head.beta, first.beta) and not np.array_equal(head.pose, first.pose)
    face = cli.perform(studio, picture, sound, track=schedule([(0, "happy", 1), (1, "sad", 1)]), seed=1)
    assert np.array_equal(face.pose, first.pose) and not np.array_equal(face.beta, first.beta)
    smooth = cli.perform(studio, picture, sound, emotion="happy", seed=1, smooth_pose=13)
    assert np.array_equal(smooth.beta, first.beta) and smooth.pose.shape == first.pose.shape
    assert np.abs(np.diff(smooth.pose, 2, axis=0)).mean() < 0.7 * np.abs(np.diff(first.pose, 2, axis=0)).mean()


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[Path, Path]:
    """A talking video and a neutral one of the same person."""
    folder = tmp_path_factory.mktemp("reference")
    sound = (0.3 * np.sin(np.arange(640 * 6) * 0.3)).astype(np.float32)
    write_video(folder / "talks.mp4", np.stack([portrait((100 + step, 80, 45)) for step in range(6)]), sound=sound, crf=4)
    write_video(folder / "calm.mp4", np.stack([portrait((100, 80, 45))] * 12), crf=4)
    return folder / "talks.mp4", folder / "calm.mp4"


def test_the_emotion_of_a_video_is_taken_over(studio, speech, reference):
    picture, (talks, calm) = portrait((120, 80, 50)), reference
    wishes = {"emotion_from": talks, "emotion_neutral": calm}
    reading = cli.read_reference(studio, talks, calm)
    assert reading.latents.shape[0] == 6 and reading.emotion in EMOTIONS
    played, other_seed = (cli.perform(studio, picture, speech, **wishes, seed=seed) for seed in (1, 2))
    assert f"read as {reading.emotion}" in played.notes[0] and "6 of 11 frames played back" in played.notes[0]
    assert np.array_equal(played.beta[:6], other_seed.beta[:6]) and not np.array_equal(played.beta[6:], other_seed.beta[6:])
    label = cli.perform(studio, picture, speech, **wishes, replay=False, seed=1)
    same = cli.perform(studio, picture, speech, track=one_emotion(reading.emotion, reading.intensity), seed=1)
    assert np.array_equal(label.beta, same.beta) and np.array_equal(label.pose, played.pose)


def test_references_that_cannot_be_read_are_refused(studio, speech, reference, tmp_path):
    talks, calm = reference
    write_video(tmp_path / "short.mp4", np.stack([portrait((100, 80, 45))] * 3))
    for file, neutral, message in (
        (calm, calm, r"calm\.mp4: the file holds no sound"),
        (tmp_path / "none.mp4", calm, r"none\.mp4: no such file"),
        (talks, tmp_path / "none.mp4", r"none\.mp4: no such file"),
        (talks, tmp_path / "short.mp4", r"short\.mp4: 3 frames show a face, 10 are needed"),
    ):
        with pytest.raises(PipelineError, match=message):
            cli.read_reference(studio, file, neutral)
    with pytest.raises(PipelineError, match="tells the person's own face"):
        cli.perform(studio, portrait((120, 80, 50)), speech, emotion_from=talks)


def test_frames_do_not_depend_on_the_pieces_they_are_rendered_in(studio, speech, monkeypatch):
    made = cli.perform(studio, portrait((120, 80, 50)), speech, emotion="angry")
    whole = np.concatenate(list(cli.render(studio, made)))
    monkeypatch.setattr(cli, "PIECE_FRAMES", 4)
    pieces = list(cli.render(studio, made))
    assert [len(piece) for piece in pieces] == [4, 4, 3]
    assert np.abs(np.concatenate(pieces).astype(int) - whole.astype(int)).max() <= 1


def test_the_head_follows_a_video(studio, speech, tmp_path):
    """A face that moves to the right in the video moves the portrait's head to the right; the first frame keeps the portrait's pose."""
    frames = [portrait((100 + 2 * step, 80, 45)) for step in range(6)]
    write_video(tmp_path / "driver.mp4", np.stack(frames), crf=4)
    motion = cli.read_head_motion(studio, tmp_path / "driver.mp4")
    assert motion.shape == (6, 6) and np.abs(motion[0]).max() < 1e-6
    still = cli.perform(studio, portrait((120, 80, 50)), speech, pose=cli.STILL)
    made = cli.perform(studio, portrait((120, 80, 50)), speech, pose=tmp_path / "driver.mp4")
    np.testing.assert_allclose(made.pose[0], still.pose[0], atol=1e-5)
    assert made.pose[5, 3] - made.pose[0, 3] > 0.5 and np.array_equal(made.beta, still.beta)


def test_a_short_head_motion_runs_back_and_forth():
    motion = np.zeros((3, 6), np.float32)
    motion[:, 1], motion[:, 3] = [0.0, 0.1, 0.2], [0.0, 1.0, 2.0]
    source = np.array([0.0, 0.3, 0.0, 1.0, 2.0, 60.0], np.float32)
    made = cli.follow_head(source, motion, 6)
    np.testing.assert_allclose(made[:, 3], [1, 2, 3, 2, 1, 2], atol=1e-6)
    np.testing.assert_allclose(made[:, 1], [0.3, 0.4, 0.5, 0.4, 0.3, 0.4], atol=1e-6)
    np.testing.assert_allclose(cli.follow_head(source, motion[:1], 3), np.repeat(source[None], 3, 0), atol=1e-6)


def test_a_driver_without_a_face_is_refused(studio, tmp_path):
    write_video(tmp_path / "empty.mp4", np.full((3, 64, 64, 3), 30, np.uint8))
    with pytest.raises(PipelineError, match=r"empty\.mp4: no face found"):
        cli.read_head_motion(studio, tmp_path / "empty.mp4")


def test_the_source_is_cropped_and_fitted_like_a_frame(studio):
    source = cli.prepare_source(studio, portrait((120, 80, 50)))
    assert source.image.shape == (SIZE, SIZE, 3) and source.beta.shape == (53,) and source.pose.shape == (6,)
    assert (source.beta >= 0).all() and np.abs(np.degrees(source.pose[:3])).max() < 12


@pytest.mark.parametrize(
    ("discs", "message"), [((), "no face found"), (((60, 80, 40), (180, 80, 35)), r"several faces found \(the second near column 1[78]\d")]
)
def test_pictures_without_one_face_are_refused(studio, discs, message):
    with pytest.raises(PipelineError, match=message):
        cli.prepare_source(studio, portrait(*discs), "me.png")


def test_a_small_face_behind_does_not_disturb(studio):
    assert cli.prepare_source(studio, portrait((100, 80, 55), (215, 30, 12))).image.shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"emotion": "bored"}, "emotion: expected one of neutral"),
        ({"intensity": 1.6}, "intensity"),
        ({"blink_rate": 4.0}, r"blink rate: expected a factor in \[0, 3\], got 4"),
        ({"smooth_pose": 4}, "odd number of frames"),
    ],
)
def test_wrong_wishes_are_refused(studio, speech, values, message):
    with pytest.raises(ValueError, match=message):
        cli.animate(studio, portrait((120, 80, 50)), speech, **values)


def test_the_command_writes_a_video_that_says_what_it_is(studio, speech, tmp_path, monkeypatch, capsys):
    Image.fromarray(portrait((120, 80, 50))).save(tmp_path / "a face.png")
    write_sound(tmp_path / "speech.wav", speech)
    monkeypatch.setattr(cli, "Studio", lambda config: studio)
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    words = [
        "--source",
        str(tmp_path / "a face.png"),
        "--audio",
        str(tmp_path / "speech.wav"),
        "--emotion",
        "sad",
        "--out",
        str(tmp_path / "out.mp4"),
    ]
    args = parser.parse_args(["animate", *words])
    args.run(args)
    info = probe(tmp_path / "out.mp4")
    assert "synthetic" in info.metadata["comment"].lower() and "sad" in info.metadata["comment"] and info.has_sound
    assert read_video(tmp_path / "out.mp4")[0].shape == (11, SIZE, SIZE, 3)
    assert "11 frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--intensity", "2"], r"--intensity: expected a number in [0, 1.5], got 2"),
        (["--blend-share", "x"], r"--blend-share: expected a number in [0, 1], got x"),
        (["--blink-rate", "nan"], r"--blink-rate: expected a number in [0, 3], got nan"),
        (["--smooth-pose", "4"], r"--smooth-pose: expected 0 or an odd number of frames from 3 on, got 4"),
    ],
)
def test_options_out_of_range_are_named(words, message, capsys):
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["animate", "--source", "a.png", "--audio", "a.wav", "--out", "a.mp4", *words])
    assert message in capsys.readouterr().err


def test_bad_files_are_named(studio, tmp_path):
    with pytest.raises(PipelineError, match="no such file"):
        cli.read_portrait(tmp_path / "none.png")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(PipelineError, match=r"broken\.png: not a readable picture"):
        cli.read_portrait(tmp_path / "broken.png")
    with pytest.raises(PipelineError, match="empty"):
        cli.animate(studio, portrait((120, 80, 50)), np.zeros(0, np.float32))


def test_without_a_trained_model_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    with pytest.raises(PipelineError, match="no trained model"):
        cli.Studio(config).folder("codebook")


def test_a_video_that_does_not_last_as_long_as_its_frames_is_named(tmp_path: Path) -> None:
    video, frames = tmp_path / "out é.mp4", np.zeros((20, 32, 32, 3), np.uint8)
    assert write_synthetic(video, iter(frames), None, crf=30, by="a test") == 20
    check_length(video, 21)  # one frame is the container's rounding
    for said in (18, 22):
        with pytest.raises(PipelineError, match=f"its {said} frames last") as caught:
            check_length(video, said)
        assert str(video) in caught.value.message and "write it again" in caught.value.hint
