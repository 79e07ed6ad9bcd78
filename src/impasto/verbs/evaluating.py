"""The verb `evaluate`: measure paintings with the usual figures."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..options import EvaluateOptions
from .arguments import OUT, Flat
from .show import table

FOLDER = tyro.conf.arg(metavar="DIR")


@dataclass(frozen=True)
class Evaluate:
    """Measure how close paintings are to their photographs and styles: a table, CSV files and a page, worst first."""

    pairs: Annotated[
        Path | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[LIST]", help_behavior_hint=""),
        Doc(
            "A list with a line for each painting: photograph, style, result, separated by tabs, or by commas in a "
            "file named .csv. With --paint, leave the results out."
        ),
    ] = None
    content: Annotated[Path | None, FOLDER, Doc("Instead of a list: a folder of photographs, or a single one.")] = None
    style: Annotated[Path | None, FOLDER, Doc("A folder of style pictures, or a single one.")] = None
    result: Annotated[
        Path | None, FOLDER, Doc("A folder of paintings, named PHOTO-STYLE, or like the photograph, or like both.")
    ] = None
    paint: Annotated[
        str | None,
        tyro.conf.arg(metavar="QUALITY_OR_FILE"),
        Doc(
            "Paint every photograph in every style first: with a quality (instant, draft, good, best) or a network's "
            "file from `impasto train network`."
        ),
    ] = None
    out: Annotated[
        Path,
        OUT,
        Doc("The folder for figures.csv, summary.csv and the page index.html. An earlier evaluation is replaced."),
    ] = Path("evaluation")
    options: Annotated[EvaluateOptions, Flat] = field(default_factory=EvaluateOptions)

    def __call__(self) -> None:
        from ..evaluate.follow import check_complete, follow_evaluation
        from ..evaluate.pairs import Sources
        from ..evaluate.report import summary_table

        sources = Sources(self.pairs, self.content, self.style, self.result)
        report, summary = follow_evaluation(sources, self.paint, self.out, self.options)
        table(summary_table(summary, report.names))
        check_complete(report, self.out)
