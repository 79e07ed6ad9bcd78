"""The folder of an unfinished film: finished segments, and what painting the next one depends on.

A segment counts as soon as its entry in `progress.json` is written, which is last. So a painting can be continued after
any interruption, and comes out the same.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import FilmError, OptionError
from ..files import atomic_write
from ..image.source import printable
from .motion import Sight

SUFFIX = ".parts"
"""Suffix of the folder of an unfinished film, after the film's name."""
RECORD = "progress.json"
"""File in it: the job and the finished segments."""
ENDS = 2**20
"""Bytes at both ends of a film that identify it, with its length."""


@dataclass(frozen=True)
class Segment:
    """A finished segment.

    Parameters
    ----------
    times : list of int
        The times of its frames, in the film's time base.
    durations : list of int
        How long they are shown; 0 where the film does not say.
    broken : list of int
        The times of those for which another painting stands in.
    """

    times: list[int]
    durations: list[int]
    broken: list[int]


class PartsFolder:
    """The folder of an unfinished film.

    Parameters
    ----------
    path : Path
        The folder. It is created if it does not exist.
    job : mapping
        What the film is painted from and how, as plain values. Only the same job can be continued.
    resume : bool
        Whether to continue.

    Raises
    ------
    OptionError
        If there is a painting that can be continued, but was not to be; or the job is another.
    FilmError
        If the folder is damaged or cannot be written.
    """

    def __init__(self, path: Path, job: Mapping[str, Any], resume: bool):
        self.path, self.name = path, printable(str(path))
        self.segments: list[Segment] = []
        job = json.loads(json.dumps(job))
        if path.is_dir():
            found = self._read()
            if found is None and any(path.iterdir()):
                raise OptionError(f"{self.name} is in the way and is not an unfinished film; name another --out")
            if found is not None and found["segments"]:
                if not resume:
                    raise OptionError(
                        f"{self.name} holds an unfinished painting; add --resume to continue it, or delete the folder"
                    )
                if found["job"] != job:
                    raise OptionError(
                        f"{self.name} was begun with other files or options; give the same, or delete the folder"
                    )
                self.segments = [Segment(**s) for s in found["segments"]]
            else:
                shutil.rmtree(path)
        self.job = job
        try:
            self.frames.mkdir(parents=True, exist_ok=True)
            self._record()
        except OSError as error:
            raise FilmError(f"{self.name} cannot be written ({error.strerror}); choose another place") from error

    @property
    def frames(self) -> Path:
        """The folder of the frames, where the result is one."""
        return self.path / "frames"

    @property
    def done(self) -> int:
        """Number of frames in finished segments."""
        return sum(len(s.times) for s in self.segments)

    def file(self, number: int) -> Path:
        """Return the file of a segment, counted from 0."""
        return self.path / f"{number:06d}.mkv"

    def unfinished(self) -> Path:
        """Return the file in which to write the next segment."""
        return self.path / "next.mkv"

    def _state(self, number: int) -> Path:
        return self.path / f"state-{number:06d}.safetensors"

    def finish(self, segment: Segment, state: Mapping[str, Tensor], sight: Sight | None) -> None:
        """Keep a segment that is written, with the state of the painting after it."""
        number = len(self.segments)
        if self.unfinished().exists():
            with self.unfinished().open("rb") as file:
                os.fsync(file.fileno())
            os.replace(self.unfinished(), self.file(number))
        tensors = dict(state)
        if sight is not None:
            tensors["sight.small"] = torch.from_numpy(np.ascontiguousarray(sight.small))
            tensors["sight.unexplained"] = torch.tensor(sight.unexplained, dtype=torch.float64)
        save_file(tensors or {"none": torch.zeros(1)}, self._state(number))
        self.segments.append(segment)
        self._record()
        self._state(number - 1).unlink(missing_ok=True)

    def _record(self) -> None:
        with atomic_write(self.path / RECORD) as file:
            content = {"job": self.job, "segments": [asdict(s) for s in self.segments]}
            file.write(json.dumps(content).encode())

    def state(self) -> tuple[dict[str, Tensor], Sight | None]:
        """Return the state after the last finished segment. Raises FilmError if it is damaged."""
        if not self.segments:
            return {}, None
        try:
            tensors = load_file(self._state(len(self.segments) - 1))
        except (OSError, SafetensorError) as error:
            raise FilmError(f"{self.name} is damaged; delete the folder and start over") from error
        small, unexplained = tensors.pop("sight.small", None), tensors.pop("sight.unexplained", None)
        if small is None or unexplained is None:
            return tensors, None
        return tensors, Sight(small.numpy(), float(unexplained))

    def remove(self, unless_begun: bool = False) -> None:
        """Delete the folder; or only if no segment is finished."""
        if not (unless_begun and self.segments):
            shutil.rmtree(self.path, ignore_errors=True)

    def _read(self) -> dict[str, Any] | None:
        """Return the record of the folder; None if there is none yet."""
        try:
            return json.loads((self.path / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FilmError(f"{self.name} is damaged; delete the folder and start over") from error


def begun_precision(path: Path) -> str | None:
    """Return the precision of the unfinished painting in a folder, None if there is none.

    `--precision auto` may choose another one each time.
    """
    try:
        return json.loads((path / RECORD).read_text(encoding="utf-8"))["job"]["precision"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def film_entry(path: Path) -> dict[str, Any]:
    """Return what identifies a film in a record: its name and length, and the hash of both ends."""
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir())
        return {"name": path.name, "files": len(names), "sha256": hashlib.sha256("\n".join(names).encode()).hexdigest()}
    found, length = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        found.update(file.read(ENDS))
        file.seek(max(0, length - ENDS))
        found.update(file.read(ENDS))
    return {"name": path.name, "bytes": length, "sha256": found.hexdigest()}
