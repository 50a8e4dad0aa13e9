"""The report of a small made-up run: tables, page, figures, size, and what happens when parts are missing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from headless_browser import Browser
from headless_browser import find as find_browser
from PIL import Image

from flowvqtalker.constants import EMOTIONS
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.metrics.registry import METRICS
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import write_index, write_json, write_npz, write_text
from pipeline.media import probe, read_video, synthetic_metadata, write_sound, write_video
from pipeline.params.report import ReportParams
from pipeline.report import run
from pipeline.reporting.charts import line_chart, ticks
from pipeline.reporting.columns import _WORDS, COLUMNS, FURTHER, METHODS
from pipeline.reporting.figures import _training_figure, make_figures
from pipeline.reporting.gallery import choose_clips
from pipeline.reporting.motion import closure
from pipeline.reporting.page import check_rows
from pipeline.reporting.results import Training, read_results
from pipeline.reporting.tables import best_methods, format_number

ISSUE_COLUMNS = (
    "method,psnr_db,psnr_face_db,ssim,fid_expert,kid_expert,m_lmd_centred_px,m_lmd_raw_px,f_lmd_centred_px,f_lmd_raw_px,lse_d,lse_c,"
    "av_offset_frames,emotion_acc_pct,blinks_per_s,pose_over_time_deg,pose_over_seeds_deg,n_scored,n_expected"
)
ISSUE_METHODS = [
    "ground_truth", "other_take", "codebook_ceiling", "vqig_on_fitted", "flowvqtalker_paired", "flowvqtalker_free", "regression",
    "copy_source", "shuffled_audio",
]  # fmt: skip
PARAMS = {
    "gallery_methods": ("ground_truth", "vqig_on_fitted", "flowvqtalker_paired", "flowvqtalker_free", "regression"),
    "gallery_clips_per_emotion": 1,
    "gallery_seconds": 4.0,
    "gallery_height_px": 128,
    "gallery_crf": 23,
    "page_limit_mb": 30.0,
    "curve_points": 200,
}
CLIP_FRAMES = 20


def _scores() -> dict:
    """A made-up document of `evaluate`; the numbers mean nothing."""
    rng = np.random.default_rng(0)
    methods = {}
    for method in ISSUE_METHODS:
        row = {}
        for column in COLUMNS:
            value = float(rng.uniform(1, 30))
            row[column.name] = {"value": value, "ci": [value - 1, value + 1], "n": 48, "reason": ""}
        row |= {
            "n_scored": {"value": 48, "ci": None, "n": 48, "reason": ""},
            "n_expected": {"value": 48, "ci": None, "n": 48, "reason": ""},
        }
        methods[method] = row
        row["flicker"] = {"value": 1.5, "ci": None, "n": 48, "reason": ""}
    methods["ground_truth"]["psnr_db"] = {"value": None, "ci": None, "n": 0, "reason": "infinite: compared with itself"}
    methods["ground_truth"]["kid_expert"] = {"value": float("-0.000001"), "ci": None, "n": 48, "reason": ""}
    methods["shuffled_audio"]["n_scored"] = {"value": 46, "ci": None, "n": 46, "reason": "2 x no other test sentence with sound"}
    methods["copy_source"]["pose_over_seeds_deg"] = {"value": None, "ci": None, "n": 0, "reason": "has no seeds & <no> sampling_50%"}
    return {
        "methods": methods,
        "judges": {
            "emotion": {"accuracy_pct": 81.5, "per_emotion": dict.fromkeys(EMOTIONS, 80.0)},
            "syncnet": {"within_one_frame_pct": 99.1},
        },
        "floors": {"emotion_chance_pct": 12.5},
        "data_sha256": "ab" * 32,
    }


def _video(path: Path, shade: int, n_frames: int = CLIP_FRAMES) -> None:
    frames = np.full((n_frames, 64, 64, 3), shade, np.uint8)
    frames[np.arange(n_frames), 10:20, (np.arange(n_frames) * 2) % 64] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, metadata=synthetic_metadata("a test"))


def make_run(root: Path) -> dict[str, Path]:
    """A results folder as the stages before would leave it, at toy size."""
    rng = np.random.default_rng(1)
    crops, fits, generated = [], [], []
    blink = EXPRESSION_INDEX["eyeBlink_L"]
    for index, emotion in enumerate(EMOTIONS):
        clip = f"p{index:02d}_{emotion}_s1"
        _video(root / f"data/crop/clips/{clip}.mp4", 40 + 20 * index)
        write_sound(root / f"data/crop/clips/{clip}.wav", rng.uniform(-0.2, 0.2, CLIP_FRAMES * 640).astype(np.float32))
        beta = rng.uniform(0, 0.2, (CLIP_FRAMES, len(EXPRESSIONS))).astype(np.float32)
        beta[5:8, blink : blink + 2] = beta[14:17, blink : blink + 2] = 0.9
        pose = rng.normal(0, 0.05, (CLIP_FRAMES, 6)).astype(np.float32)
        write_npz(root / f"data/fit3dmm/clips/{clip}.npz", {"beta": beta, "pose": pose})
        crops.append(
            {"clip": clip, "status": "ok", "reason": "", "kind": "video", "identity": f"p{index:02d}", "emotion": emotion, "level": 2, "split": "test",
             "uses": "test", "role": "talk", "video": f"clips/{clip}.mp4", "sound": f"clips/{clip}.wav", "n_frames": CLIP_FRAMES, "audio_status": "ok"}
        )  # fmt: skip
        fits.append({"clip": clip, "status": "ok", "reason": "", "file": f"clips/{clip}.npz", "n_frames": CLIP_FRAMES})
        for method in ISSUE_METHODS[3:]:
            short = CLIP_FRAMES - 3 if method == "regression" else CLIP_FRAMES
            _video(root / f"data/generate/{method}/clips/{clip}.mp4", 30 + 20 * index, short)
            write_npz(root / f"data/generate/{method}/clips/{clip}.npz", {"beta": beta[:short], "pose": pose[:short]})
            generated.append(
                {"clip": clip, "status": "ok", "reason": "", "method": method, "protocol": "paired", "seed": 0,
                 "video": f"{method}/clips/{clip}.mp4", "coefficients": f"{method}/clips/{clip}.npz", "n_frames": short}
            )  # fmt: skip
    write_index(root / "data/crop/index.csv", crops, "crop")
    write_index(root / "data/fit3dmm/index.csv", fits, "fit3dmm")
    write_index(root / "data/generate/index.csv", generated, "generate")
    long = np.tile(np.load(root / f"data/fit3dmm/{fits[0]['file']}")["beta"], (10, 1))
    write_npz(root / "data/generate/long/flowvqtalker_free.npz", {"beta": long[None], "pose": np.zeros((1, len(long), 6), np.float32)})
    write_json(root / "reports/evaluate/metrics.json", _scores())
    checks = [
        {"name": "codebook_ceiling_psnr_db", "value": 26.1, "ci": [25.8, 26.4], "n": 8, "target": ">= 25", "pass": True},
        {"name": "lse_d_below_shuffled", "value": 0.2, "ci": None, "n": 8, "target": "< 0", "pass": False},
        {"name": "emotion_share_of_judge", "value": None, "ci": None, "n": 0, "target": ">= 0.7", "pass": None},
    ]
    write_json(root / "reports/evaluate/checks.json", checks)
    table = pd.DataFrame({"clip": [row["clip"] for row in crops], "emotion": EMOTIONS, "emotion_verdict": (*EMOTIONS[:-1], "neutral")})
    write_text(root / "reports/evaluate/flowvqtalker_paired.csv", table.to_csv(index=False))
    reads = {"evaluate": root / "reports/evaluate/metrics.json"} | {
        name: root / f"data/{name}/index.csv" for name in ("generate", "crop", "fit3dmm")
    }
    for name in ("codebook", "flow/full"):
        folder = root / "models" / name
        history = ["step,split,name,value"] + [
            f"{step},{split},loss,{1000 / (step + 1)}" for split in ("train", "val", "extra_val") for step in range(0, 500, 5)
        ]
        write_text(folder / "history.csv", "\n".join(history) + "\n")
        write_json(folder / "metrics.json", {"loss": 2.0, "seconds": 12.5})
        write_json(folder / "index.json", {})
        reads[name.replace("/", "_")] = folder / "index.json"
    means = 5 * np.eye(len(EMOTIONS), 12, dtype=np.float32)
    emotion = np.repeat(np.arange(len(EMOTIONS), dtype=np.int8), 40)
    latents = {
        "z": means[emotion] + rng.normal(0, 1, (len(emotion), 12)),
        "emotion": emotion,
        "intensity": np.ones(len(emotion)),
        "means": means,
    }
    write_npz(root / "models/flow/full/latents.npz", latents)
    Image.fromarray(np.full((32, 96, 3), 128, np.uint8)).save(root / "models/codebook/grid.png")
    return reads


def context(root: Path, reads: dict[str, Path], **changes: object) -> Context:
    stamp = json.dumps({"stage": "report", "variant": "", "name": "default", "seed": 7, "params": {}, "code": "0"})
    params = {"report": ReportParams.model_validate({**PARAMS, **changes})}
    return Context("report", "", stamp, root, root / "reports/index.html", reads, 1, params)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    run(context(root, make_run(root)))
    return root / "reports"


class _Checker(HTMLParser):
    """Collects unclosed tags, ids, anchors and everything that a browser would load."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "hr", "line", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"src", "srcset", "poster", "data"} or (name == "href" and tag != "a"):
                self.loads.append(value or "")
            if name == "href" and tag == "a":
                self.anchors.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.problems.append(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")


def _check(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    return checker


def test_csv_has_the_issue_columns_rows_and_plain_numbers(report: Path) -> None:
    lines = (report / "tables/quantitative.csv").read_text().splitlines()
    assert lines[0] == ISSUE_COLUMNS + ",flicker"
    assert [line.split(",")[0] for line in lines[1:]] == ISSUE_METHODS == [method.name for method in METHODS]
    table = pd.read_csv(report / "tables/quantitative.csv").set_index("method")
    assert np.isnan(table.loc["ground_truth", "psnr_db"])
    assert np.isnan(table.loc["copy_source", "pose_over_seeds_deg"])
    assert table.drop(columns=["psnr_db", "pose_over_seeds_deg"]).notna().all(axis=None)
    assert table.dtypes.map(pd.api.types.is_numeric_dtype).all()
    assert "-0.0" not in lines[1]
    want = json.loads((report / "evaluate/metrics.json").read_text())["methods"]["regression"]["lse_d"]["value"]
    assert table.loc["regression", "lse_d"] == pytest.approx(want, abs=5e-4)


def test_markdown_and_tex_hold_intervals_footnotes_and_the_marked_published_block(report: Path) -> None:
    markdown = (report / "tables/quantitative.md").read_text()
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    header = rows[0].count("|")
    assert all(row.count("|") == header for row in rows[: 2 + len(ISSUE_METHODS)])
    assert "Infinite: compared with itself." in markdown
    assert "2 x no other test sentence with sound." in markdown
    assert "not measured here" in markdown
    assert re.search(r"\*\*\d+\.\d+\*\* \[\d", markdown)
    assert "0.689" in markdown
    assert "0.689" not in (report / "tables/quantitative.csv").read_text()
    tex = (report / "tables/quantitative.tex").read_text()
    assert tex.count("\\begin{") == tex.count("\\end{")
    assert "sampling\\_50\\%" in tex
    assert "Infinite: compared with itself." in tex
    assert "Further metrics" in markdown
    assert "Further metrics" in tex
    body = tex[tex.index("\\midrule") : tex.index("\\bottomrule")]
    counts = {line.count(" & ") for line in body.splitlines() if " & " in line}
    assert counts == {len(ISSUE_COLUMNS.split(",")) - 1}


def test_differences_and_the_judges_accuracy_reach_tables_and_page(report: Path, tmp_path: Path) -> None:
    assert (report / "tables/differences.csv").read_text().splitlines() == [
        "method,column,n,n_identities,difference,ci_low,ci_high,verdict"
    ]
    document = json.loads((report / "evaluate/metrics.json").read_text())
    document["judges"] = {"sha256": {"emotion": "ab" * 32}, "own_test": {"test_emotion_clip_acc_pct": 80.0, "test_emotion_clips": 24.0}}
    write_json(tmp_path / "reports/evaluate/metrics.json", document)
    rng = np.random.default_rng(0)
    people = [f"p{index // 3}" for index in range(27)]
    clips = pd.DataFrame(
        {"clip": [f"c{index}" for index in range(27)], "identity": people, "status": "ok", "psnr_db": rng.normal(20, 3, 27)}
    )
    write_text(tmp_path / "reports/evaluate/flowvqtalker_paired.csv", clips.to_csv(index=False))
    worse = clips.assign(psnr_db=clips["psnr_db"] - 1)
    write_text(tmp_path / "reports/evaluate/copy_source.csv", worse.to_csv(index=False))
    run(context(tmp_path, {"evaluate": tmp_path / "reports/evaluate/metrics.json"}))
    lines = (tmp_path / "reports/tables/differences.csv").read_text().splitlines()
    assert lines[1:] == ["copy_source,psnr_db,27,9,-1.00,-1.00,-1.00,worse"]
    for name in ("tables/quantitative.md", "tables/quantitative.tex", "index.html"):
        text = (tmp_path / "reports" / name).read_text().replace("\\%", "%").replace("\\_", "_")
        assert "-1.00 [-1.00, -1.00] worse" in text
        assert "One training per model, one sample per clip" in text
        assert "Emotion judge: 80.0 % of 24 clips named rightly; the aim of 85 % is missed." in text
        assert "In the paper" in text
        assert "4.03" in text
    checker = _check((tmp_path / "reports/index.html").read_text())
    assert checker.problems == []
    assert len(checker.ids) == len(set(checker.ids))


def test_how_noisy_fid_is_stands_beneath_the_table(report: Path, tmp_path: Path) -> None:
    document = json.loads((report / "evaluate/metrics.json").read_text())
    noise = {
        "clips": 48,
        "people": 8,
        "rows": 9,
        "halves_mean": 0.61,
        "halves_low": 0.07,
        "halves_high": 1.7,
        "smallest_difference": 0.04,
        "reason": "",
    }
    write_json(tmp_path / "reports/evaluate/metrics.json", {**document, "floors": {"fid_noise": noise}})
    run(context(tmp_path, {"evaluate": tmp_path / "reports/evaluate/metrics.json"}))
    for name in ("tables/quantitative.md", "tables/quantitative.tex", "index.html"):
        text = (tmp_path / "reports" / name).read_text()
        assert "0.610 apart [0.070, 1.700]" in text
        assert "less than 0.040" in text
        assert "another take of every sentence" in text
    write_json(
        tmp_path / "reports/evaluate/metrics.json",
        {**document, "floors": {"fid_noise": {**noise, "smallest_difference": None, "reason": "n too small"}}},
    )
    run(context(tmp_path, {"evaluate": tmp_path / "reports/evaluate/metrics.json"}))
    assert "not known: n too small" in (tmp_path / "reports/tables/quantitative.md").read_text()
    assert "How noisy" not in (report / "tables/quantitative.md").read_text()


def test_page_is_well_formed_self_contained_and_small(report: Path) -> None:
    page = (report / "index.html").read_text()
    checker = _check(page)
    assert checker.problems == []
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert {anchor for anchor in checker.anchors if anchor.lstrip("#") not in checker.ids} == set()
    assert checker.loads
    assert all(load.startswith("data:") for load in checker.loads)
    assert "@import" not in page
    assert "url(" not in page
    assert checker.count["video"] == len(EMOTIONS)
    assert len(page) < 30e6
    assert "cd" * 32 not in page
    assert "1, 0, 0, 1" not in page
    for word in ("extra: loss", "fail", "not measured", "81.5", "Codebook".lower(), "has no seeds &amp; &lt;no&gt;"):
        assert word in page
    assert "/tmp/" not in page


def test_gallery_videos_show_every_method_in_step_with_sound(report: Path, tmp_path: Path) -> None:
    import base64

    page = (report / "index.html").read_text()
    data = re.search(r"data:video/mp4;base64,([A-Za-z0-9+/=]+)", page)
    assert data is not None
    path = tmp_path / "clip.mp4"
    path.write_bytes(base64.b64decode(data[1]))
    frames, _ = read_video(path)
    assert frames.shape == (CLIP_FRAMES, 64, 64 * len(PARAMS["gallery_methods"]), 3)
    info = probe(path)
    assert info.has_sound
    assert "Synthetic" in info.metadata["comment"]


def test_report_is_byte_stable(report: Path, tmp_path: Path) -> None:
    reads = make_run(tmp_path)
    run(context(tmp_path, reads))
    ours = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    assert ours == sorted(path.relative_to(tmp_path / "reports") for path in (tmp_path / "reports").rglob("*") if path.is_file())
    for path in ours:
        assert (report / path).read_bytes() == (tmp_path / "reports" / path).read_bytes(), path
    assert {path.name for path in (report / "figures").glob("*.png")} == {
        "training_codebook.png", "training_flow_full.png", "pose_curves.png", "eye_opening.png", "blink_intervals.png", "emotion_confusion.png",
        "emotion_grid.png", "motion_spectrum.png", "latents_flow_full.png",
    }  # fmt: skip


def test_latents_have_a_figure_and_a_caption_only_where_the_training_wrote_them(report: Path, tmp_path: Path) -> None:
    page = (report / "index.html").read_text()
    assert "Latents of test frames (flow/full), each mapped under its own label" in page
    assert "Power spectral density of motion" in page
    assert "frame of strongest expression" in page
    reads = make_run(tmp_path)
    (tmp_path / "models/flow/full/latents.npz").unlink()
    figures = make_figures(read_results(reads), 50)
    assert "latents_flow_full" not in figures
    assert "training_flow_full" in figures


def test_a_run_with_almost_nothing_still_gives_a_report(tmp_path: Path) -> None:
    write_json(
        tmp_path / "reports/evaluate/metrics.json",
        {
            "methods": {
                "copy_source": {"ssim": {"value": 0.5, "ci": None, "n": 6, "reason": ""}},
                "mine": {"new_thing": {"value": 1.0, "n": 2}},
            }
        },
    )
    run(context(tmp_path, {"evaluate": tmp_path / "reports/evaluate/metrics.json"}))
    lines = (tmp_path / "reports/tables/quantitative.csv").read_text().splitlines()
    assert lines[0] == ISSUE_COLUMNS + ",new_thing"
    assert lines[-1].startswith("mine,")
    assert lines[1] == "ground_truth" + "," * (len(ISSUE_COLUMNS.split(",")))
    page = (tmp_path / "reports/index.html").read_text()
    assert _check(page).problems == []
    assert "generated no videos" in page


def test_missing_or_foreign_metrics_are_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"metrics\.json"):
        read_results({"evaluate": tmp_path / "metrics.json"})
    write_json(tmp_path / "metrics.json", {"rows": []})
    with pytest.raises(PipelineError, match="methods"):
        read_results({"evaluate": tmp_path / "metrics.json"})


def test_size_limit_leaves_clips_out_and_says_so(report: Path, tmp_path: Path) -> None:
    size = (report / "index.html").stat().st_size
    run(context(tmp_path, make_run(tmp_path), page_limit_mb=(size - 2000) / 1e6))
    page = (tmp_path / "reports/index.html").read_text()
    assert len(page) <= size - 2000
    assert re.search(r"\d clips were left out", page)
    assert 0 < page.count("<video") < len(EMOTIONS)


def test_best_follows_the_direction_of_the_column(tmp_path: Path) -> None:
    def document(column: str, values: dict[str, float]) -> set[str]:
        write_json(tmp_path / "metrics.json", {"methods": {name: {column: {"value": value}} for name, value in values.items()}})
        return best_methods(read_results({"evaluate": tmp_path / "metrics.json"}), column)

    values = {"ground_truth": 0.30, "codebook_ceiling": 99.0, "flowvqtalker_free": 0.28, "regression": -0.10, "copy_source": 0.60}
    assert document("psnr_db", values) == {"copy_source"}
    assert document("lse_d", values) == {"regression"}
    assert document("av_offset_frames", values) == {"regression"}
    assert document("blinks_per_s", values) == {"flowvqtalker_free"}
    assert document("blinks_per_s", {"regression": 0.0, "copy_source": 0.0}) == set()
    assert document("psnr_db", {"regression": 1.001, "copy_source": 1.002, "shuffled_audio": 0.5}) == {"regression", "copy_source"}
    assert document("psnr_db", {"regression": 1.001, "copy_source": 1.002}) == set()


def test_every_registered_metric_has_words() -> None:
    assert set(_WORDS) == {metric.name for metric in METRICS}
    assert len(COLUMNS) + 2 + len(FURTHER) == len(METRICS)


def test_small_helpers() -> None:
    assert format_number(-0.0001, 2) == "0.00"
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(1, 1) == [1]
    beta = np.zeros((2, 3, len(EXPRESSIONS)))
    beta[1, 2, EXPRESSION_INDEX["eyeBlink_L"]] = 0.5
    assert closure(beta).tolist() == [[0, 0, 0], [0, 0, 0.25]]
    chart = line_chart("loss <a>", {"train": np.array([[0.0, 1.0]]), "val": np.array([[0.0, 1000.0], [5.0, 1.0]])})
    assert "loss &lt;a&gt; (log scale)" in chart
    assert "nan" not in chart
    checks = check_rows(
        [{"name": "a", "value": 1, "pass": np.True_}, {"name": "b", "value": None, "pass": None}, {"value": 2.0, "pass": None}]
    )
    assert [check["word"] for check in checks] == ["pass", "not measured", "no target"]


def test_training_figures_leave_out_what_never_changes(tmp_path: Path) -> None:
    rows = [(step, "train", name, value) for step in range(5) for name, value in (("loss", 1.0 / (1 + step)), ("ceiling", 31.5))]
    history = pd.DataFrame(rows, columns=["step", "split", "name", "value"])
    figure = _training_figure(Training("flow/full", history, {}, (), None), 50)
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes if axis.get_visible()] == ["loss"]
    assert "1 value that never changes" in figure.get_suptitle()
    assert _training_figure(Training("flow/full", history[history["name"] == "ceiling"], {}, (), None), 50) is None


def test_gallery_prefers_strong_levels_and_alternates_identities(report: Path) -> None:
    results = read_results({"evaluate": report / "evaluate/metrics.json"})
    crops = pd.DataFrame(
        {
            "clip": ["a1", "a2", "b1", "c1"],
            "emotion": ["happy", "happy", "happy", ""],
            "level": [3, 3, 1, ""],
            "identity": ["a", "a", "b", "c"],
        }
    )
    results = type(results)(results.scores, crops=crops, generated={"regression": pd.DataFrame({"clip": ["a1", "a2", "b1", "c1"]})})
    assert [row["clip"] for row in choose_clips(results, 2)] == ["a1", "b1", "c1"]
    assert choose_clips(results, 0) == []


PLAY = """(async () => {
  const video = document.querySelector("video");
  video.scrollIntoView();
  video.closest(".clip").querySelector("button.play").click();
  const started = performance.now();
  while (performance.now() - started < 60000 && !(video.currentTime > 0.2 && video.webkitAudioDecodedByteCount > 0)) {
    await new Promise(done => setTimeout(done, 50));
  }
  return { error: video.error && video.error.message, seconds: video.duration, at: video.currentTime, width: video.videoWidth, height: video.videoHeight,
           sound: video.webkitAudioDecodedByteCount, picture: video.webkitDecodedFrameCount, muted: video.muted, volume: video.volume };
})()"""
SORT = """(() => {
  const table = document.querySelector("table.sortable");
  const heads = [...table.tHead.rows[0].cells];
  const column = heads.findIndex((head, index) => index > 0 && head.querySelector("button") && new Set([...table.tBodies[0].rows].map(row => row.cells[index].dataset.v)).size > 3);
  const values = () => [...table.tBodies[0].rows].map(row => row.cells[column].dataset.v ?? row.cells[column].textContent.trim());
  const before = values();
  const button = heads[column].querySelector("button");
  button.click(); const up = values(); const mark = heads[column].getAttribute("aria-sort");
  button.click(); const down = values();
  button.click(); const back = values();
  return { before, up, down, back, mark };
})()"""


@pytest.fixture
def browser(tmp_path: Path):
    if find_browser() is None:
        pytest.skip("no Chromium on this machine")
    page = Browser(tmp_path)
    yield page
    page.close()


def check_sorting(found: dict) -> None:
    known = [float(value) for value in found["before"] if value]
    empty = [""] * (len(found["before"]) - len(known))
    assert found["mark"] == "ascending"
    assert found["back"] == found["before"]
    assert [float(value) if value else "" for value in found["up"]] == sorted(known) + empty
    assert [float(value) if value else "" for value in found["down"]] == sorted(known, reverse=True) + empty


def test_page_plays_with_sound_sorts_and_stays_silent_in_a_browser(report: Path, browser: Browser, tmp_path: Path) -> None:
    # A space and an accent: a page that works from any path works from this one.
    page = tmp_path / "mes résultats" / "index.html"
    page.parent.mkdir()
    page.write_bytes((report / "index.html").read_bytes())
    browser.open(page)
    check_sorting(browser.evaluate(SORT))
    played = browser.evaluate(PLAY)
    assert played["error"] is None
    assert played["at"] > 0.2
    assert played["sound"] > 0
    assert not played["muted"]
    assert played["volume"] == 1
    assert played["picture"] > 0
    assert played["seconds"] == pytest.approx(CLIP_FRAMES / 25, abs=0.1)
    assert (played["width"], played["height"]) == (64 * len(PARAMS["gallery_methods"]), 64)
    assert browser.evaluate("[...document.images].every(image => image.loading === 'lazy' || image.complete && image.naturalWidth > 0)")
    theme = browser.evaluate("document.documentElement.dataset.theme")
    assert browser.evaluate("document.getElementById('theme').click(); document.documentElement.dataset.theme") != theme
    assert browser.problems == []


def test_the_browser_check_sees_a_broken_page(report: Path, browser: Browser, tmp_path: Path) -> None:
    page = (report / "index.html").read_text()
    broken = tmp_path / "broken.html"
    broken.write_text(page.replace("</body>", "<img src='https://example.invalid/x.png'><script>missing.call()</script></body>"))
    browser.open(broken)
    browser.evaluate("new Promise(done => setTimeout(done, 200))")
    assert any("exception" in problem for problem in browser.problems)
    assert any("example.invalid" in problem or "violates" in problem for problem in browser.problems)
