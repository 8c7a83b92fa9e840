"""The command `serve`: the HTTP service and its review page."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from dupq.cli.console import note
from dupq.errors import require_extra

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dupq.service.settings import ServiceSettings

FLAGS = (
    "db",
    "model",
    "host",
    "port",
    "threads",
    "workers",
    "batch",
    "rate_limit",
    "secure_cookies",
    "stop_seconds",
    "allow_private_webhooks",
)
"""Settings that have a flag; the others are set by the environment or the file."""


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `serve`."""
    parser = commands.add_parser(
        "serve",
        parents=[shared],
        help="serve the API, webhooks and the review page",
        description="Serve the API, webhooks and the review page over one index (needs dupq[serve]). Every setting can"
        " be given as an environment variable DUPQ_SERVE_NAME or in a TOML file; a flag is stronger than the"
        " environment, and the environment than the file. SIGTERM and Ctrl+C end it after the requests in progress.",
    )
    parser.add_argument(
        "--db", metavar="DB", help="index: a file, or postgresql://user@host/database (default: forum.db)"
    )
    parser.add_argument("--model", metavar="DIR|ID", help="pipeline folder or Hub id (default: the shipped model)")
    parser.add_argument(
        "--host",
        help="address to listen on; other machines can reach 0.0.0.0, which needs a token first (default: 127.0.0.1)",
    )
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one (default: 8080)")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads of the model (default: all)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that run jobs (default: 1)")
    parser.add_argument("--batch", type=int, metavar="N", help="pairs that the model reads at once (default: 32)")
    parser.add_argument(
        "--rate-limit", type=float, metavar="R", help="requests a second of one token; 0: no limit (default: 100)"
    )
    parser.add_argument(
        "--secure-cookies",
        action=argparse.BooleanOptionalAction,
        help="send the cookie of the review page over HTTPS only (default: no)",
    )
    parser.add_argument(
        "--stop-seconds", type=float, metavar="S", help="seconds that requests in progress get at the end (default: 30)"
    )
    parser.add_argument(
        "--allow-private-webhooks",
        action=argparse.BooleanOptionalAction,
        help="send events to private addresses too (default: no)",
    )
    parser.add_argument("--settings", metavar="FILE", help="TOML file of settings (default: none)")
    parser.add_argument(
        "--print-settings", action="store_true", help="print all settings with secrets masked, and end (--json as JSON)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    require_extra("serve", "the service")
    from dupq.service.settings import load_settings, shown, sources

    flags = {name: getattr(args, name) for name in FLAGS if getattr(args, name) is not None}
    settings = load_settings(flags, args.settings)
    if args.print_settings:
        values = shown(settings)
        print(json.dumps(values, indent=1) if args.json else as_toml(values, sources(flags, args.settings)))
    else:
        serve(settings)
    return 0


def serve(settings: ServiceSettings) -> None:
    """Serve until a signal; print the token of the first start on standard error."""
    from dupq.service.app import first_token, open_service
    from dupq.service.logs import configure_logs
    from dupq.service.server import listen, run_server

    with listen(settings) as listener:
        configure_logs()
        service = open_service(settings)
        token = first_token(service)
        if token is not None:
            note(
                f"The first start made a token for you, the administrator; it is shown only once:\n\n    {token}\n\n"
                "Sign in to the review page with it, and give others tokens of their own: dupq token create"
            )
        run_server(service, listener)


def as_toml(values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """Return settings as TOML with the source of each.

    A setting that is not set is a comment.
    """
    return "\n".join(
        f"# {name} is not set" if value is None else f"{name} = {_toml(value)}  # {origins[name]}"
        for name, value in values.items()
    )


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # which TOML alone does not allow
