"""`dupq.json`: what a pipeline folder holds, the checksum of every file, and the checks before any of it is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from dupq.errors import ModelFolderError

FORMAT = 1
"""The version of the folder format that this dupq writes; older ones are read, newer ones refused."""

MANIFEST = "dupq.json"
SAFE_SUFFIXES = frozenset({".json", ".safetensors", ".onnx", ".txt", ".md", ".html", ".svg"})
CODE_SUFFIXES = frozenset({".py", ".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".so", ".npy", ".npz"})
_FETCH = "fetch or save the folder again"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def seal(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """`content` with the format version, the checksum of every file in `folder`, and one of itself."""
    files = {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    sealed = {"format": FORMAT, **content, "files": files}
    return {**sealed, "checksum": _checksum(sealed)}


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads `dupq.json` and checks it: the format, its own checksum, and the names it gives.

    Raises:
        ModelFolderError: There is none, it is damaged or was altered, it is of a newer format, or a name in it would
            leave the folder.
    """
    path = folder / MANIFEST
    if path.is_symlink():
        raise ModelFolderError("it is a symbolic link", where=str(path), mend=_FETCH)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFolderError(
            "this is no pipeline folder: it holds no dupq.json", where=str(folder), mend="check the path"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError(f"it is damaged ({error})", where=str(path), mend=_FETCH) from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise ModelFolderError("it is damaged (no format version)", where=str(path), mend=_FETCH)
    if content["format"] > FORMAT:
        raise ModelFolderError(
            f"it is of format {content['format']}, and this dupq reads up to {FORMAT}",
            where=str(path),
            mend="pip install --upgrade dupq",
        )
    stated = content.pop("checksum", None)
    if stated != _checksum(content):
        raise ModelFolderError("its checksum differs: it was damaged or altered", where=str(path), mend=_FETCH)
    for name in content["files"]:
        _check_name(folder, name)
    return content


def _check_name(folder: Path, name: str) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
        raise ModelFolderError("this path leaves the folder", where=f"{folder}: {name}", mend=_FETCH)
    if pure.suffix.lower() not in SAFE_SUFFIXES:
        raise ModelFolderError(
            f"a {pure.suffix or 'nameless'} file is not read by dupq",
            where=f"{folder}: {name}",
            mend="only safetensors, ONNX, JSON and text are",
        )


def verify(folder: Path, content: dict[str, Any]) -> None:
    """Checks every file of the folder against its manifest.

    Raises:
        ModelFolderError: Naming the file that is missing, altered, a link, or able to run and not in the manifest.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # A Hub download is a tree of links into the cache; only those that stay there are followed.
        if path.is_symlink() and not _in_hub_cache(folder, path):
            raise ModelFolderError("this is a symbolic link", where=str(path), mend=_FETCH)
        if path.suffix.lower() in CODE_SUFFIXES:
            raise ModelFolderError(
                "a file that can hold code lies in the folder", where=f"{folder}: {name}", mend="remove it"
            )
    for name, stated in content["files"].items():
        path = folder / name
        if not path.is_file():
            raise ModelFolderError("this file is missing", where=str(path), mend=_FETCH)
        if sha256(path) != stated:
            raise ModelFolderError(
                "its checksum differs: it was damaged, cut short or altered", where=str(path), mend=_FETCH
            )


def _in_hub_cache(folder: Path, path: Path) -> bool:
    # <cache>/models--org--name/snapshots/<revision>/file -> <cache>/models--org--name/blobs/<hash>
    resolved, repository = path.resolve(), folder.resolve().parent.parent
    return folder.resolve().parent.name == "snapshots" and repository / "blobs" in resolved.parents
