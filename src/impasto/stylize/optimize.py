"""`optimize`: the picture itself is optimised until its features are the content's and its statistics the style's.

Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, painted from coarse to fine
(Gatys et al., "Controlling Perceptual Factors in Neural Style Transfer", CVPR 2017, section 6): a coarse scale sets the
large shapes in few cheap iterations, each finer one adds the strokes of its size.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..device import Compute
from ..errors import DivergedError, OptionError
from ..image.color import match_palette
from ..image.resize import fit_size, resize
from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG
from ..options import LARGEST_SIZE, LEAST_SIZE, LONG_SIDE, OptimizeOptions
from ..style.losses import PerceptualLoss
from ..style.target import StyleTarget, blend, shares_of
from .memory import fit_memory
from .protocol import Region, Step, last_image

log = logging.getLogger(__name__)

LAYER_WEIGHTS: dict[str, float] = dict.fromkeys(STYLE_LAYERS, 1.0)
SCALE_FACTOR = 2.0
MARGIN = 8
"""Pixels by which the encoder sees the painting continued, so that nothing is hidden at its border."""
WARM_UP, LAST_RATE = 0.3, 0.02
"""Share of a scale's iterations in which the rate rises, and its last value over its highest. Adam's first steps change
every pixel by the full rate, whatever its gradient: without a warm-up that leaves colour noise."""


@dataclass(frozen=True)
class Scale:
    """One scale of the schedule: height and width in pixels, iterations, and the learning rate at its start."""

    size: tuple[int, int]
    iterations: int
    rate: float


def painting_size(content: tuple[int, int], options: OptimizeOptions) -> tuple[int, int]:
    """Height and width of the painting of a photo of that height and width, in pixels."""
    if options.scale is not None:
        return fit_size(content, scale=options.scale, enlarge=True)
    if options.size is not None:
        return fit_size(content, long_side=options.size, enlarge=True)
    return fit_size(content, long_side=LONG_SIDE[options.quality])


def check_size(size: tuple[int, int], content: tuple[int, int], encoder: VGG) -> None:
    """OptionError, with what to do, if a painting of `size` is too small for the encoder; (H, W) each, in pixels."""
    least = max(encoder.least_side(k) for k in (*STYLE_LAYERS, CONTENT_LAYER))
    if min(size) >= least:
        return
    needed = max(LEAST_SIZE, math.ceil(least * max(content) / min(content)))
    advice = f"give --size {needed} or more" if needed <= LARGEST_SIZE else "it is too elongated: crop it"
    raise OptionError(
        f"a {size[1]}x{size[0]} painting of a {content[1]}x{content[0]} photo is too small for the encoder "
        f"{encoder.name}, which needs {least} pixels a side; {advice}"
    )


def schedule(size: tuple[int, int], options: OptimizeOptions) -> list[Scale]:
    """The scales from coarse to fine, the last of them at the painting's own size."""
    long, short = max(size), min(size)
    count = max(0, math.ceil(math.log(long / options.coarsest, SCALE_FACTOR) - 1e-9)) if long > options.coarsest else 0
    sizes = [
        fit_size(size, long_side=max(round(long / SCALE_FACTOR**i), math.ceil(32 * long / short)))
        for i in range(count, 0, -1)
    ]
    settings = options.settings
    total = settings.iterations
    sizes = [*dict.fromkeys(s for s in sizes if s < size), size][-total:]
    ends = [round(total * i / len(sizes)) for i in range(len(sizes) + 1)]
    counts = [b - a for a, b in pairwise(ends)]
    return [Scale(s, n, settings.rate) for s, n in zip(sizes, counts, strict=True)]


class OptimizeStylizer:
    """Paints by optimisation, with the styles bound.

    Parameters
    ----------
    styles : sequence of Tensor or StyleTarget
        Paintings (1, 3, H, W) in [0, 1], or what was measured of them before.
    options : OptimizeOptions
        All else.
    encoder : VGG
        Whose features are matched.
    compute : Compute
        Device and precision.
    start : Tensor, optional
        A picture (1, 3, H, W) to start from, where `options.start` names one.
    """

    def __init__(
        self,
        styles: Sequence[Tensor | StyleTarget],
        options: OptimizeOptions,
        encoder: VGG,
        compute: Compute,
        start: Tensor | None = None,
    ):
        if not styles:
            raise OptionError("no style given; name a picture, a style file or a built-in style")
        self.options, self.compute, self.start = options, compute, start
        self.styles = list(styles)
        self.weights = shares_of(options.style_weights or (1.0,) * len(self.styles), len(self.styles))
        self.encoder = encoder
        self.check_styles(styles)
        compute.network(encoder)

    def __call__(self, content: Tensor, regions: Sequence[Region] = ()) -> Tensor:
        """Paint (1, 3, H, W), float32, sRGB, [0, 1]; the bound styles are for what is in no region."""
        return last_image(self.steps(content, regions))

    def check_styles(self, styles: Sequence[Tensor | StyleTarget]) -> None:
        """StyleError or OptionError if measured styles do not fit the encoder or the options."""
        for style in styles:
            if isinstance(style, StyleTarget):
                style.check(self.encoder)
                if self.options.match_palette != "none":
                    raise OptionError("--match-palette needs the style's picture, and only its measurements were given")

    def palette_matched(self, styles: Sequence[Tensor | StyleTarget], content: Tensor) -> list[Tensor | StyleTarget]:
        """The styles, in the content's palette if the options ask for that."""
        method, strength = self.options.match_palette, self.options.palette_strength
        if method == "none":
            return list(styles)
        return [s if isinstance(s, StyleTarget) else match_palette(s, content, method, strength) for s in styles]

    def style_at(self, long_side: int, styles: Sequence[Tensor | StyleTarget]) -> list[dict[str, Tensor]]:
        """Each style's moments for a painting of that long side, in pixels."""
        size = long_side * self.options.style_scale
        found = []
        for style in styles:
            if not isinstance(style, StyleTarget):
                style = StyleTarget.of(style, self.encoder, self.compute, (round(size),), STYLE_LAYERS)
            found.append(style.at(size))
        return found

    def steps(self, content: Tensor, regions: Sequence[Region] = ()) -> Iterator[Step]:
        """Paint step by step; a step's image is the best so far of its scale, by the total loss.

        Raises
        ------
        OptionError
            At once, if the painting would be too small for the encoder.
        MemoryNeedError
            At once, if it would not fit into memory and must not be painted smaller.
        DivergedError
            If a loss is no longer finite.
        """
        self.check_styles([r.style for r in regions])
        height, width = content.shape[-2:]
        size = painting_size((height, width), self.options)
        check_size(size, (height, width), self.encoder)
        size = fit_memory(size, self.encoder, self.compute, self.options.strict_size)
        return self._paint(content, schedule(size, self.options), regions)

    def _paint(self, content: Tensor, scales: Sequence[Scale], regions: Sequence[Region]) -> Iterator[Step]:
        o = self.options
        total = sum(s.iterations for s in scales)
        done = 0
        x = self.first(content, scales[0].size)
        styles = self.palette_matched(self.styles, content)
        own = [self.palette_matched([r.style], content) for r in regions]
        for index, scale in enumerate(scales, start=1):
            x = resize(x, scale.size)
            loss = PerceptualLoss(
                self.encoder,
                self.compute,
                self.compute.picture(resize(content, scale.size)),
                blend(self.style_at(max(scale.size), styles), self.weights),
                content_weight=o.settings.content_weight,
                style_weight=o.settings.style_weight,
                tv_weight=o.tv_weight,
                style_loss=o.style_loss,
                layer_weights=LAYER_WEIGHTS,
                margin=MARGIN,
                regions=[
                    (resize(r.mask, scale.size), self.style_at(max(scale.size), s)[0])
                    for r, s in zip(regions, own, strict=True)
                ],
            )
            minimise = minimise_adam if o.optimizer == "adam" else minimise_lbfgs
            least = math.inf
            for image, losses in minimise(loss, self.compute.picture(x), scale):
                if losses["total"] < least:
                    x, least = image, losses["total"]
                done += 1
                yield Step(scale.size, index, len(scales), done, total, losses, x)

    def first(self, content: Tensor, size: tuple[int, int]) -> Tensor:
        """The picture that the coarsest scale starts from."""
        if self.options.start == "content":
            return resize(content, size)
        if self.options.start == "grey":
            return torch.full((1, 3, *size), 0.5)
        if self.options.start == "noise":
            noise = torch.randn((1, 3, *size), generator=torch.Generator().manual_seed(self.options.seed))
            return (0.5 + 0.15 * noise).clamp(0, 1)
        if self.start is None:
            raise OptionError(f"--start {self.options.start} is none of content, noise, grey, and no picture")
        return resize(self.start, size)


def minimise_adam(loss: PerceptualLoss, x: Tensor, scale: Scale) -> Iterator[tuple[Tensor, dict[str, float]]]:
    """Adam on the pixels, kept within [0, 1], the rate rising, then falling by a cosine."""
    x = x.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([x], lr=scale.rate, betas=(0.9, 0.99))
    terms = loss(x)
    for i in range(scale.iterations):
        optimiser.param_groups[0]["lr"] = scale.rate * rate_factor((i + 0.5) / scale.iterations)
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        with torch.no_grad():
            x.clamp_(0, 1)
        terms = loss(x)  # of the picture as it is now, and for the next iteration's gradient
        yield x.detach().clone(), finite(terms, i, scale)


def rate_factor(u: float) -> float:
    """The rate's factor at the share `u` of a scale's iterations: up by a line, down by a cosine."""
    fall = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * u))
    return min(1.0, u / WARM_UP) * fall


def minimise_lbfgs(loss: PerceptualLoss, x: Tensor, scale: Scale) -> Iterator[tuple[Tensor, dict[str, float]]]:
    """L-BFGS with a strong Wolfe line search, one of its iterations a step; yields the best point of each line search.

    Only what is yielded is clamped, the losses belong to the picture before that.
    """
    x = x.clone(memory_format=torch.contiguous_format).requires_grad_(True)  # torch's L-BFGS takes no other layout
    optimiser = torch.optim.LBFGS([x], lr=scale.rate, max_iter=1, history_size=20, line_search_fn="strong_wolfe")
    for i in range(scale.iterations):
        seen: list[tuple[Tensor, dict[str, float]]] = []

        def closure(i: int = i, seen: list[tuple[Tensor, dict[str, float]]] = seen) -> float:
            terms = loss(x)
            seen.append((x.detach().clamp(0, 1), finite(terms, i, scale)))
            optimiser.zero_grad()
            terms["total"].backward()
            return float(terms["total"].detach())

        optimiser.step(closure)
        yield min(seen, key=lambda s: s[1]["total"])


def finite(terms: dict[str, Tensor], iteration: int, scale: Scale) -> dict[str, float]:
    """The terms as numbers; DivergedError if one is not finite."""
    losses = {k: float(v.detach()) for k, v in terms.items()}
    if not math.isfinite(losses["total"]):
        h, w = scale.size
        raise DivergedError(
            f"the loss is no longer finite at iteration {iteration + 1} of the {w}x{h} scale; "
            f"lower --rate (now {scale.rate:g})"
        )
    return losses
