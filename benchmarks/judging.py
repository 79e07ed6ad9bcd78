"""What the benchmarks that judge paintings share: pairs, held-out pictures, and folders of judged paintings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, TypeVar

import torch
import tyro
from quality import figures
from torch import Tensor
from typing_extensions import Doc

from impasto.errors import OptionError
from impasto.image.picture import Picture
from impasto.image.read import read_image
from impasto.image.resize import resize
from impasto.image.write import write_image
from impasto.tools.metrics import Judgement, Measured, distances, load_judge, markdown_table, over_photo

FIGURES = ("gram/photo", "cov/photo", "sliced/photo", "content")
KEPT = 32
"""Photographs, and paintings, whose features are kept while others are judged: some 12 MB each for a large judge."""

T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """A photograph, and the painting whose style it is painted in.

    Parameters
    ----------
    name : str
        What the result's file is called, without its suffix.
    photo, painting : Path
        The pictures.
    """

    name: str
    photo: Path
    painting: Path


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """What is painted: the pairs of a list, at one size; and who judges."""

    pairs: Annotated[tyro.conf.Positional[Path], Doc("Lines of photograph, tab, painting.")]
    folder: Annotated[Path, Doc("What the paths are relative to.")]
    rows: Annotated[tuple[int, ...], Doc("Lines to paint, counted from 1; all if not given.")] = ()
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512
    judge: Annotated[
        str, Doc("Whose features judge: `compact` (bundled), `vgg16`, `vgg19`, or the teacher's file.")
    ] = "compact"

    def listed(self) -> list[Pair]:
        """Return the pairs, each named by its line's number."""
        lines = [line.split("\t")[:2] for line in self.pairs.read_text().splitlines() if line.strip()]
        rows = self.rows or range(1, len(lines) + 1)
        if not all(1 <= r <= len(lines) for r in rows):
            raise OptionError(f"{self.pairs} has the lines 1 to {len(lines)}; give --rows of these")
        return [Pair(f"{r:02d}", *(self.folder / p for p in lines[r - 1])) for r in rows]


def heldout(listed: Path, folder: Path, kind: str, count: int) -> list[Path]:
    """Return some pictures of a list, evenly from those of one folder, `photos` or `paintings`.

    Raises
    ------
    OptionError
        If the list names none that is there.
    """
    found = [folder / p for p in listed.read_text().split() if p.startswith(kind + "/") and (folder / p).is_file()]
    if not found:
        raise OptionError(f"{listed} names no {kind} that are in {folder}")
    return evenly(found, count)


def evenly(items: Sequence[T], count: int) -> list[T]:
    """Return so many of the items, evenly from all of them."""
    return list(items[:: max(1, len(items) // count)][:count])


class Panel:
    """A judge who keeps what was measured of photographs and paintings, for their next use."""

    def __init__(self, source: str):
        self.judge = load_judge(source)
        self.painting = lru_cache(KEPT)(self._painting)
        self.photo = lru_cache(KEPT)(self._photo)

    def __str__(self) -> str:
        return f"judged by {self.judge.encoder.name}"

    @torch.no_grad()
    def judgement(self, pair: Pair, result: Tensor) -> Judgement:
        """Return the figures of a result as `Judge.judge` does; the photo stands for the recoloured one, too."""
        x = self.judge.picture(result)
        style, photo = self.painting(pair.painting), self.photo(pair.photo, x.shape[-2], x.shape[-1])
        own = distances(photo, style, photo)
        return Judgement(distances(self.judge.measure(x), style, photo), own, own)

    def _painting(self, path: Path) -> Measured:
        return self.judge.measure(self.judge.picture(path))

    def _photo(self, path: Path, height: int, width: int) -> Measured:
        return self.judge.measure(resize(self.judge.picture(path), (height, width)))


class Album:
    """A folder of paintings, judged as they come in, with a list of them for any other judge.

    The list is `pairs.tsv`: photograph, painting and result, absolute paths with tabs between them.

    Parameters
    ----------
    folder : Path
        Where they go.
    panel : Panel
        Who judges.
    """

    def __init__(self, folder: Path, panel: Panel):
        self.folder, self.panel = folder, panel
        self.lines: list[str] = []
        self.judgements: list[Judgement] = []

    def add(self, pair: Pair, image: Tensor) -> Judgement:
        """Write a painting (1, 3, H, W) as NAME.png, list it, and return its figures."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{pair.name}.png"
        write_image(Picture(image.cpu()), path)
        self.lines.append("\t".join(str(p.resolve()) for p in (pair.photo, pair.painting, path)) + "\n")
        (self.folder / "pairs.tsv").write_text("".join(self.lines), encoding="utf-8")
        self.judgements.append(self.panel.judgement(pair, image))
        return self.judgements[-1]

    @property
    def figures(self) -> tuple[float, float, float, float]:
        """The figures over the photo's own, means over all paintings; `FIGURES` names them."""
        return figures(over_photo(self.judgements))


def picture(path: Path) -> Tensor:
    """Return a picture (1, 3, H, W)."""
    return read_image(path).tensor


def figure_table(what: str, judged: Mapping[str, Sequence[Judgement]]) -> str:
    """Return a table: figures of each name, the mean of all judgements, and how far the worst name is above it."""
    rows = {name: figures(over_photo(found)) for name, found in judged.items()}
    mean = figures(over_photo([j for found in judged.values() for j in found]))
    worst = [max(column) / m for column, m in zip(zip(*rows.values(), strict=True), mean, strict=True)]
    last = [(f"mean of {len(rows)}", *mean), ("worst over mean", *worst)]
    return markdown_table((what, *FIGURES), [*((name, *row) for name, row in rows.items()), *last])
