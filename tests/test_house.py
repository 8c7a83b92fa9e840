"""The house itself: who may import whom, what is public, what is light, and what has no place in the code."""

from __future__ import annotations

import ast
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

LAYERS = (
    "errors",
    "records",
    "data",
    "decisions",
    "models",
    "training",
    "sharing",
    "scoring",
    "fitting",
    "pipeline",
    "forum",
    "cli",
)
"""Each imports only from those before it."""

PUBLIC = {
    "Decision",
    "DuplicateGroup",
    "DuplicatePipeline",
    "DupqError",
    "PairScore",
    "QuestionIndex",
    "QuestionPair",
    "TrainSettings",
    "__version__",
    "leak_report",
    "load_pairs",
    "read_pairs",
    "split_file",
    "train",
}

HEAVY = ("torch", "transformers", "sentence_transformers", "datasets", "sklearn", "scipy", "pandas", "pyarrow", "onnx")
"""What takes a second to import, and may be imported on use only."""

NEEDED_UNSEEN = {"accelerate": "the stock trainers do not start without it"}
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


def layer(module: str) -> str | None:
    """`dupq.data.text` -> `data`; None for the package itself and for what is not ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dupq" and len(parts) > 1 and parts[1] in LAYERS else None


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- layers -------------------------------------------------------------------------------------------------------


def test_every_module_lies_in_a_layer() -> None:
    assert len(MODULES) > 20
    assert {layer(named(path)) for path in MODULES if path != PACKAGE / "__init__.py"} <= {*LAYERS}


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_imports_only_from_the_layers_before_its_own(path: Path) -> None:
    own = layer(named(path))
    if own is None:
        return
    for module in imports(path):
        other = layer(module)
        if (own, other) == ("pipeline", "forum"):
            # `pipeline.find_duplicates` hands itself to the mining above it, and to nothing else there.
            assert module.startswith("dupq.forum.mining"), f"{named(path)} imports {module}"
        elif other is not None and other != own:
            assert LAYERS.index(other) < LAYERS.index(own), f"{named(path)} imports {module}"
            assert other != "training" or own == "cli", f"{named(path)} imports {module}: only cli/ may train"


def test_the_tests_of_imports_see_what_they_should(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    if f:\n        from dupq.cli import main\n"
    )
    assert imports(tmp_path / "module.py") == {"typing", "typing.TYPE_CHECKING", "dupq.cli", "dupq.cli.main"}
    assert layer("dupq.cli.main") == "cli"
    assert layer("dupq") is None


def test_decisions_never_load_a_network_library() -> None:
    modules = [named(path) for path in MODULES if layer(named(path)) == "decisions"]
    loaded = run(f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nprint(*sys.modules)")
    assert "dupq.decisions" in loaded.split()
    assert not {"torch", "transformers", "sentence_transformers", "datasets"} & set(loaded.split())


# ---- public names -------------------------------------------------------------------------------------------------


def test_the_public_names() -> None:
    assert set(dupq.__all__) == PUBLIC
    assert len(PUBLIC) <= 15
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
    assert typed == PUBLIC - {"__version__"}


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
def test_a_module_is_short_and_clean(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, "too long"
    assert path.name not in ("utils.py", "helpers.py", "misc.py", "common.py")
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: assert"
        called = getattr(node.func, "id", None) if isinstance(node, ast.Call) else None
        assert called not in ("eval", "exec", "compile"), f"line {node.lineno}: {called}"
        assert called != "print" or layer(named(path)) == "cli", f"line {node.lineno}: print"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
            caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
            last = node.body[-1]
            tidies_up = isinstance(last, ast.Raise) and last.exc is None
            assert tidies_up or not caught & {"Exception", "BaseException"}, f"line {node.lineno}: broad except"
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
    required = declared("dependencies")
    assert imported - required == imported & {*declared("export"), *declared("large")}
    assert required - imported == {*NEEDED_UNSEEN}


def test_every_requirement_is_pinned_for_the_tests() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z0-9-]+==[\w.]+(; python_version (>=|<) "3\.11")?', pin) for pin in pins)
    pinned = {pin.split("==")[0].replace("-", "_") for pin in pins}
    for key in ("dependencies", "export", "test", "dev"):
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
