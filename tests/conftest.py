"""Fixtures for all tests: no network, an empty cache of downloads, and the photographs."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import skimage
from hypothesis import settings

if TYPE_CHECKING:
    from torch import Tensor

# Of several processes that test side by side (pytest-xdist) each has its share of the cores, unless the number of
# threads is given; torch is not loaded yet.
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if workers > 1 and "OMP_NUM_THREADS" not in os.environ:
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))

# How long an example takes is never a test; the examples are the same in every run, so that a result is a commit's own.
settings.register_profile("impasto", deadline=None, derandomize=True)
settings.load_profile("impasto")


FORCED = os.environ.get("IMPASTO_PRECISION", "")


def pytest_configure() -> None:
    if FORCED not in ("", "float32", "bfloat16"):
        raise pytest.UsageError(f"IMPASTO_PRECISION is {FORCED}; it must be float32 or bfloat16")


def pytest_report_header() -> str:
    threads = os.environ.get("OMP_NUM_THREADS", "one a core")
    return f"--precision auto: {FORCED or 'what the processor has'}; threads: {threads}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process whole files, and all files about the exported page to one: the page takes a minute to make."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return str(Path(file).parent) if "export/web/" in file else file

    return Scheduling(config, log)


@pytest.fixture(autouse=True, scope="session")
def _forced_precision() -> Iterator[None]:
    """Make IMPASTO_PRECISION set what `--precision auto` resolves to on the CPU, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        if FORCED:
            patch.setattr("impasto.device.has_bfloat16", lambda: FORCED == "bfloat16")
            patch.setattr("impasto.stylizers.choose.fastest", lambda net, compute: compute)
        yield


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which writing fails once a file has a hundred bytes: "File too large"."""
    resource = pytest.importorskip("resource", reason="needs POSIX")

    @contextmanager
    def limited() -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Make connections to other machines fail, so that no test passes only because something could be downloaded."""

    def guard(connect: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(self: socket.socket, address: Any) -> Any:
            if self.family != socket.AF_INET and self.family != socket.AF_INET6:
                return connect(self, address)
            if address[0] not in ("127.0.0.1", "::1", "localhost"):
                raise OSError(f"tests have no network: connection to {address} refused")
            return connect(self, address)

        return guarded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guard(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guard(socket.socket.connect_ex))
        yield


@pytest.fixture(autouse=True, scope="session")
def _empty_weights_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Empty torch's hub cache, so that earlier downloads on this machine do not change a result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch-home")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _logger_as_it_was() -> Iterator[None]:
    """Restore the package's logger after each test, since the command line changes it."""
    logger = logging.getLogger("impasto")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture(scope="session")
def photo_file() -> Callable[[str], Path]:
    """Return `photo_file("coffee")`: the file of a photograph, free to use: astronaut, chelsea, coffee or rocket."""

    def find(name: str) -> Path:
        (path,) = Path(skimage.data_dir).glob(f"{name}.*")
        return path

    return find


@pytest.fixture(scope="session")
def photo(photo_file: Callable[[str], Path]) -> "Callable[[str, int], Tensor]":
    """Return `photo("coffee", 128)`: a photograph (1, 3, H, W), float32, sRGB, [0, 1], with the long side in pixels."""
    import numpy as np
    import torch
    from PIL import Image

    def load(name: str, side: int) -> "Tensor":
        with Image.open(photo_file(name)) as image:
            image = image.convert("RGB")
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            pixels = np.asarray(image, dtype=np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()

    return load
