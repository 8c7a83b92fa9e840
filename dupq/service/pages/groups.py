"""Duplicate groups: a list, and a page of each group.

The page can merge, unmerge and choose the canonical question.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dupq.data.arguments import MAX_INT
from dupq.errors import InputError, NotCalibratedError
from dupq.index.groups import Group, all_groups
from dupq.index.stores.base import StoredQuestion, encoded_id
from dupq.index.stores.sql import View
from dupq.service.executor import BusyError
from dupq.service.ids import path_id
from dupq.service.pages.folding import fold_numbers
from dupq.service.pages.group_view import group_view
from dupq.service.pages.posts import Post, post_of, title_of, url_id
from dupq.service.pages.rendering import render
from dupq.service.problems import ProblemError
from dupq.service.sessions import PageReader, PostReviewer
from dupq.service.state import Service, service_of
from dupq.service.webhooks.outgoing import emit
from dupq.types import Id

router = APIRouter(include_in_schema=False)

PAGE = 20
"""Groups of one page."""
FOUND = 10
"""Questions that a search finds by their words, and by the model."""
ORDERS = {"size": "Largest first", "weakest": "Weakest link first", "disputed": "Disputed only"}

Serving = Annotated[Service, Depends(service_of)]


# ---- the list -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group in the list.

    Attributes:
        canonical: Its canonical question.
        titles: Titles of some other members.
        size: Number of members.
        weakest: Lowest probability of a link, or None.
        merges, disputed: Numbers of merges and of disputed pairs.
    """

    canonical: Post
    titles: tuple[str, ...]
    size: int
    weakest: float | None
    merges: int
    disputed: int


@router.get("/groups", response_class=HTMLResponse)
def groups_page(
    request: Request,
    session: PageReader,
    service: Serving,
    q: Annotated[str, Query(max_length=200)] = "",
    order: Literal["size", "weakest", "disputed"] = "size",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> HTMLResponse:
    """Show the duplicate groups, those of a template folded into one line."""
    text = q.replace("\x00", "").strip()
    with service.store.reading() as view:
        groups = all_groups(view)
        every = len(groups)
        if text:
            groups = _with_words(view, groups, text)
        if order == "weakest":
            groups.sort(key=_weakness)
        elif order == "disputed":
            groups = [group for group in groups if group.disputed]
        questions = _find(view, [group.canonical for group in groups])
        titles = [title_of(questions[encoded_id(group.canonical)]) for group in groups]
        folds = fold_numbers(titles)
        pages = max(1, -(-len(folds) // PAGE))
        page = min(page, pages)
        shown = folds[(page - 1) * PAGE : page * PAGE]
        wanted = [groups[place] for fold in shown for place in fold.places]
        questions |= _find(view, [member for group in wanted for member in group.members[:5]])
    rows = {place: _row(groups[place], questions) for fold in shown for place in fold.places}

    def query(**changes: object) -> str:
        given = {"q": text, "order": order if order != "size" else "", **changes}
        return f"?{urlencode({name: value for name, value in given.items() if value})}"

    return render(
        request,
        "groups.html",
        session,
        q=text,
        order=order,
        orders=ORDERS,
        total=len(groups),
        every=every,
        folds=shown,
        rows=rows,
        page=page,
        pages=pages,
        query=query,
    )


def _with_words(view: View, groups: Sequence[Group], text: str) -> list[Group]:
    """Return the groups with a member that matches a text.

    A member matches if it has all words of the text in it, or the text as id.
    """
    stored = _find(view, [member for group in groups for member in group.members])
    words = text.casefold().split()

    def has(member: Id) -> bool:
        question = stored[encoded_id(member)]
        content = f"{question.text} {title_of(question)}".casefold()
        return text in (str(member), url_id(member)) or all(word in content for word in words)

    return [group for group in groups if any(has(member) for member in group.members)]


def _row(group: Group, questions: dict[str, StoredQuestion]) -> GroupRow:
    others = [member for member in group.members[:5] if member != group.canonical][:3]
    return GroupRow(
        canonical=post_of(questions[encoded_id(group.canonical)]),
        titles=tuple(title_of(questions[encoded_id(member)]) for member in others),
        size=len(group.members),
        weakest=_probability(group),
        merges=len(group.merges),
        disputed=len(group.disputed),
    )


def _probability(group: Group) -> float | None:
    return None if group.weakest is None else group.weakest.probability


def _weakness(group: Group) -> float:
    """Return a number by which the groups with the weakest links come first."""
    probability = _probability(group)
    return 2.0 if probability is None else probability


def _find(view: View, ids: Sequence[Id]) -> dict[str, StoredQuestion]:
    return view.find_encoded({encoded_id(id_) for id_ in ids})


# ---- one group ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A question that a search has found to be merged.

    Attributes:
        post: The question.
        probability: P(duplicate) of it and the text that was searched for, or None.
        group: Number of members of its group; 0: it has none.
    """

    post: Post
    probability: float | None
    group: int


@router.get("/groups/show", response_class=HTMLResponse)
async def group_page(
    request: Request,
    session: PageReader,
    service: Serving,
    id: Annotated[str, Query(max_length=2000)],
    find: Annotated[str, Query(max_length=500)] = "",
    done: Literal["", "merged", "canonical", "unmerged"] = "",
) -> HTMLResponse:
    """Show a group, and questions that may be merged into it."""
    return await _shown(request, session, service, id, find=find, done=done)


async def _shown(
    request: Request,
    session: PageReader,
    service: Service,
    name: str,
    *,
    find: str = "",
    done: str = "",
    problem: str = "",
) -> HTMLResponse:
    shown = await run_in_threadpool(_group, service, name)
    text = find.replace("\x00", "").strip()
    found: list[Found] = []
    if text and session.caller.may("review"):
        near = await _nearest(service, text)
        members = {encoded_id(member.id) for member in shown.members}
        found = await run_in_threadpool(_found, service, text, near, members)
    return render(
        request,
        "group.html",
        session,
        status=409 if problem else 200,
        group=shown,
        find=text,
        found=found,
        done=done,
        problem=problem,
        key=uuid.uuid4().hex,
        url_id=url_id,
        pair_query=pair_query,
    )


def _group(service: Service, name: str) -> Any:
    id_ = path_id(name, service.index)
    if id_ not in service.index:
        raise ProblemError(404, f"no question has the id {name!r:.60}", hint="it may have been removed: see all groups")
    return group_view(service, id_)


def pair_query(one: Post, other: Post) -> str:
    """Return the query of the page of a pair."""
    return f"?{urlencode({'id1': one.name, 'id2': other.name})}"


async def _nearest(service: Service, text: str) -> dict[str, float]:
    """Return the probability of the questions near a text, by encoded id.

    The model finds them. There are none if it is busy or cannot flag the text.
    """
    try:
        flags = (await service.executor.flag([text], k=FOUND))[0].flags
    except (BusyError, NotCalibratedError, InputError):
        return {}
    return {encoded_id(flag.id): flag.probability for flag in flags}


def _found(service: Service, text: str, near: dict[str, float], members: set[str]) -> list[Found]:
    """Return the questions outside of a group that match a text.

    They have the text as id, hold its first eight words, or are near it.
    """
    escaped = re.sub("[!%_]", lambda found: f"!{found[0]}", text.lower())
    marks = [f"%{word}%" for word in escaped.split()[:8]]
    where = " AND ".join(["lower(text) LIKE ? ESCAPE '!'"] * len(marks))
    try:
        id_ = path_id(text, service.index)
        exact = [encoded_id(id_)]
    except (InputError, ProblemError):
        exact = []
    with service.store.reading() as view:
        rows = view.session.run(f"SELECT id FROM questions WHERE {where} ORDER BY slot LIMIT {2 * FOUND}", marks)
        names = dict.fromkeys([*exact, *near, *(row[0] for row in rows)])
        stored = view.find_encoded([name for name in names if name not in members])
    shown = [stored[name] for name in names if name in stored][: 2 * FOUND]
    groups = {encoded_id(question.id): service.index.group(question.id) for question in shown}
    return [
        Found(post_of(question), near.get(name), 0 if (group := groups[name]) is None else len(group.members))
        for name, question in ((encoded_id(question.id), question) for question in shown)
    ]


# ---- changes --------------------------------------------------------------------------------------------------------


@router.post("/groups/merge", response_class=HTMLResponse)
async def merge(
    request: Request,
    session: PostReviewer,
    service: Serving,
    canonical: Annotated[str, Form(max_length=2000)],
    duplicate: Annotated[str, Form(max_length=2000)],
    key: Annotated[str, Form(min_length=8, max_length=100)],
    note: Annotated[str, Form(max_length=2000)] = "",
    done: Annotated[Literal["merged", "canonical"], Form()] = "merged",
) -> Response:
    """Join two duplicate groups, or choose another canonical question.

    The group of `duplicate` joins that of `canonical`.
    """
    try:
        await run_in_threadpool(_merge, service, session, (canonical, duplicate), note, key)
    except (InputError, ProblemError) as error:
        text = error.detail if isinstance(error, ProblemError) else error.message
        return await _shown(request, session, service, canonical, problem=text)
    return _back(canonical, done)


def _merge(service: Service, session: PostReviewer, names: tuple[str, str], note: str, key: str) -> None:
    one, other = (path_id(name, service.index) for name in names)
    by = session.caller.name
    # A page has several forms with one key: the names are added, so that only a form that is sent twice is one merge.
    number = service.index.merge(one, other, by=by, note=note.strip(), key=f"{key}:{names[0]}:{names[1]}")
    data = {"number": number, "canonical": one, "duplicate": other, "by": by}
    emit(service, "merged", f"merged:{number}", data)


@router.post("/groups/unmerge", response_class=HTMLResponse)
async def unmerge(
    request: Request,
    session: PostReviewer,
    service: Serving,
    id: Annotated[str, Form(max_length=2000)],
    number: Annotated[int, Form(ge=1, le=MAX_INT)],
    key: Annotated[str, Form(min_length=8, max_length=100)],
    note: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Take a merge back."""
    by = session.caller.name
    try:
        await run_in_threadpool(service.index.unmerge, number, by=by, note=note.strip(), key=f"{key}:{number}")
    except InputError as error:
        return await _shown(request, session, service, id, problem=error.message)
    return _back(id, "unmerged")


def _back(name: str, done: str) -> RedirectResponse:
    return RedirectResponse(f"/groups/show?{urlencode({'id': name, 'done': done})}", 303)
