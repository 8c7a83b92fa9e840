"""Networks of known shapes with random weights: speed depends on shapes and lengths, not on weights.

Weights of the Hub are not needed. The tokenizer is the one of the shipped model, for all shapes: RoBERTa's own, whose
vocabulary of 50,265 pieces cuts English questions into about as many tokens, is not part of any package.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_TOKENS = 512
SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


@dataclass(frozen=True)
class Shape:
    """Shape of a network, and the share of a round's pairs that it scores, so that slow ones end in time."""

    name: str
    family: str
    layers: int
    hidden: int
    heads: int
    words: int
    share: float = 1.0


CROSS_ENCODERS = (
    Shape("ms-marco-MiniLM-L6", "bert", 6, 384, 12, 30_522),
    Shape("quora-distilroberta-base", "roberta", 6, 768, 12, 50_265, 0.3),
    Shape("quora-roberta-large", "roberta", 24, 1024, 16, 50_265, 0.1),
)
ENCODER = Shape("all-MiniLM-L6", "bert", 6, 384, 12, 30_522)


def cross_encoder(shape: Shape, tokenizer: Path, scratch: Path) -> Path:
    """Return the folder of a network with one output for a pair, made once."""
    return _made(shape, tokenizer, scratch / f"cross-encoder-{shape.name}", pairs=True)


def encoder(shape: Shape, tokenizer: Path, scratch: Path) -> Path:
    """Return the folder of a `SentenceTransformer` with mean pooling, made once."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    folder = scratch / f"encoder-{shape.name}"
    if not folder.exists():
        base = Transformer(str(_made(shape, tokenizer, scratch / f"base-{shape.name}", pairs=False)))
        base.max_seq_length = 256
        modules = [base, Pooling(shape.hidden, pooling_mode="mean"), Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def _made(shape: Shape, tokenizer: Path, folder: Path, pairs: bool) -> Path:
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification

    if folder.exists():
        return folder
    half = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    torch.manual_seed(0)
    kind = AutoModelForSequenceClassification if pairs else AutoModel
    kind.from_config(_config(shape)).save_pretrained(half)
    shutil.copy(tokenizer, half / "tokenizer.json")
    names = ["input_ids", *(["token_type_ids"] if shape.family == "bert" else []), "attention_mask"]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_TOKENS}
    settings |= {f"{name}_token": token for name, token in SPECIAL.items()} | {"model_input_names": names}
    (half / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    half.rename(folder)
    return folder


def _config(shape: Shape) -> Any:
    from transformers import BertConfig, RobertaConfig

    sizes = {
        "vocab_size": shape.words,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": 4 * shape.hidden,
        "num_labels": 1,
        "pad_token_id": 0,
    }
    if shape.family == "bert":
        return BertConfig(**sizes, max_position_embeddings=MAX_TOKENS)
    # Positions of RoBERTa begin after that of the padding.
    return RobertaConfig(**sizes, max_position_embeddings=MAX_TOKENS + 2, type_vocab_size=1)
