"""Tests of the page in a real browser, with a real server: painting, watching, stopping, masks, downloads.

It needs Chromium (`make test` installs Debian's where it can) and is skipped where there is none. IMPASTO_PATIENCE is a
factor on all waiting, for a busy machine. The pictures of docs/studio.md are made by

    IMPASTO_SCREENSHOTS=docs/images .venv/bin/pytest tests/tools/web/test_browser.py -k pictures
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from impasto.image.read import read_image, read_record

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)
PATIENCE = float(os.environ.get("IMPASTO_PATIENCE", "1"))
SCREENSHOTS = os.environ.get("IMPASTO_SCREENSHOTS")
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
EXAMPLES = Path(__file__).parents[3] / "examples"
CUT = "e => { e.value = 40; e.dispatchEvent(new Event('input', {bubbles: true})) }"
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser: `apt-get install chromium` where that can be had")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server and return its address.

    At the end it is stopped while it paints, and must leave nothing behind.
    """
    temporary = tmp_path_factory.mktemp("studio")
    server = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "-m",
            "impasto",
            "serve",
            "--port",
            "0",
            "--max-size",
            "1024",
            "--large-megapixels",
            "4",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert server.stdout is not None
    said = server.stdout.readline()
    found = re.search(r"http://[\d.:]+", said)
    assert found, said + (server.stderr.read() if server.stderr and server.poll() is not None else "")
    yield found[0]
    with (EXAMPLES / "photo.jpg").open("rb") as photo:
        form = {"style": "udnie", "method": "optimize", "size": "1024"}
        job = httpx2.post(f"{found[0]}/v1/jobs", files={"content": photo}, data=form, timeout=60 * PATIENCE).json()
    for _ in range(600):
        if httpx2.get(f"{found[0]}/v1/jobs/{job['id']}").json()["status"] == "painting":
            break
        time.sleep(0.05 * PATIENCE)
    server.send_signal(signal.SIGTERM)
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


class Visit:
    """A page of the studio, which records everything that it requests and every error."""

    def __init__(self, browser: Any, address: str, **settings: Any):
        self.context = browser.new_context(accept_downloads=True, **settings)
        self.context.set_default_timeout(20_000 * PATIENCE)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda m: m.type == "error" and self.problems.append(m.text))
        # Gradio's own client aborts the request whose answer is no longer wanted, and does not catch that.
        self.page.on("pageerror", lambda e: "AbortError" in str(e) or self.problems.append(str(e)))
        self.page.on("request", lambda r: self._ask(r.url, address))
        self.page.goto(address, wait_until="domcontentloaded")
        self.page.locator("#paint").wait_for()
        self.page.locator("#quality label").first.wait_for()

    def _ask(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.problems.append(f"asked for {url}")

    def take(self, name: str) -> None:
        """Take a picture for the docs, once everything has stopped moving."""
        self.page.wait_for_timeout(1500 * PATIENCE)
        path = Path(SCREENSHOTS or ".") / f"studio-{name}.jpg"
        self.page.screenshot(path=path, quality=85, timeout=60_000 * PATIENCE)

    def paint(self, sample: str, style: str) -> None:
        """Paint a sample photograph at the default quality, and show a part of the photograph next to it."""
        self.page.locator(f"#sample-{sample}").click()
        self.page.locator("#photo img[src]").wait_for()
        self.page.locator("#styles label", has_text=style).click()
        self.page.locator("#quality label", has_text="Good").click()
        self.page.locator("#quality label", has_text="px").first.wait_for()
        self.page.locator("#paint").click()
        self.state("done")
        self.page.locator("#after[src]").wait_for()
        self.page.locator("#divide").evaluate(CUT)

    def state(self, *states: str) -> Any:
        """Wait until the painting is in one of these states."""
        wanted = ", ".join(f'#view[data-state="{s}"]' for s in states)
        return self.page.locator(wanted).wait_for(timeout=60_000 * PATIENCE)

    def choose(self, photo: Path, style: str) -> None:
        """Choose a photograph with the page's file field, and a style by a click on its picture."""
        self.page.locator("#photo input[type=file]").set_input_files(photo)
        self.page.locator("#photo img[src]").wait_for()
        self.page.locator("#styles label", has_text=style).click()

    def open(self, text: str) -> None:
        """Unfold the section with that title."""
        self.page.get_by_role("button", name=text).click()

    def close(self) -> None:
        self.context.close()
        assert not self.problems


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    found = Visit(browser, address, viewport=DESKTOP)
    yield found
    found.close()


def test_from_a_photograph_to_a_painting(visit: Visit, photo_file: Any, tmp_path: Path) -> None:
    """A visitor uploads, chooses, watches, drags the slider, downloads, masks a region, paints again and goes back."""
    page = visit.page
    visit.choose(photo_file("coffee"), "Starry Night")
    page.locator("#option-size textarea, #option-size input").first.fill("200")
    visit.open("Optimiser")
    page.locator("#option-iterations textarea, #option-iterations input").first.fill("12")
    visit.open("Optimiser")
    page.locator("#paint").click()
    visit.state("painting", "done")
    page.locator("#after[src]").wait_for()
    visit.state("done")
    assert page.locator("#status").inner_text().startswith("Done: 200 × 133")
    sources = page.evaluate(
        "performance.getEntriesByType('resource').map(e => e.name).filter(n => n.includes('/frame?'))"
    )
    assert sources
    page.locator("#divide").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator("#view").evaluate("e => e.style.getPropertyValue('--cut')") == "3%"
    page.locator("#divide").evaluate(CUT)
    assert page.locator("#view").evaluate("e => e.style.getPropertyValue('--cut')") == "40%"
    page.locator("#curves summary").click()
    assert page.locator("#curves polyline").count() >= 3
    page.locator("#format").select_option("png-16")
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(tmp_path / "painting.png")
    assert (tmp_path / "painting.png").read_bytes()[24] == 16
    record = read_record(tmp_path / "painting.png")
    assert record is not None
    assert (record["options"]["size"], record["options"]["iterations"]) == (200, 12)
    command = page.locator("#command textarea").input_value()
    assert re.fullmatch(r"impasto stylize coffee\.\w+ starry-night --size 200 --iterations 12", command)

    visit.open("Regions")
    canvas = page.locator("#canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    assert box["height"] > 100
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40, steps=4)
    page.mouse.up()
    page.locator(".region-1 input").click()
    page.get_by_role("option", name="The Scream").click()
    page.locator("#paint").click()
    visit.state("queued", "painting")
    visit.state("done")
    assert "--region region-1.png=the-scream" in page.locator("#command textarea").input_value()

    assert page.locator("#history label").count() == 2
    page.wait_for_function("document.querySelector('#history label').style.cssText.includes('/frame')")
    page.locator("#history label").nth(1).click()
    page.wait_for_function("!document.querySelector('#command textarea').value.includes('--region')")
    visit.state("done")
    assert page.locator("#option-size textarea, #option-size input").first.input_value() == "200"


def test_a_large_painting_is_looked_at_in_parts(visit: Visit, photo_file: Any) -> None:
    """The viewer shows the whole, and loads tiles of the finest level only when zoomed in."""
    pytest.importorskip("pyvips")
    page = visit.page
    visit.choose(photo_file("coffee"), "Udnie")
    page.locator("#quality label", has_text="Instant").click()
    page.locator("#option-size textarea, #option-size input").first.fill("1500")
    page.locator("#paint").click()
    visit.state("done")
    assert page.locator("#status").inner_text().startswith("Done: 1500 × 1000")
    page.locator("#closer").click()
    canvas = page.locator("#zoom canvas")
    shown = """([x, y]) => {
        const board = document.querySelector("#zoom canvas");
        return [...board.getContext("2d").getImageData(board.width * x, board.height * y, 1, 1).data];
    }"""
    asked = """() => performance.getEntriesByType("resource")
        .map((e) => e.name.match(/tiles.([0-9]+).([0-9]+).([0-9]+)/))
        .filter((m) => m).map((m) => m.slice(1).map(Number))"""
    page.wait_for_function(f"({shown})([0.5, 0.5])[3] === 255")
    for _ in range(3):
        canvas.press("+")
    page.get_by_role("button", name="1:1").click()
    canvas.press("ArrowRight")
    page.wait_for_function(f"({asked})().some((t) => t[0] === 11)")
    before = page.evaluate(asked)
    assert all(column <= 5 and row <= 3 for level, column, row in before if level == 11)
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.wheel(0, -600)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 500, steps=3)
    page.mouse.up()
    page.wait_for_function(f"({shown})([0.5, 0.5])[3] === 255")
    page.get_by_role("button", name="Close").click()
    assert not canvas.is_visible()


def test_stopped_by_keyboard_alone(visit: Visit, photo_file: Any) -> None:
    """Without a mouse, a visitor chooses a photograph and a style, paints, and stops. The painting so far is kept."""
    page = visit.page
    page.locator("#sample-coffee").focus()
    page.keyboard.press("Enter")
    page.locator("#photo img").wait_for()
    page.locator("#styles input").first.focus()
    page.keyboard.press("Space")
    page.locator("#option-size textarea, #option-size input").first.focus()
    page.keyboard.type("256")
    page.locator("#paint").focus()
    page.keyboard.press("Enter")
    visit.state("painting")
    page.locator("#after[src]").wait_for()
    page.locator("#cancel").focus()
    page.keyboard.press("Enter")
    visit.state("stopped")
    assert "so far" in page.locator("#status").inner_text()
    picture = page.context.request.get(page.locator("#download").evaluate("e => e.href"))
    assert picture.ok


def test_styles_of_ones_own_and_a_photograph_that_browsers_cannot_show(visit: Visit, tmp_path: Path) -> None:
    """A HEIC photograph is shown, and a visitor's own picture blends with a built-in style by the sliders' weights."""
    pillow_heif = pytest.importorskip("pillow_heif")
    page = visit.page
    with Image.open(EXAMPLES / "photo.jpg") as photo:
        pillow_heif.from_pillow(photo.resize((160, 120))).save(tmp_path / "photo.heic")
        photo.rotate(90).resize((96, 96)).save(tmp_path / "mine.jpg")
    visit.choose(tmp_path / "photo.heic", "Fruits")
    page.wait_for_function("document.querySelector('#photo img').src.startsWith('data:image/jpeg')")
    page.wait_for_function("document.querySelector('#photo img').naturalWidth === 160")
    page.locator("#quality label", has_text="160 px").first.wait_for()
    visit.open("Your own style")
    page.locator("#own input[type=file]").set_input_files(tmp_path / "mine.jpg")
    sliders = page.locator(".weight:visible")
    sliders.nth(1).wait_for()
    assert [s.split("\n")[0] for s in sliders.all_inner_texts()] == ["Weight of Fruits", "Weight of mine.jpg"]
    number = sliders.nth(1).locator("input[type=number]")
    number.fill("0.25")
    number.press("Tab")
    visit.open("Optimiser")
    page.locator("#option-iterations textarea, #option-iterations input").first.fill("2")
    page.locator("#paint").click()
    visit.state("done")
    command = page.locator("#command textarea").input_value()
    assert command == "impasto stylize photo.heic fruits mine.jpg --style-weights 1,0.25 --iterations 2"


PUT_A_PICTURE_INTO_THE_CLIPBOARD = """async (width) => {
  const canvas = Object.assign(document.createElement("canvas"), {width, height: 60});
  canvas.getContext("2d").fillRect(0, 0, width / 2, 60);
  const picture = await new Promise((done) => canvas.toBlob(done));
  await navigator.clipboard.write([new ClipboardItem({"image/png": picture})]);
}"""


@pytest.mark.slow  # on a busy machine the simulated camera does not always give a picture in time
def test_pasted_and_taken_with_the_camera(visit: Visit) -> None:
    page = visit.page
    visit.context.grant_permissions(["clipboard-read", "clipboard-write", "camera"])
    for width in (80, 90):  # the second takes the first one's place
        page.evaluate(PUT_A_PICTURE_INTO_THE_CLIPBOARD, width)
        page.keyboard.press("Control+v")
        page.wait_for_function(f"document.querySelector('#photo img[src]')?.naturalWidth === {width}")
    page.locator("#photo").get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0")  # else what is captured is empty
    page.get_by_role("button", name="capture photo").click()
    page.wait_for_function("document.querySelector('#photo img[src]')?.naturalWidth > 90")


UNREADABLE_TEXTS = """() => {
  const numbers = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e), rgba = numbers(style.backgroundColor);
      if (style.backgroundImage !== "none" && e.tagName === "BUTTON") return null;  // on a photograph, with a shadow
      if (rgba.length === 3 || rgba[3] > 0.9) return rgba.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
    if (!text || !e.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (!e.getClientRects().length || ["SCRIPT", "STYLE", "OPTION"].includes(e.tagName)) continue;
    const under = paper(e), ink = numbers(getComputedStyle(e).color);
    if (!under) continue;
    const [high, low] = [light(under), light(ink.slice(0, 3))].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    found.push([contrast, text.slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(browser: Any, address: str, scheme: str) -> None:
    """In the system's light and dark modes, every text has the contrast of 4.5 to 1 that WCAG 2 requires."""
    found = Visit(browser, address, viewport=DESKTOP, color_scheme=scheme)
    page = found.page
    page.locator("#sample-coffee").click()
    page.locator("#photo img[src]").wait_for()
    for title in ("Your own style", "Regions", "More of the look", "Optimiser"):
        found.open(title)
    page.locator("#option-seed").wait_for()
    page.locator("#paint").click()
    page.get_by_text("Choose a style").wait_for()
    texts = page.evaluate(UNREADABLE_TEXTS)
    assert len(texts) > 80
    assert not [(f"{contrast:.1f}", text) for contrast, text in texts if contrast < 4.5]
    found.close()


def test_what_is_missing_is_said(visit: Visit) -> None:
    visit.page.locator("#paint").click()
    visit.page.get_by_text("choose a photograph first").wait_for()


def test_on_a_phone(browser: Any, address: str, tmp_path: Path) -> None:
    """Everything is in one column, nothing is wider than the screen, and closing the tab removes its painting."""
    found = Visit(browser, address, viewport=PHONE, device_scale_factor=2, is_mobile=True, has_touch=True)
    page = found.page
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(pixels).resize((512, 384)).save(tmp_path / "own.png")
    page.locator("#sample-cat").tap()
    page.locator("#photo img").wait_for()
    page.locator("#styles label").first.tap()
    page.locator("#paint").tap()
    found.state("painting")
    page.locator("#after[src]").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    job = page.evaluate("document.querySelector('#after').src").split("/")[5]
    found.close()
    other = browser.new_context()
    page, status = other.new_page(), 0
    for _ in range(100):
        status = other.request.get(f"{address}/v1/jobs/{job}").status
        if status == 404:
            break
        page.wait_for_timeout(200 * PATIENCE)
    other.close()
    assert status == 404


def test_a_painting_of_the_interface_is_that_of_the_page(address: str, photo_file: Any, tmp_path: Path) -> None:
    """The server answers programs while it serves pages."""
    with photo_file("coffee").open("rb") as photo:
        answer = httpx2.post(
            f"{address}/v1/stylize",
            files={"content": ("coffee.png", photo)},
            data={"style": "udnie", "size": "64", "iterations": "2"},
            timeout=120 * PATIENCE,
        )
    assert answer.status_code == 200
    (tmp_path / "a.png").write_bytes(answer.content)
    assert max(read_image(tmp_path / "a.png").size) == 64


@pytest.mark.skipif(not SCREENSHOTS, reason="IMPASTO_SCREENSHOTS names no folder for the pictures of docs/studio.md")
def test_pictures_for_the_docs(browser: Any, address: str) -> None:
    """The pictures show a painting and one with a region at desktop size, others on a phone and in the dark."""
    found = Visit(browser, address, viewport=DESKTOP)
    found.paint("cat", "Udnie")
    found.take("painting")
    found.open("Regions")
    board = found.page.locator("#canvas")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    assert box is not None
    found.page.locator("#width").evaluate("e => { e.value = 22 }")
    found.page.mouse.move(box["x"] + 10, box["y"] + 0.2 * box["height"])
    found.page.mouse.down()
    for across, down in ((0.02, 0.8), (0.2, 0.1), (0.25, 0.9), (0.42, 0.1), (0.4, 0.95)):
        found.page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], steps=8)
    found.page.mouse.up()
    found.page.locator(".region-1 input").click()
    found.page.get_by_role("option", name="Night Cafe").click()
    found.page.locator("#paint").click()
    found.state("queued", "painting")
    found.state("done")
    board.scroll_into_view_if_needed()
    found.take("regions")
    found.close()
    for name, style, settings in (
        ("dark", "Starry Night", {"viewport": DESKTOP, "color_scheme": "dark"}),
        ("phone", "Night Cafe", {"viewport": PHONE, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}),
    ):
        found = Visit(browser, address, **settings)
        found.paint("coffee", style)
        found.take(name)
        found.close()
