"""The published data sets of a stage as settings, and the plan of what of their files becomes rows."""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self, TypeAlias, cast

from moca_rag.config import load_settings
from moca_rag.errors import ConfigError

from .hub import Found, split_path
from .pieces import Piece, list_pieces, measure_line
from .rows import CptRow, PairRow
from .schemas import SCHEMAS, Context

Stage: TypeAlias = Literal["cpt", "cl"]

MIXES = Path(__file__).parent / "configs" / "data"
DRAWS = ("random", "first")
SHARD_BYTES = 256 << 20  # read for one shard: what a kill can cost
PICTURE_BYTES = 200_000  # what an image counts as while it lies in an archive that nobody has read


@dataclass(frozen=True, slots=True)
class DataSet:
    """A published data set: where it is, and how its rows are read."""

    path: str
    """Its files, parquet or JSON lines: `owner/name/pattern` on the hub."""
    name: str = ""
    """Its folder and task; without it the folder of its files, or its repository where that is `data`."""
    format: str = "rows"
    """`rows`, our own columns, or a schema: `moca-cl-pairs`, `mmeb-train`, `colpali`, `docmatix`."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our names of columns to theirs; `pos.0` is the first of a list."""
    instruction: str = ""
    """Put before queries that have none of their own."""
    images: str = ""
    """The zips or tars that its images' paths lead into: `owner/name/pattern`."""


@dataclass(frozen=True, slots=True)
class Mix:
    """The sets of a stage, and how much of each."""

    rows: int = 500_000
    """At most so many of each set."""
    draw: str = "random"
    """`random`: row groups drawn from all over a set; `first`: those at its begin."""
    seed: int = 0
    negatives: int = 2
    """Only so many of a pair's negatives, from the first."""
    max_bad_rows: int = 1000
    """Rows of a set that cannot be read are left out, up to so many; then the run stops and names them."""
    sets: tuple[DataSet, ...] = ()


def load_mix(stage: Stage, path: Path | None = None, *, rows: int | None = None, seed: int | None = None) -> Mix:
    """The stage's mix of the paper, or that of a file, each set named. Raises ConfigError on what cannot be used."""
    mix = load_settings(Mix(), path or MIXES / f"{stage}.yaml")
    rows, seed = mix.rows if rows is None else rows, mix.seed if seed is None else seed
    mix = replace(mix, rows=rows, seed=seed, sets=tuple(replace(one, name=_name_of(one)) for one in mix.sets))
    if mix.rows < 1 or mix.negatives < 0:
        raise ConfigError(f"rows is {mix.rows}, negatives {mix.negatives}: give at least one row, and no less than 0")
    if mix.draw not in DRAWS:
        raise ConfigError(f"draw is {mix.draw!r}: give {' or '.join(DRAWS)}")
    names = [one.name for one in mix.sets]
    for one in mix.sets:
        Adapter(one, stage, mix.negatives)
        if names.count(one.name) > 1 or PurePosixPath(one.name).parts != (one.name,) or one.name.startswith("."):
            raise ConfigError(f"{one.path}: the name {one.name!r} is taken or none of a folder: give it another")
    if not names:
        raise ConfigError(f"{path} lists no data sets: write sets: [{{path: owner/name/files}}]")
    return mix


class Adapter:
    """Turns the raw rows of a data set into those of a stage."""

    def __init__(self, one: DataSet, stage: Stage, negatives: int) -> None:
        """Raises ConfigError where the stage has no use for the set, or its settings name what is not there."""
        split_path(one.path)
        if one.format not in SCHEMAS:
            near = get_close_matches(one.format, SCHEMAS, 1) or list(SCHEMAS)
            raise ConfigError(f"{one.path}: there is no format {one.format!r}: did you mean {near[0]!r}?")
        schema = SCHEMAS[one.format]
        for ours in one.columns:
            if ours not in schema.columns:
                near = get_close_matches(ours, schema.columns, 1) or list(schema.columns)
                raise ConfigError(f"{one.path}: columns maps {ours!r}, none of ours: did you mean {near[0]!r}?")
        read = schema.cpt if stage == "cpt" else schema.pairs
        if read is None:
            raise ConfigError(f"{one.path}: {one.format} has no pairs of query and page: it is for the stage cpt")
        self._read = cast("Callable[[dict[str, Any], Context], CptRow | PairRow]", read)
        self._one, self._negatives = one, negatives
        self._names = {ours: one.columns.get(ours, ours) for ours in schema.columns}
        self.wanted = {name for theirs in self._names.values() for name in (theirs, theirs.partition(".")[0])}
        needed = schema.needed_cpt if stage == "cpt" else schema.needed_pairs
        self.needed = [[self._names[name].partition(".")[0] for name in group] for group in needed]

    def read(self, raw: dict[str, Any], load: Callable[[Any], bytes]) -> CptRow | PairRow:
        """The row; `load` gives the file behind each value of an image column. Raises RowError."""
        values = {ours: _pick(raw, theirs) for ours, theirs in self._names.items()}
        values["instruction"] = values.get("instruction") or self._one.instruction
        return self._read(values, Context(load, self._one.name, self._negatives))


@dataclass(slots=True)
class Plan:
    """What of a set's files becomes rows, and what that takes; then what has become of it."""

    place: str
    """`local`, `hub` or `cache`."""
    content: str
    """A hash of the names and sizes of all files."""
    files: int
    rows_there: int | None
    """None where lines have to be read to be counted."""
    rows_wanted: int
    read: int
    """Bytes, about."""
    write: int
    """Bytes, about."""
    passing: int
    """Bytes, about, of images that lie beside the rows while these are written."""
    shards: list[list[Piece]] = field(default_factory=list)
    rows: int = 0
    skipped: int = 0
    size: int = 0
    reasons: list[str] = field(default_factory=list)
    done: bool = False

    @classmethod
    def of(cls, one: DataSet, found: Found, pictures: Found | None, adapter: Adapter, mix: Mix) -> Self:
        """The plan for a set as it was found. The same settings and files give the same plan."""
        pieces = list_pieces(found, adapter.wanted, adapter.needed)
        if mix.draw == "random":
            random.Random(f"{mix.seed} {one.name}").shuffle(pieces)
        counts = [piece.rows for piece in pieces if piece.rows is not None]
        rows_there = sum(counts) if len(counts) == len(pieces) else None
        if not pieces or rows_there == 0:
            raise ConfigError(f"{one.path} has no rows: mend its path")
        total = sum(piece.size for piece in pieces)
        if rows_there is None:
            rows_wanted = mix.rows
            read = write = min(total, int(mix.rows * measure_line(found)))
            share = read / total
        else:
            rows_wanted = min(mix.rows, rows_there)
            enough = next(number for number, rows in enumerate(accumulate(counts), 1) if rows >= rows_wanted)
            pieces = pieces[:enough]
            read = sum(piece.size for piece in pieces)
            write = read * rows_wanted // sum(counts[:enough])
            share = rows_wanted / rows_there
        archives = sum(file.size for file in pictures.files) if pictures else 0
        passing = int(min(archives * share, rows_wanted * PICTURE_BYTES))
        # Each image lies once in the archives, but in every row that shows it: on half of its sides, as a guess.
        write += passing * (2 + mix.negatives) // 2
        shards = [list(shard) for shard in _pack(pieces)]
        content = hash_files(found, pictures)
        return cls(
            found.place.kind,
            content,
            len(found.files),
            rows_there,
            rows_wanted,
            read + archives,
            write,
            passing,
            shards,
        )

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """A plan that came from JSON."""
        return cls(**values | {"shards": [[Piece(*piece) for piece in shard] for shard in values["shards"]]})


@dataclass(frozen=True, slots=True)
class SetReport:
    """What of a set was planned (see `Plan`), and what was written; `reasons` are those of the first rows left out."""

    name: str
    place: str
    files: int
    rows_there: int | None
    rows_wanted: int
    read: int
    write: int
    rows: int
    skipped: int
    size: int
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """A mix as planned (`dry_run`) or written; `need` is what was left to write, and images that lie beside it meanwhile."""

    folder: Path
    stage: Stage
    dry_run: bool
    need: int
    free: int
    sets: list[SetReport]


def tell_size(number: int) -> str:
    """Bytes as a person reads them.

    >>> tell_size(2_500_000), tell_size(650_000_000_000)
    ('2.5 MB', '650.0 GB')
    """
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"


def hash_files(found: Found, pictures: Found | None) -> str:
    """A hash of the names and sizes of a set's files."""
    files = [tuple(file) for files in (found, pictures) if files is not None for file in files.files]
    return hashlib.blake2b(repr(files).encode(), digest_size=16).hexdigest()


def compare_mixes(theirs: dict[str, Any], mix: Mix) -> list[str]:
    """How two mixes differ, where the first was begun; sets that only one of them has do not count."""
    mine = asdict(mix)
    names = [name for name in mine if name not in ("sets", "max_bad_rows")]
    told = [f"{name}: {theirs.get(name)} -> {mine[name]}" for name in names if theirs.get(name) != mine[name]]
    sets = {one["name"]: one for one in theirs["sets"]}
    for one in mine["sets"]:
        before = sets.get(one["name"], one)
        told += [f"{one['name']}, {key}: {before[key]} -> {one[key]}" for key in one if before[key] != one[key]]
    return told


def _name_of(one: DataSet) -> str:
    repository, pattern = split_path(one.path)
    folders = [part for part in PurePosixPath(pattern).parts[:-1] if part != "data" and not set(part) & set("*?[")]
    return one.name or (folders[-1] if folders else repository.partition("/")[2])


def _pick(raw: dict[str, Any], name: str) -> Any:
    """A value of a row by its column, or by the column and its place in a list, as in `pos.0`."""
    column, _, place = name.partition(".")
    if name in raw or not place:
        return raw.get(name)
    values = raw.get(column)
    return values[int(place)] if isinstance(values, list) and place.isdigit() and int(place) < len(values) else None


def _pack(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces in order, a shard's worth at a time."""
    shard: list[Piece] = []
    size = 0
    for piece in pieces:
        if shard and size + piece.size > SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(piece)
        size += piece.size
    yield shard
