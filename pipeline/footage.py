"""Other people's recordings: pictures at 25 per second and sound at 16 kHz from whatever a camera, a phone or a website made.

``pipeline/media.py`` reads and writes our own files, which are regular. A recording may be anything: turned by its metadata, with pixels
that are not square, with a frame rate that varies, trimmed without being coded again (frames before time zero that no player shows),
cut off, damaged in the middle, with sound that starts late, stops in between or changes its layout. Two rules keep picture and sound
together whatever happens: a picture is shown where its own time says, and a sample stands where its own time says; nothing is ever
appended to what came before. Memory does not grow with the length of the recording.

decord reads the pictures of mp4 and Matroska files where its frame times equal the container's and its first picture is the file's first
(it silently loses the first group of pictures of an MPEG program stream), as long as the recording is small; PyAV reads everything else.
"""

from __future__ import annotations

import logging
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from flowvqtalker.constants import FPS_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from pipeline import media
from pipeline.errors import PipelineError
from pipeline.io import atomic_path

log = logging.getLogger(__name__)

#: Pictures handed over at once hold at most this much; a 4K frame has 25 MB.
PIECE_BYTES = 60_000_000
#: Containers that decord reads from their first frame on.
DECORD_CONTAINERS = frozenset(["mov", "mp4", "matroska", "webm"])
#: decord keeps about as much memory as it has handed over (1 MB a frame at 720p, measured); recordings beyond this go to PyAV, whose use is flat.
DECORD_BYTES = 300_000_000
#: A step of time longer than this between two frames or two pieces of sound is a broken clock, not a pause.
MAX_PAUSE_S = 60.0
#: Sound that is further than this from where its time says is moved there. Half a video frame; players and muxers jitter by a few ms.
SOUND_SLACK_S = 0.02
#: Weights of the mix to one channel: both sides of the ITU-R BS.775 stereo mix, averaged. The low-frequency channel carries no speech.
_MIX = {"FL": 0.5, "FR": 0.5, "FC": 0.7071, "LFE": 0.0, "LFE2": 0.0}
_MIX_OTHER = 0.3536
#: Order of channels that a file does not name (Microsoft's, which WAVE, Matroska and most encoders use).
_UNNAMED = ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR")


@dataclass(frozen=True)
class Footage:
    """A recording as its reader sees it.

    Attributes:
        path: the file.
        width_px, height_px: size of the pictures handed over: upright, with square pixels.
        turns: counter-clockwise quarter turns that make a stored picture upright.
        aspect: width of a stored pixel over its height.
        zero_s: time of the first picture that can be decoded, in the container's clock; sound is placed relative to it [s].
        codec: of the pictures.
        container: names of the container's format.
    """

    path: Path
    width_px: int
    height_px: int
    turns: int
    aspect: Fraction
    zero_s: float
    codec: str
    container: frozenset[str]

    @property
    def is_plain(self) -> bool:
        """Whether stored pictures can be handed over as they are."""
        return self.turns == 0 and self.aspect == 1

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height before the quarter turns."""
        return (self.height_px, self.width_px) if self.turns % 2 else (self.width_px, self.height_px)


def open_footage(path: str | Path) -> Footage:
    """Look at a recording.

    Raises:
        PipelineError: the file is missing, empty, unreadable, without picture or without a single frame.
    """
    path = media._checked(path)
    with media._container(path) as container:
        stream = media._video_stream(container, path)
        aspect = _pixel_aspect(stream.sample_aspect_ratio)
        codec, names = stream.codec_context.name, frozenset(container.format.name.split(","))
    for _, frame in _frames(path):
        width, height = frame.width, frame.height
        if aspect > 1:
            width = round(width * aspect)
        elif aspect < 1:
            height = round(height / aspect)
        turns = round(frame.rotation / 90) % 4
        shown = (height, width) if turns % 2 else (width, height)
        return Footage(path, *shown, turns, aspect, float(frame.time or 0.0), codec, names)
    raise PipelineError(f"{path}: holds no frames", "The recording is empty or its data are cut off: replace or remove the file.")


def _pixel_aspect(given: Fraction | None) -> Fraction:
    """Width over height of a stored pixel; 1 where the file does not say or says nonsense."""
    aspect = Fraction(given) if given else Fraction(1)
    return aspect if Fraction(1, 4) <= aspect <= 4 and abs(aspect - 1) > Fraction(1, 200) else Fraction(1)


def _frames(path: Path) -> Iterator[tuple[float, Any]]:
    """(seconds since the first one, PyAV frame) in the order of showing, without damaged ones and with a clock that runs forward."""
    with media._container(path) as container:
        stream = media._video_stream(container, path)
        stream.thread_count = 1
        step = 1.0 / float(stream.average_rate or stream.guessed_rate or FPS_HZ)
        shown, last, spoilt = 0.0, None, 0
        for frame in media._decoded(container, stream, path):
            if frame.is_corrupt:
                spoilt += 1
                continue
            stamp = None if frame.time is None else float(frame.time)
            if last is not None:
                passed = step if stamp is None or last[0] is None else stamp - last[0]
                if 0 < passed <= MAX_PAUSE_S:
                    shown += passed
                else:  # no time, a time that stands still or runs back, or a jump for hours
                    shown += step
            last = (stamp,)
            yield shown, frame
        if spoilt:
            log.warning("%s: %d damaged picture(s) left out", path, spoilt)


def _packet_times(path: Path) -> np.ndarray:
    """Times at which the container wants frames shown [s since the first], read without decoding; sorted."""
    times: list[float] = []
    with media._container(path) as container:
        stream = media._video_stream(container, path)
        try:
            times.extend(float(p.pts * p.time_base) for p in container.demux(stream) if p.pts is not None and not p.is_discard)
        except Exception as error:  # a cut-off file: PyAV's error classes derive from different built-in ones
            log.info("%s: the container ends early (%s)", path, error)
    rising = np.sort(np.array(times))
    return rising - rising[0] if len(rising) else rising


def _plain_decord(footage: Footage) -> Any | None:
    """A decord reader where it shows the same frames at the same times as the container says, else None."""
    if not footage.is_plain or not footage.container & DECORD_CONTAINERS:
        return None
    try:
        reader = media._Decord(footage.path)
        first = reader.frames(np.zeros(1, np.int64))[0]
    except media._DecordError as error:
        log.info("%s: decord cannot read it (%s), PyAV reads it", footage.path, error)
        return None
    times, wanted = reader.times_s - reader.times_s[0], _packet_times(footage.path)
    if len(times) * footage.width_px * footage.height_px * 3 > DECORD_BYTES:
        return None
    if len(times) != len(wanted) or np.abs(times - wanted).max() > 2e-3 or np.diff(times).max(initial=0.0) > MAX_PAUSE_S:
        # e.g. a phone's trim: frames before time zero stay in the file, decord shows them and the sound is late by them
        log.info("%s: decord sees %d frames, the container shows %d; PyAV reads it", footage.path, len(times), len(wanted))
        return None
    _, frame = next(_frames(footage.path))
    if first.shape[:2] != (frame.height, frame.width) or np.abs(first.astype(np.int16) - _upright(frame, footage)).mean() > 1:
        log.info("%s: decord begins with another picture, PyAV reads it", footage.path)
        return None
    return reader


def iterate_footage(footage: Footage, fps_hz: float = FPS_HZ, max_hold_s: float = 0.25) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures at a steady rate, in pieces.

    Args:
        footage: see ``open_footage``.
        fps_hz: wanted rate [Hz]; each tick of the clock shows the source picture nearest in time.
        max_hold_s: a tick further than this from its picture is not fresh: the recording stood still or is damaged there.

    Yields:
        frames (n, H, W, 3) uint8 RGB and fresh (n,) bool.

    Raises:
        PipelineError: see ``open_footage``.
    """
    per_piece = int(np.clip(PIECE_BYTES // max(1, footage.width_px * footage.height_px * 3), 1, media.CHUNK_FRAMES))
    done = 0
    reader = _plain_decord(footage)
    if reader is not None:
        index = media.nearest_frames(reader.times_s, fps_hz)
        fresh = np.abs(np.arange(len(index)) / fps_hz - (reader.times_s - reader.times_s[0])[index]) <= max_hold_s
        for start in range(0, len(index), per_piece):
            try:
                frames = reader.frames(index[start : start + per_piece])
            except media._DecordError as error:
                log.info("%s: decord stopped at frame %d (%s), PyAV reads the rest", footage.path, start, error)
                break
            yield frames, fresh[start : start + len(frames)]
            done += len(frames)
        else:
            return
    pictures: list[np.ndarray] = []
    ages: list[float] = []
    for picture, age in _ticks(footage, fps_hz, done):
        pictures.append(picture)
        ages.append(age)
        if len(pictures) == per_piece:
            yield np.stack(pictures), np.array(ages) <= max_hold_s
            pictures, ages = [], []
    if pictures:
        yield np.stack(pictures), np.array(ages) <= max_hold_s


def _ticks(footage: Footage, fps_hz: float, skip: int) -> Iterator[tuple[np.ndarray, float]]:
    """(picture, distance from its own time [s]) of every tick from number ``skip`` on; one pass, one frame in memory."""
    count, steps = 0, []
    held: tuple[float, Any] | None = None
    drawn: tuple[float, np.ndarray] | None = None

    def show(time: float, frame: Any) -> np.ndarray:
        nonlocal drawn
        if drawn is None or drawn[0] != time:
            drawn = (time, _upright(frame, footage))
        return drawn[1]

    for time, frame in _frames(footage.path):
        if held is not None:
            steps.append(time - held[0])
            # 1 us of slack, as in media.nearest_frames: containers round times to their own tick
            while count / fps_hz - held[0] <= time - count / fps_hz + 1e-6:
                if count >= skip:
                    yield show(*held), abs(count / fps_hz - held[0])
                count += 1
        held = (time, frame)
    if held is None:
        raise PipelineError(
            f"{footage.path}: holds no frames", "The recording is empty or its data are cut off: replace or remove the file."
        )
    last = float(np.median(steps)) if steps else 1.0 / fps_hz
    for tick in range(max(count, skip), max(1, round((held[0] + last) * fps_hz))):
        yield show(*held), abs(tick / fps_hz - held[0])


def _upright(frame: Any, footage: Footage) -> np.ndarray:
    """A stored frame as the viewer sees it; a recording that changes its size half way is fitted into its first size."""
    width, height = footage.stored_size
    ratio = float(frame.width * footage.aspect / frame.height) / (width / height)
    if abs(ratio - 1) < 0.02:
        picture = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    else:
        inner = (width, max(2, round(height / ratio))) if ratio > 1 else (max(2, round(width * ratio)), height)
        part = frame.reformat(width=inner[0], height=inner[1], format="rgb24").to_ndarray()
        picture = np.zeros((height, width, 3), np.uint8)
        top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
        picture[top : top + inner[1], left : left + inner[0]] = part
    return np.ascontiguousarray(np.rot90(picture, footage.turns)) if footage.turns else picture


def count_ticks(footage: Footage) -> int:
    """Number of pictures that ``iterate_footage`` yields."""
    return sum(len(fresh) for _, fresh in iterate_footage(footage))


# ------------------------------------------------------------------------------------------------------------------------- sound


def mix_weights(channels: list[str]) -> np.ndarray:
    """(C,) weights, summing to 1, that mix channels to one: the mean of one or two, the averaged ITU stereo mix of more.

    >>> mix_weights(["FL", "FR"])
    array([0.5, 0.5])
    """
    if len(channels) <= 2:
        return np.full(len(channels), 1 / len(channels))
    if len(set(channels)) < len(channels) and len(channels) in (6, 8):  # all called the same: not named
        channels = list(_UNNAMED[: len(channels)])
    weights = np.array([_MIX.get(name, _MIX_OTHER) for name in channels])
    return weights / weights.sum()


def _sound_runs(path: Path, zero_s: float | None) -> Iterator[tuple[int, np.ndarray]]:
    """(place of its first sample, samples (n,) float32 at 16 kHz) of every piece of sound, in order; pieces may overlap or leave gaps."""
    import av

    with media._container(path) as container:
        if not container.streams.audio:
            return
        stream = container.streams.audio[0]
        resampler: Any = None
        form: tuple[Any, ...] | None = None
        zero, place, expected, clock_fault = zero_s, 0, 0.0, 0.0
        weights = np.ones(1)

        def out_of(frame: Any) -> Iterator[tuple[int, np.ndarray]]:
            nonlocal place
            for piece in resampler.resample(frame):
                mixed = (weights @ piece.to_ndarray()).astype(np.float32)
                yield place, mixed
                place += len(mixed)

        for frame in media._decoded(container, stream, path):
            if frame.samples == 0 or not frame.rate:
                continue
            stamp = expected if frame.time is None else float(frame.time) - clock_fault
            if zero is None:
                zero = stamp
            if form is not None and abs(stamp - expected) > MAX_PAUSE_S:  # a clock that jumps for hours: go on where it was
                clock_fault += stamp - expected
                stamp = expected
            now = (frame.rate, frame.layout.name, frame.format.name)
            if form != now or abs(stamp - expected) > SOUND_SLACK_S:
                if resampler is not None:
                    yield from out_of(None)
                # the mean of the channels is taken here: FFmpeg's own mix to mono may exceed [-1, 1]
                resampler = av.AudioResampler(format="fltp", layout=frame.layout.name, rate=SAMPLE_RATE_HZ)
                weights = mix_weights([channel.name for channel in frame.layout.channels])
                form, place, expected = now, round((stamp - zero) * SAMPLE_RATE_HZ), stamp
            expected += frame.samples / frame.rate
            frame.pts = None  # the resampler would else fill or cut by its own idea of the clock
            yield from out_of(frame)
        if resampler is not None:
            yield from out_of(None)


def read_footage_sound(path: str | Path, n_frames: int, scratch: Path, zero_s: float | None = None) -> np.ndarray | None:
    """Sound of a recording over its pictures, on disk rather than in memory.

    Args:
        path: recording or sidecar sound file.
        n_frames: number of 25 fps frames that the sound covers; where the file has none there is silence.
        scratch: file that holds the samples while they are needed.
        zero_s: ``Footage.zero_s`` for the recording's own sound; None for a sidecar, whose sound starts with the picture.

    Returns:
        (n_frames * 640,) int16 memory map at 16 kHz; None when there is no sound stream or none of it can be decoded.

    Raises:
        PipelineError: the file is missing, empty or unreadable.
    """
    path = media._checked(path)
    total = n_frames * SAMPLES_PER_FRAME
    samples: np.ndarray | None = None
    reached = 0
    for place, piece in _sound_runs(path, zero_s):
        if samples is None:
            samples = np.memmap(scratch, np.int16, "w+", shape=(total,))
        low, high = max(place, reached), min(place + len(piece), total)  # where two pieces overlap the first one stays
        if low < high:
            part = np.nan_to_num(piece[low - place : high - place]).clip(-1.0, 1.0)
            samples[low:high] = np.round(part * 32767)
            reached = high
    return samples


def write_footage_sound(path: Path, samples: np.ndarray) -> None:
    """Write int16 samples (S,) at 16 kHz as mono wav, in one step and block by block."""
    with atomic_path(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        for start in range(0, len(samples), 60 * SAMPLE_RATE_HZ):
            file.writeframes(np.asarray(samples[start : start + 60 * SAMPLE_RATE_HZ], "<i2").tobytes())


@dataclass(frozen=True)
class SoundLevel:
    """How loud some sound is.

    Attributes:
        loudest_db: level of the loudest 40 ms [dB of full scale]; -inf for digital silence.
        clipped_share: share of the samples at full scale, [0, 1].
    """

    loudest_db: float
    clipped_share: float


def sound_level(samples: np.ndarray) -> SoundLevel:
    """Level of (S,) int16 samples, frame by frame, so that memory does not grow with their number."""
    loudest, clipped = 0.0, 0
    for start in range(0, len(samples), 1000 * SAMPLES_PER_FRAME):
        part = np.asarray(samples[start : start + 1000 * SAMPLES_PER_FRAME], np.float64) / 32767
        clipped += int((np.abs(part) >= 0.999).sum())
        whole = part[: len(part) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME)
        loudest = max(loudest, float((whole**2).mean(axis=1).max(initial=0.0)))
    return SoundLevel(10 * np.log10(loudest) if loudest > 0 else -np.inf, clipped / max(1, len(samples)))
