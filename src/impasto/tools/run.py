"""The record of a run: everything needed to make a painting again or to continue it.

A short form is embedded in every output file. `--run DIR` keeps the long form: record.json, losses.csv, snapshots, a
checkpoint until the painting is finished, the loss curves and a side-by-side figure.
"""

import csv
import json
import logging
import platform
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from .. import __version__
from ..device import Compute
from ..errors import ImpastoError, PictureError
from ..files import UNFINISHED, atomic_write
from ..image.picture import Picture
from ..image.read import read_record
from ..image.write import write_image
from ..plots import plot_losses, plot_pictures
from ..stylizers.protocol import Step
from .checkpoint import Checkpoint, save_checkpoint
from .job import PaintJob, places

log = logging.getLogger(__name__)

RECORD_FILE, CHECKPOINT_FILE, LOSSES_FILE = "record.json", "checkpoint.pt", "losses.csv"
CHECKPOINT_SECONDS, CHECKPOINT_SHARE = 20.0, 0.01
"""Minimum seconds between two checkpoints, and maximum share of the time spent on writing them. If a checkpoint took a
second (L-BFGS's history on a slow disk), the next follows after 100."""


def make_record(described: Mapping[str, Any], last: Step, finished: bool) -> dict[str, Any]:
    """Return the record embedded in an output file. It has no paths, and a rerun does not change it.

    Parameters
    ----------
    described : dict
        The job (`job.describe`).
    last : Step
        The last step, whose image is the painting.
    finished : bool
        Whether that step is the last of the schedule.
    """
    options = described["options"]
    if finished and options["time"] is not None:
        # Record the iterations that the time allowed: a rerun makes the same painting with them.
        options = {**options, "time": None, "iterations": last.schedule}
    losses = last.losses if last.measured is None else last.measured()
    return {
        **one_pass_record({**described, "options": options}, (last.image.shape[-2], last.image.shape[-1])),
        "iterations": last.iteration,
        **({} if finished else {"total": last.total, "interrupted": True}),
        "losses": {k: round(v, 6) for k, v in losses.items()},
    }


def one_pass_record(described: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Return the record of a finished painting of height and width `size` that was made in one pass."""
    return {**versions(), **described, "size": [size[1], size[0]], "iterations": 1, "losses": {}}


def versions() -> dict[str, str]:
    """Return the versions of Impasto and PyTorch."""
    return {"impasto": __version__, "torch": torch.__version__}


def machine(compute: Compute) -> dict[str, Any]:
    """Return a description of the machine. Together with the versions it determines a painting's last bits."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "compute": str(compute),
    }


def differences(before: Mapping[str, Any], compute: Compute) -> list[str]:
    """Return how this machine and program differ from those in `before`, as text. The last bits may then differ."""
    now = {**versions(), **machine(compute)}
    keys = ("impasto", "torch", "cpu", "threads", "compute")
    return [f"{k} {before.get(k)} (now {now[k]})" for k in keys if before.get(k) != now[k]]


class RunFolder:
    """`--run DIR`: an observer of steps that writes the record of a run during the run.

    Parameters
    ----------
    job : PaintJob
        Names the folder, which is made if it does not exist, and the number of iterations between snapshots.
    described : dict
        The job's record (`job.describe`).
    compute : Compute
        Device and precision.
    checkpoint : Checkpoint, optional
        The folder's checkpoint, to continue from. Without it, the files of an earlier run are removed.

    Raises
    ------
    PictureError
        If the folder cannot be made or written to.
    """

    def __init__(
        self, job: PaintJob, described: Mapping[str, Any], compute: Compute, checkpoint: Checkpoint | None = None
    ):
        assert job.run is not None
        self.folder, self.every = job.run, job.snapshot_every
        self.mark = secrets.token_hex(8) if checkpoint is None else checkpoint.run
        self.rows: list[dict[str, float]] = [] if checkpoint is None else list(checkpoint.rows)
        self._beyond: dict[str, Any] = {
            "paths": places(job),
            "snapshot_every": job.snapshot_every,
            "machine": machine(compute),
            "run": self.mark,
        }
        self.before = 0.0 if checkpoint is None else checkpoint.seconds
        self._begun = time.monotonic()
        self._saved, self._cost = time.monotonic(), 0.0
        with self._writing():
            (self.folder / "snapshots").mkdir(parents=True, exist_ok=True)
            if checkpoint is None:
                (self.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
            for part in (*self.folder.glob(UNFINISHED), *self.folder.glob(f"snapshots/{UNFINISHED}")):
                part.unlink()  # partial file of a killed run
            self._write_record({**versions(), **described, "interrupted": True})
            done = 0 if checkpoint is None else checkpoint.iteration
            for old in (self.folder / "snapshots").glob("*.png"):
                if old.stem.isdigit() and int(old.stem) > done:  # a snapshot of an iteration that is still to come
                    old.unlink()
            # Line-buffered, so that the file can be read during the painting and after a crash.
            self._file: TextIO = (self.folder / LOSSES_FILE).open("w", newline="", buffering=1)
            self._writer: Any = None
            for row in self.rows:
                self._write_row(row)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __call__(self, step: Step) -> None:
        """Write a step's losses, and a snapshot and a checkpoint if they are due."""
        seconds = self.before + time.monotonic() - self._begun
        row = {"iteration": step.iteration, "scale": max(step.scale), **step.losses, "seconds": round(seconds, 3)}
        self.rows.append(row)
        with self._writing():
            self._write_row(row)
        if step.iteration % self.every == 0 or step.iteration == step.total:
            self._snapshot(step)
        if time.monotonic() - self._saved >= max(CHECKPOINT_SECONDS, self._cost / CHECKPOINT_SHARE):
            self.save(step)

    def save(self, step: Step) -> None:
        """Write a checkpoint after a step, unless it is the last of the schedule. Failures are logged.

        Call it before the next step begins, while the step's state is still the stylizer's.
        """
        if step.state is None or step.iteration >= step.total:
            return
        begun = time.monotonic()
        try:
            save_checkpoint(self.folder / CHECKPOINT_FILE, Checkpoint(self.mark, self.rows, step.state()))
        except OSError as error:
            log.warning("cannot write a checkpoint to %s (%s); continuing without", self.folder, error.strerror)
        self._saved = time.monotonic()
        self._cost = self._saved - begun

    def finish(
        self, record: Mapping[str, Any], target: str, pictures: Sequence[tuple[str, Tensor]]
    ) -> ImpastoError | None:
        """Write record.json (with the paths, so that `rerun` finds the files) and the figures.

        Parameters
        ----------
        record : dict
            The record embedded in the painting's file.
        target : str
            The painting's file, or - for standard output.
        pictures : sequence of (str, Tensor)
            Names and pictures (1, 3, H, W), [0, 1], of the side-by-side figure.

        Returns
        -------
        ImpastoError or None
            The error if the figures could not be drawn.
        """
        self._file.close()
        self._beyond["paths"]["out"] = target if target == "-" else str(Path(target).absolute())
        with self._writing():
            self._write_record({**record, "seconds": self.rows[-1]["seconds"]})
            if "interrupted" not in record:
                (self.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        try:
            if "total" in self.rows[-1]:  # a network's one pass has no losses
                plot_losses(self.rows, self.folder / "losses.png")
            plot_pictures(pictures, self.folder / "side-by-side.png")
        except ImpastoError as error:
            return error
        return None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PictureError(
                f"cannot write to the run folder {self.folder}: {error.strerror}; name another with --run"
            ) from error

    def _write_record(self, record: Mapping[str, Any]) -> None:
        with atomic_write(self.folder / RECORD_FILE) as file:
            file.write((json.dumps({**record, **self._beyond}, indent=2) + "\n").encode())

    def _write_row(self, row: dict[str, float]) -> None:
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)

    def _snapshot(self, step: Step) -> None:
        write_image(Picture(step.image.cpu()), self.folder / "snapshots" / f"{step.iteration:06d}.png")


def load_record(source: Path) -> dict[str, Any]:
    """Return the record of a run folder, or the record embedded in a picture.

    Raises
    ------
    PictureError
        If there is no record.
    """
    if source.is_dir():
        try:
            record = json.loads((source / RECORD_FILE).read_text())
        except (OSError, ValueError) as error:
            raise PictureError(
                f"{source} is not a run folder: {RECORD_FILE} is missing or damaged ({error})"
            ) from error
    else:
        record = read_record(source)
    if not isinstance(record, dict) or "options" not in record:
        raise PictureError(f"{source} has no record of how it was made; was it painted by impasto?")
    return record
