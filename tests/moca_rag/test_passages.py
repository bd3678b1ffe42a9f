"""Passages of a page's text: cut, embedded, ranked beside pictures and words, and left out where a collection has none."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from moca_rag.indexer.pipeline import index_documents
from moca_rag.indexer.rebuild import rebuild_collection
from moca_rag.indexer.report import IndexSettings

from moca_rag.catalog import PASSAGE, PICTURE
from moca_rag.collection import Collection
from moca_rag.errors import ConfigError, FingerprintError
from moca_rag.fingerprint import read_fingerprint
from moca_rag.passages import MAX_PASSAGES, OVERLAP_WORDS, cut_passages, passage_key
from moca_rag.records import FusionWeights
from moca_rag.upkeep import compact_collection, verify_collection
from tests.fakes import COLOURS, ColourEncoder, write_pdf

BARE = IndexSettings(passages=False)
WITH = IndexSettings(passages=True)


# -- cutting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_words", [1, 59, 79, 80, 124, 125, 600, 1475, 1476, 9_000])
def test_every_word_is_in_a_passage_and_no_passage_is_a_scrap(num_words: int) -> None:
    words = [f"w{number}" for number in range(num_words)]
    passages = [passage.split() for passage in cut_passages(words)]
    joined = passages[0] + [word for passage in passages[1:] for word in passage[OVERLAP_WORDS:]]
    assert joined == words  # in order, each passage but the first beginning with the end of the one before it
    assert len(passages) <= MAX_PASSAGES
    assert min(map(len, passages)) >= min(num_words, 35)
    assert max(map(len, passages)) <= (79 if num_words < 1_475 else num_words)


def test_a_dense_page_has_longer_passages_and_not_more() -> None:
    passages = cut_passages([f"word{number}" for number in range(9_000)])
    assert len(passages) == MAX_PASSAGES
    lengths = [len(passage.split()) for passage in passages]
    assert max(lengths) - min(lengths) < 40


def test_a_line_of_a_script_without_spaces_counts_as_its_words() -> None:
    lines = ["電気料金は前の年より高くなりましたので注意してください"] * 3 + [
        f"行{number}" + "水" * 40 for number in range(20)
    ]
    passages = cut_passages(lines)
    assert len(passages) > 5
    assert max(map(len, passages)) < 220


def test_equal_passages_of_a_page_are_one() -> None:
    assert len(cut_passages(["same"] * 600)) < len(cut_passages([f"w{n}" for n in range(600)]))
    assert cut_passages(["", " "]) == cut_passages([]) == []


# -- searching --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages without colour that name one by another word, a red page about nothing, a long page, and a scan."""
    root = tmp_path_factory.mktemp("passages")
    filler = "lorem " * 70
    write_pdf(root / "pdfs" / "says.pdf", ["a scarlet curtain", "an emerald lawn", f"{filler} azure {filler}"])
    write_pdf(root / "pdfs" / "shows.pdf", ["red: nothing of note", "blue:"])
    index_documents([root / "pdfs"], root / "c", ColourEncoder())
    return root / "c"


@pytest.fixture
def collection(folder: Path) -> Iterator[Collection]:
    with Collection.open(folder, encoder=ColourEncoder()) as opened:
        yield opened


@pytest.mark.parametrize(("asked", "page"), [("red", 1), ("green", 2), ("blue", 3)])
def test_a_paraphrase_finds_its_page_though_no_word_matches(collection: Collection, asked: str, page: int) -> None:
    assert collection.search(asked, mode="text") == []
    (hit,) = collection.search(asked, mode="passages", top_k=1)
    assert (hit.document, hit.page) == ("says.pdf", page)
    assert hit.score == hit.passages == pytest.approx(1.0, abs=1e-3)
    assert (hit.vision, hit.text) == (None, None)


def test_looks_are_ranked_by_pictures_and_passages_by_text(collection: Collection) -> None:
    assert collection.search("red", mode="vision")[0].document == "shows.pdf"
    passages = collection.search("red", mode="passages")
    assert ("shows.pdf", 2) not in {(hit.document, hit.page) for hit in passages}  # it says nothing
    assert len(passages) == len(collection.search("red", mode="vision")) - 1 == 4


def test_a_long_page_ranks_by_its_best_passage_and_comes_once(collection: Collection) -> None:
    with collection.snapshot():
        assert collection.catalog.count()["passages"] > 5  # and one of them says azure
    hits = [(hit.document, hit.page) for hit in collection.search("blue", mode="passages")]
    assert hits[0] == ("says.pdf", 3)
    assert len(set(hits)) == len(hits)


def test_shares_of_three_rankings_add_up_and_a_scan_takes_part_in_one(collection: Collection) -> None:
    hits = {(hit.document, hit.page): hit for hit in collection.search("blue lawn")}
    for hit in hits.values():
        assert sum(share or 0 for share in (hit.vision, hit.passages, hit.text)) == pytest.approx(hit.score)
    scan, lawn = hits["shows.pdf", 2], hits["says.pdf", 2]
    pool, weights = hits["says.pdf", 3], FusionWeights()
    assert (scan.passages, scan.text) == (None, None)
    assert weights.vision < scan.score < weights.wordless  # it is one of five pages
    assert (lawn.score, pool.score) == pytest.approx((weights.text, weights.passages), abs=1e-3)


def test_filters_hold_for_passages(collection: Collection) -> None:
    assert {hit.document for hit in collection.search("red", mode="passages", within="shows.pdf")} == {"shows.pdf"}
    assert len(collection.search("red", mode="passages", within="says.pdf", top_k=3)) == 3


def test_a_picture_is_looked_for_in_passages_only_with_words(collection: Collection) -> None:
    picture = np.zeros((56, 56, 3), np.uint8) + np.array(COLOURS["red"], np.uint8) * 255
    assert {hit.passages for hit in collection.search(image=picture)} == {None}
    assert any(hit.passages for hit in collection.search("curtain", image=picture))
    with pytest.raises(ConfigError, match="a picture alone is not looked for in passages"):
        collection.search(image=picture, mode="passages")


def test_a_model_says_how_far_it_is_believed(folder: Path, tmp_path: Path) -> None:
    seeing = FusionWeights(text=0.5, passages=0.0, vision=0.9, wordless=0.9)
    reading = FusionWeights(text=0.9, passages=0.0, vision=0.0, wordless=0.8)
    # One page of five has no words: beside words 0.8 is odds of 4, less by 4.
    for weights, first, others in ((seeing, "shows.pdf", 0.9), (reading, "says.pdf", 0.5)):
        encoder = ColourEncoder()
        encoder.card = replace(encoder.card, weights=weights)
        index_documents([folder.parent / "pdfs"], tmp_path / first, encoder)
        with Collection.open(tmp_path / first, encoder=ColourEncoder()) as opened:  # the weights lie in the collection
            hits = opened.search("scarlet curtain blue")
        assert (hits[0].document, hits[0].score) == (first, pytest.approx(0.9, abs=1e-2))
        assert max(hit.score for hit in hits if hit.text is None) == pytest.approx(others, abs=1e-2)


def test_a_model_that_is_believed_otherwise_now_is_embedded_by_no_second_time(folder: Path, tmp_path: Path) -> None:
    pdfs, place = folder.parent / "pdfs", tmp_path / "c"
    index_documents([pdfs], place, ColourEncoder())
    weak = ColourEncoder()
    weak.card = replace(weak.card, weights=FusionWeights(vision=0.125))
    report = index_documents([pdfs], place, weak)
    assert (report.unchanged, weak.num_pages) == (report.documents, 0)
    with Collection.open(place) as opened:
        assert opened.fingerprint.model == weak.card
    index_documents([pdfs], place)  # no model named: what was known stays
    with Collection.open(place) as opened:
        assert opened.fingerprint.model == weak.card


def test_weights_may_be_given(collection: Collection) -> None:
    weights = FusionWeights(vision=0.0, passages=1.0, text=0.0, wordless=0.0)
    assert collection.search("red nothing", weights=weights)[0].document == "says.pdf"
    weights = replace(weights, passages=0.0, text=1.0)
    assert collection.search("red nothing", weights=weights)[0].document == "shows.pdf"


# -- what a collection has --------------------------------------------------------------------------------------------


@pytest.fixture
def pdfs(tmp_path: Path) -> Path:
    write_pdf(tmp_path / "pdfs" / "a.pdf", ["red: a scarlet curtain", "green: a lawn"])
    return tmp_path / "pdfs"


def test_a_hybrid_collection_has_passages_unless_told_otherwise(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "hybrid", ColourEncoder())
    index_documents([pdfs], tmp_path / "bare", ColourEncoder(), settings=BARE)
    index_documents([pdfs], tmp_path / "vision", ColourEncoder(), mode="vision")
    index_documents([pdfs], tmp_path / "text")
    made = {name: read_fingerprint(tmp_path / name).passages for name in ("hybrid", "bare", "vision", "text")}
    assert made == {"hybrid": True, "bare": False, "vision": False, "text": False}
    for name in ("bare", "vision"):
        with Collection.open(tmp_path / name) as opened:
            assert (opened.catalog.count()["vectors"], opened.catalog.count()["passages"]) == (2, 0)


def test_a_later_run_keeps_them_as_they_are_and_refuses_another_wish(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "with", ColourEncoder())
    index_documents([pdfs], tmp_path / "bare", ColourEncoder(), settings=BARE)
    for name, same, other, complaint in (
        ("with", WITH, BARE, "passages: true -> false.*`moca index --rebuild --model colours --set passages=false`"),
        ("bare", BARE, WITH, "passages: false -> true.*`moca index --rebuild --model colours --set passages=true`"),
    ):
        for settings in (None, same):
            assert index_documents([pdfs], tmp_path / name, ColourEncoder(), settings=settings).unchanged == 1
        with pytest.raises(FingerprintError, match=complaint):
            index_documents([pdfs], tmp_path / name, ColourEncoder(), settings=other)


def test_passages_need_text_and_a_model(pdfs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a text collection lacks a model; .* --model FOLDER_OR_HUB_ID"):
        index_documents([pdfs], tmp_path / "c", settings=WITH)
    with pytest.raises(ConfigError, match=r"a vision collection lacks its text; .* --mode hybrid"):
        index_documents([pdfs], tmp_path / "c", ColourEncoder(), mode="vision", settings=WITH)


def test_what_has_no_passages_says_how_to_make_them(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "bare", ColourEncoder(), settings=BARE)
    index_documents([pdfs], tmp_path / "text")
    for name, advice in (("bare", "`moca index --rebuild --set passages=true`"), ("text", "--rebuild --model")):
        with Collection.open(tmp_path / name) as opened, pytest.raises(ConfigError, match=advice):
            opened.search("red", mode="passages")


def test_a_rebuild_keeps_the_choice_or_takes_another(
    pdfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moca_rag.indexer.rebuild.DeferredEmbedder.of", lambda card: ColourEncoder())
    index_documents([pdfs], tmp_path / "c", ColourEncoder(), settings=BARE)
    options = {"mode": None, "passwords": (), "reporter": None, "tags": {}}
    for settings, expected in ((None, False), (WITH, True), (IndexSettings(), True)):
        rebuild_collection([], tmp_path / "c", None, options | {"settings": settings})
        assert read_fingerprint(tmp_path / "c").passages is expected
    rebuild_collection([], tmp_path / "c", None, options | {"settings": None, "mode": "text"})
    rebuild_collection([], tmp_path / "c", ColourEncoder(), options | {"settings": None})
    assert read_fingerprint(tmp_path / "c").passages is True  # the text collection had no choice to keep


def test_equal_passages_are_embedded_once_also_by_later_runs(tmp_path: Path) -> None:
    notice, encoder = "the same legal notice", ColourEncoder()
    write_pdf(tmp_path / "pdfs" / "a.pdf", [f"red: {notice}", f"blue: {notice}", f"green: {notice}"])
    index_documents([tmp_path / "pdfs"], tmp_path / "c", encoder)
    assert (encoder.num_pages, encoder.num_passages) == (3, 1)
    write_pdf(tmp_path / "pdfs" / "b.pdf", [f"white: {notice}"])
    index_documents([tmp_path / "pdfs"], tmp_path / "c", encoder)
    assert (encoder.num_pages, encoder.num_passages) == (4, 1)
    with Collection.open(tmp_path / "c", encoder=encoder) as opened:
        assert len(opened.search("notice", mode="passages")) == 4
        kinds = opened.catalog.db.execute("SELECT kind, count(*) FROM vectors GROUP BY kind").fetchall()
        assert kinds == [(PICTURE, 4), (PASSAGE, 1)]
        assert opened.catalog.find_vectors(passage_key(notice))


# -- upkeep -----------------------------------------------------------------------------------------------------------


def lose(folder: Path, kind: int) -> None:
    """Take away a page's link to its vector of a kind, as a damaged catalog does."""
    db = sqlite3.connect(folder / "catalog.sqlite")
    with db:
        query = "SELECT page_id, vector_id FROM page_vectors JOIN vectors USING (vector_id) WHERE kind = ?"
        db.execute(
            "DELETE FROM page_vectors WHERE (page_id, vector_id) = (?, ?)", db.execute(query, (kind,)).fetchone()
        )
    db.close()


@pytest.mark.parametrize("kind", [PICTURE, PASSAGE])
def test_a_page_that_lost_a_link_is_named_and_read_again(pdfs: Path, tmp_path: Path, kind: int) -> None:
    encoder = ColourEncoder()
    index_documents([pdfs], tmp_path / "c", encoder)
    lose(tmp_path / "c", kind)
    assert verify_collection(tmp_path / "c").problems == ["vectors: 1 pages lack some of theirs"]
    assert verify_collection(tmp_path / "c", repair=True).repaired
    with Collection.open(tmp_path / "c") as opened:
        counts = opened.catalog.count()
        assert (counts["pages"], counts["vectors"], counts["dead_vectors"]) == (1, 2, 2)
    assert index_documents([pdfs], tmp_path / "c", encoder).pages == 2
    assert (encoder.num_pages, encoder.num_passages) == (2, 2)  # nothing was lost but the link
    assert verify_collection(tmp_path / "c").problems == []


def test_compaction_keeps_each_vector_of_its_kind(pdfs: Path, tmp_path: Path) -> None:
    write_pdf(pdfs / "0.pdf", ["blue: an azure pool", "red:"])  # three rows: those after them change places
    write_pdf(pdfs / "z.pdf", ["blue: an emerald pool"])
    index_documents([pdfs], tmp_path / "c", ColourEncoder())
    with Collection.open(tmp_path / "c", encoder=ColourEncoder()) as reader:
        reader.search("green")
        (pdfs / "0.pdf").unlink()
        index_documents([pdfs], tmp_path / "c", ColourEncoder())
        modes = ("vision", "passages", "hybrid")
        before = {mode: reader.search("green", mode=mode) for mode in modes}
        assert before["passages"][0].document == "z.pdf"
        assert compact_collection(tmp_path / "c").dropped == 3
        assert {mode: reader.search("green", mode=mode) for mode in modes} == before
        assert len(reader.catalog.picture_rows()) == 3
    assert verify_collection(tmp_path / "c").problems == []
