"""Verified downloads, and the writing of weights files."""

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from ..errors import WeightsError
from ..files import atomic_write

log = logging.getLogger(__name__)

Algorithm = Literal["sha256", "sha512"]
Progress = Callable[[int, int | None], None]
"""Called with the bytes downloaded and the total, or None if the server does not send it."""

WAITS = (0.5, 1.0)  # seconds before the second and the third attempt
TIMEOUT = 30.0  # seconds without an answer or a byte
DIGEST_DIGITS = 16
"""Hex digits of a weights file's sha256 that networks and style files keep."""
CHUNK = 1 << 20  # bytes


class _TransientError(Exception):
    """A failure that may not happen again."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a weights file as `atomic_write` does. Creates a missing folder.

    Raises
    ------
    WeightsError
        If the folder or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            yield file
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror or error}") from error


def file_digest(path: Path, algorithm: Algorithm = "sha256") -> str:
    """Return the digest of a file as hex digits. Raises WeightsError if it cannot be read."""
    digest = hashlib.new(algorithm)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def fetch_file(
    path: Path,
    url: str | None,
    digest: str,
    offline: bool = False,
    progress: Progress | None = None,
    algorithm: Algorithm = "sha256",
) -> str:
    """Verify the file at `path`, and download it if it is missing or damaged.

    Parameters
    ----------
    path : Path
        The file.
    url : str or None
        Its address; None if it is part of the package.
    digest : str
        The hash or its first digits, as in torchvision's file names.
    offline : bool
        Never use the network; the same as the environment variable IMPASTO_OFFLINE=1.
    progress : callable, optional
        Called with (bytes done, total or None) while downloading; an exception from it cancels the download.
    algorithm : str
        Which hash it is.

    Returns
    -------
    str
        The full hash of the file.

    Raises
    ------
    WeightsError
        If the file is missing or damaged and cannot be downloaded.
    """
    state = "missing"
    if path.is_file():
        found = file_digest(path, algorithm)
        if found.startswith(digest):
            return found
        state = "damaged"
    if url is None:
        raise WeightsError(f"{path}, a part of impasto, is {state}; install impasto again")
    if offline or os.environ.get("IMPASTO_OFFLINE", "0") not in ("", "0"):
        raise WeightsError(f"{path} is {state} and offline mode is on; put {url} ({algorithm} {digest[:16]}…) there")
    if state == "damaged":
        log.warning("%s is damaged; downloading it again from %s", path, url)
    return download(url, path, digest, progress, algorithm)


def download(
    url: str, path: Path, digest: str, progress: Progress | None = None, algorithm: Algorithm = "sha256"
) -> str:
    """Download `url`, verify it and move it to `path`. Leaves no file behind if that fails.

    Failures that may be temporary (a server error, a broken connection) are retried, up to three attempts.

    Parameters and errors are those of `fetch_file`. An existing file at `path` is only replaced by a verified one.
    """
    for wait in WAITS:
        with suppress(_TransientError):
            return _download_once(url, path, digest, progress, algorithm)
        time.sleep(wait)
    try:
        return _download_once(url, path, digest, progress, algorithm)
    except _TransientError as error:
        raise WeightsError(f"cannot download {url}, tried {len(WAITS) + 1} times: {error}") from error


def _download_once(url: str, path: Path, expected: str, progress: Progress | None, algorithm: Algorithm) -> str:
    digest, done = hashlib.new(algorithm), 0
    with _open(url) as response, replacing(path) as file:
        length = response.headers["Content-Length"] or ""
        total = int(length) if length.isdigit() else None
        while chunk := _read(response):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
        if total is not None and done != total:
            raise _TransientError(f"the connection ended after {done} of {total} bytes")
        found = digest.hexdigest()
        if not found.startswith(expected):
            raise WeightsError(
                f"{url} is not the expected file: its {algorithm} is {found[:16]}…, not {expected[:16]}…; it was "
                "discarded"
            )
    return found


def _open(url: str) -> http.client.HTTPResponse:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "impasto"})
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        message = f"the server returned {error.code} {error.reason}"
        if error.code >= 500:
            raise _TransientError(message) from error
        raise WeightsError(f"cannot download {url}: {message}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, (ConnectionResetError, TimeoutError)):
            raise _TransientError(str(error.reason)) from error
        raise WeightsError(f"cannot download {url}: {error.reason}") from error
    except (ConnectionResetError, TimeoutError) as error:
        raise _TransientError(str(error)) from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise WeightsError(f"cannot download {url}: {error}") from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(f"the connection broke: {error}") from error
