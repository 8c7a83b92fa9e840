"""What clients have sent and what was acknowledged, compared with what an index holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from dupq.index.question_index import QuestionIndex
from dupq.index.stores import open_store
from dupq.types import Id

Fields = tuple[Id, Id, str]
"""Two ids and the answer of a verdict."""


@dataclass
class Versions:
    """Texts of one question, in the order in which they were sent.

    Attributes:
        sent: The texts.
        acknowledged: Number of the first texts of `sent` whose last one was acknowledged.
    """

    sent: list[str] = field(default_factory=list)
    acknowledged: int = 0


@dataclass
class Found:
    """Faults of an index.

    Attributes:
        lost: Acknowledged questions and verdicts that are not there, or are there in an older version.
        torn: Questions and verdicts with fields that no client has sent.
        twice: Verdicts that are there twice, and texts that were written more often than they were sent.
        damage: Lines of `dupq index verify`.
    """

    lost: int
    torn: int
    twice: int
    damage: list[str]


class Ledger:
    """Questions, posts and verdicts that clients have sent.

    A question is acknowledged when it is stored; a post of a webhook when its job is. Each has a name in its note or
    text that nothing else has.
    """

    def __init__(self) -> None:
        self.questions: dict[Id, Versions] = {}
        self.posts: dict[Id, Versions] = {}
        self.verdicts: dict[str, Fields] = {}
        self.acknowledged: set[str] = set()

    @property
    def writes(self) -> int:
        """Number of acknowledged writes."""
        versions = [*self.questions.values(), *self.posts.values()]
        return sum(version.acknowledged for version in versions) + len(self.acknowledged)

    def compare(self, where: str, *, posts: bool) -> Found:
        """Compare with an index that nobody writes to.

        Args:
            where: The index.
            posts: Compare the posts of webhooks too, whose jobs have ended.
        """
        with QuestionIndex(where) as index:
            damage = index.verify()
            with index._store.reading() as view:
                stored = {row.id: row.text for row, _ in view.rows()}
                verdicts = view.verdicts()
                slots = view._counter("slot")
        lost = torn = 0
        for id_, versions in {**self.questions, **(self.posts if posts else {})}.items():
            text = stored.get(id_)
            if text is None:
                lost += versions.acknowledged > 0
            elif text not in versions.sent:
                torn += 1
            elif text not in versions.sent[max(0, versions.acknowledged - 1) :]:
                lost += 1
        torn += len(stored.keys() - self.questions.keys() - self.posts.keys())
        lost += len(self.acknowledged - {row.note for row in verdicts})
        torn += sum(not self._is_as_sent(row.note, (row.id, row.other, row.answer)) for row in verdicts)
        written = sum(len(versions.sent) for versions in (*self.questions.values(), *self.posts.values()))
        twice = len(verdicts) - len({row.note for row in verdicts}) + max(0, slots - written)
        return Found(lost, torn, twice, damage)

    def _is_as_sent(self, note: str, row: Fields) -> bool:
        sent = self.verdicts.get(note)
        return sent is not None and {sent[0], sent[1]} == {row[0], row[1]} and sent[2] == row[2]


def jobs(where: str) -> dict[str, int]:
    """Return the number of jobs by state, and of those that were started more than once."""
    store = open_store(where)
    try:
        with store.reading() as view:
            found = view.session.run("SELECT state, count(*) FROM service_jobs GROUP BY state")
            again = view.session.run("SELECT count(*) FROM service_jobs WHERE attempts>1")[0][0]
    finally:
        store.close()
    return {**{str(state): int(count) for state, count in found}, "started_again": int(again)}
