"""Fetches Debian packages and unpacks them: a name becomes a folder of its files, with version and hash."""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from moca_rag.errors import ConfigError, one_line


@dataclass(frozen=True, slots=True)
class Package:
    """A package's file and what it says of itself."""

    name: str
    version: str
    sha256: str
    path: Path


def fetch_package(name: str, folder: Path) -> Package:
    """The package from the folder, or else by `apt-get download` into it. Raises ConfigError where neither has it."""
    found = sorted(folder.glob(f"{name}_*.deb"))
    if not found:
        _run(("apt-get", "-q", "download", name), folder, f"{name} cannot be downloaded")
        found = sorted(folder.glob(f"{name}_*.deb"))
    if len(found) != 1:
        raise ConfigError(f"{folder} holds {len(found)} packages {name}_*.deb: leave one of them there")
    version = _run(("dpkg-deb", "--field", str(found[0]), "Version"), folder, f"{found[0]} is no package")
    with found[0].open("rb") as file:
        return Package(name, version, hashlib.file_digest(file, "sha256").hexdigest(), found[0])


def unpack_package(package: Package, folder: Path) -> None:
    """Write the package's files below the folder; nothing of it is run."""
    _run(("dpkg-deb", "--extract", str(package.path), str(folder)), folder, f"{package.path} cannot be unpacked")


def list_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of an unpacked package whose name, or path inside it, is like a pattern; links are left out.

    >>> list_files(Path("no/such/folder"), ["*.pdf"])
    []
    """
    paths = sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return [path for path in paths if not path.is_symlink() and _is_like(path.relative_to(folder), patterns)]


def _is_like(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns for text in (path.name, str(path)))


def _run(command: Sequence[str], folder: Path, failure: str) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise ConfigError(f"{failure}: {command[0]} is not here; use a Debian system, or --packages DIR") from error
    except subprocess.CalledProcessError as error:
        said = one_line(ValueError(error.stderr or error))
        raise ConfigError(f"{failure}: {said}; is it in this system's apt sources? or give --packages DIR") from error
    return done.stdout.strip()
