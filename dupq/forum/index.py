"""A live index of a forum: questions come and go, and each new one is flagged with its likely duplicates."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.forum.copies import copy_form
from dupq.forum.flags import Flag, FlagReport
from dupq.forum.judging import Decider, Judge, embedder_of
from dupq.forum.legibility import notes_on
from dupq.forum.nearest import Nearest
from dupq.forum.store import WAIT_SECONDS, Id, Store, StoredDecision, StoredQuestion, Written
from dupq.forum.upkeep import embed_anew, index_stats, verify_index
from dupq.forum.work import knowing
from dupq.models.scorers import Progress, chunks
from dupq.records import Decision

BATCH = 256
"""Questions a transaction: what a crash can cost, and how long another writer waits."""
K = 10


class QuestionIndex:
    """A forum's questions on disk, for any number of processes: one writes at a time, readers are never kept waiting.

    What `add` and `remove` have acknowledged, by returning or by a call of `progress`, survives a killed process and a
    loss of power. Texts, ids, vectors and decisions are in one SQLite database; the vectors are copied to a file beside
    it, `<path>.vectors`, which is made again whenever it is missing, stale or damaged.

    Args:
        path: The database file; it is made if it is not there.
        pipeline: A pipeline with a bi-encoder; to flag, a calibrated one. None: to look, remove and keep up only.
        reembed: Whether an index that was made with another bi-encoder is embedded anew; it is refused otherwise.
        wait: Seconds to wait for another writer.
        progress: Told of the embedding anew.

    Raises:
        InputError: The file is no index or a damaged one, or was made with another model.
        OutputError: It cannot be written, or another process did not stop writing in time.
    """

    def __init__(
        self,
        path: str | Path,
        pipeline: Judge | None = None,
        *,
        reembed: bool = False,
        wait: float = WAIT_SECONDS,
        progress: Progress | None = None,
    ) -> None:
        self.path = Path(path)
        self._judge = pipeline
        self._lock = threading.RLock()
        self._store = Store(path, create=pipeline is not None, wait=wait)
        self._nearest = Nearest(self.path.with_name(f"{self.path.name}.vectors"))
        try:
            if pipeline is not None:
                self._fit_model(reembed, progress)
        except BaseException:
            self._store.close()
            raise

    def close(self) -> None:
        """Ends the connection; nothing is lost where it is not called."""
        self._store.close()

    def __enter__(self) -> QuestionIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        with self._lock:
            return len(self._store)

    def _needed(self) -> Judge:
        if self._judge is None:
            raise InputError(
                "this index was opened without a pipeline", mend="open it with one: QuestionIndex(path, pipeline)"
            )
        return self._judge

    # ---- the model ------------------------------------------------------------------------------------------------

    def _fit_model(self, reembed: bool, progress: Progress | None) -> None:
        embedder = embedder_of(self._needed())
        if self._store.meta("model") is None:
            dimensions = embedder.dimensions
            with self._store.writing():
                if self._store.meta("model") is None:
                    self._store.set_meta("model", embedder.fingerprint)
                    self._store.set_meta("dimensions", dimensions)
        found = self._store.meta("model")
        if found == embedder.fingerprint:
            return
        if not reembed:
            raise InputError(
                f"this index was made with another model ({found}; the pipeline's is {embedder.fingerprint})",
                where=str(self.path),
                mend="open it with that model, or have it embedded anew: --reembed, or reembed=True",
            )
        embed_anew(self._store, embedder, progress)

    # ---- adding and removing --------------------------------------------------------------------------------------

    def add(
        self,
        ids: Sequence[Id],
        texts: Sequence[str],
        *,
        created: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> Written:
        """Adds questions, some hundred a transaction; an id that is there with the same text stays as it is.

        Args:
            ids: The caller's ids, int or str; 7 and "7" are two ids. One that is there gets the new text.
            texts: One for each.
            created: When each was asked, as text such as an ISO date; None where not known.
            progress: Called with (questions that are safely stored, all of them).

        Returns:
            How many were added, were given another text, and were there already.

        Raises:
            InputError: A bad id or text, named by its place; nothing of the call is stored then.
            OutputError: The disk is full, or another writer did not stop; what progress was told of stays.
        """
        embedder = embedder_of(self._needed())
        dates: Sequence[str | None] = [None] * len(texts) if created is None else created
        if not len(ids) == len(texts) == len(dates):
            raise InputError(f"{len(ids)} ids, {len(texts)} texts, {len(dates)} dates", mend="give one of each")
        for number, (id_, text) in enumerate(zip(ids, texts, strict=True), 1):
            check_id(id_, f"id {number}")
            check_text(text, f"text {number} (id {id_!r})")
        total = Written()
        for part in chunks(len(texts), BATCH):
            # An id that stands twice in a batch keeps its last text, as if the two had come one after the other.
            rows = {id_: (id_, text, date) for id_, text, date in zip(ids[part], texts[part], dates[part], strict=True)}
            with self._lock:
                there = self._store.texts(rows)
                fresh = [row for id_, row in rows.items() if there.get(id_) != row[1]]
                # Embedded before the transaction, so that other writers do not wait for the network.
                vectors = embedder.embed([text for _, text, _ in fresh])
                written = Written()
                if fresh:
                    with self._store.writing():
                        self._same_model()
                        written = self._store.put(fresh, vectors)
            total.added += written.added
            total.replaced += written.replaced
            total.unchanged += part.stop - part.start - written.added - written.replaced
            if progress is not None:
                progress(part.stop, len(texts))
        return total

    def _same_model(self) -> None:
        """Another process may have embedded the index anew since this one opened it."""
        if self._store.meta("model") != embedder_of(self._needed()).fingerprint:
            raise InputError(
                "another process has embedded this index with another model",
                where=str(self.path),
                mend="open it again with that model",
            )

    def remove(self, ids: Sequence[Id]) -> int:
        """Removes questions, with all that was decided of them; returns how many were there."""
        count = 0
        for part in chunks(len(ids), BATCH):
            with self._lock, self._store.writing():
                count += self._store.remove(ids[part])
        return count

    # ---- flagging -------------------------------------------------------------------------------------------------

    @property
    def decider(self) -> Decider:
        """What decides: the pipeline's calibrator and thresholds, at its own base rate (see `mining.find_duplicates`).

        Raises:
            NotCalibratedError: The pipeline has no calibrator or threshold.
        """
        return Decider.of(self._needed())

    def flag(self, question: str, *, k: int = K) -> FlagReport:
        """The k stored questions most like this one, each with a probability and a decision.

        Raises:
            InputError: The text is blank, broken, or longer than is read; or the index was opened without a pipeline.
            NotCalibratedError: The pipeline has no calibrator or threshold.
        """
        return self.flag_all([question], k=k)[0]

    def flag_all(self, questions: Sequence[str], *, k: int = K, progress: Progress | None = None) -> list[FlagReport]:
        """`flag` for each of n questions, in their order; much faster than one by one.

        Args:
            questions: n texts, which need not be stored.
            k: How many stored questions are judged for each.
            progress: Called with (pairs judged, pairs in all).
        """
        for number, question in enumerate(questions, 1):
            check_text(question, "the question" if len(questions) == 1 else f"question {number}")
        return self._judged(questions, k, [-1] * len(questions), progress)

    def flag_stored(self, ids: Sequence[Id], *, k: int = K, progress: Progress | None = None) -> list[FlagReport]:
        """`flag_all` for questions that are stored, against all the others; what is decided is kept in the index.

        Raises:
            InputError: An id that is not there.
        """
        with self._lock:
            slots = self._store.slots_of(ids)
            texts = self._store.texts(ids)
        missing = [id_ for id_ in ids if id_ not in slots or id_ not in texts]
        if missing:
            raise InputError(f"there is no question with the id {missing[0]!r}", mend="add it first")
        reports = self._judged([texts[id_] for id_ in ids], k, [slots[id_] for id_ in ids], progress)
        scorer = self._needed().fingerprint
        with self._lock, self._store.writing():
            slots = self._store.slots_of({*ids, *(flag.id for report in reports for flag in report.flags)})
            self._store.put_decisions(
                (
                    slots[id_],
                    slots[flag.id],
                    scorer,
                    flag.score,
                    flag.probability,
                    report.decider.base_rate,
                    str(flag.decision),
                )
                for id_, report in zip(ids, reports, strict=True)
                for flag in report.flags
                if id_ in slots and flag.id in slots  # another process may have removed one meanwhile
            )
        return reports

    def _judged(
        self, questions: Sequence[str], k: int, own: Sequence[int], progress: Progress | None
    ) -> list[FlagReport]:
        """The reports on n questions; the slot `own` of each is left out of its flags, -1 for none."""
        if k < 1:
            raise InputError("at least one question must be looked for", where=f"k {k}", mend="give 1 or more")
        judge, decider = self._needed(), self.decider
        vectors = embedder_of(judge).embed(list(questions))
        for question, vector in zip(questions, vectors, strict=True):
            if not vector.any():
                raise InputError(
                    "the model knows no word of this question, so it can be near nothing",
                    where=repr(question[:60]),
                    mend="use a model of its language",
                )
        with self._lock:
            self._same_model()
            self._nearest.refresh(self._store)
            stored = len(self._nearest)
            near: list[list[tuple[StoredQuestion, float]]] = []
            for at, (slots, cosines) in enumerate(self._nearest.search(vectors, k + 1)):
                cosine = dict(zip(slots.tolist(), cosines.tolist(), strict=True))
                copies = [slot for slot in self._store.same_text(questions[at])[:k] if slot not in cosine]
                cosine |= {slot: float(vectors[at] @ vector) for slot, vector in self._nearest.vectors(copies).items()}
                cosine.pop(own[at], None)
                rows = self._store.questions(cosine)
                # Copies come before what is merely near, then the nearest.
                ranked = sorted(rows.values(), key=lambda row: (not _same(row.text, questions[at]), -cosine[row.slot]))
                near.append([(row, cosine[row.slot]) for row in ranked[:k]])
            slot_of = {row.text: row.slot for rows in near for row, _ in rows}
            held = self._nearest.vectors(slot_of.values())
        left = [question for question, rows in zip(questions, near, strict=True) for _ in rows]
        right = [row.text for rows in near for row, _ in rows]
        known = {text: held[slot] for text, slot in slot_of.items() if slot in held}
        known |= dict(zip(questions, vectors, strict=True))
        knows = knowing(judge, list(known), np.stack(list(known.values()))) if known else judge
        scores = iter(knows.raw_scores(left, right, progress).tolist())
        return [
            FlagReport.of(
                question,
                [
                    Flag(row.id, row.text, cosine, next(scores), 0.0, Decision.REVIEW, _same(row.text, question))
                    for row, cosine in rows
                ],
                decider,
                stored,
                notes_on(embedder_of(judge), question),
            )
            for question, rows in zip(questions, near, strict=True)
        ]

    def decisions(self) -> list[StoredDecision]:
        """What `flag_stored` decided of questions that are still there, by id."""
        with self._lock:
            return self._store.decisions()

    # ---- upkeep ---------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Counts, sizes in bytes and the model, as JSON can hold them."""
        with self._lock:
            return index_stats(self._store, self._nearest)

    def verify(self) -> list[str]:
        """What is wrong with the index, a line each; empty if all is well. The derived vectors are made anew."""
        with self._lock:
            return verify_index(self._store, self._nearest)

    def compact(self) -> None:
        """Gives the space of removed questions back to the disk, and writes the derived vectors anew."""
        with self._lock:
            with self._store.writing():
                self._store.next_epoch()
            self._store.shrink()
            self._nearest.refresh(self._store)
            self._nearest.save()


def _same(a: str, b: str) -> bool:
    return copy_form(a) == copy_form(b)


def check_id(value: object, where: str) -> None:
    """Raises InputError unless it is an int of 64 bits or a str that can be stored."""
    if isinstance(value, int) and not isinstance(value, bool):
        if -(2**63) <= value < 2**63:
            return
        raise InputError(f"the id {value} has more than 64 bits", where=where, mend="give it as a str")
    if not isinstance(value, str):
        raise InputError(f"the id is a {type(value).__name__}, not an int or a str", where=where, mend="convert it")
    check_text(value, where)
