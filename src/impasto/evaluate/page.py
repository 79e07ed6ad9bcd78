"""A page of the evaluated paintings, worst first, that works from the disk and loads nothing from elsewhere."""

from html import escape
from pathlib import Path

from ..image.source import printable
from .figures import FIGURES
from .report import Evaluated, Failed, Report, Summary, decimals, summary_table

POLICY = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The page's content security policy: only its own thumbnails, styles and script."""

STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.number, th.number { text-align: right; } tbody tr.chosen { background: var(--soft); }
ol, ul { list-style: none; margin: 1rem 0; padding: 0; }
li { border: 1px solid var(--line); border-radius: .5rem; margin-bottom: 1rem; padding: .8rem; }
li { overflow-wrap: anywhere; }
li h3 { font-size: 1rem; margin: 0 0 .6rem; }
.pictures { display: grid; grid-template-columns: 1fr 1fr 2fr; gap: .7rem; align-items: start; }
figure { margin: 0; min-width: 0; } img { width: 100%; height: auto; border-radius: .25rem; display: block; }
figcaption { font-size: .85rem; }
dl { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .7rem 0 0; font-variant-numeric: tabular-nums; }
dl div { display: flex; gap: .4rem; border-radius: .25rem; padding: 0 .3rem; } dd { margin: 0; font-weight: 600; }
dl div.chosen { background: var(--soft); }
select { font: inherit; max-width: 100%; }
@media (max-width: 40rem) {
  .pictures { grid-template-columns: 1fr 1fr; } .pictures figure:last-child { grid-column: 1 / 3; }
}
"""

SCRIPT = """
const list = document.querySelector("ol"), choice = document.querySelector("select");
function sort() {
  const name = choice.value, sign = choice.selectedOptions[0].dataset.better === "lower" ? -1 : 1;
  const value = item => Number(item.querySelector(`[data-figure="${name}"]`).dataset.value);
  list.append(...[...list.children].sort((a, b) => sign * (value(a) - value(b))));
  for (const part of document.querySelectorAll("[data-figure]"))
    part.classList.toggle("chosen", part.dataset.figure === name);
}
choice.addEventListener("change", sort);
sort();
"""


def page(report: Report, summary: Summary | None, sort: str, confidence: float) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    report : Report
        The paintings; their thumbnails are in the folder `thumbnails` beside the page.
    summary : Summary or None
        The means; None if no painting was evaluated.
    sort : str
        The figure that sorts them at first. The reader can choose another one.
    confidence : float
        Confidence of the intervals, for the text.
    """
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Evaluation of {_count(len(report.done))}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        f"<h1>Evaluation of {_count(len(report.done))}</h1>",
    ]
    if summary is not None:
        parts += [_account(report, confidence), _table(summary, report.names), _chooser(report.names, sort)]
        parts += ["<ol>", *(_item(e, report.names, sort) for e in report.worst_first(sort)), "</ol>"]
    if report.failed:
        parts += [f"<h2>Not evaluated: {len(report.failed)}</h2>", _failures(report.failed)]
    if summary is not None:
        parts.append(f"<script>{SCRIPT}</script>")
    return "\n".join([*parts, "</body>\n</html>\n"])


def _count(number: int) -> str:
    return f"{number} painting{'' if number == 1 else 's'}"


def _account(report: Report, confidence: float) -> str:
    return (
        f"<p>Means with {100 * confidence:g} % bootstrap intervals over the paintings, beside the same figures of the "
        "photograph, of the photograph in the style’s colours, and of the style picture. "
        f"The network {escape(report.judge)} judged gram, cov, sliced, sifid and content. It flatters paintings that "
        "were optimised through it.</p>"
    )


def _table(summary: Summary, names: tuple[str, ...]) -> str:
    header, *lines = summary_table(summary, names)
    rows = [f'<tr data-figure="{k}">{_cells("td", line)}</tr>' for k, line in zip(names, lines, strict=True)]
    head, body = f"<thead><tr>{_cells('th', header)}</tr></thead>", f"<tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table>{head}{body}</table></div>'


def _cells(tag: str, texts: tuple[str, ...]) -> str:
    """Return the cells of a line: three of text, then numbers."""
    classes = [""] * 3 + [' class="number"'] * (len(texts) - 3)
    return "".join(f"<{tag}{c}>{escape(t)}</{tag}>" for c, t in zip(classes, texts, strict=True))


def _chooser(names: tuple[str, ...], sort: str) -> str:
    options = []
    for name in names:
        figure = FIGURES[name]
        better, selected = "lower" if figure.lower else "higher", " selected" if name == sort else ""
        text = escape(f"{name}: {figure.title}, {better} is better")
        options.append(f'<option value="{name}" data-better="{better}"{selected}>{text}</option>')
    choice = f"<p><label>Sort by <select>{''.join(options)}</select></label></p>"
    return f"<h2>Paintings, worst first</h2>\n{choice}"


def _item(e: Evaluated, names: tuple[str, ...], sort: str) -> str:
    files = (("photograph", e.triple.content), ("style", e.triple.style), ("result", e.triple.result))
    pictures = "".join(
        f'<figure><img src="thumbnails/{escape(thumbnail)}" alt="{what}" loading="lazy">'
        f"<figcaption>{what}: {_name(path)}</figcaption></figure>"
        for (what, path), thumbnail in zip(files, e.thumbnails, strict=True)
    )
    values = "".join(_value(name, e.evaluation.result[name], sort) for name in names)
    return f'<li><h3>{_name(e.triple.result)}</h3><div class="pictures">{pictures}</div><dl>{values}</dl></li>'


def _value(name: str, value: float, sort: str) -> str:
    chosen = ' class="chosen"' if name == sort else ""
    return f'<div data-figure="{name}" data-value="{value!r}"{chosen}><dt>{name}</dt><dd>{decimals(value)}</dd></div>'


def _failures(failed: list[Failed]) -> str:
    return "<ul>" + "".join(f"<li><h3>{_name(f.result)}</h3>{escape(f.reason)}</li>" for f in failed) + "</ul>"


def _name(path: Path) -> str:
    """Return a file's name without its folder, escaped."""
    return escape(printable(path.name))
