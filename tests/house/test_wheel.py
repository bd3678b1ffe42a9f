"""The wheel, installed away from the source: what users get."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from moca_rag import bundled
from tests.fakes import write_pdf

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if name.split("/")[0] in ("moca_rag", "train", "indexer", "cli", "pyproject.toml", "README.md", "LICENSE"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_our_folders_under_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    heads = {name.split("/")[0] for name in names}
    assert heads == {"moca_rag", wheel.name.split("-py3")[0] + ".dist-info"}
    for place in (
        "moca_rag/indexer/worker.py",
        "moca_rag/cli/main.py",
        "moca_rag/train/__init__.py",
        "moca_rag/py.typed",
        "moca_rag/paper.json",
        "moca_rag/train/configs/cpt/paper-3b.yaml",
    ):
        assert place in names


def test_moca_tiny_is_kept_in_git_whole() -> None:
    def ask(*words: str) -> list[str]:
        done = subprocess.run(
            ["git", *words, "--", "moca_rag/tiny"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    if not ask("rev-list", "-1", "HEAD"):
        pytest.skip("moca_rag/tiny was never committed: from the commit on that adds it, this test holds")
    assert set(ask("ls-files")) == {f"moca_rag/tiny/{name}" for name in (*bundled.TINY_FILES, "README.md")}
    assert bundled.has_tiny()


def test_the_wheel_holds_moca_tiny_with_its_card(wheel: Path) -> None:
    if not bundled.has_tiny():
        pytest.skip("moca_rag/tiny is not in this checkout")
    names = zipfile.ZipFile(wheel).namelist()
    here = {path.name for path in bundled.TINY_FOLDER.iterdir()}
    assert {f"moca_rag/tiny/{name}" for name in {*bundled.TINY_FILES, *here}} <= set(names)


def test_the_installed_wheel_indexes_and_searches_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    write_pdf(tmp_path / "pdfs" / "a.pdf", ["the needle in the haystack"])
    environment = {key: value for key, value in os.environ.items() if key != "MOCA_MODEL"}
    environment |= {"PYTHONPATH": str(site), "MOCA_COLLECTION": str(tmp_path / "c")}

    def moca(*arguments: str) -> str:
        code = "import sys; from moca_rag.cli.main import run; sys.exit(run(sys.argv[1:]))"
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    where = subprocess.run(
        [sys.executable, "-c", "import moca_rag.indexer; print(moca_rag.indexer.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(site))
    moca("index", "pdfs")
    status = json.loads(moca("status", "--json"))
    assert status["mode"] == ("hybrid" if bundled.IS_DEFAULT and bundled.has_tiny() else "text")
    assert str(site) not in json.dumps(status["model"])
    assert json.loads(moca("search", "needle", "--json"))["hits"][0]["document"] == "a.pdf"
