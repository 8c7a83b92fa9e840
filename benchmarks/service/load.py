"""Clients that ask as fast as they are answered, in a process of its own: `python -m benchmarks.service.load`.

The load comes as JSON on standard input, and its result goes to standard output. A client sends its next request when
the answer to the last one is there (a closed loop). Requests of the warm-up are not counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.index.clients import percentiles
from benchmarks.service.client import Connection

ROOT = Path(__file__).resolve().parents[2]
OBEY, HASTE = "retry_after", "at_once"
HASTY_PAUSE = 0.1
"""Seconds before a hasty client asks again that was refused."""


@dataclass(frozen=True)
class Load:
    """Load of one kind of request.

    Attributes:
        host, port, path: Address of the requests.
        bodies: File with a body a line; clients take them in turn.
        clients: Number of clients, each with a connection of its own.
        seconds: Time that is counted.
        warm_up: Seconds before it.
        refused: "retry_after": a client that got 429 waits as long as the answer says; "at_once": a tenth of a second.
        headers: Headers of every request.
    """

    host: str
    port: int
    path: str
    bodies: str
    clients: int
    seconds: float
    warm_up: float = 0.0
    refused: str = OBEY
    headers: dict[str, str] = field(default_factory=dict)


async def offer(load: Load) -> dict[str, Any]:
    """Offer a load; return rates, latencies of answered and of refused requests, and counts by status."""
    bodies = cycle(Path(load.bodies).read_bytes().splitlines())
    seconds: dict[int, list[float]] = {}
    counts: dict[str, int] = {}
    begin = time.perf_counter() + load.warm_up
    end = begin + load.seconds

    async def client() -> None:
        connection = Connection(load.host, load.port, load.headers)
        while (start := time.perf_counter()) < end:
            pause = 0.0
            try:
                answer = await connection.ask("POST", load.path, next(bodies))
                status = str(answer.status)
                if answer.status == 429:
                    pause = HASTY_PAUSE if load.refused == HASTE else float(answer.headers.get("retry-after", 1))
            except ConnectionError:
                answer, status, pause = None, "lost", HASTY_PAUSE
            now = time.perf_counter()
            if begin <= now < end:
                counts[status] = counts.get(status, 0) + 1
                if answer is not None:
                    seconds.setdefault(answer.status, []).append(now - start)
            if pause:
                await asyncio.sleep(min(pause, max(0.0, end - now)))
        connection.close()

    used = time.process_time()
    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(load.clients)))
    used, took = time.process_time() - used, time.perf_counter() - started
    answered = seconds.get(200, [])
    return {
        "clients": load.clients,
        "per_second": len(answered) / load.seconds,
        "statuses": counts,
        **(percentiles(answered) if answered else {}),
        "refused": percentiles(seconds[429]) if 429 in seconds else None,
        "took_s": took,
        "load_cpu_share": used / took,
    }


def run(load: Load) -> dict[str, Any]:
    """Offer a load from another process; return its result.

    Raises:
        RuntimeError: The process failed; its traceback is on standard error.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.service.load"],
        input=json.dumps(asdict(load)),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load failed: {load}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    print(json.dumps(asyncio.run(offer(Load(**json.load(sys.stdin))))), flush=True)


if __name__ == "__main__":
    main()
