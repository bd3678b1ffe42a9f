"""The wheel, installed away from the source: what users get."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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


def test_the_installed_wheel_indexes_and_searches_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    write_pdf(tmp_path / "pdfs" / "a.pdf", ["the needle in the haystack"])
    environment = {**os.environ, "PYTHONPATH": str(site), "MOCA_COLLECTION": str(tmp_path / "c")}

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
    assert json.loads(moca("search", "needle", "--json"))["hits"][0]["document"] == "a.pdf"
