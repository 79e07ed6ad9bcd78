"""Shared by the benchmarks that judge paintings: pairs, held-out pictures, and folders of judged paintings."""

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
"""Number of photographs and of paintings whose features are cached: about 12 MB each for a large judge."""

T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """A photograph and the painting that gives its style.

    Parameters
    ----------
    name : str
        Name of the result's file, without suffix.
    photo, painting : Path
        The pictures.
    """

    name: str
    photo: Path
    painting: Path


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """The pairs of a list to paint, their size, and the judge."""

    pairs: Annotated[tyro.conf.Positional[Path], Doc("Lines of photograph, tab, painting.")]
    folder: Annotated[Path, Doc("The folder to which the list's paths are relative.")]
    rows: Annotated[tuple[int, ...], Doc("Lines to paint, counted from 1; all by default.")] = ()
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512
    judge: Annotated[str, Doc("Encoder for judging: `compact` (bundled), `vgg16`, `vgg19`, or the teacher's file.")] = (
        "compact"
    )

    def listed(self) -> list[Pair]:
        """Return the pairs, each named by its line number."""
        lines = [line.split("\t")[:2] for line in self.pairs.read_text().splitlines() if line.strip()]
        rows = self.rows or range(1, len(lines) + 1)
        if not all(1 <= r <= len(lines) for r in rows):
            raise OptionError(f"{self.pairs} has the lines 1 to {len(lines)}; choose --rows among them")
        return [Pair(f"{r:02d}", *(self.folder / p for p in lines[r - 1])) for r in rows]


def heldout(listed: Path, folder: Path, kind: str, count: int) -> list[Path]:
    """Return pictures of a list, spread evenly over those in one folder, `photos` or `paintings`.

    Raises
    ------
    OptionError
        If none of the listed pictures exists.
    """
    found = [folder / p for p in listed.read_text().split() if p.startswith(kind + "/") and (folder / p).is_file()]
    if not found:
        raise OptionError(f"{listed} lists no {kind} that exist in {folder}")
    return evenly(found, count)


def evenly(items: Sequence[T], count: int) -> list[T]:
    """Return `count` of the items, spread evenly over all of them."""
    return list(items[:: max(1, len(items) // count)][:count])


class Panel:
    """A judge that caches the measurements of photographs and paintings."""

    def __init__(self, source: str):
        self.judge = load_judge(source)
        self.painting = lru_cache(KEPT)(self._painting)
        self.photo = lru_cache(KEPT)(self._photo)

    def __str__(self) -> str:
        return f"judged by {self.judge.encoder.name}"

    @torch.no_grad()
    def judgement(self, pair: Pair, result: Tensor) -> Judgement:
        """Return the figures of a result like `Judge.judge`, but use the photo instead of the recoloured photo."""
        x = self.judge.picture(result)
        style, photo = self.painting(pair.painting), self.photo(pair.photo, x.shape[-2], x.shape[-1])
        own = distances(photo, style, photo)
        return Judgement(distances(self.judge.measure(x), style, photo), own, own)

    def _painting(self, path: Path) -> Measured:
        return self.judge.measure(self.judge.picture(path))

    def _photo(self, path: Path, height: int, width: int) -> Measured:
        return self.judge.measure(resize(self.judge.picture(path), (height, width)))


class Album:
    """A folder of paintings, judged as they are added, with a list of them for other judges.

    The list is `pairs.tsv`: absolute paths of photograph, painting and result, separated by tabs.

    Parameters
    ----------
    folder : Path
        The folder.
    panel : Panel
        The judge.
    """

    def __init__(self, folder: Path, panel: Panel):
        self.folder, self.panel = folder, panel
        self.lines: list[str] = []
        self.judgements: list[Judgement] = []

    def add(self, pair: Pair, image: Tensor) -> Judgement:
        """Write a painting (1, 3, H, W) as NAME.png, add it to the list, and return its figures."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{pair.name}.png"
        write_image(Picture(image.cpu()), path)
        self.lines.append("\t".join(str(p.resolve()) for p in (pair.photo, pair.painting, path)) + "\n")
        (self.folder / "pairs.tsv").write_text("".join(self.lines), encoding="utf-8")
        self.judgements.append(self.panel.judgement(pair, image))
        return self.judgements[-1]

    @property
    def figures(self) -> tuple[float, float, float, float]:
        """Return the means over all paintings of the figures relative to the photo's; `FIGURES` names them."""
        return figures(over_photo(self.judgements))


def picture(path: Path) -> Tensor:
    """Read a picture, (1, 3, H, W)."""
    return read_image(path).tensor


def figure_table(what: str, judged: Mapping[str, Sequence[Judgement]]) -> str:
    """Return a table of the figures of each name, the mean of all judgements, and the worst name's ratio to it."""
    rows = {name: figures(over_photo(found)) for name, found in judged.items()}
    mean = figures(over_photo([j for found in judged.values() for j in found]))
    worst = [max(column) / m for column, m in zip(zip(*rows.values(), strict=True), mean, strict=True)]
    last = [(f"mean of {len(rows)}", *mean), ("worst over mean", *worst)]
    return markdown_table((what, *FIGURES), [*((name, *row) for name, row in rows.items()), *last])
