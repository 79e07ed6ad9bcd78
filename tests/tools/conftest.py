"""Fixtures: a folder with pictures to paint, and the command line in this process, on one thread."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from impasto.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo_file: Callable[[str], Path]) -> Path:
    """Make a working folder with photo.png (a cup, 96 px), style.jpg (a cat), other.png and a half white mask.png."""
    monkeypatch.chdir(tmp_path)
    for name, source, size in (("photo.png", "coffee", 96), ("style.jpg", "chelsea", 96), ("other.png", "rocket", 80)):
        with Image.open(photo_file(source)) as image:
            image.thumbnail((size, size))
            image.convert("RGB").save(name, quality=95)
    mask = Image.new("L", (45, 30))
    mask.paste(255, (0, 0, 22, 30))
    mask.save("mask.png")
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Return `run("stylize", ...)`, which returns exit code, standard output and standard error."""

    def call(*args: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(a) for a in args])
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return code, out, err

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield call
    torch.set_num_threads(threads)
