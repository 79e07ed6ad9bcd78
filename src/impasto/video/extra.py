"""Check that the extra `video` is installed."""

import os
from importlib.util import find_spec

from ..errors import ImpastoError

NEEDED = {"av": "av", "cv2": "opencv-python-headless"}
"""Module -> the package that brings it."""


def missing() -> list[str]:
    """Return the packages of the extra that are not installed."""
    return [package for module, package in NEEDED.items() if find_spec(module) is None]


def prepare() -> None:
    """Check the extra, and silence the AV1 encoder. Call this before importing anything else of `video`.

    Raises
    ------
    ImpastoError
        If the extra is not installed.
    """
    lacking = missing()
    if lacking:
        raise ImpastoError(f'painting films needs {", ".join(lacking)}: pip install "impasto[video]"')
    os.environ.setdefault("SVT_LOG", "0")  # it writes to standard error by itself
