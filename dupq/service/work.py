"""Work that outlives a request: adding and deciding questions, sending events.

Order of writes. Questions are written first, then the job that decides them, then the caller is answered. A crash
before the answer leaves questions without a job; the caller repeats the call, which finds them undecided and adds the
job. Handlers do the same when their job is run again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dupq.errors import InputError
from dupq.index.flags import Flag, FlagReport
from dupq.index.new_questions import checked_questions
from dupq.index.stores.base import NewQuestion, StoredQuestion, Written
from dupq.models.batching import chunks
from dupq.service.webhooks.outgoing import check_receivers, deliver, delivery_kinds, emit
from dupq.service.webhooks.posts import compose, find_post, settle
from dupq.types import Id

if TYPE_CHECKING:
    from dupq.service.state import Service

CHUNK = 32
"""Questions that are added as one unit of the model's thread, and decided by one job."""


def register(service: Service) -> None:
    """Name the functions that do the jobs of each kind.

    Raises:
        InputError: The settings of outgoing webhooks are wrong.
    """
    check_receivers(service.settings)
    jobs = service.jobs
    jobs.handle("upsert", lambda payload: follow_post(service, payload))
    jobs.handle("delete", lambda payload: follow_post(service, payload))
    jobs.handle("decide", lambda payload: decide(service, payload))
    for kind in delivery_kinds(service):
        jobs.handle(kind, lambda payload: deliver(service, payload), lane="events")
    jobs.observe = lambda kind, outcome: service.metrics.jobs.labels(kind.partition(":")[0], outcome).inc()


def add_questions(service: Service, questions: Sequence[NewQuestion], *, decide: bool) -> Written:
    """Add questions to the index, and store jobs that decide the undecided ones.

    Call it in a thread that may wait: it blocks until the model has embedded the new texts. Requests go before.

    Args:
        service: The service.
        questions: The questions; a date, reach or details of None stay as they are stored.
        decide: Decide them against all others.

    Raises:
        InputError: A question cannot be stored; nothing is stored then.
        OutputError: As `QuestionIndex.add`; what was stored stays, and the same call completes it.
    """
    rows, repeated = checked_questions(
        [question.id for question in questions],
        [question.text for question in questions],
        created=[question.created for question in questions],
        reach=[1.0 if question.reach is None else question.reach for question in questions],
        details=[question.details for question in questions],
    )
    given = {question.id: question.reach for question in questions}
    rows = [NewQuestion(row.id, row.text, row.created, given[row.id], row.details) for row in rows]
    total = Written(repeated=repeated)
    for part in chunks(len(rows), CHUNK):
        written = service.executor.call(partial(_put, service, rows[part], decide))
        total.added += written.added
        total.replaced += written.replaced
        total.unchanged += written.unchanged
    return total


def _put(service: Service, rows: Sequence[NewQuestion], decide: bool) -> Written:
    """Write some questions and the job that decides them, in the thread of the model."""
    ids = [row.id for row in rows]
    reach = None
    if any(row.reach is not None for row in rows):
        stored = service.index.questions(ids)
        kept = {id_: question.reach for id_, question in stored.items()}
        reach = [kept.get(row.id, 1.0) if row.reach is None else row.reach for row in rows]
    written = service.index.add(
        ids,
        [row.text for row in rows],
        created=[row.created for row in rows],
        reach=reach,
        details=[row.details for row in rows],
    )
    if decide and (slots := _undecided(service, ids)):
        # A slot is a text of a question, so a text has one job of a pipeline however often it is sent.
        content = [service.pipeline.fingerprint, *map(str, sorted(slots))]
        name = hashlib.sha256(",".join(content).encode()).hexdigest()[:32]
        service.jobs.add("decide", f"decide:{name}", {"ids": [*slots.values()]})
    return written


def _undecided(service: Service, ids: Sequence[Id]) -> dict[int, Id]:
    """Return slot -> id of the stored questions that the pipeline has not decided."""
    with service.store.reading() as view:
        slots = {question.slot: id_ for id_, question in view.find(ids).items()}
        marks = ",".join("?" * len(slots))
        done = view.session.run(
            f"SELECT slot FROM questions WHERE slot IN ({marks}) AND decided=?", (*slots, service.pipeline.fingerprint)
        )
    return {slot: id_ for slot, id_ in slots.items() if (slot,) not in set(done)}


# ---- posts of forums ----------------------------------------------------------------------------------------------


def follow_post(service: Service, payload: Mapping[str, Any]) -> None:
    """Bring the index to the state of a post.

    The table leases one job on a post at a time, to whatever process, so two never mix, and the later state stays.
    """
    id_: Id = payload["id"]
    service.executor.call(lambda: _follow(service, id_))


def _follow(service: Service, id_: Id) -> None:
    post = find_post(service.store, id_)
    if post is None:
        return
    stored = service.index.questions([id_]).get(id_)
    if not post.wanted:
        if stored is not None:
            # A hidden post may be shown again by an event that has no text.
            kept = {**_fields(stored), **(post.pending or {})}
            if not post.deleted and not settle(service.store, id_, post.number, kept):
                return  # it has changed meanwhile, and the job of that change needs the stored fields
            service.index.remove([id_])
        return
    if not post.pending:
        return
    question = compose(id_, post.pending, stored, service.settings)
    if question is not None:
        _put(service, [question], service.settings.decide_new)
        # Fields of a post that has changed meanwhile stay pending; the job of that change follows this one.
        settle(service.store, id_, post.number, None)


def _fields(question: StoredQuestion) -> dict[str, Any]:
    return {"title": question.text, "created": question.created, **(question.details or {})}


# ---- decisions ----------------------------------------------------------------------------------------------------


def decide(service: Service, payload: Mapping[str, Any]) -> None:
    """Decide stored questions against all others, and send events.

    One event is sent for each pair that is decided "duplicate".
    """
    ids: list[Id] = payload["ids"]
    for part in chunks(len(ids), service.executor.flagged_at_once()):
        for report, id_ in _decided(service, ids[part]):
            emit_flags(service, id_, report)


def _decided(service: Service, ids: Sequence[Id]) -> list[tuple[FlagReport, Id]]:
    """Return the reports on those of the questions that are still stored."""
    while True:
        stored = service.index.questions(ids)
        left = [id_ for id_ in ids if id_ in stored]
        if not left:
            return []
        try:
            reports = service.executor.call(partial(service.index.flag_stored, left))
        except InputError:
            if len(service.index.questions(left)) == len(left):
                raise
            continue  # one was removed meanwhile
        return list(zip(reports, left, strict=True))


def emit_flags(service: Service, id_: Id, report: FlagReport) -> None:
    """Send one event for each pair of a stored question that is decided "duplicate"."""
    if not service.settings.webhook_urls or not report.duplicates:
        return
    stored = service.index.questions([id_, *(flag.id for flag in report.duplicates)])
    question = stored.get(id_)
    if question is None or question.text != report.question:
        return  # a later job decides the new text
    for flag in report.duplicates:
        other = stored.get(flag.id)
        if other is None or other.text != flag.text:
            continue
        # Slots number texts: one event for each pair of texts, from whichever side it was decided.
        low, high = sorted((question.slot, other.slot))
        emit(service, "flagged", key=f"flagged:{low}:{high}", data=flag_data(service, question, flag, report))


def flag_data(service: Service, question: StoredQuestion, flag: Flag, report: FlagReport) -> dict[str, Any]:
    """Return the data of the event `flagged`."""
    return {
        "id": question.id,
        "text": question.text,
        "url": (question.details or {}).get("url"),
        "duplicate_id": flag.id,
        "duplicate_text": flag.text,
        "copy": flag.copy,
        "cosine": flag.cosine,
        "probability": flag.probability,
        "decision": str(flag.decision),
        "threshold": report.decider.threshold,
        "guarantee": report.guarantee,
        "base_rate": report.decider.base_rate,
        "model": service.pipeline.fingerprint,
        "warnings": [
            {"kind": warning.kind, "message": warning.message} for warning in (*report.warnings, *flag.warnings)
        ],
    }
