"""Films over HTTP are painted with their sound, previewed, stopped, and refused beyond the limits."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from impasto.image.read import read_image
from impasto.stylizers.descent import Descent
from impasto.tools.web.engine import Engine

av = pytest.importorskip("av", reason="needs the extra video")
pytest.importorskip("cv2", reason="needs the extra video")

Until = Callable[..., Any]
Clip = Callable[..., Path]


def post(client: TestClient, film: Path | bytes, **data: Any) -> Any:
    name = film.name if isinstance(film, Path) else "film.mp4"
    content = film.read_bytes() if isinstance(film, Path) else film
    return client.post("/v1/videos", files={"content": (name, content)}, data=data)


def ended(client: TestClient, answer: Any, wait: Until) -> tuple[str, dict[str, Any]]:
    assert answer.status_code == 201, answer.text
    at = answer.headers["location"]
    return at, wait(lambda: (v := client.get(at).json())["status"] in ("done", "stopped", "failed") and v)


def streams(data: bytes) -> tuple[list[float], list[bytes], Any]:
    """Return the times of a film's frames, the packets of its sound, and its last frame."""
    with av.open(io.BytesIO(data)) as film:
        frames = list(film.decode(video=0))
    with av.open(io.BytesIO(data)) as film:
        packets = [bytes(p) for p in film.demux(audio=0) if p.size]
    return [f.time for f in frames], packets, frames[-1].to_ndarray(format="rgb24")


def test_a_film_is_painted_with_its_sound(client: TestClient, clip: Clip, wait: Until) -> None:
    film = clip()
    at, view = ended(client, post(client, film, style="udnie", crf="12"), wait)
    assert view["status"] == "done", view
    assert (view["done"], view["total"], view["size"], view["media_type"]) == (10, 10, [64, 48], "video/mp4")
    assert view["command"] == "impasto video clip.mp4 udnie --crf 12 -o clip-udnie.mp4"
    found = client.get(f"{at}/result")
    assert found.headers["content-type"] == "video/mp4"
    assert found.headers["content-disposition"] == 'attachment; filename="clip-udnie.mp4"'
    times, sound, last = streams(found.content)
    given = streams(film.read_bytes())
    assert (times, sound) == (given[0], given[1])
    assert np.abs(last.astype(int) - given[2]).mean() > 20
    assert client.get(f"{at}/frame").content.startswith(b"\xff\xd8")
    part = client.get(f"{at}/result", headers={"Range": "bytes=0-99"})
    assert (part.status_code, part.content) == (206, found.content[:100])
    assert client.get(f"{at}/events").text.count("event: done") == 1
    assert client.delete(at).status_code == 204
    assert client.get(f"{at}/result").status_code == 404


def test_one_frame_first_then_the_film_without_sending_it_again(client: TestClient, clip: Clip, wait: Until) -> None:
    film = clip()
    at, view = ended(client, post(client, film, style="udnie", frame="0.5"), wait)
    assert (view["status"], view["media_type"], view["done"]) == ("done", "image/png", 1)
    painted = read_image(io.BytesIO(client.get(f"{at}/result").content))
    assert painted.size == (48, 64)
    original = read_image(io.BytesIO(client.get(f"{at}/original").content))
    with av.open(str(film)) as container:
        sixth = list(container.decode(video=0))[5].to_ndarray(format="rgb24")
    assert np.abs(original.tensor[0].permute(1, 2, 0).numpy() * 255 - sixth).mean() < 8
    assert (painted.tensor - original.tensor).abs().mean() > 0.05
    answer = client.post("/v1/videos", data={"again": view["id"], "style": "starry-night", "format": "mkv"})
    at, view = ended(client, answer, wait)
    assert (view["status"], view["media_type"], view["done"]) == ("done", "video/x-matroska", 10)
    assert client.get(f"{at}/original").status_code == 404


def test_styles_over_time_and_own_styles(client: TestClient, clip: Clip, picture: bytes, wait: Until) -> None:
    answer = client.post(
        "/v1/videos",
        files=[("content", ("a.mp4", clip(frames=3).read_bytes())), ("style_file", ("mine.png", picture))],
        data={"styles_at": "0s:udnie,0.2s:file:1", "strength": "0s:0.5,0.2s:1", "end": "0.3s"},
    )
    _, view = ended(client, answer, wait)
    assert (view["status"], view["done"]) == ("done", 3)
    assert "--styles-at 0s:udnie,0.2s:mine.png" in view["command"]


def test_an_optimised_film(client: TestClient, clip: Clip, wait: Until) -> None:
    _, view = ended(client, post(client, clip(frames=2), style="udnie", quality="good"), wait)
    assert (view["status"], view["done"]) == ("done", 2), view
    assert "--quality good" in view["command"]
    answer = post(client, clip(frames=2), style="udnie", quality="best")
    assert (answer.status_code, "quality" in answer.text) == (422, True)


def test_estimates(client: TestClient, clip: Clip, wait: Until) -> None:
    """Of the part that is to be painted, before it is, for a frame too; then as it was measured."""
    film, long = clip(frames=20), post(client, clip(frames=200), style="udnie")  # while that is painted, others wait
    part = {"end": "1s", "stability": "0", "size": "256"}
    changes = ({**part, "end": ""}, part, {**part, "frame": "0"}, {"frame": "0", "start": "9s"})
    answers = [post(client, film, style="udnie", **c) for c in changes]
    whole, half, frame, none = (a.json() for a in answers)
    assert (frame["size"], frame["max_seconds"]) == ([256, 192], 1800)
    assert frame["estimates"] == half["estimates"]
    assert 0 < half["estimates"]["instant"] < half["estimates"]["good"]
    assert half["estimates"]["good"] == pytest.approx(whole["estimates"]["good"] / 2, abs=0.1)
    assert "estimates" not in none
    client.post(f"{long.headers['location']}/cancel")
    last = [ended(client, answer, wait)[1] for answer in answers[:2]][-1]
    assert last["estimates"]["instant"] != half["estimates"]["instant"]
    assert last["estimates"]["good"] == half["estimates"]["good"]


def test_a_film_can_be_stopped(client: TestClient, engine: Engine, clip: Clip, wait: Until) -> None:
    answer = post(client, clip(frames=200), style="udnie", size="256")
    at = answer.headers["location"]
    wait(lambda: client.get(at).json()["done"] > 0)
    assert client.get(f"{at}/result").status_code == 409
    client.post(f"{at}/cancel")
    _, view = ended(client, answer, wait)
    assert (view["status"], view["note"]) == ("stopped", "stopped: a film is only kept once it is finished")
    assert client.get(f"{at}/result").status_code == 409
    folder = engine._jobs[view["id"]].folder
    client.delete(at)
    assert not folder.exists()


@pytest.mark.parametrize("data", [{}, {"frame": "0"}], ids=["film", "frame"])
def test_stopped_within_a_frame(
    client: TestClient, clip: Clip, wait: Until, monkeypatch: pytest.MonkeyPatch, data: dict[str, str]
) -> None:
    """No step of the optimisation follows."""
    descend, steps, reached, go = Descent.step, [], threading.Event(), threading.Event()

    def held(self: Descent) -> Any:
        steps.append(1)
        if len(steps) == 3:
            reached.set()
            assert go.wait(60)
        return descend(self)

    monkeypatch.setattr(Descent, "step", held)
    answer = post(client, clip(frames=2), style="udnie", quality="good", **data)
    assert reached.wait(60)
    assert client.post(f"{answer.headers['location']}/cancel").json()["status"] == "painting"
    go.set()
    at, view = ended(client, answer, wait)
    assert (view["status"], view["done"], len(steps)) == ("stopped", 0, 3)
    assert view["note"] == f"stopped: a {'frame' if data else 'film'} is only kept once it is finished"
    assert client.get(f"{at}/result").status_code == 409
    again = client.post("/v1/videos", data={"again": view["id"], "style": "udnie", "frame": "0"})
    assert ended(client, again, wait)[1]["status"] == "done"


def test_the_time_ends_within_a_frame(
    serving: Callable[..., TestClient], clip: Clip, wait: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    descend, steps = Descent.step, []

    def slow(self: Descent) -> Any:
        steps.append(1)
        time.sleep(0.4)
        return descend(self)

    monkeypatch.setattr(Descent, "step", slow)
    client = serving(max_seconds=1)
    _, view = ended(client, post(client, clip(frames=2), style="udnie", quality="good"), wait)
    assert (view["status"], view["done"]) == ("stopped", 0)
    assert view["note"].startswith("stopped after 1 seconds, the limit of this server")
    assert len(steps) <= 3


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{name}'\n"


@pytest.mark.parametrize("text", [PLAYLIST, CONCAT, "http://127.0.0.1:9/film.mp4", "<MPD></MPD>"])
def test_no_other_file_is_opened(client: TestClient, clip: Clip, text: str) -> None:
    """A list of other files and addresses is refused, whatever its name, before any of them is opened."""
    sent = text.format(name=clip()).encode()
    for name in ("film.mp4", "film.m3u8", "film.ffconcat"):
        answer = client.post("/v1/videos", files={"content": (name, sent)}, data={"style": "udnie"})
        assert answer.status_code == 422
        assert "is not a film" in answer.json()["error"]
        assert str(clip().parent) not in answer.text


def test_limits(serving: Callable[..., TestClient], clip: Clip, picture: bytes) -> None:
    client = serving(max_film_seconds=0.8, max_film_frames=6, max_film_megapixels=0.0035, max_film_upload=0.02)
    film, short = clip(), {"end": "0.5s"}
    for change, message in (
        ({}, "lasts 1 s, and at most 0.8 s are accepted"),
        ({"end": "0.7s"}, "has about 7 frames, and at most 6 are accepted"),
        ({**short, "size": "512"}, "--size 512: this server paints at most 256 pixels a side"),
        ({**short, "style": "/etc/hostname"}, "is not a built-in style"),
        ({**short, "styles_at": "0s:/etc/hostname", "style": []}, "is not a built-in style"),
        ({**short, "codec": "prores"}, "--codec prores makes files that are too large"),
        ({**short, "model": "x"}, "there is no field 'model'"),
        ({**short, "frame": "7"}, "--frame 7s: clip.mp4 has only 1"),
    ):
        answer = post(client, film, **{"style": "udnie", **change})
        if message:
            assert answer.status_code == 422, change
            assert message in answer.json()["error"]
    larger = post(client, clip(size=(64, 64)), style="udnie", **short)
    assert "has frames of 64x64, and at most 0.0035 megapixels are accepted" in larger.json()["error"]
    assert post(client, clip(frames=200), style="udnie").status_code == 413
    assert client.post("/v1/videos", data={"style": "udnie"}).status_code == 422
    assert client.post("/v1/videos", data={"again": "nothing", "style": "udnie"}).status_code == 404
    assert "is not a film" in post(client, b"nothing", style="udnie").json()["error"]
    assert post(client, b"", style="udnie").status_code == 422
    image = client.post("/v1/videos", files={"content": ("a.png", picture)}, data={"style": "udnie"})
    assert image.status_code == 422


def test_a_film_longer_than_it_says_ends_with_an_error(film_of: Any) -> None:
    from impasto.errors import FilmError
    from impasto.video.limits import Limited, Limits

    for limits, message in ((Limits(1, 100, 3), "more than 3 frames"), (Limits(1, 0.25, 100), "is longer than it")):
        found = Limited(film_of(5), limits).frames((8, 8))
        with pytest.raises(FilmError, match=message):
            list(found)
    assert len(list(Limited(film_of(5), Limits(1, 100, 5)).frames((8, 8)))) == 5


@pytest.fixture
def film_of() -> Callable[[int], Any]:
    """Return `film_of(5)`: a film with that many frames, ten a second, that does not state its length."""
    from fractions import Fraction

    from impasto.video.film import Description, Frame

    class Silent:
        def __init__(self, count: int):
            self.count = count
            self.about = Description("film", (8, 8), Fraction(1, 10), Fraction(10), 0, None)

        def frames(self, size: tuple[int, int], after: int | None = None) -> Any:
            return (Frame(i, np.zeros((*size, 3), np.uint8)) for i in range(self.count))

    return Silent
