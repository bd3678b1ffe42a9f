"""Reads MMEB as it is published, rows out of parquet files and pictures out of one zip, from a local copy or the hub."""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .errors import ConfigError, DocumentError, one_line
from .pixels import image_size
from .records import Ids, PixelBudget, Pixels, Query
from .render import MAX_IMAGE_PIXELS, resize_image

REPO = "TIGER-Lab/MMEB-eval"
FETCH = f"hf download {REPO} --repo-type dataset"
SLOT = "<|image_1|>"
TEXT_COLUMNS = ("qry_text", "qry_img_path")
LIST_COLUMNS = ("tgt_text", "tgt_img_path")
HUB_SECONDS = 1.5
ROWS_AT_ONCE = 16  # a row may hold a thousand long candidates


class Item(NamedTuple):
    """A query or a candidate as published: its prompt, with a slot for the picture, and the picture's path, or ""."""

    text: str
    picture: str

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to encode."""
        return not self.picture and not self.text.replace(SLOT, "").strip()

    @property
    def item_id(self) -> str:
        """A name for run files, made of both; it says nothing of the place in a row.

        >>> Item("yes", "").item_id == Item("yes", "a.png").item_id
        False
        """
        return hashlib.blake2b(repr(tuple(self)).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class TaskRows:
    """One task: a query a row, the distinct candidates, and each row's choice of them, the right one first.

    A candidate that a row names twice counts once. `digest` changes with every word of it.
    """

    name: str
    queries: list[Item]
    candidates: list[Item]
    choices: list[Ids]
    digest: str

    def find_row(self, item: Item) -> int:
        """The first row, from 1, that names the item."""
        if item in self.queries:
            return self.queries.index(item) + 1
        position = self.candidates.index(item)
        return next(row for row, choice in enumerate(self.choices, 1) if position in choice)


def find_data(data: Path | None, tasks: Sequence[str]) -> Path:
    """The folder that holds MMEB: the one given, else the hub cache's copy, else one fetched from the hub.

    It is laid out as on the hub: `<task>/test-*.parquet` (or `<task>.parquet`), and `images.zip` or a folder `images`.
    Raises ConfigError, naming the command that fetches it, where there is none.
    """
    if data is not None:
        if not data.is_dir():
            raise ConfigError(f"there is no folder {data}: fetch the data with `{FETCH} --local-dir {data}`")
        return data
    return _find_cached(tasks) or _download(tasks)


def list_tables(folder: Path, task: str) -> list[Path]:
    """The parquet files of a task, in order; none where the folder lacks it."""
    single = folder / f"{task}.parquet"
    return [single] if single.is_file() else sorted((folder / task).glob("test-*.parquet"))


def _hub_files(tasks: Sequence[str]) -> dict[str, Any]:
    return {"repo_type": "dataset", "allow_patterns": [*(f"{task}/test-*.parquet" for task in tasks), "images.zip"]}


def _find_cached(tasks: Sequence[str]) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(REPO, **_hub_files(tasks), local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    whole = (folder / "images.zip").is_file() and all(list_tables(folder, task) for task in tasks)
    return folder if whole else None


def _download(tasks: Sequence[str]) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        HfApi().dataset_info(REPO, timeout=HUB_SECONDS)  # a hub that cannot be reached costs no retries
        return Path(snapshot_download(REPO, **_hub_files(tasks)))
    except Exception as error:  # the hub's client raises another library's errors in each of its versions
        reason = "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else one_line(error)
        raise ConfigError(
            f"MMEB is not whole in the hub cache and cannot be fetched ({reason}): run `{FETCH}` where there "
            "is a network, or give a copy with --data"
        ) from error


def read_rows(folder: Path, task: str) -> TaskRows:
    """The rows of a task. Raises DocumentError on a file or row of another shape, ConfigError without pyarrow."""
    queries: list[Item] = []
    known: dict[Item, int] = {}
    choices: list[Ids] = []
    for path in list_tables(folder, task):
        for row in _iterate_rows(path):
            place = f"{path}, row {len(queries) + 1}"
            query, chosen = _parse_row(row, place)
            queries.append(query)
            positions = (known.setdefault(item, len(known)) for item in chosen)
            choices.append(np.fromiter(dict.fromkeys(positions), np.int64))
    if not queries:
        raise DocumentError(f"{task} has no rows in {folder}: fetch it again with `{FETCH}`", "no_rows")
    digest = hashlib.blake2b(digest_size=16)
    for item in (*queries, *known):
        digest.update(repr(item).encode())
    for choice in choices:
        digest.update(choice.tobytes())
    return TaskRows(task, queries, list(known), choices, digest.hexdigest())


def _iterate_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ConfigError("MMEB's files need pyarrow: pip install 'moca_rag[eval]'") from error
    columns = [*TEXT_COLUMNS, *LIST_COLUMNS]
    try:
        with parquet.ParquetFile(path) as file:
            missing = sorted(set(columns) - set(file.schema_arrow.names))
            if missing:
                raise DocumentError(
                    f"{path} has no column {missing[0]}: MMEB's rows have {', '.join(columns)}", "broken"
                )
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise DocumentError(f"{path} is not a parquet file ({one_line(error)}): copy it again", "broken") from error


def _parse_row(row: dict[str, Any], place: str) -> tuple[Item, list[Item]]:
    """The query of a row, and its candidates but for empty ones. A path that is null is no picture."""
    texts, paths = (row[name] for name in LIST_COLUMNS)
    if not isinstance(texts, list) or not isinstance(paths, list) or len(texts) != len(paths) or not texts:
        raise DocumentError(f"{place}: {' and '.join(LIST_COLUMNS)} must be lists of one length above 0", "broken")
    items = [Item(text or "", path or "") for text, path in zip(texts, paths, strict=True)]
    query = Item(*(row[name] or "" for name in TEXT_COLUMNS))
    if not all(isinstance(part, str) for item in (query, *items) for part in item):
        raise DocumentError(f"{place}: texts and paths must be strings", "broken")
    if query.is_empty or items[0].is_empty:
        raise DocumentError(f"{place}: the query or its right candidate has neither text nor picture", "broken")
    return query, [item for item in items if not item.is_empty]


class Pictures:
    """The pictures of MMEB by path: out of `images.zip` without unpacking it, or out of a folder `images`."""

    def __init__(self, folder: Path, pixels: PixelBudget) -> None:
        """Raises ConfigError where there are none. Pictures are handed out within the pixel budget."""
        self._pixels = pixels
        self._root = (folder / "images").resolve()
        self._zip: zipfile.ZipFile | None = None
        if self._root.is_dir():
            return
        try:
            self._zip = zipfile.ZipFile(folder / "images.zip")
        except FileNotFoundError as error:
            raise ConfigError(f"{folder} holds neither images.zip nor images: fetch them with `{FETCH}`") from error
        except (OSError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{folder / 'images.zip'} cannot be read ({one_line(error)}): fetch it again") from error

    def close(self) -> None:
        """Let go of the zip."""
        if self._zip is not None:
            self._zip.close()

    def read(self, path: str) -> Pixels:
        """Pixels [H, W, 3] of one picture. Raises DocumentError where it is missing, broken or lies outside."""
        content = self._read_bytes(path)
        Image.MAX_IMAGE_PIXELS = MAX_IMAGE_PIXELS // 2  # Pillow refuses at twice its limit
        try:
            with Image.open(io.BytesIO(content)) as image:
                longest = 2 * max(image_size(*image.size, self._pixels))
                image.draft("RGB", (longest, longest))
                return resize_image(image, self._pixels)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DocumentError(f"the picture {path} is broken ({one_line(error)})", "broken") from error

    def make_query(self, item: Item) -> Query:
        """What an encoder reads of an item: the picture, where there is one, then the prompt without its slot.

        Published prompts begin with the slot and a line break; an encoder puts that break between the two itself.
        """
        if not item.picture:
            return Query(item.text.replace(SLOT, ""))
        return Query(item.text.replace(f"{SLOT}\n", "").replace(SLOT, ""), self.read(item.picture))

    def _read_bytes(self, path: str) -> bytes:
        parts = PurePosixPath(path.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise DocumentError(f"the picture {path} lies outside the data: its path is refused", "outside")
        try:
            if self._zip is not None:
                return self._zip.read(path)
            place = (self._root / parts).resolve()
            if not place.is_relative_to(self._root):
                raise DocumentError(f"the picture {path} is a link out of {self._root}: it is refused", "outside")
            return place.read_bytes()
        except KeyError as error:
            raise DocumentError(f"the picture {path} is not in images.zip", "missing") from error
        except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise DocumentError(f"the picture {path} cannot be read ({one_line(error)})", "broken") from error
