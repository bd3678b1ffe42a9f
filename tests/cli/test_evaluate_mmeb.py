"""The commands `moca eval mmeb` and `moca eval compare`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from moca_rag.cli.main import run

from tests.small_mmeb import colour_rows, picture_rows, write_mmeb, write_rows
from tests.small_model import write_small_model


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_small_model(tmp_path / "model")
    write_mmeb(tmp_path / "data", {"OK-VQA": colour_rows("OK-VQA"), "VisDial": picture_rows("VisDial")})
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(["eval", *words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_real_model_is_judged_and_the_json_is_as_promised(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys, "mmeb", "--model", "model", "--data", "data", "--json")
    report = json.loads(out)
    assert code == 0
    assert list(report) == ["model", "folder", "tasks", "averages", "missing", "failed"]
    assert [row["task"] for row in report["tasks"]] == ["OK-VQA", "VisDial"]
    assert set(report["tasks"][0]) == {
        *("task", "num_queries", "num_candidates", "precision_at_1"),
        *("interval", "num_ties"),
    }
    assert len(report["missing"]) == 34
    assert err.splitlines() == [f"{row['task']}: {100 * row['precision_at_1']:.1f}" for row in report["tasks"]]
    kept = json.loads((place / report["folder"] / "VisDial.json").read_text())
    assert (kept["benchmark"], kept["precision_at_1"]) == ("mmeb", report["tasks"][1]["precision_at_1"])


def test_a_person_sees_a_line_for_each_task_and_what_is_missing(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = ask(capsys, "mmeb", "--model", "model", "--data", "data", "--tasks", "VisDial, OK-VQA")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["task", "precision@1", "95%", "interval", "queries", "candidates", "ties"]
    assert [line.split()[0] for line in lines[1:3]] == ["OK-VQA", "VisDial"]
    assert "2 of 36 tasks: no average over all without ImageNet-1K, " in out
    assert lines[-1].startswith("figures, runs and qrels: moca-eval/mmeb/model-")


def test_a_second_run_loads_no_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = ask(capsys, "mmeb", "--model", "model", "--data", "data")
    code = (
        "import sys; from moca_rag.cli.main import run;"
        "code = run(['eval', 'mmeb', '--model', 'model', '--data', 'data']); print(code, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == first[1] + "0 False\n"


def test_a_task_that_cannot_be_read_is_named_and_the_rest_is_judged(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = picture_rows("VisDial")
    rows[1]["tgt_img_path"][2] = "VisDial/none.png"
    write_rows(place / "data", "VisDial", rows)
    code, out, _ = ask(capsys, "mmeb", "--model", "model", "--data", "data")
    assert code == 3
    assert "VisDial failed: row 2: the picture VisDial/none.png is not in images.zip" in out
    assert "OK-VQA" in out


def test_faults_are_one_line_each(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, complaint in (
        (["--data", "data", "--tasks", "VisDail"], 2, "did you mean 'VisDial'"),
        (["--data", "nowhere"], 2, "hf download TIGER-Lab/MMEB-eval --repo-type dataset --local-dir nowhere"),
        (["--data", "data", "--model", "nowhere"], 1, "no model folder at nowhere"),
    ):
        got, _, err = ask(capsys, "mmeb", "--model", "model", *words)
        assert got == code
        assert complaint in err
        assert err.count("\n") == 1


def test_a_comparison_shows_ours_theirs_and_the_difference(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, "mmeb", "--model", "model", "--data", "data")
    score = json.loads(next(place.glob("moca-eval/mmeb/*/VisDial.json")).read_text())["precision_at_1"] * 100
    code, out, _ = ask(capsys, "compare", "moca-eval")
    assert code == 0
    assert "mmeb: model" in out
    assert ["ours", "MoCa-3B", "±", "MoCa-7B", "±"] in [line.split() for line in out.splitlines()]
    expected = ["VisDial", f"{score:.1f}", "80.5", f"{score - 80.5:+.1f}", "84.5", f"{score - 84.5:+.1f}"]
    assert expected in [line.split() for line in out.splitlines()]
    code, out, _ = ask(capsys, "compare", "moca-eval", "--beside", "GME", "--beside", "mmE5", "--json")
    (comparison,) = json.loads(out)["comparisons"]
    assert list(comparison) == ["benchmark", "model", "folder", "rows", "others"]
    row = comparison["rows"][1]
    assert (row["name"], row["theirs"]) == ("VisDial", {"GME": None, "mmE5": 73.7})
    assert row["difference"]["GME"] is None
    assert row["difference"]["mmE5"] == pytest.approx(score - 73.7)


def test_a_folder_without_results_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ask(capsys, "compare", "data")
    assert code == 2
    assert err == "moca: data holds no results of `moca eval`: give their folder, or their JSON files\n"
