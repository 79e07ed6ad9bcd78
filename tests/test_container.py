"""Tests of the memory and processors that control groups allow.

The trees are like those of Docker, systemd and Slurm.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from impasto.container import allowed_processors, free_memory

GB = 10**9
Machine = Callable[..., Path]
V2 = "30 23 0:26 {shown} /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup rw,nsdelegate"
V1_MEMORY = "35 31 0:32 {shown} /sys/fs/cgroup/memory ro,nosuid,relatime - cgroup cgroup rw,memory"
V1_CPU = "36 31 0:33 {shown} /sys/fs/cgroup/cpu,cpuacct ro,nosuid,relatime - cgroup cgroup rw,cpu,cpuacct"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return `machine(cgroup, mounts, files)`: the root folder of a machine with 16 GB free and 64 processors."""

    def make(cgroup: str, mounts: list[str], files: Mapping[str, str | int]) -> Path:
        given = {
            "proc/meminfo": f"MemTotal: 64000000 kB\nMemAvailable: {16 * GB // 1024} kB\nHugePages_Total: 0\n",
            "proc/self/status": "Name:\tpython\nCpus_allowed:\tff\nCpus_allowed_list:\t0-63\n",
            "proc/self/cgroup": cgroup,
            "proc/self/mountinfo": "\n".join(["23 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw", *mounts]) + "\n",
            **files,
        }
        for name, text in given.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n" if isinstance(text, int) else text)
        return tmp_path

    return make


def v2(folder: str, most: int | str, used: int, **stat: int) -> dict[str, str | int]:
    """Return the memory files of a group of version 2."""
    rows = "".join(f"{k} {v}\n" for k, v in {"anon": 0, **stat}.items())
    at = f"sys/fs/cgroup/{folder}".rstrip("/")
    return {f"{at}/memory.max": f"{most}\n", f"{at}/memory.current": used, f"{at}/memory.stat": rows}


def v1(folder: str, most: int, used: int, **stat: int) -> dict[str, str | int]:
    """Return the memory files of a group of version 1."""
    rows = "".join(f"{k} {v}\n" for k, v in {"cache": 0, **stat}.items())
    at = f"sys/fs/cgroup/memory/{folder}".rstrip("/")
    return {f"{at}/memory.limit_in_bytes": most, f"{at}/memory.usage_in_bytes": used, f"{at}/memory.stat": rows}


def near(number: int) -> object:
    return pytest.approx(number, abs=2000)


def test_no_groups(machine: Machine) -> None:
    root = machine("", [], {})
    assert free_memory(root) == near(16 * GB)
    assert allowed_processors(root) == 64


def test_another_system(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
    assert allowed_processors(tmp_path) is None


def test_a_container_sees_its_group_as_the_top_one(machine: Machine) -> None:
    """This is Docker with version 2 and its own namespace."""
    files = {**v2("", 4 * GB, 3 * GB), "sys/fs/cgroup/cpu.max": "200000 100000\n"}
    root = machine("0::/\n", [V2.format(shown="/")], files)
    assert free_memory(root) == near(GB)
    assert allowed_processors(root) == 2


def test_a_service_in_nested_groups(machine: Machine) -> None:
    """In systemd, there are no files at the top, and the slice's limit includes the usage of other services."""
    files = {
        **v2("user.slice", 6 * GB, 4 * GB),
        **v2("user.slice/user-1000.slice", "max", 3 * GB),
        **v2("user.slice/user-1000.slice/app.scope", 8 * GB, 2 * GB),
        "sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/user.slice/user-1000.slice/cpu.max": "max 100000\n",
        "sys/fs/cgroup/user.slice/user-1000.slice/app.scope/cpu.max": "800000 100000\n",
        **v2("other.slice", 1, 1),
        "sys/fs/cgroup/other.slice/cpu.max": "1000 100000\n",
    }
    root = machine("0::/user.slice/user-1000.slice/app.scope\n", [V2.format(shown="/")], files)
    assert free_memory(root) == near(2 * GB)
    assert allowed_processors(root) == 2  # one and a half


def test_memory_high_is_a_limit(machine: Machine) -> None:
    """Above it, the kernel slows a process down to a crawl."""
    root = machine(
        "0::/a\n", [V2.format(shown="/")], {**v2("a", "max", GB), "sys/fs/cgroup/a/memory.high": f"{3 * GB}\n"}
    )
    assert free_memory(root) == near(2 * GB)


def test_caches_count_as_free(machine: Machine) -> None:
    """A container that has read large files is full of caches; the kernel drops them when memory is needed."""
    stat = {"inactive_file": GB, "active_file": GB // 2, "slab_reclaimable": GB // 4, "shmem": GB // 8}
    root = machine("0::/\n", [V2.format(shown="/")], v2("", 4 * GB, 4 * GB, **stat))
    assert free_memory(root) == near(GB + GB // 2 + GB // 4)


def test_caches_of_version_1(machine: Machine) -> None:
    """The rows that include the groups below count, too."""
    stat = {"inactive_file": 1, "active_file": 1, "total_inactive_file": GB, "total_active_file": GB // 2}
    root = machine("4:memory:/job\n", [V1_MEMORY.format(shown="/")], v1("job", 4 * GB, 4 * GB, **stat))
    assert free_memory(root) == near(GB + GB // 2)


def test_version_1_nested(machine: Machine) -> None:
    """In a batch system's job, every controller has its own hierarchy and its own path."""
    at = "sys/fs/cgroup/cpu,cpuacct"
    files = {
        **v1("", 2**63 - 4096, 30 * GB),
        **v1("slurm", 12 * GB, 11 * GB),
        **v1("slurm/job_7", 3 * GB, GB),
        f"{at}/cpu.cfs_quota_us": -1,
        f"{at}/cpu.cfs_period_us": 100000,
        f"{at}/batch/cpu.cfs_quota_us": 300000,
        f"{at}/batch/cpu.cfs_period_us": 100000,
        f"{at}/batch/7/cpu.cfs_quota_us": -1,
        f"{at}/batch/7/cpu.cfs_period_us": 100000,
    }
    cgroup = "9:name=systemd:/\n4:memory:/slurm/job_7\n1:cpu,cpuacct:/batch/7\n0::/\n"
    root = machine(cgroup, [V1_MEMORY.format(shown="/"), V1_CPU.format(shown="/")], files)
    assert free_memory(root) == near(GB)
    assert allowed_processors(root) == 3


@pytest.mark.parametrize("shown", ["/docker/4f2a", "/docker/another\\040one"])
def test_a_container_with_the_names_of_outside(machine: Machine, shown: str) -> None:
    """In Docker without a namespace for groups, the path is the machine's and the folder is the container's."""
    files = {
        **v1("", 2 * GB, GB),
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": 100000,
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100000,
    }
    cgroup = "4:memory:/docker/4f2a\n3:cpu,cpuacct:/docker/4f2a\n"
    root = machine(cgroup, [V1_MEMORY.format(shown=shown), V1_CPU.format(shown=shown)], files)
    assert free_memory(root) == near(GB)
    assert allowed_processors(root) == 1


def test_both_versions_at_once(machine: Machine) -> None:
    """Version 1 limits memory and version 2 the rest; the path of one says nothing about the other."""
    unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
    files = {
        **v1("a", 3 * GB, GB),
        "sys/fs/cgroup/unified/b/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/unified/a/cpu.max": "1000000 100000\n",
    }
    root = machine("4:memory:/a\n0::/b\n", [V1_MEMORY.format(shown="/"), unified], files)
    assert free_memory(root) == near(2 * GB)
    assert allowed_processors(root) == 1


def test_another_group_that_is_mounted_too_is_not_ours(machine: Machine) -> None:
    other = "50 31 0:26 /other /mnt/other rw - cgroup2 cgroup rw"
    files = {**v2("mine", 4 * GB, GB), "mnt/other/memory.max": "1\n", "mnt/other/memory.current": "1\n"}
    root = machine("0::/mine\n", [V2.format(shown="/"), other], files)
    assert free_memory(root) == near(3 * GB)


def test_a_group_that_is_full(machine: Machine) -> None:
    assert free_memory(machine("0::/\n", [V2.format(shown="/")], v2("", GB, 2 * GB))) == 0


@pytest.mark.parametrize(("allowed", "count"), [("0-3", 4), ("7", 1), ("0-1,4,8-9", 5)])
def test_affinity(machine: Machine, allowed: str, count: int) -> None:
    root = machine("", [], {"proc/self/status": f"Name:\tpython\nCpus_allowed_list:\t{allowed}\n"})
    assert allowed_processors(root) == count


THREADS = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(6)
from impasto.device import bound_threads
bound_threads(Path(sys.argv[1]))
print(torch.get_num_threads())
torch.set_num_threads(5)
bound_threads(Path(sys.argv[1]))
print(torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("quota", "given", "threads"), [(250000, {}, 3), (900000, {}, 6), (250000, {"OMP_NUM_THREADS": "6"}, 6)]
)
def test_threads_are_no_more_than_the_quota(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, quota: int, given: dict[str, str], threads: int
) -> None:
    """This holds unless their number is given; what a program sets later stays."""
    root = machine("0::/\n", [V2.format(shown="/")], {"sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", THREADS, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(threads), "5"]
