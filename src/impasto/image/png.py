"""PNG files without the chunks that Pillow refuses a whole picture for: very large texts and colour profiles."""

import logging
import zlib
from io import BytesIO
from typing import BinaryIO

from PIL.PngImagePlugin import MAX_TEXT_CHUNK, MAX_TEXT_MEMORY

log = logging.getLogger(__name__)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
PROFILE = b"iCCP"


def without_large_chunks(file: BinaryIO, head: bytes, name: str) -> BinaryIO:
    """Return a file that Pillow reads: the same one, unless it is a PNG with a text or profile beyond Pillow's limits.

    Parameters
    ----------
    file : binary file
        Seekable.
    head : bytes
        Its first bytes.
    name : str
        What the warnings call it.

    Returns
    -------
    binary file
        The file itself, or a copy in memory without those chunks, each named in a warning in the log.
    """
    if not head.startswith(SIGNATURE):
        return file
    kept, skipped, texts = [(0, len(SIGNATURE))], 0, 0
    at = len(SIGNATURE)
    while True:
        file.seek(at)
        start = file.read(8)
        if len(start) < 8:
            break
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        size = 0
        if kind in (*TEXTS, PROFILE):
            size = _size(kind, file.read(length)) if length <= MAX_TEXT_MEMORY else length
        texts += size if kind in TEXTS else 0
        compressed = kind == PROFILE or size != length
        if (compressed and size > MAX_TEXT_CHUNK) or texts > MAX_TEXT_MEMORY:
            what = "colour profile" if kind == PROFILE else "text"
            then = "; reading it as sRGB" if kind == PROFILE else ""
            most = MAX_TEXT_CHUNK if compressed else MAX_TEXT_MEMORY
            log.warning("%s: skipping its %s, which is longer than %d MB%s", name, what, most >> 20, then)
            skipped += 1
            texts -= size if kind in TEXTS else 0
        else:
            kept.append((at, 12 + length))
        at += 12 + length
        if kind == b"IEND":
            break
    if not skipped:
        return file
    copy = BytesIO()
    for offset, count in kept:
        file.seek(offset)
        copy.write(file.read(count))
    copy.seek(0)
    return copy


def _size(kind: bytes, data: bytes) -> int:
    """Return the bytes of a chunk's text or profile once it is decompressed, or one more than Pillow's limit."""
    if kind == b"tEXt":
        return len(data)
    _, _, rest = data.partition(b"\0")
    if kind == b"iTXt":
        if rest[:1] in (b"", b"\0"):
            return len(data)
        rest = rest[2:].split(b"\0", 2)[-1]
    else:
        rest = rest[1:]
    unpacking = zlib.decompressobj()
    try:
        size = len(unpacking.decompress(rest, MAX_TEXT_CHUNK))
    except zlib.error:  # Pillow leaves it out
        return 0
    return size + bool(unpacking.unconsumed_tail)
