"""Coefficient files of Deep3DFaceRecon in and out of the layout of `fit3dmm` (Basel model only).

    python -m pipeline.tools.deep3d read  <file.mat|file.npy> --out fit.npz [--model bfm/BFM_model_front.mat]
    python -m pipeline.tools.deep3d write <fit.npz> --out file.mat --size <side of the fitted crop> [--model ...]

`read` gives alpha (the mean over frames), beta, pose in the camera of their 224 px crop, and the file's own light and texture; `write`
puts a fit of ours into their camera by its landmarks, with the mean texture and their initial light.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from flowvqtalker.face.camera import crop_camera, project
from flowvqtalker.face.deep3d import DEEP3D_CAMERA, deep3d_to_pose, make_deep3d, read_deep3d, write_deep3d
from flowvqtalker.face.model import FaceModel
from flowvqtalker.face.pose import transform
from flowvqtalker.fit.solver import fit_pose
from pipeline import context as house
from pipeline.errors import PipelineError
from pipeline.facemodel import load_face_model
from pipeline.io import atomic_path, read_npz, write_npz

#: Side of Deep3DFaceRecon's crop [px].
SIZE = 224


def read(source: Path, out: Path, model: FaceModel) -> int:
    """A coefficient file as npz {alpha, beta, pose, light, texture}; gives the number of frames."""
    try:
        with source.open("rb") as file:
            values = read_deep3d(file)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{source}: {error}", "name a .mat or .npy with 257 coefficients a frame") from error
    arrays = {
        "alpha": values.identity.mean(0), "beta": values.expression, "pose": deep3d_to_pose(model, values).astype(np.float32),
        "light": values.light, "texture": values.texture,
    }  # fmt: skip
    write_npz(out, arrays)
    return len(values)


def write(source: Path, out: Path, model: FaceModel, size: int) -> int:
    """A fit of a crop of ``size`` px as a coefficient file; gives the number of frames."""
    arrays = read_npz(source)
    if arrays["beta"].shape[1] != model.n_expression:
        raise PipelineError(
            f"{source}: {arrays['beta'].shape[1]} expression coefficients, the Basel model has {model.n_expression}",
            "fit with fit3dmm.model: bfm",
        )
    alpha, beta, pose = (torch.as_tensor(arrays[name].astype(np.float64)) for name in ("alpha", "beta", "pose"))
    points = model.landmarks(alpha, beta)
    seen = project(transform(points, pose), crop_camera(size)).numpy()
    scaled = (seen + 0.5) * SIZE / size - 0.5
    there = fit_pose(points.numpy(), scaled, DEEP3D_CAMERA)
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        write_deep3d(file, make_deep3d(model, arrays["alpha"], arrays["beta"], there))
    return len(beta)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("read", "write"))
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="bfm/BFM_model_front.mat", help="the Basel model: a path, or its name in the asset folders")
    parser.add_argument("--size", type=int, default=SIZE, help="write only: side of the fitted crop [px]")
    args = parser.parse_args()

    def action() -> None:
        model = load_face_model("bfm", args.model)
        frames = read(args.source, args.out, model) if args.verb == "read" else write(args.source, args.out, model, args.size)
        print(f"{args.out}: {frames} frames")

    house.guarded(action)


if __name__ == "__main__":
    main()
