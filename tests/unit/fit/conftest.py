"""A face of 68 points with a handful of shapes: enough to know every answer, and quick."""

import numpy as np
import pytest

from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.fit.basis import LandmarkBasis, make_basis


def _template() -> np.ndarray:
    points = np.zeros((68, 3))
    angle = np.linspace(-1.35, 1.35, 17)
    points[:17, 0], points[:17, 1] = 7 * np.sin(angle), 1 - 8 * np.cos(angle) ** 0.8
    for start, side in ((17, -1), (22, 1)):
        x = np.linspace(5.5, 1.5, 5) if side < 0 else np.linspace(1.5, 5.5, 5)
        points[start : start + 5, 0], points[start : start + 5, 1] = side * x, 3 + 0.5 * np.sin(np.linspace(0.3, 2.8, 5))
    points[27:31, 1] = np.linspace(1.8, -1.0, 4)
    points[31:36, 0], points[31:36, 1] = np.linspace(-1.3, 1.3, 5), -1.8
    for start, x0 in ((36, -3.2), (42, 3.2)):
        turn = np.pi - np.arange(6) * np.pi / 3
        points[start : start + 6, 0], points[start : start + 6, 1] = x0 + 1.4 * np.cos(turn), 1.5 + 0.55 * np.sin(turn)
    turn = np.pi - np.arange(12) * np.pi / 6
    points[48:60, 0], points[48:60, 1] = 2.5 * np.cos(turn), -4 + 0.9 * np.sin(turn)
    turn = np.pi - np.arange(8) * np.pi / 4
    points[60:68, 0], points[60:68, 1] = 2.0 * np.cos(turn), -4 + 0.15 * np.sin(turn)
    points[:, 2] = 8 - 0.09 * points[:, 0] ** 2 - 0.03 * points[:, 1] ** 2
    points[27:36, 2] += np.concatenate([np.linspace(0.3, 2.2, 4), [1.0, 1.4, 1.6, 1.4, 1.0]])
    return points


def _shape(name: str, mean: np.ndarray) -> np.ndarray:
    move = np.zeros((68, 3))
    left = name.endswith("_L")
    if name == "jawOpen":
        move[[5, 6, 7, 8, 9, 10, 11]] = (0, -2.2, -0.5)
        move[[55, 56, 57, 58, 59, 65, 66, 67]] = (0, -2.0, -0.4)
    elif name.startswith("eyeBlink"):
        upper, lower = ([43, 44], [47, 46]) if left else ([38, 37], [40, 41])
        move[upper] = 0.85 * (mean[lower] - mean[upper])
        move[lower] = 0.10 * (mean[upper] - mean[lower])
    elif name.startswith("eyeWide"):
        move[[43, 44] if left else [37, 38]] = (0, 0.3, 0)
    elif name.startswith("mouthSmile"):
        move[[54, 53, 64] if left else [48, 49, 60]] = (0.6 if left else -0.6, 0.8, -0.3)
    elif name.startswith("mouthFrown"):
        move[[54, 55, 64] if left else [48, 59, 60]] = (0.1 if left else -0.1, -0.8, 0)
    elif name.startswith("browInnerUp"):
        move[[22, 23] if left else [20, 21]] = (0, 0.9, 0)
    elif name.startswith("browOuterUp"):
        move[[25, 26] if left else [17, 18]] = (0, 0.9, 0)
    elif name.startswith("browDown"):
        move[[22, 23, 24, 25] if left else [18, 19, 20, 21]] = (0, -0.6, 0)
    elif name in ("mouthPucker", "mouthFunnel"):
        move[48:68, 0] = -0.35 * mean[48:68, 0]
        move[48:68, 2] = 0.8
        if name == "mouthFunnel":
            move[[50, 51, 52, 61, 62, 63], 1], move[[56, 57, 58, 65, 66, 67], 1] = 0.5, -0.5
    return move


@pytest.fixture(scope="session")
def basis() -> LandmarkBasis:
    """Linear toy face: 53 names (many of them without effect), eight identity modes of about 3 mm."""
    mean = _template()
    rng = np.random.default_rng(5)
    x, y = mean[:, 0] / 7, mean[:, 1] / 8
    even = np.stack([np.abs(x), x**2, np.abs(y), y**2, np.abs(x * y)], 1)
    # Faces are symmetric, and a change of face should not look like a turned head: no term is linear in x or y alone.
    modes = [np.stack([x * (even @ a), even @ b, even @ c], 1) for a, b, c in rng.normal(0, 0.25, (8, 3, 5))]
    return make_basis(mean, np.stack(modes), np.stack([_shape(name, mean) for name in EXPRESSIONS]), EXPRESSIONS)


def smooth_noise(rng: np.random.Generator, n: int, dims: int, width: int) -> np.ndarray:
    """(n, dims) noise of unit variance, correlated over about ``width`` frames."""
    kernel = np.hanning(2 * width + 1)
    kernel /= np.sqrt((kernel**2).sum())
    return np.stack([np.convolve(rng.normal(size=n + 2 * width), kernel, "valid") for _ in range(dims)], 1)


@pytest.fixture(scope="session")
def talk(basis) -> dict[str, np.ndarray]:
    """150 frames of talking, smiling and blinking: alpha, beta, pose."""
    rng = np.random.default_rng(1)
    n, index = 150, {name: i for i, name in enumerate(EXPRESSIONS)}
    beta = np.zeros((n, 53))
    beta[:, index["jawOpen"]] = 0.25 + 0.15 * smooth_noise(rng, n, 1, 3)[:, 0]
    for side in "LR":
        beta[:, index[f"mouthSmile_{side}"]] = 0.4 + 0.1 * smooth_noise(rng, n, 1, 8)[:, 0]
        beta[:, index[f"browInnerUp_{side}"]] = 0.3 + 0.1 * smooth_noise(rng, n, 1, 8)[:, 0]
    for start in (10, 55, 100, 130):
        for side in "LR":
            beta[start : start + 5, index[f"eyeBlink_{side}"]] = (0.4, 0.95, 1.0, 0.6, 0.2)
    pose = np.c_[0.12 * smooth_noise(rng, n, 3, 12), smooth_noise(rng, n, 2, 12), 2 + 3 * smooth_noise(rng, n, 1, 12)]
    return {"alpha": rng.normal(0, 0.8, basis.n_identity), "beta": beta.clip(0, 1), "pose": pose}
