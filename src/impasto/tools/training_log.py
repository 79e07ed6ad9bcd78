"""The log of a training, next to the network: a CSV file, a TensorBoard log and sheets of sample paintings."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from ..image.picture import Picture
from ..image.write import write_image
from ..train.loop import TrainStep

SMOOTHING = 0.98
"""Decay of the figures' moving averages."""


class TrainingLog:
    """A context that logs the steps of a training.

    Parameters
    ----------
    out : Path
        The network's file. `OUT.csv`, the folder `OUT-log` for TensorBoard and the samples `OUT-STEP.jpg` are written
        next to it.
    every : int
        Steps between rows.
    done : int
        Number of steps of a resumed training. Rows of later steps, which were lost, are removed.
    measured : sequence of str
        Names of figures that are measured occasionally. They are the last columns, empty in most rows.
    """

    def __init__(self, out: Path, every: int, done: int = 0, measured: Sequence[str] = ()):
        self.out, self.every, self.done, self.measured = out, every, done, measured
        self.smooth: dict[str, float] = {}

    def __enter__(self) -> "TrainingLog":
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        path = self.out.with_suffix(".csv")
        kept: list[list[str]] = []
        if self.done and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                kept = [r for r in csv.reader(file) if r and (r[0] == "step" or int(r[0]) <= self.done)]
        self.file = path.open("w", newline="", encoding="utf-8")
        self.rows: Any = csv.writer(self.file)
        self.rows.writerows(kept)
        self.begun = bool(kept)
        self.board = TensorBoardLogger(self.out.parent, f"{self.out.stem}-log", version="")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.file.close()
        self.board.finalize("")

    def step(self, step: TrainStep, measured: Mapping[str, float] | None = None) -> str:
        """Add a step's figures and the measurements after it. Returns the moving averages as text for the progress bar.

        A row is written every `every` steps, after the last step, and whenever there are measurements.
        """
        measured = measured or {}
        for k, v in step.figures.items():
            self.smooth[k] = SMOOTHING * self.smooth.get(k, v) + (1 - SMOOTHING) * v
        if step.step % self.every == 0 or step.step == step.total or measured:
            if not self.begun:
                self.rows.writerow(["step", "seconds", *self.smooth, *self.measured])
                self.begun = True
            means = [f"{v:.5f}" for v in self.smooth.values()]
            last = [f"{measured[k]:.5f}" if k in measured else "" for k in self.measured]
            self.rows.writerow([step.step, f"{step.seconds:.1f}", *means, *last])
            self.file.flush()
            self.board.log_metrics({**self.smooth, **measured}, step.step)
        return " ".join(f"{k.removeprefix('relu')} {v:.3f}" for k, v in self.smooth.items())

    def sheet(self, picture: Tensor, step: int) -> Path:
        """Write a sheet of samples (1, 3, H, W) and return its path."""
        path = self.out.with_name(f"{self.out.stem}-{step:06d}.jpg")
        write_image(Picture(picture), path)
        return path
