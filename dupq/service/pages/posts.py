"""Title, body, tags and answers of a stored question.

They come from its details, or else from its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dupq.index.stores.base import StoredQuestion
from dupq.service.ids import NUMBER, TEXT, whole_number
from dupq.service.pages.rendering import web_link
from dupq.service.review_list import category_of, tags_of
from dupq.types import Id

MAX_TITLE, MAX_TAGS, MAX_ANSWERS = 300, 30, 20


def url_id(id_: Id) -> str:
    """Return an id as text that `path_id` reads back, whatever else is stored."""
    if isinstance(id_, int):
        return f"{NUMBER}{id_}"
    return f"{TEXT}{id_}" if id_.startswith((NUMBER, TEXT)) or whole_number(id_) is not None else id_


@dataclass(frozen=True, slots=True)
class Post:
    """A question as a page shows it.

    Attributes:
        id: Its id.
        name: The id as text in addresses and forms.
        title, body: Its text; the body may be "".
        tags, category: As the forum has them.
        created: ISO 8601 date, or None.
        answers: Number of answers, or None if it is not known.
        answer_texts: Texts of answers that are known, the accepted one first.
        url: Its address on the forum, or "".
        slot: Number of this text of the question.
    """

    id: Id
    name: str
    title: str
    body: str
    tags: tuple[str, ...]
    category: str
    created: str | None
    answers: int | None
    answer_texts: tuple[str, ...]
    url: str
    slot: int


def title_of(question: StoredQuestion) -> str:
    """Return the title of a question, or else the first line of its text."""
    title = (question.details or {}).get("title")
    if isinstance(title, str) and title.strip():
        return title.strip()
    line = question.text.strip().split("\n", 1)[0].strip()
    return line if len(line) <= MAX_TITLE else f"{line[:MAX_TITLE]}…"


def post_of(question: StoredQuestion) -> Post:
    """Return what a page shows of a question."""
    details, title = question.details or {}, title_of(question)
    answers = details.get("answers")
    texts = _answer_texts(answers)
    count = answers if isinstance(answers, int) and not isinstance(answers, bool) else len(texts) if texts else None
    return Post(
        id=question.id,
        name=url_id(question.id),
        title=title,
        body=_body(question, title),
        tags=tuple(tags_of(question)[:MAX_TAGS]),
        category=category_of(question),
        created=question.created,
        answers=count,
        answer_texts=texts,
        url=web_link(details.get("url")),
        slot=question.slot,
    )


def _body(question: StoredQuestion, title: str) -> str:
    body = (question.details or {}).get("body")
    if isinstance(body, str) and body.strip():
        return body.replace("\r\n", "\n")
    text = question.text.strip()
    if text.startswith(title):
        text = text[len(title) :]
    return text.strip() if text.strip() != title else ""


def _answer_texts(value: Any) -> tuple[str, ...]:
    """Return the texts of answers, the accepted ones first.

    Answers are texts, or mappings with `text` and `accepted`.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    found: list[tuple[bool, str]] = []
    for row in value:
        if isinstance(row, str):
            found.append((False, row))
        elif isinstance(row, dict) and isinstance(row.get("text"), str):
            found.append((bool(row.get("accepted")), row["text"]))
    return tuple(text for _, text in sorted(found, key=lambda pair: not pair[0]) if text.strip())[:MAX_ANSWERS]
