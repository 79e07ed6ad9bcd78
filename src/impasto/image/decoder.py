"""Decoding in parts with libvips, from the extra `large`, so that a picture need not fit into memory.

JPEG, PNG, WebP and TIFF are decoded from top to bottom, tiled TIFF in any order. The samples become sRGB exactly as in
`read_image`.
"""

import shutil
import tempfile
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import PictureError
from . import deep
from .decode import GAP, Samples, unit
from .profiles import convertible, to_srgb

LOADERS = {"JPEG": "jpegload", "MPO": "jpegload", "PNG": "pngload", "WEBP": "webpload", "TIFF": "tiffload"}
"""Pillow's name of a format -> libvips' loader."""
COLOURS = {"1": 1, "L": 1, "LA": 1, "P": 3, "PA": 3, "RGB": 3, "RGBA": 3, "RGBX": 3, "YCbCr": 3, "CMYK": 4}
"""Pillow's mode -> colour samples per pixel. Other modes are not decoded in parts."""
MODES = {1: "L", 3: "RGB", 4: "CMYK"}
"""Colour samples per pixel -> Pillow's mode."""
TILE_WIDTH = 322
"""The TIFF tag that only tiled files have."""
TILE = 256
"""Side of the tiles of a temporary copy, in pixels."""
ROWS = 64
"""Rows decoded at once."""

Raw = NDArray[Any]
"""Samples as in the file: (H, W, C), uint8 or uint16."""


@dataclass(frozen=True)
class Layout:
    """How a file's samples make up a picture.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels, before the EXIF orientation is applied.
    colours : int
        Colour samples per pixel after palettes are resolved: 1 (grey), 3 (RGB) or 4 (CMYK).
    bands : int
        Colour samples per pixel that libvips decodes: 1 also for RGB palettes whose colours are all grey.
    alpha : bool
        Whether the colours are followed by an alpha sample.
    bits : int
        8 or 16 bits per sample.
    icc : bytes or None
        The profile, if it is usable and needs a conversion.
    """

    size: tuple[int, int]
    colours: int
    bands: int
    alpha: bool
    bits: int
    icc: bytes | None

    @property
    def nbytes(self) -> int:
        """Bytes of all samples, uncompressed."""
        return self.size[0] * self.size[1] * (self.bands + self.alpha) * self.bits // 8

    def samples(self, raw: Raw, name: str) -> Samples:
        """Convert samples of the file to sRGB. They are not rotated."""
        colour = raw[:, :, : self.bands]
        alpha = unit(raw[:, :, self.bands], 2**self.bits - 1) if self.alpha else None
        if self.bands < self.colours:
            colour = np.repeat(colour, self.colours, 2)
        if self.bits == 16:
            return Samples(deep.convert(colour, self.icc, name), alpha, 16)
        mode = MODES[self.colours]
        levels = np.ascontiguousarray(colour[:, :, 0] if self.colours == 1 else colour)
        image = Image.frombuffer(mode, (raw.shape[1], raw.shape[0]), levels, "raw", mode, 0, 1)
        return Samples(unit(np.asarray(to_srgb(image, self.icc, name)), 255), alpha, 8)


class Decoder:
    """Decodes rectangles of a file, as its own samples.

    Reading downwards, it keeps only some rows in memory. To go back to the top, it decodes the file again. To go back
    to any other row, it makes an uncompressed temporary copy of the file, which has random access.

    Parameters
    ----------
    file : binary file
        Seekable: a file on disk, or one in memory.
    image : PIL.Image.Image
        The file, opened by Pillow; its pixels are not decoded.
    is_deep : bool
        Whether it has more than 8 bits per sample.
    name : str
        Name of the file in messages.

    Raises
    ------
    ValueError
        If the file cannot be decoded in parts.
    """

    def __init__(self, file: BinaryIO, image: Image.Image, is_deep: bool, name: str):
        self.file, self.name, self.format = file, name, image.format or ""
        if self.format not in LOADERS or (image.mode not in COLOURS and not is_deep):
            raise ValueError(f"{self.format} of mode {image.mode}")
        self.tiled = TILE_WIDTH in getattr(image, "tag_v2", {})
        self.copy: BinaryIO | None = None
        self.held: tuple[Any, ...] = ()  # libvips reads from these for as long as the region is used
        self.region: Any = None
        self.rows: Raw | None = None  # the rows kept while reading downwards
        self.first = self.next = 0  # numbers of the first of them and of the next to decode
        source, header = self._open()
        self.layout = _layout(header, image, is_deep, name)
        del header, source

    def _open(self, **options: Any) -> tuple[Any, Any]:
        """Return libvips' source, which must outlive the image, and the image."""
        import pyvips

        if isinstance(self.file, BytesIO):
            source = pyvips.Source.new_from_memory(self.file.getvalue())
        else:
            source = pyvips.Source.new_from_file(self.file.name)
        load = getattr(pyvips.Image, LOADERS[self.format] + "_source")
        return source, load(source, fail_on="error", **options)

    def read(self, top: int, left: int, height: int, width: int) -> Raw:
        """Return a rectangle: (height, width, C), uint8 or uint16."""
        if self.tiled and self.region is None:
            self._start(*self._open())
        elif not self.tiled and self.rows is not None and 0 < top < self.first:
            self.unpack()
        if self.tiled:
            return self._fetched(left, top, width, height)
        if self.rows is None or top < self.first:
            self._start(*self._open(access="sequential"))
            self.first = self.next = 0
        self._advance(top, height)
        assert self.rows is not None
        return self.rows[top - self.first : top - self.first + height, left : left + width]

    def _start(self, source: Any, image: Any) -> None:
        import pyvips

        self.rows = None
        self.region = pyvips.Region.new(image)
        self.held = image, source

    def _fetched(self, left: int, top: int, width: int, height: int) -> Raw:
        data = self.region.fetch(left, top, width, height)
        raw = np.frombuffer(data, np.uint8 if self.layout.bits == 8 else np.uint16)
        return raw.reshape(height, width, -1)[:, :, : self.layout.bands + self.layout.alpha]

    def _advance(self, top: int, height: int) -> None:
        """Decode up to a rectangle's last row. Keep the rows that begin half its height above it."""
        if self.next >= top + height:
            return
        keep = max(self.first, top - height // 2)
        parts = [self.rows[keep - self.first :]] if self.rows is not None else []
        while self.next < top + height:
            count = min(ROWS, self.layout.size[0] - self.next)
            parts.append(self._fetched(0, self.next, self.layout.size[1], count)[max(0, keep - self.next) :])
            self.next += count
        self.rows, self.first = np.concatenate(parts), keep

    def unpack(self) -> None:
        """Make an uncompressed temporary copy, which has random access. It is always deleted at the end.

        Raises
        ------
        PictureError
            If the folder for temporary files has too little free space.
        """
        import pyvips

        if self.tiled:
            return
        folder, need = tempfile.gettempdir(), int(self.layout.nbytes * 1.02) + 2**20
        free, advice = shutil.disk_usage(folder).free, "free some space there, or set TMPDIR to another folder"
        if free < need:
            raise PictureError(
                f"{self.name} needs {need / 1e9:.1f} GB for a temporary copy, and {folder} has {free / 1e9:.1f} GB; "
                f"{advice}"
            )
        self.region, self.held, self.rows = None, (), None
        source, image = self._open(access="sequential")
        deep.log.info("%s: making a temporary copy of %.2f GB in %s", self.name, need / 1e9, folder)
        # Such a file has no name, so the system deletes it even if the process is killed.
        self.copy = tempfile.TemporaryFile()  # noqa: SIM115
        target = pyvips.Target.new_to_descriptor(self.copy.fileno())
        try:
            image.tiffsave_target(target, tile=True, tile_width=TILE, tile_height=TILE, bigtiff=True, keep="none")
        except pyvips.Error as error:
            if shutil.disk_usage(folder).free < 2**20:
                raise PictureError(
                    f"{self.name} needs {need / 1e9:.1f} GB for a temporary copy, and {folder} is full; {advice}"
                ) from error
            raise
        del image, source, target
        self.copy.seek(0)
        source = pyvips.Source.new_from_descriptor(self.copy.fileno())
        self._start(source, pyvips.Image.tiffload_source(source, fail_on="error"))
        self.tiled = True

    def reduced(self, needed: tuple[int, int]) -> Raw:
        """Return the whole picture, reduced to a height and width that differ from `needed` by at most a pixel.

        Colours are weighted by their alpha. JPEG and WebP are decoded at a reduced size.
        """
        (height, width), (full_height, full_width) = needed, self.layout.size
        part = max(GAP * height / full_height, GAP * width / full_width)
        options: dict[str, Any] = {"access": "sequential"}
        if self.format in ("JPEG", "MPO"):
            options["shrink"] = next((n for n in (8, 4, 2) if n * part <= 1), 1)
        elif self.format == "WEBP" and part < 1:
            options["scale"] = part
        source, image = self._open(**options)
        layout = self.layout
        raw = deep.pixels(deep.shrunk(image, layout.bands, needed))[:, :, : layout.bands + layout.alpha]
        del image, source
        return raw

    def close(self) -> None:
        """Close the opened files and delete the temporary copy."""
        self.region, self.held, self.rows = None, (), None
        if self.copy is not None:
            self.copy.truncate(0)  # libvips may keep it open for a while
            self.copy.close()
            self.copy = None


def _layout(header: Any, image: Image.Image, is_deep: bool, name: str) -> Layout:
    bands = deep.colour_bands(header)
    if is_deep:
        if header.format != "ushort" or header.interpretation not in ("grey16", "rgb16", "cmyk"):
            raise ValueError(f"samples of {header.format}, {header.interpretation}")
        colours, alpha, bits = bands, header.bands > bands, 16
    else:
        if header.format != "uchar" or header.interpretation not in ("b-w", "srgb", "cmyk"):
            raise ValueError(f"samples of {header.format}, {header.interpretation}")
        colours, alpha, bits = COLOURS[image.mode], image.has_transparency_data and image.mode != "CMYK", 8
    if (bands != colours and not (bands == 1 and colours == 3)) or (alpha and header.bands == bands):
        raise ValueError(f"{header.bands} samples per pixel")
    icc = image.info.get("icc_profile")
    icc = deep.convertible(icc, colours, name) if is_deep else convertible(icc, MODES[colours], name)
    return Layout((header.height, header.width), colours, bands, alpha, bits, icc)
