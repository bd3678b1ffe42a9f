"""Turns paths into a plan: which files are new, changed, unchanged or gone since the collection was last written."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from moca_rag.catalog import ROOT_ITSELF, Catalog, FileRow
from moca_rag.errors import ConfigError
from moca_rag.records import Failure
from moca_rag.render import SUFFIXES

RACY_NS = 2_000_000_000  # a file younger than this may change again within its time stamp: it is hashed again
NO_TIME = -1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that must be read: where it is, and what it was when it was hashed."""

    root: Path
    relative: str
    path: Path
    stat: tuple[int, int]
    sha256: str
    known: FileRow | None


@dataclass(slots=True)
class Plan:
    """What a run will do, by file."""

    candidates: list[Candidate] = field(default_factory=list)
    unchanged: list[FileRow] = field(default_factory=list)
    touched: list[tuple[FileRow, tuple[int, int]]] = field(default_factory=list)
    gone: list[FileRow] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    unreadable: list[tuple[Path, Failure, tuple[int, int]]] = field(default_factory=list)
    remembered: list[tuple[Path, Failure]] = field(default_factory=list)
    forgotten: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scope:
    """What one argument covers: the whole of a root (`below` is empty), or a part of it."""

    root: Path
    below: str

    @property
    def path(self) -> Path:
        """The folder or file on disk."""
        return self.root / self.below if self.below else self.root

    def covers(self, relative: str) -> bool:
        """Whether a path below the root belongs to this scope."""
        return not self.below or relative == self.below or relative.startswith(self.below + "/")


def find_scopes(paths: list[Path], catalog: Catalog | None) -> list[Scope]:
    """The scopes of these paths; a path below a known root is a part of that root. None given: every known root.

    Raises ConfigError on a path that does not exist and was never indexed.
    """
    roots = sorted(catalog.roots().values()) if catalog is not None else []
    if not paths and not roots:
        raise ConfigError("nothing to index: name a folder of PDFs, as in `moca index ./pdfs`")
    if not paths:
        return [Scope(root, "") for root in roots]
    scopes: dict[Scope, None] = {}
    for path in paths:
        absolute = Path(os.path.abspath(path))
        parents = [root for root in [*roots, *(scope.root for scope in scopes)] if absolute.is_relative_to(root)]
        if not absolute.exists() and not parents:
            raise ConfigError(f"{path} does not exist: name a folder or file that does")
        root = min(parents, key=lambda parent: len(parent.parts), default=absolute)
        below = absolute.relative_to(root).as_posix()
        scopes[Scope(root, "" if below == "." else below)] = None
    whole = {scope.root for scope in scopes if not scope.below}
    outer = [scope for scope in scopes if not any(other in scope.root.parents for other in whole)]
    return [scope for scope in outer if not scope.below or scope.root not in whole]


def list_documents(path: Path) -> list[Path]:
    """The documents below a folder, or the one that is named. Raises ConfigError where there is nothing of that name."""
    if not path.exists():
        raise ConfigError(f"{path} does not exist: name a folder or file that does")
    return list(walk_files(path, [])) if path.is_dir() else [path]


def walk_files(folder: Path, unlisted: list[Path]) -> Iterator[Path]:
    """Documents below a folder, in a fixed order. Hidden entries are left out; each real folder is entered once.

    Links to folders are followed after all real folders, so that a document's own path is found first, and a loop of
    links ends at the first folder seen twice. Folders that cannot be listed are added to `unlisted`.
    """
    seen: set[tuple[int, int]] = set()
    pending: list[Path] = [folder]
    linked: list[Path] = []
    while pending or linked:
        current = pending.pop() if pending else linked.pop(0)
        try:
            stat = current.stat()
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError:
            unlisted.append(current)
            continue
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        visible = [entry for entry in entries if not entry.name.startswith(".")]
        folders = {entry.name: entry for entry in visible if _is_folder(entry)}
        linked.extend(Path(entry.path) for entry in folders.values() if entry.is_symlink())
        pending.extend(Path(entry.path) for entry in reversed(folders.values()) if not entry.is_symlink())
        for entry in visible:
            if Path(entry.name).suffix.lower() in SUFFIXES and entry.name not in folders:
                yield Path(entry.path)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


Failed = dict[str, list[tuple[Failure, tuple[int, int]]]]


def make_plan(
    scopes: list[Scope],
    catalog: Catalog | None,
    *,
    prune: bool = False,
    retry: Callable[[Failure], bool] = lambda failure: False,
) -> Plan:
    """Compare what lies on disk with what the collection holds; a file whose size and time are as before costs a stat.

    Files that are gone leave, unless their folder cannot be read or over half of a scope is gone: then only `prune`
    drops them. `retry` says which of the failures that are remembered are worth another try.
    """
    plan = Plan()
    for scope in scopes:
        known, failed = _known_in(scope, catalog)
        found, unlisted = _find_files(scope)
        for relative, path in found.items():
            _plan_file(
                plan, Candidate(scope.root, relative, path, (0, NO_TIME), "", known.get(relative)), failed, retry
            )
        kept = {} if prune else _suspicious(scope, known, found, unlisted, {file.sha256 for file in plan.candidates})
        if kept:
            plan.kept.append(f"{len(kept)} of {len(known)} documents under {scope.path} are gone or cannot be reached")
        plan.unchanged.extend(known[relative] for relative in kept)
        plan.gone.extend(file for relative, file in known.items() if relative not in found and relative not in kept)
        plan.forgotten.extend((scope.root, relative) for relative in failed if relative not in found and not kept)
    return plan


def _suspicious(
    scope: Scope, known: Mapping[str, FileRow], found: Mapping[str, Path], unlisted: Sequence[Path], moved: set[str]
) -> dict[str, None]:
    """Files that are gone in a way that looks like an accident; one whose bytes lie elsewhere has only moved."""
    missing = [relative for relative, file in known.items() if relative not in found and file.sha256 not in moved]
    if not scope.path.exists() or 2 * len(missing) > len(known):
        return dict.fromkeys(missing)
    return dict.fromkeys(r for r in missing if any(folder in (scope.root / r).parents for folder in unlisted))


def _find_files(scope: Scope) -> tuple[dict[str, Path], list[Path]]:
    """Files of a scope by path below its root, and the folders that could not be listed."""
    unlisted: list[Path] = []
    path = scope.path
    if path.is_dir():
        return {file.relative_to(scope.root).as_posix(): file for file in walk_files(path, unlisted)}, unlisted
    return ({scope.below or ROOT_ITSELF: path} if path.exists() else {}), unlisted


def _known_in(scope: Scope, catalog: Catalog | None) -> tuple[dict[str, FileRow], Failed]:
    """Files and failures that the collection knows in a scope, by path below its root, inner roots included."""
    known: dict[str, FileRow] = {}
    failed: Failed = {}
    if catalog is None:
        return known, failed
    for root_id, root in catalog.roots().items():
        if not root.is_relative_to(scope.root):
            continue
        prefix = root.relative_to(scope.root)
        for file in catalog.files(root_id=root_id):
            relative = (prefix / file.path).as_posix()
            if scope.covers(relative):
                known[relative] = file
        for _, failure, stat in catalog.failures(root_id):
            relative = (prefix / failure.path).as_posix()
            if scope.covers(relative):
                failed.setdefault(relative, []).append((replace(failure, path=relative), stat))
    return known, failed


def _plan_file(plan: Plan, file: Candidate, failed: Failed, retry: Callable[[Failure], bool]) -> None:
    """Put one file where it belongs; `file` has neither time nor hash yet."""
    known, before = file.known, failed.get(file.relative, [])
    settled = known is None or known.complete
    try:
        file.relative.encode()
        stat = _stat(file.path)
        if before and before[0][1] == stat and settled and not any(retry(failure) for failure, _ in before):
            plan.remembered.extend((file.root, failure) for failure, _ in before)
            plan.unchanged.extend([known] if known is not None else [])
            return
        if known is not None and (known.size, known.mtime_ns) == stat and settled and not before:
            plan.unchanged.append(known)
            return
        sha256 = _hash(file.path)
        if _stat(file.path) != stat:
            raise OSError(0, "it changed while it was read")
    except (OSError, UnicodeEncodeError) as error:
        plan.unreadable.append((file.root, _unreadable(file.relative, error), (0, NO_TIME)))
        plan.unchanged.extend([known] if known is not None else [])
        return
    stable = stat if time.time_ns() - stat[1] > RACY_NS else (stat[0], NO_TIME)
    if known is not None and known.sha256 == sha256 and settled and not before:
        plan.unchanged.append(known)
        plan.touched.append((known, stable))
        return
    plan.candidates.append(replace(file, stat=stable, sha256=sha256))


def _unreadable(relative: str, error: OSError | UnicodeEncodeError) -> Failure:
    if isinstance(error, UnicodeEncodeError):
        shown = relative.encode("utf-8", "backslashreplace").decode()
        return Failure(shown, 0, "bad_name", "its name is not UTF-8: rename it")
    return Failure(relative, 0, "unreadable", f"cannot be read: {error.strerror or error}")


def _stat(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
