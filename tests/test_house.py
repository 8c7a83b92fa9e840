"""The package as a whole: layers, names, public API, import time, and what is refused in the code."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dupq

PACKAGE = Path(dupq.__file__).parent
ROOT = Path(__file__).parent.parent
MODULES = sorted(PACKAGE.rglob("*.py"))

PUBLIC = {
    "Decision",
    "DuplicateGroup",
    "DuplicatePipeline",
    "DupqError",
    "MiningResult",
    "MiningSettings",
    "PairScore",
    "Policy",
    "QuestionIndex",
    "QuestionPair",
    "TextWarning",
    "TrainSettings",
    "__version__",
    "find_duplicates",
    "leak_report",
    "load_judged",
    "load_pairs",
    "read_pairs",
    "split_file",
    "train",
}

GUESSES = (
    ("dupq.evaluation.metrics", "expected_calibration_error"),
    ("dupq.models.symmetry", "symmetric_scores"),
    ("dupq.models.long_text", "embed_long_texts"),
    ("dupq.mining.checkpoint", "Checkpoint"),
    ("dupq.decisions.thresholds", "Threshold"),
    ("dupq.training.callbacks", "CollapseWarning"),
    ("dupq.evaluation.report", "evaluate"),
    ("dupq.data.text", "duplicate_key"),
    ("dupq.hub.push", "push"),
    ("dupq.index.stores.sqlite", "SCHEMA"),
    ("dupq.models.onnx.export", "export"),
    ("dupq.calibration.calibrators", "fit_calibrator"),
)
"""Where a newcomer looks for a thing first: module and symbol."""

HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "datasets",
    "sklearn",
    "scipy",
    "pandas",
    "pyarrow",
    "onnx",
    "ray",
    "fsspec",
)
"""What takes a second to import, and may be imported on use only."""

EXTRAS = ("train", "export", "parquet", "completion", "large", "postgres", "serve", "ray")
"""Optional requirements of what the package imports."""

NEEDED_UNSEEN = {
    "accelerate": "the stock trainers do not start without it",
    "python_multipart": "FastAPI reads forms with it",
    "tomli": "pydantic-settings reads TOML with it on Python 3.10",
}
"""Requirements that no module imports."""


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def named(path: Path) -> str:
    """A module's dotted name, such as `dupq.data.text`."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below this one but those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", None) == "TYPE_CHECKING":
            continue
        yield child
        yield from running(child)


def imports(path: Path) -> set[str]:
    """The modules that a module imports when it runs, at its top or within a function."""
    found: set[str] = set()
    for node in running(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- layers -------------------------------------------------------------------------------------------------------


def test_a_module_imports_only_from_the_layers_above_its_own() -> None:
    """By import-linter, of the extra `dev`; its contracts are in pyproject.toml."""
    pytest.importorskip("importlinter")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_layers_are_those_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text[text.index("[tool.importlinter]") :]
    assert "exclude_type_checking_imports = false" in section
    assert "exhaustive = true" in section
    assert "ignore_imports" not in section


@pytest.mark.parametrize(("module", "symbol"), GUESSES)
def test_the_first_guess_of_a_newcomer_is_right(module: str, symbol: str) -> None:
    found = getattr(importlib.import_module(module), symbol)
    assert getattr(found, "__module__", module) == module


def test_decisions_never_load_a_network_library() -> None:
    modules = [named(path) for path in MODULES if named(path).startswith("dupq.decisions")]
    loaded = run(f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nprint(*sys.modules)")
    assert "dupq.decisions" in loaded.split()
    assert not {"torch", "transformers", "sentence_transformers", "datasets"} & set(loaded.split())


# ---- public names -------------------------------------------------------------------------------------------------


def test_the_public_names() -> None:
    assert set(dupq.__all__) == PUBLIC
    assert len(PUBLIC) <= 20
    assert len(dupq.__all__) == len(PUBLIC)
    assert set(dir(dupq)) >= PUBLIC
    for name in PUBLIC:
        value = getattr(dupq, name)
        assert value is getattr(dupq, name)
        assert name == "__version__" or value.__name__ == name
        assert name == "__version__" or value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dupq.nothing  # noqa: B018
    # What a type checker sees is what there is.
    sources = [node for node in ast.walk(tree(PACKAGE / "__init__.py")) if isinstance(node, ast.ImportFrom)]
    typed = {alias.name for node in sources for alias in node.names if (node.module or "").startswith("dupq.")}
    assert typed == PUBLIC


def test_every_public_name_comes_without_torch() -> None:
    for name in sorted(PUBLIC):
        loaded = run(f"import sys\nfrom dupq import {name}\nprint(*sys.modules)").split()
        assert not {"torch", "transformers", "sentence_transformers", "datasets"} & set(loaded), name


def test_import_is_light_and_quick() -> None:
    code = (
        "import sys, time\nstart = time.process_time()\nimport dupq\nfrom dupq import DupqError, PairScore\n"
        "import json\nprint(json.dumps([time.process_time() - start, sorted(sys.modules)]))"
    )
    seconds, loaded = json.loads(run(code))
    assert not {*HEAVY, "numpy"} & set(loaded)
    assert seconds < 0.3


def test_the_command_line_opens_without_heavy_libraries() -> None:
    loaded = run("import sys\nfrom dupq.cli.main import build_parser\nbuild_parser()\nprint(*sys.modules)").split()
    assert not {*HEAVY} & set(loaded)


# ---- what has no place --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_is_clean(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert path.name not in ("utils.py", "helpers.py", "misc.py", "common.py")
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    lines = text.splitlines()
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: assert"
        called = getattr(node.func, "id", None) if isinstance(node, ast.Call) else None
        assert called not in ("eval", "exec", "compile"), f"line {node.lineno}: {called}"
        assert called != "print" or path.parent.name == "cli", f"line {node.lineno}: print"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
            caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
            last = node.body[-1]
            tidies_up = isinstance(last, ast.Raise) and last.exc is None
            # An error that belongs to somebody else, such as the request of a job, is passed on to them.
            reasoned = re.search(r":  # (noqa: BLE001 - )?\w+", lines[node.lineno - 1])
            broad = caught & {"Exception", "BaseException"}
            assert tidies_up or reasoned or not broad, f"line {node.lineno}: broad except"
    used = {module.split(".")[0] for module in imports(path)}
    assert not used & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


# ---- what is declared ---------------------------------------------------------------------------------------------


def declared(key: str) -> set[str]:
    """The packages in a list of `pyproject.toml`, as they are imported."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(rf"^{key} = \[(.*?)\]$", text.replace('"dupq[', '"dupq-['), re.MULTILINE | re.DOTALL)
    assert found is not None, key
    names = re.findall(r'"([\w-]+)', found.group(1))
    return {name.lower().replace("-", "_") for name in names} - {"dupq_"}


def test_what_is_imported_is_required_and_what_is_required_is_imported() -> None:
    modules = {module.split(".")[0] for path in MODULES for module in imports(path)} - {
        "dupq",
        *sys.stdlib_module_names,
    }
    imported = {{"sklearn": "scikit_learn"}.get(module, module) for module in modules}
    core, extras = declared("dependencies"), {name for key in EXTRAS for name in declared(key)}
    assert core <= imported
    assert imported - core == imported & extras
    assert extras - imported == {*NEEDED_UNSEEN}


def test_every_requirement_is_pinned_for_the_tests() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z0-9-]+==[\w.]+(; python_version (>=|<) "3\.11")?', pin) for pin in pins)
    pinned = {pin.split("==")[0].replace("-", "_") for pin in pins}
    for key in ("dependencies", *EXTRAS, "test", "test-postgres", "test-browser", "test-ray", "dev", "docs"):
        assert declared(key) <= pinned


def test_the_version_is_one() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{dupq.__version__}"\n' in text
    assert f"\n## [{dupq.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_ci_runs_the_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for marker in ("first command", "test command"):
        found = re.findall(rf"<!-- {marker} -->\n```bash\n(.+)\n```\n", readme)
        assert len(found) == 1, marker
        assert "-c constraints.txt" in found[0]
        assert f'readme_command "{marker}"' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
