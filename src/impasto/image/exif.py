"""EXIF blocks, entry by entry, and what a painting keeps of its photograph's.

An EXIF block is a small TIFF file: directories of entries (tag, type, count, value). The bytes of a value are copied
unchanged, so that no text or number is altered.
"""

import struct
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

ORIENTATION, EXIF_IFD, GPS_IFD = 274, 34665, 34853
RESOLUTION_X, RESOLUTION_Y, RESOLUTION_UNIT = 282, 283, 296
INCHES = {2: 1.0, 3: 2.54}
"""Resolution unit -> units per inch."""
SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, LONG8: 8, 18: 8}
NUMBER_SIZES = {**TYPE_SIZES, RATIONAL: 4, 10: 4}
"""Type -> bytes of each of its numbers; a rational is two."""
CLASSIC, BIG = "HI", "QQ"
"""Formats of the number of a directory's entries, and of counts and offsets: in TIFF and EXIF, and in BigTIFF."""

DESCRIPTIVE = frozenset(
    (
        *(
            269,
            270,
            271,
            272,
            285,
            305,
            306,
            315,
            316,
            33432,
        ),  # document, description, camera, software, people, rights
        *(RESOLUTION_X, RESOLUTION_Y, RESOLUTION_UNIT),
        *(
            18246,
            18249,
            40091,
            40092,
            40093,
            40094,
            40095,
        ),  # rating, and Windows' title, comment, author, keywords, subject
    )
)
"""The entries of the first directory that describe the photograph, not the layout of its file."""

MAKER_NOTE, INTEROPERABILITY, COLOUR_SPACE, PIXEL_WIDTH, PIXEL_HEIGHT = 37500, 40965, 40961, 40962, 40963
# A maker note depends on its offset in the file, which changes, and may hold a preview or a position. Interoperability
# would claim the colour space of the original.
LEFT_OUT = frozenset((MAKER_NOTE, INTEROPERABILITY))

MAX_VALUE = 2**20
"""Largest value in bytes. Larger entries are treated as damaged."""

Entry = tuple[int, int, bytes]
"""Type, count, and the bytes of the value."""


@dataclass
class Exif:
    """The three directories of an EXIF block, from tag to entry, and its byte order (`<` or `>`)."""

    order: str = "<"
    main: dict[int, Entry] = field(default_factory=dict)
    photo: dict[int, Entry] = field(default_factory=dict)
    gps: dict[int, Entry] = field(default_factory=dict)

    @property
    def orientation(self) -> int:
        """The orientation, 1 to 8; 1 if it is missing or invalid."""
        kind, count, value = self.main.get(ORIENTATION, (SHORT, 1, b""))
        if kind != SHORT or count != 1 or len(value) != 2:
            return 1
        (orientation,) = struct.unpack(self.order + "H", value)
        return orientation if 1 <= orientation <= 8 else 1

    @property
    def dpi(self) -> tuple[float, float] | None:
        """The horizontal and vertical resolution in pixels per inch; None if it is missing or invalid."""
        found = []
        _, _, unit = self.main.get(RESOLUTION_UNIT, (SHORT, 1, struct.pack(self.order + "H", 2)))
        inches = INCHES.get(struct.unpack(self.order + "H", unit)[0]) if len(unit) == 2 else None
        for tag in (RESOLUTION_X, RESOLUTION_Y):
            kind, count, value = self.main.get(tag, (RATIONAL, 1, b""))
            if inches is None or kind != RATIONAL or count != 1 or len(value) != 8:
                return None
            over, under = struct.unpack(self.order + "II", value)
            found.append(inches * over / under if under else 0.0)
        across, down = found
        return (across, down) if 1 <= across < 65535 and 1 <= down < 65535 else None

    def set_dpi(self, dpi: tuple[float, float]) -> None:
        """Set the horizontal and vertical resolution, in pixels per inch."""
        for tag, value in zip((RESOLUTION_X, RESOLUTION_Y), dpi, strict=True):
            self.main[tag] = (RATIONAL, 1, struct.pack(self.order + "II", round(1000 * value), 1000))
        self.short(RESOLUTION_UNIT, 2)

    def short(self, tag: int, value: int) -> None:
        """Set a 16-bit number in the first directory."""
        self.main[tag] = (SHORT, 1, struct.pack(self.order + "H", value))


def parse(data: bytes | BinaryIO) -> Exif | None:
    """Parse an EXIF block, or the first directory of a TIFF file. Skips invalid entries.

    Parameters
    ----------
    data : bytes or binary file
        The block, with or without JPEG's prefix `Exif`; or a whole TIFF file, seekable.

    Returns
    -------
    Exif or None
        The orientation and the entries worth keeping; None if it is not an EXIF block.
    """
    if isinstance(data, bytes):
        while data.startswith(b"Exif\0\0"):
            data = data[6:]
        data = BytesIO(data)
    data.seek(0)
    found = first_directory(data)
    if found is None:
        return None
    order, form, offset = found
    exif = Exif(order)
    wanted = DESCRIPTIVE | {ORIENTATION, EXIF_IFD, GPS_IFD}
    exif.main = _directory(data, offset, order, form, wanted)
    for tag, directory in ((EXIF_IFD, exif.photo), (GPS_IFD, exif.gps)):
        _, _, value = exif.main.pop(tag, (0, 0, b""))
        if len(value) in (4, 8):
            place = struct.unpack(order + ("I" if len(value) == 4 else "Q"), value)[0]
            directory.update(_directory(data, place, order, form, None))
    for tag in LEFT_OUT:
        exif.photo.pop(tag, None)
    return exif


def first_directory(file: BinaryIO) -> tuple[str, str, int] | None:
    """Return a TIFF structure's byte order, its form (`CLASSIC` or `BIG`), and the offset of its first directory.

    Returns None for other files.
    """
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    version = struct.unpack(order + "H", head[2:4])[0] if order and len(head) >= 8 else 0
    if version == 42:
        return order, CLASSIC, struct.unpack(order + "I", head[4:8])[0]
    if version == 43 and len(head) == 16:
        return order, BIG, struct.unpack(order + "Q", head[8:])[0]
    return None


def _directory(file: BinaryIO, offset: int, order: str, form: str, wanted: frozenset[int] | None) -> dict[int, Entry]:
    entries: dict[int, Entry] = {}
    for tag, (kind, count, inline) in raw_entries(file, offset, order, form)[0].items():
        size = TYPE_SIZES.get(kind, 0) * count
        if not 0 < size <= MAX_VALUE or (wanted is not None and tag not in wanted):
            continue
        if kind >= LONG8 and tag not in (EXIF_IFD, GPS_IFD):  # an EXIF block has no such types
            continue
        value = inline[:size]
        if size > len(inline):
            file.seek(struct.unpack(order + form[1], inline)[0])
            value = file.read(size)
        if len(value) == size:
            entries[tag] = (kind, count, value)
    return entries


def raw_entries(file: BinaryIO, offset: int, order: str, form: str) -> tuple[dict[int, Entry], int]:
    """Return the entries of a directory, their values inline or as offsets, and the offset of the next directory."""
    file.seek(offset)
    head = file.read(struct.calcsize("<" + form[0]))
    if len(head) < struct.calcsize("<" + form[0]):
        return {}, 0
    room = struct.calcsize("<" + form[1])
    length = 4 + 2 * room
    count = struct.unpack(order + form[0], head)[0]
    table = file.read(min(length * count, MAX_VALUE))
    found = {}
    for i in range(0, len(table) - length + 1, length):
        tag, kind, number, inline = struct.unpack(f"{order}HH{form[1]}{room}s", table[i : i + length])
        found[tag] = kind, number, inline
    following = file.read(room)
    return found, struct.unpack(order + form[1], following)[0] if len(following) == room else 0


def adapted(block: bytes, size: tuple[int, int], *, keep_gps: bool) -> Exif | None:
    """Return the EXIF block of a painting, made from its photograph's.

    Parameters
    ----------
    block : bytes
        The photograph's block.
    size : tuple of int
        (H, W) of the painting in pixels.
    keep_gps : bool
        Whether to keep the GPS position.

    Returns
    -------
    Exif or None
        The block with orientation 1, sRGB and the new size; None if the photograph has none.
    """
    exif = parse(block) if block else None
    if exif is None or not (exif.main or exif.photo or exif.gps):
        return None
    exif.short(ORIENTATION, 1)
    if not keep_gps:
        exif.gps.clear()
    for tag, value in ((PIXEL_WIDTH, size[1]), (PIXEL_HEIGHT, size[0])):
        if tag in exif.photo:
            exif.photo[tag] = (LONG, 1, struct.pack(exif.order + "I", value))
    if COLOUR_SPACE in exif.photo:
        exif.photo[COLOUR_SPACE] = (SHORT, 1, struct.pack(exif.order + "H", 1))
    return exif


def kept(block: bytes | BinaryIO, dpi: tuple[float, float] | None = None) -> bytes:
    """Return what to keep of a block (see `parse`) when reading a photograph: all entries except the orientation.

    If the block has no resolution, `dpi` is added: the one that the file gives elsewhere, horizontal and vertical.
    """
    exif = parse(block) if block else None
    if exif is None:
        exif = Exif()
    exif.main.pop(ORIENTATION, None)
    if dpi is not None and exif.dpi is None:
        exif.set_dpi(dpi)
    return pack(exif) if exif.main or exif.photo or exif.gps else b""


def pack(exif: Exif) -> bytes:
    """Return the block as bytes, without JPEG's prefix `Exif`."""
    return header(exif.order, 8) + directories(exif, 8)


def header(order: str, first: int) -> bytes:
    """Return the first 8 bytes of a TIFF structure; `first` is the offset of its first directory."""
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", first)


def directories(
    exif: Exif, start: int, *, form: str = CLASSIC, raw: dict[int, Entry] | None = None, following: int = 0
) -> bytes:
    """Return the directories and their values as bytes, to be placed at offset `start` of the file.

    Parameters
    ----------
    exif : Exif
        Its first directory may hold any entries.
    start : int
        An even number.
    form : str
        `CLASSIC` or `BIG`.
    raw : dict, optional
        More entries of the first directory, from `raw_entries`: values that are not inline stand elsewhere in the file.
    following : int
        Offset of the directory after the first, or 0.
    """
    order, main, tail = exif.order, dict(exif.main), b""
    nested = [(tag, entries) for tag, entries in ((EXIF_IFD, exif.photo), (GPS_IFD, exif.gps)) if entries]
    kind = LONG if form == CLASSIC else LONG8
    main.update((tag, (kind, 1, bytes(TYPE_SIZES[kind]))) for tag, _ in nested)
    after_main = start + len(_packed_directory(main, start, order, form, raw or {}, following))
    for tag, entries in nested:
        place = after_main + len(tail)
        main[tag] = (kind, 1, struct.pack(order + form[1], place))
        tail += _packed_directory(entries, place, order, form, {}, 0)
    return _packed_directory(main, start, order, form, raw or {}, following) + tail


def _packed_directory(
    entries: dict[int, Entry], start: int, order: str, form: str, raw: dict[int, Entry], following: int
) -> bytes:
    room = struct.calcsize("<" + form[1])
    together = {**raw, **entries}
    table = struct.pack(order + form[0], len(together))
    tail = b""
    values = start + len(table) + (4 + 2 * room) * len(together) + room
    for tag, (kind, count, value) in sorted(together.items()):
        if len(value) <= room:
            place = value.ljust(room, b"\0")
        else:
            place = struct.pack(order + form[1], values + len(tail))
            tail += value + b"\0" * (len(value) % 2)
        table += struct.pack(f"{order}HH{form[1]}", tag, kind, count) + place
    return table + struct.pack(order + form[1], following) + tail


def reordered(exif: Exif, order: str) -> Exif:
    """Return the same block in another byte order."""

    def swapped(entries: dict[int, Entry]) -> dict[int, Entry]:
        found = {}
        for tag, (kind, count, value) in entries.items():
            size = NUMBER_SIZES.get(kind, 1)
            numbers = [value[i : i + size][::-1] for i in range(0, len(value), size)]
            found[tag] = kind, count, b"".join(numbers)
        return found

    if exif.order == order:
        return exif
    return Exif(order, swapped(exif.main), swapped(exif.photo), swapped(exif.gps))
