"""The command `moca data prepare`."""

import json
from pathlib import Path

import pytest
from moca_rag.cli.main import run

from tests.small_datasets import write_cpt_set, write_mix, write_table


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command over two small sets, one of which has a broken row."""
    sets = tmp_path / "sets"
    write_cpt_set(sets / "owner/pages")
    write_table(sets / "owner/lines/data/x.parquet", [{"text": "fine"}, {"text": ""}])
    mix = write_mix(tmp_path / "mix.yaml", [{"path": f"owner/{name}/data/*.parquet"} for name in ("pages", "lines")])
    return ["data", "prepare", "cpt", str(tmp_path / "out"), "--config", str(mix), "--data", str(sets)]


def test_a_dry_run_tells_what_there_is_and_what_it_takes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--rows", "12", "--dry-run"]) == 0
    head, pages, lines, total = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "set"
    assert pages.split()[:5] == ["pages", "local", "3", "60", "12"]
    assert lines.split()[:5] == ["lines", "local", "1", "2", "2"]
    assert total.startswith(f"{words[3]}: about 0.1 MB to write, ")
    assert not Path(words[3]).exists()


def test_a_person_reads_what_was_written_and_what_was_left_out(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--rows", "12"]) == 3
    shown = capsys.readouterr()
    _, pages, lines, total, left_out = shown.out.splitlines()
    assert shown.err.startswith("about 0.1 MB to read, 0.1 MB to write, ")
    assert pages.split()[:4] == ["pages", "local", "12", "0"]
    assert lines.split()[:4] == ["lines", "local", "1", "1"]
    assert total == f"{words[3]}: 13 rows, 0.1 MB"
    assert left_out == "left out: lines, data/x.parquet, group 1, row 2: it has neither text nor image"


def test_a_program_reads_the_same(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--only", "pages", "--seed", "4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["folder"], report["stage"], report["dry_run"]) == (words[3], "cpt", False)
    (one,) = report["sets"]
    assert (one["name"], one["place"], one["rows_there"], one["rows"]) == ("pages", "local", 60, 60)


def test_what_cannot_be_done_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for more, code, complaint in (
        (["--only", "page"], 2, "did you mean 'pages'"),
        (["--rows", "0"], 2, "rows is 0"),
        (["--data", "nowhere"], 2, "--data nowhere is no folder"),
    ):
        assert run([*words, *more]) == code
        said = capsys.readouterr().err
        assert complaint in said
        assert said.count("\n") == 1
