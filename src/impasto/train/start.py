"""Starting a training of the network or the encoder from options, and sheets of samples."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import TrainingError
from ..models.network import RANGES, Network, NetworkConfig
from ..models.networks import find_network
from ..models.weights import load_encoder
from ..options import STYLE_LAYER_WEIGHTS, TrainEncoderOptions, TrainNetworkOptions, TrainOptions, named_weights
from . import distill, network
from .loop import Recipe, Training, compute_on, count_processes, start_fabric
from .pictures import PictureSet, Progress
from .styles import measure_styles
from .teacher import Teacher, load_teacher

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MOST_SIDE = 512
"""Larger pictures are reduced to this short side, in pixels."""
ENCODER_PHOTO, ENCODER_PAINTING = 400, 768
"""The same for photographs and paintings in the training of the encoder."""
GAP = 2
"""White pixels between the pictures of a sheet."""
SHOWN = 8
"""Number of styles on a sheet of samples."""


def start_network_training(o: TrainNetworkOptions, progress: Progress | None = None) -> Training:
    """Return a new or resumed training of the network, in every process.

    Parameters
    ----------
    progress : callable, optional
        Called with the number of pictures found so far.

    Raises
    ------
    ImpastoError
        If the options, styles, pictures, encoder or machine do not fit together.
    """
    if not o.paintings and not o.styles:
        raise TrainingError("there is nothing to learn; give a folder of paintings with --paintings, or --styles")
    known = None if o.base is None else find_network(o.base)
    fabric = start_fabric(o)
    compute = compute_on(fabric, o)
    encoder = load_encoder(o.encoder, offline=o.offline)
    compute.network(encoder)
    layers = list(named_weights(STYLE_LAYER_WEIGHTS, "--layers"))
    styles = measure_styles(o.styles, encoder, compute) if o.styles else {}
    seen = {k: encoder.width(k) for k in layers}
    shape = {k: getattr(o, k) for k in RANGES}
    config = NetworkConfig(encoder.digest, seen, **shape, styles=tuple(styles))
    net = Network(config)
    net.initialise(torch.Generator().manual_seed(o.seed))
    if known is not None:
        net.begin_as(known)
    photos = PictureSet.open(o.photos, o.exclude, MOST_SIDE, progress=progress)
    paintings = PictureSet.open(o.paintings, o.exclude, MOST_SIDE, progress=progress) if o.paintings else None
    sampler = network.Sampler(o, photos, paintings, len(styles))
    calibrate = known is None and not o.resume  # a checkpoint includes the calibration
    recipe = network.NetworkRecipe(net, o, sampler, list(styles.values()), encoder, compute, calibrate=calibrate)
    return resumed(recipe, o, fabric)


def start_encoder_training(o: TrainEncoderOptions, progress: Progress | None = None) -> Training:
    """Return a new or resumed training of the compact encoder.

    Parameters
    ----------
    progress : callable, optional
        Called with the number of pictures found so far.

    Raises
    ------
    ImpastoError
        If the options, teacher, pictures or machine do not fit together, or more than one process is asked for.
    """
    if count_processes(o) > 1:
        raise TrainingError(
            "the encoder is trained in one process: batch norm needs the whole batch, and each process would paint "
            "every picture of the pool; leave out --devices and --nodes"
        )
    fabric = start_fabric(o)
    compute = compute_on(fabric, o)
    net = load_teacher(o.teacher)
    compute.network(net)
    photos = PictureSet.open(o.photos, o.exclude, ENCODER_PHOTO, progress=progress)
    paintings = PictureSet.open(o.paintings, o.exclude, ENCODER_PAINTING, progress=progress)
    sampler = distill.Sampler(o, photos, paintings)
    return resumed(distill.EncoderRecipe(o, sampler, Teacher(net, compute), compute), o, fabric)


def resumed(recipe: Recipe, o: TrainOptions, fabric: "Fabric") -> Training:
    """Return the training of a recipe, resumed from its checkpoint if the options ask for it."""
    training = Training(recipe, o, fabric)
    if o.resume:
        training.restore()
    return training


def sample_sheet(recipe: network.NetworkRecipe, photos: Tensor) -> Tensor:
    """Return a sheet (1, 3, H, W): the photographs (N, 3, S, S) in the first row, then a row of paintings per style."""
    framed = [F.pad(r, (0, GAP, 0, GAP), value=1.0) for r in recipe.sheet(photos, SHOWN)]
    return torch.cat([torch.cat(list(r), 2) for r in framed], 1)[None]
