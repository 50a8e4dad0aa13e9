"""The trained back end learns drawn faces within seconds, and its parts do what they say."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from dot_faces import draw_face, make_pictures

from flowvqtalker.landmarks import align, boxes, network, samples, schema


def make_nothing(count: int, size_px: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([draw_face(None, size_px, rng) for _ in range(count)])


@pytest.fixture(scope="module")
def data() -> samples.Samples:
    frames, points = make_pictures(200, 160, 0)
    return samples.make_samples([(frames, points, scores_of(points))], [make_nothing(40, 160, 1)])


def scores_of(points: np.ndarray) -> np.ndarray:
    """An open jaw as its blendshape score, and one score of the left side alone."""
    scores = np.zeros((len(points), 52), np.float32)
    scores[:, schema.BLENDSHAPES.index("jawOpen")] = 2 * schema.lip_aperture(points)
    scores[:, schema.BLENDSHAPES.index("mouthSmileLeft")] = 1
    return scores


def fit(net, draw, loss, steps: int, lr: float = 6e-3) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=0.2)
    for _ in range(steps):
        value = loss(draw(generator))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@pytest.fixture(scope="module")
def trained(data) -> network.TrainedLandmarker:
    torch.manual_seed(0)
    finder, points = network.FaceFinder(64, (32, 32)), network.PointNet(64, (32, 32, 64))
    refiner = network.Refiner(64, (16, 32), hidden=64)
    refiner.template.copy_(align.mean_shape(data.points))
    for net in (finder, points, refiner):
        network.channels_last(net)

    def points_loss(batch):
        return network.point_loss(points.maps(batch[0]), batch[1], map_weight=0.05, gap_weight=0.5)[0]

    def refiner_loss(batch):
        found, scores = refiner(batch[0])
        return network.point_error(found, batch[1], gap_weight=0.5)[0] + 0.05 * network.score_loss(scores, batch[2])[0]

    fit(points, lambda generator: samples.draw_crops(data, 24, 64, generator), points_loss, 160)
    fit(
        finder,
        lambda generator: samples.draw_pictures(data, 24, 64, generator),
        lambda batch: network.face_loss(finder(batch[0]), *batch[1:])[0],
        160,
    )
    fit(refiner, lambda generator: samples.draw_aligned(data, refiner.template, 24, 64, generator), refiner_loss, 160)
    return network.TrainedLandmarker(finder, points, refiner)


def test_unit_coordinates_are_those_of_the_conventions():
    assert network.to_unit(-0.5, 96) == -1 and network.to_unit(95.5, 96) == 1
    np.testing.assert_allclose(network.from_unit(network.to_unit(np.arange(5.0), 96), 96), np.arange(5.0), atol=1e-9)


def test_mean_position_of_a_single_cell_is_its_centre():
    maps = torch.zeros(1, 1, 6, 6)
    maps[0, 0, 2, 5] = 1
    cell = network._mean_position(maps)[0, 0]
    np.testing.assert_allclose(network.from_unit(cell.numpy(), 6), [5, 2], atol=1e-6)


def test_sample_truth_follows_its_picture(data):
    """In a crop, the true inner mouth (drawn nearly black) is darker than the skin below the eyes."""
    aligned = samples.draw_aligned(data, align.mean_shape(data.points), 64, 96, torch.Generator().manual_seed(1))
    for images, points in (samples.draw_crops(data, 64, 96, torch.Generator().manual_seed(1)), aligned[:2]):
        check_truth_follows(images, points)
    # a mirrored face shows on the right what was on the left
    left, right = (aligned[2][:, schema.BLENDSHAPES.index(name)] for name in ("mouthSmileLeft", "mouthSmileRight"))
    assert (left + right == 1).all() and 0.25 < right.mean() < 0.75


def check_truth_follows(images: torch.Tensor, points: torch.Tensor) -> None:
    assert images.shape == (64, 3, 96, 96) and points.shape == (64, 68, 2)
    mouth = points[:, list(schema.INNER_LIPS)].mean(dim=1)
    cheek = (points[:, 41] + points[:, 31]) / 2
    look = torch.stack([mouth, cheek], dim=1)[:, None]
    seen = torch.nn.functional.grid_sample(images, look, align_corners=False).mean(dim=1)[:, 0]
    wide = (points[:, 66] - points[:, 62]).norm(dim=-1) > 0.08
    assert wide.sum() > 10
    assert (seen[wide, 0] < seen[wide, 1]).float().mean() > 0.95
    # mirrored crops keep the order of the points: the subject's right eye is on the picture's left
    assert (points[:, 36, 0] < points[:, 45, 0]).all()


def test_mirroring_scores_twice_changes_nothing():
    flip = np.array(schema.BLENDSHAPE_FLIP)
    assert (flip[flip] == np.arange(52)).all()
    assert schema.BLENDSHAPES[flip[schema.BLENDSHAPES.index("jawLeft")]] == "jawRight"
    assert schema.BLENDSHAPES[flip[schema.BLENDSHAPES.index("jawOpen")]] == "jawOpen"


def test_faceless_samples_hold_no_face_and_faces_stay_inside(data):
    images, present, centre, log_size = samples.draw_pictures(data, 64, 64, torch.Generator().manual_seed(2))
    assert images.shape == (64, 3, 64, 64) and images.min() >= 0 and images.max() <= 1
    assert present.sum() == 32
    face = present > 0
    assert (centre[face].abs().amax(dim=1) + 0.8 * log_size[face].exp() < 1.15).all()


def test_draws_depend_on_the_generator_alone(data):
    first = samples.draw_pictures(data, 8, 64, torch.Generator().manual_seed(3))
    torch.manual_seed(99)
    second = samples.draw_pictures(data, 8, 64, torch.Generator().manual_seed(3))
    for one, two in zip(first, second, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_loss_is_zero_at_the_truth_and_counts_in_eye_distances():
    truth = torch.zeros(1, 68, 2)
    truth[0, :, 0] = torch.linspace(-0.5, 0.5, 68)
    maps = torch.full((1, 68, 48, 48), -1e4)
    cells = ((truth[0] + 1) / 2 * 48).long().clamp(0, 47)
    maps[0, torch.arange(68), cells[:, 1], cells[:, 0]] = 0
    exact = network._mean_position(maps.flatten(2).softmax(-1).view_as(maps))
    loss, logs = network.point_loss(maps, exact, map_weight=0.0, gap_weight=1.0)
    assert loss < 1e-2 and logs["gap"] < 1e-6
    eye = float((exact[0, 36] - exact[0, 45]).norm())
    _, logs = network.point_loss(maps, exact + torch.tensor([0.3 * eye, 0.4 * eye]), map_weight=0.0, gap_weight=1.0)
    assert logs["error"] == pytest.approx(0.5, rel=1e-3)


def test_finds_points_of_faces_it_has_not_seen(trained):
    frames, truth = make_pictures(60, 160, 7)
    found = trained.detect(frames, video=False)
    assert found.present.mean() >= 0.75
    error = schema.landmark_error(found.landmarks_px, truth)[found.present]
    assert np.median(error) < 0.06
    assert ((found.blendshapes[found.present] >= 0) & (found.blendshapes[found.present] <= 1)).all()
    jaw = schema.BLENDSHAPES.index("jawOpen")
    assert np.corrcoef(found.blendshapes[found.present, jaw], scores_of(truth)[found.present, jaw])[0, 1] > 0.5
    assert trained.detect(make_nothing(60, 160, 8), video=False).present.mean() <= 0.2


def test_crops_of_other_places_give_the_same_points(trained):
    """Shifting the picture shifts the points."""
    frames, _ = make_pictures(4, 160, 9)
    wide = np.pad(frames, ((0, 0), (40, 8), (8, 24), (0, 0)), mode="edge")
    here, there = trained.detect(frames, video=False), trained.detect(wide, video=False)
    both = here.present & there.present
    assert both.any()
    moved = there.landmarks_px[both] - here.landmarks_px[both] - [8, 40]
    assert np.median(np.abs(moved)) < 3  # of 160


def test_no_frames_and_no_face_are_not_errors(trained):
    assert trained.detect(np.zeros((0, 64, 64, 3), np.uint8)).landmarks_px.shape == (0, 68, 2)
    blank = trained.detect(np.full((3, 64, 64, 3), 128, np.uint8))
    assert not blank.present.any() and np.isnan(blank.landmarks_px).all() and np.isnan(blank.blendshapes).all()
    with pytest.raises(ValueError, match="uint8"):
        trained.detect(np.zeros((1, 64, 64, 3), np.float32))


def test_refining_moves_points_closer(trained):
    """From points that are wrong by a few pixels back to the drawn ones."""
    frames, truth = make_pictures(60, 160, 13)
    data = samples.make_samples([(frames, truth, scores_of(truth))], [])
    wrong = data.points + 0.02 * torch.randn(data.points.shape, generator=torch.Generator().manual_seed(4))
    fine, _ = trained.refine(data.patches, wrong)
    before, after = ((points - data.points).norm(dim=-1).mean() for points in (wrong, fine))
    assert after < 0.8 * before


def test_state_round_trip_gives_equal_points(trained, tmp_path):
    state = network.pack({name: getattr(trained, name).state_dict() for name in ("finder", "points", "refiner")}, like=trained)
    torch.save(state, tmp_path / "model.pt")
    again = network.TrainedLandmarker.from_state(torch.load(tmp_path / "model.pt", weights_only=True))
    frames, _ = make_pictures(4, 160, 11)
    folded = network.TrainedLandmarker(*(network.fused(copy.deepcopy(part)) for part in (trained.finder, trained.points, trained.refiner)))
    np.testing.assert_array_equal(again.detect(frames).landmarks_px, folded.detect(frames).landmarks_px)
    np.testing.assert_allclose(again.detect(frames).landmarks_px, trained.detect(frames).landmarks_px, atol=1e-3)
    with pytest.raises(ValueError, match="not trained"):
        network.TrainedLandmarker.from_state({"skipped": True})


def test_folding_the_normalisations_changes_no_number():
    torch.manual_seed(7)
    net = network.PointNet(64, (16, 16, 32))
    net.train()(torch.rand(8, 3, 64, 64))  # gives the normalisations statistics of their own
    picture = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        before = net.eval().maps(picture)
        after = network.fused(copy.deepcopy(net)).maps(picture)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.fused(net).modules())
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_half_the_precision_moves_points_by_little(trained, monkeypatch):
    monkeypatch.setattr("flowvqtalker.precision.computes_bf16", lambda device_type: True)  # emulated where it must be
    frames, _ = make_pictures(6, 160, 13)
    state = network.pack({name: getattr(trained, name).state_dict() for name in ("finder", "points", "refiner")}, like=trained)
    full, half = (network.TrainedLandmarker.from_state(state, precision=precision).detect(frames) for precision in ("fp32", "bf16"))
    assert half.landmarks_px.dtype == half.blendshapes.dtype == half.score.dtype == np.float32
    np.testing.assert_array_equal(half.present, full.present)
    one, two = (found.landmarks_px[full.present] for found in (half, full))
    # The median: where a rounded box jumps by a pixel, these small networks move by more than by the precision.
    assert 0 < np.median(np.linalg.norm(one - two, axis=-1)) / schema.outer_eye_distance(two).mean() < 0.01
    assert np.abs(half.blendshapes - full.blendshapes)[full.present].mean() < 0.01


def test_pieces_are_joined(trained):
    frames, _ = make_pictures(6, 160, 12)
    found = trained.detect_pieces([frames[:4], frames[4:]])
    assert found.landmarks_px.shape == (6, 68, 2) and found.score.shape == (6,)
    assert found.blendshapes.shape == (6, 52)


def test_whole_box_is_square_and_centred():
    assert network.whole_box(100, 160) == (0, -30, 160, 130)
    assert boxes.crop_frames(np.zeros((1, 100, 160, 3), np.uint8), network.whole_box(100, 160), 32).shape == (1, 32, 32, 3)
