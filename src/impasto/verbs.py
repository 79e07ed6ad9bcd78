"""The verbs of the command line: one dataclass each; called, it does the work.

The dataclasses are what tyro makes the parser and the help from; the options themselves live in `options.py`.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from typing_extensions import Doc

from .errors import OptionError, PictureError
from .options import OptimizeOptions, OutputOptions, TrainEncoderOptions

Flat = tyro.conf.OmitArgPrefixes
SHORT_OUT = tyro.conf.arg(aliases=["-o"])


@dataclass(frozen=True)
class Stylize:
    """Paint a photograph in the style of other pictures."""

    content: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="CONTENT"), Doc("The photograph; - is standard input.")
    ]
    styles: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="STYLE [STYLE ...]"),
        Doc("Pictures, style files or built-in styles (`impasto styles` lists them); several are blended."),
    ]
    region: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="MASK=STYLE"),
        Doc("A part of the photograph, white in the mask's picture, and the style for it; any number of times."),
    ] = ()
    out: Annotated[
        Path | None,
        SHORT_OUT,
        Doc("The painting's file, its format by the suffix; - is standard output; CONTENT-STYLE.png if not given."),
    ] = None
    run: Annotated[
        Path | None,
        Doc("A folder for the whole record: options, losses.csv, snapshots, loss curves, side-by-side figure."),
    ] = None
    snapshot_every: Annotated[int, Doc("Iterations between the snapshots in the run folder.")] = 100
    optimize: Annotated[OptimizeOptions, Flat] = field(default_factory=OptimizeOptions)
    output: Annotated[OutputOptions, Flat] = field(default_factory=OutputOptions)

    def __call__(self) -> None:
        from .tools.paint import PaintJob, paint

        if not self.styles:
            raise OptionError("no style given; name a picture, a style file or a built-in style (see `impasto styles`)")
        if self.snapshot_every < 1:
            raise OptionError(f"--snapshot-every is {self.snapshot_every}; it must be 1 or more")
        job = PaintJob(self.content, self.styles, self.out, self.run, self.snapshot_every, self.optimize, self.output)
        paint(replace(job, regions=self.region))


@dataclass(frozen=True)
class Styles:
    """List the built-in styles: name, title, artist, date, licence."""

    def __call__(self) -> None:
        from .style.builtin import builtin_names, load_builtin

        table(
            [
                (n, *(load_builtin(n).about.get(k, "") for k in ("title", "artist", "date", "licence")))
                for n in builtin_names()
            ]
        )


@dataclass(frozen=True)
class ModelsList:
    """List the networks, bundled and downloadable."""

    def __call__(self) -> None:
        from .models.weights import list_models

        table(
            [(m.name, m.kind, "here" if m.present else "not fetched", m.licence, m.description) for m in list_models()]
        )


@dataclass(frozen=True)
class ModelsFetch:
    """Download a network's original weights and verify them."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME"), Doc("`vgg16` or `vgg19`.")]
    offline: Annotated[bool, Doc("Only check what is there.")] = False

    def __call__(self) -> None:
        from .models.weights import fetch
        from .tools.progress import download_bar

        with download_bar(f"fetching {self.name} (MB)") as show:
            path = fetch(self.name, offline=self.offline, progress=show)
        say(str(path))


@dataclass(frozen=True)
class ModelsWhere:
    """Print where the weights of a network are, or would be put."""

    name: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]"), Doc("A network; all if not given.")
    ] = None

    def __call__(self) -> None:
        from .models.weights import find_model, list_models

        for model in [find_model(self.name)] if self.name else list_models():
            say(str(model.path) if self.name else f"{model.name}\t{model.path}")


@dataclass(frozen=True)
class ModelsShow:
    """Print a network's layers, with the shapes of their outputs and their parameters."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME"), Doc("A network, or a model file.")] = (
        "compact"
    )
    size: Annotated[
        tuple[int, int], Doc("Width and height of the picture, for the shapes."), tyro.conf.arg(metavar="W H")
    ] = (512, 512)

    def __call__(self) -> None:
        from .models.weights import layer_table, load_encoder

        width, height = self.size
        rows = layer_table(load_encoder(self.name), (height, width))
        table([(r.layer, "x".join(map(str, r.shape)), f"{r.parameters:,}") for r in rows])
        say(f"{sum(r.parameters for r in rows):,} parameters")


@dataclass(frozen=True)
class Models:
    """The networks: list, fetch, where, show."""

    verb: (
        Annotated[ModelsList, tyro.conf.subcommand("list")]
        | Annotated[ModelsFetch, tyro.conf.subcommand("fetch")]
        | Annotated[ModelsWhere, tyro.conf.subcommand("where")]
        | Annotated[ModelsShow, tyro.conf.subcommand("show")]
    ) = field(default_factory=ModelsList)

    def __call__(self) -> None:
        self.verb()


@dataclass(frozen=True)
class TrainEncoder:
    """Train the compact encoder by distillation from a teacher network."""

    options: Annotated[TrainEncoderOptions, Flat]

    def __call__(self) -> None:
        from .tools.training import follow_encoder

        follow_encoder(self.options)


@dataclass(frozen=True)
class StyleFiles:
    """Measure paintings and save each as a style file, which then stands for it."""

    paintings: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PAINTING [PAINTING ...]"), Doc("The pictures.")
    ]
    folder: Annotated[Path, Doc("Where the files go, each named as its painting.")] = Path()
    attribution: Annotated[
        Path | None,
        Doc("A CSV file with the columns file, title, artist, date, licence, source; matched by file name."),
    ] = None
    encoder: Annotated[str, Doc("Perceptual encoder that the files are for.")] = "compact"

    def __call__(self) -> None:
        from .tools.style_files import make_style_files

        for path in make_style_files(self.paintings, self.folder, self.attribution, self.encoder):
            say(str(path))


@dataclass(frozen=True)
class Train:
    """Train networks of one's own."""

    verb: (
        Annotated[TrainEncoder, tyro.conf.subcommand("encoder")]
        | Annotated[StyleFiles, tyro.conf.subcommand("style-files")]
    )

    def __call__(self) -> None:
        self.verb()


@dataclass(frozen=True)
class Info:
    """Print how a painting was made, from its file or run folder."""

    source: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE_OR_DIR"), Doc("A painting or a run folder.")
    ]

    def __call__(self) -> None:
        from .tools.run import load_record

        say(json.dumps(load_record(self.source), indent=2, ensure_ascii=False))


@dataclass(frozen=True)
class Rerun:
    """Make a painting again from its record: same files, same options, same picture."""

    source: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE_OR_DIR"), Doc("A painting or a run folder.")
    ]
    out: Annotated[Path | None, SHORT_OUT, Doc("The new painting's file; NAME-rerun.png if not given.")] = None
    content: Annotated[str | None, Doc("The photograph, if it is not found by its recorded name.")] = None
    styles: Annotated[tuple[str, ...], Doc("The styles, if they are not found by their recorded names.")] = ()
    output: Annotated[OutputOptions, Flat] = field(default_factory=OutputOptions)

    def __call__(self) -> None:
        from .tools.paint import PaintJob, paint
        from .tools.run import find_source, load_record

        record = load_record(self.source)
        near = self.source if self.source.is_dir() else self.source.parent
        try:
            paths: dict[str, Any] = record.get("paths", {})
            content = self.content or find_source(record["content"], paths.get("content"), near)
            entries = record["styles"]
            places = paths.get("styles") or [None] * len(entries)
            styles = self.styles or tuple(find_source(e, p, near) for e, p in zip(entries, places, strict=True))
            options = OptimizeOptions.from_dict(record["options"])
            regions = record.get("regions", [])
            where = paths.get("regions") or [[None, None]] * len(regions)
            found = [
                [find_source(e, p, near) for e, p in zip(pair, places, strict=True)]
                for pair, places in zip(regions, where, strict=True)
            ]
            if "start" in record:
                options = replace(options, start=find_source(record["start"], paths.get("start"), near))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PictureError(f"the record of {self.source} is damaged: {error}") from error
        out = self.out or Path(f"{self.source.stem}-rerun.png")
        region = tuple("=".join(pair) for pair in found)
        paint(PaintJob(content, styles, out, None, 100, options, self.output, region))


Verb = (
    Annotated[Stylize, tyro.conf.subcommand("stylize")]
    | Annotated[Styles, tyro.conf.subcommand("styles")]
    | Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Rerun, tyro.conf.subcommand("rerun")]
    | Annotated[Train, tyro.conf.subcommand("train")]
)

DESCRIPTION = "Paint a photograph in the style of another picture. `impasto VERB --help` tells about each verb."


def parse(args: Sequence[str]) -> Any:
    """The verb that the arguments ask for, ready to be called; SystemExit, after a box on stderr, for wrong usage."""
    return tyro.cli(
        Verb,
        prog="impasto",
        description=DESCRIPTION,
        args=args or ["--help"],
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )


def say(line: str) -> None:
    """A line on standard output."""
    sys.stdout.write(line + "\n")


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns on standard output: aligned on a terminal, separated by tabs when piped."""
    if not sys.stdout.isatty():
        for row in rows:
            say("\t".join(row))
        return
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        say("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
