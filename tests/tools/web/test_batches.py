"""Tests of batches over HTTP: archives are painted, and archives that should not be unpacked are refused."""

import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from impasto.batch.painters import Painter
from impasto.errors import ImpastoError
from impasto.image.read import read_image, read_record
from impasto.options import OutputOptions, ServeOptions, StylizeOptions
from impasto.tools.job import PaintJob
from impasto.tools.web.batches import BatchJob, clean_path, is_photo, unpack
from impasto.tools.web.engine import Engine
from impasto.tools.web.jobs import PictureJob

Until = Callable[..., Any]
LIMITS = ServeOptions(max_upload=0.5, max_batch=4)


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def send(client: TestClient, archive: bytes, **data: Any) -> Any:
    return client.post(
        "/v1/batches", files={"photos": ("p.zip", archive)}, data={"style": "udnie", "size": "64", **data}
    )


def test_a_batch(client: TestClient, engine: Engine, picture: bytes, wait: Until) -> None:
    photos = {
        "a.png": picture,
        "../../deep/b.png": picture,
        "bad.jpg": b"no picture",
        "notes.txt": b"",
        "__MACOSX/._a.png": b"",
    }
    answer = send(client, packed(photos), style=["udnie", "great-wave"])
    assert answer.status_code == 201, answer.text
    at = answer.headers["location"]
    assert at == f"/v1/batches/{answer.json()['id']}"
    wait(lambda: client.get(at).json()["status"] == "done")
    view = client.get(at).json()
    assert (view["total"], view["done"], view["failed"]) == (6, 4, 2)
    with zipfile.ZipFile(io.BytesIO(client.get(f"{at}/result").content)) as result:
        painted = {n: result.read(n) for n in result.namelist()}
    entries = [json.loads(line) for line in painted.pop("report.jsonl").splitlines()]
    assert set(painted) == {"a-udnie.png", "a-great-wave.png", "deep/b-udnie.png", "deep/b-great-wave.png"}
    assert {(e["path"], e["outcome"]) for e in entries} == {
        ("a.png", "painted"), ("deep/b.png", "painted"), ("bad.jpg", "failed")
    }  # fmt: skip
    assert str(engine.folder) not in json.dumps(entries)
    assert {e["reason"] for e in entries if e["reason"]} == {
        "bad.jpg is not a picture of a known format; convert it to PNG or JPEG"
    }
    assert read_image(io.BytesIO(painted["a-udnie.png"])).size == (57, 64)
    record = read_record(io.BytesIO(painted["a-udnie.png"]))
    assert record is not None
    assert record["options"]["quality"] == "instant"
    # It is not a painting's job, and it can be removed.
    assert client.get(f"/v1/jobs/{view['id']}").status_code == 404
    assert client.delete(at).status_code == 204
    assert client.get(at).status_code == 404
    assert not list(engine.folder.glob("job-*"))


def test_an_uploaded_style_and_a_pattern(client: TestClient, picture: bytes, wait: Until) -> None:
    files = [("photos", ("p.zip", packed({"a.png": picture}))), ("style_file", ("mine.png", picture))]
    answer = client.post("/v1/batches", files=files, data={"size": "64", "name": "{style}/{stem}.webp"})
    assert answer.status_code == 201, answer.text
    at = answer.headers["location"]
    wait(lambda: client.get(at).json()["status"] == "done")
    with zipfile.ZipFile(io.BytesIO(client.get(f"{at}/result").content)) as result:
        assert sorted(result.namelist()) == ["mine/a.webp", "report.jsonl"]
        assert json.loads(result.read("report.jsonl"))["style"] == "mine.png"


def test_stopped(client: TestClient, picture: bytes, wait: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    paint = Painter.paint

    def stopping(self: Painter, photos: Any) -> Any:
        found = paint(self, photos)
        client.post(f"{at}/cancel")
        return found

    wide = io.BytesIO()
    with zipfile.ZipFile(wide, "w") as archive:
        for i in range(40):
            archive.writestr(f"{i}.png", picture)
    monkeypatch.setattr("impasto.batch.painters.MOST_PER_PASS", 1)
    at = ""
    monkeypatch.setattr(Painter, "paint", stopping)
    answer = send(client, wide.getvalue())
    at = answer.headers["location"]
    wait(lambda: client.get(at).json()["status"] == "stopped")
    view = client.get(at).json()
    assert 0 < view["done"] < 40
    assert view["note"] == f"stopped: {40 - view['done']} paintings are missing"
    with zipfile.ZipFile(io.BytesIO(client.get(f"{at}/result").content)) as result:
        assert len(result.namelist()) == view["done"] + 1


@pytest.mark.parametrize(
    ("archive", "data", "reason"),
    [
        (b"no archive", {}, "are not a ZIP archive that can be unpacked"),
        (packed({}), {}, "the archive has no pictures"),
        (packed({"a.txt": b""}), {}, "the archive has no pictures"),
        (packed({"a.png": b"1"})[:-30], {}, "are not a ZIP archive"),
        (packed({"a.png": b"1"}), {"name": "{stem"}, "--name {stem"),
        (packed({"a.png": b"1", "b.png": b"1"}), {"name": "{style}.png"}, "would both be called udnie.png"),
        (packed({"a.png": b"1", "./a.png": b"2"}), {}, "two files of the archive are called a.png"),
        (packed({f"{i}.png": b"" for i in range(101)}), {}, "at most 100 paintings"),
        (packed({f"{i}.png": b"" for i in range(60)}), {"style": ["udnie", "great-wave"]}, "has 120 paintings"),
        (packed({"a.png": b"1"}), {"size": "512"}, "at most 256 pixels"),
        (packed({"a.png": b"1"}), {"style": "udny"}, "is not a built-in style"),
        (packed({"a.png": b"1"}), {"colour": "red"}, "there is no field 'colour'"),
        (packed({"a.jpg": b"1"}), {"bits": "16"}, "JPEG has 8 bits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(client: TestClient, engine: Engine, archive: bytes, data: dict[str, Any], reason: str) -> None:
    before = list(engine.folder.glob("job-*"))
    answer = send(client, archive, **data)
    assert answer.status_code == 422, answer.text
    assert reason in answer.json()["error"]
    assert str(engine.folder) not in answer.text
    assert list(engine.folder.glob("job-*")) == before


def test_photos_beyond_the_limits_fail_alone(client: TestClient, picture: bytes, wait: Until) -> None:
    answer = client.post(
        "/v1/batches",
        files={"photos": ("p.zip", packed({"a.png": picture}))},
        data={"style": "udnie", "scale": "16"},
    )
    at = answer.headers["location"]
    wait(lambda: client.get(at).json()["status"] == "done")
    with zipfile.ZipFile(io.BytesIO(client.get(f"{at}/result").content)) as result:
        (entry,) = [json.loads(line) for line in result.read("report.jsonl").splitlines()]
    assert entry["outcome"] == "failed"
    assert "this server paints at most 256 pixels a side" in entry["reason"]


def unpacked(data: bytes, folder: Path, limits: ServeOptions = LIMITS) -> list[str]:
    (folder / "p.zip").write_bytes(data)
    unpack(folder / "p.zip", folder / "photos", limits)
    return sorted(p.relative_to(folder / "photos").as_posix() for p in (folder / "photos").rglob("*") if p.is_file())


def test_nothing_is_unpacked_outside_the_folder(tmp_path: Path) -> None:
    names = ["/etc/a.png", "..\\..\\b.png", "C:\\Windows\\c.png", "x/" * 40 + "d.png"]
    found = unpacked(packed(dict.fromkeys(names, b"1")), tmp_path)
    assert found == ["C/Windows/c.png", "b.png", "etc/a.png", "x/x/x/x/x/x/x/d.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.zip", "photos"]


def test_bombs(tmp_path: Path) -> None:
    zeros = bytes(2_100_000)
    with pytest.raises(ImpastoError, match="unpacks to more than 2 MB"):
        unpacked(packed({"a.png": zeros}, zipfile.ZIP_DEFLATED), tmp_path)
    with pytest.raises(ImpastoError, match="compressed far more than a picture can be"):
        unpacked(packed({"a.png": zeros[:1_500_000]}, zipfile.ZIP_DEFLATED), tmp_path)
    # A size that is a lie: what is beyond it is not read.
    data = bytearray(packed({"a.png": zeros[:1_500_000]}, zipfile.ZIP_DEFLATED))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    with pytest.raises(ImpastoError, match="are not a ZIP archive that can be unpacked"):
        unpacked(bytes(data), tmp_path)
    assert all(p.stat().st_size <= 1000 for p in (tmp_path / "photos").rglob("*.png"))
    with pytest.raises(ImpastoError, match="too many files"):
        unpacked(packed({f"{i}.txt": b"" for i in range(2000)}), tmp_path)


def test_encrypted(tmp_path: Path) -> None:
    data = bytearray(packed({"a.png": b"1"}))
    for begin, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(begin) + flags] |= 1
    with pytest.raises(ImpastoError, match="the archive is encrypted"):
        unpacked(bytes(data), tmp_path)


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.png", "a.png"),
        ("./x//y/../a b.PNG", "x/y/a b.PNG"),
        ("~/$HOME/`a`.png", "photo/HOME/a-.png"),
        ("é.png", "é.png"),
    ],
)
def test_names(name: str, clean: str) -> None:
    assert clean_path(name) == clean


@pytest.mark.parametrize("name", ["", "/", "a", ".a.png", ".git/a.png", "__MACOSX/a.png", "a.png/", "a.zip"])
def test_what_is_no_photo(name: str) -> None:
    assert is_photo(name) == (name == "a.png/")  # a folder of that name holds nothing


def test_a_batch_counts_as_its_paintings(tmp_path: Path) -> None:
    engine = Engine(ServeOptions(keep=3))
    paint = PaintJob("a.png", ("udnie",), StylizeOptions(), OutputOptions())
    tasks: Any = [None] * 3
    jobs = [
        PictureJob(folder=tmp_path / "1", paint=paint),
        PictureJob(folder=tmp_path / "2", paint=paint),
        BatchJob(folder=tmp_path / "3", paint=paint, tasks=tasks),
    ]
    for i, job in enumerate(jobs):
        job.ended = time.monotonic() + i
        engine._jobs[job.id] = job
    engine._tidy()
    assert list(engine._jobs.values()) == jobs[2:]
    engine.options = ServeOptions(keep=1)
    engine._tidy()
    assert list(engine._jobs.values()) == jobs[2:]  # the newest stays, however many paintings it has
    engine.close()
