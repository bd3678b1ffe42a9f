"""The rules of the house, held against the code as it stands."""

import ast
import importlib
import inspect
import tomllib
from pathlib import Path

import pytest

import moca_rag
from moca_rag import errors

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("moca_rag", "train", "indexer", "cli")
PROGRAMS = ("train", "indexer", "cli")
SOURCES = sorted(path for folder in (*FOLDERS, "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))
HEAVY = ("torch", "transformers", "faiss")


def imports_of(path: Path) -> list[tuple[ast.AST, int, str]]:
    """(node, dots, module) for each import of a file."""
    found: list[tuple[ast.AST, int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.append((node, node.level, node.module or ""))
        elif isinstance(node, ast.Import):
            found.extend((node, 0, alias.name) for alias in node.names)
    return found


def house_faults(folder: str, path: Path) -> list[str]:
    """What a file imports against rules 1 to 3 of the design."""
    faults = []
    for _, dots, module in imports_of(path):
        head, _, rest = module.partition(".")
        if dots > 1:
            faults.append(f"{path}: {'.' * dots}{module} climbs out of its folder")
        if dots == 0 and head in PROGRAMS:
            faults.append(f"{path}: a bare import of {module}")
        if dots == 0 and head == "moca_rag" and folder == "moca_rag" and path.name != "__init__.py":
            faults.append(f"{path}: {module} is in its own folder: use one dot")
        if (
            dots == 0
            and head == "moca_rag"
            and rest.split(".")[0] in PROGRAMS
            and folder != "cli"
            and path.name != "__init__.py"
        ):
            faults.append(f"{path}: a program is imported: {module}")
    return faults


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_keep_the_three_rules(folder: str) -> None:
    faults = [fault for path in (ROOT / folder).rglob("*.py") for fault in house_faults(folder, path)]
    assert not faults


def test_the_import_guard_sees_each_fault(tmp_path: Path) -> None:
    bad = tmp_path / "module.py"
    for line, folder in [
        ("from ..errors import MocaError", "indexer"),
        ("import train", "cli"),
        ("from moca_rag.errors import MocaError", "moca_rag"),
        ("from moca_rag.indexer.pipeline import index_documents", "train"),
    ]:
        bad.write_text(line)
        assert house_faults(folder, bad), line


def test_every_package_is_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    expected = {
        "moca_rag"
        if path.parent.name == "moca_rag"
        else f"moca_rag.{path.parent.relative_to(ROOT).as_posix().replace('/', '.')}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(settings["packages"]) == expected
    assert set(settings["package-dir"]) == expected


def test_only_the_command_line_prints() -> None:
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("moca_rag", "train", "indexer")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "exit")
    ]
    assert not printing


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 350
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"


def test_the_face_is_complete() -> None:
    assert set(dir(moca_rag)) == set(moca_rag.__all__) == set(moca_rag._PLACES)
    for name in moca_rag.__all__:
        assert getattr(moca_rag, name).__doc__, name
    with pytest.raises(AttributeError):
        moca_rag.nothing_of_that_name  # noqa: B018


def test_the_error_tree_is_drawn_as_it_is() -> None:
    assert errors.__doc__ is not None
    for name, value in vars(errors).items():
        if inspect.isclass(value):
            assert issubclass(value, errors.MocaError)
            assert name in errors.__doc__


@pytest.mark.parametrize(
    "module", ["moca_rag", "moca_rag.cli.main", "moca_rag.collection", "moca_rag.indexer.pipeline"]
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    import subprocess
    import sys

    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_docstring_examples_run() -> None:
    import doctest

    tried = 0
    for path in sorted((ROOT / "moca_rag").glob("*.py")):
        module = importlib.import_module("moca_rag" if path.stem == "__init__" else f"moca_rag.{path.stem}")
        outcome = doctest.testmod(module)
        assert outcome.failed == 0, module
        tried += outcome.attempted
    assert tried >= 10
