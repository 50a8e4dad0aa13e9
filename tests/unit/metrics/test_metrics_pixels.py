"""PSNR, SSIM, FID, KID and CPBD against known answers and other implementations."""

import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from flowvqtalker.checks import ShapeError
from flowvqtalker.metrics.distribution import FID, KID, ClusteredDistances, Moments, fid, frechet_distance, kid
from flowvqtalker.metrics.pixels import PSNR, SSIM, face_mask, psnr_db, ssim
from flowvqtalker.metrics.sharpness import CPBD, Flicker, cpbd, flicker, luminance, mouth_sharpness


def picture(seed: int = 0, frames: int = 3, size: int = 96) -> np.ndarray:
    """Smooth random colour frames, uint8: blurred noise has edges and flat parts as pictures do."""
    noise = np.random.default_rng(seed).normal(size=(frames, size, size, 3))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 3, 3, 0))
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def noisy(frames: np.ndarray, sigma: float, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=frames.shape)
    return np.clip(frames + sigma * noise, 0, 255).astype(np.uint8)


def test_identical_clips_are_perfect():
    frames = picture()
    assert np.isposinf(psnr_db(frames, frames)).all()
    np.testing.assert_allclose(ssim(frames, frames), 1.0, atol=1e-6)
    features = np.random.default_rng(0).normal(size=(50, 8))
    assert fid(features, features) == pytest.approx(0.0, abs=1e-9)


def test_psnr_equals_scikit_image_and_torchmetrics():
    from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr

    real = picture()
    generated = noisy(real, 10)
    expected = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(real, generated, strict=True)]
    np.testing.assert_allclose(psnr_db(generated, real), expected, rtol=1e-6)
    sides = [torch.from_numpy(side.astype(np.float64) / 255) for side in (generated, real)]
    frames = zip(*sides, strict=True)
    np.testing.assert_allclose(psnr_db(generated, real), [float(torch_psnr(a, b, data_range=1.0)) for a, b in frames], rtol=1e-6)
    as_float = generated.astype(np.float32) / 255
    np.testing.assert_allclose(psnr_db(as_float, real), expected, rtol=1e-6)
    mask = np.zeros(real.shape[:3], dtype=bool)
    mask[:, 20:50, 30:80] = True
    cut = [peak_signal_noise_ratio(a[20:50, 30:80], b[20:50, 30:80], data_range=255) for a, b in zip(real, generated, strict=True)]
    np.testing.assert_allclose(psnr_db(generated, real, mask), cut, rtol=1e-6)
    metric = PSNR()
    metric.update(generated[:1], real[:1])
    other = PSNR()
    other.update(generated[1:], real[1:])
    metric.merge(other)
    assert metric.compute() == pytest.approx(np.mean(expected), rel=1e-5)


def test_ssim_equals_scikit_image_and_torchmetrics():
    from torchmetrics.functional.image import structural_similarity_index_measure

    real = picture()
    generated = noisy(real, 12)
    ours = ssim(generated, real)
    kwargs = {"channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = [structural_similarity(a, b, **kwargs) for a, b in zip(real, generated, strict=True)]
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    left, right = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (generated, real))
    # TorchMetrics also averages windows that hang over the border; its map without them is what we and scikit-image average.
    _, full = structural_similarity_index_measure(left, right, data_range=1.0, reduction="none", return_full_image=True)
    np.testing.assert_allclose(ours, full[..., 5:-5, 5:-5].mean(dim=(1, 2, 3)).numpy(), atol=2e-4)
    metric = SSIM()
    metric.update(generated, real)
    assert metric.compute() == pytest.approx(ours.mean())


@pytest.mark.parametrize(("height", "width"), [(11, 11), (26, 75), (200, 139), (138, 300)])
def test_ssim_equals_scikit_image_whatever_the_sides(height, width):
    """Pictures are filtered in blocks: sides of one window, of whole blocks and a bit, of none that fits."""
    generator = np.random.default_rng(height)
    real = np.clip(scipy.ndimage.gaussian_filter(generator.normal(128, 300, size=(2, height, width, 3)), (0, 3, 3, 0)), 0, 255).astype(
        np.uint8
    )
    generated = noisy(real, 12)
    kwargs = {"channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = [structural_similarity(a, b, **kwargs) for a, b in zip(real, generated, strict=True)]
    np.testing.assert_allclose(ssim(generated, real), expected, atol=1e-5)
    np.testing.assert_allclose(ssim(generated.astype(np.float32) / 255, real), expected, atol=1e-5)


def test_masked_psnr_sees_only_the_mask():
    real = picture()
    generated = real.copy()
    generated[:, :40] = 0
    mask = np.zeros(real.shape[:3], dtype=bool)
    mask[:, 50:] = True
    assert np.isposinf(psnr_db(generated, real, mask)).all()
    mask[1] = False
    assert np.isnan(psnr_db(generated, real, mask)[1])


def test_face_mask_is_the_hull_of_the_landmarks():
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    circle = np.stack([50 + 20 * np.cos(angle), 40 + 20 * np.sin(angle)], axis=-1)
    landmarks = np.stack([circle, np.full((68, 2), np.nan)]).astype(np.float32)
    masks = face_mask(landmarks, 96, 100)
    assert masks[0].sum() == pytest.approx(np.pi * 400, rel=0.02)
    assert masks[0, 40, 50] and not masks[0, 40, 75] and not masks[1].any()


def test_noise_worsens_pixel_metrics_monotonically():
    real = picture()
    levels = [noisy(real, sigma) for sigma in (2, 6, 15, 40)]
    assert np.all(np.diff([psnr_db(frames, real).mean() for frames in levels]) < 0)
    assert np.all(np.diff([ssim(frames, real).mean() for frames in levels]) < 0)
    assert np.all(
        np.diff([flicker(frames).mean() for frames in [np.repeat(real[:1], 5, 0)] + [noisy(np.repeat(real[:1], 5, 0), s) for s in (3, 9)]])
        > 0
    )


def test_shapes_are_checked():
    with pytest.raises(ShapeError):
        psnr_db(picture(), picture(size=64))
    for function in (psnr_db, ssim):
        with pytest.raises(ShapeError):
            function(picture()[0], picture()[0])
    with pytest.raises(ShapeError):
        ssim(picture(size=10), picture(size=10))
    with pytest.raises(ShapeError):
        cpbd(np.zeros((32, 96)))


def test_frechet_distance_equals_scipy_sqrtm():
    generator = np.random.default_rng(3)
    a, b = generator.normal(size=(40, 6)), generator.normal(size=(60, 6)) @ generator.normal(size=(6, 6)) + 1.0
    mean_a, mean_b, cov_a, cov_b = a.mean(0), b.mean(0), np.cov(a.T), np.cov(b.T)
    expected = np.square(mean_a - mean_b).sum() + np.trace(cov_a + cov_b - 2 * scipy.linalg.sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(mean_a, cov_a, mean_b, cov_b) == pytest.approx(expected, rel=1e-6)
    assert fid(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_known_gaussians_and_singular_covariance():
    eye = np.eye(3)
    assert frechet_distance(np.zeros(3), eye, np.ones(3), 4 * eye) == pytest.approx(3 + 3)
    assert frechet_distance(np.zeros(3), np.diag([1.0, 0, 0]), np.zeros(3), np.zeros((3, 3))) == pytest.approx(1.0)


def test_fid_and_kid_grow_with_noise_and_kid_is_unbiased():
    generator = np.random.default_rng(4)
    real = generator.normal(size=(300, 8))
    fresh = generator.normal(size=(300, 8))
    distances = [(fid(fresh + shift, real), kid(fresh + shift, real)) for shift in (0.0, 0.3, 0.8, 2.0)]
    assert np.all(np.diff(distances, axis=0) > 0)
    assert abs(np.mean([kid(generator.normal(size=(60, 8)), generator.normal(size=(60, 8))) for _ in range(200)])) < 0.02


def test_streaming_fid_equals_the_batch_and_refuses_other_networks():
    generator = np.random.default_rng(5)
    generated, real = generator.normal(size=(80, 5)), generator.normal(size=(80, 5)) + 0.5
    metric, other = FID(5, "judge"), FID(5, "judge")
    metric.update(generated[:30], real[:30])
    other.update(generated[30:], real[30:])
    metric.merge(other)
    assert metric.compute() == pytest.approx(fid(generated, real))
    with pytest.raises(ValueError, match="cannot be mixed"):
        metric.merge(FID(5, "inception"))


def test_kid_equals_torchmetrics_and_accumulates_to_the_same():
    from torchmetrics.image.kid import KernelInceptionDistance

    class Passed(torch.nn.Module):
        num_features = 6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    generator = np.random.default_rng(8)
    # More rows than a block of the kernel, and not a multiple of it.
    generated, real = generator.normal(size=(1300, 6)) @ generator.normal(size=(6, 6)), 0.4 + generator.normal(size=(1300, 6))
    theirs = KernelInceptionDistance(feature=Passed(), subsets=1, subset_size=1300)
    theirs.update(torch.from_numpy(real), real=True)
    theirs.update(torch.from_numpy(generated), real=False)
    expected = float(theirs.compute()[0])
    assert expected > 0.1
    assert kid(generated, real) == pytest.approx(expected, rel=1e-6)
    metric, other = KID(6, "judge"), KID(6, "judge")
    assert np.isnan(metric.compute())
    metric.update(generated[:500], real[:20])
    other.update(generated[500:], real[20:])
    metric.merge(other)
    assert metric.compute() == pytest.approx(expected, rel=1e-6)
    assert metric.compute() == pytest.approx(kid(generated, real), rel=1e-12)
    assert other.compute() == pytest.approx(kid(generated[500:], real[20:]), rel=1e-12)
    with pytest.raises(ValueError, match="cannot be mixed"):
        metric.merge(KID(6, "inception"))
    with pytest.raises(ShapeError):
        metric.update(generated[:, :5], real)
    metric.reset()
    metric.update(generated[:1], real)
    assert np.isnan(metric.compute())


def test_kid_is_the_sum_over_pairs_written_out():
    generator = np.random.default_rng(9)
    x, y = generator.normal(size=(5, 3)), generator.normal(size=(4, 3)) + 1

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    own_x = np.mean([k(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    own_y = np.mean([k(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
    assert kid(x, y) == pytest.approx(own_x + own_y - 2 * np.mean([k(a, b) for a in x for b in y]))


def test_clustered_distances_agree_with_explicit_repetition():
    generator = np.random.default_rng(6)
    generated = [generator.normal(size=(n, 4)) for n in (12, 20, 9)]
    real = [generator.normal(size=(n, 4)) + 0.3 for n in (12, 18, 9)]
    clusters = ClusteredDistances(generated, real)
    assert clusters.fid() == pytest.approx(fid(np.concatenate(generated), np.concatenate(real)))
    assert clusters.kid() == pytest.approx(kid(np.concatenate(generated), np.concatenate(real)))
    counts = np.array([2, 0, 1])
    repeated = np.concatenate([generated[0], generated[0], generated[2]]), np.concatenate([real[0], real[0], real[2]])
    assert clusters.fid(counts) == pytest.approx(fid(*repeated))
    assert Moments(4).add(generated[0]).mean_cov()[1] == pytest.approx(np.cov(generated[0].T))


@pytest.fixture(scope="module")
def reference_cpbd():
    """The cpbd package; the one name it imports from a long-gone SciPy is stubbed, its computation is untouched."""
    had = hasattr(scipy.ndimage, "imread")
    if not had:
        scipy.ndimage.imread = None
    try:
        module = pytest.importorskip("cpbd.compute")
        yield module.compute
    finally:
        if not had:
            del scipy.ndimage.imread
        sys.modules.pop("cpbd.compute", None)
        sys.modules.pop("cpbd", None)


@pytest.mark.parametrize("blur", [0.0, 0.7, 1.5, 3.0])
def test_cpbd_equals_the_reference_package(reference_cpbd, blur):
    from skimage import data

    grey = np.rint(scipy.ndimage.gaussian_filter(data.camera()[100:260, 150:300].astype(float), blur))
    assert cpbd(grey) == pytest.approx(float(reference_cpbd(grey)), abs=1e-12)


def test_cpbd_falls_with_blur_and_is_zero_on_flat_pictures():
    from skimage import data

    face = data.astronaut()[0:192, 150:342]
    values = [cpbd(np.rint(luminance(scipy.ndimage.gaussian_filter(face, (s, s, 0))))) for s in (0, 1, 2, 4)]
    assert np.all(np.diff(values) < 0)
    assert cpbd(np.full((64, 64), 7.0)) == 0.0
    metric = CPBD(every=2)
    metric.update(np.stack([face, face, face]))
    assert metric.count == 2 and metric.compute() == pytest.approx(values[0])


def test_mouth_sharpness_falls_with_blur_and_skips_frames_without_a_face():
    frames = picture(size=128)
    points = np.random.default_rng(0).uniform(40, 90, size=(3, 68, 2)).astype(np.float32)
    points[1] = np.nan
    sharp = mouth_sharpness(frames, points)
    blurred = mouth_sharpness(scipy.ndimage.gaussian_filter(frames, (0, 2, 2, 0)), points)
    assert np.isnan(sharp[1]) and blurred[0] < sharp[0] and blurred[2] < sharp[2]


def test_flicker_of_a_still_and_of_a_fade_is_zero():
    still = np.repeat(picture(frames=1), 6, axis=0)
    metric = Flicker()
    metric.update(still)
    assert metric.compute() == 0.0
    fade = np.arange(0, 60, 10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_allclose(flicker(fade), 0.0, atol=1e-3)
    flashing = np.tile(np.array([0, 100], dtype=np.uint8), 3)[:, None, None, None] * np.ones((1, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_allclose(flicker(flashing), 200.0, rtol=1e-3)
