"""Batches over HTTP: a ZIP archive of photographs in, one of paintings out, within the server's limits.

Nothing in an archive is trusted: not its names, not its sizes, not how much it unpacks to.
"""

import io
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ...batch.outputs import Output
from ...batch.painters import Painters
from ...batch.plan import Request as BatchRequest
from ...batch.plan import Task, check_formats, make_plan
from ...batch.report import Entry
from ...batch.run import Batch
from ...batch.workers import Workers
from ...errors import OptionError, PictureError
from ...options import OutputOptions, ServeOptions, StylizeOptions
from ...options.batch import check_pattern
from ...stylizers.loss import check_blend
from ...train.pictures import PICTURE_SUFFIXES
from ..job import PaintJob
from .jobs import SOURCES, Job
from .uploads import Request, place, safe_name, without_folder

PHOTOS, PAINTINGS = "photos", "paintings.zip"
"""The unpacked photographs and the result, in the job's folder."""
MOST_TIMES = 4
"""An archive may unpack to this many times the size of the largest request."""
MOST_RATIO = 100
"""Largest compression ratio of a file in an archive; pictures are compressed already."""
DEEPEST = 8
"""Maximum depth of folders in an archive."""
ENCRYPTED = 1
"""Flag of an encrypted file in an archive."""
DIRECTORY_ENTRY = b"PK\x01\x02"
"""How an entry of an archive's directory begins."""
BLOCK = 2**20


@dataclass(eq=False, kw_only=True)
class BatchJob(Job):
    """A batch: a job with many paintings.

    Parameters
    ----------
    paint : PaintJob
        The archive of photographs, the styles, and how to paint.
    tasks : list of Task
        The paintings to make.
    done, failed : int
        How many are painted and how many could not be.
    """

    paint: PaintJob
    tasks: list[Task]
    done: int = 0
    failed: int = 0
    whole: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it was not stopped."""
        return self.whole

    @property
    def paintings(self) -> int:
        """How many paintings it has."""
        return len(self.tasks)

    @property
    def result(self) -> Path:
        """The archive of its paintings."""
        return self.folder / PAINTINGS

    def view(self, place: int = 0) -> dict[str, Any]:
        """Return the batch's state for the HTTP interface."""
        found: dict[str, Any] = {"id": self.id, "status": self.status, "seconds": round(self.seconds, 2)}
        found |= {"total": len(self.tasks), "done": self.done, "failed": self.failed}
        if self.status == "queued":
            found["place"] = place
        if self.seconds_left is not None and self.status == "painting":
            found["seconds_left"] = round(self.seconds_left, 1)
        return found | {k: v for k in ("note", "error") if (v := getattr(self, k))}


def make_batch(
    request: Request, pattern: str, options: StylizeOptions, output: OutputOptions, folder: Path, limits: ServeOptions
) -> BatchJob:
    """Unpack a request's archive, which stands for the photograph, into a job's folder, and plan its paintings.

    Raises
    ------
    ImpastoError
        If the request cannot be painted, as far as that is known before the photographs are read.
    """
    check_pattern(pattern)
    check_blend(options, 1)
    if options.size is not None and options.size > limits.max_size:
        raise OptionError(f"this server paints at most {limits.max_size} pixels a side: give a smaller --size")
    paint = place(request, folder / SOURCES, options, output)
    photos = folder / SOURCES / PHOTOS
    unpack(Path(paint.content), photos, limits)
    tasks = make_plan(BatchRequest((str(photos),), paint.styles, str(folder / PAINTINGS), pattern), options)
    if len(tasks) > limits.max_batch:
        raise OptionError(f"the batch has {len(tasks)} paintings; this server makes at most {limits.max_batch} at once")
    check_formats(tasks, output.bits)
    return BatchJob(folder=folder, paint=paint, tasks=tasks)


def unpack(archive: Path, folder: Path, limits: ServeOptions) -> None:
    """Unpack the pictures of a ZIP archive into a new folder, under safe names. Other files are left out.

    Raises
    ------
    PictureError
        If it is not a ZIP archive, or is damaged or encrypted.
    OptionError
        If it has too many files, or unpacks to too much.
    """
    data = archive.read_bytes()
    most = int(1e6 * limits.max_upload) * MOST_TIMES
    # Opening an archive reads its whole directory, which may be far longer than what a batch needs.
    if data.count(DIRECTORY_ENTRY) > 2 * limits.max_batch + 1000:
        raise OptionError(
            f"the archive has too many files; this server makes at most {limits.max_batch} paintings at once"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            members = [
                (member, clean_path(member.filename)) for member in packed.infolist() if is_photo(member.filename)
            ]
            check_members([member for member, _ in members], most, limits.max_batch)
            if not members:
                raise PictureError("the archive has no pictures; put JPEG, PNG, WebP, TIFF, AVIF or HEIC files into it")
            for member, path in members:
                target = folder / path
                if target.exists():
                    raise PictureError(f"two files of the archive are called {path}; rename one")
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, target.open("xb") as file:
                    while block := source.read(BLOCK):  # never more than the size that was checked
                        file.write(block)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PictureError(
            f"the photos are not a ZIP archive that can be unpacked ({reason}); pack them again"
        ) from error
    except RuntimeError as error:
        raise PictureError("the archive is encrypted; pack the photos without a password") from error


def is_photo(name: str) -> bool:
    """Return whether a name in an archive is that of a picture; hidden files and those of macOS are none."""
    parts = [part for part in PureWindowsPath(name).parts if part != "."]
    return (
        bool(parts)
        and not any(part.startswith(".") and part != ".." for part in parts)
        and "__MACOSX" not in parts
        and PurePosixPath(parts[-1]).suffix.lower() in PICTURE_SUFFIXES
    )


def clean_path(name: str) -> str:
    """Return a name from an archive as a relative path without anything that a file system may take otherwise."""
    parts = [p for p in PureWindowsPath(name).as_posix().split("/") if p not in ("", ".", "..")]
    *folders, file = [safe_name(part, "photo") for part in parts[-DEEPEST:]]
    return "/".join([*folders, file])


def check_members(members: Sequence[zipfile.ZipInfo], most: int, count: int) -> None:
    """Check the pictures of an archive before any is unpacked.

    Raises
    ------
    PictureError
        If there are none, or one is encrypted.
    OptionError
        If there are more than `count`, they unpack to more than `most` bytes, or one is compressed too well.
    """
    if not members:
        raise PictureError("the archive has no pictures; put JPEG, PNG, WebP, TIFF, AVIF or HEIC files into it")
    if len(members) > count:
        raise OptionError(f"the archive has {len(members)} pictures; this server makes at most {count} paintings")
    if sum(member.file_size for member in members) > most:
        raise OptionError(f"the archive unpacks to more than {most / 1e6:g} MB; send fewer or smaller photos")
    for member in members:
        if member.flag_bits & ENCRYPTED:
            raise PictureError("the archive is encrypted; pack the photos without a password")
        if member.file_size > BLOCK and member.file_size > MOST_RATIO * max(1, member.compress_size):
            raise OptionError("a file of the archive is compressed far more than a picture can be; pack it again")


class ZipOutput(Output):
    """A ZIP archive. Pictures are not compressed again."""

    def __init__(self, path: Path):
        self.archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def begin(self, names: Iterable[str]) -> set[str]:
        """Return nothing: it is new."""
        return set()

    def add(self, name: str, data: bytes, beside: Iterable[tuple[str, bytes]] = ()) -> None:
        """Add a painting."""
        self.archive.writestr(name, data)


def paint_batch_job(
    job: BatchJob, device: str, limits: ServeOptions, check: Callable[[tuple[int, int]], object]
) -> None:
    """Paint a batch until it is done, stopped, or has taken too long.

    Parameters
    ----------
    check : callable
        Called with each photograph's height and width before it is decoded. Raises ImpastoError to refuse it.
    """
    begun, lines = time.monotonic(), list[str]()
    options = replace(job.paint.options, device=device, offline=True)
    tasks = [replace(task, look=replace(task.look, options=options)) for task in job.tasks]
    output, painters = ZipOutput(job.result), Painters(job.paint.output)

    def stopped() -> bool:
        return job.stop.is_set() or time.monotonic() - begun > limits.max_seconds

    with output.archive, Workers(0) as workers:
        for entry in Batch(painters, workers, output, job.paint.output, stopped, check).run(tasks):
            lines.append(_without_paths(entry, job.folder / SOURCES).line())
            job.done += entry.outcome == "painted"
            job.failed += entry.outcome == "failed"
            job.seconds_left = (len(tasks) - len(lines)) * (time.monotonic() - begun) / len(lines)
            job.changed()
        output.archive.writestr("report.jsonl", "".join(lines))
    whole = len(lines) == len(tasks)
    if not whole:
        why = "" if job.stop.is_set() else f" after {limits.max_seconds:g} seconds, the limit of this server"
        job.note = f"stopped{why}: {len(tasks) - len(lines)} paintings are missing"
    job.whole = whole


def _without_paths(entry: Entry, sources: Path) -> Entry:
    """Return an entry that names files as the archive does."""
    reason = without_folder(without_folder(entry.reason, sources / PHOTOS), sources)
    path, style = without_folder(entry.path, sources / PHOTOS), without_folder(entry.style, sources)
    return replace(entry, path=path, style=style, reason=reason)
