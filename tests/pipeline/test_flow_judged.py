"""How the judge reads generated motion: arithmetic, the reading of frames, and its parts with a judge that sees coefficients."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_models import _flow

from flowvqtalker.constants import EMOTIONS, intensity_of
from flowvqtalker.corpus.plan import CorpusSize, make_plan
from flowvqtalker.experts.emotion import EmotionNet, UsualFace
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.flow.sampling import MotionRequest
from flowvqtalker.flow.transfer import Reading
from flowvqtalker.flow.windows import MotionClip
from flowvqtalker.landmarks.boxes import smooth_landmarks
from pipeline.errors import PipelineError
from pipeline.evaluation.analysis import analyse_frames
from pipeline.io import file_sha256, text_sha256, write_json
from pipeline.media import read_video, write_video
from pipeline.params import read_config, validate_section
from pipeline.scoredclips import ScoredClip
from pipeline.tools import flow_judged as tool
from pipeline.tools import flow_judged_page as page
from pipeline.tools.flow_judged_page import Pair, Sweep, Verdict

E, FRAMES, SIZE = 53, 12, 64


def make_clip(name: str, person: str, emotion: str, level: int, sentence: str) -> ScoredClip:
    row = {
        "clip": name,
        "identity": person,
        "emotion": emotion,
        "level": level,
        "sentence": sentence,
        "n_frames": FRAMES,
        "mel": "m",
        "sha256": name,
    }
    return ScoredClip(row, row, "enrolment", None, None, 3)


def logits_for(emotion: str) -> np.ndarray:
    return 5.0 * np.eye(len(EMOTIONS))[EMOTIONS.index(emotion)]


def verdict(row: str, number: int, said: str, level: int = 3, seed: int = 0, person: int | None = None) -> Verdict:
    return Verdict(row, f"c{number}", f"p{number // 2 if person is None else person}", "happy", level, seed, said, 0.5)


def sweep(probability: list[float], person: str = "p0", emotion: str = "happy") -> Sweep:
    return Sweep("c", person, emotion, 1, [*probability, 0.9], emotion, True, -0.1, 0.8, 0.7, 0.05)


@pytest.mark.parametrize(
    ("values", "rises", "steps"),
    [
        ([0, 0.1, 0.2, 0.3, 0.4], True, True),
        ([0.5, 0.5, 0.5, 0.5, 0.5], True, True),
        ([0.30, 0.28, 0.30, 0.28, 0.40], True, True),  # a fall of the tolerance itself
        ([0.30, 0.27, 0.40, 0.50, 0.60], False, False),
        ([0.30, 0.285, 0.27, 0.255, 0.24], False, True),  # small falls that add up
        ([0.1, 0.9, 0.95, 0.99, 0.9], False, False),
    ],
)
def test_a_sweep_rises_when_nothing_lies_below_what_was_before(values, rises, steps):
    assert page.rises(values) is rises and page.steps_rise(values) is steps


def test_share_of_sweeps_counts_those_that_rise_and_leaves_out_what_nobody_saw():
    up, down = [0, 0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1, 0.0]
    sweeps = [sweep(up, f"p{i}") for i in range(9)] + [sweep(down, "p9"), sweep([math.nan, *up[1:]], "p9")]
    found = page.share_of_sweeps(sweeps)
    assert found.value == pytest.approx(0.9) and (found.n, found.n_clusters) == (10, 10) and found.ci[0] < 0.9 <= found.ci[1]
    assert page.against(found, 0.9) == "yes, undecided" and page.against(replace(found, value=0.89), 0.9) == "**no**, undecided"


def test_ratios_are_over_the_same_clips_and_seeds_count_once():
    # Truth: 3 of 4 right; samples: (1 of 2), (2 of 2), (0 of 2), and a clip without a face in either.
    said = {"c0": "happy", "c1": "happy", "c2": "happy", "c3": "sad"}
    truth = [verdict("truth", int(clip[1]), name) for clip, name in said.items()]
    flow = [
        verdict("flow", i, name, seed=seed)
        for i, names in enumerate((("happy", "sad"), ("happy", "happy"), ("sad", "sad")))
        for seed, name in enumerate(names)
    ]
    flow += [verdict("flow", 3, "", seed=0), verdict("flow", 3, "", seed=1)]
    assert page.accuracy(truth, "truth").value == pytest.approx(0.75)
    assert page.accuracy(flow, "flow").value == pytest.approx(0.5) and page.accuracy(flow, "flow").n == 3
    found = page.ratio(truth + flow, "flow", "truth")
    assert found.value == pytest.approx(1.5 / 3) and found.n == 3 and found.ci is None and found.reason == "n too small"
    assert math.isnan(page.ratio(truth, "flow", "truth").value) and page.share(page.ratio(truth, "flow", "truth"), False) == "no data"
    assert page.difference(truth + flow, "flow", "truth").value == pytest.approx(-0.5)


def test_levels_are_apart_and_intervals_resample_people():
    verdicts = []
    for number in range(20):
        level = number % 2 + 1
        verdicts += [verdict("truth", number, "happy", level), verdict("flow", number, "happy" if level == 2 else "sad", level)]
    assert page.ratio(verdicts, "flow", "truth", 1).value == 0 and page.ratio(verdicts, "flow", "truth", 2).value == 1
    both = page.ratio(verdicts, "flow", "truth")
    # Every person has one clip of each level: however they are drawn, half is right.
    assert both.n_clusters == 10 and both.ci == pytest.approx((0.5, 0.5)) and both.value == pytest.approx(0.5)
    assert page.ratio(verdicts, "flow", "truth", 3).reason == "no data"


def test_what_the_fit_loses_is_told_clip_by_clip():
    verdicts = [
        verdict("truth", 0, "happy"),
        verdict("fitted", 0, "neutral"),
        verdict("truth", 1, "happy"),
        verdict("fitted", 1, "neutral"),
    ]
    verdicts += [
        verdict("truth", 2, "sad", 1),
        verdict("fitted", 2, "happy", 1),
        verdict("truth", 3, "happy"),
        verdict("fitted", 3, "happy"),
    ]
    lost, won = page.lost_and_won(verdicts, "fitted", "truth")
    assert dict(lost) == {("happy", 3, "happy", "neutral"): 2} and dict(won) == {("happy", 1, "sad", "happy"): 1}
    counts = page.confusion(verdicts, "fitted")
    happy = EMOTIONS.index("happy")
    assert counts[happy, 0] == 2 and counts[happy, happy] == 2 and counts.sum() == 4
    text = "\n".join(page._fit_part(verdicts, [page.Shift("happy", "mouthSmile", 0.5, 0.3), page.Shift("happy", "jawOpen", 0.2, 0.2)]))
    assert "happy 3: happy to neutral (2)" in text and "mouthSmile 0.50 to 0.30, jawOpen" in text and "| happy | 2 |" in text


def test_results_of_a_transfer_are_compared_with_the_references():
    def pair(number: int, inferred: str, latents: str) -> Pair:
        names = {tool.SOURCES[0]: inferred, tool.SOURCES[1]: "sad"}
        return Pair(f"c{number}", "t", f"p{number // 2}", "happy", 3, names, 1.0, {page.LATENTS: latents, page.LABEL: "sad"})

    pairs = [pair(0, "happy", "happy"), pair(1, "happy", "happy"), pair(2, "angry", "angry"), pair(3, "happy", "sad")]
    truth = [verdict("truth", i, "happy" if i else "sad") for i in range(4)]
    assert page.inferred_right(pairs, tool.SOURCES[0]).value == 0.75 and page.inferred_right(pairs, tool.SOURCES[1]).value == 0
    assert page.shown_right(pairs, page.LATENTS).value == 0.5
    assert page.shown_ratio(pairs, truth, page.LATENTS, "truth").value == pytest.approx(2 / 3)
    text = "\n".join(page._transfer_part(truth, pairs))
    assert (
        "right (3), the result is read right in: latents 66.7 %, label 0.0 %" in text
        and "wrong (1), the judge names the inferred emotion in: latents 1" in text
    )


def test_every_pair_is_of_two_people_and_two_sentences_and_targets_take_turns():
    clips = [make_clip(f"{person}{s}", person, "happy", 2, f"s{s}") for person in "abc" for s in range(4)]
    pairs = tool.pairs_of(clips)
    assert [reference.clip for reference, _ in pairs] == sorted(clip.clip for clip in clips)
    assert all(r.row["identity"] != t.row["identity"] and r.row["sentence"] != t.row["sentence"] for r, t in pairs)
    uses = [sum(target.clip == clip.clip for _, target in pairs) for clip in clips]
    assert max(uses) <= 2 and {target.row["identity"] for reference, target in pairs if reference.row["identity"] == "a"} == {"b", "c"}
    assert tool.pairs_of(clips) == tool.pairs_of(clips[::-1]) and tool.pairs_of(clips[:4]) == []
    assert [clip.row["identity"] for clip in tool.targets_of(clips, 2, 1)] == ["a", "a", "b", "b", "c", "c"]


def test_one_region_at_a_time_comes_from_the_fit():
    true, fit = np.zeros((3, E), np.float32), np.ones((3, E), np.float32)
    taken = sum(tool.swapped(true, fit, region) for region in tool.REGIONS)
    np.testing.assert_array_equal(taken, np.ones((3, E)))  # every coefficient belongs to exactly one region
    brows = tool.swapped(true, fit, "brows")
    assert brows[:, EXPRESSION_INDEX["browDown_L"]].all() and not brows[:, EXPRESSION_INDEX["jawOpen"]].any() and not true.any()


def test_means_of_the_fit_are_compared_by_emotion():
    clip = make_clip("a", "p", "happy", 2, "s")
    true, fit = np.zeros((3, E), np.float32), np.zeros((3, E), np.float32)
    true[:, EXPRESSION_INDEX["mouthSmile_L"]] = 0.4
    fit[:, EXPRESSION_INDEX["jawOpen"]] = 0.3
    shifts = tool.shifts_of([tool.Motions(clip, fit, np.zeros((3, 6)), true, np.zeros((3, 6)))])
    found = {one.name: (one.true, one.fit) for one in shifts if one.emotion == "happy"}
    assert found["mouthSmile"] == pytest.approx((0.2, 0)) and found["jawOpen"] == pytest.approx((0, 0.3)) and len(found) == len(shifts)


class Finder:
    """Landmarks that tremble, and none in frame 2."""

    def detect(self, frames: np.ndarray) -> SimpleNamespace:
        rng = np.random.default_rng(len(frames))
        base = rng.uniform(15, 50, (68, 2))
        points = (base + rng.normal(0, 0.5, (len(frames), 68, 2))).astype(np.float32)
        points[2] = np.nan
        return SimpleNamespace(landmarks_px=points if frames.max() > 0 else np.full_like(points, np.nan))


@pytest.fixture
def screen(monkeypatch, tmp_path):
    torch.manual_seed(0)
    network = EmotionNet(32, 4, 8, len(EMOTIONS), 0, 0.0).eval().requires_grad_(False)
    usual = UsualFace(np.full((8, 8, 8), 0.1, np.float32), np.zeros((68, 2), np.float32))
    judges = SimpleNamespace(networks={"emotion": network}, hashes={"emotion": "h"}, reasons={}, metrics={})
    scorer = SimpleNamespace(judges=judges, finder_key="f", landmarks=SimpleNamespace(smooth_sd_frames=0.4), usual_face=lambda _: usual)
    monkeypatch.setattr(tool, "Scorer", lambda _: scorer)
    monkeypatch.setattr(tool, "make_landmarker", lambda *_: Finder())
    ctx = SimpleNamespace(stamp={"code": "c"}, seed=1, cfg=SimpleNamespace(crf=18.0), cache=tmp_path / "cache", model_folder=lambda _: None)
    drawn = []

    def draw(clip, beta, pose):
        drawn.append(clip.clip)
        return (np.random.default_rng(int(1000 * beta.sum())).uniform(40, 200, (len(beta), SIZE, SIZE, 3))).astype(np.uint8)

    made = tool.Screen(ctx, ctx, SimpleNamespace(draw_clay=draw))
    made.times_drawn = drawn
    return made


def test_the_judge_reads_frames_as_the_evaluation_does(screen, tmp_path):
    frames = np.random.default_rng(5).uniform(0, 255, (FRAMES, SIZE, SIZE, 3)).astype(np.uint8)
    write_video(tmp_path / "a.mp4", frames, crf=18.0)
    decoded = read_video(tmp_path / "a.mp4")[0]
    landmarks = smooth_landmarks(Finder().detect(decoded).landmarks_px, 0.4)
    wanted = analyse_frames(decoded, landmarks, {"emotion": screen.network}, lambda: screen.scorer.usual_face("p"), 10)["emotion"]
    np.testing.assert_array_equal(screen.judge(frames, "p"), wanted)
    assert np.isnan(screen.judge(np.zeros_like(frames), "p")).all()


def test_verdicts_are_kept_by_what_they_depend_on(screen):
    clip = make_clip("a", "p", "happy", 2, "s")
    clip.row["size_px"] = SIZE
    beta, pose = np.full((FRAMES, E), 0.2, np.float32), np.zeros((FRAMES, 6), np.float32)
    first = screen.drawn(clip, beta, pose)
    np.testing.assert_allclose(screen.drawn(clip, beta, pose), first)
    assert screen.times_drawn == ["a"]
    assert not np.array_equal(screen.drawn(clip, beta + 0.01, pose), first)
    other = make_clip("b", "q", "happy", 2, "s")
    other.row["size_px"] = SIZE
    screen.drawn(other, beta, pose)
    assert screen.times_drawn == ["a", "a", "b"]


def sees_coefficients(clip: ScoredClip, beta: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """A judge for whom a smile is happy, and no smile neutral."""
    smile = float(beta[:, EXPRESSION_INDEX["mouthSmile_L"]].mean())
    return smile * logits_for("happy") + (1 - smile) * logits_for("neutral")


def test_intensities_are_swept_with_one_seed_and_zero_is_drawn_once():
    clip = make_clip("a", "p", "sad", 2, "s")
    asked = MotionRequest(torch.zeros(FRAMES, 16, 80), torch.zeros(E), torch.zeros(6), 6, 0.5, 9)
    seen: list[MotionRequest] = []

    def sample(requests):
        seen.extend(requests)
        made = [np.full((FRAMES, E), 0.01 * one.intensity, np.float32) for one in requests]
        for one, beta in zip(requests, made, strict=True):
            beta[:, EXPRESSION_INDEX["mouthSmile_L"]] = one.intensity / 1.5 if EMOTIONS[one.emotion] == "happy" else 0.0
        return made

    bounds = np.zeros(E), np.full(E, 0.9)
    sweeps = tool.judge_sweeps(sample, [clip], lambda _: asked, {"a": np.zeros((FRAMES, 6))}, sees_coefficients, bounds)
    assert len(seen) == 36 and len({one.seed for one in seen}) == 1 and [one.intensity for one in seen[:6]] == [0, 0.25, 0.5, 0.75, 1, 1.5]
    by_emotion = {one.emotion: one for one in sweeps}
    happy = by_emotion["happy"]
    assert page.rises(happy.probability[:5]) and happy.probability[0] < 0.01 and happy.probability[5] > 0.95 and happy.said == "happy"
    assert happy.over == pytest.approx(0.1) and happy.largest == pytest.approx(1.0) and happy.finite
    assert by_emotion["sad"].over == 0 and by_emotion["sad"].said == "neutral"
    text = "\n".join(page._intensity_part(sweeps))
    assert "within the range of the training clips in 6 " in text and "finite in 7 of 7" in text and "| happy | 1 of 1 |" in text


def test_transfers_replay_latents_or_take_the_label_only():
    flow = _flow(read_config("params.yaml"), "expression")
    clips = [make_clip(f"{person}{s}", person, emotion, 3, f"s{s}") for person, emotion in (("a", "happy"), ("b", "sad")) for s in range(2)]
    generator = torch.Generator().manual_seed(0)
    motion = [
        MotionClip(
            clip.clip, clip.row["identity"], torch.rand(40, 80, generator=generator), 80 * (torch.arange(FRAMES) - 2) // 25,
            torch.rand(FRAMES, E, generator=generator), torch.zeros(FRAMES, 6), torch.rand(E, generator=generator), torch.zeros(6),
            EMOTIONS.index(clip.row["emotion"]), intensity_of(clip.row["emotion"], 3),
        )
        for clip in clips
    ]  # fmt: skip
    readings = tool.read_references(flow, motion)
    assert set(readings) == set(tool.SOURCES) and all(isinstance(one, Reading) for one in readings[tool.SOURCES[0]].values())

    def asked(clip: ScoredClip) -> MotionRequest:
        return MotionRequest(torch.zeros(FRAMES, 16, 80), torch.full((E,), 0.1), torch.zeros(6), 0, 0.0, len(clip.clip))

    sampler = tool.Sampler(flow, 1.0, 1.0, 8, asked)
    chosen = [readings[tool.SOURCES[0]][clip.clip] for clip in clips]
    played, told = sampler.shown(clips, chosen, True), sampler.shown(clips, chosen, False)
    assert all(beta.shape == (FRAMES, E) for beta in played) and not np.allclose(played[0], told[0])
    # The label alone counts when nothing is played back: other latents change nothing.
    np.testing.assert_allclose(
        sampler.shown(clips, [replace(one, latents=one.latents + 1) for one in chosen], False)[0], told[0], atol=1e-5
    )
    heard: list[str] = []

    def read(clip, beta, pose):
        heard.append(clip.clip)
        return logits_for("happy")

    pairs = tool.pairs_of(clips)
    found = tool.judge_transfers(sampler, pairs, readings, {clip.clip: np.zeros((FRAMES, 6)) for clip in clips}, read)
    assert heard == 2 * [target.clip for _, target in pairs]
    assert [one.emotion for one in found] == ["happy", "happy", "sad", "sad"] and {one.said[page.LABEL] for one in found} == {"happy"}
    assert found[0].inferred[tool.SOURCES[0]] == readings[tool.SOURCES[0]]["a0"].emotion


def test_the_corpus_own_sweep_is_its_performance_at_other_intensities():
    numbers = validate_section("corpus", read_config("params.yaml")["corpus"]).synthetic
    size = CorpusSize(**{name: getattr(numbers, name) for name in CorpusSize.__dataclass_fields__})
    spec = next(one for one in make_plan(size, 1) if one.split == "test" and one.emotion == "happy" and one.level == 3)
    corpus = SimpleNamespace(cfg=SimpleNamespace(synthetic=numbers), seed=1)
    clip = make_clip("a", "p", "happy", 3, "s")
    clip.row.update(source_clip=spec.clip, start_frame=2)
    shown: list[np.ndarray] = []

    def read(clip, beta, pose):
        assert beta.shape == (clip.n_frames, E)
        shown.append(beta)
        return sees_coefficients(clip, beta, pose)

    sweeps = tool.perform_sweep(Path(), corpus, clip, read, np.zeros((FRAMES, 6)))
    assert [one.emotion for one in sweeps] == list(EMOTIONS[1:]) and len(shown) == 1 + 7 * 4
    happy = next(one for one in sweeps if one.emotion == "happy")
    assert page.rises(happy.probability) and happy.probability[4] > happy.probability[0] + 0.05
    clip.row["source_clip"] = "nobody"
    with pytest.raises(PipelineError, match="no clip nobody"):
        tool.perform_sweep(Path(), corpus, clip, read, np.zeros((FRAMES, 6)))


def test_the_page_the_figure_and_the_file_hold_together(tmp_path):
    verdicts = [
        Verdict(row, f"c{i}", f"p{i // 2}", emotion, level, seed, emotion if (i + seed) % 3 else "sad", 0.5)
        for i, (emotion, level) in enumerate([("neutral", 0), ("happy", 1), ("angry", 2), ("happy", 3)] * 5)
        for row, seeds in (("real", 1), ("truth_head", 1), ("truth", 1), ("fitted", 1), ("flow", 3))
        for seed in range(seeds)
    ]
    sweeps = [sweep([0.1, 0.2, 0.3, 0.4, 0.5], f"p{i}", emotion) for i in range(8) for emotion in EMOTIONS[1:]]
    pairs = [
        Pair(f"c{i}", "t", f"p{i // 2}", "happy", 3, dict.fromkeys(tool.SOURCES, "happy"), 1.0, {page.LATENTS: "happy", page.LABEL: ""})
        for i in range(16)
    ]
    about = {
        "note": "A tiny run.", "variant": "full", "code": "abc", "seeds": 3, "clips": 20, "identities": 10, "frames": 200,
        "temperature": 0.95,
        "guidance": 1.6, "crf": 18.0, "judge": 75.0, "agreement": {"ground_truth": (19, 20)},
    }  # fmt: skip
    performed = [sweep([0.1, 0.2, 0.3, 0.2, 0.5], "p0", "happy"), sweep([0.1, 0.2, 0.3, 0.4, 0.5], "p1", "happy")]
    text = page.markdown(about, verdicts, pairs, sweeps, performed, [page.Shift("happy", "jawOpen", 0.1, 0.2)], "figures/x.png")
    for words in (
        "A tiny run.",
        "figures/x.png",
        "| samples of ExpFlow",
        "| level 2 |",
        "| rise within 0.02 | 100.0 [100.0, 100.0] | yes |",
        "No frame is left out",
        "`ground_truth` for 19 of 20 clips",
    ):
        assert words in text
    assert "nan" not in text.lower().replace("nano", "")
    write_json(tmp_path / "x.json", page.plain(about, verdicts, pairs, sweeps, performed))  # refuses NaN
    page.figure(tmp_path / "x.png", verdicts, sweeps)
    assert "| the corpus' own performance: rise within 0.02 | 50.0" in text
    assert next(line for line in text.splitlines() if line.startswith("| happy | 8")).endswith("| 1 of 2 | 0.50 |")
    without = page.markdown(about, verdicts, [], [], [], [], "figures/x.png")
    assert "No intensity was swept." in without and "No pair of test clips" in without
    write_json(tmp_path / "y.json", page.plain(about, verdicts, [], [], []))
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_an_unfinished_run_is_refused_with_the_stage(tmp_path):
    with pytest.raises(PipelineError, match="no stamp of the stage generate"):
        tool.stage_context(tmp_path, "generate", ("crop",))
    values = read_config("params.yaml")
    write_json(
        tmp_path / ".stamps/generate.json",
        {"stage": "generate", "variant": "", "name": "default", "seed": 1, "code": "c", "params": {"generate": values["generate"]}},
    )
    with pytest.raises(PipelineError, match=r"data/crop/index\.csv: there is no such file"):
        tool.stage_context(tmp_path, "generate", ("crop",))
    (tmp_path / "data/crop").mkdir(parents=True)
    (tmp_path / "data/crop/index.csv").touch()
    ctx = tool.stage_context(tmp_path, "generate", ("crop",))
    assert (
        ctx.seed == 1
        and ctx.cfg.temperature == values["generate"]["temperature"]
        and ctx.reads["flow_full"] == tmp_path / "models/flow/full/index.json"
    )


def test_verdicts_are_compared_with_an_evaluation_of_the_same_data_only(tmp_path):
    folder = tmp_path / "reports/evaluate"
    folder.mkdir(parents=True)
    (tmp_path / "index.csv").write_text("clip\n")
    (folder / "ground_truth.csv").write_text("clip,emotion_verdict\nc0,happy\nc1,sad\n")
    ctx = SimpleNamespace(root=tmp_path, reads={"crop": tmp_path / "index.csv"})
    verdicts = [verdict("real", 0, "happy"), verdict("real", 1, "happy"), verdict("fitted", 0, "happy"), verdict("real", 2, "sad")]
    assert tool.agreement(ctx, verdicts) == {}
    write_json(folder / "metrics.json", {"data_sha256": "of other data"})
    assert tool.agreement(ctx, verdicts) == {}
    write_json(folder / "metrics.json", {"data_sha256": text_sha256(f"crop={file_sha256(tmp_path / 'index.csv')}")})
    assert tool.agreement(ctx, verdicts) == {"ground_truth": (1, 2)}
