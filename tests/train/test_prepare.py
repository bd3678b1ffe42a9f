"""Preparing a mix: samples that are right, images that come through, and a run that goes on after a kill."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from moca_rag.train import mixes, pieces, shards
from moca_rag.train.rows import IMAGE_SLOT
from moca_rag.train.runs import run_cl, run_cpt
from moca_rag.train.settings import Source
from moca_rag.train.sources import open_cpt, open_pairs

from moca_rag.errors import ConfigError
from moca_rag.progress import SilentReporter
from tests.small_datasets import (
    CUT,
    PAIRS,
    SMALL_LINES,
    SMALL_SHARD,
    ZIPPED,
    FakeHub,
    build,
    cpt_row,
    pair_row,
    png,
    read_files,
    write_cpt_set,
    write_mix,
    write_pairs,
    write_sets,
    write_table,
)


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    return write_sets(tmp_path / "sets")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards and pieces of a few rows each."""
    monkeypatch.setattr(mixes, "SHARD_BYTES", SMALL_SHARD)
    monkeypatch.setattr(pieces, "LINES_BYTES", SMALL_LINES)


def read_texts(out: Path) -> list[str]:
    return [row.text for row in open_cpt(Source(str(out)))]


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_a_row_comes_through_with_its_images(sets: Path, tmp_path: Path) -> None:
    report = build(sets, tmp_path / "out", only=["pages"], rows=60)
    rows = {row.text: row for row in open_cpt(Source(str(tmp_path / "out")))}
    assert len(rows) == 60
    for number in (0, 31, 59):
        assert rows[f"{IMAGE_SLOT}\nrow {number}"].images == (png(number),)
    (one,) = report.sets
    assert (one.place, one.files, one.rows_there, one.rows, one.skipped) == ("local", 3, 60, 60, 0)
    assert one.size == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.parquet"))


def test_the_sample_hangs_on_the_seed_alone(sets: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(sets, tmp_path / "moved"))
    for name, folder, seed in (("one", sets, 0), ("same", moved, 0), ("other", sets, 1)):
        build(folder, tmp_path / name, seed=seed, rows=20)
    assert read_files(tmp_path / "one") == read_files(tmp_path / "same")
    assert set(read_texts(tmp_path / "one" / "pages")) != set(read_texts(tmp_path / "other" / "pages"))


def test_every_row_group_of_every_file_may_be_drawn(sets: Path, tmp_path: Path) -> None:
    drawn: list[set[int]] = []
    for seed in range(24):
        build(sets, tmp_path / str(seed), seed=seed, rows=20, only=["pages"])
        numbers = [int(text.rpartition(" ")[2]) for text in read_texts(tmp_path / str(seed))]
        assert len(set(numbers)) == 20
        drawn.append({number // 5 for number in numbers})
    assert all(len(groups) == 4 for groups in drawn)
    counts = [sum(group in groups for groups in drawn) for group in range(12)]
    assert min(counts) >= 2
    assert max(counts) <= 16  # of 24; each is drawn in 8 on average


def test_the_first_rows_are_the_first(sets: Path, tmp_path: Path) -> None:
    write_mix(sets / "cpt.yaml", [{"path": "owner/pages/data/*.parquet"}], rows=33, draw="first")
    build(sets, tmp_path / "out")
    assert read_texts(tmp_path / "out") == [f"{IMAGE_SLOT}\nrow {number}" for number in range(33)]


@pytest.mark.parametrize("size", [7, 64, 1000, 1 << 20])
def test_each_line_is_read_once_wherever_a_piece_ends(
    sets: Path, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LINES_BYTES", size)
    build(sets, tmp_path / "out", rows=100, only=["lines"])
    told = sorted(read_texts(tmp_path / "out"), key=lambda text: int(text.split()[1]))
    assert told == [f"line {number} {'é' * (number % 7)}" for number in range(40)]


def test_of_the_hub_only_footers_and_what_was_drawn_are_read(sets: Path, tmp_path: Path) -> None:
    rows = [cpt_row(number) | {"unwanted": np.random.default_rng(number).bytes(200_000)} for number in range(60)]
    for number, path in enumerate(sorted((sets / "owner/pages/data").iterdir())):
        write_table(path, rows[20 * number : 20 * number + 20])
    whole = sum(path.stat().st_size for path in (sets / "owner/pages/data").iterdir())
    hub = FakeHub(sets)
    report = build(sets, tmp_path / "out", data=None, hub=hub, rows=15, only=["pages"])
    (one,) = report.sets
    assert (one.place, one.rows) == ("hub", 15)
    assert one.read < sum(hub.counts.values()) < one.read + 6 * 65_536 + 10_000  # three footers, and of three groups
    assert sum(hub.counts.values()) < whole / 10
    assert json.loads((tmp_path / "out" / "prepare.json").read_text())["revisions"] == {"owner/pages": "c0ffee"}
    build(sets, tmp_path / "local", rows=15, only=["pages"])
    assert read_texts(tmp_path / "out") == read_texts(tmp_path / "local")


def test_row_groups_are_small_enough_to_read_rows_at_random(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "GROUP_BYTES", 30_000)
    build(sets, tmp_path / "out", only=["pages"], rows=60)
    footer = parquet.read_metadata(tmp_path / "out/pages/pages-00000.parquet")
    sizes = [footer.row_group(number).total_byte_size for number in range(footer.num_row_groups)]
    assert len(sizes) == 15
    assert max(sizes) < 45_000


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_pairs_hold_the_images_that_their_paths_lead_to(sets: Path, tmp_path: Path) -> None:
    build(sets, tmp_path / "out", "cl")
    for name in ("CIRR", "TAT-DQA"):
        rows = list(open_pairs(Source(str(tmp_path / "out" / name))))
        assert [row.query.images for row in rows] == [(png(number),) for number in range(10)]
        assert rows[4].query.text == f"{IMAGE_SLOT}\nWhich is next to 4?"
        assert rows[4].positive.images == (png(5),)
        assert [side.images for side in rows[4].negatives] == [(png(6),), (png(7),)]
        assert {row.task for row in rows} == {name}
    told = list(open_pairs(Source(str(tmp_path / "out" / "texts"))))
    assert (told[3].query.text, told[3].positive.text) == ("why 3", "so 3")
    assert [side.text for side in told[3].negatives] == ["a", "b"]
    assert (told[3].instruction, told[3].task) == ("Find it.", "texts")
    assert not (tmp_path / "out" / ".pictures").exists()


def test_sets_that_share_an_archive_read_it_once(sets: Path, tmp_path: Path) -> None:
    write_table(sets / PAIRS / "it2t/train-0.parquet", [pair_row("TAT-DQA", number) for number in range(5, 9)])
    write_mix(sets / "cl.yaml", [CUT, ZIPPED, CUT | {"path": f"{PAIRS}/it2t/*.parquet"}], rows=10, draw="first")
    hub = FakeHub(sets)
    build(sets, tmp_path / "out", "cl", data=None, hub=hub)
    parts = sorted((sets / PAIRS / "supplement_images_zip").iterdir())
    assert [hub.counts[str(part)] for part in parts] == [part.stat().st_size for part in parts]
    assert [row.query.images for row in open_pairs(Source(str(tmp_path / "out/it2t")))] == [
        (png(number),) for number in range(5, 9)
    ]


def test_an_image_that_no_archive_holds_costs_its_rows(sets: Path, tmp_path: Path) -> None:
    write_pairs(sets, "CIRR", missing=[4])
    report = build(sets, tmp_path / "out", "cl", only=["CIRR"])
    (one,) = report.sets
    assert (one.rows, one.skipped) == (6, 4)  # row 4, and those that 4 is a neighbour of
    assert "row 2: the image 'images/CIRR/4.png' is not in TIGER-Lab" in one.reasons[0]


# -- stops -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "steps"), [("cpt", (1, 4, 40, 61, 95)), ("cl", (2, 15, 30, 44))])
@pytest.mark.usefixtures("small")
def test_a_killed_run_goes_on_to_what_an_uninterrupted_one_makes(
    sets: Path, tmp_path: Path, stage: str, steps: tuple[int, ...]
) -> None:
    broken = [{"text": " ", "images": []}, *(cpt_row(number) for number in range(60, 64))]
    write_table(sets / "owner/pages/data/train-00003-of-00003.parquet", broken)
    write_mix(sets / "cpt.yaml", [{"path": "owner/pages/data/*.parquet"}, {"path": "owner/lines/*.jsonl"}], rows=58)
    report = build(sets, tmp_path / "whole", stage)
    whole = read_files(tmp_path / "whole")
    assert len(whole) >= 4
    assert {Path(name).suffix for name in whole} == {".parquet", ".json"}
    assert all(one.rows + one.skipped == one.rows_wanted for one in report.sets if one.rows_there)
    for step in steps:
        out = tmp_path / str(step)
        command = [sys.executable, "-m", "tests.small_datasets", str(sets), str(out), stage, str(step)]
        assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == -9
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
        build(sets, out, stage)
        assert read_files(out) == whole, step
        assert {path: path.stat().st_mtime_ns for path in before} == before  # what was done is not done again


@pytest.mark.usefixtures("small")
def test_what_is_written_already_is_not_needed_again(sets: Path, tmp_path: Path) -> None:
    whole = build(sets, tmp_path / "out", only=["pages"], dry_run=True).need
    command = [sys.executable, "-m", "tests.small_datasets", str(sets), str(tmp_path / "out"), "cpt", "20"]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    left = build(sets, tmp_path / "out", only=["pages"], dry_run=True).need
    assert left == pytest.approx(whole / 2, rel=0.05)  # three of six shards are there
    build(sets, tmp_path / "out", only=["pages"])
    assert build(sets, tmp_path / "out", only=["pages"], dry_run=True).need == 0


def test_a_set_that_is_done_is_asked_for_no_more(sets: Path, tmp_path: Path) -> None:
    first = build(sets, tmp_path / "out", only=["pages"])
    shutil.rmtree(sets / "owner/pages")
    second = build(sets, tmp_path / "out")
    assert first.sets == second.sets[:1]
    assert second.sets[1].rows == 30


def test_other_settings_or_files_are_refused_by_name(sets: Path, tmp_path: Path) -> None:
    build(sets, tmp_path / "out", only=["lines"])
    kept = read_files(tmp_path / "out")
    for options, complaint in (
        ({"rows": 31}, "rows: 30 -> 31"),
        ({"seed": 3}, "seed: 0 -> 3"),
        ({"stage": "cl"}, "stage: cpt -> cl"),
    ):
        with pytest.raises(ConfigError, match=f"was begun with other settings .*{complaint}.*another folder"):
            build(sets, tmp_path / "out", **options)
    write_mix(sets / "cpt.yaml", [{"path": "owner/lines/*.jsonl", "instruction": "x"}], rows=30)
    with pytest.raises(ConfigError, match="lines, instruction:  -> x"):
        build(sets, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(ConfigError, match="mine is there already"):
        build(sets, tmp_path / "mine")
    assert read_files(tmp_path / "out") == kept


def test_files_that_changed_under_a_run_are_refused(sets: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    class Stopping(SilentReporter):
        def advance(self, task: str, amount: int = 1) -> None:
            if task == "rows":
                raise StoppedError

    with pytest.raises(StoppedError):
        build(sets, tmp_path / "out", reporter=Stopping())
    write_cpt_set(sets / "owner/pages", files=4)
    with pytest.raises(ConfigError, match=r"not the files that .* was begun with"):
        build(sets, tmp_path / "out")


def test_a_set_may_be_added_to_a_mix(sets: Path, tmp_path: Path) -> None:
    both = (sets / "cpt.yaml").read_text()
    write_mix(sets / "cpt.yaml", [{"path": "owner/lines/*.jsonl"}], rows=30)
    build(sets, tmp_path / "out")
    (sets / "cpt.yaml").write_text(both)
    assert [one.rows for one in build(sets, tmp_path / "out").sets] == [30, 30]


# -- training on it ----------------------------------------------------------------------------------------------------


def test_both_stages_train_on_what_was_prepared(sets: Path, tmp_path: Path, model: Path) -> None:
    build(sets, tmp_path / "cpt")
    build(sets, tmp_path / "cl", "cl")
    words = [f"model={model}", "steps=2"]
    report = run_cpt("tiny", [*words, f"data={tmp_path}/cpt", f"out={tmp_path}/a"], SilentReporter(), "cpu")
    assert report.steps == 2
    report = run_cl("tiny", [*words, f"data={tmp_path}/cl", f"out={tmp_path}/b"], SilentReporter(), "cpu")
    assert report.steps == 2


def test_a_path_on_the_hub_is_no_source_and_the_way_there_is_told() -> None:
    for path in ("vidore/colpali_train_set", "hub:moca-embed/docmatix/data/*.parquet"):
        with pytest.raises(
            ConfigError, match=r"does not exist: .*`moca data prepare` makes rows of data sets on the hub"
        ):
            open_cpt(Source(path))
