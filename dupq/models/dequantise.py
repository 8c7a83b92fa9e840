"""From the int8 form back to a stock network, to train on: what ships is int8, and a user may want to go on from it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError, ModelFolderError
from dupq.models.bert import PROJECTION, Bert, Kind, Pooling, tensor_names
from dupq.models.runtime import MODEL, Runner, RuntimeNetwork
from dupq.models.stock import save_stock

_ROLES = ("unk", "sep", "pad", "cls", "mask")


def dequantise(network: RuntimeNetwork, folder: Path) -> None:
    """Writes an exported network as a stock `SentenceTransformer` or `CrossEncoder` folder.

    Its weights are those that the int8 form computes with, in floating point; what was lost when they were rounded
    stays lost, so a score differs from that of the int8 form about as much as that differs from the original's (the
    `shift` in its settings). Whoever has the original uses that instead.

    Args:
        network: As `export` makes it.
        folder: To write; made if need be.

    Raises:
        ModelFolderError: The network is damaged, or not of the form that `export` writes.
        InputError: onnx is not installed.
        OSError: The folder could not be written.
    """
    if find_spec("onnx") is None:
        raise InputError("onnx is needed to read an int8 network", mend="pip install 'dupq[export]'")
    Runner(network, threads=1)  # refuses what is damaged, as it does when a network is run
    try:
        bert = _read(network)
    except (KeyError, ValueError, IndexError) as error:
        raise ModelFolderError(
            f"it is not as `dupq export` writes it ({error})", where=MODEL, mend="export the network again"
        ) from error
    with TemporaryDirectory() as plain:
        _write(bert, network.tokenizer, Path(plain))
        save_stock(_opened(bert, plain), folder)


def _read(network: RuntimeNetwork) -> Bert:
    """The network as it stood before it was exported, its products rounded: the inverse of `graph.build_graph`."""
    from onnx import helper, load_model_from_string, numpy_helper

    if network.words is None:
        raise ValueError("it has no table of words")
    graph = load_model_from_string(network.model).graph
    held = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    told = {
        (node.op_type, item.name): helper.get_attribute_value(item) for node in graph.node for item in node.attribute
    }
    kinds = [node.op_type for node in graph.node]
    tensors: dict[str, NDArray[np.float32]] = {
        name: held[name] for name in held if name.partition(".")[0] in ("embeddings", "encoder")
    }
    tensors["embeddings.word_embeddings.weight"] = np.asarray(network.words.rows * network.words.scales, np.float32)
    tensors["embeddings.position_embeddings.weight"] = held["positions"]
    # Without types in the graph, that of the first text is part of the positions.
    width = network.words.rows.shape[1]
    tensors["embeddings.token_type_embeddings.weight"] = held.get("types_table", np.zeros((1, width), np.float32))
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
            weight = held[f"{at}{part}.weight"] * held[f"{at}{part}.scales"]
            # What the activations are multiplied by before they are rounded, the weight had been divided by.
            weight = weight * held.get(f"{at}.smoothing", np.ones(len(weight), np.float32))[:, None]
            tensors[f"encoder.layer.{layer}.{owner}.weight"] = weight.T
            tensors[f"encoder.layer.{layer}.{owner}.bias"] = held[f"{at}{part}.bias"]
    for owner in ("pooler.dense", "classifier"):
        if f"{owner}.weight" in held:
            tensors[f"{owner}.weight"], tensors[f"{owner}.bias"] = held[f"{owner}.weight"].T, held[f"{owner}.bias"]
    if PROJECTION in held:
        tensors[PROJECTION] = held[PROJECTION]
    pooling: Pooling = "mean" if "Reciprocal" in kinds else "cls"
    bert = Bert(
        cast(Kind, network.settings["kind"]),
        {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()},
        layers=kinds.count("Attention"),
        heads=told["Attention", "q_num_heads"],
        epsilon=told["LayerNormalization", "epsilon"],
        max_length=int(network.settings["max_length"]),
        pooling=pooling,
        typed="types_table" in held,
    )
    for name in tensor_names(bert):
        bert.tensors[name]
    return bert


def _write(bert: Bert, tokenizer: bytes, folder: Path) -> None:
    """A plain transformers folder."""
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
        f"{role}_token": token for role in _ROLES if backend.token_to_id(token := f"[{role.upper()}]") is not None
    }
    # The tokens of a second text are marked only where the graph was told to tell them apart.
    inputs = ["input_ids", *(["token_type_ids"] if bert.typed else []), "attention_mask"]
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, model_max_length=bert.max_length, model_input_names=inputs, **special
    ).save_pretrained(folder)


def _opened(bert: Bert, folder: str) -> Any:
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
