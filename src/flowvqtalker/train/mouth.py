"""The closed-form fit of the mouth's inside; it comes before the trainings of stage II."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from flowvqtalker.image.data import FrameSet
from flowvqtalker.image.geometry import unit_points
from flowvqtalker.image.mouth import PARTED, MouthLayer
from flowvqtalker.image.ratio import ROTATION_DIM, mean_face

#: Frames with parted lips that the fit sees at most.
MOST_FRAMES = 6000
#: Frames by whose weight a cell that is seldom seen is drawn to the mean inside.
PRIOR_FRAMES = 4.0
#: Share of a person's frames, those with the least parted lips, by whose median the resting lip is known.
CALM_SHARE = 0.3
#: Added to the standard deviations [aligned face, rad].
LEAST_SD = 0.01


def resting_lips(model: MouthLayer, frames: FrameSet, usable: Tensor, contours: Tensor) -> Tensor:
    """Where each person's upper lip rests beside the mean face's: median over the calmest frames of the enrolment clip.

    Args:
        model: with its mean face set.
        frames: pictures of several people.
        usable: (n,) frames with landmarks.
        contours: (n, 8, 2) their inner lips in the aligned face.

    Returns:
        (n, 2) for each frame that of its person; without enrolment frames, all of the person's frames count.
    """
    shifts, gaps = model.resting(contours), model.gap(contours)
    found = torch.zeros_like(shifts)
    for name in frames.identity[usable].unique():
        own = frames.identity[usable] == name
        known = own & frames.is_enrolment[usable]
        known = known if known.any() else own
        calm = known & (gaps <= gaps[known].quantile(CALM_SHARE))
        found[own] = shifts[calm].median(0).values
    return found


@torch.no_grad()
def fit_mouth(model: MouthLayer, frames: FrameSet, ridge: float, gain: float) -> float:
    """Fit the maps: in each cell, ridge regression of the colour on ``MouthLayer.features`` over the frames that show the cell between the lips.

    Args:
        model: filled in place; left as it is (and laying nothing) where no frame shows parted lips.
        frames: pictures of several people with landmarks and coefficients.
        ridge: weight of the penalty as a share of a cell's frames.
        gain: the colours' differences from the mean inside are multiplied by it afterwards. Least squares shrinks them, by what contour and
            rotation do not tell: above 1 gives some of the teeth's contrast back.

    Returns:
        Share of the variance of the colours, around one mean colour, that is explained (at a gain of 1); 0 where nothing was fitted.
    """
    usable = ((frames.row >= 0) & torch.isfinite(frames.landmarks).all(-1).all(-1)).nonzero().squeeze(1)
    if not len(usable):
        return 0.0
    few = usable[torch.linspace(0, len(usable) - 1, min(len(usable), MOST_FRAMES)).round().long()]
    model.face.copy_(mean_face(unit_points(frames.landmarks[few], frames.size_px)))
    points = unit_points(frames.landmarks[usable], frames.size_px)
    a, b = model.to_face(points)
    contours = model.contour(points, a, b)
    rest = resting_lips(model, frames, usable, contours)
    width = model.face[64, 0] - model.face[60, 0]
    open_ones = (model.gap(contours) > 2 * PARTED * width).nonzero().squeeze(1)
    if not len(open_ones):
        return 0.0
    open_ones = open_ones[torch.linspace(0, len(open_ones) - 1, min(len(open_ones), MOST_FRAMES)).round().long()]
    parted, rest = usable[open_ones], rest[open_ones]
    a, b = a[open_ones], b[open_ones] - torch.view_as_complex(rest)[:, None]
    contours = contours[open_ones] - rest[:, None]
    expression = frames.coefficients.shape[1] - 2 * ROTATION_DIM
    rotation = frames.coefficients[frames.row[parted]][:, expression : expression + ROTATION_DIM]
    known = torch.cat([contours.flatten(1), rotation], 1)
    model.mean.copy_(known.mean(0))
    model.spread.copy_(known.std(0, unbiased=False) + LEAST_SD)
    features = model.features(contours, rotation).double()
    places = model.places()
    cells = torch.view_as_complex(places.contiguous())
    n_cells, n_features = places[..., 0].numel(), features.shape[1]
    gram = torch.zeros(n_cells, n_features * n_features, dtype=torch.float64)
    product = torch.zeros(n_cells, n_features, 3, dtype=torch.float64)
    weight_sum, colour_sum, square_sum = torch.zeros(n_cells, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 0.0
    for part in torch.arange(len(parted)).split(256):
        # Cells of the layer in the picture: the similarity turned round.
        where = torch.view_as_real((cells - b[part, :, None]) / a[part, :, None])
        colours = F.grid_sample(frames.batch(parted[part]), where, padding_mode="border", align_corners=False).flatten(2).double()
        edge = 2 / frames.size_px * a[part].abs()[..., None]
        weight = (model.inside(contours[part], places.expand(len(part), *places.shape)) / edge).clamp(0, 1).flatten(1).double()
        pairs = (features[part, :, None] * features[part, None, :]).flatten(1)
        gram += weight.T @ pairs
        for channel in range(3):
            product[:, :, channel] += (weight * colours[:, channel]).T @ features[part]
        weight_sum += weight.sum(0)
        colour_sum += (weight[:, None] * colours).sum((0, 2))
        square_sum += float((weight[:, None] * colours.square()).sum())
    mean = colour_sum / weight_sum.sum().clamp_min(1e-9)
    # Colours enter as differences from the mean inside, to which cells that are hardly ever seen fall back.
    gram = gram.view(n_cells, n_features, n_features)
    product = product - gram[:, :, :1] * mean
    penalty = torch.diag_embed((ridge * weight_sum + PRIOR_FRAMES)[:, None].expand(-1, n_features)).clone()
    penalty[:, 0, 0] = PRIOR_FRAMES
    maps = torch.linalg.solve(gram + penalty, product)
    total = square_sum - float((weight_sum.sum() * mean.square()).sum())
    explained = float((maps * (2 * product - gram @ maps)).sum())
    maps = gain * maps
    maps[:, 0] += mean
    model.maps.copy_(maps.permute(1, 2, 0).reshape(model.maps.shape))
    model.is_fitted.fill_(True)
    return explained / max(total, 1e-12)
