"""An untrained flow that listens to everything, small enough for tests."""

import dataclasses

import torch

from flowvqtalker.flow.motionflow import FlowConfig, MotionFlow
from flowvqtalker.flow.stack import StackConfig

STACK = StackConfig(5, 8, 3, 16, 4, "transformer", 1, 0.8, "multi", "smm", 50.0, 5.0)
CONFIG = FlowConfig("expression", "flow", 5, STACK, 4, 2, 8, 4, (0, 1), 16, 16, 0.0, 2, 1, 0.0, 1, True, 0.3, 6.0, 3)


def make(features=5, dtype=torch.float64, bound=2.0, **changes):
    torch.manual_seed(0)
    stack = dataclasses.replace(STACK, features=features, **changes.pop("stack", {}))
    flow = MotionFlow(dataclasses.replace(CONFIG, stack=stack, coefficients=features, **changes)).to(dtype)
    for parameter in flow.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    flow.phi.fill_(0.5)
    flow.low.fill_(-bound)
    flow.high.fill_(bound)
    return flow.eval()


def windows(frames, seed):
    return torch.rand(frames, 16, 80, generator=torch.Generator().manual_seed(seed)) * 8 - 4
