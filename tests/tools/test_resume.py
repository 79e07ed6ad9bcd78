"""A run that was stopped at any moment and resumed gives the result of an uninterrupted one."""

import csv
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from impasto.image.read import read_record
from impasto.stylizers.protocol import Step
from impasto.tools import run as run_module
from impasto.tools.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from impasto.tools.run import RunFolder

Run = Callable[..., tuple[int, str, str]]

EAGER = """
import sys
from impasto.tools import run
run.CHECKPOINT_SECONDS, run.CHECKPOINT_SHARE = {seconds}, 1e9
run.plot_losses = run.plot_pictures = lambda *_: None
from impasto.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The program with a checkpoint every so many seconds."""

COMMON = ["--precision", "float32", "--coarsest", "48", "--size", "64", "--snapshot-every", "4"]


class Killed(BaseException):
    """An exception that nothing catches, as if the process were gone."""


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the figures, which take longer than everything else here."""
    for name in ("plot_losses", "plot_pictures"):
        monkeypatch.setattr(run_module, name, lambda *_: None)


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """Return `with kill(13):`, which ends a painting in its 13th iteration. Every third iteration is checkpointed."""
    save = RunFolder.save

    def save_sometimes(folder: RunFolder, step: Step) -> None:
        if len(folder.rows) % 3 == 0:
            save(folder, step)

    monkeypatch.setattr(run_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(run_module, "CHECKPOINT_SHARE", float("inf"))
    monkeypatch.setattr(RunFolder, "save", save_sometimes)
    write = RunFolder._write_row

    def at(iteration: int) -> Any:
        def write_and_die(folder: RunFolder, row: dict[str, float]) -> None:
            write(folder, row)
            if row["iteration"] == iteration and folder.rows[-1] is row:
                raise Killed

        patch = pytest.MonkeyPatch.context()

        class Context:
            def __enter__(self) -> None:
                patch.__enter__().setattr(RunFolder, "_write_row", write_and_die)

            def __exit__(self, kind: Any, *error: Any) -> bool:
                patch.__exit__(kind, *error)
                assert kind is Killed, f"{kind} instead of the kill"
                return True

        return Context()

    return at


def rows(folder: str) -> list[dict[str, float]]:
    with open(Path(folder) / "losses.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def record_of(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / "record.json").read_text())


def contents(folder: str) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def same_run(left: str, right: str) -> None:
    """Check that losses, snapshots and records are equal, except for times and paths, with each iteration once."""
    one, other = rows(left), rows(right)
    assert [r["iteration"] for r in one] == list(range(1, len(one) + 1))
    assert [r["seconds"] for r in one] == sorted(r["seconds"] for r in one)
    for row in (*one, *other):
        del row["seconds"]
    assert one == other
    snapshots = [{p.name: p.read_bytes() for p in Path(f, "snapshots").iterdir()} for f in (left, right)]
    assert snapshots[0] == snapshots[1]
    records = [record_of(f) for f in (left, right)]
    for record in records:
        assert not record.keys() & {"interrupted", "total"}
        for key in ("run", "seconds", "paths"):
            del record[key]
    assert records[0] == records[1]
    for name in (left, right):
        assert not Path(name, "checkpoint.pt").exists()
        assert not list(Path(name).rglob("*.part"))


def started(here: Path, arguments: list[str], seconds: float) -> "subprocess.Popen[str]":
    """Start the program in its own process, with a checkpoint at this interval."""
    command = [sys.executable, "-c", EAGER.format(seconds=seconds), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=here, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_lines(process: "subprocess.Popen[str]", path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)


# -- real signals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        # In the first of two scales, where `test_every_kind_of_painting` stops, too.
        pytest.param(["--iterations", "24", "--start", "noise"], 6, marks=pytest.mark.slow),
        (["--iterations", "24", "--style-loss", "gram:1,nn:0.5"], 15),  # in the last one
        pytest.param(["--preset", "gatys", "--iterations", "24", "--rate", "0.01"], 8, marks=pytest.mark.slow),
    ],
    ids=["coarse", "last", "gatys"],
)
def test_after_kill_9(here: Path, run: Run, options: list[str], lines: int) -> None:
    common = [*COMMON, *options]
    if "gatys" in options:
        common = ["--size", "64", *options]
    command = ["stylize", "photo.png", "style.jpg", *common]
    with started(here, [*command, "-o", "killed.png", "--run", "killed"], 0.0) as process:
        wait_for_lines(process, here / "killed" / "losses.csv", lines)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert record_of("killed")["interrupted"] is True
    assert not Path("killed.png").exists()
    code, _, err = run("stylize", "--resume", "killed")
    assert code == 0, err
    assert "killed: continuing after iteration " in err
    assert "slightly different" not in err
    assert run(*command, "-o", "whole.png", "--run", "whole")[0] == 0
    assert Path("killed.png").read_bytes() == Path("whole.png").read_bytes()
    same_run("killed", "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_after_being_asked_to_stop(here: Path, run: Run, number: signal.Signals, code: int) -> None:
    """The step is finished, and the painting so far is written with a checkpoint of that step, at any time."""
    command = ["stylize", "photo.png", "style.jpg", *COMMON, "--style-loss", "gram", "--iterations", "30"]
    with started(here, [*command, "-o", "stopped.png", "--run", "stopped"], 1e6) as process:
        wait_for_lines(process, here / "stopped" / "losses.csv", 8)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    record = read_record("stopped.png")
    assert record is not None
    assert (record["interrupted"], record["total"]) == (True, 30)
    assert 7 <= record["iterations"] < 30
    assert f"stopped at iteration {record['iterations']} of 30; the painting so far is in stopped.png" in err
    assert err.splitlines()[-2].endswith("continue with `impasto stylize --resume stopped`")
    assert err.splitlines()[-1] == "impasto: stopped"
    assert len(rows("stopped")) == record["iterations"]
    code, _, err = run("stylize", "--resume", "stopped")
    assert code == 0, err
    assert f"stopped: continuing after iteration {record['iterations']}\n" in err
    assert run(*command, "-o", "whole.png", "--run", "whole")[0] == 0
    assert Path("stopped.png").read_bytes() == Path("whole.png").read_bytes()
    same_run("stopped", "whole")


# -- every kind of painting -------------------------------------------------------------------------------------------

KINDS = {
    "gram, pixels, carried, averaged": [
        *("--style-loss", "gram", "--optimizer", "adam", "--parameters", "pixels", "--carry", "--average", "0.8")
    ],
    "Adam on a pyramid": ["--optimizer", "adam"],
    "nn": ["--style-loss", "nn", "--seed", "3"],
    "averaged": ["--average", "0.8"],
    "plateau": ["--plateau", "0.01"],
    "regions, mask, colours": [
        *("--region", "mask.png=other.png", "--mask", "mask.png", "--keep-colours", "0.7", "--bits", "16"),
    ],
    "all terms, from a picture": [
        *("--start", "other.png", "--histogram-weight", "0.1", "--laplacian-weight", "1", "--similarity-weight", "1"),
        *("--strength", "0.8", "--detail", "0.5", "--content-blur", "2"),
    ],
}


SLOW = ("Adam on a pyramid", "averaged", "plateau", "all terms, from a picture")
"""Their states are those of the tests of `stylizers/`, which are saved there as they are in a checkpoint."""


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] if k in SLOW else []) for k in KINDS])
def test_every_kind_of_painting(here: Path, run: Run, kill: Callable[[int], Any], kind: str) -> None:
    """Paintings are stopped in the first scale, in the last one, and in the refinement of `nn`."""
    command = ["stylize", "photo.png", "style.jpg", *COMMON, "--iterations", "16", *KINDS[kind]]
    assert run(*command, "-o", "whole.png", "--run", "whole")[0] == 0
    last = len(rows("whole"))  # with --plateau there may be fewer
    assert last > 10
    for moment in (5, last):
        with kill(moment):
            run(*command, "-o", "killed.png", "--run", "killed")
        assert len(rows("killed")) == moment
        checkpoint = load_checkpoint(Path("killed/checkpoint.pt"), record_of("killed")["run"])
        assert checkpoint is not None
        assert checkpoint.iteration == (moment - 1) // 3 * 3
        code, _, err = run("stylize", "--resume", "killed")
        assert code == 0, err
        assert Path("killed.png").read_bytes() == Path("whole.png").read_bytes()
        same_run("killed", "whole")


def test_stopped_again_and_again_and_from_elsewhere(
    here: Path,
    run: Run,
    kill: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    command = ["stylize", "photo.png", "style.jpg", *COMMON, "--iterations", "16"]
    with kill(3):  # before there is any checkpoint
        run(*command, "-o", "killed.png", "--run", "killed")
    with kill(5):
        run("stylize", "--resume", "killed")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    for iteration in (9, 13):
        with kill(iteration):
            run("stylize", "--resume", here / "killed")
    assert run("stylize", "--resume", here / "killed")[0] == 0
    assert not list(Path().iterdir())
    monkeypatch.chdir(here)
    assert run(*command, "-o", "whole.png", "--run", "whole")[0] == 0
    assert Path("killed.png").read_bytes() == Path("whole.png").read_bytes()
    same_run("killed", "whole")


def test_the_time_is_counted_on(here: Path, run: Run, kill: Callable[[int], Any]) -> None:
    with kill(12):
        run("stylize", "photo.png", "style.jpg", *COMMON, "--iterations", "16", "-o", "a.png", "--run", "run")
    folder = Path("run/checkpoint.pt")
    mark = record_of("run")["run"]
    checkpoint = load_checkpoint(folder, mark)
    assert checkpoint is not None
    checkpoint.rows[-1]["seconds"] = 1000.0
    save_checkpoint(folder, checkpoint)
    assert run("stylize", "--resume", "run")[0] == 0
    seconds = [r["seconds"] for r in rows("run")]
    assert max(seconds[:8]) < 500
    assert min(seconds[8:]) >= 1000
    assert record_of("run")["seconds"] == seconds[-1]


def test_of_a_given_time_what_is_spent_is_gone(here: Path, run: Run, kill: Callable[[int], Any]) -> None:
    """The finer scale comes after the stop, and gets the minimum number of iterations once the time is over."""
    command = ["stylize", "photo.png", "style.jpg", *COMMON, "--time", "20s", "-o", "a.png", "--run", "run"]
    with kill(4):
        run(*command)
    path = Path("run/checkpoint.pt")
    checkpoint = load_checkpoint(path, record_of("run")["run"])
    assert checkpoint is not None
    state = checkpoint.state
    assert 0 < state["seconds"] < 20
    state["seconds"], state["iterations"][0] = 1000.0, 8
    state["descent"]["values"][-1] = 1 / 8  # the pace that goes with it
    state["descent"]["values"][-2] = 3 / 8
    save_checkpoint(path, checkpoint)
    assert run("stylize", "--resume", "run")[0] == 0
    assert [r["scale"] for r in rows("run")] == [rows("run")[0]["scale"]] * 8 + [64] * 4
    assert record_of("run")["options"]["iterations"] == [8, 4]


# -- what is there already --------------------------------------------------------------------------------------------


@pytest.fixture
def finished(here: Path, run: Run) -> Path:
    """Return the folder of a finished run, whose painting is done.png."""
    brief = ["--size", "48", "--iterations", "4", "--precision", "float32"]
    assert run("stylize", "photo.png", "style.jpg", "-o", "done.png", "--run", "run", *brief)[0] == 0
    return here / "run"


def test_a_finished_run_stays_as_it_is(finished: Path, run: Run) -> None:
    before = contents(".")
    assert run("stylize", "--resume", "run") == (
        0,
        "",
        f"impasto: run is finished: its painting is {finished.parent / 'done.png'}\n",
    )
    assert contents(".") == before


def test_a_finished_painting_that_is_gone_is_painted_again(finished: Path, run: Run) -> None:
    painting = Path("done.png").read_bytes()
    Path("done.png").unlink()
    code, _, err = run("stylize", "--resume", "run")
    assert (code, "is gone: painting it again" in err) == (0, True)
    assert Path("done.png").read_bytes() == painting


@pytest.mark.parametrize("source", ["photo.png", "style.jpg"])
def test_sources_that_have_changed_or_gone(here: Path, run: Run, kill: Callable[[int], Any], source: str) -> None:
    with kill(7):
        run("stylize", "photo.png", "style.jpg", *COMMON, "--iterations", "16", "-o", "a.png", "--run", "run")
    shutil.copy(source, "kept")
    shutil.copy("other.png", source)
    before = contents(".")
    code, _, err = run("stylize", "--resume", "run")
    assert (code, err) == (
        1,
        f"impasto: {here / source} has changed since the painting was made; put it back, or start over\n",
    )
    Path(source).unlink()
    code, _, err = run("stylize", "--resume", "run")
    assert (code, err) == (1, f"impasto: {source} is not found here; put it back, or start over\n")
    shutil.copy("kept", source)
    Path("kept").unlink()
    before[source] = Path(source).read_bytes()
    del before["kept"]
    assert contents(".") == before
    assert run("stylize", "--resume", "run")[0] == 0


class Bomb:
    """An object that leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


def damages(good: bytes) -> Iterator[bytes]:
    yield b""
    yield b"no checkpoint"
    yield good[: len(good) // 2]
    yield good[:-100]
    middle = len(good) // 2
    yield good[:middle] + bytes([good[middle] ^ 255]) + good[middle + 1 :]  # within a tensor
    yield pickle.dumps(Bomb())
    for foreign in (
        Bomb(),
        {"step": 3},
        [1, 2],
        {"run": "", "rows": [], "state": {}},
        {"run": "", "rows": 3, "state": 3},
    ):
        torch.save(foreign, "foreign.pt")
        yield Path("foreign.pt").read_bytes()


def test_a_damaged_checkpoint(here: Path, run: Run, kill: Callable[[int], Any]) -> None:
    with kill(7):
        run("stylize", "photo.png", "style.jpg", *COMMON, "--iterations", "16", "-o", "a.png", "--run", "run")
    path = Path("run/checkpoint.pt")
    good = path.read_bytes()
    for data in damages(good):
        path.write_bytes(data)
        before = contents("run")
        code, _, err = run("stylize", "--resume", "run")
        assert code == 1
        assert err.startswith("impasto: run/checkpoint.pt is damaged or not a checkpoint of a painting (")
        assert err.endswith("); delete it to start over\n")
        assert err.count("\n") == 1
        assert contents("run") == before
    assert not Path("exploded").exists()
    path.write_bytes(good)
    assert run("stylize", "--resume", "run")[0] == 0


def test_the_checkpoint_of_another_run(here: Path, run: Run, kill: Callable[[int], Any]) -> None:
    for folder, style in (("one", "style.jpg"), ("two", "other.png")):
        with kill(7):
            run("stylize", "photo.png", style, *COMMON, "--iterations", "16", "-o", f"{folder}.png", "--run", folder)
    shutil.copy("one/checkpoint.pt", "two")
    code, _, err = run("stylize", "--resume", "two")
    assert (code, err) == (
        1,
        "impasto: two/checkpoint.pt is the checkpoint of another run; delete it to start over\n",
    )
    Path("two/checkpoint.pt").unlink()
    code, _, err = run("stylize", "--resume", "two")
    assert code == 0
    assert "two has no checkpoint yet: starting at the first iteration" in err
    assert len(rows("two")) == 16


def test_a_new_run_in_an_old_folder_begins_anew(here: Path, run: Run, kill: Callable[[int], Any]) -> None:
    command = ["stylize", "photo.png", "style.jpg", *COMMON, "--iterations", "16", "-o", "a.png", "--run", "run"]
    with kill(12):
        run(*command)
    with kill(3):
        run(*command)
    assert not Path("run/checkpoint.pt").exists()
    assert len(rows("run")) == 3
    assert not list(Path("run/snapshots").iterdir())


def test_another_machine_is_told(here: Path, run: Run, kill: Callable[[int], Any]) -> None:
    with kill(7):
        run("stylize", "photo.png", "style.jpg", *COMMON, "--iterations", "16", "-o", "a.png", "--run", "run")
    record = record_of("run")
    assert record["machine"]["threads"] == 1
    assert record["machine"]["compute"] == "cpu, float32"
    record["machine"]["threads"] = 7
    record["torch"] = "1.0"
    Path("run/record.json").write_text(json.dumps(record))
    code, _, err = run("stylize", "--resume", "run")
    assert code == 0
    now = torch.__version__
    assert f"started with torch 1.0 (now {now}), threads 7 (now 1): the painting may come out slightly different" in err


@pytest.mark.parametrize("begun", ["float32", "bfloat16"])
def test_it_goes_on_in_the_precision_that_it_was_begun_in(
    here: Path, run: Run, kill: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    """By now, `auto` resolves to the other precision; a machine without bfloat16 emulates it, with a warning."""
    monkeypatch.setattr("impasto.device.has_bfloat16", lambda: begun == "bfloat16")
    command = ["stylize", "photo.png", "style.jpg", "--size", "64", "--coarsest", "48", "--iterations", "16"]
    assert run(*command, "-o", "whole.png", "--run", "whole")[0] == 0
    with kill(10):
        run(*command, "-o", "a.png", "--run", "run")
    assert record_of("run")["options"]["precision"] == begun
    monkeypatch.setattr("impasto.device.has_bfloat16", lambda: begun != "bfloat16")
    code, _, err = run("stylize", "--resume", "run")
    assert (code, "bfloat16 is slow here" in err) == (0, begun == "bfloat16")
    assert "run: continuing after iteration 9" in err
    assert "may come out slightly different" not in err
    assert Path("a.png").read_bytes() == Path("whole.png").read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["photo.png", "style.jpg", "--resume", "run"],
        ["photo.png", "--resume", "run"],
        ["--resume", "run", "--size", "64"],
        ["--resume", "run", "-o", "x.png"],
        ["--resume", "run", "--run", "other"],
        ["--resume", "run", "--bits", "16"],
        ["--resume", "run", "--snapshot-every", "0"],
    ],
)
def test_nothing_else_is_given_with_resume(finished: Path, run: Run, arguments: list[str]) -> None:
    before = contents(".")
    code, out, err = run("stylize", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("impasto: --resume takes everything from its folder; leave out CONTENT, STYLE")
    assert contents(".") == before


def test_what_is_no_run_folder(finished: Path, run: Run) -> None:
    Path("empty").mkdir()
    Path("old").mkdir()
    Path("piped").mkdir()
    record = record_of("run")
    Path("piped/record.json").write_text(json.dumps({**record, "content": {"name": "-"}}))
    del record["run"]
    Path("old/record.json").write_text(json.dumps(record))
    for folder, message in {
        "nothing": "nothing is not a run folder; give --resume the folder that was given to --run",
        "done.png": "done.png is not a run folder; give --resume the folder that was given to --run",
        "empty": "empty is not a run folder: record.json is missing or damaged",
        "old": "the record of old is damaged: 'run'",
        "piped": "the painting was made from standard input, which is not kept; put it back",
    }.items():
        code, _, err = run("stylize", "--resume", folder)
        assert code == 1
        assert err.startswith(f"impasto: {message}"), err
        assert err.count("\n") == 1


def test_a_diverged_run_diverges_again(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from impasto.stylizers.descent import Descent

    finite = Descent._finite

    def spoilt(self: Descent, x: torch.Tensor, terms: dict[str, torch.Tensor]) -> dict[str, float]:
        return finite(self, x, {k: v * (float("inf") if self.iteration >= 6 else 1) for k, v in terms.items()})

    monkeypatch.setattr(Descent, "_finite", spoilt)
    monkeypatch.setattr(run_module, "CHECKPOINT_SECONDS", 0.0)
    command = ["stylize", "photo.png", "style.jpg", *COMMON, "--iterations", "30", "-o", "a.png", "--run", "run"]
    code, _, err = run(*command)
    assert code == 1
    assert "stopped at iteration 6 of 30; the painting so far is in a.png\n" in err
    assert "--resume" not in err  # it would end in the same way
    painting = Path("a.png").read_bytes()
    assert run("stylize", "--resume", "run")[0] == 1
    assert Path("a.png").read_bytes() == painting
    assert [r["iteration"] for r in rows("run")] == [1, 2, 3, 4, 5, 6]


# -- how often, and how safely ----------------------------------------------------------------------------------------


def test_checkpoints_take_little_of_the_time(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a step takes 4 s and a checkpoint 1.5 s, the first is due after 20 s, and the next another 150 s later."""
    now, saved = [0.0], []
    write = RunFolder._write_row

    def slow_row(folder: RunFolder, row: dict[str, float]) -> None:
        now[0] += 4
        write(folder, row)

    def slow_save(path: Path, checkpoint: Checkpoint) -> None:
        now[0] += 1.5
        saved.append(checkpoint.iteration)

    monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(run_module, "save_checkpoint", slow_save)
    monkeypatch.setattr(RunFolder, "_write_row", slow_row)
    brief = ["--size", "48", "--coarsest", "48", "--precision", "float32", "--iterations", "45"]
    assert run("stylize", "photo.png", "style.jpg", "-o", "a.png", "--run", "run", *brief)[0] == 0
    assert saved == [5, 43]


def test_a_full_disk_does_not_end_the_painting(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, checkpoint: Checkpoint) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(run_module, "save_checkpoint", full)
    brief = ["--size", "48", "--coarsest", "48", "--precision", "float32", "--iterations", "3"]
    code, _, err = run("stylize", "photo.png", "style.jpg", "-o", "a.png", "--run", "run", *brief)
    assert code == 0
    assert "cannot write a checkpoint to run (No space left on device); continuing without" in err
    assert len(rows("run")) == 3
