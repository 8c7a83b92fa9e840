"""Reading and writing of stock networks of sentence-transformers.

Only safetensors are read, and no code from a folder runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import write_json
from dupq.errors import ModelFolderError, OutputError, require_extra
from dupq.models.safety import read_json, refuse_code

RECORD = "dupq_training.json"
QUESTIONS = "dupq_training_questions.safetensors"
"""Files that `dupq train` writes beside a network: its training record, and fingerprints of its questions."""
TRAINED_ON = "training_questions.safetensors"
"""File of a pipeline folder: fingerprints of the questions that its networks were trained on."""


def open_stock(kind: str, name: str, device: str | None = None, half: bool = False) -> Any:
    """Open a stock bi-encoder or cross-encoder.

    Args:
        kind: "bi-encoder" or "cross-encoder".
        name: Folder or Hub id.
        device: "cpu", "cuda", or None for the GPU if there is one.
        half: Compute in float16, for GPUs, instead of float32.

    Raises:
        ModelFolderError: The folder names code, holds no safetensors, is damaged, or cannot be found.
    """
    require_extra("train", "opening a network in its stock form")
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from sentence_transformers import CrossEncoder, SentenceTransformer

    # Raised by the libraries for a damaged folder.
    damaged: tuple[type[Exception], ...] = (OSError, ValueError, LookupError, RuntimeError, ImportError, AttributeError)
    damaged += (TypeError, ArithmeticError, SafetensorError, StrictDataclassError)
    folder = Path(name)
    if folder.is_dir():
        refuse_code(folder)
    # On a CPU the plain attention is faster than the fused one at the length of a question.
    model_kwargs: dict[str, Any] = {"dtype": torch.float16 if half else torch.float32, "use_safetensors": True}
    if not (device or "").startswith("cuda") and not torch.cuda.is_available():
        model_kwargs["attn_implementation"] = "eager"
    cls = CrossEncoder if kind == "cross-encoder" else SentenceTransformer
    try:
        with no_loading_bar():
            modules = _dupq_modules(folder, model_kwargs) if kind == "cross-encoder" else []
            model = (
                CrossEncoder(modules=modules, device=device)
                if modules
                else cls(name, device=device, model_kwargs=model_kwargs, local_files_only=folder.is_dir())
            )
    except damaged as error:
        lines = str(error).strip().splitlines()
        raise ModelFolderError(
            f"the {kind} cannot be opened ({lines[0] if lines else type(error).__name__})",
            location=name,
            hint="check the name; fetch or train a damaged network again",
        ) from error
    model.eval()
    return model


def _dupq_modules(folder: Path, model_kwargs: dict[str, Any]) -> list[Any]:
    """Open the modules of a pair network.

    A stock loader would require trust_remote_code for them.

    Returns:
        An empty list where the folder names no module of dupq.

    Raises:
        KeyError: The folder names modules of dupq and other ones.
    """
    from dupq.models.pair_heads import MODULE_CLASSES

    path = folder / "modules.json"
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if not any(entry["type"] in MODULE_CLASSES for entry in entries):
        return []
    return [
        MODULE_CLASSES[entry["type"]].load(
            str(folder), subfolder=entry["path"], local_files_only=True, model_kwargs=model_kwargs
        )
        for entry in entries
    ]


@contextmanager
def no_loading_bar() -> Iterator[None]:
    """Disable the progress bar of transformers for opened networks."""
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()  # type: ignore[no-untyped-call]


def weights_fingerprint(model: Any) -> str:
    """Return a hash of every parameter and buffer of a torch module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def round_weights(model: Any) -> None:
    """Round every weight to float16 precision in place.

    `save_stock` then stores it in half the space. Do it before calibration, so that calibrator and thresholds are
    fitted on the stored weights.
    """
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())


def save_plainly(model: Any, folder: Path) -> None:
    """Write a stock folder; its tokenizer is one that transformers 4 opens too.

    Raises:
        OSError: It could not be written.
    """
    model.save_pretrained(str(folder), create_model_card=False)
    for path in folder.rglob("tokenizer_config.json"):
        content = path.read_text(encoding="utf-8").replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"')
        path.write_text(content, encoding="utf-8")


def save_stock(model: Any, folder: Path) -> None:
    """Write a stock folder, with float16 tensors where that loses nothing.

    The config still names float32, so stock loaders compute in it.

    Raises:
        OSError, SafetensorError: It could not be written.
    """
    from safetensors.torch import load_file, save_file

    save_plainly(model, folder)
    for path in folder.rglob("*.safetensors"):
        tensors = load_file(path)
        halved = {name: tensor.half() for name, tensor in tensors.items() if tensor.is_floating_point()}
        exact = {name: half for name, half in halved.items() if bool((half.float() == tensors[name]).all())}
        save_file({**tensors, **exact}, path, metadata={"format": "pt"})
        path.chmod(0o644)  # safetensors makes it readable by its owner only, which an installed package must not be


def save_trained(
    model: Any,
    output: Path,
    record: Mapping[str, Any],
    questions: NDArray[np.int64] | None,
    *,
    save: Callable[[Any, Path], None] = save_stock,
    hint: str = "free space",
) -> None:
    """Write a stock folder with its training record, whole or not at all.

    Args:
        model: The network.
        output: The folder; it must not exist, or be empty.
        record: Training record.
        questions: Fingerprints of the questions it was trained on, int64 (m,); None if unknown.
        save: Writes the network itself.
        hint: Hint of the error.

    Raises:
        OutputError: It could not be written.
    """
    from safetensors import SafetensorError

    beside = output.with_name(f".{output.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        save(model, beside)
        if questions is not None:
            write_fingerprints(beside / QUESTIONS, questions)
        write_json(beside / RECORD, record)
        os.replace(beside, output)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"the network could not be written ({error})", location=str(output), hint=hint) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def training_record(folder: Path) -> tuple[dict[str, Any] | None, NDArray[np.int64] | None]:
    """Return a network's training record and the fingerprints of its questions.

    Either is None if missing. The questions of a pipeline folder count for both of its networks.

    Raises:
        ModelFolderError: A file is damaged.
    """
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else None
    paths = (folder / QUESTIONS, folder.parent / TRAINED_ON)
    questions = [read_fingerprints(path) for path in paths if path.is_file()]
    return record, np.unique(np.concatenate(questions)) if questions else None


def read_fingerprints(path: Path) -> NDArray[np.int64]:
    """Read fingerprints that `write_fingerprints` wrote: int64 (m,).

    Raises:
        ModelFolderError: The file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return np.asarray(load_file(path)["fingerprints"], dtype=np.int64)
    except (SafetensorError, KeyError, OSError) as error:
        raise ModelFolderError(f"it is damaged ({error})", location=str(path), hint="fetch the folder again") from error


def write_fingerprints(path: Path, fingerprints: NDArray[np.int64]) -> None:
    """Write fingerprints, int64 (m,), as safetensors.

    Raises:
        OSError, SafetensorError: The file could not be written.
    """
    from safetensors.numpy import save_file

    save_file({"fingerprints": np.ascontiguousarray(fingerprints, dtype=np.int64)}, path)
    path.chmod(0o644)
