"""Place in a long text at which the other question is asked.

It is found by the response map of a pair network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dupq.explain.tokens import Word
from dupq.models.long_text import LONG_TEXT_WORDS

if TYPE_CHECKING:
    from dupq.models.pair_heads.template import ResponseMap

Locate = Callable[[str, str], "ResponseMap | None"]
"""Two texts -> the response map of the longer one; None where the network makes none."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Span of a long text that responds most to the other question.

    Attributes:
        side: 1 or 2, the long text.
        start, end: Position of the span in it, in characters.
        text: The span, `question[start:end]`.
        response: Response of the network there, in [-1, 1]; 1 = alike in every token.
    """

    side: int
    start: int
    end: int
    text: str
    response: float

    def mirrored(self) -> Asked:
        """Return the span with the questions exchanged."""
        return replace(self, side=3 - self.side)


def find_asked(
    questions: tuple[str, str], words: tuple[Sequence[Word], Sequence[Word]], locate: Locate
) -> Asked | None:
    """Find the span of a long text in which the other question is asked.

    The span consists of whole words. None where no text has more than `LONG_TEXT_WORDS` words, where the shorter one
    has more than half the tokens of the longer one, or where the network makes no map.

    Args:
        questions: The texts.
        words: Their words.
        locate: Returns the response map.
    """
    if max(map(len, words)) <= LONG_TEXT_WORDS:
        return None
    found = locate(*questions)
    if found is None or 2 * found.tokens[0] > found.tokens[1]:
        return None
    side = 3 - found.template
    start, end = found.best
    for word in words[side - 1]:
        if word.start < end and start < word.end:
            start, end = min(start, word.start), max(end, word.end)
    return Asked(side, start, end, questions[side - 1][start:end], float(found.responses.max()))
