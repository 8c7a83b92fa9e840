"""The network that training starts from: opened, given what a method adds to it, and frozen where it shall stay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.errors import InputError, TrainingError
from dupq.models.safety import refuse_code
from dupq.training.methods import Method

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

    from dupq.training.trainer import TrainSettings

FRESH = r"^(\w+\.)?model\.[1-9]\d*\."
"""The weights, as a loss names them, of the modules that `open_base` put behind the encoder."""


def open_base(method: Method, settings: TrainSettings) -> BaseModel:
    """The base as the network of a method, its dropout set and its frozen weights frozen.

    Raises:
        TrainingError: The base cannot be opened.
        InputError: It reads fewer tokens, or has fewer layers, than the settings say.
        ModelFolderError: The base would have code of its own run.
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
        model = _assembled(method, settings, model_kwargs)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()
        raise TrainingError(
            f"the base encoder cannot be opened ({first[0] if first else type(error).__name__})",
            where=settings.base,
            mend="name a Hugging Face id or a folder whose weights are safetensors",
        ) from error
    encoder = getattr(model[0], "auto_model", None) or getattr(model[0], "model", None)
    limit = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
    if isinstance(limit, int) and settings.max_length > limit:
        raise InputError(
            f"max_length is {settings.max_length}, and this base reads at most {limit} tokens",
            where=settings.base,
            mend=f"use at most {limit}",
        )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = settings.dropout
    _freeze(encoder, settings)
    return model


def _assembled(method: Method, settings: TrainSettings, model_kwargs: dict[str, Any]) -> BaseModel:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    from dupq.models.comparers import COMPARERS, PairEncoder

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
        sizes = {"dimensions": encoder.get_embedding_dimension()}
        if method.metric:
            sizes |= {"rank": sizes["dimensions"]}
        model = CrossEncoder(modules=[encoder, COMPARERS[method.network](**sizes)])
    return model


def _add_branch(model: BaseModel) -> None:
    """The embedding head of Wang et al. 2016: two layers and a scaling to unit length, one for both sides."""
    import torch
    from sentence_transformers.base.modules import Dense, Normalize

    dimensions = next(size for module in reversed(list(model)) if (size := _dimensions(module)))
    for layer in (
        Dense(dimensions, 2 * dimensions, activation_function=torch.nn.ReLU()),
        Dense(2 * dimensions, dimensions, activation_function=torch.nn.Identity()),
        Normalize(),
    ):
        model.append(layer.to(model.device))


def _dimensions(module: Any) -> int | None:
    size: int | None = module.get_embedding_dimension() if hasattr(module, "get_embedding_dimension") else None
    return size


def _freeze(encoder: Any, settings: TrainSettings) -> None:
    if settings.freeze_embeddings and encoder is not None and hasattr(encoder, "get_input_embeddings"):
        encoder.get_input_embeddings().weight.requires_grad_(False)
    if settings.freeze_layers:
        # A cross-encoder wraps its encoder under the name that transformers gives the family ("bert", "mpnet").
        body = getattr(encoder, getattr(encoder, "base_model_prefix", ""), encoder)
        layers = getattr(getattr(body, "encoder", None), "layer", [])
        if settings.freeze_layers >= len(layers):
            raise InputError(
                f"freeze_layers is {settings.freeze_layers}, and {len(layers)} layers were found",
                where=settings.base,
                mend="freeze fewer than all",
            )
        # What lies below a frozen layer would have gradients flow through it all the same, and nothing be saved.
        body.embeddings.requires_grad_(False)
        for layer in layers[: settings.freeze_layers]:
            layer.requires_grad_(False)
