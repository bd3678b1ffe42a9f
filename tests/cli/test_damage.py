"""Damaged collections: refused by name, and brought back by one command."""

import os
from functools import partial
from pathlib import Path

import pytest

from moca_rag import collection as collection_module
from moca_rag.stores import LocalStore, StoreSizes
from tests.faults import Moca

REBUILD = "index", "--rebuild"


def spoil(path: Path, where: str) -> None:
    data = bytearray(path.read_bytes())
    junk = os.urandom(len(data))
    ranges = {"middle": slice(len(data) // 4, None), "header": slice(0, 100), "all": slice(0, None)}
    if where in ranges:
        data[ranges[where]] = junk[ranges[where]]
    elif where == "truncated":
        del data[len(data) // 3 :]
    elif where == "empty":
        data.clear()
    path.write_bytes(data)


@pytest.mark.parametrize("where", ["middle", "header", "all", "truncated", "empty", "gone"])
def test_a_damaged_catalog_is_refused_in_one_line_and_rebuilt(moca: Moca, docs: Path, where: str) -> None:
    before, expected = moca.pages(), moca.hits("ferry timber")
    catalog = moca.collection / "catalog.sqlite"
    catalog.unlink() if where == "gone" else spoil(catalog, where)
    for command in (
        ["search", "ferry"],
        ["status"],
        ["ls"],
        ["show", "00.pdf#1"],
        ["rm", "00.pdf"],
        ["verify"],
        *([] if where == "middle" else [["verify", "--repair"]]),
        ["compact"],
        ["index", docs],
        ["index", docs, "--dry-run"],
    ):
        outcome = moca(*command)
        assert outcome.code == 1, command
        assert "catalog.sqlite" in outcome.complaint, command
        assert "--rebuild" in outcome.complaint, command
    assert moca(*REBUILD, docs).code == 0
    assert (moca.pages(), moca.hits("ferry timber")) == (before, expected)


def test_a_catalog_damaged_in_the_middle_is_saved_as_far_as_it_can_be_read(moca: Moca, docs: Path) -> None:
    before, expected = moca.pages(), moca.hits("ferry timber")
    spoil(moca.collection / "catalog.sqlite", "middle")
    repaired = moca("verify", "--repair")
    assert (repaired.code, "saved 14 documents" in repaired.out) == (0, True)
    assert moca("index", docs).code == 0
    assert (moca.pages(), moca.hits("ferry timber")) == (before, expected)
    assert moca("verify").code == 0


@pytest.mark.parametrize("where", ["middle", "header", "all", "truncated", "empty", "gone"])
def test_a_damaged_catalog_is_repaired_or_left_as_it_is(moca: Moca, docs: Path, where: str) -> None:
    before, expected = moca.pages(), moca.hits("ferry timber")
    catalog = moca.collection / "catalog.sqlite"
    catalog.unlink() if where == "gone" else spoil(catalog, where)
    damaged = catalog.read_bytes() if catalog.exists() else None
    outcome = moca("verify", "--repair")
    if outcome.code:
        assert "--rebuild" in outcome.complaint
        assert (catalog.read_bytes() if catalog.exists() else None) == damaged
        return
    assert moca("verify").code == 0
    assert moca.pages().keys() <= before.keys()
    assert moca("index", docs).code == 0
    assert (moca.pages(), moca.hits("ferry timber")) == (before, expected)


@pytest.mark.parametrize("text", ["garbage [[[", "", "format = 1\n", "format = 99\n", "\udcff\udcfe"])
def test_a_damaged_fingerprint_is_refused_in_one_line_and_rebuilt(moca: Moca, docs: Path, text: str) -> None:
    before = moca.pages()
    path = moca.collection / "collection.toml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    for command in (["search", "ferry"], ["status"], ["verify"], ["index", docs]):
        outcome = moca(*command)
        assert outcome.code == 1
        assert "collection.toml" in outcome.complaint
        assert "--rebuild" in outcome.complaint
    assert moca(*REBUILD, docs).code == 0
    assert moca.pages() == before


def test_a_lost_fingerprint_does_not_let_a_full_catalog_be_overwritten(moca: Moca, docs: Path) -> None:
    """Nothing committed is lost, whatever a person deletes by mistake."""
    fingerprint = moca.collection / "collection.toml"
    saved, before = fingerprint.read_bytes(), moca.pages()
    fingerprint.unlink()
    outcome = moca("index", docs.parent / "docs" / "00.pdf")
    fingerprint.write_bytes(saved)
    assert moca.pages() == before
    assert outcome.code == 1
    assert "collection.toml" in outcome.complaint


def test_a_cut_shard_is_named_and_what_it_held_comes_back(hybrid: Moca, docs: Path) -> None:
    before, expected = hybrid.pages(), hybrid.hits("ferry timber")
    (shard,) = (hybrid.collection / "vectors").iterdir()
    os.truncate(shard, shard.stat().st_size - 5 * 32)
    outcome = hybrid("search", "ferry timber")
    assert (outcome.code, shard.name in outcome.complaint, "verify" in outcome.complaint) == (1, True, True)
    assert hybrid("search", "ferry", "--mode", "text").code == 0
    verdict = hybrid("verify", "--json")
    assert (verdict.code, len(verdict.json["lost_pages"])) == (1, 3)  # a row for its picture, one for its passage
    assert hybrid("verify", "--repair").code == 0
    assert sum(hybrid.pages().values()) == sum(before.values()) - 3
    assert hybrid("index", docs, "--model", "pixels").code == 0
    assert (hybrid.pages(), hybrid.hits("ferry timber")) == (before, expected)
    assert hybrid("verify").code == 0


@pytest.mark.parametrize("where", ["middle", "header", "all", "truncated", "empty"])
def test_a_damaged_cache_rebuilds_itself(hybrid: Moca, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    pytest.importorskip("faiss")
    sizes = StoreSizes(exact=20, few=5, loose=5)
    monkeypatch.setattr(collection_module, "LocalStore", partial(LocalStore, sizes=sizes))
    expected = hybrid.hits("ferry timber")  # makes the cache, too
    (cache,) = (hybrid.collection / "index").iterdir()
    whole = cache.read_bytes()
    spoil(cache, where)
    assert hybrid.hits("ferry timber") == expected
    assert cache.read_bytes()[:20] == whole[:20]
    assert hybrid("verify").code == 0


def test_other_settings_are_refused_by_name(moca: Moca, hybrid: Moca, docs: Path) -> None:
    asked = moca("index", docs, "--model", "pixels")
    assert asked.code == 1
    assert "text -> hybrid" in asked.complaint
    assert "--rebuild" in asked.complaint
    changed = hybrid("index", docs, "--model", "pixels", "--mode", "vision")
    assert changed.code == 1
    assert "hybrid -> vision" in changed.complaint
    text = hybrid("index", docs, "--mode", "text")
    assert text.code == 1
    assert "hybrid -> text" in text.complaint
    assert len(moca.pages()) == len(hybrid.pages()) == len(list(docs.iterdir()))
