"""What each quality gives for its time: seconds and figures of pairs painted at every rung, and a plot of both.

    python benchmarks/ladder.py pairs.tsv --folder DATASETS --out out/ladder --judge TEACHER

`pairs.tsv` has a photograph and a painting in each line, separated by a tab. The paintings are kept as
OUT/RUNG/ROW.png, and OUT/RUNG/pairs.tsv lists photograph, painting and result for a judge of your own. Its CSV, with a
row for each result, is plotted in place of our figures by `--scores RUNG=FILE`.
"""

import csv
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from typing_extensions import Doc

import impasto
from impasto.errors import ImpastoError
from impasto.tools.metrics import load_judge, markdown_table, over_photo

RUNGS: dict[str, dict[str, Any]] = {
    "instant": {"quality": "instant"},
    "draft": {"quality": "draft"},
    "good, half the iterations": {"iterations": 23},
    "good": {},
    "best": {"quality": "best"},
}
"""What is painted: name -> fields of StylizeOptions."""


@dataclass(frozen=True)
class Ladder:
    """Paint pairs at every quality, and tabulate time and figures."""

    pairs: Annotated[tyro.conf.Positional[Path], Doc("Lines of photograph, tab, painting.")]
    folder: Annotated[Path, Doc("What the paths are relative to.")]
    out: Annotated[Path, Doc("Folder of the paintings and the plot.")] = Path("out/ladder")
    size: Annotated[int, Doc("Long side, in pixels.")] = 512
    rows: Annotated[tuple[int, ...], Doc("Lines to paint, counted from 1; all if not given.")] = ()
    rungs: Annotated[tuple[str, ...], Doc("Which of the rungs.")] = tuple(RUNGS)
    judge: Annotated[str, Doc("`compact`, or the file of a larger network.")] = "compact"
    scores: Annotated[tuple[str, ...], Doc("RUNG=FILE: figures of another judge, for the plot.")] = ()
    column: Annotated[str, Doc("The column of those files that is plotted.")] = "vgram"
    again: Annotated[bool, Doc("Only plot, with the figures of --scores and the times of the paintings there.")] = False

    def __call__(self) -> None:
        """Print the table and write the plot."""
        if self.again:
            self.plot(self.scored({}))
            return
        lines = [line.split("\t")[:2] for line in self.pairs.read_text().splitlines() if line.strip()]
        rows = self.rows or tuple(range(1, len(lines) + 1))
        judge = load_judge(self.judge)
        table: list[tuple[object, ...]] = []
        points: dict[str, tuple[float, float]] = {}
        impasto.stylize(str(self.folder / lines[0][0]), str(self.folder / lines[0][1]), size=128)  # loads and measures
        for rung in self.rungs:
            place = self.place(rung)
            place.mkdir(parents=True, exist_ok=True)
            seconds, found, listed = [], [], []
            for row in rows:
                content, style = (self.folder / name for name in lines[row - 1])
                begun = time.perf_counter()
                painting = impasto.stylize(str(content), str(style), size=self.size, **RUNGS[rung])
                seconds.append(time.perf_counter() - begun)
                painting.save(place / f"{row:02d}.png")
                listed.append(f"{content}\t{style}\t{place / f'{row:02d}.png'}")
                found.append(judge.judge(content, style, place / f"{row:02d}.png"))
            (place / "pairs.tsv").write_text("\n".join(listed) + "\n")
            (place / "seconds.txt").write_text("\n".join(map(str, seconds)) + "\n")
            mean = over_photo(found)
            table.append((rung, statistics.median(seconds), mean.gram, mean.cov, mean.sliced, mean.content))
            points[rung] = (statistics.median(seconds), mean.gram)
        print(
            markdown_table(("quality", "seconds, median", "gram/photo", "cov/photo", "sliced/photo", "content"), table)
        )
        self.plot(self.scored(points))

    def place(self, rung: str) -> Path:
        """Return the folder of a rung's paintings."""
        return self.out / rung.replace(",", "").replace(" ", "-")

    def scored(self, points: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Return the points (seconds, style distance), with the figures of the other judge where there are any."""
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
