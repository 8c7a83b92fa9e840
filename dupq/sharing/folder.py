"""The pipeline folder on disk: written beside and renamed, so that it is whole or not there at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.data.writing import write_json
from dupq.errors import ModelFolderError, OutputError
from dupq.models.safety import read_json, refuse_code
from dupq.sharing.manifest import MANIFEST, REPORT, STRAYS, read_manifest, seal, verify

if TYPE_CHECKING:
    from dupq.decisions.report import Report


@contextmanager
def folder_beside(folder: str | Path) -> Iterator[Path]:
    """Gives an empty folder that takes the name `folder` when the block succeeds, and is removed when it fails.

    An older pipeline folder, or an empty one, is replaced; what was put beside its own files (`.git`, LICENSE) stays.
    Anything else in its place is left alone.

    Raises:
        OutputError: Something else stands at `folder`, or it could not be written.
    """
    folder = Path(os.path.abspath(folder))
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(
                "something that is no pipeline folder is there", where=str(folder), mend="name another folder"
            )
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        strays = _strays(folder)
        if folder.exists():
            os.replace(folder, old)
        os.replace(beside, folder)
        for name in strays:
            if not (folder / name).exists():
                os.replace(old / name, folder / name)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"could not be written ({error.strerror or error})",
            where=str(folder),
            mend="free space, or write elsewhere",
        ) from error
    finally:
        # Interrupted between the two renames, the older folder takes its place again.
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _strays(folder: Path) -> list[str]:
    """What lies at the top of a pipeline folder and is not its own."""
    if not folder.is_dir():
        return []
    try:
        own = {name.split("/")[0] for name in read_manifest(folder)["files"]} | {MANIFEST}
    except ModelFolderError:
        own = {MANIFEST}
    return [
        path.name
        for path in folder.iterdir()
        if path.name not in own and (path.name.startswith(".") or (path.is_file() and path.suffix.lower() in STRAYS))
    ]


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Seals everything that lies in `folder` under a manifest with this content."""
    write_json(folder / MANIFEST, seal(folder, content))


def read_report(folder: Path) -> Report:
    """The report that lies in a pipeline folder.

    Raises:
        ModelFolderError: It is damaged.
    """
    from dupq.decisions.report import Report

    with naming(folder / REPORT):
        return Report.from_dict(read_json(folder / REPORT))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the file's name into the errors of those who read its content."""
    try:
        yield
    except ModelFolderError as error:
        if error.where and str(path) in error.where:
            raise
        where = f"{path}: {error.where}" if error.where else str(path)
        raise ModelFolderError(error.problem, where=where, mend=error.mend) from error


def open_folder(folder: str | Path, pages: bool = True) -> dict[str, Any]:
    """The verified manifest of a pipeline folder.

    Args:
        folder: The pipeline folder.
        pages: Check the files for people (card, report page, pictures) too.

    Raises:
        ModelFolderError: The folder is missing, damaged, altered, unsafe, or of a newer format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelFolderError("there is no such folder", where=str(folder), mend="check the path or the Hub id")
    content = read_manifest(folder)
    verify(folder, content, pages)
    refuse_code(folder)
    return content
