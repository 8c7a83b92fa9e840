"""The socket, the signals, and the graceful stop of one service in one process."""

from __future__ import annotations

import logging
import math
import os
import socket
from types import FrameType

import uvicorn

from dupq.errors import InputError, OutputError
from dupq.service.app import create_app
from dupq.service.settings import ServiceSettings
from dupq.service.state import Service

_log = logging.getLogger("dupq.service.server")


def listen(settings: ServiceSettings) -> socket.socket:
    """Return a socket that is bound to the address of the settings.

    Nothing is accepted yet.

    Raises:
        InputError: There is no such address.
        OutputError: The port is in use, or may not be used.
    """
    place = f"{settings.host} port {settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise InputError(
            f"host must be an address of this machine, got {settings.host!r:.60}", hint="--host 127.0.0.1"
        ) from None
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(1)  # a second service on this port fails now, before its model is loaded
    except OSError as error:
        found.close()
        raise OutputError(f"cannot listen: {error.strerror}", location=place, hint="choose another --port") from None
    return found


def run_server(service: Service, listener: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT; close the service and the socket.

    The first signal stops it gracefully: no connection is accepted, requests in progress end within `stop_seconds`,
    then jobs and the model. A second signal ends the process at once.
    """
    config = uvicorn.Config(
        create_app(service),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(service.settings.stop_seconds),
    )
    _Server(config, service).run([listener])


class _Server(uvicorn.Server):
    """A server that the service hears about: its start, and the signal that stops it."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            _log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + sig)  # what was acknowledged is in the store already
        self.service.stopping = True
        self.should_exit = True
