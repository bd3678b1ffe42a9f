"""Finds the files of published data sets: local copies, the hub, or the hub's cache."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias

from moca_rag.deadline import ask_in_time
from moca_rag.errors import ConfigError, DocumentError, one_line

HUB_SECONDS = 3.0
STREAM_BYTES = 16 << 20  # of a stream in one request


class Place(NamedTuple):
    """Where a repository's files are: below which path of which file system (of fsspec), at which commit."""

    kind: str
    """`local`, `hub` or `cache`."""
    system: Any
    root: str
    revision: str = ""

    def open(self, name: str, *, stream: bool = False) -> Any:
        """A file of bytes: one to read from begin to end, or one of which only the parts asked for are fetched."""
        options = {"block_size": STREAM_BYTES} if stream else {"cache_type": "none"}
        return self.system.open(f"{self.root}/{name}", "rb", **options)


OpenHub: TypeAlias = Callable[[str, str], Place]


class File(NamedTuple):
    """A file by its path in its repository."""

    name: str
    size: int


class Found(NamedTuple):
    """The files that a path stands for."""

    place: Place
    files: list[File]


class Library:
    """Where data sets come from. A local copy goes before the hub; the hub's cache stands in where it is out of reach."""

    def __init__(self, folder: Path | None, hub: OpenHub, revisions: Mapping[str, str]) -> None:
        """`folder` holds copies as <owner>/<name>/...; `revisions` are commits of repositories, else the newest."""
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"--data {folder} is no folder: give the one that holds copies as <owner>/<name>/...")
        self._folder = folder
        self._hub = hub
        self._revisions = revisions
        self._places: dict[str, Place] = {}
        self._unreachable: Exception | None = None

    def find(self, path: str) -> Found:
        """The files of `owner/name/pattern`, by name. Raises DocumentError, which says how to fetch them."""
        repository, pattern = split_path(path)
        if self._folder is not None:
            local = _local_place("local", self._folder / repository)
            if files := _list_files(local, pattern):
                return Found(local, files)
        reason = f"it has no {pattern}"
        try:
            place = self._ask(repository)
            if files := _list_files(place, pattern):
                return Found(place, files)
        except Exception as error:  # the hub's client raises another library's errors in each of its versions
            reason = _explain(error)
            cached = _find_cached(repository, pattern)
            if cached is not None and (files := _list_files(cached, pattern)):
                return Found(cached, files)
        folder = self._folder or Path("DIR")
        raise DocumentError(
            f"the data set {repository} is neither local nor cached, and the hub does not give it ({reason}): fetch it "
            f"where there is a network: hf download {repository} --repo-type dataset --include '{pattern}' --local-dir "
            f"{folder / repository}, then --data {folder}",
            "data_missing",
        )

    def _ask(self, repository: str) -> Place:
        """The repository on the hub. A hub that could not be reached once is not asked again."""
        if self._unreachable is not None:
            raise self._unreachable
        if repository not in self._places:
            try:
                self._places[repository] = self._hub(repository, self._revisions.get(repository, ""))
            except Exception as error:
                answered = isinstance(error, FileNotFoundError) or hasattr(error, "response")  # it is not there
                self._unreachable = None if answered else error
                raise
        return self._places[repository]


def split_path(path: str) -> tuple[str, str]:
    """Repository and pattern of `owner/name/pattern`. Raises ConfigError.

    >>> split_path("moca-embed/docmatix/data/train-*.parquet")
    ('moca-embed/docmatix', 'data/train-*.parquet')
    """
    owner, name, pattern = (*path.split("/", 2), "", "")[:3]
    if not owner or not name or not pattern or ".." in PurePosixPath(path).parts:
        raise ConfigError(f"{path!r} is no path of a data set: write owner/name/files, as in vidore/tabfquad/data/*")
    return f"{owner}/{name}", pattern


def open_hub(repository: str, revision: str) -> Place:
    """A repository on the hub, at this commit or else its newest. One look-up with a hard time limit; raises its error."""
    from huggingface_hub import HfApi, HfFileSystem

    info = ask_in_time(
        lambda: HfApi().dataset_info(repository, revision=revision or None, timeout=HUB_SECONDS), HUB_SECONDS
    )
    commit = info.sha or "main"
    return Place("hub", HfFileSystem(), f"datasets/{repository}@{commit}", commit)


def _local_place(kind: str, folder: Path) -> Place:
    from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

    return Place(kind, LocalFileSystem(), folder.absolute().as_posix())


def _explain(error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    told = {
        OfflineModeIsEnabled: "HF_HUB_OFFLINE is set",
        GatedRepoError: "its owner asks for a login: accept the terms, then hf auth login",
        RepositoryNotFoundError: "it has no such data set",
    }
    return next((reason for kind, reason in told.items() if isinstance(error, kind)), one_line(error))


def _find_cached(repository: str, pattern: str) -> Place | None:
    from huggingface_hub import snapshot_download

    with suppress(Exception):  # a cache without it, or one that another version of the client laid out
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=[pattern], local_files_only=True)
        return _local_place("cache", Path(folder))
    return None


def _list_files(place: Place, pattern: str) -> list[File]:
    """The files that match, by name. A folder is listed rather than globbed: the root may hold signs of patterns."""
    parts = PurePosixPath(pattern).parts
    fixed = next((number for number, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)
    try:
        listed = place.system.find("/".join([place.root, *parts[:fixed]]), detail=True)
    except FileNotFoundError:
        return []
    files = (File(name.removeprefix(f"{place.root}/"), info["size"]) for name, info in listed.items())
    return sorted(file for file in files if fnmatchcase(file.name, pattern))
