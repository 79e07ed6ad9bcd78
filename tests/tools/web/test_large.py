"""Large paintings over HTTP are made from file to file, fetched as a file, and viewed in tiles."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from impasto.image.read import read_image, read_record

pytest.importorskip("pyvips")

Serving = Callable[..., TestClient]
Until = Callable[..., Any]
LARGE = {"style": "udnie", "quality": "instant", "scale": "1", "precision": "float32"}


@pytest.fixture(scope="module")
def photo() -> bytes:
    """Return a photograph of 520x300 pixels with a resolution, as a PNG."""
    waves = np.add.outer(np.arange(300) * 0.05, np.arange(520) * 0.03)[..., None] + np.array([0, 1, 2])
    file = io.BytesIO()
    Image.fromarray((127 * (1 + np.sin(waves))).astype(np.uint8)).save(file, "PNG", dpi=(300, 300))
    return file.getvalue()


def job_of(client: TestClient, wait: Until, photo: bytes, **data: Any) -> tuple[str, dict[str, Any]]:
    answer = client.post("/v1/jobs", files={"content": ("photo.png", photo)}, data={**LARGE, **data})
    assert answer.status_code == 201, answer.text
    at = f"/v1/jobs/{answer.json()['id']}"
    wait(lambda: client.get(at).json()["status"] not in ("queued", "painting"))
    return at, client.get(at).json()


def test_a_large_painting(serving: Serving, wait: Until, photo: bytes) -> None:
    client = serving(large_megapixels=1.0)
    at, view = job_of(client, wait, photo)
    assert (view["status"], view["size"], view["tiles"]) == ("done", [520, 300], True), view
    assert client.get(f"{at}/frame").content.startswith(b"\xff\xd8")
    assert client.get(f"{at}/photo").content.startswith(b"\xff\xd8")
    files = {}
    for kind in ("png", "tiff", "jpeg", "webp"):
        found = client.get(f"{at}/result", params={"format": kind})
        assert (found.status_code, found.headers["content-type"]) == (200, f"image/{kind}"), found.text
        assert found.headers["content-disposition"] == f'attachment; filename="photo-udnie.{kind}"'
        files[kind] = found.content
    assert client.get(f"{at}/result", params={"format": "png", "bits": "16"}).content[24] == 16
    assert client.get(f"{at}/result", params={"format": "jpeg", "bits": "16"}).status_code == 422
    whole = serving(max_size=1024).post(
        "/v1/stylize", files={"content": ("photo.png", photo)}, data={**LARGE, "format": "png"}
    )
    painting, expected = (read_image(io.BytesIO(data)) for data in (files["png"], whole.content))
    torch.testing.assert_close(painting.tensor, expected.tensor, rtol=0, atol=1.01 / 255)
    with Image.open(io.BytesIO(files["png"])) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    (one, other) = (read_record(io.BytesIO(d)) for d in (files["png"], whole.content))
    assert one is not None
    assert other is not None
    assert one.pop("output")["max_megapixels"] == other.pop("output")["max_megapixels"] == 1.0
    assert one == other
    assert client.get(f"{at}/record").status_code == 200
    assert client.delete(at).status_code == 204


def test_tiles_make_up_the_painting(serving: Serving, wait: Until, photo: bytes) -> None:
    """The tiles of the highest level make up the painting; level 0 has a single pixel."""
    client = serving(large_megapixels=1.0)
    at, _ = job_of(client, wait, photo)
    painting = np.asarray(Image.open(io.BytesIO(client.get(f"{at}/result").content)).convert("RGB"), float)
    for column, row in ((0, 0), (1, 1), (2, 0)):
        answer = client.get(f"{at}/tiles/10/{column}/{row}")
        assert answer.headers["content-type"] == "image/jpeg"
        tile = np.asarray(Image.open(io.BytesIO(answer.content)), float)
        top, left = max(0, 254 * row - 1), max(0, 254 * column - 1)
        part = painting[top : top + tile.shape[0], left : left + tile.shape[1]]
        assert part.shape == tile.shape
        assert abs(part - tile).mean() < 4
    assert Image.open(io.BytesIO(client.get(f"{at}/tiles/0/0/0").content)).size == (1, 1)
    for wrong in ("11/0/0", "10/3/0", "10/0/2"):
        assert client.get(f"{at}/tiles/{wrong}").status_code == 404
    for wrong in ("10/-1/0", "10/0/x", "..%2F..%2Fsources/0/0"):
        assert client.get(f"{at}/tiles/{wrong}").status_code in (404, 422)


def test_transparency_and_parts(serving: Serving, wait: Until, photo: bytes) -> None:
    client = serving(large_megapixels=1.0)
    with Image.open(io.BytesIO(photo)) as image:
        mask, file, cutout = Image.linear_gradient("L").resize(image.size), io.BytesIO(), io.BytesIO()
        mask.save(file, "PNG")
        image.putalpha(mask)
        image.save(cutout, "PNG")
    answer = client.post(
        "/v1/jobs",
        files=[("content", ("photo.png", cutout.getvalue())), ("region_mask", ("sky.png", file.getvalue()))],
        data={**LARGE, "region_style": "great-wave", "keep_colours": "0.5"},
    )
    at = f"/v1/jobs/{answer.json()['id']}"
    wait(lambda: client.get(at).json()["status"] == "done")
    painting = read_image(io.BytesIO(client.get(f"{at}/result").content))
    assert painting.alpha is not None
    assert client.get(f"{at}/tiles/10/0/0").headers["content-type"] == "image/png"


def test_limits(serving: Serving, wait: Until, photo: bytes) -> None:
    """They are off by default, and not possible at once, by optimisation, or beyond the limits."""
    for limits, path, data, reason in (
        ({}, "jobs", {}, "paints at most 256 pixels a side: give a smaller --size"),
        ({"large_megapixels": 0.1}, "jobs", {}, "jobs may have up to 0.1 megapixels"),
        ({"large_megapixels": 1.0}, "jobs", {"quality": "draft"}, "with --quality instant, jobs may have up to 1 mega"),
        ({"large_megapixels": 1.0}, "stylize", {}, "paints at most 256 pixels a side"),
    ):
        answer = serving(**limits).post(f"/v1/{path}", files={"content": ("photo.png", photo)}, data={**LARGE, **data})
        assert (answer.status_code, reason in answer.json()["error"]) == (422, True), answer.text
    client = serving(large_megapixels=1.0, max_megapixels=0.1)
    assert job_of(client, wait, photo)[1]["status"] == "done"
    small = client.post("/v1/jobs", files={"content": ("photo.png", photo)}, data={**LARGE, "scale": "0.2"})
    assert (small.status_code, "more than 0.1" in small.json()["error"]) == (422, True)


def test_a_large_painting_that_takes_too_long_is_not_kept(
    serving: Serving, wait: Until, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serving(large_megapixels=1.0, max_seconds=1.0)
    monkeypatch.setattr("impasto.stylizers.network_memory.STRIP_PIXELS", 4000)
    monkeypatch.setattr("impasto.tools.web.painter.FRAME_SECONDS", 0.0)
    monkeypatch.setattr("impasto.tools.web.painter.show", lambda of, picture: __import__("time").sleep(0.5))
    at, view = job_of(client, wait, photo)
    assert (view["status"], "tiles" in view) == ("stopped", False)
    assert view["note"] == (
        "stopped after 1 seconds, the limit of this server: a large painting is only kept once it is finished"
    )
    assert client.get(f"{at}/result").status_code == 422
    assert client.get(f"{at}/tiles/0/0/0").status_code == 404
