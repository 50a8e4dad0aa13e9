"""Adapter of diffusers (optional package): its DDIM scheduler behind the call of ``diffusion.ddim``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from flowvqtalker.flow.diffusion import NOISE


def diffusers_ddim(velocity: Callable[[Tensor, float], Tensor], noise: Tensor, steps: int) -> Tensor:
    """What ``diffusion.ddim`` does, by ``diffusers.DDIMScheduler``, which works in float32.

    The scheduler gets exactly as many training levels as steps are asked for, at equal distances of the angle, so that no level is
    rounded.

    Args:
        velocity: (x (B, ..), phi in (0, pi/2] [rad]) -> v (B, ..).
        noise: (B, ..) standard normal.
        steps: Number of calls of ``velocity``, at least 1.
    """
    from diffusers import DDIMScheduler

    # Share of the data's variance at each level, and the betas whose running product it is.
    kept = [math.cos(NOISE * level / steps) ** 2 for level in range(steps + 1)]
    betas = [1 - after / before for before, after in itertools.pairwise(kept)]
    scheduler = DDIMScheduler(
        num_train_timesteps=steps, trained_betas=betas, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=True,
        timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    x = noise
    for moment in scheduler.timesteps:
        with torch.no_grad():
            x = scheduler.step(velocity(x, NOISE * (int(moment) + 1) / steps), int(moment), x).prev_sample
    return x
