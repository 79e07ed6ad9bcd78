"""`texture`: a picture with a painting's surface, made of the painting alone."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..errors import OptionError
from ..options import FileOptions, TextureOptions

Flat = tyro.conf.OmitArgPrefixes


def parse_size(texts: list[str]) -> tuple[int, int]:
    """`640x480` as (480, 640), height and width, and `512` as (512, 512); ValueError if it is no size."""
    found = re.fullmatch(r"([0-9]+)(?:x([0-9]+))?", texts[0].strip().lower())
    if found is None:
        raise ValueError(f"{texts[0]!r} is no size; write it as 640x480")
    return int(found[2] or found[1]), int(found[1])


SIZE = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="WIDTHxHEIGHT",
    instance_from_str=parse_size,
    is_instance=lambda v: isinstance(v, tuple),
    str_from_instance=lambda size: [f"{size[1]}x{size[0]}"],
)


@dataclass(frozen=True)
class Texture:
    """Make a texture of a painting: its colours and strokes, and nothing of what it shows."""

    styles: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="STYLE [STYLE ...]", help_behavior_hint=""),
        Doc("Pictures, style files or built-in styles (`impasto styles` lists them); several are blended."),
    ] = ()
    size: Annotated[tuple[int, int], SIZE, Doc("Width and height in pixels; one number is both.")] = (1024, 1024)
    seamless: Annotated[bool, Doc("Make a tile: copies of it side by side show no edge.")] = False
    out: Annotated[
        Path | None,
        tyro.conf.arg(aliases=["-o"]),
        Doc(
            "The texture's file, its format by the suffix; a file that is there is replaced. Or a folder, or - for "
            "standard output. In a folder, and in the current one if not given, it is STYLE-texture.png; where there "
            "is such a file, STYLE-texture-2.png and so on."
        ),
    ] = None
    texture: Annotated[TextureOptions, Flat] = field(default_factory=TextureOptions)
    output: Annotated[FileOptions, Flat] = field(default_factory=FileOptions)

    def __call__(self) -> None:
        if not self.styles:
            raise OptionError("no style given; name a picture, a style file or a built-in style (see `impasto styles`)")
        from ..tools.texture import TextureJob, make_texture

        make_texture(TextureJob(self.styles, self.size, self.seamless, self.texture, self.output, self.out))
