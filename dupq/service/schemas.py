"""Requests and answers of the API, with the examples that its documentation shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dupq.data.arguments import MAX_INT, MIN_INT, as_id
from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.index.new_questions import checked_questions
from dupq.index.stores.base import NewQuestion, without_nul
from dupq.index.verdicts import MAX_CHARACTERS, as_line

DecisionName = Literal["duplicate", "review", "distinct"]
ConflictName = Literal["number", "negation", "name", "order", "opposite", "choice"]

QUESTION = "How do I learn Python?"
OTHER_QUESTION = "What is the best way to learn Python?"
THIRD_QUESTION = "How much does a Python course cost?"


# ---- fields ---------------------------------------------------------------------------------------------------------


def _checked(check: Callable[[Any], Any]) -> AfterValidator:
    """Return the validator that raises the message of an InputError.

    Place and hint are left out.
    """

    def validate(value: Any) -> Any:
        try:
            check(value)
        except InputError as error:
            raise PydanticCustomError("input", "{reason}", {"reason": error.message}) from error
        return value

    return AfterValidator(validate)


_without_nul = _checked(lambda text: without_nul(text, "the text"))
QuestionText: TypeAlias = Annotated[
    StrictStr, Field(min_length=1), _checked(lambda text: without_nul(check_text(text, "text"), "text"))
]
"""Text of a question: not blank, and without NUL characters."""
Line: TypeAlias = Annotated[StrictStr, Field(max_length=MAX_CHARACTERS), _without_nul]
"""Note or key."""
Key: TypeAlias = Annotated[
    StrictStr, Field(min_length=1, max_length=MAX_CHARACTERS), _checked(lambda text: as_line(text, "key"))
]
"""Unique name of a request."""
QuestionId: TypeAlias = Annotated[
    Annotated[StrictInt, Field(ge=MIN_INT, le=MAX_INT)] | Annotated[StrictStr, Field(min_length=1)],
    _checked(lambda id_: without_nul(id_, "the id") if isinstance(as_id(id_, "id"), str) else id_),
]
"""Id of a question: a number or a text; 7 and "7" are two ids."""
Number: TypeAlias = Annotated[StrictInt, Field(ge=1, le=MAX_INT)]
"""Number of a row of a history."""


class Request(BaseModel):
    """Body of a request; a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Answer(BaseModel):
    """Body of an answer."""

    model_config = ConfigDict(allow_inf_nan=False)


class Warned(Answer):
    """Reason not to rely on a score."""

    kind: Literal["truncated", "unknown_language"]
    message: str
    side: Literal[1, 2] | None = Field(None, description="1 or 2: the text of the pair that it is about")


class Decided(Answer):
    """Probability and decision, and all that is needed to rely on them."""

    probability: float = Field(ge=0, le=1, description="P(duplicate) at `base_rate`")
    decision: DecisionName
    threshold: float = Field(description="Probability from which a pair is a duplicate")
    guarantee: str = Field(description="What holds for the threshold, in one line")
    base_rate: float = Field(description="Share of duplicates that the probability assumes")
    model: str = Field(description="Fingerprint of the model")
    warnings: list[Warned]


# ---- scores ---------------------------------------------------------------------------------------------------------


class Pair(Request):
    """Two questions."""

    question1: QuestionText
    question2: QuestionText


class ScoreRequest(Request):
    """Pairs to score, any number of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"pairs": [[QUESTION, OTHER_QUESTION]]},
                {"pairs": [{"question1": QUESTION, "question2": OTHER_QUESTION}, [QUESTION, THIRD_QUESTION]]},
            ]
        }
    )

    pairs: list[Pair | Annotated[tuple[QuestionText, QuestionText], Strict(False)]] = Field(
        description="Each an object, or a list of two texts"
    )

    def texts(self) -> list[tuple[str, str]]:
        """Return the pairs of texts."""
        return [(pair.question1, pair.question2) if isinstance(pair, Pair) else pair for pair in self.pairs]


class ScoredPair(Decided):
    """Score of a pair."""

    score: float = Field(description="Raw score; higher = more alike")


class ExplainRequest(Pair):
    """The pair to explain."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"question1": QUESTION, "question2": OTHER_QUESTION}]})


class WordMatch(Answer):
    """Two words that stand for each other; their places count from 0."""

    word1: int
    word2: int
    text1: str
    text2: str
    kind: str
    similarity: float


class FoundConflict(Answer):
    """Sign that two questions ask different things."""

    kind: ConflictName
    words1: list[int]
    words2: list[int]
    texts1: list[str]
    texts2: list[str]
    why: str


class AskedSpan(Answer):
    """Span of a long text in which the other question is asked."""

    side: Literal[1, 2] = Field(description="The long text")
    start: int = Field(description="First character")
    end: int = Field(description="Character after the last one")
    text: str
    response: float = Field(description="Response of the network there, from -1 to 1")


class Explained(Answer):
    """Two questions compared word by word, and their score.

    The words play no part in the score.
    """

    question1: str
    question2: str
    words1: list[dict[str, Any]]
    words2: list[dict[str, Any]]
    matches: list[WordMatch]
    unmatched1: list[int]
    unmatched2: list[int]
    conflicts: list[FoundConflict]
    unread: list[int] = Field(description="Words of each question that were not compared")
    vectors: bool = Field(description="True if words near in meaning were compared")
    note: str
    result: ScoredPair | None
    asked: AskedSpan | None = Field(None, description="Span of a long text in which the other question is asked")


# ---- flags ----------------------------------------------------------------------------------------------------------


class FlagRequest(Request):
    """Questions to flag: one `question`, many `questions`, or `ids` of stored ones."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"question": QUESTION},
                {"questions": [QUESTION, THIRD_QUESTION], "k": 3, "min_cosine": 0.4},
                {"ids": ["t1"], "k": 5},
            ],
            "oneOf": [{"required": [name]} for name in ("question", "questions", "ids")],
        }
    )

    question: QuestionText | None = None
    questions: list[QuestionText] | None = None
    ids: list[QuestionId] | None = None
    k: Annotated[StrictInt, Field(ge=1, le=100)] | None = Field(None, description="Stored questions for each one")
    min_cosine: Annotated[float, Field(gt=0, le=1)] | None = Field(None, description="Lowest cosine, copies aside")
    decide: bool = Field(False, description="With `ids`: store the decisions, which fills the review queue")

    @model_validator(mode="after")
    def _one_of_three(self) -> FlagRequest:
        given = [self.question, self.questions, self.ids]
        if sum(value is not None for value in given) != 1:
            raise PydanticCustomError("input", "give exactly one of question, questions and ids")
        if self.decide and self.ids is None:
            raise PydanticCustomError("input", "decide must be left out where the questions are not stored")
        return self


class Flagged(Decided):
    """Stored question that may be a duplicate."""

    id: QuestionId
    text: str
    score: float = Field(description="Raw score; higher = more alike")
    cosine: float
    copy_: bool = Field(alias="copy", description="True: the same text, up to case, space and punctuation")


class FlaggedQuestion(Answer):
    """Flags of one question, the most probable first."""

    question: str
    id: QuestionId | None = Field(description="Id of a stored question")
    flags: list[Flagged]
    stored: int = Field(description="Questions that were searched")
    threshold: float
    guarantee: str
    base_rate: float
    model: str
    warnings: list[Warned]


# ---- questions ------------------------------------------------------------------------------------------------------


class NewRow(Request):
    """Question to store.

    A date, reach or details that are left out stay as they are stored.
    """

    id: QuestionId
    text: QuestionText | None = None
    title: Annotated[StrictStr, _without_nul] | None = Field(None, description="In place of `text`")
    body: Annotated[StrictStr, _without_nul] | None = Field(
        None, description="Beside `title`; the model reads it if the setting question_text is title+body"
    )
    created: Annotated[StrictStr, Field(max_length=100)] | StrictInt | float | None = Field(
        None, description="ISO 8601 text, or seconds since 1970"
    )
    reach: Annotated[float, Field(gt=0)] | None = Field(
        None, description="How many people a duplicate costs, such as the views"
    )
    details: dict[str, Any] | None = Field(
        None, description="What the review page shows: title, body, tags, category, url"
    )

    def new_question(self, *, with_body: bool) -> NewQuestion:
        """Return the question as the index stores it.

        Args:
            with_body: The text is title and body, rather than the title alone; see the setting `question_text`.

        Raises:
            InputError: It cannot be stored.
        """
        if (self.text is None) == (self.title is None) or (self.body is not None and self.title is None):
            raise InputError("a question must have either text, or title with or without body", hint="give one of them")
        text, details = self.text, self.details
        if text is None:
            shown = {"title": self.title, "body": self.body}
            details = {name: value for name, value in shown.items() if value is not None} | (details or {})
            text = "\n".join(part for part in (self.title, self.body if with_body else None) if part)
        (question,), _ = checked_questions(
            [self.id],
            [text],
            created=None if self.created is None else [self.created],
            reach=None if self.reach is None else [self.reach],
            details=None if details is None else [details],
        )
        if _has_nul(details):
            raise InputError("details must not hold NUL characters", hint="remove them")
        return question


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(map(_has_nul, value)) or any(map(_has_nul, value.values()))
    return isinstance(value, list) and any(map(_has_nul, value))


class BadRow(BaseModel):
    """Row of a request that cannot be stored."""

    errors: list[tuple[str, str]]


def _or_bad_row(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError as error:
        rows = [("/".join(map(str, row["loc"])), row["msg"]) for row in error.errors(include_url=False)]
        return BadRow(errors=rows)


class QuestionsRequest(Request):
    """Questions to add or replace."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "questions": [
                        {
                            "id": "t1",
                            "title": QUESTION,
                            "body": "I know some C.",
                            "created": "2026-05-01T12:00:00Z",
                            "reach": 250,
                            "details": {"tags": ["python"], "category": "learning", "url": "https://example.org/t/1"},
                        },
                        {"id": 2, "text": OTHER_QUESTION},
                    ]
                }
            ]
        }
    )

    questions: list[Annotated[NewRow, WrapValidator(_or_bad_row)]]


class RowProblem(Answer):
    """Row that was left out."""

    at: str = Field(description="Place in the request, counted from 0")
    message: str


class QuestionsWritten(Answer):
    """Counts of the questions that were stored."""

    added: int
    replaced: int
    unchanged: int
    repeated: list[QuestionId] = Field(description="Ids that were given more than once; the last row is stored")
    skipped: list[RowProblem] = Field(description="Rows that were left out, with skip_bad=true")


class Question(Answer):
    """Stored question."""

    id: QuestionId
    text: str
    created: str | None
    reach: float
    details: dict[str, Any] | None


# ---- review ---------------------------------------------------------------------------------------------------------


class VerdictRow(Answer):
    """Row of the history of verdicts."""

    number: int
    id1: QuestionId
    id2: QuestionId
    answer: Literal["duplicate", "distinct", "skip", "undo"]
    by: str
    at: str
    note: str
    undoes: int | None
    chosen: str
    sampled: float | None
    probability: float | None
    decision: str | None
    threshold: float | None
    base_rate: float | None
    model: str | None


class StoredDecided(Decided):
    """Stored decision on a pair."""

    score: float


class ReviewedItem(Answer):
    """Pair as the queue shows it."""

    question1: Question
    question2: Question
    decision: StoredDecided | None = Field(description="null without a decision, and for an audit pair with blind=true")
    chosen: Literal["queue", "audit", ""]
    sampled: float | None
    last: int = Field(description="`expected` of a verdict: the last row of the pair that its moderator has seen")
    slots: tuple[int, int] = Field(description="`slots` of a verdict: numbers of the two texts as they are shown")
    opinions: list[VerdictRow]
    conflicts: list[ConflictName] | None = Field(description="Kinds of conflict; null where none was requested")


class ReviewList(Answer):
    """Pairs to be reviewed."""

    items: list[ReviewedItem]
    scanned: int = Field(description="Pairs that the filters were applied to")
    cursor: str | None = Field(description="For the next page; null at the end")


class PairDetails(ReviewedItem):
    """One pair with its history."""

    answer: Literal["duplicate", "distinct", "skip", "contested", "outdated", "none"]
    history: list[VerdictRow]


class VerdictRequest(Request):
    """Verdict on a pair; its moderator is the name of the token."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id1": "t1", "id2": 2, "answer": "duplicate", "note": "the same question"}]}
    )

    id1: QuestionId
    id2: QuestionId
    answer: Literal["duplicate", "distinct", "skip"]
    expected: Annotated[StrictInt, Field(ge=0, le=MAX_INT)] | None = Field(
        None, description="`last` of the pair as the moderator has seen it; a later row is a conflict"
    )
    slots: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = Field(
        None, description="`slots` of the pair as the moderator has seen it; another text is a conflict"
    )
    chosen: Literal["queue", "audit", ""] = ""
    sampled: Annotated[float, Field(gt=0, le=1)] | None = None
    note: Line = ""
    key: Key | None = Field(None, description="Unique name: a repeated request is one verdict")


class UndoRequest(Request):
    """Verdict to take back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"number": 1}]})

    number: Number | None = Field(None, description="null: the last one of this moderator that stands")
    force: bool = Field(False, description="Take back the verdict of another moderator; for admins")
    note: Line = ""
    key: Key | None = None


class History(Answer):
    """Rows of the history, last first."""

    rows: list[VerdictRow]
    cursor: int | None = Field(description="For the next page; null at the end")


# ---- groups ---------------------------------------------------------------------------------------------------------


class GroupLink(Answer):
    """Pair that holds a group together."""

    id1: QuestionId
    id2: QuestionId
    probability: float | None


class DuplicateGroup(Answer):
    """Questions that are the same."""

    canonical: QuestionId
    members: list[QuestionId] = Field(description="The oldest first")
    links: list[GroupLink]
    weakest: GroupLink | None
    merges: list[int]
    disputed: list[tuple[QuestionId, QuestionId]]


class GroupDetails(DuplicateGroup):
    """Group with its questions; a question without duplicates is a group of its own."""

    questions: list[Question]


class Groups(Answer):
    """Groups, the largest first."""

    groups: list[DuplicateGroup]
    total: int
    cursor: int | None = Field(description="For the next page; null at the end")


class MergeRequest(Request):
    """Groups to join."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"canonical": "t1", "duplicate": 2}]})

    canonical: QuestionId = Field(description="Preferred as canonical question of the joined group")
    duplicate: QuestionId
    note: Line = ""
    key: Key | None = None


class UnmergeRequest(Request):
    """Merge to take back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"number": 1}]})

    number: Number
    note: Line = ""
    key: Key | None = None


class Merged(Answer):
    """Merge that was made or taken back."""

    number: int = Field(description="Number of the row of the history")
    group: DuplicateGroup | None = Field(description="Group of the canonical question afterwards")


# ---- calibration ----------------------------------------------------------------------------------------------------


class Report(Answer):
    """State of the index against its guarantee."""

    monitor: dict[str, Any] = Field(description="Estimates with 95 % intervals, the alarm, and the drift")
    threshold: float
    guarantee: str
    base_rate: float
    stats: dict[str, Any]
    model: str
    embedder: str | None
    version: str = Field(description="Version of dupq")


class CalibrateRequest(Request):
    """Options of a calibration."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"dry_run": True}]})

    dry_run: bool = Field(False, description="Fit and evaluate only")
    policy: Annotated[StrictStr, Field(max_length=200)] | None = Field(
        None, description="Such as precision>=0.9; null: that of the model"
    )


class Calibrated(Answer):
    """Calibration with its figures before and after."""

    number: int | None = Field(description="Number of the version in use; null for a dry run")
    threshold: float
    guarantee: str
    base_rate: float
    model: str
    report: dict[str, Any]


class CalibrationVersion(Answer):
    """Version of the calibration."""

    number: int
    at: str
    by: str
    model: str
    in_use: bool
    threshold: float
    guarantee: str
    report: dict[str, Any]


class Calibrations(Answer):
    """Versions of the calibration, oldest first.

    Where none is in use, the calibration of the model decides.
    """

    versions: list[CalibrationVersion]
    in_use: int
    threshold: float
    guarantee: str
