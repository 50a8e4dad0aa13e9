"""A trained flow as one plain dictionary and back: everything that a rollout needs lies in it."""

from __future__ import annotations

from typing import Any

from flowvqtalker.checks import MissingWeightsError
from flowvqtalker.flow.motionflow import FlowConfig, MotionFlow

FORMAT = "flowvqtalker motion 1"


def motion_state(flow: MotionFlow) -> dict[str, Any]:
    """Plain dictionary of a flow: format, shape, standardisation and weights."""
    return {"format": FORMAT, "config": flow.config.to_dict(), "weights": {name: value.cpu() for name, value in flow.state_dict().items()}}


def load_motion(state: dict[str, Any]) -> MotionFlow:
    """Flow or regression from ``motion_state``, in eval mode and without gradients.

    Raises:
        MissingWeightsError: The dictionary is of another kind or version.
    """
    if state.get("format") != FORMAT:
        raise MissingWeightsError(f"motion model: expected format {FORMAT!r}, got {state.get('format')!r}; train it anew with this version")
    flow = MotionFlow(FlowConfig.from_dict(state["config"]))
    flow.load_state_dict(state["weights"])
    return flow.eval().requires_grad_(False)
