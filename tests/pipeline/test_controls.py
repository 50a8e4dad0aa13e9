"""What a user may ask of a face: schedule files and options, and what the command says when they are wrong."""

from pathlib import Path

import pytest
import torch

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.flow.control import blend, one_emotion, schedule
from pipeline.cli.controls import read_schedule, wished_track
from pipeline.errors import PipelineError

HEAD = "second,emotion,intensity\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my schedule.csv"
    path.write_text(text, encoding="utf-8")
    return path


def wish(**options):
    names = ("emotion", "intensity", "other", "share", "schedule_file", "emotion_from")
    return wished_track(*(options.get(name) for name in names))


def test_a_schedule_file_is_read(tmp_path):
    made = read_schedule(write(tmp_path, HEAD + "0,neutral,1\n 1.5 , happy , 0.8\n\n3,happy,0.6\n3,sad,0.4\r\n"))
    assert made == schedule([(0, "neutral", 1), (1.5, "happy", 0.8), (3, "happy", 0.6), (3, "sad", 0.4)])
    assert read_schedule(write(tmp_path, "\ufeff" + HEAD + "0,fear,1")) == one_emotion("fear")


@pytest.mark.parametrize(
    ("text", "message", "cure"),
    [
        ("", "expected the columns second,emotion,intensity, got ''", "first line"),
        ("0,happy,1\n", "expected the columns second,emotion,intensity, got '0,happy,1'", "first line"),
        (HEAD, "no row behind the first line", "first line"),
        (HEAD + "0,happy\n", "line 2: expected 3 values, got 2: '0,happy'", "first line"),
        (HEAD + "\n0;happy;1\n", "line 3: expected 3 values, got 1: '0;happy;1'", "first line"),
        (HEAD + "zero,happy,1\n", "line 2: second 'zero' is not a number", "numbers with a point"),
        (HEAD + "0,happy,nan\n", "line 2: intensity 'nan' is not a number", "numbers with a point"),
        (HEAD + "0,joyful,1\n", "line 2: emotion 'joyful' is not known", "use one of neutral, angry"),
        (HEAD + "0,happy,1.6\n", "line 2: intensity 1.6 is out of range", r"in \[0, 1.5\]"),
        (HEAD + "2,happy,1\n1,sad,1\n", "line 3: second 1 comes after 2", "sort the rows"),
        (HEAD + "-1,happy,1\n", "line 2: second -1 comes after 0", "from 0 on"),
        (HEAD + "0,happy,1\n0,sad,1\n", "sum in", "keep the sum"),
    ],
)
def test_broken_schedules_name_file_line_value_and_cure(tmp_path, text, message, cure):
    path = write(tmp_path, text)
    with pytest.raises(PipelineError, match=cure) as caught:
        read_schedule(path)
    assert str(path) in caught.value.message and message in caught.value.message


def test_files_that_are_no_schedule_are_named(tmp_path):
    with pytest.raises(PipelineError, match=r"none\.csv: no such file"):
        read_schedule(tmp_path / "none.csv")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(PipelineError, match=r"picture\.png: not a readable CSV file"):
        read_schedule(tmp_path / "picture.png")


def test_options_become_tracks(tmp_path):
    assert wish() == one_emotion("neutral") and wish(emotion="sad", intensity=0.5) == one_emotion("sad", 0.5)
    assert wish(emotion="happy", other="sad", share=0.4, intensity=0.8) == blend("happy", "sad", 0.4, 0.8)
    assert wish(emotion="happy", other="sad") == blend("happy", "sad", 0.5)
    assert torch.equal(wish(other="sad", share=0.3).at(0, 1)[0], one_emotion("sad", 0.3).at(0, 1)[0])
    assert wish(schedule_file=write(tmp_path, HEAD + "0,fear,1\n")) == one_emotion("fear")
    assert wish(emotion_from=tmp_path) is None and wish(emotion_from=tmp_path, intensity=0.4) is None
    assert all(wish(emotion=emotion, intensity=1.5).at(0, 1)[1] == (1.5 if emotion != "neutral" else 0) for emotion in EMOTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule_file": Path("a.csv"), "emotion": "sad"}, "--schedule and --emotion both say"),
        ({"schedule_file": Path("a.csv"), "intensity": 1.0}, "--schedule and --intensity both say"),
        ({"emotion_from": Path("a.mp4"), "other": "sad"}, "--emotion-from and --blend both say"),
        ({"emotion_from": Path("a.mp4"), "schedule_file": Path("a.csv")}, "both say what the face shows"),
        ({"share": 0.3}, "--blend-share 0.3 has no second emotion"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(PipelineError, match=message):
        wish(**options)
