# The main job. params.yaml decides (an overlay comes with --configfile configs/<name>.yaml), pipeline/stages.py declares.
# `snakemake --cores 8 all` is incremental, parallel and resumable; `dvc repro` calls it one stage at a time.
import sys

sys.path.insert(0, workflow.basedir)

from pipeline.errors import PipelineError
from pipeline.params import SECTIONS, validate
from pipeline.stages import STAGES, reads_of, run_root, stamp_path, used_variants, variants, write_stamps


configfile: "params.yaml"


# The number of shards belongs to the profile: it changes no result.
SHARDS = list(range(int(config.get("shards", 4))))
CONFIG = {key: value for key, value in config.items() if key != "shards"}
try:
    validate(CONFIG)
except PipelineError as error:
    raise WorkflowError(str(error)) from None
ROOT = str(run_root(CONFIG))
write_stamps(CONFIG)


def at(path):
    """A path of the run, relative to the repository."""
    return path if ROOT == "." else f"{ROOT}/{path}"


def out(stage):
    """Hand-over file of a stage, with its {variant} wildcard."""
    return at(STAGES[stage].out)


def reads(stage):
    """Named inputs of a stage's rules."""
    return {name: at(path) for name, path in reads_of(CONFIG, stage).items()}


def stamp(stage):
    """The stage's stamp: parameters and code as an input, so that a change reruns it whatever the files' times say."""
    return at(stamp_path(stage, "{variant}" if STAGES[stage].fan else ""))


def log_of(stage, part=""):
    return at(f"logs/{stage}/{part or stage}.log")


def benchmark_of(stage, part=""):
    return at(f"logs/{stage}/{part or stage}.benchmark.tsv")


def shard_tables(stage):
    return expand(at(f".shards/{stage}/{{shard}}.csv"), shard=SHARDS)


def all_models(stage):
    """Every variant's hand-over file."""
    return [at(STAGES[stage].out.format(variant=variant)) for variant in variants(CONFIG, stage)]


wildcard_constraints:
    shard=r"\d+",
    variant=r"[a-z0-9_]+",
    method=r"[a-z0-9_]+",


localrules:
    all,


rule all:
    input:
        out("report"),
        all_models("flow"),
        all_models("imagegen"),


include: "pipeline/corpus.smk"
include: "pipeline/landmarker.smk"
include: "pipeline/crop.smk"
include: "pipeline/fit3dmm.smk"
include: "pipeline/audio.smk"
include: "pipeline/experts.smk"
include: "pipeline/codebook.smk"
include: "pipeline/flow.smk"
include: "pipeline/imagegen.smk"
include: "pipeline/generate.smk"
include: "pipeline/evaluate.smk"
include: "pipeline/report.smk"
