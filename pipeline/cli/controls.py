"""What a user asks of a face in words and files: an emotion, a blend or a schedule as a track of the library."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.flow.control import EmotionTrack, blend, one_emotion, schedule
from flowvqtalker.flow.sampling import MOST_INTENSE
from pipeline.errors import PipelineError

#: Columns of a schedule file (docs/control.md).
SCHEDULE_COLUMNS = ("second", "emotion", "intensity")
T = TypeVar("T")


def mended(call: Callable[[], T], where: str, cure: str) -> T:
    """The call's value; what the library refuses becomes an error with a place and a cure."""
    try:
        return call()
    except ValueError as error:
        raise PipelineError(f"{where}{error}", cure) from error


def read_schedule(path: Path) -> EmotionTrack:
    """Track of a schedule file: CSV with the columns second, emotion, intensity, in order of time.

    Raises:
        PipelineError: the file is missing or breaks the format; names file, line, value and cure.
    """
    cure = f"write `{','.join(SCHEDULE_COLUMNS)}` as the first line, then rows like `0.0,neutral,1` and `2.5,happy,0.8` (docs/control.md)"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    except FileNotFoundError as error:
        raise PipelineError(f"{path}: no such file", "name a CSV file with --schedule") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PipelineError(f"{path}: not a readable CSV file ({error})", cure) from error
    if not lines or tuple(cell.strip() for cell in lines[0][1]) != SCHEDULE_COLUMNS:
        first = ",".join(lines[0][1]) if lines else ""
        raise PipelineError(f"{path}: expected the columns {','.join(SCHEDULE_COLUMNS)}, got {first!r}", cure)
    rows: list[tuple[float, str, float]] = []
    for number, row in lines[1:]:
        where, cells = f"{path}, line {number}", [cell.strip() for cell in row]
        if len(cells) != len(SCHEDULE_COLUMNS):
            raise PipelineError(f"{where}: expected {len(SCHEDULE_COLUMNS)} values, got {len(cells)}: {','.join(row)!r}", cure)
        second, intensity = (_number(cells[place], where, SCHEDULE_COLUMNS[place]) for place in (0, 2))
        if cells[1] not in EMOTIONS:
            raise PipelineError(f"{where}: emotion {cells[1]!r} is not known", f"use one of {', '.join(EMOTIONS)}")
        if not 0 <= intensity <= MOST_INTENSE:
            raise PipelineError(f"{where}: intensity {cells[2]} is out of range", f"use a number in [0, {MOST_INTENSE}]")
        if second < (rows[-1][0] if rows else 0):
            raise PipelineError(
                f"{where}: second {cells[0]} comes after {rows[-1][0] if rows else 0:g}",
                f"sort the rows by second, from 0 on; a jump is two rows {1 / FPS_HZ:g} s apart, rows of the same second are added up",
            )
        rows.append((second, cells[1], intensity))
    if not rows:
        raise PipelineError(f"{path}: no row behind the first line", cure)
    return mended(lambda: schedule(rows), f"{path}: ", f"keep the sum of the intensities of one second in [0, {MOST_INTENSE}]")


def _number(text: str, where: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise PipelineError(f"{where}: {column} {text!r} is not a number", "write numbers with a point, such as 2.5")
    return value


def wished_track(
    emotion: str | None,
    intensity: float | None,
    other: str | None,
    share: float | None,
    schedule_file: Path | None,
    emotion_from: Path | None,
) -> EmotionTrack | None:
    """Track that the options of the command line ask for; None when a reference clip decides.

    Args:
        emotion: of ``--emotion``, or None.
        intensity: of ``--intensity``, or None.
        other: of ``--blend``, or None.
        share: of ``--blend-share``, or None.
        schedule_file: of ``--schedule``, or None.
        emotion_from: of ``--emotion-from``, or None.

    Raises:
        PipelineError: options that do not go together.
    """
    named = {
        "--emotion": emotion, "--intensity": intensity, "--blend": other, "--blend-share": share,
        "--schedule": schedule_file, "--emotion-from": emotion_from,
    }  # fmt: skip
    for ruler, allowed in (("--schedule", set()), ("--emotion-from", {"--intensity"})):
        beside = [name for name, value in named.items() if value is not None and name != ruler and name not in allowed]
        if named[ruler] is not None and beside:
            raise PipelineError(f"{ruler} and {beside[0]} both say what the face shows", f"leave out {' and '.join(beside)}, or {ruler}")
    if share is not None and other is None:
        raise PipelineError(f"--blend-share {share:g} has no second emotion", "name it with --blend")
    if emotion_from is not None:
        return None
    if schedule_file is not None:
        return read_schedule(schedule_file)
    strength = 1.0 if intensity is None else intensity
    if other is None:
        return one_emotion(emotion or "neutral", strength)
    return blend(emotion or "neutral", other, 0.5 if share is None else share, strength)
