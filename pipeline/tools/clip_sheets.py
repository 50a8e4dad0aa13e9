"""What became of the user's recordings, to look at: a contact sheet of every clip and a page with every recording, also the rejected ones.

Usage: make sheets [CONFIG=configs/clips.yaml]
       python -m pipeline.tools.clip_sheets [--config configs/clips.yaml] [--only <clip> ...] [--frames 6]

Reads corpus, crop and (where it is there) fit3dmm of the run; writes runs/<name>/reports/clips/{index.html, clips.csv, sheets/<clip>.jpg}.
A sheet has one column a moment: the source with landmarks and box; the crop with landmarks; the fitted mesh over it; the same coefficients on
the clay head. The pages show real people: the folder is outside git and belongs to whoever may see the recordings.
"""

from __future__ import annotations

import argparse
import html
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw

from flowvqtalker.face import make_face_model
from flowvqtalker.face.camera import crop_camera
from flowvqtalker.face.model import FaceModel
from flowvqtalker.face.pose import transform
from flowvqtalker.landmarks.schema import GROUPS
from flowvqtalker.render.raster import rasterize
from flowvqtalker.render.shade import default_light, render_frame
from flowvqtalker.render.texture import sample_appearance
from flowvqtalker.seeding import numpy_generator
from pipeline import context as house
from pipeline import media
from pipeline.adapters import resolve_source
from pipeline.errors import PipelineError
from pipeline.facemodel import load_face_model
from pipeline.footage import iterate_footage, open_footage
from pipeline.io import atomic_path, ok_rows, read_index, read_npz, write_text
from pipeline.params import read_config, validate
from pipeline.params.corpus import CorpusParams
from pipeline.params.fit3dmm import Fit3dmmParams
from pipeline.stages import STAGES, run_root

CELL_PX = 224
THUMBNAILS = 5
COLUMNS = (
    "clip", "status", "reason", "flags", "n_frames", "start_frame", "source_frames", "kept_share", "shots", "faces_seen", "face_px", "present_share",
    "blur", "yaw_deg", "brightness", "upscaled", "audio_status", "sound_db", "landmark_error_pct", "at_bound_share",
)  # fmt: skip
_LINES = [(points, name in ("right_eye", "left_eye", "outer_lips", "inner_lips")) for name, points in GROUPS.items()]


@dataclass(frozen=True)
class Run:
    """Tables and folders of one run."""

    root: Path
    corpus: pd.DataFrame
    crops: pd.DataFrame
    fits: pd.DataFrame | None
    params: CorpusParams
    fit: Fit3dmmParams

    def source_path(self, clip: str) -> Path:
        """File of a recording by its corpus id."""
        row = self.corpus[self.corpus["clip"] == clip].iloc[0]
        return resolve_source(self.params, str(row["file"]), self.root / STAGES["corpus"].folder)


def open_run(config: str) -> Run:
    """The run of a configuration, with the roots that `make clips` wrote."""
    root = run_root(read_config("params.yaml", config))
    overlay = root / "config.yaml"
    values = read_config("params.yaml", config, *([overlay] if overlay.exists() else []))
    sections = validate(values)
    fit_index = root / STAGES["fit3dmm"].out
    return Run(
        root,
        read_index(root / STAGES["corpus"].out, "corpus"),
        read_index(root / STAGES["crop"].out, "crop"),
        ok_rows(read_index(fit_index, "fit3dmm")) if fit_index.exists() else None,
        cast(CorpusParams, sections["corpus"]),
        cast(Fit3dmmParams, sections["fit3dmm"]),
    )


# ------------------------------------------------------------------------------------------------------------------ drawing


def draw_landmarks(picture: np.ndarray, points: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Lines through the 68 points (68, 2) px on a picture; ``scale`` maps them to it."""
    image = Image.fromarray(picture)
    if not np.isfinite(points).all():
        return picture
    pen = ImageDraw.Draw(image)
    width = max(1, round(max(picture.shape) / 220))
    for group, closed in _LINES:
        line = [tuple((points[i] + 0.5) * scale - 0.5) for i in (*group, *([group[0]] if closed else []))]
        pen.line(line, fill=(0, 255, 120), width=width)
    return np.asarray(image)


def draw_mesh(picture: np.ndarray, model: FaceModel, vertices: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """The fitted surface over a square picture, shaded by its normals."""
    size = picture.shape[0]
    buffers = rasterize(vertices, model.triangles, crop_camera(size), (size, size))
    corners = vertices[model.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    shade = (60 + 180 * np.clip(normals @ np.array([0.3, 0.35, 0.89]), 0, 1))[:, None] * np.array([0.55, 0.8, 1.0])
    hit = buffers.triangle >= 0
    drawn = picture.astype(np.float64)
    drawn[hit] = (1 - opacity) * drawn[hit] + opacity * shade[buffers.triangle[hit]]
    return drawn.round().clip(0, 255).astype(np.uint8)


def source_cell(picture: np.ndarray, points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A source picture, its crop's box and the landmarks, fitted into a square cell."""
    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    scale = CELL_PX / max(height, width)
    image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(image)
    pen.rectangle([float(side) * scale for side in box], outline=(255, 200, 0))
    drawn = draw_landmarks(np.asarray(image), points, scale)
    return to_cell(drawn)


def to_cell(picture: np.ndarray) -> np.ndarray:
    """A picture centred in a grey square cell."""
    image = Image.fromarray(picture)
    image.thumbnail((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
    cell = Image.new("RGB", (CELL_PX, CELL_PX), (40, 40, 40))
    cell.paste(image, ((CELL_PX - image.width) // 2, (CELL_PX - image.height) // 2))
    return np.asarray(cell)


def source_frames(path: Path, wanted: Iterable[int]) -> dict[int, np.ndarray]:
    """Some pictures of a recording by their number at 25 fps."""
    numbers, found, done = sorted(set(wanted)), {}, 0
    for frames, _ in iterate_footage(open_footage(path)):
        found |= {number: frames[number - done] for number in numbers if done <= number < done + len(frames)}
        done += len(frames)
        if numbers and done > numbers[-1]:
            break
    return found


def make_sheet(run: Run, row: dict[str, Any], models: tuple[FaceModel, FaceModel] | None, count: int) -> np.ndarray:
    """The sheet of one clip: (rows * CELL_PX, columns * CELL_PX, 3) uint8."""
    folder = run.root / STAGES["crop"].folder
    arrays = read_npz(folder / row["landmarks"])
    crops = media.read_video_at(folder / row["video"])
    size, n_frames = int(row["size_px"]), len(arrays["landmarks_px"])
    picked = np.unique(np.linspace(0, min(n_frames, len(crops)) - 1, count).round().astype(int))
    start = int(row["start_frame"])
    originals = source_frames(run.source_path(row["source_clip"]), [start + int(i) for i in picked])
    boxes = np.broadcast_to(arrays["box"], (n_frames, 4))
    fitted = None
    if run.fits is not None and models is not None and (run.fits["clip"] == row["clip"]).any():
        fitted = read_npz(run.root / STAGES["fit3dmm"].folder / f"clips/{row['clip']}.npz")
    columns = []
    for i in picked:
        points, box = arrays["landmarks_px"][i], boxes[i].astype(np.float64)
        in_source = (points + 0.5) * ((box[2] - box[0]) / size) - 0.5 + box[:2]
        large = np.asarray(Image.fromarray(crops[i]).resize((CELL_PX, CELL_PX), Image.Resampling.BICUBIC))
        cells = [source_cell(originals[start + int(i)], in_source, box), draw_landmarks(large, points, CELL_PX / size)]
        if fitted is not None and models is not None:
            cells += fitted_cells(large, fitted, int(i), *models)
        columns.append(np.concatenate(cells))
    return np.concatenate(columns, axis=1)


def fitted_cells(crop: np.ndarray, fitted: dict[str, np.ndarray], i: int, model: FaceModel, clay: FaceModel) -> list[np.ndarray]:
    """The fitted mesh over the crop, and the clay head with the same expression and pose."""
    pose = torch.as_tensor(fitted["pose"][i].astype(np.float32))
    own = transform(torch.from_numpy(model.frame(fitted["alpha"].astype(np.float32), fitted["beta"][i])), pose).numpy()
    alpha = np.zeros(clay.n_identity, np.float32)
    head = transform(torch.from_numpy(clay.frame(alpha, fitted["beta"][i])), pose).numpy()
    appearance = sample_appearance(numpy_generator(3, "sheet"), clay)
    wall = np.full((CELL_PX, CELL_PX, 3), 120, np.uint8)
    beta = fitted["beta"][i].astype(np.float32)
    return [
        draw_mesh(crop, model, np.ascontiguousarray(own, np.float32)),
        render_frame(clay, head, beta, appearance, crop_camera(CELL_PX), (CELL_PX, CELL_PX), default_light(), wall),
    ]


def rejected_strip(run: Run, clip: str, part: tuple[int, int] | None = None) -> np.ndarray | None:
    """Some pictures of a recording, or of its frames ``part`` (first, last), that gave no clip; None when it cannot be read."""
    try:
        path = run.source_path(clip)
        first, last = part or (0, sum(len(fresh) for _, fresh in iterate_footage(open_footage(path))) - 1)
        picked = np.unique(np.linspace(first, last, THUMBNAILS).round().astype(int))
        return np.concatenate([to_cell(picture) for _, picture in sorted(source_frames(path, picked.tolist()).items())], axis=1)
    except PipelineError:
        return None


def left_out(reason: Any) -> list[tuple[int, int]]:
    """First and last frames of the tracks that a reason says were left out.

    >>> left_out("frames 0 to 16: the face stays for 17 frames only; frames 40 to 80: too small")
    [(0, 16), (40, 80)]
    """
    return [(int(first), int(last)) for first, last in re.findall(r"frames (\d+) to (\d+):", reason if isinstance(reason, str) else "")]


# ------------------------------------------------------------------------------------------------------------------- report


def report_table(run: Run) -> pd.DataFrame:
    """One row a clip of the crop step and one a recording that never got there."""
    crops = run.crops.copy()
    for name in ("source_face_frames", "present_share", "n_frames"):
        crops[name] = pd.to_numeric(crops[name] if name in crops else pd.Series("", index=crops.index), errors="coerce")
    ok = crops["status"] == "ok"
    kept = (crops["present_share"] * crops["n_frames"]).where(ok, 0.0).groupby(crops["source_clip"]).transform("sum")
    crops["kept_share"] = (kept / crops["source_face_frames"]).round(4).where(ok)
    lost = run.corpus.loc[run.corpus["status"] != "ok", ["clip", "status", "reason"]]
    table = pd.DataFrame([*crops.to_dict("records"), *lost.to_dict("records")])
    if run.fits is not None:
        table = table.merge(run.fits[["clip", "landmark_error_pct", "at_bound_share"]], on="clip", how="left")
    for name in COLUMNS:
        if name not in table:
            table[name] = ""
    return table.sort_values(["status", "clip"], ascending=[False, True], kind="stable").reset_index(drop=True)


def summary(table: pd.DataFrame) -> str:
    """One sentence with the counts, and how often each flag stands."""
    counts = table["status"].value_counts()
    words = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("ok", "rejected", "failed"))
    flags = Counter(word for words in table["flags"].fillna("") for word in str(words).split("+") if word)
    return f"{len(table)} clips: {words}. Flags: {', '.join(f'{name} {n}' for name, n in flags.most_common()) or 'none'}."


def write_page(folder: Path, table: pd.DataFrame, pictures: dict[str, list[str]]) -> None:
    """index.html: the rejected first, each with its reason and pictures."""
    heads = [name for name in COLUMNS if name not in ("clip", "status", "reason", "flags")]

    def text(value: Any) -> str:
        if value is None or value == "" or (isinstance(value, float) and value != value):
            return ""
        try:
            return f"{float(value):.4g}"
        except ValueError:
            return html.escape(str(value))

    parts = []
    for row in table.to_dict("records"):
        names = pictures.get(row["clip"], [])
        image = "".join(f'<img loading="lazy" src="{html.escape(name)}" alt="{html.escape(name)}">' for name in names)
        values = " · ".join(f"{name} {text(row[name])}" for name in heads if text(row[name]))
        doubts = "" if row["flags"] != row["flags"] else html.escape(str(row["flags"]).replace("+", " "))
        why = "" if row["reason"] != row["reason"] else html.escape(str(row["reason"]))
        parts.append(
            f'<section class="{row["status"]}"><h2>{html.escape(row["clip"])} <span>{row["status"]}</span> <em>{doubts}</em></h2>'
            f"<p>{why}</p><p>{values}</p>{image}</section>"
        )
    style = (
        "body{font:14px sans-serif;margin:2em;max-width:1500px}img{max-width:100%}section{border-top:1px solid #ccc;padding:.5em 0}"
        "h2{font-size:1.05em;margin:.3em 0}span{font-weight:normal}.ok span{color:#080}.rejected span,.failed span{color:#b00}em{color:#a60}p{margin:.2em 0}"
    )
    write_text(
        folder / "index.html",
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Recordings</title><style>{style}</style><h1>Recordings</h1>'
        f"<p>{html.escape(summary(table))} Real people may be seen here: keep this folder private.</p>{''.join(parts)}</html>\n",
    )


def save_picture(path: Path, picture: np.ndarray) -> None:
    """JPEG, written in one step."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, quality=88)


def run(config: str, only: list[str], count: int) -> None:
    """Sheets, page and table."""
    what = open_run(config)
    folder = what.root / "reports" / "clips"
    table = report_table(what)
    unknown = set(only) - set(table["clip"])
    if unknown:
        raise PipelineError(f"no clip '{sorted(unknown)[0]}' in {what.root}", "clip ids stand in data/crop/index.csv of the run")
    models = (load_face_model(what.fit.model, what.fit.asset), make_face_model("clay")) if what.fits is not None else None
    pictures: dict[str, list[str]] = {}
    shown: set[str] = set()
    for row in table.to_dict("records"):
        names = pictures.setdefault(row["clip"], [])
        good = row["status"] == "ok"
        source = str(row["source_clip"]) if good else row["clip"]
        parts = left_out(row["reason"]) if good and source not in shown else []
        shown.add(source)
        wanted = {f"sheets/{row['clip']}.jpg": None} | {f"sheets/{source}_left_out_{part[0]}.jpg": part for part in parts}
        for name, part in wanted.items():
            if only and row["clip"] not in only:
                names.extend([name] if (folder / name).exists() else [])
                continue
            if good and part is None:
                picture = make_sheet(what, row, models, count) if row["kind"] == "video" else None
            else:
                picture = rejected_strip(what, source, part)
            if picture is not None:
                save_picture(folder / name, picture)
                names.append(name)
    if not only:
        for stray in set(folder.glob("sheets/*.jpg")) - {folder / name for names in pictures.values() for name in names}:
            stray.unlink()
    write_text(folder / "clips.csv", table[list(COLUMNS)].to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    write_page(folder, table, pictures)
    print(f"{summary(table)}\n{folder}/index.html")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/clips.yaml")
    parser.add_argument("--only", nargs="*", default=[], help="clip ids; all when left out")
    parser.add_argument("--frames", type=int, default=6, help="moments of a sheet")
    args = parser.parse_args()
    house.guarded(lambda: run(args.config, args.only, args.frames))


if __name__ == "__main__":
    main()
