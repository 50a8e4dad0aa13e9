"""From a folder of videos to crops: the adapter, the step, and every kind of bad clip, with a stand-in that finds a bright square."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from scipy import ndimage

from flowvqtalker.landmarks.faces import centre_of, nearest_to, size_of
from flowvqtalker.landmarks.schema import Detections, join_detections
from pipeline import crop, facetracks, media
from pipeline.adapters import folder as folder_adapter
from pipeline.adapters import resolve_source
from pipeline.backends import make_landmarker
from pipeline.clipstage import Item, process_item
from pipeline.contracts import check_table
from pipeline.errors import ClipError, PipelineError
from pipeline.params import read_config
from pipeline.params.corpus import CorpusParams, FolderSource, Source
from pipeline.params.crop import CropParams
from pipeline.params.footage import FootageParams
from pipeline.params.landmarks import LandmarksParams

CROP = CropParams(
    size_px=64, scale=1.5, shift_up_share=0.0, max_gap_frames=3, max_jump_share=0.5, min_frames=10, min_face_px=12, min_present_share=0.7,
    silent_db=-50, crf=10, max_failed_share=1.0,
)  # fmt: skip
SPLIT = FolderSource(val_share=0.1, test_share=0.2)
FOOTAGE = FootageParams(**read_config(Path(__file__).resolve().parents[2] / "params.yaml")["footage"])


class BrightSquare:
    """Finds a bright square and calls its outline a face: 68 points evenly around it."""

    def detect(self, frames: np.ndarray, *, video: bool = True) -> Detections:
        points = np.full((len(frames), 68, 2), np.nan, np.float32)
        turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        ring = np.stack([np.cos(turn), np.sin(turn)], -1)
        ring /= np.abs(ring).max(axis=1, keepdims=True)
        for index, frame in enumerate(frames):
            rows, columns = np.nonzero(frame.min(axis=-1) > 190)
            if len(rows) > 50:
                centre = np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2
                points[index] = centre + ring * (np.ptp(columns) / 2)
        return Detections(points, np.isfinite(points).all(axis=(1, 2)).astype(np.float32))

    def detect_pieces(self, pieces) -> Detections:
        return join_detections([self.detect(piece) for piece in pieces])

    def find_faces(self, pictures, max_faces: int):
        """Every bright square of a picture, the leftmost first."""
        for picture in pictures:
            parts, count = ndimage.label(picture.min(axis=-1) > 190)
            places = [place for place in ndimage.find_objects(parts) if np.prod([one.stop - one.start for one in place]) > 50]
            boxes = [(place[1].start, place[0].start, place[1].stop - 1, place[0].stop - 1) for place in places]
            yield np.array(sorted(boxes)[:max_faces], np.float32).reshape(-1, 4)
            assert count >= 0

    def follow(self, pieces, boxes: np.ndarray, segment: np.ndarray, crowded: np.ndarray) -> Detections:
        """The square nearest to where it is expected."""
        points, done = np.full((len(boxes), 68, 2), np.nan, np.float32), 0
        turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        ring = np.stack([np.cos(turn), np.sin(turn)], -1)
        ring /= np.abs(ring).max(axis=1, keepdims=True)
        for frames in pieces:
            for index, found in enumerate(self.find_faces(frames, 9)):
                which = nearest_to(boxes[done + index], found) if segment[done + index] >= 0 else None
                if which is not None:
                    box = found[which]
                    points[done + index] = centre_of(box) + ring * (size_of(box) / 2)
            done += len(frames)
        return Detections(points, np.isfinite(points).all(axis=(1, 2)).astype(np.float32))


def make_video(path: Path, centres: list[tuple[int, int] | None], *, sound: float | None = 0.3, half: int = 12) -> Path:
    """Square of side 2 * half + 1 at each frame's centre, none where None; a tone as sound."""
    frames = np.full((len(centres), 96, 128, 3), 30, np.uint8)
    for frame, centre in zip(frames, centres, strict=True):
        if centre is not None:
            u, v = centre
            frame[v - half : v + half + 1, u - half : u + half + 1] = 240
    tone = None if sound is None else (sound * np.sin(np.arange(len(centres) * 640) * 0.2)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write_video(path, frames, sound=tone, crf=5)
    return path


def make_ctx(root: Path, **changes) -> SimpleNamespace:
    """As much of a Context as adapter and step use."""
    sources = (Source(name="clips", adapter="folder", root=str(root), uses=("codebook", "flow", "imagegen", "judges", "test")),)
    synthetic = {} if "synthetic" in changes else None
    corpus = CorpusParams.model_construct(sources=sources, folder=SPLIT, synthetic=synthetic, max_failed_share=1.0)
    landmarks = LandmarksParams(backend="mediapipe", min_score=0.5, smooth_sd_frames=0.0, fan_flip=False, precision="fp32")
    warnings: list[str] = []
    log = SimpleNamespace(
        info=lambda *a: None, warning=lambda text, *a: warnings.append(text % a), exception=lambda *a: warnings.append("exception")
    )
    return SimpleNamespace(
        cfg=changes.get("cfg", CROP), params={"corpus": corpus, "landmarks": landmarks, "footage": changes.get("footage", FOOTAGE)}, log=log, warnings=warnings, stage="crop", stamp_text="{}",
        reads={"corpus": root / "nowhere" / "index.csv"}, cache=root / ".cache", model_folder=lambda name: root,
    )  # fmt: skip


def scan(root: Path) -> tuple[SimpleNamespace, list[Item]]:
    ctx = make_ctx(root)
    ctx.cfg = SimpleNamespace(folder=SPLIT)
    return ctx, folder_adapter.make_items(ctx, ctx.params["corpus"].sources[0])


def index_rows(root: Path) -> dict[str, dict]:
    """Rows of the corpus index as the step would make them, failures included."""
    ctx, items = scan(root)
    cache = SimpleNamespace(
        get=lambda item: None, put=lambda item: _scratch(root / ".work" / item.clip), attempt=lambda item: nullcontext()
    )
    stage = SimpleNamespace(process=folder_adapter.process)
    rows = [row for item in items for row in process_item(stage, item, lambda: None, ctx, cache)]
    return {row["clip"]: row for row in rows}


class _scratch:  # noqa: N801
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder, []

    def __exit__(self, *_):
        return False


def crop_one(root: Path, clip: str, out: Path, **changes) -> list[dict]:
    row = index_rows(root)[clip]
    assert row["status"] == "ok", row
    out.mkdir(exist_ok=True)
    return crop.crop_clip(Item(clip, (), row), BrightSquare(), make_ctx(root, **changes), out)


def test_a_plain_clip_becomes_one_square_crop(tmp_path):
    root = tmp_path / "clips"
    make_video(root / "anna" / "one.mp4", [(60 + index // 5, 40) for index in range(30)])
    (row,) = crop_one(root, "anna_one", tmp_path / "out")
    assert (row["clip"], row["source_clip"], row["n_frames"], row["start_frame"], row["audio_status"]) == (
        "anna_one",
        "anna_one",
        30,
        0,
        "ok",
    )
    assert row["identity"] == "anna" and row["emotion"] == "neutral"
    check_table(__import__("pandas").DataFrame([{"status": "ok", "reason": "", **row}]), "crop", "test")
    frames = media.read_video_at(tmp_path / "out" / row["video"])
    assert frames.shape == (30, 64, 64, 3)
    with np.load(tmp_path / "out" / row["landmarks"]) as data:
        points, box, present = data["landmarks_px"], data["box"], data["present"]
    assert present.all() and box[2] - box[0] == box[3] - box[1]
    # the points lie on the square's outline in the decoded crop, frame by frame
    found = BrightSquare().detect(frames).landmarks_px
    assert np.abs(found - points).max() < 1.5
    sound = media.read_sound(tmp_path / "out" / row["sound"])
    assert sound.shape == (30 * 640,)
    assert 0.4 < row["face_share"] < 0.75


def test_tracks_split_and_are_named_by_their_start(tmp_path):
    root = tmp_path / "clips"
    centres = [(30, 40)] * 15 + [None] * 10 + [(30, 40)] * 4 + [None] * 10 + [(90, 50)] * 20
    make_video(root / "a" / "cut.mp4", centres)
    rows = crop_one(root, "a_cut", tmp_path / "out")
    assert [(row["clip"], row["start_frame"], row["n_frames"]) for row in rows] == [("a_cut_0_0", 0, 15), ("a_cut_1_39", 39, 20)]
    assert all("fewer than crop.min_frames" in row["reason"] for row in rows)
    assert {row["source_clip"] for row in rows} == {"a_cut"}
    full = media.read_sound(root / "a" / "cut.mp4", n_frames=len(centres))
    np.testing.assert_allclose(media.read_sound(tmp_path / "out" / "a_cut_1_39.wav"), full[39 * 640 : 59 * 640], atol=1e-4)


def test_short_gaps_stay_in_the_track_as_nan(tmp_path):
    root = tmp_path / "clips"
    make_video(root / "a" / "gap.mp4", [(60, 40)] * 10 + [None] * 2 + [(60, 40)] * 10)
    (row,) = crop_one(root, "a_gap", tmp_path / "out")
    with np.load(tmp_path / "out" / row["landmarks"]) as data:
        assert data["present"].sum() == 20 and np.isnan(data["landmarks_px"][10:12]).all() and np.isfinite(data["landmarks_px"][12:]).all()


@pytest.mark.parametrize(
    ("centres", "half", "words"),
    [
        ([None] * 20, 12, "no face found in any of 20 frames"),
        ([(60, 40)] * 5, 12, "crop.min_frames"),
        ([(60, 40)], 12, "crop.min_frames"),
        ([(60, 40)] * 20, 4, "crop.min_face_px"),
        (([(60, 40)] + [None] * 3) * 8, 12, "crop.min_present_share"),
    ],
)
def test_unusable_clips_are_rejected_with_the_reason(tmp_path, centres, half, words):
    root = tmp_path / "clips"
    make_video(root / "a" / "bad.mp4", centres, half=half)
    with pytest.raises(ClipError) as caught:
        crop_one(root, "a_bad", tmp_path / "out")
    assert caught.value.rejected and words in caught.value.message
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("sound", "status", "files"), [(None, "none", 2), (0.0, "silent", 3), (0.3, "ok", 3)])
def test_sound_is_told_apart_from_silence_and_from_none(tmp_path, sound, status, files):
    root = tmp_path / "clips"
    make_video(root / "a" / "b.mp4", [(60, 40)] * 12, sound=sound)
    (row,) = crop_one(root, "a_b", tmp_path / "out")
    assert row["audio_status"] == status and bool(row["sound"]) == (sound is not None)
    assert len(list((tmp_path / "out").iterdir())) == files


@pytest.mark.parametrize("place", ["a/b.wav", "a/wav/b.wav", "audio/b.wav"])
def test_sidecar_wav_is_the_sound(tmp_path, place):
    root = tmp_path / "clips"
    make_video(root / "a" / "b.mp4", [(60, 40)] * 12, sound=None)
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    tone = (0.5 * np.sin(2 * np.pi * 300 * np.arange(8000) / 8000) * 32767).astype(np.int16)
    with av.open(str(root / place), "w") as box:  # 8 kHz stereo, longer than the video
        stream = box.add_stream("pcm_s16le", rate=8000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None], format="s16", layout="stereo")
        frame.sample_rate = 8000
        box.mux(stream.encode(frame))
        box.mux(stream.encode(None))
    (row,) = crop_one(root, "a_b", tmp_path / "out")
    assert row["audio_status"] == "ok"
    sound = media.read_sound(tmp_path / "out" / row["sound"])
    assert sound.shape == (12 * 640,)
    assert np.abs(np.fft.rfft(sound)).argmax() == pytest.approx(300 * len(sound) / 16000, abs=1)


def test_long_videos_are_decoded_twice_with_the_same_result(tmp_path, monkeypatch):
    root = tmp_path / "clips"
    make_video(root / "a" / "b.mp4", [(60, 40)] * 100)
    crop_one(root, "a_b", tmp_path / "kept")
    monkeypatch.setattr(facetracks, "KEEP_BYTES", 1000)
    crop_one(root, "a_b", tmp_path / "streamed")
    for name in ("a_b.mp4", "a_b.wav", "a_b.npz"):
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "streamed" / name).read_bytes()


def test_names_with_accents_and_spaces_and_other_scripts(tmp_path):
    root = tmp_path / "clips"
    make_video(root / "Zoë Å" / "Été à Paris.mp4", [(60, 40)] * 12)
    make_video(root / "Zoë Å" / "видео.mp4", [(60, 40)] * 12)
    rows = index_rows(root)
    assert len(rows) == 2 and "zoe_a_ete_a_paris" in rows
    assert all(row["status"] == "ok" and row["identity"] == "zoe_a" for row in rows.values())
    (row,) = crop_one(root, "zoe_a_ete_a_paris", tmp_path / "out")
    assert row["n_frames"] == 12


def test_two_files_with_one_id_both_live_and_say_so(tmp_path):
    root = tmp_path / "clips"
    make_video(root / "a" / "b c.mp4", [(60, 40)] * 12)
    make_video(root / "a" / "b_c.mp4", [(60, 40)] * 12)
    ctx, items = scan(root)
    assert len({item.clip for item in items}) == 2 and all(item.clip.startswith("a_b_c_") for item in items)
    assert any("b c.mp4" in line and "b_c.mp4" in line for line in ctx.warnings)
    reasons = [row["reason"] for row in index_rows(root).values()]
    assert any("'a/b c.mp4'" in reason for reason in reasons) and any("'a/b_c.mp4'" in reason for reason in reasons)


def test_unreadable_files_are_rows_with_a_reason(tmp_path):
    root = tmp_path / "clips"
    good = make_video(root / "a" / "good.mp4", [(60, 40)] * 12)
    (root / "a" / "garbage.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (root / "a" / "empty.mp4").write_bytes(b"")
    data = good.read_bytes()
    (root / "a" / "cut.mp4").write_bytes(data[: data.index(b"mdat") + 4])
    (root / "a" / "notes.txt").write_text("no video")
    (root / "index.csv").write_text("file,emotion\na/gone.mp4,happy\n")
    rows = index_rows(root)
    assert rows["a_good"]["status"] == "ok"
    for clip, words in (("a_garbage", "cannot be read"), ("a_empty", "empty"), ("a_cut", "no frames")):
        assert rows[clip]["status"] == "failed" and words in rows[clip]["reason"] and str(root) in rows[clip]["reason"]
    (gone,) = (row for clip, row in rows.items() if clip.startswith("a_gone"))
    assert gone["status"] == "failed" and "no such file" in gone["reason"]
    assert not any("notes" in clip for clip in rows)


def test_truncated_video_keeps_its_good_frames(tmp_path):
    root = tmp_path / "clips"
    rng = np.random.default_rng(0)
    path = make_video(root / "a" / "t.mp4", [(60 + int(rng.integers(-2, 3)), 40 + int(rng.integers(-2, 3))) for _ in range(75)], sound=None)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) * 3 // 4])
    (row,) = crop_one(root, "a_t", tmp_path / "out")
    assert 10 <= row["n_frames"] < 75


def test_index_csv_decides_labels(tmp_path):
    root = tmp_path / "clips"
    make_video(root / "x.mp4", [(60, 40)] * 12)
    make_video(root / "y.mp4", [(60, 40)] * 12)
    (root / "index.csv").write_text("file,identity,emotion,level,split\nx.mp4,anna,happy,3,test\n", encoding="utf-8-sig")
    rows = index_rows(root)
    assert (rows["x"]["identity"], rows["x"]["emotion"], rows["x"]["level"], rows["x"]["split"], rows["x"]["uses"]) == (
        "anna",
        "happy",
        3,
        "test",
        "test",
    )
    assert rows["x"]["reason"] == "" and "identities may be shared" in rows["y"]["reason"]
    assert rows["y"]["identity"] == "clips"  # the folder itself and rows["y"]["level"] == 0
    (root / "index.csv").write_text("file,emotion\nx.mp4,cheerful\n")
    with pytest.raises(PipelineError, match="line 2: emotion 'cheerful'"):
        scan(root)


def test_split_has_every_part_and_does_not_move(tmp_path):
    paths = [Path(f"p{index}.mp4") for index in range(200)]
    splits = folder_adapter.split_clips(paths, SPLIT)
    counts = [list(splits.values()).count(name) for name in ("train", "val", "test")]
    assert 120 <= counts[0] <= 160 and 8 <= counts[1] <= 35 and 25 <= counts[2] <= 55
    more = folder_adapter.split_clips([*paths, Path("new.mp4")], SPLIT)
    assert all(more[path] == splits[path] for path in paths)
    for count in range(3, 9):
        assert set(folder_adapter.split_clips(paths[:count], SPLIT).values()) == {"train", "val", "test"}


def test_a_folder_without_videos_or_no_folder_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="holds no video"):
        scan(tmp_path / "empty")
    with pytest.raises(PipelineError, match="there is no folder"):
        scan(tmp_path / "missing")


def test_changed_content_changes_the_key(tmp_path):
    root = tmp_path / "clips"
    path = make_video(root / "a" / "b.mp4", [(60, 40)] * 12)
    before = scan(root)[1][0].inputs
    assert scan(root)[1][0].inputs == before
    checksum = index_rows(root)["a_b"]["sha256"]
    make_video(path, [(50, 40)] * 12)
    assert scan(root)[1][0].inputs != before
    assert index_rows(root)["a_b"]["sha256"] != checksum


def test_full_disk_stops_the_step_instead_of_failing_the_clip(tmp_path, monkeypatch):
    root = tmp_path / "clips"
    make_video(root / "a" / "b.mp4", [(60, 40)] * 12)
    row = index_rows(root)["a_b"]

    def full(*_args, **_kwargs):
        raise PipelineError("a_b.mp4: no space left while writing", "free space")

    monkeypatch.setattr(media, "write_video", full)
    cache = SimpleNamespace(get=lambda item: None, put=lambda item: _scratch(tmp_path / "work"), attempt=lambda item: nullcontext())
    with pytest.raises(PipelineError, match="no space left"):
        process_item(crop.STAGE, Item("a_b", (), row), BrightSquare, make_ctx(root), cache)


def test_stills_get_a_box_each(tmp_path):
    frames = np.full((4, 96, 128, 3), 30, np.uint8)
    for index, half in enumerate((10, 14, 18)):
        frames[index, 48 - half : 49 + half, 50 - half : 51 + half] = 240
    truth = {"frames": frames, "emotion": np.arange(4), "intensity": np.linspace(0, 1, 4)}
    row = crop.crop_stills("s", truth, BrightSquare(), CROP, tmp_path)
    with np.load(tmp_path / "s.npz") as data:
        assert data["frames"].shape == (3, 64, 64, 3) and data["box"].shape == (3, 4) and data["emotion"].tolist() == [0, 1, 2]
        assert np.abs(BrightSquare().detect(data["frames"]).landmarks_px - data["landmarks_px"]).max() < 2
    assert row["n_frames"] == 3 and "1 of 4 pictures" in row["reason"]
    with pytest.raises(ClipError, match="any of 1 pictures"):
        crop.crop_stills("s", {**truth, "frames": frames[3:]}, BrightSquare(), CROP, tmp_path)


def test_missing_weights_name_file_source_and_cure(tmp_path, monkeypatch):
    monkeypatch.setenv("FVQT_ASSETS", str(tmp_path))
    monkeypatch.setenv("FVQT_SHARED", str(tmp_path))
    for backend, words in (("mediapipe", "mediapipe/face_landmarker.task"), ("face_alignment", "2DFAN4-11f355bf06.pth.tar")):
        params = LandmarksParams(backend=backend, min_score=0.5, smooth_sd_frames=0, fan_flip=False, precision="fp32")
        with pytest.raises(PipelineError) as caught:
            make_landmarker(params, tmp_path)
        assert words in caught.value.message and "make assets" in caught.value.hint and "https://" in caught.value.hint


def test_trained_back_end_refuses_a_folder(tmp_path):
    ctx = make_ctx(tmp_path)
    ctx.params["landmarks"] = LandmarksParams(backend="trained", min_score=0.5, smooth_sd_frames=0, fan_flip=False, precision="fp32")
    ctx.reads["corpus"] = tmp_path / "index.csv"
    ctx.reads["corpus"].write_text("clip,status,reason\n")
    with pytest.raises(PipelineError, match="trained"):
        crop.make_items(ctx)


def test_files_are_resolved_by_source(tmp_path):
    corpus = make_ctx(tmp_path).params["corpus"]
    assert resolve_source(corpus, "clips:a/b.mp4", tmp_path / "i") == tmp_path / "a" / "b.mp4"
    assert resolve_source(corpus, "videos/b.mp4", tmp_path / "i") == tmp_path / "i" / "videos" / "b.mp4"
    with pytest.raises(PipelineError, match="source 'gone'"):
        resolve_source(corpus, "gone:a.mp4", tmp_path)


@pytest.mark.shared
def test_mediapipe_finds_the_face_in_every_grid_frame(tmp_path, shared_folder, monkeypatch):
    monkeypatch.setenv("FVQT_SHARED", str(shared_folder))
    root = tmp_path / "grid"
    shutil.copytree(
        shared_folder / "media" / "grid", root, ignore=lambda folder, names: [name for name in names if not name.endswith(".mpg")]
    )
    ctx = make_ctx(root, cfg=CROP.model_copy(update={"size_px": 128, "min_frames": 50}))
    finder = make_landmarker(ctx.params["landmarks"], tmp_path)
    rows = index_rows(root)
    assert len(rows) == 6
    for clip, row in rows.items():
        (tmp_path / clip).mkdir()
        (made,) = crop.crop_clip(Item(clip, (), row), finder, ctx, tmp_path / clip)
        assert (made["clip"], made["n_frames"], made["audio_status"]) == (clip, 75, "ok")
        with np.load(tmp_path / clip / f"{clip}.npz") as data:
            assert data["present"].all() and data["blendshapes"].shape == (75, 52) and data["points478"].shape == (75, 478, 2)
            assert ((data["landmarks_px"] > 0) & (data["landmarks_px"] < 127)).all()
    assert json.dumps(sorted({row["split"] for row in rows.values()})) == '["test", "train", "val"]'


def two_squares(path: Path, count: int = 30) -> Path:
    """A small square on the left all the time, a larger one on the right in the last two thirds."""
    frames = np.full((count, 96, 192, 3), 30, np.uint8)
    frames[:, 40:61, 20:41] = 240
    frames[count // 3 :, 30:65, 120:155] = 240
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write_video(path, frames, crf=5)
    return path


@pytest.mark.parametrize(
    ("changes", "sizes", "starts"),
    [
        ({"faces": "persistent"}, [34], [10]),
        ({"faces": "largest"}, [34], [10]),
        ({"faces": "chosen", "chosen": {"a_two": (0.15, 0.5)}}, [20], [0]),
        ({"faces": "chosen", "chosen": {"a_two": (0.7, 0.5)}}, [34], [10]),
        ({"faces": "all"}, [20, 34], [0, 10]),
    ],
)
def test_of_two_faces_the_wanted_one_becomes_the_clip(tmp_path, changes, sizes, starts):
    root = tmp_path / "clips"
    two_squares(root / "a" / "two.mp4")
    params = FootageParams(**{**FOOTAGE.model_dump(), **changes})
    rows = crop_one(root, "a_two", tmp_path / "out", footage=params)
    assert [row["face_px"] for row in rows] == pytest.approx(sizes, abs=2)
    assert [row["start_frame"] for row in rows] == pytest.approx(starts, abs=1)
    assert all("several_faces" in row["flags"].split("+") for row in rows)


def test_a_chosen_place_must_lie_in_the_picture_and_be_asked_for():
    with pytest.raises(ValueError, match="between 0 and 1"):
        FootageParams(**{**FOOTAGE.model_dump(), "faces": "chosen", "chosen": {"a": (0.5, 1.5)}})
    with pytest.raises(ValueError, match="not 'chosen'"):
        FootageParams(**{**FOOTAGE.model_dump(), "chosen": {"a": (0.5, 0.5)}})


def test_a_cut_between_two_faces_at_one_place_ends_the_track(tmp_path):
    root = tmp_path / "clips"
    rng = np.random.default_rng(0)
    walls = [np.kron(rng.integers(10, 150, (12, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(2)]
    frames = np.stack([walls[0]] * 15 + [walls[1]] * 20)
    frames[:, 28:53, 48:73] = 240
    (root / "a").mkdir(parents=True)
    media.write_video(root / "a" / "cut.mp4", frames, crf=5)
    rows = crop_one(root, "a_cut", tmp_path / "out")
    assert [(row["start_frame"], row["n_frames"]) for row in rows] == [(0, 15), (15, 20)]


def test_a_face_that_wanders_is_followed(tmp_path):
    root = tmp_path / "clips"
    centres = [(14 + index, 40) for index in range(100)]
    make_video(root / "a" / "walk.mp4", centres)
    (row,) = crop_one(root, "a_walk", tmp_path / "out")
    assert row["box_follows"] == "yes" and "follows" in row["flags"] and row["face_share"] > 0.5
    with np.load(tmp_path / "out" / row["landmarks"]) as data:
        points, box = data["landmarks_px"], data["box"]
    assert box.shape == (100, 4)
    found = BrightSquare().detect(media.read_video_at(tmp_path / "out" / row["video"])).landmarks_px
    assert np.abs(found - points).max() < 2.5


def test_a_recording_out_of_focus_is_rejected_and_leaves_no_files(tmp_path):
    root = tmp_path / "clips"
    make_video(root / "a" / "b.mp4", [(60, 40)] * 12)
    with pytest.raises(ClipError, match="out of focus") as caught:
        crop_one(root, "a_b", tmp_path / "out", footage=FootageParams(**{**FOOTAGE.model_dump(), "min_sharpness": 200.0}))
    assert caught.value.rejected and list((tmp_path / "out").iterdir()) == []


@pytest.mark.shared
def test_real_faces_two_in_a_picture_small_in_a_tall_one_and_an_animal(tmp_path, shared_folder):
    """MediaPipe on pictures made of the sample media: each half holds another person; a 50 px face in 1080 x 1920; a cat."""
    from PIL import Image

    model = shared_folder / "assets" / "mediapipe" / "face_landmarker.task"
    media_folder = shared_folder / "media"
    if not model.is_file() or not (media_folder / "grid").is_dir():
        pytest.skip("no sample media")
    from flowvqtalker.landmarks.mediapipe import MediapipeLandmarker

    finder = MediapipeLandmarker(model.read_bytes())
    first, second = (media.read_frames(media_folder / "grid" / name, np.arange(14, 34)) for name in ("bbaf2n.mpg", "lbax4n.mpg"))
    pair = np.concatenate([first, second], axis=2)
    tall = np.full((20, 1920, 1080, 3), 90, np.uint8)
    tall[:, 1500:1644, 700:880] = np.stack(
        [np.asarray(Image.fromarray(frame).resize((180, 144), Image.Resampling.LANCZOS)) for frame in first]
    )
    cat = np.asarray(Image.open(media_folder / "images" / "liveportrait_s41.jpg").convert("RGB"))
    root = tmp_path / "clips"
    for name, frames in (("pair", pair), ("tall", tall), ("cat", np.repeat(cat[None], 20, 0)), ("cut", np.concatenate([first, second]))):
        (root / "a").mkdir(parents=True, exist_ok=True)
        media.write_video(root / "a" / f"{name}.mp4", frames, crf=10)

    def made(clip: str, **changes) -> list[dict]:
        ctx = make_ctx(root, cfg=CROP.model_copy(update={"size_px": 128}), footage=FootageParams(**{**FOOTAGE.model_dump(), **changes}))
        (tmp_path / "out").mkdir(exist_ok=True)
        return crop.crop_clip(Item(clip, (), index_rows(root)[clip]), finder, ctx, tmp_path / "out")

    for place, low, high in (((0.25, 0.5), 0, 360), ((0.75, 0.5), 360, 720)):
        (row,) = made("a_pair", faces="chosen", chosen={"a_pair": place})
        with np.load(tmp_path / "out" / row["landmarks"]) as data:
            assert low < data["box"][[0, 2]].mean() < high and data["present"].all()
    (row,) = made("a_tall", min_sharpness=0.0)
    assert 40 < row["face_px"] < 75 and row["present_share"] == 1 and row["upscaled"] > 1.2
    with pytest.raises(ClipError, match="no face found"):
        made("a_cat")
    rows = made("a_cut")
    assert [(row["start_frame"], row["n_frames"]) for row in rows] == [(0, 20), (20, 20)]
