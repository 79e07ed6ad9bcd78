"""Writing the page's folder: graphs, styles, runtime and page. It is kept if it paints what Impasto paints."""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from ... import __version__
from ...errors import ImpastoError, OptionError, WeightsError
from ...files import beside
from ...models.download import Progress
from ...models.network import Network, load_network
from ...models.networks import network_path
from ...models.vgg import VGG
from ...models.weights import load_encoder
from ...options import ExportOptions
from ..extra import check_extra
from ..formats import onnx_model, traced
from ..job import ROUNDING, TOLERANCE
from .check import compare_site
from .graphs import SAMPLE_MARGIN, SAMPLE_SIDE, PredictingGraph, ReadingGraph, SamplesGraph, TileGraph, WholeGraph
from .runtime import find_runtime, write_runtime
from .styles import write_styles
from .weights import write_models

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
PICTURES = Path(__file__).parents[2] / "tools" / "web" / "static"
"""The folder of thumbnails and sample photographs, which the studio shows, too."""
WEIGHTS = "network.bin"
"""The file of the weights of all graphs."""
LIST = "files.js"
"""The file that lists all files for the service worker."""


@dataclass(frozen=True)
class Site:
    """What was written.

    Parameters
    ----------
    folder : Path
        The folder.
    sizes : dict of str to int
        File, relative to it -> bytes.
    difference : float
        The largest difference of its paintings from this package's own, in levels of 255.
    """

    folder: Path
    sizes: dict[str, int]
    difference: float


def write_site(out: Path | None, options: ExportOptions, progress: Progress | None = None) -> Site:
    """Write the page.

    Parameters
    ----------
    out : Path, optional
        The folder. It is replaced if it has a page already. By default `site` in the working folder.
    progress : callable, optional
        Called with (bytes done, total or None) while the runtime is downloaded.

    Raises
    ------
    ImpastoError
        If a library or the runtime is missing, the folder has other files, or the graphs paint something else.
    """
    check_extra(options.format)
    target = Path("site") if out is None else out
    check_target(target)
    runtime = find_runtime(options.runtime, progress)
    net, metadata = load_network(network_path(options.model))
    encoder = load_encoder("compact")
    folder = beside(target)
    try:
        folder.mkdir(parents=True)
        (folder / "runtime").mkdir()
        write_runtime(runtime, folder / "runtime")
        about = {"version": __version__, "licence": metadata.get("licence", ""), "network": net.digest}
        log.info("writing the network")
        reading = write_graphs(folder, net, encoder, about)
        styles = write_styles(folder, net, reading)
        write_page(folder, describe(net, least_side(net, encoder), about, options))
        log.info("comparing its paintings with Impasto's own")
        difference, where = compare_site(folder, net, encoder, styles)
        if not difference <= TOLERANCE + ROUNDING:
            raise ImpastoError(
                f"{target} was not kept: {where} is {difference:.3g} levels of 255 off Impasto's own painting; install "
                "the versions that constraints.txt names"
            )
        write_list(folder)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    except OSError as error:
        raise WeightsError(f"cannot write {target}: {error.strerror or error}; choose another place with -o") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    files = sorted(p for p in target.rglob("*") if p.is_file())
    return Site(target, {p.relative_to(target).as_posix(): p.stat().st_size for p in files}, difference)


def check_target(target: Path) -> None:
    """Raise OptionError if a folder has something other than a page of an earlier export."""
    if target.is_file() or (target.is_dir() and any(target.iterdir()) and not (target / LIST).is_file()):
        raise OptionError(f"--out {target} has other files; give a new or an empty folder")


def write_graphs(folder: Path, net: Network, encoder: VGG, metadata: dict[str, str]) -> ReadingGraph:
    """Write the graphs and their weights into a folder. Returns the first graph."""
    sides = {2: Dim("height", min=2), 3: Dim("width", min=2)}
    least = least_side(net, encoder)
    picture, image = torch.rand(1, 3, 70, 54), torch.rand(1, 3, 70, 54)
    reader, predictor = ReadingGraph(net, encoder), PredictingGraph(net)
    with torch.no_grad():
        reading = reader(picture)
        affine, colours = predictor(reading)
    style = {"affine": affine, "colours": colours}
    painted = colours.clone()  # the exporter takes one tensor that is given twice for one input
    found = {"statistics": torch.rand(1, 2, net.channels), "painted": painted, "origin": torch.tensor([8, 4])}
    samples, count = torch.rand(2, 3, SAMPLE_SIDE, SAMPLE_SIDE), Dim("count", min=1)
    large = {2: Dim("height", min=least), 3: Dim("width", min=least)}
    models = {
        "reading": model(reader, {"picture": picture}, {"picture": large}, ["reading"], metadata),
        "predicting": model(predictor, {"reading": reading}, {}, ["affine", "colours"], metadata),
        "whole": model(WholeGraph(net), {"image": image, **style}, {"image": sides}, ["painting"], metadata),
        "samples": model(
            SamplesGraph(net),
            {"image": samples, "affine": affine, "origins": torch.tensor([[0, 4], [8, 12]])},
            {"image": {0: count}, "origins": {0: count}},
            ["statistics", "painted"],
            metadata,
        ),
        "tile": model(TileGraph(net), {"image": image, **style, **found}, {"image": sides}, ["painting"], metadata),
    }
    write_models(models, folder, WEIGHTS)
    return reader


def least_side(net: Network, encoder: VGG) -> int:
    """Return the shortest side in pixels of pictures whose style can be read."""
    return max(encoder.least_side(layer) for layer in net.config.layers)


def model(
    graph: torch.nn.Module,
    examples: dict[str, Tensor],
    axes: dict[str, Any],
    outputs: Sequence[str],
    metadata: dict[str, str],
) -> Any:
    """Return a graph as an ONNX model. `axes` names the sizes that vary; the others are those of the examples."""
    program = traced(graph, examples, {name: axes.get(name, {}) for name in examples})
    return onnx_model(program, outputs, metadata)


def describe(net: Network, least: int, about: dict[str, str], options: ExportOptions) -> dict[str, Any]:
    """Return what the page needs to know about the network and the options."""
    places = {name: net.layout.parts[name] for name in ("photo", "paint", "prepare")}
    parts = {name: [place.start, place.stop] for name, place in places.items()}
    samples = {"side": SAMPLE_SIDE, "margin": SAMPLE_MARGIN}
    return {
        **about,
        "affine": net.layout.size,
        "learnt": net.layout.predicted,
        "channels": net.channels,
        "parts": parts,
        "margin": net.margin,
        "samples": samples,
        "least": least,
        "size": options.size,
    }


def write_page(folder: Path, description: dict[str, Any]) -> None:
    """Write the page itself, its pictures, and `site.json`."""
    shutil.copytree(STATIC, folder, dirs_exist_ok=True)
    for name in ("thumbnails", "samples"):
        shutil.copytree(PICTURES / name, folder / name)
    (folder / "site.json").write_text(json.dumps(description, indent=1), encoding="utf-8")


def write_list(folder: Path) -> None:
    """Write the list of all files for the service worker. Its digest says when the page is a new one."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    listed = json.dumps({"version": digest.hexdigest()[:16], "files": names}, indent=1)
    (folder / LIST).write_text(f"self.SITE = {listed};\n", encoding="utf-8")
