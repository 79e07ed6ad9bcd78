"""After `kill -9` at any moment, no file is partial, nothing is painted twice, and nothing is forgotten."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str]]
Report = Callable[..., list[dict[str, Any]]]
Contents = Callable[..., dict[str, bytes]]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX")


def make_photos(folder: Path, count: int, broken: int, seed: int = 0) -> set[str]:
    """Write noise in a few sizes and formats, some of it broken in several ways. Return the broken files' names."""
    rng, folder_of = np.random.default_rng(seed), ("", "a", "a/b")
    bad = set(rng.choice(count, broken, replace=False).tolist())
    found = set()
    for i in range(count):
        height, width = (int(n) for n in rng.choice((32, 48, 64), 2))
        suffix = ("jpg", "png", "webp")[i % 3]
        path = folder / folder_of[i % 3] / f"{i:04d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        if i in bad:
            data = path.read_bytes()
            path.write_bytes((b"", data[: len(data) // 3], b"no picture " * 9, b"\0" * 300)[i % 4])
            found.add(str(path))
    return found


def begin(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "impasto", "batch", *arguments, "--device", "cpu"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def lines(path: str) -> int:
    return Path(path).read_bytes().count(b"\n") if Path(path).exists() else 0


def check_whole(folder: str) -> None:
    """Check that every file with a painting's name is complete, whenever it is looked at."""
    for path in Path(folder).rglob("*-*.*"):
        if path.suffix in (".jpg", ".png", ".webp") and not path.name.startswith("."):
            with Image.open(path) as image:
                image.load()


def test_killed_once(here: Path, run: Run, report: Report, contents: Contents) -> None:
    make_photos(Path("many"), 30, 2)
    process = begin("many", "--style", "udnie", "--out", "out", "--workers", "1", "--per-pass", "1")
    while lines("out/report.jsonl") < 5:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    check_whole("out")
    Path("out/.impasto-00.part").touch()  # what a kill may leave
    kept = {p: p.stat().st_mtime_ns for p in Path("out").rglob("*-udnie.*")}
    assert run("many", "--style", "udnie", "--out", "out")[0] == 3
    assert {p: p.stat().st_mtime_ns for p in kept}.items() >= kept.items()
    assert run("many", "--style", "udnie", "--out", "whole")[0] == 3
    assert contents() == contents("whole")
    assert Counter(e["out"] for e in report()).most_common(1)[0][1] == 1


@pytest.mark.slow
def test_two_thousand_pictures(here: Path, report: Report, contents: Contents) -> None:
    bad = make_photos(Path("many"), 2000, 60)
    assert begin("many", "--style", "udnie", "--out", "out").wait() == 3
    entries = report()
    assert len(entries) == 2000
    assert {e["path"] for e in entries if e["outcome"] == "failed"} == bad
    assert all(e["reason"] and "\n" not in e["reason"] for e in entries if e["outcome"] == "failed")
    assert {e["out"] for e in entries if e["outcome"] == "painted"} == set(contents())
    assert len(contents()) == 1940
    check_whole("out")


@pytest.mark.slow
@pytest.mark.parametrize("out", ["out", "out.tar"])
def test_killed_twenty_times(here: Path, report: Report, contents: Contents, out: str) -> None:
    bad = make_photos(Path("many"), 600, 18)
    command = ["many", "--style", "udnie", "great-wave", "--out"]
    path, rng = ("out/report.jsonl" if out == "out" else "out.jsonl"), random.Random(0)
    for _ in range(20):
        process = begin(*command, out, "--per-pass", "2")
        begun, more = lines(path), rng.randint(0, 40)
        while lines(path) < begun + more and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if out == "out":
            check_whole(out)
    assert begin(*command, out).wait() == 3
    assert begin(*command, "whole").wait() == 3
    entries = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    times = Counter(e["out"] for e in entries)
    assert len(times) == 1200
    assert max(times.values()) == 1
    assert {e["path"] for e in entries if e["outcome"] == "failed"} == bad
    if out == "out":
        assert contents(out) == contents("whole")
        return
    import tarfile

    with tarfile.open(out) as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive}  # pyright: ignore[reportOptionalMemberAccess]
        assert len(archive.getnames()) == len(found)
    assert found == contents("whole")
