import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from moca_rag.indexer.pipeline import index_documents

from moca_rag.catalog import Catalog
from moca_rag.collection import Collection, default_path
from moca_rag.errors import CollectionError, ConfigError, DocumentError, FingerprintError, LockedError
from moca_rag.fingerprint import read_fingerprint
from moca_rag.records import Box, FusionWeights
from tests.fakes import COLOURS, ColourEncoder, HalvesEncoder, write_pdf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hybrid collection: three coloured pages with words, one scan (colour, no words), one page of many words."""
    root = tmp_path_factory.mktemp("collection")
    write_pdf(root / "pdfs" / "a" / "one.pdf", ["red: tariff for electricity", "green: tariff for gas"], title="Prices")
    write_pdf(root / "pdfs" / "b" / "two.pdf", ["blue: the lake", "red:"], title="Pictures")
    write_pdf(root / "pdfs" / "b" / "many.pdf", ["word " * 60 + "needle " + "word " * 30])
    index_documents([root / "pdfs"], root / "c", ColourEncoder(), tags={"set": "demo"})
    return root / "c"


@pytest.fixture
def collection(folder: Path) -> Iterator[Collection]:
    with Collection.open(folder, encoder=ColourEncoder()) as opened:
        yield opened


def test_hybrid_shares_add_up_to_the_score(collection: Collection) -> None:
    hits = collection.search("red tariff")
    assert hits[0].document == "a/one.pdf"
    assert [hit.rank for hit in hits] == list(range(1, 6))
    for hit in hits:
        assert hit.score == pytest.approx((hit.vision or 0) + (hit.passages or 0) + (hit.text or 0))
        assert 0 <= hit.score <= 1 + 1e-9


def test_a_scan_has_no_share_of_text_and_loses_nothing_by_it(collection: Collection) -> None:
    scan = next(hit for hit in collection.search("red tariff") if (hit.document, hit.page) == ("b/two.pdf", 2))
    assert scan.text is None
    assert FusionWeights().vision - 0.01 <= scan.score < FusionWeights().wordless  # it is one of five
    assert collection.catalog.share_without_words() == 0.2


def test_the_share_of_pages_without_words_of_many_is_that_of_a_sample(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {row.page_id: row.num_words for row in collection.catalog.pages(list(range(1, 9))).values()}
    monkeypatch.setattr("moca_rag.catalog.SAMPLED_PAGES", 2)
    chosen = [known[number] == 0 for number in range(1, max(known) + 1, 2)]
    assert collection.catalog.share_without_words() == pytest.approx(sum(chosen) / len(chosen))


def test_one_ranking_alone_gives_its_own_scores(collection: Collection) -> None:
    by_look = collection.search("blue", mode="vision", top_k=1)[0]
    assert by_look.score == by_look.vision == pytest.approx(1.0, abs=1e-3)
    by_words = collection.search("tariff gas", mode="text")
    assert by_words[0].page == 2
    assert by_words[0].text == by_words[0].score > by_words[1].score
    assert by_words[0].vision is None


def test_filters_are_exact(collection: Collection) -> None:
    assert {hit.document for hit in collection.search("red", top_k=3, within="b/*")} == {"b/two.pdf", "b/many.pdf"}
    assert len(collection.search("red", top_k=3, within="b")) == 3
    assert len(collection.search("red", top_k=9, where={"title": "prices"})) == 2
    assert len(collection.search("red", top_k=4, where={"set": "demo"})) == 4
    assert collection.search("red", where={"set": "other"}) == []
    with pytest.raises(ConfigError, match="no document has 'colour'"):
        collection.search("red", where={"colour": "red"})


def test_a_picture_finds_what_looks_like_it(collection: Collection, tmp_path: Path) -> None:
    import numpy as np

    picture = np.zeros((56, 56, 3), np.uint8) + np.array(COLOURS["green"], np.uint8) * 255
    hit = collection.search(image=picture, top_k=1)[0]
    assert (hit.document, hit.page, hit.text) == ("a/one.pdf", 2, None)
    with pytest.raises(ConfigError, match="cannot be searched by words"):
        collection.search(image=picture, mode="text")


def test_a_hit_shows_where_its_words_stand(collection: Collection) -> None:
    (hit,) = collection.search("needles", mode="text")
    assert "needle" in hit.snippet
    assert hit.snippet.startswith("… word")
    assert hit.matches == ("needle",)
    (box,) = hit.boxes
    assert isinstance(box, Box)
    assert 0 < box.x0 < box.x1 < 1


def test_the_shares_of_a_page_add_up_to_its_cosine_and_stand_where_its_ink_is(collection: Collection) -> None:
    (hit,) = collection.search("red", mode="vision", within="a/one.pdf", top_k=1)
    explanation = collection.explain("red", "a/one.pdf#1")
    assert explanation.score == pytest.approx(hit.score, abs=1e-3)  # the stored vector is in half precision
    assert float(explanation.shares.sum()) + explanation.remainder == pytest.approx(explanation.score, abs=1e-6)
    rows, columns = explanation.shares.shape
    assert (rows, columns) == (4, 3)  # the page as the model saw it: 16 visual tokens at most
    assert explanation.shares[: rows // 2].sum() == 0  # the square is in the lower half
    assert explanation.shares[rows // 2 :].sum() > 0.9


def test_a_picture_can_be_asked_why(collection: Collection) -> None:
    import numpy as np

    picture = np.zeros((56, 56, 3), np.uint8) + np.array(COLOURS["green"], np.uint8) * 255
    assert collection.explain("", "one.pdf#2", image=picture).score > 0.9
    assert collection.explain("", "one.pdf#1", image=picture).score < 0.1


def test_a_page_that_is_not_as_it_was_indexed_is_not_explained(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "pdfs" / "a.pdf", ["red: alpha"])
    index_documents([tmp_path / "pdfs"], tmp_path / "c", ColourEncoder())
    with Collection.open(tmp_path / "c", encoder=ColourEncoder()) as opened:
        write_pdf(path, ["blue: alpha"])
        with pytest.raises(DocumentError, match="has changed since it was indexed: run `moca index`"):
            opened.explain("red", "a.pdf#1")
        path.unlink()
        with pytest.raises(DocumentError, match="is gone: run `moca index`"):
            opened.explain("red", "a.pdf#1")


def test_what_cannot_be_explained_says_why(collection: Collection, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ask with a word"):
        collection.explain(" ", "one.pdf#1")
    with pytest.raises(ConfigError, match="has no page 9"):
        collection.explain("red", "one.pdf#9")
    write_pdf(tmp_path / "pdfs" / "a.pdf", ["alpha"])
    index_documents([tmp_path / "pdfs"], tmp_path / "c")
    with (
        Collection.open(tmp_path / "c") as text,
        pytest.raises(ConfigError, match="a text collection has no model: `moca index --rebuild --model"),
    ):
        text.explain("alpha", "a.pdf#1")


@pytest.mark.parametrize("question", ["", "  ", "?!"])
def test_an_empty_question_is_refused(collection: Collection, question: str) -> None:
    with pytest.raises(ConfigError, match="ask with a word"):
        collection.search(question)
    with pytest.raises(ConfigError, match="at least one"):
        collection.search("a", top_k=0)


def test_pages_are_found_by_path_and_by_bare_name(collection: Collection) -> None:
    assert collection.page("a/one.pdf#2").text == "tariff for gas"
    assert collection.page("one.pdf#1").page_id == "a/one.pdf#1"
    for page_id, reason in [("one.pdf", "DOCUMENT#PAGE"), ("none.pdf#1", "no document"), ("one.pdf#7", "1 to 2")]:
        with pytest.raises(ConfigError, match=reason):
            collection.page(page_id)


def test_a_reader_sees_what_was_committed_and_not_what_is_being_written(tmp_path: Path) -> None:
    write_pdf(tmp_path / "pdfs" / "a.pdf", ["alpha"])
    index_documents([tmp_path / "pdfs"], tmp_path / "c")
    with Collection.open(tmp_path / "c") as reader, Collection.writing(tmp_path / "c") as (opened, writer):
        with writer.transaction():
            writer.drop_files(opened.catalog.files())
            assert len(reader.search("alpha")) == 1
        assert reader.search("alpha") == []


def test_a_second_writer_is_told_who_holds_the_lock(folder: Path) -> None:
    with (
        Collection.writing(folder),
        pytest.raises(LockedError, match=r"is being written by process \d+"),
        Collection.writing(folder),
    ):
        raise AssertionError


def test_what_is_no_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="there is no collection at"):
        Collection.open(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    write_pdf(tmp_path / "pdfs" / "a.pdf", ["alpha"])
    with pytest.raises(CollectionError, match="holds other files"):
        index_documents([tmp_path / "pdfs"], tmp_path)


def test_a_collection_that_was_half_made_is_made_again(tmp_path: Path) -> None:
    write_pdf(tmp_path / "pdfs" / "a.pdf", ["alpha"])
    (tmp_path / "c").mkdir()
    Catalog.create(tmp_path / "c" / "catalog.sqlite").close()
    assert index_documents([tmp_path / "pdfs"], tmp_path / "c").documents == 1


def test_the_fingerprint_is_written_and_read_back(folder: Path) -> None:
    fingerprint = read_fingerprint(folder)
    assert fingerprint.mode == "hybrid"
    assert fingerprint.model == ColourEncoder().card
    assert 'name = "colours"' in (folder / "collection.toml").read_text()


def test_a_collection_of_another_version_says_so(tmp_path: Path) -> None:
    write_pdf(tmp_path / "pdfs" / "a.pdf", ["alpha"])
    index_documents([tmp_path / "pdfs"], tmp_path / "c")
    db = sqlite3.connect(tmp_path / "c" / "catalog.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(CollectionError, match="version 99, this program reads version 2"):
        Collection.open(tmp_path / "c")


def test_the_default_place_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOCA_COLLECTION", str(tmp_path / "mine"))
    assert default_path() == tmp_path / "mine"
    monkeypatch.delenv("MOCA_COLLECTION")
    assert default_path().name == "collection"


def test_a_page_is_found_by_the_best_of_its_regions(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    for name, halves in (("mixed", ("red", "blue")), ("plain", ("green", "green"))):
        rows = [np.full((56, 112, 3), np.array(COLOURS[colour]) * 255, np.uint8) for colour in halves]
        (tmp_path / "scans").mkdir(exist_ok=True)
        Image.fromarray(np.vstack(rows)).save(tmp_path / "scans" / f"{name}.png")
    encoder = HalvesEncoder()
    index_documents([tmp_path / "scans"], tmp_path / "c", encoder)
    with Collection.open(tmp_path / "c", encoder=encoder) as opened:
        for colour in ("red", "blue"):
            first, second = opened.search(colour, mode="vision", top_k=2)
            assert (first.document, second.document) == ("mixed.png", "plain.png")
            assert first.score == pytest.approx(1, abs=1e-2)  # half of the page, and nothing of the other half
        assert opened.catalog.count()["vectors"] == 3
    index_documents([tmp_path / "scans"], tmp_path / "c", encoder)
    assert encoder.num_pages == 2
    with Collection.open(tmp_path / "c") as opened, pytest.raises(FingerprintError, match=r"model\.regions: 2 -> 1"):
        opened.fingerprint.check_model(ColourEncoder().card, tmp_path / "c")
