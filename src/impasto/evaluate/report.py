"""The figures of many paintings as tables: means with intervals, and CSV files."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..files import atomic_write
from .figures import FIGURES, ROWS, Evaluation
from .intervals import Interval, bootstrap
from .pairs import Triple


@dataclass(frozen=True)
class Evaluated:
    """A painting with its figures and its pictures on the page.

    Parameters
    ----------
    triple : Triple
        The files.
    evaluation : Evaluation
        The figures.
    thumbnails : tuple of str
        Names of the small copies of photograph, style and result.
    """

    triple: Triple
    evaluation: Evaluation
    thumbnails: tuple[str, str, str]


@dataclass(frozen=True)
class Failed:
    """A painting that could not be evaluated, and the reason in one line; no content and style if none was found."""

    result: Path
    reason: str
    content: Path | None = None
    style: Path | None = None


@dataclass
class Report:
    """What was evaluated.

    Parameters
    ----------
    names : tuple of str
        The figures, in the order of tables.
    judge : str
        Name of the network that judged.
    done, failed : list
        The paintings.
    """

    names: tuple[str, ...]
    judge: str
    done: list[Evaluated] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def add(self, found: Evaluated | Failed) -> None:
        """Add a painting to those done or failed."""
        if isinstance(found, Failed):
            self.failed.append(found)
        else:
            self.done.append(found)

    def worst_first(self, name: str) -> list[Evaluated]:
        """Return the evaluated paintings in the order of a figure, the worst first; equal ones keep their order."""
        sign = -1 if FIGURES[name].lower else 1
        return sorted(self.done, key=lambda e: sign * e.evaluation.result[name])


@dataclass(frozen=True)
class Summary:
    """Means over the paintings with confidence intervals: field of `Evaluation` -> figure -> interval."""

    rows: dict[str, dict[str, Interval]]
    count: int


def summarise(report: Report, resamples: int, confidence: float, seed: int) -> Summary:
    """Return the means of the figures with bootstrap intervals over the paintings; the report must have some."""
    rows = {}
    for row in ROWS:
        of = [getattr(e.evaluation, row) for e in report.done]
        values = np.array([[figures[name] for name in report.names] for figures in of])
        intervals = bootstrap(values, resamples, confidence, seed)
        rows[row] = dict(zip(report.names, intervals, strict=True))
    return Summary(rows, len(report.done))


def summary_table(summary: Summary, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a table of text, its header first: a line for each figure, with the mean, its interval and the bounds."""
    header = ("figure", "compared with", "better", "result", "interval", *list(ROWS.values())[1:])
    lines: list[tuple[str, ...]] = [header]
    for name in names:
        figure, found = FIGURES[name], summary.rows["result"][name]
        others = (decimals(summary.rows[row][name].mean) for row in list(ROWS)[1:])
        better = "lower" if figure.lower else "higher"
        interval = f"{decimals(found.low)} to {decimals(found.high)}"
        lines.append((name, figure.to, better, decimals(found.mean), interval, *others))
    return lines


def decimals(value: float) -> str:
    """Return a figure as text with three decimals."""
    return f"{value:.3f}"


def figures_csv(report: Report) -> str:
    """Return all figures as CSV: for each painting a line per field of `Evaluation`, for each failure one line."""
    lines: list[list[object]] = [["photograph", "style", "result", "of", *report.names, "error"]]
    for e in report.done:
        for row, title in ROWS.items():
            values = [f"{getattr(e.evaluation, row)[name]:.6g}" for name in report.names]
            lines.append([e.triple.content, e.triple.style, e.triple.result, title, *values, ""])
    lines += [
        [f.content or "", f.style or "", f.result, ROWS["result"], *([""] * len(report.names)), f.reason]
        for f in report.failed
    ]
    return _csv(lines)


def summary_csv(summary: Summary) -> str:
    """Return the means and intervals as CSV."""
    lines: list[list[object]] = [["of", "figure", "better", "mean", "low", "high", "paintings"]]
    for row, title in ROWS.items():
        for name, i in summary.rows[row].items():
            better = "lower" if FIGURES[name].lower else "higher"
            lines.append([title, name, better, *(f"{v:.6g}" for v in (i.mean, i.low, i.high)), summary.count])
    return _csv(lines)


def _csv(lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 as `atomic_write` does. Undecodable bytes of file names are written as `?`."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", errors="replace"))
