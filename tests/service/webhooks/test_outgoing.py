"""Outgoing events: their signature, the addresses they may go to, and what becomes of refusals."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dupq.errors import InputError
from dupq.service.job_table import DeadJobError, LaterError
from dupq.service.state import Service
from dupq.service.webhooks import outgoing
from dupq.service.webhooks.outgoing import decoded_secret, deliver, emit, is_public, post, sign

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
Open = Callable[..., tuple[Service, TestClient]]


class Receiver:
    """A server on this machine that keeps what it gets."""

    def __init__(self) -> None:
        self.status = 204
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                sent = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, sent, body))
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def sending(open_: Open, receiver: Receiver) -> Service:
    """A service with one receiver, whose jobs run only when a test runs them."""
    url = f"http://localhost:{receiver.port}/hook?token=hidden"
    return open_(workers=0, webhook_urls=(url,), webhook_secret=SECRET, allow_private_webhooks=True)[0]


def verified(headers: dict[str, str], body: bytes) -> Any:
    """Check a request as a receiver does by the specification of Standard Webhooks; return its JSON."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}".encode()
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"].split(" ")[0] == f"v1,{expected}"
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return json.loads(body)


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of the specification's own libraries (standard-webhooks, `libraries/python/tests`)."""
    key = decoded_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%%%", "whsec_c2hvcnQ=", base64.b64encode(KEY).decode()])
def test_a_bad_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(InputError, match="webhook_secret must be") as error:
        decoded_secret(secret)
    assert not secret or len(secret) < 10 or secret not in str(error.value)


def test_an_event_arrives_once_and_signed(sending: Service, receiver: Receiver) -> None:
    for _ in range(2):
        emit(sending, "verdict", "verdict:1", {"id": 7, "answer": "duplicate", "text": "é"})
    (job,) = sending.jobs.list()
    assert job.kind == f"deliver:{outgoing.receiver(sending.settings.webhook_urls[0])}"
    assert "hidden" not in json.dumps(job.payload)
    deliver(sending, job.payload)
    deliver(sending, job.payload)
    (path, headers, body), (_, again, _) = receiver.requests
    assert path == "/hook?token=hidden"
    assert headers["host"] == f"localhost:{receiver.port}"
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == again["webhook-id"], "a retry has the same id, so the receiver knows it"
    event = verified(headers, body)
    assert event["type"] == "verdict"
    assert event["data"] == {"id": 7, "answer": "duplicate", "text": "é"}


def test_a_refusal_is_retried_later(sending: Service, receiver: Receiver) -> None:
    emit(sending, "merged", "merge:1", {})
    (job,) = sending.jobs.list()
    receiver.status, receiver.headers = 503, {"retry-after": "120"}
    with pytest.raises(LaterError, match="localhost answered 503") as error:
        deliver(sending, job.payload)
    assert error.value.seconds == 120
    receiver.headers = {"retry-after": "soon"}
    with pytest.raises(LaterError):
        deliver(sending, job.payload)


def test_a_redirect_is_not_followed(sending: Service, receiver: Receiver) -> None:
    emit(sending, "merged", "merge:1", {})
    receiver.status, receiver.headers = 307, {"location": f"http://localhost:{receiver.port}/other"}
    with pytest.raises(LaterError, match="answered 307"):
        deliver(sending, sending.jobs.list()[0].payload)
    assert [path for path, _, _ in receiver.requests] == ["/hook?token=hidden"]


def test_a_receiver_that_is_gone_gets_nothing_until_a_job_is_retried(sending: Service, receiver: Receiver) -> None:
    emit(sending, "merged", "merge:1", {})
    (job,) = sending.jobs.list()
    receiver.status = 410
    with pytest.raises(DeadJobError, match="410"):
        deliver(sending, job.payload)
    emit(sending, "merged", "merge:2", {})
    assert len(sending.jobs.list()) == 1
    receiver.status = 200
    deliver(sending, job.payload)
    emit(sending, "merged", "merge:3", {})
    assert len(sending.jobs.list()) == 2


def test_an_address_that_left_the_settings_is_dropped(sending: Service) -> None:
    with pytest.raises(DeadJobError, match="no longer in the settings"):
        deliver(sending, {"receiver": "0" * 16, "key": "x", "body": {}})


def test_a_dead_port_and_an_unknown_name_are_retried(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(LaterError, match="did not answer"):
            post(f"http://127.0.0.1:{held.getsockname()[1]}/", "msg", b"{}", KEY, True)

    def unknown(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(LaterError, match="has no address"):
        post("https://nowhere.example/", "msg", b"{}", KEY, True)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::"),
    ],
)
def test_private_addresses_are_known_in_all_their_forms(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


def test_public_addresses_are_public() -> None:
    for address in ("8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"):
        assert is_public(ipaddress.ip_address(address))


def resolving(*addresses: str) -> Callable[..., Any]:
    return lambda *args, **options: [(0, 0, 0, "", (address, 0)) for address in addresses]


def test_a_private_address_is_refused_unless_it_is_allowed(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://localhost:{receiver.port}/"
    with pytest.raises(DeadJobError, match="localhost has a private address"):
        post(url, "msg", b"{}", KEY, False)
    assert receiver.requests == []
    assert post(url, "msg", b"{}", KEY, True) == (204, 0.0)
    monkeypatch.setattr(socket, "getaddrinfo", resolving("127.0.0.1"))
    with pytest.raises(DeadJobError, match="private address"):
        post("https://looks-public.example/", "msg", b"{}", KEY, False)


def test_plain_http_goes_to_private_addresses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolving("8.8.8.8"))
    for allowed in (False, True):
        with pytest.raises(DeadJobError, match="must begin with https"):
            post("http://forum.example/", "msg", b"{}", KEY, allowed)


def test_a_name_is_resolved_once_and_the_checked_address_is_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, *args: Any, **options: Any) -> Any:
        # The second answer for the name would lead elsewhere.
        if host == "rebinding.example":
            asked.append(host)
            return resolving("127.0.0.1" if len(asked) == 1 else "10.0.0.1")()
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert post(f"http://rebinding.example:{receiver.port}/x", "msg", b"{}", KEY, True)[0] == 204
    assert asked == ["rebinding.example"]
    assert receiver.requests[0][1]["host"] == f"rebinding.example:{receiver.port}"


def test_tls_checks_the_name_and_not_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2

    seen: list[Any] = []

    def stream(self: Any, method: str, url: str, **options: Any) -> Any:
        seen.append((url, options["extensions"], options["headers"]["host"]))
        raise httpx2.ConnectError("stopped")

    monkeypatch.setattr(httpx2.Client, "stream", stream)
    monkeypatch.setattr(socket, "getaddrinfo", resolving("10.0.0.1", "2606:4700::1111"))
    with pytest.raises(LaterError):
        post("https://forum.example/hook?x=1#part", "msg", b"{}", KEY, False)
    assert seen == [
        ("https://[2606:4700::1111]/hook?x=1", {"sni_hostname": "forum.example"}, "forum.example"),
    ]


def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert post(f"http://localhost:{receiver.port}/", "msg", b"{}", KEY, True)[0] == 204


def test_jobs_deliver_by_themselves(open_: Open, receiver: Receiver) -> None:
    url = f"http://localhost:{receiver.port}/hook"
    service, _ = open_(webhook_urls=(url,), webhook_secret=SECRET, allow_private_webhooks=True)
    emit(service, "flagged", "flagged:1:2", {"id": 1})
    end = time.monotonic() + 60
    while service.jobs.counts()["done"] < 1:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert verified(*receiver.requests[0][1:])["type"] == "flagged"
    assert outgoing.receiver(url) in service.jobs.list()[0].key
