"""The closed-form fit of expression ratio images; it comes before the trainings of stage II."""

from __future__ import annotations

import torch

from flowvqtalker.image.data import FrameSet
from flowvqtalker.image.geometry import unit_points
from flowvqtalker.image.ratio import DARK, ExpressionRatio, mean_face

#: Frames of one person that the fit sees at most; more of them add little once many people are seen.
FRAMES_PER_IDENTITY = 100
#: Added to the standard deviations: a coefficient that varies less is mostly the fitter's noise.
LEAST_SD = 0.02


@torch.no_grad()
def fit_ratio(model: ExpressionRatio, frames: FrameSet, ridge: float, gain: float) -> float:
    """Fit the maps: ridge regression of log brightness on coefficients, both as differences from the person's own mean.

    Args:
        model: filled in place.
        frames: pictures of several people with landmarks and coefficients.
        ridge: added to the normal equations' diagonal, as a share of the number of frames; coefficients enter standardised.
        gain: the maps are multiplied by it afterwards. Least squares shrinks them by the ridge and by the noise of fitted coefficients.

    Returns:
        Share of the variance within persons that is explained inside the mask (at a gain of 1).

    Raises:
        ValueError: no frame has landmarks and coefficients.
    """
    usable = (frames.row >= 0) & torch.isfinite(frames.landmarks).all(-1).all(-1)
    people = [(usable & (frames.identity == name)).nonzero().squeeze(1) for name in frames.identity[usable].unique()]
    people = [own[torch.linspace(0, len(own) - 1, min(len(own), FRAMES_PER_IDENTITY)).round().long()] for own in people]
    if not people:
        raise ValueError("frames: none has both landmarks and coefficients, from which an expression ratio could be fitted")
    chosen = torch.cat(people)
    model.face.copy_(mean_face(unit_points(frames.landmarks[chosen], frames.size_px)))
    n_features = len(model.spread)
    known = [frames.coefficients[frames.row[own]][:, :n_features] for own in people]
    centred = torch.cat([part - part.mean(0) for part in known])
    model.spread.copy_(centred.std(0, unbiased=False) + LEAST_SD)
    centred = (centred / model.spread).double()
    gram = centred.T @ centred
    penalty = ridge * len(centred) * torch.eye(n_features, dtype=torch.float64)
    product = torch.zeros(n_features, model.maps[0].numel(), dtype=torch.float64)
    weight, total, offset = model.mask.double().flatten().repeat(3), 0.0, 0
    for own in people:
        points = unit_points(frames.landmarks[own], frames.size_px)
        aligned = torch.log(model.align(frames.batch(own), points) + DARK).flatten(1).double()
        aligned -= aligned.mean(0)
        product += centred[offset : offset + len(own)].T @ aligned
        total += float((weight * aligned.square()).sum())
        offset += len(own)
    maps = torch.linalg.solve(gram + penalty, product)
    # |y - x m|^2 = |y|^2 - 2 m'x'y + m'x'x m, summed over pixels inside the mask.
    explained = float((weight * maps * (2 * product - gram @ maps)).sum())
    model.maps.copy_(gain * maps.view_as(model.maps))
    return explained / max(total, 1e-12)
