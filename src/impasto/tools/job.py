"""What to paint, how that stands in a record, and how it comes back out of one."""

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
"""The options that may be a file's path -> what they may be besides."""


@dataclass(frozen=True)
class PaintJob:
    """What to paint: sources, destinations and options.

    Parameters
    ----------
    content : str
        Path, or - for standard input.
    styles : tuple of str
        Paths or built-in names.
    options, output
        How to paint, and how to read and write.
    regions : tuple of (str, str)
        A mask's path and the style for it, each.
    mask : str or None
        Path of the picture that says where to paint.
    out : Path or None
        A file, a folder, or - for standard output; None is the current folder.
    name : str
        What the file is called in a folder, without its suffix; if empty, a name made of the sources'.
    run : Path or None
        Folder of the whole record.
    snapshot_every : int
        Iterations between its snapshots.
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
        """Where the painting goes; OptionError if a name is needed and there is none to make one of."""
        name = self.name or f"{Path(self.content).stem}-{Path(self.styles[0]).name.split('.')[0]}"
        found = Destination(self.out, name)
        if self.content == "-" and not self.name and found.folder is not None:
            raise OptionError("the photograph comes from standard input; name the painting's file with --out")
        return found

    @property
    def named(self) -> dict[str, str]:
        """Those of the options that name files here, with their paths."""
        values = {k: str(getattr(self.options, k)) for k in NAMES}
        return {k: v for k, v in values.items() if v not in NAMES[k]}


def source_entry(source: str) -> dict[str, str]:
    """How a picture or style is named in a record: a built-in's name, or a file's name and hash."""
    path = Path(source)
    if not path.is_file():
        return {"name": source}
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return {"name": path.name, "sha256": found.hexdigest()}


def describe(job: PaintJob, compute: Compute) -> dict[str, Any]:
    """A job as a record has it: names, hashes and all options, the precision as it is painted in; no paths."""
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
    """Where the files of a job are, and the file or folder of its painting; for a run folder, which stays here."""
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
    """A file's absolute path; a built-in style's name as it is."""
    return str(Path(source).absolute()) if Path(source).exists() else source


GIVE = "give the file with --content or --styles, or run where it lies"


def job_of(
    record: Mapping[str, Any],
    source: Path,
    *,
    content: str | None = None,
    styles: tuple[str, ...] = (),
    output: Mapping[str, Any] | None = None,
    advice: str = GIVE,
) -> PaintJob:
    """The job that a record describes, without its destinations.

    Parameters
    ----------
    record : dict
        From `run.load_record`.
    source : Path
        The picture or run folder that it comes from; the files are looked for in its folder, too.
    content, styles
        Those of another name or place, instead of what the record names.
    output : dict, optional
        Fields of OutputOptions that differ.
    advice : str
        What to do about a file that is not found.

    Raises
    ------
    PictureError
        If a file is not found, has changed since, or the record is damaged.
    OptionError
        If the record is of a version with other options.
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
    """PictureError where a record turns out not to be made as ours are."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PictureError(f"the record of {source} is damaged: {error}") from error


def find_source(entry: Mapping[str, str], path: str | None, near: Path, advice: str = GIVE) -> str:
    """The file (or built-in name) that an entry of a record speaks of.

    Parameters
    ----------
    entry : dict
        `name` and, for a file, `sha256`.
    path : str or None
        Where a run folder says that it was.
    near : Path
        A folder to look in besides the current one.
    advice : str
        What to do if it is not there.

    Raises
    ------
    PictureError
        If it is not found, or is another file by now.
    """
    name = str(entry["name"])
    if name == "-":
        raise PictureError(f"the painting was made of what came through standard input, which is not kept; {advice}")
    if "sha256" not in entry:
        return name
    found = [p for p in (Path(path) if path else None, Path(name), near / name) if p is not None and p.is_file()]
    for candidate in found:
        if source_entry(str(candidate))["sha256"] == entry["sha256"]:
            return str(candidate)
    if found:
        raise PictureError(f"{found[0]} has changed since the painting was made; {advice}")
    raise PictureError(f"{name} is not found here; {advice}")
