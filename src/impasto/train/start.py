"""From options to a training of a feed-forward network, and its sheets of samples."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..device import Compute
from ..models.networks import load_network
from ..models.norm import Conditions
from ..models.transformer import Transformer, TransformerConfig
from ..models.weights import load_encoder
from ..options import TrainFeedforwardOptions, TrainPaintersOptions, TrainStyleOptions
from .data import PictureBank, find_pictures, read_exclude
from .feedforward import STROKES, FeedforwardRecipe, Styles, style_and_content_layers
from .loop import Training, compute_on, start_fabric
from .new_style import NewStyleRecipe
from .styles import measure_styles

MOST_SIDE = 512
"""Larger photographs are reduced to this short side, in pixels."""
GAP = 2
"""White pixels between the pictures of a sheet."""


def start_training(o: TrainFeedforwardOptions) -> Training:
    """A training as the options say, resumed if they say so, in every process of it; raises as `prepare`."""

    def begin(styles: Styles, *world: Any) -> FeedforwardRecipe:
        net = Transformer(TransformerConfig(tuple(styles), o.width, o.blocks))
        net.initialise(torch.Generator().manual_seed(o.seed))
        return FeedforwardRecipe(net, o, styles, *world)

    return prepare(o, o.styles, begin)


def prepare(o: TrainPaintersOptions, names: Sequence[str], begin: Callable[..., FeedforwardRecipe]) -> Training:
    """The training of a recipe, which `begin` makes of styles, photographs, encoder and compute.

    Raises
    ------
    ImpastoError
        If options, styles, photographs, encoder and machine do not fit together.
    """
    fabric = start_fabric(o)
    compute = compute_on(fabric, o)
    encoder = load_encoder(o.encoder, offline=o.offline)
    compute.network(encoder)
    layers, _ = style_and_content_layers(encoder)
    sizes = [round(o.picture * o.style_scale * k) for k in STROKES]
    styles = measure_styles(names, encoder, compute, sizes, layers)
    photos = PictureBank(find_pictures(o.photos, read_exclude(o.exclude) if o.exclude else []), MOST_SIDE)
    training = Training(begin(styles, photos, encoder, compute), o, fabric)
    if o.resume:
        training.restore()
    return training


def start_style_training(o: TrainStyleOptions) -> Training:
    """A training of new styles as the options say, resumed if they say so; raises as `prepare`."""
    known, _ = load_network(o.base)
    return prepare(o, o.paintings, lambda styles, *world: NewStyleRecipe(known, o, styles, *world))


def sample_sheet(net: Transformer, photos: Tensor, compute: Compute, columns: Sequence[int]) -> Tensor:
    """A sheet (1, 3, H, W): in the first row the photographs (N, 3, S, S), below each style's paintings of them."""
    rows = [photos]
    with torch.no_grad(), compute.autocast():
        for i in columns:
            conditions = Conditions.of(torch.full((len(photos),), i), len(net.config.styles))
            rows.append(net(compute.picture(photos), conditions).float().cpu())
    framed = [F.pad(r, (0, GAP, 0, GAP), value=1.0) for r in rows]
    return torch.cat([torch.cat(list(r), 2) for r in framed], 1)[None]
