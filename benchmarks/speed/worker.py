"""One contender in a process of its own, so that no library's threads or memory are another's.

Run by `contenders.Worker`: the settings are the one argument, jobs come as lines of JSON, and so do the answers. It is
a file by itself that imports only what its kind needs, so that another interpreter, with other libraries, can run it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "onnxruntime",
    "openvino",
    "optimum",
    "tokenizers",
    "numpy",
)
INT8_FILES = {"onnx": "onnx/model_qint8_avx512_vnni.onnx", "openvino": "openvino/openvino_model_qint8_quantized.xml"}


def versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Stock:
    """What a user of sentence-transformers calls today."""

    def __init__(self, model: str, backend: str = "torch", texts: str = "") -> None:
        from sentence_transformers import CrossEncoder

        if backend == "torch":
            self.model = CrossEncoder(model, device="cpu")
            return
        from sentence_transformers import backend as exporting

        folder = Path(f"{model}-{backend}-int8")
        if not (folder / INT8_FILES[backend]).is_file():
            full = CrossEncoder(model, device="cpu", backend=backend)
            full.save_pretrained(str(folder))
            if backend == "onnx":
                exporting.export_dynamic_quantized_onnx_model(full, "avx512_vnni", str(folder))
            else:
                # Its own default fetches sentences of another task from the Hub.
                exporting.export_static_quantized_openvino_model(
                    full, None, str(folder), texts, "default", "train", "text"
                )
            del full
        self.model = CrossEncoder(
            str(folder), device="cpu", backend=backend, model_kwargs={"file_name": INT8_FILES[backend]}
        )

    def __call__(self, left: list[str], right: list[str]) -> None:
        self.model.predict(list(zip(left, right, strict=True)), show_progress_bar=False)


class Pipeline:
    """A dupq pipeline."""

    def __init__(self, model: str | None, threads: int | None = None) -> None:
        from dupq import DuplicatePipeline

        self.pipeline = DuplicatePipeline.from_pretrained(model, device="cpu", threads=threads)

    def __call__(self, left: list[str], right: list[str]) -> None:
        self.pipeline.raw_scores(left, right)


class Stored(Pipeline):
    """A dupq pipeline whose questions were embedded before, as `flag` and `mine` use it."""

    def prepare(self, left: list[str], right: list[str]) -> None:
        from dupq.decisions.decider import embedder_of
        from dupq.mining.cached_embeddings import with_cached_embeddings

        texts = list(dict.fromkeys([*left, *right]))
        self.known = with_cached_embeddings(self.pipeline, texts, embedder_of(self.pipeline).embed(texts))

    def __call__(self, left: list[str], right: list[str]) -> None:
        self.known.raw_scores(left, right)


class Encoder:
    """`SentenceTransformer.encode`; texts come as the left side."""

    def __init__(self, model: str) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(model, device="cpu")

    def __call__(self, left: list[str], right: list[str]) -> None:
        self.model.encode(left, show_progress_bar=False)


class Embedder(Pipeline):
    """The bi-encoder of a pipeline."""

    def __call__(self, left: list[str], right: list[str]) -> None:
        self.pipeline.bi_encoder.embed(left)


KINDS = {"stock": Stock, "pipeline": Pipeline, "stored": Stored, "encoder": Encoder, "embedder": Embedder}


def opened(settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The contender, and what it says when it is ready, or why it is not."""
    try:
        rest = {name: value for name, value in settings.items() if name != "kind"}
        return KINDS[settings["kind"]](**rest), {"versions": versions()}
    except Exception as error:  # noqa: BLE001 - whatever keeps a library from starting is what the table holds of it
        first = str(error).strip().splitlines()
        return None, {"error": f"{type(error).__name__}: {first[0][:200] if first else ''}"}


def answer(contender: Any, job: dict[str, Any]) -> dict[str, Any]:
    left, right = job["left"], job.get("right", [])
    if job.get("single"):
        return {"times": [timed(contender, [a], [b]) for a, b in zip(left, right, strict=True)]}
    if hasattr(contender, "prepare"):
        contender.prepare(left, right)
    return {"seconds": timed(contender, left, right)}


def timed(contender: Any, left: list[str], right: list[str]) -> float:
    start = time.perf_counter()
    contender(left, right)
    return time.perf_counter() - start


def main() -> None:
    # What the libraries print is not an answer.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(content: dict[str, Any]) -> None:
        replies.write(json.dumps(content) + "\n")
        replies.flush()

    contender, ready = opened(json.loads(sys.argv[1]))
    reply(ready)
    if contender is not None:
        for line in sys.stdin:
            reply(answer(contender, json.loads(line)))


if __name__ == "__main__":
    main()
