"""py-feat's action units and emotions as an optional outside judge and feature file. Its weights are downloads; without them this says so at once.

Facts this adapter rests on (py-feat 2.1.5): importing it sets OMP_NUM_THREADS=1 when unset, so torch would silently lose its threads; without network its
constructors retry for most of a minute unless HF_HUB_OFFLINE is set; weights lie inside the package's own resources folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from flowvqtalker.checks import MissingWeightsError, ShapeError

#: Action units that stand for an emotion (EMFACS, Ekman and Friesen 1983); contempt is one-sided AU12+14 and not told apart by py-feat.
EMOTION_UNITS: dict[str, tuple[str, ...]] = {
    "angry": ("AU04", "AU05", "AU07", "AU23"),
    "disgusted": ("AU09", "AU10"),
    "fear": ("AU01", "AU02", "AU04", "AU05", "AU20", "AU26"),
    "happy": ("AU06", "AU12"),
    "sad": ("AU01", "AU04", "AU15"),
    "surprised": ("AU01", "AU02", "AU05", "AU26"),
}


#: Weights that the detector loads: repository of the Hugging Face hub -> file names of which one has to be there.
WEIGHTS: dict[str, tuple[str, ...]] = {
    "py-feat/retinaface_r34": ("model.safetensors", "retinaface_r34.safetensors"),
    "py-feat/face_multitask_v2": ("face_multitask_v28.safetensors",),
}
HOW_TO_GET = (
    'on a machine with network run `python -c "import feat; feat.Detectorv2(identity_model=None)"` once (repositories py-feat/* of the '
    "Hugging Face hub), or copy its feat/resources folder from such a machine"
)


def missing_weights(resources: Iterable[str]) -> list[str]:
    """Repositories whose weights are not among the files of py-feat's resources folder.

    Args:
        resources: paths of the folder's files relative to it, with forward slashes, as the hub's cache lays them out.

    Returns:
        Names of repositories; empty when the detector can be made.
    """
    there = {(path.split("/")[0], path.rsplit("/", 1)[-1]) for path in resources if "/snapshots/" in path}
    return [
        repository
        for repository, names in WEIGHTS.items()
        if not any(("models--" + repository.replace("/", "--"), name) in there for name in names)
    ]


def load_detector(offline: bool = True) -> Any:
    """py-feat's second detector on the CPU, without its identity network (whose embeddings of real faces nobody here needs).

    Args:
        offline: Never touch the network; missing weights are then an error within a second instead of a minute.

    Raises:
        MissingWeightsError: py-feat is not installed, or its weights are not on this machine; the message names the cure.
    """
    # py-feat's constructors switch gradients off for the whole process and importing it sets one thread: both are put back.
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    saved = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "HF_HUB_OFFLINE")}
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import huggingface_hub.constants as hub_constants

        was_offline = hub_constants.HF_HUB_OFFLINE
        hub_constants.HF_HUB_OFFLINE = offline or was_offline
        try:
            from feat import Detectorv2

            options: dict[str, Any] = {"device": "cpu", "identity_model": None}
            return Detectorv2(**options)
        finally:
            hub_constants.HF_HUB_OFFLINE = was_offline
    except ImportError as error:
        raise MissingWeightsError(f"py-feat cannot be imported ({error}); install the locked requirements") from error
    except OSError as error:
        raise MissingWeightsError(f"py-feat's weights are not on this machine: {HOW_TO_GET}") from error
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)


def fex_table(detector: Any, frames: np.ndarray, *, name: str = "", first_frame: int = 0) -> Any:
    """Everything py-feat says about a clip, as its own table: one row a face and frame.

    Args:
        detector: Result of :func:`load_detector`.
        frames: (T, H, W, 3) uint8 RGB.
        name: what the column ``input`` shall hold.
        first_frame: number of the first frame, for a clip that is read in pieces.

    Returns:
        ``feat.Fex`` (a pandas table) with face box, pose, 68 landmarks, action units, emotion probabilities, gaze and blendshapes;
        without the columns of the identity network.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ShapeError(f"frames: expected shape (T, H, W, 3), got {tuple(frames.shape)}")
    pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    gradients = torch.is_grad_enabled()
    try:
        table = detector.detect(pictures, data_type="tensor", progress_bar=False)
    finally:
        torch.set_grad_enabled(gradients)
    table = table.drop(columns=[column for column in table.columns if str(column).startswith("Identity")])
    table["frame"], table["input"] = table["frame"].astype(int) + first_frame, name
    return table


def _by_frame(part: Any, frame: Any, n_frames: int) -> dict[str, np.ndarray]:
    first = part.groupby(frame).first().reindex(range(n_frames))
    return {str(name): first[name].to_numpy(dtype=np.float64) for name in first.columns}


def action_units(detector: Any, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Action-unit intensities of a clip.

    Args:
        detector: Result of :func:`load_detector`.
        frames: (T, H, W, 3) uint8 RGB.

    Returns:
        By name (``AU01`` ...), (T,) float64 in [0, 1]; NaN in frames without a face.
    """
    table = fex_table(detector, frames)
    return _by_frame(table.aus, table["frame"], len(frames))


def emotion_probabilities(detector: Any, frames: np.ndarray) -> dict[str, np.ndarray]:
    """py-feat's own emotion probabilities of a clip, under its names (anger, happiness, ...).

    Args:
        detector: Result of :func:`load_detector`.
        frames: (T, H, W, 3) uint8 RGB.

    Returns:
        By name, (T,) float64 in [0, 1] that sum to 1 in frames with a face; NaN elsewhere.
    """
    table = fex_table(detector, frames)
    return _by_frame(table.emotions, table["frame"], len(frames))


def emotion_scores(units: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean over frames and units of the action units of each emotion in ``EMOTION_UNITS``, for units that are there."""
    scores = {}
    for emotion, names in EMOTION_UNITS.items():
        present = [np.nanmean(units[name]) for name in names if name in units and not np.isnan(units[name]).all()]
        scores[emotion] = float(np.mean(present)) if present else float("nan")
    return scores
