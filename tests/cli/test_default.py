"""The model of a new collection: moca-tiny where nothing is named, and what is already there stays what it is."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from moca_rag.cli.doctor import examine

from moca_rag import bundled
from moca_rag.fingerprint import read_fingerprint
from tests.faults import Moca
from tests.makers import PAGE_WORDS, make_pdf
from tests.small_model import write_small_model

SAID = (
    "This is a hybrid collection: pages are found by their words and their look, read by moca-tiny. "
    "With --rebuild, --model moca-embed/MoCa-Qwen25VL-3B is the large model, "
    "--mode text is by words alone and many times as fast."
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_small_model(tmp_path_factory.mktemp("package") / "tiny")
    (folder / "moca.json").write_text('{"min_pixels": 25088, "max_pixels": 60000}')
    return folder


@pytest.fixture
def fresh(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Moca:
    """No collection yet, no model named, a small model in the place of moca-tiny, and ./pdfs."""
    monkeypatch.setattr(bundled, "TINY_FOLDER", tiny)
    monkeypatch.setattr(bundled, "IS_DEFAULT", True)
    monkeypatch.delenv("MOCA_MODEL")
    monkeypatch.chdir(tmp_path)
    make_pdf(tmp_path / "pdfs" / "a.pdf", PAGE_WORDS[:2])
    return Moca(capsys, tmp_path / "collection")


def kind(moca: Moca) -> tuple[str, str | None]:
    """Mode and model of the collection."""
    found = read_fingerprint(moca.collection)
    return found.mode, found.model.name if found.model else None


def test_a_new_collection_is_hybrid_with_moca_tiny_and_says_so_once(fresh: Moca) -> None:
    made = fresh("index", "pdfs")
    assert (made.code, made.err) == (0, SAID + "\n")
    assert kind(fresh) == ("hybrid", "moca-tiny")
    again = fresh("index", "pdfs")
    assert (again.code, again.err) == (0, "")
    hits = fresh("search", "ferry timber", "--json").json["hits"]
    assert all(hit["vision"] is not None for hit in hits)


@pytest.mark.parametrize("words", [["--mode", "text"], ["--model", "none"], ["--model", "none", "--mode", "text"], []])
def test_words_alone_are_asked_for_by_mode_by_model_or_by_the_variable(
    fresh: Moca, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    if not words:
        monkeypatch.setenv("MOCA_MODEL", "none")
    outcome = fresh("index", "pdfs", *words)
    assert (outcome.code, kind(fresh)) == (0, ("text", None))
    assert outcome.err.count("\n") == 1
    assert "`moca index --rebuild --model moca-tiny` adds search by look" in outcome.err
    assert "; moca-embed/MoCa-Qwen25VL-3B is the large model." in outcome.err


def test_another_model_or_mode_may_be_named(fresh: Moca, tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model", seed=1)
    assert fresh("index", "pdfs", "--model", model).err == ""
    assert kind(fresh) == ("hybrid", str(model))
    fresh.collection = tmp_path / "looks"
    assert fresh("index", "pdfs", "--mode", "vision").code == 0
    assert kind(fresh) == ("vision", "moca-tiny")


def test_a_setting_of_the_model_goes_to_the_default_and_to_no_text_collection(fresh: Moca, tmp_path: Path) -> None:
    assert fresh("index", "pdfs", "--set", "dimension=16").code == 0
    model = read_fingerprint(fresh.collection).model
    assert model is not None and (model.name, model.dimension) == ("moca-tiny", 16)
    fresh.collection = tmp_path / "text"
    assert "belong to a model" in fresh("index", "pdfs", "--model", "none", "--set", "dimension=16").complaint


def test_a_text_collection_stays_one_also_when_it_is_rebuilt(fresh: Moca, tmp_path: Path) -> None:
    fresh("index", "pdfs", "--mode", "text")
    make_pdf(tmp_path / "pdfs" / "b.pdf", PAGE_WORDS[2:4])
    for words in (["pdfs"], ["--rebuild"]):
        assert fresh("index", *words).code == 0
        assert (kind(fresh), len(fresh.pages())) == (("text", None), 2)
    assert fresh("index", "--rebuild", "--model", "moca-tiny").code == 0
    assert kind(fresh) == ("hybrid", "moca-tiny")


def test_a_collection_of_another_model_goes_on_with_its_own(fresh: Moca, tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model", seed=1)
    fresh("index", "pdfs", "--model", model)
    make_pdf(tmp_path / "pdfs" / "b.pdf", PAGE_WORDS[2:4])
    for words in (["pdfs"], ["--rebuild"]):
        outcome = fresh("index", *words)
        assert (outcome.code, outcome.err) == (0, "")
        assert (kind(fresh), len(fresh.pages())) == (("hybrid", str(model)), 2)
    refused = fresh("index", "pdfs", "--model", "none")
    assert refused.code == 1
    assert "hybrid -> text" in refused.complaint
    assert "`moca index --rebuild --mode text`" in refused.complaint
    assert fresh("index", "--rebuild", "--model", "none").code == 0
    assert kind(fresh) == ("text", None)


def test_a_collection_that_has_lost_its_settings_is_rebuilt_as_a_new_one(fresh: Moca) -> None:
    fresh("index", "pdfs", "--mode", "text")
    (fresh.collection / "collection.toml").write_text("garbage [[[")
    assert fresh("index", "pdfs").code == 1
    assert fresh("index", "--rebuild", "pdfs").code == 0
    assert kind(fresh) == ("hybrid", "moca-tiny")


def test_a_mistyped_path_makes_nothing_and_says_one_thing(fresh: Moca) -> None:
    assert "pdsf" in fresh("index", "pdsf").complaint
    assert not fresh.collection.exists()


def test_while_moca_tiny_is_no_default_a_new_collection_is_by_words(
    fresh: Moca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "IS_DEFAULT", False)
    assert fresh("index", "pdfs").code == 0
    assert kind(fresh) == ("text", None)
    assert fresh("index", "--rebuild", "pdfs", "--model", "moca-tiny").code == 0
    assert kind(fresh) == ("hybrid", "moca-tiny")


def test_a_copy_without_moca_tiny_makes_a_text_collection(
    fresh: Moca, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "TINY_FOLDER", tmp_path / "nowhere")
    made = fresh("index", "pdfs")
    assert (made.code, kind(fresh)) == (0, ("text", None))
    assert made.err.count("\n") == 1 and "--model moca-embed/MoCa-Qwen25VL-3B` adds search by look" in made.err
    fresh.collection = tmp_path / "other"
    assert "--model" in fresh("index", "pdfs", "--mode", "hybrid").complaint
    assert "moca-tiny is not in this copy" in fresh("index", "pdfs", "--model", "moca-tiny").complaint
    assert not fresh.collection.exists()
    assert "moca-tiny is not in this copy" in next(found.what for found in examine() if found.name == "model")


def test_without_torch_a_new_collection_is_by_words_alone(fresh: Moca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moca_rag.indexer.command.find_spec", lambda name: None)
    assert fresh("index", "pdfs").code == 0
    assert kind(fresh) == ("text", None)


def test_the_doctor_says_that_it_is_there(fresh: Moca) -> None:
    (found,) = [found for found in examine() if found.name == "model"]
    assert (found.state, "moca-tiny comes along" in found.what) == ("fine", True)


def test_a_folder_is_judged_with_the_default_too(fresh: Moca, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pytrec_eval")
    from moca_rag.cli.main import run

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    judged = tmp_path / "judged"
    shutil.copytree(tmp_path / "pdfs", judged / "pdfs")
    (judged / "queries.jsonl").write_text('{"_id": "q1", "text": "ferry"}')
    (judged / "qrels.tsv").write_text("q1\ta.pdf#1\t1")
    assert run(["eval", "folder", str(judged), "--json"]) == 0
    assert '"hybrid"' in fresh._capsys.readouterr().out


def test_a_run_that_finds_nothing_new_loads_no_torch(fresh: Moca, tiny: Path) -> None:
    assert fresh("index", "pdfs").code == 0
    code = (
        "import pathlib, sys; from moca_rag import bundled; from moca_rag.cli.main import run; "
        f"bundled.TINY_FOLDER = pathlib.Path({str(tiny)!r}); place = ['pdfs', '-c', {str(fresh.collection)!r}]; "
        "codes = [run(['index', *place]), run(['index', *place, '--model', 'moca-tiny'])]; "
        "print(codes, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.endswith("[0, 0] False\n")


@pytest.mark.parametrize(("gone", "complaint"), [(False, "model.revision"), (True, "moca-tiny is not in this copy")])
def test_where_the_model_changed_or_is_gone_words_go_on_answering(
    fresh: Moca, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool, complaint: str
) -> None:
    fresh("index", "pdfs")
    if gone:
        monkeypatch.setattr(bundled, "TINY_FOLDER", tmp_path / "nowhere")
    else:
        other = write_small_model(tmp_path / "other", seed=1)
        monkeypatch.setattr(bundled, "TINY_FOLDER", Path(shutil.copy(tiny / "moca.json", other)).parent)
    asked = ("search", "ferry timber", "--json")
    found = fresh(*asked)
    assert found.code == 0 and complaint in found.err and "words alone answer" in found.err
    assert found.json["hits"] == fresh(*asked, "--mode", "text").json["hits"] != []
    for more in (["--mode", "hybrid"], ["--explain"], ["--image", str(tmp_path / "pdfs" / "a.pdf")]):
        refused = fresh(*asked, *more)
        assert refused.code == 1 and complaint in refused.complaint and "words alone" not in refused.err


def test_a_question_in_words_loads_no_torch(fresh: Moca, tiny: Path) -> None:
    assert fresh("index", "pdfs").code == 0
    code = (
        "import pathlib, sys; from moca_rag import bundled; from moca_rag.cli.main import run; "
        f"bundled.TINY_FOLDER = pathlib.Path({str(tiny)!r}); "
        f"print(run(['search', 'ferry', '-c', {str(fresh.collection)!r}]), 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.endswith("0 False\n")
