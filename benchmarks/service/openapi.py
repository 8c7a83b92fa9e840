"""Requests made from the OpenAPI document of the service, by schemathesis: none may be answered with a server error.

    python -m benchmarks.service.openapi [--cases N] [--seed N]

The service runs in this process, over a pipeline that counts words. Half of the cases are valid by the document, half
are not. In every second one the ids are replaced by those of stored questions, so that requests reach further. Each
answer is checked: no status of 500 or more, a status and a media type that the document has, and a body of its schema.
Results go to `benchmarks/results/service_openapi.json`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis.errors import HypothesisException
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from benchmarks.readme import RESULTS
from dupq import DuplicatePipeline
from dupq.data.writing import write_json
from dupq.service.app import create_app, open_service
from dupq.service.settings import ServiceSettings
from dupq.service.state import Service
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_pairs, labelled_table

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
IDS: tuple[int | str, ...] = (1, 2, "3", "a/b?c#d", "é ü", 7, "7")
ID_NAMES = ("id", "id1", "id2", "canonical", "duplicate")
MAX_FAILURES = 20
"""Failures that are kept with their request."""


@dataclass
class Figures:
    """Counts of a run."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    failed: int = 0

    @property
    def server_errors(self) -> int:
        return sum(count for status, count in self.statuses.items() if status >= 500)

    def to_dict(self) -> dict[str, Any]:
        return {
            "cases": self.cases,
            "server_errors": self.server_errors,
            "failed_checks": self.failed,
            "statuses": {str(status): self.statuses[status] for status in sorted(self.statuses)},
            "operations": {name: dict(sorted(counts.items())) for name, counts in self.operations.items()},
            "failures": self.failures,
        }


@dataclass(frozen=True)
class Served:
    """A service with a few questions, decisions and verdicts, its client, and the secret of an admin."""

    app: FastAPI
    client: TestClient
    secret: str
    service: Service

    def restore(self) -> None:
        """Add the questions that were deleted."""
        texts = list(dict.fromkeys(pair.question1 for pair in labelled_pairs(4)))[: len(IDS)]
        self.service.index.add(IDS, texts, details=[{"tags": ["hobby"], "title": text} for text in texts])


@contextmanager
def served(db: str) -> Iterator[Served]:
    """A service in this process."""
    pipeline = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
    service = open_service(ServiceSettings(db=db, rate_limit=0), pipeline)
    app = create_app(service)
    with TestClient(app, raise_server_exceptions=False) as client:
        found = Served(app, client, service.access.create_token("the admin", "admin"), service)
        found.restore()
        service.index.flag_stored(IDS)
        service.index.verdict(1, 2, "duplicate", by="ann")
        service.index.merge(7, "7", by="ann")
        yield found


def run(served: Served, cases: int, seed: int = 0) -> Figures:
    """Send at least this number of cases, spread evenly over the operations.

    Args:
        served: The service.
        cases: Number of cases.
        seed: Seed of the cases.
    """
    found, chance = Figures(), Random(seed)
    loaded = schemathesis.openapi.from_dict(served.app.openapi())
    plans = [
        (operation.ok(), mode)
        for operation in loaded.get_all_operations()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]
    rounds = 0
    while found.cases < cases:
        before = found.cases
        each = max(1, (cases - found.cases) // len(plans) + 1)
        for operation, mode in plans:
            served.restore()
            _operation(operation, mode, min(each, 500), seed + rounds, found, served, chance)
        rounds += 1
        if found.cases == before:
            break
    return found


def _operation(
    operation: Any,
    mode: GenerationMode,
    cases: int,
    seed: int,
    found: Figures,
    served: Served,
    chance: Random,
) -> None:
    counts = found.operations.setdefault(operation.label, Counter())

    @with_seed(seed)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        if chance.random() < 0.5:
            with_known_ids(case, chance)
        request = case.as_transport_kwargs(base_url="http://testserver")
        request["headers"]["Authorization"] = f"Bearer {served.secret}"
        response = served.client.request(**request)
        found.cases += 1
        found.statuses[response.status_code] += 1
        counts[str(response.status_code)] += 1
        try:
            case.validate_response(response, checks=CHECKS)
        except (Failure, FailureGroup) as error:
            found.failed += 1
            if len(found.failures) < MAX_FAILURES:
                body = {name: repr(request.get(name))[:300] for name in ("params", "json", "data")}
                request_line = f"{request['method']} {request['url']}"
                found.failures.append({"request": request_line, **body, "problem": str(error)[:500]})

    try:
        send()
    except HypothesisException:
        if mode is GenerationMode.POSITIVE:
            raise
        # An operation without parameters has no invalid request.


def with_known_ids(case: Any, chance: Random) -> None:
    """Replace the ids of a case by those of stored questions."""
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            for name in part:
                if name in ID_NAMES and (part is case.body or not isinstance(part[name], list)):
                    id_ = chance.choice(IDS)
                    part[name] = id_ if part is case.body else str(id_)
            if isinstance(part.get("ids"), list):
                part["ids"] = chance.sample(IDS, chance.randint(1, len(IDS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000, help="requests to send at least (default: 20000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the requests (default: 0)")
    parser.add_argument("-o", "--output", default=str(RESULTS / "service_openapi.json"))
    args = parser.parse_args()
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        served(str(Path(folder) / "forum.db")) as service,
    ):
        found = run(service, args.cases, args.seed)
    print(
        f"{found.cases:,} cases in {time.monotonic() - start:.0f} s: {found.server_errors} server errors, "
        f"{found.failed} failed checks"
    )
    write_json(
        args.output,
        {
            "command": "python -m benchmarks.service.openapi",
            "schemathesis": schemathesis.__version__,
            "checks": [check.__name__ for check in CHECKS],
            "seed": args.seed,
            **found.to_dict(),
        },
    )


if __name__ == "__main__":
    main()
