"""Engine of a Ray cluster, or of a Ray that it starts on this machine."""

from __future__ import annotations

import importlib
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
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
"""Time in which something must answer at an address."""
JOIN_SECONDS = 180.0
"""Time in which the Ray at an address that answers must let a process join."""
START_SECONDS = 600.0
"""Time in which one of the workers must start."""
STARTS = 5
"""Attempts to start a Ray on this machine."""
SLOW_START = {
    "RAY_USAGE_STATS_ENABLED": "0",  # dupq reports nothing to anyone
    "RAY_raylet_start_wait_time_s": "60",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_failure_threshold": "20",
    "RAY_worker_niceness": "0",  # Ray's 15 leaves its workers next to nothing beside other processes
}
"""Environment of a Ray that is started here: on a busy machine its processes take longer than Ray's defaults allow."""

_kept: list[tuple[str, float, Any]] = []
"""Idle actors for the next task: the node of the driver, which is another one after each start of Ray, the CPUs of an
actor, and the actor. A new one would take seconds to import its packages."""

_STORE_BYTES = 128 << 20  # parts go through the work folder; Ray's own store holds messages only
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_JOIN_HINT = "start Ray there, or check the address and the versions of Python and Ray"
_PROBE = "import logging, ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)"


class RayEngine:
    """Runs units on Ray actors.

    An actor is a worker: it makes the worker of the task once and takes one unit after another. The engine uses plain
    actors in place of Ray Data's `map_batches`. Ray Data repeats the tasks of an actor that died by itself, so that it
    would restart actors without end for a unit that kills them, and names neither the unit nor the number of its
    attempts. Units are no data: they are a few bytes, and parts go through the work folder.

    Actors stay for the next task. `close`, or the end of a `with` block, ends them and a Ray that was started here, and
    leaves a cluster that was only joined as it was.

    Args:
        address: "auto" or "host:port" of a cluster's head, or "ray://host:port" of its client server. None takes the
            Ray that this process has joined, else that of the environment variable RAY_ADDRESS, else starts one on this
            machine. Each machine needs the same versions of Python, Ray and dupq, and must reach the work folder.
        actors: Number of workers; None leaves one CPU of the cluster free.
        cpus_per_actor: CPUs, and threads, of a worker (default: 1).
        timeout_s: Seconds without a finished unit after which the running units count as failed (default: 1800). The
            start of the workers has `START_SECONDS`.
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
            InputError: The address does not answer, or no machine has enough CPUs.
            DupqError: Ray could not be started on this machine in `STARTS` attempts.
        """
        queue = UnitQueue(task, units, work, progress)
        if queue:
            self._join()
            _Run(self, task, queue, work).finish()
        queue.finish()

    def close(self) -> None:
        """End the actors, and leave the cluster, or end the Ray that was started here."""
        _end_kept()
        if self._joined:
            _ray().shutdown()
            self._joined = False
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _join(self) -> None:
        if _is_joined():
            return
        self.close()  # what is left of a Ray that has ended
        address = self.address or os.environ.get("RAY_ADDRESS")
        if address is None:
            self._start()
        else:
            ray = _ray()
            _check_answer(address)
            try:
                ray.init(address=address, **_QUIET)
            except (OSError, RuntimeError, ValueError) as error:
                raise _not_joined(address, str(error)) from error
        self._joined = True

    def _start(self) -> None:
        """Start a Ray on this machine, in up to `STARTS` attempts.

        Ray gives up where one of its processes takes 15 seconds.
        """
        for name, value in SLOW_START.items():
            os.environ.setdefault(name, value)  # Ray reads them when it is imported
        ray = _ray()
        # A folder of its own for logs and sockets, so that `close` can remove it.
        # Its sockets have 60 characters below it, and a socket's path at most 107.
        parent = tempfile.gettempdir()
        for attempt in range(1, STARTS + 1):
            self._temporary = tempfile.mkdtemp(prefix="dupq-ray-", dir=parent if len(parent) < 30 else "/tmp")
            try:
                ray.init(
                    address="local",
                    num_cpus=self.cpus or max(2, os.cpu_count() or 1),
                    num_gpus=0,
                    _node_ip_address="127.0.0.1",
                    include_dashboard=False,
                    object_store_memory=_STORE_BYTES,
                    _temp_dir=self._temporary,
                    **_QUIET,
                )
                return
            except Exception as error:  # Ray raises no class of its own here
                ray.shutdown()
                _end_processes(self._temporary)
                self.close()
                if attempt == STARTS:
                    raise DupqError(
                        f"Ray could not be started on this machine ({_first_line(error)})",
                        hint="free processor time and memory and run the same command again, or leave out the engine",
                    ) from error


def _ray() -> Any:
    return importlib.import_module("ray")


def _is_joined() -> bool:
    return "ray" in sys.modules and bool(_ray().is_initialized())


def _end_processes(folder: str) -> None:
    """End the processes that a failed start has left.

    Their command lines hold `folder`, which Ray was started with.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if folder.encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)


def _check_answer(address: str) -> None:
    """Raise InputError if nothing answers at the address or no process can join.

    The limits are `ANSWER_SECONDS` for the answer and `JOIN_SECONDS` for joining.

    The head of a cluster is joined from another process first, because Ray ends a process after two minutes without an
    answer. A client server (`ray://`) raises an error by itself.
    """
    client = address.startswith("ray://")
    url = urlsplit(address if client else f"//{address}")
    try:
        port = url.port
    except ValueError as error:
        raise _not_joined(address, str(error)) from error
    if client or port is not None:  # "auto" has none
        try:
            socket.create_connection((url.hostname or "", port or 10001), ANSWER_SECONDS).close()
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise _late(address, ANSWER_SECONDS) from error
            raise _not_joined(address, _first_line(error)) from error
    if client:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=JOIN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _late(address, JOIN_SECONDS) from error
    if done.returncode:
        raise _not_joined(address, done.stderr)


def _late(address: str, seconds: float) -> InputError:
    return InputError(f"no Ray answered within {seconds:g} seconds", location=f"address {address}", hint=_JOIN_HINT)


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
    """An actor, its unanswered call, and the unit that it computes.

    It has no unit while it starts. `kept` is true for the start of an actor of an earlier task.
    """

    actor: Any
    call: Any
    unit: Unit | None = None
    kept: bool = False


class _Run:
    """One task on the actors of an engine."""

    def __init__(self, engine: RayEngine, task: Task, queue: UnitQueue, work: WorkFolder) -> None:
        self.engine, self.task, self.queue, self.work = engine, task, queue, work
        self.members: list[_Member] = []
        self.idle: list[Any] = []
        self.failed_starts = 0
        self.most = engine.actors or _free_actors(engine.cpus_per_actor)
        # `max_restarts` stays 0: a dead actor is replaced here, where attempts are counted.
        self.node = str(_ray().get_runtime_context().get_node_id())
        self.new = _ray().remote(num_cpus=engine.cpus_per_actor, max_restarts=0, max_task_retries=0)(_Actor)

    def finish(self) -> None:
        """Run all units; leave no actor behind but those that wait for the next task."""
        ray = _ray()
        try:
            for _ in range(min(self.most, len(self.queue))):
                self._start()
            last = time.monotonic()
            while self.queue or any(member.unit is not None for member in self.members):
                ready, _ = ray.wait([member.call for member in self.members], num_returns=1, timeout=1.0)
                for call in ready:
                    member = next(member for member in self.members if member.call == call)
                    self.members.remove(member)
                    self._take(member)
                    last = time.monotonic()
                if self._is_late(time.monotonic() - last):
                    self._give_up()
                    last = time.monotonic()
                self._hand_out()
            _kept.extend((self.node, self.engine.cpus_per_actor, actor) for actor in self.idle)
            self.idle.clear()
        finally:
            for actor in [*self.idle, *(member.actor for member in self.members)]:
                _kill(actor)

    def _start(self) -> None:
        """Take a waiting actor, or make one."""
        kept = None
        while _kept and kept is None:
            node, cpus, actor = _kept.pop()
            if (node, cpus) == (self.node, self.engine.cpus_per_actor):
                kept = actor
            elif node == self.node:
                _kill(actor)
        actor = self.new.remote(max(1, int(self.engine.cpus_per_actor))) if kept is None else kept
        self.members.append(_Member(actor, actor.start.remote(self.task, self.work), kept=kept is not None))

    def _is_late(self, seconds: float) -> bool:
        """Return True if these seconds without an answer exceed the limit."""
        running = any(member.unit is not None for member in self.members)
        return seconds > (self.engine.timeout_s if running else START_SECONDS)

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
        self.failed_starts += not member.kept
        if self.failed_starts == MAX_ATTEMPTS:
            raise DupqError(
                f"{self.task.name}: workers ended while they started ({reason})",
                hint="check that each machine of the cluster has dupq and enough memory",
            )

    def _give_up(self) -> None:
        """Count the running units as failed, because none has finished for `timeout_s`."""
        running = [member for member in self.members if member.unit is not None]
        if not running:
            raise DupqError(
                f"{self.task.name}: no worker started within {START_SECONDS:g} seconds",
                hint="check that Ray has free CPUs (ray status)",
            )
        for member in running:
            self.members.remove(member)
            self._lose(member, f"no unit finished within {self.engine.timeout_s:g} seconds")


def _free_actors(cpus_per_actor: float) -> int:
    """Return the number of actors that leave one CPU of the cluster free."""
    cpus = float(_ray().cluster_resources().get("CPU", 0))
    if cpus < cpus_per_actor:
        raise InputError(
            f"a worker needs {cpus_per_actor:g} CPUs, and Ray has {cpus:g}",
            hint="lower cpus_per_actor, or set actors on a cluster that grows by itself",
        )
    return max(1, int((cpus - 1) // cpus_per_actor))


def _end_kept() -> None:
    """End the actors that wait for a task."""
    actors = [actor for _, _, actor in _kept]
    _kept.clear()
    if actors and _is_joined():  # else they ended with their Ray
        for actor in actors:
            _kill(actor)


def _kill(actor: Any) -> None:
    from ray.exceptions import RayError

    with suppress(RayError, ValueError):  # it is dead, or Ray is
        _ray().kill(actor, no_restart=True)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
