"""Routes in the shapes of text-embeddings-inference and vLLM.

Clients of these servers can score with dupq. A score is the probability of a duplicate, or the raw score where the
client asks for it. The similarity is the cosine of the bi-encoder. Texts that are too long are always truncated, and
batches of any size are read. An error has the shape that these clients expect.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from dupq.models.batching import chunks
from dupq.service.access import Reader
from dupq.service.api.strict_json import StrictRoute
from dupq.service.problems import ProblemError
from dupq.service.schemas import OTHER_QUESTION, QUESTION, THIRD_QUESTION
from dupq.service.state import Service, service_of
from dupq.types import PairScore
from dupq.version import __version__

router = APIRouter(tags=["compatible"], route_class=StrictRoute)
Served = Annotated[Service, Depends(service_of)]
LABEL = "duplicate"


# ---- errors ---------------------------------------------------------------------------------------------------------


TYPES = {424: "Backend", 429: "Overloaded", 500: "Backend", 503: "Unhealthy"}
"""Status -> error_type of text-embeddings-inference; "Validation" for others, and "Empty" for an empty input."""
EMPTY = "cannot be empty"


def error_answer(status: int, detail: str) -> Response:
    """Return an error in the shape of text-embeddings-inference."""
    kind = "Empty" if status == 400 and EMPTY in detail else TYPES.get(status, "Validation")
    return JSONResponse({"error": detail, "error_type": kind}, status)


def vllm_error_answer(status: int, detail: str) -> Response:
    """Return an error in the shape of vLLM, which is that of OpenAI."""
    kinds = {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError"}
    kind = kinds.get(status, "BadRequestError" if status < 500 else "InternalServerError")
    return JSONResponse({"error": {"message": detail, "type": kind, "param": None, "code": status}}, status)


ERROR_SHAPES: Mapping[str, Callable[[int, str], Response]] = {
    "/rerank": error_answer,
    "/similarity": error_answer,
    "/predict": error_answer,
    "/info": error_answer,
    "/score": vllm_error_answer,
}
"""Path -> function that answers its errors, by status and detail."""
PATHS = tuple(ERROR_SHAPES)


class TeiError(BaseModel):
    """Error of text-embeddings-inference."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class VllmErrorInfo(BaseModel):
    """Error of vLLM."""

    message: str
    type: str
    param: str | None
    code: int


class VllmError(BaseModel):
    """Answer of vLLM to a request that failed."""

    error: VllmErrorInfo


MEANINGS = {
    400: "The input is empty, or the body is no JSON",
    401: "There is no valid token",
    403: "The role of the token may not do this",
    413: "The body is too large",
    422: "A value is invalid",
    424: "The model cannot answer",
    429: "Too many requests; try again after Retry-After seconds",
    503: "The model or the store cannot answer",
}
TEI_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": TeiError, "description": meaning} for status, meaning in MEANINGS.items()
}
VLLM_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": VllmError, "description": meaning} for status, meaning in MEANINGS.items()
}


# ---- text-embeddings-inference --------------------------------------------------------------------------------------


class TeiRequest(BaseModel):
    """Options that all requests have; unknown fields are ignored, as there."""

    model_config = ConfigDict(allow_inf_nan=False)

    truncate: bool | None = Field(None, description="Accepted; long texts are always truncated")
    truncation_direction: Literal["left", "right", "Left", "Right"] = "right"


class RerankRequest(TeiRequest):
    """Texts to rank by a query."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": QUESTION, "texts": [THIRD_QUESTION, OTHER_QUESTION]}]}
    )

    query: StrictStr
    texts: list[StrictStr]
    raw_scores: bool = False
    return_text: bool = False


class Rank(BaseModel):
    """Place of a text."""

    index: int
    score: float
    text: str | None = None


class SimilarityInput(BaseModel):
    """Sentences to compare with one."""

    source_sentence: StrictStr
    sentences: list[StrictStr]


class SimilarityRequest(BaseModel):
    """Sentences to compare."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"inputs": {"source_sentence": QUESTION, "sentences": [OTHER_QUESTION, THIRD_QUESTION]}}]
        }
    )

    inputs: SimilarityInput
    parameters: dict[str, Any] | None = Field(None, description="Accepted; long texts are always truncated")


PairOfTexts: TypeAlias = Annotated[list[StrictStr], Field(min_length=1, max_length=2)]


class PredictRequest(TeiRequest):
    """A pair of texts, or a batch of pairs; a single text has no score here."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"inputs": [QUESTION, OTHER_QUESTION]},
                {"inputs": [[QUESTION, OTHER_QUESTION], [QUESTION, THIRD_QUESTION]], "raw_scores": True},
            ]
        }
    )

    inputs: StrictStr | PairOfTexts | list[PairOfTexts]
    raw_scores: bool = False


class Prediction(BaseModel):
    """Score of a label."""

    score: float
    label: str


class Info(BaseModel):
    """Model that is served."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


@router.post(
    "/rerank",
    operation_id="tei_rerank",
    response_model=list[Rank],
    response_model_exclude_none=True,
    responses=TEI_ERRORS,
)
async def rerank(body: RerankRequest, caller: Reader, service: Served) -> list[dict[str, Any]]:
    """Rank texts by their probability of asking the same as the query.

    The route has the shape of text-embeddings-inference.
    """
    if not body.texts:
        raise ProblemError(400, f"`texts` {EMPTY}")
    found = await _scores(service, [(body.query, text) for text in body.texts])
    ranks = [
        {"index": at, "score": _value(pair, body.raw_scores), **({"text": text} if body.return_text else {})}
        for at, (pair, text) in enumerate(zip(found, body.texts, strict=True))
    ]
    return sorted(ranks, key=lambda rank: -rank["score"])


@router.post("/similarity", operation_id="tei_similarity", response_model=list[float], responses=TEI_ERRORS)
async def similarity(body: SimilarityRequest, caller: Reader, service: Served) -> list[float]:
    """Return the cosine of each sentence with the source sentence.

    The route has the shape of text-embeddings-inference.
    """
    embedder, texts = service.pipeline.embedder, [body.inputs.source_sentence, *body.inputs.sentences]
    if embedder is None:
        raise ProblemError(424, "the model has no bi-encoder", hint="serve one that has")
    if len(texts) == 1:
        raise ProblemError(400, f"`sentences` {EMPTY}")
    _refuse_blank(texts)
    parts = [
        await service.executor.run(partial(embedder.embed, texts[part]))
        for part in chunks(len(texts), service.settings.batch)
    ]
    vectors = np.concatenate(parts).astype(np.float64)
    cosines: list[float] = np.clip(vectors[1:] @ vectors[0], -1, 1).tolist()
    return cosines


@router.post(
    "/predict",
    operation_id="tei_predict",
    response_model=list[Prediction] | list[list[Prediction]],
    responses=TEI_ERRORS,
)
async def predict(body: PredictRequest, caller: Reader, service: Served) -> list[Any]:
    """Return the probability of a duplicate for a pair, or for each of a batch.

    The route has the shape of text-embeddings-inference.
    """
    inputs = body.inputs
    if not inputs:
        raise ProblemError(400, f"`inputs` {EMPTY}")
    batch = not isinstance(inputs, str) and not isinstance(inputs[0], str)
    pairs: Sequence[Any] = inputs if batch else [inputs]
    if any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
        raise ProblemError(422, "inputs must be pairs of texts, got a single text", hint='give ["a", "b"]')
    found = await _scores(service, [(pair[0], pair[1]) for pair in pairs])
    predictions = [[{"score": _value(pair, body.raw_scores), "label": LABEL}] for pair in found]
    return predictions if batch else predictions[0]


@router.get("/info", operation_id="tei_info", response_model=Info, responses=TEI_ERRORS)
def info(caller: Reader, service: Served) -> dict[str, Any]:
    """Return the model that is served (text-embeddings-inference)."""
    return {
        "model_id": service.settings.model or "dupq",
        "model_sha": service.pipeline.fingerprint,
        "model_dtype": "int8" if service.pipeline.is_int8 else "float32",
        "model_type": {"reranker": {"id2label": {"0": LABEL}, "label2id": {LABEL: 0}}},
        "max_concurrent_requests": service.settings.max_waiting,
        # Longer texts are truncated, and larger batches are split.
        "max_input_length": service.settings.max_body_bytes,
        "max_batch_tokens": service.settings.max_body_bytes,
        "max_batch_requests": service.settings.batch,
        "max_client_batch_size": service.settings.max_waiting,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


# ---- vLLM -----------------------------------------------------------------------------------------------------------


Texts: TypeAlias = StrictStr | list[StrictStr]


class VllmScoreRequest(BaseModel):
    """Queries and documents, or older names of both, such as text_1 and text_2.

    Unknown fields are ignored, as in vLLM.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"queries": QUESTION, "documents": [OTHER_QUESTION, THIRD_QUESTION]},
                {"model": "dupq", "text_1": [QUESTION], "text_2": [OTHER_QUESTION]},
            ]
        }
    )

    queries: Texts | None = None
    documents: Texts | None = None
    items: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None
    text_1: Texts | None = None
    text_2: Texts | None = None
    model: str | None = None
    use_activation: bool | None = Field(None, description="false: raw scores")
    truncate_prompt_tokens: int | None = Field(None, description="Accepted; long texts are always truncated")

    def sides(self) -> tuple[Texts, Texts]:
        """Return both sides; raise ProblemError if one is not given."""
        for one, other in (
            (self.queries, self.documents),
            (self.queries, self.items),
            (self.data_1, self.data_2),
            (self.text_1, self.text_2),
        ):
            if one is not None and other is not None:
                return one, other
        raise ProblemError(400, "give queries and documents")


class VllmScore(BaseModel):
    """Score of a pair."""

    index: int
    object: Literal["score"]
    score: float


class VllmUsage(BaseModel):
    """Tokens that were read; they are not counted here."""

    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int | None = 0


class VllmScoreAnswer(BaseModel):
    """Scores of pairs."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[VllmScore]
    usage: VllmUsage


@router.post("/score", operation_id="vllm_score", response_model=VllmScoreAnswer, responses=VLLM_ERRORS)
async def score(body: VllmScoreRequest, caller: Reader, service: Served) -> dict[str, Any]:
    """Score one text against many, or pairs of texts (vLLM)."""
    one, other = body.sides()
    left = [one] if isinstance(one, str) else one
    right = [other] if isinstance(other, str) else other
    if not left or not right:
        raise ProblemError(400, f"queries and documents {EMPTY}")
    if len(left) not in (1, len(right)):
        raise ProblemError(400, f"queries must be one text, or as many as documents, got {len(left)} and {len(right)}")
    found = await _scores(service, list(zip(left * (len(right) if len(left) == 1 else 1), right, strict=True)))
    raw = body.use_activation is False
    return {
        "id": f"score-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": body.model or service.settings.model or "dupq",
        "data": [{"index": at, "object": "score", "score": _value(pair, raw)} for at, pair in enumerate(found)],
        "usage": VllmUsage(),
    }


# ---- both -----------------------------------------------------------------------------------------------------------


async def _scores(service: Service, pairs: Sequence[tuple[str, str]]) -> list[PairScore]:
    _refuse_blank([text for pair in pairs for text in pair])
    return await service.executor.score(pairs)


def _refuse_blank(texts: Sequence[str]) -> None:
    """Raise ProblemError if a text has nothing to read."""
    if not all(any(mark.isprintable() and not mark.isspace() for mark in text) for text in texts):
        raise ProblemError(400, f"a text {EMPTY}")


def _value(pair: PairScore, raw: bool) -> float:
    return pair.score if raw else pair.probability
