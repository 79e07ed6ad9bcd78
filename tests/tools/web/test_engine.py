"""The engine paints jobs in turn, stops them with the picture so far, limits them, and removes their files."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from impasto.errors import OptionError, PictureError
from impasto.options import OutputOptions, ServeOptions, StylizeOptions, VideoOptions
from impasto.tools.job import PaintJob
from impasto.tools.web.engine import BusyError, Engine
from impasto.tools.web.estimate import Countdown, Pace
from impasto.tools.web.jobs import ROWS, PictureJob
from impasto.tools.web.painter import encoded
from impasto.tools.web.session import QUALITIES
from impasto.tools.web.uploads import Request, Upload

QUICK = StylizeOptions(size=64, iterations=2)
LONG = StylizeOptions(size=64, iterations=100_000)
Until = Callable[..., Any]


@pytest.fixture
def make() -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def made(**changes: Any) -> Engine:
        engines.append(Engine(ServeOptions(**changes)))
        engines[-1].start(warm=False)
        return engines[-1]

    yield made
    for engine in engines:
        engine.close()
        assert not engine.folder.exists()


def asked(picture: bytes, *styles: str) -> Request:
    return Request(Upload("photo.png", picture), styles or ("udnie",))


def test_a_painting(make: Callable[..., Engine], picture: bytes, wait: Until) -> None:
    engine = make()
    job = engine.submit(asked(picture), QUICK, OutputOptions(bits=16))
    wait(lambda: job.has_ended)
    assert (job.status, job.error, job.size) == ("done", "", (57, 64))
    assert [r["iteration"] for r in job.rows] == [1, 2]
    assert all(r["total"] > 0 for r in job.rows)
    assert job.record is not None
    assert job.record["content"]["name"] == "photo.png"
    assert "interrupted" not in job.record
    assert job.command == "impasto stylize photo.png udnie --size 64 --iterations 2 --bits 16"
    assert job.shown("preview").startswith(b"\xff\xd8")
    assert engine.pace.rate > 0
    deep = encoded(job, "png", job.paint.output)
    assert deep[24] == 16
    with Image.open(io.BytesIO(encoded(job, "jpeg", OutputOptions()))) as flat:
        assert flat.size == (64, 57)
        assert np.asarray(flat).std() > 5
    assert "temporary" not in json.dumps(job.record)
    assert str(engine.folder) not in json.dumps(job.record)
    folder = job.folder
    engine.remove(job)
    assert not folder.exists()
    assert engine.find(job.id, PictureJob) is None


def test_one_is_painted_and_the_others_wait_their_turn(
    make: Callable[..., Engine], picture: bytes, wait: Until
) -> None:
    engine = make(max_waiting=2)
    first = engine.submit(asked(picture), LONG)
    wait(lambda: first.step is not None)
    second, third = engine.submit(asked(picture), QUICK), engine.submit(asked(picture), QUICK)
    assert (engine.place(first), engine.place(second), engine.place(third)) == (0, 1, 2)
    with pytest.raises(BusyError, match="2 paintings are already waiting"):
        engine.submit(asked(picture), QUICK)
    assert len(list(engine.folder.iterdir())) == 3
    engine.cancel(second)
    assert (second.status, second.has_picture, engine.place(third)) == ("stopped", False, 1)
    engine.cancel(first)
    wait(lambda: third.has_ended)
    assert first.status == "stopped"
    assert first.has_picture
    assert first.record is not None
    assert first.record["interrupted"]
    assert "so far" in first.note
    assert third.status == "done"


def test_time_is_limited(make: Callable[..., Engine], picture: bytes, wait: Until) -> None:
    job = make(max_seconds=1).submit(asked(picture), LONG)
    wait(lambda: job.has_ended)
    assert (job.status, job.has_picture) == ("stopped", True)
    assert job.note == "stopped after 1 seconds, the limit of this server"


@pytest.mark.parametrize(
    ("changes", "options", "content", "error", "message"),
    [
        ({}, {}, b"no picture", PictureError, "photo.png is not a picture of a known format"),
        ({"max_megapixels": 0.001}, {}, None, PictureError, "photo.png has 0.0 megapixels (72x64), more than 0.001"),
        (
            {"max_size": 100},
            {"size": 101},
            None,
            OptionError,
            "the painting would be 101x90; this server paints at most 100 pixels",
        ),
        ({}, {"style_weights": (1.0, 2.0)}, None, OptionError, "2 --style-weights for 1 styles"),
    ],
)
def test_what_cannot_be_painted_is_said_at_once(
    make: Callable[..., Engine],
    picture: bytes,
    changes: dict[str, Any],
    options: dict[str, Any],
    content: bytes | None,
    error: type[Exception],
    message: str,
) -> None:
    engine = make(**changes)
    wanted = replace(asked(picture), content=Upload("photo.png", picture if content is None else content))
    with pytest.raises(error) as caught:
        engine.submit(wanted, StylizeOptions(**options))
    assert message in str(caught.value)
    assert str(engine.folder) not in str(caught.value)
    assert not list(engine.folder.iterdir())


def test_what_turns_out_later_is_said_then(make: Callable[..., Engine], picture: bytes, wait: Until) -> None:
    job = make().submit(asked(picture), StylizeOptions(size=64, layers="relu9_9"))
    wait(lambda: job.has_ended)
    assert job.status == "failed"
    assert "relu9_9" in job.error
    with pytest.raises(OptionError, match="no painting"):
        encoded(job, "png", OutputOptions())


def test_old_paintings_and_those_of_a_closed_page_are_forgotten(
    make: Callable[..., Engine], picture: bytes, wait: Until
) -> None:
    engine = make(keep=1)
    jobs = [engine.submit(asked(picture), QUICK, owner=owner) for owner in ("a", "b", "a")]
    wait(lambda: jobs[2].has_ended)
    assert engine.find(jobs[0].id, PictureJob) is None
    assert not jobs[0].folder.exists()
    engine.remove_of("")
    assert engine.find(jobs[2].id, PictureJob) is jobs[2]
    engine.remove_of("a")
    assert engine.find(jobs[2].id, PictureJob) is None
    assert not jobs[2].folder.exists()


def test_closing_ends_the_work(make: Callable[..., Engine], picture: bytes, wait: Until) -> None:
    engine = make()
    job, waiting = engine.submit(asked(picture), LONG), engine.submit(asked(picture), LONG)
    wait(lambda: job.step is not None)
    engine.close()
    assert (job.status, waiting.status) == ("stopped", "stopped")
    assert not engine.folder.exists()
    with pytest.raises(BusyError, match="closing"):
        engine.submit(asked(picture), QUICK)


def test_a_device_that_is_not_available() -> None:
    with pytest.raises(OptionError, match="--device cuda:77 is not available here"):
        Engine(ServeOptions(devices=("cuda:77",)))


def test_rows_of_losses_do_not_grow_without_end(tmp_path: Any) -> None:
    job = PictureJob(folder=tmp_path, paint=PaintJob("a", ("udnie",), QUICK, OutputOptions()))
    for i in range(1, 50_000):
        job.add_row({"iteration": i, "scale": 64, "total": 1.0})
    found = [int(r["iteration"]) for r in job.rows]
    assert len(found) < ROWS
    assert found[0] == 1
    assert found == sorted(found)
    assert found[-1] > 49_000


def test_estimates() -> None:
    """Twice the iterations take twice the time, and time grows with the number of pixels."""
    pace = Pace()
    pace.learn(1.01, (1000, 1000))
    assert pace.rate == pytest.approx(1)
    of = StylizeOptions
    once = pace.seconds((512, 512), of(size=512, iterations=100))
    assert pace.seconds((512, 512), of(size=512, iterations=200)) == pytest.approx(2 * once, rel=0.02)
    assert 3 < pace.seconds((512, 512), of(size=2048, iterations=100)) / once < 16
    assert pace.seconds((512, 512), of(time=30.0)) == 30
    instant, draft, good, best = (pace.seconds((512, 512), of(quality=q, size=512)) for q in QUALITIES)
    assert instant < 0.5 * draft < 0.5 * good < 0.5 * best
    pace.learn(2.01, (1000, 1000))
    assert 1 < pace.rate < 2


def test_estimates_of_films() -> None:
    """A film takes as many times longer as its frames are more, or its pixels; at stability 0 each frame begins anew.

    Each quality is measured by itself.
    """
    pace, size = Pace(), (360, 640)
    instant, good, alone = VideoOptions(), VideoOptions(quality="good"), VideoOptions(quality="good", stability=0)
    pace.learn(1.01, (1000, 1000))
    for options in (instant, alone):
        once = pace.film_seconds(size, 1, options)
        assert pace.film_seconds(size, 200, options) == pytest.approx(200 * once)
    first, second = (pace.film_seconds(size, n, good) for n in (1, 2))
    assert pace.film_seconds(size, 200, good) == pytest.approx(first + 199 * (second - first))
    assert 4 < (second - first) / pace.film_seconds(size, 1, instant) < 20
    assert first == pace.film_seconds(size, 1, alone)
    assert 3 < pace.film_seconds((720, 1280), 50, good) / pace.film_seconds(size, 50, good) < 4
    before = pace.film_seconds(size, 50, instant)
    pace.learn_film(300.0, size, 50, good)
    assert pace.film_seconds(size, 50, good) == pytest.approx(300)
    assert pace.film_seconds(size, 50, instant) == before
    pace.learn_film(0.01, size, 50, VideoOptions(quality="good", strength=("0",)))
    assert pace.film_seconds(size, 50, good) == pytest.approx(300)


def test_countdown() -> None:
    """At 0.5 s per iteration, 2 of 4 are left here and 4 at the next scale, with four times the pixels."""
    from types import SimpleNamespace

    countdown = Countdown()
    steps: list[Any] = [SimpleNamespace(scale_index=1, iteration=i, total=8, schedule=(4, 4)) for i in (1, 2)]
    assert countdown.left(steps[0], 10.0) is None
    assert countdown.left(steps[1], 10.5) == pytest.approx(2 * 0.5 + 4 * 0.5 * 4)
