"""`dupq.json`: what a pipeline folder holds, the checksum of every file, and the checks before any of it is read."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from dupq.errors import ModelFolderError
from dupq.models.networks import READINGS
from dupq.models.safety import leaves_folder, read_json

FORMAT = 2
"""The version of the folder format that this dupq writes; older ones are read, newer ones refused."""

MANIFEST = "dupq.json"
CROSS_ENCODER, BI_ENCODER = "cross-encoder", "bi-encoder"
SHARED_WORDS = "shared_words.json"
REPORT, REPORT_PAGE = "report.json", "report.html"
PAGES = frozenset({".md", ".html", ".svg"})
"""Files for people. No loader reads them: they are not fetched from the Hub, and a card edited there does no harm."""
SAFE_SUFFIXES = frozenset({".json", ".safetensors", ".onnx", ".txt"}) | PAGES
CODE_SUFFIXES = frozenset({".py", ".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".so", ".npy", ".npz"})
STRAYS = frozenset({"", ".md", ".html", ".svg", ".png", ".jpg", ".pdf"})
"""Endings of files that may lie unlisted at the top of the folder (LICENSE, a picture): nothing loads them."""

_PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FETCH = "fetch or save the folder again"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def seal(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """`content` with the format version, the checksum of every file in `folder`, and one of itself.

    Raises:
        ModelFolderError: A file lies there that could not be read back.
    """
    names = [name for name, path in walk(folder) if name != MANIFEST and not path.is_dir()]
    for name in names:
        _check_name(folder, name)
    sealed = {"format": FORMAT, **content, "files": {name: sha256(folder / name) for name in names}}
    _check_content(folder / MANIFEST, sealed)
    return with_checksum(sealed)


def with_checksum(content: dict[str, Any]) -> dict[str, Any]:
    """The manifest as it is written."""
    return {**content, "checksum": checksum(content)}


def checksum(content: dict[str, Any]) -> str:
    """The SHA-256 of a manifest without its checksum: of compact ASCII JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads `dupq.json` and checks it: the format, its own checksum, the type of each entry, and the names it gives.

    Raises:
        ModelFolderError: There is none, it is damaged or was altered, it is of a newer format, or a name in it would
            leave the folder.
    """
    path = folder / MANIFEST
    if path.is_symlink() and not _in_hub_cache(folder, path):
        _refuse(path, "it is a symbolic link")
    if not path.exists():
        raise ModelFolderError(
            "this is no pipeline folder: it holds no dupq.json", where=str(folder), mend="check the path"
        )
    content = read_json(path)
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        _refuse(path, "it is damaged (no format version)")
    if version > FORMAT:
        raise ModelFolderError(
            f"it is of format {version}, and this dupq reads up to {FORMAT}",
            where=str(path),
            mend="pip install --upgrade dupq",
        )
    stated = content.pop("checksum", None)
    try:
        actual = checksum(content)
    except RecursionError as error:
        raise ModelFolderError("it is damaged (nested too deeply)", where=str(path), mend=_FETCH) from error
    if stated != actual:
        _refuse(path, "its checksum differs: it was damaged or altered")
    _check_content(path, content)
    for name in content["files"]:
        _check_name(folder, name)
    folded = [name.lower() for name in content["files"]]
    if len(set(folded)) < len(folded):
        twice = next(name for name in folded if folded.count(name) > 1)
        _refuse(path, f"it lists two files whose names differ in case alone: {twice}")
    return dict(content)


def _check_content(path: Path, content: dict[str, Any]) -> None:
    """Types and ranges of all that a loader reads; what `decisions/` writes is checked there."""
    networks, rate, blend = content.get("networks"), content.get("base_rate"), content.get("blend")
    files, facts = content.get("files"), content.get("facts", {})
    weights = 4 if isinstance(files, dict) and SHARED_WORDS in files else 3
    sound = {
        "networks": isinstance(networks, dict)
        and 0 < len(networks) <= len(networks.keys() & {CROSS_ENCODER, BI_ENCODER})
        and all(
            isinstance(network, dict)
            and all(isinstance(network.get(key), str) for key in ("form", "fingerprint"))
            and all(network.get(key, values[0]) in values for key, values in READINGS.items())
            for network in networks.values()
        ),
        "files": isinstance(files, dict)
        and all(isinstance(digest, str) and _SHA256.fullmatch(digest) for digest in files.values()),
        "blend": blend is None
        or (isinstance(blend, (list, tuple)) and len(blend) == weights and all(map(_finite, blend))),
        "base_rate": rate is None or (_finite(rate) and 0 < rate < 1),
        "cascade": isinstance(content.get("cascade"), (dict, type(None))),
        "calibrator": isinstance(content.get("calibrator"), (dict, type(None))),
        "rule": isinstance(content.get("rule"), (dict, type(None))),
        "facts": isinstance(facts, dict) and isinstance(facts.get("card", {}), dict),
    }
    for key, holds in sound.items():
        if not holds:
            _refuse(path, f"it is damaged (its entry {key!r} is missing or of a wrong kind)")


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _check_name(folder: Path, name: str) -> None:
    where = f"{folder}: {name}"
    if leaves_folder(name) or "\\" in name:
        _refuse(where, "this path leaves the folder")
    parts = name.split("/")
    if not all(_PART.fullmatch(part) and not _RESERVED.fullmatch(part) for part in parts) or name.lower() == MANIFEST:
        _refuse(where, "this is no name for a file of a pipeline folder")
    suffix = PurePosixPath(name).suffix
    if suffix.lower() not in SAFE_SUFFIXES:
        kind = f"a file that ends in {suffix}" if suffix else "a file without an ending"
        _refuse(where, f"{kind} is not read by dupq", "only safetensors, ONNX, JSON and text are")


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each entry under `folder`, folders too, by its name with `/`; hidden ones (.git, .cache) are passed over."""

    def stop(error: OSError) -> NoReturn:
        raise error

    for parent, folders, files in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted((*folders, *files)):
            if not name.startswith("."):
                path = Path(parent, name)
                yield path.relative_to(folder).as_posix(), path


def verify(folder: Path, content: dict[str, Any], pages: bool = True) -> None:
    """Checks every file of the folder against its manifest.

    Args:
        folder: The pipeline folder.
        content: What `read_manifest` gave.
        pages: Check the files for people too. Those of a snapshot that came from the Hub never are: they may be
            missing, or edited there.

    Raises:
        ModelFolderError: Naming the file that is missing, altered, a link, or not in the manifest.
    """
    files = content["files"]
    pages = pages and not is_snapshot(folder)
    try:
        for name, path in walk(folder):
            # A Hub download is a tree of links into the cache; only those that stay there are followed.
            if path.is_symlink() and not _in_hub_cache(folder, path):
                _refuse(path, "this is a symbolic link")
            if not path.is_dir() and name not in files and name != MANIFEST:
                _refuse_unlisted(path, name)
        for name, stated in files.items():
            path = folder / name
            if PurePosixPath(name).suffix in PAGES and not pages:
                continue
            if not path.is_file():
                _refuse(path, "this file is missing")
            if sha256(path) != stated:
                _refuse(path, "its checksum differs: it was damaged, cut short or altered")
    except OSError as error:
        raise ModelFolderError(
            f"it cannot be read ({error.strerror or error})",
            where=str(error.filename or folder),
            mend="check the permissions and the disk",
        ) from error


def _refuse_unlisted(path: Path, name: str) -> None:
    suffix = path.suffix.lower()
    if suffix in CODE_SUFFIXES:
        _refuse(path, "a file that can hold code lies in the folder", "remove it")
    if "/" in name or suffix not in STRAYS:
        _refuse(path, "this file is not in dupq.json, yet a loader could read it", "remove it")


def is_snapshot(folder: Path) -> bool:
    """Whether this is a folder in the cache of huggingface_hub: models--org--name/snapshots/<commit>."""
    real = folder.resolve()
    return real.parent.name == "snapshots" and (real.parent.parent / "blobs").is_dir()


def _in_hub_cache(folder: Path, path: Path) -> bool:
    # snapshots/<commit>/file -> models--org--name/blobs/<etag>, itself at times a link -> <cache>/blobs/xx/<hash>
    repository = folder.resolve().parent.parent
    target = path.resolve().parents
    return is_snapshot(folder) and (repository / "blobs" in target or repository.parent / "blobs" in target)


def _refuse(where: Path | str, problem: str, mend: str = _FETCH) -> NoReturn:
    raise ModelFolderError(problem, where=str(where), mend=mend)
