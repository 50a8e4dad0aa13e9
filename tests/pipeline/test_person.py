"""One real person: which recordings are trained on, what is refused, and what the table measures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline import corpus, media
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.params import read_config, validate
from pipeline.stages import run_root
from pipeline.tools import person

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "configs" / "person.yaml"


def values_of_config():
    return read_config(REPOSITORY / "params.yaml", CONFIG)


def write_recording(path, rng, n_frames=30, picture=None, sound=None):
    """A video of its own picture that moves, with a wav beside its folder as the sample media have it."""
    picture = rng.integers(0, 255, (48, 48, 3)) if picture is None else picture
    frames = np.stack([np.roll(picture, i, axis=1) for i in range(n_frames)]).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write_video(path, frames, crf=1)
    sound = rng.normal(0, 0.1, n_frames * 640).astype(np.float32) if sound is None else sound
    wav = path.parents[1] / "wav" / f"{path.stem}.wav"
    wav.parent.mkdir(exist_ok=True)
    media.write_sound(wav, sound)
    return picture, sound


@pytest.fixture
def recordings(tmp_path):
    """Two recordings to train on, one to test on, and a copy of the test picture in a sibling folder, as the style clips are."""
    rng = np.random.default_rng(0)
    root = tmp_path / "all" / "source"
    made = {name: write_recording(root / "video" / f"{name}.mp4", rng) for name in ("one", "two", "three")}
    write_recording(tmp_path / "all" / "style" / "video" / "three.mp4", rng, picture=made["three"][0])
    return root


TRAIN, TEST = ("video/one.mp4", "video/two.mp4"), "video/three.mp4"


def test_the_configuration_holds_together():
    values = values_of_config()
    params = validate(values)
    (source,) = params["corpus"].sources
    assert run_root(values) / "data/recordings" == Path(source.root) and source.shared_identities
    assert {"codebook", "imagegen", "test"} == set(source.uses)
    assert set(params["generate"].methods) >= set(person.METHODS) and not params["generate"].flow_variant
    assert list(params["imagegen"].variants) == ["full"]


def test_the_laid_out_folder_gives_the_splits(recordings, tmp_path):
    folder = tmp_path / "run" / "recordings"
    person.lay_out(recordings, TRAIN, TEST, folder)
    person.lay_out(recordings, TRAIN, TEST, folder)  # again: older links go
    values = values_of_config()
    values["corpus"]["sources"][0]["root"] = str(folder)
    params = validate(values)["corpus"]
    out = tmp_path / "run" / "data" / "corpus" / "index.csv"
    ctx = Context("corpus", "", json.dumps({"stage": "corpus", "seed": 1, "params": {}}), tmp_path, out, {}, 1, {"corpus": params})
    rows = {item.clip: item.row for item in corpus.make_items(ctx)}
    assert {clip: row["split"] for clip, row in rows.items()} == {"one": "train", "two": "train", "three": "test"}
    assert rows["three"]["uses"] == "test" and rows["one"]["uses"] == "codebook+imagegen"
    assert len({row["identity"] for row in rows.values()}) == 3
    assert all(row["sidecar"] == f"person:{clip}.wav" for clip, row in rows.items())
    assert all("may be shared" in row["reason"] for row in rows.values())


def test_recoloured_pieces_are_training_people_of_their_own_and_never_of_the_test_recording(recordings, tmp_path):
    folder = tmp_path / "run"
    person.lay_out(recordings, TRAIN, TEST, folder, recoloured=2)
    lines = (folder / "index.csv").read_text().splitlines()[1:]
    extra = [line.split(",") for line in lines if "recoloured" in line]
    assert [(file, split) for file, _, split in extra] == [
        (f"{name}_recoloured{i}.mp4", "train") for name in ("one", "two") for i in (1, 2)
    ]
    first, second = (media.read_video_at(folder / f"one_recoloured{i}.mp4") for i in (1, 2))
    assert first.shape == (30, 48, 48, 3) and np.abs(first.astype(int) - second).mean() > 5


def test_recolouring_keeps_black_and_white_apart_and_is_the_same_for_all_frames():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    frames[1] = frames[0]
    made = person.recolour(frames, np.random.default_rng(5))
    assert made.dtype == np.uint8 and (made[0] == made[1]).all()
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    assert (np.diff(person.recolour(ramp, np.random.default_rng(5)).astype(int), axis=0) >= 0).all()
    assert (person.recolour(ramp[:1], np.random.default_rng(5)) == 0).all()


def test_the_test_recording_is_found_where_it_is_repeated(recordings):
    found = {one.file: one for one in person.look(recordings, TRAIN, TEST)}
    assert list(found)[:2] == ["source/video/one.mp4", "source/video/two.mp4"]
    assert not found["source/video/one.mp4"].repeats and found["source/video/one.mp4"].sound < 0.2
    style = found["style/video/three.mp4"]
    assert style.repeats and style.same_share == 1.0 and style.sound < 0.2


def test_a_training_recording_that_repeats_the_test_is_refused(recordings):
    frames = media.read_video_at(recordings / TEST)
    media.write_video(
        recordings / "video/one.mp4", np.concatenate([media.read_video_at(recordings / "video/two.mp4"), frames[6:16]]), crf=1
    )
    with pytest.raises(PipelineError, match=r"one\.mp4 repeats video/three\.mp4"):
        person.look(recordings, TRAIN, TEST)


def test_a_repeated_sound_is_refused_too(recordings):
    sound = media.read_sound(recordings / "wav/three.wav")
    assert sound is not None
    media.write_sound(recordings / "wav/two.wav", 0.5 * sound[3200:])
    with pytest.raises(PipelineError, match=r"two\.mp4 repeats"):
        person.look(recordings, TRAIN, TEST)


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (TRAIN, "video/four.mp4", "four.mp4: there is no such recording"),
        (("video/nobody.mp4",), TEST, "nobody.mp4: there is no such recording"),
        ((*TRAIN, TEST), TEST, "two recordings have one name"),
        (("video/copy.mp4",), TEST, "are the same file"),
    ],
)
def test_what_cannot_be_tested_is_refused_before_anything_is_made(recordings, train, test, words):
    (recordings / "video/copy.mp4").write_bytes((recordings / TEST).read_bytes())
    with pytest.raises(PipelineError, match=words):
        person.look(recordings, train, test)


def test_absent_media_are_named_with_the_cure(tmp_path):
    with pytest.raises(PipelineError, match="there is no such recording") as error:
        person.run(tmp_path, person.TRAIN, person.TEST, str(CONFIG), "1", "", tmp_path / "out", 0)
    assert "--media" in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.shared
def test_the_style_clip_repeats_the_sample_test_recording_and_the_training_clips_do_not(shared_folder):
    folder = shared_folder / "media/styletalk/source_video"
    if not (folder / person.TEST).is_file():
        pytest.skip(f"no sample recordings in {folder}")
    found = {one.file: one for one in person.look(folder, person.TRAIN, person.TEST)}
    assert [one.repeats for one in found.values()][:2] == [False, False]
    assert found["style_clips/video/Obama_clip3.mp4"].repeats


def test_sound_likeness_finds_a_piece_at_any_shift_and_loudness():
    rng = np.random.default_rng(1)
    whole = rng.normal(size=8000)
    assert person.sound_likeness(whole, -0.2 * whole[3000:7000]) == pytest.approx(1.0, abs=1e-3)
    assert person.sound_likeness(whole[:5000], whole[2000:]) == pytest.approx(1.0, abs=1e-3)
    assert person.sound_likeness(whole, rng.normal(size=5000)) < 0.3
    assert np.isnan(person.sound_likeness(whole, None)) and np.isnan(person.sound_likeness(whole, np.zeros(900)))


def a_face(n_frames, size=64):
    """(T, 68, 2) px: points of a plain face, lips that open and close."""
    angle = np.linspace(0, np.pi, 17)
    points = np.zeros((n_frames, 68, 2))
    points[:, :17] = np.stack([32 - 24 * np.cos(angle), 28 + 30 * np.sin(angle)], -1)
    points[:, 17:27] = np.stack([np.linspace(12, 52, 10), np.full(10, 16)], -1)
    points[:, 27:36] = np.stack([np.full(9, 32), np.linspace(24, 38, 9)], -1)
    for start, u in ((36, 18), (42, 46)):
        turn = np.pi - np.arange(6) * np.pi / 3
        points[:, start : start + 6] = np.stack([u + 5 * np.cos(turn), 24 - 2 * np.sin(turn)], -1)
    opening = 3 + 2 * np.sin(np.arange(n_frames))[:, None]
    for start, stop, width in ((48, 60, 10.0), (60, 68, 7.0)):
        turn = np.pi - np.linspace(0, 2 * np.pi, stop - start, endpoint=False)
        points[:, start:stop, 0] = 32 + width * np.cos(turn)
        points[:, start:stop, 1] = 46 - opening * np.sin(turn)
    return points.astype(np.float32) * (size / 64)


def test_numbers_of_the_table_on_known_frames():
    rng = np.random.default_rng(2)
    points = a_face(60)
    truth = rng.integers(60, 180, (60, 64, 64, 3)).astype(np.uint8)
    shifted = truth + 10  # 20 log10(255 / 10) everywhere
    away = points + np.array([2.0, 0.0], np.float32)
    values = person.compare(shifted, truth, away, points)
    for name in ("psnr_db", "psnr_face_db", "psnr_mouth_db", "psnr_eyes_db"):
        assert values[name] == pytest.approx(20 * np.log10(25.5), abs=1e-3)
    assert values["m_lmd_centred_px"] == pytest.approx(0.0, abs=1e-4) and values["m_lmd_raw_px"] == pytest.approx(1.0 * 256 / 64, abs=1e-4)
    only_mouth = truth.copy()
    masks = person.pixel_masks(points, 64)
    only_mouth[masks["mouth"]] += 10
    values = person.compare(only_mouth, truth, points, points)
    assert values["psnr_mouth_db"] == pytest.approx(20 * np.log10(25.5), abs=1e-3) and np.isnan(values["psnr_eyes_db"]).all()
    assert (values["psnr_face_db"] > values["psnr_mouth_db"]).all()


def test_rows_measure_sharpness_beside_ceiling_and_truth_and_leave_the_source_frame_out(monkeypatch):
    monkeypatch.setattr(person, "BLOCK_S", 0.2)
    rng = np.random.default_rng(3)
    points = a_face(50)
    truth = rng.integers(0, 255, (50, 64, 64, 3)).astype(np.uint8)
    half = (truth.astype(np.float64) * 0.5 + 60).astype(np.uint8)
    quarter = (truth.astype(np.float64) * 0.25 + 90).astype(np.uint8)
    frames = {
        "truth": truth,
        "ground_truth": truth,
        "codebook_ceiling": half,
        "vqig_on_fitted": quarter,
        "copy_source": np.repeat(truth[:1], 50, 0),
    }
    counts = np.ones(50, bool)
    counts[0] = False
    where = dict.fromkeys(frames, points) | {"copy_source": np.repeat(points[:1], 50, 0)}
    rows = {row.method: row for row in person.make_rows(frames, where, counts)}
    assert list(rows) == list(person.METHODS)
    assert rows["vqig_on_fitted"].of_ceiling == pytest.approx(0.5, abs=0.01)
    assert rows["codebook_ceiling"].of_truth == pytest.approx(0.5, abs=0.01)
    assert rows["vqig_on_fitted"].numbers["psnr_db"].n == 49 and rows["vqig_on_fitted"].lip_correlation == pytest.approx(1.0)
    assert np.isnan(rows["copy_source"].lip_correlation) and rows["copy_source"].numbers["m_lmd_centred_px"].value > 0.5
    low, high = rows["vqig_on_fitted"].numbers["psnr_db"].ci
    assert low < rows["vqig_on_fitted"].numbers["psnr_db"].value < high
    table = person.to_table(list(rows.values()))
    assert "vqig_on_fitted,of_ceiling,0." in table and len(person.table_lines(list(rows.values()))) == 2 * (2 + len(rows)) + 1


def test_intervals_of_a_short_clip_say_that_there_are_too_few_pieces():
    assert person.estimate(np.arange(100.0), "short").ci is None
    assert person.estimate(np.arange(500.0), "long").ci is not None


def test_closed_eyes_are_counted_in_the_frames_where_they_are_closed_in_truth():
    points = a_face(100)
    for eye in (slice(36, 42), slice(42, 48)):
        middle = points[20:24, eye, 1].mean(1, keepdims=True)
        points[20:24, eye, 1] = middle
    half = points.copy()
    half[20:22] = points[:2]
    assert person.closed_share(points, points) == (1.0, 4)
    assert person.closed_share(half, points) == (0.5, 4)
    share, count = person.closed_share(points, a_face(100))
    assert np.isnan(share) and count == 0


def test_pictures_show_the_widest_mouth_and_cuts_keep_their_size():
    points = a_face(200)
    points[120, 60:68, 1] = 46 + 3 * (points[120, 60:68, 1] - 46)
    chosen = person.shown_frames(points, np.ones(200, bool), 8)
    assert 120 in chosen and len(chosen) <= 8
    frame = np.zeros((64, 64, 3), np.uint8)
    for centre in ((32, 32), (0, 0), (63, 70)):
        assert person.cut_out(frame, np.array(centre), (12, 9), 3).shape == (54, 72, 3)
