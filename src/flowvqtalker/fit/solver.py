"""Damped Gauss-Newton fit of a linear face to landmarks: joint identity over some frames, then expression and pose of every frame.

The energy of a frame is ``|W (project(R (mean + A alpha + E beta) + t) - landmarks)|^2`` plus quadratic priors on alpha and beta, plus
smoothness to the neighbouring frames. W whitens by the landmark noise, trusts the jaw line less (its points slide along the face in every
detector) and adds the gaps between lids and between lips, where a detector's errors cancel. Beta stays in its box by projected Newton steps
(Bertsekas 1982): variables that press against a bound are held while the others are solved. Identity uses the Schur complement, so pose and
expression are eliminated exactly instead of alternating.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from torch import Tensor
from torch.nn import functional

from flowvqtalker.constants import GAP_PAIRS
from flowvqtalker.face.camera import Camera, project
from flowvqtalker.face.pose import transform
from flowvqtalker.fit.basis import LandmarkBasis
from flowvqtalker.fit.projection import first_pose, project_with_jacobian

_JAW_LINE = range(17)
_OUTER_EYES = (36, 45)

#: Largest Gauss-Newton step per iteration: rad, cm, coefficient units.
_MAX_STEP = (0.35, 5.0, 0.5)
#: Low pass that tells motion from noise: its standard deviation, and the window whose largest speed counts [frames].
_SLOW_SD, _SLOW_REACH = 1.5, 7


@dataclass(frozen=True)
class FitConfig:
    """Weights of the energy. Landmark noise is a share of the outer-eye distance, so resolution does not matter.

    Attributes:
        landmark_sd_pct: standard deviation of a landmark [% of the outer-eye distance].
        jaw_line_weight: weight of points 0-16 relative to the others [0, 1].
        gap_weight: weight of lid and lip gaps relative to single points.
        expression_sd: prior standard deviation of an expression coefficient, before the factor of its shape.
        blendshape_sd: the same around the landmark back end's blendshape scores, where it gives them.
        asymmetry_sd: prior standard deviation of a difference between the left and right of a shape, before its factor.
        identity_sd: prior standard deviation of an identity coefficient [its spread over people].
        smooth_sd: change between neighbouring frames that is ordinary for slow shapes at rest [coefficient].
        smooth_fast_sd: the same for blinks, jaw and mouth.
        smooth_angle_rad: the same for head angles.
        smooth_shift_cm: the same for the head's place.
        smooth_gain: how much more change is ordinary in motion, in units of the coefficient's low-passed speed; 0 smooths alike everywhere.
        smooth_fast_gain: the same for blinks, jaw and mouth.
        neutral_sd_share: factor on the prior standard deviation for frames known to be neutral (enrolment).
        iterations: Gauss-Newton steps of the frames.
        identity_iterations: Gauss-Newton steps of the identity.
    """

    landmark_sd_pct: float
    jaw_line_weight: float
    gap_weight: float
    expression_sd: float
    blendshape_sd: float
    asymmetry_sd: float
    identity_sd: float
    smooth_sd: float
    smooth_fast_sd: float
    smooth_angle_rad: float
    smooth_shift_cm: float
    smooth_gain: float
    smooth_fast_gain: float
    neutral_sd_share: float
    iterations: int
    identity_iterations: int


@dataclass(frozen=True)
class Fit:
    """Fitted coefficients of a clip.

    Attributes:
        alpha: (A,) float32.
        beta: (T, E) float32 within the basis' bounds.
        pose: (T, 6) float32 rad and cm in the given camera.
        error_px: (T,) float32 mean landmark distance; NaN where the frame has no landmarks (its coefficients are interpolated).
        at_bound_share: share of coefficients that can move and lie at their upper bound, or at a lower bound that is not rest.
    """

    alpha: np.ndarray
    beta: np.ndarray
    pose: np.ndarray
    error_px: np.ndarray
    at_bound_share: float


class NoLandmarksError(ValueError):
    """No frame has finite landmarks, so there is nothing to fit."""


def outer_eye_distance_px(landmarks: Tensor) -> Tensor:
    """(T, 68, 2) px -> median distance of the outer eye corners [px], over the frames given."""
    right, left = _OUTER_EYES
    return (landmarks[:, right] - landmarks[:, left]).norm(dim=-1).median()


def _whitener(config: FitConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(rows, 68) matrix that turns landmark residuals [units of one sd] into independent ones, and the (68,) point weights."""
    weights = torch.ones(68, dtype=dtype)
    weights[list(_JAW_LINE)] = config.jaw_line_weight
    gaps = torch.zeros(len(GAP_PAIRS), 68, dtype=dtype)
    for row, (upper, lower) in enumerate(GAP_PAIRS):
        gaps[row, upper], gaps[row, lower] = config.gap_weight, -config.gap_weight
    return torch.cat([torch.diag(weights), gaps]), weights


class _Problem:
    """Landmarks, priors and weights of some frames that share one identity."""

    def __init__(
        self, basis: LandmarkBasis, landmarks: Tensor, camera: Camera, config: FitConfig, prior_mean: Tensor | None, sd_share: Tensor
    ) -> None:
        self.basis, self.landmarks, self.camera, self.config = basis, landmarks, camera, config
        whitener, self.point_weights = _whitener(config, landmarks.dtype)
        sd_px = config.landmark_sd_pct / 100 * outer_eye_distance_px(landmarks).clamp_min(1.0)
        # Only the gram matrix matters: its root has 68 rows whatever the number of gaps.
        gram = whitener.T @ whitener + 1e-9 * torch.eye(68, dtype=landmarks.dtype)
        self.root = torch.linalg.cholesky(gram).T / sd_px
        self.prior_mean = landmarks.new_zeros(len(landmarks), basis.n_expression) if prior_mean is None else prior_mean
        sd = ((config.expression_sd if prior_mean is None else config.blendshape_sd) * basis.sd_factor)[None] * sd_share[:, None]
        self.free = basis.sd_factor > 0
        diagonal = torch.where(self.free[None], sd.clamp_min(1e-9) ** -2, torch.zeros_like(sd))
        self.precision = torch.diag_embed(diagonal) + basis.asymmetry.T @ basis.asymmetry / config.asymmetry_sd**2

    def normal_equations(self, alpha: Tensor, pose: Tensor, beta: Tensor, with_identity: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Whitened Jacobian by (pose, beta), residual, and Jacobian by alpha: (T, 136, 6 + E), (T, 136), (T, 136, A) or None."""
        points = self.basis.points(alpha, beta)
        uv, j_pose, j_point = project_with_jacobian(points, pose, self.camera)
        j_beta = torch.einsum("tlcd,eld->tlce", j_point, self.basis.expression)
        jacobian = torch.cat([j_pose, j_beta], -1)
        residual = self.landmarks - uv
        n_frames, n_points = residual.shape[:2]

        def whiten(x: Tensor) -> Tensor:
            return (self.root @ x.reshape(n_frames, n_points, -1)).reshape(n_frames, 2 * n_points, *x.shape[3:])

        j_alpha = whiten(torch.einsum("tlcd,ald->tlca", j_point, self.basis.identity)) if with_identity else None
        return whiten(jacobian), whiten(residual), j_alpha


def _hold(hessian: Tensor, gradient: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Take the held variables (T, N) bool out of a batch of normal equations; their step becomes zero."""
    free = (~held).to(hessian.dtype)
    hessian = hessian * free[:, :, None] * free[:, None, :] + torch.diag_embed(held.to(hessian.dtype))
    return hessian, gradient * free


class _Smoothness:
    """Quadratic penalty on the change of pose and expression (T, N) between neighbouring frames, strong at rest and weak in motion.

    The ordinary change of a coefficient at a moment is its rest value plus a share of its low-passed speed around that moment, as the
    1 euro filter lets go when things move (Casiez, Roussel and Vogel, CHI 2012), here without its delay: past and future count alike. A
    penalty that lets go by the change itself (Cauchy's) was tried first: it makes stairs of slow motion, which shake more.

    Args:
        rest: (N,) ordinary changes at rest.
        gain: (N,) further ordinary change in units of the low-passed speed.
    """

    def __init__(self, rest: Tensor, gain: Tensor) -> None:
        self.rest, self.gain = rest, gain

    def weights(self, state: Tensor) -> Tensor:
        """(T - 1, N) weight of each change."""
        slow = gaussian_filter1d(state.numpy(), _SLOW_SD, axis=0, mode="nearest")
        speed = maximum_filter1d(np.abs(np.diff(slow, axis=0)), _SLOW_REACH, axis=0, mode="nearest")
        return (self.rest + self.gain * torch.from_numpy(speed)) ** -2

    @staticmethod
    def gradient(state: Tensor, weights: Tensor) -> Tensor:
        """(T, N) descent direction."""
        pull = weights * (state[1:] - state[:-1])
        return functional.pad(pull, (0, 0, 0, 1)) - functional.pad(pull, (0, 0, 1, 0))

    @staticmethod
    def diagonal(weights: Tensor) -> Tensor:
        """(T, N) what the penalty adds to the Hessian's diagonal."""
        return functional.pad(weights, (0, 0, 0, 1)) + functional.pad(weights, (0, 0, 1, 0))


def _solve_chain(hessian: Tensor, weights: Tensor, gradient: Tensor) -> Tensor:
    """Step (T, N) of all frames together: blocks (T, N, N) on the diagonal, -weights (T - 1, N) between neighbours.

    The matrix is a band as wide as one block, so LAPACK's banded Cholesky solves it in time and memory proportional to T.
    """
    n_frames, n = gradient.shape
    # Lower band: row d, column j holds the entry (j + d, j).
    band = np.zeros((n + 1, n_frames * n))
    blocks, columns = hessian.numpy(), np.arange(n_frames * n).reshape(n_frames, n)
    for d in range(n):
        band[d, columns[:, : n - d]] = np.diagonal(blocks, -d, 1, 2)
    band[n, : (n_frames - 1) * n] = -weights.numpy().ravel()
    return torch.from_numpy(
        solveh_banded(band, gradient.numpy().ravel(), overwrite_ab=True, lower=True, check_finite=False).reshape(n_frames, n)
    )


def _frame_terms(
    problem: _Problem, jacobian: Tensor, residual: Tensor, pose: Tensor, beta: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Hessian (T, N, N), descent direction (T, N) and held mask (T, N) of every frame, N = 6 + E; weights of the smoothness (T - 1, N)."""
    basis = problem.basis
    hessian = jacobian.transpose(1, 2) @ jacobian
    gradient = (jacobian.transpose(1, 2) @ residual[..., None])[..., 0]
    diagonal = hessian.new_full((len(pose), 6 + basis.n_expression), 1e-3)
    hessian[:, 6:, 6:] += problem.precision
    gradient[:, 6:] -= (problem.precision @ (beta - problem.prior_mean)[..., None])[..., 0]
    if weights is not None:
        diagonal += _Smoothness.diagonal(weights)
        gradient += _Smoothness.gradient(torch.cat([pose, beta], -1), weights)
    hessian = hessian + torch.diag_embed(diagonal)
    pressing = ((beta <= basis.lower) & (gradient[:, 6:] < 0)) | ((beta >= basis.upper) & (gradient[:, 6:] > 0))
    held = torch.cat([torch.zeros_like(pose, dtype=torch.bool), pressing | ~problem.free[None]], -1)
    hessian, gradient = _hold(hessian, gradient, held)
    return hessian, gradient, held


def _apply_step(basis: LandmarkBasis, pose: Tensor, beta: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    angle, shift, coefficient = _MAX_STEP
    limits = torch.cat([step.new_full((3,), angle), step.new_full((3,), shift), step.new_full((beta.shape[1],), coefficient)])
    step = step.clamp(-limits, limits)
    return pose + step[:, :6], (beta + step[:, 6:]).clamp(basis.lower, basis.upper)


def fit_identity(
    basis: LandmarkBasis, landmarks: Tensor, camera: Camera, config: FitConfig, *, neutral: Tensor, prior_mean: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Identity shared by some frames.

    Args:
        basis: landmark basis.
        landmarks: (K, 68, 2) px float64, finite; a dozen frames with varied pose are enough.
        camera: camera of the landmarks.
        config: weights.
        neutral: (K,) bool, frames known to be neutral: their expressions are kept closer to rest, which separates a face that smiles
            from a face that is made so.
        prior_mean: (K, E) expected expressions, e.g. a blendshape estimate; None for rest.

    Returns:
        (A,) alpha, float64.
    """
    n_frames = len(landmarks)
    alpha = torch.zeros(basis.n_identity, dtype=landmarks.dtype)
    beta = torch.zeros(n_frames, basis.n_expression, dtype=landmarks.dtype) if prior_mean is None else prior_mean.clone()
    if basis.n_identity == 0:
        return alpha
    share = torch.where(neutral, config.neutral_sd_share, 1.0).to(landmarks.dtype)
    problem = _Problem(basis, landmarks, camera, config, prior_mean, share)
    pose = first_pose(basis.points(alpha, beta), landmarks, problem.point_weights, camera)
    sd = basis.identity_sd * config.identity_sd
    prior = torch.diag(sd**-2)
    for _ in range(config.identity_iterations):
        jacobian, residual, j_alpha = problem.normal_equations(alpha, pose, beta, with_identity=True)
        hessian, gradient, held = _frame_terms(problem, jacobian, residual, pose, beta, None)
        cross = (jacobian.transpose(1, 2) @ j_alpha) * (~held)[:, :, None]
        solved = torch.linalg.solve(hessian, torch.cat([cross, gradient[..., None]], -1))
        reduced = prior + (j_alpha.transpose(1, 2) @ j_alpha - cross.transpose(1, 2) @ solved[..., :-1]).sum(0)
        right = (j_alpha.transpose(1, 2) @ residual[..., None] - cross.transpose(1, 2) @ solved[..., -1:]).sum(0)[:, 0] - prior @ alpha
        d_alpha = torch.linalg.solve(reduced, right)
        step = solved[..., -1] - solved[..., :-1] @ d_alpha
        alpha = alpha + torch.maximum(torch.minimum(d_alpha, sd), -sd)
        pose, beta = _apply_step(basis, pose, beta, step)
    return alpha


def fit_identity_of_clip(
    basis: LandmarkBasis, landmarks_px: np.ndarray, camera: Camera, config: FitConfig, *, count: int, neutral: bool,
    prior_mean: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Identity from at most ``count`` frames of a clip, spread over those with a face.

    Args:
        basis: landmark basis.
        landmarks_px: (T, 68, 2) px, NaN where there is no face.
        camera: camera of the landmarks.
        config: weights.
        count: frames used.
        neutral: whether the clip is known to be neutral.
        prior_mean: (T, E) expected expressions or None.

    Returns:
        (A,) float64.

    Raises:
        NoLandmarksError: no frame has a face.
    """
    where = np.flatnonzero(present_frames(landmarks_px))
    if not len(where):
        raise NoLandmarksError("no frame has landmarks")
    where = where[pick_frames(len(where), count)]
    mean = None if prior_mean is None else torch.as_tensor(prior_mean[where], dtype=torch.float64)
    seen = torch.as_tensor(landmarks_px[where], dtype=torch.float64)
    return fit_identity(basis, seen, camera, config, neutral=torch.full((len(where),), neutral), prior_mean=mean).numpy()


def fit_frames(
    basis: LandmarkBasis, alpha: Tensor, landmarks: Tensor, camera: Camera, config: FitConfig, *,
    prior_mean: Tensor | None = None, is_sequence: bool = True, is_neutral: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Expression and pose of every frame under a known identity.

    Args:
        basis: landmark basis.
        alpha: (A,).
        landmarks: (T, 68, 2) px float64, finite, in time order.
        camera: camera of the landmarks.
        config: weights.
        prior_mean: (T, E) expected expressions; None for rest.
        is_sequence: False for unrelated stills (no smoothness).
        is_neutral: whether the frames are known to be neutral.

    Returns:
        beta (T, E) and pose (T, 6), float64.
    """
    n_frames = len(landmarks)
    rest = torch.zeros(n_frames, basis.n_expression, dtype=landmarks.dtype)
    beta = rest if prior_mean is None else prior_mean.clone()
    share = torch.full((n_frames,), config.neutral_sd_share if is_neutral else 1.0, dtype=landmarks.dtype)
    problem = _Problem(basis, landmarks, camera, config, prior_mean, share)
    pose = first_pose(basis.points(alpha, beta), landmarks, problem.point_weights, camera)
    fast = torch.where(basis.fast, config.smooth_fast_sd, config.smooth_sd).to(landmarks.dtype)
    sds = torch.cat([fast.new_full((3,), config.smooth_angle_rad), fast.new_full((3,), config.smooth_shift_cm), fast])
    gains = torch.where(basis.fast, config.smooth_fast_gain, config.smooth_gain).to(landmarks.dtype)
    gains = torch.cat([gains.new_full((6,), config.smooth_gain), gains])
    smooth = _Smoothness(sds, gains) if is_sequence and n_frames > 1 else None
    for iteration in range(config.iterations):
        jacobian, residual, _ = problem.normal_equations(alpha, pose, beta, with_identity=False)
        # The first steps find each face on its own; neighbours count once they stand somewhere sensible.
        weights = smooth.weights(torch.cat([pose, beta], -1)) if smooth is not None and iteration >= 2 else None
        hessian, gradient, held = _frame_terms(problem, jacobian, residual, pose, beta, weights)
        if weights is None:
            step = torch.cholesky_solve(gradient[..., None], torch.linalg.cholesky(hessian))[..., 0]
        else:
            step = _solve_chain(hessian, weights * ~(held[1:] | held[:-1]), gradient)
        pose, beta = _apply_step(basis, pose, beta, step)
    return beta, pose


def calibrate(
    basis: LandmarkBasis, alpha: np.ndarray, landmarks_px: np.ndarray, camera: Camera, config: FitConfig, *, prior_mean: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """What a neutral clip of a person leaves unexplained at each landmark: the detector's habit with this face and the model's gaps.

    Measured on the embedded corpus, more than half of a trained detector's error is such a constant of the person; taken off, the rest
    of the person's clips show the expression more truly.

    Args:
        basis: landmark basis.
        alpha: (A,) the person's identity.
        landmarks_px: (T, 68, 2) px of a neutral clip, NaN where there is no face.
        camera: camera of the landmarks.
        config: weights.
        prior_mean: (T, E) expected expressions or None.

    Returns:
        (68, 2) float64 mean residual in units of the outer-eye distance.
    """
    present = present_frames(landmarks_px)
    landmarks = torch.as_tensor(landmarks_px[present], dtype=torch.float64)
    mean = None if prior_mean is None else torch.as_tensor(prior_mean[present], dtype=torch.float64)
    identity = torch.as_tensor(alpha, dtype=torch.float64)
    beta, pose = fit_frames(basis, identity, landmarks, camera, config, prior_mean=mean, is_neutral=True)
    uv = project(transform(basis.points(identity, beta), pose), camera)
    return ((landmarks - uv).mean(0) / outer_eye_distance_px(landmarks)).numpy()


def fit_pose(points: np.ndarray, landmarks: np.ndarray, camera: Camera, iterations: int = 10) -> np.ndarray:
    """Pose that projects known points to known pixels, by unweighted Gauss-Newton.

    Serves to express a true pose of another camera in the crop camera: project the true points there, map them into the crop, fit here.

    Args:
        points: (T, L, 3) cm in the head frame.
        landmarks: (T, L, 2) px, finite.
        camera: camera of the landmarks.
        iterations: Gauss-Newton steps.

    Returns:
        (T, 6) float64, rad and cm.
    """
    target, shape = torch.as_tensor(landmarks, dtype=torch.float64), torch.as_tensor(points, dtype=torch.float64)
    pose = first_pose(shape, target, torch.ones(shape.shape[-2], dtype=torch.float64), camera)
    for _ in range(iterations):
        uv, jacobian, _ = project_with_jacobian(shape.expand(len(target), -1, -1), pose, camera)
        flat = jacobian.flatten(1, 2)
        gram = flat.transpose(1, 2) @ flat + 1e-9 * torch.eye(6, dtype=torch.float64)
        pose = pose + torch.linalg.solve(gram, flat.transpose(1, 2) @ (target - uv).flatten(1)[..., None])[..., 0]
    return pose.numpy()


def pick_frames(n_frames: int, count: int) -> np.ndarray:
    """Indices of at most ``count`` frames spread evenly over ``n_frames``."""
    return np.unique(np.linspace(0, n_frames - 1, min(count, n_frames)).round().astype(int))


def present_frames(landmarks: np.ndarray) -> np.ndarray:
    """(T, 68, 2) -> (T,) bool: frames whose landmarks are all finite."""
    return np.isfinite(landmarks).all(axis=(1, 2))


def fit_clip(
    basis: LandmarkBasis, alpha: np.ndarray, landmarks_px: np.ndarray, camera: Camera, config: FitConfig, *,
    offset: np.ndarray | None = None, prior_mean: np.ndarray | None = None, is_sequence: bool = True, chunk: int = 250,
) -> Fit:  # fmt: skip
    """Fit every frame of a clip; frames without a face get interpolated coefficients and a NaN error.

    Args:
        basis: landmark basis at this identity.
        alpha: (A,) identity.
        landmarks_px: (T, 68, 2) px, NaN where there is no face.
        camera: camera of the landmarks.
        config: weights.
        offset: (68, 2) the person's landmark offsets from ``calibrate`` or None.
        prior_mean: (T, E) expected expressions or None.
        is_sequence: False for unrelated stills.
        chunk: frames solved at once; keeps memory flat in clip length. Chunks overlap by 32 frames so that no seam shows.

    Raises:
        NoLandmarksError: no frame has a face.
    """
    present = present_frames(landmarks_px)
    if not present.any():
        raise NoLandmarksError("no frame has landmarks")
    where = np.flatnonzero(present)
    landmarks = torch.as_tensor(landmarks_px[where], dtype=torch.float64)
    if offset is not None:
        landmarks = landmarks - torch.as_tensor(offset, dtype=torch.float64) * outer_eye_distance_px(landmarks)
    prior = None if prior_mean is None else torch.as_tensor(prior_mean[where], dtype=torch.float64)
    identity = torch.as_tensor(alpha, dtype=torch.float64)
    beta, pose = torch.empty(len(where), basis.n_expression, dtype=torch.float64), torch.empty(len(where), 6, dtype=torch.float64)
    margin = 32  # with 8 the seam of a calm head showed: 0.6 degrees in the test
    for start in range(0, len(where), chunk):
        stop = min(start + chunk, len(where))
        first, last = max(0, start - margin), min(len(where), stop + margin)
        part = fit_frames(
            basis, identity, landmarks[first:last], camera, config,
            prior_mean=None if prior is None else prior[first:last], is_sequence=is_sequence,
        )  # fmt: skip
        beta[start:stop], pose[start:stop] = (x[start - first : stop - first] for x in part)
    uv = project(transform(basis.points(identity, beta), pose), camera)
    error = np.full(len(landmarks_px), np.nan, dtype=np.float32)
    error[where] = (uv - landmarks).norm(dim=-1).mean(-1).numpy()
    moving = (basis.sd_factor > 0).numpy()
    # A lower bound of 0 is rest; a negative one (PCA) is as far as a coefficient goes.
    pressed = (beta >= basis.upper - 1e-6) | ((beta <= basis.lower + 1e-6) & (basis.lower < 0))
    at_bound = float(pressed[:, moving].double().mean())
    frames = np.arange(len(landmarks_px))

    def fill(x: Tensor) -> np.ndarray:
        return np.stack([np.interp(frames, where, column) for column in x.numpy().T], 1).astype(np.float32)

    return Fit(np.asarray(alpha, dtype=np.float32), fill(beta), fill(pose), error, at_bound)
