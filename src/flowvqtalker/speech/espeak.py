"""Speech with phoneme times from espeak-ng, the same bytes whatever was spoken before.

espeak-ng (GPL-3) is a runtime dependency only, reached through the C interface of the shared library that the package
``espeakng-loader`` carries: https://github.com/espeak-ng/espeak-ng/blob/master/src/include/espeak-ng/speak_lib.h.

Why the library is unloaded after every utterance: its synthesiser keeps state in static variables that neither
``espeak_Initialize`` nor ``espeak_Terminate`` resets, so a second utterance of the same text differs in its samples and even in its
length (measured: 51,947, then 51,952 samples). A freshly loaded library starts from the same statics every time; that costs about 6 ms
an utterance. Breathy voices also draw noise from the C library's ``rand``, which is therefore seeded per utterance.
"""

from __future__ import annotations

import _ctypes
import contextlib
import ctypes
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.constants import SAMPLE_RATE_HZ

_LOCK = threading.Lock()
_SYNCHRONOUS = 2
_OPTIONS = 0x0001 | 0x0002 | 0x8000  # phoneme events, IPA names, no exit() on errors
_UTF8 = 1
_EVENT_END_OF_LIST, _EVENT_PHONEME = 0, 7
_PARAMETERS = {"rate_wpm": 1, "volume": 2, "pitch": 3, "pitch_range": 4}
_STRESS_MARKS = {"ˈ": 2, "ˌ": 1}
_PEAK = 0.98


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class SpeechError(RuntimeError):
    """espeak-ng refused a voice, a text or a parameter."""


@dataclass(frozen=True)
class Prosody:
    """How a sentence is spoken, in espeak-ng's units.

    Attributes:
        rate_wpm: speaking rate [words a minute], 80 to 450.
        pitch: base pitch, 0 to 99; 50 is the voice's own.
        pitch_range: liveliness of the melody, 0 (monotone) to 99; 50 is the voice's own.
        volume: amplitude, 0 to 200; 100 is normal.
    """

    rate_wpm: int = 170
    pitch: int = 50
    pitch_range: int = 50
    volume: int = 80

    def __post_init__(self) -> None:
        limits = {"rate_wpm": (80, 450), "pitch": (0, 99), "pitch_range": (0, 99), "volume": (0, 200)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {value}")


@dataclass(frozen=True)
class Phoneme:
    """One spoken phoneme.

    Attributes:
        symbol: IPA without stress marks, e.g. "b", "aʊ"; "" is a pause.
        start_s, end_s: time from the start of the sound [s].
        stress: 2 primary, 1 secondary, 0 none.
    """

    symbol: str
    start_s: float
    end_s: float
    stress: int = 0


@dataclass(frozen=True)
class Speech:
    """A spoken sentence.

    Attributes:
        samples: mono float32 (S,) in [-1, 1] at 16 kHz.
        phonemes: in order of time, not overlapping, all within the sound.
        text: what was said.
        voice: espeak-ng's voice name.
    """

    samples: np.ndarray
    phonemes: tuple[Phoneme, ...]
    text: str
    voice: str

    @property
    def duration_s(self) -> float:
        """Length of the sound [s]."""
        return len(self.samples) / SAMPLE_RATE_HZ

    def placed(self, lead_s: float, total_s: float) -> Speech:
        """The same speech inside a clip: silence before it, then cut or padded to the clip's length.

        Phonemes beyond the end are dropped; one that crosses it is shortened. A cut sound fades out over 20 ms.

        Args:
            lead_s: silence before the first sample, >= 0 [s].
            total_s: length of the result [s].
        """
        if lead_s < 0 or total_s <= lead_s:
            raise ValueError(f"placed: needs 0 <= lead_s < total_s, got {lead_s} and {total_s}")
        n_lead, n_total = round(lead_s * SAMPLE_RATE_HZ), round(total_s * SAMPLE_RATE_HZ)
        samples = np.zeros(n_total, np.float32)
        part = self.samples[: n_total - n_lead].copy()
        if len(part) < len(self.samples):
            n_fade = min(len(part), SAMPLE_RATE_HZ // 50)
            part[len(part) - n_fade :] *= np.linspace(1, 0, n_fade, dtype=np.float32)
        samples[n_lead : n_lead + len(part)] = part
        shifted = (Phoneme(p.symbol, p.start_s + lead_s, min(p.end_s + lead_s, total_s), p.stress) for p in self.phonemes)
        kept = tuple(p for p in shifted if p.start_s < total_s and p.end_s > p.start_s)
        return Speech(samples, kept, self.text, self.voice)


@contextlib.contextmanager
def _fresh_library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """The library with untouched static variables, and its sample rate [Hz]; unloaded afterwards."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingWeightsError("speech needs the package espeakng-loader (pip install espeakng-loader)") from error
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        library.espeak_Initialize.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
        library.espeak_SetVoiceByName.argtypes = (ctypes.c_char_p,)
        library.espeak_Synth.argtypes = (
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        )
        rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), _OPTIONS)
        if rate_hz <= 0:
            raise SpeechError(f"espeak_Initialize returned {rate_hz}; is the data folder of espeakng-loader complete?")
        library.espeak_ng_SetRandSeed.argtypes = (ctypes.c_long,)
        library.espeak_ng_SetRandSeed(1)
        yield library, rate_hz
        library.espeak_Terminate()
    finally:
        unload = getattr(_ctypes, "dlclose", None) or getattr(_ctypes, "FreeLibrary")  # noqa: B009 - the second name is Windows'
        unload(library._handle)


def _run(text: str, voice: str, prosody: Prosody) -> tuple[np.ndarray, int, list[tuple[int, str]]]:
    """Raw synthesis: int16 samples, sample rate [Hz] and (sample, IPA with stress) events."""
    blocks: list[np.ndarray] = []
    events: list[tuple[int, str]] = []

    @_Callback
    def collect(wave, count, event_list):  # type: ignore[no-untyped-def]
        if wave and count > 0:
            blocks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while event_list[index].type != _EVENT_END_OF_LIST:
            event = event_list[index]
            if event.type == _EVENT_PHONEME:
                name = ctypes.string_at(ctypes.addressof(event.id), 8).split(b"\0")[0]
                events.append((int(event.sample), name.decode("utf-8", "ignore")))
            index += 1
        return 0

    with _LOCK, _fresh_library() as (library, rate_hz):
        library.espeak_SetSynthCallback(collect)
        status = library.espeak_SetVoiceByName(voice.encode())
        if status != 0:
            raise SpeechError(f"voice {voice!r}: espeak-ng does not know it (code {status}); try for example 'en-us+m3'")
        for name, number in _PARAMETERS.items():
            status = library.espeak_SetParameter(number, int(getattr(prosody, name)), 0)
            if status != 0:
                raise SpeechError(f"{name}={getattr(prosody, name)}: espeak-ng refused it (code {status})")
        data = text.encode() + b"\0"
        status = library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)
        library.espeak_Synchronize()
    if status != 0 or not blocks:
        raise SpeechError(f"nothing was spoken for {text!r} (code {status})")
    return np.concatenate(blocks), rate_hz, events


def _parse_events(events: list[tuple[int, str]], rate_hz: int, duration_s: float) -> tuple[Phoneme, ...]:
    phonemes: list[Phoneme] = []
    for index, (sample, name) in enumerate(events):
        start_s = sample / rate_hz
        end_s = min(events[index + 1][0] / rate_hz if index + 1 < len(events) else duration_s, duration_s)
        if end_s <= start_s:
            continue  # espeak marks the end of the utterance with an empty phoneme of no length
        stress = max((level for mark, level in _STRESS_MARKS.items() if mark in name), default=0)
        symbol = "".join(letter for letter in name if letter not in _STRESS_MARKS)
        phonemes.append(Phoneme(symbol, start_s, end_s, stress))
    return tuple(phonemes)


def synthesize(text: str, voice: str = "en-us+m3", prosody: Prosody | None = None) -> Speech:
    """Speak a sentence.

    Args:
        text: plain text (no SSML).
        voice: espeak-ng voice with variant, e.g. ``en-gb-x-rp+f2``.
        prosody: rate, pitch, range and volume; default neutral.

    Returns:
        Sound at 16 kHz and phonemes with times; the same bytes for the same arguments in any process and order.

    Raises:
        SpeechError: unknown voice (espeak-ng would silently speak with another), empty text.
        MissingWeightsError: the package espeakng-loader is not installed.
    """
    from scipy.signal import resample_poly

    if not text.strip():
        raise SpeechError("synthesize: the text is empty")
    raw, rate_hz, events = _run(text, voice, prosody or Prosody())
    common = gcd(rate_hz, SAMPLE_RATE_HZ)
    samples = resample_poly(raw.astype(np.float64) / 32768.0, SAMPLE_RATE_HZ // common, rate_hz // common)
    samples = np.clip(samples, -_PEAK, _PEAK).astype(np.float32)
    return Speech(samples, _parse_events(events, rate_hz, len(samples) / SAMPLE_RATE_HZ), text, voice)
