"""Tests of the HTTP interface: paintings at once and in the queue, events, files, records, and refusals."""

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from impasto.image.read import read_image, read_record
from impasto.style.target import builtin_names, load_builtin
from impasto.tools.web.engine import Engine

QUICK = {"style": "udnie", "size": "64", "iterations": "2"}
LONG = {"style": "udnie", "size": "64", "iterations": "100000"}
Until = Callable[..., Any]


def files(picture: bytes, **more: bytes) -> dict[str, tuple[str, bytes]]:
    return {"content": ("photo.png", picture), **{k: (f"{k}.png", v) for k, v in more.items()}}


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def begin(client: TestClient, picture: bytes, data: dict[str, Any]) -> str:
    answer = client.post("/v1/jobs", files=files(picture), data=data)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()["id"]


def test_a_painting_at_once(client: TestClient, engine: Engine, picture: bytes) -> None:
    answer = client.post("/v1/stylize", files=files(picture), data={**QUICK, "bits": "16"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == 'attachment; filename="photo-udnie.png"'
    assert answer.content[24] == 16
    painting = read_image(io.BytesIO(answer.content))
    assert painting.size == (57, 64)
    record = read_record(io.BytesIO(answer.content))
    assert record is not None
    assert record["styles"] == [{"name": "udnie"}]
    assert not engine._jobs
    assert not list(engine.folder.glob("job-*"))


def test_a_job_and_all_that_can_be_had_of_it(client: TestClient, picture: bytes, wait: Until) -> None:
    mask = io.BytesIO()
    Image.fromarray(np.pad(np.full((32, 40), 255, np.uint8), 16)).save(mask, "PNG")
    answer = client.post(
        "/v1/jobs",
        files=[
            ("content", ("photo.png", picture)),
            ("style_file", ("mine.png", picture)),
            ("region_mask", ("middle.png", mask.getvalue())),
        ],
        data={
            "style": ["starry-night", "file:1"],
            "style_weights": "2,1",
            "region_style": "udnie",
            "size": "64",
            "iterations": "2",
        },
    )
    assert answer.status_code == 201, answer.text
    at = f"/v1/jobs/{answer.json()['id']}"
    wait(lambda: client.get(at).json()["status"] == "done")
    view = client.get(at).json()
    assert (view["iteration"], view["total"], view["size"]) == (2, 2, [64, 57])
    assert view["losses"]["total"] > 0
    assert client.get(f"{at}/frame").content.startswith(b"\xff\xd8")
    assert client.get(f"{at}/photo").content.startswith(b"\xff\xd8")
    assert [r["iteration"] for r in client.get(f"{at}/losses").json()] == [1, 2]
    for kind, magic in (("png", b"\x89PNG"), ("jpeg", b"\xff\xd8"), ("webp", b"RIFF"), ("tiff", b"II")):
        found = client.get(f"{at}/result", params={"format": kind})
        assert found.content.startswith(magic)
        assert found.headers["content-type"] == f"image/{kind}"
    assert client.get(f"{at}/result", params={"format": "png", "bits": "16"}).content[24] == 16
    assert client.get(f"{at}/result", params={"format": "jpeg", "bits": "16"}).status_code == 422
    with zipfile.ZipFile(io.BytesIO(client.get(f"{at}/record").content)) as record:
        assert sorted(record.namelist()) == ["command.txt", "losses.csv", "middle.png", "record.json"]
        assert json.loads(record.read("record.json"))["content"]["name"] == "photo.png"
        assert record.read("losses.csv").decode().splitlines()[0].startswith("iteration,scale,total")
        assert record.read("command.txt").decode() == (
            "impasto stylize photo.png starry-night mine.png --region middle.png=udnie --size 64 "
            "--style-weights 2,1 --iterations 2\n"
        )
    assert client.delete(at).status_code == 204
    assert client.get(at).status_code == 404


def test_events(client: TestClient, picture: bytes) -> None:
    job = begin(client, picture, QUICK)
    answer = client.get(f"/v1/jobs/{job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [dict(line.split(": ", 1) for line in e.splitlines()) for e in answer.text.split("\n\n") if e]
    assert events[-1]["event"] == "done"
    assert json.loads(events[-1]["data"])["iteration"] == 2
    numbers = [int(e["id"]) for e in events]
    assert numbers == sorted(numbers)


def test_cancel_keeps_the_picture_so_far(client: TestClient, picture: bytes, wait: Until) -> None:
    job = begin(client, picture, LONG)
    wait(lambda: client.get(f"/v1/jobs/{job}").json().get("iteration", 0))
    assert client.get(f"/v1/jobs/{job}/result").status_code == 409
    assert client.get(f"/v1/jobs/{job}/record").status_code == 409
    assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200
    wait(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "stopped")
    answer = client.get(f"/v1/jobs/{job}/result")
    assert answer.headers["impasto-note"].startswith("stopped")
    record = read_record(io.BytesIO(answer.content))
    assert record is not None
    assert record["interrupted"]
    client.delete(f"/v1/jobs/{job}")


def test_the_queue_is_seen_and_limited(serving: Callable[..., TestClient], picture: bytes, wait: Until) -> None:
    client = serving(max_waiting=1)
    first = begin(client, picture, LONG)
    wait(lambda: client.get(f"/v1/jobs/{first}").json().get("iteration", 0))
    second = begin(client, picture, QUICK)
    assert client.get(f"/v1/jobs/{second}").json()["place"] == 1
    assert client.get("/healthz").json() == {"status": "ok", "waiting": 1}
    full = client.post("/v1/jobs", files=files(picture), data=QUICK)
    assert full.status_code == 429
    assert full.json() == {"error": "1 paintings are already waiting; try again in a few minutes"}
    assert full.headers["retry-after"] == "60"
    assert client.delete(f"/v1/jobs/{first}").status_code == 204
    wait(lambda: client.get(f"/v1/jobs/{second}").json()["status"] == "done")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "no style given; name a built-in style, or send a picture or style file"),
        ({"style": "stary-night"}, "style 'stary-night' is not a built-in style; GET /v1/styles lists them"),
        ({"style": "/etc/passwd"}, "style '/etc/passwd' is not a built-in style"),
        ({"style": "http://a.example/a.png"}, "is not a built-in style"),
        ({"style": "file:1"}, "style 'file:1' does not exist: 0 style files were sent"),
        (
            {"style": "udnie", "start": "/etc/passwd"},
            "start: Input should be 'auto', 'content', 'network', 'blurred'",
        ),
        ({"style": "udnie", "model": "/etc/passwd"}, "there is no field 'model'"),
        ({"style": "udnie", "sise": "3"}, "there is no field 'sise'"),
        ({"style": "udnie", "size": "31"}, "size: Input should be greater than or equal to 32"),
        (
            {"style": "udnie", "size": "257"},
            "the painting would be 257x228; this server paints at most 256 pixels a side",
        ),
        ({"style": "udnie", "strength": "nan"}, "strength: Input should be"),
        ({"style": "udnie", "time": "soon"}, "--time: 'soon' is not a time"),
        ({"style": "udnie", "style_loss": "swirl"}, "unknown name 'swirl'"),
        ({"style": "udnie", "size": "64", "scale": "2"}, "--size and --scale cannot be combined"),
        ({"style": "udnie", "style_weights": "1,2"}, "2 --style-weights for 1 styles"),
        ({"style": "udnie", "region_style": "udnie"}, "0 region_mask and 1 region_style"),
        ({"style": "udnie", "format": "bmp"}, "format: Input should be"),
        ({"style": "udnie", "format": "jpeg", "bits": "16"}, "jpeg has 8 bits per channel"),
    ],
)
def test_refusals(client: TestClient, engine: Engine, picture: bytes, data: dict[str, str], reason: str) -> None:
    before = set(engine.folder.glob("job-*"))
    answer = client.post("/v1/stylize", files=files(picture), data=data)
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]
    assert reason in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert set(engine.folder.glob("job-*")) == before


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"<svg></svg>", b"II*\0"]
)
def test_bad_pictures(client: TestClient, content: bytes) -> None:
    answer = client.post("/v1/stylize", files={"content": ("a.png", content)}, data=QUICK)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(("a.png", "content"))


def test_masks_as_programs_write_them(client: TestClient, engine: Engine, picture: bytes) -> None:
    """White on black, an alpha, and 0 and 1 give the same painting. Other proportions, and labels, are refused."""
    half = np.zeros((64, 72), np.uint8)
    half[:, :36] = 255
    data = {**QUICK, "precision": "float32"}
    paintings = []
    for mask in (half, np.dstack([np.zeros((64, 72, 3), np.uint8), half]), half // 255):
        answer = client.post("/v1/stylize", files=files(picture, mask=png(mask)), data=data)
        assert answer.status_code == 200, answer.text
        paintings.append(read_image(io.BytesIO(answer.content)).tensor)
    assert paintings[0].equal(paintings[1])
    assert paintings[0].equal(paintings[2])
    before = set(engine.folder.glob("job-*"))
    for mask, reason in (
        (half.T.copy(), "the photograph's proportions"),
        (half // 80, "make the part to paint white"),
    ):
        for field, more in (("mask", {}), ("region_mask", {"region_style": "udnie"})):
            sent = files(picture, **{field: png(mask)})
            answer = client.post("/v1/jobs", files=sent, data={**data, **more})
            assert answer.status_code == 422
            assert reason in answer.json()["error"]
    assert set(engine.folder.glob("job-*")) == before


def test_a_format_that_cannot_hold_the_painting(serving: Callable[..., TestClient]) -> None:
    """The error comes before anything is painted."""
    client = serving(max_size=20_000)
    long = png(np.zeros((40, 9000, 3), np.uint8))
    answer = client.post("/v1/stylize", files=files(long), data={"style": "udnie", "scale": "2", "format": "webp"})
    assert answer.status_code == 422
    assert "WEBP holds no side longer than 16383 pixels" in answer.json()["error"]


def test_what_hides_under_transparency_is_not_shown(client: TestClient, wait: Until) -> None:
    """It shows neither in the page's photograph nor in the painting."""
    shown, found = np.full((64, 72), 255, np.uint8), []
    shown[:, 36:] = 0
    for hidden in (0, 255):
        levels = np.random.default_rng(0).integers(0, 256, (64, 72, 3), np.uint8)
        levels[:, 36:] = hidden
        job = begin(client, png(np.dstack([levels, shown])), {"style": "udnie", "size": "64", "quality": "instant"})
        wait(lambda job=job: client.get(f"/v1/jobs/{job}").json()["status"] == "done")
        found.append([client.get(f"/v1/jobs/{job}/{what}").content for what in ("photo", "frame", "result")])
    assert found[0][:2] == found[1][:2]
    photo = read_image(io.BytesIO(found[0][0])).tensor
    assert photo[..., 48:].min() > 0.95


def test_too_large(client: TestClient) -> None:
    answer = client.post("/v1/stylize", files={"content": ("a.png", b"x" * 2_100_000)}, data=QUICK)
    assert answer.status_code == 413
    assert answer.json() == {"error": "the request is larger than this server's limit of 2 MB"}


def test_what_fails_while_it_is_painted(client: TestClient, picture: bytes) -> None:
    answer = client.post("/v1/stylize", files=files(picture), data={**QUICK, "layers": "relu9_9"})
    assert answer.status_code == 422
    assert "relu9_9" in answer.json()["error"]


def test_unknown_jobs(client: TestClient) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/result"), ("POST", "/cancel")):
        answer = client.request(method, f"/v1/jobs/nothing{path}")
        assert answer.status_code == 404
        assert answer.json() == {"error": "this job does not exist; it may have been removed"}


def test_methods_and_places_that_are_none(client: TestClient) -> None:
    answer = client.put("/v1/jobs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json() == {"error": "PUT is not allowed; use POST"}
    assert client.post("/healthz").status_code == 405
    assert client.patch("/v1/jobs/nothing").headers["allow"] == "GET, DELETE"
    assert client.get("/v1/nothing").json() == {"error": "this path does not exist; /docs lists the paths"}


def test_styles(client: TestClient) -> None:
    found = client.get("/v1/styles").json()
    assert [s["name"] for s in found] == builtin_names()
    assert found[0]["title"] == load_builtin(found[0]["name"]).about["title"]
    for style in found:
        assert client.get(style["thumbnail"]).headers["content-type"] == "image/jpeg"


def test_a_style_file_paints_as_the_built_in_style_does(client: TestClient, picture: bytes) -> None:
    from impasto.style.target import FOLDER, SUFFIX

    style = (FOLDER / f"udnie{SUFFIX}").read_bytes()
    own = client.post(
        "/v1/stylize",
        files={"content": ("photo.png", picture), "style_file": ("my.style.safetensors", style)},
        data={"size": "64", "iterations": "2", "start": "content"},  # the network knows the built-in style by name
    )
    built_in = client.post("/v1/stylize", files=files(picture), data={**QUICK, "start": "content"})
    assert (own.status_code, built_in.status_code) == (200, 200)
    assert read_image(io.BytesIO(own.content)).tensor.equal(read_image(io.BytesIO(built_in.content)).tensor)
    broken = client.post(
        "/v1/stylize",
        files={"content": ("photo.png", picture), "style_file": ("my.safetensors", b"\x08\0\0\0\0\0\0\0{}      ")},
    )
    assert broken.status_code == 422
    assert broken.json()["error"].startswith("my.safetensors")


def test_it_is_described(client: TestClient) -> None:
    form = client.get("/openapi.json").json()["components"]["schemas"]["Body_stylize_v1_stylize_post"]
    assert form["additionalProperties"] is False
    assert form["properties"]["size"]["description"].startswith("Long side of the painting")
    assert "model" not in form["properties"]
    page = client.get("/docs").text
    assert "POST /v1/stylize" in page
    assert "Long side of the painting" in page
    assert "http://" not in page
    assert "https://" not in page


def test_key(serving: Callable[..., TestClient], tmp_path: Any) -> None:
    (tmp_path / "key").write_text("correct-horse-battery\n")
    client = serving(api_key_file=tmp_path / "key")
    assert client.get("/v1/styles").json() == {"error": "the key is missing or wrong"}
    assert client.get("/v1/styles", headers={"Authorization": "Bearer correct-horse-battery"}).status_code == 200


UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def fuzz(app: Any, examples: int) -> None:
    """Send that many examples of each operation, valid and invalid by the description.

    A valid request may still be refused: no description can require that bytes are a picture.
    """
    schema: Any = schemathesis.openapi.from_asgi("/openapi.json", app)
    for found in schema.get_all_operations():
        operation = found.ok()
        modes: tuple[Any, ...] = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        for mode in modes:

            @settings(max_examples=examples, suppress_health_check=UNHURRIED)
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                case.call_and_validate(excluded_checks=[positive_data_acceptance])

            # What takes nothing cannot be given anything that is not allowed.
            with suppress(Unsatisfiable) if mode == GenerationMode.NEGATIVE else nullcontext():
                check()


def test_fuzz(app: Any, client: TestClient) -> None:
    """Each answer to a few examples is one that the description names, and none is a 5xx."""
    fuzz(app, 3)


@pytest.mark.slow
def test_fuzz_long(app: Any, client: TestClient) -> None:
    """The same holds for more than 500 examples over all operations."""
    fuzz(app, 25)
