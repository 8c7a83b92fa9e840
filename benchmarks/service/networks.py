"""Networks and stored questions of the baseline, in a folder.

Their speed does not depend on the weights. Without stock networks at hand, they are BERTs of the same shape with random
weights: 6 layers of 384 units, as `ms-marco-MiniLM-L6-v2` and `all-MiniLM-L6-v2` have.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks.index.corpus import Corpus
from dupq.data.writing import write_json

SHAPE = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
MAX_TOKENS = {"cross-encoder": 512, "bi-encoder": 256}
TOKENIZER = Path(__file__).resolve().parents[2] / "dupq" / "pretrained" / "cross-encoder" / "tokenizer.json"
"""The vocabulary of BERT, so that texts have as many tokens as with the stock networks."""
SEED = 0


def made(folder: Path, corpus: Corpus, size: int, base: Path | None = None) -> Path:
    """Return a folder with `cross-encoder`, `bi-encoder`, `texts.json` and `embeddings.npy`.

    Args:
        folder: To write to; what an earlier run has finished stays.
        corpus: The stored questions.
        size: Their number.
        base: A folder with stock networks in `cross-encoder` and `bi-encoder`; None: random weights.
    """
    note = {"size": size, "base": str(base) if base else None}
    done = folder / "done.json"
    if done.exists() and json.loads(done.read_text(encoding="utf-8")) == note:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if base is None:
        dimensions = _random(folder)
    else:
        for name in MAX_TOKENS:
            (folder / name).symlink_to((base / name).absolute())
        dimensions = json.loads((base / "bi-encoder" / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    (folder / "texts.json").write_text(json.dumps(corpus.texts(0, size)), encoding="utf-8")
    rows = np.random.default_rng(SEED).standard_normal((size, dimensions), np.float32)
    np.save(folder / "embeddings.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    write_json(done, note)
    return folder


def _random(folder: Path, shape: dict[str, int] | None = None) -> int:
    """Write both networks with random weights; return the dimensions of an embedding."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    shape = shape or SHAPE
    vocabulary = Tokenizer.from_file(str(TOKENIZER))
    special = ("pad", "unk", "cls", "sep", "mask")
    config = BertConfig(vocab_size=vocabulary.get_vocab_size(), num_labels=1, **shape)
    torch.manual_seed(SEED)
    networks = {"cross-encoder": BertForSequenceClassification(config), "plain": BertModel(config)}
    for name, network in networks.items():
        network.save_pretrained(folder / name)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=vocabulary,
            model_max_length=MAX_TOKENS.get(name, MAX_TOKENS["bi-encoder"]),
            **{f"{word}_token": f"[{word.upper()}]" for word in special},
        )
        tokenizer.save_pretrained(folder / name)
    encoder = Transformer(str(folder / "plain"), max_seq_length=MAX_TOKENS["bi-encoder"])
    modules = [encoder, Pooling(shape["hidden_size"], pooling_mode="mean")]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(
        str(folder / "bi-encoder"), create_model_card=False
    )
    shutil.rmtree(folder / "plain")
    return shape["hidden_size"]
