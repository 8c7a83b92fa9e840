"""Two questions word by word: what holds of every pair, and a table of cases for each conflict."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupq.data import lexicon
from dupq.errors import InputError
from dupq.explain.alignment import (
    MAX_WORDS,
    MatchKind,
    near_level,
)
from dupq.explain.explanation import NOTE, Explanation, explain
from dupq.explain.tokens import split_words
from dupq.types import Decision, PairScore
from tests.fakes import WordEmbedder

UNRELATED = lexicon.load("unrelated")

MEANINGS = {
    "purchase": "buy", "automobile": "car", "film": "movie", "sell": "buy", "canada": "mexico", "pear": "apple",
}  # fmt: skip


def embed(texts):
    """Words of one meaning have one vector; all others are almost at right angles."""
    vectors = np.zeros((len(texts), 256))
    for row, text in enumerate(texts):
        vectors[row] = np.random.default_rng(list(MEANINGS.get(text, text).encode())).normal(size=256)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def matched(explanation: Explanation, kind: MatchKind | None = None) -> set[tuple[str, str]]:
    return {
        (explanation.words1[match.word1].text, explanation.words2[match.word2].text)
        for match in explanation.matches
        if kind in (None, match.kind)
    }


def kinds(question1: str, question2: str) -> list[str]:
    return [str(conflict.kind) for conflict in explain(question1, question2).conflicts]


VOCABULARY = """
How do does I is can't don't not never the a best worst buy sells bought Java Python C++ NYC New York in 2015 2016 two 2
twenty five 10k 5 km $ miles first or and than from to before after faster , ? . Canada US us U.S. II War naïve über
学习 भाषा 😀 👍🏽 <b> &amp; O'Brien 3rd 1,000 9:30 %
"""
sentences = st.lists(st.sampled_from(VOCABULARY.split()), min_size=1, max_size=14).map(" ".join)
anything = st.one_of(sentences, st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)).filter(
    lambda text: any(character.isprintable() and not character.isspace() for character in text)
)

# ---- what holds of every pair ------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(anything)
def test_words_are_pieces_of_the_text_in_order(text):
    words = split_words(text)
    assert all(text[word.start : word.end] == word.text and word.text for word in words)
    assert all(a.end <= b.start for a, b in pairwise(words))
    held = "".join(word.text for word in words)
    # No letter and no digit is lost between the words.
    assert sum(map(str.isalnum, held)) == sum(map(str.isalnum, text))


@settings(max_examples=150)
@given(anything, anything, st.booleans())
def test_exchanging_the_questions_gives_the_mirror_image(question1, question2, vectors):
    there, back = (
        explain(a, b, embed if vectors else None) for a, b in ((question1, question2), (question2, question1))
    )
    assert back == there.mirrored()
    assert there == there.mirrored().mirrored()
    assert [conflict.why for conflict in back.conflicts] == [conflict.why for conflict in there.conflicts]


@settings(max_examples=150)
@given(anything, anything)
def test_every_word_is_matched_once_or_unmatched(question1, question2):
    explanation = explain(question1, question2, embed)
    for words, taken, left in (
        (explanation.words1, [match.word1 for match in explanation.matches], explanation.unmatched1),
        (explanation.words2, [match.word2 for match in explanation.matches], explanation.unmatched2),
    ):
        assert sorted([*taken, *left]) == list(range(len(words)))
    for match in explanation.matches:
        a, b = explanation.words1[match.word1], explanation.words2[match.word2]
        assert (match.kind is MatchKind.IDENTICAL) == (a.key == b.key and a.function == b.function)
        assert (match.similarity == 1) or match.kind is MatchKind.NEAR


@settings(max_examples=100)
@given(anything)
def test_a_question_and_itself_match_word_for_word_without_conflict(question):
    explanation = explain(question, question, embed)
    assert all(match.word1 == match.word2 for match in explanation.matches)
    assert not explanation.conflicts
    assert not explanation.unmatched1
    assert not explanation.unmatched2


TAGS = {"html", "head", "meta", "title", "style", "body", "p", "span", "table", "tr", "th", "td", "small"}


class _Text(HTMLParser):
    """The text of the page's questions, the tags it uses and their titles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.questions: list[str] = []
        self.inside = False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"lang", "charset", "name", "content", "class", "title", "dir"}
        if tag == "p":
            self.questions.append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "p"

    def handle_data(self, data):
        if self.inside:
            self.questions[-1] += data


@settings(max_examples=150)
@given(anything, anything)
def test_html_shows_the_questions_and_no_markup_of_theirs(question1, question2):
    parser = _Text()
    parser.feed(explain(question1, question2, embed).to_html())
    assert parser.tags <= TAGS
    # The parser alone would unescape twice what was escaped too little.
    assert parser.questions[:2] == [question1, question2]


def test_html_escapes_and_can_be_hovered():
    page = explain('Is <script>alert("x")</script> safe & sound?', "Is {question1} {0} 'onclick=x' safe?").to_html()
    assert "<script>" not in page
    assert "&lt;" in page
    assert 'title="safe (identical)"' in page
    assert "{question1}" in re.sub(r"<[^>]+>", "", page)
    assert html.escape(NOTE) in page


@settings(max_examples=150)
@given(anything, anything)
def test_text_is_the_same_with_colour_and_leaks_no_control_character(question1, question2):
    explanation = explain(question1, question2, embed)
    plain, coloured = explanation.to_text(), explanation.to_text(colour=True)
    assert re.sub(r"\033\[[\d;]+m", "", coloured) == plain
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", plain)
    assert str(explanation) == plain
    assert NOTE in plain


@settings(max_examples=100)
@given(anything, anything)
def test_data_is_json_and_complete(question1, question2):
    explanation = explain(question1, question2)
    data = explanation.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert (data["question1"], data["question2"]) == (question1, question2)
    assert [word["text"] for word in data["words1"]] == [word.text for word in explanation.words1]
    assert len(data["conflicts"]) == len(explanation.conflicts)
    for conflict in data["conflicts"]:
        assert conflict["why"]
        assert conflict["texts1"] == [data["words1"][place]["text"] for place in conflict["words1"]]


# ---- alignment ---------------------------------------------------------------------------------------------------


def test_identical_words_forms_and_near_words():
    explanation = explain("Where can I buy old cars?", "Where could he purchase a car in Rome?", embed)
    assert matched(explanation, MatchKind.IDENTICAL) == {("Where", "Where")}
    assert matched(explanation, MatchKind.FORM) == {("cars", "car")}
    assert matched(explanation, MatchKind.NEAR) == {("buy", "purchase")}
    assert [explanation.words1[place].text for place in explanation.unmatched1] == ["can", "I", "old"]
    assert "buy ~ purchase 1.00" in str(explanation)


def test_without_vectors_nothing_is_near_and_that_is_said():
    explanation = explain("Where can I buy it?", "Where can I purchase it?")
    assert not matched(explanation, MatchKind.NEAR)
    assert "no bi-encoder" in str(explanation)
    assert "no bi-encoder" not in str(explain("Who buys?", "Who sells?", embed))


def test_names_numbers_and_opposites_are_never_near():
    def alike(texts):
        return np.concatenate([embed(texts[:0]), np.tile(embed(["same"]), (len(texts), 1))]) if (
            texts != UNRELATED
        ) else embed(texts)  # fmt: skip

    pairs = [("Is he in Canada?", "Is he in Mexico?"), ("Is it 12?", "Is it 15?"), ("Did he buy?", "Did he sell?")]
    for question1, question2 in pairs:
        assert not matched(explain(question1, question2, alike), MatchKind.NEAR)
    assert matched(explain("Is it a pear?", "Is it a plum?", alike), MatchKind.NEAR) == {("pear", "plum")}


def test_near_is_relative_to_unrelated_words():
    def crowded(texts):
        vectors = embed(texts) + 2 * embed(["shared"])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    assert near_level(embed) < 0.35
    assert near_level(crowded) > 0.75
    # All cosines are high in the crowded space; still only words of one meaning are near.
    question1, question2 = "Does a film about pigs bore?", "Does a movie about trains please?"
    assert matched(explain(question1, question2, crowded), MatchKind.NEAR) == {("film", "movie")}


def test_the_embedder_is_asked_only_for_words_that_are_left():
    asked = []

    def recording(texts):
        asked.extend(texts)
        return embed(texts)

    explain("How do I bake bread?", "How do I bake bread?", recording)
    assert asked == []
    explain("How do I bake bread?", "How do I bake rolls?", recording)
    assert [text for text in asked if text not in UNRELATED] == ["bread", "rolls"]


def test_repeated_words_are_matched_at_like_places():
    explanation = explain("Is the cat bigger than the dog?", "Was the cat once bigger than the dog?")
    pairs = [
        (match.word1, match.word2) for match in explanation.matches if explanation.words1[match.word1].key == "the"
    ]
    assert pairs == [(1, 1), (5, 6)]


def test_a_pronoun_is_no_country():
    assert ("us", "US") not in matched(explain("Did it help us?", "Did it help the US?"))
    assert ("US", "America") in matched(explain("Did it help the US?", "Did it help in America?"))


def test_long_texts_are_cut_and_that_is_said():
    long = "How do I bake bread with rye and wheat? " * 80
    explanation = explain(long, "How do I bake bread?")
    assert len(explanation.words1) == MAX_WORDS
    assert explanation.unread == (9 * 80 - MAX_WORDS, 0)
    assert f"words beyond the first {MAX_WORDS}: {9 * 80 - MAX_WORDS} of question 1" in str(explanation)
    assert explanation.to_html().count("bread") > 80


def test_unusable_texts_are_refused_by_name():
    for wrong in ("", "   ", None, 3, "\ud800"):
        with pytest.raises(InputError, match="the second question"):
            explain("Why?", wrong)


def test_symbols_alone_are_explained_too():
    assert "conflicts:       none found" in str(explain("??", "!"))


# ---- conflicts ---------------------------------------------------------------------------------------------------

FIRES = [
    ("number", "Who won in 2015?", "Who won in 2016?", ["2015"], ["2016"]),
    ("number", "Is 5 km far?", "Is 5 miles far?", ["5", "km"], ["5", "miles"]),
    ("number", "Can I save $50 a day?", "Can I save €50 a day?", ["$", "50"], ["€", "50"]),
    ("number", "Is ten too old for judo?", "Is 12 too old for judo?", ["ten"], ["12"]),
    ("number", "What began World War I?", "What began World War II?", ["I"], ["II"]),
    ("number", "Who came first?", "Who came 2nd?", ["first"], ["2nd"]),
    ("number", "Is 1 hour enough?", "Is 90 minutes enough?", ["1", "hour"], ["90", "minutes"]),
    ("number", "क्या 5 काफ़ी है?", "क्या 7 काफ़ी है?", ["5"], ["7"]),
    ("negation", "Why can't hens fly?", "Why can hens fly?", ["n't"], []),
    ("negation", "Why dont hens fly?", "Why do hens fly?", ["nt"], []),
    ("negation", "How do I bake with yeast?", "How do I bake without yeast?", [], ["without"]),
    ("negation", "Why do I always sleep?", "Why do I never sleep?", [], ["never"]),
    ("negation", "Are there no owls here?", "Are there owls here?", ["no"], []),
    ("name", "Is it warm in Canada now?", "Is it warm in Mexico now?", ["Canada"], ["Mexico"]),
    ("name", "Did the painter Indira Rao travel?", "Did the painter Mahesh Rao travel?", ["Indira"], ["Mahesh"]),
    ("name", "Is it easy to write C++ code?", "Is it easy to write C# code?", ["C++"], ["C#"]),
    ("order", "Is Java faster than Python?", "Is Python faster than Java?", ["Java", "Python"], ["Python", "Java"]),
    ("order", "How do I go from New York to Boston?", "How do I go from Boston to New York?",
     ["New", "York", "Boston"], ["Boston", "New", "York"]),
    ("order", "Does stress cause headaches?", "Do headaches cause stress?",
     ["stress", "headaches"], ["headaches", "stress"]),
    ("order", "Can a dog chase the cat?", "Can a cat chase the dog?", ["dog", "cat"], ["cat", "dog"]),
    ("opposite", "Should I eat before swimming?", "Should I eat after a swim?", ["before"], ["after"]),
    ("opposite", "How do I sell a house?", "How do I buy a house?", ["sell"], ["buy"]),
    ("opposite", "Who bought the barn?", "Who sold the barn?", ["bought"], ["sold"]),
    ("opposite", "Why did prices increase?", "Why have prices decreased?", ["increase"], ["decreased"]),
    ("opposite", "What is the best soup?", "What is the worst soup?", ["best"], ["worst"]),
    ("opposite", "How do I turn on the lamp?", "How do I turn off the lamp?", ["on"], ["off"]),
    ("opposite", "How do I follow a friend?", "How do I unfollow a friend?", ["follow"], ["unfollow"]),
    ("opposite", "How do I log in to it?", "How do I log out of it?", ["in"], ["out"]),
    ("opposite", "Is it legal to beg?", "Is it illegal to beg?", ["legal"], ["illegal"]),
    ("choice", "Should I learn chess or bridge?", "Should I learn bridge and chess?",
     ["chess", "or", "bridge"], ["bridge", "and", "chess"]),
]  # fmt: skip

SILENT = [
    ("number", "Who are the two winners?", "Who are the 2 winners?"),
    ("number", "Is 1 km far?", "Is 1000 metres far?"),
    ("number", "Is one day enough?", "Are 24 hours enough?"),
    ("number", "Can I live on 10k rupees?", "Can I live on 10,000 rupees?"),
    ("number", "Who won in 2015?", "Who won?"),
    ("number", "Which one is taller in 2015?", "Which is taller in 2015?"),
    ("number", "What should I read first?", "What should I read in 2016?"),
    ("number", "Is it $5 or less?", "Is it five dollars or less?"),
    ("number", "What began World War 2?", "What began World War II?"),
    ("negation", "Why can't hens fly?", "Why can hens not fly?"),
    ("negation", "How do I bake without yeast?", "How can one bake with no yeast?"),
    ("negation", "Is it raining or not?", "Is it raining?"),
    ("negation", "Who was the noted singer?", "Who was the singer?"),
    ("negation", "Is it not possible to fly?", "Is it impossible to fly?"),
    ("opposite", "Is it not possible to fly?", "Is it impossible to fly?"),
    ("name", "Is it warm in Canada now?", "Is it warm in canada now?"),
    ("name", "Do many Koreans ski?", "Do many people in Korea ski?"),
    ("name", "How big is NYC today?", "How big is New York City today?"),
    ("name", "Is it legal in the US?", "Is it legal in America?"),
    ("name", "Is it warm in Canada now?", "Is it warm there now?"),
    ("name", "How To Cook Perfect Brown Rice", "How Do People Boil Some Rice"),
    ("name", "Did they meet Hillary?", "Did they meet Hilary?"),
    ("order", "In Rome, what is the best soup?", "What is the best soup in Rome?"),
    ("order", "What differs between Java and Python?", "What differs between Python and Java?"),
    ("order", "Is Java similar to Python?", "Is Python similar to Java?"),
    ("order", "How far is it from Rome to Turin?", "How far is it from Turin to Rome?"),
    ("order", "If I drink tea, will I sleep?", "Will I sleep if I drink tea?"),
    ("order", "Did Rome conquer Greece?", "Was Greece conquered by Rome?"),
    ("order", "What is the maths syllabus for beginners?", "What is the beginners syllabus for maths?"),
    ("order", "Is Java better than Python?", "Is Python worse than Java?"),
    ("opposite", "Is Java better than Python?", "Is Python worse than Java?"),
    ("opposite", "Do prices increase or decrease?", "Do prices decrease or increase?"),
    ("opposite", "Is the shop on that hill?", "Is that shop off limits?"),
    ("opposite", "What should I pay unless it rains?", "What should I pay less?"),
    ("choice", "Should I learn chess or bridge?", "Should I learn bridge or chess?"),
    ("choice", "Is chess or bridge harder?", "What is the difference between chess and bridge?"),
    ("choice", "Do cats and/or dogs bite?", "Do cats or dogs bite?"),
]


@pytest.mark.parametrize(("kind", "question1", "question2", "words1", "words2"), FIRES)
def test_a_conflict_is_flagged_with_its_words(kind, question1, question2, words1, words2):
    explanation = explain(question1, question2)
    assert [str(conflict.kind) for conflict in explanation.conflicts] == [kind]
    (conflict,) = explanation.conflicts
    assert [explanation.words1[place].text for place in conflict.words1] == words1
    assert [explanation.words2[place].text for place in conflict.words2] == words2
    assert conflict.why in str(explanation)
    assert html.escape(conflict.why) in explanation.to_html()


@pytest.mark.parametrize(("kind", "question1", "question2"), SILENT)
def test_no_conflict_where_there_is_none(kind, question1, question2):
    assert kind not in kinds(question1, question2)


def test_the_words_of_a_conflict_are_never_identical_matches():
    for kind, question1, question2, *_ in FIRES:
        if kind in ("number", "name", "opposite", "negation"):
            explanation = explain(question1, question2, embed)
            (conflict,) = explanation.conflicts
            assert set(conflict.words1) & set(explanation.unmatched1) or not conflict.words1


def test_several_conflicts_are_all_told():
    found = kinds("Why didn't Canada export oil in 1999?", "Why did Mexico import oil in 2001?")
    assert found == ["number", "negation", "name", "opposite"]


# ---- the score ---------------------------------------------------------------------------------------------------


def test_the_score_is_shown_and_mirrored():
    result = PairScore("Who won?", "Who lost?", -2.0, 0.031, Decision.DISTINCT, 0.6, 0.1)
    explanation = explain("Who won?", "Who lost?", result=result)
    assert explanation.result == result
    assert "distinct, probability 0.031 at a base rate of 10.0%" in str(explanation)
    assert explanation.to_dict()["result"]["decision"] == "distinct"
    assert explanation.mirrored().result.question1 == "Who lost?"
    assert "decision" not in str(explain("Who won?", "Who lost?"))


def test_the_embedder_of_a_pipeline_will_do():
    assert explain("Who bakes?", "Who cooks?", WordEmbedder().embed).vectors
