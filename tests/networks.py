"""Tiny networks made in code: untrained, a few thousand weights, and yet stock folders that every loader opens."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING

from tests.questions import words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HIDDEN = 32
MAX_TOKENS = 64
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer whose vocabulary is the words of `tests.questions` and all letters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    vocabulary = dict.fromkeys([*SPECIAL, *words(), *pieces, *(f"##{piece}" for piece in pieces)])
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, numbers[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def save_tiny_base(folder: Path, seed: int = 0, *, layers: int = 2, tokens: int = MAX_TOKENS) -> Path:
    """An untrained BERT, as a plain transformers folder."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=tokens,
    )
    torch.manual_seed(seed)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_bi_encoder(folder: Path, base: Path) -> Path:
    """A stock `SentenceTransformer` folder of that base, with mean pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    encoder = Transformer(str(base), max_seq_length=MAX_TOKENS)
    pooling = Pooling(HIDDEN, pooling_mode="mean")
    model = SentenceTransformer(modules=[encoder, pooling, Normalize()], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def save_tiny_cross_encoder(folder: Path, base: Path, seed: int = 0) -> Path:
    """A stock `CrossEncoder` folder of that base, with one output and a fresh head."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.manual_seed(seed)
    model = CrossEncoder(str(base), num_labels=1, max_length=MAX_TOKENS, device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder
