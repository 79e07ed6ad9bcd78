"""Training checkpoints: folders of small files, which can be moved to another machine."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError
from ..files import UNFINISHED, atomic_write

MOST_BYTES = 15_000_000
"""Most bytes of tensors in one file."""
STATE = "state.pt"
"""The file with everything that is not a tensor. It lists the other files, and is written last."""
PLACE = "__tensor__"
"""The key of a placeholder for a tensor in the state. Its value is the number of the tensor's first piece."""
DAMAGED = (OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError, IndexError)
"""Errors raised by reading a missing or damaged file."""


def checkpoint_path(out: Path) -> Path:
    """Return the folder of a training's checkpoint, next to its output."""
    return out.with_suffix(".checkpoint")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint by a new one. If interrupted at any time, the old or the new one is intact.

    Parameters
    ----------
    path : Path
        The folder.
    state : dict
        Dicts, lists and tuples of tensors, numbers, strings and None.
    """
    pieces: list[Tensor] = []
    kept = _without_tensors(state, pieces)
    groups: list[list[Tensor]] = [[]]
    filled = 0
    for piece in pieces:
        size = piece.numel() * piece.element_size()
        if groups[-1] and filled + size > MOST_BYTES:
            groups.append([])
            filled = 0
        groups[-1].append(piece)
        filled += size
    path.mkdir(parents=True, exist_ok=True)
    prefix = _next_prefix(path)
    names = [f"{prefix}-{i:03d}.pt" for i in range(len(groups))]
    for name, group in zip(names, groups, strict=True):
        with atomic_write(path / name) as file:
            torch.save(group, file)
    with atomic_write(path / STATE) as file:
        torch.save({"files": names, "state": kept}, file)
    for old in (*path.glob("*-*.pt"), *path.glob(UNFINISHED)):
        if old.name not in names:
            old.unlink()


def _next_prefix(path: Path) -> str:
    """Return the prefix of the next files' names, which differs from that of the files in the current state.

    Files of an interrupted write may exist as well.
    """
    try:
        first = torch.load(path / STATE, map_location="cpu", weights_only=True)["files"][0]
    except (*DAMAGED, pickle.UnpicklingError):
        return "a"  # there is nothing to keep
    return "b" if str(first).startswith("a") else "a"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint's state on the CPU. Unpickles only tensors and plain values.

    Raises
    ------
    TrainingError
        If it is missing or damaged.
    """
    try:
        found = torch.load(path / STATE, map_location="cpu", weights_only=True)
        pieces = [
            piece
            for name in found["files"]
            for piece in torch.load(path / Path(name).name, map_location="cpu", weights_only=True)
        ]
        return _with_tensors(found["state"], pieces)
    except DAMAGED as error:
        raise TrainingError(f"cannot resume from {path}: it is missing or damaged ({error})") from error
    except pickle.UnpicklingError as error:
        raise TrainingError(f"cannot resume from {path}: it holds more than tensors and numbers") from error


def _without_tensors(value: Any, pieces: list[Tensor]) -> Any:
    """Return the state with placeholders for its tensors. Appends their contents to `pieces`, split if long."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().flatten()
        most = MOST_BYTES // flat.element_size()
        place = {PLACE: len(pieces), "shape": list(value.shape), "pieces": max(1, -(-len(flat) // most))}
        pieces.extend(p.clone() for p in flat.split(most))
        return place
    if isinstance(value, dict):
        return {k: _without_tensors(v, pieces) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_tensors(v, pieces) for v in value)
    return value


def _with_tensors(value: Any, pieces: list[Tensor]) -> Any:
    if isinstance(value, dict):
        if PLACE in value:
            first = value[PLACE]
            return torch.cat(pieces[first : first + value["pieces"]]).view(value["shape"])
        return {k: _with_tensors(v, pieces) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_tensors(v, pieces) for v in value)
    return value
