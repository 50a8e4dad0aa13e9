"""The layers of docs/architecture.md, enforced over the import statements."""

import ast
from pathlib import Path

import pytest

from pipeline.codehash import closure, code_files, code_hash, imports_of
from pipeline.stages import STAGES

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = sorted((REPOSITORY / "src" / "flowvqtalker").rglob("*.py"))
STEPS = sorted((REPOSITORY / "pipeline").rglob("*.py"))
FORBIDDEN = {"pipeline", "snakemake", "dvc", "mlflow", "yaml", "pydantic", "pandera"}
#: Heavy or optional packages and the one module that may import each (PyAV: ours and other people's files).
ADAPTERS = {
    "decord": "pipeline/media.py", "av": ("pipeline/media.py", "pipeline/footage.py"), "espeakng_loader": "src/flowvqtalker/speech/espeak.py",
    "mediapipe": "src/flowvqtalker/landmarks/mediapipe.py", "face_alignment": "src/flowvqtalker/landmarks/face_alignment.py",
    "feat": "src/flowvqtalker/experts/pyfeat.py", "pytorch3d": "src/flowvqtalker/render/pytorch3d.py", "mlflow": "pipeline/tracking.py",
    "transformers": "src/flowvqtalker/audio/selfsupervised.py", "diffusers": "src/flowvqtalker/flow/schedulers.py",
}  # fmt: skip
#: Lower layers know nothing of the upper ones.
LOW = ("face", "render", "fit", "audio", "speech", "motion", "corpus")
HIGH = ("flow", "image", "experts", "landmarks", "metrics", "train")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(REPOSITORY / "src" / "flowvqtalker")))
def test_library_knows_no_engine_and_no_path(path):
    tops = {name.split(".")[0] for name in imported(path)}
    assert not tops & FORBIDDEN, f"{path.name} imports {tops & FORBIDDEN}"
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]
    assert not calls, f"{path.name} opens a file: file objects or arrays come in"


@pytest.mark.parametrize("part", LOW)
def test_lower_layers_do_not_know_the_upper_ones(part):
    for path in sorted((REPOSITORY / "src" / "flowvqtalker" / part).rglob("*.py")):
        above = {name for name in imported(path) for high in HIGH if name.startswith(f"flowvqtalker.{high}")}
        assert not above, f"{part}/{path.name} imports {above}"


def test_each_heavy_package_has_one_adapter():
    for path in [*LIBRARY, *STEPS]:
        relative = str(path.relative_to(REPOSITORY))
        for top in {name.split(".")[0] for name in imported(path)}:
            if top in ADAPTERS:
                allowed = ADAPTERS[top] if isinstance(ADAPTERS[top], tuple) else (ADAPTERS[top],)
                assert relative in allowed, f"{relative} imports {top}; only {' and '.join(allowed)} may"


def test_steps_do_not_import_each_other():
    for name in STAGES:
        others = {f"pipeline.{other}" for other in STAGES if other != name}
        assert not imports_of(f"pipeline.{name}") & others


def test_no_judge_is_a_training_loss():
    """Lineage: what trains a model never reaches the judges, so no metric is optimised."""
    for name in ("landmarker", "codebook", "flow", "imagegen"):
        reached = [
            module for module in closure(f"pipeline.{name}") if module.startswith(("flowvqtalker.experts", "flowvqtalker.metrics.sync"))
        ]
        assert not reached, f"stage {name} reaches {reached}"
        assert "experts" not in STAGES[name].reads


def test_every_stage_has_its_one_word_everywhere():
    for name, stage in STAGES.items():
        for path in (f"pipeline/{name}.py", f"pipeline/{name}.smk", f"pipeline/params/{name}.py"):
            assert (REPOSITORY / path).is_file(), f"{path} is missing"
        assert name in stage.out or stage.name == "report"
        assert any(rule == name for rule in stage.rules)


def test_code_hash_ignores_comments_and_docstrings(tmp_path, monkeypatch):
    from pipeline import codehash

    package = tmp_path / "pipeline"
    package.mkdir()
    monkeypatch.setattr(codehash, "_ROOTS", {"pipeline": package})
    monkeypatch.setattr(codehash, "REPOSITORY", tmp_path)

    def hash_of(text: str) -> str:
        (package / "toy.py").write_text(text)
        for function in (codehash.code_hash, codehash.closure, codehash.imports_of, codehash._parse, codehash._file_text):
            function.cache_clear()
        return codehash.code_hash("pipeline.toy")

    first = hash_of('"""Doc."""\nx = 1  # why\n')
    assert hash_of('"""Other words."""\n\nx = 1\n') == first
    assert hash_of("x = 2\n") != first
    for function in (codehash.code_hash, codehash.closure, codehash.imports_of, codehash._parse, codehash._file_text):
        function.cache_clear()


def test_closure_holds_what_a_step_runs():
    files = code_files("pipeline.audio")
    assert "pipeline/audio.py" in files
    assert "src/flowvqtalker/constants.py" in files
    assert not any("tracking" in name for name in files)
    assert len(code_hash("pipeline.audio")) == 12
