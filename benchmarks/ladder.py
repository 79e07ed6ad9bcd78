"""Quality against time: seconds and figures of pairs painted at every rung, and a plot of both.

    python benchmarks/ladder.py pairs.tsv --folder DATASETS --out out/ladder --judge TEACHER

Each line of `pairs.tsv` has a photograph and a painting, separated by a tab. The paintings are written to
OUT/RUNG/ROW.png, and OUT/RUNG/pairs.tsv lists photograph, painting and result for your own judge. `--scores RUNG=FILE`
plots a CSV from that judge, with one row per result, instead of our figures.
"""

import csv
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from judging import FIGURES, Album, PairOptions, Panel
from typing_extensions import Doc

import impasto
from impasto.errors import ImpastoError
from impasto.image.read import to_picture
from impasto.tools.metrics import markdown_table

RUNGS: dict[str, dict[str, Any]] = {
    "instant": {"quality": "instant"},
    "draft": {"quality": "draft"},
    "good, half the iterations": {"iterations": 15},
    "good": {},
    "good, from the photograph": {"start": "content"},
    "best": {"quality": "best"},
}
"""Name of a rung -> fields of StylizeOptions."""


@dataclass(frozen=True, kw_only=True)
class Ladder(PairOptions):
    """Paint pairs at every quality, and tabulate time and figures."""

    out: Annotated[Path, Doc("Folder of the paintings and the plot.")] = Path("out/ladder")
    rungs: Annotated[tuple[str, ...], Doc("The rungs to paint.")] = tuple(RUNGS)
    scores: Annotated[tuple[str, ...], Doc("RUNG=FILE: figures from another judge to plot.")] = ()
    column: Annotated[str, Doc("The column of those files to plot.")] = "vgram"
    again: Annotated[bool, Doc("Only plot, using the figures of --scores and the times of existing paintings.")] = False

    def __call__(self) -> None:
        """Print the table and write the plot."""
        if self.again:
            self.plot(self.scored({}))
            return
        pairs, panel = self.listed(), Panel(self.judge)
        table: list[tuple[object, ...]] = []
        points: dict[str, tuple[float, float]] = {}
        impasto.stylize(str(pairs[0].photo), str(pairs[0].painting), size=128)  # loads and measures
        for rung in self.rungs:
            album, seconds = Album(self.place(rung), panel), list[float]()
            for pair in pairs:
                begun = time.perf_counter()
                painting = impasto.stylize(str(pair.photo), str(pair.painting), size=self.size, **RUNGS[rung])
                seconds.append(time.perf_counter() - begun)
                album.add(pair, to_picture(painting).tensor)
            (album.folder / "seconds.txt").write_text("\n".join(map(str, seconds)) + "\n")
            table.append((rung, statistics.median(seconds), *album.figures))
            points[rung] = (statistics.median(seconds), album.figures[0])
        print(markdown_table(("quality", "seconds, median", *FIGURES), table))
        self.plot(self.scored(points))

    def place(self, rung: str) -> Path:
        """Return the folder of a rung's paintings."""
        return self.out / rung.replace(",", "").replace(" ", "-")

    def scored(self, points: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Return the points (seconds, style distance), with figures of the other judge where available."""
        found = dict(points)
        for given in self.scores:
            rung, _, path = given.rpartition("=")
            seconds = [float(line) for line in (self.place(rung) / "seconds.txt").read_text().split()]
            with Path(path).open(newline="") as file:
                distance = statistics.mean(float(row[self.column]) for row in csv.DictReader(file))
            found[rung] = statistics.median(seconds), distance
        return found

    def plot(self, points: dict[str, tuple[float, float]]) -> None:
        """Draw style distance against time."""
        from matplotlib.figure import Figure

        figure = Figure((6, 4), layout="constrained")
        axes = figure.add_subplot()
        times, distances = zip(*points.values(), strict=True)
        axes.plot(times, distances, "o-")
        for name, (x, y) in points.items():
            axes.annotate(name, (x, y), xytext=(6, 6), textcoords="offset points")
        axes.margins(0.25)
        axes.set(xscale="log", xlabel="seconds", ylabel="style distance", ylim=(0, None))
        figure.savefig(self.out / "ladder.png", dpi=110)


if __name__ == "__main__":
    try:
        tyro.cli(Ladder)()
    except ImpastoError as error:
        sys.exit(f"ladder: {error}")
