"""Files that appear whole or not at all: writing beside the target, and downloads that are verified."""

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import WeightsError

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are done and the total, None where the server does not tell it."""

WAITS = (0.5, 1.0)  # seconds before the second and the third attempt
TIMEOUT = 30.0  # seconds without an answer or a byte
DIGEST_DIGITS = 16
"""Hex digits of a weights file's sha256 that networks and style files keep."""
CHUNK = 1 << 20  # bytes


class _TransientError(Exception):
    """What may work when it is tried again."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path`, open for writing, that takes its place if the block ends well and is removed if not.

    Its name is unique, so that several processes may write the same path at once. A missing folder is made.

    Raises
    ------
    WeightsError
        If the folder or the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # it is gone after the replacement
            temporary.unlink()


def file_digest(path: Path) -> str:
    """The sha256 of a file, 64 hex digits; WeightsError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def fetch_file(
    path: Path, url: str | None, sha256: str, offline: bool = False, progress: Progress | None = None
) -> str:
    """Make sure that the verified file is at `path`, downloading it if it is not.

    Parameters
    ----------
    path : Path
        Where the file is or goes.
    url : str or None
        Where it is to be had; None if it is a part of the package.
    sha256 : str
        The hash, or the first digits of it, as torchvision has them in its file names.
    offline : bool
        Never use the network; the environment variable IMPASTO_OFFLINE=1 asks for the same.
    progress : callable, optional
        Called with (bytes done, total or None) while downloading; an exception from it cancels the download.

    Returns
    -------
    str
        The file's whole sha256.

    Raises
    ------
    WeightsError
        If the file is missing or damaged and cannot be fetched.
    """
    state = "missing"
    if path.is_file():
        found = file_digest(path)
        if found.startswith(sha256):
            return found
        state = "damaged"
    if url is None:
        raise WeightsError(f"{path}, a part of impasto, is {state}: install impasto again")
    if offline or os.environ.get("IMPASTO_OFFLINE", "0") not in ("", "0"):
        raise WeightsError(f"{path} is {state} and offline was asked for: put {url} (sha256 {sha256[:16]}…) there")
    if state == "damaged":
        log.warning("%s is damaged: fetching it again from %s", path, url)
    return download(url, path, sha256, progress)


def download(url: str, path: Path, sha256: str, progress: Progress | None = None) -> str:
    """Fetch `url`, verify it and move it to `path`; nothing is left behind if that fails.

    What may be a passing failure (a server error, a broken connection) is tried again, three times in all.

    Parameters and errors are those of `fetch_file`; a file that is at `path` is replaced only by a good one.
    """
    for wait in WAITS:
        with suppress(_TransientError):
            return _download_once(url, path, sha256, progress)
        time.sleep(wait)
    try:
        return _download_once(url, path, sha256, progress)
    except _TransientError as error:
        raise WeightsError(f"cannot fetch {url}, tried {len(WAITS) + 1} times: {error}") from error


def _download_once(url: str, path: Path, sha256: str, progress: Progress | None) -> str:
    digest, done = hashlib.sha256(), 0
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
        if not found.startswith(sha256):
            raise WeightsError(
                f"{url} is not the file expected: its sha256 is {found[:16]}…, not {sha256[:16]}…; it was not kept"
            )
    return found


def _open(url: str) -> http.client.HTTPResponse:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "impasto"})
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        message = f"the server says {error.code} {error.reason}"
        if error.code >= 500:
            raise _TransientError(message) from error
        raise WeightsError(f"cannot fetch {url}: {message}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, (ConnectionResetError, TimeoutError)):
            raise _TransientError(str(error.reason)) from error
        raise WeightsError(f"cannot fetch {url}: {error.reason}") from error
    except (ConnectionResetError, TimeoutError) as error:
        raise _TransientError(str(error)) from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise WeightsError(f"cannot fetch {url}: {error}") from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(f"the connection broke: {error}") from error
