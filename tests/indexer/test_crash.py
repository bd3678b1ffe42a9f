"""A run that is stopped at any step of any commit goes on where it was, to the very collection of a run that was not."""

import itertools
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from moca_rag.indexer import rebuild

from moca_rag import catalog as catalog_module
from moca_rag import collection as collection_module
from moca_rag.collection import Collection
from moca_rag.errors import CollectionError
from moca_rag.upkeep import compact_collection, verify_collection
from tests.crashes import (
    QUERIES,
    State,
    change_documents,
    committed_keys,
    hits_of,
    index,
    lines,
    look,
    make_documents,
    mode_of,
    run_scenario,
    watch_steps,
)
from tests.makers import PAGE_WORDS, PixelEncoder, make_pdf

STEPS = ("begun", "vectors", "pages", "written", "committed")
SCENARIOS = ("text", "vision", "hybrid", "update", "compact")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that the runs of this process have passed."""
    passed: list[str] = []
    watch_steps(passed.append, monkeypatch.setattr)
    return passed


@dataclass(frozen=True)
class Stopped:
    """A scenario stopped everywhere: its work folder, the collection before it, and after it ran to its end."""

    work: Path
    before: State | None
    after: State
    steps: list[str]
    folders: list[Path]

    def at(self, step: str) -> list[Path]:
        return [folder for folder in self.folders if (folder / "step").read_text() == step]


@pytest.fixture(scope="module")
def all_stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stopped]:
    """Every scenario, run to its end here and stopped everywhere in another process."""
    works = {scenario: tmp_path_factory.mktemp("stops") / scenario for scenario in SCENARIOS}
    with pytest.MonkeyPatch.context() as patch:
        steps: list[str] = []
        watch_steps(steps.append, patch.setattr)
        states = {scenario: run_to_the_end(work, steps) for scenario, work in works.items()}
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}  # one thread: fork is safe
    command = [sys.executable, "-m", "tests.crashes", *map(str, works.values())]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: Stopped(work, *states[name], find_stops(work)) for name, work in works.items()}


def run_to_the_end(work: Path, steps: list[str]) -> tuple[State | None, State, list[str]]:
    """Make what a scenario begins with, and run it once: the state before and after it, and the steps between."""
    make_documents(work / "docs")
    before = None
    if work.name in ("update", "compact"):
        index(work / "start", "hybrid")
        change_documents(work / "docs")
        if work.name == "compact":
            index(work / "start", "hybrid")
        before = look(work / "start" / "collection")
        shutil.copytree(work / "start", work / "whole")
    steps.clear()
    run_scenario(work.name, work / "whole")
    passed = list(steps)
    return before, look(work / "whole" / "collection"), passed


def find_stops(work: Path) -> list[Path]:
    return sorted(folder for folder in work.iterdir() if (folder / "step").exists())


@pytest.fixture
def stopped(request: pytest.FixtureRequest, all_stopped: dict[str, Stopped]) -> Stopped:
    scenario: Stopped = all_stopped[request.param]
    assert [(folder / "step").read_text() for folder in scenario.folders] == scenario.steps
    return scenario


each_run = pytest.mark.parametrize("stopped", SCENARIOS[:-1], indirect=True)


# -- stopped at every step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", ["text", "hybrid"], indirect=True)
def test_a_run_passes_every_step_that_a_commit_has(stopped: Stopped) -> None:
    # one commit at the beginning, one for each 2 of 3 first looks, one for each 2 of 8 pages, one at the end
    assert Counter(stopped.steps) == {"begun": 8, "vectors": 4, "pages": 4, "written": 8, "committed": 8}


@each_run
@pytest.mark.parametrize("step", STEPS)
def test_a_run_stopped_at_a_step_ends_as_if_it_had_not_been(stopped: Stopped, step: str) -> None:
    mode = mode_of(stopped.work.name)
    folders = stopped.at(step)
    assert folders
    for folder in folders:
        path = folder / "collection"
        known = committed_keys(path)
        index(folder, mode, folder / "after.log")
        look(path).assert_equal(stopped.after)
        assert not verify_collection(path).problems
        again = lines(folder / "after.log")
        assert not known & set(again), f"embedded twice: {folder}"
        assert len(again) == len(set(again))


@each_run
def test_what_is_seen_after_a_stop_is_sound_and_never_half_a_change(stopped: Stopped) -> None:
    after = set(stopped.after.pages)
    before = set(stopped.before.pages) if stopped.before else set()
    for folder in stopped.folders:
        copy = shutil.copytree(folder / "collection", folder / "copy")
        assert not verify_collection(copy).problems
        pages = set(look(copy).pages)
        assert pages <= after | before
        if stopped.before:
            seen = {page for page in pages if page[0] == "a.pdf"}
            assert seen in ({p for p in before if p[0] == "a.pdf"}, {p for p in after if p[0] == "a.pdf"}), folder
            assert {page for page in pages if page[0] == "deep/b.pdf"} == {p for p in after if p[0] == "deep/b.pdf"}


@pytest.mark.parametrize("stopped", ["compact"], indirect=True)
def test_compaction_stopped_anywhere_leaves_all_answers_and_can_be_done_again(stopped: Stopped) -> None:
    assert {"begun", "written", "committed", "copied over", "deleted"} == set(stopped.steps)
    assert stopped.before is not None
    stopped.after.assert_equal(stopped.before)
    for folder in stopped.folders:
        path = folder / "collection"
        look(path).assert_equal(stopped.after)
        assert not verify_collection(path).problems
        compact_collection(path)
        look(path).assert_equal(stopped.after)
        with Collection.open(path) as opened:
            assert opened.catalog.count()["dead_vectors"] == 0
            generations = {file.name.split("-")[0] for file in (path / "vectors").iterdir()}
            assert generations == {f"{opened.catalog.generation:04d}"}


# -- stopped by an error, and not by death -----------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, CollectionError], ids=["ctrl_c", "disk_full"])
def test_an_error_at_any_step_comes_out_as_itself_and_loses_nothing(
    error: type[BaseException], step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[str]
) -> None:
    make_documents(tmp_path / "docs")
    index(tmp_path / "whole", "hybrid")
    places = [place for place, passed in enumerate(steps) if passed == step]
    whole = look(tmp_path / "whole" / "collection")
    for place in places:
        left = itertools.count()

        def fail(step: str, left: Any = left, place: int = place) -> None:
            if next(left) == place:
                raise error("stopped here")

        folder = tmp_path / f"{place:03}"
        with monkeypatch.context() as patch:
            watch_steps(fail, patch.setattr)
            with pytest.raises(error, match="stopped here"):
                index(folder, "hybrid")
        index(folder, "hybrid")
        look(folder / "collection").assert_equal(whole)


def test_a_rebuild_stopped_between_its_two_renames_leaves_the_old_collection_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_documents(tmp_path / "docs")
    index(tmp_path / "work", "text")
    path = tmp_path / "work" / "collection"
    old = look(path)
    make_pdf(tmp_path / "docs" / "new.pdf", PAGE_WORDS[6:8])
    options: dict[str, Any] = {"mode": None, "tags": {}, "passwords": ()}
    renames: list[Path] = []

    def rename(source: Path, target: Path) -> None:
        if renames:
            raise KeyboardInterrupt
        renames.append(target)
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(rebuild, "os", SimpleNamespace(rename=rename))
        with pytest.raises(KeyboardInterrupt):
            rebuild.rebuild_collection([], path, None, options)
    assert not path.exists()
    look(path).assert_equal(old)
    report = rebuild.rebuild_collection([], path, None, options)
    assert report.documents == 4
    assert {page[0] for page in look(path).pages} == {page[0] for page in old.pages} | {"new.pdf"}
    assert sorted(entry.name for entry in (tmp_path / "work").iterdir()) == ["collection"]


# -- readers beside a writer -------------------------------------------------------------------------------------------


def test_a_reader_sees_committed_pages_only_and_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_documents(tmp_path / "docs")
    index(tmp_path / "work", "hybrid")
    change_documents(tmp_path / "docs")
    seen: list[tuple[str, dict[str, list[tuple[str, int, float]]]]] = []
    with Collection.open(tmp_path / "work" / "collection", encoder=PixelEncoder()) as reader:
        seen.append(("committed", hits_of(reader)))
        watch_steps(lambda step: seen.append((step, hits_of(reader))), monkeypatch.setattr)
        index(tmp_path / "work", "hybrid")
    for (_, before), (step, now) in itertools.pairwise(seen):
        assert step in ("begun", "committed") or now == before, f"uncommitted pages are seen at {step!r}"
    assert seen[-1][1] == look(tmp_path / "work" / "collection").hits != seen[0][1]


def test_a_search_that_a_compaction_overtakes_still_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_documents(tmp_path / "docs")
    index(tmp_path / "work", "hybrid")
    change_documents(tmp_path / "docs")
    index(tmp_path / "work", "hybrid")
    path = tmp_path / "work" / "collection"
    expected = look(path).hits
    monkeypatch.setattr(catalog_module, "BUSY_SECONDS", 0.05)
    find_hits: Callable[..., Any] = collection_module.find_hits
    with Collection.open(path, encoder=PixelEncoder()) as reader:

        def overtaken(*arguments: Any) -> Any:
            monkeypatch.setattr(collection_module, "find_hits", find_hits)
            compact_collection(path)  # the reader has its snapshot, and has not opened the shards yet
            return find_hits(*arguments)

        monkeypatch.setattr(collection_module, "find_hits", overtaken)
        assert hits_of(reader) == expected


# -- damaged shards ----------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path: Path) -> State:
    """What the collection at tmp_path / work held before it was damaged."""
    make_documents(tmp_path / "docs")
    index(tmp_path / "work", "hybrid")
    return look(tmp_path / "work" / "collection")


def cut_tail(shard: Path) -> None:
    os.truncate(shard, shard.stat().st_size - 2 * 32 - 5)  # a row is 32 bytes: two are gone, and a part of a third


def spoil_middle(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[32 * 4 + 7] ^= 0x10
    shard.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "num_lost"), [(cut_tail, 3), (spoil_middle, 1), (Path.unlink, 13)], ids=["cut", "spoilt", "gone"]
)
def test_a_damaged_shard_is_named_mended_and_filled_again(
    damage: Callable[[Path], None], num_lost: int, tmp_path: Path, whole: State
) -> None:
    path = tmp_path / "work" / "collection"
    (shard,) = (path / "vectors").iterdir()
    damage(shard)
    if damage is not spoil_middle:  # sums are compared by `verify` only: a search reads no more than it must
        with Collection.open(path, encoder=PixelEncoder()) as opened, pytest.raises(CollectionError, match=shard.name):
            opened.search(QUERIES[0])
    verdict = verify_collection(path)
    assert verdict.problems == [f"vectors: {num_lost} of 13 are lost or damaged"]  # 7 pictures and 6 passages
    kept = committed_keys(path)
    assert verify_collection(path, repair=True).lost_pages == verdict.lost_pages
    assert not verify_collection(path).lost_pages
    log = tmp_path / "again.log"
    index(tmp_path / "work", "hybrid", log)
    assert len(lines(log)) == num_lost
    assert set(lines(log)) < kept or num_lost == len(kept)
    look(path).assert_equal(whole)
    assert not verify_collection(path).problems


def test_a_torn_tail_that_was_never_committed_does_no_harm(tmp_path: Path, whole: State) -> None:
    path = tmp_path / "work" / "collection"
    (shard,) = (path / "vectors").iterdir()
    with shard.open("ab") as file:
        file.write(b"\x7f" * 75)
    look(path).assert_equal(whole)
    assert not verify_collection(path).problems
    change_documents(tmp_path / "docs")
    index(tmp_path / "work", "hybrid")
    index(tmp_path / "fresh", "hybrid")
    now, fresh = look(path), look(tmp_path / "fresh" / "collection")
    assert (now.pages, now.vectors.keys()) == (fresh.pages, fresh.vectors.keys())
    assert not verify_collection(path).problems
    assert np.allclose([now.vectors[page] for page in now.vectors], [fresh.vectors[page] for page in now.vectors])
