"""The report of a batch: a line of JSON for each painting. It also remembers what failed before."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from ..errors import OptionError
from ..image.source import printable

Outcome = Literal["painted", "failed", "skipped"]


@dataclass(frozen=True)
class Entry:
    """What became of a painting.

    Parameters
    ----------
    path, style : str
        The photograph and the style.
    out : str
        The painting's name.
    outcome : "painted", "failed" or "skipped"
        Paintings that existed already are skipped.
    reason : str
        Why it failed or was skipped, in one line.
    seconds : float
        The time for reading, painting and writing.
    """

    path: str
    style: str
    out: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0

    def line(self) -> str:
        """Return the entry as a line of JSON."""
        return json.dumps({**asdict(self), "seconds": round(self.seconds, 4)}, ensure_ascii=False) + "\n"


class Report:
    """A report's file, open for adding entries. Use `open_report`.

    Attributes
    ----------
    last : dict of str to Outcome
        Painting's name -> its last outcome.
    """

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.last: dict[str, Outcome] = {}
        end = 0
        for line in file:
            if not line.endswith(b"\n"):  # the process that wrote it was killed
                break
            end += len(line)
            found: Any = json.loads(line)
            self.last[str(found["out"])] = found["outcome"]
        file.truncate(end)
        file.seek(end)

    def add(self, entry: Entry) -> None:
        """Add an entry; it is written at once."""
        self.file.write(entry.line().encode("utf-8", "backslashreplace"))
        self.file.flush()
        self.last[entry.out] = entry.outcome


@contextmanager
def open_report(path: Path) -> Iterator[Report]:
    """Open a report, or begin it. Only one batch at a time can have it open.

    Raises
    ------
    OptionError
        If it cannot be written, is another kind of file, or is open in another batch.
    """
    name = printable(str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b")  # noqa: SIM115 - closed below
    except OSError as error:
        raise OptionError(f"the report {name} cannot be written ({error.strerror}); name another --report") from error
    with file:
        _lock(file, name)
        file.seek(0)
        try:
            report = Report(file)
        except (ValueError, TypeError, KeyError) as error:
            raise OptionError(f"{name} is not the report of a batch; name another --report") from error
        yield report


def _lock(file: IO[bytes], name: str) -> None:
    """Lock a report until it is closed or the process ends. Raises OptionError if another process has locked it."""
    if os.name == "nt":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OptionError(
            f"another batch is writing the report {name}; wait for it, or name another --report"
        ) from error
    except OSError:
        return  # some network file systems have no locks
