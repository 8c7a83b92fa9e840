"""Long texts: embedded with their first words, and read by the cross-encoder without their middle."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.models.bi_encoder import BiEncoder
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.long_text import (
    HEAD_CHARACTERS,
    LEAD_WORDS,
    LONG_TEXT_WORDS,
    MAX_CHARACTERS,
    OMISSION,
    TAIL_CHARACTERS,
    embed_long_texts,
    head_and_tail,
)
from dupq.models.onnx.runtime import RuntimeBiEncoder, RuntimeCrossEncoder, RuntimeNetwork
from dupq.models.scoring_options import with_long_pairs, with_long_texts
from tests.fakes import WordEmbedder

SHORT = "Which knot holds a boat?"
TITLE = "Which knot holds a boat at a pier in strong autumn wind"
LENGTHY = f"{TITLE} because the old rope slipped " + "and slipped again " * 8


def test_a_long_text_is_the_mean_of_itself_and_its_head() -> None:
    assert len(TITLE.split()) == LEAD_WORDS
    plain = WordEmbedder()
    vectors = embed_long_texts(plain.embed, [SHORT, LENGTHY, TITLE])
    short, whole, head = plain.embed([SHORT, LENGTHY, TITLE])
    np.testing.assert_array_equal(vectors[[0, 2]], [short, head])
    np.testing.assert_allclose(vectors[1], (whole + head) / np.linalg.norm(whole + head), atol=1e-6)
    assert vectors[1] @ head > whole @ head


def test_a_text_is_long_from_one_word_on() -> None:
    plain = WordEmbedder(dimensions=512)
    texts = [" ".join(f"w{number}" for number in range(count)) for count in (LONG_TEXT_WORDS, LONG_TEXT_WORDS + 1)]
    same = np.isclose(embed_long_texts(plain.embed, texts), plain.embed(texts)).all(axis=1)
    assert same.tolist() == [True, False]
    assert embed_long_texts(plain.embed, []).shape == (0, 512)


def test_opposite_vectors_leave_the_whole() -> None:
    def embed(texts, progress=None):  # type: ignore[no-untyped-def]
        return np.array([[1, 0] if len(text.split()) > LEAD_WORDS else [-1, 0] for text in texts], dtype=np.float32)

    np.testing.assert_array_equal(embed_long_texts(embed, [LENGTHY]), [[1, 0]])


@pytest.mark.parametrize("form", ["stock", "int8"])
def test_networks_of_either_form_do_so(bi_folder: Path, bi_network: RuntimeNetwork, form: str) -> None:
    whole = BiEncoder(bi_folder, device="cpu") if form == "stock" else RuntimeBiEncoder(bi_network)
    headed = with_long_texts(whole, "lead")
    assert headed.fingerprint != whole.fingerprint
    assert with_long_texts(headed, "whole").fingerprint == whole.fingerprint
    vectors, plain = headed.embed([SHORT, LENGTHY]), whole.embed([SHORT, LENGTHY, TITLE])
    np.testing.assert_allclose(vectors[0], plain[0], atol=1e-6)
    mean = (plain[1] + plain[2]) / np.linalg.norm(plain[1] + plain[2])
    np.testing.assert_allclose(vectors[1], mean, atol=1e-5)
    assert not np.allclose(vectors[1], plain[1], atol=1e-3)


WORDS = [f"w{number}" for number in range(400)]
PROSE = " ".join(WORDS)
READABLE = HEAD_CHARACTERS + len(OMISSION) + TAIL_CHARACTERS

pieces = st.sampled_from(
    ["a", "Zug", " ", "\n", "\t\u2003", "e\u0301", "语", "👩🏽\u200d💻", "x" * 90, " " * 200, "\u0301" * 150]
)
texts = st.lists(st.tuples(pieces, st.integers(1, 40)), max_size=20).map(lambda parts: "".join(a * n for a, n in parts))


def test_prose_is_cut_between_words() -> None:
    head, tail = head_and_tail(PROSE).split(OMISSION)
    for part, room in ((head, HEAD_CHARACTERS), (tail, TAIL_CHARACTERS)):
        assert room - 10 < len(part) <= room
    read = [*head.split(), *tail.split()]
    assert read == [*WORDS[: len(head.split())], *WORDS[-len(tail.split()) :]]


@given(texts)
def test_the_head_and_the_tail_are_those_of_the_text(text: str) -> None:
    read = head_and_tail(text)
    assert len(read) <= max(READABLE, min(len(text), MAX_CHARACTERS))
    assert head_and_tail(read) == read
    assert bool(read.strip()) == bool(text.strip())
    if len(text) <= MAX_CHARACTERS:
        assert read == text
    elif len(text.strip()) <= MAX_CHARACTERS:
        assert read == text.strip()
    else:
        splits = [at for at in range(len(read)) if read.startswith(OMISSION, at)]
        ends = [(read[:at], read[at + len(OMISSION) :]) for at in splits]
        assert any(text.strip().startswith(head) and text.strip().endswith(tail) for head, tail in ends)


def test_no_middle_is_left_out_of_a_text_at_the_limit() -> None:
    assert head_and_tail("a " * (MAX_CHARACTERS // 2)) == "a " * (MAX_CHARACTERS // 2)
    assert head_and_tail("a " * MAX_CHARACTERS + "?").endswith("a ?")


@pytest.mark.parametrize("before", ["", "Titel\n"])
def test_a_text_without_spaces_is_cut_inside(before: str) -> None:
    text = before + "".join(chr(0x4E00 + number) for number in range(1000))
    assert head_and_tail(text) == text[:HEAD_CHARACTERS] + OMISSION + text[-TAIL_CHARACTERS:]


@pytest.mark.parametrize("character", ["e\u0301", "a\u0323\u0302", "👩🏽\u200d💻", "👍🏽", "❤\ufe0f"])
@pytest.mark.parametrize("shift", range(4))
def test_a_character_stays_whole(character: str, shift: int) -> None:
    read = head_and_tail("x" * shift + character * 500 + "x" * shift)
    head, tail = read.split(OMISSION)
    assert head == "x" * shift + character * ((len(head) - shift) // len(character))
    assert tail == character * ((len(tail) - shift) // len(character)) + "x" * shift
    assert len(head) > HEAD_CHARACTERS - len(character)
    assert len(tail) > TAIL_CHARACTERS - len(character)


def test_marks_alone_are_cut_anywhere() -> None:
    assert len(head_and_tail("\u0301" * 1000)) == READABLE
    assert unicodedata.category("\u0301") == "Mn"


def test_only_the_ends_of_a_long_text_are_looked_at() -> None:
    class Counted(str):
        """Text that counts the characters taken from it."""

        taken = 0

        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            found = super().__getitem__(key)
            Counted.taken += len(found)
            return found

        def strip(self, chars=None):  # type: ignore[no-untyped-def]
            return self

    head_and_tail(Counted("x" * 1_000_000))
    assert 0 < Counted.taken < 2_000


@pytest.mark.parametrize("form", ["stock", "int8"])
def test_the_cross_encoder_reads_head_and_tail(cross_folder: Path, cross_network: RuntimeNetwork, form: str) -> None:
    whole = CrossEncoderScorer(cross_folder, device="cpu") if form == "stock" else RuntimeCrossEncoder(cross_network)
    partly = with_long_pairs(whole, "head_and_tail")
    assert partly.fingerprint != whole.fingerprint
    assert with_long_pairs(partly, "whole").fingerprint == whole.fingerprint
    left, right = [SHORT, f"{SHORT} " * 40, SHORT], [TITLE, LENGTHY * 8, f"{TITLE} ({'slow ' * 200}) {SHORT}"]
    scores = partly.score(left, right)
    read = [[head_and_tail(text) for text in texts] for texts in (left, right)]
    np.testing.assert_allclose(scores, whole.score(*read), atol=1e-5)
    assert np.array_equal(scores, partly.score(right, left))
    assert scores[0] == pytest.approx(whole.score(left[:1], right[:1])[0], abs=1e-5)
