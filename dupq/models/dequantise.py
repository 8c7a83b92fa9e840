"""From the int8 form back to a stock network, to train on: what ships is int8, and a user may want to go on from it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError, ModelFolderError
from dupq.models.runtime import MODEL, Runner, RuntimeNetwork
from dupq.models.stock import save_stock

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedTokenizerBase

SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


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
    Runner(network, threads=1)  # refuses what is damaged, as it does when a network is run
    try:
        tensors, config = _read(network)
    except (KeyError, ValueError, IndexError) as error:
        raise ModelFolderError(f"it is not as `dupq export` writes it ({error})", where=MODEL, mend=_AGAIN) from error
    tokenizer = _tokenizer(network, typed=config.type_vocab_size > 1)
    build = _cross_encoder if network.settings["kind"] == "cross-encoder" else _bi_encoder
    save_stock(build(tensors, config, tokenizer, network.settings), folder)


_AGAIN = "export the network again"


def _read(network: RuntimeNetwork) -> tuple[dict[str, NDArray[np.float32]], BertConfig]:
    """The weights under the names of `BertModel`, and what shape they have."""
    try:
        import onnx
    except ImportError as error:
        raise InputError("onnx is needed to read an int8 network", mend="pip install 'dupq[export]'") from error
    from onnx import numpy_helper
    from transformers import BertConfig

    graph = onnx.load_model_from_string(network.model).graph
    if network.words is None:
        raise ValueError("it has no table of words")
    held = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    attributes = {
        (node.op_type, found.name): onnx.helper.get_attribute_value(found)
        for node in graph.node
        for found in node.attribute
    }
    layers = sum(node.op_type == "Attention" for node in graph.node)
    words = (network.words.rows * network.words.scales).astype(np.float32)
    # Without types in the graph, the type of the first text is part of the positions.
    types = held.get("types_table", np.zeros((1, words.shape[1]), dtype=np.float32))
    tensors = {
        f"embeddings.{name}_embeddings.weight": table for name, table in (("word", words), ("token_type", types))
    }
    tensors["embeddings.position_embeddings.weight"] = held["positions"]
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for part, owner in enumerate(("query", "key", "value")):
            _put(tensors, f"{at}.attention.self.{owner}", *_product(held, f"{layer}.qkv", f".{part}"))
        _put(tensors, f"{at}.attention.output.dense", *_product(held, f"{layer}.mix", ".0"))
        _put(tensors, f"{at}.intermediate.dense", *_product(held, f"{layer}.up", ".0"))
        _put(tensors, f"{at}.output.dense", *_product(held, f"{layer}.down", ""))
    plain = [name for name in held if name.partition(".")[0] in ("embeddings", "encoder", "pooler", "classifier")]
    for name in plain:
        # A Gemm's weight lies as (inputs, outputs), a linear layer's as (outputs, inputs).
        tensors[name] = held[name].T if name in ("pooler.dense.weight", "classifier.weight") else held[name]
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=words.shape[1],
        num_hidden_layers=layers,
        num_attention_heads=attributes["Attention", "q_num_heads"],
        intermediate_size=len(tensors["encoder.layer.0.intermediate.dense.bias"]),
        max_position_embeddings=len(held["positions"]),
        type_vocab_size=len(types),
        layer_norm_eps=attributes["LayerNormalization", "epsilon"],
    )
    return tensors, config


def _product(held: dict[str, NDArray[Any]], name: str, part: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight (outputs, inputs) and bias (outputs,) of one int8 product, what it was smoothed by multiplied back."""
    weight = held[f"{name}{part}.weight"] * held[f"{name}{part}.scales"]
    smoothing = held.get(f"{name}.smoothing")
    if smoothing is not None:
        weight = weight * smoothing[:, None]
    return np.ascontiguousarray(weight.T, dtype=np.float32), held[f"{name}{part}.bias"]


def _put(
    tensors: dict[str, NDArray[np.float32]], owner: str, weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> None:
    tensors[f"{owner}.weight"], tensors[f"{owner}.bias"] = weight, bias


def _tokenizer(network: RuntimeNetwork, typed: bool) -> PreTrainedTokenizerBase:
    """The network's own, which marks the tokens of a second text only where the graph was told to tell them apart."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_buffer(network.tokenizer)
    backend.no_padding()
    backend.no_truncation()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        model_max_length=int(network.settings["max_length"]),
        model_input_names=["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"],
        **{role: token for role, token in SPECIAL.items() if backend.token_to_id(token) is not None},
    )


def _cross_encoder(
    tensors: dict[str, NDArray[np.float32]],
    config: BertConfig,
    tokenizer: PreTrainedTokenizerBase,
    settings: dict[str, Any],
) -> Any:
    from tempfile import TemporaryDirectory

    from sentence_transformers import CrossEncoder
    from transformers import BertForSequenceClassification

    config.num_labels = 1
    with TemporaryDirectory() as plain:
        model = BertForSequenceClassification(config)
        _load(
            model, {name if name.startswith("classifier") else f"bert.{name}": held for name, held in tensors.items()}
        )
        model.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
        return CrossEncoder(plain, max_length=settings["max_length"], device="cpu")


def _bi_encoder(
    tensors: dict[str, NDArray[np.float32]],
    config: BertConfig,
    tokenizer: PreTrainedTokenizerBase,
    settings: dict[str, Any],
) -> Any:
    from tempfile import TemporaryDirectory

    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertModel

    with TemporaryDirectory() as plain:
        model = BertModel(config, add_pooling_layer=False)
        _load(model, tensors)
        model.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
        encoder = Transformer(plain, max_seq_length=settings["max_length"])
        pooling = Pooling(config.hidden_size, pooling_mode="mean")
        return SentenceTransformer(modules=[encoder, pooling, Normalize()], device="cpu")


def _load(model: Any, tensors: dict[str, NDArray[np.float32]]) -> None:
    import torch

    wanted = {name for name, _ in model.named_parameters()}
    if missing := sorted(wanted - set(tensors)):
        raise ModelFolderError(f"it lacks {missing[0]}", where=MODEL, mend=_AGAIN)
    state = {name: torch.from_numpy(np.array(tensors[name], dtype=np.float32)) for name in wanted}
    if not all(math.prod(state[name].shape) == parameter.numel() for name, parameter in model.named_parameters()):
        raise ModelFolderError("its weights do not fit each other", where=MODEL, mend=_AGAIN)
    model.load_state_dict(state, strict=False)
