"""Live index of the questions of a forum.

Questions are added and removed, and new ones are flagged with their likely duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import MAX_INT, as_choice, as_id, as_ids, as_int, as_kind, as_number, as_texts
from dupq.data.text import check_text, duplicate_key
from dupq.decisions.decider import Decider, PairScorer, embedder_of
from dupq.decisions.thresholds import Policy
from dupq.errors import InputError, NotCalibratedError
from dupq.index.calibration_versions import (
    CalibrationVersion,
    DeciderInUse,
    calibrate_store,
    read_versions,
    roll_back_to,
)
from dupq.index.calibrations import CalibrationResult
from dupq.index.flags import Flag, FlagReport
from dupq.index.groups import Group, add_merge, all_groups, group_of, undo_merge
from dupq.index.maintenance import index_stats, verify_index
from dupq.index.monitor import ALPHA, MonitorReport, read_monitor
from dupq.index.nearest import cosines
from dupq.index.new_questions import checked_questions
from dupq.index.pipelines import Pipelines
from dupq.index.priority import Priority
from dupq.index.reembedding import drop_model, reembed
from dupq.index.review import (
    MAX_QUEUE,
    Estimates,
    ReviewedPair,
    ReviewItem,
    contested_items,
    estimates,
    pair_item,
    review_items,
    reviewed_pairs,
)
from dupq.index.review_pages import SOURCES, ReviewPage, Source, read_page
from dupq.index.sampling import with_draw
from dupq.index.search import QuestionSearch, RecallReport, SearchMode
from dupq.index.stores import open_store
from dupq.index.stores.base import (
    VECTOR_DTYPES,
    WAIT_SECONDS,
    NewQuestion,
    StoredDecision,
    StoredMerge,
    StoredQuestion,
    StoredVerdict,
    VectorForm,
    Written,
)
from dupq.index.stores.sql import Transaction, View
from dupq.index.syncing import MAX_REMOVALS, SyncReport, check_removals, find_differences, remove_rows
from dupq.index.vector_cache import VectorCache
from dupq.index.verdicts import (
    ANSWERS,
    CHOSEN,
    PairState,
    as_line,
    as_slots,
    check_different,
    give,
    new_key,
    now,
    read_history,
    read_pair,
    require_stored,
    take_back,
)
from dupq.mining.cached_embeddings import with_cached_embeddings
from dupq.models.batching import chunks
from dupq.types import Decision, Embedder, Id, Progress, TextWarning

BATCH = 256
"""Questions a transaction: what a crash can cost, and how long another writer waits."""
SLICE = 32
"""Questions embedded at a time while flags are requested: a flag waits for no more. A whole batch is a fifth faster."""
VECTOR_FORM: VectorForm = "float16"
"""Form of the vectors of a new index."""
K = 10
"""Flags of a question where the pipeline's candidate rule has no neighbours."""
NO_KNOWN_WORD = TextWarning("unknown_language", "no word of this text is in the vocabulary: only copies can be found")


class QuestionIndex:
    """Questions of a forum on disk, shared by any number of processes and threads.

    There is one writer at a time. A flag never waits for another process; in its own process it goes before `add`,
    which embeds outside every lock. An open index may be shared between threads, and used in a forked process.

    What `add` and `remove` have acknowledged, by returning or by a call of `progress`, survives a killed process and a
    loss of power. Texts, ids, vectors and decisions are in one SQLite file, or in a schema of a PostgreSQL database.
    The vectors are copied to a file, `<path>.vectors` or one in the user's cache folder, which is written again
    whenever it is missing, stale or damaged.

    Args:
        path: The database file, or the URL of a PostgreSQL database with pgvector, `postgresql://user@host/database`;
            the index is created if it does not exist.
        pipeline: A pipeline with a bi-encoder; to flag, a calibrated one. None: to inspect, remove and maintain only.
        successor: A pipeline with another bi-encoder that is about to replace it (see `reembed`). New questions are
            embedded for both, and from the switch on the index uses the successor.
        wait: Seconds to wait for another writer, 0 or more.
        search: "exact"; "approximate", which needs pgvector or the extra `dupq[large]`, and is exact until its graph is
            built beside the first flags or by `build_search`; "auto": approximate above a million questions. Both
            return the same cosines, and copies of a text are always found.
        vectors: Form of the vectors, "float16" or "float32"; None: that of the index, and "float16" in a new one.
            float16 halves the space and changes a cosine by less than 0.001.

    Raises:
        InputError: The file is not an index, is damaged, or has the model of neither pipeline or another form of
            vectors.
        OutputError: It cannot be written, or another process did not stop writing in time.
    """

    def __init__(
        self,
        path: str | Path,
        pipeline: PairScorer | None = None,
        *,
        successor: PairScorer | None = None,
        wait: float = WAIT_SECONDS,
        search: SearchMode = "auto",
        vectors: VectorForm | None = None,
    ) -> None:
        if not isinstance(path, (str, Path)):
            raise InputError(
                f"path must be a str or Path, got {type(path).__name__}", hint="name the database file or URL"
            )
        if vectors is not None:
            as_choice(vectors, VECTOR_DTYPES, "vectors")
        self._pipelines = _checked_pipelines(pipeline, successor)
        self._priority = Priority()
        self._in_use = DeciderInUse()
        self._store = open_store(path, create=pipeline is not None, wait=checked_wait(wait))
        self._vectors = VectorCache(self._store.vectors_file)
        try:
            self._search = QuestionSearch(self._store, self._vectors, search)
            if pipeline is not None:
                self._match_model(pipeline, vectors)
            self._check_form(vectors)
        except BaseException:
            self._store.close()
            raise

    def close(self) -> None:
        """Close the connections; nothing is lost if this is not called."""
        self._store.close()
        self._vectors.close()

    def __enter__(self) -> QuestionIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        with self._store.reading() as view:
            return len(view)

    def __contains__(self, id_: object) -> bool:
        """Return True if a question with this id is stored; 7 and "7" are two ids."""
        with self._store.reading() as view:
            return bool(view.find([as_id(id_, "id")]))

    # ---- the model ------------------------------------------------------------------------------------------------

    def _require_pipeline(self) -> PairScorer:
        """Return the pipeline whose bi-encoder the store uses now.

        Raises:
            InputError: The index was opened without a pipeline, or was switched to another model.
        """
        known = self._pipelines.known
        if not known:
            raise InputError(
                "this index was opened without a pipeline", hint="open it with one: QuestionIndex(path, pipeline)"
            )
        if len(known) == 1:
            return known[0]  # every use of its vectors checks the model
        with self._store.reading() as view:
            return self._pipelines.present(view)

    def _match_model(self, pipeline: PairScorer, vectors: VectorForm | None) -> None:
        """Record the bi-encoder in a new index; refuse an index of another one."""
        embedder = embedder_of(pipeline)
        dimensions, form = embedder.dimensions, vectors or VECTOR_FORM

        def record(transaction: Transaction) -> None:
            if transaction.model() is None:
                transaction.use_model(transaction.add_model(embedder.fingerprint, dimensions, form))

        with self._store.reading() as view:
            new = view.model() is None
        if new:
            self._store.write(record)
        with self._store.reading() as view:
            model = view.model()
        known = [embedder_of(held).fingerprint for held in self._pipelines.known]
        if model is not None and model.fingerprint not in known:
            raise InputError(
                f"this index was made with another model ({model.fingerprint}; given: {' and '.join(known)})",
                location=self._store.location,
                hint="open it with that model, or embed it for this one first: `dupq index reembed DB --model DIR`",
            )

    def _check_form(self, vectors: VectorForm | None) -> None:
        """Raise InputError if a form was named that is not the one of the stored vectors."""
        with self._store.reading() as view:
            model = view.model()
        if vectors is not None and model is not None and model.form != vectors:
            raise InputError(
                f"vectors must be {model.form}, as this index stores them, got {vectors}",
                location=self._store.location,
                hint="leave it out, or make another index",
            )

    def reembed(self, pipeline: PairScorer, *, progress: Progress | None = None) -> int:
        """Switch to another pipeline; return the number of embedded questions.

        Only questions without a vector of its bi-encoder are embedded. Flags, here and in other processes, use the old
        model until every question has a vector of the new one. One transaction then switches, and this index uses the
        new pipeline. Another open index goes on if it has the pipeline as successor; otherwise it raises InputError
        from then on. The old model is kept until `drop_model`, so the way back is short. Interrupted, even by a kill,
        the work is resumed by the same call.

        Args:
            pipeline: The new pipeline. One with the bi-encoder in use needs no embedding.
            progress: Called with (questions that have a vector, questions).

        Raises:
            InputError: It has no bi-encoder, or its model was dropped meanwhile.
            OutputError: As `add`; what was embedded stays.
        """
        embedder = embedder_of(pipeline)
        with self._store.reading() as view:
            model = view.model()
        form = VECTOR_FORM if model is None else model.form
        # From here on, new questions of this process are embedded with both.
        self._pipelines = self._pipelines.with_last(pipeline)

        def embed(texts: Sequence[str]) -> NDArray[np.float32]:
            vectors: dict[str, NDArray[np.float32]] = {}
            self._embed(embedder, {*texts}, vectors)
            return np.stack([vectors[text] for text in texts])

        return reembed(self._store, embedder, form, embed, progress)

    def drop_model(self, fingerprint: str) -> None:
        """Delete a model that is not in use, and its vectors; `compact` frees the space.

        Args:
            fingerprint: One of `stats()["models"]`.

        Raises:
            InputError: The index has no such model, or uses it.
            OutputError: As `add`.
        """
        drop_model(self._store, as_kind(fingerprint, str, "fingerprint", "take one of stats()['models']"))

    # ---- adding and removing --------------------------------------------------------------------------------------

    def add(
        self,
        ids: Iterable[Id],
        texts: Iterable[str],
        *,
        created: Iterable[object] | None = None,
        reach: Iterable[float] | None = None,
        details: Iterable[Mapping[str, Any] | None] | None = None,
        progress: Progress | None = None,
    ) -> Written:
        """Add questions, and replace the text of stored ids.

        Each transaction writes some hundred questions. A text that its id has already is not embedded again.
        No lock is held while the texts are embedded, and flags get the processor first. A date, a reach or details that
        are not given stay as they are stored under the id; those that are given replace them, whatever the text.

        Args:
            ids: n ids, int or str; 7 and "7" are two ids. Lists, arrays and Series are taken by position.
            texts: n texts, without NUL characters.
            created: n dates as datetimes, timestamps, POSIX seconds or ISO 8601 text; None, NaN or NaT for an unknown
                one. They are stored in UTC.
            reach: n numbers above 0: how many people a duplicate costs, such as its views (1 for a new question).
            details: n mappings that JSON can hold, such as title, body, tags and url, for a review page; None for none.
            progress: Called with (questions that are safely stored, questions).

        Returns:
            The number of questions that were added, replaced and unchanged, and the ids that were given twice.

        Raises:
            InputError: A bad id, text, date, reach or details, named by its place; nothing is stored then.
            OutputError: The disk is full, or another writer did not stop; what `progress` was called with stays stored.
        """
        self._require_pipeline()
        rows, repeated = checked_questions(ids, texts, created=created, reach=reach, details=details)
        total = Written(repeated=repeated)
        for part in chunks(len(rows), BATCH):
            written = self._put(rows[part])
            total.added += written.added
            total.replaced += written.replaced
            total.unchanged += written.unchanged
            if progress is not None:
                progress(part.stop, len(rows))
        return total

    def _put(self, rows: Sequence[NewQuestion]) -> Written:
        """Write one batch of distinct ids."""
        held: dict[str, dict[str, NDArray[np.float32]]] = {}  # fingerprint of a model -> text -> vector

        def waiting(view: View) -> list[tuple[Embedder, set[str]]]:
            """Return the texts that each bi-encoder has to embed.

            They may change between two transactions.
            """
            stored = view.find(row.id for row in rows)
            new = {row.text for row in rows if row.id not in stored or stored[row.id].text != row.text}
            embedders = [embedder for _, embedder in self._pipelines.embedding(view)]
            texts = [(embedder, new - {*held.get(embedder.fingerprint, ())}) for embedder in embedders]
            return [(embedder, left) for embedder, left in texts if left]

        def put(transaction: Transaction) -> Written | None:
            # Others may have written the same ids meanwhile, or have added or switched the model.
            if waiting(transaction):
                return None
            vectors = {model.number: held.get(model.fingerprint, {}) for model in transaction.models()}
            return transaction.put(rows, vectors)

        while True:
            with self._store.reading() as view:
                left = waiting(view)
            # Between two transactions: neither a flag nor another writer waits for the network.
            for embedder, texts in left:
                self._embed(embedder, texts, held.setdefault(embedder.fingerprint, {}))
            written = self._store.write(put)
            if written is not None:
                return written

    def _embed(self, embedder: Embedder, texts: Iterable[str], vectors: dict[str, NDArray[np.float32]]) -> None:
        # By length, because the network batches texts of equal length.
        waiting = sorted(texts, key=lambda text: (len(text), text))
        done = 0
        while done < len(waiting):
            part = waiting[done : done + (SLICE if self._priority.give_way() else BATCH)]
            vectors.update(zip(part, embedder.embed(part), strict=True))
            done += len(part)

    def remove(self, ids: Iterable[Id]) -> int:
        """Remove questions and their decisions; return the number of ids that were stored.

        Args:
            ids: int or str; 7 and "7" are two ids.

        Raises:
            InputError: `ids` is no sequence of ids, or one of them is bad; nothing is removed then.
            OutputError: As `add`.
        """
        keys = as_ids(ids, "id")
        count = 0
        for part in chunks(len(keys), BATCH):
            count += self._store.write(partial(Transaction.remove, ids=keys[part]))
        return count

    def sync(
        self,
        ids: Iterable[Id],
        texts: Iterable[str],
        *,
        created: Iterable[object] | None = None,
        reach: Iterable[float] | None = None,
        details: Iterable[Mapping[str, Any] | None] | None = None,
        keep_missing: bool = False,
        max_removals: float = MAX_REMOVALS,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> SyncReport:
        """Bring the index to the state of an export.

        Questions that differ are added or replaced, and those that the export lacks are removed. Questions that were
        created after all those of the export stay. Interrupted, it is completed by the same call.

        Args:
            ids, texts, created, reach, details: The questions of the export, as in `add`. A date, a reach or details
                that are not given stay.
            keep_missing: Remove nothing.
            max_removals: Maximum number of removals as an int, or as a share of the stored questions in [0, 1] as a
                float; above it nothing is changed.
            dry_run: Only count; the limit of removals does not apply.
            progress: Called with (questions written and removed, both in all).

        Raises:
            InputError: As `add`, or more questions would be removed than allowed; nothing is changed then.
            OutputError: As `add`.
        """
        as_kind(keep_missing, bool, "keep_missing", "give True or False")
        if not as_kind(dry_run, bool, "dry_run", "give True or False"):
            self._require_pipeline()
        rows, _ = checked_questions(ids, texts, created=created, reach=reach, details=details)
        with self._store.reading() as view:
            found = find_differences(view, rows, keep_missing)
        if dry_run:
            return found.report
        check_removals(found.report, max_removals)
        total = len(found.writes) + len(found.removals)
        for part in chunks(len(found.writes), BATCH):
            self._put(found.writes[part])
            if progress is not None:
                progress(part.stop, total)
        for part in chunks(len(found.removals), BATCH):
            self._store.write(partial(remove_rows, rows=found.removals[part]))
            if progress is not None:
                progress(len(found.writes) + part.stop, total)
        return found.report

    # ---- flagging -------------------------------------------------------------------------------------------------

    @property
    def location(self) -> str:
        """The path of the database file, or the URL without its password."""
        return self._store.location

    @property
    def decider(self) -> Decider:
        """Calibrator and thresholds in use.

        They are those of `calibrate`, or the pipeline's own for candidates. A calibration of another pipeline is not
        used, with a warning in the log.

        Raises:
            NotCalibratedError: The pipeline has no calibrator or threshold.
            InputError: The calibration in use is damaged.
        """
        pipeline = self._require_pipeline()
        with self._store.reading() as view:
            return self._in_use.decider(view, pipeline)

    def flag(self, question: str, *, k: int | None = None, min_cosine: float | None = None) -> FlagReport:
        """Return the k nearest stored questions, each with a probability and a decision.

        Args:
            question: A text, which need not be stored.
            k: Number of stored questions, at least 1; None: the neighbours of the pipeline's candidate rule, or 10 if
                it has none.
            min_cosine: The lowest cosine of a flag that is no copy, in (0, 1]; None: that of the candidate rule if it
                has neighbours, else no limit.

        Raises:
            InputError: The text is blank or broken, k or min_cosine is out of its range, or the index was opened
                without a pipeline.
            NotCalibratedError: The pipeline has no calibrator or threshold.
        """
        return self.flag_all([question], k=k, min_cosine=min_cosine)[0]

    def flag_all(
        self,
        questions: Iterable[str],
        *,
        k: int | None = None,
        min_cosine: float | None = None,
        progress: Progress | None = None,
    ) -> list[FlagReport]:
        """Flag n questions at once, much faster than one by one.

        Args:
            questions: n texts, which need not be stored.
            k, min_cosine: As in `flag`.
            progress: Called with (pairs scored, pairs in all).

        Returns:
            n reports, in the order of the questions.

        Raises:
            InputError, NotCalibratedError: As `flag`.
        """
        texts = as_texts(questions, "questions")
        for number, text in enumerate(texts, 1):
            check_text(text, "the question" if len(texts) == 1 else f"question {number}")
        return self._reports(texts, k, min_cosine, [None] * len(texts), progress)[0]

    def flag_stored(
        self,
        ids: Iterable[Id],
        *,
        k: int | None = None,
        min_cosine: float | None = None,
        progress: Progress | None = None,
    ) -> list[FlagReport]:
        """Flag stored questions against all others, and store the decisions in the index.

        Args:
            ids: n ids of stored questions.
            k, min_cosine: As in `flag`, of other questions.
            progress: Called with (pairs scored, pairs in all).

        Returns:
            n reports, in the order of the ids.

        Raises:
            InputError: An id that is not stored, or as `flag`.
            NotCalibratedError: As `flag`.
            OutputError: As `add`.
        """
        keys = as_ids(ids, "id")
        with self._store.reading() as view:
            stored = view.find(keys)
        missing = [id_ for id_ in keys if id_ not in stored]
        if missing:
            raise InputError(f"no question has the id {missing[0]!r}", hint="add it first")
        texts = [stored[id_].text for id_ in keys]
        reports, slots, scorer = self._reports(texts, k, min_cosine, keys, progress)
        slots |= {id_: question.slot for id_, question in stored.items()}
        decisions = [
            StoredDecision(
                id_,
                flag.id,
                scorer,
                flag.score,
                flag.probability,
                report.decider.base_rate,
                str(flag.decision),
                report.decider.threshold,
            )
            for id_, report in zip(keys, reports, strict=True)
            for flag in report.flags
        ]

        def put(transaction: Transaction) -> None:
            # Another writer may have removed a question meanwhile, or replaced its text, which changes its slot.
            now, database = transaction.find(slots), transaction.position().database
            same = {id_ for id_, question in now.items() if question.slot == slots[id_]}
            transaction.put_decisions(
                with_draw(row, database, now[row.id].reach, now[row.other].reach)
                for row in decisions
                if row.id in same and row.other in same
            )
            transaction.mark_decided((slots[id_] for id_ in keys if id_ in same), scorer)

        self._store.write(put)
        return reports

    def decide(self, *, everything: bool = False, progress: Progress | None = None) -> tuple[int, int]:
        """Decide stored questions against all others, which fills the review queue.

        It can be interrupted; run again, it goes on with the questions that this pipeline has not decided.

        Args:
            everything: Decide all questions again, such as after `calibrate`; else those that are new, or that
                another pipeline has decided.
            progress: Called with (questions decided, questions).

        Returns:
            The number of questions that were decided, and of their pairs.

        Raises:
            InputError, NotCalibratedError, OutputError: As `flag_stored`.
        """
        done = after = 0
        pairs: set[frozenset[Id]] = set()
        total, scorer = len(self), self._require_pipeline().fingerprint
        while True:
            with self._store.reading() as view:
                rows = (
                    [row for row, _ in view.rows(after, BATCH)] if everything else view.undecided(scorer, BATCH, after)
                )
            if not rows:
                return done, len(pairs)
            for row, report in zip(rows, self.flag_stored([row.id for row in rows]), strict=True):
                pairs |= {frozenset((row.id, flag.id)) for flag in report.flags}
            done, after = done + len(rows), rows[-1].slot
            if progress is not None:
                progress(done, max(done, total))

    def _reports(
        self,
        questions: Sequence[str],
        k: int | None,
        min_cosine: float | None,
        own: Sequence[Id | None],
        progress: Progress | None,
    ) -> tuple[list[FlagReport], dict[Id, int], str]:
        """Return the reports on n questions, the flagged slots and the scorer.

        The slots are by id; the scorer is the fingerprint of the pipeline.

        Args:
            questions: n texts.
            k, min_cosine: As in `flag`.
            own: The id of each question, which is left out of its flags; None: nothing is left out.
            progress: Called with (pairs scored, pairs in all).
        """
        while True:
            pipeline = self._require_pipeline()
            found = self._reports_of(pipeline, questions, _rule(pipeline, k, min_cosine), own, progress)
            if found is not None:
                return *found, pipeline.fingerprint

    def _reports_of(
        self,
        pipeline: PairScorer,
        questions: Sequence[str],
        rule: tuple[int, float],
        own: Sequence[Id | None],
        progress: Progress | None,
    ) -> tuple[list[FlagReport], dict[Id, int]] | None:
        """Return the reports and slots of `_reports` with one pipeline.

        None if the model was switched before the search.

        Args:
            pipeline: The pipeline that embeds, scores and decides.
            rule: Number of flags for each question, and their lowest cosine.
            questions, own, progress: As in `_reports`.
        """
        k, min_cosine = rule
        with self._priority.urgent():
            vectors = embedder_of(pipeline).embed(list(questions))
            near: list[list[tuple[StoredQuestion, float]]] = []
            with self._search.following() as (view, searched):
                if self._pipelines.present(view) is not pipeline:
                    return None
                decider = self._in_use.decider(view, pipeline)
                stored = len(searched)
                for at, (slots, values) in enumerate(searched.search(vectors, k + 1)):
                    # A vector of zeros is equally near to every question.
                    nearest = zip(slots.tolist(), values.tolist(), strict=True) if vectors[at].any() else ()
                    cosine = dict(nearest)
                    copies = [slot for slot in view.same_text(questions[at])[: k + 1] if slot not in cosine]
                    if copied := searched.vectors(copies):
                        exact = cosines(vectors[at], np.stack([*copied.values()]))
                        cosine |= dict(zip(copied, exact.tolist(), strict=True))
                    rows = [row for row in view.questions(cosine).values() if own[at] is None or row.id != own[at]]
                    key = duplicate_key(questions[at])
                    rows = [row for row in rows if cosine[row.slot] >= min_cosine or duplicate_key(row.text) == key]
                    # Copies come before near texts, then the nearest.
                    rows.sort(key=lambda row: (duplicate_key(row.text) != key, -cosine[row.slot]))
                    near.append([(row, cosine[row.slot]) for row in rows[:k]])
                slot_of = {row.text: row.slot for found in near for row, _ in found}
                held = searched.vectors(slot_of.values())
            left = [question for question, found in zip(questions, near, strict=True) for _ in found]
            right = [row.text for found in near for row, _ in found]
            vector_of = {text: held[slot] for text, slot in slot_of.items() if slot in held}
            vector_of |= dict(zip(questions, vectors, strict=True))
            scorer = pipeline
            if vector_of:
                scorer = with_cached_embeddings(pipeline, list(vector_of), np.stack(list(vector_of.values())))
            scores = iter(scorer.raw_scores(left, right, progress).tolist())
            texts = list({*questions, *right})
            warnings = dict(zip(texts, pipeline.text_warnings(texts), strict=True))
        for question, vector in zip(questions, vectors, strict=True):
            if not vector.any():
                others = [warning for warning in warnings[question] if warning.kind != NO_KNOWN_WORD.kind]
                warnings[question] = (*others, NO_KNOWN_WORD)
        reports = []
        for question, found in zip(questions, near, strict=True):
            key = duplicate_key(question)
            flags = tuple(
                Flag(
                    id=row.id,
                    text=row.text,
                    cosine=cosine,
                    score=next(scores),
                    probability=0.0,
                    decision=Decision.REVIEW,
                    copy=duplicate_key(row.text) == key,
                    warnings=warnings[row.text],
                )
                for row, cosine in found
            )
            report = FlagReport(question, flags, decider, stored, warnings[question])
            reports.append(report.decided())
        return reports, {row.id: row.slot for found in near for row, _ in found}

    # ---- verdicts and the review queue ----------------------------------------------------------------------------

    def verdict(
        self,
        id1: Id,
        id2: Id,
        answer: str,
        *,
        by: str,
        sampled: float | None = None,
        chosen: str = "",
        note: str = "",
        expected: int | None = None,
        slots: Sequence[int] | None = None,
        key: str | None = None,
    ) -> StoredVerdict:
        """Append a verdict on a pair of stored questions.

        The row holds the stored decision at this moment too.

        Args:
            id1, id2: The two questions, in any order.
            answer: "duplicate", "distinct" or "skip".
            by: Name of the moderator. A later verdict of the same moderator replaces an earlier one; one of another
                moderator that differs makes the pair contested.
            sampled: Probability with which the pair was chosen, in (0, 1]; None: unknown (see `ReviewItem.sampled`).
            chosen: "queue" or "audit"; "" where the moderator chose the pair.
            note: A text.
            expected: Number of the last row of the pair that the moderator has seen (`ReviewItem.last`); None: any.
            slots: Slots of the two texts that the moderator has seen (`ReviewItem.slots`), in any order; None: any.
            key: Unique name of the verdict: given again with the same key, it is one row. None: a new name.

        Returns:
            The row.

        Raises:
            ConflictError: The pair has got another row since `expected`, and `rows` are those; or a text was replaced
                since `slots`, and `rows` is empty.
            InputError: A question is not stored, the two are the same, the key was used for another verdict, or another
                argument is bad.
            OutputError: As `add`.
        """
        row = StoredVerdict(
            number=0,
            id=as_id(id1, "id1"),
            other=as_id(id2, "id2"),
            answer=as_choice(answer, ANSWERS, "answer"),
            by=as_line(by, "by"),
            at=now(),
            chosen=as_choice(chosen, CHOSEN, "chosen"),
            sampled=None if sampled is None else as_number(sampled, "sampled", 0, 1, above=True),
            note=as_line(note, "note", blank=True),
            key=new_key(key),
        )
        check_different(row.id, row.other)
        last = None if expected is None else as_int(expected, "expected", 0, MAX_INT)
        shown = None if slots is None else as_slots(slots)
        return self._store.write(lambda transaction: give(transaction, row, last, shown))

    def undo(
        self, number: int | None = None, *, by: str, force: bool = False, note: str = "", key: str | None = None
    ) -> StoredVerdict:
        """Append a row that takes a verdict back.

        The moderator's verdict before it stands again. A merge that was given with the verdict on the review page is
        taken back too.

        Args:
            number: Number of the verdict; None: the last one of this moderator that stands, so that repeated calls go
                back step by step.
            by: Name of the moderator.
            force: Take back the verdict of another moderator too.
            note: A text.
            key: As in `verdict`.

        Returns:
            The new row.

        Raises:
            InputError: There is no such verdict, it was taken back already, it is another moderator's, or the key was
                used for something else.
            OutputError: As `add`.
        """
        wanted = None if number is None else as_int(number, "number", 1, MAX_INT)
        as_kind(force, bool, "force", "give True or False")
        moderator, text, name, at = as_line(by, "by"), as_line(note, "note", blank=True), new_key(key), now()
        return self._store.write(
            lambda transaction: take_back(transaction, wanted, by=moderator, at=at, key=name, note=text, force=force)
        )

    def history(
        self, id_: Id | None = None, *, limit: int | None = None, before: int | None = None
    ) -> list[StoredVerdict]:
        """Return the history of verdicts of a question, or of all.

        It includes rows that were taken back.

        Args:
            id_: A question; None: all.
            limit: Maximum number of rows: the last ones, last first. None: all rows, oldest first.
            before: With a limit, only rows with a lower number than this; None: all.

        Raises:
            InputError: The question is not stored and has no history, or another argument is bad.
        """
        wanted = None if id_ is None else as_id(id_, "id")
        most = None if limit is None else as_int(limit, "limit")
        bound = None if before is None else as_int(before, "before")
        with self._store.reading() as view:
            return read_history(view, wanted, most, bound)

    def verdict_of(self, id1: Id, id2: Id) -> PairState:
        """Return the present state of a pair: its answer, and each moderator's verdict.

        Raises:
            InputError: The two ids are the same, or one is not stored and the pair has no history.
        """
        one, other = as_id(id1, "id1"), as_id(id2, "id2")
        check_different(one, other)
        with self._store.reading() as view:
            return read_pair(view, one, other)

    def review_queue(
        self,
        limit: int = 20,
        *,
        audit_share: float = 0.2,
        contested: bool = False,
        by: str | None = None,
        decision: str | None = None,
        min_probability: float = 0.0,
        max_probability: float = 1.0,
    ) -> list[ReviewItem]:
        """Return the judged pairs whose verdict is worth the most.

        Random audit pairs are among them. Pairs with a verdict on their present texts are left out. The inclusion
        probabilities hold whatever is asked for and in whatever order verdicts come; see the page on verdicts.

        Args:
            limit: Maximum number of pairs, in [1, 1,000,000].
            audit_share: Share of audit pairs, in [0, 1]; half of them were decided "duplicate".
            contested: Return the pairs whose moderators differ instead, the oldest first.
            by: Leave out contested pairs on which this moderator has a verdict.
            decision: "duplicate", "review" or "distinct"; None: any.
            min_probability, max_probability: Range of the probability, in [0, 1].

        Raises:
            InputError: A bad argument.
        """
        limit = as_int(limit, "limit", 1, MAX_QUEUE)
        share = as_number(audit_share, "audit_share", 0, 1)
        as_kind(contested, bool, "contested", "give True or False")
        moderator = None if by is None else as_line(by, "by")
        wanted = None if decision is None else as_choice(decision, (str(value) for value in Decision), "decision")
        low = as_number(min_probability, "min_probability", 0, 1)
        high = as_number(max_probability, "max_probability", low, 1)
        with self._store.reading() as view:
            if contested:
                return contested_items(view, limit, moderator, wanted, (low, high))
            conditions = {
                "decision=?": wanted,
                "probability>=?": low or None,
                "probability<=?": high if high < 1 else None,
            }
            filters = {condition: value for condition, value in conditions.items() if value is not None}
            return review_items(view, limit, share, " AND ".join(filters), list(filters.values()))

    def review_page(
        self,
        limit: int = 20,
        *,
        source: Source = "queue",
        after: str | None = None,
        by: str | None = None,
        audit_share: float = 0.2,
        decision: str | None = None,
        min_probability: float = 0.0,
        max_probability: float = 1.0,
    ) -> ReviewPage:
        """Return pairs to be reviewed, and the place after them.

        Pages that follow each other share no pair, whatever verdicts come between them.

        Args:
            limit: Maximum number of pairs, in [1, 1,000,000].
            source: "queue"; "contested", the oldest first; or "answered", the pairs that `by` has an opinion on, the
                last one first.
            after: `ReviewPage.after` of the page before; None: the first page.
            by: Moderator whose answers are listed under "answered", and left out under "contested".
            audit_share, decision, min_probability, max_probability: As in `review_queue`.

        Raises:
            InputError: A bad argument.
        """
        limit = as_int(limit, "limit", 1, MAX_QUEUE)
        as_choice(source, SOURCES, "source")
        share = as_number(audit_share, "audit_share", 0, 1)
        moderator = None if by is None else as_line(by, "by")
        if source == "answered" and moderator is None:
            raise InputError("by must be a moderator where source is 'answered', got None", hint="name one")
        wanted = None if decision is None else as_choice(decision, (str(value) for value in Decision), "decision")
        low = as_number(min_probability, "min_probability", 0, 1)
        high = as_number(max_probability, "max_probability", low, 1)
        place = None if after is None else as_line(after, "after")
        with self._store.reading() as view:
            return read_page(
                view,
                source,
                limit,
                after=place,
                audit_share=share,
                by=moderator,
                decision=wanted,
                probabilities=(low, high),
            )

    def review_item(self, id1: Id, id2: Id) -> ReviewItem:
        """Return one pair as the queue shows it.

        It needs neither a decision nor a verdict.

        Args:
            id1, id2: Ids of two stored questions, in any order.

        Raises:
            InputError: The two ids are the same, or one is not stored.
        """
        one, other = as_id(id1, "id1"), as_id(id2, "id2")
        check_different(one, other)
        with self._store.reading() as view:
            return pair_item(view, one, other)

    def decisions_of(self, id_: Id) -> list[StoredDecision]:
        """Return the decisions on pairs with a question, the most probable first.

        Raises:
            InputError: The id is bad, or no question has it.
        """
        key = as_id(id_, "id")
        with self._store.reading() as view:
            slot = require_stored(view, [key])[key]
            found = view.decisions("decisions.slot=? OR decisions.other=?", (slot, slot))
        return sorted(found, key=lambda row: -row.probability)

    def reviewed(self) -> list[ReviewedPair]:
        """Return the judged pairs with a verdict on their present texts.

        Each holds its inclusion probabilities.
        """
        with self._store.reading() as view:
            return reviewed_pairs(view)

    def estimates(self) -> Estimates:
        """Estimate precision, recall and base rate of the stored decisions.

        The estimates come from the verdicts and have 95 % intervals. The outcome compares them with the policy of the
        decider in use, if the index was opened with a calibrated pipeline.
        """
        try:
            decider = self.decider if self._pipelines.known else None
        except NotCalibratedError:
            decider = None
        with self._store.reading() as view:
            return estimates(view, decider)

    # ---- groups ---------------------------------------------------------------------------------------------------

    def merge(self, canonical: Id, duplicate: Id, *, by: str, note: str = "", key: str | None = None) -> int:
        """Join the groups of two stored questions; return the number of the merge.

        The first question is preferred as canonical.

        Args:
            canonical, duplicate: The two questions, which may be in one group already.
            by: Name of the moderator.
            note: A text.
            key: As in `verdict`.

        Raises:
            InputError: A question is not stored, the two are the same, or the key was used for another merge.
            OutputError: As `add`.
        """
        one, other = as_id(canonical, "canonical"), as_id(duplicate, "duplicate")
        check_different(one, other)
        row = StoredMerge(
            0, one, other, as_line(by, "by"), now(), note=as_line(note, "note", blank=True), key=new_key(key)
        )
        return self._store.write(lambda transaction: add_merge(transaction, row))

    def unmerge(self, number: int, *, by: str, note: str = "", key: str | None = None) -> int:
        """Take a merge back, whoever made it; return the number of the new row.

        The groups are then those that they would be without the merge.

        Raises:
            InputError: There is no such merge, it was taken back already, or the key was used for another merge.
            OutputError: As `add`.
        """
        wanted, moderator = as_int(number, "number", 1, MAX_INT), as_line(by, "by")
        text, name, at = as_line(note, "note", blank=True), new_key(key), now()
        return self._store.write(
            lambda transaction: undo_merge(transaction, wanted, by=moderator, at=at, note=text, key=name)
        )

    def groups(self) -> list[Group]:
        """Return the duplicate groups by verdicts and merges, the largest first."""
        with self._store.reading() as view:
            return all_groups(view)

    def group(self, id_: Id) -> Group | None:
        """Return the duplicate group of a stored question.

        None if it has no duplicates.

        Raises:
            InputError: The question is not stored.
        """
        wanted = as_id(id_, "id")
        with self._store.reading() as view:
            return group_of(view, wanted)

    # ---- calibration and the monitor ------------------------------------------------------------------------------

    def calibrate(self, *, policy: Policy | str | None = None, by: str, dry_run: bool = False) -> CalibrationResult:
        """Refit calibrator and threshold from the verdicts, and decide by them.

        Verdicts count by the inverse of their sampling probability, and the calibrator is drawn towards the pipeline's
        own where they are few. It is evaluated on verdicts held out by question group, written as a new version and
        used; older versions are kept. Stored decisions change when `flag_stored` runs again.

        Args:
            policy: Policy of the threshold, such as "precision>=0.9", which is guaranteed with confidence 0.95 if the
                random audit supports it; else the threshold is where the policy is expected to hold, and the result
                states that nothing is guaranteed. None: that of the pipeline.
            by: Name of the moderator or program.
            dry_run: Fit and evaluate only.

        Returns:
            The calibration, its figures before and after, and the number of the version.

        Raises:
            NotEnoughLabelsError: Fewer than 30 clear answers in the sample, or fewer than 5 of either kind.
            InputError: An unknown policy, or a bad argument.
            NotCalibratedError: The pipeline has no calibrator or threshold.
            OutputError: As `add`.
        """
        as_kind(dry_run, bool, "dry_run", "give True or False")
        name = as_line(by, "by")
        return calibrate_store(self._store, self._require_pipeline(), self._in_use, policy, name, dry_run)

    def calibrations(self) -> list[CalibrationVersion]:
        """Return the versions that `calibrate` has written, oldest first."""
        with self._store.reading() as view:
            return read_versions(view)

    def roll_back(self, number: int, *, by: str) -> None:
        """Decide by another version of the calibration.

        Args:
            number: Number of the version; 0: the pipeline's own calibration.
            by: Name of the moderator or program.

        Raises:
            InputError: There is no such version.
            OutputError: As `add`.
        """
        wanted, name, at = as_int(number, "number", 0, MAX_INT), as_line(by, "by"), now()
        self._store.write(lambda transaction: roll_back_to(transaction, wanted, name, at))

    def monitor(self, *, level: float | None = None, alpha: float = ALPHA) -> MonitorReport:
        """Compare the live index with its calibration.

        The report holds precision, base rate, drift of the scores, and an alarm.

        Args:
            level: Precision that the alarm tests, in (0, 1); None: that of the guarantee, or else of the policy. It
                must stay the same between two calibrations for the false-alarm rate to hold.
            alpha: Probability in (0, 1) that the alarm is ever raised although the precision holds.

        Raises:
            InputError: An argument is out of its range, or the index was opened without a pipeline.
            NotCalibratedError: The pipeline has no calibrator or threshold.
        """
        pipeline = self._require_pipeline()
        with self._store.reading() as view:
            decider = self._in_use.decider(view, pipeline)
            return read_monitor(view, decider, pipeline.fingerprint, level, alpha)

    # ---- decisions ------------------------------------------------------------------------------------------------

    def decisions(self) -> list[StoredDecision]:
        """Return the stored decisions on pairs of stored questions.

        They are those of `flag_stored`, in order of slots.
        """
        with self._store.reading() as view:
            return view.decisions()

    # ---- maintenance -----------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Return counts, sizes in bytes and the model, as JSON can hold them."""
        return index_stats(self._store, self._vectors) | self._search.stats()

    def build_search(self, progress: Progress | None = None) -> None:
        """Build or extend the graph of the approximate search now.

        Without this call, usearch builds it beside the first flags.

        Args:
            progress: Called with (rows inserted, rows to insert).

        Raises:
            MissingExtraError: Neither pgvector nor usearch can be used.
            OutputError: It could not be written.
        """
        self._search.build(progress)

    def measure_recall(self, sample: int = 200, *, seed: int = 0) -> RecallReport:
        """Measure the recall of the search on stored questions drawn at random.

        `stats` shows the recall of an approximate search from then on.

        Args:
            sample: Number of questions to search for, at least 1.
            seed: Seed of the draw.

        Raises:
            InputError: `sample` is below 1, or there are fewer than two questions.
            OutputError: As `add`.
        """
        return self._search.measure_recall(sample, seed)

    def questions(self, ids: Iterable[Id]) -> dict[Id, StoredQuestion]:
        """Return the questions with these ids that are stored.

        Raises:
            InputError: `ids` is no sequence of ids, or one of them is bad.
        """
        keys = as_ids(ids, "id")
        with self._store.reading() as view:
            return view.find(keys)

    def id_kinds(self) -> set[str]:
        """Return the types of the stored ids: "integer", "text", both or none."""
        with self._store.reading() as view:
            return view.id_kinds()

    def verify(self) -> list[str]:
        """Check every row of the index, and return the faults, one line each.

        Once 100 faults are found, the check ends before the next row, with the line "and more". If there is no fault,
        the vector file is written again.
        """
        return verify_index(self._store, self._vectors)

    def compact(self) -> None:
        """Free the disk space of removed questions, and write the vector file again.

        Raises:
            OutputError: As `add`.
        """
        self._store.write(lambda transaction: transaction.next_epoch())
        self._store.shrink()
        self._vectors.save(self._store)


def _checked_pipelines(pipeline: PairScorer | None, successor: PairScorer | None) -> Pipelines:
    """Return the pipelines of an index.

    Raises:
        InputError: One is no pipeline, has no bi-encoder where it needs one, or both have the same.
    """
    known = Pipelines()
    for name, given in (("pipeline", pipeline), ("successor", successor)):
        if given is None:
            continue
        if not hasattr(given, "raw_scores"):
            message = f"{name} must be a DuplicatePipeline, got {type(given).__name__}"
            raise InputError(message, hint="open one: DuplicatePipeline.from_pretrained(...)")
        known = known.with_last(given)
    if successor is not None and pipeline is None:
        raise InputError("a successor needs a pipeline to succeed", hint="give both, or the successor as pipeline")
    if successor is not None and len(known.known) < 2:
        raise InputError(
            "successor must have another bi-encoder than the pipeline",
            hint="open the index with it as pipeline; nothing has to be embedded again",
        )
    return known


def _rule(pipeline: PairScorer, k: int | None, min_cosine: float | None) -> tuple[int, float]:
    """Return the number of flags of a question and their lowest cosine."""
    rule = pipeline.candidate_rule
    k = (rule.neighbours or K) if k is None else as_int(k, "k")
    if min_cosine is not None:
        return k, as_number(min_cosine, "min_cosine", 0, 1, above=True, hint="try 0.4")
    return k, rule.min_cosine if rule.neighbours else -np.inf


def checked_wait(wait: object) -> float:
    """Return the seconds to wait for another writer as a float.

    Anything but a number of 0 or more raises InputError.
    """
    if isinstance(wait, bool) or not isinstance(wait, (int, float, np.number)) or not float(wait) >= 0:
        raise InputError(f"wait must be 0 or more seconds, got {wait!r}", hint="give a number of seconds")
    return float(wait)
