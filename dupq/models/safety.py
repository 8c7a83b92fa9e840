"""Checks of a model folder's configuration, before any library opens its network.

By default sentence-transformers and transformers run no code from a folder. But they import the classes, call the
functions, fetch the models and open the files that its configuration names. Here each such name must be on a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

from dupq.errors import ModelFolderError

MODULES = (
    "Transformer",
    "Pooling",
    "Normalize",
    "Dense",
    "Dropout",
    "LayerNorm",
    "LogitScore",
    "StaticEmbedding",
    "WeightedLayerPooling",
)
"""Allowed modules of sentence-transformers: those that process text and hold no pickle."""

_MODULE = re.compile(
    rf"sentence_transformers(\.[a-z_]+)*\.({'|'.join(MODULES)})|dupq\.models\.pair_heads\.[a-z]+\.[A-Z]\w*"
)
_ACTIVATION = re.compile(r"torch\.nn\.modules\.(activation|linear)\.[A-Z]\w*")
_ACTIVATION_KEYS = frozenset({"activation_fn", "activation_function", "sbert_ce_default_activation_function"})
_ATTENTION_KEYS = frozenset({"attn_implementation", "_attn_implementation", "_attn_implementation_internal"})
_LOADER_ARGUMENTS = re.compile(r"(model|tokenizer|config|processor|processing)_(args|kwargs)")
_PATH_ENDINGS = ("_file", "_dir", "_path", "_folder", "subfolder", "file_name")
_DATA_ONLY = frozenset({"tokenizer.json", "vocab.json", "model.safetensors.index.json"})
"""Large files whose parsers read data only."""

MAX_JSON_BYTES = 64 << 20
_NO_CODE = "remove it; dupq runs no code from a model folder"
_FETCH = "fetch or save the folder again"


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ModelFolderError: It cannot be read, is larger than `MAX_JSON_BYTES`, is nested too deeply, or is not JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelFolderError(
                f"a JSON file must have at most {MAX_JSON_BYTES >> 20} MiB", location=str(path), hint=_FETCH
            )
        return json.loads(path.read_bytes().decode("utf-8"), parse_constant=_no_constant)
    except RecursionError as error:
        raise ModelFolderError("it is damaged (nested too deeply)", location=str(path), hint=_FETCH) from error
    except ModelFolderError:
        raise
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"it is damaged or unreadable ({error})", location=str(path), hint=_FETCH) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def refuse_code(folder: Path) -> None:
    """Check every configuration file in a folder and its subfolders.

    Raises:
        ModelFolderError: A file names code in the folder, a class or function that is not on the list, a kernel or
            another model to fetch, or a path; or a network has its weights in a pickle only.
    """
    for path in sorted(folder.rglob("*.json")):
        if path.name == "adapter_config.json":
            _refuse(path, "an adapter fetches another model", "merge the adapter into its network, and save that")
        if path.name in _DATA_ONLY:
            continue
        content = read_json(path)
        if path.name == "modules.json":
            _check_modules(path, content)
        for key, value, argument in _entries(content):
            _check_entry(path, key, value, argument)
    for path in sorted(folder.rglob("pytorch_model*.bin")):
        if not any(path.parent.glob("*.safetensors")):
            _refuse(path, "its weights are in a pickle only", "save the network as safetensors")


def _check_modules(path: Path, content: Any) -> None:
    if not isinstance(content, list) or not all(isinstance(module, dict) for module in content):
        raise ModelFolderError("it is damaged (it must be a list of modules)", location=str(path), hint=_FETCH)
    for module in content:
        name, subfolder = module.get("type"), module.get("path")
        if not isinstance(name, str) or not _MODULE.fullmatch(name):
            _refuse(path, f"it names a module class that is not allowed: {name}")
        if not isinstance(subfolder, str) or leaves_folder(subfolder) or re.search(r"(^|/)\.[^/]", subfolder):
            _refuse(path, f"this path leaves the folder: {subfolder}")


def leaves_folder(name: str) -> bool:
    """Return True if a relative path leads out of its folder, on any system."""
    windows = PureWindowsPath(name)
    return bool(windows.anchor) or PurePosixPath(name).is_absolute() or ".." in windows.parts or "\0" in name


def _entries(content: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield every key and value, at every depth, and True for a loader's argument."""
    waiting = [(content, False)]
    while waiting:
        item, argument = waiting.pop()
        if isinstance(item, list):
            waiting.extend((value, argument) for value in item)
        elif isinstance(item, dict):
            for key, value in item.items():
                yield key, value, argument
                waiting.append((value, argument or bool(_LOADER_ARGUMENTS.fullmatch(key))))


def _check_entry(path: Path, key: str, value: Any, argument: bool) -> None:
    if key == "auto_map" and value:
        _refuse(path, "it names code in the folder (auto_map)")
    if key == "trust_remote_code" and value:
        _refuse(path, "it enables code in the folder (trust_remote_code)")
    # The library looks up a plain name ("gelu") in a table, but imports and calls a dotted one.
    if key in _ACTIVATION_KEYS and isinstance(value, str) and "." in value and not _ACTIVATION.fullmatch(value):
        _refuse(path, f"it names an activation function outside torch: {value}")
    if key in _ATTENTION_KEYS and "/" in json.dumps(value):
        _refuse(path, f"it names a kernel to fetch: {value}")
    if argument and isinstance(value, str) and (key.endswith(_PATH_ENDINGS) or leaves_folder(value)):
        _refuse(path, f"it passes a path to a loader: {key} = {value}")


def _refuse(path: Path, message: str, hint: str = _NO_CODE) -> NoReturn:
    raise ModelFolderError(message, location=str(path), hint=hint)
