"""Which precision a network runs fastest in on this machine: measured once, and remembered.

bfloat16 is several times faster where the processor multiplies matrices of it, and slower than float32 where it only
converts; what a processor says of itself does not tell how much. So both are timed on a small picture, after a first
pass each that does not count, and the faster one is kept in the user's cache folder.
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
from .download import replacing
from .network import Network

log = logging.getLogger(__name__)

SIDE, REPEATS = 256, 5
"""Side of the picture that is timed, in pixels, and how often."""


def cache_file() -> Path:
    """Where choices are remembered: `impasto/precision.json` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "impasto" / "precision.json"


def fastest(net: Network, compute: Compute) -> Compute:
    """The compute that the network is fastest with on this CPU, of what the processor has; elsewhere the one given.

    Parameters
    ----------
    net : Network
        The network. It is moved to the device if it is timed.
    compute : Compute
        What `--precision auto` comes to for all else.
    """
    if compute.device.type != "cpu" or compute.low is None:
        return compute
    key = "|".join((torch.__version__, processor(), str(torch.get_num_threads()), f"{net.config.width}"))
    known = _known()
    if known.get(key) not in ("float32", "bfloat16"):
        compute.network(net)
        seconds = {name: _seconds(net, c) for name, c in _candidates(compute).items()}
        known[key] = min(seconds, key=seconds.__getitem__)
        log.debug("%s: %s", key, seconds)
        with suppress(OSError):  # where nothing can be kept, it is measured again next time
            cache_file().parent.mkdir(parents=True, exist_ok=True)
            with replacing(cache_file()) as file:
                file.write(json.dumps(known, indent=1).encode())
    return _candidates(compute)[known[key]]


def _candidates(compute: Compute) -> dict[str, Compute]:
    return {"float32": replace(compute, low=None), "bfloat16": replace(compute, low=torch.bfloat16)}


def _known() -> dict[str, str]:
    try:
        found = json.loads(cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def processor() -> str:
    """The processor's name, as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@torch.inference_mode()
def _seconds(net: Network, compute: Compute) -> float:
    """Median seconds of a pass."""
    x = compute.picture(torch.full((1, 3, SIDE, SIDE), 0.5))
    affine = torch.ones(1, net.layout.size, device=compute.device)  # which style it is does not change the time
    times = []
    with compute.autocast():
        for _ in range(REPEATS + 1):
            begun = time.perf_counter()
            net(x, affine)
            times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])
