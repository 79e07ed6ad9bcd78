"""Store visitors' uploads, pictures and style files, in a job's own folder under safe names.

No path or address from a visitor is ever opened: a source is a built-in style's name, or bytes from the request.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import torch

from ...errors import OptionError, StyleError
from ...image.read import read_image
from ...options import OutputOptions, StylizeOptions
from ...style.target import builtin_names
from ...stylizers.protocol import Region, check_masks
from ...stylizers.schedule import painting_size
from ...stylizers.sources import resolve_mask, resolve_style, style_side
from ..job import PaintJob

LONGEST_NAME = 80
FILE_REFERENCE = re.compile(r"file:([0-9]{1,3})")
"""Reference to an uploaded style: `file:` and its position, counted from 1."""


@dataclass(frozen=True)
class Upload:
    """An uploaded file.

    Parameters
    ----------
    name : str
        The file name on the visitor's machine.
    data : bytes
        The contents.
    """

    name: str
    data: bytes


@dataclass(frozen=True)
class Request:
    """A visitor's request for a painting.

    Parameters
    ----------
    content : Upload
        The photograph.
    styles : tuple of str
        Built-in names, or `file:1` for the first style file. If empty, all style files are used.
    style_files : tuple of Upload
        Pictures and style files.
    regions : tuple of (Upload, str)
        A mask and its style, named as in `styles`, for each region.
    mask : Upload or None
        Where to paint.
    """

    content: Upload
    styles: tuple[str, ...] = ()
    style_files: tuple[Upload, ...] = ()
    regions: tuple[tuple[Upload, str], ...] = ()
    mask: Upload | None = None


def safe_name(name: str, fallback: str) -> str:
    """Return a visitor's file name without folders and without characters special to shells or file systems."""
    base = PurePosixPath(PureWindowsPath(name).as_posix()).name
    kept = re.sub(r"[^\w. -]+", "-", base).strip(". -")
    stem, dot, suffix = kept.rpartition(".")
    kept = f"{stem[: LONGEST_NAME - 13]}.{suffix[:12]}" if dot and stem else kept[:LONGEST_NAME]
    return kept.lstrip(".- ") or fallback


class Uploads:
    """The files that a visitor sent, in a job's folder.

    Parameters
    ----------
    folder : Path
        The folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.taken = set(builtin_names())  # a file with a style's name would be taken for that style
        self.styles: list[str] = []

    def free(self, name: str, fallback: str) -> Path:
        """Return the path for a visitor's file, under a safe name that is not taken yet."""
        name = safe_name(name, fallback)
        stem, dot, suffix = name.rpartition(".")
        number = 2
        while name.lower() in self.taken:
            name = f"{stem}-{number}{dot}{suffix}" if dot else f"{suffix}-{number}"
            number += 1
        self.taken.add(name.lower())
        return self.folder / name

    def put(self, upload: Upload, fallback: str) -> str:
        """Write a file and return its path."""
        path = self.free(upload.name, fallback)
        path.write_bytes(upload.data)
        return str(path)

    def put_styles(self, files: Sequence[Upload]) -> None:
        """Write the style files, to which `file:1` and so on refer."""
        self.styles = [self.put(f, f"style-{i}") for i, f in enumerate(files, 1)]

    def style(self, style: str) -> str:
        """Return the built-in name or the path that a visitor's style means. Raises StyleError if it is neither."""
        reference = FILE_REFERENCE.fullmatch(style)
        if reference is not None:
            if not 1 <= int(reference[1]) <= len(self.styles):
                raise StyleError(f"style {style!r} does not exist: {len(self.styles)} style files were sent")
            return self.styles[int(reference[1]) - 1]
        if style not in builtin_names():
            raise StyleError(f"style {style[:60]!r} is not a built-in style; GET /v1/styles lists them")
        return style

    def style_names(self, styles: Sequence[str]) -> tuple[str, ...]:
        """Return the visitor's styles, or all style files if there are none. Raises OptionError if both are missing."""
        found = tuple(self.style(s) for s in styles) or tuple(self.styles)
        if not found:
            raise OptionError("no style given; name a built-in style, or send a picture or style file")
        return found


def place(request: Request, folder: Path, options: StylizeOptions, output: OutputOptions) -> PaintJob:
    """Write the uploads into the folder, and return the job that paints them.

    Raises
    ------
    OptionError
        If there are no styles.
    StyleError
        If a style is neither built-in nor an uploaded file.
    """
    uploads = Uploads(folder)
    content = uploads.put(request.content, "photo")
    uploads.put_styles(request.style_files)
    styles = uploads.style_names(request.styles)
    regions = tuple((uploads.put(m, f"mask-{i}.png"), uploads.style(s)) for i, (m, s) in enumerate(request.regions, 1))
    mask = uploads.put(request.mask, "mask.png") if request.mask else None
    return PaintJob(content, styles, options, output, regions, mask)


def check_uploads(job: PaintJob, max_megapixels: float, check: Callable[[tuple[int, int]], object]) -> None:
    """Read all sources once, so that errors are reported before the job is queued.

    Parameters
    ----------
    check : callable
        Called with the photograph's height and width in pixels before it is decoded.

    Raises
    ------
    ImpastoError
        If a picture, mask or style file cannot be read, or does not fit the photograph.
    """

    def sized(photo: tuple[int, int]) -> tuple[int, int]:
        check(photo)
        return painting_size(photo, job.options)

    photo = read_image(job.content, max_megapixels=max_megapixels, sized=sized)
    check_parts(job, photo.metadata.full_size or photo.size, max_megapixels)


def check_parts(job: PaintJob, full: tuple[int, int], max_megapixels: float) -> None:
    """Read the styles and the masks of a photograph of height and width `full`. Raises as `check_uploads`."""
    size = painting_size(full, job.options)
    names = builtin_names()
    sources: Sequence[str] = [*job.styles, *(s for _, s in job.regions)]
    for style in {s for s in sources if s not in names}:
        resolve_style(style, max_megapixels, long_side=style_side(size, job.options))
    check_masks(
        full, [Region(resolve_mask(m, max_megapixels, size), torch.zeros(1, 3, 1, 1)) for m, _ in job.regions], None
    )
    if job.mask:
        check_masks(full, (), resolve_mask(job.mask, max_megapixels, size))


def without_folder(message: str, folder: Path) -> str:
    """Return a message with the job's folder removed from its files' paths."""
    return message.replace(f"{folder}/", "").replace(str(folder), "the job")
