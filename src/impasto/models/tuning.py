"""The fastest precision of a network on this machine: measured once and cached.

bfloat16 is several times faster if the processor multiplies bfloat16 matrices, and slower than float32 if it only
converts them. The processor's feature flags do not say how fast. So both are timed on a small picture, after a warm-up
pass each, and the faster one is stored in the user's cache folder.
"""

import json
import logging
import os
import platform
import statistics
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from ..device import Compute
from ..files import atomic_write
from .network import Network

log = logging.getLogger(__name__)

SIDE, REPEATS = 256, 5
"""Side of the picture used for timing, in pixels, and number of timed passes."""


def cache_file() -> Path:
    """Return the path of the cache: `impasto/precision.json` in XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "impasto" / "precision.json"


def fastest(net: Network, compute: Compute) -> Compute:
    """Return the precision in which the network is fastest on this CPU. On other devices, return `compute`.

    Parameters
    ----------
    net : Network
        The network. It is moved to the device if it is timed.
    compute : Compute
        What `--precision auto` resolves to for other networks.
    """
    if compute.device.type != "cpu" or compute.autocast_dtype is None:
        return compute
    key = "|".join((torch.__version__, processor(), str(torch.get_num_threads()), f"{net.config.width}"))
    known = _read_cache()
    if known.get(key) not in ("float32", "bfloat16"):
        compute.network(net)
        seconds = {name: _seconds(net, c) for name, c in _candidates(compute).items()}
        known[key] = min(seconds, key=seconds.__getitem__)
        log.debug("%s: %s", key, seconds)
        with suppress(OSError):  # if the cache is not writable, measure again next time
            cache_file().parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(cache_file()) as file:
                file.write(json.dumps(known, indent=1).encode())
    return _candidates(compute)[known[key]]


def _candidates(compute: Compute) -> dict[str, Compute]:
    return {
        "float32": replace(compute, autocast_dtype=None),
        "bfloat16": replace(compute, autocast_dtype=torch.bfloat16),
    }


def _read_cache() -> dict[str, str]:
    try:
        found = json.loads(cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def processor() -> str:
    """Return the processor's name, as reported by the system."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@torch.inference_mode()
def _seconds(net: Network, compute: Compute) -> float:
    """Return the median seconds of a forward pass."""
    x = compute.picture(torch.full((1, 3, SIDE, SIDE), 0.5))
    affine = torch.ones(1, net.layout.size, device=compute.device)  # the style does not affect the time
    times = []
    with compute.autocast():
        for _ in range(REPEATS + 1):
            begun = time.perf_counter()
            net(x, affine)
            times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])
