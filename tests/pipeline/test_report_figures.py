"""What the report's figures show: spectra, blinks, faces by person and emotion, latents; each on data with a known answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from flowvqtalker.constants import EMOTIONS, FPS_HZ
from flowvqtalker.face.expressions import EXPRESSION_INDEX, EXPRESSIONS
from pipeline.io import write_npz
from pipeline.media import synthetic_metadata, write_video
from pipeline.reporting.grid_figure import _GAP_PX, _HIGH_PX, _WIDE_PX, METHOD, chosen_cells, emotion_grid_figure, strongest_frame
from pipeline.reporting.latent_figure import emotion_axes, latent_figure, own_component_share
from pipeline.reporting.motion import blink_marks, power_spectrum, spectrum_window
from pipeline.reporting.motion_figures import eye_figure, spectrum_figure
from pipeline.reporting.results import Results

mpl.use("Agg")
FRAMES = 100
SECONDS = np.arange(FRAMES) / FPS_HZ
LIDS = [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def motion(nod_hz: float, blinks: tuple[slice, ...] = (), frames: int = FRAMES) -> dict[str, np.ndarray]:
    """A head that nods by 10 degrees at one rate, a face at rest, and blinks."""
    beta = np.full((frames, len(EXPRESSIONS)), 0.1, np.float32)
    for blink in blinks:
        beta[blink, LIDS[0] : LIDS[1] + 1] = 0.9
    pose = np.zeros((frames, 6), np.float32)
    pose[:, 0] = np.deg2rad(10) * np.sin(2 * np.pi * nod_hz * np.arange(frames) / FPS_HZ)
    return {"beta": beta, "pose": pose}


def results_of(root: Path, clips: dict[str, dict[str, dict[str, np.ndarray]]], emotions: tuple[str, ...] = EMOTIONS) -> Results:
    """Results that hold coefficients only: clip -> "real" or method -> arrays."""
    fits, crops, rows = [], [], {}
    for index, (clip, curves) in enumerate(clips.items()):
        crops.append(
            {"clip": clip, "emotion": emotions[index % len(emotions)], "identity": f"p{index}", "level": 3.0, "role": "talk", "video": ""}
        )
        for name, arrays in curves.items():
            write_npz(root / name / f"{clip}.npz", arrays)
            if name == "real":
                fits.append({"clip": clip, "file": f"real/{clip}.npz"})
            else:
                rows.setdefault(name, []).append(
                    {"clip": clip, "coefficients": f"{name}/{clip}.npz", "video": "", "n_frames": len(arrays["beta"])}
                )
    tables = {name: pd.DataFrame(table) for name, table in rows.items()}
    folders = {"fit3dmm": root, "generate": root, "crop": root}
    return Results({}, crops=pd.DataFrame(crops), fits=pd.DataFrame(fits), generated=tables, folders=folders)


def test_a_swing_of_one_hertz_has_its_power_at_one_hertz():
    signal = np.stack([np.sin(2 * np.pi * np.arange(250) / FPS_HZ), np.zeros(250)], axis=1)
    frequency, density = power_spectrum(signal + 3.0, 50)
    assert frequency[density.argmax()] == pytest.approx(1.0)
    assert frequency[0] == pytest.approx(0.5) and frequency[-1] == pytest.approx(12.0)
    assert density.sum() * (frequency[1] - frequency[0]) == pytest.approx(0.5 / 2, rel=0.05)  # variance of the swing, mean of two channels
    still, faster = power_spectrum(np.full((60, 1), 0.3), 50)[1], power_spectrum(2 * signal, 50)[1]
    assert still.max() < 1e-12
    assert faster.max() == pytest.approx(4 * density.max(), rel=0.05)


def test_all_but_the_shortest_clips_fill_the_window():
    assert spectrum_window([20] + [40] * 19) == 40
    assert spectrum_window([300] * 4) == 50
    assert spectrum_window([5, 6]) == 16


def test_spectrum_draws_each_method_by_its_own_motion_and_names_window_and_clips(tmp_path):
    clips = {f"c{i}": {"real": motion(1.0), "flowvqtalker_free": motion(3.0), "regression": motion(2.0)} for i in range(3)}
    clips["short"] = {"real": motion(5.0, frames=20), "flowvqtalker_free": motion(5.0, frames=20)}
    clips |= {f"d{i}": clips["c0"] for i in range(7)}
    figure = spectrum_figure(results_of(tmp_path, clips))
    assert figure is not None
    head, expression, lips = figure.axes
    lines = {str(line.get_label()): line for line in head.get_lines()}
    assert list(lines) == ["real (n=10)", "flowvqtalker_free (n=10)"]  # the regression has the real head; the short clip fills no window
    peaks = [float(line.get_xdata()[np.argmax(line.get_ydata())]) for line in lines.values()]
    assert peaks == [pytest.approx(1.0), pytest.approx(3.0)]
    assert [len(axis.get_lines()) for axis in (expression, lips)] == [3, 3]
    assert max(expression.get_lines()[0].get_xdata()) <= 5.0 < max(lips.get_lines()[0].get_xdata())
    assert "windows of 2.00 s" in figure.get_suptitle()


def test_spectrum_needs_real_and_free_motion(tmp_path):
    assert spectrum_figure(results_of(tmp_path, {"a": {"real": motion(1.0)}})) is None
    assert spectrum_figure(results_of(tmp_path, {"a": {"real": motion(1.0, frames=9), "flowvqtalker_free": motion(1.0, frames=9)}})) is None


def test_blinks_are_marked_where_the_lids_are_shut(tmp_path):
    real, free = motion(1.0, (slice(5, 8), slice(50, 52))), motion(1.0, (slice(20, 25),))
    real["beta"][30:32, LIDS] = 0.45  # lowered lids, no blink
    np.testing.assert_allclose(blink_marks(real["beta"], 0.5, 0.3), [[0.2, 0.32], [2.0, 2.08]])
    assert len(blink_marks(real["beta"], 0.4, 0.3)) == 3
    figure = eye_figure(results_of(tmp_path, {"a": {"real": real, "flowvqtalker_free": free}}), 0.5, 0.3)
    assert figure is not None
    found = [sorted(segment[:, 0].tolist() for segment in bars.get_segments()) for bars in figure.axes[0].collections]
    np.testing.assert_allclose(found[0], [[0.2, 0.32], [2.0, 2.08]])
    np.testing.assert_allclose(found[1], [[0.8, 1.0]])
    heights = [{float(y) for segment in bars.get_segments() for y in segment[:, 1]} for bars in figure.axes[0].collections]
    assert heights[0].isdisjoint(heights[1]) and min(min(h) for h in heights) > 1
    assert "from a closure of 0.5 until below 0.3" in figure.get_suptitle()


def test_a_longer_free_sample_shows_its_blinks_too(tmp_path):
    results = results_of(tmp_path, {"a": {"real": motion(1.0), "flowvqtalker_free": motion(1.0)}})
    write_npz(tmp_path / "long.npz", {"beta": motion(1.0, (slice(250, 255), slice(2000, 2005)), 2100)["beta"][None]})
    results = dataclasses.replace(results, long={"flowvqtalker_free": tmp_path / "long.npz"})
    figure = eye_figure(results, 0.5, 0.3)
    assert figure is not None
    longest = figure.axes[-1]
    assert longest.get_xlim() == (0, 30)
    np.testing.assert_allclose([segment[:, 0] for bars in longest.collections for segment in bars.get_segments()], [[10.0, 10.2]])


def test_the_strongest_frame_is_no_blink_no_glance_and_no_vowel():
    beta = np.zeros((6, len(EXPRESSIONS)))
    beta[1, EXPRESSION_INDEX["mouthSmile_L"]] = 0.3
    beta[2, [EXPRESSION_INDEX["eyeLookUp_L"], EXPRESSION_INDEX["jawOpen"], EXPRESSION_INDEX["mouthFunnel"]]] = 0.9
    beta[3, EXPRESSION_INDEX["mouthSmile_L"]], beta[3, LIDS] = 0.4, 0.9
    beta[4, EXPRESSION_INDEX["mouthSmile_L"]] = 0.2
    assert strongest_frame(beta) == 1
    other = np.zeros_like(beta)
    other[1, LIDS], other[5, EXPRESSION_INDEX["mouthSmile_L"]] = 0.6, 0.9
    assert strongest_frame(beta, other) == 4  # the generated face blinks in frame 1; how strong it is does not count
    beta[:, LIDS] = 0.9
    assert strongest_frame(beta) == 3


def grid_run(root: Path) -> Results:
    """Two people: one angry at two levels and happy, the other happy; the strongest frame is 4, where the picture is bright."""
    crops, fits, made = [], [], []
    for person, emotion, level, shade in (("a", "angry", 1, 20), ("a", "angry", 3, 60), ("a", "happy", 2, 100), ("b", "happy", 2, 140)):
        clip = f"{person}_{emotion}_{level}"
        for folder, extra in (("crop", 0), ("made", 30)):
            frames = np.full((8, 64, 64, 3), 0, np.uint8)
            frames[4] = shade + extra
            (root / folder).mkdir(exist_ok=True)
            write_video(root / folder / f"{clip}.mp4", frames, crf=10, metadata=synthetic_metadata("a test"))
        beta = np.zeros((8, len(EXPRESSIONS)), np.float32)
        beta[4, EXPRESSION_INDEX["mouthSmile_L"]] = beta[6, EXPRESSION_INDEX["eyeBlink_L"]] = 0.8
        for folder in ("fit", "made"):
            write_npz(root / folder / f"{clip}.npz", {"beta": beta, "pose": np.zeros((8, 6), np.float32)})
        crops.append({"clip": clip, "emotion": emotion, "identity": person, "level": float(level), "role": "talk", "video": f"{clip}.mp4"})
        fits.append({"clip": clip, "file": f"{clip}.npz"})
        made.append({"clip": clip, "video": f"{clip}.mp4", "coefficients": f"{clip}.npz", "n_frames": 8})
    folders = {"crop": root / "crop", "generate": root / "made", "fit3dmm": root / "fit"}
    return Results({}, crops=pd.DataFrame(crops), fits=pd.DataFrame(fits), generated={METHOD: pd.DataFrame(made)}, folders=folders)


def test_the_grid_shows_real_beside_generated_and_leaves_missing_pairs_empty(tmp_path):
    results = grid_run(tmp_path)
    cells = chosen_cells(results)
    assert {key: row["clip"] for key, row in cells.items()} == {
        ("a", "angry"): "a_angry_3",
        ("a", "happy"): "a_happy_2",
        ("b", "happy"): "b_happy_2",
    }
    figure = emotion_grid_figure(results)
    assert figure is not None
    canvas = np.asarray(figure.axes[0].images[0].get_array()).astype(float)

    def face(row: int, column: int, side: int) -> float:
        top, left = (_HIGH_PX + _GAP_PX) * row, 2 * (_WIDE_PX + _GAP_PX) * column + _WIDE_PX * side
        return canvas[top : top + _HIGH_PX, left : left + _WIDE_PX].mean()

    shown = [[[face(row, column, side) for side in (0, 1)] for column in (0, 1)] for row in (0, 1)]
    np.testing.assert_allclose(shown, [[[60, 90], [100, 130]], [[255, 255], [140, 170]]], atol=6)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:4] == ["angry", "happy", "a", "b"]


def test_the_grid_needs_files_and_labels(tmp_path):
    results = grid_run(tmp_path)
    (tmp_path / "made/a_angry_3.mp4").unlink()
    figure = emotion_grid_figure(results)
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts][:3] == ["happy", "a", "b"]
    for path in (tmp_path / "made").iterdir():
        path.unlink()
    assert emotion_grid_figure(results) is None
    results.crops["emotion"] = ""
    assert chosen_cells(results) == {}


def test_axes_are_those_along_which_emotions_differ():
    rng = np.random.default_rng(0)
    emotion = np.repeat([0, 2, 5], 400)
    means = np.zeros((8, 6))
    means[2, 1], means[5, 4] = 6.0, 2.0
    z = means[emotion] + rng.normal(0, 0.1, (1200, 6))
    axes, shares = emotion_axes(z, emotion)
    assert axes.shape == (2, 6)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-9)
    assert abs(axes[0, 1]) > 0.95 and abs(axes[1, 4]) > 0.95
    between = np.var([[0, 0], [6, 0], [0, 2]], axis=0).sum()
    first = np.linalg.eigvalsh(np.cov(np.array([[0, 0], [6, 0], [0, 2]]).T, bias=True))[-1]
    np.testing.assert_allclose(shares, [first / between, 1 - first / between], atol=0.01)


def test_frames_of_full_intensity_count_for_their_component():
    means = 5 * np.eye(3)
    z = np.array([[5, 0, 0], [0, 5, 0], [0, 5, 0], [0, 0, 5.0]])
    share, counted = own_component_share(z, np.array([0, 1, 2, 2]), np.array([0.0, 1.0, 1.0, 0.3]), means)
    assert (share, counted) == (pytest.approx(2 / 3), 3)


def test_latents_and_components_lie_in_one_projection(tmp_path):
    rng = np.random.default_rng(1)
    means = (5 * np.eye(8, 20)).astype(np.float32)
    emotion = np.repeat(np.arange(8, dtype=np.int8), 30)
    arrays = {
        "z": (means[emotion] + rng.normal(0, 0.01, (240, 20))).astype(np.float16),
        "emotion": emotion,
        "intensity": np.ones(240),
        "means": means,
    }
    write_npz(tmp_path / "latents.npz", arrays)
    figure = latent_figure(tmp_path / "latents.npz")
    assert figure is not None
    assert "nearest to their own component" in figure.get_suptitle() and "100.0 % of 240" in figure.get_suptitle()
    assert len(figure.axes) == 3
    for axis in figure.axes:
        dots = np.asarray(axis.collections[0].get_offsets())
        centres = np.array([circle.get_center() for circle in axis.patches])
        assert len(dots) == 240 and len(centres) == 8
        assert np.linalg.norm(dots[:, None] - centres, axis=2).min(axis=1).max() < 0.2
    write_npz(tmp_path / "two.npz", {**arrays, "emotion": emotion % 2})
    assert latent_figure(tmp_path / "two.npz") is None
