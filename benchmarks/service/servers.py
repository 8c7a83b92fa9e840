"""Servers that are measured, each a process: `dupq serve`, and what a user would write instead."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from benchmarks.index.places import LeftOutError

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
START_SECONDS = 300.0
STOP_SECONDS = 60.0
SAMPLE_SECONDS = 0.25


class Server:
    """A server in a process of its own, on a free port of loopback.

    Args:
        command: Words of the command; "{port}" stands for the port.
        environment: Variables beside those of this process.
        log: File for its output.
        headers: Headers that its clients send.
        port: Of a server that was killed and starts again; None: a free one.

    Attributes:
        started: Time at which it was started, by `time.perf_counter`.
    """

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        log: Path,
        headers: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.host, self.port = HOST, port or free_port()
        self.headers = {"Content-Type": "application/json", **(headers or {})}
        self._log = log.open("ab")
        # The threads of the networks are those that each server takes of its own accord.
        kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [word.format(port=self.port) for word in command],
            env={**kept, "PYTHONPATH": str(ROOT), **environment},
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 120.0) -> tuple[int, Any]:
        """Return status and body, which is JSON, of one request by a connection of its own."""
        connection = HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self.headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(text)
        return answer.status, text.decode(errors="replace")

    def until(self, method: str, path: str, body: Any = None) -> float:
        """Ask until the answer is 200; return the seconds since the start.

        Raises:
            RuntimeError: The server ended, or has not answered within five minutes.
        """
        found: object = None
        while time.perf_counter() < self.started + START_SECONDS:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with status {self.process.returncode}; see {self._log.name}")
            try:
                status, found = self.ask(method, path, body)
            except (OSError, HTTPException):
                status = 0
            if status == 200:
                return time.perf_counter() - self.started
            time.sleep(0.02)
        raise RuntimeError(f"{path} was not answered: {found}; see {self._log.name}")

    def memory(self) -> dict[str, float]:
        """Return resident memory and its peak, in MB."""
        names = {"VmRSS": "resident_mb", "VmHWM": "peak_mb"}
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise LeftOutError("memory is read from /proc, which this system lacks") from error
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        return {ours: int(found[name].split()[0]) / 1024 for name, ours in names.items() if name in found}

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError as error:
            raise LeftOutError("processor time is read from /proc, which this system lacks") from error
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def sampled_memory(self) -> Iterator[list[tuple[float, float]]]:
        """Note the time and the resident memory four times a second, within a `with` block."""
        samples: list[tuple[float, float]] = []
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(SAMPLE_SECONDS):
                with contextlib.suppress(LeftOutError, KeyError):
                    samples.append((time.perf_counter(), self.memory()["resident_mb"]))

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield samples
        finally:
            ended.set()
            thread.join()

    def kill(self) -> None:
        """End it by `kill -9`."""
        self.process.kill()
        self.process.wait()
        self._log.close()

    def stop(self) -> int:
        """End it by SIGTERM, or by `kill -9` after a minute; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()
        return self.process.returncode


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
    return port


def dupq(
    db: str,
    token: str,
    log: Path,
    model: str | None = None,
    settings: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Server:
    """Start `dupq serve` on an index, without a limit of requests a token.

    Args:
        db: The index.
        token: That its clients send.
        log: File for its output.
        model: A pipeline; None: the shipped one.
        settings: Further settings by name.
        port: To listen on; None: a free one.
    """
    command = [sys.executable, "-m", "dupq.cli.main", "serve", "--db", db, "--port", "{port}"]
    command += ["--model", model] if model else []
    named = {"rate_limit": "0", **(settings or {})}
    environment = {f"DUPQ_SERVE_{name.upper()}": value for name, value in named.items()}
    return Server(command, environment, log, {"Authorization": f"Bearer {token}"}, port)


def baseline(folder: Path, log: Path) -> Server:
    """Start the service of `baseline.py` on a folder of `networks.made`."""
    command = [sys.executable, "-m", "uvicorn", "benchmarks.service.baseline:app", "--port", "{port}"]
    environment = {"BASELINE_FOLDER": str(folder), "HF_HUB_OFFLINE": "1"}
    return Server([*command, "--no-access-log"], environment, log)


def token_of(db: str) -> str:
    """Create a token that may do everything; return its secret."""
    from dupq.index.stores import open_store
    from dupq.service.access import Access
    from dupq.service.tables import prepare_tables

    store = open_store(db)
    try:
        prepare_tables(store)
        return Access(store).create_token(f"benchmark {time.time_ns()}", "admin")
    finally:
        store.close()
