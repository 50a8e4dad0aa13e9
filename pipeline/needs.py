"""What a configuration needs beside this repository, derived from its typed parameters: assets, packages and folders.

A new parameter that asks for weights gets its line in ``NEEDS``; `make assets` and `flowvqtalker doctor` follow.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.assetlist import BY_NAME, Asset
from pipeline.assets import State, how_to_get, is_whole, state_of

#: Packages that every configuration imports, by the name of their module.
_ALWAYS = ("torch", "torchvision", "numpy", "scipy", "numba", "pandas", "pandera", "pydantic", "yaml", "PIL", "av", "decord", "snakemake")
_LOCK = "it is in the lock: `make setup`"


@dataclass(frozen=True)
class Need:
    """One thing a configuration needs.

    Attributes:
        kind: "asset" (of the manifest), "file" (the user's own), "package" (a module), "folder", or "pyfeat" (weights in py-feat's own folder).
        name: asset name, path or module.
        because: the parameter that asks for it, with its value.
        hint: how to get it, where the manifest does not know.
    """

    kind: Literal["asset", "file", "package", "folder", "pyfeat"]
    name: str
    because: str
    hint: str = ""


@dataclass(frozen=True)
class Finding:
    """What was found of a need.

    Attributes:
        need: the need.
        word: "ok", "missing" or "damaged".
        detail: where it lies, or what it is, where it comes from and how large it is.
        fix: how to get it; empty when it is there.
    """

    need: Need
    word: Literal["ok", "missing", "damaged"]
    detail: str
    fix: str = ""


def _corpus(p: Mapping[str, Any]) -> Iterator[Need]:
    for source in p["corpus"].sources:
        because = f"corpus.sources: {source.name}"
        if source.adapter == "synthetic":
            yield Need("package", "espeakng_loader", f"{because} (its speech)", _LOCK)
        else:
            yield Need("folder", source.root, because, "lay the data there, or name its folder in corpus.sources; see docs/data_card.md")


def _landmarks(p: Mapping[str, Any]) -> Iterator[Need]:
    from pipeline.backends import ASSETS as BACKEND_ASSETS  # here: it loads torch, which doctor may have to report as missing

    backend = p["landmarks"].backend
    for name in BACKEND_ASSETS[backend].values():
        yield Need("asset", name, f"landmarks.backend: {backend}")
    if backend != "trained":
        yield Need("package", backend, f"landmarks.backend: {backend}", _LOCK)


def _face_model(p: Mapping[str, Any]) -> Iterator[Need]:
    fit = p["fit3dmm"]
    standard = {"ict": "ict/ict_facekit_7k.npz", "bfm": "bfm/BFM_model_front.mat"}
    if fit.model in standard:
        name = fit.asset or standard[fit.model]
        yield Need("asset" if name in BY_NAME else "file", name, f"fit3dmm.model: {fit.model}", "name the file in fit3dmm.asset")
    photometric = fit.photometric
    if photometric.enabled and photometric.rasterizer == "pytorch3d":
        yield Need("package", "pytorch3d", "fit3dmm.photometric.rasterizer: pytorch3d", "`make pytorch3d` builds it from its repository")


def _perceptual(p: Mapping[str, Any]) -> Iterator[Need]:
    perceptual = p["codebook"].perceptual
    if perceptual.network == "squeezenet":
        hint = "the state dict of torchvision's squeezenet1_1"
        yield Need("file", perceptual.weights, "codebook.perceptual.network: squeezenet", hint)


_JUDGES: dict[str, tuple[str, ...]] = {
    "syncnet": ("syncnet/syncnet_v2.model",),
    "inception": ("inception/pt_inception-2015-12-05-6726825d.pth",),
    "lpips": ("torchvision/vgg16-397923af.pth", "lpips/v0.1/vgg.pth"),
    "pyfeat": (),
}


def pyfeat_needs(because: str) -> Iterator[Need]:
    """The package and the weights it keeps in a folder of its own, where no asset folder of ours reaches."""
    from flowvqtalker.experts.pyfeat import HOW_TO_GET, WEIGHTS

    yield Need("package", "feat", because, _LOCK)
    for repository in WEIGHTS:
        yield Need("pyfeat", repository, because, HOW_TO_GET)


def _pyfeat_files() -> list[str]:
    """Files of py-feat's resources folder, found without importing it (which takes seconds and sets one thread for everybody)."""
    spec = importlib.util.find_spec("feat")
    folders = [Path(place) / "resources" for place in (spec.submodule_search_locations or [])] if spec else []
    return [path.relative_to(folder).as_posix() for folder in folders for path in folder.rglob("*") if path.is_file()]


#: Weights of each speech model.
SPEECH_ASSETS = {"wav2vec2": "wav2vec2/model.safetensors", "hubert": "hubert/pytorch_model.bin"}


def speech_needs(kind: str, because: str) -> Iterator[Need]:
    """Weights and package of a speech model; the package is not in the lock."""
    yield Need("package", "transformers", because, "pip install transformers")
    yield Need("asset", SPEECH_ASSETS[kind], because)


def _outside(p: Mapping[str, Any]) -> Iterator[Need]:
    outside = p["outside"]
    for judge in outside.judges:
        for name in _JUDGES[judge]:
            yield Need("asset", name, f"outside.judges: {judge}")
        if judge == "pyfeat":
            yield from pyfeat_needs("outside.judges: pyfeat")
    if outside.speech != "none":
        yield from speech_needs(outside.speech, f"outside.speech: {outside.speech}")


#: One rule a place in the parameters.
NEEDS: tuple[Callable[[Mapping[str, Any]], Iterator[Need]], ...] = (_corpus, _landmarks, _face_model, _perceptual, _outside)


def needs_of(params: Mapping[str, Any]) -> list[Need]:
    """Everything a configuration needs.

    Args:
        params: typed sections by name, as ``pipeline.params.validate`` gives them.

    Returns:
        Packages first, then folders, files, py-feat's weights and assets; each once.
    """
    found = [Need("package", module, "every configuration", _LOCK) for module in _ALWAYS]
    for rule in NEEDS:
        found += list(rule(params))
    order = ("package", "folder", "file", "pyfeat", "asset")
    first: dict[tuple[str, str], Need] = {}
    for need in found:
        first.setdefault((need.kind, need.name), need)
    return sorted(first.values(), key=lambda need: order.index(need.kind))


def asset_of(need: Need) -> Asset | None:
    """Entry of the manifest that a need names, or whose name a file's path ends with; None where there is none."""
    if need.kind == "asset":
        return BY_NAME[need.name]
    ends = [asset for name, asset in BY_NAME.items() if Path(need.name).as_posix().endswith(f"/{name}")]
    return ends[0] if need.kind == "file" and ends else None


def _state(need: Need, asset: Asset) -> State:
    """An asset may lie in any asset folder; a file lies where the parameters say, and nowhere else."""
    if need.kind == "asset":
        return state_of(asset)
    path = Path(need.name)
    if not path.is_file():
        return State("missing")
    return State("present" if is_whole(asset, path) else "damaged", path)


def check(need: Need) -> Finding:
    """Look whether a need is met. Packages are looked for, not imported: some take seconds or change the process."""
    if need.kind == "package":
        there = importlib.util.find_spec(need.name) is not None
        return Finding(need, "ok", "installed") if there else Finding(need, "missing", "not installed", need.hint)
    if need.kind == "pyfeat":
        from flowvqtalker.experts.pyfeat import missing_weights

        there = need.name not in missing_weights(_pyfeat_files())
        page = f"weights, from https://huggingface.co/{need.name}"
        return Finding(need, "ok", "in feat/resources") if there else Finding(need, "missing", page, need.hint)
    if need.kind == "folder":
        there = Path(need.name).is_dir()
        return Finding(need, "ok", need.name) if there else Finding(need, "missing", "no such folder", need.hint)
    asset = asset_of(need)
    if asset is None:
        there = Path(need.name).is_file()
        return Finding(need, "ok", need.name) if there else Finding(need, "missing", "no such file", need.hint)
    state = _state(need, asset)
    if state.word == "present":
        return Finding(need, "ok", str(state.path))
    origin = f"{asset.size_text}, from {asset.source} ({asset.licence})"
    if state.word == "damaged":
        return Finding(need, "damaged", f"{state.path} is not the file of the manifest; {origin}", f"delete it; {how_to_get(asset)}")
    return Finding(need, "missing", origin, how_to_get(asset))
