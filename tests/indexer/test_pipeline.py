import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pymupdf
import pytest
from moca_rag.indexer.pipeline import index_documents, preview_documents
from moca_rag.indexer.rebuild import rebuild_collection
from moca_rag.indexer.report import IndexReport
from PIL import Image

from moca_rag.collection import Collection, restore_collection
from moca_rag.errors import ConfigError, FingerprintError
from tests.fakes import ColourEncoder, write_pdf


def counts(report: IndexReport) -> tuple[int, int, int, int]:
    """added, changed, unchanged, removed."""
    return report.added, report.changed, report.unchanged, report.removed


def age(folder: Path) -> None:
    """Make files old enough for their time stamp to be trusted."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 100, time.time() - 100))


@pytest.fixture
def pdfs(tmp_path: Path) -> Path:
    folder = tmp_path / "pdfs"
    write_pdf(folder / "energy.pdf", ["red: The price of electricity", "green: Gas and heating"], title="Energy report")
    write_pdf(folder / "deep" / "water.pdf", ["blue: Litres of water lost"])
    Image.new("RGB", (300, 300), "red").save(folder / "photo.png")
    age(folder)
    return folder


def test_a_folder_becomes_a_collection_that_answers(pdfs: Path, tmp_path: Path) -> None:
    report = index_documents([pdfs], tmp_path / "c")
    assert (report.documents, report.pages, counts(report)) == (3, 4, (3, 0, 0, 0))
    assert report.failed == []
    with Collection.open(tmp_path / "c") as collection:
        (hit,) = collection.search("how much water was lost?")
        assert (hit.document, hit.page, hit.path) == ("deep/water.pdf", 1, pdfs / "deep" / "water.pdf")
        assert "water" in hit.matches
        assert len(hit.boxes) == 2


def test_a_second_run_reads_nothing_again(pdfs: Path, tmp_path: Path) -> None:
    encoder = ColourEncoder()
    index_documents([pdfs], tmp_path / "c", encoder)
    embedded = encoder.num_pages
    report = index_documents([pdfs], tmp_path / "c", encoder)
    assert counts(report) == (0, 0, 3, 0)
    assert (embedded, encoder.num_pages) == (4, 4)


def test_a_changed_file_is_replaced_and_only_its_new_pages_are_embedded(pdfs: Path, tmp_path: Path) -> None:
    encoder = ColourEncoder()
    index_documents([pdfs], tmp_path / "c", encoder)
    write_pdf(pdfs / "energy.pdf", ["red: The price of electricity", "blue: Solar panels"], title="Energy report")
    report = index_documents([pdfs], tmp_path / "c", encoder)
    assert counts(report) == (0, 1, 2, 0)
    assert (report.pages, encoder.num_pages) == (4, 5)
    with Collection.open(tmp_path / "c", encoder=encoder) as collection:
        assert collection.search("heating", mode="text") == []
        assert collection.search("solar", mode="text")[0].page == 2


def test_a_deleted_file_leaves_no_ghost(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "c", ColourEncoder())
    (pdfs / "deep" / "water.pdf").unlink()
    assert counts(index_documents([pdfs], tmp_path / "c", ColourEncoder())) == (0, 0, 2, 1)
    with Collection.open(tmp_path / "c", encoder=ColourEncoder()) as collection:
        assert {hit.document for hit in collection.search("blue")} == {"energy.pdf", "photo.png"}


def test_where_over_half_is_gone_nothing_is_dropped_without_prune(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "c")
    (pdfs / "energy.pdf").unlink()
    (pdfs / "photo.png").unlink()
    report = index_documents([pdfs], tmp_path / "c")
    assert (counts(report), report.documents) == ((0, 0, 3, 0), 3)
    assert "2 of 3 documents" in report.kept[0]
    assert counts(index_documents([pdfs], tmp_path / "c", prune=True)) == (0, 0, 1, 2)


def test_an_unreachable_root_keeps_everything(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "c")
    pdfs.rename(tmp_path / "elsewhere")
    report = index_documents([], tmp_path / "c")
    assert (report.documents, len(report.kept)) == (3, 1)


def test_a_moved_file_is_not_embedded_again(pdfs: Path, tmp_path: Path) -> None:
    encoder = ColourEncoder()
    index_documents([pdfs], tmp_path / "c", encoder)
    (pdfs / "energy.pdf").rename(pdfs / "power.pdf")
    report = index_documents([pdfs], tmp_path / "c", encoder)
    assert (counts(report), encoder.num_pages) == ((0, 0, 3, 0), 4)
    with Collection.open(tmp_path / "c") as collection:
        assert collection.page("power.pdf#2").number == 2


def test_a_renamed_folder_is_a_move_and_no_accident(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "c")
    inner = pdfs / "2023"
    inner.mkdir()
    for name in ("energy.pdf", "photo.png"):
        (pdfs / name).rename(inner / name)
    report = index_documents([pdfs], tmp_path / "c")
    assert (counts(report), report.kept) == ((0, 0, 3, 0), [])
    with Collection.open(tmp_path / "c") as collection:
        assert [file.name for file in collection.catalog.files()] == [
            "2023/energy.pdf",
            "2023/photo.png",
            "deep/water.pdf",
        ]


def test_equal_bytes_are_one_document_with_two_paths(pdfs: Path, tmp_path: Path) -> None:
    shutil.copy(pdfs / "energy.pdf", pdfs / "copy.pdf")
    encoder = ColourEncoder()
    report = index_documents([pdfs], tmp_path / "c", encoder)
    assert (report.documents, report.added, encoder.num_pages) == (3, 3, 4)
    with Collection.open(tmp_path / "c") as collection:
        assert collection.page("copy.pdf#1").text == collection.page("energy.pdf#1").text
        assert [hit.document for hit in collection.search("heating", mode="text", within="energy*")] == ["energy.pdf"]
    (pdfs / "energy.pdf").unlink()
    assert index_documents([pdfs], tmp_path / "c").documents == 3


def test_equal_pages_share_one_vector(tmp_path: Path) -> None:
    write_pdf(tmp_path / "pdfs" / "a.pdf", ["red: same", "red: same", "blue: other"])
    encoder = ColourEncoder()
    index_documents([tmp_path / "pdfs"], tmp_path / "c", encoder)
    assert encoder.num_pages == 2
    with Collection.open(tmp_path / "c", encoder=encoder) as collection:
        assert {hit.page for hit in collection.search("red", mode="vision", top_k=2)} == {1, 2}


def test_a_broken_file_is_recorded_and_the_run_goes_on(pdfs: Path, tmp_path: Path) -> None:
    (pdfs / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    report = index_documents([pdfs], tmp_path / "c")
    assert (report.documents, [failure.path for failure in report.failed]) == (3, ["broken.pdf"])
    age(pdfs)
    index_documents([pdfs], tmp_path / "c")
    again = index_documents([pdfs], tmp_path / "c")
    assert [failure.code for failure in again.failed] == [report.failed[0].code]
    write_pdf(pdfs / "broken.pdf", ["mended"])
    assert index_documents([pdfs], tmp_path / "c").failed == []


def test_a_file_that_breaks_shows_its_old_pages_no_more(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "c")
    (pdfs / "energy.pdf").write_bytes(b"%PDF-1.7 nothing")
    report = index_documents([pdfs], tmp_path / "c")
    assert (report.documents, report.failed[0].path) == (2, "energy.pdf")
    with Collection.open(tmp_path / "c") as collection:
        assert collection.search("heating") == []


def test_locked_files_are_tried_again_when_a_password_is_given(pdfs: Path, tmp_path: Path) -> None:
    source = pymupdf.open(pdfs / "energy.pdf")
    source.save(pdfs / "locked.pdf", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="open")
    age(pdfs)
    assert index_documents([pdfs], tmp_path / "c").failed[0].code == "password_required"
    assert index_documents([pdfs], tmp_path / "c", passwords=["shut"]).failed[0].code == "password_wrong"
    assert index_documents([pdfs], tmp_path / "c").failed[0].code == "password_wrong"
    report = index_documents([pdfs], tmp_path / "c", passwords=["open"])
    assert (report.failed, report.documents) == ([], 4)


def test_two_roots_with_equal_names_keep_their_pages_apart(tmp_path: Path) -> None:
    write_pdf(tmp_path / "one" / "a.pdf", ["apples"])
    write_pdf(tmp_path / "two" / "a.pdf", ["pears"])
    index_documents([tmp_path / "one", tmp_path / "two"], tmp_path / "c")
    with Collection.open(tmp_path / "c") as collection:
        assert collection.search("apples")[0].document == "a.pdf"
        assert collection.search("pears")[0].document == "two/a.pdf"
        with pytest.raises(ConfigError, match="has no page 2"):
            collection.page("a.pdf#2")


def test_a_root_inside_a_wider_one_becomes_part_of_it(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs / "deep"], tmp_path / "c")
    report = index_documents([pdfs], tmp_path / "c")
    assert counts(report) == (2, 0, 1, 0)
    with Collection.open(tmp_path / "c") as collection:
        assert list(collection.catalog.roots().values()) == [pdfs]
        assert collection.page("deep/water.pdf#1").page_id == "deep/water.pdf#1"
        assert collection.page("water.pdf#1").document == "deep/water.pdf"
    assert counts(index_documents([pdfs / "deep"], tmp_path / "c")) == (0, 0, 1, 0)


def test_one_file_is_a_root_of_its_own(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs / "energy.pdf"], tmp_path / "c")
    with Collection.open(tmp_path / "c") as collection:
        assert collection.search("electricity")[0].path == pdfs / "energy.pdf"
        assert collection.search("electricity")[0].document == "energy.pdf"


def test_loops_of_links_end_and_hidden_files_are_left_out(pdfs: Path, tmp_path: Path) -> None:
    (pdfs / "deep" / "loop").symlink_to(pdfs)
    (pdfs / "away").symlink_to(pdfs / "deep")
    write_pdf(pdfs / ".trash" / "old.pdf", ["old"])
    write_pdf(pdfs / "._photo.pdf", ["fork"])
    report = index_documents([pdfs], tmp_path / "c")
    assert (report.documents, report.failed) == (3, [])


def test_tags_are_kept_and_replaced_by_key(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "c", tags={"year": "2022", "team": "a"})
    index_documents([pdfs / "deep"], tmp_path / "c", tags={"year": "2023"})
    with Collection.open(tmp_path / "c") as collection:
        assert [hit.document for hit in collection.search("water price", where={"year": "2023"})] == ["deep/water.pdf"]
        assert [hit.document for hit in collection.search("water price", where={"year": "2022"})] == ["energy.pdf"]
        assert len(collection.search("water price", where={"team": "A"})) == 2


def test_other_settings_are_refused_by_name(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "c")
    with pytest.raises(FingerprintError, match="mode: text -> hybrid"):
        index_documents([pdfs], tmp_path / "c", ColourEncoder())
    index_documents([pdfs], tmp_path / "v", ColourEncoder())
    with pytest.raises(FingerprintError, match=r"model\.revision: 1 -> 2"):
        index_documents([pdfs], tmp_path / "v", ColourEncoder("2"))
    with pytest.raises(FingerprintError, match=r"model\.revision: 1 -> 2"):
        Collection.open(tmp_path / "v", encoder=ColourEncoder("2"))


def test_a_preview_says_what_a_run_would_do_and_writes_nothing(pdfs: Path, tmp_path: Path) -> None:
    assert counts(preview_documents([pdfs], tmp_path / "c")) == (3, 0, 0, 0)
    assert not (tmp_path / "c").exists()
    index_documents([pdfs], tmp_path / "c")
    (pdfs / "photo.png").unlink()
    write_pdf(pdfs / "energy.pdf", ["new"])
    preview = preview_documents([pdfs], tmp_path / "c")
    assert counts(preview) == counts(index_documents([pdfs], tmp_path / "c")) == (0, 1, 1, 1)


def test_a_path_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        index_documents([tmp_path / "none"], tmp_path / "c")
    with pytest.raises(ConfigError, match="nothing to index"):
        index_documents([], tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_vision_collection_holds_no_words(pdfs: Path, tmp_path: Path) -> None:
    encoder = ColourEncoder()
    index_documents([pdfs], tmp_path / "c", encoder, mode="vision")
    with Collection.open(tmp_path / "c", encoder=encoder) as collection:
        assert [hit.document for hit in collection.search("blue", top_k=1)] == ["deep/water.pdf"]
        with pytest.raises(ConfigError, match="this is a vision collection"):
            collection.search("water", mode="text")


def test_a_page_that_came_back_uses_its_old_vector(pdfs: Path, tmp_path: Path) -> None:
    encoder = ColourEncoder()
    index_documents([pdfs], tmp_path / "c", encoder)
    kept = (pdfs / "deep" / "water.pdf").read_bytes()
    (pdfs / "deep" / "water.pdf").unlink()
    index_documents([pdfs], tmp_path / "c", encoder)
    (pdfs / "deep" / "water.pdf").write_bytes(kept)
    index_documents([pdfs], tmp_path / "c", encoder)
    assert encoder.num_pages == 4
    with Collection.open(tmp_path / "c", encoder=encoder) as collection:
        assert collection.search("blue", mode="vision", top_k=1)[0].document == "deep/water.pdf"


def test_what_a_later_run_does_not_name_stays_as_it_is(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "c", ColourEncoder(), mode="vision")
    for options in ({}, {"mode": "vision"}):
        assert index_documents([pdfs], tmp_path / "c", **options).unchanged == 3
        assert index_documents([pdfs], tmp_path / "c", ColourEncoder(), **options).unchanged == 3
    with pytest.raises(FingerprintError, match="mode: vision -> text"):
        index_documents([pdfs], tmp_path / "c", mode="text")
    with pytest.raises(ConfigError, match="needs a model"):
        index_documents([pdfs], tmp_path / "new", mode="vision")


def test_a_rebuild_keeps_mode_model_roots_and_tags(pdfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moca_rag.indexer.rebuild.DeferredEmbedder.of", lambda card: ColourEncoder())
    index_documents([pdfs], tmp_path / "c", ColourEncoder(), mode="vision", tags={"year": "2023"})
    options = {"mode": None, "passwords": (), "settings": None, "reporter": None, "tags": {}}
    report = rebuild_collection([], tmp_path / "c", None, options)
    assert (report.added, report.mode) == (3, "vision")
    with Collection.open(tmp_path / "c", encoder=ColourEncoder()) as collection:
        assert len(collection.search("red", where={"year": "2023"})) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "pdfs"]


def rebuild(collection: Path) -> IndexReport:
    options = {"mode": None, "passwords": (), "settings": None, "reporter": None, "tags": {}}
    return rebuild_collection([], collection, None, options)


def test_a_rebuild_after_a_damaged_fingerprint_keeps_roots_and_tags(pdfs: Path, tmp_path: Path) -> None:
    index_documents([pdfs], tmp_path / "c", tags={"year": "2023"})
    (tmp_path / "c" / "collection.toml").write_text("damaged [")
    assert rebuild(tmp_path / "c").added == 3
    with Collection.open(tmp_path / "c") as collection:
        assert len(collection.search("water", where={"year": "2023"})) == 1


def test_a_rebuild_outlives_a_reader_that_puts_the_old_collection_back(
    pdfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_documents([pdfs], tmp_path / "c")
    (pdfs / "photo.png").unlink()
    renames: list[str] = []

    def rename(old: Path, new: Path, rename: Callable[..., None] = os.rename) -> None:
        rename(old, new)
        renames.append(new.name)
        if len(renames) == 1:
            restore_collection(tmp_path / "c")

    monkeypatch.setattr("moca_rag.indexer.rebuild.os.rename", rename)
    assert rebuild(tmp_path / "c").documents == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "pdfs"]
    with Collection.open(tmp_path / "c") as collection:
        assert collection.catalog.count()["documents"] == 2
