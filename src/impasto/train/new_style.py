"""More styles for a network that has learnt some: its convolutions stay, each style has its own scales and shifts.

Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style", ICLR 2017, section 3.2. The new style begins as
the known one whose paintings are nearest to it.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..device import Compute
from ..errors import TrainingError
from ..models.norm import PER_STYLE, Conditions
from ..models.transformer import OF_STYLES, Transformer, TransformerConfig, save_transformer
from ..models.vgg import VGG
from ..options import TrainStyleOptions
from ..style.statistics import raw_moments
from .feedforward import STROKES, FeedforwardRecipe, Styles
from .pictures import PictureSet

log = logging.getLogger(__name__)

TRIED_PHOTOS = 4
"""Photographs that are painted in every known style, to find the nearest."""


class NewStyleRecipe(FeedforwardRecipe):
    """The training of new styles in a known network.

    Parameters
    ----------
    known : Transformer
        The network; it is left as it is.
    options, styles, photos, encoder, compute
        As for `FeedforwardRecipe`; the styles are the new ones.

    Raises
    ------
    TrainingError
        If the network knows a style of that name already.
    """

    def __init__(
        self,
        known: Transformer,
        options: TrainStyleOptions,
        styles: Styles,
        photos: PictureSet,
        encoder: VGG,
        compute: Compute,
    ):
        twice = sorted(set(styles) & set(known.config.styles))
        if twice:
            raise TrainingError(f"the network {options.base} has a style {twice[0]} already; rename the file")
        self.known = known
        config = replace(known.config, styles=tuple(styles))
        super().__init__(of_other_styles(known, config), options, styles, photos, encoder, compute)
        compute.network(known)
        nearest = self.nearest()
        log.info(
            "%s", ", ".join(f"{n} begins as {known.config.styles[i]}" for n, i in zip(styles, nearest, strict=True))
        )
        with torch.no_grad():
            for mine, theirs in zip(self.net.norms(), known.norms(), strict=True):
                for name in PER_STYLE:
                    getattr(mine, name).copy_(getattr(theirs, name)[nearest])

    @torch.no_grad()
    def nearest(self) -> list[int]:
        """For each new style the index of the known one whose paintings are nearest to it."""
        photos = self.compute.picture(self.sample(TRIED_PHOTOS))
        count, middle = len(self.known.config.styles), STROKES.index(1.0)
        targets = len(STROKES) * torch.arange(self.styles) + middle
        found = []
        for i in range(count):
            conditions = Conditions.of(torch.full((TRIED_PHOTOS,), i), count).to(self.compute.device)
            with self.compute.autocast():
                painted = self.known(photos, conditions).float()
                features = self.encoder(painted, dict.fromkeys(self.layers))
            own = {k: raw_moments(features[k]).mean(0, keepdim=True) for k in self.layers}
            each = [self.distances[k](own[k].expand(self.styles, -1, -1), targets) for k in self.layers]
            found.append(torch.stack(each).mean(0).cpu())
        return torch.stack(found).argmin(0).tolist()

    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the known network with the new styles behind its own."""
        assert isinstance(net, Transformer)
        known = self.known.config
        whole = Transformer(replace(known, styles=(*known.styles, *net.config.styles)))
        values: dict[str, Tensor] = {k: v.clone() for k, v in self.known.state_dict().items()}
        for key, value in net.state_dict().items():
            if key.rpartition(".")[2] in OF_STYLES:
                values[key] = torch.cat([values[key], value])
        whole.load_state_dict(values)
        save_transformer(whole, path, training=self.account(step), licence="MIT")

    def account(self, step: int) -> dict[str, Any]:
        """How the network was trained, for its file."""
        return {**super().account(step), "recipe": "impasto train style", "styles": list(self.net.config.styles)}


def of_other_styles(known: Transformer, config: TransformerConfig) -> Transformer:
    """A network with the convolutions of a known one, which do not learn, and norms for other styles, which do."""
    net = Transformer(config)
    own = net.state_dict()
    shared = {k: v for k, v in known.state_dict().items() if k.rpartition(".")[2] not in OF_STYLES}
    net.load_state_dict({**own, **shared})
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[2] in PER_STYLE)
    return net
