"""Engine of one machine: units in this process, or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from dupq.engine.base import MAX_ATTEMPTS, THREADS, Task, Unit
from dupq.engine.unit_queue import UnitQueue
from dupq.engine.work_folder import WorkFolder
from dupq.engine.worker import Attempt, Worker
from dupq.errors import DupqError, InputError
from dupq.types import Progress

_GRACE_SECONDS = 5.0
"""Time that a worker has to end by itself."""


class LocalEngine:
    """Runs units on this machine.

    Args:
        workers: 1 runs the units in this process. More start as many processes, which share the processor's cores; a
            script that starts them needs the guard `if __name__ == "__main__":`. A process that dies (e.g. out of
            memory) costs its unit one attempt and is replaced.

    Raises:
        InputError: `workers` is less than 1.
    """

    def __init__(self, workers: int = 1) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise InputError(f"workers must be at least 1, got {workers!r}")
        self.workers = workers

    def __repr__(self) -> str:
        return f"LocalEngine(workers={self.workers})"

    def run(self, task: Task, units: Sequence[Unit], work: WorkFolder, progress: Progress | None = None) -> None:
        """Compute the parts that the work folder lacks; see `Engine.run`."""
        queue = UnitQueue(task, units, work, progress)
        if queue and self.workers == 1:
            _run_here(task, queue, work)
        elif queue:
            _run_in_processes(task, queue, work, self.workers)
        queue.finish()

    def close(self) -> None:
        """Do nothing: the processes end with their task."""


def _run_here(task: Task, queue: UnitQueue, work: WorkFolder) -> None:
    compute = task.make(work, *task.arguments)
    while (unit := queue.next()) is not None:
        with Attempt() as attempt:
            work.write(unit.name, compute(unit))
        if attempt.error:
            queue.fail(unit, attempt.error)
        else:
            queue.done(unit)


# ---- several processes --------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Process:
    """A process and the unit that it computes; it has none while it starts or waits."""

    process: BaseProcess
    pipe: Connection
    ready: bool = False
    unit: Unit | None = None


def _run_in_processes(task: Task, queue: UnitQueue, work: WorkFolder, count: int) -> None:
    count = min(count, len(queue))
    workers: list[_Process] = []
    failed_starts = 0
    try:
        with _thread_settings(max(1, _cores() // count)):
            workers += [_start(task, work) for _ in range(count)]
        while workers:
            for pipe in wait([worker.pipe for worker in workers]):
                worker = next(worker for worker in workers if worker.pipe is pipe)
                try:
                    answer = worker.pipe.recv()
                except (EOFError, OSError):
                    reason = _end(worker)
                    workers.remove(worker)
                    if worker.unit is not None:
                        queue.fail(worker.unit, reason)
                    else:
                        failed_starts += 1
                        if failed_starts == MAX_ATTEMPTS:
                            raise DupqError(
                                f"{task.name}: workers ended while they started ({reason})",
                                hint="use fewer workers if memory is short",
                            ) from None
                    if len(workers) < len(queue) + sum(worker.unit is not None for worker in workers):
                        with _thread_settings(max(1, _cores() // count)):
                            workers.append(_start(task, work))
                    continue
                if isinstance(answer, DupqError):
                    raise answer
                if worker.unit is None:
                    worker.ready, failed_starts = True, 0
                elif answer:
                    queue.fail(worker.unit, answer)
                else:
                    queue.done(worker.unit)
                worker.unit = None
            for worker in [worker for worker in workers if worker.ready and worker.unit is None]:
                unit = queue.next()
                if unit is not None:
                    worker.unit = unit
                    with suppress(OSError):  # it died: its end is read in the next turn
                        worker.pipe.send(unit)
            if not queue and all(worker.unit is None for worker in workers):
                break
    finally:
        for worker in workers:
            worker.pipe.close()  # an idle one ends by it
            if worker.unit is not None or not worker.ready:
                worker.process.terminate()
        for worker in workers:
            _end(worker)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _thread_settings(threads: int) -> Iterator[None]:
    """Set the thread count that a process started in this block inherits.

    Libraries read it when they are loaded.
    """
    names = (THREADS, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    ours = {name: str(threads) for name in names if name == THREADS or name not in os.environ}
    before = os.environ.get(THREADS)
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        if before is not None:
            os.environ[THREADS] = before


def _start(task: Task, work: WorkFolder) -> _Process:
    context = multiprocessing.get_context("spawn")  # threads and sessions of this process must not be copied
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, task, work), name=f"dupq {task.name}", daemon=True)
    process.start()
    theirs.close()
    return _Process(process, ours)


def _end(worker: _Process) -> str:
    """Wait for the end of a process, or kill it, and return the reason as text."""
    worker.pipe.close()
    worker.process.join(_GRACE_SECONDS)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    code = worker.process.exitcode or 0
    worker.process.close()
    return f"its process was ended by signal {-code}" if code < 0 else f"its process ended with code {code}"


def _serve(pipe: Connection, task: Task, work: WorkFolder) -> None:
    """Answer units until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a temporary file is removed
    _end_with_parent()
    worker = Worker()
    with suppress(EOFError, BrokenPipeError):
        pipe.send(worker.start(task, work))
        while True:
            pipe.send(worker.run(pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="dupq-parent", daemon=True).start()
