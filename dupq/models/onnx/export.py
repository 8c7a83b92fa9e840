"""Export of a stock BERT network to the int8 form that `runtime` runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError, ModelFolderError, require_extra
from dupq.models.batching import UniquePairs
from dupq.models.onnx.bert_weights import PROJECTION, Bert, product_names, read_bert
from dupq.models.onnx.embedding_table import EmbeddingTable
from dupq.models.onnx.graph import build_graph
from dupq.models.onnx.quantise import Activations, Int8Product, quantise
from dupq.models.onnx.runtime import FORMAT, Runner, RuntimeNetwork, unit_rows

FITTING_PAIRS = 512
"""Number of pairs whose activations set the ranges; the shift is measured on as many others."""

_SAMPLED_ROWS = 1024
"""Approximate number of sampled inputs of a product."""


def export(
    source: str | Path, left: Sequence[str], right: Sequence[str], word_bits: Literal[4, 8] = 8
) -> RuntimeNetwork:
    """Export a stock network to int8.

    Weights are int8 with one scale a column (embeddings: a row). Activations are uint8 with one fixed scale a product,
    or, inside the feed-forward layers, one a token. See `dupq.models.onnx.quantise`.

    Args:
        source: Folder of a stock `SentenceTransformer` or `CrossEncoder` whose encoder is a BERT.
        left, right: n texts each of real pairs, no labels needed; up to 1,024 distinct pairs are used.
        word_bits: Bits a value of the token embeddings; 4 halve their file, which is half of a small network.

    Returns:
        The network. `settings["shift"]` describes the change of its score, a logit or a cosine, on pairs that the
        ranges were not fitted on: "pairs" (their number), "mean", "rms", "largest", and "spread" (the standard
        deviation of the score).

    Raises:
        ModelFolderError: The network is damaged, unsafe, no stock BERT, or has a default prompt.
        InputError: There are fewer than two distinct pairs, or onnx is not installed.
    """
    require_extra("export", "the int8 form")
    require_extra("train", "a network in its stock form")
    source = Path(source)
    unique = UniquePairs.of(left, right)
    if len(unique.left) < 2:
        raise InputError("int8 ranges need at least two different pairs", hint="give some hundred real ones")
    picked = np.random.default_rng(0).permutation(len(unique.left))[: 2 * FITTING_PAIRS]
    pairs = [(unique.left[index], unique.right[index]) for index in picked]
    half = (len(pairs) + 1) // 2
    bert = read_bert(source)
    tokenizer, typed = _stock_tokenizer(source)
    bert = replace(bert, typed=typed and bert.kind == "cross-encoder")
    settings: dict[str, Any] = {"format": FORMAT, "kind": bert.kind, "max_length": bert.max_length}
    if bert.kind == "bi-encoder":
        settings["dimensions"] = len(bert.tensors.get(PROJECTION, bert.tensors["embeddings.LayerNorm.weight"]))
    exact = RuntimeNetwork(_model(bert, taps=True), tokenizer, settings)
    smoothed, products = quantise(bert, _observe(exact, bert, pairs[:half]))
    table = EmbeddingTable.quantised(bert.tensors["embeddings.word_embeddings.weight"], word_bits)
    network = RuntimeNetwork(_model(smoothed, products), tokenizer, settings, table)
    settings["shift"] = _shift(_scores(exact, pairs[half:]), _scores(network, pairs[half:]))
    return network


def _model(bert: Bert, products: Mapping[str, Int8Product] | None = None, taps: bool = False) -> bytes:
    return bytes(build_graph(bert, products, taps).SerializeToString())


def _stock_tokenizer(folder: Path) -> tuple[bytes, bool]:
    """Return the tokenizer as transformers builds it.

    Also return True if it marks the tokens of a second text.
    """
    from transformers import AutoTokenizer

    try:
        stock = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return stock.backend_tokenizer.to_str().encode(), "token_type_ids" in stock.model_input_names
    except (OSError, ValueError, AttributeError) as error:
        raise ModelFolderError(
            f"the tokenizer cannot be read ({error})",
            location=str(folder),
            hint="save the network with a fast tokenizer",
        ) from error


def _observe(network: RuntimeNetwork, bert: Bert, pairs: list[tuple[str, str]]) -> dict[str, Activations]:
    """Run a network with taps, and return the inputs of each product."""
    inputs: list[Any] = pairs if bert.kind == "cross-encoder" else [text for pair in pairs for text in pair]
    names = product_names(bert)
    observed: dict[str, list[Activations]] = {name: [] for name in names}
    per_input = max(1, _SAMPLED_ROWS // len(inputs))
    rng = np.random.default_rng(0)
    for rows, outputs in Runner(network).run(inputs):
        for name, values in zip(names, outputs[1:], strict=True):
            flat = values.reshape(-1, values.shape[-1])
            sample = flat[rng.permutation(len(flat))[: per_input * len(rows)]]
            observed[name].append(Activations(flat.min(axis=0), flat.max(axis=0), sample))
    return {name: Activations.joined(parts) for name, parts in observed.items()}


def _scores(network: RuntimeNetwork, pairs: list[tuple[str, str]]) -> NDArray[np.float64]:
    """Return the logits, or the cosines, of n pairs: float64 (n,)."""
    scores = np.empty(len(pairs))
    runner = Runner(network)
    if network.settings["kind"] == "cross-encoder":
        for rows, outputs in runner.run(pairs):
            scores[rows] = outputs[0]
        return scores
    vectors = np.empty((2 * len(pairs), network.settings["dimensions"]), dtype=np.float32)
    for rows, outputs in runner.run([text for pair in pairs for text in pair]):
        vectors[rows] = unit_rows(outputs[0])
    scores[:] = (vectors[::2] * vectors[1::2]).sum(axis=1)
    return scores


def _shift(exact: NDArray[np.float64], quantised: NDArray[np.float64]) -> dict[str, float]:
    change = quantised - exact
    return {
        "pairs": len(change),
        "mean": round(float(change.mean()), 5),
        "rms": round(float(np.sqrt((change**2).mean())), 5),
        "largest": round(float(np.abs(change).max()), 5),
        "spread": round(float(exact.std()), 5),
    }
