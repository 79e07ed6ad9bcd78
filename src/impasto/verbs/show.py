"""Print the verbs' results."""

import json
import sys
from collections.abc import Sequence
from typing import Any


def say(line: str) -> None:
    """Print a line on standard output."""
    sys.stdout.write(line + "\n")


def say_json(value: Any) -> None:
    """Print JSON on standard output. Characters that its encoding lacks are escaped, so it can always be parsed."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    say(text)


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns on standard output: aligned on a terminal, separated by tabs when piped."""
    if not sys.stdout.isatty():
        for row in rows:
            say("\t".join(row))
        return
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        say("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
