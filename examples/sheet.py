"""Show candidates side by side: a row for each pair of photograph and painting, a column for each candidate.

    python examples/sheet.py pairs.tsv out/sheet.jpg --candidates "good:" "more style: content_weight=0.01"

Each line of `pairs.tsv` has a photograph and a painting, separated by a tab. Paths are relative to the file or to
--folder. A candidate is a name and the fields of StylizeOptions that differ from the defaults. Paintings are kept in
--keep and not painted again, so columns can be added later. If you change a candidate, give it another name.
"""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image, ImageDraw, ImageFont
from typing_extensions import Doc

import impasto


@dataclass(frozen=True)
class Sheet:
    """Paint pairs with several candidates and arrange them on a sheet."""

    pairs: Annotated[tyro.conf.Positional[Path], Doc("Lines of photograph, tab, painting.")]
    out: Annotated[tyro.conf.Positional[Path], Doc("The sheet.")]
    candidates: Annotated[tuple[str, ...], Doc("Columns, each `name: field=value field=value`.")] = ("good:",)
    folder: Annotated[Path | None, Doc("The folder to which paths are relative; by default, the file's folder.")] = None
    rows: Annotated[tuple[int, ...], Doc("Lines to show, counted from 1; all by default.")] = ()
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512
    side: Annotated[int, Doc("Side of a picture's cell on the sheet, in pixels.")] = 320
    keep: Annotated[Path, Doc("Folder for the paintings, `NAME/ROW.png`.")] = Path("out/sheet")

    def __call__(self) -> None:
        """Write the sheet."""
        lines = [line.split("\t")[:2] for line in self.pairs.read_text().splitlines() if line.strip()]
        base = self.folder or self.pairs.parent
        rows = self.rows or tuple(range(1, len(lines) + 1))
        columns = [parse(c) for c in self.candidates]
        titles = ["photograph", "painting", *(name for name, _ in columns)]
        cell, head = self.side, 24
        sheet = Image.new("RGB", (cell * len(titles), head + cell * len(rows)), "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
        for x, title in enumerate(titles):
            draw.text((x * cell + 6, 4), title, "black", font)
        for y, row in enumerate(rows):
            photo, painting = (base / name for name in lines[row - 1])
            shown = [Image.open(photo), Image.open(painting)]
            for name, options in columns:
                path = self.keep / name / f"{row:02d}.png"
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    impasto.stylize(str(photo), str(painting), **{"size": self.size, **options}).save(path)
                shown.append(Image.open(path))
            for x, picture in enumerate(shown):
                picture = picture.convert("RGB")
                picture.thumbnail((cell - 4, cell - 4), Image.Resampling.LANCZOS)
                sheet.paste(picture, (x * cell + 2, head + y * cell + 2))
            draw.text((4, head + y * cell + cell - 20), str(row), "red", font)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(self.out, quality=92)
        print(self.out)


def parse(candidate: str) -> tuple[str, dict[str, object]]:
    """Return a candidate's name and options. Values are Python literals, or else strings."""
    name, _, rest = candidate.partition(":")
    options: dict[str, object] = {}
    for part in rest.split():
        key, _, value = part.partition("=")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return name.strip(), options


if __name__ == "__main__":
    tyro.cli(Sheet)()
