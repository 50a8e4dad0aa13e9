"""Video and sound on disk: the only module that imports decord and PyAV.

Reading: decord first (fast, random access), PyAV when decord cannot (AV1, cut-off files, rotated phone videos). Readers are opened inside each
call and never leave it: a decord reader shared by two threads aborts the process, one inherited through a fork hangs (measured).
Writing: x264 on one thread with fixed settings and no dates, so that equal frames give equal bytes; through a temporary file, so that an
interrupted or failed write never leaves half a file under the final name.

Every failure is a PipelineError that names the file, what is wrong with it and what to do.
"""

from __future__ import annotations

import logging
import wave
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flowvqtalker.constants import FPS_HZ, SAMPLE_RATE_HZ
from pipeline.errors import PipelineError
from pipeline.io import atomic_path

log = logging.getLogger(__name__)

#: Written into every mp4; x264's own default GOP of 250 makes random access slow, B-frames cost little and are kept.
GOP_FRAMES = 12
#: libx264 preset: at 128-224 px it is about as small as "medium" and several times faster.
PRESET = "veryfast"
SOUND_BITS_PER_S = 64_000
CHUNK_FRAMES = 64


@dataclass(frozen=True)
class MediaInfo:
    """What a media file says about itself.

    Attributes:
        path: the file.
        width_px, height_px: size of the picture as shown, i.e. after rotation.
        fps_hz: average frame rate; 0 when the file does not say.
        duration_s: length that the container declares; None when it does not. A cut-off file declares more than it holds.
        codec: video codec name.
        rotation_deg: counter-clockwise turn that the player has to apply; the readers here apply it.
        has_sound: whether there is a sound stream.
        sound_rate_hz, sound_channels: of the first sound stream; 0 without one.
        metadata: the container's tags.
    """

    path: Path
    width_px: int
    height_px: int
    fps_hz: float
    duration_s: float | None
    codec: str
    rotation_deg: int
    has_sound: bool
    sound_rate_hz: int
    sound_channels: int
    metadata: dict[str, str] = field(default_factory=dict)


def synthetic_metadata(by: str, **tags: str) -> dict[str, str]:
    """Tags of a generated video: a comment that says that it is synthetic and by what; more mp4 tags (title, artist, ...) may follow."""
    return {"comment": f"Synthetic video, not a recording of a person. Made by {by}.", **tags}


# ---------------------------------------------------------------------------------------------------------------- reading: common


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise PipelineError(f"{path}: there is no such file", "Check the path, or the root of the source in params.yaml.")
    if path.is_dir():
        raise PipelineError(f"{path}: this is a folder, not a media file", "Give the path of one file.")
    if path.stat().st_size == 0:
        raise PipelineError(f"{path}: the file is empty (0 bytes)", "Copy or download it again.")
    return path


@contextmanager
def _container(path: Path) -> Iterator[Any]:
    """PyAV container of an existing file; PipelineError when no demuxer understands it."""
    import av
    import av.logging

    av.logging.set_level(av.logging.PANIC)
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PipelineError(
            f"{path}: cannot be read as video or sound ({reason})", "The file is damaged, cut off or of another kind: replace or remove it."
        ) from error
    with container:
        yield container


def _video_stream(container: Any, path: Path) -> Any:
    for stream in container.streams.video:
        if not stream.disposition & stream.disposition.attached_pic:  # the cover picture of a music file is no video
            return stream
    raise PipelineError(
        f"{path}: holds no picture, only sound", "Give a video file; a sound file belongs beside its video, with the same name."
    )


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """Frames of a stream; damaged packets are skipped and told of once."""
    import av

    bad = 0
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                bad += 1
    except av.error.FFmpegError:  # the demuxer itself met the end of a cut-off file
        bad += 1
    if bad:
        log.warning("%s: %d damaged packet(s) skipped (%s)", path, bad, stream.type)


def probe(path: str | Path) -> MediaInfo:
    """Describe a video file.

    Args:
        path: video file.

    Returns:
        MediaInfo.

    Raises:
        PipelineError: the file is missing, empty, unreadable, without picture or without a single frame.
    """
    path = _checked(path)
    with _container(path) as container:
        stream = _video_stream(container, path)
        sound = container.streams.audio[0] if container.streams.audio else None
        duration = None if container.duration is None else container.duration / 1_000_000
        first = next(_decoded(container, stream, path), None)
        if first is None:
            raise PipelineError(f"{path}: holds no frames", "The recording is empty or its data are cut off: replace or remove the file.")
        rotation = round(first.rotation / 90) * 90 % 360
        width, height = (first.height, first.width) if rotation in (90, 270) else (first.width, first.height)
        return MediaInfo(
            path=path,
            width_px=width,
            height_px=height,
            fps_hz=float(stream.average_rate or stream.guessed_rate or 0),
            duration_s=duration,
            codec=stream.codec_context.name,
            rotation_deg=rotation,
            has_sound=sound is not None,
            sound_rate_hz=sound.rate if sound is not None else 0,
            sound_channels=sound.channels if sound is not None else 0,
            metadata=dict(container.metadata),
        )


def nearest_frames(times_s: np.ndarray, fps_hz: float = FPS_HZ) -> np.ndarray:
    """Which source frame is shown at each tick of a steady clock.

    The clock starts with the first frame; the last frame is shown for a median frame time. Of two equally near frames the earlier one is taken.

    Args:
        times_s: (T,) rising presentation times [s], T >= 1.
        fps_hz: rate of the clock [Hz].

    Returns:
        (N,) int64 indices into ``times_s``, N = round(duration * fps_hz), at least 1.
    """
    times = np.asarray(times_s, dtype=np.float64) - float(times_s[0])
    last = float(np.median(np.diff(times))) if len(times) > 1 else 1.0 / fps_hz
    count = max(1, round((times[-1] + last) * fps_hz))
    ticks = np.arange(count) / fps_hz
    right = np.clip(np.searchsorted(times, ticks), 1, max(1, len(times) - 1))
    left = right - 1
    right = np.minimum(right, len(times) - 1)
    # 1 us of slack: containers store times rounded to their own tick
    return np.where(ticks - times[left] <= times[right] - ticks + 1e-6, left, right).astype(np.int64)


# ---------------------------------------------------------------------------------------------------------------- reading: decord


class _DecordError(Exception):
    """decord does not read this file (part); PyAV may."""


class _Decord:
    """A decord reader for one call, with its errors turned into _DecordError."""

    def __init__(self, path: Path) -> None:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self._errors = (decord.DECORDError, RuntimeError, IndexError, ValueError)
        try:
            self._reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
            self.times_s = np.asarray(self._reader.get_frame_timestamp(range(len(self._reader))), dtype=np.float64).reshape(-1, 2)[:, 0]
        except self._errors as error:
            raise _DecordError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
        if len(self.times_s) == 0 or not np.isfinite(self.times_s).all() or (np.diff(self.times_s) <= 0).any():
            raise _DecordError("no usable frame times")

    def frames(self, indices: np.ndarray) -> np.ndarray:
        try:
            return self._reader.get_batch([int(index) for index in indices]).asnumpy()
        except self._errors as error:
            raise _DecordError("damaged frame") from error


def _open_decord(path: Path) -> _Decord | None:
    """A decord reader, or None when the file is rotated or beyond decord (then PyAV reads it)."""
    if probe(path).rotation_deg:
        return None
    try:
        return _Decord(path)
    except _DecordError as error:
        log.info("%s: decord cannot read it (%s), PyAV reads it", path, error)
        return None


# ---------------------------------------------------------------------------------------------------------------- reading: PyAV


def _pyav_frames(path: Path) -> Iterator[tuple[float, Any]]:
    """(time [s], PyAV frame) in presentation order; frames without a time follow the one before at the average rate."""
    with _container(path) as container:
        stream = _video_stream(container, path)
        stream.thread_count = 1
        step = 1.0 / float(stream.average_rate or FPS_HZ)
        time = -step
        for frame in _decoded(container, stream, path):
            stamp = frame.time
            time = float(stamp) if stamp is not None and stamp > time else time + step
            yield time, frame


def _pyav_times(path: Path) -> np.ndarray:
    times = np.array([time for time, _ in _pyav_frames(path)])
    if len(times) == 0:
        raise PipelineError(f"{path}: holds no frames", "The recording is empty or its data are cut off: replace or remove the file.")
    return times


def _pyav_pick(path: Path, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Pictures (H, W, 3) uint8 of the given rising (possibly repeated) frame numbers, upright."""
    wanted = np.asarray(indices)
    position, size = 0, None
    for number, (_, frame) in enumerate(_pyav_frames(path)):
        if position >= len(wanted):
            return
        if wanted[position] != number:
            continue
        size = size or (frame.width, frame.height)
        # a stream may change its size half way: later frames take the first one's
        picture = frame.reformat(width=size[0], height=size[1], format="rgb24").to_ndarray()
        turns = round(frame.rotation / 90) % 4
        picture = np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
        while position < len(wanted) and wanted[position] == number:
            yield picture
            position += 1


# ---------------------------------------------------------------------------------------------------------------- reading: public


def iterate_video_at(path: str | Path, fps_hz: float = FPS_HZ, chunk_frames: int = CHUNK_FRAMES) -> Iterator[np.ndarray]:
    """Decode a video at a steady rate in pieces: memory does not grow with its length.

    Args:
        path: video file of any frame rate, also varying.
        fps_hz: wanted rate [Hz]; each tick shows the source frame nearest in time.
        chunk_frames: frames of a piece.

    Yields:
        (n, H, W, 3) uint8 RGB, upright, n <= chunk_frames.

    Raises:
        PipelineError: see ``probe``.
    """
    path = _checked(path)
    done = 0
    reader = _open_decord(path)
    if reader is not None:
        index = nearest_frames(reader.times_s, fps_hz)
        for start in range(0, len(index), chunk_frames):
            try:
                frames = reader.frames(index[start : start + chunk_frames])
            except _DecordError as error:
                log.info("%s: decord stopped at frame %d (%s), PyAV reads the rest", path, start, error)
                break
            yield frames
            done += len(frames)
        else:
            return
    piece: list[np.ndarray] = []
    for picture in _pyav_pick(path, nearest_frames(_pyav_times(path), fps_hz)[done:]):
        piece.append(picture)
        if len(piece) == chunk_frames:
            yield np.stack(piece)
            piece = []
    if piece:
        yield np.stack(piece)


def read_video_at(path: str | Path, fps_hz: float = FPS_HZ) -> np.ndarray:
    """Whole video at a steady rate: (T, H, W, 3) uint8 RGB; arguments and errors as ``iterate_video_at``."""
    return np.concatenate(list(iterate_video_at(path, fps_hz)))


def read_video(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """All frames of a video as they are.

    Args:
        path: video file.

    Returns:
        frames (T, H, W, 3) uint8 RGB, upright; times_s (T,) float64 presentation times [s] with the first at 0.

    Raises:
        PipelineError: see ``probe``.
    """
    path = _checked(path)
    reader = _open_decord(path)
    if reader is not None:
        try:
            parts = [
                reader.frames(np.arange(start, min(start + CHUNK_FRAMES, len(reader.times_s))))
                for start in range(0, len(reader.times_s), CHUNK_FRAMES)
            ]
            return np.concatenate(parts), reader.times_s - reader.times_s[0]
        except _DecordError as error:
            log.info("%s: decord cannot read all of it (%s), PyAV reads it", path, error)
    times = _pyav_times(path)
    return np.stack(list(_pyav_pick(path, np.arange(len(times))))), times - times[0]


def read_frames(path: str | Path, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Single frames by number.

    Args:
        path: video file.
        indices: frame numbers of the file's own frames, in any order, repeats allowed.

    Returns:
        (len(indices), H, W, 3) uint8 RGB, upright.

    Raises:
        PipelineError: see ``probe``; also when a number is outside the video.
    """
    path = _checked(path)
    wanted = np.asarray(indices, dtype=np.int64)
    if wanted.ndim != 1 or len(wanted) == 0 or wanted.min() < 0:
        raise ValueError(f"indices: expected a non-empty list of frame numbers >= 0, got {indices!r}")
    reader = _open_decord(path)
    if reader is not None and wanted.max() < len(reader.times_s):
        try:
            return reader.frames(wanted)
        except _DecordError as error:
            log.info("%s: decord cannot read these frames (%s), PyAV reads them", path, error)
    unique, back = np.unique(wanted, return_inverse=True)
    pictures = list(_pyav_pick(path, unique))
    if len(pictures) < len(unique):
        raise PipelineError(
            f"{path}: frame {unique[len(pictures)]} was asked for but the video ends before it",
            "The video is shorter than its index says: rebuild the index.",
        )
    return np.stack(pictures)[back]


def read_sound(path: str | Path, sample_rate_hz: int = SAMPLE_RATE_HZ, *, n_frames: int | None = None) -> np.ndarray | None:
    """Sound of a video or sound file, mixed to one channel (mean) and resampled.

    Sample 0 belongs to the first picture (a late or early sound stream is shifted into place); in a file without picture to its own start.

    Args:
        path: media file.
        sample_rate_hz: wanted rate [Hz].
        n_frames: number of 25 fps frames that the sound has to cover: it is cut or padded with silence to n_frames / 25 s.

    Returns:
        (S,) float32, about [-1, 1]; None when the file holds no sound.

    Raises:
        PipelineError: the file is missing, empty or unreadable.
    """
    import av

    path = _checked(path)
    with _container(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        zero = None
        for video in container.streams.video:
            if not video.disposition & video.disposition.attached_pic and video.start_time is not None:
                zero = float(video.start_time * video.time_base)
                break
        # the mean of the channels is taken here: FFmpeg's own mix to mono may exceed [-1, 1]
        resampler = av.AudioResampler(format="fltp", rate=sample_rate_hz)
        parts: list[np.ndarray] = []
        start = None
        for frame in _decoded(container, stream, path):
            if start is None:
                start = float(frame.time) if frame.time is not None else 0.0
            parts.extend(piece.to_ndarray().mean(axis=0) for piece in resampler.resample(frame))
        if start is None:
            return None
        parts.extend(piece.to_ndarray().mean(axis=0) for piece in resampler.resample(None))
    samples = np.concatenate(parts).astype(np.float32)
    shift = 0 if zero is None else round((start - zero) * sample_rate_hz)
    samples = np.concatenate([np.zeros(shift, np.float32), samples]) if shift > 0 else samples[-shift:]
    if n_frames is not None:
        length = round(n_frames * sample_rate_hz / FPS_HZ)
        samples = np.pad(samples[:length], (0, max(0, length - len(samples))))
    return np.nan_to_num(samples)


# ---------------------------------------------------------------------------------------------------------------- writing


def write_video(
    path: str | Path,
    frames: np.ndarray | Iterable[np.ndarray],
    *,
    fps_hz: float = FPS_HZ,
    sound: np.ndarray | None = None,
    crf: float = 18,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write an mp4 (H.264, yuv420p, GOP 12, AAC) with bytes that depend on the arguments only.

    Args:
        path: target; replaced in one step when the file is complete.
        frames: (T, H, W, 3) uint8 RGB, or an iterable of (H, W, 3) pictures (memory stays flat). H and W even.
        fps_hz: frame rate [Hz].
        sound: (S,) float32 mono at 16 kHz in [-1, 1]; cut or padded with silence to the length of the picture.
        crf: x264 quality, 0 (lossless) to 51.
        metadata: mp4 tags; generated videos pass ``synthetic_metadata(...)``.

    Raises:
        PipelineError: no frames, or no space left.
        ValueError: odd or changing size, another dtype or shape.
    """
    from fractions import Fraction

    import av
    import av.logging

    av.logging.set_level(av.logging.PANIC)
    path = Path(path)
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise PipelineError(
            f"{path}: there are no frames to write", "The step that made this video got an empty clip: see its row in the index."
        )
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"frames: expected even height and width (yuv420p), got {height} x {width}")
    rate = Fraction(fps_hz).limit_denominator(1001)
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as box,
    ):
        box.metadata.update(metadata or {})
        # cpu-independent: x264 else picks its algorithms by processor, and bytes would differ between machines
        options = {"crf": str(crf), "preset": PRESET, "x264-params": f"keyint={GOP_FRAMES}:cpu-independent=1", "threads": "1"}
        picture_stream: Any = box.add_stream("libx264", rate=rate, options=options)
        picture_stream.width, picture_stream.height, picture_stream.pix_fmt = width, height, "yuv420p"
        picture_stream.codec_context.thread_count = 1
        sound_stream: Any = None
        if sound is not None:
            samples = np.nan_to_num(np.asarray(sound, dtype=np.float32)).clip(-1.0, 1.0)
            if samples.ndim != 1:
                raise ValueError(f"sound: expected (S,), got {samples.shape}")
            sound_stream = box.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
            sound_stream.bit_rate = SOUND_BITS_PER_S
        count, spoken = 0, 0
        picture: np.ndarray | None = first
        while picture is not None:
            if picture.shape != (height, width, 3) or picture.dtype != np.uint8:
                raise ValueError(f"frames: expected uint8 {(height, width, 3)}, got {picture.dtype} {picture.shape} at frame {count}")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = count, 1 / rate
            box.mux(picture_stream.encode(frame))
            count += 1
            if sound_stream is not None:  # sound follows the picture frame by frame: the file interleaves, memory stays flat
                until = round(count * SAMPLE_RATE_HZ / rate)
                part = samples[spoken:until]
                part = np.pad(part, (0, until - spoken - len(part)))
                piece = av.AudioFrame.from_ndarray(part[None], format="fltp", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = SAMPLE_RATE_HZ, spoken, Fraction(1, SAMPLE_RATE_HZ)
                box.mux(sound_stream.encode(piece))
                spoken = until
            picture = next(pictures, None)
        box.mux(picture_stream.encode(None))
        if sound_stream is not None:
            box.mux(sound_stream.encode(None))


def write_sound(path: str | Path, samples: np.ndarray, *, sample_rate_hz: int = SAMPLE_RATE_HZ) -> None:
    """Write mono 16-bit wav, in one step.

    Args:
        path: target.
        samples: (S,) float32 in [-1, 1]; louder samples are clipped.
        sample_rate_hz: rate [Hz].

    Raises:
        PipelineError: no space left.
    """
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples: expected (S,), got {samples.shape}")
    whole = np.round(np.nan_to_num(samples).clip(-1.0, 1.0) * 32767).astype("<i2")
    with atomic_path(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(whole.tobytes())
