"""The verbs `stylize`, `styles`, `info` and `rerun`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from typing_extensions import Doc

from ..errors import OptionError
from ..options import Compression, OutputOptions, StylizeOptions
from ..options.kinds import BITS, INT, NUMBER
from .arguments import OUT, Flat, StyleNames
from .show import say, say_json, table


@dataclass(frozen=True)
class Stylize:
    """Paint a photograph in the style of other pictures."""

    content: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="CONTENT", help_behavior_hint=""),
        Doc("The photograph, or - for standard input."),
    ] = ""
    styles: StyleNames = ()
    region: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="MASK=STYLE"),
        Doc("Paint the part where the mask is white (or opaque) in its own style."),
    ] = ()
    mask: Annotated[
        str | None,
        tyro.conf.arg(metavar="FILE"),
        Doc("Paint only where this picture is white (or opaque). The rest stays the photograph."),
    ] = None
    out: Annotated[
        Path | None,
        OUT,
        Doc(
            "The file to write, a folder, or - for standard output. The suffix determines the format, and an existing "
            "file is replaced. In a folder (the current one if not given) the file is CONTENT-STYLE.png, or "
            "CONTENT-STYLE-2.png and so on if that exists, so that no painting is replaced."
        ),
    ] = None
    run: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR"),
        Doc("Keep a full record in this folder: options, losses.csv, snapshots, loss curves, side-by-side figure."),
    ] = None
    snapshot_every: Annotated[int, Doc("Iterations between the snapshots in the run folder.")] = 100
    resume: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR"),
        Doc("Continue the interrupted painting of this run folder. No other arguments are allowed."),
    ] = None
    options: Annotated[StylizeOptions, Flat] = field(default_factory=StylizeOptions)
    output: Annotated[OutputOptions, Flat] = field(default_factory=OutputOptions)

    def __call__(self) -> None:
        if self.resume is not None and replace(self, resume=None) != Stylize():
            raise OptionError("--resume takes everything from its folder; leave out CONTENT, STYLE and other options")
        if self.resume is None and not self.content:
            raise OptionError("no photograph given; name a picture, or - for standard input")
        if self.resume is None and not self.styles:
            raise OptionError("no style given; name a picture, a style file or a built-in style (see `impasto styles`)")
        if self.snapshot_every < 1:
            raise OptionError(f"--snapshot-every is {self.snapshot_every}; it must be 1 or more")
        from ..stylizers.sources import split_region
        from ..tools.job import PaintJob
        from ..tools.paint import paint, resume

        if self.resume is not None:
            resume(self.resume)
            return
        paint(
            PaintJob(
                self.content,
                self.styles,
                self.options,
                self.output,
                tuple(split_region(r) for r in self.region),
                self.mask,
                self.out,
                run=self.run,
                snapshot_every=self.snapshot_every,
            )
        )


@dataclass(frozen=True)
class Styles:
    """List the built-in styles: name, title, artist, date, licence."""

    learnt: Annotated[bool, Doc("List the style files kept by `stylize --learn`.")] = False
    clear: Annotated[bool, Doc("Delete the style files kept by `stylize --learn`.")] = False

    def __call__(self) -> None:
        from ..style.target import builtin_names, load_builtin

        if self.learnt or self.clear:
            from ..stylizers.learn import kept_styles

            for path in kept_styles():
                if self.clear:
                    path.unlink(missing_ok=True)
                say(f"deleted {path}" if self.clear else str(path))
            return
        table(
            [
                (n, *(load_builtin(n).about.get(k, "") for k in ("title", "artist", "date", "licence")))
                for n in builtin_names()
            ]
        )


@dataclass(frozen=True)
class Info:
    """Print how a painting was made, from its file or run folder."""

    source: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE_OR_DIR"), Doc("A painting or a run folder.")
    ]

    def __call__(self) -> None:
        from ..tools.run import load_record

        say_json(load_record(self.source))


@dataclass(frozen=True)
class OutputChanges:
    """Options for reading and writing pictures that override those of the record."""

    bits: Annotated[Literal[8, 16] | None, BITS, Doc("Bits per channel of the output.")] = None
    jpeg_quality: Annotated[int | None, INT, Doc("Quality of JPEG, WebP and AVIF output.")] = None
    keep_gps: Annotated[
        bool | None, tyro.conf.arg(metavar="{True,False}"), Doc("Keep the photo's GPS position in the output.")
    ] = None
    max_megapixels: Annotated[float | None, NUMBER, Doc("Refuse larger pictures, before they are decoded.")] = None
    compression: Annotated[
        Compression | None, tyro.conf.arg(metavar="NAME"), Doc("Compression of TIFF output; jpeg loses detail.")
    ] = None
    pyramid: Annotated[
        bool | None, tyro.conf.arg(metavar="{True,False}"), Doc("Add smaller copies to TIFF output.")
    ] = None


@dataclass(frozen=True)
class Rerun:
    """Make a painting again from its record, with the same files and options."""

    source: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE_OR_DIR"), Doc("A painting or a run folder.")
    ]
    out: Annotated[
        Path | None,
        OUT,
        Doc(
            "The file to write, a folder, or - for standard output. In a folder (the current one if not given) the "
            "file is NAME-rerun.png, or NAME-rerun-2.png and so on if that exists."
        ),
    ] = None
    content: Annotated[
        str | None, tyro.conf.arg(metavar="FILE"), Doc("The photograph, if it is not found under its recorded name.")
    ] = None
    styles: Annotated[tuple[str, ...], Doc("The styles, if they are not found under their recorded names.")] = ()
    output: Annotated[OutputChanges, Flat] = field(default_factory=OutputChanges)

    def __call__(self) -> None:
        from ..tools.job import job_of
        from ..tools.paint import rerun
        from ..tools.run import load_record
        from ..tools.texture import METHOD, make_texture, texture_of

        record = load_record(self.source)
        changes = {k: v for k, v in vars(self.output).items() if v is not None}
        place = {"out": self.out, "name": f"{self.source.stem}-rerun"}
        if record.get("method") == METHOD:
            if self.content is not None:
                raise OptionError(f"{self.source} is a texture, which has no photograph; leave out --content")
            make_texture(replace(texture_of(record, self.source, self.styles, changes), **place))
            return
        job = job_of(record, self.source, content=self.content, styles=self.styles, output=changes)
        rerun(replace(job, **place), record)
