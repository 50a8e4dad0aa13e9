"""Small copies of the published data sets' trees: the real names, the same tiny video everywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from flowvqtalker.constants import EMOTIONS
from pipeline import media

MEAD_PEOPLE = ("M003", "M005", "M007", "M009", "M030", "W009", "W011", "W015")
HDTF_CLIPS = (
    "RD_Radio10_000", "RD_Radio11_000", "RD_Radio11_001", "WDA_AlexandriaOcasioCortez_000", "WDA_TerriSewell_000", "WDA_TerriSewell0_000",
    "WDA_TerriSewell1_000", "WDA_LucilleRoybal-Allard_000", "WRA_AdamKinzinger0_000", "WRA_AdamKinzinger1_000", "WRA_DebFischer0_000",
    "WDA_WhipJimClyburn_000", "WDA_JamesClyburn1_000", "WRA_JohnKasich3_002",
)  # fmt: skip


def make_video(path: Path, *, n_frames: int = 10, sound: bool = True) -> Path:
    """A grey video of 48 x 48 px that gets lighter frame by frame, with a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.arange(n_frames, dtype=np.uint8)[:, None, None, None] * 2 + np.full((1, 48, 48, 3), 40, np.uint8)
    tone = (0.3 * np.sin(np.arange(n_frames * 640) * 0.2)).astype(np.float32) if sound else None
    media.write_video(path, frames, sound=tone, crf=20)
    return path


def lay(video: Path, root: Path, names: list[str]) -> Path:
    """Copies of one file under many names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video, root / name)
    return root


def mead_tree(root: Path, video: Path, people: tuple[str, ...] = MEAD_PEOPLE) -> Path:
    """Two sentences of each emotion and level in the front camera, one in another camera."""
    names = []
    for person in people:
        for emotion in EMOTIONS:
            for level in (1,) if emotion == "neutral" else (1, 2, 3):
                names += [f"{person}/video/front/{emotion}/level_{level}/{number:03d}.mp4" for number in (1, 2)]
        names.append(f"{person}/video/left_30/happy/level_3/001.mp4")
    return lay(video, root, names)


def hdtf_tree(root: Path, video: Path) -> Path:
    """Clips as download.py names them, and one whole video that it keeps."""
    return lay(video, root, [*(f"{name}.mp4" for name in HDTF_CLIPS), "_videos_raw/RD_Radio10.mp4"])


def ffhq_tree(root: Path, indices: tuple[int, ...] = (0, 1, 2, 1000, 59_999, 60_000, 69_999), size_px: int = 96) -> Path:
    """Aligned pictures and thumbnails of the same names."""
    for index in indices:
        for folder, side in (("images1024x1024", size_px), ("thumbnails128x128", 16)):
            path = root / folder / f"{index // 1000 * 1000:05d}" / f"{index:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((side, side, 3), index % 251, np.uint8)).save(path)
    return root


def cremad_tree(root: Path, video: Path, actors: range = range(1001, 1011)) -> Path:
    """Every emotion of one sentence for each actor, one sentence at three levels."""
    names = [f"VideoFlash/{actor}_DFA_{emotion}_XX.flv" for actor in actors for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")]
    names += [f"VideoFlash/{actor}_IEO_HAP_{level}.flv" for actor in actors for level in ("LO", "MD", "HI")]
    return lay(video, root, names)


def ravdess_tree(root: Path, video: Path, actors: range = range(1, 11)) -> Path:
    """Speech with sound, silent copies, songs and calm clips."""
    names = []
    for actor in actors:
        folder = f"Actor_{actor:02d}"
        for feeling in range(1, 9):
            for intensity in (1,) if feeling == 1 else (1, 2):
                rest = f"01-{feeling:02d}-{intensity:02d}-01"
                names += [f"{folder}/01-{rest}-{take:02d}-{actor:02d}.mp4" for take in (1, 2)]
        names += [f"{folder}/02-01-03-01-01-01-{actor:02d}.mp4", f"{folder}/01-02-03-01-01-01-{actor:02d}.mp4"]
    return lay(video, root, names)


def grid_tree(root: Path, video: Path, people: tuple[str, ...] = ("s1", "s2", "s3", "s4", "s5", "s22", "s34")) -> Path:
    """Both layouts of the data set."""
    names = [f"{person}/{code}.mpg" for person in people for code in ("bbaf2n", "swiz3a")]
    return lay(video, root, [*names, "s6/video/mpg_6000/lrwp9a.mpg"])


def voxceleb_tree(root: Path, video: Path) -> Path:
    """The layout of VoxCeleb 2 with its published parts."""
    names = [f"dev/mp4/id000{person}/21Uxsk56VDQ/0000{clip}.mp4" for person in range(12, 22) for clip in (1, 2)]
    return lay(video, root, [*names, "test/mp4/id00017x/01dfn2spqyE/00001.mp4", "test/mp4/id00061/4xRO6vd8PpE/00001.mp4"])
