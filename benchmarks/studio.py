"""The studio under load: many clients at once, memory over many jobs, and the time to the first frame.

    python benchmarks/studio.py load           # 8 clients send 40 instant jobs and 8 bad uploads
    python benchmarks/studio.py memory         # 100 jobs in sequence: does memory grow after the first 10?
    python benchmarks/studio.py first-frame    # `good` at 512 px: the first frame, compared with the time of a step
    python benchmarks/studio.py start          # seconds until the server prints its address

Each starts its own server on a free port of this machine. Needs Linux: memory is read from /proc. `first-frame` needs
playwright and Chromium: it clicks Paint in a page and waits until the frame is shown.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2 as httpx

from impasto.tools.metrics import markdown_table

PHOTO = Path(__file__).parents[1] / "examples" / "photo.jpg"
BAD = (b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"<svg/>", b"II*\0", b"%PDF-1.7")
INSTANT = {"style": "starry-night", "quality": "instant"}
STEPS = 15
"""Number of steps for measuring the time of a step."""
GOOD = {"style": "starry-night", "quality": "good", "size": "512"}
TIMEOUT = 3600.0


@contextmanager
def server(*arguments: str) -> Iterator[tuple[str, int, float]]:
    """Start a server. Yield its address, its process and the seconds until it printed the address."""
    begun = time.monotonic()
    command = [sys.executable, "-u", "-m", "impasto", "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://[\d.:]+", process.stdout.readline())
            assert found, "the server did not start"
            yield found[0], process.pid, time.monotonic() - begun
        finally:
            process.terminate()


def resident(pid: int) -> float:
    """Return the resident memory of a process in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def stylize(address: str, content: bytes, **more: str) -> httpx.Response:
    """Request one painting and wait for it."""
    form = {**INSTANT, **more}
    return httpx.post(f"{address}/v1/stylize", files={"content": ("photo.jpg", content)}, data=form, timeout=TIMEOUT)


def load() -> None:
    """Send 40 good jobs and 8 bad ones from 8 clients."""
    photo = PHOTO.read_bytes()
    jobs = [photo] * 40
    for i, bad in enumerate(BAD):
        jobs.insert(6 * i, bad)
    with server("--max-waiting", "100") as (address, pid, _), ThreadPoolExecutor(8) as clients:
        begun, before = time.monotonic(), resident(pid)
        answers = list(clients.map(lambda content: (content, stylize(address, content)), jobs))
        seconds = time.monotonic() - begun
        good = [a for c, a in answers if c is photo]
        bad = [a for c, a in answers if c is not photo]
        refused = sum(a.status_code == 422 and bool(a.json()["error"]) for a in bad)
        rows = [
            ["good jobs answered", f"{sum(a.status_code == 200 for a in good)} of {len(good)}"],
            ["bad uploads refused with a reason", f"{refused} of {len(bad)}"],
            ["5xx", sum(a.status_code >= 500 for _, a in answers)],
            ["seconds in all", f"{seconds:.1f}"],
            ["resident memory before and after, MB", f"{before:.0f}, {resident(pid):.0f}"],
        ]  # fmt: skip
    print(markdown_table(["8 clients", ""], rows))


def memory(jobs: int) -> None:
    """Print the resident memory after 10 jobs and after all."""
    photo = PHOTO.read_bytes()
    with server() as (address, pid, _):
        sizes = []
        for i in range(jobs):
            files = {"content": ("photo.jpg", photo)}
            job = httpx.post(f"{address}/v1/jobs", files=files, data=INSTANT, timeout=TIMEOUT).json()["id"]
            with httpx.stream("GET", f"{address}/v1/jobs/{job}/events", timeout=TIMEOUT) as events:
                for _ in events.iter_lines():
                    pass
            assert httpx.get(f"{address}/v1/jobs/{job}/result", timeout=TIMEOUT).status_code == 200
            sizes.append(resident(pid))
            print(i + 1, f"{sizes[-1]:.0f} MB", file=sys.stderr)
    rows = [[n, f"{sizes[n - 1]:.0f}"] for n in sorted({1, min(10, jobs), jobs})]
    print(markdown_table(["jobs", "resident memory, MB"], rows))
    print(f"growth after the first 10: {100 * (sizes[-1] / sizes[min(9, jobs - 1)] - 1):.1f} %")


def first_frame(clicks: int = 3) -> None:
    """Print the seconds from a click, and from a request, to the first frame, and the seconds of a step at 512 px."""
    with server() as (address, _, _), page(address) as click:
        time.sleep(10)  # the worker's warm-up
        print("warm", file=sys.stderr)
        clicked = [click() for _ in range(clicks)]
        requested, step = frame_seconds(address), step_seconds(address)
    rows = [
        ["click in the page to the frame in it", ", ".join(f"{s:.2f}" for s in clicked)],
        ["request to frame, over HTTP", f"{requested:.2f}"],
        ["a step at 512 px", f"{step:.2f}"],
        ["median click / step", f"{statistics.median(clicked) / step:.1f}"],
    ]  # fmt: skip
    print(markdown_table(["`good` at 512 px", "seconds"], rows))


def follow(address: str, **more: str) -> Generator[tuple[float, dict[str, Any]], None, None]:
    """Yield the events of a `good` painting, each with the seconds since the request. Removes it at the end."""
    begun, files = time.monotonic(), {"content": ("photo.jpg", PHOTO.read_bytes())}
    job = httpx.post(f"{address}/v1/jobs", files=files, data=GOOD | more, timeout=TIMEOUT).json()["id"]
    try:
        with httpx.stream("GET", f"{address}/v1/jobs/{job}/events", timeout=TIMEOUT) as events:
            for line in events.iter_lines():
                if line.startswith("data: "):
                    yield time.monotonic() - begun, json.loads(line.removeprefix("data: "))
    finally:
        httpx.delete(f"{address}/v1/jobs/{job}")


def frame_seconds(address: str) -> float:
    """Return the seconds from a request to its first frame."""
    with closing(follow(address)) as views:
        return next(seconds for seconds, view in views if view["frames"])


def step_seconds(address: str) -> float:
    """Return the median seconds of a step at full size, over a painting that starts there."""
    views = follow(address, coarsest="512", iterations=str(STEPS))
    seen = [(v["iteration"], v["seconds"]) for _, v in views if "iteration" in v]
    return statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(seen) if b[0] > a[0])


CLICK = """() => new Promise((done) => {
  const begun = performance.now(), after = document.querySelector("#after");
  after.addEventListener("load", () => done((performance.now() - begun) / 1000), {once: true});
  document.querySelector("#paint").click();
})"""


@contextmanager
def page(address: str) -> Iterator[Callable[[], float]]:
    """Open the studio in a browser, and yield a function that times a first frame.

    It clicks Paint, waits for the first frame, stops the painting, and returns the seconds.
    """
    from playwright.sync_api import sync_playwright

    browsers = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=next(filter(None, browsers)), args=["--no-sandbox"])
        found = browser.new_page()
        found.set_default_timeout(1000 * TIMEOUT)
        found.goto(address)
        found.locator("#quality label").first.wait_for()
        found.locator("#photo input[type=file]").set_input_files(PHOTO)
        found.locator("#photo img").wait_for()
        found.locator("#styles label", has_text="Starry Night").click()
        found.locator("#option-size input, #option-size textarea").first.fill(GOOD["size"])
        found.wait_for_timeout(3000)  # until the estimates are shown

        def click() -> float:
            seconds = found.evaluate(CLICK)
            found.locator("#cancel").click()
            found.locator('#view[data-state="stopped"]').wait_for()
            return seconds

        yield click
        browser.close()


def start() -> None:
    """Print the seconds until the server prints its address."""
    seconds = []
    for _ in range(3):
        with server() as (_, _, took):
            seconds.append(took)
    print(markdown_table(["try", "seconds to the address"], [[i, f"{s:.1f}"] for i, s in enumerate(seconds, 1)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("load", "memory", "first-frame", "start"))
    parser.add_argument("--jobs", type=int, default=100, help="number of jobs for `memory`")
    args = parser.parse_args()
    {"load": load, "memory": lambda: memory(args.jobs), "first-frame": first_frame, "start": start}[args.what]()


if __name__ == "__main__":
    main()
