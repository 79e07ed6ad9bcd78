"""Paint a batch on a Ray cluster, with Ray Data: tasks read, actors paint with their stylizers, tasks write."""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from ..errors import ImpastoError
from ..models.networks import find_network
from ..options import BatchOptions, OutputOptions, StylizeOptions
from ..stylizers.choose import choose_method, resolve_compute
from .outputs import Output
from .painters import Painters
from .pictures import Packed, read_photo, write_painting
from .plan import Task
from .report import Entry
from .run import failed, readings
from .workers import default_workers, guarded

Row = dict[str, Any]
"""A row of a data set: `item`, a pickled tuple. Pictures of several sizes do not fit into a column of arrays."""
BATCH = 32
"""Photographs that an actor takes at a time, so that some have the same size."""
READER = 0.9
"""Processors of a task that reads. With as many as an actor has, Ray would have the actors read."""


def paint_on_ray(
    tasks: Sequence[Task],
    out: Output,
    output: OutputOptions,
    options: BatchOptions,
    stopped: Callable[[], bool],
) -> Iterator[Entry]:
    """Paint on a cluster, or with Ray on this machine, and yield an entry for each painting.

    Parameters
    ----------
    tasks : sequence of Task
        The paintings.
    out : Output
        Where they go. Photographs and folders must be in the same place on every machine.
    output : OutputOptions
        The options of reading and writing.
    options : BatchOptions
        The cluster's address, and the numbers of actors and workers.
    stopped : callable
        Returns whether to stop.

    Raises
    ------
    ImpastoError
        If Ray is not installed, the cluster cannot be reached, or it fails as a whole.
    """
    actors, here = options.actors, options.address is None
    workers = max(1, default_workers() if options.workers is None else options.workers)
    ray = load_ray()
    with cluster(ray, options.address, workers + (actors or 1)):
        gpus = int(ray.cluster_resources().get("GPU", 0))
        actors = actors or max(1, gpus)
        if (free := int(ray.cluster_resources().get("CPU", 0))) <= actors:
            raise ImpastoError(
                f"the cluster has {free} processors: too few for {actors} actors and one more that reads; give fewer "
                "--actors, or add machines"
            )
        threads = torch.get_num_threads() if here else None  # the last bits depend on it
        numbers = {task.out: i for i, task in enumerate(tasks)}
        items = [
            pickled(reading, [numbers[task.out] for task in reading.tasks])
            for reading in readings(with_precision(task) if here else task for task in tasks)
        ]
        shared = {"output": output, "folder": os.getcwd()}
        targets = [out.target(task.out) for task in tasks]
        arguments = (items, shared, targets, options.per_pass, threads, actors, gpus >= actors)
        missing = dict.fromkeys(range(len(tasks)))
        try:
            for item in results(ray, options.address, arguments):
                number, error, data, beside, seconds = pickle.loads(item)
                del missing[number]
                yield _entry(tasks[number], out, error, data, beside, seconds)
                if stopped():
                    return
        except ray.exceptions.RayError as error:
            raise ImpastoError(f"the cluster failed ({one_line(error)}); run the same command to continue") from error
        for number in missing:
            yield failed(tasks[number], ImpastoError("the cluster lost it; --retry tries it again"), 0.0)


def results(ray: Any, address: str | None, arguments: tuple[Any, ...]) -> Iterator[bytes]:
    """Yield what `painted` yields. Behind a ray:// address, Ray Data only works in a process of the cluster."""
    if address is None or not address.startswith("ray://"):
        yield from painted(*arguments)
        return
    remote = ray.remote(Remote).options(num_cpus=0).remote(*arguments)
    while (item := ray.get(remote.next.remote())) is not None:
        yield item


class Remote:
    """An actor that yields what `painted` yields, one by one."""

    def __init__(self, *arguments: Any):
        self.items = painted(*arguments)

    def next(self) -> bytes | None:
        """Return the next result, or None at the end."""
        return next(self.items, None)


def painted(
    items: Sequence[Row],
    shared: Row,
    targets: Sequence[str | None],
    per_pass: int | None,
    threads: int | None,
    actors: int,
    gpus: bool,
) -> Iterator[bytes]:
    """Read, paint and write the rows `items` with Ray Data, and yield the results of `write_row`."""
    data = load_ray().data
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    rows = (
        data.from_items(list(items), override_num_blocks=-(-len(items) // BATCH))
        .map(read_row, fn_kwargs=shared, num_cpus=READER)
        .map_batches(
            RayPainter,
            fn_constructor_kwargs={**shared, "per_pass": per_pass, "threads": threads},
            batch_size=BATCH,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=actors),
            num_cpus=1,
            num_gpus=1 if gpus else None,
        )
        .map(write_row, fn_kwargs={**shared, "targets": targets})
    )
    yield from (row["item"] for row in rows.iter_rows())


def _entry(task: Task, out: Output, error: Exception | None, data: bytes, beside: Any, seconds: float) -> Entry:
    try:
        if error is not None:
            raise error
        if out.target(task.out) is None:
            out.add(task.out, data, beside)
    except ImpastoError as found:
        return failed(task, found, seconds)
    return Entry(task.photo.source, task.look.style, task.out, "painted", "", seconds)


def load_ray() -> Any:
    """Return Ray, with its usage statistics switched off. Raises ImpastoError if it is not installed."""
    if find_spec("ray") is None:
        raise ImpastoError('--on ray needs Ray: pip install "impasto[ray]"')
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = import_module("ray")
    import_module("ray.data")
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


@contextmanager
def cluster(ray: Any, address: str | None, processors: int) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine with a number of processors, until the context ends.

    Raises
    ------
    ImpastoError
        If the cluster cannot be reached.
    """
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if address is None:
            ray.init("local", num_cpus=processors, include_dashboard=False, **quiet)
        else:
            ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise ImpastoError(f"--address {address}: Ray cannot be started or reached ({one_line(error)})") from error
    try:
        yield
    finally:
        ray.shutdown()


def one_line(error: BaseException) -> str:
    """Return the last line of an error's message, without the traceback that Ray puts before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def with_precision(task: Task) -> Task:
    """Return a task with the precision of this machine's other paintings, so that actors paint the same bytes."""
    options = task.look.options
    if options.precision != "auto":
        return task
    network = choose_method(options) == "network"
    precision = _precision(network, options.preset == "gatys", options.model, options.device)
    return replace(task, look=replace(task.look, options=replace(options, precision=precision)))


@cache
def _precision(network: bool, gatys: bool, model: str | None, device: str) -> Any:
    # `fastest` measures for the current number of threads, which differs in an actor.
    options = StylizeOptions(preset="gatys" if gatys else "impasto", device=device)
    return resolve_compute(options, find_network(model) if network else None).precision


def pickled(*values: Any) -> Row:
    """Return values as a row."""
    return {"item": pickle.dumps(values, pickle.HIGHEST_PROTOCOL)}


def _enter(folder: str) -> None:
    """Make relative paths mean the same as where the batch was started, if that folder is on this machine."""
    with suppress(OSError):
        os.chdir(folder)


def read_row(row: Row, output: OutputOptions, folder: str) -> Row:
    """Read a photograph."""
    _enter(folder)
    reading, numbers = pickle.loads(row["item"])
    try:
        found = guarded(read_photo, (reading.photo, reading.options, output.limit))
    except ImpastoError as error:
        found = error
    return pickled(reading, numbers, found)


class RayPainter:
    """An actor that keeps its stylizers, and paints photographs in all their looks."""

    def __init__(self, output: OutputOptions, folder: str, per_pass: int | None, threads: int | None):
        _enter(folder)
        if threads is not None:
            torch.set_num_threads(threads)
        self.painters = Painters(output, per_pass)

    def __call__(self, table: Any) -> dict[str, list[bytes]]:
        """Paint the photographs of a table."""
        rows, groups = list[Row](), dict[Any, list[Any]]()
        for item in table["item"].to_pylist():
            reading, numbers, found = pickle.loads(item)
            for number, task in zip(numbers, reading.tasks, strict=True):
                if isinstance(found, Exception):
                    rows.append(pickled(number, task, found, None, 0.0))
                else:
                    key = task.look, found.shape
                    groups.setdefault(key, []).append((number, task, found, found.seconds / len(numbers)))
        for (look, _), items in groups.items():
            rows += self._painted(look, items)
        return {"item": [row["item"] for row in rows]}

    def _painted(self, look: Any, items: list[Any]) -> Iterator[Row]:
        try:
            painter = self.painters.of(look)
        except ImpastoError as error:
            yield from (pickled(number, task, error, None, 0.0) for number, task, *_ in items)
            return
        most = painter.most(items[0][2])
        for begin in range(0, len(items), most):
            part = items[begin : begin + most]
            results = painter.each([found for _, _, found, _ in part])
            for (number, task, _, reading), (result, seconds) in zip(part, results, strict=True):
                if isinstance(result, Exception):
                    yield pickled(number, task, result, None, reading + seconds)
                else:
                    yield pickled(number, task, Packed.of(result[0]), result[1], reading + seconds)


def write_row(row: Row, output: OutputOptions, folder: str, targets: list[str | None]) -> Row:
    """Write a painting, or return its file if it has no target."""
    _enter(folder)
    number, task, found, record, seconds = pickle.loads(row["item"])
    if isinstance(found, Exception):
        return pickled(number, found, b"", (), seconds)
    try:
        arguments = (found, task.out, targets[number], output, record, task.photo)
        data, beside, more = guarded(write_painting, arguments)
    except ImpastoError as error:
        return pickled(number, error, b"", (), seconds)
    return pickled(number, None, data, beside, seconds + more)
