"""Which source files a step depends on, found by walking its imports, and a hash of what they say.

The hash is taken over parsed code without docstrings: comments, layout and docstrings do not count, statements do. The house
(scheduling, logging, tracking) is left out, since it does not change results.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_ROOTS = {"flowvqtalker": REPOSITORY / "src" / "flowvqtalker", "pipeline": REPOSITORY / "pipeline"}
#: Modules of the house that do not change results. Where an asset lies and comes from is one of these: its checksum is part of every key
#: that its content decides.
HOUSE = {
    "pipeline", "pipeline.assetlist", "pipeline.assets", "pipeline.clipstage", "pipeline.codehash", "pipeline.context", "pipeline.dvcfile", "pipeline.errors", "pipeline.io", "pipeline.contracts",
    "pipeline.stages", "pipeline.tracking", "pipeline.training", "pipeline.params",
}  # fmt: skip


def _module_file(module: str) -> Path | None:
    package, *rest = module.split(".")
    if package not in _ROOTS:
        return None
    base = _ROOTS[package].joinpath(*rest)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _is_house(module: str) -> bool:
    return module in HOUSE or module.startswith("pipeline.params")


@functools.cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@functools.cache
def imports_of(module: str) -> frozenset[str]:
    """Modules of this project that a module imports directly, at the top or inside functions."""
    path = _module_file(module)
    if path is None:
        return frozenset()
    found: set[str] = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    known = {name for name in found if _module_file(name) is not None}
    for name in list(known):  # importing a.b.c runs a and a.b
        parts = name.split(".")
        known.update(".".join(parts[:count]) for count in range(1, len(parts)))
    return frozenset(known - {module})


@functools.cache
def closure(module: str) -> tuple[str, ...]:
    """All modules that a module reaches, itself included, the house left out; sorted."""
    seen, queue = {module}, [module]
    while queue:
        for name in imports_of(queue.pop()):
            if name not in seen and not _is_house(name):
                seen.add(name)
                queue.append(name)
    return tuple(sorted(seen))


def code_files(module: str) -> list[str]:
    """Source files of the closure, relative to the repository, sorted."""
    files = {str(path.relative_to(REPOSITORY)) for name in closure(module) if (path := _module_file(name))}
    return sorted(files)


@functools.cache
def _file_text(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    # unparse, not dump: its text is the same on every Python version.
    return ast.unparse(tree)


@functools.cache
def code_hash(module: str) -> str:
    """Twelve hex digits of the closure's code."""
    digest = hashlib.sha256()
    for name in code_files(module):
        digest.update(name.encode() + b"\0" + _file_text(REPOSITORY / name).encode() + b"\0")
    return digest.hexdigest()[:12]
