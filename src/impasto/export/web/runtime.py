"""The runtime of the page, onnxruntime-web: found in a folder or a package file, or downloaded from npm's registry.

It is not part of this package. The WebAssembly is stored as gzip in the page's folder, and the page unpacks it: a
static host need not compress it.
"""

import gzip
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import ImpastoError, OptionError
from ...models.download import Progress, fetch_file

VERSION = "1.30.0"
"""The version that is downloaded, and with which the page is tested."""
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
"""The digest that npm's registry states for this version, as hex digits."""
FETCH = "fetch"
"""Stands for the download, in place of a path."""
CPU = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
GPU = ("ort.jspi.min.mjs", "ort-wasm-simd-threaded.jspi.mjs", "ort-wasm-simd-threaded.jspi.wasm")
"""The files of the package that the page needs: for WebAssembly alone, and for WebGPU."""
PACKED = ".bin"
"""The suffix, after its own, of a file that is stored as gzip. Hosts send files called .gz in several ways."""
NOTICE = """ONNX Runtime Web
https://www.npmjs.com/package/onnxruntime-web

MIT License. Copyright (c) Microsoft Corporation. All rights reserved.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED *AS IS*, WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def fetched() -> Path:
    """Return the path of the downloaded package file, whether it exists or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "impasto" / f"onnxruntime-web-{VERSION}.tgz"


def find_runtime(source: str | None, progress: Progress | None = None) -> Path:
    """Return the folder or the package file of the runtime.

    Parameters
    ----------
    source : str, optional
        A folder, a package file, or `fetch` to download it. By default the file that was downloaded before.

    Raises
    ------
    ImpastoError
        If it is not there, is damaged, or cannot be downloaded.
    """
    if source == FETCH:
        fetch_file(fetched(), URL, SHA512, progress=progress, algorithm="sha512")
        return fetched()
    if source is None:
        if fetched().is_file():
            fetch_file(fetched(), URL, SHA512, offline=True, algorithm="sha512")
            return fetched()
        raise OptionError(
            f"--format web needs onnxruntime-web {VERSION}: give its folder or package file with --runtime PATH, or "
            "--runtime fetch to download it from npm's registry (33 MB)"
        )
    if not Path(source).exists():
        raise OptionError(f"--runtime {source}: there is no such file or folder; give onnxruntime-web's, or fetch")
    return Path(source)


def write_runtime(source: Path, folder: Path) -> None:
    """Write the files that the page needs into a folder.

    Raises
    ------
    ImpastoError
        If a file is missing from the source, or it is no package.
    """
    with opened(source) as read:
        for name in (*CPU, *GPU):
            data = read(name)
            if name.endswith(".wasm"):
                name, data = name + PACKED, gzip.compress(data, 9, mtime=0)
            (folder / name).write_bytes(data)
    (folder / "LICENSE.txt").write_text(NOTICE.replace("*AS IS*", '"AS IS"'), encoding="utf-8")


@contextmanager
def opened(source: Path) -> Iterator["Reader"]:
    """Yield a function that returns the bytes of a file of the package's folder `dist`."""
    if source.is_dir():
        yield Reader(source)
        return
    try:
        with tarfile.open(source) as archive:
            yield Reader(source, archive)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ImpastoError(f"--runtime {source} cannot be read; give a package file of onnxruntime-web") from error


class Reader:
    """Reads files of a package, from a folder or from an archive."""

    def __init__(self, source: Path, archive: tarfile.TarFile | None = None):
        self.source, self.archive = source, archive

    def __call__(self, name: str) -> bytes:
        """Return the bytes of a file of `dist`. Raises ImpastoError if there is none."""
        if self.archive is not None:
            try:
                file = self.archive.extractfile(f"package/dist/{name}")
            except KeyError:
                file = None
            if file is not None:
                return file.read()
        else:
            for folder in (self.source, self.source / "dist", self.source / "package" / "dist"):
                if (folder / name).is_file():
                    return (folder / name).read_bytes()
        raise ImpastoError(
            f"--runtime {self.source} has no {name}; give the package onnxruntime-web, version {VERSION}"
        )
