"""Shapes of text-embeddings-inference and vLLM.

They are written from the documents of the two projects, and not from our code:

- huggingface/text-embeddings-inference, docs/openapi.json, commit 006e16b702263e09686b33f9152a5ad0f9468085;
- its router/src/http/types.rs, commit 02506d0b3879596c20905951425d16f09be1a556, for the forms of `inputs` of /predict,
  and router/src/lib.rs, commit 009f0677559979c106efe30347ae99cb911a2f66, for the spelling of `error_type`;
- vllm-project/vllm, docs/models/pooling_models/scoring.md, commit 063da2296f8c3163344344a66cd10fd7028a7d04, and
  vllm/entrypoints/pooling/scoring/protocol.py, commit 004706d84ceba73d7efe0458e6f682c8691ff904.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient

from dupq.pipeline import DuplicatePipeline
from dupq.service.access import Role

QUERY, NEAR, FAR = "How can I learn chess?", "How can I learn chess fast?", "Who invented the yo-yo?"


def record(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


TEXT, NUMBER, COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
RANKS = {"type": "array", "items": record({"index": COUNT, "score": NUMBER}, text=TEXT)}
PREDICTIONS = {"type": "array", "items": record({"score": NUMBER, "label": TEXT})}
TEI_ERROR = record(
    {
        "error": TEXT,
        # "Empty" is in the versions after that of the document.
        "error_type": {"enum": ["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]},
    }
)
CLASSIFIER = record(
    {
        "id2label": {"type": "object", "additionalProperties": TEXT},
        "label2id": {"type": "object", "additionalProperties": COUNT},
    }
)
INFO = record(
    {
        "model_id": TEXT,
        "model_dtype": TEXT,
        "model_type": record({"reranker": CLASSIFIER}),
        "max_concurrent_requests": COUNT,
        "max_input_length": COUNT,
        "max_batch_tokens": COUNT,
        "max_client_batch_size": COUNT,
        "auto_truncate": {"type": "boolean"},
        "tokenization_workers": COUNT,
        "version": TEXT,
    },
    docker_label={"type": ["string", "null"]},
    max_batch_requests={"type": ["integer", "null"]},
    model_sha={"type": ["string", "null"]},
    sha={"type": ["string", "null"]},
)
VLLM = record(
    {
        "id": TEXT,
        "object": {"const": "list"},
        "created": COUNT,
        "model": TEXT,
        "data": {"type": "array", "items": record({"index": COUNT, "object": {"const": "score"}, "score": NUMBER})},
        "usage": record({}, prompt_tokens=COUNT, total_tokens=COUNT),
    }
)
VLLM_ERROR = record(
    {"error": record({"message": TEXT, "type": TEXT, "param": {"type": ["string", "null"]}, "code": COUNT})}
)

Send = Callable[..., Any]


@pytest.fixture
def send(client: TestClient, as_role: Callable[[Role], dict[str, str]]) -> Send:
    headers = as_role("reader")

    def post(path: str, body: Any, schema: dict[str, Any], status: int = 200) -> Any:
        answer = client.post(path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/json"
        jsonschema_rs.validate(schema, answer.json())
        return answer.json()

    return post


def test_rerank(send: Send, pipeline: DuplicatePipeline) -> None:
    expected = [pipeline.score(QUERY, text) for text in (FAR, NEAR)]
    ranks = send("/rerank", {"query": QUERY, "texts": [FAR, NEAR]}, RANKS)
    assert ranks == [
        {"index": 1, "score": pytest.approx(expected[1].probability)},
        {"index": 0, "score": pytest.approx(expected[0].probability)},
    ]
    options = {"raw_scores": True, "return_text": True, "truncate": True, "truncation_direction": "Left"}
    ranks = send("/rerank", {"query": QUERY, "texts": [FAR, NEAR], **options}, RANKS)
    assert ranks[0] == {"index": 1, "score": pytest.approx(expected[1].score), "text": NEAR}
    assert send("/rerank", {"query": QUERY, "texts": [], "truncate": None}, TEI_ERROR, 400)["error_type"] == "Empty"
    # 32 is the limit of text-embeddings-inference.
    assert len(send("/rerank", {"query": QUERY, "texts": [NEAR] * 100, "unknown": 1}, RANKS)) == 100


def test_similarity(send: Send) -> None:
    schema = {"type": "array", "items": {"type": "number", "minimum": -1, "maximum": 1}}
    inputs = {"source_sentence": QUERY, "sentences": [QUERY, NEAR, FAR]}
    found = send("/similarity", {"inputs": inputs}, schema)
    assert found[0] == pytest.approx(1)
    assert found[0] > found[1] > found[2]
    parameters = {"truncate": True, "truncation_direction": "Right", "prompt_name": None}
    assert send("/similarity", {"inputs": inputs, "parameters": parameters}, schema) == found
    send("/similarity", {"inputs": {**inputs, "sentences": []}}, TEI_ERROR, 400)
    assert len(send("/similarity", {"inputs": {**inputs, "sentences": [NEAR] * 100}}, schema)) == 100


def test_predict(send: Send, pipeline: DuplicatePipeline) -> None:
    near, far = pipeline.score(QUERY, NEAR), pipeline.score(QUERY, FAR)
    one = send("/predict", {"inputs": [QUERY, NEAR]}, PREDICTIONS)
    assert one == [{"score": pytest.approx(near.probability), "label": "duplicate"}]
    batch = {"type": "array", "items": PREDICTIONS}
    many = send("/predict", {"inputs": [[QUERY, NEAR], [QUERY, FAR]], "raw_scores": True}, batch)
    assert [row[0]["score"] for row in many] == pytest.approx([near.score, far.score])
    assert send("/predict", {"inputs": [[QUERY, NEAR]]}, batch) == [one]
    for inputs in (QUERY, [QUERY], [[QUERY]], [[QUERY, NEAR], [QUERY]]):
        assert "pairs of texts" in send("/predict", {"inputs": inputs}, TEI_ERROR, 422)["error"]
    for inputs in ("", [], ["", ""], [[QUERY, " "]]):
        assert send("/predict", {"inputs": inputs}, TEI_ERROR, 400)["error_type"] == "Empty"


def test_score(send: Send, pipeline: DuplicatePipeline) -> None:
    near, far = pipeline.score(QUERY, NEAR), pipeline.score(QUERY, FAR)
    probabilities = pytest.approx([near.probability, far.probability])

    def scores(body: dict[str, Any]) -> list[float]:
        found = send("/score", body, VLLM)
        assert [row["index"] for row in found["data"]] == [*range(len(found["data"]))]
        return [row["score"] for row in found["data"]]

    assert scores({"queries": QUERY, "documents": NEAR}) == pytest.approx([near.probability])
    assert (
        scores({"model": "x", "encoding_format": "float", "queries": QUERY, "documents": [NEAR, FAR]}) == probabilities
    )
    assert scores({"queries": [QUERY, QUERY], "documents": [NEAR, FAR]}) == probabilities
    assert scores({"text_1": [QUERY], "text_2": [NEAR, FAR]}) == probabilities
    assert scores({"data_1": QUERY, "data_2": [NEAR, FAR]}) == probabilities
    assert scores({"queries": QUERY, "items": [NEAR, FAR]}) == probabilities
    raw = scores({"queries": QUERY, "documents": [NEAR, FAR], "use_activation": False, "truncate_prompt_tokens": -1})
    assert raw == pytest.approx([near.score, far.score])
    assert send("/score", {"model": "my-model", "queries": QUERY, "documents": NEAR}, VLLM)["model"] == "my-model"
    bad = ({}, {"queries": QUERY}, {"queries": [QUERY] * 2, "documents": [NEAR] * 3}, {"queries": [], "documents": []})
    for body in bad:
        assert send("/score", body, VLLM_ERROR, 400)["error"]["code"] == 400
    send("/score", {"queries": 5, "documents": NEAR}, VLLM_ERROR, 422)


def test_info(client: TestClient, as_role: Callable[[Role], dict[str, str]]) -> None:
    answer = client.get("/info", headers=as_role("reader"))
    jsonschema_rs.validate(INFO, answer.json())


@pytest.mark.parametrize("path", ["/rerank", "/similarity", "/predict", "/score"])
def test_errors_have_the_shape_of_the_client(
    client: TestClient, as_role: Callable[[Role], dict[str, str]], path: str
) -> None:
    schema = VLLM_ERROR if path == "/score" else TEI_ERROR
    headers = as_role("reader")
    for answer, status in (
        (client.post(path, json={}), 401),
        (client.post(path, json=[], headers=headers), 422),
        (client.post(path, content=b"{", headers={**headers, "Content-Type": "application/json"}), 400),
    ):
        assert answer.status_code == status
        jsonschema_rs.validate(schema, answer.json())
