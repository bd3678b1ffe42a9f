"""The model that comes along: found by its name alone, wherever the package lies."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from moca_rag import Collection, bundled, index_documents
from moca_rag.checkpoint import find_checkpoint, read_card, read_settings
from moca_rag.embedder import Embedder
from moca_rag.errors import FingerprintError, ModelError
from moca_rag.inputs import load_tokenizer
from moca_rag.records import Query
from tests.makers import PAGE_WORDS, make_pdf
from tests.small_model import write_small_model

shipped = pytest.mark.skipif(not bundled.has_tiny(), reason="moca_rag/tiny is not in this checkout")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in the place of moca-tiny."""
    return place_tiny(tmp_path / "package" / "tiny", monkeypatch)


def place_tiny(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> Path:
    (write_small_model(folder, seed=seed) / "moca.json").write_text('{"min_pixels": 25088, "max_pixels": 60000}')
    monkeypatch.setattr(bundled, "TINY_FOLDER", folder)
    return folder


def test_its_bare_name_goes_before_any_folder_and_any_hub(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moca_rag.checkpoint._find_cached", lambda name: pytest.fail(f"asked for {name}"))
    other = write_small_model(tmp_path / "moca-tiny", seed=1)
    monkeypatch.chdir(tmp_path)
    assert (find_checkpoint("moca-tiny").name, find_checkpoint("moca-tiny").folder) == ("moca-tiny", tiny)
    assert find_checkpoint("./moca-tiny").folder == Path(other.name)
    assert find_checkpoint(Path("moca-tiny")).folder == Path(other.name)
    assert Embedder.open("moca-tiny", device="cpu").card == read_card("moca-tiny")


def test_a_collection_of_it_names_no_place_and_opens_where_the_package_lies_elsewhere(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pdf(tmp_path / "pdfs" / "a.pdf", PAGE_WORDS[:2])
    index_documents([tmp_path / "pdfs"], tmp_path / "c", Embedder.open("moca-tiny"))
    said = (tmp_path / "c" / "collection.toml").read_text()
    assert 'name = "moca-tiny"' in said
    assert str(tmp_path) not in said
    elsewhere = tmp_path / "another" / "place"
    shutil.move(tiny, elsewhere)
    monkeypatch.setattr(bundled, "TINY_FOLDER", elsewhere)
    with Collection.open(tmp_path / "c") as opened:
        assert len(opened.search("ferry", mode="vision")) == 2


def test_a_collection_of_an_earlier_one_says_how_to_make_it_anew(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pdf(tmp_path / "pdfs" / "a.pdf", PAGE_WORDS[:2])
    index_documents([tmp_path / "pdfs"], tmp_path / "c", Embedder.open("moca-tiny"))
    place_tiny(tmp_path / "newer", monkeypatch, seed=1)
    with Collection.open(tmp_path / "c") as opened:
        assert opened.search("ferry", mode="text")
        with pytest.raises(FingerprintError, match=r"model\.revision: .* --rebuild --model moca-tiny"):
            opened.search("ferry", mode="vision")


@pytest.mark.parametrize("name", bundled.TINY_FILES)
def test_a_copy_without_one_of_its_files_says_so(tiny: Path, name: str) -> None:
    assert bundled.has_tiny()
    (tiny / name).unlink()
    assert not bundled.has_tiny()
    with pytest.raises(ModelError, match="moca-tiny is not in this copy of moca_rag"):
        find_checkpoint("moca-tiny")


@shipped
def test_the_one_that_comes_along_reads_queries_and_pages() -> None:
    embedder = Embedder.open("moca-tiny", device="cpu")
    assert (embedder.card.pooling, embedder.card.dimension) == ("mean", 320)
    page = np.random.default_rng(0).integers(0, 256, (420, 504, 3), dtype=np.uint8)
    found = np.vstack(
        [embedder.encode_queries([Query("Why?"), Query("A table of costs")]), *embedder.encode_pages([page])]
    )
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)
    assert found[0] @ found[1] < 0.999


@shipped
def test_the_one_that_comes_along_is_half_precision_and_knows_its_mask() -> None:
    checkpoint = find_checkpoint("moca-tiny")
    tokenizer = load_tokenizer(checkpoint.folder / "tokenizer.json")
    assert read_settings(checkpoint).mask_token_id == tokenizer.token_to_id("<|mask|>")
    with (checkpoint.folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert {value["dtype"] for name, value in header.items() if name != "__metadata__"} == {"F16"}
    assert {path.name for path in checkpoint.folder.iterdir()} <= {*bundled.TINY_FILES, "README.md"}
