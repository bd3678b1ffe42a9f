"""Opens a declared source of rows: parquet, JSON lines or a folder, our own columns or those of a published data set."""

import hashlib
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from glob import glob
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from moca_rag.errors import ConfigError, DocumentError

from .pictures import Pictures, image_bytes
from .rows import CptRow, PairRow, RowError
from .schemas import SCHEMAS, Context, Schema
from .settings import Source
from .tables import FolderTable, LinesTable, ParquetTable, Table

SUFFIXES = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
MADE = ("composed", "passages", "lines")  # row by row when asked for
FORMATS = ("auto", "parquet", "jsonl", "folder", *MADE, *(name for name in SCHEMAS if name != "rows"))
PICTURE_PLACES = ("images", "images.zip", "images.tar")  # looked for beside a table where nothing else is said
SAMPLED_FILES, SAMPLE_BYTES = 64, 65_536
SHOWN_FAULTS = 5

Row = TypeVar("Row", bound=CptRow | PairRow)
Built = TypeVar("Built")


class Rows(Generic[Row]):
    """The rows of a source by number, from 0. Reading one raises RowError, which says where it stands."""

    def __init__(self, source: Source, table: Table, schema: Schema, read: Callable[[Any, Context], Row]) -> None:
        self.source = source
        self.name = _name_of(table, source)
        self._table = table
        self._read = read
        self._names = {name: source.columns.get(name, name) for name in schema.columns}
        self._pictures = _find_pictures(source, table)
        self._size = len(table) if source.limit is None else min(len(table), source.limit)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < self._size:
            raise IndexError(f"{self.name} has {self._size} rows, and no row {index}")
        context = Context(self._load, self.source.task or self.name, self.source.negatives)
        try:
            raw = self._table[index]
            return self._read({ours: raw[theirs] for ours, theirs in self._names.items() if theirs in raw}, context)
        except RowError as error:
            raise RowError(f"{self.name}, row {index + 1}: {error}", error.code) from error

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))

    def tasks(self) -> Iterator[str]:
        """The task of every row: its own, the source's, or that of the file's or folder's name."""
        named = self._table.read_column(self._names["task"]) if "task" in self._names else repeat(None)
        default = self.source.task or self.name
        return (task if isinstance(task, str) and task else default for task in islice(named, self._size))

    def fingerprint(self) -> str:
        """A hash of how the rows are read, of all file sizes and of samples of the bytes; no name, place or time."""
        source = self.source
        told = (self._size, self._names, source.task, source.limit, source.columns, source.negatives)
        digest = hashlib.blake2b(repr(told).encode(), digest_size=16)
        files = list(self._table.files)
        if self._pictures is not None and self._pictures.place.is_file():
            files.append(self._pictures.place)
        digest.update(repr([path.stat().st_size for path in files]).encode())
        for path in files[:: max(1, len(files) // SAMPLED_FILES)]:
            with path.open("rb") as file:
                size = path.stat().st_size
                for start in sorted({0, max(0, size // 2), max(0, size - SAMPLE_BYTES)}):
                    file.seek(start)
                    digest.update(file.read(SAMPLE_BYTES))
        return digest.hexdigest()

    def _load(self, value: Any) -> bytes:
        return image_bytes(value, self._pictures)


def open_cpt(source: Source) -> Rows[CptRow]:
    """The rows of stage one. Raises ConfigError where the source cannot be read that way."""
    if source.format == "composed":
        composed: Rows[CptRow] = _compose(source, CptRow)
        return composed
    rows: Rows[CptRow] = _open(source, "cpt")
    return rows


def open_pairs(source: Source) -> Rows[PairRow]:
    """The rows of stage two. Raises ConfigError where the source cannot be read that way."""
    rows: Rows[PairRow] = _make_pairs(source) if source.format in MADE else _open(source, "pairs")
    return rows


def _make_pairs(source: Source) -> Any:
    if source.format == "composed":
        return _compose(source, PairRow)
    if source.format == "passages":
        from .sentences import PassageRows

        return PassageRows(source)
    from .lines import LineRows

    return LineRows(source)


def _compose(source: Source, stage: type[Any]) -> Any:
    from .composed import ComposedRows  # draws letters, which no other source needs

    if not source.images:
        raise ConfigError(f"{source.path}: pages are composed in fonts: set images to their folder")
    return ComposedRows(source, stage)


class SkipLimit:
    """Counts rows that cannot be read: up to the limit they are passed over, one more stops the run."""

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        self.skipped: list[str] = []

    def skip(self, reason: str) -> None:
        """Count one row. Raises DocumentError over the limit, naming the first ones."""
        self.skipped.append(reason)
        if len(self.skipped) > self.limit:
            shown = "; ".join(self.skipped[:SHOWN_FAULTS])
            more = f"; and {len(self.skipped) - SHOWN_FAULTS} more" if len(self.skipped) > SHOWN_FAULTS else ""
            raise DocumentError(
                f"{len(self.skipped)} rows cannot be read, over the limit of {self.limit} ({shown}{more}): "
                "mend or drop them, or raise the limit",
                "unreadable_rows",
            )


def _open(source: Source, stage: str) -> Any:
    if source.format not in FORMATS:
        near = get_close_matches(source.format, FORMATS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(FORMATS)}"
        raise ConfigError(f"{source.path}: there is no format {source.format!r}: {hint}")
    schema = SCHEMAS.get(source.format, SCHEMAS["rows"])
    read = schema.cpt if stage == "cpt" else schema.pairs
    if read is None:
        raise ConfigError(f"{source.path}: {source.format} has no pairs of query and page: it is for `moca train cpt`")
    for ours in source.columns:
        if ours not in schema.columns:
            near = get_close_matches(ours, schema.columns, 1) or list(schema.columns)
            raise ConfigError(f"{source.path}: columns maps {ours!r}, which is none of ours: did you mean {near[0]!r}?")
    table = _open_table(source, schema, pairs=stage == "pairs")
    if not len(table):
        raise ConfigError(f"{source.path} has no rows")
    for group in (schema.needed_cpt if stage == "cpt" else schema.needed_pairs) if table.columns else ():
        theirs = [source.columns.get(name, name) for name in group]
        if not table.columns.intersection(theirs):
            there = ", ".join(sorted(table.columns))
            raise ConfigError(
                f"{source.path} has no column {' or '.join(theirs)} (it has {there}): map it, as in columns: "
                f"{{{group[0]}: {min(table.columns)}}}"
            )
    return Rows(source, table, schema, cast(Any, read))


def _open_table(source: Source, schema: Schema, *, pairs: bool) -> Table:
    kind, files = _find_files(source)
    if kind == "folder":
        return FolderTable(files[0], pairs=pairs)
    if kind == "jsonl":
        return LinesTable(files)
    return ParquetTable(files, [source.columns.get(name, name) for name in schema.columns])


def _find_files(source: Source) -> tuple[str, list[Path]]:
    """Which kind of table a path is, and its files in order of their names."""
    path = Path(source.path)
    kind = source.format if source.format in ("parquet", "jsonl") else ""
    if source.format == "folder" and path.is_dir():
        return "folder", [path]
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    else:
        files = sorted(Path(file) for file in glob(source.path, recursive=True))
    if not files and path.is_dir() and source.format == "auto":
        return "folder", [path]
    if not files and not path.exists():
        raise ConfigError(
            f"{source.path} does not exist: give a file, a folder or a pattern of files (`moca data prepare` makes rows of "
            "data sets on the hub)"
        )
    kinds = {kind or SUFFIXES.get(file.suffix.lower(), "") for file in files}
    if len(kinds) != 1 or not min(kinds):
        what = "holds nothing that can be read" if not files else "is no one kind of table"
        raise ConfigError(
            f"{source.path} {what}: give .parquet or .jsonl files, or a folder of pictures and .txt files"
        )
    return min(kinds), files


def _find_pictures(source: Source, table: Table) -> Pictures | None:
    if source.images:
        return Pictures(Path(source.images))
    beside = Path(table.files[0]).parent
    return next((Pictures(beside / name) for name in PICTURE_PLACES if (beside / name).exists()), None)


def _name_of(table: Table, source: Source) -> str:
    """A file's own name, or its folder's where it is one of several or a numbered shard."""
    first = Path(table.files[0])
    if isinstance(table, FolderTable):
        return Path(source.path).name
    return first.stem if len(table.files) == 1 and "-of-" not in first.stem else first.parent.name
