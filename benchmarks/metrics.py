"""Our metrics against the reference library on the same data in the same run: `python -m benchmarks.metrics`.

PSNR with SSIM against scikit-image (and TorchMetrics), FID statistics against SciPy's matrix square root (and TorchMetrics), mel against librosa
where it is installed, else against torchaudio's formula written with torch.stft. Each pair is first checked to give the same numbers, then timed in
turns (ours, theirs, ours, ...) on one thread, so that other work on the machine slows both alike; the ratio is that of the medians.

Writes `benchmarks/metrics.{json,md}`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch

from benchmarks.run import FOLDER, hardware
from flowvqtalker.audio.mel import FLOOR_DB, HOP, N_FFT, PRE_EMPHASIS, REFERENCE_DB, compute_mel, mel_filterbank
from flowvqtalker.metrics.distribution import fid
from flowvqtalker.metrics.pixels import psnr_db, ssim
from pipeline.io import write_json, write_text


@dataclass(frozen=True)
class Duel:
    """One comparison.

    Attributes:
        work: what is computed.
        reference: library and function.
        ours_ms, reference_ms: medians over the rounds [ms].
        ratio: reference over ours; above 1 we are faster.
        largest_difference: between the two results.
    """

    work: str
    reference: str
    ours_ms: float
    reference_ms: float
    ratio: float
    largest_difference: float


def duel(
    work: str,
    reference: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    rounds: int,
    tolerance: float,
    same: Callable[[Any], Any] = np.asarray,
) -> Duel:
    """Check that both give the same numbers, then time them in turns.

    Raises:
        ValueError: the two results differ by more than ``tolerance``: comparing their speed would mean nothing.
    """
    difference = float(np.max(np.abs(np.asarray(ours(), dtype=np.float64) - np.asarray(same(theirs()), dtype=np.float64))))
    if not difference <= tolerance:
        raise ValueError(f"{work}: ours and {reference} differ by {difference:.3g}, more than {tolerance:g}")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for store, function in zip(times, (ours, theirs), strict=True):
            started = time.perf_counter()
            function()
            store.append(1e3 * (time.perf_counter() - started))
    mine, other = (float(np.median(store)) for store in times)
    return Duel(work, reference, mine, other, other / mine, difference)


def pictures(frames: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random video and a noisy copy, uint8 (T, size, size, 3)."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(0)
    smooth = gaussian_filter(generator.normal(size=(frames, size, size, 3)), (0, 3, 3, 0))
    real = np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    return np.clip(real + 8 * generator.normal(size=real.shape), 0, 255).astype(np.uint8), real


def quality(rounds: int) -> list[Duel]:
    """PSNR and SSIM of 25 frames at 256 px."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr
    from torchmetrics.functional.image import structural_similarity_index_measure as torch_ssim

    generated, real = pictures(25, 256)

    def ours() -> np.ndarray:
        return np.stack([psnr_db(generated, real), ssim(generated, real)])

    def skimage() -> np.ndarray:
        options: dict[str, Any] = {
            "channel_axis": -1,
            "gaussian_weights": True,
            "sigma": 1.5,
            "use_sample_covariance": False,
            "data_range": 255,
        }
        pairs = list(zip(real, generated, strict=True))
        return np.array(
            [[peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs], [structural_similarity(a, b, **options) for a, b in pairs]]
        )

    left, right = (torch.from_numpy(side).permute(0, 3, 1, 2).float() / 255 for side in (generated, real))

    def torchmetrics() -> np.ndarray:
        decibels = [float(torch_psnr(a[None], b[None], data_range=1.0)) for a, b in zip(left, right, strict=True)]
        _, full = torch_ssim(left, right, data_range=1.0, reduction="none", return_full_image=True)  # type: ignore[misc]
        return np.stack([decibels, full[..., 5:-5, 5:-5].mean(dim=(1, 2, 3)).numpy()])

    work = "PSNR + SSIM, 25 frames of 256 px"
    return [duel(work, "scikit-image", ours, skimage, rounds, 1e-3), duel(work, "TorchMetrics", ours, torchmetrics, rounds, 1e-3)]


def distances(rounds: int) -> list[Duel]:
    """FID from features of 2000 frames a side, 64 numbers each (our judge) and 512 each."""
    from torchmetrics.image.fid import _compute_fid

    found = []
    for dim in (64, 512):
        generator = np.random.default_rng(dim)
        mixing = generator.normal(size=(dim, dim)) / np.sqrt(dim)
        a, b = generator.normal(size=(2000, dim)) @ mixing, 0.2 + generator.normal(size=(2000, dim)) @ mixing

        def scipy_sqrtm(a: np.ndarray = a, b: np.ndarray = b) -> float:
            cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
            root = scipy.linalg.sqrtm(cov_a @ cov_b)
            return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * np.real(root)))

        def torchmetrics(a: np.ndarray = a, b: np.ndarray = b) -> float:
            sides = [torch.from_numpy(side) for side in (a, b)]
            (mean_a, cov_a), (mean_b, cov_b) = ((side.mean(0), torch.cov(side.T)) for side in sides)
            return float(_compute_fid(mean_a, cov_a, mean_b, cov_b))

        work = f"FID statistics, 2 x 2000 frames, {dim} features"
        for name, function in (("SciPy sqrtm", scipy_sqrtm), ("TorchMetrics", torchmetrics)):
            found.append(duel(work, name, lambda a=a, b=b: fid(a, b), function, rounds, 1e-4))
    return found


def mel(rounds: int) -> list[Duel]:
    """Log-mel of 20 s of sound."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * 16000).astype(np.float32)

    def scaled(magnitude: np.ndarray) -> np.ndarray:
        decibels = 20 * np.log10(np.maximum(magnitude, 10 ** (FLOOR_DB / 20))) - REFERENCE_DB
        return np.clip(8 * (decibels - FLOOR_DB) / -FLOOR_DB - 4, -4, 4)

    bank = torch.from_numpy(mel_filterbank().astype(np.float32))
    window = torch.hann_window(N_FFT)

    def torch_stft() -> np.ndarray:
        signal = torch.from_numpy(sound)
        signal = torch.cat([signal[:1], signal[1:] - PRE_EMPHASIS * signal[:-1]])
        spectrum = torch.stft(signal, N_FFT, HOP, window=window, center=True, pad_mode="constant", return_complex=True).abs()
        return scaled((bank @ spectrum).T.numpy())

    found = [duel("mel, 20 s of sound", "torch.stft + mel matrix", lambda: compute_mel(sound), torch_stft, rounds, 2e-2)]
    if importlib.util.find_spec("librosa") is not None:
        import librosa

        def librosa_mel() -> np.ndarray:
            signal = np.append(sound[:1], sound[1:] - np.float32(PRE_EMPHASIS) * sound[:-1])
            spectrum = np.abs(librosa.stft(signal, n_fft=N_FFT, hop_length=HOP, win_length=N_FFT, pad_mode="constant"))
            basis = librosa.filters.mel(sr=16000, n_fft=N_FFT, n_mels=80, fmin=55, fmax=7600)
            return scaled(basis @ spectrum).T

        found.append(duel("mel, 20 s of sound", "librosa", lambda: compute_mel(sound), librosa_mel, rounds, 2e-2))
    return found


def to_markdown(results: dict[str, Any]) -> str:
    """The results as a page for people."""
    machine = results["hardware"]
    lines = [
        "# Metrics against their reference libraries", "",
        "Written by `python -m benchmarks.metrics`: same data, same run, one thread, in turns; medians. Above 1 we are faster.", "",
        f"{machine['cpu']}, {machine['cores_usable']} usable cores, Python {machine['python']}, torch {machine['torch']}; load before "
        f"{results['load'][0]:.2f}, after {results['load'][1]:.2f}, {results['rounds']} rounds.", "",
        "| work | reference | ours [ms] | reference [ms] | reference / ours | largest difference |", "|---|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {row['work']} | {row['reference']} | {row['ours_ms']:.1f} | {row['reference_ms']:.1f} | {row['ratio']:.2f} | {row['largest_difference']:.1e} |"
        for row in results["duels"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=15, help="timings of each side")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for metrics.json and metrics.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    duels = [*quality(args.rounds), *distances(args.rounds), *mel(args.rounds)]
    results = {"hardware": hardware(), "load": [before, os.getloadavg()[0]], "rounds": args.rounds, "duels": [asdict(row) for row in duels]}
    write_json(args.out / "metrics.json", results)
    write_text(args.out / "metrics.md", to_markdown(results))
    print(to_markdown(results))


if __name__ == "__main__":
    main()
