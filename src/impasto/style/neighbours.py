"""The `nn` style loss: every place of the painting is drawn to the place of the style picture that is most like it.

Kolkin, Kucera, Paris, Sýkora, Shechtman, Shakhnarovich, "Neural Neighbor Style Transfer", 2022 (arXiv:2203.13215).
The features of several layers, brought to one grid, make a hypercolumn a place. Each hypercolumn of the content is
replaced by its nearest neighbour among the style's, by centred cosine distance, and the picture is optimised until its
own hypercolumns are those. The paper's last pass does the same layer by layer, matched anew before every step:
`nearest` and `neighbour_loss` take any features.

So there are two terms. The first matches hypercolumns once a scale, which brings the style's arrangement to the
picture. The second matches each layer anew at every step, which sharpens strokes and colours.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.picture import visible
from ..models.moments import at_least_float32, weights_of
from .losses import covariance_metric
from .terms import Part, Term, View, inside

GRID_STRIDE = 4
"""Picture pixels per hypercolumn, along one side (the paper's)."""
CHUNK = 2048
"""Columns of each side that `nearest` compares at a time: on a CPU faster than 1,024 and than 4,096."""


def grid_size(size: tuple[int, int], stride: int = GRID_STRIDE) -> tuple[int, int]:
    """Height and width of the grid of hypercolumns for a picture of that height and width."""
    return max(1, size[0] // stride), max(1, size[1] // stride)


def hypercolumns(
    features: Mapping[str, Tensor],
    layers: Sequence[str],
    size: tuple[int, int],
    metrics: Mapping[str, Tensor | None] | None = None,
    widths: Mapping[str, float] | None = None,
) -> Tensor:
    """The layers' features on one grid, one after the other along the channels.

    Coarser layers are enlarged bilinearly. Finer ones are averaged over each cell, where the paper reduces them
    bilinearly too: at a quarter of the size that would skip three of four features.

    Parameters
    ----------
    features : dict of str to Tensor
        Layer -> (N, C, H, W), any floating type.
    layers : sequence of str
        Which of them, in order.
    size : tuple of int
        Height and width of the grid (`grid_size`).
    metrics : dict of str to (Tensor or None), optional
        Layer -> A (C, C) from `losses.covariance_metric`: centred hypercolumns have then the lengths and cosines
        that they have behind the encoder's heads.
    widths : dict of str to int, optional
        Layer -> what its features are divided by, so that wide layers do not outweigh the others (as the
        authors' code does).
        The number of channels if not given; behind a head it is the head's width.

    Returns
    -------
    Tensor
        (N, sum of C, height, width), float32, or float64 if the features are; differentiable.
    """
    parts = []
    for layer in layers:
        f = at_least_float32(features[layer])
        metric = None if metrics is None else metrics.get(layer)
        finer = f.shape[-2] > size[0] or f.shape[-1] > size[1]
        if finer:
            f = F.adaptive_avg_pool2d(f, size)
        width = (widths or {}).get(layer, f.shape[1])
        # On the smaller of the two grids: a map along the channels and the resizing may change places.
        f = f / width if metric is None else F.conv2d(f, (metric / width)[:, :, None, None])
        parts.append(f if tuple(f.shape[-2:]) == size else F.interpolate(f, size, mode="bilinear", align_corners=False))
    return torch.cat(parts, 1)


def columns(*features: Tensor) -> Tensor:
    """Features (N, C, H, W) of pictures of whatever sizes as a list of columns (total of N H W, C)."""
    return torch.cat([f.permute(0, 2, 3, 1).flatten(0, 2) for f in features])


def rotations(picture: Tensor) -> Iterable[Tensor]:
    """A picture (N, C, H, W) turned by 0, 90, 180 and 270 degrees, one after the other.

    The paper matches against the style picture in the four orientations. It is the picture that has to be turned: a
    network's features of the turned picture are not its features turned.
    """
    return (torch.rot90(picture, quarters, (2, 3)) for quarters in range(4))


@torch.no_grad()
def nearest(content: Tensor, style: Tensor, chunk: int = CHUNK, dtype: torch.dtype | None = None) -> Tensor:
    """For each content column the style column at the least centred cosine distance.

    The distance is 1 - <x, y> / (||x|| ||y||) with x and y centred, the content's by the content's mean column, the
    style's by the style's. Of equals the first wins, so the result depends on nothing but the columns and the chunk.

    Parameters
    ----------
    content, style : Tensor
        (P, C) and (Q, C), float32 or float64.
    chunk : int
        How many columns of each are compared at a time. Beyond its inputs and its result the search holds about
        chunk (chunk + 4 C) numbers, whatever P and Q: for 2,048 columns 26 MB with C = 272, 48 MB with C = 960.
    dtype : torch.dtype, optional
        What the products are computed in; that of the columns if not given. bfloat16, where the processor has it, is
        more than twice as fast; of a photograph's columns one in six had another neighbour then, and the mean distance
        grew by 0.1 %.

    Returns
    -------
    Tensor
        (P,), int64: indices into `style`.
    """
    dtype = dtype or content.dtype
    content_mean, style_mean = content.mean(0), style.mean(0)
    found = torch.zeros(len(content), dtype=torch.int64, device=content.device)
    for start in range(0, len(content), chunk):
        x = F.normalize(content[start : start + chunk] - content_mean, dim=1).to(dtype)
        best = x.new_full((len(x),), -torch.inf)
        index = found[start : start + chunk]  # a view
        for first in range(0, len(style), chunk):
            y = F.normalize(style[first : first + chunk] - style_mean, dim=1).to(dtype)
            value, place = (x @ y.t()).max(1)
            better = value > best
            best = torch.where(better, value, best)
            index.copy_(torch.where(better, place + first, index))
    return found


def match(content: Tensor, style: Tensor, chunk: int = CHUNK, dtype: torch.dtype | None = None) -> Tensor:
    """The features of the content, each column replaced by its nearest style column, as they are in the style.

    Parameters
    ----------
    content : Tensor
        (N, C, H, W), hypercolumns or one layer's features; each picture is centred by its own mean.
    style : Tensor
        (Q, C), from `columns`.
    chunk, dtype
        As for `nearest`.

    Returns
    -------
    Tensor
        (N, C, H, W), without gradient, in channels_last order.
    """
    n, _, h, w = content.shape
    found = torch.stack([nearest(columns(c[None]), style, chunk, dtype) for c in content])
    return style.detach()[found].view(n, h, w, -1).permute(0, 3, 1, 2)


def neighbour_loss(features: Tensor, matched: Tensor, centre: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean centred cosine distance of the picture's columns to the style columns that they were matched with.

    Kolkin et al. 2022: mean over the places of 1 - cos(f - c, t - c). Here c is one fixed point on both sides, the
    style's mean column: centred each by its own mean, as in the search, the picture could be off by any constant for
    free. (The authors' code takes c = 0 for hypercolumns; behind a head that would bring in its bias.)

    Parameters
    ----------
    features, matched : Tensor
        (N, C, H, W), of the picture and from `match`.
    centre : Tensor
        (C,), `style.mean(0)` of the style's columns.
    weights : Tensor, optional
        (1 or N, 1, H, W), each place's weight, 0 or more; where all are 0 the loss is 0.

    Returns
    -------
    Tensor
        (N,), in [0, 2].
    """
    centre = centre[:, None, None]
    distances = 1 - F.cosine_similarity(features - centre, matched - centre, dim=1)  # (N, H, W)
    if weights is None:
        return distances.mean((1, 2))
    return (distances * weights[:, 0]).sum((1, 2)) / weights[:, 0].sum((1, 2)).clamp(min=1e-12)


NEIGHBOUR_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
"""The layers of a hypercolumn; those deeper are too coarse for its grid."""
MOST_COLUMNS = 65536
"""Columns of a style that are searched; of more, so many are drawn by lot."""
MOST_COLUMNS_EACH_STEP = 4096
"""The same where the search is done before every step."""


class Columns:
    """What hypercolumns are made of, and a picture's own.

    Parameters
    ----------
    view : View
        Through what pictures are seen.
    shares : dict of str to float
        Layer -> its weight.
    """

    def __init__(self, view: View, shares: Mapping[str, float]):
        encoder, device = view.encoder, view.compute.device
        self.view, self.shares, self.layers = view, shares, tuple(shares)
        metrics = {k: covariance_metric(encoder, k) for k in shares}
        self.metrics = {k: m if m is None else m.to(device) for k, m in metrics.items()}
        # What features are divided by: their channels, behind a head its channels, over the layer's weight.
        self.widths = {k: encoder.config.heads.get(k, encoder.width(k)) / w for k, w in shares.items()}

    def of(self, features: Mapping[str, Tensor], layers: Sequence[str], size: tuple[int, int]) -> Tensor:
        """The layers' hypercolumns (1, C, height, width) on a grid of that size."""
        return hypercolumns(features, layers, size, self.metrics, self.widths)

    def grid(self, image: Tensor) -> tuple[int, int]:
        """Return height and width of the grid for a picture (1, 3, H, W)."""
        return grid_size((image.shape[-2], image.shape[-1]))

    def picture(self, image: Tensor) -> dict[str, Tensor]:
        """Layer -> hypercolumns (1, C, height, width) of a picture (1, 3, H, W)."""
        features = self.view.features(image, self.layers)
        return {k: self.of(features, [k], self.grid(image)) for k in self.layers}

    def style(self, picture: Tensor, seed: int, most: int) -> dict[str, Tensor]:
        """Layer -> columns (Q, C) of a style's picture in its four orientations, the same places in every layer.

        Of a cut-out (1, 4, H, W) they are those of the places that are visible.
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
    """A style's columns for one part of the picture.

    Parameters
    ----------
    part : Part
        Where they are for.
    share : float
        The style's share among the styles of that part.
    columns : dict of str to Tensor
        Layer -> (Q, C), from `Columns.style`.
    """

    def __init__(self, part: Part, share: float, columns: Mapping[str, Tensor]):
        self.part, self.share, self.columns = part, share, columns


class NeighbourTerm(Term):
    """`neighbours.neighbour_loss` of hypercolumns that were matched when the term was made.

    Parameters
    ----------
    columns : Columns
        How hypercolumns are made.
    styles : sequence of Neighbours
        What they are matched with.
    image : Tensor
        (1, 3, H, W), the picture whose hypercolumns are matched: the painting as the scale begins.
    content : Tensor, optional
        The photograph (1, 3, H, W), where the strength is below 1.
    strength : float
        How far the targets lie on the way from the photograph's columns to the matched ones.
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
        self.made, self.size = columns, columns.grid(image)
        with torch.no_grad():
            own = torch.cat(list(columns.picture(image).values()), 1)
            anchor = None if content is None else torch.cat(list(columns.picture(content).values()), 1)
            self.targets = []
            for style in (s for s in styles if s.part.share and s.share):
                found = torch.cat(list(style.columns.values()), 1)
                matched = match(own, found, dtype=columns.view.compute.low)
                if anchor is not None:
                    matched = torch.lerp(anchor, matched, strength)
                self.targets.append((style.part, style.share, matched, found.mean(0)))

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        """The layer's part of the hypercolumns."""
        return self.made.of({layer: features}, [layer], self.size)

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """The loss, a scalar, each part counting by its area."""
        own = torch.cat([measures[k].view(1, -1, *self.size) for k in self.layers], 1)
        found = []
        for part, share, matched, centre in self.targets:
            weights = None if part.mask is None else self.made.view.weights(part.mask, own)
            found.append(part.share * share * neighbour_loss(own, matched, centre, weights).sum())
        return torch.stack(found).sum()


class LayerNeighbourTerm(Term):
    """`neighbours.neighbour_loss` layer by layer, each matched by itself at every look; the weighted mean of them.

    Parameters
    ----------
    columns, styles, image, content, strength
        As for `NeighbourTerm`; of the image only the size matters.
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
        """The layer's share of the loss, a scalar."""
        own = self.made.of({layer: features}, [layer], self.size)
        found = []
        for style in self.styles:
            columns = style.columns[layer]
            matched = match(own, columns, dtype=view.compute.low)
            if self.anchor is not None:
                matched = torch.lerp(self.anchor[layer], matched, self.strength)
            weights = None if style.part.mask is None else view.weights(style.part.mask, own)
            loss = neighbour_loss(own, matched, columns.mean(0), weights).sum()
            found.append(style.part.share * style.share * loss)
        return self.made.shares[layer] / sum(self.made.shares.values()) * torch.stack(found).sum()
