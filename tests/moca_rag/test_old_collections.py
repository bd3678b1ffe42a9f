"""Collections of the first version, from before there were passages and weights, go on as what they are."""

import sqlite3
from pathlib import Path

import pytest
from moca_rag.indexer.pipeline import index_documents
from moca_rag.indexer.report import IndexSettings

from moca_rag.catalog import Catalog
from moca_rag.collection import Collection
from moca_rag.errors import ConfigError
from moca_rag.records import FusionWeights
from moca_rag.upkeep import compact_collection, verify_collection
from tests.fakes import ColourEncoder, write_pdf


@pytest.fixture
def pdfs(tmp_path: Path) -> Path:
    write_pdf(tmp_path / "pdfs" / "a.pdf", ["red: a scarlet curtain", "green: a lawn"])
    return tmp_path / "pdfs"


@pytest.fixture
def old(pdfs: Path, tmp_path: Path) -> Path:
    """A collection as it was made before there were passages."""
    index_documents([pdfs], tmp_path / "old", ColourEncoder(), settings=IndexSettings(passages=False))
    db = sqlite3.connect(tmp_path / "old" / "catalog.sqlite")
    db.executescript(
        """DROP INDEX pictures; ALTER TABLE vectors DROP COLUMN kind; ALTER TABLE pages DROP COLUMN num_passages;
           PRAGMA user_version = 1; PRAGMA wal_checkpoint(TRUNCATE);"""
    )
    db.close()
    settings = tmp_path / "old" / "collection.toml"
    assert "passages = false\n" in settings.read_text()
    told = settings.read_text().replace("passages = false\n", "").partition("[weights]")[0]
    told = told.replace("regions = 1\n", "vision_weight = 0.3\nwordless_weight = 1.0\n")
    settings.write_text(told)
    return tmp_path / "old"


def version_of(folder: Path) -> int:
    catalog = Catalog.open(folder / "catalog.sqlite")
    version = int(catalog.db.execute("PRAGMA user_version").fetchone()[0])
    catalog.close()
    return version


def test_an_old_collection_answers_as_it_did_and_is_left_as_it_is(old: Path) -> None:
    with Collection.open(old, encoder=ColourEncoder()) as opened:
        hits = opened.search("green lawn")
        assert hits[0].page == 2
        assert hits[0].passages is None
        assert hits[0].score == pytest.approx(1 - (1 - FusionWeights().vision) * (1 - FusionWeights().text), abs=1e-3)
        assert opened.catalog.count()["passages"] == 0
        with pytest.raises(ConfigError, match="--set passages=true"):
            opened.search("green", mode="passages")
    assert verify_collection(old).problems == []
    assert version_of(old) == 1


def test_an_old_collection_is_indexed_on_without_passages(old: Path, pdfs: Path) -> None:
    write_pdf(pdfs / "b.pdf", ["blue: an azure pool"])
    encoder = ColourEncoder()
    with Collection.open(old, encoder=encoder) as reader:  # which stays open over the change
        assert len(reader.search("red")) == 2
        assert index_documents([pdfs], old, encoder).added == 1
        assert len(reader.search("red")) == 3
        assert reader.catalog.count()["passages"] == 0
    assert (encoder.num_pages, encoder.num_passages, version_of(old)) == (1, 0, 2)
    assert verify_collection(old).problems == []
    (pdfs / "a.pdf").unlink()
    index_documents([pdfs], old, encoder, prune=True)
    assert compact_collection(old).dropped == 2
    assert verify_collection(old).problems == []


def test_a_damaged_old_collection_is_saved(tmp_path: Path, pdfs: Path, old: Path) -> None:
    db = sqlite3.connect(old / "catalog.sqlite")
    db.executescript("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'dead_vectors'")
    db.close()
    assert verify_collection(old, repair=True).repaired
    assert index_documents([pdfs], old, ColourEncoder()).pages == 2
    assert verify_collection(old).problems == []
    with Collection.open(old, encoder=ColourEncoder()) as opened:
        assert opened.search("green lawn")[0].page == 2
