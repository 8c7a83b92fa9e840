"""Contract of an engine: it runs any units of work, wherever its workers are.

A stage of a run is a `Task`, made once in each worker, and a list of units (`Unit`). A unit computes one part, some
bytes, from its own description and from parts that are finished. The engine writes the part whole or not at all under
the unit's name in the work folder. A unit whose part exists is done: a run that was interrupted is completed by the
same call, and any engine can go on with the work of another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dupq.errors import DupqError
from dupq.types import Progress

if TYPE_CHECKING:
    from dupq.engine.work_folder import WorkFolder

MAX_ATTEMPTS = 3
"""Attempts of a unit whose worker dies or fails, before the unit is set aside."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of work.

    Attributes:
        name: Name of its part in the work folder, such as "vectors/00012"; unique in a run.
        spec: What the worker needs to know, as JSON can hold it.
    """

    name: str
    spec: Mapping[str, Any] = field(default_factory=dict)


Work = Callable[[Unit], bytes]
"""Computes the part of a unit. It depends on the unit and on finished parts alone, so that it may be repeated."""


@dataclass(frozen=True, slots=True)
class Task:
    """Work of one stage, as its workers make it.

    Attributes:
        name: Of the stage, for messages and progress.
        make: A function or class of a module, called once in each worker with the work folder and `arguments`.
        arguments: Values that can be pickled, small ones: paths and numbers, no arrays and no networks.
    """

    name: str
    make: Callable[..., Work]
    arguments: tuple[Any, ...] = ()


THREADS = "DUPQ_WORKER_THREADS"
"""Environment variable with the number of threads that a worker may use."""


def worker_threads() -> int | None:
    """Return the number of threads that a worker may use.

    None where the environment variable that `THREADS` names holds no number: all threads of the process.
    """
    value = os.environ.get(THREADS, "")
    return int(value) if value.isdecimal() and int(value) else None


@runtime_checkable
class Engine(Protocol):
    """Protocol of an engine: it runs the units of a task."""

    def run(self, task: Task, units: Sequence[Unit], work: WorkFolder, progress: Progress | None = None) -> None:
        """Compute the parts that the work folder lacks.

        Args:
            task: What to do.
            units: The units, in the order in which they should start.
            work: Where parts are read and written.
            progress: Called with (units done, units).

        Raises:
            UnitError: Units failed `MAX_ATTEMPTS` times; all others are done.
            OutputError: The work folder cannot be written. The run stops, because every unit would fail.
            DupqError: As `Task.make` raises, such as for a missing model. The run stops.
        """

    def close(self) -> None:
        """Free what the engine keeps between tasks."""


class UnitError(DupqError, RuntimeError):
    """Units that failed repeatedly and were set aside.

    The parts of all other units are written.

    Attributes:
        failed: Name of a unit -> its last error.
    """

    def __init__(self, task: str, failed: Mapping[str, str]) -> None:
        self.failed = dict(failed)
        first = next(iter(self.failed))
        more = f" and {len(self.failed) - 1:,} more" if len(self.failed) > 1 else ""
        super().__init__(
            f"{task}: the unit {first}{more} failed {MAX_ATTEMPTS} times ({self.failed[first]})",
            hint="remove the cause and run the same command again; what is finished is kept",
        )
