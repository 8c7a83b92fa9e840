"""Verdicts and undos from forms, and the merges that come with them.

A change of the canonical question needs a merge.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from dupq.index.review import ReviewItem
from dupq.index.stores.base import StoredVerdict
from dupq.index.verdicts import merge_key
from dupq.service.api import answers
from dupq.service.pages.pair import read_signed
from dupq.service.pages.posts import url_id
from dupq.service.sessions import Session
from dupq.service.state import Service
from dupq.service.webhooks.outgoing import emit


class VerdictForm(BaseModel):
    """Form of a verdict.

    Attributes:
        id1, id2: Names of the two questions.
        answer: "duplicate", "distinct" or "skip".
        expected: Number of the last row of the pair that the page has shown.
        texts: The two texts that it has shown, by their slots.
        shown: Why it was shown, signed.
        key: Unique name of the verdict.
        keep, proposed: Names of the canonical question as chosen, and as it was proposed.
        note: Text of the moderator.
        back: Query of the filters.
        at: Place in the run.
    """

    id1: str
    id2: str
    answer: str
    expected: int = Field(ge=0)
    texts: str = Field("", pattern=r"^([1-9][0-9]{0,17}-[1-9][0-9]{0,17})?$")
    shown: str = ""
    key: str = Field(min_length=8, max_length=100)
    keep: str = ""
    proposed: str = ""
    note: str = ""
    back: str = ""
    at: int = 0

    @property
    def slots(self) -> tuple[int, int] | None:
        """Slots of the two texts; None if the form names none."""
        one, _, other = self.texts.partition("-")
        return (int(one), int(other)) if other else None


def give_verdict(service: Service, session: Session, item: ReviewItem, form: VerdictForm) -> StoredVerdict:
    """Record a verdict, and the merge if another question is to be kept.

    It returns the row of the verdict.

    Raises:
        ConflictError: The pair has got another row since the page was made, or another text, and `rows` is empty.
        InputError: The answer or the note is bad.
    """
    by, pair = session.caller.name, (item.question, item.other)
    chosen = read_signed(session, item, form.shown)
    row = service.index.verdict(
        pair[0].id,
        pair[1].id,
        form.answer,
        by=by,
        sampled=item.sampled if chosen else None,
        chosen=chosen,
        note=form.note.strip(),
        expected=form.expected,
        slots=form.slots,
        key=form.key,
    )
    emit(service, "verdict", f"verdict:{row.number}", answers.verdict(row))
    kept = [question for question in pair if url_id(question.id) == form.keep]
    if form.answer == "duplicate" and kept and form.keep != form.proposed:
        other = pair[1] if kept[0] is pair[0] else pair[0]
        number = service.index.merge(kept[0].id, other.id, by=by, note=form.note.strip(), key=merge_key(row))
        data = {"number": number, "canonical": kept[0].id, "duplicate": other.id, "by": by, "note": form.note.strip()}
        emit(service, "merged", f"merged:{number}", data)
    return row


def undo_verdict(service: Service, session: Session, number: int | None, key: str) -> StoredVerdict:
    """Take back a verdict of the caller, and the merge that came with it.

    It returns the verdict that was taken back.

    Args:
        service: The service.
        session: Of the caller.
        number: Number of the verdict; None: the last one of the caller that stands.
        key: Unique name of the undo.

    Raises:
        InputError: There is no such verdict, it was taken back already, or it is another moderator's.
    """
    undo = service.index.undo(number, by=session.caller.name, key=key)
    with service.store.reading() as view:
        row = view.verdicts_where("v.number=?", (undo.undoes,))[0]
    emit(service, "verdict", f"verdict:{undo.number}", answers.verdict(undo))
    return row
