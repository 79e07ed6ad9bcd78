"""One painting from files to file, with progress, record and a way out that loses nothing."""

import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ..errors import DivergedError, OptionError
from ..image.convert import to_picture
from ..image.io import write_image
from ..image.place import check_target
from ..image.resize import resize
from ..options import STARTS, OptimizeOptions, OutputOptions
from ..style.target import StyleTarget
from ..stylize.choose import choose_stylizer, resolve_region, resolve_style, split_region
from ..stylize.protocol import Step
from .progress import follow_steps, start_logging
from .run import RunFolder, make_record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PaintJob:
    """What to paint: sources, destinations and options.

    Parameters
    ----------
    content : str
        Path, or - for standard input.
    styles : tuple of str
        Paths or built-in names.
    out : Path or None
        Path, or - for standard output; None makes a name of the sources'.
    run : Path or None
        Folder of the whole record.
    snapshot_every : int
        Iterations between its snapshots.
    regions : tuple of str
        MASK=STYLE each.
    """

    content: str
    styles: tuple[str, ...]
    out: Path | None
    run: Path | None
    snapshot_every: int
    options: OptimizeOptions
    output: OutputOptions
    regions: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """Where the painting goes."""
        if self.out is not None:
            return str(self.out)
        if self.content == "-":
            raise OptionError("the photograph comes from standard input; name the painting's file with --out")
        return f"{Path(self.content).stem}-{Path(self.styles[0]).name.split('.')[0]}.png"


def paint(job: PaintJob) -> None:
    """Paint and write; on Ctrl-C, or if the optimisation diverges, the painting so far is written first.

    Raises
    ------
    ImpastoError
        If anything of the job cannot be done; before the work begins where that can be known.
    KeyboardInterrupt
        After the painting so far is written.
    """
    start_logging()
    target, limit = job.target, job.output.max_megapixels
    file_format = None if target != "-" else "png"
    check_target(target, format=file_format, bits=job.output.bits)
    photo = to_picture(job.content, max_megapixels=limit)
    styles = [resolve_style(s, limit) for s in job.styles]
    sources = [split_region(r) for r in job.regions]
    regions = [resolve_region(mask, style, limit) for mask, style in sources]
    start = None
    if job.options.start not in STARTS:
        start = to_picture(job.options.start, max_megapixels=limit).tensor
    steps = choose_stylizer(styles, job.options, start).steps(photo.tensor, regions)
    with RunFolder(job.run, job.snapshot_every) if job.run else nullcontext() as run:
        begun = time.monotonic()
        steps = follow_steps(steps, f"{Path(job.content).name} in {', '.join(job.styles)}")
        if run is not None:
            steps = run.follow(steps, lambda: time.monotonic() - begun)
        last, ended = until_it_ends(steps)
        seconds = time.monotonic() - begun
        record = make_record(job.content, job.styles, job.options, last, sources)
        painting = photo.with_tensor(last.image.cpu())
        write_image(
            painting,
            target,
            bits=job.output.bits,
            quality=job.output.jpeg_quality,
            keep_gps=job.output.keep_gps,
            record=record,
            format=file_format,
        )
        if run is not None:
            shown = [("content", resize(photo.tensor, painting.size))]
            shown += [(n, s) for n, s in zip(job.styles, styles, strict=True) if not isinstance(s, StyleTarget)]
            paths = {
                "content": absolute(job.content),
                "styles": [absolute(s) for s in job.styles],
                "regions": [[absolute(m), absolute(s)] for m, s in sources],
                "start": absolute(job.options.start),
                "out": target,
            }
            problem = run.finish(record, paths, [*shown, ("painting", painting.tensor)])
            if problem:
                log.warning("%s", problem)
    h, w = painting.size
    if ended is not None:
        log.warning("stopped at iteration %d of %d; the painting so far is in %s", last.iteration, last.total, target)
        raise ended
    log.info("%s: %dx%d, %d iterations in %.1f s", target, w, h, last.iteration, seconds)


def until_it_ends(steps: Iterator[Step]) -> tuple[Step, BaseException | None]:
    """The last step, and what ended the steps early, if anything did; what comes before the first step is raised."""
    last: Step | None = None
    try:
        for step in steps:
            last = step
    except (KeyboardInterrupt, DivergedError) as error:
        if last is None:
            raise
        return last, error
    assert last is not None, "a stylizer yields at least one step"
    return last, None


def absolute(source: str) -> str:
    """A file's absolute path; a built-in style's name as it is."""
    return str(Path(source).absolute()) if Path(source).exists() else source
