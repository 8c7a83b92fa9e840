"""Loading of a pipeline's networks in either form, and checks of their folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Protocol

from dupq.data.arguments import as_int
from dupq.errors import InputError, ModelFolderError
from dupq.models.long_text import LongPairs, LongTexts
from dupq.models.safety import read_json
from dupq.models.scoring_options import SCORING_OPTIONS
from dupq.models.symmetry import Symmetry
from dupq.types import Embedder, Scorer

STOCK = "sentence-transformers"
INT8 = "onnx-int8"
MAX_THREADS = 1024
"""The system refuses more, and that ends the process."""

NetworkKind = Literal["cross-encoder", "bi-encoder"]


class Stored(Protocol):
    """A network that can be written to a folder."""

    @property
    def form(self) -> str:
        """`STOCK` or `INT8`."""
        ...

    def save(self, folder: Path) -> None:
        """Write the network into a folder."""
        ...


class StoredScorer(Scorer, Stored, Protocol):
    """A cross-encoder that can be written to a folder."""


class StoredEmbedder(Embedder, Stored, Protocol):
    """A bi-encoder that can be written to a folder."""


# ---- open a network --------------------------------------------------------------------------------------------------


def load_cross_encoder(
    form: str,
    folder: Path,
    device: str | None = None,
    threads: int | None = None,
    symmetry: Symmetry = "canonical",
    long_pairs: LongPairs = "whole",
) -> StoredScorer:
    """Open a cross-encoder of either form.

    Args:
        form, folder, device, threads: See `check_running`.
        symmetry: See `dupq.models.symmetry.Symmetry`.
        long_pairs: See `dupq.models.long_text.LongPairs`.

    Raises:
        ModelFolderError: The form is unknown, or the folder is damaged or unsafe.
        InputError: As raised by `check_running`.
    """
    check_running(form, folder, device, threads)
    if form == INT8:
        from dupq.models.onnx.runtime import RuntimeCrossEncoder

        return RuntimeCrossEncoder(folder, threads=threads, symmetry=symmetry, long_pairs=long_pairs)
    from dupq.models.cross_encoder import CrossEncoderScorer

    return CrossEncoderScorer(folder, symmetry=symmetry, device=device, half=_is_gpu(device), long_pairs=long_pairs)


def load_bi_encoder(
    form: str,
    folder: Path,
    device: str | None = None,
    threads: int | None = None,
    long_texts: LongTexts = "whole",
) -> StoredEmbedder:
    """Open a bi-encoder of either form.

    Args:
        form, folder, device, threads: See `check_running`.
        long_texts: See `dupq.models.long_text.LongTexts`.

    Raises:
        ModelFolderError: The form is unknown, or the folder is damaged or unsafe.
        InputError: As raised by `check_running`.
    """
    check_running(form, folder, device, threads)
    if form == INT8:
        from dupq.models.onnx.runtime import RuntimeBiEncoder

        return RuntimeBiEncoder(folder, threads=threads, long_texts=long_texts)
    from dupq.models.bi_encoder import BiEncoder

    return BiEncoder(folder, device=device, half=_is_gpu(device), long_texts=long_texts)


def check_running(form: str, folder: Path, device: str | None, threads: int | None) -> None:
    """Check that a network of this form can run, and set the threads of torch.

    Args:
        form: `STOCK` or `INT8`.
        folder: Folder of the network, for the error.
        device: "cpu"; "cuda" or "cuda:1", where stock networks compute in float16; None: the GPU if there is one.
        threads: Processor threads, 1 to `MAX_THREADS`; None for all. In torch they apply to the whole process.

    Raises:
        ModelFolderError: The form is unknown.
        InputError: The device is unknown, missing or unsuited to the form, or `threads` is out of range.
    """
    if threads is not None:
        as_int(threads, "threads", 1, MAX_THREADS, hint="give 1 or more, such as the number of cores")
    if device is not None and not (isinstance(device, str) and (device == "cpu" or _is_gpu(device))):
        raise InputError(f"device must be cpu or cuda, got {device!r}", hint="give cpu or cuda")
    if form == INT8:
        if _is_gpu(device):
            raise InputError(
                "an int8 network runs on the processor only",
                location=str(folder),
                hint="leave the device out, or use the pipeline that was exported",
            )
        return
    if form != STOCK:
        raise ModelFolderError(
            f"the form of a network must be {STOCK} or {INT8}, got {form!r}",
            location=str(folder),
            hint="pip install --upgrade dupq",
        )
    if _is_gpu(device) or threads is not None:
        import torch

        if _is_gpu(device) and not torch.cuda.is_available():
            raise InputError("torch finds no CUDA device", hint="leave the device out, or give cpu")
        if threads is not None:
            torch.set_num_threads(threads)


def _is_gpu(device: str | None) -> bool:
    return device is not None and re.fullmatch(r"cuda(:\d+)?", device) is not None


# ---- recognise a network ---------------------------------------------------------------------------------------------


def manifest_entry(network: StoredScorer | StoredEmbedder) -> dict[str, str]:
    """Return the entry of a network in `dupq.json`: form, fingerprint, options."""
    options = {key: str(getattr(network, key)) for key in SCORING_OPTIONS if hasattr(network, key)}
    return {"form": network.form, "fingerprint": network.fingerprint, **options}


def form_of(folder: str | Path) -> str:
    """Return the form of a network's folder; a Hub id counts as a stock network."""
    from dupq.models.onnx.runtime import SETTINGS

    return INT8 if (Path(folder) / SETTINGS).is_file() else STOCK


def network_kind(folder: Path) -> NetworkKind:
    """Return the kind of a stock network by its configuration files.

    Raises:
        ModelFolderError: The folder holds no network.
    """
    config, settings, modules = (
        read_json(folder / name) if (folder / name).is_file() else None
        for name in ("config.json", "config_sentence_transformers.json", "modules.json")
    )
    if config is None and modules is None:
        raise ModelFolderError(
            "this is neither a pipeline folder nor a network (no dupq.json, modules.json or config.json)",
            location=str(folder),
            hint="check the path",
        )
    kind = settings.get("model_type", "") if isinstance(settings, dict) else ""
    architectures = config.get("architectures") if isinstance(config, dict) else None
    classifies = isinstance(architectures, list) and any(
        str(name).endswith("ForSequenceClassification") for name in architectures
    )
    pairs = kind == "CrossEncoder" or (not kind and modules is None and classifies)
    return "cross-encoder" if pairs else "bi-encoder"


def require_kind(folder: Path, kind: NetworkKind) -> None:
    """Check that a folder holds a stock network of this kind.

    Args:
        folder: A local folder.
        kind: The required kind.

    Raises:
        InputError: It holds a network of another kind, a pipeline, or an int8 network.
        ModelFolderError: It holds no network.
    """
    location = str(folder)
    if (folder / "dupq.json").is_file():
        raise InputError(
            f"this must be a {kind}, got a pipeline folder",
            location=location,
            hint=f"name a network: {location}/{kind}",
        )
    if form_of(folder) == INT8:
        raise InputError(
            f"this must be a stock {kind}, got an int8 network",
            location=location,
            hint="convert its pipeline to stock networks first: dupq model to-torch PIPELINE -o DIR",
        )
    found = network_kind(folder)
    if found != kind:
        raise InputError(f"this must be a {kind}, got a {found}", location=location, hint=f"give it as the {found}")
