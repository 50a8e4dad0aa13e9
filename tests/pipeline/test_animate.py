"""The command that animates a portrait: what it makes, and what it says when it cannot."""

import argparse
import re
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
from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.media import probe, read_video, write_sound, write_video
from pipeline.params import validate_section
from pipeline.synthesis import Models, check_length, render_frames, sample_motion, speech_windows, write_synthetic
from pipeline.tools import animate_sheet as sheet

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


def test_the_source_is_encoded_once_and_the_frames_are_those_of_the_pipeline(studio, speech, monkeypatch):
    """Bit for bit what ``synthesis.render_frames`` draws of each piece, which encodes the source anew every time."""
    made, cfg, vqig = cli.perform(studio, portrait((120, 80, 50)), speech, emotion="angry"), studio.params["generate"], studio.models.vqig
    expected, reach = [], vqig.config.window
    for start in range(0, 11, 4):
        seen = slice(max(0, start - reach), start + 4 + reach)
        frames = render_frames(vqig, made.source, made.beta[seen], made.pose[seen], batch=cfg.render_batch, precision=cfg.precision)
        expected.append(frames[start - seen.start :][: min(4, 11 - start)])
    calls, whole = [], type(vqig).prepare_source
    monkeypatch.setattr(type(vqig), "prepare_source", lambda self, *args, **named: calls.append(1) or whole(self, *args, **named))
    monkeypatch.setattr(cli, "PIECE_FRAMES", 4)
    pieces = list(cli.render(studio, made))
    assert len(calls) == 1
    assert [len(piece) for piece in pieces] == [4, 4, 3]
    assert all(np.array_equal(piece, other) for piece, other in zip(pieces, expected, strict=True))


class CentreLandmarker(DiscLandmarker):
    """Finds points in every picture that it is asked about for the first time: a face in the middle, or whatever ``points`` makes of it."""

    def __init__(self, points=lambda face: face) -> None:
        super().__init__()
        self.points, self.calls = points, 0

    def detect(self, frames: np.ndarray, video: bool) -> Detections:
        self.calls += 1
        height, width = frames.shape[1:3]
        face = np.float32([width / 2, height / 2]) + self.shape * 0.6 * min(height, width)
        found = np.full((len(frames), 68, 2), np.nan, np.float32)
        if self.calls != 2:  # the second look is for a second face
            found[:] = self.points(face)
        return Detections(found, np.isfinite(found).all((1, 2)).astype(np.float32))


def console(studio, monkeypatch, capsys, source: Path, audio: Path, out: Path, *words: str) -> tuple[int, str, str]:
    """Exit status, output and error output of `flowvqtalker animate`."""
    if studio is not None:
        monkeypatch.setattr(cli, "Studio", lambda config: studio)
    status = 0
    try:
        app.main(["animate", "--source", str(source), "--audio", str(audio), "--out", str(out), *words])
    except SystemExit as left:
        status = int(left.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


def write_files(folder: Path, speech: np.ndarray) -> None:
    """A face, a speech, and files of every kind that is neither."""
    Image.fromarray(portrait((120, 80, 50))).save(folder / "face.png")
    Image.fromarray(portrait()).save(folder / "wall.png")
    Image.fromarray(portrait((60, 80, 40), (180, 80, 35))).save(folder / "two.png")
    Image.fromarray(portrait((120, 80, 12))).save(folder / "far.png")
    write_sound(folder / "speech.wav", speech)
    write_sound(folder / "header.wav", np.zeros(0, np.float32))
    whole = (folder / "speech.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "stub.wav").write_bytes(whole[:20])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("This is not sound.\n")
    (folder / "text.png").write_text("This is not a picture.\n")
    (folder / "notes.txt").write_text("This is not a picture.\n")
    (folder / "half.png").write_bytes((folder / "face.png").read_bytes()[:200])
    (folder / "folder.png").mkdir()
    write_video(folder / "silent.mp4", np.full((3, 64, 64, 3), 30, np.uint8))


BAD_FILES = (
    ("face.png", "text.wav", r"text\.wav: cannot be read as video or sound", "--audio"),
    ("face.png", "empty.wav", r"empty\.wav: the file is empty", "--audio"),
    ("face.png", "header.wav", r"header\.wav: the file holds no sound", "--audio"),
    ("face.png", "stub.wav", r"stub\.wav: cannot be read as video or sound", "--audio"),
    ("face.png", "cut.wav", r"cut\.wav: the file is cut off: its header says 0\.41 s, 0\.20 s are there", "copy it again"),
    ("face.png", "none.wav", r"none\.wav: there is no such file", "--audio"),
    ("face.png", "silent.mp4", r"silent\.mp4: the file holds no sound", "--audio"),
    ("face.png", "face.png", r"face\.png: the file holds no sound", "--audio"),
    ("none.png", "speech.wav", r"none\.png: no such file", "--source"),
    ("text.png", "speech.wav", r"text\.png: not a readable picture", "png or jpeg"),
    ("half.png", "speech.wav", r"half\.png: not a readable picture", "png or jpeg"),
    ("folder.png", "speech.wav", r"folder\.png: not a readable picture", "png or jpeg"),
    ("notes.txt", "speech.wav", r"no picture to animate: .*notes\.txt: cannot be read as video", "--source"),
    ("speech.wav", "speech.wav", r"no picture to animate: .*speech\.wav: holds no picture, only sound", "--source"),
    ("wall.png", "speech.wav", r"wall\.png: no face found", "one face from the front"),
    ("silent.mp4", "speech.wav", r"silent\.mp4: no face found", "one face from the front"),
    ("two.png", "speech.wav", r"two\.png: several faces found", "one face"),
    ("far.png", "speech.wav", r"far\.png: the face is 1\d px wide, 32 are needed", "larger picture"),
)


@pytest.mark.parametrize(("source", "audio", "message", "cure"), BAD_FILES, ids=[f"{row[0]}+{row[1]}" for row in BAD_FILES])
def test_the_console_names_what_is_wrong_and_the_cure(studio, speech, tmp_path, monkeypatch, capsys, source, audio, message, cure):
    write_files(tmp_path, speech)
    status, _, err = console(studio, monkeypatch, capsys, tmp_path / source, tmp_path / audio, tmp_path / "out.mp4")
    assert status == 2
    assert "Traceback" not in err
    said, fix = err[err.index("error: ") :].split("\n  fix: ")
    assert re.search(message, said)
    assert cure in fix
    assert not list(tmp_path.glob("*out*.mp4"))


def test_the_console_does_not_write_over_its_inputs(studio, speech, tmp_path, monkeypatch, capsys):
    write_files(tmp_path, speech)
    for out, message in (("face.png", "--out is also what the video is made from"), ("folder.png", "this is a folder")):
        before = sorted(tmp_path.iterdir())
        status, _, err = console(studio, monkeypatch, capsys, tmp_path / "face.png", tmp_path / "speech.wav", tmp_path / out)
        assert (status, sorted(tmp_path.iterdir())) == (2, before)
        assert message in err
    status, _, err = console(
        studio, monkeypatch, capsys, tmp_path / "face.png", tmp_path / "speech.wav", tmp_path / "notes.txt" / "out.mp4"
    )
    assert status == 2
    assert "its folder cannot be made" in err


def test_the_console_says_that_nothing_is_trained(speech, tmp_path, monkeypatch, capsys):
    write_files(tmp_path, speech)
    (tmp_path / "params.yaml").write_text(Path("params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    status, _, err = console(None, monkeypatch, capsys, tmp_path / "face.png", tmp_path / "speech.wav", tmp_path / "out.mp4")
    assert status == 2
    assert "Traceback" not in err
    assert re.search(r"error: no trained model: .* does not exist\n  fix: train first", err)


def test_a_run_without_its_generator_is_told_of_before_anything_is_computed(studio, speech, tmp_path, monkeypatch, capsys):
    write_files(tmp_path, speech)
    lacking = cli.Studio(studio.config)
    folders = {**studio.models.folders, "imagegen": tmp_path / "nothing"}
    lacking.__dict__.update(studio.__dict__ | {"models": Models(**folders)})
    monkeypatch.setattr(cli, "perform", lambda *args, **named: pytest.fail("computed before it looked"))
    status, _, err = console(lacking, monkeypatch, capsys, tmp_path / "face.png", tmp_path / "speech.wav", tmp_path / "out.mp4")
    assert status == 2
    assert "no trained model" in err and "fix: train it first" in err


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def save_stand_in(kind: str, folder: Path) -> Path:
    """Pictures that people hand over and that are no portrait of the training data."""
    path, face = folder / f"{kind}.png", Image.fromarray(portrait((120, 80, 50)))
    if kind == "turned":
        path, exif = folder / "turned.jpg", Image.Exif()
        exif[0x0112] = 6  # to be turned clockwise to stand upright
        face.rotate(90, expand=True).save(path, exif=exif, quality=95)
        return path
    made = {
        "noise": lambda: Image.fromarray(noise(120, 90)),
        "flat": lambda: Image.new("RGB", (200, 200), (128, 128, 128)),
        "pixel": lambda: Image.new("RGB", (1, 1)),
        "tiny": lambda: face.resize((12, 8)),
        "line": lambda: Image.new("RGB", (3, 5000)),
        "large": lambda: face.resize((1200, 800), Image.Resampling.NEAREST),
        "grey": lambda: face.convert("L"),
        "grey16": lambda: Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 256),
        "palette": lambda: face.quantize(16),
        "alpha": lambda: face.convert("RGBA"),
        "bilevel": lambda: face.convert("1"),
    }[kind]()
    made.save(path)
    return path


STAND_INS = ("noise", "flat", "pixel", "tiny", "line", "large", "grey", "grey16", "palette", "alpha", "bilevel", "turned")


@pytest.mark.parametrize("kind", STAND_INS)
def test_pictures_of_any_kind_run_or_are_refused(studio, speech, tmp_path, monkeypatch, capsys, kind):
    """Once with a back end that finds the disc only, once with one that sees a face in everything, so that what follows gets to work."""
    source, audio = save_stand_in(kind, tmp_path), tmp_path / "speech.wav"
    write_sound(audio, speech[: 640 * 2])
    monkeypatch.setattr(cli, "MOST_PORTRAIT_PX", 600)
    ran = {}
    for name, landmarker in (("disc", DiscLandmarker()), ("everywhere", CentreLandmarker())):
        monkeypatch.setitem(studio.__dict__, "landmarker", landmarker)
        status, _, err = console(studio, monkeypatch, capsys, source, audio, tmp_path / f"{name}.mp4")
        assert status in (0, 2) and "Traceback" not in err, err
        assert status == 0 or re.search(rf"{kind}\.\w+: (no face found|the face is \d+ px wide)", err)
        assert (tmp_path / f"{name}.mp4").exists() == (status == 0)
        ran[name] = status == 0
    assert ran["disc"] == (kind in ("large", "alpha", "palette", "turned"))
    assert ran["everywhere"] == (kind not in ("pixel", "tiny", "line"))


def test_pictures_are_read_as_people_see_them(tmp_path):
    upright = cli.read_portrait(save_stand_in("turned", tmp_path))
    assert upright.shape == (160, 240, 3) and np.abs(upright.astype(int) - portrait((120, 80, 50))).mean() < 3
    Image.new("RGB", (2 * cli.MOST_PORTRAIT_PX, 40)).save(tmp_path / "large.png")
    assert cli.read_portrait(tmp_path / "large.png").shape == (20, cli.MOST_PORTRAIT_PX, 3)
    grey = np.asarray(Image.fromarray(portrait((120, 80, 50))).convert("L"))
    for kind in ("grey", "grey16"):
        assert np.array_equal(cli.read_portrait(save_stand_in(kind, tmp_path)), np.repeat(grey[..., None], 3, 2))
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2] = (10, 20, 30, 255)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert cli.read_portrait(tmp_path / "clear.png")[:, 0].tolist() == [[10, 20, 30]] * 2 + [[255, 255, 255]] * 2


def test_a_picture_beyond_what_is_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (60, 60)).save(tmp_path / "huge.png")
    with pytest.raises(PipelineError, match=r"huge\.png: the picture is too large") as caught:
        cli.read_portrait(tmp_path / "huge.png")
    assert "at most 4096 px" in caught.value.hint


@pytest.mark.parametrize(
    "points",
    [
        lambda face: np.full_like(face, 80.0),
        lambda face: np.stack([face[:, 0], np.full(68, 80.0)], 1),
        lambda face: face * 1e6,
        lambda face: face + 1e4,
        lambda face: face[::-1] * (1, -1),
        lambda face: face[:, ::-1],
        lambda face: 80 + 40 * np.random.default_rng(1).standard_normal((68, 2)),
    ],
    ids=["one point", "a line", "enormous", "far outside", "upside down", "on its side", "scattered"],
)
def test_points_that_are_no_face_run_or_are_refused(studio, speech, monkeypatch, points):
    """A landmark network says something of every picture that it takes for a face."""
    monkeypatch.setitem(studio.__dict__, "landmarker", CentreLandmarker(points))
    refused = None
    try:
        made = cli.animate(studio, noise(160, 160), speech[: 640 * 2])
    except PipelineError as error:
        refused = error
    if refused is None:
        assert made.shape == (2, SIZE, SIZE, 3)
    else:
        assert refused.message.startswith("portrait: ")
        assert refused.hint


def test_seeds_are_compared_by_lips_heads_and_lids(studio, speech):
    made = cli.perform(studio, portrait((120, 80, 50)), speech, pose=cli.STILL)
    lids = [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]
    made.beta[:, lids] = 0
    same = sheet.compare_seeds(made, made)
    assert same["lip_correlation"] == pytest.approx(1) and same["head_deg"] < 1e-3 and np.isnan(same["closed_shared"])
    beta, pose = made.beta.copy(), made.pose.copy()
    for motion, closed in ((made.beta, slice(3, 5)), (beta, slice(4, 6))):
        motion[closed, lids[0]], motion[closed, lids[1]] = 1, 1
    beta[:, EXPRESSION_INDEX["jawOpen"]] = 1 - made.beta[:, EXPRESSION_INDEX["jawOpen"]]
    pose[:, 1] = pose[:, 1] + np.radians(5)
    other = sheet.compare_seeds(made, cli.Performance(made.source, beta, pose))
    assert other["lip_correlation"] < 0.9 and other["closed_shared"] == pytest.approx(1 / 3)
    assert 4.5 < other["head_deg"] <= 5.001 and other["head_motion_deg"] < 1e-3 and other["blinks"] == 2


def test_a_late_sound_is_found_out():
    given = np.random.default_rng(0).standard_normal(12000).astype(np.float32)
    match, lag = sheet.sound_match(given, np.concatenate([np.zeros(1024, np.float32), given]))
    assert (round(match, 6), lag) == (1.0, 1024)
    assert sheet.sound_match(given, -given[::-1])[0] < 0.2
    assert np.isnan(sheet.sound_match(given[:100], given[:100])[0])


def test_the_sheet_is_made_with_the_command(studio, speech, tmp_path, monkeypatch):
    Image.fromarray(portrait((120, 80, 50))).save(tmp_path / "face.png")
    write_sound(tmp_path / "speech.wav", speech)
    monkeypatch.setattr(sheet, "EMOTIONS", ("neutral", "happy"))
    monkeypatch.setattr(sheet, "MOST_LAG", 1024)
    monkeypatch.setitem(studio.__dict__, "landmarker", CentreLandmarker())
    studio.landmarker.calls = 2
    monkeypatch.setattr(
        cli, "find_face", lambda studio, picture, name: studio.landmarker.detect(picture[None], video=False).landmarks_px[0]
    )
    scene = sheet.Scene("one", tmp_path / "face.png", "two", tmp_path / "speech.wav")
    rows = sheet.make_videos(studio, scene, tmp_path)
    found = sheet.judge_videos(studio, rows)
    assert (found["videos"], found["frames"], found["frames_with_face"]) == (4, 44, 44)
    assert found["most_frames_off"] <= 1.03 and found["all_frames_shown"] and found["all_say_synthetic"]
    assert found["least_sound_correlation"] > 0.95 and found["most_sound_lag_ms"] < 5
    assert [row["emotion"] for row in found["pairs"]] == ["neutral", "happy"]
    assert found["pairs"][0]["shown_lip_correlation"] == 0  # this back end sees the same face in every frame
    sheet.draw_sheet(rows, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 6 * sheet.SHEET_PX and image.height > 2 * sheet.SHEET_PX
    people = sheet.over_people(studio, [scene])
    assert people["n"] == 2 and people["lip_correlation"]["ci"] is None  # one person gives no interval
    parts = sheet.markdown({"note": "", "identity": "one", "voice": "two", "videos": found, "people": people}, "sheet.png")
    assert "4 videos, 44 frames" in parts and "| happy |" in parts and "nan" not in parts.lower().replace("nand", "")


def test_the_page_says_what_does_not_hold():
    memory = {"short_s": 10.0, "short_mb": 500.0, "long_s": 120.0, "long_mb": 600.0}
    assert "1.200 times as much (bound 1.1: DOES NOT HOLD)" in sheet.markdown({"note": "", "memory": memory}, "a.png")
    assert "1.040 times as much (bound 1.1: holds)" in sheet.markdown({"note": "", "memory": memory | {"long_mb": 520.0}}, "a.png")
    assert sheet.peak_mb() > 50


def test_outcomes_of_pictures_are_counted_without_their_names(studio, speech, tmp_path, monkeypatch):
    write_files(tmp_path, speech)
    pictures = [tmp_path / name for name in ("face.png", "wall.png", "two.png", "text.png", "notes.txt")]
    assert sheet.try_pictures(studio, pictures, tmp_path / "speech.wav", tmp_path) == {
        "ran": 1,
        "refused: no face found": 1,
        "refused: several faces found": 1,
        "refused: not a readable picture": 1,
        "refused: no picture to animate: cannot be read as video or sound": 1,
    }
    monkeypatch.setattr(cli, "perform", lambda *args, **named: 1 / 0)
    assert sheet.try_pictures(studio, pictures[:1], tmp_path / "speech.wav", tmp_path) == {
        "CRASHED: ZeroDivisionError: division by zero": 1
    }


@pytest.mark.shared
def test_photographs_run_or_are_refused(studio, speech, shared_folder, tmp_path, monkeypatch):
    """With a back end that sees a face in the middle of everything, so that every photograph is cropped, fitted and rendered."""
    pictures = sorted(path for path in (shared_folder / "media/images").glob("*") if path.is_file())
    if not pictures:
        pytest.skip(f"no pictures under {shared_folder}/media/images")
    write_sound(tmp_path / "speech.wav", speech[: 640 * 2])
    outcomes = sheet.Counter()
    for number, picture in enumerate(pictures):
        monkeypatch.setitem(studio.__dict__, "landmarker", CentreLandmarker())
        (folder := tmp_path / str(number)).mkdir()
        outcomes += sheet.try_pictures(studio, [picture], tmp_path / "speech.wav", folder)
    assert outcomes == {"ran": len(pictures)}
