"""The command line's entry: version, errors and exit codes. The verbs are in `verbs.py`.

Nothing heavy is loaded for `--version` and `--help`.
"""

import os
import sys
from collections.abc import Sequence

from . import __version__
from .errors import ImpastoError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, without the program's name; those of the process if not given.

    Returns
    -------
    int
        The exit code: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if args and args[0] in ("--version", "-V"):
        sys.stdout.write(f"impasto {__version__}\n")
        return 0
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        from .verbs import parse

        parse(args)()
        return 0
    except ImpastoError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("stopped", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; let Python's own flush at exit go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        if debug:
            raise
        return _fail("out of memory; try a smaller --size", 1)
    except RuntimeError as error:
        # PyTorch has no class of its own for a failed allocation on the CPU.
        if debug or "alloc" not in str(error).lower():
            raise
        return _fail("out of memory; try a smaller --size", 1)


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"impasto: {line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
