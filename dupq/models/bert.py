"""A BERT network outside torch: its weights, from a stock folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.errors import ModelFolderError
from dupq.models.safety import read_json, refuse_code

Kind = Literal["bi-encoder", "cross-encoder"]
Pooling = Literal["mean", "cls"]

PROJECTION = "projection.weight"
"""The linear map behind the pooling, if there is one."""

_STOCK = "only a stock BERT (also MiniLM, BGE, E5, GTE of that type) can be exported; use the network as it is"


@dataclass(frozen=True)
class Bert:
    """The weights of a BERT network and what it is made for.

    Attributes:
        kind: "cross-encoder": one logit, from the first token by pooler and classifier. "bi-encoder": an embedding.
        tensors: Name, as `BertModel` has it -> float32 array; of a cross-encoder also `classifier.weight` and `.bias`;
            of a bi-encoder that has fewer dimensions than its encoder, `PROJECTION`, (dimensions, width).
        layers, heads: Their numbers.
        epsilon: Of the layer normalisations.
        max_length: Tokens an input is cut to.
        pooling: How a bi-encoder makes one vector of all tokens.
        typed: Whether tokens of the second text are marked as such (`token_type_ids`); not all tokenizers do.
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
        """The matrix of a linear layer as (inputs, outputs)."""
        return np.ascontiguousarray(self.tensors[f"{name}.weight"].T)

    def product(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight (inputs, outputs) and bias (outputs,) of one of `product_names`; query, key and value are one."""
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
    """The matrix products of the encoder, first to last: "0.qkv", "0.mix", "0.up", "0.down", "1.qkv", ..."""
    return [f"{layer}.{part}" for layer in range(bert.layers) for part in _PRODUCTS]


def tensor_names(bert: Bert) -> list[str]:
    """Every weight that a graph is built of."""
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
    """Reads a stock `SentenceTransformer` or `CrossEncoder` folder that is a BERT.

    Raises:
        ModelFolderError: It is damaged, unsafe, no BERT, pooled otherwise than by mean or first token, followed by more
            than a linear map, or a classifier with other than one output.
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
            f"the network cannot be read ({error})", where=str(folder), mend="fetch the folder again"
        ) from error


def _refuse(folder: Path, problem: str) -> None:
    raise ModelFolderError(problem, where=str(folder), mend=_STOCK)


def _max_length(folder: Path, config: Mapping[str, Any]) -> int:
    """The smallest of the limits that the folder names."""
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
    """The weight of a `Dense` that is a linear map and no more."""
    from safetensors.numpy import load_file

    config = read_json(folder / "config.json")
    plain = str(config.get("activation_function")).endswith(".Identity") and not config.get("use_residual")
    if config.get("bias") or not plain:
        _refuse(folder, "its Dense has a bias, a residual or an activation")
    return np.asarray(load_file(folder / "model.safetensors")["linear.weight"], dtype=np.float32)
