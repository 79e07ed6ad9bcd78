"""Packing pictures into one file: reduced to the size that a training needs, with random access.

The file is a ZIP archive with uncompressed entries. The pictures are WebP, which is a quarter smaller than JPEG at the
same error (docs/measurements.md).
"""

import logging
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from ..errors import TrainingError
from ..files import atomic_write
from ..image.source import one_line, printable
from ..options import TrainPackOptions
from .loading import prepared
from .pictures import PACKED_SUFFIX, PictureSet, Progress

GROUP = 16
"""Number of pictures that a worker process encodes at a time."""
MODE = 0o100644
"""File type and permissions of unpacked pictures."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packed:
    """The result of packing.

    Parameters
    ----------
    pictures, skipped : int
        Number of pictures in the file, and number that could not be read or encoded.
    size : int
        Size of the file in bytes.
    """

    pictures: int
    skipped: int
    size: int


@dataclass(frozen=True)
class _Encoder:
    """Encodes a set's pictures as WebP, by number; None if a picture cannot be read or encoded."""

    pictures: PictureSet
    quality: int

    def __call__(self, step: int, i: int) -> bytes | None:
        picture = self.pictures.read(i)
        if picture is None:
            return None
        out = BytesIO()
        try:
            Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(out, "WEBP", quality=self.quality)
        except (OSError, ValueError) as error:
            log.warning("skipped: %s cannot be packed (%s)", printable(self.pictures.name(i)), one_line(error))
            return None
        return out.getvalue()


def pack_pictures(o: TrainPackOptions, pictures: PictureSet, progress: Progress | None = None) -> Packed:
    """Write a set's pictures to one file, atomically.

    Pictures keep their paths below the common parent folder, so that the lines of `--exclude` match them.

    Parameters
    ----------
    o : TrainPackOptions
        The output, the quality and the number of workers. The set must have been opened with its short side.
    pictures : PictureSet
        The pictures.
    progress : callable, optional
        Called with the number of pictures done.

    Raises
    ------
    TrainingError
        If the file cannot be written, or no picture can be read.
    """
    if o.out.is_dir():
        raise TrainingError(f"cannot write {o.out}: it is a folder; give a file name with --out")
    names = _names(o.folders, pictures)
    done = written = 0
    numbers = ([(0, i) for i in range(k, min(k + GROUP, len(pictures)))] for k in range(0, len(pictures), GROUP))
    try:
        with (
            atomic_write(o.out) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
            closing(prepared(_Encoder(pictures, o.quality), numbers, o.workers)) as groups,
        ):
            for group in groups:
                for data in group:
                    name = next(names)
                    if data is not None:
                        info = zipfile.ZipInfo(name)  # has a constant date: the same pictures give the same file
                        info.external_attr = MODE << 16
                        archive.writestr(info, data)
                        written += 1
                done += len(group)
                if progress is not None:
                    progress(done)
            if not written:
                raise TrainingError(f"none of {len(pictures)} pictures could be packed; see the log for why")
        return Packed(written, len(pictures) - written, o.out.stat().st_size)
    except OSError as error:
        raise TrainingError(f"cannot write {o.out}: {one_line(error)}; give another path with --out") from error


def _names(roots: Sequence[Path], pictures: PictureSet) -> Iterator[str]:
    """Yield each picture's name in the packed file, with slashes."""
    try:
        base = os.path.commonpath([os.path.dirname(os.path.abspath(r)) for r in roots])
    except ValueError:  # on several drives; their letters then distinguish the names
        base = ""
    for i in range(len(pictures)):
        name = pictures.name(i)
        name = os.path.relpath(name, base) if base else name.replace(":", "")
        name = name.replace(os.sep, "/").encode("utf-8", "replace").decode()
        yield name if name.endswith(PACKED_SUFFIX) else name + PACKED_SUFFIX
