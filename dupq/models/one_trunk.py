"""Networks of one trunk and two heads, for embeddings and for pair scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dupq.errors import ModelFolderError, require_extra

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from torch import Tensor

    from dupq.models.pair_heads.joint import JointLayers
    from dupq.models.pair_heads.pairs import PairEncoder


def decompose(encoder: PairEncoder) -> JointLayers:
    """Move the upper third of the layers of a BERT encoder into a pair head.

    Source: Cao et al. 2020 (DeFormer).

    Args:
        encoder: Encoder of N layers, of which max(1, N // 3) move.

    Returns:
        The pair head, with the pooler of the encoder where that has one.

    Raises:
        ModelFolderError: The encoder is no BERT, or has fewer than two layers.
    """
    bert: Any = encoder.model
    count = int(bert.config.num_hidden_layers)
    if bert.config.model_type != "bert" or count < 2:
        raise ModelFolderError(
            f"the base must be a BERT of at least 2 layers, got a {bert.config.model_type} of {count}",
            hint="use a BERT such as sentence-transformers/all-MiniLM-L6-v2, or another method",
        )
    moved = max(1, count // 3)
    head = joint_layers(bert, moved)
    head.copy_bert(bert.encoder.layer[-moved:])
    if bert.pooler is not None:
        head.pooler.load_state_dict(bert.pooler.dense.state_dict())
    cut_layers(bert, list(range(count - moved)))
    return head


def joint_layers(bert: Any, layers: int) -> JointLayers:
    """Return new joint layers of the width of a `BertModel`."""
    from dupq.models.pair_heads.joint import JointLayers

    config = bert.config
    return JointLayers(config.hidden_size, layers, config.num_attention_heads, config.intermediate_size)


def cut_layers(bert: Any, kept: list[int]) -> None:
    """Keep only the given layers of a `BertModel`."""
    from torch.nn import ModuleList

    bert.encoder.layer = ModuleList(bert.encoder.layer[layer] for layer in kept)
    bert.config.num_hidden_layers = len(kept)


def embedding_network(network: CrossEncoder, projection: Tensor | None = None) -> SentenceTransformer:
    """Return the trunk of a pair network as a bi-encoder that shares its weights.

    Its embedding is the mean of the token states, projected, of unit length.

    Args:
        network: A stock `CrossEncoder` whose first module is a `PairEncoder`.
        projection: Linear map, (e, d); None for none.
    """
    require_extra("train", "a network in its stock form")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    trunk: Any = network[0]
    # The same module as a class of sentence-transformers, which a stock loader opens without code of dupq.
    stock = Transformer.__new__(Transformer)
    stock.__dict__ = trunk.__dict__
    modules: list[Any] = [stock, Pooling(trunk.get_embedding_dimension(), pooling_mode="mean")]
    if projection is not None:
        e, d = projection.shape
        weight = projection.detach().clone()
        modules.append(Dense(d, e, bias=False, activation_function=None, init_weight=weight))
    return SentenceTransformer(modules=[*modules, Normalize()], device=str(network.device))
