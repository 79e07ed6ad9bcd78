"""No verb fails because the console's encoding lacks a character."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from impasto.stylizers.learn import BUNDLED

SLOW = [pytest.param(encoding, marks=pytest.mark.slow) for encoding in ("cp1252", "UTF-8")]
ENCODINGS = ["cp932", "ascii", "latin-1", *SLOW]
"""One with more than a byte a character, one without accents, one with them; the others are like these."""
NAME = "caf\u00e9\u6f22"
BRIEF = ["--size", "48", "--iterations", "1"]


def run(*args: str, **environment: str) -> tuple[int, bytes, bytes]:
    """Return exit code, standard output and standard error of the program in its own process."""
    command = [sys.executable, "-m", "impasto", *args]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment})
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    assert b"Error ---" not in done.stderr  # of a log that cannot be written
    return done.returncode, done.stdout, done.stderr


SEVERAL = """
import json, sys
from impasto.cli import main
for line in json.loads(sys.argv[1]):
    code = main(line)
    for stream in (sys.stdout, sys.stderr):
        print(f"\\0{code}\\0", end="", file=stream, flush=True)
"""


def run_several(*lines: list[str], **environment: str) -> list[tuple[int, bytes, bytes]]:
    """Return the same for several command lines, in one process: most of the time is taken by its start.

    The names of files arrive as the bytes that they would be on the command line.
    """
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, json.dumps(lines, ensure_ascii=False)],
        capture_output=True,
        check=True,
        env={**os.environ, **environment},
    )
    assert b"Error ---" not in done.stderr
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    out, err = (stream.split(b"\0")[:-1] for stream in (done.stdout, done.stderr))
    assert len(out) == len(err) == 2 * len(lines)
    return list(zip(map(int, out[1::2]), out[::2], err[::2], strict=True))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(next(BUNDLED.glob("*.webp")), tmp_path / f"{NAME}.webp")
    return tmp_path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tables_and_help(encoding: str) -> None:
    lines = ["styles"], ["models"], ["--help"], ["stylize", "--help"], ["train", "network", "--help"]
    found = run_several(*lines, PYTHONIOENCODING=encoding)
    assert [code for code, _, _ in found] == [0] * 5
    assert all(out.decode(encoding) for _, out, _ in found)
    plain = "\u00e9" if encoding not in ("cp932", "ascii") else "?"
    assert f"\tArl{plain}siennes (Mistral)\t" in found[0][1].decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_wrong_usage_reads_the_same(encoding: str) -> None:
    code, _, err = run("stylize", "--sise", "3", PYTHONIOENCODING=encoding)
    assert code == 2
    assert err.decode(encoding) == (
        "impasto: Unrecognized options: --sise, 3; did you mean --size?; see `impasto --help`\n"
    )


@pytest.mark.parametrize(
    "encoding", ["cp932", *(pytest.param(e, marks=pytest.mark.slow) for e in ("ascii", "latin-1")), *SLOW]
)
def test_names_of_files(here: Path, encoding: str) -> None:
    """This covers a painting, its record (which is JSON in every encoding), a style file and an error."""
    photo, out = f"{NAME}.webp", f"{NAME}.png"
    painted, told, made, missing = run_several(
        ["stylize", photo, "udnie", "-o", out, *BRIEF],
        ["info", out],
        ["train", "style-files", photo],
        ["stylize", photo, f"{NAME}.jpg"],
        PYTHONIOENCODING=encoding,
    )
    assert painted[0] == 0, painted
    assert told[0] == 0
    assert json.loads(told[1].decode(encoding))["content"]["name"] == photo
    assert made[0] == 0
    assert made[1].decode(encoding).endswith(".style.safetensors\n")
    assert missing[0] == 1
    assert missing[2].count(b"\n") == 1


def test_the_locale_c(here: Path) -> None:
    """File names that are bytes but not text are printed as these bytes."""
    c = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    photo, out = f"{NAME}.webp", f"{NAME}.png"
    listed, helped, painted, told, made, missing = run_several(
        ["styles"],
        ["--help"],
        ["stylize", photo, "udnie", "-o", out, *BRIEF, "--run", NAME],
        ["info", out],
        ["train", "style-files", photo],
        ["info", f"{NAME}.jpg"],
        **c,
    )
    assert [listed[0], helped[0], painted[0], told[0]] == [0] * 4, painted
    assert Path(out).is_file()
    assert Path(NAME).is_dir()
    assert made[:2] == (0, f"{NAME}.style.safetensors\n".encode())
    assert (missing[0], missing[2].count(b"\n")) == (1, 1)
