"""What an output folder already holds: nothing, a finished network, or a run that was interrupted."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from dupq.errors import TrainingError
from dupq.models.stock import QUESTIONS, RECORD

RUN = "run.json"
"""What a run notes among its checkpoints when it begins."""


def base_identity(base: str) -> str:
    """A hash of the weights in a folder; the name of anything else."""
    weights = sorted(Path(base).rglob("*.safetensors")) if Path(base).is_dir() else []
    digest = hashlib.sha256()
    for path in weights:
        if path.name != QUESTIONS:
            digest.update(path.read_bytes())
    return digest.hexdigest() if weights else base


def discard(output: Path, work: Path) -> None:
    """Removes a trained network and the checkpoints of its run; refuses to remove anything else."""
    if not (output / RECORD).is_file() and output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise TrainingError("what is there is no trained network", where=str(output), mend="name another folder")
    shutil.rmtree(output, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)


def finished_record(output: Path, identity: str) -> dict[str, Any] | None:
    """The record of a finished run of this identity; None where there is nothing yet."""
    mend = "name another folder, or pass --restart to throw it away"
    if (output / RECORD).is_file():
        record = _read_json(output / RECORD)
        if record.get("identity") != identity:
            raise TrainingError("this folder holds a network trained otherwise", where=str(output), mend=mend)
        return record
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise TrainingError("something else is there", where=str(output), mend="name another folder")
    return None


def started_run(work: Path, identity: str) -> dict[str, Any] | None:
    """What an interrupted run of this identity noted when it began; None where there is none."""
    if not (work / RUN).is_file():
        return None
    run = _read_json(work / RUN)
    if run.get("identity") != identity:
        raise TrainingError(
            "the checkpoints here are of a run with other settings, pairs or base",
            where=str(work),
            mend="name another folder, or pass --restart to throw them away",
        )
    return run


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"it is damaged ({error})", where=str(path), mend="pass --restart to begin anew") from error
    return content


def last_checkpoint(work: Path) -> Path | None:
    """The latest checkpoint that was written to its end."""
    # The trainer writes its state last: a checkpoint where that is missing or cut short was not finished.
    whole = [path.parent for path in work.glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
