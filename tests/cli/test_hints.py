"""A hint is a thing that one can do: what it names exists, and where it is followed the command works."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from safetensors.numpy import load_file, save_file

import dupq
from dupq.cli.main import build_parser, main
from dupq.data.writing import write_rows
from dupq.decisions.thresholds import Policy
from dupq.engine.local import LocalEngine
from dupq.engine.ray import RayEngine
from dupq.errors import InputError
from dupq.hub.card_metadata import LISTS, METADATA, TEXTS
from dupq.index.question_index import QuestionIndex
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.mining.results import MiningResult
from dupq.pipeline import DuplicatePipeline
from dupq.service import schemas
from dupq.service.settings import ServiceSettings
from dupq.training.trainer import TrainSettings, train
from tests.cli.test_commands import model, pairs_file
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, THINGS, labelled_pairs, labelled_table

__all__ = ["model", "pairs_file"]

PACKAGE = Path(dupq.__file__).parent
ROOT = PACKAGE.parent


# ---- what is there to be named ---------------------------------------------------------------------------------


def commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """("train bi-encoder", its parser), for every command; "" for dupq itself."""
    yield " ".join(path), parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*path, name))


COMMANDS = dict(commands(build_parser()))
OPTIONS = {name: {text for one in parser._actions for text in one.option_strings} for name, parser in COMMANDS.items()}
EVERY_OPTION = set().union(*OPTIONS.values())


def parameters(*callables: Callable[..., Any]) -> set[str]:
    return {name for one in callables for name in inspect.signature(one).parameters}


def methods(kind: type) -> list[Callable[..., Any]]:
    return [one for name, one in inspect.getmembers(kind, callable) if not name.startswith("_")]


REQUEST_FIELDS = {
    name
    for schema in vars(schemas).values()
    if inspect.isclass(schema) and issubclass(schema, BaseModel)
    for name in schema.model_fields
} | {"skip_bad"}
"""Fields of the bodies and queries of the API."""


ARGUMENTS = {
    *parameters(*methods(DuplicatePipeline), *methods(QuestionIndex), QuestionIndex, DuplicatePipeline),
    *parameters(MiningSettings, TrainSettings, train, find_duplicates),
    *parameters(*methods(MiningResult), *methods(Policy), RayEngine, LocalEngine),
    *TEXTS,
    *METADATA,
    *LISTS,
    *ServiceSettings.model_fields,
    *REQUEST_FIELDS,
    "dupq_schema",  # of the URL of a database
    "export_categories",  # a command of Discourse
}
"""Names that a caller can give: to public functions and classes, in the file of `model card --about`, in a URL."""


# ---- what the code says ------------------------------------------------------------------------------------------


def spoken(node: ast.AST) -> str:
    """A string as far as it stands in the code; what is filled in is a NUL."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(spoken(part) for part in node.values)
    return "\0"


def texts() -> Iterator[tuple[str, str]]:
    """(file:line, text) of every string of the package that is no docstring, and so may be shown to somebody."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        silent |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in silent:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", spoken(node)


def hints() -> Iterator[tuple[str, str]]:
    """(file:line, text) of every `hint=` in the package, a name that is handed on resolved within its module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named: dict[str, list[ast.AST]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                target, value = node.targets[0], node.value
                several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
                pairs = zip(target.elts, value.elts, strict=True) if several else [(target, value)]
                for one, given in pairs:
                    if isinstance(one, ast.Name):
                        named.setdefault(one.id, []).append(given)
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                sources = named.get(node.value.id, []) if isinstance(node.value, ast.Name) else [node.value]
                for source in sources:
                    parts = [source.body, source.orelse] if isinstance(source, ast.IfExp) else [source]
                    for part in parts:
                        yield f"{path.relative_to(ROOT)}:{node.value.lineno}", spoken(part)


TEXTS_OF_THE_CODE, HINTS = list(texts()), list(hints())


def named_command(text: str) -> str:
    """The longest command that a text begins with, after "dupq "."""
    words = text.split()
    return max((name for name in COMMANDS if words[: len(name.split())] == name.split()), key=len)


def test_the_hints_are_found() -> None:
    assert len(HINTS) > 250
    assert sum("--" in text for _, text in HINTS) > 10


def test_every_option_that_is_named_exists() -> None:
    named = [
        (where, option) for where, text in TEXTS_OF_THE_CODE for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)
    ]
    assert len(named) > 100
    assert [(where, option) for where, option in named if option not in {*EVERY_OPTION, "--upgrade"}] == []


def test_every_command_that_is_named_exists_and_has_the_options_named_with_it() -> None:
    named = [(where, match) for where, text in TEXTS_OF_THE_CODE for match in re.findall(r"`dupq ([^`\0]+)", text)]
    named += [(where, text[5:]) for where, text in HINTS if text.startswith("dupq ")]
    assert len(named) > 10
    wrong = []
    for where, text in named:
        text = text.split("|")[0]  # `dupq train bi-encoder|cross-encoder`
        command = named_command(text)
        options = re.findall(r"--[a-z][a-z-]*", text)
        if not command or set(options) - OPTIONS[command]:
            wrong.append((where, text))
    assert wrong == []


def run_module(command: str) -> str:
    run = COMMANDS[command].get_default("run")
    return run.__module__ if run else ""


def test_a_hint_of_a_command_names_options_of_that_command() -> None:
    """Hints that stand in `cli/` are of the commands whose parsers are made in the same file."""
    for where, text in HINTS:
        family = re.fullmatch(r"dupq/cli/(\w+)\.py:\d+", where.replace("\\", "/"))
        shared = ("console", "engine_options", "index_options", "inputs", "outputs", "pipeline_options")
        if family is None or family[1] in shared:
            continue
        of_family = [name for name in COMMANDS if run_module(name) == f"dupq.cli.{family[1].removesuffix('_input')}"]
        own = {option for name in of_family for option in OPTIONS[name]}
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= own, where


def test_every_command_that_trains_can_restart() -> None:
    for command in ("train bi-encoder", "train cross-encoder", "fit"):
        assert "--restart" in OPTIONS[command]
    assert any("--restart" in text for where, text in HINTS if "training" in where and "checkpoints.py" in where)


NAMES = ("TrainSettings", "MiningSettings", "LocalEngine", "RayEngine", "GitHub")
"""Names in hints that `dupq` does not export."""


def test_every_python_name_in_a_hint_exists() -> None:
    wrong = []
    for where, text in HINTS:
        names = re.findall(r"\b([a-z]+(?:_[a-z]+)*)=(?![\d\"']?\d)", text)
        names += re.findall(r"(?<![\w./`-])([a-z]+(?:_[a-z]+)+)(?![\w(./])", text)
        names += re.findall(r"`([a-z_]+)`", text)
        wrong += [(where, name) for name in names if name not in ARGUMENTS]
        wrong += [
            (where, name) for name in re.findall(r"\bpipeline\.(\w+)", text) if not hasattr(DuplicatePipeline, name)
        ]
        for name in re.findall(r"\b([A-Z][a-z]+(?:[A-Z][a-z]+)+)\b", text):
            if not (hasattr(dupq, name) or name in NAMES):
                wrong.append((where, name))
    assert wrong == []


def test_what_a_hint_has_installed_exists() -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    extras = set(re.findall(r"^(\w+) = \[", declared.split("\n[")[0], re.MULTILINE))
    named = {name for _, text in TEXTS_OF_THE_CODE for name in re.findall(r"dupq\[(\w+)\]", text)}
    for path in PACKAGE.rglob("*.py"):
        named |= set(re.findall(r'require_extra\("(\w+)"', path.read_text(encoding="utf-8")))
    assert {"train", "export", "parquet", "completion"} <= named <= extras


def test_no_hint_sends_one_to_a_file_that_is_not_installed() -> None:
    shipped = "data_scripts/README.md"
    for where, text in HINTS:
        assert not re.search(r"\b[\w/]+\.(md|py)\b", text.replace(shipped, "")), where


# ---- help --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([*command.split(), "--help"])
    assert done.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: dupq {command}".rstrip())
    assert err == ""


REJECTED = re.compile(
    r"\b(told|anew|so many|its like|mend|promise[sd]?|the more|held against|makes? of|nobody|makes no sense|whether"
    r"|tells?|says?|said|asks?|asked|knows?|known|learned|judges?|speaks?)\b|^of\b"
)
"""Words that DESIGN.md rejects, and verbs of speech and thought, which are for people."""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_default_and_uses_plain_words(command: str) -> None:
    for action in COMMANDS[command]._actions:
        if isinstance(action, argparse._SubParsersAction):
            for line in action._choices_actions:
                assert line.help, line.dest
                assert len(line.help) <= 50, line.help
                assert not REJECTED.search(line.help.lower()), line.help
            continue
        name = f"{command} {action.option_strings or action.dest}"
        assert action.help, name
        assert not REJECTED.search(action.help.lower()), f"{name}: {action.help}"
        assert action.help[0].islower() or action.help.startswith(("CSV", "JSONL", "IDF", "TOML")), name
        assert not action.help.endswith("."), name
        takes_value = action.nargs != 0 and not isinstance(action, argparse._HelpAction)
        optional = not action.required and (action.option_strings or action.nargs in ("?", "*"))
        if takes_value and optional and action.dest != "print_completion":
            found = re.search(r"\(default: (.+)\)$", action.help)
            assert found, f"{name}: {action.help}"
            if action.default not in (None, []):
                assert str(action.default).removesuffix(".0") in found[1].replace(",", ""), name


def test_min_and_max_are_prefixes() -> None:
    for option in EVERY_OPTION:
        assert not re.match(r"--(least|most|fewest|lowest|highest)-", option)
        assert "_" not in option


def test_the_help_lists_every_command_below_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    sections = re.split(r"^([A-Z][a-z]+(?: \w+)*):$", out, flags=re.MULTILINE)[1:]
    listed = {
        heading: {line[2:26].strip() for line in text.splitlines() if re.match(r"  \w", line)}
        for heading, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert list(listed) == ["Everyday", "Service", "Making a model", "Data", "Model folders", "Options"]
    leaves = {name for name, parser in COMMANDS.items() if parser.get_default("run")} - {"train"}
    assert set().union(*(names for heading, names in listed.items() if heading != "Options")) == leaves
    assert {"score", "explain", "mine", "flag", "index add"} <= listed["Everyday"]
    assert {"serve", "token create", "webhook test"} <= listed["Service"]
    assert {"fit", "train bi-encoder", "distill soft-labels", "evaluate", "drift"} <= listed["Making a model"]
    assert listed["Data"] == {"data split", "data check", "data from-stackexchange"}
    assert {"model export", "model to-torch", "model push"} <= listed["Model folders"]
    assert max(map(len, out.splitlines())) <= 80


def test_dupq_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: dupq")
    assert err == ""


# ---- hints, followed ---------------------------------------------------------------------------------------------

QUESTIONS = [phrase.format(thing=thing) for thing in THINGS[:4] for asked in INTENTS for phrase in asked]


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory,
    pairs_file: Path,
    model: Path,
    tiny_bi_encoder: Path,
    tiny_cross_encoder: Path,
) -> dict[str, str]:
    """What the situations below are made of, by the names that they use."""
    folder = tmp_path_factory.mktemp("hints")
    rows = [{"id": number, "text": text} for number, text in enumerate(QUESTIONS)]
    write_rows(folder / "questions.csv", rows, ["id", "text"])
    write_rows(
        folder / "odd.csv", [{"nr": row["id"], "subject of it": row["text"]} for row in rows], ["nr", "subject of it"]
    )
    dated = [{**row, "created": f"2020-01-{number % 28 + 1:02}"} for number, row in enumerate(rows)]
    write_rows(folder / "dated.csv", [{**row, "when": row["created"]} for row in dated], ["id", "text", "when"])
    pairs = labelled_pairs()
    strange = [{"this": pair.question1, "that": pair.question2, "same": pair.label} for pair in pairs]
    write_rows(folder / "strange.csv", strange, ["this", "that", "same"])
    plain = [{"question1": pair.question1, "question2": pair.question2} for pair in pairs]
    write_rows(folder / "unlabelled.csv", plain, ["question1", "question2"])
    unseen = [
        {
            "question1": one.format(thing=thing),
            "question2": two.format(thing=other),
            "label": int(thing == other),
            "natural": 1,
        }
        for thing in ("bog snorkelling", "cheese rolling", "toe wrestling", "worm charming", "wife carrying")
        for other in (thing, "extreme ironing")
        for one, two, _ in INTENTS
    ]
    write_rows(folder / "unseen.csv", unseen, list(unseen[0]))
    (folder / "few.csv").write_text("question1,question2\nIs go hard?,Is go easy?\n", "utf-8")
    (folder / "about.json").write_text(json.dumps({"title": "Ours"}))
    (folder / "odd_about.json").write_text(json.dumps({"titel": "Ours"}))
    (folder / "other.json").write_text(json.dumps({"license": "other"}))
    (folder / "named.json").write_text(json.dumps({"license": "other", "license_name": "our-terms"}))
    (folder / "apache.json").write_text(json.dumps({"license": "Apache 2.0"}))
    (folder / "right.json").write_text(json.dumps({"license": "apache-2.0"}))
    (folder / "taken").mkdir()
    (folder / "taken" / "diary.txt").write_text("mine")
    made = {path.name.split(".")[0] if path.suffix else path.name: str(path) for path in folder.iterdir()}
    return {
        **made,
        "pairs": str(pairs_file),
        "model": str(model),
        "bi": str(tiny_bi_encoder),
        "cross": str(tiny_cross_encoder),
    }


TINY = "--epochs 1 --max-steps 1 --batch-size 4 --max-length 16 --precision float32"
SITUATIONS = [
    # (what was done before, what goes wrong, the hint, what it says to do)
    ("", "score --model {model} one", "quote each", "score --model {model} one 'two words'"),
    ("", "score a b --pairs {pairs}", "give one of them", "score --model {model} a b"),
    ("", "score --model {model} --pairs {pairs}", "-o OUT", "score --model {model} --pairs {pairs} -o OUT.csv"),
    ("", "score --model {model} --pairs {pairs}", "-o - for", "score --model {model} --pairs {pairs} -o -"),
    (
        "",
        "score --model {model} --pairs {pairs} -o o.doc",
        "use one of",
        "score --model {model} --pairs {pairs} -o o.jsonl",
    ),
    (
        "",
        "score --model {model} --pairs {strange} -o o.csv",
        "--columns NAME1 NAME2",
        "score --model {model} --pairs {strange} -o o.csv --columns this that",
    ),
    ("", "score --model {model} --device tpu a b", "cpu or cuda", "score --model {model} --device cpu a b"),
    ("", "score --model {model} --threads 0 a b", "1 or more", "score --model {model} --threads 1 a b"),
    ("", "score --model {model} --base-rate 2 a b", "such as 0", "score --model {model} --base-rate 0.5 a b"),
    ("", "score --model {model} --policy best a b", "f1,", "score --model {model} --policy f1 a b"),
    ("", "score --model {model} --policy best a b", "accuracy,", "score --model {model} --policy accuracy a b"),
    ("", "score --model {model} --policy best a b", "cost=5:1", "score --model {model} --policy cost=5:1 a b"),
    ("", "score --model {model} --policy best a b", "recall>=0.9", "score --model {model} --policy 'recall>=0.1' a b"),
    (
        "",
        "score --model {model} --policy cost=0:1 a b",
        "such as 5 and 1",
        "score --model {model} --policy cost=5:1 a b",
    ),
    ("", "score --model {model} '' b", "give a question", "score --model {model} a b"),
    ("", "score --model missing a b", "check the path", "score --model {model} a b"),
    ("", "model inspect ./missing", "check the path", "model inspect {model}"),
    ("", "data check {strange} {pairs}", "--columns", "data check {pairs} {pairs}"),
    (
        "",
        "data split {unlabelled} -o parts",
        "--label-column",
        "data split {strange} -o parts --columns this that --label-column same",
    ),
    (
        "",
        "data split {pairs} -o parts --fractions 1 1 1 1",
        "0.7 0.1 0.1 0.1",
        "data split {pairs} -o parts --fractions 0.7 0.1 0.1 0.1",
    ),
    ("", "evaluate {model} {pairs} --where natural", "natural=1", "evaluate {model} {unseen} --where natural=1"),
    ("", "calibrate {pairs} -o new", "--cross-encoder", "calibrate {pairs} -o new --cross-encoder {cross}"),
    (
        "",
        "calibrate {pairs} -o new --bi-encoder {bi} --cross-encoder {cross}",
        "--no-blend",
        "calibrate {pairs} -o new --bi-encoder {bi} --cross-encoder {cross} --no-blend",
    ),
    (
        "",
        "calibrate {pairs} -o new --bi-encoder {bi} --cross-encoder {cross}",
        "--validation FILE",
        "calibrate {pairs} -o new --bi-encoder {bi} --cross-encoder {cross} --validation {pairs}",
    ),
    (
        "",
        "calibrate {pairs} -o new --model {model} --long-texts lead",
        "--reblend",
        "calibrate {pairs} -o new --model {both} --long-texts lead --reblend --validation {pairs}",
    ),
    (
        "",
        "calibrate {pairs} -o new --model {model} --add {pairs}",
        "--add VERDICTS",
        "calibrate -o new --model {model} --add {pairs}",
    ),
    ("", "calibrate -o new --model {model}", "labelled file", "calibrate {pairs} -o new --model {model}"),
    ("", "calibrate {pairs} -o {taken} --model {model}", "another folder", "calibrate {pairs} -o new --model {model}"),
    ("", "drift {model} {few}", "or more", "drift {model} {unlabelled}"),
    ("", "model card {copy} --elsewhere Ours", "Ask Ubuntu=askubuntu.json", "model card {copy}"),
    ("", "model card {copy} --about {odd_about}", "title", "model card {copy} --about {about}"),
    ("", "model card {copy} --about {other}", "license_name", "model card {copy} --about {named}"),
    ("", "model card {copy} --about {apache}", "apache-2.0", "model card {copy} --about {right}"),
    (
        "",
        "mine {odd} --model {model} -o o.csv",
        "--text-column",
        "mine {odd} --model {model} -o o.csv --text-column 'subject of it'",
    ),
    ("", "mine {questions} --model {model} -o o.doc", "use one of", "mine {questions} --model {model} -o o.csv"),
    (
        "",
        "mine {dated} --model {model} -o o.csv --representative oldest",
        "--created-column",
        "mine {dated} --model {model} -o o.csv --representative oldest --created-column when",
    ),
    (
        "",
        "mine {questions} --model {model} -o o.csv --min-cosine 2",
        "0.8",
        "mine {questions} --model {model} -o o.csv --min-cosine 0.8",
    ),
    (
        "",
        "mine {questions} --model {model} -o o.csv --max-judged 5",
        "100",
        "mine {questions} --model {model} -o o.csv --max-judged 100",
    ),
    (
        "",
        "mine {questions} --model {model} -o o.csv --max-judged 5",
        "leave it out",
        "mine {questions} --model {model} -o o.csv",
    ),
    ("", "flag my.db 'How do I learn chess?'", "dupq index add", "index add my.db {questions} --model {model}"),
    (
        "index add my.db {questions} --model {model}",
        "flag my.db --model {model}",
        "give one",
        "flag my.db --model {model} 'Is chess fun?'",
    ),
    (
        "index add my.db {questions} --model {model}",
        "flag my.db --model {model} --questions {questions}",
        "-o OUT",
        "flag my.db --model {model} --questions {questions} -o o.csv",
    ),
    (
        "index add my.db {questions} --model {model}",
        "flag my.db --model {model} -k 0 'Is chess fun?'",
        "give one such as 1",
        "flag my.db --model {model} -k 1 'Is chess fun?'",
    ),
    (
        "index add my.db {questions} --model {model}",
        "flag my.db --model {second} 'Is chess fun?'",
        "index reembed DB --model DIR`",
        "index reembed my.db --model {second}",
    ),
    (
        f"train bi-encoder {{pairs}} -o net --base {{bi}} {TINY}",
        f"train bi-encoder {{pairs}} -o net --base {{bi}} {TINY} --seed 1",
        "--restart",
        f"train bi-encoder {{pairs}} -o net --base {{bi}} {TINY} --seed 1 --restart",
    ),
    (
        f"train bi-encoder {{pairs}} -o net --base {{bi}} {TINY}",
        f"train bi-encoder {{pairs}} -o net --base {{bi}} {TINY} --seed 1",
        "another folder",
        f"train bi-encoder {{pairs}} -o net2 --base {{bi}} {TINY} --seed 1",
    ),
    ("", "model average bi-encoder {bi} -o mean", "name another folder", "model average bi-encoder {bi} {bi} -o mean"),
    (
        "",
        "model reduce {bi} {pairs} -o {taken} --dimensions 4",
        "another folder",
        "model reduce {bi} {pairs} -o small --dimensions 4",
    ),
    ("", "distill soft-labels {pairs} -o o.csv", "--encoder", "distill soft-labels {pairs} -o o.csv --encoder {bi}"),
    ("", "distill soft-labels {pairs} -o o.csv", "--teacher", "distill soft-labels {pairs} -o o.csv --teacher {cross}"),
    (
        "",
        "distill soft-labels {strange} -o o.csv --teacher {cross}",
        "--columns",
        "distill soft-labels {strange} -o o.csv --teacher {cross} --columns this that --label-column same",
    ),
]


@pytest.fixture(scope="module")
def second(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two pipelines more: one of both networks, and one whose bi-encoder is another."""
    folder = tmp_path_factory.mktemp("second")
    network = Path(shutil.copytree(files["bi"], folder / "network"))
    (weights,) = network.rglob("model.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    assert main(["calibrate", files["pairs"], "-o", str(folder / "second"), "--bi-encoder", str(network)]) == 0
    named = ["--bi-encoder", files["bi"], "--cross-encoder", files["cross"], "--no-blend"]
    assert main(["calibrate", files["pairs"], "-o", str(folder / "both"), *named]) == 0
    return {**files, "second": str(folder / "second"), "both": str(folder / "both")}


@pytest.mark.parametrize(
    ("before", "wrong", "hint", "right"), SITUATIONS, ids=[f"{one[1]} -> {one[2]}" for one in SITUATIONS]
)
def test_a_hint_that_is_followed_works(
    before: str,
    wrong: str,
    hint: str,
    right: str,
    second: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "{copy}" in f"{before} {wrong} {right}":
        shutil.copytree(second["model"], tmp_path / "copy")
    names = {**second, "copy": str(tmp_path / "copy")}

    def run(line: str) -> int:
        return main([word.format(**names) for word in shlex.split(line)])

    if before:
        assert run(before) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert run(wrong) == 2
    problem, printed = capsys.readouterr().err.split("\n  -> ")
    assert problem.splitlines()[-1].startswith("dupq: ")
    assert hint in printed
    assert run(right) in (0, 1 if right.startswith(("data check", "drift")) else 0), capsys.readouterr().err


def test_dates_are_given_where_the_hint_says_so() -> None:
    pipeline = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
    asked = ["How do I learn chess?", "How do I learn chess", "Is sailing fun?"]
    with pytest.raises(InputError, match="`created`"):
        find_duplicates(pipeline, asked).groups(representative="oldest")
    found = find_duplicates(pipeline, asked, created=["2020-05-01", "2020-04-01", None])
    assert [group.representative for group in found.groups(representative="oldest")] == [1]
    assert len(find_duplicates(pipeline, asked).groups(representative="central")) == 1
