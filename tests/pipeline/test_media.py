"""Video and sound on disk: round trips, clocks, and every kind of bad file."""

from __future__ import annotations

import os
import struct
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from flowvqtalker.constants import SAMPLES_PER_FRAME
from pipeline import media
from pipeline.errors import PipelineError


def make_frames(count: int = 30, height: int = 48, width: int = 64) -> np.ndarray:
    """A white bar that moves one pixel a frame over a grey ramp."""
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = np.linspace(40, 120, width).astype(np.uint8)[None, None, :, None]
    for index in range(count):
        frames[index, :, index % width : index % width + 6] = 240
    return frames


def bar_of(frame: np.ndarray) -> int:
    """Column where the bar starts."""
    return int(np.argmax(frame.mean(axis=(0, 2)) > 180))


def write_timed(path: Path, frames: np.ndarray, times_s: list[float], codec: str = "libx264") -> None:
    """A file whose frames have the given presentation times."""
    with av.open(str(path), "w") as box:
        stream = box.add_stream(codec, rate=60)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for picture, time in zip(frames, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            box.mux(stream.encode(frame))
        box.mux(stream.encode(None))


def write_tone(path: Path, rate_hz: int, channels: int, seconds: float) -> None:
    """440 Hz in every channel."""
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz) * 32767).astype(np.int16)
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(str(path), "w") as box:
        stream = box.add_stream("pcm_s16le", rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.repeat(tone, channels)[None], format="s16", layout=layout)
        frame.sample_rate = rate_hz
        box.mux(stream.encode(frame))
        box.mux(stream.encode(None))


def test_written_frames_come_back_in_order_and_close(tmp_path):
    frames = make_frames()
    path = tmp_path / "a.mp4"
    media.write_video(path, frames, crf=10)
    back, times = media.read_video(path)
    assert back.shape == frames.shape
    np.testing.assert_allclose(times, np.arange(30) / 25, atol=1e-6)
    assert np.abs(back.astype(int) - frames).mean() < 4
    assert [bar_of(frame) for frame in back] == pytest.approx([bar_of(frame) for frame in frames], abs=1)


def test_equal_arguments_give_equal_bytes_whether_array_or_iterator(tmp_path):
    frames, sound = make_frames(), np.random.default_rng(0).normal(0, 0.1, 30 * SAMPLES_PER_FRAME).astype(np.float32)
    tags = media.synthetic_metadata("a test", title="t")
    media.write_video(tmp_path / "a.mp4", frames, sound=sound, metadata=tags)
    media.write_video(tmp_path / "b.mp4", iter(frames), sound=sound, metadata=tags)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    info = media.probe(tmp_path / "a.mp4")
    assert "Synthetic" in info.metadata["comment"] and "a test" in info.metadata["comment"]
    assert "creation_time" not in info.metadata


def test_player_finds_the_index_first_and_key_frames_are_close(tmp_path):
    path = tmp_path / "a.mp4"
    media.write_video(path, make_frames(40))
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as box:
        keys = [number for number, frame in enumerate(box.decode(video=0)) if frame.key_frame]
    assert max(np.diff([*keys, 40])) <= media.GOP_FRAMES


@pytest.mark.parametrize("frame", [0, 7, 24])
def test_impulse_stays_in_its_frame(tmp_path, frame):
    sound = np.zeros(25 * SAMPLES_PER_FRAME, np.float32)
    sound[frame * SAMPLES_PER_FRAME + SAMPLES_PER_FRAME // 2] = 0.9
    path = tmp_path / "a.mp4"
    media.write_video(path, make_frames(25), sound=sound)
    back = media.read_sound(path, n_frames=25)
    assert back is not None and back.shape == sound.shape and back.dtype == np.float32
    assert np.abs(back).argmax() // SAMPLES_PER_FRAME == frame
    assert abs(int(np.abs(back).argmax()) - int(sound.argmax())) <= 16


def test_wav_round_trip_is_exact_to_the_last_bit(tmp_path):
    samples = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 2.0], np.float32)
    media.write_sound(tmp_path / "a.wav", samples)
    back = media.read_sound(tmp_path / "a.wav")
    np.testing.assert_allclose(back, samples.clip(-1, 1), atol=1.01 / 32767)


def test_8_khz_stereo_becomes_16_khz_mono(tmp_path):
    write_tone(tmp_path / "a.wav", 8000, 2, 1.0)
    back = media.read_sound(tmp_path / "a.wav", n_frames=25)
    assert back.shape == (16000,)
    spectrum = np.abs(np.fft.rfft(back))
    assert spectrum.argmax() == 440
    assert np.sqrt((back[1000:-1000] ** 2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_60_fps_keeps_time(tmp_path):
    frames = make_frames(60, width=96)
    write_timed(tmp_path / "a.mp4", frames, [index / 60 for index in range(60)])
    back = media.read_video_at(tmp_path / "a.mp4", 25)
    assert len(back) == 25
    # at i/25 s the bar stands at column 60 i / 25, to half a source frame
    assert [bar_of(frame) for frame in back] == pytest.approx([60 * index / 25 for index in range(25)], abs=1.01)


def test_varying_frame_rate_keeps_time(tmp_path):
    times = [*(index / 30 for index in range(30)), *(1 + index / 10 for index in range(10))]
    write_timed(tmp_path / "a.mp4", make_frames(40, width=96), times)
    back = media.read_video_at(tmp_path / "a.mp4", 25)
    assert abs(len(back) - 50) <= 2
    shown = [bar_of(frame) for frame in back]
    assert shown[25:48] == pytest.approx([30 + (index / 25 - 1) * 10 for index in range(25, 48)], abs=1.6)
    pieces = list(media.iterate_video_at(tmp_path / "a.mp4", 25, chunk_frames=7))
    assert {len(piece) for piece in pieces[:-1]} == {7}
    np.testing.assert_array_equal(np.concatenate(pieces), back)


def test_nearest_frames_is_the_identity_at_25_fps():
    np.testing.assert_array_equal(media.nearest_frames(np.arange(50) * 0.04), np.arange(50))
    np.testing.assert_array_equal(media.nearest_frames(np.array([3.0])), [0])


def test_phone_video_is_shown_upright(tmp_path):
    frames = make_frames(5)
    path = tmp_path / "a.mp4"
    media.write_video(path, frames, crf=5)
    data = bytearray(path.read_bytes())
    # the matrix of the track header (ISO 14496-12 8.3.2) that means "turn clockwise by 90 degrees"
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, frames.shape[1] << 16, 0, 0x40000000)
    path.write_bytes(bytes(data))
    info = media.probe(path)
    assert (info.width_px, info.height_px) == (48, 64)
    back, _ = media.read_video(path)
    np.testing.assert_allclose(back.astype(int), np.rot90(frames, -1, axes=(1, 2)), atol=60)
    assert np.abs(back.astype(int) - np.rot90(frames, -1, axes=(1, 2))).mean() < 3
    np.testing.assert_array_equal(media.read_frames(path, [3, 1, 3]), back[[3, 1, 3]])


def test_both_readers_agree(tmp_path):
    path = tmp_path / "a.mp4"
    media.write_video(path, make_frames())
    np.testing.assert_array_equal(media.read_video(path)[0], np.stack(list(media._pyav_pick(path, np.arange(30)))))
    np.testing.assert_array_equal(media.read_frames(path, [20, 3]), media.read_video(path)[0][[20, 3]])
    with pytest.raises(PipelineError, match="frame 30 was asked for"):
        media.read_frames(path, [30])


def test_av1_is_read_by_pyav(tmp_path):
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV has no AV1 encoder to make the input")
    write_timed(tmp_path / "a.mp4", make_frames(10, 64, 96), [index / 25 for index in range(10)], codec="libsvtav1")
    back = media.read_video_at(tmp_path / "a.mp4")
    assert [bar_of(frame) for frame in back] == pytest.approx(list(range(10)), abs=1)


def test_one_frame_and_no_sound(tmp_path):
    path = tmp_path / "vidéo à  un cadre.mp4"
    media.write_video(path, make_frames(1))
    assert media.read_video_at(path).shape == (1, 48, 64, 3)
    assert media.read_sound(path) is None
    assert not media.probe(path).has_sound


def test_cut_off_file_gives_its_good_frames(tmp_path):
    path = tmp_path / "a.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3)).astype(np.uint8)
    media.write_video(path, frames)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    back, times = media.read_video(path)
    assert 20 <= len(back) < 60 and len(times) == len(back)
    assert len(media.read_video_at(path)) == len(back)


def bad_files(folder: Path) -> dict[str, Path]:
    media.write_video(folder / "good.mp4", make_frames(10))
    data = (folder / "good.mp4").read_bytes()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "garbage.mp4").write_bytes(np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8).tobytes())
    (folder / "head only.mp4").write_bytes(data[: data.index(b"mdat") + 4])
    (folder / "no index.mp4").write_bytes(data[: data.index(b"moov") - 4] + data[data.index(b"mdat") - 4 :])
    write_tone(folder / "sound.wav", 16000, 1, 0.2)
    (folder / "folder.mp4").mkdir()
    return {
        name: folder / name
        for name in ("missing.mp4", "empty.mp4", "garbage.mp4", "head only.mp4", "no index.mp4", "sound.wav", "folder.mp4")
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.mp4", "no such file"),
        ("empty.mp4", "empty"),
        ("garbage.mp4", "cannot be read"),
        ("head only.mp4", "no frames"),
        ("no index.mp4", "cannot be read"),
        ("sound.wav", "only sound"),
        ("folder.mp4", "folder"),
    ],
)
@pytest.mark.parametrize("reader", [media.probe, media.read_video, media.read_video_at])
def test_bad_files_are_named_with_a_cure(tmp_path, name, words, reader):
    path = bad_files(tmp_path)[name]
    with pytest.raises(PipelineError) as caught:
        reader(path)
    assert str(path) in caught.value.message and words in caught.value.message and caught.value.hint


def test_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    """Writes go to /dev/full, which refuses every byte like a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "out").mkdir()

    def full(prefix: str, suffix: str, dir: Path) -> tuple[int, str]:
        link = Path(dir) / f"{prefix}full{suffix}"
        link.symlink_to("/dev/full")
        return os.open(os.devnull, os.O_RDONLY), str(link)

    path = tmp_path / "out" / "a.mp4"
    path.write_bytes(b"the old file")
    monkeypatch.setattr(tempfile, "mkstemp", full)
    monkeypatch.setattr(os, "chmod", lambda *_: None)  # never touch the real /dev/full
    frames = np.random.default_rng(0).integers(0, 255, (30, 96, 96, 3)).astype(np.uint8)
    for write in (
        lambda: media.write_video(path, frames, sound=np.zeros(30 * 640, np.float32)),
        lambda: media.write_sound(path, np.ones(50000, np.float32)),
    ):
        with pytest.raises(PipelineError, match="no space left") as caught:
            write()
        assert str(path) in caught.value.message
        assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]
        assert path.read_bytes() == b"the old file"


def test_interrupt_leaves_no_half_file(tmp_path):
    def frames():
        yield from make_frames(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        media.write_video(tmp_path / "a.mp4", frames())
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="even"):
        media.write_video(tmp_path / "a.mp4", np.zeros((2, 5, 6, 3), np.uint8))
    with pytest.raises(ValueError, match="at frame 0"):
        media.write_video(tmp_path / "a.mp4", np.zeros((2, 4, 6, 3), np.float32))
    with pytest.raises(PipelineError, match="no frames"):
        media.write_video(tmp_path / "a.mp4", iter(()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.shared
def test_grid_clips_are_three_seconds_with_sound(shared_folder):
    paths = sorted((shared_folder / "media" / "grid").glob("*.mpg"))
    assert len(paths) == 6
    for path in paths:
        frames = media.read_video_at(path)
        sound = media.read_sound(path, n_frames=len(frames))
        assert frames.shape == (75, 288, 360, 3)
        assert sound is not None and sound.shape == (48000,) and np.abs(sound).max() > 0.1
