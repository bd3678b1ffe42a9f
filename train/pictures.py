"""Encoded images by path, out of a folder, a zip or a tar, without unpacking it."""

import os
import tarfile
import zipfile
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from moca_rag.errors import ConfigError, one_line

from .rows import RowError

MAX_FILE_BYTES = 256 * 1024 * 1024  # an image file beyond this is an attack or a mistake


class Pictures:
    """The images below one place. It may be read from several threads, and by workers that were forked or spawned."""

    def __init__(self, place: Path) -> None:
        """Raises ConfigError where there is no folder, zip or plain tar."""
        self.place = place
        self._members: dict[str, tuple[int, int]] | None = None
        self._is_folder = place.is_dir()
        if self._is_folder:
            return
        if not place.is_file():
            raise ConfigError(f"{place} holds no images: there is no such folder, zip or tar")
        if not zipfile.is_zipfile(place):
            self._members = _list_tar(place)

    def read(self, path: str) -> bytes:
        """The file of one image. Raises RowError where it is missing, too large, or its path leaves the place."""
        parts = PurePosixPath(path.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or not parts.name:
            raise RowError(f"the image {path!r} lies outside {self.place}: its path is refused", "outside")
        name = parts.as_posix()
        try:
            if self._is_folder:
                return self._read_file(name)
            return self._read_zip(name) if self._members is None else self._read_tar(self._members, name)
        except KeyError as error:
            raise RowError(f"the image {name!r} is not in {self.place}", "missing") from error
        except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise RowError(f"the image {name!r} cannot be read ({one_line(error)})") from error

    def _read_file(self, name: str) -> bytes:
        root = self.place.resolve()
        place = (root / name).resolve()
        if not place.is_relative_to(root):
            raise RowError(f"the image {name!r} is a link out of {self.place}: it is refused", "outside")
        _check_size(name, place.stat().st_size)
        return place.read_bytes()

    def _read_zip(self, name: str) -> bytes:
        archive = _open_zip(str(self.place), self.place.stat().st_mtime_ns, os.getpid())
        _check_size(name, archive.getinfo(name).file_size)
        return archive.read(name)

    def _read_tar(self, members: dict[str, tuple[int, int]], name: str) -> bytes:
        start, size = members[name]
        _check_size(name, size)
        with self.place.open("rb") as file:
            file.seek(start)
            return file.read(size)


def image_bytes(value: Any, pictures: Pictures | None) -> bytes:
    """The file behind a value of an image column: bytes, the hub's {bytes, path}, or a path. Raises RowError."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return value
    if not isinstance(value, str) or not value:
        raise RowError(f"an image must be bytes or a path, not {type(value).__name__}")
    if pictures is None:
        raise RowError(f"the image {value!r} is a path: name the folder, zip or tar that holds it (images)", "missing")
    return pictures.read(value)


def _check_size(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise RowError(f"the image {name!r} is {size:,} bytes, over the limit of {MAX_FILE_BYTES:,}", "too_large")


@lru_cache(maxsize=16)
def _open_zip(path: str, changed: int, process: int) -> zipfile.ZipFile:
    """The zip, its directory read once a process: a fork shares its parent's place in the file."""
    return zipfile.ZipFile(path)


def _list_tar(place: Path) -> dict[str, tuple[int, int]]:
    """Where each file of a tar begins, and its size: one walk over its headers."""
    try:
        with tarfile.open(place, "r:") as archive:
            files = (member for member in archive if member.isfile())
            return {member.name.removeprefix("./"): (member.offset_data, member.size) for member in files}
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(
            f"{place} is neither a zip nor a plain tar ({one_line(error)}): unpack a packed one"
        ) from error
