"""Filters of the review queue, kept in the address of every page of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from dupq.data.text import normalise
from dupq.index.review import ReviewItem, is_within
from dupq.service.pages.marks import KINDS, conflict_kinds
from dupq.service.pages.posts import title_of
from dupq.service.review_list import ReviewFilters

SHOWN = {
    "open": "without a verdict",
    "mine": "with a verdict of mine",
    "contested": "contested",
}
"""Value of `show` -> the pairs that it stands for."""
DECISIONS = ("duplicate", "review", "distinct")
MAX_TEXT = 200
_SHARP_S = re.compile("^s+|ss+|s+$")


@dataclass(frozen=True, slots=True)
class Filters:
    """Filters of the pairs on a page.

    Attributes:
        show: A key of `SHOWN`.
        decision: "duplicate", "review", "distinct", or "" for all.
        category, tag: Of one of the two questions, or "".
        low, high: Range of the probability, in [0, 1].
        conflict: Kind of conflict that the two titles have, or "".
        text: Words that stand in the two questions, as far as they are typed, or "".
    """

    show: str = "open"
    decision: str = ""
    category: str = ""
    tag: str = ""
    low: float = 0.0
    high: float = 1.0
    conflict: str = ""
    text: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filters:
        """Return the filters of a query.

        A value that cannot be used counts as missing, and NUL is dropped.
        """
        text = {
            name: query.get(name, "").replace("\x00", "").strip()[:MAX_TEXT] for name in ("category", "tag", "text")
        }
        low, high = _share(query.get("low"), 0.0), _share(query.get("high"), 1.0)
        return cls(
            show=_one_of(query.get("show"), SHOWN) or "open",
            decision=_one_of(query.get("decision"), DECISIONS),
            low=min(low, high),
            high=max(low, high),
            conflict=_one_of(query.get("conflict"), KINDS),
            **text,
        )

    def query(self, **more: object) -> str:
        """Return the filters as a query with "?", or "" if there are none.

        The query also has the parameters `more`.
        """
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        pairs = {**given, **{name: value for name, value in more.items() if value not in (None, "", 0)}}
        return f"?{urlencode(pairs)}" if pairs else ""

    @property
    def any(self) -> bool:
        """True if some pairs are left out."""
        return self != Filters()

    def described(self) -> list[tuple[str, str]]:
        """Return each filter that is set as text, with the query of the others."""
        texts = {
            "show": SHOWN[self.show] if self.show != "open" else "",
            "decision": f"decided {self.decision}" if self.decision else "",
            "category": f"category {self.category}" if self.category else "",
            "tag": f"tag {self.tag}" if self.tag else "",
            "low": f"probability from {self.low:g}" if self.low > 0 else "",
            "high": f"probability up to {self.high:g}" if self.high < 1 else "",
            "conflict": f"conflict: {self.conflict}" if self.conflict else "",
            "text": f"“{self.text}”" if self.text else "",
        }
        defaults = {f.name: f.default for f in fields(self)}
        changes: dict[str, Any] = {name: {name: defaults[name]} for name in texts}
        return [(text, replace(self, **changes[name]).query()) for name, text in texts.items() if text]

    # ---- in SQL ---------------------------------------------------------------------------------------------------

    def condition(self) -> tuple[str, list[object]]:
        """Return a condition on the columns of `decisions`, and its values.

        It lets pass pairs that `matches` leaves out. It leaves out a pair that `matches` keeps only if a word is
        written with compatibility characters, such as the ligature "fi". "ß" is none of them.
        """
        parts: list[str] = []
        values: list[object] = []
        for part, value in (
            ("decision=?", self.decision),
            ("probability>=?", self.low or None),
            ("probability<=?", self.high if self.high < 1 else None),
        ):
            if value:
                parts.append(part)
                values.append(value)
        for text in (self.category, self.tag, *normalise(self.text).split()):
            # JSON keeps these characters as they are, and both databases know their lower case.
            if text.isascii() and text and not set('"\\') & set(text):
                parts.append(
                    "EXISTS (SELECT 1 FROM questions q WHERE q.slot IN (decisions.slot, decisions.other)"
                    " AND (lower(q.text) LIKE ? ESCAPE '!' OR lower(q.details) LIKE ? ESCAPE '!'))"
                )
                values += [_pattern(text)] * 2
        return " AND ".join(parts), values

    # ---- in Python ------------------------------------------------------------------------------------------------

    def matches(self, item: ReviewItem) -> bool:
        """Return True if a pair passes all filters but `show`."""
        decision = self.decision or None
        if not is_within(item, decision, (self.low, self.high)):
            return False
        if not ReviewFilters(tag=self.tag, category=self.category, search=self.text).keep(item):
            return False
        return not self.conflict or self.conflict in conflict_kinds(title_of(item.question), title_of(item.other))


def _pattern(text: str) -> str:
    escaped = text.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_")
    # `normalise` folds "ß" to "ss", of which a word that is half typed may have one.
    return f"%{_SHARP_S.sub('%', escaped)}%"


def _one_of(value: str | None, choices: Mapping[str, object] | tuple[str, ...]) -> str:
    return value if value is not None and value in choices else ""


def _share(value: str | None, default: float) -> float:
    try:
        share = float(value or "")
    except ValueError:
        return default
    return share if 0 <= share <= 1 else default
