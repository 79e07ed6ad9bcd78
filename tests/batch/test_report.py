"""Tests of the report: what it remembers, and what a killed batch leaves of it."""

import json
from pathlib import Path

import pytest

from impasto.batch.report import Entry, open_report
from impasto.errors import OptionError

ENTRIES = [Entry("a.jpg", "udnie", "a.png", "painted", "", 1.23456), Entry("é\n.jpg", "x", "b.png", "failed", "why", 0)]


def test_entries_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.jsonl"
    with open_report(path) as report:
        assert report.last == {}
        for entry in ENTRIES:
            report.add(entry)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {
        "path": "a.jpg", "style": "udnie", "out": "a.png", "outcome": "painted", "reason": "", "seconds": 1.2346
    }  # fmt: skip
    with open_report(path) as report:
        assert report.last == {"a.png": "painted", "b.png": "failed"}
        report.add(Entry("b.jpg", "x", "b.png", "painted"))
        assert report.last["b.png"] == "painted"
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_a_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    whole = "".join(entry.line() for entry in ENTRIES).encode()
    first = len(ENTRIES[0].line().encode())
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with open_report(path) as report:
            assert len(report.last) == (cut >= first)
            report.add(ENTRIES[1])
        assert path.read_bytes() == whole[: first if cut >= first else 0] + ENTRIES[1].line().encode()


@pytest.mark.parametrize("text", ["notes\n", "[1]\n", '{"out": 1}\n', "3\n"])
def test_other_files_are_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.jsonl"
    path.write_text(text)
    with pytest.raises(OptionError, match="is not the report of a batch"), open_report(path):
        pass
    assert path.read_text() == text


def test_one_batch_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="needs POSIX")
    with (
        open_report(tmp_path / "report.jsonl"),
        pytest.raises(OptionError, match="another batch is writing"),
        open_report(tmp_path / "report.jsonl"),
    ):
        pass


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written"), open_report(tmp_path):
        pass
