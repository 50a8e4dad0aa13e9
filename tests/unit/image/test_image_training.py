from __future__ import annotations

import dataclasses

import pytest
import torch

from flowvqtalker.image.data import Sampler, fixed_pairs
from flowvqtalker.image.perceptual import OwnFeatures
from flowvqtalker.train.codebook import CodebookLosses, CodebookTask, PerceptualTask, measure_codebook, psnr_db
from flowvqtalker.train.imagegen import ImagegenLosses, ImagegenTask, landmark_miss, measure_imagegen
from flowvqtalker.train.loop import LoopConfig, run
from tests.unit.image.conftest import make_codebook, make_frames, make_generator


def config(steps: int, lr: float) -> LoopConfig:
    return LoopConfig(steps, lr, 5, 0.2, 1.0, None, steps, steps, None)


def codebook_task(gan: float = 0.0, lr: float = 3e-3) -> CodebookTask:
    weights = CodebookLosses(1.0, 1.0, 0.1, 0.25, 1.0, 1.0, gan, 2, 5)
    frames = make_frames()
    return CodebookTask(
        make_codebook(), OwnFeatures(4).requires_grad_(False), frames, frames, weights, lr=lr, weight_decay=0.0, batch=4,
        stills_share=0.5, discriminator_width=4, validation_frames=12, precision="fp32",
    )  # fmt: skip


def imagegen_task(part: str, lr: float = 3e-3, **flags: bool) -> ImagegenTask:
    weights = ImagegenLosses(
        warp_l1=1.0, warp_perceptual=0.1, landmarks=1.0, smooth=0.01, code=0.5, code_tokens_share=0.5, feature=1.0, l1=1.0,
        perceptual=0.1, gan=0.01, mouth=1.0, eyes=1.0, brows=1.0, face=1.0, entropy_from=3,
        image_from=5, gan_from=10,
    )  # fmt: skip
    frames = make_frames()
    codebook = make_codebook()
    return ImagegenTask(
        make_generator(codebook.freeze(), **flags), OwnFeatures(4).requires_grad_(False), frames, frames, weights, part=part, lr=lr, weight_decay=0.0,
        batch=4, stills_share=0.5, enrolment_share=0.5, discriminator_width=4, validation_pairs=6, precision="fp32",
    )  # fmt: skip


def test_landmark_miss_is_zero_for_the_true_shift_and_the_shift_for_none():
    torch.manual_seed(0)
    target = 8 + 16 * torch.rand(2, 68, 2)
    source = target + torch.tensor([3.0, -2.0])
    flow = torch.zeros(2, 2, 8, 8)
    assert landmark_miss(flow, source, target, 32).item() == pytest.approx(2.5 / 16, rel=1e-4)
    flow[:, 0], flow[:, 1] = 3 / 16, -2 / 16
    assert landmark_miss(flow, source, target, 32).item() == pytest.approx(0, abs=1e-6)
    assert landmark_miss(flow, source * torch.nan, target, 32).item() == 0


def test_psnr_known_answer():
    image = torch.full((2, 3, 8, 8), 0.5)
    target = image + torch.tensor([0.1, 0.01])[:, None, None, None]
    assert psnr_db(image, target).tolist() == pytest.approx([20, 40], abs=1e-3)
    weight = torch.zeros(2, 1, 8, 8)
    weight[:, :, :4] = 1
    target[:, :, 4:] = 0
    assert psnr_db(image, target, weight).tolist() == pytest.approx([20, 40], abs=1e-3)


def test_codebook_overfits_a_few_frames():
    torch.manual_seed(0)
    task = codebook_task()
    before = measure_codebook(task.codebook, task.validation, task.validation_index, "fp32")["psnr_db"]
    run(task, config(30, 3e-3), seed=1)
    after = measure_codebook(task.codebook, task.validation, task.validation_index, "fp32")
    assert after["psnr_db"] > before + 3
    assert after["codes_used"] > 1


def test_adversarial_turn_trains_both_sides_and_resume_is_exact():
    def make() -> CodebookTask:
        torch.manual_seed(0)
        return codebook_task(gan=0.5, lr=1e-3)

    states: list[dict] = []
    loop = LoopConfig(8, 1e-3, 2, 0.2, 1.0, 0.9, 4, 4, "mse")
    whole = run(make(), loop, seed=3, save=states.append)
    assert "discriminator" in whole["last"]
    again = run(make(), loop, seed=3, resume=states[0])
    for module, state in whole["last"].items():
        for name, value in state.items():
            assert torch.equal(value, again["last"][module][name]), f"{module}.{name}"


def test_generator_learns_to_move_the_picture():
    torch.manual_seed(0)
    task = imagegen_task("warp", 6e-3)
    before = measure_imagegen(task.model, task.validation, *task.validation_pairs, "fp32")
    frozen = {name: value.clone() for name, value in task.model.codebook.state_dict().items()}
    run(task, config(60, 6e-3), seed=1)
    after = measure_imagegen(task.model, task.validation, *task.validation_pairs, "fp32")
    assert after["psnr_warped_db"] > before["psnr_warped_db"] + 0.6
    assert after["copy_psnr_db"] == pytest.approx(before["copy_psnr_db"])
    assert all(torch.equal(frozen[name], value) for name, value in task.model.codebook.state_dict().items())


@pytest.mark.parametrize("part", ["warp", "codes"])
def test_each_part_trains_what_it_should(part):
    """The warp and psi learn in their own training only, T in the other one; the cross-entropy comes later; E_w never learns."""
    torch.manual_seed(0)
    task = imagegen_task(part)
    first = {"psi", "warp", "point_motion"}
    trained = {id(p) for group in task.optimizers["vqig"].param_groups for p in group["params"]}
    for step, phase in ((0, "codes"), (3, "codes"), (5, "image"), (10, "image")):
        assert task.phase(step) == ("warp" if part == "warp" else phase)
        task.model.zero_grad(set_to_none=True)
        for name, loss, logs in task.losses(task.draw(step, torch.Generator().manual_seed(1)), step):
            if name != "vqig":
                continue
            loss.backward()
            moved = {key.split(".")[0]: id(p) for key, p in task.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
            assert moved and "encoder" not in moved and set(moved.values()) <= trained
            assert (set(moved) <= first) if part == "warp" else not (set(moved) & first)
            assert ("cross_entropy" in logs) == (part == "codes" and step >= 3)
            assert ("landmark_miss_px" in logs) == (part == "warp")


def test_without_a_warp_psi_learns_with_the_codes():
    task = imagegen_task("codes", warp=False)
    trained = {id(p) for group in task.optimizers["vqig"].param_groups for p in group["params"]}
    assert {id(p) for p in task.model.psi.parameters()} <= trained


@pytest.mark.parametrize("flags", [{"warp": False}, {"codes": False}])
def test_variants_train_in_every_phase(flags):
    torch.manual_seed(0)
    result = run(imagegen_task("codes", **flags), config(14, 3e-3), seed=1)
    assert result["bad_steps"] == 0


def test_codes_learn_behind_a_trained_warp():
    """Vectors come nearer to the true frame's codes than those of the warped picture."""
    torch.manual_seed(0)
    task = imagegen_task("codes")
    task.weights = dataclasses.replace(task.weights, entropy_from=100, image_from=100, gan_from=100)
    source, target = task.validation_pairs

    def distance() -> float:
        image, goal = task.frames.batch(source), task.frames.batch(target)
        with torch.no_grad():
            vectors = task.model(image, task.frames.motion(target, source, task.model.config.window), phase="codes").vectors
            return float((vectors - task.model.codebook.encode(goal).values).square().mean())

    before = distance()
    run(task, config(60, 3e-3), seed=1)
    assert distance() < 0.8 * before


def test_perceptual_task_learns_landmarks_and_colours():
    torch.manual_seed(0)
    frames = make_frames()
    task = PerceptualTask(OwnFeatures(8), frames, lr=3e-3, batch=8, noise_sd=0.05, stills_share=0.5, precision="fp32")
    index = torch.arange(8)
    first = next(task.losses(index, 0))[1].item()
    run(task, config(40, 3e-3), seed=1)
    assert next(task.losses(index, 0))[1].item() < 0.7 * first


def test_pairs_share_an_identity_and_sources_are_enrolment_frames_when_asked():
    frames = make_frames(40, 4)
    source, target = Sampler(frames, 0.5, 1.0).draw_pairs(200, torch.Generator().manual_seed(0))
    assert torch.equal(frames.identity[source], frames.identity[target])
    assert frames.is_enrolment[source].all()
    stills = frames.is_still[target].float().mean().item()
    assert 0.35 < stills < 0.65
    source, target = fixed_pairs(frames, 10)
    assert torch.equal(frames.identity[source], frames.identity[target]) and not frames.is_enrolment[target].any()


def test_windows_stay_inside_the_clip():
    frames = make_frames(12)
    frames = dataclasses.replace(frames, first=torch.zeros(12, dtype=torch.long), last=torch.full((12,), 5))
    motion = frames.motion(torch.tensor([0, 5]), torch.tensor([3, 3]), 2)
    torch.testing.assert_close(motion.window[0], frames.coefficients[[0, 0, 0, 1, 2]])
    torch.testing.assert_close(motion.window[1], frames.coefficients[[3, 4, 5, 5, 5]])
    torch.testing.assert_close(motion.source[0], frames.coefficients[3])


def test_normaliser_does_not_blow_up_constant_coefficients():
    frames = make_frames(12)
    coefficients = frames.coefficients.clone()
    coefficients[:, 2] = 0.7
    mean, std = dataclasses.replace(frames, coefficients=coefficients).normaliser()
    assert (
        mean[2].item() == pytest.approx(0.7)
        and std[2].item() == pytest.approx(0.04)
        and std[0] == pytest.approx(coefficients[:, 0].std(unbiased=False).item())
    )
