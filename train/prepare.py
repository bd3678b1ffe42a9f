"""Builds a stage's mix of published data sets as local rows: a sample of each, streamed, its images inside.

The folder that is written holds `<set>/<set>-00000.parquet` and so on, and `prepare.json`: the mix, the commit of each
repository, and of which pieces of which files each shard is made. A shard that is there is done.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from moca_rag.errors import ConfigError, DocumentError
from moca_rag.locks import WriteLock
from moca_rag.progress import Reporter, SilentReporter

from .hub import Found, Library, OpenHub, open_hub, split_path
from .mixes import (
    Adapter,
    DataSet,
    Mix,
    Plan,
    PrepareReport,
    SetReport,
    Stage,
    compare_mixes,
    hash_files,
    tell_size,
)
from .pictures import image_bytes
from .pieces import Piece, copy_pictures, parse_row, plain_path, read_piece
from .rows import RowError
from .shards import ShardFile, check_row, read_shard
from .sources import SHOWN_FAULTS, SkipLimit

RECORD = "prepare.json"


class _Source(NamedTuple):
    """A set where it was found."""

    one: DataSet
    adapter: Adapter
    found: Found
    pictures: Found | None


def prepare_rows(
    stage: Stage,
    out: Path,
    mix: Mix,
    *,
    data: Path | None = None,
    only: Sequence[str] = (),
    dry_run: bool = False,
    hub: OpenHub = open_hub,
    reporter: Reporter | None = None,
) -> PrepareReport:
    """Write a sample of each set of the mix, or of those that `only` names, into a folder that may have been begun.

    The same mix gives the same rows, however often it was stopped. All sets are found and planned, and the disk they need
    is told and checked, before the first row is fetched. Raises ConfigError on other settings than the folder's or too
    little room, DocumentError where a set is out of reach, a file is broken or too many rows cannot be read.
    """
    chosen = _choose(mix, only)
    run = _Run(stage, out, mix, reporter or SilentReporter())
    sources = run.plan(chosen, Library(data, hub, run.revisions))
    need = run.measure(chosen)
    free = shutil.disk_usage(next(place for place in (out, *out.absolute().parents) if place.exists())).free
    if not dry_run:
        _check_room(out, need, free, mix.rows)
        run.write(sources, need, free)
    return PrepareReport(out, stage, dry_run, need, free, [run.report(one) for one in chosen])


class _Run:
    """One folder: the record of what it is made of, and its sets, written one after another."""

    def __init__(self, stage: Stage, out: Path, mix: Mix, reporter: Reporter) -> None:
        self._stage, self._out, self._mix, self._reporter = stage, out, mix, reporter
        self._plans: dict[str, Plan] = {}
        self.revisions: dict[str, str] = {}
        if (out / RECORD).is_file():
            self._resume(json.loads((out / RECORD).read_text(encoding="utf-8")))
        elif out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise ConfigError(f"{out} is there already: give a folder that is new, empty, or was begun by this command")

    def _resume(self, record: dict[str, Any]) -> None:
        told = [f"stage: {record['stage']} -> {self._stage}"] if record["stage"] != self._stage else []
        told += compare_mixes(record["mix"], self._mix)
        if told:
            raise ConfigError(
                f"{self._out} was begun with other settings ({'; '.join(told)}): use the same, or another folder"
            )
        self._plans = {name: Plan.parse(values) for name, values in record["plans"].items()}
        self.revisions = record["revisions"]

    def _save(self) -> None:
        plans = {name: asdict(plan) for name, plan in self._plans.items()}
        record = {"stage": self._stage, "mix": asdict(self._mix), "revisions": self.revisions, "plans": plans}
        fresh = self._out / f"{RECORD}.tmp"
        fresh.write_text(json.dumps(record), encoding="utf-8")
        fresh.replace(self._out / RECORD)

    # -- planning -----------------------------------------------------------------------------------------------------

    def plan(self, chosen: Sequence[DataSet], library: Library) -> list[_Source]:
        """The sets that are not done yet, all found and planned."""
        sources, missing = [], []
        for one in chosen:
            if one.name in self._plans and self._plans[one.name].done:
                continue
            try:
                found = library.find(one.path)
                pictures = library.find(one.images) if one.images else None
                sources.append(_Source(one, Adapter(one, self._stage, self._mix.negatives), found, pictures))
            except DocumentError as error:
                missing.append((one.name, error))
        if missing:
            name, first = missing[0]
            more = f" (and {len(missing) - 1} more of {len(chosen)} sets)" if missing[1:] else ""
            raise DocumentError(f"{name}{more}: {first}", first.code)
        self._reporter.start("sets", len(sources))
        for source in sources:
            self._plan_set(source)
            self._reporter.advance("sets")
        return sources

    def _plan_set(self, source: _Source) -> None:
        one, adapter, found, pictures = source
        known = self._plans.get(one.name)
        if known is not None and known.content != hash_files(found, pictures):
            raise ConfigError(
                f"{one.path}: these are not the files that {self._out} was begun with ({len(found.files)} now, "
                f"{known.files} then, or others): give the same, or another folder"
            )
        if known is None:
            self._plans[one.name] = Plan.of(one, found, pictures, adapter, self._mix)
            for path, place in ((one.path, found), (one.images, pictures)):
                if place is not None and place.place.revision:
                    self.revisions[split_path(path)[0]] = place.place.revision

    def measure(self, chosen: Sequence[DataSet]) -> int:
        """Bytes, about, that the disk still has to take."""
        open_plans = {one.name: self._plans[one.name] for one in chosen if not self._plans[one.name].done}
        rows = 0
        for name, plan in open_plans.items():
            sizes = [sum(piece.size for piece in shard) for shard in plan.shards]
            left = sum(size for number, size in enumerate(sizes) if not self._place_shard(name, number).exists())
            rows += plan.write * left // max(1, sum(sizes))
        return rows + max((plan.passing for plan in open_plans.values()), default=0)

    def report(self, one: DataSet) -> SetReport:
        """A set as it stands."""
        plan = self._plans[one.name]
        return SetReport(one.name, **{name: getattr(plan, name) for name in SetReport.__slots__ if name != "name"})

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, sources: Sequence[_Source], need: int, free: int) -> None:
        """The rows of these sets, from where the last run came to."""
        self._out.mkdir(parents=True, exist_ok=True)
        lock = WriteLock(self._out / "lock")
        try:
            self._save()
            plans = [self._plans[source.one.name] for source in sources]
            if plans:
                read = tell_size(sum(plan.read for plan in plans))
                self._reporter.say(f"about {read} to read, {tell_size(need)} to write, {tell_size(free)} free")
            self._reporter.start("rows", sum(plan.rows_wanted for plan in plans))
            for number, source in enumerate(sources):
                with self._open_pictures(source, sources[number + 1 :]) as pictures:
                    self._write_set(source, pictures)
        finally:
            lock.release()

    def _write_set(self, source: _Source, pictures: zipfile.ZipFile | None) -> None:
        name, plan, limit = source.one.name, self._plans[source.one.name], SkipLimit(self._mix.max_bad_rows)
        (self._out / name).mkdir(exist_ok=True)
        plan.rows = plan.size = 0
        for number, pieces in enumerate(plan.shards):
            left = plan.rows_wanted - plan.rows - len(limit.skipped)
            if left <= 0:
                break
            path = self._place_shard(name, number)
            if path.exists():
                rows, skipped = read_shard(path)
                limit.skipped += skipped
                self._reporter.advance("rows", rows + len(skipped))
            else:
                rows = self._write_shard(path, islice(_read_rows(source, pieces), left), source, pictures, limit)
            plan.rows += rows
            plan.size += path.stat().st_size
        if not plan.rows:
            raise DocumentError(f"{name}: none of its rows can be read ({limit.skipped[0]})", "unreadable_rows")
        plan.skipped, plan.reasons, plan.done = len(limit.skipped), limit.skipped[:SHOWN_FAULTS], True
        self._save()

    def _write_shard(
        self,
        path: Path,
        raws: Iterator[tuple[str, Any]],
        source: _Source,
        pictures: zipfile.ZipFile | None,
        limit: SkipLimit,
    ) -> int:
        """The rows of some pieces as a file that appears when it is whole; how many there are."""
        fresh, before = path.with_suffix(".tmp"), len(limit.skipped)
        load = _make_loader(source.one, pictures)
        with ShardFile(fresh, self._stage) as file:
            for where, raw in raws:
                try:
                    row = source.adapter.read(parse_row(raw), load)
                    check_row(row)
                    file.add(row)
                except RowError as error:
                    limit.skip(f"{source.one.name}, {where}: {error}")
                    self._reporter.failed()
                self._reporter.advance("rows")
            file.note_skipped(limit.skipped[before:])
        fresh.replace(path)
        return file.num_rows

    def _place_shard(self, name: str, number: int) -> Path:
        return self._out / name / f"{name}-{number:05}.parquet"

    @contextmanager
    def _open_pictures(self, source: _Source, following: Sequence[_Source]) -> Iterator[zipfile.ZipFile | None]:
        """The images that the rows of a set name, gathered for all sets that share the archives, and given up after them."""
        if source.pictures is None:
            yield None
            return
        sharing = [source, *(other for other in following if other.one.images == source.one.images)]
        digest = hashlib.blake2b(source.one.images.encode(), digest_size=8).hexdigest()
        path = self._out / ".pictures" / f"{digest}.zip"
        if not path.is_file() or source.one.name not in _list_sets(path):
            self._gather(path, source.pictures, sharing)
        with zipfile.ZipFile(path) as pictures:
            yield pictures
        if len(sharing) == 1:
            path.unlink()
            with suppress(OSError):  # those of other sets lie there
                path.parent.rmdir()

    def _gather(self, path: Path, archives: Found, sources: Sequence[_Source]) -> None:
        path.parent.mkdir(exist_ok=True)
        paths: set[str] = set()
        for source in sources:
            plan = self._plans[source.one.name]
            paths |= _list_pictures(source, [piece for shard in plan.shards for piece in shard], plan.rows_wanted)
        self._reporter.start("pictures", None)  # some may not be there
        fresh = path.with_suffix(".tmp")
        with zipfile.ZipFile(fresh, "w") as target:
            for _ in copy_pictures(archives, paths, target):
                self._reporter.advance("pictures")
            target.comment = "\n".join(source.one.name for source in sources).encode()
        fresh.replace(path)


def _choose(mix: Mix, only: Sequence[str]) -> list[DataSet]:
    names = [one.name for one in mix.sets]
    for name in only:
        if name not in names:
            near = get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"
            raise ConfigError(f"the mix has no set {name!r}: {hint}")
    return [one for one in mix.sets if not only or one.name in only]


def _check_room(out: Path, need: int, free: int, rows: int) -> None:
    if need > free:
        raise ConfigError(
            f"{out} needs about {tell_size(need)}, and its disk has {tell_size(free)} free: give --rows {rows * free // need} or "
            "fewer, some sets with --only, or another disk"
        )


def _read_rows(source: _Source, pieces: Sequence[Piece]) -> Iterator[tuple[str, Any]]:
    for piece in pieces:
        yield from read_piece(source.found.place, piece, source.adapter.wanted)


def _path_of(value: Any) -> str | None:
    """The path that a value of an image column is, or None where it holds the image."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    return plain_path(value) if isinstance(value, str) and value else None


def _make_loader(one: DataSet, pictures: zipfile.ZipFile | None) -> Callable[[Any], bytes]:
    def load(value: Any) -> bytes:
        path = _path_of(value)
        if path is None or pictures is None:
            return image_bytes(value, None)
        try:
            return pictures.read(path)
        except KeyError as error:
            raise RowError(f"the image {path!r} is not in {one.images}", "missing") from error

    return load


def _list_pictures(source: _Source, pieces: Sequence[Piece], limit: int) -> set[str]:
    """The paths of the images that the first rows of these pieces show."""
    paths: set[str] = set()

    def note(value: Any) -> bytes:
        paths.update(filter(None, [_path_of(value)]))
        return b"an image"

    for _, raw in islice(_read_rows(source, pieces), limit):
        with suppress(RowError):
            source.adapter.read(parse_row(raw), note)
    return paths


def _list_sets(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as pictures:
        return pictures.comment.decode().split("\n")
