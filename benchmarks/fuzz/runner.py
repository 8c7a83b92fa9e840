"""Run inputs one after the other, and record findings."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

import dupq
from benchmarks.fuzz import api, cli, reader
from benchmarks.fuzz.reader import UntrueError
from benchmarks.fuzz.world import World
from dupq.errors import DupqError

KINDS: dict[str, Callable[[random.Random, World], None]] = {"reader": reader.run, "cli": cli.run, "api": api.run}
TURNS = ("reader", "api", "reader", "api", "reader", "api", "reader", "api", "reader", "cli")
"""Order of the kinds; commands are rare because they take longer than a call or a file."""
HANG_SECONDS = 20
STUCK_SECONDS = 60
"""Seconds after which the process ends, because native code may not react to the signal of a hang."""
PACKAGE = Path(dupq.__file__).parent


class HangError(BaseException):
    """An input took too long; it is no `Exception`, so that none of ours catches it."""


@dataclass
class Finding:
    """An input that ended in an error other than a `DupqError`.

    Attributes:
        kind, seed, number: The input.
        error: The class of the exception.
        message: Its text.
        place: The innermost frame in dupq, as file:line; the message where there is none.
        seen: Number of occurrences.
    """

    kind: str
    seed: int
    number: int
    error: str
    message: str
    place: str
    seen: int = 1
    more: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        return self.error, self.place

    def __str__(self) -> str:
        where = f"{self.kind} seed {self.seed} number {self.number}"
        return f"{where}: {self.error} at {self.place}: {self.message} (x{self.seen})"


def place_of(error: BaseException) -> str:
    """Return file:line of the innermost frame in dupq; "" where there is none."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            found = f"dupq/{file.relative_to(PACKAGE)}:{line}"
    return found


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def over(_: int, __: FrameType | None) -> None:
        raise HangError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def attempt(kind: str, seed: int, number: int, world: World) -> Finding | None:
    """Run one input; return its finding, or None."""
    rng = random.Random(f"{kind} {seed} {number}")
    os.chdir(world.fresh_folder())  # a name without a folder stays in it
    world.length = 3
    try:
        with warnings.catch_warnings(), _limited(HANG_SECONDS):
            warnings.simplefilter("ignore")
            KINDS[kind](rng, world)
    except (DupqError, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            raise
    except UntrueError as error:
        return Finding(kind, seed, number, "UntrueError", str(error)[:300], str(error)[:60])
    except BaseException as error:  # noqa: BLE001 - a panic of Rust is no Exception
        place = place_of(error) or "no frame of dupq"
        return Finding(kind, seed, number, type(error).__name__, str(error)[:300], place)
    return None


@dataclass
class State:
    """Progress of a run.

    Attributes:
        done: Inputs by kind: the next number of each.
        findings: One for each class of exception and place.
        closed: Findings that no longer occur, as lines.
    """

    seed: int
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    findings: list[Finding] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_mb: int = 0

    @property
    def total(self) -> int:
        return sum(self.done.values())

    def add(self, finding: Finding) -> bool:
        """Record a finding; return False if one of the same error and place is recorded."""
        for known in self.findings:
            if known.key == finding.key:
                known.seen += 1
                if len(known.more) < 4:
                    known.more.append(f"{finding.kind} {finding.seed} {finding.number}")
                return False
        self.findings.append(finding)
        return True

    def save(self, file: Path) -> None:
        beside = file.with_name(f"{file.name}.new")
        beside.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
        os.replace(beside, file)

    @classmethod
    def load(cls, file: Path, seed: int) -> State:
        """Return the stored state of a run with this seed, or a new one."""
        if not file.is_file():
            return cls(seed)
        data = json.loads(file.read_text(encoding="utf-8"))
        if data["seed"] != seed:
            return cls(seed)
        data["findings"] = [Finding(**finding) for finding in data["findings"]]
        return cls(**data)


def quiet() -> None:
    """Switch off logs and the network."""
    import socket

    logging.disable(logging.CRITICAL)

    def refused(*_: object) -> None:
        raise ConnectionRefusedError("no network in here")

    socket.socket.connect = refused  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = refused  # type: ignore[assignment]


def work(state: State, file: Path, journal: Path, world: World, inputs: int, seconds: float) -> None:
    """Run inputs up to a number in all or a time; the state is kept in `file`."""
    started = last = time.monotonic()
    parent = os.getppid()  # without it there is no process to report to
    before = state.seconds
    handle = os.open(journal, os.O_RDWR | os.O_CREAT)

    def keep() -> None:
        state.seconds = round(before + time.monotonic() - started, 1)
        state.peak_mb = max(state.peak_mb, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        state.save(file)

    try:
        while state.total < inputs and time.monotonic() - started < seconds and os.getppid() == parent:
            kind = TURNS[state.total % len(TURNS)]
            number = state.done[kind]
            # If the process dies, the next one reads here which input killed it.
            os.pwrite(handle, f"{kind} {number}".ljust(40).encode(), 0)
            finding = attempt(kind, state.seed, number, world)
            state.done[kind] += 1
            if finding is not None and state.add(finding):
                print(finding, file=sys.__stderr__, flush=True)
            if time.monotonic() - last > 2:
                keep()
                last = time.monotonic()
    finally:
        os.pwrite(handle, b" " * 40, 0)
        os.close(handle)
        keep()
