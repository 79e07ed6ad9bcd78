"""The loss of a picture whose features do not fit into memory, computed in tiles and equal to that of the whole.

The terms measure sums over pixels, and sums of tiles add up. A first pass adds the sums of all tiles, without
gradients. The loss and its gradient with respect to the sums follow from them, as for a picture in one piece. A second
pass runs each tile again and injects that gradient at its layers.

A tile is a rectangle of the picture that no other tile measures, and the margin around it that the deepest layer sees.
Its borders are at multiples of the encoder's stride, so it pools the same pixels as the whole picture does. Where a
tile ends at the picture's border, it is padded like the picture. So the features of a tile are those of the picture.
Their gradient reaches into the margin, where it is added to that of the neighbouring tiles. The borders move from
evaluation to evaluation; otherwise half precision would round differently at the same lines every time.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..device import Compute, return_freed_memory
from ..image.picture import opaque
from ..models.moments import at_least_float32, moment_sums, weights_of
from ..models.vgg import VGG
from ..style.extra import POOLING, laplacian_loss
from ..style.plain import PLAIN, squares_of
from ..style.terms import (
    ContentTerm,
    LaplacianTerm,
    PerceptualLoss,
    RimTerm,
    TemporalTerm,
    Term,
    VariationTerm,
    View,
    squared_metric,
)
from .store import Store

PLACES = ((0, 0), (2, 1), (1, 2), (3, 3))
"""How far the borders between tiles are moved in one evaluation after the other, in strides, along the height and the
width. There are few places, since oneDNN keeps a kernel, with its memory, for every size of tile."""
ROWS = 64 * POOLING
"""Rows of the picture at a time, for the terms that are computed on pixels."""


def margin_of(encoder: VGG, layers: Sequence[str]) -> tuple[int, int]:
    """Return the margin in pixels that the deepest of the layers needs around a tile, and its stride.

    A 3x3 convolution sees one feature beyond each side. The sum over the convolutions is rounded up to strides.
    """
    deepest = max(layers, key=lambda k: encoder.layers[k])
    stride = encoder.stride(deepest)
    reach = sum(encoder.stride(k) for k, _ in encoder.convolutions() if encoder.layers[k] <= encoder.layers[deepest])
    return -(-reach // stride) * stride, stride


class Span(NamedTuple):
    """The range of a tile along one side of the picture, in pixels, without and with the margin."""

    start: int
    end: int
    seen_start: int
    seen_end: int

    def own(self, stride: int) -> slice:
        """Return where the tile's own features are among those of the picture."""
        return slice(self.start // stride, self.end // stride)

    def all(self, stride: int) -> slice:
        """Return where the tile's features, with the margin, are among those of the picture."""
        return slice(self.seen_start // stride, self.seen_end // stride)

    def inside(self, stride: int) -> slice:
        """Return where the tile's own features are among all of its features."""
        first = self.seen_start // stride
        return slice(self.start // stride - first, self.end // stride - first)

    @property
    def seen(self) -> slice:
        """The range of the tile's pixels, with the margin."""
        return slice(self.seen_start, self.seen_end)


def spans(length: int, side: int, stride: int, margin: int, place: int) -> list[Span]:
    """Return the tiles along one side of a picture.

    Parameters
    ----------
    length, side, margin : int
        The picture's side, a tile's side and the margin, in pixels.
    stride : int
        Tiles start at multiples of this.
    place : int
        How many strides the borders are moved towards the start.
    """
    side = max(stride, side // stride * stride)
    if length <= side:
        return [Span(0, length, 0, length)]
    places = max(1, min(len(PLACES), side // (2 * stride)))
    room = length + (places - 1) * stride
    step = -(-room // -(-room // side) // stride) * stride  # tiles of about the same size
    cuts = [0, *range(step - place % places * stride, length, step), length]
    seen = step + 2 * margin  # the same for all tiles but the last
    last = max(0, (length - seen) // stride * stride)
    starts = [min(max(0, a - margin), last) for a in cuts[:-1]]
    return [Span(a, b, s, length if s == last else s + seen) for (a, b), s in zip(pairwise(cuts), starts, strict=True)]


class Tile(NamedTuple):
    """A tile: its rows and its columns."""

    rows: Span
    columns: Span

    def pixels(self, image: Tensor) -> Tensor:
        """Return the tile's pixels, with the margin, of a picture or a mask (1, C, H, W): a view."""
        return image[:, :, self.rows.seen, self.columns.seen]


class TiledView(View):
    """An encoder that is applied to a picture of one size in tiles.

    Parameters
    ----------
    encoder, compute
        As for `View`.
    size : (int, int)
        Height and width of the picture.
    layers : sequence of str
        The layers that are measured.
    side : int
        Side of a tile in pixels.
    on_disk : bool
        Whether the content's features are kept in files.
    """

    def __init__(
        self,
        encoder: VGG,
        compute: Compute,
        size: tuple[int, int],
        layers: Sequence[str],
        side: int,
        on_disk: bool = False,
    ):
        super().__init__(encoder, compute)
        self.size, self.side, self.on_disk = size, side, on_disk
        self.margin, self.deepest = margin_of(encoder, layers)
        self.masks: dict[int, tuple[Tensor, dict[str, Tensor]]] = {}

    def tiles(self, turn: int = 0) -> Iterator[Tile]:
        """Yield the tiles of an evaluation, from top to bottom."""
        rows, columns = (
            spans(length, self.side, self.deepest, self.margin, place)
            for length, place in zip(self.size, PLACES[turn % len(PLACES)], strict=True)
        )
        return (Tile(r, c) for r in rows for c in columns)

    def reduced(self, mask: Tensor, layer: str) -> Tensor:
        """Return a mask (1, 1, H, W) of the picture, reduced to the size of a layer's features; computed once."""
        _, known = self.masks.setdefault(id(mask), (mask, {}))
        if layer not in known:
            stride = self.encoder.stride(layer)
            h, w = (n // stride for n in self.size)
            known[layer] = weights_of(mask, torch.empty(1, 1, h, w, device=mask.device))
        return known[layer]

    @torch.no_grad()
    def moments(self, image: Tensor, layers: Sequence[str], masks: Sequence[Tensor | None]) -> list[dict[str, Tensor]]:
        """Return, for each mask (None for the whole picture), layer -> raw moments (1, C + 1, C + 1) inside it."""
        sums: list[dict[str, Tensor]] = [{} for _ in masks]
        image = opaque(image)
        for tile in self.tiles():

            def visit(layer: str, features: Tensor, tile: Tile = tile) -> None:
                window = Window(self, tile, layer)
                own = window.inside(features, layer)
                for found, mask in zip(sums, masks, strict=True):
                    of_tile = moment_sums(own, None if mask is None else window.weights(mask, own))
                    found[layer] = found.get(layer, 0) + of_tile.double()

            self.look(tile.pixels(image), layers, visit)
        return [{k: (m / m[:, -1:, -1:].clamp(min=1e-12)).float() for k, m in found.items()} for found in sums]

    def content(self, picture: Tensor, shares: Mapping[str, float], shown: Tensor | None = None) -> ContentTerm:
        """Return the content term of a picture (1, 3, H, W), whose features are stored."""
        return StoredContentTerm(self, picture, shares, shown)

    def look(self, pixels: Tensor, layers: Sequence[str], visit: Any, *, keep: bool = False) -> Any:
        """Run the encoder over the pixels of a tile (`VGG.look`), with statistics outside of autocast."""

        def outside(layer: str, features: Tensor) -> None:
            with torch.autocast(features.device.type, enabled=False):
                visit(layer, features)

        with self.compute.autocast():
            return self.encoder.look(self.compute.picture(pixels), layers, outside, keep=keep)


class Window(View):
    """What a term sees of one layer in one tile.

    Parameters
    ----------
    whole : TiledView
        The view of the picture.
    tile : Tile
        The tile.
    layer : str
        The layer.
    margins : bool
        Whether terms see the margin, too.
    """

    def __init__(self, whole: TiledView, tile: Tile, layer: str, *, margins: bool = False):
        super().__init__(whole.encoder, whole.compute)
        self.whole, self.layer, stride = whole, layer, whole.encoder.stride(layer)
        self.place = tile.rows.inside(stride), tile.columns.inside(stride)
        self.own = tile.rows.own(stride), tile.columns.own(stride)
        if margins:
            self.own = tile.rows.all(stride), tile.columns.all(stride)

    def weights(self, mask: Tensor, features: Tensor) -> Tensor:
        """Return the tile's part of a mask (1, 1, H, W) of the picture, reduced to the layer."""
        return self.whole.reduced(mask, self.layer)[:, :, self.own[0], self.own[1]].to(features.device)

    def inside(self, features: Tensor, layer: str) -> Tensor:
        """Return the features without those of the margin: a view."""
        return features[:, :, self.place[0], self.place[1]]


class StoredContentTerm(ContentTerm):
    """A content term whose features are stored for a picture in tiles.

    Parameters
    ----------
    view : TiledView
        How the encoder is applied.
    picture : Tensor
        (1, 3, H, W), the content.
    shares, shown
        As for `ContentTerm`.
    """

    @torch.no_grad()
    def __init__(self, view: TiledView, picture: Tensor, shares: Mapping[str, float], shown: Tensor | None = None):
        Term.__init__(self, list(shares))
        self.stores: dict[str, Store] = {}
        self.metrics: dict[str, Tensor | None] = {}
        sums: dict[str, Tensor] = {}
        for tile in view.tiles():

            def visit(layer: str, features: Tensor, tile: Tile = tile) -> None:
                window = Window(view, tile, layer)
                own = window.inside(features, layer)
                if layer not in self.stores:
                    h, w = (n // view.encoder.stride(layer) for n in view.size)
                    shape, device = (h, w, own.shape[1]), own.device
                    self.stores[layer] = Store(shape, own.dtype, device, on_disk=view.on_disk)
                    self.metrics[layer] = squared_metric(view.encoder, layer, own)
                self.stores[layer].open()[window.own] = own[0].permute(1, 2, 0).to(self.stores[layer].open().device)
                weights = None if shown is None else window.weights(shown, own)
                sums[layer] = sums.get(layer, 0) + moment_sums(own, weights).double()

            view.look(tile.pixels(picture), tuple(shares), visit)
        self.weights = {k: share / self._spread(k, sums[k][0]) for k, share in shares.items()}

    def _spread(self, layer: str, sums: Tensor) -> float:
        """Return the sum of squares of the centred content after the head, from the content's sums of products."""
        total = sums[-1, -1].clamp(min=1e-6)
        centred = sums[:-1, :-1] - sums[:-1, -1:] * sums[-1:, :-1] / total
        metric = self.metrics[layer]
        found = centred.diagonal().sum() if metric is None else (centred * metric.to(centred)).sum()
        h, w, channels = self.stores[layer].shape
        return max(float(found), 1e-12 * h * w * channels)

    def target(self, layer: str, view: View) -> Tensor:
        """Return the content's features (1, C, h, w) of the tile."""
        assert isinstance(view, Window)
        found = self.stores[layer].open()[view.own]
        return found.to(view.compute.device, copy=True).permute(2, 0, 1)[None]


class Pixels:
    """The picture that a loss is computed for, composited in parts, so that it takes little memory.

    Parameters
    ----------
    image : Tensor
        (1, 3, H, W), the optimised picture.
    over : (Tensor, Tensor) or None
        As for `PerceptualLoss`.
    """

    def __init__(self, image: Tensor, over: tuple[Tensor, Tensor] | None):
        self.image, self.over = image, over

    def rows(self, start: int, end: int) -> Tensor:
        """Return rows of the picture."""
        return self._composed(lambda t: t[:, :, start:end])

    def tile(self, tile: Tile) -> Tensor:
        """Return the pixels of a tile with its margin."""
        return self._composed(tile.pixels)

    def _composed(self, cut: Any) -> Tensor:
        if self.over is None:
            return cut(self.image)  # type: ignore[no-any-return]
        below, mask = (cut(t).to(self.image.device) for t in self.over)
        return below + mask * (cut(self.image) - below)  # type: ignore[no-any-return]


class TiledVariation(Term):
    """`VariationTerm`, a few rows at a time."""

    def value(self, pixels: Pixels) -> Tensor:
        """Return the total variation, a scalar in float64."""
        found = torch.zeros((), dtype=torch.float64)
        for _, _, down, right in self._differences(pixels):
            found += down[0].square().sum().cpu().double() / down[1] + right[0].square().sum().double().cpu() / right[1]
        return found

    def add_to(self, gradient: Tensor, pixels: Pixels, factor: float) -> None:
        """Add the gradient, times a factor, to that of the picture."""
        for start, end, (down, n), (right, m) in self._differences(pixels):
            step = down * (2 * factor / n)
            gradient[:, :, start + 1 : start + 1 + step.shape[2]] += step
            gradient[:, :, start : start + step.shape[2]] -= step
            step = right * (2 * factor / m)
            gradient[:, :, start:end, 1:] += step
            gradient[:, :, start:end, :-1] -= step

    def _differences(self, pixels: Pixels) -> Iterator[tuple[int, int, tuple[Tensor, int], tuple[Tensor, int]]]:
        """Yield rows [start, end), their differences to the rows below, and to the columns on the right.

        Each difference comes with the number of such differences in the whole picture.
        """
        _, c, h, w = pixels.image.shape
        for start in range(0, h, ROWS):
            end = min(start + ROWS, h)
            x = pixels.rows(start, min(end + 1, h))
            down, own = x[:, :, 1:] - x[:, :, :-1], x[:, :, : end - start]
            yield start, end, (down, c * (h - 1) * w), (own[..., 1:] - own[..., :-1], c * h * (w - 1))


class TiledLaplacian(Term):
    """`LaplacianTerm`, a few rows at a time.

    Parameters
    ----------
    content : Tensor
        (1, 3, H, W), sRGB, [0, 1].
    """

    def __init__(self, content: Tensor):
        super().__init__()
        self.content = content

    def value(self, pixels: Pixels) -> Tensor:
        """Return the loss, a scalar in float64."""
        return self._loss(self._cells(pixels)).cpu().double()

    def add_to(self, gradient: Tensor, pixels: Pixels, factor: float) -> None:
        """Add the gradient, times a factor, to that of the picture."""
        with torch.enable_grad():
            cells = self._cells(pixels).requires_grad_(True)
            (found,) = torch.autograd.grad(self._loss(cells), cells)
        for row in range(found.shape[2]):
            spread = found[:, :, row].repeat_interleave(POOLING, 2)[:, :, None] * (factor / POOLING**2)
            gradient[:, :, row * POOLING : (row + 1) * POOLING, : spread.shape[3]] += spread

    @torch.no_grad()
    def _cells(self, pixels: Pixels) -> Tensor:
        """Return the averages of the difference to the content in cells of `POOLING` pixels a side."""
        height = pixels.image.shape[2] // POOLING * POOLING
        parts = []
        for start in range(0, height, ROWS):
            end = min(start + ROWS, height)
            x = pixels.rows(start, end)
            parts.append(F.avg_pool2d(x - self.content[:, :, start:end].to(x), POOLING))
        return torch.cat(parts, 2)

    @staticmethod
    def _loss(cells: Tensor) -> Tensor:
        return laplacian_loss(cells, torch.zeros_like(cells), pooling=1).sum()


class TiledRim(Term):
    """`RimTerm`, a few rows at a time.

    Parameters
    ----------
    whole : RimTerm
        The same for the whole picture.
    """

    def __init__(self, whole: RimTerm):
        super().__init__()
        self.whole = whole

    def value(self, pixels: Pixels) -> Tensor:
        """Return the loss, a scalar in float64."""
        added = self.whole.added(self._squares(pixels))
        parts = [rims.of_rows(added, *rows).sum().double() for rims in self.whole.rims for rows in _bands(added)]
        return torch.stack(parts).sum().cpu()

    def add_to(self, gradient: Tensor, pixels: Pixels, factor: float) -> None:
        """Add the gradient, times a factor, to that of the picture."""
        with torch.enable_grad():
            squares = self._squares(pixels).requires_grad_(True)
            added = self.whole.added(squares)
            of_added, detached = torch.zeros_like(added), added.detach().requires_grad_(True)
            for rims in self.whole.rims:
                for rows in _bands(added):
                    of_added += torch.autograd.grad(factor * rims.of_rows(detached, *rows).sum(), detached)[0]
            (found,) = torch.autograd.grad(added, squares, of_added)
            for start, end, x, own in self._parts(pixels):
                (part,) = torch.autograd.grad(own, x, found[:, :, start // PLAIN : end // PLAIN])
                first = max(0, start - PLAIN)
                gradient[:, :, first : first + part.shape[2]] += part

    @torch.no_grad()
    def _squares(self, pixels: Pixels) -> Tensor:
        """Return the picture's `squares_of`."""
        return torch.cat([own for _, _, _, own in self._parts(pixels)], 2)

    def _parts(self, pixels: Pixels) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Yield rows [start, end), these with the rows around them that they need, and their squares."""
        height = pixels.image.shape[2] // PLAIN * PLAIN
        for start in range(0, height, ROWS):
            end, first = min(start + ROWS, height), max(0, start - PLAIN)
            x = pixels.rows(first, end + PLAIN).detach().requires_grad_(torch.is_grad_enabled())
            yield start, end, x, squares_of(x)[:, :, (start - first) // PLAIN :][:, :, : (end - start) // PLAIN]


def _bands(squares: Tensor) -> list[tuple[int, int]]:
    """Return the ranges of rows of a picture's squares (1, 3, H / 4, W / 4) that are computed at a time."""
    height, step = squares.shape[2], ROWS // PLAIN
    return [(start, min(start + step, height)) for start in range(0, height, step)]


class TiledTemporal(Term):
    """`TemporalTerm`, a few rows at a time.

    Parameters
    ----------
    moved, trust
        As for `TemporalTerm`.
    """

    def __init__(self, moved: Tensor, trust: Tensor):
        super().__init__()
        self.moved, self.trust = moved, trust

    def value(self, pixels: Pixels) -> Tensor:
        """Return the loss, a scalar in float64."""
        found = torch.zeros((), dtype=torch.float64)
        for _, _, difference, weighted in self._differences(pixels):
            found += (weighted * difference).sum().cpu().double()
        return found / self.moved.numel()

    def add_to(self, gradient: Tensor, pixels: Pixels, factor: float) -> None:
        """Add the gradient, times a factor, to that of the picture."""
        for start, end, _, weighted in self._differences(pixels):
            gradient[:, :, start:end] += weighted * (2 * factor / self.moved.numel())

    def _differences(self, pixels: Pixels) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Yield rows [start, end), their differences from the moved painting, and those weighted by trust."""
        height = self.moved.shape[2]
        for start in range(0, height, ROWS):
            end = min(start + ROWS, height)
            x = pixels.rows(start, end)
            difference = x - self.moved[:, :, start:end].to(x)
            yield start, end, difference, difference * self.trust[:, :, start:end].to(x)


IN_ROWS = TiledVariation, TiledLaplacian, TiledRim, TiledTemporal
"""The terms of the pixels."""


class TiledLoss(PerceptualLoss):
    """`PerceptualLoss` of a picture in tiles. Its terms are sums over pixels.

    Parameters
    ----------
    view : TiledView
        How the encoder is applied.
    terms, over
        As for `PerceptualLoss`.
    """

    def __init__(
        self, view: TiledView, terms: Mapping[str, tuple[float, Term]], over: tuple[Tensor, Tensor] | None = None
    ):
        super().__init__(view, {k: (w, _tiled(t)) for k, (w, t) in terms.items()}, over)
        self.tiled = view
        self.turn = 0
        """The number of the evaluation, which sets the place of the tiles."""

    def move(self, turn: int) -> None:
        """Move the tiles to their place in an evaluation, given its number."""
        self.turn = turn

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return name -> weighted term, and their sum as `total`, each a scalar. Only the sum has a gradient."""
        total, *values = _TiledTotal.apply(image, self)
        return {"total": total, **dict(zip(self.terms, values, strict=True))}


def _tiled(term: Term) -> Term:
    """Return the term that computes in tiles what `term` computes for the whole picture."""
    if isinstance(term, VariationTerm):
        assert not term.wrap, "a picture that tiles the plane is painted in one piece"
        return TiledVariation()
    if isinstance(term, LaplacianTerm):
        return TiledLaplacian(term.content)
    if isinstance(term, RimTerm):
        return TiledRim(term)
    if isinstance(term, TemporalTerm):
        return TiledTemporal(term.moved, term.trust)
    assert term.sums, f"{type(term).__name__} needs the whole picture"
    return term


class _TiledTotal(torch.autograd.Function):
    """Returns the total, which is differentiable once, and the terms, which are not differentiable."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, loss: TiledLoss) -> tuple[Tensor, ...]:
        view, turn, keep = loss.tiled, loss.turn, ctx.needs_input_grad[0]
        image = image.detach()
        pixels, terms = Pixels(image, loss.over), {k: (w, t) for k, (w, t) in loss.terms.items() if t.layers}
        sums: dict[tuple[str, str], Tensor] = {}
        for tile in view.tiles(turn) if loss.layers else ():

            def visit(layer: str, features: Tensor, tile: Tile = tile) -> None:
                window = Window(view, tile, layer)
                own = window.inside(features, layer)
                for name, (_, term) in terms.items():
                    if layer in term.layers and own.numel():
                        measured = term.measure(layer, own, window).to("cpu", torch.float64)
                        sums[name, layer] = sums.get((name, layer), 0) + measured

            view.look(pixels.tile(tile), loss.layers, visit)
        return_freed_memory()  # of the tiles
        like = at_least_float32(image)
        found = {k: m.to(like).requires_grad_(keep) for k, m in sums.items()}
        values: dict[str, Tensor] = {}
        with torch.set_grad_enabled(keep):
            for name, (weight, term) in terms.items():
                values[name] = weight * term.total({k: found[name, k] for k in term.layers}, image)
            total = torch.stack(list(values.values())).sum() if values else like.new_zeros(())
        of = dict(zip(found, torch.autograd.grad(total, list(found.values())), strict=True)) if keep and found else {}
        for name, (weight, term) in loss.terms.items():
            if isinstance(term, IN_ROWS):
                values[name] = weight * term.value(pixels).to(like)
                total = total.detach() + values[name]
        ctx.kept = loss, turn, image, of
        shown = [values[name].detach() for name in loss.terms]
        ctx.mark_non_differentiable(*shown)
        return (total.detach(), *shown)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.kept is None:
            raise RuntimeError("the gradient of this total was already computed; evaluate the loss again")
        (loss, turn, image, of), ctx.kept = ctx.kept, None
        view: TiledView = loss.tiled
        pixels, gradient = Pixels(image, loss.over), torch.zeros_like(image)
        for tile in view.tiles(turn) if loss.layers else ():

            def add(layer: str, features: Tensor, g: Tensor, tile: Tile = tile) -> None:
                # With the margin, so that there are few sizes of matrix products (see `PLACES`).
                window, found = Window(view, tile, layer, margins=True), torch.zeros_like(g)
                for name, (_, term) in loss.terms.items():
                    known = of.get((name, layer))
                    if known is not None:
                        term.add_gradient(layer, features, known, found, window)
                window.inside(g, layer).add_(window.inside(found, layer))

            look = view.look(pixels.tile(tile), loss.layers, _pass, keep=True)
            with torch.autocast(image.device.type, enabled=False):
                tile.pixels(gradient).add_(look.gradient(add))
        return_freed_memory()
        for weight, term in loss.terms.values():
            if isinstance(term, IN_ROWS):
                term.add_to(gradient, pixels, weight)
        if loss.over is not None:
            gradient.mul_(loss.over[1].to(gradient))
        return gradient.mul_(grads[0]), None


def _pass(layer: str, features: Tensor) -> None:
    """Measure nothing."""
