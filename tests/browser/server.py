"""A service that runs in a thread of its own on loopback, and can be stopped and started again."""

from __future__ import annotations

import threading
import time
from typing import Any

import uvicorn

from dupq.pipeline import DuplicatePipeline
from dupq.service.access import Caller, Role
from dupq.service.app import create_app, open_service
from dupq.service.settings import ServiceSettings
from dupq.service.state import Service

SECONDS = 30.0


class Server:
    """A service over one database, at the same address after every start."""

    service: Service

    def __init__(self, pipeline: DuplicatePipeline, **settings: Any) -> None:
        self._settings, self._pipeline, self._port = ServiceSettings(**settings), pipeline, 0
        self._callers: dict[str, Caller] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self.service = open_service(self._settings, self._pipeline)
        config = uvicorn.Config(
            create_app(self.service), port=self._port, log_level="error", timeout_graceful_shutdown=5
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._uvicorn.run, daemon=True)
        self._thread.start()
        end = time.monotonic() + SECONDS
        while not self._uvicorn.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise RuntimeError("the service did not start")
            time.sleep(0.01)
        self._port = self._uvicorn.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        self._thread.join(SECONDS)
        if self._thread.is_alive():
            raise RuntimeError("the service did not stop")

    def caller(self, role: Role, name: str) -> Caller:
        """The holder of a token, which is created the first time."""
        if name not in self._callers:
            caller = self.service.access.caller(self.token(role, name))
            if caller is None:
                raise RuntimeError("the new token is not valid")
            self._callers[name] = caller
        return self._callers[name]

    def token(self, role: Role, name: str) -> str:
        return self.service.access.create_token(name, role)
