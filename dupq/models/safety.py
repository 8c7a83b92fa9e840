"""What a model folder may say: its JSON is read and judged before any library opens a network of it.

sentence-transformers and transformers run no code of a folder unless told to, but they do import the classes, call the
functions, fetch the models and open the files that its configuration names. Here each such name is held against a list.
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
"""The modules of sentence-transformers that a network may be made of: those that handle text and hold no pickle."""

_MODULE = re.compile(
    rf"sentence_transformers(\.[a-z_]+)*\.({'|'.join(MODULES)})|dupq\.models\.comparers\.[a-z]+\.[A-Z]\w*"
)
_ACTIVATION = re.compile(r"torch\.nn\.modules\.(activation|linear)\.[A-Z]\w*")
_ACTIVATION_KEYS = frozenset({"activation_fn", "activation_function", "sbert_ce_default_activation_function"})
_ATTENTION_KEYS = frozenset({"attn_implementation", "_attn_implementation", "_attn_implementation_internal"})
_LOADER_ARGUMENTS = re.compile(r"(model|tokenizer|config|processor|processing)_(args|kwargs)")
_PATH_ENDINGS = ("_file", "_dir", "_path", "_folder", "subfolder", "file_name")
_BULKY = frozenset({"tokenizer.json", "vocab.json", "model.safetensors.index.json"})
"""Large, and read by parsers that look for nothing but data in them."""

LARGEST_JSON = 64 << 20
_NO_CODE = "dupq runs nothing that a model folder brings along"
_FETCH = "fetch or save the folder again"


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ModelFolderError: It cannot be read, is larger than 64 MiB, is nested too deeply, or is no JSON.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ModelFolderError("it is too large to be what it says", where=str(path), mend=_FETCH)
        return json.loads(path.read_bytes().decode("utf-8"), parse_constant=_no_constant)
    except RecursionError as error:
        raise ModelFolderError("it is damaged (nested too deeply)", where=str(path), mend=_FETCH) from error
    except ModelFolderError:
        raise
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"it is damaged or unreadable ({error})", where=str(path), mend=_FETCH) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def refuse_code(folder: Path) -> None:
    """Checks every configuration file in a folder, however deep it lies.

    Raises:
        ModelFolderError: One names code of the folder's own, a class or function that is not on the list, a kernel or
            another model to be fetched, or a path; or a network holds its weights as a pickle alone.
    """
    for path in sorted(folder.rglob("*.json")):
        if path.name == "adapter_config.json":
            _refuse(path, "an adapter has another model fetched", "merge the adapter into its network, and save that")
        if path.name in _BULKY:
            continue
        content = read_json(path)
        if path.name == "modules.json":
            _check_modules(path, content)
        for key, value, argument in _entries(content):
            _check_entry(path, key, value, argument)
    for path in sorted(folder.rglob("pytorch_model*.bin")):
        if not any(path.parent.glob("*.safetensors")):
            _refuse(path, "the weights are there as a pickle alone", "save the network as safetensors")


def _check_modules(path: Path, content: Any) -> None:
    if not isinstance(content, list) or not all(isinstance(module, dict) for module in content):
        raise ModelFolderError("it is damaged (no list of modules)", where=str(path), mend=_FETCH)
    for module in content:
        name, place = module.get("type"), module.get("path")
        if not isinstance(name, str) or not _MODULE.fullmatch(name):
            _refuse(path, f"it names a module class that is not on the list of allowed ones: {name}")
        if not isinstance(place, str) or leaves_folder(place) or re.search(r"(^|/)\.[^/]", place):
            _refuse(path, f"this path leaves the folder: {place}")


def leaves_folder(name: str) -> bool:
    """Whether a path would lead out of the folder that it is relative to, on any system."""
    windows = PureWindowsPath(name)
    return bool(windows.anchor) or PurePosixPath(name).is_absolute() or ".." in windows.parts or "\0" in name


def _entries(content: Any) -> Iterator[tuple[str, Any, bool]]:
    """Every key with its value, at every depth, and whether it is an argument that is handed on to a loader."""
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
        _refuse(path, "it asks for code of its own (auto_map)")
    if key == "trust_remote_code" and value:
        _refuse(path, "it asks that code of its own be trusted")
    # A plain name ("gelu") is looked up in a table; a dotted one is imported and called.
    if key in _ACTIVATION_KEYS and isinstance(value, str) and "." in value and not _ACTIVATION.fullmatch(value):
        _refuse(path, f"it names an activation function that is not torch's: {value}")
    if key in _ATTENTION_KEYS and "/" in json.dumps(value):
        _refuse(path, f"it asks for a kernel to be fetched: {value}")
    if argument and isinstance(value, str) and (key.endswith(_PATH_ENDINGS) or leaves_folder(value)):
        _refuse(path, f"it hands a path of its own to a loader: {key} = {value}")


def _refuse(path: Path, problem: str, mend: str = _NO_CODE) -> NoReturn:
    raise ModelFolderError(problem, where=str(path), mend=mend)
