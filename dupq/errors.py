"""One small tree of errors: each says what was wrong, where, and what to do about it."""

from __future__ import annotations


class DupqError(Exception):
    """The root of every error that dupq raises on purpose.

    Args:
        problem: What was wrong.
        where: The file, row or argument it was found in, if there is one.
        mend: What the user can do about it, if there is something.
    """

    def __init__(self, problem: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.problem = problem
        self.where = where
        self.mend = mend
        text = f"{where}: {problem}" if where else problem
        super().__init__(f"{text}\n  -> {mend}" if mend else text)


class InputError(DupqError, ValueError):
    """Texts, labels, columns or files that cannot be used as they are."""


class LeakError(DupqError, ValueError):
    """Data that was to be unseen shares a question with data that was trained on."""


class NotCalibratedError(DupqError, RuntimeError):
    """A probability or a decision was asked of a pipeline that has no calibrator or no threshold."""


class NotEnoughLabelsError(DupqError, ValueError):
    """The labels at hand cannot support the promise that was asked for.

    Attributes:
        needed: How many more labelled pairs would be needed, at least; None where no number of labels would do.
    """

    def __init__(
        self, problem: str, *, needed: int | None = None, where: str | None = None, mend: str | None = None
    ) -> None:
        self.needed = needed
        super().__init__(problem, where=where, mend=mend)


class ModelFolderError(DupqError, ValueError):
    """A model folder that is missing, damaged, unsafe, or of a newer format."""


class TrainingError(DupqError, RuntimeError):
    """Training that cannot start, cannot resume, or has collapsed."""


class OutputError(DupqError, OSError):
    """A result that could not be written; nothing half-written is left."""
