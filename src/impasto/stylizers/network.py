"""The method `network`: paint a photograph in any style in one pass of a network.

The styles become affines (`models.network`). Blends of styles and the strength are arithmetic on these affines. Each
region of a picture has its own affine.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..device import Compute, with_gradients
from ..errors import OptionError
from ..image.picture import opaque, visible
from ..image.resize import blur, fit_size, resize
from ..models.colours import colour, colour_moments, colours_of
from ..models.moments import raw_moments, weights_of
from ..models.network import Network
from ..models.networks import check_encoder
from ..models.vgg import VGG
from ..options import StylizeOptions
from ..style.target import StyleTarget, blend, check_shape
from ..style.terms import divide
from .learn import learnt
from .loss import shares_and_scales
from .memory import fit_need
from .protocol import Region, Step, Stylizer, check_masks, last_image
from .schedule import painting_size

log = logging.getLogger(__name__)

PIXEL_BYTES = {2: 150, 4: 275}
"""Bytes per number inside the network -> bytes per pixel at the peak, for width 32; measured at 12 megapixels."""
FIXED_BYTES = 60_000_000
"""Bytes that do not depend on the size."""
PHOTO_SIZE = 512
"""Long side in pixels at which the photograph is measured for strengths other than 1."""


@dataclass(frozen=True)
class PassStatistics:
    """Global statistics of a painting, for painting tiles of a picture or frames of a film consistently.

    Parameters
    ----------
    affine, colours : Tensor
        (R, P) and (R, 3, 4), the styles at the options' strength: of the regions, and last of the rest.
    norms : Tensor
        (R, 2, C), means and variances of the norms.
    moments : Tensor
        (R, 4, 4), raw moments of the painted colours before they are matched to the style's.
    """

    affine: Tensor
    colours: Tensor
    norms: Tensor
    moments: Tensor


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
        self.shares, self.scales = shares_and_scales(options, len(styles))
        compute.network(encoder)
        compute.network(net)
        self.styles = [self.bind(s) for s in styles]
        self.run: Callable[..., Tensor] = torch.compile(net) if options.compile else net

    def bind(self, style: StyleTarget | Tensor) -> "MeasuredStyle":
        """Return the style, learnt first with the option `learn`. Raises StyleError if it does not fit the encoder."""
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
    def statistics(self, content: Tensor, regions: Sequence[Region] = ()) -> PassStatistics:
        """Return the global statistics of the painting of a photograph (1, 3, H, W).

        Pass them to `steps` to paint tiles of the photograph, or similar frames, as parts of one painting.
        """
        size = painting_size((content.shape[-2], content.shape[-1]), self.options)
        whole = resize(content, size)
        x, shown = self.compute.picture(opaque(whole)), visible(whole)
        places = [(resize(r.mask, size), self.bind(r.style)) for r in regions]
        masks = self._masks(x, places, shown)
        affine, colours = self._styles(x, places, masks, shown)
        with self.compute.autocast():
            norms = self.net.statistics(x, affine, masks)
            painted = self.net(x, affine, norms, masks).float()
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
        """Return the one step, with nothing to continue from: `state` is not used.

        Errors are raised immediately; otherwise as `Stylizer.steps`.

        Parameters
        ----------
        statistics : PassStatistics, optional
            Statistics of the whole picture that `content` is a tile of, taken with the same regions. By default those
            of `content`.
        origin : (int, int)
            Row and column of the first pixel of `content` in that picture, multiples of 8, at the size of the painting.
        """
        check_masks((content.shape[-2], content.shape[-1]), regions, mask)
        if mask is not None and not mask.any():
            raise OptionError("--mask is black everywhere, so nothing would be painted; make the part to paint white")
        size = painting_size((content.shape[-2], content.shape[-1]), self.options)
        size = fit_need(size, self.memory_need, self.compute, self.options.strict_size)
        places = [(resize(r.mask, size), self.bind(r.style)) for r in regions]
        # A generator, so that the painting starts only when the step is taken.
        return (self._paint(resize(x, size), places, mask, statistics, origin) for x in [content])

    def memory_need(self, size: tuple[int, int]) -> int:
        """Return the bytes that a painting of height and width `size` takes beyond the process's current memory."""
        return pass_memory(size, self.net, self.compute)

    @torch.no_grad()
    def affine(
        self, styles: Sequence["MeasuredStyle"], shares: Sequence[float], scales: Sequence[float], long: int
    ) -> tuple[Tensor, Tensor]:
        """Return the affine (1, P) and the colours (1, 3, 4) of a blend of styles.

        Parameters
        ----------
        shares, scales : sequence of float
            Each style's share, with a sum of 1, and the size of its strokes.
        long : int
            The painting's long side in pixels.
        """
        moments = [style.at(round(scale * long)) for style, scale in zip(styles, scales, strict=True)]
        blended = blend(moments, shares)
        affine = self.net.predict(blended)
        for style, share in zip(styles, shares, strict=True):
            vector = style.learnt(self.net)
            affine = affine if vector is None else affine + share * vector.to(affine)
        return affine, self.net.style_colours(blended)

    @with_gradients
    @torch.no_grad()
    def _paint(
        self,
        content: Tensor,
        places: Sequence[tuple[Tensor, "MeasuredStyle"]],
        mask: Tensor | None,
        statistics: PassStatistics | None,
        origin: tuple[int, int],
    ) -> Step:
        size, options = (content.shape[-2], content.shape[-1]), self.options
        x, shown = self.compute.picture(opaque(content)), visible(content)
        masks, norms, moments = self._masks(x, places, shown), None, None
        if statistics is None:
            affine, colours = self._styles(x, places, masks, shown)
        else:
            affine, colours, norms, moments = (getattr(statistics, f.name) for f in fields(statistics))
        with self.compute.autocast():
            painted = self.run(x, affine, norms, masks, [origin])
        painted = colour(painted, colours, moments, masks).contiguous()
        if mask is not None:
            where = blur(resize(mask, size), options.mask_feather).to(x)
            painted = x + where * (painted - x)
        return Step(size, 1, 1, 1, 1, {}, painted.clone(), schedule=(1,))

    @staticmethod
    def _masks(x: Tensor, places: Sequence[tuple[Tensor, "MeasuredStyle"]], shown: Tensor | None) -> Tensor | None:
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
        x: Tensor,
        places: Sequence[tuple[Tensor, "MeasuredStyle"]],
        masks: Tensor | None,
        shown: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return affines (R, P) and colours (R, 3, 4) of the masks' parts, at the options' strength."""
        long, strength = max(x.shape[-2:]), self.options.strength
        several = [self.affine([s], (1.0,), self.scales[:1], long) for _, s in places]
        several += [self.affine(self.styles, self.shares, self.scales, long)] * (1 if shown is None else 2)
        affine, colours = (torch.cat(t) for t in zip(*several, strict=True))
        if strength != 1:
            affine = torch.lerp(self._photograph(x, shown).to(affine), affine, strength)
            own = colours_of(colour_moments(x, masks)).to(colours)
            colours = torch.lerp(own, colours, min(1.0, strength))
        return affine, colours

    def _photograph(self, x: Tensor, shown: Tensor | None) -> Tensor:
        """Return the affine (1, P) of strength 0: the photograph in its own style, unpainted."""
        small = resize(x, fit_size((x.shape[-2], x.shape[-1]), long_side=PHOTO_SIZE))
        layers = tuple(self.net.config.layers)
        with self.compute.autocast():
            features = self.encoder(self.compute.picture(small), layers)
        moments = {k: raw_moments(f, None if shown is None else weights_of(shown, f)) for k, f in features.items()}
        return self.net.unpainted(self.net.predict(moments))


def pass_memory(size: tuple[int, int], net: Network, compute: Compute) -> int:
    """Return the bytes that a network's pass at height and width `size` takes beyond the process's current memory."""
    item = 4 if compute.autocast_dtype is None else compute.autocast_dtype.itemsize
    return FIXED_BYTES + round(size[0] * size[1] * PIXEL_BYTES[item] * net.config.width / 32)


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
                style = StyleTarget.of(style, self.encoder, self.compute, (size,), self.layers)
            found = style.at(size)
            self.known[size] = {k: found[k].to(self.compute.device) for k in self.layers}
        return self.known[size]

    def learnt(self, net: Network) -> Tensor | None:
        """Return the learnt correction of the affine, (1, P), or None if there is none for this network."""
        if isinstance(self.style, Tensor):
            return None
        return self.style.learnt_for(net)
