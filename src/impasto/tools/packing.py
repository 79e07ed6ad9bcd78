"""Pack training pictures from the terminal, with progress bars."""

import logging

from ..options import TrainPackOptions
from ..train.pack import pack_pictures
from ..train.pictures import PictureSet
from .progress import counting_bar, start_logging

log = logging.getLogger(__name__)


def follow_packing(o: TrainPackOptions) -> None:
    """Find and pack pictures, with a progress bar for each of the two, and log what was packed.

    Raises
    ------
    ImpastoError
        The errors of `PictureSet.open` and `pack_pictures`.
    """
    start_logging()
    with counting_bar("looking for pictures") as found:
        pictures = PictureSet.open(o.folders, o.exclude, o.short_side, progress=found)
    with counting_bar(o.out.name, len(pictures)) as done:
        packed = pack_pictures(o, pictures, done)
    skipped = f", {packed.skipped:,} files skipped" if packed.skipped else ""
    log.info("%s: %s pictures, %.1f MB%s", o.out, f"{packed.pictures:,}", packed.size / 1e6, skipped)
