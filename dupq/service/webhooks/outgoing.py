"""Outgoing webhooks: signed events for the addresses that the settings name.

Events are signed as Standard Webhooks (https://www.standardwebhooks.com) describes: `webhook-signature` is
`v1,<base64 HMAC-SHA256>` over `webhook-id.webhook-timestamp.body`. A retry has the same id and body, and a new time.

An address is resolved once for each attempt. The connection goes to the resolved number, and TLS checks the name, so a
second answer of the name server cannot lead it to another machine. Private, loopback and link-local numbers are refused
unless the settings allow them, and so is plain http to any other. Redirects are not followed, proxies of the
environment are not used, and the body of an answer is not read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, urlsplit

from dupq.errors import InputError
from dupq.index.stores.sql import Transaction
from dupq.index.verdicts import now
from dupq.service.job_table import DeadJobError, LaterError, add_job
from dupq.version import __version__

if TYPE_CHECKING:
    from dupq.service.settings import ServiceSettings
    from dupq.service.state import Service

Event = Literal["flagged", "verdict", "merged"]
DELIVER = "deliver"
"""Family of the kinds of jobs that send events."""
PREFIX = "whsec_"
MIN_SECRET = 24
"""Bytes of a secret at least, as Standard Webhooks asks for."""
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 10.0
HOLD_IPV4 = tuple(map(ipaddress.ip_network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")))
"""Networks of IPv6 whose last 32 bits are an address of IPv4: the old compatible form, and NAT64."""
GONE = "service_webhook_gone_"
"""Prefix of the rows of `meta` that name the receivers that answered 410."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def emit(service: Service, event: Event, key: str, data: Mapping[str, Any]) -> None:
    """Store one job for each address that gets events.

    An event with the same key is sent once, and none goes to an address that has answered 410 (gone).

    Args:
        service: The service.
        event: Kind of the event.
        key: Unique name of the event.
        data: What JSON can hold.
    """
    urls = service.settings.webhook_urls
    if not urls:
        return
    body = {"type": event, "timestamp": now(), "data": dict(data)}

    def add(transaction: Transaction) -> None:
        for url in urls:
            name = receiver(url)
            if transaction.meta(GONE + name) != "1":
                # The address itself may hold a secret, and jobs are listed.
                payload = {"receiver": name, "key": key, "body": body}
                add_job(transaction, f"{DELIVER}:{name}", f"deliver:{name}:{key}", payload)

    service.store.write(add)
    service.jobs.wake()


def receiver(url: str) -> str:
    """Return the name of an address in jobs."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def delivery_kinds(service: Service) -> list[str]:
    """Return the kinds of jobs that send events.

    Each receiver has a kind of its own, so that they take turns: one that hangs does not hold back the others. Those
    that have left the settings are among them, and so is the kind of all events of earlier versions.
    """
    with service.store.reading() as view:
        stored = view.session.run("SELECT DISTINCT kind FROM service_jobs WHERE kind LIKE ?", (f"{DELIVER}:%",))
    names = [receiver(url) for url in service.settings.webhook_urls]
    return [*dict.fromkeys([DELIVER, *(f"{DELIVER}:{name}" for name in names), *(kind for (kind,) in stored)])]


def deliver(service: Service, payload: Mapping[str, Any]) -> None:
    """Send one event to one address.

    Raises:
        DeadJobError: No retry can help.
        LaterError: The address cannot be reached now, or has refused the event.
    """
    name, key = payload["receiver"], payload["key"]
    url = next((url for url in service.settings.webhook_urls if receiver(url) == name), None)
    if url is None:
        raise DeadJobError("the address is no longer in the settings")
    try:
        check_receivers(service.settings)
    except InputError as error:
        raise DeadJobError(error.message) from error
    secret = service.settings.webhook_secret
    body = json.dumps(payload["body"], ensure_ascii=False, separators=(",", ":")).encode()
    id_ = "msg_" + hashlib.sha256(f"{name}:{key}".encode()).hexdigest()[:32]
    key_bytes = decoded_secret(secret.get_secret_value() if secret is not None else "")
    status, pause = post(url, id_, body, key_bytes, service.settings.allow_private_webhooks)
    host = urlsplit(url).hostname
    if status == 410:
        service.store.write(lambda transaction: transaction.set_meta(GONE + name, 1))
        raise DeadJobError(
            f"{host} answered 410 (gone): it gets no more events; retry this job to send them again once it is back"
        )
    if not 200 <= status < 300:
        raise LaterError(f"{host} answered {status}", pause)
    with service.store.reading() as view:
        gone = view.meta(GONE + name) == "1"
    if gone:
        service.store.write(lambda transaction: transaction.set_meta(GONE + name, 0))


def sign(key: bytes, id_: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`."""
    digest = hmac.new(key, f"{id_}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def decoded_secret(secret: str) -> bytes:
    """Return the bytes of a secret `whsec_<base64>`.

    Raises:
        InputError: It has another form, or fewer than 24 bytes.
    """
    with suppress(binascii.Error, ValueError):
        if secret.startswith(PREFIX):
            text = secret.removeprefix(PREFIX)
            found = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            if len(found) >= MIN_SECRET:
                return found
    raise InputError(
        f"webhook_secret must be {PREFIX} and the base64 of at least {MIN_SECRET} bytes",
        hint=f"make one: echo {PREFIX}$(head -c 32 /dev/urandom | base64)",
    )


def check_receivers(settings: ServiceSettings) -> None:
    """Raise InputError unless events can be signed, and sent to each address."""
    if not settings.webhook_urls:
        return
    for number, url in enumerate(settings.webhook_urls, 1):
        _split(url, f"webhook_urls, address {number}")
    if settings.webhook_secret is None:
        raise InputError(
            "webhook_secret must be set where webhook_urls has an address",
            hint=f"make one: echo {PREFIX}$(head -c 32 /dev/urandom | base64)",
        )
    decoded_secret(settings.webhook_secret.get_secret_value())


def _split(url: str, name: str) -> SplitResult:
    """Return the parts of an address; raise InputError if it is none.

    The error does not repeat the address, which may hold a secret.
    """
    hint = "write it as https://forum.example/hook"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InputError(f"{name} must be an address of https, got one that is malformed", hint=hint) from error
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise InputError(f"{name} must be an address of https, got the scheme {parts.scheme!r:.20}", hint=hint)
    if parts.username is not None or parts.password is not None:
        raise InputError(f"{name} must hold no user name or password", hint="events are signed by webhook_secret")
    return parts


def is_public(address: Address) -> bool:
    """Return True for an address on the open internet.

    An IPv6 address that holds an IPv4 address counts as that one.
    """
    if isinstance(address, ipaddress.IPv6Address):
        held = address.ipv4_mapped or address.sixtofour
        if held is None and any(address in network for network in HOLD_IPV4):
            held = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if held is not None:
            return is_public(held)
        if address.is_site_local:
            return False
    return address.is_global and not address.is_multicast


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a name.

    Raises:
        LaterError: The name has none at the moment.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise LaterError(f"{host} has no address ({error})", 0.0) from error
    # A link-local address of IPv6 may end in the name of an interface.
    return list(dict.fromkeys(ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in found))


def checked_address(parts: SplitResult, allow_private: bool) -> Address:
    """Return the address to connect to.

    Raises:
        DeadJobError: The settings do not allow it.
        LaterError: The name has none at the moment.
    """
    host = str(parts.hostname)
    found = resolve(host, parts.port or (443 if parts.scheme == "https" else 80))
    public = [address for address in found if is_public(address)]
    if public and parts.scheme == "https":
        return public[0]
    private = [address for address in found if address not in public]
    if private and allow_private:
        return private[0]
    if public:
        raise DeadJobError(f"{host} is not private, so its address must begin with https")
    raise DeadJobError(f"{host} has a private address; allow_private_webhooks permits those")


def post(url: str, id_: str, body: bytes, key: bytes, allow_private: bool) -> tuple[int, float]:
    """Send one body, and return the status of the answer and its wait.

    The wait is the number of seconds in `Retry-After`, or 0.

    Args:
        url: The address.
        id_: Name of the event, the same in each attempt.
        body: What is sent.
        key: Bytes of the secret.
        allow_private: Connect to private addresses too.

    Raises:
        DeadJobError: The settings do not allow the address.
        LaterError: It did not answer.
    """
    import httpx2

    parts = _split(url, "the address")
    address = checked_address(parts, allow_private)
    timestamp = int(time.time())
    host = str(parts.hostname)
    shown = f"[{address}]" if address.version == 6 else str(address)
    target = parts._replace(netloc=shown if parts.port is None else f"{shown}:{parts.port}", fragment="")
    headers = {
        "host": parts.netloc.rpartition("@")[2],
        "content-type": "application/json",
        "user-agent": f"dupq/{__version__}",
        "webhook-id": id_,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(key, id_, timestamp, body),
    }
    timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    try:
        with (
            httpx2.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST", target.geturl(), content=body, headers=headers, extensions={"sni_hostname": host}
            ) as answer,
        ):
            wait = answer.headers.get("retry-after", "")
            return answer.status_code, float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 7 else 0.0
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise LaterError(f"{host} did not answer ({type(error).__name__})", 0.0) from error
