"""The acceptance of the pictures on drawn clips: what is perfect gets 1, what is blurred less, eyes that never close nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from flowvqtalker.image.codebook import Codebook, CodebookConfig
from flowvqtalker.metrics.change import to_unit
from flowvqtalker.metrics.pixels import psnr_db, ssim
from flowvqtalker.metrics.sharpness import mouth_sharpness
from pipeline.errors import PipelineError
from pipeline.tools import vqig_acceptance as tool
from pipeline.tools.vqig_pictures import Picture, faces_figure, maps_figure
from tests.unit.metrics.test_metrics_pictures import SIZE, face, picture

FRAMES, SHUT = 12, slice(4, 7)
PEOPLE = [f"te{number:02d}" for number in range(8)]


def clip_of(person: str, emotion: str, *, eyes_open: bool = False, blur: float = 0.0) -> tool.View:
    """A drawn clip; ``made`` may keep its eyes open or be blurred round the mouth."""
    number = PEOPLE.index(person)
    generator = np.random.default_rng(number)
    points = np.stack([face((0.2 * number, 0.5 * (t % 3))) for t in range(FRAMES)])
    beta = np.zeros((FRAMES, len(EXPRESSIONS)))
    closed = np.zeros(FRAMES, bool)
    closed[SHUT] = True
    for name in ("eyeBlink_L", "eyeBlink_R"):
        beta[closed, EXPRESSION_INDEX[name]] = 1.0
    frown = 40.0 if emotion == "angry" else 0.0

    def draw(shut: np.ndarray) -> np.ndarray:
        frames = np.stack([picture(point, shut=bool(one)) for point, one in zip(points, shut, strict=True)]).astype(float)
        frames[:, :18, 20:44] -= frown
        return (frames + generator.integers(0, 3, frames.shape[:3])[..., None]).clip(0, 255).astype(np.uint8)

    real = draw(closed)
    made = draw(closed & (not eyes_open))
    if blur:
        made[:, 38:] = np.stack([gaussian_filter(one[38:].astype(float), (blur, blur, 0)) for one in made]).astype(np.uint8)
    frames = {"truth": real, "ceiling": real, "made": made}
    copy = np.repeat(real[:1], FRAMES, 0)
    with np.errstate(divide="ignore"):
        compared = {
            role: {"psnr_db": psnr_db(one, real), "psnr_face_db": psnr_db(one, real), "ssim": ssim(one, real)}
            for role, one in (("ceiling", real), ("made", made), ("source", copy))
        }
    found = points.copy()
    for first in (36, 42) if not eyes_open else ():
        found[closed, first + 1 : first + 6, 1] = found[closed, first : first + 1, 1]
    truth_found = points.copy()
    for first in (36, 42):
        truth_found[closed, first + 1 : first + 6, 1] = truth_found[closed, first : first + 1, 1]
    return tool.View(
        f"{person}_{emotion}", person, emotion, 3 if emotion != "neutral" else 0, real, frames, {"truth": truth_found, "ceiling": truth_found, "made": found},
        points, points, beta, np.arange(FRAMES) >= FRAMES // 2, compared, {role: mouth_sharpness(one, points) for role, one in frames.items()}, copy,
    )  # fmt: skip


def numbers(**kind) -> list[tool.Numbers]:
    template = to_unit(face(), SIZE)
    return [tool.measure(clip_of(person, emotion, **kind), template) for person in PEOPLE for emotion in ("neutral", "angry")]


def eyes() -> tool.Eyes:
    closure = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    return tool.Eyes({look: np.array([0.1, 0.15, 0.95, 1.0, 1.0]) for look in tool.LOOKS}, closure)


def by_name(rows: list[tool.Row], start: str) -> tool.Row:
    return next(row for row in rows if row.name.startswith(start))


@pytest.fixture(scope="module")
def perfect() -> list[tool.Numbers]:
    return [replace(clip, arrays={**clip.arrays, "made": clip.arrays["ceiling"]}, faces={**clip.faces, "made": clip.faces["ceiling"]}) for clip in numbers()]  # fmt: skip


def test_the_ceiling_against_itself_is_perfect(perfect):
    rows = tool.picture_rows(perfect, eyes(), 0.3)
    for start in (
        "sharpness over the ceiling's",
        "light against dark between open lips over the ceiling's",
        "motion-compensated difference",
    ):
        row = by_name(rows, start)
        assert row.value == pytest.approx(1)
        assert row.ci == pytest.approx((1, 1))
        assert row.holds in (True, None)
    for look in tool.LOOKS.values():
        assert by_name(rows, f"closed eyes found closed: {look}").value == 1
        assert by_name(rows, f"closed eyes found closed: {look}").holds is True
        assert by_name(rows, f"open eyes found closed: {look}").value == 0
    assert by_name(rows, "correlation between open lips").value == pytest.approx(1)
    found = tool.changes(perfect)
    masks = tool.change_masks(to_unit(face(), SIZE), SIZE)
    change = tool.change_rows(found, masks, {})
    assert by_name(change, "change with the label over the ceiling's: brows").value == pytest.approx(1)
    assert by_name(change, "correlation of the change with the truth's: brows").value == pytest.approx(1)


def test_a_blurred_mouth_loses_sharpness_teeth_and_decibels():
    rows = tool.picture_rows(numbers(blur=2.0), eyes(), 0.3)
    sharp = by_name(rows, "sharpness over the ceiling's")
    assert sharp.value is not None
    assert sharp.value < 0.7
    assert sharp.holds is False
    teeth = by_name(rows, "light against dark between open lips over the truth's").value
    assert teeth is not None
    assert teeth < 0.95


def test_eyes_that_stay_open_are_never_found_closed():
    rows = tool.picture_rows(numbers(eyes_open=True), eyes(), 0.3)
    for look in tool.LOOKS.values():
        row = by_name(rows, f"closed eyes found closed: {look}")
        assert row.value == 0
        assert row.holds is False
        assert row.n == f"{len(PEOPLE) * 2 * 3} closed frames"


def test_moved_frames_alone_count_for_the_gap():
    clips = numbers()
    worse = [
        replace(
            clip,
            arrays={
                "truth": clip.arrays["truth"],
                "ceiling": {"psnr_db": np.full(FRAMES, 30.0)},
                "made": {"psnr_db": np.where(clip.moved, 28.0, 10.0)},
            },
        )
        for clip in clips
    ]
    assert tool.difference(worse, "psnr_db", "ceiling", "made", True).value == pytest.approx(2)
    assert tool.difference(worse, "psnr_db", "ceiling", "made", False).value == pytest.approx(11)


def test_ratio_is_of_sums_and_its_interval_is_over_people():
    found = tool.ratio(PEOPLE * 2, [2.0] * 16, [4.0] * 8 + [1.0] * 8, "x")
    assert found.value == pytest.approx(32 / 40)
    assert (found.n, found.n_clusters) == (16, 8)
    spread = tool.ratio(PEOPLE, [*range(8)], [4.0] * 8, "y").ci
    assert spread is not None
    assert spread[0] < 3.5 / 4 < spread[1]
    assert tool.ratio(["a"], [np.nan], [1.0], "z").reason == "no data"


def test_change_is_in_the_brows_where_it_was_painted():
    found = tool.changes(numbers())
    assert len(found) == len(PEOPLE)
    assert {one.emotion for one in found} == {"angry"}
    template = to_unit(face(), SIZE)
    masks = tool.change_masks(template, SIZE)
    assert not (masks["brows"] & masks["skin"]).any()
    lines = tool.emotion_lines(found, masks)
    brows = next(line for line in lines if line.region == "brows" and line.emotion == "all")
    skin = next(line for line in lines if line.region == "skin" and line.emotion == "all")
    assert brows.truth is not None
    assert skin.truth is not None
    assert brows.truth > 3 * skin.truth


def test_people_without_a_neutral_clip_have_no_change():
    clips = [clip for clip in numbers() if clip.identity != PEOPLE[0] or clip.emotion != "neutral"]
    assert {one.identity for one in tool.changes(clips)} == set(PEOPLE[1:])


def test_codes_are_counted_by_frame_and_face():
    torch.manual_seed(0)
    codebook = Codebook(CodebookConfig(downsample=8, width=16, blocks=1, codes=32, dim=8, decay=0.9, dead_below=0.1)).train()
    codebook(torch.rand(4, 3, SIZE, SIZE))
    codebook.freeze()
    frames, points = np.stack([picture(face())] * 3), np.stack([face()] * 3)
    every, inside = tool.code_counts(codebook, frames, points, 2, "fp32")
    assert every.sum() == 3 * (SIZE // 8) ** 2
    assert 0 < inside.sum() < every.sum()
    assert (inside <= every).all()
    rows = tool.code_rows(["a", "b", "c"], np.stack([every / 3] * 3), np.stack([inside / 3] * 3), "")
    assert rows[0].value == 32
    assert rows[0].holds is False  # 512 are asked for
    assert by_name(rows, "codes used").value == pytest.approx((every > 0).sum() / 32)


def test_perplexity_of_even_use_is_all_codes():
    rows = tool.code_rows(PEOPLE, np.ones((8, 16)), np.eye(16)[[3] * 8], "")
    assert by_name(rows, "codes used").value == 1
    assert by_name(rows, "perplexity over all").value == pytest.approx(1)
    assert by_name(rows, "perplexity over face").value == pytest.approx(1 / 16)


def test_judge_is_compared_on_clips_of_both():
    made = pd.DataFrame({"clip": ["a", "b", "c"], "identity": ["x", "y", "z"], "emotion_right": [1.0, 0.0, 1.0]})
    ceiling = pd.DataFrame({"clip": ["a", "b", "d"], "identity": ["x", "y", "z"], "emotion_right": [1.0, 1.0, 1.0]})
    row = tool.judge_row(made, ceiling, ceiling)
    assert row.value == pytest.approx(0.5)
    assert row.n == "2 clips"
    assert row.holds is False
    assert tool.judge_row(made, ceiling.drop(columns="emotion_right"), ceiling).value is None


def test_figures_and_page(tmp_path: Path, perfect):
    cells = [(Picture("c", 0, part, part), face(), [picture(face())] * 3) for part in ("face", "mouth", "eyes")]
    faces_figure(tmp_path / "faces.png", cells, ("truth", "ceiling", "made"))
    with Image.open(tmp_path / "faces.png") as drawn:
        assert drawn.width > 3 * 112
    found = tool.changes(perfect)
    masks = tool.change_masks(to_unit(face(), SIZE), SIZE)
    maps_figure(tmp_path / "maps.png", {role: tool.mean_maps(found, role) for role in ("truth", "ceiling", "made")}, masks, "made")
    assert (tmp_path / "maps.png").stat().st_size > 0
    chosen = tool.chosen_pictures(perfect, 2)
    assert [one.part for one in chosen] == ["mouth", "mouth", "eyes", "eyes", "face", "face"]
    assert all(SHUT.start <= one.frame < SHUT.stop for one in chosen if one.part == "eyes")
    assert len({one.clip.split("_")[0] for one in chosen if one.part == "mouth"}) == 2
    about = {
        "name": "x", "note": "", "method": "vqig_on_fitted", "variant": "full", "clips": 16, "identities": 8, "frames": 192, "open_at": 0.3,
        "threshold_frames": 5, "threshold_closed": 2, "thresholds": {look: eyes().threshold(look) for look in tool.LOOKS},
        "threshold_accuracy": {look: eyes().accuracy(look) for look in tool.LOOKS},
    }  # fmt: skip
    rows = tool.picture_rows(perfect, eyes(), 0.3)
    text = tool.markdown(rows, tool.emotion_lines(found, masks), about, "faces.png", "maps.png")
    assert all(f"| {row.name} |" in text for row in rows)
    assert "**short**" not in text.split("## Mouth")[1].split("## Emotion")[0]
    assert max(map(len, text.split("\n"))) < 1200
    json.dumps([line.__dict__ for line in tool.emotion_lines(found, masks)], allow_nan=False)


def test_a_folder_without_a_run_says_what_to_do(tmp_path: Path):
    with pytest.raises(PipelineError, match="no stamp of the stage evaluate"):
        tool.open_run(tmp_path, "vqig_on_fitted")
