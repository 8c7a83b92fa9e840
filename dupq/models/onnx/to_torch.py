"""Conversion of an int8 network back to a stock one, to continue training from it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dupq.errors import ModelFolderError, require_extra
from dupq.models.onnx.bert_weights import (
    PROJECTION,
    Bert,
    Kind,
    Pooling,
    tensor_names,
)
from dupq.models.onnx.runtime import MODEL, Runner, RuntimeNetwork
from dupq.models.sentence_transformers_io import save_stock

_SPECIAL = ("unk", "sep", "pad", "cls", "mask")


def to_torch(network: RuntimeNetwork, folder: Path) -> None:
    """Write an exported network as a stock folder.

    The weights are the int8 ones in floating point; the rounding is not undone. A score differs from that of the int8
    network about as much as that differs from the original's (`shift` in its settings). Prefer the original.

    Args:
        network: As returned by `export`.
        folder: Folder to write; created if missing.

    Raises:
        ModelFolderError: The network is damaged, or was not written by `export`.
        InputError: onnx is not installed.
        OSError: The folder could not be written.
    """
    require_extra("export", "reading the weights of an int8 network")
    require_extra("train", "a network in its stock form")
    Runner(network, threads=1)  # checks that its files belong together
    try:
        bert = _read(network)
    except (KeyError, ValueError, IndexError) as error:
        raise ModelFolderError(
            f"its graph was not written by the export ({error})", location=MODEL, hint="export the network again"
        ) from error
    with TemporaryDirectory() as transformers_folder:
        _write(bert, network.tokenizer, Path(transformers_folder))
        save_stock(_open_model(bert, transformers_folder), folder)


def _read(network: RuntimeNetwork) -> Bert:
    """Read the network out of its graph: the inverse of `graph.build_graph`.

    Its weights are the rounded ones.
    """
    from onnx import helper, load_model_from_string, numpy_helper

    if network.table is None:
        raise ValueError("it has no embedding table")
    graph = load_model_from_string(network.model).graph
    constants = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    attributes = {
        (node.op_type, item.name): helper.get_attribute_value(item) for node in graph.node for item in node.attribute
    }
    kinds = [node.op_type for node in graph.node]
    tensors: dict[str, NDArray[np.float32]] = {
        name: constants[name] for name in constants if name.partition(".")[0] in ("embeddings", "encoder")
    }
    tensors["embeddings.word_embeddings.weight"] = np.asarray(network.table.rows * network.table.scales, np.float32)
    tensors["embeddings.position_embeddings.weight"] = constants["positions"]
    # In a graph without types, the type of the first text is part of the positions.
    width = network.table.rows.shape[1]
    tensors["embeddings.token_type_embeddings.weight"] = constants.get("types_table", np.zeros((1, width), np.float32))
    for layer in range(kinds.count("Attention")):
        for owner, product, part in (
            ("attention.self.query", "qkv", ".0"),
            ("attention.self.key", "qkv", ".1"),
            ("attention.self.value", "qkv", ".2"),
            ("attention.output.dense", "mix", ".0"),
            ("intermediate.dense", "up", ".0"),
            ("output.dense", "down", ""),
        ):
            at = f"{layer}.{product}"
            weight = constants[f"{at}{part}.weight"] * constants[f"{at}{part}.scales"]
            # The export divided the weight by the factor that the graph multiplies activations with.
            weight = weight * constants.get(f"{at}.smoothing", np.ones(len(weight), np.float32))[:, None]
            tensors[f"encoder.layer.{layer}.{owner}.weight"] = weight.T
            tensors[f"encoder.layer.{layer}.{owner}.bias"] = constants[f"{at}{part}.bias"]
    for owner in ("pooler.dense", "classifier"):
        if f"{owner}.weight" in constants:
            tensors[f"{owner}.weight"], tensors[f"{owner}.bias"] = (
                constants[f"{owner}.weight"].T,
                constants[f"{owner}.bias"],
            )
    if PROJECTION in constants:
        tensors[PROJECTION] = constants[PROJECTION]
    pooling: Pooling = "mean" if "Reciprocal" in kinds else "cls"
    bert = Bert(
        cast(Kind, network.settings["kind"]),
        {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()},
        layers=kinds.count("Attention"),
        heads=attributes["Attention", "q_num_heads"],
        epsilon=attributes["LayerNormalization", "epsilon"],
        max_length=int(network.settings["max_length"]),
        pooling=pooling,
        typed="types_table" in constants,
    )
    for name in tensor_names(bert):
        bert.tensors[name]
    return bert


def _write(bert: Bert, tokenizer: bytes, folder: Path) -> None:
    """Write a transformers folder."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, PreTrainedTokenizerFast

    rows = {
        name: len(bert.tensors[f"embeddings.{name}_embeddings.weight"]) for name in ("word", "position", "token_type")
    }
    classifies = bert.kind == "cross-encoder"
    config = BertConfig(
        vocab_size=rows["word"],
        hidden_size=len(bert.tensors["embeddings.LayerNorm.weight"]),
        num_hidden_layers=bert.layers,
        num_attention_heads=bert.heads,
        intermediate_size=len(bert.tensors["encoder.layer.0.intermediate.dense.bias"]),
        max_position_embeddings=rows["position"],
        type_vocab_size=rows["token_type"],
        layer_norm_eps=bert.epsilon,
        architectures=["BertForSequenceClassification" if classifies else "BertModel"],
    )
    if classifies:
        config.num_labels = 1
    config.save_pretrained(folder)
    prefixed = {
        f"bert.{name}" if classifies and not name.startswith("classifier.") else name: tensor
        for name, tensor in bert.tensors.items()
        if name != PROJECTION
    }
    save_file(prefixed, folder / "model.safetensors", metadata={"format": "pt"})
    backend = Tokenizer.from_buffer(tokenizer)
    backend.no_padding()
    backend.no_truncation()
    special = {
        f"{name}_token": token for name in _SPECIAL if backend.token_to_id(token := f"[{name.upper()}]") is not None
    }
    # The tokenizer marks the tokens of a second text only where the graph has types.
    inputs = ["input_ids", *(["token_type_ids"] if bert.typed else []), "attention_mask"]
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, model_max_length=bert.max_length, model_input_names=inputs, **special
    ).save_pretrained(folder)


def _open_model(bert: Bert, folder: str) -> Any:
    import torch
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer import modules

    if bert.kind == "cross-encoder":
        return CrossEncoder(folder, max_length=bert.max_length, device="cpu")
    encoder = modules.Transformer(folder, max_seq_length=bert.max_length)
    pooling = modules.Pooling(encoder.get_embedding_dimension(), pooling_mode=bert.pooling)
    projection: list[Any] = []
    if (matrix := bert.tensors.get(PROJECTION)) is not None:
        fewer, width = matrix.shape
        weight = torch.tensor(matrix)
        projection.append(Dense(width, fewer, bias=False, activation_function=None, init_weight=weight))
    return SentenceTransformer(modules=[encoder, pooling, *projection, modules.Normalize()], device="cpu")
