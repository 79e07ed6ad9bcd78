"""Evaluate from the command line: find the pictures, paint if asked to, show progress, write the report."""

import logging
import time
from pathlib import Path

from ..errors import IncompleteError
from ..image.source import printable
from ..options import EvaluateOptions
from ..tools.progress import counting_bar, start_logging
from .job import FIGURES_FILE, PAGE_FILE, PAINTINGS, evaluate, load_evaluator, prepare_folder, write_report
from .paint import Painter
from .pairs import Sources
from .report import Failed, Report, Summary

log = logging.getLogger(__name__)


def follow_evaluation(sources: Sources, paint: str | None, out: Path, o: EvaluateOptions) -> tuple[Report, Summary]:
    """Evaluate with a progress bar, and write the report to a folder.

    Parameters
    ----------
    sources : Sources
        The pictures.
    paint : str, optional
        Paint the results first, with this quality or network.
    out : Path
        The folder of the report.
    o : EvaluateOptions
        The options.

    Returns
    -------
    (Report, Summary)
        All figures, and their means.

    Raises
    ------
    ImpastoError
        If sources, options and networks do not fit together, or nothing could be evaluated.
    KeyboardInterrupt
        After the report so far is written.
    """
    start_logging()
    painter = None if paint is None else Painter(paint, o.size, o.device, o.offline)
    triples, left = sources.painted() if painter is None else (sources.to_paint(out / PAINTINGS), [])
    evaluator = load_evaluator(o)
    prepare_folder(out)
    report, begun = Report(evaluator.names, evaluator.judge.encoder.name), time.monotonic()
    for path in left:
        report.failed.append(Failed(path, f"{printable(str(path))}: no photograph and style go with this name"))
        log.warning("%s", report.failed[-1].reason)
    ended: KeyboardInterrupt | None = None
    with counting_bar("evaluating", len(triples)) as show:
        try:
            for i, found in enumerate(evaluate(triples, evaluator, out, painter and painter.paint), start=1):
                report.add(found)
                show(i)
        except KeyboardInterrupt as stop:
            ended = stop
    summary = write_report(report, out, o)
    log.info(
        "%s: %d paintings, judged by %s, %.1f s",
        printable(str(out / PAGE_FILE)),
        len(report.done),
        report.judge,
        time.monotonic() - begun,
    )
    if ended is not None:
        raise ended
    if summary is None:
        raise IncompleteError(_incomplete(report, out))
    return report, summary


def check_complete(report: Report, out: Path) -> None:
    """Raise IncompleteError, with its own exit code, if a painting could not be evaluated."""
    if report.failed:
        raise IncompleteError(_incomplete(report, out))


def _incomplete(report: Report, out: Path) -> str:
    failed, total = len(report.failed), len(report.failed) + len(report.done)
    return f"{failed} of {total} paintings could not be evaluated; {printable(str(out / FIGURES_FILE))} says why"
