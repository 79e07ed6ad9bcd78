"""Tests of object storage, with a server on this machine that speaks S3."""

import json
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from impasto.batch import storage
from impasto.errors import ImpastoError, PictureError

Run = Callable[..., tuple[int, str]]
Contents = Callable[..., dict[str, bytes]]


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """Start an S3 server with an empty bucket `pictures`. Every S3 client of this process and its workers uses it."""
    pytest.importorskip("s3fs")
    moto: Any = pytest.importorskip("moto.server")
    found = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    host, port = found.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        storage._filesystem.cache_clear()
        storage.split("s3://pictures")[0].mkdir("pictures")
        yield
        storage._filesystem.cache_clear()
    found.stop()


def upload(folder: str, address: str) -> None:
    for path in Path(folder).rglob("*"):
        if path.is_file():
            storage.write(f"{address}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_objects(server: None) -> None:
    storage.write("s3://pictures/o/a/b.png", b"0123456789")
    storage.write("s3://pictures/o/.hidden.png", b"")
    storage.write("s3://pictures/o/c.txt", b"")
    assert storage.read("s3://pictures/o/a/b.png") == b"0123456789"
    assert storage.read("s3://pictures/o/a/b.png", 2, 3) == b"234"
    assert list(storage.find("s3://pictures/o", [".png"])) == [("s3://pictures/o/a/b.png", "a")]
    assert list(storage.find("s3://pictures/o/*/*.png", [".png"])) == [("s3://pictures/o/a/b.png", "a")]
    assert list(storage.find("s3://pictures/o/a/b.png", [".png"])) == [("s3://pictures/o/a/b.png", "")]
    assert storage.listed("s3://pictures/o/a") == {"b.png"}
    assert storage.listed("s3://pictures/nothing") == set()
    with pytest.raises(PictureError, match=r"s3://pictures/gone.png does not exist"):
        storage.read("s3://pictures/gone.png")
    with pytest.raises(PictureError, match="cannot be written"):
        storage.write("s3://gone/a.png", b"1")


def test_a_batch(server: None, here: Path, run: Run, contents: Contents) -> None:
    Path("photos/bad.jpg").write_bytes(b"no picture")
    assert run("photos", "--style", "udnie", "--out", "out")[0] == 3
    at = "s3://pictures/batch"
    upload("photos", f"{at}/photos")
    command = [f"{at}/photos", "--style", "udnie", "--out", f"{at}/painted", "--report", "r.jsonl"]
    code, err = run(*command, workers=1)
    assert code == 3, err
    painted = {name: storage.read(f"{at}/painted/{name}") for name in storage.listed(f"{at}/painted")}
    assert painted == contents()
    entries = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    (bad,) = [e for e in entries if e["outcome"] == "failed"]
    assert bad["path"] == f"{at}/photos/bad.jpg"
    assert "is not a picture of a known format" in bad["reason"]
    assert "4 are there already; 1 failed before" in run(*command, workers=1)[1]


def test_a_tar_file(server: None, here: Path, run: Run, contents: Contents) -> None:
    assert run("photos", "--style", "udnie", "--out", "out")[0] == 0
    with tarfile.open("photos.tar", "w") as archive:
        archive.add("photos", ".")
    storage.write("s3://pictures/t/photos.tar", Path("photos.tar").read_bytes())
    assert run("s3://pictures/t/photos.tar", "--style", "udnie", "--out", "other")[0] == 0
    assert contents("other") == contents()


def test_addresses_that_lead_nowhere(server: None, here: Path, run: Run) -> None:
    code, err = run("s3://gone/photos", "--style", "udnie", "--out", "out")
    assert code == 2
    assert err.count("\n") == 1
    assert "s3://gone/photos" in err
    code, err = run("photos", "--style", "udnie", "--out", "s3://gone/painted", "--report", "r.jsonl")
    assert code == 3
    assert "s3://gone/painted" in err


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    storage._filesystem.cache_clear()
    with pytest.raises(ImpastoError, match="nowhere:// is not available"):
        storage.read("nowhere://bucket/a.png")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ImpastoError, match=r'needs fsspec: pip install "impasto\[storage\]"'):
        storage.read("s3://bucket/a.png")
    storage._filesystem.cache_clear()
