"""The memory and processors available to this process on Linux, by the limits of its control groups.

Containers, systemd services and batch systems set such limits. A process belongs to one group in each hierarchy.
Version 2 has one hierarchy; version 1 has one for each controller. Groups are nested, and all their limits apply. See
the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

ROOT = Path("/")
MEMORY = (
    (("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file", "slab_reclaimable")),
    (("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)
"""For each version: files with limits, the file with the usage, and the rows of memory.stat that are caches."""


def free_memory(root: Path = ROOT) -> int | None:
    """Return the bytes of memory that this process can still allocate, or None if the system does not say.

    Memory used by caches counts as free, as in MemAvailable of /proc/meminfo.

    Parameters
    ----------
    root : Path
        The folder that holds `proc` and `sys`.
    """
    free = _rows(root / "proc/meminfo").get("MemAvailable:")
    if free is None:
        return None
    left = [free * 1024]
    for folder in groups("memory", root):
        for limits, usage, caches in MEMORY:
            most, used = min(_number(folder / limit) for limit in limits), _number(folder / usage)
            if math.isfinite(most) and math.isfinite(used):
                rows = _rows(folder / "memory.stat")
                left.append(int(most - max(0, used - sum(rows.get(cache, 0) for cache in caches))))
    return max(0, min(left))


def allowed_processors(root: Path = ROOT) -> int | None:
    """Return the number of processors that this process can keep busy, or None if there is no limit.

    A quota of one and a half processors counts as two: a second thread then runs half of the time.

    Parameters
    ----------
    root : Path
        The folder that holds `proc` and `sys`.
    """
    found: list[float] = []
    with suppress(OSError, ValueError):
        (allowed,) = re.findall(r"^Cpus_allowed_list:\s*(\S+)", (root / "proc/self/status").read_text(), re.MULTILINE)
        spans = [[int(n) for n in span.split("-")] for span in allowed.split(",")]
        found.append(sum(span[-1] - span[0] + 1 for span in spans))
    for folder in groups("cpu", root):
        found.append(_number(folder / "cpu.max") / _number(folder / "cpu.max", 1))
        quota, period = (_number(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        found.append(quota / period if quota > 0 else math.inf)
    found = [n for n in found if math.isfinite(n)]
    return max(1, math.ceil(min(found))) if found else None


def groups(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Yield the folders of this process's groups, from its own to the outermost visible one.

    Parameters
    ----------
    controller : str
        `memory` or `cpu`. Skips hierarchies of version 1 without this controller.
    root : Path
        The folder that holds `proc` and `sys`.
    """
    try:
        member = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    paths = {c: path for _, names, path in (row.split(":", 2) for row in member) for c in names.split(",")}
    known, foreign = [], []
    for row in mounts:
        # ID, parent, device, mounted folder, mount point, options ..., "-", type, source, options
        before, _, after = row.partition(" - ")
        (shown, at), (kind, _, options) = map(_unescaped, before.split(" ")[3:5]), after.split(" ")
        path = paths.get("" if kind == "cgroup2" else controller)
        if path is None or not (kind == "cgroup2" or (kind == "cgroup" and controller in options.split(","))):
            continue
        top, group = root / at.lstrip("/"), PurePosixPath(path)
        if group.is_relative_to(shown) and ".." not in group.parts:
            inside = group.relative_to(shown)
            known += [top / part for part in (inside, *inside.parents)]
        else:
            foreign.append(top)
    # Some containers mount their own group as the top one, but list it by its name outside. Then use the top one.
    yield from known or foreign


def _unescaped(name: str) -> str:
    """Unescape a path from mountinfo, which writes a space as a backslash and 040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)


def _rows(file: Path) -> dict[str, int]:
    """Read a file with lines `NAME NUMBER`; empty if it cannot be read."""
    with suppress(OSError, ValueError, IndexError):
        return {words[0]: int(words[1]) for words in map(str.split, file.read_text().splitlines())}
    return {}


def _number(file: Path, index: int = 0) -> float:
    """Read one number from a file; infinity for `max`, or if the file or number is missing."""
    with suppress(OSError, ValueError, IndexError):
        return float(file.read_text().split()[index])
    return math.inf
