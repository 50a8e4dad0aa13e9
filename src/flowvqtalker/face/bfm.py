"""Basel Face Model 2009 in the 80/64/80 layout of Deep3DFaceRecon, from the user's own licensed file.

The file is not ours to pass on: :data:`INSTRUCTIONS` says how a user gets it. Layout: https://github.com/sicxu/Deep3DFaceRecon_pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from flowvqtalker.checks import MissingWeightsError, check_finite
from flowvqtalker.face.model import FaceModel

INSTRUCTIONS = (
    "The Basel Face Model 2009 needs a licence of your own. Ask for it at https://faces.dmi.unibas.ch (you get 01_MorphableModel.mat), "
    "get the expression basis Exp_Pca.bin named in the README of Deep3DFaceRecon_pytorch, and let that project's "
    "preprocessing write BFM_model_front.mat; give that file to load_bfm."
)
_SHAPES = {"meanshape": 1, "idBase": 80, "exBase": 64}


def load_bfm(source: IO[bytes] | Mapping[str, Any]) -> FaceModel:
    """Build the model from ``BFM_model_front.mat``.

    Args:
        source: the open binary file, or a mapping with its arrays: meanshape (1, 3V) in decimetres, idBase (3V, 80), exBase (3V, 64),
            tri (F, 3) and keypoints (1, 68), both counted from 1.

    Returns:
        The model in cm in our head frame. Its 64 expression coefficients are principal components, not named ARKit shapes: they are
        normal with standard deviation 1, may be negative, and there are no eyeballs, teeth or contacts.

    Raises:
        MissingWeightsError: the file is not the expected one; the message says how to get it.
    """
    if isinstance(source, Mapping):
        data: Mapping[str, Any] = source
    else:
        from scipy.io import loadmat

        try:
            data = loadmat(source)
        except Exception as error:
            raise MissingWeightsError(f"BFM: the file is no readable .mat file ({error}). {INSTRUCTIONS}") from error
    missing = [key for key in (*_SHAPES, "tri", "keypoints") if key not in data]
    if missing:
        raise MissingWeightsError(f"BFM: the file lacks {', '.join(missing)}. {INSTRUCTIONS}")
    n_values = np.asarray(data["meanshape"]).size
    if n_values % 3:
        raise MissingWeightsError(f"BFM: meanshape has {n_values} values, not a multiple of 3. {INSTRUCTIONS}")
    for key in ("idBase", "exBase"):
        if np.asarray(data[key]).shape != (n_values, _SHAPES[key]):
            raise MissingWeightsError(
                f"BFM: {key} has the shape {np.asarray(data[key]).shape}, expected {(n_values, _SHAPES[key])}. {INSTRUCTIONS}"
            )
    # Decimetres to centimetres.
    mean = 10.0 * np.asarray(data["meanshape"], np.float64).reshape(-1, 3)
    identity = 10.0 * np.asarray(data["idBase"], np.float64).T.reshape(80, -1, 3)
    expression = 10.0 * np.asarray(data["exBase"], np.float64).T.reshape(64, -1, 3)
    check_finite("BFM meanshape", mean)
    triangles = np.asarray(data["tri"]).astype(np.int64) - 1
    landmarks = np.asarray(data["keypoints"]).astype(np.int64).reshape(-1) - 1
    if len(landmarks) != 68 or landmarks.min() < 0 or landmarks.max() >= len(mean):
        raise MissingWeightsError(f"BFM: keypoints must be 68 vertex numbers from 1 to {len(mean)}. {INSTRUCTIONS}")
    height = mean[:, 1].max() - mean[:, 1].min()
    if not 10.0 < height < 40.0:
        raise MissingWeightsError(f"BFM: the face would be {height:.3g} cm high; the file is not in decimetres. {INSTRUCTIONS}")
    eyes = mean[landmarks[36:48]].mean(0)
    mean = mean + np.array([0.0, -eyes[1], 7.9 - eyes[2]])
    # A front face has its corners counter-clockwise seen from +z.
    a, b, c = (mean[triangles[:, k]] for k in range(3))
    if np.cross(b - a, c - a)[:, 2].sum() < 0:
        triangles = triangles[:, ::-1]
    uv = np.clip(np.stack([0.5 + mean[:, 0] / 20.0, 0.5 - (mean[:, 1] + 2.0) / 26.0], axis=-1), 0.0, 1.0)
    none = np.zeros(0, np.int32)
    return FaceModel(
        name="bfm",
        mean=mean.astype(np.float32),
        identity=identity.astype(np.float32),
        identity_std=np.ones(80, np.float32),
        identity_names=tuple(f"bfm_identity_{number:02d}" for number in range(80)),
        expression=expression.astype(np.float32),
        triangles=np.ascontiguousarray(triangles, dtype=np.int32),
        vertex_part=np.zeros(len(mean), np.int32),
        part_names=("skin",),
        uv=uv.astype(np.float32),
        landmarks68=landmarks.astype(np.int32),
        eyeball_centres=np.zeros((2, 3), np.float32),
        eyeball_centre_identity=np.zeros((80, 2, 3), np.float32),
        eyeball_vertices=(none, none),
        occlusion=np.ones(len(mean), np.float32),
        expression_names=tuple(f"bfm_expression_{number:02d}" for number in range(64)),
    )
