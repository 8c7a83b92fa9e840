"""A server under load that is killed by `kill -9` again and again: what was acknowledged and is lost, and what is torn.

Clients put questions, give verdicts and send signed webhooks, and note what is acknowledged. A request without an
answer is sent again until it has one, as a forum does. After each kill, before the next start, the index is verified
and compared with the notes. In the end all jobs have run, and the posts of the webhooks are compared too. A receiver
counts the outgoing events, of which each verdict has exactly one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from benchmarks.service import servers
from benchmarks.service.client import Answer, Connection
from benchmarks.service.ledger import Ledger, Versions, jobs
from dupq.types import Id

SEED = 0
CLIENTS = {"question": 2, "verdict": 2, "post": 2, "flag": 1}
"""Kind of client -> their number."""
REST = {"question": 2.0, "verdict": 0.2, "post": 1.0, "flag": 1.0}
"""Kind of client -> seconds between its requests, so that the jobs of new questions keep up with the requests."""
BATCH = 4
"""Questions of one request."""
EDITED = 0.3
"""Share of the questions and posts that are edited."""
DOUBLED = 0.1
"""Share of the webhooks that the forum sends twice, and of those that come again after a newer one."""
REFUSED = 0.05
"""Share of the outgoing events that the receiver refuses at first."""
PAUSE = 0.2
"""Seconds after a request without an answer."""
DRAIN_SECONDS = 600.0
INSTANCE = "https://forum.example"
DISCOURSE = "/webhooks/discourse"
WORDS = ("river", "stone", "cloud", "garden", "engine", "violin", "harbour", "lantern", "meadow", "compass", "island")


def question(name: str, version: int, draw: random.Random) -> str:
    """Return a text that no other name and version has."""
    first, second = draw.sample(WORDS, 2)
    return f"How do I keep the {first} of a {second} in order, case {name} in version {version}?"


class Receiver:
    """Server that takes outgoing events, and counts them by id."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.events: dict[str, set[str]] = {}
        self._draw = random.Random(SEED)
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, servers.HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:]
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                refused = self._draw.random() < REFUSED
                if not refused:
                    self._take(headers["webhook-id"], json.loads(body))
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % (b"503 Busy" if refused else b"200 OK"))
        writer.close()

    def _take(self, id_: str, body: Any) -> None:
        self.taken[id_] += 1
        if body.get("type") == "verdict":
            # Events of one verdict have its note, and by rights one id.
            self.events.setdefault(str(body["data"]["note"]), set()).add(id_)


class Crash:
    """A server that is killed under load.

    Args:
        folder: For the index and the log; they are made again.
        model: A pipeline; None: the shipped one.
    """

    def __init__(self, folder: Path, model: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("crash.*"):
            file.unlink()
        self.db, self._log, self._model = str(folder / "crash.db"), folder / "crash.log", model
        self._secret = secrets.token_hex(16)
        self.ledger, self.receiver = Ledger(), Receiver()
        self._port, self._token = servers.free_port(), ""
        self._going = True
        self._statuses: Counter[str] = Counter()
        self._starts: list[float] = []

    async def run(self, seconds: float, every: float) -> dict[str, Any]:
        """Kill the server every so many seconds; return counts of what was acknowledged, lost, torn and done twice."""
        from dupq.index.question_index import QuestionIndex
        from dupq.pipeline import DuplicatePipeline

        with QuestionIndex(self.db, DuplicatePipeline.from_pretrained(self._model)):
            pass
        self._token = servers.token_of(self.db)
        await self.receiver.start()
        found = {"kills": 0, "lost": 0, "torn": 0, "twice": 0, "damaged": 0}
        server = await self._start()
        tasks = [
            asyncio.create_task(self._client(kind, f"{kind}-{number}"))
            for kind, count in CLIENTS.items()
            for number in range(count)
        ]
        draw, lost = random.Random(SEED), 0
        try:
            while found["kills"] * every < seconds:
                await self._watched(tasks, every + draw.uniform(0, 1) - 0.5)
                server.kill()
                # Not in a thread: the clients must not write to the ledger meanwhile.
                compared = self.ledger.compare(self.db, posts=False)
                # What one kill has lost is missing after the later ones too.
                found["lost"] += max(0, compared.lost - lost)
                lost = compared.lost
                found["torn"], found["twice"] = max(found["torn"], compared.torn), max(found["twice"], compared.twice)
                found["damaged"] += bool(compared.damage)
                found["kills"] += 1
                server = await self._start()
            self._going = False
            await asyncio.gather(*tasks)
            drained = await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            status = await asyncio.to_thread(server.stop)
            self.receiver.close()
        last = self.ledger.compare(self.db, posts=True)
        states = jobs(self.db)
        events = self.receiver.events
        return {
            **found,
            "acknowledged": self.ledger.writes,
            "acknowledged_verdicts": len(self.ledger.acknowledged),
            "acknowledged_webhooks": sum(post.acknowledged for post in self.ledger.posts.values()),
            "lost": found["lost"] + max(0, last.lost - lost),
            "torn": max(found["torn"], last.torn),
            "twice": max(found["twice"], last.twice) + sum(len(ids) - 1 for ids in events.values()),
            "damaged": found["damaged"] + bool(last.damage),
            "jobs": states,
            "jobs_lost": states.get("dead", 0) + len(self.ledger.acknowledged - events.keys()) + (not drained),
            "events": len(self.receiver.taken),
            "events_delivered_again": sum(count - 1 for count in self.receiver.taken.values()),
            "stop_status": status,
            "statuses": dict(self._statuses),
            "start_s": sorted(self._starts)[len(self._starts) // 2],
            "seed": SEED,
        }

    # ---- the server ---------------------------------------------------------------------------------------------

    async def _start(self) -> servers.Server:
        settings = {
            "discourse_secret": self._secret,
            "webhook_urls": f"http://{servers.HOST}:{self.receiver.port}/",
            "webhook_secret": "whsec_" + b64encode(self._secret.encode()).decode(),
            "allow_private_webhooks": "true",
        }
        server = servers.dupq(self.db, self._token, self._log, self._model, settings, self._port)
        self._starts.append(await asyncio.to_thread(server.until, "GET", "/readyz"))
        return server

    async def _watched(self, tasks: list[asyncio.Task[None]], seconds: float) -> None:
        """Wait; raise the error of a client that failed."""
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def _drain(self) -> bool:
        """Wait until no job waits or runs; return False after ten minutes."""
        end = asyncio.get_running_loop().time() + DRAIN_SECONDS
        while asyncio.get_running_loop().time() < end:
            states = await asyncio.to_thread(jobs, self.db)
            if not states.get("waiting") and not states.get("running"):
                return True
            await asyncio.sleep(0.5)
        return False

    # ---- clients ------------------------------------------------------------------------------------------------

    async def _client(self, kind: str, name: str) -> None:
        """Work until the end; finish what was begun."""
        draw = random.Random(f"{SEED} {name}")
        bearer = {} if kind == "post" else {"Authorization": f"Bearer {self._token}"}
        connection = Connection(servers.HOST, self._port, bearer)
        kinds: dict[str, Callable[[Connection, str, random.Random], Coroutine[Any, Any, None]]] = {
            "question": self._put_questions,
            "verdict": self._give_verdict,
            "post": self._send_post,
            "flag": self._flag,
        }
        number = 0
        while self._going:
            await kinds[kind](connection, f"{name}-{number}", draw)
            number += 1
            if self._going:
                await asyncio.sleep(draw.uniform(0, 2 * REST[kind]))
        connection.close()

    async def _ask(
        self, connection: Connection, method: str, path: str, body: bytes, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request until it is acknowledged.

        Raises:
            RuntimeError: The server refuses it.
        """
        while True:
            try:
                answer = await connection.ask(method, path, body, headers)
            except ConnectionError:
                self._statuses["lost"] += 1
                await asyncio.sleep(PAUSE)
                continue
            self._statuses[str(answer.status)] += 1
            if answer.status < 300:
                return answer
            if answer.status not in (429, 503):
                raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:500]!r}")
            await asyncio.sleep(PAUSE)

    async def _put_questions(self, connection: Connection, name: str, draw: random.Random) -> None:
        names = [f"{name}-{at}" for at in range(BATCH)]
        versions = [1, 2] if draw.random() < EDITED else [1]
        for version in versions:
            texts = [question(each, version, draw) for each in names]
            for each, text in zip(names, texts, strict=True):
                self.ledger.questions.setdefault(each, Versions()).sent.append(text)
            rows = [{"id": each, "text": text} for each, text in zip(names, texts, strict=True)]
            await self._ask(connection, "PUT", "/v1/questions", json.dumps({"questions": rows}).encode())
            for each in names:
                self.ledger.questions[each].acknowledged = version

    async def _give_verdict(self, connection: Connection, name: str, draw: random.Random) -> None:
        known: list[Id] = [id_ for id_, versions in self.ledger.questions.items() if versions.acknowledged]
        if len(known) < 2:
            await asyncio.sleep(PAUSE)
            return
        one, other = draw.sample(known, 2)
        answer = draw.choice(["duplicate", "distinct", "skip"])
        self.ledger.verdicts[name] = (one, other, answer)
        body = {"id1": one, "id2": other, "answer": answer, "note": name, "key": name}
        await self._ask(connection, "POST", "/v1/verdicts", json.dumps(body).encode())
        self.ledger.acknowledged.add(name)

    async def _send_post(self, connection: Connection, name: str, draw: random.Random) -> None:
        topic = len(self.ledger.posts) + 1
        versions = self.ledger.posts.setdefault(f"discourse:forum.example:{topic}", Versions())
        last = 3 if draw.random() < EDITED else 1
        for version in range(1, last + 1):
            title = question(name, version, draw)
            versions.sent.append(title)
            await self._deliver(connection, topic, version, title)
            versions.acknowledged = version
            if draw.random() < DOUBLED:
                # A retry of the forum has a new event id; one of an old version may come late.
                old = draw.randint(1, version)
                await self._deliver(connection, topic, old, versions.sent[old - 1])

    async def _deliver(self, connection: Connection, topic: int, version: int, title: str) -> None:
        event = "post_created" if version == 1 else "post_edited"
        post = {
            "id": 100_000 + topic,
            "topic_id": topic,
            "topic_title": title,
            "topic_slug": f"topic-{topic}",
            "topic_archetype": "regular",
            "post_number": 1,
            "raw": f"Version {version} of the body.",
            "cooked": f"<p>Version {version} of the body.</p>",
            "category_id": 1,
            "version": version,
            "created_at": "2026-01-01T00:00:00.000Z",
            "updated_at": f"2026-01-01T00:{version:02}:00.000Z",
            "username": "ann",
            "deleted_at": None,
            "hidden": False,
        }
        body = json.dumps({"post": post}).encode()
        signature = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "X-Discourse-Instance": INSTANCE,
            "X-Discourse-Event-Id": str(random.getrandbits(31)),
            "X-Discourse-Event-Type": "post",
            "X-Discourse-Event": event,
            "X-Discourse-Event-Signature": f"sha256={signature}",
        }
        await self._ask(connection, "POST", DISCOURSE, body, headers)

    async def _flag(self, connection: Connection, name: str, draw: random.Random) -> None:
        body = json.dumps({"question": question(name, 1, draw)}).encode()
        await self._ask(connection, "POST", "/v1/flag", body)
