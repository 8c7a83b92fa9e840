"""Int8 BERT networks run by onnxruntime, without torch.

A batch holds inputs of exactly one number of tokens, and every scale is fixed. So nothing is padded or masked, and a
score does not depend on its batch, to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast, get_args

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import write_json
from dupq.errors import ModelFolderError
from dupq.models.batching import chunks, rows_of
from dupq.models.fingerprint import ComparedByFingerprint, combined_fingerprint
from dupq.models.long_text import LongPairs, LongTexts, embed_long_texts
from dupq.models.onnx.bert_weights import Kind
from dupq.models.onnx.embedding_table import TABLE_FILE, TABLE_INPUTS, TABLE_KEY, EmbeddingTable
from dupq.models.onnx.graph import OUTPUTS
from dupq.models.onnx.token_reader import TokenReader
from dupq.models.per_process import PerProcess
from dupq.models.safety import read_json
from dupq.models.symmetry import Symmetry, symmetric_scores
from dupq.models.truncation import UNCUT
from dupq.models.vocabulary import Vocabulary, largest_token, load_tokenizer
from dupq.types import Progress

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

Inputs = Sequence[str] | Sequence[tuple[str, str]]
Feeds = dict[str, NDArray[Any]]
"""Name of a graph input -> its value."""
Outputs = list[NDArray[np.float32]]
Rows = NDArray[np.int64]

MODEL = "model_int8.onnx"
TOKENIZER = "tokenizer.json"
SETTINGS = "runtime.json"
FORMAT = 2

BATCH_TOKENS = 512
"""Maximum number of tokens of a batch; more do not fit the processor's cache."""
_WINDOW = 8192
"""Maximum number of inputs that are tokenized together."""
_WINDOW_CHARACTERS = 2_000_000
"""Maximum number of their characters: the tokenizer takes about 100 bytes a token."""
_MIN_TOKENS, _MAX_TOKENS = 4, 1 << 16
"""Three special tokens and one of text; more than any BERT takes."""
_MAX_PROBED = 1024
"""Number of tokens of the longest input in the trial run of a loaded network."""
_INPUTS = {
    "ids": "tensor(int64)",
    "types": "tensor(int64)",
    TABLE_INPUTS[0]: "tensor(int8)",
    TABLE_INPUTS[1]: "tensor(float)",
}
_ONE_EXPORT = "take all files of the folder from one export, or export the network again"


@dataclass(frozen=True, eq=False)
class RuntimeNetwork(ComparedByFingerprint):
    """Files of an exported network, see `dupq.models.onnx.export`.

    Attributes:
        model: An ONNX model: `ids` (and `types`, and `TABLE_INPUTS`) -> `scores` or `embeddings`.
        tokenizer: The JSON of a `tokenizers.Tokenizer`.
        settings: "format", "kind", "max_length", "dimensions", and "shift", see `export`.
        table: The token embeddings, if they are inputs of the model.
        folder: The folder it was read from, for errors.
    """

    model: bytes
    tokenizer: bytes
    settings: dict[str, Any]
    table: EmbeddingTable | None = None
    folder: Path | None = None

    def place(self, name: str) -> str:
        """Return the path of one of its files, or the name without a folder."""
        return name if self.folder is None else str(self.folder / name)

    @classmethod
    def read(cls, folder: str | Path) -> RuntimeNetwork:
        """Read a network's folder.

        Raises:
            ModelFolderError: A file is missing or damaged, or of another format.
        """
        folder = Path(folder)
        settings = read_json(folder / SETTINGS)
        if not isinstance(settings, dict) or type(settings.get("format")) is not int:
            raise ModelFolderError("it is damaged (no format)", location=str(folder / SETTINGS), hint="export it again")
        if settings["format"] != FORMAT:
            newer = settings["format"] > FORMAT
            raise ModelFolderError(
                f"its format {settings['format']} is {'newer' if newer else 'older'} than {FORMAT}, that of this dupq",
                location=str(folder / SETTINGS),
                hint="pip install --upgrade dupq" if newer else "export it again",
            )
        table = EmbeddingTable.read(folder, settings.pop(TABLE_KEY, TABLE_FILE))
        try:
            return cls((folder / MODEL).read_bytes(), (folder / TOKENIZER).read_bytes(), settings, table, folder)
        except OSError as error:
            raise ModelFolderError(
                f"it cannot be read ({error.strerror or error})", location=str(error.filename), hint="fetch it again"
            ) from error

    def save(self, folder: Path) -> None:
        """Write the files into a folder, which is created if missing.

        Raises:
            OSError: A file could not be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL).write_bytes(self.model)
        (folder / TOKENIZER).write_bytes(self.tokenizer)
        place = {} if self.table is None or self.table.file == TABLE_FILE else {TABLE_KEY: self.table.file}
        write_json(folder / SETTINGS, {**self.settings, **place})
        if self.table is not None:
            self.table.save(folder)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that a score depends on."""
        settings = {key: self.settings.get(key) for key in ("kind", "max_length")}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for content in (self.model, self.tokenizer):
            digest.update(hashlib.sha256(content).digest())
        digest.update(self.table.digest if self.table else b"")
        return digest.hexdigest()[:16]


class Runner:
    """Runner of an ONNX model over any number of texts or pairs, with bounded memory.

    It can be shared between threads, which then share its `threads`; a forked process opens the model again.

    Args:
        network: The network.
        threads: Processor threads; None for all that this process may use.

    Raises:
        ModelFolderError: Model or tokenizer cannot be loaded, or the files do not belong together.
    """

    def __init__(self, network: RuntimeNetwork, threads: int | None = None) -> None:
        _check_settings(network.settings, network.place(SETTINGS))
        self.network = network
        self._reader = _load_tokenizer(network)
        self.threads = threads or _available_threads()
        self._session = PerProcess(partial(_open_session, network.model, self.threads, network.place(MODEL)))
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.tables: Feeds = {}
        if network.table is not None:
            self.tables = dict(zip(TABLE_INPUTS, (network.table.rows, network.table.scales), strict=True))
        self._check()

    def __reduce__(self) -> tuple[Any, ...]:
        return Runner, (self.network, self.threads)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, without truncation and padding."""
        return self._reader.tokenizer

    @property
    def session(self) -> InferenceSession:
        """The onnxruntime session of this process."""
        return self._session.get().session

    def run(self, inputs: Inputs, progress: Progress | None = None) -> Iterator[tuple[Rows, Outputs]]:
        """Yield the rows of each batch, int64 (m,), and the model's outputs for them.

        Raises:
            ModelFolderError: The model fails, or an output has a wrong shape or is not finite.
        """
        done = 0
        for rows, outputs in self._run_batches(self._batches(inputs)):
            self._check_output(outputs[0], len(rows))
            yield rows, outputs
            done += len(rows)
            if progress:
                progress(done, len(inputs))

    def _batches(self, inputs: Inputs) -> Iterator[tuple[Rows, Feeds]]:
        for part in _windows(inputs):
            tokens = self._reader.read(inputs[part])
            lengths = np.fromiter((len(ids) for ids, _ in tokens), np.int64, len(tokens))
            for rows in equal_lengths(lengths, BATCH_TOKENS):
                feeds = {"ids": np.array([tokens[row][0] for row in rows]), **self.tables}
                if "types" in self.inputs:
                    feeds["types"] = np.array([tokens[row][1] for row in rows])
                yield rows + part.start, feeds

    def _run_batches(self, batches: Iterator[tuple[Rows, Feeds]]) -> Iterator[tuple[Rows, Outputs]]:
        """Run one batch a thread, a few ahead.

        Threads that share a batch would wait for each other at every node.
        """
        session = self._session.get()
        first, second = next(batches, None), next(batches, None)
        if self.threads == 1 or second is None:
            for rows, feeds in filter(None, chain((first, second), batches)):
                yield rows, session.run(feeds)
            return
        waiting: deque[tuple[Rows, Future[Outputs]]] = deque()
        try:
            for rows, feeds in filter(None, chain((first, second), batches)):
                waiting.append((rows, session.threads.submit(session.run, feeds)))
                if len(waiting) > 2 * self.threads:
                    rows, future = waiting.popleft()
                    yield rows, future.result()
            while waiting:
                rows, future = waiting.popleft()
                yield rows, future.result()
        finally:
            # After an error, or where the caller stopped, the rest is not needed.
            for _, future in waiting:
                future.cancel()

    def _check(self) -> None:
        """Raise ModelFolderError unless the network's files belong together."""
        network, kind = self.network, self.network.settings["kind"]
        outputs = self.session.get_outputs()
        found = {value.name: value.type for value in self.session.get_inputs()}
        expected = {name: _INPUTS[name] for name in ("ids", *self.tables, *(["types"] if "types" in found else []))}
        if found != expected:
            _refuse_model(network, f"its inputs must be {_format_inputs(expected)}, got {_format_inputs(found)}")
        if outputs[0].name != OUTPUTS[kind] or outputs[0].type != "tensor(float)":
            _refuse_model(
                network, f"the output of a {kind} must be {OUTPUTS[kind]}, got {outputs[0].name}, a {outputs[0].type}"
            )
        if network.table is not None:
            largest = largest_token(network.tokenizer)
            if largest >= len(network.table.rows):
                raise ModelFolderError(
                    f"token {largest} of the tokenizer must have an embedding, got {len(network.table.rows)} rows",
                    location=network.place(TOKENIZER),
                    hint=_ONE_EXPORT,
                )
        # A model for fewer tokens fails only on an input that has more.
        longest = network.settings["max_length"]
        texts = ["a", "a " * longest] if longest <= _MAX_PROBED else ["a"]
        for _ in self.run(texts if kind == "bi-encoder" else [(text, "b") for text in texts]):
            pass

    def _check_output(self, output: NDArray[np.float32], n: int) -> None:
        settings = self.network.settings
        shape = (n,) if settings["kind"] == "cross-encoder" else (n, settings["dimensions"])
        if output.shape != shape:
            _refuse_model(self.network, f"its output for {n} inputs must have the shape {shape}, got {output.shape}")
        if not np.isfinite(output).all():
            _refuse_model(self.network, "its output must be finite, got NaN or infinity")


@dataclass(frozen=True)
class _Session:
    """Session and threads of one process."""

    session: InferenceSession
    threads: ThreadPoolExecutor
    location: str

    def run(self, feeds: Feeds) -> Outputs:
        try:
            return cast(Outputs, self.session.run(None, feeds))
        except _onnxruntime_errors() as error:
            raise ModelFolderError(
                f"onnxruntime cannot run it ({_first_line(error)})", location=self.location, hint=_ONE_EXPORT
            ) from error


def _open_session(model: bytes, threads: int, location: str) -> _Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        # onnxruntime would fuse the sum before a normalisation into it, and that node is slower than the two.
        session = onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],
            enable_fallback=0,  # the fallback prints, and opens the same again
        )
    except _onnxruntime_errors() as error:
        raise ModelFolderError(
            f"onnxruntime cannot open it ({_first_line(error)})",
            location=location,
            hint="export the network again, or pip install --upgrade onnxruntime",
        ) from error
    # The executor starts its threads when there is work, and they end with it.
    return _Session(session, ThreadPoolExecutor(threads, "dupq"), location)


def _windows(inputs: Inputs) -> Iterator[slice]:
    """Yield slices of inputs that are tokenized together."""
    start = size = 0
    for end, item in enumerate(inputs, 1):
        size += sum(min(len(text), UNCUT) for text in ((item,) if isinstance(item, str) else item))
        if end - start >= _WINDOW or size >= _WINDOW_CHARACTERS or end == len(inputs):
            yield slice(start, end)
            start, size = end, 0


def equal_lengths(lengths: NDArray[np.int64], batch_tokens: int = BATCH_TOKENS) -> Iterator[Rows]:
    """Yield rows of inputs of equal length, at most `batch_tokens` tokens together.

    Args:
        lengths: Number of tokens of each input, int64 (n,).
        batch_tokens: Maximum number of tokens of a batch that has more than one input.
    """
    order = np.argsort(lengths, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        for part in chunks(len(group), max(1, batch_tokens // max(1, int(lengths[group[0]])))):
            yield group[part]


def _available_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load_tokenizer(network: RuntimeNetwork) -> TokenReader:
    try:
        return TokenReader(load_tokenizer(network.tokenizer), network.settings["max_length"])
    except ValueError as error:
        raise ModelFolderError(
            f"it is damaged ({_first_line(error)})",
            location=network.place(TOKENIZER),
            hint="export the network again",
        ) from error


def _onnxruntime_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of onnxruntime, which have no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (found for found in vars(state).values() if isinstance(found, type) and issubclass(found, Exception))
    return (*own, RuntimeError, ValueError)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _refuse_model(network: RuntimeNetwork, message: str) -> NoReturn:
    raise ModelFolderError(message, location=network.place(MODEL), hint=_ONE_EXPORT)


def _format_inputs(inputs: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in sorted(inputs.items()))


def _check_settings(settings: dict[str, Any], location: str) -> None:
    allowed = {"kind": get_args(Kind), "max_length": range(_MIN_TOKENS, _MAX_TOKENS + 1)}
    if settings.get("kind") == "bi-encoder":
        allowed["dimensions"] = range(1, _MAX_TOKENS + 1)
    for name, values in allowed.items():
        value = settings.get(name)
        if type(value) is not type(values[0]) or value not in values:
            choices = " or ".join(values) if isinstance(values, tuple) else f"{values[0]:,} to {values[-1]:,}"
            raise ModelFolderError(
                f"{name} must be {choices}, got {value!r:.60}", location=location, hint="export it again"
            )


class _RuntimeModel(ComparedByFingerprint):
    """Base class of an exported network that runs."""

    form = "onnx-int8"

    def __init__(self, kind: Kind, network: RuntimeNetwork | str | Path, threads: int | None) -> None:
        self.network = network if isinstance(network, RuntimeNetwork) else RuntimeNetwork.read(network)
        if (found := self.network.settings.get("kind")) != kind:
            raise ModelFolderError(
                f"this must be a {kind}, got a {found}",
                location=None if isinstance(network, RuntimeNetwork) else str(network),
                hint="name the folder of the other network",
            )
        self._runner = Runner(self.network, threads)

    @property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary and token limit of the network."""
        return Vocabulary(self.network.tokenizer, int(self.network.settings["max_length"]))

    def save(self, folder: Path) -> None:
        """Write the network; see `RuntimeNetwork.save`."""
        self.network.save(folder)


class RuntimeCrossEncoder(_RuntimeModel):
    """Scorer that runs an exported cross-encoder.

    The score is the raw logit, symmetric to the last bit.

    Args:
        network: An exported network, or its folder.
        threads: Processor threads; None for all that this process may use.
        symmetry: See `dupq.models.symmetry.Symmetry`.
        long_pairs: Rule for long texts, see `dupq.models.long_text.LongPairs`.

    Raises:
        ModelFolderError: The network is damaged, or no cross-encoder.
    """

    def __init__(
        self,
        network: RuntimeNetwork | str | Path,
        *,
        threads: int | None = None,
        symmetry: Symmetry = "canonical",
        long_pairs: LongPairs = "whole",
    ) -> None:
        super().__init__("cross-encoder", network, threads)
        self.symmetry: Symmetry = symmetry
        self.long_pairs: LongPairs = long_pairs

    @property
    def fingerprint(self) -> str:
        own = self.network.fingerprint
        options = [value for value in (self.symmetry, self.long_pairs) if value not in ("canonical", "whole")]
        return combined_fingerprint(*options, own) if options else own

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        return symmetric_scores(self._logits, left, right, self.symmetry, progress, self.long_pairs)

    def _logits(self, pairs: list[tuple[str, str]], progress: Progress | None) -> NDArray[np.float64]:
        logits = np.empty(len(pairs))
        for rows, outputs in self._runner.run(pairs, progress):
            logits[rows] = outputs[0]
        return logits


class RuntimeBiEncoder(_RuntimeModel):
    """Embedder that runs an exported bi-encoder.

    Args:
        network: An exported network, or its folder.
        threads: Processor threads; None for all that this process may use.
        long_texts: Rule for long texts, see `dupq.models.long_text.LongTexts`.

    Raises:
        ModelFolderError: The network is damaged, or no bi-encoder.
    """

    def __init__(
        self, network: RuntimeNetwork | str | Path, *, threads: int | None = None, long_texts: LongTexts = "whole"
    ) -> None:
        super().__init__("bi-encoder", network, threads)
        self.long_texts: LongTexts = long_texts

    @property
    def fingerprint(self) -> str:
        own = self.network.fingerprint
        return own if self.long_texts == "whole" else combined_fingerprint(self.long_texts, own)

    @property
    def dimensions(self) -> int:
        return int(self.network.settings["dimensions"])

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        return embed_long_texts(self._embed, texts, self.long_texts, progress)

    def _embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        distinct = list(dict.fromkeys(texts))
        vectors = np.empty((len(distinct), self.dimensions), dtype=np.float32)
        for rows, outputs in self._runner.run(distinct, progress):
            vectors[rows] = unit_rows(outputs[0])
        return vectors if len(distinct) == len(texts) else vectors[rows_of(texts, distinct)]


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows of (n, d), each divided by its length."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return np.asarray(vectors / np.maximum(lengths, 1e-12))
