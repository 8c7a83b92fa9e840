"""The pipeline folder as somebody who means harm, or a bad disk, would leave it."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupq.errors import ModelFolderError, OutputError
from dupq.hub.folder import open_folder, replacing_folder, require_place, write_manifest
from dupq.hub.manifest import FORMAT, MANIFEST, checksum

CONTENT: dict[str, Any] = {
    "dupq": "0.1.0",
    "networks": {"cross-encoder": {"form": "sentence-transformers", "fingerprint": "0123456789abcdef"}},
    "blend": None,
    "fingerprint": "0123456789abcdef",
    "calibrator": None,
    "rule": None,
    "base_rate": None,
    "facts": {},
}
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]


def make_folder(folder: Path, **changes: Any) -> Path:
    """A pipeline folder that is whole, with weights that no test opens."""
    network = folder / "cross-encoder"
    network.mkdir(parents=True)
    (network / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["Bert"]}, indent=2))
    (network / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64, "do_lower_case": True}))
    (network / "modules.json").write_text(json.dumps(MODULES))
    (network / "model.safetensors").write_bytes(random.Random(0).randbytes(4096))
    (folder / "README.md").write_text("---\nlibrary_name: dupq\n---\n# A pipeline\n")
    (folder / "report.json").write_text("{}")
    write_manifest(folder, {**CONTENT, **changes})
    return folder


def reseal(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Alters the manifest as one would who knows how its checksum is made."""
    content = json.loads((folder / MANIFEST).read_text())
    content.pop("checksum")
    change(content)
    (folder / MANIFEST).write_text(json.dumps({**content, "checksum": checksum(content)}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "pipeline")


@pytest.mark.parametrize("files", [5, None, ["idf_overlap.json"]])
def test_a_list_of_files_of_a_wrong_kind_is_one_error(folder: Path, files: Any) -> None:
    reseal(folder, lambda content: content.update(files=files))
    with pytest.raises(ModelFolderError, match="'files' is missing or of a wrong kind"):
        open_folder(folder)


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(ModelFolderError) as caught:
        open_folder(folder)
    for word in words:
        assert word in str(caught.value)


def complaint(folder: Path) -> str | None:
    """What the error says when the folder is opened; None if it opens. Any other error than ours comes through."""
    try:
        open_folder(folder)
    except ModelFolderError as error:
        return str(error)
    return None


def test_a_whole_folder_opens_and_says_what_it_holds(folder: Path) -> None:
    content = open_folder(folder)
    assert content["format"] == FORMAT
    assert set(content["files"]) == {
        "README.md",
        "report.json",
        "cross-encoder/config.json",
        "cross-encoder/model.safetensors",
        "cross-encoder/modules.json",
        "cross-encoder/tokenizer_config.json",
    }


@pytest.mark.parametrize(
    "name", ["model.safetensors", "adapter_config.json", "pytorch_model.bin", "modules.json", "config.json", "x.txt"]
)
@pytest.mark.parametrize("place", ["", "bi-encoder", "cross-encoder/1_Pooling"])
def test_an_unlisted_file_that_a_loader_could_read_is_refused(folder: Path, name: str, place: str) -> None:
    (folder / place).mkdir(exist_ok=True)
    (folder / place / name).write_text("{}")
    refused(folder, name, "remove it")


@pytest.mark.parametrize("name", ["adapter_config.json", "pytorch_model.bin", "model-2.safetensors"])
def test_an_unlisted_file_beside_listed_ones_is_refused(folder: Path, name: str) -> None:
    (folder / "cross-encoder" / name).write_text("{}")
    refused(folder, name, "remove it")


@pytest.mark.parametrize("name", ["LICENSE", "NOTES.md", "diagram.png", ".gitattributes", ".git/config", ".DS_Store"])
def test_an_unlisted_file_that_no_loader_reads_is_let_be(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("text")
    open_folder(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "cross-encoder/model.safetensors").unlink()
    refused(folder, "model.safetensors", "missing")


def test_a_file_cut_short_is_named(folder: Path) -> None:
    weights = folder / "cross-encoder/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    refused(folder, "model.safetensors", "checksum differs")


def test_a_symbolic_link_is_refused_even_to_the_same_content(folder: Path, tmp_path: Path) -> None:
    config = folder / "cross-encoder/config.json"
    shutil.move(config, tmp_path / "outside.json")
    config.symlink_to(tmp_path / "outside.json")
    refused(folder, "config.json", "symbolic link")


def test_a_linked_folder_or_manifest_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(folder / "cross-encoder")
    (folder / "cross-encoder").symlink_to(copy / "cross-encoder", target_is_directory=True)
    refused(folder, "cross-encoder", "symbolic link")
    (copy / MANIFEST).rename(copy / "other.json")
    (copy / MANIFEST).symlink_to("other.json")
    refused(copy, MANIFEST, "symbolic link")


def hub_cache(folder: Path, cache: Path, shared: bool = False) -> Path:
    """The same files as huggingface_hub lays them out: links into blobs, which may be links into a shared store."""
    repository = cache / "models--me--forum"
    snapshot = repository / "snapshots" / ("0" * 40)
    (repository / "blobs").mkdir(parents=True)
    (cache / "blobs/ab").mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        blob, link = repository / "blobs" / str(number), snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        if shared:
            shutil.copy(path, cache / "blobs/ab" / str(number))
            blob.symlink_to(os.path.relpath(cache / "blobs/ab" / str(number), blob.parent))
        else:
            shutil.copy(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


@pytest.mark.parametrize("shared", [False, True])
def test_the_links_of_a_hub_cache_are_followed_and_those_out_of_it_are_not(
    folder: Path, tmp_path: Path, shared: bool
) -> None:
    snapshot = hub_cache(folder, tmp_path / "cache", shared)
    open_folder(snapshot)
    config = snapshot / "cross-encoder/config.json"
    config.unlink()
    config.symlink_to(folder / "cross-encoder/config.json")
    refused(snapshot, "config.json", "symbolic link")


def test_a_card_edited_on_the_hub_or_not_fetched_does_no_harm(folder: Path, tmp_path: Path) -> None:
    snapshot = hub_cache(folder, tmp_path / "cache")
    (snapshot / "README.md").resolve().write_text("edited")
    open_folder(snapshot)
    (snapshot / "README.md").unlink()
    open_folder(snapshot)
    (folder / "README.md").write_text("edited")
    refused(folder, "README.md", "checksum differs")


@pytest.mark.parametrize(
    "name",
    [
        "../outside.json",
        "/etc/passwd.txt",
        "cross-encoder/../../outside.json",
        "C:/outside.json",
        "C:outside.json",
        "\\\\server\\share.json",
        "cross-encoder\\config.json",
    ],
)
def test_a_listed_path_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    reseal(folder, lambda content: content["files"].update({name: "0" * 64}))
    refused(folder, name, "leaves the folder")


@pytest.mark.parametrize(
    "name",
    ["", ".", "./a.json", "a//b.json", ".hidden.json", "a/.git/b.json", "nul.json", "a.json.", "a b.json", "DUPQ.json"],
)
def test_a_listed_name_that_some_system_reads_otherwise_is_refused(folder: Path, name: str) -> None:
    reseal(folder, lambda content: content["files"].update({name: "0" * 64}))
    refused(folder)


@pytest.mark.parametrize("name", ["run.py", "weights.pt", "cross-encoder/model.bin", "a.PKL", "lib.so", "noend"])
def test_a_listed_file_of_a_kind_that_is_not_read_is_refused(folder: Path, name: str) -> None:
    reseal(folder, lambda content: content["files"].update({name: "0" * 64}))
    refused(folder, name, "not read by dupq")


def test_names_that_differ_in_case_alone_are_refused(folder: Path) -> None:
    reseal(folder, lambda content: content["files"].update({"Readme.md": "0" * 64}))
    refused(folder, "differ in case")


def test_a_newer_format_is_refused_politely(folder: Path) -> None:
    reseal(folder, lambda content: content.update(format=FORMAT + 1, networks="in a way not known yet"))
    refused(folder, f"of format {FORMAT + 1}", f"reads format {FORMAT}", "pip install --upgrade dupq")


def test_an_older_format_is_refused_with_a_hint(folder: Path) -> None:
    reseal(folder, lambda content: content.update(format=FORMAT - 1))
    refused(folder, f"of format {FORMAT - 1}", "export the networks again with this dupq")


@pytest.mark.parametrize("value", [None, "1", 1.0, True, 0, -1, [], {}])
def test_a_format_that_is_no_version_is_refused(folder: Path, value: Any) -> None:
    reseal(folder, lambda content: content.update(format=value))
    refused(folder, MANIFEST, "no format version")


@pytest.mark.parametrize("key", ["networks", "files"])
def test_a_missing_entry_is_told_and_is_no_key_error(folder: Path, key: str) -> None:
    reseal(folder, lambda content: content.pop(key))
    refused(folder, MANIFEST, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("networks", []),
        ("networks", {}),
        ("networks", {"other": {"form": "x", "fingerprint": "y"}}),
        ("networks", {"cross-encoder": "x"}),
        ("networks", {"cross-encoder": {"form": 1, "fingerprint": "y"}}),
        ("files", ["README.md"]),
        ("files", {"README.md": 1}),
        ("files", {"README.md": "short"}),
        ("blend", [1, 2]),
        ("blend", "abc"),
        ("blend", [1, 2, "3"]),
        ("base_rate", 0),
        ("base_rate", 1.5),
        ("base_rate", "0.3"),
        ("base_rate", True),
        ("cascade", "x"),
        ("calibrator", []),
        ("rule", "x"),
        ("facts", []),
        ("facts", {"card": "x"}),
    ],
)
def test_an_entry_of_a_wrong_kind_is_named(folder: Path, key: str, value: Any) -> None:
    reseal(folder, lambda content: content.update({key: value}))
    refused(folder, MANIFEST, key)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b'{"format": 1, "networks": NaN}',
        b"[" * 100_000,
        b'{"format": 1, "a": "\\ud800"}',
        b'{"format": 1, "a": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "list", "null", "no utf-8", "nan", "deep", "surrogate", "huge number"],
)
def test_a_damaged_manifest_is_told(folder: Path, text: bytes) -> None:
    (folder / MANIFEST).write_bytes(text)
    refused(folder, MANIFEST)


def test_deep_json_under_a_checksum_is_told(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"blend": null', '"blend": ' + "[" * 900 + "]" * 900))
    refused(folder, MANIFEST)


@settings(max_examples=40)
@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5),
    st.sampled_from([*CONTENT, "files", "format"]),
)
def test_whatever_a_manifest_says_only_our_errors_come_out(
    tmp_path_factory: pytest.TempPathFactory, value: Any, key: str
) -> None:
    folder = make_folder(tmp_path_factory.mktemp("m") / "pipeline")
    reseal(folder, lambda content: content.update({key: value}))
    assert MANIFEST in (complaint(folder) or MANIFEST)


def test_no_folder_and_no_manifest_are_told_apart(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "no such folder")
    refused(tmp_path, "no dupq.json")


def test_a_file_that_could_not_be_read_back_is_not_sealed(folder: Path) -> None:
    (folder / "cross-encoder/tokenizer.model").write_bytes(b"x")
    with pytest.raises(ModelFolderError, match=r"tokenizer\.model"):
        write_manifest(folder, CONTENT)


def test_an_older_folder_is_replaced_and_what_lay_beside_its_files_stays(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("ref")
    (folder / "LICENSE").write_text("free")
    with replacing_folder(folder) as beside:
        make_folder(beside, base_rate=0.25)
    assert (folder / ".git/HEAD").read_text() == "ref"
    assert (folder / "LICENSE").read_text() == "free"
    assert open_folder(folder)["base_rate"] == 0.25


@pytest.mark.parametrize(
    "name", ["labels.csv", "notes/todo.txt", "cross-encoder/notes.md", "cross-encoder/.env", "model.safetensors"]
)
def test_a_folder_with_a_file_that_a_save_would_remove_is_not_replaced(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    with pytest.raises(OutputError, match=f"got {name}") as caught, replacing_folder(folder) as beside:
        make_folder(beside, base_rate=0.25)
    assert "move the file" in str(caught.value)
    assert (folder / name).read_text() == "mine"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_with_a_link_to_data_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (folder / "data").symlink_to(tmp_path / "data")
    with pytest.raises(OutputError, match="got data"):
        require_place(folder)


def test_a_folder_of_an_older_format_and_one_with_hidden_files_are_replaced(folder: Path) -> None:
    reseal(folder, lambda content: content.update(format=FORMAT - 1))
    (folder / ".cache").mkdir()
    (folder / ".cache" / "download").write_text("")
    (folder / ".gitattributes").write_text("")
    (folder / "empty").mkdir()
    with replacing_folder(folder) as beside:
        make_folder(beside)
    open_folder(folder)
    assert (folder / ".cache" / "download").is_file()


def test_a_folder_with_an_unreadable_manifest_is_not_replaced(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")
    with pytest.raises(OutputError, match=r"got cross-encoder/config\.json and 4 more"):
        require_place(folder)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), ValueError("bad")])
def test_a_failed_save_leaves_the_older_folder_whole_and_nothing_beside_it(folder: Path, error: BaseException) -> None:
    def save() -> None:
        with replacing_folder(folder) as beside:
            (beside / "half.json").write_text("{")
            raise error

    with pytest.raises((OutputError, KeyboardInterrupt, ValueError)):
        save()
    open_folder(folder)
    assert list(folder.parent.iterdir()) == [folder]


def test_an_interruption_between_the_two_renames_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, calls = os.replace, []

    def interrupted(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    def save() -> None:
        with replacing_folder(folder) as beside:
            (beside / "new.json").write_text("{}")
            monkeypatch.setattr(os, "replace", interrupted)

    with pytest.raises(KeyboardInterrupt):
        save()
    monkeypatch.undo()
    open_folder(folder)
    assert list(folder.parent.iterdir()) == [folder]


def test_something_else_in_the_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="no pipeline folder"), replacing_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
