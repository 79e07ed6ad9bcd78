"""A paint job, its record, and how to rebuild the job from a record."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..device import Compute
from ..errors import OptionError, PictureError
from ..models.weights import MODELS
from ..options import STARTS, OutputOptions, StylizeOptions
from .destination import Destination

NAMES: dict[str, Sequence[str]] = {"start": STARTS, "encoder": ("auto", *MODELS), "model": ("None", *MODELS)}
"""Options that may be a file's path -> the other values that they may have."""


@dataclass(frozen=True)
class PaintJob:
    """A painting to make: sources, destinations and options.

    Parameters
    ----------
    content : str
        Path of the photograph, or - for standard input.
    styles : tuple of str
        Paths or built-in names.
    options, output
        Options of painting, and of reading and writing.
    regions : tuple of (str, str)
        A mask's path and its style, for each region.
    mask : str or None
        Path of the mask of where to paint.
    out : Path or None
        A file, a folder, or - for standard output; None is the current folder.
    name : str
        File name in a folder, without the suffix. If empty, it is made from the sources' names.
    run : Path or None
        The run folder.
    snapshot_every : int
        Iterations between snapshots in the run folder.
    """

    content: str
    styles: tuple[str, ...]
    options: StylizeOptions
    output: OutputOptions
    regions: tuple[tuple[str, str], ...] = ()
    mask: str | None = None
    out: Path | None = None
    name: str = ""
    run: Path | None = None
    snapshot_every: int = 100

    @property
    def destination(self) -> Destination:
        """The painting's destination. Raises OptionError if a name is needed but the photograph has none."""
        name = self.name or f"{Path(self.content).stem}-{Path(self.styles[0]).name.split('.')[0]}"
        found = Destination(self.out, name)
        if self.content == "-" and not self.name and found.folder is not None:
            raise OptionError("the photograph comes from standard input; name the painting's file with --out")
        return found

    @property
    def named(self) -> dict[str, str]:
        """The options whose values are files here, with their paths."""
        values = {k: str(getattr(self.options, k)) for k in NAMES}
        return {k: v for k, v in values.items() if v not in NAMES[k]}


def source_entry(source: str) -> dict[str, str]:
    """Return a picture's or style's entry in a record: a built-in's name, or a file's name and hash."""
    path = Path(source)
    if not path.is_file():
        return {"name": source}
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return {"name": path.name, "sha256": found.hexdigest()}


def describe(job: PaintJob, compute: Compute) -> dict[str, Any]:
    """Return the record of a job: names, hashes, and all options with the actual precision; no paths."""
    options = {**job.options.to_dict(), "precision": compute.precision}
    found: dict[str, Any] = {
        "content": source_entry(job.content),
        "styles": [source_entry(s) for s in job.styles],
    }
    if job.regions:
        found["regions"] = [[source_entry(m), source_entry(s)] for m, s in job.regions]
    if job.mask is not None:
        found["mask"] = source_entry(job.mask)
    for option, path in job.named.items():
        found[option] = source_entry(path)
        options[option] = found[option]["name"]
    return {**found, "options": options, "output": asdict(job.output)}


def places(job: PaintJob) -> dict[str, Any]:
    """Return the paths of a job's files, and the painting's file or folder. Only for a run folder, which stays here."""
    destination = job.destination
    return {
        "content": absolute(job.content),
        "styles": [absolute(s) for s in job.styles],
        "regions": [[absolute(m), absolute(s)] for m, s in job.regions],
        "mask": None if job.mask is None else absolute(job.mask),
        **{k: absolute(p) for k, p in job.named.items()},
        "out": "-" if destination.file == "-" else str((destination.folder or Path(destination.file)).absolute()),
    }


def absolute(source: str) -> str:
    """Return a file's absolute path, or a built-in style's name unchanged."""
    return str(Path(source).absolute()) if Path(source).exists() else source


GIVE = "give the file with --content or --styles, or run the command in its folder"


def job_of(
    record: Mapping[str, Any],
    source: Path,
    *,
    content: str | None = None,
    styles: tuple[str, ...] = (),
    output: Mapping[str, Any] | None = None,
    advice: str = GIVE,
) -> PaintJob:
    """Return the job that a record describes, without its destinations.

    Parameters
    ----------
    record : dict
        From `run.load_record`.
    source : Path
        The picture or run folder that the record comes from. The files are also looked for in its folder.
    content, styles
        Replace the files that the record names.
    output : dict, optional
        Fields of OutputOptions to change.
    advice : str
        What to do if a file is not found.

    Raises
    ------
    PictureError
        If a file is not found or has changed, or the record is damaged.
    OptionError
        If the record comes from a version with other options.
    """
    near = source if source.is_dir() else source.parent
    with undamaged(source):
        paths: Mapping[str, Any] = record.get("paths", {})

        def find(entry: Mapping[str, str], path: str | None) -> str:
            return find_source(entry, path, near, advice)

        entries, regions = record["styles"], record.get("regions", [])
        at = paths.get("styles") or [None] * len(entries)
        within = paths.get("regions") or [[None, None]] * len(regions)
        options = StylizeOptions.from_dict(record["options"])
        return PaintJob(
            content or find(record["content"], paths.get("content")),
            styles or tuple(find(e, p) for e, p in zip(entries, at, strict=True)),
            replace(options, **{k: find(record[k], paths.get(k)) for k in NAMES if k in record}),
            OutputOptions(**{**record.get("output", {}), **(output or {})}),
            tuple((find(m, p), find(s, q)) for (m, s), (p, q) in zip(regions, within, strict=True)),
            find(record["mask"], paths.get("mask")) if "mask" in record else None,
        )


@contextmanager
def undamaged(source: Path) -> Iterator[None]:
    """Raise PictureError if the record's structure is not the expected one."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PictureError(f"the record of {source} is damaged: {error}") from error


def find_source(entry: Mapping[str, str], path: str | None, near: Path, advice: str = GIVE) -> str:
    """Return the file or built-in name of an entry of a record.

    Parameters
    ----------
    entry : dict
        `name` and, for a file, `sha256`.
    path : str or None
        The file's path according to the run folder.
    near : Path
        A folder to look in, in addition to the current one.
    advice : str
        What to do if the file is not found.

    Raises
    ------
    PictureError
        If the file is not found or its contents have changed.
    """
    name = str(entry["name"])
    if name == "-":
        raise PictureError(f"the painting was made from standard input, which is not kept; {advice}")
    if "sha256" not in entry:
        return name
    found = [p for p in (Path(path) if path else None, Path(name), near / name) if p is not None and p.is_file()]
    for candidate in found:
        if source_entry(str(candidate))["sha256"] == entry["sha256"]:
            return str(candidate)
    if found:
        raise PictureError(f"{found[0]} has changed since the painting was made; {advice}")
    raise PictureError(f"{name} is not found here; {advice}")
