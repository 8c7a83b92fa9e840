"""The pages for people: their commands parse, their Python runs, their words and links hold, and nothing is stale."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import re
import shlex
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import dupq
from dupq.cli.main import build_parser, main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *(path for path in DOCS.rglob("*.md") if not {"_generated", "_build"} & set(path.parts)),
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *(ROOT / name / "README.md" for name in ("model_cards", "data_scripts", "data_scripts/worlds")),
    ]
)
STYLE = DOCS / "style.md"

CHECKED_MODULES: tuple[str, ...] = ("",)
"""Folders and files of `dupq/` whose docstrings, messages and comments are checked for rejected words; "" is all."""

FENCE = re.compile(r"^```(\w+)?( run)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(language: str) -> Iterator[tuple[Path, str, bool]]:
    """Yield page, text and whether it is to be run, of each fenced block in a language."""
    for page in PAGES:
        for found, run, text in FENCE.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield page, text, bool(run)


def command_lines() -> Iterator[tuple[Path, str]]:
    """Yield each `dupq ...` of the bash blocks, also behind a pipe or `&&`, without its comment."""
    for page, text, _ in blocks("bash"):
        for line in text.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s(?:\||&&)\s", line):
                words = shlex.split(part, comments=True)
                if words and words[0].rpartition("/")[2] == "dupq":
                    yield page, shlex.join(words[1:])


COMMANDS = sorted({(named(page), line) for page, line in command_lines()})
PYTHON = [(named(page), number, text, run) for number, (page, text, run) in enumerate(blocks("python"))]


# ---- commands and code ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_of_the_pages_parses(page: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        build_parser().parse_args(shlex.split(line))
    except SystemExit:
        pytest.fail(f"{page}: dupq {line}\n{capsys.readouterr().err}")


def test_the_pages_use_most_commands() -> None:
    used = {" ".join(line.split()[:words]) for _, line in COMMANDS for words in (1, 2, 3)}
    there = {name for name, _ in generator().commands(build_parser())}
    assert sorted(there - used) == []
    assert len(COMMANDS) > 60


@pytest.fixture(scope="module")
def shipped() -> dupq.DuplicatePipeline:
    return dupq.DuplicatePipeline.from_pretrained()


@pytest.fixture
def opened_once(shipped: dupq.DuplicatePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open the shipped model once for all blocks and commands; a named one is opened as it is."""
    opened = dupq.DuplicatePipeline.from_pretrained

    def from_pretrained(name: object = None, **options: object) -> dupq.DuplicatePipeline:
        return shipped if name is None else opened(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dupq.DuplicatePipeline, "from_pretrained", from_pretrained)


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(("page", "number", "text", "run"), PYTHON, ids=[f"{page}-{n}" for page, n, _, _ in PYTHON])
def test_the_python_of_the_pages(
    page: str, number: int, text: str, run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = compile(text, f"{page}, block {number}", "exec")
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    for node in imported:
        if node.module == "dupq":
            assert {alias.name for alias in node.names} <= set(dupq.__all__)
    if run:
        monkeypatch.chdir(tmp_path)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, {"__name__": "page"})


@pytest.mark.usefixtures("opened_once")
def test_everyday_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator's tutorial from the first to the last command, on a small forum with answers that agree."""
    monkeypatch.chdir(tmp_path)
    pairs = [(f"How do I clean a {name} lamp?", f"How is a {name} lamp cleaned?", 1) for name in "abcdefghijkl"]
    pairs += [(f"How do I clean a {name} lamp?", f"Where is the {name} lamp from?", 0) for name in "mnopqrstuvwx"]
    lines = [f"{left},{right},{label},2\n" for left, right, label in pairs]
    (tmp_path / "judged.csv").write_text("question1,question2,label,weight\n" + "".join(lines), encoding="utf-8")
    texts = ["How old are you?", "What is your age?", "Why is the sky blue?", "how old are you", "Why is grass green?"]
    rows = "".join(f'{number},"{text}"\n' for number, text in enumerate(texts, 1))
    for name in ("questions.csv", "new_questions.csv"):
        (tmp_path / name).write_text(f"id,question\n{rows}", encoding="utf-8")
    page = "docs/tutorials/operator.md"
    lines = [line for found, line in ((named(p), line) for p, line in command_lines()) if found == page]
    for line in lines:
        assert main(shlex.split(line)) == 0, f"{line}\n{capsys.readouterr().err}"
    adapted = dupq.DuplicatePipeline.from_pretrained(tmp_path / "adapted").candidate_calibration
    assert adapted is not None
    assert adapted.pairs == len(pairs)
    assert (tmp_path / "pairs.csv").is_file()
    assert (tmp_path / "all_pairs.csv").is_file()
    assert (tmp_path / "groups.csv").is_file()


# ---- words and links ------------------------------------------------------------------------------------------------


def rejected() -> list[str]:
    section = STYLE.read_text(encoding="utf-8").split("## Rejected words")[1].split("## Examples")[0]
    return FENCE.findall(section)[0][2].split("\n")[:-1]


def rejected_words_of(text: str) -> list[str]:
    found = [word for word in rejected() if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text, re.IGNORECASE)]
    return found + re.findall(r"\bthe more\b[^.]*\bthe (?:more|less|farther)\b", text, re.IGNORECASE)


def prose(text: str) -> str:
    """Return a page's text on one line, without code."""
    return re.sub(r"\s+", " ", re.sub(r"`[^`]*`", "", FENCE.sub("", text)))


@pytest.mark.parametrize("page", [page for page in PAGES if page != STYLE], ids=named)
def test_a_page_has_no_rejected_words(page: Path) -> None:
    text = prose(page.read_text(encoding="utf-8"))
    assert rejected_words_of(text) == []
    assert re.findall(r"(?:^|[.:!?] |\| )(?:Whether|Of (?!interest))\b[^.]{0,40}", text) == []


def sources() -> list[Path]:
    package = ROOT / "dupq"
    return sorted(p for p in package.rglob("*.py") if p.relative_to(package).as_posix().startswith(CHECKED_MODULES))


def strings_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring, each message with a space, and each comment."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, re.sub(r"\s+", " ", re.sub(r"`[^`]*`", "", node.value))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], re.sub(r"`[^`]*`", "", token.string)


def test_the_modules_have_no_rejected_words() -> None:
    found = [
        f"{named(path)}:{line}: {', '.join(words)}"
        for path in sources()
        for line, text in strings_of(path)
        if (words := rejected_words_of(text))
    ]
    assert found == []


def summaries() -> Iterator[tuple[str, str]]:
    """Yield the place and the first line of each docstring."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield f"{named(path)}:{getattr(node, 'lineno', 1)}", text.splitlines()[0]


def test_a_docstring_begins_with_a_short_sentence() -> None:
    lines = list(summaries())
    assert len(lines) > 2000
    opening = re.compile(r"(What|Which|How|Whether|Of)\b")
    assert [f"{place}: {line}" for place, line in lines if len(line) > 80] == []
    assert [f"{place}: {line}" for place, line in lines if not line.endswith(".") or opening.match(line)] == []


def test_the_check_of_words_finds_them() -> None:
    assert rejected_words_of("It is told ANEW.") == ["told", "anew"]
    assert rejected_words_of("the more pairs, the farther apart") == ["the more pairs, the farther"]
    assert rejected_words_of("amend a compromise") == []
    assert prose("a `mend` b\n```text\ntold\n```\nc").split() == ["a", "b", "c"]


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists() or "_generated" in found.parts, target
        assert not anchor or anchor in anchors(found), target


HISTORY = ("docs/experiments.md", "CHANGELOG.md")
"""Pages that name files and modules of earlier commits."""


@pytest.mark.parametrize("page", [page for page in PAGES if named(page) not in HISTORY], ids=named)
def test_the_files_and_modules_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "benchmarks|data_scripts|docs|dupq|tests|model_cards"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*)`(?! in [0-9a-f]{{7}})", text):
        assert (ROOT / name).exists(), name
    for module in re.findall(r"python -m\s+((?:benchmarks|dupq)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), module
    for module in re.findall(r"`(dupq\.(?!json`)[a-z][a-z_.]+)`", text):
        path = ROOT / module.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), module


def test_every_page_stands_in_the_contents() -> None:
    listed = set(re.findall(r"^([\w/-]+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE))
    there = {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if DOCS in page.parents}
    assert {name for name in there - listed if not name.startswith("decisions/0")} == {"index"}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


# ---- what is generated ----------------------------------------------------------------------------------------------


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_hold_every_command_module_and_name(tmp_path: Path) -> None:
    generate = generator()
    generate.write_all(tmp_path / "pages")
    text = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "pages").iterdir()}
    for name, _ in generate.commands(build_parser()):
        assert f"## `dupq {name}`\n" in text["commands.md"]
    for name in set(dupq.__all__) - {"__version__"}:
        assert f":: dupq.{name}\n" in text["names.md"]
    document, permissions = generate.http_routes()
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert f"### `{method.upper()} {path}`\n" in text["http.md"]
            assert ("security" in route) == ((method, path) in permissions), (method, path)
    folders = {path.name for path in Path(dupq.__file__).parent.iterdir() if (path / "__init__.py").is_file()}
    assert folders - {"cli"} <= set(generate.FOLDERS)
    for folder in generate.FOLDERS:
        assert f"automodule:: dupq.{folder}." in text[f"{folder}.md"]
        assert f"../_generated/{folder}\n" in (DOCS / "reference" / "modules.md").read_text(encoding="utf-8")
    for picture in re.findall(r"_generated/(\w+\.svg)", "".join(page.read_text(encoding="utf-8") for page in PAGES)):
        assert text[picture].startswith("<svg")


def test_the_folder_format_of_the_page_is_that_of_the_code() -> None:
    from dupq.hub.manifest import FORMAT

    text = (DOCS / "reference" / "folder-format.md").read_text(encoding="utf-8")
    assert f"# The pipeline folder, format {FORMAT}\n" in text
    assert f"| `format` | {FORMAT}. " in text


def test_every_error_stands_in_the_reference() -> None:
    assert ".. automodule:: dupq.errors\n   :members:" in (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
