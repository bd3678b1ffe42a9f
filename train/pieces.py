"""Reads the files of a data set piece by piece, wherever they are: row groups, ranges of JSON lines, zips and tars."""

import json
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from moca_rag.errors import ConfigError, DocumentError, one_line

from .hub import File, Found, Place
from .pictures import MAX_FILE_BYTES
from .rows import RowError

FOOTERS_AT_ONCE = 16  # each is a request or two, and a set may have a thousand files
LINES_BYTES = 64 << 20  # of JSON lines in a piece
PEEK_BYTES = 64 << 10
ROWS_AT_ONCE = 64
UNPACKED = "images/"  # where publishers say to unpack an archive: rows name their images from above it


class Piece(NamedTuple):
    """What is read at once: a row group of a parquet file, or the JSON lines that begin in a range of bytes."""

    file: str
    start: int
    """The group's number, or a byte."""
    stop: int
    """The byte where lines end; 0 for a group."""
    rows: int | None
    """None for lines: to count them is to read them."""
    size: int
    """Bytes to read."""


def list_pieces(found: Found, wanted: Collection[str], needed: Sequence[Sequence[str]]) -> list[Piece]:
    """Every piece of the files, in order, from footers and sizes alone; of parquet files only the wanted columns.

    Raises ConfigError where files are neither parquet nor JSON lines, or lack all columns of one of the needed groups.
    """
    suffixes = {PurePosixPath(file.name).suffix for file in found.files}
    if suffixes == {".jsonl"}:
        return [piece for file in found.files for piece in _split_lines(file)]
    if suffixes != {".parquet"}:
        name = found.files[0].name
        raise ConfigError(f"{name} and the files beside it are no one kind of table: name .parquet or .jsonl files")
    read = partial(_list_groups, found.place, wanted=wanted, needed=needed)
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as threads:
        return [piece for pieces in threads.map(read, found.files) for piece in pieces]


def measure_line(found: Found) -> float:
    """The mean bytes of a JSON line, from the begin of the first file."""
    with _naming(found.files[0].name), found.place.open(found.files[0].name) as stream:
        head: bytes = stream.read(PEEK_BYTES)
    return len(head) / max(1, head.count(b"\n"))


def read_piece(place: Place, piece: Piece, wanted: Collection[str]) -> Iterator[tuple[str, dict[str, Any] | bytes]]:
    """Where each row stands, and its values, or its line of JSON as it is. Raises DocumentError on a broken file."""
    with _naming(piece.file), place.open(piece.file, stream=piece.stop > 0) as stream:
        yield from _read_lines(stream, piece) if piece.stop else _read_group(stream, piece, wanted)


def parse_row(raw: dict[str, Any] | bytes) -> dict[str, Any]:
    """The values of what `read_piece` gives. Raises RowError."""
    if isinstance(raw, dict):
        return raw
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RowError(f"it is not JSON ({one_line(error)})") from error
    if not isinstance(row, dict):
        raise RowError(f"it must be one JSON object, not {type(row).__name__}")
    return row


def plain_path(path: str) -> str:
    """An image's path as `copy_pictures` writes it, whatever its slashes."""
    return PurePosixPath(path.replace("\\", "/")).as_posix()


def copy_pictures(found: Found, paths: Collection[str], target: zipfile.ZipFile) -> Iterator[str]:
    """Copy the images of these paths out of zips and tars, each read once from begin to end: their paths, as found.

    Files called `.part...` are one archive, cut. A member is known by a path, or by it without `images/` in front.
    """
    known = {name: path for path in paths for name in (path.removeprefix(UNPACKED), path)}
    parts = [file.name for file in found.files if ".part" in file.name]
    archives = [[file.name] for file in found.files if file.name not in parts] + ([parts] if parts else [])
    for names in archives:
        read = _read_zip if names[0].endswith(".zip") else _read_tar
        with _naming(names[0]):
            for name, data in read(found.place, names, known):
                path = known[name]
                for other in (path.removeprefix(UNPACKED), path):
                    known.pop(other, None)
                target.writestr(path, data)
                yield path
                if not known:
                    return


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn what any reader or the hub's client raises on a file into one line that names it."""
    try:
        yield
    except (DocumentError, ConfigError):
        raise
    except Exception as error:
        raise DocumentError(
            f"{name} cannot be read ({one_line(error)}): give the same command again, it goes on from there; a copy that "
            "is broken has to be fetched anew",
            "data_broken",
        ) from error


def _list_groups(place: Place, file: File, wanted: Collection[str], needed: Sequence[Sequence[str]]) -> list[Piece]:
    import pyarrow.parquet as parquet

    with _naming(file.name), place.open(file.name) as stream, parquet.ParquetFile(stream) as table:
        names = set(table.schema_arrow.names)
        groups = [table.metadata.row_group(number) for number in range(table.num_row_groups)]
    for choice in needed:
        if not names.intersection(choice):
            raise ConfigError(
                f"{file.name} has no column {' or '.join(choice)} (it has {', '.join(sorted(names))}): map it, as in "
                f"columns: {{{choice[0]}: {min(names)}}}"
            )
    pieces = []
    for number, group in enumerate(groups):
        columns = [group.column(place) for place in range(group.num_columns)]
        size = sum(column.total_compressed_size for column in columns if column.path_in_schema.split(".")[0] in wanted)
        pieces.append(Piece(file.name, number, 0, group.num_rows, size))
    return pieces


def _split_lines(file: File) -> Iterator[Piece]:
    for start in range(0, file.size, LINES_BYTES):
        stop = min(start + LINES_BYTES, file.size)
        yield Piece(file.name, start, stop, None, stop - start)


def _read_group(stream: Any, piece: Piece, wanted: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(stream, pre_buffer=True) as file:  # one large request instead of one a page
        columns = [name for name in file.schema_arrow.names if name in wanted]
        batches = file.iter_batches(ROWS_AT_ONCE, row_groups=[piece.start], columns=columns, use_threads=False)
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield f"{piece.file}, group {piece.start + 1}, row {number}", row


def _read_lines(stream: Any, piece: Piece) -> Iterator[tuple[str, bytes]]:
    """The lines whose first byte lies in the piece: one that runs into it belongs to the piece before."""
    place = piece.start
    if place:
        stream.seek(place - 1)
        place += len(stream.readline()) - 1
    while place < piece.stop:
        line = stream.readline()
        if line.strip():
            yield f"{piece.file}, byte {place}", line
        place += len(line)


def _read_zip(place: Place, names: list[str], known: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    with place.open(names[0], stream=True) as stream, zipfile.ZipFile(stream) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
            if member.filename in known and member.file_size <= MAX_FILE_BYTES:
                data = b""
                with suppress(zipfile.BadZipFile, zlib.error):  # its rows are counted as unreadable
                    data = archive.read(member)
                yield member.filename, data


def _read_tar(place: Place, names: list[str], known: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    with ExitStack() as stack:
        streams = (stack.enter_context(place.open(name, stream=True)) for name in names)
        chain: Any = _Chain(streams)
        archive = stack.enter_context(tarfile.open(fileobj=chain, mode="r|*", bufsize=1 << 20))
        for member in archive:
            name = member.name.removeprefix("./")
            if name in known and member.isfile() and member.size <= MAX_FILE_BYTES:
                data = archive.extractfile(member)
                yield name, data.read() if data else b""
            archive.members = []  # type: ignore[attr-defined]  # it would remember millions


class _Chain:
    """Streams as one, end to end, each opened when it is reached."""

    def __init__(self, streams: Iterator[Any]) -> None:
        self._streams = streams
        self._now: Any = next(streams)

    def read(self, size: int) -> bytes:
        """The next bytes, at most so many; none at the end of the last stream."""
        while True:
            data: bytes = self._now.read(size)
            following = None if data else next(self._streams, None)
            if following is None:
                return data
            self._now = following
