"""Tests of the page: its order, its escaping, and how it works in a browser."""

import csv
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from impasto.evaluate.figures import FIGURES, Evaluation, Values
from impasto.evaluate.page import page
from impasto.evaluate.pairs import Triple
from impasto.evaluate.report import Evaluated, Failed, Report, figures_csv, summarise, summary_csv, summary_table

NAMES = tuple(name for name in FIGURES if name != "lpips")
NASTY = "<img src=x onerror=alert(1)>\"&'.png"


def values(value: float) -> Values:
    return dict.fromkeys(NAMES, value)


def evaluated(name: str, value: float) -> Evaluated:
    triple = Triple(Path("photos", name), Path("styles", name), Path("results", name))
    evaluation = Evaluation(values(value), values(2.0), values(1.5), values(0.0))
    return Evaluated(triple, evaluation, ("00001.jpg", "00002.jpg", "00003.jpg"))


def report() -> Report:
    done = [evaluated("middle.png", 0.5), evaluated(NASTY, 0.75), evaluated("good.png", 0.25)]
    return Report(NAMES, "compact", done, [Failed(Path(NASTY), f"{NASTY} is not a picture")])


class Texts(HTMLParser):
    """Collects the tags with their attributes, and the texts of the headings."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "h3":
            self.headings.append(data)


def rendered(sort: str) -> Texts:
    r = report()
    return Texts(page(r, summarise(r, 100, 0.95, 0), sort, 0.95))


def test_worst_first_whichever_way_is_better() -> None:
    assert rendered("gram").headings == [NASTY, "middle.png", "good.png", NASTY]  # and the failed one
    assert rendered("ssim").headings == ["good.png", "middle.png", NASTY, NASTY]


def test_names_are_escaped() -> None:
    found = rendered("gram")
    assert sum(tag == "img" for tag, _ in found.tags) == 9
    assert "alert" not in str(found.tags)


def test_nothing_is_loaded_from_elsewhere() -> None:
    found = rendered("gram")
    sources = [v for _, attributes in found.tags for k, v in attributes.items() if k in ("src", "href") and v]
    assert len(sources) == 9
    assert all(s.startswith("thumbnails/") for s in sources)


def test_a_name_that_is_no_text() -> None:
    r = Report(NAMES, "compact", [evaluated("\udcff\n.png", 0.5)])
    text = page(r, summarise(r, 10, 0.9, 0), "gram", 0.9)
    text.encode()  # a lone surrogate would fail
    assert r"\udcff" in text


def test_nothing_evaluated() -> None:
    text = page(Report(NAMES, "compact", [], [Failed(Path("a.png"), "a.png does not exist")]), None, "gram", 0.95)
    assert "Evaluation of 0 paintings" in text
    assert "a.png does not exist" in text
    assert "<script" not in text


def test_summary_table() -> None:
    r = report()
    lines = summary_table(summarise(r, 1000, 0.95, 0), NAMES)
    assert lines[0] == ("figure", "compared with", "better", "result", "interval", "photograph", "recoloured", "style")
    gram = dict(zip(lines[0], lines[1], strict=True))
    assert (gram["figure"], gram["better"], gram["result"]) == ("gram", "lower", "0.500")
    assert (gram["photograph"], gram["recoloured"], gram["style"]) == ("2.000", "1.500", "0.000")
    low, high = map(float, gram["interval"].split(" to "))
    assert 0.25 <= low < 0.5 < high <= 0.75
    assert dict(zip(lines[0], lines[1 + NAMES.index("ssim")], strict=True))["better"] == "higher"


def test_csv() -> None:
    r = report()
    rows = list(csv.DictReader(figures_csv(r).splitlines()))
    assert len(rows) == 4 * 3 + 1
    assert (rows[4]["result"], rows[4]["of"], rows[4]["gram"]) == (f"results/{NASTY}", "result", "0.75")
    assert [row["of"] for row in rows[:4]] == ["result", "photograph", "recoloured", "style"]
    assert (rows[-1]["error"], rows[-1]["gram"]) == (f"{NASTY} is not a picture", "")
    means = list(csv.DictReader(summary_csv(summarise(r, 100, 0.95, 0)).splitlines()))
    assert len(means) == 4 * len(NAMES)
    first = [means[0][column] for column in ("of", "figure", "mean", "paintings")]
    assert first == ["result", "gram", "0.5", "3"]


def test_in_a_browser(tmp_path: Path) -> None:
    """Opened from the disk, the page shows its pictures and sorts them, and no name can run a script."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    r = report()
    (tmp_path / "index.html").write_text(page(r, summarise(r, 100, 0.95, 0), "gram", 0.95), encoding="utf-8")
    (tmp_path / "thumbnails").mkdir()
    for i in range(3):
        Image.new("RGB", (40 + i, 30)).save(tmp_path / "thumbnails" / f"{i + 1:05d}.jpg")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except playwright.Error:
            pytest.skip("no browser")
        tab, said = browser.new_page(), []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("dialog", lambda dialog: said.append(dialog.message))
        tab.goto((tmp_path / "index.html").as_uri())
        tab.wait_for_function("[...document.images].slice(0, 3).every(i => i.complete && i.naturalWidth)")
        assert tab.evaluate("[...document.images].slice(0, 3).map(i => i.naturalWidth)") == [40, 41, 42]
        assert tab.locator("ol h3").all_text_contents() == [NASTY, "middle.png", "good.png"]
        tab.select_option("select", "ssim")
        assert tab.locator("ol h3").all_text_contents() == ["good.png", "middle.png", NASTY]
        assert tab.locator("li .chosen dt").all_text_contents() == ["ssim"] * 3
        assert said == []
        browser.close()
