"""Tests of the Video and Live tabs in a real browser: a film from drop to download, and a camera.

It needs Chromium, whose false camera shows a moving shape. IMPASTO_PATIENCE is a factor on all waiting. The pictures of
the docs are made by

    IMPASTO_SCREENSHOTS=docs/images .venv/bin/pytest tests/tools/web/test_browser_moving.py -k pictures
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from impasto.options import FilmQuality
from impasto.tools.web.widgets import WORDS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
av = pytest.importorskip("av", reason="needs the extra video")

BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)
PATIENCE = float(os.environ.get("IMPASTO_PATIENCE", "1"))
SCREENSHOTS = os.environ.get("IMPASTO_SCREENSHOTS")
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
STAND_IN = """async () => {
    const photo = new Image(), board = document.createElement("canvas");
    photo.src = getComputedStyle(document.querySelector("#sample-cat")).backgroundImage.slice(5, -2);
    await photo.decode();
    [board.width, board.height] = [640, 480];
    let left = 0;
    setInterval(() => board.getContext("2d").drawImage(photo, -40 + 20 * Math.sin(left++ / 40), -20, 720, 540), 40);
    navigator.mediaDevices.getUserMedia = async () => board.captureStream(25);
}"""
"""A camera that sees a sample photograph, which moves."""
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser: `apt-get install chromium` where that can be had")


@pytest.fixture(scope="module")
def served(clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Start `impasto live` twice, with the browser's camera and with a film as this machine's. Return the addresses."""
    temporary = tmp_path_factory.mktemp("studio")
    started = []
    for arguments in (["udnie"], ["--source", str(clip(frames=50)), "--size", "64"]):
        command = [sys.executable, "-u", "-m", "impasto", "live", "--port", "0", *arguments]
        environment = {**os.environ, "TMPDIR": str(temporary)}
        started.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        )
    found = []
    for server in started:
        assert server.stdout is not None
        said = server.stdout.readline()
        address = re.search(r"http://[\d.:]+", said)
        assert address, said + (server.stderr.read() if server.stderr and server.poll() is not None else "")
        assert "127.0.0.1" in address[0]
        found.append(address[0])
    yield found[0], found[1]
    for server in started:
        server.send_signal(signal.SIGTERM)
    for server in started:
        _, errors = server.communicate(timeout=30 * PATIENCE)
        assert server.returncode == 0, errors
        assert "Traceback" not in errors
    assert not list(temporary.glob("impasto-studio-*"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", *CAMERA])
        yield found
        found.close()


@pytest.fixture
def problems() -> list[str]:
    """Return the errors of pages, and their requests to other machines."""
    return []


@pytest.fixture
def opened(browser: Any, problems: list[str]) -> Iterator[Callable[..., Any]]:
    """Return `opened(address, "film")`, which opens a page at a tab.

    At the end, it must have had no errors or foreign requests.
    """
    contexts = []

    def open_page(address: str, tab: str, viewport: dict[str, int] = DESKTOP, **settings: Any) -> Any:
        context = browser.new_context(viewport=viewport, accept_downloads=True, **settings)
        contexts.append(context)
        context.set_default_timeout(20_000 * PATIENCE)
        page = context.new_page()
        page.on("console", lambda m: m.type == "error" and problems.append(m.text))
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or problems.append(r.url))
        page.goto(f"{address}/#{tab}", wait_until="domcontentloaded")
        page.locator(f"#{tab}-styles div label").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def slide(page: Any, slider: str, value: float) -> None:
    """Set a slider as a visitor would."""
    events = "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, {bubbles: true}))"
    page.locator(f"#{slider}").evaluate(f"e => {{ e.value = {value}; {events} }}")


def fits(page: Any) -> bool:
    """Check that nothing is wider than the page."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_from_a_film_to_a_painted_one(
    opened: Callable[..., Any], served: tuple[str, str], clip: Callable[..., Path], tmp_path: Path
) -> None:
    page, film, bodies = opened(served[0], "film"), clip(frames=20), []
    page.on("request", lambda r: r.url.endswith("/v1/videos") and bodies.append(int(r.all_headers()["content-length"])))
    page.locator("#film-file").set_input_files(film)
    page.locator("#film-painted:visible").wait_for()
    assert page.locator("#film-original").is_visible()
    first = page.locator("#film-painted").get_attribute("src")
    slide(page, "film-strength", 0.5)
    page.wait_for_function("src => document.querySelector('#film-painted').src.endsWith(src) === false", arg=first)
    page.wait_for_function("document.querySelector('#film-status').textContent.startsWith('This is how')")
    assert len(bodies) == 2
    assert bodies[0] > film.stat().st_size > 5000
    assert bodies[1] < 3000  # the film is sent once
    page.locator("#film-end").fill("1.5s")
    page.locator("#film-paint").click()
    page.locator('#film-view[data-state="done"]').wait_for(timeout=60_000 * PATIENCE)
    assert page.locator("#film-status").inner_text().startswith("Done: 15 frames, 64 × 48")
    page.wait_for_function("document.querySelector('#film-result').videoWidth === 64")
    page.locator("#film-more summary").click()
    command = page.locator("#film-command").inner_text()
    assert command == "impasto video clip.mp4 starry-night --strength 0.5 --end 1.5 -o clip-starry-night.mp4"
    with page.expect_download() as download:
        page.locator("#film-download").click()
    download.value.save_as(tmp_path / "painted.mp4")
    with av.open(str(tmp_path / "painted.mp4")) as painted:
        assert len(painted.streams.audio) == 1
        assert len(list(painted.decode(video=0))) == 15


def test_quality(opened: Callable[..., Any], served: tuple[str, str], clip: Callable[..., Path]) -> None:
    """The same words as for photographs, only what films support; for the frame and the film, with the time of each."""
    page = opened(served[0], "film")
    cards = page.locator("#film-quality label")
    assert cards.locator("input").evaluate_all("e => e.map(x => x.value)") == list(get_args(FilmQuality))
    assert [c.strip() for c in cards.all_inner_texts()] == [WORDS[q] for q in get_args(FilmQuality)]
    assert cards.nth(0).locator("input").is_checked()
    page.locator("#film-file").set_input_files(clip(frames=3))
    page.locator("#film-painted:visible").wait_for()
    texts = cards.all_inner_texts()
    assert all(re.search(r"64 px, about \d+ s$", t) for t in texts), texts
    first = page.locator("#film-painted").get_attribute("src")
    cards.filter(has_text="Good").click()
    page.wait_for_function("src => document.querySelector('#film-painted').src.endsWith(src) === false", arg=first)
    page.wait_for_function("document.querySelector('#film-status').textContent.startsWith('This is how')")
    shown = "src => fetch(src).then(r => r.arrayBuffer()).then(b => [...new Uint8Array(b)].join())"
    src = page.locator("#film-painted").get_attribute("src")
    assert page.evaluate(shown, first) != page.evaluate(shown, src)
    page.locator("#film-paint").click()
    page.locator('#film-view[data-state="done"]').wait_for(timeout=60_000 * PATIENCE)
    assert "--quality good" in page.locator("#film-command").text_content()


def test_what_is_no_film(
    opened: Callable[..., Any], problems: list[str], served: tuple[str, str], tmp_path: Path
) -> None:
    page = opened(served[0], "film")
    (tmp_path / "notes.mp4").write_text("no film")
    page.locator("#film-file").set_input_files(tmp_path / "notes.mp4")
    page.locator('#film-view[data-state="failed"]').wait_for()
    assert "is not a film" in page.locator("#film-status").inner_text()
    assert len(problems) == 1
    assert "422" in problems.pop()


def test_the_browsers_camera(opened: Callable[..., Any], served: tuple[str, str], tmp_path: Path) -> None:
    """The camera is painted, changed to another style by a key, recorded, and stopped."""
    page = opened(served[0], "live")
    assert page.locator("#live-styles input:checked").evaluate_all("e => e.map(x => x.value)") == ["udnie"]
    page.locator("#live-start").click()
    page.wait_for_function("Number(document.querySelector('#live-view').dataset.frames) >= 5")
    assert re.match(r"\d+ frames a second · \d+ × \d+", page.locator("#live-status").inner_text())
    page.locator("#live-mirror").focus()
    page.keyboard.press("n")
    page.keyboard.press("-")
    chosen = page.locator("#live-styles input:checked").evaluate_all("e => e.map(x => x.value)")
    assert len(chosen) == 1
    assert chosen != ["udnie"]
    assert page.locator("#live-strength").input_value() == "0.9"
    page.keyboard.press("r")
    seen = int(page.locator("#live-view").get_attribute("data-frames"))
    page.wait_for_function("seen => Number(document.querySelector('#live-view').dataset.frames) >= seen + 10", arg=seen)
    page.keyboard.press("r")
    page.locator("#live-download:visible").wait_for()
    with page.expect_download() as download:
        page.locator("#live-download").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    with av.open(str(path)) as film:
        frames = [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]
    assert len(frames) > 3
    assert frames[-1].std() > 10
    page.locator("#live-start").click()
    page.wait_for_function("document.querySelector('#live-status').textContent === 'Stopped.'")


def test_this_machines_camera(opened: Callable[..., Any], served: tuple[str, str]) -> None:
    """The film is shown as soon as the tab opens, and follows the choices on the page."""
    page = opened(served[1], "live", PHONE)
    page.wait_for_function("Number(document.querySelector('#live-view').dataset.frames) >= 3")
    assert fits(page)
    picture = "document.querySelector('#live-canvas').toDataURL()"

    def shown() -> Any:
        import base64

        data = base64.b64decode(page.evaluate(picture).partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    before = shown()
    assert before.shape == (48, 64, 3)
    page.locator("#live-strength").evaluate(
        "e => { e.value = 0; e.dispatchEvent(new Event('change', {bubbles: true})) }"
    )
    page.wait_for_timeout(1500 * PATIENCE)
    assert np.abs(shown() - before).mean() > 10


def test_tabs(opened: Callable[..., Any], served: tuple[str, str]) -> None:
    page = opened(served[0], "film", PHONE)
    assert fits(page)
    for tab, there, gone in (("live", "#live", "#film"), ("photo", "#studio", "#live"), ("film", "#film", "#studio")):
        page.locator(f'#title nav button[data-tab="{tab}"]').click()
        page.locator(f"{there}:visible").wait_for()
        assert not page.locator(gone).is_visible()
        assert page.locator(f'#title [data-tab="{tab}"]').get_attribute("aria-selected") == "true"
        assert fits(page)


@pytest.mark.skipif(not SCREENSHOTS, reason="makes the pictures of the docs: set IMPASTO_SCREENSHOTS")
def test_pictures(opened: Callable[..., Any], served: tuple[str, str]) -> None:
    """The tabs show the film that IMPASTO_FILM names; the camera shows a moving photograph."""

    def take(page: Any, name: str) -> None:
        page.wait_for_timeout(1500 * PATIENCE)
        page.screenshot(path=Path(SCREENSHOTS or ".") / f"studio-{name}.jpg", type="jpeg", quality=85)

    page = opened(served[0], "film")
    page.locator("#film-file").set_input_files(os.environ["IMPASTO_FILM"])
    page.locator("#film-painted:visible").wait_for()
    take(page, "video")
    page.evaluate(STAND_IN)
    page.locator('#title nav button[data-tab="live"]').click()
    page.locator("#live-styles div label", has_text="Starry Night").click()
    page.locator("#live-start").click()
    page.wait_for_function("Number(document.querySelector('#live-view').dataset.frames) >= 30")
    take(page, "live")
