"""Checkpoints of trainings: folders of small files, which can be carried to another machine."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError

MOST_BYTES = 15_000_000
"""Bytes of tensors in one file at most."""
STATE = "state.pt"
"""The file with all that is not a tensor. It names the others, and is written last."""
PLACE = "__tensor__"
"""The key, in the state, of what stands for a tensor: the number of its first piece."""
DAMAGED = (OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError, IndexError)
"""What reading a file raises that is missing or damaged."""


def checkpoint_path(out: Path) -> Path:
    """Return the folder of a training's checkpoint: it is beside its output."""
    return out.with_suffix(".checkpoint")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint over the one before; stopped at any time it leaves one of the two.

    Parameters
    ----------
    path : Path
        The folder.
    state : dict
        Dicts, lists and tuples of tensors, numbers, text and None.
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
    turn = _turn(path)
    names = [f"{turn}-{i:03d}.pt" for i in range(len(groups))]
    for name, group in zip(names, groups, strict=True):
        torch.save(group, path / name)
    temporary = path / (STATE + ".part")
    torch.save({"files": names, "state": kept}, temporary)
    os.replace(temporary, path / STATE)
    for file in path.glob("*-*.pt"):
        if file.name not in names:
            file.unlink()


def _turn(path: Path) -> str:
    """Return what the names of the next files begin with: not what those do that the state names.

    Other files may be there as well, of a checkpoint that was stopped while it was written.
    """
    try:
        first = torch.load(path / STATE, map_location="cpu", weights_only=True)["files"][0]
    except (*DAMAGED, pickle.UnpicklingError):
        return "a"  # there is nothing to be kept
    return "b" if str(first).startswith("a") else "a"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's state, on the CPU; nothing in it but tensors and plain values is unpickled.

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
        raise TrainingError(f"cannot resume from {path}, which is missing or damaged: {error}") from error
    except pickle.UnpicklingError as error:
        raise TrainingError(f"cannot resume from {path}: it holds more than tensors and numbers") from error


def _without_tensors(value: Any, pieces: list[Tensor]) -> Any:
    """Return a state in which numbers stand for tensors; their contents go to `pieces`, cut where they are long."""
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
