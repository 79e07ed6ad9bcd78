"""Make one painting from files to a file, with progress, a record and clean stopping."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import OptionError, PictureError
from ..image.picture import Picture, over_white
from ..image.read import to_picture
from ..image.resize import resize
from ..image.sink import check_sink, is_deep_zoom, open_sink
from ..image.source import source_name
from ..image.write import check_target, rescued, write_image
from ..options import BlendOptions, StylizeOptions
from ..style.target import StyleTarget
from ..stylizers.choose import choose_stylizer, planned_size
from ..stylizers.loss import style_shares
from ..stylizers.protocol import Region, Stylizer
from ..stylizers.schedule import painting_size
from ..stylizers.sources import (
    photo_options,
    resolve_mask,
    resolve_region,
    resolve_start,
    resolve_style,
    style_side,
)
from .checkpoint import Checkpoint, load_checkpoint
from .driver import Outcome, drive_to_file
from .job import PaintJob, describe, job_of, undamaged
from .large import ROWS_DONE, large_photograph, paint_large
from .progress import start_logging
from .run import CHECKPOINT_FILE, RunFolder, differences, load_record, make_record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """A job's sources after reading: the photograph, the styles, the regions, the mask and the picture to start from.

    The options are the job's, adapted to a photograph that was reduced while it was read.
    """

    photo: Picture
    options: StylizeOptions
    styles: list[Tensor | StyleTarget]
    regions: list[Region]
    mask: Tensor | None
    start: Tensor | None


def read_sources(job: PaintJob, check: Callable[[tuple[int, int]], object] = lambda size: None) -> Sources:
    """Read a job's sources. Raises ImpastoError if that fails.

    Pictures that are much larger than the painting are reduced while they are read. `check` is called with the
    painting's height and width before any pixel is decoded.
    """
    limit, options = job.output.limit, job.options

    def sized(photo: tuple[int, int]) -> tuple[int, int]:
        check(painting_size(photo, options))
        return planned_size(photo, options)

    photo = to_picture(job.content, max_megapixels=limit, sized=sized)
    size = painting_size(photo.metadata.full_size or photo.size, options)
    start = resolve_start(options, limit, size)
    return Sources(photo, photo_options(photo, options), *read_styles(job, size), start)


def read_styles(job: PaintJob, size: tuple[int, int]) -> tuple[list[Tensor | StyleTarget], list[Region], Tensor | None]:
    """Read the styles, the regions and the mask for a painting of height and width `size`."""
    limit, model, long = job.output.limit, job.options.model, style_side(size, job.options)
    return (
        [resolve_style(s, limit, model, long) for s in job.styles],
        [resolve_region(mask, style, limit, model, size, long) for mask, style in job.regions],
        None if job.mask is None else resolve_mask(job.mask, limit, size),
    )


def paint(job: PaintJob, checkpoint: Checkpoint | None = None, begun_with: Mapping[str, Any] | None = None) -> None:
    """Paint and write the painting. If the steps end early, the painting so far is written first.

    A photograph too large for memory is painted from file to file, if the method and the file's format allow that
    (`large`).

    Parameters
    ----------
    checkpoint : Checkpoint, optional
        The checkpoint to continue from.
    begun_with : dict, optional
        Program and machine at the start of the painting. Logs a warning if the current ones differ.

    Raises
    ------
    ImpastoError
        If the job cannot be done; before the first step if possible.
    KeyboardInterrupt
        After the painting so far is written.
    """
    opening = start_logging(headline(job))
    check_output(job)
    with large_photograph(job, checkpoint) as photo:
        if photo is not None:
            size = painting_size(photo.size, job.options)
            check_output(job, size, photo.channels)
            styles, regions, mask = read_styles(job, size)
            stylizer = choose_stylizer(styles, job.options)
            described = describe_now(job, stylizer, begun_with)
            named = [(n, s) for n, s in zip(job.styles, styles, strict=True) if isinstance(s, Tensor)]
            paint_large(job, photo, stylizer, regions, mask, named, described, checkpoint, opening)
            return
    given = read_sources(job, lambda size: check_output(job, size))
    full = given.photo.metadata.full_size or given.photo.size
    size = painting_size(full, job.options)
    check_output(job, size, 3 if given.photo.alpha is None else 4)
    stylizer = choose_stylizer(given.styles, given.options, given.start)
    described = describe_now(job, stylizer, begun_with)
    state = None if checkpoint is None else checkpoint.state
    steps = stylizer.steps(given.photo.pixels, given.regions, given.mask, state)
    run = RunFolder(job, described, stylizer.compute, checkpoint) if job.run else None
    opening()  # nothing was refused
    if (job.options.size, job.options.scale) == (None, None) and max(size) < max(full):
        whole = f"{full[1]}x{full[0]}"
        log.info("the painting has %dx%d pixels; --scale 1 paints all %s of the photograph", size[1], size[0], whole)
    drive_to_file(
        steps,
        lambda outcome: write(job, given, described, outcome, run),
        f"{Path(job.content).name} in {', '.join(job.styles)}",
        run,
    )


def describe_now(job: PaintJob, stylizer: Stylizer, begun_with: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the job's record, before its files may change. Warns if program or machine differ from `begun_with`."""
    if begun_with is not None and (other := differences(begun_with, stylizer.compute)):
        log.warning("started with %s: the painting may come out slightly different", ", ".join(other))
    return {"method": stylizer.method, **describe(job, stylizer.compute)}


def check_output(job: PaintJob, size: tuple[int, int] | None = None, channels: int = 3) -> None:
    """Raise ImpastoError if a painting of height and width `size`, or of any size, cannot be written."""
    target, output, file_format = job.destination.file, job.output, format_of(job)
    found = "DZI" if is_deep_zoom(target, file_format) else check_target(target, format=file_format, bits=output.bits)
    option = "pyramid" if output.pyramid else "compression" if output.compression != "deflate" else None
    if option is not None and found != "TIFF":
        raise OptionError(f"--{option} is for TIFF; write .tif, or leave it out")
    if option is not None or found == "DZI":
        kind = {"compression": output.compression, "format": file_format}
        check_sink(target, size or (1, 1), channels=channels, bits=output.bits, **kind)
    elif size is not None:
        check_target(target, format=file_format, bits=output.bits, size=size)


def format_of(job: PaintJob) -> str | None:
    """Return the format of the painting if it goes to standard output, else None: the suffix determines it."""
    return "png" if job.destination.file == "-" else None


def headline(job: PaintJob) -> str:
    """Return a line that names the photograph and the styles. Raises OptionError if the weights do not fit them."""
    text = f"Photograph {source_name(job.content)}; {named_styles(job.styles, job.options)}"
    return text + "".join(f"; {source_name(s)} where {source_name(m)} is white" for m, s in job.regions)


def named_styles(styles: Sequence[str], options: BlendOptions) -> str:
    """Return the styles' names, with their shares if there are several."""
    if len(styles) == 1:
        return f"style: {source_name(styles[0])}"
    shares = (100 * share for share in style_shares(options, len(styles)))
    texts = (f"{share:.0f}" if share >= 1 else f"{share:.2g}" for share in shares)
    return "styles: " + ", ".join(f"{source_name(s)} {text} %" for s, text in zip(styles, texts, strict=True))


def write(job: PaintJob, given: Sources, described: Mapping[str, Any], outcome: Outcome, run: RunFolder | None) -> str:
    """Write the painting with its record, and finish the run folder. Returns the painting's file."""
    record = make_record(described, outcome.last, outcome.ended is None)
    painting = given.photo.with_tensor(outcome.last.image.cpu())
    output = job.output
    options = {"quality": output.jpeg_quality, "keep_gps": output.keep_gps, "record": record}
    with job.destination.claimed() as target:
        if output.pyramid or output.compression != "deflate" or is_deep_zoom(target):
            try:
                write_tiles(painting, target, job, options)
            except PictureError as error:
                png = BytesIO()
                write_image(painting, png, format="png", **options)
                raise rescued(png.getvalue(), target, ".png", error) from error
        else:
            write_image(painting, target, bits=output.bits, format=format_of(job), rescue=True, **options)
    if run is None:
        return target
    shown = [("content", resize(given.photo.pixels, painting.size))]
    shown += [(n, s) for n, s in zip(job.styles, given.styles, strict=True) if isinstance(s, Tensor)]
    shown.append(("painting", painting.pixels))
    problem = run.finish(record, target, [(name, over_white(picture)) for name, picture in shown])
    if problem:
        log.warning("%s", problem)
    return target


def write_tiles(painting: Picture, target: str, job: PaintJob, options: dict[str, Any]) -> None:
    """Write a painting in tiles: TIFF or DeepZoom."""
    alpha, output = painting.alpha, job.output
    pixels = painting.tensor if alpha is None else torch.cat([painting.tensor, alpha], 1)
    tiff = {"bits": output.bits, "compression": output.compression, "pyramid": output.pyramid}
    channels, metadata = pixels.shape[1], painting.metadata
    with open_sink(target, painting.size, channels=channels, metadata=metadata, **tiff, **options) as sink:
        sink.write(pixels)


def rerun(job: PaintJob, record: Mapping[str, Any]) -> None:
    """Paint the job of a record again, with the whole schedule even if it was interrupted. Raises as `paint`."""
    start_logging()
    if "interrupted" in record:
        done = f" at iteration {record['iterations']} of {record['total']}" if "total" in record else ""
        log.info("the painting was stopped%s; painting the whole schedule", done)
    paint(job)


def resume(folder: Path) -> None:
    """Continue the painting of a run folder. A finished painting is made again only if its file is gone.

    Raises
    ------
    ImpastoError
        If the folder is not a run folder, its checkpoint is damaged, or a source has changed; else as `paint`.
    KeyboardInterrupt
        As `paint`.
    """
    start_logging()
    if not folder.is_dir():
        raise PictureError(f"{folder} is not a run folder; give --resume the folder that was given to --run")
    record = load_record(folder)
    job = job_of(record, folder, advice="put it back, or start over")
    with undamaged(folder):
        every, out, mark = int(record["snapshot_every"]), str(record["paths"]["out"]), str(record["run"])
        begun_with = {**record, **record["machine"]}
    job = replace(job, out=Path(out), run=folder, snapshot_every=every)
    if "interrupted" not in record:
        if out == "-" or Path(out).exists():
            log.info("%s is finished: its painting is %s", folder, "written" if out == "-" else out)
            return
        log.info("%s is finished, but %s is gone: painting it again", folder, out)
        paint(job)
        return
    checkpoint = load_checkpoint(folder / CHECKPOINT_FILE, mark)
    if checkpoint is None:
        log.info("%s has no checkpoint yet: starting at the first iteration", folder)
    elif ROWS_DONE in checkpoint.state:
        log.info("%s: continuing after %d rows", folder, checkpoint.state[ROWS_DONE])
    else:
        log.info("%s: continuing after iteration %d", folder, checkpoint.iteration)
    paint(job, checkpoint, begun_with)
