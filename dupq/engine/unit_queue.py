"""Queue of the units of a task, which sets aside those that fail repeatedly."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence

from dupq.engine.base import MAX_ATTEMPTS, Task, Unit, UnitError
from dupq.engine.work_folder import WorkFolder
from dupq.errors import InputError
from dupq.types import Progress

ATTEMPTS = "attempts"
"""Folder of the work folder with a record of the attempts of each unit."""


class UnitQueue:
    """Units that have no part yet, in their order.

    Every attempt is recorded before it starts, in "attempts/NAME", so that the record counts those that a kill ended.
    The record adds up all runs; the limit `MAX_ATTEMPTS` holds for one run.

    Args:
        task, units, work, progress: As in `Engine.run`.

    Raises:
        InputError: Two units have one name.
    """

    def __init__(self, task: Task, units: Sequence[Unit], work: WorkFolder, progress: Progress | None) -> None:
        names = [unit.name for unit in units]
        if len(set(names)) < len(names):
            raise InputError(f"{task.name}: the names of units must be unique")
        folders = {name.rpartition("/")[0] for name in names}  # one listing each is less than a question each
        finished = {name for folder in folders for name in work.names(folder)}
        self.failed: dict[str, str] = {}
        self._task, self._work, self._progress, self._total = task, work, progress, len(units)
        self._waiting = deque(unit for unit in units if unit.name not in finished)
        self._done = len(units) - len(self._waiting)
        self._attempts: dict[str, int] = {}
        self._recorded = work.names(ATTEMPTS) if self._waiting else set()
        self._show()

    def __len__(self) -> int:
        """Return the number of units that wait."""
        return len(self._waiting)

    def next(self) -> Unit | None:
        """Take a unit and record its attempt; None if no unit waits."""
        if not self._waiting:
            return None
        unit = self._waiting.popleft()
        record = f"{ATTEMPTS}/{unit.name}"
        earlier = count_attempts(self._work, unit.name) if record in self._recorded else 0
        self._work.write(record, json.dumps({"attempts": earlier + 1}).encode())
        self._recorded.add(record)
        self._attempts[unit.name] = self._attempts.get(unit.name, 0) + 1
        return unit

    def done(self, unit: Unit) -> None:
        """Count a unit whose part is written."""
        self._attempts.pop(unit.name, None)
        self._done += 1
        self._show()

    def fail(self, unit: Unit, error: str) -> None:
        """Put a unit at the end of the queue, or aside after `MAX_ATTEMPTS`."""
        if self._work.exists(unit.name):  # the worker died after it wrote the part
            self.done(unit)
        elif self._attempts[unit.name] < MAX_ATTEMPTS:
            self._waiting.append(unit)
        else:
            self.failed[unit.name] = error

    def finish(self) -> None:
        """Raise UnitError if units were set aside."""
        if self.failed:
            raise UnitError(self._task.name, self.failed)

    def _show(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._total)


def count_attempts(work: WorkFolder, name: str) -> int:
    """Return the number of recorded attempts of a unit in all runs."""
    record = f"{ATTEMPTS}/{name}"
    if not work.exists(record):
        return 0
    try:
        return int(json.loads(work.read(record))["attempts"])
    except (KeyError, TypeError, ValueError):  # a damaged record is of no consequence
        return 0
