"""The command `moca eval vidore`: its table, its JSON, its exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from moca_rag.cli.main import run

from tests.fakes import ColourEncoder
from tests.toy_vidore import stay_offline, use_encoder, write_by_language, write_plain


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with copies of two tasks of v2 in ./vidore, and a model whose embeddings can be predicted."""
    stay_offline(monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    use_encoder(monkeypatch, ColourEncoder())
    write_plain(tmp_path / "vidore" / "Vidore2ESGReportsHLRetrieval")
    write_plain(tmp_path / "vidore" / "Vidore2ESGReportsRetrieval", languages=True)
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(["eval", "vidore", *words.split()])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


ESG = "--model colours --data vidore --tasks Vidore2ESGReportsHLRetrieval,Vidore2ESGReportsRetrieval"


def test_a_person_sees_tasks_languages_and_the_papers_settings_apart(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys, ESG)
    assert (code, err) == (0, "runs and results are kept in moca-eval\n")
    ours, papers = out.split("the paper's settings")
    assert re.search(r"task +queries +ties +nDCG@5 \* +nDCG@10\n", ours)
    assert re.search(r"Vidore2ESGReportsRetrieval +11 +44 +80\.1 +80\.1\n", ours)
    assert re.search(r"  english +3 +12 +80\.5 +80\.5\n", ours)
    assert re.search(r"mean of 2 \(not the whole benchmark\) +80\.0 +80\.0\n", ours)
    assert re.search(r"ESG_Syn_Mul +80\.2\n", papers)
    assert re.search(r"mean of 3 \(the paper has 7\) +80\.2\n", papers)


def test_version_3_is_ranked_by_the_other_measure(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_by_language(place / "vidore" / "Vidore3HrRetrieval")
    code, out, _ = ask(capsys, "--version v3 --model colours --data vidore --tasks Vidore3HrRetrieval")
    assert code == 0
    assert re.search(r"nDCG@5 +nDCG@10 \*\n", out)
    assert "settings" not in out


def test_the_json_that_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys, f"{ESG} --out kept --languages english --json")
    report = json.loads(out)
    assert (code, err) == (0, "")
    names = ["version", "model", "revision", "official", "tasks", "settings", "failed", "missing", "out", "mean"]
    assert list(report) == names
    assert (report["version"], report["model"], report["official"]) == ("v2", "local/colours", "ndcg_5")
    task = report["tasks"][0]
    assert list(task) == ["name", "ndcg_5", "ndcg_10", "subsets"]
    assert list(task["subsets"][0]) == ["name", "num_queries", "num_ties", "ndcg_5", "ndcg_10"]
    assert list(report["settings"]) == ["ESG_Human", "ESG_Syn"]
    assert Path("kept/results/local__colours/1/Vidore2ESGReportsRetrieval.json").is_file()


def test_a_task_without_data_is_named_and_the_code_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, f"{ESG},Vidore2EconomicsReportsRetrieval")
    assert code == 3
    assert "Vidore2EconomicsReportsRetrieval was not run: the data set vidore/economics_reports_v2 is neither" in out
    assert "--local-dir vidore/economics_reports_v2, then --data vidore\n" in out
    code, _, err = ask(capsys, "--model colours --tasks Vidore2EconomicsReportsRetrieval")
    assert code == 1
    assert err.startswith("moca: the data set vidore/economics_reports_v2 is neither local nor cached")
    assert err.count("\n") == 1


def test_the_engine_is_judged_with_and_without_a_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_by_language(place / "vidore" / "Vidore3HrRetrieval.v2", languages=["english"], with_text=True)
    words = "--version v3.1 --engine --data vidore --tasks Vidore3HrRetrieval.v2 --languages english --json"
    scores = {}
    for model in ("", "--model colours", "--model colours --mode vision"):
        code, out, _ = ask(capsys, f"{words} {model}")
        assert code == 0
        report = json.loads(out)
        scores[report["model"]] = report["mean"]["ndcg_10"]
    assert list(scores) == [
        "moca_rag/engine-text",
        "local/colours-engine-hybrid",
        "local/colours-engine-vision",
    ]
    assert len(set(scores.values())) > 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--version v4 --model colours", "known: v1, v2, v3, v3.1"),
        ("", "name a model with --model, or --engine"),
        ("--model colours --mode text", "add --engine"),
        ("--model colours --data nowhere", "--data nowhere is no folder"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(
    words: str, complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOCA_MODEL", raising=False)
    code, _, err = ask(capsys, words)
    assert code == 2
    assert complaint in err
    assert err.count("\n") == 1


def test_the_help_loads_neither_torch_nor_mteb() -> None:
    code = (
        "import sys; from moca_rag.cli.main import run; run(['eval', 'vidore', '--help']); "
        "print({'torch', 'mteb', 'datasets'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "moca eval vidore --version v3.1 --engine" in said
    assert said.endswith("set()\n")
