"""The verb `texture`: make a texture of a painting."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..errors import OptionError
from ..options import FileOptions, TextureOptions
from .arguments import OUT, Flat, StyleNames


def parse_size(texts: list[str]) -> tuple[int, int]:
    """Return height and width: (480, 640) for `640x480`, (512, 512) for `512`. Raises ValueError for other text."""
    found = re.fullmatch(r"([0-9]+)(?:x([0-9]+))?", texts[0].strip().lower())
    if found is None:
        raise ValueError(f"{texts[0]!r} is not a size; write it as 640x480")
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
    """Make a texture of a painting: a picture with its colours and strokes, but without its subject."""

    styles: StyleNames = ()
    size: Annotated[tuple[int, int], SIZE, Doc("Width and height in pixels, or one number for both.")] = (1024, 1024)
    seamless: Annotated[bool, Doc("Make a tile that repeats without visible seams.")] = False
    out: Annotated[
        Path | None,
        OUT,
        Doc(
            "The file to write, a folder, or - for standard output. The suffix determines the format, and an existing "
            "file is replaced. In a folder (the current one if not given) the file is STYLE-texture.png, or "
            "STYLE-texture-2.png and so on if that exists."
        ),
    ] = None
    texture: Annotated[TextureOptions, Flat] = field(default_factory=TextureOptions)
    output: Annotated[FileOptions, Flat] = field(default_factory=FileOptions)

    def __call__(self) -> None:
        if not self.styles:
            raise OptionError("no style given; name a picture, a style file or a built-in style (see `impasto styles`)")
        from ..tools.texture import TextureJob, make_texture

        make_texture(TextureJob(self.styles, self.size, self.seamless, self.texture, self.output, self.out))
