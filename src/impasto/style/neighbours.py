"""The `nn` style loss: it pulls every position of the painting towards the most similar position of the style picture.

Kolkin, Kucera, Paris, Sýkora, Shechtman, Shakhnarovich, "Neural Neighbor Style Transfer", 2022 (arXiv:2203.13215).
The features of several layers, resampled to one grid, form a hypercolumn at each position. Each hypercolumn of the
content is replaced by its nearest neighbour among the style's, by centred cosine distance, and the picture is optimised
until its hypercolumns match. The paper's last pass does the same for each layer, matched again before every step.
`nearest` and `neighbour_loss` accept any features.

So there are two terms. The first matches hypercolumns once per scale, which transfers the style's arrangement. The
second matches each layer again at every step, which sharpens strokes and colours.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.picture import visible
from ..models.moments import at_least_float32, weights_of
from .losses import covariance_metric
from .terms import Part, Term, View, inside

GRID_STRIDE = 4
"""Picture pixels per hypercolumn, along one side (as in the paper)."""
Distance = Literal["cosine", "euclidean"]
"""How columns are compared in a search."""
LEAST_LENGTH = 1e-8
"""Lower bound of a column's length."""
CHUNK = 2048
"""Columns on each side that `nearest` compares at a time. On a CPU, this is faster than 1,024 and 4,096."""


def grid_size(size: tuple[int, int], stride: int = GRID_STRIDE) -> tuple[int, int]:
    """Return the height and width of the grid of hypercolumns for a picture's height and width."""
    return max(1, size[0] // stride), max(1, size[1] // stride)


def hypercolumns(
    features: Mapping[str, Tensor],
    layers: Sequence[str],
    size: tuple[int, int],
    metrics: Mapping[str, Tensor | None] | None = None,
    widths: Mapping[str, float] | None = None,
) -> Tensor:
    """Return the layers' features on one grid, concatenated along the channels.

    Coarser layers are enlarged bilinearly. Finer layers are averaged over each cell. The paper reduces them bilinearly,
    too, but at a quarter of the size that would skip three of four features.

    Parameters
    ----------
    features : dict of str to Tensor
        Layer -> (N, C, H, W), any floating type.
    layers : sequence of str
        The layers to use, in order.
    size : tuple of int
        Height and width of the grid (`grid_size`).
    metrics : dict of str to (Tensor or None), optional
        Layer -> A (C, C) from `losses.covariance_metric`. Centred hypercolumns then have the same lengths and cosines
        as after the encoder's heads.
    widths : dict of str to int, optional
        Layer -> divisor of its features, so that wide layers do not outweigh the others (as in the authors' code). By
        default, the number of channels; after a head, use the head's width.

    Returns
    -------
    Tensor
        (N, sum of C, height, width), float32, or float64 for float64 features; differentiable.
    """
    parts = []
    for layer in layers:
        f = at_least_float32(features[layer])
        metric = None if metrics is None else metrics.get(layer)
        finer = f.shape[-2] > size[0] or f.shape[-1] > size[1]
        if finer:
            f = F.adaptive_avg_pool2d(f, size)
        width = (widths or {}).get(layer, f.shape[1])
        # Apply the map on the smaller of the two grids: a map of the channels commutes with resizing.
        f = f / width if metric is None else F.conv2d(f, (metric / width)[:, :, None, None])
        parts.append(f if tuple(f.shape[-2:]) == size else F.interpolate(f, size, mode="bilinear", align_corners=False))
    return torch.cat(parts, 1)


def columns(*features: Tensor) -> Tensor:
    """Flatten features (N, C, H, W) of pictures of any sizes to one list of columns (total of N H W, C)."""
    return torch.cat([f.permute(0, 2, 3, 1).flatten(0, 2) for f in features])


def rotations(picture: Tensor) -> Iterable[Tensor]:
    """Yield a picture (N, C, H, W) rotated by 0, 90, 180 and 270 degrees.

    The paper matches against the style picture in four orientations. The picture has to be rotated, not its features: a
    network's features of a rotated picture are not its rotated features.
    """
    return (torch.rot90(picture, quarters, (2, 3)) for quarters in range(4))


@torch.no_grad()
def nearest(
    content: Tensor,
    style: Tensor,
    chunk: int = CHUNK,
    dtype: torch.dtype | None = None,
    distance: Distance = "cosine",
) -> Tensor:
    """Return, for each content column, the style column with the smallest centred distance.

    The distance is 1 - <x, y> / (||x|| ||y||), or ||x - y||, with x and y centred, content and style each by its own
    mean column. Among equals, the first wins, so the result depends only on the columns and the chunk size.

    Parameters
    ----------
    content, style : Tensor
        (P, C) and (Q, C), float32 or float64.
    chunk : int
        Columns of each to compare at a time. In addition to its inputs and result, the search holds about
        chunk (chunk + 4 C) numbers, independent of P and Q: for 2,048 columns, 26 MB with C = 272, 48 MB with C = 960.
    dtype : torch.dtype, optional
        The dtype of the products; by default, that of the columns. bfloat16, if the processor supports it, is more than
        twice as fast. In a test on a photograph, it changed the neighbour of one column in six, and the mean distance
        grew by 0.1 %.
    distance : "cosine" or "euclidean"
        The paper uses "cosine". It ignores lengths, so a place of nearly the mean colour can be matched with a strong
        colour of its hue. Places beside each other then get very different matches, which show as hard-edged patches.

    Returns
    -------
    Tensor
        (P,), int64: indices into `style`.
    """
    dtype = dtype or content.dtype
    content_mean, style_mean = content.mean(0), style.mean(0)

    def comparable(x: Tensor) -> Tensor:
        return (x if distance == "euclidean" else F.normalize(x, dim=1)).to(dtype)

    found = torch.zeros(len(content), dtype=torch.int64, device=content.device)
    for start in range(0, len(content), chunk):
        x = comparable(content[start : start + chunk] - content_mean)
        best = content.new_full((len(x),), -torch.inf)
        index = found[start : start + chunk]  # a view
        for first in range(0, len(style), chunk):
            y = comparable(style[first : first + chunk] - style_mean)
            products = x @ y.t()
            if distance == "euclidean":  # smallest where <x, y> - ||y||^2 / 2 is largest
                products = products.to(content.dtype) - 0.5 * y.to(content.dtype).square().sum(1)
            value, place = products.max(1)
            better = value > best
            best = torch.where(better, value, best)
            index.copy_(torch.where(better, place + first, index))
    return found


def match(
    content: Tensor,
    style: Tensor,
    chunk: int = CHUNK,
    dtype: torch.dtype | None = None,
    distance: Distance = "cosine",
) -> Tensor:
    """Replace each column of the content's features by its nearest style column.

    Parameters
    ----------
    content : Tensor
        (N, C, H, W), hypercolumns or one layer's features; each picture is centred by its own mean.
    style : Tensor
        (Q, C), from `columns`.
    chunk, dtype, distance
        As for `nearest`.

    Returns
    -------
    Tensor
        (N, C, H, W), without gradient, in channels_last order.
    """
    n, _, h, w = content.shape
    found = torch.stack([nearest(columns(c[None]), style, chunk, dtype, distance) for c in content])
    return style.detach()[found].view(n, h, w, -1).permute(0, 3, 1, 2)


def neighbour_loss(features: Tensor, matched: Tensor, centre: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean centred cosine distance of the picture's columns to the style columns matched with them.

    Kolkin et al. 2022: the mean over positions of 1 - cos(f - c, t - c). Here c is the style's mean column for both.
    If each were centred by its own mean, as in the search, a constant offset of the picture would cost nothing. (The
    authors' code uses c = 0 for hypercolumns; after a head, that would include its bias.)

    Parameters
    ----------
    features, matched : Tensor
        (N, C, H, W), of the picture and from `match`.
    centre : Tensor
        (C,), `style.mean(0)` of the style's columns.
    weights : Tensor, optional
        (1 or N, 1, H, W), each position's weight, 0 or more. If all are 0, the loss is 0.

    Returns
    -------
    Tensor
        (N,), in [0, 2].
    """
    return direction_loss(features, directions(matched, centre), centre, weights)


def directions(matched: Tensor, centre: Tensor) -> Tensor:
    """Return the unit vectors of `matched` less `centre`, (N, C, H, W), to be computed once for `direction_loss`."""
    return F.normalize(matched - centre[:, None, None], dim=1)


def direction_loss(features: Tensor, wanted: Tensor, centre: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return `neighbour_loss` for the `directions` of the matched columns."""
    cosines = _Cosines.apply(features, wanted, centre)
    assert isinstance(cosines, Tensor)
    distances = 1 - cosines
    if weights is None:
        return distances.mean((1, 2))
    return (distances * weights[:, 0]).sum((1, 2)) / weights[:, 0].sum((1, 2)).clamp(min=1e-12)


class _Cosines(torch.autograd.Function):
    """The cosines (N, H, W) of features less a centre with unit vectors, in fewer passes than autograd's."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, wanted: Tensor, centre: Tensor) -> Tensor:
        x = features - centre[:, None, None]
        lengths = torch.linalg.vector_norm(x, dim=1).clamp(min=LEAST_LENGTH)
        cosines = (x * wanted).sum(1) / lengths
        ctx.save_for_backward(x, wanted, lengths, cosines)
        return cosines

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, wanted, lengths, cosines = ctx.saved_tensors
        scale = (gradients[0] / lengths)[:, None]
        return (scale * wanted).addcmul_(x, -scale * (cosines / lengths)[:, None]), None, None


NEIGHBOUR_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
"""The layers of a hypercolumn. Deeper layers are too coarse for its grid."""
MOST_COLUMNS = 65536
"""Largest number of style columns to search; from more, this many are sampled at random."""
FEW_COLUMNS = 4096
"""The same for a search at every step, and for the loss of `--neighbour-weight`, which should be quick."""


class Columns:
    """Computes the hypercolumns of pictures.

    Parameters
    ----------
    view : View
        Computes the features of pictures.
    shares : dict of str to float
        Layer -> its weight.
    """

    def __init__(self, view: View, shares: Mapping[str, float]):
        encoder, device = view.encoder, view.compute.device
        self.view, self.shares, self.layers = view, shares, tuple(shares)
        metrics = {k: covariance_metric(encoder, k) for k in shares}
        self.metrics = {k: m if m is None else m.to(device) for k, m in metrics.items()}
        # The divisor of the features: their number of channels (after the head), divided by the layer's weight.
        self.widths = {k: encoder.config.heads.get(k, encoder.width(k)) / w for k, w in shares.items()}

    def of(self, features: Mapping[str, Tensor], layers: Sequence[str], size: tuple[int, int]) -> Tensor:
        """Return the layers' hypercolumns (1, C, height, width) on a grid of that size."""
        return hypercolumns(features, layers, size, self.metrics, self.widths)

    def grid(self, image: Tensor) -> tuple[int, int]:
        """Return the height and width of the grid for a picture (1, 3, H, W)."""
        return grid_size((image.shape[-2], image.shape[-1]))

    def picture(self, image: Tensor) -> dict[str, Tensor]:
        """Return layer -> hypercolumns (1, C, height, width) of a picture (1, 3, H, W)."""
        features = self.view.features(image, self.layers)
        return {k: self.of(features, [k], self.grid(image)) for k in self.layers}

    def style(self, picture: Tensor, seed: int, most: int) -> dict[str, Tensor]:
        """Return layer -> columns (Q, C) of a style picture in four orientations, at the same positions in every layer.

        Of a cut-out (1, 4, H, W), only visible positions are used.
        """
        found: dict[str, list[Tensor]] = {k: [] for k in self.layers}
        for turned in rotations(picture):
            shown = visible(turned)
            for k, f in self.picture(turned).items():
                found[k].append(columns(f if shown is None else inside(f, weights_of(shown, f))))
        whole = {k: torch.cat(f) for k, f in found.items()}
        count = len(whole[self.layers[0]])
        if count <= most:
            return whole
        chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].sort().values
        return {k: f[chosen.to(f.device)] for k, f in whole.items()}


class Neighbours:
    """The columns of a style for one part of the picture.

    Parameters
    ----------
    part : Part
        The part of the picture.
    share : float
        The style's share among the styles of that part.
    columns : dict of str to Tensor
        Layer -> (Q, C), from `Columns.style`.
    """

    def __init__(self, part: Part, share: float, columns: Mapping[str, Tensor]):
        self.part, self.share, self.columns = part, share, columns


class NeighbourTerm(Term):
    """`neighbour_loss` of hypercolumns, matched once when the term is created.

    Parameters
    ----------
    columns : Columns
        Computes the hypercolumns.
    styles : sequence of Neighbours
        The style columns to match.
    image : Tensor
        (1, 3, H, W), the picture whose hypercolumns are matched: the painting at the start of the scale.
    content : Tensor, optional
        The photograph (1, 3, H, W), needed if the strength is below 1.
    strength : float
        Interpolates the targets from the photograph's columns (0) to the matched ones (1).
    distance : "cosine" or "euclidean"
        How the columns are matched, as for `nearest`.
    """

    def __init__(
        self,
        columns: Columns,
        styles: Sequence[Neighbours],
        image: Tensor,
        content: Tensor | None = None,
        strength: float = 1.0,
        distance: Distance = "cosine",
    ):
        super().__init__(columns.layers)
        self.made, self.size = columns, columns.grid(image)
        with torch.no_grad():
            own = torch.cat(list(columns.picture(image).values()), 1)
            anchor = None if content is None else torch.cat(list(columns.picture(content).values()), 1)
            self.targets = []
            for style in (s for s in styles if s.part.share and s.share):
                found = torch.cat(list(style.columns.values()), 1)
                matched = match(own, found, dtype=columns.view.compute.autocast_dtype, distance=distance)
                if anchor is not None:
                    matched = torch.lerp(anchor, matched, strength)
                centre = found.mean(0)
                self.targets.append((style.part, style.share, directions(matched, centre), centre))

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        """Return the layer's channels of the hypercolumns."""
        return self.made.of({layer: features}, [layer], self.size)

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the loss, a scalar, with each part weighted by its area."""
        own = torch.cat([measures[k].view(1, -1, *self.size) for k in self.layers], 1)
        found = []
        for part, share, wanted, centre in self.targets:
            weights = None if part.mask is None else self.made.view.weights(part.mask, own)
            found.append(part.share * share * direction_loss(own, wanted, centre, weights).sum())
        return torch.stack(found).sum()


class LayerNeighbourTerm(Term):
    """The weighted mean of `neighbour_loss` over layers, each matched separately and again at every evaluation.

    Parameters
    ----------
    columns, styles, image, content, strength
        As for `NeighbourTerm`; only the size of the image matters.
    """

    def __init__(
        self,
        columns: Columns,
        styles: Sequence[Neighbours],
        image: Tensor,
        content: Tensor | None = None,
        strength: float = 1.0,
    ):
        super().__init__(columns.layers)
        self.made, self.size, self.strength = columns, columns.grid(image), strength
        self.anchor = None if content is None else columns.picture(content)
        self.styles = [s for s in styles if s.part.share and s.share]

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        """Return the layer's share of the loss, a scalar."""
        own = self.made.of({layer: features}, [layer], self.size)
        found = []
        for style in self.styles:
            columns = style.columns[layer]
            matched = match(own, columns, dtype=view.compute.autocast_dtype)
            if self.anchor is not None:
                matched = torch.lerp(self.anchor[layer], matched, self.strength)
            weights = None if style.part.mask is None else view.weights(style.part.mask, own)
            loss = neighbour_loss(own, matched, columns.mean(0), weights).sum()
            found.append(style.part.share * style.share * loss)
        return self.made.shares[layer] / sum(self.made.shares.values()) * torch.stack(found).sum()
