"""The terms of the `nn` style loss: hypercolumns matched once a scale, and each layer matched anew at every look.

Kolkin et al. 2022, see `neighbours`. The first brings the style's arrangement to the picture, all layers of a place
together; the second, the paper's last pass, lets every layer find its own match, which sharpens strokes and colours.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..image.cutout import visible
from .neighbours import columns, grid_size, hypercolumns, match, neighbour_loss, rotations
from .perceptual import Term, View
from .statistics import weights_of
from .terms import Part, inside
from .wasserstein import covariance_metric

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
