"""The command `moca model export`, and commands of two words."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from moca_rag.cli.main import run

from tests.small_model import write_small_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_small_model(tmp_path / "model")


def test_an_export_prints_the_json_that_is_promised(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.parent / "out"
    code = run(["model", "export", str(model), str(out), "--format", "qwen", "--dtype", "float32", "--json"])
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert (code, shown.err) == (0, "")
    assert list(report) == ["folder", "format", "dtype", "num_parameters", "size", "trial"]
    assert (report["folder"], report["format"], report["dtype"]) == (str(out), "qwen", "float32")
    assert report["size"] == sum(path.stat().st_size for path in out.iterdir()) > 4 * report["num_parameters"] > 0
    assert list(report["trial"]) == ["reader", "difference", "cosine", "unchecked"]
    assert report["trial"]["reader"].startswith("transformers 5.")
    assert report["trial"]["difference"] < 1e-5


def test_a_person_reads_where_it_lies_and_whether_it_was_proven(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = model.parent / "out"
    assert run(["model", "export", str(model), str(out), "--format", "qwen"]) == 0
    said = capsys.readouterr().out
    assert f"{out}: 234,048 numbers as bfloat16, 0.5 MB" in said
    assert "checked with transformers 5." in said
    assert run(["model", "export", str(model), str(out.with_name("two")), "--no-check"]) == 0
    assert "unchecked: not asked for" in capsys.readouterr().out


def test_a_taken_folder_and_an_unknown_model_are_one_line_each(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, complaint in (
        ([model, model], 2, "is there already: give a folder that is new or empty"),
        (["nowhere", model.parent / "out"], 1, "no model folder at nowhere"),
        ([model], 2, "OUT"),
    ):
        assert run(["model", "export", *map(str, words)]) == code
        said = capsys.readouterr().err
        assert complaint in said
        assert "Traceback" not in said


def test_a_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in ((["model"], 2), (["model", "--help"], 0)):
        assert run(words) == code
        said = capsys.readouterr().out
        assert "Usage: moca model COMMAND" in said
        assert "  model export  Write a model" in said
        assert "index" not in said


@pytest.mark.parametrize(("words", "hint"), [(["model", "exprot"], "moca model export"), (["serach"], "moca search")])
def test_a_mistyped_command_is_named_with_the_nearest(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    said = capsys.readouterr().err
    assert said == f"moca: there is no command {' '.join(words)!r}: did you mean `{hint}`?\n"


def test_the_help_of_an_export_loads_no_torch() -> None:
    code = "import sys; from moca_rag.cli.main import run; run(['model', 'export', '--help']); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "moca model export ./model ./model-st" in said
    assert said.endswith("False\n")
