"""From options to a training of a network that paints, and its sheets of samples."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..device import Compute
from ..errors import TrainingError
from ..models.arbitrary import ArbitraryConfig, ArbitraryNetwork, load_arbitrary
from ..models.networks import (
    ARBITRARY,
    PICTURE,
    load_network,
    network_kind,
    network_path,
    settled_weights,
    training_account,
)
from ..models.transformer import Transformer, TransformerConfig, load_transformer
from ..models.vgg import VGG
from ..models.weights import load_encoder
from ..options import (
    TrainArbitraryOptions,
    TrainFeedforwardOptions,
    TrainLearntOptions,
    TrainOptions,
    TrainPaintersOptions,
    TrainStrengthOptions,
    TrainStyleOptions,
)
from .arbitrary import ANY, ArbitraryRecipe
from .distance import style_and_content_layers
from .feedforward import STROKES, FeedforwardRecipe, Styles
from .loop import Recipe, Training, compute_on, start_fabric
from .new_style import NewStyleRecipe
from .painters import PaintersRecipe
from .photographs import PhotographsRecipe
from .pictures import PictureSet
from .strength import StrengthRecipe, learnt_conditions, predicted_conditions
from .styles import measure_styles

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MOST_SIDE = 512
"""Larger photographs are reduced to this short side, in pixels."""
GAP = 2
"""White pixels between the pictures of a sheet."""


def start_training(o: TrainFeedforwardOptions) -> Training:
    """A training as the options say, resumed if they say so, in every process of it; raises as `prepare`."""
    known = None if o.base is None else known_network(o.base, o.width, o.blocks)

    def begin(photos: PictureSet, encoder: VGG, compute: Compute) -> FeedforwardRecipe:
        styles = styles_of(o, o.styles, encoder, compute)
        net = Transformer(TransformerConfig(tuple(styles), o.width, o.blocks, o.colours))
        net.initialise(torch.Generator().manual_seed(o.seed))
        if known is not None:
            net.begin_as(known)
        settled = {} if o.base is None else settled_weights(o.base)
        first = [settled[name] for name in styles] if all(name in settled for name in styles) else None
        return FeedforwardRecipe(net, o, styles, photos, encoder, compute, first)

    return prepare(o, begin)


def start_style_training(o: TrainStyleOptions) -> Training:
    """A training of new styles as the options say, resumed if they say so; raises as `prepare`."""
    known, _ = load_network(o.base)

    def begin(photos: PictureSet, encoder: VGG, compute: Compute) -> NewStyleRecipe:
        return NewStyleRecipe(known, o, styles_of(o, o.paintings, encoder, compute), photos, encoder, compute)

    return prepare(o, begin)


def start_arbitrary_training(o: TrainArbitraryOptions) -> Training:
    """A training of a network for any style as the options say, resumed if they say so; raises as `prepare`."""
    begun = o.base is not None and network_kind(o.base) == ARBITRARY
    known = None if o.base is None or begun else known_network(o.base, o.width, o.blocks)

    def begin(photos: PictureSet, encoder: VGG, compute: Compute) -> ArbitraryRecipe:
        paintings = pictures_of(o.paintings, o.exclude)
        layers = {k: encoder.width(k) for k in style_and_content_layers(encoder)[0]}
        net = ArbitraryNetwork(ArbitraryConfig(encoder.digest, layers, o.width, o.blocks, o.hidden))
        net.initialise(torch.Generator().manual_seed(o.seed))
        if known is not None:
            net.begin_as(known)
        if begun:
            go_on_as(net, o.base)
        first = settled_weights(o.base).get(ANY) if begun else None
        return ArbitraryRecipe(net, o, paintings, photos, encoder, compute, first, calibrate=not begun)

    return prepare(o, begin)


def start_strength_training(o: TrainStrengthOptions) -> Training:
    """A training of a known network's strength as the options say, resumed if they say so; errors as `prepare`."""
    fabric = start_fabric(o)
    compute = compute_on(fabric, o)
    path = network_path(o.base)
    if network_kind(o.base) == ARBITRARY:
        net, metadata = load_arbitrary(path)
        encoder = load_encoder(o.encoder, offline=o.offline)
        compute.network(encoder)
        shown = [m for (m,) in measure_styles(o.styles, encoder, compute, [PICTURE], list(net.config.layers)).values()]
        conditions, styles = predicted_conditions(net, shown, compute), len(shown)
    else:
        net, metadata = load_transformer(path)
        styles = len(net.config.styles)
        conditions = learnt_conditions(styles, compute)
    photos = pictures_of(o.photos, o.exclude)
    return resumed(StrengthRecipe(net, o, styles, conditions, photos, compute, training_account(metadata)), o, fabric)


def resumed(recipe: Recipe, o: TrainOptions, fabric: "Fabric") -> Training:
    """The training of a recipe, gone on with from its checkpoint if the options say so."""
    training = Training(recipe, o, fabric)
    if o.resume:
        training.restore()
    return training


Begin = Callable[[PictureSet, VGG, Compute], PaintersRecipe[Any, Any]]
"""Makes a recipe of photographs, encoder and compute."""


def prepare(o: TrainPaintersOptions, begin: Begin) -> Training:
    """The training of a recipe, which `begin` makes of photographs, encoder and compute.

    Raises
    ------
    ImpastoError
        If options, styles, photographs, encoder and machine do not fit together.
    """
    fabric = start_fabric(o)
    compute = compute_on(fabric, o)
    encoder = load_encoder(o.encoder, offline=o.offline)
    compute.network(encoder)
    return resumed(begin(pictures_of(o.photos, o.exclude), encoder, compute), o, fabric)


def known_network(base: str, width: int, blocks: int) -> Transformer:
    """The trained network that a training begins with; TrainingError if it is of another shape."""
    net, _ = load_network(base)
    if (net.config.width, net.config.blocks) != (width, blocks):
        raise TrainingError(
            f"--from {base} is a network of --width {net.config.width} --blocks {net.config.blocks}; give the same"
        )
    return net


def go_on_as(net: ArbitraryNetwork, base: str | None) -> None:
    """Take over all that a network for any style knows; TrainingError if it is of another shape."""
    known, _ = load_arbitrary(network_path(base))
    if known.config != net.config:
        theirs = known.config
        raise TrainingError(
            f"--from {base} is a network of --width {theirs.width} --blocks {theirs.blocks} --hidden {theirs.hidden}, "
            f"for the encoder {theirs.encoder}; give the same"
        )
    net.load_state_dict(known.state_dict())


def pictures_of(folders: Sequence[Path], exclude: Path | None) -> PictureSet:
    """All pictures of some folders, but for those of a list; TrainingError if there are none."""
    return PictureSet.open(folders, exclude, MOST_SIDE)


def styles_of(o: TrainLearntOptions, names: Sequence[str], encoder: VGG, compute: Compute) -> Styles:
    """What the loss aims at, for each of some styles; errors as `measure_styles`."""
    layers, _ = style_and_content_layers(encoder)
    return measure_styles(names, encoder, compute, [round(o.picture * o.style_scale * k) for k in STROKES], layers)


def sample_sheet(recipe: PhotographsRecipe[Any], photos: Tensor) -> Tensor:
    """A sheet (1, 3, H, W): in the first row the photographs (N, 3, S, S), below each style's paintings of them."""
    x = recipe.compute.picture(photos)
    with torch.no_grad():
        rows = [photos, *(recipe.paint(x, conditions).cpu() for conditions in recipe.shown(len(photos)))]
    framed = [F.pad(r, (0, GAP, 0, GAP), value=1.0) for r in rows]
    return torch.cat([torch.cat(list(r), 2) for r in framed], 1)[None]
