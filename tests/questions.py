"""Questions of our own: each way of asking, asked of each thing, so that hundreds of labelled pairs can be made."""

from __future__ import annotations

from typing import Any

from dupq.data.pairs import PairTable
from dupq.types import QuestionPair

INTENTS = (
    (
        "How can I learn {thing}?",
        "What is the best way to learn {thing}?",
        "Where should I start with {thing} as a beginner?",
    ),
    (
        "How much does it cost to take up {thing}?",
        "What would I have to pay for {thing}?",
        "Is {thing} an expensive hobby?",
    ),
    (
        "Is {thing} dangerous for children?",
        "Can my kids do {thing} safely?",
        "Would {thing} hurt a young child?",
    ),
    (
        "Who invented {thing}?",
        "Which person came up with {thing} first?",
        "Where does {thing} come from originally?",
    ),
    (
        "Why do people enjoy {thing} so much?",
        "What makes {thing} fun?",
        "What do people like about {thing}?",
    ),
    (
        "Can I make a living from {thing}?",
        "Is it possible to earn money with {thing}?",
        "How would one turn {thing} into a job?",
    ),
)
"""Ways to ask one thing each; the phrasings of one are duplicates of each other."""

THINGS = (
    "archery", "beekeeping", "calligraphy", "chess", "croquet", "embroidery", "falconry", "fencing", "gardening",
    "glass blowing", "go", "ice skating", "juggling", "kayaking", "knitting", "lace making", "macramé", "origami",
    "photography", "pottery", "quilting", "rock climbing", "rowing", "sailing", "stargazing", "surfing", "tap dancing",
    "topiary", "weaving", "whittling", "wood carving", "yodelling",
)  # fmt: skip


def labelled_pairs(groups: int = 96) -> list[QuestionPair]:
    """Pairs in so many question groups, at most 96: in each 6 duplicates and 4 distinct pairs.

    A group is two ways of asking of one thing: all pairs within either are duplicates, pairs across are not.
    """
    pairs: list[QuestionPair] = []
    for group in range(groups):
        thing, first = THINGS[group % len(THINGS)], 2 * (group // len(THINGS))
        a, b = ([phrase.format(thing=thing) for phrase in INTENTS[intent]] for intent in (first, first + 1))
        pairs += [QuestionPair(x, y, 1) for asked in (a, b) for x, y in zip(asked, asked[1:] + asked[:1], strict=True)]
        pairs += [QuestionPair(a[i], b[j], 0) for i, j in ((0, 0), (1, 2), (2, 1), (0, 2))]
    return pairs


def labelled_table(groups: int = 96) -> PairTable:
    """`labelled_pairs` by column."""
    return PairTable.from_pairs(labelled_pairs(groups))


def question_cluster(thing: str) -> dict[str, Any]:
    """A cluster in the form of `data_scripts/worlds`; the first near miss shares all words but one."""
    same = [phrase.format(thing=thing) for phrase in INTENTS[0]] + [f"How do I begin with {thing}?"]
    near = [["opposite", f"How can I forget {thing}?"], ["aspect", f"Who invented {thing}?"]]
    near += [["agent", f"Can my kids do {thing}?"], ["aspect", f"What makes {thing} fun?"]]
    return {"w": "hobbies", "s": same, "d": near}


def words() -> list[str]:
    """Every word of the questions, in lower case, sorted."""
    text = " ".join([*(phrase for asked in INTENTS for phrase in asked), *THINGS]).replace("{thing}", "")
    return sorted({word.strip("?").lower() for word in text.split()} - {""})
