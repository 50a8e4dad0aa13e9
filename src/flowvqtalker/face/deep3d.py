"""Coefficient files of Deep3DFaceRecon: 257 numbers a frame for the Basel model, read, written, and put into our head frame.

Order of the numbers (https://github.com/sicxu/Deep3DFaceRecon_pytorch, class ParametricFaceModel): identity 80, expression 64, texture 80,
angles 3 [rad], light 27, translation 3 [dm]. Three layouts are in use: a .mat with ``coeff`` (T, 257) and ``transform_params`` (T, 5) of the
224 px crop (DreamTalk, StyleTalk), a .mat with one array a part (``id``, ``exp``, ``tex``, ``angle``, ``gamma``, ``trans``; the official
tool), and a .npy with (T, 257).

The rotation is the same product ``Rz @ Ry @ Rx`` as ours; the picture is 224 px wide with a focal length of 1015 px, seen from 10 dm.
Their light multiplies harmonics of another sign and scale and a texture model, so it is carried along and not translated to ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowvqtalker.checks import check_finite, check_shape
from flowvqtalker.face.camera import Camera
from flowvqtalker.face.model import FaceModel
from flowvqtalker.face.pose import euler_to_matrix

Array = NDArray[np.floating]

N_COEFFICIENTS = 257
#: Part -> columns of the 257.
COLUMNS = {
    "identity": slice(0, 80), "expression": slice(80, 144), "texture": slice(144, 224), "angles": slice(224, 227),
    "light": slice(227, 254), "translation": slice(254, 257),
}  # fmt: skip
#: Part -> its name in the official tool's files.
_OFFICIAL = {"identity": "id", "expression": "exp", "texture": "tex", "angles": "angle", "light": "gamma", "translation": "trans"}
#: Names that projects give to the whole array.
_WHOLE = ("coeff", "coeff_3dmm", "coeffs")
#: Camera of the 224 px crop in our terms; rows count downwards from the top, theirs upwards from the last row.
DEEP3D_CAMERA = Camera(focal_px=1015.0, cx=112.0, cy=111.0, distance_cm=100.0)
_CM_PER_DM = 10.0
#: A .mat begins with 116 bytes of free text; scipy writes the time there, which would make every file a new one.
_HEADER = b"MATLAB 5.0 MAT-file, written by flowvqtalker".ljust(116)


@dataclass(frozen=True, eq=False)
class Deep3DCoefficients:
    """Coefficients of T frames, in the file's own dtype (float32) and units.

    Attributes:
        identity: (T, 80).
        expression: (T, 64).
        texture: (T, 80).
        angles: (T, 3) rx, ry, rz [rad].
        light: (T, 27) channel-major, relative to their initial light.
        translation: (T, 3) [dm].
        transform_params: (T, 5) width, height, scale and centre (x, y) of the crop in the source picture [px], where the file has them.
    """

    identity: Array
    expression: Array
    texture: Array
    angles: Array
    light: Array
    translation: Array
    transform_params: Array | None = None

    def __post_init__(self) -> None:
        n_frames = len(self.identity)
        for name, columns in COLUMNS.items():
            check_shape(f"Deep3D {name}", getattr(self, name), (n_frames, columns.stop - columns.start))
            check_finite(f"Deep3D {name}", getattr(self, name))
        if self.transform_params is not None:
            check_shape("Deep3D transform_params", self.transform_params, (n_frames, 5))

    @classmethod
    def from_array(cls, coefficients: Array, transform_params: Array | None = None) -> Deep3DCoefficients:
        """From (T, 257), or (257,) for one frame."""
        coefficients = np.atleast_2d(coefficients)
        if coefficients.ndim != 2 or coefficients.shape[1] != N_COEFFICIENTS:
            raise ValueError(f"Deep3D coefficients: expected (T, {N_COEFFICIENTS}), got {coefficients.shape}")
        return cls(**{name: coefficients[:, columns] for name, columns in COLUMNS.items()}, transform_params=transform_params)

    def to_array(self) -> Array:
        """(T, 257) in the file's order."""
        return np.concatenate([getattr(self, name) for name in COLUMNS], axis=1)

    def __len__(self) -> int:
        return len(self.identity)


def read_deep3d(source: IO[bytes]) -> Deep3DCoefficients:
    """Read any of the three layouts.

    Args:
        source: open binary file.

    Raises:
        ValueError: not such a file; the message says what it holds.
    """
    magic = source.read(6)
    source.seek(0)
    if magic == b"\x93NUMPY":
        return Deep3DCoefficients.from_array(np.load(source, allow_pickle=False))
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError, matfile_version

    try:
        major, _ = matfile_version(source)
        source.seek(0)
        data: dict[str, Any] = {} if major == 2 else loadmat(source)
    except (MatReadError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"Deep3D coefficients: neither a .npy nor a readable .mat file ({error})") from error
    if major == 2:
        raise ValueError("Deep3D coefficients: a .mat file of version 7.3, which is HDF5; save it again with -v7")
    whole = next((name for name in _WHOLE if name in data), None)
    if whole is not None:
        return Deep3DCoefficients.from_array(data[whole], data.get("transform_params"))
    if all(name in data for name in _OFFICIAL.values()):
        return Deep3DCoefficients(**{part: np.atleast_2d(data[name]) for part, name in _OFFICIAL.items()})
    held = ", ".join(name for name in data if not name.startswith("__")) or "nothing"
    raise ValueError(f"Deep3D coefficients: expected {' or '.join(_WHOLE)}, or {', '.join(_OFFICIAL.values())}; the file holds {held}")


def write_deep3d(target: IO[bytes], coefficients: Deep3DCoefficients) -> None:
    """Write a .mat with ``coeff`` and, where there are some, ``transform_params``; equal coefficients make equal bytes.

    Args:
        target: binary file open for writing.
        coefficients: what is written, in its own dtype.
    """
    import io

    from scipy.io import savemat

    arrays = {"coeff": coefficients.to_array()}
    if coefficients.transform_params is not None:
        arrays["transform_params"] = coefficients.transform_params
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    target.write(_HEADER + buffer.getvalue()[len(_HEADER) :])


def _origin(model: FaceModel) -> torch.Tensor:
    """(3,) cm: where the mean of the model's vertices, which is their origin, lies in our head frame."""
    if model.name != "bfm":
        raise ValueError(f"Deep3D coefficients belong to the model 'bfm', not to '{model.name}'")
    return torch.as_tensor(model.mean.astype(np.float64).mean(0))


def deep3d_to_pose(model: FaceModel, coefficients: Deep3DCoefficients) -> Array:
    """Poses (T, 6) [rad, cm] that move our head frame as theirs moves; seen by ``DEEP3D_CAMERA``.

    Args:
        model: the Basel model as ``load_bfm`` gives it.
        coefficients: of T frames.
    """
    angles = torch.as_tensor(coefficients.angles.astype(np.float64))
    shift = _CM_PER_DM * torch.as_tensor(coefficients.translation.astype(np.float64)) - euler_to_matrix(angles) @ _origin(model)
    return torch.cat([angles, shift], -1).numpy()


def pose_to_deep3d(model: FaceModel, pose: Array) -> tuple[Array, Array]:
    """Angles (T, 3) [rad] and translation (T, 3) [dm] of poses (T, 6) seen by ``DEEP3D_CAMERA``; the inverse of ``deep3d_to_pose``."""
    there = torch.as_tensor(np.asarray(pose, dtype=np.float64))
    translation = (there[:, 3:] + euler_to_matrix(there[:, :3]) @ _origin(model)) / _CM_PER_DM
    return there[:, :3].numpy(), translation.numpy()


def make_deep3d(model: FaceModel, alpha: Array, beta: Array, pose: Array) -> Deep3DCoefficients:
    """Coefficients of a fit with the Basel model; the texture is the mean one and the light their initial one.

    Args:
        model: the Basel model.
        alpha: (80,).
        beta: (T, 64).
        pose: (T, 6) seen by ``DEEP3D_CAMERA``.

    Returns:
        Float32 coefficients of T frames.
    """
    check_shape("alpha", alpha, (80,))
    angles, translation = pose_to_deep3d(model, pose)
    parts = {
        "identity": np.repeat(np.asarray(alpha)[None], len(beta), 0), "expression": beta, "texture": np.zeros((len(beta), 80)),
        "angles": angles, "light": np.zeros((len(beta), 27)), "translation": translation,
    }  # fmt: skip
    return Deep3DCoefficients(**{name: np.asarray(value, dtype=np.float32) for name, value in parts.items()})


__all__ = [
    "COLUMNS",
    "DEEP3D_CAMERA",
    "N_COEFFICIENTS",
    "Deep3DCoefficients",
    "deep3d_to_pose",
    "make_deep3d",
    "pose_to_deep3d",
    "read_deep3d",
    "write_deep3d",
]
