"""What the configuration of a model folder must not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dupq.errors import ModelFolderError
from dupq.models.safety import leaves_folder, read_json, refuse_code

TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def module(name: str = TRANSFORMER, path: str = "") -> list[dict[str, Any]]:
    return [{"idx": 0, "name": "0", "path": path, "type": name}]


def refused(path: Path, folder: Path, *words: str) -> None:
    with pytest.raises(ModelFolderError) as caught:
        refuse_code(folder)
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer_config.json",
        "processor_config.json",
        "1_Pooling/config.json",
        "0_Transformer/deep/er/preprocessor_config.json",
    ],
)
def test_code_of_its_own_is_refused_wherever_it_is_asked_for(tmp_path: Path, name: str) -> None:
    refused(write(tmp_path / name, {"auto_map": {"AutoModel": "evil.Model"}}), tmp_path, "auto_map")
    refused(write(tmp_path / name, {"text_config": [{"auto_map": ["evil.Model"]}]}), tmp_path, "auto_map")
    refused(write(tmp_path / name, {"model_kwargs": {"trust_remote_code": True}}), tmp_path, "trust_remote_code")


@pytest.mark.parametrize(
    "name",
    [
        "evil.Model",
        "os.system",
        "sentence_transformers.base.model.torch",
        "sentence_transformers.util.misc.importlib",
        "sentence_transformers.base.modules.router.Router",
        "sentence_transformers_evil.Transformer",
        "dupq.models.sentence_transformers_io.open_stock",
        "dupq.hub.push.Pushed",
        "",
        None,
        7,
    ],
)
def test_a_module_class_off_the_list_is_refused(tmp_path: Path, name: Any) -> None:
    refused(write(tmp_path / "modules.json", module(name)), tmp_path, "not allowed", str(name))


@pytest.mark.parametrize(
    "name",
    [
        TRANSFORMER,
        "sentence_transformers.models.Transformer",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "sentence_transformers.models.Normalize",
        "sentence_transformers.models.StaticEmbedding",
        "dupq.models.pair_heads.vectors.Hybrid",
    ],
)
def test_the_usual_modules_are_let_through(tmp_path: Path, name: str) -> None:
    write(tmp_path / "modules.json", module(name, "1_Pooling"))
    refuse_code(tmp_path)


@pytest.mark.parametrize("place", ["../other", "/etc", "a/../../b", "C:\\x", "\\\\server\\x", ".hidden/x", None])
def test_a_module_outside_the_folder_is_refused(tmp_path: Path, place: Any) -> None:
    refused(write(tmp_path / "modules.json", module(path=place)), tmp_path, "leaves the folder")


@pytest.mark.parametrize("content", [{}, "x", None, [1], ["a"]])
def test_a_list_of_modules_that_is_none_is_told(tmp_path: Path, content: Any) -> None:
    refused(write(tmp_path / "modules.json", content), tmp_path, "damaged")


@pytest.mark.parametrize(
    "value", ["torch.seed", "torch.hub.load", "os.abort", "torch.nn.modules.container.Sequential", "a.b"]
)
@pytest.mark.parametrize("key", ["activation_fn", "activation_function", "sbert_ce_default_activation_function"])
def test_a_function_that_would_be_called_is_refused(tmp_path: Path, key: str, value: str) -> None:
    refused(write(tmp_path / "config.json", {"sentence_transformers": {key: value}}), tmp_path, value)


def test_what_stock_networks_say_is_let_through(tmp_path: Path) -> None:
    write(
        tmp_path / "config.json",
        {
            "activation_function": "gelu_new",
            "attn_implementation": "sdpa",
            "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"},
            "auto_map": None,
        },
    )
    write(tmp_path / "2_Dense/config.json", {"activation_function": "torch.nn.modules.linear.Identity"})
    write(tmp_path / "tokenizer_config.json", {"tokenizer_file": "/home/someone/x.json", "eos_token": "</s>"})
    write(tmp_path / "sentence_bert_config.json", {"processor_kwargs": {"eos_token": "</s>", "padding_side": "left"}})
    refuse_code(tmp_path)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("value", ["kernels-community/flash-attn", {"": "someone/kernel@main:fn"}])
def test_a_kernel_to_be_fetched_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    refused(write(tmp_path / "config.json", {key: value}), tmp_path, "kernel")


def test_an_adapter_that_names_another_model_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x/adapter_config.json", {"base_model_name_or_path": "someone/else"})
    refused(path, tmp_path, "adapter", "merge")


@pytest.mark.parametrize("arguments", ["processor_kwargs", "tokenizer_args", "model_kwargs", "config_args"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("vocab_file", "passwd"), ("tokenizer_file", "/etc/passwd"), ("subfolder", "x"), ("anything", "../../secret")],
)
def test_a_path_handed_to_a_loader_is_refused(tmp_path: Path, arguments: str, key: str, value: str) -> None:
    refused(write(tmp_path / "sentence_bert_config.json", {arguments: {key: value}}), tmp_path, value)


def test_weights_as_a_pickle_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense/pytorch_model.bin").write_bytes(b"x")
    refused(tmp_path / "2_Dense/pytorch_model.bin", tmp_path, "pickle")
    (tmp_path / "2_Dense/model.safetensors").write_bytes(b"x")
    refuse_code(tmp_path)


@pytest.mark.parametrize("text", [b"", b'{"a": ', b"\xff", b"[" * 100_000, b'{"a": Infinity}'])
def test_json_that_is_damaged_or_too_deep_is_told(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config.json").write_bytes(text)
    refused(tmp_path / "config.json", tmp_path, "damaged")


def test_a_folder_in_the_place_of_a_file_and_a_huge_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(ModelFolderError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
    with (tmp_path / "b.json").open("wb") as stream:
        stream.truncate((64 << 20) + 1)
    with pytest.raises(ModelFolderError, match="must have at most 64 MiB"):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize(("name", "leaves"), [("a/b", False), ("..a", False), ("a/..", True), ("c:", True)])
def test_leaving_the_folder(name: str, leaves: bool) -> None:
    assert leaves_folder(name) is leaves
