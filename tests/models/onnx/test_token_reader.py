"""Token ids cut to length are those of a truncating tokenizer, without its waste."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from dupq.models.onnx.token_reader import TokenReader
from dupq.models.truncation import truncated_lengths
from tests.networks import tiny_tokenizer

BACKEND: Tokenizer = tiny_tokenizer().backend_tokenizer


def fresh() -> Tokenizer:
    return Tokenizer.from_str(BACKEND.to_str())


def roberta() -> Tokenizer:
    """With two marks between the texts, and no types."""
    tokenizer = fresh()
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2), add_prefix_space=False)
    return tokenizer


def bert() -> Tokenizer:
    tokenizer = fresh()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


texts = st.lists(st.sampled_from(["chess", "is", "zq", "?", "[SEP]", "\u4f60"]), max_size=30).map(" ".join)


@pytest.mark.parametrize("tokenizer", [fresh(), roberta(), bert()], ids=["template", "roberta", "bert"])
@given(left=texts, right=texts, max_length=st.integers(6, 40))
def test_it_reads_what_a_truncating_tokenizer_reads(
    tokenizer: Tokenizer, left: str, right: str, max_length: int
) -> None:
    reader = TokenReader(Tokenizer.from_str(tokenizer.to_str()), max_length)
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    for inputs in ([left], [left, right, left], [(left, right)], [(left, right), (right, left), (left, left)]):
        wanted = tokenizer.encode_batch(inputs)
        assert reader.read(inputs) == [(item.ids, item.type_ids) for item in wanted]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=2), st.integers(2, 30))
def test_shares_fill_the_room(lengths: list[int], room: int) -> None:
    kept = truncated_lengths(lengths, room)
    assert sum(kept) == min(sum(lengths), room)
    assert all(part <= whole for part, whole in zip(kept, lengths, strict=True))
    if len(kept) == 2 and kept != lengths:
        assert abs(kept[0] - kept[1]) <= 1 or min(kept) == min(lengths)


def test_a_tokenizer_without_room_or_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="4 tokens leave no room"):
        TokenReader(fresh(), 4)
    for single, pair in (
        ("[CLS] $A [SEP]", "[CLS] $B [SEP] $A [SEP]"),
        ("[CLS] $A [SEP] $A", "$A [SEP] $B"),
        ("[CLS] [SEP]", "$A [SEP] $B"),
    ):
        tokenizer = fresh()
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        with pytest.raises(ValueError, match="it does not put"):
            TokenReader(tokenizer, 64)
