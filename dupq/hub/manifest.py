"""The manifest `dupq.json`: entries and checksums of a pipeline folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from dupq.errors import ModelFolderError
from dupq.models.safety import leaves_folder, read_json
from dupq.models.scoring_options import SCORING_OPTIONS

FORMAT = 3
"""Version of the folder format that this dupq writes and reads."""

MANIFEST = "dupq.json"
CROSS_ENCODER, BI_ENCODER = "cross-encoder", "bi-encoder"
IDF_OVERLAP = "idf_overlap.json"
REPORT, REPORT_PAGE = "report.json", "report.html"
PAGES = frozenset({".md", ".html", ".svg"})
"""Files for people. No loader reads them, so they are not fetched from the Hub and may be edited there."""
SAFE_SUFFIXES = frozenset({".json", ".safetensors", ".onnx", ".txt"}) | PAGES
CODE_SUFFIXES = frozenset({".py", ".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".so", ".npy", ".npz"})
UNLISTED_SUFFIXES = frozenset({"", ".md", ".html", ".svg", ".png", ".jpg", ".pdf"})
"""Suffixes of files that may be unlisted at the top of the folder (LICENSE, a picture): no loader reads them."""

_PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FETCH = "fetch or save the folder again"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def add_checksums(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Add the format version, the checksum of every file, and that of the whole.

    Raises:
        ModelFolderError: The folder holds a file that could not be read back.
    """
    names = [
        name for name, path in walk(folder) if name != MANIFEST and not path.is_dir() and not _may_be_unlisted(name)
    ]
    for name in names:
        _check_name(folder, name)
    complete = {"format": FORMAT, **content, "files": {name: sha256(folder / name) for name in names}}
    _check_content(folder / MANIFEST, complete)
    return with_checksum(complete)


def _may_be_unlisted(name: str) -> bool:
    """Return True for a file at the top for people only, such as LICENSE."""
    suffix = PurePosixPath(name).suffix.lower()
    return "/" not in name and suffix in UNLISTED_SUFFIXES and suffix not in SAFE_SUFFIXES


def with_checksum(content: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with its checksum."""
    return {**content, "checksum": checksum(content)}


def checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest, as compact ASCII JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `dupq.json` and check its format, checksum, entries and file names.

    Raises:
        ModelFolderError: There is none, it is damaged or was altered, it is of another format, or a name in it would
            leave the folder.
    """
    path = folder / MANIFEST
    if path.is_symlink() and not _in_hub_cache(folder, path):
        _refuse(path, "it is a symbolic link")
    if not path.exists():
        raise ModelFolderError(
            "this is no pipeline folder: it holds no dupq.json", location=str(folder), hint="check the path"
        )
    content = read_json(path)
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        _refuse(path, "it is damaged (no format version)")
    if version != FORMAT:
        older = "calibrate or export the networks again with this dupq"
        raise ModelFolderError(
            f"it is of format {version}, and this dupq reads format {FORMAT}",
            location=str(path),
            hint="pip install --upgrade dupq" if version > FORMAT else older,
        )
    stated = content.pop("checksum", None)
    try:
        actual = checksum(content)
    except RecursionError as error:
        raise ModelFolderError("it is damaged (nested too deeply)", location=str(path), hint=_FETCH) from error
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
    """Check types and ranges of the entries that a loader reads.

    Calibrators, rule and candidate rule are checked by their own `from_dict`.
    """
    networks, rate, blend = content.get("networks"), content.get("base_rate"), content.get("blend")
    files, facts = content.get("files"), content.get("facts", {})
    weights = 4 if isinstance(files, dict) and IDF_OVERLAP in files else 3
    sound = {
        "networks": isinstance(networks, dict)
        and 0 < len(networks) <= len(networks.keys() & {CROSS_ENCODER, BI_ENCODER})
        and all(
            isinstance(network, dict)
            and all(isinstance(network.get(key), str) for key in ("form", "fingerprint"))
            and all(network.get(key, values[0]) in values for key, values in SCORING_OPTIONS.items())
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
        "candidate_rule": isinstance(content.get("candidate_rule"), (dict, type(None))),
        "candidate_calibration": isinstance(content.get("candidate_calibration"), (dict, type(None))),
        "facts": isinstance(facts, dict) and isinstance(facts.get("card", {}), dict),
    }
    for key, holds in sound.items():
        if not holds:
            _refuse(path, f"it is damaged (its entry {key!r} is missing or of a wrong kind)")


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _check_name(folder: Path, name: str) -> None:
    location = f"{folder}: {name}"
    if leaves_folder(name) or "\\" in name:
        _refuse(location, "this path leaves the folder")
    parts = name.split("/")
    if not all(_PART.fullmatch(part) and not _RESERVED.fullmatch(part) for part in parts) or name.lower() == MANIFEST:
        _refuse(location, "this is no valid name for a file of a pipeline folder")
    suffix = PurePosixPath(name).suffix
    if suffix.lower() not in SAFE_SUFFIXES:
        kind = f"a file that ends in {suffix}" if suffix else "a file without an ending"
        _refuse(location, f"{kind} is not read by dupq", "only safetensors, ONNX, JSON and text are")


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each entry under `folder`, folders too, with its name with `/`.

    Hidden ones (.git, .cache) are skipped.
    """

    def stop(error: OSError) -> NoReturn:
        raise error

    for parent, folders, files in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted((*folders, *files)):
            if not name.startswith("."):
                path = Path(parent, name)
                yield path.relative_to(folder).as_posix(), path


def verify(folder: Path, content: dict[str, Any], pages: bool = True) -> None:
    """Check every file of the folder against its manifest.

    Args:
        folder: The pipeline folder.
        content: Its manifest, from `read_manifest`.
        pages: Check the files for people too. Those of a snapshot of the Hub are never checked: they may be missing, or
            edited there.

    Raises:
        ModelFolderError: Naming the file that is missing, altered, a link, or not in the manifest.
    """
    files = content["files"]
    pages = pages and not is_snapshot(folder)
    try:
        for name, path in walk(folder):
            # A Hub download is a tree of links into the cache; links that leave it are refused.
            if path.is_symlink() and not _in_hub_cache(folder, path):
                _refuse(path, "this is a symbolic link")
            if not path.is_dir() and name not in files and name != MANIFEST:
                _refuse_unlisted(path, name)
        checked = {
            folder / name: stated for name, stated in files.items() if pages or PurePosixPath(name).suffix not in PAGES
        }
        for path in checked:
            if not path.is_file():
                _refuse(path, "this file is missing")
        with ThreadPoolExecutor() as pool:
            for path, found in zip(checked, pool.map(sha256, checked), strict=True):
                if found != checked[path]:
                    _refuse(path, "its checksum differs: it was damaged, cut short or altered")
    except OSError as error:
        raise ModelFolderError(
            f"it cannot be read ({error.strerror or error})",
            location=str(error.filename or folder),
            hint="check the permissions and the disk",
        ) from error


def _refuse_unlisted(path: Path, name: str) -> None:
    suffix = path.suffix.lower()
    if suffix in CODE_SUFFIXES:
        _refuse(path, "the folder holds a file that can hold code", "remove it")
    if "/" in name or suffix not in UNLISTED_SUFFIXES:
        _refuse(path, "this file is not in dupq.json, yet a loader could read it", "remove it")


def is_snapshot(folder: Path) -> bool:
    """Return True for a folder in the cache of huggingface_hub.

    Such a folder is models--org--name/snapshots/<commit>.
    """
    real = folder.resolve()
    return real.parent.name == "snapshots" and (real.parent.parent / "blobs").is_dir()


def _in_hub_cache(folder: Path, path: Path) -> bool:
    # snapshots/<commit>/file -> models--org--name/blobs/<etag>, itself at times a link -> <cache>/blobs/xx/<hash>
    repository = folder.resolve().parent.parent
    target = path.resolve().parents
    return is_snapshot(folder) and (repository / "blobs" in target or repository.parent / "blobs" in target)


def _refuse(location: Path | str, message: str, hint: str = _FETCH) -> NoReturn:
    raise ModelFolderError(message, location=str(location), hint=hint)
