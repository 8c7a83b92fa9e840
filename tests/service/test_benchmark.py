"""The figures of `benchmarks.service`: that they count what they state, and that a run goes on where it stopped."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.service import __main__ as benchmark
from benchmarks.service import crash, tables
from benchmarks.service.client import Connection
from benchmarks.service.ledger import Ledger, Versions, jobs
from benchmarks.service.load import HASTE, OBEY, Load, offer
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder

# ---- clients --------------------------------------------------------------------------------------------------------


async def listening(answers: Callable[[bytes, bytes], bytes]) -> asyncio.Server:
    """A server that answers a head and a body with what `answers` returns; b"" closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                answer = answers(head, await reader.readexactly(size))
                if not answer:
                    break
                writer.write(answer)
        except EOFError:
            pass
        finally:
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def test_a_connection_is_kept_and_is_opened_again_when_it_is_lost() -> None:
    seen: list[tuple[bytes, bytes]] = []

    def answer(head: bytes, body: bytes) -> bytes:
        seen.append((head, body))
        return b"" if body == b"fail" else b"HTTP/1.1 200 OK\r\nX-Name: a\r\nContent-Length: 2\r\n\r\nok"

    async def run() -> None:
        server = await listening(answer)
        connection = Connection("127.0.0.1", port_of(server), {"Authorization": "Bearer x"})
        assert await connection.ask("POST", "/a", b"1") == (200, {"x-name": "a", "content-length": "2"}, b"ok")
        with pytest.raises(ConnectionError, match="no answer"):
            await connection.ask("POST", "/a", b"fail")
        assert (await connection.ask("PUT", "/b", headers={"X-Other": "b"})).status == 200
        connection.close()
        server.close()

    asyncio.run(run())
    assert seen[0][0].startswith(b"POST /a HTTP/1.1\r\n")
    assert b"Authorization: Bearer x\r\n" in seen[0][0]
    assert [body for _, body in seen] == [b"1", b"fail", b"fail", b""]  # once more, on a connection of its own
    assert b"X-Other: b\r\n" in seen[3][0]


@pytest.mark.parametrize("refused", [OBEY, HASTE])
def test_a_load_counts_what_is_answered_and_what_is_refused(refused: str, tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_text('{"number": 1}\n{"number": 2}', encoding="utf-8")
    counts = {b'{"number": 1}': 0, b'{"number": 2}': 0}

    def answer(head: bytes, body: bytes) -> bytes:
        counts[body] += 1
        if body == b'{"number": 1}':
            return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        return b"HTTP/1.1 429 Busy\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"

    async def run() -> dict[str, Any]:
        server = await listening(answer)
        load = Load("127.0.0.1", port_of(server), "/", str(bodies), clients=2, seconds=1.0, refused=refused)
        found = await offer(load)
        server.close()
        return found

    found = asyncio.run(run())
    assert found["statuses"]["200"] == found["count"] >= 1
    assert found["statuses"]["200"] <= counts[b'{"number": 1}']
    assert found["per_second"] == found["count"]
    assert found["refused"]["count"] == found["statuses"]["429"]
    # Each client that waits a minute is refused at most once.
    assert (found["statuses"]["429"] <= 2) == (refused == OBEY)
    assert 0 <= found["load_cpu_share"] <= 1.5


# ---- what was acknowledged ------------------------------------------------------------------------------------------


def words() -> DuplicatePipeline:
    return DuplicatePipeline(bi_encoder=WordEmbedder())


@pytest.fixture
def index(tmp_path: Path) -> Any:
    with QuestionIndex(tmp_path / "forum.db", words()) as found:
        found.add(["a", "b", "p"], ["first a", "first b", "first p"])
        yield found


@pytest.fixture
def ledger(index: QuestionIndex) -> Ledger:
    """A ledger that agrees with the index."""
    found = Ledger()
    found.questions = {"a": Versions(["first a"], 1), "b": Versions(["first b"], 1)}
    found.posts = {"p": Versions(["first p"], 1)}
    index.verdict("a", "b", "distinct", by="ann", note="v1", key="v1")
    found.verdicts = {"v1": ("b", "a", "distinct")}
    found.acknowledged = {"v1"}
    return found


def compared(ledger: Ledger, index: QuestionIndex, *, posts: bool = True) -> tuple[int, int, int]:
    found = ledger.compare(index.location, posts=posts)
    assert found.damage == []
    return found.lost, found.torn, found.twice


def test_an_index_that_holds_everything_has_no_faults(ledger: Ledger, index: QuestionIndex) -> None:
    assert compared(ledger, index) == (0, 0, 0)
    assert ledger.writes == 4
    ledger.questions["a"].sent.append("second a")  # on its way: either text is right
    assert compared(ledger, index) == (0, 0, 0)
    index.add(["a"], ["second a"])
    assert compared(ledger, index) == (0, 0, 0)


def test_lost_writes_are_counted(ledger: Ledger, index: QuestionIndex) -> None:
    ledger.questions["a"] = Versions(["first a", "second a"], 2)  # an older text is there
    ledger.questions["c"] = Versions(["first c"], 1)
    ledger.questions["d"] = Versions(["first d"], 0)  # was not acknowledged
    ledger.posts["q"] = Versions(["first q"], 1)
    ledger.verdicts["v2"] = ("a", "b", "skip")
    ledger.acknowledged.add("v2")
    assert compared(ledger, index) == (4, 0, 0)
    # The job of a post may still have to run.
    assert compared(ledger, index, posts=False) == (3, 0, 0)


def test_torn_and_doubled_writes_are_counted(ledger: Ledger, index: QuestionIndex) -> None:
    index.add(["a", "z"], ["another text", "of nobody"])
    index.verdict("a", "b", "duplicate", by="ann", note="v1", key="again")
    lost, torn, twice = compared(ledger, index)
    assert (lost, torn) == (0, 3)
    assert twice == 3  # a verdict, and two texts that no client has sent


def test_jobs_are_counted_by_state(tmp_path: Path, index: QuestionIndex) -> None:
    from dupq.index.stores import open_store
    from dupq.service.jobs import Jobs
    from dupq.service.tables import prepare_tables

    store = open_store(index.location)
    prepare_tables(store)
    table = Jobs(store)
    assert table.add("kind", "one", {})
    assert table.add("kind", "two", {})
    store.close()
    assert jobs(index.location) == {"waiting": 2, "started_again": 0}


def test_the_receiver_counts_events_by_id() -> None:
    async def run() -> crash.Receiver:
        receiver = crash.Receiver()
        await receiver.start()
        connection = Connection("127.0.0.1", receiver.port)
        for id_, note in (("e1", "v1"), ("e1", "v1"), ("e2", "v2"), ("e3", "v2")):
            body = json.dumps({"type": "verdict", "data": {"note": note}}).encode()
            while (await connection.ask("POST", "/", body, {"webhook-id": id_})).status != 200:
                pass
        connection.close()
        receiver.close()
        return receiver

    receiver = asyncio.run(run())
    assert receiver.taken == {"e1": 2, "e2": 1, "e3": 1}
    assert receiver.events == {"v1": {"e1"}, "v2": {"e2", "e3"}}


# ---- a run ----------------------------------------------------------------------------------------------------------


def options(tmp_path: Path, **others: Any) -> argparse.Namespace:
    defaults = {
        "scratch": tmp_path,
        "output": tmp_path / "service.json",
        "only": None,
        "leave_out": None,
        "base": None,
        "questions": 60,
        "seconds": 0.5,
        "starts": 1,
        "minutes": 0.1,
        "kill_every": 3.0,
        "model": None,
        "clusters": 60,
    }
    return argparse.Namespace(**{**defaults, **others})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make few questions more than are stored, and restore the variable that a benchmark sets."""
    monkeypatch.setattr(benchmark, "EXTRA", 20)
    monkeypatch.setenv("DUPQ_CACHE", str(tmp_path))


@pytest.mark.usefixtures("small")
def test_a_later_run_measures_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DuplicatePipeline, "from_pretrained", lambda *_, **__: words())
    calls: list[str] = []

    def figure(name: str) -> dict[str, Any]:
        calls.append(name)
        return {"value": name}

    for _ in range(2):
        run = benchmark.Benchmark(options(tmp_path, leave_out=[["baseline/flag", "it takes hours"]]))
        for server in benchmark.SERVERS:
            run.measure(server, "flag", lambda server=server: figure(server))
    assert calls == ["dupq"]
    held = json.loads((tmp_path / "service.json").read_text(encoding="utf-8"))["servers"]
    assert held["dupq"]["flag"]["value"] == "dupq"
    assert held["baseline"]["flag"] == {"left_out": "it takes hours"}
    # Results of another number of questions are not those of this one.
    assert benchmark.Benchmark(options(tmp_path, questions=50)).report["servers"] == {}
    bodies = benchmark.request_bodies(run.corpus, 60)
    assert {len(body["pairs"]) for body in bodies["score_32"]} == {32}
    assert {len(body["pairs"]) for body in bodies["score_1"]} == {1}
    assert len({body["question"] for body in bodies["flag"]}) > 1


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_the_tables_have_both_servers_and_the_reasons() -> None:
    def load(rate: float, **statuses: int) -> dict[str, Any]:
        found = {"per_second": rate, "p50_ms": 12.4, "p99_ms": 33.6, "load_cpu_share": 0.04}
        return {**found, "statuses": {name[1:]: count for name, count in statuses.items()}}

    loads = {"clients": {"1": load(80.0, s200=9), "8": load(1234.56, s200=9, s500=7)}, "peak_mb": 512.3}
    busy = {
        **load(90.0, s200=10, s429=30, slost=6, s500=2),
        "refused": {"p50_ms": 1.0, "p99_ms": 9.0},
        "refused_share": 0.75,
        "least_mb": 400.0,
        "most_mb": 404.0,
        "last_less_first_mb": 0.26,
    }
    start = {"ready_s": 1.52, "score_s": 1.61, "flag_s": 1.7, "resident_mb": 300.0}
    crashed = {
        **dict.fromkeys(("lost", "torn", "jobs_lost", "twice", "damaged"), 0),
        "minutes": 10.0,
        "kills": 20,
        "acknowledged": 12_345,
        "jobs": {"done": 100, "started_again": 7},
        "events_delivered_again": 3,
    }
    ours = {**dict.fromkeys(("score_1", "flag"), loads), "start": start, "crash": crashed}
    results = {
        "settings": {"questions": 100_000},
        "machine": {"cores": 2},
        "servers": {
            "dupq": {**ours, "pressure": {"retry_after": {**busy, "refused": None}, "at_once": busy}},
            "baseline": {"score_1": loads, "flag": {"left_out": "too slow"}, "start": {**start, "score_s": 9.0}},
        },
    }
    del results["servers"]["baseline"]["start"]["ready_s"]
    text = tables.loads(results)
    assert "| `/v1/score`, 1 pair | 8 | 1,234.6 | 12 / 34 | 1,234.6 | 12 / 34 |" in text
    assert "| `/v1/flag` | 1 | 80.0 | 12 / 34 | - | - |" in text
    assert "100,000 stored questions; 2 processor cores, of which the load generator used at most 4% of one." in text
    assert "dupq answered 14 requests with an error. FastAPI and sentence-transformers answered 7 requests" in text
    assert "FastAPI and sentence-transformers, `/v1/flag`: left out; too slow." in text
    assert "| dupq | 1.5 | 1.6 | 1.7 | 300 | 512 | - | 512 |" in tables.starts(results)
    assert "| FastAPI and sentence-transformers | - | 9.0 | 1.7 | 300 | 512 | - | - |" in tables.starts(results)
    rows = tables.pressure(results).splitlines()
    assert rows[2] == "| dupq | wait for Retry-After | 90.0 | 12 / 34 | 75% | 6 | 2 | - | 400 to 404 | +0.3 |"
    assert rows[3] == "| dupq | ask again after 0.1 s | 90.0 | 12 / 34 | 75% | 6 | 2 | 1 / 9 | 400 to 404 | +0.3 |"
    assert "| 10 | 20 | 12,345 | 0 | 0 | 0 | 0 | 0 | 7 | 3 |" in tables.crashes(results)
    assert tables.capacity(results).startswith("One process answered 80.0 to 1,234.6 flags a second among 100,000")
    assert tables.latency(results).startswith("On 2 processor cores, a single client waits 12 ms for a flag")
    for table in (tables.loads, tables.starts, tables.pressure, tables.crashes, tables.capacity, tables.latency):
        assert table({}) == tables.NOT_MEASURED


# ---- the whole, with the shipped model ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_every_figure_of_a_small_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "CLIENTS", (1, 2))
    monkeypatch.setattr(benchmark, "PRESSURE_CLIENTS", 4)
    benchmark.Benchmark(options(tmp_path)).run()
    held = json.loads((tmp_path / "service.json").read_text(encoding="utf-8"))["servers"]
    for server in benchmark.SERVERS:
        assert held[server]["start"]["score_s"] > 0
        for kind in benchmark.LOADS:
            assert {*held[server][kind]["clients"]["2"]["statuses"]} <= {"200"}  # none on a machine that is busy
    crashed = held["dupq"]["crash"]
    assert crashed["kills"] == 2
    assert crashed["acknowledged"] > 0
    assert {crashed[name] for name in ("lost", "torn", "jobs_lost", "twice", "damaged")} == {0}
