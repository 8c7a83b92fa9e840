"""Worker of an engine: it computes the units of a task and writes their parts."""

from __future__ import annotations

from types import TracebackType

from dupq.engine.base import Task, Unit, Work
from dupq.engine.work_folder import WorkFolder
from dupq.errors import DupqError, OutputError

Answer = DupqError | str
"""Answer of a worker: "" after success, the error of one unit as text, or an error that ends the run."""


class Attempt:
    """Context of one attempt: it keeps the error of the unit as text.

    What concerns every unit ends the run and is raised: an OutputError, and what is no `Exception`.
    """

    def __init__(self) -> None:
        self.error = ""

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, OutputError):
            return False
        self.error = error_text(error)
        return True


def error_text(error: BaseException) -> str:
    """Return the class and message of an error."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class Worker:
    """Worker in another process than the engine.

    Its methods return errors as answers. Only `run` before `start` raises an `Exception`.
    """

    def __init__(self) -> None:
        self._work: WorkFolder | None = None
        self._compute: Work | None = None

    def start(self, task: Task, work: WorkFolder) -> Answer:
        """Make the worker of the task; no answer is the error of a unit."""
        self._compute = None  # networks of an earlier task are freed before this one opens its own
        with Attempt() as attempt:
            try:
                self._work, self._compute = work, task.make(work, *task.arguments)
            except DupqError as error:
                return error
        if attempt.error:
            return DupqError(f"{task.name}: a worker could not start ({attempt.error})")
        return ""

    def run(self, unit: Unit) -> Answer:
        """Compute a unit and write its part."""
        if self._work is None or self._compute is None:
            raise RuntimeError("start comes first")
        try:
            with Attempt() as attempt:
                self._work.write(unit.name, self._compute(unit))
        except OutputError as error:
            return error
        return attempt.error
