"""Work of the service that outlives a request: adding questions, deciding them, and sending events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dupq.index.stores.base import NewQuestion, Written

if TYPE_CHECKING:
    from dupq.service.state import Service


def add_questions(service: Service, questions: Sequence[NewQuestion], *, decide: bool) -> Written:
    """Add questions to the index, and store jobs that decide those that are not decided.

    Call it in a thread that may wait: it blocks until the model has embedded the new texts.

    Args:
        service: The service.
        questions: The questions; a date, reach or details of None stay as they are stored.
        decide: Decide them against all others.

    Raises:
        InputError: A question cannot be stored; nothing is stored then.
    """
    ids = [question.id for question in questions]
    return service.index.add(
        ids,
        [question.text for question in questions],
        created=[question.created for question in questions],
        reach=[1.0 if question.reach is None else question.reach for question in questions],
        details=[question.details for question in questions],
    )


def register(service: Service) -> None:
    """Name the functions that do the jobs of each kind."""
