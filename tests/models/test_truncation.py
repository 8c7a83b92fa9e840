"""A long text is cut before the tokenizer, and nothing changes but the time it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder, SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from dupq.models import truncation as cutting
from dupq.models.bi_encoder import BiEncoder
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.long_text import embed_long_texts
from dupq.models.onnx import runtime
from dupq.models.onnx import token_reader as tokens
from dupq.models.onnx.runtime import RuntimeBiEncoder, RuntimeCrossEncoder, RuntimeNetwork
from dupq.models.truncation import UNCUT, cut_text
from tests.networks import tiny_tokenizer

TOKENIZER: Tokenizer = tiny_tokenizer().backend_tokenizer
PIECES = [
    "chess ", "is ", "zzzz", "\u4f60", "\u0301", "\t\n", "   ", "[SEP]", "[SEP", "]", "?!...", "\U0001f600", "\x00\x07",
    "a" * 150, "\u200b", "e\u0301", "\ufb01", "\u00df", "\u0130", "<p>", "##s", "[UNK] ", "\u3000",
]  # fmt: skip
"""What a cut could go wrong on: accents, words without end, special tokens, what is dropped, what becomes more."""


def unlimited(tokenizer: Tokenizer) -> Tokenizer:
    again = Tokenizer.from_str(tokenizer.to_str())
    again.no_truncation()
    again.no_padding()
    return again


def _cut_early(patch: pytest.MonkeyPatch, size: int = 40) -> None:
    for module in (cutting, runtime, tokens):
        patch.setattr(module, "UNCUT", size)
    patch.setattr(cutting.cut_text, "__defaults__", (size,))
    patch.setattr(cutting.cut_for, "__defaults__", (size,))


long_texts = st.lists(st.tuples(st.sampled_from(PIECES), st.integers(1, 40)), min_size=1, max_size=12).map(
    lambda parts: "".join(piece * often for piece, often in parts)
)


@given(long_texts, st.integers(1, 12), st.integers(1, 60))
def test_the_first_tokens_are_those_of_the_whole(text: str, max_length: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _cut_early(patch, size)
        start = cut_text(text, TOKENIZER, max_length)
    assert text.startswith(start)
    whole, part = (unlimited(TOKENIZER).encode(each, add_special_tokens=False).ids for each in (text, start))
    assert part[:max_length] == whole[:max_length]


@pytest.mark.parametrize(
    ("model", "before", "cuts"),
    [
        (models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"), pre_tokenizers.Whitespace(), True),
        (models.Unigram([("<unk>", 0.0), ("\u2581a", -1.0), ("b", -2.0)], 0, False), pre_tokenizers.Metaspace(), True),
        (models.BPE({"a": 0, "b": 1, "\u0120": 2}, []), pre_tokenizers.ByteLevel(), True),
        (models.BPE({"a": 0, "b": 1}, []), pre_tokenizers.Whitespace(), False),  # it drops what it does not know
        (models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], 0, False), None, False),  # it sees no words
    ],
)
def test_other_tokenizers_are_cut_where_that_is_safe(model: Any, before: Any, cuts: bool) -> None:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFKC()
    if before is not None:
        tokenizer.pre_tokenizer = before
    text = "a b  ab " * UNCUT
    start = cut_text(text, tokenizer, 100)
    assert (len(start) < len(text)) == cuts
    encoded = [tokenizer.encode(each).ids[:100] for each in (text[: 2 * UNCUT], start)]
    assert encoded[0] == encoded[1]


def test_what_is_short_or_shows_too_few_words_is_left(tmp_path: Path) -> None:
    short = "a " * (UNCUT // 2)
    assert cut_text(short, TOKENIZER, 64) is short
    for text in ("a" * 9 * UNCUT, " " * 9 * UNCUT, "\u0301" * 9 * UNCUT):
        assert cut_text(text, TOKENIZER, 64) == text
    assert len(cut_text("a " * 500_000, TOKENIZER, 64)) == UNCUT


# ---- in the networks -------------------------------------------------------------------------------------------------

Score = Callable[[str], Any]


@pytest.fixture(scope="module", params=["int8", "int8 heads", "stock", "stock heads", "int8 pair", "stock pair"])
def score(
    request: pytest.FixtureRequest,
    bi_network: RuntimeNetwork,
    cross_network: RuntimeNetwork,
    tiny_bi_encoder: Path,
    tiny_cross_encoder: Path,
) -> Score:
    form, _, rest = request.param.partition(" ")
    if rest == "pair":
        scorer = (
            RuntimeCrossEncoder(cross_network, threads=1) if form == "int8" else CrossEncoderScorer(tiny_cross_encoder)
        )
        return lambda text: scorer.score([text, "chess?"], ["Who is it?", text])
    reading = "lead" if rest else "whole"
    embedder = (
        RuntimeBiEncoder(bi_network, threads=1, long_texts=reading)  # type: ignore[arg-type]
        if form == "int8"
        else BiEncoder(tiny_bi_encoder, long_texts=reading)  # type: ignore[arg-type]
    )
    return lambda text: embedder.embed([text, "chess"])


@given(text=long_texts)
def test_cut_or_not_the_outputs_are_equal_to_the_bit(score: Score, text: str) -> None:
    whole = score(text)
    with pytest.MonkeyPatch.context() as patch:
        _cut_early(patch)
        cut = score(text)
    assert np.array_equal(whole, cut)


def test_no_tokenizer_is_given_a_million_characters(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []

    def seen(text: str, tokenizer: Tokenizer, max_length: int, uncut: int = UNCUT) -> str:
        start = cut_text(text, tokenizer, max_length, uncut)
        lengths.append((len(text), len(start)))
        return start

    for module in (tokens, cutting):
        monkeypatch.setattr(module, "cut_text", seen)
    text = "Is chess fun? " * 80_000
    assert np.array_equal(score(text), score(text[:30_000]))
    assert max(whole for whole, _ in lengths) > 1_000_000
    assert max(start for _, start in lengths) <= UNCUT


def test_of_two_long_texts_each_keeps_its_share(cross_network: RuntimeNetwork) -> None:
    encoder = RuntimeCrossEncoder(cross_network, threads=1)
    left, right = "chess is fun " * 20_000, "archery is not " * 30_000
    assert np.array_equal(encoder.score([left], [right]), encoder.score([left[:26_000]], [right[:30_000]]))
    assert np.array_equal(encoder.score([left], [right]), encoder.score([right], [left]))


def test_many_long_texts_come_in_small_windows(cross_network: RuntimeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = RuntimeCrossEncoder(cross_network, threads=2)
    left, right = [f"chess {number} " * 90 for number in range(40)], ["Is it fun?"] * 40
    whole = encoder.score(left, right)
    sizes = []
    read = encoder._runner._reader.read

    def seen(part: list[Any]) -> Any:
        sizes.append(sum(len(text) for pair in part for text in pair))
        return read(part)

    monkeypatch.setattr(encoder._runner._reader, "read", seen)
    monkeypatch.setattr(runtime, "_WINDOW_CHARACTERS", 3000)
    assert np.array_equal(encoder.score(left, right), whole)
    assert len(sizes) > 5
    assert max(sizes) < 4000


def test_a_head_is_that_of_the_whole_text() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.texts: list[str] = []

        def embed(self, texts: Any, progress: Any = None) -> Any:
            self.texts = list(texts)
            return np.ones((len(texts), 3), dtype=np.float32)

    for text in ("a  b\n" * 16, "a b " * 16 + "c", " " + "w " * 500_000, "w " * 32 + "\n \n"):
        recorder = Recorder()
        embed_long_texts(recorder.embed, [text])
        assert recorder.texts[1:] == ([" ".join(text.split()[:12])] if len(text.split()) > 32 else [])


def test_stock_networks_have_no_other_first_tokens(tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> None:
    text = "Is chess fun? " * 3000
    stock = SentenceTransformer(str(tiny_bi_encoder), device="cpu").encode([text], normalize_embeddings=True)
    np.testing.assert_allclose(BiEncoder(tiny_bi_encoder, device="cpu").embed([text]), stock, atol=1e-6)
    import torch

    pair = [(text, "Who?")]  # in canonical order
    logits = CrossEncoder(str(tiny_cross_encoder), device="cpu").predict(pair, activation_fn=torch.nn.Identity())
    assert CrossEncoderScorer(tiny_cross_encoder, device="cpu").score(["Who?"], [text])[0] == pytest.approx(
        logits[0], abs=1e-6
    )
