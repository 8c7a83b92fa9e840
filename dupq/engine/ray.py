"""Engine of a Ray cluster, or of a Ray that it starts on this machine."""

from __future__ import annotations

import importlib
import logging
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from dupq.engine.base import MAX_ATTEMPTS, THREADS, Task, Unit
from dupq.engine.unit_queue import UnitQueue
from dupq.engine.work_folder import WorkFolder
from dupq.engine.worker import Answer, Worker
from dupq.errors import DupqError, InputError, require_extra
from dupq.types import Progress

ANSWER_SECONDS = 30.0
"""Time in which the Ray at an address must answer."""

_STORE_BYTES = 128 << 20  # parts go through the work folder; Ray's own store holds messages only
_JOIN_HINT = "start Ray there, or check the address and the versions of Python and Ray"
_PROBE = "import logging, ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)"


class RayEngine:
    """Runs units on Ray actors.

    An actor is a worker: it makes the worker of the task once and takes one unit after another. The engine uses plain
    actors in place of Ray Data's `map_batches`. Ray Data repeats the tasks of an actor that died by itself, so that it
    would restart actors without end for a unit that kills them, and names neither the unit nor the number of its
    attempts. Units are no data: they are a few bytes, and parts go through the work folder.

    `close`, or the end of a `with` block, ends a Ray that was started here and leaves a cluster that was only joined as
    it was.

    Args:
        address: "auto" or "host:port" of a cluster's head, or "ray://host:port" of its client server. None takes the
            Ray that this process has joined, else that of the environment variable RAY_ADDRESS, else starts one on this
            machine. Each machine needs the same versions of Python, Ray and dupq, and must reach the work folder.
        actors: Number of workers; None leaves one CPU of the cluster free.
        cpus_per_actor: CPUs, and threads, of a worker (default: 1).
        timeout_s: Seconds without a finished unit after which the running units count as failed (default: 1800).
        cpus: CPUs of a Ray that is started here; None for those of this machine, at least 2.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: A number is out of range.
    """

    def __init__(
        self,
        address: str | None = None,
        actors: int | None = None,
        cpus_per_actor: float = 1,
        timeout_s: float = 1800.0,
        cpus: int | None = None,
    ) -> None:
        require_extra("ray", "the engine ray")
        if actors is not None and actors < 1:
            raise InputError(f"actors must be at least 1, got {actors}")
        if cpus is not None and cpus < 2:
            raise InputError(f"cpus must be at least 2, got {cpus}", hint="one CPU stays free for Ray")
        for name, value in (("cpus_per_actor", cpus_per_actor), ("timeout_s", timeout_s)):
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} must be above 0, got {value}")
        self.address, self.actors, self.cpus_per_actor = address, actors, cpus_per_actor
        self.timeout_s, self.cpus = timeout_s, cpus
        self._joined = False
        self._temporary: str | None = None

    def __repr__(self) -> str:
        return f"RayEngine(address={self.address!r}, actors={self.actors}, cpus_per_actor={self.cpus_per_actor})"

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, task: Task, units: Sequence[Unit], work: WorkFolder, progress: Progress | None = None) -> None:
        """Compute the parts that the work folder lacks; see `Engine.run`.

        Raises:
            InputError: The address does not answer within `ANSWER_SECONDS`, or no machine has enough CPUs.
        """
        queue = UnitQueue(task, units, work, progress)
        if queue:
            self._join()
            _Run(self, task, queue, work).finish()
        queue.finish()

    def close(self) -> None:
        """Leave the cluster, or end the Ray that was started here."""
        if self._joined:
            _ray().shutdown()
            self._joined = False
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _join(self) -> None:
        if _is_joined():
            return
        ray = _ray()
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        address = self.address or os.environ.get("RAY_ADDRESS")
        if address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # dupq reports nothing to anyone
            # A folder of its own for logs and sockets, so that `close` can remove it.
            # Its sockets have 60 characters below it, and a socket's path at most 107.
            parent = tempfile.gettempdir()
            self._temporary = tempfile.mkdtemp(prefix="dupq-ray-", dir=parent if len(parent) < 30 else "/tmp")
            ray.init(
                address="local",
                num_cpus=self.cpus or max(2, os.cpu_count() or 1),
                num_gpus=0,
                _node_ip_address="127.0.0.1",
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                _temp_dir=self._temporary,
                **quiet,
            )
        else:
            _check_answer(address)
            try:
                ray.init(address=address, **quiet)
            except (OSError, RuntimeError, ValueError) as error:
                raise _not_joined(address, str(error)) from error
        self._joined = True


def _ray() -> Any:
    return importlib.import_module("ray")


def _is_joined() -> bool:
    return bool(_ray().is_initialized())


def _check_answer(address: str) -> None:
    """Raise InputError if no Ray answers within `ANSWER_SECONDS`.

    The head of a cluster is joined from another process first, because Ray ends a process after two minutes without an
    answer. A client server (`ray://`) raises an error by itself, but takes its time if nothing is there.
    """
    late = InputError(
        f"no Ray answered within {ANSWER_SECONDS:g} seconds", location=f"address {address}", hint=_JOIN_HINT
    )
    if address.startswith("ray://"):
        url = urlsplit(address)
        try:
            socket.create_connection((url.hostname or "", url.port or 10001), ANSWER_SECONDS).close()
        except (OSError, ValueError) as error:
            raise late from error
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise late from error
    if done.returncode:
        raise _not_joined(address, done.stderr)


def _not_joined(address: str, reason: str) -> InputError:
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return InputError(
        f"Ray could not be joined ({lines[-1] if lines else 'no reason given'})",
        location=f"address {address}",
        hint=_JOIN_HINT,
    )


class _Actor(Worker):
    """A worker as an actor."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        os.environ[THREADS] = str(threads)


@dataclass(slots=True, eq=False)
class _Member:
    """An actor, its unanswered call, and the unit that it computes; it has no unit while it starts."""

    actor: Any
    call: Any
    unit: Unit | None = None


class _Run:
    """One task on the actors of an engine."""

    def __init__(self, engine: RayEngine, task: Task, queue: UnitQueue, work: WorkFolder) -> None:
        self.engine, self.task, self.queue, self.work = engine, task, queue, work
        self.members: list[_Member] = []
        self.idle: list[Any] = []
        self.failed_starts = 0
        self.most = engine.actors or _free_actors(engine.cpus_per_actor)
        # `max_restarts` stays 0: a dead actor is replaced here, where attempts are counted.
        self.new = _ray().remote(num_cpus=engine.cpus_per_actor, max_restarts=0, max_task_retries=0)(_Actor)

    def finish(self) -> None:
        """Run all units; leave no actor behind."""
        ray = _ray()
        try:
            for _ in range(min(self.most, len(self.queue))):
                self._start()
            last = time.monotonic()
            while self.members:
                ready, _ = ray.wait([member.call for member in self.members], num_returns=1, timeout=1.0)
                for call in ready:
                    member = next(member for member in self.members if member.call == call)
                    self.members.remove(member)
                    self._take(member)
                    last = time.monotonic()
                if time.monotonic() - last > self.engine.timeout_s:
                    self._give_up()
                    last = time.monotonic()
                self._hand_out()
        finally:
            for actor in [*self.idle, *(member.actor for member in self.members)]:
                _kill(actor)

    def _start(self) -> None:
        actor = self.new.remote(max(1, int(self.engine.cpus_per_actor)))
        self.members.append(_Member(actor, actor.start.remote(self.task, self.work)))

    def _hand_out(self) -> None:
        """Give waiting units to idle actors, and to new ones in place of those that died."""
        while self.queue and self.idle:
            unit = self.queue.next()
            actor = self.idle.pop()
            self.members.append(_Member(actor, actor.run.remote(unit), unit))
        busy = sum(member.unit is not None for member in self.members)
        wanted = min(self.most, len(self.queue) + busy)
        for _ in range(wanted - len(self.members)):
            self._start()

    def _take(self, member: _Member) -> None:
        """Read the answer of an actor."""
        from ray.exceptions import RayError

        try:
            answer: Answer = _ray().get(member.call)
        except RayError as error:
            self._lose(member, _first_line(error))
            return
        if isinstance(answer, DupqError):
            self.idle.append(member.actor)
            raise answer
        self.idle.append(member.actor)
        if member.unit is None:
            self.failed_starts = 0
        elif answer:
            self.queue.fail(member.unit, answer)
        else:
            self.queue.done(member.unit)

    def _lose(self, member: _Member, reason: str) -> None:
        _kill(member.actor)
        if member.unit is not None:
            self.queue.fail(member.unit, f"its worker was lost: {reason}")
            return
        self.failed_starts += 1
        if self.failed_starts == MAX_ATTEMPTS:
            raise DupqError(
                f"{self.task.name}: workers ended while they started ({reason})",
                hint="check that each machine of the cluster has dupq and enough memory",
            )

    def _give_up(self) -> None:
        """Count the running units as failed, because none has finished for `timeout_s`."""
        running = [member for member in self.members if member.unit is not None]
        seconds = f"{self.engine.timeout_s:g} seconds"
        if not running:
            raise DupqError(
                f"{self.task.name}: no worker started within {seconds}",
                hint="check that Ray has free CPUs (ray status)",
            )
        for member in running:
            self.members.remove(member)
            self._lose(member, f"no unit finished within {seconds}")


def _free_actors(cpus_per_actor: float) -> int:
    """Return the number of actors that leave one CPU of the cluster free."""
    cpus = float(_ray().cluster_resources().get("CPU", 0))
    if cpus < cpus_per_actor:
        raise InputError(
            f"a worker needs {cpus_per_actor:g} CPUs, and Ray has {cpus:g}",
            hint="lower cpus_per_actor, or set actors on a cluster that grows by itself",
        )
    return max(1, int((cpus - 1) // cpus_per_actor))


def _kill(actor: Any) -> None:
    from ray.exceptions import RayError

    with suppress(RayError, ValueError):  # it is dead, or Ray is
        _ray().kill(actor, no_restart=True)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
