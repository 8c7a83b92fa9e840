"""Base model of a training run: loading, modules of the method, frozen layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.errors import InputError, TrainingError
from dupq.models.safety import refuse_code
from dupq.training.methods import Method

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

    from dupq.training.trainer import TrainSettings

NEW_MODULES = r"^(\w+\.)?model\.[1-9]\d*\."
"""Pattern of a loss's parameter names in the modules that `open_base` adds behind the encoder."""


def open_base(method: Method, settings: TrainSettings) -> BaseModel:
    """Load the base as the network of a method.

    The dropout and the frozen layers are those of the settings.

    Raises:
        TrainingError: The base cannot be opened.
        InputError: The base has fewer positions or layers than the settings need.
        ModelFolderError: The base would run code of its own.
    """
    import torch
    from safetensors import SafetensorError

    if Path(settings.base).is_dir():
        refuse_code(Path(settings.base))
    torch.manual_seed(settings.seed)
    # On a CPU the plain attention is a fifth faster than the fused one at the length of a question.
    model_kwargs: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True}
    if not torch.cuda.is_available():
        model_kwargs["attn_implementation"] = "eager"
    try:
        model = _build_network(method, settings, model_kwargs)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()
        raise TrainingError(
            f"the base encoder cannot be opened ({first[0] if first else type(error).__name__})",
            location=settings.base,
            hint="name a Hugging Face id or a folder whose weights are safetensors",
        ) from error
    encoder = getattr(model[0], "auto_model", None) or getattr(model[0], "model", None)
    limit = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
    if isinstance(limit, int) and settings.max_length > limit:
        raise InputError(
            f"max_length must be at most {limit} for this base, got {settings.max_length}",
            location=settings.base,
            hint=f"use at most {limit}",
        )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = settings.dropout
    _freeze(encoder, settings)
    return model


def _build_network(method: Method, settings: TrainSettings, model_kwargs: dict[str, Any]) -> BaseModel:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    from dupq.models.one_trunk import decompose
    from dupq.models.pair_heads import PAIR_HEADS
    from dupq.models.pair_heads.pairs import PairEncoder, PairHead

    model: BaseModel
    if method.kind == "bi-encoder":
        model = SentenceTransformer(settings.base, model_kwargs=model_kwargs)
        model.max_seq_length = settings.max_length
        if method.network == "two-branch":
            _add_branch(model)
    elif not method.network:
        model = CrossEncoder(settings.base, num_labels=1, max_length=settings.max_length, model_kwargs=model_kwargs)
    else:
        encoder = PairEncoder(
            settings.base,
            max_seq_length=settings.max_length,
            model_kwargs=model_kwargs,
            config_kwargs={"num_labels": 1},
        )
        if method.decomposes:
            head: PairHead = decompose(encoder)
        else:
            sizes = {"dimensions": encoder.get_embedding_dimension()}
            if method.metric:
                sizes |= {"rank": sizes["dimensions"]}
            head = PAIR_HEADS[method.network](**sizes)
        model = CrossEncoder(modules=[encoder, head])
    return model


def _add_branch(model: Any) -> None:
    """Append the embedding head of Wang et al. 2016.

    It is two layers and a normalisation, shared by both sides.
    """
    import torch
    from sentence_transformers.base.modules import Dense, Normalize

    dimensions = model.get_embedding_dimension()
    for layer in (
        Dense(dimensions, 2 * dimensions, activation_function=torch.nn.ReLU()),
        Dense(2 * dimensions, dimensions, activation_function=torch.nn.Identity()),
        Normalize(),
    ):
        model.append(layer.to(model.device))


def _freeze(encoder: Any, settings: TrainSettings) -> None:
    if settings.freeze_embeddings and encoder is not None and hasattr(encoder, "get_input_embeddings"):
        encoder.get_input_embeddings().weight.requires_grad_(False)
    if settings.freeze_layers:
        # A cross-encoder holds its encoder under the name of its family in transformers, such as "bert" or "mpnet".
        body = getattr(encoder, getattr(encoder, "base_model_prefix", ""), encoder)
        layers = getattr(getattr(body, "encoder", None), "layer", [])
        if settings.freeze_layers >= len(layers):
            raise InputError(
                f"freeze_layers must be below the {len(layers)} layers of this base, got {settings.freeze_layers}",
                location=settings.base,
                hint="freeze fewer than all",
            )
        # Freezing layers saves the backward pass only if everything below them is frozen too.
        body.embeddings.requires_grad_(False)
        for layer in layers[: settings.freeze_layers]:
            layer.requires_grad_(False)
