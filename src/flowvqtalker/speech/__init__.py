"""Speech of the embedded corpus: espeak-ng with phoneme times, and sentences of our own. See docs/architecture.md."""
