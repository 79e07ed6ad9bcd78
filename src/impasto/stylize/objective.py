"""From options, photo and styles to the loss of one scale."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..device import Compute
from ..errors import OptionError
from ..image.color import match_palette
from ..image.resize import blur, resize
from ..models.vgg import STYLE_LAYERS, VGG
from ..options import OptimizeOptions, named_weights
from ..style.extra import quantiles, sample_positions
from ..style.neighbour_terms import (
    MOST_COLUMNS,
    MOST_COLUMNS_EACH_STEP,
    NEIGHBOUR_LAYERS,
    Columns,
    LayerNeighbourTerm,
    Neighbours,
    NeighbourTerm,
)
from ..style.perceptual import PerceptualLoss, Term, View
from ..style.statistics import raw_moments
from ..style.target import StyleTarget, blend, fit_style, shares_of
from ..style.terms import (
    ContentTerm,
    HistogramTerm,
    LaplacianTerm,
    MomentsTerm,
    Part,
    SimilarityTerm,
    VariationTerm,
    divide,
    inside,
)
from .protocol import Region
from .schedule import Scale

SIMILARITY_LAYERS = ("relu3_1", "relu4_1")
"""Where the self-similarity loss is taken: the middle of the network, as in STROTSS."""
MARGIN, WRAP_MARGIN = 8, 32
"""Pixels by which the encoder sees the painting continued, by reflection, and by its other side where it shall tile."""

Style = Tensor | StyleTarget


def check_styles(styles: Sequence[Style], options: OptimizeOptions, encoder: VGG) -> None:
    """StyleError or OptionError if measured styles do not fit the encoder or the options."""
    needs = [f"--style-loss {k}" for k in named_weights(options.style_loss, "--style-loss") if k == "nn"]
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


def layer_shares(options: OptimizeOptions, encoder: VGG) -> dict[str, float]:
    """Style layer -> its share of the style loss; OptionError for an unknown layer."""
    weights: dict[str, float] = dict.fromkeys(STYLE_LAYERS, 1.0)
    if options.layers:
        weights = named_weights(options.layers, "--layers")
    return normalised(weights, encoder)


def content_shares(options: OptimizeOptions, encoder: VGG) -> dict[str, float]:
    """Content layer -> its share of the content loss; OptionError for an unknown layer."""
    return normalised(named_weights(options.content_layers, "--content-layers"), encoder)


def normalised(weights: Mapping[str, float], encoder: VGG) -> dict[str, float]:
    """The layers' weights, made to sum to one."""
    encoder.check_layers(weights)
    return {k: w / sum(weights.values()) for k, w in weights.items()}


def shares_and_scales(options: OptimizeOptions, styles: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The share of each style and the size of its strokes; OptionError if there are not as many as styles."""
    shares = shares_of(options.style_weights or (1.0,) * styles, styles)
    scales = options.style_scale if isinstance(options.style_scale, tuple) else (options.style_scale,)
    if len(scales) not in (1, styles):
        raise OptionError(f"{len(scales)} --style-scale for {styles} styles; give one, or one for each")
    return shares, scales if len(scales) == styles else scales * styles


class Objective:
    """What a painting is optimised for, at any scale.

    Parameters
    ----------
    encoder, compute
        Whose features, and where.
    options : OptimizeOptions
        The weights and all else.
    content : Tensor
        (1, 3, H, W), the photograph.
    size : (int, int)
        Height and width of the painting, which the options' pixels mean.
    styles : sequence of Tensor or StyleTarget
        The styles of what is in no region.
    regions : sequence of Region
        Parts with styles of their own.
    mask : Tensor, optional
        (1, 1, H, W), [0, 1], where it is painted at all.
    wrap : bool
        Whether the painting shall tile the plane.
    checkpointing : bool
        Save memory (`VGG.visit`).
    """

    def __init__(
        self,
        encoder: VGG,
        compute: Compute,
        options: OptimizeOptions,
        content: Tensor,
        size: tuple[int, int],
        styles: Sequence[Style],
        regions: Sequence[Region] = (),
        mask: Tensor | None = None,
        *,
        wrap: bool = False,
        checkpointing: bool = False,
    ):
        self.encoder, self.compute, self.options = encoder, compute, options
        self.content, self.size, self.regions, self.mask = content, size, regions, mask
        self.shares, self.style_scales = shares_and_scales(options, len(styles))
        self.styles = [self._matched(s) for s in styles]
        self.region_styles = [self._matched(r.painted) for r in regions]
        self.view = View(
            encoder,
            compute,
            WRAP_MARGIN if wrap else MARGIN,
            wrap=wrap,
            checkpointing=checkpointing,
            compiled=options.compile,
        )
        self.style_view = View(encoder, compute, MARGIN) if wrap else self.view  # a style does not tile

    def _matched(self, style: Style) -> Style:
        """The style, in the content's palette if the options ask for that."""
        method, strength = self.options.match_palette, self.options.palette_strength
        if method == "none" or isinstance(style, StyleTarget):
            return style
        return match_palette(style, self.content, method, strength)

    def at(self, scale: Scale, x: Tensor) -> PerceptualLoss:
        """The loss at a scale.

        Parameters
        ----------
        scale : Scale
            Its size and whether it is the refinement.
        x : Tensor
            (1, 3, H, W), what the scale begins with.
        """
        return PerceptualLoss(self.view, _Terms(self, scale, x).all())

    def feathered(self, size: tuple[int, int]) -> Tensor | None:
        """The mask of what is painted, at a scale of that size, its edge softened; None if all is."""
        if self.mask is None:
            return None
        softness = self.options.mask_feather * max(size) / max(self.size)
        return blur(resize(self.mask, size), softness).to(self.compute.device)


class _Terms:
    """The terms of an objective at one scale."""

    def __init__(self, objective: Objective, scale: Scale, x: Tensor):
        self.of, self.scale, self.x = objective, scale, objective.compute.picture(x)
        self.options, self.view, self.encoder = objective.options, objective.view, objective.encoder
        content = objective.compute.picture(resize(objective.content, scale.size))
        self.content = content
        self.seen = blur(content, self.options.content_blur * max(scale.size) / max(objective.size))
        mask = objective.feathered(scale.size)
        masks = [resize(r.mask, scale.size).to(content.device) for r in objective.regions]
        self.parts = divide(masks, mask)
        self.painted = 1.0 if mask is None else max(float(mask.mean()), 1e-6)

    def all(self) -> dict[str, tuple[float, Term]]:
        o, settings = self.options, self.options.settings
        found: dict[str, tuple[float, Term]] = {}
        if settings.content_weight:
            shares = content_shares(o, self.encoder)
            features = self.view.features(self.seen, list(shares))
            # The loss is over the whole photo's spread; where only a part is painted, only that can differ.
            found["content"] = settings.content_weight / self.painted, ContentTerm(self.encoder, features, shares)
        if settings.style_weight:
            losses = named_weights(o.style_loss, "--style-loss")
            for name, weight in losses.items():
                title = "style" if len(losses) == 1 else name
                found[title] = settings.style_weight * weight, self.style_term(name)
        if o.histogram_weight:
            found["histogram"] = o.histogram_weight, self.histogram_term()
        if o.laplacian_weight:
            found["laplacian"] = o.laplacian_weight, LaplacianTerm(self.seen)
        if o.similarity_weight:
            features = self.view.features(self.seen, SIMILARITY_LAYERS)
            positions = {k: sample_positions((f.shape[2], f.shape[3]), o.seed) for k, f in features.items()}
            found["similarity"] = o.similarity_weight, SimilarityTerm(self.encoder, features, positions)
        if o.tv_weight and o.strength:
            found["tv"] = o.tv_weight * o.strength, VariationTerm(self.view.wrap)
        return found

    def each_part(self) -> list[tuple[Part, list[tuple[float, float, Style]]]]:
        """Every part of the picture with its styles: share, size as a multiple of the painting's, and style."""
        own = list(zip(self.of.shares, self.of.style_scales, self.of.styles, strict=True))
        several = [[(1.0, self.of.style_scales[0], s)] for s in self.of.region_styles]
        return [(p, s) for p, s in zip(self.parts, [*several, own], strict=True) if p.share]

    def size_of(self, style_scale: float) -> float:
        """Long side, in pixels, that a style is looked at."""
        return max(self.scale.size) * style_scale

    def style_term(self, name: str) -> Term:
        if name == "nn":
            return self.neighbour_term()
        shares = layer_shares(self.options, self.encoder)
        parts = []
        for part, styles in self.each_part():
            found = [self.moments_of(style, self.size_of(scale), tuple(shares)) for _, scale, style in styles]
            parts.append((part, blend(found, [s for s, _, _ in styles])))
        if self.options.strength < 1:
            parts = [(p, self.weakened(p, m, tuple(shares))) for p, m in parts]
        return MomentsTerm("gram" if name == "gram" else "moments", self.encoder, parts, shares)

    def moments_of(self, style: Style, size: float, layers: Sequence[str]) -> dict[str, Tensor]:
        if not isinstance(style, StyleTarget):
            style = StyleTarget.of(style, self.encoder, self.of.compute, (round(size),), layers)
        found = style.at(size)
        return {k: found[k].to(self.of.compute.device) for k in layers}

    def weakened(self, part: Part, moments: Mapping[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
        """The moments on the way from the photo's own to the style's, as far as the strength says."""
        own = self.view.features(self.content, layers)
        masks = {k: None if part.mask is None else self.view.weights(part.mask, f) for k, f in own.items()}
        return {k: torch.lerp(raw_moments(own[k], masks[k]), m, self.options.strength) for k, m in moments.items()}

    def picture_of(self, style: Style, size: float) -> Tensor:
        assert isinstance(style, Tensor), "check_styles has let measurements through"
        return fit_style(style, round(size), self.encoder, STYLE_LAYERS)

    def histogram_term(self) -> Term:
        shares = layer_shares(self.options, self.encoder)
        own = self.view.features(self.content, list(shares)) if self.options.strength < 1 else {}
        parts = []
        for part, styles in self.each_part():
            found: dict[str, Tensor] = {}
            for share, scale, style in styles:
                features = self.of.style_view.features(self.picture_of(style, self.size_of(scale)), list(shares))
                for k, f in features.items():
                    found[k] = found.get(k, 0) + share * quantiles(f)
            for k, f in own.items():
                mine = f if part.mask is None else inside(f, self.view.weights(part.mask, f))
                found[k] = torch.lerp(quantiles(mine), found[k], self.options.strength)
            parts.append((part, found))
        return HistogramTerm(parts, shares)

    def neighbour_term(self) -> Term:
        o = self.options
        shares: dict[str, float] = dict.fromkeys(NEIGHBOUR_LAYERS, 1.0)
        if o.layers:
            shares = layer_shares(o, self.encoder)
        columns, others = Columns(self.view, shares), Columns(self.of.style_view, shares)
        most = MOST_COLUMNS_EACH_STEP if self.scale.refine else MOST_COLUMNS
        styles = [
            Neighbours(part, share, others.style(self.picture_of(style, self.size_of(scale)), o.seed, most))
            for part, several in self.each_part()
            for share, scale, style in several
        ]
        content = self.content if o.strength < 1 else None
        term = LayerNeighbourTerm if self.scale.refine else NeighbourTerm
        return term(columns, styles, self.x, content, o.strength)
