"""Entry point of the command line: version, errors and exit codes. The verbs are in `verbs/`.

`--version` and `--help` load no heavy libraries.
"""

import codecs
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO, TextIOWrapper
from typing import Any

from . import __version__
from .errors import ImpastoError, OptionError
from .tools.stopping import Terminated, terminable

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and after SIGTERM, as in shells."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments without the program's name; those of the process if not given.

    Returns
    -------
    int
        The exit code: 0 success, 1 failure, 2 wrong usage, 3 some of many pictures failed, 130 interrupted,
        143 terminated.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="impasto")  # standard error escapes such characters by default
    if args and args[0] in ("--version", "-V"):
        sys.stdout.write(f"impasto {__version__}\n")
        return 0
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        with terminable():
            _parse(args)()
            sys.stdout.flush()
        return 0
    except SystemExit as end:  # after --help
        return end.code if isinstance(end.code, int) else 0
    except ImpastoError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt as stop:
        return _fail("stopped", TERMINATED if isinstance(stop, Terminated) else INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output is gone. Send Python's flush at exit to the null device.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        if debug:
            raise
        return _fail("out of memory; try a smaller --size", 1)
    except RuntimeError as error:
        # PyTorch has no exception class for a failed allocation on the CPU.
        if debug or "alloc" not in str(error).lower():
            raise
        return _fail("out of memory; try a smaller --size", 1)


def _replace_unencodable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace a character that the encoding lacks by `?`. Undecodable bytes of a file name are written unchanged."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    code, end = ord(error.object[error.start]), error.start + 1
    return (bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else "?"), end


codecs.register_error("impasto", _replace_unencodable)


def _parse(args: Sequence[str]) -> Any:
    """Return the verb for the arguments. Raises OptionError with one line where tyro would print a box."""
    from .verbs import parse

    printed = StringIO()
    try:
        with redirect_stderr(printed):
            return parse(args)
    except SystemExit as end:
        if end.code in (None, 0):
            raise
        raise OptionError(_without_box(printed.getvalue())) from None


def _without_box(box: str) -> str:
    rows = [row.strip("│ ") for row in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines() if row[:1] not in ("╭", "╰")]
    # If the terminal cannot draw lines, there is a title above a rule of hyphens.
    text = re.sub(r"\A.*\n-{9,}\n", "", "\n".join(rows).strip())
    what, *more = re.split(r"\n(?:─+|-{9,})\n", text)
    parts = [what.partition("\n\n")[0].rstrip(".")]
    for block in more:
        if block.startswith("Perhaps you meant"):
            near = dict.fromkeys(re.findall(r"^--[\w-]+", block, re.MULTILINE))
            parts.append(f"did you mean {' or '.join(near)}?")
        elif block.startswith("Available"):
            parts.append(block)
        elif help_call := re.search(r"impasto\b.*--help", block):
            parts.append(f"see `{help_call[0]}`")
    return "; ".join(" ".join(p.split()) for p in parts)


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"impasto: {line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
