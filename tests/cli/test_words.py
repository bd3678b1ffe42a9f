"""Questions, options and names that cannot be used: one clear line and the right code, before anything is loaded."""

import time
from pathlib import Path

import pytest

from tests.faults import Moca, run_apart
from tests.makers import PAGE_WORDS, make_pdf, make_picture


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents, a picture, and a text collection of them."""
    from moca_rag.indexer.pipeline import index_documents

    folder = tmp_path_factory.mktemp("library")
    make_pdf(folder / "docs" / "good.pdf", PAGE_WORDS[:3])
    make_picture(folder / "docs" / "picture.png")
    index_documents([folder / "docs"], folder / "collection", tags={"team": "finance"})
    return folder


@pytest.fixture
def moca(library: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Moca:
    monkeypatch.chdir(library)
    return Moca(capsys, library / "collection")


USAGE: dict[str, tuple[list[str], str]] = {
    "no question": (["search"], "empty"),
    "an empty question": (["search", ""], "empty"),
    "a blank question": (["search", " \t\n"], "empty"),
    "punctuation": (["search", "?!. --- (*) \"'"], "no word"),
    "no hits asked for": (["search", "ferry", "-k", "0"], "-k 0"),
    "fewer than none": (["search", "ferry", "-k", "-3"], "-k -3"),
    "an unknown filter": (["search", "ferry", "--where", "colour=red"], "colour"),
    "a filter of another shape": (["search", "ferry", "--where", "team"], "key=value"),
    "a ranking that is not here": (["search", "ferry", "--mode", "vision"], "--rebuild"),
    "a picture in a text collection": (["search", "--image", "docs/picture.png"], "--rebuild"),
    "a picture asked by words": (["search", "ferry", "--image", "docs/picture.png", "--mode", "text"], "picture"),
    "a page that is not there": (["show", "good.pdf#9"], "1 to 3"),
    "a page without number": (["show", "good.pdf"], "DOCUMENT#PAGE"),
    "a document that is not there": (["show", "bad.pdf#1"], "bad.pdf"),
    "a document to remove that is not there": (["rm", "bad.pdf"], "bad.pdf"),
    "a folder that is not there": (["index", "nowhere"], "nowhere"),
    "a tag of another shape": (["index", "docs", "--tag", "team"], "key=value"),
    "an unknown setting": (["index", "docs", "--set", "page_timeout=3"], "page_timeout_s"),
    "a setting of another type": (["index", "docs", "--set", "page_timeout_s=long"], "page_timeout_s"),
    "a settings file that is not there": (["index", "docs", "--config", "nowhere.yaml"], "nowhere.yaml"),
    "a look without a model": (["index", "docs", "--mode", "hybrid"], "--model"),
}


@pytest.mark.parametrize("case", USAGE)
def test_what_cannot_be_used_is_one_line_and_code_2(moca: Moca, case: str) -> None:
    words, expected = USAGE[case]
    outcome = moca(*words)
    assert outcome.code == 2
    assert outcome.complaint.startswith("moca: ")
    assert expected in outcome.complaint
    assert outcome.out == ""


ERRORS: dict[str, tuple[list[str], str]] = {
    "a model folder that is not there": (["index", "docs", "--model", "./nowhere"], "nowhere"),
    "a folder without a model": (["index", "docs", "--model", "docs"], "config.json"),
    "a hub that is switched off": (["index", "docs", "--model", "nobody/nothing"], "HF_HUB_OFFLINE"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_model_that_cannot_be_found_is_one_line_and_code_1(library: Path, case: str) -> None:
    words, expected = ERRORS[case]
    began = time.monotonic()
    arguments = [str(library / word) if word == "docs" else word for word in words]
    outcome = run_apart(*arguments, "-c", library / "other", HF_HUB_OFFLINE="1", HF_HOME=str(library / "hub"))
    assert outcome.code == 1
    assert expected in outcome.complaint
    assert time.monotonic() - began < 10  # a second on a machine that has nothing else to do
    assert not (library / "other").exists()


@pytest.mark.parametrize(
    "words", [["search", "ferry"], ["ls"], ["status"], ["show", "a.pdf#1"], ["rm", "a.pdf"], ["verify"], ["compact"]]
)
def test_no_collection_is_one_line_that_says_how_to_make_one(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = Moca(capsys, tmp_path / "none")(*words)
    assert outcome.code == 1
    assert "moca index" in outcome.complaint
    assert not (tmp_path / "none").exists()


def test_a_folder_of_other_files_is_not_taken_for_a_collection(moca: Moca, library: Path) -> None:
    files = sorted(library.joinpath("docs").iterdir())
    moca.collection = library / "docs"
    for words in (["index", "docs"], ["index", "docs", "--rebuild"]):
        outcome = moca(*words)
        assert outcome.code == 1
        assert "holds other files" in outcome.complaint
    assert sorted(library.joinpath("docs").iterdir()) == files


def test_no_hits_is_one_line_and_no_error(moca: Moca) -> None:
    outcome = moca("search", "zeppelin")
    assert (outcome.code, outcome.out) == (0, "")
    assert "No page matches" in outcome.complaint
    empty = moca("search", "zeppelin", "--json")
    assert (empty.code, empty.json["hits"], empty.err) == (0, [], "")
    assert moca("search", "ferry", "--in", "nothing/*").code == 0


@pytest.mark.parametrize(
    "query", ['"', "ferry AND", "NEAR(", "a OR b*", "^ferry", "body:ferry", "ferry -timber", "; DROP"]
)
def test_no_question_is_read_as_syntax(moca: Moca, query: str) -> None:
    outcome = moca("search", query)
    assert outcome.code in (0, 2)
    assert "Traceback" not in outcome.err
    assert "sqlite" not in outcome.err


def test_a_command_or_option_that_is_not_there_is_named_with_the_nearest(moca: Moca) -> None:
    command = moca("serch", "ferry")
    assert command.code == 2
    assert "moca search" in command.complaint
    for option in (["index", "--modle", "x"], ["search", "ferry", "--nope"], ["search", "ferry", "-k", "many"]):
        outcome = moca(*option)
        assert (outcome.code, outcome.out) == (2, "")
        assert "Traceback" not in outcome.err
        assert option[-2] in outcome.err or option[-1] in outcome.err
        assert len([line for line in outcome.err.splitlines() if line.startswith("Error: ")]) == 1
