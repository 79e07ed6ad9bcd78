"""The method `optimize`: optimise the picture until its features match the content and its statistics the style.

Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, from coarse to fine (Gatys
et al., "Controlling Perceptual Factors in Neural Style Transfer", CVPR 2017, section 6): a coarse scale sets the large
shapes in a few cheap iterations, and each finer scale adds strokes of its size.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..device import Compute, freed_memory_kept, ordinary, return_freed_memory, with_gradients
from ..errors import OptionError
from ..image.color import match_palette
from ..image.picture import opaque
from ..image.resize import blur, resize
from ..models.vgg import STYLE_LAYERS, VGG
from ..options import OptimizeOptions, named_weights
from ..style.target import StyleTarget
from ..style.terms import PerceptualLoss
from .descent import HISTORY, LBFGS, Descent
from .lean_lbfgs import LeanLBFGS
from .loss import (
    Problem,
    build_canvas,
    build_loss,
    check_blend,
    check_styles,
    check_tiles,
    content_shares,
    measured_layers,
    searches_neighbours,
)
from .memory import MASK_PICTURES, PICTURES, RIM_PART_PICTURES, RIM_PICTURES, Tiling, fit_memory, fit_tiles
from .protocol import Region, Step, Stylizer, check_masks
from .schedule import Scale, check_size, painting_size, schedule, timed
from .tiled_loss import TiledLoss, margin_of

log = logging.getLogger(__name__)

Painter = Callable[[Tensor, Sequence[Region]], Tensor]
"""Paints (1, 3 or 4, H, W), with regions in their own styles."""

BLURRED_START = 1 / 32
"""Standard deviation of the blur of the start `blurred`, as a fraction of the painting's long side."""


class OptimizeStylizer(Stylizer):
    """Paint by optimisation, with the styles bound.

    Parameters
    ----------
    styles : sequence of Tensor or StyleTarget
        Paintings (1, 3, H, W) in [0, 1], or their measurements.
    options : OptimizeOptions
        The options.
    encoder : VGG
        The encoder whose features are matched.
    compute : Compute
        Device and precision.
    start : Tensor or Painter, optional
        A picture (1, 3, H, W) to start from, if `options.start` names one; or a function that paints it from the
        photograph at the painting's size and the regions. With `options.start` "auto", the photograph if not given.
    wrap : bool
        Make the painting tile the plane without a seam.
    """

    method = "optimize"

    @with_gradients
    def __init__(
        self,
        styles: Sequence[Tensor | StyleTarget],
        options: OptimizeOptions,
        encoder: VGG,
        compute: Compute,
        start: Tensor | Painter | None = None,
        wrap: bool = False,
    ):
        if not styles:
            raise OptionError("no style given; name a picture, a style file or a built-in style")
        if options.quality == "instant":
            raise OptionError("--quality instant is one pass of a network; the optimisation needs draft, good or best")
        self.options, self.compute, self.start, self.wrap = options, compute, ordinary(start), wrap
        self.styles, self.encoder = ordinary(list(styles)), encoder
        check_styles(styles, options, encoder)
        compute.network(encoder)
        check_blend(options, len(self.styles))

    @with_gradients
    def steps(
        self,
        content: Tensor,
        regions: Sequence[Region] = (),
        mask: Tensor | None = None,
        state: dict[str, Any] | None = None,
    ) -> Iterator[Step]:
        """Paint as `Stylizer.steps` does. A step's image is the best so far of its scale, by the total loss."""
        o = self.options
        if o.start == "auto" and self.start is None:
            o = replace(o, start="content")  # which takes more iterations
        content, regions, mask, state = ordinary((content, list(regions), mask, state))
        check_styles([r.style for r in regions], o, self.encoder)
        check_masks((content.shape[-2], content.shape[-1]), regions, mask)
        if mask is not None and not mask.any():
            raise OptionError("--mask is black everywhere, so nothing would be painted; make the part to paint white")
        height, width = content.shape[-2:]
        size = painting_size((height, width), o)
        layers = measured_layers(o, self.encoder)
        check_size(size, (height, width), self.encoder, (*STYLE_LAYERS, *layers))
        refine = bool(o.settings.style_weight) and "nn" in named_weights(o.style_loss, "--style-loss")
        schedule(size, o, refine)
        resized, cut_out = size != (height, width), content.shape[1] == 4
        size, checkpointing, tiling = fit_painting(
            size, o, self.encoder, self.compute, len(regions), mask is not None, resized, cut_out, self.wrap
        )
        scales = schedule(size, o, refine)
        if state is not None and (state["size"] != list(size) or len(state["iterations"]) != len(scales)):
            raise OptionError("the state belongs to another painting; continue with the same photograph and options")
        styles = [self._matched(s, content) for s in self.styles]
        regions = [replace(r, style=self._matched(r.style, content)) for r in regions]
        problem = Problem(
            self.encoder, self.compute, o, content, size, styles, regions, mask, self.wrap, checkpointing, tiling
        )
        return self._paint(problem, scales, state)

    def _matched(self, style: Tensor | StyleTarget, content: Tensor) -> Tensor | StyleTarget:
        """Return the style, in the photograph's palette if the options match palettes."""
        return style if isinstance(style, StyleTarget) else self._recoloured(style, content)

    def _recoloured(self, picture: Tensor, content: Tensor) -> Tensor:
        """Return the picture, in the photograph's palette if the options match palettes."""
        method, strength = self.options.match_palette, self.options.palette_strength
        return picture if method == "none" else match_palette(picture, content, method, strength)

    @with_gradients
    def _paint(self, problem: Problem, scales: list[Scale], state: dict[str, Any] | None) -> Iterator[Step]:
        begun = time.monotonic()
        start = self.start_of(problem) if problem.before is None else problem.before.start
        place = Place(0, 0, resize(start, scales[0].size, wrap=self.wrap), None)
        if state is not None:
            place = Place(state["index"], state["done"], state["begun"], None)
            scales = [replace(s, iterations=n) for s, n in zip(scales, state["iterations"], strict=True)]
            begun -= state["seconds"]  # time already spent
        with freed_memory_kept(large=problem.tiling is None):
            while place.index < len(scales):
                place = yield from self._scale(problem, scales, start, place, state, begun)
                state = None

    def _scale(
        self,
        problem: Problem,
        scales: list[Scale],
        start: Tensor,
        place: "Place",
        state: dict[str, Any] | None,
        begun: float,
    ) -> Generator[Step, None, "Place"]:
        """Yield the steps of one scale. Returns the starting point of the next scale."""
        scale, done, tiles = scales[place.index], place.done, problem.tiles(scales[place.index])
        if tiles is not None:
            return_freed_memory()  # of the coarse scales
        x = self.begin(place.x, start, scale) if state is None else self.compute.picture(place.x)
        loss = build_loss(problem, scale, x)
        if self.options.time is not None and state is None:
            left = self.options.time - (time.monotonic() - begun)
            scales[place.index] = scale = timed(scales, place.index, left, lambda: seconds(loss, x))
        descent = Descent(
            loss,
            x,
            scale,
            self.options,
            place.carried,
            self.wrap,
            LBFGS if tiles is None else partial(LeanLBFGS, in_memory=tiles.pairs),
            before=loss.move if isinstance(loss, TiledLoss) else lambda index: None,
            canvas=build_canvas(problem, scale),
        )
        if tiles is not None:  # only the `nn` loss needs the first picture to continue
            x = place.x
        if state is not None:
            descent.load(state["descent"])
        later = sum(s.iterations for s in scales[place.index + 1 :])
        planned = [s.iterations for s in scales]
        where = {"size": list(scales[-1].size), "iterations": planned, "index": place.index}
        while descent.left:
            losses = descent.step()
            done += 1

            @with_gradients
            def snapshot(done: int = done) -> dict[str, Any]:
                spent = time.monotonic() - begun
                first = x if tiles is None else descent.painted
                return {**where, "done": done, "seconds": spent, "begun": first, "descent": descent.state()}

            total = done + descent.left + later
            painted = loss.composed(descent.painted)
            yield Step(
                scale.size,
                place.index + 1,
                len(scales),
                done,
                total,
                losses,
                painted,
                state=snapshot,
                measured=descent.measured,
                schedule=tuple(planned),
            )
        return Place(place.index + 1, done, descent.painted, descent.carry())

    def begin(self, x: Tensor, start: Tensor, scale: Scale) -> Tensor:
        """Return the picture that a scale starts from: the painting so far, resized, plus detail of the start."""
        coarse = (x.shape[-2], x.shape[-1])
        x = resize(x, scale.size, wrap=self.wrap)
        if self.options.detail and coarse != scale.size:
            fine = resize(start, scale.size, wrap=self.wrap)
            lost = resize(resize(fine, coarse, wrap=self.wrap), scale.size, wrap=self.wrap)
            lost = lost.neg_().add_(fine).mul_(self.options.detail)  # in place, since large pictures fill the memory
            x = lost.to(x.device).add_(x).clamp_(0, 1)
        return self.compute.picture(x)

    def start_of(self, problem: Problem) -> Tensor:
        """Return the picture to start from, (1, 3, H, W), at the size of the painting.

        At a strength below 1 it is a blend with the photograph.
        """
        start, size = self.options.begins_with, problem.size
        photo = opaque(resize(problem.photo, size))
        if self.options.mottle:
            photo = photo.clamp(0, 1)  # light changes beyond white, too
        if start == "content" or (self.options.start == "auto" and self.start is None):
            return photo
        if start == "blurred":
            found = blur(photo, BLURRED_START * max(size))
        elif start == "grey":
            found = torch.full((1, 3, *size), 0.5)
        elif start == "noise":
            noise = torch.randn((1, 3, *size), generator=torch.Generator().manual_seed(self.options.seed))
            found = (0.5 + 0.15 * noise).clamp(0, 1)
        elif self.start is None:
            raise OptionError(f"--start {start} is not a picture; give content, blurred, noise, grey or a picture")
        else:
            given = self.start
            if not isinstance(given, Tensor):
                whole = resize(problem.content, size)
                given = self._recoloured(given(whole, problem.regions).to(whole.device), problem.content)
            found = resize(given, size)
        return torch.lerp(photo, found.to(photo.device), min(self.options.strength, 1.0))


def fit_painting(
    size: tuple[int, int],
    options: OptimizeOptions,
    encoder: VGG,
    compute: Compute,
    regions: int = 0,
    masked: bool = False,
    resized: bool = True,
    cut_out: bool = False,
    wrap: bool = False,
    said: Callable[[str], None] = log.warning,
) -> tuple[tuple[int, int], bool, Tiling | None]:
    """Fit a painting into memory: in one piece, with checkpointing, in tiles, or smaller. All but the first are logged.

    Parameters
    ----------
    size : (int, int)
        Height and width of the painting in pixels.
    regions : int
        Number of regions.
    masked, resized, cut_out, wrap : bool
        Whether only a part is painted, the photograph has another size, it has an alpha, or the painting tiles the
        plane.
    said : callable
        Takes the message; the log by default.

    Returns
    -------
    ((int, int), bool, Tiling or None)
        The size; whether to use checkpointing; the tiles, if it is painted in tiles.

    Raises
    ------
    MemoryNeedError
        If the painting does not fit and must not be painted smaller, or if nothing fits.
    """
    why = "a picture that tiles the plane is not painted in tiles" if wrap else check_tiles(options)
    if not why:
        kind = options.optimizer if not options.pyramid else "pyramid"
        divided, weighted = bool(regions or masked or cut_out), options.plain_weight != 1
        masks = (regions + 1) * MASK_PICTURES * (divided + weighted)
        prepares = bool(options.denoise or options.mottle)
        pictures = PICTURES[kind] + masks + resized + cut_out + (2 + prepares) * masked
        pictures += 2 * bool(options.average)
        if options.rim_weight:
            pictures += RIM_PICTURES + (regions + 1) * RIM_PART_PICTURES
        tiling = fit_tiles(
            size,
            encoder,
            compute,
            tuple(content_shares(options, encoder)) if options.settings.content_weight else (),
            margin_of(encoder, measured_layers(options, encoder))[0],
            pictures + (options.begins_with != "content"),
            HISTORY if options.optimizer == "lbfgs" else 0,
            options.max_memory,
            said,
        )
        if tiling is not None:
            return size, False, tiling
    strict, limit = options.strict_size, options.max_memory
    neighbours = searches_neighbours(options)
    found = fit_memory(size, encoder, compute, strict, said=said, limit=limit, why=why, neighbours=neighbours)
    return *found, None


@dataclass(frozen=True)
class Place:
    """The starting point of a scale: its index, the iterations before it, the picture, the optimiser's state."""

    index: int
    done: int
    x: Tensor
    carried: dict[str, Tensor] | None


def seconds(loss: PerceptualLoss, x: Tensor) -> float:
    """Return how many seconds one evaluation of the loss and its gradient takes."""
    begun = time.perf_counter()
    x = x.clone().requires_grad_(True)
    loss(x)["total"].backward()
    assert x.grad is not None
    x.grad.sum().item()  # wait for the GPU
    return time.perf_counter() - begun
