"""The method `network`: paint a photograph in any style in one pass of a network.

The styles become affines (`models.network`). Blends of styles and the strength are arithmetic on these affines. Each
region of a picture has its own affine.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..device import Compute, with_gradients
from ..errors import OptionError
from ..image.picture import opaque, visible
from ..image.resize import blur, fit_size, resize
from ..image.strips import MemorySource
from ..models.colours import colour, colour_moments, colours_of
from ..models.moments import raw_moments, weights_of
from ..models.network import Network
from ..models.networks import check_encoder
from ..models.vgg import VGG
from ..options import StylizeOptions
from ..style.plain import calmness
from ..style.target import StyleTarget, blend, check_shape, measure
from ..style.terms import divide
from .learn import learnt
from .loss import check_blend, style_scales, style_shares
from .network_memory import pass_memory, too_large
from .photograph import PHOTO_SIZE, Preview
from .protocol import Region, Step, Stylizer, check_masks, last_image
from .schedule import painting_size
from .tiled import PassStatistics, TiledPainting
from .underpainting import enlarged_rows, underpainting

log = logging.getLogger(__name__)


class NetworkStylizer(Stylizer):
    """Paint in one pass, with the styles bound.

    Parameters
    ----------
    net : Network
        The network.
    styles : sequence of Tensor or StyleTarget
        Paintings (1, 3, H, W) in [0, 1], or their measurements.
    options : StylizeOptions
        The options.
    encoder : VGG
        The encoder that the network was trained with. It measures styles.
    compute : Compute
        Device and precision.

    Raises
    ------
    StyleError
        If a style was measured with another encoder or is far too elongated, or the network needs another encoder.
    WeightsError
        If the network does not fit its encoder.
    OptionError
        If the number of weights or strokes differs from the number of styles.
    """

    method = "network"

    @with_gradients
    def __init__(
        self,
        net: Network,
        styles: Sequence[StyleTarget | Tensor],
        options: StylizeOptions,
        encoder: VGG,
        compute: Compute,
    ):
        check_encoder(net, encoder)
        self.net, self.encoder, self.options, self.compute = net, encoder, options, compute
        check_blend(options, len(styles))
        self.shares = style_shares(options, len(styles))
        compute.network(encoder)
        compute.network(net)
        self.styles = [self.bind(s) for s in styles]
        self.run: Callable[..., Tensor] = torch.compile(net) if options.compile else net

    def bind(self, style: StyleTarget | Tensor) -> "MeasuredStyle":
        """Return the style, learnt first if `learn` is set. Raises StyleError if it does not fit the encoder."""
        if isinstance(style, StyleTarget):
            style.check(self.encoder)
        else:
            check_shape(style, self.encoder)
        if self.options.learn:
            style = learnt(self.net, style, self.encoder, self.compute)
        return MeasuredStyle(style, self.encoder, self.compute, tuple(self.net.config.layers))

    def __call__(
        self,
        content: Tensor,
        regions: Sequence[Region] = (),
        mask: Tensor | None = None,
        statistics: PassStatistics | None = None,
        origin: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """Paint (1, 3, H, W), float32, sRGB, [0, 1], with the parameters of `steps`."""
        return last_image(self.steps(content, regions, mask, statistics=statistics, origin=origin))

    @with_gradients
    @torch.no_grad()
    def look(self, content: Tensor, strength: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the affine (1, P) and the colours (1, 3, 4) in which a photograph (1, 3, H, W) would be painted.

        Looks can be blended linearly and passed to `statistics`, so that style and strength change over a film.

        Parameters
        ----------
        strength : float
            Used instead of the options' strength.
        """
        x = self.compute.picture(resize(content, painting_size((content.shape[-2], content.shape[-1]), self.options)))
        return self._styles(content, x, (), None, strength)

    @with_gradients
    @torch.no_grad()
    def statistics(
        self, content: Tensor, regions: Sequence[Region] = (), look: tuple[Tensor, Tensor] | None = None
    ) -> PassStatistics:
        """Return the global statistics of the painting of a photograph (1, 3, H, W).

        Pass them to `steps` to paint tiles of the photograph, or similar frames, as parts of one painting. It has no
        underpainting.

        Parameters
        ----------
        look : (Tensor, Tensor), optional
            An affine (1, P) and colours (1, 3, 4) to paint in, instead of the bound styles. Not with regions.
        """
        size = painting_size((content.shape[-2], content.shape[-1]), self.options)
        whole = resize(content, size)
        x, shown = self.compute.picture(opaque(whole)), visible(whole)
        places = [(resize(r.mask, size), self.bind(r.style)) for r in regions]
        masks = self.masks_of(x, places, shown)
        affine, colours = self._styles(content, x, [s for _, s in places], masks) if look is None else look
        with self.compute.autocast():
            norms, painted = self.net.measured(x, affine, masks)
        return PassStatistics(affine, colours, norms, colour_moments(painted, masks))

    @with_gradients
    def steps(
        self,
        content: Tensor,
        regions: Sequence[Region] = (),
        mask: Tensor | None = None,
        state: dict[str, Any] | None = None,
        statistics: PassStatistics | None = None,
        origin: tuple[int, int] = (0, 0),
    ) -> Iterator[Step]:
        """Return the only step; or, if the painting does not fit into memory as a whole, a step for each strip.

        All steps but the last show a reduced picture: the photograph, painted from the top down as far as it is done.
        There is no state to continue from, so `state` is not used. Errors are raised immediately. Otherwise this works
        as `Stylizer.steps`.

        Parameters
        ----------
        statistics : PassStatistics, optional
            Statistics of the whole picture that `content` is a tile of, taken with the same regions. By default, those
            of `content`. With them, there is no underpainting.
        origin : (int, int)
            Row and column of the first pixel of `content` in that picture, multiples of 4, at the size of the painting.
        """
        check_masks((content.shape[-2], content.shape[-1]), regions, mask)
        if mask is not None and not mask.any():
            raise OptionError("--mask is black everywhere, so nothing would be painted; make the part to paint white")
        size = painting_size((content.shape[-2], content.shape[-1]), self.options)
        if (reason := too_large(size, self.net, self.compute, self.options.max_memory)) is not None:
            painting = TiledPainting(self, MemorySource(content), regions, mask, origin=origin)
            log.info("%s: painting it %d rows at a time", reason, painting.strip)
            return self._in_strips(painting, statistics)
        places = [(r.mask, self.bind(r.style)) for r in regions]
        # A generator, so that the painting starts only when the step is taken.
        return (self._paint(x, size, places, mask, statistics, origin) for x in [content])

    def memory_need(self, size: tuple[int, int]) -> int:
        """Return the bytes that a painting of height and width `size` takes beyond the process's current memory."""
        return pass_memory(size, self.net, self.compute)

    def scales(self, long: int) -> tuple[float, ...]:
        """Return each style's size relative to a painting with a long side of `long` pixels."""
        return style_scales(self.options, len(self.styles), long)

    @torch.no_grad()
    def affine(
        self, styles: Sequence["MeasuredStyle"], shares: Sequence[float], scales: Sequence[float], long: int
    ) -> tuple[Tensor, Tensor]:
        """Return the affine (1, P) and the colours (1, 3, 4) of a blend of styles.

        Parameters
        ----------
        shares, scales : sequence of float
            Each style's share, with a sum of 1, and its size relative to the painting.
        long : int
            The painting's long side in pixels.
        """
        moments = [style.at(round(scale * long)) for style, scale in zip(styles, scales, strict=True)]
        blended = blend(moments, shares)
        affine = self.net.predict(blended)
        for style, share in zip(styles, shares, strict=True):
            vector = style.learnt(self.net)
            affine = affine if vector is None else self.net.shifted(affine, share * vector.to(affine))
        o = self.options
        affine[:, self.net.layout.parts["prepare"]] = affine.new_tensor([o.denoise, o.mottle])
        return affine, self.net.style_colours(blended)

    @with_gradients
    @torch.no_grad()
    def _paint(
        self,
        content: Tensor,
        size: tuple[int, int],
        places: Sequence[tuple[Tensor, "MeasuredStyle"]],
        mask: Tensor | None,
        statistics: PassStatistics | None,
        origin: tuple[int, int],
    ) -> Step:
        whole = resize(content, size)
        x, shown = self.compute.picture(opaque(whole)), visible(whole)
        masks = self.masks_of(x, [(resize(m, size), s) for m, s in places], shown)
        norms, moments, shows = None, None, x
        if statistics is None:
            affine, colours = self._styles(content, x, [s for _, s in places], masks)
            strokes = underpainting(self, MemorySource(content).reduced, size, places)
            shows = x if strokes is None else torch.cat([x, enlarged_rows(strokes, size, 0, size[0]).to(x)], 1)
        else:
            affine, colours, norms, moments = (getattr(statistics, f.name) for f in fields(statistics))
        with self.compute.autocast():
            painted = self.run(shows, affine, norms, masks, [origin])
        painted = colour(painted, colours, moments, masks).contiguous()
        if mask is not None:
            where = blur(resize(mask, size), self.options.mask_feather).to(x)
            painted = x + where * (painted - x)
        return Step(size, 1, 1, 1, 1, {}, painted.clone(), schedule=(1,))

    def _in_strips(self, painting: TiledPainting, statistics: PassStatistics | None) -> Iterator[Step]:
        """Yield a step after each part of the work. The last one has the painting."""
        size, found = painting.size, []
        preview = Preview(painting.source, size)
        for strip in painting.strips(statistics):
            if strip.rows is not None:
                found.append(strip.rows)
                preview.add(strip.rows)
            painted = torch.cat(found, 2) if preview.done == size[0] else preview.image
            yield Step(size, 1, 1, strip.done, strip.total, {}, painted, schedule=(strip.total,))

    @staticmethod
    def masks_of(x: Tensor, places: Sequence[tuple[Tensor, "MeasuredStyle"]], shown: Tensor | None) -> Tensor | None:
        """Return the masks (R, 1, H, W) of the regions and the rest, which sum to 1; None if there is only one part.

        Transparent pixels are a separate part, the last, so that they do not enter the other parts' statistics.
        """
        if not places and shown is None:
            return None
        shown = None if shown is None else shown.cpu()
        masks = [p.mask for p in divide([m for m, _ in places], shown) if p.mask is not None]
        return torch.cat([*masks, *([] if shown is None else [1 - shown])]).to(x)

    def _styles(
        self,
        content: Tensor,
        x: Tensor,
        styles: Sequence["MeasuredStyle"],
        masks: Tensor | None,
        strength: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return affines (R, P) and colours (R, 3, 4) of a photograph (1, 3 or 4, h, w), painted as `x` (1, 3, H, W).

        At the options' strength, if none is given.
        """
        size = (x.shape[-2], x.shape[-1])
        found = self.styles_of(max(size), styles, content.shape[1] == 4)
        strength = self.options.strength if strength is None else strength
        if strength == 1:
            return found
        small = resize(content, fit_size(size, long_side=PHOTO_SIZE))
        return self.at_strength(found, small, colour_moments(x, masks), strength)

    @torch.no_grad()
    def styles_of(self, long: int, styles: Sequence["MeasuredStyle"], cutout: bool) -> tuple[Tensor, Tensor]:
        """Return affines (R, P) and colours (R, 3, 4) of the parts of a picture, at strength 1.

        Parameters
        ----------
        long : int
            The painting's long side in pixels.
        styles : sequence of MeasuredStyle
            The regions' styles. The rest has the bound styles.
        cutout : bool
            Whether the photograph has alpha; its transparent pixels are then another part.
        """
        scales = self.scales(long)
        several = [self.affine([s], (1.0,), scales[:1], long) for s in styles]
        several += [self.affine(self.styles, self.shares, scales, long)] * (2 if cutout else 1)
        affine, colours = (torch.cat(t) for t in zip(*several, strict=True))
        return affine, colours

    @torch.no_grad()
    def at_strength(
        self, full: tuple[Tensor, Tensor], photo: Tensor, moments: Tensor, strength: float
    ) -> tuple[Tensor, Tensor]:
        """Return affines and colours between those of the photograph, unpainted, and those of `styles_of`.

        Parameters
        ----------
        full : (Tensor, Tensor)
            What `styles_of` returns.
        photo : Tensor
            (N, 3 or 4, h, w), the photographs, reduced to `PHOTO_SIZE`.
        moments : Tensor
            (R, 4, 4), the raw moments of the colours of the photograph's parts.
        """
        affine, colours = full
        # One at a time: the predictor's last bits depend on the number of pictures.
        plain = torch.cat([self._photograph(p) for p in photo.split(1)])
        affine = torch.lerp(plain.to(affine), affine, strength)
        return affine, torch.lerp(colours_of(moments).to(colours), colours, min(1.0, strength))

    def _photograph(self, small: Tensor) -> Tensor:
        """Return the affine (1, P) of strength 0: the photograph (1, 3 or 4, h, w) in its own style, unpainted."""
        layers, shown = tuple(self.net.config.layers), visible(small)
        with self.compute.autocast():
            features = self.encoder(self.compute.picture(opaque(small)), layers)
        moments = {k: raw_moments(f, None if shown is None else weights_of(shown, f)) for k, f in features.items()}
        return self.net.unpainted(self.net.predict(moments))


class MeasuredStyle:
    """A style whose measurements are cached for each size."""

    def __init__(self, style: Tensor | StyleTarget, encoder: VGG, compute: Compute, layers: tuple[str, ...]):
        self.style, self.encoder, self.compute, self.layers = style, encoder, compute, layers
        self.known: dict[int, dict[str, Tensor]] = {}

    def at(self, size: int) -> dict[str, Tensor]:
        """Return the raw moments (1, C + 1, C + 1) of each layer, at a long side of `size` pixels."""
        if size not in self.known:
            style = self.style
            largest = max(style.shape[-2:]) if isinstance(style, Tensor) else style.sizes[-1]
            if size > 1.01 * largest:
                log.info(
                    "strokes are %.2g times as large as requested: the style's long side is only %d pixels",
                    largest / size,
                    largest,
                )
            if isinstance(style, Tensor):
                found, _ = measure(style, self.encoder, self.compute, size, self.layers)
            else:
                found = style.at(size)
            self.known[size] = {k: found[k].to(self.compute.device) for k in self.layers}
        return self.known[size]

    @cached_property
    def calm(self) -> float | None:
        """The style's calmness, if it is known."""
        return calmness(self.style) if isinstance(self.style, Tensor) else self.style.calm

    def learnt(self, net: Network) -> Tensor | None:
        """Return the learnt correction of the affine, (1, P), or None if there is none for this network."""
        if isinstance(self.style, Tensor):
            return None
        return self.style.learnt_for(net)
