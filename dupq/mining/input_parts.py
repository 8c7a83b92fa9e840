"""Input parts of an engine run, written once and compared when it resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from dupq.engine.work_folder import WorkFolder
from dupq.errors import InputError

INPUT = "input.json"


def write_input(work: WorkFolder, found: Iterable[tuple[str, str, bytes]]) -> list[str]:
    """Write the parts of a stream, and return their hashes.

    If an earlier run read its input here, compare the parts with that, and write only those that are missing.

    Args:
        work: The folder.
        found: Folder, extension and bytes of each part; parts of one folder are numbered from 0.

    Raises:
        InputError: An earlier run read another stream.
    """
    known = json.loads(work.read(INPUT)) if work.exists(INPUT) else None
    hashes: list[str] = []
    numbers: dict[str, int] = {}
    for folder, extension, data in found:
        at = numbers[folder] = numbers.get(folder, -1) + 1
        name, digest = f"{folder}/{at:05}{extension}", hashlib.blake2b(data, digest_size=16).hexdigest()
        if known is not None and digest != "".join(known[len(hashes) : len(hashes) + 1]):
            raise _other_input(work)
        hashes.append(digest)
        if known is None or not work.exists(name):
            work.write(name, data)
    if known is None:
        work.write(INPUT, json.dumps(hashes).encode())
    elif len(known) != len(hashes):
        raise _other_input(work)
    return hashes


def _other_input(work: WorkFolder) -> InputError:
    return InputError(
        "the work folder is of another input",
        location=work.location,
        hint="name another folder, or start afresh (--fresh, fresh=True)",
    )
