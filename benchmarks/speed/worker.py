"""One contender in a process of its own, so that no library's threads or memory are another's.

Run by `contenders.Worker`: the settings are the one argument, jobs come as lines of JSON, and so do the answers. It is
a file by itself that imports only what its kind needs, so that another interpreter, with other libraries, can run it.
"""

from __future__ import annotations

import json
import os
import resource
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

    def __init__(self, model: str, backend: str = "torch", scratch: str = "", texts: str = "") -> None:
        from sentence_transformers import CrossEncoder

        if backend == "torch":
            self.model = CrossEncoder(model, device="cpu")
            return
        from sentence_transformers import backend as exporting

        folder = Path(scratch) / f"cross-encoder-{backend}-int8"
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
        self.model = CrossEncoder(
            str(folder), device="cpu", backend=backend, model_kwargs={"file_name": INT8_FILES[backend]}
        )

    def __call__(self, left: list[str], right: list[str]) -> dict[str, Any]:
        return {"scores": self.model.predict(list(zip(left, right, strict=True)), show_progress_bar=False)}


class Pipeline:
    """A dupq pipeline."""

    def __init__(self, model: str | None, threads: int | None = None) -> None:
        from dupq import DuplicatePipeline

        self.pipeline = DuplicatePipeline.from_pretrained(model, device="cpu", threads=threads)

    def __call__(self, left: list[str], right: list[str]) -> dict[str, Any]:
        return {"scores": self.pipeline.raw_scores(left, right)}

    def about(self) -> dict[str, Any]:
        band = self.pipeline.cascade
        return {
            "fingerprint": self.pipeline.fingerprint,
            "cascade": band.to_dict() if band else None,
            "blend": self.pipeline.blend,
        }

    def decided(self, scores: list[float]) -> dict[str, Any]:
        """Probabilities of scores, and the threshold; not timed."""
        import numpy as np

        from dupq.calibration.prior_shift import adjust_prior

        pipeline, values = self.pipeline, np.array(scores)
        probabilities = pipeline.calibrator.probabilities(values)
        probabilities = adjust_prior(probabilities, pipeline.calibrator.base_rate, pipeline.base_rate)
        return {"probabilities": probabilities.tolist(), "threshold": pipeline.rule.duplicate.score}


class CrossEncoderAlone(Pipeline):
    """The cross-encoder of a pipeline, without its bi-encoder."""

    def __call__(self, left: list[str], right: list[str]) -> dict[str, Any]:
        return {"scores": self.pipeline.cross_encoder.score(left, right)}


class Encoder:
    """`SentenceTransformer.encode`; texts come as the left side."""

    def __init__(self, model: str) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(model, device="cpu")

    def __call__(self, left: list[str], right: list[str]) -> dict[str, Any]:
        self.model.encode(left, show_progress_bar=False)
        return {}


class Embedder(Pipeline):
    """The bi-encoder of a pipeline."""

    def __call__(self, left: list[str], right: list[str]) -> dict[str, Any]:
        self.pipeline.bi_encoder.embed(left)
        return {}


KINDS = {
    "stock": Stock,
    "pipeline": Pipeline,
    "cross-encoder": CrossEncoderAlone,
    "encoder": Encoder,
    "embedder": Embedder,
}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def answer(contender: Any, job: dict[str, Any]) -> dict[str, Any]:
    if job.get("decide") is not None:
        return contender.decided(job["decide"])
    left, right = job["left"], job.get("right", [])
    if not job.get("single"):
        start = time.perf_counter()
        result = contender(left, right)
        seconds = time.perf_counter() - start
        scores = result.get("scores")
        told = None if scores is None or job.get("quiet") else [float(score) for score in scores]
        return {"seconds": seconds, "scores": told, "peak_mb": peak_mb()}
    times, scores = [], []
    for a, b in zip(left, right, strict=True):
        start = time.perf_counter()
        result = contender([a], [b])
        times.append(time.perf_counter() - start)
        scores.append(float(result["scores"][0]))
    return {"times": times, "scores": scores, "peak_mb": peak_mb()}


def main() -> None:
    # What the libraries print is not an answer.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = json.loads(sys.argv[1])

    def reply(content: dict[str, Any]) -> None:
        replies.write(json.dumps(content) + "\n")
        replies.flush()

    start = time.perf_counter()
    try:
        contender = KINDS[settings.pop("kind")](**settings)
    except Exception as error:  # noqa: BLE001 - whatever keeps a library from starting is what the table tells of it
        reply({"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error) else ''}"})
        return
    about = contender.about() if hasattr(contender, "about") else {}
    reply({"seconds": time.perf_counter() - start, "versions": versions(), **about})
    for line in sys.stdin:
        reply(answer(contender, json.loads(line)))


if __name__ == "__main__":
    main()
