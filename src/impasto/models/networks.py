"""Where the networks that paint in one pass are: the bundled one, and model files of one's own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .network import Network, load_network
from .weights import find_model

NETWORK = "network"
"""The name of the bundled network."""


def network_path(model: str | None) -> Path:
    """Return the file of a network: the bundled one if none is named, else what `model` is the path of."""
    return find_model(NETWORK).path if model in (None, NETWORK) else Path(model)


def find_network(model: str | None) -> Network:
    """Return a network, the bundled one if none is named; WeightsError if there is none, or it is something else."""
    return load_network(network_path(model))[0]


def training_account(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return how a network was trained, as its file's metadata say; empty if they do not."""
    try:
        account = json.loads(metadata.get("training", "{}"))
    except ValueError:
        return {}
    return account if isinstance(account, dict) else {}
