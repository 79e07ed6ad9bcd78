"""The page in Chromium: a painting by WebAssembly against ONNX Runtime, and the time to the first painting.

    python benchmarks/browser.py --site site/
    python benchmarks/browser.py --site site/ --sizes 256 --repeats 3

`site/` is what `impasto export --format web` wrote with the bundled network. Both runtimes paint with one thread, from
the pixels of a photograph to those of the painting, in turns; the median is reported. ONNX Runtime runs the graph with
ordinary convolutions, which is the faster one there. The page's convolutions compute four rows at a time, which is
faster in WebAssembly. The first painting counts from opening the page in a new profile, from a server on this machine,
to the painting of a sample photograph, which is clicked as soon as it can be. Needs playwright and Chromium.
"""

import functools
import http.server
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch.export import Dim
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.export.web.graphs import WholeGraph
from impasto.export.web.site import model
from impasto.models.networks import find_network
from impasto.tools.metrics import markdown_table

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPEN = """async () => {
  const { Graphs } = await import("./runtime.js");
  window.graphs = await Graphs.open({ processor: "cpu", threads: 1 });
}"""
PAINT = """async ([side, numbers]) => {
  const image = Float32Array.from({ length: 3 * side * side }, (_, i) => ((i * 37) % 101) / 101);
  const affine = new Float32Array(numbers).fill(0.5);
  const colours = Float32Array.from([0.04, 0, 0, 0.5, 0, 0.04, 0, 0.5, 0, 0, 0.04, 0.5]);
  const begun = performance.now();
  await graphs.run("whole", { image: [image, [1, 3, side, side]], affine: [affine, [1, numbers]], colours: [colours, [1, 3, 4]] });
  return (performance.now() - begun) / 1000;
}"""  # noqa: E501
PAINTED = "() => document.body.dataset.paintings && performance.now() / 1000"


@dataclass(frozen=True)
class BrowserBenchmark:
    """Time a page in Chromium."""

    site: Annotated[Path, Doc("The page's folder.")] = Path("site")
    sizes: Annotated[tuple[int, ...], Doc("Sides of the square pictures, in pixels.")] = (512,)
    repeats: Annotated[int, Doc("Timed passes of each, and openings of the page; the median is reported.")] = 7

    def __call__(self) -> None:
        """Print the tables."""
        browser = next((b for b in map(shutil.which, BROWSERS) if b), None)
        if browser is None or not (self.site / "whole.onnx").is_file():
            raise ImpastoError("needs Chromium, and a page: impasto export --format web -o site/")
        from playwright.sync_api import sync_playwright

        with served(self.site) as address, sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            print(
                markdown_table(
                    ["side", "ONNX Runtime, s", "WebAssembly, s", "ratio"], self.paintings(chromium, address)
                )
            )
            first = statistics.median(first_painting(chromium, address) for _ in range(self.repeats))
            print(f"\nFirst painting after opening the page: {first:.1f} s")
            chromium.close()

    def paintings(self, chromium: Any, address: str) -> list[list[str]]:
        """Return a row for each size."""
        page = chromium.new_page()
        page.goto(address)
        page.wait_for_selector("body[data-engine]")
        page.evaluate(OPEN)
        native, numbers = load_native()
        rows = []
        for side in self.sizes:
            seconds: tuple[list[float], list[float]] = ([], [])
            for _ in range(self.repeats + 1):
                seconds[0].append(native(side))
                seconds[1].append(page.evaluate(PAINT, [side, numbers]))
            own, found = (statistics.median(s[1:]) for s in seconds)
            rows.append([str(side), f"{own:.3f}", f"{found:.3f}", f"{found / own:.2f}"])
        page.close()
        return rows


def load_native() -> tuple[Callable[[int], float], int]:
    """Return a function that paints a square picture and returns the seconds, and the length of an affine."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    net = find_network(None)
    numbers, sides = net.layout.size, {2: Dim("height", min=2), 3: Dim("width", min=2)}
    examples = {"image": torch.rand(1, 3, 64, 64), "affine": torch.ones(1, numbers), "colours": torch.ones(1, 3, 4)}
    graph = model(WholeGraph(net, fast=False), examples, {"image": sides}, ["painting"], {"version": ""})
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    colours = np.array([[[0.04, 0, 0, 0.5], [0, 0.04, 0, 0.5], [0, 0, 0.04, 0.5]]], np.float32)
    affine = np.full((1, numbers), 0.5, np.float32)

    def paint(side: int) -> float:
        image = (np.arange(3 * side * side, dtype=np.int64) * 37 % 101 / 101).astype(np.float32)
        begun = time.perf_counter()
        session.run(None, {"image": image.reshape(1, 3, side, side), "affine": affine, "colours": colours})
        return time.perf_counter() - begun

    return paint, numbers


def first_painting(chromium: Any, address: str) -> float:
    """Return the seconds from opening the page in a new profile to its first painting."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(address, wait_until="commit")
    page.locator("[data-ready] [data-sample=coffee]").click()
    seconds = page.wait_for_function(PAINTED, polling=20, timeout=120_000).json_value()
    context.close()
    return seconds


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine and yield its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name that it has
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


if __name__ == "__main__":
    try:
        tyro.cli(BrowserBenchmark)()
    except ImpastoError as error:
        sys.exit(f"browser.py: {error}")
