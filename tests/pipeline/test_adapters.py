"""Published data sets: labels from real names, published splits, leakage, checksums, pieces, stills, and several sources at once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import dataset_trees as trees
import numpy as np
import pytest

from flowvqtalker.constants import EMOTIONS
from pipeline import clipstage, corpus, media
from pipeline.adapters import ADAPTERS, cremad, grid, hdtf, leakage, mead, ravdess, voxceleb
from pipeline.adapters.datasets import LeftOut, Tree, UnreadableNameError, split_identities, verify
from pipeline.clipstage import Item
from pipeline.context import Context
from pipeline.errors import ClipError, PipelineError
from pipeline.io import read_index, read_npz
from pipeline.params import read_config, validate_section
from pipeline.params.corpus import Source

REPOSITORY = Path(__file__).resolve().parents[2]
ALL_USES = ["codebook", "flow", "imagegen", "judges", "test"]
EXTRAS = {
    "mead": {"views": ["front"]},
    "hdtf": {"unlabelled": "none"},
    "voxceleb": {"unlabelled": "none"},
    "ffhq": {"stills": {"size_px": 64, "per_clip": 2}, "uses": ["codebook"]},
}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return trees.make_video(tmp_path_factory.mktemp("video") / "tiny.mp4")


def source_of(adapter, root, **changes):
    return {"name": adapter, "adapter": adapter, "root": str(root), "uses": ALL_USES, **EXTRAS.get(adapter, {}), **changes}


def parsed(adapter, name, **changes):
    """Labels of one path."""
    module = ADAPTERS[adapter]()
    root = Path(changes.pop("root", "/data"))
    tree = Tree(frozenset(changes.pop("paths", [name])), {})
    return module.read_name(Path(name), Source.model_validate(source_of(adapter, root, **changes)), tree)


def context(sources, folder, **shares):
    values = read_config(REPOSITORY / "params.yaml")["corpus"] | {"sources": sources, "max_failed_share": 1.0}
    values["folder"] = {"val_share": 0.1, "test_share": 0.2} | shares
    out = folder / "data" / "corpus" / "index.csv"
    return Context("corpus", "", json.dumps({"stage": "corpus", "seed": 3, "params": {}}), folder, out, {}, 1, {"corpus": validate_section("corpus", values)})  # fmt: skip


def items_of(sources, folder, **shares):
    return corpus.make_items(context(sources, folder, **shares))


def build(sources, folder, monkeypatch, shards=2):
    """The stage's index, made through the house's harness."""
    monkeypatch.setenv("FVQT_CACHE", str(folder / "cache"))
    ctx = context(sources, folder)
    ctx.out.parent.mkdir(parents=True)
    tables = [folder / f"{shard}.csv" for shard in range(shards)]
    for shard, table in enumerate(tables):
        clipstage.run_shard(corpus.STAGE, ctx, shard, shards, table)
    clipstage.run_merge(ctx, tables, ctx.out)
    return read_index(ctx.out, "corpus").set_index("clip"), ctx.out.parent


# ---------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "person", "emotion", "level", "number", "split"),
    [
        ("M003/video/front/angry/level_3/016.mp4", "m003", "angry", 3, "016", "test"),
        ("MEAD/W011/video/1/front/disgusted/level_2/004.mp4", "w011", "disgusted", 2, "004", "train"),
        ("M030/video/front/neutral/level_1/040.mp4", "m030", "neutral", 0, "040", "test"),
        ("M030_front_angry_level3_001.mp4", "m030", "angry", 3, "001", "test"),
        ("M024_level_2_surprised_010.mp4", "m024", "surprised", 2, "010", "train"),
        ("M003#contempt#level_1#022.mp4", "m003", "contempt", 1, "022", "test"),
        ("W009_hap_2_005.mp4", "w009", "happy", 2, "005", "test"),
    ],
)
def test_mead_names(name, person, emotion, level, number, split):
    named = parsed("mead", name)
    assert (named.identity, named.emotion, named.level, named.sentence, named.split) == (
        person,
        emotion,
        level,
        f"{emotion}_{number}",
        split,
    )


def test_mead_knows_where_its_sound_lies_and_what_the_lists_call_it():
    named = parsed("mead", "M003/video/front/angry/level_3/016.mp4")
    assert named.sounds[0] == "M003/audio/angry/level_3/016.m4a"
    assert "M003#angry#level_3#016" in named.listed
    with pytest.raises(LeftOut, match="left_30"):
        parsed("mead", "M003/video/left_30/angry/level_3/016.mp4")
    for name, word in (
        ("M003/video/front/angry/016.mp4", "level"),
        ("M003/video/front/cheerful/level_1/016.mp4", "emotion"),
        ("x.mp4", "person"),
    ):
        with pytest.raises(UnreadableNameError, match=word):
            parsed("mead", name)


@pytest.mark.parametrize(
    ("name", "person", "recording"),
    [
        ("WDA_AlexandriaOcasioCortez_000.mp4", "alexandriaocasiocortez", "alexandriaocasiocortez"),
        ("WRA_AdamKinzinger2_000.mp4", "adamkinzinger", "adamkinzinger2"),
        ("AdamKinzinger2_1.mp4", "adamkinzinger", "adamkinzinger2"),
        ("RD_Radio11_001.mp4", "radio11", "radio11"),
        ("WDA_LucilleRoybal-Allard_000.mp4", "lucilleroybal_allard", "lucilleroybal_allard"),
        ("WRA_MitchDaniels1_000#12.mp4", "mitchdaniels", "mitchdaniels1"),
        ("WDA_WhipJimClyburn_000.mp4", "jamesclyburn", "whipjimclyburn"),
    ],
)
def test_hdtf_names(name, person, recording):
    named = parsed("hdtf", name)
    assert (named.identity, named.recording, named.emotion, named.split) == (person, recording, "", "")
    assert parsed("hdtf", name, unlabelled="neutral").emotion == "neutral"


def test_hdtf_leaves_whole_videos_out_and_refuses_other_names():
    with pytest.raises(LeftOut, match="whole video"):
        parsed("hdtf", "_videos_raw/RD_Radio10.mp4")
    with pytest.raises(UnreadableNameError):
        parsed("hdtf", "RD_Radio10.mp4")


@pytest.mark.parametrize(("code", "emotion"), cremad.EMOTION_OF.items())
def test_cremad_names(code, emotion):
    named = parsed("cremad", f"VideoFlash/1001_IEO_{code}_HI.flv")
    assert (named.identity, named.emotion, named.level, named.sentence) == ("1001", emotion, 0 if emotion == "neutral" else 3, "ieo")
    assert named.text == "It's eleven o'clock" and named.sounds[0] == "AudioWAV/1001_IEO_" + code + "_HI.wav"


@pytest.mark.parametrize("name", ["1001_IEO_HAP.flv", "1001_XXX_HAP_XX.flv", "1001_IEO_JOY_XX.flv", "1001_IEO_HAP_ZZ.flv", "clip.flv"])
def test_cremad_refuses_other_names(name):
    with pytest.raises(UnreadableNameError):
        parsed("cremad", f"VideoFlash/{name}")


def test_ravdess_names():
    named = parsed("ravdess", "Actor_12/01-01-06-02-02-01-12.mp4")
    assert (named.identity, named.emotion, named.level, named.take, named.text) == ("actor12", "fear", 3, 1, "Dogs are sitting by the door")
    assert parsed("ravdess", "Actor_01/01-01-01-01-01-02-01.mp4").level == 0
    calm = parsed("ravdess", "Actor_01/01-01-02-02-01-02-01.mp4")
    assert (calm.emotion, calm.level) == ("", 0) and "calm" in calm.note
    with pytest.raises(LeftOut, match="song"):
        parsed("ravdess", "Actor_01/01-02-06-02-02-01-01.mp4")
    with pytest.raises(UnreadableNameError):
        parsed("ravdess", "Actor_25/01-01-06-02-02-01-25.mp4")


def test_grid_names_spell_their_sentence():
    named = parsed("grid", "s4/video/mpg_6000/swiz3a.mpg")
    assert (named.identity, named.emotion, named.text, named.by_clip) == ("s4", "neutral", "set white in z three again", False)
    assert parsed("grid", "s22/lrwp9a.mpg").split == "test" and named.split == "train"
    assert parsed("grid", "bbaf2n.mpg", root="/x/s7").identity == "s7"
    assert parsed("grid", "bbaf2n.mpg", root="/x/grid").by_clip
    with pytest.raises(UnreadableNameError, match="sentence code"):
        parsed("grid", "s4/hello.mpg")


def test_voxceleb_names():
    named = parsed("voxceleb", "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4")
    assert (named.identity, named.recording, named.split) == ("id00012", "id00012_21Uxsk56VDQ", "train")
    assert parsed("voxceleb", "test/mp4/id00017/01dfn2spqyE/00001.mp4").split == "test"
    flat = parsed("voxceleb", "id10280#xRu5dXGwqeE#001012#001211.mp4")
    assert (flat.identity, flat.recording, flat.split) == ("id10280", "id10280_xRu5dXGwqeE", "test")
    assert parsed("voxceleb", "id10001/1zcIwhmdeo4/00001.mp4").split == "train"
    for name in ("00015.mp4", "id00012/short/00001.mp4"):
        with pytest.raises(UnreadableNameError):
            parsed("voxceleb", name)


# ---------------------------------------------------------------------------------------------------------------- splits


def test_mead_tests_on_the_published_people_and_validates_on_others(tmp_path, video):
    items = items_of([source_of("mead", trees.mead_tree(tmp_path / "mead", video))], tmp_path, val_share=0.3)
    people = {split: {item.row["identity"] for item in items if item.row["split"] == split} for split in ("train", "val", "test")}
    assert people["test"] == {"mead_m003", "mead_m030", "mead_w009", "mead_w015"}
    assert people["train"] and people["val"] and not people["train"] & people["val"] and not people["val"] & people["test"]
    assert len(items) == len(trees.MEAD_PEOPLE) * 44
    assert Counter(item.row["role"] for item in items)["enrol"] == len(trees.MEAD_PEOPLE)
    assert all(item.row["emotion"] == "neutral" for item in items if item.row["role"] == "enrol")
    assert {item.row["uses"] for item in items if item.row["split"] == "test"} == {"test"}
    assert {item.row["emotion"] for item in items} == set(EMOTIONS)


def test_a_source_without_the_use_test_hands_over_no_test_people(tmp_path, video):
    items = items_of([source_of("mead", trees.mead_tree(tmp_path / "mead", video), uses=["flow"])], tmp_path)
    assert items and not {item.row["identity"] for item in items} & {"mead_m003", "mead_m030", "mead_w009", "mead_w015"}


def test_identities_split_by_hash_and_stay_when_people_are_added():
    names = {f"cremad_{number}" for number in range(1001, 1092)}
    splits = split_identities(names, 0.1, 0.2)
    assert {part: 0.5 * share < Counter(splits.values())[part] / 91 < 1.8 * share for part, share in (("val", 0.1), ("test", 0.2))} == {"val": True, "test": True}  # fmt: skip
    assert all(split_identities(names | {"cremad_2000"}, 0.1, 0.2)[name] == splits[name] for name in names)
    for count in range(3, 10):
        few = set(sorted(names)[:count])
        assert set(split_identities(few, 0.1, 0.2).values()) == {"train", "val", "test"}
        assert set(split_identities(few, 0.1, 0.0).values()) == {"train", "val"}


def test_published_lists_decide_and_their_shared_people_must_be_accepted(tmp_path, video):
    root = trees.hdtf_tree(tmp_path / "hdtf", video)
    (tmp_path / "train.json").write_text(json.dumps([f"{name}#{piece}" for name in trees.HDTF_CLIPS[:5] for piece in (1, 2)]))
    (tmp_path / "test.txt").write_text("WDA_TerriSewell1_000#1\nRD_Radio9_000#1\n")
    lists = {"train": str(tmp_path / "train.json"), "test": str(tmp_path / "test.txt")}
    with pytest.raises(
        PipelineError, match=r"identity 'hdtf_terrisewell' .*test \(hdtf:WDA_TerriSewell1_000.mp4\), train \(hdtf:WDA_TerriSewell_000.mp4\)"
    ):
        items_of([source_of("hdtf", root, split_lists=lists)], tmp_path)
    items = items_of([source_of("hdtf", root, split_lists=lists, shared_identities=True)], tmp_path)
    assert len(items) == 6  # the other clips stand in no list
    assert {item.row["file"] for item in items if item.row["split"] == "test"} == {"hdtf:WDA_TerriSewell1_000.mp4"}
    assert all("shared between splits" in item.row["reason"] for item in items)


def test_pieces_of_a_recording_in_two_lists_are_an_error(tmp_path, video):
    root = trees.hdtf_tree(tmp_path / "hdtf", video)
    (tmp_path / "train.txt").write_text("RD_Radio10_000#1\n")
    (tmp_path / "test.txt").write_text("RD_Radio10_000#2\n")
    lists = {"train": str(tmp_path / "train.txt"), "test": str(tmp_path / "test.txt")}
    with pytest.raises(PipelineError, match=r"RD_Radio10_000.mp4: pieces of this recording are listed for test and train"):
        items_of([source_of("hdtf", root, split_lists=lists, shared_identities=True)], tmp_path)
    (tmp_path / "test.txt").write_text("RD_Radio10_000#1\n")
    with pytest.raises(PipelineError, match="also listed"):
        items_of([source_of("hdtf", root, split_lists=lists)], tmp_path)
    with pytest.raises(PipelineError, match="cannot be read as a list"):
        items_of([source_of("hdtf", root, split_lists={"train": str(tmp_path / "nowhere.json")})], tmp_path)


@pytest.mark.parametrize("key", ["identity", "recording"])
def test_leakage_names_the_person_or_recording(key):
    rows = [{"split": "train", "identity": "a", "recording": "r1", "file": "x:1.mp4"}, {"split": "test", "identity": "b", "recording": "r2", "file": "y:2.mp4"}]  # fmt: skip
    leakage.check_leakage([Item(str(index), (), row) for index, row in enumerate(rows)])
    rows[1][key] = rows[0][key]
    with pytest.raises(PipelineError, match=rf"{key} '{rows[0][key]}' is in more than one split: test \(y:2.mp4\), train \(x:1.mp4\)"):
        leakage.check_leakage([Item(str(index), (), row) for index, row in enumerate(rows)])


def test_labels_of_a_folder_may_lie_elsewhere_and_must_not_leak(tmp_path, video):
    root = trees.lay(video, tmp_path / "clips", ["anna/video/1.mp4", "anna/video/2.mp4", "bert/3.mp4"])
    table = tmp_path / "labels.csv"
    table.write_text("file,emotion,split\nanna/video/1.mp4,happy,test\nanna/video/2.mp4,,train\n")
    with pytest.raises(PipelineError, match="identity 'anna' is in more than one split"):
        items_of([source_of("folder", root, labels=str(table))], tmp_path)
    items = items_of([source_of("folder", root, labels=str(table), shared_identities=True)], tmp_path)
    rows = {item.clip: item.row for item in items}
    assert rows["anna_video_1"]["emotion"] == "happy" and rows["anna_video_1"]["split"] == "test"
    assert {row["identity"] for row in rows.values()} == {"anna", "bert"}  # a folder `video` names nobody
    with pytest.raises(PipelineError, match="no such table"):
        items_of([source_of("folder", root, labels=str(tmp_path / "gone.csv"))], tmp_path)


# ---------------------------------------------------------------------------------------------------------------- the stage


def test_several_sources_become_one_index(tmp_path, video, monkeypatch):
    roots = {
        "mead": trees.mead_tree(tmp_path / "mead", video, ("M003", "M005", "M007", "M009")),
        "cremad": trees.cremad_tree(tmp_path / "cremad", video, range(1001, 1005)),
        "ravdess": trees.ravdess_tree(tmp_path / "ravdess", video, range(1, 5)),
        "grid": trees.grid_tree(tmp_path / "grid", video),
        "voxceleb": trees.voxceleb_tree(tmp_path / "voxceleb", video),
        "hdtf": trees.hdtf_tree(tmp_path / "hdtf", video),
        "ffhq": trees.ffhq_tree(tmp_path / "ffhq"),
        "folder": trees.lay(video, tmp_path / "own", ["anna/1.mp4", "bert/2.mp4", "carl/3.mp4"]),
    }
    sources = [source_of(name, root) for name, root in roots.items()]
    table, _ = build(sources, tmp_path, monkeypatch)
    ok = table[table["status"] == "ok"]
    assert dict(ok["source"].value_counts()) == {
        "mead": 4 * 44, "cremad": 36, "ravdess": 4 * 30, "grid": 15, "voxceleb": 21, "hdtf": len(trees.HDTF_CLIPS), "ffhq": 6, "folder": 3,
    }  # fmt: skip
    bad = table[table["status"] != "ok"]
    assert list(bad["status"]) == ["rejected"] and "id00017x" in bad["reason"].iloc[0] and "id00012/21Uxsk56VDQ" in bad["reason"].iloc[0]
    claimed = ok[~ok["reason"].str.contains("shared")]
    assert (claimed.groupby("identity")["split"].nunique() == 1).all()
    assert set(ok[ok["source"] == "ravdess"]["take"]) == {1, 2}
    unlabelled = ok[ok["source"].isin(["hdtf", "voxceleb"])]
    assert set(unlabelled["emotion"]) == {""} and unlabelled["level"].isna().all()
    assert (ok[ok["kind"] == "video"]["n_frames"] == 10).all() and ok["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert ok.loc["cremad_videoflash_1001_ieo_hap_lo", "level"] == 1


def test_folders_with_equal_paths_keep_their_clips_apart(tmp_path, video):
    sources = [source_of("folder", trees.lay(video, tmp_path / name, ["a/1.mp4", f"{name}/2.mp4"]), name=name) for name in ("one", "two")]
    assert [item.clip for item in items_of(sources, tmp_path)] == ["one_a_1", "one_2", "two_a_1", "two_2"]


def test_the_clips_of_mead_keep_their_keys_where_the_tree_lies(tmp_path, video):
    first = items_of([source_of("mead", trees.mead_tree(tmp_path / "mead", video, ("M003", "M005")))], tmp_path)
    shutil.move(tmp_path / "mead", tmp_path / "elsewhere")
    moved = items_of([source_of("mead", tmp_path / "elsewhere")], tmp_path)
    assert [item.inputs for item in moved] == [item.inputs for item in first]


def test_sound_beside_the_video_serves_where_the_video_has_none(tmp_path, monkeypatch):
    mute = trees.make_video(tmp_path / "mute.mp4", sound=False)
    loud = trees.make_video(tmp_path / "loud.mp4")
    root = trees.lay(mute, tmp_path / "mead", ["M005/video/front/happy/level_1/001.mp4"])
    trees.lay(loud, root, ["M005/video/front/sad/level_1/001.mp4"])
    tone = media.read_sound(loud)
    for emotion in ("happy", "sad"):
        (root / f"M005/audio/{emotion}/level_1").mkdir(parents=True)
        media.write_sound(root / f"M005/audio/{emotion}/level_1/001.wav", tone)
    table, _ = build([source_of("mead", root)], tmp_path, monkeypatch, 1)
    assert table.loc["mead_m005_video_front_happy_level_1_001", "sidecar"] == "mead:M005/audio/happy/level_1/001.wav"
    assert table.loc["mead_m005_video_front_sad_level_1_001", "sidecar"] == ""


def test_checksums_tell_good_bad_pointer_and_unlisted_files_apart(tmp_path, video, monkeypatch):
    root = trees.cremad_tree(tmp_path / "cremad", video, range(1001, 1003))
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.flv"))]
    right = hashlib.sha256(video.read_bytes()).hexdigest()
    wrong, pointer, unlisted = names[0], names[1], names[2]
    sums = {name: right for name in names if name != unlisted} | {wrong: "0" * 64, "VideoFlash/1090_DFA_ANG_XX.flv": right}
    (root / pointer).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + right + "\nsize 1\n")
    listing = tmp_path / "list.csv"
    listing.write_text("path,sha256,bytes\n" + "".join(f"{name},{value},1\n" for name, value in sums.items()))
    table, _ = build([source_of("cremad", root, checksums=str(listing))], tmp_path, monkeypatch, 1)
    reasons = {clip: (row["status"], row["reason"]) for clip, row in table.iterrows() if row["status"] != "ok"}
    assert len(reasons) == 3 and len(table) == len(names)
    for name, status, words in ((wrong, "failed", "differs from the list's"), (pointer, "failed", "git lfs pull"), (unlisted, "rejected", "not in the list")):  # fmt: skip
        found = reasons["cremad_" + name.lower().replace("/", "_").removesuffix(".flv")]
        assert found[0] == status and words in found[1] and name in found[1]
    listing.write_text("file,md5\n")
    with pytest.raises(PipelineError, match="no columns 'path' and 'sha256'"):
        items_of([source_of("cremad", root, checksums=str(listing))], tmp_path)


def test_a_file_that_cannot_be_opened_is_a_clips_trouble(tmp_path):
    for path in (tmp_path / "gone.mp4", tmp_path):
        with pytest.raises(ClipError, match=r"grid:a\.mpg: cannot be read"):
            verify(path, "grid:a.mpg", None, False)


def test_long_recordings_are_cut_into_pieces_with_their_sound(tmp_path, monkeypatch):
    clip = trees.make_video(tmp_path / "hdtf" / "WRA_DebFischer0_000.mp4", n_frames=63)
    trees.make_video(tmp_path / "hdtf" / "WRA_PaulRyan0_000.mp4", n_frames=4)
    cut = {"seconds": 1.0, "min_seconds": 0.4, "crf": 10}
    table, folder = build([source_of("hdtf", tmp_path / "hdtf", segment=cut)], tmp_path, monkeypatch, 1)
    pieces = table[table["status"] == "ok"]
    assert list(pieces.index) == [f"hdtf_wra_debfischer0_000_{number:03d}" for number in (1, 2, 3)]
    assert list(pieces["n_frames"]) == [25, 25, 13] and set(pieces["recording"]) == {"hdtf_debfischer0"}
    whole, sound = media.read_video_at(clip), media.read_sound(clip, n_frames=63)
    made = [media.read_video_at(folder / file) for file in pieces["file"]]
    assert [len(part) for part in made] == [25, 25, 13]
    assert np.abs(np.concatenate(made).astype(int) - whole).mean() < 1
    heard = np.concatenate([media.read_sound(folder / file) for file in pieces["sidecar"]])
    np.testing.assert_allclose(heard, sound, atol=1e-4)
    short = table[table["status"] != "ok"]
    assert list(short["status"]) == ["rejected"] and "segment.min_seconds" in short["reason"].iloc[0]


def test_ffhq_stills_follow_the_contract_of_the_clay_stills(tmp_path, monkeypatch):
    root = trees.ffhq_tree(tmp_path / "ffhq")
    (root / "images1024x1024/00000/00002.png").write_bytes(b"no picture")
    (root / "images1024x1024/cover.png").write_bytes(b"x")
    table, folder = build([source_of("ffhq", root)], tmp_path, monkeypatch, 1)
    ok = table[table["status"] == "ok"]
    assert dict(ok["split"].value_counts()) == {"train": 3, "val": 2}
    assert (
        set(ok["kind"]) == {"stills"} and set(ok["uses"]) == {"codebook"} and set(ok["emotion"]) == {""} and set(ok["role"]) == {"stills"}
    )
    arrays = read_npz(folder / ok.loc["ffhq_train_00000", "file"])
    assert arrays["frames"].shape == (2, 64, 64, 3) and arrays["frames"].dtype == np.uint8
    assert arrays["emotion"].tolist() == [-1, -1] and arrays["intensity"].tolist() == [0.0, 0.0]
    assert arrays["frames"][0].max() == 0 and arrays["frames"][1].min() == 1  # pictures 0 and 1, not their thumbnails
    bad = table[table["status"] != "ok"]
    assert "00002.png" in bad.loc["ffhq_train_00002", "reason"] and bad.loc["ffhq_train_00002", "status"] == "failed"
    assert sum("no index of five digits" in reason for reason in bad["reason"]) == 1
    crop = __import__("pipeline.crop", fromlist=["crop_stills"])
    found = SimpleNamespace(present=np.array([True, False]), landmarks_px=np.tile(np.linspace(10, 50, 68)[None, :, None], (2, 1, 2)))
    cfg = SimpleNamespace(scale=1.3, shift_up_share=0.0, size_px=32)
    row = crop.crop_stills("s", arrays, SimpleNamespace(detect=lambda frames, video: found), cfg, tmp_path)
    assert row["n_frames"] == 1 and "1 of 2 pictures" in row["reason"]


def test_ffhq_refuses_two_resolutions_at_once(tmp_path):
    root = trees.ffhq_tree(tmp_path / "ffhq")
    (root / "images1024x1024").rename(root / "images512x512")
    with pytest.raises(PipelineError, match="same index"):
        items_of([source_of("ffhq", root)], tmp_path)


def test_trees_that_are_packed_empty_or_of_another_kind_say_so(tmp_path, video):
    trees.lay(video, tmp_path / "other", ["holiday.mp4"])
    with pytest.raises(PipelineError) as caught:
        items_of([source_of("mead", tmp_path / "other")], tmp_path)
    assert "holiday.mp4" in caught.value.message and "adapter 'folder'" in caught.value.hint
    (tmp_path / "other" / "M003").mkdir()
    (tmp_path / "other" / "M003" / "video.tar").write_bytes(b"x")
    with pytest.raises(PipelineError, match=r"M003/video.tar is still packed"):
        items_of([source_of("mead", tmp_path / "other")], tmp_path)
    with pytest.raises(PipelineError, match="there is no folder"):
        items_of([source_of("ffhq", tmp_path / "gone")], tmp_path)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (source_of("mead", "/x", views=[]), "needs 'views'"),
        (source_of("hdtf", "/x", unlabelled=""), "needs 'unlabelled'"),
        (source_of("ffhq", "/x", uses=["flow"]), "codebook only"),
        (source_of("folder", "/x", views=["front"]), "'views' belongs to mead"),
        (source_of("grid", "/x", segment={"seconds": 5, "min_seconds": 1, "crf": 10}), "'segment' belongs to hdtf"),
        (source_of("mead", ""), "needs a root"),
        (source_of("mead", "/x", views=["behind"]), "views"),
    ],
)
def test_keys_belong_to_their_adapter(source, words):
    values = read_config(REPOSITORY / "params.yaml")["corpus"] | {"sources": [source]}
    with pytest.raises(PipelineError, match=words):
        validate_section("corpus", values)


def test_code_of_every_adapter_counts_for_the_stage():
    from pipeline.codehash import closure

    assert {f"pipeline.adapters.{name}" for name in ("mead", "hdtf", "cremad", "ravdess", "grid", "voxceleb", "ffhq")} <= set(
        closure("pipeline.corpus")
    )
    assert {module.__name__.rpartition(".")[2] for module in (mead, hdtf, cremad, ravdess, grid, voxceleb)} < set(ADAPTERS)


# ---------------------------------------------------------------------------------------------------------------- real clips


@pytest.mark.shared
def test_real_clips_are_read_by_their_data_sets_adapters(tmp_path, shared_folder, monkeypatch):
    samples = shared_folder / "media"
    sources = [
        source_of("mead", samples / "mead_av"),
        source_of("mead", samples / "mead_dreamtalk", name="dreamtalk"),
        source_of("grid", samples / "grid"),
        source_of("hdtf", samples / "sadtalker"),
    ]
    table, _ = build(sources, tmp_path, monkeypatch, 1)
    assert (table["status"] == "ok").all() and len(table) == 4 + 8 + 6 + 1
    angry = table.loc["mead_m030_level_3_angry_016"]
    assert (angry["identity"], angry["emotion"], angry["level"], angry["split"], angry["n_frames"]) == ("mead_m030", "angry", 3, "test", 82)
    assert set(table[table["source"] == "dreamtalk"]["emotion"]) == set(EMOTIONS)
    assert set(table[table["source"] == "grid"]["split"]) == {"train", "val", "test"}
    assert table.loc["grid_bbaf2n", "text"] == "bin blue at f two now"
    assert abs(table.loc["grid_bbaf2n", "n_frames"] - 75) <= 1  # by the container's word; the crop counts


@pytest.mark.shared
def test_every_name_of_cremad_is_read(shared_folder):
    listing = (shared_folder / "media" / "crema_d_meta" / "lfs_manifest.csv").read_text().splitlines()[1:]
    files = [line.split(",")[0] for line in listing if line.startswith("VideoFlash/")]
    labels = [parsed("cremad", file) for file in files]
    assert len(labels) == 7442 and len({named.identity for named in labels}) == 91
    assert Counter(named.emotion for named in labels)["neutral"] == 1087


@pytest.mark.shared
def test_the_sample_folder_gives_every_video_a_row(tmp_path, shared_folder):
    items = items_of([source_of("folder", shared_folder / "media")], tmp_path)
    videos = [path for path in (shared_folder / "media").rglob("*") if path.suffix in (".mp4", ".mpg")]
    assert len(items) == len(videos) and len({item.clip for item in items}) == len(videos)
    sounds = {item.clip: item.row["sidecar"] for item in items if item.row["sidecar"]}
    assert sounds["styletalk_source_video_video_obama_clip1"] == "folder:styletalk/source_video/wav/Obama_clip1.wav"
    assert sounds["edtalk_mouth_source"] == "folder:edtalk/mouth_source.wav"
    assert "video" not in {item.row["identity"] for item in items}
