"""Known answers on real test clips: delay, noise, blur and softened-motion sweeps; blink events, landmarks and poses against the corpus' truth.

Usage: python -m pipeline.tools.metric_sweeps [--root .] [--clips 48] [--out docs/figures/metric_sweeps.png]

Needs the finished stages corpus, landmarker, crop, fit3dmm and experts of a run below --root; trains nothing and writes nothing there. Writes the
figure and, beside it, a csv with every point. Each sweep has a known answer: sound shifted by k frames is found at k; noise and blur move every
picture metric one way; a clip whose motion is late or softened drifts away from itself. `tests/unit/metrics/test_metric_sweeps.py` holds the
committed csv to these answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from tqdm import tqdm

from flowvqtalker.audio.mel import compute_mel, mel_windows
from flowvqtalker.constants import FPS_HZ, SAMPLES_PER_FRAME
from flowvqtalker.experts import judge
from flowvqtalker.experts.crops import MOUTH, cut
from flowvqtalker.experts.tasks import picture_features
from flowvqtalker.face.camera import crop_camera
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.fit.agreement import rotation_error_deg
from flowvqtalker.fit.basis import basis_of
from flowvqtalker.landmarks.boxes import to_crop
from flowvqtalker.metrics.blinks import BlinkF1, blink_events, closure_from_landmarks, shown_events
from flowvqtalker.metrics.compensated import compensated_flicker
from flowvqtalker.metrics.distribution import fid, kid
from flowvqtalker.metrics.diversity import pose_over_time_deg
from flowvqtalker.metrics.landmarks import lip_correlation, lmd_centred_px, lmd_raw_px
from flowvqtalker.metrics.pixels import psnr_db, ssim
from flowvqtalker.metrics.sharpness import cpbd, luminance, mouth_sharpness
from flowvqtalker.metrics.sync import sync_score
from flowvqtalker.seeding import numpy_generator
from pipeline.context import guarded
from pipeline.errors import PipelineError
from pipeline.evaluation.checks import true_pose
from pipeline.facemodel import load_face_model
from pipeline.io import atomic_path, ok_rows, read_index, read_npz, read_torch, write_text
from pipeline.media import read_sound, read_video

SHIFTS = tuple(range(-10, 11))
NOISE = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0)
BLUR = (0.0, 0.5, 1.0, 2.0, 4.0)
#: Frames by which motion comes late, and standard deviations [frames] of the low pass that softens it.
LATE = (0, 1, 2, 3, 4, 5)
SOFT = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
#: Every n-th frame of a clip takes part in the picture sweeps.
EVERY = 6
LIDS = [EXPRESSION_INDEX["eyeBlink_L"], EXPRESSION_INDEX["eyeBlink_R"]]


@dataclass(frozen=True)
class TestClip:
    """A real test clip: (T, S, S, 3) frames, (T, 68, 2) landmarks, (S,) sound or None."""

    name: str
    frames: np.ndarray
    landmarks_px: np.ndarray
    sound: np.ndarray | None


def read_clips(root: Path, limit: int) -> list[TestClip]:
    """Talking test clips of a run, first takes first.

    Raises:
        PipelineError: there are none.
    """
    folder = root / "data/crop"
    table = ok_rows(read_index(folder / "index.csv", "crop"))
    table = table[(table["split"] == "test") & (table["kind"] == "video") & (table["role"] == "talk")]
    clips = []
    for row in sorted(table.itertuples(), key=lambda row: (float(str(row.take)), str(row.clip)))[:limit]:
        frames = read_video(folder / str(row.video))[0]
        points = read_npz(folder / str(row.landmarks))["landmarks_px"][: len(frames)]
        sound = read_sound(folder / str(row.sound)) if row.sound else None
        clips.append(TestClip(str(row.clip), frames[: len(points)], points, sound))
    if not clips:
        raise PipelineError(f"{folder}/index.csv: has no talking test clip", "run the pipeline up to stage crop first")
    return clips


def shifted(sound: np.ndarray, frames: int) -> np.ndarray:
    """Sound delayed by a number of frames (negative: early), the same length; silence fills the gap."""
    samples = frames * SAMPLES_PER_FRAME
    result = np.zeros_like(sound)
    if samples >= 0:
        result[samples:] = sound[: len(sound) - samples]
    else:
        result[:samples] = sound[-samples:]
    return result


def delays(clips: list[TestClip], network: Any) -> pd.DataFrame:
    """Offset found for every clip of 2 s or more and every delay, with LSE-D and LSE-C."""
    rows = []
    for clip in tqdm([clip for clip in clips if clip.sound is not None and len(clip.frames) >= 2 * FPS_HZ], desc="delays", disable=None):
        with torch.inference_mode():
            lips = network.embed_video(torch.from_numpy(cut(clip.frames, clip.landmarks_px, MOUTH, network.size_px))[None])[0].numpy()
        for shift in SHIFTS:
            windows = mel_windows(compute_mel(shifted(np.asarray(clip.sound), shift)), len(lips))
            with torch.inference_mode():
                sound = network.embed_audio(torch.from_numpy(windows)[None])[0].numpy()
            score = sync_score(lips, sound)
            rows.append({"clip": clip.name, "shift": shift, "found": score.offset_frames, "lse_d": score.lse_d, "lse_c": score.lse_c})
    return pd.DataFrame(rows)


def damages(clips: list[TestClip], network: Any, kind: str) -> pd.DataFrame:
    """Picture metrics at growing noise (standard deviation in grey levels, new in every frame) or blur (standard deviation in pixels)."""
    rows = []
    real = np.concatenate([clip.frames[::EVERY] for clip in clips])
    points = np.concatenate([clip.landmarks_px[::EVERY] for clip in clips])
    truth = picture_features(network, real)
    motion = [clip.frames[:12] for clip in clips[:12]]
    for amount in tqdm(NOISE if kind == "noise" else BLUR, desc=kind, disable=None):

        def damage(frames: np.ndarray, amount: float = amount) -> np.ndarray:
            if kind == "blur":
                return gaussian_filter(frames, (0, amount, amount, 0)) if amount else frames
            noise = numpy_generator("sweep", len(frames)).normal(size=frames.shape)
            return np.clip(np.rint(frames + amount * noise), 0, 255).astype(np.uint8)

        frames = damage(real)
        features, grey = picture_features(network, frames), luminance(frames)
        decibels = psnr_db(frames, real)
        rows.append(
            {"amount": amount, "psnr_db": float(decibels.mean()) if np.isfinite(decibels).all() else float("inf"), "ssim": float(ssim(frames, real).mean()),
             "fid_expert": fid(features, truth), "kid_expert": kid(features, truth), "cpbd": float(np.mean([cpbd(np.rint(one)) for one in grey])),
             "mouth_sharpness": float(np.nanmean(mouth_sharpness(frames, points, grey))),
             "flicker_compensated": float(np.mean([compensated_flicker(luminance(damage(part))).mean() for part in motion]))}
        )  # fmt: skip
    return pd.DataFrame(rows)


def motions(clips: list[TestClip]) -> pd.DataFrame:
    """Landmark metrics of test clips against themselves, late by some frames or low-passed in time; means over clips."""
    rows = []
    for kind, amounts in (("late", LATE), ("soft", SOFT)):
        for amount in amounts:
            scores: list[dict[str, float]] = []
            for clip in clips:
                points = clip.landmarks_px[np.isfinite(clip.landmarks_px).all(axis=(1, 2))].astype(np.float64)
                size = clip.frames.shape[2]
                late = int(amount) if kind == "late" else 0
                real, made = points[late:], points[: len(points) - late]
                if kind == "soft" and amount:
                    made = gaussian_filter1d(made, amount, axis=0, mode="nearest")
                scores.append(
                    {"m_lmd_centred_px": float(lmd_centred_px(made, real, "mouth", size).mean()),
                     "m_lmd_raw_px": float(lmd_raw_px(made, real, "mouth", size).mean()),
                     "f_lmd_centred_px": float(lmd_centred_px(made, real, "face", size).mean()),
                     "f_lmd_raw_px": float(lmd_raw_px(made, real, "face", size).mean()),
                     "lip_correlation": lip_correlation(made, real)}
                )  # fmt: skip
            rows.append({"sweep": kind, "amount": amount} | pd.DataFrame(scores).mean().to_dict())
    return pd.DataFrame(rows)


def true_clips(root: Path, split: str) -> Iterator[dict[str, Any]]:
    """Detected and true landmarks (crop px), true coefficients and blinks [s from the crop's first frame] of every video of a split."""
    corpus = ok_rows(read_index(root / "data/corpus/index.csv", "corpus")).set_index("clip")
    table = ok_rows(read_index(root / "data/crop/index.csv", "crop"))
    for row in table[(table["split"] == split) & (table["kind"] == "video")].itertuples():
        truth = read_npz(root / "data/corpus" / str(corpus.loc[row.source_clip, "truth"]))
        found = read_npz(root / "data/crop" / str(row.landmarks))
        first, size = int(float(str(row.start_frame))), int(float(str(row.size_px)))
        part = slice(first, first + min(len(found["landmarks_px"]), len(truth["landmarks_px"]) - first))
        count = part.stop - first
        events = truth["blinks"] - first / FPS_HZ
        yield {
            "clip": str(row.clip), "size_px": size, "found_px": found["landmarks_px"][:count],
            "true_px": to_crop(truth["landmarks_px"][part], found["box"], size), "true_alpha": truth["alpha"], "true_beta": truth["beta"][part],
            "blinks_s": events[(events[:, 1] > 0) & (events[:, 0] < count / FPS_HZ)],
        }  # fmt: skip


def blinks(root: Path) -> pd.DataFrame:
    """F1 of blink events from landmarks alone against the corpus' truth, on true landmarks and on those that the trained back end found.

    A blink that an end of the clip cuts off before the lids get to the threshold is in the truth but in no frame: it is counted as ``unjudged``,
    and ``f1_all`` is what F1 would be with it as a miss.
    """
    rows = []
    for split in ("train", "val", "test"):
        scores = {name: (BlinkF1(1 / FPS_HZ), BlinkF1(1 / FPS_HZ)) for name in ("true landmarks", "found landmarks")}
        for data in true_clips(root, split):
            shown = shown_events(data["blinks_s"], data["true_beta"][:, LIDS].mean(axis=1), FPS_HZ)
            for name, marks in (("true landmarks", data["true_px"]), ("found landmarks", data["found_px"])):
                found = blink_events(closure_from_landmarks(marks)) / FPS_HZ
                scores[name][0].update(found, data["blinks_s"], shown)
                scores[name][1].update(found, data["blinks_s"])
        for name, (score, whole) in scores.items():
            match = score.match
            rows.append(
                {"split": split, "landmarks": name, "f1": score.compute(), "hits": match.hits, "misses": match.misses,
                 "false_alarms": match.false_alarms, "unjudged": score.unjudged, "f1_all": whole.compute()}
            )  # fmt: skip
    return pd.DataFrame(rows)


def poses(root: Path) -> pd.DataFrame:
    """Landmarks found and head poses fitted on the test clips against the truth, one row a clip."""
    fits = ok_rows(read_index(root / "data/fit3dmm/index.csv", "fit3dmm")).set_index("clip")
    basis = basis_of(load_face_model("clay", ""))
    rows = []
    for data in tqdm(true_clips(root, "test"), desc="poses", disable=None):
        fitted = read_npz(root / "data/fit3dmm" / str(fits.loc[data["clip"], "file"]))["pose"][: len(data["true_px"])]
        true = true_pose(basis, data, crop_camera(data["size_px"]))
        rows.append(
            {"clip": data["clip"], "rotation_error_deg": float(np.nanmean(rotation_error_deg(fitted, true))),
             "pose_over_time_deg": float(pose_over_time_deg(fitted)), "pose_over_time_true_deg": float(pose_over_time_deg(true)),
             "m_lmd_raw_px": float(np.nanmean(lmd_raw_px(data["found_px"], data["true_px"], "mouth", data["size_px"]))),
             "f_lmd_raw_px": float(np.nanmean(lmd_raw_px(data["found_px"], data["true_px"], "face", data["size_px"]))),
             "lip_correlation": lip_correlation(data["found_px"], data["true_px"])}
        )  # fmt: skip
    return pd.DataFrame(rows)


def draw(found: pd.DataFrame, noise: pd.DataFrame, blur: pd.DataFrame, motion: pd.DataFrame, path: Path) -> None:
    """The figure: offsets found over delays, each picture metric over noise and blur, landmark metrics over late and softened motion."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = ("psnr_db", "ssim", "fid_expert", "kid_expert", "cpbd", "mouth_sharpness", "flicker_compensated")
    figure, axes = plt.subplots(4, 3, figsize=(11, 12), constrained_layout=True)
    flat = axes.ravel()
    counts = found.groupby(["shift", "found"], as_index=False).size()
    flat[0].plot(SHIFTS, SHIFTS, color="0.8", lw=6, zorder=0, label="known answer")
    flat[0].scatter(counts["shift"], counts["found"], s=2 * counts["size"], color="#0f766e", label="clips (area: how many)")
    flat[0].set(xlabel="sound delayed by [frames]", ylabel="offset found [frames]", title="AV offset")
    flat[0].legend(frameon=False, fontsize=8)
    for column, label, colour in (("lse_d", "LSE-D", "#2563eb"), ("lse_c", "LSE-C", "#c2410c")):
        flat[1].plot(SHIFTS, [found.loc[found["shift"] == shift, column].mean() for shift in SHIFTS], color=colour, label=label)
    flat[1].set(xlabel="sound delayed by [frames]", title="LSE does not mind a delay", ylim=(0, None))
    flat[1].legend(frameon=False, fontsize=8)
    for axis, name in zip(flat[2:9], names, strict=True):
        for table, colour, label, most in (
            (noise, "#2563eb", "noise [grey levels / 40]", NOISE[-1]),
            (blur, "#c2410c", "blur [px / 4]", BLUR[-1]),
        ):
            values = table[name].replace(float("inf"), float("nan"))
            axis.plot(table["amount"] / most, values, "o-", ms=3, color=colour, label=label)
        axis.set(title=name, xlabel="share of the greatest damage")
    flat[2].legend(frameon=False, fontsize=8)
    for axis, name in zip(flat[9:], ("m_lmd_centred_px", "m_lmd_raw_px", "lip_correlation"), strict=True):
        for kind, colour, label in (("late", "#2563eb", "late by [frames]"), ("soft", "#c2410c", "low pass, sd [frames]")):
            part = motion[motion["sweep"] == kind]
            axis.plot(part["amount"], part[name], "o-", ms=3, color=colour, label=label)
        axis.set(title=name, xlabel="frames")
    flat[9].legend(frameon=False, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)


def run(root: Path, limit: int, out: Path) -> None:
    """Measure, print, write."""
    clips = read_clips(root, limit)
    judges = {kind: judge.load(read_torch(root / f"models/experts/{kind}.pt"), kind, "clay") for kind in ("syncnet", "features")}
    found, events, motion, heads = delays(clips, judges["syncnet"]), blinks(root), motions(clips), poses(root)
    noise, blur = (damages(clips, judges["features"], kind) for kind in ("noise", "blur"))
    exact = 100.0 * (found["found"] == found["shift"]).mean()
    near = 100.0 * ((found["found"] - found["shift"]).abs() <= 1).mean()
    print(
        f"delays of -10 to 10 frames, {found['clip'].nunique()} clips of 2 s or more: found exactly {exact:.2f} %, within one frame {near:.2f} %"
    )
    for table in (events, noise, blur, motion, heads.drop(columns="clip").describe()):
        print(table.to_string())
    draw(found, noise, blur, motion, out)
    parts = [
        found.assign(sweep="delay"), noise.assign(sweep="noise"), blur.assign(sweep="blur"), motion, events.assign(sweep="blinks"),
        heads.assign(sweep="truth"),
    ]  # fmt: skip
    write_text(out.with_suffix(".csv"), pd.concat(parts).to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of a finished run")
    parser.add_argument("--clips", type=int, default=48, help="test clips that take part")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/metric_sweeps.png"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    guarded(lambda: run(args.root, args.clips, args.out))


if __name__ == "__main__":
    main()
