"""Finding networks that paint in one pass: the bundled one and the user's model files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .network import Network, load_network
from .weights import find_model

NETWORK = "network"
"""The name of the bundled network."""


def network_path(model: str | None) -> Path:
    """Return the path of a network's file: `model`, or the bundled network if `model` is None."""
    return find_model(NETWORK).path if model in (None, NETWORK) else Path(model)


def find_network(model: str | None) -> Network:
    """Load the network at the path `model`, or the bundled one. Raises WeightsError if it is missing or invalid."""
    return load_network(network_path(model))[0]


def training_account(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return how a network was trained, from its file's metadata; empty if they do not say."""
    try:
        account = json.loads(metadata.get("training", "{}"))
    except ValueError:
        return {}
    return account if isinstance(account, dict) else {}
