"""Tests of where paintings go, and of what a killed batch leaves there."""

import tarfile
from pathlib import Path

import pytest

from impasto.batch.outputs import FolderOutput, TarOutput, complete_members, open_output, write
from impasto.errors import OptionError, PictureError

FILES = {"a.png": b"a" * 700, "deep/b.jpg": b"b" * 512, "c" * 150 + ".png": b"c", "d.png": b""}


def test_a_tar_file_continues_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = TarOutput(tmp_path / "whole.tar")
    assert whole.begin(FILES) == set()
    for name, data in FILES.items():
        whole.add(name, data, [(".txt", name.encode())])
    growing = whole.growing.read_bytes()
    whole.finish()
    expected = whole.path.read_bytes()
    with tarfile.open(whole.path) as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive}  # pyright: ignore[reportOptionalMemberAccess]
    assert {k: v for k, v in found.items() if not k.endswith(".txt")} == FILES
    assert found["deep/b.txt"] == b"deep/b.jpg"
    for cut in [*range(0, len(growing), 97), len(growing) - 1, len(growing)]:
        part = TarOutput(tmp_path / f"{cut}.tar")
        part.growing.write_bytes(growing[:cut])
        there = part.begin(FILES)
        assert there == set(list(FILES)[: len(there)])
        for name, data in FILES.items():
            if name not in there:
                part.add(name, data, [(".txt", name.encode())])
        part.finish()
        assert part.path.exists()
        assert not part.growing.exists()
        with tarfile.open(part.path) as archive:
            assert {n for n in archive.getnames() if not n.endswith(".txt")} == set(FILES)
        if part.path.read_bytes() != expected:  # only what goes with a painting may be there twice, if it was cut there
            assert len(part.path.read_bytes()) > len(expected)


def test_more_paintings_are_added_to_a_finished_tar_file(tmp_path: Path) -> None:
    first = TarOutput(tmp_path / "p.tar")
    first.add("a.png", b"a")
    first.finish()
    again = TarOutput(tmp_path / "p.tar")
    assert again.begin(["a.png", "b.png"]) == {"a.png"}
    again.finish()  # nothing was added
    again.begin(["a.png", "b.png"])
    again.add("b.png", b"b")
    again.finish()
    with tarfile.open(tmp_path / "p.tar") as archive:
        assert archive.getnames() == ["a.png", "b.png"]


def test_another_file_is_no_tar_file(tmp_path: Path) -> None:
    path = tmp_path / "p.tar"
    path.write_bytes(b"notes")
    with pytest.raises(OptionError, match=r"p.tar is there and is not a tar file"):
        TarOutput(path).begin([])
    assert path.read_bytes() == b"notes"
    path.write_bytes(b"")
    with pytest.raises(OptionError, match="is not a tar file"):
        TarOutput(path).begin([])


def test_complete_members_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert complete_members(tmp_path / "x") == (set(), 0)


def test_a_folder(tmp_path: Path) -> None:
    out = open_output(str(tmp_path / "out"))
    assert isinstance(out, FolderOutput)
    assert out.begin(["deep/a.png"]) == set()
    target = out.target("deep/a.png")
    assert target is not None
    write(b"painting", target)
    (tmp_path / "out" / "deep" / ".impasto-0123.part").touch()
    (tmp_path / "out" / "mine.part").touch()
    assert out.begin(["deep/a.png", "b.png"]) == {"deep/a.png"}
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["a.png", "deep", "mine.part"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PictureError, match="cannot be written"):
        write(b"painting", str(tmp_path / "file" / "a.png"))
