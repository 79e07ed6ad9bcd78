"""The engine behind the page and the HTTP interface: a queue of jobs, and one worker per device."""

import ctypes
import logging
import shutil
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from ...device import choose_compute
from ...errors import ImpastoError, OptionError
from ...image.write import SUFFIXES, check_sides
from ...options import OutputOptions, ServeOptions, StylizeOptions, VideoOptions
from ...style.target import builtin_names, load_builtin
from ...stylizers.choose import choose_stylizer
from ...stylizers.loss import check_blend
from ...stylizers.schedule import painting_size
from ...video.extra import prepare
from .batches import BatchJob, make_batch, paint_batch_job
from .estimate import Countdown, Pace
from .films import FilmJob, FilmRequest, place_film
from .jobs import SOURCES, Job, PictureJob, Status
from .large import check_large, paint_large_job
from .painter import paint_job
from .uploads import Request, check_parts, check_uploads, place, without_folder

log = logging.getLogger(__name__)

J = TypeVar("J", bound=Job)

WARM_UP = StylizeOptions(size=128, iterations=4)
"""Options of a worker's warm-up painting, so that the first visitor does not wait for loading and measuring."""
TIDY_SECONDS = 5.0
READERS = 2
"""Maximum number of uploads read at the same time, to bound the memory."""


def give_back_memory() -> None:
    """Return freed memory to the system: glibc keeps it for each thread, and jobs use many threads."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


class BusyError(ImpastoError):
    """The queue is full."""


class Engine:
    """The jobs and the workers that paint them.

    Parameters
    ----------
    options : ServeOptions
        Limits and devices.

    Raises
    ------
    OptionError
        If a device is not available.
    """

    def __init__(self, options: ServeOptions):
        self.options = options
        devices = options.devices or ("auto",)
        for device in devices:
            choose_compute(device)
        self.folder = Path(tempfile.mkdtemp(prefix="impasto-studio-"))
        self.pace = Pace()
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._state = threading.Condition()
        self.reading = threading.Semaphore(READERS)
        self.closing: list[Callable[[], None]] = []
        """Called when the engine closes, before its folder is removed."""
        self._closed = False
        self._devices = devices
        self._workers: list[threading.Thread] = []

    def start(self, *, warm: bool = True) -> None:
        """Start a worker per device. With `warm`, each first makes a small warm-up painting."""
        for device in self._devices:
            worker = threading.Thread(target=self._work, args=(device, warm), name=f"painter-{device}", daemon=True)
            self._workers.append(worker)
            worker.start()

    def submit(
        self,
        request: Request,
        options: StylizeOptions,
        output: OutputOptions | None = None,
        owner: str = "",
        file_format: str | None = None,
    ) -> PictureJob:
        """Check a request and queue it.

        If `file_format` is given, its limits on the size are checked, too, and large paintings are refused: they are
        files that the caller fetches later.

        Raises
        ------
        BusyError
            If the queue is full.
        ImpastoError
            If the request cannot be painted, as far as that is known before painting.
        """
        output = output or OutputOptions(max_megapixels=self.options.max_megapixels)

        def checked(folder: Path) -> PictureJob:
            paint = place(request, folder / SOURCES, options, output)
            check_blend(options, len(paint.styles))
            with self.reading:
                limit, large = self.options.max_megapixels, None
                if file_format is None:
                    large = check_large(paint, self.options.max_size, self.options.large_megapixels)
                if large is None:
                    check_uploads(paint, limit, lambda photo: self.check_size(photo, options, file_format))
                else:
                    check_parts(paint, large, limit)
                    paint = replace(paint, output=replace(output, max_megapixels=self.options.large_megapixels))
            return PictureJob(folder=folder, paint=paint, owner=owner, large=large is not None)

        return self._queued(checked)

    def submit_batch(self, request: Request, pattern: str, options: StylizeOptions, output: OutputOptions) -> BatchJob:
        """Check a batch, whose photograph is an archive, and queue it. Raises as `submit`."""

        def checked(folder: Path) -> BatchJob:
            with self.reading:
                return make_batch(request, pattern, options, output, folder, self.options)

        return self._queued(checked)

    def submit_film(self, request: FilmRequest, options: VideoOptions) -> FilmJob:
        """Check the request for a film and queue it.

        Raises
        ------
        BusyError
            If the queue is full.
        ImpastoError
            If the extra `video` is missing, or the request cannot be painted, as far as that is known beforehand.
        """
        prepare()
        from .film_painter import check_film

        def checked(folder: Path) -> FilmJob:
            given = place_film(request, folder / SOURCES, options, self.options)
            job = FilmJob(folder=folder, file_format=request.file_format, at=request.frame, **given)
            with self.reading:
                check_film(job, self.options, self.pace)
            return job

        return self._queued(checked)

    def _queued(self, checked: Callable[[Path], J]) -> J:
        """Make a job in a new folder, and queue it. Errors of `checked` are raised without the folder's path."""
        self._check_room()
        folder = Path(tempfile.mkdtemp(prefix="job-", dir=self.folder))
        try:
            (folder / SOURCES).mkdir()
            job = checked(folder)
            with self._state:
                self._check_room()
                self._jobs[job.id] = job
                self._waiting.append(job)
                self._state.notify()
        except ImpastoError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise type(error)(without_folder(without_folder(str(error), folder / SOURCES), folder)) from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    def check_size(self, photo: tuple[int, int], options: StylizeOptions, file_format: str | None = None) -> None:
        """Check the size of the painting of a photograph of that height and width.

        Raises
        ------
        OptionError, PictureError
            If the painting would be too large for this server, or for its file format.
        """
        size = painting_size(photo, options)
        if max(size) > self.options.max_size:
            larger = self.options.large_megapixels
            raise OptionError(
                f"the painting would be {size[1]}x{size[0]}; this server paints at most {self.options.max_size} pixels "
                "a side: give a smaller --size"
                + (f"; with --quality instant, jobs may have up to {larger:g} megapixels" if larger else "")
            )
        if file_format is not None:
            check_sides(size, SUFFIXES["." + file_format], "the painting")

    def _check_room(self) -> None:
        if self._closed:
            raise BusyError("the studio is closing")
        if len(self._waiting) >= self.options.max_waiting:
            raise BusyError(f"{len(self._waiting)} paintings are already waiting; try again in a few minutes")

    def find(self, job_id: str, kind: type[J]) -> J | None:
        """Return the job of a kind with that id, or None if it does not exist any more."""
        job = self._jobs.get(job_id)
        return job if isinstance(job, kind) else None

    def place(self, job: Job) -> int:
        """Return a job's position in the queue, counted from 1; 0 if it is not waiting."""
        with self._state:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    @property
    def waiting(self) -> int:
        """The number of waiting jobs."""
        return len(self._waiting)

    def cancel(self, job: Job) -> None:
        """Stop a job and keep the painting so far. A waiting job ends without a picture."""
        job.stop.set()
        with self._state:
            if job in self._waiting:
                self._waiting.remove(job)
                job.note = "stopped before painting started"
                self._end(job, "stopped")

    def remove(self, job: Job) -> None:
        """Stop a job and remove it with its files."""
        self.cancel(job)
        with self._state:
            self._jobs.pop(job.id, None)
            if job.has_ended:
                job.forget()

    def remove_of(self, owner: str) -> None:
        """Remove the jobs of a page's session that has ended."""
        for job in [j for j in list(self._jobs.values()) if owner and j.owner == owner]:
            self.remove(job)

    def close(self, timeout: float = 10.0) -> None:
        """Stop all work and remove all files."""
        with self._state:
            self._closed = True
            jobs = list(self._jobs.values())
            self._state.notify_all()
        for job in jobs:
            self.cancel(job)
        until = time.monotonic() + timeout
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))
        while self.closing:
            self.closing.pop()()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, job: Job, status: Status) -> None:
        job.ended = time.monotonic()
        job.status = status
        job.seconds_left = None
        job.changed()
        if job.id not in self._jobs:
            job.forget()

    def _work(self, device: str, warm: bool) -> None:
        if warm:
            self._warm_up(device)
        while True:
            with self._state:
                while not self._waiting and not self._closed:
                    self._state.wait(TIDY_SECONDS)
                    self._tidy()
                if self._closed:
                    return
                job = self._waiting.popleft()
                job.status, job.begun = "painting", time.monotonic()
                job.changed()
                self._tidy()
            self._paint(job, device)

    def _paint(self, job: Job, device: str) -> None:
        status: Status = "failed"
        try:
            self._run(job, device)
            job.put_away()
            status = "done" if job.is_whole else "stopped"
        except ImpastoError as error:
            job.error = without_folder(without_folder(str(error), job.folder / SOURCES), job.folder)
        except Exception as error:
            if isinstance(error, MemoryError | RuntimeError) and "memory" in f"{type(error).__name__} {error}".lower():
                job.error = "out of memory; try a smaller --size"
            else:
                log.exception("a painting failed")
                job.error = "the painting failed; see the server's log"
        with self._state:
            self._end(job, status)
        give_back_memory()

    def _run(self, job: Job, device: str) -> None:
        if isinstance(job, FilmJob):
            from .film_painter import paint_film_job

            paint_film_job(job, device, self.options, self.pace, job.changed)
            return
        if isinstance(job, BatchJob):
            options = job.paint.options
            paint_batch_job(job, device, self.options, lambda photo: self.check_size(photo, options))
            return
        assert isinstance(job, PictureJob)
        if job.large:
            paint_large_job(job.paint, job, device, self.options.max_seconds, job.changed)
        else:
            paint_job(job.paint, job, device, self.options.max_seconds, self.pace, job.changed)

    def _warm_up(self, device: str) -> None:
        options = StylizeOptions(**{**WARM_UP.to_dict(), "device": device, "offline": True})
        stylizer = choose_stylizer([load_builtin(builtin_names()[0])], options)
        grey = torch.rand((1, 3, 128, 128), generator=torch.Generator().manual_seed(0))
        countdown, last = Countdown(), None
        for step in stylizer.steps(grey):
            last = step
            countdown.left(step, time.monotonic())
            if self._closed:
                return
        if last is not None and (seconds := countdown.pace(last, time.monotonic())) is not None:
            self.pace.learn(seconds, last.scale)

    def _tidy(self) -> None:
        """Remove ended jobs that are too old or too many."""
        ended = sorted((j for j in self._jobs.values() if j.ended is not None), key=lambda j: j.ended or 0.0)
        oldest = time.monotonic() - 60 * self.options.keep_minutes
        kept = 0
        for i, job in enumerate(reversed(ended)):  # the newest is kept, however many paintings it has
            kept += job.paintings
            if (i and kept > self.options.keep) or (job.ended or 0.0) < oldest:
                del self._jobs[job.id]
                job.forget()
