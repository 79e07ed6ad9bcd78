"""Checkpoints of a painting, and files that are written completely or not at all."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import PictureError
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


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write. At the end, once it is synced to the disk, it replaces the file at `path`.

    Raises
    ------
    OSError
        If it cannot be written. The old file stays.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint. Raises OSError if that fails."""
    with replacing(path) as file:
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
