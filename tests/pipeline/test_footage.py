"""Recordings as cameras, phones and websites make them: pictures and sound stay where their own clocks say."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from flowvqtalker.constants import SAMPLES_PER_FRAME
from pipeline import footage, media
from pipeline.errors import PipelineError

REPOSITORY = Path(__file__).resolve().parents[2]


def bars(count: int, height: int = 48, width: int = 96) -> np.ndarray:
    """Frame i has a white bar whose middle stands at column i + 2 (noise keeps the encoder busy)."""
    frames = np.random.default_rng(0).integers(20, 60, (count, height, width, 3)).astype(np.uint8)
    for index, frame in enumerate(frames):
        frame[:, index % (width - 4) : index % (width - 4) + 5] = 255
    return frames


def number_of(frame: np.ndarray) -> float:
    """Which frame of ``bars`` this is."""
    bright = frame.astype(float).mean(axis=(0, 2))
    return float(np.flatnonzero(bright > 170).mean()) - 2


def write(
    path: Path, frames: np.ndarray, times_s: list[float] | None = None, *, codec: str = "libx264", aspect: Fraction | None = None, rate: int = 25,
    sounds: list[tuple[float, np.ndarray]] | None = None, sound_rate: int = 16000, layout: str = "mono", sound_codec: str = "pcm_s16le", **options: str,
) -> Path:  # fmt: skip
    """Frames at given times; pieces of sound (start [s], samples (n, C)) at theirs."""
    times = times_s or [index / rate for index in range(len(frames))]
    tick = Fraction(1, 12800) if times_s else Fraction(1, rate)
    with av.open(str(path), "w") as box:
        stream = box.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.time_base = tick
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        voice = box.add_stream(sound_codec, rate=sound_rate, layout=layout) if sounds else None
        for start, samples in sounds or ():
            for low in range(0, len(samples), 1024):
                part = samples[low : low + 1024]
                piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(part.T, np.float32), format="fltp", layout=layout)
                piece.sample_rate, piece.time_base = sound_rate, Fraction(1, sound_rate)
                piece.pts = round(start * sound_rate) + low
                reform = av.AudioResampler(format=voice.codec_context.format, layout=layout, rate=sound_rate)
                for ready in reform.resample(piece):
                    ready.pts, ready.time_base = piece.pts, piece.time_base
                    box.mux(voice.encode(ready))
        for time, picture in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time / tick), tick
            box.mux(stream.encode(frame))
        box.mux(stream.encode(None))
        if voice is not None:
            box.mux(voice.encode(None))
    return path


def impulses(seconds: float, at_s: list[float], rate: int = 16000, channels: int = 1) -> np.ndarray:
    samples = np.zeros((round(seconds * rate), channels), np.float32)
    for time in at_s:
        samples[round(time * rate)] = 0.9
    return samples


def read(path: Path, **options) -> tuple[np.ndarray, np.ndarray, footage.Footage]:
    about = footage.open_footage(path)
    pieces = list(footage.iterate_footage(about, **options))
    return np.concatenate([frames for frames, _ in pieces]), np.concatenate([fresh for _, fresh in pieces]), about


def sound_of(path: Path, n_frames: int, about: footage.Footage | None = None) -> np.ndarray:
    samples = footage.read_footage_sound(path, n_frames, path.with_suffix(".raw"), about.zero_s if about else None)
    assert samples is not None
    return samples.astype(np.float64) / 32767


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.mpg", "mpeg1video"), ("a.ts", "libx264"),
                        ("a.webm", "libvpx-vp9"), ("a.mov", "mjpeg"), ("a.mp4", "libsvtav1"), ("a.mp4", "libx265"), ("a.flv", "flv")],
)  # fmt: skip
def test_every_container_begins_with_its_first_picture_and_keeps_time(tmp_path, name, codec):
    """decord loses the first group of pictures of an MPEG program stream and shows the rest too early: half a second between face and voice."""
    if codec not in av.codecs_available:
        pytest.skip(f"no encoder {codec} here")
    if codec == "mjpeg":
        with av.open(str(tmp_path / name), "w") as box:
            stream = box.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
            for picture in bars(30, 64):
                box.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            box.mux(stream.encode(None))
        path = tmp_path / name
    else:
        path = write(tmp_path / name, bars(30, 64), codec=codec, sounds=None)
    frames, fresh, _ = read(path)
    assert len(frames) in (30, 31) and fresh.all()
    assert [number_of(frame) for frame in frames[:30]] == pytest.approx(range(30), abs=0.6)


def test_both_readers_agree_on_a_plain_file(tmp_path):
    path = write(tmp_path / "a.mp4", bars(40))
    about = footage.open_footage(path)
    assert footage._plain_decord(about) is not None
    np.testing.assert_array_equal(read(path)[0], np.stack([picture for picture, _ in footage._ticks(about, 25, 0)]))


def test_a_trim_without_coding_again_keeps_sound_and_picture_together(tmp_path):
    """A phone's trim leaves the frames before time zero in the file; decord shows them."""
    path = write(
        tmp_path / "a.mp4", bars(40), sounds=[(0.0, impulses(1.6, [0.82]))], sound_codec="aac", bf="0"
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    place = data.index(b"elst")
    flags_count = struct.unpack(">II", data[place + 4 : place + 12])
    assert flags_count[1] == 1
    duration, media_time = struct.unpack(">Ii", data[place + 12 : place + 20])
    scale = struct.unpack(">I", data[data.index(b"mdhd") + 16 : data.index(b"mdhd") + 20])[0]
    struct.pack_into(">Ii", data, place + 12, duration - 120, media_time + 3 * scale // 25)
    path.write_bytes(bytes(data))
    frames, _, about = read(path)
    assert number_of(frames[0]) == pytest.approx(3, abs=0.6)
    assert footage._plain_decord(about) is None
    sound = sound_of(path, len(frames), about)
    frame = int(np.abs(sound).argmax()) // SAMPLES_PER_FRAME
    assert frame == 20 and number_of(frames[frame]) == pytest.approx(23, abs=0.6)


def test_pixels_become_square(tmp_path):
    frames, _, about = read(write(tmp_path / "a.mp4", bars(5), aspect=Fraction(3, 2)))
    assert frames.shape[1:3] == (48, 144) == (about.height_px, about.width_px)
    frames, _, _ = read(write(tmp_path / "b.mp4", bars(5), aspect=Fraction(1, 2)))
    assert frames.shape[1:3] == (96, 96)


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_a_phone_held_otherwise_is_upright(tmp_path, matrix, turns):
    path = write(tmp_path / "a.mp4", bars(5))
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = (value * 0x10000 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(bytes(data))
    frames, _, about = read(path)
    assert frames.shape[1:3] == ((96, 48) if turns % 2 else (48, 96)) == (about.height_px, about.width_px)
    plain = bars(5)
    assert np.abs(frames.astype(int) - np.rot90(plain, turns, axes=(1, 2))).mean() < 12


@pytest.mark.parametrize("rate", [10, 24, 30, 50, 60])
def test_any_rate_becomes_25_without_drift(tmp_path, rate):
    count = 3 * rate
    frames, fresh, _ = read(write(tmp_path / "a.mp4", bars(count, width=200), rate=rate))
    assert len(frames) == 75 and fresh.all()
    assert [number_of(frame) for frame in frames] == pytest.approx([tick / 25 * rate for tick in range(75)], abs=0.5 + 0.6)


def test_a_rate_that_varies_keeps_time_and_a_still_stretch_is_not_fresh(tmp_path):
    times = [*(index / 30 for index in range(30)), *(3 + index / 15 for index in range(15))]
    frames, fresh, _ = read(write(tmp_path / "a.mp4", bars(45), times))
    assert abs(len(frames) - 100) <= 2
    assert fresh[:24].all() and not fresh[32:68].any() and fresh[76:99].all()
    assert number_of(frames[75]) == pytest.approx(30, abs=0.6) and number_of(frames[90]) == pytest.approx(39, abs=1.1)


def test_a_clock_that_jumps_for_hours_makes_no_hours_of_pictures(tmp_path):
    times = [index / 25 for index in range(20)] + [7200 + index / 25 for index in range(20)]
    frames, fresh, _ = read(write(tmp_path / "a.mkv", bars(40), times))
    assert len(frames) == 40 and fresh.all()
    assert [number_of(frame) for frame in frames] == pytest.approx(range(40), abs=0.6)


def test_a_damaged_middle_loses_the_middle_only(tmp_path):
    path = write(tmp_path / "a.mp4", bars(150, width=200), g="10", bf="0")
    data = bytearray(path.read_bytes())
    start, size = (
        data.index(b"mdat") + 4,
        len(data) - data.index(b"mdat") if data.index(b"mdat") > data.index(b"moov") else data.index(b"moov"),
    )
    low = start + int(0.45 * size)
    data[low : low + size // 20] = np.random.default_rng(1).bytes(size // 20)
    path.write_bytes(bytes(data))
    frames, fresh, _ = read(path)
    assert abs(len(frames) - 150) <= 1
    late = [index for index in range(110, 149)]
    assert [number_of(frames[index]) for index in late] == pytest.approx(late, abs=0.6) and fresh[110:149].all()
    assert [number_of(frame) for frame in frames[:50]] == pytest.approx(range(50), abs=0.6)


def test_a_cut_off_file_gives_what_it_has(tmp_path):
    path = tmp_path / "a.mp4"
    media.write_video(path, bars(100, width=200))  # the index lies at the front
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    frames, fresh, _ = read(path)
    assert 40 <= len(frames) < 90 and fresh.all()
    assert [number_of(frame) for frame in frames[:40]] == pytest.approx(range(40), abs=0.6)


def test_a_large_recording_is_left_to_the_reader_whose_memory_is_flat(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", bars(40))
    small = read(path)[0]
    monkeypatch.setattr(footage, "DECORD_BYTES", small.nbytes - 1)
    assert footage._plain_decord(footage.open_footage(path)) is None
    np.testing.assert_array_equal(read(path)[0], small)


def test_one_frame(tmp_path):
    frames, fresh, _ = read(write(tmp_path / "a.mp4", bars(1)))
    assert frames.shape == (1, 48, 96, 3) and fresh.tolist() == [True]


@pytest.mark.parametrize(("content", "words"), [(b"", "empty"), (b"\x07" * 5000, "cannot be read")])
def test_unreadable_files_are_named(tmp_path, content, words):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=words) as caught:
        footage.open_footage(path)
    assert str(path) in caught.value.message and caught.value.hint


# ------------------------------------------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize(("rate", "channels", "layout"), [(8000, 2, "stereo"), (44100, 1, "mono"), (48000, 6, "5.1"), (96000, 2, "stereo")])
def test_sound_of_any_kind_becomes_16_khz_mono_in_its_place(tmp_path, rate, channels, layout):
    samples = impulses(4, [2.5], rate, channels)
    path = write(tmp_path / "a.mkv", bars(100), sounds=[(0.0, samples)], sound_rate=rate, layout=layout)
    _, _, about = read(path)
    sound = sound_of(path, 100, about)
    assert sound.shape == (64000,)
    assert abs(int(np.abs(sound).argmax()) - 40000) <= 16


def test_speech_of_a_cinema_mix_stays_audible_and_its_rumble_is_left_out(tmp_path):
    """Six channels, a voice in the centre and a louder tone in the low-frequency channel."""
    time = np.arange(48000) / 48000
    samples = np.zeros((48000, 6), np.float32)  # FL FR FC LFE BL BR
    samples[:, 2] = 0.5 * np.sin(2 * np.pi * 500 * time)
    samples[:, 3] = 0.9 * np.sin(2 * np.pi * 60 * time)
    path = write(tmp_path / "a.mkv", bars(25), sounds=[(0.0, samples)], sound_rate=48000, layout="5.1")
    spectrum = np.abs(np.fft.rfft(sound_of(path, 25, footage.open_footage(path)))) / 8000
    assert spectrum[500] == pytest.approx(0.5 * 0.7071 / (1 + 0.7071 + 2 * 0.3536), rel=0.03)
    assert spectrum[60] < 1e-3


def test_a_hole_in_the_sound_moves_nothing_behind_it(tmp_path):
    first, second = impulses(1.0, [0.5]), impulses(1.0, [0.5])
    path = write(tmp_path / "a.mkv", bars(100), sounds=[(0.0, first), (2.6, second)])
    sound = sound_of(path, 100, footage.open_footage(path))
    found = np.flatnonzero(np.abs(sound) > 0.4)
    assert sorted({round(int(place) / 16000, 2) for place in found}) == [0.5, 3.1]


def test_late_sound_is_late_and_early_sound_is_cut(tmp_path):
    path = write(tmp_path / "a.mkv", bars(50), sounds=[(0.4, impulses(1.0, [0.2]))])
    assert abs(int(np.abs(sound_of(path, 50, footage.open_footage(path))).argmax()) - 9600) <= 16
    later = write(tmp_path / "b.mkv", bars(50), [0.8 + index / 25 for index in range(50)], sounds=[(0.0, impulses(2.0, [1.0]))])
    frames, _, about = read(later)
    assert len(frames) == 50 and abs(int(np.abs(sound_of(later, 50, about)).argmax()) - 3200) <= 16


def test_sound_that_changes_its_channels_half_way(tmp_path):
    """Two transport streams one behind the other, as broadcasts are cut: mono, then stereo."""
    path = tmp_path / "a.ts"
    parts = []
    for number, (layout, channels) in enumerate((("mono", 1), ("stereo", 2))):
        part = write(
            tmp_path / f"part{number}.ts", bars(50), [1 + number * 2 + index / 25 for index in range(50)],
            sounds=[(1 + number * 2.0, impulses(2, [1.0], 48000, channels))], sound_rate=48000, layout=layout, sound_codec="mp2",
        )  # fmt: skip
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    frames, _, about = read(path)
    sound = sound_of(path, len(frames), about)
    peaks = {round(int(place) / 16000, 1) for place in np.flatnonzero(np.abs(sound) > 0.15)}
    assert peaks == {1.0, 3.0}


def test_no_sound_and_empty_sound_are_told(tmp_path):
    path = write(tmp_path / "a.mp4", bars(5))
    assert footage.read_footage_sound(path, 5, tmp_path / "raw", 0.0) is None


def test_sound_levels_are_measured(tmp_path):
    tone = np.round(0.5 * 32767 * np.sin(np.arange(16000) * 0.3)).astype(np.int16)
    level = footage.sound_level(tone)
    assert level.loudest_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.3) and level.clipped_share == 0
    assert footage.sound_level(np.zeros(1000, np.int16)).loudest_db == -np.inf
    assert footage.sound_level(np.full(16000, 32767, np.int16)).clipped_share == 1


_TEN_MINUTES = """
import json, resource, sys
from pathlib import Path
from pipeline import footage
path, out = Path(sys.argv[1]), Path(sys.argv[2])
about = footage.open_footage(path)
count = 0
marks = []
for frames, fresh in footage.iterate_footage(about):
    bright = frames.mean(axis=(1, 2, 3)) > 128
    marks += [count + int(i) for i in bright.nonzero()[0]]
    count += len(frames)
samples = footage.read_footage_sound(path, count, out, about.zero_s)
hits = [(k + int(i)) / 640 for k in range(0, len(samples), 160000) for i in (abs(samples[k:k + 160000]) > 8000).nonzero()[0][:1]]
print(json.dumps([count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, marks, hits]))
"""


def test_ten_minutes_at_30_fps_and_44_khz_end_where_they_began_with_flat_memory(tmp_path):
    """A white picture and a click once a minute: both are in the same frame after ten minutes, and memory is that of one minute."""
    results = {}
    for minutes in (1, 10):
        count = minutes * 60 * 30
        path = tmp_path / f"{minutes}.mkv"
        with av.open(str(path), "w") as box:
            stream = box.add_stream("libx264", rate=Fraction(30000, 1001), options={"preset": "ultrafast", "crf": "30"})
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            voice = box.add_stream("pcm_s16le", rate=44100, layout="mono")
            at, spoken = 0.0, 0
            for index in range(count):
                at = index * 1001 / 30000
                dark = not (at % 60) < 2 * 1001 / 30000  # two frames: of six one is not shown at 25 a second
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 if dark else 250, np.uint8), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1001, 30000)
                box.mux(stream.encode(frame))
                until = round((at + 1001 / 30000) * 44100)
                part = np.zeros((1, until - spoken), np.int16)
                click = 44100 * 60 * round(spoken / 44100 / 60)
                if spoken <= click < until:
                    part[0, click - spoken : click - spoken + 30] = 30000
                piece = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = 44100, spoken, Fraction(1, 44100)
                box.mux(voice.encode(piece))
                spoken = until
            box.mux(stream.encode(None))
            box.mux(voice.encode(None))
        done = subprocess.run(
            [sys.executable, "-c", _TEN_MINUTES, str(path), str(tmp_path / "raw")], capture_output=True, text=True, check=True, cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"},
        )  # fmt: skip
        frames, megabytes, marks, hits = json.loads(done.stdout.strip().splitlines()[-1])
        results[minutes] = megabytes
        seconds = count * 1001 / 30000
        assert abs(frames - round(seconds * 25)) <= 1
        assert len({mark // 100 for mark in marks}) >= minutes
        for minute in range(minutes):
            assert min(abs(mark - minute * 1500) for mark in marks) <= 1
            assert min(abs(hit - minute * 1500) for hit in hits) < 1
    assert results[10] - results[1] < 60, f"memory grows with the length: {results} MB"
