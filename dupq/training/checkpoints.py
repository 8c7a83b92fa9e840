"""State of an output folder: empty, finished, or with checkpoints."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from dupq.errors import TrainingError
from dupq.models.sentence_transformers_io import QUESTIONS, RECORD

RUN = "run.json"
"""File among the checkpoints with the run's identity and precision."""
_RESTART = "name another folder, or discard it with --restart (restart=True)"


def base_identity(base: str) -> str:
    """Return a hash of the weights in a folder, or the name of a base on the Hub."""
    weights = sorted(Path(base).rglob("*.safetensors")) if Path(base).is_dir() else []
    digest = hashlib.sha256()
    for path in weights:
        if path.name != QUESTIONS:
            digest.update(path.read_bytes())
    return digest.hexdigest() if weights else base


def discard(output: Path, work: Path) -> None:
    """Remove a trained network and the checkpoints of its run.

    Raises:
        TrainingError: The output holds something else.
    """
    if not (output / RECORD).is_file() and not _is_free(output):
        raise TrainingError("the output is no trained network", location=str(output), hint="name another folder")
    shutil.rmtree(output, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)


def finished_record(output: Path, identity: str) -> dict[str, Any] | None:
    """Return the record of a finished run of this identity.

    Return None where the output is free.

    Raises:
        TrainingError: The output holds something else, or its record is damaged.
    """
    if (output / RECORD).is_file():
        record = _read_json(output / RECORD)
        if record.get("identity") != identity:
            raise TrainingError("this folder holds a network trained otherwise", location=str(output), hint=_RESTART)
        return record
    if not _is_free(output):
        raise TrainingError("the output is no trained network", location=str(output), hint="name another folder")
    return None


def started_run(work: Path, identity: str) -> dict[str, Any] | None:
    """Return the content of `RUN` of an interrupted run of this identity.

    Return None without one.

    Raises:
        TrainingError: The checkpoints are of another run, or damaged.
    """
    if not (work / RUN).is_file():
        return None
    run = _read_json(work / RUN)
    if run.get("identity") != identity:
        message = "the checkpoints here are of a run with other settings, pairs or base"
        raise TrainingError(message, location=str(work), hint=_RESTART)
    return run


def _is_free(output: Path) -> bool:
    return not output.exists() or (output.is_dir() and not any(output.iterdir()))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"the file is damaged ({error})", location=str(path), hint=_RESTART) from error
    return content


def last_checkpoint(work: Path) -> Path | None:
    """Return the latest complete checkpoint, or None without one."""
    # The trainer writes its state last, so a checkpoint without a readable state is incomplete.
    complete = [path.parent for path in work.glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
