"""Work folder of a run: parts that appear whole or not at all, on a disk or in an object store."""

from __future__ import annotations


class WorkFolder:
    """Named parts below a path or URL.

    Args:
        location: A path, or a URL that fsspec opens, such as `s3://bucket/run`. Every worker must reach it.
    """

    def __init__(self, location: str) -> None:
        self.location = location

    def exists(self, name: str) -> bool:
        """Return True if a part is finished."""
        raise NotImplementedError

    def names(self, folder: str) -> set[str]:
        """Return the names of the finished parts in a folder."""
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        """Return a part."""
        raise NotImplementedError

    def write(self, name: str, data: bytes) -> None:
        """Write a part, whole or not at all."""
        raise NotImplementedError
