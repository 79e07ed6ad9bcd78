"""Paint a large photograph in a worker, from file to file; keep it as a TIFF file, and as tiles for the page."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import OptionError, PictureError
from ...image import deep
from ...image.picture import over_white
from ...image.sink import FileSink, open_sink
from ...image.source import MOST_MEGAPIXELS
from ...image.stream import open_in_parts, open_source
from ...image.strips import PictureSource
from ...options import OutputOptions, StylizeOptions
from ...stylizers.choose import choose_method, choose_stylizer
from ...stylizers.photograph import Preview
from ...stylizers.schedule import painting_size
from ...stylizers.tiled import StreamedPainting
from ..driver import EarlyEnd, drive
from ..job import PaintJob, describe
from ..large import steps_of, without_useless_alpha
from ..paint import read_styles
from ..run import one_pass_record
from .jobs import PictureJob
from .painter import Watch, as_frame, jpeg

FILE, TILES = "painting.tif", "painting.dzi"
"""The painting with 16 bits per sample, and its tiles, in the job's folder."""
ROWS = 256
"""Rows that are read and written together."""


def is_large(sides: tuple[int, int], options: StylizeOptions, max_size: int, megapixels: float) -> bool:
    """Return whether the painting of a photograph is made from file to file.

    Parameters
    ----------
    sides : (int, int)
        The photograph's sides in pixels.
    max_size : int
        Largest long side of other paintings.
    megapixels : float
        Largest size of the photograph and of a painting that is made from file to file.
    """
    size = painting_size(sides, options)
    largest = max(size[0] * size[1], sides[0] * sides[1])
    return max(size) > max_size and largest <= 1e6 * megapixels and choose_method(options) == "network"


def check_large(job: PaintJob, max_size: int, megapixels: float) -> tuple[int, int] | None:
    """Return height and width of a photograph that is painted from file to file; None for every other.

    Reads only the file's header.

    Raises
    ------
    PictureError
        If the photograph cannot be read.
    """
    if not megapixels or not deep.available():
        return None

    def wanted(sides: tuple[int, int]) -> bool:
        return is_large(sides, job.options, max_size, megapixels)

    with open_in_parts(job.content, wanted, max_megapixels=MOST_MEGAPIXELS) as photo:
        return None if photo is None else photo.size


def paint_large_job(
    job: PaintJob, of: PictureJob, device: str, max_seconds: float, publish: Callable[[], None]
) -> None:
    """Paint a job from file to file, with the parameters and errors of `painter.paint_job`.

    A painting that is stopped is not kept: its lower part would be missing.
    """
    try:
        _paint(job, of, device, max_seconds, publish)
    except EarlyEnd as end:
        how = str(end).removesuffix(": this is the painting so far")
        of.note = f"{how}: a large painting is only kept once it is finished"


def _paint(job: PaintJob, of: PictureJob, device: str, max_seconds: float, publish: Callable[[], None]) -> None:
    options = replace(job.options, device=device, offline=True)
    with open_in_parts(job.content, lambda sides: True, max_megapixels=job.output.limit) as photo:
        if photo is None:
            raise PictureError(f"{Path(job.content).name} cannot be read in parts; save it as JPEG, PNG, WebP or TIFF")
        size = painting_size(photo.size, options)
        styles, regions, mask = read_styles(job, size)
        stylizer = choose_stylizer(styles, options)
        source = without_useless_alpha(photo)
        painting = StreamedPainting(stylizer, source, regions, mask)
        record = one_pass_record({"method": stylizer.method, **describe(job, stylizer.compute)}, size)
        preview = Preview(source, size)
        of.photo = jpeg(over_white(as_frame(preview.image)))
        watch = Watch(of, max_seconds, lambda step: step.image, publish)
        with open_sink(of.folder / FILE, size, channels=photo.channels, metadata=photo.metadata, bits=16) as sink:
            outcome = drive(steps_of(painting, sink, {}, preview), [watch])
            if outcome.ended is not None:
                raise outcome.ended
        of.metadata = photo.metadata
    with (
        open_source(of.folder / FILE, max_megapixels=job.output.limit) as painted,
        open_sink(of.folder / TILES, size, channels=painted.channels) as tiles,
    ):
        copy_rows(painted, tiles)
    of.size, of.record = size, record


def copy_rows(source: PictureSource, sink: FileSink) -> None:
    """Write a picture from a source to a sink."""
    height, width = source.size
    for top in range(0, height, ROWS):
        sink.write(source.read(top, 0, min(ROWS, height - top), width))


def large_file(of: PictureJob, file_format: str, output: OutputOptions) -> Path:
    """Return the painting's file in a format, with its profile, the photograph's metadata and its record.

    Raises
    ------
    OptionError
        If the format does not support that many bits, or the job has no painting.
    PictureError
        If the painting is too large for the format.
    """
    if not of.has_picture:
        raise OptionError("there is no painting to download yet")
    path = of.folder / f"download-{output.bits or 8}-{output.jpeg_quality}-{output.keep_gps}.{file_format}"
    if path.exists():
        return path
    options: dict[str, Any] = {"bits": output.bits, "quality": output.jpeg_quality, "keep_gps": output.keep_gps}
    with (
        open_source(of.folder / FILE, max_megapixels=of.paint.output.limit) as painted,
        open_sink(
            path,
            painted.size,
            channels=painted.channels,
            metadata=of.metadata,
            record=dict(of.record or {}),
            format=file_format,
            **options,
        ) as sink,
    ):
        copy_rows(painted, sink)
    return path


def tile_file(of: PictureJob, level: int, column: int, row: int) -> Path | None:
    """Return the file of a tile, or None if it does not exist.

    Parameters
    ----------
    level : int
        The painting's size is halved from the highest level down to one pixel at level 0.
    column, row : int
        The tile's place.
    """
    folder = of.folder / f"{Path(TILES).stem}_files" / str(level)
    found = (folder / f"{column}_{row}.{suffix}" for suffix in ("jpg", "png"))
    return next((p for p in found if p.exists()), None)
