"""A job: one painting of the studio, a picture or a film, from the request until its removal, with its progress."""

import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...image.picture import Metadata
from ..job import PaintJob
from .controls import command_line

Status = Literal["queued", "painting", "done", "stopped", "failed"]
ENDED = frozenset(("done", "stopped", "failed"))
PAINTING_FILE, SOURCES = "painting.npz", "sources"
ROWS = 4_000
"""Maximum number of rows of losses. Longer paintings keep every second row, every fourth, and so on."""


@dataclass(frozen=True)
class Seen:
    """A step without its picture: the scale's height and width in pixels, the iteration, the losses."""

    scale: tuple[int, int]
    iteration: int
    total: int
    losses: Mapping[str, float]


@dataclass(eq=False, kw_only=True)
class Job:
    """What all jobs share: their state, and what they show while they are painted.

    Parameters
    ----------
    folder : Path
        The job's own folder. The sources are in its subfolder `sources`.
    owner : str
        The page's session that it belongs to; empty for the HTTP interface.
    id : str
        Secret and unguessable: anyone who knows it can see, stop and remove the painting.
    """

    folder: Path
    owner: str = ""
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    status: Status = "queued"
    created: float = field(default_factory=time.monotonic)
    begun: float | None = None
    ended: float | None = None
    size: tuple[int, int] | None = None
    seconds_left: float | None = None
    photo: bytes = b""
    preview: bytes = b""
    frames: int = 0
    version: int = 0
    note: str = ""
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def paintings(self) -> int:
        """How many paintings it has."""
        return 1

    @property
    def has_ended(self) -> bool:
        """Whether the job is done, stopped or failed."""
        return self.status in ENDED

    @property
    def is_whole(self) -> bool:
        """Whether all of it is painted. Each kind of job says how it knows."""
        raise NotImplementedError

    @property
    def seconds(self) -> float:
        """The painting time so far, in seconds."""
        return 0.0 if self.begun is None else (self.ended or time.monotonic()) - self.begun

    def changed(self) -> None:
        """Bump the version so that watchers refresh."""
        self.version += 1

    def shown(self, name: Literal["photo", "preview"]) -> bytes:
        """Return the photograph or the last frame as the bytes of a JPEG file, empty if there is none yet."""
        try:
            return getattr(self, name) or (self.folder / f"{name}.jpg").read_bytes()
        except OSError:
            return b""

    def put_away(self) -> None:
        """Move the photograph and the last frame into the folder, so that ended jobs take no memory."""
        for name in ("photo", "preview"):
            data: bytes = getattr(self, name)
            if data:
                (self.folder / f"{name}.jpg").write_bytes(data)
                setattr(self, name, b"")

    def forget(self) -> None:
        """Remove the job's files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def view(self, place: int = 0) -> dict[str, Any]:
        """Return the job's state for the HTTP interface. `place` is its position in the queue, counted from 1."""
        found: dict[str, Any] = {"id": self.id, "status": self.status, "seconds": round(self.seconds, 2)}
        if self.status == "queued":
            found["place"] = place
        if self.seconds_left is not None and self.status == "painting":
            found["seconds_left"] = round(self.seconds_left, 1)
        if self.size is not None:
            found["size"] = [self.size[1], self.size[0]]
        return found | {"frames": self.frames} | {k: v for k in ("note", "error") if (v := getattr(self, k))}


@dataclass(eq=False, kw_only=True)
class PictureJob(Job):
    """A painting of a photograph.

    Parameters
    ----------
    paint : PaintJob
        What to paint. Downloads use its output options unless they specify others.
    large : bool
        Whether it is painted from file to file.
    """

    paint: PaintJob
    large: bool = False
    step: Seen | None = None
    rows: list[dict[str, float]] = field(default_factory=list)
    record: Mapping[str, Any] | None = None
    metadata: Metadata = field(default_factory=Metadata)
    _every: int = 1

    @property
    def has_picture(self) -> bool:
        """Whether there is a painting to download."""
        return self.status in ("done", "stopped") and self.record is not None

    @property
    def is_whole(self) -> bool:
        """Whether all of it is painted."""
        return self.record is not None and "interrupted" not in self.record

    @property
    def name(self) -> str:
        """The file name of a download, without the suffix."""
        style = Path(self.paint.styles[0]).name.split(".")[0]
        return f"{Path(self.paint.content).stem}-{style}"

    @property
    def command(self) -> str:
        """The command line that makes the same painting. Masks have their names in the record's archive."""

        def base(source: str) -> str:
            return Path(source).name

        p = self.paint
        return command_line(
            base(p.content),
            tuple(base(s) for s in p.styles),
            p.options,
            p.output,
            regions=tuple((base(m), base(s)) for m, s in p.regions),
            mask=base(p.mask) if p.mask else None,
        )

    def add_row(self, row: dict[str, float]) -> None:
        """Add a row of losses. The list never grows beyond `ROWS`."""
        if int(row["iteration"]) % self._every == 0 or int(row["iteration"]) == 1:
            self.rows.append(row)
        if len(self.rows) >= ROWS:
            self.rows[1:] = self.rows[2::2]
            self._every *= 2

    def view(self, place: int = 0) -> dict[str, Any]:
        """Return the job's state, as `Job.view`."""
        found, step = super().view(place), self.step
        if step is not None:
            found |= {
                "iteration": step.iteration,
                "total": step.total,
                "scale": [step.scale[1], step.scale[0]],
                "losses": {k: float(v) for k, v in step.losses.items()},
            }
        return found if self.size is None else found | {"tiles": self.large}
