from pathlib import Path

import pytest
from moca_rag.indexer.pipeline import index_documents

from moca_rag.collection import Collection
from moca_rag.errors import CollectionError
from moca_rag.salvage import find_fault
from moca_rag.upkeep import compact_collection, count_stale, verify_collection
from tests.fakes import ColourEncoder, write_pdf


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for name, colour in [("a", "red"), ("b", "green"), ("c", "blue")]:
        write_pdf(tmp_path / "pdfs" / f"{name}.pdf", [f"{colour}: page of {name}"])
    index_documents([tmp_path / "pdfs"], tmp_path / "c", ColourEncoder())
    return tmp_path / "c"


def looks(folder: Path, question: str) -> list[tuple[str, int]]:
    with Collection.open(folder, encoder=ColourEncoder()) as collection:
        return [(hit.document, hit.page) for hit in collection.search(question, mode="vision")]


def test_a_sound_collection_is_called_sound(made: Path) -> None:
    verdict = verify_collection(made)
    assert (verdict.problems, verdict.pages, verdict.vectors) == ([], 3, 6)  # one of each picture, one of its text


def test_a_flipped_bit_is_found_named_and_mended(made: Path) -> None:
    shard = next((made / "vectors").glob("*.f16"))
    data = bytearray(shard.read_bytes())
    data[9] ^= 0x40
    shard.write_bytes(data)
    verdict = verify_collection(made)
    assert verdict.problems == ["vectors: 1 of 6 are lost or damaged"]
    (lost,) = verdict.lost_pages
    assert verify_collection(made, repair=True).repaired
    encoder = ColourEncoder()
    index_documents([], made, encoder)
    assert (encoder.num_pages, encoder.num_passages) == (0, 1)  # the second number of the second row was hit
    assert verify_collection(made).problems == []
    assert lost in {f"{document}#{page}" for document, page in looks(made, "red")}


def test_a_cut_shard_is_refused_by_name_and_mended(made: Path) -> None:
    before = looks(made, "blue")
    shard = next((made / "vectors").glob("*.f16"))
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(CollectionError, match=shard.name):
        looks(made, "blue")
    assert len(verify_collection(made, repair=True).lost_pages) == 1
    index_documents([], made, ColourEncoder())
    assert looks(made, "blue") == before


def test_lost_text_is_made_again_from_the_pages(made: Path) -> None:
    with Collection.writing(made) as (opened, writer), writer.transaction():
        opened.catalog.db.execute("DELETE FROM page_text WHERE rowid = 2")
    assert verify_collection(made).problems == ["text index: 1 pages are missing from it"]
    verify_collection(made, repair=True)
    with Collection.open(made, encoder=ColourEncoder()) as collection:
        assert len(collection.search("page", mode="text")) == 3


def test_compaction_drops_what_was_deleted_and_changes_no_answer(made: Path, tmp_path: Path) -> None:
    (tmp_path / "pdfs" / "a.pdf").unlink()
    index_documents([], made, ColourEncoder())
    before = looks(made, "green blue")
    result = compact_collection(made)
    assert result.dropped == 2
    assert looks(made, "green blue") == before
    assert verify_collection(made).problems == []
    assert [path.name for path in (made / "vectors").iterdir()] == ["0001-00000.f16"]
    assert compact_collection(made).dropped == 0


def test_an_open_reader_survives_a_compaction(made: Path, tmp_path: Path) -> None:
    with Collection.open(made, encoder=ColourEncoder()) as reader:
        assert len(reader.search("red", mode="vision")) == 3
        (tmp_path / "pdfs" / "a.pdf").unlink()
        index_documents([], made, ColourEncoder())
        compact_collection(made)
        assert [hit.document for hit in reader.search("blue", mode="vision")] == ["c.pdf", "b.pdf"]


def test_stale_files_are_named(made: Path, tmp_path: Path) -> None:
    (tmp_path / "pdfs" / "a.pdf").unlink()
    write_pdf(tmp_path / "pdfs" / "b.pdf", ["another", "page"])
    with Collection.open(made) as collection:
        assert count_stale(collection.catalog) == ["a.pdf (gone)", "b.pdf (changed)"]


def damage(path: Path, start: float, length: int) -> None:
    """Overwrite a stretch of a file, given where it starts as a share of the file."""
    data = bytearray(path.read_bytes())
    at = int(len(data) * start)
    data[at : at + length] = b"\xa5" * length
    path.write_bytes(data)


@pytest.mark.parametrize("start", [0.15, 0.3, 0.45, 0.6, 0.75, 0.9])
def test_a_damaged_catalog_keeps_what_can_be_read_and_gets_the_rest_back(tmp_path: Path, start: float) -> None:
    for number in range(40):
        words = " ".join(f"word{number}x{place}" for place in range(60))
        write_pdf(tmp_path / "pdfs" / f"{number:02}.pdf", [f"red: {words}", f"blue: page of {number}"])
    index_documents([tmp_path / "pdfs"], tmp_path / "c", ColourEncoder())
    before = set(looks(tmp_path / "c", "blue"))
    damage(tmp_path / "c" / "catalog.sqlite", start, 6000)
    verdict = verify_collection(tmp_path / "c", repair=True)
    assert verdict.repaired
    report = index_documents([tmp_path / "pdfs"], tmp_path / "c", ColourEncoder())
    assert (report.documents, report.pages) == (40, 80)
    assert verify_collection(tmp_path / "c").problems == []
    assert {page for _, page in looks(tmp_path / "c", "blue")} == {page for _, page in before} == {2}


def test_a_catalog_of_which_nothing_is_left_is_refused(made: Path) -> None:
    damage(made / "catalog.sqlite", 0.0, 1 << 20)
    with pytest.raises(CollectionError, match="--rebuild"):
        verify_collection(made, repair=True)
    assert sorted(path.name for path in made.iterdir() if "salvaged" in path.name) == []


def test_a_catalog_that_is_only_locked_is_not_called_damaged(made: Path) -> None:
    (made / "catalog.sqlite").rename(made / "away")
    with pytest.raises(CollectionError, match="unable to open"):
        find_fault(made / "catalog.sqlite")
    (made / "away").rename(made / "catalog.sqlite")
    assert find_fault(made / "catalog.sqlite") is None
