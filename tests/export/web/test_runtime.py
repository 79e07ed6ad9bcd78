"""Tests of finding onnxruntime-web: in a folder, in a package file, by a verified download, or with an error."""

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from impasto.errors import ImpastoError, OptionError, WeightsError
from impasto.export.web import runtime
from impasto.export.web.runtime import CPU, GPU, find_runtime, write_runtime


@pytest.fixture
def package(fake_runtime: Path, tmp_path: Path) -> Path:
    """Make a package file like npm's."""
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for file in fake_runtime.iterdir():
            archive.add(file, f"package/dist/{file.name}")
    return path


def test_folders_and_package_files_give_the_same(fake_runtime: Path, package: Path, tmp_path: Path) -> None:
    found = []
    for i, source in enumerate((fake_runtime, fake_runtime.parent, package)):
        folder = tmp_path / str(i)
        folder.mkdir()
        write_runtime(source, folder)
        found.append({p.name: p.read_bytes() for p in folder.iterdir()})
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == len(CPU) + len(GPU) + 1
    assert b"Copyright (c) Microsoft" in found[0]["LICENSE.txt"]
    packed = found[0]["ort-wasm-simd-threaded.wasm.bin"]
    assert gzip.decompress(packed) == (fake_runtime / "ort-wasm-simd-threaded.wasm").read_bytes()


def test_what_is_missing_is_named(fake_runtime: Path, tmp_path: Path) -> None:
    for name in CPU:
        (tmp_path / name).write_bytes((fake_runtime / name).read_bytes())
    (tmp_path / "out").mkdir()
    with pytest.raises(ImpastoError, match=r"has no ort\.jspi\.min\.mjs; give the package onnxruntime-web"):
        write_runtime(tmp_path, tmp_path / "out")
    broken = tmp_path / "broken.tgz"
    broken.write_bytes(b"not a package")
    with pytest.raises(ImpastoError, match=r"broken\.tgz cannot be read; give a package file"):
        write_runtime(broken, tmp_path / "out")
    with pytest.raises(OptionError, match="there is no such file or folder"):
        find_runtime(str(tmp_path / "nothing"))


def test_nothing_is_downloaded_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(OptionError, match="--runtime PATH, or --runtime fetch to download it"):
        find_runtime(None)
    monkeypatch.setenv("IMPASTO_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"offline mode is on; put https://.* \(sha512 ab4cbe26baedba45…\) there"):
        find_runtime("fetch")


def test_a_download_is_verified_and_used_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: Path, serve: Callable[..., Any]
) -> None:
    from impasto.models.download import file_digest

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = serve(package.parent)
    monkeypatch.setattr(runtime, "URL", f"http://127.0.0.1:{server.server_port}/{package.name}")
    with pytest.raises(WeightsError, match=r"is not the expected file: its sha512 is .*discarded"):
        find_runtime("fetch")
    assert not runtime.fetched().exists()
    monkeypatch.setattr(runtime, "SHA512", file_digest(package, "sha512"))
    assert find_runtime("fetch") == runtime.fetched()
    assert runtime.fetched().read_bytes() == package.read_bytes()
    server.shutdown()
    assert find_runtime(None) == find_runtime("fetch") == runtime.fetched()
