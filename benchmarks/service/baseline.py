"""What a user would write instead: FastAPI and sentence-transformers, without a store, tokens or a bounded queue."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import CrossEncoder, SentenceTransformer, util

FOLDER = Path(os.environ["BASELINE_FOLDER"])
cross_encoder = CrossEncoder(str(FOLDER / "cross-encoder"), device="cpu")
bi_encoder = SentenceTransformer(str(FOLDER / "bi-encoder"), device="cpu")
stored_texts = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))
stored_embeddings = torch.from_numpy(np.load(FOLDER / "embeddings.npy"))
app = FastAPI()


class Pairs(BaseModel):
    pairs: list[tuple[str, str]]


class Question(BaseModel):
    question: str


@app.post("/v1/score")
def score(body: Pairs) -> list[float]:
    return cross_encoder.predict(body.pairs).tolist()  # type: ignore[no-any-return]


@app.post("/v1/flag")
def flag(body: Question) -> list[tuple[str, float]]:
    query = bi_encoder.encode([body.question], convert_to_tensor=True, normalize_embeddings=True)
    hits = util.semantic_search(query, stored_embeddings, top_k=10, score_function=util.dot_score)[0]
    found = [stored_texts[hit["corpus_id"]] for hit in hits]
    return list(zip(found, cross_encoder.predict([(body.question, text) for text in found]).tolist(), strict=True))
