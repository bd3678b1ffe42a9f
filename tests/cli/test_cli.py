import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from moca_rag.cli.doctor import examine_faiss
from moca_rag.cli.main import COMMANDS, run
from PIL import Image

from tests.fakes import write_pdf
from tests.fonts import write_fonts
from tests.small_datasets import write_paper_sets
from tests.small_documents import write_small_documents
from tests.small_mmeb import colour_rows, write_mmeb
from tests.small_model import write_small_model
from tests.small_packages import write_small_packages
from tests.toy_vidore import write_by_language, write_plain


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder as the help texts assume it: ./pdfs, indexed into the default collection."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOCA_COLLECTION", str(tmp_path / "collection"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    report = ["Cover of the report", "Energy cost 4,210 euros in 2023", "The invoice total was 99 euros"]
    write_pdf(tmp_path / "pdfs" / "report.pdf", report, title="Energy report")
    write_pdf(tmp_path / "pdfs" / "drafts" / "draft.pdf", ["A draft about nothing"])
    write_pdf(tmp_path / "pdfs" / "minutes.pdf", ["Minutes of the meeting"])
    assert run(["index", "pdfs"]) == 0
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(list(arguments))
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_two_examples_that_run(place: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    if name in ("model export", "eval mmeb", "eval compare", "eval vidore", "eval weights"):
        write_small_model(place / "model")
    if name in ("eval mmeb", "eval compare"):
        write_mmeb(place / "MMEB-eval", {task: colour_rows(task) for task in ("CIRR", "OK-VQA")})
    if name == "eval compare":
        ask(capsys, "eval", "mmeb", "--model", "model", "--data", "MMEB-eval")
    if name in ("eval folder", "eval weights"):
        asked = [{"_id": "q1", "text": "energy cost"}, {"_id": "q2", "text": "a red square"}]
        for folder in (place / "judged", place / "asked"):
            write_pdf(folder / "pdfs" / "report.pdf", ["Energy cost 4,210 euros in 2023", "red:"])
            (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)))
            (folder / "qrels.tsv").write_text("q1\treport.pdf#1\t1\nq2\treport.pdf#2\t1\n")
    if name == "eval vidore":
        write_plain(place / "vidore" / "Vidore2ESGReportsHLRetrieval")
        write_by_language(place / "vidore" / "Vidore3HrRetrieval.v2", with_text=True)
    if name in ("train cpt", "train cl", "data mine"):
        write_small_model(place / "model")
        assert ask(capsys, "data", "from-pdfs", "pdfs", "rows", "--held-out", "0")[0] == 0
    if name in ("model new", "train base", "data exam"):
        write_small_documents(place / "texts.jsonl.gz")
        (place / "fonts").mkdir()
        write_fonts(place / "fonts")
        (place / "sizes.yaml").write_text("vocab_size: 400\nnum_hidden_layers: 2\n")
    if name == "train base":
        write_small_model(place / "new")
    if name == "data corpus":
        if shutil.which("dpkg-deb") is None:
            pytest.skip("packages are made and unpacked by dpkg-deb")
        write_small_packages(place)
    if name == "data prepare":
        write_paper_sets(place / "datasets")
    if name == "train plot":
        for run_name in ("cpt", "without-mae"):
            log = place / "runs" / run_name / "log.jsonl"
            log.parent.mkdir(parents=True)
            log.write_text("".join(f'{{"step": {step}, "loss": {9 - step}}}\n' for step in range(1, 6)))
    code, out, _ = ask(capsys, name, "--help")
    examples = re.findall(r"^ *(moca .+?)$", out[out.index("Examples:") :], re.MULTILINE)[:2]
    assert code == 0
    assert len(examples) == 2
    for example in examples:
        words = shlex.split(example)
        assert f"{example} ".startswith(f"moca {name} ")
        code, out, err = ask(capsys, *words[1:])
        assert code == 0 or name == "doctor", err
        assert out


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "--help")
    assert code == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", out, re.MULTILINE)


def test_search_prints_the_json_that_is_promised(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys, "search", "energy costs", "--json")
    answer = json.loads(out)
    assert (code, err, answer["query"]) == (0, "", "energy costs")
    hit = answer["hits"][0]
    assert list(hit) == ["rank", "score", "document", "page", "vision", "passages", "text", "snippet", "boxes"]
    assert (hit["rank"], hit["document"], hit["page"], hit["vision"]) == (1, "report.pdf", 2, None)
    assert "4,210" in hit["snippet"]
    assert all(0 <= side <= 1 for box in hit["boxes"] for side in box)


def test_index_prints_the_json_that_is_promised(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "pdfs" / "broken.pdf").write_bytes(b"%PDF-")
    code, out, _ = ask(capsys, "index", "pdfs", "--json")
    report = json.loads(out)
    assert code == 3
    counted = {key: report[key] for key in ("documents", "pages", "added", "changed", "unchanged", "removed")}
    assert counted == {"documents": 3, "pages": 5, "added": 0, "changed": 0, "unchanged": 3, "removed": 0}
    (failed,) = report["failed"]
    assert set(failed) == {"path", "reason", "code"}
    assert failed["path"] == "broken.pdf"
    assert report["seconds"]["total"] > 0


def test_a_person_sees_a_table_with_page_and_snippet(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "search", "invoice")
    assert code == 0
    assert re.search(r"1 +report\.pdf +3 +\d\.\d+ +The invoice total", out)


def test_a_text_collection_says_in_one_line_what_it_is(
    place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = ask(capsys, "index", "pdfs", "--collection", str(tmp_path / "new"))
    assert code == 0
    assert err.count("\n") == 1
    assert "text collection" in err
    assert "--model" in err
    _, _, err = ask(capsys, "index", "pdfs", "--collection", str(tmp_path / "new"))
    assert err == ""


def test_hits_are_saved_with_their_matches_marked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "search", "invoice", "--save", "hits")
    (path,) = (place / "hits").iterdir()
    assert path.name == "01_report.pdf_p3.png"
    with Image.open(path) as page:
        colours = {colour for _, colour in page.convert("RGB").getcolors(1 << 24) or []}
    assert (255, 221, 51) in colours


def test_a_hit_whose_file_is_gone_is_shown_and_said_not_to_be_saved(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "pdfs" / "report.pdf").unlink()
    code, out, err = ask(capsys, "search", "invoice", "--save", "hits")
    assert code == 0
    assert "The invoice total" in out
    assert "report.pdf#3 was not saved" in err
    assert list((place / "hits").iterdir()) == []


def test_show_draws_a_page(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "show", "report.pdf#1", "-o", "page.png")
    assert (code, out.strip()) == (0, "page.png")
    with Image.open(place / "page.png") as page:
        assert page.size[0] > 900


def test_rm_takes_documents_out_and_leaves_the_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "rm", "drafts")[0] == 0
    documents = json.loads(ask(capsys, "ls", "--json")[1])["documents"]
    assert [row["document"] for row in documents] == ["minutes.pdf", "report.pdf"]
    assert (place / "pdfs" / "drafts" / "draft.pdf").exists()
    assert ask(capsys, "rm", "nothing.pdf")[0] == 2


def test_status_names_failures_with_their_reasons(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "pdfs" / "empty.pdf").write_bytes(b"")
    ask(capsys, "index", "pdfs")
    assert "empty.pdf: the file is empty (empty_file)" in ask(capsys, "status")[1]
    assert json.loads(ask(capsys, "status", "--json")[1])["failed"][0]["code"] == "empty_file"


def test_a_dry_run_changes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "pdfs" / "minutes.pdf").unlink()
    assert "1 would be removed" in ask(capsys, "index", "pdfs", "--dry-run")[1]
    assert len(json.loads(ask(capsys, "ls", "--json")[1])["documents"]) == 3


def test_a_rebuild_takes_the_place_of_the_old_collection(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "index", "pdfs", "--tag", "year=2023")
    catalog = place / "collection" / "catalog.sqlite"
    before = catalog.stat().st_ino
    code, out, err = ask(capsys, "index", "--rebuild")
    assert code == 0, err
    assert "3 added" in out
    assert catalog.stat().st_ino != before
    assert ask(capsys, "search", "invoice", "--where", "year=2023")[0] == 0
    assert sorted(path.name for path in place.iterdir()) == ["collection", "pdfs"]


def test_settings_can_be_named_one_by_one_or_in_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "knobs.yaml").write_text("page_timeout_s: 5\n")
    assert ask(capsys, "index", "pdfs", "--config", "knobs.yaml", "--set", "commit_pages=8")[0] == 0
    code, _, err = ask(capsys, "index", "pdfs", "--set", "page_timeout=5")
    assert code == 2
    assert "did you mean 'page_timeout_s'" in err


@pytest.mark.parametrize(
    ("cpu", "gpu", "has_gpu", "state", "advice"),
    [
        ("1.15", None, False, "fine", ""),
        (None, "1.15", True, "fine", ""),
        (None, None, False, "note", "moca_rag[cpu]"),
        (None, None, True, "note", "moca_rag[gpu]"),
        ("1.15", "1.15", False, "wrong", "pip uninstall"),
        (None, "1.15", False, "wrong", "moca_rag[cpu]"),
        ("1.15", None, True, "note", "moca_rag[gpu]"),
    ],
)
def test_the_doctor_sees_no_faiss_both_and_the_wrong_one(
    cpu: str | None, gpu: str | None, has_gpu: bool, state: str, advice: str
) -> None:
    finding = examine_faiss(cpu, gpu, has_gpu=has_gpu)
    assert finding.state == state
    assert advice in finding.advice
