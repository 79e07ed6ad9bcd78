"""Finding networks that paint in one pass: the bundled one and the user's model files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import StyleError, WeightsError
from .network import Network, load_network
from .vgg import STYLE_LAYERS, VGG
from .weights import MODELS, find_model

NETWORK = "network"
"""The name of the bundled network."""


def network_path(model: str | None) -> Path:
    """Return the path of a network's file: `model`, or the bundled network if `model` is None.

    Raises
    ------
    WeightsError
        If `model` is the name of another kind of network, or not the name of a file.
    """
    if model in (None, NETWORK):
        return find_model(NETWORK).path
    if model in MODELS:
        raise WeightsError(
            f"{model} is an encoder, not a network that paints; give {NETWORK}, the bundled one, or a model file that "
            "`impasto train network` wrote"
        )
    path = Path(model)
    if not path.name:
        raise WeightsError(f"{model!r} is not a model file; give {NETWORK}, the bundled one, or a model file's path")
    return path


def network_name(model: str) -> str:
    """Return a network's name without its folder: `network` for the bundled one, else the file's name."""
    path = network_path(model)
    return NETWORK if path.resolve() == find_model(NETWORK).path.resolve() else path.name


def find_network(model: str | None) -> Network:
    """Load the network at the path `model`, or the bundled one. Raises WeightsError if it is missing or invalid."""
    return load_network(network_path(model))[0]


def check_encoder(net: Network, encoder: VGG) -> None:
    """Check that an encoder fits a network.

    Raises
    ------
    StyleError
        If the network was trained with another encoder.
    WeightsError
        If it reads layers that are not style layers of the encoder, or have another width.
    """
    if net.config.encoder != encoder.digest:
        raise StyleError(
            f"the network was trained with another encoder than {encoder.name} as it is here; train it again"
        )
    for layer, channels in net.config.layers.items():
        if layer not in STYLE_LAYERS or encoder.width(layer) != channels:
            raise WeightsError(
                f"the network does not fit its encoder: it reads {channels} channels of {layer}, which "
                f"{encoder.name} does not have as a style layer; train it again"
            )


def training_account(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return how a network was trained, from its file's metadata; empty if they do not say."""
    try:
        account = json.loads(metadata.get("training", "{}"))
    except ValueError:
        return {}
    return account if isinstance(account, dict) else {}
