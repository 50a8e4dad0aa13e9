"""Grids of ablations: trainings of one variant, tables of a made-up grid with known verdicts, the command."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.io import write_json, write_text, write_torch
from pipeline.methods import METHODS, varied_model
from pipeline.params import merge, read_config, validate
from pipeline.reporting.ablation_grids import GRIDS, Claim, larger_loss, lost_without
from pipeline.reporting.ablation_tables import ablation_csv, ablation_figure, ablation_md, ablation_tex
from pipeline.reporting.ablations import RunTables, compare, grid_trainings, group_variants, read_tables
from pipeline.stages import run_root, stamp_text
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
    if row in ("ground_truth", "clay_on_fitted"):
        table = table.drop(columns=[name for name in table if name.startswith("sampled_")])
    table.loc[: failed - 1, "status"] = "failed"
    write_text(root / f"reports/evaluate/{row}.csv", table.to_csv(index=False))


FLOORS = {
    "fid_noise": {
        "halves_mean": 1.25,
        "halves_low": 1.0,
        "halves_high": 1.5,
        "smallest_difference": 0.75,
        "clips": 27,
        "people": 9,
        "reason": "",
    }
}


def write_grid(root, grid: str, shifts: dict[str, float]) -> dict:
    """A finished run of a grid under ``root``; ``shifts`` by variant or reference, every training of a variant a little apart."""
    config, rng = config_of(grid), np.random.default_rng(0)
    members = group_variants(config[GRIDS[grid].stage], GRIDS[grid].stage)
    cells = {}
    for row in config["generate"]["methods"]:
        variant = row.partition("__")[2]
        group, replicate = members.get(variant, (row, 0))
        write_row(root, row, shifts.get(group, 0.0) + 0.01 * replicate, rng)
        known = {"value": 1.0, "ci": None, "n": 27, "reason": ""}
        cells[row] = {
            "fid_expert": {"value": 3.0 + shifts.get(group, 0.0), "ci": [2.0, 4.0], "n": 27, "reason": ""},
            "lip_correlation": known,
        }
        if row == "copy_source":
            cells[row]["lip_correlation"] = {"value": None, "ci": None, "n": 0, "reason": "a still picture has no lip motion to time"}
        if variant and grid == "flow":
            write_bits(root, variant, 1.0 - shifts.get(group, 0.0))
    write_json(root / "reports/evaluate/metrics.json", {"methods": cells, "floors": FLOORS})
    return config


def write_bits(root, variant: str, bits: float) -> None:
    """What the training of a flow leaves: one likelihood for all clips."""
    write_json(root / f"models/flow/{variant}/held_out.json", {clip: {"identity": person, "bits_per_dim": bits} for clip, person in CLIPS})


def write_priors(root, bits: dict[str, float], wider: float = 1.0, kept: int = 3) -> dict:
    """The trainings of the grid of priors; those with corrupted frames standardise by ``wider`` times the standard deviation, and say fewer bits for it."""
    config = config_of("prior")
    for name, (group, replicate) in grid_trainings(GRIDS["prior"], config).items():
        corrupted = group.endswith("_corrupted")
        factor = wider if corrupted else 1.0
        write_bits(root, name, bits.get(group, 1.0) + 0.01 * replicate - np.log2(factor))
        weights = {"sd": factor * torch.tensor([0.5, 0.25, 0.125, 9.0]), "kept": torch.arange(kept if corrupted else 3)}
        write_torch(root / f"models/flow/{name}/expflow.pt", {"weights": weights})
        ratios = {"expflow_lip_correlation": 0.5 + 0.1 * replicate, "expflow_jitter_ratio": 1.0, "expflow_spread_ratio": 1.0}
        write_json(root / f"models/flow/{name}/metrics.json", ratios)
    return config


def compared(root, grid: str, config: dict, resamples: int = 300):
    return compare(GRIDS[grid], read_tables(root, GRIDS[grid], config), seed=1, resamples=resamples, level=0.95)


def claims_of(result) -> dict:
    return {found.claim.text: found for found in result.claims}


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
    validate(config)
    rows = config["generate"]["methods"]
    counts = pd.Series([name for name, _ in grid_trainings(spec, config).values()]).value_counts()
    assert set(counts) == {1 if grid == "imagegen" else 3}
    assert {name for claim in spec.claims for terms in claim.contrasts for name, _ in terms} | {
        "full",
        "gaussian",
        "gaussian_corrupted",
        "no_mouth",
        "no_head",
    } >= set(counts.index)
    assert {name for claim in spec.claims for terms in claim.contrasts for name, _ in terms} <= set(counts.index)
    if spec.method:
        assert {spec.real, *spec.references} <= set(rows) and spec.method in METHODS and varied_model(spec.method) == spec.stage
        assert set(spec.references) == {row for row in rows if "__" not in row}, "every scored row is printed"
    names = [measure.name for measure in spec.measures]
    assert len(set(names)) == len(names)
    for claim in spec.claims:
        assert claim.primary and set(claim.primary) | set(claim.secondary) <= set(names) and not set(claim.primary) & set(claim.secondary)
    decided_by = {measure.name: measure for measure in spec.measures if any(measure.name in claim.primary for claim in spec.claims)}
    assert all(measure.source == "clips" and measure.direction != "none" for measure in decided_by.values())
    assert all(measure.real[0] for measure in spec.measures if measure.direction == "near_real")


def test_what_decides_the_papers_claims_is_declared():
    primary = {claim.text: claim.primary for grid in GRIDS.values() for claim in grid.claims}
    assert primary["Student's-t mixture (SMM) over Gaussian mixture (GMM)"] == primary["SMM over one Gaussian"] == ("bits_per_dim",)
    assert primary["Data dropout helps"] == ("lip_correlation",), "a likelihood under the real past flatters a flow that leans on its past"
    assert primary["With the mask: the warp W helps"] == ("psnr_face_db",)
    assert primary["The codebook C helps"] == primary["With the mask: the codebook C helps"] == ("psnr_face_db", "mouth_sharpness")
    assert all(len(names) == 1 or "codebook" in text for text, names in primary.items())
    assert not any(measure.name == "cpbd" for measure in GRIDS["imagegen"].measures)


def test_the_papers_parts_are_judged_without_the_mask_that_it_does_not_have():
    config = config_of("imagegen")
    variants = config["imagegen"]["variants"]
    judged = {name for claim in GRIDS["imagegen"].claims if claim.of_paper for terms in claim.contrasts for name, _ in terms}
    assert judged == {"no_blend", "no_blend_no_codebook", "no_blend_w_only", "no_blend_w_phi"}
    for name, overlay in variants.items():
        if name.startswith("no_blend_"):
            assert overlay["model"] == {"blend": False} | variants[name.removeprefix("no_blend_")]["model"]


def test_trainings_of_the_grid_of_priors_differ_in_the_latent_and_the_data_alone():
    flow, prior = config_of("flow"), config_of("prior")

    def key(variant):
        return Context("flow", variant, stamp_text(prior, "flow", variant), run_root(prior), run_root(prior), {}).cache_text

    assert len({key(name) for name in ("full", "full_r1", "full_corrupted", "nu5", "nu5_corrupted", "gmm", "gaussian")}) == 7
    sections = validate(prior)
    values = [
        {**sections["flow"].model_dump(), **(prior["flow"]["variants"][name] or {})} for name in grid_trainings(GRIDS["prior"], prior)
    ]
    changed = {"prior", "nu", "corrupted_share", "replicate", "variants"}
    assert all(
        {k: v for k, v in one.items() if k not in changed} == {k: v for k, v in values[0].items() if k not in changed} for one in values
    )
    assert {one["corrupted_share"] for one in values} == {0.0, 0.05} and {one["nu"] for one in values} == {2.0, 5.0, 50.0}
    # As in the flow grid, but for what a likelihood of ExpFlow does not hold.
    other = validate(flow)["flow"].model_dump()
    differs = {name for name in other if name not in changed and other[name] != values[0][name]}
    assert differs == {"calibration_rounds", "pose", "lids", "training"}
    assert values[0]["training"] == other["training"] | {"steps": other["training"]["steps"] // 2, "validate_every": 30}


def test_a_made_up_flow_grid_gets_the_verdicts_it_was_made_for(tmp_path):
    shifts = {"gmm": -0.5, "gaussian": 0.0, "no_dropout": 0.5, "clean_history": -0.5, "shared_actnorm": -0.4, "lstm": 0.0}
    config = write_grid(tmp_path, "flow", shifts)
    result = compared(tmp_path, "flow", config)
    rows = {row.name: row for row in result.variants}
    assert result.variants[0].name == "full" and rows["full"].replicates == (0, 1, 2) and not rows["full"].differences
    gmm = rows["gmm"]
    assert gmm.values["bits_per_dim"].value == pytest.approx(1.5) and gmm.differences["bits_per_dim"].value == pytest.approx(0.5)
    assert gmm.values["blinks_per_s"].value == pytest.approx((2.0 - 0.5 + 0.01) / 6)
    assert gmm.verdicts["bits_per_dim"] == gmm.verdicts["lip_correlation"] == "worse" and gmm.verdicts["lse_d"] == "better"
    assert gmm.verdicts["expression_over_time"] == "worse" and "pose_over_seeds_deg" not in gmm.verdicts
    assert gmm.spreads["lse_d"] == pytest.approx(0.01, abs=0.02)
    claims = claims_of(result)
    smm = claims["Student's-t mixture (SMM) over Gaussian mixture (GMM)"]
    assert smm.by_measure == {
        "bits_per_dim": "confirmed",
        "lip_correlation": "confirmed",
        "emotion_acc_pct": "undecided",
        "lse_d": "refuted",
    }
    assert smm.verdict == "confirmed"  # the likelihood decides, whatever LSE-D says
    assert claims["Data dropout helps"].verdict == claims["Data dropout helps"].by_measure["bits_per_dim"] == "refuted"
    assert claims["Protecting the history, dropout and noise together, helps"].verdict == "confirmed"
    assert claims["SMM over one Gaussian"].verdict == claims["SMM over one Gaussian"].by_measure["lip_correlation"] == "undecided"


def test_one_lucky_secondary_number_confirms_nothing(tmp_path):
    """The likelihood of the GMM is that of the SMM, its lips are worse."""
    config = write_grid(tmp_path, "flow", {"gmm": -0.5, "no_dropout": -0.5})
    for suffix in ("", "_r1", "_r2"):
        write_bits(tmp_path, f"gmm{suffix}", 1.0)
        write_bits(tmp_path, f"no_dropout{suffix}", 0.5)
    claims = claims_of(compared(tmp_path, "flow", config))
    smm = claims["Student's-t mixture (SMM) over Gaussian mixture (GMM)"]
    assert smm.by_measure["lip_correlation"] == "confirmed" and smm.verdict == "undecided"
    dropout = claims["Data dropout helps"]  # better likelihood without, worse rollouts: the rollouts decide
    assert dropout.by_measure["bits_per_dim"] == "refuted" and dropout.verdict == "confirmed"


def test_likelihoods_are_of_every_take_and_other_numbers_of_the_scored_one(tmp_path):
    config = write_grid(tmp_path, "flow", {})
    for variant in grid_trainings(GRIDS["flow"], config):
        path = tmp_path / f"models/flow/{variant}/held_out.json"
        write_json(path, json.loads(path.read_text()) | {"te00_second": {"identity": "te00", "bits_per_dim": 29.0}})
    full = compared(tmp_path, "flow", config).variants[0].values
    assert (full["bits_per_dim"].n, full["lse_d"].n) == (len(CLIPS) + 1, len(CLIPS))
    assert full["bits_per_dim"].value == pytest.approx(2.0)  # 27 clips at 1, one at 29


def test_reference_rows_stand_beside_the_variants_with_every_number_that_means_something(tmp_path):
    config = write_grid(tmp_path, "flow", {"ground_truth": -1.0, "clay_on_fitted": -0.5, "clay_shuffled": 2.0})
    result = compared(tmp_path, "flow", config)
    assert list(result.references) == ["ground_truth", "clay_on_fitted", "clay_shuffled"]
    fitted, shuffled = result.references["clay_on_fitted"], result.references["clay_shuffled"]
    assert fitted["lse_d"].value == pytest.approx(0.5 - 0.5, abs=0.03) and fitted["lse_d"].ci is not None
    assert fitted["emotion_acc_pct"].value == pytest.approx(100 * 13 / 27)
    assert fitted["blinks_per_s"].value == pytest.approx(1 / 3) and fitted["expression_over_time"].value == 1.0
    assert shuffled["blinks_per_s"].value == pytest.approx(4.0 / 6) and shuffled["expression_over_time"].value == 3.0
    assert "lip_correlation" not in fitted and shuffled["lip_correlation"].value == pytest.approx(2.5, abs=0.03)
    assert not any("bits_per_dim" in row for row in result.references.values())
    images = compared(tmp_path / "i", "imagegen", write_grid(tmp_path / "i", "imagegen", {"other_take": 0.5, "copy_source": -0.2}))
    assert list(images.references) == ["ground_truth", "other_take", "codebook_ceiling", "copy_source"]
    assert images.references["other_take"]["fid_expert"].value == 3.5 and images.references["other_take"]["fid_expert"].ci == (2.0, 4.0)
    assert "lip_correlation" in images.references["other_take"] and "lip_correlation" not in images.references["copy_source"]
    assert images.references["codebook_ceiling"]["mouth_sharpness"].value == 5.0


def test_a_made_up_image_grid_orders_the_gains(tmp_path):
    behind = {"no_phi": 0.0, "no_mhca": -0.1, "no_codebook": -0.8, "w_phi": -0.9, "w_only": -1.0}
    shifts = {"no_warp": -0.3, "no_blend": 0.0} | {f"no_blend_{name}": shift for name, shift in behind.items()}
    result = compared(tmp_path, "imagegen", write_grid(tmp_path, "imagegen", shifts))
    claims = claims_of(result)
    assert claims["With the mask: the warp W helps"].verdict == claims["The codebook C helps"].verdict == "confirmed"
    assert claims["The modulation phi helps"].verdict == claims["With the mask: the codebook C helps"].verdict == "undecided"
    left_out, built_up = (found for text, found in claims.items() if text.startswith("Order of gains"))
    assert left_out.verdict == built_up.verdict == "confirmed" and left_out.by_measure["ssim"] == "confirmed"
    assert claims["Built up: MHCA on W and phi helps"].verdict == "confirmed"
    step = built_up.estimates["mouth_sharpness"][0]  # the codebook brings 0.8 nearer to the real value, phi 0.1
    assert step.value == pytest.approx(0.8 - 0.1)
    shifts |= {"no_blend_no_phi": -0.9, "no_blend_w_only": -2.0}
    result = compared(tmp_path, "imagegen", write_grid(tmp_path, "imagegen", shifts))
    assert [found.verdict for found in result.claims if found.claim.text.startswith("Order of gains")] == ["refuted", "refuted"]
    full = result.variants[0]
    assert full.values["fid_expert"].value == 3.0 and full.values["fid_expert"].ci == (2.0, 4.0)
    assert np.isnan(result.variants[1].differences["fid_expert"].value)


def test_the_codebook_has_to_show_both_fidelity_and_sharpness(tmp_path):
    config = write_grid(tmp_path, "imagegen", {"no_blend_no_codebook": -0.8})
    table = pd.read_csv(tmp_path / "reports/evaluate/vqig_on_fitted__no_blend_no_codebook.csv", dtype={"clip": str})
    write_text(
        tmp_path / "reports/evaluate/vqig_on_fitted__no_blend_no_codebook.csv", table.assign(mouth_sharpness=5.0).to_csv(index=False)
    )
    codebook = claims_of(compared(tmp_path, "imagegen", config))["The codebook C helps"]
    assert codebook.by_measure["psnr_face_db"] == "confirmed" and codebook.by_measure["mouth_sharpness"] == "undecided"
    assert codebook.verdict == "undecided"


def test_the_noise_of_fid_stands_under_the_table(tmp_path):
    result = compared(tmp_path, "imagegen", write_grid(tmp_path, "imagegen", {}))
    for text in (ablation_md(result), ablation_tex(result)):
        assert "lie 1.250 apart" in text and "less than 0.750" in text and "another take of every sentence 3.000" in text
        assert "leave one part out" in text
    assert "apart" not in ablation_md(compared(tmp_path / "f", "flow", write_grid(tmp_path / "f", "flow", {}))).partition("## Claims")[0]


def test_the_grid_of_priors_weighs_what_corruption_costs(tmp_path):
    """SMM with nu 2 loses 0.1 bits, with nu 5 as much as the GMM (0.4), with nu 50 more (0.6)."""
    bits = {
        "full": 1.0, "full_corrupted": 1.6, "nu5": 0.8, "nu5_corrupted": 1.2, "nu2": 1.1, "nu2_corrupted": 1.2, "gmm": 1.0, "gmm_corrupted": 1.4,
        "gaussian": 2.0, "gaussian_corrupted": 2.0,
    }  # fmt: skip
    result = compared(tmp_path, "prior", write_priors(tmp_path, bits))
    sides = {found.side.label: found for found in result.sides}
    assert sides["SMM, nu 2"].losses["bits_per_dim"].value == pytest.approx(0.1)
    assert sides["SMM, nu 2"].beyond["bits_per_dim"].value == pytest.approx(-0.3) and not sides["GMM"].beyond
    words = {label: found.verdicts.get("bits_per_dim", "") for label, found in sides.items()}
    assert words == {"SMM, nu 2": "better", "SMM, nu 5": "undecided", "SMM, nu 50": "worse", "GMM": "", "one Gaussian": "better"}
    claims = claims_of(result)

    def verdicts(text):
        return [claims[text.format(nu)].verdict for nu in (2, 5, 50)]

    assert verdicts("SMM, nu {} loses less through corrupted frames than GMM") == ["confirmed", "undecided", "refuted"]
    assert verdicts("SMM, nu {} over GMM on clean data") == ["refuted", "confirmed", "undecided"]
    assert verdicts("SMM, nu {} over GMM, both trained on corrupted data") == ["confirmed", "confirmed", "refuted"]
    assert {text for text, found in claims.items() if found.claim.of_paper} == {
        "SMM, nu 50 over GMM on clean data", "SMM, nu 50 loses less through corrupted frames than GMM",
    }  # fmt: skip
    rollout = result.variants[0].values["rollout_lip_correlation"]
    assert rollout.value == pytest.approx(0.6) and result.variants[0].spreads["rollout_lip_correlation"] == pytest.approx(0.1)
    page, tex = ablation_md(result), ablation_tex(result)
    assert "| SMM, nu 2 | 1.110 [1.100, 1.120] | 1.210 [1.200, 1.220] | 0.100 [0.100, 0.100] | -0.300 [-0.300, -0.300] better |" in page
    assert "| GMM | 1.010 [1.000, 1.020] | 1.410 [1.400, 1.420] | 0.400 [0.400, 0.400] |  |" in page
    assert "`nu2_corrupted` (3)" in page and "| `nu2_corrupted` |" not in page
    assert tex.count("\\begin{table") == tex.count("\\end{table") == 4 and "nu2\\_corrupted" in tex
    table = pd.read_csv(pd.io.common.StringIO(ablation_csv(result)))
    beyond = table[(table["kind"] == "loss_beyond") & (table["variant"] == "nu2_corrupted")].iloc[0]
    assert (beyond["compared_to"], beyond["difference"], beyond["verdict"], beyond["n_paired"]) == ("gmm", -0.3, "better", len(CLIPS))
    loss = table[(table["kind"] == "loss") & (table["variant"] == "gmm_corrupted")].iloc[0]
    assert (loss["compared_to"], loss["difference"]) == ("gmm", 0.4)
    assert ablation_figure(result).startswith(b"\x89PNG")


def test_likelihoods_are_compared_in_units_of_the_clean_data(tmp_path):
    """Corrupted frames double every standard deviation: one bit less in units of the training, and not in the table."""
    result = compared(tmp_path, "prior", write_priors(tmp_path, {"gmm_corrupted": 1.25}, wider=2.0))
    sides = {found.side.label: found.losses["bits_per_dim"].value for found in result.sides}
    assert sides["GMM"] == pytest.approx(0.25) and sides["SMM, nu 50"] == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(PipelineError, match=r"full_corrupted models 4 coefficients and full 3"):
        compared(tmp_path / "k", "prior", write_priors(tmp_path / "k", {}, kept=4))


def test_a_contrast_has_one_interval_whatever_the_order_and_signs_of_its_terms(tmp_path):
    """A claim and a column of the same page are the same difference of differences: near 0 they must not give two verdicts."""
    run = read_tables(tmp_path, GRIDS["prior"], write_priors(tmp_path, {}))
    generator = np.random.default_rng(0)
    for trainings in run.trainings.values():
        for table in trainings.values():
            table["bits_per_dim"] += generator.normal(0, 0.1, len(table))
    result = compare(GRIDS["prior"], run, seed=1, resamples=200, level=0.95)
    side = next(found for found in result.sides if found.side.label == "SMM, nu 2").beyond["bits_per_dim"]
    (claim,) = claims_of(result)["SMM, nu 2 loses less through corrupted frames than GMM"].estimates["bits_per_dim"]
    assert claim.value == pytest.approx(-side.value) and claim.ci == pytest.approx((-side.ci[1], -side.ci[0])) and side.ci[0] < side.ci[1]


def test_a_larger_loss_is_a_difference_of_differences():
    codebook, mhca = lost_without("no_codebook"), lost_without("w_phi", having="no_codebook")
    assert dict(larger_loss(codebook, mhca)) == {"no_codebook": 2.0, "full": -1.0, "w_phi": -1.0}
    assert Claim("", (codebook,), ("ssim",)).of_paper


def test_tables_hold_every_number_and_repeat_byte_by_byte(tmp_path):
    config = write_grid(tmp_path, "flow", {"gmm": -0.5})
    result = compared(tmp_path, "flow", config)
    text = ablation_csv(result)
    every = pd.read_csv(pd.io.common.StringIO(text))
    table = every[every["kind"] == "variant"]
    assert len(table) == 7 * len(GRIDS["flow"].measures) and set(table["trainings"]) == {3} and set(table["n"]) == {len(CLIPS)}
    row = table[(table["variant"] == "gmm") & (table["measure"] == "bits_per_dim")].iloc[0]
    assert (row["value"], row["difference"], row["verdict"], row["n_paired"]) == (1.5, 0.5, "worse", len(CLIPS))
    assert set(table["difference"][table["variant"] == "full"].isna()) == {True}
    references = every[every["kind"] == "reference"].set_index(["variant", "measure"])
    assert references.loc[("clay_shuffled", "lse_d"), "value"] == pytest.approx(0.5, abs=0.03) and len(references) == 3 * len(
        GRIDS["flow"].measures
    )
    assert np.isnan(references.loc[("clay_on_fitted", "lip_correlation"), "value"])
    page, tex = ablation_md(result), ablation_tex(result)
    assert "| `gmm` | 0.500 [0.500, 0.500] worse" in page and "| `clay_on_fitted` (real) |" in page and "SMM) over Gaussian mixture" in page
    assert "**confirmed** | bits_per_dim: 0.500 [0.500, 0.500] | **confirmed** | confirmed |" in page
    assert "ground\\_truth & " in tex and "clay\\_on\\_fitted (real) & " in tex and "\\textbf{confirmed}" in tex
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
        compare(GRIDS["flow"], RunTables({}), seed=1, resamples=100, level=0.95)
    without_real = [row for row in config["generate"]["methods"] if row != "clay_on_fitted"]
    write_grid(tmp_path, "flow", {})
    with pytest.raises(PipelineError, match="no row clay_on_fitted"):
        compared(tmp_path, "flow", {**config, "generate": {**config["generate"], "methods": without_real}})
    priors = write_priors(tmp_path, {})
    (tmp_path / "models/flow/nu2_corrupted_r1/held_out.json").unlink()
    with pytest.raises(PipelineError, match=r"nu2_corrupted_r1/held_out\.json"):
        read_tables(tmp_path, GRIDS["prior"], priors)


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
    priors = tool.command_of("prior", "2")
    assert str(tmp_path / "runs/models/flow/nu2_corrupted_r2/index.json") in priors and len(priors) == 6 + 30, "trainings only, no clips"
    assert json.dumps(config["name"]) == '"ablation_imagegen"' and str(run_root(config)) == "runs/ablation_imagegen"


WRITE = tool.write_tables
