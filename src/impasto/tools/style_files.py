"""Make style files from paintings, as for the built-in styles."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..device import choose_compute
from ..errors import PictureError, StyleError
from ..image.read import read_image
from ..models.weights import load_encoder
from ..style.target import SUFFIX, StyleTarget, builtin_names

ABOUT = ("title", "artist", "date", "licence", "source")


def read_attribution(path: Path) -> dict[str, dict[str, str]]:
    """Return file name -> title, artist, date, licence and source, from a CSV file.

    Raises
    ------
    PictureError
        If the file cannot be read, or has no column `file`.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if "file" not in (rows.fieldnames or ()):
                raise KeyError("file")
            return {Path(r["file"]).name: {k: r.get(k) or "" for k in ABOUT} for r in rows}
    except (OSError, KeyError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise PictureError(f"{path} is not an attribution table (columns file, {', '.join(ABOUT)}): {error}") from error


def make_style_files(
    paintings: Sequence[Path], folder: Path, attribution: Path | None, encoder: str = "compact"
) -> Iterator[Path]:
    """Measure each painting in float32 and save it as FOLDER/NAME.style.safetensors. Yields the paths.

    Raises
    ------
    ImpastoError
        If a painting cannot be read or a file cannot be written. Before the first is measured, if two paintings have
        the same name or a name is a built-in style.
    """
    names: dict[str, Path] = {}
    for path in paintings:
        if str(path) in builtin_names() and not path.exists():
            raise StyleError(f"{path} is a built-in style, which is already measured; give the picture of a painting")
        if path.stem in names:
            raise StyleError(f"two paintings are called {path.stem}: {names[path.stem]} and {path}; rename one")
        names[path.stem] = path
    known = read_attribution(attribution) if attribution else {}
    compute = choose_compute(precision="float32")
    net = load_encoder(encoder)
    compute.network(net)
    for path in paintings:
        target = StyleTarget.of(read_image(path).pixels, net, compute, about=known.get(path.name))
        out = folder / (path.stem + SUFFIX)
        target.save(out)
        yield out
