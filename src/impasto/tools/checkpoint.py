"""Checkpoints of a painting."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import PictureError
from ..files import atomic_write
from ..image.source import one_line


@dataclass(frozen=True)
class Checkpoint:
    """The state from which a painting continues.

    Parameters
    ----------
    run : str
        The id of its run, as in the record.
    rows : list of dict
        The rows of losses.csv so far.
    state : dict
        The state of the last row's step (`Step.state`).
    """

    run: str
    rows: list[dict[str, float]]
    state: dict[str, Any]

    @property
    def iteration(self) -> int:
        """The number of iterations done."""
        return int(self.rows[-1]["iteration"])

    @property
    def seconds(self) -> float:
        """The painting time so far, in seconds."""
        return self.rows[-1]["seconds"]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint. Raises OSError if that fails."""
    with atomic_write(path) as file:
        torch.save(vars(checkpoint), file)


def load_checkpoint(path: Path, run: str) -> Checkpoint | None:
    """Return the checkpoint of a run, or None if there is no file. Only tensors and plain values are unpickled.

    Parameters
    ----------
    run : str
        The run's id.

    Raises
    ------
    PictureError
        If the checkpoint is damaged or belongs to another run.
    """
    if not path.exists():
        return None
    try:
        # PyTorch's reader does not verify the file's checksums, so it would accept a corrupt tensor.
        with zipfile.ZipFile(path) as archive:
            if (corrupt := archive.testzip()) is not None:
                raise ValueError(f"{corrupt} is corrupt")
        found = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(**found)
        if not (checkpoint.iteration > 0 <= checkpoint.seconds and isinstance(checkpoint.state, dict)):
            raise ValueError("its contents are not those of a painting")
    except Exception as error:  # a corrupt file can make the unpickler raise anything
        raise PictureError(
            f"{path} is damaged or not a checkpoint of a painting ({one_line(error)}); delete it to start over"
        ) from error
    if checkpoint.run != run:
        raise PictureError(f"{path} is the checkpoint of another run; delete it to start over")
    return checkpoint
