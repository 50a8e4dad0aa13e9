"""The spectrogram against references, and its alignment to frames against known sounds."""

import numpy as np
import pytest

from flowvqtalker.audio import compute_mel, mel_windows, window_starts
from flowvqtalker.audio.mel import SILENCE, hz_to_mel, mel_filterbank, mel_to_hz


def test_mel_scale_round_trip():
    frequencies = np.linspace(20, 8000, 333)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(frequencies)), frequencies, rtol=1e-12)
    assert hz_to_mel(np.array(1000.0)) == pytest.approx(15.0)
    assert hz_to_mel(np.array(6400.0)) == pytest.approx(42.0)


def test_filterbank_equals_librosa():
    librosa = pytest.importorskip("librosa", reason="librosa is the reference of the mel filters and is not installed")
    reference = librosa.filters.mel(sr=16000, n_fft=800, n_mels=80, fmin=55, fmax=7600, dtype=np.float64)
    np.testing.assert_allclose(mel_filterbank(), reference, atol=1e-9)


def test_filters_have_unit_area():
    # Narrow low filters are sampled by few 20 Hz bins, so only the wide ones can show the continuous area.
    area = mel_filterbank().sum(1) * 20.0
    np.testing.assert_allclose(area[30:], 1.0, atol=0.05)


def test_spectrogram_equals_direct_formula():
    rng = np.random.default_rng(3)
    samples = (0.1 * rng.standard_normal(4000)).astype(np.float32)
    mel = compute_mel(samples)
    step = 7
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1]).astype(np.float64)
    frame = np.pad(emphasised, 400)[step * 200 : step * 200 + 800] * np.hanning(801)[:-1]
    time = np.arange(800)
    spectrum = np.array([abs((frame * np.exp(-2j * np.pi * k * time / 800)).sum()) for k in range(401)])
    expected = np.clip(8 * (20 * np.log10(np.maximum(mel_filterbank() @ spectrum, 1e-5)) - 20 + 100) / 100 - 4, -4, 4)
    np.testing.assert_allclose(mel[step], expected, atol=1e-4)


def test_long_sound_has_no_seams():
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(200 * 2100)).astype(np.float32)
    whole = compute_mel(samples)
    assert whole.shape == (2101, 80)
    later = compute_mel(samples[200 * 2000 :])
    np.testing.assert_allclose(whole[2010:2090], later[10:90], atol=1e-5)


def test_silence_is_the_floor():
    assert (compute_mel(np.zeros(3200)) == SILENCE).all()


def test_starts_follow_the_conventions():
    assert window_starts(8).tolist() == [-7, -4, 0, 3, 6, 9, 12, 16]
    np.testing.assert_array_equal(window_starts(500), [np.floor(80 * (i - 2) / 25) for i in range(500)])


@pytest.mark.parametrize("frame", [0, 1, 10, 37, 49])
def test_click_is_loudest_in_the_middle_of_its_frame(frame):
    samples = np.zeros(50 * 640, dtype=np.float32)
    samples[frame * 640 + 320] = 1.0
    mel = compute_mel(samples)
    windows = mel_windows(mel, 50)
    energy = (windows - SILENCE).sum((1, 2))
    assert abs(int(energy.argmax()) - frame) <= 2  # the window spans five frames, all of which hear the whole click
    heard = np.flatnonzero(energy > 0)
    assert heard.min() >= frame - 3 and heard.max() <= frame + 3
    middle = (windows[frame] - SILENCE).sum(1)
    centre = (middle * np.arange(16)).sum() / middle.sum()
    assert abs(centre - (3.2 * frame + 1.6 - window_starts(50)[frame])) <= 0.3  # step 80 t of the click, counted from the window


def test_edges_are_silent_and_the_rest_is_the_spectrogram():
    mel = np.random.default_rng(1).uniform(-3, 4, (100, 80)).astype(np.float32)
    windows = mel_windows(mel, 40)
    assert windows.shape == (40, 16, 80)
    assert (windows[0, :7] == SILENCE).all() and (windows[0, 7:] == mel[:9]).all()
    np.testing.assert_array_equal(windows[10], mel[25:41])
    assert (windows[39, 100 - 118 :] == SILENCE).all()


@pytest.mark.parametrize("bad", [np.zeros((2, 100)), np.array([0.0, np.nan])])
def test_bad_samples_are_refused(bad):
    with pytest.raises(ValueError, match="samples"):
        compute_mel(bad)


def test_an_impulse_is_centred_in_the_window_of_its_own_frame():
    # Windows are centred 1 to 14 ms after the frame's time (conventions), so a click 7 ms after it belongs to this frame and no other.
    n_frames = 40
    for frame in range(3, n_frames - 3):
        samples = np.zeros(n_frames * 640, dtype=np.float32)
        samples[frame * 640 + 112] = 1.0
        loud = mel_windows(compute_mel(samples), n_frames) - SILENCE
        steps = loud.sum(2)
        whole = steps.sum(1) > 0.999 * steps.sum(1).max()  # windows that hear all of it
        centre = np.where(whole, (steps * np.arange(16)).sum(1) / steps.sum(1).clip(1e-9), np.inf)
        assert int(np.abs(centre - 8.0).argmin()) == frame
