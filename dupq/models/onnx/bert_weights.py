"""Weights of a BERT network, read from a stock folder without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from dupq.errors import ModelFolderError
from dupq.models.safety import read_json, refuse_code

Kind = Literal["bi-encoder", "cross-encoder"]
Pooling = Literal["mean", "cls"]

PROJECTION = "projection.weight"
"""Name of the linear map behind the pooling, if there is one."""

_STOCK = "only a stock BERT (also MiniLM, BGE, E5, GTE of that type) can be exported; use the network as it is"


@dataclass(frozen=True)
class Bert:
    """Weights and settings of a BERT network.

    Attributes:
        kind: "cross-encoder": one logit, from the first token by pooler and classifier. "bi-encoder": an embedding.
        tensors: Name in `BertModel` -> float32 array. A cross-encoder also has `classifier.weight` and `.bias`; a
            bi-encoder of fewer dimensions than its encoder has `PROJECTION`, (dimensions, width).
        layers, heads: Number of layers, and of attention heads.
        epsilon: Epsilon of the layer normalisations.
        max_length: Maximum number of tokens of an input.
        pooling: "mean" of all tokens, or the first one ("cls"), for a bi-encoder.
        typed: The tokenizer marks the tokens of a second text (`token_type_ids`); not all do.
    """

    kind: Kind
    tensors: Mapping[str, NDArray[np.float32]]
    layers: int
    heads: int
    epsilon: float
    max_length: int
    pooling: Pooling = "mean"
    typed: bool = False

    def weight(self, name: str) -> NDArray[np.float32]:
        """Return the weight of a linear layer, float32 (inputs, outputs)."""
        return np.ascontiguousarray(self.tensors[f"{name}.weight"].T)

    def product(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return weight (inputs, outputs) and bias (outputs,) of a product.

        Query, key and value are one product.
        """
        layer, _, part = name.partition(".")
        parts = [f"encoder.layer.{layer}.{piece}" for piece in _PRODUCTS[part]]
        weights = np.concatenate([self.weight(piece) for piece in parts], axis=1)
        return weights, np.concatenate([self.tensors[f"{piece}.bias"] for piece in parts])


_PRODUCTS = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "mix": ("attention.output.dense",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
}


def product_names(bert: Bert) -> list[str]:
    """Return the names of the encoder's products in order.

    They are "0.qkv", "0.mix", "0.up", "0.down", "1.qkv", ...
    """
    return [f"{layer}.{part}" for layer in range(bert.layers) for part in _PRODUCTS]


def tensor_names(bert: Bert) -> list[str]:
    """Return the names of all tensors that a graph needs."""
    layers = [f"encoder.layer.{layer}" for layer in range(bert.layers)]
    parts = [
        "attention.output.LayerNorm",
        "output.LayerNorm",
        *(part for parts in _PRODUCTS.values() for part in parts),
    ]
    owners = ["embeddings.LayerNorm", *(f"{layer}.{part}" for layer in layers for part in parts)]
    owners += ["pooler.dense", "classifier"] if bert.kind == "cross-encoder" else []
    tables = [f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")]
    return [*tables, *(f"{owner}.{kind}" for owner in owners for kind in ("weight", "bias"))]


def read_bert(folder: str | Path) -> Bert:
    """Read a stock folder whose encoder is a BERT.

    Raises:
        ModelFolderError: It is damaged or unsafe, or no BERT with mean or first-token pooling, at most a linear map
            behind that, no default prompt, and one output if it is a classifier.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    refuse_code(folder)
    config = read_json(folder / "config.json")
    modules = read_json(folder / "modules.json") if (folder / "modules.json").is_file() else []
    names = [module["type"].rpartition(".")[2] for module in modules]
    if modules and (names[0] != "Transformer" or modules[0]["path"] not in ("", ".")):
        _refuse(folder, f"its modules are {', '.join(names)}")
    if config.get("model_type") != "bert" or config.get("position_embedding_type", "absolute") != "absolute":
        _refuse(folder, f"its encoder is a {config.get('model_type')!r}")
    if config.get("hidden_act") != "gelu":
        _refuse(folder, f"its activation is {config.get('hidden_act')!r}")
    if prompt := _default_prompt(folder):
        _refuse(folder, f"it puts the prompt {prompt!r} before every text")
    try:
        raw = load_file(folder / "model.safetensors")
        tensors = {
            name.removeprefix("bert."): np.asarray(tensor, dtype=np.float32)
            for name, tensor in raw.items()
            if tensor.dtype.kind == "f"
        }
        kind: Kind = "cross-encoder" if "classifier.weight" in tensors else "bi-encoder"
        if kind == "cross-encoder" and tensors["classifier.weight"].shape[0] != 1:
            _refuse(folder, f"it has {tensors['classifier.weight'].shape[0]} outputs")
        bert = Bert(
            kind,
            tensors,
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            epsilon=config["layer_norm_eps"],
            max_length=_max_length(folder, config),
            pooling=_pooling(folder, modules, names) if kind == "bi-encoder" else "cls",
        )
        for name in tensor_names(bert):
            bert.tensors[name]
        if bert.kind == "bi-encoder" and "Dense" in names:
            tensors[PROJECTION] = _projection(folder / modules[names.index("Dense")]["path"])
        return bert
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ModelFolderError(
            f"the network cannot be read ({error})", location=str(folder), hint="fetch the folder again"
        ) from error


def _refuse(folder: Path, message: str) -> NoReturn:
    raise ModelFolderError(message, location=str(folder), hint=_STOCK)


def _default_prompt(folder: Path) -> str | None:
    """Return the text that sentence-transformers puts before every input."""
    path = folder / "config_sentence_transformers.json"
    config = read_json(path) if path.is_file() else {}
    prompt: str | None = (config.get("prompts") or {}).get(config.get("default_prompt_name"))
    return prompt


def _max_length(folder: Path, config: Mapping[str, Any]) -> int:
    """Return the smallest token limit in the folder."""
    limits = [config["max_position_embeddings"]]
    for name, key in (("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")):
        limit = read_json(folder / name).get(key) if (folder / name).is_file() else None
        limits.extend([limit] if limit else [])
    return int(min(limits))


def _pooling(folder: Path, modules: Sequence[Mapping[str, Any]], names: list[str]) -> Pooling:
    if names[1 : -1 if names[-1:] == ["Normalize"] else None] not in (["Pooling"], ["Pooling", "Dense"]):
        _refuse(folder, f"its modules are {', '.join(names) or 'not named'}")
    config = read_json(folder / modules[1]["path"] / "config.json")
    # Before its version 6, sentence-transformers wrote one flag a mode.
    flags = [key.removeprefix("pooling_mode_") for key in config if key.startswith("pooling_mode_") and config[key]]
    mode = config.get("pooling_mode") or ", ".join(flags)
    if mode in ("mean", "mean_tokens"):
        return "mean"
    if mode not in ("cls", "cls_token"):
        _refuse(folder, f"it pools by {mode}")
    return "cls"


def _projection(folder: Path) -> NDArray[np.float32]:
    """Read the weight of a `Dense` module that is a plain linear map."""
    from safetensors.numpy import load_file

    config = read_json(folder / "config.json")
    linear = str(config.get("activation_function")).endswith(".Identity") and not config.get("use_residual")
    if config.get("bias") or not linear:
        _refuse(folder, "its Dense has a bias, a residual or an activation")
    return np.asarray(load_file(folder / "model.safetensors")["linear.weight"], dtype=np.float32)
