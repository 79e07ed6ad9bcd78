"""Tests of training pictures: how they are found and read, packed files, and pictures that cannot be read."""

import io
import logging
import pickle
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from impasto.cli import main
from impasto.errors import TrainingError
from impasto.train import pictures
from impasto.train.pictures import PictureSet, find_pictures, read_exclude


def draw(path: Path, seed: int, size: tuple[int, int] = (72, 60), **options: Any) -> Image.Image:
    """Write a picture of smooth random colours."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    image = coarse.resize(size, Image.Resampling.BICUBIC)
    image.save(path, **options)
    return image


def names(found: PictureSet) -> list[str]:
    return [Path(found.name(i)).name for i in range(len(found))]


def tensor_of(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def read(found: PictureSet, i: int = 0) -> Tensor:
    picture = found.read(i)
    assert picture is not None
    return picture


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Write four pictures in two folders, and files that are ignored."""
    root = tmp_path / "photos"
    for i, name in enumerate(("b.png", "a.JPG", "deep/d.webp", "deep/c.jpeg")):
        draw(root / name, i)
    draw(root / ".hidden.png", 4)
    draw(root / ".thumbnails" / "e.png", 5)
    (root / "notes.txt").write_text("no picture")
    return root


# -- finding ----------------------------------------------------------------------------------------------------------


def test_folders_are_searched_to_any_depth(tree: Path, tmp_path: Path) -> None:
    found = PictureSet.open([tree], None, 100)
    assert names(found) == ["a.JPG", "b.png", "c.jpeg", "d.webp"]
    assert [found.name(i) for i in range(4)] == [str(p) for p in find_pictures(tree)]
    draw(tmp_path / "more" / "f.bmp", 6)
    assert names(PictureSet.open([tmp_path / "more", tree], None, 100)) == ["f.bmp", *names(found)]
    # What two roots share is in the set once.
    assert len(PictureSet.open([tree / "deep", tree, tree], None, 100)) == 4


def test_excluded_names(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("photos/a.JPG\n\n  deep/d.webp  \neep/c.jpeg\npng\n")
    assert names(PictureSet.open([tree], held_out, 100)) == ["b.png", "c.jpeg"]
    monkeypatch.chdir(tree)  # the folder's own name counts however it was given
    assert names(PictureSet.open([Path()], held_out, 100)) == ["b.png", "c.jpeg"]
    held_out.write_text(f"{tree}/a.JPG\nb.png\nc.jpeg\nd.webp")
    with pytest.raises(TrainingError, match=r"no pictures in .*photos but the 4 that .*held-out.txt names; give"):
        PictureSet.open([tree], held_out, 100)


def test_progress(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "REPORT_EVERY", 3)
    seen: list[int] = []
    PictureSet.open([tree], None, 100, progress=seen.append)
    assert seen == [3, 4]


def test_names_of_any_kind(tmp_path: Path) -> None:
    for name in ("ü ñ.png", "日本.png", "line\nbreak.png", b"\xff\xfe.png".decode("utf-8", "surrogateescape")):
        draw(tmp_path / "odd" / name, 0)
    found = PictureSet.open([tmp_path / "odd"], None, 100)
    assert all(found.read(i) is not None for i in range(4))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nowhere", r"nowhere does not exist; give a folder of pictures or a packed file"),
        ("text", r"text is not a folder or packed file \(File is not a zip file\); give one of these"),
        ("empty", r"there are no pictures in .*empty; give folders or packed files with JPEG or PNG pictures"),
        ("empty.zip", r"there are no pictures in .*empty.zip; give folders"),
        ("cut.zip", r"cut.zip is not a folder or packed file"),
        (None, r"there are no pictures in no folder"),
    ],
)
def test_nothing_to_train_on(tmp_path: Path, kind: str | None, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no picture")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("notes.txt", "no picture")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "empty.zip").read_bytes()[:50])
    with pytest.raises(TrainingError, match=message) as caught:
        PictureSet.open([tmp_path / kind] if kind else [], None, 100)
    assert "\n" not in str(caught.value)


def test_no_list_of_excluded_pictures(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xff\xfe\xfa")
    for name in ("nowhere.txt", "latin"):
        with pytest.raises(TrainingError, match=rf"cannot read --exclude .*{name}"):
            read_exclude(tmp_path / name)


def test_the_index_of_many_pictures_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of 100,000 pictures named like COCO's takes less than 6 MB, in memory and pickled."""
    folders = [(f"/data/coco/train/part{k:03d}", False, f"{i:012d}.jpg", 0, 0) for k in range(100) for i in range(1000)]
    monkeypatch.setattr(pictures, "_pictures_of", lambda here, root: iter(folders))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = PictureSet.open([Path("/data/coco")], None, 256)
        assert tracemalloc.get_traced_memory()[0] - before < 6e6
    finally:
        tracemalloc.stop()
    assert len(found) == 100_000
    assert found.name(98_765) == "/data/coco/train/part098/000000000765.jpg"
    data = pickle.dumps(found)
    assert len(data) < 6e6
    assert pickle.loads(data).name(98_765) == found.name(98_765)


# -- reading ----------------------------------------------------------------------------------------------------------


def test_pictures_are_read_as_the_product_reads_them(tmp_path: Path) -> None:
    """Pictures are upright; grey, alpha over white and 16 bits are handled; each is (3, H, W), uint8."""
    tags = Image.Exif()
    tags[274] = 6
    upright = draw(tmp_path / "0.png", 0).transpose(Image.Transpose.ROTATE_270)
    draw(tmp_path / "0.png", 0, exif=tags)
    grey = draw(tmp_path / "1.png", 1).convert("L")
    grey.save(tmp_path / "1.png")
    clear = draw(tmp_path / "2.png", 2)
    clear.putalpha(0)
    clear.save(tmp_path / "2.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "3.png")
    found = PictureSet.open([tmp_path], None, 100)
    assert torch.equal(read(found, 0), tensor_of(upright))
    assert torch.equal(read(found, 1), tensor_of(grey))
    assert torch.equal(read(found, 2), torch.full((3, 60, 72), 255, dtype=torch.uint8))
    assert torch.equal(read(found, 3), tensor_of(grey))
    assert all(read(found, i).is_contiguous() for i in range(4))


def test_a_profile_is_converted(photo_file: Callable[[str], Path], tmp_path: Path) -> None:
    """The photograph of a rocket is in Adobe RGB, so its sRGB numbers differ."""
    path = tmp_path / "rocket.jpg"
    path.write_bytes(photo_file("rocket").read_bytes())
    found = read(PictureSet.open([tmp_path], None, 1000))
    with Image.open(path) as image:
        assert found.shape == (3, image.height, image.width)
        assert 2 < (found.float() - tensor_of(image).float()).abs().mean() < 40


def test_large_pictures_are_reduced(tmp_path: Path) -> None:
    draw(tmp_path / "0.png", 0, (300, 200))
    draw(tmp_path / "1.jpg", 1, (2000, 3000))
    draw(tmp_path / "2.png", 2, (40, 30))
    found = PictureSet.open([tmp_path], None, 50)
    assert [tuple(read(found, i).shape) for i in range(3)] == [(3, 50, 75), (3, 75, 50), (3, 30, 40)]


def spoil(folder: Path) -> list[Path]:
    """Write files that have pictures' names and cannot be read."""
    whole = io.BytesIO()
    Image.effect_noise((60, 60), 50).save(whole, "PNG")
    bomb = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + bytes(4)
    data = {"bomb.png": bomb, "cut.png": whole.getvalue()[:900], "empty.jpg": b"", "text.webp": b"no picture"}
    for name, content in data.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in data]


def test_unreadable_pictures_are_logged_and_counted_once(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = spoil(tree)
    found = PictureSet.open([tree], None, 100)
    assert found.skipped == 0
    for _ in range(2):
        assert sum(found.read(i) is None for i in range(len(found))) == 4
    assert found.skipped == 4
    assert [r.getMessage().split(" ")[1] for r in caplog.records] == [str(p) for p in bad]
    assert all(r.getMessage().startswith("skipped: ") for r in caplog.records)


def test_notes_of_the_readers_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise they would be repeated with every draw."""
    draw(tmp_path / "0.png", 0, icc_profile=b"no profile")
    found = PictureSet.open([tmp_path], None, 100)
    with caplog.at_level(logging.INFO):
        read(found)
    assert not caplog.records
    assert logging.getLogger("impasto.image").level == logging.NOTSET


# -- crops ------------------------------------------------------------------------------------------------------------


def test_crops_depend_on_the_generator_alone(tmp_path: Path) -> None:
    for i, size in enumerate([(70, 90), (33, 20), (200, 64)]):
        draw(tmp_path / f"{i}.png", i, size)
    spoil(tmp_path)
    fresh, used = (PictureSet.open([tmp_path], None, 100) for _ in "ab")
    for seed in range(12, 24):
        used.crop(np.random.default_rng(seed), 40)
    for seed in range(12):
        first, second = (found.crop(np.random.default_rng(seed), 40) for found in (fresh, used))
        assert first.shape == (3, 40, 40)
        assert first.dtype == torch.float32
        assert 0 <= first.min() <= first.max() <= 1
        assert torch.equal(first, second)


def test_a_crop_is_a_part_of_the_picture(tmp_path: Path) -> None:
    picture = tensor_of(draw(tmp_path / "0.png", 0)).float() / 255
    found = PictureSet.open([tmp_path], None, 100)
    windows = picture.unfold(1, 40, 1).unfold(2, 40, 1)  # (3, rows, columns, 40, 40)
    for seed in range(4):
        crop = found.crop(np.random.default_rng(seed), 40, (1.0, 1.0))
        assert (windows == crop[:, None, None]).all(-1).all(-1).all(0).any()


def test_a_set_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    spoil(tmp_path)
    found = PictureSet.open([tmp_path], None, 100)
    with pytest.raises(TrainingError, match="100 training pictures in a row cannot be read; the last was "):
        found.crop(np.random.default_rng(0), 40)


def test_small_sets_are_kept_and_large_ones_are_not(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = PictureSet.open([tree], None, 100)
    assert read(small) is read(small)
    monkeypatch.setattr(pictures, "KEPT_BYTES", 4 * 3 * 72 * 60 - 1)
    large = PictureSet.open([tree], None, 100)
    assert read(large) is not read(large)
    assert torch.equal(read(large), read(small))
    assert len(pickle.dumps(small)) < 3000


# -- packed files -----------------------------------------------------------------------------------------------------


def pack(*arguments: object) -> int:
    return main(["train", "pack", *map(str, arguments)])


@pytest.fixture
def packed(tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    out = tmp_path / "photos.zip"
    draw(tree / "large.jpg", 7, (500, 400))
    assert pack(tree, "--out", out, "--short-side", 100, "--workers", 0) == 0
    assert f"impasto: {out}: 5 pictures, 0.0 MB\n" in capfd.readouterr().err
    return out


def test_packed_pictures_are_those_of_the_folder(packed: Path, tree: Path) -> None:
    """They are equal except for the loss of WebP."""
    folder, archive = PictureSet.open([tree], None, 100), PictureSet.open([packed], None, 200)
    assert [n.removesuffix(".webp") for n in names(archive)] == [n.removesuffix(".webp") for n in names(folder)]
    for i in range(5):
        assert read(archive, i).shape == read(folder, i).shape
        assert (read(archive, i).float() - read(folder, i).float()).abs().mean() < 5
        assert torch.equal(read(archive, i), read(pickle.loads(pickle.dumps(archive)), i))
    assert tuple(read(archive, 2).shape) == (3, 100, 125)
    assert len(PictureSet.open([tree, packed], None, 100)) == 10


def test_what_was_excluded_stays_so_when_packed(packed: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("photos/a.JPG\ndeep/d.webp\n")
    assert names(PictureSet.open([packed], held_out, 100)) == ["b.png.webp", "large.jpg.webp", "c.jpeg.webp"]


def test_packing_leaves_out_what_is_excluded_and_what_cannot_be_read(
    tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(tree / "deep")
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("b.png")
    draw(tmp_path / "paintings" / "f.png", 6)
    out = tmp_path / "both.zip"
    for workers in (0, 2):
        out.unlink(missing_ok=True)
        assert pack(tree, tmp_path / "paintings", "--out", out, "--exclude", held_out, "--workers", workers) == 0
        said = capfd.readouterr().err
        assert said.count("impasto: skipped: ") == 4
        assert said.endswith(f"impasto: {out}: 4 pictures, 0.0 MB, 4 files skipped\n")
        with zipfile.ZipFile(out) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [
                *("photos/a.JPG.webp", "photos/deep/c.jpeg.webp", "photos/deep/d.webp", "paintings/f.png.webp"),
            ]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["both.zip", "held-out.txt", "paintings", "photos"]


def test_any_zip_archive_with_pictures(tree: Path, tmp_path: Path) -> None:
    """Archives may be compressed, have folders, and contain what macOS adds."""
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.JPG", "b.png", "deep/c.jpeg"):
            archive.write(tree / name, f"set/{name}")
        archive.writestr("__MACOSX/set/._a.JPG", b"no picture")
        archive.writestr("set/.b.png", b"no picture")
        archive.writestr("set/notes.txt", b"no picture" * 100)
    found = PictureSet.open([path], None, 100)
    assert names(found) == ["a.JPG", "b.png", "c.jpeg"]
    folder = PictureSet.open([tree], None, 100)
    assert all(torch.equal(read(found, i), read(folder, i)) for i in range(3))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("encrypted", r"skipped: \S+photos.zip/photos/a.JPG.webp cannot be read \(encrypted\); pack it again"),
        ("changed", r"skipped: .*cannot be read \(the file has changed\); pack it again"),
        ("cut", r"skipped: .*cannot be read \(the file is cut short\); pack it again"),
        ("gone", r"skipped: .*cannot be read \(.*No such file or directory.*\); pack it again"),
        ("damaged", r"skipped: \S+photos.zip/photos/a.JPG.webp is "),
    ],
)
def test_damaged_packed_files(packed: Path, caplog: pytest.LogCaptureFixture, kind: str, message: str) -> None:
    found = PictureSet.open([packed], None, 100)
    data = bytearray(packed.read_bytes())
    if kind == "encrypted":
        data[6] |= 1
    elif kind == "changed":
        data[:4] = b"none"
    elif kind == "cut":
        del data[100:]
    elif kind == "damaged":
        name = struct.unpack_from("<H", data, 26)[0]
        data[30 + name : 30 + name + 12] = bytes(12)
    packed.unlink()
    if kind != "gone":
        packed.write_bytes(data)
    assert found.read(0) is None
    assert found.skipped == 1
    (record,) = caplog.records
    assert re.match(message, record.getMessage())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere", "--out", "o.zip"], "impasto: nowhere does not exist; give a folder of pictures or a packed file"),
        (["photos", "--out", "missing/o.zip"], "impasto: cannot write missing/o.zip: [Errno 2] No such file"),
        (["photos", "--out", "photos"], "impasto: cannot write photos: it is a folder; give a file name with --out"),
        (["photos", "--out", "o.zip", "--quality", "0"], "impasto: --quality is 0; it must be 1 to 100"),
        (["photos", "--out", "o.zip", "--exclude", "no.txt"], "impasto: cannot read --exclude no.txt: "),
        (["bad", "--out", "o.zip"], "impasto: none of 4 pictures could be packed; see the log for why"),
        (["--out", "o.zip"], "impasto: there are no pictures in no folder; give folders"),
    ],
)
def test_what_cannot_be_packed(
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").mkdir()
    spoil(tmp_path / "bad")
    assert pack(*arguments, "--workers", 0) in (1, 2)
    assert capfd.readouterr().err.splitlines()[-1].startswith(line)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "photos"]
