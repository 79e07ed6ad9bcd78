"""Today's defaults of `optimize` compared with a frozen reference.

`reference-v1.toml` holds the options of `good` when it was frozen, and the results of each of 24 pairs (four
photographs of scikit-image, six paintings of the gallery): the loss of these options at full size in float32, the
judge's figures, and the seconds. Seconds are also given in units of a plain step, timed in the same run, to compare
machines. Today's paintings are measured with the loss of the frozen options, too.

    python benchmarks/reference.py --paintings DATASETS/paintings --judge TEACHER            # compare with it
    python benchmarks/reference.py --paintings DATASETS/paintings --judge TEACHER --write benchmarks/reference-v2.toml
"""

import shlex
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tomllib  # pyright: ignore[reportMissingImports] # from Python 3.11 on
import torch
import tyro
from quality import find_painting, find_photo
from speed import interleaved, plain_step
from torch import Tensor
from typing_extensions import Doc

from impasto.device import Compute, choose_compute
from impasto.errors import ImpastoError
from impasto.image.picture import Picture
from impasto.image.read import read_image
from impasto.image.write import write_image
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import STYLE_LAYER_WEIGHTS, OptimizeOptions
from impasto.stylizers.loss import Problem, build_loss
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.stylizers.schedule import Scale, schedule
from impasto.tools.metrics import load_judge, markdown_table, over_photo

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
PAINTINGS = ("starry-night", "great-wave", "the-scream", "water-lilies", "udnie", "la-grande-jatte")
SIZE = 512
FROZEN = Path(__file__).with_name("reference-v1.toml")
HEADER = ("photograph", "painting", "loss", "gram/photo", "cov/photo", "sliced/photo", "content", "seconds", "in steps")
FIGURES = ("gram", "cov", "sliced", "content")
FULL = Compute(torch.device("cpu"), None)


@dataclass(frozen=True)
class Reference:
    """Paint the reference's pairs at the defaults, and compare with the frozen results."""

    paintings: Annotated[Path | None, Doc("The folder with the paintings, searched recursively.")] = None
    judge: Annotated[str, Doc("Encoder for judging: a name, or the teacher's file.")] = "compact"
    out: Annotated[Path, Doc("Folder for the results.")] = Path("out/reference")
    frozen: Annotated[Path, Doc("The reference to compare with.")] = FROZEN
    write: Annotated[Path | None, Doc("Write today's results to this file instead.")] = None

    def __call__(self) -> None:
        """Paint, print the table, then compare or freeze."""
        if self.paintings is None:
            print("reference: nothing to paint; give the folder with the paintings by --paintings DIR")
            return
        net, judge = load_encoder("compact"), load_judge(self.judge)
        self.out.mkdir(parents=True, exist_ok=True)
        options = OptimizeOptions(size=SIZE, start="content")
        frozen = tomllib.loads(self.frozen.read_text(encoding="utf-8"))
        aim = options if self.write is not None else OptimizeOptions.from_dict(frozen["options"])
        unit = plain_seconds(net)
        rows = []
        for photo in (find_photo(p) for p in PHOTOS):
            for painting in (find_painting(self.paintings, p) for p in PAINTINGS):
                content, style = read_image(photo).tensor, read_image(painting).tensor
                begun = time.perf_counter()
                image = OptimizeStylizer([style], options, net, choose_compute("cpu"))(content).cpu()
                seconds = time.perf_counter() - begun
                path = self.out / f"{photo.stem}-{painting.stem}.png"
                write_image(Picture(image), path)
                f = over_photo([judge.judge(photo, painting, path)])
                loss = full_loss(net, content, style, image, aim)
                rows.append(
                    (photo.stem, painting.stem, loss, f.gram, f.cov, f.sliced, f.content, seconds, seconds / unit)
                )
                print(*rows[-1], sep="\t", file=sys.stderr, flush=True)
        print(f"`{shlex.join(['python', *sys.argv])}`, judged by {judge.encoder.name}\n")
        print(markdown_table(HEADER, rows))
        if self.write is not None:
            self.write.write_text(frozen_text(options, rows, judge.encoder.name, unit), encoding="utf-8")
        else:
            print("\n" + compared(rows, frozen))


def plain_seconds(net: VGG) -> float:
    """Return the median seconds of a plain step (NCHW, float32) at 512x512, the unit of time."""
    g = torch.Generator().manual_seed(0)
    content, style = (torch.rand(1, 3, SIZE, SIZE, generator=g) for _ in range(2))
    (times,) = interleaved([plain_step(net, content, style)], 5)
    return statistics.median(times)


def full_loss(net: VGG, content: Tensor, style: Tensor, image: Tensor, options: OptimizeOptions) -> float:
    """Return the loss of a painting with these options, at its full size in float32."""
    size = (image.shape[2], image.shape[3])
    FULL.network(net)
    with torch.no_grad():
        loss = build_loss(Problem(net, FULL, options, content, size, [style]), Scale(size, 1, 0.0), image)
        return float(loss(FULL.picture(image))["total"])


def frozen_text(options: OptimizeOptions, rows: list[tuple[Any, ...]], judge: str, unit: float) -> str:
    """Return the text of the file: options, and one table per pair."""
    settings = options.settings
    values = {k: v for k, v in options.to_dict().items() if v is not None}
    values |= {k: getattr(settings, k) for k in ("content_weight", "style_weight", "rate")}
    values["iterations"] = tuple(s.iterations for s in schedule((SIZE, SIZE), options))
    values["layers"] = options.layers or STYLE_LAYER_WEIGHTS
    lines = ["# The defaults of `good`, frozen, and what they reached; see reference.py.", "", f'judge = "{judge}"']
    lines += [f"plain_step = {unit:.4f} # seconds of the unit of time", "", "[options]"]
    lines += [f"{k} = {toml(v)}" for k, v in values.items()]
    for row in rows:
        lines += ["", "[[pairs]]"]
        lines += [f"{k.split('/')[0].replace(' ', '_')} = {toml(v)}" for k, v in zip(HEADER, row, strict=True)]
    return "\n".join(lines) + "\n"


def toml(value: object) -> str:
    """Format a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}" if "." in f"{value:.6g}" or "e" in f"{value:.6g}" else f"{value:.1f}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value) if isinstance(value, int) else f'"{value}"'


def compared(rows: list[tuple[Any, ...]], frozen: dict[str, Any]) -> str:
    """Return a table of today's figures divided by the frozen ones: geometric mean and worst over the pairs."""
    then = {(p["photograph"], p["painting"]): p for p in frozen["pairs"]}
    now = [
        (then[row[0], row[1]], dict(zip(("loss", *FIGURES, "seconds", "in_steps"), row[2:], strict=True)))
        for row in rows
    ]
    table = []
    for name in ("loss", *FIGURES, "in_steps"):
        ratios = [new[name] / old[name] for old, new in now]
        table.append((name, statistics.geometric_mean(ratios), max(ratios)))
    return markdown_table(("figure", "today over frozen, mean", "worst"), table)


if __name__ == "__main__":
    try:
        tyro.cli(Reference)()
    except ImpastoError as error:
        sys.exit(f"reference: {error}")
