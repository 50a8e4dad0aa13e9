"""Stage II: the vector-quantised image generator (VQIG), from one portrait and motion coefficients to frames.

    z_c = E_h(I_0) quantised          identity and texture of the source
    sigma = psi(beta, rho)            motion descriptor of a window around the frame
    I_w = W(I_0, sigma)               source warped by an AdaIN-modulated flow network and by its moved landmarks,
                                      times the expression ratio (folds, wrinkles, open mouths: see ``ratio``)
    z_w = E_w(I_w)                    features of the warped picture
    z_f = phi(z_w, z_c)               spatial modulation
    MHCA(query z_f, key/value z_c)    texture that the warp lost
    T                                 Transformer, AdaIN by sigma, then blocks at full token resolution; its vectors look up codes in C
    frame = D_h(codes), its local mean colours moved towards those of I_w (AdaIN at the image level, spatially gated by T),
        and I_w itself laid over it by T's mask

Source: FlowVQTalker (arXiv 2403.06375), figure 3. The paper gives the modules and their order; sizes, the kind of phi, the side
of the query and the places of AdaIN are ours and follow PIRenderer, StyleHEAT and CodeFormer (docs/decisions/0011, 0017 to 0019).
E_h, C and D_h come frozen from the codebook; E_w is a frozen copy of E_h and every other branch starts at zero, so that an
untrained VQIG already shows the source as the codebook reproduces it, and training moves it away from there.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowvqtalker.checks import check_image, check_shape
from flowvqtalker.constants import GAP_PAIRS, LEFT_LID_PAIRS, LIP_PAIRS, RIGHT_LID_PAIRS
from flowvqtalker.image.codebook import Codebook, Encoder, state_sha256
from flowvqtalker.image.geometry import POINT_RADII, gaussian_sides, identity_grid, spread_shift, unit_points, warp_image
from flowvqtalker.image.layers import (
    AdaIN,
    AdaINBlock,
    Attention,
    ModulatedBlock,
    ResBlock,
    SpatialModulation,
    TransformerBlock,
    channels_last,
    conv3,
    zero_init,
)
from flowvqtalker.image.mouth import MouthLayer
from flowvqtalker.image.ratio import ExpressionRatio
from flowvqtalker.precision import autocast

POSE_DIM = 6
N_POINTS = 68
#: Blocks at full token resolution behind the Transformer.
FINE_BLOCKS = 2
#: Landmarks that these blocks see: brows, nose, eyes and lips.
MARKED_POINTS = slice(17, 68)
#: Standard deviation of their marks in tokens.
MARK_RADIUS = 0.75


#: Ellipse of a head with hair: half sides in sides of the box of its landmarks, how far above that box's middle it is centred, and its edge.
HEAD_HALF_SIDES, HEAD_UP, HEAD_EDGE = (0.75, 0.95), 0.2, 6.0
#: Corners of each eye and its pairs of upper and lower lid.
EYES = ((36, 39, RIGHT_LID_PAIRS), (42, 45, LEFT_LID_PAIRS))
#: Lids count as closing from this share of the source's gap on, and as closed from that one on; reach of an eye in half widths.
LIDS_FROM, LIDS_TO, LIDS_REACH = 0.7, 0.4, 1.3
#: Least distance of each of `GAP_PAIRS` [half sides of the picture]: detected lids stay about a pixel of 128 apart when closed, lips touch.
LEAST_GAPS = tuple(0.0 if pair in LIP_PAIRS else 0.015 for pair in GAP_PAIRS)


@dataclass(frozen=True)
class VQIGConfig:
    """Shape of the generator.

    Attributes:
        expression_dim: E, number of expression coefficients.
        window: frames on each side of the frame that psi sees; edges are repeated.
        descriptor_dim: dimensions of sigma.
        warp_width: channels of the warp network at a quarter of the resolution.
        warp_blocks: AdaIN blocks per resolution of the warp network.
        width: channels of the Transformer.
        heads: attention heads.
        layers: Transformer layers.
        merge: tokens of a merge x merge square share one Transformer vector.
        points: move the source's landmarks by the motion and let the flow follow them.
        ratio_px: side of the aligned face in which the expression ratio is kept; 0 for none. It needs ``points``.
        mouth_px: cells over the width of the mouth's inside that is laid between parted lips; 0 for none. It needs ``points``.
        head: a soft mask of the head, so that the background does not have to undo the head's motion (it needs ``points``).
        warp: warp the source (variant no_warp: the source enters E_w as it is).
        phi: modulate z_w with z_c (variant no_phi: z_f = z_w).
        mhca: attend to z_c (variant no_mhca).
        codes: decode nearest codes (variant no_codebook: D_h gets the Transformer's vectors themselves).
        recolour: move local mean colours of the frame towards the warped source's. A small codebook knows few skin colours and few
            background colours; the source has the right ones.
        blend: lay the warped source over the decoded frame by a learned mask: what is only moved need not go through the codes, which hold
            less detail than the source; what the source does not show has to.
    """

    expression_dim: int
    window: int
    descriptor_dim: int
    warp_width: int
    warp_blocks: int
    width: int
    heads: int
    layers: int
    merge: int
    points: bool
    ratio_px: int
    mouth_px: int
    head: bool
    warp: bool
    phi: bool
    mhca: bool
    codes: bool
    recolour: bool
    blend: bool


class Motion(NamedTuple):
    """Motion of B frames and of their sources.

    Attributes:
        window: (B, 2 w + 1, E + 6) coefficients [beta | pose (rad, cm)] around each frame.
        source: (B, E + 6) coefficients of each source picture.
        points: (B, 68, 2) landmarks of each source picture, (u, v) from -1 to 1 between the picture's edges.
    """

    window: Tensor
    source: Tensor
    points: Tensor


class SourceState(NamedTuple):
    """What depends on the source picture alone; made once per clip by ``VQIG.prepare_source``.

    Attributes:
        image: (1, 3, H, W) in [0, 1].
        coefficients: (1, E + 6).
        points: (1, 68, 2) landmarks, from -1 to 1 between the picture's edges.
        codes: (1, D, h, w), z_c.
        warp_maps: feature maps of the warp network's encoder.
        keys_values: keys and values of the cross-attention, or None without it.
    """

    image: Tensor
    coefficients: Tensor
    points: Tensor
    codes: Tensor
    warp_maps: tuple[Tensor, ...]
    keys_values: tuple[Tensor, Tensor] | None


class Refined(NamedTuple):
    """What T makes of B warped pictures.

    Attributes:
        vectors: (B, D, h, w) vectors that look up the codes of the frames.
        gate: (B, 1, h, w) in (0, 1), share of the warped picture's local mean colours that is taken over; None without ``recolour``.
        blend: (B, 1, H / 2, W / 2) in (0, 1), share of the warped picture itself; None without ``blend``.
    """

    vectors: Tensor
    gate: Tensor | None
    blend: Tensor | None


class Output(NamedTuple):
    """Result of one forward pass; see ``VQIG.forward``."""

    image: Tensor | None
    warped: Tensor
    flow: Tensor
    vectors: Tensor | None
    points: Tensor | None


def make_windows(coefficients: Tensor, reach: int) -> Tensor:
    """Windows (T, 2 reach + 1, F) around each of T frames (T, F); frames beyond the ends repeat the first and the last."""
    t = len(coefficients)
    at = (torch.arange(t)[:, None] + torch.arange(-reach, reach + 1)[None]).clamp(0, t - 1)
    return coefficients[at.to(coefficients.device)]


def recolour(frame: Tensor, reference: Tensor, gate: Tensor) -> Tensor:
    """Move the local mean colours of a picture towards those of another one.

    The means are taken over about 12 px (tokens and their neighbours), so that detail stays that of ``frame``.

    Args:
        frame: (B, 3, H, W).
        reference: (B, 3, H, W).
        gate: (B, 1, h, w) share of the difference that is taken over.

    Returns:
        (B, 3, H, W) float32.
    """
    size = (gate.shape[-2], gate.shape[-1])
    difference = F.adaptive_avg_pool2d(reference.float() - frame.float(), size)
    difference = F.avg_pool2d(F.pad(difference, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return frame.float() + F.interpolate(gate * difference, size=frame.shape[-2:], mode="bilinear", align_corners=False)


def closing_lids(source: Tensor, moved: Tensor, size: tuple[int, int]) -> Tensor:
    """Where an eye is open in the source and closes in the frame: there a warp squeezes the open eye into a bright line.

    Args:
        source: (B, 68, 2) landmarks of the source, from -1 to 1 between the picture's edges.
        moved: (B, 68, 2) landmarks of the frame, likewise.
        size: height and width of the result.

    Returns:
        (B, 1, height, width) in [0, 1]: how far the lids have come together, in a soft disc as wide as the eye.
    """
    grid = identity_grid(*size, moved.device)[0]
    share = moved.new_zeros(len(moved), 1, *size)
    for corner, other, pairs in EYES:
        gap, before = (
            torch.stack([(points[:, low, 1] - points[:, high, 1]).clamp_min(0) for high, low in pairs]).mean(0)
            for points in (moved, source)
        )
        closing = ((LIDS_FROM - gap / before.clamp_min(1e-3)) / (LIDS_FROM - LIDS_TO)).clamp(0, 1)
        ends = moved[:, [corner, other]]
        radius = (ends[:, 1] - ends[:, 0]).norm(dim=-1).clamp_min(1e-3) / 2
        distance = (grid - ends.mean(1)[:, None, None]).norm(dim=-1) / radius[:, None, None]
        share = torch.maximum(share, (closing[:, None, None] * torch.exp(-((distance / LIDS_REACH) ** 4)))[:, None])
    return share


class Descriptor(nn.Module):
    """psi: window of target coefficients and the source's -> sigma.

    The window is standardised; temporal convolutions smooth the fitter's noise, the frame itself and its difference to the
    source enter beside them, because the flow to predict is a function of that difference. (PIRenderer gives the target
    alone: its source pose must then be read from the picture.)
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: VQIGConfig) -> None:
        super().__init__()
        features, dim = config.expression_dim + POSE_DIM, config.descriptor_dim
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.temporal = nn.Sequential(nn.Conv1d(features, dim, 3, padding=1), nn.SiLU(), nn.Conv1d(dim, dim, 3, padding=1), nn.SiLU())
        self.mlp = nn.Sequential(nn.Linear(dim + 2 * features, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def change(self, motion: Motion) -> Tensor:
        """Standardised difference (B, E + 6) of the frame's coefficients and the source's."""
        return (motion.window[:, motion.window.shape[1] // 2] - motion.source) / self.std

    def forward(self, motion: Motion) -> Tensor:
        """Motion of B frames -> sigma (B, descriptor_dim)."""
        window = (motion.window - self.mean) / self.std
        smooth = self.temporal(window.transpose(1, 2)).mean(-1)
        centre = window[:, window.shape[1] // 2]
        return self.mlp(torch.cat([smooth, centre, self.change(motion)], 1))


def keep_apart(points: Tensor, source: Tensor) -> Tensor:
    """Moved landmarks (B, 68, 2) in which no upper lid lies below the lower one and no lips cross; pairs that would meet half way.

    Coefficients of a closed and squinting eye ask for more than closed lids. Without this the warp turns inside out there and draws the
    eye a second time. It acts along v, and allows every pair the distance that it has in the source's landmarks (B, 68, 2).
    """
    upper, lower = map(list, zip(*GAP_PAIRS, strict=True))
    least = torch.minimum(points.new_tensor(LEAST_GAPS), source[:, lower, 1] - source[:, upper, 1])
    half = F.relu(least - (points[:, lower, 1] - points[:, upper, 1])) / 2
    shift = torch.zeros_like(points[..., 1])
    shift[:, upper], shift[:, lower] = -half, half
    return torch.stack([points[..., 0], points[..., 1] + shift], -1)


class PointMotion(nn.Module):
    """Where the source's landmarks go. Mouths open and lids close by a few pixels; a convolutional flow alone needs hours to find out which."""

    def __init__(self, config: VQIGConfig, hidden: int = 128) -> None:
        super().__init__()
        n_out = 2 * N_POINTS
        self.linear = zero_init(nn.Linear(config.expression_dim + POSE_DIM, n_out))
        self.mlp = nn.Sequential(nn.Linear(config.descriptor_dim + n_out, hidden), nn.SiLU(), zero_init(nn.Linear(hidden, n_out)))

    def forward(self, sigma: Tensor, change: Tensor, points: Tensor) -> Tensor:
        """Landmarks (B, 68, 2) of the frame from sigma, the standardised change of coefficients (B, E + 6) and the source's (B, 68, 2)."""
        flat = points.flatten(1)
        moved = self.linear(change) + self.mlp(torch.cat([sigma.to(flat.dtype), flat], 1))
        return keep_apart(points + moved.float().unflatten(1, (N_POINTS, 2)), points)


def head_prior(points: Tensor, grid: Tensor) -> Tensor:
    """Logits (B, 1, h, w), at most 4 in size, of belonging to a head whose landmarks (B, 68, 2) are known: an ellipse with room for hair.

    ``grid`` (1, h, w, 2) holds the places of the cells.
    """
    low, high = points.amin(1), points.amax(1)
    centre = (low + high) / 2 - HEAD_UP * (high - low) * points.new_tensor([0.0, 1.0])
    half = ((high - low) * points.new_tensor(HEAD_HALF_SIDES)).clamp_min(1e-3)
    apart = ((grid - centre[:, None, None]) / half[:, None, None]).square().sum(-1)
    return (HEAD_EDGE * (1 - apart)).clamp(-4, 4)[:, None]


class WarpNetwork(nn.Module):
    """W: flow from the source's features, modulated by sigma through AdaIN (the image level).

    The encoder sees only the source (its maps are kept per clip); the decoder is modulated per frame. The flow is the sum of
    an affine motion of the whole picture, read from sigma, of what the moved landmarks ask for beyond it around them, and of a
    dense field at half the resolution: lips part by two or three pixels of a 128 px crop, which a field at a quarter of the
    resolution cannot follow.
    """

    def __init__(self, config: VQIGConfig) -> None:
        super().__init__()
        w, dim = config.warp_width, config.descriptor_dim
        channels = [w, w * 3 // 2, w * 2]
        self.stem = conv3(48 + 2, w)
        self.enter = nn.ModuleList([ResBlock(w), nn.Sequential(conv3(w, channels[1], 2), ResBlock(channels[1])),
                                    nn.Sequential(conv3(channels[1], channels[2], 2), ResBlock(channels[2]))])  # fmt: skip
        self.n_blocks = config.warp_blocks
        self.blocks = nn.ModuleList(AdaINBlock(c, dim) for c in channels[::-1] for _ in range(config.warp_blocks))
        self.up = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in ((channels[2], channels[1]), (channels[1], channels[0])))
        self.norm = AdaIN(w, dim)
        self.has_head = config.head and config.points
        self.dense = zero_init(conv3(w, (3 if self.has_head else 2) * 2**2))
        self.affine = zero_init(nn.Linear(dim, 6))

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """Feature maps at 1/4, 1/8 and 1/16 of the source (B, 3, H, W)."""
        h = F.pixel_unshuffle(image * 2 - 1, 4)
        grid = identity_grid(h.shape[-2], h.shape[-1], h.device).permute(0, 3, 1, 2).expand(len(h), -1, -1, -1)
        h = self.stem(torch.cat([h, grid.to(h.dtype)], 1))
        maps = []
        for stage in self.enter:
            h = stage(h)
            maps.append(h)
        return tuple(maps)

    def forward(self, maps: tuple[Tensor, ...], sigma: Tensor, points: Tensor, moved: Tensor | None) -> Tensor:
        """Flow (B, 2, H / 2, W / 2) in half sides of the picture.

        Args:
            maps: of ``encode``; may have batch 1.
            sigma: (B, descriptor_dim).
            points: (B, 68, 2) landmarks of the source, from -1 to 1.
            moved: (B, 68, 2) where they are in the frame, or None.
        """
        b = len(sigma)
        h = maps[2].expand(b, -1, -1, -1)
        for level in range(3):
            if level:
                h = F.interpolate(self.up[level - 1](h), size=maps[2 - level].shape[-2:], mode="bilinear", align_corners=False)
                h = h + maps[2 - level]
            for block in self.blocks[level * self.n_blocks : (level + 1) * self.n_blocks]:
                h = block(h, sigma)
        dense = F.pixel_shuffle(self.dense(F.silu(self.norm(h, sigma))).float(), 2)
        grid = identity_grid(dense.shape[-2], dense.shape[-1], dense.device)
        matrix = self.affine(sigma).float().unflatten(1, (2, 3))
        ones = torch.cat([grid, torch.ones_like(grid[..., :1])], -1)
        whole = torch.einsum("bij,hwj->bihw", matrix, ones[0])
        if moved is None:
            return dense[:, :2] + whole
        with torch.autocast(dense.device.type, enabled=False):
            rigid = moved @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]
            motion = whole + spread_shift(dense.shape[-2], dense.shape[-1], moved, points - moved - rigid, POINT_RADII)
            if self.has_head:
                motion = motion * torch.sigmoid(dense[:, 2:] + head_prior(moved, grid))
            return dense[:, :2] + motion


class VQIG(nn.Module):
    """The generator. The codebook is held outside the module tree: it is frozen and saved by its own stage.

    Args:
        config: shape.
        codebook: frozen codebook.
    """

    code_scale: Tensor

    def __init__(self, config: VQIGConfig, codebook: Codebook) -> None:
        super().__init__()
        if any(parameter.requires_grad for parameter in codebook.parameters()):
            raise ValueError("codebook: must be frozen (Codebook.freeze) before a generator is built on it")
        self.config = config
        self._codebook = [codebook]
        dim, width, merge = codebook.config.dim, config.width, config.merge
        self.psi = Descriptor(config)
        self.warp = WarpNetwork(config) if config.warp else None
        self.point_motion = PointMotion(config) if config.warp and config.points else None
        self.ratio = ExpressionRatio(config.expression_dim, config.ratio_px) if self.point_motion is not None and config.ratio_px else None
        self.mouth = MouthLayer(config.mouth_px) if self.point_motion is not None and config.mouth_px else None
        self.encoder = Encoder(codebook.config)
        self.encoder.load_state_dict(codebook.encoder.state_dict())
        # Trained along, E_w unlearns to copy: under losses that average over what cannot be known it blurs the whole picture.
        self.encoder.requires_grad_(False)
        self.phi = SpatialModulation(dim, dim, width // 2) if config.phi else None
        self.merge = nn.Conv2d(dim, width, merge, merge)
        self.mhca = Attention(width, config.heads, context_dim=width) if config.mhca else None
        self.enter = AdaINBlock(width, config.descriptor_dim)
        self.transformer = nn.ModuleList(TransformerBlock(width, config.heads) for _ in range(config.layers))
        self.modulate = nn.ModuleList(AdaINBlock(width, config.descriptor_dim) for _ in range(max(config.layers - 1, 0)))
        self.split = (
            nn.Sequential(nn.Conv2d(width, width * merge**2 // 2, 1), nn.PixelShuffle(merge))
            if merge > 1
            else nn.Conv2d(width, width // 2, 1)
        )
        # Lips and lids are a token or two high: sigma must act at full token resolution as well.
        n_marked = MARKED_POINTS.stop - MARKED_POINTS.start if self.point_motion is not None else 0
        self.fine = conv3(width // 2 + 2 * dim + n_marked, width // 2)
        self.fine_blocks = nn.ModuleList(ModulatedBlock(width // 2, config.descriptor_dim) for _ in range(FINE_BLOCKS))
        self.last = zero_init(conv3(width // 2, dim))
        self.gate = zero_init(conv3(width // 2, 1)) if config.recolour else None
        # At half of the picture's resolution: outlines of hair and lips are finer than a token.
        self.blend_cells = max(codebook.config.downsample // 2, 1)
        self.blend = zero_init(conv3(width // 2, self.blend_cells**2)) if config.blend else None
        # Temperature of the look-up: squared distances are divided by a typical squared distance between neighbours.
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.register_buffer("code_scale", _neighbour_distance(codebook.quantizer.embedding))

    @property
    def codebook(self) -> Codebook:
        """The frozen codebook."""
        return self._codebook[0]

    def _positions(self, h: Tensor) -> Tensor:
        """Sine and cosine features (1, width, h, w) of the token's place; no weights, so any picture size works."""
        height, width = h.shape[-2:]
        grid = identity_grid(height, width, h.device)[0]
        n = self.config.width // 4
        frequency = torch.pi * 2.0 ** (torch.arange(n, device=h.device) * (4.0 / max(n - 1, 1)) - 1)
        angle = (grid[..., None] * frequency).flatten(2)
        return torch.cat([angle.sin(), angle.cos()], -1).permute(2, 0, 1)[None]

    def _tokens(self, z: Tensor) -> Tensor:
        """(B, D, h, w) -> merged tokens with their places (B, width, h / merge, w / merge)."""
        h = self.merge(z)
        return h + self._positions(h).to(h.dtype)

    def _source_keys(self, codes: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.mhca is None:
            return None
        return self.mhca.keys_values(self._tokens(codes).flatten(2).transpose(1, 2))

    def warp_source(self, image: Tensor, motion: Motion) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """All that the first phase trains.

        Returns:
            descriptor sigma (B, d); flow (B, 2, H / 2, W / 2); warped source (B, 3, H, W); moved landmarks (B, 68, 2) or None.
        """
        sigma = self.psi(motion)
        if self.warp is None:
            return sigma, image.new_zeros(len(image), 2, image.shape[-2] // 2, image.shape[-1] // 2), image, None
        moved = self._move_points(motion, sigma)
        flow = self.warp(self.warp.encode(image), sigma, motion.points, moved)
        return sigma, flow, self._change_skin(warp_image(image, flow), motion, moved), moved

    def _change_skin(self, warped: Tensor, motion: Motion, moved: Tensor | None) -> Tensor:
        if moved is None:
            return warped
        now = motion.window[:, motion.window.shape[1] // 2]
        if self.ratio is not None:
            warped = self.ratio(warped, now - motion.source, moved)
        if self.mouth is not None:
            warped = self.mouth(warped, motion.points, moved, now[:, self.config.expression_dim : self.config.expression_dim + 3])
        return warped

    def _move_points(self, motion: Motion, sigma: Tensor) -> Tensor | None:
        return None if self.point_motion is None else self.point_motion(sigma, self.psi.change(motion), motion.points)

    def refine(
        self,
        warped: Tensor,
        codes: Tensor,
        keys_values: tuple[Tensor, Tensor] | None,
        sigma: Tensor,
        moved: Tensor | None,
        source: Tensor | None = None,
    ) -> Refined:
        """What T makes of a warped picture; with the source's landmarks, closing lids are left to the codes.

        The last blocks see where lips, lids and brows have moved to: a warped mouth shows stretched lips, and sigma alone would have to
        teach them in which tokens they part. No gradient flows through E_w and the landmarks into the warp, which has losses of its own.
        """
        with torch.no_grad():
            z_w = self.encoder(warped)
        codes = codes.to(z_w.dtype).expand(len(z_w), -1, -1, -1)
        z_f = self.phi(z_w, codes) if self.phi is not None else z_w
        h = self.enter(self._tokens(z_f), sigma)
        size = h.shape[-2:]
        for index, block in enumerate(self.transformer):
            if index:
                h = self.modulate[index - 1](h, sigma)
            tokens = h.flatten(2).transpose(1, 2)
            if index == 0 and self.mhca is not None and keys_values is not None:
                tokens = self.mhca(tokens, tuple(part.expand(len(tokens), -1, -1, -1) for part in keys_values))
            h = block(tokens).transpose(1, 2).unflatten(2, size)
        parts = [self.split(h), z_f, codes]
        if moved is not None:
            height, width = z_f.shape[-2:]
            rows, columns = gaussian_sides(moved[:, MARKED_POINTS].detach(), height, width, MARK_RADIUS * 2 / width)
            parts.append((rows[..., :, None] * columns[..., None, :]).to(z_f.dtype))
        h = self.fine(torch.cat(parts, 1).contiguous(memory_format=torch.channels_last))
        for fine_block in self.fine_blocks:
            h = fine_block(h, sigma)
        h = F.silu(h)
        change = self.last(h)
        gate = torch.sigmoid(self.gate(h).float()) if self.gate is not None else None
        blend = torch.sigmoid(F.pixel_shuffle(self.blend(h).float(), self.blend_cells)) if self.blend is not None else None
        if blend is not None and moved is not None and source is not None:
            with torch.autocast(blend.device.type, enabled=False):
                blend = blend * (1 - closing_lids(source.float(), moved.detach().float(), (blend.shape[-2], blend.shape[-1])))
        return Refined(z_f.float() + change.float(), gate, blend)

    def code_logits(self, vectors: Tensor) -> Tensor:
        """Logits (N, K) of the codes for vectors (N, D).

        Minus the squared distance of vector and code over a learned temperature; the vector's own square, equal for all codes,
        is left out because a softmax does not see it.
        """
        embedding = self.codebook.quantizer.embedding
        scale = 1 / (self.code_scale * self.log_temperature.exp())
        with torch.autocast(vectors.device.type, enabled=False):
            return torch.addmm(-scale * embedding.square().sum(1), vectors.float() * (2 * scale), embedding.t())

    def decode(self, refined: Refined, warped: Tensor) -> Tensor:
        """Frame (B, 3, H, W), not clamped: nearest codes (straight-through gradient) or the vectors themselves, through D_h."""
        vectors = refined.vectors
        if self.config.codes:
            nearest = self.codebook.quantizer.lookup(self.codebook.quantizer.nearest(vectors.permute(0, 2, 3, 1)))
            vectors = vectors + (nearest - vectors).detach()
        frame = self.codebook.decode(vectors)
        if refined.gate is not None:
            frame = recolour(frame, warped, refined.gate)
        if refined.blend is not None:
            mask = F.interpolate(refined.blend, size=frame.shape[-2:], mode="bilinear", align_corners=False)
            frame = torch.lerp(frame.float(), warped.float(), mask)
        return frame

    def forward(self, image: Tensor, motion: Motion, *, phase: str = "image") -> Output:
        """Training pass.

        Args:
            image: (B, 3, H, W) sources in [0, 1].
            motion: of B frames.
            phase: "warp" stops at I_w, "codes" at the vectors, "image" decodes. Behind phase "warp" the warp network and psi, where they
                were trained, stay as they are: T learns faster from pictures that do not change, and a step costs less.

        Returns:
            ``warped`` and ``flow`` always; ``points`` (moved landmarks) with a point motion; ``vectors`` from phase "codes" on;
            ``image`` in phase "image".
        """
        with nullcontext() if phase == "warp" or self.warp is None else torch.no_grad():
            sigma, flow, warped, moved = self.warp_source(image, motion)
        if phase == "warp":
            return Output(None, warped, flow, None, moved)
        with torch.no_grad():
            codes = self.codebook.encode(image).values
        refined = self.refine(warped, codes, self._source_keys(codes), sigma, moved, motion.points)
        return Output(self.decode(refined, warped) if phase == "image" else None, warped, flow, refined.vectors, moved)

    @torch.inference_mode()
    def prepare_source(self, image: Tensor, beta: Tensor, pose: Tensor, landmarks_px: Tensor, *, precision: str = "bf16") -> SourceState:
        """Everything that depends on the source alone.

        Args:
            image: (3, H, W) or (1, 3, H, W) in [0, 1].
            beta: (E,) fitted expression of the picture.
            pose: (6,) fitted pose of the picture [rad, cm].
            landmarks_px: (68, 2) landmarks of the picture [px].
            precision: "bf16" or "fp32".

        Raises:
            ShapeError, ValueError: wrong shapes or values outside [0, 1].
        """
        image = image[None] if image.ndim == 3 else image
        check_image("image", image)
        check_shape("beta", beta, (self.config.expression_dim,))
        check_shape("pose", pose, (POSE_DIM,))
        check_shape("landmarks_px", landmarks_px, (N_POINTS, 2))
        points = unit_points(landmarks_px.float(), image.shape[-1])[None]
        with autocast(image.device, precision):
            codes = self.codebook.encode(image).values
            maps = self.warp.encode(image) if self.warp is not None else ()
            keys_values = self._source_keys(codes)
        return SourceState(image, torch.cat([beta, pose]).float()[None], points, codes, maps, keys_values)

    @torch.inference_mode()
    def render(self, source: SourceState, beta: Tensor, pose: Tensor, *, precision: str = "bf16") -> Tensor:
        """Frames of one batch of windows.

        Args:
            source: from ``prepare_source``.
            beta: (B, 2 w + 1, E) expression windows.
            pose: (B, 2 w + 1, 6) pose windows [rad, cm].
            precision: "bf16" or "fp32".

        Returns:
            (B, 3, H, W) float32 in [0, 1].
        """
        reach = 2 * self.config.window + 1
        check_shape("beta", beta, (None, reach, self.config.expression_dim))
        check_shape("pose", pose, (len(beta), reach, POSE_DIM))
        coefficients, points = source.coefficients.expand(len(beta), -1), source.points.expand(len(beta), -1, -1)
        motion = Motion(torch.cat([beta, pose], -1).float(), coefficients, points)
        image = source.image.expand(len(beta), -1, -1, -1)
        with autocast(image.device, precision):
            sigma = self.psi(motion)
            warped, moved = image, None
            if self.warp is not None:
                moved = self._move_points(motion, sigma)
                warped = warp_image(image, self.warp(source.warp_maps, sigma, points, moved))
                warped = self._change_skin(warped, motion, moved)
            warped = warped.contiguous(memory_format=torch.channels_last)
            refined = self.refine(warped, source.codes, source.keys_values, sigma, moved, points)
            frames = self.decode(refined, warped)
        return frames.float().clamp(0, 1)

    def render_clip(self, source: SourceState, beta: Tensor, pose: Tensor, *, batch_size: int = 16, precision: str = "bf16") -> Tensor:
        """Frames of a whole clip.

        Every batch has the same size (the last one is filled up and cut), so that a frame does not depend on where a clip or a
        chunk ends.

        Args:
            source: from ``prepare_source``.
            beta: (T, E) expression.
            pose: (T, 6) pose [rad, cm].
            batch_size: frames rendered together; changes speed and memory only.
            precision: "bf16" or "fp32".

        Returns:
            (T, H, W, 3) uint8 RGB.
        """
        windows = make_windows(torch.cat([beta, pose], 1).float(), self.config.window)
        frames = []
        for start in range(0, len(windows), batch_size):
            part = windows[start : start + batch_size]
            full = torch.cat([part, part[-1:].expand(batch_size - len(part), -1, -1)]) if len(part) < batch_size else part
            image = self.render(
                source, full[..., : self.config.expression_dim], full[..., self.config.expression_dim :], precision=precision
            )
            frames.append((image[: len(part)] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
        return torch.cat(frames)


def _neighbour_distance(embedding: Tensor) -> Tensor:
    """Median squared distance of a code to its nearest other code (K, D) -> scalar > 0."""
    distance = torch.cdist(embedding, embedding).square()
    distance.fill_diagonal_(torch.inf)
    return distance.amin(1).median().clamp_min(1e-4)


def save_vqig(model: VQIG) -> dict[str, Any]:
    """Payload for ``torch.save``: configuration, state and the hash of the codebook it was trained on."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return {"config": asdict(model.config), "state": state, "codebook_sha256": state_sha256(model.codebook.state_dict())}


def load_vqig(payload: dict[str, Any], codebook: Codebook) -> VQIG:
    """Generator of a payload made by ``save_vqig``, in evaluation mode.

    Raises:
        ValueError: ``codebook`` is not the one the generator was trained on.
    """
    found = state_sha256(codebook.state_dict())
    if found != payload["codebook_sha256"]:
        raise ValueError(f"codebook: the generator was trained on {payload['codebook_sha256'][:12]}, this one is {found[:12]}")
    model = VQIG(VQIGConfig(**payload["config"]), codebook)
    model.load_state_dict(payload["state"])
    model.requires_grad_(False)
    return channels_last(model).eval()
