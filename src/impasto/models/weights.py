"""The registry of weights, bundled and downloadable, and functions that fetch and load them.

Downloads go to torch's hub cache, which shares files with torchvision. A file with a known hash is verified each time
before it is used.
"""

import os
import pickle
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..device import with_gradients
from ..errors import WeightsError
from .download import DIGEST_DIGITS, Progress, fetch_file, file_digest
from .model_file import build_network, read_model_file, write_model_file
from .vgg import VGG, VGG16, VGG19, Pooling, VGGConfig


def model_dir() -> Path:
    """Return the folder of downloaded weights: torch's hub cache, which TORCH_HOME sets."""
    return Path(torch.hub.get_dir()) / "checkpoints"


@dataclass(frozen=True)
class ModelInfo:
    """One entry of the registry.

    Parameters
    ----------
    name, kind : str
        The name for users, and the kind of network ("encoder" or "network").
    file : str
        The file's name, in the package if there is no `url`, else in `model_dir()`.
    licence, description : str
        Text for users.
    url : str, optional
        Where to download it; None for a bundled file.
    sha256 : str
        Its hash or the first digits; empty for a bundled file, which the package manager has verified.
    size : int, optional
        Size in bytes.
    config : VGGConfig, optional
        The network's shape, for files that do not contain it: torchvision's state dicts.
    """

    name: str
    kind: str
    file: str
    licence: str
    description: str
    url: str | None = None
    sha256: str = ""
    size: int | None = None
    config: VGGConfig | None = None

    @property
    def path(self) -> Path:
        """The path of the file, whether it exists or not."""
        return (Path(__file__).parents[1] / "weights" if self.url is None else model_dir()) / self.file

    @property
    def present(self) -> bool:
        """Whether the file exists and has the right size. Its hash is checked when it is used."""
        return self.path.is_file() and self.size in (None, self.path.stat().st_size)


_TORCHVISION = "https://download.pytorch.org/models/"
_TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet, whose pictures are for non-commercial research"

MODELS = {
    m.name: m
    for m in (
        ModelInfo("compact", "encoder", "compact.safetensors", "MIT", "small VGG, distilled from VGG-19; bundled"),
        ModelInfo("network", "network", "network.safetensors", "MIT", "paints in any style in one pass; bundled"),
        ModelInfo(
            "vgg16",
            "encoder",
            "vgg16-397923af.pth",
            _TORCHVISION_LICENCE,
            "torchvision's VGG-16, ImageNet classification",
            _TORCHVISION + "vgg16-397923af.pth",
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            553_433_881,
            VGG16,
        ),
        ModelInfo(
            "vgg19",
            "encoder",
            "vgg19-dcbb9e9d.pth",
            _TORCHVISION_LICENCE,
            "torchvision's VGG-19, ImageNet classification: the network of Gatys et al.",
            _TORCHVISION + "vgg19-dcbb9e9d.pth",
            "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
            574_673_361,
            VGG19,
        ),
    )
}
"""Name -> entry."""


def list_models() -> list[ModelInfo]:
    """Return all entries of the registry; each has `present`, whether its file exists, and its `path`."""
    return list(MODELS.values())


def find_model(name: str) -> ModelInfo:
    """Return the entry called `name`. Raises WeightsError, with the nearest names, if it does not exist."""
    if name not in MODELS:
        near = get_close_matches(name, MODELS, 3, 0.5) or list(MODELS)
        raise WeightsError(
            f"there is no model {name!r}; did you mean {' or '.join(near)}, or the path of a model file?"
        )
    return MODELS[name]


def fetch(
    name: str | ModelInfo, *, offline: bool = False, progress: Progress | None = None, url: str | None = None
) -> Path:
    """Return the path of a model's verified file; download it if it is missing.

    Parameters
    ----------
    name : str or ModelInfo
        A name of the registry, or an entry.
    offline : bool
        Never use the network; the same as the environment variable IMPASTO_OFFLINE=1.
    progress : callable, optional
        Called with (bytes done, total or None) while downloading.
    url : str, optional
        Another address of the same file.

    Raises
    ------
    WeightsError
        If the name is unknown, or the file is missing or damaged and cannot be downloaded.
    """
    return _fetch(find_model(name) if isinstance(name, str) else name, offline, progress, url)[0]


def _fetch(model: ModelInfo, offline: bool, progress: Progress | None, url: str | None = None) -> tuple[Path, str]:
    """Return the path and full sha256 of the model's verified file."""
    return model.path, fetch_file(model.path, url or model.url, model.sha256, offline, progress)


@with_gradients
def load_encoder(
    name: str | os.PathLike[str] = "compact",
    *,
    pooling: Pooling = "max",
    offline: bool = False,
    progress: Progress | None = None,
) -> VGG:
    """Load an encoder: frozen, in eval mode, channels_last, float32, on the CPU.

    Parameters
    ----------
    name : str or path
        A name of the registry, or the path of a model file (`.safetensors`).
    pooling : "max" or "average"
        The pooling between its blocks.
    offline, progress
        As for `fetch`.

    Returns
    -------
    VGG
        Its `digest` names the weights file: the first 16 hex digits of its sha256.

    Raises
    ------
    WeightsError
        If the name is unknown, or the file is missing, damaged, or not an encoder.
    """
    if isinstance(name, str) and name in MODELS:
        model = MODELS[name]
        if model.kind != "encoder":
            encoders = ", ".join(m.name for m in list_models() if m.kind == "encoder")
            raise WeightsError(
                f"{name} is a network that paints, not an encoder; give one of {encoders}, or a model file"
            )
        (path, digest), config = _fetch(model, offline, progress), model.config
    else:
        path = Path(name)
        if path.suffix != ".safetensors" and not path.exists():
            find_model(str(name))
        name, digest, config = path.stem, None, None
    if config is None:
        values, tensors, _ = read_model_file(path, "encoder")
    else:
        values, tensors = config.to_dict(), _read_state_dict(path)
    net = build_network(path, "an encoder", lambda: VGG(VGGConfig.from_dict(values), str(name), pooling), tensors)
    net.digest = (digest or file_digest(path))[:DIGEST_DIGITS]
    return net


def save_encoder(
    net: VGG,
    path: str | os.PathLike[str],
    *,
    training: dict[str, Any],
    licence: str,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write an encoder atomically as a model file for `load_encoder`.

    Parameters
    ----------
    training : dict
        How it was made, serialisable as JSON.
    licence : str
        The licence of the weights.
    dtype : torch.dtype
        The dtype in which to store the weights.

    Raises
    ------
    WeightsError
        If a weight does not fit into `dtype`, or the file cannot be written.
    """
    tensors = net.state_dict()
    write_model_file(
        Path(path), "encoder", net.config.to_dict(), tensors, licence=licence, training=training, dtype=dtype
    )


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the encoder's weights from torchvision's file, without the classifier."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {k: v.float() for k, v in state.items() if k.startswith("features.")}
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} is not a state dict that torch can read") from error
