"""Evaluate many paintings: measure each, skip bad ones, and write the tables and the page."""

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

from ..device import choose_compute
from ..errors import ImpastoError, OptionError, PictureError
from ..image.picture import Picture
from ..image.resize import fit_size, resize
from ..image.source import printable
from ..image.write import write_image
from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS
from ..models.weights import load_encoder
from ..options import EvaluateOptions
from ..tools.metrics import Judge
from .figures import Evaluator
from .lpips import load_lpips
from .page import page
from .pairs import Triple
from .report import Evaluated, Failed, Report, Summary, figures_csv, summarise, summary_csv, write_text

log = logging.getLogger(__name__)

FIGURES_FILE, SUMMARY_FILE, PAGE_FILE = "figures.csv", "summary.csv", "index.html"
THUMBNAILS, PAINTINGS = "thumbnails", "paintings"
"""What is in the folder of an evaluation; the paintings only with `--paint`."""
THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 480, 85
"""Largest long side of the page's pictures in pixels, and their JPEG quality."""


def load_evaluator(o: EvaluateOptions) -> Evaluator:
    """Return an evaluator with the networks that the options name.

    Raises
    ------
    WeightsError
        If a network's file is missing or damaged.
    OptionError
        If the network lacks a layer that is measured.
    """
    compute = choose_compute(o.device, "float32")
    encoder = load_encoder(o.encoder, offline=o.offline)
    encoder.check_layers((*STYLE_LAYERS, CONTENT_LAYER))
    return Evaluator(Judge(encoder, compute, o.size), None if o.lpips is None else load_lpips(o.lpips, compute))


def prepare_folder(folder: Path) -> None:
    """Create the folder of an evaluation, or delete the thumbnails and means of an earlier evaluation in it.

    Raises
    ------
    OptionError
        If it cannot be created, or holds something else.
    """
    name = printable(str(folder))
    try:
        own = {FIGURES_FILE, SUMMARY_FILE, PAGE_FILE, THUMBNAILS, PAINTINGS}
        others = folder.is_dir() and {p.name for p in folder.iterdir()} - own
        if others and not (folder / FIGURES_FILE).is_file():
            raise OptionError(f"--out {name} is not empty and holds no evaluation; name another folder")
        (folder / THUMBNAILS).mkdir(parents=True, exist_ok=True)
        for old in (*(folder / THUMBNAILS).glob("*.jpg"), folder / SUMMARY_FILE):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise OptionError(f"--out {name} cannot be written ({error.strerror}); name another folder") from error


def evaluate(
    triples: Iterable[Triple],
    evaluator: Evaluator,
    folder: Path,
    paint: Callable[[Triple], None] | None = None,
) -> Iterator[Evaluated | Failed]:
    """Evaluate paintings one after another. A picture that cannot be read is logged in one line and skipped.

    Parameters
    ----------
    triples : iterable of Triple
        The paintings.
    evaluator : Evaluator
        Computes the figures.
    folder : Path
        Folder for the thumbnails, from `prepare_folder`.
    paint : callable, optional
        Makes a painting before it is evaluated.

    Yields
    ------
    Evaluated or Failed
        One for each painting, in order.
    """
    thumbnails, said = Thumbnails(folder / THUMBNAILS, evaluator), set[str]()
    for triple in triples:
        try:
            if paint is not None:
                paint(triple)
            yield Evaluated(triple, evaluator.evaluate(triple), thumbnails.of(triple))
        except ImpastoError as error:
            reason = " ".join(str(error).split())
            if reason not in said:  # a bad style of many pairs is reported once
                log.warning("%s", reason)
                said.add(reason)
            yield Failed(triple.result, reason, triple.content, triple.style)


class Thumbnails:
    """Small copies of the pictures for the page, one of each file."""

    def __init__(self, folder: Path, evaluator: Evaluator):
        self.folder, self.evaluator = folder, evaluator
        self.names: dict[Path, str] = {}
        self.numbers = count(1)

    def of(self, triple: Triple) -> tuple[str, str, str]:
        """Write what is missing, and return the names of the copies of photograph, style and result."""
        return self._name(triple.content), self._name(triple.style), self._name(triple.result)

    def _name(self, path: Path) -> str:
        if path not in self.names:
            picture = self.evaluator.picture(path)
            size = fit_size((picture.shape[-2], picture.shape[-1]), long_side=THUMBNAIL_SIDE)
            name = f"{next(self.numbers):05d}.jpg"
            write_image(Picture(resize(picture, size)), self.folder / name, quality=THUMBNAIL_QUALITY)
            self.names[path] = name
        return self.names[path]


def write_report(report: Report, folder: Path, o: EvaluateOptions) -> Summary | None:
    """Write the CSV files and the page. Returns the means, or None if nothing was evaluated.

    Raises
    ------
    PictureError
        If a file cannot be written.
    """
    summary = summarise(report, o.resamples, o.confidence, o.seed) if report.done else None
    try:
        write_text(folder / FIGURES_FILE, figures_csv(report))
        if summary is not None:
            write_text(folder / SUMMARY_FILE, summary_csv(summary))
        write_text(folder / PAGE_FILE, page(report, summary, o.sort, o.confidence))
    except OSError as error:
        name = printable(str(folder))
        raise PictureError(f"{name} cannot be written ({error.strerror}); name another folder with --out") from error
    return summary
