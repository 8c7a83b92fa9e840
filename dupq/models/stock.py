"""Opens and writes stock networks of sentence-transformers: no code of a folder runs, only safetensors is read."""

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
from dupq.errors import ModelFolderError, OutputError
from dupq.models.safety import read_json, refuse_code

RECORD = "dupq_training.json"
QUESTIONS = "dupq_training_questions.safetensors"
"""What `dupq train` leaves beside a network: how it was made, and fingerprints of the questions it has seen."""
TRAINED_ON = "training_questions.safetensors"
"""What a pipeline folder holds: fingerprints of the questions that its networks have seen."""


def open_stock(kind: str, name: str, device: str | None = None, half: bool = False) -> Any:
    """A `SentenceTransformer` ("bi-encoder") or a `CrossEncoder` ("cross-encoder"), from a folder or Hub id.

    It computes in float32, or, for GPUs, with `half` in float16.

    Raises:
        ModelFolderError: The folder names code of its own, holds no safetensors, is damaged, or cannot be found.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from sentence_transformers import CrossEncoder, SentenceTransformer

    # What the libraries raise when a folder is damaged or says what makes no sense.
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
            own = _own_modules(folder, model_kwargs) if kind == "cross-encoder" else []
            model = (
                CrossEncoder(modules=own, device=device)
                if own
                else cls(name, device=device, model_kwargs=model_kwargs, local_files_only=folder.is_dir())
            )
    except damaged as error:
        first = str(error).strip().splitlines()
        raise ModelFolderError(
            f"the {kind} cannot be opened ({first[0] if first else type(error).__name__})",
            where=name,
            mend="check the name; a damaged folder has to be fetched or trained again",
        ) from error
    model.eval()
    return model


def _own_modules(folder: Path, model_kwargs: dict[str, Any]) -> list[Any]:
    """The modules of a pair network, opened by the list of ours: a stock loader would want trust_remote_code for them.

    None are given where the folder names none of ours; where it names another beside them, that is a KeyError.
    """
    from dupq.models.comparers import MODULE_CLASSES

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
    """Holds back the progress bar of transformers, which would flash up for each network that is opened."""
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()  # type: ignore[no-untyped-call]


def weights_fingerprint(model: Any) -> str:
    """A hash of every parameter and buffer of a torch module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def round_weights(model: Any) -> None:
    """Rounds every weight to what float16 can hold, in place, so that it is stored in half the space without loss.

    Done before calibration, the calibrator and the thresholds speak of the weights that ship.
    """
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())


def save_plainly(model: Any, folder: Path) -> None:
    """Writes a stock folder, which transformers 4 opens too: it does not know the class that transformers 5 names."""
    model.save_pretrained(str(folder), create_model_card=False)
    for path in folder.rglob("tokenizer_config.json"):
        told = path.read_text(encoding="utf-8").replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"')
        path.write_text(told, encoding="utf-8")


def save_stock(model: Any, folder: Path) -> None:
    """Writes a stock folder; a tensor that float16 holds without loss is stored as float16.

    The config still says float32, so that stock loaders compute in it.
    """
    from safetensors.torch import load_file, save_file

    save_plainly(model, folder)
    for path in folder.rglob("*.safetensors"):
        tensors = load_file(path)
        halved = {name: tensor.half() for name, tensor in tensors.items() if tensor.is_floating_point()}
        exact = {name: half for name, half in halved.items() if bool((half.float() == tensors[name]).all())}
        save_file({**tensors, **exact}, path, metadata={"format": "pt"})
        path.chmod(0o644)  # it is written for its owner alone, and so would not be readable once installed


def save_trained(
    model: Any,
    output: Path,
    record: Mapping[str, Any],
    questions: NDArray[np.int64] | None,
    *,
    save: Callable[[Any, Path], None] = save_stock,
    mend: str = "free space",
) -> None:
    """Writes a stock folder with its record and the questions it has seen, whole or not at all.

    Raises:
        OutputError: It could not be written; `mend` tells what to do then.
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
        raise OutputError(f"the network could not be written ({error})", where=str(output), mend=mend) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def training_record(folder: Path) -> tuple[dict[str, Any] | None, NDArray[np.int64] | None]:
    """How a trained folder was made, and the fingerprints of the questions it has seen; None for what is not there.

    A network in a pipeline's folder has seen what the pipeline keeps for both.
    """
    record = folder / RECORD
    seen = [read_fingerprints(at) for at in (folder / QUESTIONS, folder.parent / TRAINED_ON) if at.is_file()]
    return (read_json(record) if record.is_file() else None, np.unique(np.concatenate(seen)) if seen else None)


def read_fingerprints(path: Path) -> NDArray[np.int64]:
    """The fingerprints in a file that `write_fingerprints` wrote: int64 array (m,)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return np.asarray(load_file(path)["fingerprints"], dtype=np.int64)
    except (SafetensorError, KeyError, OSError) as error:
        raise ModelFolderError(f"it is damaged ({error})", where=str(path), mend="fetch the folder again") from error


def write_fingerprints(path: Path, fingerprints: NDArray[np.int64]) -> None:
    """Writes fingerprints as safetensors."""
    from safetensors.numpy import save_file

    save_file({"fingerprints": np.ascontiguousarray(fingerprints, dtype=np.int64)}, path)
    path.chmod(0o644)
