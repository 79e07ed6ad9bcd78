"""Build the loss of `optimize` at one scale from the options, the photograph and the styles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..device import Compute
from ..errors import OptionError
from ..image.picture import opaque, visible
from ..image.resize import blur, resize
from ..models.prepare import prepared
from ..models.vgg import STYLE_LAYERS, VGG
from ..options import STYLE_LAYER_WEIGHTS, BlendOptions, OptimizeOptions, named_weights
from ..style.extra import quantiles, sample_positions
from ..style.neighbours import (
    FEW_COLUMNS,
    MOST_COLUMNS,
    NEIGHBOUR_LAYERS,
    Columns,
    LayerNeighbourTerm,
    Neighbours,
    NeighbourTerm,
)
from ..style.plain import (
    LONG_SIDE,
    PLAIN,
    calmness,
    plain_weight,
    resized_plainness,
    style_weights,
)
from ..style.target import StyleTarget, blend, check_shape, fit_style, measure, shares_of
from ..style.terms import (
    HistogramTerm,
    LaplacianTerm,
    MomentsTerm,
    PerceptualLoss,
    RimTerm,
    SimilarityTerm,
    TemporalTerm,
    Term,
    VariationTerm,
    View,
    divide,
    inside,
)
from .memory import Tiling
from .protocol import Region
from .schedule import Scale
from .tiled_loss import TiledLoss, TiledView

SIMILARITY_LAYERS = ("relu3_1", "relu4_1")
"""Layers of the self-similarity loss: the middle of the network, as in STROTSS."""
WRAP_MARGIN = 32
"""Pixels of the opposite side with which a picture that tiles the plane is padded."""
MORE_STYLE = 1 / 256
"""Base of the factor on the content weight at strengths beyond 1; its exponent is the excess. 1/16 at 1.5."""

Style = Tensor | StyleTarget


@dataclass(frozen=True, eq=False)
class Before:
    """The painting of a film's last frame, which the next painting continues.

    Parameters
    ----------
    moved : Tensor
        (1, 3, H, W), sRGB, [0, 1]: the painting, moved to where its parts are now.
    trust : Tensor
        (1, 1, H, W), [0, 1]: how far the motion can be trusted.
    start : Tensor
        (1, 3, H, W), sRGB, [0, 1], the picture to start from.
    weight : float
        Weight of the temporal loss.
    """

    moved: Tensor
    trust: Tensor
    start: Tensor
    weight: float


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that the loss of a painting depends on, at all scales.

    Parameters
    ----------
    encoder, compute
        The encoder whose features are matched, and the device and precision.
    options : OptimizeOptions
        The weights and the other options.
    content : Tensor
        (1, 3 or 4, H, W), the photograph.
    size : (int, int)
        Height and width of the painting. The options' pixels refer to this size.
    styles : sequence of Tensor or StyleTarget
        The styles outside the regions, with their palettes already matched.
    regions : sequence of Region
        Parts with their own styles.
    mask : Tensor, optional
        (1, 1, H, W), [0, 1], where to paint.
    wrap : bool
        Whether the painting tiles the plane.
    checkpointing : bool
        Save memory (`VGG.look`).
    tiling : Tiling, optional
        How the scales that do not fit into memory are computed in tiles.
    before : Before, optional
        The painting of the last frame, if this is a frame of a film.
    """

    encoder: VGG
    compute: Compute
    options: OptimizeOptions
    content: Tensor
    size: tuple[int, int]
    styles: Sequence[Style]
    regions: Sequence[Region] = ()
    mask: Tensor | None = None
    wrap: bool = False
    checkpointing: bool = False
    tiling: Tiling | None = None
    before: Before | None = None

    @property
    def photo(self) -> Tensor:
        """The photograph as it is painted (1, 3 or 4, H, W): prepared, at the painting's size, if the options say so.

        At a strength below 1, it is prepared less. One that is painted in tiles is not kept.
        """
        return self._prepared() if self.tiling is not None else self._kept

    @cached_property
    def _kept(self) -> Tensor:
        return self._prepared()

    def _prepared(self) -> Tensor:
        o, share = self.options, min(self.options.strength, 1.0)
        if not share or not (o.denoise or o.mottle):
            return self.content
        whole = resize(self.content, self.size)
        shown, found = visible(whole), prepared(opaque(whole), share * o.denoise, share * o.mottle)
        return found if shown is None else torch.cat([found, shown], 1)

    @cached_property
    def _calm(self) -> dict[int, float | None]:
        """The calmness of each style, by its id, if it is known."""
        styles = [*self.styles, *(r.style for r in self.regions)]
        return {id(s): calmness(s) if isinstance(s, Tensor) else s.calm for s in styles}

    def plain_weight(self, styles: Sequence[tuple[float, float, Style]]) -> float:
        """Return the weight of a part's styles in plain areas: the options', or the mean of what suits each style.

        Parameters
        ----------
        styles : sequence of (float, float, Style)
            Share, with a sum of 1, size and style.
        """
        if self.options.plain_weight is not None:
            return self.options.plain_weight
        return sum(share * plain_weight(self._calm[id(style)]) for share, _, style in styles)

    def tiles(self, scale: Scale) -> Tiling | None:
        """Return how a scale is computed in tiles, or None if it is computed in one piece."""
        found = self.tiling
        return None if found is None or scale.size[0] * scale.size[1] <= found.whole else found


def build_loss(problem: Problem, scale: Scale, x: Tensor) -> PerceptualLoss:
    """Return the loss at a scale.

    Parameters
    ----------
    problem : Problem
        What to paint.
    scale : Scale
        The scale, for its size and whether it is the refinement.
    x : Tensor
        (1, 3, H, W), the picture that the scale starts from. The `nn` loss matches it.
    """
    p, o, settings = problem, problem.options, problem.options.settings
    encoder, compute = p.encoder, p.compute
    tiles, layers = p.tiles(scale), layer_shares(o, encoder)
    photo = p.photo
    whole = resize(photo, scale.size)
    content, shown = opaque(whole).to(compute.device), visible(whole)
    if tiles is None:
        content = compute.picture(content)
        view = View(encoder, compute, wrap=WRAP_MARGIN if p.wrap else 0, checkpointing=p.checkpointing)
    else:
        view = TiledView(encoder, compute, scale.size, measured_layers(o, encoder), tiles.side, tiles.content_on_disk)
    style_view = View(encoder, compute) if p.wrap else view  # a style does not tile
    seen = blur(content, o.content_blur * max(scale.size) / max(p.size))
    mask = None
    if p.mask is not None:
        mask = blur(resize(p.mask, scale.size), o.mask_feather * max(scale.size) / max(p.size)).to(content.device)
    where = mask
    if shown is not None:  # transparent pixels have no style
        shown = shown.to(content.device)
        where = shown if mask is None else mask * shown
    shares, scales = style_shares(o, len(p.styles)), style_scales(o, len(p.styles), max(p.size))
    parts = divide([resize(r.mask, scale.size).to(content.device) for r in p.regions], where)
    own = list(zip(shares, scales, p.styles, strict=True))
    several = [*([(1.0, scales[0], r.style)] for r in p.regions), own]
    # Each part of the picture with its styles: share, size as a multiple of the painting's, and style.
    painted = [(part, styles) for part, styles in zip(parts, several, strict=True) if part.share]
    toward = min(o.strength, 1.0)

    def size_of(style_scale: float) -> float:
        """Return the long side at which to measure a style, in pixels."""
        return max(scale.size) * style_scale

    def picture_of(style: Style, style_scale: float) -> Tensor:
        assert isinstance(style, Tensor), "check_styles refuses measurements here"
        return fit_style(style, round(size_of(style_scale)), encoder, STYLE_LAYERS)

    def moments_of(style: Style, style_scale: float) -> dict[str, Tensor]:
        if isinstance(style, StyleTarget):
            found = style.at(size_of(style_scale))
        else:
            found, _ = measure(style, encoder, compute, round(size_of(style_scale)), tuple(layers))
        return {k: found[k].to(compute.device) for k in layers}

    def moments_term(kind: str) -> Term:
        weighted = []
        for part, several in painted:
            weight = p.plain_weight(several)
            plain = None if weight == 1 else style_weights(opaque(photo), scale.size, weight).to(content.device)
            weighted.append(part if plain is None else part.weighted(plain))
        wanted = [blend([moments_of(s, z) for _, z, s in styles], [w for w, _, _ in styles]) for _, styles in painted]
        if toward < 1:  # interpolate from the photograph's own moments
            start = view.moments(content, tuple(layers), [part.mask for part in weighted])
            for mine, moments in zip(start, wanted, strict=True):
                for k, m in mine.items():
                    moments[k] = torch.lerp(m, moments[k], toward)
        targets = list(zip(weighted, wanted, strict=True))
        return MomentsTerm("gram" if kind == "gram" else "moments", encoder, targets, layers)

    def neighbours_of(most: int) -> tuple[Columns, list[Neighbours], Tensor, Tensor | None, float]:
        """Return the arguments of a term of neighbours that searches at most that many columns of each style."""
        chosen: Mapping[str, float] = layers if o.layers else dict.fromkeys(NEIGHBOUR_LAYERS, 1.0)
        columns, others = Columns(view, chosen), Columns(style_view, chosen)
        styles = [
            Neighbours(part, share, others.style(picture_of(style, z), o.seed, most))
            for part, several in painted
            for share, z, style in several
        ]
        return columns, styles, compute.picture(x), content if toward < 1 else None, toward

    def nn_term() -> Term:
        if scale.refine:
            return LayerNeighbourTerm(*neighbours_of(FEW_COLUMNS))
        return NeighbourTerm(*neighbours_of(MOST_COLUMNS))

    def histogram_term() -> Term:
        mine = view.features(content, tuple(layers)) if toward < 1 else {}
        targets = []
        for part, styles in painted:
            found: dict[str, Tensor] = {}
            for share, z, style in styles:
                picture = picture_of(style, z)
                seen_of = visible(picture)
                for k, f in style_view.features(picture, tuple(layers)).items():
                    f = f if seen_of is None else inside(f, view.weights(seen_of, f))
                    found[k] = found.get(k, 0) + share * quantiles(f)
            for k, f in mine.items():
                part_of = f if part.mask is None else inside(f, view.weights(part.mask, f))
                found[k] = torch.lerp(quantiles(part_of), found[k], toward)
            targets.append((part, found))
        return HistogramTerm(targets, layers)

    terms: dict[str, tuple[float, Term]] = {}
    if settings.content_weight:
        chosen = content_shares(o, encoder)
        # The loss is relative to the whole photo's spread, but only the painted part can differ.
        weight = settings.content_weight * MORE_STYLE ** max(0.0, o.strength - 1)
        if mask is not None and where is not None:
            weight /= max(float(where.mean() / (1.0 if shown is None else shown.mean())), 1e-6)
        terms["content"] = weight, view.content(seen, chosen, shown)
    if settings.style_weight:
        losses = named_weights(o.style_loss, "--style-loss")
        for name, weight in losses.items():
            term = nn_term() if name == "nn" else moments_term(name)
            terms["style" if len(losses) == 1 else name] = settings.style_weight * weight, term
        if o.neighbour_weight:
            term = NeighbourTerm(*neighbours_of(FEW_COLUMNS), "euclidean")
            terms["neighbours"] = settings.style_weight * o.neighbour_weight, term
    if o.histogram_weight:
        terms["histogram"] = o.histogram_weight, histogram_term()
    if o.laplacian_weight:
        terms["laplacian"] = o.laplacian_weight, LaplacianTerm(seen)
    if o.similarity_weight:
        features = view.features(seen, SIMILARITY_LAYERS)
        positions = {k: sample_positions((f.shape[2], f.shape[3]), o.seed) for k, f in features.items()}
        terms["similarity"] = o.similarity_weight, SimilarityTerm(encoder, features, positions)
    if o.rim_weight and toward and min(scale.size) >= PLAIN:
        terms["rim"] = o.rim_weight * toward, RimTerm(seen.to(x), [part.mask for part, _ in painted])
    if o.tv_weight and toward:
        terms["tv"] = o.tv_weight * toward, VariationTerm(p.wrap)
    if p.before is not None:
        moved = resize(p.before.moved, scale.size).to(content.device)
        trust = resize(p.before.trust, scale.size).to(content.device)
        terms["temporal"] = p.before.weight, TemporalTerm(moved, trust)
    over = None
    if mask is not None:  # outside of it, the photograph stays as it is
        kept = opaque(resize(p.content, scale.size)).to(compute.device)
        over = (kept if tiles is not None else compute.picture(kept)), mask
    return TiledLoss(view, terms, over) if isinstance(view, TiledView) else PerceptualLoss(view, terms, over)


def build_canvas(problem: Problem, scale: Scale) -> Callable[[Tensor], Tensor]:
    """Return a function that makes a painting (1, 3, H, W) of the picture that is optimised at a scale, differentiably.

    At all scales but the last, it blurs what is plain in the photograph. The fine detail of a coarse scale would be the
    large pattern of the painting: combs, specks. That of the last scale is its strokes.
    """
    options, toward = problem.options, min(problem.options.strength, 1.0)
    if not options.plain_blur or not toward or scale.size == problem.size:
        return lambda picture: picture
    # Not up to the edges of objects, which would be blurred.
    plain = resized_plainness(opaque(problem.photo), scale.size, to_edges=False).to(problem.compute.device)
    deviation = options.plain_blur * min(1.0, max(problem.size) / LONG_SIDE)
    return lambda picture: torch.lerp(picture, blur(picture, deviation), toward * plain)


def measured_layers(options: OptimizeOptions, encoder: VGG) -> tuple[str, ...]:
    """Return the layers that the style and the content losses measure."""
    return (*layer_shares(options, encoder), *content_shares(options, encoder))


def searches_neighbours(options: OptimizeOptions) -> bool:
    """Return whether a loss searches the style's picture for neighbours."""
    named = named_weights(options.style_loss, "--style-loss")
    return bool(options.settings.style_weight) and bool("nn" in named or options.neighbour_weight)


def check_tiles(options: OptimizeOptions) -> str:
    """Return why the loss cannot be computed in tiles, or "" if it can."""
    if "nn" in named_weights(options.style_loss, "--style-loss") and options.settings.style_weight:
        return "--style-loss nn compares the whole picture and is not painted in tiles; moments and gram are"
    for name in ("neighbour", "histogram", "similarity"):
        if getattr(options, f"{name}_weight"):
            return f"--{name}-weight compares the whole picture and is not painted in tiles; leave it out"
    return ""


def check_styles(styles: Sequence[Style], options: OptimizeOptions, encoder: VGG) -> None:
    """Raise StyleError if a style does not fit the encoder, or OptionError if measurements do not fit the options."""
    needs = [f"--style-loss {k}" for k in named_weights(options.style_loss, "--style-loss") if k == "nn"]
    needs += ["--neighbour-weight"] if options.neighbour_weight else []
    needs += ["--histogram-weight"] if options.histogram_weight else []
    needs += ["--match-palette"] if options.match_palette != "none" else []
    needs += ["--layers"] if set(layer_shares(options, encoder)) - set(STYLE_LAYERS) else []
    for style in styles:
        if isinstance(style, StyleTarget):
            style.check(encoder)
            if needs:
                raise OptionError(
                    f"{needs[0]} needs the style's picture, and only its measurements were given; give the picture file"
                )
        else:
            check_shape(style, encoder)


def layer_shares(options: OptimizeOptions, encoder: VGG) -> dict[str, float]:
    """Return each style layer's share of the style loss. Raises OptionError for an unknown layer."""
    return _normalised(named_weights(options.layers or STYLE_LAYER_WEIGHTS, "--layers"), encoder)


def content_shares(options: OptimizeOptions, encoder: VGG) -> dict[str, float]:
    """Return each content layer's share of the content loss. Raises OptionError for an unknown layer."""
    return _normalised(named_weights(options.content_layers, "--content-layers"), encoder)


def _normalised(weights: Mapping[str, float], encoder: VGG) -> dict[str, float]:
    encoder.check_layers(weights)
    return {k: w / sum(weights.values()) for k, w in weights.items()}


def style_shares(options: BlendOptions, styles: int) -> tuple[float, ...]:
    """Return each style's share, with a sum of 1. Raises OptionError if the number of weights differs from `styles`."""
    return shares_of(options.style_weights or (1.0,) * styles, styles)


def style_scales(options: BlendOptions, styles: int, long_side: float) -> tuple[float, ...]:
    """Return each style's size relative to the painting.

    Parameters
    ----------
    styles : int
        The number of styles.
    long_side : float
        The painting's long side in pixels.

    Raises
    ------
    OptionError
        If the number of sizes of strokes differs from the styles'.
    """
    scales = options.style_scales(long_side)
    if len(scales) not in (1, styles):
        option = "--style-scale" if options.stroke_px == () else "--stroke-px"
        raise OptionError(f"{len(scales)} {option} for {styles} styles; give one, or one for each")
    return scales if len(scales) == styles else scales * styles


def check_blend(options: BlendOptions, styles: int) -> None:
    """Raise OptionError if the numbers of weights or strokes differ from the number of styles."""
    style_shares(options, styles)
    style_scales(options, styles, 1)
