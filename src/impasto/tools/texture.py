"""Make one texture from files to a file, with progress, a record and clean stopping."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..device import Compute
from ..errors import OptionError
from ..image.picture import Picture
from ..image.write import check_target, write_image
from ..options import FileOptions, TextureOptions
from ..stylizers.choose import choose_texture
from ..stylizers.sources import resolve_start, resolve_style, style_side
from .destination import Destination
from .driver import Outcome, drive_to_file
from .job import NAMES, find_source, source_entry, undamaged
from .paint import named_styles
from .progress import start_logging
from .run import make_record

log = logging.getLogger(__name__)

METHOD = "texture"
"""The method's name in a record."""
ADVICE = "give the file with --styles, or run the command in its folder"


@dataclass(frozen=True)
class TextureJob:
    """A texture to make: sources, size, destination and options.

    Parameters
    ----------
    styles : tuple of str
        Paths or built-in names.
    size : (int, int)
        Height and width in pixels.
    seamless : bool
        Make the texture tile the plane.
    options, output
        Options of the texture, and of reading and writing.
    out : Path or None
        A file, a folder, or - for standard output; None is the current folder.
    name : str
        File name in a folder, without the suffix. If empty, it is made from the style's name.
    """

    styles: tuple[str, ...]
    size: tuple[int, int]
    seamless: bool
    options: TextureOptions
    output: FileOptions
    out: Path | None = None
    name: str = ""

    @property
    def destination(self) -> Destination:
        """The texture's destination. Raises OptionError if a name is needed but the style has none."""
        found = Destination(self.out, self.name or f"{Path(self.styles[0]).name.split('.')[0]}-texture")
        if self.styles[0] == "-" and not self.name and found.folder is not None:
            raise OptionError("the style comes from standard input; name the texture's file with --out")
        return found


def make_texture(job: TextureJob) -> None:
    """Make a texture and write it. If the steps end early, the texture so far is written first.

    Raises
    ------
    ImpastoError
        If the job cannot be done; before the first step if possible.
    KeyboardInterrupt
        After the texture so far is written.
    """
    opening = start_logging(f"Texture; {named_styles(job.styles, job.options)}")
    planned, limit = job.destination.file, job.output.limit
    file_format = "png" if planned == "-" else None
    check_target(planned, format=file_format, bits=job.output.bits, size=job.size)
    styles = [resolve_style(s, limit, long_side=style_side(job.size, job.options)) for s in job.styles]
    picture = resolve_start(job.options, limit, job.size)
    synthesizer = choose_texture(styles, job.size, job.seamless, job.options, picture)
    described = describe(job, synthesizer.compute)  # now, since the files may change in the meantime
    steps = synthesizer.steps()
    opening()  # nothing was refused

    def write(outcome: Outcome) -> str:
        with job.destination.claimed() as target:
            write_image(
                Picture(outcome.last.image.cpu()),
                target,
                bits=job.output.bits,
                quality=job.output.jpeg_quality,
                record=make_record(described, outcome.last, outcome.ended is None),
                format=file_format,
                rescue=True,
            )
        return target

    drive_to_file(steps, write, f"texture of {', '.join(job.styles)}", noun=METHOD)


def describe(job: TextureJob, compute: Compute) -> dict[str, Any]:
    """Return the record of a job: names, hashes, and all options with the actual precision; no paths."""
    options, files = {**job.options.to_dict(), "precision": compute.precision}, {}
    for option, names in NAMES.items():
        if options.get(option, names[0]) not in names:
            files[option] = source_entry(options[option])
            options[option] = files[option]["name"]
    height, width = job.size
    return {
        "method": METHOD,
        "texture": {"size": [width, height], "seamless": job.seamless},
        "styles": [source_entry(s) for s in job.styles],
        **files,
        "options": options,
        "output": asdict(job.output),
    }


def texture_of(
    record: Mapping[str, Any], source: Path, styles: tuple[str, ...] = (), output: Mapping[str, Any] | None = None
) -> TextureJob:
    """Return the job that a record describes, without its destination.

    Parameters
    ----------
    record : dict
        From `run.load_record`, of the method `texture`.
    source : Path
        The picture that the record comes from. The files are also looked for in its folder.
    styles : tuple of str
        Replace the styles that the record names.
    output : dict, optional
        Fields of FileOptions to change.

    Raises
    ------
    PictureError
        If a file is not found or has changed, or the record is damaged.
    OptionError
        If the record comes from a version with other options.
    """
    with undamaged(source):
        near, (width, height) = source.parent, record["texture"]["size"]
        options = TextureOptions.from_dict(record["options"])
        return TextureJob(
            styles or tuple(find_source(e, None, near, ADVICE) for e in record["styles"]),
            (height, width),
            record["texture"]["seamless"],
            replace(options, **{k: find_source(record[k], None, near, ADVICE) for k in NAMES if k in record}),
            FileOptions(**{**record["output"], **(output or {})}),
        )
