"""The networks that paint in one pass: the two bundled ones, and model files of one's own."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import WeightsError
from .model_file import read_metadata
from .transformer import Transformer, load_transformer
from .weights import find_model

PALETTE = "palette"
"""The name of the bundled network, which has learnt every built-in style."""
TRANSFORMER, ARBITRARY = "transformer", "arbitrary"
"""The kinds of networks that paint: in learnt styles, in any style. The bundled one of the latter is called so too."""
PICTURE = 512
"""Long side, in pixels, of the pictures that a network paints best, where its file does not say."""


def network_path(model: str | None) -> Path:
    """The file of a network: of the registry, the palette if none is named, else what `model` is the path of."""
    return find_model(model or PALETTE).path if model in (None, PALETTE, ARBITRARY) else Path(model)


def learnt_styles(model: str | None) -> tuple[str, ...]:
    """The styles that a network has learnt; none if there is no such network."""
    path = network_path(model)
    return _styles(path, path.stat().st_mtime_ns) if path.is_file() else ()


@lru_cache(maxsize=16)
def _styles(path: Path, _time: int) -> tuple[str, ...]:
    try:
        with safe_open(path, "pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "{}"))
        return tuple(str(s) for s in config["styles"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} holds no image transformation network: {error}") from error


def network_kind(model: str | None) -> str:
    """What sort of network a name or path stands for, TRANSFORMER or ARBITRARY.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or of something that does not paint.
    """
    path = network_path(model)
    kind = read_metadata(path).get("kind", "")
    if kind not in (TRANSFORMER, ARBITRARY):
        raise WeightsError(f"{path} holds the kind {kind!r} of network, which does not paint")
    return kind


def load_network(model: str | None) -> tuple[Transformer, int]:
    """A network, and the long side in pixels of the pictures that it paints best.

    Parameters
    ----------
    model : str or None
        `palette`, or the path of a model file; the palette if None.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or of something else.
    """
    net, metadata = load_transformer(network_path(model))
    try:
        picture = int(training_account(metadata).get("picture", PICTURE))
    except (ValueError, TypeError):
        picture = PICTURE
    return net, max(1, picture)


def settled_weights(model: str | None) -> dict[str, float]:
    """The content weight that each of a network's styles ended its training with; none if its file does not say."""
    try:
        weights = training_account(read_metadata(network_path(model))).get("content_weights", {})
        return {str(k): float(v) for k, v in weights.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def training_account(metadata: Mapping[str, str]) -> dict[str, Any]:
    """How a network was trained, as its file's metadata say; empty if they do not."""
    try:
        account = json.loads(metadata.get("training", "{}"))
    except ValueError:
        return {}
    return account if isinstance(account, dict) else {}
