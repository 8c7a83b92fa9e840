"""Check output files before the work, which may take hours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

from dupq.data.writing import output_format
from dupq.errors import InputError, OutputError


def check_outputs(
    outputs: Mapping[str, str | None], inputs: Mapping[str, str | None], file_format: str | None = None
) -> None:
    """Refuse unwritable outputs, and outputs that overwrite an input or each other.

    Args:
        outputs: Option or argument -> its file; None where it was not given. "-" is standard output.
        inputs: Option or argument -> its file; None where it was not given. "-" is standard input.
        file_format: Format of all outputs; None: by their names.

    Raises:
        InputError: A format cannot be written, or one file is named for two purposes.
        OutputError: A file cannot be written.
    """
    given = [(name, path) for name, path in outputs.items() if path is not None]
    for at, (name, path) in enumerate(given):
        output_format(path, file_format)
        for other, other_path in given[:at]:
            if is_same_file(path, other_path):
                raise InputError(f"{name} must be another file than {other}, got {path}", hint="name two files")
        for other, read in inputs.items():
            if read is not None and "-" not in (path, read) and is_same_file(path, read):
                raise InputError(
                    f"{name} must be another file than the input {other}, got {path}", hint="name another output"
                )
        check_writable(path)


def is_same_file(first: str | Path, second: str | Path) -> bool:
    """Return True if two paths name one file, also through links.

    A path without a file is compared by name.
    """
    try:
        return os.path.realpath(first) == os.path.realpath(second) or os.path.samefile(first, second)
    except (OSError, ValueError):  # ValueError: no file can have this name
        return False


def check_writable(path: str | Path) -> None:
    """Check that a file of this name can be written.

    The check leaves nothing behind.

    Raises:
        OutputError: The file cannot be written.
    """
    if str(path) == "-":
        return
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise OutputError("the output must be a file, got a folder", location=str(path), hint="name a file in it")
    if target.exists() and not target.is_file():
        return  # a device or a pipe
    folder = next(parent for parent in target.parents if parent.exists())
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"it could not be written ({error.strerror or error})",
            location=str(path),
            hint="free space, or write elsewhere",
        ) from error
