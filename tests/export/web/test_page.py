"""Tests of the page in a real browser: it paints what Impasto paints, offline, and without growing.

It needs Chromium and onnxruntime-web; `make test` gets both where it can. IMPASTO_PATIENCE is a factor on all waiting.
"""

import base64
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from impasto.export.styles import PLAIN
from impasto.export.web.runtime import fetched
from impasto.export.web.site import write_site
from impasto.image.color import keep_colours
from impasto.image.read import read_image
from impasto.image.resize import fit
from impasto.models.network import Network, load_network
from impasto.models.networks import network_path
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import ExportOptions, StylizeOptions
from impasto.style.target import StyleTarget, builtin_names, load_builtin
from impasto.stylizers.network import NetworkStylizer

BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)
RUNTIME = os.environ.get("IMPASTO_RUNTIME") or (str(fetched()) if fetched().is_file() else None)
PATIENCE = float(os.environ.get("IMPASTO_PATIENCE", "1"))
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
SIZE = 256
"""Long side of the page's paintings here."""
DROP = """([name, data, kind]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/png" }));
  const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
                                 : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


class Visit:
    """A page, with everything that it requests and every error that it reports."""

    def __init__(self, chromium: Any, address: str, query: str = "", **settings: Any):
        self.address = address
        self.context = chromium.new_context(accept_downloads=True, **settings)
        self.context.set_default_timeout(20_000 * PATIENCE)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.problems: list[str] = []
        self.page.on("console", lambda m: m.type == "error" and self.problems.append(m.text))
        self.page.on("pageerror", lambda e: self.problems.append(str(e)))
        self.context.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(address + query)
        self.wait("[data-engine]")

    def wait(self, state: str) -> None:
        self.page.wait_for_selector(f"body{state}", timeout=60_000 * PATIENCE)

    def count(self) -> int:
        return int(self.page.get_attribute("body", "data-paintings") or 0)

    def paints(self, action: Callable[[], Any]) -> np.ndarray:
        """Do something, wait for the painting that results, and return it as a visitor gets it: (H, W, 3), uint8."""
        before = self.count()
        action()
        self.page.wait_for_function(
            "n => Number(document.body.dataset.paintings ?? 0) > n && !document.body.dataset.painting",
            arg=before,
            timeout=60_000 * PATIENCE,
        )
        with self.page.expect_download() as found:
            self.page.click("#download")
        self.name = found.value.suggested_filename
        return np.asarray(Image.open(found.value.path()).convert("RGB"))

    def photo(self, path: Path) -> None:
        self.page.set_input_files("#file", path)

    def choose(self, **values: float) -> None:
        """Set sliders by their ids, without waiting for the paintings in between."""
        for name, value in values.items():
            self.page.eval_on_selector(
                f"#{name}", "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')) }", str(value)
            )

    def style(self, name: str) -> None:
        self.page.check(f'#styles input[value="{name}"]', force=True)

    def close(self) -> None:
        self.context.close()
        assert not self.problems
        assert self.asked
        assert not [url for url in self.asked if not url.startswith((self.address, "blob:" + self.address, "data:"))]


@pytest.fixture(scope="module")
def address(site: Path, serve: Callable[..., Any]) -> str:
    return f"http://127.0.0.1:{serve(site).server_port}/"


@pytest.fixture(scope="module")
def visit(chromium: Any, address: str) -> Iterator[Visit]:
    """Open a page that several tests share. At the end, it must have requested only its own files."""
    found = Visit(chromium, address)
    yield found
    found.close()


@pytest.fixture(scope="module")
def pictures(photo_file: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write lossless pictures: browsers decode a JPEG's colours differently from Pillow."""
    folder, found = tmp_path_factory.mktemp("pictures"), {}
    for name, box in {"chelsea": (100, 0, 333, 187), "coffee": (80, 20, 500, 350), "rocket": (0, 0, 640, 427)}.items():
        with Image.open(photo_file(name)) as image:
            image.convert("RGB").crop(box).save(found.setdefault(name, folder / f"{name}.png"))
    return found


def own(
    net: Network, encoder: VGG, style: StyleTarget | Tensor, photo: Path, keep: float = 0.0, **changes: float
) -> np.ndarray:
    """Return the painting by this package, (H, W, 3), uint8."""
    picture = fit(read_image(photo).tensor, SIZE)
    options = StylizeOptions(method="network", scale=1.0, underpainting=0.0, **changes)  # type: ignore[arg-type]
    painted = NetworkStylizer(net, [style], options, encoder, PLAIN)(picture)
    painted = keep_colours(painted, picture, strength=keep)
    return (255 * painted[0]).round().to(torch.uint8).permute(1, 2, 0).numpy()


def difference(found: np.ndarray, expected: np.ndarray) -> int:
    assert found.shape == expected.shape
    return int(np.abs(found.astype(int) - expected).max())


def test_it_paints_the_same_as_the_package(visit: Visit, pictures: dict[str, Path], net: Network, encoder: VGG) -> None:
    """A small photograph is painted at its own size, and a large one is reduced."""
    assert visit.page.get_attribute("body", "data-engine") == "cpu-1"  # no special headers, so no threads
    style = load_builtin("starry-night")
    for name in ("chelsea", "coffee"):
        found = visit.paints(lambda name=name: visit.photo(pictures[name]))
        assert difference(found, own(net, encoder, style, pictures[name])) <= 2
        assert visit.name == f"{name}-starry-night.png"
        assert found.std() > 10


def test_controls_do_the_same_as_the_package(
    visit: Visit, pictures: dict[str, Path], net: Network, encoder: VGG
) -> None:
    photo, style = pictures["coffee"], load_builtin("great-wave")
    visit.paints(lambda: visit.photo(photo))
    plain = visit.paints(lambda: visit.style("great-wave"))
    found = visit.paints(lambda: visit.choose(strength=0.6))
    assert difference(found, own(net, encoder, style, photo, strength=0.6)) <= 2
    assert difference(found, plain) > 20
    found = visit.paints(lambda: visit.choose(strength=1.5, stroke=-1))
    assert difference(found, own(net, encoder, style, photo, strength=1.5, style_scale=0.5)) <= 2
    found = visit.paints(lambda: visit.choose(strength=1, stroke=0, keep=0.75))
    assert difference(found, own(net, encoder, style, photo, keep=0.75)) <= 2
    assert difference(found, plain) > 20
    assert difference(visit.paints(lambda: visit.choose(keep=0)), plain) == 0


def test_own_painting_is_a_style(visit: Visit, pictures: dict[str, Path], net: Network, encoder: VGG) -> None:
    photo, painting = pictures["chelsea"], pictures["rocket"]
    visit.paints(lambda: visit.photo(photo))
    with visit.page.expect_file_chooser() as chooser:
        visit.page.click("#own")
    assert not visit.page.is_checked('#styles input[value="own"]')  # until there is one
    found = visit.paints(lambda: chooser.value.set_files(painting))
    assert difference(found, own(net, encoder, read_image(painting).tensor, photo)) <= 2
    assert visit.name == "chelsea-rocket.png"
    assert visit.page.is_checked('#styles input[value="own"]')
    assert difference(visit.paints(lambda: visit.style("udnie")), own(net, encoder, load_builtin("udnie"), photo)) <= 2


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_photographs_are_dropped_and_pasted(visit: Visit, pictures: dict[str, Path], kind: str) -> None:
    file = io.BytesIO()
    Image.open(pictures["coffee"]).crop((0, 0, 120, 90)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    assert visit.paints(lambda: visit.page.evaluate(DROP, [f"{kind}.png", data, kind])).shape == (90, 120, 3)
    assert visit.name.startswith(kind)


def test_a_file_that_is_no_picture_is_one_line(visit: Visit, tmp_path: Path, pictures: dict[str, Path]) -> None:
    (tmp_path / "notes.jpg").write_text("not a picture")
    visit.photo(tmp_path / "notes.jpg")
    error = visit.page.wait_for_selector("#error:not([hidden])")
    assert error.inner_text() == "notes.jpg cannot be read here; choose a JPEG, PNG or WebP file."
    visit.paints(lambda: visit.photo(pictures["chelsea"]))
    assert not visit.page.is_visible("#error")


def test_large_paintings_have_no_seams(
    chromium: Any, address: str, pictures: dict[str, Path], tmp_path: Path, net: Network, encoder: VGG
) -> None:
    """A low limit forces tiles: the painting is the same except for its statistics, and smooth where tiles meet."""
    with Image.open(pictures["rocket"]) as image:
        image.resize((1100, 734)).save(tmp_path / "large.png")
    visit = Visit(chromium, address, "?whole=1")
    visit.page.select_option("#size", "1536")
    found = visit.paints(lambda: visit.photo(tmp_path / "large.png")).astype(float)
    whole = NetworkStylizer(
        net,
        [load_builtin("starry-night")],
        StylizeOptions(method="network", scale=1.0, underpainting=0.0),
        encoder,
        PLAIN,
    )(read_image(tmp_path / "large.png").tensor)
    off = found - 255 * whole[0].permute(1, 2, 0).numpy()
    assert off.shape == (734, 1100, 3)
    assert 0 < np.abs(off).mean() < 10
    for axis, edges in ((0, (512,)), (1, (512, 1024))):
        steps = np.abs(np.diff(off, axis=axis)).mean((1 - axis, 2))
        assert all(steps[edge - 1] < 1.5 * steps.mean() + 0.2 for edge in edges)
    visit.close()


def test_the_camera_is_painted_live(chromium: Any, address: str) -> None:
    visit = Visit(chromium, address, permissions=["camera"])
    visit.page.click("#camera")
    visit.page.wait_for_function("() => Number(document.body.dataset.frames) >= 3", timeout=60_000 * PATIENCE)
    picture = visit.paints(lambda: visit.page.click("#shoot"))
    assert max(picture.shape) == SIZE
    assert visit.name == "camera-starry-night.png"
    assert visit.page.evaluate("document.getElementById('video').srcObject") is None
    visit.close()


def test_it_works_offline_with_threads_from_the_second_visit(
    chromium: Any, site: Path, serve: Callable[..., Any], pictures: dict[str, Path]
) -> None:
    """With the server gone, the service worker answers, with the headers that allow threads."""
    server = serve(site)
    visit = Visit(chromium, f"http://127.0.0.1:{server.server_port}/")
    first = visit.paints(lambda: visit.photo(pictures["chelsea"]))
    visit.page.evaluate("navigator.serviceWorker.ready")
    visit.page.wait_for_function("() => navigator.serviceWorker.controller !== null")
    server.shutdown()
    server.server_close()
    visit.page.reload()
    visit.wait("[data-engine]")
    assert visit.page.evaluate("self.crossOriginIsolated")
    assert (
        visit.page.evaluate("navigator.hardwareConcurrency === 1")
        or visit.page.get_attribute("body", "data-engine") != "cpu-1"
    )
    assert len(visit.page.query_selector_all("#styles .picture")) == 25
    assert difference(visit.paints(lambda: visit.photo(pictures["chelsea"])), first) <= 1
    visit.paints(lambda: visit.page.set_input_files("#painting", pictures["rocket"]))
    visit.close()


def test_it_can_be_used_by_keyboard_and_read_aloud(visit: Visit, pictures: dict[str, Path]) -> None:
    visit.paints(lambda: visit.photo(pictures["chelsea"]))
    visit.paints(lambda: visit.style("the-scream"))
    visit.page.focus('#styles input[value="the-scream"]')
    visit.paints(lambda: visit.page.keyboard.press("ArrowRight"))
    assert visit.page.is_checked('#styles input[value="tuscan-madonna"]')
    visit.page.focus("#strength")
    visit.paints(lambda: visit.page.keyboard.press("ArrowLeft"))
    assert visit.page.inner_text('output[for="strength"]') == "95 %"
    visit.paints(lambda: visit.choose(strength=1))
    nameless = visit.page.eval_on_selector_all(
        "button, input:not([hidden]), select, canvas, progress",
        "all => all.filter(e => !e.getAttribute('aria-label') && !e.labels?.length && !e.textContent.trim()).length",
    )
    assert nameless == 0


def test_it_fits_a_phone(chromium: Any, address: str, pictures: dict[str, Path]) -> None:
    visit = Visit(chromium, address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    visit.paints(lambda: visit.photo(pictures["chelsea"]))
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    low = visit.page.eval_on_selector_all(
        "button, select", "found => found.map(e => e.offsetHeight).filter(h => h && h < 40)"
    )
    assert not low
    visit.close()


def memory(visit: Visit, chromium: Any) -> tuple[int, int]:
    """Return the bytes of all heaps of the page and its workers, and the resident bytes of the largest renderer."""
    heaps = visit.page.evaluate("performance.measureUserAgentSpecificMemory().then(found => found.bytes)")
    session = chromium.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    pages = [int(Path(f"/proc/{p['id']}/statm").read_text().split()[1]) for p in processes if p["type"] == "renderer"]
    return heaps, max(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_100_paintings_need_no_more_memory(
    chromium: Any, site: Path, serve: Callable[..., Any], pictures: dict[str, Path]
) -> None:
    visit = Visit(chromium, f"http://127.0.0.1:{serve(site, ISOLATED).server_port}/")
    visit.paints(lambda: visit.photo(pictures["coffee"]))

    def several(count: int) -> tuple[int, int]:
        for i in range(count):
            before = visit.count()
            if i % 3:
                visit.style(builtin_names()[i % 24])
            else:
                visit.choose(strength=0.5 + i % 7 / 10)
            visit.page.wait_for_function(
                "n => Number(document.body.dataset.paintings) > n && !document.body.dataset.painting",
                arg=before,
                timeout=60_000 * PATIENCE,
            )
        return memory(visit, chromium)

    before, after = several(10), several(100)
    print("heaps and resident bytes, before and after:", before, after)
    assert after[0] <= 1.1 * before[0]
    assert after[1] <= 1.1 * before[1]
    visit.close()


@pytest.mark.slow
def test_webgpu_paints_the_same(
    chromium: Any, address: str, pictures: dict[str, Path], net: Network, encoder: VGG, tmp_path: Path
) -> None:
    """WebGPU runs on a software renderer, which the page uses only if it is forced to."""
    with Image.open(pictures["coffee"]) as image:
        image.resize((96, 64)).save(tmp_path / "small.png")
    with chromium.browser_type.launch(executable_path=BROWSER, args=["--no-sandbox", *GPU]) as browser:
        visit = Visit(browser, address, "?processor=gpu")
        if visit.page.get_attribute("body", "data-engine") != "gpu":
            pytest.skip("this browser has no WebGPU in software")
        found = visit.paints(lambda: visit.photo(tmp_path / "small.png"))
        assert difference(found, own(net, encoder, load_builtin("starry-night"), tmp_path / "small.png")) <= 2
        visit.close()
        visit = Visit(browser, address)
        assert visit.page.get_attribute("body", "data-engine") == "cpu-1"
        visit.close()


@pytest.mark.slow
@pytest.mark.bundled
def test_the_bundled_network_paints_the_same_within_16_megabytes(
    chromium: Any, serve: Callable[..., Any], pictures: dict[str, Path], tmp_path: Path
) -> None:
    site = write_site(tmp_path / "site", ExportOptions(format="web", runtime=RUNTIME))
    assert sum(site.sizes.values()) <= 16_000_000
    visit = Visit(chromium, f"http://127.0.0.1:{serve(site.folder).server_port}/")
    net, encoder = load_network(network_path(None))[0], load_encoder("compact")
    visit.page.select_option("#size", "256")
    visit.paints(lambda: visit.photo(pictures["coffee"]))
    for name in ("udnie", "the-scream", "water-lilies"):
        found = visit.paints(lambda name=name: visit.style(name))
        assert difference(found, own(net, encoder, load_builtin(name), pictures["coffee"])) <= 2
    visit.paints(lambda: visit.choose(strength=0.7))
    found = visit.paints(lambda: visit.page.set_input_files("#painting", pictures["rocket"]))
    style = read_image(pictures["rocket"]).tensor
    assert difference(found, own(net, encoder, style, pictures["coffee"], strength=0.7)) <= 2
    visit.close()
