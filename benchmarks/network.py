"""The quality of the network's paintings: figures, and the paintings themselves.

    python benchmarks/network.py pairs PAIRS --folder DATASETS                            # any style
    python benchmarks/network.py styles --folder DATASETS --heldout DATASETS/heldout.txt  # the built-in styles
    python benchmarks/network.py strength PAIRS --folder DATASETS --rows 1 9 17 25        # from photograph to painting
    python benchmarks/network.py learn PAIRS --folder DATASETS --rows 1 9 17 25           # before and after `learn`
    python benchmarks/network.py parts PAIRS --folder DATASETS --rows 1 9 17 25           # what each part contributes

All paint like `--quality instant`. Figures are relative to the photo's, geometric means (see `impasto.tools.metrics`).
The paintings are written to --out with their `pairs.tsv` (photograph, painting, result), for use with another judge.
"""

import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from judging import FIGURES, Album, Pair, PairOptions, Panel, evenly, figure_table, heldout, picture
from quality import figures, find_painting
from torch import Tensor
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError, OptionError
from impasto.image.resize import fit
from impasto.models.colours import colour
from impasto.models.network import Network
from impasto.models.networks import find_network
from impasto.models.weights import load_encoder
from impasto.options import LearnOptions, TrainNetworkOptions
from impasto.style.painting import PaintingLoss
from impasto.style.target import StyleTarget, builtin_names
from impasto.stylizers.choose import load_stylizer
from impasto.stylizers.learn import learn
from impasto.tools.metrics import Judgement, markdown_table, over_photo
from impasto.train.pictures import find_pictures, is_excluded, read_exclude

Model = Annotated[str | None, Doc("A model file instead of the bundled network.")]
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True, kw_only=True)
class Pairs(PairOptions):
    """Paint each pair, to measure the quality for any style."""

    out: Annotated[Path, Doc("Folder for the paintings; those in styles from its training go to OUT/trained.")] = Path(
        "out/network/pairs"
    )
    model: Model = None
    heldout: Annotated[
        Path | None, Doc("A list of paintings not used in training; pairs with others are reported separately.")
    ] = None
    trained: Annotated[
        int, Doc("Pairs to add, of the same photographs with paintings in FOLDER/paintings that are not held out.")
    ] = 0

    def __call__(self) -> None:
        """Paint, judge, and print the tables."""
        panel = Panel(self.judge)
        print(f"`{shlex.join(['python', *sys.argv])}`, {panel}")
        unseen, seen = self.groups()
        for pairs, what, out in ((unseen, "painting", self.out), (seen, "painting, trained on", self.out / "trained")):
            album, judged = Album(out, panel), dict[str, list[Judgement]]()
            for pair in pairs:
                stylizer = load_stylizer(picture(pair.painting), quality="instant", model=self.model, size=self.size)
                found = album.add(pair, stylizer(picture(pair.photo)))
                judged[f"{pair.name} {pair.painting.stem}"] = [found]
                report(pair, found)
            if judged:
                print("\n" + figure_table(what, judged))

    def groups(self) -> tuple[list[Pair], list[Pair]]:
        """Return the pairs with held-out paintings, and the others. Without a list, all count as held out."""
        pairs = self.listed()
        if self.heldout is None:
            if self.trained:
                raise OptionError("--trained needs a list of held-out pictures; give --heldout FILE")
            return pairs, []
        names = read_exclude(self.heldout)
        seen = [p for p in pairs if not is_excluded(p.painting.as_posix(), names)]
        unseen = [p for p in pairs if p not in seen]
        if self.trained:
            paintings = find_pictures(self.folder / "paintings")
            known = evenly([p for p in paintings if not is_excluded(p.as_posix(), names)], self.trained)
            seen += [Pair(f"trained-{i:02d}", pairs[(i - 1) % len(pairs)].photo, p) for i, p in enumerate(known, 1)]
        return unseen, seen


@dataclass(frozen=True, kw_only=True)
class Styles:
    """Paint held-out photographs in each built-in style."""

    folder: Annotated[Path, Doc("The folder to which the list's paths are relative, with the paintings.")]
    heldout: Annotated[Path, Doc("A list of pictures not used in training, one per line.")]
    photos: Annotated[int, Doc("Number of photographs, spread evenly over the list.")] = 12
    styles: Annotated[tuple[str, ...], Doc("The styles; all built-in ones by default.")] = ()
    out: Annotated[Path, Doc("Folder for the paintings, STYLE-NN.png.")] = Path("out/network/styles")
    model: Model = None
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512
    judge: Annotated[str, Doc("Encoder for judging: a name, or the teacher's file.")] = "compact"

    def __call__(self) -> None:
        """Paint, judge, and print the table."""
        panel = Panel(self.judge)
        photos = heldout(self.heldout, self.folder, "photos", self.photos)
        print(f"`{shlex.join(['python', *sys.argv])}`, {len(photos)} photographs, {panel}\n")
        album, judged = Album(self.out, panel), dict[str, list[Judgement]]()
        for style in self.styles or builtin_names():
            stylizer = load_stylizer(style, quality="instant", model=self.model, size=self.size)
            painting = find_painting(self.folder, style)
            pairs = [Pair(f"{style}-{i:02d}", photo, painting) for i, photo in enumerate(photos, 1)]
            judged[style] = [album.add(pair, stylizer(picture(pair.photo))) for pair in pairs]
            report(pairs[-1], *judged[style])
        print(figure_table("style", judged))


@dataclass(frozen=True, kw_only=True)
class Strength(PairOptions):
    """Paint each pair at several strengths, to measure the distance to the photograph and to the style."""

    strengths: Annotated[tuple[float, ...], Doc("The strengths.")] = STRENGTHS
    out: Annotated[Path, Doc("Folder for the paintings, STRENGTH/NN.png.")] = Path("out/network/strength")
    model: Model = None

    def __call__(self) -> None:
        """Paint, judge, and print the table."""
        panel = Panel(self.judge)
        print(f"`{shlex.join(['python', *sys.argv])}`, {panel}\n")
        albums = {s: Album(self.out / f"{s:g}", panel) for s in self.strengths}
        decibels: dict[float, list[float]] = {s: [] for s in self.strengths}
        for pair in self.listed():
            photo, painting = picture(pair.photo), picture(pair.painting)
            for strength, album in albums.items():
                stylizer = load_stylizer(
                    painting, quality="instant", model=self.model, size=self.size, strength=strength
                )
                image = stylizer(photo)
                decibels[strength].append(psnr(image.cpu(), fit(photo, self.size, enlarge=True)))
                album.add(pair, image)
            report(pair, albums[self.strengths[-1]].judgements[-1])
        rows = [(s, statistics.mean(decibels[s]), min(decibels[s]), *albums[s].figures) for s in self.strengths]
        print(markdown_table(("strength", "PSNR, dB", "least PSNR, dB", *FIGURES), rows))


@dataclass(frozen=True, kw_only=True)
class Learn(PairOptions):
    """Paint each pair before and after the network has learnt the style."""

    seconds: Annotated[float, Doc("Stop learning after this many seconds.")] = LearnOptions.seconds
    out: Annotated[Path, Doc("Folder for the paintings, `before/NN.png` and `after/NN.png`.")] = Path(
        "out/network/learn"
    )
    model: Model = None

    def __call__(self) -> None:
        """Learn, paint, judge, and print the table."""
        panel = Panel(self.judge)
        net, encoder, compute = find_network(self.model), load_encoder("compact"), choose_compute()
        compute.network(encoder)
        print(f"`{shlex.join(['python', *sys.argv])}`, {compute}, {panel}\n")
        before, after = (Album(self.out / name, panel) for name in ("before", "after"))
        rows: list[tuple[object, ...]] = []
        for pair in self.listed():
            style = StyleTarget.of(picture(pair.painting), encoder, compute)
            begun = time.perf_counter()
            *_, last = learn(net, style, encoder, compute, LearnOptions(seconds=self.seconds))
            seconds = time.perf_counter() - begun
            row: list[object] = [f"{pair.name} {pair.painting.stem}", seconds, last.step]
            for album, known in ((before, style), (after, last.style)):
                stylizer = load_stylizer(known, quality="instant", model=self.model, size=self.size)
                row += figures(over_photo([album.add(pair, stylizer(picture(pair.photo)))]))
            report(pair, after.judgements[-1])
            rows.append(tuple(row))
        rows.append((f"mean of {len(rows)}", "", "", *before.figures, *after.figures))
        header = ("painting", "seconds", "steps", *FIGURES, *(f"{k}, learnt" for k in FIGURES))
        print(markdown_table(header, rows))


@dataclass(frozen=True, kw_only=True)
class Parts(PairOptions):
    """Paint each pair with one part of the network removed at a time, to see what each part contributes.

    A part that can be removed without raising the loss is not used: it is not needed, or it died in training.
    """

    model: Model = None

    def __call__(self) -> None:
        """Paint, measure the training loss, and print the table."""
        net, encoder, compute = find_network(self.model), load_encoder("compact"), choose_compute()
        compute.network(encoder)
        compute.network(net)
        o = TrainNetworkOptions
        loss = PaintingLoss(
            encoder, compute, content_weight=o.content_weight, tone_weight=o.tone_weight, tv_weight=o.tv_weight
        )
        parts = {"nothing": lambda affine: affine, **removals(net)}
        found: dict[str, list[tuple[float, ...]]] = {k: [] for k in parts}
        with torch.inference_mode():
            for pair in self.listed():
                photo, painting = (compute.picture(fit(picture(p), self.size)) for p in (pair.photo, pair.painting))
                moments = loss.moments(painting)
                affine, colours = net.predict(moments), net.style_colours(moments)
                for name, remove in parts.items():
                    with compute.autocast():
                        painted = colour(net(photo, remove(affine.clone())), colours)
                    terms = {k: v.item() for k, v in loss(painted, photo, moments, colours).items()}
                    found[name].append((sum(terms.values()), terms["style"], terms["content"] / o.content_weight))
                print(pair.name, file=sys.stderr, flush=True)
        print(f"`{shlex.join(['python', *sys.argv])}`, {compute}\n")
        rows = [(k, *map(statistics.mean, zip(*values, strict=True))) for k, values in found.items()]
        print(markdown_table(("without", "loss", "style", "content"), rows))


def removals(net: Network) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return, for each part of a network, a function that removes it from affines (N, `layout.size`) in place."""
    layout, c = net.layout, net.config
    begins = [sum(layout.norms[:i]) for i in range(len(layout.norms))]

    def without(norms: Sequence[int], parts: Sequence[str] = ()) -> Callable[[Tensor], Tensor]:
        def remove(affine: Tensor) -> Tensor:
            for i in norms:
                for part in ("scale", "shift"):
                    begin = layout.parts[part].start + begins[i]
                    affine[:, begin : begin + layout.norms[i]] = 0
            for part in parts:
                affine[:, layout.parts[part]] = 0
            return affine

        return remove

    up = 2 + 2 * c.blocks  # the norm of the upsampling convolution
    branches = [i for i in sorted(layout.linear) if i != up]
    levels = ["a quarter"] * c.blocks + ["half"] * c.fine
    blocks = enumerate(zip(branches, levels, strict=True), 1)
    found = {f"block {k} at {level}": without([i]) for k, (i, level) in blocks}
    found |= {"everything at a quarter": without([up]), "all blocks": without(branches)}
    return found | {f"`{part}`": without([], [part]) for part in ("half", "photo", "filters", "noise")}


def report(pair: Pair, *found: Judgement) -> None:
    """Print the figures of a pair to standard error, as progress."""
    values = (f"{k} {v:.3f}" for k, v in zip(FIGURES, figures(over_photo(found)), strict=True))
    print(pair.name, pair.painting.stem, *values, file=sys.stderr, flush=True)


def psnr(x: Tensor, y: Tensor) -> float:
    """Return the peak signal-to-noise ratio of pictures in [0, 1], in decibels."""
    return -10 * math.log10(float((x - y).square().mean()) + 1e-12)


VERBS = {"pairs": Pairs, "styles": Styles, "strength": Strength, "learn": Learn, "parts": Parts}

if __name__ == "__main__":
    try:
        tyro.extras.subcommand_cli_from_dict(VERBS, description=__doc__)()
    except ImpastoError as error:
        sys.exit(f"network: {error}")
