"""Paint a photograph that does not fit into memory, from its file to the painting's, strip by strip.

With a run folder, the finished rows, the statistics and, if these are exact, the painted rows before their colours are
set stay in it until the painting is finished. So a painting that was stopped, killed, or ran out of disk space
continues with the next strip.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PictureError
from ..files import temporary_folder
from ..image import deep
from ..image.picture import over_white
from ..image.sink import FileSink, bits_of, check_sink, open_sink, rows_bytes
from ..image.source import MOST_MEGAPIXELS
from ..image.stream import FileSource, open_in_parts
from ..image.strips import PictureSource
from ..models.networks import find_network
from ..ranges import MAX_MEGAPIXELS
from ..stylizers.choose import choose_method, resolve_compute
from ..stylizers.memory import gigabytes
from ..stylizers.network_memory import too_large
from ..stylizers.photograph import PREVIEW_SIZE, Preview
from ..stylizers.protocol import Region, Step, Stylizer
from ..stylizers.schedule import painting_size
from ..stylizers.tiled import PAINTED_BYTES, PassStatistics, StreamedPainting
from .checkpoint import Checkpoint
from .driver import Observer, drive
from .job import PaintJob
from .pace import expected_seconds
from .progress import step_bar
from .run import RunFolder, one_pass_record
from .stopping import Stop

log = logging.getLogger(__name__)

ROWS_FILE, PAINTED_FILE = "rows.part", "painted.part"
"""In a run folder: the finished rows, and the painted rows before their colours are set."""
ROWS_DONE = "rows"
"""The entry of a checkpoint's state that counts the finished rows."""
SCAN = 2_000_000
"""Pixels that are looked at together for transparency."""


@contextmanager
def large_photograph(job: PaintJob, checkpoint: Checkpoint | None) -> Iterator[FileSource | None]:
    """Open the photograph if it is painted from file to file; None otherwise.

    That is the case if it has more pixels than may be held in memory, or if its painting would not fit. A painting that
    is continued is painted as it was begun. This needs the method `network`, the extra `large`, and a file that can be
    read in parts.

    Raises
    ------
    PictureError
        If the photograph has more pixels than the options allow, or cannot be read.
    """
    options, going_on = job.options, checkpoint is not None and ROWS_DONE in checkpoint.state

    def wanted(sides: tuple[int, int]) -> bool:
        if going_on or sides[0] * sides[1] > 1e6 * MAX_MEGAPIXELS:
            return deep.available()
        net = find_network(options.model)
        compute = resolve_compute(options, net)
        large = too_large(painting_size(sides, options), net, compute, options.max_memory) is not None
        return large and deep.available()

    if choose_method(options) != "network" or not Path(job.content).is_file():
        yield None
        return
    with open_in_parts(job.content, wanted, max_megapixels=job.output.max_megapixels or MOST_MEGAPIXELS) as source:
        yield source


class Opaque:
    """A photograph whose alpha is 1 everywhere, without it."""

    channels = 3

    def __init__(self, source: PictureSource):
        self.source, self.size = source, source.size

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """Return a rectangle, (1, 3, height, width)."""
        return self.source.read(top, left, height, width)[:, :3]

    def reduced(self, long_side: int) -> Tensor:
        """Return the whole picture, (1, 3, H, W), reduced to at most `long_side` pixels."""
        return self.source.reduced(long_side)[:, :3]


def without_useless_alpha(source: FileSource) -> PictureSource:
    """Return the photograph, without its alpha if that is 1 everywhere. PictureError if it is 0 everywhere."""
    if source.channels == 3:
        return source
    (height, width), low, high = source.size, 1.0, 0.0
    step = max(1, SCAN // width)
    for top in range(0, height, step):
        alpha = source.read(top, 0, min(step, height - top), width)[:, 3]
        low, high = min(low, float(alpha.min())), max(high, float(alpha.max()))
        if low < 1 and high > 0:
            return source
    if high <= 0:
        raise PictureError(f"{source.metadata.name} is transparent everywhere; give a picture with visible pixels")
    return Opaque(source)


def paint_large(
    job: PaintJob,
    photo: FileSource,
    stylizer: Stylizer,
    regions: Sequence[Region],
    mask: Tensor | None,
    named: Sequence[tuple[str, Tensor]],
    described: Mapping[str, Any],
    checkpoint: Checkpoint | None,
    opening: Callable[[], None],
) -> None:
    """Paint a photograph from file to file.

    Parameters
    ----------
    photo : FileSource
        The photograph (`large_photograph`).
    stylizer, regions, mask
        As for `paint_tiled`.
    named : sequence of (str, Tensor)
        The style pictures and their names, for the figure in the run folder.
    described : dict
        The job's record.
    checkpoint : Checkpoint, optional
        The checkpoint to continue from.
    opening : callable
        Logs the first line; called when nothing was refused.

    Raises
    ------
    ImpastoError
        If the job cannot be done, before painting if possible; or if the disk is full.
    KeyboardInterrupt
        If it was stopped.
    """
    state = {} if checkpoint is None else checkpoint.state
    target, output, file_format = job.destination.file, job.output, "png" if job.destination.file == "-" else None
    rows, painted = (None, None) if job.run is None else (job.run / ROWS_FILE, job.run / PAINTED_FILE)
    source = without_useless_alpha(photo)
    painting = StreamedPainting(stylizer, source, regions, mask, strip=state.get("strip"), kept=painted)
    bits = bits_of(target, output.bits, photo.metadata, output.compression, file_format)
    tiff = {"bits": bits, "compression": output.compression}
    kept = {"format": file_format, "rows": rows}
    check_sink(target, painting.size, channels=photo.channels, **tiff, **kept)
    encoding = {"quality": output.jpeg_quality, "pyramid": output.pyramid, **tiff}
    if not state:
        check_painted(painting)
        opening()
        suffix = ".png" if target == "-" else Path(target).suffix
        seconds = expected_seconds(painting, stylizer, regions, suffix, encoding)
        log.info("%s", plan(job, painting, rows_bytes(painting.size, photo.channels, bits), seconds))
    run = None if job.run is None else RunFolder(job, described, stylizer.compute, checkpoint)
    begun = time.monotonic() - (0.0 if run is None else run.before)
    with open_sink(
        target,
        painting.size,
        channels=photo.channels,
        metadata=photo.metadata,
        keep_gps=output.keep_gps,
        record=one_pass_record(described, painting.size),
        done=state.get(ROWS_DONE, 0),
        **encoding,
        **kept,
    ) as sink:
        preview = None if run is None else Preview(source, painting.size)
        pictures = [] if preview is None else [("content", preview.image)]
        if preview is not None and sink.done:
            preview.add(sink.thinned(max(1, max(painting.size) // PREVIEW_SIZE)), sink.done)
        with (
            Stop() as stop,
            run or nullcontext(),
            step_bar(f"{Path(job.content).name} in {', '.join(job.styles)}") as bar,
        ):
            observers: list[Observer] = [bar] if run is None else [bar, run, run.save]
            outcome = drive(steps_of(painting, sink, state, preview), observers, stop)
            asked = stop.taken()
        if outcome.ended is not None:
            how = (
                "with --run DIR, it could be continued"
                if run is None
                else f"continue with `impasto stylize --resume {run.folder}`"
            )
            log.warning("stopped after %d of %d rows; %s", sink.done, painting.size[0], how)
            raise outcome.ended
        with job.destination.claimed() as final:
            sink.finish(final)
        if run is not None and preview is not None:
            shown = [*pictures, *named, ("painting", preview.image)]
            finished = one_pass_record(described, painting.size)
            problem = run.finish(finished, final, [(name, over_white(picture)) for name, picture in shown])
            if painted is not None:
                painted.unlink(missing_ok=True)
            if problem:
                log.warning("%s", problem)
    log.info("%s: %dx%d, one pass in %.1f s", final, *painting.size[::-1], time.monotonic() - begun)
    if asked is not None:
        raise asked


def steps_of(
    painting: StreamedPainting, sink: FileSink, state: Mapping[str, Any], preview: Preview | None
) -> Iterator[Step]:
    """Write the strips of a painting, and yield a step after each part of the work.

    Parameters
    ----------
    state : dict
        The state of a checkpoint, or empty.
    preview : Preview, optional
        What the steps show. Without it, they show nothing.
    """
    names = [f.name for f in fields(PassStatistics)]
    there = {k: state[k] if k == "moments" else state[k].to(painting.compute.device) for k in names if state}
    statistics = PassStatistics(**there) if there else None
    nothing = torch.zeros(1, 3, 1, 1)

    def now() -> dict[str, Any]:
        found = {k: getattr(painting.found, k).cpu() for k in names}
        return {"strip": painting.strip, ROWS_DONE: sink.done, **found}

    for strip in painting.strips(statistics, sink.done if state else None):
        if strip.rows is not None:
            more = sink.channels - strip.rows.shape[1]
            sink.write(torch.cat([strip.rows, torch.ones_like(strip.rows[:, :1])], 1) if more else strip.rows)
            if preview is not None:
                preview.add(strip.rows[:, :3])
        yield Step(
            painting.size,
            1,
            1,
            strip.done,
            strip.total,
            {},
            nothing if preview is None else preview.image,
            state=None if painting.found is None else now,
            schedule=(strip.total,),
        )


def check_painted(painting: StreamedPainting) -> None:
    """Raise PictureError if a run folder's disk has no space for the painted rows."""
    if painting.kept is None:
        return
    folder = next(p for p in painting.kept.absolute().parents if p.exists())
    free, need = shutil.disk_usage(folder).free, PAINTED_BYTES * painting.size[0] * painting.size[1]
    if free < need:
        raise PictureError(
            f"the run folder needs {gigabytes(need)}, and {folder} has {gigabytes(free)}; free some space there, or "
            "name another with --run"
        )


def plan(job: PaintJob, painting: StreamedPainting, rows: int, seconds: float) -> str:
    """Return a line that says how a photograph will be painted, how long that takes, and the disk space it needs.

    Parameters
    ----------
    rows : int
        Bytes of the finished rows.
    seconds : float
        How long it takes (`expected_seconds`).
    """
    height, width = painting.size
    reason = too_large(painting.size, painting.net, painting.compute, job.options.max_memory)
    beside = job.run or Path(job.destination.file).parent
    space = [(rows + (0 if painting.kept is None else PAINTED_BYTES * height * width), str(beside))]
    space += [(painting.file_bytes, str(temporary_folder()))] if painting.file_bytes else []
    places = " and ".join(f"{gigabytes(count)} in {folder}" for count, folder in space)
    return (
        f"{reason or f'a {width}x{height} painting'}: painting it from file to file in {-(-height // painting.strip)} "
        f"strips, which takes {duration(seconds)}; temporary files: {places}"
    )


def duration(seconds: float) -> str:
    """Return a rough duration as text."""
    if seconds < 60:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
