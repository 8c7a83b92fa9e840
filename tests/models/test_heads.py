"""The head of a long text counts twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dupq.models.bi_encoder import BiEncoder
from dupq.models.heads import HEAD, LONG, embed_with_heads
from dupq.models.networks import with_long_texts
from dupq.models.runtime import RuntimeBiEncoder, RuntimeNetwork
from tests.fakes import WordEmbedder

SHORT = "Which knot holds a boat?"
TITLE = "Which knot holds a boat at a pier in strong autumn wind"
LENGTHY = f"{TITLE} because the old rope slipped " + "and slipped again " * 8


def test_a_long_text_is_the_mean_of_itself_and_its_head() -> None:
    assert len(TITLE.split()) == HEAD
    plain = WordEmbedder()
    vectors = embed_with_heads(plain.embed, [SHORT, LENGTHY, TITLE])
    short, whole, head = plain.embed([SHORT, LENGTHY, TITLE])
    np.testing.assert_array_equal(vectors[[0, 2]], [short, head])
    np.testing.assert_allclose(vectors[1], (whole + head) / np.linalg.norm(whole + head), atol=1e-6)
    assert vectors[1] @ head > whole @ head


def test_a_text_is_long_from_one_word_on() -> None:
    plain = WordEmbedder(dimensions=512)
    texts = [" ".join(f"w{number}" for number in range(count)) for count in (LONG, LONG + 1)]
    same = np.isclose(embed_with_heads(plain.embed, texts), plain.embed(texts)).all(axis=1)
    assert same.tolist() == [True, False]
    assert embed_with_heads(plain.embed, []).shape == (0, 512)


def test_opposite_vectors_leave_the_whole() -> None:
    def embed(texts, progress=None):  # type: ignore[no-untyped-def]
        return np.array([[1, 0] if len(text.split()) > HEAD else [-1, 0] for text in texts], dtype=np.float32)

    np.testing.assert_array_equal(embed_with_heads(embed, [LENGTHY]), [[1, 0]])


@pytest.mark.parametrize("form", ["stock", "int8"])
def test_networks_of_either_form_do_so(bi_folder: Path, bi_network: RuntimeNetwork, form: str) -> None:
    whole = BiEncoder(bi_folder, device="cpu") if form == "stock" else RuntimeBiEncoder(bi_network)
    headed = with_long_texts(whole, "head")
    assert headed.fingerprint != whole.fingerprint
    assert with_long_texts(headed, "whole").fingerprint == whole.fingerprint
    vectors, plain = headed.embed([SHORT, LENGTHY]), whole.embed([SHORT, LENGTHY, TITLE])
    np.testing.assert_allclose(vectors[0], plain[0], atol=1e-6)
    mean = (plain[1] + plain[2]) / np.linalg.norm(plain[1] + plain[2])
    np.testing.assert_allclose(vectors[1], mean, atol=1e-5)
    assert not np.allclose(vectors[1], plain[1], atol=1e-3)
