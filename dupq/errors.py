"""One small tree of errors, each with its location and a hint."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

EXTRAS = {
    "train": ("accelerate", "datasets", "sentence_transformers", "sklearn", "torch", "transformers"),
    "export": ("onnx",),
    "large": ("usearch",),
    "parquet": ("duckdb",),
    "postgres": ("psycopg", "pgvector"),
    "serve": ("fastapi", "httpx2", "jinja2", "prometheus_client", "pydantic_settings", "python_multipart", "uvicorn"),
    "completion": ("shtab",),
    "ray": ("ray", "fsspec"),
}
"""The packages of each extra, as they are imported."""


class DupqError(Exception):
    """Base class of all errors that dupq raises.

    Attributes:
        message: The problem.
        location: The file, row or argument it is in; None if there is none.
        hint: The next step for the user; None if there is none.
    """

    def __init__(self, message: str, *, location: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.location = location if isinstance(location, str) else None
        self.hint = hint
        text = f"{location}: {message}" if self.location else message
        super().__init__(f"{text}\n  -> {hint}" if hint else text)


class InputError(DupqError, ValueError):
    """Texts, labels, columns or files that cannot be used as they are."""


class ConflictError(InputError):
    """A verdict on a pair that has got another one, or another text, meanwhile.

    Attributes:
        rows: The rows of the history of the pair that the caller has not seen, oldest first; empty if a
            text was replaced.
    """

    def __init__(
        self, message: str, *, rows: Sequence[object] = (), location: str | None = None, hint: str | None = None
    ) -> None:
        self.rows = tuple(rows)
        super().__init__(message, location=location, hint=hint)


class LeakError(DupqError, ValueError):
    """Data to be measured on shares a question with data that was fitted on."""


class NotCalibratedError(DupqError, RuntimeError):
    """A probability or decision of a pipeline that has no calibrator or no threshold."""


class NotEnoughLabelsError(DupqError, ValueError):
    """Too few labels for a fit or a guarantee.

    Attributes:
        needed: Minimum number of further labelled pairs; None where no number would suffice.
    """

    def __init__(
        self, message: str, *, needed: int | None = None, location: str | None = None, hint: str | None = None
    ) -> None:
        self.needed = needed
        super().__init__(message, location=location, hint=hint)


class ModelFolderError(DupqError, ValueError):
    """A model folder that is missing, damaged, unsafe, or of another format."""


class TrainingError(DupqError, RuntimeError):
    """Training that cannot start, cannot resume, or has collapsed."""


class OutputError(DupqError, OSError):
    """A result that could not be written; no partial file is left."""


class MissingExtraError(DupqError, ImportError):
    """A call that needs an optional extra of dupq that is not installed."""


def require_extra(extra: str, purpose: str) -> None:
    """Check that the packages of an extra are installed, without importing them.

    Args:
        extra: A key of `EXTRAS`.
        purpose: The work that needs them, such as "training", for the message.

    Raises:
        MissingExtraError: A package is missing; the hint names the extra.
    """
    missing = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{purpose} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            hint=f"pip install 'dupq[{extra}]'",
        )
