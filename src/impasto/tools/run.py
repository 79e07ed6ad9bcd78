"""The record of a run: what a painting was made of, so that it can be made again.

A short form is embedded in every output file; `--run DIR` keeps the long one: record.json, losses.csv, snapshots, the
loss curves and a side-by-side figure.
"""

import csv
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from .. import __version__
from ..errors import ImpastoError, PictureError
from ..image.io import read_record, write_image
from ..image.picture import Picture
from ..options import STARTS, OptimizeOptions
from ..plots import plot_losses, plot_pictures
from ..stylize.protocol import Step

RECORD_FILE = "record.json"


def source_entry(source: str) -> dict[str, str]:
    """How a picture or style is named in a record: a built-in's name, or a file's name and hash."""
    path = Path(source)
    if not path.is_file():
        return {"name": source}
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def make_record(
    content: str,
    styles: Sequence[str],
    options: OptimizeOptions,
    last: Step,
    regions: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """What an output file carries: names, hashes and all options; no paths, and nothing that a rerun changes."""
    values = options.to_dict()
    start = {} if options.start in STARTS else {"start": source_entry(options.start)}
    if start:
        values["start"] = Path(options.start).name
    return {
        "impasto": __version__,
        "torch": torch.__version__,
        "method": "optimize",
        "content": source_entry(content),
        "styles": [source_entry(s) for s in styles],
        **({"regions": [[source_entry(m), source_entry(s)] for m, s in regions]} if regions else {}),
        **start,
        "options": values,
        "size": [last.image.shape[-1], last.image.shape[-2]],
        "iterations": last.iteration,
        "losses": {k: round(v, 6) for k, v in last.losses.items()},
    }


class RunFolder:
    """`--run DIR`: a consumer of steps that writes the record of a run as it goes.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    every : int
        Iterations between snapshots.

    Raises
    ------
    PictureError
        If the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, every: int):
        self.folder, self.every = folder, every
        self.rows: list[dict[str, float]] = []
        try:
            (folder / "snapshots").mkdir(parents=True, exist_ok=True)
            for old in (folder / "snapshots").glob("*.png"):
                if old.stem.isdigit():  # one of ours, from an earlier run
                    old.unlink()
            self._file: TextIO = (folder / "losses.csv").open("w", newline="")
        except OSError as error:
            raise PictureError(
                f"cannot write to the run folder {folder}: {error.strerror}; name another with --run"
            ) from error
        self._writer: Any = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def follow(self, steps: Iterator[Step], clock: Callable[[], float]) -> Iterator[Step]:
        """Pass the steps on; write their losses, with the seconds that the clock shows, and snapshots."""
        for step in steps:
            row = {"iteration": step.iteration, "scale": max(step.scale), **step.losses, "seconds": round(clock(), 3)}
            if self._writer is None:
                self._writer = csv.DictWriter(self._file, list(row))
                self._writer.writeheader()
            self._writer.writerow(row)
            self.rows.append(row)
            if step.iteration % self.every == 0 or step.iteration == step.total:
                self._file.flush()
                write_image(Picture(step.image.cpu()), self.folder / "snapshots" / f"{step.iteration:06d}.png")
            yield step

    def finish(
        self, record: dict[str, Any], paths: dict[str, Any], pictures: Sequence[tuple[str, Tensor]]
    ) -> ImpastoError | None:
        """Write record.json (with the paths, so that `rerun` finds the files) and the figures.

        Returns
        -------
        ImpastoError or None
            Why there are no figures, if there are none.
        """
        self._file.close()
        machine = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
        }
        seconds = self.rows[-1]["seconds"]
        temporary = self.folder / (RECORD_FILE + ".part")
        temporary.write_text(
            json.dumps({**record, "seconds": seconds, "paths": paths, "machine": machine}, indent=2) + "\n"
        )
        os.replace(temporary, self.folder / RECORD_FILE)
        try:
            plot_losses(self.rows, self.folder / "losses.png")
            plot_pictures(pictures, self.folder / "side-by-side.png")
        except ImpastoError as error:
            return error
        return None


def load_record(source: Path) -> dict[str, Any]:
    """The record of a run folder, or the one embedded in a picture.

    Raises
    ------
    PictureError
        If there is none.
    """
    if source.is_dir():
        try:
            record = json.loads((source / RECORD_FILE).read_text())
        except (OSError, ValueError) as error:
            raise PictureError(f"{source} is no run folder: {RECORD_FILE} is missing or damaged ({error})") from error
    else:
        record = read_record(source)
    if not isinstance(record, dict) or "options" not in record:
        raise PictureError(f"{source} carries no record of how it was made; was it painted by impasto?")
    return record


def find_source(entry: dict[str, str], path: str | None, near: Path) -> str:
    """The file (or built-in name) that an entry of a record speaks of.

    Parameters
    ----------
    entry : dict
        `name` and, for a file, `sha256`.
    path : str or None
        Where a run folder says that it was.
    near : Path
        A folder to look in besides the current one.

    Raises
    ------
    PictureError
        If it is not found, or is another file by now.
    """
    name = str(entry["name"])
    if name == "-":
        raise PictureError("the painting was made of what came through standard input; give that with --content")
    if "sha256" not in entry:
        return name
    found = [p for p in (Path(path) if path else None, Path(name), near / name) if p is not None and p.is_file()]
    for candidate in found:
        if source_entry(str(candidate))["sha256"] == entry["sha256"]:
            return str(candidate)
    advice = "give the file with --content or --styles, or run where it lies"
    if found:
        raise PictureError(f"{found[0]} has changed since the painting was made; {advice}")
    raise PictureError(f"{name} is not found here; {advice}")
