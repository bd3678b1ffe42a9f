"""Where data sets are found: a local copy, the hub, its cache, or nowhere; none of this asks the network."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from huggingface_hub import HfApi
from huggingface_hub.errors import OfflineModeIsEnabled
from moca_rag.train import hub as hub_module
from moca_rag.train.hub import File, Library, OpenHub, Place, open_hub
from moca_rag.train.pieces import copy_pictures

from moca_rag.errors import ConfigError, DocumentError
from tests.small_datasets import FakeHub, png, write_pairs


@pytest.fixture
def online() -> OpenHub:
    """A hub of one repository, in memory."""
    memory = MemoryFileSystem()
    memory.store.clear()
    for name in ("data/train-1.parquet", "data/train-0.parquet", "data/deep/train-2.parquet", "data/test-0.parquet"):
        memory.pipe(f"/hub/owner/name/{name}", name.encode())

    def open_memory(repository: str, revision: str) -> Place:
        if repository != "owner/name":
            raise FileNotFoundError(repository)
        return Place("hub", memory, f"/hub/{repository}", revision or "newest")

    return open_memory


def failing(asked: list[str], error: Callable[[], Exception]) -> OpenHub:
    """A hub that answers with an error; what it is asked is noted."""

    def fail(repository: str, revision: str) -> Place:
        asked.append(repository)
        raise error()

    return fail


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, in a folder of its own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill_cache(cache: Path, name: str, data: bytes) -> None:
    """A file of owner/name, as the hub's client lays it out: a link to a blob."""
    repository = cache / "datasets--owner--name"
    for folder in ("blobs", "refs"):
        (repository / folder).mkdir(parents=True, exist_ok=True)
    (repository / "blobs" / "b1").write_bytes(data)
    (repository / "refs" / "main").write_text("c" * 40)
    link = repository / "snapshots" / ("c" * 40) / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(repository / "blobs" / "b1")


def test_files_are_those_that_match_by_name(online: OpenHub) -> None:
    found = Library(None, online, {}).find("owner/name/data/train-?.parquet")
    assert found.files == [File("data/train-0.parquet", 20), File("data/train-1.parquet", 20)]
    with found.place.open("data/train-1.parquet") as file:
        assert file.read() == b"data/train-1.parquet"
    assert len(Library(None, online, {}).find("owner/name/**.parquet").files) == 4
    assert Library(None, online, {}).find("owner/name/data/test-0.parquet").files == [File("data/test-0.parquet", 19)]


def test_a_commit_that_is_known_is_asked_for(online: OpenHub) -> None:
    assert Library(None, online, {}).find("owner/name/data/*").place.revision == "newest"
    assert Library(None, online, {"owner/name": "old"}).find("owner/name/data/*").place.revision == "old"


def test_a_local_copy_goes_before_the_hub_where_it_has_the_files(online: OpenHub, tmp_path: Path) -> None:
    copies = tmp_path / "signs [of] a*pattern"
    (copies / "owner/name/data").mkdir(parents=True)
    (copies / "owner/name/data/train-7.parquet").write_bytes(b"seven")
    library = Library(copies, online, {})
    assert library.find("owner/name/data/train-*.parquet").files == [File("data/train-7.parquet", 5)]
    assert library.find("owner/name/data/train-*.parquet").place.kind == "local"
    assert library.find("owner/name/data/test-*.parquet").place.kind == "hub"
    with pytest.raises(ConfigError, match=r"--data .* is no folder"):
        Library(tmp_path / "nowhere", online, {})


@pytest.mark.usefixtures("cache")
def test_what_is_nowhere_is_told_with_the_command_that_fetches_it(online: OpenHub, tmp_path: Path) -> None:
    for path, reason in (
        ("owner/other/x/*.parquet", "other"),
        ("owner/name/x/*.parquet", "it has no x/*.parquet"),
    ):
        with pytest.raises(DocumentError) as caught:
            Library(tmp_path, online, {}).find(path)
        repository = "/".join(path.split("/")[:2])
        assert caught.value.code == "data_missing"
        assert f"the hub does not give it ({reason}" in str(caught.value).replace("owner/other)", "other)")
        fetch = (
            f"hf download {repository} --repo-type dataset --include 'x/*.parquet' --local-dir {tmp_path}/{repository}"
        )
        assert f"{fetch}, then --data {tmp_path}" in str(caught.value)
    with pytest.raises(DocumentError, match="--local-dir DIR/owner/name, then --data DIR"):
        Library(None, online, {}).find("owner/name/x")


@pytest.mark.usefixtures("cache")
def test_a_hub_that_is_out_of_reach_is_asked_once() -> None:
    asked: list[str] = []
    library = Library(None, failing(asked, lambda: TimeoutError("no answer in 3 s")), {})
    for name in ("a/a", "b/b", "c/c"):
        with pytest.raises(DocumentError, match="no answer in 3 s"):
            library.find(f"{name}/x")
    assert asked == ["a/a"]
    asked.clear()
    library = Library(None, failing(asked, lambda: FileNotFoundError("none")), {})  # it answers: there is no such set
    for name in ("a/a", "b/b"):
        with pytest.raises(DocumentError):
            library.find(f"{name}/x")
    assert asked == ["a/a", "b/b"]


def test_the_cache_stands_in_for_a_hub_that_is_switched_off(cache: Path) -> None:
    fill_cache(cache, "data/train-0.parquet", b"cached")
    off = failing([], lambda: OfflineModeIsEnabled("off"))
    found = Library(None, off, {}).find("owner/name/data/*.parquet")
    assert (found.place.kind, found.files) == ("cache", [File("data/train-0.parquet", 6)])
    with found.place.open("data/train-0.parquet") as file:
        assert file.read() == b"cached"
    with pytest.raises(DocumentError, match="HF_HUB_OFFLINE is set"):
        Library(None, off, {}).find("owner/name/other/*.parquet")


def test_the_hub_is_opened_at_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answer(self: HfApi, name: str, *, revision: str | None, timeout: float) -> SimpleNamespace:
        asked.append((name, revision, timeout))
        return SimpleNamespace(sha=revision or "f00")

    monkeypatch.setattr(HfApi, "dataset_info", answer)
    assert open_hub("owner/name", "")[2:] == ("datasets/owner/name@f00", "f00")
    assert open_hub("owner/name", "old").root == "datasets/owner/name@old"
    assert asked == [("owner/name", None, hub_module.HUB_SECONDS), ("owner/name", "old", hub_module.HUB_SECONDS)]


def test_a_hub_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    release = threading.Event()
    monkeypatch.setattr(HfApi, "dataset_info", lambda self, name, **options: release.wait(20))
    monkeypatch.setattr(hub_module, "HUB_SECONDS", 0.05)
    with pytest.raises(TimeoutError, match="no answer in"):
        open_hub("owner/name", "")
    release.set()


@pytest.mark.parametrize("kind", ["zip", "tar", "parts"])
def test_images_are_copied_out_of_archives_however_they_are_packed(kind: str, tmp_path: Path) -> None:
    path = write_pairs(tmp_path, "set", kind)
    pattern = f"{path.relative_to(tmp_path)}{'.part_*' if kind == 'parts' else ''}"
    found = Library(tmp_path, failing([], RuntimeError), {}).find(pattern)
    wanted = {"images/set/3.png", "set/4.png", "images/set/nowhere.png", "../../3.png"}
    with zipfile.ZipFile(tmp_path / "copied.zip", "w") as target:
        told = sorted(copy_pictures(found, wanted, target))
    assert told == ["images/set/3.png", "set/4.png"]
    with zipfile.ZipFile(tmp_path / "copied.zip") as copied:
        assert {name: copied.read(name) for name in copied.namelist()} == {
            "images/set/3.png": png(3),
            "set/4.png": png(4),
        }


def test_a_packed_archive_is_left_when_all_is_found(tmp_path: Path) -> None:
    path = tmp_path / "owner/name/all.tar"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as archive:
        for name, data in (("a.png", png(1)), ("rest.bin", bytes(8 << 20))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    hub = FakeHub(tmp_path)
    found = Library(None, hub, {}).find("owner/name/all.tar")
    with zipfile.ZipFile(tmp_path / "copied.zip", "w") as target:
        assert list(copy_pictures(found, {"images/a.png"}, target)) == ["images/a.png"]
    assert sum(hub.counts.values()) < 3 << 20
