"""What the judges should reach on their own test before they judge anything: on real test clips, as the stage `experts` scores them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Aim:
    """One number of `models/experts/metrics.json` and the least that it should be.

    Attributes:
        check: name of the check in checks.json.
        kind: the judge.
        value: name of the number [%].
        count: name of the count behind it.
        of: what is counted.
        least: the aim [%].
    """

    check: str
    kind: str
    value: str
    count: str
    of: str
    least: float


#: The emotion judge is tested on all labelled talking test clips, every take of them; the sync judge on all 1 s windows of clips with sound.
AIMS: tuple[Aim, ...] = (
    Aim("emotion_judge_on_all_test_clips_pct", "emotion", "test_emotion_clip_acc_pct", "test_emotion_clips", "clips", 85.0),
    Aim("sync_judge_exact_pct", "syncnet", "test_sync_exact_pct", "test_sync_windows", "windows of 1 s", 90.0),
)
