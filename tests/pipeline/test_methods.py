"""Rows that name a variant, what they make the engines read, and keys of the cache that leave the run's name out."""

import json
from pathlib import Path

import pytest

from flowvqtalker.seeding import derive_seed
from flowvqtalker.train.replicates import replicate_seed
from pipeline.context import Context
from pipeline.errors import PipelineError
from pipeline.methods import METHODS, check_row, chosen_variant, models_of, named_variants, split_row, variant_stage
from pipeline.params import merge, read_config, validate
from pipeline.stages import STAGES, reads_of, stamp_text, used_variants, variants

CONFIGS = Path("configs")


@pytest.fixture
def config():
    return read_config("params.yaml")


def with_rows(config, *rows, **generate):
    variants = {"flow": {"variants": {"gmm": {"prior": "gmm"}}}, "imagegen": {"variants": {"no_warp": {"model": {"warp": False}}}}}
    return merge(merge(config, variants), {"generate": {"methods": list(rows), **generate}})


def test_a_row_is_a_method_with_or_without_a_variant():
    assert split_row("flowvqtalker_paired__gmm_r1") == ("flowvqtalker_paired", "gmm_r1") and split_row("copy_source") == ("copy_source", "")
    assert [variant_stage(row) for row in ("clay_paired__x", "vqig_on_fitted__x", "regression", "flowvqtalker_free", "ground_truth")] == [
        "flow", "imagegen", "flow", "flow", "",
    ]  # fmt: skip
    assert named_variants(["clay_paired__gmm", "vqig_on_fitted__no_warp", "regression"], "flow") == {"gmm"}
    chosen = {"flow_variant": "full", "regression_variant": "regression", "imagegen_variant": "best"}
    assert chosen_variant(chosen, "flowvqtalker_paired__gmm", "flow") == "gmm"
    assert chosen_variant(chosen, "flowvqtalker_paired__gmm", "imagegen") == "best"
    assert chosen_variant(chosen, "vqig_on_fitted__no_warp", "imagegen") == "no_warp"
    assert chosen_variant(chosen, "regression__big", "regression") == "big" and chosen_variant(chosen, "regression__big", "flow") == "full"


def test_methods_need_what_their_words_say():
    assert models_of("flowvqtalker_free") == ("codebook", "flow", "imagegen") and models_of("codebook_ceiling") == ("codebook",)
    assert (
        models_of("clay_paired__gmm") == ("flow",) and models_of("clay_regression") == ("regression",) and models_of("clay_on_fitted") == ()
    )
    assert all(models_of(method) == () for method in ("ground_truth", "other_take", "copy_source"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("flowvqtalker", "is no method"),
        ("clay_paired__", "without the name"),
        ("ground_truth__gmm", "no model"),
        ("clay_on_fitted__gmm", "no model"),
    ],
)
def test_a_wrong_row_says_why(config, row, said):
    with pytest.raises(ValueError, match=said):
        check_row(row)
    with pytest.raises(PipelineError, match=rf"generate\.methods.*{said}"):
        validate(with_rows(config, row))


def test_a_row_of_a_variant_that_is_not_there_or_of_another_kind_is_a_parameter_error(config):
    validate(with_rows(config, "clay_paired__gmm", "vqig_on_fitted__no_warp"))
    for row, said in (
        ("clay_paired__smm", "'smm' is not in flow.variants"), ("vqig_on_fitted__gmm", "'gmm' is not in imagegen.variants"),
        ("clay_paired__regression", "model 'flow'"), ("regression__gmm", "model 'regression'"),
    ):  # fmt: skip
        with pytest.raises(PipelineError, match=said):
            validate(with_rows(config, row))


def test_clay_rows_belong_to_the_embedded_corpus_and_the_clay_head(config):
    rows = with_rows(config, "clay_paired")
    with pytest.raises(PipelineError, match=r"clay_paired.*fit3dmm\.model is 'ict'"):
        validate(merge(rows, {"fit3dmm": {"model": "ict"}}))
    mead = read_config("params.yaml", CONFIGS / "mead.yaml")
    with pytest.raises(PipelineError, match="is not the embedded corpus"):
        validate(merge(mead, {"generate": {"methods": ["clay_on_fitted"]}}))


def test_the_engines_read_the_variants_that_rows_name(config):
    rows = with_rows(config, "flowvqtalker_paired", "clay_paired__gmm", "vqig_on_fitted__no_warp")
    assert used_variants(rows, "flow", "generate") == ["full", "gmm", "regression"]
    assert used_variants(rows, "imagegen", "report") == ["full", "no_warp"]
    assert reads_of(rows, "generate")["flow_gmm"] == "models/flow/gmm/index.json"
    assert reads_of(rows, "imagegen") == reads_of(config, "imagegen")


def test_the_default_reads_what_it_always_read(config):
    assert list(reads_of(config, "generate")) == ["crop", "fit3dmm", "audio", "codebook", "flow_full", "flow_regression", "imagegen_full"]
    assert "codebook" in reads_of(config, "report")


def test_a_table_without_drawn_pictures_needs_no_codebook(config):
    clay = with_rows(config, "ground_truth", "clay_paired__gmm", imagegen_variant="", regression_variant="")
    assert list(reads_of(clay, "generate")) == ["crop", "fit3dmm", "audio", "flow_full", "flow_gmm"]
    assert "codebook" in reads_of(with_rows(config, "codebook_ceiling", imagegen_variant=""), "generate")


def test_replicate_0_has_the_seed_of_old_and_others_have_their_own():
    assert replicate_seed(0, 1, "flow", "expression") == derive_seed(1, "flow", "expression")
    assert replicate_seed(0, 1, "imagegen") == derive_seed(1, "imagegen")
    seeds = {replicate_seed(number, 1, "flow", kind) for number in range(4) for kind in ("expression", "pose")}
    assert len(seeds) == 8
    assert replicate_seed(2, 1, "flow") == replicate_seed(2, 1, "flow")


def test_stamps_of_the_default_know_the_new_parameters_at_their_neutral_values(config):
    for stage, names in (("flow", ("replicate", "corrupted_share")), ("imagegen", ("replicate",))):
        params = json.loads(stamp_text(config, stage, "full"))["params"][stage]
        assert [params[name] for name in names] == [0] * len(names)
    for stage in STAGES:
        for variant in variants(config, stage):
            known = json.loads(stamp_text(config, stage, variant))["params"]
            others = {section for section in known if section not in ("flow", "imagegen")}
            assert not any("replicate" in json.dumps(known[section]) for section in others)


def cache_text(config, stage, variant=""):
    return Context(stage, variant, stamp_text(config, stage, variant), Path("."), Path("x"), {}).cache_text


def test_runs_of_any_name_share_what_they_have_in_common(config):
    other = merge(config, {"name": "elsewhere"})
    for stage in STAGES:
        for variant in variants(config, stage):
            assert stamp_text(other, stage, variant) != stamp_text(config, stage, variant)
            assert cache_text(other, stage, variant) == cache_text(config, stage, variant) == stamp_text(config, stage, variant)
    changed = merge(other, {"crop": {"size_px": 64}})
    assert cache_text(changed, "crop") != cache_text(config, "crop") and cache_text(changed, "corpus") == cache_text(config, "corpus")


@pytest.mark.parametrize("grid", ["flow", "imagegen"])
def test_a_grid_shares_with_the_default_what_it_does_not_change(config, grid):
    of_grid = read_config("params.yaml", CONFIGS / f"ablation_{grid}.yaml")
    shared = {"flow": ("corpus", "landmarker", "crop", "fit3dmm", "audio", "experts"), "imagegen": ("corpus",)}[grid]
    assert all(cache_text(of_grid, stage) == cache_text(config, stage) for stage in shared)
    if grid == "flow":
        assert cache_text(of_grid, "flow", "full") == cache_text(config, "flow", "full")
        assert "codebook" not in reads_of(of_grid, "generate") and not any("imagegen" in name for name in reads_of(of_grid, "generate"))
    else:
        assert not any(name.startswith("flow") for name in reads_of(of_grid, "generate"))


def test_every_method_says_where_its_frames_come_from():
    for name, method in METHODS.items():
        assert method.drawn in ("vqig", "codebook", "clay", "") and "__" not in name
        assert bool(method.heard) == (method.expression in ("expflow", "regression"))
