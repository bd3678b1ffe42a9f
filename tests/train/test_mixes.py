"""Mixes: refused at once where they cannot be used, and what they take told before; rows and files that are broken."""

import re
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from moca_rag.train import prepare
from moca_rag.train.mixes import Mix, load_mix
from moca_rag.train.rows import IMAGE_SLOT
from moca_rag.train.settings import Source
from moca_rag.train.sources import open_cpt

from moca_rag.errors import ConfigError, DocumentError
from tests.small_datasets import FakeHub, build, cpt_row, png, write_mix, write_sets, write_table

Disk = namedtuple("Disk", "free")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    return write_sets(tmp_path / "sets")


# -- mixes -------------------------------------------------------------------------------------------------------------


def test_the_mixes_of_the_paper_are_whole() -> None:
    cpt, cl = load_mix("cpt"), load_mix("cl")
    assert (cpt.rows, cpt.draw, len(cpt.sets)) == (500_000, "random", 10)
    assert (cl.rows, cl.draw, cl.negatives) == (50_000, "first", 2)
    names = {one.name for one in cl.sets}
    assert {
        "visrag_ind",
        "visrag_syn",
        "tevatron_colpali",
        "TAT-DQA",
        "ArxivQA",
        "mmE5-VQA",
        "nq",
        "t2ranking",
    } <= names
    assert sum("MMEB-train" in one.images for one in cl.sets) == 20
    assert load_mix("cpt", rows=7, seed=5) == Mix(7, "random", 5, sets=cpt.sets)


@pytest.mark.parametrize(
    ("one", "complaint"),
    [
        ({"path": "owner/name"}, "write owner/name/files"),
        ({"path": "a/b/../c"}, "write owner/name/files"),
        ({"path": "a/b/c.parquet", "format": "docmatrix"}, "did you mean 'docmatix'"),
        ({"path": "a/b/c.parquet", "format": "docmatix"}, "it is for the stage cpt"),
        ({"path": "a/b/c.parquet", "columns": {"query": "q"}}, "did you mean 'query_text'"),
        ({"path": "a/b/c.parquet", "name": "../up"}, "none of a folder"),
        ({"path": "a/taken/c.parquet"}, "the name 'taken' is taken"),
        ({"path": "a/b/c.parquet", "colums": {}}, "did you mean 'columns'"),
    ],
)
def test_a_mix_that_cannot_be_used_is_refused_at_once(tmp_path: Path, one: dict[str, Any], complaint: str) -> None:
    path = write_mix(tmp_path / "mix.yaml", [{"path": "a/taken/x.parquet"}, one])
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        load_mix("cl", path)


def test_a_name_that_the_mix_lacks_is_told_with_its_neighbour(sets: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'pages'"):
        build(sets, tmp_path / "out", only=["page"])
    for settings, complaint in (
        ({"rows": 0}, "rows is 0"),
        ({"draw": "last"}, "draw is 'last'"),
        ({}, "lists no data sets"),
    ):
        path = write_mix(tmp_path / "mix.yaml", [{"path": "a/b/c.parquet"}] if settings else [], **settings)
        with pytest.raises(ConfigError, match=complaint):
            load_mix("cpt", path)


# -- what it takes -----------------------------------------------------------------------------------------------------


def test_the_disk_that_is_needed_is_told_and_refused_before_anything_is_written(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = build(sets, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda place: Disk(planned.need - 1))
    with pytest.raises(ConfigError, match=r"needs about 0\.3 MB, .* 0\.3 MB free: give --rows 29 or fewer"):
        build(sets, tmp_path / "out")
    assert build(sets, tmp_path / "out", dry_run=True).need == planned.need
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda place: Disk(planned.need))
    written = build(sets, tmp_path / "out")
    size = sum(one.size for one in written.sets)
    assert size < 1.1 * planned.need
    assert planned.sets[0].write == pytest.approx(written.sets[0].size, rel=0.05)


def test_images_in_an_archive_count_before_they_are_read(sets: Path, tmp_path: Path) -> None:
    planned = build(sets, tmp_path / "out", "cl", dry_run=True).sets[0]
    archive = (sets / "TIGER-Lab/MMEB-train/images_zip/CIRR.zip").stat().st_size
    assert planned.read > archive
    assert planned.write > 10 / 12 * archive


def test_all_sets_out_of_reach_are_told_before_one_is_fetched(sets: Path, tmp_path: Path) -> None:
    shutil.rmtree(sets / "owner/lines")
    with pytest.raises(DocumentError, match=r"^lines: the data set owner/lines is neither local nor cached") as caught:
        build(sets, tmp_path / "out", hub=FakeHub(tmp_path))
    assert f"--include '*.jsonl' --local-dir {sets}/owner/lines, then --data {sets}" in str(caught.value)
    shutil.rmtree(sets / "owner/pages")
    with pytest.raises(DocumentError, match=r"^pages \(and 1 more of 2 sets\): "):
        build(sets, tmp_path / "out", hub=FakeHub(tmp_path))
    assert not (tmp_path / "out").exists()


# -- rows that are broken ----------------------------------------------------------------------------------------------

BAD = [
    {"text": IMAGE_SLOT * 2, "images": [png(1)]},
    {"text": "no picture", "images": [b"%!PS"]},
    {"text": " ", "images": []},
]


def test_rows_that_cannot_be_read_are_left_out_up_to_the_limit(sets: Path, tmp_path: Path) -> None:
    good = [cpt_row(number) for number in range(5)]
    write_table(sets / "owner/bad/data/x.parquet", [*good[:2], *BAD, *good[2:]], group=4)
    (sets / "owner/bad/broken.jsonl").write_text('{"text": "a"}\n{\n[1]\n{"text": "b"}')
    one, two = {"path": "owner/bad/data/*.parquet"}, {"path": "owner/bad/*.jsonl", "name": "lines"}
    write_mix(sets / "cpt.yaml", [one, two], rows=7, draw="first")
    report = build(sets, tmp_path / "out")
    assert [(one.rows, one.skipped) for one in report.sets] == [(4, 3), (2, 2)]
    assert [row.text for row in open_cpt(Source(str(tmp_path / "out" / "bad")))] == [row["text"] for row in good[:4]]
    assert report.sets[0].reasons[0].startswith("bad, data/x.parquet, group 1, row 3: its text has 2 image slots")
    assert report.sets[1].reasons[0].startswith("lines, broken.jsonl, byte 14: it is not JSON")
    assert build(sets, tmp_path / "out").sets == report.sets
    write_mix(sets / "cpt.yaml", [one, two], rows=7, draw="first", max_bad_rows=2)
    with pytest.raises(DocumentError, match=r"3 rows cannot be read, over the limit of 2 \(bad, data/x"):
        build(sets, tmp_path / "again")
    write_table(sets / "owner/bad/data/x.parquet", BAD)
    write_mix(sets / "cpt.yaml", [one], rows=7)
    with pytest.raises(DocumentError, match="bad: none of its rows can be read"):
        build(sets, tmp_path / "none")


def test_a_broken_file_is_named_with_what_to_do(sets: Path, tmp_path: Path) -> None:
    path = sets / "owner/pages/data/train-00001-of-00003.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    with pytest.raises(
        DocumentError, match=r"data/train-00001-of-00003.parquet cannot be read .*give the same command"
    ):
        build(sets, tmp_path / "out")
    path.write_bytes(whole)
    write_table(path, [{"caption": "t"}])
    with pytest.raises(ConfigError, match=r"has no column text or images .*columns: {text: caption}"):
        build(sets, tmp_path / "out")
