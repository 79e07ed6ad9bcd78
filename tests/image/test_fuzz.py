"""Broken files of every format give a Picture or a PictureError, and nothing is left behind."""

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, features

from impasto.errors import PictureError
from impasto.image import xmp
from impasto.image.picture import Picture
from impasto.image.read import read_image, read_record, to_picture
from impasto.image.write import write_image

ROUNDS = 60
"""Broken files per format."""


def sound_files(levels: NDArray[np.uint8], folder: Path) -> dict[str, bytes]:
    """Return a small intact file of each kind."""
    image = Image.fromarray(levels)
    exif = Image.Exif()
    exif[274], exif[270] = 6, "a cat"
    exif.get_ifd(34853)[1] = "N"
    files: dict[str, bytes] = {}

    def save(kind: str, picture: Image.Image, file_format: str, **options: object) -> None:
        out = io.BytesIO()
        picture.save(out, file_format, **options)
        files[kind] = out.getvalue()

    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF"):
        save(kind, image, kind, exif=exif)
    for kind in ("BMP", "GIF", "JPEG2000", "PPM", "QOI"):
        if kind != "JPEG2000" or features.check("jpg_2000"):
            save(kind, image, kind)
    for compression in ("tiff_lzw", "jpeg", "tiff_adobe_deflate"):
        save(f"TIFF {compression}", image, "TIFF", compression=compression)
    save("PNG palette", image.quantize(16), "PNG", transparency=3)
    save("PNG 16 grey", Image.fromarray(levels[:, :, 0].astype(np.uint16) * 257), "PNG")
    save("JPEG CMYK", image.convert("CMYK"), "JPEG", progressive=True)
    for suffix in ("png", "tiff"):
        path = folder / f"deep.{suffix}"
        write_image(to_picture(levels.astype(np.uint16) * 257), path, bits=16, record={"a": 1})
        files[f"{suffix} 16"] = path.read_bytes()
    try:
        import pillow_heif

        out = io.BytesIO()
        pillow_heif.from_pillow(image).save(out)
        files["HEIC"] = out.getvalue()
    except (ImportError, RuntimeError):
        pass
    return files


def broken(sound: bytes, rng: random.Random) -> bytes:
    """Return the file, damaged in one of several ways."""
    data = bytearray(sound)
    way = rng.randrange(6)
    if way == 0:
        return bytes(data[: rng.randrange(len(data))])
    if way == 1:  # flipped bits, mostly near the header
        for _ in range(rng.choice((1, 4, 30))):
            i = rng.randrange(min(len(data), rng.choice((40, 400, len(data)))))
            data[i] ^= 1 << rng.randrange(8)
    elif way == 2:  # a random stretch
        start, length = rng.randrange(len(data)), rng.randrange(1, 60)
        data[start : start + length] = rng.randbytes(length)
    elif way == 3:  # a stretch missing
        start = rng.randrange(len(data))
        del data[start : start + rng.randrange(1, 80)]
    elif way == 4:  # a sound head on random bytes
        return bytes(data[: rng.randrange(4, 80)]) + rng.randbytes(rng.randrange(300))
    else:  # numbers at their limits
        i = rng.randrange(min(len(data) - 4, 200))
        data[i : i + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
    return bytes(data)


def broken_files(levels: NDArray[np.uint8], folder: Path) -> Iterator[tuple[str, bytes]]:
    """Return the name and bytes of each broken file, the same in every run."""
    for kind, sound in sound_files(levels, folder).items():
        rng = random.Random(kind)
        for i in range(ROUNDS):
            yield f"{kind} {i}", broken(sound, rng)
    rng = random.Random(0)
    for i in range(50):
        yield f"noise {i}", rng.randbytes(rng.randrange(200))


def test_broken_files_give_a_picture_or_a_picture_error(levels: NDArray[np.uint8], tmp_path: Path) -> None:
    (tmp_path / "sound").mkdir()
    folder = tmp_path / "broken"
    folder.mkdir()
    path = folder / "picture"
    count = refused = 0
    for what, data in broken_files(levels, tmp_path / "sound"):
        path.write_bytes(data)
        for read in (lambda p: read_image(p, max_megapixels=1), read_record):
            try:
                result = read(path)
            except PictureError as error:
                refused += 1
                message = str(error)
                assert "\n" not in message, what
                assert str(path) in message, what
            except BaseException as error:
                raise AssertionError(f"{what}: {error!r}") from error
            else:
                if isinstance(result, Picture):
                    assert torch.isfinite(result.tensor).all(), what
                    assert result.tensor.min() >= 0, what
                    assert result.tensor.max() <= 1, what
        count += 1
    assert os.listdir(folder) == ["picture"]
    assert count >= 200
    assert refused > count / 2


def test_half_a_file_is_never_a_picture(levels: NDArray[np.uint8], tmp_path: Path) -> None:
    for kind, data in sound_files(levels, tmp_path).items():
        half = io.BytesIO(data[: len(data) // 2])
        half.name = kind
        with pytest.raises(PictureError, match=rf"^{kind} (is cut short|is damaged)"):
            read_image(half)


def test_a_sound_file_of_each_kind_is_read(levels: NDArray[np.uint8], tmp_path: Path) -> None:
    for kind, data in sound_files(levels, tmp_path).items():
        picture = read_image(io.BytesIO(data), max_megapixels=1)
        assert sorted(picture.size) == [40, 56], kind


def test_broken_profiles_are_left_aside(
    encoded: Any, display_profile: bytes, grey_profile: bytes, cmyk_profile: bytes
) -> None:
    tifffile = pytest.importorskip("tifffile")
    rng = random.Random(0)
    for mode, profile in (("RGB", display_profile), ("L", grey_profile), ("CMYK", cmyk_profile)):
        image = Image.new(mode, (4, 3), 100)
        deep = np.asarray(image).astype(np.uint16) * 257
        kinds = {"RGB": "rgb", "L": "minisblack", "CMYK": "separated"}
        for _ in range(ROUNDS):
            icc = broken(profile, rng)
            for data in (encoded(image, "TIFF", icc_profile=icc), encoded(image, "JPEG", icc_profile=icc)):
                assert read_image(io.BytesIO(data)).size == (3, 4)
            out = io.BytesIO()
            tifffile.imwrite(out, deep, photometric=kinds[mode], iccprofile=icc)
            assert read_image(io.BytesIO(out.getvalue())).size == (3, 4)


def test_broken_metadata_is_left_out(levels: NDArray[np.uint8], encoded: Any) -> None:
    rng = random.Random(0)
    tags = Image.Exif()
    tags[274], tags[270] = 1, "a cat"
    tags.get_ifd(34665)[33434] = 0.01
    tags.get_ifd(34853)[1] = "N"
    packet = xmp.adapted(b"", "", keep_gps=True, record={"a": 1})
    for _ in range(ROUNDS):
        for kind in ("JPEG", "WEBP"):
            data = encoded(Image.fromarray(levels), kind, exif=b"Exif\0\0" + broken(tags.tobytes()[6:], rng))
            picture = read_image(io.BytesIO(data))
            write_image(picture, io.BytesIO(), format="tiff")
            data = encoded(Image.fromarray(levels), kind, xmp=broken(packet, rng))
            assert sorted(read_image(io.BytesIO(data)).size) == [40, 56]
