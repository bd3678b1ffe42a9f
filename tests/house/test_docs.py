"""README tree, commands and settings are today's.

python -m tests.house.test_docs     writes docs/commands.md anew
"""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from moca_rag.cli.main import COMMANDS
from moca_rag.indexer.report import IndexSettings

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "commands.md"


def write_reference() -> str:
    """All help texts, as docs/commands.md holds them."""
    parts = ["# Commands\n\nWhat `moca COMMAND --help` says; `make docs` writes this page.\n"]
    for name in ("", *COMMANDS):
        arguments = [word for word in (name, "--help") if word]
        code = f"import sys; from moca_rag.cli.main import run; sys.exit(run({arguments!r}))"
        shown = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"COLUMNS": "100", "PATH": ""}
        )
        parts.append(f"\n## {' '.join(['moca', *arguments[:-1]])}\n\n```\n{shown.stdout.strip()}\n```\n")
    return "".join(parts)


def tree_of(readme: str) -> dict[str, str]:
    """Path and note of each line of the README's tree."""
    (block,) = re.findall(r"```\n(moca_rag/ .*?)```", readme, re.DOTALL)
    tree, folder = {}, ""
    for line in block.splitlines():
        name, _, note = line.strip().partition(" ")
        if name.endswith("/"):
            folder = name
        tree[name if name.endswith("/") or not line.startswith(" ") else folder + name] = note.strip()
    return tree


def test_the_reference_is_todays() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == write_reference(), "run `make docs`"


def test_the_readme_tree_is_todays() -> None:
    tree = tree_of((ROOT / "README.md").read_text(encoding="utf-8"))
    assert all(tree.values()), "every line of the tree says what it is"
    present = {
        path.relative_to(ROOT).as_posix()
        for folder in ("moca_rag", "indexer", "cli", "train", "benchmarks")
        for path in (ROOT / folder).glob("*.py")
        if path.name != "__init__.py"
    }
    named = {name for name in tree if name.endswith(".py")}
    assert named == present
    for name in tree:
        assert (ROOT / name).exists(), name


def test_the_readme_names_every_setting() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for field in fields(IndexSettings):
        assert f"`{field.name}`" in readme


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


if __name__ == "__main__":
    REFERENCE.write_text(write_reference(), encoding="utf-8")
