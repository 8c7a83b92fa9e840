"""Work folder of a run, on a disk or in an object store.

Its parts appear whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dupq.data.arguments import as_path
from dupq.data.writing import written_beside
from dupq.errors import InputError, OutputError, require_extra

LEASE_SECONDS = 60.0
"""Time after which the lease of a run in an object store is void, unless the run renews it."""

_PLAN = "plan.json"
_LOCK = "lock"
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_URL = re.compile(r"[A-Za-z0-9+-]+(::[A-Za-z0-9+-]+)*://")
_Result = TypeVar("_Result")


class WorkFolder:
    """Named parts below a path or URL.

    It can be pickled: a copy in another process holds the location alone.

    Args:
        location: A path, or a URL that fsspec opens, such as `s3://bucket/run`. Every worker must reach it.
        storage_options: Keyword arguments of the fsspec file system, such as `endpoint_url` (default: none).
            Credentials belong in the environment of each worker.

    Raises:
        InputError: The location is empty, or no path.
        MissingExtraError: A URL needs the extra "ray", which brings fsspec.
    """

    def __init__(self, location: str | Path, storage_options: Mapping[str, Any] | None = None) -> None:
        as_path(location, "work")
        self.location = os.fspath(location).removeprefix("file://")
        if not self.location.strip():
            raise InputError("work must be a path or a URL, got an empty text", hint="name a folder")
        self.storage_options = dict(storage_options or {})
        if self.is_url:
            require_extra("ray", f"the work folder {self.location}")
            self.location = self.location.rstrip("/")
        else:
            self.location = os.path.abspath(self.location)

    def __getstate__(self) -> dict[str, Any]:
        return {"location": self.location, "storage_options": self.storage_options}

    def __repr__(self) -> str:
        return f"WorkFolder({self.location!r})"  # the options may hold a key

    @property
    def is_url(self) -> bool:
        """True for an object store."""
        return _URL.match(self.location) is not None

    @cached_property
    def _store(self) -> _Store:
        if self.is_url:
            return _ObjectStore(self.location, self.storage_options)
        return _Disk(Path(self.location))

    def exists(self, name: str) -> bool:
        """Return True if a part is finished."""
        return self._read(name, self._store.exists)

    def names(self, folder: str = "") -> set[str]:
        """Return the names of the finished parts in a folder and the folders below it.

        Args:
            folder: A folder of the work folder, such as "vectors"; "" is the work folder itself.

        Returns:
            Whole names, such as "vectors/00012"; empty if the folder does not exist.
        """
        return {name for name in self._read(folder, self._store.names) if name not in (_PLAN, _LOCK)}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return a part, or its bytes from `start` to `stop`, the last one not included.

        Raises:
            InputError: There is no such part, or it cannot be read.
        """
        return self._read(name, lambda found: self._store.read(found, start, stop))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return the bytes of a part from `start` to `stop`, fewer at its end.

        Raises:
            InputError: There is no such part, or it cannot be read.
        """
        return self._read(name, lambda name: self._store.read_range(name, start, stop)) if start < stop else b""

    def size(self, name: str) -> int:
        """Return the size of a part in bytes.

        Raises:
            InputError: There is no such part.
        """
        return self._read(name, self._store.size)

    def write(self, name: str, data: bytes) -> None:
        """Write a part, whole or not at all.

        On a disk: a temporary name of its own, synced, renamed. In an object store: one put, which is atomic there.

        Raises:
            OutputError: It cannot be written (full disk, no permission, no bucket); no partial part is left.
        """
        self._write(name, lambda: self._store.write(name, data))

    def remove(self, name: str) -> None:
        """Remove a part, if it exists."""
        self._write(name, lambda: self._store.remove(name))

    @contextmanager
    def hold(self, plan: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for one run of a plan.

        On a disk the lock is one of the operating system and ends with the process. In an object store it is an object
        "lock", with owner and time, that the run renews; that of a run that was killed is void after `LEASE_SECONDS`,
        for which the next run waits. Two runs of one plan would write equal parts, so that the lock saves work; the
        result does not depend on it.

        Args:
            plan: What the parts depend on, as JSON can hold it: hashes of texts and models, settings. A new folder
                records it.

        Raises:
            InputError: Another run holds the folder, or its parts are of another plan.
            OutputError: The folder cannot be written.
        """
        with self._store.lock():
            self._require_plan(json.loads(json.dumps(plan, allow_nan=False)))
            yield

    def _require_plan(self, plan: dict[str, Any]) -> None:
        if not self.exists(_PLAN):
            if self.names():
                raise InputError(
                    "the work folder holds files of something else", location=self.location, hint="name another folder"
                )
            self.write(_PLAN, json.dumps(plan, indent=1, sort_keys=True).encode())
        try:
            found = json.loads(self.read(_PLAN))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise InputError(f"{_PLAN} is damaged", location=self.location, hint="name another folder")
        missing = object()
        different = sorted(key for key in {*plan, *found} if plan.get(key, missing) != found.get(key, missing))
        if different:
            raise InputError(
                f"the work folder is of another plan ({', '.join(different)} differ"
                f"{'s' if len(different) == 1 else ''})",
                location=self.location,
                hint="name another folder, run the command that began it, or start afresh (--fresh, fresh=True)",
            )

    def _read(self, name: str, call: Callable[[str], _Result]) -> _Result:
        self._check(name)
        try:
            return call(name)
        except FileNotFoundError as error:
            raise InputError(f"the work folder has no part {name!r}", location=self.location) from error
        except self._store.errors as error:
            raise InputError(
                f"{name or 'the work folder'} cannot be read ({_reason(error)})",
                location=self.location,
                hint="check that this machine reaches the folder and may read it",
            ) from error

    def _write(self, name: str, call: Callable[[], None]) -> None:
        self._check(name)
        if not name:
            raise InputError("the name of a part must not be empty", location=self.location)
        try:
            call()
        except OutputError as error:
            raise OutputError(
                f"{name} could not be written ({_reason(error.__cause__ or error)})",
                location=self.location,
                hint="free space or check permissions and run the same command again; what is finished is kept",
            ) from error
        except self._store.errors as error:
            raise OutputError(
                f"{name} could not be written ({_reason(error)})",
                location=self.location,
                hint="check bucket and permissions and run the same command again; what is finished is kept",
            ) from error

    def _check(self, name: str) -> None:
        if name and not all(_SEGMENT.fullmatch(segment) for segment in name.split("/")):
            raise InputError(
                f"the name of a part must be letters, digits, _, - and . between slashes, got {name!r}",
                location=self.location,
            )


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


class _Store(Protocol):
    """Files below one location; every name was checked."""

    @property
    def errors(self) -> tuple[type[Exception], ...]: ...

    def exists(self, name: str) -> bool: ...

    def names(self, folder: str) -> set[str]: ...

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes: ...

    def read_range(self, name: str, start: int, stop: int) -> bytes: ...

    def size(self, name: str) -> int: ...

    def write(self, name: str, data: bytes) -> None: ...

    def remove(self, name: str) -> None: ...

    def lock(self) -> Any: ...


class _Disk:
    """A folder of a local or shared disk."""

    errors = (OSError,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def names(self, folder: str) -> set[str]:
        found = set()
        for parent, folders, files in os.walk(self.folder / folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            # A temporary name starts with a dot.
            found |= {Path(parent, name).relative_to(self.folder).as_posix() for name in files if name[0] != "."}
        return found

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        with (self.folder / name).open("rb") as stream:
            stream.seek(start)
            return stream.read(-1 if stop is None else stop - start)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        with (self.folder / name).open("rb") as stream:
            stream.seek(start)
            return stream.read(stop - start)

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def write(self, name: str, data: bytes) -> None:
        with written_beside(self.folder / name) as beside:
            beside.write_bytes(data)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / _LOCK)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise _held(str(self.folder)) from error
        except OSError as error:
            raise OutputError(
                f"the work folder could not be written ({_reason(error)})",
                location=str(self.folder),
                hint="free space, or name another folder",
            ) from error
        try:
            self._remove_temporary_files()
            yield
        finally:
            lock.release()

    def _remove_temporary_files(self) -> None:
        """Remove what a kill left of parts; the run that wrote them has ended."""
        for parent, _, files in os.walk(self.folder):
            for name in files:
                if name.startswith(".") and name.endswith(".part"):
                    with suppress(OSError):
                        Path(parent, name).unlink()


def _held(location: str) -> InputError:
    return InputError(
        "another run is using this work folder", location=location, hint="wait for it, or name another folder"
    )


class _ObjectStore:
    """Objects below a URL, by fsspec."""

    # The errors of the clients behind fsspec share no base class below this one.
    errors = (Exception,)

    def __init__(self, location: str, storage_options: Mapping[str, Any]) -> None:
        from fsspec.core import url_to_fs

        self.location = location
        try:
            # Another machine's parts must be seen, so listings are never cached.
            self.files, root = url_to_fs(location, use_listings_cache=False, **storage_options)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"the work folder cannot be opened ({error})", location=location, hint="name a path or an s3:// URL"
            ) from error
        self.root = root.rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def exists(self, name: str) -> bool:
        return bool(self.files.isfile(self._path(name)))

    def names(self, folder: str) -> set[str]:
        try:
            found = self.files.find(self._path(folder))
        except FileNotFoundError:
            return set()
        return {path.removeprefix(f"{self.root}/") for path in found if path.startswith(f"{self.root}/")}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        part = {} if start == 0 and stop is None else {"start": start, "end": stop}
        return bytes(self.files.cat_file(self._path(name), **part))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        return bytes(self.files.cat_file(self._path(name), start=start, end=stop))

    def size(self, name: str) -> int:
        return int(self.files.info(self._path(name))["size"])

    def write(self, name: str, data: bytes) -> None:
        self.files.pipe_file(self._path(name), data)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self.files.rm_file(self._path(name))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold a lease: an object that its owner renews."""
        owner = secrets.token_hex(8)
        try:
            self._take_lease(owner)
        except InputError:
            raise
        except self.errors as error:
            raise OutputError(
                f"the work folder could not be written ({_reason(error)})",
                location=self.location,
                hint="check bucket, credentials and permissions",
            ) from error
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(LEASE_SECONDS / 4):
                with suppress(*self.errors):  # the store may be back at the next turn
                    self.write(_LOCK, _lease(owner))

        thread = threading.Thread(target=renew, name="dupq-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(*self.errors):  # the lease is void by itself
                self.remove(_LOCK)

    def _take_lease(self, owner: str) -> None:
        """Create the lease, or take over one that its owner does not renew.

        A lease is void if it stays the same for `LEASE_SECONDS` by the clock of this machine.
        """
        try:
            self.files.pipe_file(self._path(_LOCK), _lease(owner), mode="create")
            return
        except FileExistsError:
            seen, end = self.read(_LOCK), time.monotonic() + LEASE_SECONDS
        while time.monotonic() < end:
            time.sleep(LEASE_SECONDS / 60)
            try:
                lease = self.read(_LOCK)
            except FileNotFoundError:  # the other run has ended
                break
            if lease != seen:
                raise _held(self.location)
        mine = _lease(owner)
        self.write(_LOCK, mine)
        time.sleep(LEASE_SECONDS / 30)  # so that one of several runs that waited has written last
        if self.read(_LOCK) != mine:
            raise _held(self.location)


def _lease(owner: str) -> bytes:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return json.dumps({"owner": owner, "host": socket.gethostname(), "process": os.getpid(), "time": now}).encode()
