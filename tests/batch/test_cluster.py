"""A batch painted by Ray on this machine has the same bytes and the same report as one without Ray."""

import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from impasto.batch.cluster import RayPainter, load_ray, pickled, read_row, with_precision, write_row
from impasto.batch.plan import Request, make_plan
from impasto.batch.run import readings
from impasto.errors import ImpastoError
from impasto.options import BatchOptions, OutputOptions, StylizeOptions

Run = Callable[..., tuple[int, str]]
Report = Callable[..., list[dict[str, Any]]]
Contents = Callable[..., dict[str, bytes]]


class Column:
    """A column of a table, in Arrow's form."""

    def __init__(self, values: list[bytes]):
        self.values = values

    def to_pylist(self) -> list[bytes]:
        return self.values


def test_rows_are_read_painted_and_written(here: Path, run: Run, contents: Contents) -> None:
    """The functions of a cluster's tasks and actors, called in a row in this process, read, paint and write."""
    assert run("photos", "--style", "udnie", "--out", "out")[0] == 0
    Path("photos/bad.jpg").write_bytes(b"no picture")
    options = StylizeOptions(quality="instant", device="cpu")
    tasks = make_plan(Request(("photos",), ("udnie", "gone.png"), "other", BatchOptions().name), options)
    shared = {"output": OutputOptions(), "folder": str(here)}
    rows = [pickled(r, [tasks.index(t) for t in r.tasks]) for r in readings(tasks)]
    rows = [read_row(row, **shared) for row in rows]
    painter = RayPainter(**shared, per_pass=None, threads=None)
    painted = painter({"item": Column([row["item"] for row in rows])})["item"]
    targets = [None if t.out.endswith(".jpg") else f"other/{t.out}" for t in tasks]
    written = [pickle.loads(write_row({"item": item}, **shared, targets=targets)["item"]) for item in painted]
    assert sorted(number for number, *_ in written) == list(range(len(tasks)))
    found = {}
    for number, error, data, beside, seconds in written:
        task = tasks[number]
        if task.look.style == "gone.png" or task.photo.name == "bad.jpg":
            assert isinstance(error, ImpastoError)
        else:
            assert (error, list(beside)) == (None, [])
            assert seconds > 0
            found[task.out] = data or Path("other", task.out).read_bytes()
    assert found == contents()


def test_actors_have_the_precision_of_this_machine(here: Path) -> None:
    (task,) = make_plan(
        Request(("photos/cup.jpg",), ("udnie",), "out", BatchOptions().name), StylizeOptions(quality="instant")
    )
    assert with_precision(task).look.options.precision in ("float32", "bfloat16")
    assert with_precision(with_precision(task)) == with_precision(task)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impasto.batch.cluster.find_spec", lambda name: None)
    with pytest.raises(ImpastoError, match=r'needs Ray: pip install "impasto\[ray\]"'):
        load_ray()


def without_seconds(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(tuple(v for k, v in e.items() if k != "seconds") for e in entries)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning:ray.*")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Ray's own processes and sockets
def test_the_same_as_here(here: Path, run: Run, report: Report, contents: Contents) -> None:
    pytest.importorskip("ray")
    Path("photos/bad.jpg").write_bytes(b"no picture")
    Path("list.csv").write_text("photo,style,strength\nphotos/cup.jpg,udnie,0.5\nphotos/cat.jpg,gone.png,\n")
    given = ["photos", "list.csv", "--style", "great-wave", "udnie", "--name", "{dir}/{style}/{stem}.{ext}"]
    code, err = run(*given, "--out", "out")
    assert code == 3, err
    code, err = run(*given, "--out", "other", "--on", "ray", "--actors", "2")
    assert code == 3, err
    assert contents("other") == contents("out")
    assert without_seconds(report("other/report.jsonl")) == without_seconds(report())
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    # Of what Ray writes, only that its own log is off.
    assert all(line.startswith("impasto: ") or "Set ray log level" in line for line in err.splitlines()), err
    code, err = run(*given, "--out", "other.tar", "--on", "ray")
    assert code == 3, err
    with tarfile.open("other.tar") as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive}  # pyright: ignore[reportOptionalMemberAccess]
    assert found == contents()
