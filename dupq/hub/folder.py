"""Write and open pipeline folders."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from errno import EEXIST, ENOTEMPTY
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from typing import Any

from dupq.data.arguments import as_path
from dupq.data.writing import write_json
from dupq.errors import ModelFolderError, OutputError
from dupq.evaluation.report import Report
from dupq.hub.manifest import MANIFEST, REPORT, UNLISTED_SUFFIXES, add_checksums, read_manifest, verify
from dupq.models.safety import read_json, refuse_code

_TURN = Lock()
"""Held between the renames where files have no locks."""
MAX_ATTEMPTS = 100
"""Maximum number of attempts to take a name that other processes take at the same time."""


def require_place(folder: str | Path) -> None:
    """Raise OutputError unless a save to `folder` removes nothing but a pipeline.

    It may be free, empty, or a pipeline folder of any format. Beside the files in its manifest, there may be those that
    a save keeps (see `unlisted_files`).
    """
    folder = Path(os.path.abspath(folder))
    if not folder.parent.is_dir():
        return
    # A save that takes the place at this moment is waited for: between its renames nothing is there.
    with _alone_in(folder.parent):
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            names = [folder.name]
        foreign = _foreign_files(folder) if MANIFEST in names else []
    if names and MANIFEST not in names:
        raise OutputError(
            "something that is no pipeline folder is there", location=str(folder), hint="name another folder"
        )
    if foreign:
        others = f" and {len(foreign) - 1:,} more" if len(foreign) > 1 else ""
        raise OutputError(
            f"a folder to be replaced must hold only files that its {MANIFEST} lists, got {foreign[0]}{others}",
            location=str(folder),
            hint="name another folder, or move the file",
        )


@contextmanager
def replacing_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a new folder that replaces `folder` when the block succeeds.

    It has a temporary name until then, and is removed when the block fails. An older pipeline folder, or an empty one,
    is replaced; its unlisted files (`.git`, LICENSE) stay. Anything else in its place is left alone, and so is a
    pipeline folder with other files in it. Where several processes save to one name, each folder is whole, and the last
    one stays.

    Raises:
        OutputError: Something else is at `folder` or in it, or it could not be written.
    """
    folder = Path(os.path.abspath(as_path(folder, "folder")))
    parent: Path | None = None
    try:
        require_place(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The name is unique, so that threads and processes that save at once do not share it.
        parent = Path(mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        new = parent / "new"
        new.mkdir()
        yield new
        _flush(new)
        with _alone_in(folder.parent):
            _take_place(folder, new, parent)
            for old in sorted(parent.glob("old-*"), reverse=True):
                _keep_unlisted(old, folder)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"could not be written ({error.strerror or error})",
            location=str(folder),
            hint="free space, or write elsewhere",
        ) from error
    finally:
        if parent is not None:
            # After an interruption between the two renames, the older folder is put back.
            for old in sorted(parent.glob("old-*"), reverse=True):
                with suppress(OSError):
                    if not folder.exists():
                        os.replace(old, folder)
            shutil.rmtree(parent, ignore_errors=True)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a folder.

    No other save gets between the renames, where the file system has locks.
    """
    with ExitStack() as stack:
        if sys.platform == "win32":
            stack.enter_context(_TURN)
        else:
            import fcntl

            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _take_place(folder: Path, new: Path, parent: Path) -> None:
    """Rename `new` to `folder`; an older folder is moved into `parent`."""
    for attempt in range(MAX_ATTEMPTS):
        with suppress(FileNotFoundError):
            os.replace(folder, parent / f"old-{attempt:03}")
        try:
            os.replace(new, folder)
        except OSError as error:
            # Another process has taken the name meanwhile; its folder is replaced too.
            if error.errno not in (ENOTEMPTY, EEXIST) or attempt + 1 == MAX_ATTEMPTS:
                raise
        else:
            return


def _keep_unlisted(old: Path, folder: Path) -> None:
    """Move the unlisted files of the older folder into the one that replaced it."""
    for name in unlisted_files(old):
        if not (folder / name).exists():
            os.replace(old / name, folder / name)


def _flush(folder: Path) -> None:
    """Write every file through to the disk, so that a crash leaves a whole folder."""
    for path in (*folder.rglob("*"), folder):
        if path.is_file() or os.name == "posix":  # elsewhere a folder cannot be opened
            handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def unlisted_files(folder: Path) -> list[str]:
    """Return the names at the top that the manifest does not list and that may stay."""
    if not folder.is_dir():
        return []
    own = {name.split("/")[0] for name in _own_files(folder)}
    return [
        path.name
        for path in folder.iterdir()
        if path.name not in own
        and (path.name.startswith(".") or (path.is_file() and path.suffix.lower() in UNLISTED_SUFFIXES))
    ]


def _foreign_files(folder: Path) -> list[str]:
    """Return the files, hidden ones too, that a save would neither write nor keep."""
    own, kept = _own_files(folder), unlisted_files(folder)
    names = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()  # a folder without files holds nothing to lose
    }
    return sorted(name for name in names - own if name.split("/")[0] not in kept)


def _own_files(folder: Path) -> set[str]:
    """Return the names in a manifest of any format, and its own."""
    try:
        content = read_json(folder / MANIFEST)
    except ModelFolderError:
        content = None
    files = content.get("files") if isinstance(content, dict) else None
    return {MANIFEST, *(files if isinstance(files, dict) else ())}


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write the manifest: this content, with the checksum of every file in `folder`."""
    write_json(folder / MANIFEST, add_checksums(folder, content))


def read_report(folder: Path) -> Report:
    """Return the report in a pipeline folder.

    Raises:
        ModelFolderError: It is damaged.
    """
    with located(folder / REPORT):
        return Report.from_dict(read_json(folder / REPORT))


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Add the file's path to a ModelFolderError of the block."""
    try:
        yield
    except ModelFolderError as error:
        if error.location and str(path) in error.location:
            raise
        location = f"{path}: {error.location}" if error.location else str(path)
        raise ModelFolderError(error.message, location=location, hint=error.hint) from error


def open_folder(folder: str | Path, pages: bool = True) -> dict[str, Any]:
    """Verify a pipeline folder and return its manifest.

    Args:
        folder: The pipeline folder.
        pages: Check the files for people (card, report page, plots) too.

    Raises:
        ModelFolderError: The folder is missing, damaged, altered, unsafe, or of another format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelFolderError("there is no such folder", location=str(folder), hint="check the path or the Hub id")
    content = read_manifest(folder)
    verify(folder, content, pages)
    refuse_code(folder)
    return content
