"""Grids of ablations: trainings of one variant, tables of a made-up grid with known verdicts, the command."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import PipelineError
from pipeline.io import write_json, write_text
from pipeline.methods import METHODS, varied_model
from pipeline.params import merge, read_config
from pipeline.reporting.ablation_tables import ablation_csv, ablation_figure, ablation_md, ablation_tex
from pipeline.reporting.ablations import GRIDS, compare, group_variants, read_tables
from pipeline.stages import run_root
from pipeline.tools import ablation as tool

PEOPLE, CLIPS_EACH = 9, 3
CLIPS = [(f"te{person:02d}_{clip}", f"te{person:02d}") for person in range(PEOPLE) for clip in range(CLIPS_EACH)]


def config_of(grid: str) -> dict:
    return read_config("params.yaml", tool.grid_config(grid))


def write_row(root, row: str, shift: float, rng: np.random.Generator, failed: int = 0) -> None:
    """Per-clip table whose numbers are ``shift`` standard deviations of a clip away from a common level."""
    level = np.linspace(0, 1, len(CLIPS))
    noise = level + shift + 0.05 * rng.normal(size=len(CLIPS))
    table = pd.DataFrame(
        {
            "clip": [clip for clip, _ in CLIPS], "method": row, "status": "ok", "identity": [person for _, person in CLIPS],
            "emotion_right": (np.arange(len(CLIPS)) % 2).astype(float), "lse_d": noise, "sampled_lip_correlation": noise, "blinks": 1.0,
            "sampled_blinks": 2.0 + shift, "sampled_seconds": 6.0, "seconds": 3.0, "expression_over_time": 1.0, "sampled_expression_over_time": 1.0 + shift,
            "pose_over_time_deg": 2.0, "sampled_pose_over_time_deg": 2.0 - shift, "sampled_expression_over_seeds": 1.0, "sampled_pose_over_seeds_deg": 1.0,
            "psnr_face_db": noise, "ssim": noise, "m_lmd_centred_px": -noise, "lip_correlation": noise, "cpbd": 1.0, "mouth_sharpness": 5.0 + shift,
        }
    )  # fmt: skip
    table.loc[: failed - 1, "status"] = "failed"
    write_text(root / f"reports/evaluate/{row}.csv", table.to_csv(index=False))


def write_grid(root, grid: str, shifts: dict[str, float], only: dict | None = None) -> dict:
    """A finished run of a grid under ``root``; ``shifts`` by variant, every training of a variant a little apart."""
    config, rng = config_of(grid), np.random.default_rng(0)
    members = group_variants(config[grid], grid)
    cells = {}
    for row in config["generate"]["methods"]:
        variant = row.partition("__")[2]
        group, replicate = members.get(variant, ("", 0))
        write_row(root, row, shifts.get(group, 0.0) + 0.01 * replicate, rng)
        cells[row] = {"fid_expert": {"value": 3.0 + shifts.get(group, 0.0), "ci": [2.0, 4.0], "n": 27, "reason": ""}}
        if variant and grid == "flow":
            bits = {clip: {"identity": person, "bits_per_dim": 1.0 - shifts.get(group, 0.0)} for clip, person in CLIPS}
            write_json(root / f"models/flow/{variant}/held_out.json", bits)
    write_json(root / "reports/evaluate/metrics.json", {"methods": cells})
    return config


def compared(root, grid: str, config: dict, resamples: int = 300):
    return compare(GRIDS[grid], *read_tables(root, GRIDS[grid], config), seed=1, resamples=resamples, level=0.95)


def test_overlays_that_differ_by_replicate_alone_are_one_variant():
    section = read_config("params.yaml")["flow"]
    section = merge(
        section, {"variants": {"gmm": {"prior": "gmm"}, "gmm_again": {"prior": "gmm", "replicate": 4}, "other": {"replicate": 2}}}
    )
    members = group_variants(section, "flow")
    assert members["gmm_again"] == ("gmm", 4) and members["gmm"] == ("gmm", 0)
    assert members["other"] == ("full", 2) and members["regression"] == ("regression", 0)
    with pytest.raises(PipelineError, match="'gmm' and 'twin' are the same training"):
        group_variants(merge(section, {"variants": {"twin": {"prior": "gmm"}}}), "flow")


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_the_committed_grids_hold_what_the_claims_need(grid):
    config, spec = config_of(grid), GRIDS[grid]
    members = group_variants(config[grid], grid)
    rows = config["generate"]["methods"]
    trained = [members[row.partition("__")[2]] for row in rows if row.startswith(f"{spec.method}__")]
    counts = pd.Series([name for name, _ in trained]).value_counts()
    assert set(counts) == {3 if grid == "flow" else 1}
    assert {name for claim in spec.claims for pair in claim.pairs for name in pair} == set(counts.index)
    assert spec.real in rows and spec.method in METHODS and varied_model(spec.method) == grid
    names = [measure.name for measure in spec.measures]
    assert all(set(claim.measures) <= set(names) for claim in spec.claims) and len(set(names)) == len(names)
    assert all(measure.real[0] for measure in spec.measures if measure.direction == "near_real")


def test_a_made_up_flow_grid_gets_the_verdicts_it_was_made_for(tmp_path):
    config = write_grid(tmp_path, "flow", {"gmm": -0.5, "gaussian": 0.0, "no_dropout": 0.5, "shared_actnorm": -0.4, "lstm": 0.0})
    result = compared(tmp_path, "flow", config)
    rows = {row.name: row for row in result.variants}
    assert result.variants[0].name == "full" and rows["full"].replicates == (0, 1, 2) and not rows["full"].differences
    gmm = rows["gmm"]
    assert gmm.values["bits_per_dim"].value == pytest.approx(1.5) and gmm.differences["bits_per_dim"].value == pytest.approx(0.5)
    assert gmm.values["blinks_per_s"].value == pytest.approx((2.0 - 0.5 + 0.01) / 6)
    assert gmm.verdicts["bits_per_dim"] == gmm.verdicts["lip_correlation"] == "worse" and gmm.verdicts["lse_d"] == "better"
    assert gmm.verdicts["expression_over_time"] == "worse" and "pose_over_seeds_deg" not in gmm.verdicts
    assert gmm.spreads["lse_d"] == pytest.approx(0.01, abs=0.02)
    assert result.real["blinks_per_s"].value == pytest.approx(1 / 3)
    claims = {found.claim.text: found for found in result.claims}
    smm = claims["Student's-t mixture (SMM) over Gaussian mixture (GMM)"]
    assert smm.by_measure == {
        "bits_per_dim": "confirmed",
        "lip_correlation": "confirmed",
        "emotion_acc_pct": "undecided",
        "lse_d": "refuted",
    }
    assert smm.verdict == "undecided"  # the numbers contradict each other
    assert claims["Data dropout helps"].by_measure["bits_per_dim"] == "refuted"
    assert claims["SMM over one Gaussian"].by_measure["lip_correlation"] == "undecided"


def test_a_made_up_image_grid_orders_the_gains(tmp_path):
    shifts = {"no_warp": -0.3, "no_phi": 0.0, "no_mhca": -0.1, "no_codebook": -0.8}
    result = compared(tmp_path, "imagegen", write_grid(tmp_path, "imagegen", shifts))
    claims = {found.claim.text: found for found in result.claims}
    assert [claims[f"The {part} helps"].verdict for part in ("warp W", "modulation phi", "codebook C")] == [
        "confirmed",
        "undecided",
        "confirmed",
    ]
    order = next(found for text, found in claims.items() if text.startswith("Order of gains"))
    assert order.verdict == "confirmed" and order.by_measure["ssim"] == "confirmed" and order.by_measure["cpbd"] == "undecided"
    shifts["no_warp"] = -0.9
    result = compared(tmp_path, "imagegen", write_grid(tmp_path, "imagegen", shifts))
    order = next(found for found in result.claims if found.claim.text.startswith("Order of gains"))
    assert order.verdict == "refuted"
    full = result.variants[0]
    assert full.values["fid_expert"].value == 3.0 and full.values["fid_expert"].ci == (2.0, 4.0)
    assert np.isnan(result.variants[1].differences["fid_expert"].value)


def test_tables_hold_every_number_and_repeat_byte_by_byte(tmp_path):
    config = write_grid(tmp_path, "flow", {"gmm": -0.5})
    result = compared(tmp_path, "flow", config)
    text = ablation_csv(result)
    table = pd.read_csv(pd.io.common.StringIO(text))
    assert len(table) == 6 * len(GRIDS["flow"].measures) and set(table["trainings"]) == {3} and (table["n"] == len(CLIPS)).all()
    row = table[(table["variant"] == "gmm") & (table["measure"] == "bits_per_dim")].iloc[0]
    assert (row["value"], row["difference"], row["verdict"], row["n_paired"]) == (1.5, 0.5, "worse", len(CLIPS))
    assert table[table["variant"] == "full"]["difference"].isna().all()
    page, tex = ablation_md(result), ablation_tex(result)
    assert "| `gmm` | 0.500 [0.500, 0.500] worse" in page and "real (`clay_on_fitted`)" in page and "SMM) over Gaussian mixture" in page
    rows = [line for line in page.splitlines() if line.startswith("| `gmm`")]
    assert len(rows) == 2 and all(line.count("|") > 5 for line in rows)
    assert (
        tex.count("\\begin{table") == tex.count("\\end{table") == 3
        and "no\\_dropout" in tex
        and "no_dropout" not in tex.replace("no\\_dropout", "")
    )
    again = compared(tmp_path, "flow", config)
    assert (ablation_csv(again), ablation_md(again), ablation_tex(again)) == (text, page, tex)
    assert ablation_figure(result) == ablation_figure(again) and ablation_figure(result).startswith(b"\x89PNG")


def test_clips_that_failed_are_left_out_on_both_sides(tmp_path):
    config = write_grid(tmp_path, "flow", {"gmm": -0.5})
    write_row(tmp_path, "clay_paired__gmm", -0.5, np.random.default_rng(1), failed=CLIPS_EACH)
    result = compared(tmp_path, "flow", config)
    gmm = next(row for row in result.variants if row.name == "gmm")
    assert gmm.values["lse_d"].n == len(CLIPS) and gmm.differences["lse_d"].n == len(CLIPS)  # the other trainings have them
    for row in ("clay_paired__gmm_r1", "clay_paired__gmm_r2"):
        write_row(tmp_path, row, -0.5, np.random.default_rng(1), failed=2 * CLIPS_EACH)
    gmm = next(row for row in compared(tmp_path, "flow", config).variants if row.name == "gmm")
    assert gmm.differences["lse_d"].n == len(CLIPS) - CLIPS_EACH and gmm.differences["lse_d"].n_clusters == PEOPLE - 1


def test_what_is_missing_is_named(tmp_path):
    config = write_grid(tmp_path, "flow", {})
    (tmp_path / "reports/evaluate/clay_paired__lstm_r2.csv").unlink()
    with pytest.raises(PipelineError, match=r"clay_paired__lstm_r2\.csv"):
        read_tables(tmp_path, GRIDS["flow"], config)
    with pytest.raises(PipelineError, match="no row clay_paired__"):
        read_tables(tmp_path, GRIDS["flow"], merge(config, {"generate": {"methods": ["ground_truth"]}}))
    with pytest.raises(PipelineError, match="no variant 'full'"):
        compare(GRIDS["flow"], {}, pd.DataFrame(), seed=1, resamples=100, level=0.95)


def test_the_command_runs_snakemake_and_writes_tables_and_figure(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command) or subprocess.CompletedProcess(command, 0))
    config = write_grid(tmp_path / "runs", "imagegen", {})
    monkeypatch.setattr(tool, "run_root", lambda _: tmp_path / "runs")
    monkeypatch.setattr(tool, "write_tables", lambda made, tables, figures: WRITE(made, tmp_path / tables, tmp_path / figures))
    tool.run("imagegen", "2", tables_only=False)
    assert calls == [tool.command_of("imagegen", "2")] and calls[0][-1].endswith("reports/evaluate/metrics.json")
    assert {path.name for path in (tmp_path / "reports/tables").iterdir()} == {f"ablation_imagegen.{s}" for s in ("csv", "md", "tex")}
    assert (tmp_path / "docs/figures/ablation_imagegen.png").stat().st_size > 1000
    assert "undecided" in capsys.readouterr().out
    tool.run("imagegen", "2", tables_only=True)
    assert len(calls) == 1
    monkeypatch.setattr(subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 3))
    with pytest.raises(SystemExit):
        tool.run("imagegen", "2", tables_only=False)
    assert json.dumps(config["name"]) == '"ablation_imagegen"' and str(run_root(config)) == "runs/ablation_imagegen"


WRITE = tool.write_tables
