"""Memory of a figure: the most that its process held, and the most that one of its workers held.

Both are the high-water mark of the resident memory, `VmHWM` in `/proc/PID/status`: pages of libraries and of mapped
files count, also where processes share them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any

WORKERS = ("spawn_main(", "ray::_Actor")
"""Parts of the command lines of workers: a process of the local engine, and an actor of Ray."""
INTERVAL_S = 0.2


def apart(figure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Measure a figure in a process of its own, and add the most memory that it held, in MB."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(with_memory, figure, *arguments).result()


def with_memory(figure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    before = peak(os.getpid())
    return {**figure(*arguments), "peak_mb": round(peak(os.getpid())), "imported_mb": round(before)}


def peak(process: int) -> float:
    """Return the most memory that a process has held, in MB; 0 if it has ended."""
    with suppress(OSError):
        for line in Path("/proc", str(process), "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


class WorkerMemory:
    """Context that watches the workers below this process.

    Attributes:
        largest_mb: The most memory that one of them has held; 0 if there were none.
    """

    def __init__(self) -> None:
        self.largest_mb = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> WorkerMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            for process in descendants(os.getpid()):
                with suppress(OSError):
                    command = Path("/proc", str(process), "cmdline").read_text(errors="replace")
                    if any(part in command for part in WORKERS):
                        self.largest_mb = max(self.largest_mb, peak(process))


def descendants(process: int) -> set[int]:
    """Return the processes below a process."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
    found, new = set[int](), {process}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found
