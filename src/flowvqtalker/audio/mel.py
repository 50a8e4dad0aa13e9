"""Wav2Lip's log-mel spectrogram and the window of steps that belongs to each video frame.

Settings (docs/conventions.md): 16 kHz, n_fft 800, hop 200, Hann window, 80 Slaney mel bands from 55 to 7600 Hz, pre-emphasis 0.97, decibels
of the magnitude against 20 dB with a floor of -100 dB, scaled to [-4, 4]. Source: https://github.com/Rudrabha/Wav2Lip (hparams), the same
input as SadTalker's and SAAS's. Edges are padded with zeros, so digital silence is exactly -4 everywhere.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import scipy.fft

from flowvqtalker.constants import FPS_HZ, SAMPLE_RATE_HZ

N_FFT = 800
HOP = 200
N_MELS = 80
LOWEST_HZ, HIGHEST_HZ = 55.0, 7600.0
PRE_EMPHASIS = 0.97
REFERENCE_DB, FLOOR_DB = 20.0, -100.0
MEL_LIMIT = 4.0
SILENCE = -MEL_LIMIT
STEPS_PER_SECOND = SAMPLE_RATE_HZ // HOP
WINDOW_STEPS = 16
_BLOCK_STEPS = 512  # what is in work stays in the processor's cache, and memory is flat in the length of the sound
_BANDS = 4  # groups of neighbouring filters, each multiplied with its own frequencies only


def hz_to_mel(frequency_hz: np.ndarray) -> np.ndarray:
    """Slaney's mel scale: linear below 1 kHz (3 mel per 200 Hz), logarithmic above (27 steps to a factor of 6.4)."""
    f = np.asarray(frequency_hz, dtype=np.float64)
    return np.where(f < 1000, f * 3 / 200, 15 + np.log(np.maximum(f, 1e-9) / 1000) * 27 / np.log(6.4))


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """Inverse of ``hz_to_mel``."""
    m = np.asarray(mel, dtype=np.float64)
    return np.where(m < 15, m * 200 / 3, 1000 * np.exp((m - 15) * np.log(6.4) / 27))


@functools.cache
def mel_filterbank() -> np.ndarray:
    """(80, 401) triangular filters of unit area per Hz (Slaney's normalisation), float64."""
    corners = mel_to_hz(np.linspace(hz_to_mel(LOWEST_HZ), hz_to_mel(HIGHEST_HZ), N_MELS + 2))
    bins = np.arange(N_FFT // 2 + 1) * SAMPLE_RATE_HZ / N_FFT
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(min=0)
    bank = triangles * 2 / (high - low)
    bank.setflags(write=False)
    return bank


@functools.cache
def _bands() -> tuple[tuple[slice, slice, np.ndarray], ...]:
    """Filters, frequencies under them and (frequencies, filters) float32 weights of each group: 98 % of the whole bank are zeros."""
    bank, groups = mel_filterbank(), []
    for filters in np.array_split(np.arange(N_MELS), _BANDS):
        used = np.flatnonzero(bank[filters].any(0))
        chosen, under = slice(filters[0], filters[-1] + 1), slice(used[0], used[-1] + 1)
        groups.append((chosen, under, np.ascontiguousarray(bank[chosen, under].T, dtype=np.float32)))
    return tuple(groups)


@functools.cache
def _window() -> np.ndarray:
    # Periodic Hann: the one that STFTs use.
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


def compute_mel(samples: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram.

    Args:
        samples: (S,) float mono at 16 kHz in [-1, 1].

    Returns:
        (1 + S // 200, 80) float32 in [-4, 4]; step k is centred at k / 80 s.

    Raises:
        ValueError: not one-dimensional, or not finite.
    """
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples: expected mono (S,), got shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("samples: contains NaN or infinite values")
    padded = np.zeros(len(samples) + N_FFT, dtype=np.float32)
    emphasised = padded[N_FFT // 2 : N_FFT // 2 + len(samples)]
    emphasised[:] = samples
    emphasised[1:] -= np.float32(PRE_EMPHASIS) * samples[:-1]
    n_steps = 1 + len(samples) // HOP
    window, bands = _window(), _bands()
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    mel = np.empty((n_steps, N_MELS), dtype=np.float32)
    for start in range(0, n_steps, _BLOCK_STEPS):
        block = mel[start : start + _BLOCK_STEPS]
        # SciPy transforms several frames at a time, NumPy one after the other.
        magnitude = np.abs(scipy.fft.rfft(frames[start : start + len(block)] * window, axis=1, overwrite_x=True))
        for filters, frequencies, weights in bands:
            np.matmul(magnitude[:, frequencies], weights, out=block[:, filters])
        np.maximum(block, 10 ** (FLOOR_DB / 20), out=block)
        np.log(block, out=block)  # natural: faster than log10
        # 2 MEL_LIMIT (20 log10(x) - REFERENCE_DB - FLOOR_DB) / -FLOOR_DB - MEL_LIMIT
        block *= 2 * MEL_LIMIT / -FLOOR_DB * 20 / math.log(10)
        block += 2 * MEL_LIMIT / -FLOOR_DB * (-REFERENCE_DB - FLOOR_DB) - MEL_LIMIT
        np.clip(block, -MEL_LIMIT, MEL_LIMIT, out=block)
    return mel


def window_starts(n_frames: int) -> np.ndarray:
    """(T,) int64 first step of each frame's window, ``floor(80 (i - 2) / 25)``; negative for the first frames."""
    return STEPS_PER_SECOND * (np.arange(n_frames, dtype=np.int64) - 2) // FPS_HZ


def mel_windows(mel: np.ndarray, n_frames: int) -> np.ndarray:
    """Windows of 16 steps around each video frame, padded with silence where the sound has not begun or has ended.

    The window of frame i covers 200 ms around the first half of the frame's 40 ms: its middle lies 1 to 14 ms after i / 25 s.

    Args:
        mel: (steps, 80).
        n_frames: T.

    Returns:
        (T, 16, 80) of mel's dtype.
    """
    if mel.ndim != 2 or mel.shape[1] != N_MELS:
        raise ValueError(f"mel: expected (steps, {N_MELS}), got shape {mel.shape}")
    steps = window_starts(n_frames)[:, None] + np.arange(WINDOW_STEPS)
    inside = (steps >= 0) & (steps < len(mel))
    windows = np.full((n_frames, WINDOW_STEPS, N_MELS), SILENCE, dtype=mel.dtype)
    windows[inside] = mel[steps[inside]]
    return windows
