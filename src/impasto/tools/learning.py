"""Learn styles from the command line."""

import logging
import os
import time
from pathlib import Path

from torch import Tensor

from ..device import choose_compute
from ..errors import StyleError
from ..models.networks import find_network
from ..models.weights import load_encoder
from ..options import LearnOptions
from ..style.target import STYLE_SIZES, SUFFIX, StyleTarget
from ..stylizers.learn import LearnStep, learn
from ..stylizers.sources import resolve_style
from ..train.pictures import PictureSet
from .destination import Destination
from .progress import share_bar, start_logging

log = logging.getLogger(__name__)


def follow_learning(
    source: str, out: Path | None, photos: tuple[Path, ...], model: str | None, o: LearnOptions
) -> Path:
    """Learn a style with a progress bar, write its style file and return the file's path.

    Parameters
    ----------
    source : str
        A picture, a style file or a built-in style.
    out : Path, optional
        The style file, or a folder. By default NAME.style.safetensors in the working folder, with a number if that
        file exists.
    photos : tuple of Path
        Folders or packed files of photographs to learn on; the bundled ones if empty.
    model : str, optional
        A network of your own to learn the style for.

    Raises
    ------
    ImpastoError
        If the style cannot be read or learnt, or the file cannot be written.
    KeyboardInterrupt
        After the result so far is written.
    """
    start_logging()
    name = Path(source).name
    stem = name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else Path(name).stem
    destination = Destination(out, stem, SUFFIX)
    planned = Path(destination.file)
    if planned.exists() and os.path.exists(source) and planned.samefile(source):
        raise StyleError(f"{planned} is the style to learn; name another file with --out")
    net, encoder = find_network(model), load_encoder("compact")
    compute = choose_compute(o.device, o.precision)
    compute.network(encoder)
    style = resolve_style(source, model=model, long_side=STYLE_SIZES[-1])
    if isinstance(style, Tensor):
        style = StyleTarget.of(style, encoder, compute)
    photographs = PictureSet.open(photos, None, 2 * o.crop) if photos else None
    steps, begun = learn(net, style, encoder, compute, o, photographs), time.monotonic()
    last: LearnStep | None = None
    ended: KeyboardInterrupt | None = None
    with share_bar(name) as show:
        try:
            for last in steps:
                show(last.progress, f"loss {last.loss:.4f}")
        except KeyboardInterrupt as stop:
            if last is None:
                raise
            ended = stop
    assert last is not None
    with destination.claimed() as target:
        last.style.save(target)
    log.info("%s: learnt in %d steps, %.1f s", target, last.step, time.monotonic() - begun)
    if ended is not None:
        raise ended
    return Path(target)
