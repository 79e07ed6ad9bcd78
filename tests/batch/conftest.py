"""Fixtures for the tests of batches: small photographs in a folder, and the verb `batch`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from impasto.cli import main

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo_file: Callable[[str], Path]) -> Path:
    """Make photos/cup.jpg (80x56), photos/cat.jpg (80x56), far/cup.png (half transparent) and far/mug.png (opaque)."""
    monkeypatch.chdir(tmp_path)
    Path("photos/far").mkdir(parents=True)
    with Image.open(photo_file("coffee")) as coffee, Image.open(photo_file("chelsea")) as cat:
        coffee.convert("RGB").resize((80, 56)).save("photos/cup.jpg", quality=95)
        cat.convert("RGB").resize((80, 56)).save("photos/cat.jpg", quality=95)
        clear = coffee.convert("RGBA").resize((64, 64))
        clear.paste((0, 0, 0, 0), (0, 0, 32, 64))
        clear.save("photos/far/cup.png")
        coffee.convert("RGBA").resize((64, 80)).save("photos/far/mug.png")
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return `run(...)`: it runs `impasto batch` without worker processes, and returns exit code and standard error."""

    def call(*args: Any, workers: int = 0) -> tuple[int, str]:
        capfd.readouterr()
        code = main(["batch", *map(str, args), "--workers", str(workers), "--device", "cpu"])
        sys.stdout.flush()
        out, err = capfd.readouterr()
        assert out == ""
        return code, err

    return call


@pytest.fixture
def report() -> Callable[..., list[dict[str, Any]]]:
    """Return `report()`, which returns the lines of a report."""

    def read(path: str = "out/report.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]

    return read


@pytest.fixture
def contents() -> Callable[..., dict[str, bytes]]:
    """Return `contents()`, which returns the files in a folder, without the report."""

    def read(folder: str = "out") -> dict[str, bytes]:
        files = (p for p in Path(folder).rglob("*") if p.is_file() and p.name != "report.jsonl")
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}

    return read
