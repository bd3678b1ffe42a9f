"""Collections for the tests of the command line, made once and copied for each test that harms one."""

import shutil
from pathlib import Path

import pytest

from tests.faults import Moca
from tests.makers import PAGE_WORDS, PixelEncoder, make_pdf

NUM_DOCS = 14  # of 8 pages: more than the 100 that are ranked before fusion


@pytest.fixture(scope="session")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "docs"
    for number in range(NUM_DOCS):
        make_pdf(folder / f"{number:02}.pdf", [f"{words} {'Yes. ' * number}" for words in PAGE_WORDS])  # no ties
    return folder


@pytest.fixture(scope="session")
def originals(docs: Path) -> Path:
    """A text and a hybrid collection of the documents, to be copied."""
    from moca_rag.indexer.pipeline import index_documents

    index_documents([docs], docs.parent / "text")
    index_documents([docs], docs.parent / "hybrid", PixelEncoder())
    return docs.parent


@pytest.fixture
def moca(originals: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Moca:
    """The text collection, ready to be harmed."""
    return Moca(capsys, shutil.copytree(originals / "text", tmp_path / "collection"))


@pytest.fixture
def hybrid(
    originals: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Moca:
    """The hybrid collection, its model replaced by one that takes no time."""
    monkeypatch.setattr("moca_rag.deferred.DeferredEmbedder", PixelEncoder)
    return Moca(capsys, shutil.copytree(originals / "hybrid", tmp_path / "hybrid"))
