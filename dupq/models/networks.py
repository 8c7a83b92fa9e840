"""The forms in which a network lies in a pipeline folder, and how each is opened."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any, Protocol, cast, get_args

from dupq.errors import InputError, ModelFolderError
from dupq.models.heads import LongTexts
from dupq.models.orders import Symmetry
from dupq.models.scorers import Embedder, Scorer

STOCK = "sentence-transformers"
INT8 = "onnx-int8"

READINGS: dict[str, tuple[str, ...]] = {"symmetry": get_args(Symmetry), "long_texts": get_args(LongTexts)}
"""How a cross-encoder and a bi-encoder may read: the names of the settings, and their values."""


class StoredScorer(Scorer, Protocol):
    """A cross-encoder that can be written to a folder."""

    @property
    def form(self) -> str:
        """`STOCK` or `INT8`."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the network."""
        ...


class StoredEmbedder(Embedder, Protocol):
    """A bi-encoder that can be written to a folder."""

    @property
    def form(self) -> str:
        """`STOCK` or `INT8`."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the network."""
        ...


def open_cross_encoder(
    form: str,
    folder: Path,
    device: str | None = None,
    threads: int | None = None,
    symmetry: Symmetry = "canonical",
) -> StoredScorer:
    """Opens a cross-encoder of either form, on a device and with threads as `check_running` has them."""
    check_running(form, folder, device, threads)
    if form == INT8:
        from dupq.models.runtime import RuntimeCrossEncoder

        return RuntimeCrossEncoder(folder, threads=threads, symmetry=symmetry)
    from dupq.models.cross_encoder import CrossEncoderScorer

    return CrossEncoderScorer(folder, symmetry=symmetry, device=device, half=_on_gpu(device))


def open_bi_encoder(
    form: str,
    folder: Path,
    device: str | None = None,
    threads: int | None = None,
    long_texts: LongTexts = "whole",
) -> StoredEmbedder:
    """Opens a bi-encoder of either form, on a device and with threads as `check_running` has them."""
    check_running(form, folder, device, threads)
    if form == INT8:
        from dupq.models.runtime import RuntimeBiEncoder

        return RuntimeBiEncoder(folder, threads=threads, long_texts=long_texts)
    from dupq.models.bi_encoder import BiEncoder

    return BiEncoder(folder, device=device, half=_on_gpu(device), long_texts=long_texts)


def form_of(folder: str | Path) -> str:
    """The form of a network's folder; a Hub id is taken for a stock one."""
    from dupq.models.runtime import SETTINGS

    return INT8 if (Path(folder) / SETTINGS).is_file() else STOCK


def described(network: StoredScorer | StoredEmbedder) -> dict[str, str]:
    """What a pipeline folder says of a network: its form, its fingerprint, and how it reads."""
    settings = {key: str(getattr(network, key)) for key in READINGS if hasattr(network, key)}
    return {"form": network.form, "fingerprint": network.fingerprint, **settings}


def with_symmetry(scorer: StoredScorer, symmetry: Symmetry) -> StoredScorer:
    """The same network of ours that reads a pair in another order."""
    return cast(StoredScorer, _changed(scorer, "symmetry", symmetry))


def with_long_texts(embedder: StoredEmbedder, long_texts: LongTexts) -> StoredEmbedder:
    """The same network of ours that embeds long texts in another way."""
    return cast(StoredEmbedder, _changed(embedder, "long_texts", long_texts))


def _changed(network: Any, setting: str, value: str) -> Any:
    changed = copy(network)
    vars(changed).pop("fingerprint", None)  # it may be remembered, of the other setting
    setattr(changed, setting, value)
    return changed


def _on_gpu(device: str | None) -> bool:
    return device is not None and device.startswith("cuda")


def check_running(form: str, folder: Path, device: str | None, threads: int | None) -> None:
    """Refuses what a network cannot run on, and gives torch its threads where the form runs in torch.

    Args:
        form: `STOCK` or `INT8`.
        folder: Of the network, for the error.
        device: "cpu"; "cuda" (or "cuda:1", ...), where stock networks compute in float16; None: whatever there is.
        threads: Of the processor, 1 or more; None for all. Those of torch are the whole process's.

    Raises:
        ModelFolderError: A form that is not known.
        InputError: A device that is not there or that the form does not run on, or no thread.
    """
    if threads is not None and threads < 1:
        raise InputError(f"{threads} threads score nothing", mend="give 1 or more")
    if device not in (None, "cpu") and not _on_gpu(device):
        raise InputError(f"the device {device!r} is not known", mend="give cpu or cuda")
    if form == INT8:
        if _on_gpu(device):
            raise InputError(
                "a network in int8 runs on the processor alone",
                where=str(folder),
                mend="leave the device out, or use the pipeline that it was exported from",
            )
        return
    _check_form(form, folder)
    if _on_gpu(device) or threads is not None:
        import torch

        if _on_gpu(device) and not torch.cuda.is_available():
            raise InputError("torch finds no CUDA device here", mend="leave the device out, or give cpu")
        if threads is not None:
            torch.set_num_threads(threads)


def _check_form(form: str, folder: Path) -> None:
    if form != STOCK:
        raise ModelFolderError(
            f"a network of the form {form!r} is not known", where=str(folder), mend="pip install --upgrade dupq"
        )
