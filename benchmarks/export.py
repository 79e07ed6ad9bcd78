"""Speed and quality of exported networks, compared with this package's own painting in the same run.

    python benchmarks/export.py --paintings paintings/ --judge vgg19.safetensors
    python benchmarks/export.py --files onnx:float32 --sizes 256 --repeats 1

Passes are interleaved, and the median is reported: from pixels to pixels at strength 1, in a style that is an input.
The network of Impasto is timed in float32, with its style measured already. Quality needs paintings; the figures are
those of `impasto.tools.metrics`, of photographs painted by each file in the style of each painting.
"""

import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from judging import FIGURES
from quality import figures, find_photo
from speed import interleaved
from torch import Tensor
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.export.check import FixedStyle, inputs_of, paint
from impasto.export.job import export
from impasto.export.runtimes import Run, load
from impasto.export.styles import Style, measure
from impasto.image.read import read_image
from impasto.image.resize import fit
from impasto.models.network import Network
from impasto.models.networks import find_network
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import ExportOptions
from impasto.tools.metrics import Judgement, load_judge, markdown_table, over_photo
from impasto.train.pictures import find_pictures

OURS = "Impasto"
FILES = ("onnx:float32", "onnx:float16", "onnx:int8", "openvino:float32", "openvino:int8", "torch:float32")


@dataclass(frozen=True)
class ExportBenchmark:
    """Export the network in several ways, time the files, and judge what they paint."""

    files: Annotated[tuple[str, ...], Doc("The files to export: format, colon, precision.")] = FILES
    sizes: Annotated[tuple[int, ...], Doc("Sides of the square pictures to time, in pixels; none to skip it.")] = (
        512,
        1024,
    )
    repeats: Annotated[int, Doc("Timed passes of each; the median is reported.")] = 9
    paintings: Annotated[Path | None, Doc("Folder with paintings; without it the quality is skipped.")] = None
    photos: Annotated[tuple[str, ...], Doc("Photographs: names of scikit-image's, or paths.")] = (
        "astronaut",
        "coffee",
        "chelsea",
        "rocket",
    )
    size: Annotated[int, Doc("Long side of the judged paintings, in pixels.")] = 512
    judge: Annotated[str, Doc("Encoder for judging: `compact` (bundled), `vgg16`, `vgg19`, or the teacher's file.")] = (
        "compact"
    )
    model: Annotated[str | None, Doc("A model file instead of the bundled network.")] = None

    def __call__(self) -> None:
        """Print the tables."""
        print(f"`{shlex.join(['python', *sys.argv])}`: torch {torch.__version__}, {torch.get_num_threads()} threads\n")
        net, encoder = find_network(self.model), load_encoder("compact")
        with tempfile.TemporaryDirectory() as folder:
            exported = {name: self.exported(name, Path(folder)) for name in self.files}
            rows = [(name, size / 1e6, largest, mean) for name, (_, size, largest, mean) in exported.items()]
            print(markdown_table(("file", "MB", "largest difference", "mean difference"), rows))
            runs = {name: run for name, (run, *_) in exported.items()}
            if self.sizes:
                print("\n" + self.speed(net, encoder, runs))
            if self.paintings is not None:
                print("\n" + self.quality(net, encoder, runs, find_pictures(self.paintings)))

    def exported(self, name: str, folder: Path) -> tuple[Run, int, float, float]:
        """Export one file. Return what runs it, its bytes, and its largest and mean difference in levels of 255."""
        kind, _, precision = name.partition(":")
        chosen: dict[str, Any] = {"format": kind, "precision": precision, "model": self.model}
        options = ExportOptions(**chosen)
        place = folder / f"{kind}-{precision}"
        place.mkdir()
        made = export([], place, options)
        size = sum(p.stat().st_size for p in place.iterdir())
        return load(made.path, options.format), size, float(made.difference.largest), made.difference.mean

    def speed(self, net: Network, encoder: VGG, runs: Mapping[str, Run]) -> str:
        """Return the table of times."""
        style, rows = measure(["starry-night"], net, encoder, ExportOptions(model=self.model)), []
        for size in self.sizes:
            levels = torch.randint(256, (1, 3, size, size), generator=torch.Generator().manual_seed(0)).byte()
            inputs, ours = (
                inputs_of(levels, (1.0,), [style], uint8=True, baked=False),
                FixedStyle(net, encoder, style, 1),
            )

            def own(levels: Tensor = levels, ours: FixedStyle = ours) -> Tensor:
                return (255 * ours(levels.float() / 255)).round().byte()

            steps: dict[str, Callable[[], Tensor]] = {OURS: own}
            steps |= {
                name: (lambda run=run, inputs=inputs: torch.from_numpy(run(inputs))) for name, run in runs.items()
            }
            times = interleaved(list(steps.values()), self.repeats)
            median = {name: statistics.median(t) for name, t in zip(steps, times, strict=True)}
            rows += [(name, str(size), 1e3 * t, t / median[OURS]) for name, t in median.items()]
        return markdown_table(("painted by", "side", "ms", f"over {OURS}"), rows)

    def quality(self, net: Network, encoder: VGG, runs: Mapping[str, Run], paintings: list[Path]) -> str:
        """Return the table of figures, which are means over all pairs."""
        judge, options = load_judge(self.judge), ExportOptions(model=self.model, size=self.size)
        judged: dict[str, list[Judgement]] = {name: [] for name in (OURS, *runs)}
        for painting in paintings:
            style, picture = measure([str(painting)], net, encoder, options), read_image(painting).tensor
            for name in self.photos:
                photo = fit(read_image(find_photo(name)).tensor, self.size)
                levels = (255 * photo).round().byte()
                for run, found in judged.items():
                    result = self.painted(None if run == OURS else runs[run], net, encoder, style, levels)
                    found.append(judge.judge(photo, picture, result))
        rows = [(name, *figures(over_photo(found))) for name, found in judged.items()]
        return markdown_table(("painted by", *FIGURES), rows)

    @staticmethod
    def painted(run: Run | None, net: Network, encoder: VGG, style: Style, levels: Tensor) -> Tensor:
        """Return the painting (1, 3, H, W) of a photograph (1, 3, H, W), uint8, by a file or by this package."""
        if run is None:
            return paint(net, encoder, style, levels.float() / 255, 1.0)
        painted = run(inputs_of(levels, (1.0,), [style], uint8=True, baked=False))
        return torch.from_numpy(painted).permute(0, 3, 1, 2).float() / 255


if __name__ == "__main__":
    try:
        tyro.cli(ExportBenchmark)()
    except ImpastoError as error:
        sys.exit(f"export: {error}")
