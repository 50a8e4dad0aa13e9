"""The fit against faces whose coefficients are known."""

import numpy as np
import pytest
import torch

from flowvqtalker.face.camera import crop_camera, project
from flowvqtalker.face.expressions import EXPRESSION_INDEX
from flowvqtalker.face.pose import transform
from flowvqtalker.fit.agreement import correlation, rotation_error_deg
from flowvqtalker.fit.solver import FitConfig, NoLandmarksError, _Smoothness, _solve_chain, fit_clip, fit_identity, fit_pose, pick_frames

CAMERA = crop_camera(128)
CONFIG = FitConfig(
    landmark_sd_pct=2.0, jaw_line_weight=0.3, gap_weight=1.5, expression_sd=0.25, blendshape_sd=0.25, asymmetry_sd=0.15, identity_sd=1.0, smooth_sd=0.01, smooth_fast_sd=0.01,
    smooth_angle_rad=0.002, smooth_shift_cm=0.02, smooth_gain=0.5, smooth_fast_gain=3.0, neutral_sd_share=0.3, iterations=12, identity_iterations=12,
)  # fmt: skip


def landmarks_of(basis, talk, noise_px=0.0, seed=0):
    points = basis.points(torch.tensor(talk["alpha"]), torch.tensor(talk["beta"]))
    exact = project(transform(points, torch.tensor(talk["pose"])), CAMERA).numpy()
    return exact + noise_px * np.random.default_rng(seed).normal(size=exact.shape)


def fit(basis, landmarks, **kwargs):
    seen = landmarks[np.isfinite(landmarks).all((1, 2))]
    picked = torch.tensor(seen[pick_frames(len(seen), 16)])
    alpha = fit_identity(basis, picked, CAMERA, CONFIG, neutral=torch.zeros(len(picked), dtype=torch.bool))
    return fit_clip(basis, alpha.numpy(), landmarks, CAMERA, CONFIG, **kwargs)


def of(beta, name):
    return beta[:, EXPRESSION_INDEX[name]]


@pytest.mark.parametrize(
    ("noise_px", "least_jaw", "least_blink", "most_degrees", "most_px"), [(0.0, 0.99, 0.99, 1.5, 0.3), (1.0, 0.95, 0.9, 2.0, 1.4)]
)
def test_recovers_jaw_blink_and_head(basis, talk, noise_px, least_jaw, least_blink, most_degrees, most_px):
    result = fit(basis, landmarks_of(basis, talk, noise_px))
    assert correlation(of(result.beta, "jawOpen"), of(talk["beta"], "jawOpen")) >= least_jaw
    assert correlation(of(result.beta, "eyeBlink_L"), of(talk["beta"], "eyeBlink_L")) >= least_blink
    assert rotation_error_deg(result.pose, talk["pose"]).mean() <= most_degrees
    assert np.nanmean(result.error_px) <= most_px


def test_coefficients_stay_in_their_box_and_unseen_shapes_at_rest(basis, talk):
    result = fit(basis, landmarks_of(basis, talk, 2.5))
    assert result.beta.min() >= 0 and result.beta.max() <= 1
    assert 0 <= result.at_bound_share < 0.1
    gaze = [index for name, index in EXPRESSION_INDEX.items() if name.startswith("eyeLook")]
    assert (result.beta[:, gaze] == 0).all()


def test_smoothness_does_not_flatten_a_blink(basis, talk):
    """A blink of three frames (120 ms) keeps its depth under 1 px of noise."""
    blinked = {**talk, "beta": talk["beta"].copy()}
    for side in "LR":
        column = EXPRESSION_INDEX[f"eyeBlink_{side}"]
        blinked["beta"][:, column] = 0
        blinked["beta"][70:73, column] = (0.6, 1.0, 0.6)
    lids = of(fit(basis, landmarks_of(basis, blinked, 1.0)).beta, "eyeBlink_L")
    assert lids[71] >= 0.7
    assert lids[:60].mean() <= 0.15


def test_frames_are_solved_together():
    """The banded solution is that of the whole matrix; a variable whose links are cut stays with its own frame."""
    generator = torch.Generator().manual_seed(3)
    n_frames, n = 6, 5
    root = torch.randn(n_frames, n, n, generator=generator, dtype=torch.float64)
    weights, gradient = (
        3 * torch.rand(n_frames - 1, n, generator=generator, dtype=torch.float64),
        torch.randn(n_frames, n, dtype=torch.float64),
    )
    weights[2, 1] = 0
    blocks = root @ root.transpose(1, 2) + 0.1 * torch.eye(n, dtype=torch.float64) + torch.diag_embed(_Smoothness.diagonal(weights))
    dense = torch.block_diag(*blocks)
    for frame in range(n_frames - 1):
        here, there = slice(frame * n, (frame + 1) * n), slice((frame + 1) * n, (frame + 2) * n)
        dense[here, there] = dense[there, here] = -torch.diag(weights[frame])
    step = _solve_chain(blocks, weights, gradient)
    torch.testing.assert_close(step.flatten(), torch.linalg.solve(dense, gradient.flatten()))


def test_smoothness_is_the_gradient_of_its_energy():
    state = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    smooth = _Smoothness(torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64), torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64))
    weights = smooth.weights(state.detach())
    (weights * (state[1:] - state[:-1]) ** 2 / 2).sum().backward()
    torch.testing.assert_close(smooth.gradient(state.detach(), weights), -state.grad)


def test_smoothness_lets_go_where_things_move():
    state = torch.zeros(60, 1, dtype=torch.float64)
    state[30:33, 0] = torch.tensor([0.6, 1.0, 0.6])
    weights = _Smoothness(torch.tensor([0.01], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)).weights(state)[:, 0]
    assert float(weights[:20].min()) == pytest.approx(0.01**-2, rel=1e-3)  # at rest
    assert float(weights[28:34].max()) < 0.3**-2  # in a blink


def test_a_face_at_rest_is_calm(basis, talk):
    """Noise of 0.5 px on a face that does not move leaves less than a third of it in the fitted points."""
    still = {**talk, "beta": np.repeat(talk["beta"][:1], len(talk["beta"]), 0), "pose": np.repeat(talk["pose"][:1], len(talk["pose"]), 0)}
    landmarks = landmarks_of(basis, still, 0.5)
    result = fit(basis, landmarks)
    drawn = landmarks_of(basis, {"alpha": result.alpha.astype(float), "beta": result.beta.astype(float), "pose": result.pose.astype(float)})
    shake = [np.sqrt((np.diff(points, 2, axis=0) ** 2).mean()) for points in (landmarks, drawn)]
    assert shake[1] < shake[0] / 3


def test_missing_frames_are_interpolated(basis, talk):
    landmarks = landmarks_of(basis, talk)
    whole = fit(basis, landmarks)
    landmarks[40:44] = np.nan
    holed = fit(basis, landmarks)
    assert np.isnan(holed.error_px[40:44]).all() and np.isfinite(holed.error_px[44:]).all()
    between = holed.pose[39] + (holed.pose[44] - holed.pose[39]) * 2 / 5
    np.testing.assert_allclose(holed.pose[41], between, atol=1e-5)
    assert np.abs(holed.beta[60:] - whole.beta[60:]).max() < 0.05


def test_no_face_anywhere_is_an_error(basis):
    with pytest.raises(NoLandmarksError, match="no frame"):
        fit_clip(basis, np.zeros(basis.n_identity), np.full((5, 68, 2), np.nan), CAMERA, CONFIG)


def test_chunks_leave_no_seam(basis, talk):
    landmarks = landmarks_of(basis, talk, 0.5)
    alpha = np.asarray(talk["alpha"])
    whole = fit_clip(basis, alpha, landmarks, CAMERA, CONFIG)
    parts = fit_clip(basis, alpha, landmarks, CAMERA, CONFIG, chunk=40)
    assert np.abs(whole.beta - parts.beta).max() < 0.05
    assert rotation_error_deg(whole.pose, parts.pose).max() < 0.2


def test_stills_do_not_see_their_neighbours(basis, talk):
    landmarks = landmarks_of(basis, talk)[[5, 140, 12]]
    together = fit_clip(basis, talk["alpha"], landmarks, CAMERA, CONFIG, is_sequence=False)
    alone = fit_clip(basis, talk["alpha"], landmarks[1:2], CAMERA, CONFIG, is_sequence=False)
    # The landmark noise scales with the median eye distance of the frames given, hence not bit-equal.
    np.testing.assert_allclose(together.beta[1], alone.beta[0], atol=0.02)


def test_neutral_frames_tell_a_smiling_face_from_a_smile(basis, talk):
    """A face that always smiles is taken for its shape unless some frames are known to be neutral."""
    landmarks = torch.tensor(landmarks_of(basis, talk))
    rest = {**talk, "beta": np.zeros_like(talk["beta"])}
    neutral = torch.tensor(landmarks_of(basis, rest))[:8]
    alone = fit_identity(basis, landmarks[::20], CAMERA, CONFIG, neutral=torch.zeros(8, dtype=torch.bool))
    known = fit_identity(basis, neutral, CAMERA, CONFIG, neutral=torch.ones(8, dtype=torch.bool))
    error = [
        np.abs(of(fit_clip(basis, a.numpy(), landmarks.numpy(), CAMERA, CONFIG).beta - talk["beta"], "mouthSmile_L")).mean()
        for a in (alone, known)
    ]
    assert error[1] < error[0]


def test_prior_mean_pulls_unseen_frames_shapes(basis, talk):
    landmarks = landmarks_of(basis, talk)
    expected = np.zeros_like(talk["beta"])
    expected[:, EXPRESSION_INDEX["browDown_L"]] = 0.5
    free = fit_clip(basis, talk["alpha"], landmarks, CAMERA, CONFIG)
    pulled = fit_clip(basis, talk["alpha"], landmarks, CAMERA, CONFIG, prior_mean=expected)
    assert of(pulled.beta, "browDown_L").mean() > of(free.beta, "browDown_L").mean()


def test_fit_pose_is_exact_on_exact_points(basis, talk):
    points = basis.points(torch.tensor(talk["alpha"]), torch.tensor(talk["beta"])).numpy()
    pose = fit_pose(points, landmarks_of(basis, talk), CAMERA)
    np.testing.assert_allclose(pose, talk["pose"], atol=1e-6)
