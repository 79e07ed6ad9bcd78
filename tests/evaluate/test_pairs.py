"""Tests of lists of pictures, and of results that are found by their names."""

from pathlib import Path

import pytest

from impasto.errors import OptionError
from impasto.evaluate.pairs import Sources, Triple, match, named_results, pictures_of, read_list

CONTENTS = [Path("c/cat.jpg"), Path("c/cat-1.jpg"), Path("c/dog.png")]
STYLES = [Path("s/wave.jpg"), Path("s/1-wave.jpg"), Path("s/cat.png")]


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("cat-wave.png", ("cat.jpg", "wave.jpg")),
        ("cat_wave.jpg", ("cat.jpg", "wave.jpg")),
        ("cat_stylized_wave.jpg", ("cat.jpg", "wave.jpg")),
        ("dog - 1-wave.png", ("dog.png", "1-wave.jpg")),
        ("cat-1-wave.png", ("cat-1.jpg", "wave.jpg")),  # the longer photograph's name
        ("cat.png", ("cat.jpg", "cat.png")),  # named like both
        ("dog-cat.png", ("dog.png", "cat.png")),
        ("catwave.png", None),
        ("dog.png", None),
        ("cat-.png", None),
        ("cow-wave.png", None),
    ],
)
def test_match(name: str, pair: tuple[str, str] | None) -> None:
    result = Path("r", name)
    found, left = match(CONTENTS, STYLES, [result])
    assert left == ([] if pair else [result])
    assert found == ([Triple(Path("c", pair[0]), Path("s", pair[1]), result)] if pair else [])


def test_one_style_or_one_photograph() -> None:
    dog, wave = Path("r/dog.png"), Path("r/wave.png")
    assert match(CONTENTS, STYLES[:1], [dog])[0] == [Triple(CONTENTS[2], STYLES[0], dog)]
    assert match(CONTENTS[:1], STYLES, [wave])[0] == [Triple(CONTENTS[0], STYLES[0], wave)]


def test_names_that_recur() -> None:
    with pytest.raises(OptionError, match=r"two photographs have the same name, a/x.jpg and b/x.png"):
        match([Path("a/x.jpg"), Path("b/x.png")], STYLES, [])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("list.tsv", "a, b.jpg\ts.png\tr.png\n\n/x/y.jpg\ts.png\tr2.png\textra\n"),
        ("list.txt", "\ufeffphotograph\tstyle\tresult\r\na, b.jpg\ts.png\tr.png\r\n/x/y.jpg\ts.png\tr2.png"),
        ("list.csv", 'content,style,result\n"a, b.jpg",s.png,r.png\n/x/y.jpg,s.png,r2.png\n'),
    ],
)
def test_list(tmp_path: Path, file: str, text: str) -> None:
    path = tmp_path / file
    path.write_text(text, encoding="utf-8", newline="")
    assert read_list(path) == [
        [tmp_path / "a, b.jpg", tmp_path / "s.png", tmp_path / "r.png"],
        [Path("/x/y.jpg"), tmp_path / "s.png", tmp_path / "r2.png"],
    ]
    assert read_list(path, columns=2)[0] == [tmp_path / "a, b.jpg", tmp_path / "s.png"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "cannot read the list .*: No such file"),
        (b"", "lists no pictures"),
        (b"photograph\tstyle\tresult\n", "lists no pictures"),
        (b"a\tb\tc\n\na\tb\n", "line 3: give photograph, style and result, separated by tabs"),
        (b"a\t\tc\n", "line 1"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
    ],
)
def test_bad_list(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "list.tsv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(OptionError, match=message):
        read_list(path)


def test_results_to_paint_have_names_of_their_own() -> None:
    pairs = [(Path("a/x.jpg"), Path("s.png")), (Path("b/x.jpg"), Path("s.png")), (Path("y.jpg"), Path("s.png"))]
    assert [t.result.name for t in named_results(pairs, Path("out"))] == ["x-s.png", "x-s.2.png", "y-s.png"]


def test_pictures_of(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.JPG", "notes.txt", "deep/c.webp"):
        (tmp_path / name).touch()
    assert pictures_of(tmp_path, "--content") == [tmp_path / n for n in ("a.JPG", "b.png", "deep/c.webp")]
    assert pictures_of(tmp_path / "b.png", "--content") == [tmp_path / "b.png"]
    with pytest.raises(OptionError, match=r"--style .*nowhere does not exist"):
        pictures_of(tmp_path / "nowhere", "--style")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match=r"--style .*empty holds no pictures"):
        pictures_of(tmp_path / "empty", "--style")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (Sources(), "give a list"),
        (Sources(content=Path("c"), style=Path("s")), "give a list"),
        (Sources(Path("list"), content=Path("c")), "not both"),
    ],
)
def test_sources_that_do_not_fit(sources: Sources, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        sources.painted()


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (Sources(content=Path("c")), "--paint needs --content and --style"),
        (Sources(content=Path("c"), style=Path("s"), result=Path("r")), "leave out --result"),
        (Sources(Path("list"), style=Path("s")), "not both"),
    ],
)
def test_sources_that_cannot_be_painted(sources: Sources, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        sources.to_paint(Path("out"))
