"""Films in the studio: a visitor's request for one, and its job. Nothing here needs the extra `video`."""

import math
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from ...errors import OptionError
from ...options import ServeOptions, VideoOptions
from .controls import given_options
from .jobs import Job
from .uploads import Upload, Uploads

FilmFormat = Literal["mp4", "mov", "mkv", "webm"]
MEDIA_TYPES: Mapping[FilmFormat, str] = {
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "mkv": "video/x-matroska",
    "webm": "video/webm",
}
"""Format of a painted film -> its media type."""
assert set(MEDIA_TYPES) == set(get_args(FilmFormat))


@dataclass(frozen=True)
class FilmRequest:
    """A visitor's request for a painted film.

    Parameters
    ----------
    name : str
        The film's file name on the visitor's machine.
    source : file or Path
        The upload, or the film of one of the visitor's earlier jobs.
    styles : tuple of str
        Built-in names, or `file:1` for the first style file. If empty, all style files are used.
    style_files : tuple of Upload
        Pictures and style files.
    file_format : str
        Format of the painted film.
    frame : float or None
        Paint only the frame at this time, in seconds from the beginning of the film, as a picture.
    """

    name: str
    source: BinaryIO | Path
    styles: tuple[str, ...] = ()
    style_files: tuple[Upload, ...] = ()
    file_format: FilmFormat = "mp4"
    frame: float | None = None


@dataclass(eq=False, kw_only=True)
class FilmJob(Job):
    """A film to paint, or one frame of it.

    Parameters
    ----------
    film : Path
        The film.
    styles : tuple of str
        Paths or built-in names; empty if the options' `styles_at` names them.
    options : VideoOptions
        The options.
    file_format : str
        Format of the painted film.
    at : float or None
        Paint only the frame at this time, in seconds.
    length : int or None
        About how many frames the whole film has, if it says how long it is.
    estimates : dict
        Quality -> the expected seconds of the whole film, if its length is known.
    max_seconds : float
        A film that takes longer is stopped.
    """

    film: Path
    styles: tuple[str, ...]
    options: VideoOptions
    file_format: FilmFormat = "mp4"
    at: float | None = None
    length: int | None = None
    estimates: dict[str, float] = field(default_factory=dict)
    max_seconds: float = math.inf
    done: int = 0
    total: int | None = None

    @property
    def target(self) -> Path:
        """The painted film's file, or the painted frame's."""
        return self.folder / (f"painted.{self.file_format}" if self.at is None else "painted.png")

    @property
    def has_film(self) -> bool:
        """Whether there is something to download."""
        return self.status == "done"

    @property
    def is_whole(self) -> bool:
        """Whether all of it is painted."""
        return self.target.exists()

    @property
    def media_type(self) -> str:
        """The media type of the result."""
        return MEDIA_TYPES[self.file_format] if self.at is None else "image/png"

    @property
    def name(self) -> str:
        """The file name of a download."""
        first = self.styles[0] if self.styles else self.options.style_times[0][1]
        return f"{self.film.stem}-{Path(first).name.split('.')[0]}{self.target.suffix}"

    @property
    def command(self) -> str:
        """The command line that paints the same in a terminal, with the names of the visitor's files."""
        at = tuple(f"{time:g}s:{Path(style).name}" for time, style in self.options.style_times)
        words = ["impasto", "video", self.film.name, *(Path(s).name for s in self.styles)]
        for flag, text in given_options(replace(self.options, styles_at=at)).items():
            words += [flag, text] if text else [flag]
        words += ["--frame", f"{self.at:g}s"] if self.at is not None else []
        return shlex.join([*words, "-o", self.name])

    def view(self, place: int = 0) -> dict[str, Any]:
        """Return the job's state, as `Job.view`."""
        found = super().view(place) | {"done": self.done, "media_type": self.media_type, "command": self.command}
        if self.estimates:
            found["estimates"] = {quality: round(seconds, 1) for quality, seconds in self.estimates.items()}
            found["max_seconds"] = self.max_seconds
        return found if self.total is None else found | {"total": self.total}


def place_film(request: FilmRequest, folder: Path, options: VideoOptions, limits: ServeOptions) -> dict[str, Any]:
    """Write the uploads into a folder, and return the job's film, styles and options by name.

    Raises
    ------
    OptionError
        If there are no styles, or something is larger than allowed.
    StyleError
        If a style is neither built-in nor an uploaded file.
    """
    if options.codec == "prores":
        raise OptionError("--codec prores makes files that are too large for this server; choose another codec")
    for upload in request.style_files:
        if len(upload.data) > 1e6 * limits.max_upload:
            raise OptionError(f"a style file is larger than this server's limit of {limits.max_upload:g} MB")
    uploads = Uploads(folder)
    film = uploads.free(request.name, "film")
    if isinstance(request.source, Path):
        try:
            os.link(request.source, film)
        except OSError:  # some file systems have no links
            shutil.copyfile(request.source, film)
    else:
        with film.open("wb") as file:
            shutil.copyfileobj(request.source, file)
    uploads.put_styles(request.style_files)
    if options.styles_at and request.styles:
        raise OptionError("--styles-at names the styles itself; leave out style")
    times = [(time, uploads.style(style)) for time, style in options.style_times]
    styles = () if times else uploads.style_names(request.styles)
    options = replace(options, styles_at=tuple(f"{time}s:{style}" for time, style in times))
    return {"film": film, "styles": styles, "options": options}
