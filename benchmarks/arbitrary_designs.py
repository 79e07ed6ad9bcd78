"""Designs of a network for any style, trained on the same budget by the same loss, and judged alike.

`colours` is ours: the image transformation network with predicted norms, begun with the palette's convolutions, and
the style's colours given to what it paints; `norms` is the same without the latter. `adain`, `microast` and `transport`
are of `rivals`, begun with nothing. Each sees the same photographs and parts of paintings, in the same order.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from arbitrary import heldout, heldout_photos
from feedforward import judgement, sheet
from quality import figures
from rivals import Plain, rival
from torch import Tensor, nn
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.image.io import Picture, read_image, write_image
from impasto.image.resize import fit
from impasto.models.arbitrary import ArbitraryConfig, ArbitraryNetwork
from impasto.models.networks import load_network
from impasto.models.weights import load_encoder
from impasto.options import StylizeOptions, TrainArbitraryOptions
from impasto.stylize.arbitrary import ArbitraryStylizer
from impasto.tools.metrics import Judgement, load_judge, markdown_table, over_photo
from impasto.train.arbitrary import ArbitraryRecipe
from impasto.train.distance import style_and_content_layers
from impasto.train.loop import Training, compute_on, start_fabric, train
from impasto.train.start import pictures_of

HEADER = ("design", "parameters", "gram/photo", "cov/photo", "sliced/photo", "content", "content weight")


class AnyRecipe(ArbitraryRecipe):
    """The recipe of ours for every design; the file is what torch writes."""

    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the weights."""
        torch.save(net.state_dict(), path)


@dataclass(frozen=True)
class ArbitraryDesigns:
    """Train the designs, unless their files are there, and judge them."""

    designs: tuple[str, ...]
    """`adain`, `microast`, `transport`, `norms`, `colours`."""
    folder: Annotated[Path, Doc("The folder that the lines of the list are in, and `photos` and `paintings`.")]
    heldout: Annotated[Path, Doc("A list of photos and paintings that no training may read, one a line.")]
    out: Annotated[Path, Doc("Where the networks are written to and looked for.")]
    steps: Annotated[int, Doc("Steps of each.")] = 600
    batch: Annotated[int, Doc("Pictures a step.")] = 8
    crop: Annotated[int, Doc("Side of the pictures, in pixels.")] = 128
    content: Annotated[float, Doc("How far from the photograph the content may be.")] = 1.0
    photos: Annotated[int, Doc("How many photographs are judged, evenly from the list.")] = 5
    paintings: Annotated[int, Doc("How many paintings, evenly from the list.")] = 20
    judge: Annotated[str, Doc("Whose features judge: `compact`, `vgg16`, `vgg19`, or the teacher's file.")] = "compact"

    def __call__(self) -> None:
        """Train, judge, print the table."""
        rows = [self.row(d) for d in self.designs]
        print(f"`{shlex.join(['python', *sys.argv])}`, {self.steps * self.batch} pictures each\n")
        print(markdown_table(HEADER, rows))

    def row(self, design: str) -> tuple[object, ...]:
        """A design's row of the table."""
        o = TrainArbitraryOptions(
            paintings=(self.folder / "paintings",),
            photos=(self.folder / "photos",),
            exclude=self.heldout,
            out=self.out / f"{design}.pt",
            steps=self.steps,
            batch=self.batch,
            crop=self.crop,
            content=self.content,
            warm_up=30,
            decay=0.7,
            checkpoint_every=100,
            stability=0.0,
            device="cpu",
            precision="float32",
        )
        fabric = start_fabric(o)
        compute = compute_on(fabric, o)
        encoder = load_encoder("compact")
        compute.network(encoder)
        net = network(design, o)
        weight = float("nan")
        if not o.out.is_file():
            paintings, photos = (pictures_of((self.folder / k,), self.heldout) for k in ("paintings", "photos"))
            recipe = AnyRecipe(net, o, paintings, photos, encoder, compute)
            for step in train(Training(recipe, o, fabric)):
                if step.step % 50 == 0:
                    print(design, step.step, step.figures, file=sys.stderr, flush=True)
            weight = float(recipe.balance.weights[0])
        net.load_state_dict(torch.load(o.out, weights_only=True))
        net.eval().requires_grad_(False)
        return (
            design,
            sum(p.numel() for p in parameters(design, net)),
            *figures(over_photo(self.judged(design, net))),
            weight,
        )

    def judged(self, design: str, net: ArbitraryNetwork) -> list[Judgement]:
        """Its paintings of held-out photographs in the styles of held-out paintings."""
        judge, compute, encoder = load_judge(self.judge), choose_compute("cpu", "float32"), load_encoder("compact")
        photos = heldout_photos(self.heldout, self.folder, self.photos, 512)
        seen = [judge.measure(judge.picture(p)) for p in photos]
        found: list[Judgement] = []
        shown = [photos]
        for line in heldout(self.heldout, self.folder, "paintings", self.paintings):
            painting = read_image(self.folder / line).tensor
            options = StylizeOptions(method="arbitrary", size=512, precision="float32")
            stylizer = ArbitraryStylizer(net, [painting], options, encoder, compute)
            painted: list[Tensor] = [stylizer(p) for p in photos]
            shown += [[fit(painting, 512), *painted[1:]]] if len(shown) < 10 else []
            style = judge.measure(judge.picture(painting))
            found += [judgement(judge, x, style, c) for x, c in zip(painted, seen, strict=True)]
        write_image(Picture(sheet(shown)), self.out / f"{design}.jpg", quality=85)
        return found


def network(design: str, o: TrainArbitraryOptions) -> ArbitraryNetwork:
    """A design's network, as it begins."""
    encoder = load_encoder("compact")
    layers = {k: encoder.width(k) for k in style_and_content_layers(encoder)[0]}
    if design not in ("norms", "colours"):
        return rival(design, encoder, layers)
    kind = Plain if design == "norms" else ArbitraryNetwork
    net = kind(ArbitraryConfig(encoder.digest, layers, o.width, o.blocks, o.hidden))
    net.initialise(torch.Generator().manual_seed(0))
    net.begin_as(load_network("palette")[0])
    return net


def parameters(design: str, net: ArbitraryNetwork) -> list[Tensor]:
    """What a file of the design would hold."""
    return list(net.transformer.parameters() if design in ("adain", "transport") else net.parameters())


if __name__ == "__main__":
    try:
        tyro.cli(ArbitraryDesigns)()
    except ImpastoError as error:
        sys.exit(f"arbitrary_designs: {error}")
