"""Warnings of texts that networks cannot read: cut ones, and those of languages that they did not learn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dupq import DuplicatePipeline
from dupq.models.bi_encoder import BiEncoder
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.embedding_cache import EmbeddingCache
from dupq.models.input_checks import InputChecks
from dupq.models.languages import unknown_language
from dupq.models.scoring_options import with_long_pairs
from dupq.types import TextWarning
from tests.fakes import WordEmbedder, WordScorer
from tests.networks import MAX_TOKENS

LANGUAGES: dict[str, list[str]] = json.loads(
    (Path(__file__).parents[2] / "benchmarks" / "data" / "languages.json").read_text(encoding="utf-8")
)
QUESTION = "How can I learn chess?"


def kinds(found: list[tuple[TextWarning, ...]]) -> list[list[str]]:
    return [[warning.kind for warning in warnings] for warnings in found]


@pytest.fixture(scope="module")
def shipped() -> DuplicatePipeline:
    return DuplicatePipeline.from_pretrained()


@pytest.fixture(scope="module", params=["torch", "int8", "cached"])
def checks(request: pytest.FixtureRequest, tiny_bi_encoder: Path, shipped: DuplicatePipeline) -> InputChecks:
    if request.param == "torch":
        return InputChecks(BiEncoder(tiny_bi_encoder), None, None)
    assert shipped.bi_encoder is not None
    return InputChecks(
        EmbeddingCache(shipped.bi_encoder) if request.param == "cached" else shipped.bi_encoder, None, None
    )


def test_a_plain_question_has_no_warning(checks: InputChecks) -> None:
    assert checks.of_texts([QUESTION, "Go?", "x = 1", "42"]) == [(), (), (), ()]
    assert checks.of_texts([]) == []


def test_what_is_cut_off_is_counted(checks: InputChecks) -> None:
    plain, (long,), (endless,) = checks.of_texts([QUESTION, f"{QUESTION} " * 200, f"{QUESTION} " * 50_000])
    assert plain == ()
    assert long.kind == endless.kind == "truncated"
    assert "of its 1,200 tokens are read" in long.message
    assert "of its 1,150,000 characters are read" in endless.message


def test_a_vocabulary_that_spells_or_lacks_the_words_is_found(checks: InputChecks) -> None:
    (found,) = checks.of_texts(["क्या आप शतरंज खेलते हैं और क्यों"])
    assert [warning.kind for warning in found] == ["unknown_language"]


@pytest.mark.parametrize("text", ["😀", "???", "!!! ...", "https://example.com/how/do-i", "www.example.com 🦖"])
def test_a_text_without_words_is_known_by_no_model(checks: InputChecks, text: str) -> None:
    assert [warning.message for warning in checks.of_texts([text])[0]] == ["it has no words"]


def test_networks_whose_tokenizer_is_not_known_warn_of_nothing() -> None:
    assert InputChecks(WordEmbedder(), WordScorer(), None).of_texts([f"{QUESTION} " * 200, "😀"]) == [(), ()]
    assert kinds(InputChecks(WordEmbedder(), None, ["en"]).of_texts([QUESTION, "😀"])) == [[], ["unknown_language"]]


def test_a_pair_is_read_together_by_the_cross_encoder(tiny_cross_encoder: Path) -> None:
    checks = InputChecks(None, CrossEncoderScorer(tiny_cross_encoder), None)
    short, half, long = "how how how", "how " * (MAX_TOKENS // 2 + 2), "how " * MAX_TOKENS
    # Alone each would fit, and so does the shorter beside the longer.
    assert kinds(checks.of_texts([short, half])) == [[], []]
    found = checks.of_pairs([short, half, long, short], [half, half, short, short])
    assert kinds(found) == [[], ["truncated", "truncated"], ["truncated"], []]
    assert [warning.side for warning in found[1] + found[2]] == [1, 2, 1]
    room = MAX_TOKENS - 3
    assert found[2][0].message == f"only the first {room - 3} of its {MAX_TOKENS} tokens are read"
    # Exactly as many as there is room for are all read.
    edge = "how " * (room - 3)
    assert kinds(checks.of_pairs([edge, edge + "how"], [short, short])) == [[], ["truncated"]]


def test_a_text_without_its_middle_is_truncated(tiny_cross_encoder: Path, shipped: DuplicatePipeline) -> None:
    assert shipped.cross_encoder is not None
    scorer = with_long_pairs(shipped.cross_encoder, "head_and_tail")
    partly = "the cross-encoder reads only its first 350 and last 150 of 600 characters"
    long, spaced = "how " * 150, "how " * 10 + " " * 600
    for embedder in (None, shipped.bi_encoder):
        found = InputChecks(embedder, scorer, None).of_pairs([QUESTION, QUESTION], [long, spaced])
        assert [[(warning.message, warning.side) for warning in warnings] for warnings in found] == [[(partly, 2)], []]
    longer, endless = InputChecks(shipped.bi_encoder, scorer, None).of_texts(["how " * 400, "how " * 10_000])
    assert [warning.message for warning in longer + endless] == [
        "the cross-encoder reads only its first 350 and last 150 of 1,600 characters, "
        "the bi-encoder only the first 254 of its 400 tokens",
        "the cross-encoder reads only its first 350 and last 150 of 40,000 characters, "
        "the bi-encoder only the first 254 tokens of its 40,000 characters",
    ]
    # Without a known vocabulary, too.
    unknown = WordScorer()
    unknown.long_pairs = "head_and_tail"  # type: ignore[attr-defined]
    assert [warning.message for warning in InputChecks(None, unknown, None).of_texts([long])[0]] == [partly]
    # Head and tail may be too long themselves.
    small = CrossEncoderScorer(tiny_cross_encoder, long_pairs="head_and_tail")
    (both,) = InputChecks(None, small, None).of_pairs([long], [QUESTION])
    assert both[0].message.startswith("the cross-encoder reads only the first ")
    assert both[0].message.endswith(" tokens in its first 350 and last 150 characters")


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
def test_other_languages_are_warned_of(shipped: DuplicatePipeline, language: str) -> None:
    texts = LANGUAGES[language]
    found = sum("unknown_language" in of for of in kinds(shipped.text_warnings(texts)))
    assert len(texts) >= 25
    assert found >= 0.9 * len(texts)


def test_english_is_not_warned_of(shipped: DuplicatePipeline) -> None:
    assert len(LANGUAGES["en"]) >= 60
    assert [text for text in LANGUAGES["en"] if shipped.text_warnings([text]) != [()]] == []


@pytest.mark.parametrize(
    ("text", "learned"),
    [
        ("¿Cómo puedo aprender inglés más rápido?", "es"),
        ("Wie lange dauert die Fahrt mit dem Zug?", "de"),
        ("Как быстро выучить английский язык?", "ru"),
        ("学习编程应该从哪种语言开始", "zh"),
    ],
)
def test_a_model_does_not_warn_of_its_own_language(text: str, learned: str) -> None:
    assert unknown_language(text, [learned]) is None
    assert unknown_language(text, ["en", learned]) is None
    assert unknown_language(text, None) is None
    assert unknown_language(text, ["en"]) is not None
    assert unknown_language("How does one learn to play chess at home?", [learned]) is not None


def test_quoted_words_of_another_language_make_no_other_question() -> None:
    for text in ("What does schadenfreude mean?", "How do you say 你好 in Chinese?", "What is β in statistics?"):
        assert unknown_language(text, ["en"]) is None
