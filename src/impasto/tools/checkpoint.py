"""Checkpoints of a painting, and files that are there whole or not at all."""

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
    """What a painting goes on from.

    Parameters
    ----------
    run : str
        The mark of the run that it belongs to, as in its record.
    rows : list of dict
        The rows of losses.csv up to here.
    state : dict
        Of the step that the last of them is of (`Step.state`).
    """

    run: str
    rows: list[dict[str, float]]
    state: dict[str, Any]

    @property
    def iteration(self) -> int:
        """Iterations that are done."""
        return int(self.rows[-1]["iteration"])

    @property
    def seconds(self) -> float:
        """The painting time so far."""
        return self.rows[-1]["seconds"]


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write; at the end, when it is safe on the disk, it takes the place of what was there.

    Raises
    ------
    OSError
        If it cannot be written. What was there stays.
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
    """Write a checkpoint; OSError if that fails."""
    with replacing(path) as file:
        torch.save(vars(checkpoint), file)


def load_checkpoint(path: Path, run: str) -> Checkpoint | None:
    """The checkpoint of a run, or None if there is no file. Only tensors and plain values are unpickled.

    Parameters
    ----------
    run : str
        The run's mark.

    Raises
    ------
    PictureError
        If it is damaged, or of another run.
    """
    if not path.exists():
        return None
    try:
        # PyTorch's reader does not look at the file's checksums: a spoilt tensor would be taken as it is.
        with zipfile.ZipFile(path) as archive:
            if (spoilt := archive.testzip()) is not None:
                raise ValueError(f"{spoilt} is spoilt")
        found = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(**found)
        if not (checkpoint.iteration > 0 <= checkpoint.seconds and isinstance(checkpoint.state, dict)):
            raise ValueError("its contents are not those of a painting")
    except Exception as error:  # whatever a spoilt file makes the unpickler stumble over
        raise PictureError(
            f"{path} is damaged or no checkpoint of a painting ({one_line(error)}); delete it to begin anew"
        ) from error
    if checkpoint.run != run:
        raise PictureError(f"{path} is the checkpoint of another run; delete it to begin anew")
    return checkpoint
