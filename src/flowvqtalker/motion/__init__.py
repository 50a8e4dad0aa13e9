"""Motion of the embedded corpus: lips from phonemes, emotion, blinks, gaze, brows and head. See docs/data_card.md."""

from flowvqtalker.motion.distributions import DECLARED, Distributions
from flowvqtalker.motion.emotions import EMOTION_TARGETS
from flowvqtalker.motion.generate import Generators, Motion, Style, draw_still, draw_style, generate_motion

__all__ = ["DECLARED", "EMOTION_TARGETS", "Distributions", "Generators", "Motion", "Style", "draw_still", "draw_style", "generate_motion"]
