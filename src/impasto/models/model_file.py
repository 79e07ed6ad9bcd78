"""Model files: safetensors with JSON metadata, enough to build the network.

The metadata is `format` ("impasto"), `kind` (the kind of network), `config` (JSON, its shape), `licence`, and
`training` (JSON, how it was made). Reading a model file never runs code from it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..device import channels_last
from ..errors import WeightsError
from ..image.source import one_line
from .download import replacing

FORMAT = "impasto"

Network = TypeVar("Network", bound=nn.Module)


def write_model_file(
    path: Path,
    kind: str,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    *,
    licence: str,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a model file atomically.

    Parameters
    ----------
    path : Path
        The file, `.safetensors`.
    kind : str
        The kind of network, for example "encoder".
    config : dict
        The network's shape, serialisable as JSON.
    tensors : dict of str to Tensor
        The state dict; integers are stored unchanged.
    licence : str
        The licence of the weights.
    training : dict, optional
        How it was made, serialisable as JSON.
    dtype : torch.dtype
        The dtype in which floating-point tensors are stored.

    Raises
    ------
    WeightsError
        If a value does not fit into `dtype`, or the file cannot be written.
    """
    stored = {}
    for name, tensor in tensors.items():
        t = tensor.detach().cpu().to(dtype) if tensor.is_floating_point() else tensor.detach().cpu()
        if not t.isfinite().all():
            raise WeightsError(f"cannot write {path}: {name} has values that are not finite as {dtype}")
        stored[name] = t.contiguous()
    metadata = {"format": FORMAT, "kind": kind, "config": json.dumps(config), "licence": licence}
    data = sorted_header(safetensors.torch.save(stored, metadata | {"training": json.dumps(training or {})}))
    with replacing(path) as file:
        file.write(data)


def sorted_header(data: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted, so that files of equal content have equal hashes.

    safetensors writes the metadata in random order. The format is 8 bytes with the length of the header, the header as
    JSON, padded with spaces to a multiple of 8, then the tensors.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def read_model_file(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str]]:
    """Read a model file.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        The kind of network expected.

    Returns
    -------
    config : dict
        The network's shape.
    tensors : dict of str to Tensor
        The state dict, floating-point tensors as float32.
    metadata : dict of str to str
        All the metadata of the file, unchanged.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or not a model file of that kind.
    """
    metadata = read_metadata(path)
    config = _check_metadata(path, metadata, kind)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or not a model file: {error}") from error
    return config, {k: t.float() if t.is_floating_point() else t for k, t in tensors.items()}, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a model file of any kind.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or not written by impasto.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such model file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or not a model file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path} is not a model file of impasto: its metadata has no format {FORMAT!r}")
    return metadata


def build_network(path: Path, what: str, make: Callable[[], Network], tensors: Mapping[str, Tensor]) -> Network:
    """Build the network that a file holds: frozen, in eval mode, channels_last.

    Parameters
    ----------
    path : Path
        The file, for messages.
    what : str
        What it should hold, for messages: "an encoder".
    make : callable
        Builds the network from its config, with any weights.
    tensors : dict of str to Tensor
        The state dict.

    Raises
    ------
    WeightsError
        If the network cannot be built, or the tensors do not fit it.
    """
    try:
        with torch.device("meta"):
            expected = make().state_dict()
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, RuntimeError, AttributeError) as error:
        raise WeightsError(f"{path} does not hold {what}: {one_line(error)}") from error
    if (difference := _misfit(tensors, expected)) is not None:
        raise WeightsError(f"{path} does not hold {what}: {difference}")
    with torch.random.fork_rng(devices=[]):  # drawing initial weights must not change the caller's random state
        net = make()
    net.load_state_dict(tensors)
    return channels_last(net.eval().requires_grad_(False))


def _misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Return the first difference between a file's tensors and those that its network needs; None if they fit."""
    for key in sorted(expected.keys() | tensors.keys()):
        shapes = [list(d[key].shape) if key in d else "nothing" for d in (tensors, expected)]
        if shapes[0] != shapes[1]:
            return f"{key} is {shapes[0]} and should be {shapes[1]}"
    return None


def _check_metadata(path: Path, metadata: dict[str, str], kind: str) -> dict[str, Any]:
    if metadata.get("kind") != kind:
        raise WeightsError(f"{path} holds a network of the kind {metadata.get('kind')!r}, not {kind!r}")
    try:
        config = json.loads(metadata["config"])
    except (KeyError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: the network's config is missing or not JSON") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: the network's config is not a JSON object")
    return config
