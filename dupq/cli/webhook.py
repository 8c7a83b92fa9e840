"""The command `webhook`: test that a service takes the webhooks of a forum."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dupq.cli.console import emit
from dupq.errors import InputError, require_extra

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = ("discourse", "github", "generic")
SECONDS = 10.0


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `webhook`."""
    webhook = commands.add_parser("webhook", help="test the webhooks of a service")
    actions = webhook.add_subparsers(dest="action", required=True, metavar="ACTION")
    test = actions.add_parser(
        "test",
        parents=[shared],
        help="send a test with a right and a wrong signature",
        description="Send the test event of a forum, once signed with the secret and once with another one, and print"
        " what the service has answered (needs dupq[serve]). No question is added. The exit status is 1 unless the"
        " first is accepted and the second refused.",
    )
    test.add_argument("kind", choices=KINDS, help="kind of the webhook")
    test.add_argument("url", metavar="URL", help="address of the service, such as http://127.0.0.1:8080")
    test.add_argument(
        "--secret", metavar="TEXT", help="secret that both sides have (default: that of the settings, KIND_secret)"
    )
    test.add_argument("--settings", metavar="FILE", help="TOML file of settings (default: none)")
    test.set_defaults(run=run_test)


def run_test(args: argparse.Namespace) -> int:
    require_extra("serve", "the webhooks")
    url = _address(args.url, args.kind)
    secret = args.secret or _secret(args.kind, args.settings)
    signed = _send(args.kind, url, secret)
    other = _send(args.kind, url, f"{secret} and more")
    checks = {
        "signed": {"status": signed[0], "answer": signed[1], "ok": signed[0] == 200},
        "wrong_signature": {"status": other[0], "answer": other[1], "ok": other[0] == 403},
    }
    ok = all(check["ok"] for check in checks.values())
    wanted = {"signed": "200", "wrong_signature": "403"}
    lines = [
        f"{name.replace('_', ' ')}: {'ok' if check['ok'] else f'expected {wanted[name]}'}, "
        f"the service answered {check['status']}: {check['answer']}"
        for name, check in checks.items()
    ]
    emit(args, {"url": url, "ok": ok, **checks}, "\n".join([url, *lines]))
    return 0 if ok else 1


def _address(url: str, kind: str) -> str:
    """Return the address of the webhook of a service."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"URL must be the address of the service, got {url!r:.80}", hint="try http://127.0.0.1:8080")
    path = parts.path.rstrip("/")
    if not path.endswith(f"/webhooks/{kind}"):
        path += f"/webhooks/{kind}"
    return parts._replace(path=path, query="", fragment="").geturl()


def _secret(kind: str, file: str | None) -> str:
    from dupq.service.settings import load_settings

    found = getattr(load_settings({}, file), f"{kind}_secret")
    if found is None:
        raise InputError(
            f"{kind}_secret must be set, got nothing",
            hint=f"set DUPQ_SERVE_{kind.upper()}_SECRET as for the service, or give --secret",
        )
    return str(found.get_secret_value())


def _send(kind: str, url: str, secret: str) -> tuple[int, str]:
    """Send the test event of a forum; return the status and the text of the answer."""
    import httpx2

    from dupq.service.webhooks import discourse, generic, github
    from dupq.service.webhooks.signatures import signature_of

    samples: Mapping[str, tuple[str, dict[str, str], dict[str, Any]]] = {
        "discourse": (
            discourse.SIGNATURE,
            {
                "x-discourse-instance": "https://forum.example",
                "x-discourse-event-id": "1",
                "x-discourse-event-type": "ping",
            },
            {"ping": "OK"},
        ),
        "github": (
            github.SIGNATURE,
            {"x-github-event": "ping", "x-github-delivery": "test"},
            {"zen": "A test of dupq.", "hook_id": 1},
        ),
        "generic": (generic.SIGNATURE, {"x-dupq-event": "ping"}, {"event": "ping"}),
    }
    header, headers, sample = samples[kind]
    body = json.dumps(sample).encode()
    headers = {**headers, "content-type": "application/json", header: signature_of(secret, body)}
    try:
        answer = httpx2.post(url, content=body, headers=headers, timeout=SECONDS)
    except httpx2.HTTPError as error:
        raise InputError(
            f"the service did not answer ({error})", location=url, hint="start it with `dupq serve`, and check the port"
        ) from error
    return answer.status_code, _reason(answer.text)


def _reason(text: str) -> str:
    """Return what an answer states, in one line."""
    try:
        found = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:200]
    if isinstance(found, dict):
        parts = [str(found[name]) for name in ("status", "detail", "hint") if isinstance(found.get(name), str)]
        return "; ".join(parts) or text[:200]
    return text[:200]
