"""Networks that the training of the shipped model starts from, made of the previous release and its base encoder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from dupq.models.sentence_transformers_io import QUESTIONS, training_record, write_fingerprints

MAX_LENGTH = 256
"""Tokens that the cross-encoder reads; the previous release reads 192."""
BASE_SHARE = 0.5
"""Share of the base encoder's weights in the start of the bi-encoder."""
POSITIONS = "embeddings.position_embeddings.weight"
WORDS = "embeddings.word_embeddings.weight"


def start_cross_encoder(previous: Path, base: str | Path, output: Path) -> Path:
    """Write the previous cross-encoder with the base encoder's embeddings of the positions that it lacks."""
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(str(previous))
    weights, config = network.state_dict(), network.config
    name = next(name for name in weights if name.endswith(POSITIONS))
    more = AutoModel.from_pretrained(str(base)).state_dict()[POSITIONS][len(weights[name]) : MAX_LENGTH]
    weights[name] = torch.cat([weights[name], more])
    config.max_position_embeddings = MAX_LENGTH
    longer = type(network)(config)
    longer.load_state_dict(weights)
    return _write(previous, output, longer)


def start_bi_encoder(previous: Path, base: str | Path, output: Path) -> Path:
    """Write the mean of the previous bi-encoder and the base encoder, without the dimension reduction.

    The word embeddings stay those of the previous release, which are rounded to 4 bits and shared with the
    cross-encoder. The base encoder finds more paraphrases of other forums than an encoder trained on one forum.
    """
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(base))
    trained, mixed = SentenceTransformer(str(previous))[0].model.state_dict(), model[0].model.state_dict()
    for name, weights in trained.items():
        if name == WORDS:
            mixed[name] = weights
        elif weights.is_floating_point():
            mixed[name][: len(weights)] = (1 - BASE_SHARE) * weights + BASE_SHARE * mixed[name][: len(weights)]
    model[0].model.load_state_dict(mixed)
    model.save(str(output), create_model_card=False)
    return _remember(previous, output)


def _write(previous: Path, output: Path, network: Any) -> Path:
    shutil.copytree(previous, output, ignore=shutil.ignore_patterns("*.safetensors"))
    network.save_pretrained(output)
    for name in ("tokenizer_config.json",):
        text = (previous / name).read_text(encoding="utf-8")
        (output / name).write_text(text.replace('"model_max_length": 192', f'"model_max_length": {MAX_LENGTH}'))
    return _remember(previous, output)


def _remember(previous: Path, output: Path) -> Path:
    """Copy the fingerprints of the questions that the previous network was trained on."""
    _, seen = training_record(previous)
    if seen is not None:
        write_fingerprints(output / QUESTIONS, seen)
    return output
