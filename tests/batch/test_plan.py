"""Tests of the plan: which photograph is painted in which style, and what its painting is called."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from impasto.batch.photos import Photo, find_photos
from impasto.batch.plan import Look, Request, Task, make_plan, painting_name
from impasto.errors import OptionError
from impasto.options import INSTANT, BatchOptions, StylizeOptions

PATTERN = BatchOptions().name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with photos, one of them in a subfolder and one hidden, and two styles."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.jpg", "photos/b.png", "photos/deep/a.JPG", "photos/.hidden.jpg", "photos/notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())
    Path("styles").mkdir()
    for name in ("x.jpg", "y.style.safetensors"):
        Path("styles", name).touch()
    return tmp_path


def plan(
    *photos: str, style: tuple[str, ...] = ("udnie",), name: str = PATTERN, out: str = "out", pairs: bool = False
) -> list[Task]:
    return make_plan(Request(photos, style, out, name, pairs), INSTANT)


def names(*photos: str, **more: object) -> list[str]:
    return [task.out for task in plan(*photos, **more)]  # pyright: ignore[reportArgumentType]


def test_a_folder_is_searched_and_its_folders_are_kept(here: Path) -> None:
    assert names("photos") == ["a-udnie.jpg", "b-udnie.png", "deep/a-udnie.JPG"]
    assert names("photos", style=("udnie", "styles/x.jpg"))[:2] == ["a-udnie.jpg", "a-x.jpg"]


def test_files_have_their_folders_below_the_one_above_all(here: Path) -> None:
    assert names("photos/a.jpg") == ["a-udnie.jpg"]
    assert names("photos/a.jpg", "photos/deep/a.JPG") == ["a-udnie.jpg", "deep/a-udnie.JPG"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("photos/*.jpg", ["a-udnie.jpg"]),
        ("photos/**/*.[jJ]*", ["a-udnie.jpg", "deep/a-udnie.JPG"]),
        ("*/deep/*", ["photos/deep/a-udnie.JPG"]),
    ],
)
def test_globs(here: Path, pattern: str, found: list[str]) -> None:
    assert names(pattern) == found


def test_paintings_inside_the_folder_of_photos_are_not_photos(here: Path) -> None:
    Path("photos/painted").mkdir()
    Path("photos/painted/a-udnie.jpg").touch()
    assert names("photos", out="photos/painted") == ["a-udnie.jpg", "b-udnie.png", "deep/a-udnie.JPG"]
    assert names("photos/**/*.jpg", out="photos/painted") == ["a-udnie.jpg"]


def test_styles_of_a_folder(here: Path) -> None:
    assert names("photos/b.png", style=("styles",)) == ["b-x.png", "b-y.png"]
    assert names("photos/b.png", style=("styles/*.jpg", "udnie")) == ["b-x.png", "b-udnie.png"]


def test_pairs(here: Path) -> None:
    assert names("photos/a.jpg", "photos/b.png", style=("styles",), pairs=True) == ["a-x.jpg", "b-y.png"]
    with pytest.raises(OptionError, match="there are 3 photos and 2 styles"):
        plan("photos", style=("styles",), pairs=True)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (PATTERN, "deep/er/a.b-udnie.heic"),
        ("{style}/{dir}/{stem}.png", "udnie/deep/er/a.b.png"),
        ("/x//./{stem}.webp", "x/a.b.webp"),
        ("{{{stem}}}.png", "{a.b}.png"),
    ],
)
def test_names(pattern: str, name: str) -> None:
    found = painting_name(Photo("photos/deep/er/a.b.heic", "deep/er"), Look("udnie", INSTANT), pattern)
    assert found == name.replace(".heic", ".png")  # HEIC is not written


def test_a_name_never_leaves_the_folder() -> None:
    for folder, pattern in (("..", PATTERN), ("a/../..", PATTERN), ("", "../{stem}.png"), ("", "a\\..\\{stem}.png")):
        with pytest.raises(OptionError, match="change --name"):
            painting_name(Photo("x.png", folder), Look("udnie", INSTANT), pattern)


@pytest.mark.parametrize(
    "pattern", ["{stem", "{name}.png", "{stem.upper}.png", "{stem!r}.png", "{stem:>9}.png", "{}", "", "/"]
)
def test_patterns_that_make_no_sense(pattern: str) -> None:
    with pytest.raises(OptionError, match="--name") as caught:
        BatchOptions(name=pattern)
    assert "\n" not in str(caught.value)


def test_clashes_are_refused(here: Path) -> None:
    with pytest.raises(
        OptionError, match=r"photos/a.jpg in udnie and photos/deep/a.JPG in udnie would both be called a.png"
    ):
        plan("photos", name="{stem}.png")
    with pytest.raises(OptionError, match=r"both be called a-udnie\.jpg"):
        plan("photos/a.jpg", "photos/a.jpg")
    with pytest.raises(OptionError, match="both be called"):
        plan("photos/b.png", style=("udnie", "udnie"))


def test_a_photo_is_never_replaced(here: Path) -> None:
    with pytest.raises(OptionError, match=r"a\.jpg in photos is a photo of this batch"):
        plan("photos/a.jpg", name="{stem}.{ext}", out="photos")
    os.symlink("photos", "linked")
    with pytest.raises(OptionError, match="is a photo of this batch"):
        plan("photos/a.jpg", name="{stem}.{ext}", out="linked")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"photos": ("gone.jpg",)}, "gone.jpg does not exist"),
        ({"photos": ("styles",), "style": ()}, "no style given"),
        ({"photos": ()}, "no photos given"),
        ({"photos": ("photos/*.tif",)}, r"photos/\*.tif has no pictures"),
        ({"photos": ("photos",), "name": "{stem}.gif"}, "a.gif has no suffix that can be written"),
        ({"photos": ("photos",), "style": ("photos/deep/none*",)}, "has no pictures and no style files"),
    ],
)
def test_what_is_refused(here: Path, arguments: dict[str, object], message: str) -> None:
    photos: tuple[str, ...] = arguments.pop("photos")  # pyright: ignore[reportAssignmentType]
    with pytest.raises(OptionError, match=message) as caught:
        plan(*photos, **arguments)  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(caught.value)


def tar(path: str, members: dict[str, bytes], mode: str = "w") -> str:
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_tar(here: Path) -> None:
    members = {
        "./d/1.jpg": b"one",
        "d/1.cls": b"7",
        "2.seg.png": b"two",
        "2.txt": b"words",
        "notes.md": b"",
        "../e/3.png": b"3",
    }
    photos = find_photos([tar("p.tar", members)])
    assert [(p.source, p.folder) for p in photos] == [
        ("p.tar/d/1.jpg", "d"),
        ("p.tar/2.seg.png", ""),
        ("p.tar/../e/3.png", "e"),
    ]
    data = [p.open().read() for p in photos]  # pyright: ignore[reportAttributeAccessIssue]
    assert data == [b"one", b"two", b"3"]
    assert [[(suffix, span.read()) for suffix, span in p.beside] for p in photos] == [
        [(".cls", b"7")],
        [(".txt", b"words")],
        [],
    ]
    assert names("p.tar") == ["d/1-udnie.jpg", "2.seg-udnie.png", "e/3-udnie.png"]
    with pytest.raises(OptionError, match=r"--out p.tar is one of the photos"):
        plan("p.tar", out="p.tar")


def test_tar_files_that_are_none(here: Path) -> None:
    Path("no.tar").write_bytes(b"no tar file" * 100)
    for name in ("no.tar", tar("packed.tar", {"a.png": b"1"}, "w:gz"), "gone.tar"):
        with pytest.raises(OptionError, match=f"{name} cannot be read as a tar file"):
            find_photos([name])


def table(text: str) -> str:
    Path("photos/list.csv").write_text(text)
    return "photos/list.csv"


def test_table(here: Path) -> None:
    lines = "photo, style ,strength,keep-colours,out\na.jpg,udnie,0.5,,\n"
    lines += "deep/a.JPG,../styles/x.jpg,,1,{dir}/{stem}.png\n\nb.png,,,,\n"
    tasks = plan(table(lines), style=("great-wave", "udnie"))
    assert [(t.photo.source, t.look.style, t.out) for t in tasks] == [
        ("photos/a.jpg", "udnie", "a-udnie.jpg"),
        ("photos/deep/a.JPG", "photos/../styles/x.jpg", "deep/a.png"),
        ("photos/b.png", "great-wave", "b-great-wave.png"),
        ("photos/b.png", "udnie", "b-udnie.png"),
    ]
    looks = [t.look.options for t in tasks]
    assert looks[0] == StylizeOptions(quality="instant", strength=0.5)
    assert looks[1] == StylizeOptions(quality="instant", keep_colours=1.0)
    assert looks[2] == looks[3] == INSTANT


def test_table_of_all_kinds_of_values(here: Path) -> None:
    (task,) = plan(table("photo,quality,size,stroke,strict_size,iterations\na.jpg,good,300,1.5,yes,60\n"))
    expected = StylizeOptions(quality="good", size=300, style_scale=1.5, strict_size=True, iterations=60)
    assert task.look.options == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column `photo`"),
        ("a.jpg,udnie\n", "has no column `photo`"),
        ("photo,strenth\na.jpg,1\n", "the column 'strenth', which is unknown; did you mean strength"),
        ("photo,style,style\na.jpg,1,2\n", "the column 'style', twice"),
        ("photo,device\na.jpg,cpu\n", "'device', which is unknown"),
        ("photo,strength\na.jpg,much\n", "line 2: --strength: 'much' is not a number"),
        ("photo,strength\na.jpg,7\n", "line 2: --strength is 7; it must be 0 to 1.5"),
        ("photo,strict_size\na.jpg,maybe\n", "line 2: --strict-size is 'maybe'; it must be true or false"),
        ("photo,style\n,udnie\n", "line 2: no photo"),
        ("photo\na.jpg\na.jpg\n", "would both be called a-udnie.jpg"),
    ],
)
def test_tables_that_make_no_sense(here: Path, text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        plan(table(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_without_styles(here: Path) -> None:
    with pytest.raises(OptionError, match=r"list\.csv, line 2: no style"):
        plan(table("photo\na.jpg\n"), style=())
