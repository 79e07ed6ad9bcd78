"""Exporting the network: measure the styles, write the file, compare its paintings, then move it into place."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from .. import __version__
from ..errors import ImpastoError, OptionError, WeightsError
from ..files import beside, move
from ..image.read import read_image
from ..image.resize import fit
from ..models.network import load_network
from ..models.networks import network_path
from ..models.weights import load_encoder
from ..options import ExportOptions
from ..style.target import builtin_names
from ..stylizers.learn import bundled_photographs
from ..train.pictures import find_pictures
from .check import Difference, compare, inputs_of
from .extra import check_extra
from .formats import SUFFIXES, trace, write_onnx, write_openvino, write_torch
from .graph import PaintingGraph
from .quantise import quantise
from .runtimes import load
from .styles import Style, measure, named, write_style

log = logging.getLogger(__name__)

TOLERANCE = 1.0
"""The largest difference of a float32 file's paintings from this package's own, in levels of 255."""
ROUNDING = 1e-3
"""Added to it for the rounding of differences."""
CALIBRATION, CALIBRATION_SIDE = 24, 400
"""The most photographs with which 8 bits are calibrated, and their long side in pixels."""
STYLES_SUFFIX = ".styles"
"""The suffix of the folder of style files."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Parameters
    ----------
    path : Path
        The file.
    styles : list of Path
        The style files.
    difference : Difference
        How far its paintings are from this package's own.
    """

    path: Path
    styles: list[Path]
    difference: Difference


def export(styles: Sequence[str], out: Path | None, options: ExportOptions, files: Sequence[str] = ()) -> Exported:
    """Export the network.

    Parameters
    ----------
    styles : sequence of str
        Pictures, style files or built-in styles to bake into the file; several are blended. If empty, the style is an
        input of the file.
    out : Path, optional
        The file to write. By default impasto.onnx, .xml or .pt2 in the working folder.
    files : sequence of str
        Styles to write as style files in a folder beside it. `all` stands for the built-in ones.

    Raises
    ------
    ImpastoError
        If a library is missing, a style cannot be read, or the file cannot be written or paints something else.
    """
    if styles and files:
        raise OptionError("--styles writes styles for a file that takes them as input; leave out STYLE, or --styles")
    check_extra(options.format)
    path = target_of(out, options)
    net, network = load_network(network_path(options.model))
    encoder = load_encoder("compact")
    baked = measure(styles, net, encoder, options) if styles else None
    beside_it = [measure([s], net, encoder, options) for s in named(files)]
    check_names([s.name for s in beside_it])
    photos = calibration(options) if options.precision == "int8" else []
    checked = [baked] if baked else beside_it[:4] or [measure([s], net, encoder, options) for s in builtin_names()[:4]]
    examples = [(p, checked[i % len(checked)]) for i, p in enumerate(photos)]
    metadata = {
        "version": __version__,
        "licence": network.get("licence", ""),
        "network": net.digest,
        "encoder": encoder.digest,
        "styles": json.dumps([] if baked is None else list(baked.about)),
        **{name: str(getattr(options, name)) for name in ("precision", "pictures", "size")},
    }
    uint8, constants = options.pictures == "uint8", None if baked is None else (baked.affine, baked.colours)
    graph = PaintingGraph(net, encoder, constants, uint8, *dtypes_of(options))
    folder = beside(path)
    try:
        folder.mkdir(parents=True)
        written = write(graph, folder, options, metadata, examples)
        log.info("written; comparing its paintings with Impasto's own")
        run, own = load(written, options.format), bundled_photographs()
        found = compare(run, net, encoder, checked, own, uint8=uint8, baked=baked is not None)
        del run  # closes the file
        report(found, path, options)
        for file in sorted(folder.glob(written.stem + ".*"), key=lambda f: f == written):  # the .bin before its .xml
            move(file, path.with_suffix(file.suffix))
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror or error}; choose another place with -o") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    placed = []
    for style in beside_it:
        placed.append(path.with_suffix(STYLES_SUFFIX) / f"{style.name}.safetensors")
        write_style(style, placed[-1], {k: v for k, v in metadata.items() if k in ("version", "network", "size")})
    return Exported(path, placed, found)


def dtypes_of(options: ExportOptions) -> tuple[torch.dtype, torch.dtype]:
    """Return the dtypes of the network, before its conversion to 8 bits, and of the measuring of the photograph."""
    low = options.precision == "float16" and options.format != "openvino"  # which stores float32 as float16 itself
    measuring = torch.float32 if options.precision == "float32" else torch.float16  # but not in branches
    return torch.float16 if low else torch.float32, measuring


def check_names(names: Sequence[str]) -> None:
    """Raise OptionError if two style files would have the same name."""
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise OptionError(f"--styles has {count} styles called {name}; rename the files of the others")


def target_of(out: Path | None, options: ExportOptions) -> Path:
    """Return the file to write, with the suffix of the format. Raises OptionError for another suffix."""
    suffix = SUFFIXES[options.format]
    path = Path("impasto" + suffix) if out is None else out / ("impasto" + suffix) if out.is_dir() else out
    if path.suffix == "":
        return path.with_suffix(suffix)
    if path.suffix != suffix:
        raise OptionError(f"--out {path}: a file of --format {options.format} ends in {suffix}; change the suffix")
    return path


def write(
    graph: PaintingGraph,
    folder: Path,
    options: ExportOptions,
    metadata: dict[str, str],
    examples: Sequence[tuple[Tensor, Style]],
) -> Path:
    """Write a graph into an empty folder and return the file.

    Parameters
    ----------
    examples : sequence of (Tensor, Style)
        For `int8`: the photographs (1, 3, H, W), uint8, and styles that calibrate it.
    """
    program, name = trace(graph), folder / "network"
    path = name.with_suffix(SUFFIXES[options.format])
    if options.format == "torch":
        write_torch(program, path, metadata)
        return path
    source = folder / "source.onnx"
    write_onnx(program, source, metadata)
    if options.precision == "int8":
        baked, whole = graph.affine is not None, source.rename(folder / "float32.onnx")
        quantise(whole, source, (inputs_of(p, (1.0,), [s], uint8=graph.uint8, baked=baked) for p, s in examples))
    if options.format == "openvino":
        write_openvino(source, path, metadata, compressed=options.precision != "float32")
        return path
    return source.rename(path)


def calibration(options: ExportOptions) -> list[Tensor]:
    """Return the photographs (1, 3, H, W), uint8, with which 8 bits are calibrated.

    Raises
    ------
    OptionError
        If the folders of the options have no pictures.
    """
    if not options.photos:
        return [p[None] for p in bundled_photographs()]
    paths = [path for folder in options.photos for path in find_pictures(folder)]
    if not paths:
        raise OptionError(f"--photos {options.photos[0]}: there are no pictures in this folder")
    chosen = paths[:: -(-len(paths) // CALIBRATION)]
    pictures = (fit(read_image(p).tensor, CALIBRATION_SIDE) for p in chosen)
    return [(255 * p).round().to(torch.uint8) for p in pictures]


def report(found: Difference, path: Path, options: ExportOptions) -> None:
    """Log how far the paintings are from this package's own.

    Raises
    ------
    ImpastoError
        If those of a float32 file are too far off, or those of another file are not finite.
    """
    if options.precision != "float32" and not isfinite(found.largest):
        raise ImpastoError(f"{path} was not kept: its numbers do not fit into {options.precision}; choose float32")
    if options.precision == "float32" and found.largest > TOLERANCE + ROUNDING:
        raise ImpastoError(
            f"{path} was not kept: at {found.size} it paints {found.largest:.3g} levels of 255 off Impasto itself; "
            f"install the versions of {options.format} that constraints.txt names"
        )
    log.info(
        "%s: paintings of twelve sizes differ from Impasto's own by %.2g levels of 255 on average, by %.3g at most",
        path,
        found.mean,
        found.largest,
    )
