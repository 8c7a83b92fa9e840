"""An engine for tests, whose units wait in their worker to be killed; run as a module, a command with this engine.

    python -m tests.mining.stopping FOLDER PATTERN mine questions.csv ...

runs `dupq mine` with small parts. A unit whose name the pattern matches waits at its first attempt.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dupq.engine.base import Engine, Task, Unit, Work
from dupq.engine.work_folder import WorkFolder
from dupq.types import Progress

PART = 64


class Stopping:
    """Engine around another one.

    Args:
        engine: Runs the units.
        folder: Gets a file NAME.pid with the process of each unit that waits, "/" as "+". A unit with a file does not
            wait.
        pattern: Regular expression of the names of these units.
    """

    def __init__(self, engine: Engine, folder: Path, pattern: str) -> None:
        self.engine, self.folder, self.pattern = engine, folder, pattern

    def run(self, task: Task, units: Sequence[Unit], work: WorkFolder, progress: Progress | None = None) -> None:
        arguments = (task.make, str(self.folder), self.pattern, *task.arguments)
        self.engine.run(Task(task.name, make_stopping, arguments), units, work, progress)

    def close(self) -> None:
        self.engine.close()


def make_stopping(work: WorkFolder, make: Callable[..., Work], folder: str, pattern: str, *arguments: Any) -> Work:
    compute = make(work, *arguments)

    def stopping(unit: Unit) -> bytes:
        mark = Path(folder) / f"{unit.name.replace('/', '+')}.pid"
        if re.search(pattern, unit.name) and not mark.exists():
            beside = mark.with_suffix(".new")
            beside.write_text(str(os.getpid()))
            beside.rename(mark)
            time.sleep(600)
            raise TimeoutError("the test has not killed this process")
        return compute(unit)

    return stopping


def main(folder: str, pattern: str, *command: str) -> int:
    from dupq.cli import main as cli
    from dupq.cli import mine
    from dupq.engine.ray import RayEngine
    from dupq.mining import checkpoint
    from dupq.search import tiles

    checkpoint.PART, tiles.TILE_PRODUCTS = PART, PART * PART
    opened = mine.open_engine

    def open_engine(args: Any) -> Engine | None:
        engine = opened(args)
        if isinstance(engine, RayEngine):
            engine.cpus = 4
        return None if engine is None else Stopping(engine, Path(folder), pattern)

    mine.open_engine = open_engine
    return cli.main([*command])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
