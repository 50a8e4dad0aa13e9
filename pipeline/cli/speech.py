"""`flowvqtalker speech`: optional self-supervised speech features of every crop with sound, aligned to its frames and kept.

Reads the crops of a configuration, writes `<run>/data/speech/<model>/clips/<clip>.npz` {features (T, D) float32} and an index.csv
beside them. Which network: `outside.speech`. A clip whose sound and weights are unchanged is not computed again.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from flowvqtalker.audio.selfsupervised import load_speech_model, speech_features
from flowvqtalker.checks import MissingWeightsError
from pipeline.assets import find_asset
from pipeline.errors import PipelineError
from pipeline.io import file_sha256, ok_rows, read_index, read_npz, text_sha256, write_npz, write_text
from pipeline.media import read_sound
from pipeline.needs import SPEECH_ASSETS, check, speech_needs
from pipeline.params import read_config, validate
from pipeline.stages import STAGES, run_root

COLUMNS = ("clip", "status", "reason", "file", "n_frames", "dim", "sha256")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint, .safetensors or torch's.

    Raises:
        PipelineError: the file is neither.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has errors of its own
        raise PipelineError(f"{path}: not a readable checkpoint ({error})", "delete it and run `make assets` again") from error


def load_model(kind: str) -> tuple[Any, str]:
    """The network and the checksum of its weights.

    Raises:
        PipelineError: package or weights are missing, damaged or of another architecture.
    """
    bad = [finding for finding in (check(need) for need in speech_needs(kind, f"outside.speech: {kind}")) if finding.word != "ok"]
    if bad:
        raise PipelineError(
            f"speech features '{kind}' cannot be made: " + "; ".join(f"{found.need.name} {found.word} ({found.detail})" for found in bad),
            "; ".join(found.fix for found in bad),
        )
    path = find_asset(SPEECH_ASSETS[kind])
    try:
        model = load_speech_model("hubert" if kind == "hubert" else "wav2vec2", read_weights(path))
    except MissingWeightsError as error:
        raise PipelineError(f"{path}: {error}", "delete it and run `make assets` again") from error
    return model, file_sha256(path)


def write_features(crops: Path, out: Path, model: Any, checksum: str) -> pd.DataFrame:
    """Features of every crop with sound.

    Args:
        crops: folder of the stage `crop`.
        out: folder to write; its index.csv is written last.
        model: result of ``load_model``.
        checksum: of the weights; part of what decides whether a kept file is still good.

    Returns:
        The index: one row a talking crop, in the order of clips.
    """
    table = ok_rows(read_index(crops / "index.csv", "crop"))
    rows = []
    talking = [row for row in table.to_dict("records") if row["kind"] == "video"]
    for row in sorted(talking, key=lambda row: row["clip"]):
        n_frames, name = int(row["n_frames"]), f"clips/{row['clip']}.npz"
        entry = {"clip": row["clip"], "status": "rejected", "reason": "no sound", "file": "", "n_frames": n_frames, "dim": 0, "sha256": ""}
        samples = read_sound(crops / row["sound"], n_frames=n_frames) if row["sound"] and row["audio_status"] != "none" else None
        if samples is not None and len(samples):
            key = np.frombuffer(bytes.fromhex(text_sha256(file_sha256(crops / row["sound"]), checksum, str(n_frames))), dtype=np.uint8)
            kept = read_npz(out / name) if (out / name).is_file() else {}
            if not np.array_equal(kept.get("key", np.zeros(0)), key):
                kept = {"features": speech_features(model, samples, n_frames), "key": key}
                write_npz(out / name, kept)
            entry |= {"status": "ok", "reason": "", "file": name, "dim": kept["features"].shape[1], "sha256": file_sha256(out / name)}
        rows.append(entry)
    index = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    text = io.StringIO()
    index.to_csv(text, index=False, lineterminator="\n")
    write_text(out / "index.csv", text.getvalue())
    return index


def run(args: argparse.Namespace) -> None:
    """The subcommand."""
    config = read_config("params.yaml", *args.configfile)
    kind = validate(config)["outside"].model_dump()["speech"]
    if kind == "none":
        raise PipelineError(
            "outside.speech is 'none': there is nothing to make", "set it to wav2vec2 or hubert in an overlay (--configfile)"
        )
    crops = run_root(config) / STAGES["crop"].folder
    if not (crops / "index.csv").is_file():
        raise PipelineError(f"{crops}/index.csv does not exist", f"make the crops first: snakemake --cores all {crops}/index.csv")
    model, checksum = load_model(kind)
    out = run_root(config) / "data" / "speech" / kind
    index = write_features(crops, out, model, checksum)
    print(f"{out}/index.csv: {(index['status'] == 'ok').sum()} clips, {(index['status'] != 'ok').sum()} without sound")


def add_parser(subparsers: Any) -> None:
    """Add `speech` to the console script."""
    parser = subparsers.add_parser("speech", help="self-supervised speech features of every crop (optional)", description=__doc__)
    parser.add_argument("--configfile", type=Path, nargs="*", default=[], help="overlays, e.g. configs/clips.yaml")
    parser.set_defaults(run=run)
