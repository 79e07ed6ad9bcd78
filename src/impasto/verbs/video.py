"""The verb `video`: paint a film."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..errors import OptionError
from ..options import VideoOptions
from ..options.kinds import TIME
from .arguments import OUT, Flat, StyleNames


@dataclass(frozen=True)
class Video:
    """Paint a film, steadily, with its sound and subtitles."""

    film: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="IN"),
        Doc("The film, an animated GIF or WebP, or a folder with a picture for each frame."),
    ]
    styles: StyleNames = ()
    out: Annotated[
        Path | None,
        OUT,
        Doc(
            "The file to write, or a folder. The suffix determines the format: .mp4, .mov, .mkv, .webm, .gif, .webp, "
            "or a pattern for a folder of pictures, such as frames/%05d.png. In a folder (the current one if not "
            "given) the file is IN-STYLE.mp4, or IN-STYLE-2.mp4 and so on if that exists."
        ),
    ] = None
    mask: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE"),
        Doc(
            "Paint only where this film or picture is white (or opaque). The rest stays as it is. A film is shown from "
            "the beginning of IN; if it ends earlier, its last frame stays."
        ),
    ] = None
    frame: Annotated[
        float | None, TIME, Doc("Paint only the frame at this time, such as 12s, as a picture, to see how it looks.")
    ] = None
    resume: Annotated[bool, Doc("Continue an interrupted painting. Give the same files and options as before.")] = False
    options: Annotated[VideoOptions, Flat] = field(default_factory=VideoOptions)

    def __call__(self) -> None:
        if not self.styles and not self.options.styles_at:
            raise OptionError("no style given; name a picture, a style file or a built-in style (see `impasto styles`)")
        if self.styles and self.options.styles_at:
            raise OptionError("give either STYLE or --styles-at, which names the styles itself")
        if self.frame is not None and self.resume:
            raise OptionError("--frame paints one frame, which is not continued; leave out --resume")
        from ..video.extra import prepare

        prepare()
        from ..tools.video import VideoJob, paint_film, preview

        job = VideoJob(self.film, self.styles, self.options, self.out, self.mask)
        if self.frame is not None:
            preview(job, self.frame)
        else:
            paint_film(job, self.resume)
