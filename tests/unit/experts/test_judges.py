"""Judges: cuts follow the rigid face, networks learn what they are for from toy clips, files keep their domain."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from flowvqtalker.checks import MissingWeightsError, ShapeError
from flowvqtalker.experts import judge, pyfeat
from flowvqtalker.experts.crops import FACE, MOUTH, cut, face_frames, face_points
from flowvqtalker.experts.emotion import EmotionNet
from flowvqtalker.experts.features import FeatureNet, damage_pictures
from flowvqtalker.experts.layers import augment, edge_energy, mirrored_edges, to_float
from flowvqtalker.experts.syncnet import SyncNet, contrastive_loss
from flowvqtalker.experts.tasks import (
    Clip,
    EmotionTask,
    FeatureTask,
    Pictures,
    Seen,
    SyncTask,
    emotion_accuracy,
    mirrored_expressions,
    mirrored_points,
    person_face,
    picture_features,
    pictures_of,
    sync_accuracy,
    sync_embeddings,
    with_usual_faces,
)
from flowvqtalker.face.expressions import EXPRESSIONS
from flowvqtalker.landmarks.schema import FLIP
from flowvqtalker.metrics.distribution import fid
from flowvqtalker.metrics.sync import sync_score


def toy_landmarks(frames: int, eye_px: float = 40.0, turn_rad: float = 0.0, centre=(64.0, 50.0)) -> np.ndarray:
    """A frontal face: rigid points at their template places, mouth below, the rest anywhere inside."""
    generator = np.random.default_rng(0)
    points = generator.uniform(-0.4, 0.9, size=(68, 2))
    points[[36, 39, 42, 45, 30, 33]] = [(-0.5, 0), (-0.19, 0), (0.19, 0), (0.5, 0), (0, 0.42), (0, 0.55)]
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points[48:68] = np.stack([0.25 * np.cos(angle), 0.82 + 0.08 * np.sin(angle)], axis=-1)
    w = (points[:, 0] + 1j * points[:, 1]) * eye_px * np.exp(1j * turn_rad) + complex(*centre)
    return np.repeat(np.stack([w.real, w.imag], axis=-1)[None], frames, axis=0).astype(np.float32)


def toy_clip(seed: int, frames: int = 40, emotion: int = 0, person: str = "") -> Clip:
    """A black patch that opens and closes with the loudness; the emotion is the height of a stripe."""
    generator = np.random.default_rng(seed)
    opening = np.abs(generator.normal(size=frames))
    mouths = np.full((frames, 3, 32, 32), 180, np.uint8)
    for t in range(frames):
        mouths[t, :, 16 - int(4 * min(opening[t], 3)) : 16 + int(4 * min(opening[t], 3)) + 1, 8:24] = 20
    mel = np.full((frames, 16, 80), -3.0, np.float32) + 2.0 * np.minimum(opening, 3)[:, None, None].astype(np.float32)
    faces = generator.integers(90, 110, size=(frames, 3, 32, 32)).astype(np.uint8)
    # Mean colours are taken out of every picture, so the emotion is where the bright stripe lies.
    faces[:, :, 4 + 10 * emotion : 10 + 10 * emotion] += 60
    points = np.zeros((frames, 68, 2), np.float32)
    return Clip(mouths, faces, mel, np.full(frames, emotion), np.full(frames, 1), False, person or f"id{seed}", points=points)


def train(task, steps: int) -> None:
    for step in range(steps):
        batch = task.draw(step, torch.Generator().manual_seed(step))
        for name, loss, _ in task.losses(batch, step):
            task.optimizers[name].zero_grad()
            loss.backward()
            task.optimizers[name].step()
    task.modules["network"].eval()


def test_cut_finds_the_mouth_whatever_turn_and_size():
    for eye_px, turn, centre in ((40, 0.0, (64, 50)), (30, 0.3, (70, 60)), (50, -0.2, (60, 45))):
        landmarks = toy_landmarks(3, eye_px, turn, centre)
        frames = np.zeros((3, 128, 128, 3), np.uint8)
        u, v = landmarks[0, 48:68].mean(axis=0).round().astype(int)
        frames[:, v - 3 : v + 4, u - 3 : u + 4] = 255
        mouth = cut(frames, landmarks, MOUTH, 48)
        assert mouth.shape == (3, 3, 48, 48) and mouth.dtype == np.uint8
        rows, columns = np.nonzero(mouth[0, 0] > 128)
        assert abs(rows.mean() - 23.5) < 2 and abs(columns.mean() - 23.5) < 2


def test_cut_does_not_follow_the_jaw_and_fills_in_missing_faces():
    landmarks = toy_landmarks(9)
    opened = landmarks.copy()
    opened[:, 48:68, 1] += 10
    opened[:, :17, 1] += 10
    np.testing.assert_allclose(face_frames(opened)[1], face_frames(landmarks)[1])
    landmarks[4] = np.nan
    a, _ = face_frames(landmarks)
    assert np.isfinite(a).all() and abs(a[4]) == pytest.approx(40, rel=1e-3)
    with pytest.raises(ValueError, match="no frame has a face"):
        face_frames(np.full((3, 68, 2), np.nan, np.float32))
    with pytest.raises(ShapeError):
        cut(np.zeros((3, 64, 64, 3), np.uint8), toy_landmarks(4), FACE, 32)


def test_cut_of_a_fine_picture_is_the_cut_of_the_coarse_one():
    generator = np.random.default_rng(0)
    noise = gaussian_filter(generator.normal(size=(2, 128, 128, 3)), (0, 5, 5, 0))
    coarse = np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)
    fine = np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.uint8)
    landmarks = toy_landmarks(2)
    small = cut(coarse, landmarks, FACE, 32).astype(int)
    large = cut(fine, (landmarks + 0.5) * 4 - 0.5, FACE, 32).astype(int)
    assert np.abs(small - large).mean() < 4


def test_augment_keeps_shape_and_draws_from_the_generator_alone():
    pictures = torch.rand(3, 2, 3, 32, 32) * 2 - 1
    settings = {"shift_px": 3.0, "zoom": 0.1, "turn_rad": 0.1, "soften": 0.5}
    first = augment(pictures, torch.Generator().manual_seed(1), **settings)
    again = augment(pictures, torch.Generator().manual_seed(1), **settings)
    other = augment(pictures, torch.Generator().manual_seed(2), **settings)
    assert first.shape == pictures.shape and torch.equal(first, again) and not torch.allclose(first, other)


def test_syncnet_learns_which_sound_belongs_to_which_lips():
    torch.manual_seed(0)
    task = SyncTask(SyncNet(32, 8, 16), [toy_clip(seed) for seed in range(8)], [], 3e-3, 4, 16)
    train(task, 70)
    clips = [toy_clip(100 + seed) for seed in range(4)]
    assert sync_accuracy(task.network, clips)["sync_within_1_pct"] > 90
    video, audio = sync_embeddings(task.network, clips[0])
    np.testing.assert_allclose(np.linalg.norm(video, axis=1), 1.0, rtol=1e-4)
    assert sync_score(video[:-6], audio[6:]).offset_frames == -6
    assert sync_score(video[6:], audio[:-6]).offset_frames == 6
    wrong = sync_embeddings(task.network, Clip(clips[0].mouths, clips[0].faces, clips[1].mel, clips[0].emotion, clips[0].level, False, "x"))
    assert sync_score(*wrong).lse_d > sync_score(video, audio).lse_d


def test_half_precision_trains_towards_the_same_losses(monkeypatch):
    monkeypatch.setattr("flowvqtalker.precision.computes_bf16", lambda device_type: True)  # emulated where it must be
    clips = [toy_clip(seed, frames=20, emotion=seed % 3, person=f"p{seed // 3}") for seed in range(6)]
    found: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        sync = SyncTask(SyncNet(32, 8, 16), clips, [], 1e-3, 4, 16, precision)
        feeling = EmotionTask(
            EmotionNet(32, 8, 16, 8, 0, 0.0), with_usual_faces(clips), with_usual_faces(clips), EXPRESSIONS, 1e-3, 4, 3, 0, 0.0, precision
        )
        for task in (sync, feeling):
            ((_, loss, _),) = task.losses(task.draw(0, torch.Generator().manual_seed(1)), 0)
            loss.backward()
            assert loss.dtype == torch.float32
            assert all(p.grad is None or p.grad.dtype == torch.float32 for p in task.network.parameters())
            found.setdefault(precision, []).append(float(loss.detach()))
    assert found["fp32"] != found["bf16"]
    np.testing.assert_allclose(found["bf16"], found["fp32"], rtol=0.03)


def test_contrastive_loss_is_small_only_for_pairs_that_match():
    codes = torch.nn.functional.normalize(torch.randn(2, 10, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
    scale = torch.tensor(3.5)
    assert contrastive_loss(codes, codes, scale) < 0.1
    assert contrastive_loss(codes, codes.roll(1, dims=1), scale) > 5


def test_emotion_net_learns_from_clips_and_stills():
    torch.manual_seed(0)
    clips = [toy_clip(seed, frames=8, emotion=seed % 3, person=f"p{seed // 3}") for seed in range(6)]
    stills = [Clip(None, clip.faces, None, clip.emotion, clip.level, True, clip.identity, points=clip.points) for clip in clips[:3]]
    task = EmotionTask(
        EmotionNet(32, 8, 16, 8, 0, 0.0), with_usual_faces([*clips, *stills]), with_usual_faces(clips), EXPRESSIONS, 3e-3, 4, 3, 4, 0.0
    )
    train(task, 30)
    values = emotion_accuracy(
        task.network, with_usual_faces([toy_clip(50 + seed, frames=8, emotion=seed % 3, person=f"p{seed // 3}") for seed in range(6)])
    )
    assert values["emotion_clip_acc_pct"] == 100.0 and values["emotion_level_1_acc_pct"] == 100.0
    assert set(task.validate(0)) == set(values)


def test_points_of_a_face_do_not_depend_on_its_place_size_and_turn_and_mirror_with_it():
    frontal = face_points(toy_landmarks(3))
    for eye_px, turn, centre in ((30, 0.3, (70, 60)), (50, -0.2, (60, 45))):
        np.testing.assert_allclose(face_points(toy_landmarks(3, eye_px, turn, centre)), frontal, atol=1e-4)
    np.testing.assert_allclose(frontal[0, [36, 45]], [(-0.5, 0), (0.5, 0)], atol=1e-4)
    landmarks = toy_landmarks(3)
    turned = landmarks[:, list(FLIP)].copy()
    turned[..., 0] = 127 - turned[..., 0]
    np.testing.assert_allclose(face_points(turned), mirrored_points(frontal), atol=1e-4)
    missing = landmarks.copy()
    missing[1] = np.nan
    np.testing.assert_allclose(face_points(missing), frontal, atol=1e-4)
    with pytest.raises(ValueError, match="no frame has a face"):
        face_points(np.full((2, 68, 2), np.nan, np.float32))


def test_emotion_judge_learns_from_landmarks_against_the_persons_usual_ones():
    """Raised or lowered points of people whose faces differ by more than that; pictures say nothing."""
    torch.manual_seed(0)
    generator, faces = np.random.default_rng(0), np.full((4, 3, 32, 32), 90, np.uint8)

    def person(name: str) -> list[Clip]:
        own = generator.normal(size=(68, 2)) * 0.2
        clips = []
        for emotion in (0, 1):
            points = own + generator.normal(size=(4, 68, 2)) * 0.005
            points[:, 17:27, 1] += 0.05 if emotion else -0.05
            clips.append(Clip(None, faces, None, np.full(4, emotion), np.full(4, 1), False, name, points=points.astype(np.float32)))
        return clips

    clips = with_usual_faces([clip for number in range(6) for clip in person(f"p{number}")])
    task = EmotionTask(EmotionNet(32, 8, 16, 2, 0, 0.0), clips, [], EXPRESSIONS, 3e-3, 6, 3, 0, 0.0)
    train(task, 60)
    new = with_usual_faces([clip for number in range(6) for clip in person(f"q{number}")])
    assert emotion_accuracy(task.network, new)["emotion_clip_acc_pct"] == 100.0
    with pytest.raises(ValueError, match="landmarks"):
        with_usual_faces([replace(clips[0], points=None)])


def test_edge_maps_turn_around_with_the_picture_and_ignore_light():
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(edge_energy(picture.flip(-1)), mirrored_edges(edge_energy(picture)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(edge_energy(picture * 0.5 + 0.3), edge_energy(picture), atol=0.05, rtol=0.1)
    up = torch.zeros(1, 3, 32, 32)
    up[:, :, 16:] = 0.5
    assert edge_energy(up)[0].sum(dim=(1, 2)).argmax() == 2  # brighter below: the gradient points down, direction 2 of 8


def test_a_usual_face_is_the_mean_over_clips():
    clips = with_usual_faces([toy_clip(0, 10, 0, "a"), toy_clip(1, 10, 1, "a"), toy_clip(2, 10, 2, "b")])
    assert clips[0].usual is not None and clips[0].usual is clips[1].usual and clips[0].usual.edges.shape == (8, 8, 8)
    means = [edge_energy(to_float(torch.from_numpy(clip.faces[::5]))).mean(0) for clip in clips[:2]]
    np.testing.assert_allclose(clips[0].usual.edges, torch.stack(means).mean(0).numpy(), rtol=1e-5)
    one, other = (np.full((4, 68, 2), value, np.float32) for value in (1.0, 4.0))
    faces = np.zeros((4, 3, 32, 32), np.uint8)
    np.testing.assert_allclose(person_face([Seen(faces, one), Seen(faces[:1], other[:1], is_stills=True)]).points, 2.5)
    with pytest.raises(ValueError, match="usual faces"):
        EmotionTask(EmotionNet(32, 8, 16, 8, 0, 0.0), [toy_clip(0)], [], EXPRESSIONS, 1e-3, 2, 2, 0, 0.0)


def test_emotion_judge_learns_to_tell_expressions_also_mirrored():
    torch.manual_seed(0)
    swap = mirrored_expressions(EXPRESSIONS)
    assert swap[EXPRESSIONS.index("eyeBlink_L")] == EXPRESSIONS.index("eyeBlink_R") and swap[
        EXPRESSIONS.index("jawOpen")
    ] == EXPRESSIONS.index("jawOpen")
    np.testing.assert_array_equal(swap[swap], np.arange(len(EXPRESSIONS)))
    generator, clips = np.random.default_rng(0), []
    for number in range(12):
        amount = generator.uniform(size=8).astype(np.float32)
        beta = np.zeros((8, len(EXPRESSIONS)), np.float32)
        beta[:, EXPRESSIONS.index("mouthLeft")] = amount
        faces = np.full((8, 3, 32, 32), 90, np.uint8)
        for t in range(8):
            faces[t, :, :, : int(15 * amount[t]) + 1] = 200
        points = np.zeros((8, 68, 2), np.float32)
        clips.append(Clip(None, faces, None, np.full(8, number % 2), np.full(8, 1), False, f"id{number}", beta, points))
    clips = with_usual_faces(clips)
    task = EmotionTask(EmotionNet(32, 8, 16, 8, len(EXPRESSIONS), 0.0), clips, clips, EXPRESSIONS, 3e-3, 6, 4, 0, 5.0)
    losses = []
    for step in range(60):
        for _, loss, logs in task.losses(task.draw(step, torch.Generator().manual_seed(step)), step):
            task.optimizers["network"].zero_grad()
            loss.backward()
            task.optimizers["network"].step()
            losses.append(logs["emotion_expression_loss"])
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


def test_feature_net_trains_and_its_fid_grows_with_blur_and_noise():
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    frames = np.kron(generator.integers(0, 255, size=(60, 16, 16, 3)), np.ones((1, 4, 4, 1))).astype(np.uint8)
    landmarks = generator.uniform(0, 63, size=(60, 68, 2)).astype(np.float32)
    landmarks[3] = np.nan
    pictures = pictures_of(frames, landmarks, np.arange(60) % 8, 0, 64)
    joined = Pictures.join([pictures, pictures], 64)
    assert len(joined.frames) == 120 and Pictures.join([], 64).frames.shape == (0, 3, 64, 64)
    task = FeatureTask(FeatureNet(64, 8, 16, 1, 8), joined, pictures, 2e-3, 16)
    before = task.validate(0)["features_damage"]
    train(task, 40)
    with torch.no_grad():
        assert task.validate(0)["features_damage"] < before
    real = picture_features(task.network, frames)
    assert real.shape == (60, 16)
    noise = generator.normal(size=frames.shape)
    distances = [
        fid(picture_features(task.network, np.clip(frames + sigma * noise, 0, 255).astype(np.uint8)), real) for sigma in (0, 12, 50)
    ]
    assert distances[0] < 1e-3 and distances[0] < distances[1] < distances[2]


def test_pictures_are_resized_with_their_landmarks():
    frames = np.zeros((2, 128, 128, 3), np.uint8)
    points = np.full((2, 68, 2), 63.5, np.float32)
    pictures = pictures_of(frames, points, np.zeros(2), 4, 64)
    assert pictures.frames.shape == (2, 3, 64, 64) and pictures.identity.tolist() == [4, 4]
    np.testing.assert_allclose(pictures.landmarks, 0.5)


def test_damage_names_what_it_did():
    pictures = torch.rand(64, 3, 32, 32) * 2 - 1
    damaged, amount = damage_pictures(pictures, torch.Generator().manual_seed(0))
    untouched = (amount == 0).all(dim=1)
    assert untouched.any() and torch.equal(damaged[untouched], pictures[untouched])
    assert not torch.allclose(damaged[~untouched], pictures[~untouched])


def test_judge_files_keep_their_domain():
    network = SyncNet(32, 8, 16).eval()
    content = judge.pack("syncnet", network, {"size_px": 32, "width": 8, "dim": 16}, "clay")
    loaded = judge.load(content, "syncnet", "clay")
    mouths = torch.zeros(1, 3, 3, 32, 32)
    torch.testing.assert_close(loaded.embed_video(mouths), network.embed_video(mouths))
    with pytest.raises(judge.DomainError, match="says nothing about 'folder'"):
        judge.load(content, "syncnet", "folder")
    with pytest.raises(ValueError, match="expected a judge of kind 'emotion'"):
        judge.load(content, "emotion", "clay")
    sources = [SimpleNamespace(adapter="synthetic", name="own"), SimpleNamespace(adapter="folder", name="mead")]
    assert judge.domain_of(sources) == "clay+folder:mead"


def test_sizes_are_checked():
    for wrong in (lambda: SyncNet(50, 8, 16), lambda: EmotionNet(50, 8, 16, 8, 0, 0.0), lambda: FeatureNet(64, 8, 65, 1, 8)):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(ShapeError):
        SyncNet(32, 8, 16).embed_audio(torch.zeros(1, 4, 80, 16))
    with pytest.raises(ValueError, match="no training clip"):
        SyncTask(SyncNet(32, 8, 16), [toy_clip(0, frames=10)], [], 1e-3, 2, 16)


def test_pyfeat_without_weights_says_so_quickly_and_leaves_threads_alone():

    pytest.importorskip("feat")
    threads, missing = torch.get_num_threads(), None
    begin = time.monotonic()
    try:
        pyfeat.load_detector(offline=True)
    except MissingWeightsError as error:
        missing = error
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled(), "py-feat's constructor switches gradients off for the whole process"
    if missing is None:
        pytest.skip("py-feat's weights are on this machine")
    assert "feat/resources" in str(missing) and time.monotonic() - begin < 30


def test_pyfeat_scores_are_means_of_their_units():
    units = {"AU06": np.array([0.2, 0.4]), "AU12": np.array([0.8, np.nan])}
    scores = pyfeat.emotion_scores(units)
    assert scores["happy"] == pytest.approx((0.3 + 0.8) / 2) and np.isnan(scores["disgusted"])
