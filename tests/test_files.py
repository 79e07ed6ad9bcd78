"""A file is written completely or not at all."""

import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from impasto.files import atomic_write

FullDisk = Callable[[], AbstractContextManager[None]]


def write(path: Path, data: bytes, error: BaseException | None = None) -> None:
    with atomic_write(path) as file:
        file.write(data)
        if error is not None:
            raise error


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_it_replaces_the_old_file_at_the_end(path: Path) -> None:
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert contents(path.parent) == {"file": b"new"}


@pytest.mark.parametrize("error", [RuntimeError(), KeyboardInterrupt(), OSError(5, "Input/output error")])
@pytest.mark.parametrize("before", [{}, {"file": b"old"}])
def test_after_an_error_the_old_file_stays_alone(path: Path, before: dict[str, bytes], error: BaseException) -> None:
    for name, data in before.items():
        (path.parent / name).write_bytes(data)
    with pytest.raises(type(error)):
        write(path, b"new", error)
    assert contents(path.parent) == before


def test_a_full_disk(path: Path, full_disk: FullDisk) -> None:
    path.write_bytes(b"old")
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write(path, bytes(1000))
    assert contents(path.parent) == {"file": b"old"}


def test_a_folder_is_not_replaced(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match="file"):
        write(path, b"new")
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_missing(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write(path / "file", b"new")


def test_two_writers_of_one_path(path: Path) -> None:
    with atomic_write(path) as one:
        write(path, b"the other")
        one.write(b"the last")
    assert contents(path.parent) == {"file": b"the last"}


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_permissions(path: Path) -> None:
    old = os.umask(0o027)
    try:
        write(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write(path, b"newer")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(old)


def test_the_longest_name(tmp_path: Path) -> None:
    write(tmp_path / ("a" * 255), b"new")
    assert contents(tmp_path) == {"a" * 255: b"new"}
