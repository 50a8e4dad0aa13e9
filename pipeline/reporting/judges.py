"""How good the judges themselves are, in one sentence each: their own test on real clips, beside the numbers that they give."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from flowvqtalker.constants import EMOTIONS
from pipeline.evaluation.aims import AIMS

__all__ = ["NOT_KNOWN", "judge_note", "own_accuracy"]

NOT_KNOWN = "own accuracy not known"
_NAMES = {"emotion": "Emotion judge", "syncnet": "Sync judge", "features": "Feature network"}
_LEVEL = re.compile(r"test_emotion_level_(\d+)_acc_pct")


def own_accuracy(kind: str, own_test: Mapping[str, Any]) -> str:
    """What a judge reached on real test clips, as the end of a sentence.

    Args:
        kind: "emotion", "syncnet" or "features".
        own_test: numbers of the experts' metrics.json (percentages, counts, losses).

    Returns:
        Words without a full stop; `NOT_KNOWN` for another kind, or where the numbers are not there.
    """
    numbers = {name: float(value) for name, value in own_test.items() if isinstance(value, (int, float)) and math.isfinite(value)}
    text = {"emotion": _emotion, "syncnet": _sync, "features": _features}.get(kind, lambda _: "")(numbers)
    if not text:
        return NOT_KNOWN
    missed = [aim for aim in AIMS if aim.kind == kind and aim.value in numbers and numbers[aim.value] < aim.least]
    return text + "".join(f"; the aim of {aim.least:g} % is missed" for aim in missed)


def judge_note(judges: Mapping[str, Any]) -> str:
    """One sentence for each judge of a run; "" when the run says nothing about its judges.

    Args:
        judges: what `evaluate` wrote: `sha256` of each judge that was used, `own_test` with its numbers.
    """
    used, own_test = judges.get("sha256") or {}, judges.get("own_test") or {}
    sentences = [f"{name}: {own_accuracy(kind, own_test)}." for kind, name in _NAMES.items() if kind in used]
    return f"The judges' own accuracy on real test clips. {' '.join(sentences)}" if sentences else ""


def _percent(value: float) -> str:
    return f"{value:.1f} %"


def _emotion(numbers: Mapping[str, float]) -> str:
    pooled = numbers.get("test_emotion_clip_acc_pct")
    if pooled is None:
        return ""
    count = f" of {numbers['test_emotion_clips']:.0f} clips" if "test_emotion_clips" in numbers else " of the clips"
    levels = sorted((int(found[1]), value) for name, value in numbers.items() if (found := _LEVEL.fullmatch(name)))
    by_level = ", ".join(f"level {level} {_percent(value)}" for level, value in levels)
    return f"{_percent(pooled)}{count} named rightly" + (f" ({by_level})" if by_level else "")


def _sync(numbers: Mapping[str, float]) -> str:
    shares = [
        (words, numbers[name])
        for words, name in (("exact in", "test_sync_exact_pct"), ("within 1 frame in", "test_sync_within_1_pct"))
        if name in numbers
    ]
    if not shares:
        return ""
    count = f"{numbers['test_sync_windows']:.0f} " if "test_sync_windows" in numbers else "the "
    return f"offset {' and '.join(f'{words} {_percent(value)}' for words, value in shares)} of {count}windows of 1 s"


def _features(numbers: Mapping[str, float]) -> str:
    """It makes features, not verdicts: what its heads reach says what the features hold."""
    parts = []
    if "test_features_damage" in numbers:
        parts.append(f"mean squared error of the damage that it estimates {numbers['test_features_damage']:.4f}")
    if "test_features_landmarks" in numbers:
        parts.append(f"landmark loss {numbers['test_features_landmarks']:.4f}")
    if "test_features_emotion" in numbers:
        even = math.log(len(EMOTIONS))
        parts.append(f"cross-entropy of the emotion {numbers['test_features_emotion']:.2f} nat (an even guess has {even:.2f})")
    return f"on damaged test pictures {', '.join(parts)}; it gives features, no verdicts, so it has no accuracy" if parts else ""
