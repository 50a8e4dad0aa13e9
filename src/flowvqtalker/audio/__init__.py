"""Log-mel spectrogram of speech and its alignment to video frames."""

from flowvqtalker.audio.mel import compute_mel, mel_windows, window_starts

__all__ = ["compute_mel", "mel_windows", "window_starts"]
