"""The fast path: an int8 BERT run by onnxruntime. Nothing here loads torch, transformers or sentence-transformers.

Inputs are batched with others of exactly their own number of tokens: nothing is padded, nothing is masked, and every
scale is fixed, so that a score is the same to the last bit whatever is scored beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import write_json
from dupq.errors import ModelFolderError
from dupq.models.heads import LongTexts, embed_with_heads
from dupq.models.networks import INT8
from dupq.models.orders import Symmetry, symmetric_scores
from dupq.models.safety import read_json
from dupq.models.scorers import Progress, chunks, combined_fingerprint
from dupq.models.words import PLACE, WORD_INPUTS, WORDS, Words

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

Kind = Literal["bi-encoder", "cross-encoder"]
Feeds = dict[str, NDArray[Any]]

MODEL = "model_int8.onnx"
TOKENIZER = "tokenizer.json"
SETTINGS = "runtime.json"
FORMAT = 2

_BATCH_TOKENS = 512
"""More fall out of the processor's cache."""
_WINDOW = 8192
"""Inputs whose tokens are in memory at a time."""


@dataclass(frozen=True)
class RuntimeNetwork:
    """The files of an exported network, as `export.export` makes them.

    Attributes:
        model: An ONNX model, `ids` (and `types`, and the tables of `words`) -> `scores` or `embeddings`.
        tokenizer: The JSON of a `tokenizers.Tokenizer`.
        settings: "format", "kind", "max_length", "dimensions", and "shift": how far int8 moved the scores.
        words: The word embeddings, if the model is given them.
    """

    model: bytes
    tokenizer: bytes
    settings: dict[str, Any]
    words: Words | None = None

    @classmethod
    def read(cls, folder: str | Path) -> RuntimeNetwork:
        """Reads a folder.

        Raises:
            ModelFolderError: A file is missing or damaged, or of a newer format.
        """
        folder = Path(folder)
        settings = read_json(folder / SETTINGS)
        if not isinstance(settings, dict) or not isinstance(settings.get("format"), int):
            raise ModelFolderError("it is damaged (no format)", where=str(folder / SETTINGS), mend="export it again")
        if settings["format"] != FORMAT:
            newer = settings["format"] > FORMAT
            raise ModelFolderError(
                f"it is of format {settings['format']}, {'newer' if newer else 'older'} than this dupq knows",
                where=str(folder / SETTINGS),
                mend="pip install --upgrade dupq" if newer else "export it again",
            )
        words = Words.read(folder, settings.pop(PLACE, WORDS))
        try:
            return cls((folder / MODEL).read_bytes(), (folder / TOKENIZER).read_bytes(), settings, words)
        except OSError as error:
            raise ModelFolderError(
                f"it cannot be read ({error.strerror or error})", where=str(error.filename), mend="fetch it again"
            ) from error

    def save(self, folder: Path) -> None:
        """Writes the files into a folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL).write_bytes(self.model)
        (folder / TOKENIZER).write_bytes(self.tokenizer)
        place = {} if self.words is None or self.words.file == WORDS else {PLACE: self.words.file}
        write_json(folder / SETTINGS, {**self.settings, **place})
        if self.words is not None:
            self.words.save(folder)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that makes a score."""
        settings = {key: self.settings.get(key) for key in ("kind", "max_length")}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for content in (self.model, self.tokenizer):
            digest.update(hashlib.sha256(content).digest())
        digest.update(self.words.digest if self.words else b"")
        return digest.hexdigest()[:16]


class Runner:
    """Runs an ONNX model over texts or pairs of any number, in batches of equal length and bounded memory.

    Args:
        network: What to run.
        threads: Of the processor; None for all that this process may use.

    Raises:
        ModelFolderError: Model or tokenizer cannot be loaded.
    """

    def __init__(self, network: RuntimeNetwork, threads: int | None = None) -> None:
        self.tokenizer = _load_tokenizer(network)
        self.threads = threads or _available_threads()
        self.session = _load_session(network.model)
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.tables: Feeds = {}
        if network.words is not None:
            self.tables = dict(zip(WORD_INPUTS, (network.words.rows, network.words.scales), strict=True))

    def run(
        self, inputs: Sequence[str] | Sequence[tuple[str, str]], progress: Progress | None = None
    ) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.float32]]]]:
        """Gives, batch by batch, which inputs it holds and the model's outputs for them."""
        done = 0
        for rows, outputs in self._computed(self._fed(inputs)):
            yield rows, outputs
            done += len(rows)
            if progress:
                progress(done, len(inputs))

    def _fed(self, inputs: Sequence[str] | Sequence[tuple[str, str]]) -> Iterator[tuple[NDArray[np.int64], Feeds]]:
        for part in chunks(len(inputs), _WINDOW):
            ids, types = self._tokens(inputs[part])
            lengths = np.fromiter(map(len, ids), np.int64, len(ids))
            for rows in _batches(lengths):
                feeds = {"ids": np.array([ids[row] for row in rows]), **self.tables}
                if "types" in self.inputs:
                    feeds["types"] = np.array([types[row] for row in rows])
                yield rows + part.start, feeds

    def _computed(
        self, batches: Iterator[tuple[NDArray[np.int64], Feeds]]
    ) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.float32]]]]:
        """Runs a batch a thread, a few ahead: threads that share a batch would wait for each other at every node."""
        first, second = next(batches, None), next(batches, None)
        if self.threads == 1 or second is None:
            for rows, feeds in filter(None, chain((first, second), batches)):
                yield rows, self.session.run(None, feeds)
            return
        waiting: deque[tuple[NDArray[np.int64], Future[list[NDArray[np.float32]]]]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            for rows, feeds in filter(None, chain((first, second), batches)):
                waiting.append((rows, pool.submit(self.session.run, None, feeds)))
                if len(waiting) > 2 * self.threads:
                    rows, ready = waiting.popleft()
                    yield rows, ready.result()
            for rows, ready in waiting:
                yield rows, ready.result()

    def _tokens(self, inputs: Sequence[str] | Sequence[tuple[str, str]]) -> tuple[list[list[int]], list[list[int]]]:
        # One text alone is not worth the start of a pool of threads.
        if len(inputs) == 1:
            first = inputs[0]
            encoded = [self.tokenizer.encode(*([first] if isinstance(first, str) else first))]
        else:
            encoded = self.tokenizer.encode_batch_fast(list(inputs))
        return [item.ids for item in encoded], [item.type_ids for item in encoded]


def _batches(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows of equal length, at most `_BATCH_TOKENS` tokens together."""
    order = np.argsort(lengths, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        for part in chunks(len(group), max(1, _BATCH_TOKENS // max(1, int(lengths[group[0]])))):
            yield group[part]


def _available_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load_tokenizer(network: RuntimeNetwork) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(network.tokenizer)
    except ValueError as error:
        raise ModelFolderError(f"it is damaged ({error})", where=TOKENIZER, mend="export the network again") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(int(network.settings["max_length"]), strategy="longest_first")
    return tokenizer


def _load_session(model: bytes) -> InferenceSession:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    refusals = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        # onnxruntime would fuse the sum before a normalisation into it, and that node is slower than the two.
        return onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
        )
    except refusals as error:
        raise ModelFolderError(
            f"onnxruntime cannot open it ({str(error).splitlines()[0][:200]})",
            where=MODEL,
            mend="export the network again, or pip install --upgrade onnxruntime",
        ) from error


class RuntimeCrossEncoder:
    """Scores pairs by an exported cross-encoder. The score is the raw logit, exactly symmetric.

    Args:
        network: An exported network, or its folder.
        threads: Of the processor; None for all that this process may use.
        symmetry: In which order it reads a pair, see `dupq.models.orders.Symmetry`.
    """

    form = INT8

    def __init__(
        self, network: RuntimeNetwork | str | Path, *, threads: int | None = None, symmetry: Symmetry = "canonical"
    ) -> None:
        self.network = _of_kind("cross-encoder", network)
        self.symmetry: Symmetry = symmetry
        self._runner = Runner(self.network, threads)

    @property
    def fingerprint(self) -> str:
        own = self.network.fingerprint
        return own if self.symmetry == "canonical" else combined_fingerprint(self.symmetry, own)

    def save(self, folder: Path) -> None:
        """Writes the network's folder."""
        self.network.save(folder)

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        return symmetric_scores(self._read, left, right, self.symmetry, progress)

    def _read(self, pairs: list[tuple[str, str]], progress: Progress | None) -> NDArray[np.float64]:
        logits = np.empty(len(pairs))
        for rows, outputs in self._runner.run(pairs, progress):
            logits[rows] = outputs[0]
        return logits


class RuntimeBiEncoder:
    """Embeds texts by an exported bi-encoder.

    Args:
        network: An exported network, or its folder.
        threads: Of the processor; None for all that this process may use.
        long_texts: How a long text is embedded, see `dupq.models.heads.LongTexts`.
    """

    form = INT8

    def __init__(
        self, network: RuntimeNetwork | str | Path, *, threads: int | None = None, long_texts: LongTexts = "whole"
    ) -> None:
        self.network = _of_kind("bi-encoder", network)
        self.long_texts: LongTexts = long_texts
        self._runner = Runner(self.network, threads)

    @property
    def fingerprint(self) -> str:
        own = self.network.fingerprint
        return own if self.long_texts == "whole" else combined_fingerprint(self.long_texts, own)

    @property
    def dimensions(self) -> int:
        return int(self.network.settings["dimensions"])

    def save(self, folder: Path) -> None:
        """Writes the network's folder."""
        self.network.save(folder)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        return (
            self._embed(texts, progress)
            if self.long_texts == "whole"
            else embed_with_heads(self._embed, texts, progress)
        )

    def _embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        distinct = list(dict.fromkeys(texts))
        vectors = np.empty((len(distinct), self.dimensions), dtype=np.float32)
        for rows, outputs in self._runner.run(distinct, progress):
            vectors[rows] = unit_rows(outputs[0])
        if len(distinct) == len(texts):
            return vectors
        place = {text: index for index, text in enumerate(distinct)}
        return vectors[np.fromiter((place[text] for text in texts), np.int64, len(texts))]


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows of (n, d), each divided by its length."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.maximum(lengths, 1e-12))


def _of_kind(kind: Kind, network: RuntimeNetwork | str | Path) -> RuntimeNetwork:
    loaded = network if isinstance(network, RuntimeNetwork) else RuntimeNetwork.read(network)
    if loaded.settings.get("kind") != kind:
        raise ModelFolderError(
            f"this is a {loaded.settings.get('kind')}, not a {kind}",
            where=None if isinstance(network, RuntimeNetwork) else str(network),
            mend="name the folder of the other network",
        )
    return loaded
